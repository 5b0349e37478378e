//! `RoomService`: rooms for services.
use super::{
    Shared,
    caller::{self, Caller, ONLY},
    convert::{self, Door, Sent},
    session::{Command, Sessions, Shown, may_publish},
    status, streams,
};
use crate::{
    auth::{grant::Act, token::BadToken},
    hub::{Delivery, Error, Gone, JoinRequest, Listed, Outbox, SharedEvent, To},
    room::{
        event::{Event, Kind},
        feed::Carries,
        id::RoomName,
        position::Position,
    },
};
use futures_util::{Stream, StreamExt};
use hearth_proto::{
    rate::{Meter, Rate, TooSoon},
    v1::{self, connect_request, room_service_server::RoomService},
};
use std::{
    borrow::Cow,
    collections::HashSet,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tonic::{Request, Response, Status, Streaming};

/// How long before its token's end a session is told.
const WARNING: Duration = Duration::from_secs(30);

/// The service.
#[derive(Clone)]
pub(super) struct Rooms {
    pub(super) shared: Arc<Shared>,
}

pub(super) type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Rooms in which a session does not want its own live events.
type Silent = Arc<Mutex<HashSet<String>>>;

#[tonic::async_trait]
impl RoomService for Rooms {
    type ConnectStream = Frames<v1::ConnectResponse>;
    type WatchStream = Frames<v1::WatchResponse>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let caller = Caller::of(&self.shared, request.metadata(), caller::guest).await?;
        self.shared.streams.admit().map_err(|error| status::status(&error))?;
        let shared = self.shared.clone();
        let outbox =
            Arc::new(Outbox::for_sessions(shared.config.session_queue_bytes, shared.metrics.clone()));
        let silent = Silent::default();
        let id: Arc<str> = super::random_id().into();
        let reading =
            read(shared.clone(), outbox.clone(), silent.clone(), (id.clone(), caller), request.into_inner());
        let reader = shared.streams.adopt(&outbox, reading);
        let hides = move |event: &Event| {
            event.session.as_deref() == Some(&*id)
                && (event.kind.is_ephemeral() || lock(&silent).contains(event.room.as_str()))
        };
        let max = shared.config.max_message_bytes;
        let frames = async_stream::stream! {
            let _reader = reader;
            let mut follow = Follow::new(shared, outbox);
            let mut out = Vec::new();
            loop {
                match follow.next().await {
                    Ok(Some(batch)) => {
                        for delivery in batch.iter().filter(|delivery| !matches!(delivery, Delivery::Event(one) if hides(one.event()))) {
                            convert::connect_frames(delivery, max, &mut out);
                            for frame in out.drain(..) {
                                yield Ok(frame);
                            }
                        }
                    }
                    Ok(None) => return,
                    Err(status) => {
                        yield Err(status);
                        return;
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(frames)))
    }

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let caller = Caller::service(&self.shared, request.metadata()).await?;
        let v1::PublishRequest { room, kind, id, payload, epoch } = request.into_inner();
        let hub = &self.shared.hub;
        let published = async {
            let author = caller.speaks_as.clone();
            let sent = Sent { room: &room, kind, id: &id, payload };
            let max = self.shared.config.namespace(&room).max_message_bytes;
            let new = convert::new_event(sent, &author, None, Door::Service, max)?;
            may_publish(&caller.grant, new.kind, &new.room)?;
            if new.kind.is_ephemeral() {
                if new.kind == Kind::Typing {
                    // Nobody's session ends it, so it ends by itself.
                    let active = convert::typing(&new.payload)?;
                    let call = format!("call.{}", author.as_str()).into();
                    hub.note_typing(&new.room, &call, &author, active);
                }
                hub.broadcast(new).await?;
                return Ok(None);
            }
            hub.publish(new, convert::epoch(&epoch), None).await.map(Some)
        };
        let accepted = published.await.map_err(|error: Error| status::status(&error))?;
        Ok(Response::new(match accepted {
            Some(accepted) => v1::PublishResponse {
                position: Some(convert::position(&accepted.position)),
                duplicate: accepted.duplicate,
                timestamp: Some(convert::timestamp(accepted.timestamp_us)),
            },
            None => v1::PublishResponse {
                timestamp: Some(convert::timestamp(crate::room::Now::read().micros)),
                ..v1::PublishResponse::default()
            },
        }))
    }

    async fn list_messages(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let caller = Caller::service(&self.shared, request.metadata()).await?;
        let v1::ListMessagesRequest { room, after, before, limit } = request.into_inner();
        let read = async {
            let room = convert::room(&room)?;
            caller.may(Act::History, &room)?;
            let max_bytes = self.shared.config.history_page_bytes();
            self.shared.hub.read(&room, convert::range(after, before, limit, max_bytes)?).await
        };
        let read = read.await.map_err(|error: Error| status::status(&error))?;
        Ok(Response::new(v1::ListMessagesResponse {
            position: Some(convert::position(&read.position)),
            messages: convert::events(&read.events),
            more: read.more,
        }))
    }

    async fn list_rooms(
        &self,
        request: Request<v1::ListRoomsRequest>,
    ) -> Result<Response<v1::ListRoomsResponse>, Status> {
        let caller = Caller::service(&self.shared, request.metadata()).await?;
        caller.must_be_service().map_err(|error| status::status(&error))?;
        let v1::ListRoomsRequest { page_size, page_token, prefix } = request.into_inner();
        let listed = async {
            let size = convert::range(None, None, page_size, usize::MAX)
                .map_err(|_| Error::Field { field: "page_size", problem: Cow::from("must be 1 to 1000") })?
                .limit;
            // The token is the last name of the page before.
            if !page_token.is_empty() && RoomName::new(&page_token).is_err() {
                return Err(Error::Field {
                    field: "page_token",
                    problem: Cow::from("is not one of this service"),
                });
            }
            let mut rooms = self.shared.hub.list(&page_token, &prefix, size + 1).await?;
            let more = rooms.len() > size;
            rooms.truncate(size);
            Ok((rooms, more))
        };
        let (rooms, more) = listed.await.map_err(|error: Error| status::status(&error))?;
        let last = rooms.last().filter(|_| more);
        // What a token has no business with is not named: a page may be shorter for it.
        let named = |listed: &&Listed| caller.grant.may(Act::Join, &listed.room.name);
        let next_page_token = last.map(|listed| listed.room.name.as_str().to_owned()).unwrap_or_default();
        let rooms = rooms.iter().filter(named).map(|listed| v1::Room {
            name: listed.room.name.as_str().to_owned(),
            position: Some(convert::position(&listed.room.position)),
            sessions: listed.sessions,
        });
        Ok(Response::new(v1::ListRoomsResponse { rooms: rooms.collect(), next_page_token }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::service(&self.shared, request.metadata()).await?;
        let v1::WatchRequest { room, since, history } = request.into_inner();
        let room = convert::room(&room)
            .and_then(|room| {
                caller.may(Act::Join, &room)?;
                if history > 0 { caller.may(Act::History, &room) } else { Ok(()) }.map(|()| room)
            })
            .map_err(|error| status::status(&error))?;
        self.shared.streams.admit().map_err(|error| status::status(&error))?;
        let shared = self.shared.clone();
        let outbox = Arc::new(Outbox::new(shared.config.session_queue_bytes, shared.metrics.clone()));
        let seat = caller.seat(&shared, &outbox)?;
        let ended =
            shared.streams.adopt(&outbox, until(caller.end(), outbox.clone(), std::future::pending()));
        let (since, history) =
            (convert::since(since), convert::newest(history, &shared.config.namespace(room.as_str())));
        let join = JoinRequest {
            outbox: outbox.clone(),
            to: To::default(),
            room: room.clone(),
            since,
            history,
            presence: None,
        };
        shared.hub.join(join).await.map_err(|error| status::status(&error))?;
        let membership = Membership { shared: shared.clone(), outbox: outbox.clone(), room };
        let frames = async_stream::stream! {
            let _guards = (ended, seat, membership);
            let mut follow = Follow::new(shared, outbox);
            let mut out = Vec::new();
            loop {
                match follow.next().await {
                    Ok(Some(batch)) => {
                        batch.iter().for_each(|delivery| convert::connect_frames(delivery, 0, &mut out));
                        for frame in out.drain(..) {
                            let frame = match frame.frame {
                                Some(v1::connect_response::Frame::Joined(joined)) => v1::watch_response::Frame::Joined(joined),
                                Some(v1::connect_response::Frame::Event(event)) => v1::watch_response::Frame::Event(event),
                                _ => continue,
                            };
                            yield Ok(v1::WatchResponse { frame: Some(frame) });
                        }
                    }
                    Ok(None) => return,
                    Err(status) => {
                        yield Err(status);
                        return;
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(frames)))
    }
}

/// Reads a stream until its caller's token has ended.
pub(super) async fn until(
    end: impl Future<Output = Error>,
    outbox: Arc<Outbox>,
    reading: impl Future<Output = ()>,
) {
    tokio::select! {
        () = reading => {}
        // One that does not read its answers would not notice, and say on what it says.
        () = outbox.ended() => {}
        error = end => outbox.end_with(Some(error)),
    }
}

/// A watched room; the watch ends with this.
struct Membership {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    room: RoomName,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.hub.leave(&self.outbox, &self.room);
    }
}

/// Empties a stream's queue, and pulls the next page of a replay whenever it is empty: so a replay goes as fast as it is read. Until the page
/// that reaches the top, a room's live events are left to the pages.
struct Follow {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    paging: Vec<(RoomName, Position)>,
}

impl Follow {
    fn new(shared: Arc<Shared>, outbox: Arc<Outbox>) -> Self {
        Self { shared, outbox, paging: Vec::new() }
    }

    async fn next(&mut self) -> Result<Option<Vec<Delivery>>, Status> {
        let taken = match self.outbox.try_take() {
            Some(taken) => taken,
            None => {
                if let Some((room, after)) = self.paging.first().cloned() {
                    let pulled = self.shared.hub.pull(&self.outbox, To::default(), &room, after).await;
                    pulled.map_err(|error| status::status(&error))?;
                }
                self.outbox.take().await
            }
        };
        let batch = streams::taken(taken)?;
        Ok(batch.map(|batch| batch.into_iter().filter(|delivery| self.passes(delivery)).collect()))
    }

    fn passes(&mut self, delivery: &Delivery) -> bool {
        let (room, epoch, page) = match delivery {
            Delivery::Joined(_, place, page) | Delivery::Resumed(_, place, page) => {
                (&place.room, place.position.epoch.clone(), page)
            }
            // A page that was asked for before the room was left, or joined anew, fits nowhere.
            Delivery::Page(_, room, page) => match self.paging.iter().find(|(name, _)| name == room) {
                Some((_, position)) if position.seq == page.after => (room, position.epoch.clone(), page),
                _ => return false,
            },
            Delivery::Left(_, room) | Delivery::PutOut(_, room) => {
                self.paging.retain(|(name, _)| name != room);
                return true;
            }
            Delivery::Event(event) => return event.event().kind.is_ephemeral() || !self.pages(event),
            _ => return true,
        };
        self.paging.retain(|(name, _)| name != room);
        if !page.live {
            let seq = page.events.last().map_or(page.after, |event| event.seq);
            self.paging.push((room.clone(), Position { epoch, seq }));
        }
        true
    }

    fn pages(&self, event: &Arc<SharedEvent>) -> bool {
        self.paging.iter().any(|(name, _)| *name == event.event().room)
    }
}

async fn read(
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    silent: Silent,
    (id, caller): (Arc<str>, Caller),
    mut requests: Streaming<v1::ConnectRequest>,
) {
    let mut sessions = Sessions::new(&shared, outbox.clone(), Door::Service, "");
    let to = To { session: ONLY, ..To::default() };
    if let Err(error) = sessions.open(&to, &id, caller.into_session(), (false, Shown::Token)) {
        return outbox.end_with(Some(error));
    }
    let mut warned = None;
    let (rate, start) = (Rate::new(shared.config.rate_limit, shared.config.rate_burst), Instant::now());
    let mut meter = Meter::default();
    loop {
        if let Some((_, error)) = sessions.settle().pop() {
            return outbox.end_with(Some(error));
        }
        let end = sessions.ends(ONLY);
        let expired = || Some(caller::unauthenticated(&BadToken::Expired));
        if end.is_some_and(|end| end <= caller::now()) {
            return outbox.end_with(expired());
        }
        let warning = end.filter(|_| warned != end).map(|end| end.saturating_sub(WARNING));
        let request = tokio::select! {
            request = requests.next() => request,
            () = outbox.ordered() => continue,
            () = caller::until(warning) => {
                warned = end;
                outbox.push(Delivery::Expiring(end.unwrap_or_default()));
                continue;
            }
            () = caller::until(end) => {
                return outbox.end_with(expired());
            }
        };
        let request = match request {
            Some(Ok(request)) => request,
            Some(Err(status)) => {
                return outbox.end_with(Some(Error::Unreadable(status.message().to_owned())));
            }
            None => break,
        };
        if let Err(too_soon) = meter.charge(&rate, start.elapsed()) {
            shared.metrics.rate_refusals.inc();
            let TooSoon::Wait(ms) = too_soon else { return outbox.end_with(Some(Error::RateLimited)) };
            let id = convert::client_id(&request.id).unwrap_or_default();
            outbox.push(Delivery::Failed(To { session: ONLY, request: 0, id }, None, Error::TooSoon { ms }));
            continue;
        }
        // The room, and whether its own events are to come back.
        let mut echo = None;
        let command = match request.command {
            Some(connect_request::Command::Join(join)) => {
                echo = Some((join.room.clone(), join.echo != Some(false)));
                Command::Join(join)
            }
            Some(connect_request::Command::Leave(leave)) => {
                echo = Some((leave.room.clone(), true));
                Command::Leave(leave)
            }
            Some(connect_request::Command::Publish(publish)) => Command::Publish(publish),
            Some(connect_request::Command::History(history)) => Command::History(history),
            Some(connect_request::Command::Presence(presence)) => Command::Presence(presence),
            Some(connect_request::Command::Ping(_)) => Command::Ping,
            Some(connect_request::Command::Auth(v1::Auth { token })) => Command::Auth(token),
            None => {
                let error = Error::Field { field: "command", problem: Cow::from("must be set") };
                let id = convert::client_id(&request.id).unwrap_or_default();
                outbox.push(Delivery::Failed(To { session: ONLY, request: 0, id }, None, error));
                continue;
            }
        };
        tokio::select! {
            biased;
            // It may wait for the engine, or for a client that does not read, longer than its token lasts.
            () = caller::until(end) => return outbox.end_with(expired()),
            () = outbox.ends(ONLY) => continue,
            () = sessions.run(ONLY, 0, &request.id, command) => {}
        }
        if let Some((room, echo)) = echo {
            // Only rooms that it is in, so the set is bounded as they are.
            if !echo && sessions.is_in(ONLY, &room) {
                lock(&silent).insert(room);
            } else if echo {
                lock(&silent).remove(&room);
            }
        }
    }
    // Its side has ended in good order: it is gone, and will not come back.
    sessions.close(ONLY, Gone::Left);
    outbox.end();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
