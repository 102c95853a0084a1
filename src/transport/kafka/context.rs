//! What librdkafka tells a consumer while it is polled: what the group decides, and that there is something to read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr as Resp;

use super::native::Generation;
use crate::transport::TopicPartition;

/// What the group decided, to be acted on by the reading thread.
#[derive(Debug)]
pub enum Decision {
    Assign(Vec<TopicPartition>),
    Revoke { partitions: Vec<TopicPartition>, lost: bool },
}

/// The generation; None when the group has given this member up, or it is not in yet.
pub fn member_of(consumer: &BaseConsumer<Context>) -> Option<Generation> {
    Generation::read(consumer.client()).filter(|g| g.is_member() && !consumer.assignment_lost())
}

/// Takes note of what the group decides; the reading thread acts on it as soon as the poll returns.
pub struct Context {
    pub decisions: Mutex<Vec<Decision>>,
    pub wake: Arc<Wake>,
    /// Nobody acts on decisions any more.
    pub closing: AtomicBool,
}

impl Context {
    pub fn new() -> Context {
        Context { decisions: Mutex::default(), wake: Arc::default(), closing: AtomicBool::new(false) }
    }

    pub fn take(&self) -> Vec<Decision> {
        std::mem::take(&mut *self.decisions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Context {
    fn error(&self, e: KafkaError, reason: &str) {
        tracing::debug!(error = %e, reason, "consumer");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: Resp, list: &mut TopicPartitionList) {
        let partitions: Vec<TopicPartition> =
            list.elements().iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect();
        let assign = err == Resp::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            // Closing waits until it is answered; there is nothing left to finish.
            let _last = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative if !assign => {
                    consumer.incremental_unassign(&consumer.assignment().unwrap_or_default())
                }
                _ => consumer.unassign(),
            };
            return;
        }
        let decision = if assign {
            Decision::Assign(partitions)
        } else {
            Decision::Revoke { partitions, lost: member_of(consumer).is_none() }
        };
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner).push(decision);
    }
}

/// Wakes the reading thread.
#[derive(Debug, Default)]
pub struct Wake {
    bumped: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// There is something to do.
    pub fn bump(&self) {
        *self.bumped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Until it is bumped, or for this long.
    pub fn wait(&self, timeout: Duration) {
        let bumped = self.bumped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(bumped, timeout, |b| !*b);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}
