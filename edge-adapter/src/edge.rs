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
use tokio::{
    net::TcpListener,
    runtime::{self, Handle, Runtime},
};
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
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let server = Server::new(self.doors.clone());
        let threads = Threads::start()?;
        let serving = threads.handle.spawn(async move { server.run(listener, shutdown).await });
        let served = serving.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        // The last sessions to go have said so into the link's queue.
        self.link.finish().await;
        served
    }

    /// The link to the core.
    pub fn link(&self) -> &LinkHandle {
        &self.link
    }
}

/// The doors have threads of their own: a crowd of connections, each with a task that wants its turn, is not in the way of shards and link, to which
/// those belong who are in. The system shares the processors between the two.
struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    fn start() -> io::Result<Threads> {
        let runtime = runtime::Builder::new_multi_thread().thread_name("doors").enable_all().build()?;
        Ok(Threads { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Where others are served nobody may be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn random_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}
