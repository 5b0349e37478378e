//! A connection's socket: bare, behind TLS, or a stream that HTTP keeps. The same type before and after it becomes a shard's.
use socket2::SockRef;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// How much the kernel may hold for one socket, in bytes. Left alone it grows to megabytes, which hide a slow client
/// until it is far behind; this much keeps a browser at 50 ms busy with 2.5 MB/s.
const SEND_BUFFER: usize = 128 * 1024;
/// How much of it may be unsent before the socket counts as full: the rest is better kept here, shared.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 64 * 1024;
/// How much TLS may hold back for one socket, for the same reason: two of its largest records.
const SEALED: usize = 32 * 1024;

/// What a test's socket can do, and a pipe that HTTP reads from.
pub trait AsyncReadWrite: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> AsyncReadWrite for T {}

/// Where a connection's bytes come from and go to.
pub enum Socket {
    /// A bare socket.
    Tcp(TcpStream),
    /// A socket behind TLS.
    Tls(Box<TlsStream<Beneath>>),
    /// Anything else.
    Stream(Box<dyn AsyncReadWrite + Send + Unpin>),
}

/// The socket beneath TLS. It can be taken out and put back, which nothing but [`Socket::settle`] does.
pub struct Beneath(Option<TcpStream>);

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Socket::Tcp(_) => "Tcp",
            Socket::Tls(_) => "Tls",
            Socket::Stream(_) => "Stream",
        })
    }
}

impl Socket {
    /// Shakes hands over a bare socket.
    pub async fn secure(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Socket> {
        let secure = TlsAcceptor::from(config).accept(Beneath(Some(stream))).await?;
        Ok(Socket::Tls(Box::new(secure)))
    }

    /// Makes the socket the shard's own: its buffers bounded, and registered anew, since the runtime would keep the
    /// last waker of its former owner, and with it a whole task, for as long as the socket lives.
    pub fn settle(self) -> io::Result<Socket> {
        Ok(match self {
            Socket::Tcp(stream) => Socket::Tcp(settled(stream)?),
            Socket::Tls(mut secure) => {
                let (Beneath(beneath), session) = secure.get_mut();
                session.set_buffer_limit(Some(SEALED));
                let stream = beneath.take().ok_or(io::ErrorKind::NotConnected)?;
                *beneath = Some(settled(stream)?);
                Socket::Tls(secure)
            }
            Socket::Stream(stream) => Socket::Stream(stream),
        })
    }

    /// Reads once; 0 is the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        AsyncRead::poll_read(Pin::new(self), cx, &mut buffer).map_ok(|()| buffer.filled().len())
    }

    /// Writes once.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match slices {
            [only] => AsyncWrite::poll_write(Pin::new(self), cx, only),
            _ => AsyncWrite::poll_write_vectored(Pin::new(self), cx, slices),
        }
    }

    /// Says that nothing more comes; what was written is sent.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), cx)
    }

    /// Sends on what a stream keeps back; a bare socket keeps nothing.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(self), cx)
    }

    /// Before it is dropped: TLS tells an end from a cut by a word, which is sent as far as the socket takes it now. Of a bare
    /// socket the end says it.
    pub fn part(&mut self) {
        if matches!(self, Socket::Tls(_)) {
            // Whoever is gone already hears nothing, and nobody waits for them.
            let _ = self.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

fn settled(stream: TcpStream) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(stream.into_std()?)?;
    let options = SockRef::from(&stream);
    options.set_tcp_nodelay(true)?;
    options.set_send_buffer_size(SEND_BUFFER)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    options.set_tcp_notsent_lowat(UNSENT)?;
    Ok(stream)
}

/// Does with each kind of socket what can be done with all of them.
macro_rules! each {
    ($socket:expr, $stream:ident => $done:expr) => {
        match $socket {
            Socket::Tcp($stream) => $done,
            Socket::Tls($stream) => $done,
            Socket::Stream($stream) => $done,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl Beneath {
    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        let stream = self.get_mut().0.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Beneath {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Beneath {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
