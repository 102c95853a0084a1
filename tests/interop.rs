//! Other people's clients on our topics: the programs in examples/, kcat, and Kafka's console tools. Each puts URLs on
//! `urls` and sees in `enriched` what came of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use services::{
    CONSUMER, GROUPS, Kafka, PRODUCER, create_topic, java, java_example, python_example, unique, until_readable,
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
