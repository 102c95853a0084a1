//! What a runner does with each record: a stage's work, or any other that turns one record into some.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::time::Instant;

use super::attempt::{Attempted, Handler};
use super::route::{Router, Timing};
use super::stage::{Ctx, Outcome};
use crate::record::{FailureClass, Meta, now_ms};
use crate::telemetry::StageMetrics;
use crate::transport::{Incoming, Outgoing};

/// A topic that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Full name.
    pub topic: String,
    /// Share of admissions while several inputs have work.
    pub weight: u32,
    /// Of a retry topic: how long a record waits there, unless it is due before.
    pub delay: Option<Duration>,
}

/// A record to work on.
#[derive(Debug)]
pub struct Task {
    pub record: Incoming,
    /// What its headers say.
    pub meta: Meta,
    /// Partitions of its topic.
    pub partitions: u32,
}

/// What a runner does with each record. It may be run again for the same record after a crash.
#[async_trait]
pub trait Work: Send + Sync + 'static {
    /// Label of metrics and logs.
    fn name(&self) -> &str;

    /// Consumer group.
    fn group(&self) -> String;

    /// What it reads; equal partition counts.
    fn inputs(&self) -> Vec<Input>;

    /// Everything that is to be written in the transaction that completes this record. Whatever goes wrong is among it;
    /// a panic here would leave the record open until the partition's next assignment.
    async fn run(self: Arc<Self>, task: Task) -> Vec<Outgoing>;

    /// A record of a retry topic whose wait there is over before it is due: where it waits on.
    fn repark(&self, record: &Incoming, meta: &Meta, now: i64) -> Outgoing;
}

/// A stage's work: its handler's outcome, as the router turns it into records.
pub struct StageWork {
    /// The stage.
    pub handler: Arc<dyn Handler>,
    /// Where its outcomes go.
    pub router: Router,
    /// Longest time in the handler.
    pub deadline: Duration,
    /// Counters.
    pub metrics: StageMetrics,
    /// What time it is, Unix ms: [`now_ms`], or a simulation's clock.
    pub clock: fn() -> i64,
}

impl StageWork {
    /// With the usual clock, and metrics under the stage's name.
    pub fn new(handler: Arc<dyn Handler>, router: Router, deadline: Duration) -> StageWork {
        StageWork { metrics: StageMetrics::new(router.def.name.as_str()), handler, router, deadline, clock: now_ms }
    }
}

#[async_trait]
impl Work for StageWork {
    fn name(&self) -> &str {
        self.router.def.name.as_str()
    }

    fn group(&self) -> String {
        self.router.names.full(self.name())
    }

    fn inputs(&self) -> Vec<Input> {
        // The retry topics are subscribed behind the inputs.
        let own = self.router.def.inputs.len();
        let input = |(i, (topic, weight)): (usize, (String, u32))| Input {
            topic: self.router.names.full(&topic),
            weight,
            delay: i.checked_sub(own).map(|tier| self.router.tiers.get(tier).copied().unwrap_or_default()),
        };
        self.router.def.subscribed().into_iter().enumerate().map(input).collect()
    }

    async fn run(self: Arc<Self>, task: Task) -> Vec<Outgoing> {
        let started = Instant::now();
        let Task { record, meta, partitions } = task;
        let since = record.timestamp.max(meta.not_before);
        let waited = Duration::from_millis(u64::try_from((self.clock)() - since).unwrap_or(0));
        let ctx = Ctx { meta, key: record.key.clone(), partition: record.at.partition, partitions };
        let attempt = self.handler.attempt(&record.value, &record.headers, &ctx, self.deadline);
        let attempted = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| Attempted {
            url: String::new(),
            outcome: Outcome::fail(FailureClass::Panic, "decoding the record panicked"),
        });
        let timing = Timing { now: (self.clock)(), took: started.elapsed(), waited };
        let routed = self.router.route(&record, &ctx.meta, &attempted.url, attempted.outcome, timing);
        self.metrics.outcome(&routed.status, timing.took, timing.waited);
        routed.outputs
    }

    fn repark(&self, record: &Incoming, meta: &Meta, now: i64) -> Outgoing {
        self.router.repark(record, meta, now)
    }
}
