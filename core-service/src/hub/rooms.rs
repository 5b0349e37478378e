//! Who is in which room, and the fan-out. A room here is what its members have been told: its feed and its subscribers. Rooms are dealt to
//! shards; a shard's mutex is the room's turn. It is never held while the engine is called or anybody is waited for.
use super::{Delivery, Outbox, SharedEvent, To, delivery::Place};
use crate::{
    engine::{Accepted, Receipt},
    metrics::CoreMetrics,
    room::{
        dedupe::keyed_hash,
        event::Event,
        feed::{Carries, Feed, Offer},
        id::RoomName,
        position::{Epoch, Position},
        seam::ReplayPage,
    },
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// As many as the engine's, for the same reason.
const SHARDS: usize = 16;

pub(super) type Shard = HashMap<RoomName, Room>;

/// A room that somebody is in, or about to be.
pub(super) struct Room {
    name: RoomName,
    /// None until the engine has said where the room stands.
    pub(super) feed: Option<Feed<Arc<SharedEvent>>>,
    /// The last seq that came before that.
    pub(super) early: u64,
    /// A hole is being filled: what arrives meanwhile is read from history with it.
    filling: bool,
    pub(super) members: Vec<Member>,
    /// Joins under way: the room must not go.
    pub(super) joining: usize,
}

/// A stream with sessions in the room.
pub(super) struct Member {
    pub(super) outbox: Arc<Outbox>,
    pub(super) sessions: u64,
}

/// All rooms of a hub.
pub(super) struct Rooms {
    shards: [Mutex<Shard>; SHARDS],
    holes: Mutex<Vec<RoomName>>,
    hole: Notify,
    metrics: CoreMetrics,
}

impl Rooms {
    pub(super) fn new(metrics: CoreMetrics) -> Self {
        Self { shards: Default::default(), holes: Mutex::default(), hole: Notify::new(), metrics }
    }

    /// The turn of a room, and of those that share its shard.
    pub(super) fn turn(&self, room: &RoomName) -> MutexGuard<'_, Shard> {
        lock(&self.shards[keyed_hash(room) as usize % SHARDS])
    }

    /// Adds a join under way.
    pub(super) fn enter(&self, name: &RoomName) {
        let mut shard = self.turn(name);
        let room = shard.entry(name.clone()).or_insert_with(|| {
            self.metrics.rooms.inc();
            Room::new(name.clone())
        });
        room.joining += 1;
    }

    /// Ends a join under way. True if nobody is left, and the engine need not feed the room any more.
    pub(super) fn entered(&self, name: &RoomName) -> bool {
        let mut shard = self.turn(name);
        let Some(room) = shard.get_mut(name) else { return false };
        room.joining -= 1;
        if room.joining == 0
            && let Some(feed) = &mut room.feed
        {
            feed.forget_tail();
        }
        self.drop_if_empty(&mut shard, name)
    }

    /// A session leaves. True as in [`Rooms::entered`].
    pub(super) fn leave(&self, outbox: &Outbox, name: &RoomName) -> bool {
        let mut shard = self.turn(name);
        let Some(room) = shard.get_mut(name) else { return false };
        let at = room.members.iter().position(|member| std::ptr::eq(&*member.outbox, outbox));
        if let Some(at) = at {
            room.members[at].sessions -= 1;
            if room.members[at].sessions == 0 {
                room.members.swap_remove(at);
            }
        }
        self.drop_if_empty(&mut shard, name)
    }

    fn drop_if_empty(&self, shard: &mut Shard, name: &RoomName) -> bool {
        let empty = shard.get(name).is_some_and(|room| room.members.is_empty() && room.joining == 0);
        if !empty {
            return false;
        }
        self.metrics.rooms.dec();
        shard.remove(name).is_some_and(|room| room.feed.is_some())
    }

    /// A session that is in a room is told where it stands.
    pub(super) fn still_joined(&self, outbox: &Outbox, to: &To, name: &RoomName) -> bool {
        let shard = self.turn(name);
        let Some(feed) = shard.get(name).and_then(|room| room.feed.as_ref()) else { return false };
        let place = Place {
            room: name.clone(),
            position: feed.position().clone(),
            recovered: None,
            replayed: 0,
            presence: Some(0),
        };
        outbox.push(Delivery::StillJoined(to.clone(), place));
        true
    }

    pub(super) fn sessions(&self, name: &RoomName) -> u64 {
        self.turn(name).get(name).map_or(0, |room| room.members.iter().map(|member| member.sessions).sum())
    }

    pub(super) fn position(&self, name: &RoomName) -> Option<Position> {
        let shard = self.turn(name);
        Some(shard.get(name)?.feed.as_ref()?.position().clone())
    }

    /// Waits for a room whose feed has a hole.
    pub(super) async fn next_hole(&self) -> RoomName {
        loop {
            let room = lock(&self.holes).pop();
            match room {
                Some(room) => return room,
                None => self.hole.notified().await,
            }
        }
    }

    /// Notes a hole, once per room until it is filled: so the list is bounded by the rooms.
    pub(super) fn note_hole(&self, room: &mut Room) {
        if !room.filling {
            room.filling = true;
            self.metrics.holes.inc();
            lock(&self.holes).push(room.name.clone());
            self.hole.notify_one();
        }
    }

    /// What was read for a hole arrives. True if the feed is whole again; false asks for another read.
    pub(super) fn filled(
        &self,
        name: &RoomName,
        top: &Position,
        floor: u64,
        events: Vec<Arc<Event>>,
    ) -> bool {
        let mut shard = self.turn(name);
        let Some(room) = shard.get_mut(name) else { return true };
        let Some(feed) = room.feed.as_mut() else { return true };
        let lost = feed.position().epoch != top.epoch || feed.position().seq < floor;
        if lost {
            room.early = 0;
            room.restart(top);
        } else {
            for event in events {
                let shared = SharedEvent::new(event);
                if feed.offer(&shared, room.joining > 0) == Offer::Next {
                    fan_out(&room.members, &shared);
                }
            }
        }
        let behind = room.feed.as_ref().is_some_and(|feed| feed.position().seq < top.seq.max(room.early));
        room.filling = behind;
        !behind
    }
}

impl Room {
    fn new(name: RoomName) -> Self {
        Self { name, feed: None, early: 0, filling: false, members: Vec::new(), joining: 0 }
    }

    /// The numbering began anew, or events were lost for good: everyone is told, and goes on from there.
    fn restart(&mut self, position: &Position) {
        let Some(feed) = self.feed.as_mut() else { return };
        feed.reset(position.clone());
        for member in &self.members {
            let place = Place {
                room: self.name.clone(),
                position: position.clone(),
                recovered: Some(false),
                replayed: 0,
                presence: Some(0),
            };
            let page = ReplayPage { after: position.seq, events: Vec::new(), live: true };
            member.outbox.push(Delivery::Resumed(To::default(), place, page));
        }
    }
}

fn fan_out(members: &[Member], shared: &Arc<SharedEvent>) {
    for member in members {
        member.outbox.push(Delivery::Event(shared.clone()));
    }
}

/// What the engine feeds.
impl Rooms {
    pub(super) fn deliver(&self, event: Arc<Event>, epoch: &Epoch, receipt: Option<Receipt>) {
        let mut shard = self.turn(&event.room);
        // First the ack, then the event: in the same turn, so nothing comes between.
        if let Some(receipt) = receipt {
            let position = Position { epoch: epoch.clone(), seq: event.seq };
            receipt(&Accepted { position, duplicate: false, timestamp_us: event.timestamp_us });
        }
        let Some(room) = shard.get_mut(&event.room) else { return };
        let Some(feed) = room.feed.as_ref() else {
            room.early = room.early.max(event.seq);
            return;
        };
        if feed.position().epoch != *epoch {
            room.restart(&Position { epoch: epoch.clone(), seq: event.seq - 1 });
        }
        let Some(feed) = room.feed.as_mut() else { return };
        let shared = SharedEvent::new(event);
        match feed.offer(&shared, room.joining > 0) {
            Offer::Next if !room.members.is_empty() => {
                self.metrics.fanned_out(room.members.len());
                fan_out(&room.members, &shared);
            }
            Offer::Next | Offer::Stale => {}
            Offer::Hole { .. } => {
                room.early = room.early.max(shared.event().seq);
                self.note_hole(room);
            }
        }
    }

    /// Those who keep sessions are told to take them out; a watch goes on where the room begins anew.
    pub(super) fn closed(&self, name: &RoomName, anew: &Position) {
        let mut shard = self.turn(name);
        let Some(room) = shard.get_mut(name) else { return };
        room.early = 0;
        room.members.retain(|member| match member.outbox.orders() {
            Some(orders) => {
                orders.close_room(name);
                false
            }
            None => true,
        });
        room.restart(anew);
    }

    pub(super) fn pass(&self, event: Arc<Event>) {
        let shard = self.turn(&event.room);
        if let Some(room) = shard.get(&event.room) {
            fan_out(&room.members, &SharedEvent::new(event));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
