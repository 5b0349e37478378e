//! Plain HTTP: publish, history and presence for those who have no socket.
use hearth_tests::{
    client::Client,
    eventually, grpc,
    http::{self, Response},
    presence::Watcher,
    process::Hearth,
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A request with a body.
async fn send(http: SocketAddr, method: &str, target: &str, headers: &[&str], body: &str) -> Response {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    headers.iter().for_each(|line| request.push_str(&format!("{line}\r\n")));
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // A server that has answered already may not read the rest.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut whole = Vec::new();
    stream.read_to_end(&mut whole).await.unwrap();
    let whole = String::from_utf8_lossy(&whole);
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn post(http: SocketAddr, target: &str, headers: &[&str], body: &Value) -> Response {
    let headers = [&["Content-Type: application/json"], headers].concat();
    send(http, "POST", target, &headers, &body.to_string()).await
}

fn json_of(response: &Response) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.body))
}

/// 19. What is posted is what a WebSocket would have published, and the other way round: acks, envelopes and history are the same.
#[tokio::test]
async fn a_post_is_a_publish() {
    let hearth = Hearth::serve(&[]).await;
    let mut ann = Client::enter(hearth.http(), "/ws/room?user=ann").await.0;
    let message = json!({"type": "text", "id": "m1", "data": {"content": "hi", "author": "eve"}});
    let acked = post(hearth.http(), "/rooms/room/messages?user=bob", &[], &message).await;
    assert_eq!(acked.status, 200, "{}", acked.body);
    let expected =
        json!({"type": "ack", "id": "m1", "room": "room", "data": {"status": "delivered", "seq": 1}});
    assert_eq!(json_of(&acked), expected);
    let seen = ann.find(|frame| frame["type"] == "text").await;
    assert_eq!((&seen["data"], &seen["seq"]), (&json!({"content": "hi", "author": "bob"}), &json!(1)));
    let again = post(hearth.http(), "/rooms/room/messages?user=bob", &[], &message).await;
    assert_eq!(json_of(&again)["data"], json!({"status": "delivered", "seq": 1, "duplicate": true}));
    ann.publish("room", "m2").await;
    let asked = ann.ask(json!({"type": "history", "id": "h", "room": "room", "data": {"limit": 10}})).await;
    let listed = http::get(hearth.http(), "/rooms/room/messages?limit=10", &[]).await;
    assert_eq!(json_of(&listed), asked["data"]);
    let signal = json!({"type": "signal", "id": "s", "data": {"x": 1}});
    assert_eq!(post(hearth.http(), "/rooms/room/messages?user=bob", &[], &signal).await.status, 200);
    assert_eq!(ann.find(|frame| frame["type"] == "signal").await["data"], json!({"x": 1, "author": "bob"}));
    let typing = json!({"type": "typing", "data": {"active": true}});
    assert_eq!(post(hearth.http(), "/rooms/room/messages?user=bob", &[], &typing).await.status, 200);
    assert_eq!(ann.find(|frame| frame["type"] == "typing").await["data"]["author"], "bob");
}

/// 21. A key that is raced from several connections is one event.
#[tokio::test]
async fn an_idempotency_key_is_one_event() {
    let hearth = Hearth::serve(&[]).await;
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..20 {
        let http = hearth.http();
        racing.spawn(async move {
            let body = json!({"data": {"n": n}});
            json_of(&post(http, "/rooms/room/messages?user=bob", &["Idempotency-Key: k1"], &body).await)
        });
    }
    let acks = racing.join_all().await;
    assert!(acks.iter().all(|ack| ack["data"]["seq"] == 1), "{acks:?}");
    assert_eq!(acks.iter().filter(|ack| ack["data"]["duplicate"] != true).count(), 1);
}

/// `PUT` keeps a user online without a stream, for as long as the timeout, and shows what it sets.
#[tokio::test]
async fn a_put_keeps_a_user_online_until_the_timeout() {
    let hearth = Hearth::serve(&["--presence-timeout", "1s"]).await;
    let mut watcher = Watcher::enter(hearth.http(), "room", "ben").await;
    let body = json!({"meta": {"status": "away"}}).to_string();
    let put = async || {
        send(
            hearth.http(),
            "PUT",
            "/rooms/room/presence?user=ann",
            &["Content-Type: application/json"],
            &body,
        )
        .await
    };
    assert_eq!(put().await.status, 200);
    watcher.until_shows("ann", true).await;
    watcher.until("her status", |view| view.online()["ann"]["status"] == "away").await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1600) {
        tokio::time::sleep(Duration::from_millis(400)).await;
        put().await;
    }
    let online = json_of(&http::get(hearth.http(), "/rooms/room/presence", &[]).await);
    let users: Vec<&str> =
        online["online"].as_array().unwrap().iter().filter_map(|one| one["user"].as_str()).collect();
    assert_eq!(users, ["ann", "ben"]);
    watcher.until_shows("ann", false).await;
    let told = watcher.view.told("ann");
    assert_eq!((told.first(), told.last()), (Some(&"join"), Some(&"leave")));
    assert_eq!(told.iter().filter(|step| **step == "leave").count(), 1);
}

/// Method, target, headers, body; status and code of the answer.
type Mistake<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, u16, &'a str);

/// Every mistake has its status and its code.
#[tokio::test]
async fn mistakes() {
    let hearth = Hearth::serve(&[]).await;
    let (messages, json_type) = ("/rooms/room/messages", "Content-Type: application/json");
    let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(70_000));
    let table: &[Mistake<'_>] = &[
        ("POST", messages, &[json_type], "{", 400, "invalid_argument"),
        ("POST", messages, &[json_type], r#"{"type":"text"}"#, 400, "invalid_argument"),
        ("POST", messages, &[json_type], r#"{"type":"join","data":{}}"#, 400, "invalid_argument"),
        ("POST", messages, &[json_type], r#"{"room":"other","data":{}}"#, 400, "invalid_argument"),
        ("POST", messages, &[json_type], r#"{"type":"system","data":{}}"#, 403, "permission_denied"),
        (
            "POST",
            messages,
            &[json_type, "Idempotency-Key: a"],
            r#"{"id":"b","data":{}}"#,
            400,
            "invalid_argument",
        ),
        ("POST", messages, &["Content-Type: text/plain"], "{}", 415, "invalid_argument"),
        ("POST", messages, &[json_type], &large, 413, "invalid_argument"),
        ("POST", "/rooms/%20/messages", &[json_type], r#"{"data":{}}"#, 400, "invalid_argument"),
        ("POST", "/rooms/~bob/messages", &[json_type], r#"{"data":{}}"#, 403, "permission_denied"),
        (
            "POST",
            messages,
            &[json_type, "Origin: https://evil.test"],
            r#"{"data":{}}"#,
            403,
            "permission_denied",
        ),
        ("GET", "/rooms/room/messages?limit=0", &[], "", 400, "invalid_argument"),
        ("GET", "/rooms/room/messages?after=x", &[], "", 400, "invalid_argument"),
        ("DELETE", messages, &[], "", 405, "unimplemented"),
        ("PUT", "/rooms/room/presence", &[json_type], r#"{"meta":7}"#, 400, "invalid_argument"),
        ("GET", "/rooms/room/other", &[], "", 404, "not_found"),
    ];
    for (method, target, headers, body, status, code) in table {
        let answer = send(hearth.http(), method, target, headers, body).await;
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{method} {target} {body:.40}"
        );
        assert_eq!(
            (answer.status, &json_of(&answer)["code"]),
            (*status, &json!(code)),
            "{method} {target} {body:.40}"
        );
    }
    let preflight = ["Origin: http://localhost:3000", "Access-Control-Request-Method: POST"];
    let allowed = send(hearth.http(), "OPTIONS", messages, &preflight, "").await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("http://localhost:3000"));
}

/// A call is a session for a moment: thousands of them leave nothing behind.
#[tokio::test]
async fn calls_leave_nothing_behind() {
    let hearth = Hearth::serve(&["--rate-limit", "0"]).await;
    for n in 0..1000 {
        let target = format!("/rooms/room-{}/messages?user=u{n}", n % 5);
        assert_eq!(post(hearth.http(), &target, &[], &json!({"data": {}})).await.status, 200);
    }
    eventually("no session", async || {
        let page = http::get(hearth.http(), "/metrics", &[]).await.body;
        (http::metric(&page, "hearth_core_sessions") == Some(0.0)).then_some(())
    })
    .await;
    let mut presence = grpc::presence(hearth.grpc()).await;
    assert_eq!(grpc::users(&mut presence, "room-0").await, Vec::<String>::new(), "publishing needs no join");
}
