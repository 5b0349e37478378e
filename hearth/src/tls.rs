//! TLS by settings: what core and edge speak it with, made of files, and made anew on SIGHUP.
//!
//! Both are given a place to look each time that a connection begins. What is open goes on as it began; a file that is no good leaves all
//! as it was.
mod files;

use crate::settings::{Common, EdgeAlone};
use files::{Authorities, Identity};
use hearth_edge::link;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
    sign::SingleCertAndKey,
};
use std::sync::Arc;
use tokio::sync::watch;

/// Where all of it comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// What browsers and services are shown.
    own: Option<Identity>,
    /// Who signs the certificates of a core's edges.
    edges: Option<Authorities>,
    /// What an edge has for its cores, where one is at `https://`.
    cores: Option<ToCores>,
}

#[derive(Debug, Clone)]
struct ToCores {
    /// This machine's own where none are said.
    authorities: Option<Authorities>,
    shown: Option<Identity>,
}

/// All of it, made.
struct Made {
    http: Option<Arc<ServerConfig>>,
    grpc: Option<Arc<ServerConfig>>,
    cores: Option<Arc<ClientConfig>>,
}

/// What is in force, for those who speak TLS to look at.
#[derive(Debug, Clone)]
pub struct Tls {
    source: Source,
    http: Option<watch::Sender<Arc<ServerConfig>>>,
    grpc: Option<watch::Sender<Arc<ServerConfig>>>,
    cores: Option<watch::Sender<Arc<ClientConfig>>>,
    reloads: Family<Outcome, Counter>,
}

/// How it went to read the files anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Source {
    /// What a core speaks TLS with, and an edge in the same process.
    pub fn of_core(common: &Common) -> Result<Source, String> {
        let own = own(common)?;
        let edges = common.link_ca.as_deref().map(Authorities::new);
        if own.is_none() && edges.is_some() {
            return Err("--link-ca: certificates of edges can only be asked for by TLS; give --tls-cert and --tls-key, too".into());
        }
        Ok(Source { own, edges, cores: None })
    }

    /// What an edge that stands alone does.
    pub fn of_edge(common: &Common, alone: &EdgeAlone) -> Result<Source, String> {
        let own = own(common)?;
        let authorities = common.link_ca.as_deref().map(Authorities::new);
        let shown = Identity::new(
            ("--link-cert", alone.link_cert.as_deref()),
            ("--link-key", alone.link_key.as_deref()),
        )?;
        let plain = alone.core.iter().find(|url| matches!(link::is_secure(url), Ok(false)));
        if let Some(url) = plain
            && (authorities.is_some() || shown.is_some())
        {
            return Err(format!(
                "--core {url}: nobody is verified there; with --link-ca or --link-cert every core must be at https://"
            ));
        }
        let cores = plain.is_none().then_some(ToCores { authorities, shown });
        Ok(Source { own, edges: None, cores })
    }

    fn make(&self) -> Result<Made, String> {
        let own = self.own.as_ref().map(Identity::read).transpose()?;
        let server = |authorities: Option<&Authorities>, protocols: &[&[u8]]| {
            own.clone().map(|own| server_config(own, authorities, protocols)).transpose()
        };
        Ok(Made {
            http: server(None, &[b"h2", b"http/1.1"])?,
            grpc: server(self.edges.as_ref(), &[b"h2"])?,
            cores: self.cores.as_ref().map(client_config).transpose()?,
        })
    }

    /// Whether all files are as they must be.
    pub fn check(&self) -> Result<(), String> {
        self.make().map(drop)
    }
}

fn own(common: &Common) -> Result<Option<Identity>, String> {
    Identity::new(("--tls-cert", common.tls_cert.as_deref()), ("--tls-key", common.tls_key.as_deref()))
}

impl Tls {
    /// Reads all files.
    pub fn load(source: Source, registry: &mut Registry) -> Result<Tls, String> {
        let Made { http, grpc, cores } = source.make()?;
        let reloads: Family<Outcome, Counter> = Family::default();
        registry.register(
            "hearth_tls_reloads",
            "Times that certificates and keys were read anew",
            reloads.clone(),
        );
        let (http, grpc) = (http.map(in_force), grpc.map(in_force));
        Ok(Tls { source, http, grpc, cores: cores.map(in_force), reloads })
    }

    /// What browsers are spoken to with.
    pub fn http(&self) -> Option<watch::Receiver<Arc<ServerConfig>>> {
        self.http.as_ref().map(watch::Sender::subscribe)
    }

    /// What services and edges are spoken to with.
    pub fn grpc(&self) -> Option<watch::Receiver<Arc<ServerConfig>>> {
        self.grpc.as_ref().map(watch::Sender::subscribe)
    }

    /// Whether edges are asked for certificates.
    pub fn asks_edges(&self) -> bool {
        self.source.edges.is_some()
    }

    /// What cores are spoken to with.
    pub fn cores(&self) -> Option<link::LinkTls> {
        self.cores.as_ref().map(watch::Sender::subscribe)
    }

    /// Reads the files anew on each SIGHUP, from now on and for as long as the process lives. Without TLS the signal does nothing: a
    /// deployment may send it to all of its processes.
    pub fn reload_on_hangup(&self) -> std::io::Result<()> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut hangups = signal(SignalKind::hangup())?;
            let tls = self.clone();
            tokio::spawn(async move {
                while hangups.recv().await.is_some() {
                    tls.reload();
                }
            });
        }
        Ok(())
    }

    fn reload(&self) {
        if self.http.is_none() && self.grpc.is_none() && self.cores.is_none() {
            return tracing::info!("SIGHUP, and no TLS: nothing is read anew");
        }
        let outcome = match self.source.make() {
            Ok(Made { http, grpc, cores }) => {
                put(&self.http, http);
                put(&self.grpc, grpc);
                put(&self.cores, cores);
                tracing::info!("certificates and keys have been read anew");
                "ok"
            }
            Err(error) => {
                tracing::error!(%error, "certificates and keys stay as they were");
                "failed"
            }
        };
        self.reloads.get_or_create(&Outcome { outcome }).inc();
    }
}

fn in_force<T>(config: Arc<T>) -> watch::Sender<Arc<T>> {
    watch::Sender::new(config)
}

fn put<T>(in_force: &Option<watch::Sender<Arc<T>>>, made: Option<Arc<T>>) {
    // Both are there, or neither: they are made by the same settings.
    if let (Some(in_force), Some(made)) = (in_force, made) {
        in_force.send_replace(made);
    }
}

/// The one crypto library of the house.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server_config(
    own: Arc<SingleCertAndKey>,
    edges: Option<&Authorities>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder: ConfigBuilder<ServerConfig, WantsVerifier> =
        builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = match edges {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let roots = Arc::new(authorities.read()?);
            // Services come to the same port and show none.
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated();
            let verifier = verifier.build().map_err(|error| format!("--link-ca: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(own);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn client_config(cores: &ToCores) -> Result<Arc<ClientConfig>, String> {
    let roots = match &cores.authorities {
        Some(authorities) => authorities.read()?,
        None => this_machines()?,
    };
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match &cores.shown {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let shown: Arc<dyn ResolvesClientCert> = identity.read()?;
            builder.with_client_cert_resolver(shown)
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The authorities that this machine trusts.
fn this_machines() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("--core: this machine knows no authority to verify it by; give --link-ca".into());
    }
    Ok(roots)
}
