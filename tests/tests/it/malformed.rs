//! Frames that mean nothing: each gets its exact error, and the connection lives.
use hearth_proto::v1::{
    Join, Leave, ListMessagesRequest, PublishRequest, WatchRequest, connect_request::Command,
    connect_response,
};
use hearth_tests::{
    client::Client,
    grpc::{self, Session},
    process::Hearth,
};
use serde_json::{Value, json};
use tonic_types::StatusExt;

/// What is sent, the code of the error, and the id and room that it names.
type Row<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>);

const BAD: &str = "invalid_argument";

/// Every malformed frame that we could think of, on one socket that outlives them all.
#[tokio::test]
async fn every_malformed_frame_gets_its_error() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/r?user=ann").await;
    let deep = format!(
        r#"{{"type":"text","id":"1","room":"r","data":{{"a":{}{}}}}}"#,
        "[".repeat(63),
        "]".repeat(63)
    );
    let very_deep = "[".repeat(60_000);
    let long_id = format!(r#"{{"type":"ping","id":"{}"}}"#, "é".repeat(257));
    let long_room = format!(r#"{{"type":"leave","id":"1","room":"{}"}}"#, "r".repeat(129));
    let rows: &[Row<'_>] = &[
        // No JSON.
        ("", BAD, None, None),
        (" ", BAD, None, None),
        ("hello", BAD, None, None),
        ("{", BAD, None, None),
        (r#"{"type":"ping""#, BAD, None, None),
        (r#"{"type":"ping"} {}"#, BAD, None, None),
        (r#"{"type":"ping",}"#, BAD, None, None),
        ("{'type':'ping'}", BAD, None, None),
        ("{\"type\":\"pi\nng\"}", BAD, None, None),
        ("\u{feff}{\"type\":\"ping\"}", BAD, None, None),
        (r#"{"type":"text","id":"1","room":"r","data":{"a":01}}"#, BAD, None, None),
        (r#"{"type":"text","id":"1","room":"r","data":{"a":NaN}}"#, BAD, None, None),
        // JSON, but no object; or too deep.
        ("null", BAD, None, None),
        ("1", BAD, None, None),
        (r#""ping""#, BAD, None, None),
        (r#"["ping"]"#, BAD, None, None),
        (&deep, BAD, None, None),
        (&very_deep, BAD, None, None),
        // The type.
        ("{}", BAD, None, None),
        (r#"{"id":"1","room":"r"}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":null,"id":"1"}"#, BAD, Some("1"), None),
        (r#"{"type":5,"id":"1"}"#, BAD, Some("1"), None),
        (r#"{"type":"","id":"1"}"#, BAD, Some("1"), None),
        (r#"{"type":"Text","id":"1","room":"r","data":{}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"shout","id":"1","room":"r","data":{}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"ack","id":"1"}"#, BAD, Some("1"), None),
        (r#"{"type":"error","id":"1","data":{}}"#, BAD, Some("1"), None),
        (r#"{"type":"system","id":"1","room":"r","data":{}}"#, "permission_denied", Some("1"), Some("r")),
        // The id.
        (r#"{"type":"ping","id":1}"#, BAD, None, None),
        (r#"{"type":"ping","id":null}"#, BAD, None, None),
        (r#"{"type":"ping","id":""}"#, BAD, None, None),
        (r#"{"type":"leave","id":{},"room":"r"}"#, BAD, None, Some("r")),
        (r#"{"type":"ping","id":"\ud800"}"#, BAD, None, None),
        (&long_id, BAD, None, None),
        // The room.
        (r#"{"type":"text","id":"1","data":{}}"#, BAD, Some("1"), None),
        (r#"{"type":"signal","id":"1","data":{}}"#, BAD, Some("1"), None),
        (r#"{"type":"typing","id":"1","data":{"active":true}}"#, BAD, Some("1"), None),
        (r#"{"type":"join","id":"1"}"#, BAD, Some("1"), None),
        (r#"{"type":"history","id":"1"}"#, BAD, Some("1"), None),
        (r#"{"type":"leave","id":"1","room":null}"#, BAD, Some("1"), None),
        (r#"{"type":"leave","id":"1","room":["r"]}"#, BAD, Some("1"), None),
        (r#"{"type":"leave","id":"1","room":7}"#, BAD, Some("1"), None),
        (&long_room, BAD, Some("1"), None),
        // A room that is none of this session's.
        (r#"{"type":"leave","id":"1","room":"other"}"#, "failed_precondition", Some("1"), Some("other")),
        (
            r#"{"type":"typing","id":"1","room":"other","data":{"active":true}}"#,
            "failed_precondition",
            Some("1"),
            Some("other"),
        ),
        // Data of a publish.
        (r#"{"type":"text","id":"1","room":"r"}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"text","room":"r"}"#, BAD, None, Some("r")),
        (r#"{"type":"text","id":"1","room":"r","data":null}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"text","id":"1","room":"r","data":"{}"}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"text","id":"1","room":"r","data":[]}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"text","id":"1","room":"r","data":5}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"signal","id":"1","room":"r"}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"signal","id":"1","room":"r","data":1}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"typing","id":"1","room":"r"}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"typing","id":"1","room":"r","data":{}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"typing","id":"1","room":"r","data":{"active":1}}"#, BAD, Some("1"), Some("r")),
        // Data of a join.
        (r#"{"type":"join","id":"1","room":"r","data":null}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":[]}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":5}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":"c"}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":{"seq":1}}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":"e"}}}"#, BAD, Some("1"), Some("r")),
        (
            r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":1,"seq":1}}}"#,
            BAD,
            Some("1"),
            Some("r"),
        ),
        (
            r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":"e","seq":-1}}}"#,
            BAD,
            Some("1"),
            Some("r"),
        ),
        (
            r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":"e","seq":1.5}}}"#,
            BAD,
            Some("1"),
            Some("r"),
        ),
        (
            r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":"e","seq":"1"}}}"#,
            BAD,
            Some("1"),
            Some("r"),
        ),
        (r#"{"type":"join","id":"1","room":"r","data":{"history":-1}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"history":1001}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"history":"9"}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"presence":"no"}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"echo":0}}"#, BAD, Some("1"), Some("r")),
        // Data of the others.
        (r#"{"type":"leave","id":"1","room":"r","data":[]}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"ping","id":"1","data":"x"}"#, BAD, Some("1"), None),
        (r#"{"type":"history","id":"1","room":"r","data":7}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"limit":0}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"limit":1001}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"limit":"5"}}"#, BAD, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"after":-1}}"#, BAD, Some("1"), Some("r")),
        (
            r#"{"type":"history","id":"1","room":"r","data":{"before":18446744073709551616}}"#,
            BAD,
            Some("1"),
            Some("r"),
        ),
        // A field twice, which two readers could take for two things.
        (r#"{"type":"ping","type":"text","id":"1"}"#, BAD, Some("1"), None),
        (r#"{"type":"text","id":"1","room":"r","data":{},"d\u0061ta":{}}"#, BAD, Some("1"), Some("r")),
    ];
    assert!(rows.len() < 100, "a hundred refusals would be a flood");
    for (sent, code, id, room) in rows {
        ann.send_text(sent).await;
        let error = ann.next().await;
        let shown = sent.chars().take(120).collect::<String>();
        assert_eq!(
            (&error["type"], &error["data"]["code"]),
            (&json!("error"), &json!(code)),
            "{shown}: {error}"
        );
        assert_eq!(error.get("id").and_then(Value::as_str), *id, "{shown}: {error}");
        assert_eq!(error.get("room").and_then(Value::as_str), *room, "{shown}: {error}");
        assert!(
            error["data"]["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{shown}: {error}"
        );
    }
    assert_eq!(ann.publish("r", "after all that").await, 1, "nothing of it was published");
    assert_eq!(ann.next().await["seq"], 1, "and the session is still in its room");
}

/// A name that is no room's is refused alike in the path, in each frame that names a room, and at each call of gRPC.
#[tokio::test]
async fn bad_room_names_are_refused_everywhere_alike() {
    let hearth = Hearth::serve(&[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut session = Session::connect(hearth.grpc(), "svc").await;
    let long = "r".repeat(129);
    // As it is called, and as it stands in a path.
    let names = [
        ("-x", "-x"),
        (".x", ".x"),
        (":x", ":x"),
        ("@x", "@x"),
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("ä", "%C3%A4"),
        ("a\n", "a%0A"),
        ("a\0", "a%00"),
        ("a,b", "a,b"),
        ("a%20", "a%2520"),
        ("a*", "a*"),
        (&long, &long),
    ];
    for (name, in_path) in names {
        let mut refused = Client::open(hearth.http(), &format!("/ws/{in_path}?user=ann")).await;
        assert_eq!(refused.closed().await, (1008, "invalid_argument".into()), "{name:?}");
        for frame in [
            json!({"type": "join", "id": "1", "room": name}),
            json!({"type": "leave", "id": "1", "room": name}),
            json!({"type": "history", "id": "1", "room": name}),
            json!({"type": "text", "id": "1", "room": name, "data": {}}),
            json!({"type": "signal", "id": "1", "room": name, "data": {}}),
            json!({"type": "typing", "id": "1", "room": name, "data": {"active": true}}),
        ] {
            let kind = frame["type"].clone();
            let error = ann.ask(frame).await;
            assert_eq!(
                (&error["type"], &error["data"]["code"]),
                (&json!("error"), &json!(BAD)),
                "{name:?} {kind}"
            );
        }
        let room = name.to_owned();
        let publish = PublishRequest { room: room.clone(), payload: grpc::json("{}"), ..Default::default() };
        let statuses = [
            ("Publish", rooms.publish(publish).await.err()),
            (
                "ListMessages",
                rooms
                    .list_messages(ListMessagesRequest { room: room.clone(), ..Default::default() })
                    .await
                    .err(),
            ),
            ("Watch", watch(&mut rooms, &room).await),
        ];
        for (call, status) in statuses {
            let status = status.unwrap_or_else(|| panic!("{call} took {name:?}"));
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{call} {name:?}: {status}");
            let fields = status.get_details_bad_request().expect("it says which field").field_violations;
            assert_eq!(fields[0].field, "room", "{call} {name:?}");
        }
        for command in [
            Command::Join(Join { room: room.clone(), ..Default::default() }),
            Command::Leave(Leave { room: room.clone() }),
            grpc::text(&room, "{}"),
        ] {
            session.send("1", command).await;
            match session.answer("1").await {
                connect_response::Frame::Error(error) => assert_eq!(error.code, 3, "{name:?}: {error:?}"),
                other => panic!("{name:?}: {other:?}"),
            }
        }
    }
    // Names in a path are decoded once, and what is good there is good everywhere.
    let (_, joined) = Client::enter(hearth.http(), "/ws/chat%3A1~x%40y%7Cz+a=b-c?user=ann").await;
    assert_eq!(joined["seq"], 0);
    assert_eq!(ann.publish("chat:1~x@y|z+a=b-c", "1").await, 1);
    assert_eq!(ann.publish(&"r".repeat(128), "1").await, 1);
}

/// The status may come at once or as the stream's first word.
async fn watch(
    rooms: &mut hearth_proto::v1::room_service_client::RoomServiceClient<tonic::transport::Channel>,
    room: &str,
) -> Option<tonic::Status> {
    match rooms.watch(WatchRequest { room: room.to_owned(), ..Default::default() }).await {
        Ok(response) => response.into_inner().message().await.err(),
        Err(status) => Some(status),
    }
}

/// A user's name that is none is refused at each door, too.
#[tokio::test]
async fn bad_user_names_are_refused() {
    let hearth = Hearth::serve(&[]).await;
    for name in ["%0A", "a%00b", "%ff", &"u".repeat(129)] {
        let mut refused = Client::open(hearth.http(), &format!("/ws?user={name}")).await;
        assert_eq!(refused.closed().await, (1008, "invalid_argument".into()), "{name:?}");
    }
    assert_eq!(
        Client::connect(hearth.http(), &format!("/ws?user={}", "u".repeat(128))).await.user,
        "u".repeat(128)
    );
}
