//! The link between an edge and a core breaks; browsers stay.
use hearth_proto::v1::PublishRequest;
use hearth_tests::{
    client::{Client, Incoming},
    eventually, grpc, heavy, http,
    observer::Observer,
    process::{Hearth, lasting_address},
    proxy::{Direction, Proxy},
    within,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{sync::watch, task::JoinSet};

/// A core, a proxy in front of it, and an edge that knows only the proxy.
async fn apart() -> (Hearth, Proxy, Hearth) {
    let core = Hearth::core(&[]).await;
    let proxy = Proxy::start(core.grpc()).await;
    let edge = Hearth::edge(proxy.address(), &[]).await;
    (core, proxy, edge)
}

/// How often an id stands in a room's history.
async fn count(core: &Hearth, room: &str, id: &str) -> usize {
    let mut rooms = grpc::rooms(core.grpc()).await;
    grpc::history(&mut rooms, room).await.iter().filter(|event| event.id == id).count()
}

/// Publishes so that the core takes it and the answer is lost; then the link breaks and comes back.
async fn lose_the_ack(core: &Hearth, proxy: &Proxy, client: &mut Client, frame: Value, content: &str) {
    proxy.stall(Direction::Down);
    client.send(frame).await;
    let mut rooms = grpc::rooms(core.grpc()).await;
    eventually("the event in the core", async || {
        let history = grpc::history(&mut rooms, "room").await;
        history.iter().any(|event| grpc::text_of(event).contains(content)).then_some(())
    })
    .await;
    proxy.cut();
    proxy.forward();
}

/// 9. The link is cut between a publish and its ack. The client gets one answer, its seq; sent again with the same id it
/// is still one event; and everybody hears it once.
#[tokio::test]
async fn an_ack_that_was_lost_with_the_link_still_comes() {
    let (core, proxy, edge) = apart().await;
    let (mut ann, joined) = Client::enter(edge.http(), "/ws/room?user=ann").await;
    let (mut ben, joined_too) = Client::enter(edge.http(), "/ws/room?user=ben").await;
    let mut observers = [Observer::new("ann"), Observer::new("ben")];
    for (observer, joined) in observers.iter_mut().zip([joined, joined_too]) {
        observer.frame(&json!({"type": "system", "room": "room", "data": joined}));
    }
    let frame = json!({"type": "text", "id": "k", "room": "room", "data": {"n": "once"}});
    lose_the_ack(&core, &proxy, &mut ann, frame.clone(), "once").await;
    let answer = ann.answer("k").await;
    assert_eq!((&answer["type"], &answer["data"]["seq"]), (&json!("ack"), &json!(1)), "{answer}");
    // It was really lost, and asked for again.
    let page = http::get(edge.http(), "/metrics", &[]).await.body;
    assert_eq!(http::metric(&page, "hearth_link_retried_publishes_total"), Some(1.0));
    let again = ann.ask(frame).await;
    assert_eq!(again["data"], json!({"status": "delivered", "seq": 1, "duplicate": true}));
    assert_eq!(ann.publish("room", "last").await, 2);
    for (client, observer) in [&mut ann, &mut ben].into_iter().zip(&mut observers) {
        while observer.last("room") < 2 {
            observer.frame(&client.next().await);
        }
        assert_eq!(observer.ids("room"), ["k", "last"]);
    }
    assert_eq!(count(&core, "room", "k").await, 1);
}

/// 9. Where the edge cannot know whether the event is there (it never saw the room's epoch), it says so or finds out; and
/// with the same id it is still one event.
#[tokio::test]
async fn an_unknown_outcome_is_named_and_resolved_by_the_id() {
    let (core, proxy, edge) = apart().await;
    let mut ann = Client::connect(edge.http(), "/ws?user=ann").await;
    let frame = json!({"type": "text", "id": "k", "room": "room", "data": {"n": "once"}});
    lose_the_ack(&core, &proxy, &mut ann, frame.clone(), "once").await;
    let answer = ann.answer("k").await;
    match answer["type"].as_str() {
        Some("ack") => assert_eq!(answer["data"]["seq"], 1, "{answer}"),
        _ => assert_eq!(
            (&answer["data"]["code"], &answer["room"]),
            (&json!("unavailable"), &json!("room")),
            "{answer}"
        ),
    }
    let again = ann.ask(frame).await;
    assert_eq!(again["data"], json!({"status": "delivered", "seq": 1, "duplicate": true}));
    assert_eq!(count(&core, "room", "k").await, 1);
}

/// 9. A publish without an id cannot be sent again safely: its outcome is told as unknown, never lost in silence, never
/// doubled.
#[tokio::test]
async fn a_publish_without_an_id_is_not_sent_twice() {
    let (core, proxy, edge) = apart().await;
    let (mut ann, _) = Client::enter(edge.http(), "/ws/room?user=ann").await;
    let frame = json!({"type": "text", "room": "room", "data": {"n": "bare"}});
    lose_the_ack(&core, &proxy, &mut ann, frame, "bare").await;
    let mut error = None;
    let mut heard = 0;
    while error.is_none() || heard == 0 {
        let frame = ann.next().await;
        match frame["type"].as_str() {
            Some("error") => error = Some(frame),
            Some("text") => heard += 1,
            _ => {}
        }
    }
    let error = error.unwrap();
    assert_eq!((&error["data"]["code"], error.get("id")), (&json!("unavailable"), None), "{error}");
    assert_eq!(ann.publish("room", "last").await, 2);
    assert_eq!(ann.next().await["id"], "last", "it came once");
}

/// 9. The same key raced from two sessions of a user, on two edges: one event, and both are acknowledged with its seq.
#[tokio::test]
async fn a_key_raced_over_two_edges_is_one_event() {
    let core = Hearth::core(&[]).await;
    let (left, right) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let mut here = Client::connect(left.http(), "/ws?user=ann").await;
    let mut there = Client::connect(right.http(), "/ws?user=ann").await;
    let (mut ben, _) = Client::enter(left.http(), "/ws/room?user=ben").await;
    for n in 1..=50u64 {
        let frame = json!({"type": "text", "id": format!("k{n}"), "room": "room", "data": {}});
        let (one, other) = tokio::join!(here.ask(frame.clone()), there.ask(frame));
        assert_eq!((&one["data"]["seq"], &other["data"]["seq"]), (&json!(n), &json!(n)));
        let duplicates = [&one, &other].into_iter().filter(|ack| ack["data"]["duplicate"] == true).count();
        assert_eq!(duplicates, 1, "{one} {other}");
        assert_eq!(ben.next().await["seq"], n);
    }
}

/// What is asked while the link is away waits for it, and then happens once.
#[tokio::test]
async fn commands_wait_for_a_link_that_comes_back() {
    let (core, proxy, edge) = apart().await;
    let (mut ann, _) = Client::enter(edge.http(), "/ws/room?user=ann").await;
    ann.publish("room", "before").await;
    assert_eq!(ann.next().await["id"], "before");
    proxy.refuse();
    proxy.cut();
    eventually("an edge that is not ready", async || {
        (http::get(edge.http(), "/readyz", &[]).await.status == 503).then_some(())
    })
    .await;
    assert_eq!(http::get(edge.http(), "/healthz", &[]).await.status, 200, "it lives all the same");
    // Someone else goes on meanwhile: that is the gap that is to be filled.
    let mut rooms = grpc::rooms(core.grpc()).await;
    grpc::publish(&mut rooms, "room", 2).await;
    for n in 3..=5 {
        ann.send(json!({"type": "text", "id": format!("m{n}"), "room": "room", "data": {"n": n}})).await;
    }
    ann.send(json!({"type": "join", "id": "j", "room": "other"})).await;
    ann.send(json!({"type": "history", "id": "h", "room": "room", "data": {"limit": 1}})).await;
    ann.send(json!({"type": "ping", "id": "p"})).await;
    assert_eq!(ann.next().await["id"], "p", "what needs no core needs no link");
    proxy.forward();
    let mut seqs = Vec::new();
    for n in 3..=5 {
        let answer = ann.answer(&format!("m{n}")).await;
        assert_eq!(answer["type"], "ack", "{answer}");
        seqs.push(answer["data"]["seq"].as_u64().unwrap());
    }
    assert_eq!(seqs, [3, 4, 5]);
    assert_eq!(ann.answer("j").await["data"]["event"], "joined");
    assert_eq!(ann.answer("h").await["type"], "history");
    let heard = ann.until(|frame| frame["seq"] == 5).await;
    let seqs: Vec<u64> = heard.iter().filter_map(|frame| frame["seq"].as_u64()).collect();
    assert_eq!(seqs, [2, 3, 4, 5]);
}

/// A core that stays away: who publishes is told that it is unavailable, in reasonable time, and nobody is thrown out.
#[tokio::test]
async fn a_core_that_stays_away_is_told() {
    let (mut core, _proxy, edge) = apart().await;
    let (mut ann, _) = Client::enter(edge.http(), "/ws/room?user=ann").await;
    core.kill();
    let answer = ann.ask(json!({"type": "text", "id": "m", "room": "room", "data": {}})).await;
    assert_eq!(
        (&answer["type"], &answer["data"]["code"]),
        (&json!("error"), &json!("unavailable")),
        "{answer}"
    );
    assert_eq!(ann.ask(json!({"type": "ping", "id": "p"})).await["type"], "ack");
}

const BROWSERS: u64 = 1_000;

/// One browser of a thousand: reads, checks, and is never disconnected. Says where it is after each frame.
async fn browser(
    http: SocketAddr,
    n: u64,
    seen: watch::Sender<(u64, u64)>,
    mut goal: watch::Receiver<u64>,
) -> u64 {
    let mut observer = Observer::new(format!("browser {n}"));
    let mut client = Client::connect(http, &format!("/ws/room?user=b{n}")).await;
    let mut resets = 0;
    while observer.last("room") != *goal.borrow_and_update() {
        let incoming = tokio::select! {
            incoming = client.receive() => incoming,
            _ = goal.changed() => continue,
        };
        match incoming {
            Incoming::Frame(frame) => {
                if frame["data"]["event"] == "joined" && frame["data"]["recovered"] == false {
                    resets += 1;
                }
                observer.frame(&frame);
            }
            other => panic!("browser {n} was disconnected: {other:?}"),
        }
        seen.send_replace((resets, observer.last("room")));
    }
    resets
}

struct Crowd {
    browsers: JoinSet<u64>,
    seen: Vec<watch::Receiver<(u64, u64)>>,
    goal: watch::Sender<u64>,
}

impl Crowd {
    async fn gather(core: &Hearth, edge: &Hearth) -> Crowd {
        let mut crowd =
            Crowd { browsers: JoinSet::new(), seen: Vec::new(), goal: watch::channel(u64::MAX).0 };
        for n in 0..BROWSERS {
            let (sender, receiver) = watch::channel((0, 0));
            crowd.seen.push(receiver);
            crowd.browsers.spawn(browser(edge.http(), n, sender, crowd.goal.subscribe()));
        }
        let mut rooms = grpc::rooms(core.grpc()).await;
        eventually("a thousand joins", async || {
            (grpc::sessions(&mut rooms, "room").await == BROWSERS).then_some(())
        })
        .await;
        crowd
    }

    /// Awaits that each has seen `seq` after so many resets.
    async fn all_at(&mut self, resets: u64, seq: u64) {
        for seen in &mut self.seen {
            let reached = seen.wait_for(|now| now.0 == resets && now.1 >= seq);
            within("what all have seen", reached).await.expect("the browser goes on");
        }
    }

    /// Awaits that each has seen `seq`, and gives how often each was told that something was lost.
    async fn end_at(self, seq: u64) -> Vec<u64> {
        self.goal.send_replace(seq);
        within("the end", self.browsers.join_all()).await
    }
}

/// 33. The core is killed under a thousand browsers and started again at the same address. None is disconnected; publishing
/// goes on; everybody is told that the memory's epoch is a new one, and hears every event of it in order.
#[tokio::test]
async fn a_core_dies_under_a_thousand_browsers() {
    let _turn = heavy().await;
    let mut core = Hearth::core(&["--grpc", &lasting_address()]).await;
    let edge = Hearth::edge(core.grpc(), &[]).await;
    let mut crowd = Crowd::gather(&core, &edge).await;
    let mut ann = Client::connect(edge.http(), "/ws?user=ann").await;
    for n in 1..=5u64 {
        assert_eq!(ann.publish("room", &format!("m{n}")).await, n);
    }
    crowd.all_at(0, 5).await;
    core.kill();
    core.restart().await;
    // What is published now may be the first that the new core hears, may come while it is being told who is in the room,
    // or may have an outcome that nobody knows.
    let mut published = 0;
    while published < 5 {
        let id = format!("new{published}");
        let answer = ann.ask(json!({"type": "text", "id": id, "room": "room", "data": {}})).await;
        match answer["type"].as_str() {
            Some("ack") => {
                published += 1;
                assert_eq!(answer["data"]["seq"], published, "seq counts anew: {answer}");
            }
            _ => assert_eq!(answer["data"]["code"], "unavailable", "{answer}"),
        }
    }
    crowd.all_at(1, 5).await;
    ann.publish("room", "last").await;
    let resets = crowd.end_at(6).await;
    assert!(resets.iter().all(|resets| *resets == 1), "told once each: {resets:?}");
    let mut rooms = grpc::rooms(core.grpc()).await;
    assert_eq!(grpc::history(&mut rooms, "room").await.len(), 6);
}

/// 33. Only the link is cut, three times, while events go on: nobody is disconnected, nobody is told of a loss, and nobody
/// misses anything.
#[tokio::test]
async fn the_link_is_cut_under_a_thousand_browsers() {
    let _turn = heavy().await;
    let (core, proxy, edge) = apart().await;
    let mut crowd = Crowd::gather(&core, &edge).await;
    let mut rooms = grpc::rooms(core.grpc()).await;
    let mut n = 0;
    for _ in 0..3 {
        let links = proxy.accepted();
        for _ in 0..3 {
            n += 1;
            grpc::publish(&mut rooms, "room", n).await;
        }
        proxy.refuse();
        proxy.cut();
        // These fall into the gap.
        for _ in 0..3 {
            n += 1;
            let request = PublishRequest {
                room: "room".into(),
                id: format!("gap{n}"),
                payload: grpc::json("{}"),
                ..Default::default()
            };
            assert_eq!(rooms.publish(request).await.unwrap().into_inner().position.unwrap().seq, n);
        }
        proxy.forward();
        crowd.all_at(0, n).await;
        assert!(proxy.accepted() > links, "it attached anew");
    }
    n += 1;
    grpc::publish(&mut rooms, "room", n).await;
    let resets = crowd.end_at(n).await;
    assert!(resets.iter().all(|resets| *resets == 0), "{resets:?}");
}

/// A link that breaks in the middle of a frame, again and again, a little later each time: each attempt is cut after a few
/// more bytes, until one is let through. Every attempt starts from a clean slate.
#[tokio::test]
async fn a_link_that_breaks_at_any_byte_heals() {
    let (core, proxy, edge) = apart().await;
    let mut observer = Observer::new("ann");
    let mut ann = Client::connect(edge.http(), "/ws/room?user=ann").await;
    observer.frame(&ann.next().await);
    let mut rooms = grpc::rooms(core.grpc()).await;
    let mut n = 0;
    for bytes in [1, 60, 150, 900] {
        proxy.cut_after(bytes);
        proxy.cut();
        for _ in 0..5 {
            n += 1;
            grpc::publish(&mut rooms, "room", n).await;
        }
        let links = proxy.accepted();
        eventually("another attempt", async || (proxy.accepted() > links).then_some(())).await;
        proxy.forward();
        while observer.last("room") < n {
            observer.frame(&ann.next().await);
        }
    }
    assert_eq!(ann.publish("room", "last").await, n + 1);
}
