//! A connection as the transport gives it to a shard.
use crate::fanout::socket::Socket;
use crate::session::request::Credentials;
use crate::wire::close::CloseReason;
use crate::wire::cursor::Cursor;
use crate::wire::dialect::Dialect;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// What the transport ties to a connection, for as long as it lives.
pub trait Bond: fmt::Debug + Send + Sync {
    /// It has brought a token that nobody has issued.
    fn forged(&self);
}

/// One that is dropped with the connection.
pub type Guard = Arc<dyn Bond>;

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
