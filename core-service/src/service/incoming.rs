//! Connections as they come to the gRPC door: bare or behind TLS, and whether their peer has shown a certificate.
use futures_util::Stream;
use prometheus_client::metrics::counter::Counter;
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig},
    server::TlsStream,
};
use tonic::transport::server::Connected;

/// How long a handshake may take: ample for the worst network.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer that has been refused may take to hear it.
const LINGER: Duration = Duration::from_secs(1);
/// How many may be under way. One more takes the place of the oldest, which a peer that means it has long finished: those who
/// only begin them cannot keep the others out.
const HANDSHAKES: usize = 1024;
/// Out of file descriptors, `accept` fails at once, again and again: this long it is left alone.
const ACCEPT_WAIT: Duration = Duration::from_millis(100);

/// A connection.
pub(super) enum Connection {
    /// In the clear.
    Bare(TcpStream),
    /// Behind TLS.
    Secure(Box<TlsStream<TcpStream>>),
}

/// What a connection tells of its peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// It has shown a certificate of an authority that this core asks for, which makes it an edge.
    pub(super) is_edge: bool,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        // One that does not hold ends the handshake, so what is there has been verified.
        let is_edge = match self {
            Connection::Bare(_) => false,
            Connection::Secure(secure) => {
                secure.get_ref().1.peer_certificates().is_some_and(|shown| !shown.is_empty())
            }
        };
        Peer { is_edge }
    }
}

/// Connections that have only begun, the oldest first: handshakes of TLS under way, and in the clear those that have said nothing yet.
struct Handshakes {
    failures: Counter,
    tasks: JoinSet<Option<Connection>>,
    order: VecDeque<AbortHandle>,
}

impl Handshakes {
    fn begin(&mut self, config: Option<Arc<ServerConfig>>, stream: TcpStream, peer: SocketAddr) {
        if self.order.len() >= HANDSHAKES
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
            self.failures.inc();
        }
        let failures = self.failures.clone();
        self.order.push_back(self.tasks.spawn(async move {
            let Some(config) = config else {
                // In the clear a client says the first word; HTTP/2 asks for life only behind it.
                let spoken = timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut [0])).await;
                return matches!(spoken, Ok(Ok(1..))).then_some(Connection::Bare(stream));
            };
            let shaken =
                timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream).into_fallible()).await;
            let (error, stream) = match shaken {
                Ok(Ok(secure)) => return Some(Connection::Secure(Box::new(secure))),
                Ok(Err((error, stream))) => (error, Some(stream)),
                Err(_) => (io::ErrorKind::TimedOut.into(), None),
            };
            refused(&error, peer);
            failures.inc();
            if let Some(stream) = stream {
                // It has been told, or is gone, or too slow: all the same.
                drop(timeout(LINGER, hear_out(stream)).await);
            }
            None
        }));
    }

    /// The next that has come to an end; what came of it, if anything. None: there are none.
    async fn next(&mut self) -> Option<Option<Connection>> {
        let ended = self.tasks.join_next_with_id().await?;
        let (id, connection) = match ended {
            Ok((id, connection)) => (id, connection),
            Err(cancelled) => (cancelled.id(), None),
        };
        self.order.retain(|handshake| handshake.id() != id);
        Some(connection)
    }
}

/// An edge whose certificate is refused is somebody's mistake, and here its cause is known; the rest is the network's noise.
fn refused(error: &io::Error, peer: SocketAddr) {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            tracing::warn!(%peer, %reason, "a client's certificate does not hold");
        }
        _ => tracing::debug!(%peer, %error, "no TLS handshake"),
    }
}

/// Reads what a refused peer has still said. The alert in front of unread bytes could be lost to the reset that follows, and with it
/// the reason that the peer can tell.
async fn hear_out(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 512];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// All that come to a listener. How TLS is spoken is looked up for each, since it may have been read anew.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    failures: Counter,
) -> impl Stream<Item = io::Result<Connection>> {
    async_stream::stream! {
        let mut handshakes = Handshakes { failures, tasks: JoinSet::new(), order: VecDeque::new() };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(ended) = handshakes.next() => {
                    if let Some(connection) = ended {
                        yield Ok(connection);
                    }
                    continue;
                }
            };
            match accepted {
                Ok((stream, peer)) => {
                    // A socket that cannot be set up has been reset already; serving it finds out.
                    let _ = stream.set_nodelay(true);
                    let config = tls.as_ref().map(|tls| tls.borrow().clone());
                    handshakes.begin(config, stream, peer);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_WAIT).await;
                }
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Bare(stream) => Pin::new(stream).poll_read(cx, buffer),
            Connection::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Bare(stream) => Pin::new(stream).poll_write(cx, bytes),
            Connection::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Bare(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Connection::Secure(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Bare(stream) => Pin::new(stream).poll_flush(cx),
            Connection::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Bare(stream) => Pin::new(stream).poll_shutdown(cx),
            Connection::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
