//! How connections end: one way out of the rooms and of the core, whatever the reason, and one count of it.
use crate::fanout::connection::Phase;
use crate::fanout::shard::{Drain, Shard};
use crate::session::request::Request;
use crate::session::state::Stage;
use crate::wire::close::CloseReason;
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
        if self.end(slot, reason) {
            self.out.own(&mut self.connections, slot, close_frame(reason));
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
            backlog.cut();
            backlog.push(close_frame(CloseReason::SlowConsumer), 0);
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
        let asked = connection.start.as_ref().is_none_or(|start| start.asked);
        connection.start = None;
        let session = std::mem::take(&mut connection.session);
        let key = connection.key;
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
        let wait = DRAIN_ANSWERS.min(self.config.drain_timeout / 2);
        self.drain = Some(Drain::Answers(self.clock.now + wait));
        let spread = (self.census.count() as u64).saturating_mul(RETURN_PER_SESSION_MS).max(RETURN_MIN_MS);
        let frame = json::draining(spread).into_frame();
        for slot in self.alive() {
            if self.connections[slot as usize].phase == Phase::Open {
                self.out.own(&mut self.connections, slot, frame.clone());
            }
            self.drained(slot);
        }
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

fn close_frame(reason: CloseReason) -> Bytes {
    let (code, word) = reason.code_and_word();
    let mut frame = Vec::new();
    write_close(&mut frame, Some(code), word);
    frame.into()
}
