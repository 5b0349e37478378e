//! Who is here, truthfully, as browsers and services see it. What is not here: a netsplit between core and engine needs
//! an engine apart from the core, and that clocks are monotonic is shown by the core's own tests, which own the clock.
use hearth_proto::v1::{
    Heartbeat, Join, Leave, ListPresenceRequest, SetPresence, TrackEnter, TrackLeave, TrackRequest,
    WatchPresenceRequest, connect_request, connect_response, presence,
    presence_service_client::PresenceServiceClient, track_request, track_response,
};
use hearth_tests::{
    Dice,
    client::Client,
    eventually,
    grpc::{self, Session, Track},
    http,
    presence::{View, Watcher, as_online},
    process::Hearth,
    proxy::Proxy,
    raw::Raw,
    within,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

/// What comes at once comes within this, on a busy machine too, and well before any timeout here is over.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How much later than the timeout a leave may be told on a busy machine.
const LATE: Duration = Duration::from_secs(4);

fn target(room: &str, user: &str) -> String {
    format!("/ws/{room}?user={user}")
}

/// Joins without looking at who else is there.
async fn visit(http: SocketAddr, room: &str, user: &str) -> Client {
    let mut client = Client::connect(http, &format!("/ws?user={user}")).await;
    client.join(room, json!({"presence": false})).await;
    client
}

/// Awaits that the core has noticed that a user's last session in `room` has vanished.
async fn all_vanished(presence: &mut PresenceServiceClient<Channel>, user: &str) {
    eventually("a user without a session, and still there", async || {
        let listed = grpc::online(presence, "room").await;
        let entry = listed.iter().find(|entry| entry.user == user).expect("the timeout is not over");
        (entry.sessions == 0).then_some(())
    })
    .await;
}

/// A ping is answered after all that was sent before it: whatever presence came by then.
async fn heard_by_now(client: &mut Client) -> Vec<Value> {
    client.send(json!({"type": "ping", "id": "by now"})).await;
    let mut frames = client.until(|frame| frame["type"] == "ack" && frame["id"] == "by now").await;
    frames.retain(|frame| frame["type"] == "presence");
    frames
}

/// 11. `joined` comes first, then the state with oneself in it, to the letter; then who comes, changes and goes.
#[tokio::test]
async fn joined_precedes_ones_own_presence() {
    let hearth = Hearth::serve(&[]).await;
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let (mut ann, _) = Client::attend(hearth.http(), &target("general", "ann")).await;
    let mut state = ann.next().await;
    state.as_object_mut().unwrap().remove("timestamp");
    let entry = state["data"]["online"][0].as_object_mut().unwrap_or_else(|| panic!("nobody is there"));
    let since = entry.remove("since").unwrap().as_f64().unwrap();
    assert!((before - 1.0..before + 20.0).contains(&since), "since {since}, and it was {before}");
    assert_eq!(
        state,
        json!({"type": "presence", "room": "general", "data": {
            "event": "state", "online": [{"user": "ann", "meta": {}, "sessions": 1}],
        }})
    );
    let mut next = async || {
        let mut frame = ann.next().await;
        frame.as_object_mut().unwrap().remove("timestamp");
        frame
    };
    let told = |event: &str, meta: Value| json!({"type": "presence", "room": "general", "data": {"event": event, "user": "ben", "meta": meta}});
    let (mut ben, _) = Client::enter(hearth.http(), &target("general", "ben")).await;
    assert_eq!(next().await, told("join", json!({})));
    ben.set_meta("general", json!({"status": "away"})).await;
    assert_eq!(next().await, told("update", json!({"status": "away"})));
    ben.leave("general").await;
    assert_eq!(next().await["data"]["event"], "leave");
}

/// 11. Joins of twenty rooms at once, while others come and go there: in each the order is `joined`, state, steps.
#[tokio::test]
async fn no_presence_precedes_joined_in_any_room() {
    const ROOMS: usize = 20;
    let hearth = Hearth::serve(&["--rate-limit", "0"]).await;
    let door = hearth.http();
    let mut churn = JoinSet::new();
    for n in 0..4 {
        churn.spawn(async move {
            let mut other = Client::connect(door, &format!("/ws?user=other{n}")).await;
            for _ in 0..5 {
                for room in 0..ROOMS {
                    other.join(&format!("r{room}"), json!({"presence": n % 2 == 0})).await;
                }
                for room in 0..ROOMS {
                    other.leave(&format!("r{room}")).await;
                }
            }
            other.close().await;
        });
    }
    for round in 0..5 {
        let mut ann = Client::connect(door, &format!("/ws?user=ann{round}")).await;
        ann.presence = true;
        for room in 0..ROOMS {
            ann.send(json!({"type": "join", "id": format!("j{room}"), "room": format!("r{room}")})).await;
        }
        let mut joined = HashSet::new();
        let mut views: HashMap<String, View> = HashMap::new();
        while views.len() < ROOMS {
            let frame = ann.next().await;
            let room = frame["room"].as_str().unwrap().to_owned();
            if frame["data"]["event"] == "joined" {
                assert!(joined.insert(room), "{frame}");
            } else {
                assert!(joined.contains(&room), "{frame} came before joined");
                let user = ann.user.clone();
                let view = views.entry(room.clone()).or_insert_with(|| View::new(&user, room));
                let begins = !view.has_begun();
                view.frame(&frame);
                assert!(!begins || view.shows(&user), "{user} is there too: {frame}");
            }
        }
        ann.close().await;
    }
    within("the end of the churn", churn.join_all()).await;
}

/// 11. Connections of a millisecond, ended in every manner: each shows its join and then its leave, or neither, and in the
/// end nobody is there.
#[tokio::test]
async fn a_connection_of_a_millisecond_leaves_nothing() {
    const VISITS: usize = 50;
    let hearth = Hearth::serve(&["--presence-timeout", "500ms"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut watcher = Watcher::enter(door, "room", "watcher").await;
    let mut visits = JoinSet::new();
    for n in 0..VISITS {
        visits.spawn(async move {
            let target = target("room", &format!("u{n}"));
            match n % 5 {
                0 => Client::open(door, &target).await.cut(),
                1 => Client::open(door, &target).await.close().await,
                2 => Client::open(door, &target).await.close_as(1001).await,
                3 => Client::enter(door, &target).await.0.cut(),
                _ => Client::enter(door, &target).await.0.close().await,
            }
        });
    }
    within("all visits", visits.join_all()).await;
    watcher.wait_out(door).await;
    eventually("an empty room", async || {
        (grpc::users(&mut presence, "room").await == ["watcher"]).then_some(())
    })
    .await;
    watcher.mark(door).await;
    assert_eq!(watcher.view.users(), ["watcher"]);
    for n in 0..VISITS {
        let told = watcher.view.told(&format!("u{n}"));
        assert!(told.is_empty() || told == ["join", "leave"], "u{n}: {told:?}");
    }
    assert_eq!(watcher.view.times("state"), 1, "the rest was told in steps");
}

/// 12. A second tab neither comes nor goes, for others and for its user's first one; both count as one user.
#[tokio::test]
async fn a_second_tab_is_silent() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let mut first = Watcher::enter(door, "room", "ann").await;
    let mut second = Watcher::enter(door, "room", "ann").await;
    assert_eq!((second.view.sessions("ann"), second.view.sessions("ben")), (Some(2), Some(1)));
    let listed = grpc::online(&mut presence, "room").await;
    assert_eq!(listed.iter().map(|user| user.sessions).collect::<Vec<_>>(), [2, 1], "{listed:?}");

    ben.mark(door).await;
    assert_eq!(ben.view.told("ann"), ["join"]);
    first.mark(door).await;
    first.into_client().close().await;
    second.mark(door).await;
    ben.mark(door).await;
    assert_eq!(ben.view.told("ann"), ["join"], "the second one is still there");
    assert_eq!(second.view.told("ann"), [""; 0], "nobody is told of oneself what is known");
    // What is news is told to its own user's tabs as to everybody.
    second.client().set_meta("room", json!({"n": 1})).await;
    second.until("the new meta", |view| view.online()["ann"] == json!({"n": 1})).await;

    second.into_client().close().await;
    ben.until_shows("ann", false).await;
    ben.mark(door).await;
    assert_eq!(ben.view.told("ann"), ["join", "update", "leave"]);
}

/// 12. A page that is loaded anew within the timeout is not seen to go, whether it says 1001 or nothing at all, and its
/// meta is what it was.
#[tokio::test]
async fn a_reload_is_silent() {
    let hearth = Hearth::serve(&["--presence-timeout", "2s"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let (mut ann, _) = Client::enter(door, &target("room", "ann")).await;
    ben.until_shows("ann", true).await;
    ann.set_meta("room", json!({"status": "busy"})).await;
    ben.until("ann's meta", |view| view.online()["ann"] == json!({"status": "busy"})).await;
    ben.view.clear_steps();
    for round in 0..4 {
        let gone = Instant::now();
        if round % 2 == 0 {
            ann.close_as(1001).await;
        } else {
            ann.cut();
        }
        all_vanished(&mut presence, "ann").await;
        let reloaded = Watcher::enter(door, "room", "ann").await;
        assert!(gone.elapsed() < AT_ONCE, "too slow to mean anything: {:?}", gone.elapsed());
        assert_eq!(reloaded.view.online()["ann"], json!({"status": "busy"}), "reload {round}");
        ann = reloaded.into_client();
    }
    ben.wait_out(door).await;
    assert_eq!(ben.view.told("ann"), [""; 0]);
    let listed = grpc::online(&mut presence, "room").await;
    assert_eq!(listed.iter().map(|user| user.sessions).collect::<Vec<_>>(), [1, 1], "{listed:?}");
    assert_eq!(listed[0].meta, r#"{"status":"busy"}"#);
}

/// 12. One session vanishes, another one comes back and says goodbye: that is one leave, at once, and when the first one's
/// time would have been over nothing more happens.
#[tokio::test]
async fn a_goodbye_after_a_return_is_one_leave() {
    let hearth = Hearth::serve(&["--presence-timeout", "4s"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let (first, _) = Client::enter(door, &target("room", "ann")).await;
    ben.until_shows("ann", true).await;
    first.cut();
    let (second, _) = Client::enter(door, &target("room", "ann")).await;
    ben.mark(door).await;
    let gone = Instant::now();
    second.close().await;
    ben.until_shows("ann", false).await;
    assert!(ben.view.when("leave", "ann") - gone < AT_ONCE, "it was not told at once");
    ben.wait_out(door).await;
    assert_eq!(ben.view.told("ann"), ["join", "leave"]);
    assert_eq!(grpc::users(&mut presence, "room").await, ["ben"]);
}

/// 12. One of two sessions vanishes, then the other says goodbye, or vanishes too: one leave, not later than the timeout.
#[tokio::test]
async fn two_sessions_are_one_leave_in_whatever_manner() {
    let timeout = Duration::from_secs(1);
    let hearth = Hearth::serve(&["--presence-timeout", "1s"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut ben = Watcher::enter(door, "room", "ben").await;
    for (user, ends) in [("one", [1001, 1000]), ("two", [1000, 1001]), ("three", [1001, 1001])] {
        let (first, _) = Client::enter(door, &target("room", user)).await;
        let (second, _) = Client::enter(door, &target("room", user)).await;
        ben.until_shows(user, true).await;
        first.close_as(ends[0]).await;
        ben.mark(door).await;
        assert_eq!(ben.view.told(user), ["join"], "a session is left");
        let gone = Instant::now();
        second.close_as(ends[1]).await;
        ben.until_shows(user, false).await;
        let after = ben.view.when("leave", user) - gone;
        assert!(after < timeout + LATE, "{user}: {after:?}");
        assert!(after >= timeout || ends[1] == 1000, "{user}: {after:?}");
    }
    ben.wait_out(door).await;
    for user in ["one", "two", "three"] {
        assert_eq!(ben.view.told(user), ["join", "leave"], "{user}");
    }
    assert_eq!(grpc::users(&mut presence, "room").await, ["ben"]);
}

/// 12. The newest meta of the user's live sessions holds; when its session goes, the newest of those that are left; and
/// where none has set one it is empty.
#[tokio::test]
async fn the_newest_meta_holds() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let mut tabs = Vec::new();
    for _ in 0..4 {
        tabs.push(Client::enter(door, &target("room", "ann")).await.0);
    }
    ben.until_shows("ann", true).await;
    let mut told = vec!["join"];
    // Which tab sets it, and to what.
    for (tab, n) in [(0, 1), (1, 2), (2, 3), (0, 4)] {
        tabs[tab].set_meta("room", json!({"n": n, "tab": tab})).await;
        ben.until("the new meta", |view| view.online()["ann"]["n"] == n).await;
        told.push("update");
    }
    // The fourth tab has set none, so it changes nothing by staying, and a heartbeat sets none either.
    let beat = json!({"type": "presence", "id": "beat", "room": "room", "data": {}});
    assert_eq!(tabs[3].ask(beat).await["type"], "ack");
    let last = tabs.pop().unwrap();
    let [first, second, third] =
        <[Client; 3]>::try_from(tabs).unwrap_or_else(|_| unreachable!("three are left"));
    first.close().await;
    ben.until("the third one's", |view| view.online()["ann"] == json!({"n": 3, "tab": 2})).await;
    // Whoever has vanished while others live sets nothing any more.
    third.cut();
    ben.until("the second one's", |view| view.online()["ann"] == json!({"n": 2, "tab": 1})).await;
    second.close().await;
    ben.until("none", |view| view.online()["ann"] == json!({})).await;
    told.extend(["update"; 3]);
    last.close().await;
    ben.until_shows("ann", false).await;
    told.push("leave");
    assert_eq!(ben.view.told("ann"), told);
}

/// 12. A meta can be taken back by an empty one, setting the same again is no news, and a leave forgets it.
#[tokio::test]
async fn a_meta_ends_with_its_session() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let (mut ann, _) = Client::enter(door, &target("room", "ann")).await;
    ben.until_shows("ann", true).await;
    ann.set_meta("room", json!({"status": "busy"})).await;
    ben.until("her meta", |view| view.online()["ann"] == json!({"status": "busy"})).await;
    ann.set_meta("room", json!({"status": "busy"})).await;
    ben.mark(door).await;
    ann.set_meta("room", json!({})).await;
    ben.until("no meta", |view| view.online()["ann"] == json!({})).await;
    ann.set_meta("room", json!({"status": "late"})).await;
    ben.until("her last one", |view| view.online()["ann"] == json!({"status": "late"})).await;
    assert_eq!(ben.view.told("ann"), ["join", "update", "update", "update"]);
    ann.leave("room").await;
    ben.until_shows("ann", false).await;
    ann.join("room", json!({})).await;
    ben.until_shows("ann", true).await;
    assert_eq!(ben.view.online()["ann"], json!({}), "she has left, so nothing of it is kept");
}

/// A clean end is told at once, in every room of the session, long before the timeout of thirty seconds.
#[tokio::test]
async fn a_goodbye_is_told_at_once() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut watchers = [Watcher::enter(door, "a", "ben").await, Watcher::enter(door, "b", "ben").await];
    for way in ["leave", "no code", "1000"] {
        let mut ann = Client::connect(door, "/ws?user=ann").await;
        for room in ["a", "b"] {
            ann.join(room, json!({})).await;
        }
        for watcher in &mut watchers {
            watcher.until_shows("ann", true).await;
        }
        let start = Instant::now();
        let left = match way {
            "leave" => {
                ann.leave("a").await;
                ann.leave("b").await;
                Some(ann)
            }
            "1000" => {
                ann.close_as(1000).await;
                None
            }
            _ => {
                ann.close().await;
                None
            }
        };
        for watcher in &mut watchers {
            watcher.until_shows("ann", false).await;
            assert!(watcher.view.when("leave", "ann") - start < AT_ONCE, "{way}: it was not told at once");
        }
        if let Some(left) = left {
            left.close().await;
        }
    }
    for watcher in &mut watchers {
        watcher.mark(door).await;
        assert_eq!(watcher.view.told("ann"), ["join", "leave"].repeat(3));
    }
}

/// 13. Whoever vanishes is told gone once: not before the timeout, and not long after it. A reset and a 1001 are noticed at
/// once, silence after two heartbeats.
#[tokio::test]
async fn a_vanished_client_is_told_gone_once() {
    let (timeout, heartbeat) = (Duration::from_millis(1500), Duration::from_secs(1));
    let hearth = Hearth::serve(&["--presence-timeout", "1500ms", "--heartbeat", "1s"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut service = Watcher::service(hearth.grpc(), "room").await;
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let (reset, _) = Client::enter(door, &target("room", "reset")).await;
    let (away, _) = Client::enter(door, &target("room", "away")).await;
    let start = Instant::now();
    // It answers no ping, and its socket stays open.
    let silent = Raw::connect(door, &target("room", "silent")).await;
    ben.until_online(&["away", "ben", "reset", "silent"]).await;
    service.until_online(&["away", "ben", "reset", "silent"]).await;
    reset.cut();
    away.close_as(1001).await;
    tokio::join!(ben.until_online(&["ben"]), service.until_online(&["ben"]));
    for view in [&ben.view, &service.view] {
        for (user, noticed) in [("reset", Duration::ZERO), ("away", Duration::ZERO), ("silent", heartbeat)] {
            let after = view.when("leave", user) - start;
            // Two heartbeats may begin and end anywhere within a third.
            let latest = timeout + if noticed.is_zero() { LATE } else { heartbeat * 3 + LATE };
            assert!((timeout + noticed..latest).contains(&after), "{user}: {after:?}");
        }
    }
    tokio::join!(ben.wait_out(door), service.until("as much", |view| view.times("leave") >= 5));
    for user in ["reset", "away", "silent"] {
        assert_eq!(ben.view.told(user), ["join", "leave"]);
        assert_eq!(service.view.told(user), ["join", "leave"]);
    }
    assert_eq!(grpc::users(&mut presence, "room").await, ["ben"]);
    drop(silent);
}

/// 15. Two hundred times somebody comes, leaves, closes, reloads or is cut. Then who is there, how many times, and what the
/// metrics say is exactly who is there, and after the last one nothing is left.
#[tokio::test]
async fn counts_do_not_drift() {
    let hearth = Hearth::serve(&["--presence-timeout", "300ms"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut watcher = Watcher::enter(door, "room", "watcher").await;
    let mut dice = Dice::new(15);
    let mut live: Vec<(String, Client)> = Vec::new();
    let vanish = async |client: Client, way: usize| match way {
        0 => client.close().await,
        1 => client.close_as(1001).await,
        2 => client.cut(),
        _ => {
            let mut client = client;
            client.leave("room").await;
            client.join("room", json!({})).await;
            client.cut();
        }
    };
    for _ in 0..200 {
        if live.is_empty() || live.len() < 25 && dice.roll(2) == 0 {
            let user = format!("u{}", dice.roll(10));
            let client = match dice.roll(2) {
                0 => visit(door, "room", &user).await,
                _ => Client::enter(door, &target("room", &user)).await.0,
            };
            live.push((user, client));
        } else {
            let (_, client) = live.swap_remove(dice.roll(live.len()));
            vanish(client, dice.roll(4)).await;
        }
    }
    let mut expected = BTreeMap::from([("watcher".to_owned(), 1u32)]);
    for (user, _) in &live {
        *expected.entry(user.clone()).or_default() += 1;
    }
    let gauges = async |users: usize, sessions: u32| {
        let page = http::get(door, "/metrics", &[]).await.body;
        let found = ["hearth_core_presence_users", "hearth_core_presence_sessions"];
        found.map(|name| http::metric(&page, name)) == [Some(users as f64), Some(sessions.into())]
    };
    eventually("exactly those who are there", async || {
        let listed = grpc::online(&mut presence, "room").await;
        let listed: BTreeMap<_, _> = listed.into_iter().map(|user| (user.user, user.sessions)).collect();
        (listed == expected && gauges(expected.len(), expected.values().sum()).await).then_some(())
    })
    .await;
    let users: Vec<&str> = expected.keys().map(String::as_str).collect();
    watcher.until_online(&users).await;
    watcher.mark(door).await;
    assert_eq!(watcher.view.users(), users);

    for (n, (_, client)) in live.into_iter().enumerate() {
        vanish(client, n % 4).await;
    }
    watcher.until_online(&["watcher"]).await;
    watcher.wait_out(door).await;
    assert_eq!(grpc::users(&mut presence, "room").await, ["watcher"]);
    eventually("the watcher alone", async || gauges(1, 1).await.then_some(())).await;
    let page = http::get(door, "/metrics", &[]).await.body;
    let diffs = http::metric(&page, "hearth_core_presence_diffs_total").unwrap();
    assert!(diffs > 0.0, "what was told was counted");
    watcher.into_client().close().await;
    eventually("nobody", async || gauges(0, 0).await.then_some(())).await;
}

/// 17. In a room with too many users only their number is told, and that at most once a second; when they are fewer again,
/// everybody is told who it is.
#[tokio::test]
async fn a_big_room_tells_its_number() {
    const MANY: usize = 60;
    let hearth = Hearth::serve(&["--presence-max", "20", "--rate-limit", "0"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let mut service = Watcher::service(hearth.grpc(), "room").await;
    let start = Instant::now();
    let crowd = tokio::spawn(async move {
        let mut clients = Vec::new();
        for n in 0..MANY {
            clients.push(visit(door, "room", &format!("u{n}")).await);
        }
        // Much happens for some seconds, and the number is what it was.
        let busy = clients.last_mut().unwrap();
        while start.elapsed() < Duration::from_secs(4) {
            busy.leave("room").await;
            busy.join("room", json!({"presence": false})).await;
        }
        clients.push(visit(door, "room", "last").await);
        clients
    });
    let total = MANY as u64 + 2;
    let all = |view: &View| view.count() == Some(total);
    tokio::join!(ben.until("the last number", all), service.until("the last number", all));
    let seconds = start.elapsed().as_secs_f64();
    for view in [&ben.view, &service.view] {
        let counts = view.times("count") as f64;
        assert!(counts <= seconds + 2.0, "{counts} numbers in {seconds} s");
        assert!(view.times("join") <= 20, "{} steps of so many", view.times("join"));
    }
    let mut clients = within("the crowd", crowd).await.unwrap();
    let mut late = Watcher::enter(door, "room", "late").await;
    late.until("itself among them", |view| view.count() == Some(total + 1)).await;
    assert_eq!(
        (late.view.count(), late.view.times("state")),
        (Some(total + 1), 0),
        "it has never seen a list"
    );
    assert_eq!(
        grpc::users(&mut presence, "room").await.len() as u64,
        total + 1,
        "a list is there for whoever asks"
    );

    for view in [&mut ben.view, &mut service.view, &mut late.view] {
        view.clear_steps();
    }
    let stay = clients.drain(..8).collect::<Vec<_>>();
    let mut going = JoinSet::new();
    for client in clients {
        going.spawn(client.close());
    }
    within("all who go", going.join_all()).await;
    let mut expected: Vec<&str> = stay.iter().map(|client| client.user.as_str()).collect();
    expected.extend(["ben", "late"]);
    expected.sort_unstable();
    for watcher in [&mut ben, &mut service, &mut late] {
        watcher.until_online(&expected).await;
        assert!(watcher.view.times("state") >= 1, "it began with a fresh state");
    }
    ben.mark(door).await;
    assert_eq!(ben.view.users(), expected);
    assert_eq!(grpc::users(&mut presence, "room").await, expected);
}

/// 17. Whoever begins to watch at whatever moment, through whichever door: what comes of the state and the steps after it is
/// in the end what the core lists, metas and all.
#[tokio::test]
async fn every_view_agrees_with_the_list() {
    let hearth = Hearth::serve(&["--presence-timeout", "500ms"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut dice = Dice::new(17);
    let mut watchers = vec![Watcher::enter(door, "room", "w").await];
    let mut live: Vec<Client> = Vec::new();
    for round in 0..150 {
        if round % 15 == 0 {
            watchers.push(Watcher::service(hearth.grpc(), "room").await);
            watchers.push(Watcher::enter(door, "room", &format!("w{round}")).await);
        }
        match dice.roll(6) {
            0..3 => {
                let mut client = visit(door, "room", &format!("u{}", dice.roll(12))).await;
                if dice.roll(2) == 0 {
                    client.set_meta("room", json!({"round": round})).await;
                }
                live.push(client);
            }
            _ if live.is_empty() => {}
            3 => {
                let n = dice.roll(live.len());
                live[n].set_meta("room", json!({"round": round})).await;
            }
            way => {
                let client = live.swap_remove(dice.roll(live.len()));
                match (way, dice.roll(2)) {
                    (4, _) => client.close().await,
                    (_, 0) => client.close_as(1001).await,
                    _ => client.cut(),
                }
            }
        }
    }
    let mut expected: Vec<String> = live.iter().map(|client| client.user.clone()).collect();
    expected.push("w".into());
    expected.extend((0..150).step_by(15).map(|round| format!("w{round}")));
    expected.sort_unstable();
    expected.dedup();
    eventually("exactly those who are there", async || {
        (grpc::users(&mut presence, "room").await == expected).then_some(())
    })
    .await;
    let listed = as_online(&grpc::online(&mut presence, "room").await);
    for watcher in &mut watchers {
        watcher.until("what the core lists", |view| *view.online() == listed).await;
    }
    for watcher in &mut watchers {
        watcher.mark(door).await;
        assert_eq!(*watcher.view.online(), listed);
    }
}

/// Whoever does not want to see presence is seen all the same. Whoever has left a room hears nothing of it any more, and is
/// told anew after coming back.
#[tokio::test]
async fn presence_is_heard_by_those_who_want_it() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let mut ann = Client::connect(door, "/ws?user=ann").await;
    ann.presence = true;
    ann.join("room", json!({"presence": false})).await;
    ben.until_shows("ann", true).await;
    ann.set_meta("room", json!({"hidden": false})).await;
    ben.until("her meta", |view| view.online()["ann"] == json!({"hidden": false})).await;
    ben.mark(door).await;
    assert_eq!(heard_by_now(&mut ann).await, [] as [Value; 0]);
    ann.leave("room").await;
    ben.until_shows("ann", false).await;

    let joined = ann.join("room", json!({"presence": true})).await;
    assert!(joined.get("recovered").is_none(), "{joined}");
    let state = ann.next().await;
    assert_eq!(state["data"]["event"], "state", "{state}");
    let mut names: Vec<&str> = state["data"]["online"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["user"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["ann", "ben"]);
    ann.leave("room").await;
    // The ack of the leave has been read: after it there is nothing of this room.
    ben.until_shows("ann", false).await;
    ben.mark(door).await;
    let after = heard_by_now(&mut ann).await;
    let late = after.iter().filter(|frame| frame["data"]["user"] != "ann").collect::<Vec<_>>();
    assert!(late.is_empty(), "{late:?}");
}

/// Each mistake gets its exact answer, and none changes anything.
#[tokio::test]
async fn presence_commands_have_exact_answers() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let (mut ann, _) = Client::enter(door, &target("room", "ann")).await;
    // `{"s":"…"}` is eight bytes more than its string.
    let meta_of_size = |bytes: usize| json!({"meta": {"s": "x".repeat(bytes - 8)}});
    let rows = [
        ("a list", "room", json!({"meta": []}), "invalid_argument"),
        ("a string", "room", json!({"meta": "busy"}), "invalid_argument"),
        ("a number", "room", json!({"meta": 7}), "invalid_argument"),
        ("true", "room", json!({"meta": true}), "invalid_argument"),
        ("4,097 bytes", "room", meta_of_size(4097), "invalid_argument"),
        ("much more", "room", meta_of_size(20_000), "invalid_argument"),
        ("data that is a list", "room", json!([]), "invalid_argument"),
        ("a name that is none", "a room", json!({"meta": {}}), "invalid_argument"),
        ("another room", "other", json!({"meta": {}}), "failed_precondition"),
        ("a heartbeat for another room", "other", json!({}), "failed_precondition"),
    ];
    for (what, room, data, code) in rows {
        for id in [Some("p"), None] {
            let mut command = json!({"type": "presence", "room": room, "data": data});
            if let Some(id) = id {
                command["id"] = id.into();
            }
            ann.send(command).await;
            let error = ann.next().await;
            assert_eq!(
                (&error["type"], &error["data"]["code"]),
                (&json!("error"), &json!(code)),
                "{what}: {error}"
            );
            assert_eq!(error.get("id").and_then(Value::as_str), id, "{what}: {error}");
            assert!(
                error["data"]["message"].as_str().is_some_and(|message| !message.is_empty()),
                "{what}: {error}"
            );
        }
    }
    // No room at all.
    let refused = ann.ask(json!({"type": "presence", "id": "p", "data": {"meta": {}}})).await;
    assert_eq!(refused["data"]["code"], "invalid_argument", "{refused}");
    let listed = grpc::online(&mut presence, "room").await;
    assert_eq!((listed.len(), listed[0].meta.as_str()), (1, "{}"), "{listed:?}");
    assert_eq!(grpc::users(&mut presence, "other").await, [""; 0], "nobody came to be there by mistake");

    // The largest that is taken, and a sign of life.
    for data in [meta_of_size(4096), json!({})] {
        let ack = ann.ask(json!({"type": "presence", "id": "p", "room": "room", "data": data})).await;
        assert_eq!(ack, json!({"type": "ack", "id": "p", "room": "room", "data": {"status": "ok"}}));
    }
    assert_eq!(grpc::online(&mut presence, "room").await[0].meta.len(), 4096);
    // Without an id there is no answer, and it holds all the same.
    ann.send(json!({"type": "presence", "room": "room", "data": {"meta": {"n": 1}}})).await;
    assert_eq!(ann.ask(json!({"type": "ping", "id": "next"})).await["id"], "next");
    eventually("the meta", async || {
        (grpc::online(&mut presence, "room").await[0].meta == r#"{"n":1}"#).then_some(())
    })
    .await;
}

/// What is in a meta comes out as it was spelled, through either door.
#[tokio::test]
async fn a_meta_passes_verbatim() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut raw = Raw::connect(door, &target("room", "raw")).await;
    let (mut ann, _) = Client::enter(door, &target("room", "ann")).await;
    let meta = r#"{"n":1.00,"big":12345678901234567890123,"s":"\u00e9\/é","author":"ben"}"#;
    ann.send_text(&format!(r#"{{"type":"presence","id":"p","room":"room","data":{{"meta":{meta}}}}}"#)).await;
    assert_eq!(ann.answer("p").await["type"], "ack");
    loop {
        let frame = raw.next().await.expect("the stream goes on");
        if frame.text().contains("123456789") {
            assert!(frame.text().contains(&format!(r#""meta":{meta}"#)), "{}", frame.text());
            break;
        }
    }
    let listed = grpc::online(&mut presence, "room").await;
    assert_eq!((listed[0].user.as_str(), listed[0].meta.as_str()), ("ann", meta));
}

/// A list comes in pages, in order; what is no page and no room is refused.
#[tokio::test]
async fn a_list_comes_in_pages() {
    let hearth = Hearth::serve(&[]).await;
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut track = Track::start(hearth.grpc(), "svc").await;
    for user in ["d", "b", "e", "a", "c"] {
        track.enter("room", user, None).await;
    }
    let mut request =
        ListPresenceRequest { room: "room".into(), page_size: Some(2), page_token: String::new() };
    let mut pages = Vec::new();
    loop {
        let page = within("a page", presence.list_presence(request.clone())).await.unwrap().into_inner();
        assert_eq!(page.count, 5);
        pages.push(page.online.into_iter().map(|user| user.user).collect::<String>());
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(pages, ["ab", "cd", "e"]);
    assert_eq!(grpc::users(&mut presence, "nobody-was-ever-here").await, [""; 0]);
    for (room, page_size) in [("a room", None), ("", None), ("room", Some(0)), ("room", Some(1001))] {
        let request = ListPresenceRequest { room: room.into(), page_size, ..Default::default() };
        let refused = within("a refusal", presence.list_presence(request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{room:?} {page_size:?}: {refused}");
    }
    let refused =
        within("a refusal", presence.watch_presence(WatchPresenceRequest { room: "a room".into() })).await;
    let refused = match refused {
        Err(status) => status,
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
    };
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

/// A service keeps users online: each while it is entered, all while the stream lives; and it is told who else is there.
/// When it ends its side they leave at once.
#[tokio::test]
async fn a_service_keeps_users_online() {
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let mut track = Track::start(hearth.grpc(), "svc").await;
    track.enter("room", "robot", Some(r#"{"status":"ready"}"#)).await;
    // Empty is the caller.
    track.enter("room", "", None).await;
    ben.until_online(&["ben", "robot", "svc"]).await;
    assert_eq!(ben.view.online()["robot"], json!({"status": "ready"}));
    track.enter("room", "robot", Some(r#"{"status":"busy"}"#)).await;
    ben.until("its new meta", |view| view.online()["robot"] == json!({"status": "busy"})).await;
    match track.ask(track_request::Command::Heartbeat(Heartbeat {})).await {
        track_response::Frame::Ack(_) => {}
        other => panic!("{other:?} instead of an ack"),
    }
    // A browser's tab of the same user is a second session of it.
    let (tab, _) = Client::enter(door, &target("room", "robot")).await;
    let listed = grpc::online(&mut presence, "room").await;
    let sessions: Vec<_> = listed.iter().map(|user| (user.user.as_str(), user.sessions)).collect();
    assert_eq!(sessions, [("ben", 1), ("robot", 2), ("svc", 1)]);
    tab.close().await;

    // Diffs out: what it was told comes to the same.
    let mut view = View::new("svc", "room");
    while view.users() != ["ben", "robot", "svc"] || view.online()["robot"] != json!({"status": "busy"}) {
        if let Some(track_response::Frame::Presence(presence)) = track.next().await.frame {
            view.presence(&presence);
        }
    }
    track.leave("room", "svc").await;
    ben.until_online(&["ben", "robot"]).await;
    ben.mark(door).await;
    assert_eq!(ben.view.told("robot"), ["join", "update"]);
    assert_eq!(ben.view.told("svc"), ["join", "leave"]);
    let start = Instant::now();
    track.finish().await;
    ben.until_online(&["ben"]).await;
    assert!(start.elapsed() < AT_ONCE, "it was not told at once");
}

/// When a tracking stream breaks, its users have vanished: they are told gone after the timeout, and another stream that
/// enters them in time is not noticed.
#[tokio::test]
async fn users_of_a_broken_stream_have_vanished() {
    let timeout = Duration::from_secs(2);
    let hearth = Hearth::serve(&["--presence-timeout", "2s"]).await;
    let door = hearth.http();
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let proxy = Proxy::start(hearth.grpc()).await;
    let mut track = Track::start(proxy.address(), "svc").await;
    for user in ["lost", "kept"] {
        track.enter("room", user, Some(r#"{"n":1}"#)).await;
    }
    ben.until_online(&["ben", "kept", "lost"]).await;
    let start = Instant::now();
    proxy.cut();
    all_vanished(&mut presence, "kept").await;
    let mut again = Track::start(proxy.address(), "svc").await;
    again.enter("room", "kept", None).await;
    assert!(start.elapsed() < timeout, "too slow to mean anything");
    ben.until_shows("lost", false).await;
    let after = ben.view.when("leave", "lost") - start;
    assert!((timeout..timeout + LATE).contains(&after), "{after:?}");
    ben.wait_out(door).await;
    assert_eq!((ben.view.told("lost"), ben.view.told("kept")), (vec!["join", "leave"], vec!["join"]));
    assert_eq!(
        ben.view.online()["kept"],
        json!({"n": 1}),
        "it came back without a meta, so the last one holds"
    );
}

/// What a tracking service asks wrongly is answered, and its stream goes on.
#[tokio::test]
async fn a_tracking_service_is_told_its_mistakes() {
    let hearth = Hearth::serve(&[]).await;
    let mut presence = grpc::presence(hearth.grpc()).await;
    let mut track = Track::start(hearth.grpc(), "svc").await;
    track.enter("room", "robot", None).await;
    let enter = |room: &str, user: &str, meta: &str| {
        let (room, user, meta) = (room.to_owned(), user.to_owned(), Some(meta.to_owned()));
        Some(track_request::Command::Enter(TrackEnter { room, user, meta }))
    };
    let large = format!(r#"{{"s":"{}"}}"#, "x".repeat(4097 - 8));
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    let leave = TrackLeave { room: "a room".into(), user: "robot".into() };
    let rows = [
        ("a name that is none", enter("a room", "robot", "{}")),
        ("a user that is none", enter("room", "a\u{7}b", "{}")),
        ("a list", enter("room", "robot", "[]")),
        ("no JSON", enter("room", "robot", "{")),
        ("nothing", enter("room", "robot", "")),
        ("4,097 bytes", enter("room", "robot", &large)),
        ("65 levels", enter("room", "robot", &deep)),
        ("a leave of no room", Some(track_request::Command::Leave(leave))),
        ("no command", None),
    ];
    for (what, command) in rows {
        track.send(TrackRequest { id: what.into(), command }).await;
        let error = loop {
            let response = track.next().await;
            if response.id == what {
                break response.frame;
            }
        };
        match error {
            Some(track_response::Frame::Error(error)) => {
                assert_eq!(error.code, Code::InvalidArgument as i32, "{what}: {error:?}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    let listed = grpc::online(&mut presence, "room").await;
    assert_eq!((listed.len(), listed[0].meta.as_str()), (1, "{}"), "nothing of it holds: {listed:?}");
}

/// A `Connect` stream is a browser's twin: joined first, then the state, then steps; it sets its meta, and is told alike
/// what it does wrong.
#[tokio::test]
async fn connect_hears_and_sets_presence() {
    use connect_request::Command;
    use connect_response::Frame;
    let hearth = Hearth::serve(&[]).await;
    let door = hearth.http();
    let mut ben = Watcher::enter(door, "room", "ben").await;
    let mut session = Session::connect(hearth.grpc(), "svc").await;
    session.presence = true;
    session.send("j", Command::Join(Join { room: "room".into(), ..Default::default() })).await;
    match session.next().await {
        Frame::Joined(joined) => assert_eq!(joined.room, "room"),
        other => panic!("{other:?} instead of joined"),
    }
    let mut view = View::new("svc", "room");
    let read = async |session: &mut Session, view: &mut View| match session.next().await {
        Frame::Presence(presence) => {
            assert_eq!(view.has_begun(), !matches!(presence.event, Some(presence::Event::State(_))));
            view.presence(&presence);
        }
        other => panic!("{other:?} instead of presence"),
    };
    read(&mut session, &mut view).await;
    assert!(view.shows("svc") && view.shows("ben"), "{view:?}");
    let set = |room: &str, meta: Option<&str>| {
        Command::Presence(SetPresence { room: room.into(), meta: meta.map(str::to_owned) })
    };
    for meta in [Some(r#"{"status":"busy"}"#), None] {
        session.send("p", set("room", meta)).await;
        match session.answer("p").await {
            Frame::Ack(ack) => assert_eq!(ack.room, "room"),
            other => panic!("{other:?} instead of an ack"),
        }
    }
    ben.until("its meta", |view| view.shows("svc") && view.online()["svc"] == json!({"status": "busy"}))
        .await;
    ben.client().set_meta("room", json!({"n": 1})).await;
    while view.online()["ben"] != json!({"n": 1}) || view.online()["svc"] != json!({"status": "busy"}) {
        read(&mut session, &mut view).await;
    }
    for (room, meta, code) in [
        ("room", "[]", Code::InvalidArgument),
        ("room", "", Code::InvalidArgument),
        ("a room", "{}", Code::InvalidArgument),
        ("other", "{}", Code::FailedPrecondition),
    ] {
        session.send("e", set(room, Some(meta))).await;
        match session.answer("e").await {
            Frame::Error(error) => assert_eq!(error.code, code as i32, "{room} {meta:?}: {error:?}"),
            other => panic!("{room} {meta:?}: {other:?}"),
        }
    }
    // Out of the room there is nothing to hear; and back without presence neither, though it is seen.
    session.send("l", Command::Leave(Leave { room: "room".into() })).await;
    assert!(matches!(session.answer("l").await, Frame::Ack(_)));
    ben.until_shows("svc", false).await;
    let unseeing = Join { room: "room".into(), presence: Some(false), ..Default::default() };
    session.send("j", Command::Join(unseeing)).await;
    while !matches!(session.next().await, Frame::Joined(_)) {}
    ben.until_shows("svc", true).await;
    ben.mark(door).await;
    session.publish("room", "end", "{}").await;
    assert_eq!(session.event().await.id, "end", "no presence came before it");
    session.finish().await;
    ben.until_shows("svc", false).await;
}
