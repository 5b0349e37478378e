//! Tokens from settings: the keys that a core verifies with, and `hearth token`, which makes one.
use crate::settings::{self, CoreSettings, TokenArgs};
use hearth_core::auth::{
    Auth,
    key_sets::KeySets,
    keys::{Key, SigningKey},
    token::{self, Verifier},
};
use hearth_core::jwks::{BadSource, Source};
use serde_json::{Map, Value, json};
use std::fs;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How a core lets callers in, by its settings, and where its keys are fetched from. In dev mode where no key is given. Nothing is fetched yet.
pub fn auth(core: &CoreSettings) -> Result<(Auth, Vec<Source>), String> {
    let sources = key_sources(core)?;
    let mut keys = Vec::new();
    if let Some(secret) = &core.jwt_hs256_secret {
        keys.push(Key::secret(secret.as_bytes()).map_err(|error| format!("--jwt-hs256-secret: {error}"))?);
    }
    for file in &core.jwt_public_key {
        let pem = fs::read(file).map_err(|error| format!("--jwt-public-key {file}: {error}"))?;
        keys.push(Key::pem(&pem).map_err(|error| format!("--jwt-public-key {file}: {error}"))?);
    }
    if keys.is_empty() && sources.is_empty() {
        if core.jwt_audience.is_some() || core.jwt_issuer.is_some() {
            return Err("--jwt-audience and --jwt-issuer say nothing without a key: give --jwt-hs256-secret, --jwt-public-key or --jwks-url".into());
        }
        return Ok((Auth::Dev, sources));
    }
    let text = |text: &Option<String>| text.as_deref().map(Into::into);
    let verifier = Verifier::new(keys, text(&core.jwt_audience), text(&core.jwt_issuer));
    let sets = KeySets::new(sources.len(), Instant::now());
    Ok((Auth::Tokens(verifier.with_sets(Arc::new(sets))), sources))
}

fn key_sources(core: &CoreSettings) -> Result<Vec<Source>, String> {
    let read = |file: &String| fs::read(file).map_err(|error| format!("--jwks-ca {file}: {error}"));
    let authorities = core.jwks_ca.as_ref().map(read).transpose()?;
    if authorities.is_some() && !core.jwks_url.iter().any(|url| url.starts_with("https:")) {
        return Err("--jwks-ca says nothing without an https:// URL in --jwks-url".into());
    }
    let source = |url: &String| {
        // The URL itself may hold what nobody should read in a log.
        Source::new(url, authorities.as_deref()).map_err(|error| match error {
            BadSource::Authority => {
                format!("--jwks-ca {}: {error}", core.jwks_ca.as_deref().unwrap_or_default())
            }
            error => format!("--jwks-url: {error}"),
        })
    };
    core.jwks_url.iter().map(source).collect()
}

/// Makes a token.
pub fn mint(args: &TokenArgs) -> Result<String, String> {
    hearth_core::room::id::UserName::new(&args.user).map_err(|error| error.to_string())?;
    let key = match (&args.jwt_hs256_secret, &args.private_key) {
        (_, Some(file)) => {
            let pem = fs::read(file).map_err(|error| format!("--private-key {file}: {error}"))?;
            SigningKey::pem(&pem).map_err(|error| format!("--private-key {file}: {error}"))?
        }
        (secret, None) => {
            let secret = secret.as_deref().unwrap_or_default();
            SigningKey::secret(secret.as_bytes()).map_err(|error| format!("--jwt-hs256-secret: {error}"))?
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut claims = Map::new();
    claims.insert("sub".into(), args.user.clone().into());
    claims.insert("iat".into(), now.as_secs().into());
    claims.insert("exp".into(), (now + args.lifetime).as_secs().into());
    if let Some(id) = &args.id {
        claims.insert("jti".into(), id.clone().into());
    }
    if let Some(audience) = &args.jwt_audience {
        claims.insert("aud".into(), audience.clone().into());
    }
    if let Some(issuer) = &args.jwt_issuer {
        claims.insert("iss".into(), issuer.clone().into());
    }
    let mut hearth = Map::new();
    if !args.allow.is_empty() {
        let rooms: Result<Vec<Value>, String> = args.allow.iter().map(|rule| rule_of(rule)).collect();
        hearth.insert("rooms".into(), rooms?.into());
    }
    if args.service {
        hearth.insert("service".into(), true.into());
    }
    if !hearth.is_empty() {
        claims.insert("hearth".into(), hearth.into());
    }
    token::sign(&claims.into(), &key).map_err(|error| format!("it cannot be signed: {error}"))
}

/// `chat:*=join,publish` as a claim.
fn rule_of(text: &str) -> Result<Value, String> {
    let bad = || format!("--allow {text}: it must look like chat:*=join,publish");
    let (pattern, acts) = text.split_once('=').ok_or_else(bad)?;
    if pattern.is_empty() {
        return Err(bad());
    }
    let acts = settings::acts(acts).map_err(|error| format!("--allow {text}: {error}"))?;
    Ok(json!({"match": pattern, "allow": acts.names().collect::<Vec<_>>()}))
}
