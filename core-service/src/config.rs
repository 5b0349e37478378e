//! What a core is told at its start.
use crate::{
    auth::{
        Auth, LinkToken,
        grant::{Acts, Defaults},
    },
    jwks::Source,
    room::{log::Retention, namespace::ByNamespace, presence::Rules},
};
use hearth_proto::name;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

/// A core's settings; `hearth` fills them from flags, environment and file.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many events of a room are kept.
    pub history_size: usize,
    /// How long an event is kept.
    pub history_ttl: Duration,
    /// How many bytes of history are kept over all rooms.
    pub history_max_bytes: usize,
    /// How long an id is remembered.
    pub dedupe_window: Duration,
    /// How many ids are remembered per room.
    pub dedupe_max: usize,
    /// How many positions of empty rooms are kept.
    pub positions_max: usize,
    /// The largest payload taken, in bytes.
    pub max_message_bytes: usize,
    /// How much may wait for one gRPC session, in bytes.
    pub session_queue_bytes: usize,
    /// How many rooms one session may be in.
    pub max_rooms_per_session: usize,
    /// How many sessions and streams one user may have on this core; 0 is any number.
    pub max_sessions_per_user: usize,
    /// How many revocations are kept.
    pub revocations_max: usize,
    /// Commands per second of one session of a service; 0 is no limit.
    pub rate_limit: u32,
    /// How many of them at once.
    pub rate_burst: u32,
    /// The most bytes of a request's headers.
    pub max_header_bytes: usize,
    /// Calls and streams at once on one connection; 0 is no limit.
    pub http2_streams: u32,
    /// How many of them may be reset, and not dealt with yet, before the connection ends.
    pub http2_resets: usize,
    /// How long a user who has vanished stays online.
    pub presence_timeout: Duration,
    /// In a room of more users only their number is told.
    pub presence_max: usize,
    /// The largest presence meta, in bytes.
    pub max_meta_bytes: usize,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// What is otherwise in the rooms of some namespaces, by their names.
    pub namespaces: BTreeMap<Box<str>, Namespace>,
    /// How callers are let in.
    pub auth: Auth,
    /// Where the sets of keys are published that `auth` verifies with, in their order.
    pub key_sources: Vec<Source>,
    /// What an edge shows to be let in.
    pub link_token: Option<LinkToken>,
    /// How TLS is spoken to services and edges, where it is: whatever is in it when a connection comes.
    pub tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// It asks for certificates, and whoever shows one is an edge.
    pub link_certificates: bool,
    /// Whether reflection shows the schema.
    pub reflection: bool,
}

/// What may be otherwise in the rooms of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace {
    /// How much of a room is kept.
    pub keep: Retention,
    /// Who is shown to whom, and for how long.
    pub presence: Rules,
    /// The largest payload taken, in bytes.
    pub max_message_bytes: usize,
    /// The largest presence meta, in bytes.
    pub max_meta_bytes: usize,
    /// What is allowed here to those whose token names no rooms.
    pub allow: Acts,
}

impl Config {
    /// What holds in a room, by its name.
    pub fn namespace(&self, room: &str) -> Namespace {
        // Most deployments have none, and then nothing is looked up.
        let named = (!self.namespaces.is_empty()).then(|| self.namespaces.get(name::namespace(room)));
        named.flatten().copied().unwrap_or_else(|| self.others())
    }

    /// What holds in rooms of which nothing else is said.
    pub fn others(&self) -> Namespace {
        Namespace {
            keep: Retention {
                size: self.history_size,
                ttl: self.history_ttl,
                dedupe_window: self.dedupe_window,
                dedupe_max: self.dedupe_max,
            },
            presence: Rules { timeout: self.presence_timeout, max: self.presence_max },
            max_message_bytes: self.max_message_bytes,
            max_meta_bytes: self.max_meta_bytes,
            allow: Acts::ALL,
        }
    }

    /// Something of all namespaces.
    pub fn by_namespace<T: Copy>(&self, of: impl Fn(&Namespace) -> T) -> ByNamespace<T> {
        let named = self.namespaces.iter().map(|(name, namespace)| (name.clone(), of(namespace)));
        ByNamespace::new(of(&self.others()), named)
    }

    /// What is allowed to those whose token names no rooms.
    pub fn defaults(&self) -> Defaults {
        Defaults::new(self.namespaces.iter().map(|(name, namespace)| (name.clone(), namespace.allow)))
    }

    /// The longest time that any user stays online after it has vanished.
    pub fn longest_presence_timeout(&self) -> Duration {
        let named = self.namespaces.values().map(|namespace| namespace.presence.timeout);
        named.fold(self.presence_timeout, Duration::max)
    }

    /// How many bytes of events a page of history may hold: half of what may wait for a session, so that no page cuts its reader off.
    /// `more` tells of the rest.
    pub fn history_page_bytes(&self) -> usize {
        self.session_queue_bytes / 2
    }

    /// How many bytes of a replay go into a queue at once: a quarter of it, so that live events of other rooms fit beside it.
    pub fn replay_page_bytes(&self) -> usize {
        self.session_queue_bytes / 4
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            history_size: 1000,
            history_ttl: Duration::from_secs(24 * 60 * 60),
            history_max_bytes: 256 << 20,
            dedupe_window: Duration::from_secs(5 * 60),
            dedupe_max: 65_536,
            positions_max: 1_000_000,
            max_message_bytes: 65_536,
            session_queue_bytes: 1 << 20,
            max_rooms_per_session: 100,
            max_sessions_per_user: 0,
            revocations_max: 100_000,
            rate_limit: 2000,
            rate_burst: 4000,
            max_header_bytes: 16 << 10,
            http2_streams: 1000,
            http2_resets: 20,
            presence_timeout: Duration::from_secs(30),
            presence_max: 500,
            max_meta_bytes: 4096,
            drain_timeout: Duration::from_secs(10),
            namespaces: BTreeMap::new(),
            auth: Auth::Dev,
            key_sources: Vec::new(),
            link_token: None,
            tls: None,
            link_certificates: false,
            reflection: true,
        }
    }
}
