//! What a run did: outcomes by class, time by stage.

use std::time::Duration;

use comfy_table::CellAlignment;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::format;
use crate::jobs::Progress;
use crate::record::{DropReason, OutcomeKind};

/// The end of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Job id.
    pub job: String,
    /// URLs of the job.
    pub submitted: u64,
    /// Length of this run, s.
    pub seconds: f64,
    /// What [`summary`] says of the job.
    #[serde(flatten, serialize_with = "flat")]
    pub progress: Progress,
}

impl Report {
    /// URLs left alone because what was fetched of them is still fresh.
    fn fresh(&self) -> u64 {
        let mine =
            self.progress.by_outcome.iter().filter(|(s, _)| s.class.as_deref() == Some(DropReason::Fresh.as_str()));
        mine.map(|(_, n)| *n).sum()
    }

    /// For people, on stdout.
    pub fn print(&self) {
        let mut outcomes = format::table(&["outcome", "class", "stage", "records"]);
        // What was handed on appears where its way ended.
        for (seen, count) in self.progress.by_outcome.iter().filter(|(s, _)| s.outcome != OutcomeKind::Emitted) {
            let class = seen.class.clone().unwrap_or_default();
            let name = outcome_name(seen.outcome, &seen.stage);
            outcomes.add_row(vec![name.to_owned(), class, seen.stage.clone(), count.to_string()]);
        }
        align_right(&mut outcomes, 3);
        format::print_table(&outcomes);
        println!();
        let mut times = format::table(&["stage", "steps", "mean", "longest", "mean wait", "longest wait"]);
        for stage in ["fetch", "extract", "enrich", "index"] {
            let Some(t) = self.progress.by_stage.get(stage) else { continue };
            let n = t.count.max(1) as f64;
            times.add_row(vec![
                stage.to_owned(),
                t.count.to_string(),
                format::millis(t.took.sum / n),
                format::millis(t.took.max),
                format::millis(t.waited.sum / n),
                format::millis(t.waited.max),
            ]);
        }
        (1..6).for_each(|i| align_right(&mut times, i));
        format::print_table(&times);
        println!();
        println!(
            "{} of {} URLs finished: {} indexed, {} dropped, {} in the dead letters; {} ({:.1} URLs/s)",
            self.progress.finished,
            self.submitted,
            self.progress.indexed(),
            self.progress.count(OutcomeKind::Dropped),
            self.progress.dead_letters(),
            format::duration(Duration::from_secs_f64(self.seconds)),
            self.progress.finished as f64 / self.seconds.max(0.001),
        );
        if self.fresh() > 0 {
            println!(
                "{} of them were not fetched: they were fetched before and are still fresh; --force fetches them anyway",
                self.fresh()
            );
        }
    }
}

/// The outcome as reports name it: done by the index stage is indexed.
pub fn outcome_name(outcome: OutcomeKind, stage: &str) -> &'static str {
    if outcome == OutcomeKind::Done && stage == "index" { "indexed" } else { outcome.as_str() }
}

fn flat<S: Serializer>(p: &Progress, s: S) -> Result<S::Ok, S::Error> {
    summary(p).serialize(s)
}

/// A job's progress as JSON: URLs finished, how they ended, events by stage, outcome and class, times by stage.
pub fn summary(p: &Progress) -> Value {
    let outcomes: Vec<_> = p
        .by_outcome
        .iter()
        .map(|(seen, n)| {
            let class = seen.class.as_deref().unwrap_or("");
            json!({"stage": seen.stage, "outcome": seen.outcome, "class": class, "count": n})
        })
        .collect();
    let mean = |sum: f64, n: u64| sum / n.max(1) as f64;
    let times: Vec<_> = p
        .by_stage
        .iter()
        .map(|(stage, t)| {
            json!({
                "stage": stage, "steps": t.count,
                "mean_ms": mean(t.took.sum, t.count), "longest_ms": t.took.max,
                "mean_wait_ms": mean(t.waited.sum, t.count), "longest_wait_ms": t.waited.max,
            })
        })
        .collect();
    json!({
        "finished": p.finished, "indexed": p.indexed(), "dropped": p.count(OutcomeKind::Dropped),
        "dead_letters": p.dead_letters(), "outcomes": outcomes, "times": times,
    })
}

fn align_right(t: &mut comfy_table::Table, column: usize) {
    if let Some(c) = t.column_mut(column) {
        c.set_cell_alignment(CellAlignment::Right);
    }
}
