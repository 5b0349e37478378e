//! What a room carries.
use super::id::{ClientId, RoomName, UserName};
use bytes::Bytes;
use std::sync::Arc;

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sequenced.
    Text,
    /// Sequenced, published by services only.
    System,
    /// Ephemeral.
    Signal,
    /// Ephemeral.
    Typing,
}

impl Kind {
    /// Never stored; may be dropped for a slow session.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, Kind::Signal | Kind::Typing)
    }
}

/// What an event says. Opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A JSON object that was checked at the door.
    Json(Bytes),
    /// Bytes.
    Binary(Bytes),
}

impl Payload {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Payload::Json(bytes) | Payload::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is to be published.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The room.
    pub room: RoomName,
    /// What kind.
    pub kind: Kind,
    /// The idempotency key.
    pub id: Option<ClientId>,
    /// Who publishes.
    pub author: UserName,
    /// What it says.
    pub payload: Payload,
    /// The id of the session that publishes.
    pub session: Option<Arc<str>>,
}

/// An event of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The room.
    pub room: RoomName,
    /// What kind.
    pub kind: Kind,
    /// Its number in the room; 0 for ephemeral kinds.
    pub seq: u64,
    /// The idempotency key.
    pub id: Option<ClientId>,
    /// Who published it.
    pub author: UserName,
    /// What it says.
    pub payload: Payload,
    /// When it was accepted, in microseconds since 1970.
    pub timestamp_us: u64,
    /// The id of the session that published it.
    pub session: Option<Arc<str>>,
}

/// What an event costs beside its texts and payload: the struct, its counters, its place in a history.
const EVENT_OVERHEAD: usize = 160;

impl Event {
    /// The event that `new` becomes.
    pub fn accepted(new: NewEvent, seq: u64, timestamp_us: u64) -> Self {
        let NewEvent { room, kind, id, author, payload, session } = new;
        Self { room, kind, seq, id, author, payload, timestamp_us, session }
    }

    /// What it costs to keep it, in bytes, near enough to bound memory by.
    pub fn cost(&self) -> usize {
        let id = self.id.as_ref().map_or(0, |id| as_json(id.as_str()));
        EVENT_OVERHEAD + self.payload.len() + id + as_json(self.author.as_str())
    }
}

/// How many bytes a text takes as JSON, at most: pages are bounded by what readers are sent.
fn as_json(text: &str) -> usize {
    text.bytes().map(|byte| if byte < b' ' { 6 } else { 1 + usize::from(matches!(byte, b'"' | b'\\')) }).sum()
}
