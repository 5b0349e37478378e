//! What the process uses of its memory budget. Near its end nobody new is let in, so that those who are here keep what they have; health,
//! readiness and metrics answer all the same.
use crate::metrics::EdgeMetrics;
use std::convert::Infallible;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// How often it is looked at: a fast network fills some 100 MB in this time, for which the last tenth of a budget is.
const EVERY: Duration = Duration::from_millis(250);
/// From this many tenths of the budget on nobody new is let in ...
const SHED: u128 = 9;
/// ... until it is no more than this: far enough apart that it does not flap.
const RELAX: u128 = 8;

/// The watch over it.
#[derive(Debug)]
pub struct Memory {
    /// In bytes; 0 is no limit.
    budget: usize,
    metrics: EdgeMetrics,
    shedding: AtomicBool,
}

impl Memory {
    /// A watch that begins with a look.
    pub fn new(budget: usize, metrics: EdgeMetrics) -> Self {
        let memory = Self { budget, metrics, shedding: AtomicBool::new(false) };
        memory.look();
        memory
    }

    /// Whether nobody new is let in.
    pub fn is_shedding(&self) -> bool {
        self.shedding.load(Ordering::Relaxed)
    }

    /// Looks again and again.
    pub async fn watch(&self) -> Infallible {
        loop {
            sleep(EVERY).await;
            self.look();
        }
    }

    fn look(&self) {
        // Where it cannot be known nobody is refused for it.
        let Some(used) = resident() else { return };
        self.metrics.memory_bytes.set(used as i64);
        let before = self.is_shedding();
        let now = sheds(before, used, self.budget);
        if now != before {
            self.shedding.store(now, Ordering::Relaxed);
            self.metrics.shedding.set(i64::from(now));
            let budget = self.budget;
            if now {
                tracing::warn!(used, budget, "memory is nearly used up, nobody new is let in");
            } else {
                tracing::info!(used, budget, "there is memory again, everybody is let in");
            }
        }
    }
}

/// Whether to let nobody in, after it was so or was not.
fn sheds(before: bool, used: usize, budget: usize) -> bool {
    let tenths = if before { RELAX } else { SHED };
    budget > 0 && used as u128 * 10 > budget as u128 * tenths
}

/// How many bytes the process has in memory, where the kernel says it.
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_late_and_ends_early() {
        assert!(!sheds(false, 90, 100) && sheds(false, 91, 100));
        assert!(sheds(true, 81, 100) && !sheds(true, 80, 100));
        assert!(!sheds(false, usize::MAX, 0) && !sheds(true, 1, 0), "without a budget there is no end");
        assert!(sheds(false, usize::MAX, usize::MAX));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_says_what_is_used() {
        let before = resident().unwrap();
        let ballast = vec![1u8; 64 << 20];
        let with = resident().unwrap();
        assert!(with >= before + (48 << 20), "{before} {with} {}", ballast[ballast.len() - 1]);
    }
}
