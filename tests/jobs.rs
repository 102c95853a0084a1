//! Jobs on the embedded log: submitted exactly once, followed to their end by a real runner.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::engine::{LIMITS, Working, create, full, names, page, stage};
use common::{PATIENCE, SqliteLog, eventually, placed, read_all};
use futures::FutureExt;
use tidemill::engine::Outcome;
use tidemill::jobs::{self, JobError, Lane, NewJob, Submitted, Tracker};
use tidemill::record::headers::{JOB, TASK, TRACEPARENT, URL};
use tidemill::record::{FailureClass, OutcomeKind, UrlTask};
use tidemill::topology;
use tidemill::transport::partitioner::partition;
use tidemill::transport::tail::{From, Range, Tail};
use tidemill::transport::{TopicPartition, TransportError};

fn new(id: &str, lane: Lane) -> NewJob {
    NewJob { id: id.into(), source: "urls.txt".into(), lane }
}

fn urls(count: usize) -> impl Iterator<Item = UrlTask> {
    (0..count).map(|i| UrlTask::new(format!("http://host-{}.example/{i}", i % 7)))
}

#[tokio::test]
async fn a_job_is_on_its_lane_with_all_that_is_known_of_it() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let mut task = UrlTask::new("http://a.example:8080/x");
    task.expires = Some(17);
    let list = [task.clone(), UrlTask::new("not a url")];
    let done = jobs::submit(&*log, &names(), &new("j", Lane::High), list.clone()).await.unwrap();
    assert_eq!(done, Submitted { before: 0, total: 2 });
    let mut read = read_all(&*log, &full(topology::URLS_HIGH)).await;
    read.sort_by_key(|r| r.headers.str(TASK).map(str::to_owned));
    for (i, (r, task)) in read.iter().zip(&list).enumerate() {
        assert_eq!(r.headers.str(TASK), Some(&*format!("j-{}", i + 1)));
        assert_eq!(r.headers.str(JOB), Some("j"));
        assert_eq!(r.headers.str(URL), Some(&*task.url));
        assert!(r.headers.str(TRACEPARENT).is_some());
        assert_eq!(UrlTask::decode(&r.value).unwrap(), *task);
        assert_eq!(r.key.as_deref(), Some(task.host_key().as_bytes()));
        assert_eq!(r.at.partition, partition(task.host_key().as_bytes(), topology::PARTITIONS));
    }
    assert_eq!((read.len(), read[0].headers.int("tidemill.expires")), (2, Some(17)));

    let done = jobs::submit(&*log, &names(), &new("empty", Lane::Bulk), []).await.unwrap();
    assert_eq!(done, Submitted { before: 0, total: 0 });
    // A foreign producer's record in `jobs` is nobody's job.
    log.append(vec![placed(&full(topology::JOBS), 0, "{}")]).await.unwrap();
    let all = jobs::list(&*log, &names()).await.unwrap();
    assert_eq!(all.iter().map(|j| (&*j.id, j.submitted)).collect::<Vec<_>>(), [("j", Some(2)), ("empty", Some(0))]);
    assert_eq!(jobs::get(&*log, &names(), "j").await.unwrap().as_ref(), Some(&all[0]));
    assert_eq!(jobs::get(&*log, &names(), "k").await.unwrap(), None);
}

#[tokio::test]
async fn a_submit_that_was_cut_short_goes_on_where_it_stood() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let job = new("j", Lane::Normal);
    for dies_at in [1_300, 1_700, 2_400] {
        let (log, job) = (Arc::clone(&log), job.clone());
        let dying = urls(2_600).inspect(move |u| assert!(!u.url.ends_with(&format!("/{dies_at}")), "killed"));
        let crashed = tokio::spawn(async move { jobs::submit(&*log, &names(), &job, dying).await }).await;
        assert!(crashed.is_err());
    }
    let stood = jobs::get(&*log, &names(), "j").await.unwrap().unwrap();
    assert_eq!((stood.appended, stood.submitted), (2_000, None));
    let e = jobs::submit(&*log, &names(), &job, urls(100)).await.unwrap_err();
    assert!(matches!(e, JobError::Shorter { appended: 2_000, given: 100, .. }), "{e}");
    let e = jobs::submit(&*log, &names(), &new("j", Lane::Bulk), urls(1)).await.unwrap_err();
    assert!(matches!(e, JobError::Exists { .. }), "{e}");

    let done = jobs::submit(&*log, &names(), &job, urls(2_600)).await.unwrap();
    assert_eq!(done, Submitted { before: 2_000, total: 2_600 });
    let done = jobs::submit(&*log, &names(), &job, urls(2_600)).await.unwrap();
    assert_eq!(done, Submitted { before: 2_600, total: 2_600 });
    let read = read_all(&*log, &full(topology::URLS)).await;
    let tasks: BTreeSet<_> = read.iter().map(|r| r.headers.str(TASK).unwrap().to_owned()).collect();
    assert_eq!((read.len(), tasks.len()), (2_600, 2_600));
    for r in &read {
        let line: usize = r.headers.str(TASK).unwrap()[2..].parse().unwrap();
        assert!(UrlTask::decode(&r.value).unwrap().url.ends_with(&format!("/{}", line - 1)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_followed_to_its_end() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let follower = file.handle();
    let following = tokio::spawn(async move {
        let mut tracker = Tracker::all();
        let mut tail = Tail::new(&*follower, &full(topology::STATUS), From::Start).await.unwrap();
        while tracker.get("j").is_none_or(|p| p.count(OutcomeKind::DeadLettered) + p.count(OutcomeKind::Done) < 300) {
            tracker.read(&tail.next(&*follower).await.unwrap());
        }
        tracker.take("j").unwrap()
    });
    let handler = stage(|url, ctx| {
        let n: usize = url.rsplit('/').next().unwrap().parse().unwrap();
        let attempt = ctx.meta.attempt;
        async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            match n % 3 {
                0 => Outcome::Done,
                1 if attempt == 0 => Outcome::fail(FailureClass::Timeout, "slow"),
                1 => Outcome::Done,
                _ => Outcome::fail(FailureClass::Http4xx, "404"),
            }
        }
        .boxed()
    });
    let working = Working::start(file.handle(), &handler, LIMITS);
    jobs::submit(&*log, &names(), &new("j", Lane::Normal), urls(300)).await.unwrap();
    let live = tokio::time::timeout(PATIENCE, following).await.unwrap().unwrap();
    working.stop().await;
    let (job, p) = jobs::progress(&*log, &names(), "j").await.unwrap().unwrap();
    assert_eq!((job.submitted, p.submitted, p.finished, p.in_work()), (Some(300), 300, 300, 0));
    assert_eq!((live.finished, live.by_outcome.clone()), (300, p.by_outcome.clone()));
    let counts: Vec<_> =
        p.by_outcome.iter().map(|(s, n)| (&*s.stage, s.outcome, s.class.as_deref().unwrap_or(""), *n)).collect();
    assert_eq!(
        counts,
        [
            ("fetch", OutcomeKind::Done, "", 200),
            ("fetch", OutcomeKind::Retried, "timeout", 100),
            ("fetch", OutcomeKind::DeadLettered, "http-4xx", 100),
        ]
    );
    let times = p.by_stage["fetch"];
    assert_eq!(times.count, 400);
    assert!(times.took.sum >= 800.0 && times.took.max >= 2.0 && times.took.max < times.took.sum, "{times:?}");
    let (first, last) = p.span.unwrap();
    assert!(first < last);
    assert_eq!(jobs::progress(&*log, &names(), "k").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_of_a_url_is_explained() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let handler = stage(|url, ctx| {
        let (url, attempt) = (url.to_owned(), ctx.meta.attempt);
        async move {
            match attempt {
                0 => Outcome::fail(FailureClass::Timeout, "slow"),
                _ => Outcome::Emit(vec![page(&url)]),
            }
        }
        .boxed()
    });
    let list: Vec<_> =
        ["http://a.example/x", "http://a.example/y", "HTTP://A.example:80/x#part", "no url"].map(UrlTask::new).into();
    jobs::submit(&*log, &names(), &new("j", Lane::Normal), list).await.unwrap();
    let working = Working::start(file.handle(), &handler, LIMITS);
    eventually("all handed on", async || read_all(&*log, &full("pages")).await.len() == 4).await;
    working.stop().await;
    // What cannot be read is passed over.
    log.append(vec![placed(&full(topology::STATUS), 0, "noise")]).await.unwrap();
    let way = async |url: &str| -> Vec<(String, OutcomeKind)> {
        let events = jobs::explain(&*log, &names(), url).await.unwrap();
        assert!(events.is_sorted_by_key(|e| e.at));
        let mut way: Vec<_> = events.into_iter().map(|e| (e.task, e.outcome)).collect();
        way.sort_by_key(|(task, _)| task.clone());
        way
    };
    use OutcomeKind::{Emitted, Retried};
    let of = |task: &str| [(task.to_owned(), Retried), (task.to_owned(), Emitted)];
    assert_eq!(way("http://a.EXAMPLE/x").await, [of("j-1"), of("j-3")].concat());
    assert_eq!(way("http://a.example/y ").await, of("j-2"));
    assert_eq!(way("no url").await, of("j-4"));
    assert_eq!(way("http://a.example/z").await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_misses_nothing_and_sleeps_when_there_is_nothing() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let topic = full(topology::STATUS);
    log.append(vec![placed(&topic, 0, "old")]).await.unwrap();
    let mut tail = Tail::new(&*log, &topic, From::End).await.unwrap();
    assert_eq!(tail.poll(&*log).await.unwrap(), None);
    let writer = file.handle();
    let (to, count) = (topic.clone(), 400);
    let writing = tokio::spawn(async move {
        for i in 0..count {
            writer.append(vec![placed(&to, i % 12, i.to_string())]).await.unwrap();
            if i % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
    });
    let mut seen = vec![];
    let started = Instant::now();
    while seen.len() < count as usize {
        let batch = tokio::time::timeout(PATIENCE, tail.next(&*log)).await.unwrap().unwrap();
        assert!(!batch.is_empty() && batch.iter().all(|r| r.at == batch[0].at));
        seen.extend(batch.iter().map(common::text));
    }
    writing.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (400, 400));
    let idle = tokio::time::timeout(Duration::from_millis(200), tail.next(&*log)).await;
    assert!(idle.is_err(), "nothing is a batch");
    // From its offsets, a later tail goes on; what was swept meanwhile is passed over.
    let offsets = tail.offsets().clone();
    log.append(vec![placed(&topic, 5, "later")]).await.unwrap();
    let mut later = Tail::new(&*log, &topic, From::Offsets(offsets)).await.unwrap();
    let batch = later.poll(&*log).await.unwrap().unwrap();
    assert_eq!(batch.iter().map(common::text).collect::<Vec<_>>(), ["later"]);
    // A range ends where it was told, however the log grows meanwhile.
    let mut range = Range::new(TopicPartition::new(topic.as_str(), 0), 1, 3);
    let batch = range.next(&*log).await.unwrap().unwrap();
    assert_eq!(batch.iter().map(|r| r.offset).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(range.next(&*log).await.unwrap(), None);
    let mut early = Tail::new(&*log, &topic, From::Start).await.unwrap();
    file.plain().execute("UPDATE records SET timestamp = 0", []).unwrap();
    log.sweep().await.unwrap();
    assert_eq!(early.poll(&*log).await.unwrap(), None);
    let e = Tail::new(&*log, "nowhere", From::Start).await.unwrap_err();
    assert!(matches!(e, TransportError::NoTopic(_)));
}
