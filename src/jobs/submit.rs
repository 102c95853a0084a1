//! Puts a job's URLs on the log, each exactly once: the job's record with the running count goes into the same append as
//! the URLs, so a submission that was killed goes on at the right line.

use std::time::Duration;

use bytes::Bytes;

use super::Job;
use crate::record::codec::{self, CodecError};
use crate::record::headers::{self, Headers};
use crate::record::trace::TraceParent;
use crate::record::{UrlTask, now_ms};
use crate::topology::{JOBS, Names};
use crate::transport::{Outgoing, Result, Transport, TransportError};

/// URLs in one append.
const CHUNK: usize = 500;
/// Wait after an append that failed for now.
const AGAIN: Duration = Duration::from_millis(500);

/// What is submitted and where.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The job as it stands: a new one, or one to go on with.
    pub job: Job,
    /// Input topic, without prefix.
    pub lane: &'static str,
}

impl Submission {
    /// A new job.
    pub fn new(source: impl Into<String>, digest: impl Into<String>, lane: &'static str) -> Submission {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let job = Job {
            // Time first, so that ids sort; the tail is random.
            id: format!("{}{}", &id[..12], &id[24..]),
            created: now_ms(),
            source: source.into(),
            digest: digest.into(),
            submitted: 0,
            complete: false,
        };
        Submission { job, lane }
    }
}

/// Appends what is not on the log yet and returns the finished job. `urls` are all URLs of the job, from the first.
pub async fn submit(
    transport: &dyn Transport,
    names: &Names,
    submission: Submission,
    urls: impl IntoIterator<Item = String>,
) -> Result<Job> {
    let Submission { mut job, lane } = submission;
    let mut rest = urls.into_iter().enumerate().skip(usize::try_from(job.submitted).unwrap_or(usize::MAX)).peekable();
    while !job.complete {
        let mut batch = Vec::with_capacity(CHUNK + 1);
        while batch.len() < CHUNK {
            let Some((line, url)) = rest.next() else { break };
            batch.push(task(names, &job, lane, line, url).map_err(|e| TransportError::Fatal(e.to_string()))?);
        }
        job.submitted += batch.len() as u64;
        job.complete = rest.peek().is_none();
        let value = serde_json::to_vec(&job).map_err(|e| TransportError::Fatal(e.to_string()))?;
        batch.push(Outgoing {
            topic: names.full(JOBS).into(),
            partition: None,
            key: Some(Bytes::from(job.id.clone())),
            value: value.into(),
            headers: Headers::default(),
        });
        append(transport, batch).await?;
    }
    Ok(job)
}

/// Appends, and waits out what may pass (a lock, a full disk): nothing was written then.
async fn append(transport: &dyn Transport, batch: Vec<Outgoing>) -> Result<()> {
    loop {
        match transport.append(batch.clone()).await {
            Err(TransportError::Unavailable(e)) => {
                tracing::warn!(error = %e, "submitting failed; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            done => return done,
        }
    }
}

fn task(names: &Names, job: &Job, lane: &str, line: usize, url: String) -> std::result::Result<Outgoing, CodecError> {
    // Spelled as it will be fetched, so that its key is the host's; what is no URL goes on as it is and fails with a name.
    let url = crate::web::url::normalise(&url).map_or(url, String::from);
    let task = UrlTask::new(url);
    let id = format!("{}-{}", job.id, line + 1);
    let mut h = Headers::default();
    h.set(headers::TRACEPARENT, TraceParent::derived(&id).to_string());
    h.set(headers::TASK, id);
    h.set(headers::JOB, job.id.clone());
    h.set(headers::FIRST_SEEN, now_ms().to_string());
    h.set(headers::URL, task.url.clone());
    Ok(Outgoing {
        topic: names.full(lane).into(),
        partition: None,
        key: Some(Bytes::from(task.host_key())),
        value: codec::encode(&task)?,
        headers: h,
    })
}
