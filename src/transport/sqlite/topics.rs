//! The log's topics: made, described, grown, set.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::topology::{CLEANUP_POLICY, MAX_MESSAGE_BYTES, RETENTION_MS, Topic};
use crate::transport::{Result, TopicState, TransportError};

/// What a record's id has room for ([`super::schema::record_id`]).
const MOST_PARTITIONS: u32 = 1 << 12;

/// Inner errors are ours and nothing is written; outer ones are SQLite's and undo the transaction.
type Write<T> = rusqlite::Result<Result<T>>;

/// Makes what is missing; what exists stays as it is, its number of partitions too.
pub fn create(tx: &Transaction<'_>, topics: &[Topic]) -> Write<()> {
    if let Some(t) = topics.iter().find(|t| t.partitions > MOST_PARTITIONS) {
        return Ok(Err(too_many(&t.name, t.partitions)));
    }
    for t in topics {
        let made = tx.execute(
            "INSERT OR IGNORE INTO topics(name, partitions, cleanup, retention_ms, max_message_bytes)
             VALUES (?, ?, ?, ?, ?)",
            params![t.name, t.partitions, t.cleanup.as_str(), t.retention_ms, t.max_message_bytes],
        )?;
        if made > 0 {
            add(tx, tx.last_insert_rowid(), 0, t.partitions)?;
        }
    }
    Ok(Ok(()))
}

/// Grows topics in one transaction, so that nobody ever sees those that are read together at odds.
pub fn grow(tx: &Transaction<'_>, names: &[String], partitions: u32) -> Write<()> {
    let mut growing = vec![];
    for name in names {
        if partitions > MOST_PARTITIONS {
            return Ok(Err(too_many(name, partitions)));
        }
        let row: Option<(i64, u32)> = tx
            .query_row("SELECT id, partitions FROM topics WHERE name = ?", [name], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        match row {
            None => return Ok(Err(TransportError::NoTopic(name.clone()))),
            Some((_, now)) if now >= partitions => {}
            Some(row) => growing.push(row),
        }
    }
    for (id, from) in growing {
        tx.execute("UPDATE topics SET partitions = ? WHERE id = ?", params![partitions, id])?;
        add(tx, id, from, partitions)?;
    }
    Ok(Ok(()))
}

fn add(tx: &Transaction<'_>, id: i64, from: u32, to: u32) -> rusqlite::Result<()> {
    let mut insert = tx
        .prepare_cached("INSERT INTO partitions(topic_id, partition, start_offset, next_offset) VALUES (?, ?, 0, 0)")?;
    (from..to).try_for_each(|p| insert.execute(params![id, p]).map(drop))
}

/// Those that exist.
pub fn describe(c: &Connection, names: &[String]) -> rusqlite::Result<Vec<TopicState>> {
    let mut q =
        c.prepare_cached("SELECT partitions, cleanup, retention_ms, max_message_bytes FROM topics WHERE name = ?")?;
    let mut found = vec![];
    for name in names {
        let state = q
            .query_row([name], |r| {
                let settings = [
                    (CLEANUP_POLICY, r.get::<_, String>(1)?),
                    (RETENTION_MS, r.get::<_, i64>(2)?.to_string()),
                    (MAX_MESSAGE_BYTES, r.get::<_, u32>(3)?.to_string()),
                ];
                Ok(TopicState {
                    name: name.clone(),
                    partitions: r.get(0)?,
                    replication: None,
                    settings: settings.map(|(k, v)| (k.to_owned(), v)).into(),
                    inherited: BTreeMap::new(),
                })
            })
            .optional()?;
        found.extend(state);
    }
    Ok(found)
}

/// Sets settings, all or none.
pub fn configure(tx: &Transaction<'_>, topic: &str, settings: &BTreeMap<String, String>) -> Write<()> {
    let id: Option<i64> = tx.query_row("SELECT id FROM topics WHERE name = ?", [topic], |r| r.get(0)).optional()?;
    let Some(id) = id else { return Ok(Err(TransportError::NoTopic(topic.to_owned()))) };
    if let Some((name, value)) = settings.iter().find(|(name, value)| !valid(name, value)) {
        return Ok(Err(TransportError::Fatal(format!(
            "{name} = {value:?} is no setting of the embedded log; it has {CLEANUP_POLICY} (delete or compact), \
             {RETENTION_MS} and {MAX_MESSAGE_BYTES}"
        ))));
    }
    for (name, value) in settings {
        let set = match name.as_str() {
            CLEANUP_POLICY => "UPDATE topics SET cleanup = ? WHERE id = ?",
            RETENTION_MS => "UPDATE topics SET retention_ms = CAST(? AS INTEGER) WHERE id = ?",
            _ => "UPDATE topics SET max_message_bytes = CAST(? AS INTEGER) WHERE id = ?",
        };
        tx.execute(set, params![value, id])?;
    }
    Ok(Ok(()))
}

fn valid(name: &str, value: &str) -> bool {
    match name {
        CLEANUP_POLICY => matches!(value, "delete" | "compact"),
        RETENTION_MS => value.parse::<i64>().is_ok_and(|n| n >= -1),
        MAX_MESSAGE_BYTES => value.parse::<u32>().is_ok(),
        _ => false,
    }
}

fn too_many(topic: &str, partitions: u32) -> TransportError {
    TransportError::Fatal(format!(
        "{topic} cannot have {partitions} partitions: the embedded log has room for {MOST_PARTITIONS} a topic"
    ))
}
