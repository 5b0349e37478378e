//! permessage-deflate (RFC 7692), without context from message to message in either direction: so that a compressed frame can be shared by all
//! who negotiated it, and a connection that is idle holds no window.
use super::Opcode;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::RefCell;

/// What we answer to an offer that we take.
pub const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Shorter messages are sent as they are: they would hardly become shorter.
const WORTH_BYTES: usize = 256;
/// What a sync flush ends with; left out on the wire.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// How much is inflated at once.
const STEP: usize = 16 * 1024;

thread_local! {
    // Its tables are large, so there is one for all messages of a thread.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(4), false));
}

/// Whether an offer can be taken: one of ours, with nothing that we cannot keep to.
pub fn accepts(offer: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return false;
    }
    let mut seen: Vec<&str> = Vec::new();
    parts.all(|part| {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        let bits = || value.and_then(|value| value.parse::<u8>().ok()).filter(|bits| (8..=15).contains(bits));
        let fits = match name {
            "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
            // How far back a client may look is its own affair; ours is the whole window.
            "client_max_window_bits" => value.is_none() || bits().is_some(),
            "server_max_window_bits" => bits() == Some(15),
            _ => false,
        };
        fits && !seen.contains(&name) && {
            seen.push(name);
            true
        }
    })
}

/// A whole message in one frame, compressed if that is worth it.
pub fn frame(opcode: Opcode, message: &[u8]) -> Vec<u8> {
    let deflated = if message.len() >= WORTH_BYTES { deflate(message) } else { None };
    let mut out = Vec::with_capacity(super::HEAD_MAX + deflated.as_ref().map_or(message.len(), Vec::len));
    match deflated {
        Some(deflated) => {
            super::write_frame(&mut out, opcode, &deflated);
            // The extension's bit.
            out[0] |= 0x40;
        }
        None => super::write_frame(&mut out, opcode, message),
    }
    out
}

/// None if it does not become shorter.
fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        let mut out = Vec::with_capacity(message.len());
        let status = compress.compress_vec(message, &mut out, FlushCompress::Sync).ok()?;
        let whole =
            status == Status::Ok && compress.total_in() == message.len() as u64 && out.ends_with(&TAIL);
        if !whole {
            return None;
        }
        out.truncate(out.len() - TAIL.len());
        Some(out)
    })
}

/// Undoes what clients do; one for all connections of a shard.
#[derive(Debug)]
pub struct Inflater(Decompress);

/// Why a message cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadDeflate {
    /// It is longer than it may be.
    TooBig,
    /// It is no such thing.
    Corrupt,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater(Decompress::new(false))
    }
}

impl Inflater {
    /// A message, of at most `limit` bytes; it is not inflated further than that.
    pub fn inflate(&mut self, deflated: &[u8], limit: usize) -> Result<Vec<u8>, BadDeflate> {
        self.0.reset(false);
        let mut out = Vec::new();
        for part in [deflated, &TAIL] {
            let mut rest = part;
            loop {
                out.reserve(STEP.min(limit + 1 - out.len().min(limit)).max(1));
                let (read, written) = (self.0.total_in(), self.0.total_out());
                let status = self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync);
                let status = status.map_err(|_| BadDeflate::Corrupt)?;
                if out.len() > limit {
                    return Err(BadDeflate::TooBig);
                }
                rest = &rest[(self.0.total_in() - read) as usize..];
                let moved = self.0.total_in() > read || self.0.total_out() > written;
                match status {
                    // A block that calls itself the last ends nothing but itself (section 7.2.3.5).
                    Status::StreamEnd if rest.is_empty() => return Ok(out),
                    Status::StreamEnd => self.0.reset(false),
                    _ if rest.is_empty() && out.len() < out.capacity() => break,
                    _ if !moved => return Err(BadDeflate::Corrupt),
                    _ => {}
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offers() {
        for (offer, taken) in [
            ("permessage-deflate", true),
            ("permessage-deflate; client_max_window_bits", true),
            ("permessage-deflate; client_max_window_bits=10; server_no_context_takeover", true),
            ("permessage-deflate;client_no_context_takeover ; server_max_window_bits=15", true),
            ("permessage-deflate; server_max_window_bits=\"15\"", true),
            ("permessage-deflate; server_max_window_bits=10", false),
            ("permessage-deflate; server_max_window_bits", false),
            ("permessage-deflate; client_max_window_bits=7", false),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits", false),
            ("permessage-deflate; server_no_context_takeover=1", false),
            ("permessage-deflate; mux", false),
            ("x-webkit-deflate-frame", false),
            ("", false),
        ] {
            assert_eq!(accepts(offer), taken, "{offer}");
        }
    }

    /// Little that becomes much is not inflated beyond the limit.
    #[test]
    fn a_bomb_is_refused_within_the_limit() {
        let bomb = deflate(&vec![0; 50 << 20]).unwrap();
        assert!(bomb.len() < 300_000, "{}", bomb.len());
        let mut inflater = Inflater::default();
        assert_eq!(inflater.inflate(&bomb, 65_536), Err(BadDeflate::TooBig));
        assert_eq!(inflater.inflate(&deflate(&[b'x'; 1000]).unwrap(), 1000).unwrap(), [b'x'; 1000]);
        assert_eq!(inflater.inflate(&deflate(&[b'x'; 1001]).unwrap(), 1000), Err(BadDeflate::TooBig));
    }

    /// The inflater is shared, and takes a look back to before the beginning for zeros instead of refusing it. It must never
    /// show what another client said before.
    #[test]
    fn nobody_looks_back_into_what_others_said() {
        let secret = deflate(&b"secret".repeat(10_000)).unwrap();
        // 258 bytes from 100 before the beginning.
        let look_back = [0x1a, 0xb5, 0x03, 0x00];
        let mut inflater = Inflater::default();
        for _ in 0..2 {
            assert!(inflater.inflate(&secret, 100_000).is_ok());
            assert!(inflater.inflate(&look_back, 100_000).is_ok_and(|out| out == [0; 258]));
        }
        // A block that calls itself the last is a beginning, too.
        let both = [&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &look_back].concat();
        let out = inflater.inflate(&both, 100_000).unwrap();
        assert!(out.starts_with(b"Hello") && out[5..] == [0; 258], "{out:?}");
    }

    #[test]
    fn examples_of_the_rfc() {
        let mut inflater = Inflater::default();
        // One block, a stored block, a final block, two blocks.
        for hello in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflater.inflate(hello, 100), Ok(b"Hello".to_vec()), "{hello:02x?}");
        }
        assert_eq!(inflater.inflate(&[0xff, 0xff, 0xff], 100), Err(BadDeflate::Corrupt));
        assert_eq!(inflater.inflate(&[0x00], 100), Ok(Vec::new()), "an empty message");
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(text in prop::collection::vec(0u8..8, 0..40_000)) {
            let mut inflater = Inflater::default();
            for _ in 0..2 {
                // None where it would become longer, which only short ones do.
                match deflate(&text) {
                    Some(deflated) => prop_assert_eq!(&inflater.inflate(&deflated, text.len()).unwrap(), &text),
                    None => prop_assert!(text.len() < 2 * WORTH_BYTES),
                }
            }
        }

        #[test]
        fn garbage_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..2000), limit in 0usize..5000) {
            if let Ok(out) = Inflater::default().inflate(&bytes, limit) {
                prop_assert!(out.len() <= limit);
            }
        }
    }
}
