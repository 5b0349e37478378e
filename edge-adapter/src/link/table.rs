//! What the link knows: sessions, rooms, and requests without an answer. Pure: requests and core frames go in, posts and
//! edge frames come out, time is an argument.
//!
//! Who is in a room changes only where the core's frames say so, at that point of the room's order; a shard learns
//! it by a post at that same point. So nothing is missed, doubled or reordered between a replay and what follows it.
mod answers;
mod pending;
mod presence;
mod reattach;
mod rooms;
#[cfg(test)]
mod tests;

use crate::{
    fanout::{
        post::{Post, RoomId},
        shared::SharedEvent,
    },
    link::{
        convert::{self, Publish},
        metrics::LinkMetrics,
    },
    session::{
        key::SessionKey,
        request::{Credentials, Request},
    },
    wire::event::{Code, Failure, Position},
};
use hearth_proto::v1::{self, EdgeFrame};
use pending::{Epochs, Pending, PendingRequests, What};
use rooms::{Feed, Pull, Room, Rooms};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long requests wait for a core that is away: a restart takes less, a browser's user would not wait longer.
const DETACHED_GRACE: Duration = Duration::from_secs(10);
/// When a client should try again after that.
const RETRY_AFTER_MS: u64 = 1000;
/// How long to leave a core alone that could not serve a replay just now.
const REPLAY_RETRY: Duration = Duration::from_millis(500);
/// The most sessions that one `resume` names, so that it stays below a megabyte. The answers to the others hold nothing new.
const RESUME_SESSIONS: usize = 100_000;

/// A session of this edge.
#[derive(Debug)]
struct Session {
    id: Arc<str>,
    /// What the core said when it let it in: it is brought to the next one.
    known: Option<Known>,
    /// It is a single request over HTTP.
    call: bool,
    /// The number under which the core was asked to let it in.
    opening: u64,
    rooms: Vec<RoomId>,
    /// Its pending requests, the oldest first: they are mostly answered in order.
    pending: VecDeque<u64>,
}

/// What a core has said of a session.
#[derive(Debug)]
enum Known {
    /// Its name, which is all that there is in dev mode. Small, since idle sessions are many.
    Name(Arc<str>),
    /// What its token grants.
    Grant(Box<v1::Opened>),
}

impl Known {
    /// As the core said it.
    fn opened(&self) -> v1::Opened {
        match self {
            Known::Name(user) => v1::Opened { user: user.as_ref().to_owned(), ..v1::Opened::default() },
            Known::Grant(opened) => v1::Opened::clone(opened),
        }
    }
}

/// What a table wants done.
#[derive(Debug, Default)]
pub struct Out {
    /// For the core, in order.
    pub frames: VecDeque<EdgeFrame>,
    /// For each shard, in order.
    pub posts: Vec<Vec<Post>>,
}

impl Out {
    fn post(&mut self, session: SessionKey, post: Post) {
        self.post_to(session.shard(), post);
    }

    fn post_to(&mut self, shard: usize, post: Post) {
        if let Some(posts) = self.posts.get_mut(shard) {
            posts.push(post);
        }
    }
}

/// A replay that the core could not serve.
#[derive(Debug)]
enum Replay {
    /// Of all sessions in a room.
    Room(Arc<str>),
    /// Of one session.
    Session(SessionKey, Arc<str>),
}

impl Replay {
    fn is_of(&self, name: &str) -> bool {
        matches!(self, Replay::Room(room) if **room == *name)
    }
}

/// What the link knows. Only the worker has it.
#[derive(Debug)]
pub struct Table {
    /// What is to be done; the worker empties it.
    pub out: Out,
    sessions: HashMap<SessionKey, Session>,
    ids: HashMap<Arc<str>, SessionKey>,
    rooms: Rooms,
    pending: PendingRequests,
    epochs: Epochs,
    retries: VecDeque<(Instant, Replay)>,
    /// Absent while attached.
    detached_at: Option<Instant>,
    /// The core that it is or was attached to.
    core: Option<String>,
    /// Until then another core is given time to hear of all who are online.
    hold: Option<Instant>,
    last_number: u64,
    metrics: LinkMetrics,
}

impl Table {
    /// Empty and detached.
    pub fn new(now: Instant, shards: usize, metrics: LinkMetrics) -> Self {
        Self {
            out: Out { frames: VecDeque::new(), posts: (0..shards).map(|_| Vec::new()).collect() },
            sessions: HashMap::new(),
            ids: HashMap::new(),
            rooms: Rooms::new(shards),
            pending: PendingRequests::default(),
            epochs: Epochs::default(),
            retries: VecDeque::new(),
            detached_at: Some(now),
            core: None,
            hold: None,
            last_number: 0,
            metrics,
        }
    }

    /// How many requests wait for an answer.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A shard asks.
    pub fn request(&mut self, now: Instant, request: Request) {
        match request {
            Request::Open { session, id, who, rooms } => self.open(now, session, id, (who, rooms), false),
            Request::Refresh { session, id, who } => self.ask(now, session, What::Refresh { id, who }),
            Request::Call { session, id, who } => self.open(now, session, id, (who, Vec::new()), true),
            Request::Close { session, vanished } => {
                if self.forget(session) && self.is_attached() {
                    self.out.frames.push_back(convert::close(session, vanished));
                }
            }
            Request::Join { session, id, room, since, history, echo, presence } => {
                self.ask(now, session, What::Join { id, room, since, history, echo, presence });
            }
            Request::Presence { session, id, room, meta } => {
                self.ask(now, session, What::Presence { id, room, meta });
            }
            Request::ShowPresence { session, room } => self.wants_presence(session, room, 0),
            Request::Leave { session, id, room } => self.ask(now, session, What::Leave { id, room }),
            Request::Publish { session, id: None, room, kind, payload, fence }
                if kind.is_ephemeral() && !self.is_call(session) =>
            {
                let fence = fence.as_deref();
                self.whisper(
                    session,
                    Publish { room: &room, id: None, kind, payload: &payload, epoch: fence },
                );
            }
            Request::Publish { session, id, room, kind, payload, fence } => {
                self.ask(now, session, What::Publish { id, room, kind, payload, fence, epoch: None });
            }
            Request::History { session, id, room, after, before, limit } => {
                self.ask(now, session, What::History { id, room, after, before, limit });
            }
            Request::ListOnline { session, room, limit } => {
                self.ask(now, session, What::ListOnline { room, limit });
            }
            Request::Ticket { session } => self.ask(now, session, What::Ticket),
            Request::Pull { session, room, after } => self.pull(session, &room, after),
            Request::GiveUp => self.give_up(),
        }
    }

    /// Fails all that is pending but sessions that wait to be let in: those are sent away as they are.
    fn give_up(&mut self) {
        let unanswered: Vec<u64> = self.pending.numbers().collect();
        for number in unanswered {
            let Some(pending) = self.pending.get(number) else { continue };
            if let What::Open { .. } = pending.what {
                continue;
            }
            let message = match pending.sent {
                true => "the edge goes away before the core has answered: outcome unknown",
                false => "the edge goes away and no core was to be reached",
            };
            self.fail(number, Failure::new(Code::Unavailable, message).retry_after_ms(RETRY_AFTER_MS));
        }
    }

    /// When [`Table::due`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let expiry = self.detached_at.and_then(|since| {
            let (_, oldest) = self.pending.first()?;
            Some(oldest.at.max(since) + DETACHED_GRACE)
        });
        let retry = self.retries.front().map(|(at, _)| *at);
        let hold = self.hold.filter(|_| self.is_attached());
        expiry.into_iter().chain(retry).chain(hold).min()
    }

    /// Does what time has come for.
    pub fn due(&mut self, now: Instant) {
        while let Some(since) = self.detached_at
            && let Some((number, oldest)) = self.pending.first()
            && oldest.at.max(since) + DETACHED_GRACE <= now
        {
            let message = if oldest.sent {
                "the core was lost before it answered: outcome unknown"
            } else {
                "no core to be reached"
            };
            self.fail(number, Failure::new(Code::Unavailable, message).retry_after_ms(RETRY_AFTER_MS));
        }
        if self.is_attached() {
            self.end_hold(now);
        }
        while let Some((at, _)) = self.retries.front()
            && *at <= now
        {
            match self.retries.pop_front() {
                Some((_, Replay::Room(name))) => self.replay_again(&name),
                Some((_, Replay::Session(session, room))) => self.pull_again(session, &room),
                None => {}
            }
        }
    }

    fn is_attached(&self) -> bool {
        self.detached_at.is_none()
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn is_call(&self, session: SessionKey) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.call)
    }

    fn open(
        &mut self,
        now: Instant,
        key: SessionKey,
        id: Arc<str>,
        (who, rooms_wanted): (Credentials, Vec<Arc<str>>),
        call: bool,
    ) {
        self.ids.insert(Arc::clone(&id), key);
        let (rooms, pending, opening) = (Vec::new(), VecDeque::new(), self.last_number + 1);
        self.sessions
            .insert(key, Session { id: Arc::clone(&id), known: None, call, opening, rooms, pending });
        self.ask(now, key, What::Open { id, who, rooms: rooms_wanted, call });
    }

    /// Keeps a request until it is answered, and sends it if there is a core. A session that has gone asks in vain.
    fn ask(&mut self, now: Instant, key: SessionKey, what: What) {
        let number = self.next_number();
        let attached = self.is_attached();
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let mut pending = Pending { session: key, at: now, sent: false, lost: None, what };
        if !self.pending.has_room() && !matches!(pending.what, What::Open { .. }) {
            let failure = Failure::new(Code::ResourceExhausted, "too much waits for the core");
            return self.failed(pending, failure.retry_after_ms(RETRY_AFTER_MS));
        }
        session.pending.push_back(number);
        if attached {
            self.out.frames.push_back(pending.frame(number));
            mark_sent(&mut pending, &self.rooms, &self.epochs);
        }
        self.pending.insert(number, pending);
    }

    /// A signal that nobody waits for: sent or not, it is over.
    fn whisper(&mut self, session: SessionKey, publish: Publish<'_>) {
        if self.is_attached() && self.sessions.contains_key(&session) {
            self.out.frames.push_back(convert::publish(session, 0, publish));
        }
    }

    fn pull(&mut self, session: SessionKey, name: &Arc<str>, after: Position) {
        let number = self.next_number();
        let attached = self.is_attached();
        let Some((_, room)) = self.rooms.by_name(name) else { return };
        let Some(member) = room.members.get_mut(&session) else { return };
        if attached {
            self.out.frames.push_back(convert::pull(Some(session), number, name, &after));
        }
        member.pull = Some(Box::new(Pull { number, after }));
    }

    fn pull_again(&mut self, session: SessionKey, name: &str) {
        let Some((_, room)) = self.rooms.by_name(name) else { return };
        if let Some(pull) = room.members.get(&session).and_then(|member| member.pull.as_ref()) {
            self.out.frames.push_back(convert::pull(Some(session), pull.number, name, &pull.after));
        }
    }

    /// Asks for what is missing in a room, from the last event that was passed on. Until it comes, the room's events are not
    /// passed on. Who is in the room does not change by it.
    fn fill(&mut self, name: &str) {
        let Some((_, room)) = self.rooms.by_name(name) else { return };
        room.feed = Feed::Paging;
        self.out.frames.push_back(convert::pull(None, 0, &room.name, &room.position));
    }

    /// Asks again for what could not be read.
    fn replay_again(&mut self, name: &str) {
        let number = self.next_number();
        let Some((_, room)) = self.rooms.by_name(name) else { return };
        match room.feed {
            Feed::Live => {}
            Feed::Paging => self.fill(name),
            Feed::Resuming(_) => {
                room.feed = Feed::Resuming(number);
                resume(&mut self.out, number, room);
            }
        }
    }

    /// Takes a pending request out, if it is this session's.
    fn answered(&mut self, key: SessionKey, number: u64) -> Option<Pending> {
        self.pending.get(number).filter(|pending| pending.session == key)?;
        if let Some(session) = self.sessions.get_mut(&key)
            && let Some(at) = session.pending.iter().position(|pending| *pending == number)
        {
            session.pending.remove(at);
        }
        self.pending.remove(number)
    }

    /// Forgets a session with all that it is in and has asked for. False if there was none.
    fn forget(&mut self, key: SessionKey) -> bool {
        let Some(session) = self.sessions.remove(&key) else { return false };
        for number in session.pending {
            self.pending.remove(number);
        }
        for room in session.rooms {
            self.leave_room(room, key);
        }
        if self.ids.get(&session.id) == Some(&key) {
            self.ids.remove(&session.id);
        }
        true
    }

    /// Takes a session out of a room. False if it was not in.
    fn leave_room(&mut self, id: RoomId, key: SessionKey) -> bool {
        let (was_in, closed) = self.rooms.leave(id, key);
        if let Some(room) = closed
            && !room.held.is_empty()
        {
            // Others were about to come in when the last one left. What came behind their answers was not passed on.
            for held in room.held {
                self.let_in(held.frame);
            }
            self.fill(&room.name);
        }
        was_in
    }

    /// Answers a pending request with a failure.
    fn fail(&mut self, number: u64, failure: Failure) {
        let Some(session) = self.pending.get(number).map(|pending| pending.session) else { return };
        if let Some(pending) = self.answered(session, number) {
            self.failed(pending, failure);
        }
    }

    fn failed(&mut self, pending: Pending, failure: Failure) {
        let session = pending.session;
        if failure.code == Code::Unavailable {
            self.metrics.unavailable.inc();
        }
        let post = match pending.what {
            What::Open { .. } => {
                self.forget(session);
                Post::Refused { session, failure }
            }
            What::Refresh { id, .. } => Post::Failed { session, due: true, id, name: None, failure },
            What::Ticket => Post::Failed { session, due: true, id: None, name: None, failure },
            What::Join { id, room: name, .. } => Post::JoinFailed { session, id, name, failure },
            What::Leave { id, room: name } => Post::LeaveFailed { session, id, name, failure },
            // Of a publish without an id only a failure is told, so nobody counts on an answer.
            What::Publish { id, room, .. } => {
                Post::Failed { session, due: id.is_some(), id, name: Some(room), failure }
            }
            What::Presence { id, room, .. } => {
                Post::Failed { session, due: true, id, name: Some(room), failure }
            }
            What::ListOnline { room, .. } => {
                Post::Failed { session, due: true, id: None, name: Some(room), failure }
            }
            What::History { id, room: name, .. } => Post::HistoryFailed { session, id, name, failure },
        };
        self.out.post(session, post);
    }
}

/// Tells a core who is in a room, and asks for what all of them have missed.
fn resume(out: &mut Out, number: u64, room: &Room) {
    let mut sessions = room.members.keys().copied().peekable();
    while sessions.peek().is_some() {
        let some = sessions.by_ref().take(RESUME_SESSIONS);
        out.frames.push_back(convert::resume(number, &room.name, &room.position, some));
    }
}

/// A core may have it from now on. Notes for a publish with a key where it was sent to.
fn mark_sent(pending: &mut Pending, rooms: &Rooms, epochs: &Epochs) {
    pending.sent = true;
    if let What::Publish { id: Some(_), room, kind, epoch, .. } = &mut pending.what
        && !kind.is_ephemeral()
    {
        let joined = rooms.id(room).and_then(|id| rooms.get(id));
        *epoch = joined.map(|room| Arc::clone(&room.position.epoch)).or_else(|| epochs.get(room));
    }
}
