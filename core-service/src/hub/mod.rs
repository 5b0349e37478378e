//! Brings a room's events to those who are in it, and gives those who join their place in its order.
//!
//! [`rooms`] is fed by the engine and fans out; [`outbox`] is a subscriber's bounded queue; [`replay`] is joining, and the
//! seam between history and live. [`Hub`] is the handle in front of them.
pub mod delivery;
pub mod error;
pub mod outbox;
mod replay;
mod rooms;

pub use delivery::{Delivery, SharedEvent, To};
pub use error::Error;
pub use outbox::Outbox;
pub use replay::JoinRequest;

use crate::{
    config::Config,
    engine::{Accepted, Engine, HistoryRead, ListedRoom, Sink},
    metrics::CoreMetrics,
    room::{
        event::NewEvent,
        history::Range,
        id::RoomName,
        position::{Epoch, Position},
    },
};
use rooms::Rooms;
use std::sync::Arc;

/// The rooms of a core: publish, read, join, leave.
pub struct Hub {
    rooms: Arc<Rooms>,
    engine: Arc<dyn Engine>,
    metrics: CoreMetrics,
    /// How much of a replay goes into a queue at once.
    page_bytes: usize,
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
        metrics: CoreMetrics,
        make: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Engine>,
    ) -> Arc<Self> {
        let rooms = Arc::new(Rooms::new(metrics.clone()));
        let engine = make(rooms.clone());
        Arc::new(Self { rooms, engine, metrics, page_bytes: config.replay_page_bytes() })
    }

    /// A hub over an engine in memory.
    pub fn in_memory(config: &Config, boot: &str, metrics: CoreMetrics) -> Arc<Self> {
        Self::new(config, metrics, |sink| Arc::new(crate::engine::memory::Memory::new(config, boot, sink)))
    }

    /// The engine's identity.
    pub fn engine_identity(&self) -> &str {
        self.engine.identity()
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

    /// Where a joined room stands, as its members have been told.
    pub fn position(&self, room: &RoomName) -> Option<Position> {
        self.rooms.position(room)
    }

    /// A session of this subscriber leaves.
    pub fn leave(&self, outbox: &Outbox, room: &RoomName) {
        if self.rooms.leave(outbox, room) {
            self.engine.close(room);
        }
    }

    /// Forgets what has expired, until `stop`; and fills the holes of feeds meanwhile.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut sweeps =
            tokio::time::interval(std::time::Duration::from_secs(1) / crate::engine::SWEEPS_PER_SECOND);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = sweeps.tick() => self.engine.sweep(),
                room = self.rooms.next_hole() => self.fill(&room).await,
            }
        }
    }
}
