//! A member of a group: a thread that reads the partitions it holds and looks after its leases.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::mpsc;

use super::headers::headers_from_json;
use super::writer::{NULL, Writer, ZSTD};
use super::{Shared, Wake, lease, schema};
use crate::transport::{Assignment, Batch, Committed, Event, Incoming, Member, Result, TopicPartition, TransportError};

/// Records and bytes read of one partition at a time.
const READ_RECORDS: usize = 512;
const READ_BYTES: usize = 512 << 10;
/// Events that wait for the runner.
const EVENTS: usize = 2;
/// How often the leases are looked at.
const TICK: Duration = Duration::from_millis(500);

/// A partition held.
struct Held {
    epoch: i64,
    topic_id: i64,
    position: i64,
    paused: bool,
    /// Told to be revoked; nothing more is read until it is released.
    revoked: bool,
}

type Holding = Arc<Mutex<HashMap<TopicPartition, Held>>>;

/// The runner's end of a member.
pub struct SqliteMember {
    shared: Arc<Shared>,
    group: Arc<str>,
    name: Arc<str>,
    holding: Holding,
    events: mpsc::Receiver<Result<Event>>,
}

impl SqliteMember {
    /// Enters the group and starts the thread.
    pub async fn join(shared: &Arc<Shared>, group: &str, topics: &[String]) -> Result<SqliteMember> {
        let name: Arc<str> = uuid::Uuid::now_v7().simple().to_string().into();
        let group: Arc<str> = group.into();
        let lock_file = shared.process.lock_file();
        let wanted = topics.to_vec();
        let (g, n) = (Arc::clone(&group), Arc::clone(&name));
        // What cannot be joined leaves no trace: all is checked before the group is entered.
        let found: Result<Vec<(Arc<str>, i64, i32)>> = shared
            .writer
            .call(move |tx| {
                let mut found: Vec<(Arc<str>, i64, i32)> = vec![];
                for topic in wanted {
                    let row: Option<(i64, i32)> = tx
                        .query_row("SELECT id, partitions FROM topics WHERE name = ?", [&topic], |r| {
                            Ok((r.get(0)?, r.get(1)?))
                        })
                        .optional()?;
                    let Some((id, partitions)) = row else { return Ok(Err(TransportError::NoTopic(topic))) };
                    if let Some((first, _, expected)) = found.first().filter(|t| t.2 != partitions) {
                        return Ok(Err(TransportError::Fatal(format!(
                            "{topic} has {partitions} partitions and {first} has {expected}: topics read together need equal counts; \
                             `tidemill topics apply` evens them out"
                        ))));
                    }
                    found.push((topic.into(), id, partitions));
                }
                for (_, id, _) in &found {
                    tx.execute("INSERT OR IGNORE INTO subscriptions VALUES (?, ?)", params![&*g, id])?;
                }
                lease::enter(tx, &g, &n, &lock_file)?;
                Ok(Ok(found))
            })
            .await?;
        let topics = found?.into_iter().map(|(name, id, _)| (name, id)).collect();
        shared.process.add(&name);
        let holding = Holding::default();
        let (tx, events) = mpsc::channel(EVENTS);
        let thread = Thread {
            reader: schema::open_reader(&shared.path)?,
            path: shared.path.clone(),
            writer: shared.writer.clone(),
            wake: Arc::clone(&shared.wake),
            group: Arc::clone(&group),
            name: Arc::clone(&name),
            topics,
            partitions: 0,
            holding: Arc::clone(&holding),
            events: tx,
        };
        std::thread::Builder::new()
            .name(format!("log-read-{group}"))
            .spawn(move || thread.run())
            .map_err(|e| TransportError::Fatal(format!("cannot start a reader thread: {e}")))?;
        Ok(SqliteMember { shared: Arc::clone(shared), group, name, holding, events })
    }

    fn set_paused(&self, at: &TopicPartition, paused: bool) {
        if let Some(h) = self.holding.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
            h.paused = paused;
        }
        if !paused {
            self.shared.wake.bump();
        }
    }
}

#[async_trait]
impl Member for SqliteMember {
    async fn next(&mut self) -> Result<Event> {
        match self.events.recv().await {
            Some(event) => event,
            None => Err(TransportError::Fatal("the log's reader thread ended".into())),
        }
    }

    fn pause(&mut self, at: &TopicPartition) {
        self.set_paused(at, true);
    }

    fn resume(&mut self, at: &TopicPartition) {
        self.set_paused(at, false);
    }

    fn commit(&mut self, batch: Arc<Batch>) -> BoxFuture<'static, Committed> {
        let writer = self.shared.writer.clone();
        let (group, name) = (Arc::clone(&self.group), Arc::clone(&self.name));
        async move { writer.commit(group, name, batch).await }.boxed()
    }

    async fn release(&mut self, partitions: &[TopicPartition]) {
        let numbers: HashSet<i32> = partitions.iter().map(|p| p.partition).collect();
        let mut leases: Vec<(i32, i64)> = {
            let held = self.holding.lock().unwrap_or_else(PoisonError::into_inner);
            held.iter()
                .filter(|(at, _)| numbers.contains(&at.partition))
                .map(|(at, h)| (at.partition, h.epoch))
                .collect()
        };
        leases.sort_unstable();
        leases.dedup();
        let (group, name) = (Arc::clone(&self.group), Arc::clone(&self.name));
        let released = self.shared.writer.call(move |tx| lease::release(tx, &group, &name, &leases)).await;
        if let Err(e) = released {
            tracing::warn!(error = %e, "leases could not be given back; they are taken anew under another epoch");
        }
        // Only now: while they are held here, the thread takes no lease that this release could give away.
        self.holding.lock().unwrap_or_else(PoisonError::into_inner).retain(|at, _| !numbers.contains(&at.partition));
    }

    async fn leave(self: Box<Self>) {
        let (group, name) = (Arc::clone(&self.group), Arc::clone(&self.name));
        self.shared.process.remove(&name);
        if let Err(e) = self.shared.writer.call(move |tx| lease::leave(tx, &group, &name)).await {
            tracing::warn!(error = %e, "could not leave the group; its leases run out by themselves");
        }
    }
}

impl Drop for SqliteMember {
    fn drop(&mut self) {
        self.shared.process.remove(&self.name);
    }
}

struct Thread {
    reader: Connection,
    path: PathBuf,
    writer: Writer,
    wake: Arc<Wake>,
    group: Arc<str>,
    name: Arc<str>,
    /// Name and id.
    topics: Vec<(Arc<str>, i64)>,
    /// How many partitions there were at the last look.
    partitions: i32,
    holding: Holding,
    events: mpsc::Sender<Result<Event>>,
}

impl Thread {
    fn run(mut self) {
        let mut ticked: Option<Instant> = None;
        while !self.events.is_closed() {
            if ticked.is_none_or(|t| t.elapsed() >= TICK) {
                ticked = Some(Instant::now());
                if let Err(e) = self.tick() {
                    self.send(Err(e));
                }
            }
            let seen = self.wake.count();
            match self.read_all() {
                Ok(true) => {}
                Ok(false) => self.wake.wait(seen, TICK),
                Err(e) => {
                    self.send(Err(schema::explain(&e, &self.path)));
                    #[allow(clippy::disallowed_methods, reason = "a thread of its own")]
                    std::thread::sleep(TICK);
                }
            }
        }
    }

    /// Waits until the runner takes it.
    fn send(&self, event: Result<Event>) {
        // A closed channel ends the loop.
        let _closed = self.events.blocking_send(event);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, Held>> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after the leases. Nothing is taken while anything told to be revoked is not yet released, so that the
    /// release of an old lease and the arrival of a new one are never under way at the same time.
    ///
    /// When topics have grown, all that is held is given back first: whoever places keys by their number must hear of the
    /// new one for every partition.
    fn tick(&mut self) -> Result<()> {
        self.writer.alive()?;
        let (mut numbers, releasing) = {
            let held = self.held();
            let kept: Vec<(i32, i64)> =
                held.iter().filter(|(_, h)| !h.revoked).map(|(at, h)| (at.partition, h.epoch)).collect();
            (kept, held.values().any(|h| h.revoked))
        };
        numbers.sort_unstable();
        numbers.dedup();
        let explain = |e| schema::explain(&e, &self.path);
        let partitions = self.partitions().map_err(explain)?;
        let mut plan = lease::plan(&self.reader, &self.group, &self.name, partitions, &numbers).map_err(explain)?;
        if partitions != std::mem::replace(&mut self.partitions, partitions) {
            plan.surplus = numbers.iter().map(|(p, _)| *p).filter(|p| !plan.lost.contains(p)).collect();
        }
        self.revoke(&plan.lost, true);
        self.revoke(&plan.surplus, false);
        if !releasing && plan.lost.is_empty() && plan.surplus.is_empty() && !plan.free.is_empty() {
            self.acquire(plan.free)?;
        }
        Ok(())
    }

    /// Partitions to share: those that all of the topics have. They may grow at any time.
    fn partitions(&self) -> rusqlite::Result<i32> {
        let mut q = self.reader.prepare_cached("SELECT partitions FROM topics WHERE id = ?")?;
        let mut fewest = None;
        for (_, id) in &self.topics {
            let n: i32 = q.query_row([id], |r| r.get(0))?;
            fewest = Some(fewest.map_or(n, |f: i32| f.min(n)));
        }
        Ok(fewest.unwrap_or(0))
    }

    fn revoke(&self, numbers: &[i32], lost: bool) {
        if numbers.is_empty() {
            return;
        }
        self.held().iter_mut().filter(|(at, _)| numbers.contains(&at.partition)).for_each(|(_, h)| h.revoked = true);
        self.send(Ok(Event::Revoked { partitions: self.topic_partitions(numbers), lost }));
    }

    fn topic_partitions(&self, numbers: &[i32]) -> Vec<TopicPartition> {
        let one = |n: &i32| self.topics.iter().map(|(t, _)| TopicPartition::new(Arc::clone(t), *n)).collect::<Vec<_>>();
        numbers.iter().flat_map(one).collect()
    }

    fn acquire(&self, wanted: Vec<i32>) -> Result<()> {
        let (group, name) = (Arc::clone(&self.group), Arc::clone(&self.name));
        let topics = self.topics.clone();
        // Progress is read in the transaction that takes the lease: the former owner can commit no more.
        let assignments = self.writer.call_blocking(move |tx| {
            let mut assignments = vec![];
            for (partition, epoch) in lease::take(tx, &group, &name, &wanted)? {
                for (topic, id) in &topics {
                    let partitions: u32 = tx
                        .prepare_cached("SELECT partitions FROM topics WHERE id = ?")?
                        .query_row([id], |r| r.get(0))?;
                    let committed: Option<(i64, String)> = tx
                        .prepare_cached(
                            "SELECT base, map FROM progress WHERE group_name = ? AND topic_id = ? AND partition = ?",
                        )?
                        .query_row(params![&*group, id, partition], |r| Ok((r.get(0)?, r.get(1)?)))
                        .optional()?;
                    let (base, map) = match committed {
                        Some(c) => c,
                        None => {
                            let start = tx
                                .prepare_cached(
                                    "SELECT start_offset FROM partitions WHERE topic_id = ? AND partition = ?",
                                )?
                                .query_row(params![id, partition], |r| r.get(0))?;
                            (start, String::new())
                        }
                    };
                    let at = TopicPartition::new(Arc::clone(topic), partition);
                    assignments.push((*id, Assignment { at, epoch, partitions, base, map }));
                }
            }
            Ok(assignments)
        })?;
        if assignments.is_empty() {
            return Ok(());
        }
        {
            // Before the runner is told, because it may pause or commit as soon as it knows.
            let mut held = self.held();
            for (topic_id, a) in &assignments {
                let fresh =
                    Held { epoch: a.epoch, topic_id: *topic_id, position: a.base, paused: false, revoked: false };
                held.insert(a.at.clone(), fresh);
            }
        }
        self.send(Ok(Event::Assigned(assignments.into_iter().map(|(_, a)| a).collect())));
        Ok(())
    }

    /// Reads each partition that has something and is not paused. True when there was anything.
    fn read_all(&self) -> rusqlite::Result<bool> {
        let mut ends: HashMap<(i64, i32), i64> = HashMap::new();
        let mut q = self.reader.prepare_cached("SELECT partition, next_offset FROM partitions WHERE topic_id = ?")?;
        for (_, id) in &self.topics {
            let mut rows = q.query([id])?;
            while let Some(r) = rows.next()? {
                ends.insert((*id, r.get(0)?), r.get(1)?);
            }
        }
        drop(q);
        let mut work: VecDeque<(TopicPartition, i64, i64, i64)> = self
            .held()
            .iter()
            .filter(|(at, h)| {
                !h.paused && !h.revoked && ends.get(&(h.topic_id, at.partition)).is_some_and(|end| *end > h.position)
            })
            .map(|(at, h)| (at.clone(), h.topic_id, h.position, h.epoch))
            .collect();
        let any = !work.is_empty();
        while let Some((at, topic_id, position, epoch)) = work.pop_front() {
            let records = read(&self.reader, topic_id, &at, position, READ_RECORDS, READ_BYTES)?;
            let end = ends.get(&(topic_id, at.partition)).copied().unwrap_or(position);
            let next = records.last().map_or(end, |r| r.offset + 1);
            {
                let mut held = self.held();
                let Some(h) = held.get_mut(&at).filter(|h| h.epoch == epoch) else { continue };
                h.position = next;
            }
            if !records.is_empty() {
                self.send(Ok(Event::Records(records)));
            }
        }
        Ok(any)
    }
}

/// Reads one partition from an offset on.
pub fn read(
    c: &Connection,
    topic_id: i64,
    at: &TopicPartition,
    from: i64,
    max_records: usize,
    max_bytes: usize,
) -> rusqlite::Result<Vec<Incoming>> {
    let mut q = c.prepare_cached(
        "SELECT id, timestamp, key, headers, codec, value FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
    )?;
    let (low, high) =
        (schema::record_id(topic_id, at.partition, from), schema::record_id(topic_id, at.partition + 1, 0));
    let mut rows = q.query(params![low, high, max_records as i64])?;
    let (mut out, mut bytes) = (vec![], 0);
    while let Some(r) = rows.next()? {
        let stored = r.get_ref(5)?.as_blob()?;
        let codec: i64 = r.get(4)?;
        let value = if codec == ZSTD {
            Bytes::from(zstd::decode_all(stored).map_err(|e| damaged(5, e))?)
        } else {
            Bytes::copy_from_slice(stored)
        };
        let key = r.get_ref(2)?.as_blob_or_null()?.map(Bytes::copy_from_slice);
        let text = Bytes::copy_from_slice(r.get_ref(3)?.as_str()?.as_bytes());
        let headers = headers_from_json(&text).map_err(|e| damaged(3, e))?;
        let record = Incoming {
            tombstone: codec == NULL,
            at: at.clone(),
            offset: schema::offset_of(r.get(0)?),
            timestamp: r.get(1)?,
            key,
            value,
            headers,
        };
        bytes += record.size();
        out.push(record);
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(out)
}

fn damaged(column: usize, e: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(e))
}
