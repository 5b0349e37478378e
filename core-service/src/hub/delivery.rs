//! What is put into a subscriber's queue.
use super::Error;
use crate::room::{
    event::Event,
    feed::Carries,
    id::{ClientId, RoomName},
    position::Position,
};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// A live event on its way to all subscribers: encoded once, by whoever needs it first.
#[derive(Debug)]
pub struct SharedEvent {
    event: Arc<Event>,
    encoded: OnceLock<Bytes>,
}

impl SharedEvent {
    /// An event that nobody has encoded yet.
    pub fn new(event: Arc<Event>) -> Arc<Self> {
        Arc::new(Self { event, encoded: OnceLock::new() })
    }

    /// The bytes for links, made by `encode` the first time.
    pub fn encoded(&self, encode: impl FnOnce(&Event) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(&self.event))
    }
}

impl Carries for Arc<SharedEvent> {
    fn event(&self) -> &Event {
        &self.event
    }
}

/// Whose command is answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct To {
    /// The session's number on its stream; 0 for the stream itself.
    pub session: u64,
    /// The request's number; 0 for what nobody asked for.
    pub request: u64,
    /// The client's id for it.
    pub id: Option<ClientId>,
}

/// A part of a replay.
#[derive(Debug, Clone, Default)]
pub struct ReplayPage {
    /// The events, ascending.
    pub events: Vec<Arc<Event>>,
    /// It reaches the top: live events go on from here.
    pub live: bool,
}

/// Where a join has put a session.
#[derive(Debug, Clone)]
pub struct Place {
    /// The room.
    pub room: RoomName,
    /// Its position at this point of the queue.
    pub position: Position,
    /// Whether nothing is missing since the position that was brought.
    pub recovered: Option<bool>,
    /// How many events are missing to the top.
    pub replayed: u64,
}

/// One thing in a subscriber's queue.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// A live event of a room.
    Event(Arc<SharedEvent>),
    /// A session is in a room; also unasked, when its place was lost.
    Joined(To, Place, ReplayPage),
    /// The next part of a session's replay.
    Page(To, RoomName, ReplayPage),
    /// All sessions of this subscriber go on in a room.
    Resumed(Place, ReplayPage),
    /// A session is out of a room.
    Left(To, RoomName),
    /// A command succeeded.
    Acked {
        /// Whose.
        to: To,
        /// The room it was about.
        room: Option<RoomName>,
        /// Where the event stands.
        position: Option<Position>,
        /// It was there before.
        duplicate: bool,
    },
    /// A command failed.
    Failed(To, Option<RoomName>, Error),
    /// A page of history.
    History {
        /// Whose.
        to: To,
        /// The room.
        room: RoomName,
        /// Its position.
        position: Position,
        /// The events.
        events: Vec<Arc<Event>>,
        /// There are more.
        more: bool,
    },
    /// A session is let in.
    Opened {
        /// Its number.
        to: To,
        /// Its id.
        session: Arc<str>,
        /// Its user.
        user: Arc<str>,
    },
    /// A session is not let in.
    Refused(To, Error),
    /// The stream is attached.
    Attached,
    /// The server goes away.
    Goodbye {
        /// How long it still answers, in milliseconds.
        grace_ms: u64,
    },
}

/// What any delivery costs beside its events.
const DELIVERY_OVERHEAD: usize = 128;

impl Delivery {
    /// About how many bytes it holds.
    pub fn cost(&self) -> usize {
        let sum = |events: &[Arc<Event>]| events.iter().map(|event| event.cost()).sum::<usize>();
        DELIVERY_OVERHEAD
            + match self {
                Delivery::Event(shared) => shared.event().cost(),
                Delivery::Joined(_, _, page) | Delivery::Page(_, _, page) | Delivery::Resumed(_, page) => {
                    sum(&page.events)
                }
                Delivery::History { events, .. } => sum(events),
                _ => 0,
            }
    }

    /// It may be dropped for a slow subscriber.
    pub fn is_ephemeral(&self) -> bool {
        matches!(self, Delivery::Event(shared) if shared.event().kind.is_ephemeral())
    }
}
