//! Attacks for real, all at once and small: each is answered as it must be, nobody honest loses anything, and memory stays bounded. What a client feels of
//! them at full strength is measured by `hearth bench attacks`; here is no clock.
use hearth_bench::attacks::{Attack, Plan, Seen, attack};
use hearth_tests::{client::Client, heavy, process::Hearth, token};
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// By how much the attacks are weaker than in earnest: small enough for a machine that builds beside.
const WEAKER: u32 = 20;
/// Slow heads are ended after ten seconds, and looked at once a second.
const SLOW: Duration = Duration::from_secs(13);
const SHORT: Duration = Duration::from_secs(3);
/// What a debug build may hold at most, in KiB.
const MEMORY_KIB: u64 = 256 * 1024;
/// So often the honest one speaks: below the rate that it is allowed.
const HONEST: Duration = Duration::from_millis(50);

/// 29. Slowloris, half-open handshakes, rapid resets, endless heads, bombs, floods, depth, garbage, forged tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_clients_outlive_all_attacks_at_once() {
    let _turn = heavy().await;
    let limits = ["--rate-limit", "60", "--rate-burst", "60", "--trusted-proxies", "127.0.0.1"];
    let hearth = Hearth::serve(&[&limits[..], &["--jwt-hs256-secret", token::SECRET]].concat()).await;
    let (http, grpc) = (hearth.http(), hearth.grpc());
    let (mut ann, _) = Client::enter(http, &format!("/ws/honest?token={}", token::of("ann"))).await;
    let (mut bob, _) = Client::enter(http, &format!("/ws/honest?token={}", token::of("bob"))).await;

    let mut attacks = JoinSet::new();
    for &kind in Attack::all() {
        let lasting = if matches!(kind, Attack::Slowloris | Attack::HalfOpen) { SLOW } else { SHORT };
        // One user each: whoever is limited is limited alone.
        let user = token::of(&format!("mallory-{}", kind.name()));
        let plan = Plan::divided(kind, http, grpc, user, WEAKER, lasting);
        attacks.spawn(async move { (kind, attack(kind, &plan).await) });
    }
    let mut clock = tokio::time::interval(HONEST);
    let (begun, mut published) = (Instant::now(), 0);
    let mut seen: Vec<(Attack, Seen)> = Vec::new();
    while let Some(done) = attacks.try_join_next().map(Some).or((!attacks.is_empty()).then_some(None)) {
        seen.extend(done.map(Result::unwrap));
        clock.tick().await;
        published += 1;
        let text = published.to_string();
        assert_eq!(ann.publish("honest", &text).await, published, "acknowledged in order");
    }
    for n in 1..=published {
        let told = bob.find(|frame| frame["type"] == "text").await;
        assert_eq!(told["seq"], n, "delivered once and in order");
    }
    assert!(begun.elapsed() >= SLOW && seen.len() == Attack::all().len());

    for (kind, seen) in seen {
        println!("{}: did {:?}, was answered {:?}", kind.name(), seen.did, seen.answers);
        for wanted in kind.expected() {
            let is_there = seen.answers.keys().any(|answer| answer.starts_with(wanted));
            assert!(is_there, "{}: {wanted} is not in {:?}", kind.name(), seen.answers);
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", hearth.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY_KIB, "{peak} KiB at most");
    // Whoever comes after is served as ever.
    let (mut eve, _) = Client::enter(http, &format!("/ws/later?token={}", token::of("eve"))).await;
    assert_eq!(eve.publish("later", "1").await, 1);
}
