//! Property tests of a whole room against a naive model, and what tests need to make events.
use super::{
    Now,
    event::{Event, Kind, NewEvent, Payload},
    feed::{Feed, Offer},
    history::Range,
    id::{ClientId, RoomName, UserName},
    log::{Log, Published, Retention},
    position::{Epoch, Position, recovers},
};
use bytes::Bytes;
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};

pub(crate) fn new_event(room: &str, user: &str, id: Option<&str>) -> NewEvent {
    NewEvent {
        room: RoomName::new(room).unwrap(),
        kind: Kind::Text,
        id: id.map(|id| ClientId::new(id).unwrap()),
        author: UserName::new(user).unwrap(),
        payload: Payload::Json(Bytes::from_static(b"{}")),
        session: None,
    }
}

pub(crate) fn event(room: &str, seq: u64) -> Arc<Event> {
    Arc::new(Event::accepted(new_event(room, "u", None), seq, 0))
}

/// One step of the world.
#[derive(Debug, Clone)]
enum Step {
    /// Publishes, with one of a few ids or none.
    Publish(u8, Option<u8>),
    /// The engine's next events reach the hub.
    Arrive,
    /// A session reads history for a join since this seq …
    Read(u64),
    /// … and takes its turn in the room, after whatever came between.
    Turn,
    /// Time passes, in tenths of the ttl.
    Wait(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..2, prop::option::of(0u8..4)).prop_map(|(user, id)| Step::Publish(user, id)),
        4 => Just(Step::Arrive),
        2 => (0u64..12).prop_map(Step::Read),
        2 => Just(Step::Turn),
        1 => (1u8..8).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// A session that has joined: what it was told, and what it has seen since.
struct Session {
    recovered: bool,
    from: u64,
    seen: Vec<u64>,
}

const KEEP: Retention =
    Retention { size: 5, ttl: Duration::from_secs(10), dedupe_window: Duration::from_secs(5), dedupe_max: 3 };

proptest! {
    /// Whatever the interleaving: seq is dense, an id within its window is one event, and each session sees exactly the events after its
    /// place, once, in order, whatever was published between its read and its turn.
    #[test]
    fn rooms_keep_their_promises(steps in steps()) {
        let mut now = Now::read();
        let start = Position { epoch: Epoch::new("e"), seq: 0 };
        let mut log = Log::new(start.clone());
        let mut feed: Feed<Arc<Event>> = Feed::new(start);
        let mut on_the_way: Vec<Arc<Event>> = Vec::new();
        let mut sessions: Vec<Session> = Vec::new();
        // The model: every event, when it was published and by which id, newest last.
        let mut model: Vec<(Now, Option<(u8, u8)>)> = Vec::new();
        let mut read = None;
        for step in steps {
            match step {
                Step::Publish(user, id) => {
                    let name = id.map(|id| format!("id{id}"));
                    let published = log.publish(now, &KEEP, new_event("r", &format!("u{user}"), name.as_deref()));
                    // The naive rule: among the last few ids, is it there and young enough?
                    let mut ids: Vec<_> = model.iter().enumerate().filter(|(_, (_, id))| id.is_some()).collect();
                    ids.reverse();
                    ids.truncate(KEEP.dedupe_max);
                    let before = ids.iter().find(|(_, (at, other))| {
                        id.is_some() && *other == id.map(|id| (user, id)) && now.instant - at.instant < KEEP.dedupe_window
                    });
                    match (published, before) {
                        (Published::Again(seen), Some((index, _))) => prop_assert_eq!(seen.seq, *index as u64 + 1),
                        (Published::New(event), None) => {
                            model.push((now, id.map(|id| (user, id))));
                            prop_assert_eq!(event.seq, model.len() as u64, "dense");
                            on_the_way.push(event);
                        }
                        (published, before) => prop_assert!(false, "{:?} where the model has {:?}", published, before),
                    }
                }
                Step::Arrive => {
                    for event in on_the_way.drain(..) {
                        prop_assert_eq!(feed.offer(&event, true), Offer::Next);
                        prop_assert_eq!(feed.offer(&event, true), Offer::Stale);
                        sessions.iter_mut().for_each(|session| session.seen.push(event.seq));
                    }
                }
                Step::Read(since) => {
                    let page = log.read(now, &KEEP, Range { after: Some(since), limit: usize::MAX, ..Range::default() });
                    let since = Position { epoch: Epoch::new("e"), seq: since };
                    let kept = model.iter().rev().take(KEEP.size)
                        .take_while(|(at, _)| now.instant - at.instant < KEEP.ttl).count();
                    prop_assert_eq!(log.floor(), (model.len() - kept) as u64, "what is kept, by count and age");
                    read = Some((since, log.position().clone(), log.floor(), page.events));
                }
                Step::Turn => {
                    let Some((since, current, floor, events)) = read.take() else { continue };
                    let recovered = recovers(&since, &current, floor);
                    let top = feed.position().seq;
                    let mut session = Session { recovered, from: if recovered { since.seq } else { top }, seen: Vec::new() };
                    if recovered {
                        // What was read, but not beyond the feed; then the tail.
                        session.seen.extend(events.iter().map(|event| event.seq).filter(|seq| *seq <= top));
                        if let Some(tail) = feed.since(current.seq.min(top)) {
                            session.seen.extend(tail.map(|event| event.seq));
                        }
                        // A position that the feed has not reached yet is the engine's word: live events below it are its past.
                        if since.seq > top {
                            continue;
                        }
                    }
                    sessions.push(session);
                }
                Step::Wait(tenths) => now = now.after(KEEP.ttl * u32::from(tenths) / 10),
            }
            for session in &sessions {
                let expected: Vec<u64> = (session.from + 1..=feed.position().seq).collect();
                prop_assert_eq!(&session.seen, &expected, "recovered: {}", session.recovered);
            }
        }
    }
}

#[test]
fn a_hole_is_noticed_and_the_tail_says_how_far_it_reaches() {
    let mut feed: Feed<Arc<Event>> = Feed::new(Position { epoch: Epoch::new("e"), seq: 7 });
    assert_eq!(feed.offer(&event("r", 9), true), Offer::Hole { after: 7 });
    for seq in 8..=80 {
        assert_eq!(feed.offer(&event("r", seq), true), Offer::Next);
    }
    assert!(feed.since(10).is_none(), "the tail does not reach back that far");
    let tail: Vec<u64> = feed.since(78).unwrap().map(|event| event.seq).collect();
    assert_eq!(tail, [79, 80]);
    assert_eq!(feed.since(80).unwrap().count(), 0);
    assert!(feed.since(81).is_none());
}

#[test]
fn an_id_that_outlives_its_event_still_answers_with_the_old_seq() {
    let keep = Retention { ttl: Duration::from_secs(1), ..KEEP };
    let mut log = Log::new(Position { epoch: Epoch::new("e"), seq: 0 });
    let start = Now::read();
    assert!(matches!(log.publish(start, &keep, new_event("r", "u", Some("a"))), Published::New(_)));
    let later = start.after(Duration::from_secs(2));
    let again = log.publish(later, &keep, new_event("r", "u", Some("a")));
    assert!(matches!(again, Published::Again(seen) if seen.seq == 1));
    log.expire(later, &keep);
    assert!(log.history().is_empty());
    let other = log.publish(later, &keep, new_event("r", "v", Some("a")));
    assert!(matches!(other, Published::New(event) if event.seq == 2), "another user's id is another id");
    let after_the_window = start.after(Duration::from_secs(6));
    assert!(matches!(
        log.publish(after_the_window, &keep, new_event("r", "u", Some("a"))),
        Published::New(_)
    ));
}
