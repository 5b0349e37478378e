//! Writes the JSON envelopes of every browser transport, straight into bytes: no tree is built, payloads are
//! copied as they stand.
//!
//! An [`Envelope`] is written once and taken as a whole WebSocket frame or as bare text (for SSE, long-poll
//! and HTTP answers); room for the frame's head is kept in front, so that neither is copied.
use crate::wire::dialect;
use crate::wire::event::{Event, Failure, Payload, Position};
use crate::wire::frame::{Acked, Frame, Joined, Page};
use crate::wire::presence::{Online, Step};
use crate::wire::websocket::{self, HEAD_MAX, Opcode, deflate};
use base64::{display::Base64Display, prelude::BASE64_STANDARD};
use bytes::Bytes;
use std::io::Write;

/// What an envelope takes beside payload, names and ids; only a first guess for its buffer.
const ROUND: usize = 128;

/// A finished envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Begins with [`HEAD_MAX`] bytes for the head.
    buffer: Vec<u8>,
    /// Its `type`.
    kind: &'static str,
}

impl Envelope {
    /// The envelope itself, on one line.
    pub fn into_text(self) -> Bytes {
        Bytes::from(self.buffer).slice(HEAD_MAX..)
    }

    /// A server-sent event; it may carry a cursor.
    pub fn into_event(self, cursor: Option<&str>) -> Bytes {
        let head = dialect::sse_head(self.kind, cursor);
        Bytes::from([head.as_bytes(), &self.buffer[HEAD_MAX..], dialect::SSE_TAIL].concat())
    }

    /// A line of its own.
    pub fn into_line(mut self) -> Bytes {
        self.buffer.push(b'\n');
        self.into_text()
    }

    /// A whole WebSocket text frame, compressed if that is worth it.
    pub fn into_deflated_frame(self) -> Bytes {
        deflate::frame(Opcode::Text, &self.buffer[HEAD_MAX..]).into()
    }

    /// A whole WebSocket text frame.
    pub fn into_frame(mut self) -> Bytes {
        let (head, len) = websocket::head(Opcode::Text, self.buffer.len() - HEAD_MAX);
        let start = HEAD_MAX - len;
        self.buffer[start..HEAD_MAX].copy_from_slice(&head[..len]);
        Bytes::from(self.buffer).slice(start..)
    }
}

/// What a frame says.
pub fn envelope(frame: &Frame<'_>) -> Envelope {
    match *frame {
        Frame::Event(one) => event(one),
        Frame::Ack { id, room, acked } => ack(Some(id), room, acked),
        Frame::Joined { id, room, joined: told } => joined(id, room, &told),
        Frame::Error { id, room, failure } => error(id, room, failure),
        Frame::History { id, room, page } => enclose("history", id, Some(room), |out| write_page(out, &page)),
        Frame::State { room, all } => presence_state(room, all),
        Frame::Step { room, step } => presence_step(room, step),
        Frame::Count { room, count } => presence_count(room, count),
        Frame::Welcome { session, user, heartbeat_ms, max_message_bytes } => {
            welcome(session, user, heartbeat_ms, max_message_bytes)
        }
        Frame::Left { room } => {
            enclose("system", None, Some(room), |out| out.extend_from_slice(br#"{"event":"left"}"#))
        }
        Frame::TokenExpiring { expires_us } => enclose("system", None, None, |out| {
            out.extend_from_slice(br#"{"event":"token_expiring","expires_at":"#);
            timestamp(out, expires_us);
            out.push(b'}');
        }),
        Frame::Draining { reconnect_after_ms } => come_back("draining", reconnect_after_ms),
    }
}

fn event(event: &Event) -> Envelope {
    let payload = match &event.payload {
        Payload::Json(bytes) => bytes.len(),
        Payload::Binary(bytes) => bytes.len().div_ceil(3) * 4,
    };
    let names = event.room.len() + event.author.len() + event.id.as_ref().map_or(0, |id| id.len());
    let mut out = start(HEAD_MAX + ROUND + payload + names);
    write_event(&mut out, event);
    Envelope { buffer: out, kind: event.kind.name() }
}

/// The answer to a command that succeeded; over HTTP it is owed also to one without an id.
pub fn ack(id: Option<&str>, room: Option<&str>, acked: Acked<'_>) -> Envelope {
    enclose("ack", id, room, |out| match acked {
        Acked::Delivered { position, duplicate } => {
            out.extend_from_slice(br#"{"status":"delivered""#);
            if let Some(position) = position {
                number(out, ",\"seq\":", position.seq);
            }
            if duplicate {
                out.extend_from_slice(br#","duplicate":true"#);
            }
            out.push(b'}');
        }
        Acked::Refreshed { expires_us } => {
            out.extend_from_slice(br#"{"status":"ok""#);
            if let Some(us) = expires_us {
                out.extend_from_slice(br#","expires_at":"#);
                timestamp(out, us);
            }
            out.push(b'}');
        }
        Acked::Ok => out.extend_from_slice(br#"{"status":"ok"}"#),
        Acked::Left => out.extend_from_slice(br#"{"status":"left"}"#),
    })
}

fn error(id: Option<&str>, room: Option<&str>, failure: &Failure) -> Envelope {
    enclose("error", id, room, |out| {
        out.extend_from_slice(br#"{"code":"#);
        string(out, failure.code.name());
        out.extend_from_slice(br#","message":"#);
        string(out, &failure.message);
        if let Some(ms) = failure.retry_after_ms {
            number(out, ",\"retry_after_ms\":", ms);
        }
        out.push(b'}');
    })
}

fn welcome(session: &str, user: &str, heartbeat_ms: u64, max_message_bytes: u64) -> Envelope {
    enclose("system", None, None, |out| {
        out.extend_from_slice(br#"{"event":"welcome","session":"#);
        string(out, session);
        out.extend_from_slice(br#","user":"#);
        string(out, user);
        number(out, ",\"heartbeat_ms\":", heartbeat_ms);
        number(out, ",\"max_message_bytes\":", max_message_bytes);
        out.push(b'}');
    })
}

fn joined(id: Option<&str>, room: &str, joined: &Joined<'_>) -> Envelope {
    enclose("system", id, Some(room), |out| {
        out.extend_from_slice(br#"{"event":"joined","#);
        position(out, joined.position);
        out.extend_from_slice(br#","cursor":"#);
        string(out, joined.cursor);
        if let Some(recovered) = joined.recovered {
            out.extend_from_slice(br#","recovered":"#);
            boolean(out, recovered);
        }
        number(out, ",\"replayed\":", joined.replayed);
        out.push(b'}');
    })
}

/// The server has no room; clients come back later.
pub fn overloaded(reconnect_after_ms: u64) -> Envelope {
    come_back("overloaded", reconnect_after_ms)
}

/// A page of history without an envelope around it: the answer to a request that has asked for nothing else.
pub fn history_data(page: &Page<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * ROUND);
    write_page(&mut out, page);
    out
}

fn write_page(out: &mut Vec<u8>, page: &Page<'_>) {
    out.push(b'{');
    position(out, page.position);
    out.extend_from_slice(br#","messages":["#);
    for (n, message) in page.events.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write_event(out, message);
    }
    out.extend_from_slice(br#"],"more":"#);
    boolean(out, page.more);
    out.push(b'}');
}

fn presence_state(room: &str, all: &[Online]) -> Envelope {
    enclose("presence", None, Some(room), |out| {
        out.extend_from_slice(br#"{"event":"state","online":["#);
        write_online(out, all);
        out.extend_from_slice(b"]}");
    })
}

/// Those who are online in a room, and how many there are in all, without an envelope around it.
pub fn presence_data(online: &[Online], count: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(ROUND + online.iter().map(Online::weight).sum::<usize>());
    out.extend_from_slice(br#"{"online":["#);
    write_online(&mut out, online);
    number(&mut out, "],\"count\":", count);
    out.push(b'}');
    out
}

fn write_online(out: &mut Vec<u8>, all: &[Online]) {
    for (n, Online { user, meta, sessions, since_us }) in all.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"user":"#);
        string(out, user);
        out.extend_from_slice(br#","meta":"#);
        out.extend_from_slice(meta.as_bytes());
        number(out, ",\"sessions\":", u64::from(*sessions));
        out.extend_from_slice(br#","since":"#);
        timestamp(out, *since_us);
        out.push(b'}');
    }
}

fn presence_step(room: &str, Step { happened, user, meta }: &Step) -> Envelope {
    enclose("presence", None, Some(room), |out| {
        out.extend_from_slice(br#"{"event":"#);
        string(out, happened.name());
        out.extend_from_slice(br#","user":"#);
        string(out, user);
        out.extend_from_slice(br#","meta":"#);
        out.extend_from_slice(meta.as_bytes());
        out.push(b'}');
    })
}

fn presence_count(room: &str, count: u64) -> Envelope {
    enclose("presence", None, Some(room), |out| {
        number(out, r#"{"event":"count","count":"#, count);
        out.push(b'}');
    })
}

/// The token has ended; the stream does.
pub fn token_expired() -> Envelope {
    enclose("system", None, None, |out| out.extend_from_slice(br#"{"event":"token_expired"}"#))
}

fn come_back(event: &str, reconnect_after_ms: u64) -> Envelope {
    enclose("system", None, None, |out| {
        out.extend_from_slice(br#"{"event":"#);
        string(out, event);
        number(out, ",\"reconnect_after_ms\":", reconnect_after_ms);
        out.push(b'}');
    })
}

/// Everything but an event: `type`, `id`, `room`, and what `data` writes.
fn enclose(
    kind: &'static str,
    id: Option<&str>,
    room: Option<&str>,
    data: impl FnOnce(&mut Vec<u8>),
) -> Envelope {
    let mut out = start(HEAD_MAX + 2 * ROUND);
    head(&mut out, kind, id, room);
    out.extend_from_slice(br#","data":"#);
    data(&mut out);
    out.push(b'}');
    Envelope { buffer: out, kind }
}

fn write_event(out: &mut Vec<u8>, event: &Event) {
    head(out, event.kind.name(), event.id.as_deref(), Some(&event.room));
    if event.seq > 0 {
        number(out, ",\"seq\":", event.seq);
    }
    out.extend_from_slice(br#","data":"#);
    match &event.payload {
        Payload::Json(checked) => {
            // Author and quotes; escapes may need more.
            let mut author = Vec::with_capacity(event.author.len() + 2);
            string(&mut author, &event.author);
            hearth_proto::payload::with_author(out, checked, &author);
        }
        Payload::Binary(bytes) => {
            out.extend_from_slice(br#"{"binary":""#);
            let _ = write!(out, "{}", Base64Display::new(bytes, &BASE64_STANDARD));
            out.extend_from_slice(br#"","author":"#);
            string(out, &event.author);
            out.push(b'}');
        }
    }
    out.extend_from_slice(br#","timestamp":"#);
    timestamp(out, event.timestamp_us);
    out.push(b'}');
}

fn start(capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    out.extend_from_slice(&[0; HEAD_MAX]);
    out
}

fn head(out: &mut Vec<u8>, kind: &str, id: Option<&str>, room: Option<&str>) {
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    if let Some(id) = id {
        out.extend_from_slice(br#","id":"#);
        string(out, id);
    }
    if let Some(room) = room {
        out.extend_from_slice(br#","room":"#);
        string(out, room);
    }
}

fn position(out: &mut Vec<u8>, at: &Position) {
    out.extend_from_slice(br#""epoch":"#);
    string(out, &at.epoch);
    number(out, ",\"seq\":", at.seq);
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string written to memory cannot fail");
}

fn number(out: &mut Vec<u8>, name: &str, n: u64) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{name}{n}");
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Seconds with as much of a fraction as there is, by whole numbers only: no digit is ever rounded.
fn timestamp(out: &mut Vec<u8>, us: u64) {
    let (seconds, mut fraction) = (us / 1_000_000, us % 1_000_000);
    number(out, "", seconds);
    if fraction > 0 {
        let mut digits = 6;
        while fraction % 10 == 0 {
            fraction /= 10;
            digits -= 1;
        }
        let _ = write!(out, ".{fraction:0digits$}");
    }
}

#[cfg(test)]
mod tests;
