//! The real binary on a real Kafka, through everything that ends or stops a process: afterwards a `read_committed` consumer
//! (Kafka's own, in Java) finds each record exactly once in each topic, and exactly one status event a record and stage.
//!
//! ```text
//! cargo test --test crash_kafka                                   the short form, some minutes
//! TIDEMILL_CRASH=long TIDEMILL_CRASH_SEED=7 cargo test --test crash_kafka -- --nocapture chain     all scenarios, a table
//! TIDEMILL_CRASH=zombies …                                        one of them; zombies-classic: with one protocol
//! ```
//!
//! A run prints its seed; the seed repeats what is done and when, not what the machine makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

mod chain;
mod flow;
mod judge;
mod member;
mod pipeline;
#[path = "../services/mod.rs"]
mod services;
#[path = "../whole/mod.rs"]
mod whole;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chain::{Fault, Outcome, Scenario, run, table};
use services::Kafka;
use whole::{Random, setting};

/// Work that leaves gaps: each record takes 3 ms, one in a hundred half a second more.
const WORK: [&str; 4] = ["--work", "3ms", "--slow", "1%:500ms"];

/// One at a time: each wants the whole machine.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of this run; printed, so that it can be given again.
pub fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = setting("TIDEMILL_CRASH_SEED", now.as_nanos() as u64 % 1_000_000);
    println!("TIDEMILL_CRASH_SEED={seed}");
    seed
}

/// A folder that is kept when the test fails: the logs in it tell why.
pub struct Folder(Option<tempfile::TempDir>);

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

impl Folder {
    pub fn new() -> Folder {
        Folder(Some(tempfile::tempdir().unwrap()))
    }

    pub fn path(&self) -> &std::path::Path {
        self.0.as_ref().unwrap().path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take().filter(|_| std::thread::panicking()) {
            println!("what the processes said is in {}", dir.keep().display());
        }
    }
}

fn scenario(name: &'static str, records: u64, seconds: u64, faults: Vec<Fault>) -> Scenario {
    let over = Duration::from_secs(seconds);
    Scenario { name, protocol: "auto", records, over, faults, failpoints: "", work: WORK }
}

/// The long form: on how many brokers, and what. Each with both group protocols.
fn scenarios() -> Vec<(u32, Scenario)> {
    use Fault::*;
    let kill = |i: usize| if i % 4 == 3 { KillAndWait } else { Kill };
    let kills = |n: usize| (0..n).map(kill).collect::<Vec<_>>();
    // Before each of these, a member is killed.
    let and_kills = |faults: &[Fault]| faults.iter().enumerate().flat_map(|(i, f)| [kill(i), *f]).collect();
    let once = [
        (1, scenario("broker", 40_000, 60, and_kills(&[Broker(1); 4]))),
        (1, scenario("growth", 30_000, 40, and_kills(&[Grow(18), Grow(24)]))),
        (1, scenario("twins", 30_000, 45, and_kills(&[StopWithTwin; 2]))),
        (1, scenario("zombies", 30_000, 45, and_kills(&[Stop; 3]))),
        (1, scenario("rolling", 30_000, 50, and_kills(&[Roll; 2]))),
        (1, scenario("kills", 60_000, 75, kills(30))),
        (3, scenario("brokers", 60_000, 80, and_kills(&[1, 2, 3, 1, 2, 3].map(Broker)))),
    ];
    let both =
        |(nodes, s): (u32, Scenario)| ["auto", "classic"].map(|protocol| (nodes, Scenario { protocol, ..s.clone() }));
    once.into_iter().flat_map(both).collect()
}

#[test]
fn chain_of_two_stages_has_each_record_once_whatever_is_killed() {
    let _alone = alone();
    let seed = seed();
    let short = vec![(1, {
        use Fault::*;
        // No broker: taken down alone it may leave a transaction half ended (docs/exactly-once.md, "A transaction hangs").
        scenario("short", 12_000, 30, vec![Kill, Kill, KillAndWait, Kill, Kill, Stop, Kill, Kill])
    })];
    let asked = std::env::var("TIDEMILL_CRASH").unwrap_or_default();
    let mut all = match asked.as_str() {
        "" => short,
        "long" => scenarios(),
        one => scenarios()
            .into_iter()
            .filter(|(_, s)| s.name == one || format!("{}-{}", s.name, s.protocol) == one)
            .collect(),
    };
    assert!(!all.is_empty(), "TIDEMILL_CRASH={asked} is no scenario; use long, or the name of one");
    all.sort_by_key(|(nodes, _)| *nodes);
    let mut outcomes: Vec<Outcome> = vec![];
    let dir = Folder::new();
    for nodes in [1, 3] {
        let mine: Vec<&Scenario> = all.iter().filter(|(n, _)| *n == nodes).map(|(_, s)| s).collect();
        if mine.is_empty() {
            continue;
        }
        let kafka = Kafka::start(nodes, &[]);
        for s in mine {
            // Alone or in a row, the same happens to a scenario.
            let salt = s.name.bytes().fold(0, |a, b| a * 31 + u64::from(b));
            let outcome = run(&kafka, s, &mut Random(seed ^ salt), dir.path());
            println!("{}{}", table(std::slice::from_ref(&outcome)), outcome.wrong.join("\n"));
            outcomes.push(outcome);
        }
    }
    println!("{}", table(&outcomes));
    let wrong: Vec<String> =
        outcomes.iter().flat_map(|o| o.wrong.iter().map(move |w| format!("{}: {w}", o.name))).collect();
    assert!(wrong.is_empty(), "TIDEMILL_CRASH_SEED={seed}:\n{}", wrong.join("\n"));
}

/// The proof that the ledger can fail: with the offset map taken away, what was done beyond base is done again.
#[test]
fn without_the_offset_map_the_ledger_shows_repeats() {
    let _alone = alone();
    let seed = seed();
    let dir = Folder::new();
    let kafka = Kafka::start(1, &[]);
    let control = Scenario {
        failpoints: "kafka.map=return",
        // Gaps in every partition, at whatever moment it is killed.
        work: ["--work", "3ms", "--slow", "20%:1s"],
        ..scenario("control", 3_000, 8, vec![Fault::Kill, Fault::Kill, Fault::Kill])
    };
    let outcome = run(&kafka, &control, &mut Random(seed), dir.path());
    println!("{}", table(std::slice::from_ref(&outcome)));
    assert!(outcome.twice > 0, "nothing was done again: {:?}", outcome.wrong);
    assert_eq!(outcome.missing, 0, "{:?}", outcome.wrong);
}
