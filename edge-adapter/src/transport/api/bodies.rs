//! What is answered over HTTP alone: envelopes in other wrappings, and what is no envelope.
use super::names::{Online, Timestamp};
use super::told::Envelope;
use utoipa::ToSchema;

/// How server-sent events are named.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamEventName {
    /// A `text`.
    Message,
    /// As the envelope's type.
    Signal,
    /// As the envelope's type.
    Typing,
    /// As the envelope's type.
    System,
    /// As the envelope's type.
    Presence,
    /// As the envelope's type.
    Error,
}

/// One server-sent event.
#[derive(ToSchema)]
pub struct StreamEvent {
    /// What kind it is.
    pub event: StreamEventName,
    /// The whole envelope as JSON: see `Envelope`.
    #[schema(content_media_type = "application/json")]
    pub data: String,
    /// The cursor with which a client goes on behind it: for `Last-Event-ID` and `since`. On `joined`, on what is sequenced, and on the last room's `error` where there are several.
    pub id: Option<String>,
    /// When a client comes back by itself after a cut, in milliseconds.
    pub retry: Option<u64>,
}

/// The answer to a poll.
#[derive(ToSchema)]
pub struct Polled {
    /// For the next poll, which shows that this answer has arrived.
    pub cursor: String,
    /// What has happened.
    pub messages: Vec<Envelope>,
}

/// Who is online in a room.
#[derive(ToSchema)]
pub struct Present {
    /// In order of their names; at most 1,000.
    #[schema(max_items = 1000)]
    pub online: Vec<Online>,
    /// How many there are in all.
    pub count: u64,
}

/// What stands for a token.
#[derive(ToSchema)]
pub struct Ticket {
    /// Good wherever a token is: in a URL, a subprotocol, a header, an `auth`, and by gRPC.
    pub ticket: String,
    /// Until when it may be shown.
    pub expires_at: Timestamp,
}

/// Whether new clients are welcome.
#[derive(ToSchema)]
pub struct Readiness {
    /// They are.
    pub ready: bool,
    /// The link to a core.
    pub link: Link,
    /// The edge is about to go away.
    pub draining: bool,
    /// It has no memory to spare, and lets nobody new in.
    pub shedding: bool,
}

/// How the link to a core stands.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// It stands.
    Attached,
    /// It does not.
    Detached,
}
