//! How long to wait before the next try: doubling, capped, with full jitter, so that the edges of a core that comes
//! back do not all arrive at once.
use std::time::Duration;

/// The most that the second try waits.
const BASE: Duration = Duration::from_millis(50);
/// The most that any try waits: a browser's user should hardly notice.
const CAP: Duration = Duration::from_secs(2);

/// Counts the tries since the last success.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The wait before the next try: none before the first.
    pub fn next_wait(&mut self) -> Duration {
        self.wait(fastrand::f64())
    }

    /// Starts anew after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    fn wait(&mut self, jitter: f64) -> Duration {
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        match tries {
            0 => Duration::ZERO,
            n => BASE.saturating_mul(1 << (n - 1).min(16)).min(CAP).mul_f64(jitter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_at_once_then_doubling_up_to_the_cap() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.wait(1.0).as_millis() as u64).collect();
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.wait(1.0), Duration::ZERO);
        assert_eq!(backoff.wait(0.5), Duration::from_millis(25));
        backoff.tries = u32::MAX;
        assert_eq!(backoff.wait(1.0), CAP);
    }
}
