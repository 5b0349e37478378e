//! Cursors: what is read is what would be written, and what was written is read again.
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hearth_edge::wire::{cursor::Cursor, event::Position, poll_cursor::PollCursor};

/// From so many bytes on rooms may be left out when the cursor is written anew.
const ROOMY: usize = 4096;

/// A token that a client brings, and the same bytes as rooms and positions that are written.
pub fn cursor(data: &[u8]) {
    if let Ok(token) = std::str::from_utf8(data) {
        streams_token(token);
        polls_token(token);
    }
    // As base64 most bytes are garbage: this way the fuzzer gets behind it.
    streams_token(&BASE64_URL_SAFE_NO_PAD.encode(data));
    written(data);
}

fn streams_token(token: &str) {
    let Some(cursor) = Cursor::decode(token) else { return };
    let again = Cursor::encode_with(Some(&cursor), []);
    assert!(again.len() <= 8 * 1024, "what is written can be read");
    let again = Cursor::decode(&again);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
    // A room whose name has the hash 0 and that stands last is taken for "others": it is not recovered, as an unknown one is not.
    let is_odd = bytes.windows(8).any(|hash| hash == [0; 8]);
    if token.len() < ROOMY && !is_odd {
        assert_eq!(again.as_ref(), Some(&cursor));
    }
    // An epoch is never longer than a core gives, whatever it was made of.
    let mut cursor = cursor;
    for room in ["", "r", "general"] {
        let known = cursor.position_for(room);
        assert!(known.is_none_or(|position| position.epoch.len() <= 64));
        cursor.forget(room);
        assert_eq!(cursor.position_for(room), None, "it serves one join");
    }
}

fn polls_token(token: &str) {
    let Some(PollCursor { session, user, given, rooms }) = PollCursor::decode(token) else { return };
    let (_, tail) = token.split_once('.').unwrap_or_default();
    let again = PollCursor::encode(&session, &user, given, tail);
    assert_eq!(PollCursor::decode(&again), Some(PollCursor { session, user, given, rooms }));
}

/// A list of rooms and positions out of any bytes: each a length, a name, a length, an epoch and a seq.
fn written(data: &[u8]) {
    let mut rest = data;
    let mut rooms: Vec<(String, Position)> = Vec::new();
    while rooms.len() < 40
        && let Some((room, epoch, seq)) = next(&mut rest)
    {
        rooms.push((room, Position { epoch: epoch.into(), seq }));
    }
    let token = Cursor::encode(rooms.iter().map(|(room, position)| (room.as_str(), position)));
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    let cursor = Cursor::decode(&token);
    assert!(cursor.is_some(), "what is written can be read");
    let Some(cursor) = cursor else { return };
    for (nth, (room, position)) in rooms.iter().enumerate() {
        let is_first = rooms[..nth].iter().all(|(other, _)| other != room);
        let carried = if position.epoch.len() <= 64 { position.epoch.clone() } else { "".into() };
        if is_first {
            let expected = Position { epoch: carried, seq: position.seq };
            assert_eq!(cursor.position_for(room), Some(expected));
        }
    }
    assert_eq!(cursor.position_for("a room that no bytes name, being longer than those are"), None);
    let poll = PollCursor::encode("a-session", "ann", 7, &token);
    let expected = PollCursor { session: "a-session".into(), user: "ann".into(), given: 7, rooms: cursor };
    assert_eq!(PollCursor::decode(&poll), Some(expected));
}

fn next(rest: &mut &[u8]) -> Option<(String, String, u64)> {
    let room = text(rest, 24)?;
    let epoch = text(rest, 80)?;
    let (seq, more) = rest.split_first_chunk::<8>()?;
    *rest = more;
    Some((room, epoch, u64::from_le_bytes(*seq)))
}

fn text(rest: &mut &[u8], longest: usize) -> Option<String> {
    let (length, more) = rest.split_first()?;
    let (text, more) = more.split_at_checked(usize::from(*length) % longest)?;
    *rest = more;
    Some(String::from_utf8_lossy(text).into_owned())
}
