//! Client settings: what was configured, what each kind of client needs, and errors in words.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::config::{Kafka as Config, Settings};
use crate::transport::{Progress, TransportError};

/// Longest wait for a cluster's answer to a question that is not part of the data path.
pub const ASK: Duration = Duration::from_secs(10);

/// Settings all clients share.
pub fn base(config: &Config) -> ClientConfig {
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", &config.brokers)
        .set("client.id", "tidemill")
        // Brokers that are away are asked again soon, so that an outage ends when it ends.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // A topic that has grown is noticed by producers and by classic groups when they look again.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set_log_level(RDKafkaLogLevel::Warning);
    add(&mut c, &config.client);
    c
}

/// Settings of a client that reads: committed records only.
pub fn reading(config: &Config) -> ClientConfig {
    let mut c = base(config);
    c.set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        // The default of a second leaves partitions whose queue was full unread for that long (librdkafka).
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.message.max.bytes", "4194304")
        .set("receive.message.max.bytes", "134217728");
    add(&mut c, &config.consumer);
    c
}

/// Settings of a client that reads without joining a group, as `group` if it is to ask for a group's offsets.
pub fn looking(config: &Config, group: &str) -> ClientConfig {
    let mut c = reading(config);
    // It has no session; but librdkafka checks what members have against it.
    c.set("group.id", group).set("session.timeout.ms", config.session_timeout.as_millis().to_string());
    c
}

/// Settings of a client that writes.
pub fn writing(config: &Config) -> ClientConfig {
    let mut c = base(config);
    c.set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        // As the Java client places keys, so that whoever produces, a key has one owner.
        .set("partitioner", "murmur2_random")
        // The topic decides (`max.message.bytes`).
        .set("message.max.bytes", "33554432")
        .set("queue.buffering.max.kbytes", "131072")
        .set("queue.buffering.max.messages", "1000000")
        // Only failures are of interest.
        .set("delivery.report.only.error", "true");
    add(&mut c, &config.producer);
    c
}

fn add(c: &mut ClientConfig, settings: &Settings) {
    for (name, value) in settings.iter() {
        c.set(name, value);
    }
}

/// A client library error as one of ours.
pub fn explain(e: &KafkaError, config: &Config) -> TransportError {
    if let KafkaError::ClientConfig(_, what, name, value) = e {
        let hint = if value.contains("SSL")
            || value.contains("SCRAM")
            || what.contains("not available")
            || name.contains("ssl.")
        {
            "; for TLS and SCRAM build with --features tls"
        } else {
            ""
        };
        return TransportError::Fatal(format!("[kafka] {name} = {value:?} is refused: {}{hint}", what.trim()));
    }
    if let KafkaError::ClientCreation(why) = e {
        return TransportError::Fatal(format!("[kafka] settings do not go together: {why}"));
    }
    let brokers = &config.brokers;
    match e.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            TransportError::NoTopic("(one that was asked for)".into())
        }
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => TransportError::Fatal(format!(
            "{brokers} refuses the credentials ({e}); see [kafka.client] sasl.* and ssl.*"
        )),
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed,
        ) => TransportError::Fatal(format!("{brokers} does not allow it ({e}); see its ACLs")),
        Some(code) if retriable(code) => TransportError::Unavailable(format!(
            "{brokers} does not answer ({e}); is it up, and is [kafka] brokers right?"
        )),
        _ => TransportError::Unavailable(format!("{brokers}: {e}")),
    }
}

/// Whether trying again may help without anybody doing anything.
pub fn retriable(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::NotCoordinator
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::NetworkException
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::UnstableOffsetCommit
    )
}

/// Whether a partition has no leader for now, or it just moved, or does not know of it yet.
pub fn leaderless(code: Code) -> bool {
    matches!(code, Code::NotLeaderForPartition | Code::LeaderNotAvailable)
}

/// Progress as the client library has it: base as the offset, the map as its metadata.
pub fn offsets(progress: &[Progress]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(progress.len());
    for p in progress {
        let mut e = list.add_partition(&p.at.topic, p.at.partition);
        e.set_offset(Offset::Offset(p.base))?;
        // Set once on a new element: setting it twice would leak the first.
        e.set_metadata(&p.map);
    }
    Ok(list)
}

/// Says what the client library says at debug level: what matters of it comes back as an error of the call.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, e: KafkaError, reason: &str) {
        tracing::debug!(error = %e, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}
