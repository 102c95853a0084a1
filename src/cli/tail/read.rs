//! Which records of a topic are shown: the newest, those since a time, or all, in the order of their times.

use std::collections::{BTreeMap, VecDeque};

use crate::transport::tail::Range;
use crate::transport::{Bounds, Incoming, Result, TopicPartition, Transport};

/// Records in one look back; bytes in one read.
const BACK: i64 = 1_000;
const READ_BYTES: usize = 4 << 20;

/// The newest `n` records that `keep` lets through, oldest first. Reads each partition backwards, piece by piece, until
/// what is left cannot be newer; holds `n` records and one read.
pub async fn newest(
    transport: &dyn Transport,
    topic: &str,
    bounds: &[Bounds],
    n: usize,
    keep: impl Fn(&Incoming) -> bool,
) -> Result<Vec<Incoming>> {
    let mut newest: BTreeMap<(i64, i32, i64), Incoming> = BTreeMap::new();
    for b in bounds {
        let at = TopicPartition::new(topic, b.partition);
        let (mut end, mut found) = (b.end, 0);
        // A first look that is likely enough: what is not filtered is done with it.
        let mut step = i64::try_from(n).unwrap_or(BACK).clamp(1, BACK);
        while end > b.start && found < n {
            let from = (end - step).max(b.start);
            let (mut next, mut oldest) = (from, None);
            while next < end {
                let max = usize::try_from(end - next).unwrap_or(1);
                let batch = transport.read(&at, next, max, READ_BYTES).await?;
                let Some(last) = batch.last() else { break };
                next = last.offset + 1;
                for record in batch.into_iter().filter(|r| r.offset < end) {
                    oldest.get_or_insert(record.timestamp);
                    if keep(&record) {
                        found += 1;
                        newest.insert((record.timestamp, record.at.partition, record.offset), record);
                        if newest.len() > n {
                            newest.pop_first();
                        }
                    }
                }
            }
            // Times grow with offsets, near enough.
            let enough = newest.len() >= n && newest.keys().next().zip(oldest).is_some_and(|(k, oldest)| oldest < k.0);
            if enough {
                break;
            }
            (end, step) = (from, BACK);
        }
    }
    Ok(newest.into_values().collect())
}

/// Offsets of several partitions as one stream in the order of their times. Holds a read a partition.
pub struct Merge {
    parts: Vec<(Range, VecDeque<Incoming>)>,
}

impl Merge {
    /// From each partition, its offsets `from..end`.
    pub fn new(topic: &str, parts: impl IntoIterator<Item = (i32, i64, i64)>) -> Merge {
        let part = |(p, from, end)| (Range::new(TopicPartition::new(topic, p), from, end), VecDeque::new());
        Merge { parts: parts.into_iter().map(part).collect() }
    }

    /// The next record; None at the end.
    pub async fn next(&mut self, transport: &dyn Transport) -> Result<Option<Incoming>> {
        for (range, waiting) in &mut self.parts {
            if waiting.is_empty() {
                waiting.extend(range.next(transport).await?.into_iter().flatten());
            }
        }
        self.parts.retain(|(_, waiting)| !waiting.is_empty());
        let first = self.parts.iter_mut().min_by_key(|(_, w)| w.front().map(|r| (r.timestamp, r.at.partition)));
        Ok(first.and_then(|(_, w)| w.pop_front()))
    }
}
