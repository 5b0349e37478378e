//! An event with its bytes: each encoding is made once, on first need, and shared by all sessions.
use crate::wire::event::Event;
use crate::wire::json;
use crate::wire::presence::Told;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// An event and what it looks like on each transport.
#[derive(Debug)]
pub struct SharedEvent {
    /// The event.
    pub event: Event,
    websocket_json: OnceLock<Bytes>,
}

impl SharedEvent {
    /// An event that nobody has encoded yet.
    pub fn new(event: Event) -> Self {
        Self { event, websocket_json: OnceLock::new() }
    }

    /// About how many bytes of memory it holds, encoded or about to be.
    pub fn weight(&self) -> usize {
        let Event { room, id, author, payload, .. } = &self.event;
        size_of::<Self>()
            + 2 * payload.len()
            + room.len()
            + author.len()
            + id.as_ref().map_or(0, |id| id.len())
    }

    /// A whole WebSocket text frame: head and JSON envelope.
    pub fn websocket_json(&self) -> &Bytes {
        self.websocket_json.get_or_init(|| json::event_frame(&self.event))
    }
}

/// What is told of a room's presence, with its bytes.
#[derive(Debug)]
pub struct SharedPresence {
    /// The room's name.
    pub room: Arc<str>,
    /// What is told.
    pub told: Told,
    websocket_json: OnceLock<Bytes>,
}

impl SharedPresence {
    /// Something that nobody has encoded yet.
    pub fn new(room: Arc<str>, told: Told) -> Self {
        Self { room, told, websocket_json: OnceLock::new() }
    }

    /// Whole WebSocket text frames.
    pub fn websocket_json(&self) -> &Bytes {
        self.websocket_json.get_or_init(|| self.told.websocket_json(&self.room))
    }
}
