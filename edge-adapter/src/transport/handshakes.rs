//! Connections that have not made a whole request yet, in the order in which they came. When there are too many the one that has taken
//! longest goes: an honest client is through within moments, whoever holds connections open grows old. So a crowd that
//! comes back at once is let in, and ten thousand half-open connections shut nobody out: `docs/decisions/0007`.
use crate::metrics::EdgeMetrics;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Those of one edge.
#[derive(Debug)]
pub struct Handshakes {
    /// 0 is no limit.
    max: usize,
    metrics: EdgeMetrics,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    /// The first is the oldest. Bounded by `max`, else by the edge's connections.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// One of them, for as long as it is one.
#[derive(Debug)]
pub struct Handshake {
    line: Arc<Handshakes>,
    number: u64,
    displaced: CancellationToken,
}

impl Handshakes {
    /// At most so many.
    pub fn new(max: usize, metrics: EdgeMetrics) -> Arc<Self> {
        Arc::new(Self { max, metrics, line: Mutex::default() })
    }

    /// One more, which may displace the oldest.
    pub fn enter(self: &Arc<Self>) -> Handshake {
        let displaced = CancellationToken::new();
        let mut line = self.lock();
        let number = line.next;
        line.next += 1;
        line.waiting.insert(number, displaced.clone());
        let oldest = (self.max > 0 && line.waiting.len() > self.max).then(|| line.waiting.pop_first());
        self.metrics.handshakes.set(line.waiting.len() as i64);
        drop(line);
        if let Some((_, oldest)) = oldest.flatten() {
            self.metrics.http_refusal("max_handshakes");
            oldest.cancel();
        }
        Handshake { line: Arc::clone(self), number, displaced }
    }

    fn leave(&self, number: u64) {
        let mut line = self.lock();
        if line.waiting.remove(&number).is_some() {
            self.metrics.handshakes.set(line.waiting.len() as i64);
        }
    }

    /// Each change is one step, so a panic elsewhere leaves it sound.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handshake {
    /// Waits until it has to go.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Cancelled when it has to go; never once it is none any more.
    pub fn displacement(&self) -> CancellationToken {
        self.displaced.clone()
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.line.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use prometheus_client::registry::Registry;

    #[test]
    fn the_oldest_goes_and_whoever_is_through_counts_no_more() {
        let metrics = EdgeMetrics::register(&mut Registry::default());
        let line = Handshakes::new(2, metrics.clone());
        let [a, b] = [line.enter(), line.enter()];
        assert!(a.displaced().now_or_never().is_none());
        let c = line.enter();
        let gone = |handshake: &Handshake| handshake.displaced().now_or_never().is_some();
        assert_eq!([&a, &b, &c].map(gone), [true, false, false]);
        assert_eq!(metrics.handshakes.get(), 2);
        drop((a, b));
        let d = line.enter();
        assert_eq!([&c, &d].map(gone), [false, false], "a place was free");
        drop((c, d));
        assert_eq!((metrics.handshakes.get(), line.lock().waiting.len()), (0, 0));
    }

    #[test]
    fn no_limit_displaces_nobody() {
        let line = Handshakes::new(0, EdgeMetrics::register(&mut Registry::default()));
        let all: Vec<Handshake> = (0..1000).map(|_| line.enter()).collect();
        assert!(all.iter().all(|handshake| handshake.displaced().now_or_never().is_none()));
    }
}
