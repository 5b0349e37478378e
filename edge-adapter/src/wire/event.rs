//! The words that the whole edge speaks: events, positions, failures.
use bytes::Bytes;
use std::{borrow::Cow, sync::Arc};

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sequenced.
    Text,
    /// Sequenced, published by a service.
    System,
    /// Ephemeral.
    Signal,
    /// Ephemeral.
    Typing,
}

impl Kind {
    /// Its name as an envelope's `type`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::System => "system",
            Kind::Signal => "signal",
            Kind::Typing => "typing",
        }
    }

    /// Never stored; may be dropped for a slow session.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, Kind::Signal | Kind::Typing)
    }
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A JSON object that passed `hearth_proto::payload`.
    Json(Bytes),
    /// Opaque bytes.
    Binary(Bytes),
}

impl Payload {
    /// Its bytes, whatever they are.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Payload::Json(bytes) | Payload::Binary(bytes) => bytes,
        }
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An event of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The room's name.
    pub room: Arc<str>,
    /// What kind it is.
    pub kind: Kind,
    /// Its number in the room; 0 for ephemeral kinds.
    pub seq: u64,
    /// The publisher's idempotency key.
    pub id: Option<Box<str>>,
    /// Who published it, by the server's word.
    pub author: Box<str>,
    /// What it says.
    pub payload: Payload,
    /// When the server accepted it, in microseconds since 1970.
    pub timestamp_us: u64,
}

/// A place in a room's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Opaque id of the room's numbering.
    pub epoch: Arc<str>,
    /// The last event that was seen.
    pub seq: u64,
}

/// Why something failed: gRPC's status codes, as far as Hearth uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    Unauthenticated,
}

impl Code {
    /// The name that stands in `error` frames and problems.
    pub fn name(self) -> &'static str {
        match self {
            Code::InvalidArgument => "invalid_argument",
            Code::NotFound => "not_found",
            Code::PermissionDenied => "permission_denied",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Aborted => "aborted",
            Code::OutOfRange => "out_of_range",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::Unauthenticated => "unauthenticated",
        }
    }
}

/// A command that failed, for the one who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, for a program.
    pub code: Code,
    /// What went wrong, for a person.
    pub message: Cow<'static, str>,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u64>,
    /// A token was brought that nobody has issued: not one that is missing, or was good once.
    pub forged: bool,
}

impl Failure {
    /// A failure that says nothing about trying again.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, forged: false }
    }

    /// The same, with the time after which to try again.
    pub fn retry_after_ms(self, ms: u64) -> Self {
        Self { retry_after_ms: Some(ms), ..self }
    }
}
