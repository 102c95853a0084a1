//! Reads where a group stands when partitions come: committed base and map, once they are stable.
//!
//! Offsets that a transaction holds are not answered (KIP-447, `require_stable`) until it ends: at once when its producer
//! is back and initialised, else when its time-out is over. Partitions whose offsets are stable do not wait for those whose
//! are not. An assignment says how many partitions its topic has, so that is looked at from time to time as well.
//! Offsets that stay unstable longer than any transaction may last hang: see docs/exactly-once.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use fail::fail_point;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::group::Group;
use crate::telemetry;
use crate::transport::{Assignment, TopicPartition};

/// Longest wait for the answer for many partitions, and for a single one.
const ALL: Duration = Duration::from_secs(2);
const ONE: Duration = Duration::from_millis(500);
/// Wait before unstable offsets are asked for again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often it is looked whether topics have grown.
const COUNT: Duration = Duration::from_secs(5);
/// Longer than a transaction's time-out by this much, and nobody will end it.
const MARGIN: Duration = Duration::from_secs(15);
/// How often a hanging transaction is spoken of.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Where the broker keeps the offsets of groups.
const OFFSETS: &str = "__consumer_offsets";

/// Partitions whose committed offset is wanted, under these epochs.
pub type Wanted = Vec<(TopicPartition, i64)>;

/// Answers what is wanted until nobody asks any more.
pub fn answer(group: &Arc<Group>, wanted: &Receiver<Wanted>, found: &SyncSender<Vec<Assignment>>) {
    let mut open: Wanted = vec![];
    let mut since = Instant::now();
    let mut said: Option<Instant> = None;
    let mut counts = BTreeMap::new();
    loop {
        match wanted.recv_timeout(if open.is_empty() { COUNT } else { AGAIN }) {
            Ok(more) => {
                if open.is_empty() {
                    (since, said) = (Instant::now(), None);
                }
                open.extend(more);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if group.over() {
            return;
        }
        if open.is_empty() {
            let now = counts.keys().map_while(|t| Some((Arc::clone(t), count(group, t).ok()?))).collect();
            grown(group, &mut counts, now);
            continue;
        }
        // What was taken away in the meantime is nobody's question any more.
        {
            let held = group.held();
            open.retain(|(at, epoch)| held.get(at).is_some_and(|h| h.epoch == *epoch));
        }
        let (answers, rest) = ask(group, open);
        open = rest;
        if !answers.is_empty() {
            since = Instant::now();
            let now = answers.iter().map(|a| (Arc::clone(&a.at.topic), a.partitions)).collect();
            if found.send(answers).is_err() {
                return;
            }
            group.wake.bump();
            grown(group, &mut counts, now);
        }
        let hangs = !open.is_empty() && since.elapsed() > group.config.transaction_timeout + MARGIN;
        telemetry::unstable_partitions(&group.name, if hangs { open.len() } else { 0 });
        if hangs && said.is_none_or(|s| s.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            hanging(group, &open, since.elapsed());
        }
    }
}

/// Takes note of partition counts; when one is not what assignments were told, they are all renewed.
fn grown(group: &Group, counts: &mut BTreeMap<Arc<str>, u32>, now: BTreeMap<Arc<str>, u32>) {
    let mut changed = false;
    for (topic, n) in now.into_iter().filter(|(_, n)| *n > 0) {
        changed |= counts.insert(topic, n).is_some_and(|before| before != n);
    }
    if changed {
        tracing::info!(group = group.name, "topics have grown; their partitions are assigned anew");
        group.renew.store(true, Ordering::Release);
        group.wake.bump();
    }
}

/// How many partitions a topic has; 0 when there is no such topic.
fn count(group: &Group, topic: &str) -> Result<u32, KafkaError> {
    let metadata = group.consumer.fetch_metadata(Some(topic), ALL)?;
    let count = metadata.topics().iter().find(|t| t.name() == topic).map_or(0, |t| t.partitions().len());
    Ok(u32::try_from(count).unwrap_or(0))
}

/// The answers there are, and the questions that have none yet.
fn ask(group: &Group, open: Wanted) -> (Vec<Assignment>, Wanted) {
    match committed(group, &open, ALL) {
        Ok(answers) => (answers, vec![]),
        Err(_) if open.len() == 1 => (vec![], open),
        // One that is not stable spoils the answer for all: each for itself.
        Err(_) => {
            let (mut answers, mut rest) = (vec![], vec![]);
            for one in open {
                match committed(group, std::slice::from_ref(&one), ONE) {
                    Ok(found) => answers.extend(found),
                    Err(_) => rest.push(one),
                }
                if group.over() {
                    break;
                }
            }
            (answers, rest)
        }
    }
}

fn committed(group: &Group, wanted: &[(TopicPartition, i64)], within: Duration) -> Result<Vec<Assignment>, KafkaError> {
    if wanted.is_empty() {
        return Ok(vec![]);
    }
    let consumer = &group.consumer;
    let list = |wanted: &[(TopicPartition, i64)]| {
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        for (at, _) in wanted {
            list.add_partition(&at.topic, at.partition);
        }
        list
    };
    let committed = consumer.committed_offsets(list(wanted), within)?;
    let mut answers = vec![];
    let mut fresh = vec![];
    for e in committed.elements() {
        e.error()?;
        let Some((at, epoch)) = wanted.iter().find(|(at, _)| *at.topic == *e.topic() && at.partition == e.partition())
        else {
            continue;
        };
        let found = Assignment { at: at.clone(), epoch: *epoch, partitions: 0, base: 0, map: String::new() };
        match e.offset() {
            Offset::Offset(base) => answers.push(Assignment { base, map: map(&e), ..found }),
            _ => fresh.push(found),
        }
    }
    if !fresh.is_empty() {
        // Nothing committed yet: from the start of what the log still has.
        let at: Vec<_> = fresh.iter().map(|a| (a.at.clone(), a.epoch)).collect();
        let mut starts = list(&at);
        starts.set_all_offsets(Offset::Beginning)?;
        for e in consumer.offsets_for_times(starts, ALL)?.elements() {
            e.error()?;
            let same = |a: &&mut Assignment| *a.at.topic == *e.topic() && a.at.partition == e.partition();
            if let (Some(a), Offset::Offset(start)) = (fresh.iter_mut().find(same), e.offset()) {
                a.base = start;
            }
        }
        answers.extend(fresh);
    }
    for topic in answers.iter().map(|a| Arc::clone(&a.at.topic)).collect::<BTreeSet<_>>() {
        let count = count(group, &topic)?;
        answers.iter_mut().filter(|a| a.at.topic == topic).for_each(|a| a.partitions = count);
    }
    Ok(answers)
}

/// The map of what is done beyond base. The failpoint takes it away, so that a test can show what it is for.
fn map(e: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> String {
    fail_point!("kafka.map", |_| String::new());
    metadata(e)
}

/// The map; a foreign client's metadata may be any bytes, which the binding refuses with a panic.
pub fn metadata(e: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> String {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| e.metadata().to_owned()))
        .unwrap_or_else(|_| "\u{fffd}".to_owned())
}

/// The partition of `__consumer_offsets` that a group's offsets are in: `Utils.abs(groupId.hashCode()) % N` (the
/// broker's `GroupCoordinatorService.partitionFor`).
fn offsets_partition(group: &str, count: u32) -> u32 {
    let hash = group.encode_utf16().fold(0_i32, |h, c| h.wrapping_mul(31).wrapping_add(i32::from(c)));
    hash.checked_abs().unwrap_or(0).unsigned_abs() % count
}

fn hanging(group: &Group, open: &Wanted, since: Duration) {
    let partitions: Vec<String> = open.iter().map(|(at, _)| at.to_string()).collect();
    let ours: Vec<String> = (0..super::committer::PRODUCERS).map(|n| group.transactional_id(n)).collect();
    let n = match count(group, OFFSETS) {
        Ok(count @ 1..) => offsets_partition(&group.name, count).to_string(),
        _ => "N".to_owned(),
    };
    tracing::error!(
        group = group.name,
        partitions = partitions.join(" "),
        transactional_ids = ours.join(" "),
        waited_s = since.as_secs(),
        "offsets of these partitions stay unstable longer than any transaction may last: a transaction hangs, most likely \
         since a broker died while it ended it. Nothing is lost, and these partitions stand still until it is repaired: \
         `kafka-transactions.sh --bootstrap-server {} describe-producers --topic {OFFSETS} --partition {n}` shows it, \
         `… abort --topic {OFFSETS} --partition {n} --start-offset O` ends it, and the same for each partition it wrote to; see \
         docs/exactly-once.md, \"A transaction hangs\"",
        group.config.brokers
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kafka's own classes answer for these names.
    #[test]
    fn a_group_with_a_negative_hash_is_where_the_broker_has_it() {
        assert_eq!(offsets_partition("crash-01a220d2badf728ba802b3a021e36f99.ab", 8), 1);
        assert_eq!(offsets_partition("g", 50), 3);
        assert_eq!(offsets_partition("polygenelubricants", 50), 0);
    }

    /// Kafka's brokers take metadata for text; others give back what bytes they were given.
    #[test]
    #[allow(unsafe_code)]
    fn metadata_that_is_no_text_does_not_end_the_thread() {
        let mut list = TopicPartitionList::new();
        list.add_partition("t", 0).set_metadata("text");
        assert_eq!(metadata(&list.elements()[0]), "text");
        // SAFETY: the list has one element, whose metadata are four bytes of its own.
        unsafe { (*(*list.ptr()).elems).metadata.cast::<u8>().write(0xff) };
        assert_eq!(metadata(&list.elements()[0]), "\u{fffd}");
    }
}
