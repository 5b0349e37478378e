//! How requests are refused: what each kind of door may answer beside what was asked for.
use super::names::Problem;
use utoipa::IntoResponses;

/// What any request to a room may be told.
#[derive(IntoResponses)]
pub enum Refused {
    /// A room, a user, a number or a body that is none.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// Who asks is not known. Not in dev mode.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(Problem),
    /// Not for this user, or not from a page of this origin.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// No room has an empty name.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// Another method.
    #[response(status = 405, content_type = "application/problem+json", headers(("Allow" = String, description = "Which there are")))]
    MethodNotAllowed(Problem),
    /// Too many requests of one user, or connections of one address.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "When to ask again, in seconds")))]
    TooMany(Problem),
    /// Something on the server broke.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// The core is away, or the edge is full or goes away. Of a publish, `unavailable` leaves the outcome unknown; with
    /// `resource_exhausted` nothing was done.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "When to ask again, in seconds")))]
    Unavailable(Problem),
}

/// What a request with a body may be told beside.
#[derive(IntoResponses)]
pub enum BodyRefused {
    /// The body took longer than ten seconds.
    #[response(status = 408, content_type = "application/problem+json")]
    Late(Problem),
    /// The body is larger than any message may be.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body does not say that it is `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(Problem),
}

/// What a poll may be told beside.
#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "Another poll of this session has come",
    content_type = "application/problem+json"
)]
pub struct Superseded(pub Problem);

/// What is told of a page that is not there.
#[derive(IntoResponses)]
#[response(status = 404, description = "It is turned off", content_type = "application/problem+json")]
pub struct NotFound(pub Problem);

/// What any request for a page may be told.
#[derive(IntoResponses)]
pub enum PageRefused {
    /// Another method.
    #[response(status = 405, content_type = "application/problem+json", headers(("Allow" = String, description = "Which there are")))]
    MethodNotAllowed(Problem),
    /// Too many connections of one address.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "When to ask again, in seconds")))]
    TooMany(Problem),
    /// The edge is full.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "When to ask again, in seconds")))]
    Full(Problem),
}
