//! One face for every transport, so that the same story can be told over each: a [`Session`] says [`command::Command`]s and is told
//! [`envelope::Envelope`]s. Each transport has a file that turns the one into its bytes and its bytes into the other; what it cannot say by its
//! contract it does not pretend to, and panics.
pub mod command;
pub mod envelope;

mod connect;
mod event_stream;
mod long_poll;
mod protobuf;
mod requests;
mod session;
mod websocket;
mod wire;

pub use session::Session;

use crate::process::Hearth;
use std::net::SocketAddr;

/// A way to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// WebSocket, `hearth.v1.json`.
    WebSocketJson,
    /// WebSocket, `hearth.v1.proto`.
    WebSocketProtobuf,
    /// Server-sent events, and requests.
    EventStream,
    /// Long-poll, and requests.
    LongPoll,
    /// gRPC `RoomService.Connect`.
    Connect,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 5] = [
        Transport::WebSocketJson,
        Transport::WebSocketProtobuf,
        Transport::EventStream,
        Transport::LongPoll,
        Transport::Connect,
    ];

    /// As it stands above a table's column.
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocketJson => "ws-json",
            Transport::WebSocketProtobuf => "ws-proto",
            Transport::EventStream => "sse+post",
            Transport::LongPoll => "poll+post",
            Transport::Connect => "grpc",
        }
    }

    /// What its clients say goes by requests, each of which stands alone: no session says it.
    pub fn speaks_by_request(self) -> bool {
        matches!(self, Transport::EventStream | Transport::LongPoll)
    }

    /// It is a service's, and not a browser's.
    pub fn is_service(self) -> bool {
        self == Transport::Connect
    }

    /// Its payloads may be bytes.
    pub fn has_bytes(self) -> bool {
        matches!(self, Transport::WebSocketProtobuf | Transport::Connect)
    }
}

/// Where a server is reached.
#[derive(Debug, Clone, Copy)]
pub struct Doors {
    /// Browsers' door.
    pub http: SocketAddr,
    /// Services' door.
    pub grpc: SocketAddr,
}

impl Doors {
    /// Those of one process that has both.
    pub fn of(hearth: &Hearth) -> Doors {
        Doors { http: hearth.http(), grpc: hearth.grpc() }
    }
}
