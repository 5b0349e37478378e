//! The small words of the descriptions: how names, places and times are spelled, and who is online.
use super::{string, value};
use crate::wire::event;
use hearth_proto::name;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// All there are.
const CODES: [event::Code; 11] = [
    event::Code::InvalidArgument,
    event::Code::NotFound,
    event::Code::PermissionDenied,
    event::Code::ResourceExhausted,
    event::Code::FailedPrecondition,
    event::Code::Aborted,
    event::Code::OutOfRange,
    event::Code::Unimplemented,
    event::Code::Internal,
    event::Code::Unavailable,
    event::Code::Unauthenticated,
];

value! {
    /// The name of a room. The part before the first `:` is its namespace; `~ann` is the personal room of ann.
    Room = string()
        .pattern(Some(r"^[A-Za-z0-9~][A-Za-z0-9._:~@|+=-]*$"))
        .max_length(Some(name::ROOM_MAX))
        .examples([json!("general")])
}

value! {
    /// Who it is: at most 128 bytes of UTF-8, without control characters.
    User = string()
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]+$"))
        .max_length(Some(name::USER_MAX))
        .examples([json!("ann")])
}

value! {
    /// What a client calls a command by: it comes back with the answer. Of a `text` it is also the idempotency key: sent again by the same
    /// user, it counts once.
    Id = string().min_length(Some(1)).max_length(Some(name::ID_MAX)).examples([json!("msg_123")])
}

value! {
    /// The number of a sequenced event in its room: 1, 2, 3 … without holes. 0 is before the first.
    Seq = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u64::MAX as usize))
}

value! {
    /// Which numbering of a room it is: another one, and seq counts anew.
    Epoch = string()
}

value! {
    /// Seconds since 1970, with a fraction.
    Timestamp = ObjectBuilder::new()
        .schema_type(Type::Number)
        .minimum(Some(0))
        .examples([json!(1711000000.123)])
}

value! {
    /// What a user shows of itself in a room: a JSON object, at most 4,096 bytes unless the server is told otherwise.
    Meta = ObjectBuilder::new().schema_type(Type::Object).examples([json!({ "status": "away" })])
}

value! {
    /// Why something failed.
    Code = string().enum_values(Some(CODES.map(event::Code::name)))
}

/// A place in a room's order.
#[derive(ToSchema)]
pub struct Position {
    /// The numbering.
    pub epoch: Epoch,
    /// The last event that was seen.
    pub seq: Seq,
}

/// A user who is online in a room.
#[derive(ToSchema)]
pub struct Online {
    /// Who.
    pub user: User,
    /// What it shows; `{}` where it shows nothing.
    pub meta: Meta,
    /// How many sessions it has in the room; 0 where the last has vanished and may be back.
    pub sessions: u32,
    /// Since when.
    pub since: Timestamp,
}

/// An error over HTTP (RFC 9457).
#[derive(ToSchema)]
pub struct Problem {
    /// `about:blank`: the status says it all.
    #[schema(pattern = "^about:blank$")]
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What went wrong, for a program.
    pub code: Code,
    /// What went wrong, for a person.
    pub detail: String,
}
