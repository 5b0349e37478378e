//! The engine in memory, with time as an argument.
use super::*;
use crate::room::testing::new_event;
use std::time::Duration;

struct Nobody;

impl Sink for Nobody {
    fn deliver(&self, _: Arc<Event>, _: &Epoch, _: Option<Receipt>) {}
    fn pass(&self, _: Arc<Event>) {}
    fn closed(&self, _: &RoomName, _: &Position) {}
    fn heard(&self, _: Notice) {}
}

fn engine(config: &Config) -> Memory {
    Memory::new(config, "boot", Arc::new(Nobody))
}

fn sweep_all(engine: &Memory, now: Now) {
    (0..SHARDS).for_each(|number| engine.sweep_at(now, number));
}

#[tokio::test]
async fn memory_is_flat_over_a_million_rooms() {
    let config = Config { positions_max: 1600, ..Config::default() };
    let engine = engine(&config);
    for n in 0..1_000_000 {
        let room = RoomName::new(&format!("r{n}")).unwrap();
        engine.open(&room).await.unwrap();
        engine.close(&room);
    }
    let held = engine.held();
    assert_eq!((held.rooms, held.events), (0, 0));
    assert!(held.positions <= 1600 && held.order <= 2 * (1600 + SHARDS * 512), "{held:?}");
}

#[test]
fn rooms_with_history_shrink_to_positions_when_it_expires() {
    let config = Config { positions_max: 1600, history_ttl: Duration::from_secs(60), ..Config::default() };
    let engine = engine(&config);
    let start = Now::read();
    for n in 0..20_000 {
        engine.publish_at(start, new_event(&format!("r{n}"), "u", Some("id")), None, None).unwrap();
    }
    assert_eq!(engine.held().rooms, 20_000);
    sweep_all(&engine, start.after(Duration::from_secs(61)));
    assert_eq!(engine.held().events, 0);
    assert_eq!(engine.held().rooms, 20_000, "ids outlive history");
    sweep_all(&engine, start.after(Duration::from_secs(301)));
    let held = engine.held();
    assert_eq!((held.rooms, held.events, held.bytes), (0, 0, 0));
    assert!(held.positions <= 1600);
}

#[test]
fn history_is_bounded_in_bytes_and_the_oldest_goes_first() {
    let config = Config { history_max_bytes: SHARDS * 20_000, ..Config::default() };
    let engine = engine(&config);
    let now = Now::read();
    for n in 0..50_000 {
        engine.publish_at(now, new_event(&format!("r{}", n % 5000), "u", None), None, None).unwrap();
    }
    let held = engine.held();
    assert!(held.bytes <= SHARDS * 20_000, "{held:?}");
    assert!(held.order <= 2 * held.events + SHARDS * 1024, "{held:?}");
    let room = RoomName::new("r4999").unwrap();
    let read = engine.read_at(now, &room, Range { limit: 100, ..Range::default() });
    assert_eq!(read.position.seq, 10);
    assert!(!read.events.is_empty() && read.events.len() < 10, "the newest are there, the oldest are not");
    assert_eq!(read.floor + read.events.len() as u64, 10);
}

#[tokio::test]
async fn a_position_outlives_its_room_and_an_evicted_one_gets_a_new_epoch() {
    let config = Config { positions_max: SHARDS, history_size: 0, dedupe_max: 0, ..Config::default() };
    let engine = engine(&config);
    let room = RoomName::new("r").unwrap();
    let first = engine.open(&room).await.unwrap();
    engine.publish(new_event("r", "u", None), None, None).await.unwrap();
    engine.close(&room);
    assert_eq!(engine.held().rooms, 0);
    let again = engine.open(&room).await.unwrap();
    assert_eq!(again, Position { epoch: first.epoch.clone(), seq: 1 });
    engine.close(&room);
    for n in 0..1000 {
        let other = RoomName::new(&format!("other{n}")).unwrap();
        engine.open(&other).await.unwrap();
        engine.close(&other);
    }
    let anew = engine.open(&room).await.unwrap();
    assert_ne!(anew.epoch, first.epoch);
    assert_eq!(anew.seq, 0);
}

#[tokio::test]
async fn a_closed_room_begins_anew_with_nothing_left() {
    let engine = engine(&Config::default());
    let room = RoomName::new("r").unwrap();
    assert_eq!(engine.close_room(&room).await, Ok(None), "there is none");
    let now = Now::read();
    for n in 0..100 {
        engine.publish_at(now, new_event("r", "u", Some(&format!("{n}"))), None, None).unwrap();
        engine.publish_at(now, new_event("other", "u", None), None, None).unwrap();
    }
    let before = engine.read_at(now, &room, Range { limit: 1, ..Range::default() }).position;
    let anew = engine.close_room(&room).await.unwrap().unwrap();
    assert_eq!(anew.seq, 0);
    assert_ne!(anew.epoch, before.epoch);
    let held = engine.held();
    assert_eq!((held.events, held.order), (100, 100), "the other room's: {held:?}");
    let first = engine.publish_at(now, new_event("r", "u", Some("7")), None, None).unwrap().accepted;
    assert_eq!((first.position.seq, first.duplicate), (1, false), "ids are forgotten, too");
    assert_eq!(first.position.epoch, anew.epoch);
    sweep_all(&engine, now.after(Duration::from_secs(48 * 3600)));
    let held = engine.held();
    assert_eq!((held.rooms, held.events, held.bytes), (0, 0, 0));
    // Only its position is left; that goes, too.
    let again = engine.close_room(&room).await.unwrap().unwrap();
    assert_ne!(again.epoch, anew.epoch);
    assert_eq!(engine.open(&room).await.unwrap(), again);
}

#[tokio::test]
async fn a_publish_under_another_epoch_is_refused() {
    let engine = engine(&Config::default());
    let old = Some(Epoch::new("gone.0"));
    let refused = engine.publish(new_event("r", "u", Some("a")), old, None).await;
    assert!(matches!(refused, Err(EngineError::OtherEpoch)));
    let accepted = engine.publish(new_event("r", "u", Some("a")), None, None).await.unwrap().accepted;
    assert_eq!((accepted.position.seq, accepted.duplicate), (1, false));
    let again =
        engine.publish(new_event("r", "u", Some("a")), Some(accepted.position.epoch), None).await.unwrap();
    assert!(again.accepted.duplicate);
}
