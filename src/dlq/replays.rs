//! Which letters have been put back: the markers in the topic `replays`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LetterId;
use crate::topology::{self, Names};
use crate::transport::tail::{From, Tail};
use crate::transport::{Incoming, Result, Transport};

/// When a letter was put back: the marker in the topic `replays`, JSON, key: the letter's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The replay run.
    pub run: String,
    /// Unix ms.
    pub at: i64,
    /// Which of the run's transactions wrote it, counted from 1.
    #[serde(default)]
    pub step: u64,
    /// Stage, task and cause of the letter: by these its further way is told apart from others'.
    #[serde(default)]
    pub stage: String,
    #[serde(default)]
    pub task: String,
    #[serde(default)]
    pub fingerprint: String,
}

impl Replay {
    /// Reads a record of the topic; None when it is no marker.
    pub fn read(record: &Incoming) -> Option<(LetterId, Replay)> {
        let id = std::str::from_utf8(record.key.as_ref()?).ok()?.parse().ok()?;
        Some((id, serde_json::from_slice(&record.value).ok()?))
    }
}

/// The markers of letters that matter to a scan: 24 bytes each, run names once.
pub struct Replays {
    tail: Tail,
    /// By topic and partition: the offsets a scan goes over.
    wanted: HashMap<(String, i32), (i64, i64)>,
    /// By topic and partition, then offset: run, time.
    found: HashMap<(String, i32), BTreeMap<i64, (u32, i64)>>,
    runs: Vec<Arc<str>>,
    /// The newest transaction of each run, and how many of its markers were seen.
    steps: HashMap<String, (u64, u64)>,
}

impl Replays {
    /// Reads the markers of letters in these ranges (topic without prefix, partition, offsets `from..end`). A marker is
    /// never older than its letter, so with letters since a time (Unix ms) markers before that are left aside.
    pub async fn load(
        transport: &dyn Transport,
        names: &Names,
        wanted: HashMap<(String, i32), (i64, i64)>,
        since: Option<i64>,
    ) -> Result<Replays> {
        let topic = names.full(topology::REPLAYS);
        let from = match since {
            Some(time) => From::Offsets(transport.offsets_at(&topic, time).await?.into_iter().collect()),
            None => From::Start,
        };
        let tail = Tail::new(transport, &topic, from).await?;
        let mut replays = Replays { tail, wanted, found: HashMap::new(), runs: vec![], steps: HashMap::new() };
        replays.refresh(transport).await?;
        Ok(replays)
    }

    /// Reads on to where the topic ends by now.
    pub async fn refresh(&mut self, transport: &dyn Transport) -> Result<()> {
        while let Some(batch) = self.tail.poll(transport).await? {
            for (id, replay) in batch.iter().filter_map(Replay::read) {
                self.note(id, &replay);
            }
        }
        Ok(())
    }

    fn note(&mut self, id: LetterId, replay: &Replay) {
        let step = self.steps.entry(replay.run.clone()).or_default();
        if replay.step > step.0 {
            *step = (replay.step, 0);
        }
        step.1 += u64::from(replay.step == step.0);
        let place = (id.topic, id.partition);
        if !self.wanted.get(&place).is_some_and(|(from, end)| (*from..*end).contains(&id.offset)) {
            return;
        }
        let run = match self.runs.iter().rposition(|r| **r == *replay.run) {
            Some(i) => i,
            None => {
                self.runs.push(replay.run.as_str().into());
                self.runs.len() - 1
            }
        };
        let run = u32::try_from(run).unwrap_or(u32::MAX);
        self.found.entry(place).or_default().insert(id.offset, (run, replay.at));
    }

    /// Run and time (Unix ms) of a letter's replay; None when it was not put back.
    pub fn get(&self, id: &LetterId) -> Option<(Arc<str>, i64)> {
        if self.found.is_empty() {
            return None;
        }
        let (run, at) = self.found.get(&(id.topic.clone(), id.partition))?.get(&id.offset)?;
        Some((self.runs.get(*run as usize).cloned().unwrap_or_default(), *at))
    }

    /// Whether all markers of a run's transaction were seen, so many, or those of a later one.
    pub fn has(&self, run: &str, step: u64, markers: u64) -> bool {
        self.steps.get(run).is_some_and(|(s, n)| *s > step || *s == step && *n >= markers)
    }

    /// Next offset to read, by partition.
    pub fn offsets(&self) -> &BTreeMap<i32, i64> {
        self.tail.offsets()
    }
}
