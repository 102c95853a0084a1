//! Dead letters on the embedded log: found, shown, put back once, and handled again by a real runner.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::engine::{LIMITS, Working, create, events, full, names, page, stage};
use common::{SqliteLog, eventually, placed, read_all};
use futures::FutureExt;
use tidemill::dlq::{self, By, Filter, LetterId, Order, Report, Sample, Tally, To};
use tidemill::engine::Outcome;
use tidemill::jobs::{self, Again, Lane, NewJob};
use tidemill::record::headers::{ATTEMPT, Headers, JOB, REPLAY, REPLAYS, TASK, URL};
use tidemill::record::letter::Failure;
use tidemill::record::{FailureClass, OutcomeKind, UrlTask, now_ms};
use tidemill::topology::{self, StageName};
use tidemill::transport::{Incoming, Outgoing, Result, Transport};

const LETTERS: usize = 120;

/// A log with dead letters of two hosts and two classes, made by a runner; and the switch that mends the stage.
async fn with_letters() -> (SqliteLog, Arc<dyn Transport>, Arc<AtomicBool>, Working) {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let mended = Arc::new(AtomicBool::new(false));
    let m = Arc::clone(&mended);
    let handler = stage(move |url, _| {
        let (url, mended) = (url.to_owned(), m.load(Ordering::SeqCst));
        async move {
            if mended || url.ends_with("good") {
                return Outcome::Emit(vec![page(&url)]);
            }
            let class = if url.contains("a.example") { FailureClass::Http4xx } else { FailureClass::Parse };
            Outcome::DeadLetter { class, message: format!("{url} is of no use") }
        }
        .boxed()
    });
    let urls = (0..LETTERS)
        .map(|i| format!("http://{}.example/{i}", if i % 3 == 0 { "a" } else { "b" }))
        .chain(["http://a.example/good".into()]);
    let job = NewJob { id: "j".into(), source: "test".into(), lane: Lane::Normal };
    jobs::submit(&*log, &names(), &job, urls.map(UrlTask::new)).await.unwrap();
    let working = Working::start(file.handle(), &handler, LIMITS);
    eventually("all are dead letters", async || read_all(&*log, &full("fetch.dlq")).await.len() == LETTERS).await;
    (file, log, mended, working)
}

async fn replay(log: &dyn Transport, filter: &Filter, run: &str, dry_run: bool) -> Result<Report> {
    dlq::replay(log, &names(), filter, &Order { dry_run, ..Order::new(run) }).await
}

async fn count(log: &dyn Transport, filter: Filter) -> u64 {
    dlq::list(log, &names(), &filter, 5).await.unwrap().matched
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_found_by_any_of_their_marks() {
    let (_file, log, _, working) = with_letters().await;
    let log = &*log;
    let all = dlq::list(log, &names(), &Filter::default(), 10).await.unwrap();
    assert_eq!((all.letters.len(), all.matched), (10, LETTERS as u64));
    assert!(all.letters.is_sorted_by_key(|l| -l.at()), "newest first");
    let of_a = LETTERS as u64 / 3;
    assert_eq!(count(log, Filter { class: Some("http-4xx".into()), ..Filter::default() }).await, of_a);
    assert_eq!(count(log, Filter { class: Some("dns".into()), ..Filter::default() }).await, 0);
    assert_eq!(count(log, Filter { host: Some("A.example".into()), ..Filter::default() }).await, of_a);
    assert_eq!(count(log, Filter { stage: Some(StageName::Fetch), ..Filter::default() }).await, LETTERS as u64);
    assert_eq!(count(log, Filter { stage: Some(StageName::Index), ..Filter::default() }).await, 0);
    assert_eq!(count(log, Filter { since: Some(now_ms() + 1_000), ..Filter::default() }).await, 0);
    assert_eq!(count(log, Filter { since: Some(now_ms() - 600_000), ..Filter::default() }).await, LETTERS as u64);
    for (attempts, expected) in [((Some(1), Some(1)), LETTERS), ((Some(2), None), 0), ((None, Some(3)), LETTERS)] {
        assert_eq!(count(log, Filter { attempts, ..Filter::default() }).await, expected as u64, "{attempts:?}");
    }
    let path = |p: &str| Filter { path: Some(serde_json_path::JsonPath::parse(p).unwrap()), ..Filter::default() };
    assert_eq!(count(log, path("$.url")).await, LETTERS as u64);
    assert_eq!(count(log, path("$.nowhere")).await, 0);
    assert_eq!(count(log, path("$[?@ == 'http://b.example/7']")).await, 1);
    let grep = |p: &str| Filter { grep: Some(regex::Regex::new(p).unwrap()), ..Filter::default() };
    assert_eq!(count(log, grep(r"example/7\b")).await, 1, "of the value");
    assert_eq!(count(log, grep("is of no use$")).await, LETTERS as u64, "of the message");
    let header = |name: &str, value: Option<&str>| Filter {
        headers: vec![(name.into(), value.map(str::to_owned))],
        ..Filter::default()
    };
    assert_eq!(count(log, header(JOB, None)).await, LETTERS as u64);
    assert_eq!(count(log, header(JOB, Some("j"))).await, LETTERS as u64);
    assert_eq!(count(log, header(JOB, Some("k"))).await, 0);
    // Halves by time, each of them read through the log's index.
    let times: Vec<i64> = all.letters.iter().map(|l| l.record.timestamp).collect();
    let time = *times.iter().min().unwrap();
    let before = count(log, Filter { until: Some(time), ..Filter::default() }).await;
    let after = count(log, Filter { since: Some(time), ..Filter::default() }).await;
    assert!(before + after == LETTERS as u64 && after >= 10, "{before} before and {after} after");
    let one = &all.letters[3];
    let same = count(log, Filter { fingerprint: one.fingerprint(), ..Filter::default() }).await;
    assert_eq!(same, if one.host().as_deref() == Some("a.example") { of_a } else { LETTERS as u64 - of_a });

    assert_eq!(dlq::show(log, &names(), &one.id).await.unwrap().as_ref(), Some(one));
    for nowhere in ["fetch.dlq/0/999999", "fetch.dlq/99/0", "extract.dlq/0/0", "urls/0/0"] {
        assert_eq!(dlq::show(log, &names(), &nowhere.parse::<LetterId>().unwrap()).await.unwrap(), None);
    }
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_counted_by_what_they_have_in_common() {
    let (_file, log, _, working) = with_letters().await;
    let log = &*log;
    let of = async |filter: &Filter, by: &[By]| dlq::stats(log, &names(), filter, by).await.unwrap();
    let (all, of_a) = (LETTERS as u64, LETTERS as u64 / 3);
    let by_cause = of(&Filter::default(), &[By::Stage, By::Class, By::Fingerprint]).await;
    assert_eq!((by_cause.letters, by_cause.others, by_cause.groups.len()), (all, 0, 2), "{by_cause:?}");
    let (first, second) = (&by_cause.groups[0], &by_cause.groups[1]);
    assert_eq!((first.letters, second.letters), (all - of_a, of_a), "the largest first");
    assert_eq!(first.key.class.as_deref(), Some("parse"));
    assert!(first.first <= first.last && first.message.ends_with("is of no use"), "{first:?}");
    let sample = dlq::show(log, &names(), &first.sample).await.unwrap().unwrap();
    assert_eq!((sample.fingerprint(), sample.at()), (first.key.fingerprint.clone(), first.last));
    let by_host = of(&Filter { class: Some("http-4xx".into()), ..Filter::default() }, &[By::Host]).await;
    assert_eq!((by_host.groups.len(), by_host.groups[0].key.host.as_deref()), (1, Some("a.example")));
    assert_eq!(of(&Filter::default(), &[]).await.groups.len(), 1);
    // What was put back is told apart.
    let filter = Filter { host: Some("a.example".into()), ..Filter::default() };
    replay(log, &filter, "r", false).await.unwrap();
    working.stop().await;
    let put_back = of(&filter, &[By::Host]).await.groups[0].replayed;
    assert_eq!(put_back, of_a);
    let left = of(&Filter { not_replayed: true, class: Some("parse".into()), ..Filter::default() }, &[]).await;
    assert_eq!(left.letters, all - of_a);
    // The way of a letter's task.
    let meta = sample.meta();
    let history = jobs::history(log, &names(), &meta.task, meta.first_seen).await.unwrap();
    let steps: Vec<_> = history.iter().map(|e| (e.stage.as_str(), e.outcome)).collect();
    assert_eq!(steps, [("fetch", OutcomeKind::DeadLettered)]);
    assert_eq!(jobs::history(log, &names(), "nobody", 0).await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_put_back_once_and_handled_again() {
    let (_file, log, mended, working) = with_letters().await;
    let letters = read_all(&*log, &full("fetch.dlq")).await;
    let only_a = Filter { host: Some("a.example".into()), ..Filter::default() };
    let of_a = LETTERS as u64 / 3;
    let to = |n| BTreeMap::from([("fetch.retry.1".to_owned(), n)]);

    let would = replay(&*log, &only_a, "dry", true).await.unwrap();
    assert_eq!(would, Report { matched: of_a, replayed: of_a, to: to(of_a), ..Report::default() });
    assert_eq!(read_all(&*log, &full(topology::REPLAYS)).await, vec![]);

    mended.store(true, Ordering::SeqCst);
    assert_eq!(replay(&*log, &only_a, "run-1", false).await.unwrap(), would);
    let again = replay(&*log, &only_a, "run-2", false).await.unwrap();
    assert_eq!(again, Report { matched: of_a, already: of_a, ..Report::default() });
    let rest = replay(&*log, &Filter::default(), "run-3", false).await.unwrap();
    assert_eq!((rest.matched, rest.already, rest.replayed), (LETTERS as u64, of_a, LETTERS as u64 - of_a));
    assert_eq!(count(&*log, Filter { not_replayed: true, ..Filter::default() }).await, 0);
    let shown = dlq::list(&*log, &names(), &only_a, 1_000).await.unwrap();
    assert!(shown.letters.iter().all(|l| l.replayed.as_ref().is_some_and(|(run, at)| &**run == "run-1" && *at > 0)));

    // As they were, on their partition, without the failure.
    let back = read_all(&*log, &full("fetch.retry.1")).await;
    assert_eq!(back.len(), LETTERS);
    for letter in &letters {
        let task = letter.headers.str(TASK);
        let b = back.iter().find(|b| b.headers.str(TASK) == task).unwrap();
        assert_eq!((&b.key, &b.value, b.at.partition), (&letter.key, &letter.value, letter.at.partition));
        assert_eq!((b.headers.get(JOB), b.headers.get(URL)), (letter.headers.get(JOB), letter.headers.get(URL)));
        assert!(Failure::read(&b.headers).is_none() && b.headers.get(ATTEMPT).is_none());
        assert!(matches!(b.headers.str(REPLAY), Some("run-1" | "run-3")));
    }
    // Each is handled once more, and its job knows.
    eventually("all handed on", async || read_all(&*log, &full("pages")).await.len() > LETTERS).await;
    working.stop().await;
    let pages = read_all(&*log, &full("pages")).await;
    let tasks: BTreeSet<_> = pages.iter().map(|p| p.headers.str(TASK).unwrap().to_owned()).collect();
    assert_eq!((pages.len(), tasks.len()), (LETTERS + 1, LETTERS + 1));
    let told = events(&*log).await;
    assert_eq!(told.iter().filter(|e| e.outcome == OutcomeKind::Emitted).count(), LETTERS + 1);
    let (_, p) = jobs::progress(&*log, &names(), "j").await.unwrap().unwrap();
    assert_eq!((p.finished, p.in_work(), p.submitted), (0, LETTERS as u64 + 1, LETTERS as u64 + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_fails_again_is_another_letter() {
    let (_file, log, _, working) = with_letters().await;
    let filter = Filter { not_replayed: true, ..Filter::default() };
    let first = replay(&*log, &filter, "r", false).await.unwrap();
    assert_eq!(first.replayed, LETTERS as u64, "one pass, although they come back at once");
    eventually("they are back", async || read_all(&*log, &full("fetch.dlq")).await.len() == 2 * LETTERS).await;
    assert_eq!(count(&*log, Filter::default()).await, 2 * LETTERS as u64);
    assert_eq!(count(&*log, filter).await, LETTERS as u64);
    working.stop().await;
}

#[tokio::test]
async fn a_foreign_record_among_the_letters_is_shown_with_what_is_known() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    log.append(vec![
        placed(&full("fetch.dlq"), 4, "https://b.example/by-hand"),
        placed(&full("extract.dlq"), 2, vec![0xff, 0x00]),
        placed(&full(topology::REPLAYS), 0, "no marker"),
    ])
    .await
    .unwrap();
    let id: LetterId = "fetch.dlq/4/0".parse().unwrap();
    let letter = dlq::show(&*log, &names(), &id).await.unwrap().unwrap();
    assert_eq!((letter.stage, &letter.failure, letter.fingerprint()), (Some(StageName::Fetch), &None, None));
    assert_eq!(letter.host().as_deref(), Some("b.example"));
    assert_eq!(letter.at(), letter.record.timestamp);
    assert_eq!(count(&*log, Filter { class: Some("parse".into()), ..Filter::default() }).await, 0);
    assert_eq!(count(&*log, Filter { host: Some("b.example".into()), ..Filter::default() }).await, 1);
    let report = replay(&*log, &Filter::default(), "r", false).await.unwrap();
    assert_eq!(report.to, BTreeMap::from([("extract.retry.1".to_owned(), 1), ("fetch.retry.1".to_owned(), 1)]));
    let back = read_all(&*log, &full("extract.retry.1")).await;
    assert_eq!((back[0].at.partition, &back[0].value[..]), (2, &[0xff, 0x00][..]));
    assert_eq!(count(&*log, Filter { not_replayed: true, ..Filter::default() }).await, 0);
}

/// Whoever holds the lock puts a letter back; the other waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replays_at_once_put_each_letter_back_once() {
    let (file, log, _, working) = with_letters().await;
    working.stop().await;
    let other = file.handle();
    let all = Filter::default();
    let (slow, names) = (Order { rate: Some(60.0), ..Order::new("one") }, names());
    let (a, b) = tokio::join!(async { dlq::replay(&*log, &names, &all, &slow).await.unwrap() }, async {
        dlq::replay(&*other, &names, &all, &Order::new("two")).await.unwrap()
    },);
    assert_eq!((a.matched, b.matched), (LETTERS as u64, LETTERS as u64));
    assert_eq!(a.replayed + b.replayed, LETTERS as u64, "{a:?} {b:?}");
    assert_eq!(a.already + b.already, LETTERS as u64, "{a:?} {b:?}");
    let back = read_all(&*log, &full("fetch.retry.1")).await;
    let tasks: BTreeSet<_> = back.iter().map(|b| b.headers.str(TASK).unwrap().to_owned()).collect();
    assert_eq!((back.len(), tasks.len()), (LETTERS, LETTERS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_waits_for_the_sample_and_what_dies_again_and_again_is_parked() {
    let (_file, log, mended, working) = with_letters().await;
    let open = Filter { not_replayed: true, ..Filter::default() };
    let wait = Duration::from_secs(20);
    let sampled = |run: &str| Order { sample: Some(Sample { letters: 10, threshold: 0.9, wait }), ..Order::new(run) };
    let tried = dlq::replay(&*log, &names(), &open, &sampled("r1")).await.unwrap();
    let died = Tally { letters: 10, same_cause: 10, ..Tally::default() };
    assert_eq!((tried.replayed, tried.stopped, tried.sample), (10, true, Some(died)));

    // All of them die twice more; those of the sample have died three times then.
    for run in ["r2", "r3"] {
        let done = dlq::replay(&*log, &names(), &open, &Order::new(run)).await.unwrap();
        assert_eq!((done.replayed, done.parked), (LETTERS as u64, 0), "{run}");
        eventually("they are back", async || count(&*log, open.clone()).await == LETTERS as u64).await;
    }
    mended.store(true, Ordering::SeqCst);
    let done = dlq::replay(&*log, &names(), &open, &sampled("r4")).await.unwrap();
    let well = Tally { letters: 10, succeeded: 10, ..Tally::default() };
    assert_eq!((done.replayed, done.parked, done.stopped), (LETTERS as u64 - 10, 10, false));
    assert_eq!(done.sample, Some(well));
    let forced = Order { force: true, ..Order::new("r5") };
    assert_eq!(dlq::replay(&*log, &names(), &open, &forced).await.unwrap().replayed, 10);
    eventually("all handed on", async || read_all(&*log, &full("pages")).await.len() == LETTERS + 1).await;
    working.stop().await;

    let runs = dlq::runs(&*log, &names(), 4).await.unwrap();
    let tallies: BTreeMap<_, _> = runs.iter().map(|r| (r.run.as_str(), r.tally)).collect();
    let n = LETTERS as u64;
    assert_eq!(
        tallies,
        BTreeMap::from([
            ("r2", Tally { letters: n, same_cause: n, ..Tally::default() }),
            ("r3", Tally { letters: n, same_cause: n, ..Tally::default() }),
            ("r4", Tally { letters: n - 10, succeeded: n - 10, ..Tally::default() }),
            ("r5", Tally { letters: 10, succeeded: 10, ..Tally::default() }),
        ])
    );
    assert!(runs.is_sorted_by_key(|r| -r.first) && runs.iter().all(|r| r.first <= r.last));
}

/// A letter of the enrich stage, and on `pages` and `documents` what its task was before.
fn died_in_enrich(n: usize, class: FailureClass) -> Vec<Outgoing> {
    let key = format!("id{n}");
    let task =
        Headers(vec![(TASK.into(), format!("task-{n}").into()), (URL.into(), format!("http://a.example/{n}").into())]);
    let failure = Failure {
        stage: "enrich".into(),
        topic: full("documents"),
        partition: 1,
        offset: n as i64,
        class,
        message: "of no use".into(),
        attempts: 1,
        at: now_ms(),
    };
    let put = |topic: &str, value: &str, headers: Headers| Outgoing {
        key: Some(key.clone().into()),
        headers,
        ..placed(&full(topic), 1, format!("{value}-{n}"))
    };
    vec![
        put("pages", "page", task.clone()),
        put("documents", "document", task.clone()),
        put("enrich.dlq", "document", failure.headers(&task)),
    ]
}

#[tokio::test]
async fn a_letter_goes_to_an_earlier_stage_with_what_that_stage_had_read() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let mut records: Vec<_> = (0..4).flat_map(|n| died_in_enrich(n, FailureClass::Parse)).collect();
    // Of the last, the page is gone; and there is a page of another task with the same key.
    records.retain(|r| r.value != "page-3");
    let mut other = died_in_enrich(3, FailureClass::Parse).remove(0);
    other.headers.set(TASK, "another");
    records.push(other);
    log.append(records).await.unwrap();
    let to = |run: &str, to: To| Order { to, ..Order::new(run) };
    let all = Filter::default();
    let extract = to("r1", To::Stage(StageName::Extract));
    let would = dlq::replay(&*log, &names(), &all, &Order { dry_run: true, ..extract.clone() }).await.unwrap();
    let done = dlq::replay(&*log, &names(), &all, &extract).await.unwrap();
    assert_eq!(done, would);
    assert_eq!((done.replayed, done.to.get("extract.retry.1")), (3, Some(&3)));
    assert!(done.stuck.iter().all(|(why, n)| why.contains("no longer has what extract read") && *n == 1), "{done:?}");
    let back = read_all(&*log, &full("extract.retry.1")).await;
    let values: Vec<_> = back.iter().map(|r| String::from_utf8_lossy(&r.value).into_owned()).collect();
    assert_eq!(values, ["page-0", "page-1", "page-2"]);
    assert!(back.iter().all(|r| r.headers.str(REPLAYS) == Some("1") && r.at.partition == 1));
    // What is left is fetched anew, even if the cache holds it.
    let fetched = dlq::replay(&*log, &names(), &all, &to("r2", To::Stage(StageName::Fetch))).await.unwrap();
    assert_eq!((fetched.replayed, fetched.already), (1, 3));
    let back = read_all(&*log, &full("fetch.retry.1")).await;
    let task: UrlTask = UrlTask::decode(&back[0].value).unwrap();
    assert_eq!(
        (task.url.as_str(), task.force, back[0].key.as_deref()),
        ("http://a.example/3", true, Some(&b"a.example"[..]))
    );
    // A later stage has nothing to read; a topic takes anything.
    log.append(died_in_enrich(4, FailureClass::Parse)).await.unwrap();
    let later = dlq::replay(&*log, &names(), &all, &to("r3", To::Stage(StageName::Index))).await.unwrap();
    assert_eq!((later.replayed, later.stuck.len()), (0, 1), "{later:?}");
    log.create_topics(&[common::topic("elsewhere", 2)]).await.unwrap();
    let moved = dlq::replay(&*log, &names(), &all, &to("r4", To::Topic("elsewhere".into()))).await.unwrap();
    assert_eq!(moved.to, BTreeMap::from([("elsewhere".to_owned(), 1)]));
    let there = read_all(&*log, "elsewhere").await;
    assert_eq!((there.len(), &there[0].value[..]), (1, &b"document-4"[..]));
    assert!(Failure::read(&there[0].headers).is_none());
}

#[tokio::test]
async fn an_edit_changes_what_is_put_back_and_not_the_letter() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let letter = |url: &str| Outgoing { key: Some("old".into()), ..placed(&full("fetch.dlq"), 2, url.to_owned()) };
    log.append(vec![letter(r#"{"url":"http://old.example/"}"#), letter("no json")]).await.unwrap();
    let edit = r#"{"value":{"url":"http://new.example/"},"headers":{"tidemill.url":"http://new.example/"}}"#;
    let order = Order { edit: Some(edit.parse().unwrap()), ..Order::new("r") };
    let shown = dlq::preview(&*log, &names(), &Filter::default(), &order, 5).await.unwrap();
    let done = dlq::replay(&*log, &names(), &Filter::default(), &order).await.unwrap();
    assert_eq!((shown.len(), done.replayed, done.stuck.values().sum::<u64>()), (1, 1, 1), "{done:?}");
    let back = read_all(&*log, &full("fetch.retry.1")).await;
    assert_eq!((&back[0].value, &back[0].headers), (&shown[0].1.record.value, &shown[0].1.record.headers));
    assert_eq!(UrlTask::decode(&back[0].value).unwrap().url, "http://new.example/");
    let rests = read_all(&*log, &full("fetch.dlq")).await;
    assert_eq!(&rests[0].value[..], br#"{"url":"http://old.example/"}"#);
    // What could not be changed has not been put back.
    assert_eq!(count(&*log, Filter { not_replayed: true, ..Filter::default() }).await, 1);
}

#[tokio::test]
async fn what_is_thrown_away_is_gone_and_its_bytes_with_the_first_that_stays() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let class = |n: usize| if n == 5 { FailureClass::Dns } else { FailureClass::Parse };
    for n in 0..10 {
        log.append(died_in_enrich(n, class(n))).await.unwrap();
    }
    let parse = Filter { class: Some("parse".into()), ..Filter::default() };
    let one = Filter { ids: vec!["enrich.dlq/1/0".parse().unwrap()], ..Filter::default() };
    replay(&*log, &one, "r", false).await.unwrap();
    let would = dlq::purge(&*log, &names(), &parse, "p", true).await.unwrap();
    assert_eq!((would.total(), would.replayed, would.freed), (9, 1, 0));
    assert_eq!(count(&*log, Filter::default()).await, 10, "a dry run does nothing");
    let done = dlq::purge(&*log, &names(), &parse, "p", false).await.unwrap();
    assert_eq!((done.letters, done.replayed, done.freed), (would.letters, 1, 5));
    let starts = log.bounds(&full("enrich.dlq")).await.unwrap();
    assert_eq!((starts[1].start, starts[1].end), (5, 10), "up to the first that stays");
    // Nobody finds them any more, and nobody puts them back.
    assert_eq!(count(&*log, Filter::default()).await, 1);
    let stats = dlq::stats(&*log, &names(), &Filter::default(), &[By::Class]).await.unwrap();
    assert_eq!((stats.letters, stats.groups[0].key.class.as_deref()), (1, Some("dns")));
    assert_eq!(dlq::purge(&*log, &names(), &parse, "p2", false).await.unwrap().total(), 0);
    assert_eq!(replay(&*log, &Filter::default(), "r2", false).await.unwrap().replayed, 1);
    // The run of before still says what it did.
    let runs = dlq::runs(&*log, &names(), 9).await.unwrap();
    assert_eq!(runs.iter().map(|r| r.tally.letters).collect::<Vec<_>>(), [1, 1]);
    // A letter of somebody else's topic, by its id alone.
    log.create_topics(&[common::topic("theirs", 1)]).await.unwrap();
    log.append(vec![placed("theirs", 0, "a"), placed("theirs", 0, "b")]).await.unwrap();
    let theirs = Filter { ids: vec!["theirs/0/0".parse().unwrap()], ..Filter::default() };
    let gone = dlq::purge(&*log, &names(), &theirs, "p4", false).await.unwrap();
    assert_eq!((gone.total(), gone.freed), (1, 1));
    // With the last one goes all of it.
    let rest = dlq::purge(&*log, &names(), &Filter::default(), "p3", false).await.unwrap();
    assert_eq!((rest.total(), rest.freed), (1, 5));
    let starts = log.bounds(&full("enrich.dlq")).await.unwrap();
    assert_eq!((starts[1].start, starts[1].end), (10, 10));
}

/// A replay that has a letter in hand when it is thrown away leaves it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_and_a_purge_at_once_share_the_letters() {
    let (file, log, _, working) = with_letters().await;
    working.stop().await;
    let (other, all) = (file.handle(), Filter::default());
    let (slow, names) = (Order { rate: Some(60.0), ..Order::new("one") }, names());
    let (back, gone) = tokio::join!(async { dlq::replay(&*log, &names, &all, &slow).await.unwrap() }, async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        dlq::purge(&*other, &names, &all, "two", false).await.unwrap()
    },);
    assert_eq!(gone.total(), LETTERS as u64, "{gone:?}");
    assert_eq!(gone.replayed, back.replayed, "{back:?} {gone:?}");
    assert_eq!(read_all(&*log, &full("fetch.retry.1")).await.len() as u64, back.replayed);
}

fn again(id: &str, since: Option<i64>) -> Again {
    let source = "reprocess --from extract".to_owned();
    Again { id: id.into(), stage: StageName::Extract, source, since, until: None, rate: None }
}

#[tokio::test]
async fn what_is_kept_is_sent_once_more_and_each_job_once() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let records: Vec<_> = (0..1_200)
        .map(|n| Outgoing { partition: Some(n % 3), ..died_in_enrich(n as usize, FailureClass::Parse).remove(0) })
        .collect();
    log.append(records).await.unwrap();
    let even = |r: &Incoming| r.value.last().is_some_and(|b| b % 2 == 0);
    let job = again("j", Some(now_ms() - 60_000));
    assert_eq!(jobs::count(&*log, &names(), &job, &even).await.unwrap(), 600);
    assert_eq!(jobs::count(&*log, &names(), &again("j", Some(now_ms() + 60_000)), &even).await.unwrap(), 0);
    let looked = std::sync::atomic::AtomicU64::new(0);
    let seen = |n| {
        looked.fetch_add(n, Ordering::SeqCst);
    };
    let sent = jobs::reprocess(&*log, &names(), &job, &even, &seen).await.unwrap();
    assert_eq!((sent.before, sent.total, looked.load(Ordering::SeqCst)), (0, 600, 1_200));
    let back = read_all(&*log, &full("extract.retry.1")).await;
    let kept = read_all(&*log, &full("pages")).await;
    assert_eq!(back.len(), 600);
    for r in &back {
        let k = kept.iter().find(|k| k.value == r.value).unwrap();
        assert_eq!((k.at.partition, &k.key, k.headers.get(TASK)), (r.at.partition, &r.key, r.headers.get(TASK)));
        assert_eq!((r.headers.str(JOB), r.headers.get(REPLAYS)), (Some("j"), None));
    }
    // The same job again sends nothing; under another name all of them go once more; a name is one job's.
    let once = jobs::reprocess(&*log, &names(), &job, &even, &|_| {}).await.unwrap();
    assert_eq!((once.before, once.total), (600, 600));
    let twice = jobs::reprocess(&*log, &names(), &again("k", None), &even, &|_| {}).await.unwrap();
    assert_eq!(twice.total, 600);
    assert_eq!(read_all(&*log, &full("extract.retry.1")).await.len(), 1_200);
    let other = Again { source: "another".into(), ..job };
    let e = jobs::reprocess(&*log, &names(), &other, &even, &|_| {}).await.unwrap_err();
    assert!(e.to_string().contains("choose another name"), "{e}");
    // It is a job like any other.
    let (j, progress) = jobs::progress(&*log, &names(), "j").await.unwrap().unwrap();
    assert_eq!((j.submitted, progress.submitted), (Some(600), 600));
}
