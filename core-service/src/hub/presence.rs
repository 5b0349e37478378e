//! Who is online where, and those who watch. The rules are `room/presence`'s; here they have rooms, a clock and subscribers.
//!
//! A room's turn is its shard's mutex, as with events; nobody is waited for while it is held. What changes in a quiet room is told at once,
//! in the caller's turn; what follows within the coalescing time, and whatever runs out, is told by [`Presences::tick`].
use super::{
    Delivery, Outbox,
    delivery::{PresenceUpdate, SharedPresence},
};
use crate::{
    metrics::CoreMetrics,
    room::{
        Now,
        dedupe::keyed_hash,
        id::{RoomName, UserName},
        namespace::ByNamespace,
        presence::{COALESCE, Entering, Online, Origin, Presence, Rules, Told},
    },
};
use bytes::Bytes;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// As many as the rooms', for the same reason.
const SHARDS: usize = 16;

/// How often [`Presences::tick`] is called: twice within the coalescing time.
pub(super) const TICK: Duration = Duration::from_millis(25);

/// How a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It said so.
    Left,
    /// It may come back.
    Vanished,
}

/// The presence of all rooms.
pub struct Presences {
    rules: ByNamespace<Rules>,
    node: Arc<str>,
    streams: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
    metrics: CoreMetrics,
}

#[derive(Default)]
struct Shard {
    rooms: HashMap<RoomName, Room>,
    /// When which room has something to tell or to end.
    due: BTreeSet<(Instant, RoomName)>,
}

struct Room {
    rules: Rules,
    presence: Presence,
    observers: Vec<Observer>,
    /// As it stands in the shard's list.
    due: Option<Instant>,
}

impl Room {
    fn new(rules: Rules) -> Room {
        Room { rules, presence: Presence::default(), observers: Vec::new(), due: None }
    }
}

struct Observer {
    outbox: Arc<Outbox>,
    /// Something was not told, since too much waited: the next thing it is told is a state.
    stale: bool,
}

/// A page of those online.
pub struct Listed {
    /// In order of names.
    pub online: Vec<Online>,
    /// How many there are in all.
    pub count: usize,
}

impl Presences {
    /// Nobody is online. `node` is this core's id.
    pub fn new(rules: ByNamespace<Rules>, node: &str, metrics: CoreMetrics) -> Self {
        Self { rules, node: node.into(), streams: AtomicU64::new(0), shards: Default::default(), metrics }
    }

    /// A new stream that vouches for sessions; `edge` is empty for a service.
    pub fn origin(&self, edge: &str) -> Arc<Origin> {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        Arc::new(Origin { node: self.node.clone(), edge: edge.into(), stream })
    }

    /// Sessions are online in a room. The number of the telling that will know of them.
    pub fn enter(&self, room: &RoomName, entering: impl IntoIterator<Item = Entering>) -> u64 {
        let now = Now::read();
        let told = self.turn(room, now.instant, true, |here| {
            let told =
                entering.into_iter().map(|entering| here.presence.enter(now.instant, now.micros, entering));
            told.last().unwrap_or(0)
        });
        told.unwrap_or(0)
    }

    /// A session sets its meta. False if it is not in the room.
    pub fn set_meta(&self, room: &RoomName, user: &UserName, session: &str, meta: Bytes) -> bool {
        let now = Instant::now();
        self.turn(room, now, false, |here| here.presence.set_meta(now, user, session, meta)).unwrap_or(false)
    }

    /// A session is online in a room no longer.
    pub fn leave(&self, room: &RoomName, user: &UserName, session: &str, origin: &Origin, gone: Gone) {
        let now = Instant::now();
        self.turn(room, now, false, |here| match gone {
            Gone::Left => here.presence.leave(now, user, session, origin),
            Gone::Vanished => here.presence.vanish(now, &here.rules, user, session, origin),
        });
    }

    /// A user gives a sign of life in a room without having a session there.
    pub fn visit(&self, room: &RoomName, user: &UserName, meta: Option<Bytes>) {
        let now = Now::read();
        self.turn(room, now.instant, true, |here| {
            here.presence.visit(now.instant, now.micros, &here.rules, user, meta);
        });
    }

    /// Tells a subscriber who is online in a room, now and from now on. Again: tells it anew.
    pub fn watch(&self, room: &RoomName, outbox: &Arc<Outbox>) {
        let now = Instant::now();
        self.turn(room, now, true, |here| {
            let (before, state) = here.presence.state(now, &here.rules);
            if let Some(before) = before {
                self.tell(room, here, before);
            }
            let taken = outbox.offer(Delivery::Presence(SharedPresence::new(room.clone(), state)));
            let known = here.observers.iter_mut().find(|known| Arc::ptr_eq(&known.outbox, outbox));
            match known {
                Some(known) => known.stale = !taken,
                None => here.observers.push(Observer { outbox: outbox.clone(), stale: !taken }),
            }
        });
    }

    /// No longer tells it.
    pub fn unwatch(&self, room: &RoomName, outbox: &Outbox) {
        self.turn(room, Instant::now(), false, |here| {
            here.observers.retain(|known| !std::ptr::eq(&*known.outbox, outbox));
        });
    }

    /// Who is online in a room.
    pub fn list(&self, room: &RoomName, after: &str, limit: usize) -> Listed {
        let shard = self.shard(room);
        let Some(here) = shard.rooms.get(room) else { return Listed { online: Vec::new(), count: 0 } };
        Listed { online: here.presence.list(after, limit), count: here.presence.count() }
    }

    /// Tells and ends what has become due.
    pub fn tick(&self) {
        let now = Instant::now();
        for shard in &self.shards {
            loop {
                // One room a turn, so that nobody waits for all of them.
                let mut shard = lock(shard);
                let Some((at, room)) = shard.due.first().filter(|(at, _)| *at <= now).cloned() else { break };
                shard.due.remove(&(at, room.clone()));
                if let Some(here) = shard.rooms.get_mut(&room) {
                    here.due = None;
                }
                self.settle(&mut shard, &room, now);
            }
        }
    }

    /// Does something in a room's turn, tells what can be told at once, and notes when to look again.
    fn turn<T>(
        &self,
        name: &RoomName,
        now: Instant,
        make: bool,
        act: impl FnOnce(&mut Room) -> T,
    ) -> Option<T> {
        let mut shard = self.shard(name);
        if make && !shard.rooms.contains_key(name) {
            shard.rooms.insert(name.clone(), Room::new(self.rules.of(name)));
        }
        let here = shard.rooms.get_mut(name)?;
        let before = (here.presence.count(), here.presence.sessions());
        let done = act(here);
        self.count(before, here);
        self.settle(&mut shard, name, now);
        Some(done)
    }

    fn settle(&self, shard: &mut Shard, name: &RoomName, now: Instant) {
        let Shard { rooms, due } = shard;
        let Some(here) = rooms.get_mut(name) else { return };
        let before = (here.presence.count(), here.presence.sessions());
        if here.presence.due().is_some_and(|due| due <= now)
            && let Some(told) = here.presence.tell(now, &here.rules)
        {
            self.tell(name, here, told);
        }
        self.freshen(name, here, now);
        self.count(before, here);
        let stale = here.observers.iter().any(|known| known.stale).then(|| now + COALESCE);
        let next = here.presence.due().into_iter().chain(stale).min();
        if next != here.due {
            if let Some(before) = here.due {
                due.remove(&(before, name.clone()));
            }
            if let Some(next) = next {
                due.insert((next, name.clone()));
            }
            here.due = next;
        }
        if here.presence.is_empty() && here.observers.is_empty() {
            if let Some(at) = here.due {
                due.remove(&(at, name.clone()));
            }
            rooms.remove(name);
            if rooms.capacity() > 4 * rooms.len() + 64 {
                rooms.shrink_to(2 * rooms.len());
            }
        }
    }

    /// Tells all who watch; one that has too much waiting gets a state later instead.
    fn tell(&self, room: &RoomName, here: &mut Room, told: PresenceUpdate) {
        if let (_, Told::Diff(changes)) = &told {
            self.metrics.presence_diffs.inc_by(changes.len() as u64);
        }
        let shared = SharedPresence::new(room.clone(), told);
        for known in here.observers.iter_mut().filter(|known| !known.stale) {
            if !known.outbox.offer(Delivery::Presence(shared.clone())) {
                known.stale = true;
                self.metrics.presence_conflated.inc();
            }
        }
    }

    /// Gives a state to those who missed something and have room again.
    fn freshen(&self, room: &RoomName, here: &mut Room, now: Instant) {
        if !here.observers.iter().any(|known| known.stale && known.outbox.is_at_ease()) {
            return;
        }
        let (before, state) = here.presence.state(now, &here.rules);
        if let Some(before) = before {
            self.tell(room, here, before);
        }
        let shared = SharedPresence::new(room.clone(), state);
        for known in here.observers.iter_mut().filter(|known| known.stale && known.outbox.is_at_ease()) {
            known.stale = !known.outbox.offer(Delivery::Presence(shared.clone()));
        }
    }

    fn count(&self, (users, sessions): (usize, usize), here: &Room) {
        self.metrics.presence_users.inc_by(here.presence.count() as i64 - users as i64);
        self.metrics.presence_sessions.inc_by(here.presence.sessions() as i64 - sessions as i64);
    }

    fn shard(&self, room: &RoomName) -> MutexGuard<'_, Shard> {
        lock(&self.shards[keyed_hash(room) as usize % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
