//! What a session is granted: when it comes, and when it brings another token.
use super::{Session, Sessions};
use crate::{
    auth::{
        Gate,
        grant::{Act, Grant},
        ticket::{Ticket, Tickets},
        token::BadToken,
    },
    engine::EngineError,
    hub::{Delivery, Error, Gone, To},
    room::{
        event::Kind,
        id::{RoomName, UserName},
    },
    service::{
        caller::{self, allowed},
        convert::{self, Door},
    },
};
use hearth_proto::v1;
use std::sync::Arc;

/// What a session has shown to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Shown {
    /// A token, or in dev mode a name.
    Token,
    /// A ticket.
    Ticket,
    /// Its edge has said what another core granted: nobody knows for what.
    Grant,
}

impl Shown {
    /// By what an edge passes on.
    pub(in crate::service) fn by(credentials: Option<&v1::open_session::Credentials>, token: &str) -> Shown {
        match credentials {
            Some(v1::open_session::Credentials::Reopened(_)) => Shown::Grant,
            _ if Tickets::is_one(token) => Shown::Ticket,
            _ => Shown::Token,
        }
    }
}

impl Session {
    /// A ticket for its token. A ticket makes no other: what was read in a URL would be good for ever.
    pub(super) fn ticket(&self, gate: &Gate) -> Result<Ticket, Error> {
        match self.shown {
            Shown::Token => {}
            Shown::Ticket => return Err(Error::Forbidden("a ticket makes no other ticket: show the token")),
            Shown::Grant => return Err(Error::Engine(EngineError::Away("the core was replaced".into()))),
        }
        gate.ticket(&self.grant, caller::now()).map_err(|error| match error {
            BadToken::TooLong => Error::Forbidden("the token says too much to fit into a ticket"),
            error => caller::unauthenticated(&error),
        })
    }
}

impl Sessions {
    /// What a session of an edge may do, by what it or its edge presents. In dev mode it is whoever it says; nobody in particular is a guest.
    pub(in crate::service) fn granted(
        &self,
        credentials: Option<v1::open_session::Credentials>,
        token: &str,
        rooms: &[String],
    ) -> Result<Grant, Error> {
        let defaults = self.defaults.clone();
        let grant = Grant { defaults, ..self.grant_of(credentials, token)? };
        let mut rooms = rooms.iter().filter_map(|room| RoomName::new(room).ok()).peekable();
        let may_come = rooms.peek().is_none()
            || rooms.any(|room| grant.may(Act::Join, &room) && !is_others(&room, &grant));
        if may_come { Ok(grant) } else { Err(Error::Forbidden("none of these rooms is open to you")) }
    }

    fn grant_of(
        &self,
        credentials: Option<v1::open_session::Credentials>,
        token: &str,
    ) -> Result<Grant, Error> {
        use v1::open_session::Credentials;
        let now = caller::now();
        match credentials {
            // The link is trusted: it brings what a core has said, which may have ended meanwhile.
            Some(Credentials::Reopened(opened)) => {
                let grant = convert::reopened(opened)?;
                // What was let in without a token, by a core in dev mode, is not let in here.
                if grant.expires_at.is_none() && !self.config.auth.is_dev() {
                    return Err(caller::unauthenticated(&BadToken::Missing));
                }
                if grant.is_over(now) {
                    return Err(caller::unauthenticated(&BadToken::Expired));
                }
                Ok(grant)
            }
            named => {
                let granted = self.gate.admit(token, now);
                if let Some(grant) = granted.map_err(|error| caller::unauthenticated(&error))? {
                    return Ok(grant);
                }
                let user = match named {
                    Some(Credentials::DevUser(user)) if !user.is_empty() => user,
                    _ => caller::guest(),
                };
                Ok(Grant::dev(UserName::new(&user)?))
            }
        }
    }

    /// A session's token is another one. It must be of the same user; where it may no longer be, it is put out.
    pub(super) fn refresh(&mut self, to: &To, granted: Result<Option<Grant>, BadToken>) -> Result<(), Error> {
        let granted = granted.map_err(|error| caller::unauthenticated(&error))?;
        let Some(session) = self.open.get_mut(&to.session) else { return Ok(()) };
        let Some(mut grant) = granted else {
            // In dev mode a token is not looked at.
            self.outbox.push(Delivery::Refreshed(to.clone(), session.grant.clone()));
            return Ok(());
        };
        if self.door == Door::Service && grant.service {
            // It goes on speaking for whom it spoke.
            grant.user = session.grant.user.clone();
        }
        if grant.user != session.grant.user {
            return Err(Error::Forbidden("a token of another user"));
        }
        // By the leeway it would do to begin with, and would end what goes on.
        if grant.is_over(caller::now()) {
            return Err(caller::unauthenticated(&BadToken::Expired));
        }
        grant.meta = grant.meta.filter(|meta| meta.len() <= self.config.max_meta_bytes);
        grant.defaults = session.grant.defaults.clone();
        let grant = Arc::new(grant);
        match &session.seat {
            Some(seat) => seat.renew(&grant)?,
            None => self.hub.check(&grant)?,
        }
        let before = std::mem::replace(&mut session.grant, grant);
        // Who may no longer see who is online has been shown it: out, and in again without.
        let lost = |act, room: &RoomName| before.may(act, room) && !session.grant.may(act, room);
        let closed: Vec<RoomName> = (session.rooms.iter())
            .filter(|room| lost(Act::Join, room) || lost(Act::Presence, room))
            .cloned()
            .collect();
        session.rooms.retain(|room| !closed.contains(room));
        let (id, grant) = (session.id.clone(), session.grant.clone());
        for room in closed {
            self.leave(&room, (&id, &grant.user), Gone::Left);
            self.outbox.push(Delivery::PutOut(To { session: to.session, ..To::default() }, room));
        }
        self.outbox.push(Delivery::Refreshed(to.clone(), grant));
        Ok(())
    }
}

/// Somebody else's personal room.
pub(super) fn is_others(room: &RoomName, grant: &Grant) -> bool {
    room.personal().is_some_and(|owner| owner != grant.user.as_str())
}

/// Whether a grant allows to say something of this kind there.
pub(in crate::service) fn may_publish(grant: &Grant, kind: Kind, room: &RoomName) -> Result<(), Error> {
    if !grant.service && room.personal().is_some() {
        return Err(Error::Forbidden("only services publish to a personal room"));
    }
    if !grant.service && kind == Kind::System {
        return Err(Error::Forbidden("only services publish system events"));
    }
    allowed(grant, if kind.is_ephemeral() { Act::Signal } else { Act::Publish }, room)
}
