//! Plain HTTP/1.1, one request a connection.
use crate::within;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The head, in lower case, status line included.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).next()
    }
}

/// `GET`, with more header lines where wanted.
pub async fn get(http: SocketAddr, target: &str, headers: &[&str]) -> Response {
    ask(http, "GET", target, headers).await.unwrap_or_else(|error| panic!("GET {target}: {error}"))
}

/// Any method; the error is that nobody answers.
pub async fn ask(http: SocketAddr, method: &str, target: &str, headers: &[&str]) -> io::Result<Response> {
    let request = head(http, method, target, headers);
    let mut stream = within("a connection", TcpStream::connect(http)).await?;
    exchange(&mut stream, request.as_bytes()).await
}

/// Any method with a JSON body.
pub async fn send(http: SocketAddr, method: &str, target: &str, headers: &[&str], body: &str) -> Response {
    let mut stream = within("a connection", TcpStream::connect(http)).await.expect("the server listens");
    send_on(&mut stream, method, target, headers, body).await
}

/// The same; the error is that nobody answers.
pub async fn try_send(http: SocketAddr, method: &str, target: &str, body: &str) -> io::Result<Response> {
    let mut stream = within("a connection", TcpStream::connect(http)).await?;
    exchange(&mut stream, with_body(http, method, target, &[], body).as_bytes()).await
}

/// The same on a connection that is kept.
pub async fn send_on(
    stream: &mut TcpStream,
    method: &str,
    target: &str,
    headers: &[&str],
    body: &str,
) -> Response {
    let http = stream.peer_addr().expect("it is connected");
    let request = with_body(http, method, target, headers, body);
    let answer = exchange(stream, request.as_bytes()).await;
    answer.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

fn with_body(http: SocketAddr, method: &str, target: &str, headers: &[&str], body: &str) -> String {
    let length = format!("Content-Length: {}", body.len());
    let lines = [headers, &["Content-Type: application/json", &length]].concat();
    head(http, method, target, &lines) + body
}

/// A request's head, with its last, empty line.
pub fn head(http: SocketAddr, method: &str, target: &str, headers: &[&str]) -> String {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {http}\r\n");
    for line in headers {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request + "\r\n"
}

/// Sends what is given and reads one answer.
pub async fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<Response> {
    let whole = within("an HTTP answer", async {
        stream.write_all(request).await?;
        let mut whole = Vec::new();
        while !is_whole(&whole) && stream.read_buf(&mut whole).await? > 0 {}
        io::Result::Ok(whole)
    })
    .await?;
    let whole = String::from_utf8_lossy(&whole);
    let Some((head, body)) = whole.split_once("\r\n\r\n") else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("no head: {whole:?}")));
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok(Response { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// Whether all that the head promises is there; without a length the end of the stream is the end.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.and_then(|length| length.trim().parse().ok()).is_some_and(|length: usize| body.len() >= length)
}

/// The value of a metric in what `/metrics` printed; labels and all, as it stands there.
pub fn metric(body: &str, name: &str) -> Option<f64> {
    let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split(' ').next()?.parse().ok()
}
