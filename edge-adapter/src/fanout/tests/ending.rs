//! How sessions begin and end: codes, heartbeats, drain; the core hears of each end once.
use super::*;
use crate::wire::close::CloseReason;
use crate::wire::event::{Code, Failure};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    // A mask of zeros is a mask.
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn what_breaks_the_rules_is_closed_with_its_code() {
    let edge = Edge::start(Config { max_message_bytes: 100, ..config() });
    let too_long = vec![0x81, 0x80 | 101, 0, 0, 0, 0];
    for (bytes, code, word) in [
        (masked(0x82, b"binary"), 1003, "unsupported_data"),
        (masked(0x81, b"\xff"), 1007, "invalid_payload"),
        (too_long, 1009, "too_big"),
        (b"\x81\x02{}".to_vec(), 1002, "protocol_error"),
    ] {
        let mut client = edge.connect_joined().await;
        soon(client.socket.get_mut().write_all(&bytes)).await.unwrap();
        assert_eq!(client.closed().await, (code, word.into()));
        assert_eq!(edge.core.next().await, Request::Close { session: client.key, vanished: false });
    }
    soon(edge.shards.idle()).await;
    assert_eq!(edge.core.asked(), []);
}

#[tokio::test]
async fn a_malformed_frame_is_answered_and_the_session_goes_on() {
    let edge = Edge::start(config());
    let mut client = edge.connect().await;
    client.send("hello").await;
    assert_eq!(client.told().await, "invalid_argument");
    client.send(r#"{"type":"typing","id":"1","room":"r","data":{"active":true}}"#).await;
    assert_eq!(client.told().await, "failed_precondition");
    client.send(r#"{"type":"ping","id":"1"}"#).await;
    assert_eq!(client.told().await, "ack");
}

#[tokio::test]
async fn a_clients_close_is_echoed() {
    let edge = Edge::start(config());
    for code in [1000, 1001, 3999] {
        let mut client = edge.connect_joined().await;
        let frame = CloseFrame { code: code.into(), reason: "gone fishing".into() };
        soon(client.socket.close(Some(frame))).await.unwrap();
        assert_eq!(client.closed().await.0, code);
        assert_eq!(edge.core.next().await, Request::Close { session: client.key, vanished: code != 1000 });
    }
    let client = edge.connect_joined().await;
    drop(client.socket);
    assert_eq!(edge.core.next().await, Request::Close { session: client.key, vanished: true });
    soon(edge.shards.idle()).await;
    assert_eq!((edge.shards.sessions(), edge.metrics.connections.get()), (0, 0));
    assert_eq!(edge.core.asked(), []);
}

#[tokio::test]
async fn who_is_refused_can_read_why() {
    let edge = Edge::start(config());
    for (code, close) in [
        (Code::Unauthenticated, (1008, "unauthenticated")),
        (Code::PermissionDenied, (1008, "permission_denied")),
        (Code::InvalidArgument, (1008, "invalid_argument")),
        (Code::ResourceExhausted, (1013, "overloaded")),
        (Code::Unavailable, (1013, "overloaded")),
    ] {
        let (session, client) = edge.knock(|new| new.who.token = Some("t".into())).await;
        edge.post([Post::Refused { session, failure: Failure::new(code, "no") }]);
        let mut client = Client { key: session, socket: client_of(client).await };
        assert_eq!(client.closed().await, (close.0, close.1.into()));
        let vanished = matches!(close.0, 1013);
        assert_eq!(edge.core.next().await, Request::Close { session, vanished });
    }
    let began = Instant::now();
    let (client, server) = pair().await;
    edge.shards
        .adopt(NewSession { refuse: Some(CloseReason::InvalidArgument), ..newcomer(Socket::Tcp(server)) });
    let mut client = Client { key: SessionKey::new(0, 0, 1), socket: client_of(client).await };
    assert_eq!(client.closed().await, (1008, "invalid_argument".into()));
    soon(edge.shards.idle()).await;
    assert!(began.elapsed() < Duration::from_secs(2), "the client's close frame was not noticed");
    assert_eq!(edge.core.asked(), [], "the core never heard of the last one");
}

/// Commands may be on their way before the session is let in, beside the handshake's bytes and behind them.
#[tokio::test]
async fn what_was_said_early_is_heard_after_the_welcome() {
    let edge = Edge::start(config());
    let early =
        ["1", "2"].map(|id| masked(0x81, format!(r#"{{"type":"ping","id":"{id}"}}"#).as_bytes())).concat();
    let (read_ahead, rest) = early.split_at(early.len() - 5);
    let (session, mut client) = edge.knock(|new| new.read_ahead = Bytes::copy_from_slice(read_ahead)).await;
    client.write_all(rest).await.unwrap();
    edge.post([Post::Opened { session, user: "ann".into(), expires_us: None }]);
    let mut client = Client { key: session, socket: client_of(client).await };
    assert_eq!(client.told().await, "welcome");
    assert_eq!(
        (client.json().await["id"].clone(), client.json().await["id"].clone()),
        ("1".into(), "2".into())
    );
}

#[tokio::test]
async fn who_is_silent_for_two_heartbeats_is_gone_and_who_answers_is_not() {
    let edge = Edge::start(Config { heartbeat: Duration::from_millis(200), ..config() });
    let silent = edge.connect_joined().await;
    let mut alive = edge.connect_joined().await;
    // Reading is what answers pings.
    let answers = tokio::spawn(async move {
        let told = alive.told().await;
        (alive, told)
    });
    assert_eq!(edge.core.next().await, Request::Close { session: silent.key, vanished: true });
    edge.post([event(5)]);
    let (_alive, told) = answers.await.unwrap();
    assert_eq!(told, "5");
    assert_eq!(edge.shards.sessions(), 1);
}

#[tokio::test]
async fn pings_come_every_heartbeat() {
    let edge = Edge::start(Config { heartbeat: Duration::from_millis(64), ..config() });
    let mut client = edge.connect().await;
    for _ in 0..5 {
        assert!(matches!(soon(client.socket.next()).await, Some(Ok(Message::Ping(_)))));
    }
}

/// What came before a drain, in the same turn of the shard, is still given to those who were there.
#[tokio::test]
async fn a_drain_takes_nothing_away_that_came_before_it() {
    let edge = Edge::start(config());
    let mut client = edge.connect_joined().await;
    edge.post([event(5)]);
    edge.shards.drain();
    assert_eq!(client.told().await, "5");
    assert_eq!(client.told().await, "draining");
    assert_eq!(client.closed().await, (1001, "draining".into()));
}

#[tokio::test]
async fn a_drain_waits_for_answers_that_are_due() {
    let edge = Edge::start(config());
    let (mut idle, mut waiting) = (edge.connect_joined().await, edge.connect_joined().await);
    let (opening, _socket) = edge.knock(|_| {}).await;
    waiting.send(r#"{"type":"text","id":"last","room":"lobby","data":{}}"#).await;
    assert!(matches!(edge.core.next().await, Request::Publish { .. }));
    edge.shards.drain();
    let told = idle.json().await;
    assert_eq!(
        (&told["data"]["event"], &told["data"]["reconnect_after_ms"]),
        (&"draining".into(), &1000.into())
    );
    assert_eq!(idle.closed().await, (1001, "draining".into()));
    let mut gone = [edge.core.next().await, edge.core.next().await];
    gone.sort_by_key(|request| matches!(request, Request::Close { session, .. } if *session == opening));
    assert_eq!(gone, [idle.key, opening].map(|session| Request::Close { session, vanished: true }));
    edge.post([Post::Ack {
        session: waiting.key,
        id: "last".into(),
        name: "lobby".into(),
        position: Some(Position { epoch: "e1".into(), seq: 5 }),
        duplicate: false,
    }]);
    assert_eq!((waiting.told().await, waiting.told().await), ("draining".into(), "ack".into()));
    assert_eq!(waiting.closed().await, (1001, "draining".into()));

    let (late, server) = pair().await;
    edge.shards.adopt(newcomer(Socket::Tcp(server)));
    let mut late = Client { key: opening, socket: client_of(late).await };
    assert_eq!(late.closed().await, (1001, "draining".into()));
    drop(_socket);
    soon(edge.shards.idle()).await;
}

/// A drain does not wait for ever, and neither does a closed session for a client that says nothing.
#[tokio::test]
async fn a_drain_ends_with_an_answer_that_never_comes() {
    let edge = Edge::start(config());
    let mut client = edge.connect_joined().await;
    client.send(r#"{"type":"text","id":"1","room":"lobby","data":{}}"#).await;
    edge.core.next().await;
    let (_, mute) = edge.knock(|_| {}).await;
    edge.shards.drain();
    assert_eq!(client.told().await, "draining");
    assert_eq!(client.closed().await, (1001, "draining".into()));
    soon(edge.shards.idle()).await;
    drop(mute);
}

/// A socket that is not TCP: same session, same frames.
#[tokio::test]
async fn any_stream_will_do() {
    let edge = Edge::start(config());
    let (mut client, server) = tokio::io::duplex(64);
    edge.shards.adopt(newcomer(Socket::Stream(Box::new(server))));
    let Request::Open { session, .. } = edge.core.next().await else { panic!("opens") };
    edge.post([
        Post::Opened { session, user: "ann".into(), expires_us: None },
        joined(session),
        big(Kind::Text, 5, 300),
    ]);
    let mut all = String::new();
    while !all.contains(r#""timestamp""#) {
        let mut some = [0; 50];
        let n = soon(client.read(&mut some)).await.unwrap();
        assert!(n > 0, "ended after {all}");
        all += &String::from_utf8_lossy(&some[..n]);
    }
    assert!(all.contains("welcome") && all.contains("joined") && all.contains(&"x".repeat(300)), "{all}");
    soon(client.write_all(&masked(0x88, b""))).await.unwrap();
    let mut echo = Vec::new();
    soon(client.read_to_end(&mut echo)).await.unwrap();
    assert!(echo.ends_with(b"\x88\x00"), "{echo:?}");
    assert_eq!(edge.core.next().await, Request::Close { session, vanished: false });
    soon(edge.shards.idle()).await;
}
