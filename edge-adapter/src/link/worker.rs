//! The one task that owns the stream to the core and the table.
use super::{
    LinkConfig, LinkMetrics, State,
    backoff::Backoff,
    convert,
    dialer::{DialError, Dialer},
    queue::Queue,
    table::Table,
};
use crate::{fanout::post::Posts, session::request::Request};
use hearth_proto::v1::{AttachRequest, AttachResponse, Attached, CoreFrame, EdgeFrame, core_frame::Frame};
use prost::Message;
use std::{
    future, mem,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::{
    select,
    sync::{mpsc, watch},
    time,
};
use tonic::{Status, Streaming};

/// How many messages may wait for the connection: enough to keep it busy, few enough that a core that does not
/// read is felt soon.
const OUTBOUND_BATCHES: usize = 16;
/// How large a message to the core becomes: larger ones save nothing and delay what comes behind them.
const BATCH_BYTES: usize = 16 * 1024;
/// A stream that held so long counts as a success; after a shorter one the next try waits.
const STABLE: Duration = Duration::from_secs(1);
/// How long a core that says goodbye is given for the answers under way.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// How long a core may take to hear that nothing more comes.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long to leave a core alone that will not do, when there is no other.
const UNFIT_WAIT: Duration = Duration::from_secs(2);

/// The worker.
pub struct Worker {
    dialers: Vec<Dialer>,
    posts: Arc<dyn Posts>,
    config: LinkConfig,
    metrics: LinkMetrics,
    queue: Arc<Queue>,
    state: watch::Sender<State>,
    table: Table,
    taken: Vec<Request>,
    next_dialer: usize,
    home: Option<Home>,
}

/// Whose rooms this edge's sessions are in.
#[derive(Debug, PartialEq, Eq)]
struct Home {
    /// The core that it was attached to last, by its place in the list.
    dialer: usize,
    /// Its engine.
    engine: String,
}

/// A stream to a core that will do.
struct Stream {
    requests: mpsc::Sender<AttachRequest>,
    responses: Streaming<AttachResponse>,
    /// What came in the first message behind `attached`.
    rest: Vec<CoreFrame>,
    attached: Attached,
}

/// Why a core is not attached to.
#[derive(Debug, Error)]
enum Refusal {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the stream ended before it began")]
    Ended,
    #[error("the core's first answer was not `attached`")]
    NotAttached,
    #[error("the core speaks version {0} of the link's protocol, this edge speaks {ours}", ours = hearth_proto::LINK_PROTOCOL)]
    Protocol(u32),
    #[error(
        "the core's engine is {0}, and not the one that this edge's rooms are in: two engines are two worlds"
    )]
    OtherEngine(String),
    #[error(
        "the core is in dev mode: anybody could be anyone through this edge, which listens on an address that is not loopback"
    )]
    DevMode,
}

impl Refusal {
    /// The core is there, but will be no better in a moment.
    fn is_unfit(&self) -> bool {
        matches!(self, Refusal::Protocol(_) | Refusal::OtherEngine(_) | Refusal::DevMode)
    }
}

/// A try to attach.
type Attempt = Pin<Box<dyn Future<Output = Result<Stream, Refusal>> + Send>>;

/// Why a stream is no longer used.
enum End {
    /// Nobody needs the link any longer.
    Closed,
    /// The core is lost.
    Lost(String),
}

impl Worker {
    /// A worker that has not begun.
    pub fn new(
        dialers: Vec<Dialer>,
        posts: Arc<dyn Posts>,
        config: LinkConfig,
        metrics: LinkMetrics,
        queue: Arc<Queue>,
        state: watch::Sender<State>,
    ) -> Self {
        let table = Table::new(Instant::now(), posts.shards(), metrics.clone());
        let (taken, next_dialer, home) = (Vec::new(), 0, None);
        Self { dialers, posts, config, metrics, queue, state, table, taken, next_dialer, home }
    }

    /// Attaches, again and again, until the queue is closed.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        while let Some(mut stream) = self.attach(&mut backoff).await {
            let began = Instant::now();
            self.attached(&stream.attached);
            let end = self.pump(&mut stream).await;
            self.metrics.attached.set(0);
            self.state.send_modify(|state| state.attached = false);
            let End::Lost(reason) = end else { return finish(stream).await };
            tracing::warn!(reason, "the core is lost; sessions stay and wait for another");
            self.table.detach(Instant::now());
            self.flush();
            if began.elapsed() >= STABLE {
                backoff.reset();
            }
        }
    }

    fn attached(&mut self, attached: &Attached) {
        let Attached { core, engine, dev_mode, .. } = attached;
        tracing::info!(core, engine, dev_mode, "attached");
        self.metrics.attaches.inc();
        self.metrics.attached.set(1);
        self.state.send_replace(State { attached: true, dev_mode: *dev_mode });
        self.table.attach(Instant::now(), attached);
    }

    /// Tries the cores in turn until one will do. Requests are taken meanwhile, and wait. None: nobody needs the link.
    async fn attach(&mut self, backoff: &mut Backoff) -> Option<Stream> {
        let mut unfit = Duration::ZERO;
        loop {
            let wait = backoff.next_wait().max(unfit);
            let at = self.next_dialer;
            let dialer = self.dialers.get(at).cloned();
            self.next_dialer = (at + 1) % self.dialers.len().max(1);
            let config = self.config.clone();
            let name = dialer.as_ref().map(ToString::to_string).unwrap_or_default();
            let attempt: Attempt = Box::pin(async move {
                time::sleep(wait).await;
                match dialer {
                    Some(dialer) => attach_to(&dialer, &config).await,
                    // An edge without cores waits for ever; its requests are answered all the same.
                    None => future::pending().await,
                }
            });
            let attached = self.meanwhile(attempt).await?;
            match attached.and_then(|stream| self.settle(at, stream)) {
                Ok(stream) => return Some(stream),
                Err(refusal) if refusal.is_unfit() => {
                    tracing::error!(core = name, reason = %refusal, "this core will not do");
                    unfit = UNFIT_WAIT;
                }
                Err(refusal) => {
                    tracing::warn!(core = name, reason = %refusal, "no core yet");
                    unfit = Duration::ZERO;
                }
            }
        }
    }

    /// Takes a core whose rooms are the ones that this edge's sessions are in. Another engine is another world, unless it is that of the
    /// core at the same address: that one was started anew and has lost what it held, which its epochs tell.
    fn settle(&mut self, dialer: usize, stream: Stream) -> Result<Stream, Refusal> {
        let engine = stream.attached.engine.clone();
        match &self.home {
            Some(home) if home.engine != engine && home.dialer != dialer => Err(Refusal::OtherEngine(engine)),
            _ => {
                self.home = Some(Home { dialer, engine });
                Ok(stream)
            }
        }
    }

    /// Takes requests while there is no core. None: nobody needs the link.
    async fn meanwhile(&mut self, mut attempt: Attempt) -> Option<Result<Stream, Refusal>> {
        loop {
            let deadline = self.table.deadline();
            select! {
                result = &mut attempt => return Some(result),
                () = self.queue.filled() => {
                    if !self.take_requests() {
                        return None;
                    }
                }
                () = until(deadline) => self.table.due(Instant::now()),
            }
            self.flush();
        }
    }

    /// Carries requests and answers until the stream ends.
    async fn pump(&mut self, stream: &mut Stream) -> End {
        self.answer(mem::take(&mut stream.rest));
        let mut goodbye: Option<Instant> = None;
        loop {
            let listen = goodbye.is_none() && self.table.out.frames.is_empty();
            let deadline = goodbye.into_iter().chain(self.table.deadline()).min();
            select! {
                permit = stream.requests.reserve(), if !self.table.out.frames.is_empty() => match permit {
                    Ok(permit) => permit.send(self.batch()),
                    Err(_) => return End::Lost("the core no longer reads".into()),
                },
                () = self.queue.filled(), if listen => {
                    if !self.take_requests() {
                        return End::Closed;
                    }
                }
                message = next_message(&*self.posts, &mut stream.responses) => match message {
                    Ok(Some(AttachResponse { frames })) => {
                        if let Some(grace) = self.answer(frames) {
                            goodbye.get_or_insert(Instant::now() + grace.min(GOODBYE_MAX));
                        }
                    }
                    Ok(None) => return End::Lost("it ended the stream".into()),
                    Err(status) => return End::Lost(format!("{:?}: {}", status.code(), status.message())),
                },
                () = until(deadline) => self.table.due(Instant::now()),
            }
            self.flush();
            if let Some(until) = goodbye
                && (self.table.pending() == 0 || until <= Instant::now())
            {
                return End::Lost("it said goodbye".into());
            }
        }
    }

    /// False: the queue is closed.
    fn take_requests(&mut self) -> bool {
        let Some(bytes) = self.queue.take(&mut self.taken) else { return false };
        self.metrics.queue_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let now = Instant::now();
        for request in self.taken.drain(..) {
            self.table.request(now, request);
        }
        true
    }

    /// Takes what the core says. Some if it says goodbye: for how long it still answers.
    fn answer(&mut self, frames: Vec<CoreFrame>) -> Option<Duration> {
        let now = Instant::now();
        let mut goodbye = None;
        self.metrics.received.inc_by(frames.len() as u64);
        for frame in frames {
            if let Some(Frame::Goodbye(said)) = &frame.frame {
                goodbye = Some(Duration::from_millis(said.grace_ms));
            } else {
                self.table.answer(now, frame);
            }
        }
        goodbye
    }

    /// The next message to the core.
    fn batch(&mut self) -> AttachRequest {
        let mut bytes = 0;
        let mut frames: Vec<EdgeFrame> = Vec::new();
        while bytes < BATCH_BYTES
            && let Some(frame) = self.table.out.frames.pop_front()
        {
            bytes += frame.encoded_len();
            frames.push(frame);
        }
        self.metrics.sent.inc_by(frames.len() as u64);
        AttachRequest { frames }
    }

    /// Hands each shard what is for it, all at once.
    fn flush(&mut self) {
        for (shard, posts) in self.table.out.posts.iter_mut().enumerate() {
            if !posts.is_empty() {
                self.posts.post(shard, posts);
            }
        }
        self.metrics.pending.set(i64::try_from(self.table.pending()).unwrap_or(i64::MAX));
    }
}

async fn attach_to(dialer: &Dialer, config: &LinkConfig) -> Result<Stream, Refusal> {
    let (requests, rest) = mpsc::channel(OUTBOUND_BATCHES);
    let mut responses = dialer.dial(convert::hello(&config.edge_id), rest).await?;
    let AttachResponse { frames } = Dialer::first(&mut responses).await?.ok_or(Refusal::Ended)?;
    let mut rest = frames.into_iter();
    let Some(CoreFrame { frame: Some(Frame::Attached(attached)), .. }) = rest.next() else {
        return Err(Refusal::NotAttached);
    };
    if attached.protocol != hearth_proto::LINK_PROTOCOL {
        return Err(Refusal::Protocol(attached.protocol));
    }
    if attached.dev_mode && !config.accept_dev_mode {
        return Err(Refusal::DevMode);
    }
    Ok(Stream { requests, responses, rest: rest.collect(), attached })
}

/// Lets the core hear the last that was said: it ends its side when it has.
async fn finish(Stream { requests, mut responses, .. }: Stream) {
    drop(requests);
    let heard = async { while let Ok(Some(_)) = responses.message().await {} };
    if time::timeout(LAST_WORDS, heard).await.is_err() {
        tracing::warn!("the core may not have heard who has left");
    }
}

/// The core's next message, once there is room for it. Cancel-safe.
async fn next_message(
    posts: &dyn Posts,
    responses: &mut Streaming<AttachResponse>,
) -> Result<Option<AttachResponse>, Status> {
    future::poll_fn(|cx| posts.poll_room(cx)).await;
    responses.message().await
}

/// Never, without a deadline.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => future::pending().await,
    }
}
