//! Values under a real schema registry (Apicurio): what is written anybody can read, what others wrote we read, and a
//! registry that is away or says no.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use serde_json::{Value, json};
use services::{Registry, unique};
use tempfile::TempDir;
use tidemill::record::{Headers, UrlTask};
use tidemill::topology::{self, Names, URLS};
use tidemill::transport::sqlite::Sqlite;
use tidemill::transport::{Incoming, Outgoing, Transport};
use whole::server::{Reply, Server};
use whole::{Ended, Running, Tidemill, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

// ---- the registry, asked without Tidemill

fn ask(method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _already = rustls::crypto::ring::default_provider().install_default();
    runtime.block_on(async {
        let url = format!("{}{path}", Registry::shared());
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let request = client.request(method.parse().unwrap(), url);
        let request = request.header("Content-Type", "application/vnd.schemaregistry.v1+json");
        let answer = request.body(body.map(|b| b.to_string()).unwrap_or_default()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    })
}

fn get(path: &str) -> Value {
    let (status, answer) = ask("GET", path, None);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

fn register(subject: &str, schema: &str) -> u32 {
    let (status, answer) = ask("POST", &format!("/subjects/{subject}/versions"), Some(json!({"schema": schema})));
    assert_eq!(status, 200, "{answer}");
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

fn subjects(prefix: &str) -> BTreeSet<String> {
    let all: Vec<String> = serde_json::from_value(get("/subjects")).unwrap();
    all.into_iter().filter(|s| s.starts_with(prefix)).collect()
}

/// Decodes as any consumer does: the schema of the value's id, and nothing of ours.
fn generic(value: &[u8]) -> BTreeMap<String, Avro> {
    assert_eq!(value[0], 0, "no Confluent framing: {value:?}");
    let id = u32::from_be_bytes(value[1..5].try_into().unwrap());
    let found = get(&format!("/schemas/ids/{id}"));
    let schema = apache_avro::Schema::parse_str(found["schema"].as_str().unwrap()).unwrap();
    let mut rest = &value[5..];
    let read = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes are left over", rest.len());
    match read {
        Avro::Record(fields) => fields.into_iter().collect(),
        other => panic!("no record: {other:?}"),
    }
}

fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

/// As a producer in another language writes.
fn foreign(id: u32, schema: &str, fields: &[(&str, Avro)]) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let record = Avro::Record(fields.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect());
    framed(id, &GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record).unwrap())
}

// ---- a small web, and Tidemill over it with topics of its own

struct Bench {
    _dir: TempDir,
    tidemill: Tidemill,
    prefix: String,
    site: Server,
    /// Registry to use when it is on.
    url: String,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let site = Server::start(|path, _| match path.strip_prefix("/page/") {
            Some(name) => Reply::page(&format!("harbour gauge {name}")),
            None => Reply::status(404),
        });
        let prefix = format!("{}.", unique("t"));
        let bench =
            Bench { tidemill: Tidemill::new(dir.path()), _dir: dir, prefix, site, url: Registry::shared().into() };
        bench.configure("");
        bench
    }

    /// The registry is on, with more settings.
    fn configure(&self, more: &str) {
        self.write(&format!("url = \"{}\"\n{more}", self.url));
    }

    fn off(&self) {
        self.write("");
    }

    fn write(&self, registry: &str) {
        let text = format!("prefix = \"{}\"\n[registry]\n{registry}\n[fetch]\ndelay = \"0s\"\n", self.prefix);
        let text = format!("{text}allow_addresses = [\"127.0.0.1/32\"]\n[engine]\nladder = \"quick\"\n");
        std::fs::write(self.tidemill.dir.join("tidemill.toml"), text).unwrap();
    }

    fn file(&self, name: &str, urls: &[String]) {
        std::fs::write(self.tidemill.dir.join(name), urls.join("\n")).unwrap();
    }

    fn page(&self, name: &str) -> String {
        self.site.url(&format!("/page/{name}"))
    }

    /// Stays up. The topics are there when this returns.
    fn work(&self) -> Running {
        self.tidemill.run(&["status"]).expect(0);
        self.tidemill.start(&["run", "--listen", "127.0.0.1:0"])
    }

    fn subject(&self, topic: &str) -> String {
        format!("{}{topic}-value", self.prefix)
    }

    /// Log, read without Tidemill's codec.
    fn records(&self, topic: &str) -> Vec<Incoming> {
        self.log(async |log, names| whole::records(log, names, topic).await)
    }

    fn log<T>(&self, f: impl AsyncFnOnce(&dyn Transport, &Names) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let log = Sqlite::open(&self.tidemill.data().join("log.db")).unwrap();
            f(&log, &Names::new(&self.prefix)).await
        })
    }

    /// Puts values on a topic, as a producer would.
    fn produce(&self, topic: &str, values: Vec<Vec<u8>>) {
        self.log(async |log, names| {
            let record = |value: Vec<u8>| Outgoing {
                tombstone: false,
                topic: names.full(topic).into(),
                partition: Some(0),
                key: Some(Bytes::from("k")),
                value: value.into(),
                headers: Headers::default(),
            };
            log.append(values.into_iter().map(record).collect()).await.unwrap();
        });
    }

    /// URLs in the index.
    fn indexed(&self) -> BTreeSet<String> {
        let found = rusqlite::Connection::open(self.tidemill.data().join("index.db")).and_then(|c| {
            let mut q = c.prepare("SELECT url FROM documents")?;
            q.query_map([], |r| r.get(0))?.collect()
        });
        // Before the tables are made there are none.
        found.unwrap_or_default()
    }

    #[track_caller]
    fn until_indexed(&self, urls: &[String], running: &mut Running) {
        let wanted: BTreeSet<String> = urls.iter().cloned().collect();
        let all = eventually(PATIENCE, || {
            assert!(running.poll().is_none(), "it ended by itself");
            wanted.is_subset(&self.indexed())
        });
        assert!(all, "wanted {wanted:?}, indexed {:?}, letters {:?}", self.indexed(), self.letters());
    }

    fn letters(&self) -> Vec<Value> {
        self.tidemill.json(&["dlq", "ls", "--json", "--all"]).as_array().unwrap().clone()
    }

    /// What became of a URL.
    fn outcomes(&self, url: &str) -> Vec<(String, String)> {
        let events = self.tidemill.json(&["explain", url, "--json"]);
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        events.as_array().unwrap().iter().map(|e| (text(&e["stage"]), text(&e["outcome"]))).collect()
    }
}

fn stop(running: Running) -> Ended {
    running.signal("TERM");
    running.ended(PATIENCE).expect(0)
}

/// One sentence on stderr with these words.
#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is missing: {}", ended.stderr);
    }
    assert!(ended.stderr.lines().count() <= 2 && ended.stderr.len() < 1_200, "{}", ended.stderr);
}

// ---- a way to the registry that can be closed

const OPEN: u8 = 0;
/// As a registry that is gone: connections break.
const CLOSED: u8 = 1;
/// As one that hangs: connections are taken and nothing is answered.
const SILENT: u8 = 2;

struct Gate {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    through: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    /// In front of the shared registry. With `auth`, requests without that header are answered 401, as a proxy in front of
    /// a registry does.
    fn new(auth: Option<&'static str>) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, through) = (Arc::new(AtomicU8::new(OPEN)), Arc::new(Mutex::new(vec![])));
        let (moded, list) = (Arc::clone(&mode), Arc::clone(&through));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                list.lock().unwrap().push(stream.try_clone().unwrap());
                match moded.load(Ordering::SeqCst) {
                    CLOSED => drop(stream.shutdown(Shutdown::Both)),
                    SILENT => {}
                    // A connection that breaks is no matter.
                    _ => drop(std::thread::spawn(move || pass(stream, auth))),
                }
            }
        });
        Gate { address, mode, through }
    }

    fn url(&self) -> String {
        let registry = url::Url::parse(Registry::shared()).unwrap();
        format!("http://{}{}", self.address, registry.path())
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
        for stream in self.through.lock().unwrap().drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut client: TcpStream, auth: Option<&str>) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let n = client.read(&mut head)?;
    if let Some(auth) = auth
        && !String::from_utf8_lossy(&head[..n])
            .to_lowercase()
            .contains(&format!("authorization: {}", auth.to_lowercase()))
    {
        return client.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let registry = url::Url::parse(Registry::shared()).unwrap();
    let mut server = TcpStream::connect(&*registry.socket_addrs(|| None)?)?;
    server.write_all(&head[..n])?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _cut = std::io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Both)
    });
    std::io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Both)
}

// ---- tests

#[test]
fn anyone_can_read_what_is_written_by_the_schema_of_its_id() {
    let b = Bench::new();
    let (good, bad) = (b.page("1"), b.site.url("/nothing"));
    b.file("urls.txt", &[good.clone(), b.page("2"), bad.clone()]);
    b.tidemill.run(&["run", "urls.txt", "--json"]).expect(3);

    let expected: BTreeSet<_> = topology::schemas().iter().map(|(topic, _)| b.subject(topic)).collect();
    assert_eq!(subjects(&b.prefix), expected);
    for (topic, some) in [(URLS, 3), ("pages", 2), ("documents", 2), ("enriched", 2), ("status", 9)] {
        let records = b.records(topic);
        assert_eq!(records.len(), some, "{topic}");
        for r in records {
            let fields = generic(&r.value);
            let Avro::String(url) = &fields["url"] else { panic!("{fields:?}") };
            assert!(url.starts_with(&b.site.url("/")), "{url}");
        }
    }
    // The letter is the record as it came.
    let urls: Vec<Bytes> = b.records(URLS).into_iter().map(|r| r.value).collect();
    let letters = b.records("fetch.dlq");
    assert_eq!(letters.len(), 1);
    assert!(urls.contains(&letters[0].value));

    // Commands that look read it too.
    assert_eq!(b.outcomes(&good).last().unwrap(), &("index".into(), "done".into()));
    assert_eq!(b.outcomes(&bad), [("fetch".into(), "dead_lettered".into())]);
    let status = b.tidemill.json(&["status", "--json"]);
    assert_eq!(status["jobs"][0]["progress"]["finished"], 3, "{status}");
    b.tidemill.run(&["dlq", "replay", "--all"]).expect(0);
    assert_eq!(b.outcomes(&bad).last().unwrap(), &("fetch".into(), "replayed".into()));
    assert!(b.records("status").iter().all(|r| r.value[0] == 0));
}

#[test]
fn one_log_is_read_whatever_the_setting_was_when_it_was_written() {
    let b = Bench::new();
    let pages: Vec<String> = (0..6).map(|n| b.page(&n.to_string())).collect();
    let submit = |urls: &[String]| {
        b.file("some.txt", urls);
        b.tidemill.run(&["submit", "--file", "some.txt"]).expect(0);
    };
    b.off();
    submit(&pages[..2]);
    b.configure("");
    submit(&pages[2..4]);
    let framings = |topic| whole::count(b.records(topic).iter().map(|r| r.value[0]));
    assert_eq!(framings(URLS), [(0, 2), (0xC3, 2)].into());

    // Off again: a process that never met the registry reads what its ids mean in the data folder.
    b.off();
    let mut working = b.work();
    b.until_indexed(&pages[..4], &mut working);
    stop(working);
    b.configure("");
    let mut working = b.work();
    submit(&pages[4..]);
    b.until_indexed(&pages, &mut working);
    stop(working);

    for topic in [URLS, "pages", "documents", "enriched", "status"] {
        let found = framings(topic);
        assert!(found.len() == 2 && found[&0] >= 2 && found[&0xC3] >= 2, "{topic}: {found:?}");
    }
    for configured in [true, false] {
        if configured {
            b.configure("")
        } else {
            b.off()
        }
        let status = b.tidemill.json(&["status", "--json"]);
        let jobs = status["jobs"].as_array().unwrap();
        assert!(jobs.len() == 3 && jobs.iter().all(|j| j["progress"]["indexed"] == 2), "{status}");
        for url in &pages {
            assert_eq!(b.outcomes(url).len(), 4, "{url}");
        }
        assert_eq!(b.letters(), Vec::<Value>::new());
    }
}

const LESS: &str =
    r#"{"type":"record","name":"UrlTask","namespace":"com.acme","fields":[{"name":"url","type":"string"}]}"#;
/// As Java's code generation writes it, with a field of the producer's own and a logical type.
const MORE: &str = r#"{"type":"record","name":"UrlTask","namespace":"com.acme","fields":[
    {"name":"team","type":{"type":"enum","name":"Team","symbols":["A","B"]}},
    {"name":"url","type":{"type":"string","avro.java.string":"String"}},
    {"name":"expires","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
    {"name":"attrs","type":{"type":"map","values":{"type":"string","avro.java.string":"String"}},"default":{}}]}"#;

#[test]
fn records_of_foreign_producers_are_read_by_their_own_schemas() {
    let b = Bench::new();
    let mut working = b.work();

    // Registered by others, after we had looked.
    let (less, more) = (register(&b.subject(URLS), LESS), register(&b.subject(URLS), MORE));
    let not_avro = json!({"schemaType": "PROTOBUF", "schema": "syntax = \"proto3\"; message A { string url = 1; }"});
    let (_, not_avro) = ask("POST", &format!("/subjects/{}protobuf-value/versions", b.prefix), Some(not_avro));
    let not_avro = u32::try_from(not_avro["id"].as_u64().unwrap()).unwrap();
    let (one, two) = (b.page("less"), b.page("more"));
    let attrs = Avro::Map([("k".to_owned(), Avro::String("v".into()))].into());
    let plain = [b.page("json"), b.page("text")];
    let bad = [
        (framed(4_000_000_000, b"\x02x"), "knows no schema id 4000000000"),
        (framed(less, b"\xff"), "as schema id"),
        (framed(less, b""), "ends too early"),
        (framed(not_avro, b"{}"), "is no Avro schema"),
        (b"\0\0\0".to_vec(), "not Avro in single-object encoding or Confluent wire format"),
    ];
    let mut values = vec![
        foreign(less, LESS, &[("url", Avro::String(one.clone()))]),
        foreign(
            more,
            MORE,
            &[
                ("team", Avro::Enum(1, "B".into())),
                ("url", Avro::String(two.clone())),
                ("expires", Avro::Union(1, Box::new(Avro::TimestampMillis(i64::MAX)))),
                ("attrs", attrs),
            ],
        ),
        json!({"url": plain[0]}).to_string().into_bytes(),
        plain[1].clone().into_bytes(),
    ];
    values.extend(bad.iter().map(|(value, _)| value.clone()));
    b.produce(URLS, values);
    b.until_indexed(&[&plain[..], &[one, two.clone()]].concat(), &mut working);
    assert!(eventually(PATIENCE, || b.letters().len() == bad.len()), "{:?}", b.letters());
    stop(working);

    let letters = b.tidemill.json(&["dlq", "ls", "--json"]);
    for (value, why) in bad {
        let all = b.records("fetch.dlq");
        let letter =
            all.iter().find(|l| l.value == value).unwrap_or_else(|| panic!("no letter has the bytes {value:?}"));
        let id = format!("fetch.dlq/{}/{}", letter.at.partition, letter.offset);
        let letter = letters.as_array().unwrap().iter().find(|l| l["id"] == *id).unwrap();
        assert_eq!(letter["class"], "decode");
        assert!(letter["message"].as_str().unwrap().contains(why), "{why}: {letter}");
    }
    // The producer's attributes came along, in our own schema.
    let documents = b.records("documents");
    let of_two = documents.iter().map(|r| generic(&r.value)).find(|d| d["url"] == Avro::String(two.clone())).unwrap();
    assert_eq!(of_two["attrs"], Avro::Map([("k".to_owned(), Avro::String("v".into()))].into()));
}

#[test]
fn while_the_registry_is_away_work_goes_on_and_what_needs_it_waits() {
    let gate = Gate::new(None);
    let b = Bench { url: gate.url(), ..Bench::new() };
    b.configure("timeout = \"500ms\"");
    let mut working = b.work();
    let warm = b.page("warm");
    b.produce(URLS, vec![warm.clone().into_bytes()]);
    b.until_indexed(&[warm], &mut working);

    let id = register(&b.subject(URLS), MORE);
    for (mode, name) in [(CLOSED, "closed"), (SILENT, "silent")] {
        gate.set(mode);
        // Each round a schema that was not met before.
        let schema = MORE.replace("com.acme", &format!("com.acme.{name}{}", unique("").replace('-', "")));
        let id = if mode == CLOSED { id } else { register(&b.subject(URLS), &schema) };
        let schema = if mode == CLOSED { MORE } else { &schema };
        let (plain, waiting) = (b.page(&format!("plain-{name}")), b.page(&format!("waiting-{name}")));
        let record = foreign(
            id,
            schema,
            &[
                ("team", Avro::Enum(0, "A".into())),
                ("url", Avro::String(waiting.clone())),
                ("expires", Avro::Union(0, Box::new(Avro::Null))),
                ("attrs", Avro::Map(Default::default())),
            ],
        );
        b.produce(URLS, vec![record.clone(), plain.clone().into_bytes()]);
        b.until_indexed(&[plain], &mut working);
        // Longer than its attempts would last: those of the quick ladder take 14 s.
        let parked = || {
            let tiers = (1..=4).flat_map(|t| b.records(&format!("fetch.retry.{t}")));
            tiers.filter(|r| r.value == record).count()
        };
        assert!(eventually(PATIENCE, || parked() >= 6), "parked {} times", parked());
        assert!(!b.indexed().contains(&waiting));
        assert!(b.records("fetch.dlq").is_empty());
        gate.set(OPEN);
        b.until_indexed(&[waiting], &mut working);
    }
    stop(working);
    assert_eq!(b.letters(), Vec::<Value>::new());
    // What it waited for was said.
    let status = b.records("status").into_iter().map(|r| generic(&r.value));
    let waits = status.filter(|e| e["outcome"] == Avro::Enum(4, "parked".into()));
    let said: BTreeSet<String> = waits.map(|e| format!("{:?}", e["message"])).collect();
    assert!(said.iter().any(|s| s.contains("the schema registry at") && s.contains("is away")), "{said:?}");
    assert!(said.iter().any(|s| s.contains("no answer within 0.5 s")), "{said:?}");
}

#[test]
fn a_start_waits_for_a_registry_and_then_says_that_it_is_away() {
    let gate = Gate::new(None);
    gate.set(CLOSED);
    let b = Bench { url: gate.url(), ..Bench::new() };
    b.configure("wait = \"1s\"");
    b.file("urls.txt", &[b.page("1")]);
    for args in [&["run", "urls.txt"][..], &["status"], &["submit", "http://x/"]] {
        let ended = b.tidemill.run(args).expect(1);
        says(
            &ended,
            &["the schema registry is away; waiting up to 1 s", "error: the schema registry at", "registry.url"],
        );
    }
    // It comes while it is waited for.
    b.configure("");
    let running = b.tidemill.start(&["run", "urls.txt", "--json"]);
    std::thread::sleep(Duration::from_secs(2));
    gate.set(OPEN);
    running.ended(PATIENCE).expect(0);

    // Nobody listens at all.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let b = Bench { url: format!("http://{nobody}"), ..b };
    b.configure("wait = \"0s\"");
    says(&b.tidemill.run(&["status"]).expect(1), &["is away", "refused"]);
}

#[test]
fn a_registry_that_says_no_is_understood() {
    let b = Bench::new();
    let refused = |words: &[&str]| says(&b.tidemill.run(&["submit", "http://x/"]).expect(1), words);

    // Without leave to register, what is not there is named, and nothing is put there.
    b.configure("auto_register = false");
    let subject = b.subject("urls.high");
    refused(&["schemas/url_task.avsc is not registered under subject", &subject, "registry.auto_register = true"]);
    assert_eq!(subjects(&b.prefix), BTreeSet::new());

    // Another application's subject.
    let urls = b.subject(URLS);
    register(&urls, r#"{"type":"record","name":"UrlTask","fields":[{"name":"link","type":"int"}]}"#);
    let level = json!({"compatibility": "FULL"});
    assert_eq!(ask("PUT", &format!("/config/{urls}"), Some(level)).0, 200);
    b.configure("");
    refused(&["refuses schemas/url_task.avsc under subject", &urls, "not compatible", "`prefix`"]);
    assert_eq!(ask("DELETE", &format!("/subjects/{urls}"), None).0, 200);
    b.tidemill.run(&["submit", "http://x/"]).expect(0);
    // By now they are all there.
    b.configure("auto_register = false");
    b.tidemill.run(&["submit", "http://x/"]).expect(0);
    assert_eq!(b.records(URLS).len(), 2);
    assert!(b.records(URLS).iter().all(|r| generic(&r.value)["url"] == Avro::String("http://x/".into())));

    // The folder has ids of another registry.
    let id = u32::from_be_bytes(b.records(URLS)[0].value[1..5].try_into().unwrap());
    let kept = b.tidemill.data().join(format!("schemas/{id}.avsc"));
    let ours = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&kept, LESS).unwrap();
    refused(&[&format!("schema id {id} means something else"), "data/schemas has those of a registry other than"]);
    // One that was damaged is passed over.
    std::fs::write(&kept, &ours[..20]).unwrap();
    b.tidemill.run(&["submit", "http://x/"]).expect(0);

    // No registry at all.
    let b = Bench { url: b.site.url(""), ..b };
    b.configure("");
    says(&b.tidemill.run(&["status"]).expect(1), &["answers 404", "set registry.url to the root"]);
    let page = Server::start(|_, _| Reply::page("welcome"));
    let b = Bench { url: page.url("/"), ..b };
    b.configure("");
    says(&b.tidemill.run(&["status"]).expect(1), &["no answer of a schema registry", "set registry.url to the root"]);
}

#[test]
fn a_registry_that_asks_for_a_password_gets_it_and_nobody_else_does() {
    // ann:hush
    let gate = Gate::new(Some("Basic YW5uOmh1c2g="));
    let b = Bench { url: gate.url(), ..Bench::new() };
    b.configure("");
    says(&b.tidemill.run(&["status"]).expect(1), &["answers 401", "registry.basic_auth"]);
    let with = |args: &[&str]| {
        Running::start(b.tidemill.command(args).env("TIDEMILL_REGISTRY__BASIC_AUTH", "ann:hush")).ended(PATIENCE)
    };
    with(&["status"]).expect(0);
    for args in [&["config", "show"][..], &["config", "show", "--json"]] {
        let shown = with(args).expect(0).stdout;
        assert!(shown.contains("***") && !shown.contains("hush"), "{shown}");
    }
}

#[test]
fn many_may_start_at_once() {
    let b = Bench::new();
    // The topics are there first: this is about the registry.
    b.off();
    b.tidemill.run(&["status"]).expect(0);
    b.configure("");
    let starting: Vec<Running> = (0..6).map(|_| b.tidemill.start(&["submit", "http://x/"])).collect();
    for s in starting {
        s.ended(PATIENCE).expect(0);
    }
    let ids: BTreeSet<Vec<u8>> = b.records(URLS).iter().map(|r| r.value[..5].to_vec()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(generic(&b.records(URLS)[0].value)["url"], Avro::String(UrlTask::new("http://x/").url));
}
