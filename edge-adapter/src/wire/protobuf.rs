//! Writes the protobuf messages of the subprotocol `hearth.v1.proto`: the frames of `RoomService.Connect`, one a message. With [`command`], which reads them,
//! the only place of the wire that names the schema's types.
pub mod command;

use crate::wire::event::{Code, Event, Kind, Payload, Position};
use crate::wire::frame::{Acked, Frame, Joined, Page};
use crate::wire::presence::{Happened, Online, Step};
use hearth_proto::message;
use hearth_proto::v1::{self, connect_response::Frame as Wire};

/// A `ConnectResponse`.
pub fn message(frame: &Frame<'_>) -> Vec<u8> {
    let (id, frame) = match *frame {
        Frame::Welcome { session, user, heartbeat_ms, max_message_bytes } => {
            let (session, user) = (session.to_owned(), user.to_owned());
            (None, Wire::Welcome(v1::Welcome { session, user, max_message_bytes, heartbeat_ms }))
        }
        Frame::Joined { id, room, joined } => (id, Wire::Joined(to_joined(room, &joined))),
        Frame::Left { room } => (None, Wire::Left(v1::Left { room: room.to_owned() })),
        Frame::Ack { id, room, acked } => (Some(id), Wire::Ack(to_ack(room, acked))),
        Frame::Error { id, room, failure } => {
            let error = v1::Error {
                code: number(failure.code),
                message: failure.message.clone().into_owned(),
                room: room.unwrap_or_default().to_owned(),
                retry_after_ms: failure.retry_after_ms.unwrap_or(0),
                reason: String::new(),
            };
            (id, Wire::Error(error))
        }
        Frame::History { id, room, page: Page { position, events, more } } => {
            let messages = events.iter().map(|event| to_event(event)).collect();
            let (room, position) = (room.to_owned(), Some(to_position(position)));
            (id, Wire::History(v1::HistoryPage { room, position, messages, more }))
        }
        Frame::TokenExpiring { expires_us } => {
            let expires_at = Some(to_timestamp(expires_us));
            (None, Wire::TokenExpiring(v1::TokenExpiring { expires_at }))
        }
        Frame::Draining { reconnect_after_ms } => (None, Wire::Draining(v1::Draining { reconnect_after_ms })),
        Frame::Event(event) => (None, Wire::Event(to_event(event))),
        Frame::State { room, all } => {
            let online = all.iter().map(to_user).collect();
            (None, to_presence(room, v1::presence::Event::State(v1::PresenceState { online })))
        }
        Frame::Step { room, step } => (None, to_presence(room, to_step(step))),
        Frame::Count { room, count } => (None, to_presence(room, v1::presence::Event::Count(count))),
    };
    let response = v1::ConnectResponse { id: id.unwrap_or_default().to_owned(), frame: Some(frame) };
    let mut out = Vec::new();
    message::write(&mut out, &response);
    out
}

fn to_joined(room: &str, joined: &Joined<'_>) -> v1::Joined {
    let Joined { position, cursor, recovered, replayed } = *joined;
    let (room, cursor) = (room.to_owned(), cursor.to_owned());
    v1::Joined { room, position: Some(to_position(position)), recovered, replayed, cursor }
}

fn to_ack(room: Option<&str>, acked: Acked<'_>) -> v1::Ack {
    let room = room.unwrap_or_default().to_owned();
    match acked {
        Acked::Delivered { position, duplicate } => {
            v1::Ack { room, position: position.map(to_position), duplicate, ..v1::Ack::default() }
        }
        Acked::Refreshed { expires_us } => {
            v1::Ack { room, expires_at: expires_us.map(to_timestamp), ..v1::Ack::default() }
        }
        Acked::Ok | Acked::Left => v1::Ack { room, ..v1::Ack::default() },
    }
}

fn to_event(event: &Event) -> v1::Event {
    let kind = match event.kind {
        Kind::Text => v1::EventKind::Text,
        Kind::System => v1::EventKind::System,
        Kind::Signal => v1::EventKind::Signal,
        Kind::Typing => v1::EventKind::Typing,
    };
    let data = match &event.payload {
        // A checked payload is UTF-8, so nothing is lost.
        Payload::Json(json) => v1::payload::Data::Json(String::from_utf8_lossy(json).into_owned()),
        Payload::Binary(bytes) => v1::payload::Data::Binary(bytes.clone()),
    };
    v1::Event {
        room: event.room.as_ref().to_owned(),
        kind: kind.into(),
        seq: event.seq,
        id: event.id.as_deref().unwrap_or_default().to_owned(),
        author: event.author.as_ref().to_owned(),
        payload: Some(v1::Payload { data: Some(data) }),
        timestamp: Some(to_timestamp(event.timestamp_us)),
    }
}

fn to_presence(room: &str, event: v1::presence::Event) -> Wire {
    Wire::Presence(v1::Presence { room: room.to_owned(), event: Some(event) })
}

fn to_user(one: &Online) -> v1::PresenceUser {
    let Online { user, meta, sessions, since_us } = one;
    let (user, meta) = (user.as_ref().to_owned(), meta.as_ref().to_owned());
    v1::PresenceUser { user, meta, sessions: *sessions, since: Some(to_timestamp(*since_us)) }
}

fn to_step(step: &Step) -> v1::presence::Event {
    let Step { happened, user, meta } = step;
    let (user, meta) = (user.as_ref().to_owned(), meta.as_ref().to_owned());
    let user = v1::PresenceUser { user, meta, ..v1::PresenceUser::default() };
    match happened {
        Happened::Join => v1::presence::Event::Join(user),
        Happened::Update => v1::presence::Event::Update(user),
        Happened::Leave => v1::presence::Event::Leave(user),
    }
}

fn to_position(position: &Position) -> v1::Position {
    v1::Position { epoch: position.epoch.as_ref().to_owned(), seq: position.seq }
}

fn to_timestamp(us: u64) -> hearth_proto::Timestamp {
    hearth_proto::Timestamp { seconds: (us / 1_000_000) as i64, nanos: (us % 1_000_000) as i32 * 1000 }
}

/// gRPC's number of a status.
fn number(code: Code) -> i32 {
    match code {
        Code::InvalidArgument => 3,
        Code::NotFound => 5,
        Code::PermissionDenied => 7,
        Code::ResourceExhausted => 8,
        Code::FailedPrecondition => 9,
        Code::Aborted => 10,
        Code::OutOfRange => 11,
        Code::Unimplemented => 12,
        Code::Internal => 13,
        Code::Unavailable => 14,
        Code::Unauthenticated => 16,
    }
}

#[cfg(test)]
mod tests;
