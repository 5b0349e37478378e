//! How a core is reached: over the network, or in the same process. Behind the two stands the same client, so
//! that there is one code path.
use super::secure::{self, LinkTls};
use hearth_proto::v1::{AttachRequest, AttachResponse, EdgeFrame, link_service_client::LinkServiceClient};
use std::{fmt, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{sync::mpsc, time};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming, body::Body, codegen::http::Uri, transport::Endpoint};
use tower::{BoxError, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

/// How long a connection may take: a core that is there answers at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the core's first answers may take.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked for a sign of life, and how long it may take: a core that is gone without a
/// word is noticed within both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much may be under way from the core: a burst for all sessions of an edge should not stall on a round trip.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// The largest message taken. A core's batches are far smaller, but history is one frame of up to 1000 events, each as
/// large as a message may be.
const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;

type Boxed = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, TransportError>;

/// What goes wrong beneath gRPC. A type of its own, since futures that hold a bare boxed error cannot be spawned.
#[derive(Debug, Error)]
#[error(transparent)]
struct TransportError(BoxError);

/// A way to one core.
#[derive(Clone)]
pub struct Dialer {
    name: Arc<str>,
    way: Way,
    /// What shows the core that this is an edge.
    token: Option<MetadataValue<Ascii>>,
}

#[derive(Clone)]
enum Way {
    Network(Box<Endpoint>),
    Secure(Box<Endpoint>, LinkTls),
    InProcess(Boxed),
}

/// A core's address that is none.
#[derive(Debug, Error)]
#[error("{url} is not an address of a core: {reason}")]
pub struct BadUrl {
    url: String,
    reason: String,
}

/// Why a core could not be attached to.
#[derive(Debug, Error)]
pub enum DialError {
    /// No connection.
    #[error("no connection: {}", secure::cause(.0))]
    Connect(#[from] tonic::transport::Error),
    /// The core refused the stream.
    #[error("refused: {0}")]
    Refused(Status),
    /// The connection broke under the stream; so ends a handshake that the core refused after it was over for this side.
    #[error("broken: {}", secure::cause(.0))]
    Broken(Status),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
}

impl From<Status> for DialError {
    fn from(status: Status) -> DialError {
        match std::error::Error::source(&status) {
            Some(_) => DialError::Broken(status),
            None => DialError::Refused(status),
        }
    }
}

/// Whether a core's address, which must be one, asks for TLS.
pub fn is_secure(url: &str) -> Result<bool, BadUrl> {
    let bad = |reason: String| BadUrl { url: url.to_owned(), reason };
    let uri: Uri = url.parse().map_err(|error| bad(format!("{error}")))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(false),
        (Some("https"), Some(_)) => Ok(true),
        _ => Err(bad("it must look like http://host:port or https://host:port".into())),
    }
}

impl Dialer {
    /// A core on the network, as `http://host:port` or `https://host:port`, how TLS is spoken to the latter, and the secret by which it knows
    /// its edges.
    pub fn url(url: &str, link_token: Option<&str>, tls: Option<LinkTls>) -> Result<Dialer, BadUrl> {
        let is_secure = is_secure(url)?;
        let bad = |reason: String| BadUrl { url: url.to_owned(), reason };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| bad(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let token = link_token.map(|token| MetadataValue::try_from(format!("Bearer {token}"))).transpose();
        let mut token = token.map_err(|_| bad("the link token must be visible ASCII".into()))?;
        // It reaches no log.
        token.iter_mut().for_each(|token| token.set_sensitive(true));
        let way = match (is_secure, tls) {
            (false, _) => Way::Network(Box::new(endpoint)),
            (true, Some(tls)) => Way::Secure(Box::new(endpoint), tls),
            (true, None) => return Err(bad("nothing is known to verify it by".into())),
        };
        Ok(Dialer { name: url.into(), way, token })
    }

    /// A core in this process.
    pub fn in_process<S>(service: S) -> Dialer
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        let boxed = BoxCloneSyncService::new(service.map_err(|error| TransportError(error.into())));
        Dialer { name: "this process".into(), way: Way::InProcess(boxed), token: None }
    }

    /// Opens the stream, `hello` first: a streaming call does not return before the other side has answered.
    pub(super) async fn dial(
        &self,
        hello: EdgeFrame,
        requests: mpsc::Receiver<AttachRequest>,
    ) -> Result<Streaming<AttachResponse>, DialError> {
        let service = match &self.way {
            Way::Network(endpoint) => {
                let channel = endpoint.connect().await?;
                BoxCloneSyncService::new(channel.map_err(|error| TransportError(error.into())))
            }
            Way::Secure(endpoint, tls) => {
                let config = tls.borrow().clone();
                let connector = service_fn(move |core| secure::connect(core, config.clone()));
                let channel = endpoint.connect_with_connector(connector).await?;
                BoxCloneSyncService::new(channel.map_err(|error| TransportError(error.into())))
            }
            Way::InProcess(service) => service.clone(),
        };
        let mut client = LinkServiceClient::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let hello = tokio_stream::once(AttachRequest { frames: vec![hello] });
        let mut request = Request::new(hello.chain(ReceiverStream::new(requests)));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        let attach = client.attach(request);
        let response = time::timeout(ATTACH_TIMEOUT, attach).await.map_err(|_| DialError::Timeout)??;
        Ok(response.into_inner())
    }

    /// The next message, which must come soon: the one that says `attached`.
    pub(super) async fn first(
        responses: &mut Streaming<AttachResponse>,
    ) -> Result<Option<AttachResponse>, DialError> {
        Ok(time::timeout(ATTACH_TIMEOUT, responses.message()).await.map_err(|_| DialError::Timeout)??)
    }
}

impl fmt::Display for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialer({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert!(Dialer::url("http://127.0.0.1:50051", Some("secret"), None).is_ok());
        assert!(Dialer::url("http://[::1]:50051", None, None).is_ok());
        assert!(matches!(is_secure("https://core"), Ok(true)));
        for bad in
            ["", "core", "127.0.0.1:50051", "ftp://core:1", "http://", "http://a b", "https://no-tls:1"]
        {
            assert!(Dialer::url(bad, None, None).is_err(), "{bad}");
        }
    }
}
