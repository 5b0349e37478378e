//! Puts core and edge together as the settings say, and runs them until a signal.
//!
//! The order is the same for every role: logs, limits of the process, listeners, core, edge, the addresses on standard output, then the
//! wait. On the first signal the edge drains before the core, both within the drain's time; on a second everything ends at once.
use crate::{
    pages::{self, MetricsText},
    settings::{
        CheckConfig, Common, CoreOnly, CoreSettings, EdgeOnly, EdgeSettings, Limits, Serve, namespaces,
    },
    shutdown::{self, Signals},
    telemetry,
    tls::{self, Tls},
    tokens,
};
use hearth_core::Core;
use hearth_core::auth::{Auth, LinkToken};
use hearth_core::jwks::Source;
use hearth_edge::{Edge, link::Dialer};
use prometheus_client::registry::Registry;
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How many handshakes the kernel holds for us while we are busy: a whole edge's browsers may come back at once.
const BACKLOG: u32 = 4096;
/// Open files that are not browsers: listeners, links, logs, services.
const OTHER_FILES: u64 = 256;
/// A service multiplexes where a page does not: a connection of one has so many calls for each request of a page's.
const CALLS_PER_STREAM: u32 = 16;
/// What an edge keeps of its drain for its last words to the core, at most a sixth.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Looks at settings that are each right and together are not.
pub fn check(check: &CheckConfig) -> Result<(), String> {
    let settings = &check.serve;
    namespaces::resolve(&settings.core, &settings.limits).map(drop)?;
    telemetry::filter(&settings.common).map(drop)?;
    let (auth, _) = tokens::auth(&settings.core)?;
    let doors = [("--grpc", settings.core.grpc), ("--http", settings.edge.http)];
    // An edge is known by its cores, or by what it shows them.
    let edge = &check.edge_alone;
    let is_edge = !edge.core.is_empty() || edge.link_cert.is_some() || edge.link_key.is_some();
    let tls = match is_edge {
        false => tls::Source::of_core(&settings.common),
        true => tls::Source::of_edge(&settings.common, edge),
    };
    tls?.check()?;
    refuse_open_doors(&settings.common, &auth, &doors)
}

/// `hearth serve`: core and edge in one process.
pub async fn serve(settings: Serve) -> Result<(), String> {
    let Serve { common, limits, core, edge } = settings;
    telemetry::start(&common)?;
    let files = raise_file_limit();
    let (auth, key_sources) = tokens::auth(&core)?;
    let mode = Mode::of(&auth);
    refuse_open_doors(&common, &auth, &[("--grpc", core.grpc), ("--http", edge.http)])?;
    let signals = Signals::listen().map_err(|error| error.to_string())?;
    let mut registry = Registry::default();
    let tls = Tls::load(tls::Source::of_core(&common)?, &mut registry)?;
    tls.reload_on_hangup().map_err(|error| error.to_string())?;
    let (grpc, http) = (listen("--grpc", core.grpc)?, listen("--http", edge.http)?);
    let text = LateText::default();
    // Browsers first: what they publish while they leave still reaches the core. It keeps a quarter for its goodbyes.
    let edge_time = common.drain_timeout * 3 / 4;
    let config = core_config(&common, &limits, &core, (auth, key_sources), &tls)?;
    let the_core = Core::in_memory(config, &mut registry);
    let dialers = vec![Dialer::in_process(the_core.link_service())];
    let config = edge_config(&common, &limits, &edge, mode, edge_time, files, &tls);
    let the_edge = Edge::new(config, dialers, &mut registry, text.reader());
    text.set(registry);
    greet(mode, &tls, Some(&http), Some(&grpc), None)?;
    let (edge_ends, core_ends) = (CancellationToken::new(), CancellationToken::new());
    let clock = tokio::spawn({
        let core = the_core.clone();
        async move { core.run(std::future::pending()).await }
    });
    let edge_task = tokio::spawn({
        let ends = edge_ends.clone();
        async move { the_edge.serve(http, ends.cancelled_owned()).await.map_err(|error| error.to_string()) }
    });
    let core_task = tokio::spawn({
        let ends = core_ends.clone();
        async move { the_core.serve(grpc, ends.cancelled_owned()).await }
    });
    let work = async {
        let edge = tokio::select! {
            ended = edge_task => ended.map_err(|error| error.to_string()).and_then(|outcome| outcome),
            () = shutdown::after(&edge_ends, edge_time) => {
                tracing::warn!("the edge still drains, the core begins");
                Ok(())
            }
        };
        core_ends.cancel();
        let core = core_task.await.map_err(|error| error.to_string()).and_then(|outcome| outcome);
        edge.and(core)
    };
    signals.run(&edge_ends, common.drain_timeout, with_clock(clock, work)).await
}

/// `hearth core`.
pub async fn core(settings: CoreOnly) -> Result<(), String> {
    let CoreOnly { common, limits, core, alone } = settings;
    telemetry::start(&common)?;
    raise_file_limit();
    let (auth, key_sources) = tokens::auth(&core)?;
    let mode = Mode::of(&auth);
    refuse_open_doors(&common, &auth, &[("--grpc", core.grpc)])?;
    let signals = Signals::listen().map_err(|error| error.to_string())?;
    let mut registry = Registry::default();
    let tls = Tls::load(tls::Source::of_core(&common)?, &mut registry)?;
    tls.reload_on_hangup().map_err(|error| error.to_string())?;
    let grpc = listen("--grpc", core.grpc)?;
    let metrics = alone.metrics.map(|address| listen("--metrics", address)).transpose()?;
    let config = core_config(&common, &limits, &core, (auth, key_sources), &tls)?;
    let the_core = Core::in_memory(config, &mut registry);
    let text = LateText::default();
    text.set(registry);
    greet(mode, &tls, None, Some(&grpc), metrics.as_ref())?;
    let ends = CancellationToken::new();
    let ready = {
        let (ends, core) = (ends.clone(), the_core.clone());
        Arc::new(move || !ends.is_cancelled() && core.is_ready())
    };
    let pages = metrics.map(|listener| tokio::spawn(pages::serve(listener, text.reader(), ready)));
    let clock = tokio::spawn({
        let core = the_core.clone();
        async move { core.run(std::future::pending()).await }
    });
    let work = Box::pin(the_core.serve(grpc, ends.clone().cancelled_owned()));
    let outcome = signals.run(&ends, common.drain_timeout, with_clock(clock, work)).await;
    pages.inspect(|pages| pages.abort());
    outcome
}

/// The core's work for as long as its clock goes: without it nobody would ever leave, and nothing would be forgotten.
async fn with_clock(
    mut clock: JoinHandle<()>,
    work: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let outcome = tokio::select! {
        outcome = work => outcome,
        ended = &mut clock => match ended {
            Ok(()) => Err("the core's clock has stopped".into()),
            Err(error) => Err(format!("the core's clock has stopped: {error}")),
        },
    };
    clock.abort();
    outcome
}

/// `hearth edge`.
pub async fn edge(settings: EdgeOnly) -> Result<(), String> {
    let EdgeOnly { common, limits, edge, alone } = settings;
    telemetry::start(&common)?;
    let files = raise_file_limit();
    let mut registry = Registry::default();
    let tls = Tls::load(tls::Source::of_edge(&common, &alone)?, &mut registry)?;
    tls.reload_on_hangup().map_err(|error| error.to_string())?;
    let dial = |url: &String| Dialer::url(url, common.link_token.as_deref(), tls.cores());
    let dialers: Result<Vec<Dialer>, _> = alone.core.iter().map(dial).collect();
    let dialers = dialers.map_err(|error| format!("--core: {error}"))?;
    let signals = Signals::listen().map_err(|error| error.to_string())?;
    let http = listen("--http", edge.http)?;
    let text = LateText::default();
    let config = edge_config(&common, &limits, &edge, Mode::AsTheCore, common.drain_timeout, files, &tls);
    let the_edge = Edge::new(config, dialers, &mut registry, text.reader());
    text.set(registry);
    greet(Mode::AsTheCore, &tls, Some(&http), None, None)?;
    let ends = CancellationToken::new();
    let serving = the_edge.serve(http, ends.clone().cancelled_owned());
    let work = async { serving.await.map_err(|error| error.to_string()) };
    signals.run(&ends, common.drain_timeout, work).await
}

/// Raises the soft limit on open files, which is for programs that forget to close them, and gives what it is then.
fn raise_file_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files stays as it is");
        1024
    })
}

/// Dev mode lets anyone in, so it stays on this machine unless somebody says otherwise.
fn refuse_open_doors(common: &Common, auth: &Auth, doors: &[(&str, SocketAddr)]) -> Result<(), String> {
    match doors.iter().find(|(_, address)| !address.ip().is_loopback()) {
        Some((flag, address)) if auth.is_dev() && !common.insecure => Err(format!(
            "{flag} {address} can be reached by others, and in dev mode anyone may come in; use a loopback address, ask for tokens (--jwt-hs256-secret, --jwt-public-key, --jwks-url), or say --insecure"
        )),
        _ => Ok(()),
    }
}

fn listen(flag: &str, address: SocketAddr) -> Result<TcpListener, String> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| format!("{flag} {address}: {error}"))
}

/// How callers are let in, as it is said at the start.
#[derive(Clone, Copy)]
enum Mode {
    Dev,
    Tokens,
    AsTheCore,
}

impl Mode {
    fn may_be_dev(self) -> bool {
        matches!(self, Mode::Dev | Mode::AsTheCore)
    }

    fn of(auth: &Auth) -> Mode {
        if auth.is_dev() { Mode::Dev } else { Mode::Tokens }
    }
}

/// Tells a person, and whoever reads our output, where we are.
fn greet(
    mode: Mode,
    tls: &Tls,
    http: Option<&TcpListener>,
    grpc: Option<&TcpListener>,
    metrics: Option<&TcpListener>,
) -> Result<(), String> {
    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| error.to_string());
    let mode = match mode {
        Mode::Dev => "in dev mode: no tokens, anyone who can reach it may come in",
        Mode::Tokens => "with tokens: every caller needs one",
        Mode::AsTheCore => "as its core says: with tokens, or in dev mode",
    };
    println!("Hearth {} {mode}", env!("CARGO_PKG_VERSION"));
    if let Some(metrics) = metrics {
        println!("metrics listening on http://{}", address(metrics)?);
    }
    if let Some(http) = http {
        let scheme = if tls.http().is_some() { "https" } else { "http" };
        println!("{scheme} listening on {scheme}://{}", address(http)?);
    }
    if let Some(grpc) = grpc {
        let scheme = if tls.grpc().is_some() { "https://" } else { "" };
        println!("grpc listening on {scheme}{}", address(grpc)?);
    }
    Ok(())
}

fn core_config(
    common: &Common,
    limits: &Limits,
    core: &CoreSettings,
    (auth, key_sources): (Auth, Vec<Source>),
    tls: &Tls,
) -> Result<hearth_core::config::Config, String> {
    let drain_timeout = common.drain_timeout;
    Ok(hearth_core::config::Config {
        history_size: core.history_size,
        history_ttl: core.history_ttl,
        history_max_bytes: core.history_max_bytes.get(),
        dedupe_window: core.dedupe_window,
        dedupe_max: core.dedupe_max,
        positions_max: core.positions_max,
        max_message_bytes: limits.max_message_bytes,
        session_queue_bytes: limits.session_queue_bytes,
        max_rooms_per_session: limits.max_rooms_per_session.get(),
        max_sessions_per_user: core.max_sessions_per_user,
        revocations_max: core.revocations_max,
        rate_limit: limits.rate_limit,
        rate_burst: limits.rate_burst,
        max_header_bytes: limits.http.max_header_bytes,
        http2_streams: limits.http.http2_streams.saturating_mul(CALLS_PER_STREAM),
        http2_resets: usize::from(limits.http.http2_resets),
        presence_timeout: core.presence_timeout,
        presence_max: core.presence_max,
        max_meta_bytes: core.max_meta_bytes,
        namespaces: namespaces::resolve(core, limits)?,
        auth,
        key_sources,
        link_token: common.link_token.as_deref().and_then(LinkToken::new),
        tls: tls.grpc(),
        link_certificates: tls.asks_edges(),
        drain_timeout,
        reflection: core.reflection,
    })
}

fn edge_config(
    common: &Common,
    limits: &Limits,
    edge: &EdgeSettings,
    mode: Mode,
    drain_timeout: Duration,
    files: u64,
    tls: &Tls,
) -> hearth_edge::config::Config {
    let bearable = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX).max(1);
    let accept_dev_mode = common.insecure || edge.http.ip().is_loopback();
    let shards = match edge.shards {
        0 => thread::available_parallelism().map_or(1, usize::from),
        shards => usize::from(shards),
    };
    hearth_edge::config::Config {
        heartbeat: edge.heartbeat,
        max_message_bytes: limits.max_message_bytes,
        session_queue_bytes: limits.session_queue_bytes,
        max_rooms_per_session: limits.max_rooms_per_session.get(),
        rate_limit: limits.rate_limit,
        rate_burst: limits.rate_burst,
        max_connections: edge.max_connections.unwrap_or(bearable),
        max_connections_per_address: edge.max_connections_per_address,
        allowed_origins: edge.allowed_origins.clone(),
        allow_local_origins: mode.may_be_dev() && accept_dev_mode,
        playground: match mode {
            Mode::AsTheCore => edge.playground,
            Mode::Dev | Mode::Tokens => Some(edge.playground.unwrap_or(mode.may_be_dev())),
        },
        tls: tls.http(),
        drain_timeout: drain_timeout - LAST_WORDS.min(drain_timeout / 6),
        shards,
        accept_dev_mode,
        defence: edge.defence.with(&limits.http),
    }
}

/// The metrics' text: pages are built before the registry is full.
#[derive(Clone, Default)]
struct LateText(Arc<OnceLock<Registry>>);

impl LateText {
    fn set(&self, registry: Registry) {
        // There is one assembly, so it is set once.
        let _ = self.0.set(registry);
    }

    fn reader(&self) -> MetricsText {
        let registry = self.0.clone();
        Arc::new(move || {
            let mut text = String::new();
            if let Some(registry) = registry.get()
                && let Err(error) = prometheus_client::encoding::text::encode(&mut text, registry)
            {
                tracing::warn!(%error, "metrics cannot be written");
            }
            text
        })
    }
}
