//! The parser against a table of RFC 6455's rules, against any cut of the same bytes, and against tungstenite.
use super::*;
use crate::wire::websocket::write_close;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};
use tokio_tungstenite::tungstenite::{self, Message as Theirs};

const LIMIT: usize = 1000;

/// A message that outlives the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Feeds the chunks; what was said, and how it ended if it did.
fn read(chunks: &[&[u8]], limit: usize) -> (Vec<Said>, Option<Violation>, Parser) {
    let mut parser = Parser::default();
    let mut said = Vec::new();
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let mut input = &mut chunk[..];
        loop {
            match parser.next(&mut input, limit, None) {
                Ok(Some(message)) => said.push(match message {
                    Message::Text(text) => Said::Text(text.into()),
                    Message::Binary(bytes) => Said::Binary(bytes.into()),
                    Message::Ping(bytes) => Said::Ping(bytes.into()),
                    Message::Pong => Said::Pong,
                    Message::Close(code) => Said::Close(code),
                }),
                Ok(None) => break,
                Err(violation) => return (said, Some(violation), parser),
            }
        }
        assert!(input.is_empty(), "what is not understood yet is kept by the parser");
    }
    (said, None, parser)
}

/// A masked frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

#[test]
fn an_idle_connection_holds_nothing() {
    assert_eq!(size_of::<Parser>(), size_of::<usize>());
    let bytes = [text("a"), frame(0x01, b"b"), frame(0x89, b"p"), frame(0x80, b"c")].concat();
    for cut in 0..bytes.len() {
        let (said, end, parser) = read(&[&bytes[..cut], &bytes[cut..]], LIMIT);
        let expected = [Said::Text("a".into()), Said::Ping(b"p".to_vec()), Said::Text("bc".into())];
        assert_eq!((&said[..], end), (&expected[..], None), "cut at {cut}");
        assert!(parser.is_idle(), "cut at {cut}");
    }
}

#[test]
fn what_breaks_the_rules() {
    let close = |payload: &[u8]| frame(0x88, payload);
    let cases: &[(&str, Vec<u8>, Violation)] = &[
        ("unmasked", b"\x81\x02hi".to_vec(), Violation::Protocol),
        ("reserved bit 1", frame(0xc1, b""), Violation::Protocol),
        ("reserved bit 3", frame(0x91, b""), Violation::Protocol),
        ("opcode 3", frame(0x83, b""), Violation::Protocol),
        ("opcode 11", frame(0x8b, b""), Violation::Protocol),
        ("a fragmented ping", frame(0x09, b""), Violation::Protocol),
        ("a long ping", frame(0x89, &[0; 126]), Violation::Protocol),
        ("a continuation of nothing", frame(0x80, b"x"), Violation::Protocol),
        ("a message within a message", [frame(0x01, b"x"), text("y")].concat(), Violation::Protocol),
        ("a continuation after the end", [text("x"), frame(0x80, b"y")].concat(), Violation::Protocol),
        ("a length with the top bit", b"\x82\xff\xff\0\0\0\0\0\0\0".to_vec(), Violation::Protocol),
        (
            "a length beyond the limit",
            b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            Violation::TooBig,
        ),
        ("one byte too many", frame(0x82, &[0; LIMIT + 1]), Violation::TooBig),
        (
            "too many in the parts",
            [frame(0x01, &[b'x'; LIMIT]), frame(0x00, b""), frame(0x80, b"x")].concat(),
            Violation::TooBig,
        ),
        ("text that is not UTF-8", frame(0x81, b"a\xff"), Violation::NotUtf8),
        ("parts that are not", [frame(0x01, b"\xc3"), frame(0x80, b"x")].concat(), Violation::NotUtf8),
        (
            "a part that is not, with more to come",
            [frame(0x01, b"a"), frame(0x00, b"\xff")].concat(),
            Violation::NotUtf8,
        ),
        ("a surrogate", frame(0x81, b"\xed\xa0\x80"), Violation::NotUtf8),
        ("half a close code", close(&[3]), Violation::Protocol),
        ("a close reason that is not UTF-8", close(b"\x03\xe8\xff"), Violation::NotUtf8),
    ];
    for (name, bytes, violation) in cases {
        assert_eq!(read(&[bytes], LIMIT).1, Some(*violation), "{name}");
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&bytewise, LIMIT).1, Some(*violation), "{name}, byte by byte");
    }
}

#[test]
fn close_codes() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535u16] {
        assert_eq!(read(&[&frame(0x88, &code.to_be_bytes())], LIMIT).1, Some(Violation::Protocol), "{code}");
    }
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4004, 4999u16] {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend("fin ä".as_bytes());
        assert_eq!(read(&[&frame(0x88, &payload)], LIMIT).0, [Said::Close(Some(code))]);
    }
    assert_eq!(read(&[&frame(0x88, b"")], LIMIT).0, [Said::Close(None)]);
}

#[test]
fn what_is_at_the_edge_of_the_rules() {
    let whole = "ä".repeat(LIMIT / 2);
    assert_eq!(read(&[&text(&whole)], LIMIT).0, [Said::Text(whole.clone())], "as long as may be");
    let parts =
        [frame(0x01, b"a\xc3"), frame(0x8a, b"late"), frame(0x00, b""), frame(0x80, b"\xa4")].concat();
    assert_eq!(read(&[&parts], LIMIT).0, [Said::Pong, Said::Text("aä".into())], "a letter cut in two");
    let spelled_long = b"\x81\xff\0\0\0\0\0\0\0\x01\0\0\0\0x";
    assert_eq!(read(&[spelled_long], LIMIT).0, [Said::Text("x".into())], "a length in eight bytes");
    let parts = [frame(0x02, b"a"), frame(0x80, b"b")].concat();
    assert_eq!(read(&[&parts], LIMIT).0, [Said::Binary(b"ab".to_vec())]);
}

/// A head that promises too much is refused before its payload is there, and no memory is set aside on its word.
#[test]
fn the_limit_holds_from_the_head_on() {
    let bytes = frame(0x81, &[b'x'; LIMIT + 1]);
    assert_eq!(read(&[&bytes[..4]], LIMIT).1, Some(Violation::TooBig));
    let (_, end, parser) = read(&[&b"\x81\xff\0\0\0\0\x7f\xff\xff\xff"[..]], usize::MAX);
    assert_eq!(end, None);
    assert!(parser.partial.expect("a head waits").frame.capacity() < 64);
}

fn messages() -> impl Strategy<Value = Vec<Theirs>> {
    let one = prop_oneof![
        ".{0,200}".prop_map(|text: String| Theirs::Text(text.into())),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Theirs::Binary(bytes.into())),
        proptest::collection::vec(any::<u8>(), 0..=CONTROL_MAX).prop_map(|bytes| Theirs::Ping(bytes.into())),
        Just(Theirs::Pong(b"pong".to_vec().into())),
    ];
    proptest::collection::vec(one, 0..6)
}

/// What tungstenite writes as a client.
fn written(messages: &[Theirs]) -> Vec<u8> {
    let mut context = WebSocketContext::new(Role::Client, None);
    let mut out = std::io::Cursor::new(Vec::new());
    for message in messages {
        context.write(&mut out, message.clone()).expect("a buffer takes all");
    }
    context.flush(&mut out).expect("a buffer takes all");
    out.into_inner()
}

fn said(message: &Theirs) -> Said {
    match message {
        Theirs::Text(text) => Said::Text(text.to_string()),
        Theirs::Binary(bytes) => Said::Binary(bytes.to_vec()),
        Theirs::Ping(bytes) => Said::Ping(bytes.to_vec()),
        Theirs::Pong(_) => Said::Pong,
        other => panic!("not written here: {other:?}"),
    }
}

/// Cuts bytes at the given places.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
}

proptest! {
    #[test]
    fn what_tungstenite_writes_is_understood(messages in messages(), cuts in any::<[prop::sample::Index; 5]>()) {
        let bytes = written(&messages);
        let (got, end, parser) = read(&cut(&bytes, &cuts), usize::MAX);
        prop_assert_eq!(end, None);
        prop_assert!(parser.is_idle());
        prop_assert_eq!(got, messages.iter().map(said).collect::<Vec<_>>());
    }

    #[test]
    fn fragments_say_the_same(whole in ".{0,100}", cuts in any::<[prop::sample::Index; 3]>(), ping in any::<bool>()) {
        let parts = cut(whole.as_bytes(), &cuts);
        let mut bytes = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let last = if i + 1 == parts.len() { 0x80 } else { 0 };
            bytes.extend(frame(last | u8::from(i == 0), part));
            if ping && last == 0 {
                bytes.extend(frame(0x89, b"?"));
            }
        }
        let (got, end, _) = read(&cut(&bytes, &cuts), usize::MAX);
        prop_assert_eq!(end, None);
        let pings = if ping { parts.len() - 1 } else { 0 };
        prop_assert_eq!(got.len(), pings + 1);
        prop_assert_eq!(got.last(), Some(&Said::Text(whole)));
    }

    /// Whatever comes, and however it is cut, it is understood the same way, or refused the same way.
    #[test]
    fn garbage_is_garbage_however_it_is_cut(
        mut bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x80), Just(0x82)], 0..80),
        cuts in any::<[prop::sample::Index; 4]>(),
        start in any::<bool>(),
    ) {
        if start {
            bytes.splice(0..0, frame(0x01, b"x"));
        }
        let (whole, end, _) = read(&[&bytes], 64);
        let (pieces, pieces_end, _) = read(&cut(&bytes, &cuts), 64);
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!(end, pieces_end);
    }

    #[test]
    fn tungstenite_understands_what_is_written(text in ".{0,300}", reason in "[a-z]{0,20}") {
        let mut bytes = Vec::new();
        crate::wire::websocket::write_frame(&mut bytes, Opcode::Text, text.as_bytes());
        crate::wire::websocket::write_frame(&mut bytes, Opcode::Ping, b"?");
        write_close(&mut bytes, Some(4002), &reason);
        let mut context = WebSocketContext::new(Role::Client, None);
        let mut stream = std::io::Cursor::new(bytes);
        let got: Vec<Theirs> = std::iter::from_fn(|| context.read(&mut stream).ok()).take(3).collect();
        prop_assert_eq!(&got[0], &Theirs::Text(text.into()));
        prop_assert_eq!(&got[1], &Theirs::Ping(b"?".to_vec().into()));
        let Theirs::Close(Some(close)) = &got[2] else { panic!("no close: {:?}", got[2]) };
        prop_assert_eq!(close.code, tungstenite::protocol::frame::coding::CloseCode::Library(4002));
        prop_assert_eq!(close.reason.as_str(), reason);
    }
}
