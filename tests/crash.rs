//! The real binary over thousands of URLs, killed at random instants and started again: afterwards every URL has exactly
//! one document, and no task was done twice.
//!
//! `CRASH_URLS`, `CRASH_KILLS` and `CRASH_SEED` scale it and repeat it; a run prints its seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Ended, Random, Running, Tidemill, count, eventually, log, records, setting};
use tempfile::TempDir;
use tidemill::demo::{Options, Site};
use tidemill::record::headers::TASK;
use tidemill::record::{OutcomeKind, StatusEvent, codec};
use tidemill::topology::{ENRICHED, STATUS};
use tidemill::web::url::{fingerprint, normalise};

/// Hosts the URLs are spread over.
const HOSTS: usize = 40;

/// A site, a file of its URLs, and the command over both.
struct Bench {
    dir: TempDir,
    tidemill: Tidemill,
    urls: Vec<String>,
    _site: Site,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(n: usize) -> Bench {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let site = {
            let _inside = runtime.enter();
            Site::start(Options::default()).unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let urls = site.many(n, HOSTS);
        std::fs::write(dir.path().join("urls.txt"), urls.join("\n")).unwrap();
        let tidemill = Tidemill::new(dir.path());
        Bench { dir, tidemill, urls, _site: site, _runtime: runtime }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out.jsonl")
    }

    /// The command, always the same.
    fn start(&self) -> Running {
        self.tidemill.start(&[
            "run",
            "urls.txt",
            "-o",
            "out.jsonl",
            "--delay",
            "0",
            "--allow-address",
            "127.0.0.1",
            "--resolve",
            "*.demo.test=127.0.0.1",
            "--json",
        ])
    }

    /// Documents in the index by now.
    fn indexed(&self) -> usize {
        let file = self.tidemill.data().join("index.db");
        let found = rusqlite::Connection::open(file)
            .and_then(|c| c.query_row("SELECT count(*) FROM documents", [], |r| r.get(0)));
        // Before the tables are made there are none.
        usize::try_from(found.unwrap_or(0_i64)).unwrap()
    }

    /// Waits until that many documents are in the index.
    fn until_indexed(&self, n: usize, running: &mut Running) {
        let reached = eventually(Duration::from_secs(120), || {
            assert!(running.poll().is_none(), "it ended before {n} documents were in the index");
            self.indexed() >= n
        });
        assert!(reached, "{n} documents were not in the index in time");
    }

    fn ledger(&self) -> Ledger {
        Ledger::read(self.tidemill.data(), &self.out())
    }
}

/// What there is in the end.
#[derive(Debug)]
struct Ledger {
    /// Ids in the index; the table's own constraint makes each unique, so the search rows are counted too.
    index: Vec<String>,
    found_by_search: usize,
    /// Lines by id.
    lines: BTreeMap<String, usize>,
    /// Records in `enriched` by task.
    enriched: BTreeMap<String, usize>,
    /// Ends in `status` by task: indexed, or anything else.
    indexed: BTreeMap<String, usize>,
    other_ends: Vec<StatusEvent>,
}

impl Ledger {
    fn read(data: PathBuf, out: &Path) -> Ledger {
        let index = rusqlite::Connection::open(data.join("index.db")).unwrap();
        index.execute("INSERT INTO search(search, rank) VALUES ('integrity-check', 1)", []).expect("a sound index");
        let mut query = index.prepare("SELECT id FROM documents").unwrap();
        let ids = query.query_map([], |r| r.get(0)).unwrap().collect::<Result<Vec<String>, _>>();
        let found: i64 = index.query_row("SELECT count(*) FROM search_docsize", [], |r| r.get(0)).unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
        let lines = count(text.lines().map(|l| {
            let v: serde_json::Value = serde_json::from_str(l).expect("each line is whole");
            v["id"].as_str().unwrap().to_owned()
        }));
        let (enriched, events) = log(&data, async |transport, names| {
            let enriched = records(transport, names, ENRICHED).await;
            let status = records(transport, names, STATUS).await;
            let events = status.iter().map(|r| codec::decode::<StatusEvent>(&r.value).unwrap()).collect::<Vec<_>>();
            (count(enriched.iter().map(|r| r.headers.str(TASK).unwrap().to_owned())), events)
        });
        let (indexed, other): (Vec<_>, Vec<_>) = events
            .into_iter()
            .filter(|e| e.outcome.is_final())
            .partition(|e| e.stage == "index" && e.outcome == OutcomeKind::Done);
        Ledger {
            index: ids.unwrap(),
            found_by_search: usize::try_from(found).unwrap(),
            lines,
            enriched,
            indexed: count(indexed.into_iter().map(|e| e.task)),
            other_ends: other,
        }
    }

    /// What is wrong with it, a sentence each.
    fn faults(&self, urls: &[String]) -> Vec<String> {
        let mut faults = vec![];
        let expected: BTreeSet<String> = urls.iter().map(|u| fingerprint(&normalise(u).unwrap())).collect();
        assert_eq!(expected.len(), urls.len());
        let mut is = |wrong: bool, what: String| {
            if wrong {
                faults.push(what);
            }
        };
        let index: BTreeSet<String> = self.index.iter().cloned().collect();
        is(index != expected, format!("{} of {} URLs are in the index", index.len(), expected.len()));
        is(self.index.len() != urls.len(), format!("{} rows in the index", self.index.len()));
        is(self.found_by_search != urls.len(), format!("{} rows for search", self.found_by_search));
        is(self.lines.keys().ne(expected.iter()), format!("{} URLs have a line", self.lines.len()));
        for (what, counts) in
            [("lines in the file", &self.lines), ("records in enriched", &self.enriched), ("ends", &self.indexed)]
        {
            is(counts.len() != urls.len(), format!("{} tasks or ids have {what}", counts.len()));
            let twice: Vec<_> = counts.iter().filter(|(_, n)| **n > 1).collect();
            is(!twice.is_empty(), format!("{} have several {what}, such as {:?}", twice.len(), twice.first()));
        }
        is(!self.other_ends.is_empty(), format!("other ends: {:?}", self.other_ends.first()));
        faults
    }
}

/// The report of the last run and `status` agree with the file of URLs.
fn counters_are_exact(bench: &Bench, ended: &Ended) {
    let n = bench.urls.len();
    let report = ended.json();
    assert_eq!((&report["finished"], &report["indexed"]), (&n.into(), &n.into()), "{report}");
    let status = bench.tidemill.json(&["status", "--json"]);
    let jobs = status["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "every start went on with the one job");
    assert_eq!(jobs[0]["job"]["submitted"], n);
    assert_eq!(jobs[0]["progress"]["finished"], n);
    let indexed: Vec<_> = jobs[0]["progress"]["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|o| o["stage"] == "index" && o["outcome"] == "done")
        .map(|o| o["count"].as_u64().unwrap())
        .collect();
    assert_eq!(indexed, [n as u64]);
    assert_eq!(status["dead_letters"], 0);
    for lag in status["lag"].as_array().unwrap() {
        assert_eq!(lag["lag"], 0, "{lag}");
    }
}

#[test]
fn killed_at_random_instants_it_loses_nothing_and_does_nothing_twice() {
    let (n, kills) = (setting("CRASH_URLS", 3_000), setting("CRASH_KILLS", 8));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = setting("CRASH_SEED", now.as_nanos() as u64);
    println!("CRASH_SEED={seed} CRASH_URLS={n} CRASH_KILLS={kills}");
    let mut random = Random(seed);
    let bench = Bench::new(n as usize);
    let (mut killed, mut starts, mut at_work) = (0, 0, 0);
    let ended = loop {
        let mut running = bench.start();
        starts += 1;
        if killed == kills {
            break running.ended(Duration::from_secs(60 + n / 20));
        }
        // Some die while they open their files, some at work, at any moment of a transaction.
        let before = bench.indexed();
        if random.within(0, 4) > 0 {
            let more = random.within(1, n / (2 * (kills + 1)));
            eventually(Duration::from_secs(60), || {
                running.poll().is_some() || bench.indexed() >= before + more as usize
            });
        }
        let instant = Instant::now() + Duration::from_micros(random.within(0, 200_000));
        while Instant::now() < instant && running.poll().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if running.poll().is_some() {
            break running.ended(Duration::from_secs(1));
        }
        running.child.kill().unwrap();
        killed += 1;
        let _ended = running.ended(Duration::from_secs(5));
        at_work += usize::from((before + 1..n as usize).contains(&bench.indexed()));
    };
    println!("{starts} starts, {killed} kills, {at_work} of them at work");
    let ended = ended.expect(0);
    assert!(killed * 2 >= kills, "it was quicker than the kills; give it more CRASH_URLS");
    assert!(at_work > 0, "no kill met it at work");
    let faults = bench.ledger().faults(&bench.urls);
    assert!(faults.is_empty(), "CRASH_SEED={seed}: {faults:#?}");
    counters_are_exact(&bench, &ended);
}

/// The proof that the ledger can fail: without the committed progress, work is done again, and the ledger says so.
#[test]
fn without_the_offset_map_the_ledger_shows_repeats() {
    let bench = Bench::new(300);
    let mut running = bench.start();
    bench.until_indexed(60, &mut running);
    running.child.kill().unwrap();
    let _ended = running.ended(Duration::from_secs(5));
    let log = rusqlite::Connection::open(bench.tidemill.data().join("log.db")).unwrap();
    let emptied = log
        .execute(
            "UPDATE progress SET map = '', base = (SELECT start_offset FROM partitions p
             WHERE p.topic_id = progress.topic_id AND p.partition = progress.partition)",
            [],
        )
        .unwrap();
    assert!(emptied > 0);
    drop(log);
    let _any = bench.start().ended(Duration::from_secs(120));
    let ledger = bench.ledger();
    assert!(ledger.enriched.values().any(|n| *n > 1), "nothing was done again");
    assert!(!ledger.faults(&bench.urls).is_empty());
}

#[test]
fn a_terminated_run_stops_within_its_grace_and_goes_on_later() {
    let bench = Bench::new(600);
    let mut running = bench.start();
    bench.until_indexed(100, &mut running);
    let asked = Instant::now();
    running.signal("TERM");
    // engine.grace is 20 s; nothing here takes nearly as long.
    let ended = running.ended(Duration::from_secs(20)).expect(1);
    println!("stopped after {:?}", asked.elapsed());
    assert!(ended.stderr.contains("run the same command again"), "{}", ended.stderr);
    let report = ended.json();
    let finished = report["finished"].as_u64().unwrap();
    assert!((100..600).contains(&finished), "{report}");
    // What was finished is committed: the log alone says as much.
    let status = bench.tidemill.json(&["status", "--json"]);
    assert!(status["jobs"][0]["progress"]["finished"].as_u64().unwrap() >= finished);
    let ended = bench.start().ended(Duration::from_secs(120)).expect(0);
    assert!(ended.stderr.contains("going on with job"), "{}", ended.stderr);
    let faults = bench.ledger().faults(&bench.urls);
    assert!(faults.is_empty(), "{faults:#?}");
    counters_are_exact(&bench, &ended);
}
