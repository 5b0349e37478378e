//! Who gets which events, and in which order.
use super::*;
use crate::wire::cursor::Cursor;
use crate::wire::event::{Code, Failure};
use socket2::SockRef;
use tokio::io::AsyncReadExt;

/// A shard that groups `[ev5, joined, ev6]` by room must not give ev5 to the new member.
#[tokio::test]
async fn a_join_between_two_events_cuts_the_run() {
    let edge = Edge::start(config());
    let (mut old, mut new) = (edge.connect_joined().await, edge.connect().await);
    edge.post([event(5), joined(new.key), event(6), event(7)]);
    for seq in ["5", "6", "7"] {
        assert_eq!(old.told().await, seq);
    }
    for told in ["joined", "6", "7"] {
        assert_eq!(new.told().await, told);
    }
}

#[tokio::test]
async fn a_leave_between_two_events_cuts_the_run() {
    let edge = Edge::start(config());
    let (mut stays, mut asks, mut put_out) =
        (edge.connect_joined().await, edge.connect_joined().await, edge.connect_joined().await);
    asks.send(r#"{"type":"leave","id":"l","room":"lobby"}"#).await;
    let left = |session, asked| Post::Left { session, room: ROOM, asked };
    assert!(matches!(edge.core.next().await, Request::Leave { session, .. } if session == asks.key));
    edge.post([
        event(5),
        left(asks.key, Some(Some("l".into()))),
        event(6),
        left(put_out.key, None),
        event(7),
        Post::Failed {
            session: asks.key,
            due: false,
            id: None,
            name: None,
            failure: Failure::new(Code::Internal, "last"),
        },
    ]);
    for told in ["5", "6", "7"] {
        assert_eq!(stays.told().await, told);
    }
    assert_eq!(asks.told().await, "5");
    let ack = asks.json().await;
    assert_eq!(
        (&ack["id"], &ack["room"], &ack["data"]["status"]),
        (&"l".into(), &"lobby".into(), &"left".into())
    );
    assert_eq!(asks.told().await, "internal", "no event after the leave");
    for told in ["5", "6", "left"] {
        assert_eq!(put_out.told().await, told);
    }
}

/// The three clients of the same room hear of the publish what they asked for.
#[tokio::test]
async fn a_publisher_gets_its_ack_first_and_of_its_own_events_what_it_asked_for() {
    let edge = Edge::start(config());
    let (mut echoes, mut silent) = (edge.connect_joined().await, edge.connect().await);
    edge.post([joined_as(silent.key, false, None, 0, &[], true)]);
    assert_eq!(silent.told().await, "joined");
    let ack = |session, id: &str, seq: Option<u64>| Post::Ack {
        session,
        id: id.into(),
        name: "lobby".into(),
        position: seq.map(|seq| Position { epoch: "e1".into(), seq }),
        duplicate: false,
    };
    let from = |session, kind, seq| Post::Event {
        room: ROOM,
        event: event_of(kind, seq, "{}"),
        origin: Some(session),
    };
    edge.post([
        event(5),
        from(echoes.key, Kind::Signal, 0),
        ack(echoes.key, "a", Some(6)),
        from(echoes.key, Kind::Text, 6),
        from(silent.key, Kind::Text, 7),
        ack(silent.key, "b", None),
        from(silent.key, Kind::Typing, 0),
        event(8),
    ]);
    let ack = echoes.json().await;
    assert_eq!((&ack["type"], &ack["id"], &ack["data"]["seq"]), (&"ack".into(), &"a".into(), &6.into()));
    for told in ["5", "6", "7", "typing", "8"] {
        assert_eq!(echoes.told().await, told);
    }
    assert_eq!(silent.json().await["id"], "b");
    for told in ["5", "signal", "6", "8"] {
        assert_eq!(silent.told().await, told);
    }
}

#[tokio::test]
async fn a_long_replay_is_pulled_page_by_page_and_its_last_page_is_the_seam() {
    let edge = Edge::start(config());
    let mut client = edge.connect().await;
    client.send(r#"{"type":"join","id":"j","room":"lobby","data":{"since":{"epoch":"e","seq":1}}}"#).await;
    assert!(matches!(edge.core.next().await, Request::Join { since: Some(since), .. } if since == at(1)));
    edge.post([joined_as(client.key, true, Some(true), 3, &[2], false), event(5)]);
    let told = client.json().await;
    assert_eq!((&told["data"]["event"], &told["data"]["seq"]), (&"joined".into(), &4.into()));
    let cursor = Cursor::decode(told["data"]["cursor"].as_str().unwrap()).unwrap();
    assert_eq!(cursor.position_for("lobby"), Some(at(1)), "cut here, it has seen nothing of the replay");
    assert_eq!(client.told().await, "2");
    let pull = |after| Request::Pull { session: client.key, room: "lobby".into(), after };
    assert_eq!(edge.core.next().await, pull(at(2)));
    let page = |seqs: &[u64], live| Post::Page {
        session: client.key,
        room: ROOM,
        events: seqs.iter().map(|seq| event_of(Kind::Text, *seq, "{}")).collect(),
        live,
    };
    edge.post([page(&[3, 4], false), event(6)]);
    assert_eq!(edge.core.next().await, pull(at(4)));
    edge.post([event(7), page(&[5, 6, 7], true), event(8)]);
    for told in ["3", "4", "5", "6", "7", "8"] {
        assert_eq!(client.told().await, told);
    }
    assert_eq!(edge.core.asked(), [], "who is live pulls no more");
}

/// Pages are not piled up for a socket that does not take them.
#[tokio::test]
async fn the_next_page_is_pulled_when_the_socket_has_taken_the_last() {
    let edge = Edge::start(config());
    let (mut slow, mut other) = (edge.connect().await, edge.connect_joined().await);
    SockRef::from(slow.socket.get_ref()).set_recv_buffer_size(16 * 1024).unwrap();
    let Post::Joined {
        session, asked: true, presence: false, id, room, name, echo, position, recovered, ..
    } = joined_as(slow.key, true, Some(true), 9, &[], false)
    else {
        panic!("joined")
    };
    let page = vec![event_of(Kind::Text, 1, &format!(r#"{{"x":"{}"}}"#, "x".repeat(900_000)))];
    edge.post([
        Post::Joined {
            session,
            asked: true,
            presence: false,
            id,
            room,
            name,
            echo,
            position,
            recovered,
            replayed: 4,
            page,
            live: false,
        },
        event(5),
    ]);
    assert_eq!(other.told().await, "5");
    assert_eq!(edge.core.asked(), [], "most of the page still waits");
    assert_eq!((slow.told().await, slow.told().await), ("joined".into(), "1".into()));
    assert_eq!(
        edge.core.next().await,
        Request::Pull { session: slow.key, room: "lobby".into(), after: at(1) }
    );
}

#[tokio::test]
async fn the_path_joins_a_room_from_where_the_cursor_says() {
    let edge = Edge::start(config());
    let brought = Cursor::encode([("lobby", &at(2)), ("other", &at(9))]);
    let mut client = edge
        .connect_with(|new| {
            new.rooms = vec!["lobby".into()];
            new.since = Cursor::decode(&brought);
        })
        .await;
    let join = edge.core.next().await;
    assert!(
        matches!(&join, Request::Join { id: None, since: Some(since), .. } if *since == at(2)),
        "{join:?}"
    );
    edge.post([joined_as(client.key, true, Some(true), 2, &[3, 4], true)]);
    let cursor = client.json().await["data"]["cursor"].as_str().map(Cursor::decode).unwrap().unwrap();
    assert_eq!(cursor.position_for("other"), Some(at(9)), "what it brought and has not used is carried on");
    client.send(r#"{"type":"join","room":"other"}"#).await;
    client.send(r#"{"type":"join","room":"lobby"}"#).await;
    let since = |request| match request {
        Request::Join { since, .. } => since,
        other => panic!("{other:?}"),
    };
    assert_eq!(since(edge.core.next().await), Some(at(9)));
    assert_eq!(since(edge.core.next().await), None, "the cursor serves the first join only");
}

#[tokio::test]
async fn a_cursor_that_cannot_be_read_fits_no_position() {
    let edge = Edge::start(config());
    edge.connect_with(|new| {
        new.rooms = vec!["lobby".into()];
        new.since = Some(Cursor::unreadable());
    })
    .await;
    let Request::Join { since: Some(since), .. } = edge.core.next().await else {
        panic!("it has a position")
    };
    assert_eq!(&*since.epoch, "");
}

#[tokio::test]
async fn a_reset_tells_every_member_and_counts_anew() {
    let edge = Edge::start(config());
    let mut members = [edge.connect_joined().await, edge.connect_joined().await];
    let reset = Position { epoch: "new".into(), seq: 0 };
    edge.post([event(5), Post::Reset { room: ROOM, position: reset.clone() }, event(1)]);
    for member in &mut members {
        assert_eq!(member.told().await, "5");
        let told = member.json().await;
        assert_eq!(
            (&told["data"]["epoch"], &told["data"]["seq"], &told["data"]["recovered"]),
            (&"new".into(), &0.into(), &false.into())
        );
        let cursor = Cursor::decode(told["data"]["cursor"].as_str().unwrap()).unwrap();
        assert_eq!(cursor.position_for("lobby"), Some(reset.clone()));
        assert_eq!(member.told().await, "1");
    }
}

#[tokio::test]
async fn a_second_join_is_told_the_present_position() {
    let edge = Edge::start(config());
    let mut client = edge.connect_joined().await;
    client.send(r#"{"type":"join","id":"again","room":"lobby"}"#).await;
    edge.core.next().await;
    let still =
        Post::StillJoined { session: client.key, id: Some("again".into()), room: ROOM, position: at(5) };
    edge.post([event(5), still, event(6)]);
    assert_eq!(client.told().await, "5");
    let told = client.json().await;
    assert_eq!((&told["id"], &told["data"]["seq"]), (&"again".into(), &5.into()));
    assert_eq!(client.told().await, "6");
}

/// A session that the core moves anew, unasked, is not a member twice.
#[tokio::test]
async fn a_session_that_is_joined_again_gets_events_once() {
    let edge = Edge::start(config());
    let mut client = edge.connect_joined().await;
    edge.post([event(5), joined_as(client.key, true, Some(false), 0, &[], true), event(6), event(7)]);
    for told in ["5", "joined", "6", "7"] {
        assert_eq!(client.told().await, told);
    }
}

/// Places in the member list are filled from its end; who was moved there leaves from there.
#[tokio::test]
async fn a_member_that_was_moved_leaves_its_own_place() {
    let edge = Edge::start(config());
    let (first, _second, third) =
        (edge.connect_joined().await, edge.connect_joined().await, edge.connect_joined().await);
    drop(first.socket);
    assert_eq!(edge.core.next().await, Request::Close { session: first.key, vanished: true });
    let mut last = edge.connect_joined().await;
    drop(third.socket);
    assert_eq!(edge.core.next().await, Request::Close { session: third.key, vanished: true });
    edge.post([event(5)]);
    assert_eq!(last.told().await, "5");
}

/// Many members come and go by their own close while events flow: those who stay get all of them, in order.
#[tokio::test]
async fn members_that_vanish_do_not_disturb_the_others() {
    let edge = Edge::start(config());
    let mut members = Vec::new();
    for _ in 0..30 {
        members.push(edge.connect_joined().await);
    }
    let mut seq = 5;
    while members.len() > 10 {
        edge.post((0..20).map(|n| event(seq + n)));
        seq += 20;
        let leaver = members.swap_remove(seq as usize % members.len());
        drop(leaver.socket);
        assert_eq!(edge.core.next().await, Request::Close { session: leaver.key, vanished: true });
    }
    edge.post([event(seq)]);
    for member in &mut members {
        for n in 5..=seq {
            assert_eq!(member.told().await, n.to_string());
        }
    }
}

/// A stream of two rooms of which the core has been asked, read as it is.
async fn stream_of_two_rooms(edge: &Edge) -> (SessionKey, TcpStream) {
    let (session, stream) = edge
        .knock(|new| {
            new.dialect = Dialect::Sse;
            new.rooms = vec!["lobby".into(), "other".into()];
        })
        .await;
    edge.post([Post::Opened { session, user: "ann".into(), expires_us: None }]);
    (session, stream)
}

/// What a stream says up to this.
async fn read_until(stream: &mut TcpStream, last: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(last) || !bytes.ends_with(b"\n\n") {
        assert!(soon(stream.read_buf(&mut bytes)).await.unwrap() > 0, "it ended");
    }
    String::from_utf8(bytes).unwrap()
}

/// The first event with an id.
fn first_with_id(text: &str) -> Option<&str> {
    text.split("\n\n").find(|event| event.contains("\nid: "))
}

/// A client of several rooms has a cursor before its first message even if the last answer is that it may not join.
#[tokio::test]
async fn where_the_last_room_is_refused_the_refusal_has_the_cursor() {
    let edge = Edge::start(config());
    let (session, mut stream) = stream_of_two_rooms(&edge).await;
    let failure = Failure::new(Code::PermissionDenied, "not yours");
    edge.post([joined(session), Post::JoinFailed { session, id: None, name: "other".into(), failure }]);
    let said = read_until(&mut stream, "not yours").await;
    let first = first_with_id(&said).unwrap_or_else(|| panic!("no id: {said}"));
    assert!(first.starts_with("event: error\nid: ") && first.contains(r#""room":"other""#), "{said}");
    edge.post([event(5)]);
    assert!(first_with_id(&read_until(&mut stream, r#""seq":5"#).await).is_some());
}

/// A room that is refused without asking the core is not waited for.
#[tokio::test]
async fn a_room_beyond_the_limit_holds_back_no_cursor() {
    let edge = Edge::start(Config { max_rooms_per_session: 1, ..config() });
    let (session, mut stream) = stream_of_two_rooms(&edge).await;
    edge.post([joined(session)]);
    let said = read_until(&mut stream, r#""event":"joined""#).await;
    let first = first_with_id(&said).unwrap_or_else(|| panic!("no id: {said}"));
    assert!(first.contains(r#""event":"joined""#), "{said}");
}
