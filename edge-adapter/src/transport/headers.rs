//! What every answer says for the safety of browsers: it is what it says that it is, no page may frame it, and where it was asked from stays there.
use axum::response::Response;
use http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

/// Of an answer that is no page, nothing may be run, loaded or framed, should a browser show it.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The same for answers that are written by hand.
pub const LINES: &str = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
    Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n";

/// Adds what the answer does not say itself.
pub async fn secure(mut response: Response) -> Response {
    // What becomes a WebSocket is nothing that a browser shows.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    let said: [(HeaderName, HeaderValue); 3] = [
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CONTENT_SECURITY_POLICY, NO_PAGE),
    ];
    for (name, value) in said {
        headers.entry(name).or_insert(value);
    }
    response
}
