//! The cursor: the positions of all rooms of a session as one opaque token, which the client brings back.
//!
//! A version byte, then for each room the first 8 bytes of the SHA-1 of its name, its epoch with a length byte before
//! it, and its seq as a varint; all in URL-safe base64 without padding, so that it fits a header and a query. Names
//! are hashed so that many rooms fit; a hash that two rooms of one session share would cost 2^64 to one.
//!
//! Whatever cannot be read says so ([`Cursor::unreadable`]): its rooms are not recovered. It is never taken for
//! a client that has missed nothing.
use crate::wire::event::Position;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use sha1::{Digest, Sha1};
use std::{str, sync::Arc};

/// The only version there is.
const VERSION: u8 = 1;
/// The longest token that is looked at: a hundred rooms fit, and so do the usual limits of headers.
const TOKEN_MAX: usize = 8 * 1024;
/// The bytes that fit such a token.
const BYTES_MAX: usize = TOKEN_MAX / 4 * 3;
/// The longest varint.
const VARINT_MAX: usize = 10;
/// Stands last where rooms did not fit: no room's name has this hash, but for one in 2^64.
const OTHERS: [u8; 10] = [0; 10];
/// The longest epoch that a core may give; a longer one is not carried, its room will not be recovered.
pub const EPOCH_MAX: usize = 64;

/// How many rooms are told that nobody knows where the client was in them. More than any client comes back to; what is
/// joined later is joined afresh.
const OTHERS_MAX: usize = 1000;

type Hash = [u8; 8];

/// What a cursor says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where the client left off.
    rooms: Vec<(Hash, Position)>,
    /// It may have been in other rooms too, where nobody knows: these have been told so. None: it was in no others.
    others: Option<Vec<Hash>>,
}

impl Cursor {
    /// Writes the token for these rooms.
    pub fn encode<'a>(rooms: impl IntoIterator<Item = (&'a str, &'a Position)>) -> String {
        Self::encode_with(None, rooms)
    }

    /// Writes the token for these rooms and for what was brought and not used yet: a session that is cut before it
    /// has joined all its rooms again must not forget where it was in the others.
    pub fn encode_with<'a>(
        brought: Option<&Cursor>,
        rooms: impl IntoIterator<Item = (&'a str, &'a Position)>,
    ) -> String {
        let mut bytes = vec![VERSION];
        let mut whole = brought.is_none_or(|cursor| cursor.others.is_none());
        for (room, position) in rooms {
            whole &= push_room(&mut bytes, hash(room), position);
        }
        for (room, position) in brought.into_iter().flat_map(|cursor| &cursor.rooms) {
            whole &= push_room(&mut bytes, *room, position);
        }
        if !whole {
            bytes.extend_from_slice(&OTHERS);
        }
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The same, of these rooms alone.
    pub fn only(mut self, rooms: &[Arc<str>]) -> Cursor {
        let wanted: Vec<Hash> = rooms.iter().map(|room| hash(room)).collect();
        self.rooms.retain(|(room, _)| wanted.contains(room));
        self
    }

    /// It has served a room's first join.
    pub fn forget(&mut self, room: &str) {
        let gone = hash(room);
        self.rooms.retain(|(hash, _)| *hash != gone);
        if let Some(told) = self.others.as_mut().filter(|told| !told.contains(&gone)) {
            told.push(gone);
        }
    }

    /// It has nothing to say to any room any more.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.others.as_ref().is_none_or(|told| told.len() >= OTHERS_MAX)
    }

    /// Reads a token. None for anything that [`Cursor::encode`] did not write, or wrote in another version.
    pub fn decode(token: &str) -> Option<Cursor> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let mut cursor = Cursor::default();
        while !rest.is_empty() {
            if rest == OTHERS {
                cursor.others = Some(Vec::new());
                break;
            }
            let room = *take(&mut rest, size_of::<Hash>())?.first_chunk()?;
            let length = usize::from(take(&mut rest, 1)?[0]);
            if length > EPOCH_MAX {
                return None;
            }
            let epoch: Arc<str> = str::from_utf8(take(&mut rest, length)?).ok()?.into();
            let seq = take_varint(&mut rest)?;
            cursor.rooms.push((room, Position { epoch, seq }));
        }
        Some(cursor)
    }

    /// What stands for a token that could not be read: no position in it fits any room.
    pub fn unreadable() -> Cursor {
        Cursor { rooms: Vec::new(), others: Some(Vec::new()) }
    }

    /// Where the client left off in a room; none if it was not in it, or the cursor has served it. The empty epoch, which no
    /// room has, stands for where nobody knows.
    pub fn position_for(&self, room: &str) -> Option<Position> {
        let wanted = hash(room);
        if let Some((_, position)) = self.rooms.iter().find(|(hash, _)| *hash == wanted) {
            return Some(position.clone());
        }
        let told = self.others.as_ref()?;
        (!told.contains(&wanted)).then(|| Position { epoch: "".into(), seq: 0 })
    }
}

/// False if it no longer fits.
fn push_room(bytes: &mut Vec<u8>, room: Hash, position: &Position) -> bool {
    if bytes.len() + size_of::<Hash>() + 1 + EPOCH_MAX + VARINT_MAX + OTHERS.len() > BYTES_MAX {
        return false;
    }
    bytes.extend_from_slice(&room);
    let epoch = if position.epoch.len() <= EPOCH_MAX { position.epoch.as_bytes() } else { b"" };
    bytes.push(epoch.len() as u8);
    bytes.extend_from_slice(epoch);
    push_varint(bytes, position.seq);
    true
}

fn hash(room: &str) -> Hash {
    let digest = Sha1::digest(room.as_bytes());
    let mut first = Hash::default();
    first.copy_from_slice(&digest[..size_of::<Hash>()]);
    first
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(n)?;
    *rest = left;
    Some(taken)
}

/// Seven bits a byte, the lowest first, as protobuf has it.
fn push_varint(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if shift == 63 && bits > 1 {
            return None;
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(epoch: &str, seq: u64) -> Position {
        Position { epoch: epoch.into(), seq }
    }

    #[test]
    fn knows_its_rooms_and_no_others() {
        let (general, chat) = (at("e-1", 42), at("", u64::MAX));
        let token = Cursor::encode([("general", &general), ("chat:1", &chat)]);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        let cursor = Cursor::decode(&token).unwrap();
        assert_eq!(cursor.position_for("general"), Some(general));
        assert_eq!(cursor.position_for("chat:1"), Some(chat));
        assert_eq!(cursor.position_for("other"), None);
    }

    #[test]
    fn what_was_brought_is_carried_on_until_it_is_used() {
        let (general, chat) = (at("e-1", 42), at("e-2", 7));
        let mut brought =
            Cursor::decode(&Cursor::encode([("general", &general), ("chat:1", &chat)])).unwrap();
        brought.forget("general");
        let newer = at("e-1", 43);
        let next = Cursor::decode(&Cursor::encode_with(Some(&brought), [("general", &newer)])).unwrap();
        assert_eq!((next.position_for("general"), next.position_for("chat:1")), (Some(newer), Some(chat)));
        brought.forget("chat:1");
        assert!(brought.is_empty());
        assert!(!Cursor::unreadable().is_empty());
    }

    #[test]
    fn a_session_without_rooms_has_a_cursor_too() {
        let cursor = Cursor::decode(&Cursor::encode([])).unwrap();
        assert_eq!(cursor.position_for("general"), None);
    }

    /// An unknown cursor is never taken for "caught up".
    #[test]
    fn an_unreadable_cursor_fits_no_room() {
        let mut cursor = Cursor::unreadable();
        assert_eq!(cursor.position_for("any"), Some(at("", 0)));
        cursor.forget("any");
        assert_eq!(cursor.position_for("any"), None, "it serves a room's first join");
        assert_eq!(cursor.position_for("other"), Some(at("", 0)));
        (0..OTHERS_MAX).for_each(|n| cursor.forget(&n.to_string()));
        assert!(cursor.is_empty(), "what is remembered is bounded");
    }

    #[test]
    fn garbage_is_unreadable() {
        let good = Cursor::encode([("general", &at("e", 300))]);
        let other_version = BASE64_URL_SAFE_NO_PAD.encode([2]);
        let long_epoch =
            BASE64_URL_SAFE_NO_PAD.encode([&[VERSION][..], &[0; 8], &[65], &[b'e'; 65], &[1]].concat());
        let endless_seq =
            BASE64_URL_SAFE_NO_PAD.encode([&[VERSION][..], &[0; 8], &[0], &[0xff; 10]].concat());
        let no_text = BASE64_URL_SAFE_NO_PAD.encode([&[VERSION][..], &[0; 8], &[1, 0xff, 0]].concat());
        let padded = format!("{good}=");
        let oversized = "A".repeat(TOKEN_MAX + 1);
        let cut = &good[..good.len() - 2];
        for bad in [
            "",
            "0",
            "hello world",
            "%2D",
            "é",
            cut,
            &padded,
            &other_version,
            &long_epoch,
            &endless_seq,
            &no_text,
            &oversized,
        ] {
            assert_eq!(Cursor::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_epoch_too_long_to_carry_is_not_recovered() {
        let token = Cursor::encode([("general", &at(&"e".repeat(EPOCH_MAX + 1), 9))]);
        assert_eq!(Cursor::decode(&token).unwrap().position_for("general"), Some(at("", 9)));
    }

    #[test]
    fn a_hundred_rooms_fit() {
        let rooms: Vec<(String, Position)> =
            (0..100).map(|n| (format!("room-{n}"), at("0123456789abcdef", 1 << 40))).collect();
        let token = Cursor::encode(rooms.iter().map(|(room, position)| (room.as_str(), position)));
        assert!(token.len() <= TOKEN_MAX, "{}", token.len());
        assert_eq!(
            Cursor::decode(&token).unwrap().position_for("room-99"),
            Some(at("0123456789abcdef", 1 << 40))
        );
    }

    /// What does not fit is not forgotten in silence, over however many connections it has piled up.
    #[test]
    fn a_token_is_never_longer_than_what_is_read_and_says_what_it_left_out() {
        let at = at("0123456789abcdef-0123456789.12", 1 << 40);
        let names: Vec<String> = (0..1000).map(|n| format!("room-{n}")).collect();
        let rooms = |range: std::ops::Range<usize>| names[range].iter().map(|name| (name.as_str(), &at));
        let first = Cursor::decode(&Cursor::encode(rooms(0..100))).unwrap();
        let token = Cursor::encode_with(Some(&first), rooms(100..200));
        assert!(token.len() <= TOKEN_MAX, "{}", token.len());
        let cursor = Cursor::decode(&token).unwrap();
        let known = |name: &str| cursor.position_for(name);
        assert_eq!((known("room-100"), known("room-199")), (Some(at.clone()), Some(at.clone())));
        assert_eq!(
            known("room-99"),
            Some(Position { epoch: "".into(), seq: 0 }),
            "told that it is not recovered"
        );
        let again = Cursor::decode(&Cursor::encode_with(Some(&cursor), [])).unwrap();
        assert_eq!(again, cursor);
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(rooms in prop::collection::hash_map("[a-z~:]{1,20}", ("[ -~é]{0,24}", any::<u64>()), 0..20)) {
            let rooms: Vec<(String, Position)> = rooms.into_iter().map(|(room, (epoch, seq))| (room, at(&epoch, seq))).collect();
            let token = Cursor::encode(rooms.iter().map(|(room, position)| (room.as_str(), position)));
            let cursor = Cursor::decode(&token).unwrap();
            for (room, position) in rooms {
                prop_assert_eq!(cursor.position_for(&room), Some(position));
            }
        }

        #[test]
        fn never_panics(token in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Cursor::decode(&token);
            let _ = Cursor::decode(&BASE64_URL_SAFE_NO_PAD.encode([&[VERSION], &bytes[..]].concat()));
        }
    }
}
