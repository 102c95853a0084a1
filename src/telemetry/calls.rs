//! What calls of the store and of the blobs cost, how the breakers before services of others stand, and how the endpoints of
//! services that have several do.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

use super::{BUCKETS, register};

metric!(
    CALLS: HistogramVec = HistogramVec::new(
        HistogramOpts::new("tidemill_call_seconds", "Time of a call of the store or the blobs by outcome: ok, missing, refused (breaker), unavailable, failed.")
            .buckets(BUCKETS.to_vec()),
        &["service", "operation", "outcome"]
    )
);
metric!(
    BREAKER: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_breaker_state", "Breaker before a service: 0 closed, 1 half-open, 2 open."),
        &["service"]
    )
);
metric!(
    UP: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_endpoint_up", "Whether an endpoint of a service that has several takes its turn: 1, or 0 while it is away."),
        &["service", "endpoint"]
    )
);
metric!(
    REQUESTS: IntCounterVec = IntCounterVec::new(
        Opts::new("tidemill_endpoint_requests_total", "Requests by endpoint of a service that has several, and outcome: ok, failed, unanswered."),
        &["service", "endpoint", "outcome"]
    )
);

/// A call of a service (`store.redis`, `blob.folder`, …) ended.
pub fn call(service: &str, operation: &str, outcome: &str, took: Duration) {
    CALLS.with_label_values(&[service, operation, outcome]).observe(took.as_secs_f64());
}

/// How the breaker before a service stands: 0 closed, 1 half-open, 2 open.
pub fn breaker(service: &str, state: i64) {
    BREAKER.with_label_values(&[service]).set(state);
}

/// Whether an endpoint takes its turn.
pub fn up(service: &str, endpoint: &str, up: bool) {
    UP.with_label_values(&[service, endpoint]).set(i64::from(up));
}

/// A request to an endpoint ended.
pub fn request(service: &str, endpoint: &str, outcome: &str) {
    REQUESTS.with_label_values(&[service, endpoint, outcome]).inc();
}
