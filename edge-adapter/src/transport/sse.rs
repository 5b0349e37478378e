//! `GET /events/{room}` and `GET /events?room=a&room=b`: a session as server-sent events.
//!
//! The stream is a shard's, as a WebSocket is: on the first request of an HTTP/1.1 connection the head is read here and the bare socket
//! handed over, so that an idle stream costs no HTTP connection. Where HTTP keeps the socket (HTTP/2, TLS, a kept connection, a head in
//! pieces) the shard writes into a pipe instead, and what comes out of it is the body.
use crate::fanout::newcomer::{self, Guard, NewSession};
use crate::fanout::socket::Socket;
use crate::session::request::Credentials;
use crate::transport::connections::Permit;
use crate::transport::cors::lines as cors;
use crate::transport::head::{self, Head};
use crate::transport::headers::LINES as SAFE;
use crate::transport::pipe::{Outlet, pipe};
use crate::transport::problem::Problem;
use crate::transport::visitor::{self, NotNow, Visitor};
use crate::transport::{Doors, api, asked, body, query, session_id};
use crate::wire::close::CloseReason;
use crate::wire::cursor::Cursor;
use crate::wire::dialect::{self, Dialect};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// When a client comes back by itself after a cut, in milliseconds: each at a time of its own.
const RETRY_MS: std::ops::Range<u64> = 1000..4000;
/// How a request for a stream begins.
const BEGINS: [u8; 11] = *b"GET /events";

/// What a request asks for.
struct Asked {
    rooms: Vec<Arc<str>>,
    who: Credentials,
    since: Option<Cursor>,
    /// An allowed page's origin.
    origin: Option<HeaderValue>,
    refuse: Option<CloseReason>,
}

impl Asked {
    fn read(
        doors: &Doors,
        visitor: Option<&Visitor>,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
    ) -> Result<Asked, Problem> {
        asked::admit(&doors.config, method, uri, headers)?;
        let query = uri.query().unwrap_or_default();
        let (rooms, who) = (asked::rooms(uri, "/events/")?, asked::who(query, headers)?);
        // The header is what an EventSource knows, the query what the page knew when it made it.
        let last = headers.get("last-event-id").map(|id| id.to_str().ok().map(str::to_owned));
        let since = last.filter(|id| id.as_deref() != Some("")).or_else(|| query::value(query, "since"));
        let since = since.map(|token| asked::cursor(token.as_deref()).only(&rooms));
        let refuse = match NotNow::look(doors, visitor) {
            // Told in band, since after a status it would never come back.
            Some(NotNow::Memory) => Some(CloseReason::Overloaded),
            // It would have had a status anyhow.
            Some(not_now) => return Err(not_now.problem()),
            None => None,
        };
        Ok(Asked { rooms, who, since, origin: headers.get(ORIGIN).cloned(), refuse })
    }

    fn session(self, socket: Socket, id: Arc<str>, guard: Option<Guard>) -> NewSession {
        let Asked { rooms, who, since, origin, refuse } = self;
        let head = Some(Box::new(beginnings(origin.as_ref())));
        let (dialect, read_ahead) = (Dialect::Sse, Bytes::new());
        NewSession { socket, read_ahead, id, who, dialect, head, rooms, since, refuse, guard }
    }
}

/// The beginning of a stream.
fn begin(cors: &str, retry_ms: u64) -> String {
    let retry = dialect::sse_retry(retry_ms);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store, no-transform\r\n\
         X-Accel-Buffering: no\r\n{SAFE}Connection: close\r\n{cors}\r\n{retry}"
    )
}

/// The beginnings of the answer.
fn beginnings(origin: Option<&HeaderValue>) -> newcomer::Head {
    let cors = cors(origin);
    let ok = begin(&cors, fastrand::u64(RETRY_MS));
    let refusal = |status: StatusCode, code, detail: &'static str| {
        let body = Problem::new(status, code, detail).body();
        let (number, reason, length) = (status.as_u16(), status.canonical_reason().unwrap_or(""), body.len());
        let refusal = format!(
            "HTTP/1.1 {number} {reason}\r\nContent-Type: application/problem+json\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\n{SAFE}Connection: close\r\n{cors}\r\n{body}"
        );
        Bytes::from(refusal)
    };
    newcomer::Head {
        ok: ok.into(),
        unauthenticated: refusal(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "who you are is not known here",
        ),
        forbidden: refusal(StatusCode::FORBIDDEN, "permission_denied", "none of these rooms is open to you"),
    }
}

/// Looks at the first bytes of a connection. If they are a whole request for a stream, the socket goes to a shard; else it comes back
/// as it was, for HTTP.
pub async fn first_request(doors: &Arc<Doors>, stream: TcpStream, permit: &Arc<Permit>) -> Option<TcpStream> {
    match peek(doors, &stream, permit).await {
        Ok(Some((asked, visitor, length))) => {
            let mut stream = stream;
            let mut head = vec![0; length];
            // It is all there.
            if stream.read_exact(&mut head).await.is_err() {
                return None;
            }
            let Ok(id) = session_id() else { return None };
            doors.shards.adopt(asked.session(Socket::Tcp(stream), id, Some(visitor)));
            None
        }
        Ok(None) => Some(stream),
        Err(_) => None,
    }
}

/// What is asked for, and how long the head is. None: not a stream, or not as it should be, which HTTP will tell.
async fn peek(
    doors: &Doors,
    stream: &TcpStream,
    permit: &Permit,
) -> io::Result<Option<(Asked, Arc<Visitor>, usize)>> {
    if !begins_stream(stream).await? {
        return Ok(None);
    }
    let Some(Head { uri, headers, length, .. }) = head::peek(stream).await? else { return Ok(None) };
    let Ok(visitor) = permit.visitor(&headers) else { return Ok(None) };
    let asked = Asked::read(doors, Some(&visitor), (&Method::GET, &uri, &headers)).ok();
    Ok(asked.map(|asked| (asked, visitor, length)))
}

/// Whether the first bytes of a connection ask for a stream.
async fn begins_stream(stream: &TcpStream) -> io::Result<bool> {
    let mut begin = [0; BEGINS.len()];
    let read = stream.peek(&mut begin).await?;
    Ok(begin_stream(&begin[..read]))
}

/// Whether these do.
pub fn begin_stream(first: &[u8]) -> bool {
    first.starts_with(&BEGINS)
}

/// Is in a room, as a stream of events.
///
/// `event` is `message` for a `text`, else the envelope's type; `data` is the whole envelope; `id` is the cursor. A full edge and one that goes
/// away answer 200 as well, with a `system` event that says so, and the end: an `EventSource` never comes back after another status.
#[utoipa::path(
    get, path = "/events/{room}", operation_id = "streamRoom", tag = "streams",
    params(api::params::RoomInPath, api::params::MoreRooms, api::params::Caller, api::params::Since, api::params::LastEventId),
    responses(
        (status = 200, description = "What happens, as long as the client wants", body = api::StreamEvent, content_type = "text/event-stream"),
        api::Refused,
    )
)]
pub async fn room(doors: State<Arc<Doors>>, request: Request<Body>) -> Response {
    rooms(doors, request).await
}

/// Is in several rooms, as one stream of events.
#[utoipa::path(
    get, path = "/events", operation_id = "streamRooms", tag = "streams",
    params(api::params::Rooms, api::params::Caller, api::params::Since, api::params::LastEventId),
    responses(
        (status = 200, description = "What happens, as long as the client wants", body = api::StreamEvent, content_type = "text/event-stream"),
        api::Refused,
    )
)]
pub async fn rooms(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response {
    let visitor = visitor::of(request.extensions()).map(|visitor| &**visitor);
    let asked = match Asked::read(&doors, visitor, (request.method(), request.uri(), request.headers())) {
        // What pages of other origins may read is said by the guard in front of this.
        Ok(asked) => Asked { origin: None, ..asked },
        Err(problem) => return body::refuse(request, problem).await.into_response(),
    };
    let id = match session_id() {
        Ok(id) => id,
        Err(problem) => return problem.into_response(),
    };
    let (inlet, outlet) = pipe();
    let guard = asked::guard(request.extensions());
    doors.shards.adopt(asked.session(Socket::Stream(Box::new(inlet)), id, guard));
    match answer(outlet).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%error, "a stream ended before it began");
            Problem::unavailable("this edge is going away").into_response()
        }
    }
}

/// Reads the head that the shard writes, and makes the rest the body.
async fn answer(outlet: Outlet) -> io::Result<Response> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.unsplit(outlet.next().await.ok_or(io::ErrorKind::UnexpectedEof)?);
        let mut lines = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut lines);
        let parsed = head.parse(&bytes).map_err(io::Error::other)?;
        let httparse::Status::Complete(length) = parsed else { continue };
        let status = StatusCode::from_u16(head.code.unwrap_or(500)).map_err(io::Error::other)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        for line in head.headers.iter() {
            let name: HeaderName = line.name.parse().map_err(io::Error::other)?;
            // It is about the connection, which is not the shard's here.
            if name != http::header::CONNECTION {
                let value = HeaderValue::from_bytes(line.value).map_err(io::Error::other)?;
                response.headers_mut().append(name, value);
            }
        }
        let rest = bytes.split_off(length).freeze();
        *response.body_mut() = Body::from_stream(async_stream::stream! {
            yield Ok::<Bytes, Infallible>(rest);
            while let Some(bytes) = outlet.next().await {
                yield Ok(bytes.freeze());
            }
        });
        return Ok(response);
    }
}

/// What a client of a full edge is told that wants a stream, which would never come back after a status.
pub fn overloaded(page: Option<&HeaderValue>) -> String {
    let (ms, told) = overload();
    begin(&cors(page), ms) + &told
}

/// The same where HTTP has the connection.
pub fn overloaded_response() -> Response {
    let (ms, told) = overload();
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store, no-transform")];
    (headers, dialect::sse_retry(ms) + &told).into_response()
}

/// When to come back, in milliseconds, and the event that says so.
fn overload() -> (u64, String) {
    let ms = fastrand::u64(5000..15_000);
    let told = crate::wire::json::overloaded(ms).into_event(None);
    (ms, String::from_utf8_lossy(&told).into_owned())
}
