//! Thousands of URLs of the demo web, the command over them, and the ledger of what came of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidemill::demo::{Options, Site};
use tidemill::record::headers::TASK;
use tidemill::record::{OutcomeKind, StatusEvent, codec};
use tidemill::topology::{ENRICHED, STATUS};
use tidemill::web::url::{fingerprint, normalise};

use super::{Ended, Running, Tidemill, count, eventually, log, records};

/// Hosts the URLs are spread over.
const HOSTS: usize = 40;

/// A site, a file of its URLs, and the command over both.
pub struct Bench {
    pub dir: TempDir,
    pub tidemill: Tidemill,
    pub urls: Vec<String>,
    _site: Site,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    pub fn new(n: usize) -> Bench {
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

    pub fn out(&self) -> PathBuf {
        self.dir.path().join("out.jsonl")
    }

    /// The command, always the same.
    pub fn command(&self) -> Command {
        self.tidemill.command(&[
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

    pub fn start(&self) -> Running {
        Running::start(&mut self.command())
    }

    /// Documents in the index by now.
    pub fn indexed(&self) -> usize {
        let file = self.tidemill.data().join("index.db");
        let found = rusqlite::Connection::open(file)
            .and_then(|c| c.query_row("SELECT count(*) FROM documents", [], |r| r.get(0)));
        // Before the tables are made there are none.
        usize::try_from(found.unwrap_or(0_i64)).unwrap()
    }

    /// Waits until that many documents are in the index.
    pub fn until_indexed(&self, n: usize, running: &mut Running) {
        let reached = eventually(Duration::from_secs(120), || {
            assert!(running.poll().is_none(), "it ended before {n} documents were in the index");
            self.indexed() >= n
        });
        assert!(reached, "{n} documents were not in the index in time");
    }

    /// Waits until the index has not grown for so long; how many documents it has then.
    pub fn until_stuck(&self, running: &mut Running, still: Duration) -> usize {
        let (mut count, mut since) = (self.indexed(), Instant::now());
        let until = Instant::now() + Duration::from_secs(60);
        while since.elapsed() < still {
            assert!(running.poll().is_none(), "it ended although something it needs is away");
            assert!(Instant::now() < until, "it never got stuck");
            std::thread::sleep(Duration::from_millis(50));
            let now = self.indexed();
            if now != count {
                (count, since) = (now, Instant::now());
            }
        }
        count
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::read(self.tidemill.data(), &self.out())
    }
}

/// What there is in the end.
#[derive(Debug)]
pub struct Ledger {
    /// Ids in the index; the table's own constraint makes each unique, so the search rows are counted too.
    index: Vec<String>,
    found_by_search: usize,
    /// Lines by id.
    lines: BTreeMap<String, usize>,
    /// Records in `enriched` by task.
    pub enriched: BTreeMap<String, usize>,
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
    pub fn faults(&self, urls: &[String]) -> Vec<String> {
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
pub fn counters_are_exact(bench: &Bench, ended: &Ended) {
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
