//! What only the embedded log can do or suffer: other people's files, locks, kill -9, clean-up, plain readers.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Log, PATIENCE, Reader, SqliteLog, placed, read_all, text, topic};
use rusqlite::Connection;
use tidemill::record::Headers;
use tidemill::transport::sqlite::Sqlite;
use tidemill::transport::{Committed, TopicPartition, Transport, TransportError};

const SHORT: Duration = Duration::from_millis(300);

fn fatal(path: &Path) -> String {
    match Sqlite::open(path) {
        Err(TransportError::Fatal(message)) => message,
        Err(e) => panic!("may not pass by itself: {e}"),
        Ok(_) => panic!("opened {}", path.display()),
    }
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused_with_the_fix() {
    let log = SqliteLog::new();
    drop(log.handle());
    log.plain().pragma_update(None, "user_version", 99).unwrap();
    let e = fatal(&log.path());
    assert!(e.contains("later version") && e.contains("upgrade tidemill"), "{e}");
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_as_they_are() {
    let log = SqliteLog::new();
    std::fs::write(log.path(), "a letter to my aunt, longer than the header of a database file would be\n".repeat(20))
        .unwrap();
    let before = std::fs::read(log.path()).unwrap();
    let e = fatal(&log.path());
    assert!(e.contains("not a SQLite database"), "{e}");
    assert_eq!(std::fs::read(log.path()).unwrap(), before);

    let log = SqliteLog::new();
    log.plain().execute_batch("CREATE TABLE recipes(name TEXT); INSERT INTO recipes VALUES ('soup')").unwrap();
    let before = std::fs::read(log.path()).unwrap();
    let e = fatal(&log.path());
    assert!(e.contains("database of something else"), "{e}");
    assert_eq!(std::fs::read(log.path()).unwrap(), before);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let e = fatal(&folder.path().join("file/log.db"));
    assert!(e.contains("cannot create the folder"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_file_is_waited_for_and_then_named() {
    let log = SqliteLog::new();
    let locker = log.plain();
    locker.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let asked = Instant::now();
    match Sqlite::open_within(&log.path(), SHORT) {
        Err(TransportError::Unavailable(m)) => assert!(m.contains("locked by another process"), "{m}"),
        Err(e) => panic!("passes once the lock is gone: {e}"),
        Ok(_) => panic!("opened a locked file"),
    }
    assert!(asked.elapsed() >= SHORT);
    locker.execute_batch("ROLLBACK").unwrap();

    let t = Sqlite::open_within(&log.path(), SHORT).unwrap();
    t.create_topics(&[topic("in", 1)]).await.unwrap();
    let mut r = Reader::join(&t, "g", &["in"]).await;
    r.until("the partition", |r| r.numbers().len() == 1).await;
    locker.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let e = t.append(vec![placed("in", 0, "x")]).await.unwrap_err();
    assert!(matches!(&e, TransportError::Unavailable(m) if m.contains("locked by another process")), "{e}");
    let at = TopicPartition::new("in", 0);
    let batch = r.batch(&at, 0, "", vec![placed("in", 0, "once")]);
    assert!(matches!(r.member.commit(batch.clone()).await, Committed::Aborted(m) if m.contains("locked")));
    // What nobody lets go of within the wait goes on when it is let go.
    let committing = r.member.commit(batch);
    let (outcome, ()) = tokio::join!(committing, async {
        tokio::time::sleep(SHORT / 3).await;
        locker.execute_batch("ROLLBACK").unwrap();
    });
    assert_eq!(outcome, Committed::Done);
    assert_eq!(read_all(&t, "in").await.iter().map(text).collect::<Vec<_>>(), ["once"]);
}

#[tokio::test]
async fn anyone_can_read_the_log_and_its_lag() {
    let log = SqliteLog::new();
    let t = log.open().await;
    t.create_topics(&[topic("in", 2), topic("out", 1)]).await.unwrap();
    let mut out = placed("in", 1, "hello");
    out.key = Some("k".into());
    out.headers = Headers(vec![("tidemill.task".into(), "t-1".into())]);
    t.append(vec![out, placed("in", 1, "b"), placed("in", 0, vec![b'z'; 100_000])]).await.unwrap();
    let mut r = Reader::join(&*t, "g", &["in"]).await;
    r.until("records", |r| r.records.len() == 3).await;
    let batch = r.batch(&TopicPartition::new("in", 1), 1, "", vec![]);
    assert_eq!(r.member.commit(batch).await, Committed::Done);

    let plain = Connection::open_with_flags(log.path(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let row: (String, i32, i64, String, String, String, String) = plain
        .query_row(
            "SELECT topic, partition, offset, written, key, headers, CAST(value AS TEXT) FROM log WHERE topic = 'in' AND partition = 1 AND offset = 0",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?, r.get(6)?)),
        )
        .unwrap();
    assert!(row.3.starts_with("20") && row.3.ends_with('Z'), "{}", row.3);
    assert_eq!((&*row.0, row.1, row.2, &*row.4), ("in", 1, 0, "k"));
    assert_eq!((&*row.5, &*row.6), (r#"[["tidemill.task","t-1"]]"#, "hello"));
    let stored: i64 = plain.query_row("SELECT bytes FROM log WHERE partition = 0", [], |r| r.get(0)).unwrap();
    assert!(stored < 1_000, "a large value that compresses well takes {stored} bytes");

    let mut q = plain.prepare("SELECT group_name, topic, partition, base, lag FROM lag ORDER BY partition").unwrap();
    let rows = q.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))).unwrap();
    let rows: Vec<(String, String, i32, i64, i64)> = rows.collect::<Result<_, _>>().unwrap();
    assert_eq!(rows, [("g".into(), "in".into(), 0, 0, 1), ("g".into(), "in".into(), 1, 1, 1)]);
}

#[tokio::test]
async fn sweeping_deletes_what_is_old_and_nothing_a_group_has_yet_to_read() {
    let log = SqliteLog::new();
    let t = log.open().await;
    let mut kept = topic("kept", 1);
    kept.retention_ms = -1;
    t.create_topics(&[topic("in", 1), topic("tail", 1), kept]).await.unwrap();
    let ten = |name: &str| (0..10).map(|i| placed(name, 0, i.to_string())).collect::<Vec<_>>();
    for name in ["in", "tail", "kept"] {
        t.append(ten(name)).await.unwrap();
    }
    let mut fast = Reader::join(&*t, "fast", &["in"]).await;
    let mut slow = Reader::join(&*t, "slow", &["in"]).await;
    fast.until("records", |r| r.records.len() == 10).await;
    slow.until("records", |r| r.records.len() == 10).await;
    assert_eq!(t.sweep().await.unwrap(), 0, "all is young");
    log.plain().execute("UPDATE records SET timestamp = timestamp - 3600001", []).unwrap();
    t.append(ten("tail")).await.unwrap();

    let starts = async || -> Vec<i64> {
        let mut starts = vec![];
        for name in ["in", "tail", "kept"] {
            starts.push(t.bounds(name).await.unwrap()[0].start);
        }
        starts
    };
    // Nobody has committed anything of `in`; nobody reads `tail` in a group; `kept` is kept.
    assert_eq!(t.sweep().await.unwrap(), 10);
    assert_eq!(starts().await, [0, 10, 0]);
    let at = TopicPartition::new("in", 0);
    let batch = fast.batch(&at, 10, "", vec![]);
    assert_eq!(fast.member.commit(batch).await, Committed::Done);
    let batch = slow.batch(&at, 4, "a map of later ones", vec![]);
    assert_eq!(slow.member.commit(batch).await, Committed::Done);
    assert_eq!(t.sweep().await.unwrap(), 4);
    assert_eq!(starts().await, [4, 10, 0]);
    assert_eq!(t.read(&at, 0, 100, 1 << 20).await.unwrap()[0].offset, 4);
    slow.member.leave().await;
    assert_eq!(t.sweep().await.unwrap(), 0, "a group that is away has still to read them");
    assert_eq!(read_all(&*t, "tail").await.len(), 10);
}

/// Not a test: the process that [`a_killed_process_is_taken_over_at_once`] starts and kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn a_process_that_holds_leases() {
    let Some(path) = std::env::var_os("TIDEMILL_TEST_LOG") else { return };
    let t = Sqlite::open(Path::new(&path)).unwrap();
    let mut r = Reader::join(&t, "g", &["in"]).await;
    r.until("records", |r| r.records.len() == 6).await;
    let batch = r.batch(&TopicPartition::new("in", 0), 1, "", vec![placed("out", 0, "from the dead")]);
    assert_eq!(r.member.commit(batch).await, Committed::Done);
    println!("HOLDING");
    tokio::time::sleep(PATIENCE * 4).await;
}

#[tokio::test]
async fn a_killed_process_is_taken_over_at_once() {
    let log = SqliteLog::new();
    let t = log.open().await;
    t.create_topics(&[topic("in", 3), topic("out", 1)]).await.unwrap();
    t.append((0..6).map(|i| placed("in", i % 3, i.to_string())).collect()).await.unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_holds_leases", "--ignored", "--nocapture"])
        // By another path: processes know each other whatever way they came to the folder.
        .current_dir(log.folder.path())
        .env("TIDEMILL_TEST_LOG", "log.db")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|l| l.contains("HOLDING")), "the child ended early");

    let mut heir = Reader::join(&*t, "g", &["in"]).await;
    heir.during(Duration::from_secs(1)).await;
    assert_eq!(heir.numbers().len(), 0, "what a living process holds is not taken");
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    heir.until("all records", |h| h.records.len() == 5).await;
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
    assert_eq!(heir.owned[&TopicPartition::new("in", 0)].base, 1);
    assert_eq!(read_all(&*t, "out").await.iter().map(text).collect::<Vec<_>>(), ["from the dead"]);
    // Its lock file is cleared away by the next one who enters.
    let _next = Reader::join(&*t, "h", &["in"]).await;
    let locks = std::fs::read_dir(log.folder.path()).unwrap();
    let locks = locks.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "lock")).count();
    assert_eq!(locks, 1);
}

#[tokio::test]
async fn two_processes_may_create_the_file_at_once() {
    let log = SqliteLog::new();
    let handles: Vec<_> = (0..4)
        .map(|_| {
            let path = log.path();
            std::thread::spawn(move || Sqlite::open(&path).map(drop))
        })
        .collect();
    for h in handles {
        h.join().unwrap().unwrap();
    }
    drop(log.handle());
    let locks = std::fs::read_dir(log.folder.path()).unwrap();
    let locks = locks.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "lock")).count();
    assert_eq!(locks, 0, "lock files go with their process");
}
