//! Status events, folded into the progress of jobs.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use crate::record::codec;
use crate::record::{OutcomeKind, StatusEvent};
use crate::topology::StageName;
use crate::transport::Incoming;

use super::Job;

/// What a stage said: stage, outcome, failure class or drop reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub stage: String,
    pub outcome: OutcomeKind,
    pub class: Option<String>,
}

/// Times in ms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Times {
    pub sum: f64,
    pub max: f64,
}

/// A stage's times over all its events.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageTimes {
    /// Events.
    pub count: u64,
    /// In the handler.
    pub took: Times,
    /// From a record's writing, or its due time, to its handling.
    pub waited: Times,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// URLs on the topic so far; 0 until [`Tracker::submitted`] is told.
    pub submitted: u64,
    /// URLs of which no record is in work any more. A replayed dead letter puts its URL back to work.
    pub finished: u64,
    /// Events by what they say.
    pub by_outcome: BTreeMap<Seen, u64>,
    /// Times by stage.
    pub by_stage: BTreeMap<String, StageTimes>,
    /// Unix ms of the first and the last event; None before there is one.
    pub span: Option<(i64, i64)>,
    /// Records in work, of each URL that has begun and not finished.
    live: HashMap<u64, i64>,
}

impl Times {
    fn add(&mut self, ms: f64) {
        self.sum += ms;
        self.max = self.max.max(ms);
    }
}

impl Progress {
    /// Events with this outcome, over all stages and classes.
    pub fn count(&self, outcome: OutcomeKind) -> u64 {
        self.by_outcome.iter().filter(|(seen, _)| seen.outcome == outcome).map(|(_, n)| n).sum()
    }

    /// Documents that reached the index.
    pub fn indexed(&self) -> u64 {
        let index = StageName::Index.as_str();
        let here = |s: &Seen| s.stage == index && s.outcome == OutcomeKind::Done;
        self.by_outcome.iter().filter(|(s, _)| here(s)).map(|(_, n)| n).sum()
    }

    /// Dead letters that were not replayed.
    pub fn dead_letters(&self) -> u64 {
        self.count(OutcomeKind::DeadLettered).saturating_sub(self.count(OutcomeKind::Replayed))
    }

    /// URLs that have begun and not finished.
    pub fn in_work(&self) -> u64 {
        self.live.len() as u64
    }

    fn fold(&mut self, task: u64, e: &StatusEvent) {
        let seen = Seen { stage: e.stage.clone(), outcome: e.outcome, class: e.class.clone() };
        *self.by_outcome.entry(seen).or_default() += 1;
        let times = self.by_stage.entry(e.stage.clone()).or_default();
        times.count += 1;
        times.took.add(e.took_ms);
        times.waited.add(e.waited_ms);
        self.span = Some(self.span.map_or((e.at, e.at), |(first, last)| (first.min(e.at), last.max(e.at))));

        let change = match e.outcome {
            OutcomeKind::Emitted => i64::from(e.emitted) - 1,
            kind if kind.is_final() => -1,
            _ => 0,
        };
        if e.outcome == OutcomeKind::Replayed {
            // A letter of it is in work again.
            if !self.live.contains_key(&task) {
                self.finished = self.finished.saturating_sub(1);
            }
            *self.live.entry(task).or_insert(0) += 1;
            return;
        }
        let live = self.live.entry(task).or_insert(1);
        *live += change;
        if *live <= 0 {
            self.live.remove(&task);
            self.finished += 1;
        }
    }
}

/// Folds status events. Events of one task must come in order, as those of one partition do. Memory grows with the URLs
/// in work, not with those that are done.
#[derive(Debug, Default)]
pub struct Tracker {
    only: Option<String>,
    jobs: BTreeMap<String, Progress>,
    tasks: RandomState,
    unreadable: u64,
}

impl Tracker {
    /// Of every job.
    pub fn all() -> Tracker {
        Tracker::default()
    }

    /// Of one job.
    pub fn of(job: &str) -> Tracker {
        let jobs = BTreeMap::from([(job.to_owned(), Progress::default())]);
        Tracker { only: Some(job.to_owned()), jobs, ..Tracker::default() }
    }

    /// Takes note of records of the status topic. What is no status event is counted and passed over.
    pub fn read(&mut self, records: &[Incoming]) {
        for r in records {
            match codec::decode(&r.value) {
                Ok(event) => self.fold(&event),
                Err(_) => self.unreadable += 1,
            }
        }
    }

    /// Takes note of one event.
    pub fn fold(&mut self, e: &StatusEvent) {
        let Some(job) = &e.job else { return };
        if self.only.as_ref().is_some_and(|only| only != job) {
            return;
        }
        // 64 bits stand for a task's name: a collision would only make two of a job's URLs finish as one.
        let task = self.tasks.hash_one(&e.task);
        if !self.jobs.contains_key(job) {
            self.jobs.insert(job.clone(), Progress::default());
        }
        if let Some(progress) = self.jobs.get_mut(job) {
            progress.fold(task, e);
        }
    }

    /// Takes note of how many URLs a job has.
    pub fn submitted(&mut self, job: &Job) {
        if self.only.as_ref().is_none_or(|only| *only == job.id) {
            self.jobs.entry(job.id.clone()).or_default().submitted = job.submitted.unwrap_or(job.appended);
        }
    }

    /// A job's progress; None before its first event.
    pub fn get(&self, job: &str) -> Option<&Progress> {
        self.jobs.get(job)
    }

    /// The same, taken out.
    pub fn take(&mut self, job: &str) -> Option<Progress> {
        self.jobs.remove(job)
    }

    /// Every job seen, by id.
    pub fn jobs(&self) -> impl Iterator<Item = (&str, &Progress)> {
        self.jobs.iter().map(|(id, p)| (id.as_str(), p))
    }

    /// Records that were no status events.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutcomeKind::{DeadLettered, Done, Dropped, Emitted, Parked, Replayed, Retried};

    fn event(task: &str, stage: &str, outcome: OutcomeKind, emitted: i32) -> StatusEvent {
        StatusEvent {
            task: task.into(),
            job: Some("j".into()),
            url: "http://x/".into(),
            stage: stage.into(),
            outcome,
            class: None,
            message: None,
            attempt: 1,
            at: 1_000,
            took_ms: 2.0,
            waited_ms: 3.0,
            emitted,
            until: None,
            trace: String::new(),
        }
    }

    fn fold(events: &[StatusEvent]) -> Progress {
        let mut t = Tracker::all();
        events.iter().for_each(|e| t.fold(e));
        t.take("j").unwrap()
    }

    #[test]
    fn a_url_is_finished_when_none_of_its_records_is_in_work() {
        let way = [
            event("a", "fetch", Retried, 0),
            event("a", "fetch", Emitted, 2),
            event("a", "extract", Dropped, 0),
            event("a", "extract", Parked, 0),
            event("a", "extract", Emitted, 1),
            event("a", "index", Done, 0),
        ];
        for cut in 1..way.len() {
            let p = fold(&way[..cut]);
            assert_eq!((p.finished, p.in_work()), (0, 1), "after {cut}");
        }
        let p = fold(&way);
        assert_eq!((p.finished, p.in_work(), p.count(Emitted)), (1, 0, 2));
        assert_eq!(
            p.by_stage["extract"],
            StageTimes { count: 3, took: Times { sum: 6.0, max: 2.0 }, waited: Times { sum: 9.0, max: 3.0 } }
        );
        // Handing on nothing at all is an end as well.
        assert_eq!(fold(&[event("a", "extract", Emitted, 0)]).finished, 1);
    }

    #[test]
    fn a_replayed_letter_puts_its_url_back_to_work() {
        let mut way = vec![event("a", "fetch", DeadLettered, 0)];
        assert_eq!(fold(&way).finished, 1);
        way.push(event("a", "fetch", Replayed, 0));
        assert_eq!((fold(&way).finished, fold(&way).in_work()), (0, 1));
        way.push(event("a", "fetch", Emitted, 1));
        assert_eq!((fold(&way).finished, fold(&way).in_work()), (0, 1));
        way.push(event("a", "extract", DeadLettered, 0));
        assert_eq!(fold(&way).finished, 1);
        way.push(event("a", "extract", Replayed, 0));
        way.push(event("a", "extract", Done, 0));
        assert_eq!((fold(&way).finished, fold(&way).in_work()), (1, 0));
    }

    #[test]
    fn other_jobs_and_no_job_are_left_out() {
        let mut t = Tracker::of("j");
        t.fold(&StatusEvent { job: None, ..event("a", "fetch", Done, 0) });
        t.fold(&StatusEvent { job: Some("k".into()), ..event("a", "fetch", Done, 0) });
        assert_eq!(t.get("j").map(|p| p.finished), Some(0));
        assert_eq!(t.jobs().count(), 1);
    }
}
