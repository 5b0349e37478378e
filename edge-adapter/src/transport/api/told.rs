//! What a server says, as `wire/json.rs` writes it. What has no `id` was not asked for. Unknown fields are to be ignored, and unknown types too.
use super::commands::{HistoryType, PresenceType, SignalType, TextType, TypingType};
use super::names::{Code, Epoch, Id, Meta, Online, Room, Seq, Timestamp, User};
use super::{value, word};
use utoipa::ToSchema;

value! {
    /// An ack's type.
    AckType = word("ack")
}

value! {
    /// The type of what the server says of the session.
    SystemType = word("system")
}

value! {
    /// An error's type.
    ErrorType = word("error")
}

/// How a command ended well.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A publish: the engine holds it, or it was passed on.
    Delivered,
    /// A ping, or what one shows.
    Ok,
    /// A leave.
    Left,
}

/// What an ack says.
#[derive(ToSchema)]
pub struct Acked {
    /// How it ended.
    pub status: Status,
    /// Where a `text` stands.
    pub seq: Option<Seq>,
    /// It had been published before, and nobody sees it twice.
    pub duplicate: Option<bool>,
    /// When the new token ends, of an `auth`.
    pub expires_at: Option<Timestamp>,
}

/// The answer to a command that succeeded.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "ack", "id": "msg_123", "room": "general", "data": { "status": "delivered", "seq": 42 } }))]
pub struct AckEnvelope {
    /// `ack`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: AckType,
    /// The command's.
    pub id: Option<Id>,
    /// Where.
    pub room: Option<Room>,
    /// How it ended.
    pub data: Acked,
}

/// What was published: any object, with its author. Bytes that a service published stand in `binary`.
#[derive(ToSchema)]
#[schema(example = json!({ "content": "Hello", "author": "ann" }))]
pub struct Said {
    /// Who published it, by the server's word.
    pub author: User,
}

/// Somebody has said something.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "text", "id": "msg_123", "room": "general", "seq": 42, "data": { "content": "Hello", "author": "ann" }, "timestamp": 1711000000.123 }))]
pub struct TextEnvelope {
    /// `text`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: TextType,
    /// As its author called it.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// Its number there.
    pub seq: Seq,
    /// What.
    pub data: Said,
    /// When the server accepted it.
    pub timestamp: Timestamp,
}

/// A service has said something for the room's record.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "system", "room": "general", "seq": 43, "data": { "event": "renamed", "author": "admin" }, "timestamp": 1711000001.5 }))]
pub struct PublishedSystemEnvelope {
    /// `system`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: SystemType,
    /// As its author called it.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// Its number there.
    pub seq: Seq,
    /// What.
    pub data: Said,
    /// When the server accepted it.
    pub timestamp: Timestamp,
}

/// Somebody has sent a signal.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "signal", "room": "general", "data": { "x": 12, "y": 40, "author": "ann" }, "timestamp": 1711000000.25 }))]
pub struct SignalEnvelope {
    /// `signal`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: SignalType,
    /// As its author called it.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// What.
    pub data: Said,
    /// When the server accepted it.
    pub timestamp: Timestamp,
}

/// Who types.
#[derive(ToSchema)]
pub struct Types {
    /// Whether.
    pub active: bool,
    /// Who.
    pub author: User,
}

/// Somebody types, or no longer does.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "typing", "room": "general", "data": { "active": true, "author": "ann" }, "timestamp": 1711000000.5 }))]
pub struct TypingEnvelope {
    /// `typing`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: TypingType,
    /// As its author called it.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// Who, and whether.
    pub data: Types,
    /// When the server accepted it.
    pub timestamp: Timestamp,
}

/// What the server says of a session.
#[derive(ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SystemEvent {
    /// First of all: who one is here.
    Welcome {
        /// This session.
        session: String,
        /// Its user.
        user: User,
        /// How often a silent session is pinged; two silent ones end it.
        heartbeat_ms: u64,
        /// The largest message that is taken.
        max_message_bytes: u64,
    },
    /// The session is in a room, or goes on in it from another place.
    Joined {
        /// The room's numbering.
        epoch: Epoch,
        /// Where the room is.
        seq: Seq,
        /// Where the session is in all its rooms: for `since`.
        cursor: String,
        /// Whether all that was missed since the position that was brought follows. If not, reload what you show.
        recovered: Option<bool>,
        /// How many events of the past follow.
        replayed: u64,
    },
    /// The session was put out of a room.
    Left,
    /// The server goes away.
    Draining {
        /// Come back within this time, each at another moment.
        reconnect_after_ms: u64,
    },
    /// The server has no room for the session.
    Overloaded {
        /// Come back after this time.
        reconnect_after_ms: u64,
    },
    /// The session's token ends soon, and with it the session: `auth` with another one goes on.
    TokenExpiring {
        /// When.
        expires_at: Timestamp,
    },
    /// The session's token has expired.
    TokenExpired,
}

/// The server speaks of the session.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "system", "id": "j1", "room": "general", "data": { "event": "joined", "epoch": "IsrMtrf0b2cHqqd4WE8ahQ.0", "seq": 42, "cursor": "Ad_i23SX", "replayed": 20 } }))]
pub struct SystemEnvelope {
    /// `system`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: SystemType,
    /// The join's, of `joined`.
    pub id: Option<Id>,
    /// Where, if it is about a room.
    pub room: Option<Room>,
    /// What.
    pub data: SystemEvent,
}

/// What is told of who is online in a room.
#[derive(ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PresenceEvent {
    /// All who are online: stands in the place of all that was told before.
    State {
        /// Who.
        online: Vec<Online>,
    },
    /// A user is online.
    Join {
        /// Who.
        user: User,
        /// What it shows.
        meta: Meta,
    },
    /// A user shows something else.
    Update {
        /// Who.
        user: User,
        /// What it shows.
        meta: Meta,
    },
    /// A user is online no longer.
    Leave {
        /// Who.
        user: User,
        /// What it showed.
        meta: Meta,
    },
    /// How many are online, where they are too many to be named.
    Count {
        /// So many.
        count: u64,
    },
}

/// Who is online in a room has changed.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "presence", "room": "general", "data": { "event": "join", "user": "ann", "meta": {} } }))]
pub struct PresenceEnvelope {
    /// `presence`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: PresenceType,
    /// Where.
    pub room: Room,
    /// What.
    pub data: PresenceEvent,
}

/// What history is made of.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Sequenced {
    /// What a user has said.
    Text(TextEnvelope),
    /// What a service has said.
    System(PublishedSystemEnvelope),
}

/// A part of a room's history, ascending.
#[derive(ToSchema)]
pub struct HistoryPage {
    /// The room's numbering; empty where nothing has ever been there.
    pub epoch: Epoch,
    /// Where the room is.
    pub seq: Seq,
    /// What was said.
    pub messages: Vec<Sequenced>,
    /// There is more in the direction that was asked for.
    pub more: bool,
}

/// The answer to `history`.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "history", "id": "h1", "room": "general", "data": { "epoch": "IsrMtrf0b2cHqqd4WE8ahQ.0", "seq": 42, "messages": [], "more": false } }))]
pub struct HistoryEnvelope {
    /// `history`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: HistoryType,
    /// The command's.
    pub id: Option<Id>,
    /// Where.
    pub room: Room,
    /// What there is.
    pub data: HistoryPage,
}

/// What went wrong.
#[derive(ToSchema)]
pub struct Failure {
    /// For a program.
    pub code: Code,
    /// For a person.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u64>,
}

/// A command that failed. It costs nothing else: the session lives on.
#[derive(ToSchema)]
#[schema(example = json!({ "type": "error", "id": "t1", "room": "general", "data": { "code": "failed_precondition", "message": "not in that room" } }))]
pub struct ErrorEnvelope {
    /// `error`.
    #[schema(inline)]
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// The command's, if it could be read.
    pub id: Option<Id>,
    /// The command's room, if it could be read.
    pub room: Option<Room>,
    /// What went wrong.
    pub data: Failure,
}

/// Whatever a server says.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Envelope {
    /// A command has succeeded.
    Ack(AckEnvelope),
    /// Somebody has said something.
    Text(TextEnvelope),
    /// A service has.
    PublishedSystem(PublishedSystemEnvelope),
    /// A signal.
    Signal(SignalEnvelope),
    /// Typing.
    Typing(TypingEnvelope),
    /// Of the session.
    System(SystemEnvelope),
    /// Who is online.
    Presence(PresenceEnvelope),
    /// What was asked for of the past.
    History(HistoryEnvelope),
    /// A command has failed.
    Error(ErrorEnvelope),
}
