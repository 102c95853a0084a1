//! What a night watch sees: /metrics of the real binary while one page holds a partition back, and Prometheus' own word on
//! the exposition and on the alerts we suggest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the server's threads wait")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use whole::server::{Reply, Server};
use whole::{Tidemill, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// One scrape: its text, and each series with its value.
#[derive(Default)]
struct Scrape(String, BTreeMap<String, f64>);

impl Scrape {
    fn of(address: &str) -> Option<Scrape> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut all = String::new();
        stream.read_to_string(&mut all).ok()?;
        let text = all.split_once("\r\n\r\n")?.1.to_owned();
        let samples = text.lines().filter(|l| !l.starts_with('#'));
        let series = samples.map(|l| {
            let (name, value) = l.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        let series = series.collect();
        Some(Scrape(text, series))
    }

    /// The value of `tidemill_<name>`; NaN, which equals nothing, if it is not there.
    fn get(&self, name: &str) -> f64 {
        self.1.get(&format!("tidemill_{name}")).copied().unwrap_or(f64::NAN)
    }
}

/// Scrapes until it is as wanted.
#[track_caller]
fn scrape(address: &str, what: &str, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
    let mut last = Scrape::default();
    let seen = eventually(PATIENCE, || {
        last = Scrape::of(address).unwrap_or_default();
        wanted(&last)
    });
    assert!(seen, "{what}:\n{}", last.0);
    last
}

fn promtool(args: &[&str], stdin: &str) -> whole::Ended {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/promtool");
    let mut c = std::process::Command::new(script);
    c.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")).args(args);
    let mut running = whole::Running::start(c.stdin(std::process::Stdio::piped()));
    // It closes the pipe where it reads none.
    let _closed = running.child.stdin.take().unwrap().write_all(stdin.as_bytes());
    running.ended(whole::LIMIT)
}

#[test]
fn a_slow_page_shows_as_lag_gap_and_age_and_a_record_that_waits_its_turn_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let free = Arc::new(AtomicBool::new(false));
    let freed = Arc::clone(&free);
    let late = Arc::new(AtomicBool::new(false));
    let come = Arc::clone(&late);
    let site = Server::start(move |path, _| match path {
        "/sick" => Reply::status(503),
        "/late" if !come.load(Ordering::SeqCst) => Reply::status(404),
        "/slow" => {
            eventually(PATIENCE * 4, || freed.load(Ordering::SeqCst));
            Reply::page("slow mill")
        }
        _ => Reply::page(&format!("harbour {path}")),
    });
    let config = "[fetch]\ndelay = \"0s\"\nread_timeout = \"10m\"\ntimeout = \"10m\"\nallow_addresses = [\"127.0.0.1/32\"]\n\
                  resolve = { \"*.demo.test\" = \"127.0.0.1\" }\n[engine]\ndeadline = \"10m\"\nlag_interval = \"200ms\"\nin_flight.fetch = 10\n";
    std::fs::write(dir.path().join("tidemill.toml"), config).unwrap();
    let on = |host: &str, path: &str| format!("http://{host}.demo.test:{}{path}", site.address.port());

    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let service = t.start(&["run", "--ladder", "patient", "--listen", &address]);
    let idle = scrape(&address, "it owns every partition", |s| s.get("owned_partitions{stage=\"fetch\"}") == 84.0);
    assert!(idle.get("rebalances_total{kind=\"assigned\",stage=\"fetch\"}") >= 1.0, "{}", idle.0);
    scrape(&address, "nothing waits", |s| s.get("lag_records{stage=\"fetch\",topic=\"urls\"}") == 0.0);

    // Due in a minute: it waits, but not too long.
    t.run(&["submit", &on("sick", "/sick")]).expect(0);
    let parked = scrape(&address, "one waits in the first tier", |s| {
        s.get("lag_records{stage=\"fetch\",topic=\"fetch.retry.1\"}") == 1.0
            && s.get("lag_records{stage=\"fetch\",topic=\"urls\"}") == 0.0
    });
    assert_eq!(parked.get("oldest_waiting_seconds{stage=\"fetch\"}"), 0.0, "{}", parked.0);

    let mut urls = vec![on("sound", "/slow")];
    urls.extend((0..30).map(|n| on("sound", &format!("/page/{n}"))));
    std::fs::write(dir.path().join("urls.txt"), urls.join("\n")).unwrap();
    t.run(&["submit", "--file", "urls.txt"]).expect(0);
    let held = scrape(&address, "30 are done beyond one", |s| {
        s.get("gap_records{stage=\"fetch\"}") == 30.0
            && s.get("lag_records{stage=\"fetch\",topic=\"urls\"}") == 1.0
            && s.get("in_flight_records{stage=\"fetch\"}") == 1.0
            && s.get("commit_records_sum{stage=\"fetch\"}") == 31.0
            && s.get("lag_records{stage=\"index\",topic=\"enriched\"}") == 0.0
            && s.get("commit_records_sum{stage=\"index\"}") == 30.0
    });
    for (name, value) in [
        ("lag_records{stage=\"fetch\",topic=\"urls.high\"}", 0.0),
        ("lag_records{stage=\"fetch\",topic=\"fetch.retry.1\"}", 1.0),
        ("lag_records{stage=\"extract\",topic=\"pages\"}", 0.0),
        ("paused_partitions{stage=\"fetch\"}", 0.0),
        ("gap_records{stage=\"index\"}", 0.0),
        ("gap_age_seconds{stage=\"index\"}", 0.0),
        ("oldest_waiting_seconds{stage=\"index\"}", 0.0),
        ("records_total{class=\"\",outcome=\"emitted\",stage=\"fetch\"}", 30.0),
        ("records_total{class=\"http-5xx\",outcome=\"retried\",stage=\"fetch\"}", 1.0),
    ] {
        assert_eq!(held.get(name), value, "{name}\n{}", held.0);
    }
    let older = scrape(&address, "base stands, and its record ages", |s| {
        let more = |name| s.get(name) >= held.get(name) + 1.0;
        more("gap_age_seconds{stage=\"fetch\"}") && more("oldest_waiting_seconds{stage=\"fetch\"}")
    });
    assert!(older.get("commit_bytes_sum{stage=\"fetch\"}") > 31.0 * 100.0);
    // One of ten that may be in flight: after a while that is the mean of the time between two looks.
    scrape(&address, "a tenth in use", |s| (s.get("utilisation_ratio{stage=\"fetch\"}") - 0.1).abs() < 1e-6);
    assert!(older.get("lag_timestamp_seconds{stage=\"fetch\"}") >= held.get("lag_timestamp_seconds{stage=\"fetch\"}"));

    // Prometheus reads it, and has nothing to say against names, types and help.
    let checked = promtool(&["check", "metrics"], &older.0);
    assert_eq!((checked.code, &*checked.stdout, &*checked.stderr), (Some(0), "", ""), "{}", older.0);

    free.store(true, Ordering::SeqCst);
    scrape(&address, "base has moved on", |s| {
        s.get("gap_records{stage=\"fetch\"}") == 0.0
            && s.get("gap_age_seconds{stage=\"fetch\"}") == 0.0
            && s.get("lag_records{stage=\"fetch\",topic=\"urls\"}") == 0.0
            && s.get("utilisation_ratio{stage=\"fetch\"}") == 0.0
            && s.get("records_total{class=\"\",outcome=\"done\",stage=\"index\"}") == 31.0
    });
    // A page that is not there yet: its letter rests and ages until it is put back.
    let resting = |s: &Scrape| {
        ["dead_letters{stage=\"fetch\"}", "oldest_dead_letter_seconds{stage=\"fetch\"}"].map(|name| s.get(name))
    };
    assert_eq!(resting(&older), [0.0, 0.0]);
    t.run(&["submit", &on("late", "/late")]).expect(0);
    scrape(&address, "a letter rests", |s| resting(s)[0] == 1.0 && resting(s)[1] > 0.5);
    late.store(true, Ordering::SeqCst);
    t.run(&["dlq", "replay", "--all"]).expect(0);
    scrape(&address, "it was put back", |s| resting(s) == [0.0, 0.0]);
    service.signal("TERM");
    service.ended(PATIENCE).expect(0);
}

/// Behind the last record of a topic that transactions write stands a marker: an offset that nobody waits for.
#[test]
fn on_kafka_the_marker_of_a_transaction_is_no_lag() {
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let site = Server::start(|path, _| Reply::page(&format!("harbour {path}")));
    let config = format!(
        "prefix = \"{}.\"\n[kafka]\nbrokers = \"{}\"\n[fetch]\ndelay = \"0s\"\nallow_addresses = [\"127.0.0.1/32\"]\n\
         [engine]\nlag_interval = \"500ms\"\n",
        services::unique("metrics"),
        services::Kafka::shared()
    );
    std::fs::write(dir.path().join("tidemill.toml"), config).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let service = t.start(&["run", "--listen", &address]);
    scrape(&address, "it owns every partition", |s| s.get("owned_partitions{stage=\"extract\"}") == 60.0);
    t.run(&["submit", &site.url("/1"), &site.url("/2"), &site.url("/3")]).expect(0);
    let done = scrape(&address, "all three are in the index, and committed", |s| {
        s.get("commit_records_sum{stage=\"index\"}") == 3.0 && s.get("in_flight_records{stage=\"index\"}") == 0.0
    });
    let stages = ["fetch", "extract", "enrich", "index"];
    let looked = |s: &Scrape, stage: &str| s.get(&format!("lag_timestamp_seconds{{stage=\"{stage}\"}}"));
    let of = |s: &Scrape, metric: &str| {
        let mine = s.1.iter().filter(|(name, _)| name.starts_with(&format!("tidemill_{metric}{{")));
        mine.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    let mut before = done;
    for round in ["one look", "and another"] {
        before = scrape(&address, &format!("nothing waits: {round}"), |s| {
            stages.iter().all(|stage| looked(s, stage) > looked(&before, stage) + 1.0)
                && of(s, "lag_records").iter().chain(&of(s, "oldest_waiting_seconds")).all(|value| *value == 0.0)
        });
    }
    // Four stages: seven topics of fetch, five of each other.
    assert_eq!(of(&before, "lag_records").len(), 22);
    // What is committed says the same.
    let top = t.json(&["top", "--json", "--every", "100ms"]);
    assert!(top["stages"].as_array().unwrap().iter().all(|s| s["lag"] == 0), "{top}");
    service.signal("TERM");
    service.ended(PATIENCE).expect(0);
}

#[test]
fn prometheus_takes_the_alerts_and_they_fire_when_they_should() {
    promtool(&["check", "config", "prometheus.yml"], "").expect(0);
    promtool(&["check", "rules", "tidemill.rules.yml"], "").expect(0);
    promtool(&["test", "rules", "tidemill.test.yml"], "").expect(0);
}

/// Every metric of ours that an alert or a panel is made of exists, and the table of docs/operations.md has each.
#[test]
fn alerts_panels_and_documentation_speak_of_metrics_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |file: &str| {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = words.filter_map(|w| w.strip_prefix("tidemill_")).map(|w| w.trim_end_matches("_bucket").to_owned());
        ours.collect::<std::collections::BTreeSet<_>>()
    };
    let sources = std::fs::read_dir(root.join("src/telemetry")).unwrap();
    let sources = sources.map(|file| format!("src/telemetry/{}", file.unwrap().file_name().to_str().unwrap()));
    let there: std::collections::BTreeSet<_> = sources.flat_map(|file| names(&file)).collect();
    let documented = names("docs/operations.md");
    let metrics: std::collections::BTreeSet<_> = there.iter().filter(|n| n.contains('_')).cloned().collect();
    assert!(metrics.len() > 15, "{metrics:?}");
    assert_eq!(documented, metrics);
    for file in ["deploy/prometheus/tidemill.rules.yml", "deploy/grafana/dashboards/tidemill.json"] {
        let used = names(file);
        assert!(
            used.len() > 5 && used.is_subset(&metrics),
            "{file}: {:?}",
            used.difference(&metrics).collect::<Vec<_>>()
        );
    }
}
