//! Records that the log still keeps of letters' tasks, so that an earlier stage can have another go at them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Letter;
use crate::record::headers;
use crate::topology::{Names, StageName, stage};
use crate::transport::tail::Range;
use crate::transport::{Incoming, Result, TopicPartition, Transport};

/// Where the records are that a stage read of the tasks of some letters: 32 bytes a letter.
pub struct Kept {
    of: StageName,
    /// By a hash of task and key: which of the stage's inputs, partition, offset. None: not looked up yet, or not there.
    places: HashMap<u64, Option<(usize, i32, i64)>>,
}

/// The same for a letter and for the record that it comes of: every descendant carries the task, and from `pages` on the
/// key is the document's.
fn mark(record: &Incoming) -> Option<u64> {
    let mut hash = DefaultHasher::new();
    record.headers.get(headers::TASK)?.hash(&mut hash);
    record.key.as_ref()?.hash(&mut hash);
    Some(hash.finish())
}

impl Kept {
    /// Of what this stage reads.
    pub fn new(of: StageName) -> Kept {
        Kept { of, places: HashMap::new() }
    }

    /// Notes that a letter's record will be wanted.
    pub fn want(&mut self, letter: &Letter) {
        self.places.extend(mark(&letter.record).map(|m| (m, None)));
    }

    /// Looks all of them up, in one pass over what the stage's inputs keep; the newest record counts.
    pub async fn look(&mut self, transport: &dyn Transport, names: &Names) -> Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        for (n, input) in stage(self.of).inputs.iter().enumerate() {
            let topic = names.full(input.topic);
            for b in transport.bounds(&topic).await? {
                let mut range = Range::new(TopicPartition::new(topic.as_str(), b.partition), b.start, b.end);
                while let Some(batch) = range.next(transport).await? {
                    for r in &batch {
                        if let Some(place) = mark(r).and_then(|m| self.places.get_mut(&m)) {
                            *place = Some((n, b.partition, r.offset));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The record; None when it is gone.
    pub async fn get(&self, transport: &dyn Transport, names: &Names, letter: &Letter) -> Result<Option<Incoming>> {
        let place = mark(&letter.record).and_then(|m| self.places.get(&m).copied().flatten());
        let Some((n, partition, offset)) = place else { return Ok(None) };
        let Some(input) = stage(self.of).inputs.get(n) else { return Ok(None) };
        let at = TopicPartition::new(names.full(input.topic), partition);
        let found = transport.read(&at, offset, 1, usize::MAX).await?;
        Ok(found.into_iter().next().filter(|r| r.offset == offset && mark(r) == mark(&letter.record)))
    }
}
