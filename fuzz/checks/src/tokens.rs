//! Tokens: nothing is granted that nobody signed, and what is granted is what the claims say.
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hearth_core::auth::{
    keys::Key,
    token::{BadToken, TOKEN_MAX, Verifier},
};
use ring::hmac;
use serde_json::Value;
use std::{sync::LazyLock, time::Duration};

/// The clock stands still, so that a seed stays what it is.
const NOW: Duration = Duration::from_secs(1_800_000_000);
/// For these checks alone, as the keys of the core's own tests are.
const SECRET: &[u8] = b"a secret that is shared with whoever makes tokens";

macro_rules! keys {
    ($($name:literal),*) => {
        [$(include_bytes!(concat!("../../../core-service/src/auth/token/tests/", $name)).as_slice()),*]
    };
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let public = keys!("rsa.pub.pem", "ec.pub.pem", "ed.pub.pem").map(Key::pem);
    let keys = public.into_iter().chain([Key::secret(SECRET)]).filter_map(Result::ok).collect();
    Verifier::new(keys, None, None)
});

/// Every token that was ever signed with a key that the fuzzer does not have: the corpus' own. One per algorithm.
static SIGNED: LazyLock<Vec<&str>> = LazyLock::new(|| {
    [
        include_str!("../../corpus/token/rs256"),
        include_str!("../../corpus/token/ps256"),
        include_str!("../../corpus/token/es256"),
        include_str!("../../corpus/token/eddsa"),
        include_str!("../../corpus/token/hs256"),
    ]
    .to_vec()
});

/// A token as it is brought. A text that begins with `{` is a header and claims, a line break between them, which are signed first.
pub fn token(data: &[u8]) {
    if data.starts_with(b"{") {
        return signed(data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match VERIFIER.verify(text, NOW) {
        Ok(grant) => {
            let input = |token: &'static str| token.rsplit_once('.').map(|(input, _)| input);
            let brought = text.rsplit_once('.').map(|(input, _)| input);
            assert!(SIGNED.iter().any(|seed| input(seed) == brought), "nobody signed this");
            assert_eq!(grant.user.as_str(), "ann");
            assert!(!grant.service);
        }
        Err(BadToken::TooLong) => assert!(text.len() > TOKEN_MAX),
        Err(BadToken::Missing) => assert!(text.is_empty()),
        Err(_) => {}
    }
}

/// Whatever the claims are: nothing but what they say.
fn signed(data: &[u8]) {
    let (head, claims) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (br#"{"alg":"HS256"}"#.as_slice(), data),
    };
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", part(head), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let token = format!("{input}.{}", part(hmac::sign(&key, input.as_bytes()).as_ref()));
    let Ok(grant) = VERIFIER.verify(&token, NOW) else { return };
    // With the secret only its own algorithm is spoken, whatever the header says of it.
    let header: Value = serde_json::from_slice(head).unwrap_or_default();
    assert_eq!(header["alg"], "HS256");
    let Ok(claims) = serde_json::from_slice::<Value>(claims) else { return };
    assert_eq!(claims["sub"], grant.user.as_str());
    let end = claims["exp"].as_f64().unwrap_or_default();
    assert!(end > NOW.as_secs_f64() - 5.0 && grant.expires_at.is_some(), "over at {end}");
    assert!(claims["nbf"].as_f64().unwrap_or_default() <= NOW.as_secs_f64() + 5.0);
    assert_eq!(grant.service, claims["hearth"]["service"] == true);
    assert_eq!(grant.rules.is_some(), claims["hearth"]["rooms"].is_array(), "no rules means all rooms");
}
