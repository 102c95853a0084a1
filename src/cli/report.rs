//! What a run did: outcomes by class, time by stage.

use std::time::Duration;

use comfy_table::CellAlignment;
use serde::Serialize;

use super::format;
use crate::jobs::Progress;
use crate::record::OutcomeKind;

/// The end of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Job id.
    pub job: String,
    /// URLs of the job.
    pub submitted: u64,
    /// URLs whose way has ended.
    pub finished: i64,
    /// Documents that reached the index.
    pub indexed: u64,
    /// Records that rest in the dead letters.
    pub dead_letters: u64,
    /// Length of this run, s.
    pub seconds: f64,
    /// Events by stage, outcome and class; times by stage.
    pub progress: Progress,
}

impl Report {
    /// From a job's progress.
    pub fn new(job: String, submitted: u64, progress: Progress, ran: Duration) -> Report {
        Report {
            job,
            submitted,
            finished: progress.finished,
            indexed: progress.indexed(),
            dead_letters: progress
                .count(OutcomeKind::DeadLettered)
                .saturating_sub(progress.count(OutcomeKind::Replayed)),
            seconds: ran.as_secs_f64(),
            progress,
        }
    }

    /// For people, on stdout.
    pub fn print(&self) {
        let mut outcomes = format::table(&["outcome", "class", "stage", "records"]);
        for ((stage, outcome, class), count) in &self.progress.outcomes {
            // What was handed on appears where its way ended.
            if *outcome != OutcomeKind::Emitted {
                let name = if *outcome == OutcomeKind::Done && stage == "index" { "indexed" } else { outcome.as_str() };
                outcomes.add_row(vec![name.to_owned(), class.clone(), stage.clone(), count.to_string()]);
            }
        }
        align_right(&mut outcomes, 3);
        format::print_table(&outcomes);
        println!();
        let mut times = format::table(&["stage", "steps", "mean", "longest", "mean wait", "longest wait"]);
        for stage in ["fetch", "extract", "enrich", "index"] {
            let Some(t) = self.progress.stages.get(stage) else { continue };
            let n = t.count.max(1) as f64;
            times.add_row(vec![
                stage.to_owned(),
                t.count.to_string(),
                format::millis(t.took_ms / n),
                format::millis(t.took_max_ms),
                format::millis(t.waited_ms / n),
                format::millis(t.waited_max_ms),
            ]);
        }
        (1..6).for_each(|i| align_right(&mut times, i));
        format::print_table(&times);
        println!();
        println!(
            "{} of {} URLs finished: {} indexed, {} dropped, {} in the dead letters; {} ({:.1} URLs/s)",
            self.finished,
            self.submitted,
            self.indexed,
            self.progress.count(OutcomeKind::Dropped),
            self.dead_letters,
            format::duration(Duration::from_secs_f64(self.seconds)),
            self.finished as f64 / self.seconds.max(0.001),
        );
    }
}

fn align_right(t: &mut comfy_table::Table, column: usize) {
    if let Some(c) = t.column_mut(column) {
        c.set_cell_alignment(CellAlignment::Right);
    }
}
