//! The head of a connection's first request, looked at before HTTP has the connection.
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use std::io;
use tokio::net::TcpStream;

/// The most bytes that are looked at; a longer head is HTTP's.
pub const BYTES: usize = 16 * 1024;
/// The most header lines.
const LINES: usize = 100;

/// A head of HTTP/1.1.
pub struct Head {
    /// What is asked.
    pub uri: Uri,
    /// What is said of it.
    pub headers: HeaderMap,
    /// How many bytes it has.
    pub length: usize,
}

/// Waits for the first bytes and leaves them there. None: a head in pieces, another HTTP, or none.
pub async fn peek(stream: &TcpStream) -> io::Result<Option<Head>> {
    let mut bytes = vec![0; BYTES];
    let n = stream.peek(&mut bytes).await?;
    Ok(parse(&bytes[..n]))
}

/// A head that is all there.
pub fn parse(bytes: &[u8]) -> Option<Head> {
    let mut lines = [httparse::EMPTY_HEADER; LINES];
    let mut request = httparse::Request::new(&mut lines);
    let Ok(httparse::Status::Complete(length)) = request.parse(bytes) else { return None };
    let (Some(1), Some(Ok(uri))) = (request.version, request.path.map(str::parse)) else { return None };
    let mut headers = HeaderMap::new();
    for line in request.headers.iter() {
        headers.append(line.name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(line.value).ok()?);
    }
    Some(Head { uri, headers, length })
}
