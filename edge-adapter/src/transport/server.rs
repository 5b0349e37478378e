//! The listener: takes connections within the limits, speaks HTTP/1.1 and HTTP/2 on them, and ends in good order.
//!
//! A loop of its own rather than a framework's, because here connections are limited, slow ones are cut, and
//! those that have become sessions are owned by the shards.
use crate::config::Defence;
use crate::fanout::socket::Socket;
use crate::transport::connections::{Connections, Full, Permit};
use crate::transport::handshakes::{Handshake, Handshakes};
use crate::transport::linger::Lingering;
use crate::transport::{Doors, full, router, sse, tls};
use axum::Router;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// So many streams for each that a client may reset are reset by us, for its mistakes, before its connection ends.
const MISTAKES: usize = 8;
/// However few connections an edge takes, so many may be at their beginning.
const HANDSHAKES_MIN: usize = 16;
/// How much of an answer is kept for one of them beside what its sender holds, in bytes.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
/// A silent HTTP/2 connection is asked whether it lives; hyper's default patience of 20 s comes on top.
const HTTP2_PING: Duration = Duration::from_secs(30);
/// Out of file descriptors, `accept` fails at once, again and again; this long it is left alone, doubled up to the
/// second figure, since only time and the end of other connections help.
const ACCEPT_WAIT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Refused connections that are let read their answer at the same time; those beyond are just cut.
const LINGERING: usize = 256;
/// How long each of them may take.
const LINGER: Duration = Duration::from_secs(1);

/// What keeps the doors.
#[derive(Debug)]
pub struct Server {
    doors: Arc<Doors>,
    router: Router,
    connections: Connections,
    http: auto::Builder<TokioExecutor>,
    handshakes: Arc<Handshakes>,
    lingering: Arc<Semaphore>,
    /// Cancelled when the drain's time is over: what is left is cut.
    cut: CancellationToken,
}

impl Server {
    /// A server for these doors.
    pub fn new(doors: Arc<Doors>) -> Self {
        let config = &doors.config;
        let connections = Connections::new(
            doors.shards.clone(),
            config.max_connections,
            config.max_connections_per_address,
            &config.defence,
        );
        // Those who never ask must not take all places.
        let most = match config.max_connections {
            0 => config.defence.max_handshakes,
            max => config.defence.max_handshakes.min((max / 2).max(HANDSHAKES_MIN)),
        };
        Self {
            router: router(doors.clone()),
            connections,
            http: http(&config.defence),
            handshakes: Handshakes::new(most, doors.metrics.clone()),
            lingering: Arc::new(Semaphore::new(LINGERING)),
            cut: CancellationToken::new(),
            doors,
        }
    }

    /// How many connections there are, sessions included.
    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    /// Accepts until `shutdown`, then drains. Returns when all connections have ended, at the latest after
    /// the drain's timeout.
    pub async fn run(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        tokio::select! {
            () = self.accept(&listener) => {}
            never = self.doors.memory.watch() => match never {},
            () = shutdown => {}
        }
        drop(listener);
        self.drain().await;
        Ok(())
    }

    async fn accept(&self, listener: &TcpListener) {
        let mut wait = ACCEPT_WAIT.0;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    wait = ACCEPT_WAIT.0;
                    self.take(stream, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, ?wait, "cannot accept connections");
                    self.doors.metrics.http_refusal("accept_error");
                    sleep(wait).await;
                    wait = (wait * 2).min(ACCEPT_WAIT.1);
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        match self.connections.admit(peer.ip()) {
            // A socket that cannot be set up has been reset already; serving it finds out.
            Ok(permit) => {
                let _ = stream.set_nodelay(true);
                self.doors.tasks.spawn(self.serve(stream, permit, self.handshakes.enter()));
            }
            Err(full) => self.refuse(stream, full),
        }
    }

    /// How TLS is spoken now; what has been read anew holds for the next connection.
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.doors.config.tls.as_ref().map(|tls| tls.borrow().clone())
    }

    /// Speaks HTTP until the connection ends or becomes a session.
    fn serve(
        &self,
        stream: TcpStream,
        permit: Permit,
        handshake: Handshake,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (http, router, permit) = (self.http.clone(), self.router.clone(), Arc::new(permit));
        let (cut, draining) = (self.cut.clone(), self.doors.draining.clone());
        let (doors, tls) = (self.doors.clone(), self.tls());
        async move {
            let header_timeout = doors.config.defence.header_timeout;
            let begun = timeout(header_timeout, begin(&doors, stream, tls, &permit));
            let begun = tokio::select! {
                begun = begun => begun,
                () = handshake.displaced() => return,
                () = draining.cancelled() => return,
                () = cut.cancelled() => return,
            };
            let socket = match begun {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(_) => return doors.metrics.http_refusal("slow_start"),
            };
            let asked = Arc::new(AtomicBool::new(false));
            let displaced = handshake.displacement();
            let handshake = Mutex::new(Some(handshake));
            let socket = Lingering::new(socket, asked.clone());
            let service = service_fn({
                let asked = asked.clone();
                move |request: http::Request<Incoming>| {
                    if !asked.swap(true, Ordering::Relaxed) {
                        handshake.lock().unwrap_or_else(PoisonError::into_inner).take();
                    }
                    answer(doors.clone(), router.clone(), permit.clone(), request)
                }
            });
            let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(socket), service));
            // Until the first bytes tell which HTTP it is, nobody else watches the clock.
            let mut first_request = pin!(sleep(header_timeout));
            let (mut watched, mut kept) = (true, true);
            loop {
                let ended = tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = first_request.as_mut(), if watched => {
                        watched = false;
                        if asked.load(Ordering::Relaxed) { continue } else { return }
                    }
                    // Whoever has asked is not at its beginning any more.
                    () = displaced.cancelled() => return,
                    () = draining.cancelled(), if kept => {
                        kept = false;
                        connection.as_mut().graceful_shutdown();
                        continue;
                    }
                    () = cut.cancelled() => return,
                };
                // Resets, timeouts and nonsense: the client's affair.
                return ended.unwrap_or_else(|error| tracing::debug!(%error, "connection ended"));
            }
        }
    }

    /// Answers without serving. The client may be writing still, and a socket closed over unread bytes is reset, which
    /// can destroy the answer on its way; so the rest is read away for a moment.
    fn refuse(&self, stream: TcpStream, why: Full) {
        self.doors.metrics.http_refusal(full::reason(why));
        let Ok(place) = self.lingering.clone().try_acquire_owned() else { return };
        let (doors, tls) = (self.doors.clone(), self.tls());
        let linger = async move {
            let mut socket = match tls {
                None => Socket::Tcp(stream),
                Some(tls) => tls::accept(stream, tls::for_refusals(&tls)).await?,
            };
            let answer = full::answer(&doors.config, &mut socket, why).await;
            socket.write_all(answer.as_bytes()).await?;
            socket.shutdown().await?;
            let mut unread = [0; 512];
            while socket.read(&mut unread).await? > 0 {}
            drop(place);
            io::Result::Ok(())
        };
        // It has been told, or is gone, or too slow: all the same.
        self.doors.tasks.spawn(async move { drop(timeout(LINGER, linger).await) });
    }

    async fn drain(&self) {
        let Doors { config, shards, draining, tasks, .. } = &*self.doors;
        draining.cancel();
        shards.drain();
        tasks.close();
        // Connections first: a handshake under way still becomes a session, which is then sent away.
        let ended = async {
            tasks.wait().await;
            shards.idle().await;
        };
        if timeout(config.drain_timeout, ended).await.is_err() {
            tracing::warn!(left = self.connections(), "drain timed out, cutting what is left");
            self.cut.cancel();
        }
    }
}

/// The beginning of a connection: the handshake where TLS is spoken, else a look at the first request. None: it has ended, or it was a
/// stream, which is a shard's now.
async fn begin(
    doors: &Arc<Doors>,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    permit: &Arc<Permit>,
) -> Option<Socket> {
    let Some(tls) = tls else { return sse::first_request(doors, stream, permit).await.map(Socket::Tcp) };
    let secured = tls::accept(stream, tls).await;
    if let Err(error) = &secured {
        doors.metrics.http_refusal("tls");
        tracing::debug!(%error, "no handshake");
    }
    secured.ok()
}

/// Answers one request, of whoever is behind it.
async fn answer(
    doors: Arc<Doors>,
    mut router: Router,
    permit: Arc<Permit>,
    mut request: http::Request<Incoming>,
) -> Result<Response, Infallible> {
    match permit.visitor(request.headers()) {
        Ok(visitor) => {
            request.extensions_mut().insert(visitor);
            request.extensions_mut().insert(permit);
            router.call(request).await
        }
        Err(why) => {
            doors.metrics.http_refusal(full::reason(why));
            Ok(full::response(&doors.config, &request, why))
        }
    }
}

fn http(defence: &Defence) -> auto::Builder<TokioExecutor> {
    let Defence { header_timeout, max_header_bytes, http2_streams, http2_resets, .. } = *defence;
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(max_header_bytes);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(http2_streams)
        .max_pending_accept_reset_streams(http2_resets)
        .max_local_error_reset_streams(http2_resets.saturating_mul(MISTAKES))
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(HTTP2_PING);
    http
}

/// Errors that `accept` passes on from a connection that died in the queue; the next one is fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
