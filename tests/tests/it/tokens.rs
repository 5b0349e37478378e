//! Tokens, at every door: who is let in, what it may do there, and when that ends.
use hearth_proto::v1::{
    self, connect_request::Command, connect_response::Frame, presence_service_client::PresenceServiceClient,
    room_service_client::RoomServiceClient,
};
use hearth_tests::{
    client::{Client, Incoming, request},
    grpc::channel,
    http,
    process::{self, Hearth},
    sse::Stream,
    token::{self, SECRET},
    within,
};
use serde_json::{Value, json};
use std::{net::SocketAddr, process::Stdio};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tonic::{Code, Request, transport::Channel};

const KEY: [&str; 2] = ["--jwt-hs256-secret", SECRET];

async fn serve(flags: &[&str]) -> Hearth {
    Hearth::serve(&[&KEY, flags].concat()).await
}

/// A socket with a header of one's own.
async fn open_with(http: SocketAddr, target: &str, name: &'static str, value: &str) -> Client {
    let mut request = request(http, target);
    request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    Client::shake(TcpStream::connect(http).await.unwrap(), request).await.unwrap()
}

/// What a socket is told first: its user, or how it is closed.
async fn verdict(client: &mut Client) -> String {
    match client.receive().await {
        Incoming::Frame(frame) if frame["data"]["event"] == "welcome" => {
            format!("welcome {}", frame["data"]["user"].as_str().unwrap())
        }
        Incoming::Closed(code, reason) => format!("{code} {reason}"),
        other => panic!("{other:?}"),
    }
}

fn call<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// Every way to bring a token, and every fault of one: what each door answers.
#[tokio::test]
async fn every_fault_at_every_door() {
    // More are refused here than one address may guess.
    let flags = ["--jwt-audience", "hearth", "--jwt-issuer", "us", "--max-refused-tokens", "0"];
    let hearth = serve(&flags).await;
    let (http, grpc) = (hearth.http(), channel(hearth.grpc()).await);
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = json!({"sub": "ann", "exp": token::now() + 3600.0, "aud": "hearth", "iss": "us"});
        change(&mut claims);
        claims
    };
    let good = claims(&|_| {});
    let hs256 = json!({"alg": "HS256"});
    let signed = |change: &dyn Fn(&mut Value)| token::signed(&claims(change));
    let rows: Vec<(&str, String)> = vec![
        ("good", token::signed(&good)),
        ("none at all", String::new()),
        ("no token", "garbage".into()),
        ("another secret", token::signed_with("another", &hs256, &good)),
        ("alg none", {
            let unsigned = token::signed_with("", &json!({"alg": "none"}), &good);
            unsigned.rsplit_once('.').unwrap().0.to_owned() + "."
        }),
        ("alg HS512", token::signed_with(SECRET, &json!({"alg": "HS512"}), &good)),
        ("alg RS256", token::signed_with(SECRET, &json!({"alg": "RS256"}), &good)),
        ("expired", signed(&|claims| claims["exp"] = json!(token::now() - 6.0))),
        ("no exp", signed(&|claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("exp a string", signed(&|claims| claims["exp"] = json!("9999999999"))),
        ("not yet", signed(&|claims| claims["nbf"] = json!(token::now() + 60.0))),
        ("no sub", signed(&|claims| drop(claims.as_object_mut().unwrap().remove("sub")))),
        ("another audience", signed(&|claims| claims["aud"] = json!("others"))),
        ("another issuer", signed(&|claims| claims["iss"] = json!("them"))),
        ("too long", signed(&|claims| claims["pad"] = json!("x".repeat(9000)))),
    ];
    let doors = [
        "ws ?token",
        "ws header",
        "ws protocol",
        "ws auth",
        "sse",
        "poll",
        "rest",
        "ticket",
        "call",
        "Connect",
    ];
    let mut table = format!("{:18}", "token");
    doors.iter().for_each(|door| table.push_str(&format!(" {door:>21}")));
    for (fault, token) in &rows {
        let (query, header) = (format!("?token={token}"), format!("Authorization: Bearer {token}"));
        let headers: &[&str] = if token.is_empty() { &[] } else { &[&header] };
        let query = if token.is_empty() { "" } else { &*query };
        let mut seen = Vec::new();
        seen.push(verdict(&mut Client::open(http, &format!("/ws/r{query}")).await).await);
        let bearer = format!("Bearer {token}");
        let mut by_header = match token.is_empty() {
            true => Client::open(http, "/ws/r").await,
            false => open_with(http, "/ws/r", "authorization", &bearer).await,
        };
        seen.push(verdict(&mut by_header).await);
        let protocols = format!("hearth.v1.json, bearer.{token}");
        seen.push(verdict(&mut open_with(http, "/ws/r", "sec-websocket-protocol", &protocols).await).await);
        let mut by_frame = Client::open(http, "/ws").await;
        by_frame.send(json!({"type": "auth", "id": "a", "data": {"token": token}})).await;
        seen.push(verdict(&mut by_frame).await);
        let stream = Stream::open(http, &format!("/events/r{query}")).await;
        seen.push(stream.status.to_string());
        let poll = http::get(http, "/poll/r?timeout=0", headers).await;
        seen.push(poll.status.to_string());
        seen.push(http::get(http, "/rooms/r/messages", headers).await.status.to_string());
        seen.push(http::send(http, "POST", "/tickets", headers, "").await.status.to_string());
        let mut rooms = RoomServiceClient::new(grpc.clone());
        let list = v1::ListMessagesRequest { room: "r".into(), ..Default::default() };
        let listed = rooms.list_messages(call(list, token)).await;
        seen.push(listed.err().map_or_else(|| "Ok".into(), |status| format!("{:?}", status.code())));
        let connected = rooms.connect(call(tokio_stream::pending(), token)).await;
        seen.push(connected.err().map_or_else(|| "Ok".into(), |status| format!("{:?}", status.code())));
        table.push_str(&format!("\n{fault:18}"));
        seen.iter().for_each(|seen| table.push_str(&format!(" {seen:>21}")));
        let expected: Vec<String> = doors
            .iter()
            .enumerate()
            .map(|(at, _)| match (*fault, at) {
                ("good", 0..=3) => "welcome ann".into(),
                ("good", 4..=7) => "200".into(),
                ("good", _) => "Ok".into(),
                // A request's head of more than 16 KiB never comes this far; this one does.
                (_, 0..=3) => "1008 unauthenticated".into(),
                (_, 4..=7) => "401".into(),
                _ => "Unauthenticated".into(),
            })
            .collect();
        assert_eq!(seen, expected, "{fault}\n{table}");
    }
    eprintln!("{table}");
}

/// A token's user is who one is, whatever the URL says; a message that is sent behind the token waits for it.
#[tokio::test]
async fn who_one_is_the_token_says() {
    let hearth = serve(&[]).await;
    let target = format!("/ws/r?user=eve&token={}", token::of("ann"));
    let (mut ann, _) = Client::enter(hearth.http(), &target).await;
    assert_eq!(ann.user, "ann");
    ann.publish("r", "m").await;
    assert_eq!(ann.next().await["data"]["author"], "ann");

    let mut bob = Client::open(hearth.http(), "/ws").await;
    bob.send(json!({"type": "auth", "id": "a", "data": {"token": token::of("bob")}})).await;
    bob.send(json!({"type": "join", "id": "j", "room": "r"})).await;
    assert_eq!(verdict(&mut bob).await, "welcome bob");
    let ack = bob.next().await;
    assert_eq!((&ack["type"], &ack["id"]), (&json!("ack"), &json!("a")), "{ack}");
    assert!(ack["data"]["expires_at"].as_f64().is_some_and(|end| end > token::now()), "{ack}");
    assert_eq!(bob.answer("j").await["data"]["event"], "joined");

    let mut early = Client::open(hearth.http(), "/ws").await;
    early.send(json!({"type": "join", "id": "j", "room": "r"})).await;
    assert_eq!(verdict(&mut early).await, "1008 unauthenticated", "first it says who it is");
}

/// What a token allows is allowed, at each door alike, and nothing else is.
#[tokio::test]
async fn permissions_hold_at_every_door() {
    let hearth = serve(&[]).await;
    let http = hearth.http();
    let rules = json!({"rooms": [
        {"match": "chat:*", "allow": ["join", "publish"]},
        {"match": "news", "allow": ["join", "history", "presence"]},
    ]});
    let ann = token::with("ann", &rules);
    let (mut client, _) = Client::attend(http, &format!("/ws/chat:1?token={ann}")).await;
    assert_eq!(client.publish("chat:1", "m").await, 1);
    assert_eq!(client.next().await["seq"], 1, "no state came: it may not see who is online");
    let denied = async |client: &mut Client, command: Value| {
        let answer = client.ask(command).await;
        assert_eq!(answer["data"]["code"], "permission_denied", "{answer}");
    };
    denied(&mut client, json!({"type": "join", "id": "1", "room": "lobby"})).await;
    denied(&mut client, json!({"type": "join", "id": "2", "room": "chat:2", "data": {"history": 5}})).await;
    denied(&mut client, json!({"type": "history", "id": "3", "room": "chat:1"})).await;
    denied(&mut client, json!({"type": "signal", "id": "4", "room": "chat:1", "data": {}})).await;
    denied(&mut client, json!({"type": "typing", "id": "5", "room": "chat:1", "data": {"active": true}}))
        .await;
    denied(&mut client, json!({"type": "text", "id": "6", "room": "news", "data": {}})).await;
    denied(&mut client, json!({"type": "system", "id": "7", "room": "chat:1", "data": {}})).await;
    denied(&mut client, json!({"type": "presence", "id": "8", "room": "chat:1", "data": {"meta": {}}})).await;
    assert_eq!(client.join("news", json!({"history": 5})).await["event"], "joined");
    let state = client.find(|frame| frame["type"] == "presence").await;
    assert_eq!((&state["room"], &state["data"]["event"]), (&json!("news"), &json!("state")));

    let bearer = format!("Authorization: Bearer {ann}");
    let status = async |method: &str, target: &str, body: &str| {
        http::send(http, method, target, &[&bearer], body).await.status
    };
    assert_eq!(status("POST", "/rooms/chat:1/messages", r#"{"data":{}}"#).await, 200);
    assert_eq!(status("POST", "/rooms/news/messages", r#"{"data":{}}"#).await, 403);
    assert_eq!(status("GET", "/rooms/chat:1/messages", "").await, 403);
    assert_eq!(status("GET", "/rooms/news/messages", "").await, 200);
    assert_eq!(status("GET", "/rooms/chat:1/presence", "").await, 403);
    assert_eq!(status("GET", "/rooms/news/presence", "").await, 200);
    assert_eq!(status("GET", "/poll/lobby?timeout=0", "").await, 403);
    let both = http::get(http, "/poll?room=lobby&room=news&timeout=0", &[&bearer]).await;
    assert_eq!(both.status, 200, "one of them is open: {}", both.body);
    assert_eq!(Stream::open(http, &format!("/events/lobby?token={ann}")).await.status, 403);

    let grpc = channel(hearth.grpc()).await;
    let mut rooms = RoomServiceClient::new(grpc.clone());
    let publish = |room: &str| {
        let payload = Some(v1::Payload { data: Some(v1::payload::Data::Json("{}".into())) });
        call(v1::PublishRequest { room: room.into(), payload, ..Default::default() }, &ann)
    };
    assert!(rooms.publish(publish("chat:1")).await.is_ok());
    assert_eq!(rooms.publish(publish("news")).await.unwrap_err().code(), Code::PermissionDenied);
    let listed = rooms.list_rooms(call(v1::ListRoomsRequest::default(), &ann)).await;
    assert_eq!(listed.unwrap_err().code(), Code::PermissionDenied, "the names of all rooms are for services");
    let watch = v1::WatchRequest { room: "lobby".into(), ..Default::default() };
    assert_eq!(rooms.watch(call(watch, &ann)).await.unwrap_err().code(), Code::PermissionDenied);
    let mut presence = PresenceServiceClient::new(grpc);
    let list = |room: &str| call(v1::ListPresenceRequest { room: room.into(), ..Default::default() }, &ann);
    assert!(presence.list_presence(list("news")).await.is_ok());
    assert_eq!(presence.list_presence(list("chat:1")).await.unwrap_err().code(), Code::PermissionDenied);
}

/// A service speaks in others' names, to personal rooms and as the system; nobody else does.
#[tokio::test]
async fn services() {
    let hearth = serve(&[]).await;
    let bot = token::with("bot", &json!({"service": true}));
    let (mut ann, _) = Client::enter(hearth.http(), &format!("/ws/~ann?token={}", token::of("ann"))).await;
    let (mut client, _) = Client::enter(hearth.http(), &format!("/ws/lobby?token={bot}")).await;
    let told = client.ask(json!({"type": "system", "id": "1", "room": "~ann", "data": {"hello": 1}})).await;
    assert_eq!(told["data"]["status"], "delivered", "{told}");
    let heard = ann.next().await;
    assert_eq!(
        (&heard["type"], &heard["seq"], &heard["data"]["author"]),
        (&json!("system"), &json!(1), &json!("bot"))
    );

    let mut rooms = RoomServiceClient::new(channel(hearth.grpc()).await);
    let publish = |token: &str, user: &'static str| {
        let payload = Some(v1::Payload { data: Some(v1::payload::Data::Json("{}".into())) });
        let mut request =
            call(v1::PublishRequest { room: "~ann".into(), payload, ..Default::default() }, token);
        request.metadata_mut().insert("user", user.parse().unwrap());
        request
    };
    rooms.publish(publish(&bot, "carol")).await.unwrap();
    assert_eq!(ann.next().await["data"]["author"], "carol");
    let refused = rooms.publish(publish(&token::of("eve"), "carol")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// A token's end ends the session, with a warning before: on a socket by 4001, on a stream by a last word.
#[tokio::test]
async fn a_session_ends_with_its_token() {
    let hearth = serve(&[]).await;
    let end = token::now() + 1.5;
    let short = token::signed(&json!({"sub": "ann", "exp": end}));
    let mut ann = Client::connect(hearth.http(), &format!("/ws/r?token={short}")).await;
    let mut stream = Stream::open(hearth.http(), &format!("/events/r?token={short}")).await;
    let mut rooms = RoomServiceClient::new(channel(hearth.grpc()).await);
    let mut service = rooms.connect(call(tokio_stream::pending(), &short)).await.unwrap().into_inner();
    let warning = ann.find(|frame| frame["data"]["event"] == "token_expiring").await;
    assert!((warning["data"]["expires_at"].as_f64().unwrap() - end).abs() < 0.001, "{warning}");
    assert_eq!(ann.closed().await, (4001, "token_expired".into()));
    assert!(token::now() >= end - 0.05, "not before its end");
    let told = stream.rest().await;
    assert!(told.last().is_some_and(|last| last.tells("token_expired")), "{told:?}");
    let ended = within("the end of the stream", async {
        loop {
            match service.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a reason"),
                Err(status) => return status,
            }
        }
    });
    assert_eq!(ended.await.code(), Code::Unauthenticated);
    let poll =
        http::get(hearth.http(), "/poll/r?timeout=0", &[&format!("Authorization: Bearer {short}")]).await;
    assert_eq!(poll.status, 200, "clocks may differ by five seconds");
}

/// Another token of the same user goes on; another user's does not, and what it does not allow is left.
#[tokio::test]
async fn a_token_is_replaced() {
    let hearth = serve(&[]).await;
    let short = token::signed(&json!({"sub": "ann", "exp": token::now() + 4.0}));
    let mut ann = Client::connect(hearth.http(), &format!("/ws/a?token={short}")).await;
    ann.find(|frame| frame["data"]["event"] == "joined").await;
    ann.join("b", json!({})).await;
    let foreign = ann.ask(json!({"type": "auth", "id": "1", "data": {"token": token::of("eve")}})).await;
    assert_eq!(foreign["data"]["code"], "permission_denied", "{foreign}");
    let garbage = ann.ask(json!({"type": "auth", "id": "2", "data": {"token": "x"}})).await;
    assert_eq!(garbage["data"]["code"], "unauthenticated", "{garbage}");
    let narrow =
        token::with("ann", &json!({"rooms": [{"match": "a", "allow": ["join", "publish", "presence"]}]}));
    ann.send(json!({"type": "auth", "id": "3", "data": {"token": narrow}})).await;
    let frames = ann.until(|frame| frame["id"] == "3").await;
    let left = frames.iter().find(|frame| frame["data"]["event"] == "left").expect("it is put out of b");
    assert_eq!(left["room"], "b");
    let ack = frames.last().unwrap();
    assert!(ack["data"]["expires_at"].as_f64().is_some_and(|end| end > token::now() + 60.0), "{ack}");
    // Beyond the first token's end.
    let mut beside = Client::open(hearth.http(), &format!("/ws?token={short}")).await;
    assert_eq!(within("its end", beside.closed()).await, (4001, "token_expired".into()));
    assert_eq!(ann.publish("a", "still here").await, 1);
    let denied = ann.ask(json!({"type": "text", "id": "4", "room": "b", "data": {}})).await;
    assert_eq!(denied["data"]["code"], "permission_denied");

    let mut rooms = RoomServiceClient::new(channel(hearth.grpc()).await);
    let (send, requests) = tokio::sync::mpsc::channel(4);
    let short = token::signed(&json!({"sub": "bob", "exp": token::now() + 5.0}));
    let mut service = rooms.connect(call(ReceiverStream::new(requests), &short)).await.unwrap().into_inner();
    let auth = Command::Auth(v1::Auth { token: token::of("bob") });
    send.send(v1::ConnectRequest { id: "a".into(), command: Some(auth) }).await.unwrap();
    let acked = within("the ack", async {
        loop {
            let response = service.message().await.unwrap().unwrap();
            if let Some(Frame::Ack(ack)) = response.frame {
                return ack;
            }
        }
    });
    let end = acked.await.expires_at.expect("when it ends").seconds as f64;
    assert!(end > token::now() + 60.0);
}

/// A cursor is no secret: with another token it is the positions alone that it gives.
#[tokio::test]
async fn a_polled_session_is_its_tokens() {
    let hearth = serve(&[]).await;
    let poll = async |token: &str, cursor: &str| {
        let target = format!("/poll/r?timeout=0&cursor={cursor}");
        let answer = http::get(hearth.http(), &target, &[&format!("Authorization: Bearer {token}")]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    let (ann, eve) = (token::of("ann"), token::of("eve"));
    let begun = poll(&ann, "").await;
    let cursor = begun["cursor"].as_str().unwrap();
    poll(&eve, cursor).await;
    let online =
        http::get(hearth.http(), "/rooms/r/presence", &[&format!("Authorization: Bearer {ann}")]).await;
    let online: Value = serde_json::from_str(&online.body).unwrap();
    let mut users: Vec<&str> =
        online["online"].as_array().unwrap().iter().map(|one| one["user"].as_str().unwrap()).collect();
    users.sort_unstable();
    assert_eq!(users, ["ann", "eve"], "eve has a session of her own");
}

/// An edge shows that it is one; what it says of its sessions would otherwise be anybody's to say.
#[tokio::test]
async fn edges_are_let_in_by_the_link_token() {
    let core = Hearth::core(&[&KEY[..], &["--link-token", "between-us"]].concat()).await;
    let edge = Hearth::edge(core.grpc(), &["--link-token", "between-us"]).await;
    let target = format!("/ws/r?token={}", token::of("ann"));
    let (ann, _) = Client::enter(edge.http(), &target).await;
    assert_eq!(ann.user, "ann");
    assert_eq!(verdict(&mut Client::open(edge.http(), "/ws/r?user=ann").await).await, "1008 unauthenticated");
    for flags in [&["--link-token", "guessed"][..], &[]] {
        let stranger = Hearth::edge(core.grpc(), flags).await;
        let refused = within("the refusal", async {
            while !stranger.said().contains("link token") {
                tokio::task::yield_now().await;
                assert_ne!(
                    http::get(stranger.http(), "/readyz", &[]).await.status,
                    200,
                    "it is not attached"
                );
            }
        });
        refused.await;
    }
    let open = Hearth::core(&KEY).await;
    let grpc: Channel = channel(open.grpc()).await;
    let mut link = v1::link_service_client::LinkServiceClient::new(grpc);
    let refused = link.attach(Request::new(tokio_stream::pending())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "with tokens and no link token nobody is an edge");
}

/// Whoever came in while nobody asked for tokens has none to show when a core does.
#[tokio::test]
async fn who_came_in_without_a_token_goes_when_one_is_asked_for() {
    let address = process::lasting_address();
    let mut core = Hearth::core(&["--grpc", &address, "--link-token", "between-us"]).await;
    let edge = Hearth::edge(core.grpc(), &["--link-token", "between-us"]).await;
    let (mut eve, _) = Client::enter(edge.http(), "/ws/r?user=admin").await;
    core.kill();
    let strict = [&KEY[..], &["--grpc", &address, "--link-token", "between-us"]].concat();
    let _core = Hearth::core(&strict).await;
    assert_eq!(eve.closed().await, (4001, "token_expired".into()));
}

/// A narrower token cuts a replay short, and what it does not allow is no longer shown.
#[tokio::test]
async fn a_narrower_token_ends_what_it_does_not_allow() {
    let hearth = serve(&[]).await;
    let mut rooms = RoomServiceClient::new(channel(hearth.grpc()).await);
    let bot = token::with("bot", &json!({"service": true}));
    let text = "x".repeat(30_000);
    for _ in 0..60 {
        let payload =
            Some(v1::Payload { data: Some(v1::payload::Data::Json(json!({"text": text}).to_string())) });
        let publish = v1::PublishRequest { room: "long".into(), payload, ..Default::default() };
        rooms.publish(call(publish, &bot)).await.unwrap();
    }
    let narrow = token::with("ann", &json!({"rooms": [{"match": "other", "allow": ["join"]}]}));
    let (send, requests) = tokio::sync::mpsc::channel(8);
    let connect = call(ReceiverStream::new(requests), &token::of("ann"));
    let mut ann = rooms.connect(connect).await.unwrap().into_inner();
    let history = Command::Join(v1::Join { room: "long".into(), history: 60, ..Default::default() });
    for (id, command) in
        [("j", history), ("a", Command::Auth(v1::Auth { token: narrow })), ("p", Command::Ping(v1::Ping {}))]
    {
        send.send(v1::ConnectRequest { id: id.into(), command: Some(command) }).await.unwrap();
    }
    let mut behind_left = 0;
    let mut left = false;
    loop {
        let response = within("a frame", ann.message()).await.unwrap().unwrap();
        match response.frame {
            Some(Frame::Left(_)) => left = true,
            Some(Frame::Event(_)) if left => behind_left += 1,
            Some(Frame::Ack(_)) if response.id == "p" => break,
            _ => {}
        }
    }
    let more = tokio::time::timeout(std::time::Duration::from_millis(300), ann.message()).await;
    assert!(left && behind_left == 0 && more.is_err(), "left {left}, {behind_left} behind it, {more:?}");
}

/// Nobody is shown who is online without the permission, whatever it asks; and who loses it is out.
#[tokio::test]
async fn presence_is_shown_by_permission_alone() {
    let hearth = serve(&[]).await;
    let joins = token::with("ann", &json!({"rooms": [{"match": "*", "allow": ["join"]}]}));
    let mut presence = PresenceServiceClient::new(channel(hearth.grpc()).await);
    let (send, requests) = tokio::sync::mpsc::channel(4);
    let mut track = presence.track(call(ReceiverStream::new(requests), &joins)).await.unwrap().into_inner();
    let enter = v1::TrackEnter { room: "r".into(), ..Default::default() };
    let enter = v1::track_request::Command::Enter(enter);
    send.send(v1::TrackRequest { id: "e".into(), command: Some(enter) }).await.unwrap();
    let first = within("the ack", track.message()).await.unwrap().unwrap();
    assert!(matches!(first.frame, Some(v1::track_response::Frame::Ack(_))), "{first:?}");
    let watch = v1::WatchPresenceRequest { room: "r".into() };
    let refused = presence.watch_presence(call(watch, &joins)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let (mut bob, _) = Client::attend(hearth.http(), &format!("/ws/r?token={}", token::of("bob"))).await;
    let state = bob.find(|frame| frame["type"] == "presence").await;
    assert_eq!(state["data"]["online"].as_array().map(Vec::len), Some(2), "ann is tracked: {state}");
    let more = tokio::time::timeout(std::time::Duration::from_millis(200), track.message()).await;
    assert!(more.is_err(), "ann is told of bob: {more:?}");
    let narrow = token::with("bob", &json!({"rooms": [{"match": "*", "allow": ["join"]}]}));
    bob.send(json!({"type": "auth", "id": "a", "data": {"token": narrow}})).await;
    let frames = bob.until(|frame| frame["id"] == "a").await;
    assert!(
        frames.iter().any(|frame| frame["data"]["event"] == "left" && frame["room"] == "r"),
        "{frames:?}"
    );
}

/// A client that never pauses, or never reads, ends with its token too.
#[tokio::test]
async fn a_busy_stream_ends_with_its_token() {
    let hearth = serve(&["--rate-limit", "0"]).await;
    let short = token::signed(&json!({"sub": "ann", "exp": token::now() + 1.0}));
    let mut rooms = RoomServiceClient::new(channel(hearth.grpc()).await);
    let (send, requests) = tokio::sync::mpsc::channel(64);
    let mut ann = rooms.connect(call(ReceiverStream::new(requests), &short)).await.unwrap().into_inner();
    let busy = tokio::spawn(async move {
        let ask = || v1::History { room: "r".into(), ..Default::default() };
        while send
            .send(v1::ConnectRequest { id: "h".into(), command: Some(Command::History(ask())) })
            .await
            .is_ok()
        {}
    });
    let status = within("its end", async {
        loop {
            if let Err(status) = ann.message().await {
                return status;
            }
        }
    });
    assert_eq!(status.await.code(), Code::Unauthenticated);
    busy.abort();
}

/// What comes behind the token is heard when it is let in, however it was cut into pieces.
#[tokio::test]
async fn what_is_said_behind_the_token_is_not_lost() {
    let hearth = serve(&[]).await;
    let mut bob = Client::open(hearth.http(), "/ws").await;
    bob.send(json!({"type": "auth", "id": "a", "data": {"token": token::of("bob")}})).await;
    for n in 0..200 {
        let data = json!({"n": n, "pad": "x".repeat(700)});
        bob.send(json!({"type": "text", "id": format!("m{n}"), "room": "r", "data": data})).await;
    }
    for n in 0..200 {
        assert_eq!(bob.answer(&format!("m{n}")).await["data"]["seq"], n + 1);
    }
}

/// `hearth token` makes what the server takes, by a secret and by a private key.
#[tokio::test]
async fn the_command_line_makes_tokens() {
    let mint = |args: &[&str]| {
        let output = process::command().arg("token").args(args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), said.trim().to_owned(), String::from_utf8(output.stderr).unwrap())
    };
    let hearth = serve(&[]).await;
    let (made, token, _) = mint(&["ann", KEY[0], KEY[1], "--allow", "chat:*=join,publish", "--for", "10m"]);
    assert!(made);
    let (mut ann, _) = Client::enter(hearth.http(), &format!("/ws/chat:1?token={token}")).await;
    assert_eq!(ann.user, "ann");
    assert_eq!(ann.publish("chat:1", "m").await, 1);
    for bad in [
        &["ann"][..],
        &["a\nb", KEY[0], KEY[1]],
        &["ann", KEY[0], KEY[1], "--allow", "chat:*"],
        &["ann", KEY[0], KEY[1], "--allow", "chat:*=fly"],
        &["ann", "--private-key", "/nowhere"],
    ] {
        let (made, said, error) = mint(bad);
        assert!(!made && said.is_empty() && !error.is_empty(), "{bad:?}");
    }
}

/// Nothing that is secret is written down, whatever is logged.
#[tokio::test]
async fn no_secret_reaches_a_log() {
    let core = Hearth::core(&[&KEY[..], &["--link-token", "between-us", "--log", "trace"]].concat()).await;
    let edge = Hearth::edge(core.grpc(), &["--link-token", "between-us", "--log", "trace"]).await;
    let token = token::of("ann");
    let (mut ann, _) = Client::enter(edge.http(), &format!("/ws/r?token={token}")).await;
    ann.ask(json!({"type": "auth", "id": "1", "data": {"token": token}})).await;
    open_with(edge.http(), "/ws/r", "authorization", &format!("Bearer {token}")).await;
    http::get(edge.http(), &format!("/rooms/r/messages?token={token}"), &[]).await;
    http::get(edge.http(), &format!("/poll/r?timeout=0&token={token}"), &[]).await;
    drop(Stream::open(edge.http(), &format!("/events/r?token={token}")).await);
    let mut rooms = RoomServiceClient::new(channel(core.grpc()).await);
    let list = v1::ListMessagesRequest { room: "r".into(), ..Default::default() };
    rooms.list_messages(call(list, &token)).await.unwrap();
    let made = http::send(edge.http(), "POST", &format!("/tickets?token={token}"), &[], "").await;
    let made: Value = serde_json::from_str(&made.body).unwrap();
    let ticket = made["ticket"].as_str().unwrap();
    Client::enter(edge.http(), &format!("/ws/r?token={ticket}")).await;
    http::get(edge.http(), &format!("/poll/r?timeout=0&token={ticket}"), &[]).await;
    ann.publish("r", "the last").await;
    for process in [&core, &edge] {
        let said = process.said();
        assert!(said.contains("TRACE"), "it logs: {said}");
        let signature = token.rsplit_once('.').unwrap().1;
        let signed = ticket.rsplit_once('.').unwrap().1;
        for secret in [&*token, signature, ticket, signed, SECRET, "between-us"] {
            let at = said.find(secret).map(|at| &said[at.saturating_sub(200)..at]);
            assert_eq!(at, None, "a secret stands behind this");
        }
    }
    let output = process::command().args(["check-config", KEY[0], KEY[1]]).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains(SECRET));
}
