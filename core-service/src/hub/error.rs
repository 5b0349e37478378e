//! Why a command failed, in the core's own words. `service/status` turns these into gRPC's, once.
use crate::auth::token::BadToken;
use crate::engine::EngineError;
use hearth_proto::{name::BadName, payload::BadPayload};
use std::borrow::Cow;
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// A name that is none.
    #[error("{0}")]
    Name(#[from] BadName),
    /// A payload that is none.
    #[error("{0}")]
    Payload(#[from] BadPayload),
    /// A field that has no sense.
    #[error("{field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: Cow<'static, str>,
    },
    /// A payload over the limit.
    #[error("a payload may have at most {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The session is not in that room.
    #[error("the session is not in this room")]
    NotJoined,
    /// Who it is, is not known.
    #[error("{message}")]
    Unauthenticated {
        /// For programs.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// Its token was revoked.
    #[error("the token has been revoked")]
    Revoked,
    /// An administrator has ended it.
    #[error("an administrator has ended it")]
    Kicked,
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// Who it is cannot be found out now.
    #[error("{0}")]
    KeysAway(BadToken),
    /// Not allowed.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Too many of something.
    #[error("{0}")]
    Exhausted(Cow<'static, str>),
    /// A command came too soon.
    #[error("too many commands")]
    TooSoon {
        /// After how many milliseconds the next may come.
        ms: u64,
    },
    /// That happened too often.
    #[error("rate_limited: too many commands were refused for coming too soon")]
    RateLimited,
    /// The engine said no.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// Something that is no message of this protocol.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It reads slower than it is written to.
    #[error("slow_consumer: it reads slower than its rooms are written to")]
    SlowConsumer,
    /// A frame out of turn.
    #[error("{0}")]
    OutOfTurn(&'static str),
    /// The server goes away.
    #[error("the server is going away")]
    Draining,
}
