//! What the tests of this folder share: an edge's doors on a real socket, with a core that lets everybody in.
use crate::config::Config;
use crate::fanout::calls::Calls;
use crate::fanout::post::{CallAnswer, Post, Posts};
use crate::fanout::shards::Shards;
use crate::fanout::shared::SharedEvent;
use crate::metrics::EdgeMetrics;
use crate::session::key::{RoomId, SessionKey};
use crate::session::request::{Busy, Request, Upstream};
use crate::transport::memory::Memory;
use crate::transport::server::Server;
use crate::transport::{Doors, router};
use crate::wire::command::Token;
use crate::wire::event::{Code, Event, Failure, Kind, Payload, Position};
use crate::wire::presence::Online;
use axum::Router;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Settings that get in nobody's way.
pub fn config() -> Config {
    Config {
        heartbeat: Duration::from_secs(25),
        max_message_bytes: 65536,
        session_queue_bytes: 1 << 20,
        max_rooms_per_session: 100,
        rate_limit: 0,
        rate_burst: 0,
        max_connections: 1000,
        max_connections_per_address: 0,
        allowed_origins: Vec::new(),
        allow_local_origins: false,
        playground: Some(true),
        tls: None,
        drain_timeout: Duration::from_secs(5),
        shards: 1,
        accept_dev_mode: false,
        defence: Default::default(),
    }
}

/// Opens every session under the name that it gives itself, and answers what is asked, in the room `fails.CODE` with that failure. Joins are
/// answered in the room `large` alone, where there is one event to replay.
struct OpenCore {
    shards: Shards,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Upstream for OpenCore {
    fn send(&self, request: Request) -> Result<(), Busy> {
        if let Some((session, post)) = reply(&request) {
            self.shards.post(session.shard(), &mut vec![post]);
        }
        self.asked.lock().unwrap().push(request);
        Ok(())
    }
}

fn reply(request: &Request) -> Option<(SessionKey, Post)> {
    let (session, post) = match request {
        Request::Open { session, who, .. } => {
            let user = who.user.as_deref().unwrap_or("guest").into();
            return Some((*session, Post::Opened { session: *session, user, expires_us: None }));
        }
        Request::Join { session, id, room: name, echo, presence, .. } if &**name == "large" => {
            let position = Position { epoch: "e".into(), seq: 7 };
            let joined = Post::Joined {
                session: *session,
                asked: true,
                id: id.clone(),
                room: RoomId(0),
                name: name.clone(),
                echo: *echo,
                presence: *presence,
                position,
                recovered: None,
                replayed: 1,
                page: vec![event(name)],
                live: true,
            };
            (*session, joined)
        }
        Request::Publish { session, id, room, kind, .. } => {
            let (session, name) = (*session, room.clone());
            let position = (!kind.is_ephemeral()).then(|| Position { epoch: "e".into(), seq: 7 });
            let post = match id.clone() {
                Some(id) => Post::Ack { session, id, name: name.clone(), position, duplicate: false },
                None => Post::Called { session, answer: CallAnswer::Published { position } },
            };
            (session, fails(&name, session).unwrap_or(post))
        }
        Request::Presence { session, id, room, .. } => {
            (*session, Post::Done { session: *session, id: id.clone(), name: room.clone() })
        }
        Request::Ticket { session } => {
            let answer = CallAnswer::Ticket { ticket: Token("ticket.x.y".into()), expires_us: 1_500_000 };
            (*session, Post::Called { session: *session, answer })
        }
        Request::ListOnline { session, .. } => {
            let ann =
                Online { user: "ann".into(), meta: r#"{"a":1}"#.into(), sessions: 2, since_us: 1_500_000 };
            let answer = CallAnswer::Online { online: vec![ann], count: 9 };
            (*session, Post::Called { session: *session, answer })
        }
        Request::History { session, id, room: name, .. } => {
            let position = Position { epoch: "e".into(), seq: 7 };
            let (session, id, events) = (*session, id.clone(), vec![event(name)]);
            (session, Post::History { session, id, name: name.clone(), position, events, more: true })
        }
        _ => return None,
    };
    Some((session, post))
}

fn event(room: &Arc<str>) -> Arc<SharedEvent> {
    let payload = match &**room {
        "large" => Payload::Json(format!(r#"{{"x":"{}"}}"#, "x".repeat(500_000)).into()),
        _ => Payload::Json(Bytes::from_static(br#"{"n":1}"#)),
    };
    let (room, author) = (room.clone(), "ann".into());
    let event = Event { room, kind: Kind::Text, seq: 7, id: None, author, payload, timestamp_us: 2_000_000 };
    Arc::new(SharedEvent::new(event, "e".into()))
}

fn fails(room: &str, session: SessionKey) -> Option<Post> {
    let code = match room.strip_prefix("fails.")? {
        "invalid" => Code::InvalidArgument,
        "precondition" => Code::FailedPrecondition,
        "range" => Code::OutOfRange,
        "unauthenticated" => Code::Unauthenticated,
        "forbidden" => Code::PermissionDenied,
        "unknown" => Code::NotFound,
        "unimplemented" => Code::Unimplemented,
        "aborted" => Code::Aborted,
        "exhausted" => Code::ResourceExhausted,
        "unavailable" => Code::Unavailable,
        "internal" => Code::Internal,
        _ => return None,
    };
    let failure = Failure::new(code, "because").retry_after_ms(1500);
    Some(Post::Failed { session, due: true, id: None, name: None, failure })
}

/// An edge under test.
pub struct Edge {
    pub address: SocketAddr,
    pub server: Arc<Server>,
    pub attached: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Request>>>,
    doors: Arc<Doors>,
    registry: Arc<Registry>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Edge {
    pub async fn start(config: Config) -> Edge {
        let config = Arc::new(config);
        let mut registry = Registry::default();
        let metrics = EdgeMetrics::register(&mut registry);
        let shards = Shards::new(config.clone(), metrics.clone());
        let asked = Arc::default();
        let core = OpenCore { shards: shards.clone(), asked: Arc::clone(&asked) };
        let upstream: Arc<dyn Upstream> = Arc::new(core);
        shards.run(&upstream);
        let calls = Calls::new(shards.desk().clone(), upstream, metrics.clone());
        let attached = Arc::new(AtomicBool::new(true));
        let shown = attached.clone();
        let memory = Memory::new(config.defence.memory_budget, metrics.clone());
        let doors = Doors {
            memory,
            config,
            shards,
            calls,
            metrics,
            dev_mode: Box::new(|| true),
            attached: Box::new(move || shown.load(Ordering::SeqCst)),
            polls: Default::default(),
            metrics_text: Arc::new(|| "# EOF\n".into()),
            draining: CancellationToken::new(),
            tasks: Default::default(),
        };
        let doors = Arc::new(doors);
        let server = Arc::new(Server::new(doors.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.run(listener, stop.cancelled_owned()).await.unwrap() }
        });
        Edge { address, server, attached, asked, doors, registry: Arc::new(registry), stop, running }
    }

    /// What is behind the doors.
    pub fn doors(&self) -> Arc<Doors> {
        self.doors.clone()
    }

    /// Begins the shutdown.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the edge has ended by itself.
    pub async fn ended(self) {
        timeout(PATIENCE, self.running).await.expect("the edge does not end").unwrap();
    }

    /// What the core was asked since.
    pub fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// From now on nothing new is let in, and idle connections end; what is under way meets these routes.
    pub fn begin_drain(&self) -> Router {
        self.doors.draining.cancel();
        router(self.doors.clone())
    }

    /// One request with a body, which is announced unless a line says otherwise.
    pub async fn ask_with(&self, request_line: &str, lines: &[&str], body: &str) -> Answer {
        let mut stream = self.connect().await;
        let length = format!("Content-Length: {}", body.len());
        let mut lines = lines.to_vec();
        if !lines.iter().any(|line| line.starts_with("Content-Length") || line.starts_with("Transfer-")) {
            lines.push(&length);
        }
        send(&mut stream, request_line, &lines).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        read_answer(&mut stream).await
    }

    /// How many requests were refused for this reason.
    pub fn refused(&self, reason: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let start = format!("hearth_edge_http_refusals_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
    }

    /// Waits until there are so many connections.
    pub async fn until_connections(&self, count: usize) {
        let reached = async {
            while self.server.connections() != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached)
            .await
            .unwrap_or_else(|_| panic!("{} instead of {count}", self.server.connections()));
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One request on a connection of its own, `Host: edge.test` and the given lines as its head.
    pub async fn ask(&self, request_line: &str, lines: &[&str]) -> Answer {
        let mut stream = self.connect().await;
        send(&mut stream, request_line, lines).await;
        read_answer(&mut stream).await
    }

    /// A good handshake and what is said to it.
    pub async fn shake(&self, path: &str) -> (TcpStream, Answer) {
        let mut stream = self.connect().await;
        send(&mut stream, &format!("GET {path} HTTP/1.1"), &HANDSHAKE).await;
        let answer = read_answer(&mut stream).await;
        (stream, answer)
    }
}

/// The headers of a good handshake.
pub const HANDSHAKE: [&str; 4] = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

pub async fn send(stream: &mut TcpStream, request_line: &str, lines: &[&str]) {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    stream.write_all(format!("{request_line}\r\nHost: edge.test\r\n{lines}\r\n").as_bytes()).await.unwrap();
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The `code` of a well-formed problem of the answer's status.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert_eq!(problem["type"], "about:blank", "{self:?}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{self:?}");
        problem["code"].as_str().unwrap().into()
    }
}

/// Reads one answer and nothing of what follows it.
pub async fn read_answer(stream: &mut TcpStream) -> Answer {
    let reading = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        let mut answer = Answer { status: 0, head: String::from_utf8(head).unwrap(), body: String::new() };
        answer.status = answer.head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    };
    timeout(PATIENCE, reading).await.expect("no answer")
}

/// Reads one short frame: opcode and payload.
pub async fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let reading = async {
        let head = stream.read_u16().await.expect("a frame");
        let length = match head & 0x7f {
            126 => stream.read_u16().await.unwrap() as usize,
            short => short as usize,
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        ((head >> 8) as u8 & 0x0f, payload)
    };
    timeout(PATIENCE, reading).await.expect("no frame")
}

/// Reads on until the other side has ended the connection.
pub async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection does not end");
    rest
}
