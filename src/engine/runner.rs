//! A record's way through one stage, in the order it happens:
//!
//! ```text
//! poll     member.next() hands out records; each joins its partition's backlog, whose reading is paused meanwhile
//! admit    a lane is picked by weight, the head of one of its partitions is taken note of in the window; one that is
//!          not due puts its partition to sleep
//! run      a task of its own: the [`Work`] turns the record into what is to be written. While many are admitted at once,
//!          their first steps are made together, and only what is not done by then gets a task
//! collect  the window marks the offset complete; the outputs wait for the next commit
//! commit   outputs and progress (base and map) in one transaction. As many may be under way as the transport takes;
//!          after one that wrote nothing, none is sent until all outcomes are known: a later one's progress counts on it
//! ```
//!
//! One task owns all of this, so there is no lock. What is admitted counts as in flight until it is committed. A result
//! whose assignment is over (another epoch) is dropped: its record belongs to somebody else.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fail::fail_point;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::schedule::{Lanes, wake};
use super::standing::{self, Publisher, Standings};
use super::steps::{self, Going, Ran, Steps};
use super::window::{Admit, Window};
use super::work::{Task, Work};
use crate::record::{Meta, now_ms};
use crate::telemetry::{Rebalance, StageMetrics};
use crate::transport::{
    Assignment, Batch, Committed, Event, Incoming, Member, Outgoing, Progress, Result, TopicPartition, Transport,
    TransportError,
};

/// Bounds of one stage's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records admitted and not yet committed.
    pub in_flight: usize,
    /// Their bytes, input and output.
    pub in_flight_bytes: usize,
    /// Shortest time between two commits; longer makes fewer and larger transactions.
    pub commit_interval: Duration,
    /// How long a stop waits for what is running.
    pub grace: Duration,
}

/// Wait after a commit or a poll that failed for now.
const BACKOFF: Duration = Duration::from_millis(500);
/// Longest sleep of the loop; a safety net, not a clock.
const IDLE: Duration = Duration::from_secs(5);

/// Runs one work on one transport.
pub struct Runner {
    /// What is done with each record.
    pub work: Arc<dyn Work>,
    /// Bounds.
    pub limits: Limits,
    /// Counters.
    pub metrics: StageMetrics,
    /// What time it is, Unix ms: [`now_ms`], or a simulation's clock.
    pub clock: fn() -> i64,
    /// How its partitions stand while it runs; nothing is told while nobody subscribes.
    pub standings: watch::Sender<Standings>,
}

impl Runner {
    /// With the usual clock, and metrics under the work's name.
    pub fn new(work: Arc<dyn Work>, limits: Limits) -> Runner {
        let metrics = StageMetrics::new(work.name());
        Runner { metrics, work, limits, clock: now_ms, standings: standing::channel() }
    }

    /// Joins the work's group and works until `stop`; what is finished by then is committed.
    pub async fn run(self, transport: &dyn Transport, stop: CancellationToken) -> Result<()> {
        let inputs = self.work.inputs();
        let topics: Vec<String> = inputs.iter().map(|i| i.topic.clone()).collect();
        let group = self.work.group();
        let member = tokio::select! {
            joined = transport.join(&group, &topics) => joined?,
            // Joining waits for a cluster that is away.
            () = stop.cancelled() => return Ok(()),
        };
        let mut work = Running {
            lane_of: topics.into_iter().enumerate().map(|(lane, t)| (t, lane)).collect(),
            lanes: Lanes::new(inputs.iter().map(|i| i.weight)),
            ready: vec![VecDeque::new(); inputs.len()],
            delays: inputs.iter().map(|i| i.delay).collect(),
            standings: Publisher::new(self.standings.clone()),
            runner: Arc::new(self),
            member,
            partitions: vec![],
            slots: BTreeMap::new(),
            starting: vec![],
            tasks: JoinSet::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            finished: vec![],
            committing: VecDeque::new(),
            draining: false,
            commit_after: Instant::now(),
            poll_after: None,
        };
        let ended = work.until(&stop).await;
        work.leave().await;
        ended
    }
}

/// One partition of one input.
struct Partition {
    at: TopicPartition,
    lane: usize,
    /// How many its topic has.
    of: u32,
    /// None while it is not ours.
    epoch: Option<i64>,
    window: Window,
    backlog: VecDeque<Incoming>,
    paused: bool,
    /// It stands in its lane's queue.
    queued: bool,
    /// Its head sleeps until then, Unix ms.
    wake: Option<i64>,
    /// Below it the log has no more than the backlog.
    passed: i64,
    /// There is progress to commit.
    dirty: bool,
}

impl Partition {
    /// Once the backlog is admitted, what was passed is behind it, and is committed, so that nobody's lag counts it.
    fn catch_up(&mut self) {
        if self.backlog.is_empty() && self.epoch.is_some() && self.window.pass(self.passed) {
            self.dirty = true;
        }
    }
}

/// A record whose outcome is known and not yet committed.
struct Finished {
    slot: usize,
    epoch: i64,
    outputs: Vec<Outgoing>,
    /// What it counts against the limits.
    records: usize,
    bytes: usize,
}

/// A commit under way.
struct Committing {
    outcome: BoxFuture<'static, Committed>,
    batch: Arc<Batch>,
    /// Its records without their outputs, in the order of the batch, with the number of outputs each.
    sent: Vec<(Finished, usize)>,
    started: Instant,
}

struct Running {
    runner: Arc<Runner>,
    member: Box<dyn Member>,
    lane_of: HashMap<String, usize>,
    lanes: Lanes,
    /// Per lane: slots whose head may be admitted.
    ready: Vec<VecDeque<usize>>,
    /// Per lane: how long its records wait, if it is a retry topic.
    delays: Vec<Option<Duration>>,
    partitions: Vec<Partition>,
    slots: BTreeMap<TopicPartition, usize>,
    /// Admitted, to be started.
    starting: Vec<Going>,
    tasks: JoinSet<Steps>,
    in_flight: usize,
    in_flight_bytes: usize,
    finished: Vec<Finished>,
    /// In the order they were sent.
    committing: VecDeque<Committing>,
    /// One of them wrote nothing; no other is sent until all their outcomes are known.
    draining: bool,
    commit_after: Instant,
    /// Polling failed for now.
    poll_after: Option<Instant>,
    standings: Publisher,
}

impl Running {
    async fn until(&mut self, stop: &CancellationToken) -> Result<()> {
        loop {
            self.admit();
            self.commit_if_due();
            self.publish_if_due();
            let alarm = self.alarm();
            let poll_after = self.poll_after;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                committed = outcome(&mut self.committing) => self.committed(committed),
                Some(steps) = self.tasks.join_next(), if !self.tasks.is_empty() => self.collect(steps),
                event = poll(&mut self.member, poll_after) => {
                    self.poll_after = None;
                    match event {
                        Ok(event) => self.on(event).await,
                        Err(TransportError::Unavailable(e)) => {
                            warn!(stage = %self.stage(), error = %e, "polling failed; trying again");
                            self.poll_after = Some(Instant::now() + BACKOFF);
                        }
                        Err(fatal) => return Err(fatal),
                    }
                }
                () = tokio::time::sleep_until(alarm) => continue,
            }
            self.standings.touch();
        }
    }

    fn stage(&self) -> &str {
        self.runner.work.name()
    }

    // ---- poll

    async fn on(&mut self, event: Event) {
        match event {
            Event::Records(records) => self.take(records),
            Event::Passed { at, offset } => self.pass(&at, offset),
            Event::Assigned(assignments) => {
                info!(stage = %self.stage(), partitions = assignments.len(), "assigned");
                self.runner.metrics.rebalance(Rebalance::Assigned);
                assignments.into_iter().for_each(|a| self.assign(a));
            }
            Event::Revoked { partitions, lost } => {
                info!(stage = %self.stage(), partitions = partitions.len(), lost, "revoked");
                self.runner.metrics.rebalance(if lost { Rebalance::Lost } else { Rebalance::Revoked });
                if !lost {
                    self.settle().await;
                }
                partitions.iter().for_each(|p| self.disown(p));
                self.member.release(&partitions).await;
            }
        }
    }

    fn assign(&mut self, a: Assignment) {
        let Some(&lane) = self.lane_of.get(&*a.at.topic) else {
            error!(partition = %a.at, "assigned a topic that was not asked for");
            return;
        };
        let (window, trusted) = Window::restore(a.base, &a.map);
        if !trusted {
            warn!(stage = %self.stage(), partition = %a.at, base = a.base, map = %a.map, "committed offset map cannot be read; records after base run again");
        }
        // What an earlier assignment left behind must not be committed under this one.
        self.disown(&a.at);
        let slot = *self.slots.entry(a.at.clone()).or_insert_with(|| self.partitions.len());
        let partition = Partition {
            at: a.at,
            lane,
            of: a.partitions,
            epoch: Some(a.epoch),
            window,
            backlog: VecDeque::new(),
            paused: false,
            queued: self.partitions.get(slot).is_some_and(|p| p.queued),
            wake: None,
            passed: 0,
            dirty: false,
        };
        match self.partitions.get_mut(slot) {
            Some(p) => *p = partition,
            None => self.partitions.push(partition),
        }
    }

    /// The assignment under which a partition is ours.
    fn epoch(&self, at: &TopicPartition) -> Option<i64> {
        self.slots.get(at).and_then(|slot| self.partitions[*slot].epoch)
    }

    /// Forgets a partition: its running records' results will be dropped, its finished ones are dropped here.
    fn disown(&mut self, at: &TopicPartition) {
        let Some(&slot) = self.slots.get(at) else { return };
        let p = &mut self.partitions[slot];
        p.epoch = None;
        p.backlog.clear();
        p.wake = None;
        let (kept, dropped): (Vec<_>, Vec<_>) = self.finished.drain(..).partition(|f| f.slot != slot);
        self.finished = kept;
        dropped.iter().for_each(|f| self.free(f.records, f.bytes));
    }

    fn take(&mut self, records: Vec<Incoming>) {
        for record in records {
            let Some(&slot) = self.slots.get(&record.at) else { continue };
            let p = &mut self.partitions[slot];
            if p.epoch.is_none() {
                continue;
            }
            p.backlog.push_back(record);
            if !p.paused {
                p.paused = true;
                self.member.pause(&p.at);
            }
            self.queue(slot);
        }
    }

    fn pass(&mut self, at: &TopicPartition, offset: i64) {
        let Some(&slot) = self.slots.get(at) else { return };
        self.partitions[slot].passed = offset;
        self.partitions[slot].catch_up();
    }

    // ---- admit

    /// Puts a partition into its lane's queue if its head may be admitted.
    fn queue(&mut self, slot: usize) {
        let p = &mut self.partitions[slot];
        let admissible = p.backlog.front().is_some_and(|r| p.window.has_room(r.offset));
        if !p.queued && p.wake.is_none() && admissible {
            p.queued = true;
            self.ready[p.lane].push_back(slot);
        }
    }

    fn admit(&mut self) {
        let now = (self.runner.clock)();
        for slot in 0..self.partitions.len() {
            if self.partitions[slot].wake.is_some_and(|w| w <= now) {
                self.partitions[slot].wake = None;
                self.queue(slot);
            }
        }
        let limits = self.runner.limits;
        while self.in_flight < limits.in_flight && self.in_flight_bytes < limits.in_flight_bytes {
            let ready = &self.ready;
            let Some(lane) = self.lanes.pick(|l| !ready[l].is_empty()) else { break };
            let Some(slot) = self.ready[lane].pop_front() else { break };
            self.partitions[slot].queued = false;
            self.admit_head(slot, now);
            self.queue(slot);
            let p = &mut self.partitions[slot];
            p.catch_up();
            if p.paused && p.backlog.is_empty() && p.epoch.is_some() {
                p.paused = false;
                self.member.resume(&p.at);
            }
        }
        for steps in steps::start(std::mem::take(&mut self.starting)) {
            self.tasks.spawn(steps);
        }
    }

    fn admit_head(&mut self, slot: usize, now: i64) {
        let runner = Arc::clone(&self.runner);
        let p = &mut self.partitions[slot];
        let (Some(epoch), Some(record)) = (p.epoch, p.backlog.pop_front()) else { return };
        let meta = Meta::read(&record.headers, &record.at.topic, record.at.partition, record.offset, record.timestamp);
        let delay = self.delays[p.lane];
        let due = wake(delay, record.timestamp, meta.not_before);
        if due > now {
            p.wake = Some(due);
            p.backlog.push_front(record);
            return;
        }
        match p.window.admit(record.offset) {
            Admit::Stale => return,
            Admit::Done => {
                p.dirty = true;
                self.runner.metrics.skipped();
                return;
            }
            Admit::Fresh => {}
        }
        let bytes = record.size();
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.runner.metrics.in_flight(self.in_flight);
        if delay.is_some() && meta.not_before > now {
            // Its tier's delay is over and its time has not come: on to the next wait, the stage need not know.
            let outputs = vec![runner.work.repark(&record, &meta, now)];
            self.finish(Ran { slot, epoch, offset: record.offset, outputs, input_bytes: bytes });
            return;
        }
        let task = Task { record, meta, partitions: p.of };
        let (offset, run) = (task.record.offset, Arc::clone(&runner.work).run(task));
        self.starting.push(run.map(move |outputs| Ran { slot, epoch, offset, outputs, input_bytes: bytes }).boxed());
    }

    // ---- collect

    fn collect(&mut self, first: std::result::Result<Steps, tokio::task::JoinError>) {
        let mut next = Some(first);
        while let Some(steps) = next {
            match steps {
                Ok(steps) => {
                    steps.ran.into_iter().for_each(|ran| self.finish(ran));
                    for going in steps.going {
                        self.tasks.spawn(steps::whole(going));
                    }
                }
                // Only an abort ends a task without a result, and only leaving aborts.
                Err(e) => {
                    error!(stage = %self.stage(), error = %e, "a record's task was lost; it runs again after a restart")
                }
            }
            next = self.tasks.try_join_next();
        }
    }

    fn finish(&mut self, ran: Ran) {
        let p = &mut self.partitions[ran.slot];
        if p.epoch != Some(ran.epoch) || !p.window.complete(ran.offset) {
            debug!(stage = %self.runner.work.name(), partition = %p.at, offset = ran.offset, "late result of another assignment dropped");
            self.free(1, ran.input_bytes);
            return;
        }
        p.dirty = true;
        let output_bytes: usize = ran.outputs.iter().map(Outgoing::size).sum();
        self.in_flight_bytes += output_bytes;
        self.finished.push(Finished {
            slot: ran.slot,
            epoch: ran.epoch,
            outputs: ran.outputs,
            records: 1,
            bytes: ran.input_bytes + output_bytes,
        });
        self.queue(ran.slot);
    }

    fn free(&mut self, records: usize, bytes: usize) {
        self.in_flight -= records;
        self.in_flight_bytes -= bytes;
        self.runner.metrics.in_flight(self.in_flight);
    }

    // ---- commit

    fn commit_if_due(&mut self) {
        if self.may_commit() && Instant::now() >= self.commit_after && self.has_work_to_commit() {
            self.commit();
        }
    }

    fn may_commit(&self) -> bool {
        self.committing.is_empty() || !self.draining && self.committing.len() < self.member.depth()
    }

    fn has_work_to_commit(&self) -> bool {
        !self.finished.is_empty() || self.partitions.iter().any(|p| p.dirty && p.epoch.is_some())
    }

    fn commit(&mut self) {
        let mut batch = Batch::default();
        for p in self.partitions.iter_mut().filter(|p| p.dirty) {
            p.dirty = false;
            if let Some(epoch) = p.epoch {
                let (base, map) = p.window.progress();
                batch.progress.push(Progress { at: p.at.clone(), epoch, base, map });
            }
        }
        let mut sent = Vec::with_capacity(self.finished.len());
        for mut f in std::mem::take(&mut self.finished) {
            let outputs = std::mem::take(&mut f.outputs);
            sent.push((f, outputs.len()));
            batch.outputs.extend(outputs);
        }
        fail_point!("runner.commit");
        let batch = Arc::new(batch);
        let outcome = self.member.commit(Arc::clone(&batch));
        self.commit_after = Instant::now() + self.runner.limits.commit_interval;
        self.committing.push_back(Committing { outcome, batch, sent, started: Instant::now() });
    }

    fn committed(&mut self, outcome: Committed) {
        let Some(done) = self.committing.pop_front() else { return };
        self.runner.metrics.commit(done.started.elapsed(), outcome.as_str());
        self.draining = (self.draining || outcome != Committed::Done) && !self.committing.is_empty();
        match outcome {
            Committed::Done => {
                let (records, bytes) = done.sent.iter().fold((0, 0), |(r, b), (f, _)| (r + f.records, b + f.bytes));
                self.free(records, bytes);
                self.runner.metrics.committed(records, bytes);
            }
            Committed::Fenced(lost) => {
                warn!(stage = %self.stage(), partitions = lost.len(), "these partitions belong to another member by now; their results are dropped");
                // What was lost may have been assigned anew since; that is not lost.
                let still = |p: &&Progress| lost.contains(&p.at) && self.epoch(&p.at) == Some(p.epoch);
                let gone: Vec<_> = done.batch.progress.iter().filter(still).map(|p| p.at.clone()).collect();
                gone.iter().for_each(|at| self.disown(at));
                self.take_back(done);
            }
            Committed::Aborted(why) => {
                warn!(stage = %self.stage(), error = %why, "commit failed and wrote nothing; sending it again");
                self.commit_after = Instant::now() + BACKOFF;
                self.take_back(done);
            }
            Committed::Unknown(why) => {
                error!(stage = %self.stage(), error = %why, "outcome of a commit is unknown; reading again what is committed");
                done.sent.iter().for_each(|(f, _)| self.free(f.records, f.bytes));
                let all: Vec<_> = self.slots.keys().cloned().collect();
                all.iter().for_each(|at| self.disown(at));
            }
        }
    }

    /// A batch that wrote nothing: its records that are still ours wait for the next commit.
    fn take_back(&mut self, done: Committing) {
        let mut outputs = done.batch.outputs.iter();
        let mut back = vec![];
        for (mut f, count) in done.sent {
            f.outputs = outputs.by_ref().take(count).cloned().collect();
            if self.partitions[f.slot].epoch == Some(f.epoch) {
                self.partitions[f.slot].dirty = true;
                back.push(f);
            } else {
                self.free(f.records, f.bytes);
            }
        }
        for p in &done.batch.progress {
            if let Some(&slot) = self.slots.get(&p.at) {
                self.partitions[slot].dirty = true;
            }
        }
        back.append(&mut self.finished);
        self.finished = back;
    }

    /// Commits all that is finished, now; gives up after the grace time.
    async fn settle(&mut self) {
        let until = Instant::now() + self.runner.limits.grace;
        while Instant::now() < until {
            if self.may_commit() && self.has_work_to_commit() {
                self.commit();
            }
            if self.committing.is_empty() {
                return;
            }
            match tokio::time::timeout_at(until, outcome(&mut self.committing)).await {
                Ok(result) => {
                    let again = matches!(result, Committed::Aborted(_));
                    self.committed(result);
                    if again {
                        tokio::time::sleep(BACKOFF).await;
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn publish_if_due(&mut self) {
        let limits = self.runner.limits;
        let of = |used: usize, limit: usize| used as f64 / limit.max(1) as f64;
        let share = of(self.in_flight, limits.in_flight).max(of(self.in_flight_bytes, limits.in_flight_bytes)).min(1.0);
        if self.standings.due(share) {
            let owned = self.partitions.iter().enumerate().filter(|(_, p)| p.epoch.is_some());
            self.standings.publish(owned.map(|(slot, p)| {
                let full = p.backlog.front().is_some_and(|r| !p.window.has_room(r.offset));
                (slot, &p.at, &p.window, full)
            }));
        }
    }

    /// When the loop must look again by itself.
    fn alarm(&self) -> Instant {
        let now = Instant::now();
        let mut alarm = now + IDLE;
        if self.may_commit() && self.has_work_to_commit() {
            alarm = alarm.min(self.commit_after);
        }
        if let Some(wake) = self.partitions.iter().filter_map(|p| p.wake).min() {
            alarm = alarm.min(now + Duration::from_millis(u64::try_from(wake - (self.runner.clock)()).unwrap_or(0)));
        }
        self.standings.alarm().map_or(alarm, |at| alarm.min(at))
    }

    // ---- stop

    /// Finishes what is running within the grace time, commits it, leaves the group.
    async fn leave(mut self) {
        let until = Instant::now() + self.runner.limits.grace;
        while let Ok(Some(steps)) = tokio::time::timeout_at(until, self.tasks.join_next()).await {
            self.collect(steps);
        }
        self.tasks.abort_all();
        self.settle().await;
        self.member.leave().await;
        info!(stage = %self.runner.work.name(), "stopped");
    }
}

/// The outcome of the oldest commit under way; never, if there is none.
async fn outcome(committing: &mut VecDeque<Committing>) -> Committed {
    match committing.front_mut() {
        Some(c) => (&mut c.outcome).await,
        None => std::future::pending().await,
    }
}

async fn poll(member: &mut Box<dyn Member>, after: Option<Instant>) -> Result<Event> {
    if let Some(after) = after {
        tokio::time::sleep_until(after).await;
    }
    member.next().await
}
