//! What a session asks of the core, and the door through which it asks.
use crate::session::key::{RoomId, SessionKey};
use crate::wire::event::{Kind, Payload, Position};
use std::fmt;
use std::sync::Arc;

/// A client's id for a command: comes back with the answer.
pub type ClientId = Box<str>;

/// What a client has brought to say who it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// In dev mode, the name that it gives itself.
    pub user: Option<Box<str>>,
    /// Its token.
    pub token: Option<Box<str>>,
}

/// The longest token that travels: what a core takes. Another is none, however it goes on.
const TOKEN_MAX: usize = 8 * 1024;
/// What stands for a token that cannot be one.
const NO_TOKEN: &str = "?";

impl Credentials {
    /// A token, of whatever length and shape.
    pub fn token(token: Box<str>) -> Credentials {
        Credentials::default().or_token(Some(token))
    }

    /// The same with a token, where there is none yet.
    pub fn or_token(self, token: Option<Box<str>>) -> Credentials {
        let fits = |token: Box<str>| if token.len() <= TOKEN_MAX { token } else { NO_TOKEN.into() };
        Credentials { token: self.token.or_else(|| token.map(fits)), ..self }
    }
}

#[cfg(test)]
impl Credentials {
    /// Somebody in dev mode.
    pub fn named(user: &str) -> Credentials {
        Credentials { user: Some(user.into()), token: None }
    }
}

// By hand: tokens reach no log.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "redacted");
        f.debug_struct("Credentials").field("user", &self.user).field("token", &token).finish()
    }
}

/// What a session asks of the core. The answers come as [`crate::fanout::post::Post`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Lets a session in. Answered by `Opened` or `Refused`.
    Open {
        /// Who asks.
        session: SessionKey,
        /// Its id, as the browser knows it.
        id: Arc<str>,
        /// Who it says that it is.
        who: Credentials,
        /// The rooms of a request that is answered by a status: where it may be in none of them, it is refused.
        rooms: Vec<Arc<str>>,
    },
    /// Lets a session in that is a single request over HTTP: it joins nothing, and needs no join for what it asks. What it publishes is
    /// answered also where there is no id. Answered by `Refused` alone: what it asks need not wait.
    Call {
        /// Who asks.
        session: SessionKey,
        /// Its id.
        id: Arc<str>,
        /// Who it says that it is.
        who: Credentials,
    },
    /// Another token of the same user. Answered by `Refreshed`, or by `Failed`.
    Refresh {
        /// Who asks.
        session: SessionKey,
        /// Its id for the command.
        id: Option<ClientId>,
        /// What it brings.
        who: Credentials,
    },
    /// The session has gone.
    Close {
        /// Who has gone.
        session: SessionKey,
        /// It may come back.
        vanished: bool,
    },
    /// Joins a room. Answered by `Joined` or `JoinFailed`.
    Join {
        /// Who asks.
        session: SessionKey,
        /// Its id for the command.
        id: Option<ClientId>,
        /// The room.
        room: Arc<str>,
        /// Where it left off.
        since: Option<Position>,
        /// Without `since`: how many of the newest events.
        history: u32,
        /// Whether its own live events come back to it.
        echo: bool,
        /// Whether it is shown who is online.
        presence: bool,
    },
    /// Leaves a room. Answered by `Left`, or by `Failed`.
    Leave {
        /// Who asks.
        session: SessionKey,
        /// Its id for the command.
        id: Option<ClientId>,
        /// The room.
        room: Arc<str>,
    },
    /// Publishes. Answered by `Ack` if there is an id, or by `Failed`.
    Publish {
        /// Who asks.
        session: SessionKey,
        /// Its id for the command, and the idempotency key.
        id: Option<ClientId>,
        /// The room.
        room: Arc<str>,
        /// What kind of event.
        kind: Kind,
        /// What it says, checked.
        payload: Payload,
        /// Only while the room has this epoch; else it fails with `Unavailable`.
        fence: Option<Arc<str>>,
    },
    /// Sets what the session shows in a room. Answered by `Done`, or by `Failed`.
    Presence {
        /// Who asks.
        session: SessionKey,
        /// Its id for the command.
        id: Option<ClientId>,
        /// The room.
        room: Arc<str>,
        /// A JSON object on one line; none for a mere sign of life.
        meta: Option<Arc<str>>,
    },
    /// Steps of a room's presence were left out, since too much waited for the session. Answered by `ShowPresence`.
    ShowPresence {
        /// Who is to be shown.
        session: SessionKey,
        /// The room.
        room: RoomId,
    },
    /// Reads history. Answered by `History` or `Failed`.
    History {
        /// Who asks.
        session: SessionKey,
        /// Its id for the command.
        id: Option<ClientId>,
        /// The room.
        room: Arc<str>,
        /// Only after this seq.
        after: Option<u64>,
        /// Only before this seq.
        before: Option<u64>,
        /// At most this many.
        limit: u32,
    },
    /// Asks who is online in a room; for a call. Answered by `Called`, or by `Failed`.
    ListOnline {
        /// Who asks.
        session: SessionKey,
        /// The room.
        room: Arc<str>,
        /// At most this many.
        limit: u32,
    },
    /// Asks for a ticket that stands for the session's token; for a call. Answered by `Called`, or by `Failed`.
    Ticket {
        /// Who asks.
        session: SessionKey,
    },
    /// The socket has room for the next page of a replay. Answered by `Page`, or by `Joined` anew.
    Pull {
        /// Who asks.
        session: SessionKey,
        /// The room.
        room: Arc<str>,
        /// The last position that it was sent.
        after: Position,
    },
    /// Nobody waits for answers any longer: all that is pending fails. The edge goes away.
    GiveUp,
}

/// The queue to the core is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Where requests go. The link is one; tests have others.
pub trait Upstream: Send + Sync {
    /// Takes a request. `Open`, `Call`, `Close`, `Pull`, `ShowPresence` and `GiveUp` are never refused: there are only so many sessions.
    fn send(&self, request: Request) -> Result<(), Busy>;
}
