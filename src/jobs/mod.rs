//! Jobs: sets of submitted URLs, and what has become of them.
//!
//! ```text
//! submit ─► urls.high │ urls │ urls.bulk     500 tasks at a time …
//!       └─► jobs                             … with the running count, in one append: a submit that was cut short goes on
//! reprocess ─► <stage>.retry.1 + jobs         … the same, with what the log keeps of a stage's input
//! status ─► Tracker ─► Progress              every stage's events, folded: nothing else is kept anywhere
//! status ─► explain, history                 the way of one URL, of one task
//! ```

mod explain;
mod reprocess;
mod submit;
mod tracker;

pub use explain::{explain, history};
pub use reprocess::{Again, count, reprocess};
pub use submit::{JobError, NewJob, Submitted, submit};
pub use tracker::{Progress, Seen, StageTimes, Times, Tracker};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::record::Headers;
use crate::topology::{self, Names};
use crate::transport::partitioner::partition;
use crate::transport::tail::{From, Range, Tail};
use crate::transport::{Incoming, Outgoing, Result, TopicPartition, Transport};

/// Which of the three input topics a job's URLs go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Admitted first.
    High,
    /// The usual one.
    #[default]
    Normal,
    /// Admitted last.
    Bulk,
}

impl Lane {
    /// Its topic, without prefix.
    pub fn topic(self) -> &'static str {
        match self {
            Lane::High => topology::URLS_HIGH,
            Lane::Normal => topology::URLS,
            Lane::Bulk => topology::URLS_BULK,
        }
    }
}

/// What the topic `jobs` says of a job: JSON, key: its id. The last record of a key counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name, part of each of its task ids.
    pub id: String,
    /// Unix ms.
    pub created: i64,
    /// Where the URLs came from: a file's name, `stdin`, `api`; or which records are worked on again.
    pub source: String,
    /// Their lane.
    pub lane: Lane,
    /// URLs on the topic so far.
    pub appended: u64,
    /// How many there are; None while they are being submitted.
    pub submitted: Option<u64>,
    /// Whoever waited for it has seen its end. A run that was killed between the last outcome and its report has not.
    #[serde(default)]
    pub ended: bool,
    /// Of a job over kept records: how far it has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
}

/// A place in a topic that is read partition by partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub partition: i32,
    /// The next one.
    pub offset: i64,
}

impl Job {
    /// Reads a record of the topic; one that is not a job (a foreign producer's) is nobody's.
    pub fn read(record: &Incoming) -> Option<Job> {
        serde_json::from_slice(&record.value).ok()
    }

    /// As a record of the topic `jobs` (full name).
    fn record(&self, topic: Arc<str>) -> Outgoing {
        Outgoing {
            tombstone: false,
            topic,
            partition: None,
            key: Some(self.id.clone().into()),
            // A struct of plain fields always has a JSON form.
            value: serde_json::to_vec(self).unwrap_or_default().into(),
            headers: Headers::default(),
        }
    }
}

/// A name for a job: time first, so that names sort; the tail is random.
pub fn new_id() -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!("{}{}", &id[..12], &id[24..])
}

/// All jobs the log remembers, oldest first.
pub async fn list(transport: &dyn Transport, names: &Names) -> Result<Vec<Job>> {
    let mut tail = Tail::new(transport, &names.full(topology::JOBS), From::Start).await?;
    let mut jobs = BTreeMap::new();
    while let Some(batch) = tail.poll(transport).await? {
        for job in batch.iter().filter_map(Job::read) {
            jobs.insert(job.id.clone(), job);
        }
    }
    let mut jobs: Vec<Job> = jobs.into_values().collect();
    jobs.sort_by_key(|j| j.created);
    Ok(jobs)
}

/// One job.
pub async fn get(transport: &dyn Transport, names: &Names, id: &str) -> Result<Option<Job>> {
    let topic = names.full(topology::JOBS);
    let bounds = transport.bounds(&topic).await?;
    let number = partition(id.as_bytes(), u32::try_from(bounds.len()).unwrap_or(1));
    let mut found = None;
    if let Some(b) = bounds.iter().find(|b| b.partition == number) {
        let mut range = Range::new(TopicPartition::new(topic, number), b.start, b.end);
        while let Some(batch) = range.next(transport).await? {
            found = batch.iter().filter_map(Job::read).rfind(|j| j.id == id).or(found);
        }
    }
    Ok(found)
}

/// Notes that a job's end was seen.
pub async fn end(transport: &dyn Transport, names: &Names, id: &str) -> Result<()> {
    let Some(job) = get(transport, names, id).await? else { return Ok(()) };
    let record = Job { ended: true, ..job }.record(names.full(topology::JOBS).into());
    transport.append(vec![record]).await
}

/// A job and how far it is, as of now; None when the log knows no such job.
pub async fn progress(transport: &dyn Transport, names: &Names, id: &str) -> Result<Option<(Job, Progress)>> {
    let Some(job) = get(transport, names, id).await? else { return Ok(None) };
    let mut tracker = Tracker::of(id);
    let mut tail = Tail::new(transport, &names.full(topology::STATUS), From::Start).await?;
    while let Some(batch) = tail.poll(transport).await? {
        tracker.read(&batch);
    }
    tracker.submitted(&job);
    Ok(tracker.take(id).map(|p| (job, p)))
}
