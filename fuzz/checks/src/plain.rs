//! JSON said again plainly: slow, simple, and not by the code that is checked.
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};
use std::fmt;

/// The members of an object in order, as often as they stand there; what serde's own maps would make one of.
pub(crate) struct Members(pub(crate) Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// The members of a text that is an object.
pub(crate) fn members(text: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    serde_json::from_str(text).ok().map(|Members(members)| members)
}

/// Whether a text is an object. Its keys may have halves of surrogate pairs, which [`members`] cannot hold.
pub(crate) fn is_object(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok_and(|valid| valid.get().starts_with('{'))
}

/// How deep valid JSON nests.
pub(crate) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for c in outside_strings(text) {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Valid JSON without the blanks between its tokens; all else to the letter.
pub(crate) fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
        } else if matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

/// The members of a compact object, each `"key":value` as it was spelled.
pub(crate) fn spelled_members(compact: &str) -> Vec<&str> {
    let inner = &compact[1..compact.len() - 1];
    let mut cuts = vec![0];
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for (at, c) in inner.char_indices() {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => cuts.push(at + 1),
            _ => {}
        }
    }
    cuts.push(inner.len() + 1);
    let parts = cuts.windows(2).map(|cut| &inner[cut[0]..cut[1] - 1]);
    parts.filter(|member| !member.is_empty()).collect()
}

/// Whether a spelled member is an `author`, in any spelling.
pub(crate) fn is_author(member: &str) -> bool {
    let mut key = serde_json::Deserializer::from_str(member).into_iter::<Value>();
    matches!(key.next(), Some(Ok(Value::String(key))) if key == "author")
}

fn outside_strings(text: &str) -> impl Iterator<Item = char> {
    let (mut in_string, mut escaped) = (false, false);
    text.chars().filter(move |&c| {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            return false;
        }
        in_string = c == '"';
        !in_string
    })
}
