//! Shards with real sockets: clients are tungstenite's, the core is a list of what was asked.
mod ending;
mod limits;
mod membership;

use crate::config::Config;
use crate::fanout::newcomer::NewSession;
use crate::fanout::post::{Post, Posts, RoomId};
use crate::fanout::shards::Shards;
use crate::fanout::shared::SharedEvent;
use crate::fanout::socket::Socket;
use crate::metrics::EdgeMetrics;
use crate::session::key::SessionKey;
use crate::session::request::{Busy, Credentials, Request, Upstream};
use crate::wire::dialect::Dialect;
use crate::wire::event::{Event, Kind, Payload, Position};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use prometheus_client::registry::Registry;
use serde_json::Value;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const ROOM: RoomId = RoomId(3);

/// Nothing here takes longer unless it never comes.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it should have happened by now")
}

pub(super) fn config() -> Config {
    Config {
        heartbeat: Duration::from_secs(25),
        max_message_bytes: 64 * 1024,
        session_queue_bytes: 1024 * 1024,
        max_rooms_per_session: 100,
        rate_limit: 0,
        rate_burst: 1,
        max_connections: 1000,
        max_connections_per_address: 0,
        allowed_origins: Vec::new(),
        allow_local_origins: true,
        playground: Some(false),
        tls: None,
        drain_timeout: Duration::from_secs(10),
        shards: 1,
        accept_dev_mode: false,
        defence: Default::default(),
    }
}

/// A core that does nothing by itself.
#[derive(Default)]
struct Core {
    requests: Mutex<VecDeque<Request>>,
    came: Notify,
    busy: AtomicBool,
}

impl Upstream for Core {
    fn send(&self, request: Request) -> Result<(), Busy> {
        let never_refused =
            matches!(request, Request::Open { .. } | Request::Close { .. } | Request::Pull { .. });
        if self.busy.load(Ordering::Relaxed) && !never_refused {
            return Err(Busy);
        }
        self.requests.lock().unwrap().push_back(request);
        self.came.notify_one();
        Ok(())
    }
}

impl Core {
    async fn next(&self) -> Request {
        soon(async {
            loop {
                if let Some(request) = self.requests.lock().unwrap().pop_front() {
                    return request;
                }
                self.came.notified().await;
            }
        })
        .await
    }

    fn asked(&self) -> Vec<Request> {
        self.requests.lock().unwrap().drain(..).collect()
    }
}

struct Edge {
    shards: Shards,
    core: Arc<Core>,
    metrics: EdgeMetrics,
}

struct Client {
    key: SessionKey,
    socket: WebSocketStream<TcpStream>,
}

fn newcomer(socket: Socket) -> NewSession {
    NewSession {
        socket,
        read_ahead: Bytes::new(),
        id: "s-1".into(),
        who: Credentials::default(),
        dialect: Dialect::WebSocketJson,
        head: None,
        rooms: Vec::new(),
        since: None,
        refuse: None,
        guard: None,
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

impl Edge {
    fn start(config: Config) -> Edge {
        let metrics = EdgeMetrics::register(&mut Registry::default());
        let shards = Shards::new(Arc::new(config), metrics.clone());
        let core = Arc::new(Core::default());
        shards.run(&(core.clone() as Arc<dyn Upstream>));
        Edge { shards, core, metrics }
    }

    fn post(&self, posts: impl IntoIterator<Item = Post>) {
        self.shards.post(0, &mut posts.into_iter().collect());
    }

    /// A connection that the core has been asked about.
    async fn knock(&self, change: impl FnOnce(&mut NewSession)) -> (SessionKey, TcpStream) {
        let (client, server) = pair().await;
        let mut new = newcomer(Socket::Tcp(server));
        change(&mut new);
        self.shards.adopt(new);
        match self.core.next().await {
            Request::Open { session, .. } => (session, client),
            other => panic!("{other:?}"),
        }
    }

    /// A connection that has been let in.
    async fn connect_with(&self, change: impl FnOnce(&mut NewSession)) -> Client {
        let (key, client) = self.knock(change).await;
        self.post([Post::Opened { session: key, user: "ann".into(), expires_us: None }]);
        let mut client = Client { key, socket: client_of(client).await };
        assert_eq!(client.json().await["data"]["event"], "welcome");
        client
    }

    async fn connect(&self) -> Client {
        self.connect_with(|_| {}).await
    }

    /// A connection that is live in [`ROOM`].
    async fn connect_joined(&self) -> Client {
        let mut client = self.connect().await;
        self.post([joined(client.key)]);
        assert_eq!(client.json().await["data"]["event"], "joined");
        client
    }
}

async fn client_of(stream: TcpStream) -> WebSocketStream<TcpStream> {
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

impl Client {
    async fn send(&mut self, text: &str) {
        soon(self.socket.send(Message::text(text))).await.unwrap();
    }

    /// The next message that is no ping.
    async fn message(&mut self) -> Message {
        loop {
            match soon(self.socket.next()).await.expect("the connection ended").unwrap() {
                Message::Ping(_) => {}
                message => return message,
            }
        }
    }

    async fn json(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// What it is told next: `seq` of an event, or `event` or `code` of anything else.
    async fn told(&mut self) -> String {
        let json = self.json().await;
        let told = [&json["seq"], &json["data"]["event"], &json["data"]["code"], &json["type"]];
        told.into_iter().find(|value| !value.is_null()).unwrap().to_string().replace('"', "")
    }

    /// What follows is a close frame with this code and reason, and then the end.
    async fn closed(&mut self) -> (u16, String) {
        match self.message().await {
            Message::Close(Some(frame)) => {
                let said = (frame.code.into(), frame.reason.to_string());
                while soon(self.socket.next()).await.is_some_and(|message| message.is_ok()) {}
                said
            }
            other => panic!("{other:?}"),
        }
    }
}

fn at(seq: u64) -> Position {
    Position { epoch: "e".into(), seq }
}

fn event_of(kind: Kind, seq: u64, data: &str) -> Arc<SharedEvent> {
    let event = Event {
        room: "lobby".into(),
        kind,
        seq,
        id: None,
        author: "bob".into(),
        payload: Payload::Json(Bytes::copy_from_slice(data.as_bytes())),
        timestamp_us: 1,
    };
    Arc::new(SharedEvent::new(event, "e".into()))
}

fn event(seq: u64) -> Post {
    Post::Event { room: ROOM, event: event_of(Kind::Text, seq, "{}"), origin: None }
}

/// An event of about so many bytes.
fn big(kind: Kind, seq: u64, bytes: usize) -> Post {
    let data = format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes));
    Post::Event { room: ROOM, event: event_of(kind, seq, &data), origin: None }
}

/// Joined at seq 4, with nothing to replay.
fn joined(session: SessionKey) -> Post {
    joined_as(session, true, None, 0, &[], true)
}

fn joined_as(
    session: SessionKey,
    echo: bool,
    recovered: Option<bool>,
    replayed: u64,
    page: &[u64],
    live: bool,
) -> Post {
    Post::Joined {
        asked: true,
        presence: false,
        session,
        id: None,
        room: ROOM,
        name: "lobby".into(),
        echo,
        position: at(4),
        recovered,
        replayed,
        page: page.iter().map(|seq| event_of(Kind::Text, *seq, "{}")).collect(),
        live,
    }
}
