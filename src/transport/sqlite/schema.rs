//! The file: tables, version, settings, and SQLite's errors in words.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};

use crate::record::now_ms;
use crate::transport::{Result, TransportError};

/// `PRAGMA user_version` of this version's tables.
const VERSION: i64 = 1;
/// `PRAGMA application_id`: "Tide".
const APPLICATION: i64 = 0x5469_6465;
/// How long a statement waits for a lock another process holds.
pub const BUSY: Duration = Duration::from_secs(10);
/// Pause between two attempts to open.
const RETRY: Duration = Duration::from_millis(20);

const TABLES: &str = "
CREATE TABLE topics(
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL,
  cleanup TEXT NOT NULL, retention_ms INTEGER NOT NULL, max_message_bytes INTEGER NOT NULL) STRICT;
CREATE TABLE partitions(
  topic_id INTEGER NOT NULL, partition INTEGER NOT NULL,
  start_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL,
  PRIMARY KEY (topic_id, partition)) STRICT, WITHOUT ROWID;
CREATE TABLE records(
  id INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, key BLOB, headers TEXT NOT NULL,
  codec INTEGER NOT NULL, value BLOB NOT NULL) STRICT;
CREATE TABLE progress(
  group_name TEXT NOT NULL, topic_id INTEGER NOT NULL, partition INTEGER NOT NULL,
  base INTEGER NOT NULL, map TEXT NOT NULL,
  PRIMARY KEY (group_name, topic_id, partition)) STRICT, WITHOUT ROWID;
CREATE TABLE members(
  member TEXT PRIMARY KEY, group_name TEXT NOT NULL, lock_file TEXT NOT NULL, heartbeat INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE leases(
  group_name TEXT NOT NULL, partition INTEGER NOT NULL, member TEXT, epoch INTEGER NOT NULL,
  PRIMARY KEY (group_name, partition)) STRICT, WITHOUT ROWID;
CREATE TABLE subscriptions(
  group_name TEXT NOT NULL, topic_id INTEGER NOT NULL, PRIMARY KEY (group_name, topic_id)) STRICT, WITHOUT ROWID;
CREATE VIEW log AS SELECT
  t.name AS topic, (r.id >> 40) & 4095 AS partition, r.id & 1099511627775 AS offset,
  strftime('%Y-%m-%dT%H:%M:%fZ', r.timestamp / 1000.0, 'unixepoch') AS written,
  CAST(r.key AS TEXT) AS key, r.headers AS headers, r.codec AS codec, length(r.value) AS bytes, r.value AS value
  FROM records r JOIN topics t ON t.id = r.id >> 52;
CREATE VIEW lag AS SELECT
  s.group_name AS group_name, t.name AS topic, p.partition AS partition, p.next_offset AS next_offset,
  coalesce(g.base, p.start_offset) AS base, p.next_offset - coalesce(g.base, p.start_offset) AS lag
  FROM partitions p JOIN topics t ON t.id = p.topic_id
  JOIN subscriptions s ON s.topic_id = p.topic_id
  LEFT JOIN progress g ON g.topic_id = p.topic_id AND g.partition = p.partition AND g.group_name = s.group_name;
";

/// Row id of a record: 11 bits topic, 12 bits partition, 40 bits offset, so that one partition is one range of the table.
pub fn record_id(topic_id: i64, partition: i32, offset: i64) -> i64 {
    topic_id << 52 | i64::from(partition) << 40 | offset
}

/// Offset part of a row id.
pub fn offset_of(id: i64) -> i64 {
    id & ((1 << 40) - 1)
}

/// Opens the file for writing, creating it and its tables if it is new. Waits up to `busy` for a lock.
pub fn open(path: &Path, busy: Duration) -> Result<Connection> {
    let until = Instant::now() + busy;
    loop {
        match try_open(path, busy) {
            // Turning on WAL does not wait by itself while another process creates the file.
            #[allow(clippy::disallowed_methods, reason = "opening is blocking work; its callers know")]
            Err(TransportError::Unavailable(_)) if Instant::now() < until => std::thread::sleep(RETRY),
            opened => return opened,
        }
    }
}

fn try_open(path: &Path, busy: Duration) -> Result<Connection> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)
            .map_err(|e| TransportError::Fatal(format!("cannot create the folder {}: {e}", dir.display())))?;
    }
    let fail = |e: rusqlite::Error| explain(&e, path);
    let mut c = Connection::open(path).map_err(fail)?;
    c.busy_timeout(busy).map_err(fail)?;
    // First: another process may be creating them, and does so in one transaction with the ids read next.
    let tables: i64 = c.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(fail)?;
    let application: i64 = c.pragma_query_value(None, "application_id", |r| r.get(0)).map_err(fail)?;
    let version: i64 = c.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(fail)?;
    if tables > 0 && application != APPLICATION {
        return Err(TransportError::Fatal(format!(
            "{} is a database of something else; choose another folder with --data",
            path.display()
        )));
    }
    if version > VERSION {
        return Err(TransportError::Fatal(format!(
            "{} was written by a later version of tidemill (tables {version}, this one knows {VERSION}); upgrade tidemill or choose another folder with --data",
            path.display()
        )));
    }
    if tables == 0 {
        c.pragma_update(None, "page_size", 8192).map_err(fail)?;
    }
    settings(&c).map_err(fail)?;
    if tables == 0 {
        let tx = c.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fail)?;
        // Another process may have been quicker.
        let made: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(fail)?;
        if made == 0 {
            tx.execute_batch(TABLES).map_err(fail)?;
            tx.pragma_update(None, "application_id", APPLICATION).map_err(fail)?;
            tx.pragma_update(None, "user_version", VERSION).map_err(fail)?;
        }
        tx.commit().map_err(fail)?;
    }
    Ok(c)
}

fn settings(c: &Connection) -> rusqlite::Result<()> {
    c.pragma_update(None, "journal_mode", "WAL")?;
    c.pragma_update(None, "synchronous", "FULL")?;
    c.pragma_update(None, "wal_autocheckpoint", 2000)?;
    c.pragma_update(None, "journal_size_limit", 64 << 20)?;
    c.pragma_update(None, "cache_size", -8 * 1024)?;
    c.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Opens the file for reading.
pub fn open_reader(path: &Path) -> Result<Connection> {
    let fail = |e: rusqlite::Error| explain(&e, path);
    // WAL readers write to the shared-memory file, so a read-only open would fail on a fresh file.
    let c = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(fail)?;
    c.busy_timeout(BUSY).map_err(fail)?;
    c.pragma_update(None, "query_only", true).map_err(fail)?;
    c.pragma_update(None, "cache_size", -4 * 1024).map_err(fail)?;
    Ok(c)
}

/// SQLite's error as one sentence with the fix.
pub fn explain(e: &rusqlite::Error, path: &Path) -> TransportError {
    let file = path.display();
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => TransportError::Unavailable(format!(
            "the disk that holds {file} is full: free some space, and the work goes on by itself"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => TransportError::Unavailable(format!(
            "{file} is kept locked by another process: end that process (a backup or an sqlite3 shell with an open transaction?)"
        )),
        Some(ErrorCode::NotADatabase) => TransportError::Fatal(format!(
            "{file} is not a SQLite database; choose another folder with --data or remove the file"
        )),
        Some(ErrorCode::DatabaseCorrupt) => {
            TransportError::Fatal(format!("{file} is damaged ({e}); `sqlite3 {file} .recover` saves what can be read"))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            TransportError::Fatal(format!("{file} cannot be opened for writing ({e}); check its permissions"))
        }
        Some(ErrorCode::SystemIoFailure) => {
            TransportError::Unavailable(format!("{file}: reading or writing failed ({e})"))
        }
        _ => TransportError::Fatal(format!("{file}: {e}")),
    }
}

/// Records deleted in one transaction, at most.
const SWEEP: i64 = 2_000;

/// Deletes up to [`SWEEP`] records that are older than their topic keeps and that no group has yet to read.
pub fn sweep_some(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    let now = now_ms();
    let mut q = tx.prepare_cached(
        "SELECT t.id, p.partition, p.start_offset, t.retention_ms,
                min(p.next_offset, coalesce((SELECT min(coalesce(g.base, p.start_offset)) FROM subscriptions s
                  LEFT JOIN progress g ON g.group_name = s.group_name AND g.topic_id = s.topic_id AND g.partition = p.partition
                  WHERE s.topic_id = t.id), p.next_offset)) AS free
         FROM topics t JOIN partitions p ON p.topic_id = t.id
         WHERE t.cleanup = 'delete' AND t.retention_ms >= 0 AND free > p.start_offset",
    )?;
    let parts = q
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))?
        .collect::<rusqlite::Result<Vec<(i64, i32, i64, i64, i64)>>>()?;
    let mut deleted = 0;
    for (topic, partition, start, retention, free) in parts {
        let end = free.min(start + SWEEP - deleted as i64);
        let (from, to) = (record_id(topic, partition, start), record_id(topic, partition, end));
        // Times grow with offsets, near enough: the first record that is young enough ends the range.
        let young: Option<i64> = tx
            .prepare_cached("SELECT min(id) FROM records WHERE id >= ? AND id < ? AND timestamp >= ?")?
            .query_row(params![from, to, now - retention], |r| r.get(0))?;
        let end = young.map_or(end, offset_of);
        if end > start {
            let to = record_id(topic, partition, end);
            tx.prepare_cached("DELETE FROM records WHERE id >= ? AND id < ?")?.execute([from, to])?;
            tx.prepare_cached("UPDATE partitions SET start_offset = ? WHERE topic_id = ? AND partition = ?")?
                .execute(params![end, topic, partition])?;
            deleted += (end - start) as u64;
        }
        if deleted as i64 >= SWEEP {
            break;
        }
    }
    Ok(deleted)
}
