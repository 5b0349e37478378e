//! Tokens of every kind and with every fault, signed for real. The keys beside this file are for these tests alone.
use super::*;
use crate::auth::grant::Act;
use crate::auth::keys::BadKey;
use crate::room::id::RoomName;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: Duration = Duration::from_secs(1_800_000_000);
const SECRET: &[u8] = b"a secret that is shared with whoever makes tokens";

const RSA: &[u8] = include_bytes!("tests/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("tests/rsa.pub.pem");
const EC: &[u8] = include_bytes!("tests/ec.pem");
const EC_PUBLIC: &[u8] = include_bytes!("tests/ec.pub.pem");
const ED: &[u8] = include_bytes!("tests/ed.pem");
const ED_PUBLIC: &[u8] = include_bytes!("tests/ed.pub.pem");

fn claims() -> Value {
    json!({"sub": "ann", "exp": NOW.as_secs() + 60})
}

/// With one claim another, or without it where the value is `null`.
fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn signed_as(algorithm: Algorithm, kid: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    crypto::install();
    let header = Header { kid: kid.map(Into::into), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn signed(claims: &Value) -> String {
    signed_as(Algorithm::HS256, None, claims, &EncodingKey::from_secret(SECRET))
}

fn by(keys: Vec<Key>) -> Verifier {
    Verifier::new(keys, None, None)
}

fn by_secret() -> Verifier {
    by(vec![Key::secret(SECRET).unwrap()])
}

fn fault(verifier: &Verifier, token: &str) -> BadToken {
    verifier.verify(token, NOW).unwrap_err()
}

#[test]
fn every_algorithm_by_its_key_alone() {
    let all = [
        (Algorithm::RS256, EncodingKey::from_rsa_pem(RSA).unwrap(), RSA_PUBLIC),
        (Algorithm::PS256, EncodingKey::from_rsa_pem(RSA).unwrap(), RSA_PUBLIC),
        (Algorithm::ES256, EncodingKey::from_ec_pem(EC).unwrap(), EC_PUBLIC),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(ED).unwrap(), ED_PUBLIC),
    ];
    for (algorithm, private, public) in &all {
        let token = signed_as(*algorithm, None, &claims(), private);
        let verifier = by(vec![Key::pem(public).unwrap()]);
        assert_eq!(verifier.verify(&token, NOW).unwrap().user.as_str(), "ann", "{algorithm:?}");
        assert_eq!(fault(&by_secret(), &token), BadToken::UnknownKey, "{algorithm:?} is not a secret's");
        // Passed off as a secret, a public key must not verify what is signed with its text.
        let confused = signed_as(Algorithm::HS256, None, &claims(), &EncodingKey::from_secret(public));
        assert_eq!(fault(&verifier, &confused), BadToken::UnknownKey, "{algorithm:?}");
        for (_, _, other) in all.iter().filter(|(_, _, other)| other != public) {
            assert_eq!(fault(&by(vec![Key::pem(other).unwrap()]), &token), BadToken::UnknownKey);
        }
        let (head, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = BASE64.decode(signature).unwrap();
        bytes[7] ^= 1;
        let forged = format!("{head}.{}", BASE64.encode(bytes));
        assert_eq!(fault(&verifier, &forged), BadToken::Signature, "{algorithm:?}");
    }
    assert_eq!(by_secret().verify(&signed(&claims()), NOW).unwrap().user.as_str(), "ann");
}

#[test]
fn a_token_without_a_signature_is_none() {
    let part = |value: &Value| BASE64.encode(value.to_string());
    for alg in ["none", "None", "NONE", "HS512", "RS384", "ES512", "HS256 "] {
        let token = format!("{}.{}.", part(&json!({"alg": alg, "typ": "JWT"})), part(&claims()));
        let fault = fault(&by_secret(), &token);
        assert!(matches!(fault, BadToken::Unreadable | BadToken::UnknownKey), "{alg}: {fault:?}");
    }
    let token = signed(&claims());
    let (head, _) = token.rsplit_once('.').unwrap();
    assert_eq!(fault(&by_secret(), &format!("{head}.")), BadToken::Signature);
    let other = signed_as(Algorithm::HS256, None, &claims(), &EncodingKey::from_secret(b"another"));
    assert_eq!(fault(&by_secret(), &other), BadToken::Signature);
}

#[test]
fn texts_that_are_no_tokens() {
    let verifier = by_secret();
    assert_eq!(fault(&verifier, ""), BadToken::Missing);
    assert_eq!(fault(&verifier, &"x".repeat(TOKEN_MAX + 1)), BadToken::TooLong);
    for text in ["x", "..", "a.b.c", "e30.e30.e30", "\u{0}", &"x".repeat(TOKEN_MAX)] {
        assert_eq!(fault(&verifier, text), BadToken::Unreadable, "{text}");
    }
}

#[test]
fn time_is_held_with_five_seconds_of_leeway() {
    let verifier = by_secret();
    let end = |seconds: f64| verifier.verify(&signed(&but("exp", json!(NOW.as_secs_f64() + seconds))), NOW);
    assert_eq!(end(-6.0), Err(BadToken::Expired));
    assert_eq!(end(-5.0), Err(BadToken::Expired));
    assert!(end(-4.5).is_ok());
    assert_eq!(end(0.5).unwrap().expires_at, Some(NOW + Duration::from_millis(500)));
    assert!(end(1e300).is_ok());
    let begin = |seconds: f64| verifier.verify(&signed(&but("nbf", json!(NOW.as_secs_f64() + seconds))), NOW);
    assert_eq!(begin(6.0), Err(BadToken::NotYet));
    assert!(begin(4.0).is_ok() && begin(-100.0).is_ok());
    assert_eq!(fault(&verifier, &signed(&but("exp", json!(-1)))), BadToken::Expired);
    assert!(matches!(fault(&verifier, &signed(&but("exp", Value::Null))), BadToken::Claims(_)));
    for no_time in [json!("1800000060"), json!(true), json!([1]), json!({})] {
        let fault = fault(&verifier, &signed(&but("exp", no_time.clone())));
        assert!(matches!(fault, BadToken::Claims(_)), "{no_time}: {fault:?}");
    }
}

#[test]
fn claims_that_are_none() {
    let verifier = by_secret();
    let mut nothing = claims();
    nothing["hearth"] = Value::Null;
    assert!(matches!(fault(&verifier, &signed(&nothing)), BadToken::Claims(_)), "null is no limit at all");
    let hearth = |value| but("hearth", value);
    for wrong in [
        but("sub", Value::Null),
        but("sub", json!("")),
        but("sub", json!("a\nb")),
        but("sub", json!("x".repeat(129))),
        but("sub", json!(7)),
        hearth(json!("x")),
        hearth(json!({"rooms": "chat:*"})),
        hearth(json!({"rooms": [{"match": "chat:*"}]})),
        hearth(json!({"rooms": [{"match": 1, "allow": []}]})),
        hearth(json!({"service": "yes"})),
        hearth(json!({"meta": [1]})),
        hearth(json!({"rooms": null})),
    ] {
        let fault = fault(&verifier, &signed(&wrong));
        assert!(matches!(fault, BadToken::Claims(_)), "{wrong}: {fault:?}");
    }
}

#[test]
fn audience_and_issuer_where_they_are_asked_for() {
    let key = || vec![Key::secret(SECRET).unwrap()];
    let strict = Verifier::new(key(), Some("hearth".into()), Some("us".into()));
    let with = |aud: Value, iss: Value| {
        let mut claims = but("aud", aud);
        claims["iss"] = iss;
        strict.verify(&signed(&claims), NOW).map(drop)
    };
    assert_eq!(with(json!("hearth"), json!("us")), Ok(()));
    assert_eq!(with(json!(["x", "hearth"]), json!("us")), Ok(()));
    assert_eq!(with(json!("other"), json!("us")), Err(BadToken::Elsewhere));
    assert_eq!(with(json!([]), json!("us")), Err(BadToken::Elsewhere));
    assert_eq!(with(json!("hearth"), json!("them")), Err(BadToken::Elsewhere));
    assert_eq!(fault(&strict, &signed(&claims())), BadToken::Elsewhere);
    assert!(by_secret().verify(&signed(&but("aud", json!("anybody"))), NOW).is_ok());
}

#[test]
fn a_grant_is_what_the_claims_say() {
    let claims = json!({
        "sub": "bot", "exp": NOW.as_secs() + 60, "jti": "t1", "iat": 7,
        "hearth": {
            "rooms": [{"match": "chat:*", "allow": ["join", "publish"]}],
            "service": true,
            "meta": {"name": "Bot"},
            "later": 1,
        },
    });
    let grant = by_secret().verify(&signed(&claims), NOW).unwrap();
    assert_eq!((grant.user.as_str(), grant.service, grant.token_id.as_deref()), ("bot", true, Some("t1")));
    assert_eq!(grant.meta.as_deref(), Some(r#"{"name":"Bot"}"#));
    let room = RoomName::new("chat:1").unwrap();
    assert!(grant.may(Act::Publish, &room) && !grant.may(Act::History, &room));
    assert_eq!(by_secret().verify(&signed(&self::claims()), NOW).unwrap().rules, None);
}

/// A set as it stands at a URL: with names, with keys for other things, and in the middle of a rotation.
#[test]
fn a_set_of_keys() {
    let point = |pem: &[u8]| jsonwebtoken::DecodingKey::from_ec_pem(pem).unwrap();
    let ec = point(EC_PUBLIC);
    let xy = ec.try_get_as_bytes().unwrap();
    let (x, y) = (BASE64.encode(&xy[1..33]), BASE64.encode(&xy[33..]));
    let ed = jsonwebtoken::DecodingKey::from_ed_pem(ED_PUBLIC).unwrap();
    let ed = BASE64.encode(ed.try_get_as_bytes().unwrap());
    let set = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "now", "use": "sig", "x": x, "y": y},
        {"kty": "OKP", "crv": "Ed25519", "kid": "next", "alg": "EdDSA", "x": ed},
        {"kty": "EC", "crv": "P-256", "kid": "enc", "use": "enc", "x": x, "y": y},
        {"kty": "oct", "kid": "secret", "k": BASE64.encode(SECRET)},
        {"kty": "martian", "kid": "other"},
    ]});
    let keys = Key::set(set.to_string().as_bytes()).unwrap();
    assert_eq!(keys.iter().map(|key| key.id.as_deref()).collect::<Vec<_>>(), [Some("now"), Some("next")]);
    let verifier = by(keys);
    let ec = EncodingKey::from_ec_pem(EC).unwrap();
    let token = |kid| signed_as(Algorithm::ES256, kid, &claims(), &ec);
    assert!(verifier.verify(&token(Some("now")), NOW).is_ok());
    assert!(verifier.verify(&token(None), NOW).is_ok(), "without a name all that fit are tried");
    assert_eq!(fault(&verifier, &token(Some("next"))), BadToken::UnknownKey, "another algorithm's");
    assert_eq!(fault(&verifier, &token(Some("gone"))), BadToken::UnknownKey);
    assert_eq!(fault(&verifier, &signed(&claims())), BadToken::UnknownKey, "the secret in it is none");
    assert!(matches!(Key::set(b"[]"), Err(BadKey::Set(_))));
    assert!(matches!(Key::set(b"<html>"), Err(BadKey::Set(_))));
}

#[test]
fn keys_that_are_none() {
    assert_eq!(Key::secret(b"").unwrap_err(), BadKey::Empty);
    for pem in [b"".as_slice(), b"x", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert_eq!(Key::pem(pem).unwrap_err(), BadKey::Pem);
    }
    assert_eq!(Key::pem(include_bytes!("tests/p384.pub.pem")).unwrap_err(), BadKey::Pem, "not our curve");
    for private in [EC, ED, RSA] {
        assert_eq!(Key::pem(private).unwrap_err(), BadKey::Private);
    }
    let shown = format!("{:?}", by_secret());
    assert!(!shown.contains("shared"), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_a_token_or_an_error(text in "\\PC{0,200}|[A-Za-z0-9_-]{0,80}[.][A-Za-z0-9_-]{0,80}[.][A-Za-z0-9_-]{0,80}") {
        prop_assert!(by_secret().verify(&text, NOW).is_err());
    }

    /// Whatever the claims are, nothing but their own user comes of them.
    #[test]
    fn any_claims(
        sub in "[a-z]{0,3}",
        exp in any::<f64>().prop_map(|n| json!(n)),
        allow in prop::collection::vec("join|publish|x", 0..3),
    ) {
        let claims = json!({"sub": sub, "exp": exp, "hearth": {"rooms": [{"match": "*", "allow": allow}]}});
        if let Ok(grant) = by_secret().verify(&signed(&claims), NOW) {
            prop_assert_eq!(grant.user.as_str(), sub);
            prop_assert!(!grant.service && grant.expires_at.is_some_and(|end| end + LEEWAY > NOW));
        }
    }
}
