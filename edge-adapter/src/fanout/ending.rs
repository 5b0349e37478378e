//! How connections end: one way out of the rooms and of the core, whatever the reason, and one count of it.
use crate::fanout::connection::Phase;
use crate::fanout::shard::{Drain, Shard};
use crate::session::place::Stage;
use crate::session::request::Request;
use crate::wire::close::CloseReason;
use crate::wire::dialect::{self, Dialect};
use crate::wire::event::{Code, Failure};
use crate::wire::frame::Frame;
use crate::wire::json;
use crate::wire::websocket::write_close;
use bytes::Bytes;
use std::time::Duration;

/// How long a client may take to answer a close frame.
const CLOSE_LINGER: Duration = Duration::from_secs(3);
/// How long a drain waits for answers that the core owes, at most half of its time.
const DRAIN_ANSWERS: Duration = Duration::from_secs(2);
/// And then for the link's word that they will not come.
const DRAIN_REFUSALS: Duration = Duration::from_millis(200);
/// Over how long the clients of a drained edge spread their return, for each of them; the other edges take a thousand
/// a second without noticing.
const RETURN_PER_SESSION_MS: u64 = 1;
/// The least of it.
const RETURN_MIN_MS: u64 = 1000;

impl Shard {
    /// Ends the session by the server's will: a close frame, then the client's is awaited.
    pub(super) fn shut(&mut self, slot: u32, reason: CloseReason) {
        let connection = self.connections.get_mut(slot as usize);
        let head = connection.and_then(|connection| connection.start.as_mut()?.head.take());
        if let Some(head) = head {
            // An EventSource never comes back after another status than 200, so what is for a while is told in band.
            self.out.own(&mut self.connections, slot, head.ok);
            if reason == CloseReason::Draining {
                self.tell_draining(slot, RETURN_MIN_MS);
            }
        }
        if self.end(slot, reason) {
            let Some(connection) = self.connections.get_mut(slot as usize) else { return };
            let dialect = connection.dialect;
            // Without a handshake for it, the end of ours is the end.
            connection.deaf |= !dialect.is_websocket();
            if let Some(frame) = farewell(dialect, reason) {
                self.out.own(&mut self.connections, slot, frame);
            } else if let Some(connection) = self.connections.get_mut(slot as usize) {
                self.out.touch(connection, slot);
            }
            self.linger(slot);
        }
    }

    /// Ends the session of a client that does not read what it asked for: what waits is dropped, so that the close
    /// frame is the next that it reads.
    pub(super) fn too_slow(&mut self, slot: u32) {
        self.metrics.slow_consumers.inc();
        if !self.end(slot, CloseReason::SlowConsumer) {
            return;
        }
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if let Some(backlog) = &mut connection.backlog {
            let waited = backlog.bytes();
            if connection.dialect.is_websocket() {
                backlog.cut();
                backlog.push(close_frame(CloseReason::SlowConsumer), 0);
            } else {
                // What is cut off in the middle is no event, and the client goes on behind the last whole one.
                **backlog = Default::default();
                connection.deaf = true;
            }
            self.out.tally.backlog += backlog.bytes() as i64 - waited as i64;
        }
        self.linger(slot);
    }

    /// Ends the session by the client's will: its code is echoed, then the socket goes.
    pub(super) fn bye(&mut self, slot: u32, code: Option<u16>) {
        let reason = match code {
            None | Some(1000) => CloseReason::Bye,
            Some(_) => CloseReason::Vanished,
        };
        if self.end(slot, reason) {
            let mut echo = Vec::new();
            write_close(&mut echo, code, "");
            self.out.own(&mut self.connections, slot, echo.into());
        }
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            connection.phase = Phase::Ending;
            self.out.touch(connection, slot);
        }
    }

    /// There is nobody any more.
    pub(super) fn gone(&mut self, slot: u32) {
        self.end(slot, CloseReason::Vanished);
        self.remove(slot);
    }

    /// Takes the session out of its rooms and tells the core; false if that had been done.
    fn end(&mut self, slot: u32, reason: CloseReason) -> bool {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        if !connection.is_alive() {
            return false;
        }
        connection.phase = Phase::Closing;
        self.set_until(slot, None);
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        let asked = connection.start.as_ref().is_none_or(|start| start.asked);
        connection.start = None;
        let key = connection.key;
        let live = connection.session.places().iter().filter(|place| place.stage == Stage::Live);
        for room in live.map(|place| place.room).collect::<Vec<_>>() {
            // It was there when what is pending came.
            self.out.cut(&mut self.connections, &mut self.rooms, room);
        }
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        let session = std::mem::take(&mut connection.session);
        for place in session.places().iter().filter(|place| place.stage == Stage::Live) {
            self.leave(place.room, place.index);
        }
        if asked {
            // Never refused.
            let _ = self.upstream.send(Request::Close { session: key, vanished: reason.may_return() });
        }
        self.metrics.closed(reason);
        true
    }

    fn linger(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get(slot as usize) {
            self.closing.push_back((self.clock.now + CLOSE_LINGER, connection.key));
            // So far nobody may have read, and so nobody would be woken by the answer.
            self.again.push(slot);
        }
    }

    /// Tells everybody, and ends those who wait for nothing.
    pub(super) fn begin_drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        // What has come so far stands before the news.
        self.out.cut_all(&mut self.connections, &mut self.rooms);
        let wait = DRAIN_ANSWERS.min(self.config.drain_timeout / 2);
        self.drain = Some(Drain::Answers(self.clock.now + wait));
        let spread = (self.census.count() as u64).saturating_mul(RETURN_PER_SESSION_MS).max(RETURN_MIN_MS);
        for slot in self.alive() {
            if self.connections[slot as usize].phase == Phase::Open {
                self.tell_draining(slot, spread);
            }
            self.drained(slot);
        }
    }

    fn tell_draining(&mut self, slot: u32, spread: u64) {
        if self.connections[slot as usize].dialect == Dialect::Sse {
            // An EventSource comes back by itself, after this.
            let retry = dialect::sse_retry(fastrand::u64(..=spread));
            self.out.own(&mut self.connections, slot, retry.into());
        }
        self.say(slot, &Frame::Draining { reconnect_after_ms: spread });
    }

    /// While draining, ends the session if the core owes it nothing.
    pub(super) fn drained(&mut self, slot: u32) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        if self.drain.is_some() && (connection.phase == Phase::Opening || !connection.session.is_due()) {
            self.shut(slot, CloseReason::Draining);
        }
    }

    /// No longer waits for the core: what it has not answered is told to be unknown.
    pub(super) fn give_up(&mut self) {
        self.drain = Some(Drain::Refusals(self.clock.now + DRAIN_REFUSALS));
        // Never refused.
        let _ = self.upstream.send(Request::GiveUp);
    }

    /// Ends the rest.
    pub(super) fn end_drain(&mut self) {
        self.drain = Some(Drain::Over);
        for slot in self.alive() {
            self.shut(slot, CloseReason::Draining);
        }
    }

    fn alive(&self) -> Vec<u32> {
        let alive = self.connections.iter().filter(|(_, connection)| connection.is_alive());
        alive.map(|(slot, _)| slot as u32).collect()
    }
}

/// When a client comes back that found no room, in milliseconds; each somewhat later or earlier.
fn overloaded_retry() -> u64 {
    fastrand::u64(5000..15_000)
}

/// The last that a session is told.
fn farewell(dialect: Dialect, reason: CloseReason) -> Option<Bytes> {
    if dialect.is_websocket() {
        return Some(close_frame(reason));
    }
    let (retry, last) = match reason {
        CloseReason::Overloaded => {
            let ms = overloaded_retry();
            (Some(dialect::sse_retry(ms)), json::overloaded(ms))
        }
        CloseReason::TokenExpired => (None, json::token_expired()),
        CloseReason::Kicked => {
            let failure = Failure::new(Code::PermissionDenied, "an administrator has ended this session");
            return Some(Frame::Error { id: None, room: None, failure: &failure }.encode(dialect, None));
        }
        _ => return None,
    };
    Some(match dialect {
        Dialect::Sse => [retry.unwrap_or_default().as_bytes(), &last.into_event(None)].concat().into(),
        _ => last.into_line(),
    })
}

fn close_frame(reason: CloseReason) -> Bytes {
    let (code, word) = reason.code_and_word();
    let mut frame = Vec::new();
    write_close(&mut frame, Some(code), word);
    frame.into()
}
