//! What a real Kafka, or the client library, does that one would not expect; each trap is a test, here or where its matter
//! is tested anyway.
//!
//! | trap | test |
//! |---|---|
//! | the broker takes offsets without a generation from anyone, also for partitions that others own | [`the_broker_takes_offsets_from_anyone`]; ours sends none that is not its own: `what_is_finished_may_be_committed_until_the_release`, `a_member_that_lost_its_lease_is_fenced` in `contract_transport.rs` |
//! | a transaction that hangs leaves partitions standing still for ever, and librdkafka calls it a time-out | [`a_transaction_that_hangs_is_named_and_repaired_while_others_go_on`] |
//! | after a kill −9 offsets are unstable until the transaction times out, unless the same name is back and fences first | every row of `failpoints.rs`: transactions there time out later than any test |
//! | brokers that are away longer than the time-outs | [`a_cluster_that_is_away_is_waited_for`], `a_commit_whose_reply_is_late_is_asked_for_again` in `failpoints.rs` |
//! | `send_offsets_to_transaction` does not keep its time-out | `offsets_that_hang_do_not_hold_up_the_group` in `failpoints.rs` |
//! | a consumer of many partitions with full queues starves | [`partitions_with_full_queues_are_fetched_again_soon`], `a_paused_partition_is_silent_until_resumed` in `contract_transport.rs` |
//! | metadata counts characters, up to 4,096; more is refused, and the producer must live on | [`metadata_of_the_largest_map_comes_back_and_more_is_refused`] |
//! | `AlterConfigs` replaces all settings | `what_somebody_else_has_set_survives` in `kafka_topics.rs` |
//! | an ambiguous result, and the protocol before KIP-890 | `a_commit_whose_reply_never_comes_is_read_again` in `failpoints.rs`, the simulation |
//! | control records take offsets | `markers_are_passed_in_each_partition` |
//! | grown partitions move keys | `a_producer_notices_that_a_topic_has_grown` in `contract_transport.rs` |
//! | metadata of others may be anything; the binding panics if it is no text | [`metadata_of_others_is_no_map`] |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

mod common;
mod copy;
mod whole;

use std::process::Command;
use std::time::Duration;

use common::kafka::KafkaLog;
use common::{Log, Reader, placed, progress_becomes, services, topic};
use copy::{Bench, output};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use services::{Kafka, TRANSACTIONS, java, unique};
use tidemill::config::GroupProtocol;
use tidemill::engine::offset_map;
use tidemill::transport::kafka::client;
use tidemill::transport::{Committed, TopicPartition};
use whole::{LIMIT, Running, eventually};

/// A client that is in the group by name alone: it never joins, so it has no generation.
fn stranger(at: &str, group: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", at).set("group.id", group).create().unwrap()
}

/// An open transaction of a stranger's with these offsets; nobody but it will end it for a quarter of an hour.
fn open_transaction(at: &str, group: &str, offsets: &TopicPartitionList) -> BaseProducer {
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", at).set("transactional.id", unique("stranger")).set("transaction.timeout.ms", "900000");
    let producer: BaseProducer = c.create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    let group = stranger(at, group).group_metadata().unwrap();
    producer.send_offsets_to_transaction(offsets, &group, LIMIT).unwrap();
    producer
}

fn offsets(topic: &str, partition: i32, offset: i64, metadata: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    {
        let mut e = list.add_partition(topic, partition);
        e.set_offset(Offset::Offset(offset)).unwrap();
        e.set_metadata(metadata);
    }
    list
}

/// If this fails, brokers have become stricter, and docs/exactly-once.md may say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_takes_offsets_from_anyone() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let log = KafkaLog::new(protocol);
        let t = log.open().await;
        t.create_topics(&[topic("in", 1)]).await.unwrap();
        t.append((0..5).map(|i| placed("in", 0, i.to_string())).collect()).await.unwrap();
        let mut owner = Reader::join(&*t, "g", &["in"]).await;
        owner.until("records", |r| r.records.len() == 5).await;
        let (at, group, name) = (log.config.brokers.clone(), format!("{}g", log.prefix), format!("{}in", log.prefix));
        tokio::task::spawn_blocking(move || {
            let producer = open_transaction(&at, &group, &offsets(&name, 0, 3, "a stranger's"));
            producer.commit_transaction(LIMIT).unwrap();
        })
        .await
        .unwrap();
        progress_becomes(&*t, "g", "in", (0, 3, "a stranger's")).await;
        // The owner's next commit goes over it.
        let batch = owner.batch(&TopicPartition::new("in", 0), 5, "", vec![]);
        assert_eq!(owner.member.commit(batch).await, Committed::Done);
        progress_becomes(&*t, "g", "in", (0, 5, "")).await;
    }
}

/// Ends what is open in a partition, by the commands of docs/exactly-once.md.
fn repair(at: &str, topic: &str, partition: i32) {
    let partition = partition.to_string();
    let run = |command: &str, more: &[&str]| {
        let args = ["--bootstrap-server", at, command, "--topic", topic, "--partition", &partition];
        output(&mut java(TRANSACTIONS, &[&args, more].concat()))
    };
    let producers = run("describe-producers", &[]);
    let open: Vec<&str> = producers
        .lines()
        .skip(1)
        .filter_map(|row| row.split_whitespace().nth(5))
        .filter(|start| start.parse::<u64>().is_ok())
        .collect();
    assert_eq!(open.len(), 1, "{topic} {partition}: {producers}");
    run("abort", &["--start-offset", open[0]]);
}

#[test]
fn a_transaction_that_hangs_is_named_and_repaired_while_others_go_on() {
    let bench = Bench { transaction_timeout: Duration::from_secs(5), ..Bench::new("consumer") };
    let hanging = open_transaction(&bench.at, &bench.group, &offsets(&bench.from, 0, 7, ""));
    hanging.send(BaseRecord::to(&bench.to).partition(0).key("never").payload("to be seen")).unwrap();
    hanging.flush(LIMIT).unwrap();
    drop(hanging);

    // What it says goes to a file, to be read while it runs.
    let relay = bench.relay("m", "");
    let mut c = Command::new("sh");
    whole::clean(&mut c).current_dir(&bench.tidemill.dir).arg("-c").arg("exec \"$0\" \"$@\" 2>said");
    c.arg(relay.get_program()).args(relay.get_args());
    c.envs(relay.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = Running::start(&mut c);
    let said = || std::fs::read_to_string(bench.tidemill.dir.join("said")).unwrap_or_default();
    assert!(eventually(LIMIT, || running.poll().is_some() || said().contains("a transaction hangs")));
    assert!(running.poll().is_none(), "{}", said());
    let text = said();
    let line = text.lines().find(|l| l.contains("a transaction hangs")).unwrap();
    let ids = [bench.transactional_id(1), bench.transactional_id(2)];
    let first = format!("{}/0", bench.from);
    for part in [&bench.group, &first, &ids[0], &ids[1], &bench.at, "describe-producers", "abort --topic"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains(&format!("{}/1", bench.from)), "{line}");

    // The others went on, and are done.
    let records = bench.readable(&bench.from);
    assert!(records.iter().all(|n| *n > 0), "{records:?}");
    let others: usize = records.iter().skip(1).sum();
    assert!(eventually(LIMIT, || bench.done().0 == others), "{:?} of {others}", bench.done());

    // Where it says, or `repair` finds nothing to end.
    let (_, partition) = line.split_once("describe-producers --topic __consumer_offsets --partition ").unwrap();
    repair(&bench.at, "__consumer_offsets", partition.split('`').next().unwrap().parse().unwrap());
    repair(&bench.at, &bench.to, 0);
    running.ended(LIMIT).expect(0);
    bench.is_exact();
}

/// Longer than any call waits, than the session and the transactions last.
#[test]
fn a_cluster_that_is_away_is_waited_for() {
    for protocol in ["classic", "consumer"] {
        let kafka = Kafka::start(1, &[]);
        let timeout = Duration::from_secs(8);
        let bench = Bench { transaction_timeout: timeout, work: "300ms", ..Bench::on(kafka.bootstrap(), protocol) };
        let mut running = Running::start(&mut bench.relay("m", ""));
        assert!(eventually(LIMIT, || running.poll().is_some() || bench.done().0 > 0));
        assert!(running.poll().is_none(), "it was quicker than this test");
        kafka.stop(1);
        std::thread::sleep(Duration::from_secs(15));
        assert!(running.poll().is_none(), "it gave up");
        kafka.restart(1);
        running.ended(LIMIT).expect(0);
        bench.is_exact();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_the_largest_map_comes_back_and_more_is_refused() {
    let log = KafkaLog::new(GroupProtocol::Auto);
    let t = log.open().await;
    t.create_topics(&[topic("in", 1)]).await.unwrap();
    t.append(vec![placed("in", 0, "x")]).await.unwrap();
    let at = TopicPartition::new("in", 0);
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("the record", |r| r.records.len() == 1).await;
    // As many incompletes as there may be, so far apart that a gap takes most bytes.
    let gap = offset_map::MAX_SPAN / i64::try_from(offset_map::MAX_INCOMPLETE).unwrap();
    let holes = (0..i64::try_from(offset_map::MAX_INCOMPLETE).unwrap()).map(|n| 1 + n * gap);
    let largest = offset_map::encode(1, offset_map::MAX_SPAN, holes);
    assert!(largest.len() > 2_500, "{} characters are no large map", largest.len());
    for map in [largest, "m".repeat(4096), "\u{e4}".repeat(4096)] {
        assert_eq!(r.member.commit(r.batch(&at, 1, &map, vec![])).await, Committed::Done);
        progress_becomes(&*t, "g", "in", (0, 1, &map)).await;
    }
    let refused = r.member.commit(r.batch(&at, 1, &"m".repeat(4097), vec![])).await;
    assert!(matches!(&refused, Committed::Aborted(_)), "{refused:?}");
    for map in ["", "again"] {
        assert_eq!(r.member.commit(r.batch(&at, 1, map, vec![])).await, Committed::Done);
        progress_becomes(&*t, "g", "in", (0, 1, map)).await;
    }
}

/// Also when there was no room for the word while it was read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markers_are_passed_in_each_partition() {
    let log = KafkaLog::new(GroupProtocol::Auto);
    let t = log.open().await;
    t.create_topics(&[topic("in", 40)]).await.unwrap();
    t.append((0..40).map(|p| placed("in", p, "x")).collect()).await.unwrap();
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    // Whoever is slow to take what was read.
    tokio::time::sleep(Duration::from_secs(3)).await;
    r.until("the records", |r| r.records.len() == 40).await;
    // Each is followed by its transaction's marker.
    r.until("the markers", |r| r.passed.len() == 40).await;
    assert!(r.passed.values().all(|offset| *offset == 2), "{:?}", r.passed);
}

/// Whoever had the group before us may have written anything: what cannot be read as a map means that nothing beyond the
/// offset is done.
#[test]
fn metadata_of_others_is_no_map() {
    let bench = Bench::new("classic");
    let consumer = stranger(&bench.at, &bench.group);
    for (partition, metadata) in [(0, "their own words"), (1, "\u{fffd}\u{0}\u{1f30a}"), (2, "EQ"), (3, "")] {
        consumer.commit(&offsets(&bench.from, partition, 0, metadata), CommitMode::Sync).unwrap();
    }
    let ended = Running::start(&mut bench.relay("m", "")).ended(LIMIT).expect(0);
    assert_eq!(ended.stderr.matches("committed offset map cannot be read").count(), 3, "{}", ended.stderr);
    bench.is_exact();
}

/// The default of a second made 11,000 records a second of 74,000.
#[test]
fn partitions_with_full_queues_are_fetched_again_soon() {
    let reading = client::reading(&tidemill::config::Kafka::default());
    assert_eq!(reading.get("fetch.queue.backoff.ms"), Some("10"));
    // Nobody's offsets but those of a commit.
    for setting in ["enable.auto.commit", "enable.auto.offset.store"] {
        assert_eq!(reading.get(setting), Some("false"));
    }
    assert_eq!(reading.get("isolation.level"), Some("read_committed"));
}
