//! What every transport must do. Each test runs on every implementation, on fresh state; a second handle stands for a
//! second process.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::kafka::KafkaLog;
use common::{
    Log, Reader, SqliteLog, both, eventually, placed, progress_becomes, read_all, read_until, record, text, topic,
};
use tidemill::config::GroupProtocol;
use tidemill::record::Headers;
use tidemill::topology::{CLEANUP_POLICY, MAX_MESSAGE_BYTES, RETENTION_MS};
use tidemill::transport::partitioner::partition;
use tidemill::transport::{Batch, Committed, Outgoing, Progress, See, TopicPartition, Transport, TransportError};

macro_rules! on {
    ($module:ident, $log:expr, $($test:ident,)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(&$log).await;
                }
            )*
        }
    };
}

macro_rules! contract {
    (always { $($always:ident,)* } with transactions { $($transactional:ident,)* }) => {
        on!(sqlite, super::SqliteLog::new(), $($always,)* $($transactional,)*);
        on!(kafka, super::KafkaLog::new(super::GroupProtocol::Auto), $($always,)* $($transactional,)*);
        on!(kafka_classic, super::KafkaLog::new(super::GroupProtocol::Classic), $($always,)* $($transactional,)*);
        on!(kafka_at_least_once, super::KafkaLog::at_least_once(), $($always,)*);
    };
}

contract! {
    always {
    records_of_a_partition_keep_their_order,
    keys_go_where_the_java_client_sends_them,
    every_byte_of_a_record_comes_back,
    an_append_is_all_or_nothing,
    offsets_and_progress_survive_a_restart,
    two_members_share_fairly_and_miss_nothing,
    all_topics_of_a_group_are_assigned_together,
    a_leaving_members_partitions_move_at_once,
    what_is_finished_may_be_committed_until_the_release,
    a_member_that_lost_its_lease_is_fenced,
    a_member_that_lost_its_lease_gets_a_new_one,
    a_paused_partition_is_silent_until_resumed,
    reads_bounds_and_tails_need_no_group,
    a_time_has_an_offset,
    what_is_old_can_be_deleted,
    null_is_not_empty,
    unknown_topics_are_named,
    a_record_is_delivered_without_waiting_for_a_poll,
    unequal_partition_counts_are_refused,
    topics_are_described_as_they_are,
    what_is_set_leaves_the_rest_as_it_is,
    grown_topics_are_shared_anew_and_nothing_is_missed,
    a_producer_notices_that_a_topic_has_grown,
    topics_never_shrink,
    }
    with transactions {
        a_commit_is_outputs_and_progress_together,
    }
}

async fn with_topics(log: &dyn Log, topics: &[(&str, u32)]) -> Arc<dyn Transport> {
    let t = log.open().await;
    let topics: Vec<_> = topics.iter().map(|(name, n)| topic(name, *n)).collect();
    t.create_topics(&topics).await.unwrap();
    // Again: what exists stays as it is.
    t.create_topics(&topics).await.unwrap();
    t
}

async fn records_of_a_partition_keep_their_order(log: &dyn Log) {
    let t = with_topics(log, &[("in", 3)]).await;
    let other = log.open().await;
    for chunk in 0..20 {
        let writer = if chunk % 2 == 0 { &t } else { &other };
        let batch = (0..50).map(|i| placed("in", i % 3, (chunk * 50 + i).to_string())).collect();
        writer.append(batch).await.unwrap();
    }
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("all records", |r| r.records.len() >= 1000).await;
    let mut next = BTreeMap::new();
    let mut last = BTreeMap::new();
    for rec in &r.records {
        // Offsets grow; a log may need some for itself (a transaction's marker takes one).
        assert!(rec.offset >= *next.get(&rec.at.partition).unwrap_or(&0), "{}", rec.at);
        next.insert(rec.at.partition, rec.offset + 1);
        let n: i64 = text(rec).parse().unwrap();
        assert!(last.insert(rec.at.partition, n).is_none_or(|l| l < n), "{n} out of order");
    }
    assert_eq!(r.records.len(), 1000);
}

async fn keys_go_where_the_java_client_sends_them(log: &dyn Log) {
    let t = with_topics(log, &[("in", 12)]).await;
    let keys: Vec<String> = (0..200).map(|i| format!("host-{i}.example")).collect();
    t.append(keys.iter().map(|k| record("in", k, k.clone())).collect()).await.unwrap();
    // A key's own partition does not bind a record that names one.
    t.append(vec![placed("in", 7, "placed")]).await.unwrap();
    let read = read_until(&*t, "in", 201).await;
    assert_eq!(read.len(), 201);
    for r in &read {
        match &r.key {
            Some(key) => assert_eq!(r.at.partition, partition(key, 12)),
            None => assert_eq!((r.at.partition, text(r)), (7, "placed".into())),
        }
    }
}

async fn every_byte_of_a_record_comes_back(log: &dyn Log) {
    let t = with_topics(log, &[("in", 1)]).await;
    let noise: Bytes = (0u32..1 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let headers = Headers(vec![
        ("plain".into(), "text \"quoted\" \\ \u{1} é".into()),
        ("bytes".into(), Bytes::from_static(b"\xff\x00\xc3\x28")),
        ("twice".into(), "1".into()),
        ("twice".into(), "2".into()),
        ("empty".into(), Bytes::new()),
        ("näme \"x\"".into(), "v".into()),
    ]);
    let mut sent = vec![];
    for key in [None, Some(Bytes::new()), Some(Bytes::from_static(b"\xff\xfe"))] {
        for value in [Bytes::new(), Bytes::from_static(b"\x00\xff"), noise.clone(), Bytes::from(vec![b'a'; 1 << 20])] {
            let mut out = placed("in", 0, value);
            out.key = key.clone();
            out.headers = headers.clone();
            sent.push(out);
        }
    }
    t.append(sent.clone()).await.unwrap();
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("all records", |r| r.records.len() == sent.len()).await;
    for read in [r.records, read_until(&*t, "in", sent.len()).await] {
        assert_eq!(read.len(), sent.len());
        for (read, sent) in read.iter().zip(&sent) {
            assert_eq!(read.key, sent.key);
            assert_eq!(read.headers, sent.headers);
            assert!(read.value == sent.value, "a value of {} bytes came back changed", sent.value.len());
        }
    }
}

async fn an_append_is_all_or_nothing(log: &dyn Log) {
    let t = with_topics(log, &[("in", 2)]).await;
    let e = t.append(vec![record("in", "a", "1"), record("nowhere", "a", "2")]).await.unwrap_err();
    assert!(matches!(&e, TransportError::NoTopic(t) if t == "nowhere"), "{e}");
    let e = t.append(vec![record("in", "a", "1"), placed("in", 9, "x")]).await.unwrap_err();
    assert!(e.to_string().contains("in has no partition 9"), "{e}");
    assert_eq!(read_all(&*t, "in").await, vec![]);
    t.append(vec![record("in", "a", "3")]).await.unwrap();
    let read = read_until(&*t, "in", 1).await;
    assert_eq!(read.iter().map(text).collect::<Vec<_>>(), ["3"]);
}

async fn a_commit_is_outputs_and_progress_together(log: &dyn Log) {
    let t = with_topics(log, &[("in", 1), ("out", 1)]).await;
    t.append((0..4).map(|i| placed("in", 0, i.to_string())).collect()).await.unwrap();
    let at = TopicPartition::new("in", 0);
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("records", |r| r.records.len() == 4).await;

    // A topic that does not exist: neither outputs nor progress.
    let bad = r.batch(&at, 1, "m0", vec![placed("out", 0, "x"), placed("nowhere", 0, "y")]);
    assert!(matches!(r.member.commit(bad).await, Committed::Aborted(_)));
    assert_eq!(read_all(&*t, "out").await, vec![]);
    assert_eq!(t.progress("g", "in").await.unwrap(), vec![]);

    let good = r.batch(&at, 2, "m1", vec![placed("out", 0, "x")]);
    assert_eq!(r.member.commit(good).await, Committed::Done);
    assert_eq!(read_until(&*t, "out", 1).await.iter().map(text).collect::<Vec<_>>(), ["x"]);
    progress_becomes(&*t, "g", "in", (0, 2, "m1")).await;
    assert_eq!(t.progress("another", "in").await.unwrap(), vec![]);
    r.member.leave().await;

    // The next owner goes on from there.
    let mut next = Reader::join(&*log.open().await, "g", &["in"]).await;
    next.until("records", |r| r.records.len() == 2).await;
    assert_eq!((next.owned[&at].base, &*next.owned[&at].map), (2, "m1"));
    assert_eq!(next.values(), ["2", "3"]);
}

async fn offsets_and_progress_survive_a_restart(log: &dyn Log) {
    let at = TopicPartition::new("in", 0);
    {
        let t = with_topics(log, &[("in", 1)]).await;
        t.append((0..3).map(|i| placed("in", 0, i.to_string())).collect()).await.unwrap();
        let mut r = Reader::join(&*t, "g", &["in"]).await;
        r.until("records", |r| r.records.len() == 3).await;
        let batch = r.batch(&at, 1, "opaque \u{1f30a}", vec![]);
        assert_eq!(r.member.commit(batch).await, Committed::Done);
        // No leave: the process ends here.
    }
    let t = log.open().await;
    t.append(vec![placed("in", 0, "3")]).await.unwrap();
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("records", |r| r.records.len() == 3).await;
    assert_eq!((r.owned[&at].base, &*r.owned[&at].map), (1, "opaque \u{1f30a}"));
    assert_eq!(r.values(), ["1", "2", "3"]);
}

async fn two_members_share_fairly_and_miss_nothing(log: &dyn Log) {
    let t = with_topics(log, &[("in", 5)]).await;
    let mut a = Reader::join(&*t, "g", &["in"]).await;
    a.until("all partitions", |a| a.numbers().len() == 5).await;
    let mut b = Reader::join(&*log.open().await, "g", &["in"]).await;
    both(&mut a, &mut b, "a fair share", |a, b| {
        a.numbers().len() + b.numbers().len() == 5 && a.numbers().len().abs_diff(b.numbers().len()) == 1
    })
    .await;
    assert!(a.numbers().is_disjoint(&b.numbers()));
    t.append((0..50).map(|i| placed("in", i % 5, i.to_string())).collect()).await.unwrap();
    both(&mut a, &mut b, "all records", |a, b| a.records.len() + b.records.len() >= 50).await;
    let mut all: Vec<i32> = a.values().iter().chain(&b.values()).map(|v| v.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..50).collect::<Vec<_>>());
    // Another group reads for itself.
    let mut other = Reader::join(&*t, "h", &["in"]).await;
    other.until("all records", |o| o.records.len() == 50).await;
}

async fn all_topics_of_a_group_are_assigned_together(log: &dyn Log) {
    let t = with_topics(log, &[("in", 4), ("in.retry.1", 4), ("in.retry.2", 4)]).await;
    let topics = ["in", "in.retry.1", "in.retry.2"];
    let mut a = Reader::join(&*t, "g", &topics).await;
    let mut b = Reader::join(&*log.open().await, "g", &topics).await;
    both(&mut a, &mut b, "a fair share", |a, b| a.numbers().len() == 2 && b.numbers().len() == 2).await;
    for r in [&a, &b] {
        let expected: BTreeSet<_> =
            r.numbers().iter().flat_map(|p| topics.map(|t| TopicPartition::new(t, *p))).collect();
        assert_eq!(r.owned.keys().cloned().collect::<BTreeSet<_>>(), expected);
    }
}

async fn a_leaving_members_partitions_move_at_once(log: &dyn Log) {
    let t = with_topics(log, &[("in", 4)]).await;
    let mut a = Reader::join(&*t, "g", &["in"]).await;
    a.until("all partitions", |a| a.numbers().len() == 4).await;
    let mut b = Reader::join(&*log.open().await, "g", &["in"]).await;
    both(&mut a, &mut b, "a fair share", |a, b| a.numbers().len() == 2 && b.numbers().len() == 2).await;
    let left = Instant::now();
    let epochs: BTreeMap<_, _> = a.owned.values().map(|x| (x.at.clone(), x.epoch)).collect();
    a.member.leave().await;
    b.until("all partitions", |b| b.numbers().len() == 4).await;
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
    for (at, epoch) in epochs {
        assert!(b.owned[&at].epoch > epoch, "the epoch of {at} did not grow");
    }
}

async fn what_is_finished_may_be_committed_until_the_release(log: &dyn Log) {
    let t = with_topics(log, &[("in", 2), ("out", 1)]).await;
    t.append((0..2).map(|p| placed("in", p, "x")).collect()).await.unwrap();
    let mut a = Reader::join(&*t, "g", &["in"]).await;
    a.until("records", |a| a.records.len() == 2).await;
    a.obliging = false;
    let mut b = Reader::join(&*log.open().await, "g", &["in"]).await;
    both(&mut a, &mut b, "a revocation", |a, _| !a.revoked.is_empty()).await;
    let (partitions, lost) = a.revoked.remove(0);
    assert!(!lost && !partitions.is_empty());
    // Nobody gets it before it is released.
    b.during(Duration::from_millis(1200)).await;
    assert_eq!(b.numbers(), BTreeSet::new());
    let at = &partitions[0];
    let batch = a.batch(at, 1, "last words", vec![placed("out", 0, "x")]);
    assert_eq!(a.member.commit(batch).await, Committed::Done);
    let late = a.batch(at, 1, "too late", vec![placed("out", 0, "twice")]);
    partitions.iter().for_each(|p| drop(a.owned.remove(p)));
    a.member.release(&partitions).await;
    // A protocol that revokes all may give it back; whoever gets it sees what was committed last.
    let stands = |r: &Reader| r.owned.get(at).map(|x| (x.base, x.map.clone()));
    both(&mut a, &mut b, "the partition", |a, b| stands(a).or(stands(b)).is_some()).await;
    assert_eq!(stands(&a).or(stands(&b)), Some((1, "last words".into())));
    assert_eq!(a.member.commit(late).await, Committed::Fenced(vec![at.clone()]));
    assert_eq!(read_until(&*t, "out", 1).await.len(), 1);
}

async fn a_member_that_lost_its_lease_is_fenced(log: &dyn Log) {
    let t = with_topics(log, &[("in", 3), ("out", 1)]).await;
    t.append((0..3).map(|p| placed("in", p, "x")).collect()).await.unwrap();
    let mut zombie = Reader::join(&*t, "g", &["in"]).await;
    zombie.until("records", |r| r.records.len() == 3).await;
    let stalled = log.stall_members().await;
    let mut heir = Reader::join(&*log.open().await, "g", &["in"]).await;
    heir.until("all partitions", |h| h.numbers().len() == 3).await;
    let progress =
        zombie.owned.values().map(|a| Progress { at: a.at.clone(), epoch: a.epoch, base: 1, map: "stale".into() });
    let batch = Batch { progress: progress.collect(), outputs: vec![placed("out", 0, "stale")] };
    let all: Vec<_> = zombie.owned.keys().cloned().collect();
    assert_eq!(zombie.member.commit(Arc::new(batch)).await, Committed::Fenced(all.clone()));
    assert_eq!(read_all(&*t, "out").await, vec![]);
    assert_eq!(t.progress("g", "in").await.unwrap(), vec![]);
    for at in &all {
        assert!(heir.owned[at].epoch > zombie.owned[at].epoch);
    }
    // It learns of it, and a batch of the heir is written.
    drop(stalled);
    zombie.obliging = false;
    // Perhaps as of an orderly revocation: one that is given up in the middle of a rebalance was asked for them first.
    // What it then sends is refused all the same.
    zombie.until("the revocation", |z| !z.revoked.is_empty()).await;
    let at = TopicPartition::new("in", 0);
    let late = zombie.batch(&at, 1, "stale", vec![placed("out", 0, "stale")]);
    assert_ne!(zombie.member.commit(late).await, Committed::Done);
    assert_eq!(read_all(&*t, "out").await, vec![]);
    let batch = heir.batch(&at, 1, "", vec![placed("out", 0, "good")]);
    assert_eq!(heir.member.commit(batch).await, Committed::Done);
}

/// The heir is gone before the former owner notices: losing and getting back must not be mixed up.
async fn a_member_that_lost_its_lease_gets_a_new_one(log: &dyn Log) {
    let t = with_topics(log, &[("in", 3), ("out", 1)]).await;
    let mut a = Reader::join(&*t, "g", &["in"]).await;
    a.until("all partitions", |r| r.numbers().len() == 3).await;
    let before = a.owned.clone();
    let stalled = log.stall_members().await;
    let mut heir = Reader::join(&*log.open().await, "g", &["in"]).await;
    heir.until("all partitions", |h| h.numbers().len() == 3).await;
    heir.member.leave().await;
    drop(stalled);
    // Time for both events to be on their way before the first is looked at.
    tokio::time::sleep(Duration::from_secs(5)).await;
    a.obliging = false;
    a.until("the revocation", |a| !a.revoked.is_empty()).await;
    let (partitions, _) = a.revoked.remove(0);
    a.member.release(&partitions).await;
    a.obliging = true;
    let (mut mine, until) = (BTreeSet::new(), Instant::now() + common::PATIENCE);
    // A group may settle in more than one step; in the end each is its own again, under another epoch.
    while mine.len() < before.len() {
        assert!(Instant::now() < until, "only {mine:?} came back");
        a.step(Duration::from_millis(100)).await;
        for at in before.keys().filter(|at| !mine.contains(*at)).cloned().collect::<Vec<_>>() {
            if a.owned.get(&at).is_some_and(|x| x.epoch > before[&at].epoch) {
                let batch = a.batch(&at, 0, "", vec![placed("out", 0, "mine again")]);
                if a.member.commit(batch).await == Committed::Done {
                    mine.insert(at);
                }
            }
        }
    }
}

async fn a_paused_partition_is_silent_until_resumed(log: &dyn Log) {
    let t = with_topics(log, &[("in", 2)]).await;
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("all partitions", |r| r.numbers().len() == 2).await;
    let at = TopicPartition::new("in", 1);
    r.member.pause(&at);
    t.append((0..10).map(|i| placed("in", i % 2, i.to_string())).collect()).await.unwrap();
    r.until("the other partition", |r| r.records.len() == 5).await;
    r.during(Duration::from_millis(1200)).await;
    assert!(r.records.iter().all(|x| x.at.partition == 0));
    r.member.resume(&at);
    let resumed = Instant::now();
    r.until("all records", |r| r.records.len() == 10).await;
    assert!(resumed.elapsed() < Duration::from_secs(2));
    let of: Vec<_> = r.records.iter().filter(|x| x.at == at).map(|x| x.offset).collect();
    assert_eq!(of, [0, 1, 2, 3, 4]);
}

async fn a_time_has_an_offset(log: &dyn Log) {
    let t = with_topics(log, &[("in", 3)]).await;
    assert_eq!(t.offsets_at("in", 0).await.unwrap(), [(0, 0), (1, 0), (2, 0)]);
    for i in 0..6 {
        t.append(vec![placed("in", 0, i.to_string()), placed("in", 2, i.to_string())]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let all = read_until(&*t, "in", 12).await;
    let ends: Vec<_> = t.bounds("in").await.unwrap().iter().map(|b| (b.partition, b.end)).collect();
    assert_eq!(t.offsets_at("in", 0).await.unwrap(), [(0, 0), (1, 0), (2, 0)]);
    let later = all.iter().map(|r| r.timestamp).max().unwrap() + 3_600_000;
    assert_eq!(t.offsets_at("in", later).await.unwrap(), ends);
    for r in &all {
        let found = t.offsets_at("in", r.timestamp).await.unwrap();
        for (p, offset) in found {
            // The first that is not older; what stands before it may be a marker of a transaction, which has a time too.
            let here = || all.iter().filter(|x| x.at.partition == p);
            let expected = here().filter(|x| x.timestamp >= r.timestamp).map(|x| x.offset).min();
            assert_eq!(here().map(|x| x.offset).filter(|o| *o >= offset).min(), expected, "{p}: {}", r.timestamp);
        }
    }
    let e = t.offsets_at("nowhere", 0).await.unwrap_err();
    assert!(matches!(&e, TransportError::NoTopic(t) if t == "nowhere"), "{e}");
}

async fn what_is_old_can_be_deleted(log: &dyn Log) {
    let t = with_topics(log, &[("in", 3)]).await;
    for i in 0..5 {
        t.append(vec![placed("in", 0, i.to_string()), placed("in", 2, i.to_string())]).await.unwrap();
    }
    let all = read_until(&*t, "in", 10).await;
    let of = |p: i32| all.iter().filter(|r| r.at.partition == p).map(|r| r.offset).collect::<Vec<_>>();
    let ends: Vec<_> = t.bounds("in").await.unwrap().iter().map(|b| b.end).collect();
    // Partition 0 up to its fourth record, 2 beyond its end; of 1 there is nothing, and 7 is not there.
    let cut = of(0)[3];
    t.delete_before("in", &[(0, cut), (2, i64::MAX), (7, 1)]).await.unwrap();
    let left = async || read_all(&*t, "in").await.iter().map(|r| (r.at.partition, r.offset)).collect::<Vec<_>>();
    eventually("they are gone", async || left().await == [(0, of(0)[3]), (0, of(0)[4])]).await;
    let bounds: Vec<_> = t.bounds("in").await.unwrap().iter().map(|b| (b.start, b.end)).collect();
    assert_eq!(bounds, [(cut, ends[0]), (0, ends[1]), (ends[2], ends[2])]);
    // Again, and less than before: no error, and nothing comes back.
    t.delete_before("in", &[(0, cut), (2, 0)]).await.unwrap();
    assert_eq!(left().await.len(), 2);
    // Offsets go on.
    t.append(vec![placed("in", 2, "new")]).await.unwrap();
    eventually("the new one", async || left().await.last().is_some_and(|l| *l == (2, ends[2]))).await;
    let e = t.delete_before("nowhere", &[(0, 1)]).await.unwrap_err();
    assert!(matches!(&e, TransportError::NoTopic(t) if t == "nowhere"), "{e}");
}

async fn null_is_not_empty(log: &dyn Log) {
    let t = with_topics(log, &[("in", 1)]).await;
    let gone = Outgoing { tombstone: true, ..record("in", "k", "") };
    t.append(vec![record("in", "k", ""), gone, record("in", "k", "v")]).await.unwrap();
    let all: Vec<_> = read_until(&*t, "in", 3).await.into_iter().map(|r| (r.value, r.tombstone)).collect();
    assert_eq!(all, [("".into(), false), ("".into(), true), ("v".into(), false)]);
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("all", |r| r.records.len() == 3).await;
    assert_eq!(r.records.iter().map(|r| r.tombstone).collect::<Vec<_>>(), [false, true, false]);
}

async fn reads_bounds_and_tails_need_no_group(log: &dyn Log) {
    let t = with_topics(log, &[("in", 2)]).await;
    let at = TopicPartition::new("in", 1);
    let ends = async |t: &dyn Transport| -> Vec<_> {
        t.bounds("in").await.unwrap().iter().map(|b| (b.partition, b.start, b.end)).collect()
    };
    assert_eq!(ends(&*t).await, [(0, 0, 0), (1, 0, 0)]);
    t.append((0..10).map(|i| placed("in", 1, vec![i; 1000])).collect()).await.unwrap();
    // Ten records, and at most a marker; a broker may answer a commit a moment before it can be seen.
    eventually("the end", async || (10..=11).contains(&ends(&*t).await[1].2)).await;
    let after = ends(&*t).await;
    assert_eq!((after[0], after[1].1), ((0, 0, 0), 0));
    let offsets = async |from, max, bytes| -> Vec<_> {
        t.read(&at, from, max, bytes).await.unwrap().iter().map(|r| r.offset).collect()
    };
    assert_eq!(offsets(4, 3, 1 << 20).await, [4, 5, 6]);
    // At the end, however often it is asked.
    for _ in 0..3 {
        assert_eq!(offsets(10, 3, 1 << 20).await, [] as [i64; 0]);
    }
    // A limit of bytes never means no progress.
    assert_eq!(offsets(0, 100, 1).await, [0]);
    assert!(offsets(0, 100, 3000).await.len() <= 4);

    // Handed over one by one, they are the same.
    let seen = Arc::new(Mutex::new(vec![]));
    let seeing = Arc::clone(&seen);
    let see: See = Arc::new(move |r| seeing.lock().unwrap().push(r));
    assert_eq!(t.visit(&at, 4, 3, 1 << 20, Arc::clone(&see)).await.unwrap(), Some(7));
    assert_eq!(t.visit(&at, 10, 3, 1 << 20, see).await.unwrap(), None);
    let read = t.read(&at, 4, 3, 1 << 20).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), read);

    let other = log.open().await;
    let waiting = Instant::now();
    let (woken, ()) = tokio::join!(
        async {
            t.changed(Duration::from_secs(20)).await;
            waiting.elapsed()
        },
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            other.append(vec![placed("in", 0, "new")]).await.unwrap();
        }
    );
    assert!(woken < Duration::from_secs(5), "{woken:?}");
    let waiting = Instant::now();
    eventually("a log that is quiet, or a pause", async || {
        let asked = Instant::now();
        t.changed(Duration::from_millis(300)).await;
        asked.elapsed() >= Duration::from_millis(90)
    })
    .await;
    assert!(waiting.elapsed() < Duration::from_secs(10));
}

async fn unknown_topics_are_named(log: &dyn Log) {
    let t = with_topics(log, &[("in", 1)]).await;
    let named = |e: TransportError| {
        assert!(e.to_string().contains("topic nowhere does not exist"), "{e}");
        assert!(matches!(e, TransportError::NoTopic(_)));
    };
    named(t.bounds("nowhere").await.unwrap_err());
    named(t.read(&TopicPartition::new("nowhere", 0), 0, 1, 1).await.unwrap_err());
    named(t.append(vec![placed("nowhere", 0, "x")]).await.unwrap_err());
    named(t.join("g", &["in".into(), "nowhere".into()]).await.err().unwrap());
}

async fn unequal_partition_counts_are_refused(log: &dyn Log) {
    let t = with_topics(log, &[("in", 2), ("odd", 3)]).await;
    let e = t.join("g", &["in".into(), "odd".into()]).await.err().unwrap();
    assert!(matches!(&e, TransportError::Fatal(m) if m.contains("odd has 3 partitions")), "{e}");
    // A join that failed leaves nobody behind who holds partitions up.
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("all partitions", |r| r.numbers().len() == 2).await;
}

async fn topics_are_described_as_they_are(log: &dyn Log) {
    let t = with_topics(log, &[("in", 2), ("out", 3)]).await;
    // One that exists keeps its partitions, whatever is asked for.
    t.create_topics(&[topic("in", 5)]).await.unwrap();
    let names = ["out", "nowhere", "in"].map(str::to_owned);
    let found = log.open().await.describe_topics(&names).await.unwrap();
    let brief: Vec<_> = found.iter().map(|s| (&*s.name, s.partitions)).collect();
    assert_eq!(brief, [("out", 3), ("in", 2)]);
    assert_eq!(t.bounds("in").await.unwrap().len(), 2);
    for (setting, value) in topic("out", 3).settings() {
        assert_eq!(found[0].settings.get(setting), Some(&value));
        assert_eq!(found[0].get(setting), Some(&*value));
    }
}

async fn what_is_set_leaves_the_rest_as_it_is(log: &dyn Log) {
    let t = with_topics(log, &[("in", 2), ("out", 2)]).await;
    let names = ["in", "out"].map(str::to_owned);
    let before = t.describe_topics(&names).await.unwrap();
    let set = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    t.configure_topic("in", &set(&[(RETENTION_MS, "86400000")])).await.unwrap();
    t.configure_topic("in", &set(&[(CLEANUP_POLICY, "compact"), (MAX_MESSAGE_BYTES, "5000000")])).await.unwrap();
    let after = log.open().await.describe_topics(&names).await.unwrap();
    assert_eq!(after[1], before[1]);
    let mut wanted = before[0].clone();
    wanted.settings.extend(set(&[
        (RETENTION_MS, "86400000"),
        (CLEANUP_POLICY, "compact"),
        (MAX_MESSAGE_BYTES, "5000000"),
    ]));
    assert_eq!(after[0].settings, wanted.settings);
    // All or nothing, and named.
    let wrong = set(&[(RETENTION_MS, "1"), ("retention.mss", "1")]);
    let e = t.configure_topic("in", &wrong).await.unwrap_err();
    assert!(matches!(&e, TransportError::Fatal(m) if m.contains("retention.mss")), "{e}");
    assert!(t.configure_topic("in", &set(&[(RETENTION_MS, "soon")])).await.is_err());
    assert_eq!(t.describe_topics(&names).await.unwrap(), after);
    let e = t.configure_topic("nowhere", &set(&[(RETENTION_MS, "1")])).await.unwrap_err();
    assert!(matches!(&e, TransportError::NoTopic(t) if t == "nowhere"), "{e}");
}

async fn grown_topics_are_shared_anew_and_nothing_is_missed(log: &dyn Log) {
    let t = with_topics(log, &[("a", 2), ("b", 2)]).await;
    let other = log.open().await;
    let mut one = Reader::join(&*t, "g", &["a", "b"]).await;
    let mut two = Reader::join(&*other, "g", &["a", "b"]).await;
    both(&mut one, &mut two, "a fair share", |x, y| x.numbers().len() == 1 && y.numbers().len() == 1).await;
    t.append((0..2).map(|p| placed("a", p, format!("old {p}"))).collect()).await.unwrap();
    log.open().await.grow_topics(&["a", "b"].map(str::to_owned), 6).await.unwrap();
    t.append((0..6).flat_map(|p| [placed("a", p, format!("a {p}")), placed("b", p, format!("b {p}"))]).collect())
        .await
        .unwrap();
    // The old ones too are assigned anew: whoever places keys must know the new number for each.
    let informed = |r: &Reader| r.owned.len() == 6 && r.owned.values().all(|a| a.partitions == 6);
    // What moved may be read twice, as nothing is committed yet.
    let distinct = |x: &Reader, y: &Reader| x.values().into_iter().chain(y.values()).collect::<BTreeSet<_>>().len();
    let until = Instant::now() + Duration::from_secs(60);
    let at = loop {
        both(&mut one, &mut two, "a fair share of all, and all records", |x, y| {
            informed(x) && informed(y) && x.numbers().is_disjoint(&y.numbers()) && distinct(x, y) == 14
        })
        .await;
        // What was read of a new partition can be committed, unless the group is not yet at rest.
        let at = TopicPartition::new("b", *one.numbers().last().unwrap());
        let batch = one.batch(&at, 1, "", vec![]);
        match one.member.commit(batch).await {
            Committed::Done => break at,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        one.during(Duration::from_millis(200)).await;
    };
    progress_becomes(&*t, "g", "b", (at.partition, 1, "")).await;
}

async fn a_producer_notices_that_a_topic_has_grown(log: &dyn Log) {
    let t = with_topics(log, &[("in", 2)]).await;
    let keys: Vec<String> = (0..100).map(|i| format!("host-{i}.example")).collect();
    let all = || keys.iter().map(|k| record("in", k, k.clone())).collect::<Vec<_>>();
    t.append(all()).await.unwrap();
    log.open().await.grow_topics(&["in".into()], 8).await.unwrap();
    t.append(vec![placed("in", 7, "placed")]).await.unwrap();
    eventually("keys on the new partitions", async || {
        let seen = t.bounds("in").await.unwrap();
        t.append(all()).await.unwrap();
        let mut right = seen.len() == 8;
        for b in seen {
            let at = TopicPartition::new("in", b.partition);
            for r in t.read(&at, b.end, 1_000, 8 << 20).await.unwrap() {
                right &= r.key.as_ref().is_none_or(|key| r.at.partition == partition(key, 8));
            }
        }
        right
    })
    .await;
}

async fn topics_never_shrink(log: &dyn Log) {
    let t = with_topics(log, &[("few", 2), ("many", 5)]).await;
    let names = ["many", "few"].map(str::to_owned);
    t.grow_topics(&names, 3).await.unwrap();
    let counts =
        async || -> Vec<u32> { t.describe_topics(&names).await.unwrap().iter().map(|s| s.partitions).collect() };
    assert_eq!(counts().await, [5, 3]);
    t.grow_topics(&names, 1).await.unwrap();
    assert_eq!(counts().await, [5, 3]);
    let e = t.grow_topics(&["few".into(), "nowhere".into()], 9).await.unwrap_err();
    assert!(matches!(&e, TransportError::NoTopic(t) if t == "nowhere"), "{e}");
    // More than any log has room for is refused, in words.
    let e = t.grow_topics(&["few".into()], 1_000_000_000).await.unwrap_err();
    assert!(e.to_string().contains("few") && e.to_string().contains("partitions"), "{e}");
    assert!(t.bounds("few").await.unwrap().len() <= 9);
}

async fn a_record_is_delivered_without_waiting_for_a_poll(log: &dyn Log) {
    let t = with_topics(log, &[("in", 1)]).await;
    let other = log.open().await;
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("all partitions", |r| r.numbers().len() == 1).await;
    let mut times = vec![];
    for i in 0..10 {
        tokio::time::sleep(Duration::from_millis(37)).await;
        let sent = Instant::now();
        let writer = if i % 2 == 0 { &t } else { &other };
        writer.append(vec![placed("in", 0, "x")]).await.unwrap();
        r.until("the record", |r| r.records.len() == i + 1).await;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    // Half of a poll interval would be 250 ms in the middle.
    assert!(times[5] < Duration::from_millis(200), "{times:?}");
}
