//! Who brings tokens that are refused, by address. Looking at one costs the core a signature's check; an address that has cost too many is not
//! asked any more, until some of them are long enough ago. Sessions that it has go on.
use crate::session::rate::{Meters, Rate};
use crate::wire::event::{Code, Failure};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time that the limit is for: as for commands that are refused on a socket.
const WITHIN: Duration = Duration::from_secs(10);

/// What addresses have been refused.
#[derive(Debug)]
pub struct Refusals {
    rate: Rate,
    start: Instant,
    meters: Mutex<Meters<IpAddr>>,
}

impl Refusals {
    /// So many of one address within ten seconds; 0 is no limit.
    pub fn new(max: u32) -> Self {
        Self { rate: Rate::within(max, WITHIN), start: Instant::now(), meters: Mutex::default() }
    }

    /// One more of this address.
    pub fn note(&self, address: IpAddr) {
        let now = self.start.elapsed();
        // Past the limit it is not even asked, and where too many are known already the new one goes free.
        let _ = self.lock().charge(&self.rate, now, &address);
    }

    /// Why this address is not asked now, if it is not.
    pub fn ban(&self, address: IpAddr) -> Option<Failure> {
        let now = self.start.elapsed();
        let wait = self.lock().wait(&self.rate, now, &address)?;
        let failure = Failure::new(Code::ResourceExhausted, "too many tokens of this address were refused");
        Some(failure.retry_after_ms(wait))
    }

    fn lock(&self) -> MutexGuard<'_, Meters<IpAddr>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_so_often_and_others_are_not_meant() {
        let refusals = Refusals::new(3);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        for _ in 0..3 {
            assert!(refusals.ban(one).is_none());
            refusals.note(one);
        }
        let ban = refusals.ban(one).unwrap();
        assert_eq!(ban.code, Code::ResourceExhausted);
        // A third of ten seconds for each.
        assert!(ban.retry_after_ms.is_some_and(|wait| (3000..=3334).contains(&wait)), "{ban:?}");
        assert!(refusals.ban(other).is_none());
        let none = Refusals::new(0);
        (0..1000).for_each(|_| none.note(one));
        assert!(none.ban(one).is_none());
    }
}
