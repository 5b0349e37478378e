//! Hearth's wire contract: what core and edge share, and all that they share.
//!
//! [`v1`] is made from `hearth/v1/*.proto`, [`message`] reads and writes it; [`name`] and [`payload`] hold the rules that
//! every door checks alike: how rooms, users and ids are spelled, and what a payload may be; [`rate`] the third, how fast a session may be.
pub mod message;
pub mod name;
pub mod payload;
pub mod rate;

/// The types and services of package `hearth.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("hearth.v1");
}

/// The compiled schema, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The version of the link's protocol that this build speaks.
pub const LINK_PROTOCOL: u32 = 1;

/// The reason of the error by which a session ends that an administrator has ended.
pub const KICKED: &str = "KICKED";

/// The reason of the error for a token that nobody here has issued, as those are that somebody makes up.
pub const TOKEN_INVALID: &str = "TOKEN_INVALID";

/// A moment, as the schema's messages have it.
pub use prost_types::Timestamp;
