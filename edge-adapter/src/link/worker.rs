//! The one task that owns the link's [`Table`] and both ends of the stream.
//!
//! It never waits for a shard, and never for the core to take frames: when the stream is full it leaves requests in their
//! queue, which is bounded, and goes on reading. So neither side can hold the other up.
use crate::{
    fanout::post::Posts,
    link::{
        LinkConfig, LinkState,
        attach::{AttachError, Attachment, attach},
        backoff::Backoff,
        dialer::Dialer,
        metrics::LinkMetrics,
        out::Out,
        queue::Queue,
        table::Table,
    },
    session::request::Request,
};
use futures_util::{FutureExt, future::BoxFuture};
use hearth_proto::v1::{AttachRequest, AttachResponse, CoreFrame, core_frame::Frame};
use prost::Message;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, sleep_until, timeout},
};
use tonic::{Status, Streaming};

/// How much goes into one message to the core: large enough that a message costs little per frame, small enough that the
/// first frames are not held up by encoding the last.
const MESSAGE_BYTES: usize = 64 * 1024;
/// How many messages of the core are taken in one turn: what they bring is handed to each shard at once.
const MESSAGES_PER_TURN: usize = 32;
/// How often the table's timers are looked at while there are any.
const TICK: Duration = Duration::from_millis(100);
/// An attachment that held this long was a good one: the next try after it is made at once.
const STEADY: Duration = Duration::from_secs(2);
/// The longest that a core that says goodbye is waited for.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// How long the core may take to end its side when the edge ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module.
pub struct Worker {
    dialers: Vec<Dialer>,
    shards: Arc<dyn Posts>,
    config: LinkConfig,
    metrics: LinkMetrics,
    queue: Arc<Queue>,
    told: watch::Sender<LinkState>,
    table: Table,
    out: Out,
    /// What the queue held, emptied at once; kept for its capacity.
    taken: Vec<Request>,
    /// The engine of the core before.
    engine: Option<String>,
}

/// How an attachment came to its end.
enum Ended {
    /// The core is gone.
    Lost,
    /// The edge ends.
    Closed,
}

impl Worker {
    pub fn new(
        dialers: Vec<Dialer>,
        shards: Arc<dyn Posts>,
        config: LinkConfig,
        metrics: LinkMetrics,
        queue: Arc<Queue>,
        told: watch::Sender<LinkState>,
        table: Table,
    ) -> Worker {
        let out = Out::new(shards.shards());
        Worker { dialers, shards, config, metrics, queue, told, table, out, taken: Vec::new(), engine: None }
    }

    /// Attaches, serves, and attaches again, until the queue is closed.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        for turn in 0.. {
            let Some(dialer) = self.dialers.get(turn % self.dialers.len().max(1)).cloned() else {
                tracing::error!("the link has no core to attach to");
                return;
            };
            let wait = backoff.next_wait();
            let (target, config) = (dialer.clone(), self.config.clone());
            let dialing = Box::pin(async move {
                sleep(wait).await;
                attach(&target, &config).await
            });
            match self.meanwhile(dialing).await {
                None => return,
                Some(Err(error)) => self.not_attached(&dialer, &error),
                Some(Ok(attachment)) => {
                    let since = Instant::now();
                    self.attached(&dialer, &attachment);
                    let ended = Box::pin(self.serve(attachment)).await;
                    if since.elapsed() >= STEADY {
                        backoff.reset();
                    }
                    self.detached();
                    if matches!(ended, Ended::Closed) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for something without a core. None when the queue is closed.
    async fn meanwhile<T>(&mut self, mut wanted: BoxFuture<'static, T>) -> Option<T> {
        loop {
            self.deliver();
            let queue = Arc::clone(&self.queue);
            tokio::select! {
                found = &mut wanted => return Some(found),
                () = queue.filled() => {
                    if !self.take_requests() {
                        return None;
                    }
                }
                () = sleep(TICK), if self.table.has_timers() => self.table.tick(Instant::now(), &mut self.out),
            }
        }
    }

    fn not_attached(&self, dialer: &Dialer, error: &AttachError) {
        let core = dialer.name();
        match error {
            AttachError::DevMode | AttachError::Protocol { .. } => {
                tracing::error!(core, %error, "a core cannot be used")
            }
            _ => tracing::debug!(core, %error, "a core cannot be reached"),
        }
    }

    fn attached(&mut self, dialer: &Dialer, attachment: &Attachment) {
        let core = &attachment.core;
        tracing::info!(
            at = dialer.name(),
            core = core.core,
            engine = core.engine,
            dev_mode = core.dev_mode,
            "attached"
        );
        if let Some(before) = self.engine.replace(core.engine.clone())
            && before != core.engine
        {
            tracing::warn!(
                before,
                now = core.engine,
                "this core has another engine than the one before: rooms begin anew"
            );
        }
        self.metrics.attached.set(1);
        self.metrics.attaches.inc();
        self.told.send_replace(LinkState::Attached {
            core: core.core.as_str().into(),
            engine: core.engine.as_str().into(),
            dev_mode: core.dev_mode,
        });
        self.table.attached(Instant::now(), &mut self.out);
    }

    fn detached(&mut self) {
        let now = Instant::now();
        self.metrics.attached.set(0);
        self.told.send_replace(LinkState::Detached { since: now });
        self.out.frames.clear();
        self.table.detached(now, &mut self.out);
        self.deliver();
    }

    /// Serves one attachment to its end.
    async fn serve(&mut self, attachment: Attachment) -> Ended {
        let Attachment { core: _, frames, requests, mut responses } = attachment;
        let mut backlog = VecDeque::new();
        // Set once the core has said goodbye.
        let mut leave_at = None;
        if let Some(at) = self.take_frames(frames) {
            leave_at = Some(at);
        }
        loop {
            self.deliver();
            self.batch(&mut backlog);
            if !pass(&mut backlog, &requests) {
                return self.lost(None);
            }
            if leave_at.is_some() && self.table.in_flight() == 0 {
                tracing::info!("the core goes away and has answered everything");
                return Ended::Lost;
            }
            let queue = Arc::clone(&self.queue);
            tokio::select! {
                message = responses.message() => match message {
                    Ok(Some(message)) => {
                        let goodbye = self.take_messages(message, &mut responses);
                        leave_at = leave_at.or(goodbye);
                    }
                    Ok(None) => return self.lost(None),
                    Err(status) => return self.lost(Some(&status)),
                },
                permit = requests.reserve(), if !backlog.is_empty() => match (permit, backlog.pop_front()) {
                    (Ok(permit), Some(message)) => permit.send(message),
                    _ => return self.lost(None),
                },
                () = queue.filled(), if backlog.is_empty() => {
                    if !self.take_requests() {
                        break;
                    }
                }
                () = sleep(TICK), if self.table.has_timers() => self.table.tick(Instant::now(), &mut self.out),
                () = sleep_until(leave_at.unwrap_or_else(Instant::now).into()), if leave_at.is_some() => {
                    tracing::info!("the core goes away and did not answer everything in time");
                    return Ended::Lost;
                }
            }
        }
        self.end(requests, responses).await
    }

    fn lost(&self, status: Option<&Status>) -> Ended {
        match status {
            Some(status) => tracing::warn!(code = %status.code(), why = status.message(), "the core is lost"),
            None => tracing::warn!("the core ended the stream"),
        }
        Ended::Lost
    }

    /// Ends the stream in good order: all has been sent, so the core sees every session's end before the edge's.
    async fn end(
        &self,
        requests: mpsc::Sender<AttachRequest>,
        mut responses: Streaming<AttachResponse>,
    ) -> Ended {
        drop(requests);
        let rest = async { while let Ok(Some(_)) = responses.message().await {} };
        if timeout(CLOSE_TIMEOUT, rest).await.is_err() {
            tracing::debug!("the core did not end its side of the stream");
        }
        Ended::Closed
    }

    /// Takes what is in the queue. False when it is closed and empty.
    fn take_requests(&mut self) -> bool {
        let mut taken = std::mem::take(&mut self.taken);
        let bytes = self.queue.take(&mut taken);
        let now = Instant::now();
        for request in taken.drain(..) {
            self.table.request(request, now, &mut self.out);
        }
        self.taken = taken;
        self.metrics.queue_bytes.set(bytes.unwrap_or(0) as i64);
        bytes.is_some()
    }

    /// Takes a message and those that are there already behind it. When to leave the core, if it says goodbye.
    fn take_messages(
        &mut self,
        first: AttachResponse,
        responses: &mut Streaming<AttachResponse>,
    ) -> Option<Instant> {
        let mut leave_at = self.take_frames(first.frames);
        for _ in 1..MESSAGES_PER_TURN {
            // An end or an error comes again when it is waited for.
            let Some(Ok(Some(message))) = responses.message().now_or_never() else { break };
            leave_at = self.take_frames(message.frames).or(leave_at);
        }
        leave_at
    }

    fn take_frames(&mut self, frames: Vec<CoreFrame>) -> Option<Instant> {
        self.metrics.received.inc_by(frames.len() as u64);
        let now = Instant::now();
        let mut leave_at = None;
        for frame in frames {
            if let Some(Frame::Goodbye(goodbye)) = &frame.frame {
                self.table.leaving();
                leave_at = Some(now + Duration::from_millis(goodbye.grace_ms).min(GOODBYE_MAX));
            } else {
                self.table.answer(frame, now, &mut self.out);
            }
        }
        leave_at
    }

    /// Hands the shards what this turn has brought.
    fn deliver(&mut self) {
        self.out.deliver(&*self.shards);
        self.metrics.pending.set(self.table.pending() as i64);
    }

    /// Packs frames into messages.
    fn batch(&mut self, backlog: &mut VecDeque<AttachRequest>) {
        if self.out.frames.is_empty() {
            return;
        }
        self.metrics.sent.inc_by(self.out.frames.len() as u64);
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for frame in self.out.frames.drain(..) {
            bytes += frame.encoded_len();
            frames.push(frame);
            if bytes >= MESSAGE_BYTES {
                backlog.push_back(AttachRequest { frames: std::mem::take(&mut frames) });
                bytes = 0;
            }
        }
        if !frames.is_empty() {
            backlog.push_back(AttachRequest { frames });
        }
    }
}

/// Passes on as much as the stream takes now. False if it takes no more for good.
fn pass(backlog: &mut VecDeque<AttachRequest>, requests: &mpsc::Sender<AttachRequest>) -> bool {
    while let Some(message) = backlog.pop_front() {
        match requests.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(message)) => {
                backlog.push_front(message);
                return true;
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
        }
    }
    true
}
