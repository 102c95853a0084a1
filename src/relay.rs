//! A copy of any topic through the same engine: what is copied and how far it was read commit together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::engine::work::{Input, Task, Work};
use crate::record::{Meta, OutcomeKind, StatusEvent, codec, headers, now_ms};
use crate::telemetry::StageMetrics;
use crate::transport::{Incoming, Outgoing};

/// Name of the work: label of metrics, stage of status events.
pub const NAME: &str = "relay";

/// What becomes of a record: None when it is left out, else the key of its copy.
pub type Choose = dyn Fn(&Incoming) -> Option<Option<Bytes>> + Send + Sync;

/// A copy of one topic to another.
pub struct Relay {
    /// Full names.
    pub from: String,
    pub to: Arc<str>,
    /// Consumer group.
    pub group: String,
    pub choose: Box<Choose>,
    /// The status topic, if each record is to have an event there, and the framing of events.
    pub status: Option<(Arc<str>, codec::Ids)>,
    /// What each record takes.
    pub work: Duration,
    /// Every so many-th record of a partition takes so much longer.
    pub slow: Option<(u64, Duration)>,
    pub metrics: StageMetrics,
}

#[async_trait]
impl Work for Relay {
    fn name(&self) -> &str {
        NAME
    }

    fn group(&self) -> String {
        self.group.clone()
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input { topic: self.from.clone(), weight: 1, delay: None }]
    }

    async fn run(self: Arc<Self>, task: Task) -> Vec<Outgoing> {
        let (started, Task { record, meta, .. }) = (tokio::time::Instant::now(), task);
        let waited = Duration::from_millis(u64::try_from(now_ms() - record.timestamp).unwrap_or(0));
        let slow = self.slow.filter(|(every, _)| record.offset.unsigned_abs() % every == every / 2);
        let work = self.work + slow.map_or(Duration::ZERO, |(_, time)| time);
        if !work.is_zero() {
            tokio::time::sleep(work).await;
        }
        let chosen = (self.choose)(&record);
        let outcome = if chosen.is_some() { OutcomeKind::Emitted } else { OutcomeKind::Dropped };
        let event = event(&record, &meta, outcome, started.elapsed(), waited);
        self.metrics.outcome(&event, started.elapsed(), waited);
        let mut outputs = vec![];
        if let Some(key) = chosen {
            let mut headers = record.headers;
            if self.status.is_some() && headers.get(headers::TASK).is_none() {
                // So that its next event is known as the same task's.
                headers.set(headers::TASK, meta.task);
                headers.set(headers::FIRST_SEEN, meta.first_seen.to_string());
            }
            outputs.push(Outgoing {
                tombstone: record.tombstone,
                topic: Arc::clone(&self.to),
                partition: None,
                key,
                value: record.value,
                headers,
            });
        }
        if let Some((topic, ids)) = &self.status
            && let Ok(value) = codec::encode(&event, ids)
        {
            let key = Some(Bytes::from(event.task));
            outputs.push(Outgoing {
                tombstone: false,
                topic: Arc::clone(topic),
                partition: None,
                key,
                value,
                headers: Default::default(),
            });
        }
        outputs
    }

    /// It reads no retry topics.
    fn repark(&self, record: &Incoming, _: &Meta, _: i64) -> Outgoing {
        Outgoing {
            tombstone: record.tombstone,
            topic: Arc::clone(&record.at.topic),
            partition: Some(record.at.partition),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        }
    }
}

fn event(record: &Incoming, meta: &Meta, outcome: OutcomeKind, took: Duration, waited: Duration) -> StatusEvent {
    let dropped = outcome == OutcomeKind::Dropped;
    StatusEvent {
        task: meta.task.clone(),
        job: meta.job.clone(),
        url: record.headers.str(headers::URL).unwrap_or_default().to_owned(),
        stage: NAME.to_owned(),
        outcome,
        class: dropped.then(|| "filtered".to_owned()),
        message: None,
        attempt: 1,
        at: now_ms(),
        took_ms: took.as_secs_f64() * 1e3,
        waited_ms: waited.as_secs_f64() * 1e3,
        emitted: i32::from(!dropped),
        until: None,
        trace: meta.trace.trace_hex(),
    }
}
