//! `PresenceService`: who is online where, for services.
use super::{
    Shared,
    caller::Caller,
    convert::{self, Door},
    room::{Frames, until},
    status, streams,
};
use crate::{
    auth::grant::Act,
    hub::{Delivery, Error, Gone, Outbox, SharedPresence, To},
    room::{
        id::{ClientId, RoomName, UserName},
        presence::{Entering, Origin},
    },
};
use futures_util::StreamExt;
use hearth_proto::v1::{
    self, presence_service_server::PresenceService, track_request::Command, track_response::Frame,
};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tonic::{Request, Response, Status, Streaming};

/// How many users one stream may keep online, counted per room. With metas of 4 KiB that is 40 MB.
const TRACKED_MAX: usize = 10_000;
/// The most users of a page, and how many when nothing is said.
const PAGE: u32 = 1000;

/// The service.
#[derive(Clone)]
pub(super) struct PresenceRpc {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl PresenceService for PresenceRpc {
    type TrackStream = Frames<v1::TrackResponse>;
    type WatchPresenceStream = Frames<v1::WatchPresenceResponse>;

    async fn track(
        &self,
        request: Request<Streaming<v1::TrackRequest>>,
    ) -> Result<Response<Self::TrackStream>, Status> {
        let caller = Caller::service(&self.shared, request.metadata()).await?;
        let (outbox, end) = (self.outbox()?, caller.end());
        let seat = caller.seat(&self.shared, &outbox)?;
        let reading = read(self.shared.clone(), outbox.clone(), caller, request.into_inner());
        let reader = self.shared.streams.adopt(&outbox, until(end, outbox.clone(), reading));
        let frames = async_stream::stream! {
            let _guards = (reader, seat);
            loop {
                match streams::next(&outbox).await {
                    Ok(Some(batch)) => {
                        for delivery in batch {
                            for frame in responses(delivery) {
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

    async fn list_presence(
        &self,
        request: Request<v1::ListPresenceRequest>,
    ) -> Result<Response<v1::ListPresenceResponse>, Status> {
        let caller = Caller::service(&self.shared, request.metadata()).await?;
        let v1::ListPresenceRequest { room, page_size, page_token } = request.into_inner();
        let size = page_size.unwrap_or(PAGE);
        let listed = convert::room(&room).and_then(|room| {
            caller.may(Act::Presence, &room)?;
            if !(1..=PAGE).contains(&size) {
                return Err(Error::Field { field: "page_size", problem: Cow::from("must be 1 to 1000") });
            }
            // The token is the last name of the page before.
            if !page_token.is_empty() && UserName::new(&page_token).is_err() {
                return Err(Error::Field {
                    field: "page_token",
                    problem: Cow::from("is not one of this service"),
                });
            }
            Ok(self.shared.hub.presence().list(&room, &page_token, size as usize + 1))
        });
        let mut listed = listed.map_err(|error| status::status(&error))?;
        let more = listed.online.len() > size as usize;
        listed.online.truncate(size as usize);
        let last = listed.online.last().filter(|_| more);
        Ok(Response::new(v1::ListPresenceResponse {
            next_page_token: last.map(|last| last.user.as_str().to_owned()).unwrap_or_default(),
            count: listed.count as u64,
            online: convert::all_online(&listed.online),
        }))
    }

    async fn watch_presence(
        &self,
        request: Request<v1::WatchPresenceRequest>,
    ) -> Result<Response<Self::WatchPresenceStream>, Status> {
        let caller = Caller::service(&self.shared, request.metadata()).await?;
        let room = convert::room(&request.into_inner().room)
            .and_then(|room| caller.may(Act::Presence, &room).map(|()| room))
            .map_err(|error| status::status(&error))?;
        let outbox = self.outbox()?;
        let seat = caller.seat(&self.shared, &outbox)?;
        let reader =
            self.shared.streams.adopt(&outbox, until(caller.end(), outbox.clone(), std::future::pending()));
        self.shared.hub.presence().watch(&room, &outbox);
        let watching = Watching { shared: self.shared.clone(), outbox: outbox.clone(), room };
        let frames = async_stream::stream! {
            let _guards = (reader, seat, watching);
            loop {
                match streams::next(&outbox).await {
                    Ok(Some(batch)) => {
                        for delivery in batch {
                            let Delivery::Presence(shared) = delivery else { continue };
                            for step in convert::presence(&shared) {
                                yield Ok(v1::WatchPresenceResponse { presence: Some(step) });
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
}

impl PresenceRpc {
    fn outbox(&self) -> Result<Arc<Outbox>, Status> {
        self.shared.streams.admit().map_err(|error| status::status(&error))?;
        Ok(Arc::new(Outbox::new(self.shared.config.session_queue_bytes, self.shared.metrics.clone())))
    }
}

/// A watched room; the watch ends with this.
struct Watching {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    room: RoomName,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shared.hub.presence().unwatch(&self.room, &self.outbox);
    }
}

/// What one stream keeps online. What is left when it goes has vanished.
struct Tracked {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    origin: Arc<Origin>,
    caller: Caller,
    rooms: HashMap<RoomName, HashSet<UserName>>,
    users: usize,
}

impl Tracked {
    fn enter(&mut self, enter: v1::TrackEnter) -> Result<RoomName, Error> {
        let (room, user) = self.whom(&enter.room, &enter.user)?;
        let max = self.shared.config.namespace(room.as_str()).max_meta_bytes;
        let meta = convert::meta(enter.meta, Door::Service, max)?;
        let (new_room, new) = match self.rooms.get(&room) {
            None => (true, true),
            Some(users) => (false, !users.contains(&user)),
        };
        if new && self.users >= TRACKED_MAX {
            return Err(Error::Exhausted(format!("a stream may keep {TRACKED_MAX} users online").into()));
        }
        if new {
            self.rooms.entry(room.clone()).or_default().insert(user.clone());
            self.users += 1;
        }
        let (session, origin) = (self.session(&user), self.origin.clone());
        let presence = self.shared.hub.presence();
        presence.enter(&room, [Entering { user, session, origin, meta }]);
        if new_room && self.caller.grant.may(Act::Presence, &room) {
            presence.watch(&room, &self.outbox);
        }
        Ok(room)
    }

    fn leave(&mut self, leave: &v1::TrackLeave) -> Result<RoomName, Error> {
        let (room, user) = self.whom(&leave.room, &leave.user)?;
        let users = self.rooms.get_mut(&room).filter(|users| users.contains(&user));
        let users = users.ok_or(Error::NotJoined)?;
        users.remove(&user);
        self.users -= 1;
        let empty = users.is_empty();
        let presence = self.shared.hub.presence();
        presence.leave(&room, &user, &self.session(&user), &self.origin, Gone::Left);
        if empty {
            self.rooms.remove(&room);
            presence.unwatch(&room, &self.outbox);
        }
        Ok(room)
    }

    fn whom(&self, room: &str, user: &str) -> Result<(RoomName, UserName), Error> {
        let own = &self.caller.speaks_as;
        let user = if user.is_empty() && self.caller.is_named { own.clone() } else { UserName::new(user)? };
        if user != *own {
            self.caller.must_be_service()?;
        }
        let room = convert::room(room)?;
        self.caller.may(Act::Join, &room)?;
        Ok((room, user))
    }

    /// A stream is one session of each user that it keeps.
    fn session(&self, user: &UserName) -> Arc<str> {
        format!("track.{}.{}", self.origin.stream, user.as_str()).into()
    }

    fn end(&mut self, gone: Gone) {
        for (room, users) in std::mem::take(&mut self.rooms) {
            let presence = self.shared.hub.presence();
            for user in users {
                presence.leave(&room, &user, &self.session(&user), &self.origin, gone);
            }
            presence.unwatch(&room, &self.outbox);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.end(Gone::Vanished);
    }
}

async fn read(
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    caller: Caller,
    mut requests: Streaming<v1::TrackRequest>,
) {
    let origin = shared.hub.presence().origin("");
    let (out, rooms) = (outbox.clone(), HashMap::new());
    let mut tracked = Tracked { shared, outbox: out, origin, caller, rooms, users: 0 };
    loop {
        let request = match requests.next().await {
            Some(Ok(request)) => request,
            Some(Err(status)) => {
                return outbox.end_with(Some(Error::Unreadable(status.message().to_owned())));
            }
            None => break,
        };
        // The states of many rooms come as fast as they are read.
        outbox.eased().await;
        let (id, bad_id) = match convert::client_id(&request.id) {
            Ok(id) => (id, None),
            Err(error) => (None, Some(error)),
        };
        let done = match (bad_id, request.command) {
            (Some(error), _) => Err(error),
            (None, Some(Command::Enter(enter))) => tracked.enter(enter).map(Some),
            (None, Some(Command::Leave(leave))) => tracked.leave(&leave).map(Some),
            (None, Some(Command::Heartbeat(_))) => Ok(None),
            (None, None) => Err(Error::Field { field: "command", problem: Cow::from("must be set") }),
        };
        answer(&outbox, id, done);
    }
    // Its side has ended in good order.
    tracked.end(Gone::Left);
    outbox.end();
}

fn answer(outbox: &Outbox, id: Option<ClientId>, done: Result<Option<RoomName>, Error>) {
    let to = To { id, ..To::default() };
    outbox.push(match done {
        Ok(room) => Delivery::Acked { to, room, position: None, duplicate: false },
        Err(error) => Delivery::Failed(to, None, error),
    });
}

fn responses(delivery: Delivery) -> Vec<v1::TrackResponse> {
    let told = |shared: &SharedPresence| convert::presence(shared).into_iter().map(Frame::Presence).collect();
    let (id, frames): (Option<ClientId>, Vec<Frame>) = match delivery {
        Delivery::Presence(shared) => (None, told(&shared)),
        Delivery::Acked { to, room, .. } if to.id.is_some() => {
            let room = room.map(|room| room.as_str().to_owned()).unwrap_or_default();
            (to.id, vec![Frame::Ack(v1::Ack { room, ..v1::Ack::default() })])
        }
        Delivery::Failed(to, room, error) => {
            (to.id, vec![Frame::Error(status::frame(room.as_ref(), &error))])
        }
        Delivery::Goodbye { grace_ms } => {
            (None, vec![Frame::Draining(v1::Draining { reconnect_after_ms: grace_ms })])
        }
        _ => (None, Vec::new()),
    };
    let id = id.map(|id| id.as_str().to_owned()).unwrap_or_default();
    frames.into_iter().map(|frame| v1::TrackResponse { id: id.clone(), frame: Some(frame) }).collect()
}
