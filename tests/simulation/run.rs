//! One run: processes that come, go, crash and fall silent as the seed has it, until faults end; then the rest is drained
//! and the books are read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill::engine::route::Router;
use tidemill::engine::{Limits, Runner, StageWork};
use tidemill::topology::{self, StageName};
use tidemill::transport::Result;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::common::engine::{full, names};
use super::group::Group;
use super::ledger;
use super::plan::{Broken, Dice, Plan};
use super::stage::{DEADLINE, DELAYS, handler, inputs};
use super::transport::SimTransport;
use super::world::{Process, World, clock};

/// Virtual time that a run may take after the last fault. The committer has patience for a minute at a time.
const DRAIN: i64 = 240_000;
/// Virtual time that a stop may take.
const STOP: Duration = Duration::from_secs(150);

/// What came of a run.
pub struct Ended {
    pub wrong: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
    pub history: Vec<String>,
}

/// A process at work.
struct Working {
    process: Arc<Process>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

struct Run {
    world: Arc<World>,
    working: Vec<Working>,
    started: usize,
    ordinals: usize,
    /// When a process of which ordinal starts, Unix ms.
    starting: Vec<(i64, usize)>,
}

/// Runs a seed in a runtime of its own.
pub fn run(seed: u64, broken: Broken, record: bool, print: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed, broken, record, print))
}

async fn simulate(seed: u64, broken: Broken, record: bool, print: bool) -> Ended {
    let dice = Arc::new(Dice::new(seed));
    let plan = Plan::new(broken, &dice);
    let topics = topology::topics().into_iter().map(|t| full(&t.name)).collect();
    let (killed_tx, killed) = mpsc::channel(64);
    let world = World::new(plan.clone(), dice, topics, killed_tx, (record, print));
    world.tell(|| format!("{plan:?}"));
    world.broker(|b| b.groups.insert(full("fetch"), Group::new(plan.protocol, plan.partitions)));
    let records = inputs(plan.inputs);
    let expected = records.iter().map(|(task, url, _)| (task.clone(), url.clone())).collect();

    let mut run =
        Run { world: Arc::clone(&world), working: vec![], started: 0, ordinals: plan.members, starting: vec![] };
    (0..plan.members).for_each(|ordinal| run.start(ordinal));
    let feeding = Arc::clone(&world);
    let feed = tokio::spawn(async move {
        for (_, _, record) in records {
            sleep(feeding.dice.ms(0, 2 * feeding.plan.calm / feeding.plan.inputs as i64 - 50)).await;
            feeding.broker(|b| b.append(record));
        }
    });
    let over = run.until_drained(killed, &feed).await;
    let mut wrong = vec![];
    if over {
        run.stop_all().await;
        wrong = ledger::audit(&world, &expected);
    }
    wrong.extend(std::mem::take(&mut *world.wrong.lock().unwrap()));
    wrong.extend(world.broker(|b| std::mem::take(&mut b.wrong)));
    let mut counts = std::mem::take(&mut *world.counts.lock().unwrap());
    world.broker(|b| {
        counts.append(&mut b.counts);
        counts.insert("records of aborted transactions", b.aborted());
        counts.insert("rebalances", b.groups.values().map(|g| g.rebalances).sum());
    });
    counts.insert("virtual ms", world.elapsed() as u64);
    let history = world.history.as_ref().map(|h| std::mem::take(&mut *h.lock().unwrap())).unwrap_or_default();
    Ended { wrong, counts, history }
}

impl Run {
    fn start(&mut self, ordinal: usize) {
        self.started += 1;
        let process = Process::new(self.started, ordinal);
        self.world.note(&process, || "starts".into());
        let limits = Limits {
            in_flight: self.world.plan.in_flight,
            in_flight_bytes: 1 << 20,
            commit_interval: self.world.plan.commit_interval,
            grace: Duration::from_secs(5),
        };
        let router = Router::new(topology::stage(StageName::Fetch), names(), DELAYS);
        let work = StageWork { clock, ..StageWork::new(handler(&self.world, &process), router, DEADLINE) };
        let runner = Runner { clock, ..Runner::new(Arc::new(work), limits) };
        let transport = SimTransport { world: Arc::clone(&self.world), process: Arc::clone(&process) };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { runner.run(&transport, stopped).await });
        self.working.push(Working { process, stop, task });
    }

    /// kill -9: whatever is on its way stays on its way.
    fn crash(&mut self, i: usize) {
        let w = self.working.remove(i);
        if w.process.die() {
            self.world.note(&w.process, || "killed".into());
        }
        w.task.abort();
        self.world.count("crashes");
        self.restart(w.process.ordinal);
    }

    /// Some time later, under the same name or a new one.
    fn restart(&mut self, ordinal: usize) {
        let dice = &self.world.dice;
        let ordinal = if dice.chance(0.7) {
            self.world.count("restarts under the same name");
            ordinal
        } else {
            self.ordinals += 1;
            self.ordinals - 1
        };
        self.starting.push((clock() + dice.range(20, 3_000), ordinal));
    }

    fn start_due(&mut self) {
        let now = clock();
        for (_, ordinal) in self.starting.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.start(ordinal);
        }
    }

    /// Processes that ended by themselves.
    async fn reap(&mut self) {
        while let Some(i) = self.working.iter().position(|w| w.task.is_finished()) {
            let w = self.working.remove(i);
            w.process.die();
            let asked = w.stop.is_cancelled();
            match w.task.await {
                Ok(Ok(())) if asked => self.world.count("stops"),
                Ok(Ok(())) => self.world.wrong(format!("process {} ended without being asked", w.process.number)),
                Ok(Err(e)) if e.to_string().contains("the consumer ended") => self.world.wrong(format!("panic: {e}")),
                Ok(Err(e)) => {
                    self.world.note(&w.process, || format!("ended: {e}"));
                    self.world.count("processes ended by an error");
                }
                Err(e) => self.world.wrong(format!("process {} panicked: {e}", w.process.number)),
            }
            self.restart(w.process.ordinal);
        }
    }

    fn doing(&mut self) {
        let (world, plan) = (Arc::clone(&self.world), self.world.plan.clone());
        let total: i64 = plan.doings.iter().sum();
        if total == 0 {
            return;
        }
        let mut at = world.dice.range(0, total - 1);
        let which = plan.doings.iter().position(|w| {
            at -= w;
            at < 0
        });
        if which == Some(2) && self.working.len() < 4 {
            self.ordinals += 1;
            return self.start(self.ordinals - 1);
        }
        if self.working.is_empty() {
            return;
        }
        let i = world.dice.range(0, self.working.len() as i64 - 1) as usize;
        let process = Arc::clone(&self.working[i].process);
        let until = clock() + world.dice.range(500, 8_000);
        match which {
            Some(0) => self.crash(i),
            Some(1) => {
                world.note(&process, || "is asked to stop".into());
                self.working[i].stop.cancel();
            }
            Some(3) => {
                world.note(&process, || format!("does not hear the group for {} ms", until - clock()));
                world.count("deaf members");
                process.deaf.store(until, Ordering::Relaxed);
            }
            Some(4) => {
                world.note(&process, || format!("is suspended for {} ms", until - clock()));
                world.count("suspended processes");
                process.suspended.store(until, Ordering::Relaxed);
                if plan.named && world.dice.chance(0.5) {
                    world.count("twins of a suspended process");
                    self.starting.push((clock() + world.dice.range(200, 4_000), process.ordinal));
                }
            }
            _ => {}
        }
    }

    /// True when all is done; false, with a dump, when it takes too long.
    async fn until_drained(&mut self, mut killed: mpsc::Receiver<usize>, feed: &JoinHandle<()>) -> bool {
        let world = Arc::clone(&self.world);
        let mut next_doing = world.dice.range(100, 2 * world.plan.unrest);
        let mut calm = false;
        loop {
            let wait = if calm { 400 } else { 100 };
            if let Ok(Some(number)) = timeout(Duration::from_millis(wait), killed.recv()).await
                && let Some(i) = self.working.iter().position(|w| w.process.number == number)
            {
                self.crash(i);
            }
            self.reap().await;
            self.start_due();
            let now = world.elapsed();
            if !calm && now >= world.plan.calm {
                world.tell(|| "no more faults".into());
                world.calm();
                calm = true;
            }
            if !calm && now >= next_doing {
                next_doing = now + world.dice.range(50, 2 * world.plan.unrest);
                self.doing();
            }
            if !calm {
                continue;
            }
            if self.working.is_empty() && self.starting.is_empty() {
                self.start(self.ordinals);
            }
            if feed.is_finished() && world.broker(|b| b.settled() && ledger::lag(b).is_empty()) {
                return true;
            }
            if now > world.plan.calm + DRAIN {
                let lag = world.broker(|b| ledger::lag(b));
                let state = world.broker(|b| b.dump());
                world.wrong(format!("stuck: {lag:?} have records that are not done\n{state}"));
                return false;
            }
        }
    }

    async fn stop_all(&mut self) {
        self.world.tell(|| "all is done; all stop".into());
        self.working.iter().for_each(|w| w.stop.cancel());
        let until = Instant::now() + STOP;
        for w in self.working.drain(..) {
            match tokio::time::timeout_at(until, w.task).await {
                Ok(Ok(Ok(()))) => {}
                // It heard only now that another has its name.
                Ok(Ok(Err(e))) if e.to_string() == "Instance" => {}
                Ok(e) => self.world.wrong(format!("process {} did not stop well: {e:?}", w.process.number)),
                Err(_) => self.world.wrong(format!("stuck: process {} does not stop", w.process.number)),
            }
        }
    }
}
