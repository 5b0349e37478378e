//! Brings a room's events to those who are in it, and gives those who join their place in its order.
//!
//! [`rooms`] is fed by the engine and fans out; [`outbox`] is a subscriber's bounded queue; [`replay`] is joining, and the
//! seam between history and live; [`presence`] tells who is online. [`Hub`] is the handle in front of them.
pub mod delivery;
mod directory;
pub mod error;
mod orders;
pub mod outbox;
mod presence;
mod replay;
mod rooms;

pub use delivery::{Delivery, SharedEvent, SharedPresence, To};
pub use directory::{Directory, Seat};
pub use error::Error;
pub use orders::Orders;
pub use outbox::Outbox;
pub use presence::{Gone, Presences};
pub use replay::JoinRequest;

use crate::{
    auth::{grant::Grant, revocation::Revocation},
    config::Config,
    engine::{Accepted, Engine, HistoryRead, ListedRoom, Notice, Receipt, Sink},
    metrics::CoreMetrics,
    room::{
        Now,
        event::{Event, Kind, NewEvent, Payload},
        history::Range,
        id::{RoomName, UserName},
        position::{Epoch, Position},
        typing::Typing,
    },
};
use bytes::Bytes;
use rooms::Rooms;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The rooms of a core: publish, read, join, leave.
pub struct Hub {
    rooms: Arc<Rooms>,
    engine: Arc<dyn Engine>,
    metrics: CoreMetrics,
    /// How much of a replay goes into a queue at once.
    page_bytes: usize,
    presence: Presences,
    directory: Arc<Directory>,
    typing: Mutex<Typing>,
}

/// What the engine feeds and tells.
struct Listener {
    rooms: Arc<Rooms>,
    directory: Arc<Directory>,
}

impl Sink for Listener {
    fn deliver(&self, event: Arc<Event>, epoch: &Epoch, receipt: Option<Receipt>) {
        self.rooms.deliver(event, epoch, receipt);
    }

    fn pass(&self, event: Arc<Event>) {
        self.rooms.pass(event);
    }

    fn closed(&self, room: &RoomName, anew: &Position) {
        self.rooms.closed(room, anew);
    }

    fn heard(&self, notice: Notice) {
        match notice {
            Notice::Disconnect(user) => drop(self.directory.disconnect(&user)),
            Notice::Revoke(revocation) => {
                if self.directory.revoke(since_1970(), &revocation).is_err() {
                    tracing::error!(
                        "another core has revoked a token, and there is no place for it here: see --revocations-max"
                    );
                }
            }
        }
    }
}

/// A room in a listing, with how many sessions are in it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Name and position.
    pub room: ListedRoom,
    /// Sessions.
    pub sessions: u64,
}

impl Hub {
    /// A hub over the engine that `make` builds around its feed.
    pub fn new(
        config: &Config,
        node: &str,
        metrics: CoreMetrics,
        make: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Engine>,
    ) -> Arc<Self> {
        let rooms = Arc::new(Rooms::new(metrics.clone()));
        let directory = Directory::new(config.max_sessions_per_user, config.revocations_max);
        let engine = make(Arc::new(Listener { rooms: rooms.clone(), directory: directory.clone() }));
        let rules = config.by_namespace(|namespace| namespace.presence);
        let presence = Presences::new(rules, node, metrics.clone());
        let (page_bytes, typing) = (config.replay_page_bytes(), Mutex::default());
        Arc::new(Self { rooms, engine, metrics, page_bytes, presence, directory, typing })
    }

    /// A hub over an engine in memory.
    pub fn in_memory(config: &Config, boot: &str, metrics: CoreMetrics) -> Arc<Self> {
        Self::new(config, boot, metrics, |sink| {
            Arc::new(crate::engine::memory::Memory::new(config, boot, sink))
        })
    }

    /// The engine's identity.
    pub fn engine_identity(&self) -> &str {
        self.engine.identity()
    }

    /// What tickets are made with by all who share the engine.
    pub fn ticket_key(&self) -> Option<[u8; 32]> {
        self.engine.ticket_key()
    }

    /// Publishes a sequenced event. The ack goes to `to` in `outbox`, right before the event where the engine allows it.
    ///
    /// Ordered by the first poll, as the engine is.
    pub async fn publish(
        &self,
        new: NewEvent,
        epoch: Option<Epoch>,
        ack: Option<(Arc<Outbox>, To)>,
    ) -> Result<Accepted, Error> {
        let started = std::time::Instant::now();
        let room = new.room.clone();
        let receipt = ack.map(|(outbox, to)| {
            let receipt: crate::engine::Receipt = Box::new(move |accepted: &Accepted| {
                let (position, duplicate) = (Some(accepted.position.clone()), accepted.duplicate);
                outbox.push(Delivery::Acked { to, room: Some(room), position, duplicate });
            });
            receipt
        });
        let outcome =
            self.engine.publish(new, epoch, receipt).await.inspect_err(|_| self.metrics.publish_failed())?;
        if let Some(receipt) = outcome.receipt {
            receipt(&outcome.accepted);
        }
        self.metrics.published(started.elapsed(), outcome.accepted.duplicate);
        Ok(outcome.accepted)
    }

    /// Lets an ephemeral event pass.
    pub async fn broadcast(&self, new: NewEvent) -> Result<(), Error> {
        self.metrics.signals.inc();
        Ok(self.engine.broadcast(new).await?)
    }

    /// Reads history.
    pub async fn read(&self, room: &RoomName, range: Range) -> Result<HistoryRead, Error> {
        self.metrics.history_reads.inc();
        Ok(self.engine.read(room, range).await?)
    }

    /// Lists rooms.
    pub async fn list(&self, after: &str, prefix: &str, limit: usize) -> Result<Vec<Listed>, Error> {
        let rooms = self.engine.list(after, prefix, limit).await?;
        Ok(rooms.into_iter().map(|room| Listed { sessions: self.rooms.sessions(&room.name), room }).collect())
    }

    /// A session that is in a room is told where it stands.
    pub fn still_joined(&self, outbox: &Outbox, to: &To, room: &RoomName) -> Result<(), Error> {
        if self.rooms.still_joined(outbox, to, room) { Ok(()) } else { Err(Error::NotJoined) }
    }

    /// Who is online.
    pub fn presence(&self) -> &Presences {
        &self.presence
    }

    /// Who is here.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Whether what was granted for a token still counts.
    pub fn check(&self, grant: &Grant) -> Result<(), Error> {
        self.directory.check(grant)
    }

    /// Ends all sessions and streams of a user, on all cores. How many there were here.
    pub async fn disconnect(&self, user: UserName) -> Result<usize, Error> {
        let here = self.directory.disconnect(&user);
        self.engine.announce(Notice::Disconnect(user)).await?;
        Ok(here)
    }

    /// Makes tokens worthless on all cores. How many sessions and streams of this one were let in by them.
    pub async fn revoke(&self, revocation: Revocation) -> Result<usize, Error> {
        const FULL: &str = "this core keeps as many revocations as --revocations-max allows";
        let here = self.directory.revoke(since_1970(), &revocation);
        let here = here.map_err(|_| Error::Exhausted(FULL.into()))?;
        self.engine.announce(Notice::Revoke(revocation)).await?;
        Ok(here)
    }

    /// Closes a room on all cores: its members are put out of it, what was said in it goes, and it begins anew.
    pub async fn close_room(&self, room: &RoomName) -> Result<Position, Error> {
        self.engine.close_room(room).await?.ok_or(Error::NotFound("there is no such room"))
    }

    /// A session says whether its user is typing, beside telling everyone.
    pub fn note_typing(&self, room: &RoomName, session: &Arc<str>, user: &UserName, active: bool) {
        self.typing().note(Instant::now(), (room.clone(), session.clone()), user.clone(), active);
    }

    /// A session is out of a room: it types no longer.
    pub fn stop_typing(&self, room: &RoomName, session: &Arc<str>) {
        self.typing().leave((room.clone(), session.clone()));
    }

    fn typing(&self) -> MutexGuard<'_, Typing> {
        self.typing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of this subscriber leaves.
    pub fn leave(&self, outbox: &Outbox, room: &RoomName) {
        if self.rooms.leave(outbox, room) {
            self.engine.close(room);
        }
    }

    /// Does what time brings, until `stop`: forgets what has expired, fills the holes of feeds, tells presence.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            () = self.sweep() => {}
            () = self.fill_holes() => {}
            () = self.tell_presence() => {}
        }
    }

    async fn sweep(&self) {
        let mut sweeps = ticks(Duration::from_secs(1) / crate::engine::SWEEPS_PER_SECOND);
        loop {
            sweeps.tick().await;
            self.engine.sweep();
        }
    }

    async fn fill_holes(&self) {
        loop {
            let room = self.rooms.next_hole().await;
            self.fill(&room).await;
        }
    }

    async fn tell_presence(&self) {
        let mut turns = ticks(presence::TICK);
        loop {
            turns.tick().await;
            self.presence.tick();
            let ended = self.typing().ended(Instant::now());
            for ((room, session), author) in ended {
                let payload = Payload::Json(Bytes::from_static(br#"{"active":false}"#));
                let new =
                    NewEvent { room, kind: Kind::Typing, id: None, author, payload, session: Some(session) };
                if let Err(error) = self.engine.broadcast(new).await {
                    tracing::warn!(%error, "an end of typing is not told; clients end it by themselves");
                }
            }
        }
    }
}

fn since_1970() -> Duration {
    Duration::from_micros(Now::read().micros)
}

/// A turn that comes late is not made up for.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks
}
