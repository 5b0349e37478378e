//! JSON commands, against the contract's table read again from the envelope's members.
use crate::{
    names::{is_id, is_room},
    payloads::sound,
    plain,
};
use hearth_edge::wire::{
    command::{self, Action, Command, LIMIT_DEFAULT, LIMIT_MAX, Token},
    cursor::EPOCH_MAX,
    event::{Code, Kind, Payload, Position},
};
use hearth_proto::payload::{self, DEPTH_MAX};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::sync::Arc;

/// One text of a WebSocket, and the same as a body that is posted.
pub fn json_command(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = command::parse(text);
    match &parsed {
        Ok(command) => assert_eq!(Some(command), expected(text).as_ref()),
        Err(rejected) => {
            assert_eq!(expected(text), None);
            assert_eq!(rejected.failure.code, Code::InvalidArgument);
            assert!(rejected.failure.message.len() < 300, "what is told does not grow with what was sent");
            assert!(rejected.id.as_deref().is_none_or(is_id));
            assert!(rejected.room.as_deref().is_none_or(is_room));
        }
    }
    posted(text, parsed.ok());
}

/// At a room's own door the same text means the same.
fn posted(text: &str, parsed: Option<Command>) {
    let room: Arc<str> = "r".into();
    if let Ok(Command { id, action }) = command::parse_publish(text, &room, Some("key")) {
        assert_eq!(id.as_deref(), Some("key"));
        assert_eq!(action.into_room(), Some(room));
    }
    let Some(Command { id, action }) = parsed else { return };
    match &action {
        Action::Publish { room, kind, payload, .. } => {
            let Payload::Json(kept) = payload else { panic!("JSON has no binary") };
            let kept = std::str::from_utf8(kept).unwrap_or_default();
            let data = plain::members(text).and_then(|all| all.into_iter().find(|(name, _)| name == "data"));
            data.iter().for_each(|(_, data)| sound(kept, data.get()));
            let again = command::parse_publish(text, room, None);
            match kind {
                Kind::System => {
                    assert_eq!(again.map_err(|failure| failure.code), Err(Code::PermissionDenied));
                }
                _ => assert_eq!(again, Ok(Command { id: id.clone(), action: action.clone() })),
            }
            if id.is_none() {
                let keyed = command::parse_publish(text, room, Some("key")).map(|command| command.id);
                assert_eq!(keyed.is_ok(), *kind != Kind::System);
            }
        }
        Action::Presence { room, .. } => {
            let data = plain::members(text).and_then(|all| all.into_iter().find(|(name, _)| name == "data"));
            let again = data.map(|(_, data)| command::parse_presence(data.get(), room.clone()));
            assert_eq!(again, Some(Ok(action)));
        }
        _ => {}
    }
}

/// What the contract says that a text means; none if it is to be refused.
fn expected(text: &str) -> Option<Command> {
    if plain::depth(text) > DEPTH_MAX {
        return None;
    }
    let envelope = Fields(plain::members(text)?);
    let id: Option<String> = envelope.value("id")?;
    if id.as_deref().is_some_and(|id| !is_id(id)) {
        return None;
    }
    envelope.raw("data")?;
    let kind: String = envelope.value("type")??;
    // Two rooms are refused even where none is looked at.
    envelope.raw("room")?;
    let room = || {
        let room: Option<String> = envelope.value("room")?;
        room.filter(|room| is_room(room)).map(Arc::<str>::from)
    };
    let data = || {
        let raw = envelope.raw("data")?.unwrap_or("{}");
        // An array would be members in order to some readers.
        if raw.starts_with('{') { plain::members(raw).map(Fields) } else { None }
    };
    let publish = |kind| {
        let payload = payload::check_valid(envelope.raw("data")??).ok()?;
        Some(Action::Publish { room: room()?, kind, payload: Payload::Json(payload.into()), fence: None })
    };
    let action = match kind.as_str() {
        "text" => publish(Kind::Text)?,
        "system" => publish(Kind::System)?,
        "signal" => publish(Kind::Signal)?,
        "typing" => {
            let _: bool = data()?.value("active")??;
            publish(Kind::Typing)?
        }
        "join" => {
            let (data, room) = (data()?, room()?);
            Action::Join {
                room,
                since: data.raw("since")?.map(since).map_or(Some(None), |since| since.map(Some))?,
                history: data.value("history")?.or(Some(0)).filter(|many| *many <= LIMIT_MAX)?,
                presence: data.value("presence")?.unwrap_or(true),
                echo: data.value("echo")?.unwrap_or(true),
            }
        }
        "leave" => data().and(Some(Action::Leave { room: room()? }))?,
        "ping" => data().and(Some(Action::Ping))?,
        "history" => {
            let (data, room) = (data()?, room()?);
            let limit = data.value("limit")?.unwrap_or(LIMIT_DEFAULT);
            let (after, before) = (data.value("after")?, data.value("before")?);
            (1..=LIMIT_MAX).contains(&limit).then_some(Action::History { room, after, before, limit })?
        }
        "presence" => {
            envelope.raw("data")??;
            let data = data()?;
            let meta = match data.raw("meta")? {
                Some(meta) if meta.starts_with('{') => Some(meta.replace(['\n', '\r'], "").into()),
                Some(_) => return None,
                None => None,
            };
            Action::Presence { room: room()?, meta }
        }
        "auth" => {
            let token: String = data()?.value("token")??;
            Action::Auth { token: Token(token.into()) }
        }
        _ => return None,
    };
    Some(Command { id: id.map(Into::into), action })
}

fn since(raw: &str) -> Option<Position> {
    let fields = Fields(raw.starts_with('{').then(|| plain::members(raw))??);
    let epoch: String = fields.value("epoch")??;
    let epoch = if epoch.len() > EPOCH_MAX { "".into() } else { epoch.into() };
    Some(Position { epoch, seq: fields.value("seq")?? })
}

/// An object's members. What Hearth knows may stand there once.
struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// `None`: to be refused. `Some(None)`: not there.
    fn raw(&self, name: &str) -> Option<Option<&str>> {
        let mut found = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.get());
        let first = found.next();
        if found.next().is_some() { None } else { Some(first) }
    }

    fn value<T: DeserializeOwned>(&self, name: &str) -> Option<Option<T>> {
        match self.raw(name)? {
            None => Some(None),
            Some(raw) => serde_json::from_str(raw).ok().map(Some),
        }
    }
}
