//! A room as its hub sees it: the order in which events arrive, checked to be dense, and a short tail of them, which closes the seam
//! between a read of history and what is live.
use super::{event::Event, position::Position};
use std::{collections::VecDeque, sync::Arc};

/// How many events the tail holds. A read of history races with publishes for about a millisecond; at 50,000 events a
/// second in one room that is 50.
const TAIL_EVENTS: usize = 64;
/// And how many bytes: large events are rare, and a join that misses the tail reads again.
const TAIL_BYTES: usize = 64 * 1024;

/// What to do with an event that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is the next one: deliver it.
    Next,
    /// It has been delivered.
    Stale,
    /// Something before it is missing: read history after this seq.
    Hole {
        /// The last seq that was delivered.
        after: u64,
    },
}

/// Something that holds an event.
pub trait Carries: Clone {
    /// The event.
    fn event(&self) -> &Event;
}

impl Carries for Arc<Event> {
    fn event(&self) -> &Event {
        self
    }
}

/// A room's arrivals. `E` is an event, or something that holds one.
#[derive(Debug)]
pub struct Feed<E> {
    position: Position,
    tail: VecDeque<E>,
    tail_bytes: usize,
}

impl<E: Carries> Feed<E> {
    /// A feed that goes on from `position`.
    pub fn new(position: Position) -> Self {
        Self { position, tail: VecDeque::new(), tail_bytes: 0 }
    }

    /// Where it stands: everything up to here has been delivered.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Takes an arrival; `Next` means that it is now the last one delivered. It is kept in the tail only while somebody `needs` it: a tail
    /// of every room would outgrow what histories are allowed.
    pub fn offer(&mut self, arrival: &E, needs: bool) -> Offer {
        let event = arrival.event();
        match event.seq {
            seq if seq <= self.position.seq => Offer::Stale,
            seq if seq == self.position.seq + 1 => {
                self.position.seq = seq;
                if !needs {
                    return Offer::Next;
                }
                self.tail_bytes += event.cost();
                self.tail.push_back(arrival.clone());
                while self.tail.len() > TAIL_EVENTS || (self.tail.len() > 1 && self.tail_bytes > TAIL_BYTES) {
                    if let Some(oldest) = self.tail.pop_front() {
                        self.tail_bytes -= oldest.event().cost();
                    }
                }
                Offer::Next
            }
            _ => Offer::Hole { after: self.position.seq },
        }
    }

    /// Nobody needs the tail any more.
    pub fn forget_tail(&mut self) {
        self.tail = VecDeque::new();
        self.tail_bytes = 0;
    }

    /// The numbering began anew.
    pub fn reset(&mut self, position: Position) {
        *self = Self::new(position);
    }

    /// Everything delivered after `seq`, if the tail reaches back that far.
    pub fn since(&self, seq: u64) -> Option<impl Iterator<Item = &E>> {
        let missing = self.position.seq.checked_sub(seq)? as usize;
        let skip = self.tail.len().checked_sub(missing)?;
        Some(self.tail.range(skip..))
    }
}
