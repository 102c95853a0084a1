//! Ids of the registry in a folder, a file each: `7.avsc`. An id never changes its meaning, so a later run reads with
//! what an earlier one learned: also when the registry is away, or configured no longer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::warn;

use crate::record::writers;

/// Most files kept, and most that are read.
const FILES: usize = 2_000;

/// A folder of schemas by id.
pub struct Folder {
    path: PathBuf,
    files: AtomicUsize,
}

impl Folder {
    /// Learns what is in the folder; there need not be one.
    pub fn recall(path: &Path) -> Folder {
        let mut files = 0;
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(FILES);
        for file in entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "avsc")) {
            files += 1;
            let id = file.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
            let Some(id) = id else { continue };
            let learned = std::fs::read_to_string(&file).map_err(|e| e.to_string());
            if let Err(error) = learned.and_then(|text| writers::learn(id, &text).map_err(|e| e.to_string())) {
                warn!(file = %file.display(), error, "a schema that was learned earlier is passed over");
            }
        }
        Folder { path: path.to_owned(), files: AtomicUsize::new(files) }
    }

    /// Keeps what an id means. If that fails, it is learned again another time.
    pub async fn keep(&self, id: u32, text: &str) {
        let file = self.path.join(format!("{id}.avsc"));
        if tokio::fs::try_exists(&file).await.unwrap_or(false) || self.files.fetch_add(1, Ordering::Relaxed) >= FILES {
            return;
        }
        // Written aside and renamed: no reader ever sees half of it.
        let aside = self.path.join(format!("{id}.{}", std::process::id()));
        let kept = async {
            tokio::fs::create_dir_all(&self.path).await?;
            tokio::fs::write(&aside, text).await?;
            tokio::fs::rename(&aside, &file).await
        };
        if let Err(error) = kept.await {
            warn!(file = %file.display(), %error, "a schema that was learned cannot be kept");
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
