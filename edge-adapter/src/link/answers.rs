//! What the core's frames to sessions do to the table.
use crate::{
    fanout::post::Post,
    link::{
        convert,
        out::Out,
        rooms::{Feed, Parked},
        table::{ASK_AGAIN, Again, Place, Progress, Table},
    },
    session::{key::SessionKey, request::Request},
    wire::event::{Code, Failure, Position},
};
use hearth_proto::v1::{self, core_frame::Frame};
use std::{sync::Arc, time::Instant};

/// What `joined` says, beside its page.
struct Told {
    name: Arc<str>,
    position: Position,
    recovered: Option<bool>,
    replayed: u64,
}

impl Table {
    /// Keeps a frame back that changes who is live in a room at a point which the room's events have not reached here, and all
    /// that follows for the same session there. Gives back what need not wait.
    pub(super) fn park(
        &mut self,
        session: SessionKey,
        request: u64,
        frame: Frame,
        out: &mut Out,
    ) -> Option<Frame> {
        let (name, top) = match &frame {
            Frame::Joined(v1::LinkJoined { joined: Some(joined), page }) => {
                let live = page.as_ref().is_some_and(|page| page.live);
                let seq = joined.position.as_ref().map_or(0, |at| at.seq);
                let same = |epoch: &str| joined.position.as_ref().is_some_and(|at| at.epoch == epoch);
                let here =
                    self.rooms.find(&joined.room).and_then(|room| self.rooms.get(room)?.position.as_ref());
                let ahead = live && here.is_some_and(|here| same(&here.epoch) && here.seq < seq);
                (&joined.room, ahead.then_some(seq))
            }
            Frame::Page(page) => (&page.room, self.top_of(request, page)),
            Frame::Left(left) => (&left.room, None),
            _ => return Some(frame),
        };
        let Some(id) = self.rooms.find(name) else { return Some(frame) };
        let Some(room) = self.rooms.get_mut(id) else { return Some(frame) };
        let Some(position) = &room.position else { return Some(frame) };
        let behind =
            room.parked.iter().rev().find(|parked| parked.session == session).map(|parked| parked.after);
        let Some(after) = behind.max(top.filter(|top| position.seq < *top)) else { return Some(frame) };
        let frame = v1::CoreFrame { session: session.number(), request, frame: Some(frame) };
        room.parked.push(Parked { after, session, frame });
        if room.feed == Feed::Whole {
            self.fill(id, out);
        }
        None
    }

    /// Up to where the session will have been given everything, if this page makes it live.
    fn top_of(&self, request: u64, page: &v1::Page) -> Option<u64> {
        if !page.live {
            return None;
        }
        match (page.events.last(), self.pending.get(request).map(|entry| &entry.request)) {
            (Some(last), _) => Some(last.seq),
            (None, Some(Request::Pull { after, .. })) => Some(after.seq),
            (None, _) => None,
        }
    }

    pub(super) fn answer_session(
        &mut self,
        session: SessionKey,
        request: u64,
        frame: Frame,
        now: Instant,
        out: &mut Out,
    ) {
        match frame {
            Frame::Joined(joined) => self.joined(session, request, joined, now, out),
            Frame::Page(page) => self.page(session, request, page, out),
            Frame::Left(left) => {
                let asked = match self.asked(session, request) {
                    Some((Request::Leave { id, .. }, _)) => Some(id),
                    _ => None,
                };
                self.left(session, &left.room, asked, now, out);
            }
            Frame::Ack(ack) => self.acked(session, request, ack, now, out),
            Frame::Error(error) => self.failed(session, request, error, now, out),
            Frame::History(page) => self.history(session, request, page, out),
            Frame::Opened(opened) => self.opened(session, request, opened, out),
            Frame::Refused(error) => {
                self.forget(session, now, out);
                out.post(session, Post::Refused { session, failure: convert::failure(error) });
            }
            // For the edge itself.
            Frame::Event(_) | Frame::Resumed(_) | Frame::Attached(_) | Frame::Goodbye(_) => {}
        }
    }

    fn opened(&mut self, session: SessionKey, request: u64, opened: v1::Opened, out: &mut Out) {
        // By its number, or else it is the only one of the session.
        let open = self.numbers(session).find(|number| {
            *number == request
                || self
                    .pending
                    .get(*number)
                    .is_some_and(|entry| matches!(entry.request, Request::Open { .. }))
        });
        if let Some(open) = open {
            self.asked(session, open);
        }
        let Some(here) = self.sessions.get_mut(&session) else { return };
        let user: Arc<str> = opened.user.into();
        // After a new attach the session has long been told.
        if here.user.replace(Arc::clone(&user)).is_none() {
            out.post(session, Post::Opened { session, user });
        }
    }

    fn joined(
        &mut self,
        session: SessionKey,
        request: u64,
        joined: v1::LinkJoined,
        now: Instant,
        out: &mut Out,
    ) {
        let v1::LinkJoined { joined, page } = joined;
        let v1::Joined { room, position, recovered, replayed } = joined.unwrap_or_default();
        let told =
            Told { name: self.rooms.name(&room), position: convert::position(position), recovered, replayed };
        self.follow_epoch(&told.name, &told.position, now, out);
        let asked = self.asked(session, request).map(|(request, _)| request);
        let place = self.place(session, &room).copied();
        match (place, page) {
            (Some(place), Some(page)) => self.regain(session, place, asked, told, page, now, out),
            (Some(place), None) => self.still_joined(session, place, asked, told, now, out),
            (None, page) => self.enter(session, asked, told, page, out),
        }
    }

    /// A session that was not in the room is.
    fn enter(
        &mut self,
        session: SessionKey,
        asked: Option<Request>,
        told: Told,
        page: Option<v1::Page>,
        out: &mut Out,
    ) {
        // Nobody asked: it has left meanwhile.
        let Some(Request::Join { id, echo, .. }) = asked else { return };
        let Told { name, position, recovered, replayed } = told;
        let page = page.unwrap_or(v1::Page { live: true, ..Default::default() });
        let room = self.rooms.enter(&name);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.places.push(Place { room, echo, progress: Progress::Paging });
        }
        if page.live {
            self.go_live(session, &name, &position);
        }
        let (live, page) = (page.live, convert::events(page.events, &name));
        out.post(
            session,
            Post::Joined { session, id, room, name, echo, position, recovered, replayed, page, live },
        );
    }

    /// A session that is in the room has a new place there: its own was lost, or the core did not know of it.
    #[allow(clippy::too_many_arguments)]
    fn regain(
        &mut self,
        session: SessionKey,
        place: Place,
        asked: Option<Request>,
        told: Told,
        page: v1::Page,
        now: Instant,
        out: &mut Out,
    ) {
        let Told { name, position, recovered, replayed } = told;
        if let Some(Request::Pull { after, .. }) = &asked
            && recovered == Some(true)
            && after.epoch == position.epoch
        {
            // A pull that joined anew goes on where it was.
            return self.paged(session, place, after.clone(), page, out);
        }
        // A pull that failed is answered by this, without its number.
        self.drop_pulls(session, &name);
        let (id, echo) = match asked {
            Some(Request::Join { id, echo, .. }) => (id, echo),
            _ => (None, place.echo),
        };
        if place.progress == Progress::Live {
            self.end_live(session, place.room, now, out);
        }
        if let Some(place) = self.place(session, &name) {
            *place = Place { echo, progress: Progress::Paging, ..*place };
        }
        if page.live {
            self.go_live(session, &name, &position);
        }
        let room = place.room;
        let (live, page) = (page.live, convert::events(page.events, &name));
        out.post(
            session,
            Post::Joined { session, id, room, name, echo, position, recovered, replayed, page, live },
        );
    }

    /// A session asked to join a room that it is in.
    fn still_joined(
        &mut self,
        session: SessionKey,
        place: Place,
        asked: Option<Request>,
        told: Told,
        now: Instant,
        out: &mut Out,
    ) {
        match asked {
            Some(Request::Join { id, .. }) => {
                let (room, position) = (place.room, told.position);
                out.post(session, Post::StillJoined { session, id, room, position });
            }
            // It joined anew to go on with its replay, but the core knows it: it may pull.
            Some(pull @ Request::Pull { .. }) => {
                self.add(pull, now, out);
            }
            _ => {}
        }
    }

    fn page(&mut self, session: SessionKey, request: u64, page: v1::Page, out: &mut Out) {
        let asked = self.asked(session, request).map(|(request, _)| request);
        let Some(Request::Pull { after, .. }) = asked else { return };
        match self.place(session, &page.room).copied() {
            Some(place) if place.progress != Progress::Live => self.paged(session, place, after, page, out),
            _ => {}
        }
    }

    /// The next page of a session's replay.
    fn paged(&mut self, session: SessionKey, place: Place, after: Position, page: v1::Page, out: &mut Out) {
        let name = self.rooms.name(&page.room);
        if page.live {
            let seq = page.events.last().map_or(after.seq, |last| last.seq);
            self.go_live(session, &name, &Position { seq, ..after });
        }
        let (live, events) = (page.live, convert::events(page.events, &name));
        out.post(session, Post::Page { session, room: place.room, events, live });
    }

    fn go_live(&mut self, session: SessionKey, room: &str, position: &Position) {
        let Some(place) = self.place(session, room) else { return };
        place.progress = Progress::Live;
        let room = place.room;
        self.rooms.go_live(room, session, position);
    }

    /// Drops a session's pulls in a room.
    fn drop_pulls(&mut self, session: SessionKey, name: &str) {
        let is_pull = |number: &u64| {
            let entry = self.pending.get(*number);
            entry.is_some_and(|entry| matches!(&entry.request, Request::Pull { room, .. } if **room == *name))
        };
        let pulls: Vec<u64> = self.numbers(session).filter(is_pull).collect();
        for number in pulls {
            self.asked(session, number);
        }
    }

    /// A session is out of a room.
    pub(super) fn left(
        &mut self,
        session: SessionKey,
        name: &str,
        asked: Option<Option<Box<str>>>,
        now: Instant,
        out: &mut Out,
    ) {
        let Some(place) = self.place(session, name).copied() else {
            if let Some(id) = asked {
                let failure = Failure::new(Code::FailedPrecondition, "the room is not joined");
                let name = Some(self.rooms.name(name));
                out.post(session, Post::Failed { session, id, name, failure });
            }
            return;
        };
        self.drop_pulls(session, name);
        if let Some(here) = self.sessions.get_mut(&session) {
            here.places.retain(|other| other.room != place.room);
        }
        // First the post: what waited for the room may follow it.
        out.post(session, Post::Left { session, room: place.room, asked });
        self.vacate(session, place, now, out);
    }

    fn acked(&mut self, session: SessionKey, request: u64, ack: v1::Ack, now: Instant, out: &mut Out) {
        let Some((request, arrived)) = self.asked(session, request) else { return };
        match request {
            Request::Publish { id, room, .. } => {
                self.metrics.publish_seconds.observe(now.saturating_duration_since(arrived).as_secs_f64());
                let joined = self
                    .rooms
                    .find(&room)
                    .and_then(|room| self.rooms.get(room))
                    .is_some_and(|room| room.is_live());
                if !joined && let Some(position) = &ack.position {
                    self.epochs.learn(&room, &position.epoch);
                }
                let seq = ack.position.map(|position| position.seq).filter(|seq| *seq > 0);
                if let Some(id) = id {
                    out.post(session, Post::Ack { session, id, name: room, seq, duplicate: ack.duplicate });
                }
            }
            Request::Leave { id, room, .. } => self.left(session, &room, Some(id), now, out),
            other => {
                let failure = Failure::new(Code::Internal, "the core answered something else than was asked");
                self.fail(other, failure, now, out);
            }
        }
    }

    fn failed(&mut self, session: SessionKey, request: u64, error: v1::Error, now: Instant, out: &mut Out) {
        let room = error.room.clone();
        let failure = convert::failure(error);
        match self.asked(session, request) {
            Some((pull @ Request::Pull { .. }, _)) => self.pull_failed(session, pull, &failure, now, out),
            Some((request, _)) => self.fail(request, failure, now, out),
            None => {
                let name = (!room.is_empty()).then(|| self.rooms.name(&room));
                out.post(session, Post::Failed { session, id: None, name, failure });
            }
        }
    }

    /// A page that could not be read is asked for again; a session that may not read it cannot stay in the room.
    fn pull_failed(
        &mut self,
        session: SessionKey,
        pull: Request,
        failure: &Failure,
        now: Instant,
        out: &mut Out,
    ) {
        let Request::Pull { room, .. } = &pull else { return };
        let room = Arc::clone(room);
        match failure.code {
            Code::Unavailable | Code::ResourceExhausted | Code::Internal | Code::Aborted => {}
            // The core does not know that it is in the room.
            Code::FailedPrecondition | Code::NotFound => {
                if let Some(place) = self.place(session, &room) {
                    place.progress = Progress::Stranded;
                }
            }
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => return self.left(session, &room, None, now, out),
        }
        let speaking = std::mem::replace(&mut self.speaking, false);
        let number = self.add(pull, now, out);
        self.speaking = speaking;
        self.again.push((now + ASK_AGAIN, Again::Request(number)));
    }

    fn history(&mut self, session: SessionKey, request: u64, page: v1::HistoryPage, out: &mut Out) {
        let Some((Request::History { id, room: name, .. }, _)) = self.asked(session, request) else { return };
        let events = convert::events(page.messages, &name);
        let position = convert::position(page.position);
        self.epochs.learn(&name, &position.epoch);
        out.post(session, Post::History { session, id, name, position, events, more: page.more });
    }
}
