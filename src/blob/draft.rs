//! A blob that comes in pieces: hashed and compressed on its way into a temporary file, so that it is never in memory as a
//! whole.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::coding::Encoder;
use super::{BlobError, LARGEST, Result};
use crate::config::Compression;

/// A file that was last written longer ago belongs to nobody.
const LEFT_BEHIND: Duration = Duration::from_secs(86_400);

/// Where drafts are written, and how.
#[derive(Debug, Clone)]
pub struct Drafts {
    dir: Arc<Path>,
    coding: Compression,
}

/// What has come so far. Dropped, it is gone.
pub struct Draft {
    out: Encoder<NamedTempFile>,
    hash: Sha256,
    length: u64,
    drafts: Drafts,
}

/// A draft that is complete, in its file.
pub struct Finished {
    pub key: String,
    pub file: NamedTempFile,
    pub coding: Compression,
}

impl Drafts {
    /// In a folder that is there.
    pub fn new(dir: &Path, coding: Compression) -> Drafts {
        Drafts { dir: dir.into(), coding }
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Begins one. Blocks on the disk, as all that follows.
    pub fn begin(&self) -> Result<Draft> {
        // As any file would be made, not for its owner alone: others may be meant to read the blobs.
        let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(&self.dir);
        let out = file.and_then(|file| Encoder::new(self.coding, file)).map_err(|e| self.failed(&e))?;
        Ok(Draft { out, hash: Sha256::new(), length: 0, drafts: self.clone() })
    }

    /// Removes what drafts of processes that died have left: nobody writes for a day.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let Some(limit) = SystemTime::now().checked_sub(LEFT_BEHIND) else { return Ok(()) };
        for left in fs::read_dir(&self.dir)? {
            let left = left?;
            match left.metadata().and_then(|m| m.modified()) {
                Ok(modified) if modified < limit => {
                    fs::remove_file(left.path())?;
                    tracing::warn!(file = %left.path().display(), "removed what a draft that was cut short had left");
                }
                // One that was kept or dropped meanwhile is there no more.
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, e: &io::Error) -> BlobError {
        let dir = self.dir.display();
        BlobError::Unavailable(match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                format!("the disk that holds {dir} is full: free some space, and the work goes on by itself")
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                format!("{dir} cannot be written ({e}); check the folder's permissions")
            }
            _ => format!("{dir} cannot be written ({e})"),
        })
    }
}

impl Draft {
    /// The next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        if self.length > LARGEST {
            return Err(BlobError::TooLarge(self.length));
        }
        self.hash.update(bytes);
        self.out.write_all(bytes).map_err(|e| self.drafts.failed(&e))
    }

    /// Bytes so far, before compression.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The key of the bytes so far.
    pub(super) fn key(&self) -> String {
        format!("sha256/{}", hex::encode(self.hash.clone().finalize()))
    }

    /// All bytes are there.
    pub(super) fn finish(self) -> Result<Finished> {
        let key = self.key();
        let Draft { out, drafts, .. } = self;
        let file = out.finish().map_err(|e| drafts.failed(&e))?;
        Ok(Finished { key, file, coding: drafts.coding })
    }
}
