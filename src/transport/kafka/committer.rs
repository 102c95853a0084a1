//! Rolling transactions with two producers.
//!
//! ```text
//! batch 1  producer a  begin ─ produce ─ offsets ─ commit ─► Done
//! batch 2  producer b           begin ─ produce ┄┄┄┄┄┄┄┄┄┄┄┄ offsets ─ commit ─► Done
//! batch 3  producer a                                           begin ─ produce ┄┄┄┄┄ …
//!                                     └ a batch sends its offsets only when the one before it is known as written
//! ```
//!
//! A batch's progress counts on the batch before it; so if that one is not written, this one is aborted too.
//!
//! | what fails | outcome | then |
//! |---|---|---|
//! | anything before `commit` | `Aborted`: without EndTxn nothing can show | abort; if that fails too, a new producer, whose init aborts |
//! | partitions of the batch are not held any more, or the group says so | `Fenced` | abort |
//! | a call, timed out | | called again: librdkafka resumes it; at the end of the transaction a new producer, since the request may come late |
//! | `commit`, refused for good | `Aborted`; `Unknown` if the abort is refused too | abort |
//! | `commit`, no answer for [`PATIENCE`], or the producer is finished | `Unknown` | a new producer; its init settles the old transaction; only then is the committed map read again |
//!
//! Nothing here knows librdkafka: [`Cluster`] and [`Transactions`] are also what the simulation implements.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::transport::{Batch, Committed, Progress, TopicPartition};

/// Producers, and so batches under way at once.
pub const PRODUCERS: usize = 2;
/// How long a call that times out is made again before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Wait before a call that failed for now is made again.
const AGAIN: Duration = Duration::from_millis(200);

/// What a call on a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// No answer in time, or a broker is away: the same call may be made again.
    #[error("{0}")]
    Retriable(String),
    /// The transaction cannot be committed; abort it, and the producer lives on.
    #[error("{0}")]
    Abort(String),
    /// The group knows nothing of this member in this generation: what it held is somebody else's.
    #[error("{0}")]
    NotMember(String),
    /// The producer is finished: fenced off, broken, or a call on it hangs.
    #[error("{0}")]
    Fatal(String),
}

type Result<T> = std::result::Result<T, TxnError>;

/// A producer with a transactional id. Calls are made one after the other; each ends within a limit of its own.
#[async_trait]
pub trait Transactions: Send + 'static {
    /// Proof that the member held its partitions: what the group coordinator checks offsets against.
    type Generation: Send;

    /// Takes the transactional id over: producers of the same id are fenced off, their open transaction is settled.
    async fn init(&mut self) -> Result<()>;

    async fn begin(&mut self) -> Result<()>;

    /// Writes records into the transaction. Need not wait until they arrived; `commit` does.
    async fn produce(&mut self, batch: &Arc<Batch>) -> Result<()>;

    /// Adds progress to the transaction.
    async fn send_offsets(&mut self, batch: &Arc<Batch>, generation: Self::Generation) -> Result<()>;

    async fn commit(&mut self) -> Result<()>;

    async fn abort(&mut self) -> Result<()>;
}

#[async_trait]
impl<G: Send + 'static> Transactions for Box<dyn Transactions<Generation = G>> {
    type Generation = G;

    async fn init(&mut self) -> Result<()> {
        (**self).init().await
    }

    async fn begin(&mut self) -> Result<()> {
        (**self).begin().await
    }

    async fn produce(&mut self, batch: &Arc<Batch>) -> Result<()> {
        (**self).produce(batch).await
    }

    async fn send_offsets(&mut self, batch: &Arc<Batch>, generation: G) -> Result<()> {
        (**self).send_offsets(batch, generation).await
    }

    async fn commit(&mut self) -> Result<()> {
        (**self).commit().await
    }

    async fn abort(&mut self) -> Result<()> {
        (**self).abort().await
    }
}

/// Whether the member holds what a batch speaks of.
#[derive(Debug)]
pub enum Holding<G> {
    /// All of it, under the epochs the batch names; offsets may be sent with this generation.
    Held(G),
    /// Not these.
    Lost(Vec<TopicPartition>),
}

/// What a committer works with.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    type Producer: Transactions;

    /// A new producer under the member's transactional id number `n`, not yet initialised.
    async fn producer(&self, n: usize) -> Result<Self::Producer>;

    /// Looks at the partitions of a batch. The generation is read while none of them can be taken away unnoticed.
    fn holding(&self, progress: &[Progress]) -> Holding<<Self::Producer as Transactions>::Generation>;

    /// Gives up every assignment and reads again what is committed.
    fn reread(&self);
}

struct Job {
    batch: Arc<Batch>,
    /// Whether the batch before it was written; None when that is known already.
    before: Option<oneshot::Receiver<bool>>,
    written: oneshot::Sender<bool>,
    reply: oneshot::Sender<Committed>,
}

/// Takes batches and tells how each ended. Ends with the last handle.
pub struct Committer {
    slots: Vec<mpsc::Sender<Job>>,
    tasks: Vec<JoinHandle<()>>,
    next: usize,
    /// Of the batch sent last.
    last: Option<oneshot::Receiver<bool>>,
    /// Sent, and the outcome not yet taken by the caller.
    open: Arc<AtomicUsize>,
    /// Producers with an outcome that is unknown, until what is committed is being read again.
    unknown: Arc<AtomicUsize>,
}

impl Committer {
    /// Starts the producers; each must be initialised before the group is joined, so that what a former life of this
    /// member left open is settled before offsets are read.
    pub async fn start<C: Cluster>(cluster: &Arc<C>) -> Result<Committer> {
        let (mut slots, mut tasks) = (vec![], vec![]);
        let unknown = Arc::<AtomicUsize>::default();
        for n in 0..PRODUCERS {
            let (cluster, unknown) = (Arc::clone(cluster), Arc::clone(&unknown));
            let mut slot = Slot { n, cluster, producer: None, ready: false, unanswered: false, unknown };
            slot.patiently_ready().await?;
            let (tx, rx) = mpsc::channel(1);
            tasks.push(tokio::spawn(slot.run(rx)));
            slots.push(tx);
        }
        Ok(Committer { slots, tasks, next: 0, last: None, open: Arc::default(), unknown })
    }

    /// Ends the producers; what is under way is finished first.
    pub async fn stop(&mut self) {
        self.slots.clear();
        for task in self.tasks.drain(..) {
            let _ended = task.await;
        }
    }

    /// Commits a batch.
    pub fn commit(&mut self, batch: Arc<Batch>) -> BoxFuture<'static, Committed> {
        if self.unknown.load(Ordering::Acquire) > 0 {
            // Its offsets could arrive after those that are read again: the generation is the same.
            let outcome = Committed::Aborted("what is committed is about to be read again".into());
            return std::future::ready(outcome).boxed();
        }
        let (written, after) = oneshot::channel();
        let (reply, outcome) = oneshot::channel();
        // A caller that has seen how all before it ended made its batch knowing that.
        let before = self.last.replace(after).filter(|_| self.open.load(Ordering::Acquire) > 0);
        let slot = self.slots.get(self.next);
        let sent = slot.is_some_and(|s| s.try_send(Job { batch, before, written, reply }).is_ok());
        self.next = (self.next + 1) % PRODUCERS;
        self.open.fetch_add(1, Ordering::AcqRel);
        let open = Arc::clone(&self.open);
        async move {
            let outcome = match sent {
                true => outcome.await.unwrap_or_else(|_| Committed::Unknown("the committer ended".into())),
                false => Committed::Aborted("more batches than producers are under way".into()),
            };
            open.fetch_sub(1, Ordering::AcqRel);
            outcome
        }
        .boxed()
    }
}

struct Slot<C: Cluster> {
    n: usize,
    cluster: Arc<C>,
    producer: Option<C::Producer>,
    /// The producer is initialised and has no open transaction.
    ready: bool,
    /// A call on it was not answered in time: the request may still arrive.
    unanswered: bool,
    unknown: Arc<AtomicUsize>,
}

impl<C: Cluster> Slot<C> {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            let outcome = self.transact(&job.batch, job.before).await;
            let unknown = matches!(outcome, Committed::Unknown(_));
            if unknown {
                self.unknown.fetch_add(1, Ordering::AcqRel);
            }
            // Nobody waits any more: the member is gone.
            let _gone = job.written.send(outcome == Committed::Done);
            let _gone = job.reply.send(outcome);
            if unknown {
                tokio::select! {
                    biased;
                    () = self.settled() => self.cluster.reread(),
                    () = jobs_closed(&mut jobs) => {}
                }
                self.unknown.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Until the transaction whose outcome is unknown is settled one way or the other.
    async fn settled(&mut self) {
        while let Err(e) = self.patiently_ready().await {
            error!(producer = self.n, error = %e, "a producer cannot be initialised again; trying on");
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// A producer without an open transaction; init is called again while it times out.
    async fn patiently_ready(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.make_ready().await {
                Err(TxnError::Retriable(e)) if Instant::now() < until => {
                    warn!(producer = self.n, error = %e, "a producer is not initialised yet; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                other => return other,
            }
        }
    }

    async fn make_ready(&mut self) -> Result<()> {
        if self.ready {
            return Ok(());
        }
        let mut producer = match self.producer.take() {
            Some(p) => p,
            None => self.cluster.producer(self.n).await?,
        };
        self.unanswered = false;
        match producer.init().await {
            Ok(()) => self.ready = true,
            // A call that timed out is resumed by calling it again on the same producer.
            Err(e @ TxnError::Retriable(_)) => {
                self.producer = Some(producer);
                return Err(e);
            }
            Err(e) => return Err(e),
        }
        self.producer = Some(producer);
        Ok(())
    }

    async fn transact(&mut self, batch: &Arc<Batch>, before: Option<oneshot::Receiver<bool>>) -> Committed {
        if let Err(e) = self.make_ready().await {
            // Nothing is begun: the next batch resumes where this one gave up.
            return Committed::Aborted(e.to_string());
        }
        match self.until_commit(batch, before).await {
            Ok(()) => self.end().await,
            Err(outcome) => {
                // If it could not: what is not ended by a commit never shows.
                let _aborted = self.abort().await;
                outcome
            }
        }
    }

    /// Everything up to EndTxn. Err: nothing of it can show.
    async fn until_commit(
        &mut self,
        batch: &Arc<Batch>,
        before: Option<oneshot::Receiver<bool>>,
    ) -> std::result::Result<(), Committed> {
        let aborted = |e: TxnError| Committed::Aborted(e.to_string());
        let producer = self.producer.as_mut().ok_or_else(|| Committed::Aborted("no producer".into()))?;
        // From here on there may be something to abort.
        self.ready = false;
        producer.begin().await.map_err(aborted)?;
        producer.produce(batch).await.map_err(aborted)?;
        debug!(producer = self.n, records = batch.outputs.len(), phase = "produced", "transaction");
        if let Some(before) = before {
            // The rule that everything rests on: this batch's progress says that the one before it is done.
            if !before.await.unwrap_or(false) {
                return Err(Committed::Aborted("the batch before it was not written".into()));
            }
        }
        let until = Instant::now() + PATIENCE;
        loop {
            // Looked at for each try: what was held then may have been lost while a call timed out.
            let generation = match self.cluster.holding(&batch.progress) {
                Holding::Held(generation) => generation,
                Holding::Lost(partitions) => return Err(Committed::Fenced(partitions)),
            };
            debug!(producer = self.n, partitions = batch.progress.len(), phase = "offsets", "transaction");
            match producer.send_offsets(batch, generation).await {
                Ok(()) => return Ok(()),
                Err(TxnError::Retriable(e)) if Instant::now() < until => {
                    self.unanswered = true;
                    debug!(producer = self.n, error = %e, "offsets are sent again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(e @ (TxnError::Retriable(_) | TxnError::Abort(_))) => return Err(aborted(e)),
                Err(TxnError::NotMember(e)) => {
                    debug!(producer = self.n, error = %e, "the group refuses the offsets");
                    return Err(Committed::Fenced(batch.progress.iter().map(|p| p.at.clone()).collect()));
                }
                Err(e @ TxnError::Fatal(_)) => {
                    // Its transaction is never ended by a commit; the next producer's init aborts it.
                    self.producer = None;
                    return Err(aborted(e));
                }
            }
        }
    }

    /// EndTxn.
    async fn end(&mut self) -> Committed {
        let Some(producer) = self.producer.as_mut() else { return Committed::Aborted("no producer".into()) };
        let until = Instant::now() + PATIENCE;
        loop {
            debug!(producer = self.n, phase = "commit", "transaction");
            match producer.commit().await {
                Ok(()) => {
                    self.ended();
                    debug!(producer = self.n, phase = "committed", "transaction");
                    return Committed::Done;
                }
                Err(TxnError::Retriable(e)) if Instant::now() < until => {
                    self.unanswered = true;
                    warn!(producer = self.n, error = %e, "a commit is not answered yet; asking again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(TxnError::Abort(e) | TxnError::NotMember(e)) => {
                    // A call before this one may have done it and only its answer was lost; an abort that works is the
                    // proof that it has not.
                    return if self.abort().await { Committed::Aborted(e) } else { Committed::Unknown(e) };
                }
                Err(TxnError::Retriable(e) | TxnError::Fatal(e)) => {
                    self.producer = None;
                    return Committed::Unknown(e);
                }
            }
        }
    }

    /// Aborts what is open. If that does not work (false), the producer goes: the init of the next one aborts.
    async fn abort(&mut self) -> bool {
        if self.ready {
            return true;
        }
        let Some(producer) = self.producer.as_mut() else { return false };
        let until = Instant::now() + PATIENCE;
        loop {
            match producer.abort().await {
                Ok(()) => {
                    self.ended();
                    debug!(producer = self.n, phase = "aborted", "transaction");
                    return true;
                }
                Err(TxnError::Retriable(e)) if Instant::now() < until => {
                    self.unanswered = true;
                    debug!(producer = self.n, error = %e, "an abort is not answered yet; asking again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(e) => {
                    warn!(producer = self.n, error = %e, "a transaction could not be aborted; the next producer's init does it");
                    self.producer = None;
                    return false;
                }
            }
        }
    }

    /// The transaction is over. A request of it that was given up may arrive in the next one, and nothing in the protocol
    /// that librdkafka speaks tells it from a new one (KIP-890): old offsets would be written over newer ones. So the next
    /// transaction has another epoch.
    fn ended(&mut self) {
        self.ready = !std::mem::take(&mut self.unanswered);
        if !self.ready {
            self.producer = None;
        }
    }
}

/// Returns when no job can come any more; a job that comes instead is answered with what is true: nothing is written.
async fn jobs_closed(jobs: &mut mpsc::Receiver<Job>) {
    while let Some(job) = jobs.recv().await {
        let _gone = job.written.send(false);
        let _gone = job.reply.send(Committed::Aborted("what is committed is being read again".into()));
    }
}
