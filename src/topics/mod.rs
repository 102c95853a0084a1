//! Topics as they should be against those that the log has: look, plan, apply.
//!
//! ```text
//! look: what is there ─► plan: pure, says what to do and what it refuses ─► apply ─► look again
//! ```
//!
//! Topics that a stage reads have equal partition counts, so that one member owns a host in all of them: they grow
//! together, and its dead letters have at least as many, because a record that fails, and a replay, keep their partition.

mod plan;

pub use plan::{Action, Change, Plan, Refusal, Wish, plan};

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::topology::{self, Cleanup, Names};
use crate::transport::tail::Range;
use crate::transport::{Result, TopicPartition, TopicState, Transport, TransportError};

/// Longest wait until the log shows what was applied; brokers learn of it one after the other.
const SEEN: Duration = Duration::from_secs(15);

/// What the log has of the table's topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// By full name.
    pub topics: BTreeMap<String, TopicState>,
    /// Topics that should be compacted, are not, and hold records without a key.
    pub keyless: BTreeSet<String>,
}

/// Asks the log. A topic that is to be compacted from now on is read, as far as its first record without a key.
pub async fn look(transport: &dyn Transport, names: &Names) -> Result<Found> {
    let table = topology::topics();
    let all: Vec<String> = table.iter().map(|t| names.full(&t.name)).collect();
    let states = transport.describe_topics(&all).await?;
    let mut found = Found { topics: states.into_iter().map(|s| (s.name.clone(), s)).collect(), ..Found::default() };
    for topic in table.iter().filter(|t| t.cleanup == Cleanup::Compact) {
        let name = names.full(&topic.name);
        if found.topics.get(&name).is_some_and(|s| !plan::compacted(s)) && has_keyless(transport, &name).await? {
            found.keyless.insert(name);
        }
    }
    Ok(found)
}

async fn has_keyless(transport: &dyn Transport, topic: &str) -> Result<bool> {
    for b in transport.bounds(topic).await? {
        let mut range = Range::new(TopicPartition::new(topic, b.partition), b.start, b.end);
        while let Some(batch) = range.next(transport).await? {
            if batch.iter().any(|r| r.key.is_none()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// How an application ended.
#[derive(Debug, Default)]
pub struct Applied {
    /// What is as it should be now.
    pub done: Vec<Action>,
    /// What is not; nothing, unless there was an error.
    pub left: Vec<Action>,
    /// Why it ended early, or what cannot be seen.
    pub error: Option<TransportError>,
}

/// Carries out the actions of a plan in order, as far as it goes, then looks what came of it. `begins` is told before
/// each step: topics are created together, those that a stage reads grow together. Applying again does what is left.
pub async fn apply(
    transport: &dyn Transport,
    names: &Names,
    wish: &Wish,
    actions: Vec<Action>,
    mut begins: impl FnMut(&[Action]),
) -> Applied {
    let mut done = 0;
    let mut failed = None;
    for step in actions.chunk_by(Action::goes_with) {
        begins(step);
        if let Err(e) = one(transport, step).await {
            failed = Some(e);
            break;
        }
        done += step.len();
    }
    // The log itself says what is done, also of a step that failed half-way.
    let until = Instant::now() + SEEN;
    loop {
        match look(transport, names).await {
            Ok(found) => {
                let open = plan(names, wish, &found).actions;
                let still = |a: &Action| open.iter().any(|o| o.topic() == a.topic() && o.is_like(a));
                let (left, finished): (Vec<_>, Vec<_>) = actions.iter().cloned().partition(still);
                if !left.is_empty() && failed.is_none() {
                    if Instant::now() < until {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        continue;
                    }
                    let what = "the log confirmed the changes and does not show all of them; look again with \
                                `tidemill topics plan`";
                    failed = Some(TransportError::Unavailable(what.into()));
                }
                return Applied { done: finished, left, error: failed };
            }
            Err(e) => {
                let left = actions[done..].to_vec();
                let done = actions[..done].to_vec();
                return Applied { done, left, error: Some(failed.unwrap_or(e)) };
            }
        }
    }
}

/// One step.
async fn one(transport: &dyn Transport, step: &[Action]) -> Result<()> {
    let Some(first) = step.first() else { return Ok(()) };
    match first {
        Action::Create { .. } => {
            let topics: Vec<_> = step
                .iter()
                .filter_map(|a| if let Action::Create { topic } = a { Some(topic.clone()) } else { None })
                .collect();
            transport.create_topics(&topics).await
        }
        Action::Grow { to, .. } => {
            let topics: Vec<String> = step.iter().map(|a| a.topic().to_owned()).collect();
            transport.grow_topics(&topics, *to).await
        }
        Action::Configure { topic, changes } => {
            let settings = changes.iter().map(|c| (c.setting.to_owned(), c.to.clone())).collect();
            transport.configure_topic(topic, &settings).await
        }
    }
}
