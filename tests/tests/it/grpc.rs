//! The gRPC door: services, as peers of browsers.
use hearth_proto::v1::{
    ConnectRequest, EventKind, History, Join, Leave, ListMessagesRequest, ListRoomsRequest, Payload, Ping,
    Position, PublishRequest, connect_request::Command, connect_response::Frame, payload::Data,
};
use hearth_tests::{
    client::Client,
    grpc::{self, Session, Watch, as_user},
    process::Hearth,
};
use serde_json::json;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

/// A browser and a service in one room hear each other, and see the same event.
#[tokio::test]
async fn a_service_and_a_browser_talk() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let mut service = Session::connect(hearth.grpc(), "svc").await;
    assert_eq!((service.welcome.user.as_str(), service.welcome.max_message_bytes), ("svc", 65536));
    assert!(!service.welcome.session.is_empty());
    let joined = service.join("general", None).await;
    assert_eq!((joined.room.as_str(), joined.recovered, joined.replayed), ("general", None, 0));

    ann.publish("general", "from ann").await;
    let heard = service.event().await;
    assert_eq!((heard.seq, heard.author.as_str(), heard.id.as_str()), (1, "ann", "from ann"));
    assert_eq!(grpc::text_of(&heard), r#"{"n":"from ann"}"#, "the author is a field of its own here");
    assert_eq!(heard.kind(), EventKind::Text);
    let by_websocket = ann.next().await;
    let at = heard.timestamp.unwrap();
    let seconds = at.seconds as f64 + f64::from(at.nanos) / 1e9;
    assert!((by_websocket["timestamp"].as_f64().unwrap() - seconds).abs() < 1e-5, "{by_websocket} {at:?}");

    let ack = service.publish("general", "from svc", r#"{"a": 1.0, "author": "ann"}"#).await;
    assert_eq!((ack.room.as_str(), ack.position.unwrap().seq, ack.duplicate), ("general", 2, false));
    let heard = ann.next().await;
    assert_eq!(
        (&heard["data"]["author"], &heard["id"], &heard["seq"]),
        (&json!("svc"), &json!("from svc"), &json!(2))
    );
    assert_eq!(service.event().await.seq, 2, "after the ack");
    assert!(service.publish("general", "from svc", "{}").await.duplicate);

    service.send("s", grpc::of_kind("general", EventKind::Signal, r#"{"x":1}"#)).await;
    assert!(matches!(service.answer("s").await, Frame::Ack(ack) if ack.position.is_none()));
    assert_eq!(ann.next().await["type"], "signal");
    ann.send(json!({"type": "typing", "room": "general", "data": {"active": true}})).await;
    let typing = service.event().await;
    assert_eq!((typing.kind(), typing.seq, typing.author.as_str()), (EventKind::Typing, 0, "ann"));

    service
        .send("h", Command::History(History { room: "general".into(), limit: Some(1), ..Default::default() }))
        .await;
    assert!(
        matches!(service.answer("h").await, Frame::History(page) if page.more && page.messages[0].seq == 2)
    );
    service.send("p", Command::Ping(Ping {})).await;
    assert!(matches!(service.answer("p").await, Frame::Ack(_)));
    service.send("l", Command::Leave(Leave { room: "general".into() })).await;
    assert!(matches!(service.answer("l").await, Frame::Ack(_)));
    service.send("l", Command::Leave(Leave { room: "general".into() })).await;
    assert!(
        matches!(service.answer("l").await, Frame::Error(error) if error.code == Code::FailedPrecondition as i32)
    );
}

/// Bytes that are no JSON pass between services as they are; a browser sees them in base64.
#[tokio::test]
async fn bytes_pass_as_they_are() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let (mut watch, _) = Watch::start(hearth.grpc(), "room", None).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let bytes = vec![0u8, 255, 10, 34];
    let payload = Some(Payload { data: Some(Data::Binary(bytes.clone().into())) });
    let request = PublishRequest { room: "room".into(), payload, ..Default::default() };
    rooms.publish(as_user("svc", request)).await.unwrap();
    let heard = watch.event().await;
    assert!(matches!(&heard.payload.unwrap().data, Some(Data::Binary(found)) if *found == bytes));
    assert_eq!(ann.next().await["data"], json!({"binary": "AP8KIg==", "author": "svc"}));
    let page = ann.ask(json!({"type": "history", "id": "h", "room": "room"})).await;
    assert_eq!(page["data"]["messages"][0]["data"]["binary"], "AP8KIg==");
}

/// Publish answers with the position and the time; the same id again with the first one's; another epoch is refused.
#[tokio::test]
async fn publish_is_idempotent_and_conditional() {
    let hearth = Hearth::serve(&[]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let request = |id: &str, epoch: &str| {
        let request = PublishRequest {
            room: "room".into(),
            id: id.into(),
            epoch: epoch.into(),
            payload: grpc::json("{}"),
            ..Default::default()
        };
        as_user("svc", request)
    };
    let first = rooms.publish(request("k", "")).await.unwrap().into_inner();
    let position = first.position.clone().unwrap();
    assert_eq!((position.seq, first.duplicate), (1, false));
    let again = rooms.publish(request("k", "")).await.unwrap().into_inner();
    assert_eq!((again.position.as_ref(), again.duplicate), (Some(&position), true));
    assert_eq!(again.timestamp, first.timestamp, "of the first time");
    let next = rooms.publish(request("l", &position.epoch)).await.unwrap().into_inner();
    assert_eq!(next.position, Some(Position { epoch: position.epoch.clone(), seq: 2 }));
    let refused = rooms.publish(request("m", "another")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(grpc::history(&mut rooms, "room").await.len(), 2);
    let signal = PublishRequest {
        room: "room".into(),
        kind: EventKind::Signal.into(),
        payload: grpc::json("{}"),
        ..Default::default()
    };
    assert_eq!(rooms.publish(signal).await.unwrap().into_inner().position, None);
}

/// A call that fails says what is wrong in ways that a program can read.
#[tokio::test]
async fn errors_have_details() {
    let hearth = Hearth::serve(&["--max-message-bytes", "1000"]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let publish = |room: &str, id: &str, payload: Option<Payload>| PublishRequest {
        room: room.into(),
        id: id.into(),
        payload,
        ..Default::default()
    };
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
    let long_id = "i".repeat(257);
    let rows = [
        (publish("", "", grpc::json("{}")), "room"),
        (publish("a b", "", grpc::json("{}")), "room"),
        (publish("room", &long_id, grpc::json("{}")), "id"),
        (publish("room", "", None), "payload"),
        (publish("room", "", Some(Payload { data: None })), "payload"),
        (publish("room", "", grpc::json("")), "payload"),
        (publish("room", "", grpc::json("[]")), "payload"),
        (publish("room", "", grpc::json("{\"a\":}")), "payload"),
        (publish("room", "", grpc::json(&deep)), "payload"),
        (publish("room", "", grpc::json(&large)), "payload"),
        (PublishRequest { kind: 99, ..publish("room", "", grpc::json("{}")) }, "kind"),
    ];
    for (request, field) in rows {
        let shown = format!("{request:?}").chars().take(200).collect::<String>();
        let status = rooms.publish(request).await.expect_err(&shown);
        assert_eq!(status.code(), Code::InvalidArgument, "{shown}: {status}");
        assert!(!status.message().is_empty(), "{shown}");
        let info = status.get_details_error_info().expect("ErrorInfo");
        assert_eq!(info.domain, "hearth", "{shown}");
        assert!(info.reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{}", info.reason);
        let violations = status.get_details_bad_request().expect("BadRequest").field_violations;
        assert_eq!(violations.len(), 1, "{shown}");
        assert!(violations[0].field.starts_with(field), "{shown}: {violations:?}");
        assert!(!violations[0].description.is_empty(), "{shown}");
    }
    for limit in [0, 1001] {
        let request = ListMessagesRequest { room: "room".into(), limit: Some(limit), ..Default::default() };
        assert_eq!(rooms.list_messages(request).await.unwrap_err().code(), Code::InvalidArgument, "{limit}");
    }
    let mut bad = as_user("x", publish("room", "", grpc::json("{}")));
    bad.metadata_mut().insert("user", "u".repeat(129).parse().unwrap());
    assert_eq!(rooms.publish(bad).await.unwrap_err().code(), Code::InvalidArgument);
}

/// On a `Connect` stream an error costs an error, and the stream lives.
#[tokio::test]
async fn a_stream_survives_its_errors() {
    let hearth = Hearth::serve(&[]).await;
    let mut session = Session::connect(hearth.grpc(), "svc").await;
    let long_id = "i".repeat(257);
    session.send_request(ConnectRequest { id: "1".into(), command: None }).await;
    session.send("2", grpc::text("room", "[]")).await;
    session.send("3", Command::Join(Join { room: "-".into(), ..Default::default() })).await;
    session.send("", grpc::text("a b", "{}")).await;
    session.send(&long_id, Command::Ping(Ping {})).await;
    session.send("last", Command::Ping(Ping {})).await;
    let mut codes = Vec::new();
    loop {
        let response = session.receive().await.unwrap().expect("the stream lives");
        match response.frame.unwrap() {
            Frame::Error(error) => codes.push((response.id, error.code)),
            Frame::Ack(_) => {
                assert_eq!(response.id, "last");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let ids: Vec<&str> = codes.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids[..4], ["1", "2", "3", ""]);
    assert_eq!(codes.len(), 5);
    assert!(codes.iter().all(|(_, code)| *code == Code::InvalidArgument as i32), "{codes:?}");
}

/// Rooms are listed in order, page by page, by prefix, with who is there; none twice, none left out.
#[tokio::test]
async fn rooms_are_listed_in_pages() {
    let hearth = Hearth::serve(&[]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut names: Vec<String> = (0..25).map(|n| format!("list:{n}")).collect();
    for name in &names {
        grpc::publish(&mut rooms, name, 1).await;
    }
    grpc::publish(&mut rooms, "elsewhere", 1).await;
    let (_ann, _) = Client::enter(hearth.http(), "/ws/list:7?user=ann").await;
    let (_ben, _) = Client::enter(hearth.http(), "/ws/list:7?user=ben").await;
    names.sort();
    let mut listed = Vec::new();
    let mut page_token = String::new();
    let mut pages = 0;
    loop {
        let request = ListRoomsRequest { page_size: Some(10), page_token, prefix: "list:".into() };
        let page = rooms.list_rooms(request).await.unwrap().into_inner();
        listed.extend(page.rooms);
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(listed.iter().map(|room| room.name.clone()).collect::<Vec<_>>(), names);
    for room in &listed {
        assert_eq!(room.position.as_ref().unwrap().seq, 1, "{}", room.name);
        assert_eq!(room.sessions, if room.name == "list:7" { 2 } else { 0 }, "{}", room.name);
    }
    for page_size in [0, 1001] {
        let request = ListRoomsRequest { page_size: Some(page_size), ..Default::default() };
        assert_eq!(rooms.list_rooms(request).await.unwrap_err().code(), Code::InvalidArgument, "{page_size}");
    }
}

/// An empty room goes when its history has; its position stays.
#[tokio::test]
async fn an_empty_room_is_dropped_with_its_history() {
    let hearth = Hearth::serve(&["--history-ttl", "200ms", "--dedupe-window", "200ms"]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let position = grpc::publish(&mut rooms, "fleeting", 1).await;
    assert!(grpc::room(&mut rooms, "fleeting").await.is_some());
    hearth_tests::eventually("the end of the room", async || {
        grpc::room(&mut rooms, "fleeting").await.is_none().then_some(())
    })
    .await;
    let next = grpc::publish(&mut rooms, "fleeting", 2).await;
    assert_eq!(next, Position { seq: 2, ..position });
}

/// Balancers ask the standard way.
#[tokio::test]
async fn health_is_told() {
    let hearth = Hearth::serve(&[]).await;
    let mut health = HealthClient::new(grpc::channel(hearth.grpc()).await);
    for service in ["", "hearth.v1.RoomService"] {
        let request = HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(HealthCheckRequest { service: "no.Such".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

/// A watcher may ask for the newest few, as a join may.
#[tokio::test]
async fn a_watch_follows_from_the_newest() {
    use hearth_proto::v1::{WatchRequest, watch_response};
    let hearth = Hearth::serve(&[]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    for n in 1..=5 {
        grpc::publish(&mut rooms, "room", n).await;
    }
    let request = WatchRequest { room: "room".into(), history: 2, ..Default::default() };
    let mut stream = rooms.watch(request).await.unwrap().into_inner();
    let mut seqs = Vec::new();
    for _ in 0..3 {
        match stream.message().await.unwrap().unwrap().frame.unwrap() {
            watch_response::Frame::Joined(joined) => {
                assert_eq!((joined.recovered, joined.replayed, seqs.len()), (None, 2, 0));
            }
            watch_response::Frame::Event(event) => seqs.push(event.seq),
        }
    }
    assert_eq!(seqs, [4, 5]);
}
