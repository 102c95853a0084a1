//! Keeps the gauges of what waits up to date: how the runners of this process stand, by their own word, and against that
//! what the log has. One question to the log at a time; while it does not answer, the gauges keep their last values, and
//! `tidemill_lag_timestamp_seconds` says of when these are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::dead::DeadLetters;
use super::lag::PartitionLag;
use crate::engine::Runner;
use crate::engine::standing::Standings;
use crate::record::{Meta, now_ms};
use crate::telemetry::{Partitions, StageMetrics};
use crate::topology::{Names, STAGES, StageDef};
use crate::transport::{Incoming, Result, TopicPartition, Transport};

/// A runner that is watched.
pub struct Watched {
    metrics: StageMetrics,
    /// What it reads: full name, and the name without prefix.
    topics: Vec<(String, String)>,
    standings: watch::Receiver<Standings>,
    names: Names,
    /// Whose dead letters are counted; a relay has none.
    stage: Option<&'static StageDef>,
}

impl Watched {
    /// To be taken before it runs.
    pub fn of(runner: &Runner, names: &Names) -> Watched {
        let topics = runner.work.inputs().into_iter().map(|i| {
            let bare = names.bare(&i.topic).to_owned();
            (i.topic, bare)
        });
        Watched {
            metrics: runner.metrics.clone(),
            topics: topics.collect(),
            standings: runner.standings.subscribe(),
            names: names.clone(),
            stage: STAGES.iter().find(|d| d.name.as_str() == runner.work.name()),
        }
    }
}

/// Looks every so often, for ever.
pub async fn watch(transport: Arc<dyn Transport>, watched: Vec<Watched>, every: Duration) {
    let log = async {
        let mut heads = Heads::default();
        let mut away = false;
        let mut dead = None;
        loop {
            for stage in &watched {
                let asked = match ask(&*transport, stage, &mut heads).await {
                    Ok(()) => letters(&transport, stage, &mut dead).await,
                    away => away,
                };
                match asked {
                    Ok(()) => away = false,
                    Err(e) if !away => {
                        away = true;
                        tracing::warn!(error = %e, "what waits cannot be read; its gauges stand still until it can");
                    }
                    Err(_) => {}
                }
            }
            tokio::time::sleep(every).await;
        }
    };
    let own = async {
        let mut before = vec![None; watched.len()];
        loop {
            for (stage, before) in watched.iter().zip(&mut before) {
                look(stage, before);
            }
            tokio::time::sleep(every).await;
        }
    };
    tokio::join!(log, own);
}

/// What the runner itself knows. `before`: the time of the last look, and the use until then.
fn look(stage: &Watched, before: &mut Option<(Instant, f64)>) {
    let now = Instant::now();
    let standings = stage.standings.borrow();
    let mut p = Partitions { owned: standings.partitions.len(), ..Partitions::default() };
    for s in &standings.partitions {
        p.paused += usize::from(s.full);
        p.gap = p.gap.max(s.done.high - s.base);
        p.gap_age = p.gap_age.max(s.gap_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)));
    }
    stage.metrics.partitions(p);
    let used = standings.used.until(now);
    if let Some((then, used_then)) = before.replace((now, used)) {
        let seconds = now.duration_since(then).as_secs_f64();
        stage.metrics.utilisation(((used - used_then) / seconds.max(0.001)).clamp(0.0, 1.0));
    }
}

/// What rests in the stage's dead letters.
async fn letters(transport: &Arc<dyn Transport>, stage: &Watched, dead: &mut Option<DeadLetters>) -> Result<()> {
    let Some(def) = stage.stage else { return Ok(()) };
    let dead = match dead {
        Some(dead) => dead,
        None => dead.insert(DeadLetters::new(Arc::clone(transport), stage.names.clone()).await?),
    };
    dead.refresh().await?;
    let resting = dead.of(def).await?;
    let age = dead.oldest(def).await?.map_or(0, |written| u64::try_from(now_ms() - written).unwrap_or(0));
    stage.metrics.dead_letters(resting.letters, Duration::from_millis(age));
    Ok(())
}

/// What was read last, so that nothing is read twice while a partition stands.
#[derive(Default)]
struct Heads {
    /// By base: since when the record there is due, Unix ms; None if that cannot be said.
    since: BTreeMap<TopicPartition, (i64, Option<i64>)>,
}

/// What the stage's partitions have waiting, against the log.
async fn ask(transport: &dyn Transport, stage: &Watched, heads: &mut Heads) -> Result<()> {
    // Before the ends: what is appended in between waits, and nothing is done that is not there.
    let at = now_ms();
    let partitions = stage.standings.borrow().partitions.clone();
    let mut lags = Vec::with_capacity(stage.topics.len());
    let mut oldest: Option<i64> = None;
    for (topic, bare) in &stage.topics {
        let owned: Vec<_> = partitions.iter().filter(|s| *s.at.topic == **topic).collect();
        let bounds = if owned.is_empty() { vec![] } else { transport.bounds(topic).await? };
        let mut lag = 0;
        for s in owned {
            let Some(b) = bounds.iter().find(|b| b.partition == s.at.partition) else { continue };
            let of = PartitionLag::at(*b, s.base, Some(&s.done));
            if of.lag > 0 {
                lag += of.lag;
                let since = heads.due(transport, &s.at, of.base).await?;
                oldest = [oldest, since].into_iter().flatten().min();
            }
        }
        lags.push((bare.as_str(), lag));
    }
    let waited = oldest.map_or(0, |since| u64::try_from(at - since).unwrap_or(0));
    stage.metrics.waiting(at, lags, Duration::from_millis(waited));
    Ok(())
}

impl Heads {
    /// Since when the record at base is due, Unix ms.
    async fn due(&mut self, transport: &dyn Transport, at: &TopicPartition, base: i64) -> Result<Option<i64>> {
        if let Some((known, since)) = self.since.get(at)
            && *known == base
        {
            return Ok(*since);
        }
        let since = transport.read(at, base, 1, 1).await?.first().and_then(due);
        self.since.insert(at.clone(), (base, since));
        Ok(since)
    }
}

/// Since when a record may be handled, Unix ms: it was written, and its time has come. None for one without a time.
fn due(r: &Incoming) -> Option<i64> {
    let not_before = Meta::read(&r.headers, &r.at.topic, r.at.partition, r.offset, r.timestamp).not_before;
    Some(r.timestamp.max(not_before)).filter(|since| *since > 0)
}
