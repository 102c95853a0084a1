//! One replay at a time. The lock is a consumer group that reads `replays`: whoever holds all of its partitions may replay.
//! Its epochs are the fence: what a replay writes commits under them, or not at all. Which letters were put back is not
//! in the group's progress but in the markers; the progress names the last transaction, so that a successor waits until it
//! can see that one's markers: a broker answers a commit a moment before readers see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use super::replays::Replays;
use crate::record::now_ms;
use crate::topology::{self, Names};
use crate::transport::{
    Batch, Committed, Event, Member, Outgoing, Progress, Result, TopicPartition, Transport, TransportError,
};

/// The group.
const GROUP: &str = "dlq.replay";
/// Longest wait for the lock: a member that was killed keeps its partitions until its session ends, by default 45 s.
const WAIT: Duration = Duration::from_secs(90);
/// Who gets some partitions and not all within so long lets them go, and comes again: another holds the lock, and cannot go
/// on without them. Of two that come at once, the one without the first partition gives way early.
const TURN: Duration = Duration::from_secs(8);
const SHORT_TURN: Duration = Duration::from_secs(2);
/// Wait before it comes again; up to twice as long.
const APART: Duration = Duration::from_secs(2);
/// Longest wait until a transaction that is committed can be seen.
const VISIBLE: Duration = Duration::from_secs(60);
/// How long the group is listened to at a time.
const LISTEN: Duration = Duration::from_millis(200);
/// Wait before looking again.
const AGAIN: Duration = Duration::from_millis(20);

/// A transaction of a run, as progress names it: `run step markers time`.
type Step = (String, u64, u64);
/// One that is older than this, in ms, is seen by everybody, or hangs; a scan need not have read its markers.
const OLD: i64 = 300_000;

/// The lock, held or waited for.
pub struct Lock {
    member: Box<dyn Member>,
    topic: String,
    held: BTreeMap<TopicPartition, u32>,
    epochs: BTreeMap<TopicPartition, i64>,
    /// Transactions that the group had committed when partitions came.
    before: Vec<Step>,
    /// Partitions came or went since the markers were read.
    changed: bool,
}

impl Lock {
    /// Waits for the lock, at most a minute and a half.
    pub async fn take(transport: &dyn Transport, names: &Names) -> Result<Lock> {
        let began = Instant::now();
        loop {
            let mut lock = Lock::join(transport, names).await?;
            let got = lock.get(began + WAIT).await;
            if let Ok(true) = got {
                return Ok(lock);
            }
            let topic = lock.topic.clone();
            lock.leave().await;
            got?;
            if began.elapsed() >= WAIT {
                return Err(TransportError::Unavailable(format!(
                    "another replay is at work (it holds partitions of {topic}), or one that was killed still counts as a \
                     member of its group; nothing was replayed, try again in a minute"
                )));
            }
            tokio::time::sleep(APART.mul_f64(1.0 + rand::random::<f64>())).await;
        }
    }

    async fn join(transport: &dyn Transport, names: &Names) -> Result<Lock> {
        let topic = names.full(topology::REPLAYS);
        let member = transport.join(&names.full(GROUP), std::slice::from_ref(&topic)).await?;
        let (held, epochs, before) = (BTreeMap::new(), BTreeMap::new(), vec![]);
        Ok(Lock { member, topic, held, epochs, before, changed: true })
    }

    /// Waits for all partitions. False when the turn is over, or the time.
    async fn get(&mut self, until: Instant) -> Result<bool> {
        let mut some: Option<Instant> = None;
        while !self.is_whole() {
            let first = self.held.keys().any(|at| at.partition == 0);
            let turn = if first { TURN } else { SHORT_TURN };
            if Instant::now() >= until || some.is_some_and(|s| s.elapsed() >= turn) {
                return Ok(false);
            }
            if let Ok(event) = tokio::time::timeout(LISTEN, self.member.next()).await {
                self.handle(event?).await;
            }
            if !self.held.is_empty() {
                some.get_or_insert_with(Instant::now);
            }
        }
        Ok(true)
    }

    /// Waits until all partitions are held again, for as long as it takes: they come back when another that would replay has
    /// had its turn.
    async fn regain(&mut self) -> Result<()> {
        while !self.is_whole() {
            let event = self.member.next().await?;
            self.handle(event).await;
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.held.values().next().is_some_and(|n| usize::try_from(*n).is_ok_and(|n| n == self.held.len()))
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Assigned(list) => {
                self.changed = true;
                for a in list {
                    // Markers are read without the group.
                    self.member.pause(&a.at);
                    self.before.extend(read_step(&a.map));
                    self.epochs.insert(a.at.clone(), a.epoch);
                    self.held.insert(a.at, a.partitions);
                }
            }
            Event::Revoked { partitions, .. } => {
                self.changed = true;
                self.held.retain(|at, _| !partitions.contains(at));
                self.member.release(&partitions).await;
            }
            Event::Records(_) | Event::Passed { .. } => {}
        }
    }

    /// Hears what there is of the group. True when the lock is held as it was: nothing that another may have written is
    /// missing in the markers.
    pub async fn settle(&mut self) -> Result<bool> {
        while let Some(event) = self.member.next().now_or_never() {
            self.handle(event?).await;
        }
        Ok(!self.changed)
    }

    /// Lets time pass without being deaf to the group.
    pub async fn pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let Ok(event) = tokio::time::timeout_at(until, self.member.next()).await {
            self.handle(event?).await;
        }
        Ok(())
    }

    /// Holds the lock, and reads the markers up to the last transaction of whoever held it before.
    pub async fn renew(&mut self, transport: &dyn Transport, replays: &mut Replays) -> Result<()> {
        loop {
            self.regain().await?;
            self.changed = false;
            replays.refresh(transport).await?;
            for (run, step, markers) in std::mem::take(&mut self.before) {
                wait_for(transport, replays, &run, step, markers).await?;
            }
            if self.settle().await? {
                return Ok(());
            }
        }
    }

    /// Commits what a step of a run writes, with so many markers among it, under the lock's epochs; once it is done, waits
    /// until its markers are seen.
    pub async fn commit(
        &mut self,
        transport: &dyn Transport,
        replays: &mut Replays,
        (run, step, markers): (&str, u64, u64),
        outputs: Vec<Outgoing>,
    ) -> Result<Committed> {
        let map = if markers == 0 { String::new() } else { format!("{run} {step} {markers} {}", now_ms()) };
        let one = |at: &TopicPartition| Progress {
            at: at.clone(),
            epoch: self.epochs.get(at).copied().unwrap_or(-1),
            base: replays.offset(at.partition),
            map: map.clone(),
        };
        let batch = Batch { progress: self.held.keys().map(one).collect(), outputs };
        let committed = self.member.commit(Arc::new(batch)).await;
        match &committed {
            Committed::Done => wait_for(transport, replays, run, step, markers).await?,
            Committed::Fenced(gone) => {
                self.changed = true;
                self.held.retain(|at, _| !gone.contains(at));
            }
            Committed::Unknown(_) => {
                // They are assigned anew, with what is really committed.
                self.changed = true;
                self.held.clear();
            }
            Committed::Aborted(_) => {}
        }
        Ok(committed)
    }

    /// Gives the lock back.
    pub async fn leave(self) {
        self.member.leave().await;
    }
}

/// What progress says, if that is of lately.
fn read_step(map: &str) -> Option<Step> {
    let mut words = map.split(' ');
    let (run, step, markers, at) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let lately = now_ms().saturating_sub(at.parse().ok()?) < OLD;
    lately.then_some(())?;
    Some((run.to_owned(), step.parse().ok()?, markers.parse().ok()?))
}

async fn wait_for(transport: &dyn Transport, replays: &mut Replays, run: &str, step: u64, markers: u64) -> Result<()> {
    let until = Instant::now() + VISIBLE;
    while markers > 0 && !replays.has(run, step, markers) {
        replays.refresh(transport).await?;
        if replays.has(run, step, markers) {
            break;
        }
        if Instant::now() >= until {
            return Err(TransportError::Unavailable(format!(
                "step {step} of replay {run} is committed, but its markers cannot be read; a transaction may hang, see \
                 docs/exactly-once.md"
            )));
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}
