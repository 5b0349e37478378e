//! The sessions of one stream, and what they may do. A link has all sessions of an edge, a Connect stream has one: the same machinery.
use super::convert::{self, Door, Sent};
use crate::{
    config::Config,
    hub::{Delivery, Error, Hub, JoinRequest, Outbox, To},
    metrics::CoreMetrics,
    room::{
        event::Kind,
        id::{ClientId, RoomName, UserName},
        position::Position,
    },
};
use hearth_proto::v1;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// What a session asks for, whichever stream it came by.
pub(super) enum Command {
    Join(v1::Join),
    Leave(v1::Leave),
    Publish(v1::Publish),
    History(v1::History),
    Ping,
    Pull(v1::Pull),
}

pub(super) struct Session {
    pub(super) id: Arc<str>,
    user: UserName,
    rooms: HashSet<RoomName>,
}

/// The sessions of a stream. When it goes, they leave their rooms.
pub(super) struct Sessions {
    hub: Arc<Hub>,
    config: Arc<Config>,
    metrics: CoreMetrics,
    outbox: Arc<Outbox>,
    door: Door,
    open: HashMap<u64, Session>,
}

impl Sessions {
    pub(super) fn new(
        hub: Arc<Hub>,
        config: Arc<Config>,
        metrics: CoreMetrics,
        outbox: Arc<Outbox>,
        door: Door,
    ) -> Self {
        Self { hub, config, metrics, outbox, door, open: HashMap::new() }
    }

    /// Lets a session in. In dev mode it is whoever it says; nobody in particular is a guest.
    pub(super) fn open(&mut self, to: To, id: &str, user: &str) {
        let guest;
        let user = if user.is_empty() {
            guest = format!("guest-{:06x}", fastrand::u32(..1 << 24));
            &guest
        } else {
            user
        };
        let user = match UserName::new(user) {
            Ok(user) => user,
            Err(error) => return self.outbox.push(Delivery::Refused(to, error.into())),
        };
        let session = Session { id: id.into(), user, rooms: HashSet::new() };
        let opened = Delivery::Opened {
            to: to.clone(),
            session: session.id.clone(),
            user: session.user.as_str().into(),
        };
        if let Some(before) = self.open.insert(to.session, session) {
            self.leave_all(&before);
        } else {
            self.metrics.sessions.inc();
        }
        self.outbox.push(opened);
    }

    /// A session has gone.
    pub(super) fn close(&mut self, number: u64) {
        if let Some(session) = self.open.remove(&number) {
            self.metrics.sessions.dec();
            self.leave_all(&session);
        }
    }

    fn leave_all(&self, session: &Session) {
        session.rooms.iter().for_each(|room| self.hub.leave(&self.outbox, room));
    }

    /// After a new attach: these sessions are in this room and have seen it up to `since`.
    pub(super) async fn resume(&mut self, resume: v1::Resume) {
        let room = match convert::room(&resume.room) {
            Ok(room) => room,
            Err(error) => return self.outbox.push(Delivery::Failed(To::default(), None, error)),
        };
        let mut joined = 0;
        for number in &resume.sessions {
            if let Some(session) = self.open.get_mut(number) {
                joined += u64::from(session.rooms.insert(room.clone()));
            }
        }
        if let Err(error) = self.hub.resume(&self.outbox, &room, convert::since(resume.since), joined).await {
            for number in &resume.sessions {
                if let Some(session) = self.open.get_mut(number) {
                    session.rooms.remove(&room);
                }
            }
            self.outbox.push(Delivery::Failed(To::default(), Some(room), error));
        }
    }

    /// The next page of a resumed room's replay.
    pub(super) async fn pull_for_all(&mut self, pull: v1::Pull) {
        let to = To::default();
        let room = match convert::room(&pull.room) {
            Ok(room) => room,
            Err(error) => return self.outbox.push(Delivery::Failed(to, None, error)),
        };
        let done = match convert::since(pull.after) {
            Some(after) => self.hub.pull(&self.outbox, to.clone(), &room, after).await,
            None => Err(Error::Field { field: "after", problem: Cow::from("must be set") }),
        };
        if let Err(error) = done {
            self.outbox.push(Delivery::Failed(to, Some(room), error));
        }
    }

    /// Does what a session asks; the answer is in the queue when this returns.
    pub(super) async fn run(&mut self, number: u64, request: u64, id: &str, command: Command) {
        let id = match convert::client_id(id) {
            Ok(id) => id,
            Err(error) => {
                let to = To { session: number, request, id: None };
                return self.outbox.push(Delivery::Failed(to, None, error));
            }
        };
        let to = To { session: number, request, id };
        let room = match &command {
            Command::Join(v1::Join { room, .. })
            | Command::Leave(v1::Leave { room })
            | Command::Publish(v1::Publish { room, .. })
            | Command::History(v1::History { room, .. })
            | Command::Pull(v1::Pull { room, .. }) => RoomName::new(room).map(Some),
            Command::Ping => Ok(None),
        };
        let done = match room {
            Ok(room) => self.attempt(&to, room.as_ref(), command).await.map_err(|error| (room, error)),
            Err(error) => Err((None, error.into())),
        };
        if let Err((room, error)) = done {
            self.outbox.push(Delivery::Failed(to, room, error));
        }
    }

    async fn attempt(&mut self, to: &To, room: Option<&RoomName>, command: Command) -> Result<(), Error> {
        let session = self.open.get_mut(&to.session).ok_or(Error::OutOfTurn("this session is not open"))?;
        let ack = |position: Option<Position>| Delivery::Acked {
            to: to.clone(),
            room: room.cloned(),
            position,
            duplicate: false,
        };
        match (command, room) {
            (Command::Join(join), Some(room)) => {
                if room.personal().is_some_and(|owner| owner != session.user.as_str()) {
                    return Err(Error::Forbidden("a personal room is its user's"));
                }
                if session.rooms.contains(room) {
                    return self.still_joined(to, room);
                }
                if session.rooms.len() >= self.config.max_rooms_per_session {
                    let problem = format!("a session may be in {} rooms", self.config.max_rooms_per_session);
                    return Err(Error::Exhausted(Cow::from(problem)));
                }
                let since = convert::since(join.since);
                let history = join.history.min(self.config.history_size as u32) as usize;
                let (outbox, to) = (self.outbox.clone(), to.clone());
                self.hub.join(JoinRequest { outbox, to, room: room.clone(), since, history }).await?;
                session.rooms.insert(room.clone());
            }
            (Command::Leave(_), Some(room)) => {
                if !session.rooms.remove(room) {
                    return Err(Error::NotJoined);
                }
                self.hub.leave(&self.outbox, room);
                self.outbox.push(ack(None));
            }
            (Command::Publish(publish), Some(room)) => {
                if self.door == Door::Edge && room.personal().is_some() {
                    return Err(Error::Forbidden("only services publish to a personal room"));
                }
                let id = to.id.as_ref().map(ClientId::as_str).unwrap_or_default();
                let sent = Sent { room: room.as_str(), kind: publish.kind, id, payload: publish.payload };
                let max = self.config.max_message_bytes;
                let new = convert::new_event(sent, &session.user, Some(session.id.clone()), self.door, max)?;
                match new.kind {
                    Kind::System if self.door == Door::Edge => {
                        return Err(Error::Forbidden("only services publish system events"));
                    }
                    Kind::Typing if !session.rooms.contains(room) => return Err(Error::NotJoined),
                    kind if kind.is_ephemeral() => {
                        self.outbox.push(ack(None));
                        self.hub.broadcast(new).await?;
                    }
                    _ => {
                        let ack = Some((self.outbox.clone(), to.clone()));
                        self.hub.publish(new, convert::epoch(&publish.epoch), ack).await?;
                    }
                }
            }
            (Command::History(history), Some(room)) => {
                let range = convert::range(
                    history.after,
                    history.before,
                    history.limit,
                    self.config.history_page_bytes(),
                )?;
                let read = self.hub.read(room, range).await?;
                let (to, room) = (to.clone(), room.clone());
                let (position, events, more) = (read.position, read.events, read.more);
                self.outbox.push(Delivery::History { to, room, position, events, more });
            }
            (Command::Pull(_), Some(room)) if !session.rooms.contains(room) => return Err(Error::NotJoined),
            (Command::Pull(pull), Some(room)) => {
                let after = convert::since(pull.after);
                let after =
                    after.ok_or(Error::Field { field: "after", problem: Cow::from("must be set") })?;
                self.hub.pull(&self.outbox, to.clone(), room, after).await?;
            }
            (_, _) => self.outbox.push(ack(None)),
        }
        Ok(())
    }

    /// A join of a joined room: the present position, and nothing changes.
    fn still_joined(&self, to: &To, room: &RoomName) -> Result<(), Error> {
        use crate::hub::delivery::{Place, ReplayPage};
        let position = self.hub.position(room).ok_or(Error::NotJoined)?;
        let place = Place { room: room.clone(), position, recovered: None, replayed: 0 };
        self.outbox.push(Delivery::Joined(to.clone(), place, ReplayPage { events: Vec::new(), live: true }));
        Ok(())
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for (_, session) in std::mem::take(&mut self.open) {
            self.metrics.sessions.dec();
            self.leave_all(&session);
        }
    }
}
