//! Coming back: what is replayed, and what the server admits to have lost.
use hearth_proto::v1::{ListRoomsRequest, Position};
use hearth_tests::{
    client::Client,
    eventually,
    grpc::{self, Session, Watch},
    observer::Observer,
    process::Hearth,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// What a return came to: `recovered`, `replayed`, and the seqs that followed up to the marker.
type Outcome = (Option<bool>, u64, Vec<u64>);

/// Where a client goes to come back to `room`.
struct Return<'a> {
    http: SocketAddr,
    grpc: SocketAddr,
    room: &'a str,
}

impl Return<'_> {
    /// A signal takes no seq and comes after whatever is replayed: it marks the end of the replay, and shows that live
    /// events flow.
    async fn mark(&self) {
        let mut marker = Client::connect(self.http, "/ws?user=marker").await;
        let signal = json!({"type": "signal", "id": "s", "room": self.room, "data": {"mark": true}});
        assert_eq!(marker.ask(signal).await["type"], "ack");
        marker.close().await;
    }

    async fn collect(&self, client: &mut Client, joined: &Value) -> Outcome {
        self.mark().await;
        let frames = client.until(|frame| frame["type"] == "signal").await;
        let seqs = frames.iter().filter_map(|frame| frame["seq"].as_u64()).collect();
        let recovered = joined.get("recovered").map(|it| it.as_bool().unwrap());
        (recovered, joined["replayed"].as_u64().unwrap(), seqs)
    }

    async fn by_join(&self, since: &Position) -> Outcome {
        let mut client = Client::connect(self.http, "/ws?user=by-join").await;
        let since = json!({"epoch": since.epoch, "seq": since.seq});
        let joined = client.join(self.room, json!({"since": since})).await;
        self.collect(&mut client, &joined).await
    }

    async fn by_cursor(&self, cursor: &str) -> Outcome {
        let target = format!("/ws/{}?user=by-cursor&since={cursor}", self.room);
        let (mut client, joined) = Client::enter(self.http, &target).await;
        self.collect(&mut client, &joined).await
    }

    /// The cursor serves the first join of a room that it names, also one that comes by frame.
    async fn by_cursor_and_frame(&self, cursor: &str) -> Outcome {
        let mut client = Client::connect(self.http, &format!("/ws?user=by-cursor&since={cursor}")).await;
        let joined = client.join(self.room, json!({})).await;
        self.collect(&mut client, &joined).await
    }

    async fn by_connect(&self, since: &Position) -> Outcome {
        let mut session = Session::connect(self.grpc, "by-connect").await;
        let joined = session.join(self.room, Some(since.clone())).await;
        self.mark().await;
        let mut seqs = Vec::new();
        loop {
            match session.event().await.seq {
                0 => return (joined.recovered, joined.replayed, seqs),
                seq => seqs.push(seq),
            }
        }
    }

    async fn by_watch(&self, since: &Position) -> Outcome {
        let (mut watch, joined) = Watch::start(self.grpc, self.room, Some(since.clone())).await;
        self.mark().await;
        let mut seqs = Vec::new();
        loop {
            match watch.event().await.seq {
                0 => return (joined.recovered, joined.replayed, seqs),
                seq => seqs.push(seq),
            }
        }
    }

    /// Comes back through every door.
    async fn expect(
        &self,
        row: &str,
        since: Position,
        cursor: Option<&str>,
        recovered: bool,
        replayed: std::ops::Range<u64>,
    ) {
        let expected: Outcome = (Some(recovered), replayed.end - replayed.start, replayed.collect());
        assert_eq!(self.by_join(&since).await, expected, "{row}: join");
        assert_eq!(self.by_connect(&since).await, expected, "{row}: gRPC Connect");
        assert_eq!(self.by_watch(&since).await, expected, "{row}: gRPC Watch");
        if let Some(cursor) = cursor {
            assert_eq!(self.by_cursor(cursor).await, expected, "{row}: cursor");
            assert_eq!(self.by_cursor_and_frame(cursor).await, expected, "{row}: cursor, joined by frame");
        }
    }
}

/// Publishes ten and keeps the cursor of each position on the way.
async fn ten_events(http: SocketAddr, room: &str) -> (String, Vec<String>) {
    let mut ann = Client::connect(http, "/ws?user=ann").await;
    let mut cursors = Vec::new();
    let mut epoch = Value::Null;
    for n in 0..=10 {
        if n > 0 {
            ann.publish(room, &format!("m{n}")).await;
        }
        let joined = ann.join(room, json!({})).await;
        assert_eq!(joined["seq"], n);
        cursors.push(joined["cursor"].as_str().unwrap().to_owned());
        epoch = joined["epoch"].clone();
        ann.leave(room).await;
    }
    ann.close().await;
    (epoch.as_str().unwrap().to_owned(), cursors)
}

/// 2. The recovery table: every kind of position, through every door, with exact answers.
#[tokio::test]
async fn the_recovery_table() {
    let hearth = Hearth::serve(&["--history-size", "5"]).await;
    let other = Hearth::serve(&["--history-size", "5"]).await;
    let (epoch, cursors) = ten_events(hearth.http(), "room").await;
    let (other_epoch, other_cursors) = ten_events(other.http(), "room").await;
    assert_ne!(epoch, other_epoch);
    let at = |seq| Position { epoch: epoch.clone(), seq };
    let back = Return { http: hearth.http(), grpc: hearth.grpc(), room: "room" };
    // 6 to 10 are kept.
    back.expect("current", at(10), Some(&cursors[10]), true, 11..11).await;
    back.expect("behind", at(7), Some(&cursors[7]), true, 8..11).await;
    back.expect("exactly at the edge of history", at(5), Some(&cursors[5]), true, 6..11).await;
    back.expect("one older than history", at(4), Some(&cursors[4]), false, 0..0).await;
    back.expect("from the very beginning", at(0), Some(&cursors[0]), false, 0..0).await;
    back.expect("ahead of the top", at(11), None, false, 0..0).await;
    back.expect("far ahead", at(u64::MAX), None, false, 0..0).await;
    let elsewhere = Position { epoch: other_epoch, seq: 10 };
    back.expect("another epoch", elsewhere, Some(&other_cursors[10]), false, 0..0).await;
    let nowhere = Position { epoch: String::new(), seq: 10 };
    back.expect("no epoch", nowhere, None, false, 0..0).await;

    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let empty = ann.join("empty", json!({})).await;
    let epoch = empty["epoch"].as_str().unwrap().to_owned();
    let back = Return { http: hearth.http(), grpc: hearth.grpc(), room: "empty" };
    let cursor = empty["cursor"].as_str();
    back.expect("empty room", Position { epoch: epoch.clone(), seq: 0 }, cursor, true, 0..0).await;
    back.expect("ahead of an empty room", Position { epoch, seq: 1 }, None, false, 0..0).await;
}

/// 2. History that has expired: whoever missed nothing is told so, whoever missed one is told that, too; also when the
/// room had meanwhile been dropped.
#[tokio::test]
async fn positions_outlive_history() {
    let hearth = Hearth::serve(&["--history-ttl", "300ms"]).await;
    let (epoch, cursors) = ten_events(hearth.http(), "room").await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    eventually("the end of history", async || {
        grpc::history(&mut rooms, "room").await.is_empty().then_some(())
    })
    .await;
    let at = |seq| Position { epoch: epoch.clone(), seq };
    let back = Return { http: hearth.http(), grpc: hearth.grpc(), room: "room" };
    back.expect("expired, missed nothing", at(10), Some(&cursors[10]), true, 0..0).await;
    back.expect("expired, missed one", at(9), Some(&cursors[9]), false, 0..0).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    assert_eq!(ann.publish("room", "m11").await, 11, "the numbering goes on");
}

/// 2. Without history, only the present position recovers.
#[tokio::test]
async fn a_server_that_keeps_nothing_says_so() {
    let hearth = Hearth::serve(&["--history-size", "0"]).await;
    let (epoch, cursors) = ten_events(hearth.http(), "room").await;
    let at = |seq| Position { epoch: epoch.clone(), seq };
    let back = Return { http: hearth.http(), grpc: hearth.grpc(), room: "room" };
    back.expect("current", at(10), Some(&cursors[10]), true, 0..0).await;
    back.expect("behind", at(9), Some(&cursors[9]), false, 0..0).await;
}

/// 2. The limit: all that is kept can be asked for at once, though it is more than a session's whole queue. It comes in
/// pages, while the room goes on, and the client sees one dense stream.
#[tokio::test]
async fn a_replay_larger_than_the_queue() {
    const KEPT: u64 = 1500;
    let flags = ["--history-size", "1500", "--session-queue-bytes", "524288", "--rate-limit", "0"];
    let hearth = Hearth::serve(&flags).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let first = ann.join("big", json!({"echo": false})).await;
    let since = json!({"epoch": first["epoch"], "seq": 0});
    let filler = "x".repeat(1000);
    let frame =
        |n: u64| json!({"type": "text", "id": n.to_string(), "room": "big", "data": {"filler": filler}});
    for n in 1..=KEPT {
        ann.send(frame(n)).await;
        if n % 100 == 0 {
            assert_eq!(ann.answer(&n.to_string()).await["data"]["seq"], n);
        }
    }
    let (mut observer, mut client) =
        (Observer::new("ben"), Client::connect(hearth.http(), "/ws?user=ben").await);
    client.send(json!({"type": "join", "room": "big", "data": {"since": since}})).await;
    let joined = client.next().await;
    assert_eq!((&joined["data"]["recovered"], &joined["data"]["replayed"]), (&json!(true), &json!(KEPT)));
    observer.frame(&joined);
    // Not on top of what has expired by now: the replay began first.
    for n in 1..=50u64 {
        ann.send(frame(KEPT + n)).await;
        observer.frame(&client.next().await);
    }
    while observer.last("big") < KEPT + 50 {
        observer.frame(&client.next().await);
    }
    let mut by_grpc = Observer::new("service");
    let since = Position { epoch: first["epoch"].as_str().unwrap().to_owned(), seq: 50 };
    let (mut watch, joined) = Watch::start(hearth.grpc(), "big", Some(since)).await;
    assert_eq!((joined.recovered, joined.replayed), (Some(true), KEPT));
    by_grpc.joined_by_grpc(&joined);
    while by_grpc.last("big") < KEPT + 50 {
        by_grpc.event_by_grpc(&watch.event().await);
    }
}

/// 7. A cursor that cannot be read, or is not ours, is never taken for "caught up", and never an error either.
#[tokio::test]
async fn an_unknown_cursor_is_not_recovered() {
    let hearth = Hearth::serve(&[]).await;
    let (_, cursors) = ten_events(hearth.http(), "room").await;
    let (cut, longer) = (&cursors[10][..cursors[10].len() - 3], format!("{}AAAA", cursors[10]));
    let (padded, endless) = (format!("{}%3D%3D", cursors[10]), "A".repeat(6000));
    for garbage in
        ["x", "0", "AQ%00", "%ff%fe", "hello%20world", "{}", "AgAAAA", cut, &longer, &padded, &endless]
    {
        let (client, joined) =
            Client::enter(hearth.http(), &format!("/ws/room?user=ann&since={garbage}")).await;
        assert_eq!(
            (&joined["recovered"], &joined["replayed"], &joined["seq"]),
            (&json!(false), &json!(0), &json!(10)),
            "{garbage}"
        );
        // Nor does it stand in the way of anything: the cursor that it gets is good.
        let cursor = joined["cursor"].as_str().unwrap().to_owned();
        client.close().await;
        let (_, joined) = Client::enter(hearth.http(), &format!("/ws/room?user=ann&since={cursor}")).await;
        assert_eq!(joined["recovered"], true, "{garbage}");
    }
}

/// 7. A cursor knows its rooms and no others, and serves each of them once.
#[tokio::test]
async fn a_cursor_speaks_for_the_rooms_that_it_names() {
    let hearth = Hearth::serve(&[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    ann.join("a", json!({})).await;
    let cursor = ann.join("b", json!({})).await["cursor"].as_str().unwrap().to_owned();
    for (room, id) in [("a", "1"), ("b", "2"), ("b", "3"), ("c", "4")] {
        ann.publish(room, id).await;
    }
    let mut back = Client::connect(hearth.http(), &format!("/ws?user=ann&since={cursor}")).await;
    let (b, a, c) =
        (back.join("b", json!({})).await, back.join("a", json!({})).await, back.join("c", json!({})).await);
    assert_eq!((&b["recovered"], &b["replayed"]), (&json!(true), &json!(2)));
    assert_eq!((&a["recovered"], &a["replayed"]), (&json!(true), &json!(1)));
    assert_eq!((c.get("recovered"), &c["replayed"]), (None, &json!(0)));
    back.leave("b").await;
    assert_eq!(back.join("b", json!({})).await.get("recovered"), None, "it has served");
    // What a join says itself goes before what the cursor says.
    let mut back = Client::connect(hearth.http(), &format!("/ws?user=ann&since={cursor}")).await;
    let said = back.join("b", json!({"since": {"epoch": b["epoch"], "seq": 1}})).await;
    assert_eq!(said["replayed"], 1);
}

/// 8. A client holds a cursor before its first message, so that it can miss none.
#[tokio::test]
async fn a_cursor_comes_before_the_first_message() {
    let hearth = Hearth::serve(&[]).await;
    let (client, joined) = Client::enter(hearth.http(), "/ws/room?user=ben").await;
    let cursor = joined["cursor"].as_str().unwrap();
    assert!(!cursor.is_empty() && cursor.bytes().all(|byte| byte.is_ascii_graphic()), "{cursor}");
    client.cut();
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    for n in 1..=3 {
        ann.publish("room", &format!("m{n}")).await;
    }
    let (mut client, joined) =
        Client::enter(hearth.http(), &format!("/ws/room?user=ben&since={cursor}")).await;
    assert_eq!((&joined["recovered"], &joined["replayed"]), (&json!(true), &json!(3)));
    for seq in 1..=3 {
        assert_eq!(client.next().await["seq"], seq);
    }
}

/// A client that was in a room when its connection went, and brings the cursor of another room's join, goes on from the
/// positions that it brought: a cursor carries all rooms of the session.
#[tokio::test]
async fn a_cursor_starts_from_what_was_brought() {
    let hearth = Hearth::serve(&[]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let first = ann.join("a", json!({})).await["cursor"].as_str().unwrap().to_owned();
    ann.publish("a", "1").await;
    // This session never joins `a`, but what it takes away still knows about it.
    let mut second = Client::connect(hearth.http(), &format!("/ws?user=ann&since={first}")).await;
    let cursor = second.join("b", json!({})).await["cursor"].as_str().unwrap().to_owned();
    let mut third = Client::connect(hearth.http(), &format!("/ws?user=ann&since={cursor}")).await;
    let (a, b) = (third.join("a", json!({})).await, third.join("b", json!({})).await);
    assert_eq!((&a["recovered"], &a["replayed"]), (&json!(true), &json!(1)));
    assert_eq!((&b["recovered"], &b["replayed"]), (&json!(true), &json!(0)));
}

/// 10. A key that is remembered longer than its event gives the old seq: there is never a second event.
#[tokio::test]
async fn an_id_outlives_its_event() {
    let hearth = Hearth::serve(&["--history-ttl", "200ms", "--dedupe-window", "1h"]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let again = || json!({"type": "text", "id": "k", "room": "room", "data": {}});
    assert_eq!(ann.ask(again()).await["data"], json!({"status": "delivered", "seq": 1}));
    eventually("the end of history", async || {
        grpc::history(&mut rooms, "room").await.is_empty().then_some(())
    })
    .await;
    assert_eq!(ann.ask(again()).await["data"], json!({"status": "delivered", "seq": 1, "duplicate": true}));
    assert_eq!(ann.publish("room", "next").await, 2);
}

/// 10. An event that is remembered longer than its key can be published anew: that is what a window is.
#[tokio::test]
async fn an_event_outlives_its_id() {
    let hearth = Hearth::serve(&["--history-ttl", "1h", "--dedupe-window", "300ms"]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let again = || json!({"type": "text", "id": "k", "room": "room", "data": {}});
    assert_eq!(ann.ask(again()).await["data"]["seq"], 1);
    let fresh = eventually("the end of the window", async || {
        let data = ann.ask(again()).await["data"].clone();
        assert!(data.get("duplicate").is_none() || data["seq"] == 1, "{data}");
        data.get("duplicate").is_none().then_some(data)
    })
    .await;
    assert_eq!(fresh["seq"], 2);
}

/// A new process is a new epoch, and no old position is taken for one of it.
#[tokio::test]
async fn a_restart_in_memory_is_a_new_epoch() {
    let mut hearth = Hearth::serve(&["--http", &hearth_tests::process::lasting_address()]).await;
    let (epoch, cursors) = ten_events(hearth.http(), "room").await;
    hearth.kill();
    hearth.restart().await;
    let (new_epoch, _) = ten_events(hearth.http(), "room").await;
    assert_ne!(epoch, new_epoch);
    let back = Return { http: hearth.http(), grpc: hearth.grpc(), room: "room" };
    back.expect("the former life", Position { epoch, seq: 10 }, Some(&cursors[10]), false, 0..0).await;
}

/// Positions are bounded: with room for few, an old one is forgotten, and then the room has a new epoch and says so.
#[tokio::test]
async fn forgotten_positions_are_a_new_epoch() {
    let hearth =
        Hearth::serve(&["--history-ttl", "100ms", "--dedupe-window", "100ms", "--positions-max", "10"]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let first = ann.join("first", json!({})).await;
    ann.publish("first", "1").await;
    ann.leave("first").await;
    let since = json!({"since": {"epoch": first["epoch"], "seq": 1}});
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut dropped = async |prefix: &str| {
        let request = ListRoomsRequest { prefix: prefix.to_owned(), ..Default::default() };
        let listed = rooms.list_rooms(request).await.unwrap().into_inner().rooms;
        listed.is_empty().then_some(())
    };
    eventually("the end of the room", async || dropped("first").await).await;
    let joined = ann.join("first", since.clone()).await;
    assert_eq!(
        (&joined["epoch"], &joined["recovered"]),
        (&first["epoch"], &json!(true)),
        "not yet forgotten"
    );
    ann.leave("first").await;
    eventually("the end of the room", async || dropped("first").await).await;
    // Positions are bounded in each of the engine's shards, so that some of these must come into the first's, and with so many do.
    for n in 0..300 {
        ann.publish(&format!("other{n}"), "1").await;
    }
    eventually("the end of the others", async || dropped("other").await).await;
    let joined = ann.join("first", since).await;
    assert_ne!(joined["epoch"], first["epoch"]);
    assert_eq!((&joined["recovered"], &joined["seq"]), (&json!(false), &json!(0)));
}
