//! Subscribers of one room who all speak one format, and a publisher who speaks JSON.
//!
//! What comes is checked at the price of one reading: whoever is the first to get a message has it taken apart and compared with
//! what was said, and everybody else's must be the same, byte for byte.
use crate::{
    Failure,
    chat::Message,
    door::{CONNECTING, Door},
    frames::{self, opcode},
    socket::Socket,
};
use flate2::{Decompress, FlushDecompress};
use hearth_proto::{
    message,
    v1::{ConnectResponse, connect_response::Frame, payload::Data},
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the last has joined: what is told of the others' coming has come by then.
/// A room of many tells their number at most once a second.
const SETTLE: Duration = Duration::from_millis(1500);
/// No message is longer when it is inflated.
const INFLATED_MAX: usize = 64 * 1024;
/// Where all are.
const ROOM: &str = "bench";

/// How events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON in text frames.
    Json,
    /// The same, with permessage-deflate.
    Deflated,
    /// `hearth.v1.proto`.
    Protobuf,
    /// The same, with permessage-deflate.
    ProtobufDeflated,
}

impl Format {
    fn headers(self) -> &'static str {
        match self {
            Format::Json => "",
            Format::Deflated => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            Format::Protobuf => "Sec-WebSocket-Protocol: hearth.v1.proto\r\n",
            Format::ProtobufDeflated => {
                "Sec-WebSocket-Protocol: hearth.v1.proto\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
            }
        }
    }

    fn is_protobuf(self) -> bool {
        matches!(self, Format::Protobuf | Format::ProtobufDeflated)
    }
}

/// All connections to one server.
pub struct Listeners {
    door: Door,
    /// The publisher is the first, and its place is never used.
    connections: Vec<(Socket, Place)>,
    tally: Tally,
}

/// How far a subscriber is.
#[derive(Default)]
struct Place {
    joined: bool,
    /// Messages that it has.
    seen: u64,
}

/// What all have seen.
struct Tally {
    format: Format,
    listeners: u32,
    joined: usize,
    /// All have joined and heard of each other: from now on events come, and nothing else.
    measuring: bool,
    /// Messages that all have.
    complete: u64,
    under_way: VecDeque<UnderWay>,
    /// Bytes on the wire of each message, its frame's head included.
    sizes: Vec<u32>,
    compressed: u64,
    error: Option<String>,
}

/// A message that was published.
struct UnderWay {
    said: Message,
    /// As it came to the first who got it, and its frame's first byte.
    came: Option<(u8, Vec<u8>)>,
    seen: u32,
}

impl Listeners {
    /// So many come into the room.
    pub fn gather(
        address: SocketAddr,
        format: Format,
        listeners: u32,
        stop: &Arc<AtomicBool>,
    ) -> Result<Listeners, Failure> {
        let tally = Tally {
            format,
            listeners,
            joined: 0,
            measuring: false,
            complete: 0,
            under_way: VecDeque::new(),
            sizes: Vec::new(),
            compressed: 0,
            error: None,
        };
        let mut all = Listeners { door: Door::new(address, stop)?, connections: Vec::new(), tally };
        all.connect("/ws?user=load", "")?;
        while all.tally.joined < listeners as usize {
            while all.connections.len() <= (all.tally.joined + CONNECTING).min(listeners as usize) {
                let target = format!("/ws/{ROOM}?user=u{}", all.connections.len());
                all.connect(&target, format.headers())?;
            }
            let so_far = all.tally.joined;
            all.until(|tally| tally.joined > so_far)?;
        }
        let settled = Instant::now() + SETTLE;
        all.until(|_| Instant::now() > settled)?;
        all.tally.measuring = true;
        Ok(all)
    }

    fn connect(&mut self, target: &str, headers: &str) -> Result<(), Failure> {
        let socket = self.door.connect(self.connections.len(), target, headers)?;
        self.connections.push((socket, Place::default()));
        Ok(())
    }

    /// Publishes these messages, at most so many at once, until all have them.
    pub fn publish(&mut self, messages: &[Message], in_flight: usize) -> Result<(), Failure> {
        for said in messages {
            self.until(|tally| tally.under_way.len() < in_flight)?;
            let Message { id, data } = said;
            let text = format!(r#"{{"type":"text","id":"{id}","room":"{ROOM}","data":{data}}}"#);
            self.connections[0].0.write(frames::TEXT, text.as_bytes());
            self.tally.under_way.push_back(UnderWay { said: said.clone(), came: None, seen: 0 });
        }
        self.until(|tally| tally.under_way.is_empty())
    }

    /// Bytes on the wire of each message so far.
    pub fn sizes(&self) -> &[u32] {
        &self.tally.sizes
    }

    /// How many messages came compressed.
    pub fn compressed(&self) -> u64 {
        self.tally.compressed
    }

    fn until(&mut self, mut done: impl FnMut(&Tally) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.tally) {
            self.connections[0].0.flush()?;
            let (connections, tally) = (&mut self.connections, &mut self.tally);
            self.door.turn(Some(Duration::from_millis(100)), |nth, ready| {
                let (socket, place) = &mut connections[nth];
                let alive = ready.serve(socket, |opcode, payload| match nth {
                    0 => tally.answer(payload),
                    _ => tally.frame(place, opcode, payload),
                })?;
                match tally.error.take() {
                    Some(error) => Err(error.into()),
                    None if alive => Ok(()),
                    None => Err("a connection was ended by the server".into()),
                }
            })?;
            if Instant::now() > deadline {
                return Err(format!("nothing came for {PATIENCE:?}: a message was lost").into());
            }
        }
        Ok(())
    }
}

impl Tally {
    /// The publisher has its acks, and may be refused.
    fn answer(&mut self, payload: &[u8]) {
        if payload.starts_with(br#"{"type":"error""#) {
            self.error = Some(format!("an error: {}", String::from_utf8_lossy(payload)));
        }
    }

    fn frame(&mut self, place: &mut Place, first: u8, payload: &[u8]) {
        match first & !opcode::DEFLATED {
            opcode::TEXT | opcode::BINARY if self.measuring => {
                if let Err(wrong) = self.delivered(place, first, payload) {
                    self.error = Some(format!("{wrong}: lost, doubled, out of order or changed"));
                }
            }
            opcode::TEXT | opcode::BINARY if !place.joined && self.is_joined(first, payload) => {
                place.joined = true;
                self.joined += 1;
            }
            opcode::CLOSE => self.error = Some("the server closed a connection".to_owned()),
            _ => {}
        }
    }

    fn is_joined(&self, first: u8, payload: &[u8]) -> bool {
        if first & opcode::DEFLATED != 0 {
            // What is only for one session is not compressed.
            return false;
        }
        if !self.format.is_protobuf() {
            return frames::after(payload, br#""event":"joined""#).is_some();
        }
        let read = message::read::<ConnectResponse>(payload);
        matches!(read, Ok(ConnectResponse { frame: Some(Frame::Joined(_)), .. }))
    }

    fn delivered(&mut self, place: &mut Place, first: u8, payload: &[u8]) -> Result<(), String> {
        let nth = (place.seen - self.complete) as usize;
        let message = self.under_way.get_mut(nth).ok_or("a message that nobody sent")?;
        match &message.came {
            Some((other, same)) if *other == first && same == payload => {}
            Some(_) => return Err(format!("message {} is not the same for all", place.seen + 1)),
            None => {
                check(self.format, place.seen + 1, &message.said, first, payload)?;
                self.sizes.push(frames::length(payload.len()) as u32);
                self.compressed += u64::from(first & opcode::DEFLATED != 0);
                message.came = Some((first, payload.to_vec()));
            }
        }
        message.seen += 1;
        place.seen += 1;
        while self.under_way.front().is_some_and(|message| message.seen == self.listeners) {
            self.under_way.pop_front();
            self.complete += 1;
        }
        Ok(())
    }
}

/// Takes an event apart.
fn check(format: Format, seq: u64, said: &Message, first: u8, payload: &[u8]) -> Result<(), String> {
    let bytes = if first & opcode::DEFLATED != 0 { inflate(payload)? } else { payload.to_vec() };
    let (found, id, mut data) = if format.is_protobuf() {
        let read = message::read::<ConnectResponse>(&bytes).map_err(|error| error.to_string())?;
        let Some(Frame::Event(event)) = read.frame else { return Err(format!("{read:?} is no event")) };
        let Some(Data::Json(json)) = event.payload.and_then(|payload| payload.data) else {
            return Err("an event without JSON".to_owned());
        };
        (event.seq, event.id, serde_json::from_str::<Value>(&json).map_err(|error| error.to_string())?)
    } else {
        let mut envelope: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let id = envelope["id"].as_str().unwrap_or_default().to_owned();
        (envelope["seq"].as_u64().unwrap_or(0), id, envelope["data"].take())
    };
    if let Some(data) = data.as_object_mut() {
        // The server's, where it stands within.
        data.remove("author");
    }
    let expected: Value = serde_json::from_str(&said.data).map_err(|error| error.to_string())?;
    if (found, id.as_str(), &data) == (seq, said.id.as_str(), &expected) {
        Ok(())
    } else {
        Err(format!("seq {found} with {data} came where seq {seq} with {expected} should"))
    }
}

fn inflate(deflated: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(INFLATED_MAX);
    // A flush's own mark is not sent (RFC 7692, section 7.2.1).
    let whole = [deflated, &[0, 0, 0xff, 0xff]].concat();
    let inflated = Decompress::new(false).decompress_vec(&whole, &mut out, FlushDecompress::Sync);
    inflated.map_err(|error| error.to_string())?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let said = |id: &str, n: u32| Message { id: id.into(), data: format!(r#"{{"n":{n}}}"#) };
        let under_way = [said("a", 1), said("b", 2)].map(|said| UnderWay { said, came: None, seen: 0 });
        Tally {
            format: Format::Json,
            listeners: 2,
            joined: 2,
            measuring: true,
            complete: 0,
            under_way: under_way.into(),
            sizes: Vec::new(),
            compressed: 0,
            error: None,
        }
    }

    fn event(id: &str, seq: u64, n: u32) -> Vec<u8> {
        format!(r#"{{"type":"text","id":"{id}","room":"bench","seq":{seq},"data":{{"n":{n},"author":"load"}},"timestamp":1.5}}"#)
            .into_bytes()
    }

    #[test]
    fn a_message_is_weighed_once_and_complete_when_all_have_it() {
        let (mut tally, mut one, mut other) = (tally(), Place::default(), Place::default());
        let events = [event("a", 1, 1), event("b", 2, 2)];
        tally.frame(&mut one, opcode::TEXT, &events[0]);
        tally.frame(&mut one, opcode::TEXT, &events[1]);
        tally.frame(&mut other, opcode::TEXT, &events[0]);
        assert_eq!((tally.complete, tally.error.as_deref()), (1, None));
        tally.frame(&mut other, opcode::TEXT, &events[1]);
        assert!((tally.complete, tally.under_way.len(), tally.error.as_deref()) == (2, 0, None));
        assert_eq!(tally.sizes, events.map(|event| frames::length(event.len()) as u32));
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let wrong: [&[Vec<u8>]; 4] = [
            &[event("b", 2, 2)],
            &[event("a", 1, 7)],
            &[event("a", 1, 1), event("a", 1, 1)],
            &[event("a", 1, 1), event("b", 2, 2), event("c", 3, 3)],
        ];
        for events in wrong {
            let (mut tally, mut place) = (tally(), Place::default());
            events.iter().for_each(|event| tally.frame(&mut place, opcode::TEXT, event));
            assert!(tally.error.is_some(), "{events:?}");
        }
        let (mut tally, mut other) = (tally(), Place::default());
        tally.frame(&mut Place::default(), opcode::TEXT, &event("a", 1, 1));
        let mut changed = event("a", 1, 1);
        changed.push(b' ');
        tally.frame(&mut other, opcode::TEXT, &changed);
        assert!(tally.error.is_some_and(|error| error.contains("not the same")));
    }
}
