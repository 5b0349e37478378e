//! TLS at the doors of browsers and services: which versions and protocols, how a connection ends, what is read anew, and what is done about
//! those who do not mean it. That every transport keeps its contract over it is in `conformance`.
use bytes::Bytes;
use hearth_tests::{
    client::{Client, request},
    eventually, grpc, http,
    process::{self, Hearth},
    raw::{CLOSE, Raw, TEXT},
    secure::{self, Authority, Tunnel, Validity},
    within,
};
use serde_json::json;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{
    client::TlsStream,
    rustls::{
        ClientConfig, ProtocolVersion,
        version::{TLS12, TLS13},
    },
};

async fn serve(authority: &Authority, flags: &[&str]) -> Hearth {
    let own = authority.server_flags();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    Hearth::serve(&[&own, flags].concat()).await
}

/// One request on a connection that then ends, and what came.
async fn ask(server: SocketAddr, config: Arc<ClientConfig>, target: &str) -> io::Result<String> {
    let mut stream = secure::connect(server, config).await?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // An end without a goodbye is an error here.
    within("the whole answer", stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Browsers choose HTTP/2 by ALPN, others HTTP/1.1, in TLS 1.3 and 1.2.
#[tokio::test]
async fn both_versions_of_http_in_both_versions_of_tls() {
    let authority = Authority::new();
    let hearth = serve(&authority, &[]).await;
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = authority.client_of(&[version], &["http/1.1"]);
        let stream = secure::connect(hearth.http(), config.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
        let answer = ask(hearth.http(), config, "/healthz").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");

        let config = authority.client_of(&[version], &["h2", "http/1.1"]);
        let stream = secure::connect(hearth.http(), config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut http2, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let uri = format!("https://{}/healthz", hearth.http());
        let request = ::http::Request::get(uri).body(()).unwrap();
        let (answer, _) = http2.send_request(request, true).unwrap();
        let mut answer = within("an answer by HTTP/2", answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), Bytes::from_static(b"ok"));
    }
    let error = secure::connect(hearth.grpc(), authority.client(&["http/1.1"])).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "gRPC is HTTP/2 alone: {error}");
}

/// What is older than 1.2 is answered by the alert that says so.
#[tokio::test]
async fn tls_1_1_is_not_spoken() {
    let authority = Authority::new();
    let hearth = serve(&authority, &[]).await;
    // A client's hello: version 3.2, 32 bytes of randomness, no session, one suite of those days, no compression.
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let hello = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    let record = [&[22, 3, 1, 0, hello.len() as u8][..], &hello].concat();
    for door in [hearth.http(), hearth.grpc()] {
        let mut stream = TcpStream::connect(door).await.unwrap();
        stream.write_all(&record).await.unwrap();
        let mut answer = Vec::new();
        within("the end", stream.read_to_end(&mut answer)).await.unwrap();
        // An alert, fatal: `protocol_version`, or `handshake_failure` where it is the suites that tell.
        assert!(matches!(answer[..], [21, 3, _, 0, 2, 2, 70 | 40]), "{answer:?}");
    }
}

/// A large message both ways, the close handshake of WebSocket, and then that of TLS.
#[tokio::test]
async fn a_websocket_ends_with_the_goodbye_of_tls() {
    let authority = Authority::new();
    let hearth = serve(&authority, &[]).await;
    let mut stream = upgraded(&hearth, &authority, "/ws/r?user=ann").await;
    let text = "x".repeat(60_000);
    let message = json!({"type": "text", "id": "large", "room": "r", "data": {"content": text}}).to_string();
    stream.write_all(&Raw::frame(0x80 | TEXT, message.as_bytes())).await.unwrap();
    let (mut heard, mut last) = (false, 0);
    while !(heard && last == 1) {
        let (opcode, payload) = frame(&mut stream).await.unwrap();
        assert_eq!(opcode, TEXT);
        let told: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        heard |= told["type"] == "text" && told["data"]["content"] == text.as_str();
        last = told["data"]["seq"].as_u64().unwrap_or(last);
    }
    stream.write_all(&Raw::frame(0x80 | CLOSE, &1000_u16.to_be_bytes())).await.unwrap();
    assert_eq!(frame(&mut stream).await.unwrap(), (CLOSE, 1000_u16.to_be_bytes().to_vec()));
    let mut rest = Vec::new();
    // A socket that is just dropped is an error to TLS: an attacker could have cut it.
    within("the goodbye of TLS", stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

/// Who stops reading behind TLS is cut as in the clear: what waits is bounded, and the close frame comes on a record's border.
#[tokio::test]
async fn a_slow_reader_is_cut_behind_tls() {
    let authority = Authority::new();
    let flags = ["--session-queue-bytes", "131072", "--rate-limit", "0"];
    let hearth = serve(&authority, &flags).await;
    let mut slow = upgraded(&hearth, &authority, "/ws/r?user=slow").await;
    let tunnel = Tunnel::start(hearth.http(), authority.client(&["http/1.1"])).await;
    let (mut ann, _) = Client::enter(tunnel.address(), "/ws/r?user=ann").await;
    let content = "x".repeat(30_000);
    for n in 0..40 {
        let id = format!("id {n}");
        ann.ask(json!({"type": "text", "id": id, "room": "r", "data": {"content": content}})).await;
    }
    let metrics = ask(hearth.http(), authority.client(&[]), "/metrics").await.unwrap();
    assert!(metrics.contains("hearth_edge_slow_consumers_total 1"), "more than a megabyte has come");
    let close = within("the close frame", async {
        loop {
            let (opcode, payload) = frame(&mut slow).await.unwrap();
            if opcode == CLOSE {
                return payload;
            }
        }
    });
    assert_eq!(close.await, [&4002_u16.to_be_bytes()[..], b"slow_consumer"].concat());
}

/// 29. On SIGHUP new connections are shown the new certificate, and nobody is cut. Files that are no good change nothing.
#[tokio::test]
async fn a_new_certificate_is_read_on_sighup() {
    let (authority, next) = (Authority::new(), Authority::new());
    let hearth = serve(&authority, &[]).await;
    let tunnel = Tunnel::start(hearth.http(), authority.client(&["http/1.1"])).await;
    let (mut ann, _) = Client::enter(tunnel.address(), "/ws/r?user=ann").await;
    let [cert, key] = ["server.pem", "server.key"].map(|name| authority.files.path(name));

    for [new_cert, new_key] in [
        ["".to_owned(), "".to_owned()],
        ["nonsense".to_owned(), std::fs::read_to_string(&key).unwrap()],
        next.sign("half", Validity::Good).map(|path| std::fs::read_to_string(path).unwrap())[..1]
            .iter()
            .cloned()
            .chain([std::fs::read_to_string(&key).unwrap()])
            .collect::<Vec<_>>()
            .try_into()
            .unwrap(),
    ] {
        let before = [&cert, &key].map(|path| std::fs::read_to_string(path).unwrap());
        let errors = hearth.said().matches("certificates and keys stay as they were").count();
        std::fs::write(&cert, new_cert).unwrap();
        std::fs::write(&key, new_key).unwrap();
        hearth.signal("HUP");
        eventually("the error", async || {
            let now = hearth.said().matches("certificates and keys stay as they were").count();
            (now > errors).then_some(())
        })
        .await;
        let answer = ask(hearth.http(), authority.client(&[]), "/healthz").await;
        assert!(answer.unwrap().ends_with("ok"), "the old one is in force");
        std::fs::write(&cert, &before[0]).unwrap();
        std::fs::write(&key, &before[1]).unwrap();
    }

    for (new, old) in next.sign("server", Validity::Good).iter().zip([&cert, &key]) {
        std::fs::copy(new, old).unwrap();
    }
    hearth.signal("HUP");
    let metrics = eventually("the new certificate", async || {
        ask(hearth.http(), next.client(&[]), "/metrics").await.ok()
    })
    .await;
    assert!(metrics.contains("hearth_tls_reloads_total{outcome=\"ok\"} 1"), "{metrics}");
    assert!(metrics.contains("hearth_tls_reloads_total{outcome=\"failed\"} 3"), "{metrics}");
    assert!(ask(hearth.http(), authority.client(&[]), "/healthz").await.is_err(), "the old one is gone");
    secure::connect(hearth.grpc(), next.client(&["h2"])).await.expect("services see it, too");
    assert_eq!(ann.publish("r", "still here").await, 1, "who was in stays in");
}

/// A deployment may send SIGHUP to all of its processes.
#[tokio::test]
async fn sighup_without_tls_does_nothing() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/r?user=ann").await;
    hearth.signal("HUP");
    eventually("a word about it", async || hearth.said().contains("no TLS").then_some(())).await;
    assert_eq!(ann.publish("r", "still here").await, 1);
}

/// Whoever asks a TLS port in the clear is told so; nonsense is the end of the connection, and nothing else's.
#[tokio::test]
async fn what_is_no_tls_ends_at_the_door() {
    let authority = Authority::new();
    let hearth = serve(&authority, &[]).await;
    let answer = http::get(hearth.http(), "/healthz", &[]).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("this port speaks TLS"), "{answer:?}");
    let garbage =
        [&[0][..], &[0xff; 300], &[22, 3, 1, 0xff, 0xff, 1, 2, 3], &[22, 3, 3, 0, 4, 1, 0xff, 0xff, 0xff]];
    for door in [hearth.http(), hearth.grpc()] {
        for bytes in garbage {
            let mut stream = TcpStream::connect(door).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // A reset is an end, too.
            let _ = within("the end", stream.read_to_end(&mut answer)).await;
            assert!(answer.len() < 10, "an alert at most: {answer:?}");
        }
    }
    assert!(ask(hearth.http(), authority.client(&[]), "/healthz").await.unwrap().ends_with("ok"));
    secure::connect(hearth.grpc(), authority.client(&["h2"])).await.unwrap();
    assert!(!hearth.said().contains("panicked"));
}

/// 30. Handshakes that are begun and not finished are cut in time, and as many as there may be keep nobody out.
#[tokio::test]
async fn half_open_handshakes_are_bounded() {
    const HALF_OPEN: usize = 1100;
    let _turn = hearth_tests::heavy().await;
    let authority = Authority::new();
    let hearth = serve(&authority, &[]).await;
    let mut half_open = Vec::new();
    for _ in 0..HALF_OPEN {
        half_open.push(TcpStream::connect(hearth.grpc()).await.unwrap());
    }
    let mut browser = TcpStream::connect(hearth.http()).await.unwrap();
    // The beginning of a hello that does not go on.
    browser.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let began = Instant::now();
    let service = timeout(Duration::from_secs(2), secure::connect(hearth.grpc(), authority.client(&["h2"])));
    service.await.expect("who means it is not kept waiting").unwrap();
    // Bounded: the oldest have made room already.
    let mut byte = [0];
    within("the end of the oldest", half_open[0].read(&mut byte)).await.ok();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let metrics = ask(hearth.http(), authority.client(&[]), "/metrics").await.unwrap();
    let counted = http::metric(&metrics, "hearth_core_tls_failures_total").unwrap();
    assert!(counted >= (HALF_OPEN - 1024) as f64, "{counted}");
    // Bounded in time: the others have ten seconds, here and at the other door.
    let _ = within("the end of the youngest", half_open[HALF_OPEN - 1].read(&mut byte)).await;
    let _ = within("the end of the browser's", browser.read(&mut byte)).await;
    let took = began.elapsed();
    assert!((Duration::from_secs(8)..Duration::from_secs(15)).contains(&took), "{took:?}");
}

/// A full edge says so by TLS as well: to whoever asks, and in band to an EventSource.
#[tokio::test]
async fn a_full_edge_is_told_by_tls() {
    let authority = Authority::new();
    let hearth = serve(&authority, &["--max-connections", "1"]).await;
    let _ann = upgraded(&hearth, &authority, "/ws/r?user=ann").await;
    let config = authority.client(&["h2", "http/1.1"]);
    let answer = ask(hearth.http(), config.clone(), "/healthz").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
    let answer = ask(hearth.http(), config, "/events/r?user=bob").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("overloaded"), "{answer}");
}

/// A drain closes sockets behind TLS with 1001, and the process ends well.
#[tokio::test]
async fn a_drain_reaches_those_behind_tls() {
    let authority = Authority::new();
    let mut hearth = serve(&authority, &[]).await;
    let stream = secure::connect(hearth.http(), authority.client(&["http/1.1"])).await.unwrap();
    let (mut ann, _) = {
        let tunnel = Tunnel::start(hearth.http(), authority.client(&["http/1.1"])).await;
        let stream = TcpStream::connect(tunnel.address()).await.unwrap();
        (Client::shake(stream, request(tunnel.address(), "/ws/r?user=ann")).await.unwrap(), tunnel)
    };
    hearth.terminate();
    assert_eq!(ann.closed().await.0, 1001);
    // One that has asked nothing yet holds nothing up.
    drop(stream);
    assert!(hearth.ended().await.success());
}

/// What is wrong with the files or goes badly together is refused at the start, with the flag and the file; the check says the same.
#[test]
fn bad_files_are_refused_at_the_start() {
    let (authority, other) = (Authority::new(), Authority::new());
    let [cert, key] = authority.sign("server", Validity::Good);
    let [_, others_key] = other.sign("server", Validity::Good);
    let missing = authority.files.path("missing.pem");
    let nonsense =
        authority.files.write("nonsense.pem", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n");
    let broken =
        authority.files.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let encrypted = authority.files.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let edge = ["--core", "https://127.0.0.1:1"];
    let rows: [(&str, Vec<&str>, String); 13] = [
        ("serve", vec!["--tls-cert", &cert], format!("--tls-cert {cert}: it is of no use without its key")),
        (
            "core",
            vec!["--tls-key", &key],
            format!("--tls-key {key}: it is of no use without its certificate"),
        ),
        (
            "serve",
            vec!["--tls-cert", &missing, "--tls-key", &key],
            format!("--tls-cert {missing}: No such file"),
        ),
        (
            "serve",
            vec!["--tls-cert", &key, "--tls-key", &key],
            format!("--tls-cert {key}: there is no certificate"),
        ),
        ("core", vec!["--tls-cert", &nonsense, "--tls-key", &key], format!("--tls-cert {nonsense}: ")),
        ("core", vec!["--tls-cert", &broken, "--tls-key", &key], format!("--tls-cert {broken}: ")),
        (
            "serve",
            vec!["--tls-cert", &cert, "--tls-key", &cert],
            format!("--tls-key {cert}: there is no private key"),
        ),
        (
            "serve",
            vec!["--tls-cert", &cert, "--tls-key", &encrypted],
            format!("--tls-key {encrypted}: the key in it is encrypted"),
        ),
        (
            "serve",
            vec!["--tls-cert", &cert, "--tls-key", &others_key],
            format!("--tls-key {others_key}: it is not the key of {cert}"),
        ),
        (
            "core",
            vec!["--link-ca", &cert],
            "--link-ca: certificates of edges can only be asked for by TLS".into(),
        ),
        (
            "core",
            [&tls[..], &["--link-ca", &key]].concat(),
            format!("--link-ca {key}: there is no certificate"),
        ),
        (
            "edge",
            [&edge[..], &["--link-cert", &cert]].concat(),
            format!("--link-cert {cert}: it is of no use without its key"),
        ),
        (
            "edge",
            vec!["--core", "http://127.0.0.1:1", "--link-ca", &cert],
            "--core http://127.0.0.1:1: nobody is verified there".into(),
        ),
    ];
    for (role, flags, expected) in rows {
        for command in [role, "check-config"] {
            let output = process::command().arg(command).args(&flags).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command} {flags:?}: {said}");
            assert!(said.contains(&expected), "{command} {flags:?} lacks {expected:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    let output = process::command().arg("check-config").args(tls).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A service's typed client by TLS; it shows no certificate, though they are asked for.
#[tokio::test]
async fn a_service_needs_no_certificate() {
    let authority = Authority::new();
    let hearth = Hearth::serve_by_tls(&authority, &["--link-ca", &authority.ca()]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    assert!(grpc::history(&mut rooms, "r").await.is_empty());
}

/// A WebSocket by hand, after its handshake, with a small receive buffer.
async fn upgraded(hearth: &Hearth, authority: &Authority, target: &str) -> TlsStream<TcpStream> {
    let mut stream = secure::connect(hearth.http(), authority.client(&["http/1.1"])).await.unwrap();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        hearth.http()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("the head of the answer", stream.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    // `welcome`: the session is there.
    within("the first frame", frame(&mut stream)).await.unwrap();
    stream
}

/// The next whole frame of a server: its opcode and its payload.
async fn frame(stream: &mut TlsStream<TcpStream>) -> io::Result<(u8, Vec<u8>)> {
    let (first, second) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = match second {
        126 => stream.read_u16().await?.into(),
        127 => stream.read_u64().await?,
        short => short.into(),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await?;
    Ok((first & 0x0f, payload))
}
