//! Who is typing: a sign that ends by itself when it is not repeated, and with its author's leaving.
use super::id::{RoomName, UserName};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a sign of typing holds. Clients repeat it every few seconds.
pub const TYPING_HOLDS: Duration = Duration::from_secs(6);

/// Whose sign it is: a session's, in a room.
pub type Key = (RoomName, Arc<str>);

/// Signs of typing that hold. At most one for each session and room.
#[derive(Debug, Default)]
pub struct Typing {
    holds: HashMap<Key, (UserName, Instant)>,
    /// When to look at which, in order; for each that holds at least its last one.
    ends: VecDeque<(Instant, Key)>,
    /// Their authors have left.
    left: Vec<(Key, UserName)>,
}

impl Typing {
    /// A session says whether its user is typing.
    pub fn note(&mut self, now: Instant, key: Key, user: UserName, active: bool) {
        if !active {
            self.holds.remove(&key);
            return;
        }
        let until = now + TYPING_HOLDS;
        // What it ended before, it takes back.
        self.left.retain(|(left, _)| *left != key);
        self.holds.insert(key.clone(), (user, until));
        // For each repetition too: so they stay in order.
        let end = (until, key);
        if self.ends.back() != Some(&end) {
            self.ends.push_back(end);
        }
        if self.ends.len() > 2 * self.holds.len() + 64 {
            self.forget_ended();
        }
    }

    /// A session is out of a room.
    pub fn leave(&mut self, key: Key) {
        if let Some((user, _)) = self.holds.remove(&key) {
            self.left.push((key, user));
        }
    }

    /// Takes the signs that have ended without their session's saying so.
    pub fn ended(&mut self, now: Instant) -> Vec<(Key, UserName)> {
        let mut ended = std::mem::take(&mut self.left);
        while let Some((at, _)) = self.ends.front()
            && *at <= now
            && let Some((_, key)) = self.ends.pop_front()
        {
            match self.holds.get(&key).map(|(_, until)| *until) {
                Some(until) if until <= now => {
                    let user = self.holds.remove(&key).map(|(user, _)| user);
                    ended.extend(user.map(|user| (key, user)));
                }
                // It was repeated, or is another one.
                Some(_) | None => {}
            }
        }
        // Others know authors, not sessions: one that types in another tab is typing still.
        if !ended.is_empty() {
            let typing: HashSet<(&RoomName, &UserName)> =
                self.holds.iter().map(|((room, _), (user, _))| (room, user)).collect();
            ended.retain(|((room, _), user)| !typing.contains(&(room, user)));
        }
        ended
    }

    fn forget_ended(&mut self) {
        let holds = &self.holds;
        self.ends.retain(|(at, key)| holds.get(key).is_some_and(|(_, until)| until == at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: &str) -> Key {
        (RoomName::new("r").unwrap(), session.into())
    }

    fn ended(typing: &mut Typing, now: Instant) -> Vec<String> {
        typing.ended(now).into_iter().map(|((_, session), _)| session.to_string()).collect()
    }

    #[test]
    fn a_sign_ends_by_itself_unless_it_is_repeated_or_taken_back() {
        let (mut typing, ann) = (Typing::default(), UserName::new("ann").unwrap());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for session in ["once", "again", "back", "left"] {
            typing.note(start, key(session), UserName::new(session).unwrap(), true);
        }
        typing.note(at(4), key("again"), UserName::new("again").unwrap(), true);
        typing.note(at(4), key("back"), ann, false);
        typing.leave(key("left"));
        typing.leave(key("never typed"));
        assert_eq!(ended(&mut typing, at(4)), ["left"]);
        assert_eq!(ended(&mut typing, at(6)), ["once"]);
        assert_eq!(ended(&mut typing, at(9)), Vec::<String>::new());
        assert_eq!(ended(&mut typing, at(10)), ["again"]);
        assert!(typing.holds.is_empty() && typing.ends.is_empty());
    }

    /// A sign that is repeated does not stand behind others that end later.
    #[test]
    fn a_repeated_sign_ends_on_time_whoever_else_types() {
        let (mut typing, start) = (Typing::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (ms, session) in [(0, "a"), (1000, "a"), (5800, "b")] {
            typing.note(at(ms), key(session), UserName::new(session).unwrap(), true);
        }
        assert_eq!(ended(&mut typing, at(6900)), Vec::<String>::new());
        assert_eq!(ended(&mut typing, at(7000)), ["a"]);
        typing.leave(key("b"));
        typing.note(at(7000), key("b"), UserName::new("b").unwrap(), true);
        assert_eq!(ended(&mut typing, at(7001)), Vec::<String>::new(), "it is back and types");
    }

    #[test]
    fn who_types_in_another_tab_is_typing_still() {
        let (mut typing, ann) = (Typing::default(), UserName::new("ann").unwrap());
        let start = Instant::now();
        typing.note(start, key("first"), ann.clone(), true);
        typing.note(start + Duration::from_secs(3), key("second"), ann, true);
        assert_eq!(ended(&mut typing, start + Duration::from_secs(6)), Vec::<String>::new());
        typing.leave(key("second"));
        assert_eq!(ended(&mut typing, start + Duration::from_secs(7)), ["second"]);
    }

    #[test]
    fn what_is_kept_is_bounded_by_those_who_type() {
        let (mut typing, ann, now) = (Typing::default(), UserName::new("ann").unwrap(), Instant::now());
        for _ in 0..10_000 {
            typing.note(now, key("s"), ann.clone(), true);
            typing.note(now, key("s"), ann.clone(), false);
        }
        assert!(typing.ends.len() <= 128 && typing.holds.is_empty(), "{}", typing.ends.len());
    }
}
