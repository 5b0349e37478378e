//! Requests that the core has not answered, by number and so in order: after a loss they can be sent again as they came.
use crate::{link::queue, session::request::Request};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// How much may wait for answers, in bytes. Twice the queue before it, so that all of that fits in while no core is
/// there; a core that answers keeps this far below.
pub const PENDING_BYTES_MAX: usize = 2 * queue::QUEUE_BYTES_MAX;

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No core has seen it.
    Waiting,
    /// It is on the stream that there is now.
    Sent,
    /// It was on a stream that was lost: the core may have acted on it.
    Lost,
}

/// A request under way.
#[derive(Debug)]
pub struct Entry {
    /// What was asked.
    pub request: Request,
    /// How far it has come.
    pub stage: Stage,
    /// The epoch of its room when it was first sent, for a publish that may be sent again only within it.
    pub fence: Option<Arc<str>>,
    /// When it came.
    pub arrived: Instant,
    /// When it was lost first.
    pub lost: Option<Instant>,
}

/// All requests under way.
#[derive(Debug, Default)]
pub struct Pending {
    entries: BTreeMap<u64, Entry>,
    last: u64,
    bytes: usize,
}

impl Pending {
    /// Adds a request; its number, never 0.
    pub fn add(&mut self, request: Request, now: Instant) -> u64 {
        self.last += 1;
        self.bytes += queue::weight(&request);
        let entry = Entry { request, stage: Stage::Waiting, fence: None, arrived: now, lost: None };
        self.entries.insert(self.last, entry);
        self.last
    }

    /// Whether one more would be too much.
    pub fn is_full_for(&self, request: &Request) -> bool {
        self.bytes + queue::weight(request) > PENDING_BYTES_MAX
    }

    /// Takes one out: it is answered, or nobody waits for it any more.
    pub fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.bytes -= queue::weight(&entry.request);
        Some(entry)
    }

    /// One of them.
    pub fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// One of them.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&number)
    }

    /// All, in the order in which they came.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Entry)> {
        self.entries.iter_mut().map(|(number, entry)| (*number, entry))
    }

    /// The numbers of those that `wanted` picks, in order.
    pub fn numbers(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<u64> {
        self.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(number, _)| *number).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
