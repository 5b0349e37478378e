//! How fast a session may give commands, and when it has been refused too often. GCRA: one number for each session.
//! Requests over HTTP have no session to count by, so they count by user ([`Meters`]).
use std::{collections::HashMap, time::Duration};

/// So many commands refused for their rate ...
const REFUSALS_MAX: usize = 100;
/// ... within this time end the session.
const REFUSALS_WITHIN: Duration = Duration::from_secs(10);

/// A rate, and how much may come at once.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Nanoseconds that one command costs; 0 is no limit.
    interval: u64,
    /// Nanoseconds that may be owed.
    burst: u64,
}

impl Rate {
    /// So many a second, and so many at once; 0 a second is no limit.
    pub fn new(per_second: u32, burst: u32) -> Rate {
        let interval = 1_000_000_000u64.checked_div(u64::from(per_second)).unwrap_or(0);
        // A burst of none would let nothing through.
        Rate { interval, burst: interval * u64::from(burst.max(1)) }
    }
}

/// When all commands so far would have come at the rate allowed, in nanoseconds on the caller's clock (GCRA's
/// theoretical arrival time).
#[derive(Debug, Default)]
struct Paid(u64);

impl Paid {
    /// Charges for one command; else says after how many milliseconds there is credit.
    fn charge(&mut self, rate: &Rate, now: u64) -> Result<(), u64> {
        let paid_until = self.0.max(now) + rate.interval;
        let owed = paid_until - now;
        if owed > rate.burst {
            return Err((owed - rate.burst).div_ceil(1_000_000));
        }
        self.0 = paid_until;
        Ok(())
    }
}

/// What one session has used.
#[derive(Debug, Default)]
pub struct Meter {
    paid: Paid,
    refusals: Option<Box<Refusals>>,
}

/// A command came too soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooSoon {
    /// There is credit again after so many milliseconds.
    Wait(u64),
    /// This has happened too often.
    Enough,
}

impl Meter {
    /// Charges for one command.
    pub fn charge(&mut self, rate: &Rate, now: Duration) -> Result<(), TooSoon> {
        let now = nanos(now);
        self.paid.charge(rate, now).map_err(|wait| {
            let enough = self.refusals.get_or_insert_default().add(now);
            if enough { TooSoon::Enough } else { TooSoon::Wait(wait) }
        })
    }
}

/// The most users whose requests are counted at the same time: some 10 MB. Whoever has its whole burst again is forgotten first.
const USERS_MAX: usize = 100_000;
/// When nobody can be forgotten, in milliseconds.
const FULL_WAIT_MS: u64 = 1000;

/// What users have used by requests.
#[derive(Debug, Default)]
pub struct Meters {
    users: HashMap<Box<str>, Paid>,
    /// At so many users those are looked for who can be forgotten.
    sweep_at: usize,
}

impl Meters {
    /// Charges for one request; else says after how many milliseconds there is credit.
    pub fn charge(&mut self, rate: &Rate, now: Duration, user: &str) -> Result<(), u64> {
        if rate.interval == 0 {
            return Ok(());
        }
        let now = nanos(now);
        if let Some(paid) = self.users.get_mut(user) {
            return paid.charge(rate, now);
        }
        if self.users.len() >= self.sweep_at {
            self.users.retain(|_, paid| paid.0 > now);
            self.users.shrink_to(2 * self.users.len());
            // Twice as many as are left: a sweep is paid for by those who come before the next one.
            self.sweep_at = (2 * self.users.len()).clamp(1024, USERS_MAX);
        }
        if self.users.len() >= USERS_MAX {
            return Err(FULL_WAIT_MS);
        }
        self.users.entry(user.into()).or_default().charge(rate, now)
    }
}

/// When the last refusals were; made at the first one.
#[derive(Debug)]
struct Refusals {
    at: [u64; REFUSALS_MAX],
    count: usize,
}

impl Default for Refusals {
    fn default() -> Self {
        Refusals { at: [0; REFUSALS_MAX], count: 0 }
    }
}

impl Refusals {
    /// Notes one; whether it is one too many.
    fn add(&mut self, now: u64) -> bool {
        self.at[self.count % REFUSALS_MAX] = now;
        self.count += 1;
        let oldest = self.at[self.count % REFUSALS_MAX];
        self.count >= REFUSALS_MAX && now - oldest <= nanos(REFUSALS_WITHIN)
    }
}

/// 584 years fit.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn a_burst_and_then_the_rate() {
        let (mut meter, rate) = (Meter::default(), Rate::new(10, 5));
        let mut charge = |now| meter.charge(&rate, now);
        for _ in 0..5 {
            assert_eq!(charge(NOW), Ok(()));
        }
        assert_eq!(charge(NOW), Err(TooSoon::Wait(100)));
        assert_eq!(charge(NOW + Duration::from_millis(30)), Err(TooSoon::Wait(70)));
        assert_eq!(charge(NOW + Duration::from_millis(100)), Ok(()), "it was told the truth");
        assert!(charge(NOW + Duration::from_millis(150)).is_err());
        // A pause restores the burst, and no more than the burst.
        let later = NOW + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| charge(later).is_ok()).count(), 5);
    }

    #[test]
    fn a_hundred_refusals_within_ten_seconds_are_enough() {
        let run = |every: Duration| {
            // Hardly anything gets through: each second's credit is used by the first command in it.
            let (mut meter, rate) = (Meter::default(), Rate::new(1, 1));
            (0..1000).find(|n| meter.charge(&rate, NOW + every * *n) == Err(TooSoon::Enough))
        };
        assert_eq!(run(Duration::ZERO), Some(100), "the one that passes, and a hundred");
        assert!(run(Duration::from_millis(80)).is_some());
        assert_eq!(run(Duration::from_millis(120)), None, "not a hundred within ten seconds");
    }

    #[test]
    fn users_are_counted_apart_and_forgotten_when_they_have_their_burst_again() {
        let (mut meters, rate) = (Meters::default(), Rate::new(10, 2));
        let at = |ms| NOW + Duration::from_millis(ms);
        assert_eq!([0; 3].map(|_| meters.charge(&rate, NOW, "ann")), [Ok(()), Ok(()), Err(100)]);
        assert_eq!(meters.charge(&rate, NOW, "bob"), Ok(()));
        for n in 0..USERS_MAX - 2 {
            assert_eq!(meters.charge(&rate, NOW, &format!("user-{n}")), Ok(()));
        }
        assert_eq!(meters.charge(&rate, at(50), "cyd"), Err(FULL_WAIT_MS), "all of them still owe something");
        assert_eq!(meters.charge(&rate, at(50), "ann"), Err(50), "whoever is known is judged as before");
        assert_eq!(meters.charge(&rate, at(100), "cyd"), Ok(()));
        assert_eq!(meters.users.len(), 2, "ann owes still");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let (mut meter, rate) = (Meter::default(), Rate::new(0, 0));
        assert!((0..10_000).all(|_| meter.charge(&rate, NOW).is_ok()));
        let mut meters = Meters::default();
        assert!((0..10_000).all(|_| meters.charge(&rate, NOW, "ann").is_ok()) && meters.users.is_empty());
    }
}
