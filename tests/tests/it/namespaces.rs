//! Namespaces of `hearth.toml`: rooms of one namespace keep other rules than the rest, at every door.
use hearth_proto::v1::{self, connect_response::Frame, room_service_client::RoomServiceClient};
use hearth_tests::{
    client::Client,
    grpc::{self, Session, channel, text},
    http,
    presence::Watcher,
    process::Hearth,
    token::{self, SECRET},
    within,
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};
use tonic::Code;

const FILE: &str = r#"
history-size = 50

[namespaces.short]
history-size = 3
max-message-bytes = 100
max-meta-bytes = 20

[namespaces.brief]
history-ttl = "300ms"
dedupe-window = "0s"

[namespaces.crowd]
presence-max = 1
presence-timeout = "200ms"

[namespaces.news]
allow = ["join", "history"]
"#;

async fn serve(name: &str, flags: &[&str]) -> Hearth {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("namespaces-{name}.toml"));
    fs::write(&file, FILE).unwrap();
    Hearth::serve(&[&["--config", file.to_str().unwrap()], flags].concat()).await
}

async fn kept(hearth: &Hearth, room: &str) -> Vec<u64> {
    let page = http::get(hearth.http(), &format!("/rooms/{room}/messages"), &[]).await;
    let page: Value = serde_json::from_str(&page.body).unwrap();
    page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect()
}

/// How much is kept, for how long, and how large it may be.
#[tokio::test]
async fn rooms_keep_what_their_namespace_says() {
    let hearth = serve("limits", &[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    for n in 1..=5 {
        for room in ["short:1", "brief:1", "else:1", "plain"] {
            assert_eq!(ann.publish(room, &format!("{room} {n}")).await, n);
        }
    }
    assert_eq!(kept(&hearth, "short:1").await, [3, 4, 5]);
    for room in ["else:1", "plain"] {
        assert_eq!(kept(&hearth, room).await, [1, 2, 3, 4, 5], "{room}");
    }
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(kept(&hearth, "brief:1").await, [0; 0], "its time is over");
    // No ids are remembered there.
    assert_eq!(ann.publish("brief:1", "brief:1 1").await, 6);
    assert_eq!(ann.publish("else:1", "else:1 1").await, 1);
    // A replay offers no more than is kept.
    assert_eq!(ann.join("short:1", json!({"history": 50})).await["replayed"], 3);
    let long = "x".repeat(100);
    for (room, id, code) in [("short:1", "a", Some("invalid_argument")), ("else:1", "b", None)] {
        let sent = json!({"type": "text", "id": id, "room": room, "data": {"t": long}});
        assert_eq!(ann.ask(sent).await["data"]["code"].as_str(), code, "{room}");
        let body = json!({"data": {"t": long}}).to_string();
        let answer = http::send(hearth.http(), "POST", &format!("/rooms/{room}/messages"), &[], &body).await;
        assert_eq!(answer.status, if code.is_some() { 400 } else { 200 }, "{room}: {answer:?}");
    }
    let meta = json!({"type": "presence", "id": "m", "room": "short:1", "data": {"meta": {"status": "far too much"}}});
    assert_eq!(ann.ask(meta).await["data"]["code"], "invalid_argument");
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let payload = grpc::json(&json!({"t": long}).to_string());
    let publish = v1::PublishRequest { room: "short:1".into(), payload, ..Default::default() };
    assert_eq!(rooms.publish(publish).await.unwrap_err().code(), Code::InvalidArgument);
}

/// Whom a room shows, and for how long.
#[tokio::test]
async fn presence_is_as_the_namespace_says() {
    let hearth = serve("presence", &["--presence-timeout", "60s"]).await;
    let mut watcher = Watcher::enter(hearth.http(), "crowd:1", "ann").await;
    let (bob, _) = Client::enter(hearth.http(), "/ws/crowd:1?user=bob").await;
    watcher.until("a number", |view| view.count() == Some(2)).await;
    bob.cut();
    // Long before a minute is over.
    watcher.until("names again", |view| view.count().is_none() && view.users() == ["ann"]).await;
    let mut other = Watcher::enter(hearth.http(), "else:1", "ann").await;
    let (carl, _) = Client::enter(hearth.http(), "/ws/else:1?user=carl").await;
    other.until_online(&["ann", "carl"]).await;
    carl.cut();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(http::get(hearth.http(), "/rooms/else:1/presence", &[]).await.body.matches("carl").count(), 1);
}

/// What a token that names no rooms allows, at each door; one that does, and a service, are not bound by it.
#[tokio::test]
async fn a_namespace_allows_what_a_token_does_not_name() {
    let hearth = serve("allow", &["--jwt-hs256-secret", SECRET]).await;
    let rules = json!({"rooms": [{"match": "news:*", "allow": ["publish"]}]});
    let (plain, ruled) = (token::of("ann"), token::with("ann", &rules));
    let service = token::with("press", &json!({"service": true}));
    let mut ann = Client::connect(hearth.http(), &format!("/ws?token={plain}")).await;
    ann.join("news:1", json!({})).await;
    let text = |id: &str, room: &str| json!({"type": "text", "id": id, "room": room, "data": {}});
    assert_eq!(ann.ask(text("a", "news:1")).await["data"]["code"], "permission_denied");
    assert_eq!(ann.ask(text("b", "chat:1")).await["data"]["status"], "delivered");
    assert_eq!(ann.ask(text("c", "news")).await["data"]["status"], "delivered", "no namespace of that name");
    for (token, publishes, reads) in [(&plain, 403, 200), (&ruled, 200, 403), (&service, 200, 200)] {
        let header = format!("Authorization: Bearer {token}");
        let (door, target, headers) = (hearth.http(), "/rooms/news:1/messages", [header.as_str()]);
        assert_eq!(http::send(door, "POST", target, &headers, r#"{"data":{}}"#).await.status, publishes);
        assert_eq!(http::get(door, target, &headers).await.status, reads);
    }
    let mut rooms = RoomServiceClient::new(channel(hearth.grpc()).await);
    for (token, code) in [(&plain, Some(Code::PermissionDenied)), (&service, None)] {
        let mut request = tonic::Request::new(v1::PublishRequest {
            room: "news:1".into(),
            payload: grpc::json("{}"),
            ..Default::default()
        });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let answer = within("an answer to Publish", rooms.publish(request)).await;
        assert_eq!(answer.err().map(|status| status.code()), code);
    }
}

/// In dev mode, too; who speaks gRPC there is a service.
#[tokio::test]
async fn in_dev_mode_namespaces_bind_browsers() {
    let hearth = serve("dev", &[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let sent = json!({"type": "text", "id": "a", "room": "news:1", "data": {}});
    assert_eq!(ann.ask(sent).await["data"]["code"], "permission_denied");
    let mut press = Session::connect(hearth.grpc(), "press").await;
    press.send("b", text("news:1", "{}")).await;
    assert!(matches!(press.answer("b").await, Frame::Ack(_)));
}
