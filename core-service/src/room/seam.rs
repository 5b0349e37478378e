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

/// What was read of history, upward.
#[derive(Debug, Clone, Copy)]
pub struct Read<'a> {
    /// After which seq it was read.
    pub after: u64,
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
    let recovered = matches!(start, Start::Since(_)).then_some(true);
    let not_yet = || if last_try { nothing(recovered.map(|_| false)) } else { None };
    if read.position.epoch != top.epoch {
        // The numbering began anew, and the feed or the read does not know it yet: one's seqs say nothing about the other's.
        return not_yet();
    }
    let from = match start {
        Start::Since(since) if !recovers(since, read.position, read.floor) => return nothing(Some(false)),
        // The engine has it and the feed will: wait for it.
        Start::Since(since) if since.seq > top.seq => return not_yet(),
        Start::Since(since) => since.seq,
        Start::Newest(count) => {
            let newest = top.seq.saturating_sub(*count as u64);
            // It was read by the feed's old numbering, and does not reach back far enough in the new one.
            if read.after > newest {
                return not_yet();
            }
            read.floor.max(newest).min(top.seq)
        }
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::{position::Epoch, testing::event};

    fn at(epoch: &str, seq: u64) -> Position {
        Position { epoch: Epoch::new(epoch), seq }
    }

    /// Wants the three newest of a room that keeps everything; what was read is of `position`, and the feed stands at `top` now.
    fn newest(position: &Position, after: u64, top: Position, last_try: bool) -> Option<Turn> {
        let events: Vec<_> = (after + 1..=position.seq).map(|seq| event("r", seq)).collect();
        let read = Read { after, position, floor: 0, events: &events, more: false };
        splice(&Feed::<Arc<Event>>::new(top), &Start::Newest(3), Some(read), last_try)
    }

    fn seqs(turn: Option<Turn>) -> Option<(u64, Vec<u64>)> {
        turn.map(|turn| (turn.page.after, turn.page.events.iter().map(|event| event.seq).collect()))
    }

    #[test]
    fn the_newest_of_a_numbering_that_is_gone_are_not_those_of_the_next() {
        let (old, new) = (at("old", 10), at("new", 10));
        assert_eq!(seqs(newest(&old, 7, old.clone(), false)), Some((7, vec![8, 9, 10])));
        assert_eq!(newest(&old, 7, new.clone(), false), None);
        assert_eq!(seqs(newest(&old, 7, new.clone(), true)), Some((10, vec![])));
        assert_eq!(newest(&new, 7, old, false), None, "nor before the feed knows");
    }

    #[test]
    fn the_newest_have_no_gap_where_the_next_numbering_is_behind_the_last() {
        // The feed stood at 10 of the old numbering when what follows 7 was read, and stands at 9 of the new one now.
        let new = at("new", 9);
        assert_eq!(newest(&new, 7, new.clone(), false), None, "8 and 9 without 7");
        assert_eq!(seqs(newest(&new, 6, new.clone(), false)), Some((6, vec![7, 8, 9])));
    }

    #[test]
    fn where_the_tail_is_too_short_the_rest_is_left_to_the_next_page_at_last() {
        let (position, start) = (at("e", 8), Start::Since(at("e", 6)));
        let events = [event("r", 7), event("r", 8)];
        let read = Read { after: 6, position: &position, floor: 0, events: &events, more: false };
        let mut feed = Feed::<Arc<Event>>::new(at("e", 9));
        feed.offer(&event("r", 10), true);
        assert_eq!(splice(&feed, &start, Some(read), false), None, "9 is neither read nor in the tail");
        let page = ReplayPage { after: 6, events: events.to_vec(), live: false };
        let turn = Turn { position: at("e", 10), recovered: Some(true), replayed: 4, page };
        assert_eq!(splice(&feed, &start, Some(read), true), Some(turn));
    }
}
