//! The group coordinator: members, generations, range assignment of all topics together, and committed offsets, which
//! are unstable while a transaction holds new ones.
//!
//! What it checks of a transaction's offsets is what real brokers check: the member and its generation, *not* whether
//! the member owns the partition; and in the classic protocol generation -1 comes from anyone.

use std::collections::{BTreeMap, BTreeSet};

use tidemill::engine::offset_map;
use tidemill::transport::{Progress, TopicPartition};

use super::broker::{Broker, Refused, Target};

/// `session.timeout.ms`.
pub const SESSION: i64 = 3_000;
/// How long a member may take to give partitions back (`max.poll.interval.ms`).
pub const REBALANCE: i64 = 12_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// All members give back everything, then the next generation begins.
    Classic,
    /// KIP-848: only what moves is given back; a member that has done so goes on to the group's epoch.
    Consumer,
}

/// An offset in `__consumer_offsets`.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place there: the newest counts.
    place: u64,
    pub base: i64,
    pub map: String,
}

#[derive(Debug)]
pub struct Seat {
    pub instance: Option<String>,
    /// The generation it was told; -1 while it waits for the next.
    generation: i32,
    last_heard: i64,
    /// Number of its last heartbeat: an older one says nothing (the protocol has the epoch and the connection for this).
    beats: u64,
    /// Partition numbers it may hold, with the generation in which each came.
    assigned: BTreeMap<i32, i32>,
    /// Asked to give partitions back since then.
    asked: Option<i64>,
}

#[derive(Debug)]
pub struct Group {
    pub protocol: Protocol,
    partitions: i32,
    /// Generation (classic), group epoch (KIP-848).
    epoch: i32,
    members: BTreeMap<String, Seat>,
    /// Classic: members give back, and the next generation has not begun.
    preparing: bool,
    names: u64,
    pub stored: BTreeMap<TopicPartition, Stored>,
    /// Of open transactions, by producer.
    pub pending: BTreeMap<i64, BTreeMap<TopicPartition, Stored>>,
    epochs: BTreeMap<i64, i16>,
    pub rebalances: u64,
}

/// What a heartbeat is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// -1 while the group is between two generations.
    pub generation: i32,
    pub assigned: BTreeSet<i32>,
}

impl Group {
    pub fn new(protocol: Protocol, partitions: u32) -> Group {
        Group {
            protocol,
            partitions: partitions as i32,
            epoch: 0,
            members: BTreeMap::new(),
            preparing: false,
            names: 0,
            stored: BTreeMap::new(),
            pending: BTreeMap::new(),
            epochs: BTreeMap::new(),
            rebalances: 0,
        }
    }

    /// Members changed.
    fn rebalance(&mut self) {
        self.rebalances += 1;
        match self.protocol {
            Protocol::Classic => self.preparing = true,
            Protocol::Consumer => self.epoch += 1,
        }
    }

    /// Range: contiguous partition numbers, of all topics together, by the order of names.
    fn target(&self, member: &str) -> BTreeSet<i32> {
        let mut names: Vec<(&str, &str)> =
            self.members.iter().map(|(id, s)| (s.instance.as_deref().unwrap_or(id), id.as_str())).collect();
        names.sort_unstable();
        let Some(i) = names.iter().position(|(_, id)| *id == member) else { return BTreeSet::new() };
        let (i, n) = (i as i32, names.len() as i32);
        (i * self.partitions / n..(i + 1) * self.partitions / n).collect()
    }

    fn remove(&mut self, member: &str) {
        if self.members.remove(member).is_some() {
            self.rebalance();
        }
    }

    /// Members that were not heard of, or do not give back, are put out.
    fn expire(&mut self, now: i64) {
        let gone = |s: &Seat| now - s.last_heard > SESSION || s.asked.is_some_and(|a| now - a > REBALANCE);
        let gone: Vec<String> = self.members.iter().filter(|(_, s)| gone(s)).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove(id));
    }

    /// Joins; static members (KIP-345) by their instance's name.
    pub fn join(&mut self, now: i64, instance: Option<&str>) -> Result<String, Refused> {
        self.expire(now);
        let twin = |s: &Seat| instance.is_some() && s.instance.as_deref() == instance;
        if let Some(old) = self.members.iter().find(|(_, s)| twin(s)).map(|(id, _)| id.clone()) {
            if self.protocol == Protocol::Consumer {
                return Err(Refused::Unreleased);
            }
            self.remove(&old);
        }
        self.names += 1;
        let id = format!("m{}", self.names);
        let seat = Seat {
            instance: instance.map(str::to_owned),
            generation: -1,
            last_heard: now,
            beats: 0,
            assigned: BTreeMap::new(),
            asked: None,
        };
        self.members.insert(id.clone(), seat);
        self.rebalance();
        Ok(id)
    }

    pub fn leave(&mut self, member: &str) {
        self.remove(member);
    }

    /// Heartbeat, with its number and the partition numbers the member holds.
    pub fn beat(
        &mut self,
        now: i64,
        member: &str,
        instance: Option<&str>,
        (number, held): (u64, &BTreeSet<i32>),
    ) -> Result<Beat, Refused> {
        self.expire(now);
        let Some(seat) = self.members.get_mut(member) else {
            let twin = instance.is_some() && self.members.values().any(|s| s.instance.as_deref() == instance);
            return Err(if twin { Refused::Instance } else { Refused::Member });
        };
        if number <= seat.beats {
            return Err(Refused::Generation);
        }
        (seat.last_heard, seat.beats) = (now, number);
        match self.protocol {
            Protocol::Classic => self.classic_beat(now, member, held),
            Protocol::Consumer => self.consumer_beat(now, member, held),
        }
        let seat = &self.members[member];
        let asked = seat.asked.is_some();
        let assigned = if !asked {
            seat.assigned.keys().copied().collect()
        } else if self.protocol == Protocol::Classic {
            BTreeSet::new()
        } else {
            let target = self.target(member);
            seat.assigned.keys().copied().filter(|n| target.contains(n)).collect()
        };
        Ok(Beat { generation: seat.generation, assigned })
    }

    fn classic_beat(&mut self, now: i64, member: &str, held: &BTreeSet<i32>) {
        if !self.preparing {
            return;
        }
        if let Some(seat) = self.members.get_mut(member) {
            if held.is_empty() {
                // It has joined the next generation, and is in none until that begins.
                seat.assigned.clear();
                seat.asked = None;
                seat.generation = -1;
            } else {
                seat.asked.get_or_insert(now);
            }
        }
        if self.members.values().all(|s| s.generation == -1) {
            self.preparing = false;
            self.epoch += 1;
            let epoch = self.epoch;
            let targets: Vec<(String, BTreeSet<i32>)> =
                self.members.keys().map(|id| (id.clone(), self.target(id))).collect();
            for (id, target) in targets {
                if let Some(seat) = self.members.get_mut(&id) {
                    seat.generation = epoch;
                    seat.assigned = target.into_iter().map(|n| (n, epoch)).collect();
                }
            }
        }
    }

    fn consumer_beat(&mut self, now: i64, member: &str, held: &BTreeSet<i32>) {
        let (target, epoch) = (self.target(member), self.epoch);
        let taken: BTreeSet<i32> =
            self.members.iter().filter(|(id, _)| *id != member).flat_map(|(_, s)| s.assigned.keys().copied()).collect();
        let Some(seat) = self.members.get_mut(member) else { return };
        if seat.generation < epoch {
            if held.iter().any(|n| !target.contains(n)) {
                seat.asked.get_or_insert(now);
                return;
            }
            seat.asked = None;
            seat.generation = epoch;
            seat.assigned.retain(|n, _| target.contains(n));
        }
        for n in target.difference(&taken) {
            seat.assigned.entry(*n).or_insert(epoch);
        }
    }

    /// Partition numbers that two members may hold at once.
    pub fn doubly_assigned(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.members.values().flat_map(|s| s.assigned.keys()).any(|n| !seen.insert(*n))
    }

    fn check(&self, member: &str, generation: i32, offsets: &[Progress]) -> Result<(), Refused> {
        if self.protocol == Protocol::Classic && generation < 0 {
            return Ok(());
        }
        let seat = self.members.get(member).ok_or(Refused::Member)?;
        match self.protocol {
            Protocol::Classic if generation == self.epoch => Ok(()),
            Protocol::Consumer if generation == seat.generation => Ok(()),
            // An older epoch is good for what was kept since.
            Protocol::Consumer
                if generation < seat.generation
                    && offsets.iter().all(|p| seat.assigned.get(&p.at.partition).is_some_and(|e| *e <= generation)) =>
            {
                Ok(())
            }
            _ => Err(Refused::Generation),
        }
    }

    /// OffsetFetch with `require_stable`.
    pub fn fetch(&self, at: &[TopicPartition]) -> Result<Vec<Option<Stored>>, Refused> {
        if self.pending.values().any(|p| at.iter().any(|at| p.contains_key(at))) {
            return Err(Refused::Unstable);
        }
        Ok(at.iter().map(|at| self.stored.get(at).cloned()).collect())
    }
}

/// Who sends offsets: member id and generation.
pub type Generation = (String, i32);

impl Broker {
    pub fn group(&mut self, name: &str) -> &mut Group {
        self.groups.get_mut(name).unwrap_or_else(|| panic!("no group {name}"))
    }

    /// TxnOffsetCommit.
    pub fn txn_offsets(
        &mut self,
        (id, pid, epoch): (&str, i64, i16),
        name: &str,
        (member, generation): &Generation,
        offsets: &[Progress],
    ) -> Result<(), Refused> {
        if self.group(name).epochs.get(&pid).is_some_and(|e| *e > epoch) {
            return Err(Refused::Fenced);
        }
        self.verify(id, pid, epoch, &Target::Offsets(name.to_owned()))?;
        let now = self.now;
        self.group(name).expire(now);
        if let Err(refused) = self.group(name).check(member, *generation, offsets) {
            self.count("zombie commits refused");
            return Err(refused);
        }
        for p in offsets {
            self.offsets_end += 1;
            let stored = Stored { place: self.offsets_end, base: p.base, map: p.map.clone() };
            self.group(name).pending.entry(pid).or_default().insert(p.at.clone(), stored);
        }
        Ok(())
    }

    /// A transaction's marker in `__consumer_offsets`.
    pub fn mark_offsets(&mut self, name: &str, pid: i64, epoch: i16, commit: bool) {
        let group = self.group(name);
        let newest = group.epochs.entry(pid).or_insert(epoch);
        *newest = epoch.max(*newest);
        let held = group.pending.remove(&pid).unwrap_or_default();
        let mut wrong = vec![];
        for (at, new) in held.into_iter().filter(|_| commit) {
            if let Some(old) = group.stored.get(&at) {
                if old.place > new.place {
                    continue;
                }
                if let Some(what) = shrunk(old, &new) {
                    wrong.push(format!("{at}: {what}"));
                }
            }
            group.stored.insert(at, new);
        }
        self.wrong.extend(wrong);
    }
}

/// What was done stays done: None, or what a newer commit takes back.
fn shrunk(old: &Stored, new: &Stored) -> Option<String> {
    if new.base < old.base {
        return Some(format!("base went back from {} to {}", old.base, new.base));
    }
    let (Some(was), Some(is)) = (offset_map::decode(old.base, &old.map), offset_map::decode(new.base, &new.map)) else {
        return Some(format!("a map cannot be read: {:?} or {:?}", old.map, new.map));
    };
    let lost =
        (new.base..=was.high).find(|o| !was.incomplete.contains(o) && (*o > is.high || is.incomplete.contains(o)));
    lost.map(|o| format!("offset {o} was done and is not any more"))
}
