//! Attacks on HTTP/1.1 before there is a session: heads that do not end, heads that are too long, tokens that are none.
use super::{
    Plan, Seen,
    pace::Pace,
    talk::{self, PATIENCE, Talk},
};
use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// A slow one sends a byte so often.
const DRIP: Duration = Duration::from_secs(1);
const BEGINNING: &[u8] = b"GET /ws/room HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX-Slow: ";
/// What a head of a mebibyte is sent in.
const PORTION: usize = 16 * 1024;

/// What those do who hold a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// A byte now and then.
    Drip,
    /// Nothing more.
    Silent,
}

/// Holds so many connections, and opens another for each that the server ends.
pub(super) async fn hold(plan: &Plan, how: Hold, seen: &mut Seen) {
    let mut held: VecDeque<(TcpStream, Instant)> = VecDeque::new();
    let mut pace = Pace::new(plan.rate, plan.lasting);
    let mut most = 0;
    let mut look = Instant::now();
    while let Some(portion) = pace.portion().await {
        for _ in 0..portion.min(plan.connections.saturating_sub(held.len()) as u64) {
            match timeout(PATIENCE, begin(plan.http)).await {
                Ok(Ok(stream)) => {
                    seen.did("connections begun", 1);
                    held.push_back((stream, Instant::now()));
                }
                _ => seen.answer("no connection"),
            }
        }
        most = most.max(held.len());
        if look.elapsed() < DRIP {
            continue;
        }
        look = Instant::now();
        held.retain(|(stream, since)| {
            if how == Hold::Drip && stream.try_write(b"x").is_ok() {
                seen.did("bytes dripped", 1);
            }
            let mut answer = [0; 512];
            match stream.try_read(&mut answer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Ok(read @ 1..) if talk::status(&answer[..read]) == "503" => seen.answer("503"),
                // A head that did not come in time: by 408, by an end without a word, or by a reset.
                _ => seen.answer(format!("ended after {} s", since.elapsed().as_secs())),
            }
            false
        });
    }
    seen.did("held at once, at most", most as u64);
}

async fn begin(http: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(BEGINNING).await?;
    Ok(stream)
}

/// Heads of a mebibyte, as far as the server takes them.
pub(super) async fn giant(plan: &Plan, seen: &mut Seen) {
    let mut pace = Pace::new(plan.rate, plan.lasting);
    while let Some(portion) = pace.portion().await {
        for _ in 0..portion {
            seen.did("heads of a mebibyte", 1);
            let answer = timeout(PATIENCE, one_giant(plan.http)).await;
            seen.answer(match answer {
                Ok(Ok(status)) => status,
                Ok(Err(_)) => "reset".to_owned(),
                Err(_) => "no answer".to_owned(),
            });
        }
    }
}

async fn one_giant(http: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Giant: ").await?;
    let (mut answer, mut sent) = ([0; 512], 0);
    while sent < 1 << 20 {
        // The server may have said its word already, and a write to one that is gone would lose it.
        match stream.try_read(&mut answer) {
            Ok(read @ 1..) => return Ok(talk::status(&answer[..read])),
            Ok(0) => break,
            _ => {}
        }
        if stream.write_all(&[b'x'; PORTION]).await.is_err() {
            break;
        }
        sent += PORTION;
    }
    let read = stream.read(&mut answer).await?;
    Ok(talk::status(&answer[..read]))
}

/// Where forged tokens come from, as the proxy that is trusted says: an address that guesses is not heard for a while, and the others' is to be.
const GUESSER: &str = "X-Forwarded-For: 203.0.113.9\r\n";

/// A token that somebody else signed, at a WebSocket and at a request.
pub(super) async fn bad_tokens(plan: &Plan, seen: &mut Seen) {
    let mut pace = Pace::new(plan.rate, plan.lasting);
    let forged = match plan.token.rsplit_once('.') {
        Some((signed, signature)) => format!("{signed}.{}", signature.chars().rev().collect::<String>()),
        None => "forged".to_owned(),
    };
    let mut by_socket = false;
    while let Some(portion) = pace.portion().await {
        for _ in 0..portion {
            by_socket = !by_socket;
            if by_socket {
                seen.did("handshakes", 1);
                match Talk::open(plan.http, &format!("/ws/room?token={forged}"), GUESSER).await {
                    Ok(talk) => talk.last_words(seen).await,
                    Err(answer) => seen.answer(answer),
                }
            } else {
                seen.did("requests", 1);
                let head = format!(
                    "GET /rooms/room/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{GUESSER}Authorization: Bearer {forged}\r\n\r\n"
                );
                seen.answer(ask(plan.http, head.as_bytes()).await);
            }
        }
    }
}

/// The status of the answer to one request.
pub(super) async fn ask(http: SocketAddr, request: &[u8]) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(http).await?;
        stream.write_all(request).await?;
        let mut answer = [0; 512];
        let read = stream.read(&mut answer).await?;
        io::Result::Ok(talk::status(&answer[..read]))
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok(status)) => status,
        Ok(Err(_)) => "reset".to_owned(),
        Err(_) => "no answer".to_owned(),
    }
}
