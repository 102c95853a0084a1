//! The log on a Kafka cluster.
//!
//! ```text
//! join ─► subscribe (KIP-848 with the broker's range assignor, else a classic group with range)
//!         Committer: two producers, initialised first, so that what a former life left open is settled
//!         Reader (a thread): the group's decisions ─► offsets (a thread): committed base and map, once stable
//!                            records, a queue a partition ─► events ─► the runner
//! commit ─► Committer: produce, offsets, EndTxn; the next batch rolls when this one's outcome is known
//! append, bounds, read, progress ─► clients of their own
//! exactly_once = false: the same Committer drives plain producers and offset commits, at least once
//! ```
//!
//! What is promised, and what happens at each crash: docs/exactly-once.md.

pub mod admin;
mod calls;
pub mod client;
pub mod committer;
mod consumer;
mod context;
mod group;
mod identity;
mod leaders;
mod look;
mod member;
mod native;
mod offsets;
mod plain;
mod producer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{
    Batch, Bounds, Incoming, Member, Outgoing, Result, See, TopicPartition, TopicState, Transport, TransportError,
};
use crate::config::Kafka as Config;
use crate::topology::Topic;
use committer::{Transactions, TxnError};
use identity::Identity;
use look::Look;
use member::KafkaMember;
use native::Generation;
use plain::Plain;
use producer::Producer;

/// How long a question is asked again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an append asks how its transaction ended.
const ENDED: Duration = Duration::from_secs(60);
/// Pause of those who wait for records without being in a group.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A Kafka cluster.
pub struct Kafka {
    config: Config,
    /// Keeps the process' name, if none is configured.
    data: PathBuf,
    /// Taken when it is first needed: those who only look need none.
    identity: Mutex<Option<Identity>>,
    look: Arc<Look>,
    /// Appends, one at a time; made when first needed.
    appending: Mutex<Option<Box<dyn Transactions<Generation = Generation>>>>,
}

impl Kafka {
    /// The cluster of the configuration, for a process with this data folder.
    pub fn open(config: &Config, data: &Path) -> Result<Kafka> {
        let look = Arc::new(Look::new(config)?);
        Ok(Kafka {
            config: config.clone(),
            data: data.to_owned(),
            identity: Mutex::default(),
            look,
            appending: Mutex::default(),
        })
    }

    /// Runs a blocking question; one that is refused for now (a leader moves) is asked again.
    async fn ask<T: Send + 'static>(&self, f: impl Fn(&Look) -> Result<T> + Send + Sync + 'static) -> Result<T> {
        let (until, f) = (Instant::now() + PATIENCE, Arc::new(f));
        loop {
            let (look, f) = (Arc::clone(&self.look), Arc::clone(&f));
            let answer = tokio::task::spawn_blocking(move || f(&look)).await;
            match answer.map_err(|e| TransportError::Fatal(format!("a question to the cluster was cut short: {e}")))? {
                Err(TransportError::Unavailable(_)) if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                other => return other,
            }
        }
    }

    /// Refuses what no topic or partition can take, before anything is written.
    async fn check(&self, records: &[Outgoing]) -> Result<()> {
        let mut topics: BTreeMap<Arc<str>, i32> = BTreeMap::new();
        for r in records {
            let highest = topics.entry(Arc::clone(&r.topic)).or_insert(-1);
            *highest = (*highest).max(r.partition.unwrap_or(-1));
        }
        self.ask(move |look| {
            for (topic, highest) in &topics {
                if i64::from(*highest) >= i64::from(look.partitions(topic)?) {
                    return Err(TransportError::Fatal(format!("{topic} has no partition {highest}")));
                }
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Transport for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        admin::create_topics(&self.config, topics).await
    }

    async fn describe_topics(&self, topics: &[String]) -> Result<Vec<TopicState>> {
        admin::describe(&self.config, topics).await
    }

    async fn grow_topics(&self, topics: &[String], partitions: u32) -> Result<()> {
        admin::grow(&self.config, topics, partitions).await
    }

    async fn configure_topic(&self, topic: &str, settings: &BTreeMap<String, String>) -> Result<()> {
        admin::configure(&self.config, topic, settings).await
    }

    async fn join(&self, group: &str, topics: &[String]) -> Result<Box<dyn Member>> {
        let asked = topics.to_vec();
        let counts = self
            .ask(move |look| {
                asked.iter().map(|t| look.partitions(t).map(|n| (t.clone(), n))).collect::<Result<Vec<_>>>()
            })
            .await?;
        if let Some((first, expected)) = counts.first()
            && let Some((topic, n)) = counts.iter().find(|(_, n)| n != expected)
        {
            return Err(TransportError::Fatal(format!(
                "{topic} has {n} partitions and {first} has {expected}: topics read together need equal counts; see `tidemill topics plan`"
            )));
        }
        let name = match self.config.member.as_str() {
            "" => self.slot().await?,
            name => name.to_owned(),
        };
        Ok(Box::new(KafkaMember::join(&self.config, &name, group, topics).await?))
    }

    async fn append(&self, records: Vec<Outgoing>) -> Result<()> {
        self.check(&records).await?;
        let batch = Arc::new(Batch { outputs: records, progress: vec![] });
        let mut slot = self.appending.lock().await;
        let mut producer = match slot.take() {
            Some(p) => p,
            None => self.appending().await?,
        };
        if batch.outputs.is_empty() {
            *slot = Some(producer);
            return Ok(());
        }
        let written = async {
            producer.begin().await?;
            producer.produce(&batch).await?;
            let until = Instant::now() + ENDED;
            loop {
                match producer.commit().await {
                    // It may be written already; made again, the call goes on where it stood.
                    Err(TxnError::Retriable(_)) if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                    other => return other,
                }
            }
        };
        match written.await {
            Ok(()) => {
                *slot = Some(producer);
                Ok(())
            }
            Err(e @ TxnError::Abort(_)) => {
                if producer.abort().await.is_ok() {
                    *slot = Some(producer);
                }
                Err(self.unavailable(&e))
            }
            // Without the producer the broker aborts it after its time-out, unless it was committed after all.
            Err(e) => Err(self.unavailable(&e)),
        }
    }

    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>> {
        let topic = topic.to_owned();
        self.ask(move |look| look.bounds(&topic)).await
    }

    async fn offsets_at(&self, topic: &str, time: i64) -> Result<Vec<(i32, i64)>> {
        let topic = topic.to_owned();
        self.ask(move |look| look.offsets_at(&topic, time)).await
    }

    async fn delete_before(&self, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        // A broker refuses an offset beyond the end.
        let ends: BTreeMap<i32, i64> = self.bounds(topic).await?.iter().map(|b| (b.partition, b.end)).collect();
        let within = |(p, offset): &(i32, i64)| ends.get(p).map(|end| (*p, (*offset).min(*end)));
        let offsets: Vec<_> = offsets.iter().filter_map(within).collect();
        admin::delete_before(&self.config, topic, &offsets).await
    }

    async fn read(
        &self,
        at: &TopicPartition,
        from: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Incoming>> {
        let at = at.clone();
        let all = move |look: &Look| {
            let mut records = vec![];
            look.visit(&at, from, max_records, max_bytes, &mut |record| records.push(record))?;
            Ok(records)
        };
        self.ask(all).await
    }

    async fn visit(
        &self,
        at: &TopicPartition,
        from: i64,
        max_records: usize,
        max_bytes: usize,
        see: See,
    ) -> Result<Option<i64>> {
        let at = at.clone();
        self.ask(move |look| look.visit(&at, from, max_records, max_bytes, &mut |record| see(record))).await
    }

    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64, String)>> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.ask(move |look| look.progress(&group, &topic)).await
    }

    async fn changed(&self, timeout: Duration) {
        tokio::time::sleep(timeout.min(LOOK_EVERY)).await;
    }

    async fn sweep(&self) -> Result<u64> {
        Ok(0)
    }
}

impl Kafka {
    /// A producer for appends.
    async fn appending(&self) -> Result<Box<dyn Transactions<Generation = Generation>>> {
        if !self.config.exactly_once {
            return Ok(Box::new(Plain::new(&self.config, Weak::new())?));
        }
        // Nobody else has it now, and this process has it again in its next life: then the first thing it does is to
        // settle what it left open.
        let name = match self.slot().await {
            Ok(slot) => slot,
            Err(_) => uuid::Uuid::now_v7().simple().to_string(),
        };
        let mut p = Producer::new(&self.config, &format!("tidemill.append.{name}"))?;
        p.init_within(ENDED).await.map_err(|e| self.unavailable(&e))?;
        Ok(Box::new(p))
    }

    /// This process' name among those on its data folder.
    async fn slot(&self) -> Result<String> {
        let mut identity = self.identity.lock().await;
        Ok(match &*identity {
            Some(i) => i.name.clone(),
            None => identity.insert(identity::identify(&self.data)?).name.clone(),
        })
    }

    fn unavailable(&self, e: &TxnError) -> TransportError {
        TransportError::Unavailable(format!("records could not be appended to {}: {e}", self.config.brokers))
    }
}
