//! What is told to those who come when there is no room, before HTTP has their connection.
use crate::config::Config;
use crate::fanout::socket::Socket;
use crate::transport::connections::Full;
use crate::transport::head::{self, Head};
use crate::transport::headers::LINES as SAFE;
use crate::transport::problem::Problem;
use crate::transport::{cors, origin, sse};
use crate::wire::event::Code;
use axum::response::{IntoResponse, Response};
use http::header::{ORIGIN, RETRY_AFTER};
use http::{HeaderValue, Request, StatusCode};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// How long it is waited for what a client wants.
const FIRST_BYTES: Duration = Duration::from_millis(200);
/// When to come back, in seconds.
const COME_BACK: u32 = 5;
/// Written out, as little of theirs is read.
const EDGE_FULL: &str = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"code":"unavailable","detail":"this edge has as many connections as it may"}"#;
/// The same for an address that has its share.
const ADDRESS_FULL: &str = r#"{"type":"about:blank","title":"Too Many Requests","status":429,"code":"resource_exhausted","detail":"this address has as many connections as it may"}"#;

/// The word that a refusal is counted under.
pub fn reason(why: Full) -> &'static str {
    match why {
        Full::Edge => "max_connections",
        Full::Address => "max_connections_per_address",
    }
}

/// A whole answer. Whoever wants a stream is told in band; pages that may connect can read either.
pub async fn answer(config: &Config, socket: &mut Socket, why: Full) -> String {
    let mut first = vec![0; head::BYTES];
    let read = timeout(FIRST_BYTES, socket.read(&mut first)).await;
    // Who says nothing, or goes, is told all the same.
    first.truncate(read.ok().and_then(Result::ok).unwrap_or_default());
    let (wants_stream, page) = (sse::begin_stream(&first), page(config, &first));
    if wants_stream {
        return sse::overloaded(page.as_ref());
    }
    let (status, problem) = match why {
        Full::Edge => ("503 Service Unavailable", EDGE_FULL),
        Full::Address => ("429 Too Many Requests", ADDRESS_FULL),
    };
    let (length, cors) = (problem.len(), cors::lines(page.as_ref()));
    format!(
        "HTTP/1.1 {status}\r\nRetry-After: {COME_BACK}\r\nConnection: close\r\n\
         Content-Type: application/problem+json\r\nContent-Length: {length}\r\n{SAFE}{cors}\r\n{problem}"
    )
}

/// The same where HTTP has the connection, a proxy's.
pub fn response<B>(config: &Config, request: &Request<B>, why: Full) -> Response {
    let page =
        request.headers().get(ORIGIN).filter(|_| origin::allowed(config, request.uri(), request.headers()));
    let mut response = if request.uri().path().starts_with("/events") {
        sse::overloaded_response()
    } else {
        let (status, code) = match why {
            Full::Edge => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            Full::Address => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
        };
        let detail = "as many connections as there may be are here already";
        Problem::new(status, code.name(), detail).with(RETRY_AFTER, "5").into_response()
    };
    cors::readable(&mut response, page.cloned());
    response
}

/// The page that asks, if it may connect.
fn page(config: &Config, first: &[u8]) -> Option<HeaderValue> {
    let Head { uri, headers, .. } = head::parse(first)?;
    let page = headers.get(ORIGIN)?.clone();
    origin::allowed(config, &uri, &headers).then_some(page)
}
