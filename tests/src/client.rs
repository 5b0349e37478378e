//! A browser's side of a WebSocket: frames as JSON values, one after the other, answers found by their id.
use crate::{PATIENCE, within};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::{collections::VecDeque, net::SocketAddr};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        http::Request,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

/// Small, so that two thousand clients fit: the default is 128 KiB each.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// How many frames that went by are shown when a test fails.
const SHOWN: usize = 20;

/// One WebSocket.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    inbox: VecDeque<Value>,
    shown: VecDeque<String>,
    /// The session's id, from `welcome`.
    pub session: String,
    /// The user, from `welcome`.
    pub user: String,
    /// Whether presence is heard. Stories about other things are told without it.
    pub presence: bool,
}

/// What comes from a socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A frame.
    Frame(Value),
    /// The server closed it, with this code and reason.
    Closed(u16, String),
    /// It broke without a close.
    Broken(String),
}

impl Client {
    /// Connects to a path such as `/ws/general?user=ann` and takes the `welcome`.
    pub async fn connect(http: SocketAddr, target: &str) -> Client {
        let mut client = Self::open(http, target).await;
        client.welcomed().await;
        client
    }

    /// Takes the `welcome`, which comes first.
    async fn welcomed(&mut self) {
        let welcome = self.next().await;
        assert_eq!(
            (&welcome["type"], &welcome["data"]["event"]),
            (&json!("system"), &json!("welcome")),
            "{welcome}"
        );
        self.session = welcome["data"]["session"].as_str().expect("a session").to_owned();
        self.user = welcome["data"]["user"].as_str().expect("a user").to_owned();
    }

    /// Connects, joins the path's room, and gives the data of `joined` too.
    pub async fn enter(http: SocketAddr, target: &str) -> (Client, Value) {
        let mut client = Self::connect(http, target).await;
        let joined = client.next().await;
        assert_eq!(joined["data"]["event"], "joined", "{joined}");
        let data = joined["data"].clone();
        (client, data)
    }

    /// Like `enter`, and hears presence from the first frame on: none may come before `joined`.
    pub async fn attend(http: SocketAddr, target: &str) -> (Client, Value) {
        let mut client = Self::open(http, target).await;
        client.presence = true;
        client.welcomed().await;
        let joined = client.next().await;
        assert_eq!(joined["data"]["event"], "joined", "{joined}");
        let data = joined["data"].clone();
        (client, data)
    }

    /// Shakes hands and no more.
    pub async fn open(http: SocketAddr, target: &str) -> Client {
        let stream = within("a connection", TcpStream::connect(http)).await.expect("the server listens");
        Self::shake(stream, request(http, target)).await.unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    /// Shakes hands over a stream of one's own, with a request of one's own.
    pub async fn shake(stream: TcpStream, request: Request<()>) -> Result<Client, tungstenite::Error> {
        stream.set_nodelay(true).expect("a socket takes it");
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let (socket, _) =
            within("the handshake", client_async_with_config(request, stream, Some(config))).await?;
        Ok(Client {
            socket,
            inbox: VecDeque::new(),
            shown: VecDeque::new(),
            session: String::new(),
            user: String::new(),
            presence: false,
        })
    }

    /// Sends a frame.
    #[allow(clippy::needless_pass_by_value, reason = "`send(json!(…))` reads better")]
    pub async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a text as it stands.
    pub async fn send_text(&mut self, text: &str) {
        let sent = within("room to send", self.socket.send(Message::text(text))).await;
        sent.unwrap_or_else(|error| panic!("{text} could not be sent: {error}\n{}", self.went_by()));
    }

    /// Sends a frame where the server may have closed already.
    pub async fn try_send(&mut self, frame: &Value) -> Result<(), String> {
        let sent = within("room to send", self.socket.send(Message::text(frame.to_string()))).await;
        sent.map_err(|error| error.to_string())
    }

    /// Sends a message of whatever kind, where the server may have closed already.
    pub async fn send_message(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        within("room to send", self.socket.send(message)).await
    }

    /// The next message as it came, for those who read frames by themselves.
    pub async fn message(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        within("a message", self.socket.next()).await
    }

    /// What comes next, of whatever kind.
    pub async fn receive(&mut self) -> Incoming {
        if let Some(frame) = self.inbox.pop_front() {
            return Incoming::Frame(frame);
        }
        self.read().await
    }

    async fn read(&mut self) -> Incoming {
        loop {
            let Ok(message) = timeout(PATIENCE, self.socket.next()).await else {
                panic!("{}: nothing came within {PATIENCE:?}\n{}", self.user, self.went_by());
            };
            let incoming = match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value =
                        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
                    if frame["type"] == "presence" && !self.presence {
                        continue;
                    }
                    Incoming::Frame(frame)
                }
                Some(Ok(Message::Close(Some(close)))) => {
                    Incoming::Closed(close.code.into(), close.reason.to_string())
                }
                Some(Ok(Message::Close(None))) => Incoming::Closed(1005, String::new()),
                Some(Ok(Message::Binary(bytes))) => panic!("a binary frame of {} bytes", bytes.len()),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Incoming::Broken(error.to_string()),
                None => Incoming::Broken("the end".to_owned()),
            };
            if self.shown.len() == SHOWN {
                self.shown.pop_front();
            }
            let shown = format!("{incoming:?}");
            self.shown.push_back(shown.chars().take(400).collect());
            return incoming;
        }
    }

    fn went_by(&self) -> String {
        format!(
            "what {} saw last:\n  {}",
            self.user,
            self.shown.iter().cloned().collect::<Vec<_>>().join("\n  ")
        )
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        match self.receive().await {
            Incoming::Frame(frame) => frame,
            other => panic!("{other:?} instead of a frame\n{}", self.went_by()),
        }
    }

    /// All frames up to and with the first that is wanted.
    pub async fn until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            let found = wanted(&frame);
            frames.push(frame);
            if found {
                return frames;
            }
        }
    }

    /// The first frame that is wanted; what comes before it is dropped.
    pub async fn find(&mut self, wanted: impl FnMut(&Value) -> bool) -> Value {
        self.until(wanted).await.pop().expect("the frame that was found")
    }

    /// The answer to a command: what comes before it stays to be read.
    pub async fn answer(&mut self, id: &str) -> Value {
        let is_answer = |frame: &Value| {
            let answers = match frame["type"].as_str() {
                Some("ack" | "error" | "history") => true,
                Some("system") => frame["data"]["event"] == "joined" && frame.get("seq").is_none(),
                _ => false,
            };
            answers && frame["id"] == id
        };
        if let Some(at) = self.inbox.iter().position(is_answer) {
            return self.inbox.remove(at).expect("it was found there");
        }
        loop {
            match self.read().await {
                Incoming::Frame(frame) if is_answer(&frame) => return frame,
                Incoming::Frame(frame) => self.inbox.push_back(frame),
                other => panic!("{other:?} instead of the answer to {id}\n{}", self.went_by()),
            }
        }
    }

    /// Sends a command and gives its answer.
    pub async fn ask(&mut self, command: Value) -> Value {
        let id = command["id"].as_str().expect("a command that is answered has an id").to_owned();
        self.send(command).await;
        self.answer(&id).await
    }

    /// Joins a room with this data, and gives the data of `joined`.
    #[allow(clippy::needless_pass_by_value, reason = "`join(room, json!(…))` reads better")]
    pub async fn join(&mut self, room: &str, data: Value) -> Value {
        let answer =
            self.ask(json!({"type": "join", "id": format!("join {room}"), "room": room, "data": data})).await;
        assert_eq!(
            (&answer["type"], &answer["data"]["event"]),
            (&json!("system"), &json!("joined")),
            "{answer}"
        );
        assert_eq!(answer["room"], room, "{answer}");
        answer["data"].clone()
    }

    /// Leaves a room.
    pub async fn leave(&mut self, room: &str) {
        let answer = self.ask(json!({"type": "leave", "id": format!("leave {room}"), "room": room})).await;
        assert_eq!(answer["type"], "ack", "{answer}");
    }

    /// Sets this session's meta in a room.
    #[allow(clippy::needless_pass_by_value, reason = "`set_meta(room, json!(…))` reads better")]
    pub async fn set_meta(&mut self, room: &str, meta: Value) {
        let command = json!({"type": "presence", "id": "meta", "room": room, "data": {"meta": meta}});
        assert_eq!(
            self.ask(command).await,
            json!({"type": "ack", "id": "meta", "room": room, "data": {"status": "ok"}})
        );
    }

    /// Publishes `{"n": id}` and gives the seq of the ack.
    pub async fn publish(&mut self, room: &str, id: &str) -> u64 {
        let answer = self.ask(json!({"type": "text", "id": id, "room": room, "data": {"n": id}})).await;
        assert_eq!(answer["data"]["status"], "delivered", "{answer}");
        answer["data"]["seq"].as_u64().expect("an ack of a text has a seq")
    }

    /// Awaits the close; frames before it are dropped.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.receive().await {
                Incoming::Frame(_) => {}
                Incoming::Closed(code, reason) => return (code, reason),
                Incoming::Broken(error) => panic!("it broke without a close: {error}\n{}", self.went_by()),
            }
        }
    }

    /// Closes as a browser does that has done: no code, and the server's answer awaited.
    pub async fn close(self) {
        self.close_with(None).await;
    }

    /// Closes with a code: 1000 says that it has done, 1001 that its page has gone or is loaded anew.
    pub async fn close_as(self, code: u16) {
        self.close_with(Some(CloseFrame { code: code.into(), reason: "".into() })).await;
    }

    async fn close_with(mut self, close: Option<CloseFrame>) {
        // It may have been closed by the other side already.
        let _ = self.socket.close(close).await;
        while let Ok(Some(Ok(_))) = timeout(PATIENCE, self.socket.next()).await {}
    }

    /// Goes as a browser does whose network breaks: a reset, and not a word.
    pub fn cut(self) {
        self.socket.get_ref().set_zero_linger().expect("a socket takes it");
    }
}

/// What a browser asks for at its handshake.
pub fn request(http: SocketAddr, target: &str) -> Request<()> {
    format!("ws://{http}{target}").into_client_request().unwrap_or_else(|error| panic!("{target}: {error}"))
}
