//! The beginning of a connection over TLS. Who comes without it is told so, as well as can be.
use crate::fanout::socket::Socket;
use crate::transport::headers::LINES as SAFE;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;

/// How long somebody who spoke plainly may take to read that this is wrong.
const LINGER: Duration = Duration::from_secs(1);
/// Written out, as nothing of theirs is read.
const SPEAKS_TLS: &str = r#"{"type":"about:blank","title":"Bad Request","status":400,"code":"invalid_argument","detail":"this port speaks TLS: ask by https or wss"}"#;

/// Shakes hands. The caller has the clock.
pub async fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Socket> {
    let mut first = [0];
    // A handshake begins with 22, a request in the clear with the letters of its method.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        // It has been told, or is gone, or too slow: all the same.
        drop(timeout(LINGER, tell(stream)).await);
        return Err(io::Error::other("a request without TLS"));
    }
    Socket::secure(stream, config).await
}

async fn tell(mut stream: TcpStream) -> io::Result<()> {
    let length = SPEAKS_TLS.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {length}\r\n{SAFE}\r\n{SPEAKS_TLS}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // An answer in front of unread bytes can be lost to the reset that follows.
    let mut unread = [0; 512];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// The same for those who will only be told that there is no room, which is said in HTTP/1.1.
pub fn for_refusals(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
