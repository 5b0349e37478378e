//! Tokens that are worthless before they end. Pure: time is an argument.
use super::{grant::Grant, token::LEEWAY};
use crate::room::id::UserName;
use std::{collections::HashMap, time::Duration};

/// Which tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// The one with this id.
    Token(Box<str>),
    /// All that a user was issued up to a moment, since 1970.
    User(UserName, Duration),
}

/// Tokens are worthless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    pub revoked: Revoked,
    /// Until when that must be known: from then on they have ended by themselves. None: for good.
    pub until: Option<Duration>,
}

impl Revocation {
    /// Whether it hits what was granted for a token. A token that does not say when it was issued was issued before; one whose maker's clock
    /// is ahead may have been.
    pub fn hits(&self, grant: &Grant) -> bool {
        match &self.revoked {
            Revoked::Token(id) => grant.token_id.as_ref() == Some(id),
            Revoked::User(user, before) => {
                grant.subject == *user && grant.issued_at.unwrap_or_default() <= *before + LEEWAY
            }
        }
    }
}

/// There is no place for another one: forgetting one would let somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// All revocations that hold; at most so many.
#[derive(Debug, Default)]
pub struct Revocations {
    tokens: HashMap<Box<str>, Option<Duration>>,
    users: HashMap<UserName, (Duration, Option<Duration>)>,
    max: usize,
}

impl Revocations {
    /// None yet, and at most `max`.
    pub fn new(max: usize) -> Revocations {
        Revocations { max, ..Revocations::default() }
    }

    /// Adds one; of two of the same tokens the wider holds.
    pub fn add(&mut self, now: Duration, revocation: Revocation) -> Result<(), Full> {
        let known = match &revocation.revoked {
            Revoked::Token(id) => self.tokens.contains_key(id),
            Revoked::User(user, _) => self.users.contains_key(user),
        };
        if !known && self.len() >= self.max {
            self.forget(now);
            if self.len() >= self.max {
                return Err(Full);
            }
        }
        let until = revocation.until;
        match revocation.revoked {
            Revoked::Token(id) => {
                let held = self.tokens.entry(id).or_insert(until);
                *held = later(*held, until);
            }
            Revoked::User(user, before) => {
                let held = self.users.entry(user).or_insert((before, until));
                *held = (held.0.max(before), later(held.1, until));
            }
        }
        Ok(())
    }

    /// Whether the token that this was granted for is worthless.
    pub fn hit(&self, now: Duration, grant: &Grant) -> bool {
        if self.is_empty() {
            return false;
        }
        let token = grant.token_id.as_ref().and_then(|id| self.tokens.get(id));
        let issued = grant.issued_at.unwrap_or_default();
        let user = self.users.get(&grant.subject).filter(|(before, _)| issued <= *before + LEEWAY);
        token.is_some_and(|until| holds(now, *until)) || user.is_some_and(|(_, until)| holds(now, *until))
    }

    /// Forgets those whose tokens have ended.
    pub fn forget(&mut self, now: Duration) {
        self.tokens.retain(|_, until| holds(now, *until));
        self.users.retain(|_, (_, until)| holds(now, *until));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len() + self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// As long as a token that ends then is still taken.
fn holds(now: Duration, until: Option<Duration>) -> bool {
    until.is_none_or(|until| until + LEEWAY > now)
}

/// None is for good.
fn later(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    Some(a?.max(b?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    fn granted(name: &str, id: Option<&str>, issued: Option<u64>) -> Grant {
        Grant { token_id: id.map(Into::into), issued_at: issued.map(at), ..Grant::dev(user(name)) }
    }

    fn token(id: &str, until: Option<u64>) -> Revocation {
        Revocation { revoked: Revoked::Token(id.into()), until: until.map(at) }
    }

    fn of_user(name: &str, before: u64, until: Option<u64>) -> Revocation {
        Revocation { revoked: Revoked::User(user(name), at(before)), until: until.map(at) }
    }

    #[test]
    fn by_id_and_by_user() {
        let mut held = Revocations::new(10);
        held.add(at(0), token("a", None)).unwrap();
        held.add(at(0), of_user("ann", 100, None)).unwrap();
        for (grant, hit) in [
            (granted("bob", Some("a"), Some(500)), true),
            (granted("bob", Some("b"), Some(1)), false),
            (granted("bob", None, None), false),
            (granted("ann", Some("b"), Some(100)), true),
            (granted("ann", Some("b"), Some(105)), true),
            (granted("ann", Some("b"), Some(106)), false),
            (granted("ann", None, None), true),
        ] {
            assert_eq!(held.hit(at(0), &grant), hit, "{grant:?}");
            let one_by_one = token("a", None).hits(&grant) || of_user("ann", 100, None).hits(&grant);
            assert_eq!(one_by_one, hit, "{grant:?}");
        }
        // A service that speaks in ann's name has a token of its own.
        let service = Grant { subject: user("svc"), ..granted("ann", None, Some(1)) };
        assert!(!held.hit(at(0), &service));
    }

    #[test]
    fn of_two_the_wider_holds() {
        let mut held = Revocations::new(10);
        held.add(at(0), of_user("ann", 100, Some(1000))).unwrap();
        held.add(at(0), of_user("ann", 50, Some(500))).unwrap();
        held.add(at(0), token("a", Some(500))).unwrap();
        held.add(at(0), token("a", None)).unwrap();
        let (ann, bob) = (granted("ann", None, Some(100)), granted("bob", Some("a"), None));
        // As long as a token that ends then is taken, and no longer, whether or not it has been forgotten yet.
        assert!(held.hit(at(1004), &ann) && !held.hit(at(1005), &ann) && held.hit(at(1005), &bob));
        held.forget(at(1004));
        assert_eq!(held.len(), 2);
        held.forget(at(1005));
        assert_eq!(held.len(), 1);
    }

    #[test]
    fn none_is_forgotten_for_another() {
        let mut held = Revocations::new(2);
        held.add(at(0), token("a", Some(10))).unwrap();
        held.add(at(0), token("b", None)).unwrap();
        assert_eq!(held.add(at(14), token("c", None)), Err(Full));
        held.add(at(14), token("b", Some(20))).unwrap();
        held.add(at(15), token("c", None)).unwrap();
        let of = |id| granted("u", Some(id), None);
        assert!(!held.hit(at(15), &of("a")) && held.hit(at(15), &of("b")) && held.hit(at(15), &of("c")));
    }
}
