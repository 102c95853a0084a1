//! The thread that reads. It never waits for work or for a commit: the runner's events have bounded room, and what has no
//! room yet stays in librdkafka, each partition in a queue of its own, so that one that waits holds up no other.
//!
//! ```text
//! poll ─► Assign: note an epoch, ask for the committed offset ─► found ─► Event::Assigned, fetch from base
//!      └► Revoke: Event::Revoked, wait (bounded) for the release ─► unassign
//! queues of the partitions that are not paused ─► Event::Records, Event::Passed
//! ```
//!
//! librdkafka's own pause throws away what was fetched ahead, so it is not used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fail::fail_point;
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use super::client;
use super::context::{Context, Decision};
use super::group::{Group, Held};
use super::native;
use super::offsets::{self, Wanted};
use crate::record::{Headers, headers};
use crate::transport::{Assignment, Event, Incoming, Result, TopicPartition, TransportError};

/// Records and bytes of one partition handed over at a time.
const READ_RECORDS: usize = 512;
const READ_BYTES: usize = 512 << 10;
/// Questions after committed offsets, and their answers, under way.
const QUESTIONS: usize = 64;
/// Longest sleep; a safety net, and the pace of polling while nothing happens.
const IDLE: Duration = Duration::from_millis(100);
/// Shortest time between two words on the same trouble.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Longest wait for the runner to finish with what goes; the group waits for a member at most `max.poll.interval.ms`.
const RELEASE: Duration = Duration::from_secs(60);

/// A partition that is fetched.
struct Fetched {
    queue: PartitionQueue<Context>,
    /// There may be something in the queue.
    filled: Arc<AtomicBool>,
    epoch: i64,
    /// Offset to go on from.
    next: i64,
}

/// The thread's state.
pub struct Reader {
    group: Arc<Group>,
    events: mpsc::Sender<Result<Event>>,
    fetched: BTreeMap<TopicPartition, Fetched>,
    wanted: std_mpsc::SyncSender<Wanted>,
    found: std_mpsc::Receiver<Vec<Assignment>>,
    /// When it last said that reading fails.
    said: Option<Instant>,
}

impl Reader {
    /// Starts the thread, and the one that reads committed offsets.
    pub fn start(group: Arc<Group>, events: mpsc::Sender<Result<Event>>) -> Result<()> {
        // Whoever asks waits for no answer, and an answer finds room: there is one question for each assignment.
        let (wanted, asked) = std_mpsc::sync_channel(QUESTIONS);
        let (answers, found) = std_mpsc::sync_channel(QUESTIONS);
        let spawn = |name: &str, f: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(f)
                .map_err(|e| TransportError::Fatal(format!("cannot start a thread of the consumer: {e}")))
        };
        let asking = Arc::clone(&group);
        spawn("kafka-offsets", Box::new(move || offsets::answer(&asking, &asked, &answers)))?;
        let reader = Reader { group, events, fetched: BTreeMap::new(), wanted, found, said: None };
        spawn("kafka-read", Box::new(move || reader.run()))?;
        Ok(())
    }

    fn run(mut self) {
        while !self.group.over() && !self.events.is_closed() {
            fail_point!(&format!("kafka.read.{}", self.group.member));
            self.poll();
            for decision in self.group.consumer.context().take() {
                match decision {
                    Decision::Assign(partitions) => self.assign(partitions),
                    Decision::Revoke { partitions, lost } => self.revoke(partitions, lost),
                }
            }
            let given_up = self.group.rereading();
            if !given_up.is_empty() {
                self.reread(given_up);
            }
            if self.group.renew.swap(false, Ordering::AcqRel) {
                self.renew();
            }
            while let Ok(found) = self.found.try_recv() {
                self.begin(found);
            }
            if !self.read() {
                self.group.wake.wait(IDLE);
            }
        }
        self.close();
    }

    /// Serves the group's decisions and the client's errors.
    fn poll(&mut self) {
        let group = Arc::clone(&self.group);
        // Bounded: a client whose broker is away says so again and again.
        for _ in 0..64 {
            match group.consumer.poll(Duration::ZERO) {
                None => return,
                Some(Ok(m)) => {
                    let at = TopicPartition::new(m.topic(), m.partition());
                    warn!(partition = %at, offset = m.offset(), "a record outside of its partition's queue; reading it again");
                    drop(m);
                    self.astray(at);
                }
                Some(Err(e)) => self.failed(&e),
            }
        }
    }

    fn failed(&mut self, e: &KafkaError) {
        match e {
            KafkaError::MessageConsumptionFatal(Code::FencedInstanceId) => {
                self.group.fenced.store(true, Ordering::Release);
                self.group.broken.store(true, Ordering::Release);
            }
            KafkaError::MessageConsumptionFatal(_) => {
                error!(group = self.group.name, error = %e, "the consumer cannot go on; another one joins in its place");
                self.group.broken.store(true, Ordering::Release);
            }
            _ => match client::explain(e, &self.group.config) {
                fatal @ TransportError::Fatal(_) => self.send(Err(fatal)),
                // While a broker is away, the client says so many times a second.
                other if self.said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) => {
                    self.said = Some(Instant::now());
                    warn!(group = self.group.name, error = %other, "reading; trying on");
                }
                other => debug!(group = self.group.name, error = %other, "reading; trying on"),
            },
        }
    }

    /// Waits until the runner takes it.
    fn send(&self, event: Result<Event>) {
        // A closed channel ends the loop.
        let _closed = self.events.blocking_send(event);
    }

    // ---- partitions come

    fn assign(&mut self, partitions: Vec<TopicPartition>) {
        debug!(group = self.group.name, partitions = names(&partitions), "the group assigns");
        // Said at once, so that the group need not wait; they are fetched when it is known from where.
        self.native("assign", |g| match g.incremental() {
            true => g.consumer.incremental_assign(&TopicPartitionList::new()),
            false => g.consumer.assign(&TopicPartitionList::new()),
        });
        if !self.group.incremental() {
            // Whatever was fetched until now is over: the protocol revokes all before it assigns.
            self.fetched.clear();
            self.group.held().clear();
        }
        self.want(partitions);
    }

    /// Notes them under new epochs and asks where they stand.
    fn want(&mut self, partitions: Vec<TopicPartition>) {
        let mut wanted = vec![];
        {
            let epochs: Vec<i64> = partitions.iter().map(|_| self.group.next_epoch()).collect();
            let mut held = self.group.held();
            for (at, epoch) in partitions.into_iter().zip(epochs) {
                held.insert(at.clone(), Held { epoch, paused: false, told: false, going: false });
                wanted.push((at, epoch));
            }
        }
        if !wanted.is_empty() && self.wanted.send(wanted).is_err() {
            self.send(Err(TransportError::Fatal("the thread that reads committed offsets ended".into())));
        }
    }

    /// It is known from where: tell the runner, and fetch.
    fn begin(&mut self, mut found: Vec<Assignment>) {
        {
            let mut held = self.group.held();
            found.retain(|a| match held.get_mut(&a.at).filter(|h| h.epoch == a.epoch) {
                Some(h) => {
                    h.told = true;
                    true
                }
                None => false,
            });
        }
        if found.is_empty() {
            return;
        }
        for a in &found {
            let Some(mut queue) = self.group.consumer.split_partition_queue(&a.at.topic, a.at.partition) else {
                self.send(Err(TransportError::Fatal(format!("{} cannot be read", a.at))));
                return;
            };
            let (filled, wake) = (Arc::new(AtomicBool::new(true)), Arc::clone(&self.group.wake));
            let fill = Arc::clone(&filled);
            queue.set_nonempty_callback(move || {
                fill.store(true, Ordering::Release);
                wake.bump();
            });
            self.fetched.insert(a.at.clone(), Fetched { queue, filled, epoch: a.epoch, next: a.base });
        }
        let incremental = self.group.incremental();
        let mut list = TopicPartitionList::new();
        // A protocol that knows no increments takes the whole list anew.
        let all = self.fetched.iter().filter(|(at, _)| !incremental || found.iter().any(|a| a.at == **at));
        for (at, f) in all {
            if let Err(e) = list.add_partition_offset(&at.topic, at.partition, Offset::Offset(f.next)) {
                warn!(partition = %at, error = %e, "its offset is refused");
            }
        }
        // The runner first: it must know a partition before its records come.
        self.send(Ok(Event::Assigned(found)));
        self.native("assign", |g| match incremental {
            true => g.consumer.incremental_assign(&list),
            false => g.consumer.assign(&list),
        });
    }

    /// A record came past its queue: the client's position counts it and nobody has it, so the partition begins again from
    /// what is committed.
    fn astray(&mut self, at: TopicPartition) {
        let told = {
            let mut held = self.group.held();
            held.get(&at).is_some_and(|h| h.told) && held.remove(&at).is_some()
        };
        if told {
            self.reread(vec![at]);
        }
    }

    // ---- partitions go

    fn revoke(&mut self, partitions: Vec<TopicPartition>, lost: bool) {
        fail_point!("kafka.revoke");
        debug!(group = self.group.name, partitions = names(&partitions), lost, "the group revokes");
        let told: Vec<TopicPartition> = {
            let mut held = self.group.held();
            let told = partitions.iter().filter(|at| held.get(at).is_some_and(|h| h.told)).cloned().collect();
            // What is lost is held no more from this moment; of the rest, what the runner does not know of.
            partitions.iter().for_each(|at| match held.get_mut(at) {
                Some(h) if !lost && h.told => h.going = true,
                _ => {
                    held.remove(at);
                }
            });
            told
        };
        if !told.is_empty() {
            self.send(Ok(Event::Revoked { partitions: told.clone(), lost }));
            if !lost {
                self.released(&told);
            }
        }
        fail_point!("kafka.release.after");
        let mut list = TopicPartitionList::new();
        for at in &partitions {
            if self.fetched.remove(at).is_some() {
                list.add_partition(&at.topic, at.partition);
            }
        }
        self.native("unassign", |g| match g.incremental() {
            true => g.consumer.incremental_unassign(&list),
            false => g.consumer.unassign(),
        });
    }

    /// Until the runner is finished with them, or has had its time.
    fn released(&self, partitions: &[TopicPartition]) {
        let until = Instant::now() + RELEASE;
        loop {
            {
                let mut held = self.group.held();
                if self.events.is_closed() || !partitions.iter().any(|at| held.contains_key(at)) {
                    return;
                }
                if Instant::now() >= until {
                    warn!(group = self.group.name, "what was revoked is not released in time; it is given up");
                    held.retain(|at, _| !partitions.contains(at));
                    return;
                }
            }
            self.group.wake.wait(IDLE);
        }
    }

    /// Nobody knows how a commit ended: all is begun again from what is committed.
    fn reread(&mut self, given_up: Vec<TopicPartition>) {
        self.send(Ok(Event::Revoked { partitions: given_up.clone(), lost: true }));
        // What the group has taken meanwhile is not ours to begin again: its decision comes first in the loop.
        self.begin_again(given_up.into_iter().filter(|at| self.fetched.contains_key(at)).collect());
    }

    /// Topics have grown: what is held is finished and assigned anew, so that the runner knows the new number of
    /// partitions for each.
    fn renew(&mut self) {
        let told: Vec<_> = {
            let mut held = self.group.held();
            let told = held.iter_mut().filter(|(_, h)| h.told);
            told.map(|(at, h)| {
                h.going = true;
                at.clone()
            })
            .collect()
        };
        if !told.is_empty() {
            self.send(Ok(Event::Revoked { partitions: told.clone(), lost: false }));
            self.released(&told);
        }
        self.begin_again(told);
    }

    /// Fetches these no more until it is known again from where.
    fn begin_again(&mut self, told: Vec<TopicPartition>) {
        if told.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for at in &told {
            if self.fetched.remove(at).is_some() {
                list.add_partition(&at.topic, at.partition);
            }
        }
        self.native("unassign", |g| match g.incremental() {
            true => g.consumer.incremental_unassign(&list),
            false => g.consumer.assign(&TopicPartitionList::new()),
        });
        self.want(told);
    }

    fn native(&self, what: &str, call: impl FnOnce(&Group) -> KafkaResult<()>) {
        if let Err(e) = call(&self.group) {
            warn!(group = self.group.name, error = %e, "{what}");
        }
    }

    // ---- records

    /// Hands over what there is of each partition that is not paused. True when there was anything.
    fn read(&mut self) -> bool {
        let group = Arc::clone(&self.group);
        let ready: Vec<TopicPartition> = {
            let held = group.held();
            let reads = |at: &TopicPartition, f: &Fetched| {
                f.filled.load(Ordering::Acquire) && held.get(at).is_some_and(|h| h.epoch == f.epoch && !h.paused)
            };
            self.fetched.iter().filter(|(at, f)| reads(at, f)).map(|(at, _)| at.clone()).collect()
        };
        let mut any = false;
        for at in ready {
            // Room first: what is taken out of the queue must not wait here.
            let Ok(room) = self.events.try_reserve() else { return any };
            let Some(f) = self.fetched.get_mut(&at) else { continue };
            let records = drain(&at, f);
            let (empty, taken) = (!f.filled.load(Ordering::Acquire), !records.is_empty());
            any |= taken;
            let room = match taken {
                true => {
                    room.send(Ok(Event::Records(records)));
                    self.events.try_reserve().ok()
                }
                false => Some(room),
            };
            let position =
                if empty { native::position(group.consumer.client(), &at.topic, at.partition) } else { None };
            match (position.filter(|p| *p > f.next), room) {
                (Some(offset), Some(room)) => {
                    f.next = offset;
                    room.send(Ok(Event::Passed { at, offset }));
                }
                // To be told when there is room.
                (Some(_), None) => f.filled.store(true, Ordering::Release),
                (None, _) => {}
            }
        }
        any
    }

    fn close(self) {
        if self.group.broken.load(Ordering::Acquire) {
            let mut lost = self.group.give_up();
            lost.extend(self.group.rereading());
            if !lost.is_empty() {
                self.send(Ok(Event::Revoked { partitions: lost, lost: true }));
            }
        }
        self.group.consumer.context().closing.store(true, Ordering::Release);
        drop(self.fetched);
        self.group.held().clear();
        // The last handle closes the client, which leaves the group (a static member's place is kept for it).
        drop(self.wanted);
    }
}

/// Partitions as a log has them.
fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn drain(at: &TopicPartition, f: &mut Fetched) -> Vec<Incoming> {
    // Before looking: what comes in meanwhile sets it again.
    f.filled.store(false, Ordering::Release);
    let (mut records, mut bytes) = (vec![], 0);
    loop {
        match f.queue.poll(Duration::ZERO) {
            None => break,
            Some(Ok(m)) => {
                let record = incoming(at, &m);
                f.next = record.offset + 1;
                bytes += record.size();
                records.push(record);
            }
            Some(Err(e)) => debug!(partition = %at, error = %e, "reading"),
        }
        if records.len() >= READ_RECORDS || bytes >= READ_BYTES {
            f.filled.store(true, Ordering::Release);
            break;
        }
    }
    records
}

/// Room for a header's value; for more it is made.
const HEADER: usize = 32;

/// A record as the client has it, copied out of its buffers into one of its own.
pub fn incoming(at: &TopicPartition, m: &BorrowedMessage<'_>) -> Incoming {
    let (key, payload, list) = (m.key(), m.payload(), m.headers());
    let value = payload.unwrap_or_default();
    // Their bytes are not counted first: each look at a header costs as much as its copy.
    let of_headers = list.map_or(0, |h| h.count() * HEADER);
    let mut copy = BytesMut::with_capacity(key.map_or(0, <[u8]>::len) + value.len() + of_headers);
    let mut take = |part: &[u8]| {
        copy.extend_from_slice(part);
        copy.split().freeze()
    };
    let (key, value) = (key.map(&mut take), take(value));
    let mut copied = Vec::with_capacity(list.map_or(0, |h| h.count()));
    for h in list.iter().flat_map(|h| h.iter()) {
        let value = h.value.map_or(Bytes::new(), &mut take);
        copied.push((headers::name(h.key), value));
    }
    Incoming {
        tombstone: payload.is_none(),
        at: at.clone(),
        offset: m.offset(),
        timestamp: m.timestamp().to_millis().unwrap_or(0),
        key,
        value,
        headers: Headers(copied),
    }
}
