//! The link: all sessions of this edge on one gRPC stream to a core. The only place in the edge that names tonic.
//!
//! Shards put requests into the [`queue`]; one task, the [`worker`], owns the [`table`] of sessions, rooms and requests, writes
//! frames to the core and hands what comes back to the shards. Sessions outlive the stream: when a core is lost,
//! the worker attaches to another one (or the same one, started again), opens the sessions there, resumes their rooms from the
//! last events seen, and sends again what may be sent again.
mod answers;
mod attach;
mod backoff;
mod convert;
mod dialer;
mod epochs;
mod feeds;
mod metrics;
mod out;
mod pending;
mod queue;
mod reattach;
mod rooms;
mod table;
mod worker;

pub use dialer::{CoreService, Dialer};
pub use metrics::LinkMetrics;

use crate::{
    fanout::post::Posts,
    session::request::{Busy, Request, Upstream},
};
use queue::Queue;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use table::Table;
use tokio::sync::watch;
use worker::Worker;

/// How long a request waits for a core before it is answered `unavailable`: a core that is started again is back by then.
const DETACHED_GRACE: Duration = Duration::from_secs(10);

/// What the link is told at its start.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The edge's id, the same over its life.
    pub edge_id: String,
    /// Follow a core in dev mode.
    pub accept_dev_mode: bool,
}

/// Whether a core is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// There is one.
    Attached {
        /// Its id, another one after each start.
        core: Arc<str>,
        /// Its engine; cores with the same one share their rooms.
        engine: Arc<str>,
        /// It asks for no tokens.
        dev_mode: bool,
    },
    /// There is none.
    Detached {
        /// Since when.
        since: Instant,
    },
}

impl LinkState {
    /// Whether a core is there.
    pub fn is_attached(&self) -> bool {
        matches!(self, LinkState::Attached { .. })
    }
}

/// The shards' way to the core; clones are the same link.
#[derive(Clone)]
pub struct LinkHandle {
    queue: Arc<Queue>,
    state: watch::Receiver<LinkState>,
}

impl LinkHandle {
    /// Whether a core is there, now and from now on.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Whether a core is there now.
    pub fn attached(&self) -> bool {
        self.state.borrow().is_attached()
    }

    /// Ends the link: what has been asked is still sent, then the stream ends and the worker is done.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Waits until the link has ended.
    pub async fn closed(&self) {
        let mut state = self.state();
        while state.changed().await.is_ok() {}
    }
}

impl Upstream for LinkHandle {
    fn send(&self, request: Request) -> Result<(), Busy> {
        self.queue.push(request)
    }
}

impl fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LinkHandle").field(&*self.state.borrow()).finish()
    }
}

/// Starts the link on the current runtime, over these cores in turn. It runs until [`LinkHandle::close`].
pub fn start(
    dialers: Vec<Dialer>,
    shards: Arc<dyn Posts>,
    config: LinkConfig,
    metrics: LinkMetrics,
) -> LinkHandle {
    start_with(dialers, shards, config, metrics, DETACHED_GRACE)
}

fn start_with(
    dialers: Vec<Dialer>,
    shards: Arc<dyn Posts>,
    config: LinkConfig,
    metrics: LinkMetrics,
    grace: Duration,
) -> LinkHandle {
    let queue = Arc::<Queue>::default();
    let (told, state) = watch::channel(LinkState::Detached { since: Instant::now() });
    let table = Table::new(shards.shards(), grace, metrics.clone());
    let worker = Worker::new(dialers, shards, config, metrics, Arc::clone(&queue), told, table);
    tokio::spawn(worker.run());
    LinkHandle { queue, state }
}
