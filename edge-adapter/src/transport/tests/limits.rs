//! What the doors bear: slow clients, too many of them, and the end.
use crate::config::{Config, Defence};
use crate::transport::testing::{Edge, HANDSHAKE, config, read_answer, read_frame, read_to_end, send};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// Settings with another patience for request heads.
fn patient(header_timeout: Duration) -> Config {
    Config { defence: Defence { header_timeout, ..Defence::default() }, ..config() }
}

/// Clients that never finish a request's head hold nothing for long, at whatever byte they stop; one that is served
/// is not hurt.
#[tokio::test]
async fn heads_that_are_never_finished_end_their_connection() {
    let patience = Duration::from_millis(300);
    let edge = Edge::start(patient(patience)).await;
    let (mut session, _) = edge.shake("/ws").await;
    let mut clients = Vec::new();
    for start in ["", "G", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHost: e\r\nX: "]
    {
        let mut stream = edge.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    let started = Instant::now();
    for stream in &mut clients {
        read_to_end(stream).await;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    edge.until_connections(1).await;

    // The session has outlived that patience, and answers.
    read_frame(&mut session).await;
    session.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(read_frame(&mut session).await.0, 10);
}

/// A byte now and then does not help.
#[tokio::test]
async fn a_dribbled_head_is_cut_too() {
    let patience = Duration::from_millis(300);
    let edge = Edge::start(patient(patience)).await;
    let mut stream = edge.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    let started = Instant::now();
    let mut every = tokio::time::interval(Duration::from_millis(20));
    while stream.write_all(b"x").await.is_ok() {
        every.tick().await;
        assert!(started.elapsed() < Duration::from_secs(5), "still dribbling");
    }
    edge.until_connections(0).await;
}

/// Nor does a good first request, whether the next is never begun or never finished.
#[tokio::test]
async fn a_kept_connection_is_not_kept_for_ever() {
    let patience = Duration::from_millis(300);
    let edge = Edge::start(patient(patience)).await;
    for next in ["", "GET / HTTP/1.1\r\nX: "] {
        let mut stream = edge.connect().await;
        send(&mut stream, "GET /healthz HTTP/1.1", &[]).await;
        assert_eq!(read_answer(&mut stream).await.status, 200);
        stream.write_all(next.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    }
    edge.until_connections(0).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let edge = Edge::start(config()).await;
    let fits = format!("X: {}", "x".repeat(12 * 1024));
    assert_eq!(edge.ask("GET /healthz HTTP/1.1", &[&fits]).await.status, 200);
    let too_large = format!("X: {}", "x".repeat(17 * 1024));
    assert_eq!(edge.ask("GET /healthz HTTP/1.1", &[&too_large]).await.status, 431);
}

/// Two places: one is taken by a session, so that the count must follow a connection past its upgrade, one by an
/// idle HTTP connection. Each place is free again when its socket has ended.
#[tokio::test]
async fn a_full_edge_says_so_and_recovers() {
    let edge = Edge::start(Config { max_connections: 2, ..config() }).await;
    let (session, answer) = edge.shake("/ws").await;
    assert_eq!(answer.status, 101);
    let mut idle = edge.connect().await;
    send(&mut idle, "GET /healthz HTTP/1.1", &[]).await;
    assert_eq!(read_answer(&mut idle).await.status, 200);
    edge.until_connections(2).await;

    let mut refused = edge.connect().await;
    send(&mut refused, "GET /ws HTTP/1.1", &HANDSHAKE).await;
    let answer = read_answer(&mut refused).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(read_to_end(&mut refused).await, b"");
    assert_eq!(edge.refused("max_connections"), 1);

    drop(session);
    edge.until_connections(1).await;
    let (_second, answer) = edge.shake("/ws").await;
    assert_eq!(answer.status, 101);
    assert_eq!(edge.ask("GET /healthz HTTP/1.1", &[]).await.status, 503);
    drop(idle);
    edge.until_connections(1).await;
    assert_eq!(edge.ask("GET /healthz HTTP/1.1", &[]).await.status, 200);
}

/// The address's share too follows a connection past its upgrade.
#[tokio::test]
async fn an_address_has_its_share() {
    let edge = Edge::start(Config { max_connections_per_address: 1, ..config() }).await;
    let (session, answer) = edge.shake("/ws").await;
    assert_eq!(answer.status, 101);
    let answer = edge.ask("GET /healthz HTTP/1.1", &[]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (429, "resource_exhausted"));
    assert_eq!(edge.refused("max_connections_per_address"), 1);
    drop(session);
    edge.until_connections(0).await;
    assert_eq!(edge.ask("GET /healthz HTTP/1.1", &[]).await.status, 200);
}

/// At a shutdown no new connection is taken, an idle one ends, a session is told to come back elsewhere, and the server is
/// done long before its timeout.
#[tokio::test]
async fn a_drain_ends_everything_in_good_order() {
    let edge = Edge::start(Config { drain_timeout: Duration::from_secs(60), ..config() }).await;
    let (mut session, _) = edge.shake("/ws").await;
    read_frame(&mut session).await;
    let mut idle = edge.connect().await;
    send(&mut idle, "GET /healthz HTTP/1.1", &[]).await;
    assert_eq!(read_answer(&mut idle).await.status, 200);

    edge.stop();
    assert_eq!(read_to_end(&mut idle).await, b"");
    let (opcode, payload) = read_frame(&mut session).await;
    assert_eq!(opcode, 1);
    assert!(String::from_utf8(payload).unwrap().contains(r#""event":"draining""#));
    let (opcode, payload) = read_frame(&mut session).await;
    assert_eq!((opcode, &payload[..2]), (8, &1001u16.to_be_bytes()[..]));
    session.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).await.unwrap();
    let address = edge.address;
    edge.ended().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// A client that never finishes does not hold the process: what is left after the timeout is cut.
#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    // Nothing but the drain may end it.
    let settings = Config { drain_timeout: Duration::from_millis(200), ..patient(Duration::from_secs(600)) };
    let edge = Edge::start(settings).await;
    let mut stuck = edge.connect().await;
    stuck.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    edge.until_connections(1).await;
    edge.stop();
    edge.ended().await;
    read_to_end(&mut stuck).await;
}

/// A page that may connect can read that there is no room, and when to come back; another one learns nothing.
#[tokio::test]
async fn a_full_edge_can_be_read_by_whoever_may_connect() {
    let listed = Config { allowed_origins: vec!["https://app.test".into()], max_connections: 1, ..config() };
    let edge = Edge::start(listed).await;
    let _only = edge.shake("/ws").await;
    let app = ["Origin: https://app.test"];
    let evil = ["Origin: https://evil.test"];
    for (lines, page) in [(&app[..], Some("https://app.test")), (&evil[..], None), (&[], None)] {
        let answer = edge.ask("GET /poll/r HTTP/1.1", lines).await;
        assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert_eq!(answer.header("access-control-allow-origin"), page, "{answer:?}");
        assert_eq!(answer.header("access-control-expose-headers"), page.map(|_| "retry-after"));
    }
}
