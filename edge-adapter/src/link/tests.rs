//! The link against a core that does as it is told, over real sockets: the stream breaks, the core comes back as another
//! one, says goodbye, or is none that an edge may follow.
use super::*;
use crate::session::request::Credentials;
use crate::{
    fanout::post::Post,
    session::key::SessionKey,
    wire::event::{Code, Kind, Payload, Position},
};
use bytes::Bytes;
use hearth_proto::v1::{
    self, AttachRequest, AttachResponse, CoreFrame, EdgeFrame,
    core_frame::Frame as FromCore,
    edge_frame::Frame,
    link_service_server::{LinkService, LinkServiceServer},
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, time};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request as GrpcRequest, Response, Status, Streaming};

/// No story waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// A core that hands each stream to the story.
#[derive(Clone)]
struct ScriptedCore(mpsc::Sender<Core>);

#[tonic::async_trait]
impl LinkService for ScriptedCore {
    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;

    async fn attach(
        &self,
        request: GrpcRequest<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (answers, rest) = mpsc::channel(64);
        let core = Core { requests: request.into_inner(), frames: VecDeque::new(), answers };
        self.0.send(core).await.map_err(|_| Status::unavailable("the story is over"))?;
        Ok(Response::new(ReceiverStream::new(rest)))
    }
}

/// The core's end of one stream. The stream ends when it is dropped.
struct Core {
    requests: Streaming<AttachRequest>,
    frames: VecDeque<EdgeFrame>,
    answers: mpsc::Sender<Result<AttachResponse, Status>>,
}

impl Core {
    async fn next(&mut self) -> EdgeFrame {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            let message = time::timeout(PATIENCE, self.requests.message()).await.expect("a frame in time");
            self.frames.extend(message.unwrap().expect("an open stream").frames);
        }
    }

    /// The next frame, as (session, request, what).
    async fn asked(&mut self) -> (u64, u64, Frame) {
        let EdgeFrame { session, request, frame } = self.next().await;
        (session, request, frame.unwrap())
    }

    async fn says(&self, frames: impl IntoIterator<Item = (u64, u64, FromCore)>) {
        let frames = frames.into_iter();
        let frames = frames
            .map(|(session, request, frame)| CoreFrame { session, request, frame: Some(frame) })
            .collect();
        self.answers.send(Ok(AttachResponse { frames })).await.unwrap();
    }

    /// Takes the hello and says who it is.
    async fn attach(&mut self, dev_mode: bool) {
        self.attach_with("memory", dev_mode).await;
    }

    /// The same, with an engine.
    async fn attach_with(&mut self, engine: &str, dev_mode: bool) {
        let (_, _, Frame::Hello(hello)) = self.asked().await else { panic!("hello comes first") };
        assert_eq!((hello.protocol, hello.edge.as_str()), (1, "edge-1"));
        let attached = v1::Attached {
            protocol: 1,
            core: "core".into(),
            engine: engine.into(),
            dev_mode,
            presence_timeout_ms: 30_000,
        };
        self.says([(0, 0, FromCore::Attached(attached))]).await;
    }
}

/// What the shards were told.
struct Told(mpsc::Sender<Post>);

impl Posts for Told {
    fn shards(&self) -> usize {
        1
    }

    fn post(&self, _: usize, posts: &mut Vec<Post>) {
        for post in posts.drain(..) {
            self.0.try_send(post).expect("stories are short");
        }
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

struct Story {
    link: LinkHandle,
    told: mpsc::Receiver<Post>,
    cores: mpsc::Receiver<Core>,
}

impl Story {
    async fn begin(accept_dev_mode: bool) -> Self {
        let (given, cores) = mpsc::channel(8);
        let address = serve(ScriptedCore(given)).await;
        let dialer = Dialer::url(&format!("http://{address}"), None, None).unwrap();
        let (link, told) = link(vec![dialer], accept_dev_mode);
        Self { link, told, cores }
    }

    async fn core(&mut self) -> Core {
        time::timeout(PATIENCE, self.cores.recv()).await.expect("a stream in time").unwrap()
    }

    async fn told(&mut self) -> Post {
        time::timeout(PATIENCE, self.told.recv()).await.expect("a post in time").unwrap()
    }

    /// A session that is live in room `r`, of epoch e1, at 3.
    async fn member(&mut self, core: &mut Core) {
        self.link
            .send(Request::Open {
                session: ann(),
                id: "s-ann".into(),
                who: Credentials::named("ann"),
                rooms: Vec::new(),
            })
            .unwrap();
        let join = Request::Join {
            session: ann(),
            id: None,
            room: "r".into(),
            since: None,
            history: 0,
            echo: true,
            presence: false,
        };
        self.link.send(join).unwrap();
        let (session, open, Frame::Open(_)) = core.asked().await else { panic!("open first") };
        let (_, join, Frame::Join(_)) = core.asked().await else { panic!("then join") };
        let opened = FromCore::Opened(v1::Opened { user: "ann".into(), ..v1::Opened::default() });
        core.says([(session, open, opened), (session, join, joined(3))]).await;
        assert!(matches!(self.told().await, Post::Opened { user, .. } if &*user == "ann"));
        assert!(matches!(self.told().await, Post::Joined { live: true, .. }));
    }

    fn publish(&self, id: Option<&str>) {
        let payload = Payload::Json(Bytes::from_static(br#"{"content":"Hello"}"#));
        let (id, room, kind) = (id.map(Into::into), "r".into(), Kind::Text);
        self.link.send(Request::Publish { session: ann(), id, room, kind, payload, fence: None }).unwrap();
    }

    async fn told_event(&mut self, seq: u64) {
        let post = self.told().await;
        assert!(matches!(&post, Post::Event { event, .. } if event.event.seq == seq), "{post:?}");
    }
}

fn link(dialers: Vec<Dialer>, accept_dev_mode: bool) -> (LinkHandle, mpsc::Receiver<Post>) {
    let (posts, told) = mpsc::channel(1024);
    let config = LinkConfig { edge_id: "edge-1".into(), accept_dev_mode };
    (start(dialers, Arc::new(Told(posts)), config, LinkMetrics::default()), told)
}

async fn serve(core: ScriptedCore) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(LinkServiceServer::new(core));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn ann() -> SessionKey {
    SessionKey::new(0, 0, 1)
}

fn at(epoch: &str, seq: u64) -> v1::Position {
    v1::Position { epoch: epoch.into(), seq }
}

fn event(seq: u64) -> v1::Event {
    v1::Event { room: "r".into(), kind: v1::EventKind::Text.into(), seq, ..v1::Event::default() }
}

fn live(seq: u64) -> (u64, u64, FromCore) {
    (0, 0, FromCore::Event(v1::RoomEvent { event: Some(event(seq)), session: String::new() }))
}

fn joined(seq: u64) -> FromCore {
    let joined = v1::Joined { room: "r".into(), position: Some(at("e1", seq)), ..v1::Joined::default() };
    let page = v1::Page { room: "r".into(), events: Vec::new(), live: true };
    FromCore::Joined(v1::LinkJoined {
        joined: Some(joined),
        page: Some(page),
        presence: 0,
        presence_hidden: false,
    })
}

fn resumed(epoch: &str, seq: u64, recovered: bool, events: Vec<v1::Event>) -> FromCore {
    let position = Some(at(epoch, seq));
    let joined = v1::Joined {
        room: "r".into(),
        position,
        recovered: Some(recovered),
        replayed: events.len() as u64,
        ..v1::Joined::default()
    };
    let page = v1::Page { room: "r".into(), events, live: true };
    FromCore::Resumed(v1::Resumed { joined: Some(joined), page: Some(page) })
}

/// The stream is cut between a publish and its ack. The edge comes back, brings its session and room along and sends the
/// publish again under the same id; nobody is told anything but what they missed.
#[tokio::test]
async fn a_stream_that_is_cut_before_the_ack_goes_on_as_if_nothing_had_been() {
    let mut story = Story::begin(true).await;
    let mut first = story.core().await;
    first.attach(true).await;
    time::timeout(PATIENCE, story.link.wait_attached()).await.unwrap();
    assert!(story.link.attached() && story.link.dev_mode());
    story.member(&mut first).await;
    story.publish(Some("p1"));
    let (_, number, Frame::Publish(sent)) = first.asked().await else { panic!("a publish") };
    assert_eq!((sent.id.as_str(), sent.publish.unwrap().epoch.as_str()), ("p1", ""));
    drop(first);

    let mut second = story.core().await;
    second.attach(true).await;
    let (session, _, Frame::Open(open)) = second.asked().await else { panic!("open") };
    assert_eq!((session, open.id.as_str()), (ann().number(), "s-ann"));
    assert!(
        matches!(open.credentials, Some(v1::open_session::Credentials::Reopened(opened)) if opened.user == "ann")
    );
    let (_, resume, Frame::Resume(room)) = second.asked().await else { panic!("resume") };
    assert_eq!((room.since, room.sessions), (Some(at("e1", 3)), vec![ann().number()]));
    let (_, again, Frame::Publish(sent)) = second.asked().await else { panic!("the publish again") };
    assert_eq!((again, sent.id.as_str(), sent.publish.unwrap().epoch.as_str()), (number, "p1", "e1"));
    let ack = v1::Ack { room: "r".into(), position: Some(at("e1", 4)), duplicate: true, expires_at: None };
    second
        .says([
            (0, resume, resumed("e1", 5, true, vec![event(4), event(5)])),
            (session, again, FromCore::Ack(ack)),
            live(6),
        ])
        .await;
    story.told_event(4).await;
    story.told_event(5).await;
    let post = story.told().await;
    assert!(
        matches!(&post, Post::Ack { id, position: Some(Position { seq: 4, .. }), duplicate: true, .. } if &**id == "p1"),
        "{post:?}"
    );
    story.told_event(6).await;
}

/// The core comes back with nothing: its rooms begin anew, and what was under way may or may not have been heard.
#[tokio::test]
async fn another_epoch_is_told_and_a_publish_without_an_answer_is_unavailable() {
    let mut story = Story::begin(false).await;
    let mut first = story.core().await;
    first.attach(false).await;
    story.member(&mut first).await;
    story.publish(Some("p1"));
    story.publish(None);
    for _ in 0..2 {
        assert!(matches!(first.asked().await, (_, _, Frame::Publish(_))));
    }
    first.answers.send(Err(Status::internal("crash"))).await.unwrap();
    drop(first);
    let post = story.told().await;
    assert!(
        matches!(&post, Post::Failed { id: None, failure, .. } if failure.code == Code::Unavailable),
        "{post:?}"
    );

    let mut second = story.core().await;
    second.attach(false).await;
    let (session, _, Frame::Open(_)) = second.asked().await else { panic!("open") };
    let (_, resume, Frame::Resume(_)) = second.asked().await else { panic!("resume") };
    let (_, publish, Frame::Publish(fenced)) = second.asked().await else { panic!("publish") };
    assert_eq!(fenced.publish.unwrap().epoch, "e1");
    let refused =
        v1::Error { code: 14, message: "another epoch".into(), room: "r".into(), ..v1::Error::default() };
    second
        .says([
            (0, resume, resumed("e2", 0, false, Vec::new())),
            (session, publish, FromCore::Error(refused)),
            live(1),
        ])
        .await;
    assert!(
        matches!(story.told().await, Post::Reset { position, .. } if &*position.epoch == "e2" && position.seq == 0)
    );
    let post = story.told().await;
    assert!(
        matches!(&post, Post::Failed { id: Some(_), failure, .. } if failure.code == Code::Unavailable),
        "{post:?}"
    );
    story.told_event(1).await;
}

/// A core that goes away says so: it answers what it has, and what comes later goes to the next one.
#[tokio::test]
async fn goodbye_loses_no_answer() {
    let mut story = Story::begin(true).await;
    let mut first = story.core().await;
    first.attach(false).await;
    story.member(&mut first).await;
    story.publish(Some("p1"));
    let (session, number, Frame::Publish(_)) = first.asked().await else { panic!("a publish") };
    first.says([(0, 0, FromCore::Goodbye(v1::Goodbye { grace_ms: 60_000 }))]).await;
    let ack = v1::Ack { room: "r".into(), position: Some(at("e1", 4)), duplicate: false, expires_at: None };
    first.says([live(4), (session, number, FromCore::Ack(ack))]).await;
    story.told_event(4).await;
    assert!(matches!(story.told().await, Post::Ack { position: Some(Position { seq: 4, .. }), .. }));
    let mut second = story.core().await;
    second.attach(false).await;
    assert!(matches!(second.asked().await, (_, _, Frame::Open(_))));
    let (_, _, Frame::Resume(room)) = second.asked().await else { panic!("resume") };
    assert_eq!(room.since, Some(at("e1", 4)));
}

/// What is asked while there is no core waits for one; the tries go round.
#[tokio::test]
async fn the_second_address_is_tried_when_nobody_listens_at_the_first() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (given, mut cores) = mpsc::channel(8);
    let somebody = serve(ScriptedCore(given)).await;
    let dialers =
        [nobody, somebody].map(|address| Dialer::url(&format!("http://{address}"), None, None).unwrap());
    let (link, _told) = link(dialers.into(), false);
    link.send(Request::Open {
        session: ann(),
        id: "s".into(),
        who: Credentials::default(),
        rooms: Vec::new(),
    })
    .unwrap();
    let mut core = time::timeout(PATIENCE, cores.recv()).await.unwrap().unwrap();
    core.attach(false).await;
    assert!(matches!(core.asked().await, (_, _, Frame::Open(_))));
}

/// Two cores with engines of their own are two worlds: the second is not followed, though the first is away. The first
/// one, started anew, is: it has lost what it held, and its epochs say so.
#[tokio::test]
async fn a_second_core_must_share_the_firsts_engine() {
    let (given, mut ones) = mpsc::channel(8);
    let (other_given, mut others) = mpsc::channel(8);
    let addresses = [serve(ScriptedCore(given)).await, serve(ScriptedCore(other_given)).await];
    let dialers = addresses.map(|address| Dialer::url(&format!("http://{address}"), None, None).unwrap());
    let (link, _told) = link(dialers.into(), true);
    let mut one = time::timeout(PATIENCE, ones.recv()).await.unwrap().unwrap();
    one.attach_with("memory:1", true).await;
    time::timeout(PATIENCE, link.wait_attached()).await.unwrap();
    drop(one);
    let mut other = time::timeout(PATIENCE, others.recv()).await.unwrap().unwrap();
    other.attach_with("memory:2", true).await;
    let mut again = time::timeout(PATIENCE, ones.recv()).await.unwrap().unwrap();
    assert!(!link.attached());
    again.attach_with("memory:3", true).await;
    time::timeout(PATIENCE, link.wait_attached()).await.unwrap();
    drop(again);
    let mut other = time::timeout(PATIENCE, others.recv()).await.unwrap().unwrap();
    other.attach_with("memory:3", true).await;
    time::timeout(PATIENCE, link.wait_attached()).await.unwrap();
}

/// An edge that ends has told its core all there was to tell.
#[tokio::test]
async fn the_last_words_reach_the_core() {
    let mut story = Story::begin(true).await;
    let mut core = story.core().await;
    core.attach(true).await;
    story.member(&mut core).await;
    story.link.send(Request::Close { session: ann(), vanished: false }).unwrap();
    let hears = async {
        assert!(matches!(core.asked().await, (_, _, Frame::Close(_))));
        assert!(matches!(core.requests.message().await, Ok(None)), "a clean end");
        drop(core);
    };
    time::timeout(PATIENCE, async { tokio::join!(story.link.finish(), hears) }).await.unwrap();
}

/// In front of the world, a core that believes everybody is not followed, nor one of another protocol.
#[tokio::test]
async fn cores_that_will_not_do() {
    let mut story = Story::begin(false).await;
    let mut dev = story.core().await;
    dev.attach(true).await;
    // The next try shows that this one was refused.
    let mut newer = story.core().await;
    assert!(!story.link.attached());
    let (_, _, Frame::Hello(_)) = newer.asked().await else { panic!("hello") };
    newer.says([(0, 0, FromCore::Attached(v1::Attached { protocol: 2, ..v1::Attached::default() }))]).await;
    let mut good = story.core().await;
    assert!(!story.link.attached());
    good.attach(false).await;
    time::timeout(PATIENCE, story.link.wait_attached()).await.unwrap();
    assert!(!story.link.dev_mode());
}

/// The same code path without a socket.
#[tokio::test]
async fn a_core_in_the_same_process() {
    let (given, mut cores) = mpsc::channel(8);
    let dialer = Dialer::in_process(LinkServiceServer::new(ScriptedCore(given)));
    let (link, told) = link(vec![dialer], true);
    let core = time::timeout(PATIENCE, cores.recv()).await.unwrap().unwrap();
    let (_, unused) = mpsc::channel(1);
    let mut story = Story { link, told, cores: unused };
    let mut core = core;
    core.attach(true).await;
    story.member(&mut core).await;
    core.says([live(4)]).await;
    story.told_event(4).await;
    // The last handle ends the stream.
    drop(story.link);
    let end = time::timeout(PATIENCE, core.requests.message()).await.unwrap();
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

/// A core that does not read holds commands up, but never what it says itself.
#[tokio::test]
async fn a_core_that_does_not_read_is_still_heard() {
    let mut story = Story::begin(true).await;
    let mut core = story.core().await;
    core.attach(true).await;
    story.member(&mut core).await;
    let payload = Bytes::from(format!(r#"{{"x":"{}"}}"#, "x".repeat(64 * 1024)));
    let mut refused = false;
    for _ in 0..2000 {
        let (session, room, payload) = (ann(), "r".into(), Payload::Json(payload.clone()));
        let (id, kind, fence) = (None, Kind::Text, None);
        refused |= story.link.send(Request::Publish { session, id, room, kind, payload, fence }).is_err();
    }
    assert!(refused, "the queue has a bound");
    core.says([live(4)]).await;
    story.told_event(4).await;
}
