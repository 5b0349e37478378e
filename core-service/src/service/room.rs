//! `RoomService`: rooms for services.
use super::{
    Shared,
    convert::{self, Door, Sent},
    session::{Command, Sessions},
    status,
};
use crate::{
    hub::{Delivery, Error, Gone, JoinRequest, Outbox, SharedEvent, To, outbox::Taken},
    room::{
        event::{Event, Kind},
        feed::Carries,
        id::{RoomName, UserName},
        position::Position,
    },
};
use futures_util::{Stream, StreamExt};
use hearth_proto::v1::{self, connect_request, room_service_server::RoomService};
use std::{
    borrow::Cow,
    collections::HashSet,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};
use tonic::{Request, Response, Status, Streaming};

/// The service.
#[derive(Clone)]
pub(super) struct Rooms {
    pub(super) shared: Arc<Shared>,
}

pub(super) type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Rooms in which a session does not want its own live events.
type Silent = Arc<Mutex<HashSet<String>>>;

/// In dev mode a caller is whoever the `user` metadata says.
pub(super) fn dev_user<T>(request: &Request<T>) -> Result<String, Status> {
    let Some(user) = request.metadata().get("user") else { return Ok(String::new()) };
    let text = std::str::from_utf8(user.as_bytes()).unwrap_or("\0");
    UserName::new(text).map_err(|error| status::status(&error.into()))?;
    Ok(text.to_owned())
}

#[tonic::async_trait]
impl RoomService for Rooms {
    type ConnectStream = Frames<v1::ConnectResponse>;
    type WatchStream = Frames<v1::WatchResponse>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let user = dev_user(&request)?;
        self.shared.streams.admit().map_err(|error| status::status(&error))?;
        let shared = self.shared.clone();
        let outbox = Arc::new(Outbox::new(shared.config.session_queue_bytes, shared.metrics.clone()));
        let silent = Silent::default();
        let id: Arc<str> = super::random_id().into();
        let reading =
            read(shared.clone(), outbox.clone(), silent.clone(), (id.clone(), user), request.into_inner());
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
        let user = dev_user(&request)?;
        let user = if user.is_empty() { "service".to_owned() } else { user };
        let v1::PublishRequest { room, kind, id, payload, epoch } = request.into_inner();
        let hub = &self.shared.hub;
        let published = async {
            let author = UserName::new(&user)?;
            let sent = Sent { room: &room, kind, id: &id, payload };
            let new =
                convert::new_event(sent, &author, None, Door::Service, self.shared.config.max_message_bytes)?;
            if new.kind.is_ephemeral() {
                if new.kind == Kind::Typing {
                    // Nobody's session ends it, so it ends by itself.
                    let active = convert::typing(&new.payload)?;
                    hub.note_typing(&new.room, &format!("call.{user}").into(), &author, active);
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
        let v1::ListMessagesRequest { room, after, before, limit } = request.into_inner();
        let read = async {
            let room = convert::room(&room)?;
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
        let next_page_token = last.map(|listed| listed.room.name.as_str().to_owned()).unwrap_or_default();
        let rooms = rooms.iter().map(|listed| v1::Room {
            name: listed.room.name.as_str().to_owned(),
            position: Some(convert::position(&listed.room.position)),
            sessions: listed.sessions,
        });
        Ok(Response::new(v1::ListRoomsResponse { rooms: rooms.collect(), next_page_token }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let v1::WatchRequest { room, since, history } = request.into_inner();
        let room = convert::room(&room).map_err(|error| status::status(&error))?;
        self.shared.streams.admit().map_err(|error| status::status(&error))?;
        let shared = self.shared.clone();
        let outbox = Arc::new(Outbox::new(shared.config.session_queue_bytes, shared.metrics.clone()));
        let ended = shared.streams.adopt(&outbox, std::future::pending());
        let (since, history) =
            (convert::since(since), history.min(shared.config.history_size as u32) as usize);
        let join = JoinRequest {
            outbox: outbox.clone(),
            to: To::default(),
            room: room.clone(),
            since,
            history,
            presence: 0,
        };
        shared.hub.join(join).await.map_err(|error| status::status(&error))?;
        let membership = Membership { shared: shared.clone(), outbox: outbox.clone(), room };
        let frames = async_stream::stream! {
            let _guards = (ended, membership);
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
        match taken {
            Taken::Batch(batch) => {
                Ok(Some(batch.into_iter().filter(|delivery| self.passes(delivery)).collect()))
            }
            Taken::Overflowed => Err(status::status(&Error::SlowConsumer)),
            Taken::Ended(None) => Ok(None),
            Taken::Ended(Some(error)) => Err(status::status(&error)),
        }
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
            Delivery::Left(_, room) => {
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
    (id, user): (Arc<str>, String),
    mut requests: Streaming<v1::ConnectRequest>,
) {
    // A stream has one session; it is number 1.
    const ONLY: u64 = 1;
    let mut sessions = Sessions::new(&shared, outbox.clone(), Door::Service, "");
    sessions.open(To { session: ONLY, ..To::default() }, &id, &user);
    loop {
        let request = match requests.next().await {
            Some(Ok(request)) => request,
            Some(Err(status)) => {
                return outbox.end_with(Some(Error::Unreadable(status.message().to_owned())));
            }
            None => break,
        };
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
            None => {
                let error = Error::Field { field: "command", problem: Cow::from("must be set") };
                let id = convert::client_id(&request.id).unwrap_or_default();
                outbox.push(Delivery::Failed(To { session: ONLY, request: 0, id }, None, error));
                continue;
            }
        };
        sessions.run(ONLY, 0, &request.id, command).await;
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
