//! What is served beside the rooms: the playground, health and metrics.
use crate::transport::problem::Problem;
use crate::transport::{Doors, api};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};

const PLAYGROUND: &str = include_str!("playground.html");

/// What the page cannot ask a person for, were it ever made to.
const NO_FEATURES: &str = "camera=(), geolocation=(), microphone=(), payment=(), usb=()";

/// Made once: the page does not change while the process runs.
static PLAYGROUND_HEADERS: LazyLock<[(HeaderName, HeaderValue); 6]> = LazyLock::new(|| {
    let policy =
        HeaderValue::try_from(content_security_policy(PLAYGROUND)).expect("base64 and words are a header");
    [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, policy),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        // It needs none of what a browser may be asked for.
        (HeaderName::from_static("permissions-policy"), HeaderValue::from_static(NO_FEATURES)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ]
});

/// The playground: a page to try rooms with.
#[utoipa::path(get, path = "/", tag = "pages", responses(
    (status = 200, description = "The page", body = String, content_type = "text/html"),
    api::NotFound,
    api::PageRefused,
))]
pub async fn playground(State(doors): State<Arc<Doors>>) -> Response {
    if !doors.config.playground.unwrap_or_else(|| (doors.dev_mode)()) {
        return Problem::not_found().into_response();
    }
    (PLAYGROUND_HEADERS.clone(), PLAYGROUND).into_response()
}

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "pages", responses(
    (status = 200, description = "It does", body = String, content_type = "text/plain"),
    api::PageRefused,
))]
pub async fn healthz() -> &'static str {
    "ok"
}

/// Whether new clients are welcome here.
#[utoipa::path(get, path = "/readyz", tag = "pages", responses(
    api::PageRefused,
    (status = 200, description = "They are", body = api::Readiness, content_type = "application/json"),
    (status = 503, description = "They are not: no core, or about to go away; or the edge is full",
        headers(("Retry-After" = u64, description = "When to ask again, in seconds")),
        content((api::Readiness = "application/json"), (api::Refusal = "application/problem+json")),
    ),
))]
pub async fn readyz(State(doors): State<Arc<Doors>>) -> Response {
    let (attached, draining) = ((doors.attached)(), doors.draining.is_cancelled());
    let shedding = doors.memory.is_shedding();
    let ready = attached && !draining && !shedding;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let link = if attached { "attached" } else { "detached" };
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    let again = (!ready).then_some([(RETRY_AFTER, "1")]);
    let told = json!({ "ready": ready, "link": link, "draining": draining, "shedding": shedding });
    (status, headers, again, told.to_string()).into_response()
}

/// What is counted, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "pages", responses(
    (status = 200, description = "All metrics", body = String, content_type = "application/openmetrics-text"),
    api::PageRefused,
))]
pub async fn metrics(State(doors): State<Arc<Doors>>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], (doors.metrics_text)()).into_response()
}

/// Lets the page run its own script and style, known by their hashes, and talk to rooms; nothing else. `ws:` and
/// `wss:` because the page can be pointed at another edge.
fn content_security_policy(page: &str) -> String {
    let scripts = hashes(page, "<script>", "</script>");
    let styles = hashes(page, "<style>", "</style>");
    format!(
        "default-src 'none'; script-src{scripts}; style-src{styles}; connect-src 'self' ws: wss:; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The source expressions of all inline elements between `open` and `close`, each after a space.
fn hashes(page: &str, open: &str, close: &str) -> String {
    let elements = page.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0));
    elements.map(|text| format!(" 'sha256-{}'", STANDARD.encode(Sha256::digest(text)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_over_the_exact_text_of_each_element() {
        // As in the CSP specification: `alert('Hello, world.');`.
        let page = "<style>a{}</style><script>alert('Hello, world.');</script><script>2</script>";
        let expected = " 'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=' \
                        'sha256-1HNeOiZeFu7gP1lxi5tdAwGcB9i2xR+Q2jpmbuwTqzU='";
        assert_eq!(hashes(page, "<script>", "</script>"), expected);
    }

    /// The policy covers everything that the page has: one plain script, one plain style, nothing inline elsewhere.
    #[test]
    fn the_page_keeps_to_its_policy() {
        let policy = content_security_policy(PLAYGROUND);
        assert_eq!(policy.matches("'sha256-").count(), 2);
        assert_eq!(PLAYGROUND.matches("<script").count(), 1);
        assert_eq!(PLAYGROUND.matches("<style").count(), 1);
        for forbidden in [" style=\"", " onclick=", " onload=", "<link", "javascript:", "eval("] {
            assert!(!PLAYGROUND.contains(forbidden), "{forbidden}");
        }
    }
}
