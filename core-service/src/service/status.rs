//! The one place where errors become gRPC's: a status with `google.rpc` details for calls, an `Error` frame for streams.
use crate::{engine::EngineError, hub::Error, room::id::RoomName};
use hearth_proto::{name::BadName, v1};
use std::{collections::HashMap, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "hearth";

/// How soon to try again when the engine is away or a queue is full.
const RETRY_AFTER: Duration = Duration::from_millis(1000);

struct Told {
    code: Code,
    reason: &'static str,
    field: Option<&'static str>,
    /// How soon to try again.
    retry: Option<Duration>,
}

fn told(error: &Error) -> Told {
    let plain = |code, reason| Told { code, reason, field: None, retry: None };
    let field = |reason, field| Told { code: Code::InvalidArgument, reason, field: Some(field), retry: None };
    match error {
        Error::Name(BadName::Room) => field("BAD_ROOM_NAME", "room"),
        Error::Name(BadName::User) => field("BAD_USER_NAME", "user"),
        Error::Name(BadName::Id) => field("BAD_ID", "id"),
        Error::Payload(_) => field("BAD_PAYLOAD", "payload"),
        Error::Field { field: name, .. } => field("BAD_FIELD", name),
        Error::TooLarge { .. } => field("PAYLOAD_TOO_LARGE", "payload"),
        Error::NotJoined => plain(Code::FailedPrecondition, "ROOM_NOT_JOINED"),
        Error::Unauthenticated { reason, .. } => plain(Code::Unauthenticated, reason),
        Error::Revoked => plain(Code::Unauthenticated, "TOKEN_REVOKED"),
        Error::Kicked => plain(Code::PermissionDenied, hearth_proto::KICKED),
        Error::NotFound(_) => plain(Code::NotFound, "NOT_FOUND"),
        Error::KeysAway(_) => Told { retry: Some(RETRY_AFTER), ..plain(Code::Unavailable, "KEYS_AWAY") },
        Error::Forbidden(_) => plain(Code::PermissionDenied, "PERMISSION_DENIED"),
        Error::Unreadable(_) => plain(Code::InvalidArgument, "UNREADABLE"),
        Error::SlowConsumer => {
            Told { retry: Some(RETRY_AFTER), ..plain(Code::ResourceExhausted, "SLOW_CONSUMER") }
        }
        Error::Exhausted(_) => {
            Told { retry: Some(RETRY_AFTER), ..plain(Code::ResourceExhausted, "LIMIT_REACHED") }
        }
        Error::TooSoon { ms } => {
            Told { retry: Some(Duration::from_millis(*ms)), ..plain(Code::ResourceExhausted, "RATE_LIMITED") }
        }
        Error::RateLimited => {
            Told { retry: Some(RETRY_AFTER), ..plain(Code::ResourceExhausted, "RATE_LIMITED") }
        }
        Error::Engine(EngineError::OtherEpoch) => plain(Code::Unavailable, "OUTCOME_UNKNOWN"),
        Error::Engine(EngineError::Away(_)) => {
            Told { retry: Some(RETRY_AFTER), ..plain(Code::Unavailable, "ENGINE_AWAY") }
        }
        Error::OutOfTurn(_) => plain(Code::InvalidArgument, "OUT_OF_TURN"),
        Error::Draining => Told { retry: Some(RETRY_AFTER), ..plain(Code::Unavailable, "DRAINING") },
    }
}

/// The status of a call that failed.
pub(super) fn status(error: &Error) -> Status {
    let Told { code, reason, field, retry } = told(error);
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::<String, String>::new());
    if let Some(field) = field {
        details.add_bad_request_violation(field, error.to_string());
    }
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, error.to_string(), details)
}

/// The frame of a command that failed.
pub(super) fn frame(room: Option<&RoomName>, error: &Error) -> v1::Error {
    let Told { code, reason, retry, .. } = told(error);
    v1::Error {
        code: code as i32,
        message: error.to_string(),
        room: room.map(|room| room.as_str().to_owned()).unwrap_or_default(),
        retry_after_ms: retry.map_or(0, |retry| retry.as_millis() as u64),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_carry_their_details() {
        let status = status(&Error::Name(BadName::Room));
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("BAD_ROOM_NAME", "hearth"));
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "room");
        let away = super::status(&Error::Engine(EngineError::Away("x".into())));
        assert_eq!(away.get_details_retry_info().unwrap().retry_delay, Some(RETRY_AFTER));
    }
}
