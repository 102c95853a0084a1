//! The one thread of a process that writes: takes all that waits, writes it in one transaction, answers each.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{Wake, schema};
use crate::record::now_ms;
use crate::transport::{Batch, Committed, Outgoing, Result, TopicPartition, TransportError, partitioner};

/// Requests that may wait.
const QUEUE: usize = 64;
/// Bytes of outputs after which a transaction takes no further request.
const GROUP_BYTES: usize = 16 << 20;
/// Values from this size on are compressed (zstd level 1) if that saves something. Smaller ones are not worth the time.
const COMPRESS_FROM: usize = 32 << 10;

/// `records.codec`: the value as it is.
pub const RAW: i64 = 0;
/// `records.codec`: a zstd frame.
pub const ZSTD: i64 = 1;
/// `records.codec`: there is none, the value is null.
pub const NULL: i64 = 2;

type Job = Box<dyn FnOnce(&Transaction<'_>) -> rusqlite::Result<Box<dyn FnOnce() + Send>> + Send>;

enum Request {
    Commit {
        group: Arc<str>,
        member: Arc<str>,
        batch: Arc<Batch>,
        reply: oneshot::Sender<Committed>,
    },
    Append {
        records: Vec<Outgoing>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// Any other write; its answer is sent after the transaction is durable.
    Call {
        job: Job,
        failed: Box<dyn FnOnce(TransportError) + Send>,
    },
}

/// A handle to the writer thread.
#[derive(Clone)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
}

fn gone() -> TransportError {
    TransportError::Fatal("the log's writer has ended; start again (nothing is lost)".into())
}

impl Writer {
    /// Starts the thread; it ends when the last handle is gone.
    pub fn start(connection: Connection, wake: Arc<Wake>) -> Result<Writer> {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let path = connection.path().map(PathBuf::from).unwrap_or_default();
        std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || Thread { connection, inbox, wake, path }.run())
            .map_err(|e| TransportError::Fatal(format!("cannot start the log's writer thread: {e}")))?;
        Ok(Writer { requests })
    }

    /// An error once the thread is gone, so that nobody waits for it for ever.
    pub fn alive(&self) -> Result<()> {
        if self.requests.is_closed() { Err(gone()) } else { Ok(()) }
    }

    /// Outputs and progress in one transaction.
    pub async fn commit(&self, group: Arc<str>, member: Arc<str>, batch: Arc<Batch>) -> Committed {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request::Commit { group, member, batch, reply }).await.is_err() {
            return Committed::Aborted(gone().to_string());
        }
        // The thread answers each request, unless the process is ending.
        answer.await.unwrap_or_else(|_| Committed::Unknown(gone().to_string()))
    }

    /// Appends in one transaction.
    pub async fn append(&self, records: Vec<Outgoing>) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Append { records, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Any other write.
    pub async fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, request) = Self::request(f);
        self.requests.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// The same from a thread.
    pub fn call_blocking<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, request) = Self::request(f);
        self.requests.blocking_send(request).map_err(|_| gone())?;
        answer.blocking_recv().map_err(|_| gone())?
    }

    fn request<T: Send + 'static>(
        f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> (oneshot::Receiver<Result<T>>, Request) {
        let (reply, answer) = oneshot::channel();
        let reply = Arc::new(std::sync::Mutex::new(Some(reply)));
        let on_error = Arc::clone(&reply);
        let take = |r: &std::sync::Mutex<Option<oneshot::Sender<Result<T>>>>| {
            r.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        };
        let job: Job = Box::new(move |tx| {
            let value = f(tx)?;
            Ok(Box::new(move || {
                if let Some(reply) = take(&reply) {
                    let _receiver_gone = reply.send(Ok(value));
                }
            }))
        });
        let failed = Box::new(move |e| {
            if let Some(reply) = take(&on_error) {
                let _receiver_gone = reply.send(Err(e));
            }
        });
        (answer, Request::Call { job, failed })
    }
}

/// What to tell a requester once the transaction's fate is known.
enum Answer {
    Commit(oneshot::Sender<Committed>, Committed),
    Append(oneshot::Sender<Result<()>>, Result<()>),
    Call(Box<dyn FnOnce() + Send>),
    Failed(Box<dyn FnOnce(TransportError) + Send>),
}

struct Thread {
    connection: Connection,
    inbox: mpsc::Receiver<Request>,
    wake: Arc<Wake>,
    path: PathBuf,
}

/// Id and partitions by name, of one transaction: a topic may have grown before the next one.
type Topics = HashMap<Arc<str>, (i64, u32)>;

/// Offsets handed out in a transaction, written back at its end.
struct Offsets<'t> {
    tx: &'t Transaction<'t>,
    next: HashMap<(i64, i32), i64>,
}

impl Thread {
    fn run(mut self) {
        while let Some(first) = self.inbox.blocking_recv() {
            let mut group = vec![first];
            let mut bytes = 0;
            while bytes < GROUP_BYTES && group.len() < QUEUE {
                let Ok(next) = self.inbox.try_recv() else { break };
                bytes += match &next {
                    Request::Commit { batch, .. } => batch.outputs.iter().map(Outgoing::size).sum(),
                    Request::Append { records, .. } => records.iter().map(Outgoing::size).sum(),
                    Request::Call { .. } => 0,
                };
                group.push(next);
            }
            self.write(group);
        }
    }

    fn write(&mut self, group: Vec<Request>) {
        let mut answers = Vec::with_capacity(group.len());
        let result = Self::transaction(&mut self.connection, group, &mut answers);
        match result {
            Ok(()) => {
                self.wake.bump();
                for a in answers {
                    match a {
                        Answer::Commit(reply, c) => drop(reply.send(c)),
                        Answer::Append(reply, r) => drop(reply.send(r)),
                        Answer::Call(reply) => reply(),
                        Answer::Failed(_) => {}
                    }
                }
            }
            Err(e) => {
                let why = schema::explain(&e, &self.path);
                error!(error = %why, "transaction rolled back");
                for a in answers {
                    let e = TransportError::Unavailable(why.to_string());
                    match a {
                        Answer::Commit(reply, _) => drop(reply.send(Committed::Aborted(why.to_string()))),
                        Answer::Append(reply, _) => drop(reply.send(Err(e))),
                        Answer::Failed(failed) => failed(e),
                        // Its sender is inside the dropped closure, so the caller learns that the log is closed.
                        Answer::Call(_) => {}
                    }
                }
            }
        }
    }

    /// One transaction for the whole group. On error nothing is written and every requester still gets an answer.
    fn transaction(
        connection: &mut Connection,
        group: Vec<Request>,
        answers: &mut Vec<Answer>,
    ) -> rusqlite::Result<()> {
        let mut failed: Option<rusqlite::Error> = None;
        let tx = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(tx) => Some(tx),
            Err(e) => {
                failed = Some(e);
                None
            }
        };
        let mut next = HashMap::new();
        let topics = &mut Topics::new();
        for request in group {
            let work = tx.as_ref().filter(|_| failed.is_none());
            match request {
                Request::Commit { group, member, batch, reply } => {
                    let outcome = work.map(|tx| {
                        let mut offsets = Offsets { tx, next: std::mem::take(&mut next) };
                        let outcome = commit(&mut offsets, topics, &group, &member, &batch);
                        next = offsets.next;
                        outcome
                    });
                    let outcome = match outcome {
                        Some(Ok(c)) => c,
                        Some(Err(e)) => {
                            failed = Some(e);
                            Committed::Aborted(String::new())
                        }
                        None => Committed::Aborted(String::new()),
                    };
                    answers.push(Answer::Commit(reply, outcome));
                }
                Request::Append { records, reply } => {
                    let outcome = work.map(|tx| {
                        let mut offsets = Offsets { tx, next: std::mem::take(&mut next) };
                        let outcome = check(tx, topics, &records).and_then(|wrong| match wrong {
                            Some(e) => Ok(Err(e)),
                            None => offsets.insert_all(topics, &records).map(Ok),
                        });
                        next = offsets.next;
                        outcome
                    });
                    let outcome = match outcome {
                        Some(Ok(r)) => r,
                        Some(Err(e)) => {
                            failed = Some(e);
                            Ok(())
                        }
                        None => Ok(()),
                    };
                    answers.push(Answer::Append(reply, outcome));
                }
                Request::Call { job, failed: on_error } => match work.map(job) {
                    Some(Ok(reply)) => {
                        answers.push(Answer::Call(reply));
                        answers.push(Answer::Failed(on_error));
                    }
                    Some(Err(e)) => {
                        failed = Some(e);
                        answers.push(Answer::Failed(on_error));
                    }
                    None => answers.push(Answer::Failed(on_error)),
                },
            }
        }
        match (tx, failed) {
            (Some(tx), None) => {
                for ((topic, partition), offset) in next {
                    tx.prepare_cached("UPDATE partitions SET next_offset = ? WHERE topic_id = ? AND partition = ?")?
                        .execute(params![offset, topic, partition])?;
                }
                tx.commit()
            }
            // Dropping the transaction rolls it back.
            (_, Some(e)) => Err(e),
            (None, None) => Ok(()),
        }
    }
}

/// Checks the leases first; only then writes.
fn commit(
    offsets: &mut Offsets<'_>,
    topics: &mut Topics,
    group: &str,
    member: &str,
    batch: &Batch,
) -> rusqlite::Result<Committed> {
    let tx = offsets.tx;
    let held = tx
        .prepare_cached("SELECT partition, epoch FROM leases WHERE group_name = ? AND member = ?")?
        .query_map([group, member], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<HashMap<i32, i64>>>()?;
    let fenced: Vec<TopicPartition> =
        batch.progress.iter().filter(|p| held.get(&p.at.partition) != Some(&p.epoch)).map(|p| p.at.clone()).collect();
    if !fenced.is_empty() {
        return Ok(Committed::Fenced(fenced));
    }
    if let Some(e) = check(tx, topics, &batch.outputs)? {
        return Ok(Committed::Aborted(e.to_string()));
    }
    offsets.insert_all(topics, &batch.outputs)?;
    for p in &batch.progress {
        let Some((topic, _)) = topic_of(tx, topics, &p.at.topic)? else { continue };
        tx.prepare_cached(
            "INSERT OR REPLACE INTO progress(group_name, topic_id, partition, base, map) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![group, topic, p.at.partition, p.base, p.map])?;
    }
    Ok(Committed::Done)
}

/// The first record that has no place to go to, if any. Seen before anything is written, so that it fails alone and not
/// the whole transaction.
fn check(tx: &Transaction<'_>, topics: &mut Topics, records: &[Outgoing]) -> rusqlite::Result<Option<TransportError>> {
    for r in records {
        let Some((_, partitions)) = topic_of(tx, topics, &r.topic)? else {
            return Ok(Some(TransportError::NoTopic(r.topic.to_string())));
        };
        if let Some(p) = r.partition.filter(|p| u32::try_from(*p).map_or(true, |p| p >= partitions)) {
            return Ok(Some(TransportError::Fatal(format!(
                "{} has no partition {p}: it has {partitions}, counted from 0",
                r.topic
            ))));
        }
    }
    Ok(None)
}

fn topic_of(tx: &Transaction<'_>, topics: &mut Topics, name: &Arc<str>) -> rusqlite::Result<Option<(i64, u32)>> {
    use rusqlite::OptionalExtension;
    if let Some(t) = topics.get(name) {
        return Ok(Some(*t));
    }
    let row = tx
        .prepare_cached("SELECT id, partitions FROM topics WHERE name = ?")?
        .query_row([&**name], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    if let Some(t) = row {
        topics.insert(Arc::clone(name), t);
    }
    Ok(row)
}

impl Offsets<'_> {
    fn insert_all(&mut self, topics: &Topics, records: &[Outgoing]) -> rusqlite::Result<()> {
        let now = now_ms();
        let mut insert = self.tx.prepare_cached(
            "INSERT INTO records(id, timestamp, key, headers, codec, value) VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        for r in records {
            let Some(&(topic, partitions)) = topics.get(&r.topic) else { continue };
            let partition = match (r.partition, &r.key) {
                (Some(p), _) => p,
                (None, Some(key)) => partitioner::partition(key, partitions),
                (None, None) => rand::random_range(0..partitions.max(1)) as i32,
            };
            let offset = match self.next.entry((topic, partition)) {
                std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::hash_map::Entry::Vacant(e) => e.insert(
                    self.tx
                        .prepare_cached("SELECT next_offset FROM partitions WHERE topic_id = ? AND partition = ?")?
                        .query_row(params![topic, partition], |r| r.get(0))?,
                ),
            };
            let packed = pack(&r.value);
            let (codec, value): (i64, &[u8]) = match &packed {
                _ if r.tombstone => (NULL, &[]),
                Some(z) => (ZSTD, z),
                None => (RAW, &r.value),
            };
            insert.execute(params![
                schema::record_id(topic, partition, *offset),
                now,
                r.key.as_deref(),
                super::headers::headers_to_json(&r.headers),
                codec,
                value
            ])?;
            *offset += 1;
        }
        Ok(())
    }
}

fn pack(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() < COMPRESS_FROM {
        return None;
    }
    zstd::bulk::compress(value, 1).ok().filter(|z| z.len() < value.len() - value.len() / 8)
}
