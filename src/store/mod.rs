//! Keys with a TTL: what has been seen, fetched or claimed.
//!
//! A store is a memory, not a truth: its writes are outside the engine's transaction, may survive a crash that the record
//! does not, and may be lost with the machine's power. So an entry's value names who wrote it, and [`Store::claim`] gives
//! an owner its own entry again.

pub mod guarded;
pub mod redis;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// How a claim ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The entry is ours: it was absent, expired, or ours already; its time starts anew.
    Mine,
    /// Somebody else's, with this value.
    Theirs(Bytes),
}

/// What went wrong, in one sentence with the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something only a person can mend.
    #[error("{0}")]
    Fatal(String),
    /// May pass: try again.
    #[error("{0}")]
    Unavailable(String),
    /// The value is larger than the store takes.
    #[error("{0}")]
    TooLarge(String),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Entries by namespace and key. An expired entry is as good as absent, swept or not. Concurrent calls
/// are fine: of several claims of one key, one wins.
#[async_trait]
pub trait Store: Send + Sync {
    /// `sqlite`, `redis`, …
    fn name(&self) -> &'static str;

    /// The value, unless absent or expired.
    async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>>;

    /// Writes a value, whatever was there.
    async fn put(&self, namespace: &str, key: &str, value: Bytes, ttl: Duration) -> Result<()>;

    /// Writes a value if the entry is absent, expired, or has this value already; at once, so that only one of several
    /// succeeds.
    async fn claim(&self, namespace: &str, key: &str, value: Bytes, ttl: Duration) -> Result<Claimed>;

    /// Removes an entry, if it is there.
    async fn delete(&self, namespace: &str, key: &str) -> Result<()>;

    /// Removes all entries whose keys begin so; returns how many.
    async fn delete_prefix(&self, namespace: &str, prefix: &str) -> Result<u64>;

    /// The keys of all entries, in no order. All are held in memory: for people who look.
    async fn keys(&self, namespace: &str) -> Result<Vec<String>>;

    /// Removes what has expired by `now` (Unix ms); returns how many. None where the store does so by itself.
    async fn sweep(&self, now: i64) -> Result<u64>;
}
