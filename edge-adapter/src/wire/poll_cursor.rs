//! The cursor of a long-poll: whose session it is, how much of it the client has, and the positions of its rooms, so that any edge can go
//! on where another left off.
//!
//! Two parts in URL-safe base64 with a dot between: a version byte, how many messages the client has been given (8 bytes), the session's
//! id and the user, each behind a length byte; and the [`Cursor`] of the rooms.
use crate::wire::cursor::Cursor;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use std::str;

/// The only version there is.
const VERSION: u8 = 1;
/// The longest first part that is looked at: id and user fit, twice.
const PART_MAX: usize = 1024;

/// What the first part says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollCursor {
    /// The session's id.
    pub session: String,
    /// Its user.
    pub user: String,
    /// How many of its messages the client has been given.
    pub given: u64,
    /// Where it is in its rooms.
    pub rooms: Cursor,
}

impl PollCursor {
    /// Writes a token; `rooms` is a [`Cursor`]'s.
    pub fn encode(session: &str, user: &str, given: u64, rooms: &str) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&given.to_be_bytes());
        for text in [session, user] {
            // Ids are ours, and users are at most 128 bytes.
            bytes.push(text.len().min(255) as u8);
            bytes.extend_from_slice(&text.as_bytes()[..text.len().min(255)]);
        }
        format!("{}.{rooms}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token. None for anything that was not written here.
    pub fn decode(token: &str) -> Option<PollCursor> {
        let (first, rooms) = token.split_once('.')?;
        if first.len() > PART_MAX {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(first).ok()?;
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        let (given, rest) = rest.split_first_chunk()?;
        let (session, rest) = text(rest)?;
        let (user, []) = text(rest)? else { return None };
        Some(PollCursor { session, user, given: u64::from_be_bytes(*given), rooms: Cursor::decode(rooms)? })
    }
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((str::from_utf8(text).ok()?.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Position;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back_as_it_was(session in "[A-Za-z0-9_-]{0,22}", user in "[ -~é]{0,60}", given: u64, seq: u64) {
            let at = Position { epoch: "e".into(), seq };
            let token = PollCursor::encode(&session, &user, given, &Cursor::encode([("r", &at)]));
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
            let cursor = PollCursor::decode(&token).unwrap();
            prop_assert_eq!((cursor.session, cursor.user, cursor.given), (session, user, given));
            prop_assert_eq!(cursor.rooms.position_for("r"), Some(at));
        }

        #[test]
        fn never_panics(token in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = PollCursor::decode(&token);
            let _ = PollCursor::decode(&format!("{}.AQ", BASE64_URL_SAFE_NO_PAD.encode([&[VERSION], &bytes[..]].concat())));
        }
    }

    #[test]
    fn garbage_is_unreadable() {
        let good = PollCursor::encode("s", "u", 1, &Cursor::encode([]));
        for bad in
            ["", ".", "x", &good[1..], &good.replace('.', ""), &format!("{good}!"), &good[..good.len() - 1]]
        {
            assert_eq!(PollCursor::decode(bad), None, "{bad}");
        }
    }
}
