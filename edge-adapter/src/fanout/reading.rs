//! From a socket that is ready to commands, and what becomes of them.
use crate::fanout::connection::Phase;
use crate::fanout::outgoing::flush_stream;
use crate::fanout::shard::Shard;
use crate::session::request::Request;
use crate::session::state::{Reply, Undo, Verdict};
use crate::wire::close::CloseReason;
use crate::wire::command::{self, Command, Rejected};
use crate::wire::frame::{Acked, Frame};
use crate::wire::protobuf;
use crate::wire::websocket::parser::{Message, Violation};
use crate::wire::websocket::{Opcode, write_frame};
use bytes::Bytes;
use std::task::{Context, Poll};

/// A message, free of the bytes that it was read from.
enum Said {
    Command(Result<Command, Rejected>),
    Ping(Bytes),
    Pong,
    Unsupported,
    Close(Option<u16>),
    Nonsense(Violation),
}

/// What a stranger's first frame may have: the longest token, and room around it.
const INTRODUCTION_MAX: usize = 16 * 1024;

impl Shard {
    /// A socket is ready to be read, to be written, or both.
    pub(super) fn ready(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        connection.wake.heard();
        if connection.backlog.is_some() {
            connection.writable = true;
            self.out.touch(connection, slot);
        } else if flush_stream(connection).is_err() {
            return self.gone(slot);
        }
        if connection.phase != Phase::Opening {
            self.read(slot);
        }
    }

    /// Reads once, and once more to be woken when there is more.
    pub(super) fn read(&mut self, slot: u32) {
        for _ in 0..2 {
            let Some(connection) = self.connections.get_mut(slot as usize) else { return };
            // It has just said who it is, and is read on when it is let in.
            if connection.phase == Phase::Opening {
                return;
            }
            let mut cx = Context::from_waker(&connection.waker);
            match connection.socket.poll_read(&mut cx, &mut self.buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(0) | Err(_)) => return self.gone(slot),
                Poll::Ready(Ok(n)) => {
                    let mut buffer = std::mem::take(&mut self.buffer);
                    self.take_in(slot, &mut buffer[..n]);
                    let full = n == buffer.len();
                    self.buffer = buffer;
                    if full {
                        break;
                    }
                }
            }
        }
        self.again.push(slot);
    }

    /// Acts on a client's bytes.
    pub(super) fn take_in(&mut self, slot: u32, mut bytes: &mut [u8]) {
        loop {
            let Some(connection) = self.connections.get_mut(slot as usize) else { return };
            connection.heard = self.clock.tick;
            // It has just said who it is; what it says behind that is heard when it is let in.
            if let (Phase::Opening, Some(start)) = (connection.phase, &mut connection.start) {
                start.read_ahead = Bytes::copy_from_slice(bytes);
                return;
            }
            // Behind the request, a client of another dialect has nothing to say.
            if connection.deaf || connection.phase == Phase::Ending || !connection.dialect.is_websocket() {
                return;
            }
            let limit = match connection.phase {
                Phase::Waiting => self.config.max_message_bytes.min(INTRODUCTION_MAX),
                _ => self.config.max_message_bytes,
            };
            let inflater = connection.dialect.deflates().then_some(&mut self.inflater);
            let said = match connection.parser.next(&mut bytes, limit, inflater) {
                Ok(None) => return,
                // Only the close frame matters still.
                Ok(Some(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong))
                    if !matches!(connection.phase, Phase::Open | Phase::Waiting) =>
                {
                    continue;
                }
                Ok(Some(Message::Text(text))) if !connection.dialect.is_protobuf() => {
                    Said::Command(command::parse(text))
                }
                Ok(Some(Message::Binary(bytes))) if connection.dialect.is_protobuf() => {
                    Said::Command(protobuf::command::parse(bytes))
                }
                Ok(Some(Message::Text(_) | Message::Binary(_))) => Said::Unsupported,
                Ok(Some(Message::Ping(payload))) => Said::Ping(Bytes::copy_from_slice(payload)),
                Ok(Some(Message::Pong)) => Said::Pong,
                Ok(Some(Message::Close(code))) => Said::Close(code),
                Err(violation) => Said::Nonsense(violation),
            };
            self.said(slot, said);
        }
    }

    fn said(&mut self, slot: u32, said: Said) {
        match said {
            Said::Command(command) => {
                self.out.tally.messages += 1;
                self.command(slot, command);
            }
            Said::Ping(payload) => {
                let mut pong = Vec::with_capacity(2 + payload.len());
                write_frame(&mut pong, Opcode::Pong, &payload);
                self.out.own(&mut self.connections, slot, pong.into());
            }
            Said::Pong => {}
            Said::Unsupported => self.shut(slot, CloseReason::UnsupportedData),
            Said::Close(code) => self.bye(slot, code),
            Said::Nonsense(violation) => {
                if let Some(connection) = self.connections.get_mut(slot as usize) {
                    connection.deaf = true;
                }
                self.shut(slot, violation.into());
            }
        }
    }

    fn command(&mut self, slot: u32, command: Result<Command, Rejected>) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.phase == Phase::Waiting {
            return self.introduce(slot, command);
        }
        let key = connection.key;
        let verdict = connection.session.on_command(&self.limits, self.clock.elapsed(), key, command);
        self.carry_out(slot, verdict);
    }

    /// Does what the session's state decided.
    pub(super) fn carry_out(&mut self, slot: u32, verdict: Verdict) {
        match verdict {
            Verdict::Reply(reply) => self.reply(slot, reply),
            Verdict::Close(reason) => self.shut(slot, reason),
            Verdict::Ask(request, undo) => {
                let Some(connection) = self.connections.get_mut(slot as usize) else { return };
                match connection.session.hold(request, undo, connection.is_drained()) {
                    Ok(None) => {}
                    Ok(Some((request, undo))) => self.ask(slot, request, undo),
                    Err(reply) => self.reply(slot, reply),
                }
            }
        }
    }

    /// Asks the core, or takes the command back.
    pub(super) fn ask(&mut self, slot: u32, request: Request, undo: Undo) {
        if self.upstream.send(request).is_err()
            && let Some(connection) = self.connections.get_mut(slot as usize)
        {
            let reply = connection.session.busy(undo);
            self.reply(slot, reply);
        }
    }

    fn reply(&mut self, slot: u32, reply: Reply) {
        match reply {
            Reply::Pong(None) => {}
            Reply::Pong(Some(id)) => {
                self.say(slot, &Frame::Ack { id: &id, room: None, acked: Acked::Ok });
            }
            Reply::Error(Rejected { id, room, failure }) => {
                self.error(slot, id.as_deref(), room.as_deref(), &failure);
            }
        }
    }
}
