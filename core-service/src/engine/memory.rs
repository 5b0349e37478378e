//! The default engine: everything in this process's memory, gone when it ends. A new process draws a new boot id, and with it every
//! room has a new epoch: nobody is told that nothing was lost.
//!
//! Rooms are dealt to shards by name, each behind a mutex that is held for a microsecond. The feed is called under it: that is what
//! makes its order the log's order. A shard's history is bounded in bytes: past its part the shard's oldest events go first,
//! whichever room they are in, so memory is bounded whatever the number of rooms.
use super::{
    Accepted, Engine, EngineError, HistoryRead, ListedRoom, Notice, Outcome, Receipt, Reply, Sink,
    positions::{Kept, Positions},
};
use crate::{
    config::Config,
    room::{
        Now,
        dedupe::keyed_hash,
        event::{Event, NewEvent},
        history::Range,
        id::RoomName,
        log::{Log, Published, Retention},
        position::{Epoch, Position},
    },
};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

/// More than the processors of any machine this runs on, so that two publishers seldom meet.
const SHARDS: usize = 16;

/// The engine.
pub struct Memory {
    boot: String,
    identity: String,
    keep: Retention,
    positions_max: usize,
    bytes_max: usize,
    epochs: AtomicU64,
    next_sweep: AtomicUsize,
    shards: [Mutex<Shard>; SHARDS],
    sink: Arc<dyn Sink>,
}

#[derive(Default)]
struct Shard {
    rooms: HashMap<RoomName, Room>,
    positions: Positions,
    /// What all histories here cost.
    bytes: usize,
    /// (room, seq) of every stored event, oldest first; those that their room has dropped already are passed over.
    order: VecDeque<(RoomName, u64)>,
    /// How many events are stored.
    events: usize,
}

struct Room {
    log: Log,
    epoch: u64,
    /// How often the hub has opened it: while it is fed the room stays, whatever has expired.
    fed: usize,
}

/// What an engine holds, for metrics and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Rooms with history, ids or members.
    pub rooms: usize,
    /// Positions of others.
    pub positions: usize,
    /// Stored events.
    pub events: usize,
    /// What they cost, in bytes.
    pub bytes: usize,
    /// Entries of the orders behind them.
    pub order: usize,
}

impl Memory {
    /// An empty engine that feeds `sink`.
    pub fn new(config: &Config, boot: &str, sink: Arc<dyn Sink>) -> Self {
        Self {
            boot: boot.to_owned(),
            identity: format!("memory:{boot}"),
            keep: Retention {
                size: config.history_size,
                ttl: config.history_ttl,
                dedupe_window: config.dedupe_window,
                dedupe_max: config.dedupe_max,
            },
            positions_max: config.positions_max.div_ceil(SHARDS),
            bytes_max: config.history_max_bytes.div_ceil(SHARDS),
            epochs: AtomicU64::new(0),
            next_sweep: AtomicUsize::new(0),
            shards: Default::default(),
            sink,
        }
    }

    /// What it holds.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        for shard in &self.shards {
            let shard = lock(shard);
            let (positions, order) = shard.positions.len();
            held.rooms += shard.rooms.len();
            held.positions += positions;
            held.events += shard.events;
            held.bytes += shard.bytes;
            held.order += order + shard.order.len();
        }
        held
    }

    fn shard(&self, room: &RoomName) -> MutexGuard<'_, Shard> {
        lock(&self.shards[keyed_hash(room) as usize % SHARDS])
    }

    fn epoch(&self, number: u64) -> Epoch {
        Epoch::new(&format!("{}.{number}", self.boot))
    }

    /// The room, made from its kept position or from nothing.
    fn room<'a>(&self, shard: &'a mut Shard, now: Instant, name: &RoomName) -> &'a mut Room {
        let Shard { rooms, positions, .. } = shard;
        match rooms.entry(name.clone()) {
            Entry::Occupied(room) => room.into_mut(),
            Entry::Vacant(vacant) => {
                let kept = positions.take(now, name);
                let kept = kept
                    .unwrap_or_else(|| Kept { epoch: self.epochs.fetch_add(1, Ordering::Relaxed), seq: 0 });
                let position = Position { epoch: self.epoch(kept.epoch), seq: kept.seq };
                vacant.insert(Room { log: Log::new(position), epoch: kept.epoch, fed: 0 })
            }
        }
    }

    /// `read`'s and `publish`'s own, with the time as an argument.
    fn publish_at(
        &self,
        now: Now,
        new: NewEvent,
        epoch: Option<&Epoch>,
        receipt: Option<Receipt>,
    ) -> Result<Outcome, EngineError> {
        let mut guard = self.shard(&new.room);
        let shard = &mut *guard;
        let name = new.room.clone();
        let room = self.room(shard, now.instant, &name);
        if !room.log.is_of(epoch) {
            return Err(EngineError::OtherEpoch);
        }
        let before = (room.log.history().bytes(), room.log.history().len());
        let published = room.log.publish(now, &self.keep, new);
        let after = (room.log.history().bytes(), room.log.history().len());
        let epoch = room.log.position().epoch.clone();
        shard.bytes = shard.bytes + after.0 - before.0;
        shard.events = shard.events + after.1 - before.1;
        match published {
            Published::Again(seen) => {
                let position = Position { epoch, seq: seen.seq };
                let accepted = Accepted { position, duplicate: true, timestamp_us: seen.timestamp_us };
                Ok(Outcome { accepted, receipt })
            }
            Published::New(event) => {
                if after.1 > 0 {
                    shard.order.push_back((name, event.seq));
                }
                shard.make_room(self.bytes_max);
                let position = Position { epoch: epoch.clone(), seq: event.seq };
                let accepted = Accepted { position, duplicate: false, timestamp_us: event.timestamp_us };
                // Under the lock: the feed's order is the log's.
                self.sink.deliver(event, &epoch, receipt);
                Ok(Outcome { accepted, receipt: None })
            }
        }
    }

    fn read_at(&self, now: Now, name: &RoomName, range: Range) -> HistoryRead {
        let mut guard = self.shard(name);
        let shard = &mut *guard;
        if let Some(room) = shard.rooms.get_mut(name) {
            let before = (room.log.history().bytes(), room.log.history().len());
            let page = room.log.read(now, &self.keep, range);
            let position = room.log.position().clone();
            let read =
                HistoryRead { position, floor: room.log.floor(), events: page.events, more: page.more };
            let after = (room.log.history().bytes(), room.log.history().len());
            shard.bytes = shard.bytes + after.0 - before.0;
            shard.events = shard.events + after.1 - before.1;
            return read;
        }
        // Reading makes no room. One that is not known has no epoch yet; whoever asks has no position in it either.
        let position = match shard.positions.get(now.instant, name) {
            Some(kept) => Position { epoch: self.epoch(kept.epoch), seq: kept.seq },
            None => Position { epoch: Epoch::new(""), seq: 0 },
        };
        HistoryRead { floor: position.seq, position, events: Vec::new(), more: false }
    }

    fn close_room_at(&self, now: Instant, name: &RoomName) -> Option<Position> {
        let mut guard = self.shard(name);
        let shard = &mut *guard;
        let known = shard.positions.take(now, name).is_some();
        let Some(room) = shard.rooms.get_mut(name) else {
            // Whoever comes draws a new epoch; which, nobody needs to know.
            return known.then(|| Position { epoch: Epoch::new(""), seq: 0 });
        };
        shard.bytes -= room.log.history().bytes();
        shard.events -= room.log.history().len();
        room.epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
        let anew = Position { epoch: self.epoch(room.epoch), seq: 0 };
        room.log = Log::new(anew.clone());
        // Its entries would stand for events of the new numbering.
        shard.order.retain(|(room, _)| room != name);
        // Under the lock, as events are.
        self.sink.closed(name, &anew);
        Some(anew)
    }

    fn sweep_at(&self, now: Now, number: usize) {
        let mut guard = lock(&self.shards[number % SHARDS]);
        let Shard { rooms, positions, bytes, events, order } = &mut *guard;
        rooms.retain(|name, room| {
            let before = (room.log.history().bytes(), room.log.history().len());
            room.log.expire(now, &self.keep);
            let after = (room.log.history().bytes(), room.log.history().len());
            *bytes = *bytes + after.0 - before.0;
            *events = *events + after.1 - before.1;
            let stays = room.fed > 0 || !room.log.is_bare();
            if !stays {
                let kept = Kept { epoch: room.epoch, seq: room.log.position().seq };
                positions.put(now.instant, self.positions_max, name, kept);
            }
            stays
        });
        positions.expire(now.instant);
        if *events == 0 {
            *order = VecDeque::new();
        }
        if rooms.capacity() > 4 * rooms.len() + 64 {
            rooms.shrink_to(2 * rooms.len());
        }
    }
}

impl Shard {
    /// Drops the oldest events until the rest fits.
    fn make_room(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((name, seq)) = self.order.pop_front() else { return };
            let Some(room) = self.rooms.get_mut(&name) else { continue };
            if room.log.history().oldest() == Some(seq) {
                let before = room.log.history().bytes();
                room.log.evict_oldest();
                self.bytes = self.bytes + room.log.history().bytes() - before;
                self.events -= 1;
            }
        }
        // Entries of events that went by count or age pile up behind those that stay.
        if self.order.len() > 2 * self.events + 1024 {
            let rooms = &self.rooms;
            self.order.retain(|(name, seq)| {
                let oldest = rooms.get(name).and_then(|room| room.log.history().oldest());
                oldest.is_some_and(|oldest| *seq >= oldest)
            });
        }
    }
}

impl Engine for Memory {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn publish(&self, new: NewEvent, epoch: Option<Epoch>, receipt: Option<Receipt>) -> Reply<'_, Outcome> {
        Box::pin(async move { self.publish_at(Now::read(), new, epoch.as_ref(), receipt) })
    }

    fn broadcast(&self, new: NewEvent) -> Reply<'_, ()> {
        Box::pin(async move {
            self.sink.pass(Arc::new(Event::accepted(new, 0, Now::read().micros)));
            Ok(())
        })
    }

    fn open<'a>(&'a self, room: &'a RoomName) -> Reply<'a, Position> {
        Box::pin(async move {
            let mut shard = self.shard(room);
            let room = self.room(&mut shard, Instant::now(), room);
            room.fed += 1;
            Ok(room.log.position().clone())
        })
    }

    fn close(&self, name: &RoomName) {
        let now = Now::read();
        let mut guard = self.shard(name);
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(name) else { return };
        room.fed = room.fed.saturating_sub(1);
        if room.fed == 0 && room.log.is_bare() {
            let kept = Kept { epoch: room.epoch, seq: room.log.position().seq };
            shard.rooms.remove(name);
            shard.positions.put(now.instant, self.positions_max, name, kept);
        }
    }

    fn read<'a>(&'a self, room: &'a RoomName, range: Range) -> Reply<'a, HistoryRead> {
        Box::pin(async move { Ok(self.read_at(Now::read(), room, range)) })
    }

    fn list<'a>(&'a self, after: &'a str, prefix: &'a str, limit: usize) -> Reply<'a, Vec<ListedRoom>> {
        Box::pin(async move {
            let mut rooms: Vec<ListedRoom> = Vec::new();
            for shard in &self.shards {
                let shard = lock(shard);
                let fits = |name: &RoomName| name.as_str() > after && name.as_str().starts_with(prefix);
                let found = shard.rooms.iter().filter(|(name, _)| fits(name));
                rooms.extend(found.map(|(name, room)| ListedRoom {
                    name: name.clone(),
                    position: room.log.position().clone(),
                }));
                // Keeps the list as short as its page, whatever the number of rooms.
                rooms.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                rooms.truncate(limit);
            }
            Ok(rooms)
        })
    }

    fn close_room<'a>(&'a self, room: &'a RoomName) -> Reply<'a, Option<Position>> {
        Box::pin(async move { Ok(self.close_room_at(Instant::now(), room)) })
    }

    /// There are no others.
    fn announce(&self, _: Notice) -> Reply<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn sweep(&self) {
        self.sweep_at(Now::read(), self.next_sweep.fetch_add(1, Ordering::Relaxed));
    }
}

/// A panic under the lock cannot leave a shard half changed in a way that matters more than losing the engine.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
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
        let config =
            Config { positions_max: 1600, history_ttl: Duration::from_secs(60), ..Config::default() };
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
        assert!(
            !read.events.is_empty() && read.events.len() < 10,
            "the newest are there, the oldest are not"
        );
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
        assert!(engine.close_room(&room).await.unwrap().is_some());
        assert_ne!(engine.open(&room).await.unwrap().epoch, anew.epoch);
    }

    #[tokio::test]
    async fn a_publish_under_another_epoch_is_refused() {
        let engine = engine(&Config::default());
        let old = Some(Epoch::new("gone.0"));
        let refused = engine.publish(new_event("r", "u", Some("a")), old, None).await;
        assert!(matches!(refused, Err(EngineError::OtherEpoch)));
        let accepted = engine.publish(new_event("r", "u", Some("a")), None, None).await.unwrap().accepted;
        assert_eq!((accepted.position.seq, accepted.duplicate), (1, false));
        let again = engine
            .publish(new_event("r", "u", Some("a")), Some(accepted.position.epoch), None)
            .await
            .unwrap();
        assert!(again.accepted.duplicate);
    }
}
