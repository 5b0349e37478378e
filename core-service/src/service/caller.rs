//! Who calls: from a call's metadata to a grant, and to the user in whose name it speaks.
use super::{Shared, status};
use crate::{
    auth::{
        Gate,
        grant::{Act, Grant},
        key_sets::Search,
        token::BadToken,
    },
    hub::{Error, Outbox, Seat},
    room::{
        Now,
        id::{RoomName, UserName},
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout_at;
use tonic::{Status, metadata::MetadataMap};

/// The name of a service that gives none, in dev mode.
const SERVICE: &str = "service";
/// The number of a stream's only session.
pub(super) const ONLY: u64 = 1;
/// Why somebody is not heard in another's name.
const OTHERS_NAME: &str = "only services speak in others' names";
/// Why a room is closed to somebody.
pub(super) const NOT_ALLOWED: &str = "the token does not allow this in this room";

/// A caller.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// What it may do.
    pub(super) grant: Grant,
    /// In whose name it speaks: its own, unless it is a service that says otherwise.
    pub(super) speaks_as: UserName,
    /// It has said or shown who it is.
    pub(super) is_named: bool,
}

impl Caller {
    /// Reads a call's metadata. `unnamed` is who somebody is in dev mode that gives no name.
    pub(super) async fn of(
        shared: &Shared,
        metadata: &MetadataMap,
        unnamed: impl FnOnce() -> String,
    ) -> Result<Caller, Status> {
        let granted = in_time(&shared.gate, bearer(metadata)).await;
        let granted = granted.map_err(|error| unauthenticated(&error));
        let caller = granted.and_then(|granted| Self::granted(shared, granted, metadata, unnamed));
        caller.map_err(|error| status::status(&error))
    }

    /// The same, of somebody who is a service where nothing else is said.
    pub(super) async fn service(shared: &Shared, metadata: &MetadataMap) -> Result<Caller, Status> {
        Self::of(shared, metadata, || SERVICE.to_owned()).await
    }

    fn granted(
        shared: &Shared,
        granted: Option<Grant>,
        metadata: &MetadataMap,
        unnamed: impl FnOnce() -> String,
    ) -> Result<Caller, Error> {
        granted.iter().try_for_each(|grant| shared.hub.check(grant))?;
        let defaults = shared.defaults.clone();
        // Bytes that are no text are no name either.
        let named = metadata.get("user").map(|user| std::str::from_utf8(user.as_bytes()).unwrap_or("\0"));
        let named = named.filter(|user| !user.is_empty()).map(UserName::new).transpose()?;
        let Some(grant) = granted else {
            let is_named = named.is_some();
            let user = named.map_or_else(|| UserName::new(&unnamed()), Ok)?;
            // Whoever can reach the port of a core in dev mode is a service.
            let grant = Grant { service: true, defaults, ..Grant::dev(user.clone()) };
            return Ok(Caller { grant, speaks_as: user, is_named });
        };
        let speaks_as = named.unwrap_or_else(|| grant.user.clone());
        if speaks_as != grant.user && !grant.service {
            return Err(Error::Forbidden(OTHERS_NAME));
        }
        let grant = Grant { defaults, ..grant };
        Ok(Caller { grant, speaks_as, is_named: true })
    }

    /// Whether it may do this there.
    pub(super) fn may(&self, act: Act, room: &RoomName) -> Result<(), Error> {
        allowed(&self.grant, act, room)
    }

    /// Whether it may do what is for services alone.
    pub(super) fn must_be_service(&self) -> Result<(), Error> {
        if self.grant.service { Ok(()) } else { Err(Error::Forbidden("only services may do this")) }
    }

    /// Takes a place for a stream of its own, so that it ends when its user is to, or its token.
    pub(super) fn seat(&self, shared: &Shared, outbox: &Arc<Outbox>) -> Result<Seat, Status> {
        let grant = Arc::new(self.clone().into_session());
        shared.hub.directory().enter(outbox, ONLY, &grant, true).map_err(|error| status::status(&error))
    }

    /// What the one session of a stream is granted: to speak in its name, with the rights of who it is.
    pub(super) fn into_session(self) -> Grant {
        Grant { user: self.speaks_as, ..self.grant }
    }

    /// Waits until its token has ended; for ever in dev mode.
    pub(super) fn end(&self) -> impl Future<Output = Error> + Send + use<> {
        let end = self.grant.expires_at;
        async move {
            until(end).await;
            unauthenticated(&BadToken::Expired)
        }
    }
}

/// What a token grants. One whose key is not known waits while that is looked for.
pub(super) async fn in_time(gate: &Gate, token: &str) -> Result<Option<Grant>, BadToken> {
    let mut search: Option<Search> = None;
    loop {
        match (gate.admit(token, now()), &mut search) {
            (Err(BadToken::UnknownKey), None) => search = Some(gate.auth().search(Instant::now())?),
            (Err(BadToken::UnknownKey), Some(search)) => {
                if let Some(verdict) = search.verdict(Instant::now()) {
                    return Err(verdict);
                }
                // Late or not, it is looked at again.
                let _ = timeout_at(search.until().into(), search.news()).await;
            }
            (judged, _) => return judged,
        }
    }
}

/// Waits until a moment since 1970; for ever, if there is none.
pub(super) async fn until(end: Option<Duration>) {
    const FAR: Duration = Duration::from_secs(24 * 3600);
    let Some(end) = end else { return std::future::pending().await };
    // Looked at anew: clocks are set, and machines sleep.
    while let Some(left) = end.checked_sub(now()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(FAR)).await;
    }
}

/// Whether a grant allows this there.
pub(super) fn allowed(grant: &Grant, act: Act, room: &RoomName) -> Result<(), Error> {
    if grant.may(act, room) { Ok(()) } else { Err(Error::Forbidden(NOT_ALLOWED)) }
}

/// Somebody without a name.
pub(super) fn guest() -> String {
    format!("guest-{:010x}", fastrand::u64(..1 << 40))
}

/// Since 1970.
pub(super) fn now() -> Duration {
    Duration::from_micros(Now::read().micros)
}

/// What a token that is none is answered; one that cannot be judged now may be brought again.
pub(super) fn unauthenticated(error: &BadToken) -> Error {
    let reason = match error {
        BadToken::Missing => "TOKEN_MISSING",
        BadToken::Expired => "TOKEN_EXPIRED",
        BadToken::NotYet => "TOKEN_NOT_YET_VALID",
        BadToken::TooLong
        | BadToken::Unreadable
        | BadToken::UnknownKey
        | BadToken::Signature
        | BadToken::Claims(_)
        | BadToken::Elsewhere => hearth_proto::TOKEN_INVALID,
        BadToken::KeysAway => return Error::KeysAway(*error),
    };
    Error::Unauthenticated { reason, message: error.to_string() }
}

/// The token of an `authorization` entry; empty if there is none.
pub(super) fn bearer(metadata: &MetadataMap) -> &str {
    let entry = metadata.get("authorization").and_then(|entry| entry.to_str().ok()).unwrap_or_default();
    let (scheme, token) = entry.split_once(' ').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }
}
