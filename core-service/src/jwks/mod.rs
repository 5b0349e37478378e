//! Fetches sets of keys from where they are published, when their [`crate::auth::rotation`] says so: one task a set, of which a token never waits
//! for more than it must. What cannot be fetched or read is logged and counted, and what was known before stays.
mod http;

pub use http::{BadSource, Source};

use crate::auth::key_sets::{KeySet, KeySets};
use crate::auth::keys::BadKey;
use crate::metrics::CoreMetrics;
use futures_util::future::join_all;
use http::FetchError;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::time::{sleep_until, timeout};

/// How long one fetch may take, from the name to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no new set.
#[derive(Debug, Error)]
enum Failure {
    #[error("it took longer than {FETCH_TIMEOUT:?}")]
    Late,
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Keys(#[from] BadKey),
}

impl Failure {
    /// Counted as.
    fn outcome(&self) -> &'static str {
        match self {
            Failure::Late => "timeout",
            Failure::Fetch(FetchError::Status(_)) => "status",
            Failure::Fetch(FetchError::TooLarge) => "too_large",
            Failure::Fetch(FetchError::Unreachable(_) | FetchError::Tls(_) | FetchError::Broken(_)) => {
                "unreachable"
            }
            Failure::Keys(_) => "unreadable",
        }
    }
}

/// Keeps the sets up to date, each from its source; for ever.
pub async fn run(sources: &[Source], sets: &KeySets, metrics: &CoreMetrics) {
    join_all(sources.iter().zip(sets.iter()).map(|(source, set)| follow(source, sets, set, metrics))).await;
    // Without any there is nothing to do, which is no end either.
    std::future::pending().await
}

async fn follow(source: &Source, sets: &KeySets, set: &KeySet, metrics: &CoreMetrics) {
    if source.is_open_to_others() {
        tracing::warn!(
            url = source.shown(),
            "keys are fetched in clear: whoever is on the way can make tokens; use https://"
        );
    }
    let mut was_well = None;
    loop {
        while set.due() > Instant::now() {
            tokio::select! {
                () = sleep_until(set.due().into()) => {}
                () = set.is_earlier() => {}
            }
        }
        set.begin(Instant::now());
        let outcome = match fetch(source, sets, set).await {
            Ok(is_new) => {
                if is_new || was_well != Some(true) {
                    tracing::info!(url = source.shown(), "the keys that tokens are verified with have come");
                }
                was_well = Some(true);
                metrics.jwks_fetched_at(crate::room::Now::read().micros);
                if is_new { "new" } else { "unchanged" }
            }
            Err(failure) => {
                sets.failed(set, Instant::now(), fastrand::f64());
                let kept = if was_well.is_some() { "those of before are kept" } else { "there are none yet" };
                tracing::warn!(url = source.shown(), %failure, kept, "the keys that tokens are verified with cannot be fetched");
                was_well = was_well.map(|_| false);
                failure.outcome()
            }
        };
        metrics.jwks_fetched(outcome);
    }
}

async fn fetch(source: &Source, sets: &KeySets, set: &KeySet) -> Result<bool, Failure> {
    let fetched = timeout(FETCH_TIMEOUT, source.fetch()).await.map_err(|_| Failure::Late)??;
    Ok(sets.fetched(set, &fetched.document, fetched.max_age, Instant::now(), fastrand::f64())?)
}
