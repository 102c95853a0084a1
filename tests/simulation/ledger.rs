//! The books of a run, as a read_committed reader sees them: each input ended exactly once, each output is there exactly
//! once, and the job's counts are exact.

use std::collections::{BTreeMap, BTreeSet};

use tidemill::engine::offset_map;
use tidemill::jobs::Tracker;
use tidemill::record::headers::{ATTEMPT, TASK};
use tidemill::record::{FailureClass, OutcomeKind, Page, StatusEvent, codec, letter};
use tidemill::topology::{self, StageName};
use tidemill::transport::{Incoming, TopicPartition};

use super::broker::Broker;
use super::common::engine::full;
use super::stage::{JOB_ID, kind};
use super::world::World;

use OutcomeKind::{DeadLettered, Done, Dropped, Emitted, Parked, Retried};

/// The steps, the pages, and the letter with its attempts that a kind of URL comes to.
type Expected = (&'static [OutcomeKind], usize, Option<(FailureClass, u32)>);

fn expected(kind: &str) -> Expected {
    match kind {
        "emit" => (&[Emitted], 1, None),
        "two" => (&[Emitted], 2, None),
        "done" => (&[Done], 0, None),
        "drop" => (&[Dropped], 0, None),
        "flaky" => (&[Retried, Retried, Emitted], 1, None),
        "hopeless" => (&[Retried, Retried, Retried, DeadLettered], 0, Some((FailureClass::Http5xx, 4))),
        "park" | "move" => (&[Parked, Emitted], 1, None),
        _ => (&[DeadLettered], 0, Some((FailureClass::Parse, 1))),
    }
}

/// Records that no commit of the group knows as done, over all topics it reads.
pub fn lag(broker: &Broker) -> Vec<TopicPartition> {
    let mut behind = vec![];
    let group = &broker.groups[&full("fetch")];
    for (topic, _) in topology::stage(StageName::Fetch).subscribed() {
        let topic = full(&topic);
        for partition in 0..broker.partitions(&topic) as i32 {
            let at = TopicPartition::new(topic.as_str(), partition);
            let stored = group.stored.get(&at);
            let (base, map) = stored.map_or((0, ""), |s| (s.base, s.map.as_str()));
            let map = offset_map::decode(base, map).unwrap_or_default();
            let open = |r: &Incoming| r.offset > map.high || map.incomplete.contains(&r.offset);
            if broker.read(&at, base, usize::MAX).iter().any(open) {
                behind.push(at);
            }
        }
    }
    behind
}

fn by_task<T>(records: &[Incoming], read: impl Fn(&Incoming) -> T) -> BTreeMap<String, Vec<T>> {
    let mut found = BTreeMap::<String, Vec<T>>::new();
    for r in records {
        found.entry(r.headers.str(TASK).unwrap().to_owned()).or_default().push(read(r));
    }
    found
}

/// What is wrong; a word for each kind of fault: `lost`, `twice`, `odd`.
pub fn audit(world: &World, inputs: &BTreeMap<String, String>) -> Vec<String> {
    let topic = |name: &str| world.broker(|b| b.read_all(&full(name)));
    let status = topic(topology::STATUS);
    let mut wrong = vec![];
    let mut events = BTreeMap::<String, Vec<StatusEvent>>::new();
    for r in &status {
        let e: StatusEvent = codec::decode(&r.value).unwrap();
        events.entry(e.task.clone()).or_default().push(e);
    }
    let mut pages = by_task(&topic(topology::PAGES), |r| codec::decode::<Page>(&r.value).unwrap().url);
    let mut letters = by_task(&topic("fetch.dlq"), |r| {
        let failure = letter::Failure::read(&r.headers).unwrap();
        (failure.class, failure.attempts)
    });
    let mut retries = BTreeMap::<String, Vec<(usize, i64)>>::new();
    for tier in 0..topology::TIERS {
        let read = by_task(&topic(&topology::stage(StageName::Fetch).retry(tier)), |r| {
            (tier, r.headers.int(ATTEMPT).unwrap())
        });
        read.into_iter().for_each(|(task, list)| retries.entry(task).or_default().extend(list));
    }
    let sink = world.sink.lock().unwrap();
    for (task, url) in inputs {
        let (steps, count, letter) = expected(kind(url));
        let mut compare = |what: &str, is: usize, should: usize, detail: String| {
            if is != should {
                let word = if is < should { "lost" } else { "twice" };
                wrong.push(format!("{word}: {task} {url} has {is} {what} instead of {should}: {detail}"));
            }
        };
        let mut told = events.remove(task).unwrap_or_default();
        told.sort_by_key(|e| e.at);
        let kinds: Vec<OutcomeKind> = told.iter().map(|e| e.outcome).collect();
        compare("events", kinds.len(), steps.len(), format!("{kinds:?}"));
        let ends = kinds.iter().filter(|k| **k == Emitted || k.is_final()).count();
        compare("ends", ends, 1, format!("{kinds:?}"));
        let written = pages.remove(task).unwrap_or_default();
        let distinct: BTreeSet<_> = written.iter().collect();
        compare("pages", written.len(), count, format!("{written:?}"));
        compare("different pages", distinct.len(), count, format!("{written:?}"));
        let rest = letters.remove(task).unwrap_or_default();
        compare("letters", rest.len(), letter.iter().len(), format!("{rest:?}"));
        let mut climbed = retries.remove(task).unwrap_or_default();
        if kind(url) != "park" {
            let rungs = steps.iter().filter(|s| **s == Retried).count();
            compare("retries", climbed.len(), rungs, format!("{climbed:?}"));
            climbed.sort_unstable();
            if climbed.iter().enumerate().any(|(i, c)| *c != (i, i as i64 + 1)) {
                wrong.push(format!("odd: {task} {url} climbed {climbed:?}"));
            }
        }
        if kinds.len() == steps.len() && kinds != steps {
            wrong.push(format!("odd: {task} {url} went {kinds:?} instead of {steps:?}"));
        }
        if rest.len() == 1 && rest.first() != letter.as_ref() {
            wrong.push(format!("odd: {task} {url} has the letter {rest:?} instead of {letter:?}"));
        }
        if !sink.contains_key(task) {
            wrong.push(format!("lost: {task} {url} ended without its effect outside"));
        }
    }
    let strangers = events.keys().chain(pages.keys()).chain(letters.keys()).chain(retries.keys());
    wrong.extend(strangers.map(|task| format!("odd: {task} is no input")));
    wrong.extend(job(&status, inputs));
    wrong
}

/// The job as its tracker sees it.
fn job(status: &[Incoming], inputs: &BTreeMap<String, String>) -> Vec<String> {
    let mut tracker = Tracker::all();
    tracker.read(status);
    let Some(progress) = tracker.get(JOB_ID) else { return vec!["lost: the job has no events".into()] };
    let all = || inputs.values().map(|url| expected(kind(url)));
    let mut wrong = vec![];
    let mut compare = |what: &str, is: u64, should: usize| {
        if is != should as u64 {
            wrong.push(format!("odd: the job counts {is} {what} instead of {should}"));
        }
    };
    for outcome in OutcomeKind::ALL {
        let should = all().map(|(steps, ..)| steps.iter().filter(|s| **s == outcome).count()).sum();
        compare(outcome.as_str(), progress.count(outcome), should);
    }
    // What was emitted has no next stage here.
    let handed_on = all().filter(|(_, pages, _)| *pages > 0).count();
    compare("in work", progress.in_work(), handed_on);
    compare("finished", progress.finished, inputs.len() - handed_on);
    wrong
}
