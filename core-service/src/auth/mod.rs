//! Who a caller is and what it may do: tokens are verified here and permissions checked, for links and services alike.
//!
//! [`keys`] are what tokens are verified with, [`token`] verifies one and reads its claims, [`grant`] is what comes of it: a user and its
//! rights; [`revocation`] takes it back. Time is an argument.
mod crypto;
pub mod grant;
pub mod keys;
pub mod revocation;
pub mod token;

use grant::Grant;
use std::time::Duration;
use token::{BadToken, Verifier};

/// A secret that edges share with cores; only what it takes to recognize it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkToken([u8; 32]);

impl LinkToken {
    /// Of a secret that is not empty.
    pub fn new(secret: &str) -> Option<LinkToken> {
        (!secret.is_empty()).then(|| LinkToken(digest(secret)))
    }

    /// Whether this is the secret. How long that takes tells of its digest alone.
    pub fn is(&self, presented: &str) -> bool {
        self.0 == digest(presented)
    }
}

fn digest(text: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
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
}
