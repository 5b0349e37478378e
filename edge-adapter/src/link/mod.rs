//! The way to the core: all sessions of this edge on one stream, and what happens when that stream is lost.
//!
//! Only here the edge names tonic and the schema. [`LinkHandle`] takes requests from any thread; one worker task owns
//! the stream and the [`table`]; answers and events go to the shards as posts. A session never notices that one
//! core was followed by another, but for what the new one cannot know.
mod backoff;
mod convert;
mod dialer;
mod metrics;
mod queue;
mod secure;
mod table;
#[cfg(test)]
mod tests;
mod worker;

pub use dialer::{BadUrl, Dialer, is_secure};
pub use metrics::LinkMetrics;
pub use secure::LinkTls;

use crate::{
    fanout::post::Posts,
    session::request::{Busy, Request, Upstream},
};
use queue::Queue;
use std::sync::Arc;
use tokio::sync::watch;
use worker::Worker;

/// Who this edge is, and what cores it takes.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Its id, the same over its life.
    pub edge_id: String,
    /// Whether it may follow a core in dev mode.
    pub accept_dev_mode: bool,
}

/// How the link stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    attached: bool,
    /// What the last core said.
    dev_mode: bool,
}

/// The link. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct LinkHandle {
    queue: Arc<Closing>,
    state: watch::Receiver<State>,
}

/// Closes the queue with the last handle.
struct Closing(Arc<Queue>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Starts the link to one of the cores, tried in turn. Must be called within a tokio runtime.
pub fn start(
    dialers: Vec<Dialer>,
    posts: Arc<dyn Posts>,
    config: LinkConfig,
    metrics: LinkMetrics,
) -> LinkHandle {
    let queue = Arc::new(Queue::default());
    let (told, state) = watch::channel(State::default());
    let worker = Worker::new(dialers, posts, config, metrics, Arc::clone(&queue), told);
    tokio::spawn(worker.run());
    LinkHandle { queue: Arc::new(Closing(queue)), state }
}

impl LinkHandle {
    /// Whether there is a core.
    pub fn attached(&self) -> bool {
        self.state.borrow().attached
    }

    /// Whether the last core asks for no tokens.
    pub fn dev_mode(&self) -> bool {
        self.state.borrow().dev_mode
    }

    /// Ends the link when the core has heard all that was asked so far; what is asked later is not.
    pub async fn finish(&self) {
        self.queue.0.close();
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }

    /// Waits until there is a core. Returns early only when the link has ended.
    pub async fn wait_attached(&self) {
        // An error means that the worker is gone; there is nobody left to wait for.
        let _ = self.state.clone().wait_for(|state| state.attached).await;
    }
}

impl Upstream for LinkHandle {
    fn send(&self, request: Request) -> Result<(), Busy> {
        self.queue.0.push(request)
    }
}
