//! The handle in front of all shards.
use crate::config::Config;
use crate::fanout::callers::Callers;
use crate::fanout::calls::Desk;
use crate::fanout::census::Census;
use crate::fanout::inbox::Inbox;
use crate::fanout::newcomer::NewSession;
use crate::fanout::post::{Post, Posts};
use crate::fanout::shard::Shard;
use crate::metrics::EdgeMetrics;
use crate::session::request::Upstream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// A session's name has 8 bits for its shard, and one number more is the calls'.
const SHARDS_MAX: usize = 255;

/// All shards of an edge; clones are the same shards.
#[derive(Debug, Clone)]
pub struct Shards {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Arc<Config>,
    metrics: EdgeMetrics,
    inboxes: Vec<Arc<Inbox>>,
    /// Behind them, to the link: requests over HTTP.
    desk: Desk,
    next: AtomicUsize,
    census: Arc<Census>,
}

impl Shards {
    /// Inboxes for as many shards as the settings ask for. What is put in waits for [`Shards::run`].
    pub fn new(config: Arc<Config>, metrics: EdgeMetrics) -> Shards {
        let inboxes: Vec<Arc<Inbox>> =
            (0..config.shards.clamp(1, SHARDS_MAX)).map(|_| Arc::default()).collect();
        let (desk, next) = (Desk::new(inboxes.len(), Callers::new(&config)), AtomicUsize::new(0));
        let shared = Shared { config, metrics, inboxes, desk, next, census: Arc::default() };
        Shards { shared: Arc::new(shared) }
    }

    /// Starts the shards' tasks on the current runtime; they end with it. To be called once.
    pub fn run(&self, upstream: &Arc<dyn Upstream>) {
        let Shared { config, metrics, inboxes, census, .. } = &*self.shared;
        for (number, inbox) in inboxes.iter().enumerate() {
            let shard = Shard::new(
                number,
                config.clone(),
                upstream.clone(),
                inbox.clone(),
                census.clone(),
                metrics.clone(),
            );
            // A turn takes what there is and then waits, so it needs no budget to be fair.
            tokio::spawn(tokio::task::unconstrained(shard.run()));
        }
    }

    /// Where the answers to requests over HTTP go.
    pub fn desk(&self) -> &Desk {
        &self.shared.desk
    }

    /// Gives a connection to a shard, in turn.
    pub fn adopt(&self, newcomer: NewSession) {
        self.shared.census.enter();
        self.shared.metrics.connections.inc();
        let next = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.shared.inboxes[next % self.shared.inboxes.len()].adopt(newcomer);
    }

    /// Tells every session to come back elsewhere, and ends it; who comes from now on is sent away at once.
    pub fn drain(&self) {
        for inbox in &self.shared.inboxes {
            inbox.drain();
        }
    }

    /// Waits until no session is left.
    pub async fn idle(&self) {
        self.shared.census.emptied().await;
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.shared.census.count()
    }
}

impl Posts for Shards {
    fn shards(&self) -> usize {
        self.shared.inboxes.len() + 1
    }

    fn post(&self, shard: usize, posts: &mut Vec<Post>) {
        match self.shared.inboxes.get(shard) {
            Some(inbox) => inbox.post(posts),
            None if shard == self.shared.inboxes.len() => self.shared.desk.post(posts),
            None => posts.clear(),
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        // The first full one wakes the task, which then asks for the next.
        let Shared { inboxes, desk, .. } = &*self.shared;
        match inboxes.iter().all(|inbox| inbox.poll_room(cx).is_ready()) && desk.poll_room(cx).is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
