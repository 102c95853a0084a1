//! What every SQLite file of ours has in common: how it is opened, that it is ours and of a version we know, a few
//! connections to read through, and SQLite's errors in words.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;

/// How long a statement waits for a lock another process holds.
pub const BUSY: Duration = Duration::from_secs(10);
/// Pause between two attempts to open.
const RETRY: Duration = Duration::from_millis(20);
/// Queries of one [`Readers`] that run at the same time.
const READERS: usize = 4;

/// What went wrong, in one sentence with the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqliteError {
    /// Something only a person can mend.
    #[error("{0}")]
    Fatal(String),
    /// May pass: try again.
    #[error("{0}")]
    Unavailable(String),
    /// Larger than SQLite takes in one row (1 GB).
    #[error("{0}")]
    TooBig(String),
}

/// `PRAGMA synchronous`: what a commit has survived when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// A loss of power too.
    Full,
    /// The death of the process; a loss of power may undo the last commits, but damages nothing.
    Normal,
}

/// A kind of file.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// `PRAGMA application_id`: four letters of its own, so that one kind is never taken for another.
    pub application: [u8; 4],
    /// `PRAGMA user_version` of [`Kind::tables`].
    pub version: i64,
    /// The statements that make the tables of a new file.
    pub tables: &'static str,
    /// The statements that bring the tables of version 1 to 2, those of 2 to 3, and so on.
    pub upgrades: &'static [&'static str],
    /// How durable a commit is.
    pub synchronous: Synchronous,
    /// Page cache of the writing connection, KiB.
    pub cache: i64,
}

impl Kind {
    /// Opens the file for writing, creating it and its tables if it is new. Waits for a lock as statements do.
    pub fn open(&self, path: &Path) -> Result<Connection, SqliteError> {
        self.open_within(path, BUSY)
    }

    /// The same with another time to wait for locks, here and in every statement.
    pub fn open_within(&self, path: &Path, busy: Duration) -> Result<Connection, SqliteError> {
        let until = Instant::now() + busy;
        loop {
            match self.try_open(path, busy) {
                // Turning on WAL does not wait by itself while another process creates the file.
                #[allow(clippy::disallowed_methods, reason = "opening is blocking work; its callers know")]
                Err(SqliteError::Unavailable(_)) if Instant::now() < until => std::thread::sleep(RETRY),
                opened => return opened,
            }
        }
    }

    fn try_open(&self, path: &Path, busy: Duration) -> Result<Connection, SqliteError> {
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir)
                .map_err(|e| SqliteError::Fatal(format!("cannot create the folder {}: {e}", dir.display())))?;
        }
        let fail = |e: rusqlite::Error| explain(&e, path);
        let mut c = Connection::open(path).map_err(fail)?;
        c.busy_timeout(busy).map_err(fail)?;
        let empty = self.check(&c, path)?;
        self.settings(&c, empty).map_err(fail)?;
        if empty {
            let tx = c.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
            // Another process may have been quicker.
            if self.check(&tx, path)? {
                tx.execute_batch(self.tables).map_err(fail)?;
                tx.pragma_update(None, "application_id", self.application()).map_err(fail)?;
                tx.pragma_update(None, "user_version", self.version).map_err(fail)?;
            }
            tx.commit().map_err(fail)?;
        } else {
            self.upgrade(&mut c).map_err(fail)?;
        }
        Ok(c)
    }

    /// Brings a file of an earlier version up to date.
    fn upgrade(&self, c: &mut Connection) -> rusqlite::Result<()> {
        let version = |c: &Connection| c.query_row("PRAGMA user_version", [], |r| r.get::<_, i64>(0));
        if version(c)? >= self.version {
            return Ok(());
        }
        transaction(c, |tx| {
            // Another process may have been quicker.
            let from = usize::try_from(version(tx)? - 1).unwrap_or(0);
            self.upgrades.iter().skip(from).try_for_each(|sql| tx.execute_batch(sql))?;
            tx.pragma_update(None, "user_version", self.version)
        })
    }

    /// Whether the file is still empty; an error if it is not ours or too new.
    fn check(&self, c: &Connection, path: &Path) -> Result<bool, SqliteError> {
        let number = |sql: &str| c.query_row(sql, [], |r| r.get::<_, i64>(0)).map_err(|e| explain(&e, path));
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        if tables > 0 && number("PRAGMA application_id")? != self.application() {
            return Err(SqliteError::Fatal(format!(
                "{} is a database of something else; choose another folder with --data",
                path.display()
            )));
        }
        let version = number("PRAGMA user_version")?;
        if version > self.version {
            return Err(SqliteError::Fatal(format!(
                "{} was written by a later version of tidemill (tables {version}, this one knows {}); upgrade tidemill or choose another folder with --data",
                path.display(),
                self.version
            )));
        }
        Ok(tables == 0)
    }

    fn application(&self) -> i64 {
        i64::from(i32::from_be_bytes(self.application))
    }

    fn settings(&self, c: &Connection, empty: bool) -> rusqlite::Result<()> {
        if empty {
            c.pragma_update(None, "page_size", 8192)?;
        }
        c.pragma_update(None, "journal_mode", "WAL")?;
        let synchronous = match self.synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        c.pragma_update(None, "synchronous", synchronous)?;
        c.pragma_update(None, "wal_autocheckpoint", 2000)?;
        c.pragma_update(None, "journal_size_limit", 64 << 20)?;
        c.pragma_update(None, "cache_size", -self.cache)?;
        c.set_prepared_statement_cache_capacity(64);
        Ok(())
    }
}

/// Opens the file for reading.
pub fn open_reader(path: &Path) -> Result<Connection, SqliteError> {
    let fail = |e: rusqlite::Error| explain(&e, path);
    // WAL readers write to the shared-memory file, so a read-only open would fail on a fresh file.
    let c = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(fail)?;
    c.busy_timeout(BUSY).map_err(fail)?;
    c.pragma_update(None, "query_only", true).map_err(fail)?;
    c.pragma_update(None, "cache_size", -4 * 1024).map_err(fail)?;
    Ok(c)
}

/// Runs `f` in one write transaction; on error nothing is written.
pub fn transaction<T>(
    connection: &mut Connection,
    f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Dropping the transaction rolls it back.
    let value = f(&tx)?;
    tx.commit()?;
    Ok(value)
}

/// Connections to read through: opened when needed, kept for the next query, at most [`READERS`] at work.
pub struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Readers of a file that exists by now.
    pub fn new(path: &Path) -> Readers {
        Readers { path: path.to_owned(), permits: Arc::new(Semaphore::new(READERS)), idle: Arc::default() }
    }

    /// Runs a query off the async threads, in a transaction: all of it sees the file as of one moment.
    pub async fn query<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let stopped = |e: &dyn std::fmt::Display| SqliteError::Unavailable(format!("reading was cut short: {e}"));
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|e| stopped(&e))?;
        let (path, idle) = (self.path.clone(), Arc::clone(&self.idle));
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match kept {
                Some(c) => c,
                None => open_reader(&path)?,
            };
            let value = connection.transaction().and_then(|tx| f(&tx)).map_err(|e| explain(&e, &path))?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(value)
        });
        task.await.map_err(|e| stopped(&e))?
    }
}

/// SQLite's error as one sentence with the fix.
pub fn explain(e: &rusqlite::Error, path: &Path) -> SqliteError {
    let file = path.display();
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => SqliteError::Unavailable(format!(
            "the disk that holds {file} is full: free some space, and the work goes on by itself"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqliteError::Unavailable(format!(
            "{file} is kept locked by another process: end that process (a backup or an sqlite3 shell with an open transaction?)"
        )),
        Some(ErrorCode::NotADatabase) => SqliteError::Fatal(format!(
            "{file} is not a SQLite database; choose another folder with --data or remove the file"
        )),
        Some(ErrorCode::DatabaseCorrupt) => {
            SqliteError::Fatal(format!("{file} is damaged ({e}); `sqlite3 {file} .recover` saves what can be read"))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            SqliteError::Fatal(format!("{file} cannot be opened for writing ({e}); check its permissions"))
        }
        Some(ErrorCode::SystemIoFailure) => {
            SqliteError::Unavailable(format!("{file}: reading or writing failed ({e})"))
        }
        Some(ErrorCode::TooBig) => SqliteError::TooBig(format!("too large for {file}: SQLite takes 1 GB a row")),
        _ => SqliteError::Fatal(format!("{file}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        application: *b"Test",
        version: 2,
        tables: "CREATE TABLE t(n INTEGER PRIMARY KEY, m INTEGER) STRICT;",
        upgrades: &["ALTER TABLE t ADD COLUMN m INTEGER"],
        synchronous: Synchronous::Full,
        cache: 1024,
    };

    #[test]
    fn makes_the_tables_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/x.db");
        KIND.open(&path).unwrap().execute("INSERT INTO t(n) VALUES (7)", []).unwrap();
        let n: i64 = KIND.open(&path).unwrap().query_row("SELECT n FROM t", [], |r| r.get(0)).unwrap();
        assert_eq!(n, 7);
    }

    #[test]
    fn a_file_of_an_earlier_version_is_brought_up_to_date_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let first = Kind { version: 1, tables: "CREATE TABLE t(n INTEGER PRIMARY KEY) STRICT;", upgrades: &[], ..KIND };
        first.open(&path).unwrap().execute("INSERT INTO t VALUES (7)", []).unwrap();
        for _ in 0..2 {
            let c = KIND.open(&path).unwrap();
            let row = c.query_row("SELECT n, m FROM t", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
            assert_eq!(row, (7, None::<i64>));
        }
    }

    #[test]
    fn refuses_other_databases_later_versions_and_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let says = |path: &Path, kind: Kind, what: &str| match kind.open(path) {
            Err(SqliteError::Fatal(why)) => assert!(why.contains(what), "{why}"),
            other => panic!("{other:?}"),
        };
        let path = dir.path().join("x.db");
        KIND.open(&path).unwrap();
        says(&path, Kind { application: *b"Else", ..KIND }, "something else");
        says(&path, Kind { version: 1, ..KIND }, "later version of tidemill (tables 2, this one knows 1)");
        let text = dir.path().join("x.txt");
        std::fs::write(&text, "not a database, but long enough to be looked at as one".repeat(40)).unwrap();
        says(&text, KIND, "not a SQLite database");
        says(dir.path(), KIND, "cannot be opened");
    }

    #[tokio::test]
    async fn a_reader_cannot_write_and_one_query_sees_one_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let writer = KIND.open(&path).unwrap();
        let readers = Readers::new(&path);
        assert!(readers.query(|tx| tx.execute("INSERT INTO t(n) VALUES (1)", [])).await.is_err());
        let counts = readers
            .query(move |tx| {
                let count = || tx.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0));
                let before = count()?;
                writer.execute("INSERT INTO t(n) VALUES (1)", [])?;
                Ok((before, count()?))
            })
            .await;
        assert_eq!(counts, Ok((0, 0)));
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut c = KIND.open(&dir.path().join("x.db")).unwrap();
        let failed = transaction(&mut c, |tx| {
            tx.execute("INSERT INTO t(n) VALUES (1)", [])?;
            tx.execute("INSERT INTO t(n) VALUES (1)", [])
        });
        assert!(failed.is_err());
        let n: i64 = c.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
        assert_eq!(n, 0);
    }
}
