//! The services that other tests stand on do what those tests believe of them. Clients are Kafka's own tools and kcat.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use services::{
    CONSUMER, Kafka, LEDGER, OpenSearch, PRODUCER, Registry, TOPICS, TRANSACTIONS, create_topic, http, java, runs,
    unique,
};
use whole::{LIMIT, eventually, output};

/// Writes lines `key=value`.
fn produce(bootstrap: &str, topic: &str, lines: &str) {
    let keyed = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=="];
    output(&mut java(PRODUCER, &[&["--bootstrap-server", bootstrap, "--topic", topic], &keyed[..]].concat()), lines);
}

/// All that is there, as lines `key=value`, sorted.
fn kcat(bootstrap: &str, topic: &str) -> Vec<String> {
    let mut c = Command::new("kcat");
    c.args(["-C", "-e", "-q", "-b", bootstrap, "-t", topic, "-o", "beginning", "-f", "%k=%s\\n"]);
    let mut lines: Vec<String> =
        output(c.args(["-X", "isolation.level=read_committed"]), "").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn ledger(bootstrap: &str, topic: &str, isolation: &str, more: &[&str]) -> serde_json::Value {
    let line = output(&mut java(LEDGER, &[&[bootstrap, topic, isolation], more].concat()), "");
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("no line of JSON ({e}): {line}"))
}

#[test]
fn what_was_produced_is_there_after_the_broker_was_killed() {
    let kafka = Kafka::start(1, &["num.partitions=3"]);
    let at = kafka.bootstrap();
    create_topic(at, "a", &[]);
    produce(at, "a", "k0=zero\nk1=one\nk2=two\nk0=zero again\nk4=four\n");
    let all = ["k0=zero", "k0=zero again", "k1=one", "k2=two", "k4=four"];
    assert_eq!(kcat(at, "a"), all);
    let read = ["--bootstrap-server", at, "--topic", "a", "--from-beginning", "--max-messages", "5"];
    let values = output(&mut java(CONSUMER, &read), "");
    assert!(values.lines().count() == 5 && values.contains("zero again"), "{values}");

    let pid = kafka.pid(1);
    kafka.kill(1);
    assert!(!runs(pid) && TcpStream::connect(at).is_err());
    kafka.restart(1);
    assert_ne!(kafka.pid(1), pid);
    assert_eq!(kcat(at, "a"), all);
    // The broker's own setting arrived: three partitions without being asked.
    let described = output(&mut java(TOPICS, &["--bootstrap-server", at, "--describe", "--topic", "a"]), "");
    assert!(described.contains("PartitionCount: 3"), "{described}");

    kafka.stop(1);
    kafka.restart(1);
    assert_eq!(kcat(at, "a"), all);
}

#[test]
fn a_suspended_broker_answers_nobody_until_it_goes_on() {
    let kafka = Kafka::start(1, &[]);
    let topics = || {
        let mut c = Command::new("kcat");
        c.args(["-L", "-m", "2", "-b", kafka.bootstrap()]).output().unwrap().status.success()
    };
    assert!(topics());
    kafka.pause(1);
    assert!(!topics());
    kafka.resume(1);
    assert!(eventually(LIMIT, topics));
}

#[test]
fn three_nodes_survive_the_loss_of_one() {
    let kafka = Kafka::start(3, &[]);
    let at = kafka.bootstrap();
    create_topic(at, "a", &["--config", "max.message.bytes=12582912"]);
    kafka.kill(2);
    // 11 MiB, a line each, acknowledged by the replicas that are left.
    let large = "x".repeat(11 << 20);
    let mut c = Command::new("kcat");
    c.args(["-P", "-b", at, "-t", "a", "-K", "=", "-X", "acks=all", "-X", "message.max.bytes=12582912"]);
    output(&mut c, &format!("k1={large}\nk2={large}\n"));
    kafka.restart(2);
    // What it missed reaches it, whole: then it may be the only one left of those that are up to date.
    let in_sync = || {
        let under = ["--bootstrap-server", at, "--describe", "--under-replicated-partitions"];
        output(&mut java(TOPICS, &under), "").is_empty()
    };
    assert!(eventually(LIMIT, in_sync));
    let lengths: Vec<usize> = kcat(at, "a").iter().map(String::len).collect();
    assert_eq!(lengths, [large.len() + 3; 2]);
}

#[test]
fn the_ledger_finds_what_is_missing_repeated_foreign_and_not_committed() {
    let (at, topic) = (Kafka::shared(), unique("ledger"));
    create_topic(at, &topic, &["--partitions", "2"]);
    produce(at, &topic, "k0=a\nk1=b\nk1=c\nk1=d\nk3=e\nother=f\n");
    let found = ledger(at, &topic, "read_committed", &["key", "k%d", "5"]);
    let expected = serde_json::json!({
        "topic": topic, "records": 6, "distinct": 4, "without": 0, "unreadable": 0,
        "repeated": 1, "repeated_such_as": ["k1"], "most": 3,
        "missing": 2, "missing_such_as": ["k2", "k4"], "foreign": 1,
    });
    assert_eq!(found, expected);
    // By a header, which kcat sets and the others lack.
    let mut c = Command::new("kcat");
    output(c.args(["-P", "-b", at, "-t", &topic, "-H", "task=t1"]), "two\nrecords\n");
    let found = ledger(at, &topic, "read_committed", &["header:task"]);
    assert_eq!((&found["records"], &found["distinct"], &found["without"]), (&8.into(), &1.into(), &6.into()));
    assert_eq!((&found["most"], &found["missing"]), (&2.into(), &serde_json::Value::Null));

    // A transaction that nobody ends.
    let open = Transaction::left_open(at, &topic);
    let (committed, all) = (ledger(at, &topic, "read_committed", &[]), ledger(at, &topic, "read_uncommitted", &[]));
    assert_eq!((&committed["records"], &committed["unreadable"]), (&8.into(), &1.into()));
    assert_eq!((&all["records"], &all["unreadable"]), (&9.into(), &0.into()));
    open.abort();
    let ended = || ledger(at, &topic, "read_committed", &[])["unreadable"] == 0;
    assert!(eventually(LIMIT, ended));
    assert_eq!(ledger(at, &topic, "read_committed", &[])["records"], 8);
}

/// One record in a transaction whose producer has gone.
struct Transaction {
    at: &'static str,
    topic: String,
}

impl Transaction {
    fn left_open(at: &'static str, topic: &str) -> Transaction {
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
        let producer: BaseProducer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", at)
            .set("transactional.id", unique("open"))
            .set("transaction.timeout.ms", "600000")
            .create()
            .unwrap();
        producer.init_transactions(LIMIT).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(topic).key("k0").payload("open").partition(0)).unwrap();
        producer.flush(LIMIT).unwrap();
        Transaction { at, topic: topic.to_owned() }
    }

    /// With Kafka's tool, as a person would.
    fn abort(self) {
        let run = |args: &[&str]| {
            let at = ["--bootstrap-server", self.at];
            output(&mut java(TRANSACTIONS, &[&at, args, &["--topic", &self.topic, "--partition", "0"]].concat()), "")
        };
        let producers = run(&["describe-producers"]);
        // A line a producer, in any order; the start offset is a number where a transaction is open.
        let open = |line: &str| line.split_whitespace().nth(5)?.parse::<u64>().ok();
        let start = producers.lines().find_map(open).unwrap_or_else(|| panic!("no open transaction in {producers}"));
        run(&["abort", "--start-offset", &start.to_string()]);
    }
}

#[test]
fn the_registry_takes_a_schema_and_gives_it_back() {
    let request = |method: &str, rest: &str, body: &str| {
        let kind = "application/vnd.schemaregistry.v1+json";
        let (status, answer) = http(method, &format!("{}{rest}", Registry::shared()), kind, body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let schema = serde_json::json!({"schema": "\"string\""}).to_string();
    let id = &request("POST", &format!("/subjects/{}/versions", unique("s")), &schema)["id"];
    assert_eq!(request("GET", &format!("/schemas/ids/{id}"), "")["schema"], "\"string\"");
}

#[test]
fn what_was_indexed_is_there_after_opensearch_was_killed() {
    let server = OpenSearch::start(&["thread_pool.write.queue_size: 17"]);
    let at = |rest: &str| format!("{}/{rest}", server.url());
    let (status, _) = http("PUT", &at("a/_doc/1"), "application/json", r#"{"text": "tide"}"#);
    assert_eq!(status, 201);
    let pid = server.pid();
    server.kill();
    assert!(!runs(pid));
    server.restart();
    assert_ne!(server.pid(), pid);
    let found = http("GET", &at("a/_search?q=tide"), "application/json", "").1;
    assert_eq!(found["hits"]["hits"][0]["_id"], "1", "{found}");
    // Its own setting arrived, and outlasts the restart.
    let nodes = http("GET", &at("_nodes/thread_pool?filter_path=**.write.queue_size"), "application/json", "").1;
    assert!(nodes.to_string().contains("17"), "{nodes}");
}

/// Run by the test below in a process of its own, which is then killed.
#[test]
#[ignore = "a part of a_killed_test_leaves_no_broker_behind"]
fn holds_a_broker_until_it_is_killed() {
    let kafka = Kafka::start(1, &[]);
    println!("\nHOLDS {} {}", kafka.pid(1), kafka.folder().display());
    std::thread::sleep(LIMIT);
}

#[test]
fn a_killed_test_leaves_no_broker_behind() {
    let mut c = Command::new(std::env::current_exe().unwrap());
    c.args(["--exact", "holds_a_broker_until_it_is_killed", "--ignored", "--nocapture"]);
    let mut child = c.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.into_iter().find_map(|l| l.strip_prefix("HOLDS ").map(str::to_owned)).expect("it holds a broker");
    let (pid, folder) = line.split_once(' ').unwrap();
    let (pid, folder) = (pid.parse().unwrap(), Path::new(folder));
    assert!(runs(pid) && folder.is_dir());
    // A suspended broker too.
    assert!(Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap().success());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(eventually(Duration::from_secs(60), || !runs(pid) && !folder.exists()), "{pid} {}", folder.display());
}

#[test]
fn a_dropped_broker_is_gone_at_once() {
    let kafka = Kafka::start(1, &[]);
    let (pid, folder, from) = (kafka.pid(1), kafka.folder().to_owned(), Instant::now());
    drop(kafka);
    assert!(!runs(pid) && !folder.exists(), "after {:?}", from.elapsed());
}
