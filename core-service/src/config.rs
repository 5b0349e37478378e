//! What a core is told at its start.
use crate::auth::{Auth, LinkToken};
use std::time::Duration;

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
    /// How long a user who has vanished stays online.
    pub presence_timeout: Duration,
    /// In a room of more users only their number is told.
    pub presence_max: usize,
    /// The largest presence meta, in bytes.
    pub max_meta_bytes: usize,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How callers are let in.
    pub auth: Auth,
    /// What an edge shows to be let in.
    pub link_token: Option<LinkToken>,
    /// Whether reflection shows the schema.
    pub reflection: bool,
}

impl Config {
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
            presence_timeout: Duration::from_secs(30),
            presence_max: 500,
            max_meta_bytes: 4096,
            drain_timeout: Duration::from_secs(10),
            auth: Auth::Dev,
            link_token: None,
            reflection: true,
        }
    }
}
