//! A client's bytes turned into messages, however they are cut.
use super::{
    CONTROL_MAX, Opcode,
    deflate::{BadDeflate, Inflater},
};
use crate::wire::close::CloseReason;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with the same bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The client's last frame, with its code if it gave one.
    Close(Option<u16>),
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Frames that break RFC 6455.
    Protocol,
    /// A text message, or a close reason, that is not UTF-8.
    NotUtf8,
    /// A message over the limit.
    TooBig,
    /// A compressed message that is none.
    Corrupt,
}

impl From<BadDeflate> for Violation {
    fn from(bad: BadDeflate) -> Self {
        match bad {
            BadDeflate::TooBig => Violation::TooBig,
            BadDeflate::Corrupt => Violation::Corrupt,
        }
    }
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Protocol => CloseReason::ProtocolError,
            Violation::NotUtf8 | Violation::Corrupt => CloseReason::InvalidPayload,
            Violation::TooBig => CloseReason::TooBig,
        }
    }
}

/// Turns a client's bytes into messages, however they are cut. It holds memory only while a frame or a message is
/// incomplete. After a [`Violation`] there is no going on.
#[derive(Debug, Default)]
pub struct Parser {
    partial: Option<Box<Partial>>,
}

/// What has come of a frame, and of the message that it is a part of.
#[derive(Debug, Default)]
struct Partial {
    /// The frame under way as it came, from its head on.
    frame: Vec<u8>,
    /// `frame` was handed out whole and is to be forgotten.
    frame_done: bool,
    /// What the message under way is; none between messages.
    kind: Option<Opcode>,
    /// It is compressed.
    deflated: bool,
    /// Its parts so far, unmasked; or all of it, inflated.
    message: Vec<u8>,
    /// How many bytes of `message` are UTF-8 for certain, where it is a text.
    checked: usize,
}

impl Parser {
    /// Nothing is held: the client is between two messages, as nearly always.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// The next message; `input` shrinks by what was used. None when all of it is used: what is left of it is kept
    /// for the next call. `limit` is the largest message, over all its parts; it is checked from a frame's head on,
    /// before its payload is there. With an inflater, messages may be compressed; the limit is of what they become.
    pub fn next<'m, 'i: 'm>(
        &'m mut self,
        input: &mut &'i mut [u8],
        limit: usize,
        mut inflater: Option<&mut Inflater>,
    ) -> Result<Option<Message<'m>>, Violation> {
        loop {
            self.forget();
            let (kind, held) = self.partial.as_ref().map_or((None, 0), |p| (p.kind, p.message.len()));
            // What cannot be compressed becomes a little longer.
            let most = if inflater.is_some() { limit + limit / 64 + 64 } else { limit };
            let rules = Rules { message: kind, room: most.saturating_sub(held), deflate: inflater.is_some() };
            let Some(head) = self.frame(input, rules)? else { return Ok(None) };
            // Only a part of a longer message goes on around the loop.
            match (head.fin, head.opcode, inflater.as_deref_mut()) {
                (true, opcode, Some(inflater)) if opcode != Opcode::Continuation && head.deflated => {
                    self.part(input, head)?;
                    return self.joined(limit, Some(inflater)).map(Some);
                }
                (true, Opcode::Text | Opcode::Binary, _) if head.payload_len > limit => {
                    return Err(Violation::TooBig);
                }
                (true, opcode, _) if opcode != Opcode::Continuation => {
                    return self.whole(input, head).map(Some);
                }
                (fin, _, inflater) => {
                    self.part(input, head)?;
                    if fin {
                        return self.joined(limit, inflater).map(Some);
                    }
                }
            }
        }
    }

    /// Drops what the last call handed out.
    fn forget(&mut self) {
        if let Some(partial) = &mut self.partial {
            if partial.frame_done {
                partial.frame = Vec::new();
                partial.frame_done = false;
            }
            if partial.kind.is_none() {
                partial.message = Vec::new();
                if partial.frame.is_empty() {
                    self.partial = None;
                }
            }
        }
    }

    /// Waits for a whole frame. It lies at the start of `input`, or in `partial.frame` if anything is held there.
    fn frame(&mut self, input: &mut &mut [u8], rules: Rules) -> Result<Option<Head>, Violation> {
        let held = self.partial.as_ref().map_or(0, |p| p.frame.len());
        if held == 0 {
            let head = Head::parse(input, rules)?;
            if let Some(head) = head
                && head.frame_len() <= input.len()
            {
                return Ok(Some(head));
            }
            if !input.is_empty() {
                let partial = self.partial.get_or_insert_default();
                partial.frame.extend_from_slice(take(input, usize::MAX));
            }
            return Ok(None);
        }
        let Some(partial) = &mut self.partial else { return Ok(None) };
        let head = loop {
            match Head::parse(&partial.frame, rules)? {
                Some(head) => break head,
                None if input.is_empty() => return Ok(None),
                // One byte at a time: at most fourteen, and a head is seldom cut.
                None => partial.frame.extend_from_slice(take(input, 1)),
            }
        };
        partial.frame.extend_from_slice(take(input, head.frame_len() - partial.frame.len()));
        Ok((partial.frame.len() == head.frame_len()).then_some(head))
    }

    /// Hands out a frame that is a whole message.
    fn whole<'m, 'i: 'm>(
        &'m mut self,
        input: &mut &'i mut [u8],
        head: Head,
    ) -> Result<Message<'m>, Violation> {
        let frame: &'m mut [u8] = match &mut self.partial {
            Some(partial) if !partial.frame.is_empty() => {
                partial.frame_done = true;
                &mut partial.frame
            }
            _ => take(input, head.frame_len()),
        };
        let payload = head.payload(frame);
        match head.opcode {
            Opcode::Text | Opcode::Continuation => {
                std::str::from_utf8(payload).map(Message::Text).map_err(|_| Violation::NotUtf8)
            }
            Opcode::Binary => Ok(Message::Binary(payload)),
            Opcode::Ping => Ok(Message::Ping(payload)),
            Opcode::Pong => Ok(Message::Pong),
            Opcode::Close => close_code(payload).map(Message::Close),
        }
    }

    /// Adds a frame that is a part of a message to the parts before it. What can be no text any more is refused here, and
    /// not only when the last part comes.
    fn part(&mut self, input: &mut &mut [u8], head: Head) -> Result<(), Violation> {
        let partial = self.partial.get_or_insert_default();
        if partial.frame.is_empty() {
            partial.message.extend_from_slice(head.payload(take(input, head.frame_len())));
        } else {
            partial.message.extend_from_slice(head.payload(&mut partial.frame));
            partial.frame_done = true;
        }
        if head.opcode != Opcode::Continuation {
            (partial.kind, partial.deflated, partial.checked) = (Some(head.opcode), head.deflated, 0);
        }
        if partial.kind == Some(Opcode::Text) && !partial.deflated {
            partial.checked += match std::str::from_utf8(&partial.message[partial.checked..]) {
                Ok(text) => text.len(),
                // A character may go on in the next part.
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(Violation::NotUtf8),
            };
        }
        Ok(())
    }

    /// Hands out a message whose last part has come.
    fn joined(&mut self, limit: usize, inflater: Option<&mut Inflater>) -> Result<Message<'_>, Violation> {
        let partial = self.partial.get_or_insert_default();
        if let Some(inflater) = inflater
            && partial.deflated
        {
            partial.message = inflater.inflate(&partial.message, limit)?;
        }
        if partial.message.len() > limit {
            return Err(Violation::TooBig);
        }
        match partial.kind.take() {
            Some(Opcode::Binary) => Ok(Message::Binary(&partial.message)),
            _ => std::str::from_utf8(&partial.message).map(Message::Text).map_err(|_| Violation::NotUtf8),
        }
    }
}

/// What the next frame is measured by.
#[derive(Clone, Copy)]
struct Rules {
    /// The kind of the message under way.
    message: Option<Opcode>,
    /// How much that message may still grow.
    room: usize,
    /// It may be compressed.
    deflate: bool,
}

/// A frame's head.
#[derive(Debug, Clone, Copy)]
struct Head {
    fin: bool,
    deflated: bool,
    opcode: Opcode,
    mask: [u8; 4],
    head_len: usize,
    payload_len: usize,
}

impl Head {
    /// Reads a head; none when it is not all there. What is wrong is wrong as soon as it can be seen.
    fn parse(bytes: &[u8], rules: Rules) -> Result<Option<Head>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        // The first reserved bit is the extension's, at the beginning of a message; the others must be 0.
        let opcode = Opcode::from_bits(first & 0x0f).filter(|_| first & 0x30 == 0);
        let opcode = opcode.ok_or(Violation::Protocol)?;
        let deflated = first & 0x40 != 0;
        if deflated && !(rules.deflate && matches!(opcode, Opcode::Text | Opcode::Binary)) {
            return Err(Violation::Protocol);
        }
        let fin = first & 0x80 != 0;
        let fits = match opcode {
            Opcode::Continuation => rules.message.is_some(),
            Opcode::Text | Opcode::Binary => rules.message.is_none(),
            Opcode::Close | Opcode::Ping | Opcode::Pong => fin,
        };
        if !fits {
            return Err(Violation::Protocol);
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let short = usize::from(second & 0x7f);
        if second & 0x80 == 0 || (opcode.is_control() && short > CONTROL_MAX) {
            return Err(Violation::Protocol);
        }
        // A length that is spelled longer than it need be is taken: it does no harm, and common peers take it too.
        let (payload_len, mask_at) = match short {
            126 => match bytes.get(2..4) {
                Some(len) => (u64::from(u16::from_be_bytes([len[0], len[1]])), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|len| <[u8; 8]>::try_from(len).ok()) {
                Some(len) => (u64::from_be_bytes(len), 10),
                None => return Ok(None),
            },
            short => (short as u64, 2),
        };
        if payload_len >> 63 == 1 {
            return Err(Violation::Protocol);
        }
        let payload_len = usize::try_from(payload_len).map_err(|_| Violation::TooBig)?;
        if !opcode.is_control() && payload_len > rules.room {
            return Err(Violation::TooBig);
        }
        let Some(mask) = bytes.get(mask_at..mask_at + 4) else { return Ok(None) };
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        Ok(Some(Head { fin, deflated, opcode, mask, head_len: mask_at + 4, payload_len }))
    }

    fn frame_len(&self) -> usize {
        self.head_len + self.payload_len
    }

    /// The payload of a whole frame, unmasked where it lies.
    fn payload<'a>(&self, frame: &'a mut [u8]) -> &'a [u8] {
        let payload = &mut frame[self.head_len..];
        unmask(payload, self.mask);
        payload
    }
}

/// Cuts up to `len` bytes off the front.
fn take<'a>(input: &mut &'a mut [u8], len: usize) -> &'a mut [u8] {
    let whole = std::mem::take(input);
    let (front, rest) = whole.split_at_mut(len.min(whole.len()));
    *input = rest;
    front
}

/// Takes the mask off, a word at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

/// What a close frame's payload says: nothing, or a code and a reason.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let code = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::Protocol),
        [high, low, reason @ ..] => {
            std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            u16::from_be_bytes([*high, *low])
        }
    };
    // 1004 to 1006 and 1015 never stand on the wire; 1012 to 1014 are registered, from 3000 on codes are free.
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(Some(code)),
        _ => Err(Violation::Protocol),
    }
}

#[cfg(test)]
mod tests;
