//! The contract of every sink (`src/sink/mod.rs`), over each implementation, and that of searching.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../examples/sink/folder.rs"]
mod folder;
#[path = "services/mod.rs"]
mod services;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use proptest::prelude::*;
use services::OpenSearch;
use tidemill::config;
use tidemill::record::Enriched;
use tidemill::sink::jsonl::{JsonLines, Mode};
use tidemill::sink::opensearch::OpenSearchIndex;
use tidemill::sink::sqlite::SqliteIndex;
use tidemill::sink::{Bucket, Query, SearchError, SearchIndex, Selection, Sink, SinkError, Written};

/// A kind of sink in a folder: how it is opened (again), and what it holds by id: version and text.
struct Kind {
    open: fn(&Path) -> Arc<dyn Sink>,
    held: fn(&Path) -> BTreeMap<String, (i64, String)>,
    /// Whether an equal version replaces what is there. A file that only grows leaves it.
    replaces: bool,
}

const SQLITE: Kind = Kind {
    open: |dir| Arc::new(SqliteIndex::open(&dir.join("index.db")).unwrap()),
    held: |dir| {
        let c = rusqlite::Connection::open(dir.join("index.db")).unwrap();
        // The words and the documents must agree, whatever was done.
        c.execute("INSERT INTO search(search, rank) VALUES ('integrity-check', 1)", []).unwrap();
        let mut q = c.prepare("SELECT id, fetched_at, text FROM documents").unwrap();
        q.query_map([], |r| Ok((r.get(0)?, (r.get(1)?, r.get(2)?)))).unwrap().collect::<Result<_, _>>().unwrap()
    },
    replaces: true,
};

const JSONL: Kind = Kind {
    open: |dir| Arc::new(JsonLines::open(&dir.join("documents.jsonl"), Mode::Resume).unwrap()),
    held: |dir| {
        let mut held = BTreeMap::new();
        for d in lines(&dir.join("documents.jsonl")) {
            let before = held.insert(d.id, (d.fetched_at, d.text, d.gone));
            assert!(before.is_none_or(|(version, ..)| version < d.fetched_at), "a version was written twice");
        }
        // The last line of an id counts, and may say that it is gone.
        let held = held.into_iter().filter(|(_, (.., gone))| !gone);
        held.map(|(id, (version, text, _))| (id, (version, text))).collect()
    },
    replaces: false,
};

const OPENSEARCH: Kind = Kind {
    open: |dir| Arc::new(on_cluster(dir)),
    held: |dir| {
        let alias = format!("{}/{}documents", OpenSearch::shared(), prefix(dir));
        services::http("POST", &format!("{alias}/_refresh"), "application/json", "");
        let wanted = r#"{"size": 1000, "_source": ["fetched_at", "text"], "query": {"bool": {"must_not": {"term": {"gone": true}}}}}"#;
        let (_, found) = services::http("POST", &format!("{alias}/_search"), "application/json", wanted);
        let one = |hit: &serde_json::Value| {
            let source = &hit["_source"];
            let held = (source["fetched_at"].as_i64().unwrap(), source["text"].as_str().unwrap().to_owned());
            (hit["_id"].as_str().unwrap().to_owned(), held)
        };
        found["hits"]["hits"].as_array().unwrap_or_else(|| panic!("{found}")).iter().map(one).collect()
    },
    replaces: true,
};

/// What docs/sinks.md shows.
const FOLDER: Kind = Kind {
    open: |dir| Arc::new(folder::Folder::open(&dir.join("documents")).unwrap()),
    held: |dir| {
        let files = std::fs::read_dir(dir.join("documents")).unwrap();
        let held = files.map(|f| serde_json::from_slice(&std::fs::read(f.unwrap().path()).unwrap()).unwrap());
        let held = held.filter(|d: &Enriched| !d.gone);
        held.map(|d| (d.id, (d.fetched_at, d.text))).collect()
    },
    replaces: true,
};

const KINDS: [Kind; 4] = [SQLITE, JSONL, OPENSEARCH, FOLDER];

#[test]
fn the_example_in_the_documentation_is_the_one_that_is_tested() {
    let shown = include_str!("../docs/sinks.md");
    let code = shown.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(code, include_str!("../examples/sink/folder.rs"), "copy examples/sink/folder.rs into docs/sinks.md");
}

/// A folder has an index of its own on the cluster.
fn on_cluster(dir: &Path) -> OpenSearchIndex {
    let config = config::OpenSearch { url: OpenSearch::shared().into(), ..config::OpenSearch::default() };
    OpenSearchIndex::open(&config, &prefix(dir)).unwrap()
}

fn prefix(dir: &Path) -> String {
    let file = dir.join("prefix");
    if !file.exists() {
        std::fs::write(&file, services::unique("contract")).unwrap();
    }
    format!("{}.", std::fs::read_to_string(&file).unwrap())
}

fn lines(path: &Path) -> Vec<Enriched> {
    std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn document(id: &str, version: i64, text: &str) -> Arc<Enriched> {
    let url = format!("https://www.example.org/{id}");
    Arc::new(Enriched {
        id: id.into(),
        url: url.clone(),
        final_url: url,
        host: "www.example.org".into(),
        fetched_at: version,
        title: Some(format!("About {id}")),
        text: text.into(),
        ..Enriched::default()
    })
}

#[tokio::test]
async fn an_older_version_never_overwrites_a_newer_one() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let sink = (kind.open)(dir.path());
        for (version, text, expect) in [
            (20, "second", Written::Created),
            (10, "first", Written::Stale),
            (20, "second again", Written::Updated),
            (30, "third", Written::Updated),
            (20, "second", Written::Stale),
        ] {
            assert_eq!(sink.put(document("a", version, text)).await, Ok(expect), "{} {version}", sink.name());
            if version == 20 && expect == Written::Updated {
                let expect = if kind.replaces { "second again" } else { "second" };
                assert_eq!((kind.held)(dir.path())["a"].1, expect);
            }
        }
        sink.flush().await.unwrap();
        assert_eq!((kind.held)(dir.path()), [("a".into(), (30, "third".into()))].into());
    }
}

fn tombstone(id: &str, version: i64) -> Arc<Enriched> {
    let url = format!("https://www.example.org/{id}");
    Arc::new(Enriched::tombstone(id.into(), url, "www.example.org".into(), version))
}

#[tokio::test]
async fn a_tombstone_takes_the_documents_place_and_keeps_older_versions_out() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let sink = (kind.open)(dir.path());
        let name = sink.name();
        let held = || (kind.held)(dir.path()).into_iter().map(|(id, (version, _))| (id, version)).collect::<Vec<_>>();
        for (d, expect, left) in [
            (document("a", 10, "first"), Written::Created, vec![("a", 10)]),
            (tombstone("a", 5), Written::Stale, vec![("a", 10)]),
            (tombstone("a", 20), Written::Updated, vec![]),
            (document("a", 15, "late"), Written::Stale, vec![]),
            (tombstone("a", 12), Written::Stale, vec![]),
            (document("a", 30, "back"), Written::Updated, vec![("a", 30)]),
            (document("a", 20, "late"), Written::Stale, vec![("a", 30)]),
            // A page that was never there: an older version of it may be on its way.
            (tombstone("b", 50), Written::Created, vec![("a", 30)]),
            (document("b", 49, "late"), Written::Stale, vec![("a", 30)]),
        ] {
            let what = format!("{name}: {} {} {}", d.id, d.fetched_at, d.gone);
            assert_eq!(sink.put(d).await, Ok(expect), "{what}");
            sink.flush().await.unwrap();
            let left: Vec<_> = left.into_iter().map(|(id, version)| (id.to_owned(), version)).collect();
            assert_eq!(held(), left, "{what}");
        }
        // In one batch, whatever its order.
        let many = (0..40).map(|i| if i % 2 == 0 { tombstone("c", i) } else { document("c", i, "text") });
        join_all(many.map(|d| sink.put(d))).await;
        assert_eq!(held(), [("a".to_owned(), 30), ("c".to_owned(), 39)], "{name}");
        sink.flush().await.unwrap();
        let swept = sink.sweep(51).await.unwrap();
        assert_eq!(swept, u64::from(name != "jsonl"), "{name}: the tombstone of b");
        assert_eq!((sink.sweep(51).await, held().len()), (Ok(0), 2), "{name}");
    }
}

#[tokio::test]
async fn versions_are_remembered_over_a_restart() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let sink = (kind.open)(dir.path());
            join_all((0..50).map(|i| sink.put(document(&format!("d{i}"), 5, "text")))).await;
            assert_eq!(sink.put(document("d7", 4, "old")).await, Ok(Written::Stale));
            assert_eq!(sink.put(document("d7", 5, "text")).await, Ok(Written::Updated));
        }
        let held = (kind.held)(dir.path());
        assert_eq!(held.len(), 50);
        assert_eq!(held["d7"], (5, "text".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_puts_the_newest_stays_and_each_has_its_own_outcome() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let sink = (kind.open)(dir.path());
        let puts = (0..400i64).map(|i| {
            let sink = Arc::clone(&sink);
            let version = (i * 7919) % 40;
            let id = if i % 50 == 49 { String::new() } else { format!("d{}", i % 10) };
            tokio::spawn(async move {
                let outcome = sink.put(document(&id, version, &format!("version {version}"))).await;
                (id, version, outcome)
            })
        });
        let mut newest = BTreeMap::new();
        let mut created = 0;
        for done in join_all(puts).await {
            let (id, version, outcome) = done.unwrap();
            match outcome {
                Err(SinkError::Rejected(_)) => assert!(id.is_empty()),
                Err(e) => panic!("{e}"),
                Ok(written) => {
                    assert!(!id.is_empty());
                    created += usize::from(written == Written::Created);
                    let newest: &mut (i64, String) = newest.entry(id).or_default();
                    *newest = newest.clone().max((version, format!("version {version}")));
                }
            }
        }
        assert_eq!(created, 10);
        assert_eq!((kind.held)(dir.path()), newest);
    }
}

#[tokio::test]
async fn takes_any_text_and_large_documents() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let sink = (kind.open)(dir.path());
        let odd = "nul \0 in it, \u{FFFF} \u{10FFFF} \u{2028} \"quoted\" \r\n\t\u{1b}[0m";
        let large = "lorem ipsum dolor ".repeat(300_000);
        for (id, text) in [("odd", odd), ("large", &large), ("empty", ""), ("one word", &"x".repeat(200_000))] {
            assert_eq!(sink.put(document(id, 1, text)).await, Ok(Written::Created), "{id}");
            assert_eq!(sink.put(document(id, 2, text)).await, Ok(Written::Updated), "{id}");
        }
        let mut nan = (*document("nan", i64::MAX, odd)).clone();
        nan.language_confidence = f64::NAN;
        nan.title = Some("\0".into());
        nan.attrs.insert("\0\"k".into(), "'v".into());
        // JSON has no NaN.
        if !matches!(sink.name(), "jsonl" | "folder") {
            assert_eq!(sink.put(Arc::new(nan)).await, Ok(Written::Created));
        }
        let held = (kind.held)(dir.path());
        assert_eq!(held["large"].1, large);
        assert_eq!(held["odd"].1.replace('\0', " "), odd.replace('\0', " "));
    }
}

/// What a killed process can leave: any cut of the file. Resumed and put again, each document is there once.
#[tokio::test]
async fn a_cut_json_lines_file_is_resumed_without_loss_or_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.jsonl");
    let documents: Vec<_> = (0..4).map(|i| document(&format!("d{i}"), i, "some \n text \u{2028}")).collect();
    let sink = JsonLines::open(&path, Mode::Fresh).unwrap();
    join_all(documents.iter().map(|d| sink.put(Arc::clone(d)))).await;
    drop(sink);
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(lines(&path).len(), 4);
    for cut in (0..=whole.len()).filter(|c| c % 13 == 0 || whole.len() - c < 3) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let sink = JsonLines::open(&path, Mode::Resume).unwrap();
        for d in &documents {
            sink.put(Arc::clone(d)).await.unwrap();
        }
        drop(sink);
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn a_json_lines_file_of_somebody_else_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.jsonl");
    for other in ["{\"a\": 1}\n", "text\nmore text\n", "{\"id\":\"a\",\"fetched_at\":\"x\"}\n{}"] {
        std::fs::write(&path, other).unwrap();
        let e = JsonLines::open(&path, Mode::Resume).err().unwrap().to_string();
        assert!(e.contains("line 1"), "{e}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
    }
}

#[tokio::test]
async fn a_json_lines_file_has_one_writer_and_fresh_empties_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/x.jsonl");
    let sink = JsonLines::open(&path, Mode::Fresh).unwrap();
    sink.put(document("a", 1, "x")).await.unwrap();
    let e = JsonLines::open(&path, Mode::Fresh).err().unwrap().to_string();
    assert!(e.contains("another process"), "{e}");
    assert_eq!(lines(&path).len(), 1);
    drop(sink);
    drop(JsonLines::open(&path, Mode::Fresh).unwrap());
    assert_eq!(lines(&path).len(), 0);
}

/// The device that is always full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_unavailable() {
    let sink = JsonLines::open(Path::new("/dev/full"), Mode::Resume).unwrap();
    assert!(matches!(sink.put(document("a", 1, "x")).await, Err(SinkError::Unavailable(_))));
    // Not written, so not remembered.
    assert!(matches!(sink.put(document("a", 1, "x")).await, Err(SinkError::Unavailable(_))));
}

type Open = fn(&Path) -> Box<dyn SearchIndex>;

/// Each index, empty, in a folder.
const INDICES: [Open; 2] =
    [|dir| Box::new(SqliteIndex::open(&dir.join("index.db")).unwrap()), |dir| Box::new(on_cluster(dir))];

/// A small library to look in.
async fn library(index: Box<dyn SearchIndex>) -> Box<dyn SearchIndex> {
    let texts = [
        (
            "cafe",
            "fr",
            "www.example.org",
            "2023-12-31",
            "Le café est déjà fermé",
            "Nous étions au café, rue du Marche\u{301}.",
        ),
        (
            "tide",
            "en",
            "sea.example.org",
            "2024-02-29",
            "Tide tables",
            "High water at the old mill. A tide mill grinds twice a day.",
        ),
        (
            "mill",
            "en",
            "example.com",
            "2024-12-31",
            "Windmills",
            "A mill driven by wind, not by water; the tide plays no part.",
        ),
        ("acao", "pt", "notexample.org", "", "Ação pública", "O tribunal julgou a ação. Coração e avó."),
    ];
    for (at, (id, language, host, date, title, text)) in texts.into_iter().enumerate() {
        let mut d = (*document(id, at as i64, text)).clone();
        d.language = Some(language.into());
        d.host = host.into();
        d.date = Some(date.to_owned()).filter(|d| !d.is_empty());
        d.author = (id == "mill").then(|| "Ana Sá".into());
        d.title = Some(title.into());
        index.put(Arc::new(d)).await.unwrap();
    }
    index.flush().await.unwrap();
    index
}

async fn ids(index: &dyn SearchIndex, query: &Query) -> Vec<String> {
    let found = index.search(query).await.unwrap_or_else(|e| panic!("{query:?}: {e}"));
    let ids: Vec<_> = found.hits.into_iter().map(|h| h.id).collect();
    if query.offset == 0 && query.limit >= 10 {
        assert_eq!(found.total, ids.len() as u64);
    }
    ids
}

#[tokio::test]
async fn finds_what_the_query_language_says() {
    for open in INDICES {
        let dir = tempfile::tempdir().unwrap();
        let index = library(open(dir.path())).await;
        for (text, expect) in [
            ("cafe", "cafe"),
            ("CAFÉ", "cafe"),
            ("cafe\u{301}", "cafe"),
            ("marche", "cafe"),
            ("acao coracao avo", "acao"),
            ("tide mill", "mill tide"),
            ("\"tide mill\"", "tide"),
            ("\"tide mill\" wind", ""),
            ("mill -wind", "tide"),
            ("mill -\"old mill\"", "mill"),
            ("win*", "mill"),
            ("\"old mi\"*", "tide"),
            ("coracao OR cafe", "acao cafe"),
            ("grinds OR wind water", "mill tide"),
            ("tide AND wind", "mill"),
            ("mill site:example.org", "tide"),
            ("site:example.org", "cafe tide"),
            ("site:https://Example.ORG/x lang:FR", "cafe"),
            ("site:example.org -mill", "cafe"),
            ("lang:en lang:pt", "acao mill tide"),
            ("nothing", ""),
            ("title:tide", "tide"),
            ("title:\"deja ferme\"", "cafe"),
            ("title:grinds", ""),
            ("-title:tide mill", "mill"),
            ("title:acao* OR author:ana", "acao mill"),
            ("author:\"ana sa\"", "mill"),
            ("author:sá -water", ""),
            ("url:tide", "tide"),
            ("url:example.org/mill", "mill"),
            ("url:https tide", "mill tide"),
            ("example", ""),
            ("mill OR acao -site:example.org", "acao mill"),
            ("mill -site:https://EXAMPLE.com", "tide"),
            ("-lang:en site:example.org", "cafe"),
            ("tide -lang:xx", "mill tide"),
            ("date:2024", "mill tide"),
            ("date:2024-02", "tide"),
            ("date:2024-02-29", "tide"),
            ("date:2024-03-01..", "mill"),
            ("date:..2024-02", "cafe tide"),
            ("date:2023 date:2024-12", "cafe mill"),
            ("tide -date:2024-02", "mill"),
            ("-date:2024 lang:pt", "acao"),
            ("after:2024-02-29 before:2024-12-31", "tide"),
            ("after:2024-03", "mill"),
            ("tide date:soon", ""),
            ("date:9999..", ""),
            ("☃ mill", "mill tide"),
            ("water; (mill", "mill tide"),
        ] {
            let mut found = ids(&*index, &Query::new(text)).await;
            found.sort();
            assert_eq!(found.join(" "), expect, "{}: {text}", index.name());
        }
        for empty in ["", "  ", "\"\"", "-wind", "!?", "OR"] {
            assert_eq!(index.search(&Query::new(empty)).await, Err(SearchError::Empty), "{empty:?}");
        }
        let fixed =
            Query { site: Some("example.org".into()), language: Some("en".into()), ..Query::new("mill lang:pt") };
        assert_eq!(ids(&*index, &fixed).await, ["tide"]);
        assert_eq!(ids(&*index, &Query { text: String::new(), ..fixed }).await, ["tide"]);
    }
}

#[tokio::test]
async fn counts_what_matches_by_host_language_and_year() {
    for open in INDICES {
        let dir = tempfile::tempdir().unwrap();
        let index = library(open(dir.path())).await;
        let facets = async |text: &str, facets| {
            let found = index.search(&Query { facets, limit: 1, ..Query::new(text) }).await.unwrap();
            found.facets.map(|f| {
                let shown = |buckets: Vec<Bucket>| {
                    buckets.iter().map(|b| format!("{} {}", b.value, b.count)).collect::<Vec<_>>().join(", ")
                };
                [shown(f.host), shown(f.language), shown(f.date)]
            })
        };
        assert_eq!(facets("mill", 0).await, None);
        let some = ["example.com 1, sea.example.org 1", "en 2", "2024 2"].map(str::to_owned);
        assert_eq!(facets("mill", 10).await, Some(some), "{}", index.name());
        let all = ["example.com 1, notexample.org 1", "en 2, fr 1", "2024 2, 2023 1"].map(str::to_owned);
        assert_eq!(facets("mill OR cafe OR acao", 2).await, Some(all), "{}", index.name());
        let listed = ["sea.example.org 1, www.example.org 1", "en 1, fr 1", "2024 1, 2023 1"].map(str::to_owned);
        assert_eq!(facets("site:example.org", 10).await, Some(listed), "{}", index.name());
        let none = ["", "", ""].map(str::to_owned);
        assert_eq!(facets("nothing", 10).await, Some(none), "{}", index.name());
    }
}

#[tokio::test]
async fn ranks_the_title_higher_marks_the_words_and_turns_pages() {
    for open in INDICES {
        let dir = tempfile::tempdir().unwrap();
        let index = library(open(dir.path())).await;
        let found = index.search(&Query { marks: ("<".into(), ">".into()), ..Query::new("tide") }).await.unwrap();
        let order: Vec<_> = found.hits.iter().map(|h| h.id.as_str()).collect();
        assert_eq!(order, ["tide", "mill"]);
        assert!(found.hits[0].score > found.hits[1].score && found.hits[1].score > 0.0);
        let snippet = &found.hits[0].snippet;
        assert!(snippet.ends_with("A <tide> mill grinds twice a day."), "{}: {snippet}", index.name());
        let hit = &found.hits[1];
        assert_eq!((hit.url.as_str(), hit.title.as_deref()), ("https://www.example.org/mill", Some("Windmills")));
        assert_eq!((hit.host.as_str(), hit.fetched_at), ("example.com", 2));

        let accents = index.search(&Query::new("acao")).await.unwrap();
        let snippet = &accents.hits[0].snippet;
        assert!(snippet.starts_with("O tribunal julgou a **ação**."), "{}: {snippet}", index.name());

        for text in ["mill", "mi*", "site:example.org"] {
            let all = ids(&*index, &Query::new(text)).await;
            let first = ids(&*index, &Query { limit: 1, ..Query::new(text) }).await;
            let second = ids(&*index, &Query { limit: 1, offset: 1, ..Query::new(text) }).await;
            assert_eq!([first, second].concat(), all, "{text}");
            let past = index.search(&Query { offset: usize::MAX, ..Query::new(text) }).await.unwrap();
            assert_eq!((past.total, past.hits.len()), (2, 0));
        }
    }
}

#[tokio::test]
async fn what_a_document_no_longer_says_is_not_found() {
    for open in INDICES {
        let dir = tempfile::tempdir().unwrap();
        let index = open(dir.path());
        for (version, text) in [(1, "oldword\0nul"), (2, "newword")] {
            index.put(document("a", version, text)).await.unwrap();
            index.flush().await.unwrap();
            for word in ["oldword nul", "newword"] {
                let expect = usize::from(word.starts_with(&text[..3]));
                assert_eq!(ids(&*index, &Query::new(word)).await.len(), expect, "{} {word}", index.name());
            }
        }
    }
}

#[tokio::test]
async fn what_is_gone_is_neither_found_nor_selected() {
    for open in INDICES {
        let dir = tempfile::tempdir().unwrap();
        let index = library(open(dir.path())).await;
        let select = async |which: Selection| {
            let (total, found) = index.select(&which, 1).await.unwrap();
            (total, found.into_iter().map(|d| d.id).collect::<Vec<_>>())
        };
        let site = || Selection::Host("Example.org".into());
        assert_eq!(select(site()).await, (2, vec!["cafe".to_owned()]), "{}", index.name());
        let url = Selection::Url("https://www.example.org/tide".into());
        assert_eq!(select(url.clone()).await, (1, vec!["tide".to_owned()]));
        index.put(tombstone("tide", 100)).await.unwrap();
        index.flush().await.unwrap();
        assert_eq!(select(site()).await, (1, vec!["cafe".to_owned()]), "{}", index.name());
        assert_eq!(select(url).await, (0, vec![]));
        assert_eq!(ids(&*index, &Query::new("tide")).await, ["mill"]);
        assert_eq!(ids(&*index, &Query::new("site:example.org")).await, ["cafe"]);
    }
}

/// What version 1 had: words of three columns, and no tombstones.
#[tokio::test]
async fn an_index_file_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index.db");
    drop(library(Box::new(SqliteIndex::open(&file).unwrap())).await);
    let shell = rusqlite::Connection::open(&file).unwrap();
    let first = "DROP TRIGGER documents_delete; DROP TABLE search; DROP TABLE tombstones;
        CREATE VIRTUAL TABLE search USING fts5(title, description, text, content = 'documents', content_rowid = 'n',
          tokenize = \"unicode61 remove_diacritics 2\");
        INSERT INTO search(search) VALUES ('rebuild');
        CREATE TRIGGER documents_delete AFTER DELETE ON documents BEGIN
          INSERT INTO search(search, rowid, title, description, text)
          VALUES ('delete', old.n, old.title, old.description, old.text);
        END;
        ALTER TABLE documents DROP COLUMN authors; ALTER TABLE documents DROP COLUMN modified;
        ALTER TABLE documents DROP COLUMN image; ALTER TABLE documents DROP COLUMN tags;
        ALTER TABLE documents DROP COLUMN license; ALTER TABLE documents DROP COLUMN page_kind;
        PRAGMA user_version = 1;";
    shell.execute_batch(first).unwrap();
    let index = SqliteIndex::open(&file).unwrap();
    for (text, expect) in [("acao", vec!["acao"]), ("author:ana", vec!["mill"]), ("url:tide", vec!["tide"])] {
        assert_eq!(ids(&index, &Query::new(text)).await, expect, "{text}");
    }
    index.put(tombstone("tide", 100)).await.unwrap();
    assert_eq!(ids(&index, &Query::new("url:tide OR title:tide")).await.len(), 0);
    (SQLITE.held)(dir.path());
    keeps_what_a_page_says_of_itself(&index, &shell).await;
}

/// A new document, and a newer version of it.
async fn keeps_what_a_page_says_of_itself(index: &SqliteIndex, shell: &rusqlite::Connection) {
    for version in [200, 300] {
        let mut d = (*document("said", version, "said")).clone();
        d.authors = vec!["Ana \"A\" Sá".into(), version.to_string()];
        d.tags = vec!["tide".into(), "mill".into()];
        d.modified = Some(format!("2024-01-{}", version / 10));
        d.image = Some("https://a.example/i.png".into());
        d.license = Some("CC BY 4.0".into());
        d.page_kind = Some("article".into());
        index.put(Arc::new(d.clone())).await.unwrap();
        let columns =
            "SELECT json_object('authors', json(authors), 'tags', json(tags), 'modified', modified, 'image', image,
            'license', license, 'page_kind', page_kind) FROM documents WHERE id = 'said'";
        let held: String = shell.query_row(columns, [], |r| r.get(0)).unwrap();
        let held: serde_json::Value = serde_json::from_str(&held).unwrap();
        let put = serde_json::to_value(&d).unwrap();
        assert!(held.as_object().unwrap().iter().all(|(name, value)| put[name] == *value), "{held}");
    }
}

#[tokio::test]
async fn the_embedded_index_keeps_what_a_page_says_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index.db");
    let index = SqliteIndex::open(&file).unwrap();
    keeps_what_a_page_says_of_itself(&index, &rusqlite::Connection::open(&file).unwrap()).await;
}

#[tokio::test]
async fn what_is_deleted_in_a_shell_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let index = SqliteIndex::open(&dir.path().join("index.db")).unwrap();
    index.put(document("a", 2, "newword")).await.unwrap();
    let shell = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    shell.execute("DELETE FROM documents WHERE host = 'www.example.org'", []).unwrap();
    assert_eq!(ids(&index, &Query::new("newword")).await.len(), 0);
    (SQLITE.held)(dir.path());
}

/// Whatever is typed: an answer, or [`SearchError::Empty`].
#[test]
fn no_query_is_a_syntax_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dirs = INDICES.map(|_| tempfile::tempdir().unwrap());
    let at = |n: usize| runtime.block_on(async { library(INDICES[n](dirs[n].path())).await });
    let indices = [at(0), at(1)];
    let answered = |query: &Query| {
        for index in &indices {
            let answer = runtime.block_on(index.search(query));
            assert!(matches!(answer, Ok(_) | Err(SearchError::Empty)), "{} {query:?}: {answer:?}", index.name());
        }
    };
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just("*".to_owned()),
        Just("-".to_owned()),
        Just(" ".to_owned()),
        Just(" OR ".to_owned()),
        Just(" NOT ".to_owned()),
        Just(" NEAR(".to_owned()),
        Just("site:".to_owned()),
        Just("{title text}:".to_owned()),
        Just("title:".to_owned()),
        Just("url:".to_owned()),
        Just("-author:\"".to_owned()),
        Just(" date:2024..".to_owned()),
        Just(" before:".to_owned()),
        Just("0001-01-01".to_owned()),
        Just("^mill".to_owned()),
        Just("'; --".to_owned()),
        Just("\0".to_owned()),
        "[a-z%_:+()^]{1,4}",
        "\\PC{1,4}",
        any::<String>(),
    ];
    let pieces = proptest::collection::vec(piece, 0..12);
    proptest!(ProptestConfig::with_cases(500), |(pieces in pieces, site in proptest::option::of(".{0,5}"), limit in 0..5usize)| {
        answered(&Query { site, limit, facets: limit, ..Query::new(pieces.concat()) });
    });
    for long in ["a* OR ".repeat(1_000), "-a ".repeat(1_000) + "b", "site:a ".repeat(1_000), "\u{1D165}".repeat(3_000)]
    {
        answered(&Query::new(long));
    }
    let words = |n| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ");
    for many in [words(32), words(64), words(64).replace(' ', "* ")] {
        answered(&Query::new(many));
    }
    // Letters to Rust, nothing to FTS5, which knows an older Unicode.
    for letters in ["\u{1E030}", "mill \u{1E030}", "-\u{1E030} mill", "\u{345}*", "a -\u{345}"] {
        answered(&Query::new(letters));
    }
}
