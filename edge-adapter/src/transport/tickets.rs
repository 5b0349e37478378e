//! `POST /tickets`: the request's token turned into what may stand in a URL, where it is read by more than those it is meant for. The core decides.
use crate::fanout::calls::Answer;
use crate::session::request::Request as Ask;
use crate::transport::{Doors, api, body, rest};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Request;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use std::sync::Arc;

/// Makes a ticket.
///
/// It stands for the request's token where that is shown, for 30 s at most; what it opens lasts as long as the token. A ticket makes no other.
#[utoipa::path(
    post, path = "/tickets", operation_id = "issueTicket", tag = "tokens",
    params(api::params::Caller),
    responses(
        (status = 200, description = "A ticket", body = api::Ticket, content_type = "application/json"),
        api::BodyRefused,
        api::Refused,
    )
)]
pub async fn issue(State(doors): State<Arc<Doors>>, request: Request<Body>) -> Response {
    rest::with_body(request, async |parts, body| {
        let asking = rest::Asking::admit(&doors, parts)?;
        // There is nothing to say in it; what is said all the same is read away.
        body::read(body, doors.config.max_message_bytes).await?;
        match asking.ask(|session| Ask::Ticket { session }).await? {
            Answer::Ticket { ticket, expires_us } => {
                // A ticket is ASCII without quotes.
                let text = format!(r#"{{"ticket":"{}","expires_at":{}}}"#, ticket.0, expires_us as f64 / 1e6);
                let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
                Ok((headers, text).into_response())
            }
            _ => Err(rest::unexpected()),
        }
    })
    .await
}
