//! Throws letters away. A marker says so, and from then on nobody finds them. Their bytes go at once where the log can let go
//! of them: it deletes from a partition's start on, so up to the first letter that stays; the rest goes by age, or with a
//! later purge.

use std::collections::BTreeMap;

use super::lock::Lock;
use super::scan::Scan;
use super::steps::{Steps, markers_exist};
use super::{Filter, Letter, LetterId, Replay};
use crate::record::now_ms;
use crate::topology::Names;
use crate::transport::tail::Range;
use crate::transport::{Result, Transport, TransportError};

/// Letters in one step.
const STEP: usize = 1_000;

/// What was thrown away, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// Letters, by topic (ours without prefix).
    pub letters: BTreeMap<String, u64>,
    /// Of these, put back before.
    pub replayed: u64,
    /// Letters whose bytes are gone from the log, also of earlier purges.
    pub freed: u64,
    /// Why bytes stay, if the log refused to let go of any.
    pub refused: Option<String>,
}

impl Purged {
    fn count(&mut self, letter: &Letter) {
        *self.letters.entry(letter.id.topic.clone()).or_default() += 1;
        self.replayed += u64::from(letter.replayed.is_some());
    }

    /// All letters.
    pub fn total(&self) -> u64 {
        self.letters.values().sum()
    }
}

/// Throws the letters away that a filter lets through. With `dry_run` it counts them and does nothing. A replay of the same
/// log is waited for, a minute and a half at most.
pub async fn purge(
    transport: &dyn Transport,
    names: &Names,
    filter: &Filter,
    run: &str,
    dry_run: bool,
) -> Result<Purged> {
    let mut purged = Purged::default();
    if dry_run {
        let mut scan = Scan::start(transport, names, filter).await?;
        while let Some(batch) = scan.next().await? {
            batch.iter().for_each(|l| purged.count(l));
        }
        return Ok(purged);
    }
    markers_exist(transport, names).await?;
    let mut lock = Lock::take(transport, names).await?;
    let done = mark(transport, names, filter, run, &mut lock, &mut purged).await;
    lock.leave().await;
    done.map(|()| purged)
}

async fn mark(
    transport: &dyn Transport,
    names: &Names,
    filter: &Filter,
    run: &str,
    lock: &mut Lock,
    purged: &mut Purged,
) -> Result<()> {
    let mut scan = Scan::start(transport, names, filter).await?;
    lock.renew(transport, &mut scan.replays).await?;
    let mut steps = Steps::new(run);
    while let Some(mut batch) = scan.next().await? {
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(STEP));
            let mut step = std::mem::replace(&mut batch, rest);
            while steps.turn(lock, transport, &mut scan.replays).await? {
                step.retain(|l| {
                    let done = scan.replays.is_purged(&l.id);
                    if done {
                        purged.count(l);
                    }
                    !done
                });
                if step.is_empty() {
                    break;
                }
                let records = step.iter().map(|l| marker(l, run, steps.next()).marker(&l.id, names)).collect();
                steps.commit(lock, transport, &mut scan.replays, records, step.len() as u64).await?;
            }
        }
    }
    steps.end(lock, transport, &mut scan.replays).await?;
    // Ids name topics too.
    let topics = if filter.ids.is_empty() { filter.topics.clone() } else { purged.letters.keys().cloned().collect() };
    free(transport, names, &Filter { topics, ..Filter::default() }, purged).await
}

fn marker(letter: &Letter, run: &str, step: u64) -> Replay {
    Replay {
        run: run.to_owned(),
        at: now_ms(),
        step,
        stage: letter.stage.map(|s| s.to_string()).unwrap_or_default(),
        task: letter.meta().task,
        fingerprint: letter.fingerprint().unwrap_or_default(),
        purged: true,
    }
}

/// Deletes from each partition's start on what was thrown away. Whatever ends it, the next purge goes on.
async fn free(transport: &dyn Transport, names: &Names, all: &Filter, purged: &mut Purged) -> Result<()> {
    let scan = Scan::start(transport, names, all).await?;
    let mut topics: BTreeMap<String, Vec<(i32, i64)>> = BTreeMap::new();
    for (bare, at, from, end) in scan.places() {
        let id = |offset| LetterId { topic: bare.clone(), partition: at.partition, offset };
        let mut range = Range::new(at.clone(), from, end);
        // As far as letters follow each other that are thrown away; what the log has between them is nobody's.
        let (mut stays, mut gone) = (None, 0);
        while let (None, Some(batch)) = (stays, range.next(transport).await?) {
            stays = batch.iter().map(|r| r.offset).find(|o| !scan.replays.is_purged(&id(*o)));
            gone += batch.iter().filter(|r| stays.is_none_or(|s| r.offset < s)).count() as u64;
        }
        if gone > 0 {
            purged.freed += gone;
            topics.entry(at.topic.to_string()).or_default().push((at.partition, stays.unwrap_or(end)));
        }
    }
    for (topic, offsets) in topics {
        match transport.delete_before(&topic, &offsets).await {
            Err(TransportError::Fatal(why)) => (purged.freed, purged.refused) = (0, Some(why)),
            done => done?,
        }
    }
    Ok(())
}
