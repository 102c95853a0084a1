//! A copy of a topic by the real binary on a real Kafka, and what may be asked of it afterwards.

// Each test file is a crate of its own and uses some of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::process::Command;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, Producer as _};
use tidemill::config::Kafka as Config;
use tidemill::engine::offset_map;
use tidemill::topology::{Cleanup, Topic};
use tidemill::transport::kafka::Kafka as Log;
use tidemill::transport::partitioner::partition;
use tidemill::transport::{Bounds, Outgoing, TopicPartition, Transport};

use crate::services::{Kafka, LEDGER, TRANSACTIONS, java, unique};
use crate::whole::{LIMIT, Running, Tidemill, clean, eventually};

/// Records, and partitions they are spread over.
pub const RECORDS: usize = 400;
pub const PARTITIONS: u32 = 4;

/// A topic full of records, and an empty one they are to be copied to.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub tidemill: Tidemill,
    pub at: String,
    pub from: String,
    pub to: String,
    pub group: String,
    pub protocol: &'static str,
    pub exactly_once: bool,
    /// By default longer than any test: what waits for a broker to give a transaction up fails here.
    pub transaction_timeout: Duration,
    /// What each record takes.
    pub work: &'static str,
    pub runtime: tokio::runtime::Runtime,
    pub log: Log,
}

impl Bench {
    pub fn new(protocol: &'static str) -> Bench {
        Bench::on(Kafka::shared(), protocol)
    }

    pub fn on(at: &str, protocol: &'static str) -> Bench {
        let (dir, at) = (tempfile::tempdir().unwrap(), at.to_owned());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = Config { brokers: at.clone(), ..Config::default() };
        let log = Log::open(&config, dir.path()).unwrap();
        let (from, to, group) = (unique("from"), unique("to"), unique("group"));
        let topic = |name: &String| Topic {
            name: name.clone(),
            partitions: PARTITIONS,
            cleanup: Cleanup::Delete,
            retention_ms: 3_600_000,
            max_message_bytes: 1 << 20,
            carries: "what a test puts there".into(),
        };
        let record = |n: usize| Outgoing {
            tombstone: false,
            topic: from.as_str().into(),
            partition: None,
            key: Some(format!("k{n}").into()),
            value: format!("value {n}").into(),
            headers: Default::default(),
        };
        runtime.block_on(async {
            log.create_topics(&[topic(&from), topic(&to)]).await.unwrap();
            log.append((0..RECORDS).map(record).collect()).await.unwrap();
        });
        Bench {
            tidemill: Tidemill::new(dir.path()),
            folder: dir,
            at,
            from,
            to,
            group,
            protocol,
            exactly_once: true,
            transaction_timeout: 2 * LIMIT,
            work: "20ms",
            runtime,
            log,
        }
    }

    /// The copy, by a member, with these failpoints. It commits some dozen times; every fiftieth record of a partition
    /// takes long, so that there is much done beyond the base.
    pub fn relay(&self, member: &str, failpoints: &str) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        clean(&mut c).current_dir(&self.tidemill.dir).arg("--data").arg(self.tidemill.data());
        c.args(["--brokers", &self.at, "--log", "info,tidemill=debug", "relay", "--until-end"]);
        c.args(["--from", &self.from, "--to", &self.to, "--group", &self.group]);
        c.args(["--in-flight", "32", "--work", self.work, "--slow", "2%:1500ms"]);
        c.env("TIDEMILL_KAFKA__MEMBER", member).env("TIDEMILL_KAFKA__GROUP_PROTOCOL", self.protocol);
        c.env("TIDEMILL_KAFKA__SESSION_TIMEOUT", "3s").env("TIDEMILL_ENGINE__COMMIT_INTERVAL", "20ms");
        c.env("TIDEMILL_KAFKA__TRANSACTION_TIMEOUT", format!("{}s", self.transaction_timeout.as_secs()));
        c.env("TIDEMILL_KAFKA__EXACTLY_ONCE", self.exactly_once.to_string());
        if !failpoints.is_empty() {
            c.env("FAILPOINTS", failpoints);
        }
        c
    }

    /// It dies at a point when that is reached the n-th time.
    pub fn dies(&self, point: &str, n: usize) {
        let ended = Running::start(&mut self.relay("m", &format!("{point}={}*off->panic", n - 1))).ended(LIMIT);
        assert_eq!(ended.code, None, "{point} was not reached {n} times: {}", ended.stderr);
    }

    /// Started again, it ends, and each record is there once.
    pub fn goes_on(&self) {
        Running::start(&mut self.relay("m", "")).ended(LIMIT).expect(0);
        self.is_exact();
    }

    /// What Kafka's own client finds.
    pub fn ledger(&self) -> serde_json::Value {
        let n = RECORDS.to_string();
        let found = output(&mut java(LEDGER, &[&self.at, &self.to, "read_committed", "key", "k%d", &n]));
        serde_json::from_str(&found).unwrap()
    }

    /// Kafka's own client finds each record once. What a member that never came back left open hides others' records until
    /// its transaction times out.
    pub fn is_exact(&self) {
        let mut found = self.ledger();
        eventually(LIMIT, || {
            found["unreadable"] == 0 || {
                found = self.ledger();
                false
            }
        });
        for (what, expected) in
            [("missing", 0), ("repeated", 0), ("foreign", 0), ("unreadable", 0), ("records", RECORDS)]
        {
            assert_eq!(found[what], expected, "{what} of {found}");
        }
    }

    /// Committed records done, and those of them that are done beyond their partition's base.
    pub fn done(&self) -> (usize, usize) {
        let progress = self.runtime.block_on(self.log.progress(&self.group, &self.from)).unwrap();
        let beyond = |base: i64, map: &str| {
            let map = offset_map::decode(base, map).unwrap();
            usize::try_from(map.high - base + 1).unwrap() - map.incomplete.len()
        };
        let beyond: usize = progress.iter().map(|(_, base, map)| beyond(*base, map)).sum();
        // Behind a partition's records stands the marker of the transaction that wrote them, and may be done too.
        let mut records = [0; PARTITIONS as usize];
        (0..RECORDS).for_each(|n| records[partition(format!("k{n}").as_bytes(), PARTITIONS) as usize] += 1);
        let of = |(p, base, _): &(i32, i64, String)| {
            let (p, base) = (usize::try_from(*p).unwrap(), usize::try_from(*base).unwrap());
            base.min(records[p])
        };
        let base: usize = progress.iter().map(of).sum();
        (base + beyond, beyond)
    }

    /// Records a reader of committed ones sees in the copy.
    pub fn copied(&self) -> usize {
        self.readable(&self.to).iter().sum()
    }

    /// Records a reader of committed ones sees, by partition.
    pub fn readable(&self, topic: &str) -> Vec<usize> {
        let bounds = self.runtime.block_on(self.log.bounds(topic)).unwrap();
        let read = |b: &Bounds| {
            let at = TopicPartition::new(topic, b.partition);
            match b.end {
                0 => 0,
                _ => self.runtime.block_on(self.log.read(&at, 0, RECORDS, usize::MAX)).unwrap().len(),
            }
        };
        bounds.iter().map(read).collect()
    }

    /// How the coordinator sees the transaction of the n-th commit (from 1), as `kafka-transactions.sh describe` says it.
    pub fn transaction(&self, n: usize) -> String {
        let id = self.transactional_id(n);
        let text =
            output(&mut java(TRANSACTIONS, &["--bootstrap-server", &self.at, "describe", "--transactional-id", &id]));
        let (head, row) = text.trim().split_once('\n').unwrap_or_else(|| panic!("{text}"));
        let column = head.split('\t').position(|c| c.trim() == "TransactionState").unwrap();
        row.split('\t').nth(column).unwrap().trim().to_owned()
    }

    /// Takes the transactional id of the n-th commit over, which settles what is open under it.
    pub fn twin(&self, n: usize) -> BaseProducer {
        let mut c = rdkafka::ClientConfig::new();
        c.set("bootstrap.servers", &self.at).set("transactional.id", self.transactional_id(n));
        let twin: BaseProducer = c.create().unwrap();
        twin.init_transactions(LIMIT).unwrap();
        twin
    }

    /// Producers take turns.
    pub fn transactional_id(&self, n: usize) -> String {
        format!("{}.m.{}", self.group, if n % 2 == 1 { "a" } else { "b" })
    }
}

pub fn output(command: &mut Command) -> String {
    Running::start(command).ended(LIMIT).expect(0).stdout
}
