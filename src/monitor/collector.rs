//! Takes snapshots. Status events, jobs and replay markers are read once each and folded; holds what is in work of each
//! job, the newest failures, and a number for each replayed letter that still rests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dead::{DeadLetters, Resting};
use super::lag::{self, TopicLag};
use super::snapshot::{JobProgress, Rate, Snapshot, Stage};
use crate::jobs::{Job, Tracker};
use crate::record::{OutcomeKind, StatusEvent, codec, now_ms};
use crate::topology::{JOBS, Names, STAGES, STATUS, StageDef, TIERS};
use crate::transport::tail::{From, Range, Tail};
use crate::transport::{Incoming, Result, TopicPartition, Transport};

/// Failures kept.
const FAILURES: usize = 200;
/// Status events of each partition that are looked through first, so that the newest failures are there at once.
const NEWEST: i64 = 300;

/// Looks again and again.
pub struct Collector {
    transport: Arc<dyn Transport>,
    names: Names,
    status: Tail,
    jobs: Tail,
    dead: DeadLetters,
    tracker: Tracker,
    known: BTreeMap<String, Job>,
    /// By time and place, so that one that is read twice is there once.
    failures: BTreeMap<(i64, i32, i64), StatusEvent>,
    /// When the last look was, and each stage's counts then.
    before: Option<(Instant, Vec<Counts>)>,
    /// Ends of each dead-letter topic, summed, at the first look.
    dead_before: Vec<i64>,
}

/// What rates are made of.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Records that ever came to the inputs.
    came: i64,
    /// Those that are through: done on the inputs, and not waiting on a retry topic.
    through: i64,
}

impl Counts {
    fn of(topics: &[TopicLag]) -> Counts {
        let (inputs, retries): (Vec<_>, Vec<_>) = topics.iter().partition(|t| t.tier.is_none());
        let came = inputs.iter().flat_map(|t| &t.partitions).map(|p| p.end).sum();
        let waiting: i64 = inputs.iter().chain(&retries).map(|t| t.lag).sum();
        Counts { came, through: came - waiting }
    }
}

impl Collector {
    /// A collector that has looked at nothing but the newest status events.
    pub async fn new(transport: Arc<dyn Transport>, names: Names) -> Result<Collector> {
        let tail = async |topic| Tail::new(&*transport, &names.full(topic), From::Start).await;
        let (status, jobs) = (tail(STATUS).await?, tail(JOBS).await?);
        let dead = DeadLetters::new(Arc::clone(&transport), names.clone()).await?;
        let mut collector = Collector {
            status,
            jobs,
            dead,
            tracker: Tracker::all(),
            known: BTreeMap::new(),
            failures: BTreeMap::new(),
            before: None,
            dead_before: vec![],
            transport,
            names,
        };
        collector.newest_failures().await?;
        Ok(collector)
    }

    async fn newest_failures(&mut self) -> Result<()> {
        let topic = self.names.full(STATUS);
        for b in self.transport.bounds(&topic).await? {
            let from = (b.end - NEWEST).max(b.start);
            let mut range = Range::new(TopicPartition::new(topic.as_str(), b.partition), from, b.end);
            while let Some(batch) = range.next(&*self.transport).await? {
                batch.iter().for_each(|r| self.failure(r, codec::decode(&r.value).ok()));
            }
        }
        Ok(())
    }

    /// Looks. Status events of the past are read for `budget` at most, None: to their end; what is left is for the next
    /// look.
    pub async fn look(&mut self, budget: Option<Duration>) -> Result<Snapshot> {
        let started = Instant::now();
        let at = now_ms();
        let mut topics = vec![];
        for def in &STAGES {
            topics.push(lag::of_stage(&*self.transport, &self.names, def).await?);
        }
        let looked = Instant::now();
        let counts: Vec<Counts> = topics.iter().map(|t| Counts::of(t)).collect();
        let before = self.before.replace((looked, counts.clone()));
        self.dead.refresh().await?;
        let first = self.dead_before.is_empty();
        let mut stages = vec![];
        for (i, (def, topics)) in STAGES.iter().zip(topics).enumerate() {
            let Resting { letters: dead_letters, end } = self.dead.of(def).await?;
            if first {
                self.dead_before.push(end);
            }
            let new = end - self.dead_before.get(i).copied().unwrap_or(end);
            let rate = before.as_ref().and_then(|(then, old)| {
                let seconds = looked.duration_since(*then).as_secs_f64();
                let (old, now) = (old.get(i)?, counts.get(i)?);
                // Partitions are looked at one after the other, so a record that moves meanwhile may be seen twice.
                let a_second = |now: i64, old: i64| (now - old).max(0) as f64 / seconds.max(0.001);
                Some(Rate { inward: a_second(now.came, old.came), outward: a_second(now.through, old.through) })
            });
            stages.push(stage(def, topics, rate, dead_letters, u64::try_from(new).unwrap_or(0)));
        }
        let caught_up = self.read_status(budget.map(|b| started + b)).await?;
        Ok(Snapshot {
            at,
            stages,
            failures: self.failures.values().rev().cloned().collect(),
            jobs: self.job_progress().await?,
            caught_up,
        })
    }

    /// Reads status events until a time; true when there are no more.
    async fn read_status(&mut self, until: Option<Instant>) -> Result<bool> {
        loop {
            let Some(batch) = self.status.poll(&*self.transport).await? else { return Ok(true) };
            for r in &batch {
                if let Ok(event) = codec::decode::<StatusEvent>(&r.value) {
                    self.tracker.fold(&event);
                    self.failure(r, Some(event));
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
        }
    }

    fn failure(&mut self, r: &Incoming, event: Option<StatusEvent>) {
        let failed = |e: &StatusEvent| matches!(e.outcome, OutcomeKind::DeadLettered | OutcomeKind::Retried);
        if let Some(event) = event.filter(failed) {
            self.failures.insert((event.at, r.at.partition, r.offset), event);
            if self.failures.len() > FAILURES {
                self.failures.pop_first();
            }
        }
    }

    async fn job_progress(&mut self) -> Result<Vec<JobProgress>> {
        while let Some(batch) = self.jobs.poll(&*self.transport).await? {
            for job in batch.iter().filter_map(Job::read) {
                self.known.insert(job.id.clone(), job);
            }
        }
        let mut jobs: Vec<JobProgress> = self
            .known
            .values()
            .map(|job| {
                let p = self.tracker.get(&job.id);
                JobProgress {
                    job: job.clone(),
                    finished: p.map_or(0, |p| p.finished),
                    indexed: p.map_or(0, |p| p.indexed()),
                    dropped: p.map_or(0, |p| p.count(OutcomeKind::Dropped)),
                    dead_letters: p.map_or(0, |p| p.dead_letters()),
                }
            })
            .collect();
        jobs.sort_by_key(|j| std::cmp::Reverse(j.job.created));
        Ok(jobs)
    }
}

fn stage(def: &StageDef, topics: Vec<TopicLag>, rate: Option<Rate>, dead_letters: u64, new_dead_letters: u64) -> Stage {
    let partitions = || topics.iter().flat_map(|t| &t.partitions);
    let mut retries = [0; TIERS];
    for t in &topics {
        if let Some(tier) = t.tier.and_then(|tier| retries.get_mut(tier)) {
            *tier = t.lag;
        }
    }
    Stage {
        stage: def.name,
        rate,
        lag: topics.iter().filter(|t| t.tier.is_none()).map(|t| t.lag).sum(),
        gap: partitions().map(|p| p.gap).max().unwrap_or(0),
        incomplete: partitions().map(|p| p.incomplete).sum(),
        retries,
        dead_letters,
        new_dead_letters,
        topics,
    }
}
