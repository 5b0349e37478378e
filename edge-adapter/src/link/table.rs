//! What the edge knows of its sessions, their rooms and their requests: the link's mind. Pure: it is handed requests, frames and the
//! time, and puts what should happen into an [`Out`]. Only the worker owns it.
//!
//! - Who is in a room changes at a shard only by posts, and these stand where the core's frames stood.
//! - A room's events are posted dense and in order. Frames that speak of a later point wait for it ([`Parked`]).
//! - A request is answered once: by the core, or here when its outcome cannot be known any more.
#[cfg(doc)]
use crate::link::rooms::Parked;
use crate::{
    fanout::post::Post,
    link::{
        convert::{self, Publish, Who},
        epochs::Epochs,
        metrics::LinkMetrics,
        out::Out,
        pending::{Pending, Stage},
        rooms::Rooms,
    },
    session::{
        key::{RoomId, SessionKey},
        request::{ClientId, Request},
    },
    wire::event::{Code, Failure},
};
use hearth_proto::v1;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// What a client is told about trying again when no core was there: by then the edge has found one, or is still trying.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long the table waits before it asks again for what a core could not give.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A session of this edge.
#[derive(Debug)]
pub struct Session {
    /// Its id, as the browser knows it.
    pub id: Arc<str>,
    /// Its user; none until the core has let it in.
    pub user: Option<Arc<str>>,
    /// The rooms that it is in: few, so a list.
    pub places: Vec<Place>,
    /// The numbers of its requests under way, ascending.
    pending: VecDeque<u64>,
}

/// A session in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The room.
    pub room: RoomId,
    /// Whether its own live events come back to it.
    pub echo: bool,
    /// Whether it gets the room's events.
    pub progress: Progress,
}

/// How far a session has come in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It gets the room's events.
    Live,
    /// It pulls its replay.
    Paging,
    /// It pulls its replay, and the core that it pulled from is gone: its next pull joins anew from where it is.
    Stranded,
}

/// Something to ask again, later.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    Request(u64),
    Room(Arc<str>),
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    pub(super) sessions: HashMap<SessionKey, Session>,
    ids: HashMap<Arc<str>, SessionKey>,
    pub(super) rooms: Rooms,
    pub(super) pending: Pending,
    pub(super) epochs: Epochs,
    /// A core takes frames. If not, requests wait.
    pub(super) speaking: bool,
    pub(super) again: Vec<(Instant, Again)>,
    /// How long a request waits for a core.
    pub(super) grace: Duration,
    pub(super) metrics: LinkMetrics,
}

impl Table {
    /// Nothing yet; no core yet.
    pub fn new(shards: usize, grace: Duration, metrics: LinkMetrics) -> Self {
        Self {
            sessions: HashMap::new(),
            ids: HashMap::new(),
            rooms: Rooms::new(shards),
            pending: Pending::default(),
            epochs: Epochs::default(),
            speaking: false,
            again: Vec::new(),
            grace,
            metrics,
        }
    }

    /// How many requests are under way.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes a request.
    pub fn request(&mut self, request: Request, now: Instant, out: &mut Out) {
        let session = session_of(&request);
        match &request {
            Request::Open { id, .. } => {
                let (id, own) = (Arc::clone(id), Arc::clone(id));
                self.ids.insert(id, session);
                let opening = Session { id: own, user: None, places: Vec::new(), pending: VecDeque::new() };
                self.sessions.insert(session, opening);
            }
            Request::Close { .. } => {
                if self.forget(session, now, out) && self.speaking {
                    out.frames.push(convert::close(session));
                }
                return;
            }
            // What a session asked that has been refused since.
            _ if !self.sessions.contains_key(&session) => return,
            Request::Pull { room, .. } if !self.is_paging(session, room) => return,
            Request::Publish { id: None, room, kind, payload, .. } if kind.is_ephemeral() => {
                // Nobody waits for an answer, and nobody wants it late.
                if self.speaking {
                    let publish = Publish { room, id: None, kind: *kind, payload, epoch: None };
                    out.frames.push(convert::publish(session, 0, publish));
                }
                return;
            }
            _ => {}
        }
        let bounded = !matches!(request, Request::Open { .. } | Request::Pull { .. });
        if bounded && self.pending.is_full_for(&request) {
            let failure = if self.speaking {
                Failure::new(Code::ResourceExhausted, "too many requests are under way")
            } else {
                Failure::new(Code::Unavailable, "no core is there, and too many requests wait for one")
            };
            self.fail(request, failure.retry_after_ms(RETRY_AFTER.as_millis() as u64), now, out);
            return;
        }
        self.add(request, now, out);
    }

    /// Notes a request and sends it, if a core is there.
    pub(super) fn add(&mut self, request: Request, now: Instant, out: &mut Out) -> u64 {
        let session = session_of(&request);
        let number = self.pending.add(request, now);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.pending.push_back(number);
        }
        if self.speaking {
            self.send(number, now, out);
        }
        number
    }

    /// Puts a request on the stream.
    pub(super) fn send(&mut self, number: u64, now: Instant, out: &mut Out) {
        if let Some(session) = self.leaves_unknown(number) {
            if let Some((Request::Leave { id, room, .. }, _)) = self.asked(session, number) {
                self.left(session, &room, Some(id), now, out);
            }
            return;
        }
        let Some(entry) = self.pending.get_mut(number) else { return };
        let again = entry.stage == Stage::Lost;
        let session = session_of(&entry.request);
        let frame = match &entry.request {
            Request::Open { id, dev_user, .. } => {
                convert::open(session, number, id, Who::Dev(dev_user.as_deref().unwrap_or_default()))
            }
            Request::Close { .. } => convert::close(session),
            Request::Join { room, since, history, echo, .. } => {
                convert::join(session, number, room, since.as_ref(), *history, *echo)
            }
            Request::Leave { room, .. } => convert::leave(session, number, room),
            Request::Publish { id, room, kind, payload, .. } => {
                if !again && id.is_some() && !kind.is_ephemeral() {
                    let room_here = self.rooms.find(room).and_then(|room| self.rooms.get(room));
                    let here = room_here.and_then(|room| room.position.as_ref());
                    entry.fence = here.map(|at| Arc::clone(&at.epoch)).or_else(|| self.epochs.get(room));
                }
                if again {
                    self.metrics.retried_publishes.inc();
                }
                let epoch = if again { entry.fence.as_deref() } else { None };
                let publish = Publish { room, id: id.as_deref(), kind: *kind, payload, epoch };
                convert::publish(session, number, publish)
            }
            Request::History { room, after, before, limit, .. } => {
                convert::history(session, number, room, *after, *before, *limit)
            }
            Request::Pull { room, after, .. } => {
                let place =
                    self.rooms.find(room).and_then(|room| place_mut(&mut self.sessions, session, room));
                match place {
                    Some(place) if place.progress == Progress::Stranded => {
                        place.progress = Progress::Paging;
                        convert::join(session, number, room, Some(after), 0, place.echo)
                    }
                    _ => convert::pull(Some(session), number, room, after),
                }
            }
        };
        entry.stage = Stage::Sent;
        out.frames.push(frame);
    }

    /// The session of a `leave` from a room where the core does not know of it: that needs no core.
    fn leaves_unknown(&mut self, number: u64) -> Option<SessionKey> {
        let Request::Leave { session, room, .. } = &self.pending.get(number)?.request else { return None };
        let (session, id) = (*session, self.rooms.find(room)?);
        let place = place_mut(&mut self.sessions, session, id)?;
        (place.progress == Progress::Stranded).then_some(session)
    }

    /// Takes a frame of the core.
    pub fn answer(&mut self, frame: v1::CoreFrame, now: Instant, out: &mut Out) {
        use v1::core_frame::Frame;
        let v1::CoreFrame { session, request, frame } = frame;
        let Some(frame) = frame else { return };
        if session == 0 {
            return match frame {
                Frame::Event(event) => self.event(event, now, out),
                Frame::Resumed(resumed) => self.resumed(resumed.joined, resumed.page, now, out),
                // A page that history no longer has.
                Frame::Joined(lost) => self.resumed(lost.joined, lost.page, now, out),
                Frame::Page(page) => self.filled(page, now, out),
                Frame::Error(error) => self.ask_again(&error, now),
                // The worker has seen these; the others are for sessions only.
                _ => {}
            };
        }
        let session = SessionKey::from_number(session);
        if !self.sessions.contains_key(&session) {
            return;
        }
        if let Some(frame) = self.park(session, request, frame, out) {
            self.answer_session(session, request, frame, now, out);
        }
    }

    /// The request that an answer belongs to, taken out.
    pub(super) fn asked(&mut self, session: SessionKey, number: u64) -> Option<(Request, Instant)> {
        if self.pending.get(number).is_none_or(|entry| session_of(&entry.request) != session) {
            return None;
        }
        self.drop_number(session, number);
        self.pending.remove(number).map(|entry| (entry.request, entry.arrived))
    }

    fn drop_number(&mut self, session: SessionKey, number: u64) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        if session.pending.front() == Some(&number) {
            session.pending.pop_front();
        } else if let Ok(at) = session.pending.binary_search(&number) {
            session.pending.remove(at);
        }
    }

    /// A session's requests under way.
    pub(super) fn numbers(&self, session: SessionKey) -> impl Iterator<Item = u64> + use<'_> {
        self.sessions.get(&session).into_iter().flat_map(|session| session.pending.iter().copied())
    }

    /// A session's place in a room.
    pub(super) fn place(&mut self, session: SessionKey, room: &str) -> Option<&mut Place> {
        let room = self.rooms.find(room)?;
        place_mut(&mut self.sessions, session, room)
    }

    fn is_paging(&mut self, session: SessionKey, room: &str) -> bool {
        self.place(session, room).is_some_and(|place| place.progress != Progress::Live)
    }

    /// The session of an id.
    pub(super) fn by_id(&self, id: &str) -> Option<SessionKey> {
        if id.is_empty() { None } else { self.ids.get(id).copied() }
    }

    /// Drops a session, its requests and its places. False if there is none.
    pub(super) fn forget(&mut self, session: SessionKey, now: Instant, out: &mut Out) -> bool {
        let Some(gone) = self.sessions.remove(&session) else { return false };
        self.ids.remove(&gone.id);
        for number in gone.pending {
            self.pending.remove(number);
        }
        for place in gone.places {
            self.vacate(session, place, now, out);
        }
        true
    }

    /// A place is empty: the room's counts follow, and what waited for its feed if that has ended.
    pub(super) fn vacate(&mut self, session: SessionKey, place: Place, now: Instant, out: &mut Out) {
        if place.progress == Progress::Live {
            self.end_live(session, place.room, now, out);
        }
        self.rooms.leave(place.room);
    }

    /// A live session gets the room's events no more.
    pub(super) fn end_live(&mut self, session: SessionKey, room: RoomId, now: Instant, out: &mut Out) {
        let Some(position) = self.rooms.end_live(room, session) else { return };
        let Some(room) = self.rooms.get_mut(room) else { return };
        let parked = std::mem::take(&mut room.parked);
        self.epochs.learn(&room.name, &position.epoch);
        for parked in parked {
            self.answer(parked.frame, now, out);
        }
    }

    /// Answers a request that has failed. It must have been taken out.
    pub(super) fn fail(&mut self, request: Request, failure: Failure, now: Instant, out: &mut Out) {
        if failure.code == Code::Unavailable {
            self.metrics.unavailable.inc();
        }
        let failed = |session, id: Option<ClientId>, name, failure| Post::Failed {
            session,
            id,
            name: Some(name),
            failure,
        };
        let (session, post) = match request {
            Request::Open { session, .. } => {
                self.forget(session, now, out);
                (session, Post::Refused { session, failure })
            }
            Request::Join { session, id, room, .. } => {
                (session, Post::JoinFailed { session, id, name: room, failure })
            }
            Request::Leave { session, id, room }
            | Request::Publish { session, id, room, .. }
            | Request::History { session, id, room, .. } => (session, failed(session, id, room, failure)),
            // Nobody waits for these.
            Request::Close { .. } | Request::Pull { .. } => return,
        };
        out.post(session, post);
    }
}

/// Who asks.
pub(super) fn session_of(request: &Request) -> SessionKey {
    match request {
        Request::Open { session, .. }
        | Request::Close { session }
        | Request::Join { session, .. }
        | Request::Leave { session, .. }
        | Request::Publish { session, .. }
        | Request::History { session, .. }
        | Request::Pull { session, .. } => *session,
    }
}

fn place_mut(
    sessions: &mut HashMap<SessionKey, Session>,
    session: SessionKey,
    room: RoomId,
) -> Option<&mut Place> {
    sessions.get_mut(&session)?.places.iter_mut().find(|place| place.room == room)
}
