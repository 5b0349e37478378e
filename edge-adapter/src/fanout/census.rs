//! How many connections the shards have together.
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// How many sessions there are, over all shards.
#[derive(Debug, Default)]
pub struct Census {
    sessions: AtomicUsize,
    emptied: Notify,
}

impl Census {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// One more.
    pub fn enter(&self) {
        self.sessions.fetch_add(1, Ordering::AcqRel);
    }

    /// One fewer.
    pub fn leave(&self) {
        if self.sessions.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until there are none.
    pub async fn emptied(&self) {
        loop {
            // Made before the look, so that a last session that leaves in between is noticed.
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }
}
