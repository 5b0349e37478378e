//! Streams of events at the door: who may have one, and what those are told who may not.
use crate::config::Config;
use crate::transport::testing::{Edge, config, read_answer, read_to_end, send};

/// A full edge tells it in band, also to pages of other origins: one that could not read it would never come back.
#[tokio::test]
async fn overload_can_be_read_by_whoever_may_come_back() {
    let listed = Config { allowed_origins: vec!["https://app.test".into()], max_connections: 1, ..config() };
    let edge = Edge::start(listed).await;
    let _only = edge.shake("/ws").await;
    for (origin, expected) in [("https://app.test", Some("https://app.test")), ("https://evil.test", None)] {
        let mut stream = edge.connect().await;
        send(&mut stream, "GET /events/r HTTP/1.1", &[&format!("Origin: {origin}")]).await;
        let answer = read_answer(&mut stream).await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (200, expected),
            "{answer:?}"
        );
        let told = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        assert!(told.starts_with("retry: ") && told.contains(r#""event":"overloaded""#), "{told}");
    }
    assert_eq!(edge.ask("GET /healthz HTTP/1.1", &[]).await.status, 503);
}

/// A page of another origin that brings a header of its own, as a client of `fetch` brings its last id, is asked about first.
#[tokio::test]
async fn pages_of_other_origins_may_ask_first() {
    let edge = Edge::start(Config { allowed_origins: vec!["https://app.test".into()], ..config() }).await;
    let app = "Origin: https://app.test";
    for path in ["/events", "/events/r", "/poll", "/poll/r"] {
        let preflight =
            [app, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: last-event-id"];
        let answer = edge.ask(&format!("OPTIONS {path} HTTP/1.1"), &preflight).await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
        assert!(answer.header("access-control-allow-headers").unwrap().contains("last-event-id"));
        let answer = edge.ask(&format!("POST {path} HTTP/1.1"), &[app]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (405, "unimplemented"), "{path}");
    }
    // However the request comes, the page may read the stream, and is named once.
    let mut kept = edge.connect().await;
    send(&mut kept, "GET /healthz HTTP/1.1", &[]).await;
    assert_eq!(read_answer(&mut kept).await.status, 200);
    send(&mut kept, "GET /events/r HTTP/1.1", &[app]).await;
    for answer in [edge.ask("GET /events/r HTTP/1.1", &[app]).await, read_answer(&mut kept).await] {
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
        let named =
            answer.head.to_ascii_lowercase().matches("access-control-allow-origin: https://app.test").count();
        assert_eq!(named, 1, "{}", answer.head);
    }
}
