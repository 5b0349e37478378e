//! One connection: its socket, its parser, its session, and what waits for it. No task, no buffers: an idle one
//! holds a few hundred bytes, of which the runtime's registration of the socket is the most.
use crate::fanout::backlog::Backlog;
use crate::fanout::inbox::Inbox;
use crate::fanout::rooms::Rooms;
use crate::session::key::{RoomId, SessionKey};
use crate::session::place::Stage;
use crate::session::request::{ClientId, Credentials};
use crate::session::state::Session;
use crate::wire::close::CloseReason;
use crate::wire::cursor::Cursor;
use crate::wire::dialect::Dialect;
use crate::wire::event::Position;
use crate::wire::websocket::parser::Parser;
use bytes::Bytes;
use socket2::SockRef;
use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How much the kernel may hold for one socket, in bytes. Left alone it grows to megabytes, which hide a slow client
/// until it is far behind; this much keeps a browser at 50 ms busy with 2.5 MB/s.
const SEND_BUFFER: usize = 128 * 1024;
/// How much of it may be unsent before the socket counts as full: the rest is better kept here, shared.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 64 * 1024;
/// No link: the end of a chain, or none at all.
pub const NONE: u32 = u32::MAX;

/// What a socket behind TLS, or a test's, can do.
pub trait AsyncReadWrite: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> AsyncReadWrite for T {}

/// Where a connection's bytes come from and go to.
pub enum Socket {
    /// A bare socket.
    Tcp(TcpStream),
    /// Anything else.
    Stream(Box<dyn AsyncReadWrite + Send + Unpin>),
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Socket::Tcp(_) => "Tcp",
            Socket::Stream(_) => "Stream",
        })
    }
}

impl Socket {
    /// Makes the socket the shard's own: its buffers bounded, and registered anew, since the runtime would keep the
    /// last waker of its former owner, and with it a whole task, for as long as the socket lives.
    pub fn settle(self) -> io::Result<Socket> {
        let Socket::Tcp(stream) = self else { return Ok(self) };
        let stream = TcpStream::from_std(stream.into_std()?)?;
        let options = SockRef::from(&stream);
        options.set_tcp_nodelay(true)?;
        options.set_send_buffer_size(SEND_BUFFER)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        options.set_tcp_notsent_lowat(UNSENT)?;
        Ok(Socket::Tcp(stream))
    }

    /// Reads once; 0 is the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let done = match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Socket::Stream(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        done.map_ok(|()| buffer.filled().len())
    }

    /// Writes once.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match (self, slices) {
            (Socket::Tcp(stream), [only]) => Pin::new(stream).poll_write(cx, only),
            (Socket::Tcp(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
            (Socket::Stream(stream), [only]) => Pin::new(stream).poll_write(cx, only),
            (Socket::Stream(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Says that nothing more comes; what was written is sent.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Sends on what a stream keeps back; a bare socket keeps nothing.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(_) => Poll::Ready(Ok(())),
            Socket::Stream(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}

/// Something that lives as long as a connection does.
pub type Guard = Arc<dyn Any + Send + Sync>;

/// A connection that the transport gives to a shard, after its handshake.
#[derive(Debug)]
pub struct NewSession {
    /// Its socket; the handshake's answer has been written.
    pub socket: Socket,
    /// What was read beyond the handshake.
    pub read_ahead: Bytes,
    /// The session's id, as the browser will know it.
    pub id: Arc<str>,
    /// Who it says that it is.
    pub who: Credentials,
    /// How its bytes are framed.
    pub dialect: Dialect,
    /// What it is told before anything else, or instead of all; a WebSocket has been.
    pub head: Option<Box<Head>>,
    /// The rooms that the URL named.
    pub rooms: Vec<Arc<str>>,
    /// Where the client left off.
    pub since: Option<Cursor>,
    /// Close at once, for this reason.
    pub refuse: Option<CloseReason>,
    /// Dropped when the socket has gone: whoever counts connections counts by it.
    pub guard: Option<Guard>,
}

/// The beginning of an HTTP answer that is a session, as the core decides.
#[derive(Debug)]
pub struct Head {
    /// The session is let in.
    pub ok: Bytes,
    /// Who it is is not known.
    pub unauthenticated: Bytes,
    /// It may be in none of its rooms.
    pub forbidden: Bytes,
}

/// What is kept until the core has let the session in.
#[derive(Debug)]
pub struct Start {
    /// As in [`NewSession`].
    pub read_ahead: Bytes,
    /// As in [`NewSession`].
    pub id: Arc<str>,
    /// As in [`NewSession`].
    pub head: Option<Box<Head>>,
    /// As in [`NewSession`].
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
    /// As in [`NewSession`].
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
