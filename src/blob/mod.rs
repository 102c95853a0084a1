//! Large bodies by reference: written once, found by what they contain.
//!
//! A key is `sha256/<64 hex digits>` of the bytes. A blob is durable when `put` returns, so a record that names it may be
//! written afterwards.

pub mod coding;
pub mod draft;
pub mod folder;
pub mod guarded;
pub mod s3;
pub mod tiered;

use std::fs::File;
use std::io::Read;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::config::Compression;
use coding::decompress;
use draft::{Draft, Drafts};

/// Largest blob, bytes. Bodies have far lower limits; this one bounds what reading a damaged file may cost.
pub const LARGEST: u64 = 1 << 30;

/// What went wrong, in one sentence with the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// No blob has this key; it was deleted, swept, or never written here.
    #[error("there is no blob {0}; it may have been swept: fetch the page again")]
    NotFound(String),
    /// Not a key.
    #[error("{0:?} is not the key of a blob: sha256/ and 64 hex digits")]
    BadKey(String),
    /// What is stored is not what was put.
    #[error("blob {key} is damaged ({why}); delete it and fetch the page again")]
    Damaged {
        /// Key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// Over [`LARGEST`].
    #[error("a blob of {0} bytes is more than the {LARGEST} that are allowed")]
    TooLarge(u64),
    /// Only a person can mend it.
    #[error("{0}")]
    Fatal(String),
    /// Disk full, permissions, a service that is away and the like: try again when it is mended.
    #[error("{0}")]
    Unavailable(String),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, BlobError>;

/// A blob as it is kept.
pub struct Kept {
    /// Its compressed bytes, from the beginning.
    pub file: File,
    /// How they are compressed.
    pub coding: Compression,
}

/// A blob in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Key.
    pub key: String,
    /// Bytes as it is kept: compressed.
    pub bytes: u64,
    /// When it was last put or renewed, by the place's own clock.
    pub modified: SystemTime,
}

/// A place for large bodies.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// `folder`, `s3`, …
    fn name(&self) -> &'static str;

    /// Where a blob is begun that comes in pieces.
    fn drafts(&self) -> &Drafts;

    /// Keeps a draft and returns its key, durable. Bytes that are there already only become young again.
    async fn keep(&self, draft: Draft) -> Result<String>;

    /// Keeps bytes that are in memory.
    async fn put(&self, bytes: Bytes) -> Result<String> {
        let drafts = self.drafts().clone();
        let written = blocking(move || {
            let mut draft = drafts.begin()?;
            draft.write(&bytes).map(|()| draft)
        });
        self.keep(written.await?).await
    }

    /// Makes a blob young again, as a put of its bytes would, without reading them.
    async fn renew(&self, key: &str) -> Result<()>;

    /// The first bytes of a key, at most so many; if that is all of them, checked against it. More than that is neither
    /// read nor held, give or take a little.
    async fn get_start(&self, key: &str, limit: usize) -> Result<Bytes>;

    /// The bytes of a key, checked against it.
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.get_start(key, LARGEST as usize).await
    }

    /// A blob as it is kept, unchecked.
    async fn open(&self, key: &str) -> Result<Kept>;

    /// Blobs last put longer ago than this, of one of the 256 parts: those whose hash begins with this byte. No
    /// order; zero is all of them.
    async fn list(&self, part: u8, older_than: Duration) -> Result<Vec<Listed>>;

    /// Removes a blob, if it is there.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Removes blobs last put longer ago than this; returns how many.
    async fn sweep(&self, older_than: Duration) -> Result<u64>;
}

/// The key of these bytes.
pub fn key(bytes: &[u8]) -> String {
    format!("sha256/{}", hex::encode(Sha256::digest(bytes)))
}

/// A blob's bytes as they are kept, from their beginning: at most `limit` of them decompressed, and checked against the
/// key if there are no more.
fn open(expected: &str, coding: Compression, from: impl Read, limit: usize) -> Result<Bytes> {
    let damaged = |why: String| BlobError::Damaged { key: expected.to_owned(), why };
    let (bytes, all) = decompress(coding, from, limit).map_err(|e| damaged(e.to_string()))?;
    if all && key(&bytes) != expected {
        return Err(damaged("its bytes have another hash".into()));
    }
    Ok(bytes.into())
}

/// On a thread where work holds up no task.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(f).await;
    done.map_err(|e| BlobError::Unavailable(format!("work on a blob was cut short: {e}")))?
}

/// Key and compression of what is called so: 64 digits and a suffix. None: it is no blob.
fn named(name: &str) -> Option<(String, Compression)> {
    let (digits, suffix) = name.split_once('.')?;
    let coding = coding::order(Compression::Zstd).into_iter().find(|c| coding::suffix(*c) == suffix)?;
    let key = format!("sha256/{digits}");
    self::digits(&key).ok()?;
    Some((key, coding))
}

/// The hex digits of a key.
fn digits(key: &str) -> Result<&str> {
    let digits = key.strip_prefix("sha256/").filter(|d| d.len() == 64);
    let digits = digits.filter(|d| d.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    digits.ok_or_else(|| BlobError::BadKey(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_hash_and_nothing_else_is_a_key() {
        let good = key(b"abc");
        assert_eq!(good, "sha256/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digits(&good).unwrap().len(), 64);
        let upper = good.to_uppercase().replace("SHA", "sha");
        for bad in ["", "sha256/", "sha256/../../etc/passwd", &good[7..], &upper, &format!("{good}0")] {
            assert_eq!(digits(bad), Err(BlobError::BadKey(bad.to_owned())));
        }
    }
}
