//! A transactional producer as the client library has it: records are sent behind the caller's back, calls that time out
//! are resumed by calling again, and some calls hang.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tidemill::transport::Batch;
use tidemill::transport::kafka::committer::{Transactions, TxnError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::broker::{Refused, Sequenced, Target};
use super::group::Generation;
use super::plan::Point;
use super::world::{Node, Process, World};

/// Longest time in a call, unless it hangs.
const CALL: Duration = Duration::from_secs(2);
/// When a hanging call is ended.
const WATCHDOG: Duration = Duration::from_secs(6);
/// `delivery.timeout.ms`.
const DELIVERY: Duration = Duration::from_secs(5);
/// Brokers that lead the partitions.
const LEADERS: i32 = 3;

type Result<T> = std::result::Result<T, TxnError>;

pub struct SimProducer {
    world: Arc<World>,
    process: Arc<Process>,
    group: String,
    id: String,
    /// Producer id and epoch.
    who: Option<(i64, i16)>,
    delivery: Option<JoinHandle<Result<()>>>,
    /// Not all of it arrived, and the rest was given up.
    undelivered: bool,
    /// Takes back what is not sent yet.
    purged: Arc<AtomicBool>,
    /// The coordinator may know of the open transaction.
    registered: bool,
    sequence: u64,
}

impl SimProducer {
    pub fn new(world: Arc<World>, process: Arc<Process>, group: String, id: String) -> SimProducer {
        let (who, delivery, purged) = (None, None, Arc::default());
        SimProducer {
            world,
            process,
            group,
            id,
            who,
            delivery,
            undelivered: false,
            purged,
            registered: false,
            sequence: 0,
        }
    }

    fn who(&self) -> Result<(i64, i16)> {
        self.who.ok_or_else(|| TxnError::Fatal("not initialised".into()))
    }

    fn tell(&self, what: &str) {
        self.world.note(&self.process, || format!("{} {what}", self.id));
    }

    fn refused(&self, what: &str, why: Refused) -> TxnError {
        self.tell(&format!("{what}: {why:?}"));
        let text = format!("{what}: {why:?}");
        match why {
            Refused::Fenced => {
                self.world.count("fenced");
                TxnError::Fatal(text)
            }
            Refused::InvalidState => TxnError::Fatal(text),
            Refused::Concurrent => TxnError::Retriable(text),
            _ => TxnError::Abort(text),
        }
    }

    /// One call hangs now and then; the request may have gone out before.
    async fn hangs(&self, what: &str) -> Option<TxnError> {
        if !self.world.fault(self.world.plan.hang) {
            return None;
        }
        self.tell(&format!("{what} hangs"));
        self.world.count("hung calls");
        sleep(WATCHDOG).await;
        self.process.alive().await;
        Some(TxnError::Fatal(format!("{what} hangs")))
    }

    /// Asks the coordinator until it does not say CONCURRENT_TRANSACTIONS any more.
    async fn coordinator<R: Send + 'static>(
        &self,
        what: &str,
        act: impl Fn(&mut super::broker::Broker) -> std::result::Result<R, Refused> + Clone + Send + 'static,
    ) -> Result<R> {
        let until = Instant::now() + CALL;
        loop {
            match self.world.ask(&self.process, Node::Transactions, act.clone()).await {
                Ok(Ok(r)) => return Ok(r),
                Ok(Err(Refused::Concurrent)) if Instant::now() < until => sleep(Duration::from_millis(40)).await,
                Ok(Err(why)) => return Err(self.refused(what, why)),
                Err(_) => {
                    self.world.count("calls timed out");
                    self.tell(&format!("{what}: no answer"));
                    return Err(TxnError::Retriable(format!("{what}: no answer")));
                }
            }
        }
    }

    async fn end(&mut self, commit: bool) -> Result<()> {
        let ((pid, epoch), id) = (self.who()?, self.id.clone());
        let (world, process) = (Arc::clone(&self.world), Arc::clone(&self.process));
        self.coordinator(if commit { "commit" } else { "abort" }, move |b| {
            // The request is at the coordinator; nothing that happens to its sender stops it any more.
            if commit {
                world.point(&process, Point::Ending);
            }
            let answer = b.end(&id, pid, epoch, commit);
            if commit && answer.is_ok() {
                world.point(&process, Point::Prepared);
            }
            answer
        })
        .await
    }
}

#[async_trait]
impl Transactions for SimProducer {
    type Generation = Generation;

    async fn init(&mut self) -> Result<()> {
        let id = self.id.clone();
        let who = self.coordinator("init", move |b| b.init_producer(&id)).await?;
        self.who = Some(who);
        self.tell(&format!("initialised, epoch {}", who.1));
        Ok(())
    }

    async fn begin(&mut self) -> Result<()> {
        self.process.alive().await;
        self.who()?;
        (self.delivery, self.purged, self.registered) = (None, Arc::default(), false);
        self.world.point(&self.process, Point::Begun);
        Ok(())
    }

    async fn produce(&mut self, batch: &Arc<Batch>) -> Result<()> {
        self.process.alive().await;
        let who = self.who()?;
        if batch.outputs.is_empty() {
            return Ok(());
        }
        self.registered = true;
        let mut by_partition = BTreeMap::<_, Vec<_>>::new();
        for out in &batch.outputs {
            let at = self.world.broker(|b| b.place(out));
            by_partition.entry(at).or_default().push(out.clone());
        }
        let first = self.sequence;
        self.sequence += by_partition.len() as u64;
        let batches = by_partition.into_iter().zip(first..).map(|((at, records), n)| (at, n, records)).collect();
        let sender = Sender {
            world: Arc::clone(&self.world),
            process: Arc::clone(&self.process),
            id: self.id.clone(),
            who,
            purged: Arc::clone(&self.purged),
        };
        self.delivery = Some(tokio::spawn(sender.deliver(batches)));
        Ok(())
    }

    async fn send_offsets(&mut self, batch: &Arc<Batch>, generation: Generation) -> Result<()> {
        self.process.alive().await;
        let ((pid, epoch), id) = (self.who()?, self.id.clone());
        if let Some(hung) = self.hangs("send_offsets").await {
            return Err(hung);
        }
        self.registered = true;
        let (name, part) = (id.clone(), Target::Offsets(self.group.clone()));
        self.coordinator("add offsets", move |b| b.add(&name, pid, epoch, std::slice::from_ref(&part))).await?;
        let (batch, group) = (Arc::clone(batch), self.group.clone());
        let act =
            move |b: &mut super::broker::Broker| b.txn_offsets((&id, pid, epoch), &group, &generation, &batch.progress);
        match self.world.ask(&self.process, Node::Group, act).await {
            Ok(Ok(())) => {
                self.world.point(&self.process, Point::OffsetsSent);
                Ok(())
            }
            Ok(Err(why)) => Err(self.refused("offsets", why)),
            Err(_) => {
                self.world.count("calls timed out");
                self.tell("offsets: no answer");
                Err(TxnError::Retriable("offsets: no answer".into()))
            }
        }
    }

    async fn commit(&mut self) -> Result<()> {
        self.process.alive().await;
        if let Some(delivery) = &mut self.delivery {
            match timeout(CALL, delivery).await {
                Err(_) => return Err(TxnError::Retriable("flush: not all is delivered".into())),
                Ok(delivered) => {
                    self.delivery = None;
                    let delivered = delivered.map_err(|e| TxnError::Fatal(e.to_string()))?;
                    self.undelivered = delivered.is_err();
                    delivered?;
                }
            }
        }
        if self.world.fault(self.world.plan.refused) {
            self.world.count("commits refused");
            self.tell("commit is refused");
            return Err(TxnError::Abort("refused".into()));
        }
        if self.world.fault(0.5)
            && let Some(hung) = self.hangs("commit").await
        {
            return Err(hung);
        }
        self.end(true).await?;
        if let Some(hung) = self.hangs("commit").await {
            return Err(hung);
        }
        self.tell("committed");
        self.world.point(&self.process, Point::Committed);
        Ok(())
    }

    async fn abort(&mut self) -> Result<()> {
        self.process.alive().await;
        self.who()?;
        self.purged.store(true, Ordering::Relaxed);
        if self.registered {
            self.end(false).await?;
            self.registered = false;
        }
        if self.delivery.is_some() || self.undelivered {
            // Something may still be on its way, which must not arrive in the next transaction.
            let ((pid, epoch), id) = (self.who()?, self.id.clone());
            self.who = Some(self.coordinator("new epoch", move |b| b.bump(&id, pid, epoch)).await?);
            (self.delivery, self.undelivered) = (None, false);
        }
        self.world.count("aborted transactions");
        self.tell("aborted");
        Ok(())
    }
}

/// Sends a transaction's records.
struct Sender {
    world: Arc<World>,
    process: Arc<Process>,
    id: String,
    who: (i64, i16),
    purged: Arc<AtomicBool>,
}

impl Sender {
    async fn deliver(self, batches: Vec<Sequenced>) -> Result<()> {
        let parts: Arc<Vec<Target>> = Arc::new(batches.iter().map(|(at, ..)| Target::Log(at.clone())).collect());
        let (pid, epoch) = self.who;
        let id = self.id.clone();
        self.until_acted("add partitions", Node::Transactions, move |b| b.add(&id, pid, epoch, &parts)).await?;
        let mut by_leader = BTreeMap::<i32, Vec<Sequenced>>::new();
        for batch in batches {
            by_leader.entry(batch.0.partition % LEADERS).or_default().push(batch);
        }
        let sent = by_leader.into_values().map(|batches| {
            let (id, batches) = (self.id.clone(), Arc::new(batches));
            self.until_acted("produce", Node::Logs, move |b| b.produce(&id, pid, epoch, &batches))
        });
        for sent in join_all(sent).await {
            sent?;
        }
        self.world.point(&self.process, Point::Produced);
        Ok(())
    }

    async fn until_acted(
        &self,
        what: &str,
        node: Node,
        act: impl Fn(&mut super::broker::Broker) -> std::result::Result<(), Refused> + Clone + Send + 'static,
    ) -> Result<()> {
        let until = Instant::now() + DELIVERY;
        while Instant::now() < until {
            if self.purged.load(Ordering::Relaxed) {
                return Err(TxnError::Abort("purged".into()));
            }
            match self.world.ask(&self.process, node, act.clone()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Refused::Concurrent)) | Err(_) => sleep(Duration::from_millis(40)).await,
                Ok(Err(Refused::Fenced)) => {
                    self.world.count("fenced");
                    return Err(TxnError::Fatal(format!("{what}: fenced")));
                }
                Ok(Err(why)) => return Err(TxnError::Abort(format!("{what}: {why:?}"))),
            }
        }
        Err(TxnError::Abort(format!("{what}: message timed out")))
    }
}
