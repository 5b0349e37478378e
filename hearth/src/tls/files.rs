//! Certificates, keys and authorities in PEM files. What is wrong with one is said with its flag and its name.
use super::provider;
use rustls::{
    Error, InconsistentKeys, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{fs, sync::Arc};

/// Which file, and what says so.
#[derive(Debug, Clone)]
struct File {
    flag: &'static str,
    path: String,
}

/// A certificate with what leads to its authority, and its key.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    chain: File,
    key: File,
}

/// Certificates of authorities.
#[derive(Debug, Clone)]
pub(super) struct Authorities(File);

impl File {
    fn wrong(&self, reason: impl std::fmt::Display) -> String {
        format!("{} {}: {reason}", self.flag, self.path)
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        fs::read(&self.path).map_err(|error| self.wrong(error))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let pem = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|error| self.wrong(error))?;
        if certificates.is_empty() {
            return Err(self.wrong("there is no certificate in PEM in it"));
        }
        Ok(certificates)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let pem = self.read()?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            let is_encrypted = String::from_utf8_lossy(&pem).contains("ENCRYPTED");
            self.wrong(if is_encrypted {
                "the key in it is encrypted, and nobody is here to type a passphrase"
            } else {
                "there is no private key in PEM in it"
            })
        })
    }
}

impl Identity {
    /// By its two settings, each of which is nothing without the other.
    pub(super) fn new(
        (chain, chain_path): (&'static str, Option<&str>),
        (key, key_path): (&'static str, Option<&str>),
    ) -> Result<Option<Identity>, String> {
        let file = |flag, path: &str| File { flag, path: path.to_owned() };
        match (chain_path, key_path) {
            (None, None) => Ok(None),
            (Some(a), Some(b)) => Ok(Some(Identity { chain: file(chain, a), key: file(key, b) })),
            (Some(path), None) => Err(format!("{chain} {path}: it is of no use without its key, {key}")),
            (None, Some(path)) => {
                Err(format!("{key} {path}: it is of no use without its certificate, {chain}"))
            }
        }
    }

    /// Reads both.
    pub(super) fn read(&self) -> Result<Arc<SingleCertAndKey>, String> {
        let chain = self.chain.certificates()?;
        let key = provider().key_provider.load_private_key(self.key.key()?);
        let key = key.map_err(|_| {
            self.key
                .wrong("it is no key that TLS can use: RSA of 2048 bits or more, EC P-256 or P-384, Ed25519")
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(self.key.wrong(format!("it is not the key of {}", self.chain.path)));
            }
            Err(error) => return Err(self.chain.wrong(error)),
        }
        Ok(Arc::new(SingleCertAndKey::from(certified)))
    }
}

impl Authorities {
    /// By the one setting.
    pub(super) fn new(path: &str) -> Authorities {
        Authorities(File { flag: "--link-ca", path: path.to_owned() })
    }

    /// Reads them.
    pub(super) fn read(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in self.0.certificates()? {
            roots.add(certificate).map_err(|error| self.0.wrong(error))?;
        }
        Ok(roots)
    }
}
