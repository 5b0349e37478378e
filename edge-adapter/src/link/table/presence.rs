//! Who is online in the rooms of this edge, as its core tells: kept here once for all sessions, so that a session that comes is
//! shown a state without asking the core, and a new core's word is compared with what has been shown.
//!
//! A session is shown a state that knows of it. Another core knows those users only who have come back to it:
//! for the presence timeout, nobody is shown as gone, and no smaller number is shown, because the new one has not heard of them yet.
use super::{Instant, RoomId, SessionKey, Table, convert, v1};
use crate::{
    fanout::{post::Post, shared::SharedPresence},
    wire::presence::{Happened, Online, Step, Told},
};
use std::{collections::BTreeMap, mem, sync::Arc};

/// What is known of a room.
#[derive(Debug, Default)]
pub struct Watched {
    /// The number of what was told last.
    n: u64,
    known: Known,
    /// Until the new core has had its time, at least so many are shown.
    floor: Option<u64>,
    /// Sessions that wait to be shown something, and the number of the telling that knows of them.
    awaiting: Vec<(SessionKey, u64)>,
    /// The state as it was made last, for all who come before it changes.
    state: Option<Arc<SharedPresence>>,
}

#[derive(Debug, Default)]
enum Known {
    /// It has been asked for.
    #[default]
    Nothing,
    Named(BTreeMap<Arc<str>, Seen>),
    Counted(u64),
}

#[derive(Debug, Clone)]
struct Seen {
    meta: Arc<str>,
    sessions: u32,
    since_us: u64,
    /// This core has not named the user.
    unnamed: bool,
}

/// What sessions that have been shown something are to be told.
#[derive(Debug, PartialEq, Eq)]
enum Tell {
    Nothing,
    Steps(Vec<Step>),
    /// All of it anew.
    Whole,
}

impl Watched {
    /// All who are online. In a `hold`, who is missing has not come back yet.
    fn state(&mut self, online: Vec<v1::PresenceUser>, hold: bool) -> Tell {
        self.state = None;
        let new: BTreeMap<Arc<str>, Seen> = online.into_iter().map(seen).collect();
        let Known::Named(known) = &mut self.known else {
            let first = matches!(self.known, Known::Nothing);
            self.known = Known::Named(new);
            return if first { Tell::Nothing } else { Tell::Whole };
        };
        let mut steps = Vec::new();
        for user in known.keys().filter(|user| !new.contains_key(*user)).cloned().collect::<Vec<_>>() {
            if hold {
                known.entry(user).and_modify(|seen| seen.unnamed = true);
            } else if let Some(seen) = known.remove(&user) {
                steps.push(Step { happened: Happened::Leave, user, meta: seen.meta });
            }
        }
        new.into_iter().for_each(|(user, seen)| steps.extend(put(known, user, seen)));
        Tell::Steps(steps)
    }

    fn diff(&mut self, diff: v1::PresenceDiff) -> Tell {
        self.state = None;
        let Known::Named(known) = &mut self.known else { return Tell::Nothing };
        let mut steps = Vec::new();
        for gone in diff.gone {
            if let Some((user, seen)) = known.remove_entry(&*gone) {
                steps.push(Step { happened: Happened::Leave, user, meta: seen.meta });
            }
        }
        for online in diff.online {
            let (user, seen) = seen(online);
            steps.extend(put(known, user, seen));
        }
        Tell::Steps(steps)
    }

    fn count(&mut self, count: u64) -> Tell {
        self.state = None;
        match mem::replace(&mut self.known, Known::Counted(count)) {
            Known::Counted(before) if before == count => Tell::Nothing,
            Known::Nothing => Tell::Nothing,
            Known::Counted(_) | Known::Named(_) => Tell::Whole,
        }
    }

    fn number(&self) -> u64 {
        match &self.known {
            Known::Nothing => 0,
            Known::Named(known) => known.len() as u64,
            Known::Counted(count) => *count,
        }
    }

    /// What a session can be shown now that the telling of this number knows of.
    fn since(&mut self, room: &Arc<str>, n: u64) -> Option<Arc<SharedPresence>> {
        match &self.known {
            Known::Named(_) if self.floor.is_none() && self.n < n => None,
            Known::Nothing | Known::Named(_) | Known::Counted(_) => self.whole(room),
        }
    }

    fn whole(&mut self, room: &Arc<str>) -> Option<Arc<SharedPresence>> {
        if let Some(state) = &self.state {
            return Some(Arc::clone(state));
        }
        let told = match (&self.known, self.floor) {
            (Known::Nothing, _) => return None,
            (Known::Named(_) | Known::Counted(_), Some(floor)) => Told::Count(floor),
            (Known::Counted(count), None) => Told::Count(*count),
            (Known::Named(known), None) => Told::State(
                known
                    .iter()
                    .map(|(user, seen)| Online {
                        user: Arc::clone(user),
                        meta: Arc::clone(&seen.meta),
                        sessions: seen.sessions,
                        since_us: seen.since_us,
                    })
                    .collect(),
            ),
        };
        Some(Arc::clone(self.state.insert(Arc::new(SharedPresence::new(Arc::clone(room), told)))))
    }

    /// Another core is asked: it may know fewer for a while.
    fn begin_hold(&mut self) {
        if let Known::Counted(count) = self.known {
            self.floor = Some(self.floor.unwrap_or(0).max(count));
        }
    }

    /// The new core has had its time: its word holds.
    fn end_hold(&mut self) -> Tell {
        self.state = None;
        let counted = self.floor.take().is_some();
        let Known::Named(known) = &mut self.known else {
            return if counted { Tell::Whole } else { Tell::Nothing };
        };
        let unnamed: Vec<Arc<str>> =
            known.iter().filter(|(_, seen)| seen.unnamed).map(|(user, _)| Arc::clone(user)).collect();
        let gone = unnamed.into_iter().filter_map(|user| known.remove_entry(&user));
        let steps = gone.map(|(user, seen)| Step { happened: Happened::Leave, user, meta: seen.meta });
        let steps: Vec<Step> = steps.collect();
        if counted { Tell::Whole } else { Tell::Steps(steps) }
    }
}

/// Takes a user's news in, and says what has happened to it.
fn put(known: &mut BTreeMap<Arc<str>, Seen>, user: Arc<str>, seen: Seen) -> Option<Step> {
    let meta = Arc::clone(&seen.meta);
    match known.insert(Arc::clone(&user), seen) {
        None => Some(Step { happened: Happened::Join, user, meta }),
        Some(before) if before.meta != meta => Some(Step { happened: Happened::Update, user, meta }),
        Some(_) => None,
    }
}

fn seen(online: v1::PresenceUser) -> (Arc<str>, Seen) {
    let Online { user, meta, sessions, since_us } = convert::online(online);
    (user, Seen { meta, sessions, since_us, unnamed: false })
}

impl Table {
    /// A core tells who is online.
    pub(super) fn presence(&mut self, v1::RoomPresence { room: name, n, said }: v1::RoomPresence) {
        let hold = self.hold.is_some();
        let Some((id, room)) = self.rooms.by_name(&name) else { return };
        let Some(watched) = room.watched.as_deref_mut() else { return };
        let tell = match said {
            Some(v1::room_presence::Said::State(state)) => watched.state(state.online, hold),
            Some(v1::room_presence::Said::Count(count)) => watched.count(count),
            Some(v1::room_presence::Said::Diff(diff)) if n == watched.n + 1 => watched.diff(diff),
            Some(v1::room_presence::Said::Diff(_)) if matches!(watched.known, Known::Nothing) => return,
            // Something is missing.
            Some(v1::room_presence::Said::Diff(_)) | None => {
                return self.out.frames.push_back(convert::watch(&name));
            }
        };
        watched.n = n;
        let tell = match (watched.floor, watched.number()) {
            (Some(floor), number) if number <= floor => Tell::Nothing,
            (Some(_), number) => {
                (watched.floor, watched.state) = (Some(number), None);
                Tell::Whole
            }
            (None, _) => tell,
        };
        self.tell_presence(id, tell);
        self.show(id);
    }

    /// A session is in a room and wants to know who is online there. The telling of number `n` knows of it.
    pub(super) fn wants_presence(&mut self, key: SessionKey, id: RoomId, n: u64) {
        let attached = self.is_attached();
        let Some(room) = self.rooms.get_mut(id) else { return };
        let watched = room.watched.get_or_insert_with(|| {
            if attached {
                self.out.frames.push_back(convert::watch(&room.name));
            }
            Box::default()
        });
        // Only this one: the others wait for what the core tells.
        match watched.since(&room.name, n) {
            Some(shared) => self.out.post(key, Post::ShowPresence { session: key, room: id, shared }),
            None => watched.awaiting.push((key, n)),
        }
    }

    /// At another core: what it has not heard of yet is held on to.
    pub(super) fn watch_all(&mut self, other_core: bool) {
        for room in self.rooms.iter_mut() {
            let Some(watched) = room.watched.as_deref_mut() else { continue };
            if other_core {
                watched.begin_hold();
            }
            // It may count anew, and whatever it tells from now on knows of those who wait.
            watched.awaiting.iter_mut().for_each(|(_, n)| *n = 0);
            self.out.frames.push_back(convert::watch(&room.name));
        }
    }

    /// The new core has had its time.
    pub(super) fn end_hold(&mut self, now: Instant) {
        if self.hold.is_none_or(|until| until > now) {
            return;
        }
        self.hold = None;
        for id in self.rooms.ids() {
            let watched = self.rooms.get_mut(id).and_then(|room| room.watched.as_deref_mut());
            if let Some(tell) = watched.map(Watched::end_hold) {
                self.tell_presence(id, tell);
                self.show(id);
            }
        }
    }

    /// Tells all sessions in a room that have been shown something.
    fn tell_presence(&mut self, id: RoomId, tell: Tell) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        let name = Arc::clone(&room.name);
        let Some(watched) = room.watched.as_deref_mut() else { return };
        let shared = match tell {
            Tell::Nothing => return,
            Tell::Steps(steps) if steps.is_empty() => return,
            Tell::Steps(steps) => Arc::new(SharedPresence::new(name, Told::Steps(steps))),
            Tell::Whole => {
                // Goes to those who wait, too.
                watched.awaiting.clear();
                let Some(whole) = watched.whole(&name) else { return };
                whole
            }
        };
        for shard in room.shards() {
            self.out.post_to(shard, Post::Presence { room: id, shared: Arc::clone(&shared) });
        }
    }

    /// Shows those who wait what they can be shown.
    fn show(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        let Some(watched) = room.watched.as_deref_mut() else { return };
        for (key, n) in mem::take(&mut watched.awaiting) {
            // Who has left, or is on the way in again, is not shown anything; the latter waits anew then.
            if room.members.get(&key).is_none_or(|member| !member.live) {
                continue;
            }
            match watched.since(&room.name, n) {
                Some(shared) => self.out.post(key, Post::ShowPresence { session: key, room: id, shared }),
                None => watched.awaiting.push((key, n)),
            }
        }
    }
}
