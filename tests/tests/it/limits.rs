//! Limits: what is too much gets its exact answer, and silence is an answer too.
use hearth_tests::{
    client::{Client, Incoming, request},
    eventually,
    grpc::{self, Session},
    http,
    process::Hearth,
    raw::{PING, PONG, Raw, TEXT},
    within,
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// 28. A peer that answers no ping is gone after two heartbeats; one that answers, or says anything else, stays.
#[tokio::test]
async fn a_peer_without_a_pulse_is_gone() {
    let hearth = Hearth::serve(&["--heartbeat", "300ms"]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut silent = Raw::connect(hearth.http(), "/ws/room?user=silent").await;
    let mut answers = Raw::connect(hearth.http(), "/ws/room?user=answers").await;
    let mut talks = Raw::connect(hearth.http(), "/ws/room?user=talks").await;
    eventually("three sessions", async || (grpc::sessions(&mut rooms, "room").await == 3).then_some(()))
        .await;
    let start = Instant::now();
    let mut pings = 0;
    while pings < 6 {
        let frame = answers.next().await.expect("whoever answers stays");
        if frame.opcode == PING {
            pings += 1;
            answers.send(&Raw::frame(0x80 | PONG, &frame.payload)).await;
            talks.send_text(r#"{"type":"ping"}"#).await;
        }
    }
    assert!(start.elapsed() >= Duration::from_millis(1400), "six pings came within {:?}", start.elapsed());
    eventually("two sessions", async || (grpc::sessions(&mut rooms, "room").await == 2).then_some(())).await;
    // To the silent one the connection has ended by now, after a ping or two.
    let mut heard = Vec::new();
    while let Some(frame) = silent.next().await {
        heard.push(frame.opcode);
    }
    let pings = heard.iter().filter(|opcode| **opcode == PING).count();
    assert!((1..=2).contains(&pings), "{heard:?}");
    talks.send_text(r#"{"type":"ping","id":"last"}"#).await;
    loop {
        let frame = talks.next().await.expect("whoever talks stays");
        if frame.opcode == TEXT && frame.text().contains("last") {
            break;
        }
    }
}

/// 28. Whoever never finishes the head of a request holds a connection for a while, but not for good; and one that says
/// nothing at all likewise. Meanwhile others are served.
#[tokio::test]
async fn a_slowloris_is_gone() {
    let hearth = Hearth::serve(&[]).await;
    let mut half = TcpStream::connect(hearth.http()).await.unwrap();
    half.write_all(b"GET /ws/room HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let mut mute = TcpStream::connect(hearth.http()).await.unwrap();
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    ann.publish("room", "1").await;
    let drips = async {
        let mut rest = Vec::new();
        // A byte a second keeps no connection alive.
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                read = half.read_buf(&mut rest) => if !matches!(read, Ok(1..)) { return },
                _ = clock.tick() => if half.write_all(b"x").await.is_err() { return },
            }
        }
    };
    // At the end there may be a 408 before it, or a reset.
    let stays_mute = async { mute.read_to_end(&mut Vec::new()).await };
    let (_, _) = within("the end of both", async { tokio::join!(drips, stays_mute) }).await;
    ann.publish("room", "2").await;
}

/// 28. The 101st room is refused, and the first hundred are as they were.
#[tokio::test]
async fn the_hundred_and_first_room_is_refused() {
    let hearth = Hearth::serve(&[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    for n in 1..=100 {
        ann.join(&format!("room{n}"), json!({})).await;
    }
    let join = |n: u32| json!({"type": "join", "id": "j", "room": format!("room{n}")});
    let refused = ann.ask(join(101)).await;
    assert_eq!((&refused["type"], &refused["room"]), (&json!("error"), &json!("room101")));
    assert_eq!(refused["data"]["code"], "resource_exhausted", "{refused}");
    assert_eq!(ann.ask(join(7)).await["data"]["event"], "joined", "a joined room is not one more");
    ann.publish("room100", "1").await;
    assert_eq!(ann.next().await["room"], "room100");
    ann.leave("room1").await;
    assert_eq!(ann.ask(join(101)).await["data"]["event"], "joined");
}

/// 28. The limit holds at the gRPC door as well.
#[tokio::test]
async fn a_service_has_a_limit_of_rooms_too() {
    use hearth_proto::v1::{Join, connect_request::Command, connect_response::Frame};
    let hearth = Hearth::serve(&["--max-rooms-per-session", "2"]).await;
    let mut session = Session::connect(hearth.grpc(), "svc").await;
    session.join("a", None).await;
    session.join("b", None).await;
    session.send("c", Command::Join(Join { room: "c".into(), ..Default::default() })).await;
    match session.answer("c").await {
        Frame::Error(error) => {
            assert_eq!((error.code, error.room.as_str()), (tonic::Code::ResourceExhausted as i32, "c"));
        }
        other => panic!("{other:?}"),
    }
}

/// 28. A flood is answered `resource_exhausted`, with the time after which to try again; whoever goes on a hundred times
/// within ten seconds is closed with 4004.
#[tokio::test]
async fn a_flood_is_refused_and_then_cut() {
    let hearth = Hearth::serve(&["--rate-limit", "10", "--rate-burst", "20"]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/room?user=ben").await;
    for n in 0..200 {
        // One write for all, so that the close cannot come in between.
        if let Err(error) = try_send(&mut ann, n).await {
            assert!(n > 100, "frame {n}: {error}");
            break;
        }
    }
    let (mut acks, mut refusals) = (0, 0);
    let closed = loop {
        match ann.receive().await {
            Incoming::Frame(frame) if frame["type"] == "ack" => acks += 1,
            Incoming::Frame(frame) => {
                assert_eq!((&frame["type"], &frame["room"]), (&json!("error"), &json!("room")), "{frame}");
                assert_eq!(frame["data"]["code"], "resource_exhausted", "{frame}");
                assert!(frame["data"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{frame}");
                assert!(frame["id"].is_string(), "{frame}");
                refusals += 1;
            }
            Incoming::Closed(code, reason) => break (code, reason),
            Incoming::Broken(error) => panic!("{error} after {acks} acks and {refusals} refusals"),
        }
    };
    assert_eq!(closed, (4004, "rate_limited".into()));
    assert!((99..=100).contains(&refusals), "{refusals} refusals");
    // What was within the limit happened, though the close may have overtaken some of the acks.
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let published = eventually("what was taken", async || {
        let published = grpc::history(&mut rooms, "room").await.len();
        (published >= 20).then_some(published)
    })
    .await;
    assert!(acks <= published && published < 60, "{acks} acks, {published} events");
    // Nobody else is limited by it.
    ben.publish("room", "ben's").await;
}

async fn try_send(client: &mut Client, n: u32) -> Result<(), String> {
    client.try_send(&json!({"type": "text", "id": format!("f{n}"), "room": "room", "data": {}})).await
}

/// Pauses refill the bucket: whoever waits as long as it was told is served.
#[tokio::test]
async fn a_refusal_says_when_to_try_again() {
    let hearth = Hearth::serve(&["--rate-limit", "20", "--rate-burst", "5"]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let mut refused = None;
    for n in 0..20 {
        let answer = ann.ask(json!({"type": "text", "id": n.to_string(), "room": "room", "data": {}})).await;
        if answer["type"] == "error" {
            refused = answer["data"]["retry_after_ms"].as_u64();
            break;
        }
    }
    let wait = refused.expect("twenty at once are more than five and what a moment brings");
    assert!((1..=1000).contains(&wait), "{wait} ms");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    ann.publish("room", "later").await;
}

/// More connections than the edge takes are told to come later; those who are there stay, and a place that is left is
/// free again.
#[tokio::test]
async fn an_edge_that_is_full_says_so() {
    let hearth = Hearth::serve(&["--max-connections", "2"]).await;
    let first = Client::connect(hearth.http(), "/ws?user=a").await;
    let mut second = Client::connect(hearth.http(), "/ws?user=b").await;
    let refused = http::get(hearth.http(), "/ws?user=c", &[]).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    second.publish("room", "1").await;
    first.close().await;
    eventually("a free place", async || {
        let stream = TcpStream::connect(hearth.http()).await.ok()?;
        Client::shake(stream, request(hearth.http(), "/ws?user=d")).await.ok()
    })
    .await;
}
