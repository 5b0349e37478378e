//! Clients that behave badly or unluckily, and the others, who must not notice.
use futures_util::future::join_all;
use hearth_tests::{
    client::{Client, Incoming},
    eventually, grpc, http,
    observer::Observer,
    process::Hearth,
    raw::{CLOSE, Raw, TEXT},
    within,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

/// 4. Clients that go while their join is under way, at every point and in every manner, leave nothing behind.
#[tokio::test]
async fn a_join_that_nobody_awaits_leaves_no_ghost() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut ann = Client::connect(door, "/ws?user=ann").await;
    let filler = "x".repeat(2000);
    for n in 0..200 {
        ann.send(json!({"type": "text", "id": n.to_string(), "room": "haunted", "data": {"filler": filler}}))
            .await;
    }
    assert_eq!(ann.answer("199").await["data"]["seq"], 200);
    let mut leavers = JoinSet::new();
    for n in 0..150u32 {
        leavers.spawn(async move {
            let join = r#"{"type":"join","room":"haunted","data":{"history":200}}"#;
            match n % 6 {
                // Before the handshake is answered.
                0 => {
                    let mut stream = TcpStream::connect(door).await.unwrap();
                    let request = format!(
                        "GET /ws/haunted HTTP/1.1\r\nHost: {door}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                    );
                    stream.write_all(request.as_bytes()).await.unwrap();
                }
                // Right after it, with a reset.
                1 => Client::open(door, "/ws/haunted").await.cut(),
                // Right after the join was sent, with a reset, and with an orderly close.
                2 => {
                    let mut client = Client::open(door, "/ws").await;
                    client.send_text(join).await;
                    client.cut();
                }
                3 => {
                    let mut client = Client::open(door, "/ws").await;
                    client.send_text(join).await;
                    client.close().await;
                }
                // Join and leave in one breath: first `joined`, then the ack, and nothing after it.
                4 => {
                    let mut client = Client::connect(door, "/ws").await;
                    client.send_text(join).await;
                    client.send_text(r#"{"type":"leave","id":"l","room":"haunted"}"#).await;
                    assert_eq!(client.next().await["data"]["event"], "joined");
                    client.find(|frame| frame["type"] == "ack" && frame["id"] == "l").await;
                    client.send_text(r#"{"type":"ping","id":"p"}"#).await;
                    assert_eq!(client.next().await["id"], "p");
                }
                // With half of the replay read.
                _ => {
                    let mut client = Client::connect(door, "/ws").await;
                    client.send_text(join).await;
                    for _ in 0..50 {
                        client.next().await;
                    }
                    client.cut();
                }
            }
        });
    }
    within("all who leave", leavers.join_all()).await;
    eventually("an empty room", async || (grpc::sessions(&mut rooms, "haunted").await == 0).then_some(()))
        .await;
    // And it stays so: whoever comes now is alone.
    ann.join("haunted", json!({})).await;
    assert_eq!(grpc::sessions(&mut rooms, "haunted").await, 1);
    ann.leave("haunted").await;
    eventually("an empty room", async || (grpc::sessions(&mut rooms, "haunted").await == 0).then_some(()))
        .await;
    eventually("ann alone", async || {
        let page = http::get(door, "/metrics", &[]).await.body;
        let left = ["hearth_edge_connections", "hearth_core_sessions", "hearth_link_pending"];
        (left.map(|name| http::metric(&page, name)) == [Some(1.0), Some(1.0), Some(0.0)]).then_some(())
    })
    .await;
}

/// 5. Joins that replay, closes and broadcasts, all at once, cannot stop each other: every publish is acknowledged, and
/// whoever stays hears everything. (A lock that was held while a slow peer was written to once stopped a whole server.)
#[tokio::test]
async fn joins_closes_and_broadcasts_do_not_block_each_other() {
    let hearth = Hearth::serve(&["--rate-limit", "0", "--history-size", "2000"]).await;
    let door = hearth.http();
    let (mut ann, first) = Client::enter(door, "/ws/busy?user=ann").await;
    let since = json!({"epoch": first["epoch"], "seq": 0});
    let filler = "x".repeat(2000);
    let text = move |n: u64| json!({"type": "text", "id": n.to_string(), "room": "busy", "data": {"filler": filler}});
    for n in 1..=300 {
        ann.send(text(n)).await;
    }
    assert_eq!(ann.answer("300").await["data"]["seq"], 300);
    let mut joiners = JoinSet::new();
    for n in 0..24u64 {
        let since = since.clone();
        joiners.spawn(async move {
            for round in 0..4 {
                let mut raw = Raw::connect_with(door, "/ws?user=j", Some(4096)).await;
                let join = json!({"type": "join", "room": "busy", "data": {"since": since}});
                raw.send_text(&join.to_string()).await;
                // Some close at once, some read a little, none reads it all.
                for _ in 0..(n + round) % 5 {
                    raw.next().await;
                }
                raw.send(&Raw::frame(0x80 | CLOSE, &1000u16.to_be_bytes())).await;
            }
        });
    }
    let mut slowest = Duration::ZERO;
    for n in 301..=600 {
        let start = Instant::now();
        ann.send(text(n)).await;
        assert_eq!(ann.answer(&n.to_string()).await["data"]["seq"], n);
        slowest = slowest.max(start.elapsed());
    }
    within("all joiners", joiners.join_all()).await;
    assert!(slowest < Duration::from_secs(5), "a publish took {slowest:?}");
    let mut observer = Observer::new("ann");
    observer.frame(&json!({"type": "system", "room": "busy", "data": first}));
    while observer.last("busy") < 600 {
        observer.frame(&ann.next().await);
    }
}

/// How long it takes from a publish until each of the others has it.
async fn latency(publisher: &mut Client, others: &mut [Client], id: &str, filler: &str) -> Duration {
    let start = Instant::now();
    publisher.send(json!({"type": "text", "id": id, "room": "room", "data": {"filler": filler}})).await;
    join_all(others.iter_mut().map(|other| other.find(|frame| frame["id"] == id && frame["type"] == "text")))
        .await;
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// 27. A reader that has stopped is cut with 4002 when its queue is full. The others' latency is what it was, and when it
/// comes back, history gives it all that it missed.
#[tokio::test]
async fn a_slow_reader_is_cut_and_recovers() {
    let flags = ["--session-queue-bytes", "131072", "--history-size", "100000", "--rate-limit", "0"];
    let hearth = Hearth::serve(&flags).await;
    let door = hearth.http();
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut ann = Client::connect(door, "/ws?user=ann").await;
    let mut others = Vec::new();
    for n in 0..5 {
        others.push(Client::enter(door, &format!("/ws/room?user=o{n}")).await.0);
    }
    let filler = "x".repeat(8000);
    let mut before = Vec::new();
    for n in 0..40 {
        before.push(latency(&mut ann, &mut others, &format!("before{n}"), &filler).await);
    }
    let mut slow = Raw::connect_with(door, "/ws/room?user=slow", Some(8192)).await;
    eventually("the slow one's join", async || (grpc::sessions(&mut rooms, "room").await == 6).then_some(()))
        .await;
    let mut during = Vec::new();
    let mut published = 40u64;
    // The kernel's buffers hold some megabytes of it at the most; 64 MiB would fill anything that is bounded.
    while grpc::sessions(&mut rooms, "room").await == 6 {
        for _ in 0..20 {
            during.push(latency(&mut ann, &mut others, &format!("n{published}"), &filler).await);
            published += 1;
        }
        assert!(published * 8000 < 64 << 20, "{published} events wait for one that does not read");
    }
    let (before, during) = (median(before), median(during));
    assert!(
        during < before * 3 + Duration::from_millis(20),
        "{during:?} with a slow reader, {before:?} without"
    );

    let mut observer = Observer::new("slow");
    let closed = loop {
        match slow.next().await {
            Some(frame) if frame.opcode == TEXT => {
                observer.frame(&serde_json::from_slice::<Value>(&frame.payload).unwrap());
            }
            Some(frame) if frame.opcode == CLOSE => break frame.close(),
            Some(_) => {}
            None => panic!("the end without a close, after seq {}", observer.last("room")),
        }
    };
    assert_eq!(closed, (4002, "slow_consumer".into()));
    assert!(observer.last("room") < published, "it was cut because something waited");

    let mut back = Client::connect(door, "/ws?user=slow").await;
    let since = json!({"since": observer.since("room")});
    back.send(json!({"type": "join", "room": "room", "data": since})).await;
    let joined = back.next().await;
    assert_eq!(joined["data"]["recovered"], true, "{joined}");
    observer.frame(&joined);
    while observer.last("room") < published {
        observer.frame(&back.next().await);
    }
    let page = http::get(hearth.http(), "/metrics", &[]).await.body;
    assert_eq!(http::metric(&page, "hearth_edge_slow_consumers_total"), Some(1.0));
    assert_eq!(http::metric(&page, "hearth_edge_backlog_bytes"), Some(0.0), "nothing of it is left");
}

/// 27. Ephemeral events are what a slow reader loses first, and it lives: no signal is worth a connection.
#[tokio::test]
async fn signals_are_dropped_for_a_slow_reader() {
    let hearth = Hearth::serve(&["--session-queue-bytes", "131072", "--rate-limit", "0"]).await;
    let door = hearth.http();
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut ann = Client::connect(door, "/ws?user=ann").await;
    let mut slow = Raw::connect_with(door, "/ws/room?user=slow", Some(8192)).await;
    eventually("the slow one's join", async || (grpc::sessions(&mut rooms, "room").await == 1).then_some(()))
        .await;
    let filler = "x".repeat(8000);
    const SIGNALS: usize = 2_000;
    for n in 0..SIGNALS {
        let id = n.to_string();
        let signal = json!({"type": "signal", "id": id, "room": "room", "data": {"filler": filler}});
        if n % 20 == 19 {
            assert_eq!(ann.ask(signal).await["type"], "ack");
        } else {
            ann.send(signal).await;
        }
    }
    ann.publish("room", "text").await;
    let mut signals = 0;
    loop {
        let frame = slow.next().await.expect("it lives");
        if frame.opcode != TEXT {
            assert_ne!(frame.opcode, CLOSE, "{:?}", frame.close());
            continue;
        }
        let frame: Value = serde_json::from_slice(&frame.payload).unwrap();
        match frame["type"].as_str() {
            Some("signal") => signals += 1,
            Some("text") => break,
            _ => {}
        }
    }
    assert!((1..SIGNALS).contains(&signals), "{signals} of {SIGNALS} came, though 16 MB do not fit");
}

/// A session that goes with a reset, or with the end of its stream, is out of its rooms at once.
#[tokio::test]
async fn whoever_has_gone_is_out_of_the_room() {
    let hearth = Hearth::serve(&[]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let (reset, _) = Client::enter(hearth.http(), "/ws/room?user=a").await;
    let (closed, _) = Client::enter(hearth.http(), "/ws/room?user=b").await;
    let (mut stays, _) = Client::enter(hearth.http(), "/ws/room?user=c").await;
    assert_eq!(grpc::sessions(&mut rooms, "room").await, 3);
    reset.cut();
    closed.close().await;
    eventually("one session", async || (grpc::sessions(&mut rooms, "room").await == 1).then_some(())).await;
    stays.publish("room", "1").await;
    assert!(matches!(stays.receive().await, Incoming::Frame(_)));
}
