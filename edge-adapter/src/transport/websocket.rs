//! `GET /ws` and `GET /ws/{room}`: checks the handshake and hands the socket to a shard.
//!
//! The origin is checked before all else, and a foreign one is refused over HTTP. What the client can only have got
//! wrong in the URL is refused after the handshake, since a browser hides the answer to a failed one from its page.
use crate::fanout::newcomer::{Guard, NewSession};
use crate::fanout::socket::Socket;
use crate::session::request::Credentials;
use crate::transport::connections::Permit;
use crate::transport::linger::Lingering;
use crate::transport::problem::Problem;
use crate::transport::visitor::{self, NotNow};
use crate::transport::{Doors, asked, body, origin, query, session_id};
use crate::wire::close::CloseReason;
use crate::wire::cursor::Cursor;
use crate::wire::dialect::Dialect;
use crate::wire::websocket::{accept_key, deflate};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use hearth_proto::name;
use http::header::{
    CONNECTION, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use std::sync::Arc;

/// A subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// JSON envelopes in text frames; spoken also when none is asked for.
    Json,
    /// The same as protobuf, in binary frames.
    Protobuf,
}

/// Before a token among the subprotocols: the only header-like thing that a browser's page can send.
const BEARER: &str = "bearer.";
/// What a key is decoded by. The last letter's unused bits are let be anything, as clients differ there.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The handler of both routes.
pub async fn connect(State(doors): State<Arc<Doors>>, mut request: Request<Body>) -> Response {
    let handshake = match check(&doors, &request) {
        Ok(handshake) => handshake,
        Err(refusal) => {
            doors.metrics.http_refusal(refusal.reason);
            return body::refuse(request, refusal.problem).await.into_response();
        }
    };
    let id = match session_id() {
        Ok(id) => id,
        Err(problem) => return problem.into_response(),
    };
    let mut asked = Asked::read(request.uri(), request.headers());
    let visitor = visitor::of(request.extensions());
    if NotNow::look(&doors, visitor.map(|visitor| &**visitor)).is_some() {
        asked.refuse = Some(CloseReason::Overloaded);
    }
    let (permit, guard) = (asked::permit(request.extensions()), asked::guard(request.extensions()));
    let upgrade = hyper::upgrade::on(&mut request);
    let dialect = handshake.dialect();
    doors.tasks.spawn(hand_over(doors.clone(), upgrade, id, (asked, dialect), (permit, guard)));
    handshake.accept()
}

/// Why there is no session, and the word it is counted under.
struct Refusal {
    reason: &'static str,
    problem: Problem,
}

impl Refusal {
    fn handshake(problem: Problem) -> Self {
        Self { reason: "handshake", problem }
    }
}

/// A good handshake.
struct Handshake {
    accept: String,
    /// The subprotocol that the client asked for by name.
    protocol: Option<Protocol>,
    /// It offered permessage-deflate in a way that we can keep to.
    deflate: bool,
}

fn check(doors: &Doors, request: &Request<Body>) -> Result<Handshake, Refusal> {
    let headers = request.headers();
    if !origin::allowed(&doors.config, request.uri(), headers) {
        return Err(Refusal { reason: "origin", problem: origin::foreign() });
    }
    if request.method() != Method::GET {
        return Err(Refusal::handshake(Problem::method_not_allowed("GET")));
    }
    if doors.draining.is_cancelled() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "this edge is going away");
        return Err(Refusal { reason: "draining", problem: problem.with(RETRY_AFTER, "1") });
    }
    Handshake::check(request.version(), headers).map_err(Refusal::handshake)
}

impl Handshake {
    fn check(version: Version, headers: &HeaderMap) -> Result<Handshake, Problem> {
        let wants_upgrade = lists(headers, &CONNECTION, "upgrade");
        let wants_websocket = lists(headers, &UPGRADE, "websocket");
        if version != Version::HTTP_11 || (!wants_upgrade && !headers.contains_key(UPGRADE)) {
            let problem = upgrade_required("this path speaks WebSocket over HTTP/1.1");
            // HTTP/2 knows no such headers.
            let http1 = version <= Version::HTTP_11;
            return Err(if http1 {
                problem.with(UPGRADE, "websocket").with(CONNECTION, "upgrade")
            } else {
                problem
            });
        }
        if !wants_upgrade || !wants_websocket {
            let detail = "a WebSocket handshake has `Connection: upgrade` and `Upgrade: websocket`";
            return Err(Problem::invalid_argument(detail));
        }
        if only(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
            let problem = upgrade_required("only version 13 of WebSocket is spoken");
            return Err(problem.with(UPGRADE, "websocket").with(CONNECTION, "upgrade"));
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
        let key =
            key.ok_or_else(|| Problem::invalid_argument("Sec-WebSocket-Key is 16 bytes in base64, once"))?;
        let deflate = elements(headers, &SEC_WEBSOCKET_EXTENSIONS).any(deflate::accepts);
        Ok(Handshake { accept: accept_key(key), protocol: choose_protocol(headers)?, deflate })
    }

    fn accept(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(self.accept).expect("base64 is a header"));
        if self.deflate {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate::ACCEPTED));
        }
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol.name()));
        }
        response
    }

    fn dialect(&self) -> Dialect {
        match (self.protocol.unwrap_or(Protocol::Json), self.deflate) {
            (Protocol::Json, false) => Dialect::WebSocketJson,
            (Protocol::Json, true) => Dialect::WebSocketJsonDeflate,
            (Protocol::Protobuf, false) => Dialect::WebSocketProtobuf,
            (Protocol::Protobuf, true) => Dialect::WebSocketProtobufDeflate,
        }
    }
}

fn upgrade_required(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, "invalid_argument", detail).with(SEC_WEBSOCKET_VERSION, "13")
}

/// The elements of a header that is a list, over all its lines.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(wanted))
}

/// A header that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).into_iter();
    let line = lines.next()?;
    lines.next().is_none().then(|| line.as_bytes())
}

fn is_key(key: &[u8]) -> bool {
    KEY.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Json => "hearth.v1.json",
            Protocol::Protobuf => "hearth.v1.proto",
        }
    }

    fn of(name: &str) -> Option<Protocol> {
        [Protocol::Json, Protocol::Protobuf].into_iter().find(|protocol| protocol.name() == name)
    }
}

/// The subprotocol that is to be named in the answer: of those offered the first that is ours, as the client names first what it likes best. A
/// client that offers only others is refused.
fn choose_protocol(headers: &HeaderMap) -> Result<Option<Protocol>, Problem> {
    let mut offered =
        elements(headers, &SEC_WEBSOCKET_PROTOCOL).filter(|name| !name.starts_with(BEARER)).peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    offered.find_map(Protocol::of).map(Some).ok_or_else(|| {
        Problem::invalid_argument("the subprotocols spoken here are hearth.v1.json and hearth.v1.proto")
    })
}

/// With the token that stands among the subprotocols, where it is brought nowhere else.
fn named_among_protocols(who: Credentials, headers: &HeaderMap) -> Credentials {
    let token = elements(headers, &SEC_WEBSOCKET_PROTOCOL).find_map(|name| name.strip_prefix(BEARER));
    who.or_token(token.map(Into::into))
}

/// What the URL asks for.
#[derive(Debug)]
struct Asked {
    room: Option<Arc<str>>,
    who: Credentials,
    since: Option<Cursor>,
    refuse: Option<CloseReason>,
}

impl Asked {
    fn read(uri: &Uri, headers: &HeaderMap) -> Asked {
        let query = uri.query().unwrap_or_default();
        let room = uri.path().strip_prefix("/ws/").map(query::decode_path);
        let room = room.map(|room| room.filter(|room| name::room(room).is_ok()));
        let who = asked::who(query, headers);
        let since = query::value(query, "since");
        let bad = matches!(room, Some(None)) || who.is_err();
        Asked {
            room: room.flatten().map(Arc::from),
            who: named_among_protocols(who.unwrap_or_default(), headers),
            since: since.map(|token| asked::cursor(token.as_deref())),
            refuse: bad.then_some(CloseReason::InvalidArgument),
        }
    }
}

/// Waits until the answer to the handshake is written, then gives the socket to a shard.
async fn hand_over(
    doors: Arc<Doors>,
    upgrade: OnUpgrade,
    id: Arc<str>,
    (asked, dialect): (Asked, Dialect),
    (permit, guard): (Option<Arc<Permit>>, Option<Guard>),
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        // The client went away in the middle of the handshake.
        Err(error) => return tracing::debug!(%error, "handshake not finished"),
    };
    let (socket, read_ahead) = bare(upgraded);
    let Asked { room, who, since, refuse } = asked;
    let (head, rooms) = (None, room.into_iter().collect());
    doors.shards.adopt(NewSession {
        socket,
        read_ahead,
        id,
        who,
        dialect,
        head,
        rooms,
        since,
        refuse,
        guard,
    });
    // Only now, so that the connection is counted at every moment.
    drop(permit);
}

fn bare(upgraded: Upgraded) -> (Socket, Bytes) {
    match downcast::<TokioIo<Lingering<Socket>>>(upgraded) {
        // Copied, because a slice keeps the whole buffer of the HTTP connection for as long as it lives.
        Ok(parts) => (parts.io.into_inner().into_inner(), Bytes::copy_from_slice(&parts.read_buf)),
        Err(upgraded) => (Socket::Stream(Box::new(TokioIo::new(upgraded))), Bytes::new()),
    }
}
