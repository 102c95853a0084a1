//! Dead letters: find them, look at them, put them back.
//!
//! A letter rests in its stage's dead-letter topic for as long as that keeps it. Replaying copies it to the stage's first
//! retry topic, on the same partition, and writes a marker to `replays` in the same append: so a replay that was cut short,
//! or is run again, puts nothing back twice.

mod filter;
mod letter;
mod replay;

pub use filter::Filter;
pub use letter::{Letter, LetterId, Replay};
pub use replay::{Report, replay};

use std::collections::{BTreeMap, HashMap};

use crate::topology::{self, Names, STAGES, StageDef};
use crate::transport::tail::{From, Range, Tail};
use crate::transport::{Result, TopicPartition, Transport};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The newest, newest first, as many as were asked for.
    pub letters: Vec<Letter>,
    /// How many there are.
    pub matched: u64,
}

/// The newest letters that a filter lets through. Holds `limit` letters whole, and the replay
/// markers.
pub async fn list(transport: &dyn Transport, names: &Names, filter: &Filter, limit: usize) -> Result<Listing> {
    let mut scan = Scan::start(transport, names, filter).await?;
    let (mut newest, mut matched) = (BTreeMap::new(), 0);
    while let Some(batch) = scan.next().await? {
        for letter in batch {
            matched += 1;
            newest.insert((letter.at(), letter.id.clone()), letter);
            if newest.len() > limit {
                newest.pop_first();
            }
        }
    }
    Ok(Listing { letters: newest.into_values().rev().collect(), matched })
}

/// One letter; None when it is not there, or no longer.
pub async fn show(transport: &dyn Transport, names: &Names, id: &LetterId) -> Result<Option<Letter>> {
    let filter = Filter { ids: vec![id.clone()], ..Filter::default() };
    Ok(list(transport, names, &filter, 1).await?.letters.pop())
}

/// Walks through the letters there are at its start, and those only: what a replay sends back to rest while it runs is
/// left for the next.
struct Scan<'a> {
    transport: &'a dyn Transport,
    names: &'a Names,
    filter: &'a Filter,
    replays: HashMap<LetterId, Replay>,
    ranges: Vec<(&'static StageDef, Range)>,
}

impl<'a> Scan<'a> {
    async fn start(transport: &'a dyn Transport, names: &'a Names, filter: &'a Filter) -> Result<Scan<'a>> {
        let mut ranges = vec![];
        for def in STAGES.iter().filter(|d| filter.stage.is_none_or(|s| s == d.name)) {
            let (bare, topic) = (def.dlq(), names.full(&def.dlq()));
            for b in transport.bounds(&topic).await? {
                let here = filter.ids.iter().filter(|id| id.topic == bare && id.partition == b.partition);
                let (from, end) = if filter.ids.is_empty() {
                    (b.start, b.end)
                } else {
                    // Letters asked for by name: read no further than from the first to the last of them.
                    let offsets: Vec<i64> = here.map(|id| id.offset).collect();
                    match (offsets.iter().min(), offsets.iter().max()) {
                        (Some(first), Some(last)) => ((*first).max(b.start), last.saturating_add(1).min(b.end)),
                        _ => continue,
                    }
                };
                ranges.push((def, Range::new(TopicPartition::new(topic.as_str(), b.partition), from, end)));
            }
        }
        // In this order: a letter that is replayed after this point was seen above, so its marker may be missing here,
        // but never the other way round.
        let mut replays = HashMap::new();
        let mut tail = Tail::new(transport, &names.full(topology::REPLAYS), From::Start).await?;
        while let Some(batch) = tail.poll(transport).await? {
            replays.extend(batch.iter().filter_map(Replay::read));
        }
        ranges.reverse();
        Ok(Scan { transport, names, filter, replays, ranges })
    }

    /// The next letters that the filter lets through, all of one partition; None at the end.
    async fn next(&mut self) -> Result<Option<Vec<Letter>>> {
        while let Some((def, range)) = self.ranges.last_mut() {
            let def: &'static StageDef = def;
            let Some(batch) = range.next(self.transport).await? else {
                self.ranges.pop();
                continue;
            };
            let letters = batch.into_iter().map(|r| {
                let mut letter = Letter::read(def.name, self.names, r);
                letter.replayed = self.replays.get(&letter.id).cloned();
                letter
            });
            return Ok(Some(letters.filter(|l| self.filter.lets_through(l)).collect()));
        }
        Ok(None)
    }
}
