//! Tickets: what a token is turned into for a URL. A ticket may be shown for half a minute, by whoever reads it; the session that it opens is the
//! token's in all: its user, its rights, its end, its id. Cores make them with a key that all who share an engine have, and take none that others
//! have made. A ticket is no JWT: neither can be taken for the other. Time is an argument.
use super::grant::{Acts, Defaults, Grant, Rule};
use super::token::{BadToken, TOKEN_MAX};
use crate::room::id::UserName;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// How long a ticket may be shown.
pub const LIFETIME: Duration = Duration::from_secs(30);
/// What a ticket begins with. No JWT does: its first part is JSON, and this is none.
const PREFIX: &str = "ticket.";

/// Makes and takes tickets.
pub struct Tickets(hmac::Key);

// By hand: keys reach no log.
impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

/// One that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its text.
    pub text: Box<str>,
    /// Until when it may be shown, since 1970.
    pub expires_at: Duration,
}

// By hand: tickets reach no log.
impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What stands in a ticket: a grant, and until when it may be shown. The names are short, since it stands in URLs. Times are microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(rename = "t")]
    shown_until: u64,
    #[serde(rename = "u")]
    user: String,
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    service: bool,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<(String, Vec<String>)>>,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    issued_at: Option<u64>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    meta: Option<Box<RawValue>>,
}

impl Claims {
    /// Of a grant: the one place where it is written down for a ticket.
    fn of(grant: &Grant, shown_until: Duration) -> Option<Claims> {
        // What the namespaces allow is the core's own, that takes it; and whoever makes one speaks for itself.
        let Grant { user, service, rules, issued_at, expires_at, token_id, meta, subject: _, defaults: _ } =
            grant;
        let rule = |rule: &Rule| {
            (rule.pattern.to_string(), rule.allow.names().map(str::to_owned).collect::<Vec<_>>())
        };
        Some(Claims {
            shown_until: micros(shown_until),
            user: user.as_str().to_owned(),
            service: *service,
            rules: rules.as_ref().map(|rules| rules.iter().map(rule).collect()),
            issued_at: issued_at.map(micros),
            expires_at: expires_at.map(micros),
            token_id: token_id.as_deref().map(str::to_owned),
            meta: meta.as_deref().map(|meta| RawValue::from_string(meta.to_owned())).transpose().ok()?,
        })
    }

    /// The grant again.
    fn grant(self) -> Option<Grant> {
        let rule = |(pattern, allow): (String, Vec<String>)| Rule {
            pattern: pattern.into(),
            allow: Acts::named(allow.iter().map(String::as_str)),
        };
        let user = UserName::new(&self.user).ok()?;
        Some(Grant {
            subject: user.clone(),
            user,
            defaults: Defaults::default(),
            issued_at: self.issued_at.map(Duration::from_micros),
            service: self.service,
            rules: self.rules.map(|rules| rules.into_iter().map(rule).collect()),
            expires_at: self.expires_at.map(Duration::from_micros),
            token_id: self.token_id.map(Into::into),
            meta: self.meta.map(|meta| meta.get().into()),
        })
    }
}

impl Tickets {
    /// By the key of an engine.
    pub fn new(key: &[u8; 32]) -> Tickets {
        Tickets(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Whether a token is meant to be a ticket.
    pub fn is_one(token: &str) -> bool {
        token.starts_with(PREFIX)
    }

    /// A ticket for what is granted, at `now` since 1970. None where it would be longer than a token may be.
    pub fn make(&self, grant: &Grant, now: Duration) -> Result<Ticket, BadToken> {
        let end = grant.expires_at.map_or(now + LIFETIME, |end| end.min(now + LIFETIME));
        if end <= now {
            return Err(BadToken::Expired);
        }
        let claims = Claims::of(grant, end).and_then(|claims| serde_json::to_vec(&claims).ok());
        let mut text = format!("{PREFIX}{}", BASE64.encode(claims.ok_or(BadToken::Unreadable)?));
        let signature = hmac::sign(&self.0, text.as_bytes());
        text.push('.');
        text.push_str(&BASE64.encode(signature));
        if text.len() > TOKEN_MAX {
            Err(BadToken::TooLong)
        } else {
            Ok(Ticket { text: text.into(), expires_at: end })
        }
    }

    /// What a ticket grants, at `now` since 1970.
    pub fn verify(&self, ticket: &str, now: Duration) -> Result<Grant, BadToken> {
        if ticket.len() > TOKEN_MAX {
            return Err(BadToken::TooLong);
        }
        let (signed, signature) = ticket.rsplit_once('.').ok_or(BadToken::Unreadable)?;
        let signature = BASE64.decode(signature).map_err(|_| BadToken::Unreadable)?;
        hmac::verify(&self.0, signed.as_bytes(), &signature).map_err(|_| BadToken::Signature)?;
        let claims = signed.strip_prefix(PREFIX).and_then(|claims| BASE64.decode(claims).ok());
        // A newer core's may hold what this one does not know.
        let claims = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
        let claims = claims.ok_or(BadToken::Unreadable)?;
        if Duration::from_micros(claims.shown_until) <= now {
            return Err(BadToken::Expired);
        }
        let grant = claims.grant().ok_or(BadToken::Unreadable)?;
        if grant.is_over(now) { Err(BadToken::Expired) } else { Ok(grant) }
    }
}

fn micros(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::Key;
    use crate::auth::token::Verifier;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const KEY: [u8; 32] = [7; 32];

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ann() -> Grant {
        let rule = Rule { pattern: "chat:*".into(), allow: Acts::named(["join", "publish"]) };
        Grant {
            issued_at: Some(NOW - s(60)),
            service: true,
            rules: Some(vec![rule]),
            expires_at: Some(NOW + s(3600) + Duration::from_micros(1)),
            token_id: Some("t1".into()),
            meta: Some(r#"{"name":"Änn \" x","n":1.50}"#.into()),
            ..Grant::dev(UserName::new("ann").unwrap())
        }
    }

    #[test]
    fn a_ticket_is_the_tokens_grant_for_half_a_minute() {
        let tickets = Tickets::new(&KEY);
        for grant in [ann(), Grant::dev(UserName::new("bob").unwrap())] {
            let ticket = tickets.make(&grant, NOW).unwrap();
            assert_eq!(ticket.expires_at, NOW + s(30));
            assert!(Tickets::is_one(&ticket.text));
            assert!(ticket.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
            assert_eq!(tickets.verify(&ticket.text, NOW).as_ref(), Ok(&grant), "to the letter");
            assert_eq!(tickets.verify(&ticket.text, NOW + s(29)).as_ref(), Ok(&grant));
            assert_eq!(tickets.verify(&ticket.text, NOW + s(30)), Err(BadToken::Expired));
            assert!(!format!("{ticket:?}").contains("ticket."));
        }
    }

    #[test]
    fn it_does_not_outlive_its_token() {
        let tickets = Tickets::new(&KEY);
        let short = Grant { expires_at: Some(NOW + s(10)), ..ann() };
        let ticket = tickets.make(&short, NOW).unwrap();
        assert_eq!(ticket.expires_at, NOW + s(10));
        assert_eq!(tickets.verify(&ticket.text, NOW + s(10)), Err(BadToken::Expired));
        let over = Grant { expires_at: Some(NOW), ..ann() };
        assert_eq!(tickets.make(&over, NOW), Err(BadToken::Expired), "by the leeway it is a token still");
    }

    #[test]
    fn others_tickets_are_none() {
        let tickets = Tickets::new(&KEY);
        let ticket = tickets.make(&ann(), NOW).unwrap().text;
        assert_eq!(Tickets::new(&[8; 32]).verify(&ticket, NOW), Err(BadToken::Signature));
        let mut changed = ticket.clone().into_string();
        let last = changed.find('.').unwrap() + 5;
        changed.replace_range(last..=last, if &changed[last..=last] == "A" { "B" } else { "A" });
        assert_eq!(tickets.verify(&changed, NOW), Err(BadToken::Signature));
        for none in [
            "",
            "ticket.",
            "ticket..",
            "ticket.e30",
            "ticket.e30.",
            "ticket.e30.AAAA",
            &"ticket.".repeat(2000),
        ] {
            assert!(tickets.verify(none, NOW).is_err(), "{none}");
        }
        // The same key and the same bytes as a JWT's are something else.
        let claims = r#"{"sub":"ann","exp":9999999999}"#;
        let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256"}"#), BASE64.encode(claims));
        let jwt = format!("{signed}.{}", BASE64.encode(hmac::sign(&tickets.0, signed.as_bytes())));
        assert_eq!(tickets.verify(&jwt, NOW), Err(BadToken::Unreadable));
        let verifier = Verifier::new(vec![Key::secret(&KEY).unwrap()], None, None);
        assert!(verifier.verify(&jwt, NOW).is_ok());
        assert_eq!(verifier.verify(&ticket, NOW), Err(BadToken::Unreadable));
    }

    #[test]
    fn it_is_as_long_as_a_token_at_most() {
        let tickets = Tickets::new(&KEY);
        let meta = format!(r#"{{"pad":"{}"}}"#, "x".repeat(TOKEN_MAX));
        let large = Grant { meta: Some(meta.into()), ..ann() };
        assert_eq!(tickets.make(&large, NOW), Err(BadToken::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_a_ticket_or_an_error(text in "\\PC{0,100}|ticket[.][A-Za-z0-9_-]{0,80}[.][A-Za-z0-9_-]{0,80}") {
            prop_assert!(Tickets::new(&KEY).verify(&text, NOW).is_err());
        }
    }
}
