//! A WebSocket by hand, for frames that no library would send, and for a peer that reads slowly or not at all.
use crate::within;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// Continues a message.
pub const CONTINUATION: u8 = 0x0;
/// A text message.
pub const TEXT: u8 = 0x1;
/// A binary message.
pub const BINARY: u8 = 0x2;
/// The last frame.
pub const CLOSE: u8 = 0x8;
/// Asks for a pong.
pub const PING: u8 = 0x9;
/// Answers a ping.
pub const PONG: u8 = 0xa;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A socket after the handshake.
pub struct Raw {
    stream: TcpStream,
    /// What the server answered to the offered extensions; none without an answer.
    pub extensions: Option<String>,
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What kind.
    pub opcode: u8,
    /// Its payload is compressed.
    pub deflated: bool,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Code and reason of a close.
    pub fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        match self.payload.split_first_chunk() {
            Some((code, reason)) => (u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()),
            None => (1005, String::new()),
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("text is UTF-8")
    }
}

impl Raw {
    /// Shakes hands.
    pub async fn connect(http: SocketAddr, target: &str) -> Raw {
        Self::shake_hands(http, target, None, &[]).await
    }

    /// Shakes hands, with these headers besides.
    pub async fn asking(http: SocketAddr, target: &str, headers: &[&str]) -> Raw {
        Self::shake_hands(http, target, None, headers).await
    }

    /// Shakes hands, with a receive buffer of about this many bytes.
    pub async fn connect_with(http: SocketAddr, target: &str, receive_buffer: Option<u32>) -> Raw {
        Self::shake_hands(http, target, receive_buffer, &[]).await
    }

    async fn shake_hands(
        http: SocketAddr,
        target: &str,
        receive_buffer: Option<u32>,
        headers: &[&str],
    ) -> Raw {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).expect("a socket takes it");
        }
        let mut stream = within("a connection", socket.connect(http)).await.expect("the server listens");
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {http}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            headers.iter().map(|header| format!("{header}\r\n")).collect::<String>()
        );
        stream.write_all(request.as_bytes()).await.expect("the server takes a request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = within("the head of the answer", stream.read_u8()).await;
            head.push(
                byte.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head))),
            );
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        // What RFC 6455 section 1.3 says to the key above.
        assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        let extensions = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: "));
        Raw { stream, extensions: extensions.map(str::to_owned) }
    }

    /// A whole, masked frame.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Self::head(first, 0x80, payload.len());
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// A frame's head up to its length: `first` is its first byte, `mask` the highest bit of its second.
    pub fn head(first: u8, mask: u8, length: usize) -> Vec<u8> {
        let mut head = vec![first];
        match length {
            0..126 => head.push(mask | length as u8),
            126..0x1_0000 => {
                head.push(mask | 126);
                head.extend((length as u16).to_be_bytes());
            }
            _ => {
                head.push(mask | 127);
                head.extend((length as u64).to_be_bytes());
            }
        }
        head
    }

    /// Sends bytes as they are. The server may have closed already: what it said is still to be read.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = within("room to send", self.stream.write_all(bytes)).await;
    }

    /// Sends nothing more: the server sees the end of the stream.
    pub async fn finish(&mut self) {
        // It may have gone already.
        let _ = self.stream.shutdown().await;
    }

    /// Sends a whole text message.
    pub async fn send_text(&mut self, text: &str) {
        self.send(&Self::frame(0x80 | TEXT, text.as_bytes())).await;
    }

    /// The next frame; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        within("a frame", self.read()).await.ok()
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let first = self.stream.read_u8().await?;
        let length = match self.stream.read_u8().await? {
            126 => usize::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await? as usize,
            length => usize::from(length),
        };
        let deflated = first & 0x40 != 0;
        assert!(first & 0x30 == 0 && (!deflated || self.extensions.is_some()), "reserved bits are set");
        assert!(
            length < 1 << 24,
            "a frame of {length} bytes: a server does not mask, and sends nothing so large"
        );
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok(Frame { opcode: first & 0x0f, deflated, payload })
    }

    /// Awaits the close frame; what comes before it is dropped.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Some(frame) if frame.opcode == CLOSE => return frame.close(),
                Some(_) => {}
                None => panic!("the end without a close"),
            }
        }
    }
}
