//! What administrators do: users disconnected, tokens revoked, rooms closed. Over all doors, by services alone.
use hearth_proto::v1::{
    self, CloseRoomRequest, DisconnectUserRequest, GetStatsRequest, RevokeTokenRequest,
    admin_service_client::AdminServiceClient, connect_request::Command, connect_response::Frame,
    revoke_token_request::Token, room_service_client::RoomServiceClient,
};
use hearth_tests::{
    client::{Client, Incoming},
    eventually,
    grpc::{self, channel},
    http,
    presence::Watcher,
    process::Hearth,
    sse::Stream,
    token::{self, SECRET},
    within,
};
use prost::Message as _;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

fn signed<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A service with its token, to whom everything is open.
struct Operator {
    token: String,
    admin: AdminServiceClient<Channel>,
}

impl Operator {
    async fn of(grpc: SocketAddr) -> Operator {
        let token = token::with("ops", &json!({"service": true}));
        Operator { token, admin: AdminServiceClient::new(channel(grpc).await) }
    }

    async fn disconnect(&mut self, user: &str) -> u64 {
        let request = signed(&self.token, DisconnectUserRequest { user: user.into() });
        let answer = within("an answer to DisconnectUser", self.admin.disconnect_user(request)).await;
        answer.unwrap().into_inner().disconnected
    }

    async fn revoke(&mut self, token: Token) -> Result<u64, Status> {
        let request = RevokeTokenRequest { token: Some(token), expires_at: None };
        let request = signed(&self.token, request);
        let answer = within("an answer to RevokeToken", self.admin.revoke_token(request)).await;
        answer.map(|answer| answer.into_inner().disconnected)
    }

    async fn close(&mut self, room: &str) -> Result<v1::Position, Status> {
        let request = signed(&self.token, CloseRoomRequest { room: room.into() });
        let answer = within("an answer to CloseRoom", self.admin.close_room(request)).await;
        answer.map(|answer| answer.into_inner().position.unwrap())
    }

    async fn stats(&mut self) -> v1::GetStatsResponse {
        let request = signed(&self.token, GetStatsRequest {});
        within("an answer to GetStats", self.admin.get_stats(request)).await.unwrap().into_inner()
    }
}

/// A Connect stream of a token's user, in one room. The sender is its side of the stream.
async fn connect(
    grpc: SocketAddr,
    token: &str,
    room: &str,
) -> (tokio::sync::mpsc::Sender<v1::ConnectRequest>, Streaming<v1::ConnectResponse>) {
    let (send, receive) = tokio::sync::mpsc::channel(8);
    let mut rooms = RoomServiceClient::new(channel(grpc).await);
    let frames = rooms.connect(signed(token, ReceiverStream::new(receive)));
    let mut frames = within("Connect", frames).await.unwrap().into_inner();
    let join = v1::Join { room: room.into(), presence: Some(false), ..Default::default() };
    let join = v1::ConnectRequest { id: "j".into(), command: Some(Command::Join(join)) };
    send.send(join).await.unwrap();
    loop {
        let frame = within("joined", frames.message()).await.unwrap().unwrap();
        if matches!(frame.frame, Some(Frame::Joined(_))) {
            return (send, frames);
        }
    }
}

/// The status with which a stream ends.
async fn status_of<T>(frames: &mut Streaming<T>) -> Status {
    loop {
        match within("the stream's end", frames.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a reason"),
            Err(status) => return status,
        }
    }
}

fn named(user: &str, jti: &str) -> String {
    token::signed(&json!({"sub": user, "exp": token::now() + 3600.0, "iat": token::now() - 5.0, "jti": jti}))
}

async fn serve() -> Hearth {
    Hearth::serve(&["--jwt-hs256-secret", SECRET, "--presence-timeout", "60s"]).await
}

/// All sessions of a user end at once, wherever they came in, in each transport's words; nobody else notices but that the user has left.
#[tokio::test]
async fn a_user_is_disconnected_over_every_door() {
    let hearth = serve().await;
    let (http, grpc) = (hearth.http(), hearth.grpc());
    let (ann, bob) = (token::of("ann"), token::of("bob"));
    let (mut socket, _) = Client::enter(http, &format!("/ws/r?token={ann}")).await;
    let mut second = Client::open(http, &format!("/ws?token={ann}")).await;
    second.join("r", json!({})).await;
    let mut stream = Stream::open(http, &format!("/events/r?token={ann}")).await;
    within("joined", stream.until(|event| event.tells("joined"))).await;
    let (_side, mut frames) = connect(grpc, &ann, "r").await;
    let mut rooms = RoomServiceClient::new(channel(grpc).await);
    let watch = v1::WatchRequest { room: "r".into(), ..Default::default() };
    let mut watched = rooms.watch(signed(&ann, watch)).await.unwrap().into_inner();
    let mut bob = Watcher::of(Client::attend(http, &format!("/ws/r?token={bob}")).await.0, "r").await;
    bob.until_online(&["ann", "bob"]).await;
    let mut ops = Operator::of(grpc).await;
    assert_eq!(ops.disconnect("ann").await, 5);
    assert_eq!(socket.closed().await, (4003, "kicked".to_owned()));
    assert_eq!(second.closed().await, (4003, "kicked".to_owned()));
    let last = within("the end", stream.rest()).await;
    let error = &last.last().unwrap().data;
    assert_eq!(
        (error["type"].as_str(), error["data"]["code"].as_str()),
        (Some("error"), Some("permission_denied"))
    );
    for status in [status_of(&mut frames).await, status_of(&mut watched).await] {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    // It has left: no grace, although the timeout is a minute.
    bob.until_online(&["bob"]).await;
    assert_eq!(ops.disconnect("ann").await, 0);
    // The token is still good: to keep it away it is revoked.
    let (mut back, _) = Client::enter(http, &format!("/ws/r?token={ann}")).await;
    back.publish("r", "m").await;
}

/// A waiting poll is answered at once, and its session is gone.
#[tokio::test]
async fn a_poll_is_ended_with_a_word() {
    let hearth = serve().await;
    let http = hearth.http();
    let header = format!("Authorization: Bearer {}", token::of("ann"));
    let first = http::get(http, "/poll/r", &[&header]).await;
    let cursor: Value = serde_json::from_str(&first.body).unwrap();
    let target = format!("/poll/r?timeout=30&cursor={}", cursor["cursor"].as_str().unwrap());
    let waiting = tokio::spawn(async move { http::get(http, &target, &[&header]).await });
    let mut ops = Operator::of(hearth.grpc()).await;
    eventually("the poll's session", async || (ops.disconnect("ann").await == 1).then_some(())).await;
    let answer = within("an answer", waiting).await.unwrap();
    assert!(answer.body.contains("permission_denied"), "{answer:?}");
}

/// A token that is revoked by its id lets nobody in and ends what it let in, at every door; another one of the same user is good.
#[tokio::test]
async fn a_token_is_revoked_by_its_id() {
    let hearth = serve().await;
    let (http, grpc) = (hearth.http(), hearth.grpc());
    let (leaked, other) = (named("ann", "leaked"), named("ann", "other"));
    let mut by_leaked = Client::open(http, &format!("/ws/r?token={leaked}")).await;
    let mut by_other = Client::open(http, &format!("/ws/r?token={other}")).await;
    for client in [&mut by_leaked, &mut by_other] {
        client.find(|frame| frame["data"]["event"] == "joined").await;
    }
    let mut stream = Stream::open(http, &format!("/events/r?token={leaked}")).await;
    within("joined", stream.until(|event| event.tells("joined"))).await;
    let (_side, mut frames) = connect(grpc, &leaked, "r").await;
    let mut ops = Operator::of(grpc).await;
    assert_eq!(ops.revoke(Token::TokenId("leaked".into())).await.unwrap(), 3);
    // It is as if its time were over: the client is to come back with another one.
    assert_eq!(by_leaked.closed().await, (4001, "token_expired".to_owned()));
    let last = within("the end", stream.rest()).await;
    assert!(last.last().unwrap().tells("token_expired"), "{last:?}");
    assert_eq!(status_of(&mut frames).await.code(), Code::Unauthenticated);
    let mut again = Client::open(http, &format!("/ws/r?token={leaked}")).await;
    assert_eq!(again.closed().await, (1008, "unauthenticated".to_owned()));
    let header = format!("Authorization: Bearer {leaked}");
    for target in ["/events/r", "/poll/r", "/rooms/r/messages", "/rooms/r/presence"] {
        assert_eq!(http::get(http, target, &[&header]).await.status, 401, "{target}");
    }
    let mut rooms = RoomServiceClient::new(channel(grpc).await);
    let publish = v1::PublishRequest { room: "r".into(), payload: grpc::json("{}"), ..Default::default() };
    let refused = rooms.publish(signed(&leaked, publish)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "the token has been revoked"));
    // The other one is not hurt, and cannot be exchanged for the one that was revoked.
    by_other.publish("r", "m").await;
    let exchanged = by_other.ask(json!({"type": "auth", "id": "x", "data": {"token": leaked}})).await;
    assert_eq!(exchanged["data"]["code"], "unauthenticated");
    by_other.publish("r", "n").await;
    assert_eq!(ops.revoke(Token::TokenId("leaked".into())).await.unwrap(), 0, "again changes nothing");
    assert_eq!(ops.stats().await.revocations, 1);
}

/// All that a user was issued so far is worthless; what it is issued later is not, and others' never was.
#[tokio::test]
async fn all_tokens_of_a_user_are_revoked() {
    let hearth = serve().await;
    let (http, grpc) = (hearth.http(), hearth.grpc());
    let (old, undated, bob) = (named("ann", "a"), token::of("ann"), token::of("bob"));
    let mut sockets = Vec::new();
    for token in [&old, &undated, &bob] {
        sockets.push(Client::enter(http, &format!("/ws/r?token={token}")).await.0);
    }
    let mut ops = Operator::of(grpc).await;
    assert_eq!(ops.revoke(Token::User("ann".into())).await.unwrap(), 2);
    for socket in &mut sockets[..2] {
        assert_eq!(socket.closed().await, (4001, "token_expired".to_owned()));
    }
    sockets[2].publish("r", "m").await;
    for token in [&old, &undated] {
        let mut again = Client::open(http, &format!("/ws/r?token={token}")).await;
        assert_eq!(again.closed().await, (1008, "unauthenticated".to_owned()));
    }
    // Clocks may differ by 5 s.
    tokio::time::sleep(Duration::from_millis(6100)).await;
    let (now, end) = (token::now().floor(), token::now() + 3600.0);
    let new = token::signed(&json!({"sub": "ann", "iat": now, "exp": end}));
    Client::enter(http, &format!("/ws/r?token={new}")).await.0.publish("r", "n").await;
}

/// A closed room puts everyone out and begins anew: no history, no ids, another epoch. Other rooms of the same sessions go on.
#[tokio::test]
async fn a_room_is_closed() {
    let hearth = serve().await;
    let (http, grpc) = (hearth.http(), hearth.grpc());
    let (ann, bob) = (token::of("ann"), token::of("bob"));
    let (mut ann_socket, joined) = Client::enter(http, &format!("/ws/r?token={ann}")).await;
    ann_socket.join("other", json!({"presence": false})).await;
    let mut stream = Stream::open(http, &format!("/events/r?token={bob}")).await;
    within("joined", stream.until(|event| event.tells("joined"))).await;
    let (side, mut frames) = connect(grpc, &ann, "r").await;
    let mut rooms = RoomServiceClient::new(channel(grpc).await);
    let watch = v1::WatchRequest { room: "r".into(), ..Default::default() };
    let mut watched = rooms.watch(signed(&ann, watch)).await.unwrap().into_inner();
    for n in 0..5 {
        ann_socket.publish("r", &format!("m{n}")).await;
    }
    let mut ops = Operator::of(grpc).await;
    let anew = ops.close("r").await.unwrap();
    assert_eq!(anew.seq, 0);
    assert_ne!(Some(anew.epoch.as_str()), joined["epoch"].as_str());
    let left = ann_socket.find(|frame| frame["data"]["event"] == "left").await;
    assert_eq!(left["room"], "r");
    within("left", stream.until(|event| event.tells("left"))).await;
    while !matches!(
        within("left", frames.message()).await.unwrap().unwrap().frame,
        Some(Frame::Left(left)) if left.room == "r"
    ) {}
    // A watch goes on where the room begins anew.
    loop {
        let step = within("joined anew", watched.message()).await.unwrap().unwrap();
        if let Some(v1::watch_response::Frame::Joined(joined)) = step.frame
            && joined.recovered == Some(false)
        {
            assert_eq!(joined.position.unwrap(), anew);
            break;
        }
    }
    let mut presence = v1::presence_service_client::PresenceServiceClient::new(channel(grpc).await);
    let list = v1::ListPresenceRequest { room: "r".into(), ..Default::default() };
    let listed = presence.list_presence(signed(&ann, list)).await.unwrap().into_inner();
    assert_eq!(listed.count, 0, "{listed:?}");
    // Not in it any more, and in the other one still.
    let refused = ann_socket.ask(json!({"type": "leave", "id": "l", "room": "r"})).await;
    assert_eq!(refused["data"]["code"], "failed_precondition");
    ann_socket.publish("other", "o").await;
    // Back with the old position: it is told that what it knows is not so any more; an id of before is a new message.
    let since = json!({"epoch": joined["epoch"], "seq": 5});
    let back = ann_socket.join("r", json!({"since": since, "history": 10})).await;
    assert_eq!(back["recovered"], false);
    assert_eq!((back["epoch"].as_str(), back["seq"].as_u64()), (Some(&*anew.epoch), Some(0)));
    assert_eq!(ann_socket.publish("r", "m0").await, 1);
    side.send(v1::ConnectRequest {
        id: "j".into(),
        command: Some(Command::Join(v1::Join { room: "r".into(), history: 9, ..Default::default() })),
    })
    .await
    .unwrap();
    loop {
        let frame = within("joined again", frames.message()).await.unwrap().unwrap();
        if let Some(Frame::Joined(joined)) = frame.frame {
            assert_eq!(joined.position.unwrap().seq, 1);
            break;
        }
    }
    assert_eq!(ops.close("nowhere").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(ops.close("no room").await.unwrap_err().code(), Code::InvalidArgument);
}

/// Only services may; what makes no sense is said to make none; what is known is told.
#[tokio::test]
async fn admin_calls_are_for_services_and_say_what_is_wrong() {
    let hearth = serve().await;
    let mut ops = Operator::of(hearth.grpc()).await;
    let (socket, _) = Client::enter(hearth.http(), &format!("/ws/r?token={}", token::of("ann"))).await;
    let stats = ops.stats().await;
    assert_eq!((stats.users, stats.sessions, stats.edges, stats.rooms), (1, 1, 1, 1), "{stats:?}");
    assert!(stats.engine.starts_with("memory:") && !stats.version.is_empty() && !stats.core.is_empty());
    drop(socket);
    let ann = token::of("ann");
    for (token, code) in [(ann.as_str(), Code::PermissionDenied), ("", Code::Unauthenticated)] {
        let mut admin = ops.admin.clone();
        let disconnect = DisconnectUserRequest { user: "bob".into() };
        assert_eq!(admin.disconnect_user(signed(token, disconnect)).await.unwrap_err().code(), code);
        let revoke = RevokeTokenRequest { token: Some(Token::User("bob".into())), expires_at: None };
        assert_eq!(admin.revoke_token(signed(token, revoke)).await.unwrap_err().code(), code);
        let close = CloseRoomRequest { room: "r".into() };
        assert_eq!(admin.close_room(signed(token, close)).await.unwrap_err().code(), code);
        assert_eq!(admin.get_stats(signed(token, GetStatsRequest {})).await.unwrap_err().code(), code);
    }
    let mut admin = ops.admin.clone();
    let past = Some(Default::default());
    for request in [
        RevokeTokenRequest::default(),
        RevokeTokenRequest { token: Some(Token::TokenId(String::new())), expires_at: None },
        RevokeTokenRequest { token: Some(Token::User("\n".into())), expires_at: None },
        RevokeTokenRequest { token: Some(Token::User("ann".into())), expires_at: past },
    ] {
        let refused = admin.revoke_token(signed(&ops.token, request.clone())).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
}

/// None is forgotten to make room for another.
#[tokio::test]
async fn revocations_are_bounded_and_say_so() {
    let flags = ["--jwt-hs256-secret", SECRET, "--revocations-max", "2"];
    let hearth = Hearth::serve(&flags).await;
    let mut ops = Operator::of(hearth.grpc()).await;
    for id in ["a", "b", "a"] {
        ops.revoke(Token::TokenId(id.into())).await.unwrap();
    }
    let full = ops.revoke(Token::TokenId("c".into())).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    let mut socket = Client::open(hearth.http(), &format!("/ws/r?token={}", named("ann", "a"))).await;
    assert_eq!(socket.closed().await, (1008, "unauthenticated".to_owned()));
}

/// A session that has lived through its core's end is held against revocations by the next core, too.
#[tokio::test]
async fn a_session_is_ended_on_an_edge_apart() {
    let flags = ["--jwt-hs256-secret", SECRET, "--link-token", "between-us"];
    let core = Hearth::core(&flags).await;
    let edge = Hearth::edge(core.grpc(), &["--link-token", "between-us"]).await;
    let (mut kicked, _) = Client::enter(edge.http(), &format!("/ws/r?token={}", named("ann", "a"))).await;
    let (mut revoked, _) = Client::enter(edge.http(), &format!("/ws/r?token={}", named("bob", "b"))).await;
    let (mut stays, _) = Client::enter(edge.http(), &format!("/ws/r?token={}", named("carl", "c"))).await;
    let mut ops = Operator::of(core.grpc()).await;
    assert_eq!(ops.disconnect("ann").await, 1);
    assert_eq!(kicked.closed().await, (4003, "kicked".to_owned()));
    assert_eq!(ops.revoke(Token::User("bob".into())).await.unwrap(), 1);
    assert_eq!(revoked.closed().await, (4001, "token_expired".to_owned()));
    stays.publish("r", "m").await;
    let gone = eventually("the others' leaves", async || {
        let stats = ops.stats().await;
        (stats.users == 1 && stats.sessions == 1).then_some(stats)
    });
    gone.await;
}

/// A user has as many sessions as one may have, however they came in; one more is turned away, and an end makes room.
#[tokio::test]
async fn sessions_per_user_are_limited() {
    let hearth = Hearth::serve(&["--max-sessions-per-user", "2"]).await;
    let http = hearth.http();
    let (first, _) = Client::enter(http, "/ws/r?user=ann").await;
    let stream = Stream::open(http, "/events/r?user=ann").await;
    assert_eq!(stream.status, 200);
    let mut third = Client::open(http, "/ws/r?user=ann").await;
    assert!(matches!(third.receive().await, Incoming::Closed(1013, reason) if reason == "overloaded"));
    Client::enter(http, "/ws/r?user=bob").await.0.close().await;
    first.close().await;
    eventually("room for another", async || {
        let mut another = Client::open(http, "/ws/r?user=ann").await;
        matches!(another.receive().await, Incoming::Frame(_)).then_some(())
    })
    .await;
}

/// A stream that does not read its answers is told nothing, and yet does not outlive its user's end: what it says is not done any more.
#[tokio::test]
async fn who_does_not_listen_is_ended_all_the_same() {
    let hearth = Hearth::serve(&["--presence-timeout", "200ms"]).await;
    let socket = tokio::net::TcpStream::connect(hearth.grpc()).await.unwrap();
    // No window: the server can send heads, and not a byte of an answer.
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, bytes::Bytes>(socket).await.unwrap();
    tokio::spawn(connection);
    let request = ::http::Request::post(format!("http://{}/hearth.v1.PresenceService/Track", hearth.grpc()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user", "ann");
    let mut client = client.ready().await.unwrap();
    let (_answers, mut say) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let enter = |room: &str| {
        let enter = v1::TrackEnter { room: room.into(), ..Default::default() };
        let command = Some(v1::track_request::Command::Enter(enter));
        let message = v1::TrackRequest { command, ..Default::default() }.encode_to_vec();
        bytes::Bytes::from([&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat())
    };
    say.send_data(enter("before"), false).unwrap();
    let mut presence = grpc::presence(hearth.grpc()).await;
    eventually("ann", async || (grpc::users(&mut presence, "before").await == ["ann"]).then_some(())).await;
    let mut admin = AdminServiceClient::new(channel(hearth.grpc()).await);
    let ended = admin.disconnect_user(DisconnectUserRequest { user: "ann".into() }).await.unwrap();
    assert_eq!(ended.into_inner().disconnected, 1);
    // The stream may be gone by now: all the same.
    let _ = say.send_data(enter("behind"), false);
    eventually("nobody", async || grpc::users(&mut presence, "before").await.is_empty().then_some(())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(grpc::users(&mut presence, "behind").await, [""; 0]);
}
