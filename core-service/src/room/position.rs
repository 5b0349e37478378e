//! Places in a room's order, and when one can go on from one.
use std::{fmt, sync::Arc};

/// Names one numbering of a room. A new one means that history was lost.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// The epoch of that text. It is only ever compared.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in a room's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Of which numbering.
    pub epoch: Epoch,
    /// The last event before it; 0 is the beginning.
    pub seq: u64,
}

/// Whether one can go on from `since`, where the room stands at `current` and keeps every event after `floor`.
///
/// Whoever missed nothing is told so even when no history is left.
pub fn recovers(since: &Position, current: &Position, floor: u64) -> bool {
    since.epoch == current.epoch
        && since.seq <= current.seq
        && (since.seq >= floor || since.seq == current.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recovery_table() {
        let at = |epoch: &str, seq| Position { epoch: Epoch::new(epoch), seq };
        // Events 6 to 10 are kept: the floor is 5.
        let cases = [
            ("current", at("a", 10), at("a", 10), 5, true),
            ("behind", at("a", 7), at("a", 10), 5, true),
            ("exactly at the edge of history", at("a", 5), at("a", 10), 5, true),
            ("one older than history", at("a", 4), at("a", 10), 5, false),
            ("from the beginning", at("a", 0), at("a", 10), 5, false),
            ("ahead of the top", at("a", 11), at("a", 10), 5, false),
            ("another epoch", at("b", 10), at("a", 10), 5, false),
            ("history expired, missed nothing", at("a", 10), at("a", 10), 10, true),
            ("history expired, missed one", at("a", 9), at("a", 10), 10, false),
            ("empty room", at("a", 0), at("a", 0), 0, true),
            ("ahead of an empty room", at("a", 1), at("a", 0), 0, false),
            ("unreadable", at("", 0), at("a", 0), 0, false),
        ];
        for (name, since, current, floor, expected) in cases {
            assert_eq!(recovers(&since, &current, floor), expected, "{name}");
        }
    }
}
