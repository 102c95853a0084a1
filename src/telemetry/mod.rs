//! Every metric name and log field in one place. Names follow Prometheus' conventions: base units, `_total` for counters.
//!
//! Log fields: `stage`, `url`, `attempt`, `trace`, `task`, `job`, `class`, `error`.

pub mod logs;

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::record::{OutcomeKind, StatusEvent};
use crate::topology::StageName;
use crate::transport::Committed;

/// Where all metrics of the process are registered.
pub static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// Seconds; queue wait and processing, from a millisecond to a minute.
const BUCKETS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Registers a collector. Two of one name are a mistake in this file; the second then counts for nobody.
fn register<C: prometheus::core::Collector + Clone + 'static>(c: C) -> C {
    if let Err(e) = REGISTRY.register(Box::new(c.clone())) {
        tracing::error!(error = %e, "metric not registered");
    }
    c
}

macro_rules! metric {
    ($(#[$doc:meta])* $name:ident: $ty:ty = $make:expr) => {
        $(#[$doc])*
        static $name: LazyLock<$ty> = LazyLock::new(|| {
            #[allow(clippy::unwrap_used, reason = "names and labels are literals of this file; a test makes each one")]
            register($make.unwrap())
        });
    };
}

metric!(
    /// Outcomes by stage, outcome and class.
    OUTCOMES: IntCounterVec = IntCounterVec::new(
        Opts::new("tidemill_records_total", "Records by stage, outcome and failure class or drop reason."),
        &["stage", "outcome", "class"]
    )
);
metric!(
    PROCESSING: HistogramVec = HistogramVec::new(
        HistogramOpts::new("tidemill_processing_seconds", "Time of a record in its handler.").buckets(BUCKETS.to_vec()),
        &["stage"]
    )
);
metric!(
    QUEUE_WAIT: HistogramVec = HistogramVec::new(
        HistogramOpts::new("tidemill_queue_wait_seconds", "Time from a record's writing, or its due time, to its handling.")
            .buckets(BUCKETS.to_vec()),
        &["stage"]
    )
);
metric!(
    IN_FLIGHT: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_in_flight_records", "Records admitted and not yet committed."),
        &["stage"]
    )
);
metric!(
    SKIPPED: IntCounterVec = IntCounterVec::new(
        Opts::new("tidemill_skipped_records_total", "Records read again that the committed offset map knows as done."),
        &["stage"]
    )
);
metric!(
    COMMITS: IntCounterVec = IntCounterVec::new(
        Opts::new("tidemill_commits_total", "Transactions by outcome: done, fenced, aborted, unknown."),
        &["stage", "outcome"]
    )
);
metric!(
    COMMIT_TIME: HistogramVec = HistogramVec::new(
        HistogramOpts::new("tidemill_commit_seconds", "Time of a transaction.").buckets(BUCKETS.to_vec()),
        &["stage"]
    )
);

/// The metrics of one stage, labels resolved once.
#[derive(Clone)]
pub struct StageMetrics {
    stage: StageName,
    processing: Histogram,
    queue_wait: Histogram,
    in_flight: IntGauge,
    skipped: IntCounter,
    commit_time: Histogram,
}

impl StageMetrics {
    /// Metrics with this stage's label.
    pub fn new(stage: StageName) -> StageMetrics {
        let label = &[stage.as_str()];
        for kind in OutcomeKind::ALL {
            OUTCOMES.with_label_values(&[stage.as_str(), kind.as_str(), ""]);
        }
        StageMetrics {
            stage,
            processing: PROCESSING.with_label_values(label),
            queue_wait: QUEUE_WAIT.with_label_values(label),
            in_flight: IN_FLIGHT.with_label_values(label),
            skipped: SKIPPED.with_label_values(label),
            commit_time: COMMIT_TIME.with_label_values(label),
        }
    }

    /// A record's outcome is known; counted and, unless it went well, logged.
    pub fn outcome(&self, e: &StatusEvent, took: Duration, waited: Duration) {
        let class = e.class.as_deref().unwrap_or("");
        OUTCOMES.with_label_values(&[self.stage.as_str(), e.outcome.as_str(), class]).inc();
        self.processing.observe(took.as_secs_f64());
        self.queue_wait.observe(waited.as_secs_f64());
        let message = e.message.as_deref().unwrap_or("");
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(stage = %self.stage, url = %e.url, outcome = e.outcome.as_str(), class, attempt = e.attempt, task = %e.task, job = e.job.as_deref().unwrap_or(""), trace = %e.trace, took_ms = e.took_ms, "{message}")
            };
        }
        match e.outcome {
            OutcomeKind::DeadLettered => log!(warn),
            OutcomeKind::Retried | OutcomeKind::Dropped => log!(info),
            _ => log!(debug),
        }
    }

    /// Records in flight now.
    pub fn in_flight(&self, n: usize) {
        self.in_flight.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// A record known as done was read again.
    pub fn skipped(&self) {
        self.skipped.inc();
    }

    /// A transaction ended.
    pub fn commit(&self, took: Duration, outcome: &Committed) {
        let outcome = match outcome {
            Committed::Done => "done",
            Committed::Fenced(_) => "fenced",
            Committed::Aborted(_) => "aborted",
            Committed::Unknown(_) => "unknown",
        };
        COMMITS.with_label_values(&[self.stage.as_str(), outcome]).inc();
        self.commit_time.observe(took.as_secs_f64());
    }
}

/// All metrics in Prometheus' text format 0.0.4.
pub fn exposition() -> String {
    prometheus::TextEncoder::new().encode_to_string(&REGISTRY.gather()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_shows_with_its_stage() {
        let m = StageMetrics::new(StageName::Enrich);
        m.commit(Duration::from_millis(3), &Committed::Done);
        let text = exposition();
        for name in [
            "records_total",
            "processing_seconds",
            "queue_wait_seconds",
            "in_flight_records",
            "skipped_records_total",
            "commits_total",
            "commit_seconds",
        ] {
            assert!(text.contains(&format!("tidemill_{name}")), "{name} is missing:\n{text}");
        }
        assert!(text.contains("tidemill_records_total{class=\"\",outcome=\"dead_lettered\",stage=\"enrich\"} 0"));
    }
}
