//! What the link tells of itself.
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Seconds from a publish's arrival at the link to its ack: from a core in the same process to one far away.
const PUBLISH_SECONDS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// The link's counters; clones count together.
#[derive(Debug, Clone)]
pub struct LinkMetrics {
    /// 1 while attached.
    pub attached: Gauge,
    /// How often it has attached.
    pub attaches: Counter,
    /// Frames to the core.
    pub sent: Counter,
    /// Frames from the core.
    pub received: Counter,
    /// Requests that wait for the core.
    pub pending: Gauge,
    /// Publishes that were sent again after a core was lost.
    pub retried_publishes: Counter,
    /// Bytes of requests that the worker found waiting when it last looked.
    pub queue_bytes: Gauge,
    /// Requests that were answered `unavailable`.
    pub unavailable: Counter,
    /// Times from publish to ack.
    pub publish_seconds: Histogram,
}

impl LinkMetrics {
    /// Registers them, under names that begin with `hearth_link_`.
    pub fn register(registry: &mut Registry) -> LinkMetrics {
        let metrics = LinkMetrics::default();
        let frames = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let direction = |name| frames.get_or_create_owned(&[("direction", name)]);
        let metrics = LinkMetrics { sent: direction("sent"), received: direction("received"), ..metrics };
        let LinkMetrics { attached, attaches, pending, queue_bytes, .. } = metrics.clone();
        let LinkMetrics { retried_publishes, unavailable, publish_seconds, .. } = metrics.clone();
        registry.register("hearth_link_attached", "Whether the edge is attached to a core", attached);
        registry.register("hearth_link_attaches", "How often the edge has attached to a core", attaches);
        registry.register("hearth_link_frames", "Frames on the link", frames);
        registry.register("hearth_link_pending", "Requests that wait for the core", pending);
        registry.register(
            "hearth_link_queue_bytes",
            "Bytes of requests found waiting for the link",
            queue_bytes,
        );
        registry.register(
            "hearth_link_retried_publishes",
            "Publishes sent again after a core was lost before it answered",
            retried_publishes,
        );
        registry.register("hearth_link_unavailable", "Requests answered unavailable", unavailable);
        registry.register("hearth_link_publish_seconds", "Time from publish to ack", publish_seconds);
        metrics
    }
}

impl Default for LinkMetrics {
    /// Counters that nobody looks at.
    fn default() -> Self {
        Self {
            attached: Gauge::default(),
            attaches: Counter::default(),
            sent: Counter::default(),
            received: Counter::default(),
            pending: Gauge::default(),
            queue_bytes: Gauge::default(),
            retried_publishes: Counter::default(),
            unavailable: Counter::default(),
            publish_seconds: Histogram::new(PUBLISH_SECONDS),
        }
    }
}
