//! From one core to the next: what is told to the new one, and what cannot be.
use super::{DETACHED_GRACE, Duration, Failure, Feed, Instant, Table, What, convert, mark_sent, resume, v1};
use crate::{link::convert::Who, wire::event::Code};
use std::mem;

/// How many bytes of metas go into one frame.
const METAS_BYTES: usize = 64 * 1024;

impl Table {
    /// The core is away. What it had and cannot be asked again is answered at once; the rest waits.
    pub fn detach(&mut self, now: Instant) {
        self.detached_at = Some(now);
        self.out.frames.clear();
        self.retries.clear();
        for room in self.rooms.iter_mut() {
            // Their requests are still pending.
            room.held.clear();
        }
        for number in self.pending.lose(now, DETACHED_GRACE) {
            let message = "the core was lost before it answered: outcome unknown";
            self.fail(number, Failure::new(Code::Unavailable, message));
        }
    }

    /// A core is there: tells it the sessions, then their rooms, then what waits, in order.
    pub fn attach(&mut self, now: Instant, attached: &v1::Attached) {
        self.detached_at = None;
        let other_core = self.core.replace(attached.core.clone()).is_some_and(|core| core != attached.core);
        if other_core {
            self.hold = Some(now + Duration::from_millis(attached.presence_timeout_ms));
        }
        for (key, session) in &self.sessions {
            if let Some(known) = &session.known {
                self.out.frames.push_back(convert::open(
                    *key,
                    0,
                    &session.id,
                    Who::Known(known.opened()),
                    session.call,
                ));
            }
        }
        for (number, pending) in self.pending.iter_mut() {
            if let What::Open { .. } = pending.what {
                self.out.frames.push_back(pending.frame(number));
                pending.sent = true;
            }
        }
        self.resume_all();
        self.watch_all(other_core);
        for (number, pending) in self.pending.iter_mut() {
            if let What::Open { .. } = pending.what {
                continue;
            }
            // Made before it is marked: only a second time is fenced.
            self.out.frames.push_back(pending.frame(number));
            if !mem::replace(&mut pending.sent, true) {
                mark_sent(pending, &self.rooms, &self.epochs);
            } else if let What::Publish { .. } = pending.what {
                self.metrics.retried_publishes.inc();
            }
        }
    }

    fn resume_all(&mut self) {
        for room in self.rooms.iter_mut() {
            self.last_number += 1;
            room.feed = Feed::Resuming(self.last_number);
            let mut metas = Vec::new();
            let mut bytes = 0;
            for (session, member) in &mut room.members {
                // Another core counts anew.
                member.known_at = 0;
                let Some(meta) = &member.meta else { continue };
                bytes += meta.len();
                metas.push(v1::SessionMeta { session: session.number(), meta: meta.as_ref().to_owned() });
                if bytes > METAS_BYTES {
                    bytes = 0;
                    self.out.frames.push_back(convert::metas(&room.name, mem::take(&mut metas)));
                }
            }
            if !metas.is_empty() {
                self.out.frames.push_back(convert::metas(&room.name, metas));
            }
            resume(&mut self.out, self.last_number, room);
            for (session, member) in &room.members {
                if let Some(pull) = &member.pull {
                    let frame = convert::pull(Some(*session), pull.number, &room.name, &pull.after);
                    self.out.frames.push_back(frame);
                }
            }
        }
    }
}
