//! A room as its engine keeps it: the numbering, the history, the ids.
use super::{
    Now,
    dedupe::{Dedupe, Key, Seen},
    event::{Event, NewEvent},
    history::{History, Page, Range},
    position::{Epoch, Position},
};
use std::{sync::Arc, time::Duration};

/// How much of a room is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How many events.
    pub size: usize,
    /// For how long.
    pub ttl: Duration,
    /// How long an id is remembered.
    pub dedupe_window: Duration,
    /// How many ids.
    pub dedupe_max: usize,
}

/// What a publish came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is in the log under its seq.
    New(Arc<Event>),
    /// It was there already.
    Again(Seen),
}

/// A room's numbering, history and ids.
#[derive(Debug)]
pub struct Log {
    position: Position,
    history: History,
    dedupe: Dedupe,
}

impl Log {
    /// A room that goes on from `position`; nothing of its history is left.
    pub fn new(position: Position) -> Self {
        Self { position, history: History::default(), dedupe: Dedupe::default() }
    }

    /// Where it stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Every event after this seq is kept.
    pub fn floor(&self) -> u64 {
        self.history.oldest().map_or(self.position.seq, |oldest| oldest - 1)
    }

    /// Its history.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether it still has the epoch that a publish asks for.
    pub fn is_of(&self, epoch: Option<&Epoch>) -> bool {
        epoch.is_none_or(|epoch| *epoch == self.position.epoch)
    }

    /// Gives the event its seq, unless its id has been seen.
    pub fn publish(&mut self, now: Now, keep: &Retention, new: NewEvent) -> Published {
        let key = new.id.as_ref().map(|id| Key::of(&new.author, id));
        if let Some(seen) = key.and_then(|key| self.dedupe.get(now.instant, keep.dedupe_window, key)) {
            return Published::Again(seen);
        }
        let seq = self.position.seq + 1;
        self.position.seq = seq;
        if let Some(key) = key {
            self.dedupe.insert(now.instant, keep.dedupe_max, key, Seen { seq, timestamp_us: now.micros });
        }
        let event = Arc::new(Event::accepted(new, seq, now.micros));
        if keep.size > 0 {
            self.history.push(now.instant, event.clone());
        }
        self.expire(now, keep);
        Published::New(event)
    }

    /// Reads history.
    pub fn read(&mut self, now: Now, keep: &Retention, range: Range) -> Page {
        self.expire(now, keep);
        self.history.read(range)
    }

    /// Forgets what is too old or too much.
    pub fn expire(&mut self, now: Now, keep: &Retention) {
        let too_old = |history: &History| {
            history.oldest_at().is_some_and(|at| now.instant.saturating_duration_since(at) >= keep.ttl)
        };
        while self.history.len() > keep.size || too_old(&self.history) {
            self.history.pop_oldest();
        }
        self.dedupe.expire(now.instant, keep.dedupe_window);
    }

    /// Forgets the oldest event, for want of memory.
    pub fn evict_oldest(&mut self) {
        self.history.pop_oldest();
    }

    /// Nothing is left but the position.
    pub fn is_bare(&self) -> bool {
        self.history.is_empty() && self.dedupe.is_empty()
    }

    /// How many ids are remembered.
    pub fn ids(&self) -> usize {
        self.dedupe.len()
    }
}
