//! Why a token grants nothing.
use thiserror::Error;

/// Why there is no grant. What is said to a stranger helps an honest one and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadToken {
    /// None was brought.
    #[error("a token is needed")]
    Missing,
    /// It is longer than it may be.
    #[error("the token is too long")]
    TooLong,
    /// It is no JWT at all.
    #[error("the token cannot be read")]
    Unreadable,
    /// No key has that name, or takes that algorithm.
    #[error("the token is signed with a key that is not known here")]
    UnknownKey,
    /// No key is known that it could be verified with, and whether there is one cannot be found out now.
    #[error("the keys to verify the token with cannot be fetched now")]
    KeysAway,
    /// It is not what was signed.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its claims are not those of a token for Hearth.
    #[error("the token's claims are not as they must be: {0}")]
    Claims(&'static str),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It is for somebody else.
    #[error("the token is for another audience or from another issuer")]
    Elsewhere,
}
