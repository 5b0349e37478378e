//! Sets of keys that are published somewhere and change: between those who verify with them, who never wait, and the one who fetches them.
//!
//! What is known is kept until a fetch brings something else, however long that takes. A token whose key is not in any set is no stranger's yet:
//! whoever brought it may wait for a [`Search`], within bounds.
use super::keys::{BadKey, Key};
use super::rotation::Rotation;
use super::{bad_token::BadToken, digest};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How long a token waits for its key at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// A fetch that begins later than this comes too late for who waits.
const SOON: Duration = Duration::from_secs(1);
/// How many may wait at once. Past it tokens are judged by what is known.
const SEARCHES_MAX: usize = 1024;

/// The sets of a core.
pub struct KeySets {
    sets: Box<[KeySet]>,
    /// Told after each fetch.
    news: watch::Sender<()>,
    searches: Arc<AtomicUsize>,
}

/// One of them.
#[derive(Debug)]
pub struct KeySet {
    known: RwLock<Known>,
    rotation: Mutex<Rotation>,
    /// Told where it is due earlier than it was.
    earlier: Notify,
}

#[derive(Debug, Clone, Default)]
struct Known {
    /// None has come yet.
    keys: Option<Arc<[Key]>>,
    /// Of the document that they stood in.
    digest: Option<[u8; 32]>,
    is_in_doubt: bool,
    /// When the last fetch that is over began.
    begun: Option<Instant>,
}

// By hand: keys reach no log.
impl std::fmt::Debug for KeySets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeySets").field(&self.sets.len()).finish()
    }
}

impl Default for KeySets {
    fn default() -> Self {
        KeySets::new(0, Instant::now())
    }
}

impl KeySets {
    /// So many sets, of which none is known yet.
    pub fn new(count: usize, now: Instant) -> KeySets {
        let set = |_| KeySet {
            known: RwLock::new(Known { is_in_doubt: true, ..Known::default() }),
            rotation: Mutex::new(Rotation::new(now)),
            earlier: Notify::new(),
        };
        KeySets {
            sets: (0..count).map(set).collect(),
            news: watch::Sender::default(),
            searches: Arc::default(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &KeySet> {
        self.sets.iter()
    }

    /// What is known of each.
    pub fn keys(&self) -> Vec<Arc<[Key]>> {
        self.sets.iter().filter_map(|set| set.known().keys).collect()
    }

    /// Whether any has come.
    pub fn have_come(&self) -> bool {
        self.sets.iter().any(|set| set.known().keys.is_some())
    }

    /// Looks for a key that is in none of them. Where no fetch is soon enough for who waits, the answer is the one that can be given now.
    pub fn search(self: &Arc<Self>, now: Instant) -> Result<Search, BadToken> {
        // From before it is sought: what comes of that is news.
        let news = self.news.subscribe();
        let mut is_soon = false;
        for set in &self.sets {
            is_soon |= set.seek(now) <= now + SOON;
        }
        let place = is_soon.then(|| Place::take(&self.searches)).flatten();
        let place = place.ok_or_else(|| self.verdict(None))?;
        Ok(Search { sets: self.clone(), begun: now, news, _place: place })
    }

    /// A fetch of the set has brought this document, which is to be kept for so long. Says whether it is another one than before.
    pub fn fetched(
        &self,
        set: &KeySet,
        document: &[u8],
        max_age: Option<Duration>,
        now: Instant,
        chance: f64,
    ) -> Result<bool, BadKey> {
        let keys = Key::set(document)?;
        if keys.is_empty() {
            return Err(BadKey::NoneInSet);
        }
        let digest = digest(document);
        let is_new = set.known().digest != Some(digest);
        set.end(|rotation| rotation.succeeded(now, is_new, max_age, chance), Some((keys.into(), digest)));
        self.news.send_replace(());
        Ok(is_new)
    }

    /// A fetch of the set has failed: what is known is kept.
    pub fn failed(&self, set: &KeySet, now: Instant, chance: f64) {
        set.end(|rotation| rotation.failed(now, chance), None);
        self.news.send_replace(());
    }

    /// What a token is told whose key is in none of them; of one that waits since a moment, only fetches since then count.
    fn verdict(&self, since: Option<Instant>) -> BadToken {
        let is_late =
            |known: &Known| since.is_some_and(|since| known.begun.is_none_or(|begun| begun < since));
        let known = |known: Known| !known.is_in_doubt && !is_late(&known);
        if self.sets.iter().all(|set| known(set.known())) { BadToken::UnknownKey } else { BadToken::KeysAway }
    }
}

impl KeySet {
    /// When it is due.
    pub fn due(&self) -> Instant {
        self.rotation().due()
    }

    /// Waits until it is due earlier than it was.
    pub async fn is_earlier(&self) {
        self.earlier.notified().await;
    }

    /// A fetch begins.
    pub fn begin(&self, now: Instant) {
        self.rotation().begin(now);
    }

    fn seek(&self, now: Instant) -> Instant {
        let begins = self.rotation().seek(now);
        self.earlier.notify_one();
        begins
    }

    fn end(&self, note: impl FnOnce(&mut Rotation), brought: Option<(Arc<[Key]>, [u8; 32])>) {
        let mut rotation = self.rotation();
        note(&mut rotation);
        let (is_in_doubt, begun) = (rotation.is_in_doubt(), rotation.begun());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        (known.is_in_doubt, known.begun) = (is_in_doubt, begun);
        if let Some((keys, digest)) = brought {
            (known.keys, known.digest) = (Some(keys), Some(digest));
        }
    }

    /// Nothing is half done while a lock is held, so a panic elsewhere leaves it sound.
    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn rotation(&self) -> MutexGuard<'_, Rotation> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits for a key.
#[derive(Debug)]
pub struct Search {
    sets: Arc<KeySets>,
    begun: Instant,
    news: watch::Receiver<()>,
    _place: Place,
}

impl Search {
    /// When it is over at the latest.
    pub fn until(&self) -> Instant {
        self.begun + PATIENCE
    }

    /// Waits until a fetch has ended since it was last asked.
    pub async fn news(&mut self) {
        if self.news.changed().await.is_err() {
            // Whoever fetched is gone, and so is the process in a moment.
            std::future::pending().await
        }
    }

    /// What the token is told, if its key is still not known and it is of no use to wait any longer.
    pub fn verdict(&self, now: Instant) -> Option<BadToken> {
        let is_done = |set: &KeySet| set.known().begun.is_some_and(|begun| begun >= self.begun);
        let is_over = now >= self.until() || self.sets.iter().all(is_done);
        is_over.then(|| self.sets.verdict(Some(self.begun)))
    }
}

/// A place among those who wait.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(taken.clone());
        // Given back at once where there was none left.
        (taken.fetch_add(1, Ordering::Relaxed) < SEARCHES_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
