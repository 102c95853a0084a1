//! The index on a real OpenSearch.
//!
//! `cargo bench --bench index -- bulk OPENSEARCH PYTHON [DOCUMENTS]`: documents of 10 KiB into it, by our sink and by the
//! Python client's `parallel_bulk` (an interpreter that has opensearch-py), in turn; both send the same ids, versions and
//! bytes. Prints documents/s and CPU of the whole process for each run, and the ratios of the medians. Both read records
//! (Avro; for Python JSON, which it reads faster) and write lines, as whoever has a record does; a third gives Python its
//! lines ready to send.
//!
//! `cargo bench --bench index -- search OPENSEARCH PAGES.jsonl`: the output of `tidemill extract` into both indices, 50
//! queries of two words from titles to both, and how many of the first ten hits they share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use futures::stream::{self, StreamExt};
use serde::Deserialize;
use tidemill::config;
use tidemill::record::{Enriched, codec};
use tidemill::sink::opensearch::client::{Client, Method};
use tidemill::sink::opensearch::schema::Schema;
use tidemill::sink::opensearch::{OpenSearchIndex, body, index};
use tidemill::sink::sqlite::SqliteIndex;
use tidemill::sink::{Query, Search, Sink};

const BYTES: usize = 10 << 10;
const ROUNDS: usize = 2;
/// As many as the index stage has in work.
const IN_WORK: usize = 2_000;
const QUERIES: usize = 50;

/// A run, as it says itself.
#[derive(Deserialize, Debug)]
struct Run {
    seconds: f64,
    cpu: f64,
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bulk", url, python] => bulk(url, python, 100_000).await,
        ["bulk", url, python, documents] => bulk(url, python, documents.parse().unwrap()).await,
        ["ours", url, prefix, records] => ours(url, prefix, Path::new(records)).await,
        ["search", url, pages] => search(url, Path::new(pages)).await,
        _ => println!("see the first lines of benches/index.rs"),
    }
}

fn on(url: &str) -> config::OpenSearch {
    config::OpenSearch { url: url.into(), ..config::OpenSearch::default() }
}

// ---- bulk

async fn bulk(url: &str, python: &str, documents: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (records, lines) = (dir.path().join("records"), dir.path().join("lines"));
    write(&records, &lines, documents);
    let bytes = std::fs::metadata(&lines).unwrap().len();
    println!("{documents} documents, {:.1} KiB of bulk lines each", bytes as f64 / 1024.0 / documents as f64);
    let client = Client::new(&on(url)).unwrap();
    let mut runs: [Vec<Run>; 3] = Default::default();
    let names = ["tidemill", "parallel_bulk", "parallel_bulk, lines ready"];
    for round in 0..ROUNDS {
        for which in (0..3).map(|n| (n + round) % 3) {
            let prefix = format!("bench-{}-{round}-{which}.", std::process::id());
            let schema = Schema::new(&prefix, 1).unwrap();
            index::make(&client, &schema).await.unwrap();
            let ours = which == 0;
            let mut command = if ours { Command::new(std::env::current_exe().unwrap()) } else { Command::new(python) };
            match ours {
                true => command.args(["ours", url, &prefix]).arg(&records),
                false => command.args(["benches/bulk.py", url, &schema.alias]).arg(&lines).arg(if which == 1 {
                    "documents"
                } else {
                    "ready"
                }),
            };
            let done = command.output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let run: Run = serde_json::from_slice(&done.stdout).unwrap();
            let count = client.json(Method::Post, &format!("/{}/_refresh", schema.alias), None).await.unwrap();
            assert!(count.is_success());
            let count = client.json(Method::Get, &format!("/{}/_count", schema.alias), None).await.unwrap().json();
            assert_eq!(count["count"], documents);
            println!("{:<26} {:>7.0} documents/s {:>7.1} s CPU", names[which], documents as f64 / run.seconds, run.cpu);
            client.json(Method::Delete, &format!("/{}", schema.index), None).await.unwrap();
            client.json(Method::Delete, &format!("/_index_template/{}", schema.alias), None).await.unwrap();
            runs[which].push(run);
        }
    }
    let median = |runs: &[Run], of: fn(&Run) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2])
    };
    for (theirs, name) in runs.iter().zip(names).skip(1) {
        println!(
            "beside {name}: documents/s {:.2}, CPU {:.2}",
            median(theirs, |r| r.seconds) / median(&runs[0], |r| r.seconds),
            median(&runs[0], |r| r.cpu) / median(theirs, |r| r.cpu)
        );
    }
}

/// The same documents twice: as records, each after its length, and as lines of bulk requests.
fn write(records: &Path, lines: &Path, documents: usize) {
    let (mut records, mut lines) =
        (BufWriter::new(File::create(records).unwrap()), BufWriter::new(File::create(lines).unwrap()));
    let mut words = Words(0x9e37_79b9_7f4a_7c15);
    for n in 0..documents {
        let host = format!("www{}.example.org", n % 97);
        let text = words.text(BYTES);
        let d = Enriched {
            id: format!("{n:032x}"),
            url: format!("https://{host}/articles/{n}"),
            final_url: format!("https://{host}/articles/{n}"),
            fetched_at: 1_700_000_000_000 + n as i64,
            title: Some(words.text(60)),
            author: Some(words.text(16)),
            date: Some(format!("20{:02}-{:02}-{:02}", n % 26, n % 12 + 1, n % 28 + 1)),
            description: Some(words.text(150)),
            language: Some(["en", "pt", "es", "de"][n % 4].into()),
            language_confidence: 0.9,
            words: text.split(' ').count() as i64,
            chars: text.chars().count() as i64,
            host,
            text,
            ..Enriched::default()
        };
        let record = codec::encode(&d, &codec::Ids::default()).unwrap();
        records.write_all(&u32::try_from(record.len()).unwrap().to_le_bytes()).unwrap();
        records.write_all(&record).unwrap();
        lines.write_all(&body::encode(&d, false).unwrap().lines).unwrap();
    }
    records.flush().unwrap();
    lines.flush().unwrap();
}

/// Words as often as in a language: the n-th about 1/n of the time (Zipf), of 50,000.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn text(&mut self, bytes: usize) -> String {
        const SYLLABLES: [&str; 32] = [
            "ma", "ré", "ti", "de", "mo", "lho", "ção", "wa", "ter", "whe", "el", "gra", "in", "sto", "ne", "ri",
            "ver", "se", "al", "ton", "ber", "gen", "ña", "lo", "pre", "con", "dis", "ing", "ed", "er", "üb", "os",
        ];
        let mut text = String::with_capacity(bytes + 24);
        while text.len() < bytes {
            let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
            let mut rank = 50_000f64.powf(uniform) as usize;
            loop {
                text.push_str(SYLLABLES[rank % SYLLABLES.len()]);
                rank /= SYLLABLES.len();
                if rank == 0 {
                    break;
                }
            }
            text.push(' ');
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Everything through our sink; says how long it took.
async fn ours(url: &str, prefix: &str, records: &Path) {
    let started = Instant::now();
    let sink = OpenSearchIndex::open(&on(url), prefix).unwrap();
    let mut file = BufReader::with_capacity(1 << 20, File::open(records).unwrap());
    let read = std::iter::from_fn(|| {
        let mut length = [0; 4];
        file.read_exact(&mut length).ok()?;
        let mut record = vec![0; u32::from_le_bytes(length) as usize];
        file.read_exact(&mut record).unwrap();
        Some(codec::decode::<Enriched>(&record).unwrap())
    });
    let put = |d| async { sink.put(Arc::new(d)).await.unwrap() };
    stream::iter(read).map(put).buffer_unordered(IN_WORK).for_each(|_| async {}).await;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu());
    println!("{}", serde_json::json!({"seconds": seconds, "cpu": cpu}));
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

// ---- search

/// A line of `tidemill extract`.
#[derive(Deserialize)]
struct Page {
    id: String,
    text: String,
    title: Option<String>,
    language: Option<String>,
}

async fn search(url: &str, pages: &Path) {
    let prefix = format!("bench-{}.", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let cluster = OpenSearchIndex::open(&on(url), &prefix).unwrap();
    let embedded = SqliteIndex::open(&dir.path().join("index.db")).unwrap();
    let mut titles = vec![];
    let mut frequency = BTreeMap::<String, usize>::new();
    for line in BufReader::new(File::open(pages).unwrap()).lines() {
        let page: Page = serde_json::from_str(&line.unwrap()).unwrap();
        let letters = page.text.to_lowercase();
        let words: BTreeSet<&str> = letters.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() > 3).collect();
        words.into_iter().for_each(|w| *frequency.entry(w.to_owned()).or_default() += 1);
        titles.extend(page.title.clone());
        let url = format!("https://www.example.org/{}", page.id);
        let d = Arc::new(Enriched {
            id: page.id,
            url: url.clone(),
            final_url: url,
            host: "www.example.org".into(),
            title: page.title,
            language: page.language,
            text: page.text,
            fetched_at: 1,
            ..Enriched::default()
        });
        let (a, b) = tokio::join!(cluster.put(Arc::clone(&d)), embedded.put(d));
        a.and(b).unwrap();
    }
    cluster.flush().await.unwrap();
    // The two rarest words of a title that at least ten pages have.
    let asked: Vec<String> = titles
        .iter()
        .filter_map(|title| {
            let title = title.to_lowercase();
            let mut words: Vec<(usize, &str)> = title
                .split(|c: char| !c.is_alphanumeric())
                .filter_map(|w| Some((*frequency.get(w).filter(|n| **n >= 10)?, w)))
                .collect();
            words.sort_unstable();
            words.dedup();
            (words.len() >= 2).then(|| format!("{} {}", words[0].1, words[1].1))
        })
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let (mut shared, mut full, mut shown) = (vec![], vec![], 0);
    for text in asked.iter().step_by((asked.len() / QUERIES).max(1)).take(QUERIES) {
        let query = Query::new(text.clone());
        let (a, b) = tokio::join!(cluster.search(&query), embedded.search(&query));
        let ids = |hits: tidemill::sink::Hits| hits.hits.into_iter().map(|h| h.id).collect::<BTreeSet<_>>();
        let (a, b) = (ids(a.unwrap()), ids(b.unwrap()));
        let most = a.len().max(b.len()).max(1);
        let overlap = a.intersection(&b).count() as f64 / most as f64;
        shared.push(overlap);
        if a.len() == 10 && b.len() == 10 {
            full.push(overlap);
        }
        if overlap < 0.5 && shown < 5 {
            shown += 1;
            println!("{text:?}: {} and {} hits, {:.0} % shared", a.len(), b.len(), 100.0 * overlap);
        }
    }
    let mean = |all: &[f64]| 100.0 * all.iter().sum::<f64>() / all.len().max(1) as f64;
    println!(
        "{} pages, {} queries: {:.0} % of the first ten hits are the same",
        titles.len(),
        shared.len(),
        mean(&shared)
    );
    println!("{} queries with ten hits on both: {:.0} %", full.len(), mean(&full));
}
