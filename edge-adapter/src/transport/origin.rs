//! Which pages may connect. A browser lets any page open a WebSocket to any host and says only where the page came
//! from, so without this check a strange page could act with its visitor's rights.
use crate::config::Config;
use crate::transport::problem::Problem;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode, Uri};

/// Whether a request may come from where it says. No `Origin` means no browser, or a page of the same origin that only reads: allowed.
pub fn allowed(config: &Config, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    if config.allowed_origins.iter().any(|allowed| allowed == "*") {
        return true;
    }
    let (Ok(origin), None) = (origin.to_str(), origins.next()) else { return false };
    if config.allowed_origins.iter().any(|allowed| allowed == origin) {
        return true;
    }
    let Some((scheme, authority)) = split(origin) else { return false };
    host(uri, headers).is_some_and(|host| is_same(scheme, authority, host))
        || (config.allow_local_origins && is_local(authority))
}

/// What a page is told that may not.
pub fn foreign() -> Problem {
    let detail = "pages of this origin may not connect; see --allowed-origins";
    Problem::new(StatusCode::FORBIDDEN, "permission_denied", detail)
}

/// The host that was asked. HTTP/2 and absolute URIs name it in the URI.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let host = uri.authority().map(|authority| authority.as_str());
    host.or_else(|| headers.get(HOST)?.to_str().ok())
}

/// Scheme and `host[:port]`; only http and https have them.
fn split(origin: &str) -> Option<(&str, &str)> {
    let (scheme, authority) = origin.split_once("://")?;
    matches!(scheme, "http" | "https").then_some((scheme, authority))
}

/// The scheme is not compared, since TLS may end at a proxy before the edge; a default port may stand or be left out.
fn is_same(scheme: &str, authority: &str, host: &str) -> bool {
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let plain =
        |authority: &str| authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase();
    plain(authority) == plain(host)
}

fn is_local(authority: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].into_iter().any(|local| match authority.strip_prefix(local) {
        Some("") => true,
        Some(rest) => rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing;
    use http::HeaderValue;

    fn headers(host: &'static str, origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers
    }

    /// Each row: `Host`, `Origin`, allowed by itself, allowed with local origins, allowed with a list.
    #[test]
    fn table_of_origins() {
        let table = [
            ("hearth.test", "https://hearth.test", true, true, true),
            ("hearth.test", "http://HEARTH.test", true, true, true),
            ("hearth.test:443", "https://hearth.test", true, true, true),
            ("hearth.test:8080", "http://hearth.test:8080", true, true, true),
            ("hearth.test:8080", "http://hearth.test:9090", false, false, false),
            ("hearth.test:443", "http://hearth.test", false, false, false),
            ("hearth.test", "https://evil.test", false, false, false),
            ("hearth.test", "https://hearth.test.evil.test", false, false, false),
            ("hearth.test", "https://app.test", false, false, true),
            ("hearth.test", "http://app.test", false, false, false),
            ("hearth.test", "https://app.test:444", false, false, false),
            ("127.0.0.1:8080", "http://localhost:5173", false, true, false),
            ("127.0.0.1:8080", "https://127.0.0.1", false, true, false),
            ("127.0.0.1:8080", "http://[::1]:3000", false, true, false),
            ("127.0.0.1:8080", "http://localhost.evil.test", false, false, false),
            ("127.0.0.1:8080", "http://localhost:1.evil.test", false, false, false),
            ("127.0.0.1:8080", "http://localhost@evil.test", false, false, false),
            ("127.0.0.1:8080", "ftp://localhost", false, false, false),
            ("127.0.0.1:8080", "null", false, false, false),
            ("127.0.0.1:8080", "", false, false, false),
        ];
        let strict = testing::config();
        let local = Config { allow_local_origins: true, ..testing::config() };
        let listed = Config { allowed_origins: vec!["https://app.test".into()], ..testing::config() };
        let any = Config { allowed_origins: vec!["*".into()], ..testing::config() };
        let uri = Uri::from_static("/ws");
        for (host, origin, by_itself, with_local, with_list) in table {
            let headers = headers(host, origin);
            let found = [&strict, &local, &listed, &any].map(|config| allowed(config, &uri, &headers));
            assert_eq!(found, [by_itself, with_local, with_list, true], "{origin} on {host}");
        }
    }

    #[test]
    fn no_origin_is_no_browser_and_two_are_a_trick() {
        let (config, uri) = (testing::config(), Uri::from_static("/ws"));
        assert!(allowed(&config, &uri, &HeaderMap::new()));
        let mut two = headers("hearth.test", "https://hearth.test");
        two.append(ORIGIN, HeaderValue::from_static("https://evil.test"));
        assert!(!allowed(&config, &uri, &two));
    }

    #[test]
    fn over_http2_the_host_stands_in_the_uri() {
        let uri = Uri::from_static("http://hearth.test:8080/ws");
        let mut headers = headers("evil.test", "http://hearth.test:8080");
        assert!(allowed(&testing::config(), &uri, &headers));
        headers.insert(ORIGIN, HeaderValue::from_static("http://evil.test"));
        assert!(!allowed(&testing::config(), &uri, &headers));
    }
}
