//! What a member holds: shared by the thread that reads, the committer and the runner's end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};

use super::committer::{Cluster, Holding, Transactions, TxnError};
use super::context::{Context, Wake, member_of};
use super::native::Generation;
use super::plain::Plain;
use super::producer::Producer;
use crate::config::Kafka as Config;
use crate::transport::{Progress, TopicPartition, TransportError};

/// A partition held.
#[derive(Debug)]
pub struct Held {
    /// Of this assignment.
    pub epoch: i64,
    /// The runner wants no more of it for now.
    pub paused: bool,
    /// The runner was told of it; before, its committed offset is being read.
    pub told: bool,
    /// The runner was told to let it go, and has not yet.
    pub going: bool,
}

/// One member's state.
pub struct Group {
    pub config: Config,
    pub name: String,
    /// Stable name of the member, part of its transactional ids.
    pub member: String,
    pub consumer: Arc<BaseConsumer<Context>>,
    held: Mutex<HashMap<TopicPartition, Held>>,
    pub wake: Arc<Wake>,
    /// Given up, to be begun again from what is committed.
    rereading: Mutex<Vec<TopicPartition>>,
    /// Everything is to be finished, given back and assigned anew: topics have grown.
    pub renew: AtomicBool,
    /// The runner's end is gone, or wants to leave.
    pub leaving: AtomicBool,
    /// The client cannot go on, and another one is to join in its place.
    pub broken: AtomicBool,
    /// It is broken because the group has another member of this name.
    pub fenced: AtomicBool,
    /// Producers that were initialised before the group was joined.
    prepared: Mutex<Vec<Producer>>,
    /// Numbers assignments.
    count: AtomicU64,
}

impl Group {
    /// A member whose producers, in the order of their numbers, are initialised already.
    pub fn new(
        config: Config,
        name: &str,
        member: &str,
        consumer: Arc<BaseConsumer<Context>>,
        mut producers: Vec<Producer>,
    ) -> Group {
        producers.reverse();
        let wake = Arc::clone(&consumer.context().wake);
        Group {
            config,
            name: name.to_owned(),
            member: member.to_owned(),
            consumer,
            held: Mutex::default(),
            wake,
            rereading: Mutex::default(),
            renew: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            prepared: Mutex::new(producers),
            count: AtomicU64::new(0),
        }
    }

    /// The partitions held. Whoever takes one away does it under this lock.
    pub fn held(&self) -> MutexGuard<'_, HashMap<TopicPartition, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds what the runner was told of no more.
    pub fn give_up(&self) -> Vec<TopicPartition> {
        let mut told = vec![];
        self.held().retain(|at, h| {
            if h.told {
                told.push(at.clone());
            }
            !h.told
        });
        told.sort();
        told
    }

    /// What is to be begun again.
    pub fn rereading(&self) -> Vec<TopicPartition> {
        std::mem::take(&mut *self.rereading.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether nobody needs this client any more.
    pub fn over(&self) -> bool {
        self.leaving.load(Ordering::Acquire) || self.broken.load(Ordering::Acquire)
    }

    /// A number for a new assignment: grows with the group's generation, so across members too.
    pub fn next_epoch(&self) -> i64 {
        let generation = Generation::read(self.consumer.client()).map_or(0, |g| i64::from(g.id().max(0)));
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        generation << 24 | i64::try_from(count & 0xff_ffff).unwrap_or(0)
    }

    /// Whether assignments come and go one by one (KIP-848), or all at once.
    pub fn incremental(&self) -> bool {
        matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
    }

    /// Transactional id number `n`.
    pub fn transactional_id(&self, n: usize) -> String {
        transactional_id(&self.name, &self.member, n)
    }
}

/// Transactional id number `n` of a member: the same in each of its lives.
pub fn transactional_id(group: &str, member: &str, n: usize) -> String {
    format!("{group}.{member}.{}", if n == 0 { "a" } else { "b" })
}

#[async_trait]
impl Cluster for Group {
    type Producer = Box<dyn Transactions<Generation = Generation>>;

    async fn producer(&self, n: usize) -> Result<Self::Producer, TxnError> {
        let fatal = |e: TransportError| TxnError::Fatal(e.to_string());
        if !self.config.exactly_once {
            return Ok(Box::new(Plain::new(&self.config, Arc::downgrade(&self.consumer)).map_err(fatal)?));
        }
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(producer) = prepared {
            return Ok(Box::new(producer));
        }
        Ok(Box::new(Producer::new(&self.config, &self.transactional_id(n)).map_err(fatal)?))
    }

    fn holding(&self, progress: &[Progress]) -> Holding<Generation> {
        // Under the lock: what is held now is not taken away before the generation is read. One that is read later may
        // be of a time when the partition belongs to somebody else, and the broker would take it.
        let held = self.held();
        let lost = |p: &&Progress| held.get(&p.at).is_none_or(|h| h.epoch != p.epoch);
        let lost: Vec<TopicPartition> = progress.iter().filter(lost).map(|p| p.at.clone()).collect();
        if !lost.is_empty() {
            return Holding::Lost(lost);
        }
        match member_of(&self.consumer) {
            Some(generation) => Holding::Held(generation),
            // Without a generation the broker would take offsets from anyone.
            None => Holding::Lost(progress.iter().map(|p| p.at.clone()).collect()),
        }
    }

    fn reread(&self) {
        // At once: from here on no batch of these assignments can be sent.
        let told = self.give_up();
        self.rereading.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
        self.wake.bump();
    }
}
