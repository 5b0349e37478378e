//! `GET /poll/{room}` and `GET /poll?room=a&room=b`: a session in pieces.
//!
//! Between two polls the session stays a shard's; what it is told waits in a pipe, as bounded as a socket's buffer. An answer is kept until
//! the next poll's cursor shows that it arrived, so a lost one loses nothing. A cursor that this edge does not know, or no longer, makes a
//! new session that goes on from the cursor's positions.
use crate::fanout::connection::{Guard, NewSession, Socket};
use crate::transport::pipe::{Outlet, Taken, pipe};
use crate::transport::problem::Problem;
use crate::transport::{Doors, asked, query, session_id};
use crate::wire::cursor::Cursor;
use crate::wire::dialect::Dialect;
use crate::wire::event::Position;
use crate::wire::poll_cursor::PollCursor;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout_at};

/// How long a poll waits unless it says so, and at most, in seconds.
const TIMEOUT: (u64, u64) = (25, 60);
/// How many messages an answer has at most, and when nothing is said.
const LIMIT: (usize, usize) = (1000, 100);
/// How long a session is kept without a poll. A client polls again at once; this bears a slow answer and a slow network.
const GAP: Duration = Duration::from_secs(5);
/// How long the first answer waits for what joining shows, once all rooms are joined.
const SHOWING: Duration = Duration::from_millis(500);

/// All sessions that are polled.
#[derive(Debug, Default)]
pub struct Polls {
    sessions: Mutex<HashMap<Arc<str>, Arc<Held>>>,
    sweeping: Mutex<bool>,
}

/// A session between its polls.
#[derive(Debug)]
struct Held {
    id: Arc<str>,
    rooms: Vec<Arc<str>>,
    outlet: Outlet,
    /// Counts polls: the last one is answered, those before are not.
    poll: AtomicU64,
    superseded: Notify,
    /// One poll at a time.
    inner: tokio::sync::Mutex<Inner>,
    /// Since when nobody polls.
    idle: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Inner {
    user: String,
    /// The beginning of a line.
    partial: BytesMut,
    /// What the client has not shown to have.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many there were before these.
    given: u64,
    /// Where the client is, with what it has shown to have.
    positions: BTreeMap<Arc<str>, Position>,
    /// Rooms whose join is not answered, or answered and not shown in full.
    joining: HashMap<Arc<str>, Joining>,
    joined_at: Option<Instant>,
    /// How many rooms were refused for want of a permission.
    forbidden: usize,
    ended: bool,
}

#[derive(Debug, Default)]
struct Joining {
    joined: bool,
    replay: u64,
    presence: bool,
}

#[derive(Debug)]
struct Entry {
    text: Bytes,
    moves: Option<(Arc<str>, Position)>,
}

/// What is looked at of an envelope.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    room: Option<&'a str>,
    seq: Option<u64>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Told {
    event: Option<String>,
    user: Option<String>,
    epoch: Option<String>,
    seq: Option<u64>,
    replayed: Option<u64>,
    code: Option<String>,
}

/// What a request asks for.
struct Asked {
    rooms: Vec<Arc<str>>,
    dev_user: Option<Box<str>>,
    /// Some(None): unreadable.
    cursor: Option<Option<PollCursor>>,
    timeout: Duration,
    limit: usize,
}

impl Asked {
    fn read(doors: &Doors, request: &Request<Body>) -> Result<Asked, Problem> {
        let uri = request.uri();
        asked::admit(&doors.config, request.method(), uri, request.headers())?;
        let query = uri.query().unwrap_or_default();
        let (rooms, dev_user) = (asked::rooms(uri, "/poll/")?, asked::user(query)?);
        let number = |name: &'static str, usual: u64, range: RangeInclusive<u64>| {
            let number = asked::number(query, name)?.unwrap_or(usual);
            let bad = || format!("{name} must be {} to {}", range.start(), range.end());
            range.contains(&number).then_some(number).ok_or_else(|| Problem::invalid_argument(bad()))
        };
        let timeout = Duration::from_secs(number("timeout", TIMEOUT.0, 0..=TIMEOUT.1)?);
        let limit = number("limit", LIMIT.1 as u64, 1..=LIMIT.0 as u64)? as usize;
        let cursor = query::value(query, "cursor").filter(|token| token.as_deref() != Some(""));
        let cursor = cursor.map(|token| token.as_deref().and_then(PollCursor::decode));
        Ok(Asked { rooms, dev_user, cursor, timeout, limit })
    }
}

/// The handler.
pub async fn poll(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response {
    let asked = match Asked::read(&doors, &request) {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let guard = asked::guard(request.extensions());
    match answer(&doors, asked, guard).await {
        Ok(body) => {
            let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
            (headers, body).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

async fn answer(doors: &Arc<Doors>, asked: Asked, guard: Option<Guard>) -> Result<Vec<u8>, Problem> {
    let deadline = Instant::now() + asked.timeout;
    let known = doors.polls.find(&asked);
    let (held, given, fresh) = match known {
        Some((held, given)) => (held, given, false),
        None => (doors.polls.open(doors, &asked, guard)?, 0, true),
    };
    let turn = Turn::begin(held.clone());
    let mut inner = tokio::select! {
        inner = held.inner.lock() => inner,
        () = turn.superseded() => return Err(superseded()),
    };
    if turn.is_superseded() {
        return Err(superseded());
    }
    if !inner.trim(given) {
        // It has been told more, or less, than the client thinks.
        drop(inner);
        doors.polls.forget(&held.id);
        let asked = Asked { timeout: deadline.saturating_duration_since(Instant::now()), ..asked };
        return Box::pin(answer(doors, asked, None)).await;
    }
    // Without a cursor it answers with what joining shows; with one that is not known here, with what was missed.
    let at_once = fresh && !matches!(asked.cursor, Some(Some(_)));
    loop {
        inner.fill(&held, doors.config.session_queue_bytes, asked.cursor.is_none());
        if inner.forbidden == held.rooms.len() {
            let detail = "none of these rooms is open to you";
            return Err(Problem::new(StatusCode::FORBIDDEN, "permission_denied", detail));
        }
        let shown = inner.is_shown();
        let ready =
            if fresh { shown && (at_once || !inner.entries.is_empty()) } else { !inner.entries.is_empty() };
        if ready || inner.ended {
            break;
        }
        let until = if fresh { inner.joined_at.map(|at| at + SHOWING) } else { None };
        let until =
            until.filter(|until| *until > Instant::now()).map_or(deadline, |until| until.min(deadline));
        // Without a cursor the client knows nothing yet: a core that is slow is waited for.
        let until = if at_once { until.max(Instant::now() + SHOWING) } else { until };
        let waited = tokio::select! {
            waited = timeout_at(until.into(), held.outlet.filled()) => waited,
            () = turn.superseded() => return Err(superseded()),
        };
        if waited.is_err() && Instant::now() >= deadline {
            inner.fill(&held, doors.config.session_queue_bytes, asked.cursor.is_none());
            break;
        }
    }
    if inner.ended {
        doors.polls.forget(&held.id);
        if inner.entries.is_empty() {
            return Err(Problem::unavailable("this session has ended; come back with the same cursor"));
        }
    }
    Ok(inner.answer(&held.id, asked.limit))
}

fn superseded() -> Problem {
    Problem::new(StatusCode::CONFLICT, "aborted", "another poll of this session has come")
}

impl Inner {
    /// Forgets what the client has shown to have. False if these are not its messages.
    fn trim(&mut self, given: u64) -> bool {
        let Some(count) = given.checked_sub(self.given).filter(|count| *count <= self.entries.len() as u64)
        else {
            return false;
        };
        for entry in self.entries.drain(..count as usize) {
            self.bytes -= entry.text.len();
            self.positions.extend(entry.moves);
        }
        self.given = given;
        true
    }

    /// Takes in what has come; past `max` bytes the rest waits where it is, until the session is too slow.
    fn fill(&mut self, held: &Held, max: usize, wants_welcome: bool) {
        while self.bytes < max {
            match held.outlet.take() {
                Taken::Nothing => return,
                Taken::End => {
                    self.ended = true;
                    return;
                }
                Taken::Bytes(bytes) => self.partial.unsplit(bytes),
            }
            while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let mut line = self.partial.split_to(end + 1);
                line.truncate(end);
                self.take(&line, held, wants_welcome);
            }
        }
    }

    fn take(&mut self, text: &[u8], held: &Held, wants_welcome: bool) {
        // It was written here; what could not be read would be passed on as it is.
        let moves = match serde_json::from_slice::<Line<'_>>(text) {
            Ok(line) => match self.note(&line, held) {
                Some(_)
                    if line.room.is_none()
                        && line.kind == "system"
                        && !wants_welcome
                        && is_welcome(line.data) =>
                {
                    return;
                }
                moves => moves.flatten(),
            },
            Err(_) => None,
        };
        self.bytes += text.len();
        // A copy, since a slice would hold on to all that came with it.
        self.entries.push_back(Entry { text: Bytes::copy_from_slice(text), moves });
    }

    /// Where an envelope moves the client to.
    fn note(&mut self, line: &Line<'_>, held: &Held) -> Option<Option<(Arc<str>, Position)>> {
        let room = line.room.and_then(|room| held.rooms.iter().find(|known| ***known == *room)).cloned();
        let told = matches!(line.kind, "system" | "error")
            .then(|| serde_json::from_str::<Told>(line.data.get()).ok())
            .flatten();
        let Some(room) = room else {
            if let Some(user) = told.and_then(|told| told.user) {
                self.user = user;
            }
            return Some(None);
        };
        if let Some(seq) = line.seq {
            let epoch = self.epoch(&room)?;
            if let Some(joining) = self.joining.get_mut(&room) {
                joining.replay = joining.replay.saturating_sub(1);
            }
            return Some(Some((room, Position { epoch, seq })));
        }
        let joining = self.joining.get_mut(&room);
        match (line.kind, told) {
            (
                "system",
                Some(Told { event: Some(event), epoch: Some(epoch), seq: Some(seq), replayed, .. }),
            ) if event == "joined" => {
                let replayed = replayed.unwrap_or(0);
                if let Some(joining) = joining {
                    (joining.joined, joining.replay) = (true, replayed);
                    if self.joining.values().all(|joining| joining.joined) {
                        self.joined_at.get_or_insert_with(Instant::now);
                    }
                }
                Some(Some((room, Position { epoch: epoch.into(), seq: seq.saturating_sub(replayed) })))
            }
            ("error", Some(Told { code, .. })) => {
                if self.joining.remove(&room).is_some_and(|joining| !joining.joined) {
                    self.forbidden += usize::from(code.as_deref() == Some("permission_denied"));
                }
                Some(None)
            }
            ("presence", _) => {
                if let Some(joining) = joining {
                    joining.presence = true;
                }
                Some(None)
            }
            _ => Some(None),
        }
    }

    /// The epoch of what comes for a room now.
    fn epoch(&self, room: &str) -> Option<Arc<str>> {
        let last = self
            .entries
            .iter()
            .rev()
            .filter_map(|entry| entry.moves.as_ref())
            .find(|(name, _)| **name == *room);
        last.map(|(_, position)| position)
            .or_else(|| self.positions.get(room))
            .map(|position| position.epoch.clone())
    }

    /// Whether all rooms are joined and have shown what joining shows, or had their time.
    fn is_shown(&self) -> bool {
        let late = self.joined_at.is_some_and(|at| at.elapsed() >= SHOWING);
        self.joining
            .values()
            .all(|joining| joining.joined && (late || joining.presence && joining.replay == 0))
    }

    fn answer(&self, session: &str, limit: usize) -> Vec<u8> {
        let count = limit.min(self.entries.len());
        let mut positions = self.positions.clone();
        let mut body = Vec::new();
        for entry in self.entries.iter().take(count) {
            if let Some((room, position)) = &entry.moves {
                positions.insert(room.clone(), position.clone());
            }
            if !body.is_empty() {
                body.push(b',');
            }
            body.extend_from_slice(&entry.text);
        }
        let rooms = Cursor::encode(positions.iter().map(|(room, position)| (&**room, position)));
        let cursor = PollCursor::encode(session, &self.user, self.given + count as u64, &rooms);
        [br#"{"cursor":""#, cursor.as_bytes(), br#"","messages":["#, &body, b"]}"].concat()
    }
}

fn is_welcome(data: &RawValue) -> bool {
    data.get().starts_with(r#"{"event":"welcome""#)
}

impl Polls {
    /// The session that a cursor is of, if it is here and for the same rooms and user, and how much the client has of it.
    fn find(&self, asked: &Asked) -> Option<(Arc<Held>, u64)> {
        let cursor = asked.cursor.as_ref()?.as_ref()?;
        if asked.dev_user.as_ref().is_some_and(|user| **user != *cursor.user) {
            return None;
        }
        let held = self.lock().get(&*cursor.session).cloned()?;
        (held.rooms == asked.rooms).then_some((held, cursor.given))
    }

    fn open(&self, doors: &Arc<Doors>, asked: &Asked, guard: Option<Guard>) -> Result<Arc<Held>, Problem> {
        let max = doors.config.max_connections;
        if doors.draining.is_cancelled() || (max > 0 && doors.shards.sessions() >= max) {
            return Err(Problem::unavailable("this edge takes no more sessions now"));
        }
        let id = session_id()?;
        let readable = asked.cursor.as_ref().map(|cursor| cursor.as_ref());
        let since =
            readable.map(|cursor| cursor.map_or_else(Cursor::unreadable, |cursor| cursor.rooms.clone()));
        let since = since.map(|cursor| cursor.only(&asked.rooms));
        let user =
            asked.dev_user.clone().or_else(|| readable.flatten().map(|cursor| cursor.user.as_str().into()));
        let (inlet, outlet) = pipe();
        let joining = asked.rooms.iter().map(|room| (room.clone(), Joining::default())).collect();
        let held = Arc::new(Held {
            id: id.clone(),
            rooms: asked.rooms.clone(),
            outlet,
            poll: AtomicU64::new(0),
            superseded: Notify::new(),
            inner: tokio::sync::Mutex::new(Inner { joining, ..Inner::default() }),
            idle: Mutex::new(None),
        });
        self.lock().insert(id.clone(), held.clone());
        self.sweep(doors);
        doors.shards.adopt(NewSession {
            socket: Socket::Stream(Box::new(inlet)),
            read_ahead: Bytes::new(),
            id,
            dev_user: user,
            dialect: Dialect::Lines,
            head: None,
            rooms: asked.rooms.clone(),
            since,
            refuse: None,
            guard,
        });
        Ok(held)
    }

    fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Lets go of sessions that nobody polls any more, as long as there are any.
    fn sweep(&self, doors: &Arc<Doors>) {
        let mut sweeping = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *sweeping, true) {
            return;
        }
        let doors = Arc::downgrade(doors);
        tokio::spawn(async move {
            loop {
                sleep(GAP / 5).await;
                let Some(doors) = doors.upgrade() else { return };
                let mut sweeping = doors.polls.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
                let mut sessions = doors.polls.lock();
                sessions.retain(|_, held| !held.is_abandoned());
                if sessions.capacity() > 4 * sessions.len() + 64 {
                    let keep = 2 * sessions.len();
                    sessions.shrink_to(keep);
                }
                if sessions.is_empty() {
                    *sweeping = false;
                    return;
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Held>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is_abandoned(&self) -> bool {
        self.idle().is_some_and(|since| since.elapsed() >= GAP)
    }

    fn idle(&self) -> MutexGuard<'_, Option<Instant>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poll of a session, until it is answered or its client has gone.
struct Turn {
    held: Arc<Held>,
    number: u64,
}

impl Turn {
    fn begin(held: Arc<Held>) -> Turn {
        let number = held.poll.fetch_add(1, Ordering::AcqRel) + 1;
        *held.idle() = None;
        held.superseded.notify_waiters();
        Turn { held, number }
    }

    fn is_superseded(&self) -> bool {
        self.held.poll.load(Ordering::Acquire) != self.number
    }

    async fn superseded(&self) {
        loop {
            // Made before the look, so that one that comes in between is noticed.
            let superseded = self.held.superseded.notified();
            if self.is_superseded() {
                return;
            }
            superseded.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_superseded() {
            *self.held.idle() = Some(Instant::now());
        }
    }
}
