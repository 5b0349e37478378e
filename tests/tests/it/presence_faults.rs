//! Edges and cores die, restart and lose each other, and presence tells the truth: whoever is back in time was never away,
//! and whoever is not is told gone once.
use futures_util::future::join_all;
use hearth_tests::{
    client::Client,
    eventually, grpc, heavy,
    presence::{View, Watcher, as_online, meta_of},
    process::{Hearth, lasting_address},
    proxy::Proxy,
    within,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How much later than the timeout a leave may be told where a process has died, on a busy machine.
const LATE: Duration = Duration::from_secs(6);

/// These users join the room at that door, all at once, without looking at who else is there.
async fn crowd(http: SocketAddr, users: impl IntoIterator<Item = String>) -> Vec<Client> {
    let join = |user: String| async move {
        let mut client = Client::connect(http, &format!("/ws?user={user}")).await;
        client.join("room", json!({"presence": false})).await;
        client
    };
    // In the order of their names.
    within("the crowd", join_all(users.into_iter().map(join))).await
}

fn named(name: &str, count: usize) -> impl Iterator<Item = String> + use<'_> {
    (0..count).map(move |n| format!("{name}{n}"))
}

fn enter(http: SocketAddr, user: &str) -> impl Future<Output = (Client, serde_json::Value)> + use<> {
    let target = format!("/ws/room?user={user}");
    async move { Client::enter(http, &target).await }
}

/// 13. An edge is killed with five hundred sessions. Each of its users is told gone once, not before the timeout and not
/// long after it, to a browser on another edge and to a service; and nobody of them is left.
#[tokio::test]
async fn an_edge_dies_with_five_hundred_sessions() {
    const USERS: usize = 500;
    let _turn = heavy().await;
    let timeout = Duration::from_secs(2);
    let core = Hearth::core(&["--presence-timeout", "2s", "--presence-max", "2000"]).await;
    let (mut doomed, stays) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let mut presence = grpc::presence(core.grpc()).await;
    let mut browser = Watcher::enter(stays.http(), "room", "watcher").await;
    let mut service = Watcher::service(core.grpc(), "room").await;
    let clients = crowd(doomed.http(), named("u", USERS)).await;
    let all = |view: &View| view.users().len() == USERS + 1;
    tokio::join!(browser.until("all of them", all), service.until("all of them", all));
    let start = Instant::now();
    doomed.kill();
    tokio::join!(browser.until_online(&["watcher"]), service.until_online(&["watcher"]));
    browser.wait_out(stays.http()).await;
    for view in [&browser.view, &service.view] {
        for user in named("u", USERS) {
            assert_eq!(view.told(&user), ["join", "leave"], "{user}");
            let after = view.when("leave", &user) - start;
            assert!((timeout..timeout + LATE).contains(&after), "{user}: {after:?}");
        }
    }
    assert_eq!(grpc::users(&mut presence, "room").await, ["watcher"]);
    drop(clients);
}

/// 13. A core is killed and started again at the same address. On an edge that lives nobody is seen to go, and metas and
/// sessions are what they were; whose edge has died in the same moment is told gone, once, after the timeout.
#[tokio::test]
async fn a_core_dies_and_nobody_on_a_living_edge_flickers() {
    let timeout = Duration::from_secs(3);
    let mut core = Hearth::core(&["--grpc", &lasting_address(), "--presence-timeout", "3s"]).await;
    let (edge, mut other) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let mut watcher = Watcher::enter(edge.http(), "room", "watcher").await;
    let (mut ann, _) = enter(edge.http(), "ann").await;
    let (_tab, _) = enter(edge.http(), "ann").await;
    let (_ben, _) = enter(edge.http(), "ben").await;
    let (_cat, _) = enter(other.http(), "cat").await;
    watcher.until_online(&["ann", "ben", "cat", "watcher"]).await;
    ann.set_meta("room", json!({"status": "busy"})).await;
    watcher.until("ann's meta", |view| view.online()["ann"] == json!({"status": "busy"})).await;
    watcher.view.clear_steps();

    let start = Instant::now();
    core.kill();
    other.kill();
    core.restart().await;
    watcher.until_shows("cat", false).await;
    let after = watcher.view.when("leave", "cat") - start;
    assert!((timeout..timeout + LATE).contains(&after), "{after:?}");
    watcher.wait_out(edge.http()).await;
    assert_eq!(watcher.view.told("cat"), ["leave"]);
    for user in ["ann", "ben", "watcher"] {
        assert_eq!(watcher.view.told(user), [""; 0], "{user}");
    }
    let mut presence = grpc::presence(core.grpc()).await;
    let listed = grpc::online(&mut presence, "room").await;
    let listed: Vec<_> =
        listed.iter().map(|user| (user.user.as_str(), meta_of(user), user.sessions)).collect();
    assert_eq!(
        listed,
        [("ann", json!({"status": "busy"}), 2), ("ben", json!({}), 1), ("watcher", json!({}), 1)],
        "the new core knows what the old one knew"
    );
    // And it goes on as before.
    ann.set_meta("room", json!({"status": "back"})).await;
    watcher.until("her next meta", |view| view.online()["ann"] == json!({"status": "back"})).await;
    // The tab's session has set none: with the other one its meta goes.
    ann.close().await;
    watcher.until("no meta", |view| view.online()["ann"] == json!({})).await;
}

/// 13. While the core is away a user on one of its edges loads the page anew, another one leaves, and a third one vanishes.
/// The first is not seen to go; the others are told gone, once each.
#[tokio::test]
async fn what_happens_while_the_core_is_away_is_told_when_it_is_back() {
    let timeout = Duration::from_secs(5);
    let mut core = Hearth::core(&["--grpc", &lasting_address(), "--presence-timeout", "5s"]).await;
    let edge = Hearth::edge(core.grpc(), &[]).await;
    let mut watcher = Watcher::enter(edge.http(), "room", "watcher").await;
    let mut clients = Vec::new();
    for user in ["leaves", "reloads", "vanishes"] {
        clients.push(enter(edge.http(), user).await.0);
    }
    watcher.until_online(&["leaves", "reloads", "vanishes", "watcher"]).await;
    watcher.view.clear_steps();
    let [leaves, reloads, vanishes] =
        <[Client; 3]>::try_from(clients).unwrap_or_else(|_| unreachable!("there are three"));
    let start = Instant::now();
    core.kill();
    leaves.close().await;
    reloads.close_as(1001).await;
    vanishes.cut();
    // Its welcome waits for the core, who says who it is.
    let reloaded = tokio::spawn(enter(edge.http(), "reloads"));
    core.restart().await;
    let reloaded = within("the welcome", reloaded).await.unwrap();
    assert!(start.elapsed() < timeout, "too slow to mean anything");
    watcher.until_online(&["reloads", "watcher"]).await;
    let after = watcher.view.when("leave", "vanishes") - start;
    assert!((timeout..timeout + LATE).contains(&after), "{after:?}");
    watcher.wait_out(edge.http()).await;
    for (user, told) in [("leaves", vec!["leave"]), ("vanishes", vec!["leave"]), ("reloads", vec![])] {
        assert_eq!(watcher.view.told(user), told, "{user}");
    }
    let mut presence = grpc::presence(core.grpc()).await;
    assert_eq!(grpc::users(&mut presence, "room").await, ["reloads", "watcher"]);
    drop(reloaded);
}

/// 14. An edge is killed and started again. Its users who are back in time were never away, through whichever edge they come;
/// the clock of the others runs on, and each is told gone once.
#[tokio::test]
async fn a_restarted_edge_purges_nobody_early_and_keeps_nobody() {
    let timeout = Duration::from_secs(5);
    let core = Hearth::core(&["--presence-timeout", "5s"]).await;
    let mut edge = Hearth::edge(core.grpc(), &["--http", &lasting_address()]).await;
    let stays = Hearth::edge(core.grpc(), &[]).await;
    let mut presence = grpc::presence(core.grpc()).await;
    let mut watcher = Watcher::enter(stays.http(), "room", "watcher").await;
    let mut service = Watcher::service(core.grpc(), "room").await;
    let mut back = crowd(edge.http(), named("back", 10)).await;
    for client in &mut back {
        client.set_meta("room", json!({"status": "busy"})).await;
    }
    let gone = crowd(edge.http(), named("gone", 5)).await;
    let all = |view: &View| {
        let busy = view.online().values().filter(|meta| meta["status"] == "busy").count();
        (busy, view.users().len()) == (10, 16)
    };
    tokio::join!(watcher.until("all of them", all), service.until("all of them", all));
    watcher.view.clear_steps();
    service.view.clear_steps();

    let start = Instant::now();
    edge.kill();
    edge.restart().await;
    let mut returned = crowd(edge.http(), named("back", 5)).await;
    returned.extend(crowd(stays.http(), (5..10).map(|n| format!("back{n}"))).await);
    assert!(start.elapsed() < timeout, "too slow to mean anything: {:?}", start.elapsed());
    let rest = |view: &View| view.users().len() == 11;
    tokio::join!(watcher.until("the others' leave", rest), service.until("the others' leave", rest));
    watcher.wait_out(stays.http()).await;
    for view in [&watcher.view, &service.view] {
        for user in named("gone", 5) {
            assert_eq!(view.told(&user), ["leave"], "{user}");
            let after = view.when("leave", &user) - start;
            assert!((timeout..timeout + LATE).contains(&after), "{user}: {after:?}");
        }
        for user in named("back", 10) {
            assert_eq!(view.told(&user), [""; 0], "{user}");
        }
    }
    let listed = grpc::online(&mut presence, "room").await;
    assert!(listed.iter().all(|user| user.sessions == 1), "{listed:?}");
    assert_eq!(as_online(&listed), *watcher.view.online(), "metas and all");
    drop((back, gone, returned));
}

/// 14. Two edges are stopped in good order, one after the other, and started again; their users come back. A service that
/// watches sees nothing of it.
#[tokio::test]
async fn a_rolling_restart_shows_nothing() {
    let timeout = Duration::from_secs(8);
    let core = Hearth::core(&["--presence-timeout", "8s"]).await;
    let mut edges = Vec::new();
    for _ in 0..2 {
        let flags = ["--http", &lasting_address(), "--drain-timeout", "2s"];
        edges.push(Hearth::edge(core.grpc(), &flags).await);
    }
    let mut presence = grpc::presence(core.grpc()).await;
    let mut service = Watcher::service(core.grpc(), "room").await;
    let mut clients = Vec::new();
    for (n, edge) in edges.iter().enumerate() {
        clients.push(crowd(edge.http(), named(&format!("e{n}-"), 20)).await);
    }
    service.until("all of them", |view| view.users().len() == 40).await;
    service.view.clear_steps();
    for (n, edge) in edges.iter_mut().enumerate() {
        let start = Instant::now();
        edge.terminate();
        let mut closing = JoinSet::new();
        for mut client in std::mem::take(&mut clients[n]) {
            closing.spawn(async move {
                assert_eq!(client.closed().await.0, 1001);
                client.close().await;
            });
        }
        within("all closes", closing.join_all()).await;
        let status = edge.ended().await;
        assert_eq!(status.code(), Some(0), "{status}\n{}", edge.said());
        edge.restart().await;
        clients[n] = crowd(edge.http(), named(&format!("e{n}-"), 20)).await;
        assert!(start.elapsed() < timeout, "too slow to mean anything: {:?}", start.elapsed());
    }
    service.wait_out(edges[0].http()).await;
    let told: Vec<_> = service.view.steps().iter().filter(|step| !step.user.starts_with("mark-")).collect();
    assert!(told.is_empty(), "{told:?}");
    let listed = grpc::online(&mut presence, "room").await;
    assert_eq!(listed.len(), 40);
    assert!(listed.iter().all(|user| user.sessions == 1), "{listed:?}");
}

/// A link that is cut and comes back in time shows nothing, on either side of it, however often.
#[tokio::test]
async fn a_link_that_comes_back_shows_nothing() {
    let core = Hearth::core(&["--presence-timeout", "4s"]).await;
    let proxy = Proxy::start(core.grpc()).await;
    let (edge, stays) = (Hearth::edge(proxy.address(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let mut presence = grpc::presence(core.grpc()).await;
    let mut inside = Watcher::enter(edge.http(), "room", "inside").await;
    let mut outside = Watcher::enter(stays.http(), "room", "outside").await;
    let mut clients = crowd(edge.http(), named("u", 10)).await;
    clients[3].set_meta("room", json!({"n": 3})).await;
    let all = |view: &View| view.users().len() == 12 && view.online()["u3"]["n"] == 3;
    tokio::join!(inside.until("all of them", all), outside.until("all of them", all));
    let before = outside.view.online().clone();
    for view in [&mut inside.view, &mut outside.view] {
        view.clear_steps();
    }
    for _ in 0..3 {
        let links = proxy.accepted();
        proxy.cut();
        eventually("another link", async || (proxy.accepted() > links).then_some(())).await;
        // The link works again: somebody came through it, and outside that was seen.
        outside.mark(edge.http()).await;
    }
    outside.wait_out(stays.http()).await;
    inside.mark(edge.http()).await;
    for view in [&inside.view, &outside.view] {
        let told: Vec<_> = view
            .steps()
            .iter()
            .filter(|step| !step.user.starts_with("mark-") && step.what != "state")
            .collect();
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(*view.online(), before);
    }
    assert_eq!(as_online(&grpc::online(&mut presence, "room").await), before);
}

/// A link that is away for longer than the timeout: outside, its users leave once and come back once, with the metas that
/// they had; inside, who is left outside is seen again when it is back.
#[tokio::test]
async fn a_link_that_stays_away_is_one_leave_and_one_join() {
    let timeout = Duration::from_secs(1);
    let core = Hearth::core(&["--presence-timeout", "1s"]).await;
    let proxy = Proxy::start(core.grpc()).await;
    let (edge, stays) = (Hearth::edge(proxy.address(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let mut presence = grpc::presence(core.grpc()).await;
    let mut inside = Watcher::enter(edge.http(), "room", "inside").await;
    let mut outside = Watcher::enter(stays.http(), "room", "outside").await;
    let mut clients = crowd(edge.http(), named("u", 5)).await;
    clients[3].set_meta("room", json!({"n": 3})).await;
    let all = |view: &View| view.users().len() == 7 && view.online()["u3"]["n"] == 3;
    tokio::join!(inside.until("all of them", all), outside.until("all of them", all));
    let before = outside.view.online().clone();
    outside.view.clear_steps();
    let start = Instant::now();
    proxy.refuse();
    proxy.cut();
    outside.until_online(&["outside"]).await;
    let after = outside.view.when("leave", "u0") - start;
    assert!((timeout..timeout + LATE).contains(&after), "{after:?}");
    proxy.forward();
    outside.until("all are back", |view| *view.online() == before).await;
    outside.wait_out(stays.http()).await;
    for user in named("u", 5).chain(["inside".to_owned()]) {
        // A meta may come with the join or right after it.
        let told: Vec<_> = outside.view.told(&user).into_iter().filter(|what| *what != "update").collect();
        assert_eq!(told, ["leave", "join"], "{user}");
    }
    inside.until("everybody", |view| *view.online() == before).await;
    inside.mark(edge.http()).await;
    assert_eq!(*inside.view.online(), before);
    assert_eq!(as_online(&grpc::online(&mut presence, "room").await), before);
}

/// 13. A core is asked to stop and started again: its edges keep their browsers, and none of them is seen to go.
#[tokio::test]
async fn a_core_that_is_replaced_in_good_order_shows_nothing() {
    let mut core =
        Hearth::core(&["--grpc", &lasting_address(), "--drain-timeout", "2s", "--presence-timeout", "4s"])
            .await;
    let (edge, other) = (Hearth::edge(core.grpc(), &[]).await, Hearth::edge(core.grpc(), &[]).await);
    let mut watcher = Watcher::enter(edge.http(), "room", "watcher").await;
    let (_ann, _) = enter(edge.http(), "ann").await;
    let (_ben, _) = enter(other.http(), "ben").await;
    watcher.until_online(&["ann", "ben", "watcher"]).await;
    watcher.view.clear_steps();
    core.terminate();
    let status = core.ended().await;
    assert_eq!(status.code(), Some(0), "{status}\n{}", core.said());
    core.restart().await;
    watcher.wait_out(edge.http()).await;
    let told: Vec<_> = watcher
        .view
        .steps()
        .iter()
        .filter(|step| !step.user.starts_with("mark-") && step.what != "state")
        .collect();
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(watcher.view.users(), ["ann", "ben", "watcher"]);
    let mut presence = grpc::presence(core.grpc()).await;
    assert_eq!(grpc::users(&mut presence, "room").await, ["ann", "ben", "watcher"]);
}
