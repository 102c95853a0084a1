//! A transactional producer on a thread of its own. One whose call hangs is given up; its successor under the same id fences
//! it off.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fail::fail_point;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use super::calls::Calls;
use super::client;
use super::committer::{Transactions, TxnError};
use super::native::{self, Generation};
use crate::config::Kafka as Config;
use crate::record::Headers;
use crate::transport::{Batch, Outgoing, TransportError};

/// Time-out given to librdkafka for one call; what times out is called again by the committer.
pub const CALL: i32 = 10_000;
/// Failpoints at requests that have left.
const SENT: &str = "kafka.sent.";
/// Wait before a call that failed for now is made again.
const AGAIN: Duration = Duration::from_millis(200);
/// Wait while librdkafka's queue is full.
const FULL: Duration = Duration::from_millis(1);

type Result<T> = std::result::Result<T, TxnError>;

/// A producer with a transactional id.
pub struct Producer {
    calls: Calls<Inner>,
    initialised: bool,
}

struct Inner {
    client: ThreadedProducer<Delivery>,
}

/// Failed deliveries say why; the commit of their transaction then fails.
#[derive(Default)]
pub struct Delivery {
    refused: Mutex<Option<String>>,
}

impl Delivery {
    /// Why a record did not arrive, if one did not since this was last asked.
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Delivery {
    fn error(&self, e: KafkaError, reason: &str) {
        tracing::debug!(error = %e, reason, "producer");
    }

    fn log(&self, level: RDKafkaLogLevel, topic: &str, text: &str) {
        if level as i32 <= RDKafkaLogLevel::Warning as i32 {
            tracing::warn!(target: "librdkafka", topic, text);
        } else if topic == "SEND"
            && let Some(request) = text.split(": Sent ").nth(1).and_then(|r| r.split("Request").next())
        {
            fail_point!(&format!("{SENT}{request}"));
            tracing::trace!(request, "sent");
        }
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((e, m)) = result
            && e.rdkafka_error_code() != Some(Code::PurgeQueue)
            && e.rdkafka_error_code() != Some(Code::PurgeInflight)
        {
            use rdkafka::Message as _;
            // The first of its transaction tells enough: the others fail with it.
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.is_none() {
                tracing::warn!(topic = m.topic(), error = %e, "a record was refused; what goes with it is written again");
                *refused = Some(format!("a record for {} is refused: {e}", m.topic()));
            }
        }
    }
}

impl Producer {
    /// A client under this transactional id, not yet initialised.
    pub fn new(config: &Config, transactional_id: &str) -> std::result::Result<Producer, TransportError> {
        let mut c = client::writing(config);
        c.set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", config.transaction_timeout.as_millis().to_string())
            // What no broker takes is refused well before the broker ends the transaction by itself: at the same moment, a
            // commit could not tell its own failure from that end. A topic that is unknown is refused sooner still.
            .set("message.timeout.ms", (config.transaction_timeout * 3 / 4).as_millis().to_string())
            .set("topic.metadata.propagation.max.ms", (config.transaction_timeout / 4).as_millis().to_string());
        if fail::list().iter().any(|(point, _)| point.starts_with(SENT)) {
            c.set("debug", "protocol").set_log_level(RDKafkaLogLevel::Debug);
        }
        let client = c.create_with_context(Delivery::default()).map_err(|e| client::explain(&e, config))?;
        Ok(Producer { calls: Calls::start(Inner { client })?, initialised: false })
    }

    /// `init`, again while it times out.
    pub async fn init_within(&mut self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            match self.init().await {
                Err(TxnError::Retriable(e)) if Instant::now() < until => {
                    tracing::warn!(error = %e, "a producer is not initialised yet; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                other => return other,
            }
        }
    }
}

#[async_trait]
impl Transactions for Producer {
    type Generation = Generation;

    async fn init(&mut self) -> Result<()> {
        // Done before the group was joined.
        if !self.initialised {
            self.calls
                .call(|p| {
                    fail_point!("kafka.init.before");
                    native::init_transactions(p.client.client(), CALL)?;
                    fail_point!("kafka.init.after");
                    Ok(())
                })
                .await?;
            self.initialised = true;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<()> {
        self.calls.call(|p| native::begin_transaction(p.client.client())).await
    }

    async fn produce(&mut self, batch: &Arc<Batch>) -> Result<()> {
        let batch = Arc::clone(batch);
        self.calls.call(move |p| batch.outputs.iter().try_for_each(|o| send(&p.client, o))).await
    }

    async fn send_offsets(&mut self, batch: &Arc<Batch>, generation: Generation) -> Result<()> {
        if batch.progress.is_empty() {
            return Ok(());
        }
        let batch = Arc::clone(batch);
        self.calls
            .call(move |p| {
                fail_point!("kafka.offsets.before", answer);
                let offsets = client::offsets(&batch.progress).map_err(|e| TxnError::Abort(e.to_string()))?;
                native::send_offsets(p.client.client(), &offsets, &generation, CALL)?;
                fail_point!("kafka.offsets.after", answer);
                Ok(())
            })
            .await
    }

    async fn commit(&mut self) -> Result<()> {
        self.calls
            .call(|p| {
                fail_point!("kafka.commit.before", answer);
                native::commit_transaction(p.client.client(), CALL)?;
                fail_point!("kafka.commit.after", answer);
                Ok(())
            })
            .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.calls.call(|p| native::abort_transaction(p.client.client(), CALL)).await
    }
}

/// What a failpoint lets a call answer.
#[allow(dead_code, reason = "called where failpoints are on")]
pub fn answer(how: Option<String>) -> Result<()> {
    let how = how.unwrap_or_default();
    let text = format!("failpoint: {how}");
    Err(match &*how {
        "retriable" => TxnError::Retriable(text),
        "abort" => TxnError::Abort(text),
        _ => TxnError::Fatal(text),
    })
}

/// Hands a record to the client; waits while its queue is full.
pub fn send(client: &ThreadedProducer<Delivery>, o: &Outgoing) -> Result<()> {
    let mut record = BaseRecord::<[u8], [u8]>::to(&o.topic);
    if !o.tombstone {
        record = record.payload(&o.value);
    }
    if let Some(partition) = o.partition {
        record = record.partition(partition);
    }
    if let Some(key) = &o.key {
        record = record.key(key);
    }
    if !o.headers.0.is_empty() {
        record = record.headers(headers(&o.headers));
    }
    let mut looked = false;
    loop {
        match client.send(record) {
            Ok(()) => return Ok(()),
            // The topic may have grown since the client last looked.
            Err((KafkaError::MessageProduction(Code::UnknownPartition), back)) if !looked => {
                looked = true;
                record = back;
                if let Err(e) = client.client().fetch_metadata(Some(&o.topic), client::ASK) {
                    return Err(TxnError::Abort(format!("the partitions of {} cannot be asked for: {e}", o.topic)));
                }
            }
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                record = back;
                #[allow(clippy::disallowed_methods, reason = "a thread of its own")]
                std::thread::sleep(FULL);
            }
            Err((e, _)) => return Err(TxnError::Abort(format!("a record for {} is refused: {e}", o.topic))),
        }
    }
}

fn headers(h: &Headers) -> OwnedHeaders {
    let all = OwnedHeaders::new_with_capacity(h.0.len());
    h.0.iter().fold(all, |all, (name, value)| all.insert(Header { key: name, value: Some(&value[..]) }))
}
