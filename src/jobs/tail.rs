//! Reads all partitions of a topic from given offsets on, without a group.

use crate::transport::{Incoming, Result, TopicPartition, Transport};

/// Records and bytes read of a partition at a time.
const RECORDS: usize = 1_000;
const BYTES: usize = 4 << 20;

/// Where a reader stands in each partition.
#[derive(Debug, Clone)]
pub struct Tail {
    positions: Vec<(TopicPartition, i64)>,
}

impl Tail {
    /// From the first record the log still has.
    pub async fn from_start(transport: &dyn Transport, topic: &str) -> Result<Tail> {
        let bounds = transport.bounds(topic).await?;
        let positions = bounds.into_iter().map(|b| (TopicPartition::new(topic, b.partition), b.start)).collect();
        Ok(Tail { positions })
    }

    /// What there is to read now: records of each partition in order, the partitions one after the other. Empty when
    /// everything was read.
    pub async fn poll(&mut self, transport: &dyn Transport) -> Result<Vec<Incoming>> {
        let Some((first, _)) = self.positions.first() else { return Ok(vec![]) };
        let bounds = transport.bounds(&first.topic).await?;
        let mut all = vec![];
        for (at, position) in &mut self.positions {
            let Some(b) = bounds.iter().find(|b| b.partition == at.partition) else { continue };
            *position = (*position).max(b.start);
            if *position >= b.end {
                continue;
            }
            let records = transport.read(at, *position, RECORDS, BYTES).await?;
            *position = records.last().map_or(b.end, |r| r.offset + 1);
            all.extend(records);
        }
        Ok(all)
    }
}
