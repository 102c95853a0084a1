//! A walk through the dead letters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};

use super::replays::Replays;
use super::{Filter, Letter};
use crate::topology::{Names, STAGES, StageDef, StageName};
use crate::transport::tail::Range;
use crate::transport::{Incoming, Result, See, TopicPartition, Transport, TransportError};

/// Partitions that are read at once.
const READERS: usize = 2;
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
    ranges: Vec<(Option<StageName>, Range)>,
    reading: FuturesUnordered<BoxFuture<'a, Read>>,
}

/// A topic of letters.
struct Source {
    stage: Option<StageName>,
    /// As ids name it, and its full name.
    bare: String,
    topic: String,
}

/// Where the letters are that a filter may mean: in the topics it names, in those of its ids, else in the stages' own.
fn sources(names: &Names, filter: &Filter) -> Vec<Source> {
    let ours = || STAGES.iter().filter(|d| filter.stage.is_none_or(|s| s == d.name));
    let own = |d: &StageDef| Source { stage: Some(d.name), bare: d.dlq(), topic: names.full(&d.dlq()) };
    let of = |topic: &String| {
        let own = STAGES.iter().find(|d| *topic == d.dlq() || *topic == names.full(&d.dlq())).map(own);
        own.unwrap_or_else(|| Source { stage: None, bare: topic.clone(), topic: topic.clone() })
    };
    let mut named: Vec<&String> = filter.topics.iter().collect();
    if named.is_empty() {
        named = filter.ids.iter().map(|id| &id.topic).collect();
    }
    named.sort();
    named.dedup();
    if named.is_empty() { ours().map(own).collect() } else { named.into_iter().map(of).collect() }
}

impl<'a> Scan<'a> {
    pub async fn start(transport: &'a dyn Transport, names: &'a Names, filter: &'a Filter) -> Result<Scan<'a>> {
        let mut ranges = vec![];
        let mut wanted = HashMap::new();
        let ids = &filter.ids;
        for Source { stage, bare, topic } in sources(names, filter) {
            let bounds = match transport.bounds(&topic).await {
                // Ours may not have been made yet, where there is no Tidemill at all; and an id may be of anything.
                Err(TransportError::NoTopic(_)) if stage.is_some() || filter.topics.is_empty() => continue,
                Err(TransportError::NoTopic(topic)) => {
                    return Err(TransportError::Fatal(format!("there is no topic {topic}: give its full name")));
                }
                bounds => bounds?,
            };
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
                    ranges.push((stage, Range::new(TopicPartition::new(topic.as_str(), b.partition), first, last)));
                }
            }
        }
        if let Some(walk) = &filter.walk {
            let length = |(_, range): &(Option<StageName>, Range)| {
                let (_, from, end) = range.left();
                u64::try_from(end - from).unwrap_or(0)
            };
            walk.total.store(ranges.iter().map(length).sum(), Ordering::Relaxed);
            walk.seen.store(0, Ordering::Relaxed);
        }
        // In this order: a letter that is replayed after this point was seen above, so its marker may be missing here,
        // but never the other way round.
        let since = filter.since.map(|t| t.saturating_sub(CLOCKS));
        let replays = Replays::load(transport, names, wanted, since).await?;
        ranges.reverse();
        Ok(Scan { transport, names, filter, replays, ranges, reading: FuturesUnordered::new() })
    }

    /// Where it goes: the topic as ids name it, the partition, first offset, end.
    pub fn places(&self) -> impl Iterator<Item = (String, TopicPartition, i64, i64)> + use<'_> {
        self.ranges.iter().map(|(stage, range)| {
            let (at, from, end) = range.left();
            let bare = if stage.is_some() { self.names.bare(&at.topic) } else { &at.topic };
            (bare.to_owned(), at.clone(), from, end)
        })
    }

    /// Hands over all letters that the filter lets through, for those who keep none: on the threads that read, of several
    /// partitions side by side, in order within each.
    pub async fn visit(self, take: impl Fn(Letter) + Send + Sync + 'static) -> Result<()> {
        let Scan { transport, names, filter, replays, ranges, .. } = self;
        let shared = Arc::new((names.clone(), filter.clone(), replays, take));
        let visits = ranges.into_iter().rev().map(|(stage, mut range)| {
            let shared = Arc::clone(&shared);
            let see: See = Arc::new(move |record| {
                let (names, filter, replays, take) = &*shared;
                if let Some(letter) = meant(names, filter, replays, stage, record) {
                    take(letter);
                }
            });
            async move {
                loop {
                    let (_, before, _) = range.left();
                    if !range.visit(transport, &see).await? {
                        return Ok(());
                    }
                    if let Some(walk) = &filter.walk {
                        let (_, next, _) = range.left();
                        walk.seen.fetch_add(u64::try_from(next - before).unwrap_or(0), Ordering::Relaxed);
                    }
                }
            }
        });
        stream::iter(visits).buffer_unordered(READERS).try_collect().await
    }

    /// The next letters that the filter lets through, all of one partition, whose order they keep; None at the end. While they
    /// are looked at, others are read.
    pub async fn next(&mut self) -> Result<Option<Vec<Letter>>> {
        loop {
            while self.reading.len() < READERS
                && let Some((stage, range)) = self.ranges.pop()
            {
                self.reading.push(read(self.transport, stage, range));
            }
            let Some((stage, range, batch)) = self.reading.next().await else { return Ok(None) };
            let Some(batch) = batch? else { continue };
            let mut ahead = read(self.transport, stage, range);
            // Begun at once: a read goes on by itself from then on.
            match (&mut ahead).now_or_never() {
                Some(done) => self.reading.push(std::future::ready(done).boxed()),
                None => self.reading.push(ahead),
            }
            if let Some(walk) = &self.filter.walk {
                walk.seen.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            let letters = batch.into_iter().filter_map(|r| meant(self.names, self.filter, &self.replays, stage, r));
            return Ok(Some(letters.collect()));
        }
    }
}

/// The letter of a record, if it was not thrown away and the filter lets it through.
fn meant(names: &Names, filter: &Filter, replays: &Replays, stage: Option<StageName>, r: Incoming) -> Option<Letter> {
    let mut letter = Letter::read(stage, names, r);
    letter.replayed = replays.get(&letter.id);
    (!replays.is_purged(&letter.id) && filter.lets_through(&letter)).then_some(letter)
}

/// What a read gives: the range comes back, to be read on.
type Read = (Option<StageName>, Range, Result<Option<Vec<Incoming>>>);

fn read(transport: &dyn Transport, stage: Option<StageName>, mut range: Range) -> BoxFuture<'_, Read> {
    async move {
        let batch = range.next(transport).await;
        (stage, range, batch)
    }
    .boxed()
}

/// Where a time begins, by partition; nowhere without one.
async fn at(transport: &dyn Transport, topic: &str, time: Option<i64>) -> Result<BTreeMap<i32, i64>> {
    match time {
        Some(time) => Ok(transport.offsets_at(topic, time).await?.into_iter().collect()),
        None => Ok(BTreeMap::new()),
    }
}
