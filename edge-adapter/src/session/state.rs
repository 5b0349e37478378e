//! What one session is in, what it may do, and how fast. Pure: the shard that owns the session reads its commands, tells
//! it what the core answered, and does what it says; time is an argument.
//!
//! A place is in the list from the first `join` on until the core says `left` or refuses, so pipelined commands
//! are judged by what the client has asked for, in its order, and not by what has been answered so far.
mod held;

use crate::config::Config;
use crate::session::key::{RoomId, SessionKey};
use crate::session::place::{Place, Stage, View};
use crate::session::rate::{Meter, Rate, TooSoon};
use crate::session::request::{ClientId, Credentials, Request};
use crate::wire::close::CloseReason;
use crate::wire::command::{Action, Command, Rejected};
use crate::wire::cursor::Cursor;
use crate::wire::event::{Code, Failure, Kind, Position};
use std::sync::Arc;
use std::time::Duration;

/// When a session should try again whose command found the queue to the core full.
const BUSY_RETRY_MS: u64 = 250;

/// What holds for every session alike.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    rooms: usize,
    rate: Rate,
}

impl Limits {
    /// The limits that the settings ask for.
    pub fn new(config: &Config) -> Self {
        Limits { rooms: config.max_rooms_per_session, rate: Rate::new(config.rate_limit, config.rate_burst) }
    }
}

/// One session's rights and places. Small, since idle sessions are many.
#[derive(Debug, Default)]
pub struct Session {
    places: Vec<Place>,
    /// What the client brought from its last connection; only rooms that it has not joined yet.
    cursor: Option<Box<Cursor>>,
    meter: Meter,
    /// What waits for replays and pages of history, and what follows it.
    held: Option<Box<held::Held>>,
    /// Requests that the core will answer.
    due: u32,
    /// A page of history is under way.
    reading: bool,
}

/// What a command leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered here.
    Reply(Reply),
    /// The core is asked; if its queue is full, [`Session::busy`] takes it back.
    Ask(Request, Undo),
    /// The session ends.
    Close(CloseReason),
}

/// An answer that needs no core.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// A ping's, if it has an id.
    Pong(Option<ClientId>),
    /// An error.
    Error(Rejected),
}

/// What it takes to undo a command that did not reach the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// The command's id.
    pub id: Option<ClientId>,
    /// The room it was about.
    pub room: Option<Arc<str>>,
    kind: UndoKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UndoKind {
    /// No answer would have come.
    Nothing,
    Answer,
    History,
    Join {
        wanted_before: bool,
    },
    Leave,
}

impl Session {
    /// A session that brings a cursor, or nothing.
    pub fn new(cursor: Option<Cursor>) -> Self {
        Session { cursor: cursor.map(Box::new), ..Session::default() }
    }

    /// Judges one text. `now` is the time since any moment that the caller keeps to.
    pub fn on_command(
        &mut self,
        limits: &Limits,
        now: Duration,
        session: SessionKey,
        command: Result<Command, Rejected>,
    ) -> Verdict {
        if let Err(too_soon) = self.meter.charge(&limits.rate, now) {
            let TooSoon::Wait(wait) = too_soon else { return Verdict::Close(CloseReason::RateLimited) };
            let failure = Failure::new(Code::ResourceExhausted, "too many commands").retry_after_ms(wait);
            let (id, room) = match command {
                Ok(Command { id, action }) => (id, action.into_room()),
                Err(rejected) => (rejected.id, rejected.room),
            };
            return error(id, room, failure);
        }
        match command {
            Ok(Command { id, action }) => self.act(limits, session, id, action),
            Err(rejected) => Verdict::Reply(Reply::Error(rejected)),
        }
    }

    fn act(&mut self, limits: &Limits, session: SessionKey, id: Option<ClientId>, action: Action) -> Verdict {
        match action {
            Action::Ping => Verdict::Reply(Reply::Pong(id)),
            Action::Auth { token } => {
                self.due += 1;
                let undo = Undo { id: id.clone(), room: None, kind: UndoKind::Answer };
                let who = Credentials::token(token.0);
                Verdict::Ask(Request::Refresh { session, id, who }, undo)
            }
            Action::Join { room, since, history, presence, echo } => {
                self.join(limits, session, id, room, Wish { since, history, echo, presence })
            }
            Action::Presence { room, meta } => {
                if self.wanted(&room).is_none() {
                    return not_joined(id, room);
                }
                self.due += 1;
                let undo = Undo { id: id.clone(), room: Some(room.clone()), kind: UndoKind::Answer };
                Verdict::Ask(Request::Presence { session, id, room, meta }, undo)
            }
            Action::Leave { room } => {
                let Some(place) = self.wanted(&room) else { return not_joined(id, room) };
                place.wanted = false;
                self.due += 1;
                let undo = Undo { id: id.clone(), room: Some(room.clone()), kind: UndoKind::Leave };
                Verdict::Ask(Request::Leave { session, id, room }, undo)
            }
            Action::Publish { room, kind, payload, fence } => {
                if kind == Kind::Typing && self.wanted(&room).is_none() {
                    return not_joined(id, room);
                }
                // Without an id only a failure is told.
                let answered = id.is_some();
                self.due += u32::from(answered);
                let kind_of_undo = if answered { UndoKind::Answer } else { UndoKind::Nothing };
                let undo = Undo { id: id.clone(), room: Some(room.clone()), kind: kind_of_undo };
                Verdict::Ask(Request::Publish { session, id, room, kind, payload, fence }, undo)
            }
            Action::History { room, after, before, limit } => {
                self.due += 1;
                let undo = Undo { id: id.clone(), room: Some(room.clone()), kind: UndoKind::History };
                Verdict::Ask(Request::History { session, id, room, after, before, limit }, undo)
            }
        }
    }

    /// The join of the room that the path named.
    pub fn join_path(&mut self, limits: &Limits, session: SessionKey, room: Arc<str>) -> Verdict {
        self.join(limits, session, None, room, Wish { since: None, history: 0, echo: true, presence: true })
    }

    fn join(
        &mut self,
        limits: &Limits,
        session: SessionKey,
        id: Option<ClientId>,
        room: Arc<str>,
        wish: Wish,
    ) -> Verdict {
        let since = wish.since.or_else(|| self.cursor.as_ref()?.position_for(&room));
        // What it is about to leave does not count, as it will not for the core; yet places are bounded too.
        let wanted = self.places.iter().filter(|place| place.wanted).count();
        let full = wanted >= limits.rooms || self.places.len() >= 2 * limits.rooms;
        let wanted_before = match self.places.iter_mut().find(|place| place.name == room) {
            Some(place) => {
                place.joins = place.joins.saturating_add(1);
                std::mem::replace(&mut place.wanted, true)
            }
            None if full => {
                return error(id, Some(room), Failure::new(Code::ResourceExhausted, "in too many rooms"));
            }
            None => {
                self.push(Place::joining(room.clone()));
                false
            }
        };
        self.due += 1;
        let undo = Undo { id: id.clone(), room: Some(room.clone()), kind: UndoKind::Join { wanted_before } };
        let Wish { history, echo, presence, .. } = wish;
        Verdict::Ask(Request::Join { session, id, room, since, history, echo, presence }, undo)
    }

    /// The queue to the core was full: as if the command had not come. What the client is told.
    pub fn busy(&mut self, undo: Undo) -> Reply {
        let Undo { id, room, kind } = undo;
        match kind {
            UndoKind::Nothing => {}
            UndoKind::Answer => self.answered(),
            UndoKind::History => self.history_read(),
            UndoKind::Join { wanted_before } => {
                let name = room.as_deref().unwrap_or_default();
                if let Some(place) = self.places.iter_mut().find(|place| *place.name == *name) {
                    place.wanted = wanted_before;
                }
                self.join_failed(name);
            }
            UndoKind::Leave => self.leave_failed(room.as_deref().unwrap_or_default()),
        }
        let failure = Failure::new(Code::ResourceExhausted, "too much is under way; try again");
        Reply::Error(Rejected { id, room, failure: failure.retry_after_ms(BUSY_RETRY_MS) })
    }

    /// One more request that the core will answer.
    pub fn asked(&mut self) {
        self.due += 1;
    }

    /// The core has answered a request.
    pub fn answered(&mut self) {
        self.due = self.due.saturating_sub(1);
    }

    /// Whether the core has still to say of some room whether the session is in it.
    pub fn is_joining(&self) -> bool {
        self.places.iter().any(|place| place.stage == Stage::Joining)
    }

    /// Whether the core owes an answer.
    pub fn is_due(&self) -> bool {
        self.due > 0
    }

    /// The core let the session into a room, because it `asked` or to move it there to another position. The place is paging from then on;
    /// the shard makes it live.
    pub fn joined(
        &mut self,
        name: &Arc<str>,
        (room, asked): (RoomId, bool),
        (echo, presence): (bool, bool),
        sent: Position,
    ) -> &mut Place {
        let at = match self.places.iter().position(|place| place.name == *name) {
            Some(at) => at,
            None => {
                self.push(Place { joins: 0, ..Place::joining(name.clone()) });
                self.places.len() - 1
            }
        };
        if asked {
            self.answered();
        }
        let place = &mut self.places[at];
        if asked {
            place.joins = place.joins.saturating_sub(1);
        }
        // The core's copy of the name is shared by all its members.
        place.name = name.clone();
        place.room = room;
        place.echo = echo;
        place.view = if presence { View::Waiting } else { View::Off };
        place.stage = Stage::Paging;
        place.sent = Some(Box::new(sent));
        place.pulling = false;
        place.replaying = false;
        place
    }

    /// The cursor has served a room's first join.
    pub fn forget_brought(&mut self, room: &str) {
        if let Some(cursor) = &mut self.cursor {
            cursor.forget(room);
            if cursor.is_empty() {
                self.cursor = None;
            }
        }
    }

    /// A join of a room that it was in already is answered.
    pub fn still_joined(&mut self, room: RoomId) {
        self.answered();
        if let Some(place) = self.place_mut(room) {
            place.joins = place.joins.saturating_sub(1);
            place.replaying = false;
        }
    }

    /// A join failed.
    pub fn join_failed(&mut self, name: &str) {
        self.answered();
        let Some(at) = self.places.iter().position(|place| *place.name == *name) else { return };
        let place = &mut self.places[at];
        place.joins = place.joins.saturating_sub(1);
        place.replaying = false;
        if place.joins == 0 && place.stage == Stage::Joining {
            self.forget_place(at);
        }
    }

    /// A leave failed: the session is in the room as before.
    pub fn leave_failed(&mut self, name: &str) {
        self.answered();
        if let Some(place) = self.places.iter_mut().find(|place| *place.name == *name) {
            place.wanted = true;
        }
    }

    /// The session is out of a room: its name, if it was in. A join that is under way holds the place.
    pub fn left(&mut self, room: RoomId) -> Option<Arc<str>> {
        let at = self.places.iter().position(|place| place.is(room))?;
        let place = &mut self.places[at];
        let name = place.name.clone();
        if place.joins == 0 {
            self.forget_place(at);
        } else {
            place.stage = Stage::Joining;
            place.sent = None;
            place.pulling = false;
            place.replaying = false;
        }
        Some(name)
    }

    /// Its place in a room that it is in.
    pub fn place(&self, room: RoomId) -> Option<&Place> {
        self.places.iter().find(|place| place.is(room))
    }

    /// Its place in a room that it is in.
    pub fn place_mut(&mut self, room: RoomId) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.is(room))
    }

    /// All its places.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The next page to ask for, once: rooms take turns, so that the pages under way stay within the session's queue.
    pub fn next_pull(&mut self) -> Option<(Arc<str>, Position)> {
        if self.places.iter().any(|place| place.pulling) {
            return None;
        }
        let place = self.places.iter_mut().find(|place| place.stage == Stage::Paging)?;
        place.pulling = true;
        Some((place.name.clone(), place.sent.as_deref()?.clone()))
    }

    /// A room whose presence it needs to be shown anew, once.
    pub fn next_stale(&mut self) -> Option<RoomId> {
        let stale = |place: &&mut Place| place.view == View::Stale && place.stage == Stage::Live;
        let place = self.places.iter_mut().find(stale)?;
        place.view = View::Waiting;
        Some(place.room)
    }

    /// What it brought and has not used.
    pub fn brought(&self) -> Option<&Cursor> {
        self.cursor.as_deref()
    }

    fn wanted(&mut self, room: &str) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| *place.name == *room && place.wanted)
    }

    /// Most sessions are in one room or a few: room for exactly that many.
    fn push(&mut self, place: Place) {
        if self.places.len() < 4 {
            self.places.reserve_exact(1);
        }
        self.places.push(place);
    }

    fn forget_place(&mut self, at: usize) {
        self.places.swap_remove(at);
        if self.places.is_empty() {
            self.places = Vec::new();
        }
    }
}

struct Wish {
    since: Option<Position>,
    history: u32,
    echo: bool,
    presence: bool,
}

fn error(id: Option<ClientId>, room: Option<Arc<str>>, failure: Failure) -> Verdict {
    Verdict::Reply(Reply::Error(Rejected { id, room, failure }))
}

fn not_joined(id: Option<ClientId>, room: Arc<str>) -> Verdict {
    error(id, Some(room), Failure::new(Code::FailedPrecondition, "not in that room"))
}

#[cfg(test)]
mod tests;
