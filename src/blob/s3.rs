//! Blobs in an S3 bucket: `<prefix>/sha256/<2 digits>/<64 digits>.zst` or `.gz`.
//!
//! A put writes the object whether it is there or not, so its time is that of its last put. A sweep must not remove what
//! a put has just made young again, and S3 can delete no object on the condition that it is old. So:
//!
//! ```text
//! sweep of ab/:  write sweeping/ab/<id> ► list ab/ again ► delete what is still old ► delete sweeping/ab/<id>
//! put in ab/:    write the object ► wait until sweeping/ab/ is empty ► is the object there? else from the start
//! ```
//!
//! S3 is strongly consistent. A put that is written before the second list is seen there as young. One that is written
//! after it finds the sweep's mark, or the sweep over and then the truth of its object. Ages are told by the server's clock
//! alone: an object's time against the mark's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;
use url::Url;

use super::coding;
use super::draft::{Draft, Drafts, Finished};
use super::{BlobError, Blobs, Kept, LARGEST, Listed, Result, blocking, digits, named};
use crate::config::{self, Compression};
use crate::record::now_ms;
use crate::upstream;

/// A larger object is written in parts, one after the other.
const PART: usize = 8 << 20;
/// Objects on their way to S3 at once: each has a part in memory.
const UPLOADS: usize = 8;
/// Listings of S3 tell times in whole seconds.
const GRAIN: i64 = 1_000;
/// A sweep deletes nothing later than this after its mark.
const SWEEPING: Duration = Duration::from_secs(120);
/// A mark that is older was left by a sweep that died.
const LEFT_BEHIND: i64 = 600_000;
/// An object of its own, beside the others.
const NOTE: &[u8] = b"Bodies of pages, kept by Tidemill under the hash of their content.\n";
/// Time between two looks at a mark.
const LOOK: Duration = Duration::from_millis(100);

/// Blobs in a bucket.
pub struct S3 {
    objects: Arc<dyn ObjectStore>,
    /// As configured, for messages.
    at: String,
    prefix: Path,
    coding: Compression,
    drafts: Drafts,
    uploads: Semaphore,
    timeout: Duration,
}

impl S3 {
    /// Blobs under `config.s3`; their drafts are files in `dir`, which is made. An S3 that is away is no error: calls are,
    /// until it is there.
    pub async fn open(config: &config::Blob, how: &config::S3, dir: &std::path::Path) -> Result<S3> {
        let url = Url::parse(&config.s3).map_err(|e| BlobError::Fatal(format!("blob.s3 is no URL ({e})")))?;
        let bucket = url.host_str().unwrap_or_default();
        let objects = upstream::s3::client(how, bucket, config.timeout).map_err(BlobError::Fatal)?;
        let prefix = Path::from_url_path(url.path());
        let cannot = |e| BlobError::Fatal(format!("the folder {} cannot be made ({e})", dir.display()));
        std::fs::create_dir_all(dir).map_err(cannot)?;
        let s3 = S3 {
            objects: Arc::new(objects),
            at: config.s3.clone(),
            prefix: prefix.map_err(|e| BlobError::Fatal(format!("blob.s3 has no good prefix ({e})")))?,
            coding: config.compression,
            drafts: Drafts::new(dir, config.compression),
            uploads: Semaphore::new(UPLOADS),
            timeout: config.timeout,
        };
        // Tells whether the bucket is there and may be written to, and whoever finds it what it is.
        match s3.objects.put(&s3.prefix.clone().join("tidemill"), PutPayload::from_static(NOTE)).await {
            Err(e @ Error::NotFound { .. }) => {
                let why = format!("there is no bucket {bucket:?} ({e}); create it, or name another in [blob]");
                Err(BlobError::Fatal(why))
            }
            Err(e @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. })) => {
                Err(BlobError::Fatal(s3.failed(e).to_string()))
            }
            Err(e) => {
                tracing::warn!("{}; what needs a blob waits until then", s3.failed(e));
                Ok(s3)
            }
            Ok(_) => Ok(s3),
        }
    }

    fn failed(&self, e: Error) -> BlobError {
        let at = &self.at;
        BlobError::Unavailable(match e {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                format!("{at} refuses us ({e}); check the credentials in [s3] or AWS_* and what they may do")
            }
            Error::NotFound { .. } => format!("{at} is not there ({e}); check that its bucket exists"),
            _ => format!("{at} cannot be read or written ({e})"),
        })
    }

    fn shard(&self, digits: &str) -> Path {
        self.prefix.clone().join("sha256").join(&digits[..2])
    }

    fn place(&self, digits: &str, coding: Compression) -> Path {
        self.shard(digits).join(format!("{digits}.{}", coding::suffix(coding)))
    }

    /// Where a sweep of a shard leaves its mark.
    fn marks(&self, shard: &str) -> Path {
        self.prefix.clone().join("sweeping").join(shard)
    }

    async fn write(&self, place: &Path, draft: &Finished) -> Result<()> {
        let _turn = self.uploads.acquire().await;
        let read = |part: u64| {
            let file = draft.file.as_file().try_clone().map_err(|e| self.unreadable(&e));
            async move {
                let file = file?;
                blocking(move || Ok(read_part(&file, part * PART as u64))).await?.map_err(|e| self.unreadable(&e))
            }
        };
        let first = read(0).await?;
        if first.len() < PART {
            return self.objects.put(place, first.into()).await.map(drop).map_err(|e| self.failed(e));
        }
        let mut upload = self.objects.put_multipart(place).await.map_err(|e| self.failed(e))?;
        let (mut part, mut number) = (first, 0);
        let done = loop {
            let more = part.len() == PART;
            if !part.is_empty()
                && let Err(e) = upload.put_part(part.into()).await
            {
                break Err(self.failed(e));
            }
            if !more {
                break upload.complete().await.map(drop).map_err(|e| self.failed(e));
            }
            number += 1;
            part = match read(number).await {
                Ok(part) => part,
                Err(e) => break Err(e),
            };
        };
        if done.is_err() {
            let _the_bucket_s_own_rule_takes_it = upload.abort().await;
        }
        done
    }

    fn unreadable(&self, e: &io::Error) -> BlobError {
        BlobError::Unavailable(format!("the draft of a blob for {} cannot be read ({e})", self.at))
    }

    /// Whether an object that was just written stays: false if a sweep took it.
    async fn stays(&self, digits: &str, place: &Path) -> Result<bool> {
        let marks = self.marks(&digits[..2]);
        let from = Instant::now();
        while self.objects.list(Some(&marks)).next().await.transpose().map_err(|e| self.failed(e))?.is_some() {
            if from.elapsed() > self.timeout {
                return Err(BlobError::Unavailable(format!("{} is being swept for long; the body waits", self.at)));
            }
            tokio::time::sleep(LOOK).await;
        }
        match self.objects.head(place).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.failed(e)),
        }
    }

    async fn objects(&self, under: &Path) -> Result<Vec<ObjectMeta>> {
        self.objects.list(Some(under)).try_collect().await.map_err(|e| self.failed(e))
    }

    /// Removes what is old in a shard. If that fails the mark stays, because a deletion may still be on its way; puts wait
    /// for it until a later sweep takes it for left behind.
    async fn sweep_shard(&self, shard: &str, older_than: i64) -> Result<u64> {
        let from = Instant::now();
        let mark = self.marks(shard).join(uuid::Uuid::now_v7().simple().to_string());
        self.objects.put(&mark, PutPayload::new()).await.map_err(|e| self.failed(e))?;
        let swept = self.sweep_marked(shard, &mark, older_than, from).await?;
        self.objects.delete(&mark).await.map_err(|e| self.failed(e))?;
        Ok(swept)
    }

    async fn sweep_marked(&self, shard: &str, mark: &Path, older_than: i64, from: Instant) -> Result<u64> {
        let now = self.objects.head(mark).await.map_err(|e| self.failed(e))?.last_modified.timestamp_millis();
        let old = |o: &ObjectMeta| is_old(o, now, older_than);
        let old: Vec<Path> =
            self.objects(&self.shard(shard)).await?.into_iter().filter(old).map(|o| o.location).collect();
        let mut swept = 0;
        for some in old.chunks(1_000) {
            if from.elapsed() > SWEEPING {
                break;
            }
            let some = stream::iter(some.to_vec()).map(Ok).boxed();
            let deleted: Vec<Path> =
                self.objects.delete_stream(some).try_collect().await.map_err(|e| self.failed(e))?;
            swept += deleted.len() as u64;
        }
        Ok(swept)
    }
}

#[async_trait]
impl Blobs for S3 {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn drafts(&self) -> &Drafts {
        &self.drafts
    }

    async fn keep(&self, draft: Draft) -> Result<String> {
        let draft = blocking(move || draft.finish()).await?;
        let digits = digits(&draft.key)?;
        let place = self.place(digits, draft.coding);
        loop {
            self.write(&place, &draft).await?;
            if self.stays(digits, &place).await? {
                return Ok(draft.key.clone());
            }
        }
    }

    /// S3 copies an object onto itself only with other metadata, so by way of a second one; its bytes stay in S3.
    async fn renew(&self, key: &str) -> Result<()> {
        let digits = digits(key)?;
        for coding in coding::order(self.coding) {
            let place = self.place(digits, coding);
            // In the shard: a sweep takes it if we die.
            let id = uuid::Uuid::now_v7().simple();
            let second = self.shard(digits).join(format!("{digits}.{}.{id}", coding::suffix(coding)));
            match self.objects.copy(&place, &second).await {
                Ok(()) => {}
                Err(Error::NotFound { .. }) => continue,
                Err(e) => return Err(self.failed(e)),
            }
            loop {
                self.objects.copy(&second, &place).await.map_err(|e| self.failed(e))?;
                if self.stays(digits, &place).await? {
                    break;
                }
            }
            return self.objects.delete(&second).await.map_err(|e| self.failed(e));
        }
        Err(BlobError::NotFound(key.to_owned()))
    }

    async fn get_start(&self, key: &str, limit: usize) -> Result<Bytes> {
        let digits = digits(key)?;
        let limit = limit.min(LARGEST as usize);
        // What gzip makes at its fastest of what cannot be compressed is an eighth more at most.
        let most = limit + limit / 8 + (64 << 10);
        for coding in coding::order(self.coding) {
            let found = match self.objects.get(&self.place(digits, coding)).await {
                Ok(found) => found.into_stream(),
                Err(Error::NotFound { .. }) => continue,
                Err(e) => return Err(self.failed(e)),
            };
            let compressed = start(found, most).await.map_err(|e| self.failed(e))?;
            let key = key.to_owned();
            return blocking(move || super::open(&key, coding, &compressed[..], limit)).await;
        }
        Err(BlobError::NotFound(key.to_owned()))
    }

    async fn open(&self, key: &str) -> Result<Kept> {
        let digits = digits(key)?;
        for coding in coding::order(self.coding) {
            let mut found = match self.objects.get(&self.place(digits, coding)).await {
                Ok(found) => found.into_stream(),
                Err(Error::NotFound { .. }) => continue,
                Err(e) => return Err(self.failed(e)),
            };
            let dir = self.drafts.dir().to_owned();
            let mut file = blocking(move || Ok(tempfile::tempfile_in(dir))).await?.map_err(|e| self.unreadable(&e))?;
            while let Some(bytes) = found.try_next().await.map_err(|e| self.failed(e))? {
                let written = blocking(move || Ok(file.write_all(&bytes).map(|()| file))).await?;
                file = written.map_err(|e| self.unreadable(&e))?;
            }
            file.rewind().map_err(|e| self.unreadable(&e))?;
            return Ok(Kept { file, coding });
        }
        Err(BlobError::NotFound(key.to_owned()))
    }

    async fn list(&self, part: u8, older_than: Duration) -> Result<Vec<Listed>> {
        let older_than = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
        let now = now_ms();
        let objects = self.objects(&self.shard(&format!("{part:02x}"))).await?;
        // A server whose clock is ahead of ours has all of it too.
        let old = objects.into_iter().filter(|o| older_than == 0 || is_old(o, now, older_than));
        Ok(old
            .filter_map(|o| {
                let (key, _) = named(o.location.filename()?)?;
                Some(Listed { key, bytes: o.size, modified: o.last_modified.into() })
            })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let digits = digits(key)?;
        for coding in coding::order(self.coding) {
            match self.objects.delete(&self.place(digits, coding)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        Ok(())
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        let older_than = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
        // A first look by our own clock, which only says where a second one may be worth it.
        let mut shards = BTreeSet::new();
        let mut all = self.objects.list(Some(&self.prefix.clone().join("sha256")));
        let now = now_ms();
        while let Some(object) = all.try_next().await.map_err(|e| self.failed(e))? {
            let name = object.location.filename().unwrap_or_default();
            if is_old(&object, now, older_than) && name.is_char_boundary(2) && name.len() > 2 {
                shards.insert(name[..2].to_owned());
            }
        }
        let mut swept = 0;
        for shard in &shards {
            swept += self.sweep_shard(shard, older_than).await?;
        }
        let mut left = self.objects.list(Some(&self.prefix.clone().join("sweeping")));
        while let Some(mark) = left.try_next().await.map_err(|e| self.failed(e))? {
            if is_old(&mark, now, LEFT_BEHIND) {
                self.objects.delete(&mark.location).await.map_err(|e| self.failed(e))?;
            }
        }
        let drafts = self.drafts.clone();
        blocking(move || Ok(drafts.sweep())).await?.map_err(|e| self.unreadable(&e))?;
        Ok(swept)
    }
}

/// The first bytes of a stream, at least so many unless it ends before.
async fn start(
    mut from: impl Stream<Item = object_store::Result<Bytes>> + Unpin,
    most: usize,
) -> object_store::Result<Vec<u8>> {
    let mut bytes = vec![];
    while bytes.len() < most
        && let Some(some) = from.try_next().await?
    {
        bytes.extend_from_slice(&some);
    }
    Ok(bytes)
}

/// A part of a file from here, shorter at its end.
fn read_part(file: &File, from: u64) -> io::Result<Bytes> {
    let mut part = vec![0; PART];
    let mut length = 0;
    while length < PART {
        match file.read_at(&mut part[length..], from + length as u64)? {
            0 => break,
            n => length += n,
        }
    }
    part.truncate(length);
    Ok(part.into())
}

fn is_old(o: &ObjectMeta, now: i64, older_than: i64) -> bool {
    now.saturating_sub(o.last_modified.timestamp_millis()) > older_than.saturating_add(GRAIN)
}
