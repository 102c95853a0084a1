//! At least once, for clusters without transactions (`[kafka] exactly_once = false`): the steps of a transaction, none of
//! which can be taken back.
//!
//! ```text
//! begin    nothing
//! produce  nothing yet: what has arrived cannot be taken back, so it is sent when the batches before are written and the
//!          partitions are known to be held
//! offsets  records go to an idempotent producer; when all have arrived, an ordinary offset commit, base and map as in a
//!          transaction
//! commit   wait until all records have arrived (an append has no offsets)
//! abort    nothing: what has arrived stays
//! ```
//!
//! Progress is written after the outputs it speaks of, so a crash loses nothing; what was written and not yet committed is
//! written again.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use fail::fail_point;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::calls::Calls;
use super::client;
use super::committer::{Transactions, TxnError};
use super::context::{Context, member_of};
use super::native::{self, Generation};
use super::producer::{CALL, Delivery, send};
use crate::config::Kafka as Config;
use crate::transport::{Batch, TransportError};

type Result<T> = std::result::Result<T, TxnError>;

/// An idempotent producer, and the consumer whose offsets it goes with.
pub struct Plain {
    calls: Calls<Inner>,
    /// The batch's records were handed to the client.
    sent: bool,
}

struct Inner {
    client: ThreadedProducer<Delivery>,
    /// Of a member; not kept alive by this, so that it leaves the group when the member does.
    consumer: Weak<BaseConsumer<Context>>,
}

impl Plain {
    /// For a member with this consumer; for appends, one that never was.
    pub fn new(config: &Config, consumer: Weak<BaseConsumer<Context>>) -> std::result::Result<Plain, TransportError> {
        let mut c = client::writing(config);
        c.set("message.timeout.ms", config.transaction_timeout.as_millis().to_string());
        let client = c.create_with_context(Delivery::default()).map_err(|e| client::explain(&e, config))?;
        Ok(Plain { calls: Calls::start(Inner { client, consumer })?, sent: false })
    }
}

impl Plain {
    /// Hands the records over, once a batch.
    async fn send(&mut self, batch: &Arc<Batch>) -> Result<()> {
        if !std::mem::replace(&mut self.sent, true) {
            let batch = Arc::clone(batch);
            self.calls.call(move |p| batch.outputs.iter().try_for_each(|o| send(&p.client, o))).await?;
        }
        Ok(())
    }
}

impl Inner {
    /// Until every record has arrived.
    fn arrived(&self) -> Result<()> {
        native::flush(self.client.client(), CALL)?;
        self.lives()?;
        match self.client.context().refused() {
            None => Ok(()),
            Some(why) => Err(TxnError::Abort(why)),
        }
    }

    /// A client that is finished says so of no call but this.
    fn lives(&self) -> Result<()> {
        match self.client.client().fatal_error() {
            None => Ok(()),
            Some((code, why)) => Err(TxnError::Fatal(format!("{code}: {why}"))),
        }
    }

    fn commit(&self, batch: &Batch, generation: &Generation) -> Result<()> {
        let consumer = self.consumer.upgrade().ok_or_else(|| TxnError::Fatal("the member has left".into()))?;
        // The client sends the generation of that moment, which may be a later one yet: then old progress goes over
        // newer, and records are done again.
        if member_of(&consumer).is_none_or(|now| now.id() != generation.id()) {
            return Err(TxnError::NotMember("another generation has begun".into()));
        }
        let offsets = client::offsets(&batch.progress).map_err(|e| TxnError::Abort(e.to_string()))?;
        consumer.commit(&offsets, CommitMode::Sync).map_err(|e| refused(&e))
    }
}

/// What is to be done about a refused offset commit.
fn refused(e: &KafkaError) -> TxnError {
    match e.rdkafka_error_code() {
        Some(
            Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::FencedInstanceId
            | Code::FencedMemberEpoch
            | Code::AssignmentLost,
        ) => TxnError::NotMember(e.to_string()),
        Some(Code::RebalanceInProgress | Code::StaleMemberEpoch | Code::WaitingForCoordinator) => {
            TxnError::Retriable(e.to_string())
        }
        Some(code) if client::retriable(code) => TxnError::Retriable(e.to_string()),
        _ => TxnError::Abort(e.to_string()),
    }
}

#[async_trait]
impl Transactions for Plain {
    type Generation = Generation;

    async fn init(&mut self) -> Result<()> {
        Ok(())
    }

    async fn begin(&mut self) -> Result<()> {
        self.sent = false;
        self.calls
            .call(|p| {
                // Of a batch that was given up.
                let _earlier = p.client.context().refused();
                Ok(())
            })
            .await
    }

    async fn produce(&mut self, batch: &Arc<Batch>) -> Result<()> {
        match batch.progress.is_empty() {
            true => self.send(batch).await,
            false => Ok(()),
        }
    }

    async fn send_offsets(&mut self, batch: &Arc<Batch>, generation: Generation) -> Result<()> {
        self.send(batch).await?;
        let batch = Arc::clone(batch);
        self.calls
            .call(move |p| {
                p.arrived()?;
                fail_point!("kafka.offsets.before", super::producer::answer);
                if !batch.progress.is_empty() {
                    p.commit(&batch, &generation)?;
                }
                fail_point!("kafka.offsets.after", super::producer::answer);
                Ok(())
            })
            .await
    }

    async fn commit(&mut self) -> Result<()> {
        self.calls.call(Inner::arrived).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.calls.call(Inner::lives).await
    }
}
