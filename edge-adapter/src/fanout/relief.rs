//! What waits for all slow sessions together is bounded too: past the bound those go for whom most waits, before memory does. A session's own
//! bound is far below it, so this happens when very many are slow at once.
use crate::fanout::shard::Shard;

/// How much is freed beyond the bound, as its share: so that not every event that comes cuts someone.
const SPARE: i64 = 8;

impl Shard {
    /// Cuts its largest backlogs when too much waits for the sessions of all shards, if more than its part of it is this shard's: some
    /// shard has so much then, and looks at the latest with its next tick.
    pub(super) fn relieve(&mut self) {
        let Ok(max) = i64::try_from(self.config.defence.max_queued_bytes) else { return };
        let total = self.metrics.backlog_bytes.get();
        let shards = i64::try_from(self.config.shards.max(1)).unwrap_or(1);
        if max == 0 || total <= max || self.queued < max / shards {
            return;
        }
        let waits = |(slot, connection): (usize, &super::connection::Connection)| {
            connection.is_alive().then(|| (connection.backlog_bytes(), slot as u32))
        };
        let mut slow: Vec<(usize, u32)> =
            self.connections.iter().filter_map(waits).filter(|(bytes, _)| *bytes > 0).collect();
        slow.sort_unstable();
        let mut left = total - (max - max / SPARE);
        while let Some((bytes, slot)) = slow.pop().filter(|_| left > 0) {
            left -= bytes as i64;
            self.metrics.relieved.inc();
            self.too_slow(slot);
        }
    }
}
