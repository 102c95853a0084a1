//! Folds status events into a job's progress. Sums only, so the order of events does not matter.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::record::{OutcomeKind, StatusEvent};

/// How far a set of records is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Input records whose way has ended, with all they led to: one record handed on continues the way, a second one
    /// adds to it.
    pub finished: i64,
    /// Events by stage, outcome and class (or reason; empty if none).
    #[serde(serialize_with = "as_list")]
    pub outcomes: BTreeMap<(String, OutcomeKind, String), u64>,
    /// Times by stage.
    pub stages: BTreeMap<String, StageTime>,
    /// Time of the first and the last event, Unix ms.
    pub span: Option<(i64, i64)>,
}

/// Time spent in one stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StageTime {
    /// Steps.
    pub count: u64,
    /// In the handler, ms: sum and longest.
    pub took_ms: f64,
    pub took_max_ms: f64,
    /// Waiting for the handler, ms: sum and longest.
    pub waited_ms: f64,
    pub waited_max_ms: f64,
}

fn as_list<S: serde::Serializer>(map: &BTreeMap<(String, OutcomeKind, String), u64>, s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(map.iter().map(
        |((stage, outcome, class), count)| serde_json::json!({"stage": stage, "outcome": outcome, "class": class, "count": count}),
    ))
}

impl Progress {
    /// Events of that outcome, in all stages and classes.
    pub fn count(&self, outcome: OutcomeKind) -> u64 {
        self.outcomes.iter().filter(|((_, o, _), _)| *o == outcome).map(|(_, n)| n).sum()
    }

    /// Documents that reached the index.
    pub fn indexed(&self) -> u64 {
        self.outcomes.iter().filter(|((s, o, _), _)| s == "index" && *o == OutcomeKind::Done).map(|(_, n)| n).sum()
    }

    /// Takes an event into account.
    pub fn add(&mut self, e: &StatusEvent) {
        self.finished += match e.outcome {
            // One of the records handed on continues this record's way; each further one must end too.
            OutcomeKind::Emitted => 1 - i64::from(e.emitted),
            o if o.is_final() => 1,
            // Its dead letter was counted as an end, and was none.
            OutcomeKind::Replayed => -1,
            _ => 0,
        };
        let class = e.class.clone().unwrap_or_default();
        *self.outcomes.entry((e.stage.clone(), e.outcome, class)).or_default() += 1;
        let t = self.stages.entry(e.stage.clone()).or_default();
        t.count += 1;
        t.took_ms += e.took_ms;
        t.took_max_ms = t.took_max_ms.max(e.took_ms);
        t.waited_ms += e.waited_ms;
        t.waited_max_ms = t.waited_max_ms.max(e.waited_ms);
        let (first, last) = self.span.unwrap_or((e.at, e.at));
        self.span = Some((first.min(e.at), last.max(e.at)));
    }
}

/// Progress by job.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    /// Only this job, or all.
    only: Option<String>,
    jobs: BTreeMap<Option<String>, Progress>,
}

impl Tracker {
    /// Follows all jobs; records without one count as job None.
    pub fn all() -> Tracker {
        Tracker::default()
    }

    /// Follows one job.
    pub fn of(job: &str) -> Tracker {
        Tracker { only: Some(job.to_owned()), jobs: BTreeMap::new() }
    }

    /// Takes an event into account; false when it belongs to another job.
    pub fn add(&mut self, e: &StatusEvent) -> bool {
        if self.only.is_some() && self.only != e.job {
            return false;
        }
        self.jobs.entry(e.job.clone()).or_default().add(e);
        true
    }

    /// Progress of a job.
    pub fn progress(&self, job: Option<&str>) -> Progress {
        self.jobs.get(&job.map(str::to_owned)).cloned().unwrap_or_default()
    }

    /// Jobs with events; None for records that came without one.
    pub fn jobs(&self) -> impl Iterator<Item = (&Option<String>, &Progress)> {
        self.jobs.iter()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn event(task: &str, stage: &str, outcome: OutcomeKind, emitted: i32) -> StatusEvent {
        StatusEvent {
            task: task.into(),
            job: Some("j".into()),
            url: format!("http://x/{task}"),
            stage: stage.into(),
            outcome,
            class: None,
            message: None,
            attempt: 1,
            at: 5,
            took_ms: 2.0,
            waited_ms: 1.0,
            emitted,
            until: None,
            trace: String::new(),
        }
    }

    #[test]
    fn a_record_is_finished_when_all_it_led_to_is() {
        use OutcomeKind as O;
        let steps = [
            event("1", "fetch", O::Retried, 0),
            event("1", "fetch", O::Emitted, 1),
            event("1", "extract", O::Emitted, 3),
            event("1", "index", O::Done, 0),
            event("1", "index", O::DeadLettered, 0),
            event("1", "index", O::Done, 0),
        ];
        let mut tracker = Tracker::of("j");
        let mut seen = vec![];
        for e in &steps {
            assert!(tracker.add(e));
            seen.push(tracker.progress(Some("j")).finished);
        }
        assert_eq!(seen, [0, 0, -2, -1, 0, 1]);
        assert!(!tracker.add(&StatusEvent { job: None, ..event("2", "fetch", O::Done, 0) }));
        assert_eq!(tracker.progress(Some("j")).indexed(), 2);
    }

    #[test]
    fn an_emission_of_nothing_ends_the_way() {
        let mut p = Progress::default();
        p.add(&event("1", "extract", OutcomeKind::Emitted, 0));
        assert_eq!(p.finished, 1);
    }
}
