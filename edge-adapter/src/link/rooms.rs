//! The rooms that sessions of this edge are in: their numbers, their places in the core's order, and in which shards they have
//! live members. Who is in a room stands with the sessions; here are only counts, so that an event costs one look-up.
use crate::{
    session::key::{RoomId, SessionKey},
    wire::event::Position,
};
use hearth_proto::v1::CoreFrame;
use slab::Slab;
use std::{collections::HashMap, sync::Arc};

/// Whether a room's events come without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// The next event is the next seq.
    Whole,
    /// After a new attach: what was missed has been asked for, for all sessions in the room.
    Resuming,
    /// Something is missing and has been asked for, page by page. Later events are let pass: they come with the pages.
    Filling,
}

/// A frame that speaks of a later point of the room's order than the one reached so far.
#[derive(Debug)]
pub struct Parked {
    /// To be acted upon right after this seq.
    pub after: u64,
    /// Whom it is for.
    pub session: SessionKey,
    /// What it says.
    pub frame: CoreFrame,
}

/// A room with sessions of this edge.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub name: Arc<str>,
    /// Its epoch and the last event that was posted; known while there are live members.
    pub position: Option<Position>,
    /// Whether its events come without a hole.
    pub feed: Feed,
    /// Frames that wait for the feed.
    pub parked: Vec<Parked>,
    /// Sessions in it, live or not.
    members: u32,
    /// Live ones of each shard.
    live: Box<[u32]>,
}

impl Room {
    /// Whether any session gets its events.
    pub fn is_live(&self) -> bool {
        self.position.is_some()
    }

    /// The shards that have live members.
    pub fn shards(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.live.iter().enumerate().filter(|(_, count)| **count > 0).map(|(shard, _)| shard)
    }
}

/// All rooms.
#[derive(Debug)]
pub struct Rooms {
    slab: Slab<Room>,
    names: HashMap<Arc<str>, RoomId>,
    shards: usize,
}

impl Rooms {
    /// None yet, for this many shards.
    pub fn new(shards: usize) -> Self {
        Self { slab: Slab::new(), names: HashMap::new(), shards }
    }

    /// A room's number.
    pub fn find(&self, name: &str) -> Option<RoomId> {
        self.names.get(name).copied()
    }

    /// A room's name, shared if it is known.
    pub fn name(&self, name: &str) -> Arc<str> {
        self.names.get_key_value(name).map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
    }

    /// A room.
    pub fn get(&self, id: RoomId) -> Option<&Room> {
        self.slab.get(id.0 as usize)
    }

    /// A room.
    pub fn get_mut(&mut self, id: RoomId) -> Option<&mut Room> {
        self.slab.get_mut(id.0 as usize)
    }

    /// All rooms.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (RoomId, &mut Room)> {
        self.slab.iter_mut().map(|(id, room)| (RoomId(id as u32), room))
    }

    /// A session is in the room, not live yet. The first one gives it its number.
    pub fn enter(&mut self, name: &Arc<str>) -> RoomId {
        let id = *self.names.entry(Arc::clone(name)).or_insert_with(|| {
            let room = Room {
                name: Arc::clone(name),
                position: None,
                feed: Feed::Whole,
                parked: Vec::new(),
                members: 0,
                live: vec![0; self.shards].into(),
            };
            RoomId(self.slab.insert(room) as u32)
        });
        self.slab[id.0 as usize].members += 1;
        id
    }

    /// A session of the room goes live at this position. The first one sets the room's.
    pub fn go_live(&mut self, id: RoomId, session: SessionKey, position: &Position) {
        let Some(room) = self.get_mut(id) else { return };
        if let Some(count) = room.live.get_mut(session.shard()) {
            *count += 1;
            room.position.get_or_insert_with(|| position.clone());
        }
    }

    /// A live session of the room is live no more. The last one takes the room's position along.
    pub fn end_live(&mut self, id: RoomId, session: SessionKey) -> Option<Position> {
        let room = self.get_mut(id)?;
        if let Some(count) = room.live.get_mut(session.shard()) {
            *count = count.saturating_sub(1);
        }
        if room.live.iter().any(|count| *count > 0) {
            return None;
        }
        room.feed = Feed::Whole;
        room.position.take()
    }

    /// A session is in the room no more; it must not be live. The last one frees the number.
    pub fn leave(&mut self, id: RoomId) {
        let Some(room) = self.get_mut(id) else { return };
        room.members = room.members.saturating_sub(1);
        if room.members == 0 {
            let room = self.slab.remove(id.0 as usize);
            self.names.remove(&room.name);
        }
    }
}
