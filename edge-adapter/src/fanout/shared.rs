//! What several sessions are given, with its bytes: in each dialect made once, on first need, and shared by all.
use crate::wire::cursor::Cursor;
use crate::wire::dialect::{DIALECTS, Dialect};
use crate::wire::event::{Event, Position};
use crate::wire::frame::Frame;
use crate::wire::presence::Told;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// An event and what it looks like in each dialect.
#[derive(Debug)]
pub struct SharedEvent {
    /// The event.
    pub event: Event,
    /// The epoch of its seq.
    epoch: Arc<str>,
    encoded: [OnceLock<Bytes>; DIALECTS],
}

impl SharedEvent {
    /// An event that nobody has encoded yet, with the epoch of its seq.
    pub fn new(event: Event, epoch: Arc<str>) -> Self {
        Self { event, epoch, encoded: Default::default() }
    }

    /// About how many bytes of memory it holds, encoded or about to be.
    pub fn weight(&self) -> usize {
        let Event { room, id, author, payload, .. } = &self.event;
        size_of::<Self>()
            // As it came, and in the two or three dialects that a room's members mostly speak.
            + 4 * payload.len()
            + room.len()
            + author.len()
            + id.as_ref().map_or(0, |id| id.len())
    }

    /// Its bytes for sessions that are in its room alone: where a dialect has cursors, it has the room's position behind it.
    pub fn bytes(&self, dialect: Dialect) -> &Bytes {
        self.encoded[dialect.index()].get_or_init(|| {
            let cursor = (dialect == Dialect::Sse && self.event.seq > 0)
                .then(|| Cursor::encode([(&*self.event.room, &self.position())]));
            self.encode(dialect, cursor.as_deref())
        })
    }

    /// Its bytes with another cursor, or none.
    pub fn encode(&self, dialect: Dialect, cursor: Option<&str>) -> Bytes {
        Frame::Event(&self.event).encode(dialect, cursor)
    }

    /// The room's position behind it.
    pub fn position(&self) -> Position {
        Position { epoch: Arc::clone(&self.epoch), seq: self.event.seq }
    }
}

/// What is told of a room's presence, with its bytes.
#[derive(Debug)]
pub struct SharedPresence {
    /// The room's name.
    pub room: Arc<str>,
    /// What is told.
    pub told: Told,
    encoded: [OnceLock<Bytes>; DIALECTS],
}

impl SharedPresence {
    /// Something that nobody has encoded yet.
    pub fn new(room: Arc<str>, told: Told) -> Self {
        Self { room, told, encoded: Default::default() }
    }

    /// Its bytes.
    pub fn bytes(&self, dialect: Dialect) -> &Bytes {
        self.encoded[dialect.index()].get_or_init(|| self.told.encode(&self.room, dialect))
    }
}
