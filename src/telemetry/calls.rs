//! What calls of the store and of the blobs cost, and how the breakers before services of others stand.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntGaugeVec, Opts};

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

/// A call of a service (`store.redis`, `blob.folder`, …) ended.
pub fn call(service: &str, operation: &str, outcome: &str, took: Duration) {
    CALLS.with_label_values(&[service, operation, outcome]).observe(took.as_secs_f64());
}

/// How the breaker before a service stands: 0 closed, 1 half-open, 2 open.
pub fn breaker(service: &str, state: i64) {
    BREAKER.with_label_values(&[service]).set(state);
}
