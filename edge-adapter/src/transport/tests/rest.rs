//! Requests to rooms, over a core that answers everything.
use crate::config::Config;
use crate::session::request::Request;
use crate::transport::testing::{Answer, Edge, PATIENCE, config, read_answer, send};
use crate::wire::event::Kind;
use axum::body::Body;
use http::StatusCode;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tower::ServiceExt;

const JSON: &str = "Content-Type: application/json";

async fn post(edge: &Edge, path: &str, lines: &[&str], body: &str) -> Answer {
    let lines = [&[JSON], lines].concat();
    edge.ask_with(&format!("POST {path} HTTP/1.1"), &lines, body).await
}

async fn get(edge: &Edge, path: &str) -> Answer {
    edge.ask(&format!("GET {path} HTTP/1.1"), &[]).await
}

fn good(answer: &Answer, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (200, body), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{answer:?}");
}

/// A request is a session that asks one thing: opened for its user, asked, closed.
#[tokio::test]
async fn each_route_asks_the_core_and_answers_in_its_words() {
    let edge = Edge::start(config()).await;
    let answer =
        post(&edge, "/rooms/chat%3A1/messages?user=ann", &[], r#"{"id":"m1","data":{"n":1.0, "author":1}}"#)
            .await;
    good(&answer, r#"{"type":"ack","id":"m1","room":"chat:1","data":{"status":"delivered","seq":7}}"#);
    let asked = edge.asked();
    let [Request::Call { session, who, .. }, Request::Publish { id, room, kind, payload, .. }, close] =
        &asked[..]
    else {
        panic!("{asked:?}")
    };
    assert_eq!(*close, Request::Close { session: *session, vanished: false });
    assert_eq!((who.user.as_deref(), id.as_deref(), &**room), (Some("ann"), Some("m1"), "chat:1"));
    assert_eq!((*kind, &payload.bytes()[..]), (Kind::Text, &br#"{"n":1.0}"#[..]));

    let body = r#"{"type":"text","room":"r","data":{}}"#;
    let answer = post(&edge, "/rooms/r/messages", &["Idempotency-Key: k 1"], body).await;
    good(&answer, r#"{"type":"ack","id":"k 1","room":"r","data":{"status":"delivered","seq":7}}"#);
    for body in [r#"{"type":"signal","data":{}}"#, r#"{"type":"typing","data":{"active":true}}"#] {
        let answer = post(&edge, "/rooms/r/messages", &[], body).await;
        good(&answer, r#"{"type":"ack","room":"r","data":{"status":"delivered"}}"#);
    }
    edge.asked();

    let page = r#"{"epoch":"e","seq":7,"messages":[{"type":"text","room":"r","seq":7,"data":{"n":1,"author":"ann"},"timestamp":2}],"more":true}"#;
    good(&get(&edge, "/rooms/r/messages").await, page);
    good(&get(&edge, "/rooms/r/messages?after=3&before=9&limit=2").await, page);
    let ranges: Vec<_> = edge
        .asked()
        .into_iter()
        .filter_map(|asked| match asked {
            Request::History { after, before, limit, .. } => Some((after, before, limit)),
            _ => None,
        })
        .collect();
    assert_eq!(ranges, [(None, None, 100), (Some(3), Some(9), 2)]);

    let online = r#"{"online":[{"user":"ann","meta":{"a":1},"sessions":2,"since":1.5}],"count":9}"#;
    good(&get(&edge, "/rooms/r/presence").await, online);
    let ok = r#"{"type":"ack","room":"r","data":{"status":"ok"}}"#;
    let put = "PUT /rooms/r/presence HTTP/1.1";
    good(&edge.ask_with(put, &[JSON], r#"{"meta":{"mood": "good"}}"#).await, ok);
    good(&edge.ask_with(put, &[JSON], "{}").await, ok);
    good(&edge.ask(put, &[]).await, ok);
    let metas: Vec<_> = edge
        .asked()
        .into_iter()
        .filter_map(|asked| match asked {
            Request::Presence { meta, .. } => Some(meta),
            _ => None,
        })
        .collect();
    assert_eq!(metas, [Some(r#"{"mood": "good"}"#.into()), None, None]);
}

/// What the core says becomes a status in one place.
#[tokio::test]
async fn every_failure_has_its_status() {
    let edge = Edge::start(config()).await;
    let table = [
        ("invalid", 400, "invalid_argument"),
        ("precondition", 400, "failed_precondition"),
        ("range", 400, "out_of_range"),
        ("unauthenticated", 401, "unauthenticated"),
        ("forbidden", 403, "permission_denied"),
        ("unknown", 404, "not_found"),
        ("unimplemented", 405, "unimplemented"),
        ("aborted", 409, "aborted"),
        ("exhausted", 429, "resource_exhausted"),
        ("unavailable", 503, "unavailable"),
        ("internal", 500, "internal"),
    ];
    for (room, status, code) in table {
        let answer = post(&edge, &format!("/rooms/fails.{room}/messages"), &[], r#"{"data":{}}"#).await;
        is(&answer, status, code);
        assert_eq!(answer.header("retry-after"), Some("2"), "whole seconds, rounded up");
    }
}

/// Refused here, without a word to the core.
#[tokio::test]
async fn what_is_malformed_is_refused_at_the_door() {
    let edge = Edge::start(config()).await;
    let long = "x".repeat(257);
    let long_key = format!("Idempotency-Key: {long}");
    let deep = format!(r#"{{"data":{}{}}}"#, r#"{"a":"#.repeat(64), "}".repeat(64)).replace(":}", ":1}");
    let invalid: &[(&[&str], &str)] = &[
        (&[], ""),
        (&[], "no"),
        (&[], "[]"),
        (&[], "{}"),
        (&[], r#"{"data":[]}"#),
        (&[], r#"{"data":{},"data":{}}"#),
        (&[], r#"{"data":{},"type":1}"#),
        (&[], r#"{"data":{},"type":"shout"}"#),
        (&[], r#"{"data":{},"type":"join"}"#),
        (&[], r#"{"data":{},"type":"auth"}"#),
        (&[], r#"{"data":{"active":1},"type":"typing"}"#),
        (&[], r#"{"data":{},"room":"other"}"#),
        (&[], r#"{"data":{},"room":1}"#),
        (&[], r#"{"data":{},"id":""}"#),
        (&[], r#"{"data":{},"id":null}"#),
        (&[], &deep),
        (&["Idempotency-Key: k"], r#"{"data":{},"id":"other"}"#),
        (&["Idempotency-Key:"], r#"{"data":{}}"#),
        (&["Idempotency-Key: k", "Idempotency-Key: k"], r#"{"data":{}}"#),
        (&[&long_key], r#"{"data":{}}"#),
    ];
    for (lines, body) in invalid {
        is(&post(&edge, "/rooms/r/messages", lines, body).await, 400, "invalid_argument");
    }
    is(
        &post(&edge, "/rooms/r/messages", &[], r#"{"type":"system","data":{}}"#).await,
        403,
        "permission_denied",
    );
    for path in [
        "/rooms/a%20b",
        "/rooms/%ff",
        "/rooms/a%2Fb",
        "/rooms/-x",
        "/rooms/",
        &format!("/rooms/{}", "x".repeat(129)),
    ] {
        is(&get(&edge, &format!("{path}/messages")).await, 400, "invalid_argument");
        is(&get(&edge, &format!("{path}/presence")).await, 400, "invalid_argument");
    }
    for query in [
        "user=",
        "user=%00",
        "user=%ff",
        "limit=0",
        "limit=1001",
        "limit=",
        "limit=+5",
        "limit=%2B5",
        "after=-1",
        "before=x",
        "after=18446744073709551616",
    ] {
        is(&get(&edge, &format!("/rooms/r/messages?{query}")).await, 400, "invalid_argument");
    }
    for body in ["[]", "no", r#"{"meta":1}"#, r#"{"meta":null}"#, r#"{"meta":{},"meta":{}}"#] {
        is(&edge.ask_with("PUT /rooms/r/presence HTTP/1.1", &[JSON], body).await, 400, "invalid_argument");
    }
    for path in ["/rooms/r", "/rooms", "/rooms/r/messages/", "/rooms/a/b/messages"] {
        is(&get(&edge, path).await, 404, "not_found");
    }
    let wrong = [
        ("DELETE /rooms/r/messages", "GET,HEAD,POST"),
        ("PUT /rooms/r/messages", "GET,HEAD,POST"),
        ("POST /rooms/r/presence", "GET,HEAD,PUT"),
    ];
    for (request, allow) in wrong {
        let answer = edge.ask(&format!("{request} HTTP/1.1"), &[]).await;
        is(&answer, 405, "unimplemented");
        assert_eq!(answer.header("allow"), Some(allow), "{request}");
    }
    assert!(edge.asked().is_empty());
}

#[tokio::test]
async fn a_body_says_that_it_is_json() {
    let edge = Edge::start(config()).await;
    let line = "POST /rooms/r/messages HTTP/1.1";
    let body = r#"{"data":{}}"#;
    for good in [JSON, "Content-Type: application/json; charset=utf-8", "content-type:  Application/JSON"] {
        assert_eq!(edge.ask_with(line, &[good], body).await.status, 200, "{good}");
    }
    for bad in ["X: y", "Content-Type: text/plain", "Content-Type: application/jsonp", "Content-Type:"] {
        is(&edge.ask_with(line, &[bad], body).await, 415, "invalid_argument");
    }
    is(&edge.ask_with(line, &[JSON, "Content-Type: text/plain"], body).await, 415, "invalid_argument");
    is(&edge.ask_with("PUT /rooms/r/presence HTTP/1.1", &[], "{}").await, 415, "invalid_argument");
}

/// Announced or not, what is larger than a message may be is not taken; what is just as large is.
#[tokio::test]
async fn a_body_is_bounded() {
    let edge = Edge::start(Config { max_message_bytes: 1000, ..config() }).await;
    let body = |len: usize| format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(len - 17));
    assert_eq!(post(&edge, "/rooms/r/messages", &[], &body(1000)).await.status, 200);
    is(&post(&edge, "/rooms/r/messages", &[], &body(1001)).await, 413, "invalid_argument");
    is(&post(&edge, "/rooms/r/messages", &[], &body(500_000)).await, 413, "invalid_argument");
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let lines = ["Transfer-Encoding: chunked"];
    assert_eq!(post(&edge, "/rooms/r/messages", &lines, &chunked(&body(1000))).await.status, 200);
    is(&post(&edge, "/rooms/r/messages", &lines, &chunked(&body(300_000))).await, 413, "invalid_argument");
    is(&post(&edge, "/rooms/r/messages", &lines, "zz\r\n").await, 400, "invalid_argument");
    // Whoever asks before sending is not told to send.
    let mut stream = edge.connect().await;
    let lines = [JSON, "Content-Length: 5000", "Expect: 100-continue"];
    send(&mut stream, "POST /rooms/r/messages HTTP/1.1", &lines).await;
    is(&read_answer(&mut stream).await, 413, "invalid_argument");
}

/// The connection of a request that was refused serves the next.
#[tokio::test]
async fn a_refusal_ends_no_connection() {
    let edge = Edge::start(Config { max_message_bytes: 1000, ..config() }).await;
    let mut stream = edge.connect().await;
    let body = "x".repeat(200_000);
    let length = format!("Content-Length: {}", body.len());
    for line in ["POST /rooms/r/messages HTTP/1.1", "POST /rooms/a%20b/messages HTTP/1.1"] {
        send(&mut stream, line, &[JSON, &length]).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        assert!(read_answer(&mut stream).await.status >= 400);
    }
    send(&mut stream, "GET /rooms/r/presence HTTP/1.1", &[]).await;
    assert_eq!(read_answer(&mut stream).await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let edge = Edge::start(config()).await;
    let mut stream = edge.connect().await;
    let started = Instant::now();
    send(&mut stream, "POST /rooms/r/messages HTTP/1.1", &[JSON, "Content-Length: 50"]).await;
    stream.write_all(br#"{"data":"#).await.unwrap();
    // Its head was in time, so only the body's own time counts: a little less than the stories' patience, with what is read away.
    let answer = tokio::time::timeout(Duration::from_secs(20), async {
        let mut drip = tokio::time::interval(Duration::from_millis(500));
        let mut head = [0; 16];
        loop {
            tokio::select! {
                read = tokio::io::AsyncReadExt::read(&mut stream, &mut head) => return head[..read.unwrap()].to_vec(),
                _ = drip.tick(), if started.elapsed() < Duration::from_secs(9) => {}
            }
        }
    });
    assert!(answer.await.unwrap().starts_with(b"HTTP/1.1 408"));
    assert!(started.elapsed() >= Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(edge.asked().is_empty());
}

#[tokio::test]
async fn requests_are_limited_by_user() {
    let edge = Edge::start(Config { rate_limit: 1, rate_burst: 2, ..config() }).await;
    for user in ["?user=ann", "?user=bob", ""] {
        for _ in 0..2 {
            assert_eq!(get(&edge, &format!("/rooms/r/presence{user}")).await.status, 200);
        }
        let answer = get(&edge, &format!("/rooms/r/messages{user}")).await;
        is(&answer, 429, "resource_exhausted");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(edge.refused("rate"), 3);
}

#[tokio::test]
async fn an_edge_that_goes_away_takes_nothing_on() {
    let edge = Edge::start(config()).await;
    let router = edge.begin_drain();
    let request = http::Request::get("/rooms/r/presence").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(edge.asked().is_empty());
    assert_eq!(edge.refused("draining"), 1);
}

#[tokio::test]
async fn pages_of_other_origins() {
    let edge = Edge::start(Config { allowed_origins: vec!["https://app.test".into()], ..config() }).await;
    let (app, evil) = ("Origin: https://app.test", "Origin: https://evil.test");
    let preflight =
        ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: idempotency-key"];
    for path in ["/rooms/r/messages", "/rooms/r/presence"] {
        let line = format!("OPTIONS {path} HTTP/1.1");
        let answer = edge.ask(&line, &[&[app], &preflight[..]].concat()).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST, PUT"));
        let headers = answer.header("access-control-allow-headers").unwrap();
        for header in ["content-type", "idempotency-key", "authorization", "last-event-id"] {
            assert!(headers.split(", ").any(|allowed| allowed == header), "{headers}");
        }
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        assert_eq!(answer.header("vary"), Some("origin"));
        let answer = edge.ask(&line, &[&[evil], &preflight[..]].concat()).await;
        is(&answer, 403, "permission_denied");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(edge.ask(&line, &[]).await.status, 204);
    }
    // Answers and problems alike can be read by the page that may, and are for it alone.
    for (body, status) in [(r#"{"data":{}}"#, 200), ("no", 400)] {
        let answer = post(&edge, "/rooms/r/messages", &[app], body).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
        assert_eq!(answer.header("access-control-expose-headers"), Some("retry-after"));
        assert_eq!(answer.header("vary"), Some("origin"));
    }
    assert_eq!(edge.ask("DELETE /rooms/r/messages HTTP/1.1", &[app]).await.status, 405);
    edge.asked();
    is(&post(&edge, "/rooms/r/messages", &[evil], r#"{"data":{}}"#).await, 403, "permission_denied");
    is(&edge.ask("PUT /rooms/r/presence HTTP/1.1", &[evil]).await, 403, "permission_denied");
    assert!(edge.asked().is_empty());
    assert_eq!(edge.refused("origin"), 4);
    let answer = edge.ask("GET /rooms/r/presence HTTP/1.1", &[evil]).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
    assert_eq!(get(&edge, "/rooms/r/presence").await.header("vary"), Some("origin"));
}

/// What a client asks for and does not read is not piled up for it: beyond a few long answers it waits for its own turn, and gets it.
#[tokio::test]
async fn over_http2_long_answers_take_turns() {
    const ASKED: usize = 20;
    let edge = Edge::start(config()).await;
    let (client, connection) = h2::client::handshake(edge.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut ask = |path: &str| {
        let request = http::Request::get(format!("http://edge.test{path}")).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    let answers: Vec<_> = (0..ASKED).map(|_| ask("/rooms/large/messages")).collect();
    // What is short is answered all the same.
    let short = ask("/rooms/-/presence").await.unwrap().status();
    assert_eq!(short, StatusCode::BAD_REQUEST);
    let mut reads = 0;
    let mut count = || {
        reads += edge.asked().iter().filter(|asked| matches!(asked, Request::History { .. })).count();
        reads
    };
    assert!((1..=4).contains(&count()));
    // All are read at once: they share the connection's window.
    let mut readers = tokio::task::JoinSet::new();
    for answer in answers {
        readers.spawn(async move {
            let (mut body, mut length) = (answer.await.unwrap().into_body(), 0);
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                length += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            length
        });
    }
    let lengths = tokio::time::timeout(PATIENCE, readers.join_all()).await.expect("they get their turn");
    assert!(lengths.iter().all(|length| *length > 500_000), "{lengths:?}");
    assert_eq!(count(), ASKED);
}

/// Both versions of HTTP are answered alike.
#[tokio::test]
async fn over_http2_a_publish_is_the_same() {
    let edge = Edge::start(config()).await;
    let (client, connection) = h2::client::handshake(edge.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for (origin, status) in [("http://edge.test", 200), ("http://evil.test", 403)] {
        let request = http::Request::post("http://edge.test/rooms/r/messages")
            .header("content-type", "application/json")
            .header("idempotency-key", "k")
            .header("origin", origin)
            .body(())
            .unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(r#"{"data":{"n":1}}"#.into(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        let mut body = answer.into_body();
        let body = body.data().await.unwrap().unwrap();
        let ack = r#"{"type":"ack","id":"k","room":"r","data":{"status":"delivered","seq":7}}"#;
        assert_eq!(body == ack, status == 200, "{body:?}");
    }
}

/// A refusal waits for the rest of the request, or for a moment: some clients that are still sending when their stream is reset have not seen
/// the answer in front of that.
#[tokio::test]
async fn over_http2_who_is_refused_may_end_its_sentence() {
    let edge = Edge::start(config()).await;
    let (client, connection) = h2::client::handshake(edge.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let refused = [
        ("/rooms/r/messages", 403),
        ("/nowhere", 404),
        ("/healthz", 405),
        ("/poll", 403),
        ("/events/r", 403),
    ];
    for (path, status) in refused {
        let request = http::Request::post(format!("http://edge.test{path}"));
        let request = request.header("origin", "http://evil.test").body(()).unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        let mut answer = std::pin::pin!(answer);
        let early = tokio::time::timeout(Duration::from_millis(50), answer.as_mut()).await;
        assert!(early.is_err(), "{path}: {early:?}");
        body.send_data("{}".into(), true).unwrap();
        assert_eq!(answer.await.unwrap().status().as_u16(), status, "{path}");
    }
}
