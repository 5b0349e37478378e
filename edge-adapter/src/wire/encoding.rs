//! From what is said to the bytes of a session's dialect: the one place that knows all of them.
use crate::wire::dialect::Dialect;
use crate::wire::frame::Frame;
use crate::wire::presence::Told;
use crate::wire::websocket::{self, Opcode, deflate};
use crate::wire::{json, protobuf};
use bytes::Bytes;

impl Frame<'_> {
    /// Its bytes in a session's dialect; server-sent events may carry a cursor.
    pub fn encode(&self, dialect: Dialect, cursor: Option<&str>) -> Bytes {
        match dialect {
            Dialect::WebSocketJson => json::envelope(self).into_frame(),
            Dialect::WebSocketJsonDeflate => json::envelope(self).into_deflated_frame(),
            Dialect::WebSocketProtobuf => websocket::frame(Opcode::Binary, &protobuf::message(self)),
            Dialect::WebSocketProtobufDeflate => {
                deflate::frame(Opcode::Binary, &protobuf::message(self)).into()
            }
            Dialect::Sse => json::envelope(self).into_event(cursor),
            Dialect::Lines => json::envelope(self).into_line(),
        }
    }
}

impl Told {
    /// One envelope, or one for each step.
    pub fn encode(&self, room: &str, dialect: Dialect) -> Bytes {
        match self {
            Told::State(all) => Frame::State { room, all }.encode(dialect, None),
            Told::Count(count) => Frame::Count { room, count: *count }.encode(dialect, None),
            Told::Steps(steps) => match &steps[..] {
                [step] => Frame::Step { room, step }.encode(dialect, None),
                steps => {
                    let one = |step| Frame::Step { room, step }.encode(dialect, None);
                    Bytes::from(steps.iter().map(one).collect::<Vec<Bytes>>().concat())
                }
            },
        }
    }
}
