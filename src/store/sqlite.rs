//! The embedded store: one SQLite file, readable with `sqlite3` (table `entries`).
//!
//! Writes that wait together are one transaction. `synchronous=NORMAL`: a commit survives the death of the process, and a
//! loss of power may undo the last ones; for a memory that is enough, and it saves an fsync a commit.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{OptionalExtension, Transaction, params};
use tracing::error;

use super::{Claimed, Result, Store, StoreError};
use crate::batch::{self, Batcher, Limits, Weigh};
use crate::record::now_ms;
use crate::sqlite::{self, Kind, Readers, SqliteError, Synchronous};

/// A batch: one transaction.
const LIMITS: Limits = Limits { items: 256, bytes: 8 << 20 };
/// Entries removed in one transaction, at most.
const PIECE: i64 = 1_000;

const KIND: Kind = Kind {
    application: *b"TidS",
    version: 1,
    tables: "
CREATE TABLE entries(
  n INTEGER PRIMARY KEY, namespace TEXT NOT NULL, key TEXT NOT NULL, expires INTEGER NOT NULL, value BLOB NOT NULL,
  UNIQUE (namespace, key)) STRICT;
CREATE INDEX entries_expires ON entries(expires);",
    upgrades: &[],
    synchronous: Synchronous::Normal,
    cache: 8 * 1024,
};

/// One write.
enum Write {
    Put { namespace: String, key: String, value: Bytes, expires: i64 },
    Claim { namespace: String, key: String, value: Bytes, expires: i64 },
    Delete { namespace: String, key: String },
    DeletePrefix { namespace: String, prefix: String },
    Sweep { now: i64 },
}

/// What came of it.
enum Done {
    Claimed(Claimed),
    Removed(u64),
}

impl Weigh for Write {
    fn weight(&self) -> usize {
        match self {
            Write::Put { key, value, .. } | Write::Claim { key, value, .. } => key.len() + value.len() + 64,
            // Much work for a few bytes: a batch of their own, so that nobody waits for many of them.
            Write::DeletePrefix { .. } | Write::Sweep { .. } => LIMITS.bytes,
            Write::Delete { key, .. } => key.len() + 64,
        }
    }
}

/// The embedded store. Dropping it waits for the batch that is being written.
pub struct SqliteStore {
    writer: Batcher<Write, Result<Done>>,
    readers: Readers,
}

impl From<SqliteError> for StoreError {
    fn from(e: SqliteError) -> StoreError {
        match e {
            SqliteError::Fatal(why) => StoreError::Fatal(why),
            SqliteError::Unavailable(why) => StoreError::Unavailable(why),
            SqliteError::TooBig(why) => StoreError::TooLarge(why),
        }
    }
}

impl SqliteStore {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<SqliteStore> {
        let mut connection = KIND.open(path)?;
        let file = path.to_owned();
        let writer =
            batch::on_thread("store-writer", LIMITS, move |writes: &[Write]| write_all(&mut connection, &file, writes))
                .map_err(|e| StoreError::Fatal(format!("cannot start the store's writer thread: {e}")))?;
        Ok(SqliteStore { writer, readers: Readers::new(path) })
    }

    async fn write(&self, write: Write) -> Result<Done> {
        let outcome = self.writer.call(write).await;
        outcome.unwrap_or_else(|_| Err(StoreError::Unavailable("the store is closed".into())))
    }

    /// Removes in pieces, so that a large clean-up holds up no other write for long.
    async fn remove(&self, piece: impl Fn() -> Write) -> Result<u64> {
        let mut total = 0;
        loop {
            match self.write(piece()).await? {
                Done::Removed(n) if n > 0 => total += n,
                _ => return Ok(total),
            }
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>> {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        let found = self.readers.query(move |tx| held(tx, &namespace, &key)).await?;
        Ok(found.map(Bytes::from))
    }

    async fn put(&self, namespace: &str, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        self.write(Write::Put { namespace, key, value, expires: expires(ttl) }).await.map(|_| ())
    }

    async fn claim(&self, namespace: &str, key: &str, value: Bytes, ttl: Duration) -> Result<Claimed> {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        match self.write(Write::Claim { namespace, key, value, expires: expires(ttl) }).await? {
            Done::Claimed(claimed) => Ok(claimed),
            Done::Removed(_) => Err(StoreError::Fatal("the store took a claim for something else".into())),
        }
    }

    async fn delete(&self, namespace: &str, key: &str) -> Result<()> {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        self.write(Write::Delete { namespace, key }).await.map(|_| ())
    }

    async fn delete_prefix(&self, namespace: &str, prefix: &str) -> Result<u64> {
        self.remove(|| Write::DeletePrefix { namespace: namespace.to_owned(), prefix: prefix.to_owned() }).await
    }

    async fn keys(&self, namespace: &str) -> Result<Vec<String>> {
        let namespace = namespace.to_owned();
        let keys = self.readers.query(move |tx| {
            let mut rows = tx.prepare_cached("SELECT key FROM entries WHERE namespace = ? AND expires > ?")?;
            rows.query_map(params![namespace, now_ms()], |r| r.get(0))?.collect()
        });
        Ok(keys.await?)
    }

    async fn sweep(&self, now: i64) -> Result<u64> {
        self.remove(|| Write::Sweep { now }).await
    }
}

fn expires(ttl: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
}

/// All writes in one transaction; what fails together is tried again one by one, so that a write SQLite refuses takes no
/// other with it.
fn write_all(connection: &mut rusqlite::Connection, path: &Path, writes: &[Write]) -> Vec<Result<Done>> {
    let together = sqlite::transaction(connection, |tx| writes.iter().map(|w| Ok(Ok(apply(tx, w)?))).collect());
    let e = match together {
        Ok(outcomes) => return outcomes,
        Err(e) => e,
    };
    let why = sqlite::explain(&e, path);
    error!(error = %why, writes = writes.len(), "transaction rolled back");
    match (&why, writes) {
        (SqliteError::Unavailable(_), _) | (_, [_]) => writes.iter().map(|_| Err(why.clone().into())).collect(),
        _ => writes.chunks(1).flat_map(|one| write_all(connection, path, one)).collect(),
    }
}

fn apply(tx: &Transaction<'_>, write: &Write) -> rusqlite::Result<Done> {
    let removed = match write {
        Write::Put { namespace, key, value, expires } => {
            put(tx, namespace, key, value, *expires)?;
            0
        }
        Write::Claim { namespace, key, value, expires } => {
            let claimed = match held(tx, namespace, key)? {
                Some(other) if other != **value => Claimed::Theirs(other.into()),
                _ => {
                    put(tx, namespace, key, value, *expires)?;
                    Claimed::Mine
                }
            };
            return Ok(Done::Claimed(claimed));
        }
        Write::Delete { namespace, key } => tx
            .prepare_cached("DELETE FROM entries WHERE namespace = ? AND key = ?")?
            .execute(params![namespace, key])?,
        Write::DeletePrefix { namespace, prefix } => match after(prefix) {
            Some(end) => tx
                .prepare_cached(
                    "DELETE FROM entries WHERE n IN
                     (SELECT n FROM entries WHERE namespace = ? AND key >= ? AND key < ? LIMIT ?)",
                )?
                .execute(params![namespace, prefix, end, PIECE])?,
            None => tx
                .prepare_cached(
                    "DELETE FROM entries WHERE n IN (SELECT n FROM entries WHERE namespace = ? AND key >= ? LIMIT ?)",
                )?
                .execute(params![namespace, prefix, PIECE])?,
        },
        Write::Sweep { now } => tx
            .prepare_cached("DELETE FROM entries WHERE n IN (SELECT n FROM entries WHERE expires <= ? LIMIT ?)")?
            .execute(params![now, PIECE])?,
    };
    Ok(Done::Removed(removed as u64))
}

fn put(tx: &Transaction<'_>, namespace: &str, key: &str, value: &[u8], expires: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO entries(namespace, key, expires, value) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET expires = excluded.expires, value = excluded.value",
    )?
    .execute(params![namespace, key, expires, value])?;
    Ok(())
}

fn held(tx: &Transaction<'_>, namespace: &str, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    tx.prepare_cached("SELECT value FROM entries WHERE namespace = ? AND key = ? AND expires > ?")?
        .query_row(params![namespace, key, now_ms()], |r| r.get(0))
        .optional()
}

/// The least text that comes after all texts that begin so (SQLite compares UTF-8 bytes, which is the order of code
/// points); None when there is no such text.
fn after(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Between U+D7FF and U+E000 there are only surrogates, which are no characters.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after("ab").as_deref(), Some("ac"));
        assert_eq!(after("a\u{D7FF}").as_deref(), Some("a\u{E000}"));
        assert_eq!(after("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(after("\u{10FFFF}"), None);
        assert_eq!(after(""), None);
    }

    proptest! {
        #[test]
        fn a_text_is_in_the_range_when_it_begins_so(prefix in ".{0,3}", text in ".{0,3}", joined: bool) {
            let text = if joined { format!("{prefix}{text}") } else { text };
            let in_range = text >= prefix && after(&prefix).is_none_or(|end| text < end);
            prop_assert_eq!(in_range, text.starts_with(&prefix));
        }
    }

    #[test]
    fn refuses_an_index_for_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        drop(crate::sqlite::Kind { application: *b"TidI", ..KIND }.open(&path).unwrap());
        assert!(matches!(SqliteStore::open(&path), Err(StoreError::Fatal(why)) if why.contains("something else")));
    }
}
