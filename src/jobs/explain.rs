//! The way of one URL: every event of every task that touched it; and the way of one task.

use std::collections::{BTreeMap, HashSet};

use crate::record::StatusEvent;
use crate::record::codec;
use crate::topology::{self, Names};
use crate::transport::partitioner::partition;
use crate::transport::tail::Range;
use crate::transport::{Incoming, Result, TopicPartition, Transport};

/// Most events kept; older ones give way.
const EVENTS: usize = 10_000;
/// How far the clocks of a task's writers may differ, in ms.
const CLOCKS: i64 = 600_000;
/// Most tasks looked for in one partition.
const TASKS: usize = 10_000;

/// Every event of every task that touched a URL, by time; of more than 10,000, the newest. URLs are compared as the URL
/// standard reads them, without the fragment. Reads the status topic twice, in memory that does not grow with it.
pub async fn explain(transport: &dyn Transport, names: &Names, url: &str) -> Result<Vec<StatusEvent>> {
    let topic = names.full(topology::STATUS);
    let wanted = normal(url);
    let mut found: BTreeMap<(i64, i32, i64), StatusEvent> = BTreeMap::new();
    for b in transport.bounds(&topic).await? {
        let at = TopicPartition::new(topic.as_str(), b.partition);
        // Events of one task are in one partition: which tasks, then what of them.
        let mut tasks = HashSet::new();
        let mut range = Range::new(at.clone(), b.start, b.end);
        while let Some(batch) = range.next(transport).await? {
            for (_, e) in events(&batch) {
                if tasks.len() < TASKS && normal(&e.url) == wanted {
                    tasks.insert(e.task);
                }
            }
        }
        if tasks.is_empty() {
            continue;
        }
        let mut range = Range::new(at, b.start, b.end);
        while let Some(batch) = range.next(transport).await? {
            for (offset, e) in events(&batch).filter(|(_, e)| tasks.contains(&e.task)) {
                found.insert((e.at, b.partition, offset), e);
                if found.len() > EVENTS {
                    found.pop_first();
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Every event of a task that was first seen at `since` (Unix ms), by time; of more than 10,000, the newest. Reads the one
/// partition that its events are in, from then on.
pub async fn history(transport: &dyn Transport, names: &Names, task: &str, since: i64) -> Result<Vec<StatusEvent>> {
    let topic = names.full(topology::STATUS);
    let bounds = transport.bounds(&topic).await?;
    let number = partition(task.as_bytes(), u32::try_from(bounds.len()).unwrap_or(u32::MAX));
    let Some(b) = bounds.iter().find(|b| b.partition == number) else { return Ok(vec![]) };
    let starts = transport.offsets_at(&topic, since.saturating_sub(CLOCKS)).await?;
    let from = starts.iter().find(|(p, _)| *p == number).map_or(b.start, |(_, offset)| (*offset).max(b.start));
    let mut found: BTreeMap<(i64, i64), StatusEvent> = BTreeMap::new();
    let mut range = Range::new(TopicPartition::new(topic.as_str(), number), from, b.end);
    while let Some(batch) = range.next(transport).await? {
        for (offset, e) in events(&batch).filter(|(_, e)| e.task == task) {
            found.insert((e.at, offset), e);
            if found.len() > EVENTS {
                found.pop_first();
            }
        }
    }
    Ok(found.into_values().collect())
}

fn events(batch: &[Incoming]) -> impl Iterator<Item = (i64, StatusEvent)> {
    batch.iter().filter_map(|r| Some((r.offset, codec::decode(&r.value).ok()?)))
}

/// A URL in its normal form; the text itself if it is none.
fn normal(text: &str) -> String {
    match url::Url::parse(text.trim()) {
        Ok(mut url) => {
            url.set_fragment(None);
            url.into()
        }
        Err(_) => text.trim().to_owned(),
    }
}
