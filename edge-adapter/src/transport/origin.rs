//! Which pages may connect. A browser lets any page open a WebSocket to any host and says only where the page came
//! from, so without this check a strange page could act with its visitor's rights.
use crate::config::Config;
use crate::transport::problem::Problem;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode, Uri};
use std::net::{IpAddr, SocketAddr};

/// Whether a request may come from where it says. No `Origin` means no browser: allowed.
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
    // A page of evil.test whose name was turned to 127.0.0.1 is of the same origin as what answers there.
    let is_trusted = |host: &str| !config.local_hosts_only || is_local(host) || is_address(host);
    host(uri, headers).is_some_and(|host| is_same(scheme, authority, host) && is_trusted(host))
        || (config.allow_local_origins && is_local(authority))
}

/// What a page is told that may not.
pub fn foreign() -> Problem {
    let detail = "pages of this origin may not connect; see --allowed-origins";
    Problem::new(StatusCode::FORBIDDEN, "permission_denied", detail)
}

/// Whether what is read without saying where from may be shown. To read, a page need not say so if it is of the same origin,
/// and on loopback a name that was turned here makes any page that; so there only local names are answered to, addresses, and what
/// was allowed.
pub fn host_allowed(config: &Config, uri: &Uri, headers: &HeaderMap) -> bool {
    let listed = |host: &str| {
        config.allowed_origins.iter().any(|allowed| {
            allowed == "*"
                || split(allowed).is_some_and(|(scheme, authority)| is_same(scheme, authority, host))
        })
    };
    // A browser always names one.
    !config.local_hosts_only
        || host(uri, headers).is_none_or(|host| is_local(host) || is_address(host) || listed(host))
}

/// What a session that only reads must pass: a page of the same origin need not name it.
pub fn may_read(config: &Config, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if !allowed(config, uri, headers) {
        return Err(foreign());
    }
    if !headers.contains_key(ORIGIN) && !host_allowed(config, uri, headers) {
        return Err(strange_host());
    }
    Ok(())
}

/// What is told to those who ask by a name that anybody could have turned here.
pub fn strange_host() -> Problem {
    let detail = "this edge is not known by that name; see --allowed-origins";
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

/// An address instead of a name: nobody but the user can have typed that.
fn is_address(host: &str) -> bool {
    host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
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

    /// A name that was turned to loopback under the browser's hands.
    #[test]
    fn on_loopback_without_tokens_only_local_hosts_are_the_same_origin() {
        let (uri, config) = (Uri::from_static("/ws"), Config { local_hosts_only: true, ..testing::config() });
        let table = [
            ("evil.test:8080", "http://evil.test:8080", false),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("192.0.2.1", "http://192.0.2.1", true),
            ("localhost:8080", "http://localhost:8080", true),
        ];
        for (host, origin, expected) in table {
            assert_eq!(allowed(&config, &uri, &headers(host, origin)), expected, "{origin} on {host}");
        }
        let listed = Config { allowed_origins: vec!["http://evil.test:8080".into()], ..config };
        assert!(allowed(&listed, &uri, &headers("evil.test:8080", "http://evil.test:8080")));

        // To read, such a page need not name its origin.
        let reads = |config: &Config, host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            host_allowed(config, &uri, &headers)
        };
        for (host, _, expected) in table {
            assert_eq!(reads(&config, host), expected, "{host}");
        }
        assert!(reads(&listed, "evil.test:8080") && !reads(&listed, "other.test:8080"));
        assert!(reads(&testing::config(), "evil.test:8080"), "elsewhere any name may be the edge's");
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
