//! `/asyncapi.json`: what is said over WebSocket, both ways.
use crate::transport::api::{PageRefused, as_it_is, commands, described, names, params, told};
use crate::wire::close::CloseReason;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::openapi::path::Parameter;
use utoipa::{IntoParams, ToSchema};

/// What stands in front.
const ABOUT: &str = "\
A session is one WebSocket. What the client sends are commands: one with an `id` is answered, and one that is refused is told so in any case. \
The first envelope that comes is `system` `welcome`. The server pings; a peer that is silent for two heartbeats is gone. What can be asked \
by HTTP is described in `/openapi.json`.

With the subprotocol `hearth.v1.json`, or none, both sides send one JSON envelope a text message. With `hearth.v1.proto` they send one \
protobuf message a binary message: `hearth.v1.ConnectRequest` and `hearth.v1.ConnectResponse`, which say the same. How a session ends is told \
by the close code: see `x-close-codes` at the channels.";

/// Subprotocols, as they are offered.
const SUBPROTOCOLS: [&str; 2] = ["hearth.v1.json", "hearth.v1.proto"];

/// Every reason for which a server closes a WebSocket, with what a client should know.
const CLOSES: [(CloseReason, &str); 15] = [
    (CloseReason::Bye, "the client said goodbye"),
    (CloseReason::Draining, "the server goes away: come back spread over `reconnect_after_ms`"),
    (CloseReason::ProtocolError, "frames that break RFC 6455"),
    (CloseReason::UnsupportedData, "a message of the kind that the subprotocol does not have"),
    (CloseReason::InvalidPayload, "text that is not UTF-8"),
    (CloseReason::InvalidArgument, "a room or a user in the URL that is none"),
    (CloseReason::Unauthenticated, "no token, or a bad one"),
    (CloseReason::PermissionDenied, "not allowed in"),
    (CloseReason::TooBig, "a message over the limit"),
    (CloseReason::Internal, "something on the server broke"),
    (CloseReason::Overloaded, "the server has no room"),
    (CloseReason::TokenExpired, "the token has expired: come back with a fresh one"),
    (CloseReason::SlowConsumer, "it reads slower than it is written to: come back, history fills the gap"),
    (CloseReason::Kicked, "an administrator has ended it"),
    (CloseReason::RateLimited, "too many refused commands: come back later"),
];

/// Made once: it does not change while the process runs.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// What is said over WebSocket, described.
#[utoipa::path(get, path = "/asyncapi.json", operation_id = "asyncapi", tag = "pages", responses(
    (status = 200, description = "AsyncAPI 3.0", body = Value, content_type = "application/json"),
    PageRefused,
))]
pub async fn asyncapi() -> Response {
    described(&DOCUMENT)
}

/// The document.
pub fn document() -> Value {
    let mut book = Book::default();
    book.command::<commands::TextCommand>("text");
    book.command::<commands::SignalCommand>("signal");
    book.command::<commands::TypingCommand>("typing");
    book.command::<commands::PresenceCommand>("presence");
    book.command::<commands::JoinCommand>("join");
    book.command::<commands::LeaveCommand>("leave");
    book.command::<commands::HistoryCommand>("history");
    book.command::<commands::AuthCommand>("auth");
    book.command::<commands::PingCommand>("ping");
    book.envelope::<told::AckEnvelope>("ack");
    book.envelope::<told::TextEnvelope>("text");
    book.envelope::<told::SignalEnvelope>("signal");
    book.envelope::<told::TypingEnvelope>("typing");
    book.envelope::<told::SystemEnvelope>("system");
    book.envelope::<told::PublishedSystemEnvelope>("system");
    book.envelope::<told::PresenceEnvelope>("presence");
    book.envelope::<told::HistoryEnvelope>("history");
    book.envelope::<told::ErrorEnvelope>("error");
    book.protobuf("ConnectRequest", Direction::Received);
    book.protobuf("ConnectResponse", Direction::Sent);
    book.close()
}

/// Seen from the server, as AsyncAPI has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Received,
    Sent,
}

/// What is collected while the messages are named.
#[derive(Default)]
struct Book {
    schemas: Map<String, Value>,
    messages: Map<String, Value>,
    directions: Vec<(String, Direction)>,
}

impl Book {
    fn command<T: ToSchema>(&mut self, word: &str) {
        self.message::<T>(word, Direction::Received);
    }

    fn envelope<T: ToSchema>(&mut self, word: &str) {
        self.message::<T>(word, Direction::Sent);
    }

    fn message<T: ToSchema>(&mut self, word: &str, direction: Direction) {
        let (name, schema) = self.schema::<T>();
        let summary = schema["description"].clone();
        let example = schema["example"].clone();
        let message = json!({
            "name": word,
            "title": name,
            "summary": summary,
            "contentType": "application/json",
            "payload": { "$ref": format!("#/components/schemas/{name}") },
            "examples": [{ "payload": example }],
        });
        self.add(name, message, direction);
    }

    fn protobuf(&mut self, name: &str, direction: Direction) {
        let message = json!({
            "name": format!("hearth.v1.{name}"),
            "title": name,
            "summary": format!("With `hearth.v1.proto`: a binary message that is a `hearth.v1.{name}`, as in `room_service.proto`"),
            "contentType": "application/protobuf",
            "payload": { "type": "string", "format": "binary" },
        });
        self.add(name.into(), message, direction);
    }

    fn add(&mut self, name: String, message: Value, direction: Direction) {
        self.messages.insert(name.clone(), message);
        self.directions.push((name, direction));
    }

    /// Takes in a type's schema and those that it names.
    fn schema<T: ToSchema>(&mut self) -> (String, Value) {
        let mut named = Vec::new();
        T::schemas(&mut named);
        named.push((T::name().into_owned(), T::schema()));
        for (name, schema) in named {
            self.schemas.insert(name, plain(schema));
        }
        let name = T::name().into_owned();
        let schema = self.schemas.get(&name).cloned().unwrap_or_default();
        (name, schema)
    }

    fn close(mut self) -> Value {
        let (_, room) = self.schema::<names::Room>();
        self.schema::<names::User>();
        let query =
            query([params::Caller::into_params(|| None), params::Since::into_params(|| None)].concat());
        let headers = json!({
            "type": "object",
            "properties": { "Sec-WebSocket-Protocol": { "type": "string", "enum": SUBPROTOCOLS } },
        });
        let channel = |address: &str, about: &str| {
            let message = |name: &String| (name.clone(), reference(&["components", "messages", name]));
            json!({
                "address": address,
                "description": about,
                "messages": self.messages.keys().map(message).collect::<Map<String, Value>>(),
                "bindings": { "ws": { "method": "GET", "query": query, "headers": headers, "bindingVersion": "0.1.0" } },
                "x-close-codes": close_codes(),
            })
        };
        let session = channel("/ws", "A session that is in no room at first.");
        let mut in_room = channel("/ws/{room}", "A session that begins with a join of this room.");
        in_room["parameters"] = json!({ "room": {
            "description": format!("{} It must match `{}`.", words(&room["description"]), words(&room["pattern"])),
            "examples": room["examples"],
        } });
        let operation = |channel: &str, direction: Direction, about: &str| {
            let of = self.directions.iter().filter(|(_, of)| *of == direction);
            json!({
                "action": if direction == Direction::Received { "receive" } else { "send" },
                "channel": reference(&["channels", channel]),
                "summary": about,
                "messages": of.map(|(name, _)| reference(&["channels", channel, "messages", name])).collect::<Vec<_>>(),
            })
        };
        json!({
            "asyncapi": "3.0.0",
            "info": { "title": "Hearth", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT },
            "defaultContentType": "application/json",
            "servers": { "edge": {
                "host": "{host}",
                "protocol": "ws",
                "description": "An edge",
                "variables": { "host": { "default": "127.0.0.1:8080", "description": "Where it listens" } },
            } },
            "channels": { "session": session, "room": in_room },
            "operations": {
                "receiveFromSession": operation("session", Direction::Received, "What a client sends"),
                "sendToSession": operation("session", Direction::Sent, "What a client is sent"),
                "receiveFromRoom": operation("room", Direction::Received, "What a client sends"),
                "sendToRoom": operation("room", Direction::Sent, "What a client is sent"),
            },
            "components": { "messages": self.messages, "schemas": self.schemas },
        })
    }
}

fn reference(path: &[&str]) -> Value {
    json!({ "$ref": format!("#/{}", path.join("/")) })
}

fn words(text: &Value) -> &str {
    text.as_str().unwrap_or_default()
}

fn close_codes() -> Vec<Value> {
    let close = |(reason, about): &(CloseReason, &str)| {
        let (code, word) = reason.code_and_word();
        json!({ "code": code, "reason": word, "description": about, "reconnect": reason.may_return() })
    };
    CLOSES.iter().map(close).collect()
}

/// Parameters of a query, as the members of one object.
fn query(params: impl IntoIterator<Item = Parameter>) -> Value {
    let member = |param: Parameter| {
        let about = param.description.unwrap_or_default();
        let schema = param.schema.map(plain).unwrap_or_default();
        (param.name, json!({ "allOf": [schema], "description": about }))
    };
    json!({ "type": "object", "properties": params.into_iter().map(member).collect::<Map<String, Value>>() })
}

/// A schema as JSON.
fn plain(schema: impl serde::Serialize) -> Value {
    // Plain data: this cannot fail.
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    as_it_is(&mut schema);
    schema
}
