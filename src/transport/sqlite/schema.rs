//! The log's file: its tables, row ids, and what is swept.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::record::now_ms;
use crate::sqlite::{self, Kind, SqliteError, Synchronous};
use crate::transport::{Bounds, Result, TransportError};

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

/// The first offset of a partition whose record was written at `time` (Unix ms) or later, by halving; its end if there is
/// none.
pub fn offset_at(c: &Connection, topic_id: i64, b: &Bounds, time: i64) -> rusqlite::Result<i64> {
    let mut q = c.prepare_cached("SELECT id, timestamp FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1")?;
    let id = |offset| record_id(topic_id, b.partition, offset);
    let (mut low, mut high) = (b.start, b.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let found =
            q.query_row([id(middle), id(high)], |r| Ok((offset_of(r.get(0)?), r.get::<_, i64>(1)?))).optional()?;
        match found {
            Some((offset, written)) if written < time => low = offset + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The log's file.
const LOG: Kind = Kind {
    application: *b"Tide",
    version: 1,
    tables: TABLES,
    upgrades: &[],
    synchronous: Synchronous::Full,
    cache: 8 * 1024,
};

/// Opens the file for writing, creating it and its tables if it is new. Waits up to `busy` for a lock.
pub fn open(path: &Path, busy: Duration) -> Result<Connection> {
    Ok(LOG.open_within(path, busy)?)
}

/// Opens the file for reading.
pub fn open_reader(path: &Path) -> Result<Connection> {
    Ok(sqlite::open_reader(path)?)
}

/// SQLite's error as one sentence with the fix.
pub fn explain(e: &rusqlite::Error, path: &Path) -> TransportError {
    sqlite::explain(e, path).into()
}

impl From<SqliteError> for TransportError {
    fn from(e: SqliteError) -> TransportError {
        match e {
            SqliteError::Unavailable(why) => TransportError::Unavailable(why),
            SqliteError::Fatal(why) | SqliteError::TooBig(why) => TransportError::Fatal(why),
        }
    }
}

/// Records deleted in one transaction, at most.
const SWEEP: i64 = 2_000;

/// Deletes up to [`SWEEP`] records of a partition that stand before an offset. Whether there are more.
pub fn delete_some(tx: &Transaction<'_>, topic: &str, partition: i32, before: i64) -> rusqlite::Result<bool> {
    let place: Option<(i64, i64, i64)> = tx
        .query_row(
            "SELECT topic_id, start_offset, next_offset FROM partitions
             WHERE topic_id = (SELECT id FROM topics WHERE name = ?) AND partition = ?",
            params![topic, partition],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
        .optional()?;
    let Some((id, start, next)) = place else { return Ok(false) };
    let before = before.min(next);
    let end = before.min(start + SWEEP);
    if end > start {
        delete(tx, id, partition, start, end)?;
    }
    Ok(end < before)
}

/// Deletes records of a partition from its start on.
fn delete(tx: &Transaction<'_>, topic: i64, partition: i32, start: i64, end: i64) -> rusqlite::Result<()> {
    let (from, to) = (record_id(topic, partition, start), record_id(topic, partition, end));
    tx.prepare_cached("DELETE FROM records WHERE id >= ? AND id < ?")?.execute([from, to])?;
    tx.prepare_cached("UPDATE partitions SET start_offset = ? WHERE topic_id = ? AND partition = ?")?
        .execute(params![end, topic, partition])
        .map(drop)
}

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
            delete(tx, topic, partition, start, end)?;
            deleted += (end - start) as u64;
        }
        if deleted as i64 >= SWEEP {
            break;
        }
    }
    Ok(deleted)
}
