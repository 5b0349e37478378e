//! Who gets in, who does not, and how each is told.
use crate::config::Config;
use crate::transport::testing::{Answer, Edge, HANDSHAKE, config, read_answer, read_frame, send};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

async fn shake_with(edge: &Edge, lines: &[&str]) -> Answer {
    let lines = [&HANDSHAKE[..], lines].concat();
    edge.ask("GET /ws HTTP/1.1", &lines).await
}

#[tokio::test]
async fn a_good_handshake_becomes_a_session() {
    let edge = Edge::start(config()).await;
    let (mut stream, answer) = edge.shake("/ws?user=Zo%C3%AB").await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("sec-websocket-protocol"), None);
    let (opcode, payload) = read_frame(&mut stream).await;
    let welcome: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((opcode, &welcome["data"]["event"]), (TEXT, &Value::from("welcome")));
    assert_eq!(welcome["data"]["user"], "Zoë");
    let session = welcome["data"]["session"].as_str().unwrap();
    assert_eq!(session.len(), 22, "16 bytes in base64: {session}");

    let (mut second, _) = edge.shake("/ws").await;
    let second: Value = serde_json::from_slice(&read_frame(&mut second).await.1).unwrap();
    assert_ne!(second["data"]["session"], session);
}

/// A client that sends its first frame in one packet with the handshake: HTTP has read it, the session must get it.
#[tokio::test]
async fn what_follows_the_handshake_at_once_is_not_lost() {
    let edge = Edge::start(config()).await;
    let mut stream = edge.connect().await;
    let head = format!("GET /ws HTTP/1.1\r\nHost: edge.test\r\n{}\r\n\r\n", HANDSHAKE.join("\r\n"));
    // A ping without payload, under a mask of zeros.
    stream.write_all(&[head.as_bytes(), &[0x89, 0x80, 0, 0, 0, 0]].concat()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 101);
    assert_eq!(read_frame(&mut stream).await.0, TEXT);
    const PONG: u8 = 10;
    assert_eq!(read_frame(&mut stream).await, (PONG, vec![]));
}

#[tokio::test]
async fn foreign_pages_are_refused_before_the_handshake() {
    let allowed_origins = vec!["https://app.test".into()];
    let edge = Edge::start(Config { allowed_origins, ..config() }).await;
    for good in ["https://edge.test", "http://edge.test", "https://app.test"] {
        assert_eq!(shake_with(&edge, &[&format!("Origin: {good}")]).await.status, 101, "{good}");
    }
    assert_eq!(edge.refused("origin"), 0);
    for bad in ["https://evil.test", "http://localhost:5173", "https://app.test:444", "null"] {
        let answer = shake_with(&edge, &[&format!("Origin: {bad}")]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (403, "permission_denied"), "{bad}");
    }
    assert_eq!(edge.refused("origin"), 4);
    // Even where the handshake is none: the origin is looked at first.
    let answer = edge.ask("GET /ws HTTP/1.1", &["Origin: https://evil.test"]).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn in_dev_mode_local_pages_may_connect() {
    let edge = Edge::start(Config { allow_local_origins: true, ..config() }).await;
    assert_eq!(shake_with(&edge, &["Origin: http://localhost:5173"]).await.status, 101);
    assert_eq!(shake_with(&edge, &["Origin: http://localhost.evil.test"]).await.status, 403);
}

/// Each row: what is changed in a good handshake (a header's line replaced, or taken out if there is no value), and
/// the status. A key's row may be given twice to send the header twice.
#[tokio::test]
async fn table_of_broken_handshakes() {
    let edge = Edge::start(config()).await;
    let table = [
        ("Connection", vec!["keep-alive"], 400),
        ("Connection", vec![], 400),
        ("Upgrade", vec!["h2c"], 400),
        ("Upgrade", vec![], 400),
        ("Sec-WebSocket-Version", vec!["8"], 426),
        ("Sec-WebSocket-Version", vec!["13, 8"], 426),
        ("Sec-WebSocket-Version", vec![], 426),
        ("Sec-WebSocket-Key", vec![], 400),
        ("Sec-WebSocket-Key", vec![""], 400),
        ("Sec-WebSocket-Key", vec!["dGhlIHNhbXBsZSBub25j"], 400),
        ("Sec-WebSocket-Key", vec!["dGhlIHNhbXBsZSBub25jZQ"], 400),
        ("Sec-WebSocket-Key", vec!["not base64 at all!!!!!=="], 400),
        ("Sec-WebSocket-Key", vec!["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="], 400),
        ("Sec-WebSocket-Protocol", vec!["hearth.v9.json"], 400),
        ("Sec-WebSocket-Protocol", vec!["HEARTH.V1.JSON"], 400),
        ("Sec-WebSocket-Protocol", vec!["bearer.abc, chat", "graphql-ws"], 400),
    ];
    for (name, values, status) in table {
        let start = format!("{name}:");
        let mut lines: Vec<String> =
            HANDSHAKE.into_iter().filter(|line| !line.starts_with(&start)).map(String::from).collect();
        lines.extend(values.iter().map(|value| format!("{name}: {value}")));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = edge.ask("GET /ws/general HTTP/1.1", &lines).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (status, "invalid_argument"),
            "{name}: {values:?}"
        );
        let version = (status == 426).then_some("13");
        assert_eq!(answer.header("sec-websocket-version"), version, "{name}: {values:?}");
    }
    assert_eq!(edge.refused("handshake"), 16);
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    let edge = Edge::start(config()).await;
    let answer = edge.ask("GET /ws HTTP/1.1", &[]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (426, "invalid_argument"));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    let old = edge.ask("GET /ws HTTP/1.0", &HANDSHAKE).await;
    assert_eq!(old.status, 426);
}

#[tokio::test]
async fn our_subprotocol_is_named_when_it_is_offered() {
    let edge = Edge::start(config()).await;
    let table: [(&[&str], _); 4] = [
        (&["hearth.v1.json"], Some("hearth.v1.json")),
        (&["bearer.e30.e30.x, hearth.v1.json"], Some("hearth.v1.json")),
        (&["hearth.v2.json", "hearth.v1.json"], Some("hearth.v1.json")),
        (&["bearer.e30.e30.x"], None),
    ];
    for (offered, named) in table {
        let lines: Vec<String> =
            offered.iter().map(|offered| format!("Sec-WebSocket-Protocol: {offered}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = shake_with(&edge, &lines).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, named), "{offered:?}");
    }
}

/// A browser shows its page nothing of a failed handshake, so a bad name is refused after it.
#[tokio::test]
async fn bad_names_are_told_by_a_close_frame() {
    let edge = Edge::start(config()).await;
    let long = format!("/ws/{}", "r".repeat(129));
    for path in [
        "/ws/",
        "/ws/-x",
        "/ws/a%20b",
        "/ws/a/b",
        "/ws/a%2Fb",
        "/ws/a%2520b",
        "/ws/%ff",
        "/ws/a%",
        &long,
        "/ws?user=",
        "/ws?user=a%00b",
        "/ws?user=%ff",
    ] {
        let (mut stream, answer) = edge.shake(path).await;
        assert_eq!(answer.status, 101, "{path}");
        let expected = [&1008u16.to_be_bytes()[..], b"invalid_argument"].concat();
        assert_eq!(read_frame(&mut stream).await, (CLOSE, expected), "{path}");
    }
}

#[tokio::test]
async fn a_request_after_another_on_one_connection_may_upgrade() {
    let edge = Edge::start(config()).await;
    let mut stream = edge.connect().await;
    send(&mut stream, "GET /healthz HTTP/1.1", &[]).await;
    assert_eq!(read_answer(&mut stream).await.status, 200);
    send(&mut stream, "GET /ws HTTP/1.1", &HANDSHAKE).await;
    assert_eq!(read_answer(&mut stream).await.status, 101);
    assert_eq!(read_frame(&mut stream).await.0, TEXT);
}
