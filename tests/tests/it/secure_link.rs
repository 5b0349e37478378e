//! Between edge and core: who is let in by its certificate, who by the link token, who not at all, and what is said of it.
use hearth_tests::{
    client::Client,
    eventually, http,
    process::Hearth,
    secure::{Authority, Validity},
    token,
};

const KEY: [&str; 2] = ["--jwt-hs256-secret", token::SECRET];

/// A core by TLS that asks for tokens and for certificates of edges of this authority.
async fn core(authority: &Authority, more: &[&str]) -> Hearth {
    let (own, ca) = (authority.server_flags(), authority.ca());
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    Hearth::core(&[&KEY[..], &own, &["--link-ca", &ca], more].concat()).await
}

/// Awaits that an edge has found its core.
async fn attached(edge: &Hearth) {
    eventually("the edge at its core", async || {
        (http::get(edge.http(), "/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
}

/// Awaits that an edge says this, and sees that it is not attached.
async fn refused(edge: &Hearth, words: &[&str]) {
    eventually(&format!("{words:?}"), async || {
        let said = edge.said();
        words.iter().all(|word| said.contains(word)).then_some(())
    })
    .await;
    assert_ne!(http::get(edge.http(), "/readyz", &[]).await.status, 200, "it is not attached");
}

/// 28. An edge with a certificate of the right authority needs no link token, and serves.
#[tokio::test]
async fn an_edge_is_let_in_by_its_certificate() {
    let authority = Authority::new();
    let core = core(&authority, &[]).await;
    let ([cert, key], ca) = (authority.sign("edge", Validity::Good), authority.ca());
    let flags = ["--link-ca", &ca, "--link-cert", &cert, "--link-key", &key];
    let edge = Hearth::secure_edge(core.grpc(), &flags).await;
    attached(&edge).await;
    let target = format!("/ws/r?token={}", token::of("ann"));
    let (mut ann, _) = Client::enter(edge.http(), &target).await;
    assert_eq!(ann.publish("r", "hello").await, 1);
}

/// 28. One of another authority, or one that has expired, is refused by an alert, which the edge's log tells with its cure.
#[tokio::test]
async fn a_certificate_that_does_not_hold_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let core = core(&authority, &["--link-token", "between-us"]).await;
    let ca = authority.ca();
    for [cert, key] in [stranger.sign("edge", Validity::Good), authority.sign("old", Validity::Expired)] {
        // The link token does not mend it: who shows something false is not heard.
        let flags =
            ["--link-ca", &ca, "--link-cert", &cert, "--link-key", &key, "--link-token", "between-us"];
        let edge = Hearth::secure_edge(core.grpc(), &flags).await;
        refused(&edge, &["received fatal alert", "--link-cert must be one of the core's --link-ca"]).await;
    }
    assert!(core.said().contains("a client's certificate does not hold"), "the core says so, too");
}

/// 28. Without a certificate it is the link token's turn; with neither the edge is told both ways.
#[tokio::test]
async fn an_edge_without_a_certificate_needs_the_link_token() {
    let authority = Authority::new();
    let ca = authority.ca();
    let with_token = core(&authority, &["--link-token", "between-us"]).await;
    let edge =
        Hearth::secure_edge(with_token.grpc(), &["--link-ca", &ca, "--link-token", "between-us"]).await;
    attached(&edge).await;
    let edge = Hearth::secure_edge(with_token.grpc(), &["--link-ca", &ca]).await;
    refused(&edge, &["link token, or a certificate of its --link-ca"]).await;
    let without = core(&authority, &[]).await;
    let edge = Hearth::secure_edge(without.grpc(), &["--link-ca", &ca, "--link-token", "guessed"]).await;
    refused(&edge, &["needs a certificate of this core's --link-ca"]).await;
}

/// An edge does not speak to a core that another authority has signed, nor in the clear to one that speaks TLS.
#[tokio::test]
async fn an_edge_verifies_its_core() {
    let (authority, other) = (Authority::new(), Authority::new());
    let core = core(&authority, &[]).await;
    let edge = Hearth::secure_edge(core.grpc(), &["--link-ca", &other.ca()]).await;
    refused(&edge, &["invalid peer certificate", "does not hold against --link-ca"]).await;
    let edge = Hearth::edge(core.grpc(), &[]).await;
    refused(&edge, &["no core yet"]).await;
}

/// 29. What is read anew holds for the next try: an edge that was refused is let in with its new certificate, without a restart.
#[tokio::test]
async fn an_edge_comes_back_with_its_new_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let core = core(&authority, &[]).await;
    let (ca, [cert, key]) = (authority.ca(), stranger.sign("edge", Validity::Good));
    let flags = ["--link-ca", &ca, "--link-cert", &cert, "--link-key", &key];
    let edge = Hearth::secure_edge(core.grpc(), &flags).await;
    refused(&edge, &["received fatal alert"]).await;
    for (new, old) in authority.sign("edge", Validity::Good).iter().zip([&cert, &key]) {
        std::fs::copy(new, old).unwrap();
    }
    edge.signal("HUP");
    attached(&edge).await;
}
