//! Blobs in a folder: `<root>/sha256/<2 digits>/<64 digits>.zst`, which `zstdcat` reads, or `.gz`, which `zcat` does.
//!
//! A blob is written to a file of its own in `<root>/tmp`, synced, and renamed to its place, so a file under its name is
//! always whole. Its time of change is when it was last put.
//!
//! A sweep must not remove a blob that a put has just found there. Each put holds `<root>/lock` shared from its first look
//! to its end, and a sweep holds it alone while it clears one of the 256 folders; the kernel frees the lock of a process
//! that dies. It also follows that a temporary file seen by a sweep is nobody's any more.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tracing::warn;

use super::coding::{self, Encoder};
use super::{BlobError, Blobs, LARGEST, Result, digits, key};
use crate::config::Compression;

/// Blobs in a folder. Cheap to clone; several processes may share the folder.
#[derive(Clone)]
pub struct Folder {
    root: Arc<Path>,
    coding: Compression,
}

impl Folder {
    /// Opens or creates the folder. `coding`: of what is put; both are read.
    pub fn open(root: &Path, coding: Compression) -> Result<Folder> {
        let folder = Folder { root: root.into(), coding };
        folder.make().map_err(|e| folder.failed(&e))?;
        Ok(folder)
    }

    /// All folders at once and synced, so that a put has but one to sync.
    fn make(&self) -> io::Result<()> {
        let places = self.root.join("sha256");
        fs::create_dir_all(self.root.join("tmp"))?;
        for byte in 0..=u8::MAX {
            fs::create_dir_all(places.join(format!("{byte:02x}")))?;
        }
        self.lock_file()?;
        sync(&places)?;
        sync(&self.root)?;
        sync(parent(&self.root))
    }

    fn failed(&self, e: &io::Error) -> BlobError {
        let root = self.root.display();
        BlobError::Unavailable(match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                format!(
                    "the disk that holds the blobs in {root} is full: free some space, and the work goes on by itself"
                )
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                format!("the blobs in {root} cannot be read or written ({e}); check the folder's permissions")
            }
            _ => format!("the blobs in {root} cannot be read or written ({e})"),
        })
    }

    fn place(&self, digits: &str, coding: Compression) -> PathBuf {
        self.root.join("sha256").join(&digits[..2]).join(format!("{digits}.{}", coding::suffix(coding)))
    }

    /// A handle of its own each time: a lock belongs to the handle.
    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(false).write(true).open(self.root.join("lock"))
    }

    fn write(&self, bytes: &[u8], place: &Path) -> io::Result<()> {
        let lock = self.lock_file()?;
        lock.lock_shared()?;
        match OpenOptions::new().write(true).open(place) {
            // Whoever put it first may not have come to syncing the folder yet.
            Ok(there) => return there.set_modified(SystemTime::now()).and_then(|()| sync(parent(place))),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let temporary = self.root.join("tmp").join(uuid::Uuid::now_v7().simple().to_string());
        let written = compress(bytes, &temporary, self.coding).and_then(|()| fs::rename(&temporary, place));
        if let Err(e) = written {
            let _the_sweep_takes_it = fs::remove_file(&temporary);
            return Err(e);
        }
        sync(parent(place))
    }

    fn read(&self, key: &str) -> Result<Bytes> {
        let digits = digits(key)?;
        for coding in coding::order(self.coding) {
            let file = match File::open(self.place(digits, coding)) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(self.failed(&e)),
            };
            let bytes = coding::decompress(coding, file).map_err(|e| match e.kind() {
                ErrorKind::PermissionDenied => self.failed(&e),
                _ => BlobError::Damaged { key: key.to_owned(), why: e.to_string() },
            })?;
            return super::checked(key, bytes);
        }
        Err(BlobError::NotFound(key.to_owned()))
    }

    fn remove(&self, digits: &str) -> io::Result<()> {
        coding::order(self.coding).into_iter().try_for_each(|c| removed(&self.place(digits, c)).map(drop))
    }

    fn clear(&self, older_than: Duration) -> io::Result<u64> {
        let mut swept = 0;
        let Some(limit) = SystemTime::now().checked_sub(older_than) else { return Ok(0) };
        for dir in entries(&self.root.join("sha256"))? {
            let lock = self.lock_file()?;
            lock.lock()?;
            for blob in entries(&dir.path())? {
                if blob.metadata()?.modified()? < limit {
                    swept += u64::from(removed(&blob.path())?);
                }
            }
        }
        let lock = self.lock_file()?;
        lock.lock()?;
        for left in entries(&self.root.join("tmp"))? {
            if removed(&left.path())? {
                warn!(file = %left.path().display(), "removed what a put that was cut short had left");
            }
        }
        Ok(swept)
    }

    /// Runs on a thread where waiting for the disk holds up no task.
    async fn run<T: Send + 'static>(&self, f: impl FnOnce(&Folder) -> Result<T> + Send + 'static) -> Result<T> {
        let folder = self.clone();
        let task = tokio::task::spawn_blocking(move || f(&folder));
        task.await.map_err(|e| BlobError::Unavailable(format!("work on a blob was cut short: {e}")))?
    }
}

#[async_trait]
impl Blobs for Folder {
    fn name(&self) -> &'static str {
        "folder"
    }

    async fn put(&self, bytes: Bytes) -> Result<String> {
        if bytes.len() as u64 > LARGEST {
            return Err(BlobError::TooLarge(bytes.len() as u64));
        }
        self.run(move |folder| {
            let key = key(&bytes);
            folder.write(&bytes, &folder.place(digits(&key)?, folder.coding)).map_err(|e| folder.failed(&e))?;
            Ok(key)
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let key = key.to_owned();
        self.run(move |folder| folder.read(&key)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let digits = digits(key)?.to_owned();
        self.run(move |folder| folder.remove(&digits).map_err(|e| folder.failed(&e))).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        self.run(move |folder| folder.clear(older_than).map_err(|e| folder.failed(&e))).await
    }
}

/// Straight into the file: the compressed bytes are never in memory as a whole.
fn compress(bytes: &[u8], to: &Path, coding: Compression) -> io::Result<()> {
    let mut encoder = Encoder::new(coding, File::create_new(to)?, Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    encoder.finish()?.sync_all()
}

/// The folder that a path is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn entries(dir: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(dir)?.collect()
}

fn removed(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("blobs"), Compression::Zstd).unwrap();
        (dir, folder)
    }

    #[tokio::test]
    async fn keeps_compressed_files_under_their_hash() {
        let (_dir, folder) = folder();
        let key = folder.put(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
        let digits = &key[7..];
        let place = folder.root.join("sha256").join(&digits[..2]).join(format!("{digits}.zst"));
        assert!(place.metadata().unwrap().len() < 1_000);
        assert_eq!(zstd::decode_all(File::open(place).unwrap()).unwrap(), vec![b'x'; 100_000]);
        assert_eq!(entries(&folder.root.join("tmp")).unwrap().len(), 0);
    }

    #[tokio::test]
    async fn says_that_a_blob_is_damaged() {
        let (_dir, folder) = folder();
        let key = folder.put(Bytes::from_static(b"some bytes")).await.unwrap();
        let place = folder.place(digits(&key).unwrap(), Compression::Zstd);
        let good = fs::read(&place).unwrap();
        let mut huge = good.clone();
        // A header that announces 2^60 bytes.
        huge.splice(4..6, [0xE0, 0, 0, 0, 0, 0, 0, 0, 0x10]);
        for bad in
            [&b""[..], b"not zstd at all", &good[..good.len() - 3], &huge, &zstd::encode_all(&b"else"[..], 3).unwrap()]
        {
            fs::write(&place, bad).unwrap();
            let e = folder.get(&key).await.unwrap_err();
            assert!(matches!(e, BlobError::Damaged { .. }), "{e}");
        }
    }

    #[tokio::test]
    async fn what_was_put_before_the_setting_changed_is_found() {
        let (dir, folder) = folder();
        let old = folder.put(Bytes::from_static(b"old")).await.unwrap();
        let folder = Folder::open(&dir.path().join("blobs"), Compression::Gzip).unwrap();
        let new = folder.put(Bytes::from_static(b"new")).await.unwrap();
        assert!(folder.place(&new[7..], Compression::Gzip).exists());
        assert_eq!(folder.get(&old).await, Ok(Bytes::from_static(b"old")));
        assert_eq!(folder.get(&new).await, Ok(Bytes::from_static(b"new")));
        folder.delete(&old).await.unwrap();
        assert_eq!(folder.get(&old).await, Err(BlobError::NotFound(old)));
    }

    #[tokio::test]
    async fn a_sweep_clears_what_a_crash_left_behind() {
        let (_dir, folder) = folder();
        let left = folder.root.join("tmp/left");
        fs::write(&left, b"half").unwrap();
        assert_eq!(folder.sweep(Duration::from_secs(3600)).await, Ok(0));
        assert!(!left.exists());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_an_error_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let e = Folder::open(&file, Compression::Zstd).err().unwrap().to_string();
        assert!(e.contains("file"), "{e}");
    }
}
