//! Where a core is and how it is reached: over TCP, or in the same process. Both give the same kind of service, so that there is
//! one code path behind.
use http::{Request, Response};
use std::{error::Error, fmt, sync::Arc, time::Duration};
use tonic::{
    body::Body,
    transport::{Endpoint, Error as TransportError},
};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a silent core is pinged, also while nothing is asked of it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a ping may stay without an answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be under way on the stream: at 10 ms of round trip, 400 MB a second.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// The same for the connection.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// A gRPC service, wherever it is.
pub type CoreService = BoxCloneSyncService<Request<Body>, Response<Body>, CallError>;

/// A call that did not reach a core.
#[derive(Debug)]
pub struct CallError(BoxError);

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The thing itself: whoever wants a status looks for it among the causes.
        Some(&*self.0)
    }
}

/// One core to attach to.
#[derive(Clone)]
pub struct Dialer {
    name: Arc<str>,
    to: To,
}

#[derive(Clone)]
enum To {
    Endpoint(Box<Endpoint>),
    Service(CoreService),
}

impl Dialer {
    /// A core at a URL such as `http://127.0.0.1:50051`.
    pub fn url(url: &str) -> Result<Dialer, TransportError> {
        let endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Ok(Dialer { name: url.into(), to: To::Endpoint(Box::new(endpoint)) })
    }

    /// A core in this process: its gRPC service itself.
    pub fn in_process<S>(service: S) -> Dialer
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Dialer {
            name: "this process".into(),
            to: To::Service(BoxCloneSyncService::new(service.map_err(|error| CallError(error.into())))),
        }
    }

    /// What stands in the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Connects.
    pub async fn dial(&self) -> Result<CoreService, TransportError> {
        match &self.to {
            To::Endpoint(endpoint) => {
                let channel = endpoint.connect().await?;
                Ok(BoxCloneSyncService::new(channel.map_err(|error| CallError(error.into()))))
            }
            To::Service(service) => Ok(service.clone()),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dialer").field(&self.name).finish()
    }
}

/// An error with all its causes: transport errors say little by themselves.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
