//! Blobs in a folder: `<root>/sha256/<2 digits>/<64 digits>.zst`, which `zstdcat` reads, or `.gz`, which `zcat` does.
//!
//! A draft is a file of its own in `<root>/tmp`, synced and renamed to its place when it is kept, so a file under its name
//! is always whole. Its time of change is when it was last put.
//!
//! A sweep must not remove a blob that a put has just found there. Who keeps a draft holds `<root>/lock` shared from the
//! first look to the end, and a sweep holds it alone while it clears one of the 256 folders; the kernel frees the lock of a
//! process that dies.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use super::coding;
use super::draft::{Draft, Drafts, Finished};
use super::{BlobError, Blobs, Kept, Listed, Result, digits, named};
use crate::config::Compression;

/// Blobs in a folder. Cheap to clone; several processes may share the folder.
#[derive(Clone)]
pub struct Folder {
    root: Arc<Path>,
    coding: Compression,
    drafts: Drafts,
}

impl Folder {
    /// Opens or creates the folder. `coding`: of what is put; both are read.
    pub fn open(root: &Path, coding: Compression) -> Result<Folder> {
        let folder = Folder { root: root.into(), coding, drafts: Drafts::new(&root.join("tmp"), coding) };
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

    fn write(&self, draft: Finished, place: &Path) -> io::Result<()> {
        let lock = self.lock_file()?;
        lock.lock_shared()?;
        if renewed(place)? {
            return Ok(());
        }
        draft.file.as_file().sync_all()?;
        draft.file.persist(place)?;
        sync(parent(place))
    }

    fn renew(&self, digits: &str) -> io::Result<bool> {
        let lock = self.lock_file()?;
        lock.lock_shared()?;
        for coding in coding::order(self.coding) {
            if renewed(&self.place(digits, coding))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn kept(&self, key: &str) -> Result<Kept> {
        let digits = digits(key)?;
        for coding in coding::order(self.coding) {
            match File::open(self.place(digits, coding)) {
                Ok(file) => return Ok(Kept { file, coding }),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(self.failed(&e)),
            }
        }
        Err(BlobError::NotFound(key.to_owned()))
    }

    fn listed(&self, part: u8, older_than: Duration) -> io::Result<Vec<Listed>> {
        let mut listed = vec![];
        let Some(limit) = SystemTime::now().checked_sub(older_than) else { return Ok(listed) };
        for blob in entries(&self.root.join("sha256").join(format!("{part:02x}")))? {
            let Some((key, _)) = blob.file_name().to_str().and_then(named) else { continue };
            let about = match blob.metadata() {
                Ok(about) => about,
                // Swept or moved meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let modified = about.modified()?;
            if modified < limit {
                listed.push(Listed { key, bytes: about.len(), modified });
            }
        }
        Ok(listed)
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
        self.drafts.sweep()?;
        Ok(swept)
    }

    /// Runs on a thread where waiting for the disk holds up no task.
    async fn run<T: Send + 'static>(&self, f: impl FnOnce(&Folder) -> Result<T> + Send + 'static) -> Result<T> {
        let folder = self.clone();
        super::blocking(move || f(&folder)).await
    }
}

#[async_trait]
impl Blobs for Folder {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn drafts(&self) -> &Drafts {
        &self.drafts
    }

    async fn keep(&self, draft: Draft) -> Result<String> {
        self.run(move |folder| {
            let draft = draft.finish()?;
            let key = draft.key.clone();
            let place = folder.place(digits(&key)?, draft.coding);
            folder.write(draft, &place).map_err(|e| folder.failed(&e))?;
            Ok(key)
        })
        .await
    }

    async fn renew(&self, key: &str) -> Result<()> {
        let (key, digits) = (key.to_owned(), digits(key)?.to_owned());
        self.run(move |folder| match folder.renew(&digits) {
            Ok(true) => Ok(()),
            Ok(false) => Err(BlobError::NotFound(key)),
            Err(e) => Err(folder.failed(&e)),
        })
        .await
    }

    async fn get_start(&self, key: &str, limit: usize) -> Result<Bytes> {
        let key = key.to_owned();
        self.run(move |folder| {
            let Kept { file, coding } = folder.kept(&key)?;
            super::open(&key, coding, file, limit)
        })
        .await
    }

    async fn open(&self, key: &str) -> Result<Kept> {
        let key = key.to_owned();
        self.run(move |folder| folder.kept(&key)).await
    }

    async fn list(&self, part: u8, older_than: Duration) -> Result<Vec<Listed>> {
        self.run(move |folder| folder.listed(part, older_than).map_err(|e| folder.failed(&e))).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let digits = digits(key)?.to_owned();
        self.run(move |folder| folder.remove(&digits).map_err(|e| folder.failed(&e))).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        self.run(move |folder| folder.clear(older_than).map_err(|e| folder.failed(&e))).await
    }
}

/// Makes a blob young again; false if it is not there. Under the lock.
fn renewed(place: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).open(place) {
        // Whoever put it first may not have come to syncing the folder yet.
        Ok(there) => there.set_modified(SystemTime::now()).and_then(|()| sync(parent(place))).map(|()| true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
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
        // A header that announces 2^60 bytes in one segment, and a raw block of one byte.
        let huge = [&[0x28, 0xB5, 0x2F, 0xFD, 0xE0, 0, 0, 0, 0, 0, 0, 0, 0x10, 9, 0, 0][..], b"x"].concat();
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
        let [left, other] = ["left", "other"].map(|name| folder.root.join("tmp").join(name));
        fs::write(&left, b"half").unwrap();
        fs::write(&other, b"half, and more is coming").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 86_400);
        File::options().write(true).open(&left).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(folder.sweep(Duration::from_secs(3600)).await, Ok(0));
        assert!(!left.exists() && other.exists());
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
