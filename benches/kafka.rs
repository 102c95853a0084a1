//! One no-op stage on a real Kafka beside a bare librdkafka loop that consumes, produces and commits the same: the same
//! records out (status events too), the same commits (offsets in the transaction, every 100 ms).
//!
//! `cargo bench --bench kafka -- BROKERS [RECORDS] [ours]` (topics are made and left; use a cluster of your own). Prints
//! records/s of both, the ratio, CPU µs a record of both, p50 and p99 of the commits, and the same with 1 % of the records
//! taking 2 s; `ours`: the engine alone, for a profiler. Compare ratios, not absolute figures.
#![allow(unsafe_code, reason = "the bare loop commits as fast as librdkafka can")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidemill::config::Kafka as Config;
use tidemill::engine::{Limits, Runner};
use tidemill::record::{Headers, StatusEvent, codec};
use tidemill::relay::Relay;
use tidemill::telemetry::StageMetrics;
use tidemill::topology::{Cleanup, Topic};
use tidemill::transport::kafka::Kafka;
use tidemill::transport::{Outgoing, Transport};
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 12;
/// Of which the one with the median ratio counts.
const ROUNDS: usize = 3;
const ROLL: Duration = Duration::from_millis(100);

fn topic(name: &str) -> Topic {
    Topic {
        name: name.to_owned(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete,
        retention_ms: -1,
        max_message_bytes: 4 << 20,
        carries: "a benchmark's records".into(),
    }
}

/// Text-like, half compressible.
fn value(i: usize, bytes: usize) -> Bytes {
    let mut x = i as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut text = String::with_capacity(bytes + 32);
    while text.len() < bytes {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        text.push_str(&format!("{x:x} the quick "));
    }
    text.truncate(bytes);
    text.into()
}

async fn fill(transport: &dyn Transport, name: &str, records: usize, bytes: usize) {
    transport.create_topics(&[topic(name)]).await.unwrap();
    let values: Vec<Bytes> = (0..256).map(|i| value(i, bytes)).collect();
    for chunk in (0..records).collect::<Vec<_>>().chunks(5_000) {
        let record = |i: &usize| {
            let mut headers = Headers::default();
            headers.set("tidemill.task", format!("bench-{i}"));
            headers.set("tidemill.url", "http://bench.example/");
            let key = Some(Bytes::from(format!("k{i}")));
            Outgoing {
                tombstone: false,
                topic: name.into(),
                partition: None,
                key,
                value: values[i % 256].clone(),
                headers,
            }
        };
        transport.append(chunk.iter().map(record).collect()).await.unwrap();
    }
}

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

#[derive(Clone, Copy)]
struct Run {
    rate: f64,
    micros: f64,
}

/// The engine: relay with status events, or the same where every hundredth record takes `slow` longer.
async fn ours(config: &Config, from: &str, name: &str, records: usize, slow: Option<Duration>) -> Run {
    let transport: Arc<dyn Transport> = Arc::new(Kafka::open(config, std::env::temp_dir().as_ref()).unwrap());
    transport.create_topics(&[topic(name), topic(&format!("{name}-status"))]).await.unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let work = Relay {
        from: from.to_owned(),
        to: name.into(),
        group: name.to_owned(),
        choose: Box::new(move |r| {
            counted.fetch_add(1, Ordering::Relaxed);
            Some(r.key.clone())
        }),
        status: Some((format!("{name}-status").into(), codec::Ids::default())),
        work: Duration::ZERO,
        slow: slow.map(|s| (100, s)),
        metrics: StageMetrics::new("relay"),
    };
    let limits =
        Limits { in_flight: 32_768, in_flight_bytes: 256 << 20, commit_interval: ROLL, grace: Duration::from_secs(20) };
    let (runner, stop) = (Runner::new(Arc::new(work), limits), CancellationToken::new());
    let running = tokio::spawn({
        let (transport, stop) = (Arc::clone(&transport), stop.clone());
        async move { runner.run(&*transport, stop).await.unwrap() }
    });
    while seen.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The last slow records end 2 s after the rest, however fast the hop is; so the clock stops at 95 %.
    let (t, c) = (Instant::now(), cpu());
    let counted = records * 95 / 100;
    while seen.load(Ordering::Relaxed) < counted {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (seconds, busy) = (t.elapsed().as_secs_f64(), cpu() - c);
    stop.cancel();
    running.await.unwrap();
    Run { rate: counted as f64 / seconds, micros: busy * 1e6 / counted as f64 }
}

type Txn = ThreadedProducer<DefaultProducerContext>;

fn commit(p: &Txn) {
    // SAFETY: the client lives during the call; an error is only looked at for being there.
    let failed = unsafe { !rdkafka_sys::rd_kafka_commit_transaction(p.client().native_ptr(), 30_000).is_null() };
    assert!(!failed, "the bare loop's commit failed");
}

/// The same with librdkafka alone, in order, in one thread: a status event of the same size with each record.
fn bare(config: &Config, from: &str, to: &str, records: usize) -> (Run, Vec<Duration>) {
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", &config.brokers)
        .set("group.id", to)
        .set("group.protocol", "consumer")
        .set("group.remote.assignor", "range")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10");
    let consumer: BaseConsumer = c.create().unwrap();
    consumer.subscribe(&[from]).unwrap();
    let producers: Vec<Txn> = (0..2)
        .map(|n| {
            let p: Txn = ClientConfig::new()
                .set("bootstrap.servers", &config.brokers)
                .set("transactional.id", format!("{to}-{n}"))
                .set("linger.ms", "5")
                .set("compression.type", "lz4")
                .set("queue.buffering.max.messages", "1000000")
                .set("queue.buffering.max.kbytes", "1048576")
                .create()
                .unwrap();
            p.init_transactions(Duration::from_secs(20)).unwrap();
            p
        })
        .collect();
    let event = StatusEvent {
        task: "bench-100000".into(),
        job: None,
        url: "http://bench.example/".into(),
        stage: "relay".into(),
        outcome: tidemill::record::OutcomeKind::Emitted,
        class: None,
        message: None,
        attempt: 1,
        at: 1_700_000_000_000,
        took_ms: 1.0,
        waited_ms: 1.0,
        emitted: 1,
        until: None,
        trace: "0af7651916cd43dd8448eb211c80319c".into(),
    };
    let event = codec::encode(&event, &codec::Ids::default()).unwrap();
    let status = format!("{to}-status");
    let (mut offsets, mut commits): (HashMap<i32, i64>, Vec<Duration>) = (HashMap::new(), vec![]);
    let (mut current, mut n, mut started, mut rolled) = (0, 0, Instant::now(), Instant::now());
    let mut busy = 0.0;
    producers[0].begin_transaction().unwrap();
    std::thread::scope(|scope| {
        let mut under_way: Option<std::thread::ScopedJoinHandle<'_, Duration>> = None;
        let producers = &producers;
        while n < records {
            if let Some(Ok(m)) = consumer.poll(Duration::from_millis(5)) {
                if n == 0 {
                    (started, busy, rolled) = (Instant::now(), cpu(), Instant::now());
                }
                n += 1;
                offsets.insert(m.partition(), m.offset() + 1);
                let p = &producers[current];
                let mut headers = OwnedHeaders::new();
                for h in m.headers().into_iter().flat_map(|h| h.iter()) {
                    headers = headers.insert(Header { key: h.key, value: h.value });
                }
                let key = m.key().unwrap_or_default();
                send(p, BaseRecord::to(to).key(key).payload(m.payload().unwrap_or_default()).headers(headers));
                send(p, BaseRecord::to(&status).key(key).payload(&event[..]));
            }
            let end = n >= records;
            if n > 0 && !offsets.is_empty() && (end || rolled.elapsed() >= ROLL) {
                if let Some(h) = under_way.take() {
                    if !h.is_finished() && !end {
                        under_way = Some(h);
                        continue;
                    }
                    commits.push(h.join().unwrap());
                }
                let mut list = TopicPartitionList::new();
                for (p, o) in offsets.drain() {
                    list.add_partition_offset(from, p, Offset::Offset(o)).unwrap();
                }
                let (group, p) = (consumer.group_metadata().unwrap(), &producers[current]);
                under_way = Some(scope.spawn(move || {
                    let t = Instant::now();
                    p.send_offsets_to_transaction(&list, &group, Duration::from_secs(30)).unwrap();
                    commit(p);
                    t.elapsed()
                }));
                if end {
                    commits.extend(under_way.take().map(|h| h.join().unwrap()));
                    break;
                }
                current = 1 - current;
                producers[current].begin_transaction().unwrap();
                rolled = Instant::now();
            }
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    commits.sort();
    (Run { rate: n as f64 / seconds, micros: (cpu() - busy) * 1e6 / n as f64 }, commits)
}

fn send(p: &Txn, record: BaseRecord<'_, [u8], [u8]>) {
    let mut record = record;
    while let Err((_, back)) = p.send(record) {
        #[allow(clippy::disallowed_methods, reason = "the bare loop has a thread of its own")]
        std::thread::sleep(Duration::from_millis(1));
        record = back;
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(brokers) = args.first().filter(|a| a.contains(':')) else {
        eprintln!("cargo bench --bench kafka -- HOST:PORT [RECORDS] [ours]: give the brokers of a cluster for tests");
        return;
    };
    let records: usize = args.get(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let alone = args.iter().any(|a| a == "ours");
    let config = Config { brokers: brokers.clone(), member: "bench".into(), ..Config::default() };
    let kafka: Arc<dyn Transport> = Arc::new(Kafka::open(&config, std::env::temp_dir().as_ref()).unwrap());
    let run = uuid::Uuid::now_v7().simple().to_string();
    println!(
        "{:<7} {:>9} {:>10} {:>10} {:>6} {:>8} {:>8}",
        "bytes", "records", "bare/s", "ours/s", "ratio", "bare µs", "ours µs"
    );
    for (bytes, records) in [(1 << 10, records), (20 << 10, records / 10)] {
        let from = format!("bench-{run}-{bytes}");
        fill(&*kafka, &from, records, bytes).await;
        let (mut plain, mut slow, mut all) = (vec![], vec![], vec![]);
        for round in 0..if alone { 1 } else { ROUNDS } {
            let to = format!("{from}-{round}");
            if alone {
                line(bytes, records, None, &ours(&config, &from, &to, records, None).await, "");
                continue;
            }
            kafka.create_topics(&[topic(&to), topic(&format!("{to}-status"))]).await.unwrap();
            let (bare, commits) = {
                let (config, from, to) = (config.clone(), from.clone(), to.clone());
                tokio::task::spawn_blocking(move || bare(&config, &from, &to, records)).await.unwrap()
            };
            all.extend(commits);
            let own = ours(&config, &from, &format!("{to}-ours"), records, None).await;
            plain.push((bare, own));
            let with = ours(&config, &from, &format!("{to}-slow"), records, Some(Duration::from_secs(2))).await;
            slow.push((bare, with));
        }
        if !alone {
            let (bare, own) = median(&mut plain);
            line(bytes, records, Some(bare), &own, "");
            let (bare, own) = median(&mut slow);
            line(bytes, records, Some(bare), &own, "  1 % of the records take 2 s");
            all.sort();
            let percentile = |p: usize| all.get(all.len() * p / 100).copied().unwrap_or_default();
            println!("        bare: {} commits, p50 {:?} p99 {:?}", all.len(), percentile(50), percentile(99));
        }
    }
    let text = tidemill::telemetry::exposition();
    for l in text.lines().filter(|l| l.starts_with("tidemill_commit_seconds") && l.contains("relay")) {
        println!("        {l}");
    }
}

/// The round with the median ratio.
fn median(rounds: &mut [(Run, Run)]) -> (Run, Run) {
    rounds.sort_by(|a, b| (a.1.rate / a.0.rate).total_cmp(&(b.1.rate / b.0.rate)));
    rounds[rounds.len() / 2]
}

fn line(bytes: usize, records: usize, bare: Option<Run>, ours: &Run, note: &str) {
    let Some(bare) = bare else {
        println!("{bytes:<7} {records:>9} {:>10.0} {:>8.1}", ours.rate, ours.micros);
        return;
    };
    println!(
        "{bytes:<7} {records:>9} {:>10.0} {:>10.0} {:>6.2} {:>8.1} {:>8.1}{note}",
        bare.rate,
        ours.rate,
        ours.rate / bare.rate,
        bare.micros,
        ours.micros
    );
}
