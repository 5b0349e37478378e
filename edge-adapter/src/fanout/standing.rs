//! How long a session may go on as it is: until it has said who it is, until its token ends.
use crate::fanout::connection::{Phase, Then, Until};
use crate::fanout::shard::Shard;
use crate::session::key::SessionKey;
use crate::session::request::{ClientId, Credentials, Request};
use crate::wire::close::CloseReason;
use crate::wire::command::{Action, Command, Rejected};
use crate::wire::frame::{Acked, Frame};
use std::time::{Duration, Instant, SystemTime};

/// How long before its token's end a session is told.
const WARNING: Duration = Duration::from_secs(30);

impl Shard {
    /// The core has not let a session in that may still say who it is: it has some time for that. False if it may not.
    pub(super) fn wait_for_token(&mut self, slot: u32) -> bool {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        let Some(start) = connection.start.as_mut().filter(|start| start.may_bring_token) else {
            return false;
        };
        // It is no session of the core's any longer.
        start.asked = false;
        let mut read_ahead = std::mem::take(&mut start.read_ahead).to_vec();
        connection.phase = Phase::Waiting;
        connection.heard = self.clock.tick;
        let at = self.clock.now + self.config.defence.auth_timeout;
        self.set_until(slot, Some(Until { at, then: Then::Refuse }));
        self.take_in(slot, &mut read_ahead);
        self.read(slot);
        true
    }

    /// The first frame of a session that has not said who it is.
    pub(super) fn introduce(&mut self, slot: u32, command: Result<Command, Rejected>) {
        let Ok(Command { id, action: Action::Auth { token } }) = command else {
            return self.shut(slot, CloseReason::Unauthenticated);
        };
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Some(start) = &mut connection.start else { return };
        (start.asked, start.may_bring_token, start.brought) = (true, false, Some(id));
        connection.phase = Phase::Opening;
        let (session, id) = (connection.key, start.id.clone());
        let who = Credentials::token(token.0);
        self.set_until(slot, None);
        // Never refused.
        let _ = self.upstream.send(Request::Open { session, id, who, rooms: Vec::new() });
    }

    /// A session's token is another one.
    pub(super) fn refreshed(&mut self, session: SessionKey, id: Option<&ClientId>, expires_us: Option<u64>) {
        let Some(slot) = self.open(session) else { return };
        self.connections[slot as usize].session.answered();
        self.ends_at(slot, expires_us);
        if let Some(id) = id {
            self.say(slot, &Frame::Ack { id, room: None, acked: Acked::Refreshed { expires_us } });
        }
        self.drained(slot);
    }

    /// When a session's token ends, in microseconds since 1970; never, if it has none.
    pub(super) fn ends_at(&mut self, slot: u32, expires_us: Option<u64>) {
        let until = expires_us.and_then(|expires_us| {
            let left = Duration::from_micros(expires_us).saturating_sub(since_1970());
            // None is beyond what this clock can name, and nobody will wait for it.
            let ends = self.clock.now.checked_add(left)?;
            Some(Until { at: ends - left.min(WARNING), then: Then::Warn { ends, expires_us } })
        });
        self.set_until(slot, until);
    }

    /// The time until which a session may go on is another one.
    pub(super) fn set_until(&mut self, slot: u32, until: Option<Until>) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let before = std::mem::replace(&mut connection.until, until.map(Box::new));
        if let Some(before) = before {
            self.ending.remove(&(before.at, connection.key));
        }
        if let Some(until) = until {
            self.ending.insert((until.at, connection.key));
        }
    }

    /// Does what has become due.
    pub(super) fn end_what_is_due(&mut self, now: Instant) {
        while let Some(&(at, session)) = self.ending.first()
            && at <= now
        {
            self.ending.pop_first();
            let slot = session.slot() as u32;
            let connection = self.connections.get_mut(slot as usize).filter(|found| found.key == session);
            let Some(until) = connection.and_then(|connection| connection.until.take()) else { continue };
            match until.then {
                Then::Refuse => self.shut(slot, CloseReason::Unauthenticated),
                Then::Warn { ends, expires_us } => {
                    self.set_until(slot, Some(Until { at: ends, then: Then::End }));
                    self.say(slot, &Frame::TokenExpiring { expires_us });
                }
                Then::End => self.shut(slot, CloseReason::TokenExpired),
            }
        }
    }
}

fn since_1970() -> Duration {
    // A clock before 1970 is wrong, and then nothing has ended.
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}
