//! Signatures for `jsonwebtoken`, by ring: the one crypto library of the house, which TLS will use too. Nothing here is an algorithm, only which of ring's
//! belongs to which name; whatever is not named is refused.
use ::signature::{Signer, Verifier};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, RsaEncoding, RsaKeyPair, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{error::Unspecified, hmac};

type Broken = ::signature::Error;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory,
    verifier_factory,
    // Only for making JWKs out of keys, which nobody here does.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Nobody is told why.
fn broken(_: Unspecified) -> Broken {
    Broken::new()
}

/// Has `jsonwebtoken` use ring. To be called before its first use; more often does no harm.
pub(super) fn install() {
    // Refused where it has been done.
    let _ = PROVIDER.install_default();
}

fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(Verifying { algorithm: *algorithm, key: key.clone() }))
}

struct Verifying {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Verifying {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Verifying {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Broken> {
        let key = self.key.kind();
        let verified = match (self.algorithm, key) {
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), message, signature)
            }
            (Algorithm::RS256, key) => rsa(&signature::RSA_PKCS1_2048_8192_SHA256, key, message, signature),
            (Algorithm::PS256, key) => rsa(&signature::RSA_PSS_2048_8192_SHA256, key, message, signature),
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                plain(&signature::ECDSA_P256_SHA256_FIXED, point, message, signature)
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
                plain(&signature::ED25519, point, message, signature)
            }
            _ => Err(Unspecified),
        };
        verified.map_err(broken)
    }
}

fn rsa(
    parameters: &'static RsaParameters,
    key: &DecodingKeyKind,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Unspecified> {
    match key {
        DecodingKeyKind::SecretOrDer(der) => plain(parameters, der, message, signature),
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
        }
    }
}

fn plain(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Unspecified> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature)
}

fn signer_factory(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let bytes = key.as_bytes();
    let key = match algorithm {
        Algorithm::HS256 => SigningKey::Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        Algorithm::RS256 => SigningKey::Rsa(rsa_pair(bytes)?, &signature::RSA_PKCS1_SHA256),
        Algorithm::PS256 => SigningKey::Rsa(rsa_pair(bytes)?, &signature::RSA_PSS_SHA256),
        Algorithm::ES256 => {
            let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = EcdsaKeyPair::from_pkcs8(curve, bytes, &SystemRandom::new());
            SigningKey::Ec(pair.map_err(|_| ErrorKind::InvalidEcdsaKey)?)
        }
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes);
            SigningKey::Ed(pair.map_err(|_| ErrorKind::InvalidEddsaKey)?)
        }
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Box::new(Signing { algorithm: *algorithm, key }))
}

fn rsa_pair(der: &[u8]) -> Result<Box<RsaKeyPair>, Error> {
    let pair = RsaKeyPair::from_der(der).or_else(|_| RsaKeyPair::from_pkcs8(der));
    Ok(Box::new(pair.map_err(|rejected| ErrorKind::InvalidRsaKey(rejected.to_string()))?))
}

struct Signing {
    algorithm: Algorithm,
    key: SigningKey,
}

enum SigningKey {
    Secret(hmac::Key),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl JwtSigner for Signing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Signer<Vec<u8>> for Signing {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        let random = SystemRandom::new();
        Ok(match &self.key {
            SigningKey::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
            SigningKey::Rsa(pair, padding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*padding, &random, message, &mut signature).map_err(broken)?;
                signature
            }
            SigningKey::Ec(pair) => pair.sign(&random, message).map_err(broken)?.as_ref().to_vec(),
            SigningKey::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }
}
