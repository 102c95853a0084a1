//! What became of letters that were put back: read from `status`, where the replay's own event comes before those of the
//! record's further way, because a task's events are in one partition. Of letters that went to a topic of others only
//! their deaths are seen: they rest again where they rested, with the run's id.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Letter, LetterId, Replay};
use crate::record::{OutcomeKind, StatusEvent, codec, headers, letter};
use crate::topology::{self, Names};
use crate::transport::tail::{From, Tail};
use crate::transport::{Incoming, Result, Transport, TransportError};

/// Most letters whose way is followed.
const FOLLOWED: usize = 200_000;
/// How far clocks of those who write events may differ, in ms.
const CLOCKS: i64 = 600_000;

/// Letters of a run by what became of them at the stage they were put back to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub letters: u64,
    /// Handed on, done, or dropped on purpose. Of others' letters none, but those of a sample that have not died in time.
    pub succeeded: u64,
    /// Dead again, of the same cause.
    pub same_cause: u64,
    /// Dead again, of another cause.
    pub other_cause: u64,
    /// Under way, or its events are gone.
    pub waiting: u64,
}

/// A run of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    pub run: String,
    /// When its first and its last letter were put back, Unix ms.
    pub first: i64,
    pub last: i64,
    pub tally: Tally,
}

/// A letter that is followed.
struct Followed {
    run: Arc<str>,
    at: i64,
    fingerprint: String,
    /// Set once the replay's event was seen.
    url: Option<String>,
}

/// Letters of a run that went to others, by cause, and how many of them have not died again.
#[derive(Default)]
struct Abroad {
    causes: HashMap<String, u64>,
    left: u64,
}

/// Follows letters through `status`. Holds those that are under way.
pub struct Outcomes {
    /// None where there is no such topic.
    status: Option<Tail>,
    /// Where others' letters rest (full names), read from this time on (Unix ms).
    others: BTreeMap<String, (i64, Option<Tail>)>,
    abroad: HashMap<Arc<str>, Abroad>,
    /// By task and stage.
    under_way: HashMap<(String, String), Vec<Followed>>,
    followed: usize,
    tallies: BTreeMap<Arc<str>, Tally>,
}

impl Outcomes {
    /// Of what is put back from now on.
    pub async fn from_now(transport: &dyn Transport, names: &Names) -> Result<Outcomes> {
        Outcomes::new(transport, names, From::End).await
    }

    async fn new(transport: &dyn Transport, names: &Names, from: From) -> Result<Outcomes> {
        let status = match Tail::new(transport, &names.full(topology::STATUS), from).await {
            Err(TransportError::NoTopic(_)) => None,
            tail => Some(tail?),
        };
        let (others, abroad) = (BTreeMap::new(), HashMap::new());
        Ok(Outcomes { status, others, abroad, under_way: HashMap::new(), followed: 0, tallies: BTreeMap::new() })
    }

    /// Follows these; of more than 200,000 it is not known what becomes of them.
    pub fn expect(&mut self, names: &Names, replays: impl Iterator<Item = (LetterId, Replay)>) {
        for (id, r) in replays.filter(|(_, r)| !r.purged) {
            let run = match self.tallies.get_key_value(r.run.as_str()) {
                Some((run, _)) => Arc::clone(run),
                None => r.run.as_str().into(),
            };
            let tally = self.tallies.entry(Arc::clone(&run)).or_default();
            tally.letters += 1;
            tally.waiting += 1;
            if r.stage.is_empty() {
                let since = self.others.entry(id.full_topic(names)).or_insert((r.at, None));
                since.0 = since.0.min(r.at);
                let abroad = self.abroad.entry(run).or_default();
                *abroad.causes.entry(r.fingerprint).or_default() += 1;
                abroad.left += 1;
                continue;
            }
            if self.followed < FOLLOWED {
                self.followed += 1;
                let followed = Followed { run, at: r.at, fingerprint: r.fingerprint, url: None };
                self.under_way.entry((r.task, r.stage)).or_default().push(followed);
            }
        }
    }

    /// Reads on to where `status` ends by now.
    pub async fn read(&mut self, transport: &dyn Transport, names: &Names) -> Result<()> {
        while let Some(tail) = &mut self.status {
            let Some(batch) = tail.poll(transport).await? else { break };
            batch.iter().filter_map(|r| codec::decode(&r.value).ok()).for_each(|e| self.fold(e));
        }
        let mut others = std::mem::take(&mut self.others);
        for (topic, (since, tail)) in &mut others {
            let tail = match tail {
                Some(tail) => tail,
                None => {
                    let from = transport.offsets_at(topic, since.saturating_sub(CLOCKS)).await?;
                    tail.insert(Tail::new(transport, topic, From::Offsets(from.into_iter().collect())).await?)
                }
            };
            while let Some(batch) = tail.poll(transport).await? {
                batch.into_iter().for_each(|r| self.died(names, r));
            }
        }
        self.others = others;
        Ok(())
    }

    /// A letter of others: perhaps one that went back to them.
    fn died(&mut self, names: &Names, record: Incoming) {
        let Some(run) = record.headers.str(headers::REPLAY) else { return };
        let Some((run, abroad)) = self.abroad.iter_mut().find(|(r, _)| ***r == *run) else { return };
        if abroad.left == 0 {
            return;
        }
        let run = Arc::clone(run);
        let cause = Letter::read(None, names, record).fingerprint().unwrap_or_default();
        let same = abroad.causes.get_mut(&cause).filter(|n| **n > 0);
        let tally = self.tallies.entry(run).or_default();
        abroad.left -= 1;
        tally.waiting = tally.waiting.saturating_sub(1);
        match same {
            Some(n) => {
                *n -= 1;
                tally.same_cause += 1;
            }
            None => tally.other_cause += 1,
        }
    }

    /// Those of a run that went to others and have not died by now count as succeeded.
    pub fn settle(&mut self, run: &str) {
        if let (Some(abroad), Some(tally)) = (self.abroad.get_mut(run), self.tallies.get_mut(run)) {
            tally.waiting = tally.waiting.saturating_sub(abroad.left);
            tally.succeeded += std::mem::take(&mut abroad.left);
        }
    }

    fn fold(&mut self, e: StatusEvent) {
        let key = (e.task, e.stage);
        let Some(letters) = self.under_way.get_mut(&key) else { return };
        let same_cause = match e.outcome {
            OutcomeKind::Replayed => {
                if let Some(l) = letters.iter_mut().find(|l| l.at == e.at && l.url.is_none()) {
                    l.url = Some(e.url);
                }
                return;
            }
            OutcomeKind::Retried | OutcomeKind::Parked => return,
            OutcomeKind::Emitted | OutcomeKind::Done | OutcomeKind::Dropped => None,
            OutcomeKind::DeadLettered => {
                let (class, message) = (e.class.unwrap_or_default(), e.message.unwrap_or_default());
                Some(letter::fingerprint(&key.1, &class, &message))
            }
        };
        let Some(i) = letters.iter().position(|l| l.url.as_ref() == Some(&e.url)) else { return };
        let l = letters.swap_remove(i);
        if letters.is_empty() {
            self.under_way.remove(&key);
        }
        let tally = self.tallies.entry(l.run).or_default();
        tally.waiting = tally.waiting.saturating_sub(1);
        match same_cause {
            None => tally.succeeded += 1,
            Some(cause) if cause == l.fingerprint => tally.same_cause += 1,
            Some(_) => tally.other_cause += 1,
        }
    }

    /// How a run stands.
    pub fn tally(&self, run: &str) -> Tally {
        self.tallies.get(run).copied().unwrap_or_default()
    }
}

/// The newest runs, newest first, and what became of their letters. Reads the markers twice and `status` once, from the
/// oldest of these runs on.
pub async fn runs(transport: &dyn Transport, names: &Names, limit: usize) -> Result<Vec<RunReport>> {
    let topic = names.full(topology::REPLAYS);
    let mut times: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut markers = match Tail::new(transport, &topic, From::Start).await {
        Err(TransportError::NoTopic(_)) => return Ok(vec![]),
        tail => tail?,
    };
    while let Some(batch) = markers.poll(transport).await? {
        for (_, r) in batch.iter().filter_map(Replay::read).filter(|(_, r)| !r.purged) {
            let (first, last) = times.entry(r.run).or_insert((r.at, r.at));
            (*first, *last) = ((*first).min(r.at), (*last).max(r.at));
        }
    }
    let mut newest: Vec<(String, (i64, i64))> = times.into_iter().collect();
    newest.sort_by_key(|(_, (first, _))| std::cmp::Reverse(*first));
    newest.truncate(limit);
    let Some(oldest) = newest.iter().map(|(_, (first, _))| *first).min() else { return Ok(vec![]) };
    let since = oldest.saturating_sub(CLOCKS);
    let from = async |topic: &str| -> Result<From> {
        Ok(From::Offsets(transport.offsets_at(topic, since).await?.into_iter().collect()))
    };
    let status = match from(&names.full(topology::STATUS)).await {
        Err(TransportError::NoTopic(_)) => From::End,
        from => from?,
    };
    let mut outcomes = Outcomes::new(transport, names, status).await?;
    let mut markers = Tail::new(transport, &topic, from(&topic).await?).await?;
    while let Some(batch) = markers.poll(transport).await? {
        let meant = batch.iter().filter_map(Replay::read);
        outcomes.expect(names, meant.filter(|(_, r)| newest.iter().any(|(run, _)| *run == r.run)));
    }
    outcomes.read(transport, names).await?;
    let report = |(run, (first, last)): (String, (i64, i64))| {
        let tally = outcomes.tally(&run);
        RunReport { run, first, last, tally }
    };
    Ok(newest.into_iter().map(report).collect())
}
