//! One no-op stage hop on the embedded log (read, handle, write, commit) beside bare rusqlite doing the same reads and
//! writes in the same run, on the same kind of file with the same settings.
//!
//! `cargo bench --bench hop [-- RECORDS] [slow]`; `slow` runs the last part only. Prints records/s of both, the ratio, and the ratio with 1 % of the records
//! taking 2 s. Compare ratios, not absolute figures.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, TransactionBehavior, params};
use tidemill::engine::route::Router;
use tidemill::engine::{Ctx, Limits, Outcome, Runner, Stage, StageWork};
use tidemill::record::codec::CodecError;
use tidemill::record::{Headers, Kind, Record, UrlTask};
use tidemill::topology::{self, Input, Ladder, Names, StageDef, StageName, Topic};
use tidemill::transport::sqlite::Sqlite;
use tidemill::transport::{Outgoing, Transport};
use tokio_util::sync::CancellationToken;

/// Reads `urls`, writes `pages`: a hop whose output nobody reads.
static HOP: StageDef = StageDef {
    name: StageName::Fetch,
    reads: Kind::UrlTask,
    inputs: &[Input { topic: topology::URLS, weight: 1 }],
    outputs: &[(Kind::UrlTask, topology::PAGES)],
};

/// Hands on what it gets; every hundredth record first sleeps, if asked to.
struct Pass {
    slow: Option<Duration>,
    seen: Arc<AtomicUsize>,
}

#[async_trait]
impl Stage for Pass {
    type Task = UrlTask;
    fn name(&self) -> StageName {
        StageName::Fetch
    }
    fn decode(&self, value: &[u8]) -> Result<UrlTask, CodecError> {
        UrlTask::decode(value)
    }
    fn url<'a>(&self, _task: &'a UrlTask) -> &'a str {
        "http://bench.example/"
    }
    async fn handle(&self, task: UrlTask, _ctx: &Ctx) -> Outcome {
        let n = self.seen.fetch_add(1, Ordering::Relaxed);
        if let Some(slow) = self.slow.filter(|_| n % 100 == 99) {
            tokio::time::sleep(slow).await;
        }
        Outcome::Emit(vec![Record::UrlTask(Box::new(task))])
    }
}

fn task(i: usize, bytes: usize) -> UrlTask {
    // Not compressible, so that neither side gains by it.
    let mut x = i as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        text.push_str(&format!("{x:016x}"));
    }
    let mut task = UrlTask::new(format!("http://h{}.example/{i}", i % 97));
    task.attrs.insert("body".into(), text);
    task
}

async fn fill(transport: &dyn Transport, records: usize, bytes: usize) -> usize {
    let names = Names::new("");
    let topics: Vec<Topic> = topology::topics();
    transport.create_topics(&topics).await.unwrap();
    let mut size = 0;
    for chunk in (0..records).collect::<Vec<_>>().chunks(1000) {
        let batch = chunk
            .iter()
            .map(|i| {
                let r = Record::UrlTask(Box::new(task(*i, bytes)));
                let value = r.encode(names.ids()).unwrap();
                size = value.len();
                let mut headers = Headers::default();
                headers.set("tidemill.task", format!("bench-{i}"));
                headers.set("tidemill.first-seen", "1700000000000");
                headers.set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
                headers.set("tidemill.url", "http://bench.example/");
                let key = Some(Bytes::from(format!("k{i}")));
                Outgoing {
                    tombstone: false,
                    topic: names.full(topology::URLS).into(),
                    partition: None,
                    key,
                    value,
                    headers,
                }
            })
            .collect();
        transport.append(batch).await.unwrap();
    }
    size
}

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Our hop: records/s and CPU µs a record.
async fn ours(dir: &Path, records: usize, bytes: usize, slow: Option<Duration>) -> (f64, f64) {
    let transport = Sqlite::open(&dir.join(format!("ours-{bytes}-{}.db", slow.is_some()))).unwrap();
    fill(&transport, records, bytes).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let router = Router::new(&HOP, Names::new(""), Ladder::Quick.delays());
    let work = StageWork::new(Arc::new(Pass { slow, seen }), router, Duration::from_secs(60));
    let limits = Limits {
        in_flight: 32_768,
        in_flight_bytes: 256 << 20,
        commit_interval: Duration::from_millis(20),
        grace: Duration::from_secs(20),
    };
    let runner = Runner::new(Arc::new(work), limits);
    let stop = CancellationToken::new();
    let (t, c) = (Instant::now(), cpu());
    let running = tokio::spawn({
        let (transport, stop) = (transport.clone(), stop.clone());
        async move { runner.run(&transport, stop).await }
    });
    // The last slow records end 2 s after the rest, however fast the hop is; so the clock stops at 95 %.
    let counted = records * 95 / 100;
    loop {
        transport.changed(Duration::from_millis(100)).await;
        let done: i64 = transport.bounds(topology::STATUS).await.unwrap().iter().map(|b| b.end).sum();
        if done as usize >= counted {
            break;
        }
    }
    let (wall, used) = (t.elapsed().as_secs_f64(), cpu() - c);
    stop.cancel();
    running.await.unwrap().unwrap();
    (counted as f64 / wall, used * 1e6 / counted as f64)
}

/// The same reads and writes by hand: one thread, one connection, 1,024 records a transaction.
async fn bare(dir: &Path, records: usize, bytes: usize) -> (f64, f64) {
    let path = dir.join(format!("bare-{bytes}.db"));
    fill(&Sqlite::open(&path).unwrap(), records, bytes).await;
    let mut c = Connection::open(&path).unwrap();
    for (name, value) in
        [("journal_mode", "WAL"), ("synchronous", "FULL"), ("wal_autocheckpoint", "2000"), ("cache_size", "-8192")]
    {
        c.pragma_update(None, name, value).unwrap();
    }
    let id = |name: &str| c.query_row("SELECT id FROM topics WHERE name = ?", [name], |r| r.get::<_, i64>(0)).unwrap();
    let (urls, pages, status) = (id("urls"), id("pages"), id("status"));
    let event = vec![b'x'; 190];
    let (t, cpu0) = (Instant::now(), cpu());
    let mut done = 0;
    let mut position = [0i64; 12];
    let (mut next_out, mut next_status) = ([0i64; 12], [0i64; 12]);
    while done < records {
        let tx = c.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        {
            let mut read = tx
                .prepare_cached("SELECT id, timestamp, key, headers, codec, value FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 86")
                .unwrap();
            let mut write = tx
                .prepare_cached(
                    "INSERT INTO records(id, timestamp, key, headers, codec, value) VALUES (?, ?, ?, ?, ?, ?)",
                )
                .unwrap();
            for p in 0..12i64 {
                let low = urls << 52 | p << 40;
                let mut rows = read.query(params![low | position[p as usize], low + (1 << 40)]).unwrap();
                while let Some(r) = rows.next().unwrap() {
                    let at: i64 = r.get(0).unwrap();
                    let key: Vec<u8> = r.get(2).unwrap();
                    let headers: String = r.get(3).unwrap();
                    let value: Vec<u8> = r.get(5).unwrap();
                    let out = pages << 52 | p << 40 | next_out[p as usize];
                    write.execute(params![out, 1_700_000_000_000i64, key, headers, 0, value]).unwrap();
                    let s = status << 52 | p << 40 | next_status[p as usize];
                    write.execute(params![s, 1_700_000_000_000i64, b"bench-00000".as_slice(), "[]", 0, event]).unwrap();
                    next_out[p as usize] += 1;
                    next_status[p as usize] += 1;
                    position[p as usize] = (at & ((1 << 40) - 1)) + 1;
                    done += 1;
                }
                tx.prepare_cached("INSERT OR REPLACE INTO progress(group_name, topic_id, partition, base, map) VALUES ('bare', ?, ?, ?, '')")
                    .unwrap()
                    .execute(params![urls, p, position[p as usize]])
                    .unwrap();
            }
        }
        tx.commit().unwrap();
    }
    (records as f64 / t.elapsed().as_secs_f64(), (cpu() - cpu0) * 1e6 / records as f64)
}

#[tokio::main]
async fn main() {
    let asked = std::env::args().skip(1).find_map(|a| a.parse::<usize>().ok());
    let root = tempfile::tempdir_in(".").unwrap();
    let only_slow = std::env::args().any(|a| a == "slow");
    let sizes: &[(usize, usize)] = if only_slow { &[] } else { &[(1 << 10, 100_000), (20 << 10, 20_000)] };
    for &(bytes, records) in sizes {
        let records = asked.unwrap_or(records);
        let mut ratios = vec![];
        for round in 0..3 {
            let dir = root.path().join(format!("{bytes}-{round}"));
            std::fs::create_dir_all(&dir).unwrap();
            let (b, b_cpu) = bare(&dir, records, bytes).await;
            let (o, o_cpu) = ours(&dir, records, bytes, None).await;
            println!(
                "{bytes:>6} B  bare {b:>8.0}/s {b_cpu:>6.1} µs   hop {o:>8.0}/s {o_cpu:>6.1} µs   ratio {:.2}",
                o / b
            );
            ratios.push(o / b);
            std::fs::remove_dir_all(&dir).unwrap();
        }
        ratios.sort_by(f64::total_cmp);
        println!("{bytes:>6} B  median ratio {:.2}", ratios[1]);
    }
    let records = asked.unwrap_or(1_000_000);
    let mut ratios = vec![];
    for round in 0..3 {
        let dir = root.path().join(format!("slow-{round}"));
        std::fs::create_dir_all(&dir).unwrap();
        let (without, a) = ours(&dir, records, 1 << 10, None).await;
        let (with, b) = ours(&dir, records, 1 << 10, Some(Duration::from_secs(2))).await;
        println!(
            "  1 % taking 2 s: {with:>8.0}/s {b:>6.1} µs   without {without:>8.0}/s {a:>6.1} µs   ratio {:.2}",
            with / without
        );
        ratios.push(with / without);
        std::fs::remove_dir_all(&dir).unwrap();
    }
    ratios.sort_by(f64::total_cmp);
    println!("  1 % taking 2 s: median ratio {:.2}", ratios[1]);
}
