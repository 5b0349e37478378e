//! Bodies of requests: bounded in bytes and in time, and read to their end also where nobody wants them.
use crate::transport::problem::Problem;
use crate::wire::event::Code;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::time::Duration;
use tokio::time::timeout;

/// How long a client may take to send a body: as long as for a request's head, which is ample for the largest message.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is read away of a body that is not wanted, and for how long.
const UNWANTED: (usize, Duration) = (1 << 20, Duration::from_secs(1));

/// Reads a whole body of at most `max` bytes.
pub async fn read(body: &mut Body, max: usize) -> Result<String, Problem> {
    // What says that it is too large is not even asked for.
    if body.size_hint().lower() > max as u64 {
        return Err(too_large(max));
    }
    let reading = async {
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::invalid_argument("the body ended too early"))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > max {
                return Err(too_large(max));
            }
            whole.extend_from_slice(&data);
        }
        String::from_utf8(whole).map_err(|_| Problem::invalid_argument("the body is not UTF-8"))
    };
    let late = || {
        let detail = "the body did not come in time";
        Problem::new(StatusCode::REQUEST_TIMEOUT, Code::InvalidArgument.name(), detail)
    };
    timeout(BODY_TIMEOUT, reading).await.unwrap_or_else(|_| Err(late()))
}

fn too_large(max: usize) -> Problem {
    let detail = format!("a message may have at most {max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument.name(), detail)
}

/// A problem instead of what a whole request asks for.
pub async fn refuse(request: Request, problem: Problem) -> Problem {
    let (parts, mut body) = request.into_parts();
    discard(&parts.headers, &mut body).await;
    problem
}

/// Reads away what is left of a body that is not wanted. Its sender gets to read why: a connection or stream that is ended over unread
/// bytes is reset, and the answer with it.
pub async fn discard(headers: &HeaderMap, body: &mut Body) {
    // Whoever asks before sending has not sent anything, and is not to.
    if headers.contains_key(EXPECT) {
        return;
    }
    let (bytes, time) = UNWANTED;
    let reading = async {
        let mut left = bytes;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(len) else { return };
            left = rest;
        }
    };
    // Whoever sends on after that has not read for long.
    let _ = timeout(time, reading).await;
}
