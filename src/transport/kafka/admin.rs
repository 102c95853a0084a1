//! Topics of a cluster: made, described, grown, set. Each call has a client of its own and asks the cluster anew.
//!
//! Every call is bounded: [`ASK`] a request and until new settings show, [`SETTLE`] until new partitions have leaders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication, TopicResult,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::runtime::Handle;

use super::client::{self, ASK};
use crate::config::Kafka as Config;
use crate::topology::{CLEANUP_POLICY, Topic};
use crate::transport::{Result, TopicState, TransportError};

/// Longest wait for confirmed partitions to have leaders.
const SETTLE: Duration = Duration::from_secs(30);
/// Most partitions that librdkafka takes.
const MOST_PARTITIONS: i32 = 100_000;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Creates the topics that are missing (full names) and waits until they have leaders. What exists stays as it is, also
/// when somebody else creates it at the same time. After an error some may have been created.
pub async fn create_topics(config: &Config, topics: &[Topic]) -> Result<()> {
    let admin = Admin::new(config)?;
    let there = admin.shapes().await?;
    let missing: Vec<&Topic> = topics.iter().filter(|t| !there.contains_key(&t.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let settings: Vec<_> = missing.iter().map(|t| t.settings()).collect();
    let new = missing.iter().zip(&settings).map(|(t, settings)| {
        let replication = if config.replication == 0 { -1 } else { i32::from(config.replication) };
        let new = NewTopic::new(&t.name, number(&t.name, t.partitions)?, TopicReplication::Fixed(replication));
        Ok(settings.iter().fold(new, |new, (name, value)| new.set(name, value)))
    });
    let new = new.collect::<Result<Vec<_>>>()?;
    let done = admin.client()?.create_topics(&new, &options()).await.map_err(|e| admin.explain(&e))?;
    admin.all(&done, |code| code == Code::TopicAlreadyExists)?;
    admin.settled(&missing.iter().map(|t| (t.name.as_str(), 1)).collect::<Vec<_>>()).await
}

/// Those of the topics (full names) that exist, in the order asked for.
pub async fn describe(config: &Config, topics: &[String]) -> Result<Vec<TopicState>> {
    let admin = Admin::new(config)?;
    let shapes = admin.shapes().await?;
    let there: Vec<&str> = topics.iter().map(String::as_str).filter(|t| shapes.contains_key(*t)).collect();
    let mut entries = admin.entries(&there).await?;
    let mut found = vec![];
    for name in there {
        // One that was deleted since has no entries.
        let (Some(shape), Some(entries)) = (shapes.get(name), entries.remove(name)) else { continue };
        let (own, inherited) = entries.into_iter().partition(|e| e.source == ConfigSource::DynamicTopic);
        found.push(TopicState {
            name: name.to_owned(),
            partitions: shape.partitions,
            replication: Some(shape.replication),
            settings: values(own),
            inherited: values(inherited),
        });
    }
    Ok(found)
}

/// Grows topics (full names) to so many partitions and waits until they have leaders; what has as many or more stays as
/// it is. Kafka has no transaction for this: they grow in this order, and after an error some may have grown.
pub async fn grow(config: &Config, topics: &[String], partitions: u32) -> Result<()> {
    let admin = Admin::new(config)?;
    let shapes = admin.shapes().await?;
    if let Some(missing) = topics.iter().find(|t| !shapes.contains_key(*t)) {
        return Err(TransportError::NoTopic(missing.clone()));
    }
    let fewer = |t: &&String| shapes.get(*t).is_some_and(|s| s.partitions < partitions);
    let growing: Vec<&str> = topics.iter().filter(fewer).map(String::as_str).collect();
    let Some(first) = growing.first() else { return Ok(()) };
    let count = usize::try_from(number(first, partitions)?).unwrap_or(usize::MAX);
    let new: Vec<_> = growing.iter().map(|t| NewPartitions::new(t, count)).collect();
    let done = admin.client()?.create_partitions(&new, &options()).await.map_err(|e| admin.explain(&e))?;
    if let Err(e) = admin.all(&done, |_| false) {
        // Somebody else may have grown it at the same time.
        let now = admin.shapes().await?;
        if !growing.iter().all(|t| now.get(*t).is_some_and(|s| s.partitions >= partitions)) {
            return Err(e);
        }
    }
    admin.settled(&growing.iter().map(|t| (*t, partitions)).collect::<Vec<_>>()).await
}

/// Sets settings of a topic (full name) and leaves its others as they are.
///
/// `AlterConfigs` replaces a topic's settings as a whole, and librdkafka offers no incremental one to us: a key that is
/// not sent goes back to its default. So what the topic has of its own is read, merged, sent, and read again. What
/// somebody else sets in these few milliseconds is undone; that shows only if it comes after the sending.
pub async fn configure(config: &Config, topic: &str, settings: &BTreeMap<String, String>) -> Result<()> {
    let admin = Admin::new(config)?;
    let all = admin.all_entries(topic).await?;
    // Each topic shows every setting there is.
    if let Some(unknown) = settings.keys().find(|k| !all.iter().any(|e| e.name == **k)) {
        return Err(TransportError::Fatal(format!("{topic} cannot have {unknown}: the cluster knows no such setting")));
    }
    let own = own(topic, all)?;
    let mut wanted = own.clone();
    wanted.extend(settings.iter().map(|(k, v)| (k.clone(), v.clone())));
    if wanted == own {
        return Ok(());
    }
    let resource = ResourceSpecifier::Topic(topic);
    let alter = wanted.iter().fold(AlterConfig::new(resource), |alter, (name, value)| alter.set(name, value));
    let done = admin.client()?.alter_configs([&alter], &options()).await.map_err(|e| admin.explain(&e))?;
    if let Some(Err((_, code))) = done.into_iter().find(|r| r.is_err()) {
        return Err(admin.named(topic, code));
    }
    // rdkafka 0.39 drops a resource's error: only looking tells what became of it.
    let until = Instant::now() + ASK;
    loop {
        let now = self::own(topic, admin.all_entries(topic).await?)?;
        if now == wanted {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(not_set(topic, settings, &own, &now));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Deletes what stands before these offsets (partition, offset) of a topic (`DeleteRecords`, KIP-107). After an error some
/// partitions may be done.
pub async fn delete_before(config: &Config, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let admin = Admin::new(config)?;
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(|e| admin.explain(&e))?;
    }
    let done = admin.client()?.delete_records(&list, &options()).await.map_err(|e| admin.explain(&e))?;
    match done.elements().iter().find_map(|e| e.error().err()) {
        None => Ok(()),
        Some(e) if e.rdkafka_error_code() == Some(Code::PolicyViolation) => Err(TransportError::Fatal(format!(
            "records of {topic} cannot be deleted: its {CLEANUP_POLICY} is compact alone"
        ))),
        Some(e) => Err(admin.explain(&e)),
    }
}

/// Why a topic does not have the settings that it was to have.
fn not_set(
    topic: &str,
    settings: &BTreeMap<String, String>,
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> TransportError {
    if now == before {
        let tried: Vec<String> = settings.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        TransportError::Fatal(format!(
            "the cluster did not set {} for {topic}: it refuses the value, or its ACLs lack AlterConfigs",
            tried.join(", ")
        ))
    } else {
        TransportError::Unavailable(format!(
            "{topic} does not have the settings that were set; if somebody else changes them too, agree and try again"
        ))
    }
}

/// What metadata says of a topic.
struct Shape {
    partitions: u32,
    replication: u16,
    /// Every partition has a leader.
    led: bool,
}

struct Admin<'a> {
    /// None only while it is dropped.
    client: Option<Arc<AdminClient<DefaultClientContext>>>,
    config: &'a Config,
}

impl Drop for Admin<'_> {
    fn drop(&mut self) {
        // Its thread takes up to 100 ms to end, which no async thread should wait for.
        if let (Some(client), Ok(runtime)) = (self.client.take(), Handle::try_current()) {
            let _ends_by_itself = runtime.spawn_blocking(move || drop(client));
        }
    }
}

impl<'a> Admin<'a> {
    fn new(config: &'a Config) -> Result<Admin<'a>> {
        let client = client::base(config).create().map_err(|e| client::explain(&e, config))?;
        Ok(Admin { client: Some(Arc::new(client)), config })
    }

    fn client(&self) -> Result<Arc<AdminClient<DefaultClientContext>>> {
        self.client.clone().ok_or_else(|| TransportError::Fatal("the admin client is closed".into()))
    }

    /// Every topic of the cluster. Asking for all of them is the one question that never creates one
    /// (`auto.create.topics.enable`).
    async fn shapes(&self) -> Result<BTreeMap<String, Shape>> {
        let client = self.client()?;
        let asked = tokio::task::spawn_blocking(move || client.inner().fetch_metadata(None, ASK)).await;
        let metadata = asked
            .map_err(|e| TransportError::Unavailable(format!("asking for the topics was cut short: {e}")))?
            .map_err(|e| self.explain(&e))?;
        let shape = |t: &rdkafka::metadata::MetadataTopic| Shape {
            partitions: u32::try_from(t.partitions().len()).unwrap_or(u32::MAX),
            replication: t.partitions().iter().map(|p| p.replicas().len()).min().map_or(0, |n| n.min(999) as u16),
            led: t.error().is_none() && t.partitions().iter().all(|p| p.leader() >= 0),
        };
        Ok(metadata
            .topics()
            .iter()
            .filter(|t| !t.partitions().is_empty())
            .map(|t| (t.name().to_owned(), shape(t)))
            .collect())
    }

    /// Waits until these topics show so many partitions, each with a leader.
    async fn settled(&self, topics: &[(&str, u32)]) -> Result<()> {
        let until = Instant::now() + SETTLE;
        loop {
            let shapes = self.shapes().await?;
            let ready = |(name, n): &&(&str, u32)| shapes.get(*name).is_some_and(|s| s.led && s.partitions >= *n);
            let Some((name, _)) = topics.iter().find(|t| !ready(t)) else { return Ok(()) };
            if Instant::now() >= until {
                return Err(TransportError::Unavailable(format!(
                    "{name} has partitions without a leader after {} s; are all brokers of {} up?",
                    SETTLE.as_secs(),
                    self.config.brokers
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All settings of topics, each with its source.
    async fn entries(&self, topics: &[&str]) -> Result<BTreeMap<String, Vec<ConfigEntry>>> {
        let asked: Vec<_> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        let answers = self.client()?.describe_configs(&asked, &options()).await.map_err(|e| self.explain(&e))?;
        let mut found = BTreeMap::new();
        for answer in answers {
            let resource = answer.map_err(|code| self.explain(&KafkaError::AdminOp(code)))?;
            let rdkafka::admin::OwnedResourceSpecifier::Topic(name) = resource.specifier else { continue };
            // Every topic has dozens. The library passes a resource's error on as a list without entries, and taking
            // that for a topic without settings would be the end of them.
            if resource.entries.is_empty() {
                return Err(TransportError::Unavailable(format!(
                    "{} does not show the settings of {name}; it was deleted, or its ACLs lack DescribeConfigs",
                    self.config.brokers
                )));
            }
            found.insert(name, resource.entries);
        }
        Ok(found)
    }

    /// All settings of one topic.
    async fn all_entries(&self, topic: &str) -> Result<Vec<ConfigEntry>> {
        let missing = || TransportError::NoTopic(topic.to_owned());
        if !self.shapes().await?.contains_key(topic) {
            return Err(missing());
        }
        self.entries(&[topic]).await?.remove(topic).ok_or_else(missing)
    }

    /// The first topic that failed, in words.
    fn all(&self, done: &[TopicResult], fine: impl Fn(Code) -> bool) -> Result<()> {
        let mut failed = done.iter().filter_map(|r| r.as_ref().err()).filter(|(_, code)| !fine(*code));
        failed.next().map_or(Ok(()), |(topic, code)| Err(self.named(topic, *code)))
    }

    fn named(&self, topic: &str, code: Code) -> TransportError {
        match code {
            Code::InvalidReplicationFactor => TransportError::Fatal(format!(
                "{topic} cannot have {} replicas: the cluster has fewer brokers; see [kafka] replication",
                self.config.replication
            )),
            Code::InvalidConfig | Code::InvalidPartitions | Code::PolicyViolation | Code::InvalidTopic => {
                TransportError::Fatal(format!("the cluster refuses the partitions or settings of {topic} ({code})"))
            }
            code => match self.explain(&KafkaError::AdminOp(code)) {
                TransportError::NoTopic(_) => TransportError::NoTopic(topic.to_owned()),
                TransportError::Fatal(m) => TransportError::Fatal(format!("{topic}: {m}")),
                TransportError::Unavailable(m) => TransportError::Unavailable(format!("{topic}: {m}")),
            },
        }
    }

    fn explain(&self, e: &KafkaError) -> TransportError {
        client::explain(e, self.config)
    }
}

/// What is set for a topic itself: all that must be sent along when one setting is altered.
fn own(topic: &str, entries: Vec<ConfigEntry>) -> Result<BTreeMap<String, String>> {
    let own: Vec<ConfigEntry> = entries
        .into_iter()
        .filter(|e| matches!(e.source, ConfigSource::DynamicTopic | ConfigSource::Unknown))
        .collect();
    // A value that is hidden, or whose source is, cannot be sent along.
    if let Some(e) = own.iter().find(|e| e.value.is_none() || e.source == ConfigSource::Unknown) {
        return Err(TransportError::Fatal(format!(
            "the cluster does not say what {} of {topic} is set to, and it would be lost; set the topic with \
             kafka-configs --alter",
            e.name
        )));
    }
    Ok(values(own))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK))
}

/// As the protocol has it, within librdkafka's bounds.
fn number(topic: &str, partitions: u32) -> Result<i32> {
    i32::try_from(partitions).ok().filter(|n| (1..=MOST_PARTITIONS).contains(n)).ok_or_else(|| {
        TransportError::Fatal(format!("{topic} cannot have {partitions} partitions: it must be 1 to {MOST_PARTITIONS}"))
    })
}

fn values(entries: Vec<ConfigEntry>) -> BTreeMap<String, String> {
    entries.into_iter().filter_map(|e| Some((e.name, e.value?))).collect()
}
