//! The machine misbehaves while a run is at work: a disk that takes no more, files that somebody else holds locked, a
//! reader that goes away. The run goes on by itself when it is over, and nothing is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

mod whole;

use std::process::Command;
use std::time::{Duration, Instant};

use whole::ledger::{Bench, counters_are_exact};
use whole::{Running, Tidemill, clean, eventually};

/// A limit on the size of files makes writes fail as a full disk does, and can be lifted while the process runs.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_waited_out() {
    let bench = Bench::new(1_500);
    // Ignored, so that the write fails instead of the process; the shell becomes the command, so its id stays.
    let script = "trap '' XFSZ; exec prlimit --fsize=2000000: -- \"$0\" \"$@\"";
    let plain = bench.command();
    let mut command = Command::new("sh");
    clean(&mut command).current_dir(bench.dir.path()).arg("-c").arg(script);
    command.arg(plain.get_program()).args(plain.get_args());
    let mut running = Running::start(&mut command);
    let stuck = bench.until_stuck(&mut running, Duration::from_secs(3));
    assert!(stuck < 1_500, "the limit was never reached");
    println!("stuck at {stuck}");
    let pid = running.child.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status().unwrap().success());
    let ended = running.ended(Duration::from_secs(90)).expect(0);
    let faults = bench.ledger().faults(&bench.urls);
    assert!(faults.is_empty(), "{faults:#?}\n{}", ended.stderr);
    counters_are_exact(&bench, &ended);
}

/// Another process (a shell, a backup) holds a file's write lock for longer than any statement waits for it.
fn locked(name: &str, total: usize) {
    let bench = Bench::new(total);
    let mut running = bench.start();
    bench.until_indexed(50, &mut running);
    let other = rusqlite::Connection::open(bench.tidemill.data().join(name)).unwrap();
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let since = Instant::now();
    let stuck = bench.until_stuck(&mut running, Duration::from_secs(2));
    assert!(stuck < total, "{name} was not locked in time");
    // SQLite waits 10 s for a lock here; this is longer.
    std::thread::sleep(Duration::from_secs(12).saturating_sub(since.elapsed()));
    other.execute_batch("ROLLBACK").unwrap();
    let ended = running.ended(Duration::from_secs(90)).expect(0);
    let faults = bench.ledger().faults(&bench.urls);
    assert!(faults.is_empty(), "{faults:#?}\n{}", ended.stderr);
    counters_are_exact(&bench, &ended);
}

#[test]
fn a_locked_log_is_waited_out() {
    locked("log.db", 1_200);
}

#[test]
fn a_locked_store_is_waited_out() {
    locked("store.db", 1_200);
}

#[test]
fn a_locked_index_is_waited_out() {
    locked("index.db", 1_200);
}

/// A long file, and a command that only puts it on the log.
fn long_file() -> (tempfile::TempDir, Tidemill) {
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let urls: String = (0..400_000).map(|n| format!("http://127.0.0.1:9/{n}\n")).collect();
    std::fs::write(dir.path().join("urls.txt"), urls).unwrap();
    (dir, t)
}

const ONLY_SUBMIT: [&str; 5] = ["run", "urls.txt", "--quiet", "--stages", "index"];

fn submitted(t: &Tidemill) -> u64 {
    t.json(&["status", "--json"])["jobs"][0]["job"]["appended"].as_u64().unwrap_or(0)
}

/// Stopping does not wait until a long file is on the log.
#[test]
fn a_run_that_is_stopped_while_it_submits_stops_and_goes_on_submitting_later() {
    let (_dir, t) = long_file();
    let mut before = 0;
    for _ in 0..2 {
        let running = t.start(&ONLY_SUBMIT);
        let grew = eventually(Duration::from_secs(30), || submitted(&t) > before);
        assert!(grew, "nothing is submitted");
        running.signal("TERM");
        running.ended(Duration::from_secs(5)).expect(1);
        let now = submitted(&t);
        assert!(before < now && now < 400_000, "{before} then {now} URLs were on the log");
        before = now;
    }
}

/// A lock that is held for longer than SQLite waits does not end the submission.
#[test]
fn a_log_that_is_locked_while_urls_are_submitted_is_waited_out() {
    let (_dir, t) = long_file();
    let mut running = t.start(&ONLY_SUBMIT);
    assert!(eventually(Duration::from_secs(30), || submitted(&t) > 0));
    let other = rusqlite::Connection::open(t.data().join("log.db")).unwrap();
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::sleep(Duration::from_secs(12));
    other.execute_batch("ROLLBACK").unwrap();
    let before = submitted(&t);
    let grew = eventually(Duration::from_secs(20), || running.poll().is_some() || submitted(&t) > before);
    if running.poll().is_some() {
        panic!("it ended: {:?}", running.ended(Duration::from_secs(1)));
    }
    assert!(grew && before < 400_000, "{before} URLs, and no more");
    running.signal("TERM");
    running.ended(Duration::from_secs(10)).expect(1);
}

/// Two commands over one file do not both put it on the log.
#[test]
fn a_file_that_is_being_submitted_is_left_to_the_process_that_does() {
    let (_dir, t) = long_file();
    let first = t.start(&ONLY_SUBMIT);
    assert!(eventually(Duration::from_secs(30), || submitted(&t) > 0));
    let second = t.start(&ONLY_SUBMIT).ended(Duration::from_secs(10)).expect(1);
    assert!(second.stderr.contains("another process is putting these URLs on the log"), "{}", second.stderr);
    first.signal("TERM");
    first.ended(Duration::from_secs(5)).expect(1);
    let log = rusqlite::Connection::open(t.data().join("log.db")).unwrap();
    let on_the_log = "SELECT count(*) FROM log WHERE topic = 'tidemill.urls'";
    let count: i64 = log.query_row(on_the_log, [], |r| r.get(0)).unwrap();
    assert_eq!(count as u64, submitted(&t), "each once");
}
