//! Processes, and the network between them and the brokers: requests take time, are lost before or after the broker
//! acted, or arrive when nobody waits for them any more.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::broker::Broker;
use super::plan::{Dice, Plan, Point};

/// Virtual time starts here, Unix ms.
pub const EPOCH: i64 = 1_000_000_000_000;

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Virtual time, Unix ms; what the runner is given for a clock.
pub fn clock() -> i64 {
    EPOCH + START.get().map_or(0, |s| s.elapsed().as_millis() as i64)
}

/// Brokers, by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Transactions = 1,
    Group = 2,
    Logs = 4,
}

/// The caller cannot tell whether the broker acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut;

pub struct World {
    pub plan: Plan,
    pub dice: Arc<Dice>,
    broker: Mutex<Broker>,
    /// What the stage wrote outside, by a deterministic id, and how often.
    pub sink: Mutex<BTreeMap<String, u32>>,
    /// What must never happen and did.
    pub wrong: Mutex<Vec<String>>,
    pub counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Processes that were killed at a point.
    killed: mpsc::Sender<usize>,
    /// Everything that happened, if somebody wants to read it.
    pub history: Option<Mutex<Vec<String>>>,
    print: bool,
    faults_over: AtomicBool,
    epochs: AtomicI64,
}

/// One run of the program.
pub struct Process {
    /// Counts up over all processes of a run.
    pub number: usize,
    /// What its transactional ids and its static name are made of; a later process may have the same.
    pub ordinal: usize,
    dead: AtomicBool,
    /// Unix ms: it does not hear the group until then; the rest of it works.
    pub deaf: AtomicI64,
    /// Unix ms: nothing it asks is sent until then.
    pub suspended: AtomicI64,
    /// Records in the handler.
    pub running: AtomicUsize,
    /// Status events in commits under way.
    pub committing: AtomicUsize,
}

impl Process {
    pub fn new(number: usize, ordinal: usize) -> Arc<Process> {
        Arc::new(Process {
            number,
            ordinal,
            dead: AtomicBool::new(false),
            deaf: AtomicI64::new(0),
            suspended: AtomicI64::new(0),
            running: AtomicUsize::new(0),
            committing: AtomicUsize::new(0),
        })
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// True the first time.
    pub fn die(&self) -> bool {
        !self.dead.swap(true, Ordering::Relaxed)
    }

    /// Returns when the process may go on; never, if it is dead.
    pub async fn alive(&self) {
        loop {
            if self.is_dead() {
                return std::future::pending().await;
            }
            let wait = self.suspended.load(Ordering::Relaxed) - clock();
            if wait <= 0 {
                return;
            }
            sleep(Duration::from_millis(wait as u64)).await;
        }
    }

    /// The same, for the part that listens to the group.
    pub async fn hearing(&self) {
        loop {
            self.alive().await;
            let wait = self.deaf.load(Ordering::Relaxed) - clock();
            if wait <= 0 {
                return;
            }
            sleep(Duration::from_millis(wait as u64)).await;
        }
    }
}

impl World {
    /// Must be made in the runtime of its run: virtual time starts now.
    pub fn new(
        plan: Plan,
        dice: Arc<Dice>,
        topics: Vec<String>,
        killed: mpsc::Sender<usize>,
        (record, print): (bool, bool),
    ) -> Arc<World> {
        START.set(Some(Instant::now()));
        Arc::new(World {
            broker: Mutex::new(Broker::new(EPOCH, Arc::clone(&dice), topics, plan.partitions)),
            plan,
            dice,
            sink: Mutex::default(),
            wrong: Mutex::default(),
            counts: Mutex::default(),
            killed,
            history: (record || print).then(Mutex::default),
            print,
            faults_over: AtomicBool::new(false),
            epochs: AtomicI64::new(0),
        })
    }

    /// Time since the start, ms.
    pub fn elapsed(&self) -> i64 {
        clock() - EPOCH
    }

    /// From here on everything works.
    pub fn calm(&self) {
        self.faults_over.store(true, Ordering::Relaxed);
    }

    /// Whether something is to go wrong now.
    pub fn fault(&self, p: f64) -> bool {
        !self.faults_over.load(Ordering::Relaxed) && self.dice.chance(p)
    }

    pub fn next_epoch(&self) -> i64 {
        self.epochs.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    pub fn wrong(&self, what: String) {
        self.tell(|| format!("WRONG {what}"));
        self.wrong.lock().unwrap().push(what);
    }

    /// Takes note of an event.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(history) = &self.history {
            let ms = self.elapsed();
            let line = format!("{:>4}.{:03} {}", ms / 1000, ms % 1000, what());
            if self.print {
                println!("{line}");
            }
            history.lock().unwrap().push(line);
        }
    }

    pub fn note(&self, p: &Process, what: impl FnOnce() -> String) {
        self.tell(|| format!("p{} (#{}) {}", p.number, p.ordinal, what()));
    }

    /// The brokers, now.
    pub fn broker<R>(&self, f: impl FnOnce(&mut Broker) -> R) -> R {
        let mut broker = self.broker.lock().unwrap();
        broker.advance(clock());
        let r = f(&mut broker);
        if broker.groups.values().any(super::group::Group::doubly_assigned) {
            broker.wrong.push("a partition is assigned to two members at once".into());
        }
        r
    }

    /// The process may be killed here, to the instant. What it has sent may still arrive.
    pub fn point(&self, p: &Process, point: Point) {
        if self.plan.kill.is_some_and(|(at, chance)| at == point && self.fault(chance)) && p.die() {
            self.note(p, || format!("killed at {point:?}"));
            self.count(point.counted_as());
            let _full = self.killed.try_send(p.number);
        }
    }

    fn away(&self, node: Node) -> bool {
        let now = self.elapsed();
        self.plan.outages.iter().any(|o| o.nodes & node as u8 != 0 && (o.from..o.to).contains(&now))
    }

    fn latency(&self) -> Duration {
        if self.dice.chance(0.03) { self.dice.ms(50, 900) } else { self.dice.ms(0, 6) }
    }

    /// A request and its reply. `sent` and `acted` happen on its way: after it left, after the broker acted.
    pub async fn ask<R: Send + 'static>(
        self: &Arc<Self>,
        p: &Process,
        node: Node,
        act: impl FnOnce(&mut Broker) -> R + Send + 'static,
    ) -> Result<R, TimedOut> {
        p.alive().await;
        sleep(self.latency()).await;
        if self.away(node) || self.fault(self.plan.lost_request) {
            self.count("lost requests");
            if self.fault(self.plan.late) {
                let (world, late) = (Arc::clone(self), self.dice.ms(300, 5_000));
                self.note(p, || format!("a request to {node:?} will be {late:?} late"));
                tokio::spawn(async move {
                    sleep(late).await;
                    world.count("late requests");
                    world.broker(act);
                });
            }
            sleep(self.dice.ms(200, 1_000)).await;
            p.alive().await;
            return Err(TimedOut);
        }
        let reply = self.broker(act);
        if self.fault(self.plan.lost_reply) {
            self.count("lost replies");
            self.note(p, || format!("a reply of {node:?} is lost"));
            sleep(self.dice.ms(200, 1_000)).await;
            p.alive().await;
            return Err(TimedOut);
        }
        sleep(self.latency()).await;
        p.alive().await;
        Ok(reply)
    }
}
