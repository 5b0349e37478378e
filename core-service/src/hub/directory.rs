//! Who is here, by user: every session of an edge and every stream of a service, whatever rooms it is in; and whose token is worthless.
//!
//! One mutex for both, so that nobody comes in between a revocation and the end of those whom it hits. It is held for as long as it takes to look
//! through the sessions: when one comes or goes, which is rare beside what it says.
use super::{Error, Outbox};
use crate::{
    auth::{
        grant::Grant,
        revocation::{Full, Revocation, Revocations},
    },
    room::{Now, id::UserName},
};
use slab::Slab;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Why a user's next session is not let in.
const TOO_MANY: &str = "this user has as many sessions as one may have";

/// How long a link may take to come back with sessions that it has not been told to end: it is seen to be dead after 15 s.
const KICK: Duration = Duration::from_secs(20);

/// All who are here.
pub struct Directory {
    inner: Mutex<Inner>,
    sessions_max: usize,
}

struct Inner {
    seats: Slab<Entry>,
    users: HashMap<UserName, Vec<usize>>,
    revocations: Revocations,
    /// Who was here and was disconnected within the last moments: a link may have ended before it was told.
    kicked: HashMap<UserName, Instant>,
}

struct Entry {
    outbox: Arc<Outbox>,
    /// Its number on the stream.
    session: u64,
    grant: Arc<Grant>,
}

/// A place in the directory, given up when it is dropped.
pub struct Seat {
    directory: Arc<Directory>,
    key: usize,
}

impl Directory {
    /// Nobody is here. A user may have so many sessions, 0 is any number; so many revocations are kept.
    pub fn new(sessions_max: usize, revocations_max: usize) -> Arc<Directory> {
        let revocations = Revocations::new(revocations_max);
        let (seats, users, kicked) = (Slab::new(), HashMap::new(), HashMap::new());
        let inner = Inner { seats, users, revocations, kicked };
        Arc::new(Directory { inner: Mutex::new(inner), sessions_max })
    }

    /// Lets a session or stream in, unless its token is worthless, or it `counts` and its user has too many: what an edge brings from another link
    /// was let in there, and may stand here twice until that link is seen to be dead. Services are not counted.
    pub fn enter(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        session: u64,
        grant: &Arc<Grant>,
        counts: bool,
    ) -> Result<Seat, Error> {
        let mut inner = self.lock();
        inner.check(grant)?;
        if !counts && inner.kicked.get(&grant.user).is_some_and(|at| at.elapsed() < KICK) {
            return Err(Error::Kicked);
        }
        if counts
            && !grant.service
            && self.sessions_max > 0
            && inner.seats_of(&grant.user) >= self.sessions_max
        {
            return Err(Error::Exhausted(TOO_MANY.into()));
        }
        let entry = Entry { outbox: outbox.clone(), session, grant: grant.clone() };
        let key = inner.seats.insert(entry);
        // Most users have one session; a vector that grows would begin with four.
        inner.users.entry(grant.user.clone()).or_insert_with(|| Vec::with_capacity(1)).push(key);
        Ok(Seat { directory: self.clone(), key })
    }

    /// Whether the token behind a single call is still worth something.
    pub fn check(&self, grant: &Grant) -> Result<(), Error> {
        self.lock().check(grant)
    }

    /// Ends all sessions and streams of a user. How many there were.
    pub fn disconnect(&self, user: &UserName) -> usize {
        let mut inner = self.lock();
        let now = Instant::now();
        inner.kicked.retain(|_, at| now.duration_since(*at) < KICK);
        if inner.users.contains_key(user) {
            inner.kicked.insert(user.clone(), now);
        }
        let keys = inner.users.get(user).map(Vec::as_slice).unwrap_or_default();
        keys.iter().filter_map(|key| inner.seats.get(*key)).map(|entry| entry.end(Error::Kicked)).count()
    }

    /// Makes tokens worthless, and ends what was let in by them. How many there were.
    pub fn revoke(&self, now: Duration, revocation: &Revocation) -> Result<usize, Full> {
        let mut inner = self.lock();
        inner.revocations.add(now, revocation.clone())?;
        let hit = inner.seats.iter().filter(|(_, entry)| revocation.hits(&entry.grant));
        Ok(hit.map(|(_, entry)| entry.end(Error::Revoked)).count())
    }

    /// How many users are here, each once.
    pub fn users(&self) -> usize {
        self.lock().users.len()
    }

    /// How many revocations hold.
    pub fn revocations(&self, now: Duration) -> usize {
        let mut inner = self.lock();
        inner.revocations.forget(now);
        inner.revocations.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check(&self, grant: &Grant) -> Result<(), Error> {
        let now = Duration::from_micros(Now::read().micros);
        if self.revocations.hit(now, grant) { Err(Error::Revoked) } else { Ok(()) }
    }

    fn seats_of(&self, user: &UserName) -> usize {
        let keys = self.users.get(user).map(Vec::as_slice).unwrap_or_default();
        let seats = keys.iter().filter_map(|key| self.seats.get(*key));
        seats.filter(|entry| !entry.grant.service).count()
    }
}

impl Entry {
    /// A stream of one caller ends at once, one of sessions is told to end this one.
    fn end(&self, error: Error) {
        match self.outbox.orders() {
            Some(orders) => orders.end(self.session, error),
            None => self.outbox.end_with(Some(error)),
        }
    }
}

impl Seat {
    /// Its token is another one, of the same user.
    pub fn renew(&self, grant: &Arc<Grant>) -> Result<(), Error> {
        let mut inner = self.directory.lock();
        inner.check(grant)?;
        if let Some(entry) = inner.seats.get_mut(self.key) {
            entry.grant = grant.clone();
        }
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.directory.lock();
        let Some(entry) = inner.seats.try_remove(self.key) else { return };
        let user = &entry.grant.user;
        if let Some(keys) = inner.users.get_mut(user) {
            keys.retain(|key| *key != self.key);
            if keys.is_empty() {
                inner.users.remove(user);
            }
        }
        if inner.seats.is_empty() {
            // A quiet night need not hold the memory of the day.
            (inner.seats, inner.users) = (Slab::new(), HashMap::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::revocation::Revoked, metrics::CoreMetrics};

    fn outbox(for_sessions: bool) -> Arc<Outbox> {
        let metrics = CoreMetrics::register(&mut Default::default());
        Arc::new(if for_sessions {
            Outbox::for_sessions(1 << 20, metrics)
        } else {
            Outbox::new(1 << 20, metrics)
        })
    }

    fn granted(name: &str, id: &str) -> Arc<Grant> {
        Arc::new(Grant { token_id: Some(id.into()), ..Grant::dev(UserName::new(name).unwrap()) })
    }

    fn ends(outbox: &Outbox) -> Vec<u64> {
        outbox.orders().unwrap().take().sessions.into_keys().collect()
    }

    #[test]
    fn a_user_is_disconnected_everywhere_and_nobody_else_is() {
        let directory = Directory::new(0, 10);
        let (edge, watch) = (outbox(true), outbox(false));
        let seats = [("ann", 1), ("ann", 2), ("bob", 3), ("ann", 4)]
            .map(|(name, number)| directory.enter(&edge, number, &granted(name, "t"), true).unwrap());
        let _watching = directory.enter(&watch, 1, &granted("ann", "w"), true).unwrap();
        let [_one, two, _bob, _four] = seats;
        drop(two);
        assert_eq!(directory.disconnect(&UserName::new("ann").unwrap()), 3);
        assert_eq!(ends(&edge), [1, 4]);
        assert!(matches!(watch.try_take(), Some(crate::hub::outbox::Taken::Ended(Some(Error::Kicked)))));
        assert_eq!(directory.disconnect(&UserName::new("carl").unwrap()), 0);
        // A link that was not told does not bring her back; she herself may come.
        assert_eq!(directory.enter(&edge, 5, &granted("ann", "t"), false).err(), Some(Error::Kicked));
        directory.enter(&edge, 5, &granted("ann", "t"), true).unwrap();
    }

    /// A stream whose answers nobody reads is told nothing, and yet must notice.
    #[tokio::test]
    async fn the_end_of_a_stream_needs_no_reader() {
        let directory = Directory::new(0, 10);
        let track = outbox(false);
        let _seat = directory.enter(&track, 1, &granted("ann", "t"), true).unwrap();
        let ended = tokio::spawn({
            let track = track.clone();
            async move { track.ended().await }
        });
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        assert_eq!(directory.disconnect(&UserName::new("ann").unwrap()), 1);
        tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap();
        track.ended().await;
    }

    #[test]
    fn a_worthless_token_ends_what_it_let_in_and_lets_nothing_in() {
        let directory = Directory::new(0, 1);
        let edge = outbox(true);
        let first = directory.enter(&edge, 1, &granted("ann", "a"), true).unwrap();
        let second = directory.enter(&edge, 2, &granted("ann", "b"), true).unwrap();
        let revocation = |id: &str| Revocation { revoked: Revoked::Token(id.into()), until: None };
        assert_eq!(directory.revoke(Duration::ZERO, &revocation("a")), Ok(1));
        assert_eq!(ends(&edge), [1]);
        assert_eq!(directory.enter(&edge, 3, &granted("bob", "a"), true).err(), Some(Error::Revoked));
        assert_eq!(second.renew(&granted("ann", "a")), Err(Error::Revoked));
        first.renew(&granted("ann", "c")).unwrap();
        assert_eq!(directory.revoke(Duration::ZERO, &revocation("z")), Err(Full));
        assert_eq!(directory.revoke(Duration::ZERO, &revocation("a")), Ok(0), "it has another token by now");
    }

    #[test]
    fn sessions_of_a_user_are_limited_and_given_back() {
        let directory = Directory::new(2, 0);
        let edge = outbox(true);
        let enter = |name: &str, number| directory.enter(&edge, number, &granted(name, "t"), true);
        let one = enter("ann", 1).unwrap();
        let _two = enter("ann", 2).unwrap();
        assert!(matches!(enter("ann", 3), Err(Error::Exhausted(_))));
        let _bob = enter("bob", 4).unwrap();
        // What comes from another link is let in, and so is a service.
        let _moved = directory.enter(&edge, 5, &granted("bob", "t"), false).unwrap();
        let _bob_too = directory.enter(&edge, 6, &granted("bob", "t"), false).unwrap();
        assert!(matches!(enter("bob", 7), Err(Error::Exhausted(_))));
        let service = Arc::new(Grant { service: true, ..Grant::clone(&granted("bob", "s")) });
        let _service = directory.enter(&edge, 8, &service, true).unwrap();
        drop(one);
        let _three = enter("ann", 3).unwrap();
        assert_eq!(directory.users(), 2);
    }
}
