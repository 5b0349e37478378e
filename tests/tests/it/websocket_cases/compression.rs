//! Families 12 and 13: permessage-deflate, in every way that a client may compress, under every offer.
use super::{Case, Chopped, Closed, Echo, FIN, Refused, SMALL, Send, Session, command, parts, said};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use hearth_tests::raw::{CONTINUATION, PING, Raw, TEXT};
use serde_json::Value;

/// The bit that says: compressed.
const DEFLATED: u8 = 0x40;

/// Autobahn's offers and some that are none, and whether they are taken.
pub const OFFERS: &[(&str, bool)] = &[
    ("permessage-deflate", true),
    ("permessage-deflate; client_max_window_bits", true),
    ("permessage-deflate; client_max_window_bits=9", true),
    ("permessage-deflate; client_no_context_takeover", true),
    ("permessage-deflate; server_no_context_takeover; client_max_window_bits", true),
    ("permessage-deflate; server_max_window_bits=15", true),
    ("permessage-deflate; server_no_context_takeover; server_max_window_bits=15", true),
    // A smaller window of ours is not to be had: compressed frames are shared.
    ("permessage-deflate; server_max_window_bits=9", false),
    ("permessage-deflate; server_no_context_takeover; server_max_window_bits=9", false),
    // The first that can be taken is.
    ("permessage-deflate; server_max_window_bits=9, permessage-deflate", true),
    ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", true),
    ("permessage-deflate; unknown", false),
    ("permessage-deflate; client_max_window_bits=7", false),
    ("permessage-bzip2", false),
];

fn deflate(text: &[u8], level: u32, flush: FlushCompress) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(text.len() * 2 + 100);
    compress.compress_vec(text, &mut out, flush).unwrap();
    assert_eq!(compress.total_in(), text.len() as u64);
    out
}

/// As section 7.2.1 has it: flushed, and the flush's own mark cut off.
fn message(text: &[u8], level: u32) -> Vec<u8> {
    let mut out = deflate(text, level, FlushCompress::Sync);
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// Blocks with a flush between any two, as a client makes them that compresses as it goes.
fn blocks(text: &[u8], size: usize) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(6), false);
    let mut out = Vec::with_capacity(text.len() * 2 + 10_000);
    for block in text.chunks(size) {
        compress.compress_vec(block, &mut out, FlushCompress::Sync).unwrap();
    }
    out.truncate(out.len() - 4);
    out
}

/// A command whose rest is hard to compress, or easy.
fn sized(size: usize, hard: bool) -> String {
    if !hard {
        return command("z", size);
    }
    let mut dice = hearth_tests::Dice::new(7);
    let start = r#"{"type":"ping","id":"z","pad":""#;
    let pad = size.saturating_sub(start.len() + 2);
    let letters: String = (0..pad).map(|_| char::from(b'a' + dice.roll(26) as u8)).collect();
    format!(r#"{start}{letters}"}}"#)
}

pub fn cases() -> Vec<Case> {
    let frame = |message: &[u8]| Raw::frame(FIN | DEFLATED | TEXT, message);
    let echo = || Echo("z".into());
    let mut cases = Vec::new();
    for size in [40, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 65_536] {
        for hard in [false, true] {
            let text = sized(size, hard);
            let named = |what: &str| format!("12 {size} bytes, hard: {hard}, {what}");
            for level in [0, 1, 6, 9] {
                let steps = vec![Send(frame(&message(text.as_bytes(), level))), echo()];
                cases.push(Case::new(named(&format!("level {level}")), steps));
            }
            let whole = message(text.as_bytes(), 6);
            // A block that says that it is the last one, and the byte that must follow then (section 7.2.3.4).
            let last = [deflate(text.as_bytes(), 6, FlushCompress::Finish), vec![0]].concat();
            cases.push(Case::new(named("ended"), vec![Send(frame(&last)), echo()]));
            cases.push(Case::new(named("flushed"), vec![Send(frame(&blocks(text.as_bytes(), 100))), echo()]));
            cases.push(Case::new(named("in pieces"), vec![Chopped(frame(&whole), 61), echo()]));
            for fragment in [1, 1024] {
                let chunks: Vec<&[u8]> = whole.chunks(fragment).collect();
                let steps = vec![Send(parts(DEFLATED | TEXT, &chunks).concat()), echo()];
                cases.push(Case::new(named(&format!("fragments of {fragment}")), steps));
            }
            let many = [Send(frame(&whole).repeat(20))].into_iter().chain((0..20).map(|_| echo()));
            cases.push(Case::new(named("twenty times"), many.collect()));
        }
    }
    let text = message(sized(3000, true).as_bytes(), 6);
    let (front, back) = text.split_at(700);
    let with_ping = [
        Raw::frame(DEFLATED | TEXT, front),
        Raw::frame(FIN | PING, b"amid"),
        Raw::frame(FIN | CONTINUATION, back),
    ];
    let bad = |what: &str, message: &[u8], code: u16| {
        Case::new(format!("13 {what}"), vec![Send(frame(message)), Closed(code)])
    };
    cases.extend([
        Case::new(
            "13 a ping amid compressed fragments",
            vec![Send(with_ping.concat()), super::Pong(b"amid".to_vec()), echo()],
        ),
        Case::new(
            "13 some compressed, some not",
            vec![
                Send([said("plain"), frame(&text), said("plain")].concat()),
                Echo("plain".into()),
                echo(),
                Echo("plain".into()),
            ],
        ),
        Case::new("13 an empty message is no command", vec![Send(frame(&[0])), Refused]),
        Case::new(
            "13 the bit on a later fragment",
            vec![
                Send(Raw::frame(DEFLATED | TEXT, front)),
                Send(Raw::frame(FIN | DEFLATED, back)),
                Closed(1002),
            ],
        ),
        Case::new("13 the bit on a ping", vec![Send(Raw::frame(FIN | DEFLATED | PING, b"")), Closed(1002)]),
        bad("a block of no type", &[0xff, 0xff, 0xff], 1007),
        bad("a stored block of a wrong length", &[0x00, 0x05, 0x00, 0xfb, 0xff, b'H'], 1007),
        // Taken for zeros, which are no JSON. What another said there is not to be had.
        Case::new(
            "13 looks back to before the beginning",
            vec![
                Send(said("secret")),
                Echo("secret".into()),
                Send(frame(&[0x1a, 0xb5, 0x03, 0x00])),
                Refused,
            ],
        ),
        bad("not UTF-8", &message(b"{\"id\":\"\xed\xa0\x80\"}", 6), 1007),
        bad("one byte too many", &message(&vec![b' '; SMALL + 1], 9), 1009),
        bad("a bomb of 50 MB", &message(&vec![b' '; 50_000_000], 9), 1009),
        Case::new(
            "13 bigger compressed than the limit",
            vec![Send(Raw::head(FIN | DEFLATED | TEXT, 0x80, SMALL * 2)), Closed(1009)],
        ),
    ]);
    cases.into_iter().map(|case| case.on(Session::Deflated)).collect()
}

/// Publishes what is worth compressing and takes it back.
pub async fn a_long_event(raw: &mut Raw, nth: usize, compressed: bool) {
    let words = "the same words again and again ".repeat(20);
    let text = format!(r#"{{"type":"text","id":"e{nth}","room":"room","data":{{"content":"{words}"}}}}"#);
    let opcode = if compressed { FIN | DEFLATED | TEXT } else { FIN | TEXT };
    let bytes = if compressed { message(text.as_bytes(), 6) } else { text.into_bytes() };
    raw.send(&Raw::frame(opcode, &bytes)).await;
    loop {
        let frame = super::next(raw, "a long event").await;
        let payload = if frame.deflated { inflate(&frame.payload) } else { frame.payload };
        let envelope: Value = serde_json::from_slice(&payload).unwrap();
        if envelope["type"] == "text" {
            assert_eq!(frame.deflated, compressed);
            assert_eq!(envelope["data"]["content"].as_str(), Some(words.as_str()));
            return;
        }
        // An ack, and what joining shows.
        assert!(envelope["type"] != "error" && !frame.deflated, "{envelope}");
    }
}

fn inflate(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(100_000);
    let whole = [message, &[0, 0, 0xff, 0xff]].concat();
    Decompress::new(false).decompress_vec(&whole, &mut out, FlushDecompress::Sync).unwrap();
    out
}
