//! Which letters have been put back: the markers in the topic `replays`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::LetterId;
use crate::record::Headers;
use crate::topology::{self, Names};
use crate::transport::tail::{From, Tail};
use crate::transport::{Incoming, Outgoing, Result, Transport, TransportError};

/// What the key of a marker ends with whose letter was thrown away.
const PURGE: &str = "/purged";

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
    /// It was thrown away, and not put back: the marker has a key of its own, the letter's id and [`PURGE`].
    #[serde(skip)]
    pub purged: bool,
}

impl Replay {
    /// Reads a record of the topic; None when it is no marker.
    pub fn read(record: &Incoming) -> Option<(LetterId, Replay)> {
        let key = std::str::from_utf8(record.key.as_ref()?).ok()?;
        let purged = key.strip_suffix(PURGE);
        let replay: Replay = serde_json::from_slice(&record.value).ok()?;
        Some((purged.unwrap_or(key).parse().ok()?, Replay { purged: purged.is_some(), ..replay }))
    }

    /// The record of the topic that says so of a letter.
    pub fn marker(&self, id: &LetterId, names: &Names) -> Outgoing {
        Outgoing {
            tombstone: false,
            topic: names.full(topology::REPLAYS).into(),
            partition: None,
            key: Some(Bytes::from(format!("{id}{}", if self.purged { PURGE } else { "" }))),
            // A struct of plain fields always has a JSON form.
            value: serde_json::to_vec(self).unwrap_or_default().into(),
            headers: Headers::default(),
        }
    }
}

/// The markers of letters that matter to a scan: 24 bytes each, run names once.
pub struct Replays {
    /// None where the topic is not there (yet).
    tail: Option<Tail>,
    /// By topic and partition: the offsets a scan goes over.
    wanted: HashMap<(String, i32), (i64, i64)>,
    /// By topic and partition, then offset: run, time.
    found: HashMap<(String, i32), BTreeMap<i64, (u32, i64)>>,
    /// What was thrown away, by topic and partition.
    purged: HashMap<(String, i32), BTreeSet<i64>>,
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
        let tail = async {
            let from = match since {
                Some(time) => From::Offsets(transport.offsets_at(&topic, time).await?.into_iter().collect()),
                None => From::Start,
            };
            Tail::new(transport, &topic, from).await
        };
        let tail = match tail.await {
            // Nothing was ever put back here.
            Err(TransportError::NoTopic(_)) => None,
            tail => Some(tail?),
        };
        let mut replays = Replays {
            tail,
            wanted,
            found: HashMap::new(),
            purged: HashMap::new(),
            runs: vec![],
            steps: HashMap::new(),
        };
        replays.refresh(transport).await?;
        Ok(replays)
    }

    /// Reads on to where the topic ends by now.
    pub async fn refresh(&mut self, transport: &dyn Transport) -> Result<()> {
        loop {
            let Some(tail) = &mut self.tail else { return Ok(()) };
            let Some(batch) = tail.poll(transport).await? else { return Ok(()) };
            batch.iter().filter_map(Replay::read).for_each(|(id, r)| self.note(id, &r));
        }
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
        if replay.purged {
            self.purged.entry(place).or_default().insert(id.offset);
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

    /// Whether a letter was thrown away.
    pub fn is_purged(&self, id: &LetterId) -> bool {
        let place = || self.purged.get(&(id.topic.clone(), id.partition));
        !self.purged.is_empty() && place().is_some_and(|p| p.contains(&id.offset))
    }

    /// Next offset to read of a partition; 0 when there is none.
    pub fn offset(&self, partition: i32) -> i64 {
        self.tail.as_ref().and_then(|t| t.offsets().get(&partition).copied()).unwrap_or(0)
    }
}
