//! `topics` against a real Kafka: what is planned is what the broker has afterwards, as Kafka's own tool sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use services::{Kafka as Broker, TOPICS, java, unique};
use tidemill::config;
use tidemill::record::Headers;
use tidemill::topics::{self, Action, Applied, Plan, Wish};
use tidemill::topology::{self, CLEANUP_POLICY, MAX_MESSAGE_BYTES, Names, PARTITIONS, RETENTION_MS, STAGES, Topic};
use tidemill::transport::kafka::Kafka;
use tidemill::transport::{Outgoing, Transport, TransportError};

fn config() -> config::Kafka {
    config::Kafka { brokers: Broker::shared().to_owned(), ..config::Kafka::default() }
}

fn open(config: config::Kafka) -> Kafka {
    // A member that is named needs no folder to note its name in.
    Kafka::open(&config::Kafka { member: unique("member"), ..config }, Path::new("")).unwrap()
}

/// A cluster and names on it that nobody else uses.
fn cluster() -> (Kafka, Names) {
    (open(config()), Names::new(format!("{}.", unique("topics"))))
}

async fn plan(log: &Kafka, names: &Names, wish: &Wish) -> Plan {
    topics::plan(names, wish, &topics::look(log, names).await.unwrap())
}

/// Plans and applies; as a second plan sees it, nothing is left.
async fn apply(log: &Kafka, names: &Names, wish: &Wish) -> (Plan, Applied) {
    let planned = plan(log, names, wish).await;
    let applied = topics::apply(log, names, wish, planned.actions.clone(), |_| {}).await;
    assert!(applied.error.is_none() && applied.left.is_empty(), "{applied:?}");
    assert_eq!(applied.done, planned.actions);
    assert_eq!(plan(log, names, wish).await.actions, []);
    (planned, applied)
}

/// Kafka's own tool, away from the async threads.
async fn tool(args: &[&str]) -> String {
    let mut c = java(TOPICS, &[&["--bootstrap-server", Broker::shared()], args].concat());
    let out = tokio::task::spawn_blocking(move || c.output().unwrap()).await.unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// Partitions and settings of topics with this prefix, as Kafka's own tool has them.
async fn seen(names: &Names) -> BTreeMap<String, (u32, BTreeMap<String, String>)> {
    let pattern = format!("{}.*", names.full("").replace('.', "\\."));
    let text = tool(&["--describe", "--topic", &pattern]).await;
    let heads = text.lines().filter(|l| l.contains("PartitionCount"));
    let one = |line: &str| {
        let field = |name: &str| {
            let at = line.find(name).unwrap_or_else(|| panic!("no {name} in {line}")) + name.len();
            line[at..].split('\t').next().unwrap().trim().to_owned()
        };
        let settings = field("Configs:");
        // The tool shows what the fixture's brokers have in their own file as well.
        let brokers = ["min.insync.replicas"];
        let pairs = settings.split(',').filter_map(|p| p.split_once('=')).filter(|(k, _)| !brokers.contains(k));
        let pairs = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        (names.bare(&field("Topic:")).to_owned(), (field("PartitionCount:").parse().unwrap(), pairs))
    };
    heads.map(one).collect()
}

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_topics_are_made_as_the_table_says_and_then_there_is_nothing_to_do() {
    let (log, names) = cluster();
    let (planned, _) = apply(&log, &names, &Wish::default()).await;
    assert_eq!(planned.actions.len(), topology::topics().len());
    let found = seen(&names).await;
    for t in topology::topics() {
        let wanted = settings(&t.settings().each_ref().map(|(k, v)| (*k, v.as_str())));
        assert_eq!(found.get(&t.name), Some(&(t.partitions, wanted)), "{}", t.name);
    }
    assert_eq!(found.len(), topology::topics().len());
    assert_eq!(plan(&log, &names, &Wish::default()).await, Plan::default());
    // Made by two at once: one of them is told that they exist, and it is no error.
    let again = Names::new(names.full("again."));
    let all: Vec<_> = topology::topics().into_iter().map(|t| Topic { name: again.full(&t.name), ..t }).collect();
    let (a, b) = tokio::join!(log.create_topics(&all), log.create_topics(&all));
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    assert_eq!(plan(&log, &again, &Wish::default()).await, Plan::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_grown_by_hand_takes_its_stage_along() {
    let (log, names) = cluster();
    apply(&log, &names, &Wish { partitions: Some(3), ..Wish::default() }).await;
    tool(&["--alter", "--topic", &names.full("pages"), "--partitions", "5"]).await;
    let (planned, _) = apply(&log, &names, &Wish { partitions: Some(3), ..Wish::default() }).await;
    assert!(planned.actions.iter().all(|a| matches!(a, Action::Grow { from: 3, to: 5, .. })), "{planned:?}");
    assert_eq!(planned.refused.len(), 1, "3 are fewer than 5: {planned:?}");
    let found = seen(&names).await;
    let extract = &STAGES[1];
    for (name, (partitions, _)) in &found {
        let read = extract.subscribed().iter().any(|(t, _)| t == name) || *name == extract.dlq();
        assert_eq!(*partitions, if read { 5 } else { 3 }, "{name}");
    }
    // Every stage, after the table.
    let (planned, _) = apply(&log, &names, &Wish::default()).await;
    assert!(!planned.warnings.is_empty());
    let kept: Vec<_> = seen(&names).await.into_iter().filter(|(_, (n, _))| *n != PARTITIONS).map(|(t, _)| t).collect();
    assert_eq!(kept, ["jobs", "replays", "status"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_has_set_survives() {
    let (log, names) = cluster();
    let urls = names.full("urls");
    let foreign = ["compression.type=gzip", "retention.bytes=123456789"];
    let mut args = vec!["--create", "--topic", &*urls, "--partitions", "2"];
    args.extend(foreign.iter().flat_map(|s| ["--config", s]));
    args.extend(["--config", "retention.ms=60000", "--config", "max.message.bytes=1000"]);
    tool(&args).await;
    let found = log.describe_topics(std::slice::from_ref(&urls)).await.unwrap().remove(0);
    assert_eq!((found.partitions, found.replication), (2, Some(1)));
    assert_eq!(found.get("compression.type"), Some("gzip"));
    assert_eq!(found.get(CLEANUP_POLICY), Some("delete"));
    assert!(!found.settings.contains_key(CLEANUP_POLICY) && found.inherited.contains_key(CLEANUP_POLICY), "{found:?}");

    apply(&log, &names, &Wish::default()).await;
    let (partitions, set) = seen(&names).await.remove("urls").unwrap();
    let mut wanted: BTreeMap<_, _> = foreign.iter().filter_map(|s| s.split_once('=')).collect();
    wanted.extend([(RETENTION_MS, "604800000"), (MAX_MESSAGE_BYTES, "1048576")]);
    assert_eq!((partitions, set), (PARTITIONS, settings(&wanted.into_iter().collect::<Vec<_>>())));
    // The same by the seam itself, on a key that is foreign to the table.
    log.configure_topic(&urls, &settings(&[("segment.ms", "3600000")])).await.unwrap();
    let (_, set) = seen(&names).await.remove("urls").unwrap();
    assert_eq!(
        (set.get("segment.ms").unwrap(), set.get("retention.bytes").unwrap()),
        (&"3600000".to_owned(), &"123456789".to_owned())
    );
    assert_eq!(set.len(), 5, "{set:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lose_records_is_refused_and_nothing_is_touched() {
    let (log, names) = cluster();
    apply(&log, &names, &Wish { partitions: Some(2), ..Wish::default() }).await;
    let set = async |topic: &str, pairs: &[(&str, &str)]| {
        log.configure_topic(&names.full(topic), &settings(pairs)).await.unwrap();
    };
    set("urls", &[(RETENTION_MS, "-1")]).await;
    set("pages", &[(CLEANUP_POLICY, "compact")]).await;
    set("documents", &[(MAX_MESSAGE_BYTES, "20000000")]).await;
    let fewer = Wish { partitions: Some(1), replication: Some(3), ..Wish::default() };
    let planned = plan(&log, &names, &fewer).await;
    assert_eq!(planned.actions, []);
    let mut why: BTreeMap<&str, usize> = BTreeMap::new();
    for r in &planned.refused {
        let kinds = ["partitions", "replicas", RETENTION_MS, CLEANUP_POLICY, MAX_MESSAGE_BYTES];
        *why.entry(kinds.into_iter().find(|k| r.why.contains(k)).unwrap()).or_default() += 1;
    }
    let wanted = [
        (CLEANUP_POLICY, 1),
        (MAX_MESSAGE_BYTES, 1),
        ("partitions", STAGES.len()),
        ("replicas", topology::topics().len()),
        (RETENTION_MS, 1),
    ];
    assert_eq!(why, wanted.into());
    // A record without a key would not survive compaction.
    set("jobs", &[(CLEANUP_POLICY, "delete")]).await;
    let keyless = |p: &Plan| p.refused.iter().any(|r| r.why.contains("without a key"));
    assert!(!keyless(&plan(&log, &names, &Wish::default()).await));
    let record = Outgoing {
        tombstone: false,
        topic: names.full("jobs").into(),
        partition: Some(1),
        key: None,
        value: "x".into(),
        headers: Headers::default(),
    };
    log.append(vec![record]).await.unwrap();
    assert!(keyless(&plan(&log, &names, &Wish::default()).await));
    let before = seen(&names).await;
    let planned = plan(&log, &names, &fewer).await;
    topics::apply(&log, &names, &fewer, planned.actions, |_| {}).await;
    assert_eq!(seen(&names).await, before);
    let allowed = Wish { partitions: Some(2), allow_shorter_retention: true, ..Wish::default() };
    let (planned, _) = apply(&log, &names, &allowed).await;
    assert_eq!((planned.actions.len(), planned.refused.len()), (1, 3), "{planned:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unequal_counts_are_mended() {
    let (log, names) = cluster();
    let some: Vec<_> = [("urls", 2), ("urls.high", 4), ("fetch.retry.1", 1), ("fetch.dlq", 3), ("status", 1)]
        .into_iter()
        .map(|(name, partitions)| {
            let t = topology::topics().into_iter().find(|t| t.name == name).unwrap();
            Topic { name: names.full(name), partitions, ..t }
        })
        .collect();
    log.create_topics(&some).await.unwrap();
    apply(&log, &names, &Wish { partitions: Some(2), ..Wish::default() }).await;
    let found = seen(&names).await;
    for (name, (partitions, _)) in &found {
        let fetch = name.starts_with("fetch.") || name.starts_with("urls");
        let wanted = if fetch {
            4
        } else if name == "status" {
            1
        } else {
            2
        };
        assert_eq!(*partitions, wanted, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cluster_refuses_is_said_in_words() {
    let (log, names) = cluster();
    let topic = |name: &str| Topic { name: names.full(name), ..topology::topics()[0].clone() };
    let three = open(config::Kafka { replication: 3, ..config() });
    let e = three.create_topics(&[topic("urls")]).await.unwrap_err();
    assert!(
        matches!(&e, TransportError::Fatal(m) if m.contains("3 replicas") && m.contains("[kafka] replication")),
        "{e}"
    );
    assert_eq!(log.describe_topics(&[names.full("urls")]).await.unwrap(), []);
    let e = log.create_topics(&[topic("no slash/here")]).await.unwrap_err();
    assert!(e.to_string().contains("no slash/here"), "{e}");

    log.create_topics(&[topic("urls")]).await.unwrap();
    let urls = names.full("urls");
    let before = log.describe_topics(std::slice::from_ref(&urls)).await.unwrap();
    for (name, value) in [("retention.mss", "1"), (RETENTION_MS, "soon")] {
        let wrong = settings(&[(name, value), ("segment.ms", "3600000")]);
        let e = log.configure_topic(&urls, &wrong).await.unwrap_err();
        assert!(matches!(&e, TransportError::Fatal(m) if m.contains(&urls) && m.contains(name)), "{e}");
    }
    assert_eq!(log.describe_topics(std::slice::from_ref(&urls)).await.unwrap(), before);
    let nowhere = names.full("nowhere");
    for e in [
        log.configure_topic(&nowhere, &settings(&[(RETENTION_MS, "1")])).await.unwrap_err(),
        log.grow_topics(&[urls.clone(), nowhere.clone()], 20).await.unwrap_err(),
    ] {
        assert!(matches!(&e, TransportError::NoTopic(t) if *t == nowhere), "{e}");
    }
    let e = log.grow_topics(std::slice::from_ref(&urls), 1_000_000_000).await.unwrap_err();
    assert!(e.to_string().contains(&urls), "{e}");
    log.grow_topics(std::slice::from_ref(&urls), 1).await.unwrap();
    assert_eq!(log.describe_topics(std::slice::from_ref(&urls)).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_said_to_be_and_what_is_not_done_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = open(config::Kafka { brokers: closed.to_string(), ..config::Kafka::default() });
    let names = Names::new("t.");
    let e = topics::look(&log, &names).await.unwrap_err();
    assert!(matches!(&e, TransportError::Unavailable(m) if m.contains(&closed.to_string())), "{e}");
    let actions = topics::plan(&names, &Wish::default(), &topics::Found::default()).actions;
    let applied = topics::apply(&log, &names, &Wish::default(), actions.clone(), |_| {}).await;
    assert!(matches!(applied.error, Some(TransportError::Unavailable(_))), "{applied:?}");
    assert_eq!((applied.done, applied.left), (vec![], actions));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_in_the_middle_leaves_what_is_done_done() {
    let (log, names) = cluster();
    apply(&log, &names, &Wish { partitions: Some(2), ..Wish::default() }).await;
    log.configure_topic(&names.full("urls"), &settings(&[(RETENTION_MS, "5")])).await.unwrap();
    let wish = Wish { partitions: Some(3), ..Wish::default() };
    let actions = plan(&log, &names, &wish).await.actions;
    // The stage that comes last has lost a topic by the time it is grown.
    let gone = names.full("index.retry.2");
    tool(&["--delete", "--topic", &gone]).await;
    let applied = topics::apply(&log, &names, &wish, actions.clone(), |_| {}).await;
    assert!(matches!(&applied.error, Some(TransportError::NoTopic(t)) if *t == gone), "{applied:?}");
    let index = |a: &Action| matches!(a, Action::Grow { topic, .. } if names.bare(topic).starts_with("index.") || names.bare(topic) == "enriched");
    // What is gone is not to be grown any more; it is to be made.
    let left: Vec<_> = actions.iter().filter(|a| index(a) && a.topic() != gone).cloned().collect();
    assert_eq!(applied.left, left);
    assert_eq!(applied.done.len() + left.len(), actions.len());
    assert_eq!(seen(&names).await["urls"].1[RETENTION_MS], "604800000");
    apply(&log, &names, &wish).await;
    assert_eq!(seen(&names).await["index.retry.2"].0, 3);
}
