//! What is put into a subscriber's queue.
use super::Error;
use crate::auth::{grant::Grant, ticket::Ticket};
use crate::room::{
    event::Event,
    feed::Carries,
    id::{ClientId, RoomName},
    position::Position,
    presence::{Online, Told},
    seam::ReplayPage,
};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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

/// Something that is told of a room's presence, with its number.
pub type PresenceUpdate = (u64, Told);

/// The same on its way to all who watch: encoded once for links.
#[derive(Debug)]
pub struct SharedPresence {
    /// The room.
    pub room: RoomName,
    /// Counts what is told of it.
    pub n: u64,
    /// What is told.
    pub told: Told,
    encoded: OnceLock<Bytes>,
}

impl SharedPresence {
    /// Something that nobody has encoded yet.
    pub fn new(room: RoomName, (n, told): PresenceUpdate) -> Arc<Self> {
        Arc::new(Self { room, n, told, encoded: OnceLock::new() })
    }

    /// The bytes for links, made by `encode` the first time.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(self))
    }

    fn cost(&self) -> usize {
        match &self.told {
            Told::State(all) => all.iter().map(cost_of).sum(),
            Told::Diff(changes) => changes.iter().map(|change| cost_of(change.online())).sum(),
            Told::Count(_) => 0,
        }
    }
}

fn cost_of(online: &Online) -> usize {
    /// What a user costs beside name and meta.
    const USER: usize = 64;
    USER + online.user.as_str().len() + online.meta.len()
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
    /// The number of the telling of presence that knows of the session; none if it may not see who is online there.
    pub presence: Option<u64>,
}

/// One thing in a subscriber's queue.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// A live event of a room.
    Event(Arc<SharedEvent>),
    /// A session is in a room; also unasked, when its place was lost.
    Joined(To, Place, ReplayPage),
    /// A session that was in the room already asked to join: nothing changes.
    StillJoined(To, Place),
    /// The next part of a session's replay.
    Page(To, RoomName, ReplayPage),
    /// All sessions of this subscriber go on in a room.
    Resumed(To, Place, ReplayPage),
    /// A session has left a room, as it asked.
    Left(To, RoomName),
    /// Who is online in a room.
    Presence(Arc<SharedPresence>),
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
    /// Who is online in a room, as it was asked.
    Online {
        /// Whose.
        to: To,
        /// The first of them, in order of names.
        online: Vec<Online>,
        /// How many there are in all.
        count: usize,
    },
    /// A session is let in.
    Opened {
        /// Its number.
        to: To,
        /// Its id.
        session: Arc<str>,
        /// Who it is, and what it may do.
        grant: Arc<Grant>,
    },
    /// A session's token is another one now.
    Refreshed(To, Arc<Grant>),
    /// A ticket was made.
    Ticket(To, Ticket),
    /// The token of a stream's session ends soon: when, since 1970.
    Expiring(Duration),
    /// A session may no longer be in a room, and is not.
    PutOut(To, RoomName),
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
                Delivery::Joined(_, _, page) | Delivery::Page(_, _, page) | Delivery::Resumed(_, _, page) => {
                    sum(&page.events)
                }
                Delivery::Presence(shared) => shared.cost(),
                Delivery::Ticket(_, ticket) => ticket.text.len(),
                Delivery::Online { online, .. } => online.iter().map(cost_of).sum(),
                Delivery::History { events, .. } => sum(events),
                _ => 0,
            }
    }

    /// It may be dropped for a slow subscriber.
    pub fn is_ephemeral(&self) -> bool {
        match self {
            Delivery::Event(shared) => shared.event().kind.is_ephemeral(),
            Delivery::Presence(_) => true,
            _ => false,
        }
    }
}
