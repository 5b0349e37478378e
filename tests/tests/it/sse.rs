//! Server-sent events: the same session as a WebSocket's, read only, and a cursor on everything that can be missed.
use hearth_tests::{
    client::Client,
    eventually, grpc, http,
    presence::Watcher,
    process::Hearth,
    sse::{Event, Reader, Stream, request, send_in_pieces},
    within,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    process::Command,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

async fn bob(hearth: &Hearth) -> Client {
    Client::enter(hearth.http(), "/ws/room?user=bob").await.0
}

/// Opens a stream of one room and takes what comes before its first message.
async fn enter(http: SocketAddr, target: &str) -> (Stream, Value) {
    let mut stream = Stream::open(http, target).await;
    assert_eq!(stream.status, 200, "{}", stream.head);
    let joined = stream.find(|event| event.tells("joined")).await;
    (stream, joined.data["data"].clone())
}

/// 8, 22. The answer to the letter: a status, headers that keep proxies from holding back or storing, when to come back, and the cursor
/// before any message.
#[tokio::test]
async fn a_stream_begins_with_all_that_a_client_needs() {
    let hearth = Hearth::serve(&["--heartbeat", "7s"]).await;
    let mut stream = Stream::open(hearth.http(), "/events/general?user=ann").await;
    let mut head: Vec<&str> = stream.head.trim_end().lines().collect();
    head.sort_unstable();
    assert_eq!(
        head,
        [
            "Cache-Control: no-store, no-transform",
            "Connection: close",
            "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
            "Content-Type: text/event-stream",
            "HTTP/1.1 200 OK",
            "Referrer-Policy: no-referrer",
            "X-Accel-Buffering: no",
            "X-Content-Type-Options: nosniff",
        ]
    );
    let mut welcome = stream.event().await;
    let session = welcome.data["data"].as_object_mut().unwrap().remove("session").unwrap();
    assert!(session.as_str().is_some_and(|id| id.len() >= 16), "a session's id cannot be guessed: {session}");
    let data = json!({"type": "system", "data": {
        "event": "welcome", "user": "ann", "heartbeat_ms": 7000, "max_message_bytes": 65536,
    }});
    assert_eq!((welcome.name.as_str(), welcome.id, welcome.data), ("system", None, data));

    let joined = stream.event().await;
    assert!(joined.tells("joined"), "{joined:?}");
    assert_eq!((&joined.data["room"], joined.data["data"].get("recovered")), (&json!("general"), None));
    assert_eq!(joined.id.as_deref(), joined.data["data"]["cursor"].as_str(), "the id is the cursor");
    assert_eq!(joined.id.as_deref(), Some(stream.last_id()), "and there is one before any message");

    let state = stream.event().await;
    assert_eq!((state.name.as_str(), &state.id), ("presence", &None), "{state:?}");
    assert_eq!(state.data["data"]["event"], "state");
    assert_eq!(state.data["data"]["online"][0]["user"], "ann");
    // Each line is a whole envelope.
    let body = String::from_utf8(stream.body).unwrap();
    assert_eq!(body.lines().filter(|line| line.starts_with("data: {")).count(), 3, "{body}");
    assert!(body.starts_with("retry: "), "{body}");
}

/// Clients that were cut at the same moment do not come back at the same moment.
#[tokio::test]
async fn when_to_come_back_is_said_once_and_differs() {
    let hearth = Hearth::serve(&[]).await;
    let mut seen = BTreeSet::new();
    for n in 0..20 {
        let (mut stream, _) = enter(hearth.http(), &format!("/events/general?user=u{n}")).await;
        stream.find(|event| event.name == "presence").await;
        assert_eq!(stream.reader.retries.len(), 1);
        seen.insert(stream.reader.retries[0]);
    }
    assert!(seen.iter().all(|ms| (1000..4000).contains(ms)) && seen.len() > 10, "{seen:?}");
}

/// A stream and a WebSocket in one room: equal envelopes, in the same order; the name of an event is its type, but for what people say.
#[tokio::test]
async fn a_stream_says_what_a_websocket_says() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::attend(hearth.http(), "/ws/general?user=ann").await;
    assert_eq!(ann.next().await["data"]["event"], "state");
    let mut stream = Stream::open(hearth.http(), "/events/general?user=eve").await;
    let state = stream.find(|event| event.name == "presence").await;
    assert_eq!(state.data["data"]["online"].as_array().unwrap().len(), 2);
    assert_eq!(ann.next().await["data"]["event"], "join");

    let mut ben = Client::connect(hearth.http(), "/ws?user=ben").await;
    ben.join("general", json!({})).await;
    // Who comes and goes at once is not told of, so each is awaited.
    let mut seen = stream.until(|event| event.data["data"]["event"] == "join").await;
    ben.publish("general", "first").await;
    let lines = json!({"content": "two\nlines, a carriage return \r, a separator \u{2028} and 🙂", "n": 1.5, "": null});
    ben.ask(json!({"type": "text", "id": "lines", "room": "general", "data": lines})).await;
    // Empty messages are messages, and one without an id has none in its envelope.
    ben.send(json!({"type": "text", "room": "general", "data": {}})).await;
    ben.ask(json!({"type": "typing", "id": "t", "room": "general", "data": {"active": true}})).await;
    ben.ask(json!({"type": "signal", "id": "s", "room": "general", "data": {"x": 1}})).await;
    ben.set_meta("general", json!({"status": "away"})).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    grpc::publish(&mut rooms, "general", 7).await;
    seen.extend(stream.until(|event| event.data["data"]["event"] == "update").await);
    ben.leave("general").await;
    seen.extend(stream.until(|event| event.data["data"]["event"] == "leave").await);
    let mut names = Vec::new();
    for event in &seen {
        assert_eq!(event.data, ann.next().await, "equal, and in the same order");
        let kind = event.data["type"].as_str().unwrap();
        assert_eq!(event.name, if kind == "text" { "message" } else { kind });
        assert_eq!(event.id.is_some(), event.seq().is_some(), "an id is on what has a seq: {event:?}");
        names.push(event.name.as_str());
    }
    for name in ["message", "typing", "signal", "presence"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(seen.iter().filter(|event| event.name == "message").count(), 4);
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

/// The header is what an `EventSource` knows, the query what its page knew when it made it: the header is the newer one. An empty
/// header is none.
#[tokio::test]
async fn the_header_beats_the_query() {
    let hearth = Hearth::serve(&[]).await;
    let (mut stream, joined) = enter(hearth.http(), "/events/room?user=ann").await;
    let mut ben = Client::connect(hearth.http(), "/ws?user=ben").await;
    let mut ids = vec![joined["cursor"].as_str().unwrap().to_owned()];
    for n in 1..=3 {
        ben.publish("room", &n.to_string()).await;
        ids.push(stream.find(|event| event.seq() == Some(n)).await.id.unwrap());
    }
    let back = async |query: &str, header: Option<&str>| {
        let header = header.map(|id| format!("Last-Event-ID: {id}"));
        let lines: Vec<&str> = header.iter().map(String::as_str).collect();
        let target = format!("/events/room?user=ann&since={query}");
        let mut stream = Stream::open_with(hearth.http(), &target, &lines).await;
        let joined = stream.find(|event| event.tells("joined")).await.data;
        (joined["data"]["recovered"].clone(), joined["data"]["replayed"].as_u64().unwrap())
    };
    assert_eq!(back(&ids[0], None).await, (json!(true), 3));
    assert_eq!(back(&ids[0], Some(&ids[2])).await, (json!(true), 1));
    assert_eq!(back("garbage", Some(&ids[3])).await, (json!(true), 0));
    assert_eq!(back(&ids[3], Some("garbage")).await, (json!(false), 0));
    assert_eq!(back(&ids[1], Some("")).await, (json!(true), 2));
}

/// 7, 24. Whatever stands where a cursor should stand: a stream, which says that it does not know. An `EventSource` would never come
/// back after a 400, and a 500 is nobody's due.
#[tokio::test]
async fn an_unreadable_id_is_not_recovered_and_no_error() {
    let hearth = Hearth::serve(&[]).await;
    let (_stream, joined) = enter(hearth.http(), "/events/room?user=ann").await;
    let good = joined["cursor"].as_str().unwrap();
    let (padded, longer, encoded) =
        (format!("{good}=="), format!("{good}AAAA"), format!("%41{}", &good[1..]));
    let (oversized, quoted) = ("A".repeat(9000), format!("\"{good}\""));
    // The last ones are a version that is none, and another system's idea of an id.
    let garbage = [
        "x",
        "0",
        "%",
        "%ff%fe",
        "hello world",
        "{}",
        "é",
        "AgAAAA",
        "1711000000-42",
        "urn:uuid:0",
        &good[..good.len() - 3],
        &padded,
        &longer,
        &encoded,
        &oversized,
        &quoted,
    ];
    for id in garbage {
        let mut stream =
            Stream::open_with(hearth.http(), "/events/room?user=ann", &[&format!("Last-Event-ID: {id}")])
                .await;
        assert_eq!(stream.status, 200, "{id}: {}", stream.head);
        let joined = stream.find(|event| event.tells("joined")).await;
        assert_eq!(joined.data["data"]["recovered"], false, "{id}");
        // What it gets instead is good.
        let mut again = Stream::resume(hearth.http(), "/events/room?user=ann", stream.last_id()).await;
        let joined = again.find(|event| event.tells("joined")).await;
        assert_eq!(joined.data["data"]["recovered"], true, "{id}");
    }
    for since in ["x", "%", "%ff%fe", "hello%20world", "%25", "AgAAAA", &oversized] {
        let (_, joined) = enter(hearth.http(), &format!("/events/room?user=ann&since={since}")).await;
        assert_eq!(joined["recovered"], false, "{since}");
    }
    // One that is nobody's text at all, and one for all of several rooms.
    let socket = TcpStream::connect(hearth.http()).await.unwrap();
    let text = request(hearth.http(), "/events?room=a&room=b&user=ann", &["Last-Event-ID: \u{fffd}"]);
    let mut stream = Stream::ask(socket, &text).await;
    for _ in 0..2 {
        let joined = stream.find(|event| event.tells("joined")).await;
        assert_eq!(joined.data["data"]["recovered"], false, "{joined:?}");
    }
}

/// Several rooms on one stream: ids from the last `joined` on, each of all rooms; ephemeral ones have none.
#[tokio::test]
async fn several_rooms_have_one_id() {
    let hearth = Hearth::serve(&[]).await;
    let target = "/events?room=a&room=b&room=c:1&room=a&user=ann";
    let mut stream = Stream::open(hearth.http(), target).await;
    let mut joined = Vec::new();
    while joined.len() < 3 {
        joined.push(stream.find(|event| event.tells("joined")).await);
    }
    let with_ids: Vec<bool> = joined.iter().map(|joined| joined.id.is_some()).collect();
    assert_eq!(with_ids, [false, false, true], "the last one completes it");
    let mut ben = Client::connect(hearth.http(), "/ws?user=ben").await;
    for (room, id) in [("a", "1"), ("b", "2"), ("c:1", "3"), ("a", "4")] {
        ben.publish(room, id).await;
    }
    ben.ask(json!({"type": "signal", "id": "s", "room": "b", "data": {}})).await;
    let seen = stream.until(|event| event.name == "signal").await;
    for event in &seen {
        assert_eq!(event.id.is_some(), event.seq().is_some(), "{event:?}");
    }
    assert_eq!(seen.iter().filter(|event| event.name == "message").count(), 4);
    let id = stream.last_id().to_owned();
    stream.cut();
    for (room, id) in [("a", "5"), ("b", "6"), ("b", "7")] {
        ben.publish(room, id).await;
    }
    // By either way of naming them, and in another order.
    for target in [target, "/events/c:1?room=b&room=a&user=ann"] {
        let mut stream = Stream::resume(hearth.http(), target, &id).await;
        let mut replayed = BTreeMap::new();
        for _ in 0..3 {
            let joined = stream.find(|event| event.tells("joined")).await.data;
            assert_eq!(joined["data"]["recovered"], true, "{joined}");
            let room = joined["room"].as_str().unwrap().to_owned();
            replayed.insert(room, joined["data"]["replayed"].as_u64().unwrap());
        }
        assert_eq!(replayed, BTreeMap::from([("a".into(), 1), ("b".into(), 2), ("c:1".into(), 0)]));
    }
    // A room that is no longer asked for is no longer carried, and a new one is joined afresh.
    let mut stream = Stream::resume(hearth.http(), "/events?room=a&room=d&user=ann", &id).await;
    let first = stream.find(|event| event.tells("joined")).await.data;
    let second = stream.find(|event| event.tells("joined")).await.data;
    let recovered =
        [&first, &second].map(|joined| (joined["room"].clone(), joined["data"].get("recovered").cloned()));
    assert!(recovered.contains(&(json!("a"), Some(json!(true)))), "{recovered:?}");
    assert!(recovered.contains(&(json!("d"), None)), "{recovered:?}");
}

/// What a reader of `bytes` has seen: seqs by room, and the id that it would bring back.
fn seen_in(bytes: &[u8]) -> (BTreeMap<String, Vec<u64>>, String) {
    let mut reader = Reader::default();
    reader.take(bytes);
    let mut seqs: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    while let Some(event) = reader.pop() {
        if let Some(seq) = event.seq() {
            seqs.entry(event.data["room"].as_str().unwrap().to_owned()).or_default().push(seq);
        }
    }
    (seqs, reader.last_id)
}

/// A join of two rooms that replays both, and goes on live, is cut at every one of its bytes. Whatever the client brings back then, no
/// event of either room is skipped, and beyond what came before there was an id none is doubled.
#[tokio::test]
async fn a_two_room_join_cut_at_every_byte() {
    const MISSED: u64 = 30;
    let hearth = Hearth::serve(&["--rate-limit", "0"]).await;
    let (http, target) = (hearth.http(), "/events?room=a&room=b&user=ann");
    let mut first = Stream::open(http, target).await;
    while first.last_id().is_empty() {
        first.event().await;
    }
    let start = first.last_id().to_owned();
    first.cut();
    let mut ben = Client::connect(http, "/ws?user=ben").await;
    for n in 1..=MISSED {
        for room in ["a", "b"] {
            ben.publish(room, &format!("{room}{n}")).await;
        }
    }
    let last = MISSED + 10;
    let complete = |seqs: &BTreeMap<String, Vec<u64>>| {
        ["a", "b"].iter().all(|room| seqs.get(*room).is_some_and(|seqs| seqs.contains(&last)))
    };
    let mut whole = Stream::resume(http, target, &start).await;
    let (mut joins, mut live) = (0, false);
    while !complete(&seen_in(&whole.body).0) {
        joins += u64::from(whole.event().await.tells("joined"));
        if joins == 2 && !live {
            live = true;
            for n in MISSED + 1..=last {
                for room in ["b", "a"] {
                    ben.publish(room, &format!("{room}{n}")).await;
                }
            }
        }
    }
    let whole = whole.body;
    // What follows an id is the same each time: nothing is published any more.
    let mut after: HashMap<String, BTreeMap<String, Vec<u64>>> = HashMap::new();
    for at in 0..=whole.len() {
        let (before, id) = seen_in(&whole[..at]);
        let id = if id.is_empty() { start.clone() } else { id };
        if !after.contains_key(&id) {
            let mut back = Stream::resume(http, target, &id).await;
            let mut left = BTreeMap::new();
            while left.len() < 2 {
                let joined = back.find(|event| event.tells("joined")).await.data;
                assert_eq!(joined["data"]["recovered"], true, "{joined}");
                let room = joined["room"].as_str().unwrap().to_owned();
                left.insert(room, joined["data"]["replayed"].as_u64().unwrap());
            }
            let count = |body: &[u8]| seen_in(body).0.values().map(Vec::len).sum::<usize>() as u64;
            while count(&back.body) < left.values().sum() {
                back.event().await;
            }
            after.insert(id.clone(), seen_in(&back.body).0);
            back.cut();
        }
        for room in ["a", "b"] {
            let mut seqs: Vec<u64> = [&before, &after[&id]]
                .into_iter()
                .filter_map(|seqs| seqs.get(room))
                .flatten()
                .copied()
                .collect();
            let all = seqs.len() as u64;
            seqs.sort_unstable();
            seqs.dedup();
            assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "{room}, cut at {at} of {}", whole.len());
            if id != start {
                assert_eq!(all, last, "{room}, cut at {at}: nothing is doubled once there is an id");
            }
        }
    }
    assert!(after.len() > 20, "only {} ids in {} bytes", after.len(), whole.len());
    println!("{} cuts, {} ids", whole.len() + 1, after.len());
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
    // A page of the same origin need not name it, whatever the edge's name.
    let named = request(hearth.http(), "/events/room", &[]).replace("Host: 127.0.0.1", "Host: edge.test");
    let socket = TcpStream::connect(hearth.http()).await.unwrap();
    assert_eq!(Stream::ask(socket, &named).await.status, 200);
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

/// 8, 23. Whichever of the rooms is refused, and in whatever order the answers come: the others have ids, and the first is there before any
/// message.
#[tokio::test]
async fn a_refused_room_holds_back_no_id() {
    let hearth = Hearth::serve(&["--max-rooms-per-session", "2"]).await;
    let mut ben = Client::connect(hearth.http(), "/ws?user=ben").await;
    for (rooms, refused, code) in [
        ("room=a&room=~bob", "~bob", "permission_denied"),
        ("room=~bob&room=a", "~bob", "permission_denied"),
        ("room=a&room=b&room=c", "c", "resource_exhausted"),
    ] {
        let target = format!("/events?{rooms}&user=ann");
        let mut stream = Stream::open(hearth.http(), &target).await;
        assert_eq!(stream.status, 200);
        let (mut errors, mut joined) = (Vec::new(), 0);
        while errors.is_empty() || joined + errors.len() < rooms.split('&').count() {
            let event = stream.find(|event| event.name == "error" || event.tells("joined")).await;
            if event.name == "error" {
                errors.push((event.data["room"].clone(), event.data["data"]["code"].clone()));
            } else {
                joined += 1;
            }
        }
        assert_eq!(errors, [(json!(refused), json!(code))], "{rooms}");
        let id = stream.last_id().to_owned();
        assert!(!id.is_empty(), "{rooms}: no id before the first message");
        ben.publish("a", rooms).await;
        let message = stream.find(|event| event.name == "message").await;
        assert!(message.id.is_some(), "{rooms}: {message:?}");
        stream.cut();
        let mut stream = Stream::resume(hearth.http(), &target, &id).await;
        let message = stream.find(|event| event.name == "message").await;
        assert_eq!(message.data["room"], "a", "{rooms}");
    }
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

/// HTTP/2 in clear by prior knowledge: the same stream, on a connection that others share, up to the end.
#[tokio::test]
async fn http2_has_the_same_stream() {
    if !Command::new("curl")
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2"))
    {
        println!("skipped: no curl that speaks HTTP/2");
        return;
    }
    let mut hearth = Hearth::serve(&[]).await;
    let mut bob = bob(&hearth).await;
    let url = format!("http://{}/events/room?user=ann", hearth.http());
    let curl = tokio::task::spawn_blocking(move || {
        let flags = ["-sS", "-N", "--http2-prior-knowledge", "--max-time", "30", "-D", "-"];
        Command::new("curl").args(flags).arg(url).output().unwrap()
    });
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    eventually("the stream", async || (grpc::sessions(&mut rooms, "room").await == 2).then_some(())).await;
    let mut seen = Vec::new();
    for id in ["1", "2", "3"] {
        bob.publish("room", id).await;
        seen.push(bob.find(|frame| frame["type"] == "text").await);
    }
    hearth.terminate();
    let output = within("curl", curl).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut head: Vec<&str> = head.lines().map(str::trim).filter(|line| !line.starts_with("date:")).collect();
    head.sort_unstable();
    let expected = [
        "HTTP/2 200",
        "cache-control: no-store, no-transform",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
        "content-type: text/event-stream",
        "referrer-policy: no-referrer",
        "vary: origin",
        "x-accel-buffering: no",
        "x-content-type-options: nosniff",
    ];
    assert_eq!(head, expected);
    let mut reader = Reader::default();
    reader.take(body.as_bytes());
    let events: Vec<Event> = std::iter::from_fn(|| reader.pop()).collect();
    assert!(events[0].tells("welcome") && events[1].tells("joined") && events[1].id.is_some(), "{events:?}");
    let messages: Vec<&Event> = events.iter().filter(|event| event.name == "message").collect();
    assert_eq!(messages.iter().map(|event| event.data.clone()).collect::<Vec<_>>(), seen);
    assert!(messages.iter().all(|event| event.id.is_some()));
    assert!(events.last().unwrap().tells("draining"), "{events:?}");
    assert_eq!(reader.retries.len(), 2, "and when to come back");
    assert_eq!(hearth.ended().await.code(), Some(0));
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

/// The same to an address that has its share. A page of another origin must be able to read it, or its `EventSource` would give up.
#[tokio::test]
async fn too_many_of_one_address_is_said_in_band_to_pages_of_other_origins_too() {
    let hearth = Hearth::serve(&["--max-connections-per-address", "1"]).await;
    let _only = bob(&hearth).await;
    let origin = "http://localhost:5173";
    let line = format!("Origin: {origin}");
    let mut stream = Stream::open_with(hearth.http(), "/events/room?user=ann", &[&line]).await;
    assert_eq!(
        (stream.status, stream.header("access-control-allow-origin")),
        (200, Some(origin)),
        "{}",
        stream.head
    );
    let told = stream.rest().await;
    assert!(told.len() == 1 && told[0].tells("overloaded"), "{told:?}");
    let foreign = Stream::open_with(hearth.http(), "/events/room", &["Origin: https://evil.test"]).await;
    assert_eq!(foreign.header("access-control-allow-origin"), None, "{}", foreign.head);
}
