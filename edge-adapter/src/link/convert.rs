//! Between the link's schema and the edge's own words: by hand, and only here.
use crate::{
    fanout::shared::SharedEvent,
    session::{key::SessionKey, request},
    wire::{
        event::{Code, Event, Failure, Kind, Payload, Position},
        presence::Online,
    },
};
use bytes::Bytes;
use hearth_proto::v1::{self, core_frame::Frame as FromCore, edge_frame::Frame};
use std::sync::Arc;
use tonic::Code as GrpcCode;

/// An event of the room `name`. None for a kind that this build does not know.
pub fn event(event: v1::Event, name: &Arc<str>) -> Option<Event> {
    let kind = match v1::EventKind::try_from(event.kind).ok()? {
        v1::EventKind::Unspecified | v1::EventKind::Text => Kind::Text,
        v1::EventKind::System => Kind::System,
        v1::EventKind::Signal => Kind::Signal,
        v1::EventKind::Typing => Kind::Typing,
    };
    let payload = match event.payload.and_then(|payload| payload.data) {
        Some(v1::payload::Data::Json(json)) => Payload::Json(Bytes::from(json)),
        Some(v1::payload::Data::Binary(bytes)) => Payload::Binary(bytes),
        None => Payload::Json(Bytes::from_static(b"{}")),
    };
    Some(Event {
        room: Arc::clone(name),
        kind,
        seq: event.seq,
        id: (!event.id.is_empty()).then(|| event.id.into()),
        author: event.author.into(),
        payload,
        timestamp_us: event.timestamp.map_or(0, micros),
    })
}

/// The events of a page, each to be shared.
pub fn events(events: Vec<v1::Event>, name: &Arc<str>, epoch: &Arc<str>) -> Vec<Arc<SharedEvent>> {
    events
        .into_iter()
        .filter_map(|found| event(found, name))
        .map(|event| Arc::new(SharedEvent::new(event, Arc::clone(epoch))))
        .collect()
}

/// A place in a room's order; absent stands for the very beginning of no known epoch.
pub fn position(position: Option<v1::Position>) -> Position {
    let v1::Position { epoch, seq } = position.unwrap_or_default();
    Position { epoch: epoch.into(), seq }
}

/// A user who is online.
pub fn online(v1::PresenceUser { user, meta, sessions, since }: v1::PresenceUser) -> Online {
    Online { user: user.into(), meta: meta.into(), sessions, since_us: since.map_or(0, micros) }
}

/// Why a core refused.
pub fn failure(error: v1::Error) -> Failure {
    let code = match GrpcCode::from_i32(error.code) {
        GrpcCode::InvalidArgument => Code::InvalidArgument,
        GrpcCode::NotFound => Code::NotFound,
        GrpcCode::PermissionDenied => Code::PermissionDenied,
        GrpcCode::ResourceExhausted => Code::ResourceExhausted,
        GrpcCode::FailedPrecondition => Code::FailedPrecondition,
        GrpcCode::Aborted | GrpcCode::AlreadyExists => Code::Aborted,
        GrpcCode::OutOfRange => Code::OutOfRange,
        GrpcCode::Unimplemented => Code::Unimplemented,
        GrpcCode::Unavailable | GrpcCode::DeadlineExceeded | GrpcCode::Cancelled => Code::Unavailable,
        GrpcCode::Unauthenticated => Code::Unauthenticated,
        GrpcCode::Ok | GrpcCode::Unknown | GrpcCode::Internal | GrpcCode::DataLoss => Code::Internal,
    };
    let retry_after_ms = (error.retry_after_ms > 0).then_some(error.retry_after_ms);
    let forged = error.reason == hearth_proto::TOKEN_INVALID;
    Failure { code, message: error.message.into(), retry_after_ms, forged }
}

/// The room that a frame may let a session into, or let it go on in.
pub fn seam_room(frame: &FromCore) -> Option<&str> {
    match frame {
        FromCore::Joined(joined) => joined.joined.as_ref().map(|joined| joined.room.as_str()),
        FromCore::Page(page) => Some(&page.room),
        _ => None,
    }
}

/// The first frame of a stream.
pub fn hello(edge: &str) -> v1::EdgeFrame {
    let hello = v1::Hello { protocol: hearth_proto::LINK_PROTOCOL, edge: edge.to_owned() };
    v1::EdgeFrame { session: 0, request: 0, frame: Some(Frame::Hello(hello)) }
}

/// A session begins, or is brought to another core.
pub fn open(session: SessionKey, request: u64, id: &str, who: Who<'_>, call: bool) -> v1::EdgeFrame {
    use v1::open_session::Credentials;
    let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
    let (credentials, token, rooms) = match who {
        Who::Says(who, rooms) => (Credentials::DevUser(text(&who.user)), text(&who.token), rooms),
        Who::Known(opened) => (Credentials::Reopened(opened), String::new(), &[][..]),
    };
    let rooms = rooms.iter().map(|room| room.as_ref().to_owned()).collect();
    let open = v1::OpenSession { id: id.to_owned(), credentials: Some(credentials), token, rooms, call };
    of_session(session, request, Frame::Open(open))
}

/// A session brings another token.
pub fn refresh(session: SessionKey, request: u64, who: &request::Credentials) -> v1::EdgeFrame {
    let token = who.token.as_deref().unwrap_or_default().to_owned();
    of_session(session, request, Frame::Refresh(v1::RefreshSession { token }))
}

/// Who a session is.
#[derive(Debug)]
pub enum Who<'a> {
    /// What it says itself, and the rooms that it wants to be in at least one of.
    Says(&'a request::Credentials, &'a [Arc<str>]),
    /// What a core has already said.
    Known(v1::Opened),
}

/// A session ends.
pub fn close(session: SessionKey, vanished: bool) -> v1::EdgeFrame {
    of_session(session, 0, Frame::Close(v1::CloseSession { vanished }))
}

/// A call asks for a ticket.
pub fn issue_ticket(session: SessionKey, request: u64) -> v1::EdgeFrame {
    of_session(session, request, Frame::IssueTicket(v1::IssueTicket {}))
}

/// A session asks who is online in a room.
pub fn list_online(session: SessionKey, request: u64, room: &str, limit: u32) -> v1::EdgeFrame {
    of_session(session, request, Frame::ListOnline(v1::ListOnline { room: room.to_owned(), limit }))
}

/// A session sets its meta in a room, or gives a sign of life there.
pub fn presence(session: SessionKey, request: u64, room: &str, meta: Option<&str>) -> v1::EdgeFrame {
    let set = v1::SetPresence { room: room.to_owned(), meta: meta.map(str::to_owned) };
    of_session(session, request, Frame::Presence(set))
}

/// The edge wants to know who is online in a room.
pub fn watch(room: &str) -> v1::EdgeFrame {
    let watch = v1::WatchRoom { room: room.to_owned() };
    v1::EdgeFrame { session: 0, request: 0, frame: Some(Frame::Watch(watch)) }
}

/// What sessions have set in a room.
pub fn metas(room: &str, metas: Vec<v1::SessionMeta>) -> v1::EdgeFrame {
    let metas = v1::Metas { room: room.to_owned(), metas };
    v1::EdgeFrame { session: 0, request: 0, frame: Some(Frame::Metas(metas)) }
}

/// A session joins a room.
pub fn join(
    session: SessionKey,
    request: u64,
    room: &str,
    since: Option<&Position>,
    history: u32,
    echo: bool,
) -> v1::EdgeFrame {
    // Who is online is asked for once for all sessions of the edge.
    let since = since.map(to_position);
    let join = v1::Join { room: room.to_owned(), since, history, echo: Some(echo), presence: Some(false) };
    of_session(session, request, Frame::Join(join))
}

/// A session leaves a room.
pub fn leave(session: SessionKey, request: u64, room: &str) -> v1::EdgeFrame {
    of_session(session, request, Frame::Leave(v1::Leave { room: room.to_owned() }))
}

/// What a session publishes.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The room.
    pub room: &'a str,
    /// The idempotency key.
    pub id: Option<&'a str>,
    /// What kind of event.
    pub kind: Kind,
    /// What it says, checked.
    pub payload: &'a Payload,
    /// Only while the room has this epoch.
    pub epoch: Option<&'a str>,
}

/// A session publishes.
pub fn publish(session: SessionKey, request: u64, publish: Publish<'_>) -> v1::EdgeFrame {
    let kind = match publish.kind {
        Kind::Text => v1::EventKind::Text,
        Kind::System => v1::EventKind::System,
        Kind::Signal => v1::EventKind::Signal,
        Kind::Typing => v1::EventKind::Typing,
    };
    let data = match publish.payload {
        // A checked payload is UTF-8, so nothing is lost.
        Payload::Json(json) => v1::payload::Data::Json(String::from_utf8_lossy(json).into_owned()),
        Payload::Binary(bytes) => v1::payload::Data::Binary(bytes.clone()),
    };
    let link_publish = v1::LinkPublish {
        id: publish.id.unwrap_or_default().to_owned(),
        publish: Some(v1::Publish {
            room: publish.room.to_owned(),
            kind: kind.into(),
            payload: Some(v1::Payload { data: Some(data) }),
            epoch: publish.epoch.unwrap_or_default().to_owned(),
        }),
    };
    of_session(session, request, Frame::Publish(link_publish))
}

/// A session reads history.
pub fn history(
    session: SessionKey,
    request: u64,
    room: &str,
    after: Option<u64>,
    before: Option<u64>,
    limit: u32,
) -> v1::EdgeFrame {
    let history = v1::History { room: room.to_owned(), after, before, limit: Some(limit) };
    of_session(session, request, Frame::History(history))
}

/// A session wants the next page; none stands for all sessions in the room.
pub fn pull(session: Option<SessionKey>, request: u64, room: &str, after: &Position) -> v1::EdgeFrame {
    let pull = v1::Pull { room: room.to_owned(), after: Some(to_position(after)) };
    v1::EdgeFrame { session: session.map_or(0, SessionKey::number), request, frame: Some(Frame::Pull(pull)) }
}

/// The edge's sessions go on in a room.
pub fn resume(
    request: u64,
    room: &str,
    since: &Position,
    sessions: impl Iterator<Item = SessionKey>,
) -> v1::EdgeFrame {
    let sessions = sessions.map(SessionKey::number).collect();
    let resume = v1::Resume { room: room.to_owned(), since: Some(to_position(since)), sessions };
    v1::EdgeFrame { session: 0, request, frame: Some(Frame::Resume(resume)) }
}

fn of_session(session: SessionKey, request: u64, frame: Frame) -> v1::EdgeFrame {
    v1::EdgeFrame { session: session.number(), request, frame: Some(frame) }
}

fn to_position(position: &Position) -> v1::Position {
    v1::Position { epoch: position.epoch.to_string(), seq: position.seq }
}

/// Microseconds since 1970; 0 before.
pub fn micros(at: prost_types::Timestamp) -> u64 {
    let seconds = u64::try_from(at.seconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(at.nanos).unwrap_or(0) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_all_that_browsers_are_shown() {
        let sent = v1::Event {
            room: "r".into(),
            kind: v1::EventKind::System.into(),
            seq: 7,
            id: "x".into(),
            author: "ann".into(),
            payload: Some(v1::Payload { data: Some(v1::payload::Data::Json(r#"{"a":1}"#.into())) }),
            timestamp: Some(prost_types::Timestamp { seconds: 2, nanos: 345_678_900 }),
        };
        let name: Arc<str> = "r".into();
        let seen = event(sent.clone(), &name).unwrap();
        assert_eq!(
            seen,
            Event {
                room: Arc::clone(&name),
                kind: Kind::System,
                seq: 7,
                id: Some("x".into()),
                author: "ann".into(),
                payload: Payload::Json(Bytes::from_static(br#"{"a":1}"#)),
                timestamp_us: 2_345_678,
            }
        );
        let bare =
            event(v1::Event { id: String::new(), timestamp: None, payload: None, ..sent.clone() }, &name)
                .unwrap();
        assert_eq!((bare.id, bare.timestamp_us), (None, 0));
        assert_eq!(event(v1::Event { kind: 99, ..sent }, &name), None);
    }

    #[test]
    fn failures_carry_their_code() {
        let named = |code| {
            failure(v1::Error { code, message: "m".into(), retry_after_ms: 5, ..v1::Error::default() })
        };
        assert_eq!(named(7), Failure::new(Code::PermissionDenied, "m").retry_after_ms(5));
        assert_eq!(named(14).code, Code::Unavailable);
        assert_eq!(named(9).code, Code::FailedPrecondition);
        assert_eq!(named(1234).code, Code::Internal);
        assert_eq!(failure(v1::Error::default()).retry_after_ms, None);
    }

    #[test]
    fn times_before_1970_are_none() {
        assert_eq!(micros(prost_types::Timestamp { seconds: -5, nanos: 1 }), 0);
        assert_eq!(micros(prost_types::Timestamp { seconds: i64::MAX, nanos: 1 }), u64::MAX);
    }
}
