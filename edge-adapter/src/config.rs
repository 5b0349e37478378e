//! What an edge is told at its start.
pub mod network;

use network::Network;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

/// An edge's settings; `hearth` fills them from flags, environment and file.
#[derive(Debug, Clone)]
pub struct Config {
    /// How often a silent session is pinged; two silent ones end it.
    pub heartbeat: Duration,
    /// The largest message taken, in bytes, over all its fragments.
    pub max_message_bytes: usize,
    /// How much may wait for one session's socket, in bytes.
    pub session_queue_bytes: usize,
    /// How many rooms one session may be in.
    pub max_rooms_per_session: usize,
    /// Commands per second of one session; 0 is no limit.
    pub rate_limit: u32,
    /// How many of them at once.
    pub rate_burst: u32,
    /// How many connections this edge takes; 0 is no limit.
    pub max_connections: usize,
    /// How many of one address; 0 is no limit.
    pub max_connections_per_address: usize,
    /// Origins that may connect beside the edge's own; `*` is any.
    pub allowed_origins: Vec<String>,
    /// Any port of localhost may connect too.
    pub allow_local_origins: bool,
    /// Serve the playground page at `/`.
    pub playground: Option<bool>,
    /// How TLS is spoken to browsers, where it is: whatever is in it when a connection comes.
    pub tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How many shards; one per processor unless said.
    pub shards: usize,
    /// Follow a core in dev mode even when this edge listens on an address that is not loopback.
    pub accept_dev_mode: bool,
    /// What is borne of those who mean harm.
    pub defence: Defence,
}

/// What an edge bears before it helps itself. All of it bounds something that grows with what strangers do.
#[derive(Debug, Clone)]
pub struct Defence {
    /// How many connections may have made no whole request yet; past it the oldest of them goes. 0 is no limit.
    pub max_handshakes: usize,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// The most bytes of it.
    pub max_header_bytes: usize,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams: u32,
    /// How many of them may be reset, and not dealt with yet, before the connection ends.
    pub http2_resets: usize,
    /// How long a session may take to say who it is.
    pub auth_timeout: Duration,
    /// How much may wait for all sessions together, in bytes; 0 is no limit.
    pub max_queued_bytes: usize,
    /// How much memory the process should use, in bytes; 0 is no limit.
    pub memory_budget: usize,
    /// Whose word counts for whom a request comes from.
    pub trusted_proxies: Vec<Network>,
    /// How many tokens of one address are refused within ten seconds before it is not asked any more; 0 is no limit.
    pub max_refused_tokens: u32,
}

impl Default for Defence {
    fn default() -> Self {
        Self {
            max_handshakes: 4096,
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 16 << 10,
            http2_streams: 64,
            http2_resets: 20,
            auth_timeout: Duration::from_secs(10),
            max_queued_bytes: 1 << 30,
            memory_budget: 0,
            trusted_proxies: Vec::new(),
            max_refused_tokens: 100,
        }
    }
}
