//! Two places: where bodies are put, and an archive that those move to which nobody has used for long.
//!
//! ```text
//! put ─► first place ── not used for `archive.after` ─► copied into the archive, durable ─► deleted in the first
//! get, renew ─► first place, and if it is not there: the archive
//! ```
//!
//! A blob is in the archive before it leaves the first place, and whoever looks asks the first place first: so it is always
//! found, whatever else puts, renews or moves it at the same time. Cut short, a move is made once more. A blob that is put
//! again while it is moved is in both places, or in the archive alone; either will do.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::draft::{Draft, Drafts};
use super::{BlobError, Blobs, Kept, Listed, Result, blocking, coding};

/// Blobs moved at once.
const AT_ONCE: usize = 8;
/// Bytes copied at once.
const PIECE: usize = 64 << 10;

/// A first place and an archive.
pub struct Tiered {
    first: Arc<dyn Blobs>,
    archive: Arc<dyn Blobs>,
}

/// Blobs by number and size as they are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub blobs: u64,
    pub bytes: u64,
    /// Those of them that cannot be read; they stay where they are.
    pub damaged: u64,
}

impl Tiered {
    /// Of two places.
    pub fn new(first: Arc<dyn Blobs>, archive: Arc<dyn Blobs>) -> Tiered {
        Tiered { first, archive }
    }

    /// Where bodies are put.
    pub fn first(&self) -> &Arc<dyn Blobs> {
        &self.first
    }

    /// Where they move to.
    pub fn archive(&self) -> &Arc<dyn Blobs> {
        &self.archive
    }

    /// Moves what nobody has put or renewed for so long. `told` hears of each. After `until` no more is begun; the parts of
    /// the place come in another order each time, so that all have their turn.
    ///
    /// # Errors
    /// A place is away. What was moved until then is moved.
    pub async fn move_old(
        &self,
        older_than: Duration,
        until: Option<Instant>,
        mut told: impl FnMut(&Listed) + Send,
    ) -> Result<Tally> {
        let (mut moved, start) = (Tally::default(), rand::random::<u8>());
        let over = || until.is_some_and(|until| Instant::now() >= until);
        for part in 0..=u8::MAX {
            if over() {
                break;
            }
            let old = self.first.list(part.wrapping_add(start), older_than).await?;
            let moves = stream::iter(old).take_while(|_| std::future::ready(!over()));
            let mut moves =
                moves.map(|blob| async { (self.move_one(&blob.key).await, blob) }).buffer_unordered(AT_ONCE);
            while let Some((done, blob)) = moves.next().await {
                match done {
                    Ok(true) => {
                        moved.blobs += 1;
                        moved.bytes += blob.bytes;
                    }
                    // Another process has moved it.
                    Ok(false) => {}
                    Err(e @ (BlobError::Damaged { .. } | BlobError::TooLarge(_))) => {
                        tracing::warn!(error = %e, "a blob could not be archived");
                        moved.damaged += 1;
                    }
                    Err(e) => return Err(e),
                }
                told(&blob);
            }
        }
        Ok(moved)
    }

    /// False: it is not there any more.
    async fn move_one(&self, key: &str) -> Result<bool> {
        let kept = match self.first.open(key).await {
            Ok(kept) => kept,
            Err(BlobError::NotFound(_)) => return Ok(false),
            Err(e) => return Err(e),
        };
        let (drafts, expected) = (self.archive.drafts().clone(), key.to_owned());
        let draft = blocking(move || draft(&expected, kept, &drafts)).await?;
        self.archive.keep(draft).await?;
        fail::fail_point!("blob.archived");
        self.first.delete(key).await?;
        Ok(true)
    }

    /// What is in one of the places, and of that what is older.
    pub async fn tally(place: &Arc<dyn Blobs>, older_than: Duration) -> Result<Tally> {
        let mut tally = Tally::default();
        for part in 0..=u8::MAX {
            for blob in place.list(part, older_than).await? {
                tally.blobs += 1;
                tally.bytes += blob.bytes;
            }
        }
        Ok(tally)
    }
}

/// The bytes of a blob once more, checked against its key. Blocks.
fn draft(key: &str, kept: Kept, drafts: &Drafts) -> Result<Draft> {
    let damaged = |why: String| BlobError::Damaged { key: key.to_owned(), why };
    let mut from = coding::reader(kept.coding, kept.file).map_err(|e| damaged(e.to_string()))?;
    let mut draft = drafts.begin()?;
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => draft.write(&piece[..n])?,
            Err(e) => return Err(damaged(e.to_string())),
        }
    }
    if draft.key() != key {
        return Err(damaged("its bytes have another hash".into()));
    }
    Ok(draft)
}

/// What the first place says, unless it has nothing of that name: then the second is asked.
macro_rules! either {
    ($self:ident, $blobs:ident => $call:expr) => {{
        let $blobs = &$self.first;
        match $call.await {
            Err(BlobError::NotFound(_)) => {
                let $blobs = &$self.archive;
                $call.await
            }
            done => done,
        }
    }};
}

#[async_trait]
impl Blobs for Tiered {
    fn name(&self) -> &'static str {
        "tiered"
    }

    fn drafts(&self) -> &Drafts {
        self.first.drafts()
    }

    async fn keep(&self, draft: Draft) -> Result<String> {
        self.first.keep(draft).await
    }

    async fn renew(&self, key: &str) -> Result<()> {
        either!(self, blobs => blobs.renew(key))
    }

    async fn get_start(&self, key: &str, limit: usize) -> Result<Bytes> {
        either!(self, blobs => blobs.get_start(key, limit))
    }

    async fn open(&self, key: &str) -> Result<Kept> {
        either!(self, blobs => blobs.open(key))
    }

    /// Of both: a blob that is being moved may be there twice.
    async fn list(&self, part: u8, older_than: Duration) -> Result<Vec<Listed>> {
        let mut all = self.first.list(part, older_than).await?;
        all.extend(self.archive.list(part, older_than).await?);
        Ok(all)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.first.delete(key).await?;
        self.archive.delete(key).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        Ok(self.first.sweep(older_than).await? + self.archive.sweep(older_than).await?)
    }
}
