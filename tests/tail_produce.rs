//! `tail` and `produce`, the real binary on a real log: what one prints the other takes, byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod whole;

use std::fs::File;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tidemill::record::{Headers, OutcomeKind, StatusEvent, UrlTask, codec};
use tidemill::transport::{Incoming, Outgoing};
use whole::{Running, Tidemill, eventually, log, records};

/// Longest wait for a process to do what it is asked.
const PATIENCE: Duration = Duration::from_secs(60);

fn bench() -> (TempDir, Tidemill) {
    let dir = tempfile::tempdir().unwrap();
    let tidemill = Tidemill::new(dir.path());
    (dir, tidemill)
}

fn record(topic: &str, partition: i32, key: Option<&[u8]>, value: impl Into<Bytes>, headers: Headers) -> Outgoing {
    Outgoing {
        tombstone: false,
        topic: format!("tidemill.{topic}").into(),
        partition: Some(partition),
        key: key.map(Bytes::copy_from_slice),
        value: value.into(),
        headers,
    }
}

/// Appends one by one, some ms apart, so that their times tell their order.
fn append(t: &Tidemill, list: impl IntoIterator<Item = Outgoing>) {
    log(&t.data(), async |log, _| {
        for r in list {
            log.append(vec![r]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

fn all(t: &Tidemill, topic: &str) -> Vec<Incoming> {
    log(&t.data(), async |log, names| records(log, names, topic).await)
}

/// Values of the lines that `tail --json` prints.
fn values(t: &Tidemill, args: &[&str]) -> Vec<String> {
    let out = t.run(&[&["tail"], args, &["--json"]].concat()).expect(0).stdout;
    let value = |l: &str| serde_json::from_str::<Value>(l).unwrap()["value"].as_str().unwrap().to_owned();
    out.lines().map(value).collect()
}

// ---- produce

#[test]
fn lines_become_records_and_a_url_gets_its_host() {
    let (dir, t) = bench();
    std::fs::write(
        dir.path().join("urls.txt"),
        "# mine\nhttp://A.test/1\r\n\n{\"url\": \"https://b.test:8443/\"}\nc.test/2",
    )
    .unwrap();
    let ended = t.run(&["produce", "urls.bulk", "urls.txt", "--header", "who=me"]).expect(0);
    assert!(ended.stderr.contains("3 records produced to tidemill.urls.bulk"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    let mut got: Vec<_> = all(&t, "urls.bulk")
        .into_iter()
        .map(|r| {
            assert_eq!(r.headers.str("who"), Some("me"));
            let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
            (text(&r.key.unwrap()), text(&r.value))
        })
        .collect();
    got.sort();
    let owned = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    assert_eq!(
        got,
        [
            owned("a.test", "http://A.test/1"),
            owned("b.test:8443", "{\"url\": \"https://b.test:8443/\"}"),
            owned("c.test", "c.test/2")
        ]
    );

    let ended = t.run_with(&["produce", "tidemill.jobs", "--key-separator", "\\t", "--partition", "3"], b"k\tv\tw\n");
    assert!(ended.expect(0).stderr.contains("1 records"));
    let [r] = &all(&t, "jobs")[..] else { panic!("one record") };
    assert_eq!((r.at.partition, r.key.as_deref(), &r.value[..]), (3, Some(&b"k"[..]), &b"v\tw"[..]));
}

#[test]
fn a_bad_line_is_named_and_nothing_after_it_is_produced() {
    let (_dir, t) = bench();
    let lines = b"http://a.test/\n\nmailto:x@y\nhttp://b.test/\n{\"ulr\": 1}\nhttp://c.test/\n";
    let ended = t.run_with(&["produce", "urls"], lines).expect(1);
    for words in ["error: ", "1 records produced", "line 3: ", "mailto", "--skip-bad"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert_eq!(all(&t, "urls").len(), 1);
    let ended = t.run_with(&["produce", "urls", "--skip-bad"], lines).expect(0);
    for words in ["3 records produced", "2 bad lines left out", "line 3 left out", "line 5 left out"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert_eq!(all(&t, "urls").len(), 4);
    let ended = t.run_with(&["produce", "jobs", "--json"], b"{\"value\": \"x\"}\n{\"valeu\": \"x\"}\n").expect(1);
    assert!(ended.stderr.contains("line 2: ") && ended.stderr.contains("valeu"), "{}", ended.stderr);
    let ended = t.run(&["produce", "jobs", "nowhere.txt"]).expect(1);
    assert!(ended.stderr.contains("nowhere.txt"), "{}", ended.stderr);
}

#[test]
fn a_line_does_not_wait_for_the_next_and_many_are_all_there() {
    let (_dir, t) = bench();
    let mut running = Running::start(t.command(&["produce", "urls"]).stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    writeln!(stdin, "http://a.test/").unwrap();
    let there = || t.run(&["tail", "urls"]).expect(0).stdout.contains("http://a.test/");
    assert!(eventually(PATIENCE, there), "the first line waits for the second");
    for n in 0..5_000 {
        writeln!(stdin, "http://a.test/{n}").unwrap();
    }
    drop(stdin);
    assert!(running.ended(PATIENCE).expect(0).stderr.contains("5001 records"));
    let got = all(&t, "urls");
    let order: Vec<_> = got[1..].iter().map(|r| String::from_utf8(r.value.to_vec()).unwrap()).collect();
    assert_eq!(order, (0..5_000).map(|n| format!("http://a.test/{n}")).collect::<Vec<_>>(), "in order");
}

#[test]
fn what_tail_prints_produce_copies_byte_for_byte() {
    let (dir, t) = bench();
    let header = |n: &'static str, v: &'static [u8]| (n.into(), Bytes::from_static(v));
    let twice = Headers(vec![header("b", b"1"), header("a", b"\xff\x00"), header("b", b"2")]);
    let one = Headers(vec![header("z", b"1"), header("a", "é\n\"".as_bytes())]);
    let task = codec::encode(&UrlTask::new("http://a.test/"), &codec::Ids::default()).unwrap();
    let none = Headers::default;
    let made = [
        record("urls", 0, Some(b"a.test"), task, twice),
        record("urls", 1, None, "{\"url\" :  \"http://b.test/\"}", one),
        record("urls", 2, Some(b"\xfe\xff"), "{\n\"url\": 1e2}\n", none()),
        record("urls", 3, Some(b""), &b"\x00\xff\xc3\x01"[..], none()),
        record("urls", 4, Some(b"k"), "17", none()),
        record("urls", 5, Some(b"k"), " two\r\nlines\u{2028}", none()),
        record("urls", 6, Some(b"k"), "", none()),
    ];
    append(&t, made.clone());
    let lines = t.run(&["tail", "urls", "--from", "start", "--json"]).expect(0).stdout;
    assert_eq!(lines.lines().count(), made.len(), "{lines}");
    std::fs::write(dir.path().join("copy.jsonl"), &lines).unwrap();
    t.run(&["produce", "urls.high", "copy.jsonl", "--json"]).expect(0);
    let bytes = |r: Incoming| (r.key, r.value, r.headers);
    let mut copied: Vec<_> = all(&t, "urls.high").into_iter().map(bytes).collect();
    for r in made {
        let r = (r.key, r.value, r.headers);
        let at = copied.iter().position(|c| *c == r).unwrap_or_else(|| panic!("{r:?} is not among {copied:?}"));
        copied.remove(at);
    }
    assert!(copied.is_empty(), "{copied:?}");
}

// ---- tail

#[test]
fn the_newest_of_all_partitions_come_in_the_order_of_their_times() {
    let (_dir, t) = bench();
    let made = (0..40).map(|n| {
        let headers = Headers(vec![("n".into(), Bytes::from((n % 2).to_string()))]);
        record("replays", n % 5, Some(b"k"), format!("value {n}"), headers)
    });
    append(&t, made);
    let expected = |list: &mut dyn Iterator<Item = i32>| list.map(|n| format!("value {n}")).collect::<Vec<_>>();
    assert_eq!(values(&t, &["replays"]), expected(&mut (30..40)));
    assert_eq!(values(&t, &["tidemill.replays", "-n", "3"]), expected(&mut (37..40)));
    assert_eq!(values(&t, &["replays", "-n", "0"]), [] as [&str; 0]);
    assert_eq!(values(&t, &["replays", "--from", "start"]), expected(&mut (0..40)));
    assert_eq!(values(&t, &["replays", "--from", "start", "-n", "7"]), expected(&mut (0..7)));
    assert_eq!(values(&t, &["replays", "--partition", "3", "-n", "2"]), expected(&mut [33, 38].into_iter()));
    assert_eq!(values(&t, &["replays", "--header", "n=1", "-n", "3"]), expected(&mut [35, 37, 39].into_iter()));
    assert_eq!(values(&t, &["replays", "--grep", "value [12]$"]), expected(&mut [1, 2].into_iter()), "however old");
    assert_eq!(values(&t, &["replays", "--key", "other"]), [] as [&str; 0]);
    // Since the time of the record 25.
    let at = |n: usize| {
        let mut all = all(&t, "replays");
        all.sort_by_key(|r| r.timestamp);
        tidemill::record::time(all[n].timestamp)
    };
    assert_eq!(values(&t, &["replays", "--from", &at(25)]), expected(&mut (25..40)));
    assert_eq!(values(&t, &["replays", "--from", "1h ago"]).len(), 40);
    assert_eq!(values(&t, &["replays", "--from", "0s ago"]), [] as [&str; 0]);
}

#[test]
fn a_table_line_says_where_and_what_and_a_status_event_what_became_of_it() {
    let (_dir, t) = bench();
    let event = |task: &str, job: &str| StatusEvent {
        task: task.into(),
        job: Some(job.into()),
        url: format!("http://{task}.test/"),
        stage: "fetch".into(),
        outcome: OutcomeKind::DeadLettered,
        class: Some("timeout".into()),
        message: Some("no \u{1b}[31manswer".into()),
        attempt: 4,
        at: 1_000,
        took_ms: 1.0,
        waited_ms: 1.0,
        emitted: 0,
        until: None,
        trace: String::new(),
    };
    let event = |task, job| {
        record("status", 0, None, codec::encode(&event(task, job), &codec::Ids::default()).unwrap(), Headers::default())
    };
    append(&t, [event("one", "j1"), event("two", "j2")]);
    let line = "1970-01-01T00:00:01.000Z  fetch    dead_lettered timeout            http://one.test/  no  [31manswer\n";
    assert_eq!(t.run(&["tail", "status", "--job", "j1"]).expect(0).stdout, line);
    assert_eq!(t.run(&["tail", "status", "--task", "one"]).expect(0).stdout, line);
    assert_eq!(t.run(&["tail", "status", "--url", "//one"]).expect(0).stdout, line);
    let json: Value =
        serde_json::from_str(&t.run(&["tail", "status", "--job", "j2", "--json"]).expect(0).stdout).unwrap();
    assert_eq!((&json["schema"], &json["value"]["class"]), (&"status_event".into(), &"timeout".into()));

    let task = codec::encode(&UrlTask::new("http://a.test/"), &codec::Ids::default()).unwrap();
    append(&t, [record("urls", 7, Some(b"a.test"), task, Headers(vec![("tidemill.job".into(), "j1".into())]))]);
    let line = t.run(&["tail", "urls"]).expect(0).stdout;
    assert!(line.contains("  7/0 ") && line.contains(" a.test "), "{line}");
    assert!(line.ends_with("url=http://a.test/ force=false maxdepth=0  job=j1\n"), "{line}");
}

#[test]
fn a_follower_shows_what_comes_and_ends_with_a_signal() {
    let (dir, t) = bench();
    t.run_with(&["produce", "urls"], b"http://old.test/\n").expect(0);
    let out = dir.path().join("out");
    let read = || std::fs::read_to_string(&out).unwrap();
    for (from, shows_old) in [(&[][..], true), (&["--from", "end"][..], false)] {
        let args = [&["tail", "urls", "--follow", "--grep", "old|new"], from].concat();
        let mut command = t.command(&args);
        let mut child = command.stdout(File::create(&out).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
        // It follows at some time; until then each new record may be too early for it.
        let shown = eventually(PATIENCE, || {
            t.run_with(&["produce", "urls"], b"http://other.test/\nhttp://new.test/\n").expect(0);
            read().contains("http://new.test/")
        });
        assert!(shown && child.try_wait().unwrap().is_none(), "{}", read());
        assert_eq!(read().contains("http://old.test/"), shows_old);
        assert!(!read().contains("http://other.test/"));
        let killed = std::process::Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
        assert!(killed.success());
        assert!(eventually(PATIENCE, || child.try_wait().unwrap().is_some()));
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
