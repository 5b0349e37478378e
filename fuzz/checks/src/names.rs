//! Names, against the contract's grammar said again character by character.
use hearth_proto::name::{self, BadName};

/// A room, a user or an id: whatever the text is, each of the three rules is held against its plain form.
pub fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let outcome = |fits: bool, otherwise| if fits { Ok(()) } else { Err(otherwise) };
    assert_eq!(name::room(text), outcome(is_room(text), BadName::Room));
    assert_eq!(name::user(text), outcome(is_user(text), BadName::User));
    assert_eq!(name::id(text), outcome(is_id(text), BadName::Id));
    if is_room(text) {
        let namespace = match (text.starts_with('~'), text.find(':')) {
            (true, _) => "~",
            (false, Some(colon)) => &text[..colon],
            (false, None) => "default",
        };
        assert_eq!(name::namespace(text), namespace);
        assert_eq!(
            name::personal(text).map(|user| format!("~{user}")),
            (namespace == "~").then(|| text.into())
        );
    }
}

/// `[A-Za-z0-9~][A-Za-z0-9._:~@|+=-]{0,127}`
pub(crate) fn is_room(text: &str) -> bool {
    const FIRST: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789~";
    const MORE: &str = "._:@|+=-";
    let count = text.chars().count();
    (1..=128).contains(&count)
        && text.chars().enumerate().all(|(at, c)| FIRST.contains(c) || (at > 0 && MORE.contains(c)))
}

/// 1 to 128 bytes of UTF-8 without control characters, which Unicode has in two blocks.
fn is_user(text: &str) -> bool {
    let control = |c: char| matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}');
    (1..=128).contains(&text.len()) && !text.chars().any(control)
}

/// 1 to 256 characters.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=256).contains(&text.chars().count())
}
