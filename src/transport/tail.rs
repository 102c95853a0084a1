//! A reader of a whole topic without a group: from given offsets on, to where the log ended, or waiting for more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::{Bounds, Incoming, Result, See, TopicPartition, Transport};

/// Records and bytes read at a time.
const READ_RECORDS: usize = 1_000;
const READ_BYTES: usize = 4 << 20;
/// Longest sleep between two looks; a safety net, not a clock.
const IDLE: Duration = Duration::from_secs(2);

/// Where a tail starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// What the log still has.
    Start,
    /// Only what comes from now on.
    End,
    /// Next offset by partition, as [`Tail::offsets`] gave it; a partition that is not named is read from its start.
    Offsets(BTreeMap<i32, i64>),
}

/// Reads all partitions of a topic, in turn. Order holds within a partition. Holds one batch and an offset a partition.
#[derive(Debug, Clone)]
pub struct Tail {
    topic: Arc<str>,
    next: BTreeMap<i32, i64>,
    /// As last asked for.
    bounds: Vec<Bounds>,
    /// Partition looked at last, so that a busy one does not starve the others.
    last: i32,
}

impl Tail {
    /// A tail of a topic (full name).
    pub async fn new(transport: &dyn Transport, topic: &str, from: From) -> Result<Tail> {
        let start = |b: &Bounds| match &from {
            From::Start => b.start,
            From::End => b.end,
            From::Offsets(o) => o.get(&b.partition).copied().unwrap_or(b.start),
        };
        let bounds = transport.bounds(topic).await?;
        let next = bounds.iter().map(|b| (b.partition, start(b))).collect();
        Ok(Tail { topic: topic.into(), next, bounds, last: -1 })
    }

    /// Next offset to read, by partition.
    pub fn offsets(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    /// The next batch, all of one partition; waits for records if there are none. Cancel-safe: what was not returned is
    /// read again.
    pub async fn next(&mut self, transport: &dyn Transport) -> Result<Vec<Incoming>> {
        loop {
            let mut changed = transport.changed(IDLE);
            // Asked once before looking, so that what is appended in between wakes it.
            let already = (&mut changed).now_or_never().is_some();
            if let Some(batch) = self.poll(transport).await? {
                return Ok(batch);
            }
            if !already {
                changed.await;
            }
        }
    }

    /// The next batch, all of one partition; None when all that the log has by now was read.
    pub async fn poll(&mut self, transport: &dyn Transport) -> Result<Option<Vec<Incoming>>> {
        if let Some(batch) = self.read(transport).await? {
            return Ok(Some(batch));
        }
        // The ends are asked for only when the known ones are reached: for a broker that is a call a partition.
        self.bounds = transport.bounds(&self.topic).await?;
        self.read(transport).await
    }

    /// Reads within the known bounds.
    async fn read(&mut self, transport: &dyn Transport) -> Result<Option<Vec<Incoming>>> {
        self.bounds.sort_by_key(|b| (b.partition <= self.last, b.partition));
        for b in &self.bounds {
            // Records may have been deleted by age in the meantime.
            let from = self.next.get(&b.partition).copied().unwrap_or(b.start).max(b.start);
            if from >= b.end {
                continue;
            }
            let at = TopicPartition::new(Arc::clone(&self.topic), b.partition);
            let batch = transport.read(&at, from, READ_RECORDS, READ_BYTES).await?;
            // Nothing up to where it ended: offsets that hold no record (transaction markers, what was compacted).
            self.next.insert(b.partition, batch.last().map_or(b.end, |last| last.offset + 1));
            if !batch.is_empty() {
                self.last = b.partition;
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

/// Reads one partition from `from` up to `end`, batch by batch.
#[derive(Debug)]
pub struct Range {
    at: TopicPartition,
    next: i64,
    end: i64,
}

impl Range {
    /// Offsets `from..end` of a partition.
    pub fn new(at: TopicPartition, from: i64, end: i64) -> Range {
        Range { at, next: from, end }
    }

    /// What is still to be read: where, the next offset, the end.
    pub fn left(&self) -> (&TopicPartition, i64, i64) {
        (&self.at, self.next, self.end)
    }

    /// The next records; None at the end.
    pub async fn next(&mut self, transport: &dyn Transport) -> Result<Option<Vec<Incoming>>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let mut batch = transport.read(&self.at, self.next, READ_RECORDS, READ_BYTES).await?;
        batch.retain(|r| r.offset < self.end);
        match batch.last() {
            Some(last) => self.next = last.offset + 1,
            None => return Ok(None),
        }
        Ok(Some(batch))
    }

    /// Hands over the next records, as [`Transport::visit`] does; false at the end.
    pub async fn visit(&mut self, transport: &dyn Transport, see: &See) -> Result<bool> {
        if self.next >= self.end {
            return Ok(false);
        }
        let (see, end) = (Arc::clone(see), self.end);
        let within: See = Arc::new(move |record| {
            if record.offset < end {
                see(record);
            }
        });
        let next = transport.visit(&self.at, self.next, READ_RECORDS, READ_BYTES, within).await?;
        // What was appended since is not of this range.
        self.next = next.unwrap_or(self.next).min(self.end);
        Ok(next.is_some())
    }
}
