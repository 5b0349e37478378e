//! `GET /poll/{room}` and `GET /poll?room=a&room=b`: a session in pieces.
//!
//! Between two polls the session stays a shard's; what it is told waits in a pipe, as bounded as a socket's buffer. An answer is kept until
//! the next poll's cursor shows that it arrived, so a lost one loses nothing. A cursor that this edge does not know, or no longer, makes a
//! new session that goes on from the cursor's positions.
mod backlog;
mod sessions;

use crate::session::request::Credentials;
use crate::transport::portions::{self, Portions};
use crate::transport::problem::Problem;
use crate::transport::visitor::{self, NotNow};
use crate::transport::{Doors, api, asked, body, query};
use crate::wire::event::{Code, Failure};
use crate::wire::poll_cursor::PollCursor;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use backlog::SHOWING;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Extensions, Request, StatusCode};
use sessions::Poll;
pub use sessions::Polls;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// How long a poll waits unless it says so, and at most, in seconds.
pub const TIMEOUT: (u64, u64) = (25, 60);
/// How many messages an answer has at most, and when nothing is said.
pub const LIMIT: (usize, usize) = (1000, 100);

/// What a request asks for.
pub struct Asked {
    rooms: Vec<Arc<str>>,
    who: Credentials,
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
        let (rooms, who) = (asked::rooms(uri, "/poll/")?, asked::who(query, request.headers())?);
        let number = |name: &'static str, usual: u64, range: RangeInclusive<u64>| {
            let number = asked::number(query, name)?.unwrap_or(usual);
            let bad = || format!("{name} must be {} to {}", range.start(), range.end());
            range.contains(&number).then_some(number).ok_or_else(|| Problem::invalid_argument(bad()))
        };
        let timeout = Duration::from_secs(number("timeout", TIMEOUT.0, 0..=TIMEOUT.1)?);
        let limit = number("limit", LIMIT.1 as u64, 1..=LIMIT.0 as u64)? as usize;
        let cursor = query::value(query, "cursor").filter(|token| token.as_deref() != Some(""));
        let cursor = cursor.map(|token| token.as_deref().and_then(PollCursor::decode));
        Ok(Asked { rooms, who, cursor, timeout, limit })
    }
}

/// Is in a room, a poll at a time.
///
/// The answer comes as soon as there is something to say, or with no messages when the time is over. The same cursor has the same messages
/// again, perhaps more.
#[utoipa::path(
    get, path = "/poll/{room}", operation_id = "pollRoom", tag = "streams",
    params(api::params::RoomInPath, api::params::MoreRooms, api::params::Caller, api::params::Wait),
    responses(
        (status = 200, description = "What has happened", body = api::Polled, content_type = "application/json"),
        api::Superseded,
        api::Refused,
    )
)]
pub async fn room(doors: State<Arc<Doors>>, request: Request<Body>) -> Response {
    rooms(doors, request).await
}

/// Is in several rooms, a poll at a time.
#[utoipa::path(
    get, path = "/poll", operation_id = "pollRooms", tag = "streams",
    params(api::params::Rooms, api::params::Caller, api::params::Wait),
    responses(
        (status = 200, description = "What has happened", body = api::Polled, content_type = "application/json"),
        api::Superseded,
        api::Refused,
    )
)]
pub async fn rooms(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response {
    let asked = match Asked::read(&doors, &request) {
        Ok(asked) => asked,
        Err(problem) => return body::refuse(request, problem).await.into_response(),
    };
    match answer(&doors, asked, request.extensions()).await {
        Ok(body) => {
            let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
            (headers, Body::new(body)).into_response()
        }
        Err(problem) => body::refuse(request, problem).await.into_response(),
    }
}

async fn answer(doors: &Arc<Doors>, asked: Asked, extensions: &Extensions) -> Result<Portions, Problem> {
    let deadline = Instant::now() + asked.timeout;
    let known = doors.polls.find(doors, &asked);
    let (held, given, fresh) = match known {
        Some((held, given)) => (held, given, false),
        None => {
            if let Some(not_now) = NotNow::look(doors, visitor::of(extensions).map(|visitor| &**visitor)) {
                return Err(not_now.problem());
            }
            (doors.polls.open(doors, &asked, asked::guard(extensions))?, 0, true)
        }
    };
    let poll = Poll::begin(held.clone());
    let mut told = tokio::select! {
        told = held.told.lock() => told,
        () = poll.superseded() => return Err(superseded()),
    };
    if poll.is_superseded() {
        return Err(superseded());
    }
    if !told.backlog.trim(given) {
        // It has been told more, or less, than the client thinks.
        drop(told);
        doors.polls.forget(&held.id);
        let asked = Asked { timeout: deadline.saturating_duration_since(Instant::now()), ..asked };
        return Box::pin(answer(doors, asked, extensions)).await;
    }
    // Without a cursor it answers with what joining shows; with one that is not known here, with what was missed.
    let at_once = fresh && !matches!(asked.cursor, Some(Some(_)));
    let max = doors.config.session_queue_bytes;
    loop {
        held.fill(&mut told, max);
        let backlog = &told.backlog;
        if let Some(code) = backlog.refused() {
            doors.polls.forget(&held.id);
            let detail = match code {
                Code::Unauthenticated => "who you are is not known here",
                _ => "none of these rooms is open to you",
            };
            return Err(Failure::new(code, detail).into());
        }
        let ready = match fresh {
            true => backlog.is_shown() && (at_once || !backlog.is_empty()),
            false => !backlog.is_empty(),
        };
        if ready || told.ended {
            break;
        }
        let until = if fresh { backlog.shown_by() } else { None };
        let until =
            until.filter(|until| *until > Instant::now()).map_or(deadline, |until| until.min(deadline));
        // Without a cursor the client knows nothing yet: a core that is slow is waited for.
        let until = if at_once { until.max(Instant::now() + SHOWING) } else { until };
        let waited = tokio::select! {
            waited = timeout_at(until.into(), held.filled()) => waited,
            () = poll.superseded() => return Err(superseded()),
        };
        if waited.is_err() && Instant::now() >= deadline {
            held.fill(&mut told, max);
            break;
        }
    }
    if told.ended {
        doors.polls.forget(&held.id);
        if told.backlog.is_empty() {
            return Err(Problem::unavailable("this session has ended; come back with the same cursor"));
        }
    }
    // Only now: a poll that waits for news must not keep others of its connection from being answered.
    let turn = tokio::select! {
        biased;
        () = poll.superseded() => return Err(superseded()),
        turn = portions::turn(extensions) => turn,
    };
    Ok(Portions::new(told.backlog.answer(&held.id, asked.limit), turn))
}

fn superseded() -> Problem {
    Problem::new(StatusCode::CONFLICT, "aborted", "another poll of this session has come")
}
