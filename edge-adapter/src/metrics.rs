//! What an edge counts. Counters are shared atomics; shards add to them once a turn, never per delivery.
use crate::wire::close::CloseReason;
use crate::wire::event::Code;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The edge's metrics; clones count into the same numbers.
#[derive(Debug, Clone)]
pub struct EdgeMetrics {
    /// Sessions that are open now.
    pub connections: Gauge,
    /// Requests over HTTP that wait for the core.
    pub calls: Gauge,
    /// Messages that clients sent.
    pub messages_in: Counter,
    /// Events written, or put behind others to be written, once for each session.
    pub deliveries: Counter,
    /// Bytes written to sockets.
    pub bytes_out: Counter,
    /// Writes to sockets.
    pub writes: Counter,
    /// Bytes that wait for slow sockets.
    pub backlog_bytes: Gauge,
    /// Sessions cut because too much waited for all together.
    pub relieved: Counter,
    /// Connections that have made no whole request yet.
    pub handshakes: Gauge,
    /// What the process has in memory.
    pub memory_bytes: Gauge,
    /// Nobody new is let in for want of memory.
    pub shedding: Gauge,
    /// Ephemeral events that slow sessions did not get for want of room.
    pub ephemeral_drops: Counter,
    /// Ephemeral events that a newer one of the same author replaced for a slow session.
    pub ephemeral_conflated: Counter,
    /// Times that a slow session was to be shown a state of presence instead of what happened.
    pub presence_conflated: Counter,
    /// Sessions closed for being too slow.
    pub slow_consumers: Counter,
    /// How many posts a shard found at once.
    pub turn_batch: Histogram,
    closed: Family<ReasonLabel, Counter>,
    command_errors: Family<CodeLabel, Counter>,
    http_refusals: Family<ReasonLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

impl EdgeMetrics {
    /// New metrics, shown by `registry` under `hearth_edge_`.
    pub fn register(registry: &mut Registry) -> EdgeMetrics {
        let metrics = EdgeMetrics {
            connections: Gauge::default(),
            calls: Gauge::default(),
            messages_in: Counter::default(),
            deliveries: Counter::default(),
            bytes_out: Counter::default(),
            writes: Counter::default(),
            backlog_bytes: Gauge::default(),
            relieved: Counter::default(),
            handshakes: Gauge::default(),
            memory_bytes: Gauge::default(),
            shedding: Gauge::default(),
            ephemeral_drops: Counter::default(),
            ephemeral_conflated: Counter::default(),
            presence_conflated: Counter::default(),
            slow_consumers: Counter::default(),
            // From a lone post to all that a busy link brings while a shard writes to thousands.
            turn_batch: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, 4096.0]),
            closed: Family::default(),
            command_errors: Family::default(),
            http_refusals: Family::default(),
        };
        let m = metrics.clone();
        registry.register("hearth_edge_connections", "Sessions that are open now", m.connections);
        registry.register("hearth_edge_calls", "Requests over HTTP that wait for the core", m.calls);
        registry.register("hearth_edge_sessions_closed", "Sessions that ended, by reason", m.closed);
        registry.register("hearth_edge_messages_in", "Messages that clients sent", m.messages_in);
        registry.register("hearth_edge_deliveries", "Events delivered, once for each session", m.deliveries);
        registry.register("hearth_edge_bytes_out", "Bytes written to sockets", m.bytes_out);
        registry.register("hearth_edge_writes", "Writes to sockets", m.writes);
        registry.register("hearth_edge_backlog_bytes", "Bytes that wait for slow sockets", m.backlog_bytes);
        registry.register(
            "hearth_edge_ephemeral_drops",
            "Events slow sessions did not get",
            m.ephemeral_drops,
        );
        registry.register(
            "hearth_edge_ephemeral_conflated",
            "Ephemeral events that a newer one of the same author replaced for a slow session",
            m.ephemeral_conflated,
        );
        registry.register(
            "hearth_edge_presence_conflated",
            "Times that a slow session was to be shown a state of presence instead of what happened",
            m.presence_conflated,
        );
        registry.register(
            "hearth_edge_slow_consumers",
            "Sessions closed for being too slow",
            m.slow_consumers,
        );
        registry.register(
            "hearth_edge_queue_cuts",
            "Sessions closed because too much waited for all together",
            m.relieved,
        );
        registry.register(
            "hearth_edge_handshakes",
            "Connections that have made no whole request yet",
            m.handshakes,
        );
        registry.register("hearth_edge_memory_bytes", "What the process has in memory", m.memory_bytes);
        registry.register(
            "hearth_edge_shedding",
            "1 while nobody new is let in for want of memory",
            m.shedding,
        );
        registry.register("hearth_edge_turn_batch", "Posts that a shard found at once", m.turn_batch);
        registry.register("hearth_edge_command_errors", "Error frames sent, by code", m.command_errors);
        registry.register("hearth_edge_http_refusals", "Requests refused before a session", m.http_refusals);
        metrics
    }

    /// A session ended.
    pub fn closed(&self, reason: CloseReason) {
        self.closed.get_or_create(&ReasonLabel { reason: reason.code_and_word().1 }).inc();
    }

    /// A command was answered by an error.
    pub fn command_error(&self, code: Code) {
        self.command_errors.get_or_create(&CodeLabel { code: code.name() }).inc();
    }

    /// A request was refused before it became a session.
    pub fn http_refusal(&self, reason: &'static str) {
        self.http_refusals.get_or_create(&ReasonLabel { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let mut registry = Registry::default();
        let metrics = EdgeMetrics::register(&mut registry);
        metrics.deliveries.inc_by(3);
        metrics.closed(CloseReason::SlowConsumer);
        metrics.command_error(Code::ResourceExhausted);
        metrics.http_refusal("origin");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "hearth_edge_deliveries_total 3",
            r#"hearth_edge_sessions_closed_total{reason="slow_consumer"} 1"#,
            r#"hearth_edge_command_errors_total{code="resource_exhausted"} 1"#,
            r#"hearth_edge_http_refusals_total{reason="origin"} 1"#,
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing in:\n{text}");
        }
    }
}
