//! Real services for tests: a Kafka, a schema registry, an OpenSearch, a Redis, an S3 server, Kafka's own Java tools. The
//! scripts beside this file start them (and install them first, if need be); each ends with the process that started it,
//! even when that is killed.

// Each test file is a crate of its own and uses some of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "these helpers wait on processes, in threads of their own")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// `HOST:PORT` of a broker to use as the shared one; `tests/run` sets it.
const SHARED_KAFKA: &str = "TIDEMILL_TEST_KAFKA";
/// URL of a registry's Confluent API to use as the shared one.
const SHARED_REGISTRY: &str = "TIDEMILL_TEST_REGISTRY";

/// A Kafka of its own, for a test that does things to it.
pub struct Kafka {
    held: Held,
}

impl Kafka {
    /// Starts so many nodes, each broker and controller. `extra`: broker properties such as
    /// `group.coordinator.rebalance.protocols=classic`; the last word on each.
    pub fn start(nodes: u32, extra: &[&str]) -> Kafka {
        Kafka { held: Held::start("kafka", &[&nodes.to_string()], &[("KAFKA_EXTRA", &extra.join("\n"))]) }
    }

    /// Bootstrap servers of a broker that all tests share, of all test binaries under `tests/run`, else of this one. Use
    /// [`unique`] names on it.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<(String, Option<Kafka>)> = OnceLock::new();
        let (bootstrap, _kafka) = SHARED.get_or_init(|| match std::env::var(SHARED_KAFKA) {
            Ok(bootstrap) => (bootstrap, None),
            Err(_) => {
                let kafka = Kafka::start(1, &[]);
                (kafka.bootstrap().to_owned(), Some(kafka))
            }
        });
        bootstrap
    }

    /// `HOST:PORT` of each node, comma separated.
    pub fn bootstrap(&self) -> &str {
        &self.held.says
    }

    /// Its data and logs, a folder `node<i>` each.
    pub fn folder(&self) -> &Path {
        &self.held.folder
    }

    /// Process id of a node (from 1) when it was last started.
    pub fn pid(&self, node: u32) -> u32 {
        let file = self.folder().join(format!("node{node}/pid"));
        std::fs::read_to_string(file).expect("a node has a pid file").trim().parse().unwrap()
    }

    /// Kills a node where it stands (SIGKILL).
    pub fn kill(&self, node: u32) {
        self.signal(node, "KILL");
        until(&format!("node {node} has ended"), || !runs(self.pid(node)));
    }

    /// Lets a node shut down in order (SIGTERM).
    pub fn stop(&self, node: u32) {
        self.signal(node, "TERM");
        until(&format!("node {node} has ended"), || !runs(self.pid(node)));
    }

    /// Starts a node again on its data, and waits until it answers.
    pub fn restart(&self, node: u32) {
        let mut c = script("kafka");
        let done = c.arg("--node").arg(self.folder()).arg(node.to_string()).stdin(Stdio::null()).status().unwrap();
        assert!(done.success(), "node {node} did not come back; its log is above");
    }

    /// Suspends a node (SIGSTOP): its connections stay open, and nothing answers.
    pub fn pause(&self, node: u32) {
        self.signal(node, "STOP");
        // Each thread stops when it sees the signal, a moment later.
        until(&format!("node {node} is suspended"), || states(self.pid(node)).iter().all(|s| *s == b'T'));
    }

    /// Lets a suspended node go on.
    pub fn resume(&self, node: u32) {
        self.signal(node, "CONT");
    }

    fn signal(&self, node: u32, name: &str) {
        signal(self.pid(node), name);
    }
}

fn signal(pid: u32, name: &str) {
    assert!(runs(pid), "{pid} is not running");
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.expect("kill is there").success());
}

/// An OpenSearch of one node.
pub struct OpenSearch {
    held: Held,
}

impl OpenSearch {
    /// Starts one. `extra`: more lines for opensearch.yml, such as `thread_pool.write.queue_size: 1`.
    pub fn start(extra: &[&str]) -> OpenSearch {
        OpenSearch { held: Held::start("opensearch", &[], &[("OPENSEARCH_EXTRA", &extra.join("\n"))]) }
    }

    /// URL of one that all tests of this binary share. Use [`unique`] names on it.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<OpenSearch> = OnceLock::new();
        SHARED.get_or_init(|| OpenSearch::start(&[])).url()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.held.says
    }

    /// Process id when it was last started.
    pub fn pid(&self) -> u32 {
        self.held.pid()
    }

    /// Kills it where it stands (SIGKILL).
    pub fn kill(&self) {
        self.held.kill();
    }

    /// Starts it again on its data, and waits until it answers.
    pub fn restart(&self) {
        self.held.restart("opensearch", &[]);
    }
}

/// A Redis that keeps all in memory: one that was killed has forgotten everything.
pub struct Redis {
    held: Held,
    extra: String,
}

impl Redis {
    /// Starts one. `extra`: more of its options, such as `--requirepass hush`.
    pub fn start(extra: &str) -> Redis {
        Redis { held: Held::start("redis", &[], &[("REDIS_EXTRA", extra)]), extra: extra.to_owned() }
    }

    /// URL of one that all tests of this binary share. Use [`unique`] prefixes on it.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| Redis::start("")).url()
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.held.says
    }

    /// Kills it where it stands (SIGKILL).
    pub fn kill(&self) {
        self.held.kill();
    }

    /// Starts it again, empty, and waits until it answers.
    pub fn restart(&self) {
        self.held.restart("redis", &[("REDIS_EXTRA", &self.extra)]);
    }

    /// Suspends it (SIGSTOP): its connections stay open, and nothing answers.
    pub fn pause(&self) {
        self.held.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        signal(self.held.pid(), "CONT");
    }
}

/// An S3 server with a bucket [`S3::BUCKET`]; [`S3::KEY`] is both of its keys.
pub struct S3 {
    held: Held,
}

impl S3 {
    pub const BUCKET: &str = "tidemill";
    pub const KEY: &str = "tidemill-test";

    /// Starts one.
    pub fn start() -> S3 {
        S3 { held: Held::start("s3", &[], &[]) }
    }

    /// Endpoint of one that all tests of this binary share. Use [`unique`] prefixes on it.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(S3::start).url()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.held.says
    }

    /// Its bucket's objects, a file each.
    pub fn folder(&self) -> PathBuf {
        self.held.folder.join("data").join(S3::BUCKET)
    }

    /// Kills it where it stands (SIGKILL).
    pub fn kill(&self) {
        self.held.kill();
    }

    /// Starts it again on its data, and waits until it answers.
    pub fn restart(&self) {
        self.held.restart("s3", &[]);
    }
}

/// A schema registry (Apicurio, in memory) with the Confluent API.
pub struct Registry {
    held: Held,
}

impl Registry {
    /// Starts one.
    pub fn start() -> Registry {
        Registry { held: Held::start("apicurio", &[], &[]) }
    }

    /// URL of one that all tests share; use [`unique`] subjects on it. Started when first asked for.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<(String, Option<Registry>)> = OnceLock::new();
        let (url, _registry) = SHARED.get_or_init(|| match std::env::var(SHARED_REGISTRY) {
            Ok(url) => (url, None),
            Err(_) => {
                let registry = Registry::start();
                (registry.url().to_owned(), Some(registry))
            }
        });
        url
    }

    /// URL of its Confluent API; `/subjects` and the rest come after it.
    pub fn url(&self) -> &str {
        &self.held.says
    }
}

/// One request as a person's curl would send it; status and body, null if that is no JSON. `kind`: its content type.
pub fn http(method: &str, url: &str, kind: &str, body: &str) -> (u16, serde_json::Value) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let length = body.len();
    let head = format!("{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}");
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// An HTTPS server before another one: it lets through what is signed as it wants.
pub struct Front {
    held: Held,
}

impl Front {
    /// `wants`: `FRONT_BASIC` or `FRONT_SIGV4`, and the value; see the script.
    pub fn start(target: &str, wants: (&str, &str)) -> Front {
        Front { held: Held::start("front", &[target], &[wants]) }
    }

    /// `https://localhost:PORT`.
    pub fn url(&self) -> &str {
        &self.held.says
    }

    /// Who signed its certificate, PEM.
    pub fn ca(&self) -> PathBuf {
        self.held.folder.join("ca.pem")
    }
}

/// A script under `--hold`: it ends its service when the pipe to it closes, so when this is dropped and when this process
/// dies.
struct Held {
    script: Child,
    folder: PathBuf,
    /// The line it printed when the service was up.
    says: String,
}

impl Held {
    fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Held {
        let folder = std::env::temp_dir().join(unique(&format!("tidemill-{name}")));
        let mut c = script(name);
        c.arg("--hold").arg(&folder).arg("0").args(args).envs(env.iter().copied());
        // A group of its own: no Ctrl-C at the terminal ends it before this process.
        c.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut script = c.spawn().expect("bash is there");
        let mut says = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut says).unwrap();
        if says.is_empty() {
            let _failed = script.wait();
            panic!("{name} did not start; why is above");
        }
        Held { script, folder, says: says.trim().to_owned() }
    }

    /// Process id when it was last started.
    fn pid(&self) -> u32 {
        let file = self.folder.join("pid");
        std::fs::read_to_string(file).expect("it has a pid file").trim().parse().unwrap()
    }

    fn kill(&self) {
        let pid = self.pid();
        signal(pid, "KILL");
        until("it has ended", || !runs(pid));
    }

    fn restart(&self, name: &str, env: &[(&str, &str)]) {
        let mut c = script(name);
        c.arg(&self.folder).arg("0").envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        assert!(c.status().unwrap().success(), "{name} did not come back; its log is above");
    }

    fn pause(&self) {
        let pid = self.pid();
        signal(pid, "STOP");
        // Each thread stops when it sees the signal, a moment later.
        until("it is suspended", || states(pid).iter().all(|s| *s == b'T'));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _done = self.script.wait();
    }
}

/// Whether a process runs, or still holds its ports and files. One of which nothing is left but its status does not.
pub fn runs(pid: u32) -> bool {
    !matches!(states(pid)[..], [] | [b'Z'])
}

/// The states of a process's threads, as letters: see proc_pid_stat(5).
fn states(pid: u32) -> Vec<u8> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return vec![] };
    let stats = threads.flatten().filter_map(|t| std::fs::read(t.path().join("stat")).ok());
    // The state comes after the name, which is in brackets and may hold anything.
    stats.filter_map(|stat| stat.get(stat.iter().rposition(|c| *c == b')')? + 2).copied()).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < limit, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A name that nobody else uses on a shared service: legal for topics, groups and subjects.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::now_v7().simple())
}

/// A Java program with Kafka's jars: a class, such as [`TOPICS`], or a file of the checkout, such as [`LEDGER`], which is
/// compiled in memory.
pub fn java(program: &str, args: &[&str]) -> Command {
    let mut c = script("java");
    c.current_dir(env!("CARGO_MANIFEST_DIR")).arg(program).args(args);
    c
}

/// One of the programs in `examples/java`.
pub fn java_example(file: &str, args: &[&str]) -> Command {
    let mut c = script("java");
    c.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--example").arg(format!("examples/java/{file}")).args(args);
    c
}

/// Dead letters as these libraries write them: `BOOTSTRAP spring|connect|streams|raw PREFIX`.
pub fn java_letters(args: &[&str]) -> Command {
    let mut c = script("java");
    c.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--letters", "tests/letters/Letters.java"]).args(args);
    c
}

/// One of the programs in `examples/python`.
pub fn python_example(file: &str, args: &[&str]) -> Command {
    let mut c = script("python");
    c.current_dir(env!("CARGO_MANIFEST_DIR")).arg(format!("examples/python/{file}")).args(args);
    c
}

/// The reader of WARC files, by a program of its own.
pub fn warcio(args: &[&str]) -> Command {
    let mut c = script("warcio");
    c.args(args);
    c
}

/// Creates a topic with Kafka's tool, and waits until it can be used. `more`: `--partitions`, `--config`, …
#[track_caller]
pub fn create_topic(bootstrap: &str, topic: &str, more: &[&str]) {
    let args = ["--bootstrap-server", bootstrap, "--create", "--topic", topic];
    let done = java(TOPICS, &[&args, more].concat()).output().expect("bash is there");
    assert!(done.status.success(), "topic {topic} was not created: {}", String::from_utf8_lossy(&done.stdout));
    until_readable(bootstrap, topic);
}

/// Waits until a topic is there and each partition's leader answers: a moment after it was created it may not be so.
pub fn until_readable(bootstrap: &str, topic: &str) {
    until(&format!("{topic} can be read"), || {
        let to_the_end = ["-C", "-e", "-q", "-o", "end", "-b", bootstrap, "-t", topic];
        Command::new("kcat").args(to_the_end).output().expect("kcat is there").status.success()
    });
}

/// Creates, describes, alters topics.
pub const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
/// A line of stdin, a record.
pub const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
/// A record, a line of stdout.
pub const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
/// Finds and aborts transactions.
pub const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
/// Lists, describes, resets groups.
pub const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
/// Counts the records of a topic: `BOOTSTRAP TOPIC ISOLATION [PATTERN N]`.
pub const LEDGER: &str = "tests/ledger/Ledger.java";

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services").join(name))
}
