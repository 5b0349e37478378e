//! Event streams when something goes wrong: networks that cut, readers that sleep, silence, and many at once.
use hearth_tests::{
    Dice,
    client::Client,
    eventually, grpc, heavy, http,
    observer::Observer,
    presence::Watcher,
    process::Hearth,
    proxy::Proxy,
    sse::{self, Stream},
    within,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// Publishes from 1 on until told to stop, and gives the last seq.
fn publish_meanwhile(http: SocketAddr, user: &str, room: &str) -> (watch::Sender<bool>, JoinHandle<u64>) {
    let (stop, stopped) = watch::channel(false);
    let (user, room) = (user.to_owned(), room.to_owned());
    let publishing = tokio::spawn(async move {
        let mut client = Client::connect(http, &format!("/ws?user={user}")).await;
        let mut last = 0;
        while !*stopped.borrow() {
            last = client.publish(&room, &format!("{user}{last}")).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        client.close().await;
        last
    });
    (stop, publishing)
}

/// The same through a network that cuts after so many bytes, wherever that is: in the head, in an id, in a message.
#[tokio::test]
async fn a_network_that_cuts_anywhere() {
    let hearth = Hearth::serve(&["--rate-limit", "0", "--history-size", "100000"]).await;
    let proxy = Proxy::start(hearth.http()).await;
    let (stop, publishing) = publish_meanwhile(hearth.http(), "p", "room");
    let (mut observer, mut dice) = (Observer::new("ann"), Dice::new(23));
    let (mut id, mut cuts) = (String::new(), 0);
    while cuts < 60 {
        proxy.cut_after(700 + dice.roll(2500));
        let socket = TcpStream::connect(proxy.address()).await.unwrap();
        let lines = if id.is_empty() { vec![] } else { vec![format!("Last-Event-ID: {id}")] };
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let request = sse::request(hearth.http(), "/events/room?user=ann", &lines);
        let mut stream = Stream::ask(socket, &request).await;
        while let Some(event) = stream.next().await {
            observer.frame(&event.data);
        }
        stream.last_id().clone_into(&mut id);
        cuts += 1;
    }
    stop.send_replace(true);
    let top = publishing.await.unwrap();
    proxy.forward();
    let mut stream = Stream::resume(proxy.address(), "/events/room?user=ann", &id).await;
    while observer.last("room") < top {
        observer.frame(&stream.event().await.data);
    }
}

/// 27. A reader that sleeps is cut, and others do not notice; with the last id that it had seen whole it goes on where it was.
#[tokio::test]
async fn a_slow_reader_is_cut_and_goes_on() {
    let flags = ["--session-queue-bytes", "65536", "--rate-limit", "0", "--history-size", "5000"];
    let hearth = Hearth::serve(&flags).await;
    let mut slow = Stream::open_narrow(hearth.http(), "/events/room?user=slow", 4096).await;
    let mut observer = Observer::new("slow");
    observer.frame(&slow.find(|event| event.tells("joined")).await.data);
    let mut quick = Stream::open(hearth.http(), "/events/room?user=quick").await;
    quick.find(|event| event.tells("joined")).await;
    let mut ben = Client::connect(hearth.http(), "/ws?user=ben").await;
    let filler = "x".repeat(10_000);
    let (mut top, mut cut) = (0, false);
    while !cut {
        for _ in 0..20 {
            top += 1;
            let data = json!({"filler": filler});
            ben.ask(json!({"type": "text", "id": top.to_string(), "room": "room", "data": data})).await;
            assert_eq!(quick.find(|event| event.seq().is_some()).await.seq(), Some(top));
        }
        assert!(top < 2000, "it is not cut");
        let page = http::get(hearth.http(), "/metrics", &[]).await.body;
        cut = http::metric(&page, "hearth_edge_slow_consumers_total") == Some(1.0);
    }
    for event in slow.rest().await {
        observer.frame(&event.data);
    }
    assert!(observer.last("room") < top, "some of it was lost with the connection");
    let mut back = Stream::resume(hearth.http(), "/events/room?user=slow", slow.last_id()).await;
    while observer.last("room") < top {
        observer.frame(&back.event().await.data);
    }
}

/// The end of a stream is no goodbye: others are told after the timeout, and nothing at all if it comes back in time.
#[tokio::test]
async fn whoever_comes_back_in_time_was_never_away() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let hearth = Hearth::serve(&["--presence-timeout", "2s"]).await;
    let mut watcher = Watcher::enter(hearth.http(), "room", "ben").await;
    let mut stream = Stream::open(hearth.http(), "/events/room?user=ann").await;
    stream.find(|event| event.tells("joined")).await;
    watcher.until_shows("ann", true).await;
    for _ in 0..2 {
        let id = stream.last_id().to_owned();
        drop(stream);
        sleep(TIMEOUT / 4).await;
        stream = Stream::resume(hearth.http(), "/events/room?user=ann", &id).await;
        stream.find(|event| event.tells("joined")).await;
    }
    sleep(TIMEOUT + TIMEOUT / 4).await;
    watcher.mark(hearth.http()).await;
    assert_eq!(watcher.view.told("ann"), ["join"], "nobody noticed");
    let end = Instant::now();
    drop(stream);
    watcher.until_shows("ann", false).await;
    let told = watcher.view.when("leave", "ann") - end;
    assert!(told >= TIMEOUT - Duration::from_millis(100), "told after {told:?}");
    assert_eq!(watcher.view.told("ann"), ["join", "leave"]);
}

/// 22. Where nothing is said there are comments, so that nobody in between takes the stream for dead; however it is carried.
#[tokio::test]
async fn silence_is_broken_by_comments() {
    let hearth = Hearth::serve(&[]).await;
    let mut bare = Stream::open(hearth.http(), "/events/quiet?user=ann").await;
    let mut carried = Stream::open_second(hearth.http(), "/events?room=hush&room=still&user=ann").await;
    for stream in [&mut bare, &mut carried] {
        let start = Instant::now();
        while stream.reader.comments == 0 {
            assert!(within("a comment", stream.read()).await, "the stream goes on");
        }
        assert!(start.elapsed() < Duration::from_secs(17), "{:?}", start.elapsed());
    }
}

/// In bytes, what a process holds alone and its part of what it shares.
fn proportional_set(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A thousand idle streams: what each of them costs, core and all. Where HTTP keeps the socket it is more, and is printed only.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_thousand_idle_streams() {
    const STREAMS: usize = 1000;
    const CROWD: usize = 50;
    let _turn = heavy().await;
    let hearth = Hearth::serve(&[]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let mut kept = Vec::new();
    let mut per_stream = Vec::new();
    for (how, second, count) in [("warm", false, 200), ("bare", false, STREAMS), ("by HTTP", true, STREAMS)] {
        let before = proportional_set(hearth.pid());
        // Presence is told now and then, so they come in crowds.
        for _ in 0..count / CROWD {
            let mut opening = JoinSet::new();
            for _ in 0..CROWD {
                let http = hearth.http();
                opening.spawn(async move {
                    let target = "/events/idle?user=ann";
                    let mut stream = match second {
                        false => Stream::open(http, target).await,
                        true => Stream::open_second(http, target).await,
                    };
                    stream.find(|event| event.name == "presence").await;
                    stream
                });
            }
            kept.extend(within("a crowd", opening.join_all()).await);
        }
        let all = kept.len() as u64;
        eventually("all of them", async || (grpc::sessions(&mut rooms, "idle").await == all).then_some(()))
            .await;
        sleep(Duration::from_millis(500)).await;
        let each = proportional_set(hearth.pid()).saturating_sub(before) / count as u64;
        println!("{count} idle streams, {how}: {each} bytes each");
        per_stream.push(each);
    }
    assert!(per_stream[1] < 8 * 1024, "{} bytes for each stream", per_stream[1]);
}
