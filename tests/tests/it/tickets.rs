//! Tickets: what stands for a token in a URL, for half a minute, at every door.
use hearth_proto::v1::{self, room_service_client::RoomServiceClient};
use hearth_tests::{
    client::{Client, Incoming},
    grpc::channel,
    http,
    process::Hearth,
    sse::Stream,
    token::{self, SECRET},
};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::time::sleep;
use tonic::{Code, Request};

async fn serve(flags: &[&str]) -> Hearth {
    Hearth::serve(&[&["--jwt-hs256-secret", SECRET], flags].concat()).await
}

/// Asks for a ticket with a token in the header.
async fn ask(http: SocketAddr, token: &str) -> http::Response {
    http::send(http, "POST", "/tickets", &[&format!("Authorization: Bearer {token}")], "").await
}

/// A ticket, and until when it is good.
async fn ticket(http: SocketAddr, token: &str) -> (String, f64) {
    let answer = ask(http, token).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    (told["ticket"].as_str().unwrap().to_owned(), told["expires_at"].as_f64().unwrap())
}

fn code(answer: &http::Response) -> (u16, String) {
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    (answer.status, problem["code"].as_str().unwrap().to_owned())
}

async fn list(rooms: &mut RoomServiceClient<tonic::transport::Channel>, token: &str, room: &str) -> Code {
    let mut request = Request::new(v1::ListMessagesRequest { room: room.into(), ..Default::default() });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    rooms.list_messages(request).await.err().map_or(Code::Ok, |status| status.code())
}

/// A ticket opens what its token would, wherever a token may stand, and allows no more; it makes no other ticket.
#[tokio::test]
async fn a_ticket_is_good_where_its_token_is() {
    let hearth = serve(&[]).await;
    let http = hearth.http();
    let rules = json!({"rooms": [{"match": "chat:*", "allow": ["join", "publish", "history"]}]});
    let token = token::with("ann", &rules);
    let answer = ask(http, &token).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let (ticket, expires_at) = ticket(http, &token).await;
    let left = expires_at - token::now();
    assert!((25.0..=30.0).contains(&left), "{left}");

    let (mut ann, _) = Client::attend(http, &format!("/ws/chat:1?token={ticket}")).await;
    assert_eq!(ann.user, "ann");
    assert_eq!(ann.publish("chat:1", "m").await, 1);
    let denied = ann.ask(json!({"type": "join", "id": "1", "room": "lobby"})).await;
    assert_eq!(denied["data"]["code"], "permission_denied");
    let mut by_frame = Client::open(http, "/ws").await;
    by_frame.send(json!({"type": "auth", "id": "a", "data": {"token": ticket}})).await;
    let ack = by_frame.find(|frame| frame["type"] == "ack").await;
    let end = ack["data"]["expires_at"].as_f64().unwrap();
    assert!(end > token::now() + 3000.0, "the session ends with the token, not with the ticket: {ack}");
    let other = by_frame.ask(json!({"type": "auth", "id": "b", "data": {"token": token::of("eve")}})).await;
    assert_eq!(other["data"]["code"], "permission_denied", "{other}");
    assert_eq!(Stream::open(http, &format!("/events/chat:1?token={ticket}")).await.status, 200);
    assert_eq!(Stream::open(http, &format!("/events/lobby?token={ticket}")).await.status, 403);
    assert_eq!(http::get(http, &format!("/poll/chat:1?timeout=0&token={ticket}"), &[]).await.status, 200);
    let history = http::get(http, &format!("/rooms/chat:1/messages?token={ticket}"), &[]).await;
    assert_eq!(history.status, 200, "{}", history.body);
    let mut rooms = RoomServiceClient::new(channel(hearth.grpc()).await);
    assert_eq!(list(&mut rooms, &ticket, "chat:1").await, Code::Ok);
    assert_eq!(list(&mut rooms, &ticket, "lobby").await, Code::PermissionDenied);

    assert_eq!(code(&ask(http, &ticket).await), (403, "permission_denied".into()), "a ticket for a ticket");
    let by_query = http::send(http, "POST", &format!("/tickets?token={ticket}"), &[], "").await;
    assert_eq!(by_query.status, 403);
    let mut forged = ticket.clone();
    let last = if forged.pop() == Some('A') { 'E' } else { 'A' };
    forged.push(last);
    for none in [&*forged, "ticket.", "ticket.e30.AAAA"] {
        let told = Client::open(http, &format!("/ws/chat:1?token={none}")).await.receive().await;
        assert!(matches!(&told, Incoming::Closed(1008, reason) if reason == "unauthenticated"), "{told:?}");
        assert_eq!(list(&mut rooms, none, "chat:1").await, Code::Unauthenticated);
    }
}

#[tokio::test]
async fn who_may_not_have_one_is_told_so() {
    let hearth = serve(&["--rate-limit", "1", "--rate-burst", "3"]).await;
    let http = hearth.http();
    let none = http::send(http, "POST", "/tickets", &[], "").await;
    assert_eq!(code(&none), (401, "unauthenticated".into()));
    let expired = token::signed(&json!({"sub": "ann", "exp": token::now() - 10.0}));
    assert_eq!(code(&ask(http, &expired).await), (401, "unauthenticated".into()));
    let at_its_end = token::signed(&json!({"sub": "ann", "exp": token::now() - 2.0}));
    assert_eq!(
        ask(http, &at_its_end).await.status,
        401,
        "clocks may differ, but of its time nothing is left"
    );
    let bearer = format!("Authorization: Bearer {}", token::of("ann"));
    let strange = ["Origin: http://strange.example", &*bearer];
    assert_eq!(code(&http::send(http, "POST", "/tickets", &strange, "").await).0, 403);
    assert_eq!(http::get(http, "/tickets", &[&bearer]).await.status, 405);
    assert_eq!(http::send(http, "POST", "/tickets", &[&bearer], "anything").await.status, 200);
    let wide = token::signed(&json!({"sub": "bob", "exp": token::now() + 60.0}));
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(ask(http, &wide).await.status);
    }
    assert_eq!(statuses[..3], [200, 200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

/// After its time it opens nothing, and what it has opened goes on. It does not outlive its token either.
#[tokio::test]
async fn a_ticket_ends_and_its_session_goes_on() {
    let hearth = serve(&[]).await;
    let http = hearth.http();
    let short = token::signed(&json!({"sub": "bob", "exp": token::now() + 3.0}));
    let (bobs, ends) = ticket(http, &short).await;
    assert!(ends < token::now() + 3.0);
    let mut bob = Client::open(http, &format!("/ws/r?token={bobs}")).await;
    let (anns, ends) = ticket(http, &token::of("ann")).await;
    let (mut ann, _) = Client::attend(http, &format!("/ws/r?token={anns}")).await;
    assert_eq!(bob.closed().await, (4001, "token_expired".into()));
    sleep(Duration::from_secs_f64((ends - token::now()).max(0.0) + 0.1)).await;
    let told = Client::open(http, &format!("/ws/r?token={anns}")).await.receive().await;
    assert!(matches!(&told, Incoming::Closed(1008, _)), "{told:?}");
    assert_eq!(http::get(http, &format!("/rooms/r/messages?token={anns}"), &[]).await.status, 401);
    assert_eq!(ann.publish("r", "still here").await, 1);
}

/// In dev mode an app's way is the same.
#[tokio::test]
async fn in_dev_mode_a_ticket_names_its_user() {
    let hearth = Hearth::serve(&[]).await;
    let made = http::send(hearth.http(), "POST", "/tickets?user=ann", &[], "").await;
    let made: Value = serde_json::from_str(&made.body).unwrap();
    let ticket = made["ticket"].as_str().unwrap();
    let (ann, _) = Client::attend(hearth.http(), &format!("/ws/r?user=eve&token={ticket}")).await;
    assert_eq!(ann.user, "ann");
    assert_eq!(code(&ask(hearth.http(), ticket).await), (403, "permission_denied".into()));
    // A core with tokens takes none that was made without.
    let strict = serve(&[]).await;
    assert_eq!(ask(strict.http(), ticket).await.status, 401);
}
