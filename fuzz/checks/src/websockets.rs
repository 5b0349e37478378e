//! WebSocket frames: the same messages however the bytes are cut, and those that RFC 6455 says, read again plainly.
use flate2::{Compress, Compression, FlushCompress};
use hearth_edge::wire::websocket::{
    deflate::{self, BadDeflate, Inflater},
    parser::{Message, Parser, Violation},
};

/// A message that outlives the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// What was said, and what broke the rules if something did.
type Heard = (Vec<Said>, Option<Violation>);

const LIMITS: [usize; 4] = [0, 10, 1000, 65_536];

/// The first byte chooses the limit, compression, and whether the rest are frames as they come or a recipe for good ones; the
/// second how they are cut.
pub fn websocket(data: &[u8]) {
    let [choice, cut, rest @ ..] = data else { return };
    let limit = LIMITS[usize::from(choice & 3)];
    let deflated = choice & 4 != 0;
    let stream = if choice & 8 != 0 { baked(rest, deflated) } else { rest.to_vec() };
    let whole = heard(&[&stream], limit, deflated);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(heard(&single, limit, deflated), whole, "byte by byte");
    assert_eq!(heard(&pieces(&stream, *cut), limit, deflated), whole, "in pieces");
    if !deflated {
        assert_eq!(plain(&stream, limit), whole, "read plainly");
    }
    inflated(rest, limit);
    offered(rest);
}

/// Feeds the pieces to one parser; a connection that is between two messages holds nothing.
fn heard(pieces: &[&[u8]], limit: usize, deflated: bool) -> Heard {
    let (mut parser, mut inflater) = (Parser::default(), Inflater::default());
    let mut said = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match parser.next(&mut input, limit, deflated.then_some(&mut inflater)) {
                Ok(Some(message)) => said.push(match message {
                    Message::Text(text) => Said::Text(within(text.as_bytes(), limit)),
                    Message::Binary(bytes) => Said::Binary(within(bytes, limit)),
                    Message::Ping(bytes) => Said::Ping(within(bytes, 125)),
                    Message::Pong => Said::Pong,
                    Message::Close(code) => Said::Close(code),
                }),
                Ok(None) => break,
                Err(violation) => return (said, Some(violation)),
            }
        }
        assert!(input.is_empty(), "what is not understood yet is kept by the parser");
    }
    (said, None)
}

fn within(bytes: &[u8], limit: usize) -> Vec<u8> {
    assert!(bytes.len() <= limit, "{} bytes where {limit} are allowed", bytes.len());
    bytes.to_vec()
}

/// Cuts by a little generator, so that the fuzzer can choose the cuts.
fn pieces(stream: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut rest, mut state) = (stream, u32::from(seed) + 1);
    let mut all = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, more) = rest.split_at(((state >> 24) as usize % 23 + 1).min(rest.len()));
        all.push(piece);
        rest = more;
    }
    all
}

/// Frames of a recipe: a head's first byte, a length, a payload, and so on; masked, and compressed where the head says so.
fn baked(recipe: &[u8], deflated: bool) -> Vec<u8> {
    let mut rest = recipe;
    let mut out = Vec::new();
    while let [first, length, more @ ..] = rest {
        let (payload, more) = more.split_at(usize::from(*length).min(more.len()));
        let payload = if deflated && first & 0x40 != 0 { squeezed(payload) } else { payload.to_vec() };
        let mask = [*first, *length, 0x21, 0x3d];
        out.push(*first);
        match payload.len() {
            short @ 0..126 => out.push(0x80 | short as u8),
            long => {
                out.push(0x80 | 126);
                out.extend((long as u16).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        rest = more;
    }
    out
}

/// Compressed as a client does it.
fn squeezed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() * 2 + 64);
    let mut compress = Compress::new(Compression::fast(), false);
    let done = compress.compress_vec(payload, &mut out, FlushCompress::Sync);
    assert!(done.is_ok());
    out.truncate(out.len().saturating_sub(4));
    out
}

/// RFC 6455 without a thought for speed or for what is cut.
fn plain(stream: &[u8], limit: usize) -> Heard {
    let (mut at, mut said) = (0, Vec::new());
    // Whether the message under way is a text, and what there is of it.
    let mut message: Option<(bool, Vec<u8>)> = None;
    macro_rules! ends {
        ($violation:ident) => {
            return (said, Some(Violation::$violation))
        };
    }
    loop {
        let Some(&first) = stream.get(at) else { return (said, None) };
        let (fin, opcode, control) = (first & 0x80 != 0, first & 0x0f, first & 0x08 != 0);
        let known = matches!(opcode, 0..=2 | 8..=10) && first & 0x70 == 0;
        let in_place = match opcode {
            0 => message.is_some(),
            1 | 2 => message.is_none(),
            _ => fin,
        };
        if !known || !in_place {
            ends!(Protocol);
        }
        let Some(&second) = stream.get(at + 1) else { return (said, None) };
        if second & 0x80 == 0 || (control && second & 0x7f > 125) {
            ends!(Protocol);
        }
        let wide = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = stream.get(at + 2..at + 2 + wide) else { return (said, None) };
        let length = length.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let length = if wide == 0 { u64::from(second & 0x7f) } else { length };
        if length >> 63 != 0 {
            ends!(Protocol);
        }
        let held = message.as_ref().map_or(0, |(_, parts)| parts.len());
        if !control && length > (limit - held) as u64 {
            ends!(TooBig);
        }
        let (mask_at, length) = (at + 2 + wide, length as usize);
        let Some(body) = stream.get(mask_at..mask_at + 4 + length) else { return (said, None) };
        let (mask, body) = body.split_at(4);
        let payload: Vec<u8> = body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        at = mask_at + 4 + length;
        match opcode {
            8 => match payload.as_slice() {
                [] => said.push(Said::Close(None)),
                [_] => ends!(Protocol),
                [_, _, reason @ ..] if std::str::from_utf8(reason).is_err() => ends!(NotUtf8),
                [high, low, ..] => match u16::from_be_bytes([*high, *low]) {
                    0..1000 | 1004..=1006 | 1015..3000 | 5000.. => ends!(Protocol),
                    code => said.push(Said::Close(Some(code))),
                },
            },
            9 => said.push(Said::Ping(payload)),
            10 => said.push(Said::Pong),
            _ => {
                let (is_text, parts) = message.get_or_insert((opcode == 1, Vec::new()));
                parts.extend(payload);
                let broken =
                    std::str::from_utf8(parts).err().filter(|error| fin || error.error_len().is_some());
                if *is_text && broken.is_some() {
                    ends!(NotUtf8);
                }
                if let Some((is_text, whole)) = message.take_if(|_| fin) {
                    said.push(if is_text { Said::Text(whole) } else { Said::Binary(whole) });
                }
            }
        }
    }
}

/// Any bytes as a compressed message: within the limit, the same each time, whatever was inflated before.
fn inflated(bytes: &[u8], limit: usize) {
    let mut used = Inflater::default();
    let _ = used.inflate(&squeezed(b"what somebody else said"), 1000);
    let again = used.inflate(bytes, limit);
    assert_eq!(Inflater::default().inflate(bytes, limit), again);
    match again {
        Ok(out) => {
            within(&out, limit);
            let tight = used.inflate(bytes, out.len());
            assert_eq!(tight.as_ref(), Ok(&out), "the limit is of what it becomes");
            if let Some(less) = out.len().checked_sub(1) {
                assert_eq!(used.inflate(bytes, less), Err(BadDeflate::TooBig));
            }
        }
        Err(BadDeflate::TooBig | BadDeflate::Corrupt) => {}
    }
    // There and back: what the server sends compressed, and what a client does.
    assert_eq!(used.inflate(&squeezed(bytes), bytes.len()).as_deref(), Ok(bytes));
}

/// An offer of the handshake: taking one must not hang on its blanks.
fn offered(bytes: &[u8]) {
    let Ok(offer) = std::str::from_utf8(bytes) else { return };
    let close = offer.trim().split(';').map(str::trim).collect::<Vec<_>>().join(";");
    assert_eq!(deflate::accepts(offer), deflate::accepts(&close));
}
