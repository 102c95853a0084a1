//! What answers over HTTP while the pipeline runs: `/metrics` (Prometheus), `/health` (the process lives), `/ready` (the
//! log can be read, so work goes on), `/search` (the index).

mod search;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::sink::Search;
use crate::telemetry;
use crate::topology::{Names, URLS};
use crate::transport::Transport;

struct Shared {
    transport: Arc<dyn Transport>,
    names: Names,
}

/// Binds the address; the second value is the one that was bound (a port 0 becomes a real one).
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| format!("cannot listen on {address}: {e}; choose another with --listen"))?;
    let bound = listener.local_addr().map_err(|e| e.to_string())?;
    Ok((listener, bound))
}

/// Answers until `stop`; searches if there is an index.
pub async fn serve(
    listener: TcpListener,
    transport: Arc<dyn Transport>,
    names: Names,
    index: Option<Arc<dyn Search>>,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared { transport, names });
    let search =
        index.map_or_else(Router::new, |index| Router::new().route("/search", get(search::get)).with_state(index));
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .with_state(shared)
        .merge(search);
    let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(e) = served {
        tracing::error!(error = %e, "the HTTP server ended");
    }
}

async fn metrics() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::exposition()).into_response()
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    match shared.transport.bounds(&shared.names.full(URLS)).await {
        Ok(_) => (StatusCode::OK, "ready\n").into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("the log cannot be read: {e}\n")).into_response(),
    }
}
