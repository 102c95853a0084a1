//! Every metric name and log field in one place. Names follow Prometheus' conventions: base units, `_total` for counters.
//!
//! Log fields: `stage`, `url`, `attempt`, `trace`, `task`, `job`, `class`, `error`.

pub mod domains;
pub mod logs;

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::record::{OutcomeKind, StatusEvent};

/// The named pipeline this process works for; a label of all its metrics.
static PIPELINE: OnceLock<String> = OnceLock::new();

/// Where all metrics of the process are registered.
pub static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let labels = PIPELINE.get().map(|name| [("pipeline".to_owned(), name.clone())].into());
    // Only an empty prefix is refused, and there is none.
    Registry::new_custom(None, labels).unwrap_or_default()
});

/// Puts a label `pipeline` on all metrics of this process; to be called before the first of them is made.
pub fn label_pipeline(name: &str) {
    // Whoever is first decides: a process works for one.
    let _first = PIPELINE.set(name.to_owned());
}

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

pub mod calls;

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

metric!(
    COMMIT_RECORDS: HistogramVec = HistogramVec::new(
        HistogramOpts::new("tidemill_commit_records", "Records that a transaction completed.")
            .buckets(vec![1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0]),
        &["stage"]
    )
);
metric!(
    COMMIT_BYTES: HistogramVec = HistogramVec::new(
        HistogramOpts::new("tidemill_commit_bytes", "Bytes of the records that a transaction completed and of those it wrote.")
            .buckets([10, 12, 14, 16, 18, 20, 22, 24, 26].map(|power| f64::from(1 << power)).to_vec()),
        &["stage"]
    )
);
metric!(
    REBALANCES: IntCounterVec = IntCounterVec::new(
        Opts::new("tidemill_rebalances_total", "Times that partitions were assigned, revoked or lost."),
        &["stage", "kind"]
    )
);
metric!(
    LAG: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_lag_records", "Records not done in the partitions this process owns, by topic (without prefix)."),
        &["stage", "topic"]
    )
);
metric!(
    LAG_TIMESTAMP: GaugeVec = GaugeVec::new(
        Opts::new("tidemill_lag_timestamp_seconds", "Unix time of tidemill_lag_records and tidemill_oldest_waiting_seconds."),
        &["stage"]
    )
);
metric!(
    OLDEST_WAITING: GaugeVec = GaugeVec::new(
        Opts::new("tidemill_oldest_waiting_seconds", "Since the oldest record that is due and not done was written or due."),
        &["stage"]
    )
);
metric!(
    DEAD_LETTERS: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_dead_letters", "Dead letters that rest and were not put back, in the whole log."),
        &["stage"]
    )
);
metric!(
    OLDEST_DEAD_LETTER: GaugeVec = GaugeVec::new(
        Opts::new("tidemill_oldest_dead_letter_seconds", "Since the oldest dead letter that was not put back was written."),
        &["stage"]
    )
);
metric!(
    GAP: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_gap_records", "Offsets from base to the highest done one, in the partition where these are most."),
        &["stage"]
    )
);
metric!(
    GAP_AGE: GaugeVec = GaugeVec::new(
        Opts::new("tidemill_gap_age_seconds", "Longest that a partition's base has stood while records beyond it are done."),
        &["stage"]
    )
);
metric!(
    OWNED: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_owned_partitions", "Partitions this process owns."),
        &["stage"]
    )
);
metric!(
    PAUSED: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_paused_partitions", "Partitions that admit nothing more until their base moves: too much beyond it is not done."),
        &["stage"]
    )
);
metric!(
    UTILISATION: GaugeVec = GaugeVec::new(
        Opts::new("tidemill_utilisation_ratio", "Records in flight over their limit, or bytes if that is more; mean since the last look."),
        &["stage"]
    )
);
metric!(
    UNSTABLE: IntGaugeVec = IntGaugeVec::new(
        Opts::new("tidemill_unstable_partitions", "Partitions whose committed offsets a transaction holds longer than any may last."),
        &["group"]
    )
);

metric!(
    BULK_TIME: HistogramVec = HistogramVec::new(
        HistogramOpts::new("tidemill_bulk_seconds", "Time of a bulk request to OpenSearch, by outcome: answered, divided, busy, unavailable.")
            .buckets(BUCKETS.to_vec()),
        &["outcome"]
    )
);
metric!(
    BULK_SIZE: Histogram = Histogram::with_opts(
        HistogramOpts::new("tidemill_bulk_size_documents", "Documents of a bulk request.")
            .buckets(vec![1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0])
    )
);
metric!(
    BULK_DOCUMENTS: IntCounterVec = IntCounterVec::new(
        Opts::new("tidemill_bulk_documents_total", "Documents in bulk requests by outcome: created, updated, stale, rejected, again."),
        &["outcome"]
    )
);

/// A bulk request of so many documents ended: answered, divided, busy or unavailable.
pub fn bulk(outcome: &str, documents: usize, took: Duration) {
    BULK_TIME.with_label_values(&[outcome]).observe(took.as_secs_f64());
    BULK_SIZE.observe(documents as f64);
}

/// What became of a document in a bulk request: created, updated, stale, rejected, or again (it is sent once more).
pub fn bulk_document(outcome: &str) {
    BULK_DOCUMENTS.with_label_values(&[outcome]).inc();
}

/// Partitions of a group that stand still because a transaction hangs.
pub fn unstable_partitions(group: &str, n: usize) {
    UNSTABLE.with_label_values(&[group]).set(int(n));
}

fn int(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Why a member's partitions changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    Assigned,
    Revoked,
    Lost,
}

impl Rebalance {
    const ALL: [Rebalance; 3] = [Rebalance::Assigned, Rebalance::Revoked, Rebalance::Lost];

    fn as_str(self) -> &'static str {
        match self {
            Rebalance::Assigned => "assigned",
            Rebalance::Revoked => "revoked",
            Rebalance::Lost => "lost",
        }
    }
}

/// How a stage's partitions stand in this process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Partitions {
    pub owned: usize,
    /// Their window is full.
    pub paused: usize,
    /// Widest gap, in offsets.
    pub gap: i64,
    /// Longest that a base has stood although something beyond it is done.
    pub gap_age: Duration,
}

/// The metrics of one stage, labels resolved once.
#[derive(Clone)]
pub struct StageMetrics {
    stage: String,
    processing: Histogram,
    queue_wait: Histogram,
    in_flight: IntGauge,
    skipped: IntCounter,
    commit_time: Histogram,
    commit_records: Histogram,
    commit_bytes: Histogram,
    lag_timestamp: Gauge,
    oldest_waiting: Gauge,
    gap: IntGauge,
    gap_age: Gauge,
    owned: IntGauge,
    paused: IntGauge,
    utilisation: Gauge,
}

impl StageMetrics {
    /// Metrics with this stage's label.
    pub fn new(stage: &str) -> StageMetrics {
        let label = &[stage];
        for kind in OutcomeKind::ALL {
            OUTCOMES.with_label_values(&[stage, kind.as_str(), ""]);
        }
        for kind in Rebalance::ALL {
            REBALANCES.with_label_values(&[stage, kind.as_str()]);
        }
        StageMetrics {
            stage: stage.to_owned(),
            processing: PROCESSING.with_label_values(label),
            queue_wait: QUEUE_WAIT.with_label_values(label),
            in_flight: IN_FLIGHT.with_label_values(label),
            skipped: SKIPPED.with_label_values(label),
            commit_time: COMMIT_TIME.with_label_values(label),
            commit_records: COMMIT_RECORDS.with_label_values(label),
            commit_bytes: COMMIT_BYTES.with_label_values(label),
            lag_timestamp: LAG_TIMESTAMP.with_label_values(label),
            oldest_waiting: OLDEST_WAITING.with_label_values(label),
            gap: GAP.with_label_values(label),
            gap_age: GAP_AGE.with_label_values(label),
            owned: OWNED.with_label_values(label),
            paused: PAUSED.with_label_values(label),
            utilisation: UTILISATION.with_label_values(label),
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
        self.in_flight.set(int(n));
    }

    /// A record known as done was read again.
    pub fn skipped(&self) {
        self.skipped.inc();
    }

    /// A transaction ended: done, fenced, aborted or unknown.
    pub fn commit(&self, took: Duration, outcome: &str) {
        COMMITS.with_label_values(&[self.stage.as_str(), outcome]).inc();
        self.commit_time.observe(took.as_secs_f64());
    }

    /// A transaction was written: the records it completed; their bytes, and those of what it wrote.
    pub fn committed(&self, records: usize, bytes: usize) {
        self.commit_records.observe(records as f64);
        self.commit_bytes.observe(bytes as f64);
    }

    /// Partitions came or went.
    pub fn rebalance(&self, kind: Rebalance) {
        REBALANCES.with_label_values(&[self.stage.as_str(), kind.as_str()]).inc();
    }

    /// How its partitions stand.
    pub fn partitions(&self, p: Partitions) {
        self.owned.set(int(p.owned));
        self.paused.set(int(p.paused));
        self.gap.set(p.gap);
        self.gap_age.set(p.gap_age.as_secs_f64());
    }

    /// Mean use of its limits since the last look, 0 to 1.
    pub fn utilisation(&self, ratio: f64) {
        self.utilisation.set(ratio);
    }

    /// What waits, as of a time (Unix ms): records by topic (name without prefix), and how long the oldest one that is
    /// due has waited.
    pub fn waiting<'a>(&self, at: i64, lag: impl IntoIterator<Item = (&'a str, i64)>, oldest: Duration) {
        for (topic, records) in lag {
            LAG.with_label_values(&[self.stage.as_str(), topic]).set(records);
        }
        self.oldest_waiting.set(oldest.as_secs_f64());
        self.lag_timestamp.set(at as f64 / 1000.0);
    }

    /// What rests in the stage's dead letters: how many, and since when the oldest.
    pub fn dead_letters(&self, letters: u64, oldest: Duration) {
        let label = &[self.stage.as_str()];
        DEAD_LETTERS.with_label_values(label).set(i64::try_from(letters).unwrap_or(i64::MAX));
        OLDEST_DEAD_LETTER.with_label_values(label).set(oldest.as_secs_f64());
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
        let m = StageMetrics::new("enrich");
        m.commit(Duration::from_millis(3), "done");
        m.committed(3, 5_000);
        m.waiting(1_500, [("documents", 7)], Duration::from_millis(2_500));
        m.dead_letters(3, Duration::from_millis(1_500));
        m.partitions(Partitions { owned: 2, paused: 1, gap: 9, gap_age: Duration::from_secs(4) });
        m.utilisation(0.5);
        m.rebalance(Rebalance::Lost);
        unstable_partitions("g", 1);
        bulk("answered", 100, Duration::from_millis(700));
        bulk_document("stale");
        calls::call("store.redis", "claim", "ok", Duration::from_millis(3));
        calls::breaker("store.redis", 2);
        let text = exposition();
        for line in [
            "records_total{class=\"\",outcome=\"dead_lettered\",stage=\"enrich\"} 0",
            "processing_seconds_bucket{stage=\"enrich\",le=\"60\"} 0",
            "queue_wait_seconds_count{stage=\"enrich\"} 0",
            "in_flight_records{stage=\"enrich\"} 0",
            "skipped_records_total{stage=\"enrich\"} 0",
            "commits_total{outcome=\"done\",stage=\"enrich\"} 1",
            "commit_seconds_count{stage=\"enrich\"} 1",
            "commit_records_bucket{stage=\"enrich\",le=\"4\"} 1",
            "commit_bytes_bucket{stage=\"enrich\",le=\"4096\"} 0",
            "commit_bytes_bucket{stage=\"enrich\",le=\"16384\"} 1",
            "lag_records{stage=\"enrich\",topic=\"documents\"} 7",
            "lag_timestamp_seconds{stage=\"enrich\"} 1.5",
            "oldest_waiting_seconds{stage=\"enrich\"} 2.5",
            "dead_letters{stage=\"enrich\"} 3",
            "oldest_dead_letter_seconds{stage=\"enrich\"} 1.5",
            "gap_records{stage=\"enrich\"} 9",
            "gap_age_seconds{stage=\"enrich\"} 4",
            "owned_partitions{stage=\"enrich\"} 2",
            "paused_partitions{stage=\"enrich\"} 1",
            "utilisation_ratio{stage=\"enrich\"} 0.5",
            "rebalances_total{kind=\"assigned\",stage=\"enrich\"} 0",
            "rebalances_total{kind=\"lost\",stage=\"enrich\"} 1",
            "unstable_partitions{group=\"g\"} 1",
            "bulk_seconds_bucket{outcome=\"answered\",le=\"1\"} 1",
            "bulk_size_documents_bucket{le=\"64\"} 0",
            "call_seconds_bucket{operation=\"claim\",outcome=\"ok\",service=\"store.redis\",le=\"0.005\"} 1",
            "breaker_state{service=\"store.redis\"} 2",
            "bulk_documents_total{outcome=\"stale\"} 1",
        ] {
            assert!(text.contains(&format!("\ntidemill_{line}\n")), "{line} is missing:\n{text}");
        }
    }
}
