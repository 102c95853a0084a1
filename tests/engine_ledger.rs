//! The production runner on the embedded log, with a stage that does everything a stage may do, and runners that come,
//! go and crash. The ledger is what the topics say afterwards: each input ended exactly once, each output is there once.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use common::engine::{DELAYS, LIMITS, Working, create, events, full, page, stage};
use common::{Log, PATIENCE, SqliteLog, eventually, read_all};
use futures::FutureExt;
use futures::future::BoxFuture;
use tidemill::engine::attempt::Handler;
use tidemill::engine::{Limits, Outcome};
use tidemill::record::codec;
use tidemill::record::headers::{ATTEMPT, TASK};
use tidemill::record::{DropReason, FailureClass, Headers, OutcomeKind, Page, StatusEvent, letter, now_ms};
use tidemill::topology::{self, StageName, Topic};
use tidemill::transport::{
    Batch, Bounds, Committed, Event, Incoming, Member, Outgoing, Result, TopicPartition, TopicState, Transport,
};

/// A URL task; keys spread over the partitions.
fn input(topic: &str, i: usize, url: &str) -> Outgoing {
    let mut headers = Headers::default();
    headers.set(TASK, format!("task-{i}"));
    Outgoing {
        tombstone: false,
        topic: full(topic).into(),
        partition: None,
        key: Some(Bytes::from(format!("host-{}", i % 97))),
        value: Bytes::from(url.to_owned()),
        headers,
    }
}

/// Ended for this stage: handed on, or its way is over.
fn ends(kind: OutcomeKind) -> bool {
    kind == OutcomeKind::Emitted || kind.is_final()
}

/// Waits until so many inputs have ended.
async fn ended(log: &dyn Transport, inputs: usize) {
    eventually("every input ends", async || events(log).await.iter().filter(|e| ends(e.outcome)).count() >= inputs)
        .await;
}

/// What each kind of URL is expected to come to.
const KINDS: [&str; 9] = ["emit", "two", "done", "drop", "flaky", "hopeless", "park", "panic", "letter"];

/// The stage of the ledger test: the URL says what happens.
fn everything() -> Arc<dyn Handler> {
    stage(|url, ctx| {
        let (url, attempt, now) = (url.to_owned(), ctx.meta.attempt, now_ms());
        let parked = ctx.slot().is_some();
        async move {
            // Out of order, and long enough that a crash finds many in progress.
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..60))).await;
            match url.split('/').nth(3).unwrap_or_default() {
                "emit" => Outcome::Emit(vec![page(&url)]),
                "two" => Outcome::Emit(vec![page(&url), page(&format!("{url}#2"))]),
                "done" => Outcome::Done,
                "drop" => Outcome::dropped(DropReason::Robots, "not allowed"),
                "flaky" if attempt < 2 => Outcome::fail(FailureClass::Timeout, "too slow"),
                "flaky" => Outcome::Emit(vec![page(&url)]),
                "hopeless" => Outcome::fail(FailureClass::Http5xx, "503 again"),
                "park" if parked => Outcome::Emit(vec![page(&url)]),
                "park" => Outcome::Park { until: now + 150, message: "busy host".into(), reserved: true },
                "panic" => panic!("cannot cope with {url}"),
                "letter" => Outcome::DeadLetter { class: FailureClass::Parse, message: "nonsense".into() },
                "deadline" => std::future::pending().await,
                other => panic!("no such kind: {other}"),
            }
        }
        .boxed()
    })
}

/// What is wrong with the books; empty when each input ended exactly once and each output is there exactly once.
async fn audit(log: &dyn Transport, inputs: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = vec![];
    let mut by_task: HashMap<String, Vec<StatusEvent>> = HashMap::new();
    for e in events(log).await {
        by_task.entry(e.task.clone()).or_default().push(e);
    }
    let mut outputs: HashMap<String, Vec<String>> = HashMap::new();
    for r in read_all(log, &full(topology::PAGES)).await {
        let p: Page = codec::decode(&r.value).unwrap();
        outputs.entry(r.headers.str(TASK).unwrap().to_owned()).or_default().push(p.url);
    }
    let mut letters: HashMap<String, Vec<letter::Failure>> = HashMap::new();
    for r in read_all(log, &full("fetch.dlq")).await {
        letters
            .entry(r.headers.str(TASK).unwrap().to_owned())
            .or_default()
            .push(letter::Failure::read(&r.headers).unwrap());
    }
    let mut retries: HashMap<String, Vec<(usize, i64)>> = HashMap::new();
    for tier in 0..topology::TIERS {
        for r in read_all(log, &full(&topology::stage(StageName::Fetch).retry(tier))).await {
            let task = r.headers.str(TASK).unwrap().to_owned();
            retries.entry(task).or_default().push((tier, r.headers.int(ATTEMPT).unwrap()));
        }
    }
    use OutcomeKind::{DeadLettered, Done, Dropped, Emitted, Parked, Retried};
    for (task, url) in inputs {
        let kind = url.split('/').nth(3).unwrap();
        let (steps, pages, letter): (&[OutcomeKind], usize, Option<(FailureClass, u32)>) = match kind {
            "emit" => (&[Emitted], 1, None),
            "two" => (&[Emitted], 2, None),
            "done" => (&[Done], 0, None),
            "drop" => (&[Dropped], 0, None),
            "flaky" => (&[Retried, Retried, Emitted], 1, None),
            "hopeless" => (&[Retried, Retried, Retried, DeadLettered], 0, Some((FailureClass::Http5xx, 4))),
            "park" => (&[Parked, Emitted], 1, None),
            "panic" => (&[Retried, Retried, Retried, DeadLettered], 0, Some((FailureClass::Panic, 4))),
            "deadline" => (&[Retried, Retried, Retried, DeadLettered], 0, Some((FailureClass::Deadline, 4))),
            _ => (&[DeadLettered], 0, Some((FailureClass::Parse, 1))),
        };
        let mut told = by_task.remove(task).unwrap_or_default();
        told.sort_by_key(|e| e.at);
        let kinds: Vec<OutcomeKind> = told.iter().map(|e| e.outcome).collect();
        if kinds != steps {
            wrong.push(format!("{task} {url}: {kinds:?} instead of {steps:?}"));
        }
        let written = outputs.remove(task).unwrap_or_default();
        let distinct: BTreeSet<_> = written.iter().collect();
        if written.len() != pages || distinct.len() != pages {
            wrong.push(format!("{task} {url}: wrote {written:?} instead of {pages}"));
        }
        let rest: Vec<_> = letters.remove(task).unwrap_or_default().iter().map(|f| (f.class, f.attempts)).collect();
        if rest != letter.into_iter().collect::<Vec<_>>() {
            wrong.push(format!("{task} {url}: letters {rest:?} instead of {letter:?}"));
        }
        // Each attempt went up the ladder: tier and attempt rise together.
        let mut climbed = retries.remove(task).unwrap_or_default();
        climbed.retain(|_| kind != "park");
        climbed.sort_unstable();
        let ladder: Vec<(usize, i64)> =
            (0..steps.iter().filter(|s| **s == Retried).count()).map(|t| (t, t as i64 + 1)).collect();
        if climbed != ladder {
            wrong.push(format!("{task} {url}: climbed {climbed:?} instead of {ladder:?}"));
        }
    }
    for (task, e) in by_task {
        wrong.push(format!("{task} is no input, but has {} events", e.len()));
    }
    wrong
}

/// Each wait is its rung of the ladder, and nothing is tried before its time.
async fn waits_are_as_long_as_the_ladder_says(log: &dyn Transport) {
    let mut by_task: HashMap<String, Vec<StatusEvent>> = HashMap::new();
    for e in events(log).await {
        by_task.entry(e.task.clone()).or_default().push(e);
    }
    for steps in by_task.values_mut() {
        steps.sort_by_key(|e| e.at);
        let retried = steps.iter().filter(|e| e.outcome == OutcomeKind::Retried);
        for (i, e) in retried.enumerate() {
            let waited = e.until.unwrap() - e.at;
            assert_eq!(waited, DELAYS[i].as_millis() as i64, "{e:?}");
            let next = steps.iter().find(|n| n.attempt == e.attempt + 1).unwrap();
            assert!(next.at >= e.until.unwrap(), "tried {} ms too early", e.until.unwrap() - next.at);
        }
    }
}

/// Inputs of every kind on every lane, and what is expected of them.
fn inputs(count: usize) -> (Vec<Outgoing>, BTreeMap<String, String>) {
    let (mut records, mut urls) = (vec![], BTreeMap::new());
    for i in 0..count {
        // A deadline costs 0.4 s four times over, so there are few.
        let kind = if i % 101 == 50 { "deadline" } else { KINDS[i % KINDS.len()] };
        let url = format!("http://host/{kind}/{i}");
        records.push(input(topology::stage(StageName::Fetch).inputs[i % 3].topic, i, &url));
        urls.insert(format!("task-{i}"), url);
    }
    (records, urls)
}

/// Runners come, stop and crash at random for some seconds, and at times all of them look dead to the next, which takes
/// over while they still work; the last ones finish. Returns the crashes.
async fn chaos(file: &SqliteLog, open: impl Fn() -> Arc<dyn Transport>, inputs: Vec<Outgoing>) -> usize {
    let (log, count) = (file.handle(), inputs.len());
    let feed = Arc::clone(&log);
    // Work comes as long as there are crashes.
    let feeding = tokio::spawn(async move {
        for chunk in inputs.chunks(40) {
            feed.append(chunk.to_vec()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let handler = everything();
    let mut working = vec![Working::start(open(), &handler, LIMITS), Working::start(open(), &handler, LIMITS)];
    let mut crashes = 0;
    while !feeding.is_finished() {
        let zombies = if rand::random_ratio(1, 3) { Some(file.stall_members().await) } else { None };
        if zombies.is_some() {
            working.push(Working::start(open(), &handler, LIMITS));
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(30..350))).await;
        if working.len() > 4 {
            working.swap_remove(0).stop().await;
        }
        let which = rand::random_range(0..working.len());
        let one = working.swap_remove(which);
        if rand::random_ratio(3, 4) {
            one.crash().await;
            crashes += 1;
        } else {
            one.stop().await;
        }
        working.push(Working::start(open(), &handler, LIMITS));
        drop(zombies);
    }
    ended(&*log, count).await;
    for w in working {
        w.stop().await;
    }
    crashes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_each_input_ends_once() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let (records, inputs) = inputs(3_000);
    let crashes = chaos(&file, || file.handle(), records).await;
    assert!(crashes >= 3, "only {crashes} crashes");
    let wrong = audit(&*log, &inputs).await;
    assert!(wrong.is_empty(), "{} of {} are wrong: {:#?}", wrong.len(), inputs.len(), &wrong[..wrong.len().min(10)]);
    waits_are_as_long_as_the_ladder_says(&*log).await;
    // Everything read is committed: nothing is left to do.
    let lag: i64 = file.plain().query_row("SELECT sum(lag) FROM lag", [], |r| r.get(0)).unwrap();
    assert_eq!(lag, 0);
    // Nothing is silent: every record of every topic the stage reads has one event, but for those that were moved from
    // one wait to the next before their time.
    let told = events(&*log).await;
    let waits = told.iter().filter(|e| matches!(e.outcome, OutcomeKind::Retried | OutcomeKind::Parked)).count();
    let (mut admitted, mut waited) = (0, 0);
    for (topic, _) in topology::stage(StageName::Fetch).subscribed() {
        let records = read_all(&*log, &full(&topic)).await.len();
        admitted += records;
        waited += if topic.contains(".retry.") { records } else { 0 };
    }
    let moved_on = waited - waits;
    assert_eq!(told.len(), admitted - moved_on);
    assert_eq!(told.len() - waits, inputs.len());
}

/// A transport that spoils some things; everything else goes through.
struct Spoiled {
    inner: Arc<dyn Transport>,
    /// Assignments come without their map.
    forget_maps: bool,
    /// While true, commits write nothing and say so.
    full: Arc<AtomicBool>,
}

struct SpoiledMember {
    inner: Box<dyn Member>,
    forget_maps: bool,
    full: Arc<AtomicBool>,
}

#[async_trait]
impl Transport for Spoiled {
    fn name(&self) -> &'static str {
        "spoiled"
    }
    async fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        self.inner.create_topics(topics).await
    }
    async fn describe_topics(&self, topics: &[String]) -> Result<Vec<TopicState>> {
        self.inner.describe_topics(topics).await
    }
    async fn grow_topics(&self, topics: &[String], partitions: u32) -> Result<()> {
        self.inner.grow_topics(topics, partitions).await
    }
    async fn configure_topic(&self, topic: &str, settings: &BTreeMap<String, String>) -> Result<()> {
        self.inner.configure_topic(topic, settings).await
    }
    async fn join(&self, group: &str, topics: &[String]) -> Result<Box<dyn Member>> {
        let inner = self.inner.join(group, topics).await?;
        Ok(Box::new(SpoiledMember { inner, forget_maps: self.forget_maps, full: Arc::clone(&self.full) }))
    }
    async fn append(&self, records: Vec<Outgoing>) -> Result<()> {
        self.inner.append(records).await
    }
    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>> {
        self.inner.bounds(topic).await
    }
    async fn offsets_at(&self, topic: &str, time: i64) -> Result<Vec<(i32, i64)>> {
        self.inner.offsets_at(topic, time).await
    }
    async fn delete_before(&self, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        self.inner.delete_before(topic, offsets).await
    }
    async fn read(&self, at: &TopicPartition, from: i64, records: usize, bytes: usize) -> Result<Vec<Incoming>> {
        self.inner.read(at, from, records, bytes).await
    }
    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64, String)>> {
        self.inner.progress(group, topic).await
    }
    async fn changed(&self, timeout: Duration) {
        self.inner.changed(timeout).await;
    }
    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await
    }
}

#[async_trait]
impl Member for SpoiledMember {
    async fn next(&mut self) -> Result<Event> {
        let mut event = self.inner.next().await?;
        if let (Event::Assigned(list), true) = (&mut event, self.forget_maps) {
            list.iter_mut().for_each(|a| a.map.clear());
        }
        Ok(event)
    }
    fn pause(&mut self, at: &TopicPartition) {
        self.inner.pause(at);
    }
    fn resume(&mut self, at: &TopicPartition) {
        self.inner.resume(at);
    }
    fn commit(&mut self, batch: Arc<Batch>) -> BoxFuture<'static, Committed> {
        if self.full.load(Ordering::Relaxed) {
            return async { Committed::Aborted("the disk is full".into()) }.boxed();
        }
        self.inner.commit(batch)
    }
    async fn release(&mut self, partitions: &[TopicPartition]) {
        self.inner.release(partitions).await;
    }
    async fn leave(self: Box<Self>) {
        self.inner.leave().await;
    }
}

/// The proof that the ledger can tell: without the map, what was done beyond base is done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_map_the_ledger_shows_repeats() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let (records, inputs) = inputs(3_000);
    let open = || -> Arc<dyn Transport> {
        Arc::new(Spoiled { inner: file.handle(), forget_maps: true, full: Arc::default() })
    };
    chaos(&file, open, records).await;
    let wrong = audit(&*log, &inputs).await;
    assert!(!wrong.is_empty(), "crashes without a map went unnoticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_by_itself_once_the_disk_has_space_again() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let full_disk = Arc::new(AtomicBool::new(false));
    let spoiled = Spoiled { inner: file.handle(), forget_maps: false, full: Arc::clone(&full_disk) };
    let (records, inputs) = inputs(1_000);
    log.append(records).await.unwrap();
    let working = Working::start(Arc::new(spoiled), &everything(), LIMITS);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        full_disk.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(600)).await;
        full_disk.store(false, Ordering::Relaxed);
    }
    ended(&*log, inputs.len()).await;
    working.stop().await;
    assert_eq!(audit(&*log, &inputs).await, [] as [String; 0]);
}

/// The same on a real one, which a test cannot make for itself everywhere:
/// `mount -t tmpfs -o size=40m tmpfs /mnt/small && TIDEMILL_SMALL_DISK=/mnt/small cargo test -- --ignored real_disk`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TIDEMILL_SMALL_DISK, a folder on a file system of about 40 MB"]
async fn work_goes_on_after_a_real_disk_was_full() {
    let small = std::env::var_os("TIDEMILL_SMALL_DISK").expect("TIDEMILL_SMALL_DISK is not set");
    let file = SqliteLog { folder: tempfile::tempdir_in(&small).unwrap() };
    let log = file.handle();
    create(&*log).await;
    let (records, inputs) = inputs(1_500);
    log.append(records).await.unwrap();
    let working = Working::start(file.handle(), &everything(), LIMITS);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let ballast = file.folder.path().join("ballast");
    std::fs::write(&ballast, vec![1; 64 << 20]).unwrap_err();
    // What is known to be full: the log cannot grow either.
    let e = loop {
        match log.append(vec![common::placed(&full("documents"), 0, vec![7; 20_000])]).await {
            Ok(()) => {}
            Err(e) => break e,
        }
    };
    assert!(e.to_string().contains("is full: free some space"), "{e}");
    let before = events(&*log).await.len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(before > 0, "the disk was full before anything was done");
    assert_eq!(events(&*log).await.len(), before);
    assert!(audit(&*log, &inputs).await.len() > 100, "all was done before the disk was full");
    std::fs::remove_file(&ballast).unwrap();
    ended(&*log, inputs.len()).await;
    working.stop().await;
    assert_eq!(audit(&*log, &inputs).await, [] as [String; 0]);
}

/// One runner, one record in flight at a time, all three lanes full: admissions follow the weights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_are_admitted_by_weight() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let order = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&order);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let handler = stage(move |url, _| {
        let (url, seen, gate) = (url.to_owned(), Arc::clone(&seen), Arc::clone(&opened));
        async move {
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
            seen.lock().unwrap().push(url);
            Outcome::Done
        }
        .boxed()
    });
    let lanes = [topology::URLS_HIGH, topology::URLS, topology::URLS_BULK];
    let mut records = vec![];
    for i in 0..300 {
        records.extend(lanes.map(|lane| input(lane, i, &format!("http://{lane}/"))));
    }
    let limits = Limits { in_flight: 1, commit_interval: Duration::ZERO, ..LIMITS };
    // The first record holds the only place until every lane has arrived.
    log.append(vec![input(lanes[2], 0, "http://first/")]).await.unwrap();
    let working = Working::patient(file.handle(), &handler, limits, Duration::from_secs(30));
    tokio::time::sleep(Duration::from_millis(700)).await;
    log.append(records).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    gate.add_permits(1 + 130);
    eventually("130 admissions", async || order.lock().unwrap().len() > 130).await;
    let order: Vec<String> = order.lock().unwrap()[1..131].to_vec();
    let count = |lane: &str| order.iter().filter(|u| u.contains(&format!("//{lane}/"))).count() as i64;
    for (lane, share) in lanes.into_iter().zip([80, 40, 10]) {
        assert!((count(lane) - share).abs() <= 2, "{lane}: {} instead of {share}", count(lane));
    }
    gate.add_permits(10_000);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_record_holds_up_no_other() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let gate = Arc::new(tokio::sync::Notify::new());
    let held = Arc::clone(&gate);
    let handler = stage(move |url, _| {
        let (slow, held) = (url.ends_with("slow"), Arc::clone(&held));
        async move {
            if slow {
                held.notified().await;
            }
            Outcome::Done
        }
        .boxed()
    });
    // All of one key, so all of one partition; the slow one is the first.
    let one_host = |i: usize| Outgoing { key: Some("host".into()), ..input("urls", i, "http://host/fast") };
    let mut records = vec![Outgoing { key: Some("host".into()), ..input("urls", 0, "http://host/slow") }];
    records.extend((1..800).map(one_host));
    log.append(records).await.unwrap();
    let working = Working::patient(file.handle(), &handler, LIMITS, PATIENCE);
    ended(&*log, 799).await;
    let base = |progress: Vec<(i32, i64, String)>| progress.iter().map(|p| p.1).max();
    let group = full("fetch");
    let committed = log.progress(&group, &full("urls")).await.unwrap();
    assert_eq!(base(committed), Some(0), "the slow record is the base");
    // A crash now repeats the slow one alone.
    working.crash().await;
    let working = Working::patient(file.handle(), &handler, LIMITS, PATIENCE);
    tokio::time::sleep(Duration::from_secs(1)).await;
    gate.notify_one();
    ended(&*log, 800).await;
    working.stop().await;
    let tasks: BTreeSet<String> = events(&*log).await.into_iter().map(|e| e.task).collect();
    assert_eq!((tasks.len(), events(&*log).await.len()), (800, 800));
    assert_eq!(base(log.progress(&group, &full("urls")).await.unwrap()), Some(800));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_in_flight_than_allowed() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (n, m) = (Arc::clone(&now), Arc::clone(&most));
    let handler = stage(move |url, _| {
        let (url, n, m) = (url.to_owned(), Arc::clone(&n), Arc::clone(&m));
        async move {
            m.fetch_max(n.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            n.fetch_sub(1, Ordering::SeqCst);
            Outcome::Emit(vec![page(&url)])
        }
        .boxed()
    });
    let records = |from| (from..from + 300).map(|i| input("urls", i, &format!("http://h/{i}"))).collect::<Vec<_>>();
    log.append(records(0)).await.unwrap();
    let working = Working::start(file.handle(), &handler, Limits { in_flight: 7, ..LIMITS });
    ended(&*log, 300).await;
    working.stop().await;
    assert_eq!(most.swap(0, Ordering::SeqCst), 7);
    // A limit of bytes holds as well: one more is let in while there is room for any.
    log.append(records(300)).await.unwrap();
    let size = 500;
    let working = Working::start(file.handle(), &handler, Limits { in_flight_bytes: size, ..LIMITS });
    ended(&*log, 600).await;
    working.stop().await;
    let most = most.load(Ordering::SeqCst);
    assert!((1..=6).contains(&most), "{most} records of more than 80 bytes within {size}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_what_runs_and_gives_up_after_the_grace_time() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let started = Arc::new(AtomicUsize::new(0));
    let s = Arc::clone(&started);
    let handler = stage(move |url, _| {
        let time = if url.ends_with("long") { PATIENCE } else { Duration::from_millis(500) };
        s.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(time).await;
            Outcome::Done
        }
        .boxed()
    });
    log.append((0..20).map(|i| input("urls", i, "http://h/short")).collect()).await.unwrap();
    log.append(vec![input("urls", 20, "http://h/long")]).await.unwrap();
    let limits = Limits { grace: Duration::from_millis(1500), ..LIMITS };
    let working = Working::patient(file.handle(), &handler, limits, PATIENCE * 2);
    eventually("all in progress", async || started.load(Ordering::SeqCst) == 21).await;
    assert_eq!(events(&*log).await.len(), 0);
    let asked = Instant::now();
    working.stop().await;
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(events(&*log).await.len(), 20, "the short ones are finished and committed");
    // The long one was given up without an outcome: it is there for the next runner, and the group is free at once.
    let working = Working::patient(file.handle(), &handler, limits, PATIENCE * 2);
    let again = Instant::now();
    eventually("the long one again", async || started.load(Ordering::SeqCst) == 22).await;
    assert!(again.elapsed() < Duration::from_secs(3));
    working.crash().await;
}
