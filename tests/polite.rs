//! Manners, by the server's own log: the distance of requests to one host, whoever makes them; a host that fails; a crowd
//! of one host's URLs beside the few of others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod whole;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidemill::config::Config;
use tidemill::jobs::{Lane, NewJob, submit};
use tidemill::pipeline::Pipeline;
use tidemill::record::{OutcomeKind, StatusEvent, UrlTask, codec};
use tidemill::topology::{Ladder, STATUS, StageName};
use tidemill::transport::tail::{From, Tail};
use tokio_util::sync::CancellationToken;
use whole::server::{Reply, Server};
use whole::{Running, Tidemill};

/// What a busy machine may take from a distance between two arrivals.
const JITTER: Duration = Duration::from_millis(150);

fn config(dir: &tempfile::TempDir) -> Config {
    let mut config = Config { data: dir.path().join("data"), ..Config::default() };
    config.fetch.allow_addresses.push("127.0.0.0/8".parse().unwrap());
    config.fetch.resolve.insert("*.test".into(), "127.0.0.1".parse().unwrap());
    config
}

/// Fetches all of these, and nothing else; the events of the fetch stage in their order.
async fn fetch(config: Config, urls: &[String]) -> Vec<StatusEvent> {
    let pipeline = Arc::new(Pipeline::open(config).await.unwrap());
    let (transport, names) = (Arc::clone(&pipeline.transport), pipeline.names.clone());
    let new = NewJob { id: "j".into(), source: "test".into(), lane: Lane::Normal };
    submit(&*transport, &names, &new, urls.iter().map(|u| UrlTask::new(u.as_str()))).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run(&[StageName::Fetch], Ladder::Quick, stop).await }
    });
    let mut tail = Tail::new(&*transport, &names.full(STATUS), From::Start).await.unwrap();
    let (mut events, mut ended, until) = (vec![], 0, Instant::now() + Duration::from_secs(120));
    while ended < urls.len() {
        assert!(Instant::now() < until, "{ended} of {} ended; the last: {:?}", urls.len(), events.last());
        let records = tokio::time::timeout(Duration::from_secs(1), tail.next(&*transport)).await;
        for record in records.unwrap_or_else(|_| Ok(vec![])).unwrap() {
            let event: StatusEvent = codec::decode(&record.value).unwrap();
            ended += usize::from(!matches!(event.outcome, OutcomeKind::Parked | OutcomeKind::Retried));
            events.push(event);
        }
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    events
}

fn count(events: &[StatusEvent], outcome: OutcomeKind) -> usize {
    events.iter().filter(|e| e.outcome == outcome).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_fails_is_left_alone_until_it_is_well() {
    const FAILURES: usize = 7;
    const URLS: usize = 30;
    let (asked, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, failing) = (Arc::clone(&asked), Arc::clone(&failed));
    let server = Server::start(move |path, _| match counted.fetch_add(1, Ordering::SeqCst) {
        n if n < FAILURES => {
            failing.fetch_add(1, Ordering::SeqCst);
            Reply::status(500)
        }
        _ => Reply::page(path),
    });
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.fetch.delay = Duration::from_millis(10);
    config.fetch.concurrency_per_host = 1;
    // Longer than the first wait in a retry topic: whoever comes back from there finds the host left alone.
    config.fetch.breaker.reset = Duration::from_secs(4);
    // Each failure doubles the delay, too.
    config.fetch.max_delay = Duration::from_millis(50);
    let urls: Vec<String> = (0..URLS).map(|n| server.url(&format!("/{n}"))).collect();
    let events = fetch(config, &urls).await;
    assert_eq!(count(&events, OutcomeKind::Emitted), URLS);
    let retried: Vec<_> = events.iter().filter(|e| e.outcome == OutcomeKind::Retried).collect();
    let by_server = retried.iter().filter(|e| e.class.as_deref() == Some("http-5xx")).count();
    assert_eq!(by_server, FAILURES, "who is left alone fails nobody: {retried:?}");
    assert_eq!(failed.load(Ordering::SeqCst), FAILURES);
    // A machine that is too busy may break a connection off; that is no failure of this server's.
    assert_eq!(asked.load(Ordering::SeqCst), URLS + retried.len(), "{retried:?}");
    let waited = |e: &&StatusEvent| e.message.as_deref().is_some_and(|m| m.contains("keeps failing"));
    assert!(events.iter().filter(waited).count() > 0, "nobody waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_one_host_is_in_nobodys_way() {
    const CROWD: usize = 400;
    const SMALL: usize = 60;
    let server = Server::start(|path, _| Reply::page(path));
    let port = server.address.port();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.fetch.delay = Duration::from_millis(20);
    // The crowd comes first.
    let crowd = (0..CROWD).map(|n| format!("http://crowd.test:{port}/{n}"));
    let small = (0..SMALL).map(|n| format!("http://small-{}.test:{port}/{n}", n % 20));
    let events = fetch(config, &crowd.chain(small).collect::<Vec<_>>()).await;
    let of_crowd = |e: &&StatusEvent| e.url.contains("//crowd.");
    let done: Vec<&StatusEvent> = events.iter().filter(|e| e.outcome == OutcomeKind::Emitted).collect();
    assert_eq!(done.len(), CROWD + SMALL);
    let last_small = done.iter().rposition(|e| !of_crowd(e)).unwrap();
    let before = done[..last_small].iter().filter(|e| of_crowd(e)).count();
    assert!(before < CROWD / 2, "{before} of the crowd were fetched before the last of the small ones");
    let parks = count(&events, OutcomeKind::Parked);
    assert!(parks < 4 * CROWD, "{parks} parks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_few_places_is_kept_busy_without_going_through_the_log() {
    const URLS: usize = 60;
    let server = Server::start(|path, _| Reply::page(path));
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.fetch.delay = Duration::ZERO;
    config.fetch.hosts.insert("127.0.0.1".into(), toml::from_str("concurrency = 2").unwrap());
    // As many may wait in memory as there are.
    config.engine.in_flight.insert(StageName::Fetch, URLS * 8);
    let urls: Vec<String> = (0..URLS).map(|n| server.url(&format!("/{n}"))).collect();
    let events = fetch(config, &urls).await;
    let mut parks: HashMap<&str, usize> = HashMap::new();
    for e in events.iter().filter(|e| e.outcome == OutcomeKind::Parked) {
        *parks.entry(&e.url).or_default() += 1;
    }
    // Without a place to wait in, all but the first two would.
    assert!(parks.len() < URLS / 2, "{} parked", parks.len());
}

const DELAY: Duration = Duration::from_millis(500);

#[test]
fn whoever_takes_a_host_over_keeps_the_distance() {
    for (host, least) in least_distances(false) {
        assert!(least >= DELAY - JITTER, "{host}: {least:?} between two requests");
    }
}

/// The proof that the test above can fail: members that take a host without asking the store come too close.
#[test]
fn without_the_lease_whoever_takes_a_host_over_comes_too_close() {
    // Whether one does depends on the moment of the takeover: once in some is enough.
    let too_close = |_| least_distances(true).values().any(|least| *least < DELAY - JITTER);
    assert!((0..6).any(too_close), "the test above would not notice");
}

/// Two members share hosts, one of them is killed, a third comes. By host: the least time between two requests.
fn least_distances(without_lease: bool) -> BTreeMap<String, Duration> {
    const HOSTS: usize = 8;
    const URLS: usize = 9;
    let server = Server::start(|path, _| Reply::page(path));
    let port = server.address.port();
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let urls = (0..HOSTS * URLS).map(|n| {
        let host = n % HOSTS;
        format!("http://h{host}.test:{port}/h{host}/{}\n", n / HOSTS)
    });
    std::fs::write(dir.path().join("urls.txt"), urls.collect::<String>()).unwrap();
    let args =
        ["run", "--stages", "fetch", "--delay", "500ms", "--allow-address", "127.0.0.0/8", "--listen", "127.0.0.1:0"];
    let args = [&args[..], &["--resolve", "*.test=127.0.0.1", "--log", "error"]].concat();
    let member = || {
        let mut command = t.command(&args);
        if without_lease {
            command.env("FAILPOINTS", "fetch.lease=return");
        }
        Running::start(&mut command)
    };
    let mut first = member();
    let _second = member();
    t.run(&["submit", "--file", "urls.txt"]).expect(0);
    let arrived = |n: usize| {
        let until = Instant::now() + Duration::from_secs(90);
        while server.all().len() < n {
            assert!(Instant::now() < until, "{} of {n} arrived", server.all().len());
            #[allow(clippy::disallowed_methods, reason = "a test without a runtime")]
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // Both are at work; one dies, its hosts go to the other, and some of them to one that comes.
    arrived(HOSTS * 3);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    arrived(HOSTS * 5);
    let _third = member();
    arrived(HOSTS * URLS);
    let mut by_host: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    for (path, at) in server.all() {
        by_host.entry(path.split('/').nth(1).unwrap().to_owned()).or_default().push(at);
    }
    assert_eq!(by_host.len(), HOSTS);
    let least = |mut times: Vec<Instant>| {
        times.sort();
        times.windows(2).map(|w| w[1] - w[0]).min().unwrap()
    };
    by_host.into_iter().map(|(host, times)| (host, least(times))).collect()
}
