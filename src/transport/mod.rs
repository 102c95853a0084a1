//! The log underneath: Kafka's words, whatever holds it. To a transport, the offset map is an opaque string.
//!
//! ```text
//! join ─► Member ─► next: Assigned │ Records │ Revoked      (one task drives it: the engine's runner)
//!                   commit(Batch): outputs and progress in one transaction, or neither
//! append, read, bounds, offsets_at, delete_before, progress: producers, tails, lag       (no group)
//! ```
//!
//! Every implementation passes the same suite, `tests/contract_transport.rs`.

pub mod kafka;
pub mod partitioner;
pub mod sqlite;
pub mod tail;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::record::Headers;
use crate::topology::Topic;

/// A partition of a topic (full name).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: std::sync::Arc<str>,
    pub partition: i32,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    pub at: TopicPartition,
    pub offset: i64,
    /// When it was written, Unix ms.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    /// Empty where the log has null.
    pub value: Bytes,
    /// The value is null: to a compacted topic, the key is no more.
    pub tombstone: bool,
    /// A null as a header's value is read as an empty one.
    pub headers: Headers,
}

/// Looks at records, wherever they are read.
pub type See = std::sync::Arc<dyn Fn(Incoming) + Send + Sync>;

/// A record to write. Without a partition it goes to `murmur2(key) mod partitions`, like the Java client's; without a
/// key to any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Full name.
    pub topic: std::sync::Arc<str>,
    pub partition: Option<i32>,
    pub key: Option<Bytes>,
    pub value: Bytes,
    /// The value is null, whatever `value` says.
    pub tombstone: bool,
    pub headers: Headers,
}

/// A partition that this member now owns, and where its group stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub at: TopicPartition,
    /// Names this assignment; progress is committed under it.
    pub epoch: i64,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// First offset to read: the committed base, or the start of the log.
    pub base: i64,
    /// The offset map committed with it.
    pub map: String,
}

/// What happened to a member.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Partitions came. Reading starts at each one's base.
    Assigned(Vec<Assignment>),
    /// Partitions go. If not `lost`, what is finished may still be committed until [`Member::release`]; it is refused then
    /// if the member was given up meanwhile.
    Revoked { partitions: Vec<TopicPartition>, lost: bool },
    /// Records of assigned, unpaused partitions; those of one partition in order.
    Records(Vec<Incoming>),
    /// Up to this offset the partition holds no record that was not handed over: what else is there (Kafka's transaction
    /// markers, what transactions that were aborted wrote) is nobody's work.
    Passed { at: TopicPartition, offset: i64 },
}

/// How far a partition is, as of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub at: TopicPartition,
    /// The assignment it belongs to.
    pub epoch: i64,
    pub base: i64,
    pub map: String,
}

/// One transaction: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub progress: Vec<Progress>,
    pub outputs: Vec<Outgoing>,
}

/// How a commit ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Committed {
    /// Written.
    Done,
    /// Nothing was written, because these partitions belong to somebody else by now; the others may be sent again.
    Fenced(Vec<TopicPartition>),
    /// Nothing was written (disk full, locked, broker away); the same batch may be sent again.
    Aborted(String),
    /// Nobody can tell. The member gives up its assignment; [`Event::Revoked`] and [`Event::Assigned`] follow with what
    /// is really committed.
    Unknown(String),
}

impl Committed {
    /// Lower-case name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Committed::Done => "done",
            Committed::Fenced(_) => "fenced",
            Committed::Aborted(_) => "aborted",
            Committed::Unknown(_) => "unknown",
        }
    }
}

/// What went wrong, in one sentence with the fix.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Something only a person can mend.
    #[error("{0}")]
    Fatal(String),
    /// May pass: try again.
    #[error("{0}")]
    Unavailable(String),
    /// A topic that does not exist.
    #[error("topic {0} does not exist; create the topics first")]
    NoTopic(String),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, TransportError>;

/// First and next offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub partition: i32,
    /// Lowest offset the log still has.
    pub start: i64,
    /// Offset the next record will get.
    pub end: i64,
}

/// A topic as the log has it. Settings go by Kafka's names: `retention.ms`, `cleanup.policy`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// Full name.
    pub name: String,
    pub partitions: u32,
    /// Replicas of each partition (the fewest that one has); None where there are none to count.
    pub replication: Option<u16>,
    /// What is set for this topic itself.
    pub settings: BTreeMap<String, String>,
    /// What holds for it otherwise, from the brokers' settings or Kafka's defaults.
    pub inherited: BTreeMap<String, String>,
}

/// A log with topics, groups and transactions.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// `sqlite` or `kafka`.
    fn name(&self) -> &'static str;

    /// Creates the topics that are missing (names with prefix); what exists stays as it is.
    async fn create_topics(&self, topics: &[Topic]) -> Result<()>;

    /// Those of the topics (full names) that exist, in the order asked for.
    async fn describe_topics(&self, topics: &[String]) -> Result<Vec<TopicState>>;

    /// Grows topics (full names) to so many partitions, in this order; what has as many or more stays as it is. Members
    /// of groups are assigned the new partitions. From then on a key may belong to another partition. After an error
    /// some may have grown.
    async fn grow_topics(&self, topics: &[String], partitions: u32) -> Result<()>;

    /// Sets settings of a topic (full name); its other settings stay as they are.
    async fn configure_topic(&self, topic: &str, settings: &BTreeMap<String, String>) -> Result<()>;

    /// Joins a group that reads these topics (full names, equal partition counts). The same partition number of all of
    /// them goes to one member. A log that goes away meanwhile is waited for; dropping the future ends that.
    async fn join(&self, group: &str, topics: &[String]) -> Result<Box<dyn Member>>;

    /// Appends in one transaction, without a group. After an append of nothing, whatever this process appended in a
    /// former life is there or not, and can be read.
    async fn append(&self, records: Vec<Outgoing>) -> Result<()>;

    /// The partitions of a topic.
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>>;

    /// Where a time (Unix ms) begins, by partition: the first offset whose record was written then or later, from the
    /// log's own index; the end where there is none. Times grow with offsets as far as writers' clocks agree.
    async fn offsets_at(&self, topic: &str, time: i64) -> Result<Vec<(i32, i64)>>;

    /// Deletes what stands before these offsets (topic by full name; partition, offset), whoever has read it or not; what
    /// is gone already is no error. An offset beyond the end means the end.
    async fn delete_before(&self, topic: &str, offsets: &[(i32, i64)]) -> Result<()>;

    /// Reads committed records from an offset on, without a group: at most `max_records`, and about `max_bytes`. None at
    /// all means that there are none up to the end that [`Transport::bounds`] last told.
    async fn read(&self, at: &TopicPartition, from: i64, max_records: usize, max_bytes: usize)
    -> Result<Vec<Incoming>>;

    /// The same for records that are looked at and not kept: each is handed over where it is read, in order; with
    /// Kafka that is a thread of its own. Returns the offset behind the last; None at all as above. An error comes before the first.
    async fn visit(
        &self,
        at: &TopicPartition,
        from: i64,
        max_records: usize,
        max_bytes: usize,
        see: See,
    ) -> Result<Option<i64>> {
        let records = self.read(at, from, max_records, max_bytes).await?;
        let next = records.last().map(|last| last.offset + 1);
        records.into_iter().for_each(|record| see(record));
        Ok(next)
    }

    /// What a group has committed: partition, base, map.
    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64, String)>>;

    /// Returns when records may have been appended, or after `timeout`.
    async fn changed(&self, timeout: Duration);

    /// Deletes what is older than each topic keeps, but nothing a group has yet to read. Brokers do this themselves.
    async fn sweep(&self) -> Result<u64>;
}

/// A member of a group. Driven by one task.
#[async_trait]
pub trait Member: Send {
    /// The next event; cancel-safe.
    async fn next(&mut self) -> Result<Event>;

    /// Stops reading a partition; records already handed out stay handed out.
    fn pause(&mut self, at: &TopicPartition);

    /// Goes on after the last record handed out.
    fn resume(&mut self, at: &TopicPartition);

    /// How many batches may be under way at once.
    fn depth(&self) -> usize {
        1
    }

    /// Commits a batch: all of it, or nothing. A batch takes effect only after all that were sent before it; if one of
    /// these does not, this one does not either ([`Committed::Aborted`]).
    fn commit(&mut self, batch: std::sync::Arc<Batch>) -> BoxFuture<'static, Committed>;

    /// The partitions of a [`Event::Revoked`] are finished with.
    async fn release(&mut self, partitions: &[TopicPartition]);

    /// Leaves the group at once, so that others need not wait for a time-out.
    async fn leave(self: Box<Self>);
}

impl TopicState {
    /// The value in force.
    pub fn get(&self, setting: &str) -> Option<&str> {
        self.settings.get(setting).or_else(|| self.inherited.get(setting)).map(String::as_str)
    }
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<std::sync::Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl Incoming {
    /// Rough size in memory.
    pub fn size(&self) -> usize {
        self.value.len() + self.key.as_ref().map_or(0, Bytes::len) + self.headers.size() + 64
    }
}

impl Outgoing {
    /// Rough size in memory.
    pub fn size(&self) -> usize {
        self.value.len() + self.key.as_ref().map_or(0, Bytes::len) + self.headers.size() + 64
    }
}
