//! Requests that the core has not answered, in the order in which they came, so that they can be sent again.
use crate::{
    link::convert::{self, Publish, Who},
    session::{
        key::SessionKey,
        request::{ClientId, Credentials},
    },
    wire::event::{Kind, Payload, Position},
};
use hearth_proto::v1::EdgeFrame;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// How much may wait for answers: as the queue before it, so that all of that fits in while a core is replaced. A command
/// that does not fit is refused.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a request takes beside its texts and payload, roughly.
const PENDING_BYTES: usize = 192;
/// How many rooms that no session is in have their epoch remembered, for publishes into them. Too few costs no
/// doubled event, only a retry.
const EPOCHS_MAX: usize = 10_000;

/// A request without its answer.
#[derive(Debug)]
pub struct Pending {
    /// Who asked.
    pub session: SessionKey,
    /// When.
    pub at: Instant,
    /// A core may have it.
    pub sent: bool,
    /// When a core that had it was lost for the first time.
    pub lost: Option<Instant>,
    /// What was asked.
    pub what: What,
}

/// What was asked.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum What {
    Open {
        id: Arc<str>,
        who: Credentials,
        rooms: Vec<Arc<str>>,
        call: bool,
    },
    Refresh {
        id: Option<ClientId>,
        who: Credentials,
    },
    Join {
        id: Option<ClientId>,
        room: Arc<str>,
        since: Option<Position>,
        history: u32,
        echo: bool,
        presence: bool,
    },
    Presence {
        id: Option<ClientId>,
        room: Arc<str>,
        meta: Option<Arc<str>>,
    },
    Leave {
        id: Option<ClientId>,
        room: Arc<str>,
    },
    Publish {
        id: Option<ClientId>,
        room: Arc<str>,
        kind: Kind,
        payload: Payload,
        /// The epoch that the client asks for …
        fence: Option<Arc<str>>,
        /// … and that of the time when it was sent.
        epoch: Option<Arc<str>>,
    },
    History {
        id: Option<ClientId>,
        room: Arc<str>,
        after: Option<u64>,
        before: Option<u64>,
        limit: u32,
    },
    ListOnline {
        room: Arc<str>,
        limit: u32,
    },
    Ticket,
}

impl Pending {
    /// The frame that asks. A publish that was sent before is fenced by the epoch of that time: in another one nobody can
    /// tell whether it was taken.
    pub fn frame(&self, number: u64) -> EdgeFrame {
        let session = self.session;
        match &self.what {
            What::Open { id, who, rooms, call } => {
                convert::open(session, number, id, Who::Says(who, rooms), *call)
            }
            What::Refresh { who, .. } => convert::refresh(session, number, who),
            What::Join { room, since, history, echo, .. } => {
                convert::join(session, number, room, since.as_ref(), *history, *echo)
            }
            What::Leave { room, .. } => convert::leave(session, number, room),
            What::Presence { room, meta, .. } => convert::presence(session, number, room, meta.as_deref()),
            What::Publish { id, room, kind, payload, fence, epoch } => {
                let epoch = if self.sent { epoch.as_deref() } else { None };
                let epoch = fence.as_deref().or(epoch);
                convert::publish(
                    session,
                    number,
                    Publish { room, id: id.as_deref(), kind: *kind, payload, epoch },
                )
            }
            What::History { room, after, before, limit, .. } => {
                convert::history(session, number, room, *after, *before, *limit)
            }
            What::Ticket => convert::issue_ticket(session, number),
            What::ListOnline { room, limit } => convert::list_online(session, number, room, *limit),
        }
    }

    /// Whether it may be sent to another core although one had it already.
    pub fn is_repeatable(&self) -> bool {
        match &self.what {
            // Without a key, or without knowing where it was sent to, a second time might be a second event.
            What::Publish { id, epoch, .. } => id.is_some() && epoch.is_some(),
            // Another core has not seen the token.
            What::Ticket => false,
            What::Open { .. }
            | What::Refresh { .. }
            | What::Join { .. }
            | What::Leave { .. }
            | What::Presence { .. }
            | What::ListOnline { .. }
            | What::History { .. } => true,
        }
    }

    fn weight(&self) -> usize {
        let id = |id: &Option<ClientId>| id.as_ref().map_or(0, |id| id.len());
        let credentials = |who: &Credentials| id(&who.user) + id(&who.token);
        PENDING_BYTES
            + match &self.what {
                What::Open { who, .. } => credentials(who),
                What::Refresh { id: own, who } => id(own) + credentials(who),
                What::Join { id: own, room, since, .. } => {
                    id(own) + room.len() + since.as_ref().map_or(0, |since| since.epoch.len())
                }
                What::Leave { id: own, room } | What::History { id: own, room, .. } => id(own) + room.len(),
                What::Ticket => 0,
                What::ListOnline { room, .. } => room.len(),
                What::Presence { id: own, room, meta } => {
                    id(own) + room.len() + meta.as_ref().map_or(0, |meta| meta.len())
                }
                What::Publish { id: own, room, payload, .. } => id(own) + room.len() + payload.len(),
            }
    }
}

/// All of them, by number.
#[derive(Debug, Default)]
pub struct PendingRequests {
    by_number: BTreeMap<u64, Pending>,
    bytes: usize,
}

impl PendingRequests {
    /// Keeps one.
    pub fn insert(&mut self, number: u64, pending: Pending) {
        self.bytes += pending.weight();
        self.by_number.insert(number, pending);
    }

    /// Takes one out.
    pub fn remove(&mut self, number: u64) -> Option<Pending> {
        let pending = self.by_number.remove(&number)?;
        self.bytes -= pending.weight();
        Some(pending)
    }

    /// Looks at one.
    pub fn get(&self, number: u64) -> Option<&Pending> {
        self.by_number.get(&number)
    }

    /// The oldest.
    pub fn first(&self) -> Option<(u64, &Pending)> {
        self.by_number.first_key_value().map(|(number, pending)| (*number, pending))
    }

    /// The numbers of all, the oldest first.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.by_number.keys().copied()
    }

    /// All, the oldest first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Pending)> {
        self.by_number.iter_mut().map(|(number, pending)| (*number, pending))
    }

    /// The core that had some of them is lost. Those that cannot be sent to another one, or were lost first so long ago that
    /// they may be the reason.
    pub fn lose(&mut self, now: Instant, grace: Duration) -> Vec<u64> {
        let sent = self.by_number.iter_mut().filter(|(_, pending)| pending.sent);
        let hopeless = sent.filter_map(|(number, pending)| {
            let spent = now.saturating_duration_since(*pending.lost.get_or_insert(now)) >= grace;
            (spent || !pending.is_repeatable()).then_some(*number)
        });
        hopeless.collect()
    }

    /// Whether more may be taken.
    pub fn has_room(&self) -> bool {
        self.bytes < PENDING_BYTES_MAX
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }
}

/// The epochs of rooms that were published to and that no session is in. Past the bound the oldest goes.
#[derive(Debug, Default)]
pub struct Epochs {
    known: HashMap<Arc<str>, Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl Epochs {
    /// An ack told a room's epoch.
    pub fn learn(&mut self, room: &Arc<str>, epoch: Arc<str>) {
        if let Some(known) = self.known.get_mut(room) {
            *known = epoch;
            return;
        }
        if self.known.len() >= EPOCHS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(Arc::clone(room), epoch);
        self.order.push_back(Arc::clone(room));
    }

    /// A room's epoch, if it was told.
    pub fn get(&self, room: &str) -> Option<Arc<str>> {
        self.known.get(room).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_epoch_goes_first() {
        let mut epochs = Epochs::default();
        let room = |n: usize| -> Arc<str> { format!("room-{n}").into() };
        for n in 0..EPOCHS_MAX {
            epochs.learn(&room(n), "e1".into());
        }
        epochs.learn(&room(5), "e2".into());
        epochs.learn(&room(EPOCHS_MAX), "e1".into());
        assert_eq!(epochs.get("room-0"), None);
        assert_eq!(epochs.get("room-5").as_deref(), Some("e2"));
        assert_eq!(epochs.known.len(), EPOCHS_MAX);
        assert_eq!(epochs.order.len(), EPOCHS_MAX);
    }
}
