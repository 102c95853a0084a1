//! Puts dead letters back, each once.
//!
//! ```text
//! hold the lock ─► read the markers ─► walk through the letters, a step at a time:
//!   those that have no marker ─► one transaction: records to where they go (`way.rs`), markers, status events, progress
//!                                under the lock's epochs
//!   not done, or the lock changed hands ─► hold it again, read the markers, the rest of the step once more
//! ```
//!
//! Killed anywhere, the transaction is there or not: the next replay sees its markers, or puts these letters back itself.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fail::fail_point;

use super::lock::Lock;
use super::outcomes::Outcomes;
use super::scan::Scan;
use super::steps::{Steps, markers_exist};
use super::way::{Back, To, Ways};
use super::{Edit, Filter, Letter, LetterId, Replay, Tally};
use crate::record::codec::{self, CodecError};
use crate::record::{Headers, OutcomeKind, StatusEvent, now_ms};
use crate::topology::{self, Names};
use crate::transport::{Outgoing, Result, Transport, TransportError};

/// Bytes after which a step takes no further letter.
const STEP_BYTES: usize = 4 << 20;
/// Most reasons for which letters stay.
const REASONS: usize = 20;
/// Letters in one step.
const STEP: usize = 500;
/// Deaths after a replay from which on a letter is parked, unless it is said otherwise.
pub const PARK_AFTER: u32 = 3;

/// How a replay is to go about it.
#[derive(Debug, Clone)]
pub struct Order {
    /// The run's id.
    pub run: String,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Letters a second, at most.
    pub rate: Option<f64>,
    /// A letter that died so often after a replay is parked: it stays where it is.
    pub park_after: u32,
    /// Parked letters too.
    pub force: bool,
    /// First a few, and the rest only if these fare well.
    pub sample: Option<Sample>,
    /// Where to.
    pub to: To,
    /// What is changed on the way.
    pub edit: Option<Edit>,
}

/// A few letters first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// How many.
    pub letters: u64,
    /// Share of them that must succeed, 0 to 1.
    pub threshold: f64,
    /// Longest wait for their outcomes.
    pub wait: Duration,
}

impl Order {
    /// A plain replay under this run's id.
    pub fn new(run: impl Into<String>) -> Order {
        Order {
            run: run.into(),
            dry_run: false,
            rate: None,
            park_after: PARK_AFTER,
            force: false,
            sample: None,
            to: To::Origin,
            edit: None,
        }
    }
}

/// What a replay did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Letters that the filter let through.
    pub matched: u64,
    /// Of these, already put back by an earlier run and left alone.
    pub already: u64,
    /// Of these, parked and left alone.
    pub parked: u64,
    /// Put back; with `dry_run`, those that would be.
    pub replayed: u64,
    /// Of these, left alone because there is no way back for them, or none for what the edit makes of them; why, and how
    /// many. Of more than twenty reasons the rest is counted as one.
    pub stuck: BTreeMap<String, u64>,
    /// Where to (names without prefix), and how many.
    pub to: BTreeMap<String, u64>,
    /// What became of the sample, if there was one.
    pub sample: Option<Tally>,
    /// The sample did not fare well enough (or not in time), so the rest was left alone.
    pub stopped: bool,
}

/// Puts the letters that a filter lets through back to where they came from, or where the order says (the table in
/// `way.rs`), each once: those that have been put back before are left alone, and those that are parked. Another
/// replay of the same log is waited for, a minute and a half at most.
pub async fn replay(transport: &dyn Transport, names: &Names, filter: &Filter, order: &Order) -> Result<Report> {
    if order.dry_run {
        return would(transport, names, filter, order).await;
    }
    let ways = Ways::new(transport, names, filter, &order.to, order.edit.as_ref()).await?;
    markers_exist(transport, names).await?;
    let mut lock = Lock::take(transport, names).await?;
    let steps = Steps::new(&order.run);
    let done = Run { transport, names, order, ways, steps, report: Report::default() }.run(&mut lock, filter).await;
    lock.leave().await;
    done
}

/// Counts what a replay would do.
async fn would(transport: &dyn Transport, names: &Names, filter: &Filter, order: &Order) -> Result<Report> {
    let mut report = Report::default();
    let mut ways = Ways::new(transport, names, filter, &order.to, order.edit.as_ref()).await?;
    let mut scan = Scan::start(transport, names, filter).await?;
    while let Some(batch) = scan.next().await? {
        for letter in batch {
            report.matched += 1;
            if letter.replayed.is_some() {
                report.already += 1;
            } else if is_parked(&letter, order) {
                report.parked += 1;
            } else {
                match ways.of(&letter, &order.run).await? {
                    Ok(back) => report.count(&back, names),
                    Err(why) => report.stuck(why),
                }
            }
        }
    }
    Ok(report)
}

/// The first letters that would be put back, and as what.
pub async fn preview(
    transport: &dyn Transport,
    names: &Names,
    filter: &Filter,
    order: &Order,
    limit: usize,
) -> Result<Vec<(Letter, Back)>> {
    let mut ways = Ways::new(transport, names, filter, &order.to, order.edit.as_ref()).await?;
    let mut scan = Scan::start(transport, names, filter).await?;
    let mut found = vec![];
    while let Some(batch) = scan.next().await? {
        for letter in batch.into_iter().filter(|l| l.replayed.is_none() && !is_parked(l, order)) {
            if found.len() == limit {
                return Ok(found);
            }
            if let Ok(back) = ways.of(&letter, &order.run).await? {
                found.push((letter, back));
            }
        }
    }
    Ok(found)
}

impl Report {
    fn count(&mut self, back: &Back, names: &Names) {
        self.replayed += 1;
        let topic = &back.record.topic;
        let shown = if back.stage.is_some() { names.bare(topic) } else { topic };
        *self.to.entry(shown.to_owned()).or_default() += 1;
    }

    fn stuck(&mut self, why: String) {
        let known = self.stuck.len() < REASONS || self.stuck.contains_key(&why);
        *self.stuck.entry(if known { why } else { "of other reasons".to_owned() }).or_default() += 1;
    }
}

fn is_parked(letter: &Letter, order: &Order) -> bool {
    !order.force && letter.deaths() >= order.park_after
}

struct Run<'a> {
    transport: &'a dyn Transport,
    names: &'a Names,
    order: &'a Order,
    ways: Ways<'a>,
    steps: Steps<'a>,
    report: Report,
}

impl Run<'_> {
    async fn run(mut self, lock: &mut Lock, filter: &Filter) -> Result<Report> {
        // Markers are read, and the letters there are looked up, by whoever holds the lock.
        let mut scan = Scan::start(self.transport, self.names, filter).await?;
        lock.renew(self.transport, &mut scan.replays).await?;
        fail_point!("dlq.replay.locked");
        let mut outcomes = match &self.order.sample {
            Some(_) => Some(Outcomes::from_now(self.transport, self.names).await?),
            None => None,
        };
        // Until the sample is judged, no more than that.
        let mut left = self.order.sample.map_or(u64::MAX, |s| s.letters.max(1));
        while let Some(batch) = scan.next().await? {
            let mut step = vec![];
            let mut bytes = 0;
            let mut letters = batch.into_iter().peekable();
            while let Some(letter) = letters.next() {
                self.report.matched += 1;
                if scan.replays.get(&letter.id).is_some() {
                    self.report.already += 1;
                } else if is_parked(&letter, self.order) {
                    self.report.parked += 1;
                } else {
                    match self.ways.of(&letter, &self.order.run).await? {
                        Ok(back) => {
                            bytes += back.record.size();
                            step.push((letter, back));
                        }
                        Err(why) => self.report.stuck(why),
                    }
                }
                let full = step.len() >= self.most().min(usize::try_from(left).unwrap_or(usize::MAX));
                if step.is_empty() || !(full || bytes >= STEP_BYTES || letters.peek().is_none()) {
                    continue;
                }
                bytes = 0;
                let written = self.put(lock, &mut scan, std::mem::take(&mut step)).await?;
                left = left.saturating_sub(written.len() as u64);
                if let Some(outcomes) = &mut outcomes {
                    outcomes.expect(self.names, written.into_iter());
                    if left == 0 && !self.judge(lock, outcomes).await? {
                        self.report.stopped = true;
                        return self.end(lock, &mut scan).await;
                    }
                    if left == 0 {
                        left = u64::MAX;
                    }
                }
                if left == u64::MAX {
                    outcomes = None;
                }
            }
        }
        // There were fewer letters than the sample was to have.
        if let Some(outcomes) = &mut outcomes {
            self.report.stopped = !self.judge(lock, outcomes).await?;
        }
        self.end(lock, &mut scan).await
    }

    /// Most letters of a step: with a rate, about a second's.
    fn most(&self) -> usize {
        self.order.rate.map_or(STEP, |r| (r.ceil().max(1.0) as usize).min(STEP))
    }

    /// Puts letters back, in one transaction, those of them that nobody has put back; what it wrote of them.
    async fn put(
        &mut self,
        lock: &mut Lock,
        scan: &mut Scan<'_>,
        mut letters: Vec<(Letter, Back)>,
    ) -> Result<Vec<(LetterId, Replay)>> {
        let mut written: Vec<(LetterId, Replay)> = vec![];
        let (names, order) = (self.names, self.order);
        while self.steps.turn(lock, self.transport, &mut scan.replays).await? {
            // Since the last try, or since the lock was somebody else's.
            letters.retain(|(l, back)| match scan.replays.get(&l.id) {
                Some((run, _)) if *run == *order.run => {
                    self.report.count(back, names);
                    false
                }
                Some(_) => {
                    self.report.already += 1;
                    false
                }
                None => !scan.replays.is_purged(&l.id),
            });
            if letters.is_empty() {
                break;
            }
            written.clear();
            let mut records = vec![];
            for (letter, back) in &letters {
                let marker = put_back(letter, back, names, (&order.run, self.steps.next()), &mut records)
                    .map_err(|e| TransportError::Fatal(format!("letter {}: {e}", letter.id)))?;
                written.push((letter.id.clone(), marker));
            }
            self.steps.commit(lock, self.transport, &mut scan.replays, records, letters.len() as u64).await?;
        }
        self.pace(lock, written.len()).await?;
        Ok(written)
    }

    async fn pace(&self, lock: &mut Lock, letters: usize) -> Result<()> {
        match self.order.rate {
            Some(rate) if rate > 0.0 => lock.pass(Duration::from_secs_f64(letters as f64 / rate)).await,
            _ => Ok(()),
        }
    }

    /// Waits for what becomes of the sample. True when enough of it succeeded.
    async fn judge(&mut self, lock: &mut Lock, outcomes: &mut Outcomes) -> Result<bool> {
        let Some(sample) = self.order.sample else { return Ok(true) };
        let until = tokio::time::Instant::now() + sample.wait;
        loop {
            outcomes.read(self.transport, self.names).await?;
            let late = tokio::time::Instant::now() >= until;
            if late {
                outcomes.settle(&self.order.run);
            }
            let tally = outcomes.tally(&self.order.run);
            if tally.waiting == 0 || late {
                let all = tally.letters.max(1) as f64;
                self.report.sample = Some(tally);
                // No letters at all are no reason to complain.
                return Ok(tally.letters == 0 || tally.waiting == 0 && tally.succeeded as f64 / all >= sample.threshold);
            }
            lock.pass(Duration::from_millis(200)).await?;
        }
    }

    /// Says in the group's progress that nothing is left to be waited for.
    async fn end(self, lock: &mut Lock, scan: &mut Scan<'_>) -> Result<Report> {
        self.steps.end(lock, self.transport, &mut scan.replays).await?;
        Ok(self.report)
    }
}

/// Adds what puts a letter back: the record, its marker, and for a stage of ours the status event that says so.
fn put_back(
    letter: &Letter,
    back: &Back,
    names: &Names,
    (run, step): (&str, u64),
    records: &mut Vec<Outgoing>,
) -> std::result::Result<Replay, CodecError> {
    records.push(back.record.clone());
    let meta = letter.meta();
    let stage = back.stage.map(|s| s.to_string()).unwrap_or_default();
    let fingerprint = letter.fingerprint().unwrap_or_default();
    let replay =
        Replay { run: run.to_owned(), at: now_ms(), step, stage, task: meta.task.clone(), fingerprint, purged: false };
    records.push(replay.marker(&letter.id, names));
    if back.stage.is_none() {
        return Ok(replay);
    }
    let event = StatusEvent {
        url: letter.url().unwrap_or_default(),
        stage: replay.stage.clone(),
        outcome: OutcomeKind::Replayed,
        class: letter.failure.as_ref().map(|f| f.class.to_string()),
        message: Some(format!("replay {run}")),
        attempt: 0,
        at: replay.at,
        took_ms: 0.0,
        waited_ms: 0.0,
        emitted: 0,
        until: None,
        trace: meta.trace.trace_hex(),
        task: meta.task,
        job: meta.job,
    };
    records.push(Outgoing {
        tombstone: false,
        topic: names.full(topology::STATUS).into(),
        partition: None,
        key: Some(Bytes::from(event.task.clone())),
        value: codec::encode(&event, names.ids())?,
        headers: Headers::default(),
    });
    Ok(replay)
}
