//! What a slow socket did not take: shared references to the same bytes that everybody got, until the socket is
//! ready again. Where only the newest of its kind is worth having, what waits is taken out when a newer one comes.
use crate::fanout::rooms::NumberHasher;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::io::IoSlice;
use std::num::NonZeroU64;

/// The bytes that wait for one socket, in order.
#[derive(Debug, Default)]
pub struct Backlog {
    pieces: VecDeque<Piece>,
    /// The number of the first piece; the others count on from it.
    first: u64,
    /// How much of the first piece is written.
    written: usize,
    /// How much is not written.
    bytes: usize,
    /// How many pieces are empty because they were taken out: never the first, and never more than half.
    gaps: usize,
    /// The numbers of the pieces that have keys.
    keyed: HashMap<NonZeroU64, u64, BuildHasherDefault<NumberHasher>>,
    /// How much more than the bound may wait, after a burst that came at once; what is written is taken off.
    pub excess: usize,
}

#[derive(Debug, Default)]
struct Piece {
    /// Begins with a frame's head and holds whole frames.
    frames: Bytes,
    /// By which it may be taken out, while nothing of it is written.
    key: Option<NonZeroU64>,
}

impl Backlog {
    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a piece behind the others; of an only piece `written` bytes may be written already.
    pub fn push(&mut self, frames: Bytes, written: usize) {
        debug_assert!(written < frames.len(), "an empty piece is a gap");
        debug_assert!(written == 0 || self.pieces.is_empty());
        if self.pieces.is_empty() {
            self.written = written;
        }
        self.bytes += frames.len() - written;
        self.pieces.push_back(Piece { frames, key: None });
    }

    /// Puts a piece behind the others that [`Backlog::take_out`] finds by its key; none with this key may wait. Keys are
    /// hashes that nobody outside chooses, and 0 is none.
    pub fn push_keyed(&mut self, frames: Bytes, key: u64) {
        self.push(frames, 0);
        if let (Some(key), Some(last)) = (NonZeroU64::new(key), self.pieces.back_mut()) {
            last.key = Some(key);
            let before = self.keyed.insert(key, self.first + self.pieces.len() as u64 - 1);
            debug_assert!(before.is_none(), "the older one is taken out first");
        }
    }

    /// Takes out the piece with this key unless it is partly written; how long it was.
    pub fn take_out(&mut self, key: u64) -> Option<usize> {
        let number = self.keyed.remove(&NonZeroU64::new(key)?)?;
        let piece = self.pieces.get_mut((number - self.first) as usize)?;
        let len = std::mem::take(piece).frames.len();
        self.bytes -= len;
        self.gaps += 1;
        self.advance(0);
        Some(len)
    }

    /// Fills `slices` from the front; how many it took.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let pieces = self.pieces.iter().map(|piece| &piece.frames).filter(|frames| !frames.is_empty());
        for (slice, frames) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(if filled == 0 { &frames[self.written..] } else { frames });
            filled += 1;
        }
        filled
    }

    /// Takes `n` written bytes off the front.
    pub fn advance(&mut self, n: usize) {
        self.excess = self.excess.saturating_sub(n);
        self.bytes -= n;
        self.written += n;
        while let Some(first) = self.pieces.front()
            && self.written >= first.frames.len()
        {
            self.written -= first.frames.len();
            self.gaps -= usize::from(first.frames.is_empty());
            if let Some(key) = first.key {
                self.keyed.remove(&key);
            }
            self.pieces.pop_front();
            self.first += 1;
        }
        // A frame that is begun must be ended.
        if self.written > 0
            && let Some(key) = self.pieces.front_mut().and_then(|first| first.key.take())
        {
            self.keyed.remove(&key);
        }
        if self.gaps > self.pieces.len() / 2 {
            self.close_gaps();
        }
    }

    /// Moves the pieces together. Each gap is paid for once, so it costs no more than the taking out did.
    fn close_gaps(&mut self) {
        self.pieces.retain(|piece| !piece.frames.is_empty());
        self.gaps = 0;
        for (number, piece) in (self.first..).zip(&self.pieces) {
            if let Some(key) = piece.key {
                self.keyed.insert(key, number);
            }
        }
    }

    /// Drops all but the rest of a frame that is partly written: what follows must begin with a frame's head.
    pub fn cut(&mut self) {
        let first = self.pieces.pop_front();
        self.pieces.clear();
        self.keyed.clear();
        (self.bytes, self.gaps) = (0, 0);
        let written = std::mem::take(&mut self.written);
        if let Some(Piece { frames, .. }) = first {
            let end = frame_end(&frames, written);
            if end > written {
                self.push(frames.slice(..end), written);
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
    use crate::wire::websocket::{Opcode, frame};
    use proptest::prelude::*;

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
        let frames = [
            frame(Opcode::Text, b"short"),
            frame(Opcode::Text, &[b'm'; 300]),
            frame(Opcode::Text, &[b'l'; 70_000]),
            frame(Opcode::Text, b""),
        ];
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
            backlog.push(frame(Opcode::Text, b"later"), 0);
            backlog.cut();
            let end = if written == 0 { 0 } else { *ends.iter().find(|end| **end >= written).unwrap() };
            assert_eq!(waiting(&backlog), &piece[written..end], "{written} written");
            assert_eq!(backlog.bytes(), end - written);
        }
    }

    #[test]
    fn a_newer_one_goes_to_the_back_and_a_begun_one_stays() {
        let frames = |backlog: &Backlog| String::from_utf8(waiting(backlog)).unwrap();
        let mut backlog = Backlog::default();
        backlog.push_keyed(Bytes::from_static(b"a1 "), 7);
        backlog.push(Bytes::from_static(b"text "), 0);
        assert_eq!(backlog.take_out(7), Some(3), "it is the first, but not begun");
        backlog.push_keyed(Bytes::from_static(b"a2 "), 7);
        assert_eq!(frames(&backlog), "text a2 ");
        backlog.advance(6);
        assert_eq!(backlog.take_out(7), None, "it is begun");
        backlog.push_keyed(Bytes::from_static(b"a3 "), 7);
        assert_eq!(frames(&backlog), "2 a3 ");
        backlog.advance(2);
        assert_eq!((backlog.take_out(7), backlog.bytes(), backlog.pieces.len()), (Some(3), 0, 0));
    }

    /// The same, done naively.
    #[derive(Debug, Default)]
    struct Model {
        pieces: Vec<(Bytes, u64)>,
        written: usize,
    }

    impl Model {
        fn bytes(&self) -> Vec<u8> {
            let all: Vec<u8> = self.pieces.iter().flat_map(|(frames, _)| frames.to_vec()).collect();
            all[self.written..].to_vec()
        }

        fn take_out(&mut self, key: u64) -> Option<usize> {
            let begun = usize::from(self.written > 0);
            let at = self.pieces.iter().skip(begun).position(|piece| piece.1 == key)?;
            Some(self.pieces.remove(at + begun).0.len())
        }

        fn advance(&mut self, n: usize) {
            self.written += n;
            while let Some((frames, _)) = self.pieces.first()
                && self.written >= frames.len()
            {
                self.written -= frames.len();
                self.pieces.remove(0);
            }
        }

        fn cut(&mut self) {
            self.pieces.truncate(usize::from(self.written > 0));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        /// A newer one of the key, of so many bytes.
        Newer(u64, usize),
        /// A newer one that there is no room for.
        TakeOut(u64),
        Advance(prop::sample::Index),
        /// To the end of the first piece.
        AdvanceOne,
        Cut,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..200).prop_map(Step::Push),
            16 => (1u64..6, 0usize..200).prop_map(|(key, len)| Step::Newer(key, len)),
            2 => (1u64..6).prop_map(Step::TakeOut),
            3 => any::<prop::sample::Index>().prop_map(Step::Advance),
            3 => Just(Step::AdvanceOne),
            1 => Just(Step::Cut),
        ]
    }

    proptest! {
        /// Each piece is one frame with a number in it, so whatever is left out, torn or moved shows.
        #[test]
        fn it_does_what_a_naive_one_does(
            begun in 0usize..4,
            steps in proptest::collection::vec(step(), 0..300),
            width in 1usize..=8,
        ) {
            let (mut backlog, mut model) = (Backlog::default(), Model { written: begun, ..Model::default() });
            let numbered = |n: usize, len: usize| frame(Opcode::Text, format!("{n:04}{}", "x".repeat(len)).as_bytes());
            backlog.push(numbered(9999, 5), begun);
            model.pieces.push((numbered(9999, 5), 0));
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(len) => {
                        backlog.push(numbered(n, len), 0);
                        model.pieces.push((numbered(n, len), 0));
                    }
                    Step::Newer(key, len) => {
                        prop_assert_eq!(backlog.take_out(key), model.take_out(key));
                        backlog.push_keyed(numbered(n, len), key);
                        model.pieces.push((numbered(n, len), key));
                    }
                    Step::TakeOut(key) => prop_assert_eq!(backlog.take_out(key), model.take_out(key)),
                    Step::Advance(to) => {
                        let by = to.index(backlog.bytes() + 1);
                        backlog.advance(by);
                        model.advance(by);
                    }
                    Step::AdvanceOne => {
                        let by = model.pieces.first().map_or(0, |(frames, _)| frames.len() - model.written);
                        backlog.advance(by);
                        model.advance(by);
                    }
                    Step::Cut => {
                        backlog.cut();
                        model.cut();
                    }
                }
                let bytes = model.bytes();
                prop_assert_eq!(backlog.bytes(), bytes.len());
                let mut slices = [IoSlice::new(b""); 8];
                let filled = backlog.slices(&mut slices[..width]);
                prop_assert_eq!(filled, model.pieces.len().min(width), "no slice is wasted on a gap");
                let seen: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                prop_assert!(bytes.starts_with(&seen));
                // All of it, whatever a write took.
                let all: Vec<u8> = backlog.pieces.iter().flat_map(|piece| piece.frames.to_vec()).collect();
                prop_assert_eq!(&all[backlog.written..], &bytes);
                let live = model.pieces.len();
                prop_assert!(backlog.pieces.len() <= 2 * live, "{} for {live}", backlog.pieces.len());
                prop_assert_eq!(backlog.gaps, backlog.pieces.len() - live);
                prop_assert!(backlog.keyed.len() <= live);
            }
        }
    }
}
