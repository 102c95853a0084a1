//! The real binary over thousands of URLs, killed at random instants and started again: afterwards every URL has exactly
//! one document, and no task was done twice.
//!
//! `CRASH_URLS`, `CRASH_KILLS` and `CRASH_SEED` scale it and repeat it; a run prints its seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

mod whole;

use std::time::{Duration, Instant};

use whole::ledger::{Bench, counters_are_exact};
use whole::server::{Reply, Server};
use whole::{Random, Running, Tidemill, eventually, setting};

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
        // One that is done and about to say so has no job left to go on with.
        if running.poll().is_some() || bench.indexed() == n as usize {
            break running.ended(Duration::from_secs(20));
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

/// A page that does not answer holds a stop up for `engine.grace` and no longer, and is fetched again later.
#[test]
fn a_page_that_never_answers_does_not_hold_up_a_stop() {
    let server = Server::start(|path, hit| {
        if path == "/stuck" && hit == 1 {
            std::thread::sleep(Duration::from_secs(15));
        }
        Reply::page("sluice")
    });
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    std::fs::write(dir.path().join("urls.txt"), server.url("/stuck")).unwrap();
    let run = |grace: &str| {
        let args = ["run", "urls.txt", "--delay", "0", "--allow-address", "127.0.0.1", "--json"];
        Running::start(t.command(&args).env("TIDEMILL_ENGINE__GRACE", grace))
    };
    let running = run("1s");
    assert!(eventually(Duration::from_secs(20), || server.arrivals("/stuck").len() == 1));
    let asked = Instant::now();
    running.signal("TERM");
    running.ended(Duration::from_secs(8)).expect(1);
    assert!(asked.elapsed() >= Duration::from_millis(900), "it did not wait at all");
    let ended = run("20s").ended(Duration::from_secs(20)).expect(0);
    assert_eq!(ended.json()["indexed"], 1);
    assert_eq!(server.arrivals("/stuck").len(), 2);
}

/// A second signal does not wait for anything, and loses nothing either.
#[test]
fn a_second_signal_ends_at_once() {
    let server = Server::start(|path, hit| {
        if path == "/stuck" && hit == 1 {
            std::thread::sleep(Duration::from_secs(15));
        }
        Reply::page(path)
    });
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    std::fs::write(dir.path().join("urls.txt"), format!("{}\n{}\n", server.url("/stuck"), server.url("/well")))
        .unwrap();
    let args = ["run", "urls.txt", "--delay", "0", "--allow-address", "127.0.0.1", "--json"];
    let mut running = t.start(&args);
    assert!(eventually(Duration::from_secs(20), || server.arrivals("/stuck").len() == 1));
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(700));
    assert!(running.poll().is_none(), "the first signal waits for the page");
    running.signal("TERM");
    running.ended(Duration::from_secs(3)).expect(1);
    assert_eq!(t.start(&args).ended(Duration::from_secs(30)).expect(0).json()["indexed"], 2);
}
