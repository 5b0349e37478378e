//! The sessions of one stream, and what they may do. A link has all sessions of an edge, a Connect stream has one: the same machinery.
mod ending;
mod granting;

pub(super) use granting::{Shown, may_publish};

use super::{
    Shared,
    caller::{self, allowed},
    convert::{self, Door, Sent},
};
use crate::{
    auth::{
        Gate,
        grant::{Act, Defaults, Grant},
    },
    config::Config,
    hub::{Delivery, Error, Gone, Hub, JoinRequest, Outbox, Seat, To},
    metrics::CoreMetrics,
    room::{
        event::Kind,
        id::{ClientId, RoomName, UserName},
        position::Position,
        presence::{Entering, Origin},
    },
};
use bytes::Bytes;
use granting::is_others;
use hearth_proto::v1;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// The most users that one listing names.
const LIST_MAX: u32 = 1000;
/// Why a personal room is closed to all but one.
const NOT_YOURS: &str = "a personal room is its user's";

/// What a session asks for, whichever stream it came by.
pub(super) enum Command {
    Join(v1::Join),
    Leave(v1::Leave),
    Publish(v1::Publish),
    History(v1::History),
    Presence(v1::SetPresence),
    ListOnline(v1::ListOnline),
    Ping,
    Pull(v1::Pull),
    /// Another token.
    Auth(String),
    /// A ticket for the session's token.
    Ticket,
}

impl Command {
    fn room(&self) -> Option<&str> {
        match self {
            Command::Join(v1::Join { room, .. })
            | Command::Leave(v1::Leave { room })
            | Command::Publish(v1::Publish { room, .. })
            | Command::History(v1::History { room, .. })
            | Command::Presence(v1::SetPresence { room, .. })
            | Command::ListOnline(v1::ListOnline { room, .. })
            | Command::Pull(v1::Pull { room, .. }) => Some(room),
            Command::Ping | Command::Auth(_) | Command::Ticket => None,
        }
    }

    /// Its answer may be long.
    fn is_long(&self) -> bool {
        matches!(self, Command::Join(_) | Command::History(_) | Command::Pull(_) | Command::ListOnline(_))
    }
}

pub(super) struct Session {
    pub(super) id: Arc<str>,
    /// Who it is, and what it may do.
    grant: Arc<Grant>,
    rooms: HashSet<RoomName>,
    /// It is a single request over HTTP, and needs no join.
    call: bool,
    /// Its place in the directory; none for a single request.
    seat: Option<Seat>,
    /// What it has shown.
    shown: Shown,
    /// What it had set where, as an edge brings it from another core.
    metas: BTreeMap<RoomName, Bytes>,
}

impl Session {
    /// What its token has it show in a room that takes metas of so many bytes, until it sets something.
    fn granted_meta(&self, max: usize) -> Option<Bytes> {
        let meta = self.grant.meta.as_deref().filter(|meta| meta.len() <= max);
        meta.map(|meta| Bytes::copy_from_slice(meta.as_bytes()))
    }

    /// Whose sign of typing its own is. One request says that its user types and another that it does not, so to calls it is the
    /// user's.
    fn types_as(&self) -> Arc<str> {
        if self.call { format!("call.{}", self.grant.user.as_str()).into() } else { self.id.clone() }
    }
}

/// The sessions of a stream. When it goes, they leave their rooms.
pub(super) struct Sessions {
    hub: Arc<Hub>,
    config: Arc<Config>,
    defaults: Defaults,
    gate: Arc<Gate>,
    metrics: CoreMetrics,
    outbox: Arc<Outbox>,
    door: Door,
    /// Who vouches for them.
    origin: Arc<Origin>,
    open: HashMap<u64, Session>,
    /// How many of them are in which room.
    seats: HashMap<RoomName, usize>,
}

impl Sessions {
    /// None yet. `edge` is the edge's id; empty for a service.
    pub(super) fn new(shared: &Shared, outbox: Arc<Outbox>, door: Door, edge: &str) -> Self {
        let (hub, config, gate) = (shared.hub.clone(), shared.config.clone(), shared.gate.clone());
        let metrics = shared.metrics.clone();
        let origin = hub.presence().origin(edge);
        let (defaults, open, seats) = (shared.defaults.clone(), HashMap::new(), HashMap::new());
        Self { hub, config, defaults, gate, metrics, outbox, door, origin, open, seats }
    }

    /// Lets a session in; `call` is one that is a single request over HTTP.
    pub(super) fn open(
        &mut self,
        to: &To,
        id: &str,
        mut grant: Grant,
        (call, shown): (bool, Shown),
    ) -> Result<(), Error> {
        // A limit that its maker did not know of hides it, and lets the session in all the same.
        grant.meta = grant.meta.filter(|meta| meta.len() <= self.config.max_meta_bytes);
        // One that gives a number twice means the later session.
        self.close(to.session, Gone::Vanished);
        let grant = Arc::new(grant);
        let seat = match call {
            true => self.hub.check(&grant).map(|()| None)?,
            false => {
                Some(self.hub.directory().enter(&self.outbox, to.session, &grant, shown != Shown::Grant)?)
            }
        };
        let (rooms, metas) = (HashSet::new(), BTreeMap::new());
        let session = Session { id: id.into(), grant, rooms, call, seat, shown, metas };
        let opened =
            Delivery::Opened { to: to.clone(), session: session.id.clone(), grant: session.grant.clone() };
        self.open.insert(to.session, session);
        self.metrics.sessions.inc();
        self.outbox.push(opened);
        Ok(())
    }

    /// When a session's token ends, since 1970; never in dev mode.
    pub(super) fn ends(&self, number: u64) -> Option<Duration> {
        self.open.get(&number)?.grant.expires_at
    }

    /// A session has gone.
    pub(super) fn close(&mut self, number: u64, gone: Gone) {
        if let Some(session) = self.open.remove(&number) {
            self.metrics.sessions.dec();
            self.leave_all(&session, gone);
        }
    }

    /// Whether a session is in a room.
    pub(super) fn is_in(&self, number: u64, room: &str) -> bool {
        let room = RoomName::new(room).ok();
        room.is_some_and(|room| self.open.get(&number).is_some_and(|session| session.rooms.contains(&room)))
    }

    fn leave_all(&mut self, session: &Session, gone: Gone) {
        for room in &session.rooms {
            self.leave(room, (&session.id, &session.grant.user), gone);
        }
    }

    /// A session is out of a room: of its events, of its presence, of its typing.
    fn leave(&mut self, room: &RoomName, (id, user): (&Arc<str>, &UserName), gone: Gone) {
        self.hub.leave(&self.outbox, room);
        self.leave_presence(room, (id, user), gone);
    }

    fn leave_presence(&mut self, room: &RoomName, (id, user): (&Arc<str>, &UserName), gone: Gone) {
        self.hub.stop_typing(room, id);
        if let Some(seats) = self.seats.get_mut(room) {
            *seats -= 1;
            if *seats == 0 {
                // Before it leaves, so that nobody is told of its own going.
                self.seats.remove(room);
                self.hub.presence().unwatch(room, &self.outbox);
            }
        }
        self.hub.presence().leave(room, user, id, &self.origin, gone);
    }

    /// An edge wants to know who is online in a room in which it has sessions.
    pub(super) fn watch(&self, room: &str) {
        match convert::room(room) {
            Ok(room) if self.seats.contains_key(&room) => self.hub.presence().watch(&room, &self.outbox),
            // Its last session there has left meanwhile.
            Ok(_) => {}
            Err(error) => self.outbox.push(Delivery::Failed(To::default(), None, error)),
        }
    }

    /// Before `resume`: what the edge's sessions have set in a room.
    pub(super) fn metas(&mut self, v1::Metas { room, metas }: v1::Metas) {
        let Ok(room) = convert::room(&room) else { return };
        for v1::SessionMeta { session, meta } in metas {
            // Another core has taken it already, so a limit that is lower here only hides it.
            if meta.len() <= self.config.namespace(room.as_str()).max_meta_bytes
                && let Some(session) = self.open.get_mut(&session)
            {
                session.metas.insert(room.clone(), meta.into());
            }
        }
    }

    /// After a new attach: these sessions are in this room and have seen it up to `since`.
    pub(super) async fn resume(&mut self, request: u64, resume: v1::Resume) {
        let to = To { request, ..To::default() };
        let room = match convert::room(&resume.room) {
            Ok(room) => room,
            Err(error) => return self.outbox.push(Delivery::Failed(to, None, error)),
        };
        self.outbox.eased().await;
        let not_in =
            |number: &u64| self.open.get(number).is_some_and(|session| !session.rooms.contains(&room));
        let mut coming: Vec<u64> = resume.sessions.into_iter().filter(not_in).collect();
        coming.sort_unstable();
        coming.dedup();
        let (since, seats) = (convert::since(resume.since), coming.len());
        if let Err(error) = self.hub.resume(&self.outbox, to.clone(), &room, since, seats as u64).await {
            return self.outbox.push(Delivery::Failed(to, Some(room), error));
        }
        if seats > 0 {
            *self.seats.entry(room.clone()).or_default() += seats;
        }
        let (origin, open) = (&self.origin, &mut self.open);
        let max = self.config.namespace(room.as_str()).max_meta_bytes;
        let entering = coming.iter().filter_map(|number| {
            let session = open.get_mut(number)?;
            session.rooms.insert(room.clone());
            let user = session.grant.user.clone();
            let meta = session.metas.remove(&room).or_else(|| session.granted_meta(max));
            Some(Entering { user, session: session.id.clone(), origin: origin.clone(), meta })
        });
        self.hub.presence().enter(&room, entering.collect::<Vec<_>>());
    }

    /// The next page of a resumed room's replay.
    pub(super) async fn pull_for_all(&mut self, pull: v1::Pull) {
        let to = To::default();
        let room = match convert::room(&pull.room) {
            Ok(room) => room,
            Err(error) => return self.outbox.push(Delivery::Failed(to, None, error)),
        };
        self.outbox.eased().await;
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
        if command.is_long() {
            self.outbox.eased().await;
        }
        let done = match command.room().map(RoomName::new).transpose() {
            Ok(room) => self.attempt(&to, room.as_ref(), command).await.map_err(|error| (room, error)),
            Err(error) => Err((None, error.into())),
        };
        if let Err((room, error)) = done {
            self.outbox.push(Delivery::Failed(to, room, error));
        }
    }

    async fn attempt(&mut self, to: &To, room: Option<&RoomName>, command: Command) -> Result<(), Error> {
        let session = self.open.get_mut(&to.session).ok_or(Error::OutOfTurn("this session is not open"))?;
        let foreign = room.is_some_and(|room| is_others(room, &session.grant));
        let ack = |position: Option<Position>| Delivery::Acked {
            to: to.clone(),
            room: room.cloned(),
            position,
            duplicate: false,
        };
        match (command, room) {
            (Command::Join(join), Some(room)) => {
                if foreign {
                    return Err(Error::Forbidden(NOT_YOURS));
                }
                allowed(&session.grant, Act::Join, room)?;
                if join.history > 0 && join.since.is_none() {
                    allowed(&session.grant, Act::History, room)?;
                }
                let sees = session.grant.may(Act::Presence, room);
                if session.rooms.contains(room) {
                    return self.hub.still_joined(&self.outbox, to, room);
                }
                if session.rooms.len() >= self.config.max_rooms_per_session {
                    let problem = format!("a session may be in {} rooms", self.config.max_rooms_per_session);
                    return Err(Error::Exhausted(Cow::from(problem)));
                }
                let since = convert::since(join.since);
                let history = convert::newest(join.history, &self.config.namespace(room.as_str()));
                // Noted before the join, so that a stream that ends meanwhile leaves nothing behind.
                session.rooms.insert(room.clone());
                *self.seats.entry(room.clone()).or_default() += 1;
                let (user, id) = (session.grant.user.clone(), session.id.clone());
                let entering = Entering {
                    user: user.clone(),
                    session: id.clone(),
                    origin: self.origin.clone(),
                    meta: session.granted_meta(self.config.namespace(room.as_str()).max_meta_bytes),
                };
                let presence = self.hub.presence().enter(room, [entering]);
                let presence = sees.then_some(presence);
                let (outbox, to) = (self.outbox.clone(), to.clone());
                let request =
                    JoinRequest { outbox, to: to.clone(), room: room.clone(), since, history, presence };
                if let Err(error) = self.hub.join(request).await {
                    if let Some(session) = self.open.get_mut(&to.session) {
                        session.rooms.remove(room);
                    }
                    self.leave_presence(room, (&id, &user), Gone::Vanished);
                    return Err(error);
                }
                // An edge asks for its rooms by itself.
                if self.door == Door::Service && sees && join.presence != Some(false) {
                    self.hub.presence().watch(room, &self.outbox);
                }
            }
            (Command::Leave(_), Some(room)) => {
                if !session.rooms.remove(room) {
                    return Err(Error::NotJoined);
                }
                let (id, user) = (session.id.clone(), session.grant.user.clone());
                self.hub.leave(&self.outbox, room);
                self.outbox.push(Delivery::Left(to.clone(), room.clone()));
                self.leave_presence(room, (&id, &user), Gone::Left);
            }
            (Command::Presence(presence), Some(room)) => {
                let max = self.config.namespace(room.as_str()).max_meta_bytes;
                let meta = convert::meta(presence.meta, self.door, max)?;
                if session.call || meta.is_some() {
                    allowed(&session.grant, Act::Presence, room)?;
                }
                // Without a join of its own it puts its user into the room.
                if session.call && !foreign {
                    allowed(&session.grant, Act::Join, room)?;
                }
                let presence = self.hub.presence();
                match meta {
                    _ if session.call && foreign => return Err(Error::Forbidden(NOT_YOURS)),
                    meta if session.call => presence.visit(room, &session.grant.user, meta),
                    _ if !session.rooms.contains(room) => return Err(Error::NotJoined),
                    Some(meta) => {
                        presence.set_meta(room, &session.grant.user, &session.id, meta);
                    }
                    None => {}
                }
                self.outbox.push(ack(None));
            }
            (Command::Publish(publish), Some(room)) => {
                let id = to.id.as_ref().map(ClientId::as_str).unwrap_or_default();
                let sent = Sent { room: room.as_str(), kind: publish.kind, id, payload: publish.payload };
                let max = self.config.namespace(room.as_str()).max_message_bytes;
                let new =
                    convert::new_event(sent, &session.grant.user, Some(session.id.clone()), self.door, max)?;
                may_publish(&session.grant, new.kind, room)?;
                match new.kind {
                    Kind::Typing if !session.call && !session.rooms.contains(room) => {
                        return Err(Error::NotJoined);
                    }
                    kind if kind.is_ephemeral() => {
                        if kind == Kind::Typing {
                            let active = convert::typing(&new.payload)?;
                            self.hub.note_typing(room, &session.types_as(), &session.grant.user, active);
                        }
                        self.outbox.push(ack(None));
                        self.hub.broadcast(new).await?;
                    }
                    _ => {
                        let ack = Some((self.outbox.clone(), to.clone()));
                        self.hub.publish(new, convert::epoch(&publish.epoch), ack).await?;
                    }
                }
            }
            (Command::History(_), Some(_)) if foreign => return Err(Error::Forbidden(NOT_YOURS)),
            (Command::History(history), Some(room)) => {
                allowed(&session.grant, Act::History, room)?;
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
            (Command::ListOnline(_), Some(_)) if foreign => return Err(Error::Forbidden(NOT_YOURS)),
            (Command::ListOnline(list), Some(room)) => {
                allowed(&session.grant, Act::Presence, room)?;
                let listed = self.hub.presence().list(room, "", list.limit.min(LIST_MAX) as usize);
                let (mut online, count) = (listed.online, listed.count);
                let mut bytes = 0;
                let fits = online.iter().take_while(|one| {
                    bytes += one.user.as_str().len() + one.meta.len();
                    bytes <= self.config.history_page_bytes()
                });
                online.truncate(fits.count());
                self.outbox.push(Delivery::Online { to: to.clone(), online, count });
            }
            // It was put out while the edge asked, and has been told so.
            (Command::Pull(_), Some(room)) if !session.rooms.contains(room) => {}
            (Command::Pull(pull), Some(room)) => {
                let after = convert::since(pull.after);
                let after =
                    after.ok_or(Error::Field { field: "after", problem: Cow::from("must be set") })?;
                self.hub.pull(&self.outbox, to.clone(), room, after).await?;
            }
            (Command::Auth(token), _) => {
                let gate = &self.gate;
                // A service has its stream for itself. On a link others would wait too, so whoever must has done so already.
                let granted = match self.door {
                    Door::Service => caller::in_time(gate, &token).await,
                    Door::Edge => gate.admit(&token, caller::now()),
                };
                self.refresh(to, granted)?;
            }
            (Command::Ticket, _) => {
                let ticket = session.ticket(&self.gate)?;
                self.outbox.push(Delivery::Ticket(to.clone(), ticket));
            }
            (_, _) => self.outbox.push(ack(None)),
        }
        Ok(())
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for (_, session) in std::mem::take(&mut self.open) {
            self.metrics.sessions.dec();
            self.leave_all(&session, Gone::Vanished);
        }
    }
}
