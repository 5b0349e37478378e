//! Everybody comes back at once.
use hearth_tests::{client::Client, eventually, grpc, heavy, observer::Observer, process::Hearth, within};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet, time::interval};

const SESSIONS: u64 = 2_000;
/// The event at which everybody's connection goes.
const CUT_AT: u64 = 5;

async fn session(
    http: SocketAddr,
    n: u64,
    mut last: watch::Receiver<u64>,
    returned: Arc<AtomicU64>,
) -> Duration {
    let mut observer = Observer::new(format!("session {n}"));
    let mut client = Client::connect(http, &format!("/ws/storm?user=s{n}")).await;
    while observer.last("storm") < CUT_AT {
        observer.frame(&client.next().await);
    }
    client.cut();
    let start = Instant::now();
    let mut client = Client::connect(http, &format!("/ws?user=s{n}")).await;
    client.send(json!({"type": "join", "room": "storm", "data": {"since": observer.since("storm")}})).await;
    let joined = client.next().await;
    let back = start.elapsed();
    assert_eq!(joined["data"]["recovered"], true, "session {n}: {joined}");
    observer.frame(&joined);
    returned.fetch_add(1, Ordering::Relaxed);
    loop {
        let goal = *last.borrow_and_update();
        if goal > 0 && observer.last("storm") == goal {
            return back;
        }
        tokio::select! {
            frame = client.next() => observer.frame(&frame),
            _ = last.changed() => {}
        }
    }
}

/// 6. Two thousand sessions drop at the same event and come back with `since`, while publishing goes on: nobody misses
/// anything, nobody gets anything twice.
#[tokio::test]
async fn two_thousand_sessions_come_back_at_once() {
    let _turn = heavy().await;
    let hearth = Hearth::serve(&[]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let (last, told) = watch::channel(0);
    let returned = Arc::new(AtomicU64::new(0));
    let mut sessions = JoinSet::new();
    for n in 0..SESSIONS {
        sessions.spawn(session(hearth.http(), n, told.clone(), returned.clone()));
    }
    eventually("all joins", async || (grpc::sessions(&mut rooms, "storm").await == SESSIONS).then_some(()))
        .await;
    // Twenty a second are forty thousand deliveries a second, as long as everybody is there.
    let mut clock = interval(Duration::from_millis(50));
    let mut n = 0;
    while returned.load(Ordering::Relaxed) < SESSIONS || n < CUT_AT + 10 {
        clock.tick().await;
        n += 1;
        grpc::publish(&mut rooms, "storm", n).await;
        assert!(n < 400, "{} of {SESSIONS} are back after {n} events", returned.load(Ordering::Relaxed));
    }
    last.send_replace(n);
    let mut back = within("everybody's last event", sessions.join_all()).await;
    back.sort_unstable();
    println!("half were back within {:?}, all within {:?}", back[back.len() / 2], back[back.len() - 1]);
}
