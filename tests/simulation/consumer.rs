//! The part of a member that talks to the group coordinator and fetches: a task of its own, as the client library's
//! threads are. It tells the runner what happens, and [`Shared`] is what the committer sees of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::engine::offset_map;
use tidemill::transport::{Assignment, Event, Result, TopicPartition, TransportError};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use super::broker::Refused;
use super::plan::{Broken, Point};
use super::world::{Node, Process, World};

/// `heartbeat.interval.ms`.
const HEARTBEAT: Duration = Duration::from_millis(400);
/// How long the runner may take to give partitions back.
const RELEASE: Duration = Duration::from_secs(7);
/// Records a partition and fetch.
const FETCH: usize = 8;
/// Between two fetches that brought nothing, at most, ms.
const IDLE: i64 = 300;

/// What the member holds.
#[derive(Default)]
pub struct Held {
    /// Epoch of each assignment.
    pub epochs: BTreeMap<TopicPartition, i64>,
    pub member: String,
    /// None while the group is between two generations.
    pub generation: Option<i32>,
    pub paused: BTreeSet<TopicPartition>,
    pub reread: bool,
    /// Partitions that the runner has given back.
    pub released: BTreeSet<TopicPartition>,
}

#[derive(Default)]
pub struct Shared {
    pub held: Mutex<Held>,
    /// Something in it changed.
    pub changed: Notify,
}

/// A partition that is read.
struct Position {
    next: i64,
    /// What the map it came with knows as done.
    done: BTreeSet<i64>,
}

pub struct Consumer {
    pub world: Arc<World>,
    pub process: Arc<Process>,
    pub shared: Arc<Shared>,
    pub group: String,
    pub topics: Vec<Arc<str>>,
    pub events: mpsc::Sender<Result<Event>>,
    member: Option<String>,
    positions: BTreeMap<TopicPartition, Position>,
    next_beat: Instant,
    beats: u64,
    idle: i64,
}

/// The runner is gone, or the member may not go on.
struct Ended;

impl Consumer {
    pub fn new(
        world: Arc<World>,
        process: Arc<Process>,
        shared: Arc<Shared>,
        group: String,
        topics: Vec<Arc<str>>,
        events: mpsc::Sender<Result<Event>>,
    ) -> Consumer {
        let (member, positions, next_beat) = (None, BTreeMap::new(), Instant::now());
        Consumer { world, process, shared, group, topics, events, member, positions, next_beat, beats: 0, idle: 20 }
    }

    fn instance(&self) -> Option<String> {
        self.world.plan.named.then(|| format!("member-{}", self.process.ordinal))
    }

    pub async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> std::result::Result<(), Ended> {
        self.process.hearing().await;
        if std::mem::take(&mut self.shared.held.lock().unwrap().reread) {
            let all = self.numbers();
            self.lose().await?;
            return self.assign(all).await;
        }
        if Instant::now() >= self.next_beat {
            self.beat().await?;
        }
        self.fetch().await?;
        let until = self.next_beat.min(Instant::now() + Duration::from_millis(self.idle as u64));
        let _changed = timeout_at(until, self.shared.changed.notified()).await;
        Ok(())
    }

    fn numbers(&self) -> BTreeSet<i32> {
        self.positions.keys().map(|at| at.partition).collect()
    }

    fn of(&self, numbers: &BTreeSet<i32>) -> Vec<TopicPartition> {
        let all = self
            .topics
            .iter()
            .flat_map(|t| numbers.iter().map(|n| TopicPartition { topic: Arc::clone(t), partition: *n }));
        all.collect()
    }

    async fn tell(&self, event: Event) -> std::result::Result<(), Ended> {
        self.events.send(Ok(event)).await.map_err(|_| Ended)
    }

    async fn fatal(&self, why: Refused) -> Ended {
        self.world.note(&self.process, || format!("must end: {why:?}"));
        let _gone = self.events.send(Err(TransportError::Fatal(format!("{why:?}")))).await;
        Ended
    }

    // ---- the group

    async fn beat(&mut self) -> std::result::Result<(), Ended> {
        self.next_beat = Instant::now() + HEARTBEAT;
        let (group, instance, held) = (self.group.clone(), self.instance(), self.numbers());
        let Some(member) = self.member.clone() else {
            let joined = self.world.ask(&self.process, Node::Group, move |b| {
                let now = b.now;
                b.group(&group).join(now, instance.as_deref())
            });
            match joined.await {
                Ok(Ok(id)) => {
                    self.world.note(&self.process, || format!("joined as {id}"));
                    self.shared.held.lock().unwrap().member = id.clone();
                    self.member = Some(id);
                    self.next_beat = Instant::now();
                }
                Ok(Err(why)) => self.world.note(&self.process, || format!("cannot join: {why:?}")),
                Err(_) => {}
            }
            return Ok(());
        };
        self.beats += 1;
        let number = self.beats;
        let beat = self.world.ask(&self.process, Node::Group, move |b| {
            let now = b.now;
            b.group(&group).beat(now, &member, instance.as_deref(), (number, &held))
        });
        // What it says was true when it was said; who does not hear the group hears this later.
        let beat = beat.await;
        self.process.hearing().await;
        match beat {
            Err(_) => Ok(()),
            Ok(Err(Refused::Member)) => {
                self.world.note(&self.process, || "is no member any more".into());
                self.world.count("members put out");
                self.member = None;
                self.shared.held.lock().unwrap().generation = None;
                self.next_beat = Instant::now();
                if self.positions.is_empty() {
                    return Ok(());
                }
                // The library knows it before it says so.
                sleep(self.world.dice.ms(0, 400)).await;
                self.process.hearing().await;
                self.lose().await
            }
            Ok(Err(why)) => {
                self.shared.held.lock().unwrap().epochs.clear();
                Err(self.fatal(why).await)
            }
            Ok(Ok(beat)) => {
                let have = self.numbers();
                let go: BTreeSet<i32> = have.difference(&beat.assigned).copied().collect();
                if !go.is_empty() {
                    // Heard of before the partitions are given back: they are still held under this generation.
                    return self.revoke(go).await;
                }
                self.shared.held.lock().unwrap().generation = (beat.generation >= 0).then_some(beat.generation);
                let come: BTreeSet<i32> = beat.assigned.difference(&have).copied().collect();
                if come.is_empty() { Ok(()) } else { self.assign(come).await }
            }
        }
    }

    /// Heartbeats while the member waits for something.
    async fn stay(&mut self, held: BTreeSet<i32>) {
        let (Some(member), group, instance) = (self.member.clone(), self.group.clone(), self.instance()) else {
            return;
        };
        if Instant::now() >= self.next_beat {
            self.next_beat = Instant::now() + HEARTBEAT;
            self.beats += 1;
            let number = self.beats;
            let beat = self.world.ask(&self.process, Node::Group, move |b| {
                let now = b.now;
                b.group(&group).beat(now, &member, instance.as_deref(), (number, &held)).map(drop)
            });
            let _answer_comes_with_the_next = beat.await;
        }
    }

    async fn revoke(&mut self, numbers: BTreeSet<i32>) -> std::result::Result<(), Ended> {
        let partitions = self.of(&numbers);
        self.world.note(&self.process, || format!("gives back {numbers:?}"));
        self.world.count("revocations");
        self.world.point(&self.process, Point::Revoking);
        {
            // An earlier loss of them was acknowledged as well.
            let mut held = self.shared.held.lock().unwrap();
            partitions.iter().for_each(|at| drop(held.released.take(at)));
        }
        self.tell(Event::Revoked { partitions: partitions.clone(), lost: false }).await?;
        let until = Instant::now() + RELEASE;
        while Instant::now() < until {
            if partitions.iter().all(|at| self.shared.held.lock().unwrap().released.contains(at)) {
                break;
            }
            self.process.hearing().await;
            self.stay(self.numbers()).await;
            let _changed = timeout_at(until.min(self.next_beat), self.shared.changed.notified()).await;
        }
        let mut held = self.shared.held.lock().unwrap();
        for at in &partitions {
            held.epochs.remove(at);
            held.paused.remove(at);
            held.released.remove(at);
            self.positions.remove(at);
        }
        if self.positions.is_empty() && self.world.plan.protocol == super::group::Protocol::Classic {
            held.generation = None;
        }
        drop(held);
        self.next_beat = Instant::now();
        Ok(())
    }

    /// All of it is gone, or given up.
    async fn lose(&mut self) -> std::result::Result<(), Ended> {
        let partitions: Vec<TopicPartition> = std::mem::take(&mut self.positions).into_keys().collect();
        {
            let mut held = self.shared.held.lock().unwrap();
            held.epochs.clear();
            held.paused.clear();
            held.released.clear();
        }
        self.world.note(&self.process, || format!("lost {} partitions", partitions.len()));
        self.tell(Event::Revoked { partitions, lost: true }).await
    }

    /// Reads what is committed, which waits for transactions that are not settled.
    async fn assign(&mut self, numbers: BTreeSet<i32>) -> std::result::Result<(), Ended> {
        let partitions = self.of(&numbers);
        if partitions.is_empty() {
            return Ok(());
        }
        let stored = loop {
            let (group, asked) = (self.group.clone(), partitions.clone());
            match self.world.ask(&self.process, Node::Group, move |b| b.group(&group).fetch(&asked)).await {
                Ok(Ok(stored)) => break stored,
                Ok(Err(_)) => self.world.count("unstable offsets waited for"),
                Err(_) => {}
            }
            self.process.hearing().await;
            // It holds them as far as the group is concerned.
            self.stay(self.numbers().union(&numbers).copied().collect()).await;
            sleep(self.world.dice.ms(50, 150)).await;
        };
        let mut assignments = vec![];
        {
            let mut held = self.shared.held.lock().unwrap();
            for (at, stored) in partitions.into_iter().zip(stored) {
                let (base, map) = stored.map_or((0, String::new()), |s| (s.base, s.map));
                let known = offset_map::decode(base, &map).unwrap_or_default();
                let done = (base..=known.high).filter(|o| !known.incomplete.contains(o)).collect();
                let broken = self.world.plan.broken;
                let epoch = if broken == Broken::Epoch { 1 } else { self.world.next_epoch() };
                let map = if broken == Broken::Map { String::new() } else { map };
                held.epochs.insert(at.clone(), epoch);
                self.positions.insert(at.clone(), Position { next: base, done });
                assignments.push(Assignment { at, epoch, partitions: self.world.plan.partitions, base, map });
            }
        }
        self.world.note(&self.process, || format!("assigned {numbers:?}"));
        self.world.count("assignments");
        self.world.point(&self.process, Point::Assigned);
        self.idle = 20;
        self.tell(Event::Assigned(assignments)).await
    }

    // ---- records

    async fn fetch(&mut self) -> std::result::Result<(), Ended> {
        // Room for what is more urgent stays.
        if self.events.capacity() < self.events.max_capacity() / 2 {
            return Ok(());
        }
        let wanted: Vec<(TopicPartition, i64)> = {
            let held = self.shared.held.lock().unwrap();
            let free = self.positions.iter().filter(|(at, _)| !held.paused.contains(at));
            free.map(|(at, p)| (at.clone(), p.next)).collect()
        };
        let asked = wanted.clone();
        let read = move |b: &mut super::broker::Broker| {
            let mut passed = vec![];
            let mut records = vec![];
            for (at, from) in &asked {
                let (found, end) = (b.read(at, *from, FETCH), b.stable(at));
                let next = found.last().map_or(*from, |r| r.offset + 1);
                if found.len() < FETCH && next < end {
                    passed.push((at.clone(), end));
                }
                records.extend(found);
            }
            (records, passed)
        };
        // Nothing there is learnt without a trip, which is most of them.
        let there = self.world.broker(|b| wanted.iter().any(|(at, from)| b.stable(at) > *from));
        self.idle = if there { 20 } else { (self.idle * 2).min(IDLE) };
        if !there {
            return Ok(());
        }
        let Ok((records, passed)) = self.world.ask(&self.process, Node::Logs, read).await else { return Ok(()) };
        for r in &records {
            if let Some(p) = self.positions.get_mut(&r.at) {
                p.next = r.offset + 1;
                if p.done.contains(&r.offset) {
                    self.world.count("skipped thanks to the map");
                }
            }
        }
        if !records.is_empty() {
            self.tell(Event::Records(records)).await?;
        }
        for (at, offset) in passed {
            // Whoever reads on behind a marker need not know of it.
            if self.world.dice.chance(0.5) {
                continue;
            }
            if let Some(p) = self.positions.get_mut(&at) {
                p.next = offset;
                self.tell(Event::Passed { at, offset }).await?;
                self.world.count("markers passed");
            }
        }
        Ok(())
    }
}
