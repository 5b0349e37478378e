//! The core: rooms, their order and their history, as gRPC services.
//!
//! [`room`] holds the rules and no I/O; an [`engine`] orders and stores by them; the [`hub`] brings events to those who are in
//! a room; [`auth`] knows who may do what, by keys that [`jwks`] fetches where they are published; [`service`] speaks gRPC. A folder uses those named before it only.
pub mod auth;
pub mod config;
pub mod engine;
pub mod hub;
pub mod jwks;
pub mod metrics;
pub mod room;
pub mod service;

pub use service::Core;
