//! The runner's end of a member.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fail::fail_point;
use futures::future::BoxFuture;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::client;
use super::committer::{Committer, PRODUCERS, TxnError};
use super::consumer::Reader;
use super::context::{Context, Decision};
use super::group::{Group, transactional_id};
use super::native::Generation;
use super::producer::Producer;
use crate::config::{GroupProtocol, Kafka as Config};
use crate::transport::{Batch, Committed, Event, Member, Result, TopicPartition, TransportError};

/// Events that wait for the runner.
const EVENTS: usize = 8;
/// Longest wait for the session of a former life to end: the broker's default is 45 s.
const UNRELEASED: Duration = Duration::from_secs(90);
/// Wait before it is asked for again.
const AGAIN: Duration = Duration::from_millis(300);
/// Wait between attempts to join again.
const REJOIN: Duration = Duration::from_secs(1);
/// Fenced off so often within so long, it is by another process: two of a name do it every few seconds.
const FENCED: usize = 3;
const LATELY: Duration = Duration::from_secs(60);
/// Longest wait for the group's first answer.
const JOIN: Duration = Duration::from_secs(30);

/// A member of a Kafka consumer group.
pub struct KafkaMember {
    topics: Vec<String>,
    life: Life,
    /// The life after this one, under way.
    next: Option<JoinHandle<Life>>,
    /// When the group said, lately, that another process has this member's name.
    fenced: Vec<Instant>,
}

/// What lives as long as one client is in the group.
struct Life {
    group: Arc<Group>,
    committer: Committer,
    events: mpsc::Receiver<Result<Event>>,
}

impl KafkaMember {
    /// Joins; the partitions come as events. The cluster has told how many partitions there are, so it was there a moment
    /// ago: who gave up now, because a broker just went away, would only be started again into the same outage.
    pub async fn join(config: &Config, member: &str, group: &str, topics: &[String]) -> Result<KafkaMember> {
        let life = loop {
            match Life::begin(config.clone(), member.to_owned(), group.to_owned(), topics.to_vec()).await {
                Err(TransportError::Unavailable(e)) => tracing::warn!(group, error = e, "joining failed; trying on"),
                begun => break begun?,
            }
            tokio::time::sleep(REJOIN).await;
        };
        Ok(KafkaMember { topics: topics.to_vec(), life, next: None, fenced: vec![] })
    }
}

impl Life {
    async fn begin(config: Config, member: String, name: String, topics: Vec<String>) -> Result<Life> {
        // First of all, and while the group may still wait for its former life to time out: whatever that left open is
        // settled by this, so that offsets become stable and outputs visible.
        let producers = match config.exactly_once {
            true => prepare(&config, &name, &member).await?,
            false => {
                tracing::warn!(
                    group = name,
                    "at least once, as [kafka] exactly_once = false says: outputs and offsets are not written together, so \
                     after a crash records may be written again; none is lost"
                );
                vec![]
            }
        };
        let group = tokio::task::spawn_blocking(move || {
            let consumer = subscribe(&config, &member, &name, &topics)?;
            Ok::<_, TransportError>(Arc::new(Group::new(config, &name, &member, consumer, producers)))
        })
        .await
        .map_err(|e| TransportError::Fatal(format!("joining was cut short: {e}")))??;
        let committer =
            Committer::start(&group).await.map_err(|e| TransportError::Unavailable(format!("no transactions: {e}")))?;
        let (tx, events) = mpsc::channel(EVENTS);
        Reader::start(Arc::clone(&group), tx)?;
        Ok(Life { group, committer, events })
    }

    /// Begins until it succeeds.
    async fn begin_again(config: Config, member: String, name: String, topics: Vec<String>) -> Life {
        loop {
            match Life::begin(config.clone(), member.clone(), name.clone(), topics.clone()).await {
                Ok(life) => return life,
                Err(e) => tracing::error!(group = name, error = %e, "joining again failed; trying on"),
            }
            tokio::time::sleep(REJOIN).await;
        }
    }
}

/// The member's producers, initialised.
async fn prepare(config: &Config, group: &str, member: &str) -> Result<Vec<Producer>> {
    let mut producers = vec![];
    for n in 0..PRODUCERS {
        let mut p = Producer::new(config, &transactional_id(group, member, n))?;
        p.init_within(JOIN).await.map_err(|e| {
            let message = format!("{} takes no transactions: {e}", config.brokers);
            match e {
                TxnError::Retriable(_) => TransportError::Unavailable(message),
                _ => TransportError::Fatal(message),
            }
        })?;
        producers.push(p);
    }
    Ok(producers)
}

/// A consumer that is in the group, by the protocol that the broker offers.
fn subscribe(config: &Config, member: &str, name: &str, topics: &[String]) -> Result<Arc<BaseConsumer<Context>>> {
    let protocols: &[GroupProtocol] = match config.group_protocol {
        GroupProtocol::Auto => &[GroupProtocol::Consumer, GroupProtocol::Classic],
        GroupProtocol::Consumer => &[GroupProtocol::Consumer],
        GroupProtocol::Classic => &[GroupProtocol::Classic],
    };
    for (i, protocol) in protocols.iter().enumerate() {
        let until = Instant::now() + UNRELEASED;
        let mut said = false;
        let refused = loop {
            match enter(config, member, name, topics, *protocol)? {
                Entered::In(consumer) => return Ok(consumer),
                Entered::Refused(e) => break e,
                // Its former life was killed, and the broker gives it until its session ends (KIP-848).
                Entered::Unreleased if Instant::now() < until => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::info!(
                            group = name,
                            member,
                            "waiting until the session of this member's former life is over"
                        );
                    }
                    #[allow(clippy::disallowed_methods, reason = "a blocking task")]
                    std::thread::sleep(AGAIN);
                }
                Entered::Unreleased => {
                    return Err(TransportError::Fatal(format!(
                        "another process is member {member:?} of group {name}; give each its own name ([kafka] member)"
                    )));
                }
            }
        };
        if i + 1 == protocols.len() {
            return Err(TransportError::Fatal(format!(
                "{} refuses group protocol {protocol:?} ({refused}); set [kafka] group_protocol = \"auto\"",
                config.brokers
            )));
        }
        tracing::info!(group = name, error = %refused, "the broker does not offer KIP-848; joining a classic group");
    }
    Err(TransportError::Fatal("no group protocol".into()))
}

/// How an attempt to join ended.
enum Entered {
    In(Arc<BaseConsumer<Context>>),
    /// This protocol is not to be had.
    Refused(KafkaError),
    /// Another client has the member's name.
    Unreleased,
}

fn enter(config: &Config, member: &str, name: &str, topics: &[String], protocol: GroupProtocol) -> Result<Entered> {
    fail_point!("kafka.join", |_| {
        Err(client::explain(&KafkaError::MessageConsumption(Code::AllBrokersDown), config))
    });
    let mut c = client::reading(config);
    c.set("group.id", name);
    if config.static_membership {
        c.set("group.instance.id", member);
    }
    if protocol == GroupProtocol::Consumer {
        c.set("group.protocol", "consumer").set("group.remote.assignor", "range");
    } else {
        // Range keeps the same partition of all topics with one member; the sticky ones do not.
        c.set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", config.session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (config.session_timeout.as_millis() / 5).max(100).to_string());
    }
    let mut consumer: BaseConsumer<Context> =
        c.create_with_context(Context::new()).map_err(|e| client::explain(&e, config))?;
    let wake = Arc::clone(&consumer.context().wake);
    consumer.set_nonempty_callback(move || wake.bump());
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&names).map_err(|e| client::explain(&e, config))?;
    if protocol == GroupProtocol::Classic {
        // Every broker has it; the group may take its time, others must let go first.
        return Ok(Entered::In(Arc::new(consumer)));
    }
    let until = Instant::now() + JOIN;
    let mut last = None;
    while Instant::now() < until {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Err(e @ KafkaError::MessageConsumptionFatal(Code::UnsupportedFeature | Code::UnsupportedVersion))) => {
                return Ok(Entered::Refused(e));
            }
            Some(Err(KafkaError::MessageConsumptionFatal(Code::UnreleasedInstanceId))) => {
                return Ok(Entered::Unreleased);
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(TransportError::Fatal(format!("group {name} cannot be joined: {code}")));
            }
            Some(Err(e)) => last = Some(e),
            Some(Ok(_)) | None => {}
        }
        let decided =
            !consumer.context().decisions.lock().is_ok_and(|d: std::sync::MutexGuard<'_, Vec<Decision>>| d.is_empty());
        if decided || Generation::read(consumer.client()).is_some_and(|g| g.is_member()) {
            return Ok(Entered::In(Arc::new(consumer)));
        }
    }
    Err(match last {
        Some(e) => client::explain(&e, config),
        None => TransportError::Unavailable(format!(
            "group {name} does not let this member in within {} s; is another process of the name {member:?} running?",
            JOIN.as_secs()
        )),
    })
}

impl KafkaMember {
    /// Fenced off, it joins again: a coordinator that took over from one that died may know an older member of this name.
    /// Fenced off again and again, there is another process, and the two would do nothing but fence each other off.
    fn fenced(&mut self, now: Instant) -> Result<()> {
        let (name, member) = (&self.life.group.name, &self.life.group.member);
        self.fenced.retain(|at| now - *at < LATELY);
        self.fenced.push(now);
        if self.fenced.len() >= FENCED {
            return Err(TransportError::Fatal(format!(
                "another process took over the member name {member:?} in group {name}; give each its own ([kafka] member)"
            )));
        }
        tracing::warn!(group = name, member, "the group has another member of this name; joining again");
        Ok(())
    }
}

#[async_trait]
impl Member for KafkaMember {
    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(next) = &mut self.next {
                // Joined in a task of its own, so that this may be cancelled.
                let life = next.await;
                self.next = None;
                self.life = life.map_err(|e| TransportError::Fatal(format!("joining was cut short: {e}")))?;
            }
            let event = self.life.events.recv().await;
            let group = &self.life.group;
            // There is room again.
            group.wake.bump();
            match event {
                Some(event) => {
                    if let Ok(Event::Assigned(list)) = &event {
                        // Here, and not where it was assigned: the runner may have paused its former assignment since.
                        let mut held = group.held();
                        for a in list {
                            held.entry(a.at.clone()).and_modify(|h| h.paused &= h.epoch != a.epoch);
                        }
                    }
                    return event;
                }
                None if group.broken.load(Ordering::Acquire) => {
                    if group.fenced.load(Ordering::Acquire) {
                        self.fenced(Instant::now())?;
                    }
                    let group = &self.life.group;
                    let (config, member, name) = (group.config.clone(), group.member.clone(), group.name.clone());
                    self.next = Some(tokio::spawn(Life::begin_again(config, member, name, self.topics.clone())));
                }
                None => return Err(TransportError::Fatal("the consumer's thread ended".into())),
            }
        }
    }

    fn pause(&mut self, at: &TopicPartition) {
        if let Some(h) = self.life.group.held().get_mut(at) {
            h.paused = true;
        }
    }

    fn resume(&mut self, at: &TopicPartition) {
        if let Some(h) = self.life.group.held().get_mut(at) {
            h.paused = false;
        }
        self.life.group.wake.bump();
    }

    fn depth(&self) -> usize {
        PRODUCERS
    }

    fn commit(&mut self, batch: Arc<Batch>) -> BoxFuture<'static, Committed> {
        self.life.committer.commit(batch)
    }

    async fn release(&mut self, partitions: &[TopicPartition]) {
        fail_point!("kafka.release.before");
        let gone: HashSet<&TopicPartition> = partitions.iter().collect();
        // Those that were lost are gone already; if they have come back, that is another assignment.
        self.life.group.held().retain(|at, h| !(h.going && gone.contains(at)));
        self.life.group.wake.bump();
    }

    async fn leave(mut self: Box<Self>) {
        self.life.group.leaving.store(true, Ordering::Release);
        self.life.group.wake.bump();
        // The reading thread ends with the last event taken.
        while self.life.events.recv().await.is_some() {}
        self.life.committer.stop().await;
        let group = Arc::clone(&self.life.group);
        drop(self);
        // The last handle closes the client, which talks to the broker.
        let _closed = tokio::task::spawn_blocking(move || drop(group)).await;
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.life.group.leaving.store(true, Ordering::Release);
        self.life.group.wake.bump();
        if let Some(next) = &self.next {
            next.abort();
        }
    }
}
