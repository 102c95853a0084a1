//! The whole pipeline over the demo web, in this process, once; each test looks at another side of what came of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the listener that must not be reached has a thread of its own")]

mod whole;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidemill::config::Config;
use tidemill::demo::{Expectation, Options, Site, Target};
use tidemill::engine::offset_map;
use tidemill::engine::route::MOVED;
use tidemill::jobs::{Lane, NewJob, Tracker, submit};
use tidemill::pipeline::Pipeline;
use tidemill::record::headers::{self, Headers};
use tidemill::record::letter::{self, Failure};
use tidemill::record::{Enriched, FailureClass, OutcomeKind, StatusEvent, UrlTask, codec};
use tidemill::telemetry;
use tidemill::topology::{DOCUMENTS, ENRICHED, Ladder, PAGES, STAGES, STATUS, StageName, URLS, topics};
use tidemill::transport::tail::{From, Tail};
use tidemill::transport::{Incoming, Outgoing};
use tokio_util::sync::CancellationToken;
use whole::server::{Reply, Server};
use whole::{count, decoded, eventually, records};

/// The demo's 20 ms are too short to be told from a busy machine's delays.
const DELAY: Duration = Duration::from_millis(250);
/// What a busy machine may take from a distance between two arrivals.
const JITTER: Duration = Duration::from_millis(150);
/// What `later` asks for: longer than the first rung of the quick ladder (2 s).
const LATER: u64 = 4;

/// All there is to know of one run.
struct Run {
    site: Site,
    targets: Vec<Target>,
    events: Vec<StatusEvent>,
    documents: Vec<Enriched>,
    letters: Vec<(StageName, Incoming)>,
    /// Every record of every topic (without prefix).
    topics: BTreeMap<String, Vec<Incoming>>,
    /// Stage, topic, partition: not yet done.
    lags: Vec<(StageName, String, i32, i64)>,
    /// Asks for patience.
    later: Server,
    /// What was put on `urls` besides the job.
    raw: Vec<Outgoing>,
    /// Connections to an address that is blocked.
    inside: Arc<AtomicUsize>,
    inside_url: String,
    /// In flight by stage, as the gauge has it in the end.
    exposition: String,
    _runtime: tokio::runtime::Runtime,
}

static RUN: LazyLock<Run> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = runtime.block_on(crawl());
    Run { _runtime: runtime, ..run }
});

async fn crawl() -> Run {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(Options::default()).unwrap();
    // It is on this machine and would answer, but only 127.0.0.1 is allowed.
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let inside_url = format!("http://{}/", listener.local_addr().unwrap());
    let inside = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&inside);
    std::thread::spawn(move || listener.incoming().for_each(|_| _ = counted.fetch_add(1, Ordering::SeqCst)));
    let (port, inside_port) = (site.address().port(), inside_url.split([':', '/']).nth(4).unwrap().to_owned());
    let to_inside = inside_url.clone();
    let later = Server::start(move |path, hit| match (path, hit) {
        ("/later", 1) => Reply(429, vec![("Retry-After", LATER.to_string())], String::new()),
        ("/never", _) => Reply(429, vec![("Retry-After", "31536000".into())], String::new()),
        ("/inside", _) => Reply(302, vec![("Location", to_inside.clone())], String::new()),
        (path, _) => Reply::page(&format!("tide gauge {path}")),
    });

    let mut config = tidemill::cli::demo::settings(Config::default(), &site);
    config.data = dir.path().to_owned();
    config.fetch.delay = DELAY;
    config.fetch.resolve.insert("inside.demo.test".into(), "127.0.0.2".parse().unwrap());
    // Another host name for the patient server, so that its paths do not hold each other up.
    config.fetch.resolve.insert("never.demo.test".into(), "127.0.0.1".parse().unwrap());
    let mut targets = site.urls();
    let more = |url: String, expect, note| Target { url, expect, note };
    let blocked = Expectation::Dead("blocked-address");
    targets.extend([
        more(later.url("/later"), Expectation::Indexed, "asks to wait"),
        more(
            format!("http://never.demo.test:{}/never", later.address.port()),
            Expectation::Dead("http-429"),
            "asks to wait for a year",
        ),
        more(inside_url.clone(), blocked, "a blocked address, by number"),
        more(format!("http://inside.demo.test:{inside_port}/"), blocked, "a blocked address, by name"),
        more(later.url("/inside"), blocked, "a blocked address, by redirect"),
        more("http://0x7f.0.0.2/".into(), blocked, "a blocked address, in another spelling"),
        more("file:///etc/passwd".into(), Expectation::DeadOneOf(&["blocked-address", "invalid-url"]), "a file"),
    ]);

    let pipeline = Arc::new(Pipeline::open(config).await.unwrap());
    let (transport, names) = (Arc::clone(&pipeline.transport), pipeline.names.clone());
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run(&StageName::ALL, Ladder::Quick, stop).await }
    });

    // What producers that know nothing of jobs send: garbage with old failure headers, JSON, a bare URL.
    let odd = Headers(vec![
        ("x-raw".into(), Bytes::from_static(&[0xff, 0x00, 0xfe])),
        ("x-twice".into(), Bytes::from_static(b"1")),
        ("x-twice".into(), Bytes::from_static(b"2")),
        (letter::TOPIC.into(), Bytes::from_static(b"somewhere.else")),
        (letter::CLASS.into(), Bytes::from_static(b"dns")),
    ]);
    let put = |key: Option<&'static [u8]>, value: Vec<u8>, headers: Headers| Outgoing {
        tombstone: false,
        topic: names.full(URLS).into(),
        partition: Some(3),
        key: key.map(Bytes::from_static),
        value: value.into(),
        headers,
    };
    let json = serde_json::json!({"url": format!("http://news.demo.test:{port}/raw-json"), "crawlid": "c"});
    let raw = vec![
        put(Some(&[0x80, 0x00]), vec![0xC3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff], odd),
        put(None, b"\xff\xfe not text".to_vec(), Headers::default()),
        put(None, br#"{"url": 5}"#.to_vec(), Headers::default()),
        put(Some(b"news"), json.to_string().into_bytes(), Headers::default()),
        put(None, format!("http://load-1.demo.test:{port}/gen/1").into_bytes(), Headers::default()),
    ];
    transport.append(raw.clone()).await.unwrap();
    let new = NewJob { id: "test".into(), source: "test".into(), lane: Lane::Normal };
    let tasks: Vec<UrlTask> = targets.iter().map(|t| UrlTask::new(t.url.clone())).collect();
    submit(&*transport, &names, &new, tasks).await.unwrap();

    let mut tail = Tail::new(&*transport, &names.full(STATUS), From::Start).await.unwrap();
    let (mut tracker, mut events, mut alone) = (Tracker::all(), vec![], 0);
    let until = Instant::now() + Duration::from_secs(150);
    loop {
        let new = tail.poll(&*transport).await.unwrap().unwrap_or_default();
        for e in new.iter().map(|r| codec::decode::<StatusEvent>(&r.value).unwrap()) {
            tracker.fold(&e);
            alone += usize::from(e.job.is_none() && e.outcome.is_final());
            events.push(e);
        }
        let finished = (tracker.get("test").map_or(0, |p| p.finished), alone);
        if finished == (targets.len() as u64, raw.len()) {
            break;
        }
        assert!(Instant::now() < until && !running.is_finished(), "finished {finished:?} of {}", targets.len());
        transport.changed(Duration::from_millis(200)).await;
    }
    // Anything that comes after everything has ended would be done twice.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let rest = tail.poll(&*transport).await.unwrap();
    assert!(rest.is_none(), "events after the end: {rest:?}");

    let mut all = BTreeMap::new();
    for t in topics() {
        all.insert(t.name.clone(), records(&*transport, &names, &t.name).await);
    }
    let (mut letters, mut lags) = (vec![], vec![]);
    for def in &STAGES {
        letters.extend(all[&def.dlq()].iter().map(|r| (def.name, r.clone())));
        for (topic, _) in def.subscribed() {
            let done = transport.progress(&names.full(def.name.as_str()), &names.full(&topic)).await.unwrap();
            for b in transport.bounds(&names.full(&topic)).await.unwrap() {
                let committed = done.iter().find(|(p, _, _)| *p == b.partition);
                let lag = match committed {
                    Some((_, base, map)) => {
                        let beyond = offset_map::decode(*base, map).expect("a map that can be read");
                        b.end - base - (beyond.high - base + 1 - beyond.incomplete.len() as i64)
                    }
                    None => b.end - b.start,
                };
                lags.push((def.name, topic.clone(), b.partition, lag));
            }
        }
    }
    Run {
        documents: decoded(&*transport, &names, ENRICHED).await,
        site,
        targets,
        events,
        letters,
        topics: all,
        lags,
        later,
        raw,
        inside,
        inside_url,
        exposition: telemetry::exposition(),
        _runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
    }
}

impl Run {
    /// The n-th target is the task <job>-<n+1>.
    fn task(&self, n: usize) -> String {
        static JOB: LazyLock<String> = LazyLock::new(|| RUN.events.iter().find_map(|e| e.job.clone()).unwrap());
        format!("{}-{}", *JOB, n + 1)
    }

    /// The one target with this ending of its URL.
    fn target(&self, ending: &str) -> usize {
        let found: Vec<_> = (0..self.targets.len()).filter(|n| self.targets[*n].url.ends_with(ending)).collect();
        assert_eq!(found.len(), 1, "{ending}");
        found[0]
    }

    /// Where a task's way ended: there is exactly one such event.
    fn end(&self, task: &str) -> &StatusEvent {
        let ends: Vec<_> = self.events.iter().filter(|e| e.task == task && e.outcome.is_final()).collect();
        assert_eq!(ends.len(), 1, "{task}: {ends:?}");
        ends[0]
    }

    fn document(&self, ending: &str) -> &Enriched {
        let url = &self.targets[self.target(ending)].url;
        let found: Vec<_> = self.documents.iter().filter(|d| d.url == *url).collect();
        assert_eq!(found.len(), 1, "{url}");
        found[0]
    }

    fn letter(&self, task: &str) -> (&Incoming, Failure) {
        let mine = |r: &&(StageName, Incoming)| r.1.headers.str(headers::TASK) == Some(task);
        let found: Vec<_> = self.letters.iter().filter(mine).collect();
        assert_eq!(found.len(), 1, "{task}");
        (&found[0].1, Failure::read(&found[0].1.headers).expect("a letter says why"))
    }

    fn steps(&self, task: &str, outcome: OutcomeKind) -> usize {
        self.events.iter().filter(|e| e.task == task && e.outcome == outcome).count()
    }

    /// The record a task began as, or a later one of it in another topic.
    fn records_of(&self, topic: &str, task: &str) -> usize {
        self.topics[topic].iter().filter(|r| r.headers.str(headers::TASK) == Some(task)).count()
    }
}

fn fate(e: &StatusEvent) -> String {
    match (e.outcome, e.stage.as_str()) {
        (OutcomeKind::Done, "index") => "indexed".into(),
        (OutcomeKind::Dropped, _) => format!("dropped {}", e.class.as_deref().unwrap()),
        (OutcomeKind::DeadLettered, _) => format!("dead {}", e.class.as_deref().unwrap()),
        other => format!("{other:?}"),
    }
}

/// Records of a stage and outcome in /metrics, over all classes.
fn counted(exposition: &str, stage: &str, outcome: &str) -> u64 {
    let (stage, outcome) = (format!("stage=\"{stage}\""), format!("outcome=\"{outcome}\""));
    let mine = exposition.lines().filter(|l| l.starts_with("tidemill_records_total{"));
    let mine = mine.filter(|l| l.contains(&stage) && l.contains(&outcome));
    mine.filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn every_target_ends_as_expected_and_of_duplicates_exactly_one_is_indexed() {
    let run = &*RUN;
    let (mut groups, mut wrong) = (HashMap::<_, Vec<String>>::new(), vec![]);
    for (n, target) in run.targets.iter().enumerate() {
        let fate = fate(run.end(&run.task(n)));
        let good = match target.expect {
            Expectation::Indexed => fate == "indexed",
            Expectation::Dropped(reason) => fate == format!("dropped {reason}"),
            Expectation::Dead(class) => fate == format!("dead {class}"),
            Expectation::DeadOneOf(classes) => classes.iter().any(|c| fate == format!("dead {c}")),
            Expectation::Duplicate { group, reason } => {
                groups.entry(group).or_default().push(fate.clone());
                fate == "indexed" || fate == format!("dropped {reason}")
            }
        };
        if !good {
            wrong.push((fate, target));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(groups.len() >= 2);
    for (group, fates) in groups {
        assert!(fates.len() >= 2 && fates.iter().filter(|f| *f == "indexed").count() == 1, "{group}: {fates:?}");
    }
}

#[test]
fn what_is_indexed_is_in_enriched_once_and_nothing_else_is() {
    let run = &*RUN;
    // A page that is gone ends at the index too, as a tombstone.
    let ends = |e: &&StatusEvent| matches!(&*fate(e), "indexed" | "dropped gone");
    let indexed: BTreeSet<_> = run.events.iter().filter(ends).map(|e| e.task.clone()).collect::<BTreeSet<_>>();
    let enriched = count(run.topics[ENRICHED].iter().map(|r| r.headers.str(headers::TASK).unwrap().to_owned()));
    assert!(enriched.keys().eq(indexed.iter()));
    assert!(enriched.values().all(|n| *n == 1), "{enriched:?}");
    let whole = |d: &Enriched| d.words > 0 && !d.text_hash.is_empty();
    assert!(run.documents.iter().all(|d| d.gone != whole(d) && d.fetched_at > 0));
    assert_eq!(run.documents.iter().filter(|d| d.gone).count(), 1);
}

#[test]
fn every_record_admitted_has_an_outcome() {
    let run = &*RUN;
    for def in &STAGES {
        let of = |o: OutcomeKind| {
            run.events.iter().filter(|e| e.stage == def.name.as_str() && e.outcome == o).collect::<Vec<_>>()
        };
        let inputs: usize = def.inputs.iter().map(|i| run.topics[i.topic].len()).sum();
        let ends: usize = [OutcomeKind::Emitted, OutcomeKind::Done, OutcomeKind::Dropped, OutcomeKind::DeadLettered]
            .map(|o| of(o).len())
            .iter()
            .sum();
        // A record without its host as key is first put where that belongs: in once more.
        let moved = of(OutcomeKind::Parked).iter().filter(|e| e.class.as_deref() == Some(MOVED)).count();
        assert_eq!(inputs, ends + moved, "{}: records in, records ended", def.name);
        // What was put back came through its retry topics; a record may move between them without an event.
        let waited: usize = (0..4).map(|t| run.topics[&def.retry(t)].len()).sum();
        assert!(waited + moved >= of(OutcomeKind::Retried).len() + of(OutcomeKind::Parked).len(), "{}", def.name);
        let emitted: i32 = of(OutcomeKind::Emitted).iter().map(|e| e.emitted).sum();
        let outputs: usize = match def.name {
            // Redirects go back to the topic that people submit to.
            StageName::Fetch => run.topics[PAGES].len() + inputs - moved - run.targets.len() - run.raw.len(),
            StageName::Extract => run.topics[DOCUMENTS].len(),
            StageName::Enrich => run.topics[ENRICHED].len(),
            StageName::Index => 0,
        };
        assert_eq!(emitted as usize, outputs, "{}: records handed on", def.name);
        assert_eq!(run.topics[&def.dlq()].len(), of(OutcomeKind::DeadLettered).len());
        // The counters of /metrics count the same.
        for outcome in OutcomeKind::ALL {
            let counted = counted(&run.exposition, def.name.as_str(), outcome.as_str());
            assert_eq!(counted, of(outcome).len() as u64, "{} {}", def.name, outcome.as_str());
        }
        let gauge = format!("tidemill_in_flight_records{{stage=\"{}\"}} 0", def.name);
        assert!(run.exposition.lines().any(|l| l == gauge), "{gauge}\n{}", run.exposition);
    }
    assert!(run.topics["urls"].len() > run.targets.len(), "redirects were counted");
}

#[test]
fn nothing_waits_in_any_input_of_any_stage() {
    let run = &*RUN;
    let waiting: Vec<_> = run.lags.iter().filter(|(_, _, _, lag)| *lag != 0).collect();
    assert!(waiting.is_empty(), "{waiting:?}");
    // Three lanes, pages, documents, enriched, and four retry topics a stage, of twelve partitions.
    assert_eq!(run.lags.len(), (6 + 16) * 12);
}

#[test]
fn letters_carry_the_record_as_it_came() {
    let run = &*RUN;
    assert!(run.letters.len() >= 30);
    for (stage, letter) in &run.letters {
        let failure = Failure::read(&letter.headers).unwrap();
        assert_eq!(failure.stage, stage.as_str());
        let topic = failure.topic.strip_prefix("tidemill.").unwrap();
        let came = run.topics[topic].iter();
        let came =
            came.into_iter().find(|r| (r.at.partition, r.offset) == (failure.partition, failure.offset)).unwrap();
        assert_eq!((&letter.key, &letter.value), (&came.key, &came.value), "{failure:?}");
        let kept = letter::strip(&letter.headers).0;
        let original = letter::strip(&came.headers).0;
        assert_eq!(kept[..original.len()], original[..], "{failure:?}");
        // A record that came without an id gets one, so that its way can be followed.
        assert!(kept[original.len()..].iter().all(|(n, _)| n.starts_with("tidemill.") || n == headers::TRACEPARENT));
        let fingerprint = letter.headers.str(letter::FINGERPRINT).unwrap();
        assert!(fingerprint.len() == 16 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()), "{fingerprint}");
        assert!(!failure.message.is_empty() && failure.at > 0, "{failure:?}");
        assert_eq!(
            failure.attempts,
            if failure.class.retried() && failure.attempts > 1 { 4 } else { 1 },
            "{failure:?}"
        );
        // One value of each failure header, however many the record came with.
        for name in [letter::TOPIC, letter::CLASS, letter::FINGERPRINT] {
            assert_eq!(letter.headers.0.iter().filter(|(n, _)| n == name).count(), 1);
        }
        let event = run.end(letter.headers.str(headers::TASK).unwrap());
        assert_eq!(event.class.as_deref(), Some(failure.class.as_str()));
    }
}

#[test]
fn a_letter_after_four_attempts_still_has_the_bytes_of_the_first() {
    let run = &*RUN;
    let n = run.target("errors.demo.test:PORT/down".replace("PORT", &run.site.address().port().to_string()).as_str());
    let (letter, failure) = run.letter(&run.task(n));
    assert_eq!(failure.attempts, 4);
    let first = run.topics[URLS].iter().find(|r| r.headers.str(headers::TASK) == Some(&run.task(n))).unwrap();
    assert_eq!((&letter.key, &letter.value), (&first.key, &first.value));
    for (name, value) in &first.headers.0 {
        assert_eq!(letter.headers.get(name), Some(value), "{name}");
    }
    assert_eq!(run.steps(&run.task(n), OutcomeKind::Retried), 3);
    assert_eq!(run.site.hits("http://errors.demo.test/down"), 4);
}

#[test]
fn garbage_on_urls_is_a_letter_byte_for_byte_and_json_and_bare_urls_are_taken() {
    let run = &*RUN;
    let of = |n: usize| {
        let sent = &run.raw[n];
        let r = run.topics[URLS].iter().find(|r| r.value == sent.value && r.headers == sent.headers).unwrap();
        (sent, format!("tidemill.urls-{}-{}", r.at.partition, r.offset))
    };
    for n in 0..3 {
        let (sent, task) = of(n);
        let (letter, failure) = run.letter(&task);
        assert_eq!((&letter.key, &letter.value), (&sent.key, &sent.value));
        assert_eq!((failure.class, failure.attempts), (FailureClass::Decode, 1));
    }
    let (sent, task) = of(0);
    let (letter, failure) = run.letter(&task);
    assert_eq!(letter.headers.0[..3], sent.headers.0[..3], "raw bytes and repeated names");
    assert_eq!(failure.topic, "tidemill.urls", "the old failure headers are replaced");
    // No page of the site, but a task with all its fields.
    assert_eq!(fate(run.end(&of(3).1)), "dead http-4xx");
    assert_eq!(fate(run.end(&of(4).1)), "indexed");
}

/// Every stretch of a host's requests, not only neighbours: a pace that creeps shows in the long ones.
#[track_caller]
fn paced(arrivals: &[Instant], delay: Duration, host: &str) {
    for i in 0..arrivals.len() {
        for j in i + 1..arrivals.len() {
            let least = (delay * (j - i) as u32).saturating_sub(JITTER);
            let took = arrivals[j] - arrivals[i];
            assert!(took >= least, "{host}: requests {i} to {j} came within {took:?}, not {least:?}");
        }
    }
}

#[test]
fn no_host_is_asked_more_often_than_its_delay_allows() {
    let run = &*RUN;
    let mut requests = 0;
    for host in run.site.names() {
        let arrivals = run.site.timeline(&host);
        requests += arrivals.len();
        paced(&arrivals, DELAY, &host);
    }
    assert!(requests > 300, "{requests}");
    let patient = run.site.timeline("patient.demo.test");
    assert_eq!(patient.len(), 4);
    // Its robots.txt says Crawl-delay: 1.
    paced(&patient, Duration::from_secs(1), "patient");
}

#[test]
fn what_robots_txt_disallows_is_never_requested() {
    let run = &*RUN;
    let disallowed: Vec<_> = run.targets.iter().filter(|t| t.expect == Expectation::Dropped("robots")).collect();
    assert!(disallowed.len() >= 2);
    for target in disallowed {
        assert_eq!(run.site.hits(&target.url), 0, "{}", target.url);
    }
    assert_eq!(run.site.timeline("strict.demo.test").len(), 1, "the one that the longer rule allows");
    assert_eq!(run.site.hits("http://strict.demo.test/robots.txt"), 1);
}

#[test]
fn a_host_whose_robots_txt_fails_is_never_asked_for_a_page() {
    let run = &*RUN;
    assert!(run.site.timeline("norobots.demo.test").is_empty());
    // Once an attempt at most: what is known for five seconds is not asked again.
    let asked = run.site.hits("http://norobots.demo.test/robots.txt");
    assert!((2..=4).contains(&asked), "{asked}");
    let n = run.target(&format!("norobots.demo.test:{}/", run.site.address().port()));
    assert_eq!(run.letter(&run.task(n)).1.attempts, 4);
}

#[test]
fn a_host_without_robots_txt_is_crawled() {
    assert_eq!(RUN.site.timeline("open.demo.test").len(), 11);
}

#[test]
fn blocked_addresses_are_never_connected_to() {
    let run = &*RUN;
    let blocked: Vec<_> =
        (0..run.targets.len()).filter(|n| run.targets[*n].expect == Expectation::Dead("blocked-address")).collect();
    assert!(blocked.len() >= 6);
    for n in blocked {
        let (_, failure) = run.letter(&run.task(n));
        assert_eq!((failure.class, failure.attempts), (FailureClass::BlockedAddress, 1));
        let end = run.end(&run.task(n));
        assert!(end.took_ms < 1_500.0, "no time for a connection to time out: {end:?}");
    }
    assert_eq!(run.inside.load(Ordering::SeqCst), 0);
    // And it would have noticed.
    TcpStream::connect(run.inside_url.trim_start_matches("http://").trim_end_matches('/')).unwrap();
    assert!(eventually(Duration::from_secs(5), || run.inside.load(Ordering::SeqCst) == 1));
}

#[test]
fn retry_after_is_waited_for() {
    let run = &*RUN;
    let came = run.later.arrivals("/later");
    assert_eq!(came.len(), 2);
    let waited = came[1] - came[0];
    assert!(waited >= Duration::from_secs(LATER) - JITTER, "{waited:?}");
    // The other pages of that host waited too.
    let inside = run.later.arrivals("/inside");
    assert!(inside[0] < came[0] || inside[0] - came[0] >= Duration::from_secs(LATER) - JITTER);
    // A year is longer than anyone waits.
    let (_, failure) = run.letter(&run.task(run.target("/never")));
    assert_eq!((failure.class, failure.attempts), (FailureClass::Http429, 1));
    assert_eq!(run.later.arrivals("/never").len(), 1);
}

#[test]
fn a_busy_host_is_left_alone_until_the_time_it_names() {
    let run = &*RUN;
    let came = run.site.timeline("busy.demo.test");
    assert_eq!(came.len(), 4, "each page twice");
    // Both refuse once, in seconds (1) or as a date (1 to 2 s ahead); nobody comes within a second of a refusal.
    for pair in came.windows(2).take(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(1) - JITTER, "{came:?}");
    }
    for path in ["busy.demo.test/seconds", "busy.demo.test/date"] {
        assert_eq!(run.site.hits(&format!("http://{path}")), 2);
    }
}

/// A hostile answer: dead with this class after so many requests, and nothing of it went on.
#[track_caller]
fn dies(ending: &str, class: FailureClass, requests: usize) -> Failure {
    let run = &*RUN;
    let n = run.target(ending);
    let task = run.task(n);
    let (_, failure) = run.letter(&task);
    assert_eq!(failure.class, class, "{failure:?}");
    assert_eq!(failure.attempts as usize, if class.retried() { 4 } else { 1 });
    assert_eq!(run.steps(&task, OutcomeKind::Retried), if class.retried() { 3 } else { 0 });
    assert_eq!(run.site.hits(&run.targets[n].url), requests, "{}", run.targets[n].url);
    for topic in [PAGES, DOCUMENTS, ENRICHED] {
        assert_eq!(run.records_of(topic, &task), 0, "{topic}");
    }
    failure
}

/// A hostile page that has an article in it: indexed at once, with the article and without the flood.
#[track_caller]
fn survives(ending: &str) -> &'static Enriched {
    let run = &*RUN;
    let n = run.target(ending);
    assert_eq!(fate(run.end(&run.task(n))), "indexed");
    assert_eq!(run.steps(&run.task(n), OutcomeKind::Retried), 0);
    assert_eq!(run.site.hits(&run.targets[n].url), 1);
    let document = run.document(ending);
    // Articles of the demo web have 150 to 700 words.
    assert!((140..900).contains(&document.words), "{document:?}");
    assert_eq!(document.language.as_deref(), Some("en"));
    assert!(document.text.contains("\n\n"), "paragraphs stay apart");
    document
}

#[test]
fn what_pages_say_of_themselves_is_in_enriched_with_its_source() {
    let mut told = 0;
    for d in RUN.documents.iter().filter(|d| !d.gone) {
        assert_eq!(d.author, (!d.authors.is_empty()).then(|| d.authors.join(", ")));
        for (field, found) in
            [("title", d.title.is_some()), ("authors", d.author.is_some()), ("date", d.date.is_some())]
        {
            // Plain text has a title and nothing that speaks for it.
            let sure = found && d.page_kind.is_some();
            assert_eq!(
                (d.sources.contains_key(field), d.confidence.contains_key(field)),
                (found, sure),
                "{field} {d:?}"
            );
        }
        assert_eq!(d.confidence["text"].score, d.text_confidence);
        if d.sources.get("authors").is_some_and(|source| source == "json-ld") {
            told += 1;
            let structured: serde_json::Value = serde_json::from_str(d.structured.as_deref().unwrap()).unwrap();
            assert_eq!(structured["json_ld"][0]["author"]["name"].as_str(), d.author.as_deref());
        }
    }
    assert!(told > 10, "{told}");
}

#[test]
fn a_bomb_is_not_opened() {
    let failure = dies("/bomb", FailureClass::Bomb, 1);
    let end = RUN.end(&RUN.task(RUN.target("/bomb")));
    assert!(end.took_ms < 5_000.0, "{end:?} {failure:?}");
}

#[test]
fn an_oversized_body_is_cut_off() {
    dies("/oversized", FailureClass::TooLarge, 1);
}

#[test]
fn an_oversized_body_that_says_so_is_not_read() {
    dies("/declared", FailureClass::TooLarge, 1);
    let end = RUN.end(&RUN.task(RUN.target("/declared")));
    assert!(end.took_ms < 3_000.0, "{end:?}");
}

#[test]
fn an_endless_stream_ends() {
    let run = &*RUN;
    let task = run.task(run.target("/endless"));
    let (_, failure) = run.letter(&task);
    assert!(matches!(failure.class, FailureClass::TooLarge | FailureClass::Timeout), "{failure:?}");
    assert_eq!(run.records_of(PAGES, &task), 0);
    // fetch.timeout is 5 s in the demo.
    assert!(run.events.iter().filter(|e| e.task == task).all(|e| e.took_ms < 7_000.0));
}

#[test]
fn a_stalled_body_times_out() {
    dies("/stalled", FailureClass::Timeout, 4);
}

#[test]
fn a_silent_server_times_out() {
    dies("/silent", FailureClass::Timeout, 4);
}

#[test]
fn a_truncated_body_is_no_page() {
    dies("/truncated", FailureClass::Truncated, 4);
}

#[test]
fn a_chunked_body_that_is_cut_is_no_page() {
    dies("/chunk-cut", FailureClass::Truncated, 4);
}

#[test]
fn a_reset_is_a_broken_connection() {
    let run = &*RUN;
    let (_, failure) = run.letter(&run.task(run.target("/reset")));
    assert_eq!((failure.class, failure.attempts), (FailureClass::Connect, 4));
    assert!(run.site.hits("http://broken.demo.test/reset") >= 4);
}

#[test]
fn damaged_gzip_is_no_page() {
    dies(
        "broken.demo.test:PORT/gzip".replace("PORT", &RUN.site.address().port().to_string()).as_str(),
        FailureClass::Decode,
        1,
    );
}

#[test]
fn a_flood_of_headers_is_refused() {
    dies("/headers", FailureClass::TooLarge, 1);
}

#[test]
fn a_circle_of_redirects_is_seen_at_its_first_turn() {
    dies("/loop", FailureClass::RedirectLoop, 1);
    assert_eq!(RUN.site.hits("http://redirects.demo.test/loop/2"), 1);
}

#[test]
fn redirects_have_a_limit_and_each_is_a_record_of_its_own() {
    let run = &*RUN;
    let task = run.task(run.target("/countdown?left=12"));
    let (letter, failure) = run.letter(&task);
    assert_eq!(failure.class, FailureClass::RedirectLimit);
    let last: UrlTask = codec::decode(&letter.value).unwrap();
    assert_eq!(last.hops.len(), 10);
    assert_eq!(run.site.hits("http://redirects.demo.test/countdown"), 11);
    assert_eq!(run.records_of(URLS, &task), 11);
}

#[test]
fn redirects_that_end_well_keep_where_they_began() {
    let run = &*RUN;
    let port = run.site.address().port();
    let chain = run.document("/chain");
    assert_eq!(chain.final_url, format!("http://redirects.demo.test:{port}/chain/end"));
    let elsewhere = run.document("/elsewhere");
    assert_eq!(elsewhere.final_url, format!("http://news.demo.test:{port}/moved-here"));
    assert_eq!(elsewhere.host, format!("news.demo.test:{port}"));
}

#[test]
fn two_hundred_thousand_nested_elements_leave_the_article() {
    survives("/deep");
}

#[test]
fn a_hundred_thousand_attributes_leave_the_article() {
    let document = survives("/attributes");
    assert!(!document.text.contains("a99999"));
}

#[test]
fn a_flood_of_entities_leaves_the_article() {
    let document = survives("/entities");
    assert!(!document.text.contains("\u{263a}") && !document.text.contains("&notit"), "{}", document.text);
}

#[test]
fn a_page_without_a_title_is_a_page() {
    let document = survives("/untitled");
    assert_eq!(document.title, None);
}

#[test]
fn a_slow_page_is_waited_for() {
    let run = &*RUN;
    assert_eq!(run.site.hits("http://slow.demo.test/slow"), 1);
    assert!(run.document("/slow").words > 140);
    let task = run.task(run.target("/slow"));
    assert!(run.events.iter().any(|e| e.task == task && e.stage == "fetch" && e.took_ms >= 1_400.0));
}

#[test]
fn every_character_set_and_coding_reads_as_it_was_meant() {
    let run = &*RUN;
    for (ending, language, letters) in [
        ("/false-header", "pt", "ãçé"),
        ("/windows-1252", "fr", "éèà"),
        ("/shift-jis", "ja", "のをは"),
        ("/utf-16", "ru", "оеа"),
    ] {
        let document = run.document(ending);
        assert_eq!(document.language.as_deref(), Some(language), "{document:?}");
        assert!(letters.chars().all(|c| document.text.contains(c)), "{}", document.text);
        let garbled = ["Ã", "â€", "\u{fffd}", "\u{0}"].iter().find(|g| document.text.contains(**g));
        assert_eq!(garbled, None, "{}", document.text);
    }
    for coding in ["gzip", "deflate", "brotli", "zstd"] {
        let document = run.document(&format!("encoded.demo.test:{}/{coding}", run.site.address().port()));
        assert!(document.words >= 140 && document.language.as_deref() == Some("en"), "{coding}: {document:?}");
    }
}

#[test]
fn a_failure_that_passes_costs_one_more_request() {
    let run = &*RUN;
    let task = run.task(run.target("/flaky"));
    assert_eq!(run.steps(&task, OutcomeKind::Retried), 1);
    assert_eq!(run.site.hits("http://errors.demo.test/flaky"), 2);
    assert_eq!(run.end(&task).stage, "index");
}

#[test]
fn every_event_of_a_task_is_of_one_trace_and_the_ways_are_whole() {
    let run = &*RUN;
    for n in 0..run.targets.len() {
        let task = run.task(n);
        let events: Vec<_> = run.events.iter().filter(|e| e.task == task).collect();
        assert!(events.iter().all(|e| e.trace == events[0].trace && e.trace.len() == 32));
        let end = run.end(&task);
        if fate(end) == "indexed" {
            for stage in ["fetch", "extract", "enrich"] {
                assert!(events.iter().any(|e| e.stage == stage && e.outcome == OutcomeKind::Emitted), "{task} {stage}");
            }
        }
    }
    let traces: BTreeSet<_> = run.events.iter().map(|e| &e.trace).collect();
    assert_eq!(traces.len(), run.targets.len() + run.raw.len());
}
