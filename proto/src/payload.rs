//! What a payload may be: checked once at each door, opaque from there on.
//!
//! A JSON payload leaves here as one JSON object on one line: line breaks between tokens are gone,
//! every spelling of a top-level `author` is dropped, and everything else is as it was sent, to the
//! letter (numbers keep their digits, strings their escapes). Whoever shows it may put the server's
//! `author` in by [`with_author`], without parsing.
use serde_json::value::RawValue;
use thiserror::Error;

/// How deep JSON may nest, the envelope included.
pub const DEPTH_MAX: usize = 64;

/// A payload that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadPayload {
    /// Not JSON at all.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// JSON, but no object.
    #[error("data must be a JSON object")]
    NotAnObject,
    /// Nested too deep.
    #[error("JSON may be at most {DEPTH_MAX} deep")]
    TooDeep,
}

/// Checks that a text nests at most [`DEPTH_MAX`] deep. It need not be valid JSON.
pub fn depth(text: &str) -> Result<(), BadPayload> {
    depth_below(text, 0)
}

/// The same for what comes without the envelope that browsers write around it: `above` levels are not there.
pub fn depth_below(text: &str, above: usize) -> Result<(), BadPayload> {
    let mut depth = above;
    let mut scan = Scan::new(text);
    while let Some((byte, _)) = scan.next_structural() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(BadPayload::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Checks a payload that came as text of its own, as by gRPC.
pub fn check(text: &str) -> Result<String, BadPayload> {
    depth_below(text, 1)?;
    let valid: &RawValue =
        serde_json::from_str(text).map_err(|error| BadPayload::Syntax(error.to_string()))?;
    check_valid(valid.get())
}

/// Checks a payload that is already known to be valid JSON no deeper than allowed, as when it was cut out
/// of an envelope that has been parsed.
pub fn check_valid(text: &str) -> Result<String, BadPayload> {
    if !text.starts_with('{') {
        return Err(BadPayload::NotAnObject);
    }
    let mut out = String::with_capacity(text.len());
    out.push('{');
    let mut empty = true;
    for member in Members::of(text) {
        if member.is_author() {
            continue;
        }
        if !empty {
            out.push(',');
        }
        empty = false;
        push_on_one_line(&mut out, member.text);
    }
    out.push('}');
    Ok(out)
}

/// Checks a presence meta: an object as a payload is, but nothing in it is the server's, so it may well have an `author`.
pub fn check_meta(text: &str) -> Result<String, BadPayload> {
    depth_below(text, 2)?;
    let valid: &RawValue =
        serde_json::from_str(text).map_err(|error| BadPayload::Syntax(error.to_string()))?;
    meta_on_one_line(valid.get())
}

/// The same for text that is already known to be valid JSON no deeper than allowed.
pub fn meta_on_one_line(text: &str) -> Result<String, BadPayload> {
    if !text.starts_with('{') {
        return Err(BadPayload::NotAnObject);
    }
    let mut out = String::with_capacity(text.len());
    push_on_one_line(&mut out, text);
    Ok(out)
}

/// What a sign of typing says; none if it is none.
pub fn typing(json: &[u8]) -> Option<bool> {
    #[derive(serde::Deserialize)]
    struct Typing {
        active: bool,
    }
    // Else serde would take an array for the members in order.
    let object = json.starts_with(b"{");
    object.then(|| serde_json::from_slice::<Typing>(json).ok()).flatten().map(|typing| typing.active)
}

/// Writes a checked payload with the server's author stamped in. `author` is a JSON string, quotes included.
pub fn with_author(out: &mut Vec<u8>, checked: &[u8], author: &[u8]) {
    debug_assert!(checked.starts_with(b"{") && checked.ends_with(b"}"));
    let body = &checked[..checked.len() - 1];
    out.extend_from_slice(body);
    if body.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(b"\"author\":");
    out.extend_from_slice(author);
    out.push(b'}');
}

/// Walks over JSON's punctuation, passing over what stands inside strings.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0 }
    }

    /// The next byte that is outside of strings, and where it stands. A string counts as its opening quote.
    fn next_structural(&mut self) -> Option<(u8, usize)> {
        let at = self.at;
        let byte = *self.bytes.get(at)?;
        self.at += 1;
        if byte == b'"' {
            while let Some(inner) = self.bytes.get(self.at) {
                self.at += 1;
                match inner {
                    b'\\' => self.at += 1,
                    b'"' => break,
                    _ => {}
                }
            }
        }
        Some((byte, at))
    }
}

/// One `"key": value` of an object, as it was spelled.
struct Member<'a> {
    text: &'a str,
    key: &'a str,
}

impl Member<'_> {
    fn is_author(&self) -> bool {
        // An escape can spell any letter; only then is the key worth parsing.
        self.key == "\"author\""
            || (self.key.contains('\\')
                && serde_json::from_str::<String>(self.key).is_ok_and(|key| key == "author"))
    }
}

/// The members of a valid JSON object, in order.
struct Members<'a> {
    text: &'a str,
    scan: Scan<'a>,
}

impl<'a> Members<'a> {
    fn of(text: &'a str) -> Self {
        let mut scan = Scan::new(text);
        scan.at = 1;
        Self { text, scan }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let start = self.scan.at;
        let mut key = None;
        let mut depth = 0usize;
        loop {
            let (byte, at) = self.scan.next_structural()?;
            match byte {
                b'"' if key.is_none() => key = Some(at..self.scan.at),
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                b',' | b'}' if depth == 0 => {
                    let key = &self.text[key?];
                    return Some(Member { text: self.text[start..at].trim(), key });
                }
                _ => {}
            }
        }
    }
}

/// Copies valid JSON, leaving out the line breaks between its tokens (inside strings there are none).
fn push_on_one_line(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte == b'\n' || byte == b'\r') {
        out.extend(text.chars().filter(|c| *c != '\n' && *c != '\r'));
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_everything_but_author_and_line_breaks() {
        let cases = [
            ("{}", "{}"),
            (" { } ", "{}"),
            (r#"{"a":1.00e5,"b":"\u00e9\/"}"#, r#"{"a":1.00e5,"b":"\u00e9\/"}"#),
            ("{\"a\" :\n [1,\r\n 2] ,\n\"b\":{}}", r#"{"a" : [1, 2],"b":{}}"#),
            (r#"{"author":"me","x":1}"#, r#"{"x":1}"#),
            (r#"{"x":1,"author":{"author":[1,"}"]}}"#, r#"{"x":1}"#),
            (r#"{"\u0061uthor":1,"auth\u006Fr":2,"author":3}"#, "{}"),
            (r#"{"a":{"author":1},"Author":2,"author ":3}"#, r#"{"a":{"author":1},"Author":2,"author ":3}"#),
            (r#"{"a":"{\"author\":1,}","author":2}"#, r#"{"a":"{\"author\":1,}"}"#),
            (r#"{"a\ud800":1}"#, r#"{"a\ud800":1}"#),
            (r#"{"a":"\\","author":1}"#, r#"{"a":"\\"}"#),
        ];
        for (sent, kept) in cases {
            assert_eq!(check(sent).as_deref(), Ok(kept), "{sent}");
        }
    }

    #[test]
    fn refuses() {
        for text in ["[]", "1", "\"{}\"", "null", "true"] {
            assert_eq!(check(text), Err(BadPayload::NotAnObject), "{text}");
        }
        for text in
            ["", "{", "{]", "{\"a\"}", "{\"a\":1,}", "{} {}", "{\"a\":\"\n\"}", "\u{feff}{}", "{'a':1}"]
        {
            assert!(matches!(check(text), Err(BadPayload::Syntax(_))), "{text:?}");
        }
    }

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
        assert!(check(&nested(DEPTH_MAX - 1)).is_ok(), "the envelope is one level");
        assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(BadPayload::TooDeep));
        assert!(check(&format!("{{\"a\":\"{}\"}}", "[".repeat(1000))).is_ok());
        assert_eq!(depth(&"[".repeat(1_000_000)), Err(BadPayload::TooDeep));
    }

    #[test]
    fn author_is_spliced_in() {
        let splice = |payload: &str| {
            let mut out = Vec::new();
            with_author(&mut out, payload.as_bytes(), b"\"bob\"");
            String::from_utf8(out).unwrap()
        };
        assert_eq!(splice("{}"), r#"{"author":"bob"}"#);
        assert_eq!(splice(r#"{"a":1}"#), r#"{"a":1,"author":"bob"}"#);
    }

    proptest! {
        /// Whatever is let through is one object on one line, without a top-level author, and says the same.
        #[test]
        fn what_passes_is_sound(text in r#"[ \n]?\{("(author|\\u0061uthor|x|\\n)" ?: ?(1|"a\\"b"|\{"author":\[\]\}|\[1,\n2\])\n?,?){0,4}\}"#) {
            let whole: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&text);
            match (check(&text), whole) {
                (Ok(kept), Ok(mut whole)) => {
                    prop_assert!(!kept.contains('\n'));
                    whole.remove("author");
                    let again: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&kept).unwrap();
                    prop_assert_eq!(again, whole);
                }
                (Err(_), Err(_)) => {}
                (checked, whole) => prop_assert!(false, "{:?} against {:?}", checked, whole),
            }
        }

        #[test]
        fn never_panics(text in ".{0,64}") {
            let _ = check(&text);
            let _ = check_valid(&text);
        }
    }
}
