//! What a client's text means: one JSON envelope to one [`Command`], or the exact error that it gets.
//!
//! No tree is built: the envelope's fields are found, the fields of `data` that Hearth knows are read, and a payload
//! is checked and taken as it stands. Unknown fields are ignored. A field that Hearth knows and that
//! stands there twice is refused, since two readers could take it for two things; `null` is a value like any other,
//! not an absent field.
use crate::wire::cursor::EPOCH_MAX;
use crate::wire::event::{Code, Failure, Kind, Payload, Position};
use hearth_proto::{name, payload};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};
use std::{borrow::Cow, fmt, sync::Arc};

/// The most events that one command may ask for.
pub const LIMIT_MAX: u32 = 1000;
/// How many a `history` gets that does not say.
pub const LIMIT_DEFAULT: u32 = 100;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Comes back with the answer; without it, only errors are answered.
    pub id: Option<Box<str>>,
    /// What is to be done.
    pub action: Action,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Be in a room.
    Join {
        /// The room.
        room: Arc<str>,
        /// Where the client left off.
        since: Option<Position>,
        /// Without `since`: how many of the newest events are wanted.
        history: u32,
        /// Whether the room's presence is wanted.
        presence: bool,
        /// Whether the session's own live events are wanted.
        echo: bool,
    },
    /// Be in it no longer.
    Leave {
        /// The room.
        room: Arc<str>,
    },
    /// Say something.
    Publish {
        /// The room.
        room: Arc<str>,
        /// What kind of event.
        kind: Kind,
        /// What it says, checked.
        payload: Payload,
        /// Only while the room has this epoch.
        fence: Option<Arc<str>>,
    },
    /// Read what was said.
    History {
        /// The room.
        room: Arc<str>,
        /// Only after this seq.
        after: Option<u64>,
        /// Only before this seq.
        before: Option<u64>,
        /// At most this many.
        limit: u32,
    },
    /// Show something of oneself in a room, and give a sign of life there.
    Presence {
        /// The room.
        room: Arc<str>,
        /// A JSON object on one line; none if there is nothing new to show.
        meta: Option<Arc<str>>,
    },
    /// Bring another token.
    Auth {
        /// The token.
        token: Token,
    },
    /// Give a sign of life.
    Ping,
}

/// A token on its way, which no log is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub Box<str>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

impl Action {
    /// The room it is about; a ping has none.
    pub fn into_room(self) -> Option<Arc<str>> {
        match self {
            Action::Join { room, .. }
            | Action::Leave { room }
            | Action::Publish { room, .. }
            | Action::Presence { room, .. }
            | Action::History { room, .. } => Some(room),
            Action::Auth { .. } | Action::Ping => None,
        }
    }
}

/// A text that is no command: the error, and what could be read of whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The command's id.
    pub id: Option<Box<str>>,
    /// The room it was about.
    pub room: Option<Arc<str>>,
    /// What was wrong.
    pub failure: Failure,
}

/// Reads one text.
pub fn parse(text: &str) -> Result<Command, Rejected> {
    let envelope = read(text).map_err(|failure| Rejected { id: None, room: None, failure })?;
    let room = envelope.room();
    let (id, action) = match envelope.id() {
        Ok(id) => (id, envelope.action(&room)),
        Err(failure) => (None, Err(failure)),
    };
    match action {
        Ok(action) => Ok(Command { id, action }),
        Err(failure) => Err(Rejected { id, room: room.ok(), failure }),
    }
}

/// Reads an envelope that came to a room's own door: `room` may be left out, `type` stands for `text`, and `key` for the id.
pub fn parse_publish(text: &str, room: &Arc<str>, key: Option<&str>) -> Result<Command, Failure> {
    let envelope = read(text)?;
    let id = match (key, envelope.id()?) {
        (Some(key), Some(id)) if *id != *key => {
            return Err(invalid("id is another than the Idempotency-Key"));
        }
        (Some(key), _) => {
            name::id(key).map_err(|error| invalid(error.to_string()))?;
            Some(key.into())
        }
        (None, id) => id,
    };
    if envelope.room.is_some() && envelope.room()? != *room {
        return Err(invalid("room is another than the path's"));
    }
    if let Some(field) = envelope.twice {
        return Err(twice(field));
    }
    let kind = match envelope.kind.map(|kind| string(kind).ok_or(NO_TYPE)).transpose().map_err(invalid)? {
        None => Kind::Text,
        Some(kind) => match &*kind {
            "text" => Kind::Text,
            "signal" => Kind::Signal,
            "typing" => Kind::Typing,
            "system" => return Err(not_yours()),
            _ => return Err(invalid("what is posted here is text, signal or typing")),
        },
    };
    Ok(Command { id, action: envelope.publish(room.clone(), kind)? })
}

/// Reads what is set of one's presence in a room: the `data` of a `presence` command; nothing at all is a mere sign of life.
pub fn parse_presence(text: &str, room: Arc<str>) -> Result<Action, Failure> {
    if text.is_empty() {
        return Ok(Action::Presence { room, meta: None });
    }
    payload::depth_below(text, 1).map_err(|error| invalid(error.to_string()))?;
    let data: &RawValue =
        serde_json::from_str(text).map_err(|error| invalid(format!("not JSON: {error}")))?;
    Envelope { data: Some(data), ..Envelope::default() }.presence(room)
}

/// Judges which part of the history is wanted.
pub fn history(
    room: Arc<str>,
    after: Option<u64>,
    before: Option<u64>,
    limit: Option<u64>,
) -> Result<Action, Failure> {
    let limit = limit.map_or(Ok(LIMIT_DEFAULT), u32::try_from);
    match limit {
        Ok(limit @ 1..=LIMIT_MAX) => Ok(Action::History { room, after, before, limit }),
        _ => Err(invalid("limit must be 1 to 1000")),
    }
}

fn read(text: &str) -> Result<Envelope<'_>, Failure> {
    payload::depth(text).map_err(|error| invalid(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => invalid("a frame must be a JSON object"),
        Category::Syntax | Category::Eof | Category::Io => invalid(format!("not JSON: {error}")),
    })
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(Code::InvalidArgument, message)
}

const NO_TYPE: &str = "type must be a string";

fn twice(field: &str) -> Failure {
    invalid(format!("{field} stands there twice"))
}

fn not_yours() -> Failure {
    Failure::new(Code::PermissionDenied, "only services publish system events")
}

/// A frame's fields as they were spelled.
#[derive(Default)]
struct Envelope<'a> {
    kind: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    room: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    /// A field that stands there twice.
    twice: Option<&'static str>,
}

impl Envelope<'_> {
    fn id(&self) -> Result<Option<Box<str>>, Failure> {
        let Some(id) = self.id else { return Ok(None) };
        let id = string(id).ok_or_else(|| invalid(name::BadName::Id.to_string()))?;
        name::id(&id).map_err(|error| invalid(error.to_string()))?;
        Ok(Some(id.into()))
    }

    fn room(&self) -> Result<Arc<str>, Failure> {
        let Some(room) = self.room else { return Err(invalid("room is missing")) };
        let room = string(room).ok_or_else(|| invalid(name::BadName::Room.to_string()))?;
        name::room(&room).map_err(|error| invalid(error.to_string()))?;
        Ok(room.into())
    }

    fn action(&self, room: &Result<Arc<str>, Failure>) -> Result<Action, Failure> {
        if let Some(field) = self.twice {
            return Err(twice(field));
        }
        let Some(kind) = self.kind else { return Err(invalid("type is missing")) };
        let kind = string(kind).ok_or_else(|| invalid(NO_TYPE))?;
        // Checked here and not above, since a ping needs none.
        let room = || room.clone();
        match &*kind {
            "text" => self.publish(room()?, Kind::Text),
            "signal" => self.publish(room()?, Kind::Signal),
            "typing" => self.publish(room()?, Kind::Typing),
            "join" => self.join(room()?),
            "leave" => {
                self.members::<Nothing>("data of leave must be {}").and(Ok(Action::Leave { room: room()? }))
            }
            "history" => self.history(room()?),
            "ping" => self.members::<Nothing>("data of ping must be {}").and(Ok(Action::Ping)),
            "system" => self.publish(room()?, Kind::System),
            "presence" => self.presence(room()?),
            "auth" => {
                let Auth { token } = self.members(r#"data of auth must be {"token":string}"#)?;
                Ok(Action::Auth { token: Token(token) })
            }
            _ => Err(invalid("no such type")),
        }
    }

    fn publish(&self, room: Arc<str>, kind: Kind) -> Result<Action, Failure> {
        let Some(data) = self.data else { return Err(invalid("data is missing")) };
        let payload = payload::check_valid(data.get()).map_err(|error| invalid(error.to_string()))?;
        if kind == Kind::Typing {
            self.members::<Typing>(r#"data of typing must be {"active":bool}"#)?;
        }
        let payload = Payload::Json(payload.into());
        Ok(Action::Publish { room, kind, payload, fence: None })
    }

    fn join(&self, room: Arc<str>) -> Result<Action, Failure> {
        const SHAPE: &str = r#"data of join must be {"since":{"epoch":string,"seq":number}?,"history":0 to 1000?,"presence":bool?,"echo":bool?}"#;
        let join: Join = self.members(SHAPE)?;
        if join.history > LIMIT_MAX {
            return Err(invalid(SHAPE));
        }
        // No room has so long an epoch: the empty one, which none has either, says the same and is not kept in its place.
        let epoch = |text: String| if text.len() > EPOCH_MAX { "".into() } else { text.into() };
        let since = join.since.map(|since| Position { epoch: epoch(since.epoch), seq: since.seq });
        Ok(Action::Join { room, since, history: join.history, presence: join.presence, echo: join.echo })
    }

    fn presence(&self, room: Arc<str>) -> Result<Action, Failure> {
        if self.data.is_none() {
            return Err(invalid("data is missing"));
        }
        let Presence { meta } = self.members("data of presence must be {\"meta\":object?}")?;
        let meta = meta.map(|meta| payload::meta_on_one_line(meta.get()));
        let meta = meta.transpose().map_err(|_| invalid("meta must be a JSON object"))?;
        Ok(Action::Presence { room, meta: meta.map(Arc::from) })
    }

    fn history(&self, room: Arc<str>) -> Result<Action, Failure> {
        const SHAPE: &str =
            r#"data of history must be {"after":number?,"before":number?,"limit":1 to 1000?}"#;
        let History { after, before, limit } = self.members(SHAPE)?;
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(invalid(SHAPE));
        }
        Ok(Action::History { room, after, before, limit })
    }

    /// The members of `data` that a type knows; absent `data` stands for `{}`.
    fn members<'a, T: Deserialize<'a>>(&'a self, shape: &'static str) -> Result<T, Failure> {
        let data = self.data.map_or("{}", RawValue::get);
        // Else serde would take an array for the members in order.
        if !data.starts_with('{') {
            return Err(invalid(payload::BadPayload::NotAnObject.to_string()));
        }
        serde_json::from_str(data).map_err(|_| invalid(shape))
    }
}

/// A value's text, if it is a string.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Type,
    Id,
    Room,
    Data,
    #[serde(other)]
    Unknown,
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields).map(|envelope: Envelope<'de>| envelope)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Envelope<'de>, M::Error> {
        let mut envelope = Envelope::default();
        while let Some(field) = map.next_key()? {
            let (slot, name) = match field {
                Field::Type => (&mut envelope.kind, "type"),
                Field::Id => (&mut envelope.id, "id"),
                Field::Room => (&mut envelope.room, "room"),
                Field::Data => (&mut envelope.data, "data"),
                Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if slot.replace(map.next_value()?).is_some() {
                envelope.twice = Some(name);
            }
        }
        Ok(envelope)
    }
}

/// No members that Hearth knows.
#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Presence<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Auth {
    token: Box<str>,
}

#[derive(Deserialize)]
struct Typing {
    #[serde(rename = "active")]
    _active: bool,
}

#[derive(Deserialize)]
struct Join {
    #[serde(default, deserialize_with = "present")]
    since: Option<Since>,
    #[serde(default)]
    history: u32,
    #[serde(default = "yes")]
    presence: bool,
    #[serde(default = "yes")]
    echo: bool,
}

struct Since {
    epoch: String,
    seq: u64,
}

#[derive(Deserialize)]
struct History {
    #[serde(default, deserialize_with = "present")]
    after: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    before: Option<u64>,
    #[serde(default = "usual")]
    limit: u32,
}

fn yes() -> bool {
    true
}

fn usual() -> u32 {
    LIMIT_DEFAULT
}

/// A field that is there has a value: `null` is none, though serde's `Option` would take it.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            epoch: String,
            seq: u64,
        }
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            return Err(D::Error::custom("not an object"));
        }
        let Members { epoch, seq } = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Ok(Since { epoch, seq })
    }
}

#[cfg(test)]
mod tests;
