//! What an edge says over plain HTTP.
use hearth_tests::{
    client::Client,
    http::{self, metric},
    process::{Hearth, command},
};
use serde_json::json;

/// Alive, and ready: not the same thing, as a balancer knows.
#[tokio::test]
async fn an_edge_without_a_core_lives_and_is_not_ready() {
    let mut core = Hearth::core(&[]).await;
    let edge = Hearth::edge(core.grpc(), &[]).await;
    hearth_tests::eventually("an edge that is ready", async || {
        (http::get(edge.http(), "/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    core.kill();
    hearth_tests::eventually("an edge that is not", async || {
        (http::get(edge.http(), "/readyz", &[]).await.status == 503).then_some(())
    })
    .await;
    assert_eq!(http::get(edge.http(), "/healthz", &[]).await.status, 200);
}

/// A core alone has its own address for the same three pages.
#[tokio::test]
async fn a_core_has_metrics_of_its_own() {
    let metrics = hearth_tests::process::lasting_address();
    let core = Hearth::core(&["--metrics", &metrics]).await;
    let metrics = metrics.parse().unwrap();
    let mut rooms = hearth_tests::grpc::rooms(core.grpc()).await;
    hearth_tests::grpc::publish(&mut rooms, "room", 1).await;
    assert_eq!(http::get(metrics, "/healthz", &[]).await.status, 200);
    assert_eq!(http::get(metrics, "/readyz", &[]).await.status, 200);
    assert!(http::get(metrics, "/metrics", &[]).await.body.contains("hearth_"));
}

/// What is counted is counted right.
#[tokio::test]
async fn metrics_count_what_happens() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/room?user=ann").await;
    let (mut ben, _) = Client::enter(hearth.http(), "/ws/room?user=ben").await;
    for n in 1..=10 {
        ann.publish("room", &n.to_string()).await;
    }
    ben.find(|frame| frame["seq"] == 10).await;
    let page = http::get(hearth.http(), "/metrics", &[]).await;
    assert!(
        page.header("content-type")
            .is_some_and(|it| it.contains("openmetrics-text") || it.contains("text/plain"))
    );
    assert!(page.body.trim_end().ends_with("# EOF"), "the end is marked");
    for line in page.body.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("hearth_"), "{line}");
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
    }
    let right = [
        ("hearth_edge_connections", 2.0),
        ("hearth_edge_messages_in_total", 10.0),
        ("hearth_edge_deliveries_total", 20.0),
        ("hearth_edge_slow_consumers_total", 0.0),
        ("hearth_edge_backlog_bytes", 0.0),
        ("hearth_core_sessions", 2.0),
        ("hearth_core_rooms", 1.0),
        ("hearth_link_attached", 1.0),
        ("hearth_link_pending", 0.0),
    ];
    // A delivery is counted when it is written, which its reader may know first.
    hearth_tests::eventually("the right numbers", async || {
        let body = http::get(hearth.http(), "/metrics", &[]).await.body;
        let wrong: Vec<_> =
            right.iter().filter(|(name, value)| metric(&body, name) != Some(*value)).collect();
        if !wrong.is_empty() {
            println!("not yet: {wrong:?}");
        }
        wrong.is_empty().then_some(())
    })
    .await;
}

/// The playground is one page that needs nothing from anywhere else, and is not there when it is not wanted.
#[tokio::test]
async fn the_playground_is_one_page() {
    let hearth = Hearth::serve(&[]).await;
    let page = http::get(hearth.http(), "/", &[]).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").is_some_and(|it| it.starts_with("text/html")), "{}", page.head);
    for host in ["src=\"http", "href=\"http", "src='http", "url(http", "@import"] {
        assert!(!page.body.contains(host), "the page loads from elsewhere: {host}");
    }
    let without = Hearth::serve(&["--playground", "off"]).await;
    assert_eq!(http::get(without.http(), "/", &[]).await.status, 404);
}

/// Errors are problems in the sense of RFC 9457, with the same code words as everywhere else.
#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let hearth = Hearth::serve(&[]).await;
    for (method, target, status, code) in [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/nothing/at/all", 404, "not_found"),
        ("DELETE", "/healthz", 405, "unimplemented"),
    ] {
        let response = http::ask(hearth.http(), method, target, &[]).await.unwrap();
        assert_eq!(response.status, status, "{target}: {response:?}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{target}");
        let problem: serde_json::Value = serde_json::from_str(response.body.trim()).unwrap();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{target}");
    }
}

/// Without tokens, an address that others can reach is refused; and so is a setting that is none.
#[tokio::test]
async fn a_careless_start_is_refused() {
    let rows: [(&[&str], &str); 4] = [
        (&["serve", "--http", "0.0.0.0:0", "--grpc", "127.0.0.1:0"], "--insecure"),
        (&["core", "--grpc", "0.0.0.0:0"], "--insecure"),
        (&["serve", "--heartbeat", "soon"], "--heartbeat"),
        (&["edge", "--http", "127.0.0.1:0"], "--core"),
    ];
    for (args, named) in rows {
        let output = command().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{args:?} started");
        assert!(said.contains(named), "{args:?}: {said}");
    }
    let help = command().arg("--help").output().unwrap();
    assert!(help.status.success());
    let help = String::from_utf8_lossy(&help.stdout);
    for word in ["serve", "core", "edge", "check-config", "--http"] {
        assert!(help.contains(word), "{word} is missing from the help:\n{help}");
    }
}
