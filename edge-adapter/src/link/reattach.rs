//! From one core to the next: what is told to the new one, and what becomes of requests that the old one did not answer.
use crate::{
    link::{
        convert::{self, Who},
        out::Out,
        pending::Stage,
        rooms::Feed,
        table::{Again, Progress, RETRY_AFTER, Table, session_of},
    },
    session::{key::SessionKey, request::Request},
    wire::event::{Code, Failure},
};
use std::{collections::HashMap, time::Instant};

impl Table {
    /// A core is there: its sessions are opened, their rooms resumed, and then all requests under way are sent in order.
    pub fn attached(&mut self, now: Instant, out: &mut Out) {
        self.speaking = true;
        let mut members: HashMap<_, Vec<SessionKey>> = HashMap::new();
        for (key, session) in &self.sessions {
            // One that is not open yet has its request under way.
            let Some(user) = &session.user else { continue };
            out.frames.push(convert::open(*key, 0, &session.id, Who::Known(user)));
            for place in session.places.iter().filter(|place| place.progress == Progress::Live) {
                members.entry(place.room).or_default().push(*key);
            }
        }
        for (room, sessions) in members {
            self.resume(room, &sessions, out);
        }
        for number in self.pending.numbers(|_| true) {
            self.send(number, now, out);
        }
    }

    /// The core goes away and takes nothing new; it still answers what it was asked.
    pub fn leaving(&mut self) {
        self.speaking = false;
    }

    /// How many answers may still come.
    pub fn in_flight(&self) -> usize {
        self.pending.numbers(|entry| entry.stage == Stage::Sent).len()
    }

    /// The core is lost. Browsers stay; their requests wait for the next core, save those that must not be sent twice.
    pub fn detached(&mut self, now: Instant, out: &mut Out) {
        self.speaking = false;
        self.again.clear();
        for (_, room) in self.rooms.iter_mut() {
            // Whatever waits there is asked for again: by its request, or by the room's `resume`.
            room.parked.clear();
            room.feed = Feed::Whole;
        }
        for place in self.sessions.values_mut().flat_map(|session| &mut session.places) {
            if place.progress == Progress::Paging {
                place.progress = Progress::Stranded;
            }
        }
        let mut hopeless = Vec::new();
        for (number, entry) in self.pending.iter_mut().filter(|(_, entry)| entry.stage == Stage::Sent) {
            entry.stage = Stage::Lost;
            let lost = *entry.lost.get_or_insert(now);
            let fenced = match &entry.request {
                Request::Publish { id, kind, .. } => {
                    id.is_some() && !kind.is_ephemeral() && entry.fence.is_some()
                }
                _ => true,
            };
            // A request that is lost with every core, again and again, may be the reason.
            let spent = now.saturating_duration_since(lost) >= self.grace
                && !matches!(entry.request, Request::Pull { .. });
            if !fenced || spent {
                hopeless.push(number);
            }
        }
        for number in hopeless {
            self.give_up(number, "the core was lost before it answered: the outcome is unknown", now, out);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, out: &mut Out) {
        if !self.speaking {
            return self.expire(now, out);
        }
        let due: Vec<Again> =
            self.again.extract_if(.., |(at, _)| *at <= now).map(|(_, again)| again).collect();
        for again in due {
            match again {
                Again::Request(number) => {
                    if self.pending.get(number).is_some_and(|entry| entry.stage == Stage::Waiting) {
                        self.send(number, now, out);
                    }
                }
                Again::Room(name) => self.ask_room(&name, out),
            }
        }
    }

    /// Whether there is something to do later.
    pub fn has_timers(&self) -> bool {
        if self.speaking { !self.again.is_empty() } else { self.pending.len() > 0 }
    }

    /// Answers what has waited long enough for a core. Pulls wait on: their sessions stay, and lose nothing.
    fn expire(&mut self, now: Instant, out: &mut Out) {
        let grace = self.grace;
        let spent = self.pending.numbers(|entry| {
            entry.stage != Stage::Sent
                && !matches!(entry.request, Request::Pull { .. })
                && now.saturating_duration_since(entry.lost.unwrap_or(entry.arrived)) >= grace
        });
        for number in spent {
            let lost = self.pending.get(number).is_some_and(|entry| entry.stage == Stage::Lost);
            let why = if lost {
                "the core was lost before it answered, and no other was found: the outcome is unknown"
            } else {
                "no core is there"
            };
            self.give_up(number, why, now, out);
        }
    }

    fn give_up(&mut self, number: u64, why: &'static str, now: Instant, out: &mut Out) {
        let Some(session) = self.pending.get(number).map(|entry| session_of(&entry.request)) else { return };
        if let Some((request, _)) = self.asked(session, number) {
            let failure = Failure::new(Code::Unavailable, why).retry_after_ms(RETRY_AFTER.as_millis() as u64);
            self.fail(request, failure, now, out);
        }
    }
}
