//! A room as a child would keep it: every event that there ever was, and the rules read off that list.
use crate::room::{
    Now,
    event::Event,
    log::Retention,
    position::{Epoch, Position},
};
use std::{sync::Arc, time::Duration};

/// What is kept, and for how long.
pub(super) const KEEP: Retention =
    Retention { size: 8, ttl: Duration::from_secs(10), dedupe_window: Duration::from_secs(5), dedupe_max: 3 };

/// One numbering of the room, naively: every event that was ever published under it, oldest first.
pub(super) struct Life {
    pub(super) epoch: Epoch,
    /// The seq before the first.
    pub(super) base: u64,
    /// How many of the first never reach the hub.
    pub(super) lost: u64,
    pub(super) published: Vec<Known>,
}

pub(super) struct Known {
    pub(super) at: Now,
    pub(super) id: Option<(u8, u8)>,
    pub(super) event: Arc<Event>,
}

impl Life {
    pub(super) fn top(&self) -> u64 {
        self.base + self.published.len() as u64
    }

    /// The seqs that are kept, by count and age.
    pub(super) fn kept(&self, now: Now) -> Vec<u64> {
        let newest = self.published.iter().rev().take(KEEP.size);
        let young = newest.take_while(|known| now.instant - known.at.instant < KEEP.ttl);
        young.map(|known| known.event.seq).collect()
    }

    /// The events of these seqs.
    pub(super) fn events(&self, after: u64, to: u64) -> impl Iterator<Item = &Arc<Event>> {
        self.published
            .iter()
            .map(|known| &known.event)
            .filter(move |event| event.seq > after && event.seq <= to)
    }

    /// The contract's table of coming back.
    pub(super) fn recovers(&self, since: &Position, kept: &[u64]) -> bool {
        match since.seq {
            _ if since.epoch != self.epoch => false,
            seq if seq == self.top() => true,
            seq if seq > self.top() => false,
            seq => (seq + 1..=self.top()).all(|missed| kept.contains(&missed)),
        }
    }
}
