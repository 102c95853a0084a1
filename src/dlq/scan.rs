//! A walk through the dead letters.

use std::collections::{BTreeMap, HashMap};

use super::replays::Replays;
use super::{Filter, Letter};
use crate::topology::{Names, STAGES, StageDef};
use crate::transport::tail::Range;
use crate::transport::{Result, TopicPartition, Transport};

/// How far clocks of those who write letters may differ: letters are in the order of their times give or take this, in ms.
const CLOCKS: i64 = 600_000;

/// Walks through the letters there are at its start, and those only: what a replay sends back to rest while it runs is
/// left for the next. Times, partitions and offsets that a filter names are looked up in the log's index, and the rest
/// is not read.
pub struct Scan<'a> {
    transport: &'a dyn Transport,
    names: &'a Names,
    filter: &'a Filter,
    pub replays: Replays,
    ranges: Vec<(&'static StageDef, Range)>,
}

impl<'a> Scan<'a> {
    pub async fn start(transport: &'a dyn Transport, names: &'a Names, filter: &'a Filter) -> Result<Scan<'a>> {
        let mut ranges = vec![];
        let mut wanted = HashMap::new();
        let ids = &filter.ids;
        let topics = STAGES.iter().filter(|d| filter.stage.is_none_or(|s| s == d.name));
        for def in topics.filter(|d| ids.is_empty() || ids.iter().any(|id| id.topic == d.dlq())) {
            let (bare, topic) = (def.dlq(), names.full(&def.dlq()));
            let bounds = transport.bounds(&topic).await?;
            let from = at(transport, &topic, filter.since.map(|t| t.saturating_sub(CLOCKS))).await?;
            let end = at(transport, &topic, filter.until.map(|t| t.saturating_add(CLOCKS))).await?;
            for b in bounds {
                let mut first = from.get(&b.partition).copied().unwrap_or(b.start).max(b.start);
                let mut last = end.get(&b.partition).copied().unwrap_or(b.end).min(b.end);
                if !ids.is_empty() {
                    // Letters asked for by name: read no further than from the first to the last of them.
                    let here = || ids.iter().filter(|id| id.topic == bare && id.partition == b.partition);
                    let offsets = here().map(|id| id.offset);
                    first = first.max(offsets.clone().min().unwrap_or(i64::MAX));
                    last = last.min(offsets.max().map_or(0, |n| n.saturating_add(1)));
                }
                if first < last {
                    wanted.insert((bare.clone(), b.partition), (first, last));
                    ranges.push((def, Range::new(TopicPartition::new(topic.as_str(), b.partition), first, last)));
                }
            }
        }
        // In this order: a letter that is replayed after this point was seen above, so its marker may be missing here,
        // but never the other way round.
        let since = filter.since.map(|t| t.saturating_sub(CLOCKS));
        let replays = Replays::load(transport, names, wanted, since).await?;
        ranges.reverse();
        Ok(Scan { transport, names, filter, replays, ranges })
    }

    /// The next letters that the filter lets through, all of one partition; None at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Letter>>> {
        while let Some((def, range)) = self.ranges.last_mut() {
            let def: &'static StageDef = def;
            let Some(batch) = range.next(self.transport).await? else {
                self.ranges.pop();
                continue;
            };
            let letters = batch.into_iter().map(|r| {
                let mut letter = Letter::read(def.name, self.names, r);
                letter.replayed = self.replays.get(&letter.id);
                letter
            });
            return Ok(Some(letters.filter(|l| self.filter.lets_through(l)).collect()));
        }
        Ok(None)
    }
}

/// Where a time begins, by partition; nowhere without one.
async fn at(transport: &dyn Transport, topic: &str, time: Option<i64>) -> Result<BTreeMap<i32, i64>> {
    match time {
        Some(time) => Ok(transport.offsets_at(topic, time).await?.into_iter().collect()),
        None => Ok(BTreeMap::new()),
    }
}
