//! Bytes that break WebSocket itself, or this server's use of it: each case ends with its exact close code, and nobody
//! else notices.
use hearth_tests::{
    client::Client,
    http,
    process::Hearth,
    raw::{BINARY, CLOSE, CONTINUATION, PING, PONG, Raw, TEXT},
    within,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FIN: u8 = 0x80;

/// What is sent after the handshake, and how the connection is closed.
#[tokio::test]
async fn broken_frames_end_with_their_codes() {
    let hearth = Hearth::serve(&["--max-message-bytes", "1000"]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let frame = Raw::frame;
    let (protocol, too_big, not_text) =
        ((1002, "protocol_error"), (1009, "too_big"), (1007, "invalid_payload"));
    let unmasked = [Raw::head(FIN | TEXT, 0, 2), b"{}".to_vec()].concat();
    let fragments = |parts: &[&[u8]]| {
        let last = parts.len() - 1;
        let part = |n: usize| {
            let opcode = if n == 0 { TEXT } else { CONTINUATION };
            frame(if n == last { FIN | opcode } else { opcode }, parts[n])
        };
        (0..parts.len()).flat_map(part).collect::<Vec<u8>>()
    };
    let rows: Vec<(&str, Vec<u8>, (u16, &str))> = vec![
        ("binary on JSON", frame(FIN | BINARY, b"{}"), (1003, "unsupported_data")),
        ("empty binary", frame(FIN | BINARY, b""), (1003, "unsupported_data")),
        ("one byte too many", frame(FIN | TEXT, &[b' '; 1001]), too_big),
        ("too many in fragments", fragments(&[&[b' '; 600], &[b' '; 600]]), too_big),
        // Nothing but the head: it need not be awaited, far less kept.
        ("a head that promises 1 GiB", Raw::head(FIN | TEXT, 0x80, 1 << 30), too_big),
        ("a length beyond 63 bits", vec![FIN | TEXT, 0x80 | 127, 0xff, 0, 0, 0, 0, 0, 0, 0], (0, "")),
        ("not UTF-8", frame(FIN | TEXT, b"{\"a\":\"\xff\"}"), not_text),
        ("half a character at the end", frame(FIN | TEXT, b"\xc3"), not_text),
        ("a surrogate", frame(FIN | TEXT, b"\xed\xa0\x80"), not_text),
        ("half a character before the end", fragments(&[b"\xc3", b"x"]), not_text),
        ("unmasked", unmasked, protocol),
        ("reserved bit 1", frame(FIN | 0x40 | TEXT, b"{}"), protocol),
        ("reserved bit 2", frame(FIN | 0x20 | TEXT, b"{}"), protocol),
        ("reserved bit 3", frame(FIN | 0x10 | PING, b""), protocol),
        ("opcode 3", frame(FIN | 0x3, b""), protocol),
        ("opcode 15", frame(FIN | 0xf, b""), protocol),
        ("a ping in fragments", frame(PING, b""), protocol),
        ("a long ping", frame(FIN | PING, &[0; 126]), protocol),
        ("a long close", frame(FIN | CLOSE, &[3; 126]), protocol),
        ("continues nothing", frame(FIN | CONTINUATION, b"{}"), protocol),
        ("text amid fragments", [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat(), protocol),
        ("a close of one byte", frame(FIN | CLOSE, &[3]), protocol),
        ("close code 999", frame(FIN | CLOSE, &999u16.to_be_bytes()), protocol),
        ("close code 1005", frame(FIN | CLOSE, &1005u16.to_be_bytes()), protocol),
        ("close code 5000", frame(FIN | CLOSE, &5000u16.to_be_bytes()), protocol),
    ];
    for (name, bytes, (code, reason)) in rows {
        let mut raw = Raw::connect(hearth.http(), "/ws/room?user=raw").await;
        raw.send(&bytes).await;
        let closed = raw.closed().await;
        if code == 0 {
            // Both are true of it.
            assert!([1002, 1009].contains(&closed.0), "{name}: {closed:?}");
        } else {
            assert_eq!(closed, (code, reason.to_owned()), "{name}");
        }
        // The client has heard it, answers and goes.
        raw.send(&frame(FIN | CLOSE, &closed.0.to_be_bytes())).await;
        raw.finish().await;
        assert_eq!(raw.next().await, None, "{name}: nothing comes after a close");
    }
    ann.publish("room", "1").await;
    assert_eq!(ann.next().await["seq"], 1);
}

/// A close without a word, and one with a code of the client's own, are answered in kind.
#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let hearth = Hearth::serve(&[]).await;
    for (payload, code) in
        [(vec![], 1005), (1000u16.to_be_bytes().to_vec(), 1000), (4321u16.to_be_bytes().to_vec(), 4321)]
    {
        let mut raw = Raw::connect(hearth.http(), "/ws/room?user=raw").await;
        raw.send(&Raw::frame(FIN | CLOSE, &payload)).await;
        assert_eq!(raw.closed().await.0, code);
        assert_eq!(raw.next().await, None);
    }
}

/// What is unusual and allowed: fragments with a ping between them, empty fragments, frames cut at every byte, many frames
/// in one packet, and the largest message that is taken.
#[tokio::test]
async fn unusual_frames_are_understood() {
    let hearth = Hearth::serve(&["--max-message-bytes", "1000"]).await;
    let mut raw = Raw::connect(hearth.http(), "/ws?user=raw").await;
    assert!(raw.next().await.unwrap().text().contains("welcome"));
    let frame = Raw::frame;
    raw.send(&[frame(TEXT, b"{\"type\":"), frame(FIN | PING, b"now"), frame(CONTINUATION, b"")].concat())
        .await;
    let pong = raw.next().await.unwrap();
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, b"now".as_slice()));
    raw.send(&frame(FIN | CONTINUATION, b"\"ping\",\"id\":\"1\"}")).await;
    assert!(raw.next().await.unwrap().text().contains(r#""id":"1""#));
    // A character in two fragments.
    raw.send(&frame(TEXT, b"{\"type\":\"ping\",\"id\":\"\xc3")).await;
    raw.send(&frame(FIN | CONTINUATION, b"\xa9\"}")).await;
    assert!(raw.next().await.unwrap().text().contains(r#""id":"é""#));
    for byte in frame(FIN | TEXT, br#"{"type":"ping","id":"slow"}"#) {
        raw.send(&[byte]).await;
    }
    assert!(raw.next().await.unwrap().text().contains(r#""id":"slow""#));
    let many: Vec<u8> = (0..50)
        .flat_map(|n| frame(FIN | TEXT, format!(r#"{{"type":"ping","id":"m{n}"}}"#).as_bytes()))
        .collect();
    raw.send(&many).await;
    for n in 0..50 {
        assert!(raw.next().await.unwrap().text().contains(&format!(r#""id":"m{n}""#)));
    }
    let largest = format!("{:<1000}", r#"{"type":"ping","id":"large"}"#);
    raw.send_text(&largest).await;
    assert!(raw.next().await.unwrap().text().contains(r#""id":"large""#));
    raw.send(&frame(FIN | PONG, b"unasked")).await;
    raw.send_text(r#"{"type":"ping","id":"end"}"#).await;
    assert!(raw.next().await.unwrap().text().contains(r#""id":"end""#));
}

/// Frames that came in one packet with the handshake are not lost, and neither is a publish right before a close.
#[tokio::test]
async fn a_client_in_a_hurry_is_heard() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let mut stream = TcpStream::connect(hearth.http()).await.unwrap();
    let mut bytes = format!(
        "GET /ws?user=hurry HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        hearth.http()
    )
    .into_bytes();
    bytes.extend(Raw::frame(FIN | TEXT, br#"{"type":"text","id":"1","room":"room","data":{"n":1}}"#));
    bytes.extend(Raw::frame(FIN | CLOSE, &1000u16.to_be_bytes()));
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    within("the end", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let heard = ann.next().await;
    assert_eq!((&heard["id"], &heard["data"]["author"]), (&json!("1"), &json!("hurry")));
}

/// A handshake that is none is answered in HTTP, so that whoever sent it can read why.
#[tokio::test]
async fn handshakes_that_are_none() {
    let hearth = Hearth::serve(&[]).await;
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket"];
    let version = "Sec-WebSocket-Version: 13";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let with = |more: &[&'static str]| [upgrade.as_slice(), more].concat();
    let rows = [
        ("no upgrade", "GET", vec![], 426),
        ("a version from the past", "GET", with(&["Sec-WebSocket-Version: 8", key]), 426),
        ("no version", "GET", with(&[key]), 426),
        ("no key", "GET", with(&[version]), 400),
        ("a key that is none", "GET", with(&[version, "Sec-WebSocket-Key: short"]), 400),
        ("another method", "POST", with(&[version, key]), 405),
    ];
    for (name, method, headers, status) in rows {
        let response = http::ask(hearth.http(), method, "/ws/room", &headers).await.unwrap();
        assert_eq!(response.status, status, "{name}: {response:?}");
        if status == 426 {
            assert_eq!(response.header("sec-websocket-version"), Some("13"), "{name}: {response:?}");
        }
    }
}

/// A page from elsewhere is refused before the handshake, in dev mode too; one from this machine, from the edge itself, or
/// from nowhere, is not.
#[tokio::test]
async fn strange_origins_are_refused_before_the_handshake() {
    let hearth = Hearth::serve(&[]).await;
    let own = format!("http://{}", hearth.http());
    let strange =
        ["https://evil.test", "http://localhost.evil.test", "null", "http://127.0.0.1.evil.test:80"];
    let fine = [own.as_str(), "http://localhost:5173", "http://127.0.0.1:9"];
    let handshake = async |origin: &str| {
        let request = format!(
            "GET /ws/room HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\r\n",
            hearth.http()
        );
        let mut stream = TcpStream::connect(hearth.http()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        within("a status", stream.read_exact(&mut status)).await.unwrap();
        String::from_utf8_lossy(&status[9..]).into_owned()
    };
    for origin in strange {
        assert_eq!(handshake(origin).await, "403", "{origin}");
    }
    for origin in fine {
        assert_eq!(handshake(origin).await, "101", "{origin}");
    }
}

/// Subprotocols: ours is chosen when it is offered. Where none of ours is, a browser would drop the connection anyway, so
/// it is refused where one can see why.
#[tokio::test]
async fn the_subprotocol_is_chosen_from_those_offered() {
    let hearth = Hearth::serve(&[]).await;
    for (offered, status, chosen) in [
        ("hearth.v1.json", 101, Some("hearth.v1.json")),
        ("chat, hearth.v1.json", 101, Some("hearth.v1.json")),
        ("hearth.v1.proto", 101, Some("hearth.v1.proto")),
        ("hearth.v1.proto, hearth.v1.json", 101, Some("hearth.v1.proto")),
        ("bearer.x, hearth.v1.json, hearth.v1.proto", 101, Some("hearth.v1.json")),
        ("chat", 400, None),
    ] {
        let mut stream = TcpStream::connect(hearth.http()).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {offered}\r\n\r\n",
            hearth.http()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the head", stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        let found = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(found, chosen, "{offered}");
    }
}
