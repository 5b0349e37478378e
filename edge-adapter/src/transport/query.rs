//! Reads percent-encoding, once and strictly: what is not UTF-8 is nothing, instead of being read as something else.

/// Decodes a path segment. None if an escape is broken or the bytes are not UTF-8.
pub fn decode_path(text: &str) -> Option<String> {
    decode(text, false)
}

/// The first value of `name` in a query, decoded as forms are (`+` is a space). `Some(None)` is a value that
/// cannot be read; None is no such name.
pub fn value(query: &str, name: &str) -> Option<Option<String>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key, true)? == name).then(|| decode(value, true))
    })
}

/// All values of `name`, as [`value`] has them.
pub fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Option<String>> + 'a {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key, true)? == name).then(|| decode(value, true))
    })
}

fn decode(text: &str, form: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if form => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        let table = [
            ("general", Some("general")),
            ("chat%3A1", Some("chat:1")),
            ("a%2Fb", Some("a/b")),
            ("a%2520b", Some("a%20b")),
            ("a+b", Some("a+b")),
            ("Zo%C3%AB", Some("Zoë")),
            ("%ff", None),
            ("%", None),
            ("%4", None),
            ("%4g", None),
            ("%+1", None),
        ];
        for (text, expected) in table {
            assert_eq!(decode_path(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn queries_give_the_first_value_of_a_name() {
        let query = "user=Zo%C3%AB+L&since=&x&bad=%ff&user=second&%75ser2=u";
        let read = |name| value(query, name);
        assert_eq!(read("user"), Some(Some("Zoë L".into())));
        assert_eq!(read("since"), Some(Some(String::new())));
        assert_eq!(read("x"), Some(Some(String::new())));
        assert_eq!(read("bad"), Some(None));
        assert_eq!(read("user2"), Some(Some("u".into())));
        assert_eq!(read("token"), None);
    }
}
