//! What rests in the dead letters: how many, and since when. Replay markers are read once each; holds a number for each
//! replayed letter that still rests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::dlq::Replay;
use crate::topology::{Names, REPLAYS, StageDef};
use crate::transport::tail::{From, Tail};
use crate::transport::{Bounds, Result, TopicPartition, Transport};

/// Records read at a time while the oldest letter is looked for.
const READ: usize = 100;

/// Looks again and again.
pub struct DeadLetters {
    transport: Arc<dyn Transport>,
    names: Names,
    replays: Tail,
    /// Letters that were put back: dead-letter topic (without prefix) and partition, offsets.
    replayed: BTreeMap<(String, i32), BTreeSet<i64>>,
    /// The oldest letter of a partition when it was last looked at: offset, when it was written.
    heads: BTreeMap<(String, i32), (i64, i64)>,
}

/// What rests of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    /// Letters that were not put back. On Kafka markers of transactions count as well, so it is the most there can be.
    pub letters: u64,
    /// The sum of the topic's ends.
    pub end: i64,
}

impl DeadLetters {
    /// Nothing is looked at yet.
    pub async fn new(transport: Arc<dyn Transport>, names: Names) -> Result<DeadLetters> {
        let replays = Tail::new(&*transport, &names.full(REPLAYS), From::Start).await?;
        Ok(DeadLetters { transport, names, replays, replayed: BTreeMap::new(), heads: BTreeMap::new() })
    }

    /// Reads the markers that are new.
    pub async fn refresh(&mut self) -> Result<()> {
        while let Some(batch) = self.replays.poll(&*self.transport).await? {
            for (id, _) in batch.iter().filter_map(Replay::read) {
                self.replayed.entry((id.topic, id.partition)).or_default().insert(id.offset);
            }
        }
        Ok(())
    }

    /// Letters of a stage that rest and were not put back.
    pub async fn of(&mut self, def: &StageDef) -> Result<Resting> {
        let bare = def.dlq();
        let mut resting = Resting { letters: 0, end: 0 };
        for Bounds { partition, start, end } in self.transport.bounds(&self.names.full(&bare)).await? {
            resting.end += end;
            let mut back = 0;
            if let Some(offsets) = self.replayed.get_mut(&(bare.clone(), partition)) {
                // Those before were deleted by age.
                *offsets = offsets.split_off(&start);
                back = offsets.len();
            }
            resting.letters += u64::try_from(end - start).unwrap_or(0).saturating_sub(back as u64);
        }
        Ok(resting)
    }

    /// When the oldest of these was written, Unix ms; None when there is none. What was found is not read again while it
    /// rests.
    pub async fn oldest(&mut self, def: &StageDef) -> Result<Option<i64>> {
        let bare = def.dlq();
        let topic = self.names.full(&bare);
        let mut oldest: Option<i64> = None;
        for b in self.transport.bounds(&topic).await? {
            let place = (bare.clone(), b.partition);
            let replayed = self.replayed.get(&place);
            let is_back = |offset: i64| replayed.is_some_and(|r| r.contains(&offset));
            let known = self.heads.get(&place).copied().filter(|(offset, _)| *offset >= b.start);
            let head = match known {
                Some((offset, _)) if !is_back(offset) => known,
                _ => {
                    let at = TopicPartition::new(topic.as_str(), b.partition);
                    let (mut next, mut found) = (known.map_or(b.start, |(offset, _)| offset + 1), None);
                    while next < b.end && found.is_none() {
                        let batch = self.transport.read(&at, next, READ, usize::MAX).await?;
                        let Some(last) = batch.last() else { break };
                        next = last.offset + 1;
                        found = batch.iter().find(|r| !is_back(r.offset)).map(|r| (r.offset, r.timestamp));
                    }
                    found
                }
            };
            match head {
                Some(head) => drop(self.heads.insert(place, head)),
                None => drop(self.heads.remove(&place)),
            }
            oldest = [oldest, head.map(|(_, written)| written)].into_iter().flatten().min();
        }
        Ok(oldest)
    }
}
