//! Puts dead letters back, each once.
//!
//! ```text
//! hold the lock ─► read the markers ─► walk through the letters, a step at a time:
//!   those that have no marker ─► one transaction: records to the first retry topic, markers, status events, progress
//!                                under the lock's epochs
//!   not done, or the lock changed hands ─► hold it again, read the markers, the rest of the step once more
//! ```
//!
//! Killed anywhere, the transaction is there or not: the next replay sees its markers, or puts these letters back itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fail::fail_point;

use super::lock::Lock;
use super::outcomes::Outcomes;
use super::scan::Scan;
use super::{Filter, Letter, Replay, Tally};
use crate::record::codec::{self, CodecError};
use crate::record::{Headers, OutcomeKind, StatusEvent, headers, letter, now_ms};
use crate::topology::{self, Names};
use crate::transport::{Committed, Outgoing, Result, Transport, TransportError};

/// Bytes after which a step takes no further letter.
const STEP_BYTES: usize = 4 << 20;
/// Letters in one step.
const STEP: usize = 500;
/// Tries of a step that the log refuses, and the wait between them.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_millis(500);
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
        Order { run: run.into(), dry_run: false, rate: None, park_after: PARK_AFTER, force: false, sample: None }
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
    /// Where to (names without prefix), and how many.
    pub to: BTreeMap<String, u64>,
    /// What became of the sample, if there was one.
    pub sample: Option<Tally>,
    /// The sample did not fare well enough (or not in time), so the rest was left alone.
    pub stopped: bool,
}

/// Puts the letters that a filter lets through back to their stage's first retry topic, each once: those that have been
/// put back before are left alone, and those that are parked. They keep key, value, partition and headers; failure headers
/// and attempts are gone. Another replay of the same log is waited for, a minute and a half at most.
pub async fn replay(transport: &dyn Transport, names: &Names, filter: &Filter, order: &Order) -> Result<Report> {
    if order.dry_run {
        return would(transport, names, filter, order).await;
    }
    let mut lock = Lock::take(transport, names).await?;
    let done = Run { transport, names, order, step: 0, report: Report::default() }.run(&mut lock, filter).await;
    lock.leave().await;
    done
}

/// Counts what a replay would do.
async fn would(transport: &dyn Transport, names: &Names, filter: &Filter, order: &Order) -> Result<Report> {
    let mut report = Report::default();
    let mut scan = Scan::start(transport, names, filter).await?;
    while let Some(batch) = scan.next().await? {
        for letter in batch {
            report.matched += 1;
            if letter.replayed.is_some() {
                report.already += 1;
            } else if is_parked(&letter, order) {
                report.parked += 1;
            } else {
                report.count(&letter);
            }
        }
    }
    Ok(report)
}

impl Report {
    fn count(&mut self, letter: &Letter) {
        self.replayed += 1;
        *self.to.entry(topology::stage(letter.stage).retry(0)).or_default() += 1;
    }
}

fn is_parked(letter: &Letter, order: &Order) -> bool {
    !order.force && letter.deaths() >= order.park_after
}

struct Run<'a> {
    transport: &'a dyn Transport,
    names: &'a Names,
    order: &'a Order,
    /// Transactions begun.
    step: u64,
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
                    bytes += letter.record.size();
                    step.push(letter);
                }
                let full = step.len() >= self.most().min(usize::try_from(left).unwrap_or(usize::MAX));
                if step.is_empty() || !(full || bytes >= STEP_BYTES || letters.peek().is_none()) {
                    continue;
                }
                bytes = 0;
                let written = self.put(lock, &mut scan, std::mem::take(&mut step)).await?;
                left = left.saturating_sub(written.len() as u64);
                if let Some(outcomes) = &mut outcomes {
                    outcomes.expect(written.into_iter());
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
    async fn put(&mut self, lock: &mut Lock, scan: &mut Scan<'_>, mut letters: Vec<Letter>) -> Result<Vec<Replay>> {
        let mut written: Vec<Replay> = vec![];
        for _ in 0..TRIES {
            if !lock.settle().await? {
                lock.renew(self.transport, &mut scan.replays).await?;
            }
            // Since the last try, or since the lock was somebody else's.
            letters.retain(|l| match scan.replays.get(&l.id) {
                Some((run, _)) if *run == *self.order.run => {
                    self.report.count(l);
                    false
                }
                Some(_) => {
                    self.report.already += 1;
                    false
                }
                None => true,
            });
            if letters.is_empty() {
                self.pace(lock, written.len()).await?;
                return Ok(written);
            }
            self.step += 1;
            let mut records = vec![];
            written.clear();
            for letter in &letters {
                let (marker, three) = put_back(letter, self.names, &self.order.run, self.step)
                    .map_err(|e| TransportError::Fatal(format!("letter {}: {e}", letter.id)))?;
                records.extend(three);
                written.push(marker);
            }
            fail_point!("dlq.replay.before");
            let step = (self.order.run.as_str(), self.step, letters.len() as u64);
            match lock.commit(self.transport, &mut scan.replays, step, records).await? {
                // The next turn sees their markers.
                Committed::Done => {
                    fail_point!("dlq.replay.after");
                }
                refused => {
                    tracing::warn!(
                        run = self.order.run,
                        outcome = refused.as_str(),
                        "a step of the replay is made again"
                    );
                    lock.pass(AGAIN).await?;
                }
            }
        }
        Err(TransportError::Unavailable(format!(
            "the log refuses what replay {} writes; what it put back stays put back, and the same command goes on",
            self.order.run
        )))
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
            outcomes.read(self.transport).await?;
            let tally = outcomes.tally(&self.order.run);
            if tally.waiting == 0 || tokio::time::Instant::now() >= until {
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
        if self.step > 0 && lock.settle().await? {
            // It is only for those who look at the group; the markers are there.
            let _any = lock.commit(self.transport, &mut scan.replays, (&self.order.run, self.step, 0), vec![]).await?;
        }
        Ok(self.report)
    }
}

/// The marker; and the record, the marker and the status event that says so, for one transaction.
fn put_back(
    letter: &Letter,
    names: &Names,
    run: &str,
    step: u64,
) -> std::result::Result<(Replay, [Outgoing; 3]), CodecError> {
    let mut replayed = letter::replay_headers(&letter.record.headers, run);
    replayed.set(headers::REPLAYS, (letter.deaths() + 1).to_string());
    let back = Outgoing {
        topic: names.full(&topology::stage(letter.stage).retry(0)).into(),
        // The same partition, so that the same member owns its host.
        partition: Some(letter.record.at.partition),
        key: letter.record.key.clone(),
        value: letter.record.value.clone(),
        headers: replayed,
    };
    let meta = letter.meta();
    let url = letter.url().unwrap_or_default();
    let replay = Replay {
        run: run.to_owned(),
        at: now_ms(),
        step,
        stage: letter.stage.to_string(),
        task: meta.task.clone(),
        fingerprint: letter.fingerprint().unwrap_or_default(),
    };
    let marker = Outgoing {
        topic: Arc::from(names.full(topology::REPLAYS)),
        partition: None,
        key: Some(Bytes::from(letter.id.to_string())),
        // A struct of plain fields always has a JSON form.
        value: serde_json::to_vec(&replay).unwrap_or_default().into(),
        headers: Headers::default(),
    };
    let event = StatusEvent {
        url,
        stage: letter.stage.to_string(),
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
    let event = Outgoing {
        topic: names.full(topology::STATUS).into(),
        partition: None,
        key: Some(Bytes::from(event.task.clone())),
        value: codec::encode(&event, names.ids())?,
        headers: Headers::default(),
    };
    Ok((replay, [back, marker, event]))
}
