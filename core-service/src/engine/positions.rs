//! What is left of a room when its history has gone: its position, in a few tens of bytes, so that whoever missed nothing can be
//! told so. Bounded in number and in time; whoever asks after that gets a new epoch.
use crate::room::{dedupe::keyed_hash, id::RoomName};
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// How long a position is kept.
pub(super) const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where a room stood, by the number of its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

/// Positions of rooms that are not in memory any more, by a hash of their names that nobody outside can aim at.
#[derive(Debug, Default)]
pub(super) struct Positions {
    kept: HashMap<u128, (Kept, Instant)>,
    /// In order of arrival; entries that were taken out, or put in anew, stay here until they come up.
    order: VecDeque<(u128, Instant)>,
}

impl Positions {
    /// Keeps a room's position; past `max` the oldest goes.
    pub(super) fn put(&mut self, now: Instant, max: usize, room: &RoomName, kept: Kept) {
        if max == 0 {
            return;
        }
        let key = keyed_hash(room);
        self.kept.insert(key, (kept, now));
        self.order.push_back((key, now));
        while self.kept.len() > max {
            self.drop_oldest();
        }
        if self.order.len() > 2 * max.min(self.kept.len() + 512) {
            let kept = &self.kept;
            self.order.retain(|(key, at)| kept.get(key).is_some_and(|(_, since)| since == at));
        }
    }

    /// Takes a room's position out again.
    pub(super) fn take(&mut self, now: Instant, room: &RoomName) -> Option<Kept> {
        let (kept, at) = self.kept.remove(&keyed_hash(room))?;
        (now.saturating_duration_since(at) < KEPT).then_some(kept)
    }

    /// A room's position, left where it is: reading must not write.
    pub(super) fn get(&self, now: Instant, room: &RoomName) -> Option<Kept> {
        let (kept, at) = self.kept.get(&keyed_hash(room))?;
        (now.saturating_duration_since(*at) < KEPT).then_some(*kept)
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) >= KEPT) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((key, at)) = self.order.pop_front()
            && self.kept.get(&key).is_some_and(|(_, since)| *since == at)
        {
            self.kept.remove(&key);
        }
    }

    /// How many there are, and how long the order behind them is.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.kept.len(), self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_whatever_comes_and_goes() {
        let mut positions = Positions::default();
        let now = Instant::now();
        let room = |n: usize| RoomName::new(&format!("r{n}")).unwrap();
        for n in 0..10_000 {
            positions.put(now, 100, &room(n % 300), Kept { epoch: 1, seq: n as u64 });
            if n % 3 == 0 {
                positions.take(now, &room(n % 300));
            }
            let (kept, order) = positions.len();
            assert!(kept <= 100 && order <= 1300, "{kept} {order}");
        }
        positions.put(now, 100, &room(1), Kept { epoch: 1, seq: 7 });
        assert_eq!(positions.get(now, &room(1)), Some(Kept { epoch: 1, seq: 7 }));
        assert_eq!(positions.take(now + KEPT, &room(1)), None, "a week later it is gone");
        positions.expire(now + KEPT);
        assert_eq!(positions.len(), (0, 0));
    }
}
