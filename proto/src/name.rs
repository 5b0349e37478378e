//! How rooms, users and ids are spelled. Every door checks by these, so that a bad name is refused
//! everywhere alike.
use thiserror::Error;

/// The longest room name, in bytes.
pub const ROOM_MAX: usize = 128;
/// The longest user name, in bytes of UTF-8.
pub const USER_MAX: usize = 128;
/// The longest idempotency key, in characters.
pub const ID_MAX: usize = 256;

/// A name that is none; the text says which rule it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadName {
    /// A room's name.
    #[error("a room is named by 1 to 128 of A-Z a-z 0-9 . _ : ~ @ | + = -, the first a letter, a digit or ~")]
    Room,
    /// A user's name.
    #[error("a user is named by 1 to 128 bytes of UTF-8 without control characters")]
    User,
    /// An idempotency key.
    #[error("an id is a string of 1 to 256 characters")]
    Id,
}

/// Checks a room's name: `[A-Za-z0-9~][A-Za-z0-9._:~@|+=-]{0,127}`.
pub fn room(name: &str) -> Result<(), BadName> {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'~';
    let rest = |b: u8| first(b) || b"._:@|+=-".contains(&b);
    match name.as_bytes() {
        [head, tail @ ..] if name.len() <= ROOM_MAX && first(*head) && tail.iter().all(|b| rest(*b)) => {
            Ok(())
        }
        _ => Err(BadName::Room),
    }
}

/// Checks a user's name.
pub fn user(name: &str) -> Result<(), BadName> {
    let fits = !name.is_empty() && name.len() <= USER_MAX;
    if fits && !name.chars().any(char::is_control) { Ok(()) } else { Err(BadName::User) }
}

/// Checks an idempotency key.
pub fn id(id: &str) -> Result<(), BadName> {
    let fits = !id.is_empty() && (id.len() <= ID_MAX || id.chars().nth(ID_MAX).is_none());
    if fits { Ok(()) } else { Err(BadName::Id) }
}

/// The part of a room's name that settings and permissions are chosen by.
pub fn namespace(room: &str) -> &str {
    if room.starts_with('~') {
        return "~";
    }
    room.split_once(':').map_or("default", |(namespace, _)| namespace)
}

/// The user whose personal room this is.
pub fn personal(room: &str) -> Option<&str> {
    room.strip_prefix('~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms() {
        let longest = "r".repeat(ROOM_MAX);
        for good in ["general", "~alice", "0", "chat:room.1_2~x@y|z+a=b-c", &longest] {
            assert_eq!(room(good), Ok(()), "{good}");
        }
        let too_long = "r".repeat(ROOM_MAX + 1);
        for bad in ["", "-x", ".x", ":x", "@x", "a b", "a/b", "ä", "a\n", "a\0", "a%20", "a,b", &too_long] {
            assert_eq!(room(bad), Err(BadName::Room), "{bad:?}");
        }
    }

    #[test]
    fn users() {
        for good in ["u", "Zoë 🙂", "a b", &"x".repeat(USER_MAX)] {
            assert_eq!(user(good), Ok(()), "{good}");
        }
        for bad in ["", "a\nb", "a\u{7f}", "\u{85}", &"ä".repeat(USER_MAX / 2 + 1)] {
            assert_eq!(user(bad), Err(BadName::User), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_counted_in_characters() {
        assert_eq!(id(&"ä".repeat(ID_MAX)), Ok(()));
        assert_eq!(id(&"ä".repeat(ID_MAX + 1)), Err(BadName::Id));
        assert_eq!(id(""), Err(BadName::Id));
    }

    #[test]
    fn namespaces() {
        assert_eq!(namespace("general"), "default");
        assert_eq!(namespace("chat:a:b"), "chat");
        assert_eq!(namespace("~al:ice"), "~");
        assert_eq!(personal("~alice"), Some("alice"));
        assert_eq!(personal("alice"), None);
    }
}
