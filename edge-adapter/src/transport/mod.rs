//! The doors: everything that comes in by HTTP. What is a room's session leaves HTTP behind at once and goes to a
//! shard; the rest is small pages.
pub mod addresses;
pub mod api;
pub mod asked;
pub mod asyncapi;
pub mod body;
pub mod connections;
pub mod cors;
pub mod full;
pub mod handshakes;
pub mod head;
pub mod headers;
pub mod linger;
pub mod long_poll;
pub mod memory;
pub mod openapi;
pub mod origin;
pub mod pages;
pub mod pipe;
pub mod portions;
pub mod problem;
pub mod query;
pub mod refusals;
pub mod rest;
pub mod server;
pub mod sse;
pub mod tickets;
pub mod tls;
pub mod visitor;
pub mod websocket;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::fanout::calls::Calls;
use crate::fanout::shards::Shards;
use crate::metrics::EdgeMetrics;
use crate::transport::long_poll::Polls;
use crate::transport::memory::Memory;
use crate::transport::problem::Problem;
use crate::wire::event::{Code, Failure};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{MethodRouter, any, get, post};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD, Engine};
use std::fmt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is behind the doors.
pub struct Doors {
    /// The edge's settings.
    pub config: Arc<Config>,
    /// Who takes the sessions.
    pub shards: Shards,
    /// Sessions that are polled.
    pub polls: Polls,
    /// Who takes single requests.
    pub calls: Calls,
    /// What is counted.
    pub metrics: EdgeMetrics,
    /// Whether there is memory for those who come.
    pub memory: Memory,
    /// Whether the link to a core stands.
    pub attached: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether its core, the last if there is none now, asks for no tokens.
    pub dev_mode: Box<dyn Fn() -> bool + Send + Sync>,
    /// All metrics of the process as text.
    pub metrics_text: Arc<dyn Fn() -> String + Send + Sync>,
    /// Cancelled when the edge begins to drain: from then on nothing new is let in.
    pub draining: CancellationToken,
    /// Connections, and handshakes between HTTP and shard.
    pub tasks: TaskTracker,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors").field("config", &self.config).finish_non_exhaustive()
    }
}

/// 16 random bytes: a session's id cannot be guessed.
fn session_id() -> Result<Arc<str>, Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Failure::new(Code::Internal, "no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

/// All routes.
pub fn router(doors: Arc<Doors>) -> Router {
    let router = Router::new().fallback(async |request| body::refuse(request, Problem::not_found()).await);
    let add = |router: Router<_>, (path, door)| router.route(path, door);
    let router = routes(&doors).into_iter().fold(router, add);
    let router = router.method_not_allowed_fallback(wrong_method).with_state(doors);
    router.layer(map_response(headers::secure))
}

async fn wrong_method(request: Request) -> Problem {
    body::refuse(request, Problem::wrong_method()).await
}

/// What stands at which path. But for WebSockets, each is described in `openapi.rs`.
fn routes(doors: &Arc<Doors>) -> Vec<(&'static str, MethodRouter<Arc<Doors>>)> {
    let guard = from_fn_with_state(doors.clone(), cors::guard);
    // Read also by pages of other origins.
    let open = |door: MethodRouter<Arc<Doors>>| door.fallback(wrong_method).layer(guard.clone());
    vec![
        ("/", get(pages::playground)),
        ("/healthz", get(pages::healthz)),
        ("/readyz", get(pages::readyz)),
        ("/metrics", get(pages::metrics)),
        ("/openapi.json", open(get(openapi::openapi))),
        ("/asyncapi.json", open(get(asyncapi::asyncapi))),
        ("/ws", any(websocket::connect)),
        // Names that cannot be a room's, such as an empty one, come here too, so that a browser can read why.
        ("/ws/", any(websocket::connect)),
        ("/ws/{*room}", any(websocket::connect)),
        ("/poll", any(long_poll::rooms).layer(guard.clone())),
        ("/poll/{*room}", any(long_poll::room).layer(guard.clone())),
        ("/events", any(sse::rooms).layer(guard.clone())),
        ("/events/{*room}", any(sse::room).layer(guard.clone())),
        ("/tickets", open(post(tickets::issue))),
        ("/rooms/{room}/messages", open(get(rest::history).post(rest::publish))),
        ("/rooms/{room}/presence", open(get(rest::online).put(rest::show))),
    ]
}
