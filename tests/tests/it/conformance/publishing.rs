//! Acks, and ids that count once.
use super::{Behaviour, Case, Outcome};
use hearth_tests::transports::{Session, Transport, envelope::Ack};

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::new("ack: the seq of a text, none of a signal", acks),
        Behaviour::new("ack: no id, and none is made up", no_id),
        Behaviour::new("idempotency: the same id twice", twice),
        Behaviour::new("idempotency: raced from two sessions", raced),
        Behaviour::new("idempotency: from another transport", from_another_transport),
    ]
}

fn first(seq: u64) -> Ack {
    Ack { seq: Some(seq), duplicate: false }
}

fn again(seq: u64) -> Ack {
    Ack { seq: Some(seq), duplicate: true }
}

/// Needs no join, and what has no number is acked without one.
async fn acks(case: Case) -> Outcome {
    let mut ann = case.connect("ann").await;
    let room = case.room.as_str();
    assert_eq!(ann.publish(room, "text", Some("1"), r#"{"a":1}"#).await, Ok(first(1)));
    assert_eq!(ann.publish(room, "signal", Some("2"), "{}").await, Ok(Ack { seq: None, duplicate: false }));
    assert_eq!(ann.publish(room, "text", Some("3"), "{}").await, Ok(first(2)));
    Outcome::Kept
}

async fn no_id(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.connect("ann").await, case.enter("ben").await);
    for n in 1..=2 {
        ann.publish(&case.room, "text", None, "{}").await.unwrap();
        let text = ben.next().await;
        assert_eq!((text.id.as_ref(), text.seq), (None, Some(n)), "{text:?}");
    }
    Outcome::Kept
}

/// One seq, one event, also with other data; another user's is another key, and so is another room's.
async fn twice(case: Case) -> Outcome {
    let (mut ann, mut eve) = (case.connect("ann").await, case.connect("eve").await);
    let mut ben = case.enter("ben").await;
    let room = case.room.as_str();
    assert_eq!(ann.publish(room, "text", Some("k"), r#"{"n":1}"#).await, Ok(first(1)));
    assert_eq!(ann.publish(room, "text", Some("k"), r#"{"n":1}"#).await, Ok(again(1)));
    assert_eq!(ann.publish(room, "text", Some("k"), r#"{"n":2}"#).await, Ok(again(1)));
    assert_eq!(eve.publish(room, "text", Some("k"), r#"{"n":3}"#).await, Ok(first(2)));
    assert_eq!(ann.publish(&format!("{room}:other"), "text", Some("k"), "{}").await, Ok(first(1)));
    // A session that comes later finds it done already.
    assert_eq!(case.connect("ann").await.publish(room, "text", Some("k"), "{}").await, Ok(again(1)));
    ann.mark(room, "end").await;
    let seen: Vec<(Option<u64>, String)> =
        ben.until_mark("end").await.iter().map(|text| (text.seq, text.field("author"))).collect();
    let expected = [(Some(1), "ann"), (Some(2), "eve"), (None, "ann")];
    assert_eq!(seen, expected.map(|(seq, author)| (seq, author.to_owned())));
    Outcome::Kept
}

/// 9. Of two at once one is the first; both are acked with one seq.
async fn raced(case: Case) -> Outcome {
    let (mut one, mut other) = (case.connect("ann").await, case.connect("ann").await);
    let mut ben = case.enter("ben").await;
    let room = case.room.as_str();
    for n in 1..=10 {
        let id = format!("race{n}");
        let (left, right) = tokio::join!(
            one.publish(room, "text", Some(&id), "{}"),
            other.publish(room, "text", Some(&id), "{}"),
        );
        let mut acks = [left.unwrap(), right.unwrap()];
        acks.sort_by_key(|ack| ack.duplicate);
        assert_eq!(acks, [first(n), again(n)]);
        assert_eq!(ben.next().await.seq, Some(n));
    }
    one.mark(room, "end").await;
    assert_eq!(ben.until_mark("end").await.len(), 1, "each is heard once");
    Outcome::Kept
}

/// 21. A key is the user's, however it comes.
async fn from_another_transport(case: Case) -> Outcome {
    let mut here = case.connect("ann").await;
    for (n, transport) in (1..).zip(Transport::ALL) {
        let mut there = Session::connect(case.doors(), transport, "ann").await;
        let (to, fro) = (format!("to {}", transport.name()), format!("from {}", transport.name()));
        let room = case.room.as_str();
        assert_eq!(here.publish(room, "text", Some(&to), "{}").await, Ok(first(2 * n - 1)), "{to}");
        assert_eq!(there.publish(room, "text", Some(&to), "{}").await, Ok(again(2 * n - 1)), "{to}");
        assert_eq!(there.publish(room, "text", Some(&fro), "{}").await, Ok(first(2 * n)), "{fro}");
        assert_eq!(here.publish(room, "text", Some(&fro), "{}").await, Ok(again(2 * n)), "{fro}");
    }
    Outcome::Kept
}
