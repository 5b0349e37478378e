//! A room's last events, by count and by age.
use super::event::Event;
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// Which events to read. Both bounds are exclusive. Without bounds: the newest; with both, or `after` alone: up from `after`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    /// Only after this seq.
    pub after: Option<u64>,
    /// Only before this seq.
    pub before: Option<u64>,
    /// At most this many.
    pub limit: usize,
    /// And at most about this many bytes, but at least one event; 0 is no limit.
    pub max_bytes: usize,
}

/// What was read, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The events.
    pub events: Vec<Arc<Event>>,
    /// There are more in the direction of reading.
    pub more: bool,
}

/// Dense: seq goes up by one from entry to entry.
#[derive(Debug, Default)]
pub struct History {
    events: VecDeque<(Instant, Arc<Event>)>,
    bytes: usize,
}

impl History {
    /// Adds the newest event.
    pub fn push(&mut self, now: Instant, event: Arc<Event>) {
        self.bytes += event.cost();
        self.events.push_back((now, event));
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What they cost, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest event's seq.
    pub fn oldest(&self) -> Option<u64> {
        self.events.front().map(|(_, event)| event.seq)
    }

    /// When the oldest event came.
    pub fn oldest_at(&self) -> Option<Instant> {
        self.events.front().map(|(at, _)| *at)
    }

    /// Forgets the oldest event.
    pub fn pop_oldest(&mut self) {
        if let Some((_, event)) = self.events.pop_front() {
            self.bytes -= event.cost();
        }
        if self.events.is_empty() {
            // An idle room must not hold the memory of its busy hour.
            self.events = VecDeque::new();
        }
    }

    /// Reads. The order of the checks is the contract's: `after` says the direction where it is given.
    pub fn read(&self, range: Range) -> Page {
        let Some(oldest) = self.oldest() else { return Page::default() };
        let len = self.events.len() as u64;
        // Indices of the half-open window that the bounds leave.
        let low = range.after.map_or(0, |after| after.saturating_add(1).saturating_sub(oldest).min(len));
        let high = range.before.map_or(len, |before| before.saturating_sub(oldest).min(len)).max(low);
        let window = low as usize..high as usize;
        let mut bytes = 0;
        let mut fits = |event: &Arc<Event>, taken: usize| {
            bytes += event.cost();
            taken < range.limit && (taken == 0 || range.max_bytes == 0 || bytes <= range.max_bytes)
        };
        let mut events: Vec<Arc<Event>> = Vec::new();
        let upward = range.after.is_some();
        let mut step = |(_, event): &(Instant, Arc<Event>)| {
            let takes = fits(event, events.len());
            if takes {
                events.push(event.clone());
            }
            takes
        };
        let complete = if upward {
            self.events.range(window).all(&mut step)
        } else {
            self.events.range(window).rev().all(&mut step)
        };
        if !upward {
            events.reverse();
        }
        Page { events, more: !complete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::testing::event;

    fn seqs(page: &Page) -> (Vec<u64>, bool) {
        (page.events.iter().map(|event| event.seq).collect(), page.more)
    }

    #[test]
    fn ranges() {
        let mut history = History::default();
        for seq in 4..=9 {
            history.push(Instant::now(), event("r", seq));
        }
        let read = |after, before, limit| seqs(&history.read(Range { after, before, limit, max_bytes: 0 }));
        assert_eq!(read(None, None, 3), (vec![7, 8, 9], true));
        assert_eq!(read(None, None, 6), (vec![4, 5, 6, 7, 8, 9], false));
        assert_eq!(read(Some(5), None, 2), (vec![6, 7], true));
        assert_eq!(read(Some(7), None, 2), (vec![8, 9], false));
        assert_eq!(read(Some(0), None, 2), (vec![4, 5], true));
        assert_eq!(read(Some(9), None, 2), (vec![], false));
        assert_eq!(read(Some(u64::MAX), None, 2), (vec![], false));
        assert_eq!(read(None, Some(7), 2), (vec![5, 6], true));
        assert_eq!(read(None, Some(5), 2), (vec![4], false));
        assert_eq!(read(None, Some(0), 2), (vec![], false));
        assert_eq!(read(Some(4), Some(8), 2), (vec![5, 6], true));
        assert_eq!(read(Some(4), Some(7), 2), (vec![5, 6], false));
        assert_eq!(read(Some(8), Some(5), 2), (vec![], false));
        let one = history.read(Range { after: Some(0), before: None, limit: 9, max_bytes: 1 });
        assert_eq!(seqs(&one), (vec![4], true), "a page is never empty while there is something");
    }

    #[test]
    fn bytes_are_counted_both_ways() {
        let mut history = History::default();
        history.push(Instant::now(), event("r", 1));
        assert!(history.bytes() > 0);
        history.pop_oldest();
        history.pop_oldest();
        assert_eq!((history.bytes(), history.len()), (0, 0));
    }
}
