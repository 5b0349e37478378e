//! Every mistake has its code, names what it is about, and costs nothing else: the session goes on.
use super::{Behaviour, Case, Outcome, STREAMS, WEB_SOCKETS};
use hearth_tests::{
    process::Hearth,
    transports::{
        Doors, Session, Transport,
        command::{Join, Range},
    },
};
use std::time::Duration;

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::new("error: invalid_argument, room", bad_rooms),
        Behaviour::new("error: invalid_argument, payload", bad_payloads),
        Behaviour::new("error: invalid_argument, id", bad_ids),
        Behaviour::new("error: invalid_argument, too deep", too_deep),
        Behaviour::new("error: invalid_argument, too big", too_big),
        Behaviour::new("error: permission_denied to join and read", foreign_rooms),
        Behaviour::new("error: permission_denied to publish", foreign_words),
        Behaviour::new("error: failed_precondition", not_joined),
        Behaviour::new("error: resource_exhausted, rate", too_many),
        Behaviour::new("error: unavailable", no_core),
    ]
}

const BAD: &str = "invalid_argument";

async fn bad_rooms(case: Case) -> Outcome {
    let mut ann = case.connect("ann").await;
    let long = "r".repeat(129);
    for room in ["a room", "-a", ".a", "a/b", "zoë", &long] {
        for kind in ["text", "signal"] {
            let refusal = ann.publish(room, kind, Some("p"), "{}").await.unwrap_err();
            assert_eq!(refusal.code, BAD, "{kind} to {room}");
        }
        assert_eq!(ann.history(room, Range::default()).await.unwrap_err().code, BAD, "history of {room}");
        let refused = case.connect("ann").await.join(room, &Join::default()).await;
        assert_eq!(refused.unwrap_err().code, BAD, "join of {room}");
    }
    // The longest that is one, and every sign that may be in it.
    ann.text(&long[1..], case.transport.name()).await;
    ann.text(&format!("{}.:~@|+=-_", case.room), "1").await;
    Outcome::Kept
}

async fn bad_payloads(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.connect("ann").await, case.enter("ben").await);
    for kind in ["text", "signal"] {
        for data in ["null", "1", r#""{}""#, "[]", "[{}]", "true"] {
            let refusal = ann.publish(&case.room, kind, Some("p"), data).await.unwrap_err();
            assert_eq!(
                (refusal.code.as_str(), refusal.room.as_ref()),
                (BAD, Some(&case.room)),
                "{kind} {data}"
            );
        }
        // What is no JSON leaves no id to be read in a JSON frame.
        for data in ["{", r#"{"a":01}"#, r#"{"a":NaN}"#, "{'a':1}", r#"{"a":1,}"#] {
            let refusal = ann.publish(&case.room, kind, Some("p"), data).await.unwrap_err();
            assert_eq!(refusal.code, BAD, "{kind} {data}");
        }
    }
    assert_eq!(ann.text(&case.room, "p").await, 1, "what was refused has used up neither seq nor id");
    assert_eq!(ben.next().await.seq, Some(1));
    Outcome::Kept
}

/// Characters, not bytes.
async fn bad_ids(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.connect("ann").await, case.enter("ben").await);
    let refusal = ann.publish(&case.room, "text", Some(&"é".repeat(257)), "{}").await.unwrap_err();
    assert_eq!(refusal.code, BAD);
    let longest = "é".repeat(256);
    ann.publish(&case.room, "text", Some(&longest), "{}").await.unwrap();
    assert_eq!(ben.next().await.id, Some(longest));
    Outcome::Kept
}

/// 64 levels, of which the envelope is the first and `data` the second, whether or not it is written.
async fn too_deep(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.connect("ann").await, case.enter("ben").await);
    let nested = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels - 2), "]".repeat(levels - 2));
    for kind in ["text", "signal"] {
        ann.publish(&case.room, kind, Some(kind), &nested(64)).await.unwrap();
        assert_eq!(ben.next().await.id.as_deref(), Some(kind));
        let refusal = ann.publish(&case.room, kind, Some("deeper"), &nested(65)).await.unwrap_err();
        assert_eq!(refusal.code, BAD, "{kind}");
    }
    Outcome::Kept
}

/// The limit is 1000 bytes, of a whole message at an edge and of a payload at a core. A WebSocket is closed over it, since what is
/// not read cannot be answered.
async fn too_big(case: Case) -> Outcome {
    let doors = Doors::of(&case.servers.narrow);
    let mut ann = Session::connect(doors, case.transport, "ann").await;
    let mut ben = Session::enter(doors, case.transport, "ben", &case.room).await;
    let filled = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
    ann.publish(&case.room, "text", Some("1"), &filled(900)).await.unwrap();
    assert_eq!(ben.next().await.seq, Some(1));
    let refusal = ann.publish(&case.room, "text", Some("2"), &filled(1001)).await.unwrap_err();
    if WEB_SOCKETS.contains(&case.transport) {
        assert_eq!(refusal.code, "1009 too_big");
    } else {
        assert_eq!(refusal.code, BAD);
        assert_eq!(ann.text(&case.room, "3").await, 2, "the session goes on");
    }
    let mut ann = Session::connect(doors, case.transport, "ann").await;
    ann.mark(&case.room, "end").await;
    let seqs: Vec<u64> = ben.until_mark("end").await.iter().filter_map(|envelope| envelope.seq).collect();
    assert!(seqs.iter().all(|seq| *seq == 2), "{seqs:?}");
    Outcome::Kept
}

/// A personal room is its user's: to everybody else it is closed, and blocks no other room.
async fn foreign_rooms(case: Case) -> Outcome {
    let mut ann = case.connect("ann").await;
    let refusal = ann.history("~bob", Range::default()).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.room.as_deref()), ("permission_denied", Some("~bob")));
    let refusal = ann.join("~bob", &Join::default()).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.room.as_deref()), ("permission_denied", Some("~bob")));
    // 23.
    let mut ann = case.connect("ann").await;
    let mut answers = ann.join_all(&["~bob", &case.room], &Join::default()).await.into_iter();
    assert_eq!(answers.next().unwrap().unwrap_err().code, "permission_denied");
    assert_eq!(answers.next().unwrap().unwrap().seq, 0);
    ann.text(&case.room, "1").await;
    assert_eq!(ann.next().await.seq, Some(1));
    let user = format!("ann-{}", case.transport.name());
    let mut own = case.connect(&user).await;
    own.must_join(&format!("~{user}"), &Join::default()).await;
    Outcome::Kept
}

/// Only services publish to personal rooms and as the system.
async fn foreign_words(case: Case) -> Outcome {
    let mut ann = case.connect("ann").await;
    let own = format!("~bob-{}", case.transport.name());
    let rooms = [(own.as_str(), "text"), ("~ann", "text"), (&case.room, "system")];
    if case.transport.is_service() {
        for (room, kind) in rooms {
            ann.publish(room, kind, Some("p"), "{}").await.unwrap();
        }
        return Outcome::ByTheContract("services publish to personal rooms and as the system");
    }
    for (room, kind) in rooms {
        let refusal = ann.publish(room, kind, Some("p"), "{}").await.unwrap_err();
        assert_eq!(
            (refusal.code.as_str(), refusal.room.as_deref()),
            ("permission_denied", Some(room)),
            "{kind}"
        );
    }
    Outcome::Kept
}

/// What is a member's to say. A request stands for no member.
async fn not_joined(case: Case) -> Outcome {
    let mut ann = case.connect("ann").await;
    let room = case.room.as_str();
    if case.transport.speaks_by_request() {
        ann.publish(room, "typing", Some("t"), r#"{"active":true}"#).await.unwrap();
        ann.set_meta(room, "{}").await.unwrap();
        return Outcome::ByTheContract("requests need the permission, not a join");
    }
    let typing = ann.publish(room, "typing", Some("t"), r#"{"active":true}"#).await.unwrap_err();
    let refusals = [typing, ann.set_meta(room, "{}").await.unwrap_err(), ann.leave(room).await.unwrap_err()];
    for refusal in refusals {
        assert_eq!((refusal.code.as_str(), refusal.room.as_deref()), ("failed_precondition", Some(room)));
    }
    ann.text(room, "but a text needs none").await;
    Outcome::Kept
}

/// 28. Two a second and five at once. A refusal says when to try again, and then it goes.
async fn too_many(case: Case) -> Outcome {
    let doors = Doors::of(&case.servers.slow);
    // A request is counted to its user.
    let user = format!("ann-{}", case.transport.name());
    let mut ann = Session::connect(doors, case.transport, &user).await;
    let mut refused = None;
    for n in 0..50 {
        let answer = ann.publish(&case.room, "text", Some(&n.to_string()), "{}").await;
        if let Err(refusal) = answer {
            refused = Some(refusal);
            break;
        }
    }
    let refusal = refused.expect("fifty at once are more than five and what a moment brings");
    assert_eq!(refusal.code, "resource_exhausted");
    let wait = refusal.retry_after_ms.expect("it says when");
    assert!((1..=1000).contains(&wait), "{wait} ms");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    ann.publish(&case.room, "text", Some("later"), "{}").await.unwrap();
    // Nobody else is limited by it.
    let other = format!("ben-{}", case.transport.name());
    Session::connect(doors, case.transport, &other).await.text(&case.room, "ben's").await;
    Outcome::Kept
}

/// Without a core nothing is said to be delivered. A service's stream ends with it, a browser's stays.
async fn no_core(case: Case) -> Outcome {
    let mut core = Hearth::core(&[]).await;
    let edge = Hearth::edge(core.grpc(), &[]).await;
    let doors = Doors { http: edge.http(), grpc: core.grpc() };
    let mut ann = Session::connect(doors, case.transport, "ann").await;
    ann.text(&case.room, "1").await;
    core.kill();
    let refusal = ann.publish(&case.room, "text", Some("2"), "{}").await.unwrap_err();
    if case.transport == Transport::Connect {
        assert!(refusal.code == "UNAVAILABLE" || refusal.code.starts_with("broken"), "{refusal:?}");
    } else {
        assert_eq!(refusal.code, "unavailable");
    }
    if STREAMS.contains(&case.transport) {
        assert!(refusal.retry_after_ms.is_some_and(|ms| ms > 0), "{refusal:?}");
    }
    Outcome::Kept
}
