//! A transport under a name space of its own, so that tests on one cluster do not see each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use tidemill::topology::Topic;
use tidemill::transport::{
    Batch, Bounds, Committed, Event, Incoming, Member, Outgoing, Progress, Result, See, TopicPartition, TopicState,
    Transport, TransportError,
};

/// Puts a prefix before every topic and group name, and takes it off again.
pub struct Prefixed {
    pub inner: Arc<dyn Transport>,
    pub prefix: Arc<str>,
}

struct PrefixedMember {
    inner: Box<dyn Member>,
    prefix: Arc<str>,
}

fn full(prefix: &str, name: &str) -> String {
    format!("{prefix}{name}")
}

fn out(prefix: &str, at: &TopicPartition) -> TopicPartition {
    TopicPartition::new(full(prefix, &at.topic), at.partition)
}

fn bare(prefix: &str, at: &TopicPartition) -> TopicPartition {
    TopicPartition::new(at.topic.strip_prefix(prefix).unwrap_or(&at.topic), at.partition)
}

fn error(prefix: &str, e: TransportError) -> TransportError {
    match e {
        TransportError::NoTopic(t) => TransportError::NoTopic(t.strip_prefix(prefix).unwrap_or(&t).to_owned()),
        other => other,
    }
}

fn outputs(prefix: &str, records: &[Outgoing]) -> Vec<Outgoing> {
    records.iter().map(|r| Outgoing { topic: full(prefix, &r.topic).into(), ..r.clone() }).collect()
}

fn records(prefix: &str, mut records: Vec<Incoming>) -> Vec<Incoming> {
    records.iter_mut().for_each(|r| r.at = bare(prefix, &r.at));
    records
}

#[async_trait]
impl Transport for Prefixed {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        let topics: Vec<_> = topics.iter().map(|t| Topic { name: full(&self.prefix, &t.name), ..t.clone() }).collect();
        self.inner.create_topics(&topics).await
    }
    async fn describe_topics(&self, topics: &[String]) -> Result<Vec<TopicState>> {
        let topics: Vec<_> = topics.iter().map(|t| full(&self.prefix, t)).collect();
        let mut states = self.inner.describe_topics(&topics).await?;
        states.iter_mut().for_each(|s| s.name = s.name.strip_prefix(&*self.prefix).unwrap_or(&s.name).to_owned());
        Ok(states)
    }
    async fn grow_topics(&self, topics: &[String], partitions: u32) -> Result<()> {
        let topics: Vec<_> = topics.iter().map(|t| full(&self.prefix, t)).collect();
        self.inner.grow_topics(&topics, partitions).await.map_err(|e| error(&self.prefix, e))
    }
    async fn configure_topic(&self, topic: &str, settings: &BTreeMap<String, String>) -> Result<()> {
        self.inner.configure_topic(&full(&self.prefix, topic), settings).await.map_err(|e| error(&self.prefix, e))
    }
    async fn join(&self, group: &str, topics: &[String]) -> Result<Box<dyn Member>> {
        let topics: Vec<_> = topics.iter().map(|t| full(&self.prefix, t)).collect();
        let joined = self.inner.join(&full(&self.prefix, group), &topics).await;
        let inner = joined.map_err(|e| error(&self.prefix, e))?;
        Ok(Box::new(PrefixedMember { inner, prefix: Arc::clone(&self.prefix) }))
    }
    async fn append(&self, records: Vec<Outgoing>) -> Result<()> {
        self.inner.append(outputs(&self.prefix, &records)).await.map_err(|e| error(&self.prefix, e))
    }
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>> {
        self.inner.bounds(&full(&self.prefix, topic)).await.map_err(|e| error(&self.prefix, e))
    }
    async fn offsets_at(&self, topic: &str, time: i64) -> Result<Vec<(i32, i64)>> {
        self.inner.offsets_at(&full(&self.prefix, topic), time).await.map_err(|e| error(&self.prefix, e))
    }
    async fn delete_before(&self, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        self.inner.delete_before(&full(&self.prefix, topic), offsets).await.map_err(|e| error(&self.prefix, e))
    }
    async fn read(
        &self,
        at: &TopicPartition,
        from: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Incoming>> {
        let read = self.inner.read(&out(&self.prefix, at), from, max_records, max_bytes).await;
        read.map(|r| records(&self.prefix, r)).map_err(|e| error(&self.prefix, e))
    }
    async fn visit(
        &self,
        at: &TopicPartition,
        from: i64,
        max_records: usize,
        max_bytes: usize,
        see: See,
    ) -> Result<Option<i64>> {
        let prefix = Arc::clone(&self.prefix);
        let see = Arc::new(move |r: Incoming| see(Incoming { at: bare(&prefix, &r.at), ..r }));
        let seen = self.inner.visit(&out(&self.prefix, at), from, max_records, max_bytes, see).await;
        seen.map_err(|e| error(&self.prefix, e))
    }
    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64, String)>> {
        self.inner.progress(&full(&self.prefix, group), &full(&self.prefix, topic)).await
    }
    async fn changed(&self, timeout: Duration) {
        self.inner.changed(timeout).await;
    }
    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await
    }
}

#[async_trait]
impl Member for PrefixedMember {
    async fn next(&mut self) -> Result<Event> {
        Ok(match self.inner.next().await? {
            Event::Assigned(mut list) => {
                list.iter_mut().for_each(|a| a.at = bare(&self.prefix, &a.at));
                Event::Assigned(list)
            }
            Event::Revoked { partitions, lost } => {
                Event::Revoked { partitions: partitions.iter().map(|p| bare(&self.prefix, p)).collect(), lost }
            }
            Event::Records(list) => Event::Records(records(&self.prefix, list)),
            Event::Passed { at, offset } => Event::Passed { at: bare(&self.prefix, &at), offset },
        })
    }
    fn pause(&mut self, at: &TopicPartition) {
        self.inner.pause(&out(&self.prefix, at));
    }
    fn resume(&mut self, at: &TopicPartition) {
        self.inner.resume(&out(&self.prefix, at));
    }
    fn depth(&self) -> usize {
        self.inner.depth()
    }
    fn commit(&mut self, batch: Arc<Batch>) -> BoxFuture<'static, Committed> {
        let progress = batch.progress.iter().map(|p| Progress { at: out(&self.prefix, &p.at), ..p.clone() }).collect();
        let batch = Batch { progress, outputs: outputs(&self.prefix, &batch.outputs) };
        let (outcome, prefix) = (self.inner.commit(Arc::new(batch)), Arc::clone(&self.prefix));
        async move {
            match outcome.await {
                Committed::Fenced(lost) => Committed::Fenced(lost.iter().map(|p| bare(&prefix, p)).collect()),
                other => other,
            }
        }
        .boxed()
    }
    async fn release(&mut self, partitions: &[TopicPartition]) {
        let partitions: Vec<_> = partitions.iter().map(|p| out(&self.prefix, p)).collect();
        self.inner.release(&partitions).await;
    }
    async fn leave(self: Box<Self>) {
        self.inner.leave().await;
    }
}
