//! One GET over HTTP/1.1, in clear or by TLS, as plain as it can be: no redirects, no proxies, no cookies, no connection that is kept. The only place
//! of the core that names hyper and rustls for this.
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The largest document that is read: a hundred keys take a tenth of it.
const DOCUMENT_MAX: usize = 1 << 20;
/// What we understand.
const ACCEPTED: &str = "application/jwk-set+json, application/json";
const AGENT: &str = concat!("hearth/", env!("CARGO_PKG_VERSION"));

/// Where nothing can be fetched from.
#[derive(Debug, Error)]
pub enum BadSource {
    /// No URL that is spoken here.
    #[error("it must be an http:// or https:// URL")]
    Url,
    /// A password in the URL.
    #[error("it must not hold a name or a password")]
    Userinfo,
    /// No certificate of an authority in the file.
    #[error("no certificate in PEM that can be trusted")]
    Authority,
    /// None on this machine.
    #[error("this machine names no authorities that could be trusted (SSL_CERT_FILE would): give --jwks-ca")]
    NoAuthorities,
    /// TLS does not start.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

/// Why there is no document.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Nobody answers there.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    /// Whoever answers is not it.
    #[error("no TLS: {0}")]
    Tls(io::Error),
    /// What is answered is no HTTP, or breaks off.
    #[error("the answer breaks off: {0}")]
    Broken(#[from] hyper::Error),
    /// It says something else than 200. Redirects are not followed: keys come from where we were told, and from nowhere else.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// More than a set of keys can be.
    #[error("it is larger than {DOCUMENT_MAX} bytes")]
    TooLarge,
}

/// What was fetched.
pub struct Fetched {
    /// The document.
    pub document: Bytes,
    /// How long its server wants it to be kept.
    pub max_age: Option<Duration>,
}

/// Where a set is published.
#[derive(Clone)]
pub struct Source {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

// By hand: a query may hold what is nobody's business.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.shown()).finish()
    }
}

impl Source {
    /// A URL. Over TLS its server must be vouched for by an authority of this PEM, or else by one that the machine trusts.
    pub fn new(url: &str, authorities: Option<&[u8]>) -> Result<Source, BadSource> {
        let uri: Uri = url.parse().map_err(|_| BadSource::Url)?;
        let authority = uri.authority().ok_or(BadSource::Url)?;
        if authority.as_str().contains('@') {
            return Err(BadSource::Userinfo);
        }
        let (is_secret, port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(BadSource::Url),
        };
        let port = authority.port_u16().unwrap_or(port);
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || (authority.port().is_none() && authority.as_str().ends_with(':')) {
            return Err(BadSource::Url);
        }
        let tls = if is_secret {
            let name = ServerName::try_from(host.clone()).map_err(|_| BadSource::Url)?;
            Some((connector(authorities)?, name))
        } else {
            None
        };
        Ok(Source { uri, host, port, tls })
    }

    /// For a log: without its query.
    pub fn shown(&self) -> String {
        let (scheme, authority) = (self.uri.scheme_str().unwrap_or_default(), self.uri.authority());
        format!("{scheme}://{}{}", authority.map_or("", |authority| authority.as_str()), self.uri.path())
    }

    /// Whether others on the way could change what is fetched.
    pub fn is_open_to_others(&self) -> bool {
        let is_own =
            self.host == "localhost" || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        self.tls.is_none() && !is_own
    }

    /// Fetches it, however long that takes.
    pub async fn fetch(&self) -> Result<Fetched, FetchError> {
        let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(FetchError::Unreachable)?;
        match &self.tls {
            None => self.ask(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(FetchError::Tls)?;
                self.ask(stream).await
            }
        }
    }

    async fn ask(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Fetched, FetchError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::new(Empty::<Bytes>::new());
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        // What was a URL's path is one again.
        *request.uri_mut() = target.parse().unwrap_or_default();
        let host = self.uri.authority().and_then(|authority| authority.as_str().parse().ok());
        let fixed = http::HeaderValue::from_static;
        request.headers_mut().extend([
            (HOST, host.unwrap_or_else(|| fixed("localhost"))),
            (ACCEPT, fixed(ACCEPTED)),
            (USER_AGENT, fixed(AGENT)),
        ]);
        let answer = async {
            let response = sender.send_request(request).await?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(response.status()));
            }
            let max_age = max_age(response.headers());
            let read = Limited::new(response.into_body(), DOCUMENT_MAX).collect().await;
            let document = read.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => FetchError::Broken(*error),
                Err(error) => {
                    debug_assert!(error.is::<LengthLimitError>());
                    FetchError::TooLarge
                }
            })?;
            Ok(Fetched { document: document.to_bytes(), max_age })
        };
        tokio::pin!(answer);
        tokio::pin!(connection);
        // The connection moves the bytes; what is left of it when the answer is here is dropped.
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended?;
                answer.await
            }
        }
    }
}

fn connector(authorities: Option<&[u8]>) -> Result<TlsConnector, BadSource> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| BadSource::Authority)?;
                roots.add(certificate).map_err(|_| BadSource::Authority)?;
            }
            if roots.is_empty() {
                return Err(BadSource::Authority);
            }
        }
        None => {
            // What of it cannot be read is another's business; without any at all nothing can be fetched.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(BadSource::NoAuthorities);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// How long an answer is good, by its `Cache-Control`.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        let seconds =
            name.trim().eq_ignore_ascii_case("max-age").then(|| seconds.trim().trim_matches('"'))?;
        seconds.parse().ok().map(Duration::from_secs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_none() {
        for (url, host, port) in [
            ("http://keys.test/jwks", "keys.test", 80),
            ("http://127.0.0.1:8080/jwks?tenant=1", "127.0.0.1", 8080),
            ("http://[::1]:1/", "::1", 1),
            ("http://keys.test", "keys.test", 80),
        ] {
            let source = Source::new(url, None).unwrap();
            assert_eq!((&*source.host, source.port), (host, port));
        }
        for url in [
            "",
            "/jwks",
            "keys.test/jwks",
            "ftp://keys.test/",
            "file:///etc/keys",
            "http://",
            "http://x:/",
            "http:// x/",
        ] {
            assert!(matches!(Source::new(url, None), Err(BadSource::Url)), "{url}");
        }
        assert!(matches!(Source::new("https://ann:pw@keys.test/", None), Err(BadSource::Userinfo)));
        for pem in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let source = Source::new("https://keys.test/", Some(pem.as_bytes()));
            assert!(matches!(source, Err(BadSource::Authority)), "{pem}");
        }
    }

    #[test]
    fn what_is_shown_has_no_query() {
        let source = Source::new("http://keys.test/jwks?key=secret", None).unwrap();
        assert_eq!(source.shown(), "http://keys.test/jwks");
        assert!(!format!("{source:?}").contains("secret"));
        assert!(source.is_open_to_others());
        assert!(!Source::new("http://127.0.0.1/", None).unwrap().is_open_to_others());
    }

    #[test]
    fn an_answer_says_how_long_it_is_good() {
        let age = |line: &'static str| {
            max_age(&HeaderMap::from_iter([(CACHE_CONTROL, http::HeaderValue::from_static(line))]))
        };
        assert_eq!(age("public, max-age=300, must-revalidate"), Some(Duration::from_secs(300)));
        assert_eq!(age("Max-Age=\"7\""), Some(Duration::from_secs(7)));
        for none in ["no-store", "max-age", "max-age=", "max-age=-1", "s-maxage=5", "max-age=x"] {
            assert_eq!(age(none), None, "{none}");
        }
    }
}
