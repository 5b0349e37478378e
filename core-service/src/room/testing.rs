//! What tests need to make events.
use super::{
    event::{Event, Kind, NewEvent, Payload},
    id::{ClientId, RoomName, UserName},
};
use bytes::Bytes;
use std::sync::Arc;

pub(crate) fn new_event(room: &str, user: &str, id: Option<&str>) -> NewEvent {
    NewEvent {
        room: RoomName::new(room).unwrap(),
        kind: Kind::Text,
        id: id.map(|id| ClientId::new(id).unwrap()),
        author: UserName::new(user).unwrap(),
        payload: Payload::Json(Bytes::from_static(b"{}")),
        session: None,
    }
}

pub(crate) fn event(room: &str, seq: u64) -> Arc<Event> {
    Arc::new(Event::accepted(new_event(room, "u", None), seq, 0))
}
