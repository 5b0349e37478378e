//! How often users ask over HTTP. Whose a token is only the core knows, and says so with the first answer: until then a token counts for itself,
//! and then for its user, whatever other tokens that user has.
use crate::config::Config;
use crate::session::rate::{Meters, Rate};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Before a token's digest: no user's name begins so.
pub const TOKEN: char = '\0';
/// How many tokens are known to be somebody's, some 20 MB; beyond, all are learned anew.
const TOKENS_MAX: usize = 100_000;
/// Whose requests those are that name nobody: nobody else can have this name.
const NOBODY: &str = "";

/// All who ask.
#[derive(Debug)]
pub struct Callers {
    rate: Rate,
    start: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    meters: Meters<Box<str>>,
    users: HashMap<Box<str>, Arc<str>>,
}

impl Callers {
    /// Nobody has asked yet.
    pub fn new(config: &Config) -> Self {
        let rate = Rate::new(config.rate_limit, config.rate_burst);
        Self { rate, start: Instant::now(), known: Mutex::default() }
    }

    /// Counts one request of a user, or of a token by [`TOKEN`] and its digest, as a session counts its commands; else says when to try again, in
    /// milliseconds. In dev mode all who name nobody are one.
    pub fn charge(&self, who: Option<&str>) -> Result<(), u64> {
        let now = self.start.elapsed();
        let mut known = self.lock();
        let Known { meters, users } = &mut *known;
        let who = who.unwrap_or(NOBODY);
        meters.charge(&self.rate, now, users.get(who).map_or(who, |user| user))
    }

    /// Whether the core is still to say whose this token is.
    pub fn is_new(&self, who: &str) -> bool {
        !self.rate.is_unlimited() && who.starts_with(TOKEN) && !self.lock().users.contains_key(who)
    }

    /// The core has said whose a token is. What it has asked so far was asked by the user.
    pub fn learn(&self, token: Box<str>, user: &Arc<str>) {
        let now = self.start.elapsed();
        let mut known = self.lock();
        if known.users.len() >= TOKENS_MAX {
            known.users = HashMap::new();
        }
        // It has been let through: the user pays as far as it can.
        let _ = known.meters.charge(&self.rate, now, &**user);
        known.users.insert(token, user.clone());
    }

    /// Each change is one step, so a panic elsewhere leaves it sound.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::tests::config;

    #[test]
    fn a_user_has_one_measure_however_many_tokens() {
        let callers = Callers::new(&Config { rate_limit: 1, rate_burst: 3, ..config() });
        let ann = Arc::from("ann");
        for token in ["\0one", "\0two", "\0three"] {
            assert!(callers.is_new(token));
            assert_eq!(callers.charge(Some(token)), Ok(()), "nobody knows yet whose it is");
            callers.learn(token.into(), &ann);
            assert!(!callers.is_new(token));
        }
        for token in ["\0one", "\0two", "\0three", "ann"] {
            assert!(callers.charge(Some(token)).is_err(), "{token}");
        }
        assert_eq!(callers.charge(Some("\0four")), Ok(()));
    }

    #[test]
    fn requests_are_counted_by_user() {
        let callers = Callers::new(&Config { rate_limit: 1, rate_burst: 2, ..config() });
        for user in [Some("ann"), None] {
            assert_eq!([0; 2].map(|_| callers.charge(user)), [Ok(()), Ok(())]);
            assert!(callers.charge(user).is_err_and(|wait| (900..=1000).contains(&wait)));
        }
        assert_eq!(callers.charge(Some("bob")), Ok(()));
    }
}
