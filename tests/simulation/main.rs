//! Exactly once under a seeded scheduler: the production runner and committer, with real map strings, on simulated Kafka
//! brokers, in virtual time. A seed decides everything: who crashes where, which replies are lost, who is a zombie. The
//! ledger of each run is the assertion.
//!
//! `TIDEMILL_SIM_SEEDS=100000 cargo test --test simulation` runs more seeds than usual;
//! `TIDEMILL_SIM_SEED=123 cargo test --test simulation -- --nocapture seeds` runs one and tells all that happens.
//!
//! | file | idea |
//! |---|---|
//! | [`plan`] | what a seed decides |
//! | [`broker`], [`txn`], [`group`] | logs, transaction coordinator, group coordinator: they answer at once |
//! | [`world`] | processes, and the network before the brokers |
//! | [`producer`], [`consumer`], [`transport`] | the client's side, up to the traits of production |
//! | [`stage`], [`ledger`] | what the records are for, and whether it came so |
//! | [`run`] | one run |

mod broker;
#[path = "../common/mod.rs"]
mod common;
mod consumer;
mod group;
mod ledger;
mod plan;
mod producer;
mod run;
mod stage;
mod transport;
mod txn;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use plan::{Broken, Point};
use run::{Ended, run};

/// Seeds that run by default.
const SEEDS: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")))
}

/// Real time that a run may take; it takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs seeds on all cores until `each` says stop.
fn run_all(seeds: std::ops::Range<u64>, broken: Broken, each: impl Fn(u64, Ended) -> bool + Sync) {
    let next = AtomicU64::new(seeds.start);
    let running = Mutex::new(BTreeMap::new());
    let (end, ended) = sync_channel(0);
    // Each worker has an end of the channel, which closes with the last of them.
    let work = |_end: SyncSender<()>| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            running.lock().unwrap().insert(seed, Instant::now());
            let ended = run(seed, broken, false, false);
            running.lock().unwrap().remove(&seed);
            if !each(seed, ended) {
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get()) {
            let (work, end) = (&work, end.clone());
            s.spawn(move || work(end));
        }
        drop(end);
        // A run that spins while its clock stands still would never end, and never say which it is.
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(1)) {
            if let Some((seed, _)) = running.lock().unwrap().iter().find(|(_, since)| since.elapsed() > LIMIT) {
                eprintln!(
                    "seed {seed} does not end; TIDEMILL_SIM_SEED={seed} cargo test --test simulation -- --nocapture seeds"
                );
                std::process::exit(1);
            }
        }
    });
}

/// What must have happened in the default seeds, or they show less than they seem to.
const MUST_HAPPEN: &[&str] = &[
    "crashes",
    "restarts under the same name",
    "rebalances",
    "revocations",
    "members put out",
    "deaf members",
    "suspended processes",
    "twins of a suspended process",
    "zombie commits refused",
    "commits between generations",
    "lost requests",
    "late requests",
    "lost replies",
    "hung calls",
    "calls timed out",
    "fenced",
    "open transaction fenced by init",
    "transaction timed out",
    "aborted transactions",
    "records of aborted transactions",
    "unstable offsets waited for",
    "commits refused",
    "batches done",
    "batches fenced",
    "batches aborted",
    "batches unknown",
    "skipped thanks to the map",
    "markers passed",
    "stops",
];

#[test]
fn seeds_end_with_each_outcome_exactly_once() {
    if let Some(seed) = number("TIDEMILL_SIM_SEED") {
        // What production code has to say, among the rest.
        let said = "tidemill::engine=debug,tidemill::transport=debug";
        tracing_subscriber::fmt().without_time().with_ansi(false).with_env_filter(said).init();
        let ended = run(seed, Broken::Nothing, true, true);
        assert!(ended.wrong.is_empty(), "seed {seed}:\n{}", ended.wrong.join("\n"));
        return;
    }
    let seeds = number("TIDEMILL_SIM_SEEDS").unwrap_or(SEEDS);
    let counts = Mutex::new(BTreeMap::<&str, u64>::new());
    let failed = Mutex::new(vec![]);
    run_all(0..seeds, Broken::Nothing, |seed, ended| {
        let mut counts = counts.lock().unwrap();
        ended.counts.iter().for_each(|(what, n)| *counts.entry(what).or_default() += n);
        let mut failed = failed.lock().unwrap();
        if !ended.wrong.is_empty() {
            let mut report = format!(
                "seed {seed}: {} things are wrong; see all of it with\n  TIDEMILL_SIM_SEED={seed} cargo test --test simulation -- --nocapture seeds\n",
                ended.wrong.len()
            );
            ended.wrong.iter().take(8).for_each(|w| report += &format!("    {w}\n"));
            // At once: a long run may be cut short.
            eprint!("{report}");
            failed.push(seed);
        }
        failed.len() < 10
    });
    let counts = counts.into_inner().unwrap();
    for (what, n) in &counts {
        println!("{n:>10}  {what}");
    }
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} seeds failed: {failed:?}", failed.len());
    if seeds >= SEEDS {
        let points = Point::ALL.map(Point::counted_as);
        let never: Vec<_> = MUST_HAPPEN.iter().chain(&points).filter(|w| !counts.contains_key(**w)).collect();
        assert!(never.is_empty(), "never happened in {seeds} seeds: {never:?}");
    }
}

/// All that happens in a run is the seed's doing, or a failure could not be looked at again.
#[test]
fn a_seed_runs_the_same_each_time() {
    for seed in 0..25 {
        let (a, b) = (run(seed, Broken::Nothing, true, false), run(seed, Broken::Nothing, true, false));
        let differ = a.history.iter().zip(&b.history).position(|(a, b)| a != b);
        assert_eq!(differ, None, "seed {seed}: {:?}", differ.map(|i| (&a.history[i], &b.history[i])));
        assert_eq!((a.history.len(), a.counts), (b.history.len(), b.counts));
    }
}

/// Runs seeds with a rule broken until one fails as it should.
fn must_fail(broken: Broken, how: &[&str]) {
    let found = Mutex::new(None);
    run_all(0..SEEDS, broken, |seed, ended| {
        let wrong = ended.wrong.iter().find(|w| how.iter().any(|h| w.starts_with(h)));
        if let Some(w) = wrong {
            found.lock().unwrap().get_or_insert((seed, w.clone()));
        }
        found.lock().unwrap().is_none()
    });
    let found = found.into_inner().unwrap();
    println!("{broken:?} broken: {found:?}");
    assert!(found.is_some(), "{broken:?} is broken, and no seed of {SEEDS} noticed");
}

#[test]
fn without_the_map_outcomes_are_there_twice() {
    must_fail(Broken::Map, &["twice:"]);
}

#[test]
fn without_epochs_a_zombies_work_is_there_twice() {
    must_fail(Broken::Epoch, &["twice:"]);
}

#[test]
fn without_the_order_of_batches_outcomes_are_lost() {
    must_fail(Broken::Order, &["lost:"]);
}
