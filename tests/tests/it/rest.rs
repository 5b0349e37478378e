//! Rooms by single requests: what they do is what the same command does on a WebSocket, and nothing of them stays.
use hearth_tests::{
    client::Client,
    eventually, grpc, heavy,
    http::{self, Response, metric},
    presence::Watcher,
    process::{Hearth, lasting_address},
    within,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// A JSON answer, as it must be.
fn good(answer: &Response) -> Value {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{answer:?}: {error}"))
}

/// The code of a problem of that status, as RFC 9457 has it.
fn problem(answer: &Response, status: u16) -> String {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (status, Some("application/problem+json")),
        "{answer:?}"
    );
    let body: Value =
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{answer:?}: {error}"));
    assert_eq!((&body["status"], &body["type"]), (&json!(status), &json!("about:blank")), "{body}");
    assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    if matches!(status, 429 | 503) {
        let after = answer.header("retry-after").and_then(|after| after.parse::<u32>().ok());
        assert!(after.is_some_and(|after| (1..=10).contains(&after)), "{answer:?}");
    }
    body["code"].as_str().unwrap().to_owned()
}

fn messages(room: &str, user: &str) -> String {
    format!("/rooms/{room}/messages?user={user}")
}

async fn post(http: SocketAddr, room: &str, user: &str, body: &Value) -> Value {
    good(&http::send(http, "POST", &messages(room, user), &[], &body.to_string()).await)
}

async fn read(http: SocketAddr, target: &str) -> Value {
    good(&http::get(http, target, &[]).await)
}

async fn put(http: SocketAddr, room: &str, user: &str, body: &Value) {
    let target = format!("/rooms/{room}/presence?user={user}");
    let answer = good(&http::send(http, "PUT", &target, &[], &body.to_string()).await);
    assert_eq!(answer, json!({"type": "ack", "room": room, "data": {"status": "ok"}}));
}

async fn until_metric(http: SocketAddr, name: &str, value: f64) {
    eventually(&format!("{name} {value}"), async || {
        metric(&http::get(http, "/metrics", &[]).await.body, name).filter(|found| *found == value)
    })
    .await;
}

async fn text(client: &mut Client) -> Value {
    client.find(|frame| frame["type"] == "text").await
}

/// What is posted is heard on a WebSocket, what is sent there is read by a request, in equal envelopes; through another edge alike.
#[tokio::test]
async fn requests_and_sockets_are_in_one_room() {
    let core = Hearth::core(&[]).await;
    let (one, other) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let (mut ann, _) = Client::enter(one.http(), "/ws/chat:1?user=ann").await;
    let answer =
        post(other.http(), "chat:1", "bob", &json!({"id": "m1", "data": {"n": 1, "author": "eve"}})).await;
    let ack = json!({"type": "ack", "id": "m1", "room": "chat:1", "data": {"status": "delivered", "seq": 1}});
    assert_eq!(answer, ack);
    let posted = text(&mut ann).await;
    assert_eq!((&posted["id"], &posted["seq"]), (&json!("m1"), &json!(1)));
    assert_eq!(posted["data"], json!({"n": 1, "author": "bob"}));

    // Without an id there is an answer all the same, and none is made up.
    let answer =
        post(one.http(), "chat%3A1", "bob", &json!({"type": "text", "room": "chat:1", "data": {"n": 2}}))
            .await;
    assert_eq!(answer, json!({"type": "ack", "room": "chat:1", "data": {"status": "delivered", "seq": 2}}));
    let second = text(&mut ann).await;
    assert_eq!(second.get("id"), None, "{second}");

    ann.send(json!({"type": "text", "id": "m3", "room": "chat:1", "data": {"n": 3}})).await;
    let third = text(&mut ann).await;
    for edge in [&one, &other] {
        let page = read(edge.http(), &messages("chat:1", "bob")).await;
        assert_eq!(page["messages"], json!([posted, second, third]));
    }
}

/// A key counts once, whether it comes as a header or as an id, by whichever way, and however many at once.
#[tokio::test]
async fn a_key_counts_once() {
    let hearth = Hearth::serve(&[]).await;
    let http = hearth.http();
    let (mut eve, _) = Client::enter(http, "/ws/room?user=eve").await;
    let mut ann = Client::connect(http, "/ws?user=ann").await;
    let with_key = async |user: &str, key: &str, body: &str| {
        let header = format!("Idempotency-Key: {key}");
        http::send(http, "POST", &messages("room", user), &[&header], body).await
    };
    let first = good(&with_key("ann", "k", r#"{"data":{"n":1}}"#).await);
    assert_eq!(
        first,
        json!({"type": "ack", "id": "k", "room": "room", "data": {"status": "delivered", "seq": 1}})
    );
    let again = json!({"type": "ack", "id": "k", "room": "room", "data": {"status": "delivered", "seq": 1, "duplicate": true}});
    assert_eq!(good(&with_key("ann", "k", r#"{"id":"k","data":{"n":2}}"#).await), again);
    assert_eq!(post(http, "room", "ann", &json!({"id": "k", "data": {}})).await, again);
    assert_eq!(ann.ask(json!({"type": "text", "id": "k", "room": "room", "data": {}})).await, again);
    // Another user's is another key.
    assert_eq!(good(&with_key("bob", "k", r#"{"data":{}}"#).await)["data"]["seq"], 2);

    let mut races = tokio::task::JoinSet::new();
    for n in 0..20 {
        let key = format!("Idempotency-Key: race-{}", n / 2);
        races.spawn(async move {
            let body = format!(r#"{{"data":{{"n":{n}}}}}"#);
            good(&http::send(http, "POST", &messages("room", "ann"), &[&key], &body).await)
        });
    }
    let answers = races.join_all().await;
    let firsts = answers.iter().filter(|answer| answer["data"].get("duplicate").is_none()).count();
    let seqs: BTreeSet<u64> = answers.iter().map(|answer| answer["data"]["seq"].as_u64().unwrap()).collect();
    assert_eq!((firsts, seqs), (10, (3..=12).collect()), "{answers:?}");
    for answer in &answers {
        let same = answers.iter().filter(|other| other["data"]["seq"] == answer["data"]["seq"]);
        assert!(
            same.clone().count() == 2 && same.clone().all(|other| other["id"] == answer["id"]),
            "{answer}"
        );
    }
    for seq in 1..=12 {
        assert_eq!(text(&mut eve).await["seq"], seq, "once each, in order");
    }
    assert_eq!(read(http, &messages("room", "eve")).await["seq"], 12);
}

/// A request's page is the frame's data, whatever part is asked for.
#[tokio::test]
async fn history_is_what_the_frame_says() {
    let hearth = Hearth::serve(&["--history-size", "8"]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    for n in 1..=10 {
        ann.publish("room", &format!("m{n}")).await;
    }
    for asked in [
        json!({}),
        json!({"limit": 3}),
        json!({"after": 7}),
        json!({"after": 0, "limit": 2}),
        json!({"before": 6, "limit": 2}),
        json!({"after": 4, "before": 8}),
        json!({"after": 99}),
        json!({"before": 0}),
    ] {
        let query: String =
            asked.as_object().unwrap().iter().map(|(name, value)| format!("&{name}={value}")).collect();
        let frame = ann.ask(json!({"type": "history", "id": "h", "room": "room", "data": asked})).await;
        let page = read(hearth.http(), &(messages("room", "bob") + &query)).await;
        assert_eq!(page, frame["data"], "{asked}");
    }
    let nobody = read(hearth.http(), &messages("nobody.was.here", "bob")).await;
    assert_eq!(nobody, json!({"epoch": "", "seq": 0, "messages": [], "more": false}));
}

/// Who is online: as in a WebSocket's state, also through an edge that has nobody there. Where a state would be a count, some are named.
#[tokio::test]
async fn presence_is_what_the_state_says() {
    let core = Hearth::core(&["--presence-max", "3"]).await;
    let (edge, empty) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    assert_eq!(read(empty.http(), "/rooms/room/presence").await, json!({"online": [], "count": 0}));
    let (mut ann, _) = Client::enter(edge.http(), "/ws/room?user=ann").await;
    ann.set_meta("room", json!({"mood": "good"})).await;
    let (_tab, _) = Client::enter(edge.http(), "/ws/room?user=ann").await;
    let (mut bob, _) = Client::attend(edge.http(), "/ws/room?user=bob").await;
    let state = bob.find(|frame| frame["data"]["event"] == "state").await["data"]["online"].clone();
    for edge in [&edge, &empty] {
        let listed = read(edge.http(), "/rooms/room/presence").await;
        assert_eq!(listed, json!({"online": state, "count": 2}));
    }
    assert_eq!(
        (&state[0]["user"], &state[0]["meta"], &state[0]["sessions"]),
        (&json!("ann"), &json!({"mood": "good"}), &json!(2))
    );

    let (_cyd, _) = Client::enter(edge.http(), "/ws/room?user=cyd").await;
    let (_dan, _) = Client::enter(edge.http(), "/ws/room?user=dan").await;
    bob.find(|frame| frame["data"]["event"] == "count").await;
    let listed = read(empty.http(), "/rooms/room/presence").await;
    let users: Vec<&Value> = listed["online"].as_array().unwrap().iter().map(|one| &one["user"]).collect();
    assert_eq!(json!([users, listed["count"]]), json!([["ann", "bob", "cyd", "dan"], 4]));
}

/// A sign of life keeps its user online until the timeout, and not longer; each one begins it anew, and what it sets is shown.
#[tokio::test]
async fn a_sign_of_life_holds_for_the_timeout() {
    let timeout = Duration::from_millis(1500);
    let hearth = Hearth::serve(&["--presence-timeout", "1500ms"]).await;
    let mut eve = Watcher::enter(hearth.http(), "room", "eve").await;
    put(hearth.http(), "room", "ann", &json!({"meta": {"mood": "good"}})).await;
    eve.until_shows("ann", true).await;
    assert_eq!((eve.view.online()["ann"].clone(), eve.view.sessions("ann")), (json!({"mood": "good"}), None));
    let mut last = Instant::now();
    for _ in 0..4 {
        tokio::time::sleep(timeout / 2).await;
        last = Instant::now();
        put(hearth.http(), "room", "ann", &json!({})).await;
    }
    assert_eq!(eve.view.told("ann"), ["join"]);
    eve.until_shows("ann", false).await;
    let after = last.elapsed();
    assert!((timeout..timeout + Duration::from_secs(2)).contains(&after), "gone after {after:?}");
    assert_eq!(eve.view.told("ann"), ["join", "leave"], "and nothing in between");
    put(hearth.http(), "room", "ann", &json!({})).await;
    eve.until_shows("ann", true).await;
    assert_eq!(eve.view.online()["ann"], json!({}), "who comes anew shows nothing of before");
}

/// A user who is there already is not disturbed: no step but its meta, and it leaves when its session does.
#[tokio::test]
async fn a_sign_of_life_beside_a_session() {
    let hearth = Hearth::serve(&[]).await;
    let mut eve = Watcher::enter(hearth.http(), "room", "eve").await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    ann.set_meta("room", json!({"n": 1})).await;
    eve.until("ann's meta", |view| view.online().get("ann") == Some(&json!({"n": 1}))).await;
    eve.view.clear_steps();
    put(hearth.http(), "room", "ann", &json!({"meta": {"n": 2}})).await;
    eve.until("the meta that was put", |view| view.online().get("ann") == Some(&json!({"n": 2}))).await;
    put(hearth.http(), "room", "ann", &json!({})).await;
    let listed = read(hearth.http(), "/rooms/room/presence?user=eve").await;
    let shown = &listed["online"][0];
    assert_eq!(
        (&shown["user"], &shown["meta"], &shown["sessions"]),
        (&json!("ann"), &json!({"n": 2}), &json!(1))
    );
    ann.set_meta("room", json!({"n": 3})).await;
    eve.until("the socket's word again", |view| view.online().get("ann") == Some(&json!({"n": 3}))).await;
    ann.close().await;
    eve.until_shows("ann", false).await;
    assert_eq!(eve.view.told("ann"), ["update", "update", "leave"]);
}

/// Signals and typing are for those who are there now; neither needs a join. One request says that its user types and another that it
/// has stopped: it is the same user, so nobody is told a second time when the first would have expired.
#[tokio::test]
async fn signals_and_typing() {
    let hearth = Hearth::serve(&[]).await;
    let http = hearth.http();
    let (mut eve, _) = Client::enter(http, "/ws/room?user=eve").await;
    let delivered = |id: Option<&str>| match id {
        Some(id) => json!({"type": "ack", "id": id, "room": "room", "data": {"status": "delivered"}}),
        None => json!({"type": "ack", "room": "room", "data": {"status": "delivered"}}),
    };
    let signal = post(http, "room", "ann", &json!({"type": "signal", "id": "s", "data": {"x": 1}})).await;
    assert_eq!(signal, delivered(Some("s")));
    let heard = eve.next().await;
    assert_eq!((&heard["type"], &heard["data"]), (&json!("signal"), &json!({"x": 1, "author": "ann"})));
    let begun = Instant::now();
    for active in [true, true, false] {
        let answer = post(http, "room", "ann", &json!({"type": "typing", "data": {"active": active}})).await;
        assert_eq!(answer, delivered(None));
        let heard = eve.next().await;
        assert_eq!(
            (&heard["type"], &heard["data"]),
            (&json!("typing"), &json!({"active": active, "author": "ann"}))
        );
    }
    // Bob's is not taken back: he is heard to stop after some seconds, and by then Ann would have been.
    post(http, "room", "bob", &json!({"type": "typing", "data": {"active": true}})).await;
    assert_eq!(eve.next().await["data"], json!({"active": true, "author": "bob"}));
    assert_eq!(eve.next().await["data"], json!({"active": false, "author": "bob"}));
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(read(http, &messages("room", "eve")).await["messages"], json!([]));
}

/// Method, target, headers, body; status and code of the answer.
type Mistake<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, u16, &'a str);

/// The same words as on a WebSocket, and the status that goes with them.
#[tokio::test]
async fn errors_are_problems() {
    let hearth = Hearth::serve(&[]).await;
    let http = hearth.http();
    let text = r#"{"data":{}}"#;
    let key = "Idempotency-Key: k";
    let meta = format!(r#"{{"meta":{{"x":"{}"}}}}"#, "x".repeat(5000));
    let rows: &[Mistake<'_>] = &[
        ("POST", "/rooms/room/messages", &[], "", 400, "invalid_argument"),
        ("POST", "/rooms/room/messages", &[], "{", 400, "invalid_argument"),
        ("POST", "/rooms/room/messages", &[], r#"{"data":1}"#, 400, "invalid_argument"),
        ("POST", "/rooms/room/messages", &[], r#"{"data":{},"type":"leave"}"#, 400, "invalid_argument"),
        ("POST", "/rooms/room/messages", &[], r#"{"data":{},"room":"other"}"#, 400, "invalid_argument"),
        ("POST", "/rooms/room/messages", &[key], r#"{"data":{},"id":"other"}"#, 400, "invalid_argument"),
        ("POST", "/rooms/room/messages?user=%0a", &[], text, 400, "invalid_argument"),
        ("POST", "/rooms/-/messages", &[], text, 400, "invalid_argument"),
        ("POST", "/rooms/room/messages", &[], r#"{"data":{},"type":"system"}"#, 403, "permission_denied"),
        ("POST", "/rooms/~ann/messages?user=ann", &[], text, 403, "permission_denied"),
        (
            "POST",
            "/rooms/~ann/messages?user=ann",
            &[],
            r#"{"data":{},"type":"signal"}"#,
            403,
            "permission_denied",
        ),
        ("POST", "/rooms/room/messages", &["Origin: https://evil.test"], text, 403, "permission_denied"),
        ("GET", "/rooms/~ann/messages?user=bob", &[], "", 403, "permission_denied"),
        ("GET", "/rooms/~ann/presence?user=bob", &[], "", 403, "permission_denied"),
        ("PUT", "/rooms/~ann/presence?user=bob", &[], "{}", 403, "permission_denied"),
        ("PUT", "/rooms/room/presence", &[], &meta, 400, "invalid_argument"),
        ("PUT", "/rooms/room/presence", &["Origin: https://evil.test"], "{}", 403, "permission_denied"),
        ("GET", "/rooms/room/messages?limit=1001", &[], "", 400, "invalid_argument"),
        ("GET", "/rooms/room", &[], "", 404, "not_found"),
        ("DELETE", "/rooms/room/messages", &[], "", 405, "unimplemented"),
        ("POST", "/rooms/room/presence", &[], "{}", 405, "unimplemented"),
        ("POST", "/rooms/room/messages", &["Content-Type: text/plain"], text, 415, "invalid_argument"),
    ];
    for (method, target, headers, body, status, code) in rows {
        let answer = http::send(http, method, target, headers, body).await;
        assert_eq!(problem(&answer, *status), *code, "{method} {target} {body}");
    }
    let answer = http::ask(http, "POST", "/rooms/room/messages", &["Content-Length: 0"]).await.unwrap();
    assert_eq!(problem(&answer, 415), "invalid_argument", "a body that does not say what it is");
    // Ann's own room is hers to read and to be in.
    read(http, &messages("~ann", "ann")).await;
    put(http, "~ann", "ann", &json!({})).await;
    assert_eq!(read(http, "/rooms/~ann/presence?user=ann").await["count"], 1);
    // Nothing of all that was published.
    assert_eq!(read(http, &messages("room", "ann")).await["seq"], 0);
}

/// A user may ask so often and no more; another is not hindered.
#[tokio::test]
async fn requests_are_limited_by_user() {
    let hearth = Hearth::serve(&["--rate-limit", "2", "--rate-burst", "3"]).await;
    let http = hearth.http();
    for user in ["ann", "bob"] {
        for n in 0..3 {
            post(http, "room", user, &json!({"data": {"n": n}})).await;
        }
        let answer = http::send(http, "POST", &messages("room", user), &[], r#"{"data":{}}"#).await;
        assert_eq!(problem(&answer, 429), "resource_exhausted");
        tokio::time::sleep(Duration::from_secs(1)).await;
        post(http, "room", user, &json!({"data": {}})).await;
    }
    assert_eq!(read(http, &messages("room", "eve")).await["seq"], 8);
}

/// 23. A page of an allowed origin may do all of it, and read why it failed; any other nothing.
#[tokio::test]
async fn pages_of_other_origins() {
    let hearth = Hearth::serve(&["--allowed-origins", "https://app.test"]).await;
    let http = hearth.http();
    let asked = [
        "Access-Control-Request-Method: PUT",
        "Access-Control-Request-Headers: content-type",
        "Connection: close",
    ];
    for (origin, allowed) in [
        ("https://app.test", true),
        ("http://localhost:5173", true),
        ("https://evil.test", false),
        ("https://app.test.evil.test", false),
        ("null", false),
    ] {
        let line = format!("Origin: {origin}");
        for target in ["/rooms/room/messages", "/rooms/room/presence"] {
            let answer = http::ask(http, "OPTIONS", target, &[&[&*line], &asked[..]].concat()).await.unwrap();
            let named = answer.header("access-control-allow-origin");
            assert_eq!(
                (answer.status, named),
                if allowed { (204, Some(origin)) } else { (403, None) },
                "{origin}"
            );
            assert_eq!(answer.header("vary"), Some("origin"));
            assert_eq!(answer.header("access-control-allow-methods").is_some(), allowed);
        }
        let answer = http::send(http, "POST", "/rooms/room/messages", &[&line], r#"{"data":{}}"#).await;
        assert_eq!(answer.status, if allowed { 200 } else { 403 }, "{origin}");
        let answer = http::get(http, "/rooms/room/messages?limit=x", &[&line]).await;
        assert_eq!(problem(&answer, 400), "invalid_argument");
        assert_eq!(answer.header("access-control-allow-origin"), allowed.then_some(origin));
    }
    // The same origin is always allowed, whatever its name, and so is a client that names none.
    for line in ["", "Origin: http://edge.test\r\n"] {
        let mut stream = TcpStream::connect(http).await.unwrap();
        let request = format!("GET /rooms/room/messages HTTP/1.1\r\nHost: edge.test\r\n{line}\r\n");
        good(&http::exchange(&mut stream, request.as_bytes()).await.unwrap());
    }
}

/// The largest message is the same as on a WebSocket; a larger one is refused as soon as that is known.
#[tokio::test]
async fn bodies_are_bounded() {
    let hearth = Hearth::serve(&[]).await;
    let http = hearth.http();
    let body = |len: usize| format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(len - 17));
    let target = messages("room", "ann");
    good(&http::send(http, "POST", &target, &[], &body(65_536)).await);
    assert_eq!(
        problem(&http::send(http, "POST", &target, &[], &body(65_537)).await, 413),
        "invalid_argument"
    );
    assert_eq!(
        problem(&http::send(http, "PUT", "/rooms/room/presence", &[], &body(65_537)).await, 413),
        "invalid_argument"
    );
    // Without a length it is known when it is read.
    let mut stream = TcpStream::connect(http).await.unwrap();
    let lines = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
    let chunk = format!("{:x}\r\n{}\r\n", 40_000, "x".repeat(40_000));
    let request = http::head(http, "POST", &target, &lines) + &chunk + &chunk + "0\r\n\r\n";
    let answer = http::exchange(&mut stream, request.as_bytes()).await.unwrap();
    assert_eq!(problem(&answer, 413), "invalid_argument");
    assert_eq!(read(http, &messages("room", "ann")).await["seq"], 1);
}

/// 28. A body that does not come is not waited for, a byte now and then or not; what has come of it is not published.
#[tokio::test]
async fn slow_bodies_are_not_waited_for() {
    let hearth = Hearth::serve(&[]).await;
    let mut stream = TcpStream::connect(hearth.http()).await.unwrap();
    let lines = ["Content-Type: application/json", "Content-Length: 100"];
    let head = http::head(hearth.http(), "POST", &messages("room", "ann"), &lines);
    let begun = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut answer, mut drip) = (Vec::new(), tokio::time::interval(Duration::from_secs(1)));
    let said = within("the end of patience", async {
        loop {
            tokio::select! {
                read = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut answer) => {
                    if matches!(read, Ok(0) | Err(_)) || answer.starts_with(b"HTTP/1.1 408 ") { return answer }
                }
                _ = drip.tick() => drop(stream.write_all(b" ").await),
            }
        }
    })
    .await;
    assert!(said.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&said));
    assert!((10..16).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    until_metric(hearth.http(), "hearth_core_sessions", 0.0).await;
}

/// Without a core the answer is that nobody knows, and when to come back; a core that comes in time answers after all.
#[tokio::test]
async fn a_core_that_is_away() {
    let mut core = Hearth::core(&["--grpc", &lasting_address()]).await;
    let edge = Hearth::edge(core.grpc(), &[]).await;
    post(edge.http(), "room", "ann", &json!({"data": {}})).await;
    core.kill();
    until_metric(edge.http(), "hearth_link_attached", 0.0).await;
    let waits = tokio::spawn({
        let http = edge.http();
        async move { http::send(http, "POST", &messages("room", "ann"), &[], r#"{"data":{}}"#).await }
    });
    let read = http::get(edge.http(), &messages("room", "ann"), &[]).await;
    assert_eq!(problem(&read, 503), "unavailable");
    assert_eq!(problem(&waits.await.unwrap(), 503), "unavailable");
    until_metric(edge.http(), "hearth_edge_calls", 0.0).await;
    let waits = tokio::spawn({
        let http = edge.http();
        async move { post(http, "room", "ann", &json!({"data": {}})).await }
    });
    until_metric(edge.http(), "hearth_edge_calls", 1.0).await;
    core.restart().await;
    assert_eq!(waits.await.unwrap()["data"]["seq"], 1, "in a new epoch");
}

/// Whoever does not wait for the answer leaves nothing behind: not at the edge, which has not heard from the core yet, and not there.
#[tokio::test]
async fn clients_that_go_leave_nothing() {
    let core = Hearth::core(&["--metrics", "127.0.0.1:0"]).await;
    let edge = Hearth::edge(core.grpc(), &[]).await;
    post(edge.http(), "room", "ann", &json!({"data": {}})).await;
    core.signal("STOP");
    let mut clients = Vec::new();
    for n in 0..50 {
        let mut stream = TcpStream::connect(edge.http()).await.unwrap();
        let request = match n % 2 {
            0 => http::head(edge.http(), "GET", &messages("room", "ann"), &[]),
            _ => http::head(edge.http(), "PUT", "/rooms/room/presence?user=ann", &[]),
        };
        stream.write_all(request.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    until_metric(edge.http(), "hearth_edge_calls", 50.0).await;
    drop(clients);
    until_metric(edge.http(), "hearth_edge_calls", 0.0).await;
    core.signal("CONT");
    eventually("an answer", async || {
        let answer = http::get(edge.http(), &messages("room", "ann"), &[]).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// A request that is under way when the edge is told to stop is still answered.
#[tokio::test]
async fn a_drain_answers_what_is_under_way() {
    let mut hearth = Hearth::serve(&[]).await;
    let mut stream = TcpStream::connect(hearth.http()).await.unwrap();
    let body = r#"{"data":{"n":1}}"#;
    let lines = ["Content-Type: application/json", &format!("Content-Length: {}", body.len())];
    let head = http::head(hearth.http(), "POST", &messages("room", "ann"), &lines);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body.as_bytes()[..5]).await.unwrap();
    // The edge has taken the connection and read the head when it answers another on the same count.
    until_metric(hearth.http(), "hearth_edge_connections", 0.0).await;
    hearth.terminate();
    let refused = async || TcpStream::connect(hearth.http()).await.is_err().then_some(());
    eventually("a closed door", refused).await;
    let answer = http::exchange(&mut stream, &body.as_bytes()[5..]).await.unwrap();
    assert_eq!(good(&answer)["data"], json!({"status": "delivered", "seq": 1}));
    assert!(hearth.ended().await.success());
}

/// HTTP/2 alike, by a client that knows it. (curl is where tests run; one without HTTP/2 is no use here.)
#[tokio::test]
async fn http2_alike() {
    let hearth = Hearth::serve(&[]).await;
    let url = |path: &str| format!("http://{}{path}", hearth.http());
    let curl = async |args: Vec<String>| {
        let run = move || {
            let args = args.iter().map(String::as_str);
            Command::new("curl")
                .args(["-s", "--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"])
                .args(args)
                .output()
        };
        tokio::task::spawn_blocking(run)
            .await
            .unwrap()
            .map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let post =
        ["-H", "Content-Type: application/json", "-H", "Idempotency-Key: k", "-d", r#"{"data":{"n":1}}"#];
    let mut args: Vec<String> = post.map(str::to_owned).into();
    args.push(url(&messages("room", "ann")));
    let answer = match curl(args.clone()).await {
        Ok(answer) => answer,
        Err(error) => return eprintln!("no curl, so no HTTP/2 here: {error}"),
    };
    assert_eq!(
        answer,
        r#"{"type":"ack","id":"k","room":"room","data":{"status":"delivered","seq":1}} 2 200"#
    );
    let page = curl(vec![url(&messages("room", "ann"))]).await.unwrap();
    assert!(page.contains(r#""data":{"n":1,"author":"ann"}"#) && page.ends_with(" 2 200"), "{page}");
    args.extend(["-H".to_owned(), "Origin: https://evil.test".to_owned()]);
    let answer = curl(args).await.unwrap();
    assert!(answer.contains("permission_denied") && answer.ends_with(" 2 403"), "{answer}");
    let answer = curl(vec!["-X".into(), "PUT".into(), url("/rooms/room/presence?user=ann")]).await.unwrap();
    assert_eq!(answer, r#"{"type":"ack","room":"room","data":{"status":"ok"}} 2 200"#);
}

/// How much memory a process holds, in KiB.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Ten thousand requests leave nothing: no session, no presence, no memory.
#[tokio::test]
async fn ten_thousand_requests_leave_nothing() {
    let _turn = heavy().await;
    let hearth = Hearth::serve(&["--rate-limit", "0", "--presence-timeout", "1s"]).await;
    let http = hearth.http();
    let wave = async |wave: usize| {
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..50 {
            clients.spawn(async move {
                let mut stream = TcpStream::connect(http).await.unwrap();
                for n in 0..200 {
                    let user = format!("user-{wave}-{client}-{n}");
                    let room = format!("room-{}", n % 20);
                    let (method, target, body) = match n % 4 {
                        0 | 1 => ("POST", messages(&room, &user), r#"{"data":{"x":1}}"#),
                        2 => ("PUT", format!("/rooms/{room}/presence?user={user}"), r#"{"meta":{"x":1}}"#),
                        _ => ("GET", format!("/rooms/{room}/presence?user={user}"), ""),
                    };
                    good(&http::send_on(&mut stream, method, &target, &[], body).await);
                }
            });
        }
        clients.join_all().await;
        until_metric(http, "hearth_core_sessions", 0.0).await;
        until_metric(http, "hearth_edge_calls", 0.0).await;
        until_metric(http, "hearth_core_presence_users", 0.0).await;
    };
    // History is kept, so the rooms are filled first.
    wave(0).await;
    wave(1).await;
    let before = resident(hearth.pid());
    wave(2).await;
    if let (Some(before), Some(after)) = (before, resident(hearth.pid())) {
        eprintln!("resident after 20,000 requests {before} KiB, after 30,000 {after} KiB");
        assert!(after < before + 8 * 1024, "{before} KiB became {after} KiB");
    }
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    assert_eq!(grpc::sessions(&mut rooms, "room-0").await, 0);
}
