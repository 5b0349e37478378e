//! What all doors read from a request, by the same rules whichever door it comes to.
use crate::config::Config;
use crate::fanout::callers::TOKEN;
use crate::fanout::newcomer::Guard;
use crate::session::request::Credentials;
use crate::transport::connections::Permit;
use crate::transport::problem::Problem;
use crate::transport::{origin, query, visitor};
use crate::wire::cursor::Cursor;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_proto::name::{self, BadName};
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The most rooms of one session that is named by a URL: a cursor of so many fits a header.
pub const ROOMS_MAX: usize = 32;

/// What stands for a token that cannot be read: one that nobody knows.
pub const NO_TOKEN: &str = "?";

/// Refuses pages that may not connect, and everything but `GET`.
pub fn admit(config: &Config, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if !origin::allowed(config, uri, headers) {
        return Err(origin::foreign());
    }
    if method != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    Ok(())
}

/// The rooms that a path behind `door` and a query name, each once. They are counted as they are named.
pub fn rooms(uri: &Uri, door: &str) -> Result<Vec<Arc<str>>, Problem> {
    let path = uri.path().strip_prefix(door).map(query::decode_path);
    let mut named = path.into_iter().chain(query::values(uri.query().unwrap_or_default(), "room"));
    let mut rooms: Vec<Arc<str>> = Vec::new();
    for room in named.by_ref().take(ROOMS_MAX) {
        let room = room.filter(|room| name::room(room).is_ok()).ok_or(BadName::Room)?;
        if !rooms.iter().any(|known| **known == *room) {
            rooms.push(room.into());
        }
    }
    if rooms.is_empty() || named.next().is_some() {
        return Err(Problem::invalid_argument(format!("name 1 to {ROOMS_MAX} rooms")));
    }
    Ok(rooms)
}

/// Who a caller says that it is: by `Authorization`, by a token in the URL, in dev mode by a name.
pub fn who(query: &str, headers: &HeaderMap) -> Result<Credentials, BadName> {
    let user = user(query)?;
    let token = bearer(headers)
        .or_else(|| query::value(query, "token").map(|token| token.unwrap_or(NO_TOKEN.into())));
    Ok(Credentials { user, token: None }.or_token(token.map(Into::into)))
}

/// The token of an `Authorization` header; one that cannot be read is a token that nobody knows.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next()?;
    let token = line.to_str().ok().and_then(|line| line.split_once(' ')).filter(|_| lines.next().is_none());
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Some(token.map_or(NO_TOKEN, |(_, token)| token.trim()).to_owned())
}

/// What tells requests of one caller from another's where nobody has said yet who that is. A token is not kept, so it stands there by its digest.
pub fn meter(who: &Credentials, dev_mode: bool) -> Option<String> {
    match &who.token {
        // In dev mode nobody looks at a token.
        Some(token) if !dev_mode => {
            Some(format!("{TOKEN}{}", URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))))
        }
        _ => who.user.as_deref().map(str::to_owned),
    }
}

/// In dev mode, the name that a caller gives itself.
fn user(query: &str) -> Result<Option<Box<str>>, BadName> {
    let Some(user) = query::value(query, "user") else { return Ok(None) };
    user.filter(|user| name::user(user).is_ok()).map(|user| Some(user.into())).ok_or(BadName::User)
}

/// A cursor; one that cannot be read is no error, its bearer is told to begin anew.
pub fn cursor(token: Option<&str>) -> Cursor {
    token.and_then(Cursor::decode).unwrap_or_else(Cursor::unreadable)
}

/// A whole number in a query; a sign is none of it.
pub fn number(query: &str, name: &'static str) -> Result<Option<u64>, Problem> {
    let Some(value) = query::value(query, name) else { return Ok(None) };
    let digits = value.filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.map(Some).ok_or_else(|| Problem::invalid_argument(format!("{name} must be a whole number")))
}

/// The connection that a request came by.
pub fn permit(extensions: &Extensions) -> Option<Arc<Permit>> {
    extensions.get::<Arc<Permit>>().cloned()
}

/// What a session takes along of its connection.
pub fn guard(extensions: &Extensions) -> Option<Guard> {
    visitor::of(extensions).map(|visitor| visitor.clone() as Guard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_come_from_path_and_query_each_once() {
        let rooms = |uri: &str| rooms(&uri.parse().unwrap(), "/poll/").ok().map(|rooms| rooms.join(" "));
        assert_eq!(rooms("/poll/a?room=b&room=a&room=c%3A1").as_deref(), Some("a b c:1"));
        assert_eq!(rooms("/poll?room=a").as_deref(), Some("a"));
        let many = |count: usize| (0..count).map(|n| format!("&room=r{n}")).collect::<String>();
        assert!(rooms(&format!("/poll?{}", many(ROOMS_MAX))).is_some());
        for bad in ["/poll", "/poll/", "/poll/a%20b", "/poll/a?room=", "/poll/a?room=%ff"] {
            assert_eq!(rooms(bad), None, "{bad}");
        }
        assert_eq!(rooms(&format!("/poll/a?{}", many(ROOMS_MAX))), None);
        assert_eq!(rooms(&format!("/poll/r0?{}", many(ROOMS_MAX))), None, "one is named twice");
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(number("a=1&limit=07", "limit").unwrap(), Some(7));
        assert_eq!(number("a=1", "limit").unwrap(), None);
        for bad in
            ["limit=", "limit=-1", "limit=%2B1", "limit=1.0", "limit=18446744073709551616", "limit=%ff"]
        {
            assert!(number(bad, "limit").is_err(), "{bad}");
        }
    }
}
