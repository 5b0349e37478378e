//! Payloads: what passes is one object on one line, without an author, and otherwise to the letter what was sent.
use crate::plain;
use hearth_proto::payload::{self, BadPayload, DEPTH_MAX};
use serde_json::value::RawValue;

/// A payload of its own, a meta, and a sign of typing.
pub fn payload(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let valid = serde_json::from_str::<&RawValue>(text).map(RawValue::get).ok();
    let is_object = plain::is_object(text);
    let fits = |above: usize| is_object && plain::depth(text) + above <= DEPTH_MAX;

    match payload::check(text) {
        Ok(kept) => {
            assert!(fits(1), "not to be let through");
            sound(&kept, text);
            assert_eq!(payload::check(&kept).as_ref(), Ok(&kept), "what is checked stays as it is");
            stamped(&kept);
        }
        Err(BadPayload::TooDeep) => assert!(!fits(1)),
        Err(BadPayload::Syntax(why)) => {
            // What is told must not grow with what was sent.
            assert!(valid.is_none() && why.len() < 200, "{why}");
        }
        Err(BadPayload::NotAnObject) => assert!(valid.is_some() && !is_object),
    }
    match payload::check_meta(text) {
        Ok(kept) => {
            assert!(fits(2));
            assert!(!kept.contains(['\n', '\r']));
            assert_eq!(plain::compact(&kept), plain::compact(text));
        }
        Err(_) => assert!(!fits(2)),
    }
    if let Some(active) = payload::typing(data) {
        let members = plain::members(text).unwrap_or_default();
        let said: Vec<&str> =
            members.iter().filter(|(key, _)| key == "active").map(|(_, value)| value.get()).collect();
        assert_eq!(said, [if active { "true" } else { "false" }]);
    }
}

/// Holds a checked payload against the text that it was made of.
pub(crate) fn sound(kept: &str, sent: &str) {
    assert!(!kept.contains(['\n', '\r']), "one line");
    assert!(plain::is_object(kept), "an object");
    let (sent, kept) = (plain::compact(sent), plain::compact(kept));
    let wanted: Vec<&str> =
        plain::spelled_members(&sent).into_iter().filter(|member| !plain::is_author(member)).collect();
    assert_eq!(plain::spelled_members(&kept), wanted, "every member but an author, to the letter");
}

/// With the server's author in it, it has that one and no other.
fn stamped(kept: &str) {
    let mut out = Vec::new();
    payload::with_author(&mut out, kept.as_bytes(), br#""the server's""#);
    let out = String::from_utf8(out).unwrap_or_default();
    assert!(plain::is_object(&out));
    let members = plain::spelled_members(&out);
    let authors: Vec<&&str> = members.iter().filter(|member| plain::is_author(member)).collect();
    assert_eq!(authors, [&r#""author":"the server's""#]);
}
