//! The command line as people and scripts meet it: the real binary, its exit codes, its sentences and its JSON.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod whole;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use whole::server::{Reply, Server};
use whole::{Ended, LIMIT, Tidemill, eventually};

/// A folder with a command in it.
fn bench() -> (TempDir, Tidemill) {
    let dir = tempfile::tempdir().unwrap();
    let tidemill = Tidemill::new(dir.path());
    (dir, tidemill)
}

/// Pages at `/page/…`; `/sick` answers 403 until `well`; all else is not there.
fn site(well: &Arc<AtomicBool>) -> Server {
    let well = Arc::clone(well);
    Server::start(move |path, _| match path {
        "/sick" if well.load(Ordering::SeqCst) => Reply::page("sickbed"),
        "/sick" => Reply::status(403),
        path if path.starts_with("/page/") => Reply::page(&format!("harbour gauge {}", &path[6..])),
        _ => Reply::status(404),
    })
}

/// `run` over a file, on loopback, at full speed.
fn run(t: &Tidemill, file: &str, more: &[&str]) -> Ended {
    let fixed = ["run", file, "--delay", "0", "--allow-address", "127.0.0.1"];
    t.run(&[&fixed[..], more].concat())
}

fn file(dir: &TempDir, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(dir.path().join(name), text).unwrap();
}

/// One sentence on stderr that starts as errors do and has these words.
#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    assert!(ended.stderr.starts_with("error: "), "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is missing: {ended:?}");
    }
    assert!(!ended.stderr.contains("panicked") && ended.stderr.len() < 1_000, "{ended:?}");
}

fn outcome(report: &Value, stage: &str, outcome: &str, class: &str) -> u64 {
    let all = report["outcomes"].as_array().unwrap();
    let mine = all.iter().filter(|o| o["stage"] == stage && o["outcome"] == outcome && o["class"] == class);
    mine.map(|o| o["count"].as_u64().unwrap()).sum()
}

// ---- usage

#[test]
fn what_cannot_be_meant_ends_with_2() {
    let (_dir, t) = bench();
    for (args, words) in [
        (&["run", "--dealy", "1s"][..], &["--dealy"][..]),
        (&["rum"][..], &["rum"]),
        (&[][..], &["Usage"]),
        (&["run", "x", "--delay", "soon"], &["soon", "500ms"]),
        (&["run", "x", "--ladder", "steep"], &["steep", "quick"]),
        (&["run", "x", "--stages", "fetsh"], &["fetsh", "extract"]),
        (&["run", "--fresh"], &["--fresh"]),
        (&["submit"], &["--file"]),
        (&["submit", "http://a/", "--file", "x"], &["--file"]),
        (&["dlq", "replay"], &["--all"]),
        (&["dlq", "ls", "--class", "tiemout"], &["tiemout", "timeout"]),
        (&["dlq", "stats", "--by", "cause"], &["cause", "stage, class, host or fingerprint"]),
        (&["dlq", "replay", "--all", "--rate", "0"], &["records a second"]),
        (&["dlq", "ls", "--since", "soon"], &["soon", "10m ago"]),
        (&["dlq", "ls", "--attempts", "few"], &["few", "2..4"]),
        (&["dlq", "ls", "--path", "url"], &["url", "$.attrs.source"]),
        (&["search", "x"], &["no index", "--data"]),
        (&["top", "--every", "0s"], &["100ms"]),
        (&["tail", "paegs"], &["paegs", "nearest is pages"]),
        (&["produce", "tidemill.url"], &["nearest is urls"]),
        (&["tail", "urls", "--partition", "12"], &["tidemill.urls has no partition 12", "0 to 11"]),
        (&["tail", "urls", "--from", "end"], &["--follow"]),
        (&["tail", "urls", "--from", "soon"], &["soon", "10m ago"]),
        (&["tail", "urls", "--header", "x"], &["NAME=VALUE"]),
        (&["produce", "urls", "--json", "--key-separator", ":"], &["--key-separator"]),
        (&["status", "--log", "tidemill=loud"], &["loud"]),
        (&["status", "--config", "nowhere.toml"], &["nowhere.toml", "--config"]),
    ] {
        let ended = t.run(args).expect(2);
        for word in words {
            assert!(ended.stderr.contains(word), "{args:?}: {word:?} is missing: {}", ended.stderr);
        }
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    let (_dir, t) = bench();
    let help = t.run(&["--help"]).expect(0);
    assert!(help.stdout.contains("Exit codes: 0 done, 1 failed, 2 usage, 3"), "{}", help.stdout);
    for command in [
        "run",
        "demo",
        "submit",
        "reprocess",
        "try",
        "search",
        "explain",
        "status",
        "top",
        "tail",
        "produce",
        "relay",
        "dlq",
        "topics",
        "config",
        "extract",
    ] {
        assert!(help.stdout.contains(command));
        t.run(&[command, "--help"]).expect(0);
    }
    assert!(t.run(&["--version"]).expect(0).stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    let (dir, t) = bench();
    file(&dir, "tidemill.toml", "[fetch]\ndelay = \"1s\"\ndealy = \"2s\"\n");
    let ended = t.run(&["config", "check"]).expect(2);
    says(&ended, &["tidemill.toml", "line 3", "dealy"]);
    file(&dir, "tidemill.toml", "");
    let mut command = t.command(&["status"]);
    let ended = whole::Running::start(command.env("TIDEMILL_FETCH__DEALY", "2s")).ended(whole::LIMIT).expect(2);
    says(&ended, &["TIDEMILL_FETCH__DEALY", "dealy"]);
    file(&dir, "other.toml", "[fetch]\ndelay = \"soon\"\n");
    says(&t.run(&["run", "--config", "other.toml", "urls.txt"]).expect(2), &["other.toml", "line 2"]);
}

#[test]
fn the_configuration_shown_reads_back() {
    let (dir, t) = bench();
    file(&dir, "tidemill.toml", "[fetch]\ndelay = \"1500ms\"\nresolve = { \"*.a.test\" = \"127.0.0.1\" }\n");
    t.run(&["config", "check"]).expect(0);
    let shown = t.run(&["config", "show"]).expect(0).stdout;
    assert!(shown.contains("*.a.test"), "{shown}");
    file(&dir, "shown.toml", &shown);
    assert_eq!(t.run(&["config", "show", "--config", "shown.toml"]).expect(0).stdout, shown);
    let json = t.json(&["config", "show", "--json"]);
    assert_eq!(json["fetch"]["delay"], "1s 500ms", "{json}");
}

#[test]
fn completions_are_a_script() {
    let (_dir, t) = bench();
    let script = t.run(&["completions", "bash"]).expect(0).stdout;
    assert!(script.contains("complete -F _tidemill") && script.contains("--allow-address"));
}

// ---- files that are not what they should be

#[test]
fn files_that_cannot_be_used_are_named() {
    let (dir, t) = bench();
    says(&run(&t, "nowhere.txt", &[]).expect(1), &["cannot read URLs from nowhere.txt"]);
    says(&t.run(&["submit", "--file", "nowhere.txt"]).expect(1), &["nowhere.txt"]);
    file(&dir, "urls.txt", "http://127.0.0.1:9/\n");
    file(&dir, "a-file", "");
    says(&run(&t, "urls.txt", &["-o", "a-file/out.jsonl"]).expect(1), &["a-file"]);
    says(&t.run(&["status", "--data", "a-file/data"]).expect(1), &["a-file/data"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    says(&run(&t, "urls.txt", &["--listen", &address]).expect(1), &[&address, "--listen"]);
}

#[test]
fn other_peoples_databases_are_left_alone() {
    let (dir, t) = bench();
    file(&dir, "urls.txt", "http://127.0.0.1:9/\n");
    // Makes all three.
    t.run(&["run", "/dev/null"]).expect(0);
    for name in ["log.db", "store.db", "index.db"] {
        let path = t.data().join(name);
        let good = std::fs::read(&path).unwrap();
        let refused = |words: &[&str]| {
            let before = std::fs::read(&path).unwrap();
            let ended = run(&t, "urls.txt", &[]).expect(1);
            says(&ended, words);
            assert!(ended.stderr.contains(name) && ended.stderr.contains("--data"), "{ended:?}");
            assert_eq!(std::fs::read(&path).unwrap(), before, "{name} was changed");
        };
        let remove = || {
            for suffix in ["", "-wal", "-shm"] {
                let _gone = std::fs::remove_file(t.data().join(format!("{name}{suffix}")));
            }
        };
        let sql = |sql: &str| {
            let c = rusqlite::Connection::open(&path).unwrap();
            c.execute_batch(sql).unwrap();
        };
        sql("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)");
        refused(&["later version", "upgrade"]);
        remove();
        sql("CREATE TABLE mine(x); INSERT INTO mine VALUES (1)");
        refused(&["something else"]);
        remove();
        std::fs::write(&path, vec![0xa5; 9_000]).unwrap();
        refused(&["not a SQLite database"]);
        std::fs::write(&path, b"a note to myself\n").unwrap();
        refused(&["not a SQLite database"]);
        remove();
        std::fs::write(&path, good).unwrap();
    }
    t.run(&["status"]).expect(0);
}

// ---- run over a file

#[test]
fn lines_that_are_no_urls_end_as_letters_and_the_rest_goes_on() {
    let (dir, t) = bench();
    let well = Arc::default();
    let site = site(&well);
    let bad = ["not a url", "http://", "http://h:99999/", "http://[::1", "http://exa mple/", "mailto:a@b"];
    let text = format!("# pages\n{}\n\n  {}  \n{}\n", site.url("/page/1"), site.url("/page/2"), bad.join("\r\n"));
    file(&dir, "urls.txt", [text.as_bytes(), b"http://\xff\xfe/\n"].concat());
    let report = run(&t, "urls.txt", &["--json"]).expect(3).json();
    assert_eq!((&report["submitted"], &report["finished"], &report["indexed"]), (&9.into(), &9.into(), &2.into()));
    assert_eq!(report["dead_letters"], 7);
    let letters = t.json(&["dlq", "ls", "--json"]);
    let letters = letters.as_array().unwrap();
    assert_eq!(letters.len(), 7);
    for l in letters {
        let class = l["class"].as_str().unwrap();
        assert!(class == "invalid-url" || class == "blocked-address" && l["url"] == "mailto:a@b", "{l}");
        assert_eq!((&l["stage"], &l["attempts"]), (&"fetch".into(), &1.into()));
    }
    let urls: BTreeSet<_> = letters.iter().map(|l| l["url"].as_str().unwrap()).collect();
    assert!(bad.iter().all(|b| urls.contains(b)), "{urls:?}");
    assert_eq!(t.json(&["status", "--json"])["dead_letters"], 7);
}

#[test]
fn an_empty_file_is_done_at_once() {
    let (dir, t) = bench();
    file(&dir, "urls.txt", "# nothing yet\n\n");
    let report = run(&t, "urls.txt", &["--json"]).expect(0).json();
    assert_eq!((&report["submitted"], &report["finished"]), (&0.into(), &0.into()));
}

#[test]
fn the_same_file_again_is_a_new_job_over_the_same_documents() {
    let (dir, t) = bench();
    let site = site(&Arc::default());
    file(&dir, "urls.txt", format!("{}\n{}\n", site.url("/page/1"), site.url("/page/2")));
    let mut jobs = BTreeSet::new();
    for _ in 0..2 {
        let report = run(&t, "urls.txt", &["--force", "--json"]).expect(0).json();
        assert_eq!(report["indexed"], 2);
        jobs.insert(report["job"].as_str().unwrap().to_owned());
    }
    assert_eq!(jobs.len(), 2);
    let hits = t.json(&["search", "harbour", "--json"]);
    assert_eq!(hits["total"], 2);
    // From stdin it is one more.
    let urls = format!("{}\n", site.url("/page/3"));
    let args = ["run", "-", "--delay", "0", "--allow-address", "127.0.0.1", "--json"];
    assert_eq!(t.run_with(&args, urls.as_bytes()).expect(0).json()["indexed"], 1);
}

#[test]
fn addresses_of_this_machine_are_refused_unless_allowed() {
    let (dir, t) = bench();
    let site = site(&Arc::default());
    file(&dir, "urls.txt", site.url("/page/1"));
    let report = t.run(&["run", "urls.txt", "--delay", "0", "--json"]).expect(3).json();
    assert_eq!(outcome(&report, "fetch", "dead_lettered", "blocked-address"), 1, "{report}");
    assert!(site.arrivals("/page/1").is_empty() && site.arrivals("/robots.txt").is_empty());
}

#[test]
fn a_document_is_a_line_of_the_output() {
    let (dir, t) = bench();
    let site = site(&Arc::default());
    file(&dir, "urls.txt", format!("{}\n{}\n", site.url("/page/1"), site.url("/nothing")));
    run(&t, "urls.txt", &["-o", "out.jsonl"]).expect(3);
    let text = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["url"], &lines[0]["title"]), (&site.url("/page/1").into(), &"harbour gauge 1".into()));
    assert!(lines[0]["text"].as_str().unwrap().contains("story of its own"));
}

#[test]
fn logs_in_json_are_one_object_a_line_with_the_fields_that_are_promised() {
    let (dir, t) = bench();
    let site = site(&Arc::default());
    file(&dir, "urls.txt", format!("{}\n{}\nnot a url\n", site.url("/page/1"), site.url("/nothing")));
    let ended = run(&t, "urls.txt", &["--json", "--log", "info", "--log-format", "json"]).expect(3);
    let report = ended.json();
    let lines: Vec<Value> =
        ended.stderr.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    assert!(lines.iter().all(|l| l["timestamp"].is_string() && l["level"].is_string() && l["message"].is_string()));
    let dead: Vec<_> = lines.iter().filter(|l| l["outcome"] == "dead_lettered").collect();
    assert_eq!(dead.len(), 2, "{}", ended.stderr);
    for l in dead {
        assert_eq!((&l["stage"], &l["level"], &l["attempt"]), (&"fetch".into(), &"WARN".into(), &1.into()));
        assert!(["invalid-url", "http-4xx"].contains(&l["class"].as_str().unwrap()), "{l}");
        assert_eq!(l["job"], report["job"]);
        let trace = l["trace"].as_str().unwrap();
        assert!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()));
        assert!(l["task"].as_str().unwrap().starts_with(report["job"].as_str().unwrap()));
        assert!(["not a url", &site.url("/nothing")].contains(&l["url"].as_str().unwrap()));
    }
    // At debug level the good ones are there too.
    let ended =
        run(&t, "urls.txt", &["--fresh", "--force", "--json", "--log", "tidemill=debug", "--log-format", "json"])
            .expect(3);
    let indexed = ended.stderr.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    assert_eq!(indexed.filter(|l| l["outcome"] == "done" && l["stage"] == "index").count(), 1);
}

// ---- one URL, one page

#[test]
fn try_shows_each_stage_and_writes_nothing() {
    let (_dir, t) = bench();
    let site = site(&Arc::default());
    let steps = t.run(&["try", &site.url("/page/1"), "--allow-address", "127.0.0.1", "--json"]).expect(0).json();
    let names: Vec<_> = steps.as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["fetch", "extract", "enrich", "document"]);
    assert_eq!(steps[3]["result"]["title"], "harbour gauge 1");
    assert!(!t.data().exists());
    let steps = t.run(&["try", &site.url("/nothing"), "--allow-address", "127.0.0.1", "--json"]).expect(1).json();
    assert_eq!(steps[0]["result"]["outcome"]["dead-letter"], "http-4xx");
    let people = t.run(&["try", &site.url("/page/1"), "--allow-address", "127.0.0.1"]).expect(0).stdout;
    assert!(people.contains("title      harbour gauge 1"), "{people}");
}

#[test]
fn extract_answers_a_line_a_line_in_order() {
    let (dir, t) = bench();
    let Reply(_, _, page) = Reply::page("lock keeper");
    file(&dir, "a.html", &page);
    let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    gz.write_all(page.replace("lock keeper", "ferryman").as_bytes()).unwrap();
    file(&dir, "b.html.gz", gz.finish().unwrap());
    file(&dir, "c.html.gz", b"\x1f\x8b\x08 this is not gzip");
    file(&dir, "d.html", b"");
    let lines: Vec<String> = ["a.html", "b.html.gz", "nowhere.html", "c.html.gz", "d.html", "a.html"]
        .iter()
        .enumerate()
        .map(|(n, f)| serde_json::json!({"id": n.to_string(), "url": "http://a.test/", "file": f}).to_string())
        .collect();
    let ended = t.run_with(&["extract"], format!("{}\n", lines.join("\n\n")).as_bytes()).expect(0);
    let out: Vec<Value> = ended.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(out.iter().map(|l| l["id"].as_str().unwrap()).collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!((&out[0]["title"], &out[1]["title"]), (&"lock keeper".into(), &"ferryman".into()));
    assert_eq!(out[0]["language"], "en");
    assert!(out[1]["text"].as_str().unwrap().contains("The ferryman has a story"));
    for (n, word) in [(2, "nowhere.html"), (3, "gzip")] {
        assert!(out[n]["error"].as_str().unwrap().contains(word), "{}", out[n]);
        assert_eq!(out[n]["text"], "");
    }
    assert!(out[5].get("error").is_none());
    // The folder can be named, and a line that is not one says so.
    let root = dir.path().join("..");
    let name = dir.path().file_name().unwrap().to_str().unwrap();
    let line = serde_json::json!({"id": "x", "file": Path::new(name).join("a.html")}).to_string();
    let ended = t.run_with(&["extract", "--root", root.to_str().unwrap()], line.as_bytes()).expect(0);
    assert_eq!(ended.json()["title"], "lock keeper");
    let ended = t.run_with(&["extract"], format!("{}\nnot json\n", lines[0]).as_bytes()).expect(1);
    says(&ended, &["line 2"]);
}

// ---- the service

/// One GET, as a probe does it.
fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut all = String::new();
    stream.read_to_string(&mut all).ok()?;
    let (head, body) = all.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

#[test]
fn a_service_takes_what_is_submitted_answers_probes_and_ends_with_0() {
    let (_dir, t) = bench();
    let site = site(&Arc::default());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut service = t.start(&["run", "--delay", "0", "--allow-address", "127.0.0.1", "--listen", &address]);
    assert!(eventually(Duration::from_secs(30), || get(&address, "/ready").is_some_and(|(s, _)| s == 200)));
    assert_eq!(get(&address, "/health").unwrap(), (200, "ok\n".into()));
    assert_eq!(get(&address, "/nothing").unwrap().0, 404);

    let job = t.json(&["submit", &site.url("/page/1"), &site.url("/page/2"), &site.url("/nothing"), "--json"]);
    assert_eq!((&job["submitted"], &job["appended"]), (&3.into(), &3.into()));
    let high = t.json(&["submit", &site.url("/page/3"), "--lane", "high", "--json"]);
    let finished = |job: &Value| {
        let status = t.json(&["status", "--json"]);
        let mine = status["jobs"].as_array().unwrap().iter().find(|j| j["job"]["id"] == job["id"]).cloned().unwrap();
        mine["progress"]["finished"] == job["submitted"]
    };
    assert!(eventually(Duration::from_secs(30), || finished(&job) && finished(&high)));

    let (status, metrics) = get(&address, "/metrics").unwrap();
    assert_eq!(status, 200);
    for line in [
        "tidemill_records_total{class=\"\",outcome=\"done\",stage=\"index\"} 3",
        "tidemill_records_total{class=\"http-4xx\",outcome=\"dead_lettered\",stage=\"fetch\"} 1",
        "tidemill_in_flight_records{stage=\"fetch\"} 0",
        "tidemill_processing_seconds_count{stage=\"fetch\"} 4",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    let hits = t.json(&["search", "harbour", "gauge", "--json"]);
    assert_eq!((&hits["total"], hits["hits"].as_array().unwrap().len()), (&3.into(), 3));
    assert!(hits["hits"][0]["snippet"].as_str().unwrap().contains("[harbour]"), "{hits}");
    let site_only = t.json(&["search", "harbour", "--site", "elsewhere.test", "--json"]);
    assert_eq!(site_only["total"], 0);
    let asked = |path: &str| {
        let (status, body) = get(&address, path).unwrap();
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let (status, found) =
        asked("/search?q=harbour%20-site:elsewhere.test&limit=1&facets=5&pre_tag=%3Cb%3E&post_tag=%3C/b%3E");
    assert_eq!((status, &found["total"], found["hits"].as_array().unwrap().len()), (200, &3.into(), 1));
    assert_eq!(found["facets"]["host"], json!([{"value": site.address.to_string(), "count": 3}]), "{found}");
    assert!(found["hits"][0]["snippet"].as_str().unwrap().contains("<b>harbour</b>"), "{found}");
    for (wrong, says) in
        [("/search", "at least one word"), ("/search?q=a&size=5", "size"), ("/search?q=a&limit=x", "limit")]
    {
        let (status, why) = asked(wrong);
        assert!(status == 400 && why["error"].as_str().unwrap().contains(says), "{wrong}: {why}");
    }
    let shown = t.run(&["search", "harbour", "--facets"]).expect(0).stdout;
    assert!(shown.contains("127.0.0.1") && shown.contains('█') && shown.contains("3 of 3"), "{shown}");
    let events = t.json(&["explain", &site.url("/page/1"), "--json"]);
    let steps: Vec<_> = events.as_array().unwrap().iter().map(|e| e["stage"].as_str().unwrap()).collect();
    assert_eq!(steps, ["fetch", "extract", "enrich", "index"]);
    assert_eq!(events[3]["outcome"], "done");

    assert!(service.poll().is_none(), "it stays up");
    service.signal("TERM");
    let ended = service.ended(Duration::from_secs(20)).expect(0);
    assert_eq!(ended.stdout, "");
}

#[test]
fn what_is_unknown_is_said_to_be() {
    let (_dir, t) = bench();
    let ended = t.run(&["explain", "http://never.test/"]).expect(1);
    assert!(ended.stdout.contains("nothing is known of http://never.test/"));
    assert_eq!(t.run(&["explain", "http://never.test/", "--json"]).expect(1).json(), serde_json::json!([]));
    says(&t.run(&["dlq", "show", "fetch.dlq/0/7"]).expect(1), &["fetch.dlq/0/7", "dlq ls"]);
    says(&t.run(&["dlq", "show", "the first"]).expect(2), &["the first", "fetch.dlq/3/17"]);
    let status = t.json(&["status", "--json"]);
    assert_eq!((&status["jobs"], &status["dead_letters"]), (&serde_json::json!([]), &0.into()));
}

#[test]
fn a_letter_that_is_replayed_succeeds_once_the_page_is_well() {
    let (dir, t) = bench();
    let well = Arc::default();
    let site = site(&well);
    let sick = site.url("/sick");
    file(&dir, "urls.txt", format!("{}\n{sick}\n{}\n", site.url("/page/1"), site.url("/nothing")));
    assert_eq!(run(&t, "urls.txt", &["--json"]).expect(3).json()["dead_letters"], 2);

    let letters = t.json(&["dlq", "ls", "--class", "http-4xx", "--stage", "fetch", "--json"]);
    assert_eq!(letters.as_array().unwrap().len(), 2);
    assert_eq!(t.json(&["dlq", "ls", "--class", "timeout", "--json"]), serde_json::json!([]));
    let letter = letters.as_array().unwrap().iter().find(|l| l["url"] == *sick).unwrap();
    let id = letter["id"].as_str().unwrap();
    let shown = t.json(&["dlq", "show", id, "--json"]);
    assert_eq!((&shown["class"], &shown["replayed"]), (&"http-4xx".into(), &false.into()));
    assert!(shown["message"].as_str().unwrap().contains("403"), "{shown}");
    assert!(shown["value_hex"].as_str().unwrap().starts_with("c301"), "the record's own bytes: {shown}");
    let people = t.run(&["dlq", "show", id]).expect(0).stdout;
    assert!(people.contains("answered 403") && people.contains(&sick), "{people}");

    assert!(people.contains("url_task") && people.contains("\"url\": "), "the value, decoded: {people}");
    assert!(shown["value"]["url"] == *sick && shown["history"][0]["outcome"] == "dead_lettered", "{shown}");
    let stats = t.json(&["dlq", "stats", "--by", "class,host", "--since", "1h ago", "--json"]);
    assert_eq!((&stats["letters"], &stats["groups"][0]["letters"]), (&2.into(), &2.into()), "{stats}");
    assert_eq!((&stats["groups"][0]["class"], &stats["groups"][0]["fingerprint"]), (&"http-4xx".into(), &().into()));
    let cause = shown["fingerprint"].as_str().unwrap();
    let people = t.run(&["dlq", "stats"]).expect(0).stdout;
    let words = [cause, "http-4xx", "answered 40", "2 dead letters, 1 groups"];
    assert!(words.iter().all(|w| people.contains(w)), "{people}");
    assert_eq!(t.json(&["dlq", "ls", "--until", "1h ago", "--json"]), serde_json::json!([]));
    for (flags, found) in [
        (["--path", "$.url"], 2),
        (["--path", "$.nowhere"], 0),
        (["--grep", "/sick"], 1),
        (["--header", "tidemill.job"], 2),
        (["--attempts", "1"], 2),
        (["--attempts", "2.."], 0),
    ] {
        let all = [&["dlq", "ls", "--json"][..], &flags].concat();
        assert_eq!(t.json(&all).as_array().unwrap().len(), found, "{flags:?}");
    }

    // Out, into another log, and out again: the same bytes.
    let lines = t.run(&["dlq", "export", "--stage", "fetch"]).expect(0).stdout;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let (_elsewhere, other) = bench();
    assert!(other.run_with(&["dlq", "import"], lines.as_bytes()).expect(0).stderr.contains("2 dead letters imported"));
    let parts = |lines: &str| -> BTreeSet<String> {
        let fields = ["topic", "partition", "key", "headers", "value", "value_base64"];
        let one = |line: &str| {
            let v: Value = serde_json::from_str(line).unwrap();
            fields.map(|f| v[f].to_string()).join(" ")
        };
        lines.lines().map(one).collect()
    };
    assert_eq!(parts(&other.run(&["dlq", "export"]).expect(0).stdout), parts(&lines));
    says(&other.run_with(&["dlq", "import"], b"{\"value\":\"x\"}\n").expect(1), &["line 1", "topic and partition"]);
    let urls = b"{\"topic\":\"tidemill.urls\",\"partition\":0,\"value\":\"x\"}\n";
    says(&other.run_with(&["dlq", "import"], urls).expect(1), &["tidemill.urls", "fetch.dlq"]);

    let dry = t.json(&["dlq", "replay", id, "--dry-run", "--json"]);
    assert_eq!((&dry["replayed"], &dry["dry_run"]), (&1.into(), &true.into()));
    assert_eq!(t.json(&["dlq", "ls", "--json"]).as_array().unwrap().len(), 2, "a dry run does nothing");

    well.store(true, Ordering::SeqCst);
    let replayed = t.json(&["dlq", "replay", id, "--json"]);
    assert_eq!(replayed["replayed"], 1);
    assert_eq!(replayed["to"]["fetch.retry.1"], 1, "{replayed}");
    assert_eq!(t.json(&["dlq", "replay", id, "--json"])["replayed"], 0, "not twice");
    assert_eq!(t.json(&["dlq", "ls", "--json"]).as_array().unwrap().len(), 1);
    assert_eq!(t.json(&["dlq", "ls", "--all", "--json"]).as_array().unwrap().len(), 2);

    // The same command goes on with the job, which is not finished any more.
    let ended = run(&t, "urls.txt", &["--json"]).expect(3);
    assert!(ended.stderr.contains("going on with job"), "{}", ended.stderr);
    let report = ended.json();
    assert_eq!((&report["finished"], &report["indexed"], &report["dead_letters"]), (&3.into(), &2.into(), &1.into()));
    assert_eq!(site.arrivals("/sick").len(), 2);
    assert_eq!(site.arrivals("/nothing").len(), 1, "only what was replayed is fetched again");
    assert_eq!(t.json(&["search", "sickbed", "--json"])["total"], 1);
    let outcomes: Vec<_> = t.json(&["explain", &sick, "--json"]).as_array().unwrap().clone();
    let outcomes: Vec<_> = outcomes.iter().map(|e| e["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["dead_lettered", "replayed", "emitted", "emitted", "emitted", "done"]);
    let runs = t.json(&["dlq", "runs", "--json"]);
    assert_eq!((&runs[0]["run"], &runs[0]["letters"]), (&replayed["run"], &1.into()), "{runs}");
    assert_eq!((&runs[0]["succeeded"], &runs[0]["waiting"], &runs[1]), (&1.into(), &0.into(), &().into()), "{runs}");
    let people = t.run(&["dlq", "runs"]).expect(0).stdout;
    assert!(people.contains(replayed["run"].as_str().unwrap()), "{people}");
    // Nobody works, so nobody knows how the sample fares; the rest stays.
    let stopped =
        t.run(&["dlq", "replay", "--all", "--sample", "1", "--sample-wait", "100ms", "--json"]).expect(1).json();
    assert_eq!((&stopped["replayed"], &stopped["sample"]["waiting"]), (&1.into(), &1.into()), "{stopped}");
}

// ---- a reader that goes away

/// The pipe is closed before the command can write to it.
fn unread(t: &Tidemill, args: &[&str], which: &str) -> Ended {
    let mut running = whole::Running::unread(&mut t.command(args), which);
    assert!(eventually(Duration::from_secs(60), || running.poll().is_some()));
    running.ended(Duration::from_secs(1))
}

#[test]
fn nobody_reading_is_no_panic() {
    let (dir, t) = bench();
    let site = site(&Arc::default());
    file(&dir, "urls.txt", format!("{}\n{}\n", site.url("/page/1"), site.url("/nothing")));
    let base = ["run", "urls.txt", "--delay", "0", "--allow-address", "127.0.0.1", "--log", "debug"];
    // Its logs and its lines go nowhere, and it works on.
    let report = unread(&t, &[&base[..], &["--json"]].concat(), "stderr").expect(3).json();
    assert_eq!(report["indexed"], 1);
    unread(&t, &base, "both").expect(3);
    for args in [
        &["dlq", "ls"][..],
        &["dlq", "ls", "--json"],
        &["status"],
        &["top", "--every", "100ms"],
        &["tail", "status"],
        &["tail", "status", "--follow", "--json"],
        &["search", "harbour"],
        &["config", "show"],
        &["completions", "bash"],
    ] {
        let ended = unread(&t, args, "stdout").expect(0);
        assert_eq!(ended.stderr, "", "{args:?}");
    }
    unread(&t, &["dlq", "show", "nonsense"], "stderr").expect(2);
}

#[test]
fn pages_are_taken_out_of_the_index_and_stay_out() {
    let (dir, t) = bench();
    let site = site(&Arc::default());
    let urls: String = (0..5).map(|n| format!("{}\n", site.url(&format!("/page/{n}")))).collect();
    file(&dir, "urls.txt", urls);
    run(&t, "urls.txt", &[]).expect(0);
    let total = || t.json(&["search", "harbour", "--json"])["total"].clone();
    let (first, host) = (site.url("/page/0"), site.address.to_string());
    let dry = t.json(&["index", "delete", &first, "--host", &host, "--dry-run", "--json"]);
    assert_eq!((&dry["matched"], total()), (&6.into(), 5.into()), "one of them is asked for twice");
    // Nobody is there to be asked.
    says(&t.run(&["index", "delete", &first]).expect(2), &["--yes"]);
    assert_eq!(t.json(&["index", "delete", &first, "--yes", "--json"]), json!({"deleted": 1, "newer": 0}));
    assert_eq!(
        (total(), t.json(&["index", "delete", &first, "--yes", "--json"])["deleted"].clone()),
        (4.into(), 0.into())
    );
    let ended = t.run(&["index", "delete", &first, "--host", &host, "--yes"]).expect(0);
    assert!(ended.stdout.contains("4 documents are taken out"), "{ended:?}");
    let ended = t.run(&["index", "delete", "--host", &host, "--yes"]).expect(0);
    assert!(ended.stdout.contains("none of these") && ended.stdout.contains("0 documents"), "{ended:?}");
    assert_eq!(total(), 0);
}

// ---- several processes

#[test]
fn stages_may_run_in_processes_of_their_own_on_one_folder() {
    let (dir, t) = bench();
    let site = site(&Arc::default());
    let urls: String = (0..40).map(|n| format!("{}\n", site.url(&format!("/page/{n}")))).collect();
    file(&dir, "urls.txt", urls);
    let rest = t.start(&["run", "--stages", "extract,enrich,index", "--listen", "127.0.0.1:0"]);
    let report = run(&t, "urls.txt", &["--stages", "fetch", "--json"]).expect(0).json();
    assert_eq!((&report["finished"], &report["indexed"]), (&40.into(), &40.into()));
    rest.signal("TERM");
    rest.ended(Duration::from_secs(20)).expect(0);
    assert_eq!(t.json(&["search", "harbour", "--json"])["total"], 40);
}

// ---- topics

#[test]
fn topics_are_made_grown_and_set_once() {
    let (dir, t) = bench();
    let brief = |v: &Value| {
        let count = |what| v["actions"].as_array().unwrap().iter().filter(|a| a["action"] == what).count();
        [count("create"), count("grow"), count("configure"), v["refused"].as_array().unwrap().len()]
    };
    // Looking creates nothing.
    assert!(t.json(&["topics", "ls", "--json"]).as_array().unwrap().iter().all(|t| t["exists"] == false));
    let all = t.json(&["topics", "ls", "--json"]).as_array().unwrap().len();
    assert_eq!(brief(&t.json(&["topics", "plan", "--json"])), [all, 0, 0, 0]);
    // Nobody is there to be asked.
    says(&t.run(&["topics", "apply"]).expect(2), &["--yes"]);
    assert_eq!(brief(&t.json(&["topics", "plan", "--json"])), [all, 0, 0, 0]);

    let ended = t.run(&["topics", "apply", "--yes", "--partitions", "4"]).expect(0);
    assert!(ended.stdout.contains(&format!("{all} to create")) && ended.stdout.contains("4 partitions"), "{ended:?}");
    assert!(ended.stderr.contains("create") && ended.stdout.contains("done"), "{ended:?}");
    let ended = t.run(&["topics", "apply", "--yes", "--partitions", "4"]).expect(0);
    assert!(ended.stdout.contains("nothing to do") && ended.stderr.is_empty(), "{ended:?}");
    let ls = t.run(&["topics", "ls"]).expect(0).stdout;
    let line = ls.lines().find(|l| l.contains("tidemill.fetch.dlq")).unwrap();
    for word in [" 4 ", "delete", "30 d", "2 MiB", "dead letters of fetch"] {
        assert!(line.contains(word), "{word:?}: {line}");
    }

    // Set by somebody else.
    let db = rusqlite::Connection::open(dir.path().join("data/log.db")).unwrap();
    let change = |set: &str, topic: &str| {
        let changed = db.execute(&format!("UPDATE topics SET {set} WHERE name = ?"), [topic]).unwrap();
        assert_eq!(changed, 1);
    };
    change("retention_ms = 5", "tidemill.urls");
    change("retention_ms = -1", "tidemill.pages");
    change("cleanup = 'delete', retention_ms = 5", "tidemill.jobs");
    let plan = t.run(&["topics", "plan", "--partitions", "4", "--json"]).expect(1).json();
    assert_eq!(brief(&plan), [0, 0, 2, 1]);
    assert!(plan["refused"][0]["instead"].as_str().unwrap().contains("--allow-shorter-retention"), "{plan}");
    // What is not refused is done, and that something was is not forgotten.
    let applied = t.run(&["topics", "apply", "--yes", "--partitions", "4", "--json"]).expect(1).json();
    assert_eq!((applied["done"].as_array().unwrap().len(), &applied["left"]), (2, &serde_json::json!([])));
    assert_eq!(brief(&t.run(&["topics", "plan", "--partitions", "4", "--json"]).expect(1).json()), [0, 0, 0, 1]);
    let args = ["topics", "apply", "--yes", "--partitions", "4", "--allow-shorter-retention"];
    assert!(t.run(&args).expect(0).stdout.contains("for ever → 1 d"));
    // A record without a key would not survive compaction.
    change("cleanup = 'delete'", "tidemill.jobs");
    let insert = "INSERT INTO records(id, timestamp, key, headers, codec, value)
                  SELECT (id << 52) | (1 << 40), 0, NULL, '[]', 0, x'00' FROM topics WHERE name = 'tidemill.jobs'";
    db.execute(insert, []).unwrap();
    let grow = "UPDATE partitions SET next_offset = 1 WHERE partition = 1
                AND topic_id = (SELECT id FROM topics WHERE name = 'tidemill.jobs')";
    db.execute(grow, []).unwrap();
    let ended = t.run(&["topics", "plan", "--partitions", "4"]).expect(1);
    assert!(ended.stdout.contains("refused: tidemill.jobs: ") && ended.stdout.contains("without a key"), "{ended:?}");
}

#[test]
fn topics_that_a_stage_reads_together_are_grown_together() {
    let (dir, t) = bench();
    file(&dir, "urls.txt", "http://127.0.0.1:9/\n");
    t.run(&["topics", "apply", "--yes", "--partitions", "2"]).expect(0);
    let ended = t.run(&["topics", "plan", "--partitions", "1"]).expect(1);
    assert!(ended.stdout.contains("going down to 1") && ended.stdout.contains("another `prefix`"), "{ended:?}");
    let db = rusqlite::Connection::open(dir.path().join("data/log.db")).unwrap();
    db.execute("UPDATE topics SET partitions = 1 WHERE name = 'tidemill.urls.bulk'", []).unwrap();
    db.execute(
        "DELETE FROM partitions WHERE partition > 0
         AND topic_id = (SELECT id FROM topics WHERE name = 'tidemill.urls.bulk')",
        [],
    )
    .unwrap();
    // The stage says what helps, and it helps.
    says(&run(&t, "urls.txt", &[]).expect(1), &["urls.bulk has 1 partitions", "tidemill topics apply"]);
    let ended = t.run(&["topics", "apply", "--yes", "--partitions", "2"]).expect(0);
    assert!(ended.stdout.contains("tidemill.urls.bulk  1 → 2 partitions"), "{ended:?}");
    assert!(ended.stdout.contains("cannot be undone"), "{ended:?}");
    run(&t, "urls.txt", &["--fresh"]).expect(3);
    let ended = t.run(&["topics", "apply", "--yes", "--partitions", "5"]).expect(0);
    assert!(ended.stderr.contains("grow the 8 topics of fetch to 5 partitions"), "{ended:?}");
    assert!(ended.stdout.contains("status, jobs and replays keep their partitions"), "{ended:?}");
    // What was there is still found, and replayed into the partitions that are there now.
    t.run(&["dlq", "replay", "--all"]).expect(0);
    run(&t, "urls.txt", &["--fresh"]).expect(3);
    assert_eq!(t.json(&["topics", "plan", "--partitions", "5", "--json"])["actions"], serde_json::json!([]));
}

#[test]
fn robots_says_what_and_which_line() {
    let (dir, t) = bench();
    file(&dir, "robots.txt", "User-agent: FooBot\nDisallow: /p\nAllow: /p/open\n\nUser-agent: *\nDisallow: /\n");
    let ask = |args: &[&str]| t.run(&[&["robots", "--file", "robots.txt"], args].concat()).expect(0).stdout;
    assert_eq!(ask(&["--agent", "FooBot", "http://e.test/p/1"]), "disallowed\nline 2: Disallow: /p\n");
    assert_eq!(ask(&["--agent", "foobot/2.1", "http://e.test/p/open?x#y"]), "allowed\nline 3: Allow: /p/open\n");
    assert_eq!(ask(&["--agent", "FooBot", "/q"]), "allowed\nno line forbids it: no rule for foobot covers it\n");
    assert_eq!(ask(&["--agent", "Other", ""]), "disallowed\nline 6: Disallow: /\n");
    let several = ask(&["--agent", "FooBot", "/p", "/q"]);
    let first: Vec<_> = several.lines().map(|l| l.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    assert_eq!(first, [["disallowed", "/p"], ["allowed", "/q"]], "{several}");
    let json = t.json(&["robots", "--file", "robots.txt", "--agent", "FooBot", "--json", "/p"]);
    assert_eq!((&json["verdict"], &json["line"]), (&"disallowed".into(), &2.into()), "{json}");
    says(&t.run(&["robots", "--file", "none.txt", "--agent", "F", "/p"]).expect(1), &["none.txt", "name a robots.txt"]);
    says(&t.run(&["robots", "--agent", "F", "/p"]).expect(2), &["no host"]);

    // From the URL's host, through the address guard.
    let site = Server::start(|_, _| Reply::page("x"));
    let url = site.url("/a");
    let there = t.run(&["robots", "--agent", "F", "--allow-address", "127.0.0.1", &url]).expect(0);
    assert_eq!(there.stdout, "allowed\nthere is no robots.txt\n");
    let refused = t.run(&["robots", "--agent", "F", &url]).expect(1);
    assert!(refused.stdout.starts_with("disallowed\n") && refused.stdout.contains("127.0.0.1"), "{refused:?}");
}

#[test]
fn kept_pages_are_worked_on_once_more_without_a_refetch() {
    const PAGES: usize = 300;
    let (dir, t) = bench();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let site = Server::start(move |path, _| {
        counted.fetch_add(usize::from(path.starts_with("/page/")), Ordering::SeqCst);
        Reply::page(&format!("harbour gauge {}", path.replace('/', " ")))
    });
    file(&dir, "urls.txt", (0..PAGES).map(|i| site.url(&format!("/page/{i}\n"))).collect::<String>());
    assert_eq!(run(&t, "urls.txt", &["--json"]).expect(0).json()["indexed"], PAGES);
    let fetched = asked.load(Ordering::SeqCst);

    says(&t.run(&["reprocess", "--from", "fetch", "--all"]).expect(2), &["submit --force"]);
    says(&t.run(&["reprocess", "--from", "extract"]).expect(2), &["--host", "--all"]);
    let host = site.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    for (flags, records) in [
        (&["--host", &host][..], PAGES),
        (&["--host", "a.test"], 0),
        (&["--url", "/page/29", "--since", "1h ago"], 11),
        (&["--until", "1h ago"], 0),
        (&["--path", "$.status"], PAGES),
    ] {
        let args = [&["reprocess", "--from", "extract", "--dry-run", "--json"], flags].concat();
        assert_eq!(t.json(&args)["records"], records, "{flags:?}");
    }
    // Killed in the middle, and begun again under its name: each page is sent once.
    let again = ["reprocess", "--from", "extract", "--all", "--as", "again", "--json"];
    let sent = || t.run(&["tail", "extract.retry.1", "--from", "start", "-n", "9999", "--json"]).expect(0).stdout;
    for _ in 0..3 {
        let before = sent().lines().count();
        let slow = t.start(&[&again[..], &["--rate", "60"]].concat());
        assert!(eventually(LIMIT, || sent().lines().count() > before), "nothing is sent");
        slow.signal("KILL");
        slow.ended(LIMIT);
    }
    let cut = sent().lines().count();
    assert!((3..PAGES).contains(&cut), "{cut}");
    let done = t.json(&again);
    assert_eq!((&done["records"], &done["before"]), (&PAGES.into(), &cut.into()));
    let urls: BTreeSet<String> = sent()
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["headers"]["tidemill.url"].to_string())
        .collect();
    assert_eq!((sent().lines().count(), urls.len()), (PAGES, PAGES));

    // All of it into an index that lost everything; no host is asked.
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        drop(std::fs::remove_file(t.data().join(name)));
    }
    let found = || {
        let ended = t.run(&["search", "harbour", "--json"]);
        if ended.code == Some(0) { ended.json()["total"].clone() } else { Value::Null }
    };
    says(&t.run(&["search", "harbour"]).expect(2), &["there is no index"]);
    let service = t.start(&["run"]);
    assert!(eventually(LIMIT, || found() == PAGES), "{}", found());
    let status = t.json(&["status", "--json"]);
    let job = status["jobs"].as_array().unwrap().iter().find(|j| j["job"]["id"] == "again").unwrap();
    assert_eq!((&job["progress"]["indexed"], &job["job"]["submitted"]), (&PAGES.into(), &PAGES.into()), "{job}");
    service.signal("TERM");
    service.ended(LIMIT).expect(0);
    assert_eq!(asked.load(Ordering::SeqCst), fetched);
}
