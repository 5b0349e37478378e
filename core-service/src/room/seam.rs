//! The seam between what was read of history and what is live: what a session is given in its turn.
//!
//! History is read first, without holding anything. In the turn the feed says where the room stands, and its tail holds what came since the
//! read: together they are dense, or there is another read.
use super::{
    event::Event,
    feed::{Carries, Feed},
    position::{Position, recovers},
};
use std::sync::Arc;

/// Where a replay starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// After a position that somebody brought.
    Since(Position),
    /// With the newest events, this many.
    Newest(usize),
}

impl Start {
    /// After which seq to read history, in a room whose feed stands at `top`; `None` if there is nothing to read.
    pub fn reads_after(&self, top: &Position) -> Option<u64> {
        match self {
            Start::Since(since) => Some(since.seq),
            Start::Newest(0) => None,
            Start::Newest(count) => Some(top.seq.saturating_sub(*count as u64)),
        }
    }
}

/// What was read of history, up from where [`Start::reads_after`] says.
#[derive(Debug, Clone, Copy)]
pub struct Read<'a> {
    /// Where the room stood in the engine.
    pub position: &'a Position,
    /// Every event after this seq was kept.
    pub floor: u64,
    /// The events, ascending.
    pub events: &'a [Arc<Event>],
    /// There were more.
    pub more: bool,
}

/// A part of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayPage {
    /// It begins behind this seq.
    pub after: u64,
    /// The events, ascending.
    pub events: Vec<Arc<Event>>,
    /// It reaches the top: live events go on from here.
    pub live: bool,
}

/// What a session is given in its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Where the room stands.
    pub position: Position,
    /// Whether nothing is missing since the position that was brought; `None` if none was.
    pub recovered: Option<bool>,
    /// How many events are missing to the top.
    pub replayed: u64,
    /// The first of them.
    pub page: ReplayPage,
}

/// What a turn gives, after a read if there was something to read; `None` asks for another read, which the last try does not.
pub fn splice<E: Carries>(
    feed: &Feed<E>,
    start: &Start,
    read: Option<Read<'_>>,
    last_try: bool,
) -> Option<Turn> {
    let top = feed.position();
    let nothing = |recovered| {
        let page = ReplayPage { after: top.seq, events: Vec::new(), live: true };
        Some(Turn { position: top.clone(), recovered, replayed: 0, page })
    };
    let Some(read) = read else { return nothing(None) };
    let from = match start {
        Start::Since(since) => {
            if read.position.epoch != top.epoch && !last_try {
                return None;
            }
            if !recovers(since, read.position, read.floor) || read.position.epoch != top.epoch {
                return nothing(Some(false));
            }
            if since.seq > top.seq {
                // The engine has it and the feed will: wait for it.
                return if last_try { nothing(Some(false)) } else { None };
            }
            since.seq
        }
        Start::Newest(count) => read.floor.max(top.seq.saturating_sub(*count as u64)).min(top.seq),
    };
    let recovered = matches!(start, Start::Since(_)).then_some(true);
    // Not beyond the feed: what the engine holds already and the feed does not is live.
    let wanted = |event: &&Arc<Event>| event.seq > from && event.seq <= top.seq;
    let mut events: Vec<Arc<Event>> = read.events.iter().filter(wanted).cloned().collect();
    let reached = events.last().map_or(from, |event| event.seq);
    let mut live = reached == top.seq;
    if !live && !read.more {
        match feed.since(reached) {
            Some(tail) => {
                events.extend(tail.map(|carried| Arc::new(carried.event().clone())));
                live = true;
            }
            None if last_try => {}
            None => return None,
        }
    }
    let page = ReplayPage { after: from, events, live };
    Some(Turn { position: top.clone(), recovered, replayed: top.seq - from, page })
}
