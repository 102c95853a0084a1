//! Jobs: sets of submitted URLs, and how far they are. Read from the `status` and `jobs` topics through the transport
//! alone.

pub mod explain;
pub mod submit;
pub mod tail;
pub mod tracker;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::topology::{JOBS, Names};
use crate::transport::{Result, Transport};

pub use explain::explain;
pub use submit::{Submission, submit};
pub use tail::Tail;
pub use tracker::{Progress, Tracker};

/// A job as the `jobs` topic has it (JSON; key: id). The newest record of a job counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Id; carried by every record of the job in `tidemill.job`.
    pub id: String,
    /// Unix ms.
    pub created: i64,
    /// Where the URLs came from, for people.
    pub source: String,
    /// Digest of the URLs, so that a submission that was cut short can be told and finished.
    pub digest: String,
    /// URLs put on the log so far.
    pub submitted: u64,
    /// All of them are.
    pub complete: bool,
}

/// All jobs, oldest first.
pub async fn list(transport: &dyn Transport, names: &Names) -> Result<Vec<Job>> {
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    let mut tail = Tail::from_start(transport, &names.full(JOBS)).await?;
    loop {
        let records = tail.poll(transport).await?;
        if records.is_empty() {
            break;
        }
        for r in records {
            if let Ok(job) = serde_json::from_slice::<Job>(&r.value) {
                jobs.insert(job.id.clone(), job);
            }
        }
    }
    let mut list: Vec<Job> = jobs.into_values().collect();
    list.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(list)
}
