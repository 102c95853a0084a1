//! The whole path at a steady rate: from the moment a client hands a URL to its producer until a consumer of `enriched`
//! (read_committed) and a reader of the status topic (the stage after, index, done) have it.
//!
//! `cargo bench --bench latency -- [RATE [SECONDS [PAGES [BROKERS]]]]`: RATE URLs/s (200), sent evenly; PAGES as KiB a page
//! (10) or a folder of `*.html.gz`; BROKERS of a cluster for tests, else the embedded log. The first ten seconds do not
//! count. Prints P50, P95, P99 and the largest, in ms, and the CPU of this process, which runs all stages.

mod pages;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pages::{Server, cpu};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use tidemill::config::Config;
use tidemill::pipeline::Pipeline;
use tidemill::record::{Headers, OutcomeKind, StatusEvent, UrlTask, codec};
use tidemill::topology::{ENRICHED, Ladder, STATUS, StageName, URLS};
use tidemill::transport::{Event, Incoming, Outgoing, Transport};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const WARM: Duration = Duration::from_secs(10);

/// Where URLs are put: as any client does it, not through a transaction.
enum Client {
    Kafka(ThreadedProducer<DefaultProducerContext>),
    Embedded(Arc<dyn Transport>),
}

impl Client {
    async fn send(&self, topic: &str, key: String, url: &str) {
        match self {
            Client::Kafka(p) => {
                p.send(BaseRecord::to(topic).key(&key).payload(url)).map_err(|(e, _)| e).unwrap();
            }
            Client::Embedded(log) => {
                let (key, value) = (Some(Bytes::from(key)), Bytes::from(url.to_owned()));
                let out = Outgoing {
                    tombstone: false,
                    topic: topic.into(),
                    partition: None,
                    key,
                    value,
                    headers: Headers::default(),
                };
                log.append(vec![out]).await.unwrap();
            }
        }
    }
}

/// Says of the URLs that records of the topic are about when they came.
fn watch(
    log: Arc<dyn Transport>,
    topic: String,
    about: fn(&Incoming) -> Option<String>,
) -> mpsc::Receiver<(String, Instant)> {
    let (seen, out) = mpsc::channel(1 << 16);
    tokio::spawn(async move {
        let group = format!("latency.{}", uuid::Uuid::now_v7().simple());
        let mut member = log.join(&group, &[topic]).await.unwrap();
        loop {
            match member.next().await.unwrap() {
                Event::Records(records) => {
                    let now = Instant::now();
                    for url in records.iter().filter_map(about) {
                        seen.send((url, now)).await.unwrap();
                    }
                }
                Event::Revoked { partitions, .. } => member.release(&partitions).await,
                Event::Assigned(_) | Event::Passed { .. } => {}
            }
        }
    });
    out
}

fn enriched(r: &Incoming) -> Option<String> {
    r.headers.get("tidemill.url").map(|u| String::from_utf8_lossy(u).into_owned())
}

fn indexed(r: &Incoming) -> Option<String> {
    let event = codec::decode::<StatusEvent>(&r.value).ok()?;
    (event.stage == "index" && event.outcome == OutcomeKind::Done).then_some(event.url)
}

#[tokio::main]
async fn main() {
    pages::serve_if_asked().await;
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |i: usize, default: f64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (rate, seconds) = (number(0, 200.0), number(1, 60.0));
    let what = args.get(2).map_or("10", String::as_str);
    let n = ((seconds + WARM.as_secs_f64()) * rate) as usize;
    let pages_there = std::fs::read_dir(what).map_or(1, |d| d.count().max(1));
    let server = Server::start(what, n.div_ceil(pages_there)).await;

    let dir = tempfile::tempdir_in(".").unwrap();
    let mut config = Config { data: dir.path().join("data"), ..Config::default() };
    pages::reach(&mut config);
    if let Some(brokers) = args.get(3) {
        config.kafka.brokers = brokers.clone();
        config.kafka.member = "latency".into();
        config.prefix = format!("latency-{}.", uuid::Uuid::now_v7().simple());
    }
    let pipeline = Arc::new(Pipeline::open(config.clone()).await.unwrap());
    let (log, names) = (Arc::clone(&pipeline.transport), pipeline.names.clone());
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run(&StageName::ALL, Ladder::Quick, stop).await }
    });
    let client = Arc::new(match args.get(3) {
        Some(brokers) => {
            let mut c = ClientConfig::new();
            c.set("bootstrap.servers", brokers).set("partitioner", "murmur2_random").set("linger.ms", "0");
            Client::Kafka(c.create().unwrap())
        }
        None => Client::Embedded(Arc::clone(&log)),
    });
    let mut documents = watch(Arc::clone(&log), names.full(ENRICHED), enriched);
    let mut events = watch(Arc::clone(&log), names.full(STATUS), indexed);
    // Joined, and all partitions with their owners.
    tokio::time::sleep(WARM).await;

    let (began, topic) = (Instant::now(), names.full(URLS));
    let mut sent: HashMap<String, Instant> = HashMap::new();
    let mut busy = 0.0;
    for (i, url) in server.urls.iter().take(n).enumerate() {
        let at = began + Duration::from_secs_f64(i as f64 / rate);
        tokio::time::sleep_until(at.into()).await;
        if busy == 0.0 && began.elapsed() >= WARM {
            busy = cpu();
        }
        let key = UrlTask::new(url.as_str()).host_key().to_string();
        // From when it was due: a client that is held up is held up by us.
        sent.insert(url.clone(), at);
        let (client, topic, url) = (Arc::clone(&client), topic.clone(), url.clone());
        tokio::spawn(async move { client.send(&topic, key, &url).await });
    }
    let busy = cpu() - busy;
    println!("{n} pages ({what}) at {rate}/s; CPU of all stages {:.0} % of one core", busy / seconds * 100.0);
    for (name, of) in [("readable on enriched", &mut documents), ("indexed", &mut events)] {
        let mut took = vec![];
        let mut left = n;
        while left > 0 {
            let Ok(Some((url, at))) = tokio::time::timeout(Duration::from_secs(60), of.recv()).await else { break };
            left -= 1;
            if let Some(since) = sent.get(&url).filter(|since| **since >= began + WARM) {
                took.push(at.saturating_duration_since(*since));
            }
        }
        took.sort();
        let ms =
            |p: usize| took.get((took.len() * p / 1000).min(took.len() - 1)).map_or(0.0, |t| t.as_secs_f64() * 1e3);
        println!(
            "{name:<22} {:>6} of {n}: P50 {:.0} ms, P95 {:.0}, P99 {:.0}, largest {:.0}{}",
            took.len(),
            ms(500),
            ms(950),
            ms(990),
            ms(1000),
            if left > 0 { format!("; {left} did not come") } else { String::new() }
        );
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}
