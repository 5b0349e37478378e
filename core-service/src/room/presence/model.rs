//! Presence against a naive model: whatever comes between, it ends with exactly the live set, and whoever watches can tell so
//! from what was told.
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const RULES: Rules = Rules { timeout: Duration::from_secs(5), max: 3 };

/// One step of the world. Users have four sessions each, which come by one of three streams.
#[derive(Debug, Clone)]
enum Step {
    Enter {
        user: u8,
        session: u8,
        origin: u8,
        meta: Option<u8>,
    },
    SetMeta {
        user: u8,
        session: u8,
        meta: u8,
    },
    Leave {
        user: u8,
        session: u8,
    },
    Vanish {
        user: u8,
        session: u8,
    },
    /// A sign of life without a session.
    Visit {
        user: u8,
        meta: Option<u8>,
    },
    /// A stream ends without a word.
    Die(u8),
    Watch,
    /// Time passes, in milliseconds, and what has become due is told.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (user, session, origin) = (0u8..6, 0u8..4, 0u8..3);
    let of = || (user.clone(), session.clone());
    let step = prop_oneof![
        6 => (of(), origin.clone(), prop::option::of(0u8..3))
            .prop_map(|((user, session), origin, meta)| Step::Enter { user, session, origin, meta }),
        2 => (of(), 0u8..3).prop_map(|((user, session), meta)| Step::SetMeta { user, session, meta }),
        4 => of().prop_map(|(user, session)| Step::Leave { user, session }),
        3 => of().prop_map(|(user, session)| Step::Vanish { user, session }),
        2 => (user, prop::option::of(0u8..3)).prop_map(|(user, meta)| Step::Visit { user, meta }),
        1 => origin.prop_map(Step::Die),
        1 => Just(Step::Watch),
        4 => prop_oneof![1u64..60, 900u64..1100, 2000u64..6000].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

fn name(user: u8) -> UserName {
    UserName::new(&format!("u{user}")).unwrap()
}

fn id(session: u8) -> Arc<str> {
    format!("s{session}").into()
}

fn origin(number: u8) -> Arc<Origin> {
    Arc::new(Origin { node: "core".into(), edge: "edge".into(), stream: number.into() })
}

fn json(meta: u8) -> Bytes {
    Bytes::from(format!("{{\"m\":{meta}}}"))
}

/// The stream that an entry came by, and what it has set when.
type Entry = (u8, Option<(usize, u8)>);

/// What is so, told from a diary: no counters, no lists of changes.
#[derive(Default)]
struct Truth {
    /// By user and session.
    live: BTreeMap<(u8, u8), Entry>,
    /// Of users: what a session that vanished had set, and how long the user stays.
    ghosts: BTreeMap<u8, (usize, u8)>,
    graces: BTreeMap<u8, Instant>,
    sets: usize,
}

impl Truth {
    fn is_online(&self, user: u8, now: Instant) -> bool {
        self.live.keys().any(|(of, _)| *of == user)
            || self.graces.get(&user).is_some_and(|until| now < *until)
    }

    fn go(&mut self, user: u8, session: u8, now: Instant, vanished: bool) {
        let Some((_, meta)) = self.live.remove(&(user, session)) else { return };
        let last = !self.live.keys().any(|(of, _)| *of == user);
        if vanished {
            let others = self.live.iter().filter(|((of, _), _)| *of == user);
            if let Some(meta) = meta
                && others.clone().all(|(_, (_, set))| set.is_none())
                && self.ghosts.get(&user).is_none_or(|ghost| ghost.0 < meta.0)
            {
                self.ghosts.insert(user, meta);
            }
            if last {
                self.graces.insert(user, now + RULES.timeout);
            }
        } else if last {
            self.graces.remove(&user);
            self.ghosts.remove(&user);
        }
    }

    /// Who is online, with what, and how often.
    fn online(&self, now: Instant) -> BTreeMap<String, (Bytes, u32)> {
        let users = (0..6).filter(|user| self.is_online(*user, now));
        let online = users.map(|user| {
            let sessions = self.live.iter().filter(|((of, _), _)| *of == user);
            let set = sessions.clone().filter_map(|(_, (_, meta))| *meta);
            let meta = set.chain(self.ghosts.get(&user).copied()).max();
            let meta = meta.map_or(Bytes::from_static(b"{}"), |(_, meta)| json(meta));
            (format!("u{user}"), (meta, sessions.count() as u32))
        });
        online.collect()
    }
}

/// One who watches.
struct Observer {
    n: u64,
    view: View,
}

#[derive(Debug, PartialEq, Eq)]
enum View {
    Named(BTreeMap<String, (Bytes, u32)>),
    Counted(usize),
}

fn row(online: &Online) -> (String, (Bytes, u32)) {
    (online.user.as_str().to_owned(), (online.meta.clone(), online.sessions))
}

impl Observer {
    fn new((n, told): (u64, Told)) -> Self {
        let view = match told {
            Told::State(all) => View::Named(all.iter().map(row).collect()),
            Told::Count(count) => View::Counted(count),
            Told::Diff(_) => panic!("a diff of nothing"),
        };
        Self { n, view }
    }

    fn take(&mut self, (n, told): &(u64, Told)) {
        assert_eq!(*n, self.n + 1, "nothing is left out");
        self.n = *n;
        match (told, &mut self.view) {
            (Told::Diff(changes), View::Named(view)) => {
                for change in changes {
                    let (user, now) = row(change.online());
                    match change {
                        Change::Join(_) => assert_eq!(view.insert(user, now), None, "joins once"),
                        Change::Leave(_) => assert!(view.remove(&user).is_some(), "was there"),
                        Change::Update(_) => assert_ne!(view.insert(user, now.clone()).unwrap().0, now.0),
                        Change::Sessions(_) => {
                            let before = view.insert(user, now.clone()).unwrap();
                            assert!(before.0 == now.0 && before != now);
                        }
                    }
                }
            }
            (Told::Diff(_), View::Counted(_)) => panic!("who is not told while they are counted"),
            (Told::State(all), View::Counted(_)) => self.view = View::Named(all.iter().map(row).collect()),
            (Told::State(_), View::Named(_)) => panic!("a state of one's own accord only after counts"),
            (Told::Count(count), view) => *view = View::Counted(*count),
        }
    }
}

proptest! {
    #[test]
    fn ends_with_exactly_the_live_set_and_all_who_watch_know_it(steps in steps()) {
        let mut now = Instant::now();
        let (mut presence, mut truth) = (Presence::default(), Truth::default());
        let mut observers = vec![Observer::new(presence.state(now, &RULES).1)];
        let mut last_told: Option<Instant> = None;
        // In the end all is told: the longest that anything waits.
        for step in steps.into_iter().chain([Step::Wait(1000), Step::Wait(5000), Step::Wait(1000)]) {
            match step {
                Step::Visit { user, meta } => {
                    presence.visit(now, 0, &RULES, &name(user), meta.map(json));
                    truth.sets += 1;
                    if !truth.is_online(user, now) {
                        truth.ghosts.remove(&user);
                    }
                    if let Some(meta) = meta {
                        truth.ghosts.insert(user, (truth.sets, meta));
                    }
                    if !truth.live.keys().any(|(of, _)| *of == user) {
                        truth.graces.insert(user, now + RULES.timeout);
                    }
                }
                Step::Enter { user, session, origin: from, meta } => {
                    let origin = origin(from);
                    let entering = Entering { user: name(user), session: id(session), origin, meta: meta.map(json) };
                    presence.enter(now, 0, entering);
                    truth.sets += 1;
                    if !truth.is_online(user, now) {
                        truth.ghosts.remove(&user);
                    }
                    truth.graces.remove(&user);
                    if meta.is_some() {
                        truth.ghosts.remove(&user);
                    }
                    let before = truth.live.get(&(user, session)).and_then(|(_, meta)| *meta);
                    let meta = meta.map(|meta| (truth.sets, meta)).or(before);
                    truth.live.insert((user, session), (from, meta));
                }
                Step::SetMeta { user, session, meta } => {
                    truth.sets += 1;
                    let set = truth.sets;
                    let there = truth.live.get_mut(&(user, session)).map(|entry| entry.1 = Some((set, meta))).is_some();
                    prop_assert_eq!(presence.set_meta(now, &name(user), &id(session), json(meta)), there);
                    if there {
                        truth.ghosts.remove(&user);
                    }
                }
                Step::Leave { user, session } => {
                    if let Some((from, _)) = truth.live.get(&(user, session)).cloned() {
                        // Another stream's word about it counts for nothing.
                        presence.leave(now, &name(user), &id(session), &origin((from + 1) % 3));
                        presence.leave(now, &name(user), &id(session), &origin(from));
                    }
                    truth.go(user, session, now, false);
                }
                Step::Vanish { user, session } => {
                    if let Some((from, _)) = truth.live.get(&(user, session)).cloned() {
                        presence.vanish(now, &RULES, &name(user), &id(session), &origin((from + 1) % 3));
                        presence.vanish(now, &RULES, &name(user), &id(session), &origin(from));
                    }
                    truth.go(user, session, now, true);
                }
                Step::Die(from) => {
                    let its: Vec<(u8, u8)> =
                        truth.live.iter().filter(|(_, entry)| entry.0 == from).map(|(key, _)| *key).collect();
                    for (user, session) in its {
                        presence.vanish(now, &RULES, &name(user), &id(session), &origin(from));
                        truth.go(user, session, now, true);
                    }
                }
                Step::Watch => {
                    let (before, state) = presence.state(now, &RULES);
                    if let Some(told) = before {
                        observers.iter_mut().for_each(|observer| observer.take(&told));
                    }
                    let observer = Observer::new(state);
                    if let View::Named(view) = &observer.view {
                        prop_assert_eq!(view, &truth.online(now), "a state is of this very moment");
                    }
                    prop_assert_eq!(&observer.view, &observers[0].view, "and the same for all");
                    observers.push(observer);
                }
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    while let Some(told) = presence.tell(now, &RULES) {
                        let counted = matches!(told.1, Told::Count(_));
                        prop_assert!(!counted || !matches!(observers[0].view, View::Counted(_))
                            || last_told.is_none_or(|last| now >= last + COUNT_EVERY), "at most once a second");
                        if counted {
                            last_told = Some(now);
                        }
                        observers.iter_mut().for_each(|observer| observer.take(&told));
                    }
                    prop_assert!(presence.due().is_none_or(|due| due > now), "all that is due is done");
                }
            }
            prop_assert_eq!(presence.sessions(), truth.live.len());
            prop_assert!(presence.ends.len() <= 2 * 6 + 65);
        }
        let online = truth.online(now);
        prop_assert_eq!(presence.count(), online.len());
        let listed: BTreeMap<_, _> = presence.list("", 10).iter().map(row).collect();
        prop_assert_eq!(&listed, &online);
        for observer in &observers {
            let expected = match online.len() > RULES.max {
                true => View::Counted(online.len()),
                false => View::Named(online.clone()),
            };
            prop_assert_eq!(&observer.view, &expected);
        }
        prop_assert_eq!(presence.is_empty(), online.is_empty(), "nothing is kept of those who have gone");
    }
}

fn entering(user: u8, session: u8, from: u8) -> Entering {
    Entering { user: name(user), session: id(session), origin: origin(from), meta: None }
}

/// What comes within the coalescing time is told together, and what went again is not told.
#[test]
fn changes_that_follow_each_other_are_told_together() {
    let (start, mut presence) = (Instant::now(), Presence::default());
    presence.enter(start, 0, entering(0, 0, 0));
    assert_eq!(presence.due(), Some(start), "in a quiet room it is told at once");
    assert!(presence.tell(start, &RULES).is_some());
    let soon = start + Duration::from_millis(10);
    presence.enter(soon, 0, entering(1, 1, 0));
    presence.enter(soon, 0, entering(2, 2, 0));
    presence.leave(soon, &name(2), "s2", &origin(0));
    assert!(presence.tell(soon, &RULES).is_none());
    assert_eq!(presence.due(), Some(start + COALESCE));
    let Some((2, Told::Diff(changes))) = presence.tell(start + COALESCE, &RULES) else { panic!("a diff") };
    assert!(matches!(&changes[..], [Change::Join(one)] if one.user == name(1)), "{changes:?}");
    assert_eq!(presence.due(), None);
}

/// One session vanishes, another comes back and closes in good order: gone at once, and no ghost of the first.
#[test]
fn a_return_ends_the_grace_and_a_clean_end_is_at_once() {
    let (start, mut presence) = (Instant::now(), Presence::default());
    presence.enter(start, 0, entering(0, 0, 0));
    presence.vanish(start, &RULES, &name(0), "s0", &origin(0));
    let later = start + Duration::from_secs(4);
    presence.enter(later, 0, entering(0, 1, 1));
    presence.leave(later, &name(0), "s1", &origin(1));
    assert_eq!((presence.count(), presence.sessions()), (0, 0));
    presence.tell(start + Duration::from_secs(60), &RULES);
    assert!(presence.is_empty());
}

/// The same session by another stream: the word of the old one, late as it comes, ends nothing.
#[test]
fn a_session_that_came_by_another_way_is_not_ended_by_the_old_one() {
    let (now, mut presence) = (Instant::now(), Presence::default());
    presence.enter(now, 0, entering(0, 0, 0));
    presence.enter(now, 0, entering(0, 0, 1));
    presence.vanish(now, &RULES, &name(0), "s0", &origin(0));
    assert_eq!((presence.count(), presence.sessions()), (1, 1));
}

/// A sign of life without a session keeps its user online for the timeout; what it sets is shown until a session sets another.
#[test]
fn a_sign_of_life_without_a_session_holds_for_the_timeout() {
    let (start, mut presence) = (Instant::now(), Presence::default());
    let shown = |presence: &Presence| {
        let online = presence.list("", 1).pop().map(|one| (one.meta, one.sessions));
        online.map(|(meta, sessions)| (String::from_utf8(meta.to_vec()).unwrap(), sessions))
    };
    let meta = |json: &str, sessions| Some((json.to_owned(), sessions));
    presence.visit(start, 0, &RULES, &name(0), Some(json(1)));
    let later = start + Duration::from_secs(4);
    presence.visit(later, 0, &RULES, &name(0), None);
    assert!(presence.tell(start + RULES.timeout, &RULES).is_some(), "it is told to be here");
    assert_eq!(shown(&presence), meta(r#"{"m":1}"#, 0));
    // A session that has set something is not disturbed, and shows what was set last.
    presence.enter(later, 0, Entering { meta: Some(json(2)), ..entering(0, 1, 0) });
    presence.visit(later, 0, &RULES, &name(0), Some(json(3)));
    assert_eq!(shown(&presence), meta(r#"{"m":3}"#, 1));
    presence.set_meta(later, &name(0), "s1", json(4));
    assert_eq!(shown(&presence), meta(r#"{"m":4}"#, 1));
    presence.leave(later, &name(0), "s1", &origin(0));
    assert_eq!(presence.count(), 0, "whoever leaves has left");
    presence.visit(later, 0, &RULES, &name(0), None);
    assert_eq!(shown(&presence), meta("{}", 0), "what was set before is over");
    let end = later + RULES.timeout;
    while presence.tell(end, &RULES).is_some() {}
    assert_eq!(presence.count(), 0);
}
