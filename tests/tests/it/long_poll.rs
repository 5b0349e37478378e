//! Long-poll: a session in pieces. Nothing is lost between two polls, a lost answer loses nothing, and whoever stops polling is gone.
use hearth_tests::{
    Dice,
    client::Client,
    eventually, grpc, heavy,
    http::{self, Response},
    presence::Watcher,
    process::Hearth,
    proxy::Proxy,
    within,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A client that follows the rule: the cursor of the last answer that arrived.
struct Poller {
    http: SocketAddr,
    path: String,
    cursor: String,
}

impl Poller {
    /// The first poll; what it showed.
    async fn begin(http: SocketAddr, path: &str) -> (Poller, Vec<Value>) {
        let mut poller = Poller { http, path: path.to_owned(), cursor: String::new() };
        let shown = poller.poll(25).await;
        (poller, shown)
    }

    fn target(&self, timeout: u64) -> String {
        let joint = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{joint}cursor={}&timeout={timeout}&limit=1000", self.path, self.cursor)
    }

    async fn ask(&self, timeout: u64) -> Response {
        http::get(self.http, &self.target(timeout), &[]).await
    }

    async fn poll(&mut self, timeout: u64) -> Vec<Value> {
        let answer = self.ask(timeout).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.take(&answer)
    }

    fn take(&mut self, answer: &Response) -> Vec<Value> {
        let mut body: Value = serde_json::from_str(&answer.body).unwrap();
        self.cursor = body["cursor"].as_str().unwrap().to_owned();
        match body["messages"].take() {
            Value::Array(messages) => messages,
            other => panic!("{other}"),
        }
    }
}

fn seqs_of(messages: &[Value]) -> Vec<u64> {
    messages
        .iter()
        .filter(|message| message["type"] == "text")
        .map(|message| message["seq"].as_u64().unwrap())
        .collect()
}

fn event<'a>(messages: &'a [Value], event: &str) -> Option<&'a Value> {
    messages.iter().find(|message| message["data"]["event"] == event)
}

async fn bob(hearth: &Hearth) -> Client {
    Client::enter(hearth.http(), "/ws/room?user=bob").await.0
}

/// 8. The client holds a cursor before its first message; what joining shows comes with it, and what is published comes at once, as a
/// WebSocket gets it.
#[tokio::test]
async fn a_poll_answers_when_something_comes() {
    let hearth = Hearth::serve(&[]).await;
    let (mut poller, shown) = Poller::begin(hearth.http(), "/poll/room?user=ann").await;
    let kinds: Vec<&str> = shown.iter().map(|message| message["data"]["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["welcome", "joined", "state"]);
    assert_eq!(shown[2]["data"]["online"][0]["user"], "ann");
    assert_eq!(poller.poll(0).await, Vec::<Value>::new());
    let mut bob = bob(&hearth).await;
    assert!(event(&poller.poll(25).await, "join").is_some());
    let start = Instant::now();
    let (messages, _) = tokio::join!(poller.poll(25), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bob.publish("room", "m1").await
    });
    assert!(start.elapsed() < Duration::from_secs(5));
    let seen = bob.find(|frame| frame["type"] == "text").await;
    assert_eq!(messages, [seen], "the same envelope");
    let start = Instant::now();
    assert_eq!(poller.poll(1).await, Vec::<Value>::new());
    assert!(start.elapsed() >= Duration::from_millis(900), "it waits as long as it was asked to");
}

/// 20. The same cursor, the same answer and perhaps more: an answer that was lost has lost nothing.
#[tokio::test]
async fn the_same_cursor_has_the_same_answer() {
    let hearth = Hearth::serve(&[]).await;
    let (mut poller, _) = Poller::begin(hearth.http(), "/poll/room?user=ann").await;
    let mut bob = bob(&hearth).await;
    for n in 0..3 {
        bob.publish("room", &format!("m{n}")).await;
    }
    let first = eventually("all three", async || {
        let answer = poller.ask(5).await;
        (seqs_of(&Poller { http: hearth.http(), path: String::new(), cursor: String::new() }.take(&answer))
            .len()
            == 3)
            .then_some(answer)
    })
    .await;
    assert_eq!(poller.ask(5).await.body, first.body);
    bob.publish("room", "m3").await;
    let more = eventually("one more", async || {
        let answer = poller.ask(5).await;
        (answer.body != first.body).then_some(answer)
    })
    .await;
    assert_eq!(seqs_of(&poller.take(&more)), [1, 2, 3, 4]);
    let limited = format!("{}&limit=1", "/poll/other?user=eve");
    assert_eq!(http::get(hearth.http(), &limited, &[]).await.status, 200);
}

/// 20. A second poll of a session supersedes the first, which gets 409; two sessions of a user never do.
#[tokio::test]
async fn a_second_poll_supersedes_the_first() {
    let hearth = Hearth::serve(&[]).await;
    let (mut first, _) = Poller::begin(hearth.http(), "/poll/room?user=ann").await;
    let (mut other, _) = Poller::begin(hearth.http(), "/poll/room?user=ann").await;
    first.poll(0).await;
    let (superseded, quiet) = within("both polls", async {
        tokio::join!(first.ask(20), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            other.poll(0).await;
            first.ask(0).await
        })
    })
    .await;
    assert_eq!((superseded.status, quiet.status), (409, 200));
    let problem: Value = serde_json::from_str(&superseded.body).unwrap();
    assert_eq!(
        (&problem["code"], superseded.header("content-type")),
        (&json!("aborted"), Some("application/problem+json"))
    );
}

/// 20. Between polls a user stays online, with nothing told to others; who stops polling is told gone, once, after the timeout.
#[tokio::test]
async fn presence_holds_between_polls_and_ends_with_them() {
    let hearth = Hearth::serve(&["--presence-timeout", "1s"]).await;
    let mut watcher = Watcher::enter(hearth.http(), "room", "ben").await;
    let (mut poller, _) = Poller::begin(hearth.http(), "/poll/room?user=ann").await;
    watcher.until_shows("ann", true).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        poller.poll(0).await;
    }
    watcher.mark(hearth.http()).await;
    assert_eq!(watcher.view.told("ann"), ["join"]);
    watcher.until_shows("ann", false).await;
    assert_eq!(watcher.view.told("ann"), ["join", "leave"]);
    // Its cursor still leads on.
    let mut bob = bob(&hearth).await;
    bob.publish("room", "late").await;
    let messages = poller.poll(5).await;
    assert_eq!(event(&messages, "joined").unwrap()["data"]["recovered"], true);
    assert_eq!(seqs_of(&messages), [1]);
}

/// 21. Any edge serves any poll.
#[tokio::test]
async fn another_edge_goes_on() {
    let core = Hearth::core(&[]).await;
    let edges = [Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await];
    let (mut poller, _) = Poller::begin(edges[0].http(), "/poll?room=room&room=second&user=ann").await;
    let mut bob = Client::enter(edges[0].http(), "/ws/room?user=bob").await.0;
    let mut seen = Vec::new();
    for n in 0..20 {
        bob.publish("room", &format!("m{n}")).await;
        poller.http = edges[n % 2].http();
        while seen.len() <= n {
            let messages = poller.poll(5).await;
            assert!(event(&messages, "joined").is_none_or(|joined| joined["data"]["recovered"] == true));
            seen.extend(seqs_of(&messages));
        }
    }
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
}

/// Under fire: ten thousand messages, and answers cut at random. By the client's rule nothing is lost and nothing doubled.
#[tokio::test]
async fn ten_thousand_messages_through_a_network_that_cuts_answers() {
    const MESSAGES: usize = 10_000;
    let _alone = heavy().await;
    let hearth = Hearth::serve(&["--rate-limit", "0", "--history-size", "20000"]).await;
    let proxy = Proxy::start(hearth.http()).await;
    let (mut poller, _) = Poller::begin(proxy.address(), "/poll/room?user=ann").await;
    let mut bob = Client::connect(hearth.http(), "/ws?user=bob").await;
    let publishing = tokio::spawn(async move {
        for n in 0..MESSAGES {
            bob.send(json!({"type": "text", "room": "room", "data": {"n": n}})).await;
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // Its last command is done when this is answered.
        bob.ask(json!({"type": "ping", "id": "end"})).await;
        bob
    });
    let (mut dice, mut seqs, mut cuts) = (Dice::new(20), Vec::new(), 0);
    while seqs.len() < MESSAGES {
        match dice.roll(3) {
            0 => proxy.cut_after(dice.roll(10_000)),
            _ => proxy.forward(),
        }
        match http::ask(poller.http, "GET", &poller.target(5).replace("limit=1000", "limit=100"), &[]).await {
            Ok(answer) if answer.status == 200 && serde_json::from_str::<Value>(&answer.body).is_ok() => {
                seqs.extend(seqs_of(&poller.take(&answer)));
            }
            _ => cuts += 1,
        }
    }
    assert!(cuts > 10, "only {cuts} answers were cut");
    assert!(seqs == (1..=MESSAGES as u64).collect::<Vec<_>>(), "dense, in order, each once");
    drop(within("the publisher", publishing).await.unwrap());
}

/// 20. Abandoned pollers are reaped, and nothing of them is kept.
#[tokio::test]
async fn abandoned_pollers_are_reaped() {
    const POLLERS: usize = 1000;
    let _alone = heavy().await;
    let hearth = Hearth::serve(&["--presence-timeout", "500ms"]).await;
    let mut presence = grpc::presence(hearth.grpc()).await;
    for n in 0..POLLERS {
        // Some never hear their first answer.
        let target = format!("/poll/room-{}?user=u{n}", n % 10);
        assert_eq!(http::get(hearth.http(), &target, &[]).await.status, 200);
    }
    let gone = eventually("all gone", async || {
        let page = http::get(hearth.http(), "/metrics", &[]).await.body;
        let names = ["hearth_core_sessions", "hearth_edge_connections", "hearth_core_presence_users"];
        names.iter().all(|name| http::metric(&page, name) == Some(0.0)).then_some(page)
    })
    .await;
    assert_eq!(http::metric(&gone, "hearth_edge_backlog_bytes"), Some(0.0));
    assert_eq!(grpc::users(&mut presence, "room-0").await, Vec::<String>::new());
}

/// 34. A drain answers a waiting poll, and says so.
#[tokio::test]
async fn a_drain_answers_a_waiting_poll() {
    let mut hearth = Hearth::serve(&[]).await;
    let (mut poller, _) = Poller::begin(hearth.http(), "/poll/room?user=ann").await;
    let (messages, ()) = tokio::join!(poller.poll(25), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        hearth.terminate();
    });
    assert!(event(&messages, "draining").unwrap()["data"]["reconnect_after_ms"].is_u64());
    assert_eq!(hearth.ended().await.code(), Some(0));
}

/// 23, 24. Every mistake has its answer, and none of them is a 500; a cursor that cannot be read is no mistake.
#[tokio::test]
async fn mistakes() {
    let hearth = Hearth::serve(&[]).await;
    let rooms: String = (0..33).map(|n| format!("room=r{n}&")).collect();
    let many = format!("/poll?{rooms}");
    let table = [
        ("/poll", 400, "invalid_argument"),
        ("/poll/%20", 400, "invalid_argument"),
        ("/poll/a?timeout=61", 400, "invalid_argument"),
        ("/poll/a?timeout=x", 400, "invalid_argument"),
        ("/poll/a?limit=0", 400, "invalid_argument"),
        ("/poll/a?limit=1001", 400, "invalid_argument"),
        ("/poll/a?user=%00", 400, "invalid_argument"),
        (&many, 400, "invalid_argument"),
        ("/poll/~bob?user=ann", 403, "permission_denied"),
    ];
    for (target, status, code) in table {
        let answer = http::get(hearth.http(), target, &[]).await;
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &problem["code"]), (status, &json!(code)), "{target}");
    }
    let foreign = http::get(hearth.http(), "/poll/a", &["Origin: https://evil.test"]).await;
    assert_eq!(foreign.status, 403);
    let posted = http::ask(hearth.http(), "POST", "/poll/a", &["Content-Length: 0"]).await.unwrap();
    assert_eq!(posted.status, 405);
    for cursor in ["x", "%25", "a.b", "AQ.AQ", &"A".repeat(9000)] {
        let answer = http::get(hearth.http(), &format!("/poll/a?user=ann&cursor={cursor}"), &[]).await;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let joined =
            body["messages"].as_array().unwrap().iter().find(|message| message["data"]["event"] == "joined");
        assert_eq!(joined.unwrap()["data"]["recovered"], false, "{cursor}");
    }
    // One forbidden room does not block another.
    let (_, shown) = Poller::begin(hearth.http(), "/poll?room=a&room=~bob&user=ann").await;
    let errors: BTreeSet<&str> = shown
        .iter()
        .filter(|message| message["type"] == "error")
        .filter_map(|error| error["room"].as_str())
        .collect();
    assert_eq!(errors, BTreeSet::from(["~bob"]));
    assert!(event(&shown, "joined").is_some());
}
