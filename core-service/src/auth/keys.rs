//! What tokens are verified with. The algorithm is fixed by the key and never by the token: so a public key cannot be passed off as a secret.
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use thiserror::Error;

/// What stands in the first line of a private key, of whatever kind.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";
/// The most keys of one set: more are nobody's rotation.
const KEYS_MAX: usize = 100;

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadKey {
    /// No secret at all.
    #[error("the secret is empty")]
    Empty,
    /// A key that signs, which nobody but its owner should have.
    #[error("this is a private key: give the public one")]
    Private,
    /// No PEM of a public key, or of a kind that is not spoken here.
    #[error(
        "not a public key in PEM: RSA, EC (P-256) and Ed25519 are known, in SPKI form (`BEGIN PUBLIC KEY`)"
    )]
    Pem,
    /// No PEM of a private key, or of a kind that is not spoken here.
    #[error(
        "not a private key in PEM: RSA, EC (P-256) and Ed25519 are known, in PKCS#8 form (`BEGIN PRIVATE KEY`)"
    )]
    PrivatePem,
    /// No JWKS.
    #[error("not a JWKS: {0}")]
    Set(String),
    /// A JWKS without a single key that can verify tokens here.
    #[error("there is no key in it for RS256, PS256, ES256 or EdDSA")]
    NoneInSet,
}

/// One key.
#[derive(Clone)]
pub struct Key {
    /// Its name; one without a name is tried for every token.
    pub(super) id: Option<Box<str>>,
    /// What may be signed with it.
    pub(super) algorithms: &'static [Algorithm],
    pub(super) key: DecodingKey,
}

// By hand: keys reach no log.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::PS256];
const RS256: &[Algorithm] = &[Algorithm::RS256];
const PS256: &[Algorithm] = &[Algorithm::PS256];
const EC: &[Algorithm] = &[Algorithm::ES256];
const ED: &[Algorithm] = &[Algorithm::EdDSA];
const SECRET: &[Algorithm] = &[Algorithm::HS256];

/// A key that tokens are signed with.
pub struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

impl SigningKey {
    /// The secret that the other side knows too.
    pub fn secret(secret: &[u8]) -> Result<SigningKey, BadKey> {
        if secret.is_empty() {
            return Err(BadKey::Empty);
        }
        Ok(SigningKey { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) })
    }

    /// A private key in PEM, PKCS#8.
    pub fn pem(pem: &[u8]) -> Result<SigningKey, BadKey> {
        let key = |algorithm, key| SigningKey { algorithm, key };
        EncodingKey::from_rsa_pem(pem)
            .map(|rsa| key(Algorithm::RS256, rsa))
            .or_else(|_| EncodingKey::from_ec_pem(pem).map(|ec| key(Algorithm::ES256, ec)))
            .or_else(|_| EncodingKey::from_ed_pem(pem).map(|ed| key(Algorithm::EdDSA, ed)))
            .map_err(|_| BadKey::PrivatePem)
    }
}

impl Key {
    /// A secret that is shared with whoever makes tokens.
    pub fn secret(secret: &[u8]) -> Result<Key, BadKey> {
        if secret.is_empty() {
            return Err(BadKey::Empty);
        }
        Ok(Key { id: None, algorithms: SECRET, key: DecodingKey::from_secret(secret) })
    }

    /// A public key in PEM.
    pub fn pem(pem: &[u8]) -> Result<Key, BadKey> {
        /// An uncompressed point of P-256.
        const P256: usize = 65;
        if pem.windows(PRIVATE.len()).any(|part| part == PRIVATE) {
            return Err(BadKey::Private);
        }
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Ok(Key { id: None, algorithms: RSA, key });
        }
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let fits = key.try_get_as_bytes().is_ok_and(|point| point.len() == P256);
            return if fits { Ok(Key { id: None, algorithms: EC, key }) } else { Err(BadKey::Pem) };
        }
        let key = DecodingKey::from_ed_pem(pem).map_err(|_| BadKey::Pem)?;
        Ok(Key { id: None, algorithms: ED, key })
    }

    /// The keys of a JWKS that can verify tokens. Those for other things, of other kinds, and secrets, which have no business in a public place, are
    /// passed over.
    pub fn set(json: &[u8]) -> Result<Vec<Key>, BadKey> {
        let set: JwkSet = serde_json::from_slice(json).map_err(|error| BadKey::Set(error.to_string()))?;
        Ok(set.keys.iter().take(KEYS_MAX).filter_map(Key::jwk).collect())
    }

    fn jwk(jwk: &Jwk) -> Option<Key> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithms = match (&jwk.algorithm, jwk.common.key_algorithm) {
            (AlgorithmParameters::RSA(_), None) => RSA,
            (AlgorithmParameters::RSA(_), Some(KeyAlgorithm::RS256)) => RS256,
            (AlgorithmParameters::RSA(_), Some(KeyAlgorithm::PS256)) => PS256,
            (AlgorithmParameters::EllipticCurve(ec), None | Some(KeyAlgorithm::ES256))
                if ec.curve == EllipticCurve::P256 =>
            {
                EC
            }
            (AlgorithmParameters::OctetKeyPair(pair), None | Some(KeyAlgorithm::EdDSA))
                if pair.curve == EllipticCurve::Ed25519 =>
            {
                ED
            }
            _ => return None,
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Key { id: jwk.common.key_id.as_deref().map(Into::into), algorithms, key })
    }
}
