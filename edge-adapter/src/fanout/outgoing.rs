//! What one turn wants written: events grouped by room into runs, runs and own frames chained per connection. [`writing`] gives each
//! connection its chain, in one write.
//!
//! A run is what a room's members get alike; its bytes are joined once. Chains are links in one list that
//! the next turn uses again, so a delivery allocates nothing.
mod writing;

pub use writing::{Flushed, flush_stream};

use crate::fanout::connection::Connection;
use crate::fanout::rooms::NONE;
use crate::fanout::rooms::Rooms;
use crate::fanout::shared::SharedEvent;
use crate::session::key::RoomId;
use crate::wire::dialect::{DIALECTS, Dialect};
use crate::wire::event::Event;
use bytes::{Bytes, BytesMut};
use slab::Slab;
use std::cell::OnceCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// How much room the list of links keeps after a burst: a turn of a few thousand members' rooms, in 192 KiB.
const LINKS_KEPT: usize = 16 * 1024;
/// How much room the lists of frames keep, in entries.
const FRAMES_KEPT: usize = 1024;

/// A shard's connections by slot.
pub type Connections = Slab<Connection>;

/// What one turn wants written.
#[derive(Debug, Default)]
pub struct Outgoing {
    events: Vec<Pending>,
    runs: Vec<Run>,
    own: Vec<Bytes>,
    links: Vec<Link>,
    /// Slots to be written to; each once, and stale where a connection went meanwhile.
    dirty: Vec<u32>,
    rooms: Vec<RoomId>,
    /// Empty while it is not in use.
    apart: Vec<u32>,
    /// Makes keys that clients cannot have collide.
    keys: RandomState,
    /// What was done, to be added to the metrics.
    pub tally: Tally,
}

/// What a turn did.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages from clients.
    pub messages: u64,
    /// Events for sessions.
    pub deliveries: u64,
    /// Bytes that sockets took.
    pub bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Ephemeral events that slow sessions did not get for want of room.
    pub ephemeral_drops: u64,
    /// Ephemeral events that slow sessions did not get because a newer one came.
    pub ephemeral_conflated: u64,
    /// Times that a slow session was to be shown a state instead of what happened.
    pub presence_conflated: u64,
    /// How the backlogs grew or shrank, in bytes.
    pub backlog: i64,
}

/// What may be done with an event when a session is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing: every session gets it.
    Sequenced,
    /// It gives way to a newer one with the same key, and is dropped when much waits.
    Ephemeral {
        /// Stands for its room, author and kind.
        key: u64,
    },
}

impl Class {
    fn is_sequenced(self) -> bool {
        self == Class::Sequenced
    }
}

/// An event of a room, waiting for the room's members.
#[derive(Debug)]
struct Pending {
    event: Arc<SharedEvent>,
    class: Class,
    /// The slot of the session that must not get it, or [`NONE`].
    exclude: u32,
    next: u32,
}

/// A stretch of a room's events that its members got alike.
#[derive(Debug)]
struct Run {
    /// Its bytes in one piece, by dialect.
    flat: [OnceCell<Bytes>; DIALECTS],
    first: u32,
    /// None of its events may be left out.
    sequenced: bool,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    piece: Piece,
    next: u32,
}

/// What a connection is to be written.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Own(u32),
    Event(u32),
    Run(u32),
}

impl Outgoing {
    /// A frame for one connection.
    pub fn own(&mut self, connections: &mut Connections, slot: u32, frame: Bytes) {
        let Some(connection) = connections.get_mut(slot as usize) else { return };
        let piece = Piece::Own(self.own.len() as u32);
        self.own.push(frame);
        self.link(connection, slot, piece);
    }

    /// A frame for several connections; what to give to [`Outgoing::link_shared`].
    pub fn shared(&mut self, frame: Bytes) -> u32 {
        self.own.push(frame);
        (self.own.len() - 1) as u32
    }

    /// Gives a connection a frame that others get too.
    pub fn link_shared(&mut self, connection: &mut Connection, slot: u32, frame: u32) {
        self.link(connection, slot, Piece::Own(frame));
    }

    /// Has the connection written to at the end of the turn.
    pub fn touch(&mut self, connection: &mut Connection, slot: u32) {
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// What an event of a room is to slow sessions.
    pub fn class(&self, id: RoomId, event: &Event) -> Class {
        if !event.kind.is_ephemeral() {
            return Class::Sequenced;
        }
        Class::Ephemeral { key: self.keys.hash_one((id, event.kind as u8, &*event.author)) }
    }

    /// An event for a room's members, but for the one in the slot `exclude`.
    pub fn event(
        &mut self,
        rooms: &mut Rooms,
        id: RoomId,
        event: &Arc<SharedEvent>,
        class: Class,
        exclude: Option<u32>,
    ) {
        let Some(room) = rooms.get_mut(id) else { return };
        let (seq, event) = (event.event.seq, Arc::clone(event));
        let at = self.events.len() as u32;
        self.events.push(Pending { event, class, exclude: exclude.unwrap_or(NONE), next: NONE });
        if room.first == NONE {
            room.first = at;
            self.rooms.push(id);
        } else {
            self.events[room.last as usize].next = at;
        }
        room.last = at;
        if class.is_sequenced() {
            room.pending = seq;
        }
    }

    /// Gives a room's pending events to those who are members now.
    pub fn cut(&mut self, connections: &mut Connections, rooms: &mut Rooms, id: RoomId) {
        let Some(room) = rooms.get_mut(id) else { return };
        if room.first == NONE {
            return;
        }
        if room.pending > 0 {
            room.position.seq = std::mem::take(&mut room.pending);
        }
        let first = std::mem::replace(&mut room.first, NONE);
        let (run, count) = self.run(connections, first);
        let piece = Piece::Run(self.runs.len() as u32);
        self.runs.push(run);
        let mut apart = std::mem::take(&mut self.apart);
        for &slot in &room.members {
            let Some(connection) = connections.get_mut(slot as usize) else { continue };
            let excluded = std::mem::take(&mut connection.excluded);
            if connection.own_cursors {
                apart.push(slot);
            } else if excluded {
                self.link_others(connection, slot, first);
            } else {
                self.link(connection, slot, piece);
                self.tally.deliveries += count;
            }
        }
        for slot in apart.drain(..) {
            self.link_with_cursors(connections, rooms, id, (slot, first));
        }
        self.apart = apart;
    }

    /// Links the events of a chain with the session's own cursor behind each; it is in other rooms too.
    fn link_with_cursors(
        &mut self,
        connections: &mut Connections,
        rooms: &Rooms,
        id: RoomId,
        (slot, first): (u32, u32),
    ) {
        let mut at = first;
        while let Some(Pending { event, class, exclude, next }) = self.events.get(at as usize) {
            at = *next;
            let Some(connection) = connections.get_mut(slot as usize) else { return };
            if *exclude == slot {
                continue;
            }
            // These bytes are nobody else's, so one that is slow has them left out altogether.
            if !class.is_sequenced() && connection.backlog.is_some() {
                self.tally.ephemeral_drops += 1;
                continue;
            }
            let cursor =
                class.is_sequenced().then(|| connection.cursor(rooms, Some((id, &event.position()))));
            let frame = event.encode(connection.dialect, cursor.flatten().as_deref());
            let piece = Piece::Own(self.own.len() as u32);
            self.own.push(frame);
            self.tally.deliveries += 1;
            self.link(connection, slot, piece);
        }
    }

    /// Cuts the runs of all rooms.
    pub fn cut_all(&mut self, connections: &mut Connections, rooms: &mut Rooms) {
        for at in 0..self.rooms.len() {
            self.cut(connections, rooms, self.rooms[at]);
        }
    }

    /// The slot that is to be written to as number `at` of the turn.
    pub fn dirty(&self, at: usize) -> Option<u32> {
        self.dirty.get(at).copied()
    }

    /// Forgets the turn.
    pub fn clear(&mut self) {
        self.events.clear();
        self.runs.clear();
        self.own.clear();
        self.links.clear();
        self.dirty.clear();
        self.rooms.clear();
        self.events.shrink_to(FRAMES_KEPT);
        self.runs.shrink_to(FRAMES_KEPT);
        self.own.shrink_to(FRAMES_KEPT);
        self.links.shrink_to(LINKS_KEPT);
    }

    /// The run that a chain is, how many events it has, and marks on those who must not get all of it.
    fn run(&self, connections: &mut Connections, first: u32) -> (Run, u64) {
        let (mut count, mut sequenced) = (0, true);
        for event in self.chain(first) {
            count += 1;
            sequenced &= event.class.is_sequenced();
            if event.exclude != NONE
                && let Some(connection) = connections.get_mut(event.exclude as usize)
            {
                connection.excluded = true;
            }
        }
        (Run { flat: Default::default(), first, sequenced }, count)
    }

    /// A run's bytes in one piece, joined on first need.
    fn flat(&self, run: &Run, dialect: Dialect) -> Bytes {
        let mut chain = self.chain(run.first).map(|pending| pending.event.bytes(dialect));
        let (first, second) = (chain.next(), chain.next());
        match (first, second) {
            (Some(only), None) => only.clone(),
            _ => {
                let pieces = || self.chain(run.first).map(|pending| pending.event.bytes(dialect));
                let mut flat = BytesMut::with_capacity(pieces().map(Bytes::len).sum());
                pieces().for_each(|piece| flat.extend_from_slice(piece));
                flat.freeze()
            }
        }
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = &Pending> {
        let mut at = first;
        std::iter::from_fn(move || {
            let event = self.events.get(at as usize)?;
            at = event.next;
            Some(event)
        })
    }

    /// Links the events of a chain one by one, but for the connection's own.
    fn link_others(&mut self, connection: &mut Connection, slot: u32, first: u32) {
        let mut at = first;
        while let Some(event) = self.events.get(at as usize) {
            let next = event.next;
            if event.exclude != slot {
                self.link(connection, slot, Piece::Event(at));
                self.tally.deliveries += 1;
            }
            at = next;
        }
    }

    fn link(&mut self, connection: &mut Connection, slot: u32, piece: Piece) {
        let at = self.links.len() as u32;
        self.links.push(Link { piece, next: NONE });
        if connection.first == NONE {
            connection.first = at;
        } else {
            self.links[connection.last as usize].next = at;
        }
        connection.last = at;
        self.touch(connection, slot);
    }

    fn bytes(&self, piece: Piece, dialect: Dialect) -> &Bytes {
        match piece {
            Piece::Own(at) => &self.own[at as usize],
            Piece::Event(at) => self.events[at as usize].event.bytes(dialect),
            Piece::Run(at) => {
                let run = &self.runs[at as usize];
                run.flat[dialect.index()].get_or_init(|| self.flat(run, dialect))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_small() {
        assert_eq!(size_of::<Link>(), 12);
    }
}
