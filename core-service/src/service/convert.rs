//! Protobuf into the domain's words and back, by hand, here and nowhere else.
mod grant;

pub(super) use grant::reopened;

use super::status;
use crate::{
    config::Namespace,
    hub::{
        Delivery, Error, To,
        delivery::{Place, SharedPresence},
    },
    room::{
        event::{Event, Kind, NewEvent, Payload},
        feed::Carries,
        history::Range,
        id::{ClientId, RoomName, UserName},
        position::{Epoch, Position},
        presence::{Change, Online, Told},
        seam::ReplayPage,
    },
};
use bytes::Bytes;
use grant::opened;
use hearth_proto::{payload, v1};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// The most events of one read, and how many when nothing is said.
const HISTORY_LIMIT: (u32, u32) = (1000, 100);

pub(super) fn room(name: &str) -> Result<RoomName, Error> {
    Ok(RoomName::new(name)?)
}

pub(super) fn client_id(id: &str) -> Result<Option<ClientId>, Error> {
    if id.is_empty() { Ok(None) } else { Ok(Some(ClientId::new(id)?)) }
}

pub(super) fn epoch(text: &str) -> Option<Epoch> {
    (!text.is_empty()).then(|| Epoch::new(text))
}

pub(super) fn since(position: Option<v1::Position>) -> Option<Position> {
    position.map(|position| Position { epoch: Epoch::new(&position.epoch), seq: position.seq })
}

pub(super) fn kind(number: i32) -> Result<Kind, Error> {
    match v1::EventKind::try_from(number) {
        Ok(v1::EventKind::Unspecified | v1::EventKind::Text) => Ok(Kind::Text),
        Ok(v1::EventKind::System) => Ok(Kind::System),
        Ok(v1::EventKind::Signal) => Ok(Kind::Signal),
        Ok(v1::EventKind::Typing) => Ok(Kind::Typing),
        Err(_) => {
            Err(Error::Field { field: "kind", problem: Cow::from(format!("there is no kind {number}")) })
        }
    }
}

/// Where a payload comes from decides whether it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// A service: it is checked here.
    Service,
    /// An edge: it has been checked there, and only its size is.
    Edge,
}

pub(super) fn payload(sent: Option<v1::Payload>, door: Door, max: usize) -> Result<Payload, Error> {
    let missing = Error::Field { field: "payload", problem: Cow::from("json or binary must be set") };
    let payload = match sent.and_then(|payload| payload.data).ok_or(missing)? {
        v1::payload::Data::Json(text) if text.len() > max => {
            return Err(Error::TooLarge { max: max.min(text.len()) });
        }
        v1::payload::Data::Json(text) if door == Door::Service => {
            Payload::Json(exact(payload::check(&text)?))
        }
        v1::payload::Data::Json(text) => Payload::Json(exact(text)),
        // A copy: a slice would hold on to the whole buffer that it was received in.
        v1::payload::Data::Binary(bytes) => Payload::Binary(Bytes::copy_from_slice(&bytes)),
    };
    if payload.len() > max { Err(Error::TooLarge { max }) } else { Ok(payload) }
}

/// Bytes without spare room: what is kept for a day takes as much as it counts for.
fn exact(text: String) -> Bytes {
    text.into_boxed_str().into_boxed_bytes().into()
}

/// Whether a sign of typing says that somebody is.
pub(super) fn typing(payload: &Payload) -> Result<bool, Error> {
    let active = match payload {
        Payload::Json(json) => payload::typing(json),
        Payload::Binary(_) => None,
    };
    active.ok_or(Error::Field {
        field: "payload",
        problem: Cow::from("typing says {\"active\": true} or false"),
    })
}

/// What a session sets as its meta; none if it sets none.
pub(super) fn meta(sent: Option<String>, door: Door, max: usize) -> Result<Option<Bytes>, Error> {
    let Some(text) = sent else { return Ok(None) };
    if text.len() > max {
        let problem = format!("may have at most {max} bytes");
        return Err(Error::Field { field: "meta", problem: problem.into() });
    }
    let checked = match door {
        Door::Service => payload::check_meta(&text)
            .map_err(|error| Error::Field { field: "meta", problem: error.to_string().into() })?,
        Door::Edge => text,
    };
    Ok(Some(exact(checked)))
}

fn online(one: &Online) -> v1::PresenceUser {
    v1::PresenceUser {
        user: one.user.as_str().to_owned(),
        meta: String::from_utf8_lossy(&one.meta).into_owned(),
        sessions: one.sessions,
        since: Some(timestamp(one.since_us)),
    }
}

pub(super) fn all_online(all: &[Online]) -> Vec<v1::PresenceUser> {
    all.iter().map(online).collect()
}

/// Something that is told of a room's presence, for links.
pub(super) fn room_presence(shared: &SharedPresence) -> v1::CoreFrame {
    use v1::room_presence::Said;
    let said = match &shared.told {
        Told::State(all) => Said::State(v1::PresenceState { online: all_online(all) }),
        Told::Count(count) => Said::Count(*count as u64),
        Told::Diff(changes) => {
            let mut diff = v1::PresenceDiff::default();
            for change in changes {
                match change {
                    Change::Leave(gone) => diff.gone.push(gone.user.as_str().to_owned()),
                    here => diff.online.push(online(here.online())),
                }
            }
            Said::Diff(diff)
        }
    };
    let presence = v1::RoomPresence { room: shared.room.as_str().to_owned(), n: shared.n, said: Some(said) };
    v1::CoreFrame { session: 0, request: 0, frame: Some(v1::core_frame::Frame::Presence(presence)) }
}

/// The same, step by step, for services.
pub(super) fn presence(shared: &SharedPresence) -> Vec<v1::Presence> {
    use v1::presence::Event;
    let steps = match &shared.told {
        Told::State(all) => vec![Event::State(v1::PresenceState { online: all_online(all) })],
        Told::Count(count) => vec![Event::Count(*count as u64)],
        Told::Diff(changes) => changes
            .iter()
            .filter_map(|change| match change {
                Change::Join(one) => Some(Event::Join(online(one))),
                Change::Update(one) => Some(Event::Update(online(one))),
                Change::Leave(one) => Some(Event::Leave(online(one))),
                Change::Sessions(_) => None,
            })
            .collect(),
    };
    let room = shared.room.as_str();
    steps.into_iter().map(|event| v1::Presence { room: room.to_owned(), event: Some(event) }).collect()
}

pub(super) struct Sent<'a> {
    pub(super) room: &'a str,
    pub(super) kind: i32,
    pub(super) id: &'a str,
    pub(super) payload: Option<v1::Payload>,
}

pub(super) fn new_event(
    sent: Sent<'_>,
    author: &UserName,
    session: Option<Arc<str>>,
    door: Door,
    max: usize,
) -> Result<NewEvent, Error> {
    Ok(NewEvent {
        room: room(sent.room)?,
        kind: kind(sent.kind)?,
        id: client_id(sent.id)?,
        author: author.clone(),
        payload: payload(sent.payload, door, max)?,
        session,
    })
}

pub(super) fn range(
    after: Option<u64>,
    before: Option<u64>,
    limit: Option<u32>,
    max_bytes: usize,
) -> Result<Range, Error> {
    let limit = limit.unwrap_or(HISTORY_LIMIT.1);
    if !(1..=HISTORY_LIMIT.0).contains(&limit) {
        return Err(Error::Field { field: "limit", problem: Cow::from("must be 1 to 1000") });
    }
    Ok(Range { after, before, limit: limit as usize, max_bytes })
}

/// How many of the newest events are replayed: no more than are kept.
pub(super) fn newest(asked: u32, namespace: &Namespace) -> usize {
    (asked as usize).min(namespace.keep.size)
}

pub(super) fn event(event: &Event) -> v1::Event {
    let kind = match event.kind {
        Kind::Text => v1::EventKind::Text,
        Kind::System => v1::EventKind::System,
        Kind::Signal => v1::EventKind::Signal,
        Kind::Typing => v1::EventKind::Typing,
    };
    let data = match &event.payload {
        // It was text when it came in, and bytes are only ever copied.
        Payload::Json(bytes) => v1::payload::Data::Json(String::from_utf8_lossy(bytes).into_owned()),
        Payload::Binary(bytes) => v1::payload::Data::Binary(bytes.clone()),
    };
    v1::Event {
        room: event.room.as_str().to_owned(),
        kind: kind as i32,
        seq: event.seq,
        id: event.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        author: event.author.as_str().to_owned(),
        payload: Some(v1::Payload { data: Some(data) }),
        timestamp: Some(timestamp(event.timestamp_us)),
    }
}

pub(super) fn events(list: &[Arc<Event>]) -> Vec<v1::Event> {
    list.iter().map(|one| event(one)).collect()
}

pub(super) fn timestamp(micros: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: (micros / 1_000_000) as i64, nanos: (micros % 1_000_000) as i32 * 1000 }
}

pub(super) fn position(position: &Position) -> v1::Position {
    v1::Position { epoch: position.epoch.as_str().to_owned(), seq: position.seq }
}

pub(super) fn joined(place: &Place) -> v1::Joined {
    v1::Joined {
        room: place.room.as_str().to_owned(),
        position: Some(position(&place.position)),
        recovered: place.recovered,
        replayed: place.replayed,
        ..v1::Joined::default()
    }
}

fn page(room: &RoomName, page: &ReplayPage) -> v1::Page {
    v1::Page { room: room.as_str().to_owned(), events: events(&page.events), live: page.live }
}

fn history(room: &RoomName, at: &Position, list: &[Arc<Event>], more: bool) -> v1::HistoryPage {
    v1::HistoryPage {
        room: room.as_str().to_owned(),
        position: Some(position(at)),
        messages: events(list),
        more,
    }
}

fn ack(room: Option<&RoomName>, at: Option<&Position>, duplicate: bool) -> v1::Ack {
    v1::Ack {
        room: room.map(|room| room.as_str().to_owned()).unwrap_or_default(),
        position: at.map(position),
        duplicate,
        expires_at: None,
    }
}

/// A live event for links.
pub(super) fn room_event(one: &Event) -> v1::CoreFrame {
    let session = one.session.as_deref().unwrap_or_default().to_owned();
    let frame = v1::core_frame::Frame::Event(v1::RoomEvent { event: Some(event(one)), session });
    v1::CoreFrame { session: 0, request: 0, frame: Some(frame) }
}

fn left(room: &RoomName) -> v1::Left {
    v1::Left { room: room.as_str().to_owned() }
}

/// A time since 1970.
pub(super) fn moment(at: Duration) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_secs() as i64, nanos: at.subsec_nanos() as i32 }
}

/// And back; what is before 1970 is long over.
pub(super) fn since_1970(at: prost_types::Timestamp) -> Duration {
    Duration::new(at.seconds.try_into().unwrap_or(0), at.nanos.clamp(0, 999_999_999) as u32)
}

/// Who this core is, for `attached`.
pub(super) struct Identity {
    pub(super) core: String,
    pub(super) engine: String,
    pub(super) dev_mode: bool,
    pub(super) presence_timeout_ms: u64,
}

/// A delivery as a link sees it. Events are not given here: they are encoded once for all links.
pub(super) fn core_frame(delivery: &Delivery, identity: &Identity) -> v1::CoreFrame {
    use v1::core_frame::Frame;
    let nobody = To::default();
    let (to, frame) = match delivery {
        Delivery::Event(shared) => return room_event(shared.event()),
        Delivery::Joined(to, place, replay) => {
            let joined = v1::LinkJoined {
                joined: Some(joined(place)),
                page: Some(page(&place.room, replay)),
                presence: place.presence.unwrap_or(0),
                presence_hidden: place.presence.is_none(),
            };
            (to, Frame::Joined(joined))
        }
        Delivery::StillJoined(to, place) => {
            let nothing =
                v1::Page { room: place.room.as_str().to_owned(), live: true, ..v1::Page::default() };
            (
                to,
                Frame::Joined(v1::LinkJoined {
                    joined: Some(joined(place)),
                    page: Some(nothing),
                    presence: 0,
                    presence_hidden: false,
                }),
            )
        }
        Delivery::Page(to, room, replay) => (to, Frame::Page(page(room, replay))),
        Delivery::Resumed(to, place, replay) => {
            let resumed = v1::Resumed { joined: Some(joined(place)), page: Some(page(&place.room, replay)) };
            (to, Frame::Resumed(resumed))
        }
        Delivery::Left(to, room) => (to, Frame::Ack(ack(Some(room), None, false))),
        Delivery::Presence(shared) => return room_presence(shared),
        Delivery::Acked { to, room, position, duplicate } => {
            (to, Frame::Ack(ack(room.as_ref(), position.as_ref(), *duplicate)))
        }
        Delivery::Failed(to, room, error) => (to, Frame::Error(status::frame(room.as_ref(), error))),
        Delivery::History { to, room, position, events, more } => {
            (to, Frame::History(history(room, position, events, *more)))
        }
        Delivery::Online { to, online, count } => {
            let list = v1::OnlineList { online: all_online(online), count: *count as u64 };
            (to, Frame::Online(list))
        }
        Delivery::Opened { to, grant, .. } | Delivery::Refreshed(to, grant) => {
            (to, Frame::Opened(opened(grant)))
        }
        Delivery::Ticket(to, ticket) => {
            let expires_at = Some(moment(ticket.expires_at));
            (to, Frame::Ticket(v1::Ticket { ticket: ticket.text.to_string(), expires_at }))
        }
        Delivery::PutOut(to, room) => (to, Frame::Left(left(room))),
        // An edge knows when its sessions' tokens end.
        Delivery::Expiring(_) => return v1::CoreFrame::default(),
        Delivery::Refused(to, error) => (to, Frame::Refused(status::frame(None, error))),
        Delivery::Attached => {
            let (core, engine) = (identity.core.clone(), identity.engine.clone());
            let attached = v1::Attached {
                protocol: hearth_proto::LINK_PROTOCOL,
                core,
                engine,
                dev_mode: identity.dev_mode,
                presence_timeout_ms: identity.presence_timeout_ms,
            };
            (&nobody, Frame::Attached(attached))
        }
        Delivery::Goodbye { grace_ms } => (&nobody, Frame::Goodbye(v1::Goodbye { grace_ms: *grace_ms })),
    };
    v1::CoreFrame { session: to.session, request: to.request, frame: Some(frame) }
}

/// A delivery as a Connect stream sees it: one frame, and those of its replay.
pub(super) fn connect_frames(
    delivery: &Delivery,
    max_message_bytes: usize,
    out: &mut Vec<v1::ConnectResponse>,
) {
    use v1::connect_response::Frame;
    let mut push = |id: Option<&ClientId>, frame: Frame| {
        let id = id.map(|id| id.as_str().to_owned()).unwrap_or_default();
        out.push(v1::ConnectResponse { id, frame: Some(frame) });
    };
    let replay = |push: &mut dyn FnMut(Option<&ClientId>, Frame), page: &ReplayPage| {
        page.events.iter().for_each(|one| push(None, Frame::Event(event(one))));
    };
    match delivery {
        Delivery::Event(shared) => push(None, Frame::Event(event(shared.event()))),
        Delivery::Joined(to, place, page) => {
            push(to.id.as_ref(), Frame::Joined(joined(place)));
            replay(&mut push, page);
        }
        Delivery::Resumed(_, place, page) => {
            push(None, Frame::Joined(joined(place)));
            replay(&mut push, page);
        }
        Delivery::StillJoined(to, place) => push(to.id.as_ref(), Frame::Joined(joined(place))),
        Delivery::Page(_, _, page) => replay(&mut push, page),
        Delivery::Left(to, room) => {
            if to.id.is_some() {
                push(to.id.as_ref(), Frame::Ack(ack(Some(room), None, false)));
            }
        }
        Delivery::Presence(shared) => {
            presence(shared).into_iter().for_each(|step| push(None, Frame::Presence(step)));
        }
        Delivery::Acked { to, room, position, duplicate } => {
            if to.id.is_some() {
                push(to.id.as_ref(), Frame::Ack(ack(room.as_ref(), position.as_ref(), *duplicate)));
            }
        }
        Delivery::Failed(to, room, error) => {
            push(to.id.as_ref(), Frame::Error(status::frame(room.as_ref(), error)))
        }
        Delivery::Refused(to, error) => push(to.id.as_ref(), Frame::Error(status::frame(None, error))),
        Delivery::History { to, room, position, events, more } => {
            push(to.id.as_ref(), Frame::History(history(room, position, events, *more)));
        }
        Delivery::Expiring(end) => {
            let expires_at = Some(moment(*end));
            push(None, Frame::TokenExpiring(v1::TokenExpiring { expires_at }));
        }
        Delivery::PutOut(_, room) => push(None, Frame::Left(left(room))),
        Delivery::Refreshed(to, grant) => {
            if to.id.is_some() {
                let expires_at = grant.expires_at.map(moment);
                push(to.id.as_ref(), Frame::Ack(v1::Ack { expires_at, ..v1::Ack::default() }));
            }
        }
        Delivery::Opened { session, grant, .. } => {
            let (session, user) = (session.as_ref().to_owned(), grant.user.as_str().to_owned());
            let max_message_bytes = max_message_bytes as u64;
            push(
                None,
                Frame::Welcome(v1::Welcome { session, user, max_message_bytes, ..v1::Welcome::default() }),
            );
        }
        Delivery::Goodbye { grace_ms } => {
            push(None, Frame::Draining(v1::Draining { reconnect_after_ms: *grace_ms }))
        }
        // Only links ask.
        Delivery::Attached | Delivery::Online { .. } | Delivery::Ticket(..) => {}
    }
}

/// `frames`' tag in an `AttachResponse`: field 1, length-delimited.
const FRAMES_TAG: u8 = 0x0a;

/// One entry of `AttachResponse.frames`, tag and length included: entries joined are a whole message.
pub(super) fn entry(frame: &v1::CoreFrame) -> Bytes {
    use prost::Message;
    let len = frame.encoded_len();
    let mut out = Vec::with_capacity(len + 11);
    out.push(FRAMES_TAG);
    prost::encoding::encode_varint(len as u64, &mut out);
    // A vector grows: it cannot be too short.
    let _ = frame.encode(&mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::testing::event as made;
    use prost::Message;

    #[test]
    fn entries_joined_are_a_message() {
        let frames = [room_event(&made("r", 1)), room_event(&made("r", 2))];
        let joined: Vec<u8> = frames.iter().flat_map(|frame| entry(frame).to_vec()).collect();
        let message = v1::AttachResponse::decode(joined.as_slice()).unwrap();
        assert_eq!(message.frames, frames);
    }

    #[test]
    fn payloads_are_checked_at_their_door() {
        let json = |text: &str| Some(v1::Payload { data: Some(v1::payload::Data::Json(text.into())) });
        assert_eq!(payload(json("{\"author\":1}"), Door::Service, 99).unwrap(), Payload::Json("{}".into()));
        assert!(payload(json("[]"), Door::Service, 99).is_err());
        assert!(matches!(payload(json("{\"a\":1}"), Door::Edge, 3), Err(Error::TooLarge { .. })));
        assert!(payload(None, Door::Service, 99).is_err());
        assert!(kind(99).is_err());
        assert!(range(None, None, Some(0), 1).is_err() && range(None, None, Some(1001), 1).is_err());
    }
}
