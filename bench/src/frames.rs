//! Just enough of WebSocket for a client that costs little: masked frames out, plain frames in, found in what was read
//! without copying, as long as they are whole.

/// A text message, final.
pub const TEXT: u8 = 0x81;
/// A pong, final.
pub const PONG: u8 = 0x8a;

/// A close, final.
pub const CLOSE: u8 = 0x88;

/// Opcodes as they come.
pub mod opcode {
    /// A text message.
    pub const TEXT: u8 = 0x1;
    /// A binary message.
    pub const BINARY: u8 = 0x2;
    /// The last frame.
    pub const CLOSE: u8 = 0x8;
    /// Wants a pong.
    pub const PING: u8 = 0x9;
    /// Beside one of the others: compressed. Only where that was agreed on.
    pub const DEFLATED: u8 = 0x40;
}

/// A server that sends larger frames is broken.
const FRAME_MAX: usize = 1 << 20;

/// A mask of zeros is a mask: the payload stands as it is.
const MASK: [u8; 4] = [0; 4];

/// Appends a frame; `first` is its first byte.
pub fn write(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend_from_slice(payload);
}

/// Finds frames in a stream; keeps what is not whole yet.
#[derive(Debug, Default)]
pub struct Reader {
    rest: Vec<u8>,
}

/// The stream cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Reader {
    /// Takes bytes as they came and gives each whole frame: opcode and payload.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(u8, &[u8])) -> Result<(), TooLong> {
        if self.rest.is_empty() {
            let used = scan(bytes, &mut each)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.rest.extend_from_slice(bytes);
        let used = scan(&self.rest, &mut each)?;
        self.rest.drain(..used);
        if self.rest.is_empty() {
            // Partial frames are rare, connections are many.
            self.rest = Vec::new();
        }
        Ok(())
    }
}

/// How many bytes were whole frames.
fn scan(bytes: &[u8], each: &mut impl FnMut(u8, &[u8])) -> Result<usize, TooLong> {
    let mut at = 0;
    while let Some((head, length)) = head(&bytes[at..]) {
        if length > FRAME_MAX {
            return Err(TooLong);
        }
        let Some(payload) = bytes.get(at + head..at + head + length) else { break };
        each(bytes[at] & (0x0f | opcode::DEFLATED), payload);
        at += head + length;
    }
    Ok(at)
}

/// Lengths of the head and of the payload; servers do not mask.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)))),
        127 => Some((
            10,
            usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).unwrap_or(usize::MAX),
        )),
        length => Some((2, usize::from(length))),
    }
}

/// How long a server's frame is with its head.
pub fn length(payload: usize) -> usize {
    payload
        + match payload {
            0..126 => 2,
            126..0x1_0000 => 4,
            _ => 10,
        }
}

/// The seq of a `text` envelope; none for all else. The field stands before `data` on both servers, so that nothing in
/// `data` can be taken for it.
pub fn seq(envelope: &[u8]) -> Option<u64> {
    if !envelope.starts_with(br#"{"type":"text""#) {
        return None;
    }
    let digits = after(envelope, br#""seq":"#)?.iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |seq, digit| seq * 10 + u64::from(digit - b'0')))
}

/// What stands behind the first occurrence of a mark.
pub fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    Some(&text[at + mark.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write(&mut frame, 0x80 | opcode, payload);
        let head = frame.len() - payload.len() - MASK.len();
        frame.drain(head..head + MASK.len());
        frame[1] &= 0x7f;
        frame
    }

    fn read(reader: &mut Reader, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        reader.feed(bytes, |opcode, payload| frames.push((opcode, payload.to_vec()))).unwrap();
        frames
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let payloads =
            [vec![], vec![7; 125], vec![8; 126], vec![9; 0xffff], vec![10; 0x1_0000], b"x".to_vec()];
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| server_frame(1, payload)).collect();
        let expected: Vec<(u8, Vec<u8>)> = payloads.iter().map(|payload| (1, payload.clone())).collect();
        for size in [1, 2, 3, 7, 130, 4096, stream.len()] {
            let mut reader = Reader::default();
            let found: Vec<_> = stream.chunks(size).flat_map(|chunk| read(&mut reader, chunk)).collect();
            assert!(found == expected, "in pieces of {size}");
            assert!(reader.rest.is_empty());
        }
        let lengths: usize = payloads.iter().map(|payload| length(payload.len())).sum();
        assert_eq!(lengths, stream.len());
    }

    #[test]
    fn what_is_not_whole_waits() {
        let mut reader = Reader::default();
        let frame = server_frame(9, b"ping");
        assert!(read(&mut reader, &frame[..1]).is_empty());
        assert!(read(&mut reader, &frame[1..5]).is_empty());
        assert_eq!(read(&mut reader, &frame[5..]), [(opcode::PING, b"ping".to_vec())]);
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut reader = Reader::default();
        let endless = [0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(reader.feed(&endless, |_, _| {}), Err(TooLong));
    }

    #[test]
    fn client_frames_are_masked() {
        let mut out = Vec::new();
        write(&mut out, TEXT, b"{}");
        assert_eq!(out, [0x81, 0x82, 0, 0, 0, 0, b'{', b'}']);
        out.clear();
        write(&mut out, TEXT, &[b'x'; 300]);
        assert_eq!(out[..8], [0x81, 0xfe, 1, 44, 0, 0, 0, 0]);
    }

    #[test]
    fn the_seq_is_read_from_texts_only() {
        assert_eq!(seq(br#"{"type":"text","room":"r","seq":1042,"data":{}}"#), Some(1042));
        assert_eq!(seq(br#"{"type":"text","id":"m","room":"r","seq":7,"data":{"seq":9}}"#), Some(7));
        assert_eq!(seq(br#"{"type":"system","seq":7}"#), None);
        assert_eq!(seq(br#"{"type":"text","room":"r"}"#), None);
        assert_eq!(seq(b""), None);
    }
}
