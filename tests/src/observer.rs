//! Checks what a subscriber sees: per room and epoch every seq once, in order, none missing, across all its joins.
use hearth_proto::v1::{Event, Joined, Position};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What one subscriber has seen.
#[derive(Debug, Default)]
pub struct Observer {
    name: String,
    rooms: HashMap<String, Track>,
}

#[derive(Debug)]
struct Track {
    epoch: String,
    last: u64,
    ids: Vec<String>,
}

impl Observer {
    /// One that is called `name` when it complains.
    pub fn new(name: impl Into<String>) -> Observer {
        Observer { name: name.into(), rooms: HashMap::new() }
    }

    /// Takes a JSON frame; ephemeral and other ones pass.
    pub fn frame(&mut self, frame: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let room = text(&frame["room"]);
        match (frame["type"].as_str(), frame["seq"].as_u64()) {
            (Some("text" | "system"), Some(seq)) => self.event(&room, seq, text(&frame["id"])),
            (Some("system"), None) if frame["data"]["event"] == "joined" => {
                let data = &frame["data"];
                let number =
                    |name: &str| data[name].as_u64().unwrap_or_else(|| panic!("no {name} in {frame}"));
                let recovered = data.get("recovered").map(|it| it.as_bool().expect("recovered is a bool"));
                self.joined(&room, &text(&data["epoch"]), number("seq"), recovered, number("replayed"));
            }
            _ => {}
        }
    }

    /// Takes a gRPC `joined`.
    pub fn joined_by_grpc(&mut self, joined: &Joined) {
        let at = joined.position.as_ref().expect("joined has a position");
        self.joined(&joined.room, &at.epoch, at.seq, joined.recovered, joined.replayed);
    }

    /// Takes a gRPC event.
    pub fn event_by_grpc(&mut self, event: &Event) {
        if event.seq > 0 {
            self.event(&event.room, event.seq, event.id.clone());
        }
    }

    fn joined(&mut self, room: &str, epoch: &str, seq: u64, recovered: Option<bool>, replayed: u64) {
        let name = &self.name;
        let start =
            seq.checked_sub(replayed).unwrap_or_else(|| panic!("{name}: {replayed} replayed of {seq}"));
        if let Some(track) = self.rooms.get_mut(room) {
            if recovered == Some(true) {
                assert_eq!(track.epoch, epoch, "{name}: recovered in another epoch");
                assert_eq!(
                    track.last, start,
                    "{name}: the replay does not go on from what was seen in {room}"
                );
                return;
            }
            if track.epoch == epoch && recovered.is_none() {
                // A join of a joined room: it tells where the room is and changes nothing.
                return;
            }
        }
        self.rooms.insert(room.to_owned(), Track { epoch: epoch.to_owned(), last: start, ids: Vec::new() });
    }

    fn event(&mut self, room: &str, seq: u64, id: String) {
        let name = &self.name;
        let track =
            self.rooms.get_mut(room).unwrap_or_else(|| panic!("{name}: an event of {room} before joined"));
        assert_eq!(seq, track.last + 1, "{name}: seq in {room}, {id:?} after {:?}", track.ids.last());
        track.last = seq;
        track.ids.push(id);
    }

    /// The last seq that was seen in a room.
    pub fn last(&self, room: &str) -> u64 {
        self.rooms.get(room).map_or(0, |track| track.last)
    }

    /// The ids of all events since the room's epoch was first seen, in order.
    pub fn ids(&self, room: &str) -> &[String] {
        &self.rooms[room].ids
    }

    /// Where to go on from, as a `since` in JSON.
    pub fn since(&self, room: &str) -> Value {
        let track = &self.rooms[room];
        json!({"epoch": track.epoch, "seq": track.last})
    }

    /// Where to go on from, for gRPC.
    pub fn position(&self, room: &str) -> Position {
        let track = &self.rooms[room];
        Position { epoch: track.epoch.clone(), seq: track.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    fn joined(seq: u64, recovered: Option<bool>, replayed: u64) -> Value {
        let mut data = json!({"event": "joined", "epoch": "e", "seq": seq, "replayed": replayed});
        if let Some(recovered) = recovered {
            data["recovered"] = recovered.into();
        }
        json!({"type": "system", "room": "r", "data": data})
    }

    fn text(seq: u64) -> Value {
        json!({"type": "text", "room": "r", "seq": seq, "data": {}})
    }

    fn watch(frames: &[Value]) -> u64 {
        let mut observer = Observer::new("it");
        for frame in frames {
            observer.frame(frame);
        }
        observer.last("r")
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(
            watch(&[joined(3, Some(true), 2), text(2), text(3), text(4), joined(5, Some(true), 1), text(5)]),
            5
        );
        assert_eq!(watch(&[joined(3, None, 0), text(4), joined(9, Some(false), 0), text(10)]), 10);
    }

    #[test]
    fn an_observer_sees_what_is_wrong() {
        let wrongs = [
            vec![text(1)],
            vec![joined(1, None, 0), text(3)],
            vec![joined(1, None, 0), text(2), text(2)],
            vec![joined(1, None, 0), text(1)],
            vec![joined(5, None, 2), text(5)],
            vec![joined(1, None, 0), joined(5, Some(true), 3)],
        ];
        for wrong in wrongs {
            assert!(catch_unwind(|| watch(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
