//! What a slow socket did not take: shared references to the same bytes that everybody got, until the socket is
//! ready again.
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// The bytes that wait for one socket, in order.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Each begins with a frame's head and holds whole frames.
    pieces: VecDeque<Bytes>,
    /// How much of the first piece is written.
    written: usize,
    /// How much is not written.
    bytes: usize,
}

impl Backlog {
    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a piece behind the others; of an only piece `written` bytes may be written already.
    pub fn push(&mut self, piece: Bytes, written: usize) {
        debug_assert!(written == 0 || self.pieces.is_empty());
        if self.pieces.is_empty() {
            self.written = written;
        }
        self.bytes += piece.len() - written;
        self.pieces.push_back(piece);
    }

    /// Fills `slices` from the front; how many it took.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(if filled == 0 { &piece[self.written..] } else { piece });
            filled += 1;
        }
        filled
    }

    /// Takes `n` written bytes off the front.
    pub fn advance(&mut self, n: usize) {
        self.bytes -= n;
        self.written += n;
        while let Some(first) = self.pieces.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.pieces.pop_front();
        }
    }

    /// Drops all but the rest of a frame that is partly written: what follows must begin with a frame's head.
    pub fn cut(&mut self) {
        let first = self.pieces.pop_front();
        self.pieces.clear();
        self.bytes = 0;
        let written = std::mem::take(&mut self.written);
        if let Some(piece) = first {
            let end = frame_end(&piece, written);
            if end > written {
                self.push(piece.slice(..end), written);
            }
        }
    }
}

/// Where the frame ends that the byte at `at` belongs to; `at` itself if a frame begins there. `piece` holds whole unmasked
/// frames from its beginning on.
fn frame_end(piece: &[u8], at: usize) -> usize {
    let mut end = 0;
    while end < at {
        let frame = &piece[end..];
        let len = match (frame.get(1), frame.get(2..4), frame.get(2..10)) {
            (Some(127), _, Some(len)) => {
                10 + len.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte))
            }
            (Some(126), Some(len), _) => 4 + usize::from(u16::from_be_bytes([len[0], len[1]])),
            (Some(len), ..) => 2 + usize::from(*len),
            (None, ..) => break,
        };
        end = end.saturating_add(len).min(piece.len());
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::websocket::text_frame;

    fn waiting(backlog: &Backlog) -> Vec<u8> {
        let mut slices = [IoSlice::new(b""); 8];
        let filled = backlog.slices(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn bytes_come_out_as_they_went_in_however_they_are_taken() {
        let all = b"abcdefghij";
        for step in 1..=all.len() {
            let mut backlog = Backlog::default();
            backlog.push(Bytes::from_static(b"??abc"), 2);
            backlog.push(Bytes::from_static(b"defg"), 0);
            backlog.push(Bytes::from_static(b"hij"), 0);
            for at in (0..all.len()).step_by(step) {
                assert_eq!((waiting(&backlog), backlog.bytes()), (all[at..].to_vec(), all.len() - at));
                backlog.advance(step.min(all.len() - at));
            }
            assert_eq!((waiting(&backlog), backlog.bytes()), (Vec::new(), 0));
        }
    }

    #[test]
    fn a_cut_leaves_the_rest_of_a_partly_written_frame_alone() {
        let frames =
            [text_frame(b"short"), text_frame(&[b'm'; 300]), text_frame(&[b'l'; 70_000]), text_frame(b"")];
        let ends: Vec<usize> = frames
            .iter()
            .scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            })
            .collect();
        let piece = Bytes::from(frames.concat());
        for written in [0, 1, 6, 7, 8, 100, 310, 311, 312, 70_000, piece.len() - 1] {
            let mut backlog = Backlog::default();
            backlog.push(piece.clone(), written);
            backlog.push(text_frame(b"later"), 0);
            backlog.cut();
            let end = if written == 0 { 0 } else { *ends.iter().find(|end| **end >= written).unwrap() };
            assert_eq!(waiting(&backlog), &piece[written..end], "{written} written");
            assert_eq!(backlog.bytes(), end - written);
        }
    }
}
