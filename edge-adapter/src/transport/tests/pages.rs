//! Pages, problems, and both versions of HTTP.
use crate::config::Config;
use crate::transport::testing::{Edge, PATIENCE, config};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let edge = Edge::start(config()).await;
    let table = [
        ("GET /nowhere", 404, "not_found", None),
        ("POST /nowhere", 404, "not_found", None),
        ("GET /wsx", 404, "not_found", None),
        ("POST /", 405, "unimplemented", Some("GET,HEAD")),
        ("DELETE /healthz", 405, "unimplemented", Some("GET,HEAD")),
        ("POST /metrics", 405, "unimplemented", Some("GET,HEAD")),
        ("POST /ws", 405, "unimplemented", Some("GET")),
        ("PUT /ws/general", 405, "unimplemented", Some("GET")),
    ];
    for (request, status, code, allow) in table {
        let answer = edge.ask(&format!("{request} HTTP/1.1"), &[]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{request}");
        assert_eq!(answer.header("allow"), allow, "{request}");
    }
}

/// The page as it is served runs under the policy that it is served with: the hashes are those of its elements.
#[tokio::test]
async fn the_playground_comes_with_the_policy_that_it_needs() {
    let edge = Edge::start(config()).await;
    let answer = edge.ask("GET / HTTP/1.1", &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert!(answer.header("referrer-policy").is_some());
    let policy = answer.header("content-security-policy").unwrap();
    let directives: Vec<&str> = policy.split("; ").collect();
    for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let text = answer.body.split_once(&open).unwrap().1.split_once(&close).unwrap().0;
        let hash = STANDARD.encode(Sha256::digest(text));
        assert!(directives.contains(&format!("{directive} 'sha256-{hash}'").as_str()), "{policy}");
    }
    for directive in ["default-src 'none'", "connect-src 'self' ws: wss:", "frame-ancestors 'none'"] {
        assert!(directives.contains(&directive), "{policy}");
    }
}

#[tokio::test]
async fn without_a_playground_there_is_nothing_at_the_root() {
    let edge = Edge::start(Config { playground: Some(false), ..config() }).await;
    let answer = edge.ask("GET / HTTP/1.1", &[]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (404, "not_found"));
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let edge = Edge::start(config()).await;
    let health = edge.ask("GET /healthz HTTP/1.1", &[]).await;
    assert_eq!((health.status, health.body.as_str()), (200, "ok"));
    let ready = edge.ask("GET /readyz HTTP/1.1", &[]).await;
    let body = r#"{"draining":false,"link":"attached","ready":true,"shedding":false}"#;
    assert_eq!((ready.status, ready.body.as_str()), (200, body));

    edge.attached.store(false, Ordering::SeqCst);
    let ready = edge.ask("GET /readyz HTTP/1.1", &[]).await;
    let body = r#"{"draining":false,"link":"detached","ready":false,"shedding":false}"#;
    assert_eq!((ready.status, ready.body.as_str()), (503, body));
    assert_eq!(edge.ask("GET /healthz HTTP/1.1", &[]).await.status, 200);

    let metrics = edge.ask("GET /metrics HTTP/1.1", &[]).await;
    assert_eq!((metrics.status, metrics.body.as_str()), (200, "# EOF\n"));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.header("content-type"), Some(content_type));
}

/// One HTTP/2 request over a bare socket; the answer's first byte of compressed headers is its status.
async fn status_over_http2(edge: &Edge, path: &str) -> u8 {
    const HEADERS: u8 = 1;
    const END_STREAM_AND_HEADERS: u8 = 5;
    let path_len = u8::try_from(path.len()).unwrap();
    // GET, http, the path and the authority, the last two written out.
    let block = [&[0x82, 0x86, 0x04, path_len], path.as_bytes(), &[0x01, 9], b"edge.test"].concat();
    let block_len = u8::try_from(block.len()).unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let head = [0, 0, block_len, HEADERS, END_STREAM_AND_HEADERS, 0, 0, 0, 1];
    let mut stream: TcpStream = edge.connect().await;
    let request = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &head, &block].concat();
    stream.write_all(&request).await.unwrap();
    let reading = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == HEADERS {
                return payload[0];
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("no answer over HTTP/2")
}

#[tokio::test]
async fn http2_is_spoken_in_clear_by_prior_knowledge() {
    let edge = Edge::start(config()).await;
    // Of the compression's fixed table: 8 is 200, 13 is 404.
    assert_eq!(status_over_http2(&edge, "/healthz").await, 0x88);
    assert_eq!(status_over_http2(&edge, "/nowhere").await, 0x8d);
}
