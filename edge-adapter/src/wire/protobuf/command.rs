//! What a client's binary message means: one `ConnectRequest` to one [`Command`], or the exact error that it gets. What JSON's envelopes are held to, these are
//! too; an empty string stands for what is not there, as is protobuf's way.
use crate::wire::command::{self, Action, Command, LIMIT_MAX, Rejected, Token};
use crate::wire::cursor::EPOCH_MAX;
use crate::wire::event::{Code, Failure, Kind, Payload, Position};
use hearth_proto::message;
use hearth_proto::v1::{self, connect_request::Command as Wire};
use hearth_proto::{name, payload};
use std::borrow::Cow;
use std::sync::Arc;

/// Reads one message.
pub fn parse(bytes: &[u8]) -> Result<Command, Rejected> {
    let request: v1::ConnectRequest = message::read(bytes).map_err(|error| {
        let failure = invalid(format!("not a hearth.v1.ConnectRequest: {error}"));
        Rejected { id: None, room: None, failure }
    })?;
    let v1::ConnectRequest { id, command } = request;
    let id = if id.is_empty() { Ok(None) } else { name::id(&id).map(|()| Some(Box::from(id))) };
    let id = id.map_err(|error| invalid(error.to_string()));
    let room = command.as_ref().and_then(room).filter(|room| name::room(room).is_ok()).map(Arc::from);
    match id {
        Ok(id) => match command.map_or_else(|| Err(invalid("command is missing")), action) {
            Ok(action) => Ok(Command { id, action }),
            Err(failure) => Err(Rejected { id, room, failure }),
        },
        Err(failure) => Err(Rejected { id: None, room, failure }),
    }
}

/// The room's name as it was spelled; a ping has none.
fn room(command: &Wire) -> Option<&str> {
    Some(match command {
        Wire::Join(join) => &join.room,
        Wire::Leave(leave) => &leave.room,
        Wire::Publish(publish) => &publish.room,
        Wire::History(history) => &history.room,
        Wire::Presence(presence) => &presence.room,
        Wire::Auth(_) | Wire::Ping(_) => return None,
    })
}

fn action(command: Wire) -> Result<Action, Failure> {
    match command {
        Wire::Join(join) => self::join(join),
        Wire::Leave(v1::Leave { room }) => Ok(Action::Leave { room: named(room)? }),
        Wire::Publish(publish) => self::publish(publish),
        Wire::History(v1::History { room, after, before, limit }) => {
            command::history(named(room)?, after, before, limit.map(u64::from))
        }
        Wire::Presence(v1::SetPresence { room, meta }) => {
            let room = named(room)?;
            let meta = meta.map(|meta| payload::check_meta(&meta)).transpose();
            let meta = meta.map_err(|error| invalid(format!("meta must be a JSON object: {error}")))?;
            Ok(Action::Presence { room, meta: meta.map(Arc::from) })
        }
        Wire::Auth(v1::Auth { token }) => Ok(Action::Auth { token: Token(token.into()) }),
        Wire::Ping(v1::Ping {}) => Ok(Action::Ping),
    }
}

fn join(v1::Join { room, since, history, echo, presence }: v1::Join) -> Result<Action, Failure> {
    let room = named(room)?;
    if history > LIMIT_MAX {
        return Err(invalid("history must be 0 to 1000"));
    }
    // No room has so long an epoch: the empty one, which none has either, says the same and is not kept in its place.
    let epoch = |epoch: String| if epoch.len() > EPOCH_MAX { "".into() } else { epoch.into() };
    let since = since.map(|v1::Position { epoch: text, seq }| Position { epoch: epoch(text), seq });
    let (presence, echo) = (presence.unwrap_or(true), echo.unwrap_or(true));
    Ok(Action::Join { room, since, history, presence, echo })
}

fn publish(v1::Publish { room, kind, payload, epoch }: v1::Publish) -> Result<Action, Failure> {
    let room = named(room)?;
    let kind = match v1::EventKind::try_from(kind) {
        Ok(v1::EventKind::Unspecified | v1::EventKind::Text) => Kind::Text,
        Ok(v1::EventKind::Signal) => Kind::Signal,
        Ok(v1::EventKind::Typing) => Kind::Typing,
        Ok(v1::EventKind::System) => Kind::System,
        Err(_) => return Err(invalid(format!("there is no kind {kind}"))),
    };
    let payload = match payload.and_then(|payload| payload.data) {
        Some(v1::payload::Data::Json(json)) => {
            let checked = payload::check(&json).map_err(|error| invalid(error.to_string()))?;
            Payload::Json(checked.into())
        }
        Some(v1::payload::Data::Binary(bytes)) => Payload::Binary(bytes),
        None => return Err(invalid("payload is missing")),
    };
    let says_typing = |payload: &Payload| match payload {
        Payload::Json(json) => payload::typing(json).is_some(),
        Payload::Binary(_) => false,
    };
    if kind == Kind::Typing && !says_typing(&payload) {
        return Err(invalid(r#"payload of typing must be {"active":bool}"#));
    }
    // As long an epoch as no room has is refused by every core, and need not travel.
    let fence = match epoch.len() {
        // What has no place in a room's numbering has none to keep to.
        _ if kind.is_ephemeral() => None,
        0 => None,
        1..=EPOCH_MAX => Some(epoch.into()),
        _ => return Err(Failure::new(Code::Unavailable, "the room has another epoch")),
    };
    Ok(Action::Publish { room, kind, payload, fence })
}

fn named(room: String) -> Result<Arc<str>, Failure> {
    name::room(&room).map_err(|error| invalid(error.to_string()))?;
    Ok(room.into())
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(Code::InvalidArgument, message)
}
