//! What one session is told, in no encoding yet.
use crate::wire::event::{Event, Failure, Position};
use crate::wire::presence::{Online, Step};

/// One frame to a session.
#[derive(Debug, Clone, Copy)]
pub enum Frame<'a> {
    /// The first of every session.
    Welcome {
        /// The session's id.
        session: &'a str,
        /// Its user, as the core decided.
        user: &'a str,
        /// How often it is pinged.
        heartbeat_ms: u64,
        /// The largest message taken.
        max_message_bytes: u64,
    },
    /// The session is in a room, or goes on in it from another place.
    Joined {
        /// That of its `join`, if it asked.
        id: Option<&'a str>,
        /// The room.
        room: &'a str,
        /// Where, and what follows.
        joined: Joined<'a>,
    },
    /// The session has been put out of a room.
    Left {
        /// The room.
        room: &'a str,
    },
    /// A command succeeded.
    Ack {
        /// The command's id.
        id: &'a str,
        /// The room it was about.
        room: Option<&'a str>,
        /// What has been done.
        acked: Acked<'a>,
    },
    /// A command failed; named by what could be read of it.
    Error {
        /// The command's id.
        id: Option<&'a str>,
        /// The room it was about.
        room: Option<&'a str>,
        /// Why.
        failure: &'a Failure,
    },
    /// A page of history.
    History {
        /// The command's id.
        id: Option<&'a str>,
        /// The room.
        room: &'a str,
        /// What is in it.
        page: Page<'a>,
    },
    /// The session's token ends soon.
    TokenExpiring {
        /// When, in microseconds since 1970.
        expires_us: u64,
    },
    /// The server goes away.
    Draining {
        /// Over how long clients spread their return.
        reconnect_after_ms: u64,
    },
    /// An event of a room.
    Event(&'a Event),
    /// All who are online in a room.
    State {
        /// The room.
        room: &'a str,
        /// They.
        all: &'a [Online],
    },
    /// Something has happened to a user in a room.
    Step {
        /// The room.
        room: &'a str,
        /// What, to whom.
        step: &'a Step,
    },
    /// How many are online in a room that has too many to name them.
    Count {
        /// The room.
        room: &'a str,
        /// How many.
        count: u64,
    },
}

/// What `joined` says.
#[derive(Debug, Clone, Copy)]
pub struct Joined<'a> {
    /// The room's position.
    pub position: &'a Position,
    /// The cursor of the whole session.
    pub cursor: &'a str,
    /// Whether everything since the position that was brought follows; none was brought if absent.
    pub recovered: Option<bool>,
    /// How many events are replayed.
    pub replayed: u64,
}

/// What an `ack` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acked<'a> {
    /// A publish.
    Delivered {
        /// Where the event stands; ephemeral kinds have no place.
        position: Option<&'a Position>,
        /// It had been published before.
        duplicate: bool,
    },
    /// A ping, or a session's meta.
    Ok,
    /// Another token.
    Refreshed {
        /// When it ends, in microseconds since 1970; never in dev mode.
        expires_us: Option<u64>,
    },
    /// A leave.
    Left,
}

/// A part of a room's history.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The room's position.
    pub position: &'a Position,
    /// The events, ascending.
    pub events: &'a [&'a Event],
    /// There are more in the direction that was asked for.
    pub more: bool,
}
