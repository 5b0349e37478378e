//! What posts do: the core's answers to sessions, and the rooms' events.
//!
//! A change of who is in a room first gives what is pending in it to those who were members so far: in
//! `[ev5, joined, ev6]` the new member gets ev6 alone.
use crate::fanout::connection::{Connection, Phase};
use crate::fanout::post::Post;
use crate::fanout::shard::Shard;
use crate::fanout::shared::SharedEvent;
use crate::session::key::{RoomId, SessionKey};
use crate::session::place::{Place, Stage};
use crate::session::request::ClientId;
use crate::wire::close::CloseReason;
use crate::wire::event::{Code, Failure, Position};
use crate::wire::frame::{Acked, Frame, Joined, Page};
use bytes::Bytes;
use std::sync::Arc;

/// What a session enters, and how.
#[derive(Clone, Copy)]
struct Entry<'a> {
    room: RoomId,
    asked: bool,
    name: &'a Arc<str>,
    echo: bool,
    presence: bool,
}

impl Shard {
    /// Acts on one post.
    pub(super) fn act(&mut self, post: Post) {
        match post {
            Post::Event { room, event, origin } => self.event(room, &event, origin),
            Post::Ack { session, id, name, position, duplicate } => {
                let Some(slot) = self.answered(session) else { return };
                let acked = Acked::Delivered { position: position.as_ref(), duplicate };
                self.say(slot, &Frame::Ack { id: &id, room: Some(&name), acked });
                self.drained(slot);
            }
            Post::Failed { session, due, id, name, failure } => {
                let Some(slot) = (if due { self.answered(session) } else { self.open(session) }) else {
                    return;
                };
                self.note_forged(slot, &failure);
                self.error(slot, id.as_deref(), name.as_deref(), &failure);
                self.drained(slot);
            }
            Post::HistoryFailed { session, id, name, failure } => {
                let Some(slot) = self.open(session) else { return };
                self.connections[slot as usize].session.history_read();
                self.error(slot, id.as_deref(), Some(&name), &failure);
                self.drained(slot);
            }
            Post::History { session, id, name, position, events, more } => {
                let Some(slot) = self.open(session) else { return };
                self.connections[slot as usize].session.history_read();
                let events: Vec<_> = events.iter().map(|shared| &shared.event).collect();
                let page = Page { position: &position, events: &events, more };
                self.say(slot, &Frame::History { id: id.as_deref(), room: &name, page });
                self.drained(slot);
            }
            Post::Joined {
                session,
                asked,
                id,
                room,
                name,
                echo,
                presence,
                position,
                recovered,
                replayed,
                page,
                live,
            } => {
                let Some(slot) = self.open(session) else { return };
                let told = Joined { position: &position, cursor: "", recovered, replayed };
                self.joined(slot, id.as_deref(), Entry { room, asked, name: &name, echo, presence }, told);
                self.replay(slot, room, &page);
                if live {
                    self.make_live(slot, room, position);
                }
                self.drained(slot);
            }
            Post::StillJoined { session, id, room, position } => {
                self.still_joined(session, id.as_deref(), room, &position);
            }
            Post::JoinFailed { session, id, name, failure } => {
                let Some(slot) = self.open(session) else { return };
                self.connections[slot as usize].session.join_failed(&name);
                self.error(slot, id.as_deref(), Some(&name), &failure);
                self.drained(slot);
            }
            Post::Done { session, id, name } => {
                let Some(slot) = self.answered(session) else { return };
                if let Some(id) = id {
                    self.say(slot, &Frame::Ack { id: &id, room: Some(&name), acked: Acked::Ok });
                }
                self.drained(slot);
            }
            Post::Presence { room, shared } => self.presence(room, &shared),
            // Calls have no connection.
            Post::Called { .. } => {}
            Post::ShowPresence { session, room, shared } => self.show_presence(session, room, &shared),
            Post::LeaveFailed { session, id, name, failure } => {
                let Some(slot) = self.open(session) else { return };
                self.connections[slot as usize].session.leave_failed(&name);
                self.error(slot, id.as_deref(), Some(&name), &failure);
                self.drained(slot);
            }
            Post::Page { session, room, events, live } => {
                let Some(slot) = self.open(session) else { return };
                let place = self.connections[slot as usize].session.place_mut(room);
                if let Some(place) = place.filter(|place| place.stage == Stage::Paging) {
                    place.pulling = false;
                    self.page(slot, room, &events, live);
                }
            }
            Post::Left { session, room, asked } => self.left(session, room, asked),
            Post::Reset { room, position } => self.reset(room, &position),
            Post::Opened { session, user, expires_us } => self.opened(session, &user, expires_us),
            Post::Refreshed { session, id, expires_us } => self.refreshed(session, id.as_ref(), expires_us),
            Post::Refused { session, failure } => {
                if let Some(slot) = self.find(session, Connection::is_alive) {
                    self.note_forged(slot, &failure);
                    self.refused(slot, failure.code);
                }
            }
            Post::Kicked { session } => {
                if let Some(slot) = self.find(session, Connection::is_alive) {
                    self.kicked(slot);
                }
            }
        }
    }

    fn find(&self, session: SessionKey, is: impl Fn(&Connection) -> bool) -> Option<u32> {
        let connection = self.connections.get(session.slot())?;
        (connection.key == session && is(connection)).then_some(session.slot() as u32)
    }

    pub(super) fn open(&self, session: SessionKey) -> Option<u32> {
        self.find(session, |connection| connection.phase == Phase::Open)
    }

    /// An open session of which a request is answered.
    fn answered(&mut self, session: SessionKey) -> Option<u32> {
        let slot = self.open(session)?;
        self.connections[slot as usize].session.answered();
        Some(slot)
    }

    /// Notes who brings tokens that nobody has issued.
    fn note_forged(&self, slot: u32, failure: &Failure) {
        let guard = self.connections.get(slot as usize).and_then(|connection| connection.guard.as_ref());
        guard.filter(|_| failure.forged).into_iter().for_each(|guard| guard.forged());
    }

    /// Tells a session that something could not be done.
    pub(super) fn error(&mut self, slot: u32, id: Option<&str>, room: Option<&str>, failure: &Failure) {
        self.metrics.command_error(failure.code);
        // Where the last of several rooms is refused no `joined` brings the cursor, and the client must have one before its first message.
        let connection = self.connections.get(slot as usize);
        let several =
            connection.filter(|connection| connection.own_cursors && !connection.session.places().is_empty());
        let cursor = several.and_then(|connection| connection.cursor(&self.rooms, None));
        self.say_with(slot, &Frame::Error { id, room, failure }, cursor.as_deref());
    }

    /// Tells one session something.
    pub(super) fn say(&mut self, slot: u32, frame: &Frame<'_>) {
        self.say_with(slot, frame, None);
    }

    fn say_with(&mut self, slot: u32, frame: &Frame<'_>, cursor: Option<&str>) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        // Only this one is given it, which is not worth the work.
        let bytes = frame.encode(connection.dialect.plain(), cursor);
        self.out.own(&mut self.connections, slot, bytes);
    }

    fn event(&mut self, id: RoomId, shared: &Arc<SharedEvent>, origin: Option<SessionKey>) {
        if self.rooms.get(id).is_none() {
            return;
        }
        let ephemeral = shared.event.kind.is_ephemeral();
        let exclude = origin.and_then(|session| self.open(session)).filter(|slot| {
            let place = self.connections[*slot as usize].session.place(id);
            place.is_some_and(|place| place.stage == Stage::Live && (ephemeral || !place.echo))
        });
        let class = self.out.class(id, &shared.event);
        self.out.event(&mut self.rooms, id, shared, class, exclude);
    }

    fn opened(&mut self, session: SessionKey, user: &str, expires_us: Option<u64>) {
        let Some(slot) = self.find(session, |connection| connection.phase == Phase::Opening) else { return };
        let connection = &mut self.connections[slot as usize];
        let Some(start) = connection.start.take() else { return };
        connection.phase = Phase::Open;
        connection.heard = self.clock.tick;
        if let Some(head) = start.head {
            self.out.own(&mut self.connections, slot, head.ok);
        }
        let heartbeat_ms = self.config.heartbeat.as_millis() as u64;
        let max_message_bytes = self.config.max_message_bytes as u64;
        self.say(slot, &Frame::Welcome { session: &start.id, user, heartbeat_ms, max_message_bytes });
        if let Some(Some(id)) = start.brought {
            self.say(slot, &Frame::Ack { id: &id, room: None, acked: Acked::Refreshed { expires_us } });
        }
        self.ends_at(slot, expires_us);
        for room in start.rooms {
            let verdict = self.connections[slot as usize].session.join_path(&self.limits, session, room);
            self.carry_out(slot, verdict);
        }
        if !start.read_ahead.is_empty() {
            self.take_in(slot, &mut start.read_ahead.to_vec());
        }
        self.read(slot);
    }

    /// Gives the session its place, from which pages go on, and says so; `told` lacks the cursor only.
    fn joined(&mut self, slot: u32, id: Option<&str>, entry: Entry<'_>, told: Joined<'_>) {
        let Entry { room, asked, name, echo, presence } = entry;
        let session = &self.connections[slot as usize].session;
        // Its number may be new too, if all had left before the core was replaced. While joining it has none: what
        // stands in its stead is the number of another room, which must not be left.
        let stands = |place: &&Place| place.name == *name && place.stage != Stage::Joining;
        if let Some(before) = session.places().iter().find(stands).map(|place| place.room) {
            self.out.cut(&mut self.connections, &mut self.rooms, before);
            self.take_from_members(slot, before);
        }
        self.out.cut(&mut self.connections, &mut self.rooms, room);
        // Cut right after this frame, the client has seen nothing of the replay.
        let seen = Position { seq: told.position.seq.saturating_sub(told.replayed), ..told.position.clone() };
        let session = &mut self.connections[slot as usize].session;
        session.forget_brought(name);
        session.joined(name, (room, asked), (echo, presence), seen);
        let whole = !session.is_joining();
        let cursor = self.cursor(slot);
        let frame = Frame::Joined { id, room: name, joined: Joined { cursor: &cursor, ..told } };
        self.say_with(slot, &frame, whole.then_some(&cursor));
    }

    /// One more page, and if it reaches the top, the seam.
    fn page(&mut self, slot: u32, room: RoomId, events: &[Arc<SharedEvent>], live: bool) {
        self.out.cut(&mut self.connections, &mut self.rooms, room);
        self.replay(slot, room, events);
        let place = self.connections[slot as usize].session.place(room);
        if live && let Some(sent) = place.and_then(|place| place.sent.as_deref().cloned()) {
            self.make_live(slot, room, sent);
        }
    }

    fn replay(&mut self, slot: u32, room: RoomId, events: &[Arc<SharedEvent>]) {
        let Some(Connection { dialect, own_cursors, .. }) = self.connections.get(slot as usize) else {
            return;
        };
        let (dialect, own_cursors) = (dialect.plain(), *own_cursors);
        for shared in events {
            let bytes = match own_cursors {
                true => {
                    let cursor =
                        self.connections[slot as usize].cursor(&self.rooms, Some((room, &shared.position())));
                    shared.encode(dialect, cursor.as_deref())
                }
                false => shared.bytes(dialect).clone(),
            };
            self.out.own(&mut self.connections, slot, bytes);
        }
        self.out.tally.deliveries += events.len() as u64;
        let place = self.connections[slot as usize].session.place_mut(room);
        if let (Some(last), Some(sent)) = (events.last(), place.and_then(|place| place.sent.as_mut())) {
            sent.seq = last.event.seq;
        }
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            // Even an empty page may make room for the next one.
            self.out.touch(connection, slot);
        }
    }

    /// Adds a session to a room's members.
    fn make_live(&mut self, slot: u32, room: RoomId, position: Position) {
        if let Some(place) = self.connections[slot as usize].session.place_mut(room) {
            place.stage = Stage::Live;
            place.sent = None;
            place.index = self.rooms.add(room, slot, position);
        }
    }

    fn still_joined(&mut self, session: SessionKey, id: Option<&str>, room: RoomId, position: &Position) {
        let Some(slot) = self.open(session) else { return };
        // The frame speaks of a position that includes what is pending.
        self.out.cut(&mut self.connections, &mut self.rooms, room);
        let session = &mut self.connections[slot as usize].session;
        session.still_joined(room);
        if let Some(name) = session.place(room).map(|place| place.name.clone()) {
            let cursor = self.cursor(slot);
            let joined = Joined { position, cursor: &cursor, recovered: None, replayed: 0 };
            self.say(slot, &Frame::Joined { id, room: &name, joined });
        } else if let Some(connection) = self.connections.get_mut(slot as usize) {
            self.out.touch(connection, slot);
        }
        self.drained(slot);
    }

    fn left(&mut self, session: SessionKey, room: RoomId, asked: Option<Option<ClientId>>) {
        let Some(slot) = self.open(session) else { return };
        self.out.cut(&mut self.connections, &mut self.rooms, room);
        self.take_from_members(slot, room);
        let session = &mut self.connections[slot as usize].session;
        let name = session.left(room);
        if asked.is_some() {
            session.answered();
        }
        match (asked, name) {
            (Some(Some(id)), name) => {
                self.say(slot, &Frame::Ack { id: &id, room: name.as_deref(), acked: Acked::Left });
            }
            (None, Some(name)) => self.say(slot, &Frame::Left { room: &name }),
            (Some(None), _) | (None, None) => {}
        }
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            // What waited for this room's replay may go on.
            self.out.touch(connection, slot);
        }
        self.drained(slot);
    }

    fn reset(&mut self, id: RoomId, position: &Position) {
        self.out.cut(&mut self.connections, &mut self.rooms, id);
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.position = position.clone();
        for slot in room.members.clone() {
            let place =
                self.connections.get(slot as usize).and_then(|connection| connection.session.place(id));
            let Some(name) = place.map(|place| place.name.clone()) else { continue };
            let cursor = self.cursor(slot);
            let joined = Joined { position, cursor: &cursor, recovered: Some(false), replayed: 0 };
            self.say_with(slot, &Frame::Joined { id: None, room: &name, joined }, Some(&cursor));
        }
    }

    /// Takes a live session out of a room's members, and leaves its place paging.
    fn take_from_members(&mut self, slot: u32, room: RoomId) {
        let place = self.connections[slot as usize].session.place_mut(room);
        if let Some(place) = place.filter(|place| place.stage == Stage::Live) {
            place.stage = Stage::Paging;
            let index = place.index;
            self.leave(room, index);
        }
    }

    /// Takes the member at `index` out of a room, and tells the one that takes its place there.
    pub(super) fn leave(&mut self, room: RoomId, index: u32) {
        if let Some(moved) = self.rooms.remove(room, index)
            && let Some(connection) = self.connections.get_mut(moved as usize)
            && let Some(place) = connection.session.place_mut(room)
        {
            place.index = index;
        }
    }

    /// The session's cursor, of the rooms that it is in so far.
    fn cursor(&self, slot: u32) -> String {
        self.connections[slot as usize].cursor_so_far(&self.rooms, None)
    }

    /// The core does not let a session in. An HTTP answer that has not begun says so by its status.
    fn refused(&mut self, slot: u32, code: Code) {
        if code == Code::Unauthenticated && self.wait_for_token(slot) {
            return;
        }
        // It had been let in: what is not good any more is its token, as a new core sees it.
        if code == Code::Unauthenticated && self.connections[slot as usize].phase == Phase::Open {
            return self.shut(slot, CloseReason::TokenExpired);
        }
        let head = self.connections[slot as usize].start.as_mut().and_then(|start| start.head.take());
        match (head, code) {
            (Some(head), Code::Unauthenticated) => {
                self.turn_away(slot, head.unauthenticated, CloseReason::Unauthenticated)
            }
            (Some(head), Code::PermissionDenied) => {
                self.turn_away(slot, head.forbidden, CloseReason::PermissionDenied)
            }
            (Some(head), _) => {
                self.out.own(&mut self.connections, slot, head.ok);
                self.shut(slot, refusal(code));
            }
            (None, _) => self.shut(slot, refusal(code)),
        }
    }

    /// An administrator has ended a session, perhaps before its answer over HTTP began.
    fn kicked(&mut self, slot: u32) {
        match self.connections[slot as usize].start.as_mut().and_then(|start| start.head.take()) {
            Some(head) => self.turn_away(slot, head.forbidden, CloseReason::PermissionDenied),
            None => self.shut(slot, CloseReason::Kicked),
        }
    }

    /// Answers an HTTP request with something else than a session; the reason is one that has no last word of its own.
    fn turn_away(&mut self, slot: u32, answer: Bytes, reason: CloseReason) {
        self.out.own(&mut self.connections, slot, answer);
        self.shut(slot, reason);
    }
}

/// How a session is closed that the core refuses.
fn refusal(code: Code) -> CloseReason {
    match code {
        Code::InvalidArgument => CloseReason::InvalidArgument,
        Code::Unauthenticated => CloseReason::Unauthenticated,
        Code::PermissionDenied => CloseReason::PermissionDenied,
        Code::ResourceExhausted | Code::Unavailable => CloseReason::Overloaded,
        Code::NotFound
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal => CloseReason::Internal,
    }
}
