//! What the core says, and what becomes of it.
use super::{
    Code, Failure, Feed, Instant, Known, Pending, Position, Post, REPLAY_RETRY, Replay, RoomId, SessionKey,
    SharedEvent, Table, What, convert,
    rooms::{Held, Member},
    v1,
};
use crate::fanout::post::CallAnswer;
use crate::wire::command::Token;
use hearth_proto::v1::{CoreFrame, core_frame::Frame};
use std::sync::Arc;

impl Table {
    /// The core says something.
    pub fn answer(&mut self, now: Instant, frame: CoreFrame) {
        let Some(CoreFrame { session, request, frame }) = self.hold(frame) else { return };
        let key = SessionKey::from_number(session);
        match frame {
            Some(Frame::Event(event)) => self.event(event),
            Some(Frame::Ack(ack)) => self.ack(now, key, request, ack),
            Some(Frame::Joined(joined)) if session == 0 => self.place_lost(joined),
            Some(Frame::Joined(joined)) => self.joined(key, request, joined),
            Some(Frame::Page(page)) if session == 0 => self.room_page(page),
            Some(Frame::Page(page)) => self.page(key, page),
            Some(Frame::Left(left)) => self.left(key, request, &left.room),
            Some(Frame::Error(error)) => self.error(now, session, request, error),
            Some(Frame::History(page)) => self.history(key, request, page),
            Some(Frame::Resumed(resumed)) => self.resumed(request, resumed),
            Some(Frame::Opened(opened)) => self.opened(key, request, opened),
            Some(Frame::Refused(error)) => self.refused(key, error),
            Some(Frame::Presence(presence)) => self.presence(presence),
            Some(Frame::Ticket(ticket)) => self.ticket(key, request, ticket),
            Some(Frame::Online(list)) => self.online(key, request, list),
            // The first two are the worker's; what is newer than this build was not asked for.
            Some(Frame::Attached(_) | Frame::Goodbye(_)) | None => {}
        }
    }

    /// Keeps an answer back that lets a session into a room's feed while the feed lags behind, until the feed is
    /// there. An answer that shows that events were lost makes the feed lag behind.
    fn hold(&mut self, frame: CoreFrame) -> Option<CoreFrame> {
        let Some(name) = frame.frame.as_ref().filter(|_| frame.session != 0).and_then(convert::seam_room)
        else {
            return Some(frame);
        };
        let Some((_, room)) = self.rooms.by_name(name) else { return Some(frame) };
        let Some((epoch, seq)) = seam(&frame, room.members.get(&SessionKey::from_number(frame.session)))
        else {
            return Some(frame);
        };
        let ahead = room.has_live()
            && (seq > room.position.seq || epoch.is_some_and(|epoch| *epoch != *room.position.epoch));
        let missing = (room.feed == Feed::Live && ahead).then(|| Arc::clone(&room.name));
        if room.feed == Feed::Live && !ahead {
            return Some(frame);
        }
        room.held.push_back(Held { seq, frame });
        if let Some(name) = missing {
            self.fill(&name);
        }
        None
    }

    /// Acts upon an answer that was held.
    pub(super) fn let_in(&mut self, CoreFrame { session, request, frame }: CoreFrame) {
        let key = SessionKey::from_number(session);
        match frame {
            Some(Frame::Joined(joined)) => self.joined(key, request, joined),
            Some(Frame::Page(page)) => self.page(key, page),
            // Nothing else is held.
            _ => {}
        }
    }

    /// Acts upon held answers whose place is before the event `seq`; without one, upon all.
    fn release(&mut self, id: RoomId, before: Option<u64>) {
        while let Some(room) = self.rooms.get_mut(id)
            && room.held.front().is_some_and(|held| before.is_none_or(|seq| held.seq < seq))
            && let Some(held) = room.held.pop_front()
        {
            self.let_in(held.frame);
        }
    }

    fn opened(&mut self, key: SessionKey, request: u64, opened: v1::Opened) {
        let Some(opening) = self.sessions.get(&key).map(|session| session.opening) else { return };
        let expires_us = opened.expires_at.map(convert::micros);
        let refreshed = match self.answered(key, request) {
            Some(Pending { what: What::Refresh { id, .. }, .. }) => Some(id),
            _ => None,
        };
        self.answered(key, opening);
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let user: Arc<str> = opened.user.as_str().into();
        let has_token = opened.expires_at.is_some();
        let now = if has_token { Known::Grant(Box::new(opened)) } else { Known::Name(Arc::clone(&user)) };
        let known = session.known.replace(now).is_some();
        if let Some(id) = refreshed {
            self.out.post(key, Post::Refreshed { session: key, id, expires_us });
        } else if !known {
            // To a session that was brought from another core its user is no news.
            self.out.post(key, Post::Opened { session: key, user, expires_us });
        }
    }

    fn refused(&mut self, key: SessionKey, error: v1::Error) {
        if self.forget(key) {
            let post = match error.reason == hearth_proto::KICKED {
                true => Post::Kicked { session: key },
                false => Post::Refused { session: key, failure: convert::failure(error) },
            };
            self.out.post(key, post);
        }
    }

    fn event(&mut self, v1::RoomEvent { event, session: origin }: v1::RoomEvent) {
        let Some(event) = event else { return };
        let Some((id, room)) = self.rooms.by_name(&event.room) else { return };
        if event.seq > 0 {
            if room.feed != Feed::Live || event.seq <= room.position.seq {
                return;
            }
            if event.seq > room.position.seq + 1 && room.has_live() {
                let name = Arc::clone(&room.name);
                tracing::warn!(room = &*name, seq = event.seq, "events are missing; asking for them");
                self.fill(&name);
                return;
            }
        }
        let origin = if origin.is_empty() { None } else { self.ids.get(origin.as_str()).copied() };
        self.broadcast(id, event, origin);
    }

    /// Passes an event on, which must be the next one of its room.
    fn broadcast(&mut self, id: RoomId, event: v1::Event, origin: Option<SessionKey>) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.position.seq = room.position.seq.max(event.seq);
        let Some(event) = convert::event(event, &room.name) else { return };
        let event = Arc::new(SharedEvent::new(event, Arc::clone(&room.position.epoch)));
        for shard in room.shards() {
            let origin = origin.filter(|origin| origin.shard() == shard);
            self.out.post_to(shard, Post::Event { room: id, event: Arc::clone(&event), origin });
        }
    }

    fn joined(
        &mut self,
        key: SessionKey,
        request: u64,
        v1::LinkJoined { joined, page, presence: known_at, presence_hidden }: v1::LinkJoined,
    ) {
        let asked = self.answered(key, request);
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(v1::Joined { room: name, position, recovered, replayed, cursor: _ }) = joined else {
            return;
        };
        let (position, page) = (convert::position(position), page.unwrap_or_default());
        let id = self.rooms.id(&name);
        let present = id.and_then(|id| self.rooms.get(id)).and_then(|room| room.members.get(&key));
        let was_asked = asked.is_some();
        let meta = present.and_then(|member| member.meta.clone());
        let (client_id, echo, presence) = match (asked, present) {
            (Some(Pending { what: What::Join { id: client_id, .. }, .. }), Some(member))
                if page.events.is_empty() && (page.live || !member.live) =>
            {
                if let Some(room) = id {
                    self.out.post(key, Post::StillJoined { session: key, id: client_id, room, position });
                }
                return;
            }
            (Some(Pending { what: What::Join { id, echo, presence, .. }, .. }), _) => (id, echo, presence),
            (_, Some(member)) => (None, member.echo, member.presence),
            (_, None) => {
                // Nobody here wants to be in it any longer: the core is not to think so.
                self.out.frames.push_back(convert::leave(key, 0, &name));
                return;
            }
        };
        let presence = presence && !presence_hidden;
        let new = present.is_none();
        let id = id.unwrap_or_else(|| self.rooms.create(&name, position.clone()));
        let Some(room) = self.rooms.get_mut(id) else { return };
        if !room.has_live() {
            room.position = position.clone();
        }
        room.put(key, Member { live: page.live, echo, presence, known_at, meta, pull: None });
        if new {
            session.rooms.push(id);
        }
        let (name, live) = (Arc::clone(&room.name), page.live);
        let page = convert::events(page.events, &name, &position.epoch);
        let post = Post::Joined {
            session: key,
            asked: was_asked,
            id: client_id,
            room: id,
            name,
            echo,
            presence,
            position,
            recovered,
            replayed,
            page,
            live,
        };
        self.out.post(key, post);
        if live && presence {
            self.wants_presence(key, id, known_at);
        }
    }

    fn page(&mut self, key: SessionKey, page: v1::Page) {
        let Some((id, room)) = self.rooms.by_name(&page.room) else { return };
        let Some(member) = room.members.get_mut(&key) else { return };
        let Some(pull) = member.pull.take() else { return };
        let epoch = Arc::clone(&pull.after.epoch);
        if page.live {
            if !room.has_live() {
                // Nobody needed the room's events so far, so they may not have come.
                let mut seq = page.events.last().map_or(0, |event| event.seq).max(pull.after.seq);
                if room.position.epoch == pull.after.epoch {
                    seq = seq.max(room.position.seq);
                }
                room.position = Position { epoch: pull.after.epoch, seq };
            }
            room.set_live(key);
        }
        let events = convert::events(page.events, &room.name, &epoch);
        let wants = room.members.get(&key).filter(|member| page.live && member.presence);
        let known_at = wants.map(|member| member.known_at);
        self.out.post(key, Post::Page { session: key, room: id, events, live: page.live });
        if let Some(known_at) = known_at {
            self.wants_presence(key, id, known_at);
        }
    }

    fn ack(&mut self, now: Instant, key: SessionKey, request: u64, ack: v1::Ack) {
        let Some(pending) = self.answered(key, request) else { return };
        match pending.what {
            What::Publish { id, room: name, .. } => {
                self.metrics.publish_seconds.observe(now.saturating_duration_since(pending.at).as_secs_f64());
                let position = ack.position.map(|position| convert::position(Some(position)));
                if let Some(position) = &position
                    && self.rooms.id(&name).is_none()
                {
                    self.epochs.learn(&name, Arc::clone(&position.epoch));
                }
                let duplicate = ack.duplicate;
                if let Some(id) = id {
                    self.out.post(key, Post::Ack { session: key, id, name, position, duplicate });
                } else if self.is_call(key) {
                    let answer = CallAnswer::Published { position };
                    self.out.post(key, Post::Called { session: key, answer });
                }
            }
            What::Leave { id, room } => self.out_of_room(key, &room, Some(id)),
            What::Presence { id, room: name, meta } => {
                let member = self.rooms.by_name(&name).and_then(|(_, room)| room.members.get_mut(&key));
                if let (Some(member), Some(meta)) = (member, meta) {
                    member.meta = Some(meta);
                }
                self.out.post(key, Post::Done { session: key, id, name });
            }
            what => {
                let failure = Failure::new(Code::Internal, "the core answered something else");
                self.failed(Pending { what, ..pending }, failure);
            }
        }
    }

    fn left(&mut self, key: SessionKey, request: u64, name: &str) {
        let asked = match self.answered(key, request) {
            Some(Pending { what: What::Leave { id, .. }, .. }) => Some(id),
            _ => None,
        };
        self.out_of_room(key, name, asked);
    }

    fn out_of_room(&mut self, key: SessionKey, name: &str, asked: Option<Option<Box<str>>>) {
        self.let_in_early(key, name);
        let id = self.rooms.id(name);
        let was_in = id.filter(|id| self.leave_room(*id, key));
        if let Some(id) = was_in {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.rooms.retain(|room| *room != id);
            }
            self.out.post(key, Post::Left { session: key, room: id, asked });
        } else if let Some(id) = asked {
            let failure = Failure::new(Code::FailedPrecondition, "not in this room");
            self.out.post(key, Post::LeaveFailed { session: key, id, name: name.into(), failure });
        }
    }

    /// A session goes out of a room while the answer that let it in is held: it is let in first, so that its
    /// join has an answer.
    fn let_in_early(&mut self, key: SessionKey, name: &str) {
        let Some((_, room)) = self.rooms.by_name(name) else { return };
        let mut early = Vec::new();
        let mut at = 0;
        while let Some(held) = room.held.get(at) {
            if held.frame.session != key.number() {
                at += 1;
            } else if let Some(held) = room.held.remove(at) {
                early.push(held.frame);
            }
        }
        for frame in early {
            self.let_in(frame);
        }
    }

    fn history(&mut self, key: SessionKey, request: u64, page: v1::HistoryPage) {
        let Some(pending) = self.answered(key, request) else { return };
        match pending.what {
            What::History { id, room: name, .. } => {
                let position = convert::position(page.position);
                let events = convert::events(page.messages, &name, &position.epoch);
                self.out
                    .post(key, Post::History { session: key, id, name, position, events, more: page.more });
            }
            what => {
                let failure = Failure::new(Code::Internal, "the core answered something else");
                self.failed(Pending { what, ..pending }, failure);
            }
        }
    }

    fn online(&mut self, key: SessionKey, request: u64, v1::OnlineList { online, count }: v1::OnlineList) {
        let Some(pending) = self.answered(key, request) else { return };
        match pending.what {
            What::ListOnline { .. } => {
                let online = online.into_iter().map(convert::online).collect();
                let answer = CallAnswer::Online { online, count };
                self.out.post(key, Post::Called { session: key, answer });
            }
            what => {
                let failure = Failure::new(Code::Internal, "the core answered something else");
                self.failed(Pending { what, ..pending }, failure);
            }
        }
    }

    fn ticket(&mut self, key: SessionKey, request: u64, v1::Ticket { ticket, expires_at }: v1::Ticket) {
        let Some(pending) = self.answered(key, request) else { return };
        match (&pending.what, expires_at) {
            (What::Ticket, Some(expires_at)) => {
                let (ticket, expires_us) = (Token(ticket.into()), convert::micros(expires_at));
                let answer = CallAnswer::Ticket { ticket, expires_us };
                self.out.post(key, Post::Called { session: key, answer });
            }
            _ => {
                let failure = Failure::new(Code::Internal, "the core answered something else");
                self.failed(pending, failure);
            }
        }
    }

    fn error(&mut self, now: Instant, session: u64, request: u64, error: v1::Error) {
        let name = error.room.clone();
        let failure = convert::failure(error);
        if session == 0 {
            self.replay_failed(now, &name, &failure);
            return;
        }
        let key = SessionKey::from_number(session);
        if let Some(pending) = self.answered(key, request) {
            // So an older core says that it does not know what is asked: it is not the caller who is at fault.
            let is_strange = matches!(pending.what, What::Ticket) && failure.code == Code::InvalidArgument;
            let failure = match is_strange {
                true => Failure::new(Code::Unavailable, "this core makes no tickets yet"),
                false => failure,
            };
            self.failed(pending, failure);
        } else if self.sessions.contains_key(&key) {
            if self.is_pull(key, request, &name) {
                return self.pull_failed(now, key, &name, failure.code);
            }
            // Of a leave that nobody asked for: the session is out, as it should be.
            if request == 0 && failure.code == Code::FailedPrecondition {
                return;
            }
            let name = (!name.is_empty()).then(|| name.into());
            self.out.post(key, Post::Failed { session: key, due: false, id: None, name, failure });
        }
    }

    fn is_pull(&mut self, key: SessionKey, request: u64, name: &str) -> bool {
        let member = self.rooms.by_name(name).and_then(|(_, room)| room.members.get(&key));
        member.and_then(|member| member.pull.as_ref()).is_some_and(|pull| pull.number == request)
    }

    /// A replay that cannot go on for ever holds its session up, so it goes on later or the session is put out.
    fn pull_failed(&mut self, now: Instant, key: SessionKey, name: &str, code: Code) {
        match code {
            Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::Internal => {
                self.retries.push_back((now + REPLAY_RETRY, Replay::Session(key, name.into())));
            }
            _ => {
                self.out.frames.push_back(convert::leave(key, 0, name));
                self.out_of_room(key, name, None);
            }
        }
    }

    /// The room's sessions stay where they are until the core can tell what they missed.
    fn replay_failed(&mut self, now: Instant, name: &str, failure: &Failure) {
        tracing::warn!(room = name, code = failure.code.name(), reason = %failure.message, "what a room missed cannot be read yet");
        for room in self.rooms.iter_mut() {
            let waits = match room.feed {
                Feed::Live => false,
                Feed::Resuming(_) | Feed::Paging => *room.name == *name,
            };
            if waits && !self.retries.iter().any(|(_, replay)| replay.is_of(&room.name)) {
                self.retries.push_back((now + REPLAY_RETRY, Replay::Room(Arc::clone(&room.name))));
            }
        }
    }

    fn resumed(&mut self, request: u64, v1::Resumed { joined, page }: v1::Resumed) {
        let Some(joined) = joined else { return };
        let Some((id, room)) = self.rooms.by_name(&joined.room) else { return };
        // The answer for a room that was left and joined again in between.
        if request != 0 && room.feed != Feed::Resuming(request) {
            return;
        }
        let position = convert::position(joined.position);
        let same = position.epoch == room.position.epoch;
        if same && joined.recovered.unwrap_or(position.seq == room.position.seq) {
            let page = page.unwrap_or_else(|| v1::Page { live: true, ..v1::Page::default() });
            self.replay(id, page, position.seq);
        } else {
            self.reset(id, &position);
        }
    }

    fn room_page(&mut self, page: v1::Page) {
        let Some((id, room)) = self.rooms.by_name(&page.room) else { return };
        if room.feed == Feed::Paging {
            self.replay(id, page, 0);
        }
    }

    /// History no longer has what a room's sessions have missed.
    fn place_lost(&mut self, v1::LinkJoined { joined, .. }: v1::LinkJoined) {
        let Some(joined) = joined else { return };
        if let Some(id) = self.rooms.id(&joined.room) {
            self.reset(id, &convert::position(joined.position));
        }
    }

    /// Passes on what a room's sessions have missed. The page that reaches the top ends at `top`, if it says so.
    fn replay(&mut self, id: RoomId, page: v1::Page, top: u64) {
        for event in page.events {
            let Some(room) = self.rooms.get(id) else { return };
            if event.seq > room.position.seq {
                self.release(id, Some(event.seq));
                self.broadcast(id, event, None);
            }
        }
        let Some(room) = self.rooms.get_mut(id) else { return };
        if page.live {
            room.position.seq = room.position.seq.max(top);
            room.feed = Feed::Live;
            self.release(id, None);
        } else {
            room.feed = Feed::Paging;
            self.out.frames.push_back(convert::pull(None, 0, &room.name, &room.position));
        }
    }

    /// A room's sessions have lost their place: they go on from here.
    fn reset(&mut self, id: RoomId, position: &Position) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.feed = Feed::Live;
        // Events behind these answers are lost too: their sessions are among those that are told.
        self.release(id, None);
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.position = position.clone();
        for shard in room.shards() {
            self.out.post_to(shard, Post::Reset { room: id, position: position.clone() });
        }
    }
}

/// Behind which event an answer lets a session into the room's feed; none if it does not yet, or is not the session's.
fn seam<'a>(frame: &'a CoreFrame, member: Option<&'a Member>) -> Option<(Option<&'a str>, u64)> {
    match frame.frame.as_ref()? {
        Frame::Joined(v1::LinkJoined { joined, page, .. }) if page.as_ref().is_some_and(|page| page.live) => {
            let position = joined.as_ref()?.position.as_ref()?;
            Some((Some(&position.epoch), position.seq))
        }
        Frame::Page(page) if page.live => {
            let after = member?.pull.as_ref()?.after.seq;
            Some((None, page.events.last().map_or(after, |event| event.seq)))
        }
        _ => None,
    }
}
