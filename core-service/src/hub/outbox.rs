//! A subscriber's queue: bounded in bytes, filled without ever waiting, emptied a batch at a time.
use super::{Delivery, Error, Orders};
use crate::metrics::CoreMetrics;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What a link's queue may hold: all that an edge's browsers are owed while its stream stalls. At 100 MB/s it is under a second's worth; past it
/// the edge is better served by attaching anew and reading history.
pub const LINK_QUEUE_BYTES: usize = 64 << 20;

/// The queue of one stream.
pub struct Outbox {
    inner: Mutex<Inner>,
    wake: Notify,
    emptied: Notify,
    over: Notify,
    max: usize,
    orders: Option<Orders>,
    metrics: CoreMetrics,
}

#[derive(Default)]
struct Inner {
    queue: Vec<Delivery>,
    bytes: usize,
    state: State,
}

#[derive(Default, Clone, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// It was slower than its rooms: what is in the queue is void.
    Overflowed,
    /// What is in the queue is the last, and why.
    Ended(Option<Error>),
}

/// What was taken out of a queue.
pub enum Taken {
    /// The next deliveries, in order.
    Batch(Vec<Delivery>),
    /// The subscriber was too slow and has lost its place.
    Overflowed,
    /// There is nothing more, because of an error if there is one.
    Ended(Option<Error>),
}

impl Outbox {
    /// An empty queue of at most `max` bytes.
    pub fn new(max: usize, metrics: CoreMetrics) -> Self {
        Self::with(max, None, metrics)
    }

    /// The same, of a stream whose sessions come and go.
    pub fn for_sessions(max: usize, metrics: CoreMetrics) -> Self {
        Self::with(max, Some(Orders::default()), metrics)
    }

    /// Waits until others may have done something to its sessions.
    pub async fn ordered(&self) {
        match &self.orders {
            Some(orders) => orders.given().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until a session is to end, and leaves that to be done.
    pub async fn ends(&self, session: u64) {
        match &self.orders {
            Some(orders) => orders.ends(session).await,
            None => std::future::pending().await,
        }
    }

    fn with(max: usize, orders: Option<Orders>, metrics: CoreMetrics) -> Self {
        metrics.subscribers.inc();
        let (wake, emptied, over) = (Notify::new(), Notify::new(), Notify::new());
        Self { inner: Mutex::default(), wake, emptied, over, max, orders, metrics }
    }

    /// What others have done to its sessions. None where there are none, and the stream is whoever called.
    pub fn orders(&self) -> Option<&Orders> {
        self.orders.as_ref()
    }

    /// Puts something in. Never waits: past half of the bound ephemeral events are dropped, past the whole the subscriber is.
    pub fn push(&self, delivery: Delivery) {
        // A dropped one is counted, and nobody is to be told.
        let _ = self.offer(delivery);
    }

    /// The same; false if this one was dropped.
    pub fn offer(&self, delivery: Delivery) -> bool {
        let cost = delivery.cost();
        let mut inner = self.lock();
        if inner.state != State::Open {
            return true;
        }
        if inner.bytes + cost > self.max / 2 && inner.bytes > 0 && delivery.is_ephemeral() {
            self.metrics.ephemeral_dropped.inc();
            return false;
        }
        let wakes = inner.queue.is_empty();
        // A single delivery may be larger than the bound: a page of history for a session with a small queue.
        if inner.bytes + cost > self.max && !wakes {
            self.metrics.overflows.inc();
            self.metrics.queue_bytes.dec_by(inner.bytes as i64);
            *inner = Inner { state: State::Overflowed, ..Inner::default() };
            drop(inner);
            self.wake.notify_one();
            self.emptied.notify_one();
            self.over.notify_waiters();
            return true;
        }
        inner.bytes += cost;
        self.metrics.queue_bytes.inc_by(cost as i64);
        inner.queue.push(delivery);
        drop(inner);
        if wakes {
            self.wake.notify_one();
        }
        true
    }

    /// Whether an ephemeral delivery would be taken.
    pub fn is_at_ease(&self) -> bool {
        self.lock().bytes <= self.max / 2
    }

    /// Waits until less than half of the bound is used. Whoever asks for much waits before, so that answers to a wave of requests come as
    /// fast as they are read and do not overrun the queue. For one task.
    pub async fn eased(&self) {
        while !self.is_at_ease() {
            self.emptied.notified().await;
        }
    }

    /// Nothing more will come; what is in the queue is still given out.
    pub fn end(&self) {
        self.end_with(None);
    }

    /// The same, because of an error.
    pub fn end_with(&self, error: Option<Error>) {
        let mut inner = self.lock();
        if inner.state == State::Open {
            inner.state = State::Ended(error);
        }
        drop(inner);
        self.wake.notify_one();
        self.over.notify_waiters();
    }

    /// Waits until nothing more will come, whether or not somebody reads what is in it.
    pub async fn ended(&self) {
        loop {
            let over = self.over.notified();
            tokio::pin!(over);
            // From here on no end is missed.
            over.as_mut().enable();
            if self.lock().state != State::Open {
                return;
            }
            over.await;
        }
    }

    /// Waits for something and takes all there is. For one reader.
    pub async fn take(&self) -> Taken {
        loop {
            if let Some(taken) = self.try_take() {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    /// Takes what there is now.
    pub fn try_take(&self) -> Option<Taken> {
        let mut inner = self.lock();
        if !inner.queue.is_empty() {
            self.metrics.queue_bytes.dec_by(inner.bytes as i64);
            inner.bytes = 0;
            let batch = std::mem::take(&mut inner.queue);
            drop(inner);
            self.emptied.notify_one();
            return Some(Taken::Batch(batch));
        }
        match &inner.state {
            State::Open => None,
            State::Overflowed => Some(Taken::Overflowed),
            State::Ended(error) => Some(Taken::Ended(error.clone())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.metrics.subscribers.dec();
        let bytes = self.lock().bytes;
        self.metrics.queue_bytes.dec_by(bytes as i64);
    }
}
