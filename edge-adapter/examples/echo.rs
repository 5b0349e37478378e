//! An echo server over the edge's own WebSocket code, for the Autobahn test suite: `make autobahn`.
//!
//! Autobahn judges a server by what it sends back, and Hearth says back commands' answers only. So here the parser, the
//! inflater, the writers and the close codes are the edge's, and between them stands no session but an echo. What a
//! violation or a goodbye leads to is as in `fanout/reading.rs`, `fanout/ending.rs` and `fanout/shard.rs`.
use hearth_edge::wire::close::CloseReason;
use hearth_edge::wire::websocket::parser::{Message, Parser};
use hearth_edge::wire::websocket::{Opcode, accept_key, deflate, write_close, write_frame};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// The largest message; Autobahn sends 16 MiB.
const LIMIT: usize = 32 << 20;
/// What one read takes at most.
const READ_BUFFER: usize = 64 * 1024;
/// A request's head has at most so many bytes.
const HEAD_MAX: usize = 16 * 1024;
/// How long a client may take to go when it was told to.
const LINGER: Duration = Duration::from_secs(3);

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http listening on http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that goes in the middle is a case of Autobahn's, and no fault.
        thread::spawn(move || serve(stream).or_else(ignore_loss).inspect_err(|error| eprintln!("{error}")));
    }
    Ok(())
}

fn ignore_loss(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected => Ok(()),
        // It did not go within LINGER, or not shake hands.
        ErrorKind::WouldBlock | ErrorKind::UnexpectedEof => Ok(()),
        _ => Err(error),
    }
}

/// How a message leaves the connection.
#[derive(PartialEq)]
enum Next {
    /// Open as before.
    Open,
    /// The client has said goodbye, and is answered.
    Over,
    /// The client broke a rule and is told so. What it says still cannot be read, only its end is awaited.
    Deaf,
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (deflated, mut ahead) = shake_hands(&mut stream)?;
    let mut inflater = deflated.then(deflate::Inflater::default);
    let mut parser = Parser::default();
    let mut buffer = vec![0; READ_BUFFER];
    let mut next = Next::Open;
    loop {
        let mut bytes = match ahead.len() {
            0 => match stream.read(&mut buffer)? {
                0 => return Ok(()),
                n => &mut buffer[..n],
            },
            n => {
                buffer[..n].copy_from_slice(&std::mem::take(&mut ahead));
                &mut buffer[..n]
            }
        };
        let mut out = Vec::new();
        while next == Next::Open {
            match parser.next(&mut bytes, LIMIT, inflater.as_mut()) {
                Ok(None) => break,
                Ok(Some(Message::Close(code))) => {
                    write_close(&mut out, code, "");
                    next = Next::Over;
                }
                Ok(Some(message)) => echo(&mut out, &message, deflated),
                Err(violation) => {
                    shut(&mut out, violation.into());
                    next = Next::Deaf;
                }
            }
        }
        stream.write_all(&out)?;
        match next {
            Next::Open => {}
            Next::Over => return stream.shutdown(Shutdown::Both),
            Next::Deaf => {
                stream.shutdown(Shutdown::Write)?;
                stream.set_read_timeout(Some(LINGER))?;
            }
        }
    }
}

fn shut(out: &mut Vec<u8>, reason: CloseReason) {
    let (code, word) = reason.code_and_word();
    write_close(out, Some(code), word);
}

fn echo(out: &mut Vec<u8>, message: &Message<'_>, deflated: bool) {
    match message {
        Message::Text(text) if deflated => out.extend(deflate::frame(Opcode::Text, text.as_bytes())),
        Message::Binary(bytes) if deflated => out.extend(deflate::frame(Opcode::Binary, bytes)),
        Message::Text(text) => write_frame(out, Opcode::Text, text.as_bytes()),
        Message::Binary(bytes) => write_frame(out, Opcode::Binary, bytes),
        Message::Ping(payload) => write_frame(out, Opcode::Pong, payload),
        Message::Pong | Message::Close(_) => {}
    }
}

/// Whether permessage-deflate was agreed on, and what came behind the head.
fn shake_hands(stream: &mut TcpStream) -> io::Result<(bool, Vec<u8>)> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 || head.len() > HEAD_MAX {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..n]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&head).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let httparse::Status::Complete(length) = parsed else { continue };
        let values = |name: &'static str| {
            let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value)
        };
        let key = values("Sec-WebSocket-Key").next().unwrap_or_default();
        let offers = values("Sec-WebSocket-Extensions").filter_map(|value| std::str::from_utf8(value).ok());
        let deflated = offers.flat_map(|value| value.split(',')).map(str::trim).any(deflate::accepts);
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            accept_key(key)
        );
        if deflated {
            answer.push_str(&format!("Sec-WebSocket-Extensions: {}\r\n", deflate::ACCEPTED));
        }
        answer.push_str("\r\n");
        stream.write_all(answer.as_bytes())?;
        return Ok((deflated, head[length..].to_vec()));
    }
}
