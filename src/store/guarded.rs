//! Any store, its calls timed, and held back while it is away.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Claimed, Result, Store, StoreError};
use crate::upstream::calls::{Calls, Verdict};

/// A store behind its [`Calls`].
pub struct Guarded {
    inner: Arc<dyn Store>,
    calls: Calls,
}

impl Guarded {
    /// Of a store.
    pub fn new(inner: Arc<dyn Store>, calls: Calls) -> Guarded {
        Guarded { inner, calls }
    }
}

impl Verdict for StoreError {
    fn is_unavailable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }

    fn refused(why: String) -> StoreError {
        StoreError::Unavailable(why)
    }
}

#[async_trait]
impl Store for Guarded {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>> {
        self.calls.call("get", self.inner.get(namespace, key)).await
    }

    async fn put(&self, namespace: &str, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.calls.call("put", self.inner.put(namespace, key, value, ttl)).await
    }

    async fn claim(&self, namespace: &str, key: &str, value: Bytes, ttl: Duration) -> Result<Claimed> {
        self.calls.call("claim", self.inner.claim(namespace, key, value, ttl)).await
    }

    async fn delete(&self, namespace: &str, key: &str) -> Result<()> {
        self.calls.call("delete", self.inner.delete(namespace, key)).await
    }

    async fn delete_prefix(&self, namespace: &str, prefix: &str) -> Result<u64> {
        self.calls.call("delete_prefix", self.inner.delete_prefix(namespace, prefix)).await
    }

    async fn keys(&self, namespace: &str) -> Result<Vec<String>> {
        self.calls.call("keys", self.inner.keys(namespace)).await
    }

    async fn sweep(&self, now: i64) -> Result<u64> {
        self.calls.call("sweep", self.inner.sweep(now)).await
    }
}
