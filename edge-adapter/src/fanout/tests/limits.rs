//! Slow, loud and greedy clients: what they are told, and that nobody else notices.
use super::*;
use crate::wire::event::{Code, Failure};
use socket2::SockRef;
use tokio::io::DuplexStream;

/// The kernel takes this much at the most for a client that reads nothing, on both sides.
const KERNEL: usize = 8 * 1024 * 1024;

fn by(author: &str, kind: Kind, data: &str) -> Post {
    let event = Event { author: author.into(), ..event_of(kind, 0, data).event.clone() };
    Post::Event { room: ROOM, event: Arc::new(SharedEvent::new(event, "e".into())), origin: None }
}

/// A signal of about so many bytes, of somebody of whom there is no other.
fn lone_signal(nth: usize, bytes: usize) -> Post {
    by(&format!("author {nth}"), Kind::Signal, &format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes)))
}

/// A session that is slow from the first frame that it does not read: between it and the shard there is a pipe of
/// a few frames.
struct Slow(WebSocketStream<DuplexStream>);

impl Slow {
    /// One that is live in [`ROOM`].
    async fn connect(edge: &Edge) -> Slow {
        let (client, server) = tokio::io::duplex(256);
        let (session, _) = edge.knock(|new| new.socket = Socket::Stream(Box::new(server))).await;
        edge.post([Post::Opened { session, user: "ann".into(), expires_us: None }, joined(session)]);
        let mut slow = Slow(WebSocketStream::from_raw_socket(client, Role::Client, None).await);
        assert_eq!(slow.json().await["data"]["event"], "welcome");
        assert_eq!(slow.json().await["data"]["event"], "joined");
        slow
    }

    async fn json(&mut self) -> Value {
        match soon(self.0.next()).await.expect("the connection ended").unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// An ephemeral event: its type, author and number.
fn ephemeral(json: &Value) -> String {
    format!("{} {} {}", json["type"], json["data"]["author"], json["data"]["n"]).replace('"', "")
}

#[tokio::test]
async fn a_slow_reader_is_closed_and_another_gets_everything() {
    let edge = Edge::start(config());
    let (mut slow, mut quick) = (edge.connect_joined().await, edge.connect_joined().await);
    SockRef::from(slow.socket.get_ref()).set_recv_buffer_size(32 * 1024).unwrap();
    let mut seq = 4;
    // The quick one reads each round; the slow one reads nothing until the shard has given it up.
    while edge.metrics.slow_consumers.get() == 0 {
        assert!(seq < (2 * KERNEL / 10_000) as u64, "the slow one should have been closed by now");
        edge.post((1..=10).map(|n| big(Kind::Text, seq + n, 10_000)));
        for n in 1..=10 {
            assert_eq!(quick.told().await, (seq + n).to_string());
        }
        seq += 10;
    }
    assert_eq!(edge.core.next().await, Request::Close { session: slow.key, vanished: true });
    let mut last = 4;
    loop {
        match slow.message().await {
            Message::Text(text) => {
                last += 1;
                assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["seq"], last);
            }
            Message::Close(frame) => {
                let frame = frame.unwrap();
                assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4002, "slow_consumer"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(last < seq, "what waited was dropped");
    edge.post([event(seq + 1)]);
    assert_eq!(quick.told().await, (seq + 1).to_string());
}

/// A burst that is larger than the queue, as a state of a big room is, cuts nobody who reads on, however slowly, while other things
/// come; whoever does not read is cut all the same.
#[tokio::test]
async fn a_burst_larger_than_the_queue_cuts_nobody_who_reads_on() {
    let edge = Edge::start(config());
    let (mut reads, sleeps) = (edge.connect_joined().await, edge.connect_joined().await);
    for client in [&reads, &sleeps] {
        SockRef::from(client.socket.get_ref()).set_recv_buffer_size(32 * 1024).unwrap();
    }
    edge.post([big(Kind::Text, 5, 3 << 20)]);
    let mut seq = 5;
    assert_eq!(reads.told().await, "5");
    // Then it is behind no more; the other is given half the bound, and no more.
    while edge.metrics.slow_consumers.get() == 0 {
        assert!(seq < 200, "who does not read should have been closed by now");
        seq += 1;
        edge.post([big(Kind::Text, seq, 10_000)]);
        assert_eq!(reads.told().await, seq.to_string());
    }
    assert_eq!(edge.core.next().await, Request::Close { session: sleeps.key, vanished: true });
}

#[tokio::test]
async fn a_slow_reader_loses_ephemeral_events_first() {
    let edge = Edge::start(config());
    let (mut slow, mut quick) = (edge.connect_joined().await, edge.connect_joined().await);
    SockRef::from(slow.socket.get_ref()).set_recv_buffer_size(32 * 1024).unwrap();
    let (mut signals, mut seq) = (0, 4);
    while edge.metrics.ephemeral_drops.get() == 0 {
        assert!(signals < 2 * KERNEL / 10_000, "signals should have been dropped by now");
        seq += 1;
        edge.post([lone_signal(signals, 10_000), event(seq)]);
        signals += 1;
        assert_eq!((quick.told().await, quick.told().await), ("signal".into(), seq.to_string()));
    }
    // Signals never close a session, however many there are.
    edge.post((0..500).map(|n| lone_signal(signals + n, 10_000)).chain([event(seq + 1)]));
    let (mut got, mut next) = (0, 5);
    while next <= seq + 1 {
        match slow.told().await.as_str() {
            "signal" => got += 1,
            told => {
                assert_eq!(told, next.to_string(), "sequenced events are never dropped");
                next += 1;
            }
        }
    }
    assert!(got < signals, "{got} of {signals}");
}

/// Many signals in one turn, to a session that nothing waits for: they too are dropped past half, and close nobody.
#[tokio::test]
async fn a_burst_of_signals_closes_nobody() {
    let edge = Edge::start(config());
    let mut client = edge.connect_joined().await;
    edge.post((0..1000).map(|n| lone_signal(n, 10_000)).chain([event(5)]));
    let mut signals = 0;
    loop {
        match client.told().await.as_str() {
            "signal" => signals += 1,
            told => break assert_eq!(told, "5"),
        }
    }
    assert_eq!(signals + edge.metrics.ephemeral_drops.get(), 1000);
    assert!(signals < 1000, "ten megabytes do not fit");
}

/// Two move their cursors all the time while one who watches is slow: it gets where they are, not how they came there.
#[tokio::test]
async fn of_each_author_a_slow_reader_gets_the_newest_signal() {
    let edge = Edge::start(Config { session_queue_bytes: 64 * 1024, ..config() });
    let (mut slow, mut quick) = (Slow::connect(&edge).await, edge.connect_joined().await);
    let mut all = 0;
    for round in 0..100 {
        let moves = (0..100).map(|n| {
            let author = if n % 2 == 0 { "ben" } else { "cat" };
            by(author, Kind::Signal, &format!(r#"{{"n":{}}}"#, round * 100 + n))
        });
        edge.post([event(5 + round)].into_iter().chain(moves));
        // When the quick one has seen the last, the shard has dealt with all.
        let mut last = Value::Null;
        while last != round * 100 + 99 {
            last = quick.json().await["data"]["n"].take();
            all += u64::from(last.is_number());
        }
    }
    edge.post([event(105)]);
    assert_eq!(quick.told().await, "105");

    let (mut next, mut got) = (5, Vec::new());
    while next <= 105 {
        let json = slow.json().await;
        match json["seq"].as_u64() {
            Some(seq) => {
                assert_eq!(seq, next, "sequenced events are never left out");
                next += 1;
            }
            None => got.push(ephemeral(&json)),
        }
    }
    assert!(got.ends_with(&["signal ben 9998".into(), "signal cat 9999".into()]), "{got:?}");
    assert!(got.len() < 10, "{got:?}");
    all += got.len() as u64;
    assert_eq!(all + edge.metrics.ephemeral_conflated.get(), 20_000);
    assert_eq!((edge.metrics.ephemeral_drops.get(), edge.metrics.slow_consumers.get()), (0, 0));
}

/// When much waits, an ephemeral event gets the place of an older one or none, and no more room than there is.
#[tokio::test]
async fn past_half_a_newer_signal_takes_the_place_of_an_older_one_only() {
    let edge = Edge::start(Config { session_queue_bytes: 64 * 1024, ..config() });
    let mut slow = Slow::connect(&edge).await;
    let signal = |author: &str, n: &str| by(author, Kind::Signal, &format!(r#"{{"n":{n}}}"#));
    let texts = |seqs: std::ops::Range<u64>| seqs.map(|seq| big(Kind::Text, seq, 1000));
    let long = "1".repeat(1000);
    let first = [signal("ben", "1"), signal("cat", "1"), signal("dan", "1"), by("ben", Kind::Typing, "{}")];
    edge.post(
        (texts(5..7).chain(first))
            .chain(texts(7..45))
            .chain([signal("ben", "2"), signal("cat", "22"), signal("new", "1")])
            .chain(texts(45..60))
            .chain([signal("ben", "3"), signal("dan", &long), signal("dan", "3")])
            .chain([event(60)]),
    );
    let (mut next, mut got) = (5, Vec::new());
    while next <= 60 {
        let json = slow.json().await;
        match json["seq"].as_u64() {
            Some(seq) => {
                assert_eq!(seq, next);
                next += 1;
            }
            None => got.push(format!("{} before {next}", ephemeral(&json))),
        }
    }
    assert_eq!(got, ["typing ben null before 7", "signal cat 22 before 45", "signal ben 3 before 60"]);
    // Twice ben's, cat's and dan's first; of "new" and dan there was one and two too many.
    let counts = (edge.metrics.ephemeral_conflated.get(), edge.metrics.ephemeral_drops.get());
    assert_eq!(counts, (4, 3));
    assert_eq!(edge.metrics.slow_consumers.get(), 0);
}

/// A client comes back to ten rooms, has missed a page's worth in each and joins all at once: it gets everything.
#[tokio::test]
async fn many_replays_at_once_do_not_overrun_the_queue() {
    let edge = Edge::start(config());
    let mut client = edge.connect().await;
    let page: Vec<_> =
        (1..=256).map(|n| event_of(Kind::Text, n, &format!(r#"{{"x":"{}"}}"#, "x".repeat(1000)))).collect();
    for n in 0..10 {
        let since = r#"{"since":{"epoch":"e","seq":0}}"#;
        client.send(&format!(r#"{{"type":"join","id":"{n}","room":"r{n}","data":{since}}}"#)).await;
    }
    let core = edge.core.clone();
    let shards = edge.shards.clone();
    let session = client.key;
    let answers = tokio::spawn(async move {
        for n in 0..10 {
            let Request::Join { id, room: name, .. } = core.next().await else {
                panic!("one join after the other")
            };
            let (room, recovered, page) = (RoomId(10 + n), Some(true), page.clone());
            let position = Position { epoch: "e".into(), seq: 256 };
            let joined = Post::Joined {
                asked: true,
                presence: false,
                session,
                id,
                room,
                name,
                echo: true,
                position,
                recovered,
                replayed: 256,
                page,
                live: true,
            };
            shards.post(0, &mut vec![joined]);
        }
    });
    for n in 0..10 {
        assert_eq!(client.json().await["id"], n.to_string());
        for seq in 1..=256 {
            assert_eq!(client.told().await, seq.to_string());
        }
    }
    answers.await.unwrap();
}

/// All that was slowed down comes in order, whatever the cuts: sizes that fill and half fill the socket's buffers.
#[tokio::test]
async fn a_reader_that_catches_up_has_missed_nothing() {
    let edge = Edge::start(Config { session_queue_bytes: 64 * 1024 * 1024, ..config() });
    let mut client = edge.connect_joined().await;
    let sizes = [10, 200, 70_000, 3, 1000, 130_000];
    let count = 300;
    for seq in 0..count {
        let text = big(Kind::Text, 5 + seq, sizes[seq as usize % sizes.len()]);
        edge.post([text, lone_signal(seq as usize, 10)]);
        tokio::task::yield_now().await;
    }
    for seq in 0..count {
        // Less than half of what may wait does, so signals come too.
        assert_eq!((client.told().await, client.told().await), ((5 + seq).to_string(), "signal".into()));
    }
    client.send(r#"{"type":"ping","id":"p"}"#).await;
    assert_eq!(client.told().await, "ack");
    assert_eq!(edge.metrics.backlog_bytes.get(), 0);
}

#[tokio::test]
async fn a_hundred_refused_commands_end_the_session() {
    let edge = Edge::start(Config { rate_limit: 1, rate_burst: 2, ..config() });
    let mut client = edge.connect().await;
    for n in 0..102 {
        // What cannot be read counts as well.
        let text = if n % 2 == 0 { format!(r#"{{"type":"ping","id":"{n}"}}"#) } else { "nonsense".into() };
        client.send(&text).await;
    }
    assert_eq!((client.told().await, client.told().await), ("ack".into(), "invalid_argument".into()));
    let refused = client.json().await;
    assert_eq!((&refused["id"], &refused["data"]["code"]), (&"2".into(), &"resource_exhausted".into()));
    assert!((1..=1000).contains(&refused["data"]["retry_after_ms"].as_u64().unwrap()));
    for _ in 1..99 {
        assert_eq!(client.told().await, "resource_exhausted");
    }
    assert_eq!(client.closed().await, (4004, "rate_limited".into()));
}

#[tokio::test]
async fn the_room_after_the_last_is_refused() {
    let edge = Edge::start(config());
    let mut client = edge.connect().await;
    for n in 0..=100 {
        client.send(&format!(r#"{{"type":"join","id":"{n}","room":"r{n}"}}"#)).await;
    }
    let error = client.json().await;
    assert_eq!((&error["id"], &error["data"]["code"]), (&"100".into(), &"resource_exhausted".into()));
    assert_eq!(edge.core.asked().len(), 100);
    // A join that fails makes room.
    edge.post([Post::JoinFailed {
        session: client.key,
        id: Some("7".into()),
        name: "r7".into(),
        failure: Failure::new(Code::PermissionDenied, "no"),
    }]);
    assert_eq!(client.told().await, "permission_denied");
    client.send(r#"{"type":"join","id":"100","room":"r100"}"#).await;
    assert!(matches!(edge.core.next().await, Request::Join { room, .. } if &*room == "r100"));
}

#[tokio::test]
async fn a_full_queue_to_the_core_is_told_and_leaves_no_trace() {
    let edge = Edge::start(Config { max_rooms_per_session: 1, ..config() });
    let mut client = edge.connect().await;
    edge.core.busy.store(true, Ordering::Relaxed);
    for text in [
        r#"{"type":"join","id":"1","room":"a"}"#,
        r#"{"type":"join","id":"1","room":"b"}"#,
        r#"{"type":"text","id":"1","room":"a","data":{}}"#,
    ] {
        client.send(text).await;
        let error = client.json().await;
        assert_eq!((&error["id"], &error["data"]["code"]), (&"1".into(), &"resource_exhausted".into()));
        assert!(error["data"]["retry_after_ms"].is_u64(), "{error}");
    }
    edge.core.busy.store(false, Ordering::Relaxed);
    client.send(r#"{"type":"join","id":"1","room":"c"}"#).await;
    assert!(matches!(edge.core.next().await, Request::Join { .. }));
}
