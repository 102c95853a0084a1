//! What a stage is. It holds no state that a crash may not lose, and never touches a topic.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::record::codec::CodecError;
use crate::record::{DropReason, FailureClass, Meta, Record, now_ms};
use crate::topology::StageName;
use crate::transport::partitioner::partition;

/// How long a record waits before something that was away is asked again, ms.
const AWAY: i64 = 2_000;

/// What a stage says of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done; write these to the next topics.
    Emit(Vec<Record>),
    /// Done; nothing to write.
    Done,
    /// Done on purpose: duplicate, filtered, disallowed.
    Drop {
        reason: DropReason,
        /// One sentence.
        message: String,
    },
    /// Failed for now: another attempt, `after` this long if given, else as the ladder says. Counts an attempt; attempts
    /// used up, it becomes a dead letter.
    Retry {
        class: FailureClass,
        /// One sentence.
        message: String,
        /// Wait at least this long.
        after: Option<Duration>,
    },
    /// Not failed, not its turn: come back at `until`. Counts no attempt.
    Park {
        /// Unix ms.
        until: i64,
        /// One sentence: what it waits for.
        message: String,
        /// `until` is a slot reserved for this record (politeness); it comes back as [`Ctx::slot`].
        reserved: bool,
    },
    /// Not of this partition, by its key: goes to the same topic, under the key it should have, for the member that owns
    /// it. Counts no attempt.
    Move {
        /// The key.
        key: Bytes,
    },
    /// Will never work as it is.
    DeadLetter {
        class: FailureClass,
        /// One sentence.
        message: String,
    },
}

impl Outcome {
    /// A failure: [`Outcome::Retry`] if its class may pass with time, else [`Outcome::DeadLetter`].
    pub fn fail(class: FailureClass, message: impl Into<String>) -> Outcome {
        let message = message.into();
        if class.retried() {
            Outcome::Retry { class, message, after: None }
        } else {
            Outcome::DeadLetter { class, message }
        }
    }

    /// Nothing wrong with the record: something of ours (index, store, blobs) is away. It waits, counts no attempt, and
    /// so never becomes a dead letter for it.
    pub fn unavailable(message: impl Into<String>) -> Outcome {
        Outcome::Park { until: now_ms().saturating_add(AWAY), message: message.into(), reserved: false }
    }

    /// [`Outcome::Drop`].
    pub fn dropped(reason: DropReason, message: impl Into<String>) -> Outcome {
        Outcome::Drop { reason, message: message.into() }
    }
}

/// What a stage is told about the record besides its value.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Task, job, trace, times.
    pub meta: Meta,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The partition it was read from.
    pub partition: i32,
    /// How many there are; 0 for a record that comes from no topic.
    pub partitions: u32,
}

impl Ctx {
    /// Whether the record is on the partition of this key, and under it: then this member is the only one that works on
    /// records of the key. One that was moved is where the log put it, even if the topic has grown since.
    pub fn is_home_of(&self, key: &[u8]) -> bool {
        let placed = || self.meta.moved || partition(key, self.partitions) == self.partition;
        self.partitions == 0 || self.key.as_deref() == Some(key) && placed()
    }

    /// Of a record that comes from no topic.
    pub fn unplaced(meta: Meta) -> Ctx {
        Ctx { meta, key: None, partition: 0, partitions: 0 }
    }

    /// The politeness slot (Unix ms) this record reserved when it was parked.
    pub fn slot(&self) -> Option<i64> {
        self.meta.slot
    }
}

/// A stage of the pipeline.
#[async_trait]
pub trait Stage: Send + Sync + 'static {
    /// What it reads.
    type Task: Send;

    /// Which stage it is.
    fn name(&self) -> StageName;

    /// Reads a record's value.
    fn decode(&self, value: &[u8]) -> Result<Self::Task, CodecError>;

    /// The URL of a task, for status events.
    fn url<'a>(&self, task: &'a Self::Task) -> &'a str;

    /// Works on one record. May be run again for the same record after a crash; must be cancel-safe, because a deadline
    /// drops the future.
    async fn handle(&self, task: Self::Task, ctx: &Ctx) -> Outcome;
}
