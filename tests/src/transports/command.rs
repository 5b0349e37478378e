//! What a client wants, before it is put into the words of a transport.
use super::envelope::Place;
use serde_json::json;

/// How a room is to be joined.
#[derive(Debug, Clone, Default)]
pub struct Join {
    /// Where the client left off.
    pub since: Option<Place>,
    /// Without that: how many of the newest events are wanted.
    pub history: u32,
    /// False: not this session's own live events.
    pub echo: Option<bool>,
    /// False: no presence.
    pub presence: Option<bool>,
}

impl Join {
    /// From where the client left off.
    pub fn since(place: &Place) -> Join {
        Join { since: Some(place.clone()), ..Join::default() }
    }
}

/// What is published.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// JSON, or what goes for it.
    Json(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// Which part of the history is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    /// Only after this seq.
    pub after: Option<u64>,
    /// Only before this seq.
    pub before: Option<u64>,
    /// At most this many.
    pub limit: Option<u32>,
}

/// What a client wants.
#[derive(Debug, Clone)]
pub enum Command<'a> {
    /// Be in a room.
    Join(&'a str, &'a Join),
    /// Be in it no longer.
    Leave(&'a str),
    /// Say something of a kind: `text`, `system`, `signal` or `typing`.
    Publish(&'a str, &'a str, Data<'a>),
    /// Read what was said.
    History(&'a str, Range),
    /// Show something of oneself: a JSON object.
    Presence(&'a str, &'a str),
    /// Give a sign of life.
    Ping,
}

impl Command<'_> {
    /// The JSON envelope of it, `data` as it is spelled.
    pub fn envelope(&self, id: Option<&str>) -> String {
        let (kind, room, data) = match self {
            Command::Join(room, join) => ("join", Some(*room), join_data(join)),
            Command::Leave(room) => ("leave", Some(*room), "{}".to_owned()),
            Command::Publish(room, kind, Data::Json(data)) => (*kind, Some(*room), (*data).to_owned()),
            Command::Publish(.., Data::Binary(_)) => panic!("JSON has no bytes"),
            Command::History(room, range) => ("history", Some(*room), history_data(*range)),
            Command::Presence(room, meta) => ("presence", Some(*room), format!(r#"{{"meta":{meta}}}"#)),
            Command::Ping => ("ping", None, "{}".to_owned()),
        };
        let mut envelope = format!(r#"{{"type":{}"#, json!(kind));
        for (name, value) in [("id", id), ("room", room)] {
            if let Some(value) = value {
                envelope.push_str(&format!(r#","{name}":{}"#, json!(value)));
            }
        }
        envelope + r#","data":"# + &data + "}"
    }
}

fn join_data(join: &Join) -> String {
    let mut data = json!({});
    if let Some(Place::Position { epoch, seq }) = &join.since {
        data["since"] = json!({"epoch": epoch, "seq": seq});
    }
    if join.history > 0 {
        data["history"] = join.history.into();
    }
    for (name, value) in [("echo", join.echo), ("presence", join.presence)] {
        if let Some(value) = value {
            data[name] = value.into();
        }
    }
    data.to_string()
}

fn history_data(range: Range) -> String {
    let mut data = json!({});
    let limit = range.limit.map(u64::from);
    for (name, value) in [("after", range.after), ("before", range.before), ("limit", limit)] {
        if let Some(value) = value {
            data[name] = value.into();
        }
    }
    data.to_string()
}
