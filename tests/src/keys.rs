//! A place where keys are published, as other systems do: a little server of HTTP, in clear or by TLS, that answers with a JWKS or with whatever
//! a server should not, and keys to sign with (ES256).
use crate::token::now;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::{TlsAcceptor, rustls};

/// A private key with a name.
pub struct Signer {
    kid: String,
    pair: EcdsaKeyPair,
}

impl Signer {
    /// A new key.
    pub fn new(kid: &str) -> Signer {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Signer { kid: kid.to_owned(), pair }
    }

    /// A user's token, good for an hour.
    pub fn token(&self, user: &str) -> String {
        self.sign(&json!({"sub": user, "exp": now() + 3600.0}), Some(&self.kid))
    }

    /// A token of any claims, which names its key or another or none.
    pub fn sign(&self, claims: &Value, kid: Option<&str>) -> String {
        let mut header = json!({"alg": "ES256", "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64.encode(signature))
    }

    /// Its public half, as it is published.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y})
    }
}

/// What the server answers.
#[derive(Clone)]
pub enum Answer {
    /// This document, with this head beside its length: status and header lines.
    Document(String, String),
    /// It takes the request, and says nothing.
    Silence,
    /// It promises more than it sends.
    Half,
}

/// A set of these keys.
pub fn set(keys: &[&Signer]) -> Answer {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    document("200 OK", &json!({"keys": keys}).to_string())
}

/// Any document, with a status.
pub fn document(status: &str, text: &str) -> Answer {
    Answer::Document(status.to_owned(), text.to_owned())
}

/// The server.
pub struct KeyServer {
    address: SocketAddr,
    scheme: &'static str,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    tls: Option<TlsAcceptor>,
    task: Option<JoinHandle<()>>,
}

impl KeyServer {
    /// In clear.
    pub async fn start(answer: Answer) -> KeyServer {
        Self::with(answer, None).await
    }

    /// By TLS, and the PEM of who vouches for it.
    pub async fn start_tls(answer: Answer) -> (KeyServer, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        (Self::with(answer, Some(TlsAcceptor::from(Arc::new(config)))).await, made.cert.pem())
    }

    async fn with(answer: Answer, tls: Option<TlsAcceptor>) -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut server = KeyServer {
            address: listener.local_addr().unwrap(),
            scheme: if tls.is_some() { "https" } else { "http" },
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
            tls,
            task: None,
        };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let (answer, asked, tls) = (self.answer.clone(), self.asked.clone(), self.tls.clone());
        self.task = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, asked, tls) = (answer.clone(), asked.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => reply(stream, &answer, &asked).await,
                        // Whoever does not trust it is gone.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                reply(stream, &answer, &asked).await;
                            }
                        }
                    }
                });
            }
        }));
    }

    /// Where the set stands.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}/jwks.json", self.scheme, self.address.port())
    }

    /// From now on it answers this.
    pub fn publish(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Nobody listens any more.
    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// It listens again where it did.
    pub fn start_again(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.serve(socket.listen(64).unwrap());
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

async fn reply(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &Mutex<Answer>, asked: &AtomicUsize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if !stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
            return;
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let answer = answer.lock().unwrap().clone();
    let whole = match answer {
        Answer::Document(status, text) => {
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        }
        Answer::Half => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"keys\":[".to_owned(),
        Answer::Silence => return std::future::pending().await,
    };
    // Whoever has read enough closes.
    let _ = stream.write_all(whole.as_bytes()).await;
    let _ = stream.shutdown().await;
}
