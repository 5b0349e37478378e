//! A connection as the transport gives it to a shard, and its socket.
use crate::session::request::Credentials;
use crate::wire::close::CloseReason;
use crate::wire::cursor::Cursor;
use crate::wire::dialect::Dialect;
use bytes::Bytes;
use socket2::SockRef;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How much the kernel may hold for one socket, in bytes. Left alone it grows to megabytes, which hide a slow client
/// until it is far behind; this much keeps a browser at 50 ms busy with 2.5 MB/s.
const SEND_BUFFER: usize = 128 * 1024;
/// How much of it may be unsent before the socket counts as full: the rest is better kept here, shared.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 64 * 1024;

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

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// What the transport ties to a connection, for as long as it lives.
pub trait Bond: fmt::Debug + Send + Sync {
    /// The core does not know who that is.
    fn unauthenticated(&self);
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
