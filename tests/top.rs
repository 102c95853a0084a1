//! `top`: its snapshots against a real log, the real binary beside a pipeline, and its way with a terminal.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod whole;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::engine::{create, full, names};
use common::{PATIENCE, Reader, SqliteLog, placed};
use tidemill::engine::offset_map;
use tidemill::jobs::{Job, Lane};
use tidemill::monitor::{Collector, Snapshot, Stage};
use tidemill::record::{OutcomeKind, StatusEvent, codec};
use tidemill::topology::{self, StageName};
use tidemill::transport::{Committed, Outgoing, TopicPartition};
use whole::server::{Reply, Server};
use whole::{Tidemill, eventually};

// ---- snapshots

fn event(task: &str, outcome: OutcomeKind, at: i64) -> Outgoing {
    let event = StatusEvent {
        task: task.into(),
        job: Some("j".into()),
        url: format!("http://{task}.test/"),
        stage: "fetch".into(),
        outcome,
        class: Some("timeout".into()),
        message: None,
        attempt: 1,
        at,
        took_ms: 1.0,
        waited_ms: 1.0,
        emitted: 0,
        until: None,
        trace: String::new(),
    };
    placed(&full("status"), 2, codec::encode(&event, &codec::Ids::default()).unwrap())
}

fn job(id: &str, created: i64) -> Outgoing {
    let job = Job {
        id: id.into(),
        created,
        source: "s".into(),
        lane: Lane::Normal,
        appended: 5,
        submitted: Some(5),
        ended: false,
        reached: None,
    };
    Outgoing { key: Some(id.to_owned().into()), ..placed(&full("jobs"), 0, serde_json::to_vec(&job).unwrap()) }
}

fn fetch(s: &Snapshot) -> &Stage {
    &s.stages[StageName::Fetch as usize]
}

#[tokio::test]
async fn a_snapshot_counts_what_waits_what_failed_and_how_far_jobs_are() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    let urls = full("urls");
    log.append((0..20).map(|n| placed(&urls, 3, format!("{n}"))).collect()).await.unwrap();
    log.append((0..2).map(|n| placed(&full("fetch.retry.2"), 3, format!("{n}"))).collect()).await.unwrap();
    log.append((0..3).map(|n| placed(&full("fetch.dlq"), 1, format!("{n}"))).collect()).await.unwrap();
    // One of them was put back.
    let marker = Bytes::from_static(br#"{"run":"r","at":5}"#);
    let back = Outgoing { key: Some("fetch.dlq/1/1".into()), ..placed(&full("replays"), 0, marker) };
    log.append(vec![back, job("j", 10), job("other", 20)]).await.unwrap();
    use OutcomeKind::{DeadLettered, Done, Dropped, Emitted, Retried};
    let said = [("a", Retried, 1), ("b", DeadLettered, 9), ("c", Dropped, 3), ("d", Emitted, 4), ("e", Done, 5)];
    log.append(said.map(|(task, outcome, at)| event(task, outcome, at)).to_vec()).await.unwrap();

    // 0 to 3, 5 and 7 to 9 are done.
    let subscribed = topology::stage(StageName::Fetch).subscribed();
    let topics: Vec<String> = subscribed.iter().map(|(t, _)| full(t)).collect();
    let mut member = Reader::join(&*log, &full("fetch"), &topics.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let at = TopicPartition::new(urls.as_str(), 3);
    member.until("the partition", |r| r.owned.contains_key(&at)).await;
    let map = offset_map::encode(4, 9, [4, 6]);
    let batch = member.batch(&at, 4, &map, vec![]);
    assert_eq!(member.member.commit(batch).await, Committed::Done);

    // Another process looks.
    let mut collector = Collector::new(file.handle(), names()).await.unwrap();
    let s = collector.look(None).await.unwrap();
    let f = fetch(&s);
    assert_eq!((f.lag, f.gap, f.incomplete, f.retries), (12, 5, 2, [0, 2, 0, 0]));
    assert_eq!((f.dead_letters, f.new_dead_letters, f.rate), (2, 0, None));
    let p = f.topics.iter().find(|t| t.topic == "urls").unwrap().partitions[3];
    assert_eq!((p.base, p.end, p.lag, p.gap, p.incomplete), (4, 20, 12, 5, 2));
    assert_eq!(s.stages[1].lag + s.stages[2].lag + s.stages[3].lag, 0);
    let failures: Vec<_> = s.failures.iter().map(|e| e.task.as_str()).collect();
    assert_eq!(failures, ["b", "a"], "the newest first");
    let jobs: Vec<_> = s.jobs.iter().map(|j| (j.job.id.as_str(), j.finished, j.total(), j.dead_letters)).collect();
    assert_eq!(jobs, [("other", 0, 5, 0), ("j", 4, 5, 1)]);
    assert!(s.caught_up);

    // What comes between two looks makes the rates.
    log.append((20..30).map(|n| placed(&urls, 3, format!("{n}"))).collect()).await.unwrap();
    log.append(vec![placed(&full("fetch.dlq"), 1, "new"), event("f", DeadLettered, 12)]).await.unwrap();
    let batch = member.batch(&at, 20, "", vec![]);
    assert_eq!(member.member.commit(batch).await, Committed::Done);
    let s = collector.look(None).await.unwrap();
    let f = fetch(&s);
    assert_eq!((f.lag, f.gap, f.dead_letters, f.new_dead_letters), (10, 0, 3, 1));
    let rate = f.rate.unwrap();
    assert!(rate.inward > 0.0 && rate.outward > 0.0, "{rate:?}");
    assert!((rate.outward / rate.inward - 1.2).abs() < 1e-6, "12 went while 10 came: {rate:?}");
    assert_eq!(s.failures[0].task, "f");
    assert_eq!(s.jobs[1].finished, 5);

    // What only moves to a retry topic is not through; and nothing at all moves without a cause.
    let moved = vec![placed(&full("fetch.retry.1"), 3, "20"), placed(&full("fetch.retry.1"), 3, "21")];
    let batch = member.batch(&at, 22, "", moved);
    assert_eq!(member.member.commit(batch).await, Committed::Done);
    let s = collector.look(None).await.unwrap();
    let rate = fetch(&s).rate.unwrap();
    assert_eq!((rate.inward, rate.outward, fetch(&s).retries), (0.0, 0.0, [2, 2, 0, 0]));
}

#[tokio::test]
async fn a_long_past_does_not_hold_up_the_first_picture() {
    let file = SqliteLog::new();
    let log = file.handle();
    create(&*log).await;
    log.append(vec![job("j", 10)]).await.unwrap();
    for part in 0..5 {
        let events = (0..1_000).map(|n| event(&format!("{part}-{n}"), OutcomeKind::Retried, part * 1_000 + n));
        log.append(events.collect()).await.unwrap();
    }
    log.append((0..5).map(|n| event(&format!("0-{n}"), OutcomeKind::DeadLettered, 10_000)).collect()).await.unwrap();
    let mut collector = Collector::new(Arc::clone(&log), names()).await.unwrap();
    let first = collector.look(Some(Duration::ZERO)).await.unwrap();
    assert!(!first.caught_up);
    assert_eq!((first.failures.len(), first.failures[0].at), (200, 10_000), "the newest are there at once");
    let mut looks = 1;
    let last = loop {
        looks += 1;
        let s = collector.look(Some(Duration::ZERO)).await.unwrap();
        if s.caught_up {
            break s;
        }
        assert!(looks < 50);
    };
    assert!(looks > 3, "a piece a look, not all at once");
    assert_eq!((last.jobs[0].finished, last.failures), (5, first.failures));
}

// ---- the binary

#[test]
fn it_shows_what_a_pipeline_in_another_process_does() {
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let site = Server::start(|path, _| match path {
        path if path.starts_with("/page/") => Reply::page(&format!("harbour {}", &path[6..])),
        path if path.starts_with("/none/") => Reply::status(404),
        _ => Reply::status(404),
    });
    let config = "[fetch]\ndelay = \"0s\"\nallow_addresses = [\"127.0.0.1/32\"]\n";
    std::fs::write(dir.path().join("tidemill.toml"), config).unwrap();
    let urls: String = (0..30).map(|n| format!("{}\n", site.url(&format!("/page/{n}")))).collect();
    let gone: String = (0..3).map(|n| format!("{}\n", site.url(&format!("/none/{n}")))).collect();
    std::fs::write(dir.path().join("urls.txt"), urls + &gone).unwrap();
    let top = || t.json(&["top", "--json", "--every", "100ms"]);

    t.run(&["submit", "--file", "urls.txt"]).expect(0);
    let before = top();
    assert_eq!((&before["stages"][0]["stage"], &before["stages"][0]["lag"]), (&"fetch".into(), &33.into()));
    let people = t.run(&["top", "--every", "100ms"]).expect(0).stdout;
    let row: Vec<&str> = people.lines().find(|l| l.starts_with(" fetch")).unwrap().split_whitespace().collect();
    assert_eq!(row, ["fetch", "0.0", "0.0", "33", "0", "0", "0", "0", "0", "0", "0"], "{people}");

    let service = t.start(&["run", "--ladder", "quick", "--listen", "127.0.0.1:0"]);
    let mut now = before;
    let done = eventually(PATIENCE, || {
        now = top();
        now["jobs"][0]["finished"] == 33 && now["stages"].as_array().unwrap().iter().all(|s| s["lag"] == 0)
    });
    assert!(done, "{now}");
    assert_eq!((&now["jobs"][0]["indexed"], &now["jobs"][0]["dead_letters"]), (&30.into(), &3.into()));
    assert_eq!(now["stages"][0]["dead_letters"], 3);
    assert_eq!(now["failures"].as_array().unwrap().len(), 3);
    let people = t.run(&["top", "--once", "--every", "100ms"]).expect(0).stdout;
    assert!(people.contains("newest failures") && people.contains("dead_lettered http-4xx"), "{people}");
    let status = t.json(&["status", "--json"]);
    assert!(status["lag"].as_array().unwrap().iter().all(|l| l["lag"] == 0), "as `status` has it: {status}");
    service.signal("TERM");
    service.ended(Duration::from_secs(20)).expect(0);
}

/// A terminal of 100 by 30, made by `script` (of util-linux, as every Linux has it), with `top` in it, and then a look at
/// whether the terminal is as it was. The name of the shell's file with its process id is `pid`.
fn terminal(dir: &Path) -> (Child, PathBuf) {
    let (seen, bin) = (dir.join("seen"), env!("CARGO_BIN_EXE_tidemill"));
    let inside = format!(
        "stty cols 100 rows 30; sh -c 'echo $$ > pid; exec {bin} --data data top --every 100ms'; echo code=$?; stty -a; echo over"
    );
    let mut script = Command::new("script");
    whole::clean(&mut script).current_dir(dir).env("TERM", "xterm").env("SHELL", "/bin/sh");
    script.args(["-q", "-f", "-c", &inside]).arg(&seen).stdin(Stdio::piped()).stdout(Stdio::null());
    (script.spawn().expect("script, of util-linux, is there"), seen)
}

const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

#[track_caller]
fn is_as_it_was(seen: &str) {
    let after = seen.rsplit_once(GIVEN_BACK).unwrap_or_else(|| panic!("no way back: {seen:?}")).1;
    assert!(after.contains("code=0"), "{after}");
    assert!(
        after.contains("\u{1b}[?25h")
            || seen.rsplit_once("\u{1b}[?25h").is_some_and(|(_, l)| !l.contains("\u{1b}[?25l"))
    );
    let words: Vec<&str> = after.split_whitespace().collect();
    assert!(words.contains(&"icanon") && words.contains(&"echo") && words.contains(&"isig"), "{after}");
}

#[test]
fn a_terminal_is_taken_over_answers_keys_and_is_given_back() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let (mut script, seen) = terminal(dir.path());
    let mut keys = script.stdin.take().unwrap();
    let read = || String::from_utf8_lossy(&std::fs::read(&seen).unwrap_or_default()).into_owned();
    let shows = |text: &str| assert!(eventually(PATIENCE, || read().contains(text)), "{text}: {:?}", read());
    shows(TAKEN);
    shows("fetch partitions");
    keys.write_all(b"?").unwrap();
    shows("keys and columns");
    keys.write_all(b" jj").unwrap();
    // Only what changes is written anew: the names of enrich's topics are.
    shows("documents/0");
    keys.write_all(b"q").unwrap();
    shows("over");
    drop(keys);
    assert!(eventually(PATIENCE, || script.try_wait().unwrap().is_some()));
    is_as_it_was(&read());
}

#[test]
fn a_terminal_is_given_back_when_a_signal_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut script, seen) = terminal(dir.path());
    let read = || String::from_utf8_lossy(&std::fs::read(&seen).unwrap_or_default()).into_owned();
    assert!(eventually(PATIENCE, || read().contains("fetch partitions")), "{:?}", read());
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    assert!(Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap().success());
    assert!(eventually(PATIENCE, || read().contains("over")), "{:?}", read());
    drop(script.stdin.take());
    assert!(eventually(PATIENCE, || script.try_wait().unwrap().is_some()));
    is_as_it_was(&read());
}
