//! Simulated brokers: logs with transactional records, markers and the last stable offset, and what is due when. All of
//! it answers at once; the network in front of it ([`super::world`]) delays, loses and reorders.
//!
//! Nothing here moves by itself: whoever asks first lets happen what was due by then, in order of time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill::transport::partitioner::partition;
use tidemill::transport::{Incoming, Outgoing, TopicPartition};

use super::group::Group;
use super::plan::Dice;
use super::txn::Txn;

/// Why a request is refused, in the protocol's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// PRODUCER_FENCED, INVALID_PRODUCER_EPOCH: a newer producer has the id, or its transaction timed out.
    Fenced,
    /// CONCURRENT_TRANSACTIONS: the transaction before is not settled yet; ask again.
    Concurrent,
    /// INVALID_TXN_STATE: what is asked for is no part of an open transaction.
    InvalidState,
    /// ILLEGAL_GENERATION, STALE_MEMBER_EPOCH.
    Generation,
    /// UNKNOWN_MEMBER_ID.
    Member,
    /// FENCED_INSTANCE_ID.
    Instance,
    /// UNRELEASED_INSTANCE_ID: a living member has that name.
    Unreleased,
    /// UNSTABLE_OFFSET_COMMIT: a transaction holds offsets that are asked for.
    Unstable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Committed,
    Aborted,
}

enum Slot {
    Data { record: Incoming, pid: Option<i64>, state: State },
    Marker,
}

/// One partition of a topic.
#[derive(Default)]
pub struct Log {
    slots: Vec<Slot>,
    /// First offset of each open transaction.
    open: BTreeMap<i64, usize>,
    /// Newest epoch of each producer that wrote here.
    epochs: BTreeMap<i64, i16>,
    /// Batches that arrived, by their sequence number: a batch sent twice is written once.
    seen: BTreeSet<(i64, i16, u64)>,
}

impl Log {
    /// Records below it are decided.
    fn stable(&self) -> usize {
        self.open.values().min().copied().unwrap_or(self.slots.len())
    }

    fn append(&mut self, at: &TopicPartition, now: i64, out: Outgoing, pid: Option<i64>) {
        let offset = self.slots.len();
        let state = if pid.is_some() { State::Pending } else { State::Committed };
        if let Some(pid) = pid {
            self.open.entry(pid).or_insert(offset);
        }
        let (key, value, headers) = (out.key, out.value, out.headers);
        let record =
            Incoming { tombstone: false, at: at.clone(), offset: offset as i64, timestamp: now, key, value, headers };
        self.slots.push(Slot::Data { record, pid, state });
    }

    fn mark(&mut self, pid: i64, epoch: i16, commit: bool) {
        let newest = self.epochs.entry(pid).or_insert(epoch);
        *newest = epoch.max(*newest);
        if let Some(first) = self.open.remove(&pid) {
            for slot in &mut self.slots[first..] {
                if let Slot::Data { pid: Some(p), state, .. } = slot
                    && *p == pid
                    && *state == State::Pending
                {
                    *state = if commit { State::Committed } else { State::Aborted };
                }
            }
        }
        self.slots.push(Slot::Marker);
    }

    /// What a read_committed reader gets.
    fn read(&self, from: i64, max: usize) -> Vec<Incoming> {
        let stable = self.stable();
        let from = (from.max(0) as usize).min(stable);
        let committed = self.slots[from..stable].iter().filter_map(|s| match s {
            Slot::Data { record, state: State::Committed, .. } => Some(record.clone()),
            _ => None,
        });
        committed.take(max).collect()
    }
}

/// Where a marker goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Log(TopicPartition),
    Offsets(String),
}

/// What is due some time.
#[derive(Debug, Clone)]
pub enum Timer {
    Marker {
        id: String,
        pid: i64,
        epoch: i16,
        commit: bool,
        target: Target,
    },
    /// The transaction that was the so-manieth of its id has been open for too long.
    Expiry {
        id: String,
        number: u64,
    },
}

/// A batch for one partition, with its sequence number.
pub type Sequenced = (TopicPartition, u64, Vec<Outgoing>);

pub struct Broker {
    /// Unix ms.
    pub now: i64,
    pub topics: BTreeMap<Arc<str>, Vec<Log>>,
    pub txns: BTreeMap<String, Txn>,
    pub groups: BTreeMap<String, Group>,
    pub dice: Arc<Dice>,
    /// Each write to `__consumer_offsets` has a place there.
    pub offsets_end: u64,
    pub next_pid: i64,
    /// What must never happen and did.
    pub wrong: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
    timers: BTreeMap<(i64, u64), Timer>,
    timers_made: u64,
}

impl Broker {
    pub fn new(now: i64, dice: Arc<Dice>, topics: impl IntoIterator<Item = String>, partitions: u32) -> Broker {
        let logs = || (0..partitions).map(|_| Log::default()).collect();
        Broker {
            now,
            topics: topics.into_iter().map(|t| (t.into(), logs())).collect(),
            txns: BTreeMap::new(),
            groups: BTreeMap::new(),
            dice,
            offsets_end: 0,
            next_pid: 1,
            wrong: vec![],
            counts: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn at(&mut self, time: i64, timer: Timer) {
        self.timers_made += 1;
        self.timers.insert((time, self.timers_made), timer);
    }

    /// Lets happen what is due.
    pub fn advance(&mut self, now: i64) {
        while let Some(first) = self.timers.first_entry().filter(|t| t.key().0 <= now) {
            self.now = self.now.max(first.key().0);
            match first.remove() {
                Timer::Marker { id, pid, epoch, commit, target } => {
                    match &target {
                        Target::Log(at) => self.log(at).mark(pid, epoch, commit),
                        Target::Offsets(group) => self.mark_offsets(group, pid, epoch, commit),
                    }
                    self.marked(&id, pid);
                }
                Timer::Expiry { id, number } => self.expire_txn(&id, number),
            }
        }
        self.now = self.now.max(now);
    }

    pub fn log(&mut self, at: &TopicPartition) -> &mut Log {
        let logs = self.topics.get_mut(&at.topic).unwrap_or_else(|| panic!("no topic {}", at.topic));
        &mut logs[at.partition as usize]
    }

    pub fn partitions(&self, topic: &str) -> u32 {
        self.topics[topic].len() as u32
    }

    /// Where a record goes.
    pub fn place(&self, out: &Outgoing) -> TopicPartition {
        let of = self.partitions(&out.topic);
        let n = out.partition.unwrap_or_else(|| partition(out.key.as_deref().unwrap_or_default(), of));
        TopicPartition { topic: Arc::clone(&out.topic), partition: n }
    }

    /// Produce without a transaction.
    pub fn append(&mut self, out: Outgoing) {
        let (at, now) = (self.place(&out), self.now);
        self.log(&at).append(&at, now, out, None);
    }

    /// Produce. Since Kafka 3.6 (KIP-890, part 1) the leader asks the coordinator whether the partition is in the open
    /// transaction, so that a request that was delayed writes nothing after its end.
    pub fn produce(&mut self, id: &str, pid: i64, epoch: i16, batches: &[Sequenced]) -> Result<(), Refused> {
        for (at, sequence, records) in batches {
            if self.log(at).epochs.get(&pid).is_some_and(|e| *e > epoch) {
                return Err(Refused::Fenced);
            }
            self.verify(id, pid, epoch, &Target::Log(at.clone()))?;
            let now = self.now;
            let log = self.log(at);
            if log.seen.insert((pid, epoch, *sequence)) {
                records.iter().for_each(|r| log.append(at, now, r.clone(), Some(pid)));
            }
        }
        Ok(())
    }

    /// Fetch, read_committed.
    pub fn read(&self, at: &TopicPartition, from: i64, max: usize) -> Vec<Incoming> {
        self.topics[&at.topic][at.partition as usize].read(from, max)
    }

    /// Offset behind all that is decided.
    pub fn stable(&self, at: &TopicPartition) -> i64 {
        self.topics[&at.topic][at.partition as usize].stable() as i64
    }

    /// All committed records of a topic.
    pub fn read_all(&self, topic: &str) -> Vec<Incoming> {
        self.topics[topic].iter().flat_map(|l| l.read(0, usize::MAX)).collect()
    }

    /// Records of aborted transactions.
    pub fn aborted(&self) -> u64 {
        let is = |s: &&Slot| matches!(s, Slot::Data { state: State::Aborted, .. });
        self.topics.values().flatten().map(|l| l.slots.iter().filter(is).count() as u64).sum()
    }

    /// Whether every transaction is decided everywhere.
    pub fn settled(&self) -> bool {
        self.topics.values().flatten().all(|l| l.open.is_empty())
            && self.groups.values().all(|g| g.pending.is_empty())
            && self.txns.values().all(Txn::at_rest)
    }

    /// For the dump of a run that does not end.
    pub fn dump(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        for (id, t) in &self.txns {
            let _ = writeln!(text, "  transactional id {id}: {t:?}");
        }
        for (name, g) in &self.groups {
            let _ = writeln!(text, "  group {name}: {g:?}");
        }
        for (topic, logs) in &self.topics {
            for (n, log) in logs.iter().enumerate().filter(|(_, l)| !l.slots.is_empty()) {
                let _ = writeln!(text, "  {topic}/{n}: end {}, stable {}", log.slots.len(), log.stable());
            }
        }
        text
    }
}
