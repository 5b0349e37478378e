//! Who a caller is and what it may do: tokens are verified here and permissions checked, for links and services alike.
//!
//! [`keys`] are what tokens are verified with, [`key_sets`] those that are fetched from where they are published, as [`rotation`] says when;
//! [`token`] verifies one and reads its claims, [`ticket`] makes and takes what stands for one in a URL, [`grant`] is what comes of it: a user and its
//! rights; [`revocation`] takes it back. Time is an argument.
mod bad_token;
mod crypto;
pub mod grant;
pub mod key_sets;
pub mod keys;
pub mod revocation;
pub mod rotation;
pub mod ticket;
pub mod token;

use grant::Grant;
use key_sets::{KeySets, Search};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ticket::{Ticket, Tickets};
use token::{BadToken, Verifier};

/// A secret that edges share with cores; only what it takes to recognize it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkToken([u8; 32]);

impl LinkToken {
    /// Of a secret that is not empty.
    pub fn new(secret: &str) -> Option<LinkToken> {
        (!secret.is_empty()).then(|| LinkToken(digest(secret.as_bytes())))
    }

    /// Whether this is the secret. How long that takes tells of its digest alone.
    pub fn is(&self, presented: &str) -> bool {
        self.0 == digest(presented.as_bytes())
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut array = [0; 32];
    array.copy_from_slice(digest.as_ref());
    array
}

/// How callers are let in.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Dev mode: everybody is who it says.
    #[default]
    Dev,
    /// By their tokens.
    Tokens(Verifier),
}

impl Auth {
    /// Whether everybody is who it says.
    pub fn is_dev(&self) -> bool {
        matches!(self, Auth::Dev)
    }

    /// What a token grants at `now`, since 1970. None in dev mode, whatever it says.
    pub fn admit(&self, token: &str, now: Duration) -> Result<Option<Grant>, BadToken> {
        match self {
            Auth::Dev => Ok(None),
            Auth::Tokens(verifier) => verifier.verify(token, now).map(Some),
        }
    }

    /// Whether a token names a key that is known, or needs none: then it is judged at once, without any look at its signature here.
    pub fn names_known_key(&self, token: &str) -> bool {
        match self {
            Auth::Dev => true,
            Auth::Tokens(verifier) => verifier.names_known_key(token),
        }
    }

    /// Where the key of a token is not known: looks for it, or says why it is not worth the while.
    pub fn search(&self, now: Instant) -> Result<Search, BadToken> {
        match self {
            Auth::Dev => Err(BadToken::UnknownKey),
            Auth::Tokens(verifier) => verifier.sets().search(now),
        }
    }

    /// The sets of keys that are to be fetched.
    pub fn key_sets(&self) -> Option<&Arc<KeySets>> {
        match self {
            Auth::Dev => None,
            Auth::Tokens(verifier) => Some(verifier.sets()).filter(|sets| !sets.is_empty()),
        }
    }

    /// Whether anybody can be let in: with tokens, once there is a key.
    pub fn is_ready(&self) -> bool {
        match self {
            Auth::Dev => true,
            Auth::Tokens(verifier) => verifier.has_keys(),
        }
    }
}

/// Who lets callers in: by what they bring, a token or a ticket.
#[derive(Debug)]
pub struct Gate {
    auth: Auth,
    /// None without a key to make them with.
    tickets: Option<Tickets>,
}

impl Gate {
    /// One that takes the tickets of those who know this key.
    pub fn new(auth: Auth, ticket_key: Option<[u8; 32]>) -> Gate {
        Gate { auth, tickets: ticket_key.map(|key| Tickets::new(&key)) }
    }

    /// How tokens are taken.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// What a token or a ticket grants at `now`, since 1970. In dev mode none but a ticket grants anything.
    pub fn admit(&self, token: &str, now: Duration) -> Result<Option<Grant>, BadToken> {
        if !Tickets::is_one(token) {
            return self.auth.admit(token, now);
        }
        let tickets = self.tickets.as_ref().ok_or(BadToken::Signature)?;
        let grant = tickets.verify(token, now)?;
        // A core in dev mode may have the same key, and whom it let in had no token.
        if grant.expires_at.is_none() && !self.auth.is_dev() {
            return Err(BadToken::Claims("exp is required"));
        }
        Ok(Some(grant))
    }

    /// A ticket for what a token granted.
    pub fn ticket(&self, grant: &Grant, now: Duration) -> Result<Ticket, BadToken> {
        self.tickets.as_ref().ok_or(BadToken::KeysAway)?.make(grant, now)
    }

    /// Whether a token is one that is judged at once: see [`Auth::names_known_key`].
    pub fn names_known_key(&self, token: &str) -> bool {
        Tickets::is_one(token) || self.auth.names_known_key(token)
    }
}
