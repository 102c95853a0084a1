//! What the test binaries share: logs on fresh state, and a group member that is easy to drive.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod engine;
pub mod kafka;
pub mod prefixed;
#[path = "../services/mod.rs"]
pub mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tidemill::record::Headers;
use tidemill::topology::{Cleanup, Topic};
use tidemill::transport::sqlite::Sqlite;
use tidemill::transport::{Assignment, Batch, Event, Incoming, Member, Outgoing, Progress, TopicPartition, Transport};

/// Longest wait for anything that should happen by itself. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// A log on fresh state, under test.
#[async_trait]
pub trait Log: Send + Sync {
    /// A handle as another process has it: nothing but the log's state is shared.
    async fn open(&self) -> Arc<dyn Transport>;

    /// Makes all present members look dead to others, until the guard goes.
    async fn stall_members(&self) -> Box<dyn Send>;
}

/// One SQLite file in a folder of its own.
pub struct SqliteLog {
    pub folder: tempfile::TempDir,
}

impl SqliteLog {
    pub fn new() -> SqliteLog {
        SqliteLog { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("log.db")
    }

    pub fn handle(&self) -> Arc<dyn Transport> {
        Arc::new(Sqlite::open(&self.path()).unwrap())
    }

    /// A connection that knows nothing of Tidemill.
    pub fn plain(&self) -> rusqlite::Connection {
        let c = rusqlite::Connection::open(self.path()).unwrap();
        c.busy_timeout(PATIENCE).unwrap();
        c
    }
}

/// Ages members' heartbeats as if their process had been stopped.
struct Stalled(Arc<AtomicBool>);

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[async_trait]
impl Log for SqliteLog {
    async fn open(&self) -> Arc<dyn Transport> {
        self.handle()
    }

    async fn stall_members(&self) -> Box<dyn Send> {
        let plain = self.plain();
        let members: Vec<String> = {
            let mut q = plain.prepare("SELECT member FROM members").unwrap();
            q.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let go = Arc::new(AtomicBool::new(true));
        let going = Arc::clone(&go);
        // Their process lives and writes heartbeats, so they must be aged again and again.
        std::thread::spawn(move || {
            while going.load(Ordering::Relaxed) {
                for m in &members {
                    plain.execute("UPDATE members SET heartbeat = 0 WHERE member = ? AND heartbeat > 0", [m]).unwrap();
                }
                #[allow(clippy::disallowed_methods, reason = "a thread of its own")]
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Box::new(Stalled(go))
    }
}

/// A topic of a test.
pub fn topic(name: &str, partitions: u32) -> Topic {
    Topic {
        name: name.to_owned(),
        partitions,
        cleanup: Cleanup::Delete,
        retention_ms: 3_600_000,
        max_message_bytes: 4 << 20,
        carries: "what a test puts there".into(),
    }
}

/// A record without headers, on the partition of its key.
pub fn record(topic: &str, key: &str, value: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        tombstone: false,
        topic: topic.into(),
        partition: None,
        key: Some(Bytes::from(key.to_owned())),
        value: value.into(),
        headers: Headers::default(),
    }
}

/// The same on a given partition, without a key.
pub fn placed(topic: &str, partition: i32, value: impl Into<Bytes>) -> Outgoing {
    Outgoing { partition: Some(partition), key: None, ..record(topic, "", value) }
}

/// All records of a topic, partition by partition.
pub async fn read_all(log: &dyn Transport, topic: &str) -> Vec<Incoming> {
    let mut all = vec![];
    for b in log.bounds(topic).await.unwrap() {
        let at = TopicPartition::new(topic, b.partition);
        let mut from = b.start;
        loop {
            let batch = log.read(&at, from, 1_000, 8 << 20).await.unwrap();
            let Some(last) = batch.last() else { break };
            from = last.offset + 1;
            all.extend(batch);
        }
    }
    all
}

/// The same, once there are so many: a broker answers a commit a moment before readers see it.
pub async fn read_until(log: &dyn Transport, topic: &str, n: usize) -> Vec<Incoming> {
    eventually(&format!("{n} records in {topic}"), async || read_all(log, topic).await.len() >= n).await;
    read_all(log, topic).await
}

/// Waits until a group's progress in one partition is this offset with this map.
pub async fn progress_becomes(log: &dyn Transport, group: &str, topic: &str, want: (i32, i64, &str)) {
    let stands = async || log.progress(group, topic).await.unwrap();
    let is = |all: &[(i32, i64, String)]| all.iter().any(|(p, base, map)| (*p, *base, map.as_str()) == want);
    eventually(&format!("{want:?} committed"), async || is(&stands().await)).await;
}

/// A value as text.
pub fn text(r: &Incoming) -> String {
    String::from_utf8_lossy(&r.value).into_owned()
}

/// Polls until a condition holds.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A member that notes what it is told.
pub struct Reader {
    pub member: Box<dyn Member>,
    pub owned: BTreeMap<TopicPartition, Assignment>,
    pub records: Vec<Incoming>,
    /// Behind what the log has, by its own word.
    pub passed: BTreeMap<TopicPartition, i64>,
    /// Revoked and not yet released.
    pub revoked: Vec<(Vec<TopicPartition>, bool)>,
    /// Releases at once what is revoked.
    pub obliging: bool,
}

impl Reader {
    pub async fn join(log: &dyn Transport, group: &str, topics: &[&str]) -> Reader {
        let topics: Vec<String> = topics.iter().map(|t| (*t).to_owned()).collect();
        let member = log.join(group, &topics).await.unwrap();
        Reader {
            member,
            owned: BTreeMap::new(),
            records: vec![],
            passed: BTreeMap::new(),
            revoked: vec![],
            obliging: true,
        }
    }

    /// Takes note of one event.
    pub async fn step(&mut self, within: Duration) -> bool {
        let Ok(event) = tokio::time::timeout(within, self.member.next()).await else { return false };
        match event.unwrap() {
            Event::Assigned(list) => {
                for a in list {
                    self.owned.insert(a.at.clone(), a);
                }
            }
            Event::Records(records) => {
                for r in &records {
                    assert!(self.owned.contains_key(&r.at), "records of {} before it was assigned", r.at);
                }
                self.records.extend(records);
            }
            Event::Passed { at, offset } => {
                assert!(self.owned.contains_key(&at), "{at} is passed before it was assigned");
                self.passed.insert(at, offset);
            }
            Event::Revoked { partitions, lost } => {
                if self.obliging {
                    partitions.iter().for_each(|p| drop(self.owned.remove(p)));
                    self.member.release(&partitions).await;
                } else {
                    self.revoked.push((partitions, lost));
                }
            }
        }
        true
    }

    /// Goes on until a condition holds.
    pub async fn until(&mut self, what: &str, mut done: impl FnMut(&Reader) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}; owned: {:?}", self.numbers());
            self.step(Duration::from_millis(100)).await;
        }
    }

    /// Goes on for some time.
    pub async fn during(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.step(Duration::from_millis(50)).await;
        }
    }

    /// Partition numbers owned.
    pub fn numbers(&self) -> BTreeSet<i32> {
        self.owned.keys().map(|at| at.partition).collect()
    }

    /// Values read, in the order of reading.
    pub fn values(&self) -> Vec<String> {
        self.records.iter().map(text).collect()
    }

    /// A batch that moves an owned partition on.
    pub fn batch(&self, at: &TopicPartition, base: i64, map: &str, outputs: Vec<Outgoing>) -> Arc<Batch> {
        let epoch = self.owned[at].epoch;
        let progress = vec![Progress { at: at.clone(), epoch, base, map: map.to_owned() }];
        Arc::new(Batch { progress, outputs })
    }
}

/// Drives two members until a condition on both holds.
pub async fn both(a: &mut Reader, b: &mut Reader, what: &str, mut done: impl FnMut(&Reader, &Reader) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done(a, b) {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}; {:?} and {:?}", a.numbers(), b.numbers());
        a.step(Duration::from_millis(20)).await;
        b.step(Duration::from_millis(20)).await;
    }
}
