//! Going away in time, whoever stays.
use super::{Browser, Hearth, one_process};
use futures_util::{StreamExt, stream};
use hearth_proto::v1::{
    ConnectRequest, ConnectResponse, Join, Payload, PublishRequest, connect_request::Command,
    connect_response::Frame, payload::Data, room_service_client::RoomServiceClient,
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

/// What a busy machine may add to any time.
const PATIENCE: Duration = Duration::from_secs(10);

async fn channel(grpc: &str) -> Channel {
    // The least that HTTP/2 knows: whoever does not read holds the other side up soon.
    let endpoint =
        Endpoint::from_shared(format!("http://{grpc}")).unwrap().initial_stream_window_size(65_535);
    endpoint.connect().await.unwrap()
}

/// Follows the core's health, as balancers do for as long as they live.
async fn watch_health(grpc: &str) -> Streaming<HealthCheckResponse> {
    let mut health = HealthClient::new(channel(grpc).await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    watch
}

/// A service that is in `room`, and has read so far.
async fn join(grpc: &str) -> Streaming<ConnectResponse> {
    let join = Command::Join(Join { room: "room".to_owned(), ..Join::default() });
    let commands = stream::iter([ConnectRequest { id: "1".to_owned(), command: Some(join) }]);
    let mut rooms = RoomServiceClient::new(channel(grpc).await);
    let mut answers = rooms.connect(commands.chain(stream::pending())).await.unwrap().into_inner();
    assert!(matches!(next(&mut answers).await, Frame::Welcome(_)));
    assert!(matches!(next(&mut answers).await, Frame::Joined(_)));
    answers
}

/// The next frame that is not presence.
async fn next(answers: &mut Streaming<ConnectResponse>) -> Frame {
    loop {
        let frame = timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap().frame.unwrap();
        if !matches!(frame, Frame::Presence(_)) {
            return frame;
        }
    }
}

/// More into `room` than a stream takes that nobody reads.
async fn fill(grpc: &str) {
    let mut rooms = RoomServiceClient::new(channel(grpc).await);
    for _ in 0..5 {
        let payload = Some(Payload { data: Some(Data::Binary(vec![7; 40_000].into())) });
        let request = PublishRequest { room: "room".to_owned(), payload, ..PublishRequest::default() };
        rooms.publish(request).await.unwrap();
    }
}

/// The status of a page.
async fn status(address: &str, path: &str) -> u16 {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Waits until a core says that it drains.
async fn draining(metrics: &str) {
    let unready = async {
        while status(metrics, "/readyz").await != 503 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, unready).await.unwrap();
}

fn lone_core(drain_timeout: &str) -> Hearth {
    Hearth::start(&[
        "core",
        "--grpc",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--drain-timeout",
        drain_timeout,
    ])
}

/// gRPC's own graceful end waits for every stream: for a health check that never ends, and for a client that takes nothing.
#[tokio::test]
async fn nobody_holds_up_a_drain() {
    let serve = ["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--drain-timeout", "2s"];
    for hearth in [lone_core("2s"), Hearth::start(&serve)] {
        let _watch = watch_health(&hearth.grpc).await;
        let _stalled = join(&hearth.grpc).await;
        fill(&hearth.grpc).await;
        let start = Instant::now();
        hearth.signal("-TERM");
        assert_eq!(timeout(PATIENCE, hearth.ended()).await.expect("an end"), Some(0));
        let took = start.elapsed();
        assert!(took > Duration::from_millis(1500), "they had no time to leave: {took:?}");
        assert!(took < Duration::from_secs(3), "it took {took:?}");
    }
}

/// A browser that does not answer the close holds the edge up, and yet services hear a goodbye: the edge's time ends before
/// the core's.
#[tokio::test]
async fn an_edge_leaves_its_core_time_for_a_goodbye() {
    let hearth =
        Hearth::start(&["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--drain-timeout", "2s"]);
    let (_silent, _) = Browser::join(&hearth.http, "/ws/room?user=silent").await;
    let mut service = join(&hearth.grpc).await;
    let start = Instant::now();
    hearth.signal("-TERM");
    assert!(matches!(next(&mut service).await, Frame::Draining(_)));
    let told = start.elapsed();
    assert_eq!(timeout(PATIENCE, hearth.ended()).await.expect("an end"), Some(0));
    assert!(told > Duration::from_secs(1), "the edge drains first, it took {told:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
}

/// A process and its group are often signalled at once, as coreutils' `timeout` does: that is one wish, not two.
#[tokio::test]
async fn two_signals_at_once_are_one() {
    let core = lone_core("1s");
    let _watch = watch_health(&core.grpc).await;
    let pid = core.process.id();
    let twice = format!("kill -TERM {pid}; sleep 0.02; kill -TERM {pid}");
    assert!(std::process::Command::new("sh").args(["-c", &twice]).status().unwrap().success());
    draining(&core.metrics).await;
    assert_eq!(timeout(PATIENCE, core.ended()).await.expect("an end"), Some(0));
}

#[tokio::test]
async fn a_later_signal_does_not_wait() {
    let core = lone_core("1h");
    let _watch = watch_health(&core.grpc).await;
    core.signal("-TERM");
    draining(&core.metrics).await;
    // It counts from the signal, which has been noticed.
    sleep(Duration::from_millis(250)).await;
    core.signal("-INT");
    assert_eq!(timeout(PATIENCE, core.ended()).await.expect("an end"), Some(1));
}

/// While it drains a core is not ready, alive and watched.
#[tokio::test]
async fn a_cores_pages_outlive_its_readiness() {
    let core = lone_core("2s");
    let _watch = watch_health(&core.grpc).await;
    for page in ["/readyz", "/healthz", "/metrics"] {
        assert_eq!(status(&core.metrics, page).await, 200, "{page}");
    }
    core.signal("-TERM");
    draining(&core.metrics).await;
    for (page, expected) in [("/readyz", 503), ("/healthz", 200), ("/metrics", 200)] {
        assert_eq!(status(&core.metrics, page).await, expected, "{page}");
    }
    assert_eq!(timeout(PATIENCE, core.ended()).await.expect("an end"), Some(0));
}

/// Where nobody is left there is nothing to wait for.
#[tokio::test]
async fn an_empty_server_ends_at_once() {
    let start = Instant::now();
    assert_eq!(one_process().end("-TERM"), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
}
