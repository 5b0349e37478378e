//! Who orders and stores. The hub knows no engine by name: it publishes through [`Engine`] and is fed through [`Sink`].
pub mod memory;
mod positions;

use crate::auth::revocation::Revocation;
use crate::room::{
    event::{Event, NewEvent},
    history::Range,
    id::{RoomName, UserName},
    position::{Epoch, Position},
};
use std::{future::Future, pin::Pin, sync::Arc};
use thiserror::Error;

/// An answer that may take a while.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// Why an engine could not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The room has another epoch than the publish asked for: what was lost cannot be told.
    #[error("the room's numbering began anew: the outcome is unknown")]
    OtherEpoch,
    /// The engine is away; a publish may have happened.
    #[error("the engine is away: {0}")]
    Away(String),
}

/// Where a publish was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The event's position.
    pub position: Position,
    /// It had been published before.
    pub duplicate: bool,
    /// When it was accepted, in microseconds since 1970.
    pub timestamp_us: u64,
}

/// Tells the publisher. It travels with the event, so that the ack can be written right before it; an engine that cannot take it
/// along gives it back.
pub type Receipt = Box<dyn FnOnce(&Accepted) + Send>;

/// What a publish came to.
pub struct Outcome {
    /// Where the event stands.
    pub accepted: Accepted,
    /// The receipt, if the feed has not used it.
    pub receipt: Option<Receipt>,
}

/// What a read of history gives.
#[derive(Debug, Clone)]
pub struct HistoryRead {
    /// The room's position at the time of reading.
    pub position: Position,
    /// Every event after this seq was still kept.
    pub floor: u64,
    /// The events, ascending.
    pub events: Vec<Arc<Event>>,
    /// There are more in the direction of reading.
    pub more: bool,
}

/// A room in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRoom {
    /// Its name.
    pub name: RoomName,
    /// Its position.
    pub position: Position,
}

/// Where an engine feeds events to. In seq order per room; after the engine holds them, never before.
pub trait Sink: Send + Sync {
    /// A sequenced event of a room has been stored. Must not wait and must not call the engine: it may be called
    /// under the engine's lock.
    fn deliver(&self, event: Arc<Event>, epoch: &Epoch, receipt: Option<Receipt>);
    /// An ephemeral event passes.
    fn pass(&self, event: Arc<Event>);
    /// A room was closed: nobody is in it any more, and it begins anew here. As `deliver`, and in order with it.
    fn closed(&self, room: &RoomName, anew: &Position);
    /// Another core has been told something that holds for all.
    fn heard(&self, notice: Notice);
}

/// What one core tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A user's sessions are to end.
    Disconnect(UserName),
    /// Tokens are worthless.
    Revoke(Revocation),
}

/// Orders and stores the events of rooms.
pub trait Engine: Send + Sync {
    /// Names this engine's store: cores with the same identity share their rooms.
    fn identity(&self) -> &str;

    /// A secret of all cores that share this engine, and of nobody else: tickets that one of them makes are taken by the others.
    /// None while there is none: then there are no tickets.
    fn ticket_key(&self) -> Option<[u8; 32]>;

    /// Publishes a sequenced event, once per (room, user, id) within the window. **Publishes are ordered by the first poll of the future, not
    /// by its completion.** With an `epoch` it happens only while the room has that epoch.
    fn publish(&self, new: NewEvent, epoch: Option<Epoch>, receipt: Option<Receipt>) -> Reply<'_, Outcome>;

    /// Lets an ephemeral event pass to everyone.
    fn broadcast(&self, new: NewEvent) -> Reply<'_, ()>;

    /// Begins to feed a room and says where it stands. Each call is undone by one of [`Engine::close`], in whichever order they come.
    fn open<'a>(&'a self, room: &'a RoomName) -> Reply<'a, Position>;

    /// No longer feeds a room, once for each time that it was opened.
    fn close(&self, room: &RoomName);

    /// Reads history.
    fn read<'a>(&'a self, room: &'a RoomName, range: Range) -> Reply<'a, HistoryRead>;

    /// Lists rooms after a name, in order of names.
    fn list<'a>(&'a self, after: &'a str, prefix: &'a str, limit: usize) -> Reply<'a, Vec<ListedRoom>>;

    /// Closes a room: its history, its ids and its position go, and it begins anew. Says where, or nothing if there is no such room.
    fn close_room<'a>(&'a self, room: &'a RoomName) -> Reply<'a, Option<Position>>;

    /// Tells the other cores that share this engine. An engine that lasts also keeps revocations for as long as they hold, and tells them to a core
    /// that begins.
    fn announce(&self, notice: Notice) -> Reply<'_, ()>;

    /// Forgets what has expired, a part at a time; called [`SWEEPS_PER_SECOND`] times a second.
    fn sweep(&self);
}

/// How often [`Engine::sweep`] is called.
pub const SWEEPS_PER_SECOND: u32 = 16;
