//! The embedded index: one SQLite file with full-text search (FTS5), which anyone can read with `sqlite3`.
//!
//! ```text
//! put ─► batcher ─► writer thread: one transaction for all that waits ─► index.db (WAL, synchronous=FULL)
//! search ─► up to four readers side by side
//! ```
//!
//! | table | holds |
//! |---|---|
//! | `documents` | the documents, one a row (`authors`, `tags` and `attrs` as JSON); `text` last, so that the other columns are read without it (in a file from before version 4 those it added come after it) |
//! | `search` | FTS5 over `title`, `description`, `text`, `author` and `final_url` of `documents`: words folded to lower case and without accents |
//! | `tombstones` | documents that are gone: nothing older than these brings one back |
//!
//! Links, tables, structured data, confidence and vectors are not kept. A document that is fetched again with the same words leaves `search` alone. In a shell, rows may
//! be deleted (`DELETE FROM documents WHERE host = '…'`; a trigger keeps `search` in step); after an `UPDATE` there,
//! `INSERT INTO search(search) VALUES ('rebuild')` is needed.

mod search;
mod select;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Hits, Query, Search, SearchError, Selected, Selection, Sink, SinkError, Written, check};
use crate::batch::{self, Batcher, Limits};
use crate::record::Enriched;
use crate::sqlite::{self, Kind, Readers, SqliteError, Synchronous};

/// A batch: one transaction.
const LIMITS: Limits = Limits { items: 256, bytes: 8 << 20 };

const KIND: Kind = Kind {
    application: *b"TidI",
    version: 4,
    tables: concat!(include_str!("tables.sql"), include_str!("tombstones.sql"), include_str!("words.sql")),
    upgrades: &[
        include_str!("tombstones.sql"),
        // Author and URL are found since version 3: all words are gathered anew.
        concat!(
            "DROP TRIGGER documents_delete; DROP TABLE search;",
            include_str!("words.sql"),
            "INSERT INTO search(search) VALUES ('rebuild');"
        ),
        include_str!("more_columns.sql"),
    ],
    synchronous: Synchronous::Full,
    cache: 16 * 1024,
};

/// The embedded index. Dropping it waits for the batch that is being written.
pub struct SqliteIndex {
    writer: Batcher<Arc<Enriched>, Result<Written, SinkError>>,
    readers: Readers,
    path: PathBuf,
}

impl SqliteIndex {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<SqliteIndex, SqliteError> {
        let mut connection = KIND.open(path)?;
        let file = path.to_owned();
        let writer = batch::on_thread("index-writer", LIMITS, move |documents: &[Arc<Enriched>]| {
            write::all(&mut connection, &file, documents)
        })
        .map_err(|e| SqliteError::Fatal(format!("cannot start the index's writer thread: {e}")))?;
        Ok(SqliteIndex { writer, readers: Readers::new(path), path: path.to_owned() })
    }
}

#[async_trait]
impl Sink for SqliteIndex {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn put(&self, document: Arc<Enriched>) -> Result<Written, SinkError> {
        check(&document)?;
        let outcome = self.writer.call(document).await;
        outcome.unwrap_or_else(|_| Err(SinkError::Unavailable("the index is closed".into())))
    }

    async fn sweep(&self, before: i64) -> Result<u64, SinkError> {
        let path = self.path.clone();
        // Rare, so it has a connection of its own.
        let swept = tokio::task::spawn_blocking(move || {
            let c = KIND.open(&path)?;
            c.execute("DELETE FROM tombstones WHERE fetched_at < ?", [before]).map_err(|e| sqlite::explain(&e, &path))
        });
        let swept = swept.await.map_err(|e| SinkError::Unavailable(format!("sweeping was cut short: {e}")))?;
        swept.map(|n| n as u64).map_err(|e| SinkError::Unavailable(e.to_string()))
    }
}

#[async_trait]
impl Search for SqliteIndex {
    async fn search(&self, query: &Query) -> Result<Hits, SearchError> {
        search::run(&self.readers, query).await
    }

    async fn select(&self, which: &Selection, limit: usize) -> Result<(u64, Vec<Selected>), SearchError> {
        select::run(&self.readers, which, limit).await
    }
}
