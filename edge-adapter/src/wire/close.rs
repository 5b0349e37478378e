//! Why a session ends, in every transport's words. One way to close, one place for the codes.

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said goodbye.
    Bye,
    /// The server goes away.
    Draining,
    /// Something on the server broke.
    Internal,
    /// The server has no room.
    Overloaded,
    /// A binary message on a JSON session, or a text on a protobuf session.
    UnsupportedData,
    /// A text message that is not UTF-8.
    InvalidPayload,
    /// A message over the limit.
    TooBig,
    /// Frames that break RFC 6455.
    ProtocolError,
    /// A room name that is none, in the path.
    InvalidArgument,
    /// No token, or a bad one.
    Unauthenticated,
    /// Not allowed in.
    PermissionDenied,
    /// The token has ended.
    TokenExpired,
    /// It reads slower than it is written to.
    SlowConsumer,
    /// An administrator ended it.
    Kicked,
    /// Too many refused commands.
    RateLimited,
    /// Silent for two heartbeats, or reset: there is nobody to tell.
    Vanished,
}

impl CloseReason {
    /// Whether the client may be back in a moment, so that its user is not gone yet. By the table of close codes: where a client
    /// does not reconnect, its session has left.
    pub fn may_return(self) -> bool {
        match self {
            CloseReason::Draining
            | CloseReason::Internal
            | CloseReason::Overloaded
            | CloseReason::TokenExpired
            | CloseReason::SlowConsumer
            | CloseReason::RateLimited
            | CloseReason::Vanished => true,
            CloseReason::Bye
            | CloseReason::UnsupportedData
            | CloseReason::InvalidPayload
            | CloseReason::TooBig
            | CloseReason::ProtocolError
            | CloseReason::InvalidArgument
            | CloseReason::Unauthenticated
            | CloseReason::PermissionDenied
            | CloseReason::Kicked => false,
        }
    }

    /// WebSocket close code and reason word. `Vanished` has a code only for logs.
    pub fn code_and_word(self) -> (u16, &'static str) {
        match self {
            CloseReason::Bye => (1000, "bye"),
            CloseReason::Draining => (1001, "draining"),
            CloseReason::ProtocolError => (1002, "protocol_error"),
            CloseReason::UnsupportedData => (1003, "unsupported_data"),
            CloseReason::Vanished => (1006, "vanished"),
            CloseReason::InvalidPayload => (1007, "invalid_payload"),
            CloseReason::TooBig => (1009, "too_big"),
            CloseReason::InvalidArgument => (1008, "invalid_argument"),
            CloseReason::Unauthenticated => (1008, "unauthenticated"),
            CloseReason::PermissionDenied => (1008, "permission_denied"),
            CloseReason::Internal => (1011, "internal"),
            CloseReason::Overloaded => (1013, "overloaded"),
            CloseReason::TokenExpired => (4001, "token_expired"),
            CloseReason::SlowConsumer => (4002, "slow_consumer"),
            CloseReason::Kicked => (4003, "kicked"),
            CloseReason::RateLimited => (4004, "rate_limited"),
        }
    }
}
