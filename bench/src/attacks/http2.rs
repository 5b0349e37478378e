//! HTTP/2 frames by hand: no library sends what an attacker does.
use super::Seen;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame's head.
const HEAD: usize = 9;
const READ_BYTES: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);
const SEND_PATIENCE: Duration = Duration::from_millis(200);

/// `GET / http x`, by HPACK's static table and one literal.
pub(super) const GET: &[u8] = b"\x82\x84\x86\x41\x01x";

/// A connection after the preface.
pub(super) struct Http2 {
    stream: TcpStream,
    rest: Vec<u8>,
    buffer: Vec<u8>,
    /// The next stream.
    pub(super) next: u32,
}

impl Http2 {
    pub(super) async fn open(address: SocketAddr) -> Result<Http2, String> {
        let opened = timeout(PATIENCE, async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await?;
            io::Result::Ok(stream)
        });
        let stream = opened.await.map_err(|_| "no connection")?.map_err(|error| error.kind().to_string())?;
        Ok(Http2 { stream, rest: Vec::new(), buffer: vec![0; READ_BYTES], next: 1 })
    }

    /// Sends bytes. False when the server takes no more.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(SEND_PATIENCE, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Takes what has come without waiting. False when the server has said goodbye, or has ended the connection.
    pub(super) fn hear(&mut self, seen: &mut Seen) -> bool {
        loop {
            match self.stream.try_read(&mut self.buffer) {
                Ok(0) => return self.ended(seen, "ended without a GOAWAY"),
                Ok(read) => self.rest.extend_from_slice(&self.buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return self.ended(seen, "reset"),
            }
            if !self.frames(seen) {
                return false;
            }
        }
    }

    /// Waits a moment for the last of it.
    pub(super) async fn last_words(mut self, seen: &mut Seen) {
        let words = async {
            while self.hear(seen) {
                if self.stream.readable().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(Duration::from_secs(1), words).await;
    }

    fn ended(&self, seen: &mut Seen, how: &str) -> bool {
        seen.answer(how);
        false
    }

    fn frames(&mut self, seen: &mut Seen) -> bool {
        let mut at = 0;
        let mut open = true;
        while let Some(head) = self.rest.get(at..at + HEAD) {
            let length = (usize::from(head[0]) << 16) | (usize::from(head[1]) << 8) | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let Some(payload) = self.rest.get(at + HEAD..at + HEAD + length) else { break };
            match kind {
                GOAWAY => {
                    let code =
                        payload.get(4..8).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes);
                    // 1 protocol_error, 11 enhance_your_calm (RFC 9113, section 7).
                    seen.answer(format!("GOAWAY {code}"));
                    open = false;
                }
                RST_STREAM => seen.answer("RST_STREAM"),
                PING if flags & ACK != 0 => seen.answer("PING acknowledged"),
                HEADERS => seen.answer("a head"),
                SETTINGS if flags & ACK == 0 => {
                    // The kernel has room for nine bytes, or the server is gone.
                    let _ = self.stream.try_write(&frame(SETTINGS, ACK, 0, b""));
                }
                _ => {}
            }
            at += HEAD + length;
        }
        self.rest.drain(..at);
        open
    }
}

/// A whole frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}
