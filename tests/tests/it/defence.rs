//! What is done to a server by those who mean harm, and what the others notice of it: nothing.
use hearth_proto::v1::connect_response::Frame;
use hearth_tests::{
    client::{Client, Incoming},
    eventually,
    grpc::{self, Session},
    heavy,
    http::{self, metric},
    process::Hearth,
    raw::Raw,
    sse::Stream,
    token, within,
};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn counted(http: SocketAddr, name: &str) -> f64 {
    let body = http::get(http, "/metrics", &[]).await.body;
    metric(&body, name).unwrap_or_else(|| panic!("no {name} in {body}"))
}

/// 28. Connections that never ask for anything displace each other, the oldest first. Whoever asks is let in all the while, and whoever is in
/// stays.
#[tokio::test]
async fn half_open_connections_shut_nobody_out() {
    let hearth = Hearth::serve(&["--max-handshakes", "50"]).await;
    let (mut old, _) = Client::enter(hearth.http(), "/ws/room?user=old").await;
    let mut half = Vec::new();
    for n in 0..500 {
        let mut stream = TcpStream::connect(hearth.http()).await.unwrap();
        // Some stop in the middle of a head, some say nothing.
        if n % 2 == 0 {
            stream.write_all(b"GET /ws/room HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        }
        half.push(stream);
        if n % 50 == 0 {
            let (mut ann, _) = Client::enter(hearth.http(), &format!("/ws/room?user=u{n}")).await;
            ann.publish("room", &n.to_string()).await;
        }
    }
    old.publish("room", "last").await;
    eventually("no more than fifty", async || {
        (counted(hearth.http(), "hearth_edge_handshakes").await <= 51.0).then_some(())
    })
    .await;
    let displaced =
        counted(hearth.http(), r#"hearth_edge_http_refusals_total{reason="max_handshakes"}"#).await;
    assert!(displaced >= 400.0, "{displaced}");
    let mut first = half.swap_remove(0);
    // A reset is an end as well.
    let _ = within("the end of the oldest", first.read_to_end(&mut Vec::new())).await;
}

/// 29. A head that is too large, or has too many lines, is told so although its sender has not finished, and nothing hides the answer.
#[tokio::test]
async fn giant_heads_are_told_that_they_are() {
    let hearth = Hearth::serve(&["--max-header-bytes", "8192"]).await;
    let giant = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(1 << 20));
    let many = (0..200).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    for request in [giant, format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n")] {
        for _ in 0..5 {
            let mut stream = TcpStream::connect(hearth.http()).await.unwrap();
            let (mut reads, mut writes) = stream.split();
            let mut answer = String::new();
            let (wrote, read) = within("an answer", async {
                tokio::join!(writes.write_all(request.as_bytes()), reads.read_to_string(&mut answer))
            })
            .await;
            read.unwrap_or_else(|error| panic!("{error} after {answer:?}; {wrote:?}"));
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
    }
    let fits = format!("X: {}", "x".repeat(7000));
    assert_eq!(http::get(hearth.http(), "/healthz", &[&fits]).await.status, 200);
}

/// The patience for heads and for tokens is a setting each.
#[tokio::test]
async fn patience_is_a_setting() {
    let flags = ["--header-timeout", "300ms", "--auth-timeout", "300ms", "--jwt-hs256-secret", token::SECRET];
    let hearth = Hearth::serve(&flags).await;
    let mut half = TcpStream::connect(hearth.http()).await.unwrap();
    half.write_all(b"GET /ws/room HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut stranger = Client::open(hearth.http(), "/ws").await;
    let mut rest = Vec::new();
    let ends = async { tokio::join!(half.read_to_end(&mut rest), stranger.closed()) };
    let (_, closed) =
        tokio::time::timeout(Duration::from_secs(5), ends).await.expect("long before ten seconds");
    assert_eq!(closed, (1008, "unauthenticated".into()));
}

/// The client's preface, with settings that say nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Sends again and again what `next` makes until the server ends the connection: the code of its GOAWAY.
async fn until_goaway(address: SocketAddr, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reads, mut writes) = stream.split();
    let attack = async {
        writes.write_all(PREFACE).await?;
        for n in 0..200_000 {
            writes.write_all(&next(n)).await?;
        }
        std::io::Result::Ok(())
    };
    let told = async {
        loop {
            let mut head = [0; 9];
            reads.read_exact(&mut head).await.expect("a GOAWAY comes before the end");
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            reads.read_exact(&mut payload).await.expect("a whole frame");
            if head[3] == 7 {
                return u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]);
            }
        }
    };
    within("a GOAWAY", async {
        tokio::pin!(told);
        tokio::select! {
            code = &mut told => code,
            // Nobody reads it any more; what it was told is still there.
            _ = attack => told.await,
        }
    })
    .await
}

/// 29. Rapid reset (CVE-2023-44487) and endless CONTINUATION (CVE-2024-27316) end the connection that they come by, at both doors that speak
/// HTTP/2.
#[tokio::test]
async fn abuse_of_http2_ends_its_connection() {
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let hearth = Hearth::serve(&[]).await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    for (address, path) in
        [(hearth.http(), "/rooms/room/messages"), (hearth.grpc(), "/hearth.v1.RoomService/ListRooms")]
    {
        // POST, http, the path and the authority written out.
        let block = [&[0x83, 0x86, 0x04, path.len() as u8], path.as_bytes(), &[0x01, 1], b"x"].concat();
        let resets = until_goaway(address, |n| {
            let batch = (0..100).map(|m| 2 * (n * 100 + m) + 1);
            let reset =
                |stream| [frame(1, 4, stream, &block), frame(3, 0, stream, &8u32.to_be_bytes())].concat();
            batch.flat_map(reset).collect()
        });
        assert_eq!(resets.await, ENHANCE_YOUR_CALM, "{path}");
        let endless = until_goaway(address, |n| match n {
            0 => frame(1, 0, 1, &block),
            _ => frame(9, 0, 1, &[&[0, 1, b'x', 127, 0x81, 0x3f][..], &[b'y'; 8192]].concat()),
        });
        let code = endless.await;
        assert_ne!(code, 0, "{path}: it was no orderly end");
    }
    ann.publish("room", "1").await;
    assert_eq!(grpc::history(&mut rooms, "room").await.len(), 1);
}

/// Near its memory budget nobody new is let in, each by the way that its client understands; health, readiness and metrics answer.
#[tokio::test]
async fn without_memory_nobody_new_is_let_in() {
    let hearth = Hearth::serve(&["--memory-budget", "1"]).await;
    let http = hearth.http();
    let mut client = Client::open(http, "/ws/room?user=ann").await;
    assert_eq!(client.closed().await, (1013, "overloaded".into()));
    let mut first = Stream::open(http, "/events/room?user=ann").await;
    let mut second = Stream::open_second(http, "/events/room?user=ann").await;
    for stream in [&mut first, &mut second] {
        let told = stream.rest().await;
        assert!(told.iter().any(|event| event.tells("overloaded")), "{told:?}");
    }
    for (method, target) in
        [("GET", "/poll/room"), ("GET", "/rooms/room/messages"), ("POST", "/rooms/room/messages")]
    {
        let refused = http::send(http, method, target, &[], r#"{"data":{}}"#).await;
        assert_eq!(refused.status, 503, "{target}: {refused:?}");
        assert!(refused.header("retry-after").is_some(), "{target}: {refused:?}");
    }
    assert_eq!(http::get(http, "/healthz", &[]).await.status, 200);
    let ready = http::get(http, "/readyz", &[]).await;
    assert_eq!((ready.status, ready.body.contains(r#""shedding":true"#)), (503, true), "{ready:?}");
    assert_eq!(counted(http, "hearth_edge_shedding").await, 1.0);
    assert!(counted(http, "hearth_edge_memory_bytes").await > 1e6);
    assert!(counted(http, r#"hearth_edge_http_refusals_total{reason="memory"}"#).await >= 6.0);
}

/// Those who are there when memory gets scarce go on, and what they hold is not taken from them.
#[tokio::test]
async fn memory_that_gets_scarce_is_for_those_who_are_here() {
    let _alone = heavy().await;
    let hearth = Hearth::serve(&["--memory-budget", "60000000"]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/other?user=ben").await;
    let text = "x".repeat(60_000);
    let mut n = 0;
    while counted(hearth.http(), "hearth_edge_shedding").await < 1.0 {
        n += 1;
        assert!(n < 4000, "the history of {n} messages fits into 60 MB");
        let message = json!({"type": "text", "id": n.to_string(), "room": format!("room{}", n % 8), "data": {"x": text}});
        assert_eq!(ann.ask(message).await["type"], "ack");
    }
    assert_eq!(Client::open(hearth.http(), "/ws/room?user=cyd").await.closed().await.0, 1013);
    ben.publish("other", "1").await;
    assert_eq!(ben.next().await["room"], "other");
    ann.publish("room", "more").await;
}

/// Behind a trusted proxy each client is counted by the address that the proxy names, over connections that they share; from anyone else the
/// same header is only a header.
#[tokio::test]
async fn a_trusted_proxy_says_who_it_is_from() {
    let share = ["--max-connections-per-address", "1"];
    let hearth = Hearth::serve(&[&share[..], &["--trusted-proxies", "127.0.0.0/8, fd00::/8"]].concat()).await;
    let from = |address: &str| format!("X-Forwarded-For: {address}");
    let (ann, ben) = (from("198.51.100.1"), from("198.51.100.66, 2001:db8:0:1::7, 127.0.0.9"));
    // The same customer's next address.
    let bens = from("2001:db8:0:1::8");
    let mut first = Raw::asking(hearth.http(), "/ws/room?user=ann", &[&ann]).await;
    let _second = Raw::asking(hearth.http(), "/ws/room?user=ben", &[&ben]).await;
    for taken in [&ann, &bens] {
        let refused = http::get(hearth.http(), "/rooms/room/messages", &[taken]).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("5")), "{refused:?}");
        let mut stream = Stream::open_with(hearth.http(), "/events/room", &[taken]).await;
        let told = stream.rest().await;
        assert!(told.iter().any(|event| event.tells("overloaded")), "{told:?}");
    }
    // One connection, two clients, one after the other: the place is free when the answer is given.
    let mut proxy = TcpStream::connect(hearth.http()).await.unwrap();
    for address in ["203.0.113.1", "203.0.113.2", "203.0.113.1", "nonsense", "203.0.113.2"] {
        let answer =
            http::send_on(&mut proxy, "POST", "/rooms/room/messages", &[&from(address)], r#"{"data":{}}"#)
                .await;
        assert_eq!(answer.status, 200, "{address}: {answer:?}");
    }
    // What is no text is nobody's word, and hides none that a proxy has written behind or before it.
    for (lines, status) in [
        (&b"X-Forwarded-For: \xff, 198.51.100.1"[..], 429),
        (b"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: \xff", 200),
    ] {
        let mut stream = TcpStream::connect(hearth.http()).await.unwrap();
        let head = b"GET /rooms/room/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        let answer = http::exchange(&mut stream, &[&head[..], lines, b"\r\n\r\n"].concat()).await.unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
    }
    first.send(&Raw::frame(0x88, &1000u16.to_be_bytes())).await;
    first.closed().await;
    eventually("ann's place", async || {
        (http::get(hearth.http(), "/rooms/room/messages", &[&ann]).await.status == 200).then_some(())
    })
    .await;

    let plain = Hearth::serve(&share).await;
    let _only = Raw::asking(plain.http(), "/ws/room?user=ann", &[&ann]).await;
    assert_eq!(http::get(plain.http(), "/healthz", &[&ben]).await.status, 429);
}

/// Who has no token, or an old one, is no guesser: an office is not shut out for it. Who brings forged ones on a session that is good is one.
#[tokio::test]
async fn only_forged_tokens_are_guesses() {
    let flags = ["--jwt-hs256-secret", token::SECRET, "--max-refused-tokens", "3"];
    let hearth = Hearth::serve(&flags).await;
    let http = hearth.http();
    let old = token::signed(&json!({"sub": "ann", "exp": token::now() - 60.0}));
    for target in ["/rooms/room/messages".into(), format!("/rooms/room/messages?token={old}")] {
        for _ in 0..5 {
            assert_eq!(http::get(http, &target, &[]).await.status, 401);
        }
    }
    let good = format!("/ws/room?token={}", token::of("ann"));
    let (mut ann, _) = Client::enter(http, &good).await;
    for n in 0..3 {
        let forged = json!({"type": "auth", "id": n.to_string(), "data": {"token": "forged"}});
        assert_eq!(ann.ask(forged).await["data"]["code"], "unauthenticated");
    }
    assert_eq!(Raw::asking(http, &good, &[]).await.closed().await, (1013, "overloaded".into()));
    ann.publish("room", "those who are in stay").await;
}

/// An address whose tokens are refused again and again is not asked any more for a while; other addresses are not meant by it, nor are sessions
/// that it has.
#[tokio::test]
async fn whoever_guesses_tokens_is_not_heard() {
    let flags =
        ["--jwt-hs256-secret", token::SECRET, "--max-refused-tokens", "5", "--trusted-proxies", "127.0.0.1"];
    let hearth = Hearth::serve(&flags).await;
    let http = hearth.http();
    let good = format!("/ws/room?token={}", token::of("ann"));
    let (office, other) = ("X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 198.51.100.2");
    let mut inside = Raw::asking(http, &good, &[office]).await;
    for n in 0..5 {
        match n % 3 {
            0 => {
                let refused = http::get(http, "/rooms/room/messages?token=guess", &[office]).await;
                assert_eq!(refused.status, 401, "{refused:?}");
            }
            1 => {
                let refused = Raw::asking(http, "/ws/room?token=guess", &[office]).await.closed().await;
                assert_eq!(refused.0, 1008);
            }
            _ => {
                let refused = http::get(http, "/events/room?token=guess", &[office]).await;
                assert_eq!(refused.status, 401, "{refused:?}");
            }
        }
    }
    for target in ["/rooms/room/messages", "/poll/room", "/events/room"] {
        let refused = http::get(http, &format!("{target}?token={}", token::of("ann")), &[office]).await;
        assert_eq!(refused.status, 429, "{target}: {refused:?}");
        let wait = refused.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
        assert!(wait.is_some_and(|wait| (1..=2).contains(&wait)), "{target}: {refused:?}");
    }
    assert_eq!(Raw::asking(http, &good, &[office]).await.closed().await, (1013, "overloaded".into()));
    let target = format!("/rooms/room/messages?token={}", token::of("ben"));
    assert_eq!(http::get(http, &target, &[other]).await.status, 200);
    inside.send_text(r#"{"type":"ping","id":"still"}"#).await;
    while !inside.next().await.expect("who is inside stays").text().contains("still") {}
    // A fifth of ten seconds, and one more is looked at.
    eventually("an end of it", async || {
        (http::get(http, &target, &[office]).await.status == 200).then_some(())
    })
    .await;
    assert!(counted(http, r#"hearth_edge_http_refusals_total{reason="refused_tokens"}"#).await >= 4.0);
}

/// 28. A service's stream has the same pace as a browser's session: commands beyond it are refused with the time after which to try again, and a
/// hundred refusals within ten seconds end it.
#[tokio::test]
async fn a_flood_by_grpc_is_refused_and_then_cut() {
    let hearth = Hearth::serve(&["--rate-limit", "10", "--rate-burst", "20"]).await;
    let mut session = Session::connect(hearth.grpc(), "svc").await;
    for n in 0..200 {
        let command = Some(grpc::text("room", "{}"));
        let id = format!("f{n}");
        session.try_send(hearth_proto::v1::ConnectRequest { id, command }).await;
    }
    let (mut acks, mut refusals) = (0, 0);
    let status = loop {
        match session.receive().await {
            Ok(Some(response)) => match response.frame {
                Some(Frame::Ack(_)) => acks += 1,
                Some(Frame::Error(error)) => {
                    assert_eq!(error.code, tonic::Code::ResourceExhausted as i32, "{error:?}");
                    assert!((1..=1000).contains(&error.retry_after_ms), "{error:?}");
                    refusals += 1;
                }
                other => panic!("{other:?}"),
            },
            Ok(None) => panic!("an orderly end after {acks} acks and {refusals} refusals"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    assert!(status.message().starts_with("rate_limited"), "{status:?}");
    assert_eq!(refusals, 99, "the hundredth is the end");
    assert!((20..40).contains(&acks), "{acks}");
}

/// Over HTTP a user has one measure, however many tokens it has.
#[tokio::test]
async fn more_tokens_are_no_more_requests() {
    let flags = ["--jwt-hs256-secret", token::SECRET, "--rate-limit", "1", "--rate-burst", "4"];
    let hearth = Hearth::serve(&flags).await;
    let tokens = ["one", "two"]
        .map(|jti| token::signed(&json!({"sub": "ann", "jti": jti, "exp": token::now() + 3600.0})));
    let mut seen = Vec::new();
    for n in 0..6 {
        let target = format!("/rooms/room/messages?token={}", tokens[n % 2]);
        seen.push(http::get(hearth.http(), &target, &[]).await.status);
    }
    assert_eq!(seen, [200, 200, 200, 200, 429, 429]);
    let target = format!("/rooms/room/messages?token={}", token::of("ben"));
    assert_eq!(http::get(hearth.http(), &target, &[]).await.status, 200);
}

/// 27. Very many slow readers, each within its own bound, are too much together: those for whom most waits are cut, and whoever reads has it all.
#[tokio::test]
async fn what_waits_for_all_together_is_bounded() {
    const ALL: usize = 4_000_000;
    let _alone = heavy().await;
    let bound = ALL.to_string();
    let hearth = Hearth::serve(&["--max-queued-bytes", &bound, "--shards", "1"]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let mut slow = Vec::new();
    for n in 0..30 {
        let target = format!("/ws/room?user=slow{n}");
        slow.push(Raw::connect_with(hearth.http(), &target, Some(4096)).await);
    }
    let text = "x".repeat(20_000);
    let mut most = 0.0f64;
    for n in 1..=45u64 {
        ann.send(json!({"type": "text", "id": n.to_string(), "room": "room", "data": {"x": text}})).await;
        ann.find(|frame| frame["seq"] == n).await;
        most = most.max(counted(hearth.http(), "hearth_edge_backlog_bytes").await);
    }
    // A turn's events come on top, before it is looked.
    assert!(most > 0.5 * ALL as f64 && most < 1.5 * ALL as f64, "{most}");
    let cuts = counted(hearth.http(), "hearth_edge_queue_cuts_total").await;
    assert!(cuts > 0.0 && cuts <= 30.0, "{cuts}");
    assert_eq!(
        counted(hearth.http(), r#"hearth_edge_sessions_closed_total{reason="slow_consumer"}"#).await,
        cuts
    );
}

/// Every answer says what it is, that it is not to be framed, and that where it was asked from stays there.
#[tokio::test]
async fn answers_are_safe_to_show() {
    let hearth = Hearth::serve(&[]).await;
    for target in [
        "/",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/rooms/room/messages",
        "/nowhere",
        "/poll/room?user=a&timeout=0",
    ] {
        let answer = http::get(hearth.http(), target, &[]).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{target}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{target}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{target}: {policy}");
    }
    let page = http::get(hearth.http(), "/", &[]).await;
    assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
    assert_eq!(page.header("cross-origin-resource-policy"), Some("same-origin"));
    assert!(page.header("permissions-policy").is_some());
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    ann.publish("room", "1").await;
    assert!(matches!(ann.receive().await, Incoming::Frame(_)));
}
