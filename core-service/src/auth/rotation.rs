//! When a set of keys is fetched from where it is published: in time to follow it, after a failure later and later, and at once where a token
//! names a key that is not known. Whoever makes such tokens up must not have us fetch without end. Time is an argument.
use std::time::{Duration, Instant};

/// How often a set is fetched whose server says nothing of that.
const PERIOD: Duration = Duration::from_secs(60);
/// What its server may ask for. A key that is taken out of the set verifies until the next fetch, so not for long.
const PERIOD_MIN: Duration = Duration::from_secs(10);
/// See [`PERIOD_MIN`].
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// By how much of it the period is shortened at random, so that not all cores come at once.
const SPREAD: f64 = 0.1;
/// How long after the first failure it is tried again; twice as long after each further one …
const BACKOFF: Duration = Duration::from_secs(1);
/// … up to this …
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// … or this, while nobody can come in for want of keys.
const BACKOFF_MAX_EMPTY: Duration = Duration::from_secs(5);
/// How long after the last fetch an unknown key may have the set fetched again. Twice as long after each fetch that was for nothing …
const PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The times of one set.
#[derive(Debug)]
pub struct Rotation {
    /// When the last fetch began.
    begun: Option<Instant>,
    is_fetching: bool,
    due: Instant,
    /// Somebody looks for a key, and no fetch has begun since.
    is_sought: bool,
    /// The fetch under way is for somebody who looks for a key.
    is_for_somebody: bool,
    /// A set has come.
    has_keys: bool,
    /// Fetches that failed, one after another.
    failures: u32,
    /// Fetches that somebody wanted and that brought nothing new, one after another.
    fruitless: u32,
}

impl Rotation {
    /// Of a set that has not been fetched: it is due.
    pub fn new(now: Instant) -> Rotation {
        Rotation {
            begun: None,
            is_fetching: false,
            due: now,
            is_sought: false,
            is_for_somebody: false,
            has_keys: false,
            failures: 0,
            fruitless: 0,
        }
    }

    /// When it is to be fetched next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// A token names a key that is not in the set. Says when the fetch begins that will know of it.
    pub fn seek(&mut self, now: Instant) -> Instant {
        self.is_sought = true;
        let soonest = self.soonest(now);
        if self.is_fetching {
            // What is under way may bring the set as it was before.
            return soonest;
        }
        self.due = self.due.min(soonest);
        self.due.max(now)
    }

    /// A fetch begins.
    pub fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        self.is_fetching = true;
        self.is_for_somebody = std::mem::take(&mut self.is_sought);
    }

    /// It has brought a set, which is another one than before or is not; its server wants it to be kept for so long. `chance` is anything
    /// from 0 to 1.
    pub fn succeeded(&mut self, now: Instant, is_new: bool, max_age: Option<Duration>, chance: f64) {
        // Who was there before the first set looked for any key at all.
        self.is_sought &= self.has_keys;
        self.has_keys = true;
        self.failures = 0;
        if is_new || !self.is_for_somebody {
            self.fruitless = 0;
        } else {
            self.fruitless += 1;
        }
        let period = max_age.unwrap_or(PERIOD).clamp(PERIOD_MIN, PERIOD_MAX);
        self.end(now, now + period.mul_f64(1.0 - SPREAD * chance.clamp(0.0, 1.0)));
    }

    /// It has failed.
    pub fn failed(&mut self, now: Instant, chance: f64) {
        if self.is_for_somebody {
            self.fruitless += 1;
        }
        let most = if self.has_keys { BACKOFF_MAX } else { BACKOFF_MAX_EMPTY };
        let backoff = doubled(BACKOFF, self.failures, most);
        self.failures += 1;
        self.end(now, now + backoff.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0)));
    }

    /// When the last fetch began.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// Whether the set may be another by now than what is known: the last fetch has failed, or none has come.
    pub fn is_in_doubt(&self) -> bool {
        self.failures > 0 || !self.has_keys
    }

    fn end(&mut self, now: Instant, due: Instant) {
        self.is_fetching = false;
        self.due = if self.is_sought { due.min(self.soonest(now)) } else { due };
    }

    fn soonest(&self, now: Instant) -> Instant {
        let pause = doubled(PAUSE, self.fruitless, PAUSE_MAX);
        self.begun.map_or(now, |begun| now.max(begun + pause))
    }
}

fn doubled(duration: Duration, times: u32, most: Duration) -> Duration {
    duration.saturating_mul(1 << times.min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// One that has fetched its first set at `start`.
    fn fetched(start: Instant) -> Rotation {
        let mut rotation = Rotation::new(start);
        rotation.begin(start);
        rotation.succeeded(start, true, None, 0.0);
        rotation
    }

    #[test]
    fn it_is_fetched_at_once_and_then_as_its_server_says() {
        let start = Instant::now();
        assert_eq!(Rotation::new(start).due(), start);
        for (max_age, chance, due) in [
            (None, 0.0, 60.0),
            (None, 1.0, 54.0),
            (Some(s(300.0)), 0.0, 300.0),
            (Some(s(0.0)), 0.0, 10.0),
            (Some(s(86_400.0)), 0.0, 3600.0),
            (Some(Duration::MAX), 0.0, 3600.0),
        ] {
            let mut rotation = Rotation::new(start);
            rotation.begin(start);
            rotation.succeeded(start, true, max_age, chance);
            assert_eq!(rotation.due(), start + s(due), "{max_age:?} {chance}");
        }
    }

    #[test]
    fn failures_come_later_and_later() {
        let start = Instant::now();
        let waits = |mut rotation: Rotation| {
            let wait = |_| {
                let now = rotation.due();
                rotation.begin(now);
                rotation.failed(now, 1.0);
                (rotation.due() - now).as_secs()
            };
            (0..8).map(wait).collect::<Vec<_>>()
        };
        assert_eq!(waits(Rotation::new(start)), [1, 2, 4, 5, 5, 5, 5, 5], "while nobody can come in");
        assert_eq!(waits(fetched(start)), [1, 2, 4, 8, 16, 32, 60, 60]);
        let mut rotation = Rotation::new(start);
        assert!(rotation.is_in_doubt(), "there are no keys");
        rotation.begin(start);
        rotation.failed(start, 0.0);
        assert_eq!(rotation.due(), start + s(0.5), "chance halves it at most");
        rotation.begin(start);
        rotation.succeeded(start, true, None, 0.0);
        assert!(!rotation.is_in_doubt());
        rotation.begin(start);
        rotation.failed(start, 1.0);
        assert_eq!(rotation.due(), start + s(1.0), "they are counted from the last success");
        assert!(rotation.is_in_doubt());
    }

    #[test]
    fn an_unknown_key_has_it_fetched_at_once() {
        let start = Instant::now();
        let mut rotation = fetched(start);
        let now = start + s(20.0);
        assert_eq!(rotation.seek(now), now);
        assert_eq!(rotation.due(), now);
        rotation.begin(now);
        rotation.succeeded(now, true, None, 0.0);
        assert_eq!(rotation.due(), now + s(60.0), "and then all is as before");
        assert_eq!(rotation.seek(now + s(0.2)), now + s(1.0), "but not twice within a second");
    }

    #[test]
    fn a_fetch_under_way_does_not_count() {
        let start = Instant::now();
        let mut rotation = fetched(start);
        let now = start + s(60.0);
        rotation.begin(now);
        assert_eq!(rotation.seek(now + s(0.1)), now + s(1.0));
        rotation.succeeded(now + s(0.2), false, None, 0.0);
        assert_eq!(rotation.due(), now + s(1.0));
        rotation.begin(now + s(1.0));
        assert_eq!(rotation.seek(now + s(1.0)), now + s(2.0));
        rotation.failed(now + s(5.0), 1.0);
        assert_eq!(rotation.due(), now + s(5.0), "it took longer than it would be waited for");
    }

    #[test]
    fn who_waits_for_the_first_set_does_not_ask_for_a_second() {
        let start = Instant::now();
        let mut rotation = Rotation::new(start);
        rotation.begin(start);
        rotation.seek(start + s(0.1));
        rotation.succeeded(start + s(0.2), true, None, 0.0);
        assert_eq!(rotation.due(), start + s(60.2));
    }

    #[test]
    fn made_up_keys_are_fetched_for_less_and_less() {
        let start = Instant::now();
        let mut rotation = fetched(start);
        let mut now = start + s(5.0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let begins = rotation.seek(now);
            pauses.push((begins - now).as_secs());
            now = begins;
            rotation.begin(now);
            rotation.succeeded(now, false, None, 0.0);
        }
        assert_eq!(pauses, [0, 2, 4, 8, 16, 30, 30, 30]);
        now = rotation.due();
        rotation.begin(now);
        rotation.succeeded(now, false, None, 0.0);
        assert_eq!(rotation.seek(now), now + s(1.0), "a minute without one, and they are believed again");
    }

    proptest! {
        /// However many look for keys, and however it goes, a fetch begins at most so often.
        #[test]
        fn nobody_hammers(steps in prop::collection::vec((0.0..3.0, 0..4u8), 1..200)) {
            let start = Instant::now();
            let mut rotation = Rotation::new(start);
            let (mut now, mut last) = (start, None::<Instant>);
            for (wait, outcome) in steps {
                now += s(wait);
                let begins = rotation.seek(now);
                prop_assert!(begins >= now);
                if rotation.due() > now {
                    continue;
                }
                if let Some(last) = last {
                    prop_assert!(now - last >= s(0.5), "{:?} after the last", now - last);
                }
                last = Some(now);
                rotation.begin(now);
                match outcome {
                    0 => rotation.failed(now, 0.0),
                    1 => rotation.succeeded(now, true, Some(Duration::ZERO), 1.0),
                    _ => rotation.succeeded(now, false, None, 0.5),
                }
            }
        }
    }
}
