//! Every setting, once: the flag is the environment variable (`HEARTH_…`) is the key of `hearth.toml`.
//!
//! What is given nearer wins: flag, then environment, then file, then the default. The table in
//! `docs/configuration.md` is made from these definitions ([`table`]).
pub mod defence;
pub mod file;
pub mod namespaces;
pub mod table;
mod values;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use defence::EdgeDefence;
use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};
pub use values::acts;
use values::{LONGEST, bytes, core_url, duration, switch};

/// Below it pings outweigh messages.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// A member whose connection breaks needs a moment to come back.
const PRESENCE_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// History without any time is no history, which `--history-size 0` says.
const HISTORY_TTL_MIN: Duration = Duration::from_millis(1);
/// A replay goes by pages of a quarter of a queue: with less, a short burst would cut those who read it.
const SESSION_QUEUE_MIN: usize = 64 << 10;
/// Larger things belong into a store, and their address into a room.
const MESSAGE_MAX: usize = 16 << 20;

/// The command line of all roles.
pub fn command() -> clap::Command {
    // Whoever only checks need not be an edge.
    Cli::command().mut_subcommand("check-config", |check| check.mut_arg("core", |arg| arg.required(false)))
}

/// What a person types.
#[derive(Debug, Parser)]
#[command(
    name = "hearth",
    version,
    about = "Realtime rooms: ordered, acknowledged, recoverable. For services by gRPC, for browsers by WebSocket.",
    long_about = None,
    args_conflicts_with_subcommands = true,
    after_help = AFTER_HELP,
    max_term_width = 110
)]
pub struct Cli {
    /// What to run; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings of `serve`.
    #[command(flatten)]
    pub serve: Serve,
}

const AFTER_HELP: &str = "\
Examples:
  hearth                                       core and edge in one process, in memory: open http://127.0.0.1:8080
  hearth --history-size 10000 --history-ttl 7d keep more
  hearth core --grpc 127.0.0.1:50051           a core alone
  hearth edge --core http://127.0.0.1:50051    an edge alone, in front of it
  hearth check-config                          what is in force, and where each setting comes from

Every flag is also an environment variable (HEARTH_HISTORY_SIZE) and a key of hearth.toml (history-size).";

/// What to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Core and edge in one process (the default)
    Serve(Box<Serve>),
    /// A core alone: rooms and their history, for services and edges, by gRPC
    Core(Box<CoreOnly>),
    /// An edge alone: browsers on one side, a core on the other
    Edge(Box<EdgeOnly>),
    /// Read the settings, say what is in force and where it comes from, and end
    CheckConfig(Box<CheckConfig>),
    /// Make a token, to try things out: whoever has the secret can
    Token(Box<TokenArgs>),
    /// Measure this build against a plain WebSocket server on this machine
    Bench(hearth_bench::BenchArgs),
}

/// `hearth serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: Limits,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub core: CoreSettings,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub edge: EdgeSettings,
}

/// `hearth core`.
#[derive(Debug, Clone, Args)]
pub struct CoreOnly {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: Limits,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub core: CoreSettings,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub alone: CoreAlone,
}

/// `hearth edge`.
#[derive(Debug, Clone, Args)]
pub struct EdgeOnly {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: Limits,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub edge: EdgeSettings,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub alone: EdgeAlone,
}

/// `hearth token`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// Who it is for: a user's name
    #[arg(value_name = "USER")]
    pub user: String,
    /// The secret that the core verifies with
    #[arg(
        long,
        env = "HEARTH_JWT_HS256_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        hide_default_value = true,
        required_unless_present = "private_key"
    )]
    pub jwt_hs256_secret: Option<String>,
    /// A private key in PEM to sign with instead: RSA, EC P-256 or Ed25519 (PKCS#8)
    #[arg(long, value_name = "FILE")]
    pub private_key: Option<String>,
    /// How long it is good
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration(Duration::from_secs(1)..=LONGEST))]
    pub lifetime: Duration,
    /// What it allows, and nothing else: `chat:*=join,publish`; more than once
    #[arg(long, value_name = "ROOMS=ACTS")]
    pub allow: Vec<String>,
    /// It is a service's
    #[arg(long)]
    pub service: bool,
    /// Its id, `jti`, by which it can be revoked
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Its audience
    #[arg(long, env = "HEARTH_JWT_AUDIENCE", value_name = "NAME")]
    pub jwt_audience: Option<String>,
    /// Its issuer
    #[arg(long, env = "HEARTH_JWT_ISSUER", value_name = "NAME")]
    pub jwt_issuer: Option<String>,
}

/// `hearth check-config`: what any role takes, so that nothing passes here and is refused there.
#[derive(Debug, Clone, Args)]
pub struct CheckConfig {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub serve: Serve,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub core_alone: CoreAlone,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub edge_alone: EdgeAlone,
    /// Print the table of all settings as Markdown instead
    #[arg(long)]
    pub table: bool,
}

/// What every role has.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// File of settings; ./hearth.toml is read if it is there
    #[arg(long, env = "HEARTH_CONFIG", value_name = "FILE")]
    pub config: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or per part, as in `info,hearth_edge=debug`
    #[arg(long, env = "HEARTH_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How it is logged: auto is pretty on a terminal, JSON otherwise
    #[arg(long, env = "HEARTH_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
    /// How long a drain may take after SIGTERM; what is left then is cut
    #[arg(long, env = "HEARTH_DRAIN_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration(Duration::ZERO..=LONGEST))]
    pub drain_timeout: Duration,
    /// What an edge shows a core to be let in; needed between the two where tokens are on and they run apart
    #[arg(
        long,
        env = "HEARTH_LINK_TOKEN",
        value_name = "SECRET",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub link_token: Option<String>,
    /// Certificate in PEM, and what leads to its authority, for TLS at --http and --grpc; read anew on SIGHUP, as all of TLS
    #[arg(long, env = "HEARTH_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Its private key in PEM
    #[arg(long, env = "HEARTH_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Authorities in PEM between the two: a core lets in edges whose certificates are theirs, an edge verifies cores at https:// by them
    #[arg(long, env = "HEARTH_LINK_CA", value_name = "FILE")]
    pub link_ca: Option<String>,
    /// Serve without tokens on an address that others can reach
    #[arg(long, env = "HEARTH_INSECURE", value_parser = switch, action = ArgAction::SetTrue)]
    pub insecure: bool,
}

/// Limits that hold at every door.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// The largest message taken, in bytes, at most 16 MiB
    #[arg(long, env = "HEARTH_MAX_MESSAGE_BYTES", value_name = "BYTES", default_value = "65536", value_parser = bytes(1..=MESSAGE_MAX))]
    pub max_message_bytes: usize,
    /// How much may wait for one slow session before it is cut, in bytes, at least 64 KiB
    #[arg(long, env = "HEARTH_SESSION_QUEUE_BYTES", value_name = "BYTES", default_value = "1048576", value_parser = bytes(SESSION_QUEUE_MIN..=usize::MAX))]
    pub session_queue_bytes: usize,
    /// How many rooms one session may be in
    #[arg(long, env = "HEARTH_MAX_ROOMS_PER_SESSION", value_name = "N", default_value = "100")]
    pub max_rooms_per_session: NonZeroUsize,
    /// Commands per second of one session, and requests of one user over HTTP; 0 is no limit
    #[arg(long, env = "HEARTH_RATE_LIMIT", value_name = "N", default_value = "2000")]
    pub rate_limit: u32,
    /// How many commands of one session at once
    #[arg(long, env = "HEARTH_RATE_BURST", value_name = "N", default_value = "4000")]
    pub rate_burst: u32,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub http: defence::HttpDefence,
}

/// What a core has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Core")]
pub struct CoreSettings {
    /// Address for gRPC; port 0 is any, printed at start
    #[arg(long, env = "HEARTH_GRPC", value_name = "ADDR", default_value = "127.0.0.1:50051")]
    pub grpc: SocketAddr,
    /// Where rooms live
    #[arg(long, env = "HEARTH_ENGINE", value_name = "ENGINE", default_value = "memory")]
    pub engine: Engine,
    /// How many events of a room are kept
    #[arg(long, env = "HEARTH_HISTORY_SIZE", value_name = "N", default_value = "1000")]
    pub history_size: usize,
    /// How long an event is kept
    #[arg(long, env = "HEARTH_HISTORY_TTL", value_name = "TIME", default_value = "24h", value_parser = duration(HISTORY_TTL_MIN..=LONGEST))]
    pub history_ttl: Duration,
    /// How much history is kept in memory over all rooms, in bytes: past it the oldest goes first
    #[arg(long, env = "HEARTH_HISTORY_MAX_BYTES", value_name = "BYTES", default_value = "268435456")]
    pub history_max_bytes: NonZeroUsize,
    /// How long a message's id is remembered, so that it is not published twice; 0s is not at all
    #[arg(long, env = "HEARTH_DEDUPE_WINDOW", value_name = "TIME", default_value = "5m", value_parser = duration(Duration::ZERO..=LONGEST))]
    pub dedupe_window: Duration,
    /// How many ids are remembered per room
    #[arg(long, env = "HEARTH_DEDUPE_MAX", value_name = "N", default_value = "65536")]
    pub dedupe_max: usize,
    /// How many positions of empty rooms are kept, for 7 days
    #[arg(long, env = "HEARTH_POSITIONS_MAX", value_name = "N", default_value = "1000000")]
    pub positions_max: usize,
    /// How long a user whose connection broke stays online, so that coming back is silent
    #[arg(long, env = "HEARTH_PRESENCE_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration(PRESENCE_TIMEOUT_MIN..=LONGEST))]
    pub presence_timeout: Duration,
    /// How many users of a room are shown one by one; with more, their number is
    #[arg(long, env = "HEARTH_PRESENCE_MAX", value_name = "N", default_value = "500")]
    pub presence_max: usize,
    /// The largest presence meta, in bytes
    #[arg(long, env = "HEARTH_MAX_META_BYTES", value_name = "BYTES", default_value = "4096")]
    pub max_meta_bytes: usize,
    /// How many sessions and streams one user may have, over all edges of a core; 0 is no limit. Services have none
    #[arg(long, env = "HEARTH_MAX_SESSIONS_PER_USER", value_name = "N", default_value = "0")]
    pub max_sessions_per_user: usize,
    /// How many revocations of tokens are kept; past it `RevokeToken` fails, since none is forgotten before its token has ended
    #[arg(long, env = "HEARTH_REVOCATIONS_MAX", value_name = "N", default_value = "100000")]
    pub revocations_max: usize,
    /// Secret that tokens are signed with (HS256). Any key turns dev mode off: every caller needs a token
    #[arg(
        long,
        env = "HEARTH_JWT_HS256_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub jwt_hs256_secret: Option<String>,
    /// Files of public keys in PEM that tokens are signed by, comma-separated: RSA (RS256, PS256), EC P-256 (ES256), Ed25519 (EdDSA)
    #[arg(long, env = "HEARTH_JWT_PUBLIC_KEY", value_name = "FILE", value_delimiter = ',')]
    pub jwt_public_key: Vec<String>,
    /// URLs of key sets (JWKS) that tokens are signed by, comma-separated. They are fetched, kept, and fetched again, so that keys may follow one another
    #[arg(long, env = "HEARTH_JWKS_URL", value_name = "URL", value_delimiter = ',')]
    pub jwks_url: Vec<String>,
    /// File of certificates in PEM of those who vouch for the servers of --jwks-url; unless said, those that the machine trusts
    #[arg(long, env = "HEARTH_JWKS_CA", value_name = "FILE")]
    pub jwks_ca: Option<String>,
    /// What a token's `aud` must name
    #[arg(long, env = "HEARTH_JWT_AUDIENCE", value_name = "NAME")]
    pub jwt_audience: Option<String>,
    /// What a token's `iss` must be
    #[arg(long, env = "HEARTH_JWT_ISSUER", value_name = "NAME")]
    pub jwt_issuer: Option<String>,
    /// What is otherwise in the rooms of some namespaces; from the file alone.
    #[arg(skip)]
    pub namespaces: namespaces::NamespaceTable,
    /// Whether gRPC reflection shows the schema
    #[arg(long, env = "HEARTH_REFLECTION", value_name = "on|off", default_value = "on", value_parser = switch, action = ArgAction::Set)]
    pub reflection: bool,
}

/// What a core has that stands alone.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Core")]
pub struct CoreAlone {
    /// Address of the core's own /metrics, /healthz and /readyz; off unless given, port 0 is any, printed at start
    #[arg(long, env = "HEARTH_METRICS", value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
}

/// What an edge has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Edge")]
pub struct EdgeSettings {
    /// Address for browsers; port 0 is any, printed at start
    #[arg(long, env = "HEARTH_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// Origins that may connect beside the edge's own, comma-separated; * is any. In dev mode any port of localhost may, too
    #[arg(long, env = "HEARTH_ALLOWED_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,
    /// How often a silent connection is pinged; two unanswered ones end it
    #[arg(long, env = "HEARTH_HEARTBEAT", value_name = "TIME", default_value = "25s", value_parser = duration(HEARTBEAT_MIN..=LONGEST))]
    pub heartbeat: Duration,
    /// How many connections are taken; 0 is no limit, and unless said it is what the limit on open files bears
    #[arg(long, env = "HEARTH_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// How many connections of one address; 0 is no limit, since many users share an address
    #[arg(long, env = "HEARTH_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value = "0")]
    pub max_connections_per_address: usize,
    /// Whether the playground is served at /; on in dev mode unless said
    #[arg(long, env = "HEARTH_PLAYGROUND", value_name = "on|off", value_parser = switch)]
    pub playground: Option<bool>,
    /// How many tasks write to sockets; 0 is one per processor
    #[arg(long, env = "HEARTH_SHARDS", value_name = "N", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=64))]
    pub shards: u8,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub defence: EdgeDefence,
}

/// What an edge has that stands alone.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Edge")]
pub struct EdgeAlone {
    /// Cores to attach to, comma-separated; the edge fails over among them
    #[arg(long, env = "HEARTH_CORE", value_name = "URL", value_delimiter = ',', required = true, value_parser = core_url)]
    pub core: Vec<String>,
    /// Certificate in PEM that the edge shows its cores, instead of a link token
    #[arg(long, env = "HEARTH_LINK_CERT", value_name = "FILE")]
    pub link_cert: Option<String>,
    /// Its private key in PEM
    #[arg(long, env = "HEARTH_LINK_KEY", value_name = "FILE")]
    pub link_key: Option<String>,
}

/// Where rooms live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// In this process's memory: gone when it ends, and a new epoch says so
    Memory,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise
    Auto,
    /// For a person
    Pretty,
    /// For a program: one object a line
    Json,
}
