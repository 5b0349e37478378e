//! An attacker's WebSocket: what it sends may be anything, and it hears what the server says to that.
use super::Seen;
use crate::frames::{self, Reader, opcode};
use hearth_proto::{message, v1};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long the server may take for a handshake, and the attacker waits for room to send.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
const SEND_PATIENCE: Duration = Duration::from_millis(200);
const READ_BYTES: usize = 64 * 1024;

/// A connection after the handshake.
pub(super) struct Talk {
    pub(super) stream: TcpStream,
    reader: Reader,
    buffer: Vec<u8>,
}

impl Talk {
    /// Shakes hands; `headers` are lines besides. The error says what was answered instead.
    pub(super) async fn open(http: SocketAddr, target: &str, headers: &str) -> Result<Talk, String> {
        let shaken = timeout(PATIENCE, Self::shake(http, target, headers)).await;
        shaken.map_err(|_| "no answer to a handshake".to_owned())?.map_err(|error| error.to_string())
    }

    async fn shake(http: SocketAddr, target: &str, headers: &str) -> io::Result<Talk> {
        let mut stream = TcpStream::connect(http).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {http}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // One by one: what follows the head are frames.
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(status(&head)));
        }
        Ok(Talk { stream, reader: Reader::default(), buffer: vec![0; READ_BYTES] })
    }

    /// Sends bytes. False when the server takes no more.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(SEND_PATIENCE, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Takes what has come without waiting, and tells each frame. False when the server has ended the connection.
    pub(super) fn hear(&mut self, mut each: impl FnMut(u8, &[u8])) -> bool {
        loop {
            match self.stream.try_read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    if self.reader.feed(&self.buffer[..read], &mut each).is_err() {
                        return false;
                    }
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// The same, waiting until the server ends it or the patience does.
    pub(super) async fn last_words(mut self, seen: &mut Seen) {
        let words = async {
            let mut closed = false;
            while self.hear(|opcode, payload| {
                closed |= opcode == opcode::CLOSE;
                note(seen, opcode, payload);
            }) {
                // Behind its close a server waits for ours.
                if closed || self.stream.readable().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(Duration::from_secs(1), words).await;
    }
}

/// Notes what a frame of the server means to an attacker.
pub(super) fn note(seen: &mut Seen, opcode: u8, payload: &[u8]) {
    match opcode {
        opcode::CLOSE => {
            let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            seen.answer(format!("close {code}"));
        }
        opcode::TEXT => match error_code(payload) {
            Some(code) => seen.answer(code),
            None => seen.answer("other frames"),
        },
        opcode::BINARY => {
            match message::read::<v1::ConnectResponse>(payload).map(|response| response.frame) {
                Ok(Some(v1::connect_response::Frame::Error(_))) => seen.answer("an error in protobuf"),
                _ => seen.answer("other frames"),
            }
        }
        _ => {}
    }
}

fn error_code(envelope: &[u8]) -> Option<String> {
    if !envelope.starts_with(br#"{"type":"error""#) {
        return None;
    }
    let rest = frames::after(envelope, br#""code":""#)?;
    Some(rest.iter().take_while(|byte| **byte != b'"').map(|byte| char::from(*byte)).collect())
}

/// The status of an answer's head, as `431`.
pub(super) fn status(head: &[u8]) -> String {
    let line = String::from_utf8_lossy(head);
    line.split(' ').nth(1).filter(|status| status.len() == 3).unwrap_or("no status").to_owned()
}
