//! The case families of the Autobahn test suite, on the real binary: each case is a connection of its own, and ends as
//! RFC 6455 and RFC 7692 say, or goes on and says goodbye in order. (`make autobahn` runs the suite itself, where it can.)
//!
//! Autobahn wants an echo. The id of a `ping` command comes back in its ack, so that is one.
mod closing;
mod compression;
mod frames;
mod utf8;

use hearth_proto::message;
use hearth_proto::v1::{ConnectRequest, ConnectResponse, Ping, connect_request::Command, connect_response};
use hearth_tests::{
    process::Hearth,
    raw::{BINARY, CLOSE, Frame, PING, PONG, Raw, TEXT},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};
use tokio::time::timeout;

const FIN: u8 = 0x80;
/// The largest message in all families but that of sizes; the default.
const SMALL: usize = 64 * 1024;
/// The largest in that one.
const LARGE: usize = 4 << 20;
/// How long the end of a connection may take once both have said it: the server ends it, and waits for nobody. (Of a
/// client that is silent it would be rid after three seconds.)
const END: Duration = Duration::from_secs(10);

/// What a connection is made for.
#[derive(Clone, Copy, PartialEq)]
enum Session {
    Json,
    Protobuf,
    /// JSON, with compression.
    Deflated,
}

/// One connection.
struct Case {
    /// Autobahn's family, and what is special.
    name: String,
    session: Session,
    steps: Vec<Step>,
}

enum Step {
    /// These bytes, at once.
    Send(Vec<u8>),
    /// These bytes, so many at a time.
    Chopped(Vec<u8>, usize),
    /// The answer to a ping command of this id comes next.
    Echo(String),
    /// A pong of this payload comes next.
    Pong(Vec<u8>),
    /// A refusal of a command comes next.
    Refused,
    /// The end comes next: a close frame of this code, or 1005 for one without.
    Closed(u16),
}
use Step::{Chopped, Closed, Echo, Pong, Refused, Send};

impl Case {
    fn new(name: impl Into<String>, steps: Vec<Step>) -> Case {
        Case { name: name.into(), session: Session::Json, steps }
    }

    fn on(self, session: Session) -> Case {
        Case { session, ..self }
    }
}

/// A ping command as JSON, made this long by space at its end.
fn command(id: &str, length: usize) -> String {
    let command = format!(r#"{{"type":"ping","id":"{id}"}}"#);
    let space = length.saturating_sub(command.len());
    command + &" ".repeat(space)
}

/// The same as protobuf, made this long by an id.
fn protobuf_command(id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    message::write(&mut bytes, &ConnectRequest { id: id.into(), command: Some(Command::Ping(Ping {})) });
    bytes
}

/// A whole frame with a ping command.
fn said(id: &str) -> Vec<u8> {
    Raw::frame(FIN | TEXT, command(id, 0).as_bytes())
}

/// A message in frames of these parts; `first` is the opcode of the first, and what is set beside.
fn parts(first: u8, parts: &[&[u8]]) -> Vec<Vec<u8>> {
    let last = parts.len() - 1;
    let part = |n: usize| {
        let first = if n == 0 { first } else { 0 };
        Raw::frame(if n == last { FIN | first } else { first }, parts[n])
    };
    (0..parts.len()).map(part).collect()
}

/// The reason word beside a code that the server gives of its own.
fn word(code: u16) -> &'static str {
    match code {
        1002 => "protocol_error",
        1003 => "unsupported_data",
        1007 => "invalid_payload",
        1009 => "too_big",
        _ => "",
    }
}

/// The next frame but for the server's own pings.
async fn next(raw: &mut Raw, name: &str) -> Frame {
    loop {
        let frame = raw.next().await.unwrap_or_else(|| panic!("{name}: the end instead of a frame"));
        if frame.opcode != PING {
            return frame;
        }
    }
}

async fn run(http: SocketAddr, case: Case) {
    let Case { name, session, steps } = case;
    let (target, headers): (_, &[&str]) = match session {
        Session::Json => ("/ws?user=case", &[]),
        Session::Protobuf => ("/ws?user=case", &["Sec-WebSocket-Protocol: hearth.v1.proto"]),
        Session::Deflated => ("/ws?user=case", &["Sec-WebSocket-Extensions: permessage-deflate"]),
    };
    let mut raw = Raw::asking(http, target, headers).await;
    let welcome = next(&mut raw, &name).await;
    assert_eq!(welcome.opcode, if session == Session::Protobuf { BINARY } else { TEXT }, "{name}");
    let mut closed = false;
    for step in steps {
        match step {
            Send(bytes) => raw.send(&bytes).await,
            Chopped(bytes, size) => {
                for chunk in bytes.chunks(size) {
                    raw.send(chunk).await;
                    // So that some of it is there before the rest.
                    tokio::task::yield_now().await;
                }
            }
            Echo(id) => {
                let frame = next(&mut raw, &name).await;
                let found = match session {
                    Session::Protobuf => {
                        let answer: ConnectResponse = message::read(&frame.payload).unwrap();
                        assert!(matches!(answer.frame, Some(connect_response::Frame::Ack(_))), "{name}");
                        answer.id
                    }
                    _ => {
                        let answer: Value = serde_json::from_str(frame.text()).unwrap();
                        answer["id"].as_str().unwrap_or_default().to_owned()
                    }
                };
                assert_eq!(found, id, "{name}: {frame:?}");
            }
            Pong(payload) => {
                let frame = next(&mut raw, &name).await;
                assert_eq!((frame.opcode, frame.payload), (PONG, payload), "{name}");
            }
            Refused => {
                let frame = next(&mut raw, &name).await;
                let answer: Value = serde_json::from_str(frame.text()).unwrap();
                assert_eq!(answer["type"], "error", "{name}: {frame:?}");
            }
            Closed(code) => {
                let frame = next(&mut raw, &name).await;
                assert_eq!(frame.opcode, CLOSE, "{name}: {}", String::from_utf8_lossy(&frame.payload));
                assert_eq!(frame.close(), (code, word(code).to_owned()), "{name}");
                closed = true;
            }
        }
    }
    let bye = Raw::frame(FIN | CLOSE, &1000u16.to_be_bytes());
    // In answer to the server's close, or the first.
    raw.send(&bye).await;
    if !closed {
        let frame = next(&mut raw, &name).await;
        assert_eq!(frame.close(), (1000, String::new()), "{name}");
    }
    let end = timeout(END, raw.next()).await.unwrap_or_else(|_| panic!("{name}: the connection stays open"));
    assert_eq!(end, None, "{name}: something comes behind the close");
}

/// Runs them all, and says how many there were; a session that lives beside them notices nothing.
async fn run_all(limit: usize, cases: Vec<Case>) {
    let hearth = Hearth::serve(&["--max-message-bytes", &limit.to_string()]).await;
    let mut beside = Raw::connect(hearth.http(), "/ws?user=beside").await;
    assert!(beside.next().await.unwrap().text().contains("welcome"));
    let mut counts = BTreeMap::new();
    for case in cases {
        *counts.entry(case.name.split(' ').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
        run(hearth.http(), case).await;
    }
    beside.send(&Raw::frame(FIN | PING, b"there?")).await;
    let pong = next(&mut beside, "the session beside").await;
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, b"there?".as_slice()));
    let counts: Vec<String> = counts.iter().map(|(family, count)| format!("{family}.* {count} OK")).collect();
    say(&counts.join(", "));
}

/// Not by `print!`, which is shown of tests that fail only.
fn say(counts: &str) {
    // A count that cannot be written is no reason to fail.
    let _ = writeln!(io::stdout(), "websocket cases: {counts}");
}

#[tokio::test]
async fn lengths_pings_reserved_bits_opcodes_and_fragments() {
    let families =
        [frames::lengths(), frames::pings(), frames::reserved_bits(), frames::opcodes(), frames::fragments()];
    run_all(SMALL, families.into_iter().flatten().collect()).await;
}

#[tokio::test]
async fn texts_are_utf8_or_refused() {
    run_all(SMALL, utf8::cases()).await;
}

#[tokio::test]
async fn closes_are_answered_in_kind_or_refused() {
    run_all(SMALL, closing::cases()).await;
}

#[tokio::test]
async fn sizes_up_to_the_limit_and_beyond() {
    run_all(LARGE, [frames::sizes(), frames::auto_fragments()].into_iter().flatten().collect()).await;
}

#[tokio::test]
async fn compressed_messages() {
    run_all(SMALL, compression::cases()).await;
}

/// Families 12 and 13 the other way: what is compressed by the server, under each offer that it takes.
#[tokio::test]
async fn events_come_compressed_where_that_was_agreed_on() {
    let hearth = Hearth::serve(&[]).await;
    let mut taken = 0;
    for (nth, (offer, answered)) in compression::OFFERS.iter().enumerate() {
        let header = format!("Sec-WebSocket-Extensions: {offer}");
        let mut raw = Raw::asking(hearth.http(), "/ws/room?user=offers", &[&header]).await;
        let answer = raw.extensions.clone();
        assert_eq!(answer.is_some(), *answered, "{offer}: {answer:?}");
        compression::a_long_event(&mut raw, nth, *answered).await;
        taken += usize::from(*answered);
    }
    let all = compression::OFFERS.len();
    say(&format!("{all} offers of compression, {taken} taken and {} declined: OK", all - taken));
}
