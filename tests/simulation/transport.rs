//! The transport as the Kafka one is built: producers are initialised before the group is joined, commits go through the
//! production [`Committer`], a member's partitions are told apart by epochs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use tidemill::topology::Topic;
use tidemill::transport::kafka::committer::{Cluster, Committer, Holding, PRODUCERS, TxnError};
use tidemill::transport::{
    Batch, Bounds, Committed, Event, Incoming, Member, Outgoing, Progress, Result, TopicPartition, TopicState,
    Transport, TransportError,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::consumer::{Consumer, Shared};
use super::group::Generation;
use super::plan::Broken;
use super::producer::SimProducer;
use super::world::{Node, Process, World};

/// One process' way to the cluster.
pub struct SimTransport {
    pub world: Arc<World>,
    pub process: Arc<Process>,
}

/// What a committer sees of it.
struct SimCluster {
    world: Arc<World>,
    process: Arc<Process>,
    group: String,
    shared: Arc<Shared>,
    /// Its producers are numbered from here.
    first: usize,
}

#[async_trait]
impl Cluster for SimCluster {
    type Producer = SimProducer;

    async fn producer(&self, n: usize) -> std::result::Result<SimProducer, TxnError> {
        self.process.alive().await;
        let id = format!("{}-{}-{}", self.group, self.process.ordinal, self.first + n);
        Ok(SimProducer::new(Arc::clone(&self.world), Arc::clone(&self.process), self.group.clone(), id))
    }

    fn holding(&self, progress: &[Progress]) -> Holding<Generation> {
        let held = self.shared.held.lock().unwrap();
        let is = |p: &&Progress| held.epochs.get(&p.at) != Some(&p.epoch);
        let lost: Vec<TopicPartition> = progress.iter().filter(is).map(|p| p.at.clone()).collect();
        if !lost.is_empty() && self.world.plan.broken != Broken::Epoch {
            return Holding::Lost(lost);
        }
        match held.generation {
            Some(g) => Holding::Held((held.member.clone(), g)),
            None => {
                self.world.count("commits between generations");
                Holding::Lost(progress.iter().map(|p| p.at.clone()).collect())
            }
        }
    }

    fn reread(&self) {
        if self.process.is_dead() {
            return;
        }
        self.world.note(&self.process, || "reads again what is committed".into());
        let mut held = self.shared.held.lock().unwrap();
        held.epochs.clear();
        held.reread = true;
        drop(held);
        self.shared.changed.notify_one();
    }
}

struct SimMember {
    world: Arc<World>,
    process: Arc<Process>,
    group: String,
    shared: Arc<Shared>,
    events: mpsc::Receiver<Result<Event>>,
    consumer: JoinHandle<()>,
    /// One; two that know nothing of each other's batches, to break the order.
    committers: Vec<Committer>,
    next: AtomicUsize,
}

impl Drop for SimMember {
    fn drop(&mut self) {
        self.consumer.abort();
    }
}

fn not_simulated() -> TransportError {
    TransportError::Fatal("topics are the simulated cluster's".into())
}

#[async_trait]
impl Transport for SimTransport {
    async fn describe_topics(&self, _: &[String]) -> Result<Vec<TopicState>> {
        Err(not_simulated())
    }
    async fn grow_topics(&self, _: &[String], _: u32) -> Result<()> {
        Err(not_simulated())
    }
    async fn configure_topic(&self, _: &str, _: &BTreeMap<String, String>) -> Result<()> {
        Err(not_simulated())
    }
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn create_topics(&self, _: &[Topic]) -> Result<()> {
        Ok(())
    }

    async fn join(&self, group: &str, topics: &[String]) -> Result<Box<dyn Member>> {
        let (world, process, shared) = (Arc::clone(&self.world), Arc::clone(&self.process), Arc::<Shared>::default());
        let mut committers = vec![];
        for first in 0..if world.plan.broken == Broken::Order { 2 } else { 1 } {
            let cluster = Arc::new(SimCluster {
                world: Arc::clone(&world),
                process: Arc::clone(&process),
                group: group.to_owned(),
                shared: Arc::clone(&shared),
                first: first * PRODUCERS,
            });
            committers.push(Committer::start(&cluster).await.map_err(|e| TransportError::Fatal(e.to_string()))?);
        }
        let (tx, events) = mpsc::channel(16);
        let topics = topics.iter().map(|t| t.as_str().into()).collect();
        let (w, p, s) = (Arc::clone(&world), Arc::clone(&process), Arc::clone(&shared));
        let consumer = tokio::spawn(Consumer::new(w, p, s, group.to_owned(), topics, tx).run());
        let (group, next) = (group.to_owned(), AtomicUsize::new(0));
        Ok(Box::new(SimMember { world, process, group, shared, events, consumer, committers, next }))
    }

    async fn append(&self, records: Vec<Outgoing>) -> Result<()> {
        self.world.broker(|b| records.into_iter().for_each(|r| b.append(r)));
        Ok(())
    }

    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>> {
        Err(TransportError::NoTopic(topic.to_owned()))
    }

    async fn offsets_at(&self, topic: &str, _: i64) -> Result<Vec<(i32, i64)>> {
        Err(TransportError::NoTopic(topic.to_owned()))
    }

    async fn delete_before(&self, topic: &str, _: &[(i32, i64)]) -> Result<()> {
        Err(TransportError::NoTopic(topic.to_owned()))
    }

    async fn read(&self, at: &TopicPartition, from: i64, records: usize, _: usize) -> Result<Vec<Incoming>> {
        Ok(self.world.broker(|b| b.read(at, from, records)))
    }

    async fn progress(&self, _: &str, topic: &str) -> Result<Vec<(i32, i64, String)>> {
        Err(TransportError::NoTopic(topic.to_owned()))
    }

    async fn changed(&self, timeout: Duration) {
        tokio::time::sleep(timeout).await;
    }

    async fn sweep(&self) -> Result<u64> {
        Ok(0)
    }
}

#[async_trait]
impl Member for SimMember {
    async fn next(&mut self) -> Result<Event> {
        let event = match self.events.recv().await {
            Some(event) => event?,
            // It said why, or it panicked.
            None => return Err(TransportError::Fatal("the consumer ended".into())),
        };
        if let Event::Assigned(list) = &event {
            // Here, in the order of the calls: an earlier assignment may have been paused until now.
            let mut held = self.shared.held.lock().unwrap();
            list.iter().for_each(|a| drop(held.paused.take(&a.at)));
        }
        Ok(event)
    }

    fn pause(&mut self, at: &TopicPartition) {
        self.shared.held.lock().unwrap().paused.insert(at.clone());
    }

    fn resume(&mut self, at: &TopicPartition) {
        self.shared.held.lock().unwrap().paused.remove(at);
        self.shared.changed.notify_one();
    }

    fn depth(&self) -> usize {
        PRODUCERS
    }

    fn commit(&mut self, batch: Arc<Batch>) -> BoxFuture<'static, Committed> {
        let (world, process) = (Arc::clone(&self.world), Arc::clone(&self.process));
        let steps = batch.outputs.iter().filter(|o| &*o.topic == "t.status").count();
        let under_way = process.committing.fetch_add(steps, Ordering::Relaxed) + steps;
        let open = under_way + process.running.load(Ordering::Relaxed);
        if open > world.plan.in_flight {
            world.wrong(format!("{open} records are in flight, {} are allowed", world.plan.in_flight));
        }
        world.note(&process, || {
            let at: Vec<String> = batch.progress.iter().map(|p| format!("{}@{}", p.at, p.base)).collect();
            format!("commits {} outputs, {}", batch.outputs.len(), at.join(" "))
        });
        let which = self.next.fetch_add(1, Ordering::Relaxed) % self.committers.len();
        let committed = self.committers[which].commit(batch);
        async move {
            let outcome = committed.await;
            process.committing.fetch_sub(steps, Ordering::Relaxed);
            process.alive().await;
            world.count(match &outcome {
                Committed::Done => "batches done",
                Committed::Fenced(_) => "batches fenced",
                Committed::Aborted(_) => "batches aborted",
                Committed::Unknown(_) => "batches unknown",
            });
            world.note(&process, || format!("batch: {outcome:?}"));
            outcome
        }
        .boxed()
    }

    async fn release(&mut self, partitions: &[TopicPartition]) {
        self.process.alive().await;
        self.shared.held.lock().unwrap().released.extend(partitions.iter().cloned());
        self.shared.changed.notify_one();
    }

    async fn leave(self: Box<Self>) {
        self.consumer.abort();
        let (member, group) = (self.shared.held.lock().unwrap().member.clone(), self.group.clone());
        let left = self.world.ask(&self.process, Node::Group, move |b| b.group(&group).leave(&member));
        if left.await.is_err() {
            self.world.note(&self.process, || "left without a word".into());
        }
    }
}
