//! Going away in good order.
use hearth_proto::v1::connect_response::Frame;
use hearth_tests::{
    client::{Client, Incoming},
    eventually,
    grpc::{self, Session, Watch},
    http,
    process::{Hearth, lasting_address},
    raw::Raw,
    within,
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet};

/// Publishes until the connection ends, and gives the ids that were acknowledged. Says how far it is.
async fn publish_until_closed(
    http: SocketAddr,
    n: u64,
    progress: mpsc::Sender<()>,
) -> (Vec<String>, Vec<Value>) {
    let mut client = Client::connect(http, &format!("/ws?user=p{n}")).await;
    let (mut acknowledged, mut others) = (Vec::new(), Vec::new());
    let mut sent = 0;
    loop {
        let id = format!("{n}/{sent}");
        sent += 1;
        let frame = json!({"type": "text", "id": id, "room": "room", "data": {}});
        let open = client.try_send(&frame).await.is_ok();
        loop {
            match client.receive().await {
                Incoming::Frame(frame) if frame["type"] == "ack" => {
                    acknowledged.push(frame["id"].as_str().unwrap().to_owned());
                    // Nobody counts them once the drain is on.
                    let _ = progress.try_send(());
                    if open {
                        break;
                    }
                }
                Incoming::Frame(frame) => others.push(frame),
                Incoming::Closed(code, reason) => {
                    assert_eq!((code, reason.as_str()), (1001, "draining"));
                    return (acknowledged, others);
                }
                Incoming::Broken(error) => panic!("publisher {n}: {error}"),
            }
        }
    }
}

/// 34. An edge is asked to stop while events pass. All are told, closed with 1001, and the process ends with 0 in time. Every
/// event that was acknowledged is there, as a service sees that watches the core, which stays.
#[tokio::test]
async fn an_edge_drains_and_no_acknowledged_event_is_lost() {
    let core = Hearth::core(&[]).await;
    let mut edge = Hearth::edge(core.grpc(), &["--drain-timeout", "5s"]).await;
    let (mut watch, _) = Watch::start(core.grpc(), "room", None).await;
    let (progress, mut count) = mpsc::channel(1000);
    let mut publishers = JoinSet::new();
    for n in 0..4 {
        publishers.spawn(publish_until_closed(edge.http(), n, progress.clone()));
    }
    let (mut listener, _) = Client::enter(edge.http(), "/ws/room?user=listener").await;
    for _ in 0..100 {
        within("progress", count.recv()).await;
    }
    let start = Instant::now();
    edge.terminate();
    let told = listener.find(|frame| frame["data"]["event"] == "draining").await;
    assert_eq!(told["type"], "system", "{told}");
    assert!(told["data"]["reconnect_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{told}");
    assert_eq!(listener.closed().await, (1001, "draining".into()));
    listener.close().await;
    let outcomes = within("all publishers", publishers.join_all()).await;
    let status = edge.ended().await;
    assert_eq!(status.code(), Some(0), "{status}\n{}", edge.said());
    assert!(start.elapsed() < Duration::from_secs(6), "it took {:?}", start.elapsed());
    assert!(TcpStream::connect(edge.http()).await.is_err(), "nobody listens any more");

    let mut rooms = grpc::rooms(core.grpc()).await;
    let top = grpc::room(&mut rooms, "room").await.unwrap().position.unwrap().seq;
    let mut seen = Vec::new();
    for seq in 1..=top {
        let event = watch.event().await;
        assert_eq!(event.seq, seq);
        seen.push(event.id);
    }
    for (acknowledged, others) in outcomes {
        assert!(others.iter().any(|frame| frame["data"]["event"] == "draining"), "all are told: {others:?}");
        for id in acknowledged {
            assert!(seen.contains(&id), "{id} was acknowledged and is not there");
        }
    }
    assert_eq!(grpc::sessions(&mut rooms, "room").await, 1, "only the service is left");
}

/// 34. One process with everything: browsers and services are told alike.
#[tokio::test]
async fn a_whole_server_drains() {
    let mut hearth = Hearth::serve(&["--drain-timeout", "5s"]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let mut service = Session::connect(hearth.grpc(), "svc").await;
    service.join("room", None).await;
    let (mut watch, _) = Watch::start(hearth.grpc(), "room", None).await;
    ann.publish("room", "1").await;
    let start = Instant::now();
    hearth.terminate();
    let seen = ann.until(|frame| frame["data"]["event"] == "draining").await;
    assert_eq!(seen[0]["id"], "1", "what was on the way comes first: {seen:?}");
    assert_eq!(ann.closed().await, (1001, "draining".into()));
    ann.close().await;
    assert_eq!(service.event().await.id, "1");
    match service.next().await {
        Frame::Draining(draining) => assert!(draining.reconnect_after_ms > 0),
        other => panic!("{other:?} instead of draining"),
    }
    // Then its stream ends, in order or as unavailable; it never hangs.
    if let Err(status) = service.receive().await {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    }
    assert_eq!(watch.event().await.id, "1");
    if let Err(status) = watch.receive().await {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    }
    let status = hearth.ended().await;
    assert_eq!(status.code(), Some(0), "{status}\n{}", hearth.said());
    assert!(start.elapsed() < Duration::from_secs(6), "it took {:?}", start.elapsed());
}

/// 34. A client that neither reads nor answers cannot hold a drain beyond its time.
#[tokio::test]
async fn a_drain_ends_in_time_whoever_stays() {
    let mut hearth = Hearth::serve(&["--drain-timeout", "1s", "--history-size", "5000"]).await;
    let mut stuck = Raw::connect_with(hearth.http(), "/ws/room?user=stuck", Some(4096)).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let filler = "x".repeat(10_000);
    for n in 0..300 {
        ann.send(json!({"type": "text", "id": n.to_string(), "room": "room", "data": {"filler": filler}}))
            .await;
    }
    assert_eq!(ann.answer("299").await["data"]["seq"], 300);
    let idle = TcpStream::connect(hearth.http()).await.unwrap();
    let start = Instant::now();
    hearth.terminate();
    let status = hearth.ended().await;
    assert_eq!(status.code(), Some(0), "{status}\n{}", hearth.said());
    assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
    drop(idle);
    // And what reached its socket is whole frames.
    while stuck.next().await.is_some() {}
}

/// 34. Whoever is asked twice goes at once, whatever it waits for.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut hearth = Hearth::serve(&["--drain-timeout", "60s"]).await;
    let mut stuck = Raw::connect(hearth.http(), "/ws/room?user=stuck").await;
    let mut service = Session::connect(hearth.grpc(), "svc").await;
    hearth.terminate();
    // The drain is on, and this client does not answer the close.
    assert_eq!(stuck.closed().await.0, 1001);
    // Sooner it would be taken for the first one's echo.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    hearth.terminate();
    hearth.ended().await;
    assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
    while let Ok(Some(_)) = service.receive().await {}
}

/// While a core is replaced in good order, its edge keeps its browsers: they learn that the numbering is new, and go on.
#[tokio::test]
async fn an_edge_outlives_its_cores_drain() {
    let mut core = Hearth::core(&["--grpc", &lasting_address(), "--drain-timeout", "5s"]).await;
    let edge = Hearth::edge(core.grpc(), &[]).await;
    let (mut ann, first) = Client::enter(edge.http(), "/ws/room?user=ann").await;
    ann.publish("room", "1").await;
    assert_eq!(ann.next().await["id"], "1");
    core.terminate();
    let status = core.ended().await;
    assert_eq!(status.code(), Some(0), "{status}\n{}", core.said());
    eventually("an edge that is not ready", async || {
        (http::get(edge.http(), "/readyz", &[]).await.status == 503).then_some(())
    })
    .await;
    core.restart().await;
    let joined = ann.find(|frame| frame["data"]["event"] == "joined").await;
    assert_eq!(
        (&joined["data"]["recovered"], &joined["data"]["seq"]),
        (&json!(false), &json!(0)),
        "{joined}"
    );
    assert_ne!(joined["data"]["epoch"], first["epoch"]);
    eventually("an edge that is ready", async || {
        (http::get(edge.http(), "/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(ann.publish("room", "2").await, 1);
    assert_eq!(ann.next().await["id"], "2");
}
