//! The index on a real OpenSearch that is busy, blocked, killed, or handed what it cannot take: nothing is lost, nothing
//! newer is overwritten, and each bad document is refused with its own reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value as Json, json};
use services::{Front, OpenSearch, http, unique};
use tidemill::config;
use tidemill::record::Enriched;
use tidemill::sink::opensearch::OpenSearchIndex;
use tidemill::sink::opensearch::client::Client;
use tidemill::sink::opensearch::index::{self, Plan};
use tidemill::sink::opensearch::reindex::{self, Step};
use tidemill::sink::opensearch::schema::Schema;
use tidemill::sink::{Query, Search, Sink, SinkError, Written};
use whole::Running;

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(180);

/// An index of its own on a server.
struct Own {
    url: String,
    prefix: String,
}

impl Own {
    fn on(url: &str) -> Own {
        Own { url: url.into(), prefix: format!("{}.", unique("os")) }
    }

    fn open(&self, change: impl FnOnce(&mut config::OpenSearch)) -> OpenSearchIndex {
        let mut config = config::OpenSearch { url: self.url.clone(), ..config::OpenSearch::default() };
        change(&mut config);
        OpenSearchIndex::open(&config, &self.prefix).unwrap()
    }

    fn alias(&self) -> String {
        format!("{}documents", self.prefix)
    }

    fn ask(&self, method: &str, path: &str, body: &Json) -> Json {
        ask(&self.url, method, path, body)
    }

    /// Version by id of all that is there.
    fn held(&self) -> BTreeMap<String, i64> {
        self.ask("POST", &format!("{}/_refresh", self.alias()), &Json::Null);
        let all = json!({"size": 10_000, "_source": ["fetched_at"]});
        let found = self.ask("POST", &format!("{}/_search", self.alias()), &all);
        let one =
            |hit: &Json| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"]["fetched_at"].as_i64().unwrap());
        found["hits"]["hits"].as_array().unwrap().iter().map(one).collect()
    }
}

fn ask(url: &str, method: &str, path: &str, body: &Json) -> Json {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = http(method, &format!("{url}/{path}"), "application/json", &body);
    assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    answer
}

/// A number of the one node's statistics.
fn count(url: &str, part: &str, pointer: &str) -> u64 {
    let stats = ask(url, "GET", &format!("_nodes/stats/{part}"), &Json::Null);
    let node = stats["nodes"].as_object().unwrap().values().next().unwrap();
    node.pointer(pointer).and_then(Json::as_u64).unwrap_or_else(|| panic!("no {pointer} in {node}"))
}

fn document(id: &str, version: i64, text: &str) -> Enriched {
    Enriched {
        id: id.into(),
        url: format!("https://www.example.org/{id}"),
        final_url: format!("https://www.example.org/{id}"),
        host: "www.example.org".into(),
        language: Some("pt".into()),
        fetched_at: version,
        text: text.into(),
        ..Enriched::default()
    }
}

/// Puts each document until it has its end, as the index stage does with what waits in its retry topics. Returns what
/// was refused, by id, and how often something had to wait there.
async fn put_all(
    sink: &OpenSearchIndex,
    documents: impl IntoIterator<Item = Enriched>,
) -> (BTreeMap<String, String>, usize) {
    let until = Instant::now() + LIMIT;
    let one = |d: Enriched| async move {
        let d = Arc::new(d);
        let mut waited = 0;
        loop {
            match sink.put(Arc::clone(&d)).await {
                Ok(_) => return (None, waited),
                Err(SinkError::Rejected(why)) => return (Some((d.id.clone(), why)), waited),
                Err(e) => assert!(Instant::now() < until, "{} after {LIMIT:?}: {e}", d.id),
            }
            waited += 1;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let ends: Vec<_> = futures::stream::iter(documents).map(one).buffer_unordered(256).collect().await;
    let waited = ends.iter().map(|(_, waited)| waited).sum();
    (ends.into_iter().filter_map(|(refused, _)| refused).collect(), waited)
}

/// A server that has room for one request in work and one that waits; and then none at all, for it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_and_then_killed_loses_nothing_and_holds_the_newest() {
    let server = OpenSearch::start(&["thread_pool.write.size: 1", "thread_pool.write.queue_size: 1"]);
    let own = Own::on(server.url());
    let sink = own.open(|c| {
        c.requests = 16;
        c.batch = 10;
        c.max_batch = 20;
        c.patience = Duration::from_secs(60);
    });
    let text = "a moagem da maré ".repeat(200);
    let all = |versions: std::ops::Range<i64>| {
        let text = text.clone();
        versions.flat_map(move |v| {
            let text = text.clone();
            (0..1_000).map(move |i| document(&format!("d{i}"), v, &text))
        })
    };
    let (refused, waited) = put_all(&sink, all(1..3)).await;
    assert_eq!((refused.len(), waited), (0, 0), "{refused:?}");
    let rejected = count(server.url(), "thread_pool", "/thread_pool/write/rejected");
    assert!(rejected > 0, "the server had room all the time");
    assert_eq!(own.held(), (0..1_000).map(|i| (format!("d{i}"), 2)).collect());

    // New versions and, at the same time, old ones again, while it dies and comes back.
    let sink = Arc::new(own.open(|c| {
        c.requests = 4;
        c.patience = Duration::from_secs(1);
    }));
    let putting = tokio::spawn({
        let (sink, documents) = (Arc::clone(&sink), all(3..8).chain(all(1..2)));
        async move { put_all(&sink, documents).await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let server = tokio::task::spawn_blocking(move || {
        server.kill();
        server.restart();
        server
    });
    let server = server.await.unwrap();
    let (refused, waited) = putting.await.unwrap();
    assert_eq!(refused.len(), 0, "{refused:?}");
    assert!(waited > 0, "it was over before the server was killed");
    assert_eq!(own.held(), (0..1_000).map(|i| (format!("d{i}"), 7)).collect());
    assert_eq!(sink.put(Arc::new(document("d1", 6, "old"))).await, Ok(Written::Stale));
    drop(server);
}

/// A server that takes 64 KiB at once and no request over 100 KiB, and then one whose breaker opens for anything.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_much_are_made_smaller_and_sent_again() {
    let server = OpenSearch::start(&["indexing_pressure.memory.limit: 64kb", "http.max_content_length: 100kb"]);
    let own = Own::on(server.url());
    let sink = own.open(|_| {});
    let text = "x".repeat(3_000);
    let (refused, waited) = put_all(&sink, (0..600).map(|i| document(&format!("d{i}"), 1, &text))).await;
    assert_eq!((refused.len(), waited), (0, 0), "{refused:?}");
    let rejections = "/indexing_pressure/memory/total/coordinating_rejections";
    assert!(count(server.url(), "indexing_pressure", rejections) > 0, "the server never said no");
    assert_eq!(own.held().len(), 600);
    // One that is larger than any request may be is refused, and takes no other with it.
    let few = ["one", "large", "other"]
        .map(|id| document(id, 1, if id == "large" { "x".repeat(150_000) } else { "x".into() }.as_str()));
    let (refused, waited) = put_all(&sink, few).await;
    assert!(refused.len() == 1 && refused["large"].contains("413") && waited == 0, "{refused:?}");
    assert_eq!(own.held().len(), 602);

    let limit = |to: Json| {
        ask(
            server.url(),
            "PUT",
            "_cluster/settings",
            &json!({"persistent": {"network.breaker.inflight_requests.limit": to}}),
        )
    };
    limit("1kb".into());
    let hasty = own.open(|c| c.patience = Duration::from_millis(300));
    let busy = hasty.put(Arc::new(document("b", 1, &text))).await;
    assert!(matches!(busy, Err(SinkError::Busy { .. })), "{busy:?}");
    assert!(count(server.url(), "breaker", "/breakers/in_flight_requests/tripped") > 0);
    let patient = own.open(|_| {});
    let document = Arc::new(document("b", 1, &text));
    let (put, _) = tokio::join!(patient.put(document), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        tokio::task::block_in_place(|| limit(Json::Null));
    });
    assert_eq!(put, Ok(Written::Created));
}

#[tokio::test]
async fn each_bad_document_among_many_is_refused_with_its_own_reason() {
    let own = Own::on(OpenSearch::shared());
    let sink = own.open(|_| {});
    // One of a hundred; an id that is too long would spoil its whole request.
    let documents = (0..2_000).map(|i| {
        let mut d = document(&format!("d{i}"), 1, "text");
        match i {
            _ if i % 100 != 50 => {}
            150 => d.id = "x".repeat(600),
            250 => drop(d.attrs.insert("k".into(), "v".repeat(40_000))),
            _ => d.date = Some(format!("day {i}")),
        }
        d
    });
    let (refused, waited) = put_all(&sink, documents).await;
    assert_eq!((refused.len(), waited), (20, 0));
    for (id, why) in &refused {
        let expect = match id.as_str() {
            "d250" => "immense term".to_owned(),
            id if id.starts_with('x') => "600 bytes".to_owned(),
            id => format!("'day {}'", &id[1..]),
        };
        assert!(why.contains(&expect), "{id}: {why}");
    }
    let held = own.held();
    assert_eq!(held.len(), 1_980);
    assert!(refused.keys().all(|id| !held.contains_key(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_wait_while_the_index_is_blocked_closed_or_gone() {
    let own = Own::on(OpenSearch::shared());
    let hasty = |c: &mut config::OpenSearch| c.patience = Duration::from_millis(300);
    let sink = own.open(hasty);
    sink.put(Arc::new(document("first", 1, "text"))).await.unwrap();
    let index = format!("{}-000001", own.alias());
    let block = |name: &str, to: Json| own.ask("PUT", &format!("{index}/_settings"), &json!({(name): to}));
    let mut version = 1;
    // A person's block; that of a full disk; a closed index.
    type Step<'a> = Box<dyn Fn(bool) + 'a>;
    let steps: [(&str, Step<'_>); 3] = [
        (
            "cluster_block_exception",
            Box::new(|on| drop(block("index.blocks.write", if on { true.into() } else { Json::Null }))),
        ),
        (
            "cluster_block_exception",
            Box::new(|on| {
                drop(block("index.blocks.read_only_allow_delete", if on { true.into() } else { Json::Null }))
            }),
        ),
        (
            "index_closed_exception",
            Box::new(|on| {
                drop(own.ask("POST", &format!("{index}/{}", if on { "_close" } else { "_open" }), &Json::Null))
            }),
        ),
    ];
    for (kind, step) in steps {
        version += 1;
        step(true);
        let refused = sink.put(Arc::new(document("first", version, "text"))).await;
        assert!(matches!(&refused, Err(SinkError::Unavailable(why)) if why.contains(kind)), "{refused:?}");
        let (ended, ()) =
            tokio::join!(put_all(&sink, (0..300).map(|i| document(&format!("d{i}"), version, "text"))), async {
                tokio::time::sleep(Duration::from_millis(700)).await;
                tokio::task::block_in_place(|| step(false));
            });
        assert!(ended.0.is_empty() && ended.1 > 0, "{ended:?}");
        assert_eq!(own.held().values().filter(|v| **v == version).count(), 300);
    }
    // Somebody deletes the index: it is made again as it should be, and not as the first document happens to be.
    own.ask("DELETE", &index, &Json::Null);
    let (refused, _) = put_all(&sink, (0..300).map(|i| document(&format!("e{i}"), 1, "text"))).await;
    assert!(refused.is_empty(), "{refused:?}");
    let made = own.ask("GET", &index, &Json::Null);
    assert_eq!(made[&index]["mappings"]["properties"]["attrs"]["type"], "flat_object", "{made}");
    assert!(own.held().len() >= 300);
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_unavailable_and_says_where() {
    let own = Own::on("http://127.0.0.1:9");
    let sink = own.open(|c| c.patience = Duration::from_millis(200));
    let put = sink.put(Arc::new(document("a", 1, "text"))).await;
    assert!(matches!(&put, Err(SinkError::Unavailable(why)) if why.contains("127.0.0.1:9")), "{put:?}");
    assert!(sink.search(&Query::new("text")).await.unwrap_err().to_string().contains("127.0.0.1:9"));
}

/// Requests that a node answered well.
fn requests(node: &str) -> u64 {
    let series =
        format!("tidemill_endpoint_requests_total{{endpoint=\"{node}\",outcome=\"ok\",service=\"opensearch\"}} ");
    let all = tidemill::telemetry::exposition();
    all.lines().find_map(|l| l.strip_prefix(&series)?.parse::<u64>().ok()).unwrap_or(0)
}

/// Of four nodes one is not there, one closes connections and one says nothing: the fourth does the work, until they are back.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_away_are_passed_over_until_they_answer_a_check() {
    let own = Own::on(OpenSearch::shared());
    let (shut, silent) = (Relay::new().await, Relay::new().await);
    let urls = ["http://127.0.0.1:9", &shut.url, &silent.url, &own.url].join(",");
    shut.is(Door::Shut);
    silent.is(Door::Silent);
    let four = Own { url: urls, prefix: own.prefix.clone() };
    let sink = four.open(|c| {
        c.timeout = Duration::from_secs(3);
        c.health_interval = Duration::from_millis(200);
    });
    let put = |from: i64, to: i64| put_all(&sink, (from..to).map(|i| document(&format!("d{i}"), 1, "text")));
    assert_eq!(put(0, 50).await, Default::default());
    assert_eq!((requests(&shut.url), requests(&silent.url)), (0, 0));
    shut.is(Door::Open);
    silent.is(Door::Open);
    let all_work = async {
        let mut i = 100;
        while requests(&shut.url).min(requests(&silent.url)) < 3 {
            assert_eq!(put(i, i + 1).await, Default::default());
            i += 1;
        }
    };
    tokio::time::timeout(LIMIT, all_work).await.unwrap();
    assert_eq!(requests("http://127.0.0.1:9"), 0);
    assert!(own.held().len() > 52);
}

/// Weights 3 and 1, two requests a second and weight: eight at once, then eight a second, three of four through the first.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_turns_by_weight_and_no_more_requests_than_they_may() {
    let own = Own::on(OpenSearch::shared());
    let (strong, weak) = (Relay::new().await, Relay::new().await);
    let two = Own { url: [&*strong.url, &*weak.url].join(","), prefix: own.prefix.clone() };
    let sink = two.open(|c| {
        c.weights = vec![3, 1];
        c.max_requests_per_second = 2;
    });
    let (before, started) = ([requests(&strong.url), requests(&weak.url)], std::time::Instant::now());
    for i in 0..24 {
        assert_eq!(put_all(&sink, [document(&format!("d{i}"), 1, "text")].into_iter()).await, Default::default());
    }
    let took = started.elapsed();
    let [strong, weak] = [requests(&strong.url) - before[0], requests(&weak.url) - before[1]];
    assert!(strong + weak >= 24 && strong.abs_diff(3 * weak) <= 3, "{strong} and {weak}");
    let least = Duration::from_secs_f64((strong + weak - 8) as f64 / 8.0 - 0.2);
    assert!(took >= least, "{strong} and {weak} in {took:?}");
}

#[derive(Clone, Copy, PartialEq)]
enum Door {
    Open,
    /// Takes connections and says nothing.
    Silent,
    /// Closes connections at once.
    Shut,
}

/// A way to the shared server that can be closed.
struct Relay {
    url: String,
    door: tokio::sync::watch::Sender<Door>,
}

impl Relay {
    async fn new() -> Relay {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (door, doors) = tokio::sync::watch::channel(Door::Open);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (door, mut doors) = (*doors.borrow(), doors.clone());
                tokio::spawn(async move {
                    match door {
                        Door::Shut => drop(client),
                        // As long as it is so.
                        Door::Silent => drop(doors.wait_for(|d| *d != Door::Silent).await.map(drop)),
                        Door::Open => {
                            let to = OpenSearch::shared().strip_prefix("http://").unwrap();
                            let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                            let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                        }
                    }
                });
            }
        });
        Relay { url, door }
    }

    fn is(&self, door: Door) {
        self.door.send_replace(door);
    }
}

/// Words in other forms than the text has them, in its language; phrases, and what must not be there, as they are.
#[tokio::test]
async fn words_are_found_in_their_other_forms_and_with_or_without_accents() {
    let own = Own::on(OpenSearch::shared());
    let sink = own.open(|_| {});
    let texts = [
        ("pt", "Os tribunais julgaram as ações dos portugueses."),
        ("en", "The tide mills were grinding all day."),
        ("fr", "L'été, les marées montent."),
        ("xx", "Slovo bez jazyka"),
    ];
    for (language, text) in texts {
        let d = Enriched { language: Some(language.into()), ..document(language, 1, text) };
        sink.put(Arc::new(d)).await.unwrap();
    }
    sink.flush().await.unwrap();
    for (query, expect) in [
        ("ações", "pt"),
        ("acoes", "pt"),
        ("ação", "pt"),
        ("portuguesa", "pt"),
        ("mill", "en"),
        ("\"tide mills\"", "en"),
        ("\"tide mill\"", ""),
        ("-mill tide", "en"),
        ("-mills tide", ""),
        ("ete maree", "fr"),
        ("été", "fr"),
        ("jazyka", "xx"),
    ] {
        let found = sink.search(&Query::new(query)).await.unwrap();
        let ids: Vec<_> = found.hits.iter().map(|h| h.id.as_str()).collect();
        assert_eq!(ids.join(" "), expect, "{query}");
    }
}

fn tidemill(own: &Own, data: &std::path::Path, args: &[&str]) -> Output {
    let mut c = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    whole::clean(&mut c).env("TIDEMILL_PREFIX", &own.prefix).args(["--opensearch", &own.url]);
    c.arg("--data").arg(data).args(args);
    c.output().unwrap()
}

fn json_of(o: &Output) -> Json {
    serde_json::from_slice(&o.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&o.stderr)))
}

/// Over TLS, with a certificate that a private authority signed, and signed as the server wants.
#[test]
fn a_cluster_behind_tls_wants_a_password_or_a_signature() {
    let own = Own::on(OpenSearch::shared());
    let basic = Front::start(&own.url, ("FRONT_BASIC", "tide:m:ll"));
    let aws = Front::start(&own.url, ("FRONT_SIGV4", "AKIDTIDE s3cr3t/+= sa-east-1 es"));
    let dir = tempfile::tempdir().unwrap();
    let run = |front: &Front, env: &[(&str, &str)], args: &[&str]| {
        let mut c = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        whole::clean(&mut c).env("TIDEMILL_PREFIX", &own.prefix).args(["--opensearch", front.url()]);
        c.env("SSL_CERT_FILE", front.ca()).envs(env.iter().copied());
        Running::start(c.arg("--data").arg(dir.path()).args(args)).ended(whole::LIMIT)
    };
    let plan = &["index", "plan", "--json"];
    let password = |password| [("TIDEMILL_OPENSEARCH__BASIC_AUTH", password)].to_vec();
    let keys = |secret| {
        let region = ("TIDEMILL_OPENSEARCH__AWS_REGION", "sa-east-1");
        [("AWS_ACCESS_KEY_ID", "AKIDTIDE"), ("AWS_SECRET_ACCESS_KEY", secret), region].to_vec()
    };
    for (front, wrong, right) in
        [(&basic, password("tide:m"), password("tide:m:ll")), (&aws, keys("wrong"), keys("s3cr3t/+="))]
    {
        let refused = run(front, &wrong, plan).expect(1);
        assert!(refused.stderr.contains("not signed as it should be"), "{refused:?}");
        let unknown = run(front, &[&right[..], &[("SSL_CERT_FILE", "/dev/null")]].concat(), plan).expect(1);
        assert!(unknown.stderr.contains("ertificate"), "{unknown:?}");
        run(front, &right, &["index", "apply", "--yes"]).expect(0);
        // Written by a bulk request.
        let page = front.url().replace("localhost", "a.test");
        run(front, &right, &["index", "delete", &page, "--yes"]).expect(0);
        let found = run(front, &right, &["search", "--json", "maré date:2000..", "--facets"]).expect(0).json();
        assert_eq!((&found["total"], &found["facets"]["host"]), (&json!(0), &json!([])));
    }
    let tombstones = http("POST", &format!("{}/{}/_search", own.url, own.alias()), "application/json", "").1;
    assert_eq!(tombstones["hits"]["total"]["value"], 2, "{tombstones}");
    let both = run(&aws, &[keys("x"), password("a:b")].concat(), plan).expect(2);
    assert!(both.stderr.contains("remove one"), "{both:?}");
}

#[test]
fn the_demo_web_is_indexed_there_and_found() {
    let (own, dir) = (Own::on(OpenSearch::shared()), tempfile::tempdir().unwrap());
    let demo = tidemill(&own, dir.path(), &["demo", "--json", "--keep", dir.path().to_str().unwrap()]);
    let said = json_of(&demo);
    assert_eq!(said["unexpected"], 0, "{}", said["urls"]);
    let indexed = said["urls"].as_array().unwrap().iter().filter(|u| u["fate"] == "indexed").count();
    // And the tombstone of the page that answers 410.
    assert_eq!(own.held().len(), indexed + 1);
    assert!(!dir.path().join("index.db").exists());
    let search = |words: &str| json_of(&tidemill(&own, dir.path(), &["search", "--json", words]));
    let (with, without) = (search("maré"), search("mare"));
    assert!(with["total"].as_u64().unwrap() > 0 && with["total"] == without["total"], "{with} {without}");
    assert!(with["hits"][0]["snippet"].as_str().unwrap().contains("[maré]"), "{with}");

    // An index of before there were tombstones gets to know them, and is emptied once.
    let old = own.ask("GET", &own.alias(), &Json::Null);
    let (name, index) = old.as_object().unwrap().iter().next().unwrap();
    let mut mappings = index["mappings"].clone();
    mappings["properties"].as_object_mut().unwrap().remove("gone");
    let settings = json!({"index": {"analysis": index["settings"]["index"]["analysis"]}});
    own.ask("PUT", "before", &json!({"settings": settings, "mappings": mappings}));
    let copy = json!({"source": {"index": name, "query": {"match_all": {}}}, "dest": {"index": "before", "version_type": "external"}});
    own.ask("POST", "_reindex?refresh=true", &copy);
    let moved = json!({"actions": [
        {"remove_index": {"index": name}}, {"add": {"index": "before", "alias": own.alias(), "is_write_index": true}},
    ]});
    own.ask("POST", "_aliases", &moved);
    let host = with["hits"][0]["host"].as_str().unwrap();
    let held = |host: &str| {
        json_of(&tidemill(&own, dir.path(), &["search", "--json", &format!("site:{host}")]))["total"].clone()
    };
    let had = held(host);
    assert!(had.as_u64().unwrap() > 0);
    let deleted = json_of(&tidemill(&own, dir.path(), &["index", "delete", "--host", host, "--yes", "--json"]));
    assert_eq!((&deleted, held(host)), (&json!({"deleted": had, "newer": 0}), json!(0)));
}

#[test]
fn the_index_is_planned_and_applied_and_what_loses_data_is_refused() {
    let (own, dir) = (Own::on(OpenSearch::shared()), tempfile::tempdir().unwrap());
    let run = |args: &[&str]| tidemill(&own, dir.path(), args);
    assert_eq!(json_of(&run(&["index", "plan", "--json"]))["actions"].as_array().unwrap().len(), 2);
    let applied = run(&["index", "apply", "--yes", "--json"]);
    assert_eq!((applied.status.code(), &json_of(&applied)["left"]), (Some(0), &json!([])));
    // The server shows all of it as it was asked for.
    let nothing = json!({"actions": [], "refused": []});
    assert_eq!(json_of(&run(&["index", "plan", "--json"])), nothing);

    // An index of somebody else's making: a field is missing, another is of another type.
    let index = format!("{}-000001", own.alias());
    own.ask("DELETE", &index, &Json::Null);
    let body = json!({"mappings": {"properties": {"date": {"type": "keyword"}}}});
    own.ask("DELETE", &format!("_index_template/{}", own.alias()), &Json::Null);
    own.ask("PUT", &index, &body);
    let applied = run(&["index", "apply", "--yes", "--json"]);
    let said = json_of(&applied);
    assert_eq!((applied.status.code(), &said["left"]), (Some(1), &json!([])), "{said}");
    let why = said["refused"][0]["why"].as_str().unwrap();
    assert!(
        why.contains("date (keyword → date strict_date)") && why.contains("text (its analyzer is missing)"),
        "{why}"
    );
    let now = own.ask("GET", &own.alias(), &Json::Null);
    let fields = &now[&index]["mappings"]["properties"];
    assert_eq!((&fields["date"]["type"], &fields["words"]["type"]), (&json!("keyword"), &json!("long")));

    // Its other shape needs a new one, in which all is right; then there is no more to do.
    let reindex = || json_of(&run(&["index", "reindex", "--yes", "--delete-old", "--json"]));
    let moved = reindex();
    let (from, to) = (moved["from"].as_str().unwrap().to_owned(), moved["to"].as_str().unwrap().to_owned());
    assert_eq!((from == index, to.ends_with("-000002"), &moved["old"]), (true, true, &json!("deleted")), "{moved}");
    assert_eq!(reindex(), json!({"from": to, "to": to, "copied": 0}));
    assert_eq!(json_of(&run(&["index", "plan", "--json"])), json!({"actions": [], "refused": []}));

    // Where there is no cluster, one sentence with the fix.
    let none = whole::clean(&mut Command::new(env!("CARGO_BIN_EXE_tidemill")))
        .args(["index", "plan"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(none.status.code() == Some(2) && String::from_utf8_lossy(&none.stderr).contains("--opensearch"));
}

/// Documents are written, and taken out, while all of them move to a new index, twice; the first try is cut short.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_made_anew_while_documents_are_written() {
    let own = Own::on(OpenSearch::shared());
    let sink = Arc::new(own.open(|_| {}));
    let first = (0..3_000).map(|i| document(&format!("d{i}"), 1, "ação um"));
    assert_eq!(put_all(&sink, first).await, Default::default());
    sink.put(Arc::new(Enriched::tombstone(
        "d7".into(),
        "https://www.example.org/d7".into(),
        "www.example.org".into(),
        9,
    )))
    .await
    .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    // The last version of each that the index has confirmed.
    let writing = tokio::spawn({
        let (sink, stop) = (Arc::clone(&sink), Arc::clone(&stop));
        async move {
            let mut last = BTreeMap::new();
            for version in 2.. {
                let some =
                    (0..200).map(|i| document(&format!("d{}", (i * 37 + version * 11) % 3_200), version, "ação dois"));
                let some: Vec<_> = some.filter(|d| d.id != "d7").collect();
                last.extend(some.iter().map(|d| (d.id.clone(), version)));
                assert_eq!(put_all(&sink, some).await.0, BTreeMap::new());
                if stop.load(Ordering::Acquire) {
                    break;
                }
            }
            last
        }
    });
    let schema = Schema::new(&own.prefix, 2).unwrap();
    let config = config::OpenSearch { url: own.url.clone(), ..config::OpenSearch::default() };
    let client = Client::new(&config).unwrap();
    let way = reindex::way(&client, &schema).await.unwrap();
    assert!(!way.needless, "it has one shard");
    assert!((&*way.from, way.begun) == (&*schema.index, false) && way.to.ends_with("-000002"), "{way:?}");
    {
        // Cut short while it copies.
        let far = AtomicBool::new(false);
        let begun =
            |step| far.store(far.load(Ordering::Acquire) | matches!(step, Step::Copying { .. }), Ordering::Release);
        tokio::select! {
            done = reindex::run(&client, &schema, &way, begun) => drop(done.unwrap()),
            () = async { while !far.load(Ordering::Acquire) { tokio::time::sleep(Duration::from_millis(2)).await } } => {}
        }
    }
    let again = reindex::way(&client, &schema).await.unwrap();
    assert!(again.begun || again.from.ends_with("-000002"), "{again:?}");
    reindex::run(&client, &schema, &again, |_| {}).await.unwrap();
    stop.store(true, Ordering::Release);
    let last = writing.await.unwrap();
    let behind = own.ask("GET", &own.alias(), &Json::Null);
    let (name, index) = behind.as_object().unwrap().iter().next().unwrap();
    assert_eq!((behind.as_object().unwrap().len(), name), (1, &again.to));
    assert_eq!(index["settings"]["index"]["number_of_shards"], "2");
    let held = own.held();
    for (id, version) in &last {
        assert_eq!(held.get(id), Some(version), "{id}");
    }
    assert_eq!(held.len(), 3_000 + last.keys().filter(|id| id[1..].parse::<usize>().unwrap() >= 3_000).count());
    assert_eq!(held["d7"], 9, "the tombstone came along");
    // As killed just after the alias moved: there is nothing left to do.
    let done = reindex::way(&client, &schema).await.unwrap();
    assert_eq!((&done.from, done.needless), (&again.to, true));
    assert_eq!(sink.put(Arc::new(document("d7", 8, "late"))).await, Ok(Written::Stale));
    // Found by another form of a word, which the copy had to make again.
    let found = sink.search(&Query { limit: 1, ..Query::new("ações") }).await.unwrap();
    assert!(found.total >= 2_999, "{}", found.total);
}

/// A stage of the user's own fills `vector`; with a dimension set it is indexed, and an index from before is copied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_are_indexed_where_a_dimension_is_set() {
    let own = Own::on(OpenSearch::shared());
    let with = |id: &str, vector: Vec<f32>| Enriched { vector: Some(vector), ..document(id, 1, "vector") };
    // Without: it is not sent.
    own.open(|_| {}).put(Arc::new(with("d0", vec![1.0, 0.0, 0.0]))).await.unwrap();
    let source = |id: &str| own.ask("GET", &format!("{}/_doc/{id}", own.alias()), &Json::Null)["_source"].clone();
    assert_eq!(source("d0").get("vector"), None);

    // The index of before lacks a setting that it can only have from its beginning.
    let config = config::OpenSearch { url: own.url.clone(), vector_dimension: 3, ..config::OpenSearch::default() };
    let (client, schema) = (Client::new(&config).unwrap(), Schema::of(&config, &own.prefix).unwrap());
    let found = index::look(&client, &schema).await.unwrap();
    let plan = index::plan(&schema, &found);
    assert!(
        plan.refused.iter().any(|r| r.why.contains("vector (index.knn is off)") && r.instead.contains("reindex")),
        "{plan:?}"
    );
    for action in &plan.actions {
        index::apply(&client, action).await.unwrap();
    }
    let way = reindex::way(&client, &schema).await.unwrap();
    assert!(!way.needless, "{way:?}");
    reindex::run(&client, &schema, &way, |_| {}).await.unwrap();
    let found = index::look(&client, &schema).await.unwrap();
    assert_eq!(index::plan(&schema, &found), Plan::default(), "it is as it should be");

    let sink = own.open(|c| c.vector_dimension = 3);
    for (id, vector) in [("d1", vec![1.0, 0.1, 0.0]), ("d2", vec![0.0, 1.0, 0.0]), ("d3", vec![0.9, 0.0, 0.1])] {
        assert_eq!(sink.put(Arc::new(with(id, vector))).await, Ok(Written::Created), "{id}");
    }
    // Of another length: this document's own fault. One without a vector is a document like any other.
    let refused = sink.put(Arc::new(with("d4", vec![1.0, 0.0]))).await.unwrap_err();
    assert!(matches!(&refused, SinkError::Rejected(why) if why.contains("dimension")), "{refused:?}");
    assert_eq!(sink.put(Arc::new(document("d5", 1, "none"))).await, Ok(Written::Created));
    sink.flush().await.unwrap();
    let near = json!({"size": 2, "query": {"knn": {"vector": {"vector": [1.0, 0.0, 0.0], "k": 2}}}});
    let found = own.ask("POST", &format!("{}/_search", own.alias()), &near);
    let ids: Vec<_> = found["hits"]["hits"].as_array().unwrap().iter().map(|h| h["_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["d1", "d3"], "{found}");
}
