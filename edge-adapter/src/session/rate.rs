//! Who is counted by something else than its session: requests over HTTP by their users, refused tokens by their addresses. The rule is
//! [`hearth_proto::rate`]'s, which holds for sessions at every door.
pub use hearth_proto::rate::{Meter, Rate, TooSoon};

use hearth_proto::rate::Paid;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// The most that are counted at the same time: some 10 MB. Whoever has its whole burst again is forgotten first.
const KNOWN_MAX: usize = 100_000;
/// When nobody can be forgotten, in milliseconds.
const FULL_WAIT_MS: u64 = 1000;

/// What each has used.
#[derive(Debug)]
pub struct Meters<K> {
    known: HashMap<K, Paid>,
    /// At so many those are looked for who can be forgotten.
    sweep_at: usize,
}

impl<K> Default for Meters<K> {
    fn default() -> Self {
        Self { known: HashMap::new(), sweep_at: 0 }
    }
}

impl<K: Hash + Eq> Meters<K> {
    /// Charges for one thing; else says after how many milliseconds there is credit.
    pub fn charge<Q>(&mut self, rate: &Rate, now: Duration, who: &Q) -> Result<(), u64>
    where
        K: Borrow<Q>,
        Q: ToOwned + Hash + Eq + ?Sized,
        Q::Owned: Into<K>,
    {
        if rate.is_unlimited() {
            return Ok(());
        }
        if let Some(paid) = self.known.get_mut(who) {
            return paid.charge(rate, now);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, paid| !paid.is_settled(now));
            self.known.shrink_to(2 * self.known.len());
            // Twice as many as are left: a sweep is paid for by those who come before the next one.
            self.sweep_at = (2 * self.known.len()).clamp(1024, KNOWN_MAX);
        }
        if self.known.len() >= KNOWN_MAX {
            return Err(FULL_WAIT_MS);
        }
        self.known.entry(who.to_owned().into()).or_default().charge(rate, now)
    }

    /// After how many milliseconds there is credit, if there is none; whoever is not known has all of it.
    pub fn wait<Q>(&self, rate: &Rate, now: Duration, who: &Q) -> Option<u64>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.known.get(who)?.due(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn users_are_counted_apart_and_forgotten_when_they_have_their_burst_again() {
        let (mut meters, rate) = (Meters::<Box<str>>::default(), Rate::new(10, 2));
        let at = |ms| NOW + Duration::from_millis(ms);
        assert_eq!([0; 3].map(|_| meters.charge(&rate, NOW, "ann")), [Ok(()), Ok(()), Err(100)]);
        assert_eq!(meters.charge(&rate, NOW, "bob"), Ok(()));
        for n in 0..KNOWN_MAX - 2 {
            assert_eq!(meters.charge(&rate, NOW, format!("user-{n}").as_str()), Ok(()));
        }
        assert_eq!(meters.charge(&rate, at(50), "cyd"), Err(FULL_WAIT_MS), "all of them still owe something");
        assert_eq!(meters.charge(&rate, at(50), "ann"), Err(50), "whoever is known is judged as before");
        assert_eq!(meters.charge(&rate, at(100), "cyd"), Ok(()));
        assert_eq!(meters.known.len(), 2, "ann owes still");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut meters = Meters::<Box<str>>::default();
        let rate = Rate::new(0, 0);
        assert!((0..10_000).all(|_| meters.charge(&rate, NOW, "ann").is_ok()) && meters.known.is_empty());
    }
}
