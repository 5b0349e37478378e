//! Requests from pages of other origins. A browser sends them whatever we think of it, asks before those that a form could not send, and
//! hides the answer from a page that is not named in it. So a page that is not allowed is not named, and what it wants to change is refused.
use crate::transport::{Doors, body, origin};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use std::sync::Arc;

/// What is done anywhere behind this guard.
const METHODS: &str = "GET, POST, PUT";
/// What a request may say of itself beside what any may.
const HEADERS: &str = "authorization, content-type, idempotency-key, last-event-id";
/// What a page may read of an answer beside what it always may.
const EXPOSED: &str = "retry-after";
/// How many seconds a browser need not ask again: not long, since settings change.
const MAX_AGE: &str = "600";

/// Stands in front of what pages of other origins may use.
pub async fn guard(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    let (config, headers) = (&doors.config, request.headers());
    let origin = headers.get(ORIGIN).cloned();
    let allowed = origin::allowed(config, request.uri(), headers);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if !allowed && !reads {
        doors.metrics.http_refusal("origin");
        body::refuse(request, origin::foreign()).await.into_response()
    } else if request.method() == Method::OPTIONS {
        preflight(origin.is_some())
    } else {
        next.run(request).await
    };
    readable(&mut response, origin.filter(|_| allowed));
    response
}

/// Names the page that may read an answer.
pub fn readable(response: &mut Response, page: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(page) = page {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// What lets an allowed page read an answer that is written by hand.
pub fn lines(page: Option<&HeaderValue>) -> String {
    match page.and_then(|page| page.to_str().ok()) {
        Some(page) => format!(
            "Access-Control-Allow-Origin: {page}\r\nAccess-Control-Expose-Headers: {EXPOSED}\r\nVary: Origin\r\n"
        ),
        None => String::new(),
    }
}

/// What may be asked; without an origin it is no page that wants to know.
fn preflight(page: bool) -> Response {
    let told = [
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    match page {
        true => (StatusCode::NO_CONTENT, told).into_response(),
        false => StatusCode::NO_CONTENT.into_response(),
    }
}
