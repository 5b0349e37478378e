//! How a session's bytes are framed. What is said is the same in all.
use std::fmt::Write;

/// A framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// JSON envelopes in WebSocket text frames.
    WebSocketJson,
    /// The same, compressed where that is worth it.
    WebSocketJsonDeflate,
    /// Protobuf messages in WebSocket binary frames.
    WebSocketProtobuf,
    /// The same, compressed where that is worth it.
    WebSocketProtobufDeflate,
    /// JSON envelopes as server-sent events.
    Sse,
    /// JSON envelopes, one a line: for answers that are put together from them.
    Lines,
}

/// How many there are.
pub const DIALECTS: usize = 6;

impl Dialect {
    /// A number below [`DIALECTS`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The same without compression: for what only one session is given, which is not worth the work.
    pub fn plain(self) -> Self {
        match self {
            Dialect::WebSocketJsonDeflate => Dialect::WebSocketJson,
            Dialect::WebSocketProtobufDeflate => Dialect::WebSocketProtobuf,
            plain => plain,
        }
    }

    /// Messages come and go compressed.
    pub fn deflates(self) -> bool {
        matches!(self, Dialect::WebSocketJsonDeflate | Dialect::WebSocketProtobufDeflate)
    }

    /// Messages are protobuf, not JSON.
    pub fn is_protobuf(self) -> bool {
        matches!(self, Dialect::WebSocketProtobuf | Dialect::WebSocketProtobufDeflate)
    }

    /// Frames are read as well as written, and the end is a handshake.
    pub fn is_websocket(self) -> bool {
        match self {
            Dialect::WebSocketJson
            | Dialect::WebSocketJsonDeflate
            | Dialect::WebSocketProtobuf
            | Dialect::WebSocketProtobufDeflate => true,
            Dialect::Sse | Dialect::Lines => false,
        }
    }
}

/// Before an envelope that is a server-sent event: its name, and the cursor with which a client goes on behind it.
pub fn sse_head(kind: &str, cursor: Option<&str>) -> String {
    let mut head = String::with_capacity(24 + cursor.map_or(0, str::len));
    // What a page listens to without naming it is what people say to each other.
    let event = if kind == "text" { "message" } else { kind };
    let _ = writeln!(head, "event: {event}");
    if let Some(cursor) = cursor {
        let _ = writeln!(head, "id: {cursor}");
    }
    head.push_str("data: ");
    head
}

/// Behind an envelope that is a server-sent event.
pub const SSE_TAIL: &[u8] = b"\n\n";

/// A comment: keeps what stands between awake, and no client sees it.
pub const SSE_COMMENT: &[u8] = b":\n\n";

/// When a client comes back by itself after the end, in milliseconds.
pub fn sse_retry(ms: u64) -> String {
    format!("retry: {ms}\n\n")
}
