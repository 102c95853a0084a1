//! Dead letters on a real Kafka; topics are made and left, so use a cluster of your own.
//!
//! `cargo bench --bench letters -- stats BROKERS [LETTERS]`: `dlq::stats` over a million letters (a million if nothing is
//! said) beside a bare librdkafka consumer that counts them, each a process of its own, in turn. Prints letters/s, CPU and
//! the most memory of both, and the ratio of the medians.
//!
//! `cargo bench --bench letters -- guard BROKERS [RECORDS]`: how long a stage takes for so many live records that wait, alone
//! and while as many letters are put back and worked on. Its handler waits 20 ms and the window holds 64, so the stage is the
//! limit. Prints live records/s of both and the ratio, which the weights of the inputs and of the retry topic bound.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tidemill::config::Kafka as Config;
use tidemill::dlq::{self, By, Filter, Order};
use tidemill::engine::route::Router;
use tidemill::engine::{Ctx, Limits, Outcome, Runner, Stage, StageWork};
use tidemill::record::codec::{self, CodecError, Ids};
use tidemill::record::letter::Failure;
use tidemill::record::{FailureClass, Headers, UrlTask, headers, now_ms};
use tidemill::topology::{self, Ladder, Names, StageName, Topic, URLS};
use tidemill::transport::kafka::Kafka;
use tidemill::transport::{Outgoing, Transport};
use tokio_util::sync::CancellationToken;

const LETTERS: usize = 1_000_000;
const ROUNDS: usize = 3;
const HOSTS: usize = 5_000;
const CHUNK: usize = 5_000;

/// A run, as it says itself.
#[derive(Serialize, Deserialize)]
struct Run {
    letters: u64,
    seconds: f64,
    cpu: f64,
    mib: f64,
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["stats", brokers] => stats(brokers, LETTERS).await,
        ["stats", brokers, letters] => stats(brokers, letters.parse().unwrap()).await,
        ["ours", brokers, prefix] => ours(brokers, prefix).await,
        ["bare", brokers, prefix] => bare(brokers, prefix),
        ["guard", brokers] => guard(brokers, 20_000).await,
        ["guard", brokers, records] => guard(brokers, records.parse().unwrap()).await,
        _ => println!("see the first lines of benches/letters.rs"),
    }
}

fn log(brokers: &str) -> Arc<dyn Transport> {
    let config = Config { brokers: brokers.into(), ..Config::default() };
    Arc::new(Kafka::open(&config, std::env::temp_dir().as_ref()).unwrap())
}

async fn create(log: &dyn Transport, names: &Names) {
    let topics: Vec<_> = topology::topics().into_iter().map(|t| Topic { name: names.full(&t.name), ..t }).collect();
    log.create_topics(&topics).await.unwrap();
}

fn task(n: usize) -> (String, Headers, Bytes) {
    let host = format!("www{}.example.org", n % HOSTS);
    let url = format!("https://{host}/articles/{n}?page={}", n % 7);
    let mut h = Headers::default();
    h.set(headers::TASK, format!("job-{n}"));
    h.set(headers::FIRST_SEEN, now_ms().to_string());
    h.set(headers::URL, url.clone());
    (host, h, codec::encode(&UrlTask::new(url), &Ids::default()).unwrap())
}

/// Letters of twelve causes.
fn letter(names: &Names, n: usize) -> Outgoing {
    let (host, original, value) = task(n);
    let class = FailureClass::ALL[n % 12];
    let failure = Failure {
        stage: "fetch".into(),
        topic: names.full(URLS),
        partition: (n % 12) as i32,
        offset: n as i64,
        class,
        message: format!("https://{host}/articles/{n} answered {} after {} ms", 400 + n % 12, n % 9_000),
        attempts: 4,
        at: now_ms(),
    };
    Outgoing {
        topic: names.full("fetch.dlq").into(),
        partition: None,
        key: Some(host.into()),
        value,
        tombstone: false,
        headers: failure.headers(&original),
    }
}

async fn fill(log: &dyn Transport, records: usize, one: impl Fn(usize) -> Outgoing) {
    for chunk in (0..records).collect::<Vec<_>>().chunks(CHUNK) {
        log.append(chunk.iter().map(|n| one(*n)).collect()).await.unwrap();
    }
}

// ---- stats

async fn stats(brokers: &str, letters: usize) {
    let log = log(brokers);
    let prefix = format!("bench{}.", std::process::id());
    let names = Names::new(&prefix);
    create(&*log, &names).await;
    fill(&*log, letters, |n| letter(&names, n)).await;
    println!("{letters} letters");
    let mut runs: [Vec<Run>; 2] = Default::default();
    for round in 0..ROUNDS {
        for which in [round % 2, 1 - round % 2] {
            let name = ["ours", "bare"][which];
            let done = Command::new(std::env::current_exe().unwrap()).args([name, brokers, &prefix]).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let run: Run = serde_json::from_slice(&done.stdout).unwrap();
            assert_eq!(run.letters, letters as u64, "{name}");
            let rate = run.letters as f64 / run.seconds;
            println!("{name:<6} {rate:>9.0} letters/s {:>6.1} s CPU {:>6.0} MiB", run.cpu, run.mib);
            runs[which].push(run);
        }
    }
    let median = |runs: &[Run]| {
        let mut all: Vec<f64> = runs.iter().map(|r| r.letters as f64 / r.seconds).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!("ratio: {:.2} of the bare consumer's letters/s", median(&runs[0]) / median(&runs[1]));
}

async fn ours(brokers: &str, prefix: &str) {
    let (log, names) = (log(brokers), Names::new(prefix));
    let began = Instant::now();
    let by = [By::Stage, By::Class, By::Fingerprint];
    let stats = dlq::stats(&*log, &names, &Filter::default(), &by).await.unwrap();
    say(stats.letters, began);
}

/// Counts what a consumer gets.
fn bare(brokers: &str, prefix: &str) {
    let began = Instant::now();
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", brokers).set("group.id", "bare").set("enable.partition.eof", "true");
    c.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let client: BaseConsumer = c.create().unwrap();
    let topic = format!("{prefix}fetch.dlq");
    let partitions =
        client.fetch_metadata(Some(&topic), Duration::from_secs(10)).unwrap().topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    (0..partitions).for_each(|p| list.add_partition_offset(&topic, p as i32, Offset::Beginning).unwrap());
    client.assign(&list).unwrap();
    let (mut letters, mut ended) = (0, 0);
    while ended < partitions {
        match client.poll(Duration::from_secs(10)) {
            Some(Ok(_)) => letters += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    say(letters, began);
}

fn say(letters: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let cpu = (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let mib = peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0;
    println!("{}", serde_json::to_string(&Run { letters, seconds, cpu, mib }).unwrap());
}

// ---- guard

/// Counts live records; a replayed one takes as long.
struct Counting(AtomicUsize, AtomicUsize);

#[async_trait]
impl Stage for Counting {
    type Task = UrlTask;
    fn name(&self) -> StageName {
        StageName::Fetch
    }
    fn decode(&self, value: &[u8]) -> Result<UrlTask, CodecError> {
        UrlTask::decode(value)
    }
    fn url<'a>(&self, task: &'a UrlTask) -> &'a str {
        &task.url
    }
    async fn handle(&self, task: UrlTask, _: &Ctx) -> Outcome {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let live = task.attrs.contains_key("live");
        if live { &self.0 } else { &self.1 }.fetch_add(1, Ordering::Relaxed);
        Outcome::Done
    }
}

async fn guard(brokers: &str, records: usize) {
    let mut rates: [Vec<f64>; 2] = Default::default();
    for round in 0..ROUNDS {
        for storm in [round % 2 == 1, round % 2 == 0] {
            let (rate, replayed) =
                live(brokers, records, &format!("guard{}-{round}-{storm}.", std::process::id()), storm).await;
            let what = if storm { "beside a replay" } else { "alone" };
            println!("{what:<16} {rate:>7.0} live records/s, {replayed} replayed records worked on meanwhile");
            rates[usize::from(storm)].push(rate);
        }
    }
    let median = |all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let [mut alone, mut beside] = rates;
    println!("ratio: {:.2}", median(&mut beside) / median(&mut alone));
}

/// Live records/s, and how many of the others were worked on.
async fn live(brokers: &str, records: usize, prefix: &str, storm: bool) -> (f64, usize) {
    let (log, names) = (log(brokers), Names::new(prefix));
    create(&*log, &names).await;
    fill(&*log, records, |n| {
        let (host, headers, value) = task(n);
        let mut task: UrlTask = codec::decode(&value).unwrap();
        task.attrs.insert("live".into(), String::new());
        let value = codec::encode(&task, &Ids::default()).unwrap();
        Outgoing {
            topic: names.full(URLS).into(),
            partition: None,
            key: Some(host.into()),
            value,
            tombstone: false,
            headers,
        }
    })
    .await;
    let mut replaying = None;
    if storm {
        fill(&*log, records, |n| letter(&names, n)).await;
        let (log, names) = (Arc::clone(&log), names.clone());
        replaying = Some(tokio::spawn(async move {
            dlq::replay(&*log, &names, &Filter::default(), &Order::new("storm")).await.unwrap();
        }));
        // The storm is there when the stage begins.
        while bounds(brokers, prefix).await < 2_000 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let stage = Arc::new(Counting(AtomicUsize::new(0), AtomicUsize::new(0)));
    let handler: Arc<dyn tidemill::engine::attempt::Handler> = stage.clone();
    let router = Router::new(topology::stage(StageName::Fetch), names, Ladder::Standard.delays());
    let work = StageWork::new(handler, router, Duration::from_secs(10));
    let limits = Limits {
        in_flight: 64,
        in_flight_bytes: 64 << 20,
        commit_interval: Duration::from_millis(100),
        grace: Duration::from_secs(10),
    };
    let (runner, stop) = (Runner::new(Arc::new(work), limits), CancellationToken::new());
    let running = tokio::spawn({
        let (log, stop) = (Arc::clone(&log), stop.clone());
        async move { runner.run(&*log, stop).await.unwrap() }
    });
    // Its beginning, when partitions come one after the other, and its end do not count.
    let at = async |count: usize| {
        while stage.0.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (Instant::now(), stage.1.load(Ordering::Relaxed))
    };
    let (began, before) = at(records / 10).await;
    let (ended, after) = at(records * 8 / 10).await;
    stop.cancel();
    running.await.unwrap();
    if let Some(replaying) = replaying {
        replaying.abort();
    }
    ((records * 8 / 10 - records / 10) as f64 / (ended - began).as_secs_f64(), after - before)
}

async fn bounds(brokers: &str, prefix: &str) -> i64 {
    let bounds = log(brokers).bounds(&format!("{prefix}fetch.retry.1")).await.unwrap();
    bounds.iter().map(|b| b.end).sum()
}
