//! Server-sent events as an `EventSource` reads them, but over a socket of one's own: what comes is seen to the byte, and can be
//! cut at any of them.
//!
//! [`Reader`] is the reading alone: bytes go in, events come out, as the HTML standard has it. [`Stream`] is a request, its answer
//! and a reader behind it.
use crate::within;
use serde_json::Value;
use std::{collections::VecDeque, io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, as a page listens to it.
    pub name: String,
    /// The `id:` that came with it, if any.
    pub id: Option<String>,
    /// What it carries.
    pub data: Value,
    /// The same as it was spelled.
    pub text: String,
}

impl Event {
    /// Its seq, where it has one.
    pub fn seq(&self) -> Option<u64> {
        self.data["seq"].as_u64()
    }

    /// Whether the server says this about itself, as in `joined`.
    pub fn tells(&self, event: &str) -> bool {
        self.name == "system" && self.seq().is_none() && self.data["data"]["event"] == event
    }
}

/// Makes events of bytes, by the rules of the HTML standard for `text/event-stream`.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    name: String,
    data: String,
    /// The one that will hold when the event is whole; it outlives events.
    id_so_far: String,
    /// The one that came with the event under way.
    own_id: Option<String>,
    events: VecDeque<Event>,
    /// What a client brings back as `Last-Event-ID`: that of the last event that came whole.
    pub last_id: String,
    /// The `retry:` values, in milliseconds.
    pub retries: Vec<u64>,
    /// How many comments came.
    pub comments: usize,
}

impl Reader {
    /// Takes bytes, cut anywhere. Lines end in a line feed alone, as this server has them.
    pub fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.end_of_line(std::str::from_utf8(&line).expect("a stream of events is UTF-8"));
            } else {
                assert_ne!(byte, b'\r', "this server has no carriage returns");
                self.line.push(byte);
            }
        }
    }

    fn end_of_line(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => self.end_of_event(),
            "" => self.comments += 1,
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => {
                value.clone_into(&mut self.id_so_far);
                self.own_id = Some(value.to_owned());
            }
            "retry" => self.retries.push(value.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"))),
            _ => panic!("no field of an event: {line:?}"),
        }
    }

    fn end_of_event(&mut self) {
        self.last_id.clone_from(&self.id_so_far);
        let (name, data, id) =
            (std::mem::take(&mut self.name), std::mem::take(&mut self.data), self.own_id.take());
        let Some(data) = data.strip_suffix('\n') else { return };
        let text = data.to_owned();
        let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{data:?}: {error}"));
        self.events.push_back(Event { name, id, data, text });
    }

    /// The next event that is whole.
    pub fn pop(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// Takes HTTP/1.1's chunks apart.
#[derive(Debug, Default)]
struct Chunks {
    line: Vec<u8>,
    left: usize,
    ended: bool,
}

impl Chunks {
    fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                body.extend_from_slice(&bytes[..taken]);
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            bytes = rest;
            self.line.push(byte);
            // A chunk's end is an empty line, after which comes the next one's length.
            if self.line.ends_with(b"\r\n") {
                let line = String::from_utf8(std::mem::take(&mut self.line)).expect("a length is ASCII");
                let line = line.trim_end();
                if !line.is_empty() {
                    self.left =
                        usize::from_str_radix(line, 16).unwrap_or_else(|error| panic!("{line:?}: {error}"));
                    self.ended |= self.left == 0;
                }
            }
        }
        body
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    chunks: Option<Chunks>,
    /// The answer's status.
    pub status: u16,
    /// Its head, as it came.
    pub head: String,
    /// The body so far.
    pub body: Vec<u8>,
    /// What has been made of it.
    pub reader: Reader,
}

impl Stream {
    /// Asks for a path such as `/events/room?user=ann`.
    pub async fn open(http: SocketAddr, target: &str) -> Stream {
        Self::open_with(http, target, &[]).await
    }

    /// Comes back with a `Last-Event-ID`; with none if there has been none, as an `EventSource` does.
    pub async fn resume(http: SocketAddr, target: &str, last: &str) -> Stream {
        match last {
            "" => Self::open(http, target).await,
            last => Self::open_with(http, target, &[&format!("Last-Event-ID: {last}")]).await,
        }
    }

    /// Asks, with more header lines.
    pub async fn open_with(http: SocketAddr, target: &str, lines: &[&str]) -> Stream {
        let socket = within("a connection", TcpStream::connect(http)).await.expect("the server listens");
        Self::ask(socket, &request(http, target, lines)).await
    }

    /// The same, with a receive buffer of about this many bytes, for one that reads slowly.
    pub async fn open_narrow(http: SocketAddr, target: &str, receive_buffer: u32) -> Stream {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_recv_buffer_size(receive_buffer).expect("a socket takes it");
        let socket = within("a connection", socket.connect(http)).await.expect("the server listens");
        Self::ask(socket, &request(http, target, &[])).await
    }

    /// Asks as the second request of a connection, which HTTP then keeps.
    pub async fn open_second(http: SocketAddr, target: &str) -> Stream {
        let mut socket = within("a connection", TcpStream::connect(http)).await.expect("the server listens");
        let first = format!("GET /healthz HTTP/1.1\r\nHost: {http}\r\n\r\n");
        socket.write_all(first.as_bytes()).await.expect("the server takes a request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            let read = within("a page", socket.read_buf(&mut answer)).await.expect("an answer");
            assert!(read > 0, "the end after {:?}", String::from_utf8_lossy(&answer));
        }
        let second = Self::ask(socket, &request(http, target, &[])).await;
        assert!(second.chunks.is_some(), "HTTP has kept the connection: {}", second.head);
        second
    }

    /// Sends this request and takes the head of the answer.
    pub async fn ask(mut socket: TcpStream, request: &str) -> Stream {
        // Refused before it was read, it has an answer all the same.
        let _ = within("room to send", socket.write_all(request.as_bytes())).await;
        Self::answered(socket).await
    }

    /// Takes the head of the answer to a request that has been sent.
    pub async fn answered(mut socket: TcpStream) -> Stream {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = within("the head of the answer", socket.read_u8()).await;
            let byte =
                byte.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head)));
            head.push(byte);
        }
        let head = String::from_utf8(head).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked\r\n");
        let chunks = chunked.then(Chunks::default);
        Stream { socket, chunks, status, head, body: Vec::new(), reader: Reader::default() }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// Its `Last-Event-ID` as of now.
    pub fn last_id(&self) -> &str {
        &self.reader.last_id
    }

    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.reader.pop() {
                return Some(event);
            }
            if !within("an event", self.read()).await {
                // The last bytes may have come with the end.
                return self.reader.pop();
            }
        }
    }

    /// The next event, which must come.
    pub async fn event(&mut self) -> Event {
        match self.next().await {
            Some(event) => event,
            None => panic!("the end, after {}", String::from_utf8_lossy(&self.body)),
        }
    }

    /// All events up to and with the first that is wanted.
    pub async fn until(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            let found = wanted(&event);
            events.push(event);
            if found {
                return events;
            }
        }
    }

    /// The first event that is wanted; what comes before it is dropped.
    pub async fn find(&mut self, wanted: impl FnMut(&Event) -> bool) -> Event {
        self.until(wanted).await.pop().expect("the event that was found")
    }

    /// All events up to the end.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Reads once, for at most [`crate::PATIENCE`], whatever it may be; false at the end.
    pub async fn read(&mut self) -> bool {
        let mut bytes = Vec::with_capacity(16 * 1024);
        // A reset is an end too.
        if !matches!(self.socket.read_buf(&mut bytes).await, Ok(1..)) {
            return false;
        }
        let (body, ended) = match &mut self.chunks {
            Some(chunks) => (chunks.take(&bytes), chunks.ended),
            None => (bytes, false),
        };
        if self.status == 200 {
            self.reader.take(&body);
        }
        self.body.extend_from_slice(&body);
        !ended
    }

    /// The body of an answer that is not a stream: a problem.
    pub async fn problem(mut self) -> Value {
        let length: usize = self.header("content-length").and_then(|n| n.parse().ok()).expect("a length");
        while self.body.len() < length && within("the body", self.read()).await {}
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.head);
        serde_json::from_slice(&self.body).expect("a problem is JSON")
    }

    /// Goes without a word, as a network that breaks.
    pub fn cut(self) {
        self.socket.set_zero_linger().expect("a socket takes it");
    }
}

/// The request of an `EventSource`.
pub fn request(http: SocketAddr, target: &str, lines: &[&str]) -> String {
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: {http}\r\nAccept: text/event-stream\r\n");
    for line in lines {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

/// Sends bytes in pieces, each a packet of its own.
pub async fn send_in_pieces(socket: &mut TcpStream, pieces: &[&[u8]]) -> io::Result<()> {
    socket.set_nodelay(true)?;
    for piece in pieces {
        socket.write_all(piece).await?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &str = "retry: 1500\n\nevent: system\nid: one\ndata: {\"n\":1}\n\n:\n\nevent: message\ndata: {\"n\":2}\n\nid: two\n\nid: three\ndata: {";

    #[test]
    fn a_reader_follows_the_standard_wherever_it_is_cut() {
        for at in 0..=BYTES.len() {
            let mut reader = Reader::default();
            reader.take(&BYTES.as_bytes()[..at]);
            reader.take(&BYTES.as_bytes()[at..]);
            let first = reader.pop().unwrap();
            assert_eq!((first.name.as_str(), first.id.as_deref()), ("system", Some("one")));
            let second = reader.pop().unwrap();
            assert_eq!(
                (second.name.as_str(), second.id, &second.data["n"]),
                ("message", None, &Value::from(2))
            );
            assert_eq!(reader.pop(), None, "what has no data is none, and what is not whole neither");
            assert_eq!(
                (reader.last_id.as_str(), reader.comments),
                ("two", 1),
                "an id holds once its event is whole"
            );
            assert_eq!(reader.retries, [1500]);
        }
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let whole = b"5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
        for at in 0..=whole.len() {
            let mut chunks = Chunks::default();
            let mut body = chunks.take(&whole[..at]);
            body.extend(chunks.take(&whole[at..]));
            assert_eq!(body, b"hello0123456789abcdef");
            assert!(chunks.ended);
        }
    }
}
