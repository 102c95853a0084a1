//! A sink of its own: a folder with a JSON file for each document.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tidemill::record::Enriched;
use tidemill::sink::{Sink, SinkError, Written};

pub struct Folder {
    dir: PathBuf,
    /// One writes at a time: reading the version and replacing the file is one step.
    writing: Arc<Mutex<()>>,
}

impl Folder {
    pub fn open(dir: &Path) -> io::Result<Folder> {
        fs::create_dir_all(dir)?;
        Ok(Folder { dir: dir.to_owned(), writing: Arc::default() })
    }
}

#[async_trait]
impl Sink for Folder {
    fn name(&self) -> &'static str {
        "folder"
    }

    async fn put(&self, document: Arc<Enriched>) -> Result<Written, SinkError> {
        if document.id.is_empty() {
            return Err(SinkError::Rejected(format!("the document of {} has no id", document.url)));
        }
        let (dir, writing) = (self.dir.clone(), Arc::clone(&self.writing));
        let written = tokio::task::spawn_blocking(move || {
            let _alone = writing.lock().unwrap_or_else(PoisonError::into_inner);
            write(&dir, &document)
        });
        // A full disk is not the document's fault: the record waits, and is put again.
        let away = |why: String| SinkError::Unavailable(format!("cannot write a document: {why}"));
        written.await.map_err(|e| away(e.to_string()))?.map_err(|e| away(e.to_string()))
    }

    async fn sweep(&self, before: i64) -> Result<u64, SinkError> {
        let (dir, writing) = (self.dir.clone(), Arc::clone(&self.writing));
        let swept = tokio::task::spawn_blocking(move || {
            let _alone = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut swept = 0;
            for file in fs::read_dir(&dir)? {
                let path = file?.path();
                if read(&path)?.is_some_and(|d| d.gone && d.fetched_at < before) {
                    fs::remove_file(path)?;
                    swept += 1;
                }
            }
            io::Result::Ok(swept)
        });
        let away = |why: String| SinkError::Unavailable(format!("cannot sweep: {why}"));
        swept.await.map_err(|e| away(e.to_string()))?.map_err(|e| away(e.to_string()))
    }
}

/// Replaces the file, unless it has a newer version.
fn write(dir: &Path, document: &Enriched) -> io::Result<Written> {
    // Any text may be an id, and not any text a file name.
    let name: String = Sha256::digest(&document.id).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join(name + ".json");
    let held = read(&path)?;
    if held.as_ref().is_some_and(|held| held.fetched_at > document.fetched_at) {
        return Ok(Written::Stale);
    }
    // Whole or not at all, and on the disk before it is answered: the file, then its name.
    let draft = dir.join("draft");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec(document)?)?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(dir)?.sync_all()?;
    Ok(if held.is_some() { Written::Updated } else { Written::Created })
}

/// What a file holds, if it is there and whole.
fn read(path: &Path) -> io::Result<Option<Enriched>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
