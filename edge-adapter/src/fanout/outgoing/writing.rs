//! From a connection's chain to its socket: one write with all that is pending, and what the socket does not take waits.
use super::{Class, Link, Outgoing, Piece};
use crate::fanout::connection::Connection;
use crate::fanout::rooms::NONE;
use crate::fanout::socket::Socket;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

/// How many pieces one write takes: far more than a turn gives a connection, and little enough for the stack.
const SLICES: usize = 64;

/// How a connection fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// All is written, or waits within bounds.
    Fine,
    /// More waits than may.
    TooSlow,
    /// The socket is broken.
    Broken,
}

impl Outgoing {
    /// Writes what is pending for a connection, as far as its socket takes it; `limit` is how many bytes may wait.
    pub fn flush(&mut self, connection: &mut Connection, limit: usize) -> Flushed {
        let waited = connection.backlog_bytes();
        let first = std::mem::replace(&mut connection.first, NONE);
        let writable = std::mem::take(&mut connection.writable);
        let done = if connection.backlog.is_some() {
            self.put_behind(connection, first, 0, limit);
            if writable { self.write_backlog(connection) } else { Ok(()) }
        } else {
            self.write(connection, first, limit)
        };
        let waits = connection.backlog_bytes();
        self.tally.backlog += waits as i64 - waited as i64;
        // One turn's frames may be more than the bound, a state of a big room or a page of history: whoever had kept up until then is
        // given the time to read them, and half the bound for what comes meanwhile.
        if waits > limit
            && waited <= limit / 2
            && let Some(backlog) = &mut connection.backlog
        {
            backlog.excess = waits - limit / 2;
        }
        let excess = connection.backlog.as_ref().map_or(0, |backlog| backlog.excess);
        match done {
            Err(_) => Flushed::Broken,
            Ok(()) if waits > limit + excess => Flushed::TooSlow,
            Ok(()) => Flushed::Fine,
        }
    }

    /// Writes to a socket that nothing waits for.
    fn write(&mut self, connection: &mut Connection, first: u32, limit: usize) -> io::Result<()> {
        let mut at = first;
        while at != NONE {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let (mut filled, mut wanted, mut next) = (0, 0, at);
            while filled < SLICES && next != NONE {
                let Link { piece, next: after } = self.links[next as usize];
                let bytes = self.bytes(piece, connection.dialect);
                slices[filled] = IoSlice::new(bytes);
                wanted += bytes.len();
                filled += 1;
                next = after;
            }
            let mut cx = Context::from_waker(&connection.waker);
            let taken = match connection.socket.poll_write(&mut cx, &slices[..filled]) {
                Poll::Ready(Ok(0)) if wanted > 0 => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(taken) => taken?,
                Poll::Pending => 0,
            };
            self.tally.writes += 1;
            self.tally.bytes += taken as u64;
            if taken < wanted {
                self.put_behind(connection, at, taken, limit);
                // Until it is pending nobody wakes this connection.
                return self.write_backlog(connection);
            }
            at = next;
        }
        flush_stream(connection)
    }

    /// Puts a chain of which `taken` bytes are written behind what waits. An ephemeral event takes the place of the older
    /// one with its key, but at the back, where its order among sequenced events is right. Without an older one it is
    /// dropped while more than half of `limit` waits: so there are never more of them than then fit. One that is
    /// longer than the older one may use half of the rest too; beyond, both go, since an outdated one misleads.
    fn put_behind(&mut self, connection: &mut Connection, first: u32, mut taken: usize, limit: usize) {
        let dialect = connection.dialect;
        let backlog = connection.backlog.get_or_insert_default();
        let (mut drops, mut conflated) = (0, 0);
        let mut at = first;
        while at != NONE {
            let Link { piece, next } = self.links[at as usize];
            at = next;
            let bytes = self.bytes(piece, dialect);
            if taken >= bytes.len() {
                taken -= bytes.len();
                continue;
            }
            // The rest of a run of which parts may be left out is taken apart.
            let events = match piece {
                Piece::Run(run) if !self.runs[run as usize].sequenced => {
                    (self.runs[run as usize].first, usize::MAX)
                }
                Piece::Event(event) => (event, 1),
                Piece::Own(_) | Piece::Run(_) => {
                    backlog.push(bytes.clone(), std::mem::take(&mut taken));
                    continue;
                }
            };
            for event in self.chain(events.0).take(events.1) {
                let frame = event.event.bytes(dialect);
                let len = frame.len();
                match event.class {
                    _ if taken >= len => taken -= len,
                    Class::Ephemeral { key } if taken == 0 => {
                        let older = backlog.take_out(key);
                        conflated += u64::from(older.is_some());
                        let fits = match older {
                            Some(older) => len <= older || backlog.bytes() <= limit - limit / 4,
                            None => backlog.bytes() <= limit / 2,
                        };
                        if fits {
                            backlog.push_keyed(frame.clone(), key);
                        } else {
                            drops += 1;
                        }
                    }
                    // What is begun must be ended, whatever it is.
                    Class::Sequenced | Class::Ephemeral { .. } => {
                        backlog.push(frame.clone(), std::mem::take(&mut taken));
                    }
                }
            }
        }
        self.tally.ephemeral_drops += drops;
        self.tally.ephemeral_conflated += conflated;
    }

    /// Writes a backlog until the socket is full, and will wake the connection, or nothing is left.
    pub fn write_backlog(&mut self, connection: &mut Connection) -> io::Result<()> {
        while let Some(backlog) = &mut connection.backlog {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = backlog.slices(&mut slices);
            if filled == 0 {
                connection.backlog = None;
                break;
            }
            let mut cx = Context::from_waker(&connection.waker);
            match connection.socket.poll_write(&mut cx, &slices[..filled]) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(taken) => {
                    let taken = taken?;
                    backlog.advance(taken);
                    self.tally.writes += 1;
                    self.tally.bytes += taken as u64;
                }
            }
        }
        flush_stream(connection)
    }
}

/// Sends on what a stream keeps back. If it cannot now, it wakes the connection, and the shard tries again.
pub fn flush_stream(connection: &mut Connection) -> io::Result<()> {
    if matches!(connection.socket, Socket::Tcp(_)) {
        return Ok(());
    }
    let mut cx = Context::from_waker(&connection.waker);
    match connection.socket.poll_flush(&mut cx) {
        Poll::Ready(done) => done,
        Poll::Pending => Ok(()),
    }
}
