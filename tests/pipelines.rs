//! Two named pipelines of one configuration file, each with its own process: what holds one up is nothing to the other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the server's threads wait")]

mod whole;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use whole::server::{Reply, Server};
use whole::{Running, Tidemill, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const HANGING: usize = 4;
const PAGES: usize = 20;

const BASE: &str = "[fetch]\ndelay = \"0s\"\nread_timeout = \"10m\"\ntimeout = \"10m\"\nallow_addresses = [\"127.0.0.1/32\"]\n\
                    [engine]\ndeadline = \"10m\"\n";

/// Finished URLs of the one job of a pipeline.
fn finished(t: &Tidemill, pipeline: &str) -> u64 {
    let status = t.json(&["--pipeline", pipeline, "status", "--json"]);
    let jobs = status["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "{pipeline}: {status}");
    jobs[0]["progress"]["finished"].as_u64().unwrap()
}

fn start(t: &Tidemill, pipeline: &str) -> (Running, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    // By the environment here, by the flag elsewhere.
    let mut command = t.command(&["run", "--listen", &address]);
    (Running::start(command.env("TIDEMILL_PIPELINE", pipeline)), address)
}

fn metrics(address: &str) -> String {
    use std::io::{Read, Write};
    let mut all = String::new();
    if let Ok(mut stream) = std::net::TcpStream::connect(address) {
        let asked = write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _cut = asked.and_then(|()| stream.read_to_string(&mut all));
    }
    all
}

/// One pipeline stands before a host that hangs, with all the records it may have in flight; the other goes on. Then the
/// host answers, and the first one ends its work too.
fn one_stands_and_the_other_goes_on(dir: &TempDir, config: &str) -> Tidemill {
    let t = Tidemill::new(dir.path());
    std::fs::write(dir.path().join("tidemill.toml"), config).unwrap();
    let free = Arc::new(AtomicBool::new(false));
    let freed = Arc::clone(&free);
    let site = Server::start(move |path, _| {
        if path.starts_with("/hangs") {
            eventually(PATIENCE * 4, || freed.load(Ordering::SeqCst));
        }
        Reply::page(&format!("harbour {path}"))
    });
    let urls = |kind: &str, n: usize| (0..n).map(|i| site.url(&format!("/{kind}/{i}")) + "\n").collect::<String>();
    std::fs::write(dir.path().join("stuck.txt"), urls("hangs", HANGING) + &urls("behind", 3)).unwrap();
    std::fs::write(dir.path().join("sound.txt"), urls("page", PAGES)).unwrap();

    let (stuck, address) = start(&t, "stuck");
    let (sound, _) = start(&t, "sound");
    t.run(&["--pipeline", "stuck", "submit", "--file", "stuck.txt"]).expect(0);
    let full = format!("\ntidemill_in_flight_records{{stage=\"fetch\",pipeline=\"stuck\"}} {HANGING}\n");
    assert!(eventually(PATIENCE, || metrics(&address).contains(&full)), "{}", metrics(&address));
    t.run(&["--pipeline", "sound", "submit", "--file", "sound.txt"]).expect(0);
    assert!(eventually(PATIENCE, || finished(&t, "sound") == PAGES as u64), "{}", finished(&t, "sound"));
    assert_eq!(finished(&t, "stuck"), 0, "nothing is admitted behind those that hang");

    free.store(true, Ordering::SeqCst);
    assert!(eventually(PATIENCE, || finished(&t, "stuck") == HANGING as u64 + 3), "{}", finished(&t, "stuck"));
    for service in [stuck, sound] {
        service.signal("TERM");
        service.ended(PATIENCE).expect(0);
    }
    t
}

fn hits(t: &Tidemill, pipeline: &str, query: &str) -> usize {
    let found: Value = t.json(&["--pipeline", pipeline, "search", query, "-n", "100", "--json"]);
    found["hits"].as_array().unwrap().len()
}

#[test]
fn in_folders_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("{BASE}[pipelines.stuck]\nengine.in_flight.fetch = {HANGING}\n[pipelines.sound]\n");
    let t = one_stands_and_the_other_goes_on(&dir, &config);
    assert_eq!((hits(&t, "stuck", "hangs"), hits(&t, "sound", "hangs")), (HANGING, 0));
    assert_eq!((hits(&t, "stuck", "harbour"), hits(&t, "sound", "harbour")), (HANGING + 3, PAGES));
    let there = |name: &str| t.data().join(name).join("log.db").exists();
    assert!(there("stuck") && there("sound") && !t.data().join("log.db").exists());
}

#[test]
fn on_one_log_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "{BASE}[pipelines.stuck]\ndata = \"one\"\nengine.in_flight.fetch = {HANGING}\n[pipelines.sound]\ndata = \"one\"\n"
    );
    let t = one_stands_and_the_other_goes_on(&dir, &config);
    // The flag, which goes over both tables, names it.
    let log = rusqlite::Connection::open(t.data().join("log.db")).unwrap();
    let records = |topic: &str| -> i64 {
        log.query_row("SELECT count(*) FROM log WHERE topic = ?", [topic], |r| r.get(0)).unwrap()
    };
    assert_eq!(records("tidemill.stuck.enriched"), HANGING as i64 + 3);
    assert_eq!(records("tidemill.sound.enriched"), PAGES as i64);
    assert!(!Path::new(&dir.path().join("one")).exists());
}

#[test]
fn what_is_in_force_is_shown_and_a_wrong_name_or_key_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let file = dir.path().join("tidemill.toml");
    let config = format!("{BASE}[pipelines.linkedin]\nfetch.delay = \"5s\"\n[pipelines.bulk]\n");
    std::fs::write(&file, &config).unwrap();
    let shown = |args: &[&str]| t.json(&[args, &["config", "show", "--json"]].concat());
    let own = shown(&["--pipeline", "linkedin"]);
    assert_eq!((&own["prefix"], &own["fetch"]["delay"]), (&"tidemill.linkedin.".into(), &"5s".into()));
    assert_eq!(own["data"], t.data().join("linkedin").to_str().unwrap());
    assert_eq!(shown(&[])["prefix"], "tidemill.");
    let shown_again = t.run(&["config", "show", "--pipeline", "linkedin"]).expect(0).stdout;
    assert!(shown_again.contains("prefix = \"tidemill.linkedin.\""), "{shown_again}");
    let check = t.run(&["config", "check"]).expect(0).stdout;
    assert_eq!(check, "the configuration is valid; its pipelines are bulk, linkedin\n");
    // An empty variable, as containers have it, picks none.
    let mut c = t.command(&["config", "show"]);
    let none = Running::start(c.env("TIDEMILL_PIPELINE", "")).ended(PATIENCE).expect(0).stdout;
    assert!(none.contains("prefix = \"tidemill.\""), "{none}");

    for args in [&["--pipeline", "linkedni", "status"][..], &["run", "--pipeline", "linkedni"]] {
        let ended = t.run(args).expect(2);
        assert_eq!(ended.stderr, "error: no pipeline is called \"linkedni\"; tidemill.toml has bulk, linkedin\n");
    }
    std::fs::write(&file, config + "fetch.dealy = \"1s\"\n").unwrap();
    let ended = t.run(&["config", "check"]).expect(2);
    assert!(ended.stderr.contains("line 11") && ended.stderr.contains("dealy"), "{}", ended.stderr);
}
