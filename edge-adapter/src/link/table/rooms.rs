//! The rooms that any session of this edge is in: who is in them, and up to where their events have been seen.
use super::presence::Watched;
use crate::{session::key::RoomId, session::key::SessionKey, wire::event::Position};
use hearth_proto::v1::CoreFrame;
use slab::Slab;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// A session in a room.
#[derive(Debug)]
pub struct Member {
    /// The room's events go to it; else it still reads a replay, page by page.
    pub live: bool,
    /// Its own live events come back to it.
    pub echo: bool,
    /// It is shown who is online.
    pub presence: bool,
    /// What is told of the room's presence knows of it from this number on.
    pub known_at: u64,
    /// What it has set, to be told to the next core.
    pub meta: Option<Arc<str>>,
    /// The page that it waits for.
    pub pull: Option<Box<Pull>>,
}

/// A page that was asked for.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The request's number.
    pub number: u64,
    /// After which position.
    pub after: Position,
}

/// Whether a room's events may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// As they come.
    Live,
    /// Not before `resume` of this number is answered: events in between are in the answer.
    Resuming(u64),
    /// Not before the page that reaches the top.
    Paging,
}

/// An answer that lets a session into the room's feed at `seq`, come while the feed itself lags behind: it is acted upon
/// where it stands in the room's order.
#[derive(Debug)]
pub struct Held {
    /// The session lives from behind this event.
    pub seq: u64,
    /// The answer.
    pub frame: CoreFrame,
}

/// A room.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub name: Arc<str>,
    /// Who is in it.
    pub members: HashMap<SessionKey, Member>,
    /// The last event that was passed on.
    pub position: Position,
    /// Whether events may be passed on.
    pub feed: Feed,
    /// What waits for the feed. Only joins and pulls that are under way can be here.
    pub held: VecDeque<Held>,
    /// Who is online, if any session wants to know.
    pub watched: Option<Box<Watched>>,
    /// How many members each shard has.
    per_shard: Box<[u32]>,
    live: usize,
}

impl Room {
    /// Whether the core owes this edge the room's events without a hole: only if anyone has reached the top.
    pub fn has_live(&self) -> bool {
        self.live > 0
    }

    /// The shards that have members here.
    pub fn shards(&self) -> impl Iterator<Item = usize> + '_ {
        self.per_shard.iter().enumerate().filter(|(_, members)| **members > 0).map(|(shard, _)| shard)
    }

    /// A session comes in, or goes on from another place.
    pub fn put(&mut self, session: SessionKey, member: Member) {
        self.live += usize::from(member.live);
        match self.members.insert(session, member) {
            Some(before) => self.live -= usize::from(before.live),
            None => {
                if let Some(members) = self.per_shard.get_mut(session.shard()) {
                    *members += 1;
                }
            }
        }
    }

    /// A session's replay has reached the top.
    pub fn set_live(&mut self, session: SessionKey) {
        if let Some(member) = self.members.get_mut(&session)
            && !member.live
        {
            member.live = true;
            self.live += 1;
        }
    }

    fn remove(&mut self, session: SessionKey) -> bool {
        let Some(member) = self.members.remove(&session) else { return false };
        self.live -= usize::from(member.live);
        if let Some(members) = self.per_shard.get_mut(session.shard()) {
            *members -= 1;
        }
        true
    }
}

/// All rooms, by name and by number.
#[derive(Debug)]
pub struct Rooms {
    slab: Slab<Room>,
    names: HashMap<Arc<str>, RoomId>,
    shards: usize,
}

impl Rooms {
    /// No rooms, for an edge of so many shards.
    pub fn new(shards: usize) -> Self {
        Self { slab: Slab::new(), names: HashMap::new(), shards }
    }

    /// A room's number.
    pub fn id(&self, name: &str) -> Option<RoomId> {
        self.names.get(name).copied()
    }

    /// A room by its number.
    pub fn get(&self, id: RoomId) -> Option<&Room> {
        self.slab.get(id.0 as usize)
    }

    /// A room by its number.
    pub fn get_mut(&mut self, id: RoomId) -> Option<&mut Room> {
        self.slab.get_mut(id.0 as usize)
    }

    /// A room by its name.
    pub fn by_name(&mut self, name: &str) -> Option<(RoomId, &mut Room)> {
        let id = self.id(name)?;
        Some((id, self.slab.get_mut(id.0 as usize)?))
    }

    /// Makes a room. Its number may have been another room's a moment ago: whoever left that one was told so before.
    pub fn create(&mut self, name: &str, position: Position) -> RoomId {
        let name: Arc<str> = name.into();
        let per_shard = vec![0; self.shards].into();
        let room = Room {
            name: Arc::clone(&name),
            members: HashMap::new(),
            position,
            feed: Feed::Live,
            held: VecDeque::new(),
            watched: None,
            per_shard,
            live: 0,
        };
        // More rooms than this would need more memory than there is.
        let id = RoomId(self.slab.insert(room) as u32);
        self.names.insert(name, id);
        id
    }

    /// A session goes out: whether it was in, and the room, which goes with its last session.
    pub fn leave(&mut self, id: RoomId, session: SessionKey) -> (bool, Option<Room>) {
        let Some(room) = self.get_mut(id) else { return (false, None) };
        let was_in = room.remove(session);
        if !room.members.is_empty() {
            return (was_in, None);
        }
        let room = self.slab.remove(id.0 as usize);
        self.names.remove(&room.name);
        (was_in, Some(room))
    }

    /// The numbers of all.
    pub fn ids(&self) -> Vec<RoomId> {
        self.slab.iter().map(|(id, _)| RoomId(id as u32)).collect()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.slab.iter_mut().map(|(_, room)| room)
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slab.len()
    }
}
