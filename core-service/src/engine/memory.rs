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
        namespace::ByNamespace,
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
    ticket_key: Option<[u8; 32]>,
    identity: String,
    keep: ByNamespace<Retention>,
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
    keep: Retention,
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

/// A key that nobody can guess; without a source of chance it would be one that somebody can.
fn random_key() -> Option<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).ok().map(|()| key)
}

impl Memory {
    /// An empty engine that feeds `sink`.
    pub fn new(config: &Config, boot: &str, sink: Arc<dyn Sink>) -> Self {
        Self {
            boot: boot.to_owned(),
            identity: format!("memory:{boot}"),
            ticket_key: random_key(),
            keep: config.by_namespace(|namespace| namespace.keep),
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
                vacant.insert(Room {
                    log: Log::new(position),
                    keep: self.keep.of(name),
                    epoch: kept.epoch,
                    fed: 0,
                })
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
        let published = room.log.publish(now, &room.keep, new);
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
            let page = room.log.read(now, &room.keep, range);
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
            return known.then(|| {
                let kept = Kept { epoch: self.epochs.fetch_add(1, Ordering::Relaxed), seq: 0 };
                shard.positions.put(now, self.positions_max, name, kept);
                Position { epoch: self.epoch(kept.epoch), seq: 0 }
            });
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
            room.log.expire(now, &room.keep);
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

    fn ticket_key(&self) -> Option<[u8; 32]> {
        self.ticket_key
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
mod tests;
