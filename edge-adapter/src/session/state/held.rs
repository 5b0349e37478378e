//! What waits for its turn: replays and pages of history come one after the other, as fast as the socket is read.
use super::{Reply, Session, Undo};
use crate::session::place::Stage;
use crate::session::request::Request;
use crate::wire::event::Kind;
use std::collections::VecDeque;

/// How many joins and leaves may wait for replays: all rooms that a session may be in by default, out and in again.
pub(super) const HELD_MAX: usize = 200;

/// Boxed in one piece, since hardly any session has one.
#[derive(Debug, Default)]
pub(super) struct Held {
    queue: VecDeque<(Request, Undo)>,
}

impl Session {
    /// What may go to the core now. Replays and pages of history come one after the other, or a client that comes back to
    /// many rooms would overrun its queue for ever; `drained` says that nothing much waits for its socket. None: it is held,
    /// and [`Session::next_held`] gives it back.
    pub fn hold(
        &mut self,
        request: Request,
        undo: Undo,
        drained: bool,
    ) -> Result<Option<(Request, Undo)>, Reply> {
        let room = match &request {
            Request::Join { room, .. } | Request::Leave { room, .. } | Request::History { room, .. } => room,
            // These need the session to be in.
            Request::Publish { room, kind: Kind::Typing, .. } | Request::Presence { room, .. } => room,
            _ => return Ok(Some((request, undo))),
        };
        let waits = match &self.held {
            Some(held) => {
                is_long(&request) || held.queue.iter().any(|(_, undo)| undo.room.as_ref() == Some(room))
            }
            None => is_long(&request) && !self.may_replay(drained),
        };
        if !waits {
            self.note_replay(&request);
            return Ok(Some((request, undo)));
        }
        let held = self.held.get_or_insert_default();
        if held.queue.len() >= HELD_MAX {
            return Err(self.busy(undo));
        }
        held.queue.push_back((request, undo));
        Ok(None)
    }

    /// The next request that was held and may go now.
    pub fn next_held(&mut self, drained: bool) -> Option<(Request, Undo)> {
        let (first, _) = self.held.as_ref()?.queue.front()?;
        if is_long(first) && !self.may_replay(drained) {
            return None;
        }
        let held = self.held.as_mut()?;
        let next = held.queue.pop_front()?;
        if held.queue.is_empty() {
            self.held = None;
        }
        self.note_replay(&next.0);
        Some(next)
    }

    fn may_replay(&self, drained: bool) -> bool {
        drained
            && !self.reading
            && !self.places.iter().any(|place| place.replaying || place.stage == Stage::Paging)
    }

    fn note_replay(&mut self, request: &Request) {
        match request {
            Request::History { .. } => self.reading = true,
            Request::Join { room, .. } if is_long(request) => {
                if let Some(place) = self.places.iter_mut().find(|place| place.name == *room) {
                    place.replaying = true;
                }
            }
            _ => {}
        }
    }

    /// A page of history, or an error in its stead, has come.
    pub fn history_read(&mut self) {
        self.answered();
        self.reading = false;
    }
}

/// Whether the answer to a request may be long.
fn is_long(request: &Request) -> bool {
    match request {
        Request::History { .. } => true,
        Request::Join { since, history, .. } => since.is_some() || *history > 0,
        _ => false,
    }
}
