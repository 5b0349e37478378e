//! What bytes mean. Pure: no sockets, no clock, no task; nothing here names tokio, tonic, prost or axum.
pub mod close;
pub mod command;
pub mod cursor;
pub mod dialect;
mod encoding;
pub mod event;
pub mod frame;
pub mod json;
pub mod poll_cursor;
pub mod presence;
pub mod protobuf;
pub mod websocket;
