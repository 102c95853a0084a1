//! Puts a job's URLs on a lane, each exactly once, however often it is cut short and begun again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::record::codec::{self, CodecError};
use crate::record::headers::{self, Headers};
use crate::record::trace::TraceParent;
use crate::record::{UrlTask, now_ms};
use crate::topology::{self, Names};
use crate::transport::{Outgoing, Transport, TransportError};

use super::{Job, Lane, get};

/// URLs in one append.
const CHUNK: usize = 500;
/// Bytes after which an append takes no further URL.
const CHUNK_BYTES: usize = 1 << 20;
/// Wait after an append that failed for now.
const AGAIN: Duration = Duration::from_millis(500);

/// What is to be submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its name; submitting under a name that exists goes on with that job.
    pub id: String,
    /// Where the URLs come from, for people.
    pub source: String,
    /// Their lane.
    pub lane: Lane,
}

/// How a submit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// URLs that an earlier submit had put on the topic already, and that were passed over.
    pub before: u64,
    /// URLs the job has.
    pub total: u64,
}

/// Why a submit ended early. What was appended stays; the same submit goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The log.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A task that cannot be written.
    #[error("URL {line} of the job cannot be written: {error}")]
    Task {
        /// Counted from 1.
        line: u64,
        /// Cause.
        error: CodecError,
    },
    /// The same name stands for another job.
    #[error(
        "job {id} exists and came from {source_name}: choose another name, or submit the same source to go on with it"
    )]
    Exists {
        /// Job.
        id: String,
        /// What it came from.
        source_name: String,
    },
    /// Fewer URLs than were submitted before.
    #[error(
        "job {id} had {appended} URLs submitted when it was cut short, and now only {given} were given: submit the same source again"
    )]
    Shorter {
        /// Job.
        id: String,
        /// URLs on the topic.
        appended: u64,
        /// URLs given now.
        given: u64,
    },
}

/// Appends the URLs as tasks `<job>-<line>` (counted from 1), [`CHUNK`] at a time, each time with the job's running count
/// in the same transaction. Cut short anywhere, the same call goes on where it stood; once it is complete, it writes
/// nothing. One submit of a job at a time: two at once would both go on from the same count.
pub async fn submit(
    transport: &dyn Transport,
    names: &Names,
    new: &NewJob,
    urls: impl IntoIterator<Item = UrlTask>,
) -> Result<Submitted, JobError> {
    // An append that a former life was killed in must be seen, or not be there, before the count is read.
    append(transport, vec![]).await?;
    let found = get(transport, names, &new.id).await?;
    if let Some(job) = found.as_ref().filter(|j| j.source != new.source || j.lane != new.lane) {
        return Err(JobError::Exists { id: job.id.clone(), source_name: job.source.clone() });
    }
    if let Some(total) = found.as_ref().and_then(|j| j.submitted) {
        return Ok(Submitted { before: total, total });
    }
    let mut job = found.unwrap_or_else(|| Job {
        id: new.id.clone(),
        created: now_ms(),
        source: new.source.clone(),
        lane: new.lane,
        appended: 0,
        submitted: None,
        ended: false,
        reached: None,
    });
    let before = job.appended;
    let mut urls = urls.into_iter();
    for given in 0..before {
        if urls.next().is_none() {
            return Err(JobError::Shorter { id: job.id, appended: before, given });
        }
    }
    let lane: Arc<str> = names.full(new.lane.topic()).into();
    let jobs: Arc<str> = names.full(topology::JOBS).into();
    let mut urls = urls.peekable();
    while job.submitted.is_none() {
        let mut records = vec![];
        let mut bytes = 0;
        while records.len() < CHUNK && bytes < CHUNK_BYTES {
            let Some(task) = urls.next() else { break };
            job.appended += 1;
            let record =
                record(&lane, names, &job, &task).map_err(|error| JobError::Task { line: job.appended, error })?;
            bytes += record.size();
            records.push(record);
        }
        job.submitted = urls.peek().is_none().then_some(job.appended);
        records.push(job.record(Arc::clone(&jobs)));
        append(transport, records).await?;
    }
    Ok(Submitted { before, total: job.appended })
}

fn record(lane: &Arc<str>, names: &Names, job: &Job, task: &UrlTask) -> Result<Outgoing, CodecError> {
    let id = format!("{}-{}", job.id, job.appended);
    let mut headers = Headers(vec![
        (headers::TASK.into(), Bytes::from(id.clone())),
        (headers::JOB.into(), Bytes::from(job.id.clone())),
        (headers::FIRST_SEEN.into(), Bytes::from(now_ms().to_string())),
        (headers::TRACEPARENT.into(), Bytes::from(TraceParent::derived(&id).to_string())),
        (headers::URL.into(), Bytes::from(task.url.clone())),
    ]);
    if let Some(expires) = task.expires {
        headers.set(headers::EXPIRES, expires.to_string());
    }
    Ok(Outgoing {
        tombstone: false,
        topic: Arc::clone(lane),
        partition: None,
        key: Some(Bytes::from(task.host_key())),
        value: codec::encode(task, names.ids())?,
        headers,
    })
}

/// Appends, and waits out what may pass (a lock, a full disk): nothing was written then.
pub(super) async fn append(transport: &dyn Transport, batch: Vec<Outgoing>) -> Result<(), JobError> {
    loop {
        match transport.append(batch.clone()).await {
            Err(TransportError::Unavailable(e)) => {
                tracing::warn!(error = %e, "submitting failed; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            done => return Ok(done?),
        }
    }
}
