//! What is handed to a shard: the core's answers and the rooms' events, in the core's order.
use crate::fanout::shared::{SharedEvent, SharedPresence};
pub use crate::session::key::RoomId;
use crate::session::key::SessionKey;
use crate::session::request::ClientId;
use crate::wire::command::Token;
use crate::wire::event::{Failure, Position};
use crate::wire::presence::Online;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One thing for a shard to act upon. Within a shard posts are acted upon in order; a post that changes who is in a
/// room stands exactly where that change is in the room's order of events.
#[derive(Debug)]
pub enum Post {
    /// The session is let in: `welcome` goes out.
    Opened {
        /// Which.
        session: SessionKey,
        /// Its user, as the core decided.
        user: Arc<str>,
        /// When its token ends, in microseconds since 1970.
        expires_us: Option<u64>,
    },
    /// The session's token is another one.
    Refreshed {
        /// Which.
        session: SessionKey,
        /// The id of its command.
        id: Option<ClientId>,
        /// When the token ends, in microseconds since 1970.
        expires_us: Option<u64>,
    },
    /// The session is not let in, or no longer.
    Refused {
        /// Which.
        session: SessionKey,
        /// Why.
        failure: Failure,
    },
    /// An administrator has ended the session.
    Kicked {
        /// Which.
        session: SessionKey,
    },
    /// The session is in a room; `joined` goes out, then the page, then, when `live`, the room's events.
    /// Also comes unasked, for a session that was in the room already and has lost its place.
    Joined {
        /// Which.
        session: SessionKey,
        /// It asked for this.
        asked: bool,
        /// The id of its command; none if it gave none or asked for nothing.
        id: Option<ClientId>,
        /// The room.
        room: RoomId,
        /// Its name.
        name: Arc<str>,
        /// Whether the session's own live events come back to it.
        echo: bool,
        /// Whether it is shown who is online.
        presence: bool,
        /// The room's position at this point.
        position: Position,
        /// As in `joined`.
        recovered: Option<bool>,
        /// As in `joined`.
        replayed: u64,
        /// The first page of the replay.
        page: Vec<Arc<SharedEvent>>,
        /// The page reaches the top. If not, the shard pulls the next one when the socket has drained.
        live: bool,
    },
    /// A session that was in the room already asked to join: `joined` goes out with the present position, nothing changes.
    StillJoined {
        /// Which.
        session: SessionKey,
        /// The id of its command.
        id: Option<ClientId>,
        /// The room.
        room: RoomId,
        /// The room's position.
        position: Position,
    },
    /// A join that failed.
    JoinFailed {
        /// Which.
        session: SessionKey,
        /// The id of its command.
        id: Option<ClientId>,
        /// The room's name.
        name: Arc<str>,
        /// Why.
        failure: Failure,
    },
    /// The next page of a replay.
    Page {
        /// Which.
        session: SessionKey,
        /// The room.
        room: RoomId,
        /// The events.
        events: Vec<Arc<SharedEvent>>,
        /// The page reaches the top.
        live: bool,
    },
    /// The session is out of the room: an `ack` if it asked, else `left`.
    Left {
        /// Which.
        session: SessionKey,
        /// The room.
        room: RoomId,
        /// It asked, with this id or none; absent when it is put out.
        asked: Option<Option<ClientId>>,
    },
    /// A publish succeeded; only for one that has an id.
    Ack {
        /// Which.
        session: SessionKey,
        /// The id of its command.
        id: ClientId,
        /// The room's name.
        name: Arc<str>,
        /// Where the event stands; none for ephemeral kinds.
        position: Option<Position>,
        /// It had been published before.
        duplicate: bool,
    },
    /// What only a call is told.
    Called {
        /// Which.
        session: SessionKey,
        /// The answer.
        answer: CallAnswer,
    },
    /// A command succeeded of which there is nothing more to say.
    Done {
        /// Which.
        session: SessionKey,
        /// The id of its command.
        id: Option<ClientId>,
        /// The room's name.
        name: Arc<str>,
    },
    /// Something is told of a room's presence, to all who are shown it. A state goes also to those who have not been shown it so far.
    Presence {
        /// The room.
        room: RoomId,
        /// What is told.
        shared: Arc<SharedPresence>,
    },
    /// A session is shown who is online in a room: steps follow.
    ShowPresence {
        /// Which.
        session: SessionKey,
        /// The room.
        room: RoomId,
        /// A state or a count.
        shared: Arc<SharedPresence>,
    },
    /// A leave that failed: the session is in the room as before.
    LeaveFailed {
        /// Which.
        session: SessionKey,
        /// The id of its command.
        id: Option<ClientId>,
        /// The room's name.
        name: Arc<str>,
        /// Why.
        failure: Failure,
    },
    /// History that could not be read.
    HistoryFailed {
        /// Which.
        session: SessionKey,
        /// The id of its command.
        id: Option<ClientId>,
        /// The room's name.
        name: Arc<str>,
        /// Why.
        failure: Failure,
    },
    /// A command failed.
    Failed {
        /// Which.
        session: SessionKey,
        /// It answers a request that the session counts as one that is answered.
        due: bool,
        /// The id of its command.
        id: Option<ClientId>,
        /// The room's name.
        name: Option<Arc<str>>,
        /// Why.
        failure: Failure,
    },
    /// A page of history.
    History {
        /// Which.
        session: SessionKey,
        /// The id of its command.
        id: Option<ClientId>,
        /// The room's name.
        name: Arc<str>,
        /// The room's position.
        position: Position,
        /// The events.
        events: Vec<Arc<SharedEvent>>,
        /// There are more in that direction.
        more: bool,
    },
    /// An event for all in the room.
    Event {
        /// The room.
        room: RoomId,
        /// The event.
        event: Arc<SharedEvent>,
        /// The session of this shard that published it: signals and typing are not sent back to it, and nothing is where
        /// it joined with `echo: false`.
        origin: Option<SessionKey>,
    },
    /// The room's numbering began anew, or events were lost: every live session in it gets `joined` with `recovered: false`.
    Reset {
        /// The room.
        room: RoomId,
        /// Where it goes on from.
        position: Position,
    },
}

/// What a call is told and no other session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallAnswer {
    /// A publish without an id succeeded.
    Published {
        /// Where the event stands; none for ephemeral kinds.
        position: Option<Position>,
    },
    /// Who is online in a room.
    Online {
        /// The first of them, in order of their names.
        online: Vec<Online>,
        /// How many there are in all.
        count: u64,
    },
    /// What stands for its token in a URL.
    Ticket {
        /// The ticket, which reaches a log as little as a token does.
        ticket: Token,
        /// Until when it may be shown, in microseconds since 1970.
        expires_us: u64,
    },
}

/// What any post takes beside the events in it, roughly, in bytes.
const POST_BYTES: usize = 256;

impl Post {
    /// About how many bytes of memory it holds. An event that several shards are given counts for each.
    pub fn weight(&self) -> usize {
        let of = |events: &[Arc<SharedEvent>]| events.iter().map(|shared| shared.weight()).sum::<usize>();
        POST_BYTES
            + match self {
                Post::Event { event, .. } => event.weight(),
                Post::Presence { shared, .. } | Post::ShowPresence { shared, .. } => shared.told.weight(),
                Post::Joined { page: events, .. }
                | Post::Page { events, .. }
                | Post::History { events, .. } => of(events),
                Post::Called { answer: CallAnswer::Ticket { ticket, .. }, .. } => ticket.0.len(),
                Post::Called { answer: CallAnswer::Online { online, .. }, .. } => {
                    online.iter().map(Online::weight).sum()
                }
                _ => 0,
            }
    }
}

/// Where posts go: the shards' inboxes. Shards are numbered from 0; a session's is in its key.
pub trait Posts: Send + Sync {
    /// How many shards there are.
    fn shards(&self) -> usize;

    /// Puts all of `posts` behind what the shard has already, in order, and leaves the vector empty. Never waits; wakes the
    /// shard if it had nothing. Unknown shards' posts are dropped.
    fn post(&self, shard: usize, posts: &mut Vec<Post>);

    /// Whether there is room in all inboxes for what comes next; if not, the task is woken when there is. Whoever
    /// reads from a core asks first: a shard that does not keep up slows its core down instead of filling memory.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()>;
}
