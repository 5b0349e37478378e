//! How fast a session may give commands, and when it has been refused too often: one rule at every door. GCRA: one number for each
//! session; time is an argument.
use std::time::Duration;

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

    /// So many within this time, at once or spread over it; 0 is no limit.
    pub fn within(count: u32, time: Duration) -> Rate {
        let interval = nanos(time).checked_div(u64::from(count)).unwrap_or(0);
        Rate { interval, burst: interval * u64::from(count) }
    }

    /// Everything may pass.
    pub fn is_unlimited(&self) -> bool {
        self.interval == 0
    }
}

/// When all commands so far would have come at the rate allowed, in nanoseconds on the caller's clock (GCRA's
/// theoretical arrival time).
#[derive(Debug, Default)]
pub struct Paid(u64);

impl Paid {
    /// Charges for one command; else says after how many milliseconds there is credit.
    pub fn charge(&mut self, rate: &Rate, now: Duration) -> Result<(), u64> {
        let now = nanos(now);
        self.wait(rate, now).map_or(Ok(()), Err)?;
        self.0 = self.0.max(now) + rate.interval;
        Ok(())
    }

    /// After how many milliseconds there is credit, if there is none.
    pub fn due(&self, rate: &Rate, now: Duration) -> Option<u64> {
        self.wait(rate, nanos(now))
    }

    /// Nothing is owed any more.
    pub fn is_settled(&self, now: Duration) -> bool {
        self.0 <= nanos(now)
    }

    fn wait(&self, rate: &Rate, now: u64) -> Option<u64> {
        let owed = self.0.max(now) + rate.interval - now;
        (owed > rate.burst).then(|| (owed - rate.burst).div_ceil(1_000_000))
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
        self.paid.charge(rate, now).map_err(|wait| {
            let enough = self.refusals.get_or_insert_default().add(nanos(now));
            if enough { TooSoon::Enough } else { TooSoon::Wait(wait) }
        })
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
    fn so_many_within_a_time() {
        let (mut paid, rate) = (Paid::default(), Rate::within(3, Duration::from_secs(10)));
        assert_eq!((0..5).filter(|_| paid.charge(&rate, NOW).is_ok()).count(), 3);
        assert!(paid.due(&rate, NOW).is_some_and(|wait| (3333..=3334).contains(&wait)));
        assert!(!paid.is_settled(NOW) && paid.is_settled(NOW + Duration::from_secs(10)));
        let none = Rate::within(0, Duration::from_secs(10));
        assert!(none.is_unlimited() && (0..100).all(|_| Paid::default().charge(&none, NOW).is_ok()));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let (mut meter, rate) = (Meter::default(), Rate::new(0, 0));
        assert!((0..10_000).all(|_| meter.charge(&rate, NOW).is_ok()));
    }
}
