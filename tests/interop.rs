//! Other people's clients on our topics: the programs in examples/, kcat, and Kafka's console tools. Each puts URLs on
//! `urls` and sees in `enriched` what came of them. And the other way round: `dlq` on dead letters that Spring Kafka, Kafka
//! Connect and Kafka Streams wrote.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use services::{
    CONSUMER, GROUPS, Kafka, PRODUCER, TOPICS, create_topic, java, java_example, java_letters, python_example, unique,
    until_readable,
};
use tempfile::TempDir;
use tidemill::topology::{ENRICHED, PARTITIONS, URLS};
use tidemill::transport::partitioner::partition;
use whole::server::{Reply, Server};
use whole::{LIMIT, Running, Tidemill, eventually, output};

/// Titles of the documents that came of the URLs, by URL. The last part of a URL's path is its page's title.
type Titles = BTreeMap<String, String>;

fn title(url: &str) -> String {
    url.rsplit('/').next().unwrap().to_owned()
}

fn titles(urls: &[String]) -> Titles {
    urls.iter().map(|u| (u.clone(), title(u))).collect()
}

/// `examples/python`, once with bare URLs, or with an attribute, which makes them JSON.
fn python(at: &str, prefix: &str, urls: &[String], attr: Option<&str>) -> Titles {
    let mut c = python_example("produce_and_read.py", &["--brokers", at, "--prefix", prefix]);
    c.args(attr.map(|a| format!("--attr={a}"))).args(urls);
    let documents = output(&mut c, "");
    let document = |line: &str| {
        let d: serde_json::Value = serde_json::from_str(line).unwrap();
        let attrs: Vec<String> =
            d["attrs"].as_object().unwrap().iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap())).collect();
        assert_eq!(attrs, attr.iter().copied().collect::<Vec<_>>());
        (d["asked"].as_str().unwrap().to_owned(), d["title"].as_str().unwrap().to_owned())
    };
    documents.lines().map(document).collect()
}

/// `examples/java`.
fn java_program(at: &str, prefix: &str, urls: &[String]) -> Titles {
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let lines = output(&mut java_example("ProduceAndRead.java", &[&[at, prefix], &urls[..]].concat()), "");
    let document = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[0].to_owned(), fields[1].to_owned())
    };
    lines.lines().map(document).collect()
}

/// kcat, keyed by host as `urls` wants it; true when a record of each URL is in `enriched`.
fn kcat(at: &str, prefix: &str, host: &str, urls: &[String]) -> bool {
    let lines: String = urls.iter().map(|u| format!("{host} {u}\n")).collect();
    let mut c = Command::new("kcat");
    c.args(["-P", "-b", at, "-t", &format!("{prefix}urls"), "-K", " ", "-X", "partitioner=murmur2_random"]);
    output(&mut c, &lines);
    let enriched = format!("{prefix}enriched");
    eventually(LIMIT, || {
        let mut c = Command::new("kcat");
        c.args(["-C", "-e", "-q", "-b", at, "-t", &enriched, "-o", "beginning", "-f", "%h\\n"]);
        let headers = output(c.args(["-X", "isolation.level=read_committed"]), "");
        let seen: BTreeSet<&str> = headers.split([',', '\n']).filter_map(|h| h.strip_prefix("tidemill.url=")).collect();
        urls.iter().all(|u| seen.contains(u.as_str()))
    })
}

/// Kafka's own console tools, without keys; true when a record of each URL is in `enriched`.
fn console(at: &str, prefix: &str, urls: &[String]) -> bool {
    let to = ["--bootstrap-server", at, "--topic", &format!("{prefix}urls")];
    output(&mut java(PRODUCER, &to), &urls.join("\n"));
    let enriched = format!("{prefix}enriched");
    eventually(LIMIT, || {
        let from = ["--bootstrap-server", at, "--topic", &enriched, "--from-beginning", "--timeout-ms", "5000"];
        let print = ["--isolation-level", "read_committed", "--formatter-property", "print.headers=true"];
        let only = ["--formatter-property", "print.value=false"];
        let headers = output(&mut java(CONSUMER, &[&from[..], &print, &only].concat()), "");
        let seen: BTreeSet<&str> = headers.split([',', '\n']).filter_map(|h| h.strip_prefix("tidemill.url:")).collect();
        urls.iter().all(|u| seen.contains(u.as_str()))
    })
}

/// What Kafka's own tool says a group has yet to do in a topic.
fn lag(at: &str, group: &str, topic: &str) -> i64 {
    let described = output(&mut java(GROUPS, &["--bootstrap-server", at, "--describe", "--group", group]), "");
    let lags = described.lines().filter_map(|l| {
        let fields: Vec<&str> = l.split_whitespace().collect();
        (fields.get(1) == Some(&topic)).then(|| fields[5].parse::<i64>().unwrap_or(0))
    });
    lags.sum()
}

/// Keys and partitions of what is on `urls`.
fn placed(at: &str, prefix: &str) -> Vec<(String, i32)> {
    let mut c = Command::new("kcat");
    c.args(["-C", "-e", "-q", "-b", at, "-t", &format!("{prefix}urls"), "-o", "beginning", "-f", "%p %k\\n"]);
    let lines = output(&mut c, "");
    lines.lines().map(|l| l.split_once(' ').unwrap()).map(|(p, k)| (k.to_owned(), p.parse().unwrap())).collect()
}

/// The real pipeline on the shared broker, with topics of its own.
struct Pipeline {
    prefix: String,
    _running: Running,
    _folder: TempDir,
}

impl Pipeline {
    fn start(at: &str) -> Pipeline {
        let (prefix, folder) = (format!("{}.", unique("interop")), tempfile::tempdir().unwrap());
        let polite = ["--delay", "0", "--allow-address", "127.0.0.1", "--listen", "127.0.0.1:0"];
        let mut c = Tidemill::new(folder.path()).command(&[&["run", "--brokers", at], &polite[..]].concat());
        let running = Running::start(c.env("TIDEMILL_PREFIX", &prefix));
        for topic in [URLS, ENRICHED] {
            until_readable(at, &format!("{prefix}{topic}"));
        }
        Pipeline { prefix, _running: running, _folder: folder }
    }
}

#[test]
fn every_client_writes_urls_and_reads_documents() {
    let at = Kafka::shared();
    let pipeline = Pipeline::start(at);
    let prefix = &pipeline.prefix;
    let server = Server::start(|path, _| Reply::page(path.rsplit('/').next().unwrap()));
    let host = server.address.to_string();
    let urls = |client: &str| (0..3).map(|i| server.url(&format!("/{client}/{client}-{i}"))).collect::<Vec<_>>();

    let (bare, json) = (urls("bare"), urls("json"));
    assert_eq!(python(at, prefix, &bare, None), titles(&bare));
    assert_eq!(python(at, prefix, &json, Some("shelf=a b")), titles(&json));
    assert_eq!(java_program(at, prefix, &urls("java")), titles(&urls("java")));
    assert!(kcat(at, prefix, &host, &urls("kcat")));
    // All of them put the host where everybody else does.
    let expected = vec![(host.clone(), partition(host.as_bytes(), PARTITIONS)); 12];
    assert_eq!(placed(at, prefix), expected);
    assert!(console(at, prefix, &urls("console")));
    // A transaction's marker is nobody's work, and nobody's monitoring counts it.
    for (stage, topic) in [("extract", "pages"), ("index", "enriched")] {
        let (group, topic) = (format!("{prefix}{stage}"), format!("{prefix}{topic}"));
        assert!(eventually(LIMIT, || lag(at, &group, &topic) == 0), "{}", lag(at, &group, &topic));
    }
}

#[test]
fn a_url_without_a_document_is_said() {
    let at = Kafka::shared();
    let prefix = format!("{}.", unique("interop"));
    for topic in [URLS, ENRICHED] {
        create_topic(at, &format!("{prefix}{topic}"), &[]);
    }
    let mut c = python_example("produce_and_read.py", &["--brokers", at, "--prefix", &prefix, "--wait", "1"]);
    let ended = Running::start(c.arg("http://a.test/never")).ended(LIMIT).expect(3);
    assert!(ended.stderr.contains("http://a.test/never") && ended.stderr.contains("explain"), "{}", ended.stderr);
}

// ---- dead letters of others

/// What a library wrote, as the program that made it do so says, by id.
fn letters_of(at: &str, library: &str, prefix: &str) -> BTreeMap<String, Value> {
    let lines = output(&mut java_letters(&[at, library, prefix]), "");
    let id = |v: &Value| format!("{}/{}/{}", v["topic"].as_str().unwrap(), v["partition"], v["offset"]);
    lines.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).map(|v| (id(&v), v)).collect()
}

/// `tidemill`, on a cluster where there is no Tidemill.
fn on(at: &str, prefix: &str, folder: &TempDir, args: &[&str]) -> whole::Ended {
    let mut c = Tidemill::new(folder.path()).command(&[args, &["--brokers", at]].concat());
    Running::start(c.env("TIDEMILL_PREFIX", format!("{prefix}tidemill."))).ended(LIMIT)
}

/// Key, value and the user's headers, bytes as base64, as `tail --json` and the Java program show them.
fn told(r: &Value) -> (Value, Value, Vec<Value>) {
    use base64::Engine as _;
    let base64 = |v: &Value| -> Value {
        match v {
            Value::String(s) => base64::engine::general_purpose::STANDARD.encode(s).into(),
            Value::Object(o) if o.contains_key("base64") => o["base64"].clone(),
            other => other.clone(),
        }
    };
    let of = |text: &str, bytes: &str| match r.get(bytes) {
        Some(b) => b.clone(),
        None => match &r[text] {
            json @ Value::Object(_) => base64(&json.to_string().into()),
            other => base64(other),
        },
    };
    let headers: Vec<(String, Value)> = match &r["headers"] {
        Value::Array(list) => list.iter().map(|p| (p[0].as_str().unwrap().to_owned(), base64(&p[1]))).collect(),
        Value::Object(map) => map.iter().map(|(n, v)| (n.clone(), base64(v))).collect(),
        _ => vec![],
    };
    let user = |n: &str| matches!(n, "n" | "trace" | "binary" | "empty" | "null");
    let headers = headers.into_iter().filter(|(n, _)| user(n)).map(|(n, v)| serde_json::json!([n, v])).collect();
    (of("key", "key_base64"), of("value", "value_base64"), headers)
}

#[test]
fn letters_of_spring_connect_and_streams_are_read_and_go_back_where_they_came_from() {
    let at = Kafka::shared();
    let folder = tempfile::tempdir().unwrap();
    for (library, topic, writer) in [
        ("spring", "orders-dlt", "Spring Kafka"),
        ("connect", "orders-connect-dlq", "Kafka Connect"),
        ("streams", "orders-streams-dlq", "Kafka Streams"),
    ] {
        let prefix = format!("{}.", unique(library));
        let written = letters_of(at, library, &prefix);
        let (topic, orders) = (format!("{prefix}{topic}"), format!("{prefix}orders"));
        let tool = |args: &[&str]| on(at, &prefix, &folder, args).expect(0).json();

        // Seen as they were written.
        let shown = tool(&["dlq", "ls", "--topic", &topic, "--json"]);
        let shown = shown.as_array().unwrap();
        assert_eq!((shown.len(), written.len()), (12, 12), "{library}");
        for letter in shown {
            let w = &written[letter["id"].as_str().unwrap()];
            // Spring says first where a record came from at first, the others add where it was last.
            let from = if library == "spring" { &w["original"] } else { &w["failed"] };
            assert_eq!(letter["writer"], writer);
            for field in ["topic", "partition", "offset"] {
                assert_eq!(letter[field], from[field], "{library}: {letter} {w}");
            }
            assert!(letter["class"].as_str().unwrap().contains('.') && !letter["fingerprint"].is_null(), "{letter}");
        }
        // By cause: the orders that lack stock, those that are not paid (one died twice), and so on.
        let stats = tool(&["dlq", "stats", "--topic", &topic, "--by", "class,fingerprint", "--json"]);
        let sizes = |class: &str| -> Vec<u64> {
            let groups = stats["groups"].as_array().unwrap().iter().filter(|g| g["class"] == class);
            groups.map(|g| g["letters"].as_u64().unwrap()).collect()
        };
        assert_eq!(sizes("java.io.UncheckedIOException"), [3], "{library}: {stats}");
        let stock = sizes("java.lang.IllegalStateException");
        assert_eq!(stock[0], 3, "{library}: {stats}");
        let of_class = tool(&["dlq", "ls", "--topic", &topic, "--class", "UncheckedIOException", "--json"]);
        assert_eq!(of_class.as_array().unwrap().len(), 3);
        let unread = tool(&[
            "dlq",
            "ls",
            "--topic",
            &topic,
            "--grep",
            "rocessingException|ParseException|EOFException",
            "--json",
        ]);
        assert!(unread.as_array().unwrap().len() >= 2, "the reason is in the innermost exception: {library}: {unread}");

        // Back, once.
        let dry = tool(&["dlq", "replay", "--topic", &topic, "--all", "--dry-run", "--json"]);
        assert_eq!((&dry["replayed"], &dry["to"][&orders]), (&12.into(), &12.into()), "{library}: {dry}");
        let done = tool(&["dlq", "replay", "--topic", &topic, "--all", "--json"]);
        assert_eq!(done["replayed"], 12, "{library}: {done}");
        let again = tool(&["dlq", "replay", "--topic", &topic, "--all", "--json"]);
        assert_eq!((&again["replayed"], &again["already"]), (&0.into(), &12.into()), "{library}");
        let lines = on(at, &prefix, &folder, &["tail", &orders, "--from", "start", "-n", "1000", "--json"]).expect(0);
        let (mut before, mut back) = (BTreeMap::new(), vec![]);
        for r in lines.stdout.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()) {
            match r["headers"].to_string().contains("tidemill.replay") {
                true => back.push(r),
                false => drop(before.insert((r["partition"].to_string(), r["offset"].to_string()), r)),
            }
        }
        assert_eq!(back.len(), 12, "{library}");
        for w in written.values() {
            // As the order was, also where the letter has neither key nor value; without anybody's failure headers.
            let from = if library == "spring" { &w["original"] } else { &w["failed"] };
            let order = told(&before[&(from["partition"].to_string(), from["offset"].to_string())]);
            let same = |r: &&Value| told(r) == order && r["partition"] == from["partition"];
            let r = back.iter().find(same).unwrap_or_else(|| panic!("{library}: {w} is not among {back:?}"));
            let headers = r["headers"].to_string();
            assert!(!headers.contains("kafka_dlt") && !headers.contains(".errors."), "{headers}");
        }
        // What became of them: nobody has died again.
        let runs = tool(&["dlq", "runs", "--json"]);
        assert_eq!((&runs[0]["letters"], &runs[0]["waiting"]), (&12.into(), &12.into()), "{runs}");
        // The cluster got one topic of ours, that of the markers.
        let list = output(&mut java(TOPICS, &["--bootstrap-server", at, "--list"]), "");
        let ours: Vec<&str> = list.lines().filter(|t| t.starts_with(&format!("{prefix}tidemill."))).collect();
        assert_eq!(ours, [format!("{prefix}tidemill.replays")]);
        // Thrown away, they are gone, also from the log.
        let purged = tool(&["dlq", "purge", "--topic", &topic, "--replayed", "--yes", "--json"]);
        assert_eq!((&purged["replayed"], &purged["freed"]), (&12.into(), &12.into()), "{purged}");
        let left = tool(&["dlq", "stats", "--topic", &topic, "--all", "--json"]);
        assert_eq!(left["letters"], 0);
    }
}

#[test]
fn a_topic_without_failure_headers_is_looked_at_and_goes_where_one_says() {
    let at = Kafka::shared();
    let folder = tempfile::tempdir().unwrap();
    let prefix = format!("{}.", unique("raw"));
    output(&mut java_letters(&[at, "raw", &prefix]), "");
    let topic = format!("{prefix}orders-raw");
    let tool = |args: &[&str]| on(at, &prefix, &folder, args);
    assert_eq!(tool(&["dlq", "stats", "--topic", &topic, "--json"]).expect(0).json()["letters"], 13);
    let stuck = tool(&["dlq", "replay", "--topic", &topic, "--all", "--json"]).expect(0).json();
    assert_eq!(stuck["replayed"], 0, "{stuck}");
    assert!(stuck["stuck"].to_string().contains("name a topic with --to"), "{stuck}");
    let to = format!("{prefix}orders-raw-again");
    create_topic(at, &to, &["--partitions", "2"]);
    let edit = r#"{"value":{"customer":"changed"},"headers":{"trace":null}}"#;
    let args = ["dlq", "replay", "--topic", &topic, "--path", "$.customer", "--to", &to, "--edit", edit];
    let diff = tool(&[&args[..], &["--dry-run"]].concat()).expect(0);
    assert!(diff.stderr.contains("+  \"customer\": \"changed\"") && diff.stderr.contains("-header trace"), "{diff:?}");
    let unasked = tool(&args).expect(2);
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
    let done = tool(&[&args[..], &["--yes", "--json"]].concat()).expect(0).json();
    let sent = done["replayed"].as_u64().unwrap();
    assert!(sent >= 8, "{done}");
    let lines = tool(&["tail", &to, "--from", "start", "-n", "1000", "--json"]).expect(0).stdout;
    let all: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(all.len() as u64, sent);
    for r in &all {
        assert_eq!(r["value"]["customer"], "changed");
        assert!(!r["headers"].to_string().contains("trace"), "{r}");
    }
    let nowhere = tool(&["dlq", "ls", "--topic", &format!("{prefix}nothing")]).expect(1);
    assert!(nowhere.stderr.contains("there is no topic"), "{nowhere:?}");
}
