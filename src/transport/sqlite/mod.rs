//! The embedded log: one SQLite file that several processes may share, and that anyone can read with `sqlite3`.
//!
//! ```text
//! runner ── commit, append ──► writer thread ── one transaction for all that waits ──► log.db (WAL, synchronous=FULL)
//! runner ◄── events ── member thread (reads its partitions, looks after its leases) ◄── wake-up after each commit
//! watch thread: heartbeats of this process' members; notices commits of other processes
//! ```
//!
//! | table | holds |
//! |---|---|
//! | `topics`, `partitions` | names and settings; first and next offset |
//! | `records` | `id` = topic, partition and offset in one number ([`schema::record_id`]), so that a partition is one range |
//! | `progress` | base and offset map a group has committed |
//! | `members`, `leases`, `subscriptions` | who is in a group, who owns which partition under which epoch, what a group reads |
//! | `log` (view) | records with their topic's name, times and sizes, for people |
//!
//! Records, progress and outputs are one SQLite transaction, so a crash leaves all of a batch or nothing. A commit whose
//! lease has another epoch by now is refused before it writes.

mod headers;
mod lease;
mod member;
mod schema;
mod topics;
mod writer;

pub use headers::headers_to_json;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::{Bounds, Incoming, Member, Outgoing, Result, TopicPartition, TopicState, Transport, TransportError};
use crate::topology::Topic;

/// The embedded transport. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Sqlite {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    writer: writer::Writer,
    wake: Arc<Wake>,
    process: lease::Process,
    /// For tails, bounds and lag; members read through their own.
    reader: Mutex<Connection>,
}

/// A counter that grows with each commit anyone made, and a way to wait for it.
#[derive(Default)]
struct Wake {
    commits: Mutex<u64>,
    threads: Condvar,
    tasks: tokio::sync::Notify,
}

impl Wake {
    fn bump(&self) {
        *self.commits.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }

    fn count(&self) -> u64 {
        *self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the counter is past `seen`, at most `timeout`.
    fn wait(&self, seen: u64, timeout: Duration) {
        let guard = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let _unused = self.threads.wait_timeout_while(guard, timeout, |now| *now <= seen);
    }
}

impl Sqlite {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<Sqlite> {
        Sqlite::open_within(path, crate::sqlite::BUSY)
    }

    /// The same, giving up on a file that another process keeps locked after `busy` instead of 10 s; so does each later
    /// write.
    pub fn open_within(path: &Path, busy: Duration) -> Result<Sqlite> {
        let connection = schema::open(path, busy)?;
        let wake = Arc::new(Wake::default());
        let writer = writer::Writer::start(connection, Arc::clone(&wake))?;
        let reader = schema::open_reader(path)?;
        let process = lease::Process::start(path, writer.clone(), Arc::clone(&wake))?;
        Ok(Sqlite {
            shared: Arc::new(Shared { path: path.to_owned(), writer, wake, process, reader: Mutex::new(reader) }),
        })
    }

    /// Runs a query on the shared read connection, off the async threads.
    async fn query<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let connection = shared.reader.lock().unwrap_or_else(PoisonError::into_inner);
            f(&connection).map_err(|e| schema::explain(&e, &shared.path))
        })
        .await
        .map_err(|e| TransportError::Unavailable(format!("reading the log was cut short: {e}")))?
    }
}

#[async_trait]
impl Transport for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        let topics = topics.to_vec();
        self.shared.writer.call(move |tx| topics::create(tx, &topics)).await?
    }

    async fn describe_topics(&self, names: &[String]) -> Result<Vec<TopicState>> {
        let names = names.to_vec();
        self.query(move |c| topics::describe(c, &names)).await
    }

    async fn grow_topics(&self, names: &[String], partitions: u32) -> Result<()> {
        let names = names.to_vec();
        self.shared.writer.call(move |tx| topics::grow(tx, &names, partitions)).await?
    }

    async fn configure_topic(&self, topic: &str, settings: &BTreeMap<String, String>) -> Result<()> {
        let (topic, settings) = (topic.to_owned(), settings.clone());
        self.shared.writer.call(move |tx| topics::configure(tx, &topic, &settings)).await?
    }

    async fn join(&self, group: &str, topics: &[String]) -> Result<Box<dyn Member>> {
        let member = member::SqliteMember::join(&self.shared, group, topics).await?;
        Ok(Box::new(member))
    }

    async fn append(&self, records: Vec<Outgoing>) -> Result<()> {
        self.shared.writer.append(records).await
    }

    async fn bounds(&self, topic: &str) -> Result<Vec<Bounds>> {
        let name = topic.to_owned();
        let rows = self
            .query(move |c| {
                let mut q = c.prepare_cached(
                    "SELECT partition, start_offset, next_offset FROM partitions
                     WHERE topic_id = (SELECT id FROM topics WHERE name = ?) ORDER BY partition",
                )?;
                q.query_map([name], |r| Ok(Bounds { partition: r.get(0)?, start: r.get(1)?, end: r.get(2)? }))?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        if rows.is_empty() { Err(TransportError::NoTopic(topic.to_owned())) } else { Ok(rows) }
    }

    async fn offsets_at(&self, topic: &str, time: i64) -> Result<Vec<(i32, i64)>> {
        let bounds = self.bounds(topic).await?;
        let name = topic.to_owned();
        self.query(move |c| {
            let id: i64 = c.query_row("SELECT id FROM topics WHERE name = ?", [name], |r| r.get(0))?;
            bounds.into_iter().map(|b| Ok((b.partition, schema::offset_at(c, id, &b, time)?))).collect()
        })
        .await
    }

    async fn delete_before(&self, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        self.bounds(topic).await?;
        for (partition, offset) in offsets.iter().copied() {
            // In pieces, as a sweep.
            loop {
                let topic = topic.to_owned();
                let more = self.shared.writer.call(move |tx| schema::delete_some(tx, &topic, partition, offset));
                if !more.await? {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn read(
        &self,
        at: &TopicPartition,
        from: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Incoming>> {
        let place = at.clone();
        let records = self
            .query(move |c| {
                let id: Option<i64> = c
                    .prepare_cached("SELECT id FROM topics WHERE name = ?")?
                    .query_row([&*place.topic], |r| r.get(0))
                    .optional()?;
                id.map(|id| member::read(c, id, &place, from, max_records, max_bytes)).transpose()
            })
            .await?;
        records.ok_or_else(|| TransportError::NoTopic(at.topic.to_string()))
    }

    async fn progress(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64, String)>> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.query(move |c| {
            let mut q = c.prepare_cached(
                "SELECT partition, base, map FROM progress
                 WHERE group_name = ? AND topic_id = (SELECT id FROM topics WHERE name = ?) ORDER BY partition",
            )?;
            q.query_map([group, topic], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect()
        })
        .await
    }

    async fn changed(&self, timeout: Duration) {
        let _timed_out = tokio::time::timeout(timeout, self.shared.wake.tasks.notified()).await;
    }

    async fn sweep(&self) -> Result<u64> {
        let mut total = 0;
        // In pieces, so that a large clean-up holds up no commit for long.
        loop {
            let swept = self.shared.writer.call(schema::sweep_some).await?;
            total += swept;
            if swept == 0 {
                return Ok(total);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;
    use crate::transport::{Assignment, Batch, Committed, Event, Progress};

    fn big(topic: &str) -> Outgoing {
        let noise = (0..20_000).map(|_| rand::random()).collect::<Vec<u8>>();
        Outgoing {
            tombstone: false,
            topic: topic.into(),
            partition: Some(0),
            key: None,
            value: noise.into(),
            headers: Headers::default(),
        }
    }

    /// A full disk, as SQLite reports it: no more pages than now.
    async fn limit(log: &Sqlite, pages: i64) {
        let set = move |tx: &rusqlite::Transaction<'_>| {
            tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        };
        log.shared.writer.call(set).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_writes_nothing_says_so_and_the_same_batch_goes_through_later() {
        let folder = tempfile::tempdir().unwrap();
        let log = Sqlite::open(&folder.path().join("log.db")).unwrap();
        let topics: Vec<_> =
            crate::topology::topics().into_iter().filter(|t| t.name == "urls" || t.name == "pages").collect();
        log.create_topics(&topics).await.unwrap();
        let mut member = log.join("g", &["urls".to_owned()]).await.unwrap();
        let Event::Assigned(owned) = member.next().await.unwrap() else { panic!("not assigned") };
        let one = |a: &Assignment| Progress { at: a.at.clone(), epoch: a.epoch, base: 7, map: "m".into() };
        let batch = Arc::new(Batch { progress: owned.iter().map(one).collect(), outputs: vec![big("pages"); 40] });

        limit(&log, 1).await;
        let Committed::Aborted(why) = member.commit(Arc::clone(&batch)).await else { panic!("written to a full disk") };
        assert!(why.contains("is full: free some space"), "{why}");
        let e = log.append(vec![big("pages"); 40]).await.unwrap_err();
        assert!(matches!(&e, TransportError::Unavailable(m) if m.contains("is full")), "{e}");
        assert!(log.bounds("pages").await.unwrap().iter().all(|b| b.end == 0));
        assert_eq!(log.progress("g", "urls").await.unwrap(), vec![]);

        limit(&log, 1 << 30).await;
        assert_eq!(member.commit(batch).await, Committed::Done);
        assert_eq!(log.bounds("pages").await.unwrap()[0].end, 40);
        assert_eq!(log.progress("g", "urls").await.unwrap().len(), owned.len());
    }
}
