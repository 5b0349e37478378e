//! From a token to a grant.
pub use super::bad_token::BadToken;
use super::crypto;
use super::grant::{Acts, Defaults, Grant, Rule};
use super::key_sets::KeySets;
use super::keys::{Key, SigningKey};
use crate::room::id::UserName;
use hearth_proto::payload;
use jsonwebtoken::{Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// The longest token, in bytes: what a browser can put into a header beside all else.
pub const TOKEN_MAX: usize = 8 * 1024;
/// By how much clocks may differ.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// Verifies tokens.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    keys: Vec<Key>,
    sets: Arc<KeySets>,
    audience: Option<Box<str>>,
    issuer: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since 1970; a fraction is allowed.
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    aud: Option<Audience>,
    iss: Option<String>,
    jti: Option<String>,
    #[serde(default, deserialize_with = "present")]
    hearth: Option<HearthClaims>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Default, Deserialize)]
struct HearthClaims {
    #[serde(default, deserialize_with = "present")]
    rooms: Option<Vec<RoomClaims>>,
    #[serde(default)]
    service: bool,
    meta: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RoomClaims {
    #[serde(rename = "match")]
    pattern: Box<str>,
    allow: Vec<String>,
}

impl Verifier {
    /// A verifier by these keys. Where an audience or an issuer is given, a token must name it.
    pub fn new(keys: Vec<Key>, audience: Option<Box<str>>, issuer: Option<Box<str>>) -> Verifier {
        crypto::install();
        Verifier { keys, sets: Arc::default(), audience, issuer }
    }

    /// The same, by the keys of these sets too.
    pub fn with_sets(self, sets: Arc<KeySets>) -> Verifier {
        Verifier { sets, ..self }
    }

    /// Its sets of keys.
    pub fn sets(&self) -> &Arc<KeySets> {
        &self.sets
    }

    /// Whether there is any key to verify with.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.sets.have_come()
    }

    /// Whether a token names a key that is known, without a look at its signature. Where no keys are fetched all are known that there are.
    pub fn names_known_key(&self, token: &str) -> bool {
        if self.sets.is_empty() || token.len() > TOKEN_MAX {
            return true;
        }
        let Ok(header) = decode_header(token) else { return true };
        let is_named = |key: &Key| key.id.is_some() && header.kid.is_some() && is_meant(key, &header);
        self.sets.keys().iter().flat_map(|set| set.iter()).any(is_named)
    }

    /// What a token grants, at `now` since 1970.
    pub fn verify(&self, token: &str, now: Duration) -> Result<Grant, BadToken> {
        if token.is_empty() {
            return Err(BadToken::Missing);
        }
        if token.len() > TOKEN_MAX {
            return Err(BadToken::TooLong);
        }
        let header = decode_header(token).map_err(|_| BadToken::Unreadable)?;
        let sets = self.sets.keys();
        let meant = |key: &&Key| is_meant(key, &header);
        let fixed = self.keys.iter().filter(meant);
        let fetched: Vec<&Key> = sets.iter().flat_map(|set| set.iter()).filter(meant).collect();
        let is_named = fetched.iter().any(|key| key.id.is_some() && header.kid.is_some());
        let mut keys = fixed.chain(fetched).peekable();
        if keys.peek().is_none() {
            return Err(BadToken::UnknownKey);
        }
        // Without a name on either side several keys may be meant, as while one follows another.
        let read = keys.map(|key| read(token, key)).find(|read| !matches!(read, Err(BadToken::Signature)));
        // Where none is named, the right one may be in a set that has followed.
        let wrong = if self.sets.is_empty() || is_named { BadToken::Signature } else { BadToken::UnknownKey };
        self.grant(read.unwrap_or(Err(wrong))?, now)
    }

    fn grant(&self, claims: Claims, now: Duration) -> Result<Grant, BadToken> {
        let Claims { sub, exp, nbf, iat, aud, iss, jti, hearth } = claims;
        let end = since_1970(exp.ok_or(BadToken::Claims("exp is required"))?);
        if end + LEEWAY <= now {
            return Err(BadToken::Expired);
        }
        // One that was issued later than now could not be taken back with what was issued up to now.
        if [nbf, iat].into_iter().flatten().any(|begin| since_1970(begin) > now + LEEWAY) {
            return Err(BadToken::NotYet);
        }
        if self.issuer.is_some() && iss.as_deref() != self.issuer.as_deref() {
            return Err(BadToken::Elsewhere);
        }
        let audience = self.audience.as_deref();
        let is_for_us = |wanted: &str| match &aud {
            Some(Audience::One(one)) => one == wanted,
            Some(Audience::Several(several)) => several.iter().any(|one| one == wanted),
            None => false,
        };
        if audience.is_some_and(|wanted| !is_for_us(wanted)) {
            return Err(BadToken::Elsewhere);
        }
        let user = UserName::new(&sub.unwrap_or_default());
        let user = user.map_err(|_| BadToken::Claims("sub must be a user's name"))?;
        let HearthClaims { rooms, service, meta } = hearth.unwrap_or_default();
        let meta = meta.map(|meta| payload::check_meta(meta.get())).transpose();
        let rule = |RoomClaims { pattern, allow }| Rule {
            pattern,
            allow: Acts::named(allow.iter().map(String::as_str)),
        };
        Ok(Grant {
            subject: user.clone(),
            user,
            service,
            rules: rooms.map(|rooms| rooms.into_iter().map(rule).collect()),
            defaults: Defaults::default(),
            issued_at: iat.map(since_1970),
            expires_at: Some(end),
            token_id: jti.map(Into::into),
            meta: meta.map_err(|_| BadToken::Claims("hearth.meta must be a JSON object"))?.map(Into::into),
        })
    }
}

/// Makes a token of claims.
pub fn sign(claims: &serde_json::Value, key: &SigningKey) -> Result<String, jsonwebtoken::errors::Error> {
    crypto::install();
    encode(&Header::new(key.algorithm), claims, &key.key)
}

/// Whether a token's header names this key, and an algorithm that is the key's.
fn is_meant(key: &Key, header: &Header) -> bool {
    let named = match (&key.id, &header.kid) {
        (Some(id), Some(wanted)) => **id == **wanted,
        _ => true,
    };
    named && key.algorithms.contains(&header.alg)
}

/// The claims of a token that was signed with this key.
fn read(token: &str, key: &Key) -> Result<Claims, BadToken> {
    let Some(first) = key.algorithms.first() else { return Err(BadToken::UnknownKey) };
    let mut validation = Validation::new(*first);
    validation.algorithms = key.algorithms.to_vec();
    // Time, audience and issuer are held against the claims below, by a clock that is given.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    use jsonwebtoken::errors::ErrorKind;
    decode(token, &key.key, &validation).map(|read| read.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => BadToken::Signature,
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => BadToken::Claims("their shape is another"),
        _ => BadToken::Unreadable,
    })
}

/// A claim that is there has a value: `null` would mean that there is no limit.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Seconds that may be anything. What is before 1970 is long over, and what is beyond all time is far away.
fn since_1970(seconds: f64) -> Duration {
    const FOREVER: Duration = Duration::from_secs(u64::MAX / 4);
    if seconds.is_nan() || seconds <= 0.0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(FOREVER).min(FOREVER)
}

#[cfg(test)]
mod tests;
