//! RFC 6455 by hand: frames in, frame heads out, the handshake's key.
//!
//! By hand because of memory and sharing: a ready-made library keeps a read and a write buffer per connection
//! and masks, copies or owns what it sends. Here an idle connection holds one empty pointer, what comes in is
//! unmasked where it lies, and what goes out is a head before bytes that all sessions share.
pub mod deflate;
pub mod parser;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::{Digest, Sha1};

/// The longest payload of a ping, pong or close.
pub const CONTROL_MAX: usize = 125;
/// The longest head of a frame that a server writes: no mask.
pub const HEAD_MAX: usize = 10;

/// What kind of frame it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next part of a message.
    Continuation,
    /// A text message, or its first part.
    Text,
    /// A binary message, or its first part.
    Binary,
    /// The last frame in that direction.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// The head of a whole frame: its bytes and how many of them there are. A server does not mask.
pub fn head(opcode: Opcode, payload_len: usize) -> ([u8; HEAD_MAX], usize) {
    let mut head = [0; HEAD_MAX];
    head[0] = 0x80 | opcode.bits();
    let len = match payload_len {
        0..=125 => {
            head[1] = payload_len as u8;
            2
        }
        126..=0xffff => {
            head[1] = 126;
            head[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            head[1] = 127;
            head[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    };
    (head, len)
}

/// Appends a whole frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (head, len) = head(opcode, payload.len());
    out.extend_from_slice(&head[..len]);
    out.extend_from_slice(payload);
}

/// A whole frame.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEAD_MAX + payload.len());
    write_frame(&mut out, opcode, payload);
    out.into()
}

/// Appends a close frame. A code of `None` echoes a client that gave none. A reason is cut to what fits.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else { return write_frame(out, Opcode::Close, b"") };
    let fits = (0..=reason.len().min(CONTROL_MAX - 2)).rev().find(|at| reason.is_char_boundary(*at));
    let reason = &reason[..fits.unwrap_or(0)];
    let (head, len) = head(Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&head[..len]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// What `Sec-WebSocket-Accept` answers to a `Sec-WebSocket-Key`.
pub fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_as_short_as_can_be() {
        let head_of = |len| {
            let (bytes, used) = head(Opcode::Text, len);
            bytes[..used].to_vec()
        };
        assert_eq!(head_of(0), [0x81, 0]);
        assert_eq!(head_of(125), [0x81, 125]);
        assert_eq!(head_of(126), [0x81, 126, 0, 126]);
        assert_eq!(head_of(0xffff), [0x81, 126, 0xff, 0xff]);
        assert_eq!(head_of(0x1_0000), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn close_frames() {
        let close = |code, reason: &str| {
            let mut out = Vec::new();
            write_close(&mut out, code, reason);
            out
        };
        assert_eq!(close(Some(1001), "bye"), b"\x88\x05\x03\xe9bye");
        assert_eq!(close(None, "unsaid"), b"\x88\x00");
        // 123 bytes fit; a letter of two bytes that would be cut is left out whole.
        let long = close(Some(1000), &format!("{}ä", "x".repeat(122)));
        assert_eq!((long[1], long.len()), (124, 126));
    }

    #[test]
    fn key_of_the_rfc() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
