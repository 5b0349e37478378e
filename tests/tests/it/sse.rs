//! Server-sent events: the same session as a WebSocket's, read only, and a cursor on everything that can be missed.
use hearth_tests::{
    client::Client,
    eventually, http,
    presence::Watcher,
    process::Hearth,
    sse::{Reader, Stream, request, send_in_pieces},
    within,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::{io::AsyncReadExt, net::TcpStream};

async fn bob(hearth: &Hearth) -> Client {
    Client::enter(hearth.http(), "/ws/room?user=bob").await.0
}

/// 8, 22. The head that proxies need, a cursor before the first message, and the envelopes that a WebSocket gets.
#[tokio::test]
async fn a_stream_begins_with_a_cursor_and_goes_on_like_a_websocket() {
    let hearth = Hearth::serve(&[]).await;
    let mut stream = Stream::open(hearth.http(), "/events/room?user=ann").await;
    assert_eq!(stream.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.header(name), Some(value));
    }
    let welcome = stream.event().await;
    assert!(welcome.tells("welcome") && welcome.id.is_none());
    let joined = stream.event().await;
    assert!(joined.tells("joined"));
    assert_eq!(joined.id.as_deref(), joined.data["data"]["cursor"].as_str());
    let state = stream.event().await;
    assert_eq!((&*state.name, &state.data["data"]["online"][0]["user"]), ("presence", &json!("ann")));
    let mut bob = bob(&hearth).await;
    bob.publish("room", "m1").await;
    let text = stream.find(|event| event.name == "message").await;
    assert_eq!(text.data, bob.find(|frame| frame["type"] == "text").await, "the same envelope");
    assert!(text.id.is_some_and(|id| Some(id) != joined.id));
    bob.send(json!({"type": "signal", "room": "room", "data": {"x": 1}})).await;
    let signal = stream.find(|event| event.name == "signal").await;
    assert_eq!((signal.id, &signal.data["data"]["author"]), (None, &json!("bob")));
    assert_eq!(stream.reader.retries.len(), 1);
}

/// A client that is cut again and again and comes back with its last id misses nothing and sees nothing twice.
#[tokio::test]
async fn who_comes_back_with_the_last_id_misses_nothing() {
    const MESSAGES: u64 = 300;
    let hearth = Hearth::serve(&["--rate-limit", "0"]).await;
    let mut bob = bob(&hearth).await;
    let publishing = tokio::spawn(async move {
        for n in 0..MESSAGES {
            bob.publish("room", &format!("m{n}")).await;
        }
        bob
    });
    let (mut seqs, mut last) = (Vec::new(), String::new());
    while (seqs.len() as u64) < MESSAGES {
        let target = "/events/room?user=ann";
        let mut stream = match last.is_empty() {
            // The first time it has seen nothing of this epoch.
            true => Stream::open(hearth.http(), target).await,
            false => Stream::resume(hearth.http(), target, &last).await,
        };
        let joined = stream.find(|event| event.tells("joined")).await;
        if last.is_empty() {
            seqs.extend(1..=joined.data["data"]["seq"].as_u64().unwrap());
            last = joined.id.clone().unwrap();
        } else {
            assert_eq!(joined.data["data"]["recovered"], true);
        }
        for _ in 0..7 {
            if seqs.len() as u64 == MESSAGES {
                break;
            }
            let event = stream.find(|event| event.name == "message").await;
            seqs.push(event.seq().unwrap());
            // Not the stream's: that one is of what has come, and this client goes before it has looked at all of it.
            last = event.id.unwrap();
        }
        stream.cut();
    }
    assert_eq!(seqs, (1..=MESSAGES).collect::<Vec<_>>());
    drop(within("the publisher", publishing).await.unwrap());
}

/// 22, 24. The header beats the query; what cannot be read is told as not recovered, and never refused.
#[tokio::test]
async fn what_a_client_brings() {
    let hearth = Hearth::serve(&[]).await;
    let mut bob = bob(&hearth).await;
    let mut first = Stream::open(hearth.http(), "/events/room?user=ann").await;
    let old = first.find(|event| event.tells("joined")).await.id.unwrap();
    bob.publish("room", "m1").await;
    let new = first.find(|event| event.name == "message").await.id.unwrap();
    let joined = async |target: String, last: &str| {
        let mut stream = Stream::resume(hearth.http(), &target, last).await;
        assert_eq!(stream.status, 200);
        let joined = stream.find(|event| event.tells("joined")).await;
        (joined.data["data"]["recovered"].clone(), joined.data["data"]["replayed"].clone())
    };
    let target = "/events/room?user=ann".to_owned();
    assert_eq!(joined(format!("{target}&since={old}"), &new).await, (json!(true), json!(0)));
    assert_eq!(joined(format!("{target}&since={old}"), "").await, (json!(true), json!(1)));
    let long = "A".repeat(9000);
    for bad in ["garbage", "%41%44", "AA", &long, &old[1..]] {
        assert_eq!(joined(target.clone(), bad).await.0, json!(false), "{bad:.20}");
    }
}

/// Drops at every point of a two-room join: whatever the last id is that came whole, no room's position is skipped with it.
#[tokio::test]
async fn a_two_room_join_may_be_cut_at_any_byte() {
    let hearth = Hearth::serve(&[]).await;
    let target = "/events?room=one&room=two&user=ann";
    let mut begin = Stream::open(hearth.http(), target).await;
    let mut joins = 0;
    let start = begin.find(|event| {
        joins += usize::from(event.tells("joined"));
        joins == 2
    });
    let start = start.await.id.expect("the last joined has a cursor");
    let mut bob = Client::connect(hearth.http(), "/ws?user=bob").await;
    for n in 0..6 {
        bob.publish(if n % 2 == 0 { "one" } else { "two" }, &format!("m{n}")).await;
    }
    begin.cut();
    // What comes of a whole return, to the byte.
    let mut socket = TcpStream::connect(hearth.http()).await.unwrap();
    let line = format!("Last-Event-ID: {start}");
    send_in_pieces(&mut socket, &[request(hearth.http(), target, &[&line]).as_bytes()]).await.unwrap();
    let mut bytes = Vec::new();
    while bytes.windows(7).filter(|seen| seen == b"\"seq\":3").count() < 2 || !bytes.ends_with(b"\n\n") {
        let read = within("all of it", socket.read_buf(&mut bytes)).await.unwrap();
        assert!(read > 0);
    }
    let body = bytes.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
    let mut tried = BTreeMap::new();
    for end in body..=bytes.len() {
        let mut reader = Reader::default();
        reader.take(&bytes[body..end]);
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        while let Some(event) = reader.pop() {
            if let (Some(seq), Value::String(room)) = (event.seq(), &event.data["room"]) {
                seen.entry(room.clone()).or_default().push(seq);
            }
        }
        let last = if reader.last_id.is_empty() { start.clone() } else { reader.last_id.clone() };
        tried.entry(last).or_insert(seen);
    }
    assert!(tried.len() > 3, "{} cursors", tried.len());
    for (last, mut seen) in tried {
        let mut stream = Stream::resume(hearth.http(), target, &last).await;
        let (mut joins, mut due) = (0, 0);
        while joins < 2 || due > 0 {
            let event = stream.event().await;
            if event.tells("joined") {
                assert_eq!(event.data["data"]["recovered"], true, "{event:?}");
                joins += 1;
                due += event.data["data"]["replayed"].as_u64().unwrap();
            }
            if let Some(seq) = event.seq() {
                due -= 1;
                seen.entry(event.data["room"].as_str().unwrap().to_owned()).or_default().push(seq);
            }
        }
        for room in ["one", "two"] {
            let mut seqs = seen.remove(room).unwrap_or_default();
            seqs.sort_unstable();
            seqs.dedup();
            assert_eq!(seqs, [1, 2, 3], "{room} behind {last}");
        }
    }
}

/// 23. Mistakes are refused by a status, which stops an `EventSource` for good; one forbidden room does not block another.
#[tokio::test]
async fn mistakes() {
    let hearth = Hearth::serve(&[]).await;
    let many: String = (0..33).map(|n| format!("room=r{n}&")).collect();
    for (target, status, code) in [
        ("/events", 400, "invalid_argument"),
        ("/events/%20", 400, "invalid_argument"),
        ("/events/room?user=%00", 400, "invalid_argument"),
        (&*format!("/events?{many}"), 400, "invalid_argument"),
        ("/events/~bob?user=ann", 403, "permission_denied"),
        ("/events?room=~bob&room=~eve&user=ann", 403, "permission_denied"),
    ] {
        let stream = Stream::open(hearth.http(), target).await;
        assert_eq!(stream.status, status, "{target:.30}");
        assert_eq!(stream.problem().await["code"], code, "{target:.30}");
    }
    let foreign = Stream::open_with(hearth.http(), "/events/room", &["Origin: https://evil.test"]).await;
    assert_eq!(foreign.status, 403);
    let posted = http::ask(hearth.http(), "POST", "/events/room", &["Content-Length: 0"]).await.unwrap();
    assert_eq!(posted.status, 405);
    let mut stream = Stream::open(hearth.http(), "/events?room=a&room=~bob&user=ann").await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = stream.find(|event| event.name == "error" || event.tells("joined")).await;
        seen.push((event.name, event.data["room"].clone()));
    }
    seen.sort_by_key(|(name, _)| name.clone());
    assert_eq!(seen, [("error".to_owned(), json!("~bob")), ("system".to_owned(), json!("a"))]);
}

/// However the request comes, the stream is the same: in one piece, in two, and on a connection that has served another page.
#[tokio::test]
async fn a_request_may_come_in_pieces_or_second() {
    let hearth = Hearth::serve(&[]).await;
    let text = request(hearth.http(), "/events/room?user=ann", &[]);
    let mut socket = TcpStream::connect(hearth.http()).await.unwrap();
    let (one, two) = text.as_bytes().split_at(20);
    send_in_pieces(&mut socket, &[one, two]).await.unwrap();
    let mut pieces = Stream::answered(socket).await;
    let mut socket = TcpStream::connect(hearth.http()).await.unwrap();
    let page = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", hearth.http());
    send_in_pieces(&mut socket, &[page.as_bytes()]).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") && !answer.ends_with(b"ok\n") {
        assert!(within("a page", socket.read_buf(&mut answer)).await.unwrap() > 0);
    }
    send_in_pieces(&mut socket, &[text.as_bytes()]).await.unwrap();
    let mut second = Stream::answered(socket).await;
    let mut bob = bob(&hearth).await;
    for stream in [&mut pieces, &mut second] {
        assert!(stream.find(|event| event.tells("joined")).await.id.is_some());
    }
    bob.publish("room", "m1").await;
    for stream in [&mut pieces, &mut second] {
        assert_eq!(stream.find(|event| event.name == "message").await.seq(), Some(1));
    }
}

/// The end of a stream is a vanished session; a drain says so, with a time to come back, and ends it.
#[tokio::test]
async fn streams_end() {
    let mut hearth = Hearth::serve(&["--presence-timeout", "1s"]).await;
    let mut watcher = Watcher::enter(hearth.http(), "room", "ben").await;
    let mut stream = Stream::open(hearth.http(), "/events/room?user=ann").await;
    watcher.until_shows("ann", true).await;
    stream.find(|event| event.tells("joined")).await;
    stream.cut();
    watcher.until_shows("ann", false).await;
    assert_eq!(watcher.view.told("ann"), ["join", "leave"]);
    let mut last = Stream::open(hearth.http(), "/events/room?user=eve").await;
    last.find(|event| event.tells("joined")).await;
    hearth.terminate();
    let told = last.rest().await;
    assert!(told.iter().any(|event| event.tells("draining")), "{told:?}");
    assert_eq!(last.reader.retries.len(), 2);
    assert_eq!(hearth.ended().await.code(), Some(0));
}

/// 22. A full edge tells an `EventSource` in band: it would never come back after a 503.
#[tokio::test]
async fn a_full_edge_says_so_in_band() {
    let hearth = Hearth::serve(&["--max-connections", "1"]).await;
    let _only = bob(&hearth).await;
    let mut stream = Stream::open(hearth.http(), "/events/room?user=ann").await;
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    let told = stream.rest().await;
    assert!(told.len() == 1 && told[0].tells("overloaded"), "{told:?}");
    assert!(stream.reader.retries[0] >= 5000);
    drop(_only);
    eventually("room again", async || {
        let stream = Stream::open(hearth.http(), "/events/room?user=ann").await;
        stream.reader.retries.first().is_none_or(|retry| *retry < 5000).then_some(())
    })
    .await;
}
