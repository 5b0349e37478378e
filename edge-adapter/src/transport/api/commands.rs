//! What a client says, as `wire/command.rs` reads it: one JSON envelope a command. A command with an `id` is answered; one that is refused is
//! told so in any case.
use super::names::{Id, Meta, Position, Room, Seq};
use super::{value, word};
use serde_json::{Map, Value};
use utoipa::ToSchema;

value! {
    /// A text's type.
    TextType = word("text")
}

value! {
    /// A signal's type.
    SignalType = word("signal")
}

value! {
    /// The type of typing.
    TypingType = word("typing")
}

value! {
    /// The type of presence.
    PresenceType = word("presence")
}

value! {
    /// A join's type.
    JoinType = word("join")
}

value! {
    /// A leave's type.
    LeaveType = word("leave")
}

value! {
    /// The type of history.
    HistoryType = word("history")
}

value! {
    /// The type of a new token.
    AuthType = word("auth")
}

value! {
    /// A ping's type.
    PingType = word("ping")
}

/// Says something in a room, for good: it is numbered, stored and given to all who are there. Needs no join.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "text", "id": "msg_123", "room": "general", "data": { "content": "Hello" } }))]
pub struct TextCommand {
    /// `text`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: TextType,
    /// Asks for an ack, and makes it count once.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// What: any object. An `author` in it is overwritten with the user's name.
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
}

/// Says something to the others who are in a room now: cursors, reactions, calls. It is never stored, and may be dropped for who reads slowly.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "signal", "room": "general", "data": { "x": 12, "y": 40 } }))]
pub struct SignalCommand {
    /// `signal`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: SignalType,
    /// Asks for an ack.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// What: any object. An `author` in it is overwritten with the user's name.
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
}

/// Whether one types.
#[derive(ToSchema)]
#[schema(example = json!({ "active": true }))]
pub struct Typing {
    /// True holds for six seconds, or until it is taken back.
    pub active: bool,
}

/// Tells the others in a room that one types, or no longer does. The room must be joined.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "typing", "room": "general", "data": { "active": true } }))]
pub struct TypingCommand {
    /// `typing`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: TypingType,
    /// Asks for an ack.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// Whether one types.
    pub data: Typing,
}

/// What is set of one's presence.
#[derive(ToSchema)]
#[schema(example = json!({ "meta": { "status": "away" } }))]
pub struct Shown {
    /// What the user shows in the room from now on; without it, it is a mere sign of life.
    pub meta: Option<Meta>,
}

/// Sets what a session shows of its user in a room that it has joined.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "presence", "id": "p1", "room": "general", "data": { "meta": { "status": "away" } } }))]
pub struct PresenceCommand {
    /// `presence`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: PresenceType,
    /// Asks for an ack.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// What.
    pub data: Shown,
}

/// How a room is joined.
#[derive(ToSchema)]
pub struct Join {
    /// Where the client left off: what it missed is replayed.
    pub since: Option<Position>,
    /// Without `since`: how many of the newest events are replayed.
    #[schema(minimum = 0, maximum = 1000, default = 0)]
    pub history: Option<u32>,
    /// Whether who is online is told.
    #[schema(default = true)]
    pub presence: Option<bool>,
    /// Whether the session's own live events come back to it.
    #[schema(default = true)]
    pub echo: Option<bool>,
}

/// Goes into a room. Answered by `joined`, then come the replay, who is online, and what happens.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "join", "id": "j1", "room": "general", "data": { "history": 20 } }))]
pub struct JoinCommand {
    /// `join`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: JoinType,
    /// Comes back with `joined`.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// How.
    pub data: Option<Join>,
}

/// Goes out of a room.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "leave", "id": "l1", "room": "general" }))]
pub struct LeaveCommand {
    /// `leave`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: LeaveType,
    /// Asks for an ack.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// Nothing that is known.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Map<String, Value>>,
}

/// Which part of a room's history.
#[derive(ToSchema)]
pub struct Range {
    /// Only what is after this.
    pub after: Option<Seq>,
    /// Only what is before this. With neither, the newest; with both, up from `after`.
    pub before: Option<Seq>,
    /// At most so many.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
}

/// Reads a room's history. Needs no join.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "history", "id": "h1", "room": "general", "data": { "before": 42, "limit": 20 } }))]
pub struct HistoryCommand {
    /// `history`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: HistoryType,
    /// Comes back with the answer.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// Which part.
    pub data: Option<Range>,
}

/// A token.
#[derive(ToSchema)]
pub struct Token {
    /// A JWT for the same user.
    pub token: String,
}

/// Replaces the session's token before it expires; on `/ws` without a token it says who one is, as the first of all. A server in dev mode does not
/// look at it.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "auth", "id": "a1", "data": { "token": "eyJhbGciOi" } }))]
pub struct AuthCommand {
    /// `auth`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: AuthType,
    /// Asks for an ack.
    pub id: Option<Id>,
    /// The new token.
    pub data: Token,
}

/// Asks for a sign of life.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "ping", "id": "1" }))]
pub struct PingCommand {
    /// `ping`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: PingType,
    /// Asks for an ack.
    pub id: Option<Id>,
    /// Nothing that is known.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Map<String, Value>>,
}

/// A text over HTTP, where the path names the room.
#[derive(ToSchema)]
#[schema(example = json!({ "data": { "content": "Hello" } }))]
pub struct PublishText {
    /// `text`, also where it is left out.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: Option<TextType>,
    /// Makes it count once. The same as the header `Idempotency-Key`, where both are there.
    pub id: Option<Id>,
    /// The same room as the path's.
    pub room: Option<Room>,
    /// What: any object. An `author` in it is overwritten with the user's name.
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
}

/// A signal over HTTP.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "signal", "data": { "reaction": "wave" } }))]
pub struct PublishSignal {
    /// `signal`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: SignalType,
    /// Comes back with the ack.
    pub id: Option<Id>,
    /// The same room as the path's.
    pub room: Option<Room>,
    /// What: any object. An `author` in it is overwritten with the user's name.
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
}

/// Typing over HTTP.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "typing", "data": { "active": true } }))]
pub struct PublishTyping {
    /// `typing`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: TypingType,
    /// Comes back with the ack.
    pub id: Option<Id>,
    /// The same room as the path's.
    pub room: Option<Room>,
    /// Whether one types.
    pub data: Typing,
}

/// What can be published over HTTP.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Publish {
    /// For good.
    Text(PublishText),
    /// For those who are there.
    Signal(PublishSignal),
    /// That one types.
    Typing(PublishTyping),
}
