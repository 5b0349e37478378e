//! What a client is told, the same whatever carried it: the envelope of the JSON transports. `data` stays the text that came, so that
//! what passes verbatim can be seen to, and the timestamp is whole microseconds, so that two transports can be held against each other.
use serde_json::{Value, value::RawValue};
use std::collections::{BTreeMap, VecDeque};

/// An envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its `type`.
    pub kind: String,
    /// The id of the command that it is or answers.
    pub id: Option<String>,
    /// The room.
    pub room: Option<String>,
    /// The event's number, on sequenced events.
    pub seq: Option<u64>,
    /// A JSON value as it was spelled.
    pub data: String,
    /// Microseconds since 1970.
    pub timestamp_us: Option<u64>,
}

impl Envelope {
    /// One that has no more than this.
    pub fn new(kind: &str, id: Option<&str>, room: Option<&str>, data: String) -> Envelope {
        let owned = |text: &str| text.to_owned();
        Envelope {
            kind: kind.into(),
            id: id.map(owned),
            room: room.map(owned),
            seq: None,
            data,
            timestamp_us: None,
        }
    }

    /// Reads the text of one. What the contract does not name is not in it.
    pub fn read(text: &str) -> Envelope {
        let mut fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut take = |name: &str| fields.remove(name);
        let string = |raw: Option<Box<RawValue>>| {
            raw.map(|raw| serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| panic!("{text}")))
        };
        let envelope = Envelope {
            kind: string(take("type")).unwrap_or_else(|| panic!("no type: {text}")),
            id: string(take("id")),
            room: string(take("room")),
            seq: take("seq").map(|seq| seq.get().parse().unwrap_or_else(|_| panic!("seq: {text}"))),
            data: take("data").unwrap_or_else(|| panic!("no data: {text}")).get().to_owned(),
            timestamp_us: take("timestamp").map(|seconds| microseconds(seconds.get())),
        };
        assert!(fields.is_empty(), "what else is {:?} in {text}", fields.keys());
        envelope
    }

    /// Its data.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    /// A field of its data that is a string; the empty one if it is not there.
    pub fn field(&self, name: &str) -> String {
        self.value()[name].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the server says this about itself, as in `joined`.
    pub fn tells(&self, event: &str) -> bool {
        self.kind == "system" && self.seq.is_none() && self.field("event") == event
    }

    /// Whether it answers a command.
    pub fn is_answer(&self) -> bool {
        matches!(self.kind.as_str(), "ack" | "error" | "history") || self.tells("joined")
    }
}

/// Seconds with at most six digits behind the point.
fn microseconds(text: &str) -> u64 {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 6, "finer than microseconds: {text}");
    let number = |digits: &str| digits.parse::<u64>().unwrap_or_else(|_| panic!("no timestamp: {text}"));
    number(seconds) * 1_000_000 + number(&format!("{fraction:0<6}"))
}

/// What comes over a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// An envelope.
    Envelope(Envelope),
    /// The end: what the transport says of it. Nothing comes behind it.
    End(String),
}

/// What was read ahead while an answer was looked for.
pub type Inbox = VecDeque<Incoming>;

/// Where a client left off, as its transport lets it say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a `join`.
    Position {
        /// The room's epoch.
        epoch: String,
        /// The last seq that was seen.
        seq: u64,
    },
    /// In a header or a query.
    Cursor(String),
}

/// How a room was joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The room's epoch.
    pub epoch: String,
    /// Live events go on from here.
    pub seq: u64,
    /// Whether everything since the place that was brought follows.
    pub recovered: Option<bool>,
    /// How many events follow.
    pub replayed: u64,
}

impl Joined {
    /// Reads a `joined`.
    pub fn read(envelope: &Envelope) -> Joined {
        let data = envelope.value();
        let number = |name: &str| data[name].as_u64().unwrap_or_else(|| panic!("no {name}: {envelope:?}"));
        Joined {
            epoch: envelope.field("epoch"),
            seq: number("seq"),
            recovered: data.get("recovered").map(|it| it.as_bool().expect("recovered is a bool")),
            replayed: number("replayed"),
        }
    }
}

/// What came of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Where the event stands, if its kind is sequenced.
    pub seq: Option<u64>,
    /// It had been published before.
    pub duplicate: bool,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A gRPC status in lower_snake_case, or how the transport ended over it.
    pub code: String,
    /// The room that it names.
    pub room: Option<String>,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Reads an `error`.
    pub fn read(envelope: &Envelope) -> Refusal {
        assert_eq!(envelope.kind, "error", "{envelope:?}");
        let data = envelope.value();
        assert!(data["message"].as_str().is_some_and(|message| !message.is_empty()), "{envelope:?}");
        let retry_after_ms = data["retry_after_ms"].as_u64();
        Refusal { code: envelope.field("code"), room: envelope.room.clone(), retry_after_ms }
    }
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The room's epoch.
    pub epoch: String,
    /// The room's top.
    pub seq: u64,
    /// Ascending.
    pub messages: Vec<Envelope>,
    /// Whether there are more in the direction that was asked.
    pub more: bool,
}

impl Page {
    /// Reads the `data` of a `history`.
    pub fn read(data: &str) -> Page {
        let fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(data).unwrap_or_else(|error| panic!("{data}: {error}"));
        let text = |name: &str| fields.get(name).unwrap_or_else(|| panic!("no {name}: {data}")).get();
        let messages: Vec<Box<RawValue>> = serde_json::from_str(text("messages")).expect("a list");
        Page {
            epoch: serde_json::from_str(text("epoch")).expect("a string"),
            seq: text("seq").parse().expect("a number"),
            messages: messages.iter().map(|message| Envelope::read(message.get())).collect(),
            more: text("more").parse().expect("a bool"),
        }
    }

    /// The numbers of its messages.
    pub fn seqs(&self) -> Vec<u64> {
        self.messages.iter().filter_map(|message| message.seq).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_keeps_what_was_spelled() {
        let text = r#"{"type":"text","id":"\u00e9","room":"r","seq":7,"data":{"n":1.00},"timestamp":1711000000.0123}"#;
        let read = Envelope::read(text);
        assert_eq!((read.id.as_deref(), read.seq, read.data.as_str()), (Some("é"), Some(7), r#"{"n":1.00}"#));
        assert_eq!(read.timestamp_us, Some(1_711_000_000_012_300));
        assert!(std::panic::catch_unwind(|| Envelope::read(r#"{"type":"ack","data":{},"x":1}"#)).is_err());
    }
}
