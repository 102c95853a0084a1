//! Any place for blobs, its calls timed, and held back while it is away.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::draft::{Draft, Drafts};
use super::{BlobError, Blobs, Kept, Listed, Result};
use crate::upstream::calls::{Calls, Verdict};

/// Blobs behind their [`Calls`].
pub struct Guarded {
    inner: Arc<dyn Blobs>,
    calls: Calls,
}

impl Guarded {
    /// Of a place for blobs.
    pub fn new(inner: Arc<dyn Blobs>, calls: Calls) -> Guarded {
        Guarded { inner, calls }
    }
}

impl Verdict for BlobError {
    fn is_missing(&self) -> bool {
        matches!(self, BlobError::NotFound(_))
    }

    fn is_unavailable(&self) -> bool {
        matches!(self, BlobError::Unavailable(_))
    }

    fn refused(why: String) -> BlobError {
        BlobError::Unavailable(why)
    }
}

#[async_trait]
impl Blobs for Guarded {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn drafts(&self) -> &Drafts {
        self.inner.drafts()
    }

    async fn keep(&self, draft: Draft) -> Result<String> {
        self.calls.call("put", self.inner.keep(draft)).await
    }

    async fn renew(&self, key: &str) -> Result<()> {
        self.calls.call("renew", self.inner.renew(key)).await
    }

    async fn get_start(&self, key: &str, limit: usize) -> Result<Bytes> {
        self.calls.call("get", self.inner.get_start(key, limit)).await
    }

    async fn open(&self, key: &str) -> Result<Kept> {
        self.calls.call("open", self.inner.open(key)).await
    }

    async fn list(&self, part: u8, older_than: Duration) -> Result<Vec<Listed>> {
        self.calls.call("list", self.inner.list(part, older_than)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.calls.call("delete", self.inner.delete(key)).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        self.calls.call("sweep", self.inner.sweep(older_than)).await
    }
}
