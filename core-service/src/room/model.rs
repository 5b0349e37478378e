//! Property tests of a whole room against a naive model: the engine's log, the hub's feed and the seam of joining, together.
mod life;

use super::{
    Now,
    event::{Event, Payload},
    feed::{Feed, Offer},
    history::{Page, Range},
    log::{Log, Published, Retention},
    position::{Epoch, Position},
    seam::{Read, Start, splice},
    testing::{event, new_event},
};
use bytes::Bytes;
use life::{KEEP, Known, Life};
use proptest::prelude::*;
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// One step of the world.
#[derive(Debug, Clone)]
enum Step {
    /// Publishes, with one of a few ids or none; a large one fills a page alone, and two of them the tail.
    Publish { user: u8, id: Option<u8>, large: bool },
    /// Publishes more than the tail holds, and it reaches the hub at once.
    Burst,
    /// So many of the engine's next events reach the hub.
    Arrive(u8),
    /// A session that is not in the room begins to join, with what it brings.
    Join(usize, Brings),
    /// Whatever is next for a session's join or pull: it reads history, it takes its turn, which may be its last try, it begins to pull the
    /// next page.
    Go { session: usize, last_try: bool },
    /// A session leaves, or its stream ends in the middle of a join or pull.
    Leave(usize),
    /// Time passes, in tenths of the ttl.
    Wait(u8),
    /// The engine loses everything and numbers anew, from here; so many of its first events never reach the hub.
    Restart { base: u64, lost: u64 },
}

/// What a session brings to a join.
#[derive(Debug, Clone)]
enum Brings {
    /// Where it left off.
    Last,
    /// A position so far behind the room's.
    Behind(u64),
    /// A position so far ahead of the room's.
    Ahead(u64),
    /// A position so far behind the room's, but of an epoch that never was.
    OtherEpoch(u64),
    /// No position: it wants the newest events.
    Newest(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let brings = prop_oneof![
        4 => Just(Brings::Last),
        4 => (0u64..12).prop_map(Brings::Behind),
        1 => (1u64..4).prop_map(Brings::Ahead),
        1 => (0u64..4).prop_map(Brings::OtherEpoch),
        3 => (0usize..10).prop_map(Brings::Newest),
    ];
    let step = prop_oneof![
        9 => (0u8..2, prop::option::of(0u8..4), prop::bool::weighted(0.3))
            .prop_map(|(user, id, large)| Step::Publish { user, id, large }),
        1 => Just(Step::Burst),
        6 => (1u8..6).prop_map(Step::Arrive),
        4 => (0..SESSIONS, brings).prop_map(|(session, brings)| Step::Join(session, brings)),
        12 => (0..SESSIONS, prop::bool::weighted(0.2))
            .prop_map(|(session, last_try)| Step::Go { session, last_try }),
        2 => (0..SESSIONS).prop_map(Step::Leave),
        1 => (1u8..8).prop_map(Step::Wait),
        1 => (0u64..12, 0u64..4).prop_map(|(base, lost)| Step::Restart { base, lost }),
    ];
    prop::collection::vec(step, 1..120)
}

const SESSIONS: usize = 3;
/// Two small events.
const PAGE_BYTES: usize = 400;
const LARGE: &[u8] = &[b' '; 40_000];
/// As the feed's: of large events, one.
const TAIL_EVENTS: usize = 64;
const TAIL_BYTES: usize = 64 * 1024;

type Checked = Result<(), TestCaseError>;

/// A join or a pull under way.
struct Ask {
    start: Start,
    read: Option<WasRead>,
}

/// What a session has read, and what the naive model knows of that moment.
struct WasRead {
    position: Position,
    floor: u64,
    after: u64,
    page: Page,
    kept: Vec<u64>,
    recovers: bool,
}

/// Where a session is in the room: what it was told, and what it has seen since.
struct Place {
    epoch: Epoch,
    from: u64,
    seen: Vec<u64>,
    live: bool,
}

impl Place {
    fn reached(&self) -> u64 {
        self.seen.last().copied().unwrap_or(self.from)
    }
}

#[derive(Default)]
struct Session {
    last: Option<Position>,
    ask: Option<Ask>,
    place: Option<Place>,
}

/// What a turn is to give.
struct Due {
    recovered: Option<bool>,
    from: u64,
    again: Again,
}

/// Whether there is to be another read first, and what there is in the last try.
#[derive(Debug, PartialEq, Eq)]
enum Again {
    No,
    /// What was read is of another numbering than the feed's, or the feed is not there yet.
    AtLastNothing,
    /// More came since the read than the tail holds.
    AtLastAPage,
}

struct World {
    now: Now,
    log: Log,
    feed: Feed<Arc<Event>>,
    /// Where the feed's numbering began for it.
    feed_began: u64,
    on_the_way: VecDeque<(Epoch, Arc<Event>)>,
    lives: Vec<Life>,
    publishes: usize,
    sessions: [Session; SESSIONS],
}

impl World {
    fn new() -> Self {
        let start = Position { epoch: Epoch::new("e0"), seq: 0 };
        Self {
            now: Now::read(),
            log: Log::new(start.clone()),
            feed: Feed::new(start.clone()),
            feed_began: 0,
            on_the_way: VecDeque::new(),
            lives: vec![Life { epoch: start.epoch, base: 0, lost: 0, published: Vec::new() }],
            publishes: 0,
            sessions: Default::default(),
        }
    }

    /// The engine's life; the feed's may be an earlier one.
    fn life(&self) -> &Life {
        self.lives.last().unwrap()
    }

    fn life_of(&self, epoch: &Epoch) -> &Life {
        self.lives.iter().find(|life| life.epoch == *epoch).unwrap()
    }

    fn step(&mut self, step: Step) -> Checked {
        match step {
            Step::Publish { user, id, large } => self.publish(user, id, large)?,
            Step::Burst => {
                self.publish(0, None, true)?;
                self.publish(1, None, true)?;
                while !self.on_the_way.is_empty() {
                    self.arrive()?;
                }
            }
            Step::Arrive(count) => (0..count).try_for_each(|_| self.arrive())?,
            Step::Join(session, brings) => self.join(session, &brings),
            Step::Go { session, last_try } => self.go(session, last_try)?,
            Step::Leave(session) => self.leave(session),
            Step::Wait(tenths) => self.now = self.now.after(KEEP.ttl * u32::from(tenths) / 10),
            Step::Restart { base, lost } => {
                let epoch = Epoch::new(&format!("e{}", self.lives.len()));
                self.log = Log::new(Position { epoch: epoch.clone(), seq: base });
                self.lives.push(Life { epoch, base, lost, published: Vec::new() });
            }
        }
        self.nobody_misses_anything()
    }

    /// Each session has seen exactly the events after its place, once, in order: all of them if it is live.
    fn nobody_misses_anything(&self) -> Checked {
        let top = self.feed.position();
        let tail = top.seq.checked_sub(1).and_then(|before| self.feed.since(before));
        prop_assert!(tail.is_none() || self.tail_is_needed(), "a tail that nobody needs");
        for place in self.sessions.iter().filter_map(|session| session.place.as_ref()) {
            prop_assert_eq!(&place.epoch, &top.epoch, "a new epoch is told");
            let to = if place.live { top.seq } else { place.reached() };
            let expected: Vec<u64> = (place.from + 1..=to).collect();
            prop_assert_eq!(&place.seen, &expected, "live: {}", place.live);
            prop_assert!(to <= top.seq);
        }
        Ok(())
    }

    fn publish(&mut self, user: u8, id: Option<u8>, large: bool) -> Checked {
        let name = id.map(|id| format!("id{id}"));
        let mut new = new_event("r", &format!("u{user}"), name.as_deref());
        // No two events are alike.
        self.publishes += 1;
        new.session = Some(format!("s{}", self.publishes).into());
        if large {
            new.payload = Payload::Binary(Bytes::from_static(LARGE));
        }
        let outcome = self.log.publish(self.now, &KEEP, new);
        let (now, epoch) = (self.now, self.life().epoch.clone());
        let life = self.lives.last_mut().unwrap();
        // The naive rule: among the last few ids, is it there and young enough?
        let ids = life.published.iter().rev().filter(|known| known.id.is_some()).take(KEEP.dedupe_max);
        let before = ids.into_iter().find(|known| {
            id.is_some()
                && known.id == id.map(|id| (user, id))
                && now.instant - known.at.instant < KEEP.dedupe_window
        });
        match (outcome, before) {
            (Published::Again(seen), Some(known)) => prop_assert_eq!(seen.seq, known.event.seq),
            (Published::New(event), None) => {
                prop_assert_eq!(event.seq, life.top() + 1, "dense");
                let id = id.map(|id| (user, id));
                life.published.push(Known { at: now, id, event: event.clone() });
                if event.seq > life.base + life.lost {
                    self.on_the_way.push_back((epoch, event));
                }
            }
            (outcome, _) => prop_assert!(false, "{:?} where the model has the other", outcome),
        }
        Ok(())
    }

    /// The tail is needed while a join or a pull is under way.
    fn tail_is_needed(&self) -> bool {
        self.sessions.iter().any(|session| session.ask.is_some())
    }

    fn arrive(&mut self) -> Checked {
        let Some((epoch, event)) = self.on_the_way.pop_front() else { return Ok(()) };
        let needed = self.tail_is_needed();
        if self.feed.position().epoch != epoch {
            // Everyone is told, and goes on from there.
            let from = event.seq - 1;
            self.feed.reset(Position { epoch: epoch.clone(), seq: from });
            self.feed_began = from;
            for session in self.sessions.iter_mut().filter(|session| session.place.is_some()) {
                session.place = Some(Place { epoch: epoch.clone(), from, seen: Vec::new(), live: true });
            }
        }
        prop_assert_eq!(self.feed.offer(&event, needed), Offer::Next);
        prop_assert_eq!(self.feed.offer(&event, needed), Offer::Stale);
        // Until the page that reaches the top, live events are left to the pages.
        let places = self.sessions.iter_mut().filter_map(|session| session.place.as_mut());
        places.filter(|place| place.live).for_each(|place| place.seen.push(event.seq));
        Ok(())
    }

    fn join(&mut self, session: usize, brings: &Brings) {
        let top = self.log.position();
        let behind = |epoch: &Epoch, back: u64| {
            Start::Since(Position { epoch: epoch.clone(), seq: top.seq.saturating_sub(back) })
        };
        let start = match brings {
            Brings::Last => self.sessions[session].last.clone().map_or(Start::Newest(0), Start::Since),
            Brings::Behind(back) => behind(&top.epoch, *back),
            Brings::Ahead(by) => Start::Since(Position { seq: top.seq + by, ..top.clone() }),
            Brings::OtherEpoch(back) => behind(&Epoch::new("other"), *back),
            Brings::Newest(count) => Start::Newest(*count),
        };
        let session = &mut self.sessions[session];
        if session.place.is_none() && session.ask.is_none() {
            session.ask = Some(Ask { start, read: None });
        }
    }

    fn leave(&mut self, session: usize) {
        let session = &mut self.sessions[session];
        session.ask = None;
        if let Some(place) = session.place.take() {
            session.last = Some(Position { seq: place.reached(), epoch: place.epoch });
        }
        self.forget_tail();
    }

    fn forget_tail(&mut self) {
        if !self.tail_is_needed() {
            self.feed.forget_tail();
        }
    }

    fn go(&mut self, at: usize, last_try: bool) -> Checked {
        let session = &mut self.sessions[at];
        match (session.ask.take(), &session.place) {
            (None, Some(place)) if !place.live => {
                let start = Start::Since(Position { epoch: place.epoch.clone(), seq: place.reached() });
                session.ask = Some(Ask { start, read: None });
            }
            (None, _) => {}
            (Some(mut ask), _) => match ask.read.take() {
                None if ask.start != Start::Newest(0) => {
                    ask.read = Some(self.read(&ask.start)?);
                    self.sessions[at].ask = Some(ask);
                }
                read => self.turn(at, ask, read, last_try)?,
            },
        }
        Ok(())
    }

    fn read(&mut self, start: &Start) -> Result<WasRead, TestCaseError> {
        let after = start.reads_after(self.feed.position()).unwrap();
        let range = Range { after: Some(after), before: None, limit: usize::MAX, max_bytes: PAGE_BYTES };
        let page = self.log.read(self.now, &KEEP, range);
        let (position, floor) = (self.log.position().clone(), self.log.floor());
        let kept = self.life().kept(self.now);
        prop_assert_eq!(floor, self.life().top() - kept.len() as u64, "what is kept, by count and age");
        let recovers = matches!(start, Start::Since(since) if self.life().recovers(since, &kept));
        Ok(WasRead { position, floor, after, page, kept, recovers })
    }

    /// What a turn is to give, written out.
    fn due(&self, start: &Start, read: Option<&WasRead>) -> Due {
        let top = self.feed.position();
        let Some(read) = read else { return Due { recovered: None, from: top.seq, again: Again::No } };
        let mut again = if read.position.epoch == top.epoch { Again::No } else { Again::AtLastNothing };
        let (recovered, from) = match start {
            Start::Since(_) if !read.recovers => (Some(false), top.seq),
            Start::Since(since) => {
                if since.seq > top.seq {
                    again = Again::AtLastNothing;
                }
                (Some(true), since.seq)
            }
            Start::Newest(count) => {
                let newest = top.seq.saturating_sub(*count as u64);
                if read.after > newest {
                    again = Again::AtLastNothing;
                }
                let there = |seq: &u64| read.kept.contains(seq) || *seq > read.position.seq;
                (None, (newest + 1..=top.seq).find(there).map_or(top.seq, |first| first - 1))
            }
        };
        if again == Again::No && recovered != Some(false) && !read.page.more {
            let read_to = from.max(read.position.seq).min(top.seq);
            let came_since = self.life_of(&top.epoch).events(read_to, top.seq);
            let costs: Vec<usize> = came_since.map(|event| event.cost()).collect();
            let too_many = costs.len() > TAIL_EVENTS;
            let too_large = costs.len() > 1 && costs.iter().sum::<usize>() > TAIL_BYTES;
            if too_many || too_large || read_to < self.feed_began {
                again = Again::AtLastAPage;
            }
        }
        Due { recovered, from, again }
    }

    fn turn(&mut self, at: usize, ask: Ask, read: Option<WasRead>, last_try: bool) -> Checked {
        let given = read.as_ref().map(|read| Read {
            after: read.after,
            position: &read.position,
            floor: read.floor,
            events: &read.page.events,
            more: read.page.more,
        });
        let turn = splice(&self.feed, &ask.start, given, last_try);
        let top = self.feed.position().clone();
        let due = self.due(&ask.start, read.as_ref());
        let (recovered, from) = match due.again {
            Again::AtLastNothing => (due.recovered.and(Some(false)), top.seq),
            Again::No | Again::AtLastAPage => (due.recovered, due.from),
        };
        let Some(turn) = turn else {
            prop_assert!(due.again != Again::No && !last_try, "another read for nothing: {:?}", ask.start);
            self.sessions[at].ask = Some(ask);
            return Ok(());
        };
        prop_assert!(due.again == Again::No || last_try, "a turn for what cannot be told: {:?}", ask.start);
        prop_assert_eq!(&turn.position, &top);
        prop_assert_eq!(turn.recovered, recovered, "{:?} at {:?}", ask.start, top);
        prop_assert_eq!((turn.page.after, turn.replayed), (from, top.seq - from), "{:?}", ask.start);
        // What is missing, from its beginning; all of it, unless there was more than a page.
        let events = &turn.page.events;
        let to = from + events.len() as u64;
        prop_assert!(
            to <= top.seq && events.iter().eq(self.life_of(&top.epoch).events(from, to)),
            "{:?}",
            turn
        );
        prop_assert_eq!(turn.page.live, to == top.seq);
        let more = read.is_some_and(|read| read.page.more);
        prop_assert!(turn.page.live || more || due.again == Again::AtLastAPage, "more pages for nothing");

        let seqs = events.iter().map(|event| event.seq);
        let session = &mut self.sessions[at];
        match &mut session.place {
            Some(place) if turn.recovered == Some(true) => {
                prop_assert_eq!(place.reached(), turn.page.after, "pages follow each other");
                place.seen.extend(seqs);
                place.live = turn.page.live;
            }
            place => {
                let (epoch, from, live) = (turn.position.epoch, turn.page.after, turn.page.live);
                *place = Some(Place { epoch, from, seen: seqs.collect(), live });
            }
        }
        self.forget_tail();
        Ok(())
    }
}

proptest! {
    // Twice as many as usual: what is worth finding takes a read, a turn and something rare in between.
    #![proptest_config(ProptestConfig::with_cases(2 * ProptestConfig::default().cases))]

    /// Whatever the interleaving: seq is dense, an id within its window is one event, and each session is told rightly what is missing and
    /// sees exactly the events after its place, once, in order, whatever comes between its reads and its turns.
    #[test]
    fn rooms_keep_their_promises(steps in steps()) {
        let mut world = World::new();
        steps.into_iter().try_for_each(|step| world.step(step))?;
        // When all has arrived, everyone who wants to be in the room is soon live.
        while !world.on_the_way.is_empty() {
            world.step(Step::Arrive(1))?;
        }
        for at in 0..SESSIONS {
            // Each page takes three steps; whoever waits for a numbering that nobody has heard of gives up.
            for round in 0..4 * KEEP.size {
                world.step(Step::Go { session: at, last_try: round > KEEP.size })?;
            }
            let session = &world.sessions[at];
            prop_assert!(session.ask.is_none() && session.place.as_ref().is_none_or(|place| place.live));
        }
    }
}

#[test]
fn a_hole_is_noticed_and_the_tail_says_how_far_it_reaches() {
    let mut feed: Feed<Arc<Event>> = Feed::new(Position { epoch: Epoch::new("e"), seq: 7 });
    assert_eq!(feed.offer(&event("r", 9), true), Offer::Hole { after: 7 });
    for seq in 8..=80 {
        assert_eq!(feed.offer(&event("r", seq), true), Offer::Next);
    }
    assert!(feed.since(10).is_none(), "the tail does not reach back that far");
    let tail: Vec<u64> = feed.since(78).unwrap().map(|event| event.seq).collect();
    assert_eq!(tail, [79, 80]);
    assert_eq!(feed.since(80).unwrap().count(), 0);
    assert!(feed.since(81).is_none());
    feed.reset(Position { epoch: Epoch::new("f"), seq: 80 });
    assert!(feed.since(79).is_none(), "what came before is of another numbering");
}

#[test]
fn an_id_that_outlives_its_event_still_answers_with_the_old_seq() {
    let keep = Retention { ttl: Duration::from_secs(1), ..KEEP };
    let mut log = Log::new(Position { epoch: Epoch::new("e"), seq: 0 });
    let start = Now::read();
    assert!(matches!(log.publish(start, &keep, new_event("r", "u", Some("a"))), Published::New(_)));
    let later = start.after(Duration::from_secs(2));
    let again = log.publish(later, &keep, new_event("r", "u", Some("a")));
    assert!(matches!(again, Published::Again(seen) if seen.seq == 1));
    log.expire(later, &keep);
    assert!(log.history().is_empty());
    let other = log.publish(later, &keep, new_event("r", "v", Some("a")));
    assert!(matches!(other, Published::New(event) if event.seq == 2), "another user's id is another id");
    let after_the_window = start.after(Duration::from_secs(6));
    assert!(matches!(
        log.publish(after_the_window, &keep, new_event("r", "u", Some("a"))),
        Published::New(_)
    ));
}
