//! `/rooms/{room}/messages` and `/rooms/{room}/presence`: publish, history and presence for those who have no socket, or do not want one
//! for this. A request means what the same command means on a WebSocket: it is read by the same rules and answered in the same words.
use crate::fanout::calls::{Answer, CallError};
use crate::fanout::newcomer::Bond;
use crate::session::key::SessionKey;
use crate::session::request::Credentials;
use crate::session::request::Request as Ask;
use crate::transport::portions::{self, Portions};
use crate::transport::problem::Problem;
use crate::transport::visitor::{self, NotNow, Visitor};
use crate::transport::{Doors, api, asked, body, query};
use crate::wire::command::{self, Action, Command};
use crate::wire::event::{Code, Failure};
use crate::wire::frame::{Acked, Page};
use crate::wire::json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hearth_proto::name::{self, BadName};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Body as _;
use std::sync::Arc;

/// The header that stands in for an envelope's `id`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The most users that are named.
const ONLINE_MAX: u32 = 1000;
/// When to come back to an edge that goes away, or to the one that takes its place.
const DRAINING_RETRY_MS: u64 = 1000;

/// Publishes a message.
///
/// The ack means: the engine holds the event under this seq, or a signal or typing was passed on. Whoever gets no answer, or 503, sends the
/// same again with the same key.
#[utoipa::path(
    post, path = "/rooms/{room}/messages", operation_id = "publish", tag = "rooms",
    params(api::params::RoomInPath, api::params::Caller, api::params::IdempotencyKey),
    request_body(content = api::Publish, content_type = "application/json"),
    responses(
        (status = 200, description = "It is published", body = api::AckEnvelope, content_type = "application/json"),
        api::BodyRefused,
        api::Refused,
    )
)]
pub async fn publish(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response {
    with_body(request, async |parts, body| {
        let caller = Caller::admit(&doors, parts)?;
        let key = idempotency_key(&parts.headers)?;
        check_content_type(&parts.headers)?;
        let text = body::read(body, doors.config.max_message_bytes).await?;
        let Command { id, action } = command::parse_publish(&text, &caller.room, key)?;
        let Action::Publish { room, kind, payload, fence } = action else { return Err(unexpected()) };
        let ask = |session| Ask::Publish { session, id: id.clone(), room, kind, payload, fence };
        match caller.ask(ask).await? {
            Answer::Published { position, duplicate } => {
                let acked = Acked::Delivered { position: position.as_ref(), duplicate };
                Ok(caller.ack(id.as_deref(), acked))
            }
            _ => Err(unexpected()),
        }
    })
    .await
}

/// Reads a room's history.
#[utoipa::path(
    get, path = "/rooms/{room}/messages", operation_id = "readHistory", tag = "rooms",
    params(api::params::RoomInPath, api::params::Caller, api::params::Range),
    responses(
        (status = 200, description = "A page of it", body = api::HistoryPage, content_type = "application/json"),
        api::Refused,
    )
)]
pub async fn history(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response {
    with_body(request, async |parts, _| {
        let caller = Caller::admit(&doors, parts)?;
        let query = parts.uri.query().unwrap_or_default();
        let [after, before, limit] = ["after", "before", "limit"].map(|name| asked::number(query, name));
        let action = command::history(caller.room.clone(), after?, before?, limit?)?;
        let Action::History { room, after, before, limit } = action else { return Err(unexpected()) };
        let turn = portions::turn(&parts.extensions).await;
        let ask = |session| Ask::History { session, id: None, room, after, before, limit };
        match caller.ask(ask).await? {
            Answer::History { position, events, more } => {
                let events: Vec<_> = events.iter().map(|shared| &shared.event).collect();
                let page = Page { position: &position, events: &events, more };
                Ok(json_response(Portions::new(json::history_data(&page), turn)))
            }
            _ => Err(unexpected()),
        }
    })
    .await
}

/// Who is online in a room.
#[utoipa::path(
    get, path = "/rooms/{room}/presence", operation_id = "listOnline", tag = "rooms",
    params(api::params::RoomInPath, api::params::Caller),
    responses(
        (status = 200, description = "Those who are", body = api::Present, content_type = "application/json"),
        api::Refused,
    )
)]
pub async fn online(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response {
    with_body(request, async |parts, _| {
        let caller = Caller::admit(&doors, parts)?;
        let room = caller.room.clone();
        let turn = portions::turn(&parts.extensions).await;
        match caller.ask(|session| Ask::ListOnline { session, room, limit: ONLINE_MAX }).await? {
            Answer::Online { online, count } => {
                Ok(json_response(Portions::new(json::presence_data(&online, count), turn)))
            }
            _ => Err(unexpected()),
        }
    })
    .await
}

/// Sets what a user shows in a room, and keeps it online there.
///
/// Without a stream that is in the room it does so for the presence timeout, 30 s unless the server is told otherwise.
#[utoipa::path(
    put, path = "/rooms/{room}/presence", operation_id = "setPresence", tag = "rooms",
    params(api::params::RoomInPath, api::params::Caller),
    request_body(content = Option<api::Shown>, content_type = "application/json"),
    responses(
        (status = 200, description = "It is shown", body = api::AckEnvelope, content_type = "application/json"),
        api::BodyRefused,
        api::Refused,
    )
)]
pub async fn show(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response {
    with_body(request, async |parts, body| {
        let caller = Caller::admit(&doors, parts)?;
        // Who has nothing to say need not say in which language.
        if !body.is_end_stream() {
            check_content_type(&parts.headers)?;
        }
        let text = body::read(body, doors.config.max_message_bytes).await?;
        let action = command::parse_presence(&text, caller.room.clone())?;
        let Action::Presence { room, meta } = action else { return Err(unexpected()) };
        match caller.ask(|session| Ask::Presence { session, id: None, room, meta }).await? {
            Answer::Done => Ok(caller.ack(None, Acked::Ok)),
            _ => Err(unexpected()),
        }
    })
    .await
}

/// Answers a request. What is left of the body of one that fails is read away.
pub(super) async fn with_body(
    request: Request<Body>,
    answer: impl AsyncFnOnce(&Parts, &mut Body) -> Result<Response, Problem>,
) -> Response {
    let (parts, mut body) = request.into_parts();
    match answer(&parts, &mut body).await {
        Ok(response) => response,
        Err(problem) => {
            body::discard(&parts.headers, &mut body).await;
            problem.into_response()
        }
    }
}

/// A request that this edge takes now: who asks, and what it is counted under.
pub(super) struct Asking<'a> {
    doors: &'a Doors,
    /// Who it says that it is.
    who: Credentials,
    charged: Option<String>,
    visitor: Option<Arc<Visitor>>,
}

impl<'a> Asking<'a> {
    pub(super) fn admit(doors: &'a Doors, parts: &Parts) -> Result<Asking<'a>, Problem> {
        if doors.draining.is_cancelled() {
            doors.metrics.http_refusal("draining");
            return Err(Problem::not_now(Code::Unavailable, "this edge is going away", DRAINING_RETRY_MS));
        }
        let visitor = visitor::of(&parts.extensions).cloned();
        if let Some(not_now) = NotNow::look(doors, visitor.as_deref()) {
            return Err(not_now.problem());
        }
        let who = asked::who(parts.uri.query().unwrap_or_default(), &parts.headers)?;
        let charged = asked::meter(&who, (doors.dev_mode)());
        doors.calls.charge(charged.as_deref()).map_err(|wait| {
            doors.metrics.http_refusal("rate");
            Failure::new(Code::ResourceExhausted, "too many requests").retry_after_ms(wait)
        })?;
        Ok(Asking { doors, who, charged, visitor })
    }

    /// Asks one thing of the core.
    pub(super) async fn ask(&self, request: impl FnOnce(SessionKey) -> Ask) -> Result<Answer, Problem> {
        let asked = self.doors.calls.ask(self.who.clone(), self.charged.as_deref(), request).await;
        asked.map_err(|error| match error {
            CallError::Failed(failure) => {
                if let Some(visitor) = &self.visitor
                    && failure.forged
                {
                    visitor.forged();
                }
                failure.into()
            }
            CallError::Busy(wait) => {
                self.doors.metrics.http_refusal("busy");
                Problem::not_now(Code::ResourceExhausted, "this edge has too much to do", wait)
            }
        })
    }
}

/// Who asks, and about which room.
struct Caller<'a> {
    asking: Asking<'a>,
    room: Arc<str>,
}

impl<'a> Caller<'a> {
    fn admit(doors: &'a Doors, parts: &Parts) -> Result<Caller<'a>, Problem> {
        let asking = Asking::admit(doors, parts)?;
        // `/rooms/{room}/…`, as the router has seen.
        let room = parts.uri.path().split('/').nth(2).and_then(query::decode_path);
        let room = room.filter(|room| name::room(room).is_ok()).ok_or(BadName::Room)?;
        Ok(Caller { asking, room: room.into() })
    }

    async fn ask(&self, request: impl FnOnce(SessionKey) -> Ask) -> Result<Answer, Problem> {
        self.asking.ask(request).await
    }

    fn ack(&self, id: Option<&str>, acked: Acked<'_>) -> Response {
        json_response(Portions::new(json::ack(id, Some(&self.room), acked).into_text(), None))
    }
}

/// The core said something that answers another question.
pub(super) fn unexpected() -> Problem {
    Failure::new(Code::Internal, "the core answered something else").into()
}

fn json_response(body: Portions) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (headers, Body::new(body)).into_response()
}

/// The key as it stands there, if there is one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = std::str::from_utf8(key.as_bytes()).ok().filter(|_| keys.next().is_none());
    key.map(Some).ok_or_else(|| Problem::invalid_argument("Idempotency-Key is one text in UTF-8"))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let named = types.next().and_then(|named| named.to_str().ok()).filter(|_| types.next().is_none());
    let essence = named.and_then(|named| named.split(';').next()).map(str::trim);
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::InvalidArgument.name(),
            "the body must be application/json, and say so",
        )),
    }
}
