//! So many a second, in small portions, until the time is over.
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// How often a portion is due.
const TICK: Duration = Duration::from_millis(10);

/// A steady rate.
pub(super) struct Pace {
    rate: u32,
    begun: Instant,
    lasting: Duration,
    given: u64,
    clock: Interval,
}

impl Pace {
    pub(super) fn new(rate: u32, lasting: Duration) -> Pace {
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Pace { rate, begun: Instant::now(), lasting, given: 0, clock }
    }

    /// Awaits the next portion; none when the time is over. What was missed is not made up for: that would be a burst.
    pub(super) async fn portion(&mut self) -> Option<u64> {
        loop {
            self.clock.tick().await;
            let elapsed = self.begun.elapsed();
            if elapsed > self.lasting {
                return None;
            }
            let due = (elapsed.as_secs_f64() * f64::from(self.rate)) as u64;
            let portion = due.saturating_sub(self.given);
            self.given = due;
            if portion > 0 {
                let most = u64::from(self.rate).div_ceil(10);
                return Some(portion.min(most));
            }
        }
    }
}
