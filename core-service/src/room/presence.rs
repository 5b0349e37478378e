//! Who is online in a room, and what those who watch are told of it.
//!
//! A user is online from the first session's `enter` until the last has left. A session that vanishes may come back: when it was
//! the user's last, the user stays for the timeout, and any session's return ends that. Users are counted by sessions, so a second
//! tab neither joins nor leaves.
//!
//! A user's meta is the newest that a live session has set, or that the user has set without one. Where there is none, that of a session that
//! vanished holds on, so that a page that reloads and sets nothing shows what it showed.
//!
//! What is told is the difference between what was told before and what is so now: changes within [`COALESCE`] come together, and
//! what came and went in between is not told at all. A room of more than `max` users has only their number told.
use super::id::UserName;
use bytes::Bytes;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long changes wait for others, once something has been told: short enough to be called at once by a person.
pub const COALESCE: Duration = Duration::from_millis(50);
/// How often the number of users in a big room is told at most.
pub const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What holds for a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long a user who has vanished stays online.
    pub timeout: Duration,
    /// In a room of more users only their number is told.
    pub max: usize,
}

/// Who vouches for an entry: a stream to a core. When it ends without a word, all its entries have vanished.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The core, under another id after each start.
    pub node: Arc<str>,
    /// The edge, under another id after each start; empty where a service speaks to the core itself.
    pub edge: Arc<str>,
    /// The stream's number on that core.
    pub stream: u64,
}

/// A session that is online.
#[derive(Debug, Clone)]
pub struct Entering {
    /// Its user.
    pub user: UserName,
    /// Its id: entering again replaces the entry, whatever its origin.
    pub session: Arc<str>,
    /// Who vouches for it.
    pub origin: Arc<Origin>,
    /// What it has set.
    pub meta: Option<Bytes>,
}

/// A user who is online, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Online {
    /// Who.
    pub user: UserName,
    /// Of all metas that its sessions have set, the newest: a JSON object.
    pub meta: Bytes,
    /// How many sessions it has; 0 when all have vanished and may come back.
    pub sessions: u32,
    /// Since when, in microseconds since 1970.
    pub since_us: u64,
}

/// What has changed about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is online.
    Join(Online),
    /// Its meta is another.
    Update(Online),
    /// Only the number of its sessions is another: nothing that a person would be told.
    Sessions(Online),
    /// It is online no longer.
    Leave(Online),
}

impl Change {
    /// The user as it is now, or was last.
    pub fn online(&self) -> &Online {
        match self {
            Change::Join(online)
            | Change::Update(online)
            | Change::Sessions(online)
            | Change::Leave(online) => online,
        }
    }
}

/// What those who watch are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// All who are online.
    State(Vec<Online>),
    /// What has changed since; nothing, where all that happened came to nothing.
    Diff(Vec<Change>),
    /// How many are online: who is not told any more.
    Count(usize),
}

/// A room's presence.
#[derive(Debug, Default)]
pub struct Presence {
    users: HashMap<UserName, User>,
    online: usize,
    sessions: usize,
    /// Orders what sessions set.
    sets: u64,
    /// How often something was told to all.
    n: u64,
    mode: Mode,
    /// Users about whom something may have changed since the last telling, and when that began.
    changed: Vec<UserName>,
    changed_at: Option<Instant>,
    /// Nothing is told before.
    quiet_until: Option<Instant>,
    /// When whose grace ends, in order.
    ends: VecDeque<(Instant, UserName)>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Mode {
    /// Everyone is told by name.
    #[default]
    Named,
    /// Only their number is told: this one, then.
    Counted { count: usize, at: Instant },
}

#[derive(Debug)]
struct User {
    entries: Vec<Entry>,
    since_us: u64,
    /// What a vanished session had set, or what was set without a session, as long as no session has set anything since.
    ghost: Option<Box<Meta>>,
    /// All sessions have vanished; until then one may come back.
    grace: Option<Instant>,
    /// As it was told last; none if it was not, or has been told to be gone.
    told: Option<Box<Online>>,
    /// It stands in the list of those changed.
    changed: bool,
}

#[derive(Debug)]
struct Entry {
    session: Arc<str>,
    origin: Arc<Origin>,
    meta: Option<Box<Meta>>,
}

#[derive(Debug, Clone)]
struct Meta {
    set: u64,
    json: Bytes,
}

impl Presence {
    /// A session is online. The number of the telling that will know of it.
    pub fn enter(&mut self, now: Instant, micros: u64, entering: Entering) -> u64 {
        let Entering { user: name, session, origin, meta } = entering;
        self.sets += 1;
        let meta = meta.map(|json| Box::new(Meta { set: self.sets, json }));
        let user = self.users.entry(name.clone()).or_insert_with(|| User::new(micros));
        if !user.is_online() {
            // It was gone, though not everyone has been told.
            (user.since_us, user.ghost) = (micros, None);
            self.online += 1;
        }
        user.grace = None;
        if meta.is_some() {
            user.ghost = None;
        }
        match user.entries.iter_mut().find(|entry| entry.session == session) {
            Some(entry) => {
                entry.origin = origin;
                entry.meta = meta.or(entry.meta.take());
            }
            None => {
                // Most have one session: room for exactly that.
                if user.entries.is_empty() {
                    user.entries.reserve_exact(1);
                }
                user.entries.push(Entry { session, origin, meta });
                self.sessions += 1;
            }
        }
        self.note(now, &name);
        self.n + 1
    }

    /// A session sets its meta. False if it is not here.
    pub fn set_meta(&mut self, now: Instant, name: &UserName, session: &str, json: Bytes) -> bool {
        self.sets += 1;
        let set = self.sets;
        let Some(user) = self.users.get_mut(name) else { return false };
        let Some(entry) = user.entries.iter_mut().find(|entry| *entry.session == *session) else {
            return false;
        };
        entry.meta = Some(Box::new(Meta { set, json }));
        user.ghost = None;
        self.note(now, name);
        true
    }

    /// A session has left: with the last one its user is gone at once. Not if it came back by another way meanwhile.
    pub fn leave(&mut self, now: Instant, name: &UserName, session: &str, origin: &Origin) {
        let Some(user) = self.users.get_mut(name) else { return };
        if user.take(session, origin).is_none() {
            return;
        }
        self.sessions -= 1;
        if user.entries.is_empty() {
            self.online -= 1;
        }
        self.note(now, name);
    }

    /// A session is gone without a word, and may come back. Not if it already has, by another way.
    pub fn vanish(&mut self, now: Instant, rules: &Rules, name: &UserName, session: &str, origin: &Origin) {
        let Some(user) = self.users.get_mut(name) else { return };
        let Some(entry) = user.take(session, origin) else { return };
        self.sessions -= 1;
        if let Some(meta) = entry.meta
            && user.entries.iter().all(|entry| entry.meta.is_none())
            && user.ghost.as_ref().is_none_or(|ghost| ghost.set < meta.set)
        {
            user.ghost = Some(meta);
        }
        if user.entries.is_empty() {
            self.begin_grace(now + rules.timeout, name);
        }
        self.note(now, name);
    }

    /// A user gives a sign of life without having a session here: it is online from now on for the timeout, where no session
    /// keeps it so. What it sets is its newest word, until a session sets another.
    pub fn visit(&mut self, now: Instant, micros: u64, rules: &Rules, name: &UserName, meta: Option<Bytes>) {
        self.sets += 1;
        let set = self.sets;
        let user = self.users.entry(name.clone()).or_insert_with(|| User::new(micros));
        if !user.is_online() {
            (user.since_us, user.ghost) = (micros, None);
            self.online += 1;
        }
        if let Some(json) = meta {
            user.ghost = Some(Box::new(Meta { set, json }));
        }
        if user.entries.is_empty() {
            self.begin_grace(now + rules.timeout, name);
        }
        self.note(now, name);
    }

    fn begin_grace(&mut self, until: Instant, name: &UserName) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.grace = Some(until);
        self.ends.push_back((until, name.clone()));
        // A user that vanishes over and over leaves ends behind that mean nothing any more.
        if self.ends.len() > 2 * self.users.len() + 64 {
            let users = &self.users;
            self.ends.retain(|(at, name)| users.get(name).is_some_and(|user| user.grace == Some(*at)));
        }
    }

    /// How many users are online.
    pub fn count(&self) -> usize {
        self.online
    }

    /// How many sessions they have.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// There is nothing to be known or told any more.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.changed.is_empty()
    }

    /// Who is online, in order of names, after `after`.
    pub fn list(&self, after: &str, limit: usize) -> Vec<Online> {
        let online = self.users.iter().filter(|(name, user)| user.is_online() && name.as_str() > after);
        let mut online: Vec<Online> = online.map(|(name, user)| user.online(name)).collect();
        online.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        online.truncate(limit);
        online
    }

    /// When [`Presence::tell`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let tell = self.changed_at.map(|since| match self.mode {
            Mode::Named => self.quiet_until.map_or(since, |until| until.max(since)),
            Mode::Counted { at, .. } => (at + COUNT_EVERY).max(since),
        });
        let end = self.ends.front().map(|(at, _)| *at);
        tell.into_iter().chain(end).min()
    }

    /// Ends what has run out, and says what all who watch are to be told now, with its number.
    pub fn tell(&mut self, now: Instant, rules: &Rules) -> Option<(u64, Told)> {
        self.expire(now);
        if self.changed_at.is_none_or(|_| self.due().is_none_or(|due| due > now)) {
            return None;
        }
        self.tell_all(now, rules)
    }

    /// What one who begins to watch is told, and what all others must be told before.
    pub fn state(&mut self, now: Instant, rules: &Rules) -> (Option<(u64, Told)>, (u64, Told)) {
        self.expire(now);
        let before = match self.mode {
            Mode::Named => self.tell_all(now, rules),
            Mode::Counted { .. } => None,
        };
        let state = match self.mode {
            Mode::Named => {
                Told::State(self.users.values().filter_map(|user| user.told.as_deref().cloned()).collect())
            }
            // As all others were told: what has changed since, everyone will be told alike.
            Mode::Counted { count, .. } => Told::Count(count),
        };
        (before, (self.n, state))
    }

    fn tell_all(&mut self, now: Instant, rules: &Rules) -> Option<(u64, Told)> {
        self.changed_at = None;
        let crowded = self.online > rules.max;
        let told = match self.mode {
            Mode::Named if crowded => {
                self.forget_told();
                self.count_now(now)
            }
            Mode::Named => {
                let changed = std::mem::take(&mut self.changed);
                if changed.is_empty() {
                    return None;
                }
                // Told even where nothing has changed after all: somebody may wait for this number.
                let changes = changed.into_iter().filter_map(|name| self.change(&name)).collect();
                self.quiet_until = Some(now + COALESCE);
                Told::Diff(changes)
            }
            Mode::Counted { .. } if !crowded => {
                self.mode = Mode::Named;
                self.quiet_until = Some(now + COALESCE);
                Told::State(self.tell_everyone())
            }
            Mode::Counted { count, .. } if count == self.online => return None,
            Mode::Counted { .. } => self.count_now(now),
        };
        self.n += 1;
        Some((self.n, told))
    }

    fn count_now(&mut self, now: Instant) -> Told {
        self.mode = Mode::Counted { count: self.online, at: now };
        Told::Count(self.online)
    }

    /// What is to be told of a user. Forgets one of whom there is nothing more to tell.
    fn change(&mut self, name: &UserName) -> Option<Change> {
        let user = self.users.get_mut(name)?;
        user.changed = false;
        if !user.is_online() {
            let told = self.users.remove(name).and_then(|user| user.told);
            return told.map(|told| Change::Leave(*told));
        }
        let online = user.online(name);
        match user.told.replace(Box::new(online.clone())) {
            None => Some(Change::Join(online)),
            Some(before) if before.meta != online.meta => Some(Change::Update(online)),
            Some(before) if *before != online => Some(Change::Sessions(online)),
            Some(_) => None,
        }
    }

    fn forget_told(&mut self) {
        self.changed.clear();
        self.users.retain(|_, user| {
            (user.told, user.changed) = (None, false);
            user.is_online()
        });
    }

    fn tell_everyone(&mut self) -> Vec<Online> {
        let all = self.users.iter_mut().filter(|(_, user)| user.is_online());
        all.map(|(name, user)| (**user.told.insert(Box::new(user.online(name)))).clone()).collect()
    }

    /// Something about a user may be other than it was.
    fn note(&mut self, now: Instant, name: &UserName) {
        self.changed_at.get_or_insert(now);
        let Some(user) = self.users.get_mut(name) else { return };
        match self.mode {
            Mode::Named if !user.changed => {
                user.changed = true;
                self.changed.push(name.clone());
            }
            Mode::Named => {}
            Mode::Counted { .. } if !user.is_online() => {
                self.users.remove(name);
            }
            Mode::Counted { .. } => {}
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.ends.front()
            && *at <= now
            && let Some((_, name)) = self.ends.pop_front()
        {
            let Some(user) = self.users.get_mut(&name) else { continue };
            if user.grace.take_if(|until| *until <= now).is_some() {
                self.online -= 1;
                self.note(now, &name);
            }
        }
    }
}

impl User {
    fn new(since_us: u64) -> Self {
        Self { entries: Vec::new(), since_us, ghost: None, grace: None, told: None, changed: false }
    }

    fn is_online(&self) -> bool {
        !self.entries.is_empty() || self.grace.is_some()
    }

    /// Takes an entry out, if it is still this origin's.
    fn take(&mut self, session: &str, origin: &Origin) -> Option<Entry> {
        let is = |entry: &Entry| *entry.session == *session && *entry.origin == *origin;
        let at = self.entries.iter().position(is)?;
        Some(self.entries.swap_remove(at))
    }

    fn meta(&self) -> Bytes {
        let metas =
            self.entries.iter().filter_map(|entry| entry.meta.as_deref()).chain(self.ghost.as_deref());
        metas.max_by_key(|meta| meta.set).map_or(Bytes::from_static(b"{}"), |meta| meta.json.clone())
    }

    fn online(&self, name: &UserName) -> Online {
        let sessions = self.entries.len() as u32;
        Online { user: name.clone(), meta: self.meta(), sessions, since_us: self.since_us }
    }
}

#[cfg(test)]
mod model;
