//! Settings that bound what strangers can do to a process: of every HTTP/2 door, and of an edge.
use super::values::{LONGEST, bytes, duration, network};
use clap::Args;
use hearth_edge::config::{Defence, network::Network};
use std::time::Duration;

/// hyper wants no smaller buffer for a request's head.
const HEADER_MIN: usize = 8 << 10;
/// More is no head.
const HEADER_MAX: usize = 1 << 20;
/// A mobile network's worst round trip.
const PATIENCE_MIN: Duration = Duration::from_millis(100);

/// Limits of all that speaks HTTP/2.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct HttpDefence {
    /// The largest head of a request, in bytes, 8 KiB to 1 MiB; it may have 100 lines over HTTP/1.1
    #[arg(long, env = "HEARTH_MAX_HEADER_BYTES", value_name = "BYTES", default_value = "16384", value_parser = bytes(HEADER_MIN..=HEADER_MAX))]
    pub max_header_bytes: usize,
    /// How many requests or streams one HTTP/2 connection may have at once; by gRPC sixteen times as many
    #[arg(long, env = "HEARTH_HTTP2_STREAMS", value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub http2_streams: u32,
    /// How many streams of one HTTP/2 connection may be reset before they are dealt with; past it the connection ends
    #[arg(long, env = "HEARTH_HTTP2_RESETS", value_name = "N", default_value = "20", value_parser = clap::value_parser!(u16))]
    pub http2_resets: u16,
}

/// What an edge bears.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Edge")]
pub struct EdgeDefence {
    /// How many connections may have made no whole request yet, at most half of --max-connections; past it the oldest of them is cut; 0 is no limit
    #[arg(long, env = "HEARTH_MAX_HANDSHAKES", value_name = "N", default_value = "4096")]
    pub max_handshakes: usize,
    /// How long the head of a request may take
    #[arg(long, env = "HEARTH_HEADER_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration(PATIENCE_MIN..=LONGEST))]
    pub header_timeout: Duration,
    /// How long a session may take to say who it is
    #[arg(long, env = "HEARTH_AUTH_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration(PATIENCE_MIN..=LONGEST))]
    pub auth_timeout: Duration,
    /// How many forged tokens one address may bring within 10 s before no more of it are looked at; 0 is no limit. One that is missing or has expired is not forged
    #[arg(long, env = "HEARTH_MAX_REFUSED_TOKENS", value_name = "N", default_value = "100")]
    pub max_refused_tokens: u32,
    /// How much may wait for all slow sessions together, in bytes: past it the largest are cut; an event that waits for many counts for each; 0 is no limit
    #[arg(long, env = "HEARTH_MAX_QUEUED_BYTES", value_name = "BYTES", default_value = "1073741824", value_parser = bytes(0..=usize::MAX))]
    pub max_queued_bytes: usize,
    /// How much memory the process should use, in bytes: from 90 % on nobody new is let in; 0 is no limit, and unless said it is 80 % of what the machine or its container has
    #[arg(long, env = "HEARTH_MEMORY_BUDGET", value_name = "BYTES", value_parser = bytes(0..=usize::MAX))]
    pub memory_budget: Option<usize>,
    /// Proxies in front of this edge whose X-Forwarded-For says who a request is from, comma-separated: addresses, or networks as in 10.0.0.0/8
    #[arg(long, env = "HEARTH_TRUSTED_PROXIES", value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<Network>,
}

impl EdgeDefence {
    /// All of it, as an edge takes it.
    pub fn with(&self, http: &HttpDefence) -> Defence {
        Defence {
            max_handshakes: self.max_handshakes,
            header_timeout: self.header_timeout,
            max_header_bytes: http.max_header_bytes,
            http2_streams: http.http2_streams,
            http2_resets: usize::from(http.http2_resets),
            auth_timeout: self.auth_timeout,
            max_queued_bytes: self.max_queued_bytes,
            memory_budget: self.memory_budget.unwrap_or_else(crate::memory::usual_budget),
            trusted_proxies: self.trusted_proxies.clone(),
            max_refused_tokens: self.max_refused_tokens,
        }
    }
}
