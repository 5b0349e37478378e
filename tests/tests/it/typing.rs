//! Typing and signals: for the others, for now, and never a burden.
use hearth_tests::{
    client::Client,
    eventually, grpc, http,
    process::Hearth,
    raw::{CLOSE, Raw, TEXT},
    within,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What comes at once comes within this, well before typing expires.
const AT_ONCE: Duration = Duration::from_secs(3);

fn typing(active: bool) -> Value {
    json!({"type": "typing", "id": "typing", "room": "room", "data": {"active": active}})
}

/// Somebody begins to type.
async fn types(client: &mut Client) {
    let ack = client.ask(typing(true)).await;
    assert_eq!(ack, json!({"type": "ack", "id": "typing", "room": "room", "data": {"status": "delivered"}}));
}

/// The next that is heard of typing: who, and whether still.
async fn heard(client: &mut Client) -> (String, bool) {
    let frame = client.find(|frame| frame["type"] == "typing").await;
    assert_eq!(frame["room"], "room", "{frame}");
    let data = frame["data"].as_object().unwrap();
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(keys, ["active", "author"], "{frame}");
    (data["author"].as_str().unwrap().to_owned(), data["active"].as_bool().unwrap())
}

/// Nothing more has come to the listener: a signal that is sent now is the next that is heard.
async fn nothing_more(listener: &mut Client, speaker: &mut Client) {
    let signal = json!({"type": "signal", "id": "mark", "room": "room", "data": {"mark": true}});
    assert_eq!(speaker.ask(signal).await["type"], "ack");
    let frame = listener.next().await;
    assert_eq!(frame["data"]["mark"], true, "{frame}");
}

/// Others hear who types and who has stopped; one's own session does not, and gets its acks.
#[tokio::test]
async fn typing_is_told_to_the_others() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/room?user=ben").await;
    types(&mut ann).await;
    assert_eq!(heard(&mut ben).await, ("ann".into(), true));
    assert_eq!(ann.ask(typing(false)).await["type"], "ack");
    assert_eq!(heard(&mut ben).await, ("ann".into(), false));
    nothing_more(&mut ann, &mut ben).await;
    nothing_more(&mut ben, &mut ann).await;
}

/// Typing needs a join, signals do not; a name that is none is refused to both.
#[tokio::test]
async fn typing_needs_a_join_and_a_signal_does_not() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/room?user=ben").await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    for id in [Some("t"), None] {
        let mut command = json!({"type": "typing", "room": "room", "data": {"active": true}});
        if let Some(id) = id {
            command["id"] = id.into();
        }
        ann.send(command).await;
        let error = ann.next().await;
        assert_eq!(
            (&error["type"], &error["room"], &error["data"]["code"]),
            (&json!("error"), &json!("room"), &json!("failed_precondition")),
            "{error}"
        );
        assert_eq!(error.get("id").and_then(Value::as_str), id, "{error}");
    }
    let signal = json!({"type": "signal", "id": "s", "room": "room", "data": {"x": 1}});
    assert_eq!(ann.ask(signal).await["data"], json!({"status": "delivered"}));
    let first = ben.next().await;
    assert_eq!((&first["type"], &first["data"]), (&json!("signal"), &json!({"x": 1, "author": "ann"})));
    for kind in ["typing", "signal"] {
        let command = json!({"type": kind, "id": "e", "room": "a room", "data": {"active": true}});
        assert_eq!(ann.ask(command).await["data"]["code"], "invalid_argument", "{kind}");
    }
    // A room that was left is not joined any more.
    ann.join("room", json!({})).await;
    types(&mut ann).await;
    ann.leave("room").await;
    assert_eq!(ann.ask(typing(true)).await["data"]["code"], "failed_precondition");
}

/// Whoever does not repeat it has stopped after some seconds, counted from the last repeat; the others are told so once.
#[tokio::test]
async fn typing_expires_by_itself() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/room?user=ben").await;
    types(&mut ann).await;
    sleep(Duration::from_secs(4)).await;
    let repeated = Instant::now();
    types(&mut ann).await;
    while heard(&mut ben).await == ("ann".into(), true) {}
    let after = repeated.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(10)).contains(&after), "it expired after {after:?}");
    nothing_more(&mut ben, &mut ann).await;
    nothing_more(&mut ann, &mut ben).await;
    // What has expired can begin again, and who leaves after that has nothing to take back.
    types(&mut ann).await;
    assert_eq!(heard(&mut ben).await, ("ann".into(), true));
    assert_eq!(ann.ask(typing(false)).await["type"], "ack");
    assert_eq!(heard(&mut ben).await, ("ann".into(), false));
    ann.leave("room").await;
    nothing_more(&mut ben, &mut ann).await;
}

/// Whoever goes has stopped typing: at once, in whatever manner, also where presence waits for a return.
#[tokio::test]
async fn typing_ends_with_its_author() {
    let core = Hearth::core(&[]).await;
    let (edge, other) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let (mut ben, _) = Client::enter(edge.http(), "/ws/room?user=ben").await;
    let (mut cat, _) = Client::enter(other.http(), "/ws/room?user=cat").await;
    for way in ["leave", "close", "reload", "reset"] {
        let (mut ann, _) = Client::enter(edge.http(), &format!("/ws/room?user={way}")).await;
        types(&mut ann).await;
        for listener in [&mut ben, &mut cat] {
            assert_eq!(heard(listener).await, (way.into(), true));
        }
        let start = Instant::now();
        match way {
            "leave" => ann.leave("room").await,
            "close" => ann.close().await,
            "reload" => ann.close_as(1001).await,
            _ => ann.cut(),
        }
        for listener in [&mut ben, &mut cat] {
            assert_eq!(heard(listener).await, (way.into(), false));
            assert!(start.elapsed() < AT_ONCE, "{way}: {:?}", start.elapsed());
        }
    }
}

/// An edge dies while somebody types on it: the others do not see it typing for ever.
#[tokio::test]
async fn typing_ends_with_its_edge() {
    let core = Hearth::core(&[]).await;
    let (mut edge, other) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let (mut cat, _) = Client::enter(other.http(), "/ws/room?user=cat").await;
    let (mut ann, _) = Client::enter(edge.http(), "/ws/room?user=ann").await;
    types(&mut ann).await;
    assert_eq!(heard(&mut cat).await, ("ann".into(), true));
    edge.kill();
    assert_eq!(heard(&mut cat).await, ("ann".into(), false));
}

/// Signals of one author come in order to whoever reads, and none comes back to its own session.
#[tokio::test]
async fn signals_come_in_order() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let (mut tab, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/room?user=ben").await;
    for n in 0..100 {
        let signal = json!({"type": "signal", "id": format!("s{n}"), "room": "room", "data": {"n": n}});
        let ack = ann.ask(signal).await;
        assert_eq!(
            ack,
            json!({"type": "ack", "id": format!("s{n}"), "room": "room", "data": {"status": "delivered"}})
        );
    }
    for listener in [&mut tab, &mut ben] {
        let frames = listener.until(|frame| frame["data"]["n"] == 99).await;
        let mut last = None;
        for frame in &frames {
            assert_eq!(
                (&frame["type"], &frame["data"]["author"]),
                (&json!("signal"), &json!("ann")),
                "{frame}"
            );
            assert!(frame.get("seq").is_none(), "{frame}");
            let n = frame["data"]["n"].as_u64();
            assert!(n > last, "{n:?} after {last:?}");
            last = n;
        }
    }
    nothing_more(&mut ann, &mut ben).await;
}

/// 27. Somebody stops reading while another one sends twenty thousand signals. What waits is bounded, the newest signal takes
/// the older one's place, and whoever reads again gets the last one. No signal is worth a connection.
#[tokio::test]
async fn signals_are_conflated_for_a_slow_reader() {
    const SIGNALS: u64 = 20_000;
    const QUEUE: f64 = 131_072.0;
    let hearth = Hearth::serve(&["--session-queue-bytes", "131072", "--rate-limit", "0"]).await;
    let door = hearth.http();
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut ann = Client::connect(door, "/ws?user=ann").await;
    let (mut ben, _) = Client::enter(door, "/ws/room?user=ben").await;
    let mut slow = Raw::connect_with(door, "/ws/room?user=slow", Some(8192)).await;
    eventually("the slow one's join", async || (grpc::sessions(&mut rooms, "room").await == 2).then_some(()))
        .await;
    let reader = tokio::spawn(async move { ben.find(|frame| frame["data"]["n"] == SIGNALS - 1).await });
    let filler = "x".repeat(1000);
    let mut most: f64 = 0.0;
    for n in 0..SIGNALS {
        let mut signal = json!({"type": "signal", "room": "room", "data": {"n": n, "filler": filler}});
        // So many may be under way, and no more.
        if n % 100 == 99 {
            signal["id"] = n.to_string().into();
            assert_eq!(ann.ask(signal).await["type"], "ack");
        } else {
            ann.send(signal).await;
        }
        if n % 1000 == 999 {
            let page = http::get(door, "/metrics", &[]).await.body;
            most = most.max(http::metric(&page, "hearth_edge_backlog_bytes").unwrap());
        }
    }
    within("the last signal at whoever reads", reader).await.unwrap();
    // Three sessions have a queue; twenty megabytes were sent.
    assert!(most <= 3.0 * QUEUE, "{most} bytes wait");
    let page = http::get(door, "/metrics", &[]).await.body;
    let conflated = http::metric(&page, "hearth_edge_ephemeral_conflated_total").unwrap();
    assert!((1.0..SIGNALS as f64 * 2.0).contains(&conflated), "{conflated} were conflated");

    ann.publish("room", "text").await;
    let (mut last, mut signals, mut texts) = (None, 0, 0);
    while last != Some(SIGNALS - 1) || texts == 0 {
        let frame =
            slow.next().await.unwrap_or_else(|| panic!("nothing after signal {last:?} and {texts} texts"));
        if frame.opcode != TEXT {
            assert_ne!(frame.opcode, CLOSE, "{:?}", frame.close());
            continue;
        }
        let frame: Value = serde_json::from_str(frame.text()).unwrap();
        match frame["type"].as_str() {
            Some("signal") => {
                signals += 1;
                let n = frame["data"]["n"].as_u64();
                assert!(n > last, "{n:?} after {last:?}");
                last = n;
            }
            Some("text") => texts += 1,
            _ => {}
        }
    }
    assert!(signals < SIGNALS, "all of them came, though they do not fit");
    let page = http::get(door, "/metrics", &[]).await.body;
    assert_eq!(http::metric(&page, "hearth_edge_slow_consumers_total").unwrap_or_default(), 0.0);
}
