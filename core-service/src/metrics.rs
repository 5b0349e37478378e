//! What a core counts. All names begin with `hearth_core_`.
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How a thing came out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// In a word.
    pub outcome: &'static str,
}

/// A core's counters. Clones count together.
#[derive(Debug, Clone)]
pub struct CoreMetrics {
    /// Rooms that somebody is in.
    pub rooms: Gauge,
    /// Streams that rooms are fanned out to.
    pub subscribers: Gauge,
    /// Attached edges.
    pub links: Gauge,
    /// Open sessions, over links and Connect alike.
    pub sessions: Gauge,
    /// Signals and typing.
    pub signals: Counter,
    /// Reads of history.
    pub history_reads: Counter,
    /// Feeds that had a hole.
    pub holes: Counter,
    /// Users online, over all rooms.
    pub presence_users: Gauge,
    /// Their sessions.
    pub presence_sessions: Gauge,
    /// Changes of presence told.
    pub presence_diffs: Counter,
    /// Times that a slow subscriber gets a state instead of changes.
    pub presence_conflated: Counter,
    /// Bytes waiting in subscribers' queues.
    pub queue_bytes: Gauge,
    /// Ephemeral events dropped for slow subscribers.
    pub ephemeral_dropped: Counter,
    /// Subscribers that were too slow.
    pub overflows: Counter,
    /// Commands of services' streams that came too soon.
    pub rate_refusals: Counter,
    /// Handshakes that came to nothing.
    pub tls_failures: Counter,
    publishes: Family<Outcome, Counter>,
    publish_seconds: Histogram,
    deliveries: Counter,
    joins: Family<Outcome, Counter>,
    jwks_fetches: Family<Outcome, Counter>,
    jwks_fetched_at: Gauge<f64, AtomicU64>,
}

impl CoreMetrics {
    /// Adds the counters to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            rooms: Gauge::default(),
            subscribers: Gauge::default(),
            links: Gauge::default(),
            sessions: Gauge::default(),
            signals: Counter::default(),
            history_reads: Counter::default(),
            holes: Counter::default(),
            presence_users: Gauge::default(),
            presence_sessions: Gauge::default(),
            presence_diffs: Counter::default(),
            presence_conflated: Counter::default(),
            queue_bytes: Gauge::default(),
            ephemeral_dropped: Counter::default(),
            overflows: Counter::default(),
            rate_refusals: Counter::default(),
            tls_failures: Counter::default(),
            publishes: Family::default(),
            publish_seconds: Histogram::new(exponential_buckets(0.000_001, 4.0, 12)),
            deliveries: Counter::default(),
            joins: Family::default(),
            jwks_fetches: Family::default(),
            jwks_fetched_at: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("hearth_core");
        registry.register("rooms", "Rooms that somebody is in", metrics.rooms.clone());
        registry.register("subscribers", "Streams that rooms are fanned out to", metrics.subscribers.clone());
        registry.register("links", "Attached edges", metrics.links.clone());
        registry.register("sessions", "Open sessions", metrics.sessions.clone());
        registry.register("signals", "Signals and typing taken", metrics.signals.clone());
        registry.register("history_reads", "Reads of history", metrics.history_reads.clone());
        registry.register("feed_holes", "Feeds that had a hole", metrics.holes.clone());
        registry.register("presence_users", "Users online, over all rooms", metrics.presence_users.clone());
        registry.register(
            "presence_sessions",
            "Sessions of users online, over all rooms",
            metrics.presence_sessions.clone(),
        );
        registry.register("presence_diffs", "Changes of presence told", metrics.presence_diffs.clone());
        registry.register(
            "presence_conflated",
            "Times that a slow subscriber was given a state instead of changes",
            metrics.presence_conflated.clone(),
        );
        registry.register("queue_bytes", "Bytes waiting for subscribers", metrics.queue_bytes.clone());
        registry.register("ephemeral_dropped", "Ephemeral events dropped", metrics.ephemeral_dropped.clone());
        registry.register("overflows", "Subscribers that were too slow", metrics.overflows.clone());
        registry.register(
            "rate_refusals",
            "Commands on Connect refused for coming too soon",
            metrics.rate_refusals.clone(),
        );
        registry.register(
            "tls_failures",
            "Handshakes that came to nothing, and silent connections that gave way to others",
            metrics.tls_failures.clone(),
        );
        registry.register("publishes", "Publishes by outcome", metrics.publishes.clone());
        registry.register("publish_seconds", "Time to accept a publish", metrics.publish_seconds.clone());
        registry.register("deliveries", "Events put into subscribers' queues", metrics.deliveries.clone());
        registry.register("joins", "Joins by recovery", metrics.joins.clone());
        let fetches = "Fetches of keys from where they are published, by outcome";
        registry.register("jwks_fetches", fetches, metrics.jwks_fetches.clone());
        registry.register(
            "jwks_fetched_timestamp_seconds",
            "When keys were last fetched with success, since 1970; the time since is the age of what tokens are verified with",
            metrics.jwks_fetched_at.clone(),
        );
        metrics
    }

    /// Keys were fetched, or were not.
    pub fn jwks_fetched(&self, outcome: &'static str) {
        self.jwks_fetches.get_or_create(&Outcome { outcome }).inc();
    }

    /// Keys have come, in microseconds since 1970.
    pub fn jwks_fetched_at(&self, micros: u64) {
        self.jwks_fetched_at.set(micros as f64 / 1e6);
    }

    /// A publish was accepted.
    pub fn published(&self, took: Duration, duplicate: bool) {
        let outcome = if duplicate { "duplicate" } else { "accepted" };
        self.publishes.get_or_create(&Outcome { outcome }).inc();
        self.publish_seconds.observe(took.as_secs_f64());
    }

    /// How many were accepted that were new.
    pub fn accepted(&self) -> u64 {
        self.publishes.get_or_create(&Outcome { outcome: "accepted" }).get()
    }

    /// A publish was not.
    pub fn publish_failed(&self) {
        self.publishes.get_or_create(&Outcome { outcome: "failed" }).inc();
    }

    /// An event went to so many subscribers.
    pub fn fanned_out(&self, subscribers: usize) {
        self.deliveries.inc_by(subscribers as u64);
    }

    /// A session has its place in a room.
    pub fn joined(&self, recovered: Option<bool>) {
        let outcome = match recovered {
            None => "fresh",
            Some(true) => "recovered",
            Some(false) => "lost",
        };
        self.joins.get_or_create(&Outcome { outcome }).inc();
    }
}
