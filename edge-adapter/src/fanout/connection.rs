//! One connection: its socket, its parser, its session, and what waits for it. No task, no buffers: an idle one
//! holds a few hundred bytes, of which the runtime's registration of the socket is the most.
use crate::fanout::backlog::Backlog;
use crate::fanout::inbox::Inbox;
use crate::fanout::newcomer::{Guard, Head};
use crate::fanout::rooms::Rooms;
use crate::fanout::socket::Socket;
use crate::session::key::{RoomId, SessionKey};
use crate::session::place::Stage;
use crate::session::request::ClientId;
use crate::session::state::Session;
use crate::wire::cursor::Cursor;
use crate::wire::dialect::Dialect;
use crate::wire::event::Position;
use crate::wire::websocket::parser::Parser;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

/// What is kept until the core has let the session in.
#[derive(Debug)]
pub struct Start {
    /// As in [`crate::fanout::newcomer::NewSession`].
    pub read_ahead: Bytes,
    /// As in [`crate::fanout::newcomer::NewSession`].
    pub id: Arc<str>,
    /// As in [`crate::fanout::newcomer::NewSession`].
    pub head: Option<Box<Head>>,
    /// As in [`crate::fanout::newcomer::NewSession`].
    pub rooms: Vec<Arc<str>>,
    /// The core has been asked, and must be told of the end.
    pub asked: bool,
    /// Its token may come in its first frame.
    pub may_bring_token: bool,
    /// It has come in one, with this id or none.
    pub brought: Option<Option<ClientId>>,
}

/// Until when a session may go on as it is, and what then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// When.
    pub at: Instant,
    /// What then.
    pub then: Then,
}

/// What becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It has not said who it is.
    Refuse,
    /// Its token ends soon.
    Warn {
        /// When.
        ends: Instant,
        /// The same, in microseconds since 1970.
        expires_us: u64,
    },
    /// Its token has ended.
    End,
}

/// Where a connection stands between its handshake and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The core has not let it in yet; it is not read.
    Opening,
    /// Its first frame is to say who it is.
    Waiting,
    /// It takes part.
    Open,
    /// The close frame is under way; what comes is discarded until the client's arrives.
    Closing,
    /// What is pending is tried once more, then the socket goes.
    Ending,
}

/// A connection of a shard.
#[derive(Debug)]
pub struct Connection {
    /// Its name.
    pub key: SessionKey,
    /// Its socket.
    pub socket: Socket,
    /// As in [`crate::fanout::newcomer::NewSession`].
    pub guard: Option<Guard>,
    /// What the client's bytes have come to.
    pub parser: Parser,
    /// Its session.
    pub session: Session,
    /// Until when it may go on as it is.
    pub until: Option<Box<Until>>,
    /// Until it is let in.
    pub start: Option<Box<Start>>,
    /// What the socket did not take.
    pub backlog: Option<Box<Backlog>>,
    /// Wakes the shard for this connection.
    pub waker: Waker,
    /// The same, to be told that it has been heard.
    pub wake: Arc<ConnectionWaker>,
    /// The first and the last of this turn's links in [`crate::fanout::outgoing::Outgoing`].
    pub first: u32,
    /// See `first`.
    pub last: u32,
    /// The tick at which it was last heard of.
    pub heard: u32,
    /// Where it stands.
    pub phase: Phase,
    /// How its bytes are framed.
    pub dialect: Dialect,
    /// It is in several rooms, and goes on by one cursor for all.
    pub own_cursors: bool,
    /// Something is to be written this turn.
    pub dirty: bool,
    /// Its socket has become ready while a backlog waited.
    pub writable: bool,
    /// The run that is being given out has events that it must not get.
    pub excluded: bool,
    /// Its frames make no sense any more and are only discarded.
    pub deaf: bool,
}

impl Connection {
    /// How many bytes wait for it.
    pub fn backlog_bytes(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes())
    }

    /// So little waits for it that the next page of a replay may come: in time to keep the socket busy.
    pub fn is_drained(&self) -> bool {
        /// In bytes.
        const LITTLE: usize = 16 * 1024;
        self.backlog_bytes() <= LITTLE
    }

    /// Its cursor: in each room up to where it has been given events, in one of them up to `here`. None while it would lack a room:
    /// one that the URL named and the core has not answered for.
    pub fn cursor(&self, rooms: &Rooms, here: Option<(RoomId, &Position)>) -> Option<String> {
        (!self.session.is_joining()).then(|| self.cursor_so_far(rooms, here))
    }

    /// The same, of the rooms that it is in so far.
    pub fn cursor_so_far(&self, rooms: &Rooms, here: Option<(RoomId, &Position)>) -> String {
        let positions = self.session.places().iter().filter_map(|place| {
            let position = match (place.stage, here) {
                (Stage::Joining, _) => return None,
                (_, Some((room, position))) if room == place.room => position,
                (Stage::Paging, _) => place.sent.as_deref()?,
                (Stage::Live, _) => &rooms.get(place.room)?.position,
            };
            Some((&*place.name, position))
        });
        Cursor::encode_with(self.session.brought(), positions)
    }

    /// Its session is not over.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Waiting | Phase::Open)
    }
}

/// A connection is its own waker: a socket that becomes ready puts the slot into the shard's inbox, once.
#[derive(Debug)]
pub struct ConnectionWaker {
    inbox: Arc<Inbox>,
    slot: u32,
    queued: AtomicBool,
}

impl ConnectionWaker {
    /// A waker for the connection in `slot`.
    pub fn new(inbox: Arc<Inbox>, slot: u32) -> Arc<Self> {
        Arc::new(ConnectionWaker { inbox, slot, queued: AtomicBool::new(false) })
    }

    /// The shard is about to look at the socket: what becomes ready from here on is told anew.
    pub fn heard(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.inbox.ready(self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the runtime's registration of the socket (256 bytes) and the waker (48) an idle session in one room (48)
    /// stays below 700 bytes.
    #[test]
    fn idle_connections_are_small() {
        assert!(size_of::<Connection>() <= 208, "{}", size_of::<Connection>());
        assert!(size_of::<crate::session::place::Place>() <= 48);
    }
}
