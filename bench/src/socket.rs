//! One WebSocket of a load: no task, no thread, no timer, and next to no memory while nothing comes.
use crate::{
    Failure,
    frames::{self, Reader, opcode},
};
use mio::{Interest, Registry, Token, net::TcpStream};
use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
};

/// A handshake's answer is not longer.
const HEAD_MAX: usize = 8 * 1024;

/// A connection, in whatever state it is.
pub struct Socket {
    stream: TcpStream,
    state: State,
    reader: Reader,
    /// What the kernel would not take yet.
    out: Vec<u8>,
}

enum State {
    Connecting { request: String },
    Handshake { head: Vec<u8> },
    Open,
}

impl Socket {
    /// Begins to connect; its events come under this token. `headers` are lines of the handshake besides.
    pub fn connect(
        registry: &Registry,
        token: Token,
        address: SocketAddr,
        target: &str,
        headers: &str,
    ) -> Result<Socket, Failure> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        let state = State::Connecting { request };
        Ok(Socket { stream, state, reader: Reader::default(), out: Vec::new() })
    }

    /// Whether the handshake is done.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Puts a frame behind what is to be written; `first` is its first byte.
    pub fn write(&mut self, first: u8, payload: &[u8]) {
        frames::write(&mut self.out, first, payload);
    }

    /// The kernel would take something.
    pub fn writable(&mut self) -> Result<(), Failure> {
        if let State::Connecting { request } = &self.state {
            if let Some(error) = self.stream.take_error()? {
                return Err(format!("a connection was refused: {error}").into());
            }
            self.stream.set_nodelay(true)?;
            self.out.extend_from_slice(request.as_bytes());
            self.state = State::Handshake { head: Vec::new() };
        }
        self.flush()
    }

    /// Gives the kernel what it takes.
    pub fn flush(&mut self) -> Result<(), Failure> {
        if matches!(self.state, State::Connecting { .. }) {
            return Ok(());
        }
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a connection broke: {error}").into()),
            }
        }
        self.out.drain(..sent);
        if self.out.is_empty() {
            // Most hardly ever write.
            self.out = Vec::new();
        }
        Ok(())
    }

    /// Takes all that has come and gives each frame: opcode and payload. Pings are answered. False when the server has ended
    /// the connection.
    pub fn readable(&mut self, buffer: &mut [u8], mut each: impl FnMut(u8, &[u8])) -> Result<bool, Failure> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(format!("a connection broke: {error}").into()),
            };
            self.take(&buffer[..read], &mut each)?;
            // Less than was room for: all that there was.
            if read < buffer.len() {
                return Ok(true);
            }
        }
    }

    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(u8, &[u8])) -> Result<(), Failure> {
        let State::Handshake { head } = &mut self.state else { return self.frames(bytes, each) };
        head.extend_from_slice(bytes);
        let Some(rest) = frames::after(head, b"\r\n\r\n") else {
            return if head.len() > HEAD_MAX { Err("an endless handshake".into()) } else { Ok(()) };
        };
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let status: String = String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned();
            return Err(format!("the handshake was refused: {status}").into());
        }
        let rest = rest.to_vec();
        self.state = State::Open;
        self.frames(&rest, each)
    }

    fn frames(&mut self, bytes: &[u8], each: &mut impl FnMut(u8, &[u8])) -> Result<(), Failure> {
        let out = &mut self.out;
        let mut pinged = false;
        let read = self.reader.feed(bytes, |opcode, payload| {
            if opcode == opcode::PING {
                frames::write(out, frames::PONG, payload);
                pinged = true;
            }
            each(opcode, payload);
        });
        read.map_err(|_| "a frame without end")?;
        if pinged { self.flush() } else { Ok(()) }
    }
}
