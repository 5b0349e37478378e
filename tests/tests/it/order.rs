//! Exactly once, and in order: with publishers that race, and subscribers that come and go.
use hearth_proto::v1::{connect_response, watch_response};
use hearth_tests::{
    client::Client,
    eventually,
    grpc::{self, Session, Watch},
    observer::Observer,
    process::Hearth,
    within,
};
use serde_json::json;
use std::net::SocketAddr;
use tokio::task::JoinSet;

const PUBLISHERS: u64 = 8;
const EACH: u64 = 100;
const ALL: u64 = PUBLISHERS * EACH;

/// Where a subscriber can go.
#[derive(Clone)]
struct Doors {
    http: Vec<SocketAddr>,
    grpc: SocketAddr,
}

/// Half of the publishers are browsers, half services. Each has a few publishes on the way at once, so that they race.
async fn publish_a_hundred(doors: Doors, publisher: u64) -> Vec<u64> {
    let ids: Vec<String> = (0..EACH).map(|n| format!("{publisher}/{n}")).collect();
    let mut seqs = Vec::new();
    if publisher.is_multiple_of(2) {
        let http = doors.http[publisher as usize / 2 % doors.http.len()];
        let mut client = Client::connect(http, &format!("/ws?user=p{publisher}")).await;
        for batch in ids.chunks(5) {
            for id in batch {
                client.send(json!({"type": "text", "id": id, "room": "race", "data": {"n": id}})).await;
            }
            for id in batch {
                seqs.push(client.answer(id).await["data"]["seq"].as_u64().unwrap());
            }
        }
        client.close().await;
    } else {
        let mut session = Session::connect(doors.grpc, &format!("p{publisher}")).await;
        for batch in ids.chunks(5) {
            for id in batch {
                session.send(id, grpc::text("race", r#"{"n":1}"#)).await;
            }
            for id in batch {
                match session.answer(id).await {
                    connect_response::Frame::Ack(ack) => seqs.push(ack.position.unwrap().seq),
                    other => panic!("{other:?} instead of an ack"),
                }
            }
        }
    }
    seqs
}

async fn stays_by_websocket(http: SocketAddr, name: String) -> Vec<String> {
    let mut observer = Observer::new(&name);
    let mut client = Client::connect(http, &format!("/ws/race?user={name}")).await;
    while observer.last("race") < ALL {
        observer.frame(&client.next().await);
    }
    observer.ids("race").to_vec()
}

async fn stays_by_connect(grpc: SocketAddr) -> Vec<String> {
    let mut observer = Observer::new("connect");
    let mut session = Session::connect(grpc, "connect").await;
    observer.joined_by_grpc(&session.join("race", None).await);
    while observer.last("race") < ALL {
        observer.event_by_grpc(&session.event().await);
    }
    observer.ids("race").to_vec()
}

/// Comes, reads a little, goes without a word or with one, and comes back with `since`; wherever it goes.
async fn comes_and_goes(doors: Doors, name: String, patience: u64) -> Vec<String> {
    let mut observer = Observer::new(&name);
    let mut client = Client::connect(doors.http[0], &format!("/ws/race?user={name}")).await;
    let mut turn = 0;
    while observer.last("race") < ALL {
        let goal = (observer.last("race") + patience).min(ALL);
        while observer.last("race") < goal {
            observer.frame(&client.next().await);
        }
        turn += 1;
        let since = json!({"since": observer.since("race")});
        match turn % 3 {
            // Leaves and joins in one breath; what is on the way between is not for this join.
            0 => {
                client.send(json!({"type": "leave", "id": "l", "room": "race"})).await;
                loop {
                    let frame = client.next().await;
                    if frame["type"] == "ack" {
                        break;
                    }
                    observer.frame(&frame);
                }
                let since = json!({"since": observer.since("race")});
                client.send(json!({"type": "join", "id": "j", "room": "race", "data": since})).await;
            }
            1 => {
                client.cut();
                let http = doors.http[turn % doors.http.len()];
                client = Client::connect(http, &format!("/ws?user={name}")).await;
                client.send(json!({"type": "join", "id": "j", "room": "race", "data": since})).await;
            }
            _ => {
                client.close().await;
                client = Client::connect(doors.http[0], &format!("/ws?user={name}")).await;
                client.send(json!({"type": "join", "id": "j", "room": "race", "data": since})).await;
            }
        }
    }
    observer.ids("race").to_vec()
}

async fn watches_again_and_again(grpc: SocketAddr) -> Vec<String> {
    let mut observer = Observer::new("watch");
    let (mut watch, joined) = Watch::start(grpc, "race", None).await;
    observer.joined_by_grpc(&joined);
    while observer.last("race") < ALL {
        let goal = (observer.last("race") + 90).min(ALL);
        while observer.last("race") < goal {
            match watch.next().await {
                watch_response::Frame::Event(event) => observer.event_by_grpc(&event),
                watch_response::Frame::Joined(joined) => panic!("unasked: {joined:?}"),
            }
        }
        let joined;
        (watch, joined) = Watch::start(grpc, "race", Some(observer.position("race"))).await;
        assert_eq!(joined.recovered, Some(true));
        observer.joined_by_grpc(&joined);
    }
    observer.ids("race").to_vec()
}

async fn racing_publishers(doors: Doors) {
    let mut rooms = grpc::rooms(doors.grpc).await;
    let mut observers = JoinSet::new();
    for (n, http) in doors.http.iter().enumerate() {
        observers.spawn(stays_by_websocket(*http, format!("stays{n}")));
        observers.spawn(stays_by_websocket(*http, format!("stays{n}too")));
    }
    observers.spawn(stays_by_connect(doors.grpc));
    observers.spawn(watches_again_and_again(doors.grpc));
    for patience in [3, 17, 60] {
        observers.spawn(comes_and_goes(doors.clone(), format!("patience{patience}"), patience));
    }
    // All are there before the first word, so that all see everything.
    let all = observers.len() as u64;
    eventually("everybody's join", async || (grpc::sessions(&mut rooms, "race").await == all).then_some(()))
        .await;

    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        publishers.spawn(publish_a_hundred(doors.clone(), publisher));
    }
    let mut acknowledged = Vec::new();
    for seqs in publishers.join_all().await {
        assert!(seqs.is_sorted(), "a publisher's own order is kept: {seqs:?}");
        acknowledged.extend(seqs);
    }
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, (1..=ALL).collect::<Vec<_>>());
    let seen = observers.join_all().await;
    for ids in &seen {
        assert_eq!(ids.len() as u64, ALL);
        assert!(*ids == seen[0], "two observers saw another order");
    }
}

/// 1. Eight publishers, a hundred messages each, constant joins with `since`: every observer sees 1 … 800.
#[tokio::test]
async fn racing_publishers_in_one_process() {
    let hearth = Hearth::serve(&["--rate-limit", "0"]).await;
    racing_publishers(Doors { http: vec![hearth.http()], grpc: hearth.grpc() }).await;
}

/// 1. The same with a core and two edges as processes of their own.
#[tokio::test]
async fn racing_publishers_over_two_edges() {
    let core = Hearth::core(&[]).await;
    let (left, right) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    racing_publishers(Doors { http: vec![left.http(), right.http()], grpc: core.grpc() }).await;
}

/// 3. What is published while a join is under way is in the replay or comes live, never both, never neither. Forty joins,
/// by `since`, by `history` and by gRPC, fall into a steady stream of events.
#[tokio::test]
async fn a_join_in_the_middle_of_a_stream_has_no_seam() {
    let hearth = Hearth::serve(&["--rate-limit", "0"]).await;
    let (http, grpc) = (hearth.http(), hearth.grpc());
    let (mut ann, first) = Client::enter(http, "/ws/seam?user=ann").await;
    let epoch = first["epoch"].as_str().unwrap().to_owned();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let publisher = tokio::spawn(async move {
        let mut n = 0;
        while !*stopped.borrow() {
            n += 1;
            assert_eq!(ann.publish("seam", &format!("m{n}")).await, n);
        }
        n
    });
    let mut joins = JoinSet::new();
    for n in 0..40u64 {
        let epoch = epoch.clone();
        joins.spawn(async move {
            let mut observer = Observer::new(format!("joiner {n}"));
            if n % 4 == 3 {
                let (mut watch, joined) = Watch::start(grpc, "seam", Some(position(&epoch, 0))).await;
                assert_eq!(
                    (joined.recovered, joined.replayed),
                    (Some(true), joined.position.as_ref().unwrap().seq)
                );
                observer.joined_by_grpc(&joined);
                for _ in 0..joined.replayed + 20 {
                    observer.event_by_grpc(&watch.event().await);
                }
                return;
            }
            let data = if n % 2 == 0 {
                json!({"since": {"epoch": epoch, "seq": 0}})
            } else {
                json!({"history": 20})
            };
            let mut client = Client::connect(http, &format!("/ws?user=j{n}")).await;
            client.send(json!({"type": "join", "room": "seam", "data": data})).await;
            let joined = client.next().await;
            observer.frame(&joined);
            for _ in 0..joined["data"]["replayed"].as_u64().unwrap() + 20 {
                observer.frame(&client.next().await);
            }
        });
        if n % 8 == 7 {
            // Not all at the very start: eight at a time, while the room grows.
            while joins.len() > 4 {
                within("a joiner", joins.join_next()).await.unwrap().unwrap();
            }
        }
    }
    within("all joiners", joins.join_all()).await;
    stop.send_replace(true);
    assert!(within("the publisher", publisher).await.unwrap() > 20);
}

fn position(epoch: &str, seq: u64) -> hearth_proto::v1::Position {
    hearth_proto::v1::Position { epoch: epoch.to_owned(), seq }
}
