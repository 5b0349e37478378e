//! The edge: browsers on one side, one multiplexed gRPC stream to a core on the other.
//!
//! Bytes flow one way through the folders: [`transport`] takes a connection, [`wire`] gives its bytes a
//! meaning, [`session`] decides what the session wants, [`link`] carries that to the core and brings back
//! what happened, [`fanout`] writes it to the sockets. A folder uses those named before it in
//! `ARCHITECTURE.md` only; `wire` and `session` are pure.
pub mod config;
mod edge;
pub mod fanout;
pub mod link;
pub mod metrics;
pub mod session;
pub mod transport;
pub mod wire;

pub use edge::Edge;
