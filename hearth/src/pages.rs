//! A core's own pages, for those who watch over it: metrics, health, readiness.
use axum::{
    Router,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Gives all metrics as text.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Says whether new clients are welcome.
pub type Ready = Arc<dyn Fn() -> bool + Send + Sync>;

/// Serves them as long as it is polled: also while the core drains, when they are watched most.
pub async fn serve(listener: TcpListener, metrics: MetricsText, ready: Ready) {
    let text = move || {
        let body = metrics();
        async move {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], body)
                .into_response()
        }
    };
    let readiness = move || {
        let answer =
            if ready() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
        async move { ([(CACHE_CONTROL, "no-store")], answer).into_response() }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(text));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "the core's pages are no longer served");
    }
}
