//! Puts an edge together: shards, the link that feeds them, and the doors in front.
use crate::{
    config::Config,
    fanout::{calls::Calls, post::Posts, shards::Shards},
    link::{self, Dialer, LinkConfig, LinkHandle, LinkMetrics},
    metrics::EdgeMetrics,
    session::request::Upstream,
    transport::{Doors, long_poll::Polls, memory::Memory, server::Server},
};
use prometheus_client::registry::Registry;
use std::{future::Future, io, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// An edge.
#[derive(Clone)]
pub struct Edge {
    doors: Arc<Doors>,
    link: LinkHandle,
}

impl Edge {
    /// Starts the shards and the link to one of the cores. Must be called within a tokio runtime.
    pub fn new(
        config: Config,
        dialers: Vec<Dialer>,
        registry: &mut Registry,
        metrics_text: Arc<dyn Fn() -> String + Send + Sync>,
    ) -> Self {
        let config = Arc::new(config);
        let metrics = EdgeMetrics::register(registry);
        let shards = Shards::new(config.clone(), metrics.clone());
        let posts: Arc<dyn Posts> = Arc::new(shards.clone());
        let about = LinkConfig { edge_id: random_id(), accept_dev_mode: config.accept_dev_mode };
        let link = link::start(dialers, posts, about, LinkMetrics::register(registry));
        let upstream: Arc<dyn Upstream> = Arc::new(link.clone());
        shards.run(&upstream);
        let attached = Box::new({
            let link = link.clone();
            move || link.attached()
        });
        let dev_mode = Box::new({
            let link = link.clone();
            move || link.dev_mode()
        });
        let (draining, tasks) = (CancellationToken::new(), TaskTracker::new());
        let polls = Polls::default();
        let calls = Calls::new(shards.desk().clone(), upstream, metrics.clone());
        let memory = Memory::new(config.defence.memory_budget, metrics.clone());
        let doors = Doors {
            memory,
            config,
            shards,
            polls,
            calls,
            metrics,
            attached,
            dev_mode,
            metrics_text,
            draining,
            tasks,
        };
        let doors = Arc::new(doors);
        Self { doors, link }
    }

    /// Serves browsers until `shutdown`, then drains; returns when all have gone, at the latest after the drain's time.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let served = Server::new(self.doors.clone()).run(listener, shutdown).await;
        // The last sessions to go have said so into the link's queue.
        self.link.finish().await;
        served
    }

    /// The link to the core.
    pub fn link(&self) -> &LinkHandle {
        &self.link
    }
}

fn random_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}
