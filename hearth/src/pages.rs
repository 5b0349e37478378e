//! A core's own pages, for those who watch over it: metrics, health, readiness.
use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use std::{future::Future, sync::Arc};
use tokio::net::TcpListener;

/// Gives all metrics as text.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves them until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    metrics: MetricsText,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let text = move || {
        let body = metrics();
        async move {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], body)
                .into_response()
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .route("/metrics", get(text));
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(shutdown).await {
        tracing::warn!(%error, "the core's pages are no longer served");
    }
}
