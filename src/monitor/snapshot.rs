//! How things stand at one time.

use serde::Serialize;

use super::lag::TopicLag;
use crate::jobs::Job;
use crate::record::StatusEvent;
use crate::topology::{StageName, TIERS};

/// Everything that was looked at, in one look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Unix ms.
    pub at: i64,
    /// In the order of the pipeline.
    pub stages: Vec<Stage>,
    /// What was retried or given up of late, newest first.
    pub failures: Vec<StatusEvent>,
    /// Newest first.
    pub jobs: Vec<JobProgress>,
    /// False while status events of the past are still being read: until then the jobs' counts are too low.
    pub caught_up: bool,
}

/// How one stage stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    pub stage: StageName,
    /// Since the look before; None in the first.
    pub rate: Option<Rate>,
    /// Records on its inputs that are not done.
    pub lag: i64,
    /// Widest gap of its partitions.
    pub gap: i64,
    /// Offsets in all its gaps that are not done.
    pub incomplete: i64,
    /// Records on each retry topic that are not done.
    pub retries: [i64; TIERS],
    /// Dead letters that rest and were not put back.
    pub dead_letters: u64,
    /// Dead letters that came since the first look.
    pub new_dead_letters: u64,
    /// Every topic it reads.
    pub topics: Vec<TopicLag>,
}

/// Records a second, from progress alone.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Rate {
    /// That came to its inputs.
    #[serde(rename = "in")]
    pub inward: f64,
    /// That it is through with: handed on, dropped or given up. What moved to a retry topic is not.
    #[serde(rename = "out")]
    pub outward: f64,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobProgress {
    pub job: Job,
    /// URLs that are finished, and how.
    pub finished: u64,
    pub indexed: u64,
    pub dropped: u64,
    pub dead_letters: u64,
}

impl JobProgress {
    /// URLs it has, as far as they are submitted.
    pub fn total(&self) -> u64 {
        self.job.submitted.unwrap_or(self.job.appended)
    }
}
