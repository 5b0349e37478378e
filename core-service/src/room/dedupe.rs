//! Which ids a room has seen lately, so that a message sent again is not a second message.
//!
//! A key is a 128-bit hash of (user, id), made with keys that are drawn at the start: nobody outside can make
//! two collide, and a key costs the same whatever the id's length.
use super::id::{ClientId, UserName};
use std::{
    collections::{HashMap, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// A hashed (user, id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u128);

/// Hashes to 128 bits with this process's keys.
pub fn keyed_hash<T: std::hash::Hash>(value: T) -> u128 {
    static STATES: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
    u128::from(STATES.0.hash_one(&value)) << 64 | u128::from(STATES.1.hash_one(&value))
}

impl Key {
    /// The key of a user's id.
    pub fn of(user: &UserName, id: &ClientId) -> Self {
        Self(keyed_hash((user, id)))
    }
}

/// What the first publish of an id got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its seq.
    pub seq: u64,
    /// Its stamp, in microseconds since 1970.
    pub timestamp_us: u64,
}

/// The ids of one room.
#[derive(Debug, Default)]
pub struct Dedupe {
    seen: HashMap<Key, Seen>,
    order: VecDeque<(Instant, Key)>,
}

impl Dedupe {
    /// What this key got, if it was seen within the window.
    pub fn get(&mut self, now: Instant, window: Duration, key: Key) -> Option<Seen> {
        self.expire(now, window);
        self.seen.get(&key).copied()
    }

    /// Remembers a new key. Past `max` the oldest is forgotten before its time.
    pub fn insert(&mut self, now: Instant, max: usize, key: Key, seen: Seen) {
        if max == 0 {
            return;
        }
        while self.order.len() >= max {
            self.forget_oldest();
        }
        self.seen.insert(key, seen);
        self.order.push_back((now, key));
    }

    /// Forgets what is older than the window.
    pub fn expire(&mut self, now: Instant, window: Duration) {
        while self.order.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= window) {
            self.forget_oldest();
        }
        if self.order.is_empty() && self.order.capacity() > 0 {
            *self = Self::default();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.seen.remove(&key);
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
