//! The binary, as its users meet it: real processes, real sockets, real signals.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod drain;
mod settings;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// A running `hearth`; it ends with this.
struct Hearth {
    process: Child,
    http: String,
    grpc: String,
    metrics: String,
}

impl Hearth {
    fn start(args: &[&str]) -> Self {
        Self::start_within(":", args)
    }

    /// Starts with what the shell's `ulimit` sets.
    fn start_within(ulimit: &str, args: &[&str]) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", &format!("{ulimit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_hearth")])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut addresses = HashMap::new();
        let wants = (args[0] != "core", args[0] != "edge");
        for line in BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap) {
            if let Some((door, address)) = line.split_once(" listening on ") {
                addresses.insert(door.to_owned(), address.trim_start_matches("http://").to_owned());
            }
            let has = |door| addresses.contains_key(door);
            if (!wants.0 || has("http")) && (!wants.1 || has("grpc")) {
                break;
            }
        }
        let mut of = |door| addresses.remove(door).unwrap_or_default();
        Self { process, http: of("http"), grpc: of("grpc"), metrics: of("metrics") }
    }

    /// Sends a signal by name.
    fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
    }

    /// Sends a signal by name and waits for the end.
    fn end(mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.process.wait().unwrap().code()
    }

    /// Waits for the end without holding up the test's own clients.
    async fn ended(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.process.wait().unwrap().code()).await.unwrap()
    }
}

impl Drop for Hearth {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A browser, as far as the server can tell.
struct Browser(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Browser {
    async fn open(http: &str, path: &str) -> Self {
        let (socket, _) = connect_async(format!("ws://{http}{path}")).await.unwrap();
        Self(socket)
    }

    /// Opens, and reads up to `joined`, which is given too.
    async fn join(http: &str, path: &str) -> (Self, Value) {
        let mut browser = Self::open(http, path).await;
        assert_eq!(browser.next().await["data"]["event"], "welcome");
        let joined = browser.next().await;
        assert_eq!(joined["data"]["event"], "joined");
        (browser, joined)
    }

    async fn message(&mut self) -> Message {
        loop {
            let message = timeout(Duration::from_secs(20), self.0.next()).await.expect("a message in time");
            match message.expect("an open connection").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next envelope that is not presence.
    async fn next(&mut self) -> Value {
        loop {
            let envelope: Value = match self.message().await {
                Message::Text(text) => serde_json::from_str(text.as_str()).unwrap(),
                other => panic!("no envelope but {other:?}"),
            };
            if envelope["type"] != "presence" {
                return envelope;
            }
        }
    }

    /// The next frame must be a close: its code and reason.
    async fn closed(&mut self) -> (u16, String) {
        match self.message().await {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("no close but {other:?}"),
        }
    }

    async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }
}

fn one_process() -> Hearth {
    Hearth::start(&["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"])
}

#[tokio::test]
async fn two_browsers_exchange_a_message() {
    let hearth = one_process();
    let (mut ann, joined) = Browser::join(&hearth.http, "/ws/general?user=ann").await;
    assert!(joined["data"]["cursor"].is_string(), "a cursor before the first message");
    let (mut bob, _) = Browser::join(&hearth.http, "/ws/general?user=bob").await;
    ann.say(json!({"type":"text","id":"msg_123","room":"general","data":{"content":"Hello","author":"eve"}}))
        .await;
    let ack = json!({"type":"ack","id":"msg_123","room":"general","data":{"status":"delivered","seq":1}});
    assert_eq!(ann.next().await, ack);
    for browser in [&mut ann, &mut bob] {
        let mut text = browser.next().await;
        let timestamp = text.as_object_mut().unwrap().remove("timestamp");
        assert!(timestamp.unwrap().as_f64().unwrap() > 1_700_000_000.0);
        let data = json!({"content":"Hello","author":"ann"});
        assert_eq!(text, json!({"type":"text","id":"msg_123","room":"general","seq":1,"data":data}));
    }
    drop((ann, bob));
    assert_eq!(hearth.end("-TERM"), Some(0));
}

#[tokio::test]
async fn who_comes_back_with_a_cursor_misses_nothing() {
    let hearth = one_process();
    let (mut ann, _) = Browser::join(&hearth.http, "/ws/r?user=ann").await;
    let (bob, joined) = Browser::join(&hearth.http, "/ws/r?user=bob").await;
    drop(bob);
    for n in 1..=3 {
        ann.say(json!({"type":"text","id":format!("m{n}"),"room":"r","data":{"n":n}})).await;
        ann.next().await;
        ann.next().await;
    }
    let cursor = joined["data"]["cursor"].as_str().unwrap();
    let (mut bob, joined) = Browser::join(&hearth.http, &format!("/ws/r?user=bob&since={cursor}")).await;
    assert_eq!((&joined["data"]["recovered"], &joined["data"]["replayed"]), (&json!(true), &json!(3)));
    for seq in 1..=3 {
        assert_eq!(bob.next().await["seq"], seq);
    }
    let (_, joined) = Browser::join(&hearth.http, "/ws/r?user=eve&since=garbage").await;
    assert_eq!((&joined["data"]["recovered"], &joined["data"]["replayed"]), (&json!(false), &json!(0)));
}

#[tokio::test]
async fn a_killed_core_costs_no_browser_its_connection() {
    let core = Hearth::start(&["core", "--grpc", "127.0.0.1:0"]);
    let (grpc, url) = (core.grpc.clone(), format!("http://{}", core.grpc));
    let edge = Hearth::start(&["edge", "--http", "127.0.0.1:0", "--core", &url]);
    let (mut ann, before) = Browser::join(&edge.http, "/ws/r?user=ann").await;
    let (mut bob, _) = Browser::join(&edge.http, "/ws/r?user=bob").await;
    drop(core);
    let _core = Hearth::start(&["core", "--grpc", &grpc]);
    for browser in [&mut ann, &mut bob] {
        let joined = browser.next().await;
        assert_eq!(joined["data"]["recovered"], false, "memory was lost, and they are told: {joined}");
        assert_ne!(joined["data"]["epoch"], before["data"]["epoch"]);
    }
    ann.say(json!({"type":"text","id":"1","room":"r","data":{}})).await;
    assert_eq!(ann.next().await["data"]["seq"], 1);
    assert_eq!(bob.next().await["seq"], 1);
}

#[tokio::test]
async fn faults_are_named_and_the_connection_lives_or_closes_by_the_table() {
    let hearth = one_process();
    let mut ann = Browser::open(&hearth.http, "/ws?user=ann").await;
    ann.next().await;
    let cases = [
        ("no json", "{".to_owned(), "invalid_argument"),
        ("no object", "[]".to_owned(), "invalid_argument"),
        ("no type", "{}".to_owned(), "invalid_argument"),
        ("unknown type", json!({"type":"nonsense","id":"x"}).to_string(), "invalid_argument"),
        ("bad room", json!({"type":"join","room":"a b"}).to_string(), "invalid_argument"),
        ("no object in data", json!({"type":"text","room":"r","data":[1]}).to_string(), "invalid_argument"),
        ("not joined", json!({"type":"leave","room":"r"}).to_string(), "failed_precondition"),
        (
            "not joined",
            json!({"type":"typing","room":"r","data":{"active":true}}).to_string(),
            "failed_precondition",
        ),
        ("another's room", json!({"type":"join","room":"~bob"}).to_string(), "permission_denied"),
        ("a service's kind", json!({"type":"system","room":"r","data":{}}).to_string(), "permission_denied"),
        (
            "not in that room",
            json!({"type":"presence","room":"other","data":{"meta":{}}}).to_string(),
            "failed_precondition",
        ),
        ("too deep", format!("{}{}", "[".repeat(70), "]".repeat(70)), "invalid_argument"),
    ];
    for (name, frame, code) in cases {
        ann.0.send(Message::text(frame)).await.unwrap();
        let error = ann.next().await;
        assert_eq!(
            (&error["type"], &error["data"]["code"]),
            (&json!("error"), &json!(code)),
            "{name}: {error}"
        );
    }
    ann.say(json!({"type":"ping","id":"alive"})).await;
    assert_eq!(ann.next().await["id"], "alive");
    ann.0.send(Message::binary(vec![0u8])).await.unwrap();
    assert_eq!(ann.closed().await, (1003, "unsupported_data".to_owned()));
    let mut big = Browser::open(&hearth.http, "/ws?user=big").await;
    big.next().await;
    big.0.send(Message::text("x".repeat(65_537))).await.unwrap();
    assert_eq!(big.closed().await, (1009, "too_big".to_owned()));
    let mut lost = Browser::open(&hearth.http, "/ws/no%20room?user=lost").await;
    assert_eq!(lost.closed().await, (1008, "invalid_argument".to_owned()));
}

#[tokio::test]
async fn a_drain_says_so_and_ends_with_zero() {
    let hearth = one_process();
    let (mut ann, _) = Browser::join(&hearth.http, "/ws/r?user=ann").await;
    let ended = tokio::task::spawn_blocking(move || hearth.end("-TERM"));
    let draining = ann.next().await;
    assert_eq!(draining["data"]["event"], "draining");
    assert!(draining["data"]["reconnect_after_ms"].as_u64().unwrap() >= 1000);
    assert_eq!(ann.closed().await, (1001, "draining".to_owned()));
    drop(ann);
    assert_eq!(timeout(Duration::from_secs(12), ended).await.unwrap().unwrap(), Some(0));
}
