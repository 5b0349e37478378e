//! The rooms' events: posted once for each shard that has live members, dense and in order, whatever the stream brings.
use crate::{
    fanout::{post::Post, shared::SharedEvent},
    link::{
        convert,
        out::Out,
        rooms::{Feed, Parked},
        table::{ASK_AGAIN, Again, Place, Progress, Session, Table},
    },
    session::key::{RoomId, SessionKey},
    wire::event::{Event, Position},
};
use hearth_proto::v1;
use std::{cmp::Ordering, mem, sync::Arc, time::Instant};

/// The most sessions that one `resume` names, so that it stays below a megabyte.
const RESUME_SESSIONS: usize = 100_000;

impl Table {
    /// A live event.
    pub(super) fn event(&mut self, event: v1::RoomEvent, now: Instant, out: &mut Out) {
        let v1::RoomEvent { event: Some(event), session } = event else { return };
        // Nobody is in the room any more.
        let Some((id, room)) = self.rooms.find(&event.room).and_then(|id| Some((id, self.rooms.get(id)?)))
        else {
            return;
        };
        let Some(position) = &room.position else { return };
        let at = position.seq;
        let name = Arc::clone(&room.name);
        let origin = self.by_id(&session);
        let Some(event) = convert::event(event, &name) else { return };
        if event.kind.is_ephemeral() {
            self.post_event(id, event, origin, out);
            return;
        }
        match event.seq.cmp(&(at + 1)) {
            Ordering::Less => {}
            Ordering::Equal => self.advance(id, event, origin, now, out),
            Ordering::Greater => {
                if self.rooms.get(id).is_some_and(|room| room.feed == Feed::Whole) {
                    tracing::warn!(room = %name, at, came = event.seq, "the core's events have a hole; asking for what is missing");
                    self.fill(id, out);
                }
            }
        }
    }

    /// The next event of a room.
    fn advance(&mut self, id: RoomId, event: Event, origin: Option<SessionKey>, now: Instant, out: &mut Out) {
        let seq = event.seq;
        self.post_event(id, event, origin, out);
        let Some(room) = self.rooms.get_mut(id) else { return };
        if let Some(position) = &mut room.position {
            position.seq = seq;
        }
        // Right here is the point that they speak of.
        let ready: Vec<Parked> = room.parked.extract_if(.., |parked| parked.after <= seq).collect();
        for parked in ready {
            self.answer(parked.frame, now, out);
        }
    }

    fn post_event(&self, id: RoomId, event: Event, origin: Option<SessionKey>, out: &mut Out) {
        let Some(room) = self.rooms.get(id) else { return };
        let event = Arc::new(SharedEvent::new(event));
        for shard in room.shards() {
            let origin = origin.filter(|origin| origin.shard() == shard);
            out.post_to(shard, Post::Event { room: id, event: Arc::clone(&event), origin });
        }
    }

    /// Asks for what a room misses.
    pub(super) fn fill(&mut self, id: RoomId, out: &mut Out) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        let Some(position) = &room.position else { return };
        room.feed = Feed::Filling;
        // Without a core, the next attach asks for all that is missing.
        if self.speaking {
            out.frames.push(convert::pull(None, 0, &room.name, position));
        }
    }

    /// Asks for a room anew, for all live sessions in it.
    pub(super) fn resume(&mut self, id: RoomId, sessions: &[SessionKey], out: &mut Out) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        let Some(position) = &room.position else { return };
        room.feed = Feed::Resuming;
        for some in sessions.chunks(RESUME_SESSIONS) {
            out.frames.push(convert::resume(0, &room.name, position, some.iter().copied()));
        }
    }

    /// A room goes on, after a new attach or because its numbering began anew.
    pub(super) fn resumed(
        &mut self,
        joined: Option<v1::Joined>,
        page: Option<v1::Page>,
        now: Instant,
        out: &mut Out,
    ) {
        let v1::Joined { room, position, recovered, .. } = joined.unwrap_or_default();
        let Some(id) = self.rooms.find(&room) else { return };
        let Some(here) = self.rooms.get(id).and_then(|room| room.position.as_ref()) else { return };
        let position = convert::position(position);
        if recovered == Some(false) || here.epoch != position.epoch {
            return self.reset(&room, &position, now, out);
        }
        let page = page.unwrap_or(v1::Page { live: true, ..Default::default() });
        self.absorb(id, page, Some(position.seq), now, out);
    }

    /// The next page of what a room misses.
    pub(super) fn filled(&mut self, page: v1::Page, now: Instant, out: &mut Out) {
        if let Some(id) = self.rooms.find(&page.room) {
            self.absorb(id, page, None, now, out);
        }
    }

    /// Posts the events of a page that are new, and goes on asking until the top is reached.
    fn absorb(&mut self, id: RoomId, page: v1::Page, top: Option<u64>, now: Instant, out: &mut Out) {
        let Some(room) = self.rooms.get(id) else { return };
        let Some(mut at) = room.position.as_ref().map(|position| position.seq) else { return };
        let (name, before) = (Arc::clone(&room.name), at);
        let mut hole = false;
        for event in page.events.into_iter().filter_map(|event| convert::event(event, &name)) {
            if event.seq == at + 1 {
                at = event.seq;
                self.advance(id, event, None, now, out);
            } else if event.seq > at {
                hole = true;
                break;
            }
        }
        // Those that came in may have left again.
        let Some(room) = self.rooms.get_mut(id).filter(|room| room.is_live() && room.name == name) else {
            return;
        };
        let whole = page.live && !hole && top.is_none_or(|top| at >= top);
        if whole {
            room.feed = Feed::Whole;
        } else if at > before {
            self.fill(id, out);
        } else {
            // No progress: not at once, else core and edge would do nothing else.
            room.feed = Feed::Filling;
            self.again.push((now + ASK_AGAIN, Again::Room(name)));
        }
    }

    /// A room's numbering began anew, or events were lost for good: all live members are told, and go on from there.
    fn reset(&mut self, name: &str, position: &Position, now: Instant, out: &mut Out) {
        let Some(room) = self.rooms.find(name).and_then(|id| self.rooms.get_mut(id)) else { return };
        // What waited for the feed came before this: it is acted upon as it stands, and told of this like the others.
        let parked = mem::take(&mut room.parked);
        room.position = None;
        for parked in parked {
            self.answer(parked.frame, now, out);
        }
        let Some(id) = self.rooms.find(name) else { return };
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.feed = Feed::Whole;
        let live = room.shards().next().is_some();
        room.position = live.then(|| position.clone());
        for shard in room.shards() {
            out.post_to(shard, Post::Reset { room: id, position: position.clone() });
        }
    }

    /// An answer that speaks of another epoch than the room's: the numbering began anew before it.
    pub(super) fn follow_epoch(&mut self, name: &str, position: &Position, now: Instant, out: &mut Out) {
        let room = self.rooms.find(name).and_then(|id| self.rooms.get(id));
        let here = room.and_then(|room| room.position.as_ref());
        if here.is_some_and(|here| here.epoch != position.epoch) {
            self.reset(name, position, now, out);
        }
    }

    /// A room could not be resumed or filled.
    pub(super) fn ask_again(&mut self, error: &v1::Error, now: Instant) {
        if self.rooms.find(&error.room).is_some() {
            tracing::warn!(room = error.room, error = error.message, "a room cannot be read; asking again");
            self.again.push((now + ASK_AGAIN, Again::Room(self.rooms.name(&error.room))));
        }
    }

    /// Asks again for a room, as it was asked before.
    pub(super) fn ask_room(&mut self, name: &str, out: &mut Out) {
        let Some(id) = self.rooms.find(name) else { return };
        match self.rooms.get(id).map(|room| room.feed) {
            Some(Feed::Resuming) => {
                let here = |place: &Place| place.room == id && place.progress == Progress::Live;
                let of_room =
                    |(key, session): (&SessionKey, &Session)| session.places.iter().any(here).then_some(*key);
                let members: Vec<SessionKey> = self.sessions.iter().filter_map(of_room).collect();
                self.resume(id, &members, out);
            }
            Some(Feed::Filling) => self.fill(id, out),
            Some(Feed::Whole) | None => {}
        }
    }
}
