//! Errors over HTTP: RFC 9457 `application/problem+json`, with the same code words as everywhere else.
use crate::wire::event::{Code, Failure};
use axum::response::{IntoResponse, Response};
use hearth_proto::name::BadName;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use std::borrow::Cow;

/// What a request is answered with when it cannot be done.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    /// Apart, as a map is large and seldom needed.
    headers: Option<Box<HeaderMap>>,
}

impl Problem {
    /// A problem; `code` is a gRPC status name in lower_snake_case, `detail` is for a person.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), headers: None }
    }

    /// 400: the request has the wrong shape.
    pub fn invalid_argument(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_argument", detail)
    }

    /// 404: there is no such page.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    }

    /// 405: the page is there, the method is not.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::wrong_method().with(ALLOW, allow)
    }

    /// As [`Problem::method_not_allowed`], for the router, which adds `Allow` itself.
    pub fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "unimplemented", "this path does not know that method")
    }

    /// 503: not now. Whoever is told `resource_exhausted` can be sure that nothing was done.
    pub fn not_now(code: Code, detail: impl Into<Cow<'static, str>>, retry_after_ms: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code.name(), detail).retry_after(retry_after_ms)
    }

    /// Says when to try again. HTTP counts whole seconds.
    fn retry_after(mut self, ms: u64) -> Self {
        let seconds = HeaderValue::from(ms.div_ceil(1000).max(1));
        self.headers.get_or_insert_default().insert(RETRY_AFTER, seconds);
        self
    }

    /// 503: not now; of a publish, its outcome is unknown.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::not_now(Code::Unavailable, detail, 0)
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.get_or_insert_default().insert(name, HeaderValue::from_static(value));
        self
    }
}

impl From<BadName> for Problem {
    fn from(error: BadName) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// The one place where a command's failure becomes an HTTP status.
impl From<Failure> for Problem {
    fn from(Failure { code, message, retry_after_ms, forged: _ }: Failure) -> Self {
        let status = match code {
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Unimplemented => StatusCode::METHOD_NOT_ALLOWED,
            Code::Aborted => StatusCode::CONFLICT,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut problem = Problem::new(status, code.name(), message);
        if code == Code::Unauthenticated {
            problem = problem.with(WWW_AUTHENTICATE, "Bearer");
        }
        match (code, retry_after_ms) {
            (_, Some(ms)) => problem.retry_after(ms),
            // These always say it.
            (Code::ResourceExhausted | Code::Unavailable, None) => problem.retry_after(0),
            (_, None) => problem,
        }
    }
}

impl Problem {
    /// The JSON of it.
    pub fn body(&self) -> String {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        body.to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body();
        let content_type = (CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let headers = self.headers.map(|headers| *headers).unwrap_or_default();
        (self.status, headers, [content_type], body).into_response()
    }
}
