//! The sessions that are polled, between their polls and while they are: who may answer, and who is gone.
use super::Asked;
use super::backlog::Backlog;
use crate::fanout::newcomer::{Guard, Head, NewSession};
use crate::fanout::socket::Socket;
use crate::session::request::Credentials;
use crate::transport::pipe::{Outlet, Taken, pipe};
use crate::transport::problem::Problem;
use crate::transport::{Doors, asked, session_id};
use crate::wire::cursor::Cursor;
use crate::wire::dialect::Dialect;
use crate::wire::event::{Code, Failure};
use crate::wire::frame::Frame;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a session is kept without a poll. A client polls again at once; this bears a slow answer and a slow network.
const GAP: Duration = Duration::from_secs(5);

/// All sessions that are polled.
#[derive(Debug, Default)]
pub struct Polls {
    sessions: Mutex<HashMap<Arc<str>, Arc<Held>>>,
    sweeping: Mutex<bool>,
}

/// A session between its polls.
#[derive(Debug)]
pub struct Held {
    /// Its id.
    pub id: Arc<str>,
    /// What its token is known by, if it has one.
    meter: Option<String>,
    rooms: Arc<[Arc<str>]>,
    outlet: Outlet,
    /// What waits for its client; one poll at a time has it.
    pub told: tokio::sync::Mutex<Told>,
    /// Counts polls: the last one is answered, those before are not.
    poll: AtomicU64,
    superseded: Notify,
    /// Since when nobody polls.
    idle: Mutex<Option<Instant>>,
}

/// What a session has been told.
#[derive(Debug)]
pub struct Told {
    /// What of it waits for the client.
    pub backlog: Backlog,
    /// Nothing more comes.
    pub ended: bool,
}

/// A poll of a session, until it is answered or its client has gone.
#[derive(Debug)]
pub struct Poll {
    held: Arc<Held>,
    number: u64,
}

impl Polls {
    /// The session that a cursor is of, if it is here and for the same rooms and user, and how much the client has of it.
    pub fn find(&self, doors: &Doors, asked: &Asked) -> Option<(Arc<Held>, u64)> {
        let cursor = asked.cursor.as_ref()?.as_ref()?;
        if asked.who.user.as_ref().is_some_and(|user| **user != *cursor.user) {
            return None;
        }
        let held = self.lock().get(&*cursor.session).cloned()?;
        // A cursor is no secret: whoever shows it with another token than the session's has its own session.
        let own = held.meter == meter(doors, &asked.who) && *held.rooms == asked.rooms[..];
        own.then_some((held, cursor.given))
    }

    /// A new session, which goes on from the cursor's positions if there is one.
    pub fn open(
        &self,
        doors: &Arc<Doors>,
        asked: &Asked,
        guard: Option<Guard>,
    ) -> Result<Arc<Held>, Problem> {
        let max = doors.config.max_connections;
        if doors.draining.is_cancelled() || (max > 0 && doors.shards.sessions() >= max) {
            return Err(Problem::unavailable("this edge takes no more sessions now"));
        }
        let id = session_id()?;
        let readable = asked.cursor.as_ref().map(|cursor| cursor.as_ref());
        let since =
            readable.map(|cursor| cursor.map_or_else(Cursor::unreadable, |cursor| cursor.rooms.clone()));
        let since = since.map(|cursor| cursor.only(&asked.rooms));
        let known = || readable.flatten().map(|cursor| cursor.user.as_str().into());
        let user = asked.who.user.clone().or_else(known);
        let who = Credentials { user, token: asked.who.token.clone() };
        let (inlet, outlet) = pipe();
        let rooms: Arc<[Arc<str>]> = asked.rooms.clone().into();
        let backlog = Backlog::new(rooms.clone(), asked.cursor.is_none());
        let held = Arc::new(Held {
            id: id.clone(),
            meter: meter(doors, &asked.who),
            rooms,
            outlet,
            told: tokio::sync::Mutex::new(Told { backlog, ended: false }),
            poll: AtomicU64::new(0),
            superseded: Notify::new(),
            idle: Mutex::new(None),
        });
        self.lock().insert(id.clone(), held.clone());
        self.sweep(doors);
        doors.shards.adopt(NewSession {
            socket: Socket::Stream(Box::new(inlet)),
            read_ahead: Bytes::new(),
            id,
            who,
            dialect: Dialect::Lines,
            head: Some(Box::new(head())),
            rooms: asked.rooms.clone(),
            since,
            refuse: None,
            guard,
        });
        Ok(held)
    }

    /// Lets go of a session; a poll that is under way ends it when it is answered.
    pub fn forget(&self, id: &str) {
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

/// A session's token, as [`asked::meter`] has it.
fn meter(doors: &Doors, who: &Credentials) -> Option<String> {
    let dev_mode = (doors.dev_mode)();
    (who.token.is_some() && !dev_mode).then(|| asked::meter(who, dev_mode)).flatten()
}

/// What tells a poll that the core does not let it in: a line that no client is shown.
fn head() -> Head {
    let refusal = |code| {
        let failure = Failure::new(code, "");
        Frame::Error { id: None, room: None, failure: &failure }.encode(Dialect::Lines, None)
    };
    Head {
        ok: Bytes::new(),
        unauthenticated: refusal(Code::Unauthenticated),
        forbidden: refusal(Code::PermissionDenied),
    }
}

impl Held {
    /// Takes in what has come; past `max` bytes the rest waits where it is, until the session is too slow.
    pub fn fill(&self, told: &mut Told, max: usize) {
        while told.backlog.bytes() < max {
            match self.outlet.take() {
                Taken::Bytes(bytes) => told.backlog.push(bytes),
                Taken::Nothing => return,
                Taken::End => {
                    told.ended = true;
                    return;
                }
            }
        }
    }

    /// Waits until there may be something to take in. For the poll that has what was told.
    pub async fn filled(&self) {
        self.outlet.filled().await;
    }

    fn is_abandoned(&self) -> bool {
        self.idle().is_some_and(|since| since.elapsed() >= GAP)
    }

    fn idle(&self) -> MutexGuard<'_, Option<Instant>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poll {
    /// The session's only poll from now on.
    pub fn begin(held: Arc<Held>) -> Poll {
        let number = held.poll.fetch_add(1, Ordering::AcqRel) + 1;
        *held.idle() = None;
        held.superseded.notify_waiters();
        Poll { held, number }
    }

    /// Whether another has come.
    pub fn is_superseded(&self) -> bool {
        self.held.poll.load(Ordering::Acquire) != self.number
    }

    /// Waits until another has come.
    pub async fn superseded(&self) {
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

impl Drop for Poll {
    fn drop(&mut self) {
        if !self.is_superseded() {
            *self.held.idle() = Some(Instant::now());
        }
    }
}
