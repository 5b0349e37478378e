//! Keys from where they are published (30): they follow one another, their server fails in every way, and nobody is refused for that who need not be.
use hearth_proto::v1::{self, room_service_client::RoomServiceClient};
use hearth_tests::{
    client::{Client, Incoming},
    eventually,
    grpc::channel,
    http,
    keys::{Answer, KeyServer, Signer, document, set},
    process::{self, Hearth},
    sse::Stream,
    token::SECRET,
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tonic::{Code, Request};

async fn serve(server: &KeyServer) -> Hearth {
    Hearth::serve(&["--jwks-url", &server.url()]).await
}

/// What a socket with this token is told first.
async fn verdict(http: SocketAddr, token: &str) -> String {
    match Client::open(http, &format!("/ws/r?token={token}")).await.receive().await {
        Incoming::Frame(frame) if frame["data"]["event"] == "welcome" => {
            format!("welcome {}", frame["data"]["user"].as_str().unwrap())
        }
        Incoming::Closed(code, reason) => format!("{code} {reason}"),
        other => panic!("{other:?}"),
    }
}

/// Counted so often, by outcome.
async fn fetches(http: SocketAddr, outcome: &str) -> f64 {
    let page = http::get(http, "/metrics", &[]).await;
    http::metric(&page.body, &format!("hearth_core_jwks_fetches_total{{outcome=\"{outcome}\"}}"))
        .unwrap_or(0.0)
}

/// The first token of a new key is let in at every door, though nobody has said that there is one; the old one's no longer, once it is gone.
#[tokio::test]
async fn a_new_key_is_known_as_soon_as_a_token_names_it() {
    let (old, new, newer) = (Signer::new("old"), Signer::new("new"), Signer::new("newer"));
    let server = KeyServer::start(set(&[&old])).await;
    let hearth = serve(&server).await;
    assert_eq!(verdict(hearth.http(), &old.token("ann")).await, "welcome ann");
    let (mut ann, _) = Client::enter(hearth.http(), &format!("/ws/r?token={}", old.token("ann"))).await;
    server.publish(set(&[&old, &new]));
    assert_eq!(verdict(hearth.http(), &new.token("bob")).await, "welcome bob");
    assert_eq!(verdict(hearth.http(), &old.token("ann")).await, "welcome ann", "both are good");
    server.publish(set(&[&newer]));
    // A command that follows at once waits with it.
    let bearer = format!("Authorization: Bearer {}", newer.token("carol"));
    let post = http::send(hearth.http(), "POST", "/rooms/r/messages", &[&bearer], r#"{"data":{}}"#).await;
    assert_eq!(post.status, 200, "{}", post.body);
    assert_eq!(verdict(hearth.http(), &old.token("ann")).await, "1008 unauthenticated");
    assert_eq!(verdict(hearth.http(), &new.token("bob")).await, "1008 unauthenticated");
    assert_eq!(ann.publish("r", "m").await, 2, "who is in stays in");
}

#[tokio::test]
async fn a_new_key_is_known_to_calls_and_to_sessions_that_go_on() {
    let (old, new, newer) = (Signer::new("old"), Signer::new("new"), Signer::new("newer"));
    let server = KeyServer::start(set(&[&old])).await;
    let hearth = serve(&server).await;
    let (mut ann, _) = Client::enter(hearth.http(), &format!("/ws/r?token={}", old.token("ann"))).await;
    server.publish(set(&[&new]));
    let ack = ann.ask(json!({"type": "auth", "id": "a", "data": {"token": new.token("ann")}})).await;
    assert_eq!(ack["type"], "ack", "{ack}");
    server.publish(set(&[&newer]));
    let mut rooms = RoomServiceClient::new(channel(hearth.grpc()).await);
    let list = || v1::ListMessagesRequest { room: "r".into(), ..Default::default() };
    let call = |token: &str| {
        let mut request = Request::new(list());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    };
    rooms.list_messages(call(&newer.token("bob"))).await.unwrap();
    let refused = rooms.list_messages(call(&old.token("bob"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// A token that waits for its key keeps nobody else of its edge waiting.
#[tokio::test]
async fn who_waits_for_a_key_waits_alone() {
    let (known, unknown) = (Signer::new("known"), Signer::new("unknown"));
    let server = KeyServer::start(set(&[&known])).await;
    let hearth = serve(&server).await;
    let (mut ann, _) = Client::enter(hearth.http(), &format!("/ws/r?token={}", known.token("ann"))).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    server.publish(Answer::Silence);
    let begun = Instant::now();
    let mut waiting = Client::open(hearth.http(), &format!("/ws/r?token={}", unknown.token("eve"))).await;
    for n in 0..50 {
        ann.publish("r", &format!("m{n}")).await;
    }
    assert_eq!(verdict(hearth.http(), &known.token("bob")).await, "welcome bob");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // Whether it is good nobody knows, so it may come again.
    assert_eq!(waiting.closed().await, (1013, "overloaded".into()));
    let waited = begun.elapsed();
    assert!((2.0..4.0).contains(&waited.as_secs_f64()), "{waited:?}");
}

/// A server that is down at the start: hearth starts, nobody is told that its token is bad, and when the keys come all is well.
#[tokio::test]
async fn without_its_keys_it_starts_and_waits_for_them() {
    let key = Signer::new("k");
    let mut server = KeyServer::start(set(&[&key])).await;
    server.stop().await;
    let core =
        Hearth::core(&["--jwks-url", &server.url(), "--metrics", "127.0.0.1:0", "--link-token", "x"]).await;
    let edge = Hearth::edge(core.grpc(), &["--link-token", "x"]).await;
    let said = core.said();
    let pages = said.lines().find_map(|line| line.strip_prefix("metrics listening on http://")).unwrap();
    let pages: SocketAddr = pages.parse().unwrap();
    assert_eq!(http::get(pages, "/readyz", &[]).await.status, 503);
    assert_eq!(verdict(edge.http(), &key.token("ann")).await, "1013 overloaded");
    let bearer = format!("Authorization: Bearer {}", key.token("ann"));
    let answer = http::get(edge.http(), "/rooms/r/messages", &[&bearer]).await;
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{}", answer.body);
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["code"], "unavailable");
    let mut stream = Stream::open(edge.http(), &format!("/events/r?token={}", key.token("ann"))).await;
    assert_eq!(stream.status, 200, "an EventSource would never come back");
    assert!(stream.rest().await.last().is_some_and(|last| last.tells("overloaded")));
    server.start_again();
    eventually("a welcome", async || {
        (verdict(edge.http(), &key.token("ann")).await == "welcome ann").then_some(())
    })
    .await;
    assert_eq!(http::get(pages, "/readyz", &[]).await.status, 200);
    assert!(fetches(pages, "unreachable").await >= 1.0);
    let age = http::metric(
        &http::get(pages, "/metrics", &[]).await.body,
        "hearth_core_jwks_fetched_timestamp_seconds",
    );
    assert!(age.is_some_and(|at| (hearth_tests::token::now() - at).abs() < 60.0), "{age:?}");
}

/// Whatever its server answers later, what was known stays, and it is counted what went wrong.
#[tokio::test]
async fn what_is_known_is_kept_while_the_server_fails() {
    let (key, other) = (Signer::new("k"), Signer::new("other"));
    let server = KeyServer::start(set(&[&key])).await;
    let hearth = serve(&server).await;
    let http = hearth.http();
    assert_eq!(verdict(http, &key.token("ann")).await, "welcome ann");
    let huge = format!("{{\"pad\":\"{}\",\"keys\":[]}}", "x".repeat(1 << 20));
    let faults = [
        ("unreadable", document("200 OK", "<html>no keys here</html>")),
        ("unreadable", document("200 OK", r#"{"keys":[]}"#)),
        ("unreadable", document("200 OK", r#"{"keys":[{"kty":"oct","kid":"k","k":"c2VjcmV0"}]}"#)),
        ("too_large", document("200 OK", &huge)),
        ("status", document("500 Internal Server Error", "{}")),
        ("status", document(&format!("302 Found\r\nLocation: {}", server.url()), "")),
        ("unreachable", Answer::Half),
    ];
    let mut seen = std::collections::BTreeMap::<&str, f64>::new();
    for (outcome, answer) in faults.iter().take(4) {
        server.publish(answer.clone());
        *seen.entry(outcome).or_default() += 1.0;
        eventually(outcome, async || {
            // A token of another key has it fetched; it is of no use, and nobody can say so.
            let told = verdict(http, &other.token("eve")).await;
            assert!(["1013 overloaded", "1008 unauthenticated"].contains(&&*told), "{told}");
            (fetches(http, outcome).await >= seen[outcome]).then_some(())
        })
        .await;
        assert_eq!(verdict(http, &key.token("ann")).await, "welcome ann", "{outcome}");
    }
    server.publish(set(&[&key, &other]));
    eventually("the other key", async || {
        (verdict(http, &other.token("bob")).await == "welcome bob").then_some(())
    })
    .await;
    for (outcome, answer) in &faults[4..] {
        server.publish(answer.clone());
        let strange = Signer::new("strange");
        let before = fetches(http, outcome).await;
        eventually(outcome, async || {
            verdict(http, &strange.token("eve")).await;
            (fetches(http, outcome).await > before).then_some(())
        })
        .await;
        assert_eq!(verdict(http, &key.token("ann")).await, "welcome ann", "{outcome}");
    }
}

/// Whoever makes up names of keys does not have them fetched again and again.
#[tokio::test]
async fn made_up_keys_do_not_hammer_the_server() {
    let (key, made_up) = (Signer::new("k"), Signer::new("x"));
    let server = KeyServer::start(set(&[&key])).await;
    // So many refused tokens of one address would not even be looked at.
    let hearth = Hearth::serve(&["--jwks-url", &server.url(), "--max-refused-tokens", "0"]).await;
    assert_eq!(verdict(hearth.http(), &key.token("ann")).await, "welcome ann");
    let claims = json!({"sub": "eve", "exp": hearth_tests::token::now() + 60.0});
    let (begun, address) = (Instant::now(), hearth.http());
    let mut n = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        let many = (0..20).map(|at| made_up.sign(&claims, Some(&format!("made up {n} {at}"))));
        let many: Vec<String> = many.map(|token| format!("Authorization: Bearer {token}")).collect();
        let ask =
            |bearer: String| async move { http::get(address, "/rooms/r/messages", &[&bearer]).await.status };
        let statuses = futures_util::future::join_all(many.into_iter().map(ask)).await;
        assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
        n += 1;
    }
    assert!(n > 5, "{n} rounds: they are refused at once");
    assert!(server.asked() <= 5, "asked {} times in 4 s, for {} tokens", server.asked(), n * 20);
    assert_eq!(verdict(hearth.http(), &key.token("ann")).await, "welcome ann");
}

/// Over TLS a server is believed that an authority vouches for; another one's keys are none.
#[tokio::test]
async fn over_tls_only_who_is_vouched_for_is_believed() {
    let key = Signer::new("k");
    let (server, authority) = KeyServer::start_tls(set(&[&key])).await;
    let file = std::env::temp_dir().join(format!("hearth-jwks-{}.pem", std::process::id()));
    std::fs::write(&file, authority).unwrap();
    let file = file.to_str().unwrap();
    let hearth = Hearth::serve(&["--jwks-url", &server.url(), "--jwks-ca", file]).await;
    assert_eq!(verdict(hearth.http(), &key.token("ann")).await, "welcome ann");
    let (_other, stranger) = KeyServer::start_tls(set(&[&key])).await;
    std::fs::write(file, stranger).unwrap();
    let hearth = Hearth::serve(&["--jwks-url", &server.url(), "--jwks-ca", file]).await;
    assert_eq!(verdict(hearth.http(), &key.token("ann")).await, "1013 overloaded");
    assert!(fetches(hearth.http(), "unreachable").await >= 1.0);
    std::fs::remove_file(file).unwrap();
}

/// Several sets and a secret beside each other; a public key is not taken for a secret, whoever publishes it.
#[tokio::test]
async fn keys_of_several_sets_and_a_secret() {
    let (ours, theirs) = (Signer::new("a"), Signer::new("b"));
    let (one, other) = (KeyServer::start(set(&[&ours])).await, KeyServer::start(set(&[&theirs])).await);
    let urls = format!("{},{}", one.url(), other.url());
    let hearth = Hearth::serve(&["--jwks-url", &urls, "--jwt-hs256-secret", SECRET]).await;
    assert_eq!(verdict(hearth.http(), &ours.token("ann")).await, "welcome ann");
    assert_eq!(verdict(hearth.http(), &theirs.token("bob")).await, "welcome bob");
    assert_eq!(verdict(hearth.http(), &hearth_tests::token::of("carol")).await, "welcome carol");
    let forged = hearth_tests::token::signed_with(
        ours.jwk()["x"].as_str().unwrap(),
        &json!({"alg": "HS256", "kid": "a"}),
        &json!({"sub": "eve", "exp": hearth_tests::token::now() + 60.0}),
    );
    assert_eq!(verdict(hearth.http(), &forged).await, "1008 unauthenticated");
}

/// `check-config` looks at what is written, and asks nobody.
#[tokio::test]
async fn settings_are_checked_without_a_fetch() {
    let server = KeyServer::start(set(&[])).await;
    let check = |args: &[&str]| {
        let output = process::command().arg("check-config").args(args).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(&["--jwks-url", &server.url(), "--http", "0.0.0.0:0"]), (true, String::new()));
    assert_eq!(server.asked(), 0);
    for (args, said) in [
        (&["--jwks-url", "keys.test/jwks"][..], "--jwks-url"),
        (&["--jwks-url", "https://ann:pw@keys.test/"], "--jwks-url"),
        (&["--jwks-url", "https://keys.test/", "--jwks-ca", "/nowhere"], "--jwks-ca /nowhere"),
        (&["--jwks-url", "http://keys.test/", "--jwks-ca", "/dev/null"], "--jwks-ca"),
        (&["--jwks-url", "https://keys.test/", "--jwks-ca", "/dev/null"], "--jwks-ca /dev/null"),
    ] {
        let (fine, told) = check(args);
        assert!(!fine && told.contains(said) && !told.contains("ann:pw"), "{args:?}: {told}");
    }
}
