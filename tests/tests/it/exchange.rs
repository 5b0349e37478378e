//! What one client says and all in the room hear: the envelope, to the letter.
use hearth_tests::{client::Client, process::Hearth};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The exchange that the whole project is about, as a person would type it.
#[tokio::test]
async fn a_message_is_acknowledged_and_then_heard_by_all() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, joined) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/general?user=ben").await;
    assert_eq!((&joined["seq"], &joined["replayed"], joined.get("recovered")), (&json!(0), &json!(0), None));

    let before = now();
    ann.send_text(r#"{"type":"text","id":"msg_123","room":"general","data":{"content":"Hello"}}"#).await;
    let ack = ann.next().await;
    let after = now();
    assert_eq!(
        ack,
        json!({"type": "ack", "id": "msg_123", "room": "general", "data": {"status": "delivered", "seq": 1}})
    );
    let (heard_by_ann, heard_by_ben) = (ann.next().await, ben.next().await);
    assert_eq!(heard_by_ann, heard_by_ben);
    let mut heard = heard_by_ann;
    let timestamp = heard.as_object_mut().unwrap().remove("timestamp").unwrap().as_f64().unwrap();
    assert_eq!(
        heard,
        json!({
            "type": "text", "id": "msg_123", "room": "general", "seq": 1,
            "data": {"content": "Hello", "author": "ann"},
        })
    );
    // A wall clock may be set while the test runs, but hardly by a second.
    assert!((before - 1.0..=after + 1.0).contains(&timestamp), "{timestamp} between {before} and {after}");
}

/// The welcome says all that a client needs to know, and comes before anything else.
#[tokio::test]
async fn a_connection_begins_with_a_welcome() {
    let hearth = Hearth::serve(&["--heartbeat", "7s", "--max-message-bytes", "5000"]).await;
    let mut ann = Client::open(hearth.http(), "/ws/general?user=ann").await;
    let mut welcome = ann.next().await;
    let session = welcome["data"].as_object_mut().unwrap().remove("session").unwrap();
    assert!(session.as_str().is_some_and(|id| id.len() >= 16), "a session's id cannot be guessed: {session}");
    assert_eq!(
        welcome,
        json!({"type": "system", "data": {
            "event": "welcome", "user": "ann", "heartbeat_ms": 7000, "max_message_bytes": 5000,
        }})
    );
    let joined = ann.next().await;
    assert_eq!((&joined["type"], &joined["room"]), (&json!("system"), &json!("general")));
    assert!(joined.get("id").is_none() && joined.get("seq").is_none(), "{joined}");

    let nobody = Client::connect(hearth.http(), "/ws").await;
    assert!(nobody.user.starts_with("guest-"), "{}", nobody.user);
    let other = Client::connect(hearth.http(), "/ws").await;
    assert_ne!((nobody.user, nobody.session), (other.user, other.session));
    let zoe = Client::connect(hearth.http(), "/ws?user=Zo%C3%AB%20L").await;
    assert_eq!(zoe.user, "Zoë L");
}

/// For each of a hundred publishes the publisher reads its ack before the event: what a person who reads along expects,
/// and what every tutorial's client relies on.
#[tokio::test]
async fn a_publisher_reads_its_ack_before_the_event() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    for n in 1..=100u64 {
        ann.send(json!({"type": "text", "id": format!("m{n}"), "room": "general", "data": {}})).await;
    }
    let (mut acknowledged, mut heard) = (0, 0);
    while heard < 100 {
        let frame = ann.next().await;
        match (frame["data"]["seq"].as_u64(), frame["seq"].as_u64()) {
            (Some(acked), None) => {
                assert_eq!((acked, &frame["type"]), (acknowledged + 1, &json!("ack")), "{frame}");
                acknowledged = acked;
            }
            (None, Some(seq)) => {
                assert_eq!((seq, &frame["type"]), (heard + 1, &json!("text")), "{frame}");
                heard = seq;
                assert!(heard <= acknowledged, "event {heard} came before its ack");
            }
            _ => panic!("{frame}"),
        }
    }
}

/// Who said it is the server's word: every spelling of an author of one's own is gone, and only at the top.
#[tokio::test]
async fn nobody_speaks_in_another_name() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let frames = [
        r#"{"type":"text","room":"general","data":{"author":"ben"}}"#,
        r#"{"type":"text","room":"general","data":{"\u0061uthor":"ben"}}"#,
        r#"{"type":"text","room":"general","data":{"author":{"author":1},"author":"ben"}}"#,
        r#"{"type":"text","room":"general","author":"ben","user":"ben","data":{}}"#,
    ];
    for frame in frames {
        ann.send_text(frame).await;
        assert_eq!(ann.next().await["data"], json!({"author": "ann"}), "{frame}");
    }
    ann.send_text(r#"{"type":"text","room":"general","data":{"quote":{"author":"ben"}}}"#).await;
    assert_eq!(ann.next().await["data"], json!({"quote": {"author": "ben"}, "author": "ann"}));
}

/// What a client puts into `data` comes out as it was spelled: a number keeps its digits, a string its escapes.
#[tokio::test]
async fn data_passes_verbatim() {
    let hearth = Hearth::serve(&[]).await;
    let mut ben = hearth_tests::raw::Raw::connect(hearth.http(), "/ws/general?user=ben").await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let data = r#"{"n":1.00,"big":12345678901234567890123,"tiny":1e-400,"s":"\u00e9\/é\"","deep":[[ 1 , {"a":null}]],"":"🙂"}"#;
    ann.send_text(&format!(r#"{{"type":"text","room":"general","data":{data}}}"#)).await;
    let heard = loop {
        let frame = ben.next().await.expect("the stream goes on");
        if frame.text().contains(r#""seq":1"#) && frame.text().contains(r#""type":"text""#) {
            break frame;
        }
    };
    let body = data.strip_suffix('}').unwrap();
    assert!(heard.text().contains(&format!(r#""data":{body},"author":"ann"}}"#)), "{}", heard.text());
}

/// Later versions of a client may say more than this server knows.
#[tokio::test]
async fn unknown_fields_are_ignored() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann&colour=red").await;
    let frame = json!({
        "type": "text", "id": "1", "room": "general", "data": {"a": 1}, "seq": 77, "timestamp": 5, "later": [{}],
    });
    assert_eq!(ann.ask(frame).await["data"], json!({"status": "delivered", "seq": 1}));
    assert_eq!(ann.next().await["seq"], 1);
    let again =
        ann.ask(json!({"type": "join", "id": "2", "room": "other", "data": {"later": true}, "x": 1})).await;
    assert_eq!(again["data"]["event"], "joined");
}

/// The longest id and the deepest data that are taken, and one more of each.
#[tokio::test]
async fn ids_have_256_characters_and_json_64_levels() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    // Characters, not bytes.
    let longest = "é".repeat(256);
    assert_eq!(ann.publish("general", &longest).await, 1);
    assert_eq!(ann.next().await["id"], longest);
    ann.send(json!({"type": "text", "id": "é".repeat(257), "room": "general", "data": {}})).await;
    let refused = ann.next().await;
    assert_eq!((&refused["type"], &refused["data"]["code"]), (&json!("error"), &json!("invalid_argument")));

    let nested = |levels: usize| {
        // The envelope and `data` are the first two.
        format!(
            r#"{{"type":"text","id":"d{levels}","room":"general","data":{{"a":{}{}}}}}"#,
            "[".repeat(levels - 2),
            "]".repeat(levels - 2)
        )
    };
    ann.send_text(&nested(64)).await;
    assert_eq!(ann.answer("d64").await["data"]["seq"], 2);
    assert_eq!(ann.next().await["seq"], 2);
    ann.send_text(&nested(65)).await;
    let refused = ann.next().await;
    assert_eq!((&refused["type"], &refused["data"]["code"]), (&json!("error"), &json!("invalid_argument")));
    assert_eq!(ann.publish("general", "next").await, 3);
}

/// The same id again within the window is the same event: one seq, and nobody hears it twice. The key is the
/// user's and the room's own.
#[tokio::test]
async fn an_id_is_published_once() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let mut tab = Client::connect(hearth.http(), "/ws?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/general?user=ben").await;
    let frame =
        |content: &str, room: &str| json!({"type": "text", "id": "k", "room": room, "data": {"c": content}});
    assert_eq!(ann.ask(frame("first", "general")).await["data"], json!({"status": "delivered", "seq": 1}));
    for again in [&mut ann, &mut tab] {
        let answer = again.ask(frame("second", "general")).await;
        assert_eq!(answer["data"], json!({"status": "delivered", "seq": 1, "duplicate": true}));
    }
    assert_eq!(ben.ask(frame("ben's", "general")).await["data"], json!({"status": "delivered", "seq": 2}));
    assert_eq!(ann.ask(frame("elsewhere", "other")).await["data"], json!({"status": "delivered", "seq": 1}));
    let heard = ben.until(|frame| frame["data"]["c"] == "ben's").await;
    let said: Vec<&Value> = heard.iter().map(|frame| &frame["data"]["c"]).collect();
    assert_eq!(said, ["first", "ben's"]);
}

/// Publishing needs no join, and whoever has not joined hears nothing.
#[tokio::test]
async fn publishing_needs_no_join() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let mut ben = Client::connect(hearth.http(), "/ws?user=ben").await;
    assert_eq!(ben.publish("general", "1").await, 1);
    assert_eq!(ann.next().await["data"], json!({"n": "1", "author": "ben"}));
    assert_eq!(ben.publish("general", "2").await, 2);
    // The second ack is the next thing that ben reads: the first event was not sent to him.
    assert_eq!(ben.ask(json!({"type": "ping", "id": "p"})).await["type"], "ack");
    assert_eq!(ben.join("general", json!({})).await["seq"], 2);
}

/// `echo: false` leaves out this session's own live events, and nobody else's, and not those of its user's other tab.
#[tokio::test]
async fn without_echo_a_session_does_not_hear_itself() {
    let hearth = Hearth::serve(&[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let joined = ann.join("general", json!({"echo": false})).await;
    let (mut tab, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    ann.publish("general", "own").await;
    tab.publish("general", "tab's").await;
    let heard = ann.next().await;
    assert_eq!((&heard["id"], &heard["seq"]), (&json!("tab's"), &json!(2)), "seq has a gap for the own one");
    assert_eq!(tab.find(|frame| frame["type"] == "text").await["id"], "own");
    // What is replayed is history, not an echo.
    ann.leave("general").await;
    let since = json!({"epoch": joined["epoch"], "seq": 0});
    assert_eq!(ann.join("general", json!({"echo": false, "since": since})).await["replayed"], 2);
    assert_eq!([ann.next().await["id"].clone(), ann.next().await["id"].clone()], ["own", "tab's"]);
}

/// A join of a joined room tells where the room is, and changes and replays nothing.
#[tokio::test]
async fn joining_twice_is_joining_once() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, first) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    for id in ["1", "2"] {
        ann.publish("general", id).await;
    }
    let since = json!({"epoch": first["epoch"], "seq": 0});
    let again = ann.join("general", json!({"since": since, "history": 2, "echo": false})).await;
    assert_eq!((&again["epoch"], &again["seq"], &again["replayed"]), (&first["epoch"], &json!(2), &json!(0)));
    assert!(again["cursor"].is_string(), "{again}");
    ann.publish("general", "3").await;
    let heard = ann.until(|frame| frame["id"] == "3").await;
    let seqs: Vec<u64> = heard.iter().filter_map(|frame| frame["seq"].as_u64()).collect();
    assert_eq!(seqs, [1, 2, 3], "each once, the last one too: echo is as it was");
    ann.leave("general").await;
    ann.publish("general", "4").await;
    assert_eq!(ann.ask(json!({"type": "ping", "id": "p"})).await["type"], "ack");
    assert_eq!(ann.join("general", json!({})).await["seq"], 4);
}

/// One socket, many rooms: each has its own order, and leaving one leaves the others.
#[tokio::test]
async fn a_session_is_in_many_rooms() {
    let hearth = Hearth::serve(&[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let mut ben = Client::connect(hearth.http(), "/ws?user=ben").await;
    for room in ["a", "b", "c:1"] {
        ann.join(room, json!({})).await;
    }
    ann.leave("b").await;
    for (room, id) in [("a", "1"), ("b", "2"), ("c:1", "3"), ("a", "4")] {
        ben.publish(room, id).await;
    }
    // Order is a room's own: what was said in two rooms may come either way.
    let mut heard = Vec::new();
    for _ in 0..3 {
        let frame = ann.next().await;
        heard.push((frame["room"].clone(), frame["id"].clone(), frame["seq"].as_u64().unwrap()));
    }
    heard.sort_by_key(|(room, _, _)| room.to_string());
    let expected = [("a", "1", 1), ("a", "4", 2), ("c:1", "3", 1)];
    assert_eq!(heard, expected.map(|(room, id, seq)| (json!(room), json!(id), seq)));
    let refused = ann.ask(json!({"type": "leave", "id": "l", "room": "b"})).await;
    assert_eq!((&refused["type"], &refused["room"]), (&json!("error"), &json!("b")));
    assert_eq!(refused["data"]["code"], "failed_precondition", "a room that was left is not joined");
}

/// Signals and typing go to the others, carry their author, take no seq, and leave nothing behind.
#[tokio::test]
async fn signals_are_for_the_others_and_for_now() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let (mut tab, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/general?user=ben").await;
    let signal = json!({"type": "signal", "id": "s", "room": "general", "data": {"x": 1, "author": "ben"}});
    assert_eq!(ann.ask(signal).await["data"], json!({"status": "delivered"}));
    let typing = json!({"type": "typing", "id": "t", "room": "general", "data": {"active": true}});
    assert_eq!(ann.ask(typing).await["data"], json!({"status": "delivered"}));
    assert_eq!(ann.publish("general", "1").await, 1);
    for other in [&mut tab, &mut ben] {
        let mut heard = [other.next().await, other.next().await];
        for (frame, id) in heard.iter_mut().zip(["s", "t"]) {
            let fields = frame.as_object_mut().unwrap();
            assert!(fields.remove("timestamp").is_some_and(|it| it.is_number()), "{id}");
        }
        let (signal, typing) = (&heard[0], &heard[1]);
        assert_eq!((&signal["type"], &signal["data"]), (&json!("signal"), &json!({"x": 1, "author": "ann"})));
        assert_eq!(
            (&typing["type"], &typing["data"]),
            (&json!("typing"), &json!({"active": true, "author": "ann"}))
        );
        assert!(
            heard.iter().all(|frame| frame.get("seq").is_none() && frame["room"] == "general"),
            "{heard:?}"
        );
        assert_eq!(other.next().await["seq"], 1);
    }
    // The publisher heard its own text and neither its signal nor its typing.
    assert_eq!(ann.next().await["id"], "1");
    let history = ann.ask(json!({"type": "history", "id": "h", "room": "general"})).await;
    assert_eq!(history["data"]["messages"].as_array().unwrap().len(), 1);
    // An id of a signal is no idempotency key.
    for _ in 0..2 {
        let again = json!({"type": "signal", "id": "s", "room": "general", "data": {}});
        assert_eq!(ann.ask(again).await["data"], json!({"status": "delivered"}));
        assert_eq!(ben.next().await["type"], "signal");
    }
}

/// `~alice` is alice's: she joins it, nobody else does, and only services write to it.
#[tokio::test]
async fn a_personal_room_is_its_users() {
    let hearth = Hearth::serve(&[]).await;
    let mut alice = Client::connect(hearth.http(), "/ws?user=alice").await;
    let mut bob = Client::connect(hearth.http(), "/ws?user=bob").await;
    alice.join("~alice", json!({})).await;
    let refused = bob.ask(json!({"type": "join", "id": "j", "room": "~alice"})).await;
    assert_eq!((&refused["type"], &refused["data"]["code"]), (&json!("error"), &json!("permission_denied")));
    for user in [&mut alice, &mut bob] {
        let text = json!({"type": "text", "id": "t", "room": "~alice", "data": {}});
        assert_eq!(user.ask(text).await["data"]["code"], "permission_denied");
    }
    let mut service = hearth_tests::grpc::rooms(hearth.grpc()).await;
    hearth_tests::grpc::publish(&mut service, "~alice", 7).await;
    assert_eq!(alice.next().await["data"]["n"], 7);
    // By path it is refused with the same word, and the connection is good for other rooms.
    let mut stranger = Client::connect(hearth.http(), "/ws/~alice?user=bob").await;
    let refused = stranger.next().await;
    assert_eq!((&refused["room"], &refused["data"]["code"]), (&json!("~alice"), &json!("permission_denied")));
    stranger.join("general", json!({})).await;
}

/// A command without an id is answered by nothing; an error always is.
#[tokio::test]
async fn without_an_id_only_errors_are_answered() {
    let hearth = Hearth::serve(&[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    ann.send(json!({"type": "text", "room": "general", "data": {}})).await;
    ann.send(json!({"type": "ping"})).await;
    ann.send(json!({"type": "signal", "room": "general", "data": {}})).await;
    ann.send(json!({"type": "leave", "room": "general"})).await;
    let refused = ann.next().await;
    assert_eq!(
        (&refused["type"], &refused["data"]["code"]),
        (&json!("error"), &json!("failed_precondition"))
    );
    assert!(refused.get("id").is_none(), "{refused}");
    assert!(refused["data"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{refused}");
    assert_eq!(ann.join("general", json!({})).await["seq"], 1);
}
