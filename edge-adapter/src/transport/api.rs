//! What goes over the wire, described for programs: the types behind `/openapi.json` and `/asyncapi.json`, once for both.
//!
//! Both are made from the code: the operations stand at the handlers, what is said stands here.
//! Those types hold nothing: frames are read and written by hand, in `wire/`, for speed. Tests hold the two together: the routes with the
//! operations, what is parsed with the commands, and what a running server answers with all of it.
pub mod answers;
pub mod bodies;
pub mod commands;
pub mod names;
pub mod params;
pub mod told;

pub use answers::{BodyRefused, NotFound, PageRefused, Refused, Superseded};
pub use bodies::{Polled, Present, Readiness, StreamEvent, Ticket};
pub use commands::{Publish, Shown};
pub use names::Problem as Refusal;
pub use told::{AckEnvelope, HistoryPage};

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// A name for values of one kind, with the rules that hold for them.
macro_rules! value {
    ($(#[doc = $about:literal])+ $name:ident = $rules:expr) => {
        $(#[doc = $about])+
        pub struct $name;

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let about = concat!($($about),+).trim();
                $rules.description(Some(about)).into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                std::borrow::Cow::Borrowed(stringify!($name))
            }
        }
    };
}
use value;

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A text that can only be this.
fn word(word: &'static str) -> ObjectBuilder {
    string().enum_values(Some([word]))
}

/// A document, for whoever asks for it.
pub fn described(document: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // It is another one with the next version.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, document).into_response()
}

/// What the derived schemas say that is not so: that `null` may stand for what is absent, which Hearth takes for a value like any other, and
/// that an envelope is one of several only if it is none of the others, though all of them let fields be that they do not know.
pub fn as_it_is(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = &types[..] {
                    let only = only.clone();
                    members.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(mut choices)) = members.remove("oneOf") {
                choices.retain(|choice| choice["type"] != "null");
                // One that stays is the type of a field that may be absent.
                members.insert(if choices.len() == 1 { "allOf" } else { "anyOf" }.into(), choices.into());
            }
            // What stands in only one part need not stand apart.
            if let Some([Value::Object(part)]) =
                members.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
                && !part.contains_key("$ref")
            {
                let part = part.clone();
                members.remove("allOf");
                for (name, rule) in part {
                    members.entry(name).or_insert(rule);
                }
            }
            members.values_mut().for_each(as_it_is);
        }
        Value::Array(all) => all.iter_mut().for_each(as_it_is),
        _ => {}
    }
}
