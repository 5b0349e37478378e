//! The core through its own door: real gRPC over a real socket.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
use hearth_core::{Core, config::Config};
use hearth_proto::v1::{
    self, ConnectRequest, ConnectResponse, connect_request::Command, connect_response::Frame,
    room_service_client::RoomServiceClient,
};
use prometheus_client::registry::Registry;
use std::time::Duration;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming, transport::Channel};

type Client = RoomServiceClient<Channel>;

async fn start(config: Config) -> Client {
    let core = Core::in_memory(config, &mut Registry::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = core.clone();
    tokio::spawn(async move { running.run(std::future::pending()).await });
    tokio::spawn(async move { core.serve(listener, std::future::pending()).await });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    RoomServiceClient::new(channel)
}

/// A Connect stream.
struct Session {
    send: mpsc::Sender<ConnectRequest>,
    frames: Streaming<ConnectResponse>,
}

impl Session {
    async fn open(client: &Client, user: &str) -> Self {
        let (send, requests) = mpsc::channel(1024);
        let mut request = Request::new(ReceiverStream::new(requests));
        request.metadata_mut().insert("user", user.parse().unwrap());
        let frames = client.clone().connect(request).await.unwrap().into_inner();
        let mut session = Self { send, frames };
        assert!(matches!(session.next().await.frame, Some(Frame::Welcome(welcome)) if welcome.user == user));
        session
    }

    async fn say(&self, id: &str, command: Command) {
        self.send.send(ConnectRequest { id: id.into(), command: Some(command) }).await.unwrap();
    }

    /// The next frame that is not presence.
    async fn next(&mut self) -> ConnectResponse {
        loop {
            let frame = timeout(Duration::from_secs(10), self.frames.message())
                .await
                .expect("a frame in time")
                .unwrap()
                .expect("a frame");
            if !matches!(frame.frame, Some(Frame::Presence(_))) {
                return frame;
            }
        }
    }

    async fn join(&mut self, join: v1::Join) -> v1::Joined {
        self.say("join", Command::Join(join)).await;
        match self.next().await.frame {
            Some(Frame::Joined(joined)) => joined,
            other => panic!("no joined but {other:?}"),
        }
    }

    /// The seqs of the next so many events.
    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            if let Some(Frame::Event(event)) = self.next().await.frame {
                seqs.push(event.seq);
            }
        }
        seqs
    }
}

fn join(room: &str, since: Option<(&str, u64)>) -> v1::Join {
    let since = since.map(|(epoch, seq)| v1::Position { epoch: epoch.into(), seq });
    v1::Join { room: room.into(), since, ..v1::Join::default() }
}

fn text(room: &str, json: &str) -> Command {
    let payload = Some(v1::Payload { data: Some(v1::payload::Data::Json(json.into())) });
    Command::Publish(v1::Publish { room: room.into(), payload, ..v1::Publish::default() })
}

#[tokio::test]
async fn a_message_is_acked_then_broadcast_and_never_twice() {
    let client = start(Config::default()).await;
    let mut ann = Session::open(&client, "ann").await;
    let mut bob = Session::open(&client, "bob").await;
    let joined = ann.join(join("general", None)).await;
    assert_eq!((joined.position.unwrap().seq, joined.recovered), (0, None));
    bob.join(join("general", None)).await;
    ann.say("m1", text("general", r#"{"content":"Hello","author":"eve"}"#)).await;
    let ack = ann.next().await;
    assert_eq!(ack.id, "m1");
    assert!(
        matches!(ack.frame, Some(Frame::Ack(ack)) if ack.position.as_ref().unwrap().seq == 1 && !ack.duplicate)
    );
    for session in [&mut ann, &mut bob] {
        let Some(Frame::Event(event)) = session.next().await.frame else { panic!("the event follows") };
        assert_eq!((event.seq, event.author.as_str(), event.id.as_str()), (1, "ann", "m1"));
        assert_eq!(
            event.payload.unwrap().data,
            Some(v1::payload::Data::Json(r#"{"content":"Hello"}"#.into()))
        );
    }
    ann.say("m1", text("general", "{}")).await;
    let Some(Frame::Ack(again)) = ann.next().await.frame else { panic!("acked again") };
    assert!(again.duplicate && again.position.unwrap().seq == 1);
    ann.say("m2", text("general", "{}")).await;
    assert_eq!(bob.seqs(1).await, [2], "the doubled one was not broadcast");
}

#[tokio::test]
async fn the_recovery_table() {
    let client = start(Config { history_size: 3, ..Config::default() }).await;
    let mut ann = Session::open(&client, "ann").await;
    let epoch = ann.join(join("r", None)).await.position.unwrap().epoch;
    for n in 0..10 {
        ann.say(&format!("m{n}"), text("r", "{}")).await;
    }
    assert_eq!(ann.seqs(10).await, (1..=10).collect::<Vec<_>>());
    let rows = [
        ("current", epoch.as_str(), 10, Some(true), 0),
        ("behind", &epoch, 8, Some(true), 2),
        ("at the edge of history", &epoch, 7, Some(true), 3),
        ("older than history", &epoch, 6, Some(false), 0),
        ("ahead of the top", &epoch, 11, Some(false), 0),
        ("another epoch", "other", 10, Some(false), 0),
        ("unreadable", "", 0, Some(false), 0),
    ];
    for (name, epoch, seq, recovered, replayed) in rows {
        let mut bob = Session::open(&client, "bob").await;
        let joined = bob.join(join("r", Some((epoch, seq)))).await;
        assert_eq!((joined.recovered, joined.replayed), (recovered, replayed), "{name}");
        assert_eq!(joined.position.unwrap().seq, 10, "{name}");
        let seqs = bob.seqs(replayed as usize).await;
        assert_eq!(seqs, (10 - replayed + 1..=10).collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn racing_publishers_under_constant_joins_are_seen_densely_by_all() {
    const PUBLISHERS: u64 = 8;
    const EACH: u64 = 100;
    let client = start(Config::default()).await;
    let mut first = Session::open(&client, "first").await;
    let epoch = first.join(join("r", None)).await.position.unwrap().epoch;
    let mut publishers = Vec::new();
    for publisher in 0..PUBLISHERS {
        let mut client = client.clone();
        publishers.push(tokio::spawn(async move {
            for n in 0..EACH {
                let payload = Some(v1::Payload { data: Some(v1::payload::Data::Json("{}".into())) });
                let id = format!("{publisher}-{n}");
                let request =
                    v1::PublishRequest { room: "r".into(), id, payload, ..v1::PublishRequest::default() };
                client.publish(request).await.unwrap();
            }
        }));
    }
    let mut observers = Vec::new();
    for n in 0..20 {
        let (client, epoch) = (client.clone(), epoch.clone());
        observers.push(tokio::spawn(async move {
            let mut session = Session::open(&client, &format!("o{n}")).await;
            assert_eq!(session.join(join("r", Some((&epoch, 0)))).await.recovered, Some(true));
            session.seqs((PUBLISHERS * EACH) as usize).await
        }));
        tokio::task::yield_now().await;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let all: Vec<u64> = (1..=PUBLISHERS * EACH).collect();
    assert_eq!(first.seqs(all.len()).await, all);
    for observer in observers {
        assert_eq!(observer.await.unwrap(), all);
    }
}

#[tokio::test]
async fn a_large_replay_comes_in_pages_and_meets_the_live_events() {
    let client = start(Config { session_queue_bytes: 600_000, ..Config::default() }).await;
    let mut ann = Session::open(&client, "ann").await;
    let epoch = ann.join(join("r", None)).await.position.unwrap().epoch;
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(20_000));
    for n in 0..100 {
        ann.say(&format!("m{n}"), text("r", &large)).await;
        ann.seqs(1).await;
    }
    let mut bob = Session::open(&client, "bob").await;
    let joined = bob.join(join("r", Some((&epoch, 0)))).await;
    assert_eq!((joined.recovered, joined.replayed), (Some(true), 100));
    for n in 100..120 {
        ann.say(&format!("m{n}"), text("r", &large)).await;
        ann.seqs(1).await;
    }
    assert_eq!(bob.seqs(120).await, (1..=120).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_of_large_events_is_bounded_in_bytes_and_says_that_there_is_more() {
    let mut client = start(Config::default()).await;
    let mut ann = Session::open(&client, "ann").await;
    ann.join(join("r", None)).await;
    for n in 0..20 {
        ann.say(&format!("m{n}"), text("r", &format!(r#"{{"x":"{}"}}"#, "x".repeat(60_000)))).await;
        ann.seqs(1).await;
    }
    let (mut after, mut seqs) = (0, Vec::new());
    loop {
        let list =
            v1::ListMessagesRequest { room: "r".into(), after: Some(after), limit: Some(1000), before: None };
        let page = client.list_messages(list).await.unwrap().into_inner();
        assert!((1..=8).contains(&page.messages.len()), "{}", page.messages.len());
        seqs.extend(page.messages.iter().map(|event| event.seq));
        after = *seqs.last().unwrap();
        if !page.more {
            break;
        }
    }
    assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn faults_are_answered_and_the_stream_lives() {
    let client = start(Config { max_rooms_per_session: 1, ..Config::default() }).await;
    let mut ann = Session::open(&client, "ann").await;
    ann.join(join("r", None)).await;
    let cases = [
        ("bad name", Command::Join(join("no spaces", None)), Code::InvalidArgument),
        ("too many rooms", Command::Join(join("other", None)), Code::ResourceExhausted),
        ("another's room", Command::Join(join("~bob", None)), Code::PermissionDenied),
        ("not joined", Command::Leave(v1::Leave { room: "other".into() }), Code::FailedPrecondition),
        (
            "no payload",
            Command::Publish(v1::Publish { room: "r".into(), ..v1::Publish::default() }),
            Code::InvalidArgument,
        ),
        ("no object", text("r", "[1]"), Code::InvalidArgument),
        ("too large", text("r", &format!(r#"{{"x":"{}"}}"#, "x".repeat(70_000))), Code::InvalidArgument),
        (
            "no limit",
            Command::History(v1::History { room: "r".into(), limit: Some(0), ..v1::History::default() }),
            Code::InvalidArgument,
        ),
    ];
    for (name, command, code) in cases {
        ann.say("fault", command).await;
        let answer = ann.next().await;
        assert_eq!(answer.id, "fault", "{name}");
        assert!(
            matches!(&answer.frame, Some(Frame::Error(error)) if error.code == code as i32),
            "{name}: {answer:?}"
        );
    }
    ann.say(&"x".repeat(257), Command::Ping(v1::Ping {})).await;
    assert!(
        matches!(ann.next().await.frame, Some(Frame::Error(error)) if error.code == Code::InvalidArgument as i32)
    );
    ann.say("alive", Command::Ping(v1::Ping {})).await;
    assert!(matches!(ann.next().await.frame, Some(Frame::Ack(_))));
}

#[tokio::test]
async fn a_stream_that_ends_leaves_nothing_behind() {
    let mut client = start(Config::default()).await;
    let mut ann = Session::open(&client, "ann").await;
    ann.join(join("r", None)).await;
    let sessions = |list: v1::ListRoomsResponse| list.rooms.first().map_or(0, |room| room.sessions);
    assert_eq!(sessions(client.list_rooms(v1::ListRoomsRequest::default()).await.unwrap().into_inner()), 1);
    drop(ann);
    timeout(Duration::from_secs(10), async {
        while sessions(client.list_rooms(v1::ListRoomsRequest::default()).await.unwrap().into_inner()) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the room is empty again");
}

/// A service that comes back to many rooms at once: the answers come as fast as they are read, and none of them cuts the stream.
#[tokio::test]
async fn a_wave_of_joins_does_not_overrun_its_own_stream() {
    let client = start(Config { session_queue_bytes: 200_000, ..Config::default() }).await;
    let mut ann = Session::open(&client, "ann").await;
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(10_000));
    for n in 0..200 {
        ann.say(&format!("m{n}"), text(&format!("r{}", n % 20), &large)).await;
        assert!(matches!(ann.next().await.frame, Some(Frame::Ack(_))));
    }
    let mut bob = Session::open(&client, "bob").await;
    for room in 0..20 {
        bob.say("", Command::Join(v1::Join { history: 10, ..join(&format!("r{room}"), None) })).await;
    }
    let (mut joined, mut events) = (0, 0);
    while joined < 20 || events < 200 {
        match bob.next().await.frame {
            Some(Frame::Joined(_)) => joined += 1,
            Some(Frame::Event(_)) => events += 1,
            other => panic!("{other:?}"),
        }
    }
}

/// A second join while the first one's replay is under way says where the room is, and the replay goes on.
#[tokio::test]
async fn a_second_join_does_not_end_a_replay_and_a_leave_does() {
    let client = start(Config { session_queue_bytes: 200_000, ..Config::default() }).await;
    let mut ann = Session::open(&client, "ann").await;
    let epoch = ann.join(join("r", None)).await.position.unwrap().epoch;
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(10_000));
    for n in 0..100 {
        ann.say(&format!("m{n}"), text("r", &large)).await;
        ann.seqs(1).await;
    }
    let mut bob = Session::open(&client, "bob").await;
    for id in ["first", "second"] {
        bob.say(id, Command::Join(join("r", Some((&epoch, 0))))).await;
    }
    assert_eq!(bob.seqs(100).await, (1..=100).collect::<Vec<_>>());
    let mut eve = Session::open(&client, "eve").await;
    eve.say("j", Command::Join(join("r", Some((&epoch, 0))))).await;
    assert!(matches!(eve.next().await.frame, Some(Frame::Joined(_))));
    eve.say("l", Command::Leave(v1::Leave { room: "r".into() })).await;
    while !matches!(eve.next().await.frame, Some(Frame::Ack(_))) {}
    eve.say("p", Command::Ping(v1::Ping {})).await;
    assert!(matches!(eve.next().await.frame, Some(Frame::Ack(_))), "no event after the leave");
}

/// What is bob's, others neither join nor read.
#[tokio::test]
async fn a_personal_room_is_its_users() {
    let client = start(Config::default()).await;
    let mut bob = Session::open(&client, "bob").await;
    bob.join(join("~bob", None)).await;
    let mut ann = Session::open(&client, "ann").await;
    ann.say("", text("~bob", "{}")).await;
    assert_eq!(bob.seqs(1).await, [1]);
    let read = || Command::History(v1::History { room: "~bob".into(), ..v1::History::default() });
    for command in [Command::Join(join("~bob", None)), read()] {
        ann.say("x", command).await;
        assert!(
            matches!(ann.next().await.frame, Some(Frame::Error(error)) if error.code == Code::PermissionDenied as i32)
        );
    }
    bob.say("h", read()).await;
    assert!(matches!(bob.next().await.frame, Some(Frame::History(page)) if page.messages.len() == 1));
}

/// A stream that is cut because of what came on it says so.
#[tokio::test]
async fn a_message_that_is_too_large_for_any_frame_ends_the_stream_with_a_status() {
    let client = start(Config::default()).await;
    let mut ann = Session::open(&client, "ann").await;
    ann.say("x", text("r", &"x".repeat(1 << 20))).await;
    let end = timeout(Duration::from_secs(10), ann.frames.message()).await.unwrap();
    assert_eq!(end.unwrap_err().code(), Code::InvalidArgument);
}

/// Whoever asks for its health hears of a drain before the streams end.
#[tokio::test]
async fn a_drain_is_no_longer_serving() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let core = Core::in_memory(Config::default(), &mut Registry::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move { core.serve(listener, async { drop(stopped.await) }).await });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let request = HealthCheckRequest { service: "hearth.v1.RoomService".into() };
    let mut health = HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let _session = Session::open(&RoomServiceClient::new(channel), "ann").await;
    stop.send(()).unwrap();
    let told = timeout(Duration::from_secs(5), health.message()).await.unwrap();
    assert_eq!(told.unwrap().unwrap().status(), ServingStatus::NotServing);
    drop(health);
    timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
}
