//! What must hold for any bytes at each of Hearth's parsers. One function per door; it panics when something does not hold.
//!
//! `fuzz/fuzz_targets` drives them by libFuzzer, `tests/replay.rs` gives them the corpus on every `make test`. Each check
//! compares: with a plain re-statement of the rule, with the other dialect, with the same bytes in other pieces, or with what
//! was put in. That nothing panics comes for free.
mod cursors;
mod json;
mod names;
mod payloads;
mod plain;
mod protobuf;
mod tokens;
mod websockets;

pub use cursors::cursor;
pub use json::json_command;
pub use names::name;
pub use payloads::payload;
pub use protobuf::protobuf_frame;
pub use tokens::token;
pub use websockets::websocket;

/// A check of any bytes.
pub type Check = fn(&[u8]);

/// Every check, by the name of its target and of its folder in `fuzz/corpus`.
pub const ALL: [(&str, Check); 7] = [
    ("cursor", cursor),
    ("json_command", json_command),
    ("name", name),
    ("payload", payload),
    ("protobuf_frame", protobuf_frame),
    ("token", token),
    ("websocket", websocket),
];
