//! The shard: one task, its connections and rooms, and the turn in which it deals with all that has come.
//!
//! A turn reads the sockets that are ready, takes in new connections, acts on the posts in their order, and then writes
//! to each connection once. It never waits for a socket.
use crate::config::Config;
use crate::fanout::census::Census;
use crate::fanout::connection::{Connection, ConnectionWaker, Phase, Start};
use crate::fanout::inbox::{Batch, Inbox};
use crate::fanout::newcomer::NewSession;
use crate::fanout::outgoing::{Connections, Flushed, Outgoing};
use crate::fanout::rooms::NONE;
use crate::fanout::rooms::Rooms;
use crate::metrics::EdgeMetrics;
use crate::session::key::SessionKey;
use crate::session::request::{Request, Upstream};
use crate::session::state::{Limits, Session};
use crate::wire::close::CloseReason;
use crate::wire::dialect::{self, Dialect};
use crate::wire::websocket::deflate::Inflater;
use bytes::Bytes;
use slab::Slab;
use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What one read takes at most, in bytes; one buffer serves all connections of a shard.
const READ_BUFFER: usize = 64 * 1024;
/// A heartbeat is cut into this many ticks, each of which looks at as small a part of the connections: an even load, and
/// silence is noticed within half a heartbeat.
const TICKS: u32 = 16;
/// How often a server-sent stream has a comment: proxies cut what is silent for longer, many at 30 s.
const SSE_COMMENTS: Duration = Duration::from_secs(15);
/// After so many posts of one turn all is written: when thousands come back at once their frames are not all held
/// at the same time, and for a room's run more than this in one write gains nothing.
const POSTS_PER_WRITE: usize = 1024;
/// And after so many bytes of posts, for the same reason: pages of history are large.
const BYTES_PER_WRITE: usize = 2 << 20;

/// One shard.
pub struct Shard {
    pub(super) number: usize,
    pub(super) config: Arc<Config>,
    pub(super) limits: Limits,
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) census: Arc<Census>,
    pub(super) metrics: EdgeMetrics,
    pub(super) connections: Connections,
    /// How many sessions there have been.
    pub(super) generation: u32,
    pub(super) rooms: Rooms,
    pub(super) out: Outgoing,
    /// Empty while it is in use.
    pub(super) buffer: Box<[u8]>,
    /// For messages that come compressed.
    pub(super) inflater: Inflater,
    /// Slots whose sockets had more than one read.
    pub(super) again: Vec<u32>,
    /// When to stop waiting for which client's close frame; all wait equally long, so the first is due first.
    pub(super) closing: VecDeque<(Instant, SessionKey)>,
    pub(super) clock: Clock,
    /// Whose time is over next: sessions that have not said who they are, and those with tokens.
    pub(super) ending: BTreeSet<(Instant, SessionKey)>,
    /// How much waits for its sockets, in bytes.
    pub(super) queued: i64,
    /// While draining: when to stop waiting for answers.
    pub(super) drain: Option<Drain>,
}

/// What time it is for a shard.
#[derive(Debug)]
pub struct Clock {
    /// What the rate limiter counts from.
    start: Instant,
    /// The turn's time.
    pub now: Instant,
    /// How many ticks have passed. Counted, not computed: after a suspended machine wakes up nobody is late.
    pub tick: u32,
    next_tick: Instant,
    period: Duration,
}

/// Whether answers are still waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Until then.
    Answers(Instant),
    /// It is over; until then they are refused.
    Refusals(Instant),
    /// All has been closed.
    Over,
}

impl Clock {
    fn new(heartbeat: Duration) -> Self {
        let now = Instant::now();
        let period = (heartbeat / TICKS).max(Duration::from_millis(1));
        Clock { start: now, now, tick: 0, next_tick: now + period, period }
    }

    /// The turn's time, for the rate limiter.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }
}

impl Shard {
    /// A shard without connections.
    pub fn new(
        number: usize,
        config: Arc<Config>,
        upstream: Arc<dyn Upstream>,
        inbox: Arc<Inbox>,
        census: Arc<Census>,
        metrics: EdgeMetrics,
    ) -> Shard {
        Shard {
            number,
            limits: Limits::new(&config),
            clock: Clock::new(config.heartbeat),
            config,
            upstream,
            inbox,
            census,
            metrics,
            connections: Slab::new(),
            generation: 0,
            rooms: Rooms::default(),
            out: Outgoing::default(),
            buffer: vec![0; READ_BUFFER].into(),
            inflater: Inflater::default(),
            again: Vec::new(),
            closing: VecDeque::new(),
            ending: BTreeSet::new(),
            queued: 0,
            drain: None,
        }
    }

    /// Turn after turn.
    pub async fn run(mut self) {
        let mut batch = Batch::default();
        let mut sleep = pin!(tokio::time::sleep_until(self.deadline().into()));
        loop {
            let deadline = self.deadline().into();
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            poll_fn(|cx| {
                let taken = self.inbox.poll_take(cx, &mut batch).is_ready();
                let due = sleep.as_mut().poll(cx).is_ready();
                if taken || due || !self.again.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            self.turn(&mut batch);
            if !self.again.is_empty() || !self.inbox.is_empty() {
                // Let the runtime look at the sockets and the link do its part: batches grow by it.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Deals with all that has come.
    fn turn(&mut self, batch: &mut Batch) {
        self.clock.now = Instant::now();
        let ready = self.again.len();
        for at in 0..ready {
            self.ready(self.again[at]);
        }
        self.again.drain(..ready);
        for slot in batch.ready.drain(..) {
            self.ready(slot);
        }
        for newcomer in batch.newcomers.drain(..) {
            self.adopt(newcomer);
        }
        if !batch.posts.is_empty() {
            self.metrics.turn_batch.observe(batch.posts.len() as f64);
        }
        let (mut acted, mut bytes) = (0, 0);
        for post in batch.posts.drain(..) {
            if acted >= POSTS_PER_WRITE || bytes >= BYTES_PER_WRITE {
                self.write();
                (acted, bytes) = (0, 0);
            }
            acted += 1;
            bytes += post.weight();
            self.act(post);
        }
        if std::mem::take(&mut batch.drain) {
            self.begin_drain();
        }
        self.time_passes();
        self.write();
        self.count();
        batch.shrink();
    }

    /// Gives every room's run to its members, and writes to every connection that has anything to be written.
    fn write(&mut self) {
        self.out.cut_all(&mut self.connections, &mut self.rooms);
        for at in 0.. {
            let Some(slot) = self.out.dirty(at) else { break };
            let Some(connection) = self.connections.get_mut(slot as usize) else { continue };
            if !std::mem::take(&mut connection.dirty) {
                continue;
            }
            match self.out.flush(connection, self.config.session_queue_bytes) {
                Flushed::Broken => self.gone(slot),
                _ if connection.phase == Phase::Ending => self.remove(slot),
                Flushed::TooSlow if connection.is_alive() => self.too_slow(slot),
                // Its close frame could not be told from the nonsense around it, so it learns from the end of ours.
                Flushed::Fine if connection.deaf && connection.backlog.is_none() => {
                    let mut cx = Context::from_waker(&connection.waker);
                    // A socket that cannot even do that is gone, as the next read tells.
                    let _ = connection.socket.poll_shutdown(&mut cx);
                }
                Flushed::TooSlow | Flushed::Fine => self.pull(slot),
            }
        }
        self.out.clear();
    }

    /// Asks for the next part of a replay when the socket is ready for it.
    fn pull(&mut self, slot: u32) {
        while let Some(connection) = self.connections.get_mut(slot as usize)
            && connection.phase == Phase::Open
            && connection.is_drained()
        {
            while let Some(room) = connection.session.next_stale() {
                // Never refused.
                let _ = self.upstream.send(Request::ShowPresence { session: connection.key, room });
            }
            if let Some((room, after)) = connection.session.next_pull() {
                // Never refused.
                let _ = self.upstream.send(Request::Pull { session: connection.key, room, after });
            }
            match connection.session.next_held(true) {
                Some((request, undo)) => self.ask(slot, request, undo),
                None => return,
            }
        }
    }

    fn count(&mut self) {
        let tally = std::mem::take(&mut self.out.tally);
        let add = |counter: &prometheus_client::metrics::counter::Counter, n: u64| {
            if n > 0 {
                counter.inc_by(n);
            }
        };
        add(&self.metrics.messages_in, tally.messages);
        add(&self.metrics.deliveries, tally.deliveries);
        add(&self.metrics.bytes_out, tally.bytes);
        add(&self.metrics.writes, tally.writes);
        add(&self.metrics.ephemeral_drops, tally.ephemeral_drops);
        add(&self.metrics.presence_conflated, tally.presence_conflated);
        add(&self.metrics.ephemeral_conflated, tally.ephemeral_conflated);
        if tally.backlog != 0 {
            self.queued += tally.backlog;
            self.metrics.backlog_bytes.inc_by(tally.backlog);
            if tally.backlog > 0 {
                self.relieve();
            }
        }
    }

    /// Takes a connection in and asks the core about it.
    fn adopt(&mut self, newcomer: NewSession) {
        let NewSession { socket, read_ahead, id, who, dialect, head, rooms, since, refuse, guard } = newcomer;
        let Ok(socket) = socket.settle() else {
            self.metrics.closed(CloseReason::Vanished);
            return self.leave_census();
        };
        let entry = self.connections.vacant_entry();
        if entry.key() >= SessionKey::SLOTS {
            self.metrics.closed(CloseReason::Overloaded);
            return self.leave_census();
        }
        let slot = entry.key() as u32;
        self.generation = self.generation.wrapping_add(1).max(1);
        let key = SessionKey::new(self.number, slot as usize, self.generation);
        let wake = ConnectionWaker::new(self.inbox.clone(), slot);
        let refuse = refuse.or(self.drain.map(|_| CloseReason::Draining));
        let wanted = if dialect.is_websocket() { Vec::new() } else { rooms.clone() };
        let may_bring_token = dialect.is_websocket() && rooms.is_empty() && who.token.is_none();
        entry.insert(Connection {
            key,
            socket,
            guard,
            parser: Default::default(),
            session: Session::new(since),
            dialect,
            own_cursors: dialect == Dialect::Sse && rooms.len() > 1,
            start: Some(Box::new(Start {
                read_ahead,
                id: id.clone(),
                head,
                rooms,
                asked: refuse.is_none(),
                may_bring_token,
                brought: None,
            })),
            until: None,
            backlog: None,
            waker: Waker::from(wake.clone()),
            wake,
            first: NONE,
            last: NONE,
            heard: self.clock.tick,
            phase: Phase::Opening,
            dirty: false,
            writable: false,
            excluded: false,
            deaf: false,
        });
        match refuse {
            Some(reason) => self.shut(slot, reason),
            // Never refused.
            None => drop(self.upstream.send(Request::Open { session: key, id, who, rooms: wanted })),
        }
    }

    fn leave_census(&self) {
        self.metrics.connections.dec();
        self.census.leave();
    }

    /// Forgets a connection; its socket closes.
    pub(super) fn remove(&mut self, slot: u32) {
        self.set_until(slot, None);
        if let Some(mut connection) = self.connections.try_remove(slot as usize) {
            connection.socket.part();
            self.out.tally.backlog -= connection.backlog_bytes() as i64;
            self.leave_census();
        }
    }

    /// When the shard must look even if nothing comes.
    fn deadline(&self) -> Instant {
        let linger = self.closing.front().map(|(at, _)| *at);
        let drain = match self.drain {
            Some(Drain::Answers(at) | Drain::Refusals(at)) => Some(at),
            Some(Drain::Over) | None => None,
        };
        let ending = self.ending.first().map(|(at, _)| *at);
        [linger, drain, ending].into_iter().flatten().fold(self.clock.next_tick, Instant::min)
    }

    /// Does what has become due.
    fn time_passes(&mut self) {
        let now = self.clock.now;
        while let Some(&(at, session)) = self.closing.front()
            && at <= now
        {
            self.closing.pop_front();
            let slot = session.slot();
            if self.connections.get(slot).is_some_and(|connection| connection.key == session) {
                self.remove(slot as u32);
            }
        }
        self.end_what_is_due(now);
        match self.drain {
            Some(Drain::Answers(at)) if at <= now => self.give_up(),
            Some(Drain::Refusals(at)) if at <= now => self.end_drain(),
            _ => {}
        }
        if self.clock.next_tick <= now {
            self.clock.next_tick = now + self.clock.period;
            self.clock.tick = self.clock.tick.wrapping_add(1);
            self.tick();
            self.relieve();
        }
    }

    /// Pings one part of the connections, and looks for silence in it and in the part half a heartbeat away.
    fn tick(&mut self) {
        /// A ping without a payload.
        const PING: Bytes = Bytes::from_static(&[0x89, 0]);
        let slots = self.connections.capacity();
        for (part, ping) in [(self.clock.tick, true), (self.clock.tick.wrapping_add(TICKS / 2), false)] {
            for slot in ((part % TICKS) as usize..slots).step_by(TICKS as usize) {
                let Some(connection) = self.connections.get(slot) else { continue };
                let silent = self.clock.tick.wrapping_sub(connection.heard) >= 2 * TICKS;
                match connection.phase {
                    Phase::Open if !connection.dialect.is_websocket() => {}
                    Phase::Open if silent => self.gone(slot as u32),
                    // The core has not said a word; the client may find another edge whose core does.
                    Phase::Opening if silent => self.shut(slot as u32, CloseReason::Overloaded),
                    Phase::Open if ping => self.out.own(&mut self.connections, slot as u32, PING),
                    _ => {}
                }
            }
        }
        // Streams that only we write to are kept awake by comments; that one is gone is told by the socket, or by a write.
        let parts = (SSE_COMMENTS.as_nanos() / self.clock.period.as_nanos()).clamp(1, 1 << 16) as usize;
        for slot in (self.clock.tick as usize % parts..slots).step_by(parts) {
            let Some(connection) = self.connections.get(slot) else { continue };
            if connection.dialect == Dialect::Sse && connection.phase == Phase::Open {
                let comment = Bytes::from_static(dialect::SSE_COMMENT);
                self.out.own(&mut self.connections, slot as u32, comment);
            }
        }
    }
}
