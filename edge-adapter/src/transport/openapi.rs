//! `/openapi.json`: the operations, as they stand at their handlers.
use crate::transport::api::{PageRefused, as_it_is, described, told};
use crate::transport::{asyncapi, long_poll, pages, rest, sse, tickets};
use axum::response::Response;
use serde_json::Value;
use std::sync::LazyLock;
use utoipa::OpenApi;

/// What stands in front of the operations.
const ABOUT: &str = "\
Rooms carry ordered, recoverable events, and know who is in them. Here is what can be asked by HTTP; what is said over WebSocket is \
described in `/asyncapi.json`.

Out of dev mode every request to a room needs a token: `Authorization: Bearer …`, or `token` in the URL where no header can be sent.

Errors are `application/problem+json` (RFC 9457). Whoever is told 429 or 503 is told when to ask again. What is asked by `GET`, but for \
streams and polls, may be asked by `HEAD`, and pages of allowed origins are answered 204 when their browser asks first (`OPTIONS`), but for `/` and the pages of health and metrics. Unknown \
fields and parameters are ignored. A request whose head is larger than 16 KiB, or is not HTTP, is answered 400, 414 or 431 without a body.";

#[derive(OpenApi)]
#[openapi(
    info(title = "Hearth", description = ABOUT),
    paths(
        sse::room,
        sse::rooms,
        long_poll::room,
        long_poll::rooms,
        rest::history,
        rest::publish,
        rest::online,
        rest::show,
        tickets::issue,
        pages::playground,
        pages::healthz,
        pages::readyz,
        pages::metrics,
        openapi,
        asyncapi::asyncapi,
    ),
    components(schemas(told::Envelope)),
    tags(
        (name = "streams", description = "Being in rooms"),
        (name = "rooms", description = "Single requests, by those who need not be in the room"),
        (name = "tokens", description = "What stands for a token"),
        (name = "pages", description = "What is served beside the rooms"),
    )
)]
struct Described;

/// Made once: it does not change while the process runs.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// This description.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "pages", responses(
    (status = 200, description = "OpenAPI 3.1", body = Value, content_type = "application/json"),
    PageRefused,
))]
pub async fn openapi() -> Response {
    described(&DOCUMENT)
}

/// The document.
pub fn document() -> Value {
    // Plain data: this cannot fail.
    let mut document = serde_json::to_value(Described::openapi()).unwrap_or_default();
    as_it_is(&mut document);
    for response in responses(&mut document) {
        // They always come; and asking for a member by its name would make one.
        for header in response.get_mut("headers").into_iter().flat_map(members) {
            header["required"] = true.into();
        }
    }
    document
}

/// All answers of all operations.
fn responses(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    members(&mut document["paths"])
        .flat_map(members)
        .flat_map(|operation| members(&mut operation["responses"]))
}

fn members(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(|members| members.values_mut())
}
