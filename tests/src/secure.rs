//! TLS in tests: authorities and certificates made on the spot, a client's side of a connection, and a tunnel that lets clients which know
//! nothing of TLS speak it.
use crate::within;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::{
    env, fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};

/// What a tunnel's sockets hold, so that a client that does not read is felt behind it.
const TUNNEL_BUFFER: u32 = 16 * 1024;

/// A folder of files that goes with its owner.
pub struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("hearth-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("there is room for files");
        Folder(folder)
    }

    /// Writes a file, and gives its path as a flag takes it.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("there is room for a file");
        path.to_str().expect("a path in text").to_owned()
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies among temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An authority, with the files that it has signed.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Where the files are.
    pub files: Folder,
}

/// Whether a certificate is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For long.
    Good,
    /// No longer.
    Expired,
}

impl Authority {
    /// A new one, in `ca.pem`.
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let files = Folder::new();
        files.write("ca.pem", &issuer.pem());
        Authority { issuer, files }
    }

    /// Signs a certificate for this machine, and writes `NAME.pem` and `NAME.key`.
    pub fn sign(&self, name: &str, validity: Validity) -> [String; 2] {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        if validity == Validity::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let pem = certificate.pem() + &self.issuer.pem();
        [
            self.files.write(&format!("{name}.pem"), &pem),
            self.files.write(&format!("{name}.key"), &key.serialize_pem()),
        ]
    }

    /// The flags of a server with a certificate of this authority.
    pub fn server_flags(&self) -> Vec<String> {
        let [cert, key] = self.sign("server", Validity::Good);
        ["--tls-cert", &cert, "--tls-key", &key].map(str::to_owned).to_vec()
    }

    /// The file with its own certificate.
    pub fn ca(&self) -> String {
        self.files.path("ca.pem")
    }

    /// A client that trusts this authority and offers these protocols.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        self.client_of(&[&TLS13, &TLS12], protocols)
    }

    /// The same, in these versions of TLS.
    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).expect("a certificate")).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("versions that there are");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

/// Connects by TLS.
pub async fn connect(server: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(TUNNEL_BUFFER)?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a name");
    within("a TLS handshake", TlsConnector::from(config).connect(name, stream)).await
}

/// Takes connections in the clear, and forwards each over TLS. Either side's end becomes the other's, and so does a cut.
pub struct Tunnel {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Tunnel {
    /// To a server.
    pub async fn start(server: SocketAddr, config: Arc<ClientConfig>) -> Tunnel {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_send_buffer_size(TUNNEL_BUFFER).expect("a socket takes it");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("there are free ports");
        let address = socket.local_addr().expect("it is bound");
        let listener: TcpListener = socket.listen(1024).expect("a socket listens");
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let config = config.clone();
                tokio::spawn(async move {
                    // A server that is away, or refuses, is seen as a connection that ends at once.
                    let Ok(mut server) = connect(server, config).await else { return };
                    let _ = client.set_nodelay(true);
                    // What breaks on one side is dropped on both.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Tunnel { address, accepting }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
