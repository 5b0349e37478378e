//! Tokens as another system makes them: JWTs by RFC 7515 to the letter, with any claim and any fault.
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the servers of these tests verify with.
pub const SECRET: &str = "a-secret-that-only-these-tests-know";

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock behind 1970").as_secs_f64()
}

/// A user's token, good for an hour.
pub fn of(user: &str) -> String {
    signed(&json!({"sub": user, "exp": now() + 3600.0}))
}

/// A user's token with these `hearth` claims.
pub fn with(user: &str, hearth: &Value) -> String {
    signed(&json!({"sub": user, "exp": now() + 3600.0, "hearth": hearth}))
}

/// A token of any claims.
pub fn signed(claims: &Value) -> String {
    signed_with(SECRET, &json!({"alg": "HS256", "typ": "JWT"}), claims)
}

/// The same with any header, by any secret.
pub fn signed_with(secret: &str, header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", BASE64.encode(hmac::sign(&key, signed.as_bytes())))
}
