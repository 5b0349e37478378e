//! The rules of a room. Pure: no I/O, no task, and time is an argument.
//!
//! [`log`] is the side of the engine: numbering, history, dedupe. [`feed`] is the side of the hub: the same order as it arrives. [`seam`]
//! joins what was read from history and what is live, and [`position`] says when coming back is possible.
pub mod dedupe;
pub mod event;
pub mod feed;
pub mod history;
pub mod id;
pub mod log;
pub mod namespace;
pub mod position;
pub mod presence;
pub mod seam;
pub mod typing;

#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod testing;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, on both clocks: windows and timeouts use the monotonic one, stamps the other.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub instant: Instant,
    /// Since 1970, in microseconds.
    pub micros: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { instant: Instant::now(), micros: since_1970.as_micros() as u64 }
    }

    /// A later moment.
    pub fn after(self, time: Duration) -> Self {
        Self { instant: self.instant + time, micros: self.micros + time.as_micros() as u64 }
    }
}
