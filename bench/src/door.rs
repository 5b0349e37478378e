//! Where the connections of a load to one server wait: one thread, one poll and one buffer for all of them.
use crate::{Failure, socket::Socket};
use mio::{Events, Poll, Token};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How many connections are being made at once: below any server's backlog, so that none waits for a lost SYN.
pub const CONNECTING: usize = 256;
/// One read's worth.
const READ_BYTES: usize = 256 * 1024;
/// How many events are taken at once.
const EVENTS: usize = 1024;

/// The way to one server.
pub struct Door {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Door {
    /// To the server at that address, until somebody says stop.
    pub fn new(address: SocketAddr, stop: &Arc<AtomicBool>) -> Result<Door, Failure> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(EVENTS));
        Ok(Door { poll, events, buffer: vec![0; READ_BYTES], address, stop: stop.clone() })
    }

    /// Begins to connect; `nth` is what the connection is known by, `headers` are lines of the handshake besides.
    pub fn connect(&self, nth: usize, target: &str, headers: &str) -> Result<Socket, Failure> {
        Socket::connect(self.poll.registry(), Token(nth), self.address, target, headers)
    }

    /// Waits as long as told, and gives each connection that is ready. A number may be that of one that was dropped meanwhile.
    pub fn turn(
        &mut self,
        wait: Option<Duration>,
        mut each: impl FnMut(usize, &mut Ready<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        for event in &self.events {
            let (readable, writable) = (event.is_readable(), event.is_writable());
            each(event.token().0, &mut Ready { readable, writable, buffer: &mut self.buffer })?;
        }
        Ok(())
    }
}

/// What a connection is ready for.
pub struct Ready<'a> {
    readable: bool,
    writable: bool,
    buffer: &'a mut [u8],
}

impl Ready<'_> {
    /// Writes what waits and reads what has come, and gives each frame: opcode and payload. False when the server has ended
    /// the connection.
    pub fn serve(&mut self, socket: &mut Socket, each: impl FnMut(u8, &[u8])) -> Result<bool, Failure> {
        if self.writable {
            socket.writable()?;
        }
        if self.readable { socket.readable(self.buffer, each) } else { Ok(true) }
    }
}
