//! The verdict, by Kafka's own Java client; and the repair of a transaction that hangs, by Kafka's own tool.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use crate::services::{LEDGER, TRANSACTIONS, java};
use crate::whole::{LIMIT, Running, eventually};

/// A transaction open for longer than its time-out of 10 s and some will never end by itself.
pub const HANGS: Duration = Duration::from_secs(20);
/// Nothing moved for so long: the process has had its time-out and its margin to say why, and the time to say it.
pub const STUCK: Duration = Duration::from_secs(45);

/// A topic's ledger.
#[derive(Debug, Clone)]
pub struct Ledger(Value);

impl Ledger {
    /// Takes it. `more`: what is counted by, and what there should be.
    pub fn take(bootstrap: &str, topic: &str, isolation: &str, more: &[&str]) -> Ledger {
        let mut c = java(LEDGER, &[&[bootstrap, topic, isolation], more].concat());
        let line = Running::start(&mut c).ended(LIMIT).expect(0).stdout;
        Ledger(serde_json::from_str(&line).unwrap_or_else(|e| panic!("no line of JSON ({e}): {line}")))
    }

    /// What is committed, once no transaction is open any more.
    pub fn committed(bootstrap: &str, topic: &str, more: &[&str]) -> Ledger {
        let mut ledger = None;
        // A killed member's last transaction ends with its time-out at the latest.
        eventually(Duration::from_secs(60), || {
            let taken = Ledger::take(bootstrap, topic, "read_committed", more);
            let whole = taken.get("unreadable") == 0;
            ledger = Some(taken);
            whole
        });
        ledger.unwrap()
    }

    pub fn get(&self, what: &str) -> u64 {
        self.0[what].as_u64().unwrap_or_else(|| panic!("no {what} in {}", self.0))
    }

    /// Records beyond the first of a key.
    pub fn more_than_once(&self) -> u64 {
        self.get("records") - self.get("distinct") - self.get("without")
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Partitions of these topics whose committed end stands behind their end.
fn held_up(bootstrap: &str, topics: &[(String, i32)]) -> Vec<(String, i32)> {
    let reader = |isolation: &str| -> BaseConsumer {
        let mut c = ClientConfig::new();
        c.set("bootstrap.servers", bootstrap).set("isolation.level", isolation).create().unwrap()
    };
    let (committed, all) = (reader("read_committed"), reader("read_uncommitted"));
    let end = |c: &BaseConsumer, t: &str, p| c.fetch_watermarks(t, p, Duration::from_secs(10)).unwrap().1;
    let mut behind = vec![];
    for (topic, partitions) in topics {
        behind.extend(
            (0..*partitions).filter(|p| end(&committed, topic, *p) < end(&all, topic, *p)).map(|p| (topic.clone(), p)),
        );
    }
    behind
}

/// Ends transactions that have been open longer than any may be, as docs/exactly-once.md tells a person to. `offsets`:
/// the partitions of `__consumer_offsets` that processes named. How many partitions had one.
pub fn repair(bootstrap: &str, topics: &[(String, i32)], offsets: &BTreeSet<i32>, older_than: Duration) -> usize {
    let run = |args: &[&str], topic: &str, partition: i32| {
        let at = ["--bootstrap-server", bootstrap];
        let place = ["--topic", topic, "--partition", &partition.to_string()];
        Running::start(&mut java(TRANSACTIONS, &[&at, args, &place].concat())).ended(LIMIT).expect(0).stdout
    };
    let mut places = held_up(bootstrap, topics);
    places.extend(offsets.iter().map(|p| ("__consumer_offsets".to_owned(), *p)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut ended = 0;
    for (topic, partition) in places {
        let producers = run(&["describe-producers"], &topic, partition);
        for line in producers.lines().skip(1) {
            // ProducerId ProducerEpoch LatestCoordinatorEpoch LastSequence LastTimestamp CurrentTransactionStartOffset
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (Some(Ok(last)), Some(Ok(start))) =
                (columns.get(4).map(|c| c.parse::<u64>()), columns.get(5).map(|c| c.parse::<u64>()))
            else {
                continue;
            };
            if now.saturating_sub(Duration::from_millis(last)) < older_than {
                continue;
            }
            println!("    hangs: {topic}/{partition} from {start}: {line}");
            run(&["abort", "--start-offset", &start.to_string()], &topic, partition);
            ended += 1;
        }
    }
    ended
}
