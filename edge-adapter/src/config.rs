//! What an edge is told at its start.
use std::time::Duration;

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
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How many shards; one per processor unless said.
    pub shards: usize,
    /// Follow a core in dev mode even when this edge listens on an address that is not loopback.
    pub accept_dev_mode: bool,
}
