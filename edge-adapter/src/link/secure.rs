//! TLS to a core: the connector beneath a channel, and what is told of it when it fails.
use hyper_util::rt::TokioIo;
use std::{error::Error, io, sync::Arc};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tonic::codegen::http::Uri;

/// What a core is verified by and what it is shown: whatever is in it when a connection is made.
pub type LinkTls = watch::Receiver<Arc<ClientConfig>>;

/// The port of `https` where none is named.
const HTTPS: u16 = 443;

/// Connects and shakes hands. The caller has the clock.
pub async fn connect(core: Uri, config: Arc<ClientConfig>) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    // An IPv6 address stands in brackets there.
    let host = core.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), core.port_u16().unwrap_or(HTTPS))).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
}

/// What lies at the bottom of an error, since tonic's own words are "transport error"; of TLS with what can be done about it.
pub fn cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    // HTTP/2 hands errors on as text, so there is nothing else to tell them by.
    let text = error.to_string();
    if text.contains("received fatal alert") {
        return format!(
            "{text}: the core refuses this edge's certificate; --link-cert must be one of the core's --link-ca"
        );
    }
    if text.contains("invalid peer certificate") {
        return format!(
            "{text}: the core's certificate does not hold against --link-ca, or this machine's CAs without one"
        );
    }
    text
}
