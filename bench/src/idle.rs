//! `hearth bench idle`: what it costs a server that somebody waits, by each transport.
//!
//! Each kind has a server of its own, which is given so many sessions that wait for something to happen, and is weighed before
//! and after. Ten sessions share a room and a user, so that none is told of another's coming: a poll would be answered by that.
use crate::{Failure, frames, report::Columns, server::Server};
use bytes::Bytes;
use clap::Args;
use h2::{RecvStream, client::SendRequest};
use http::Request;
use std::{
    any::Any,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Files that are not the sessions'.
const OTHER_FILES: u64 = 300;
/// Sessions of a room, and of a user.
const ROOM: u32 = 10;
/// Streams that share one connection of HTTP/2.
const SHARING: u32 = 50;
/// The first of a kind cost what the others do not. A multiple of those who share.
const FIRST: u32 = 2 * SHARING;
/// Seconds that a poll waits: longer than it takes to weigh.
const POLL: u32 = 60;
/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the server is weighed until it no longer changes.
const WEIGH: Duration = Duration::from_millis(500);
/// The last that a session is told at its beginning.
const STATE: &[u8] = br#""event":"state""#;

/// How many.
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Sessions that wait, of each kind
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    sessions: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    WebSocket,
    /// An event stream that is the first request of its connection.
    Sse,
    /// One that is not.
    SseKept,
    /// One that has a connection of HTTP/2 for itself.
    SseHttp2,
    /// Some that share one.
    SseHttp2Shared,
    /// A poll on a connection that is kept, as polls are.
    Poll,
    /// Some that share a connection of HTTP/2.
    PollHttp2Shared,
}

const KINDS: [(&str, Kind); 7] = [
    ("WebSocket", Kind::WebSocket),
    ("event stream, first on its connection (HTTP/1.1)", Kind::Sse),
    ("event stream, on a kept connection (HTTP/1.1)", Kind::SseKept),
    ("event stream, alone on its connection (HTTP/2)", Kind::SseHttp2),
    ("event stream, with 49 others on one (HTTP/2)", Kind::SseHttp2Shared),
    ("poll that waits, on a kept connection (HTTP/1.1)", Kind::Poll),
    ("poll that waits, with 49 others on one (HTTP/2)", Kind::PollHttp2Shared),
];

/// Whatever keeps a session waiting.
type Held = Vec<Box<dyn Any + Send>>;

/// Measures and prints it.
pub async fn run(args: &IdleArgs, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    let needed = u64::from(args.sessions + FIRST) + OTHER_FILES;
    if files < needed {
        return Err(format!("{needed} open files are needed, {files} are allowed (ulimit -Hn)").into());
    }
    let title = format!("{} sessions that wait", args.sessions);
    let mut columns = Columns::named(title, ["KiB each", "µs to open"]);
    for (name, kind) in KINDS {
        columns
            .row(name, weigh(kind, args.sessions, stop).await.map_err(|error| format!("{name}: {error}"))?);
    }
    columns.remark("KiB is the server's own memory (PSS) for each, connection, session and place in a room together, without");
    columns.remark("what the kernel holds; µs is its processor time until it waits.");
    let build = if cfg!(debug_assertions) { "DEBUG BUILD: the numbers mean little\n" } else { "" };
    if args.json {
        println!("{}", serde_json::json!({"about": build.trim(), "tables": [columns.value()]}));
    } else {
        println!("What it costs that somebody waits\n{build}\n{}", columns.table());
    }
    Ok(())
}

/// KiB and µs for each.
async fn weigh(kind: Kind, sessions: u32, stop: &AtomicBool) -> Result<[f64; 2], Failure> {
    let server = Server::hearth(&[])?;
    let began = Instant::now();
    // Who comes next is in another room: one that has just told a change would let it wait.
    let (mut held, rooms) = (Held::new(), (FIRST + sessions) / ROOM);
    open(kind, server.address, 0..FIRST, rooms, stop, &mut held).await?;
    let (before, cpu) = (settled(&server, stop).await?, server.cpu()?);
    open(kind, server.address, FIRST..FIRST + sessions, rooms, stop, &mut held).await?;
    let cpu = server.cpu()?.saturating_sub(cpu);
    let after = settled(&server, stop).await?;
    if began.elapsed() > Duration::from_secs(u64::from(POLL)) {
        return Err(format!(
            "it took longer than {POLL} s, and polls have been answered meanwhile: take fewer sessions"
        )
        .into());
    }
    let kib = after.saturating_sub(before) as f64 / f64::from(sessions) / 1024.0;
    // Sessions end before the server.
    drop(held);
    Ok([kib, cpu.as_secs_f64() * 1e6 / f64::from(sessions)])
}

async fn settled(server: &Server, stop: &AtomicBool) -> Result<u64, Failure> {
    let began = Instant::now();
    let mut before = server.own_memory()?;
    loop {
        sleep(WEIGH).await;
        let now = server.own_memory()?;
        if now.abs_diff(before) < 64 * 1024 {
            return Ok(now);
        }
        if stop.load(Ordering::Relaxed) || began.elapsed() > PATIENCE {
            return Err("the server's memory does not come to rest".into());
        }
        before = now;
    }
}

async fn open(
    kind: Kind,
    address: SocketAddr,
    sessions: std::ops::Range<u32>,
    rooms: u32,
    stop: &AtomicBool,
    held: &mut Held,
) -> Result<(), Failure> {
    let mut shared = None;
    for nth in sessions {
        if stop.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        let room = nth % rooms;
        let target = |door: &str| format!("/{door}/idle{room}?user=u{room}");
        let opened = async {
            match kind {
                Kind::WebSocket => {
                    let mut stream = Http1::connect(address).await?;
                    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
                    stream.ask(&target("ws"), upgrade).await?;
                    stream.until(STATE).await?;
                    held.push(Box::new(stream));
                }
                Kind::Sse | Kind::SseKept => {
                    let mut stream = Http1::connect(address).await?;
                    if matches!(kind, Kind::SseKept) {
                        stream.ask("/healthz", "").await?;
                        stream.answer().await?;
                    }
                    stream.ask(&target("events"), "Accept: text/event-stream\r\n").await?;
                    stream.until(STATE).await?;
                    held.push(Box::new(stream));
                }
                Kind::Poll => {
                    let mut stream = Http1::connect(address).await?;
                    stream.ask(&target("poll"), "").await?;
                    let cursor = cursor(&stream.answer().await?)?;
                    stream.ask(&format!("/poll/idle{room}?cursor={cursor}&timeout={POLL}"), "").await?;
                    held.push(Box::new(stream));
                }
                Kind::SseHttp2 | Kind::SseHttp2Shared | Kind::PollHttp2Shared => {
                    if matches!(kind, Kind::SseHttp2) || nth % SHARING == 0 {
                        shared = None;
                    }
                    let send = match &shared {
                        Some(send) => send,
                        None => shared.insert(http2(address).await?),
                    };
                    if matches!(kind, Kind::PollHttp2Shared) {
                        let mut body = ask2(send, address, &target("poll")).await?;
                        let cursor = cursor(&until2(&mut body, b"").await?)?;
                        let target = format!("/poll/idle{room}?cursor={cursor}&timeout={POLL}");
                        let (answer, _) =
                            send.clone().ready().await?.send_request(get2(address, &target)?, true)?;
                        held.push(Box::new(answer));
                    } else {
                        let mut body = ask2(send, address, &target("events")).await?;
                        until2(&mut body, STATE).await?;
                        held.push(Box::new(body));
                    }
                }
            }
            Ok::<(), Failure>(())
        };
        timeout(PATIENCE, opened)
            .await
            .map_err(|_| format!("session {nth} was not let in for {PATIENCE:?}"))??;
    }
    Ok(())
}

fn cursor(answer: &[u8]) -> Result<String, Failure> {
    let cursor =
        frames::after(answer, br#"{"cursor":""#).and_then(|rest| rest.split(|byte| *byte == b'"').next());
    Ok(String::from_utf8_lossy(cursor.ok_or("a poll without a cursor")?).into_owned())
}

/// A connection of HTTP/1.1.
struct Http1 {
    stream: TcpStream,
    host: SocketAddr,
}

impl Http1 {
    async fn connect(host: SocketAddr) -> Result<Http1, Failure> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Http1 { stream, host })
    }

    async fn ask(&mut self, target: &str, headers: &str) -> Result<(), Failure> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.host);
        Ok(self.stream.write_all(request.as_bytes()).await?)
    }

    /// All up to a mark and what came with it.
    async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while frames::after(&all, mark).is_none() {
            if self.stream.read_buf(&mut all).await? == 0 {
                return Err(format!("it ended after {}", String::from_utf8_lossy(&all)).into());
            }
        }
        Ok(all)
    }

    /// A whole answer that says its length.
    async fn answer(&mut self) -> Result<Vec<u8>, Failure> {
        let mut all = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&all).to_ascii_lowercase();
        let head = head.split("\r\n\r\n").next().unwrap_or_default();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let whole = head.len() + 4 + length.ok_or("an answer without a length")?;
        while all.len() < whole {
            if self.stream.read_buf(&mut all).await? == 0 {
                return Err("it ended amid an answer".into());
            }
        }
        Ok(all)
    }
}

/// A connection of HTTP/2, by prior knowledge. It lives for as long as somebody holds it or something that came by it.
async fn http2(address: SocketAddr) -> Result<SendRequest<Bytes>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (send, connection) = h2::client::handshake(stream).await?;
    // Its end is told to all of its streams.
    tokio::spawn(connection);
    Ok(send)
}

fn get2(address: SocketAddr, target: &str) -> Result<Request<()>, Failure> {
    Ok(Request::get(format!("http://{address}{target}")).body(())?)
}

async fn ask2(send: &SendRequest<Bytes>, address: SocketAddr, target: &str) -> Result<RecvStream, Failure> {
    let (answer, _) = send.clone().ready().await?.send_request(get2(address, target)?, true)?;
    let answer = answer.await?;
    if answer.status() != 200 {
        return Err(format!("{target} was answered {}", answer.status()).into());
    }
    Ok(answer.into_body())
}

/// All up to a mark, or to the end where there is none.
async fn until2(body: &mut RecvStream, mark: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    while mark.is_empty() || frames::after(&all, mark).is_none() {
        match body.data().await {
            Some(bytes) => {
                let bytes = bytes?;
                all.extend_from_slice(&bytes);
                body.flow_control().release_capacity(bytes.len())?;
            }
            None if mark.is_empty() => break,
            None => return Err(format!("it ended after {}", String::from_utf8_lossy(&all)).into()),
        }
    }
    Ok(all)
}
