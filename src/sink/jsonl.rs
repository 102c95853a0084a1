//! A JSON-lines file: one document a line, with the fields of [`Enriched`] (`schemas/enriched.avsc`).
//!
//! A version is written once: its id and `fetched_at` are remembered, and read back from the file when it is resumed, so
//! that a repeat after a crash (even `kill -9`) writes nothing. A newer version of a document is a further line; the last
//! line of an id is the one that counts.
//!
//! A batch is one write and one fsync. What a crash or a full disk leaves of a batch is cut off again, so every line is
//! whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracing::{error, info};

use super::{Sink, SinkError, Written, check};
use crate::batch::{self, Batcher, Limits};
use crate::file_lock::FileLock;
use crate::record::Enriched;

/// A batch: one write.
const LIMITS: Limits = Limits { items: 256, bytes: 8 << 20 };
/// Longest line that is read back, bytes.
const LINE: u64 = 256 << 20;

/// How to open a file that may already be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Empties it.
    Fresh,
    /// Goes on after its last whole line.
    Resume,
}

/// Why the file cannot be opened, in one sentence with the fix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

/// A JSON-lines file. Dropping it waits for the batch that is being written.
pub struct JsonLines {
    writer: Batcher<Arc<Enriched>, Result<Written, SinkError>>,
}

impl JsonLines {
    /// Opens or creates the file. `-` and `/dev/stdout` are standard output, and like pipes and devices begin fresh
    /// whatever the mode.
    pub fn open(path: &Path, mode: Mode) -> Result<JsonLines, OpenError> {
        let mut lines = if path == Path::new("-") || path == Path::new("/dev/stdout") {
            Lines { out: Out::Stream(Box::new(std::io::stdout())), path: path.to_owned(), seen: Seen::default() }
        } else {
            Lines::open(path, mode)?
        };
        let writer = batch::on_thread("jsonl-writer", LIMITS, move |documents: &[Arc<Enriched>]| lines.put(documents))
            .map_err(|e| OpenError(format!("cannot start the writer thread of {}: {e}", path.display())))?;
        Ok(JsonLines { writer })
    }
}

#[async_trait]
impl Sink for JsonLines {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    /// An equal version is already there, line for line, and counts as updated.
    async fn put(&self, document: Arc<Enriched>) -> Result<Written, SinkError> {
        check(&document)?;
        let outcome = self.writer.call(document).await;
        outcome.unwrap_or_else(|_| Err(SinkError::Unavailable("the file of documents is closed".into())))
    }
}

/// Versions written, 16 bytes a document: 10 of a hash of its id (with 100 million documents, the chance that any two
/// share one is 4 in a billion) and 6 of its version in ms.
#[derive(Default)]
struct Seen(HashMap<[u8; 10], [u8; 6]>);

impl Seen {
    fn key(id: &str) -> [u8; 10] {
        let mut key = [0; 10];
        key.copy_from_slice(&Sha256::digest(id)[..10]);
        key
    }

    /// Big-endian, so that they compare like the times they stand for. Six bytes last until the year 10889.
    fn version(fetched_at: i64) -> [u8; 6] {
        let bytes = fetched_at.clamp(0, (1 << 48) - 1).to_be_bytes();
        let mut version = [0; 6];
        version.copy_from_slice(&bytes[2..]);
        version
    }

    fn note(&mut self, id: &str, fetched_at: i64) {
        let version = Self::version(fetched_at);
        let held = self.0.entry(Self::key(id)).or_insert(version);
        *held = version.max(*held);
    }

    /// What a put of this version comes to, and whether it needs a line.
    fn judge(&self, id: &str, fetched_at: i64) -> (Written, bool) {
        match self.0.get(&Self::key(id)).map(|held| Self::version(fetched_at).cmp(held)) {
            None => (Written::Created, true),
            Some(std::cmp::Ordering::Less) => (Written::Stale, false),
            Some(std::cmp::Ordering::Equal) => (Written::Updated, false),
            Some(std::cmp::Ordering::Greater) => (Written::Updated, true),
        }
    }
}

enum Out {
    /// Whole lines up to `length`; anything beyond is left from a write that failed.
    File { file: FileLock, length: u64 },
    /// Cannot be synced, cut or resumed.
    Stream(Box<dyn Write + Send>),
}

struct Lines {
    out: Out,
    path: PathBuf,
    seen: Seen,
}

impl Lines {
    fn open(path: &Path, mode: Mode) -> Result<Lines, OpenError> {
        let fail = |e: std::io::Error| {
            OpenError(format!("cannot open {} for writing: {e}; check the path and its permissions", path.display()))
        };
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(fail)?;
        }
        if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            let stream = OpenOptions::new().write(true).open(path).map_err(fail)?;
            return Ok(Lines { out: Out::Stream(Box::new(stream)), path: path.to_owned(), seen: Seen::default() });
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        let mut file = match FileLock::take(file) {
            Ok(file) => file,
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError(format!(
                    "{} is being written by another process; choose another file or end that process",
                    path.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        };
        let mut seen = Seen::default();
        let length = match mode {
            Mode::Fresh => 0,
            Mode::Resume => read_back(&mut file, path, &mut seen)?,
        };
        file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).and_then(|_| file.sync_all()).map_err(fail)?;
        sync_folder(path).map_err(fail)?;
        Ok(Lines { out: Out::File { file, length }, path: path.to_owned(), seen })
    }

    fn put(&mut self, documents: &[Arc<Enriched>]) -> Vec<Result<Written, SinkError>> {
        let mut lines = vec![];
        let mut outcomes = Vec::with_capacity(documents.len());
        // Versions of this batch, remembered for good only when they are durable.
        let mut batch = HashMap::<&str, i64>::new();
        for d in documents {
            let (written, needed) = match batch.get(d.id.as_str()) {
                Some(earlier) if *earlier > d.fetched_at => (Written::Stale, false),
                Some(earlier) => (Written::Updated, *earlier < d.fetched_at),
                None => self.seen.judge(&d.id, d.fetched_at),
            };
            if needed {
                let start = lines.len();
                if let Err(e) = serde_json::to_writer(&mut lines, &**d) {
                    lines.truncate(start);
                    outcomes.push(Err(SinkError::Rejected(format!("no JSON can be made of {}: {e}", d.url))));
                    continue;
                }
                lines.push(b'\n');
                batch.insert(&d.id, d.fetched_at);
            }
            outcomes.push(Ok(written));
        }
        if lines.is_empty() {
            return outcomes;
        }
        if let Err(e) = self.out.write(&lines) {
            let why = format!("cannot write to {}: {e}", self.path.display());
            error!(error = %why, documents = documents.len(), "batch not written");
            return documents.iter().map(|_| Err(SinkError::Unavailable(why.clone()))).collect();
        }
        for (id, fetched_at) in batch {
            self.seen.note(id, fetched_at);
        }
        outcomes
    }
}

impl Out {
    /// Writes whole lines; returns when they are durable.
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        match self {
            Out::Stream(stream) => stream.write_all(lines).and_then(|()| stream.flush()),
            Out::File { file, length } => {
                let written = Self::append(file, *length, lines);
                match written {
                    Ok(()) => *length += lines.len() as u64,
                    // Half a line must not stay; should this fail too, the next write begins by cutting.
                    Err(_) => drop(file.set_len(*length)),
                }
                written
            }
        }
    }

    fn append(file: &mut File, length: u64, lines: &[u8]) -> std::io::Result<()> {
        if file.seek(SeekFrom::End(0))? != length {
            file.set_len(length)?;
            file.seek(SeekFrom::End(0))?;
        }
        file.write_all(lines)?;
        file.sync_data()
    }
}

/// What is needed of a line.
#[derive(Deserialize)]
struct Version<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    fetched_at: i64,
}

/// Reads the file once; returns the length of its whole lines. A last line without a line feed is cut unless it is
/// whole.
fn read_back(file: &mut File, path: &Path, seen: &mut Seen) -> Result<u64, OpenError> {
    let fail = |e: std::io::Error| OpenError(format!("cannot read {}: {e}", path.display()));
    let mut reader = BufReader::with_capacity(1 << 20, &*file);
    let (mut length, mut number, mut line) = (0u64, 0u64, Vec::new());
    let unended = loop {
        line.clear();
        if reader.by_ref().take(LINE).read_until(b'\n', &mut line).map_err(fail)? == 0 {
            break false;
        }
        number += 1;
        let ended = line.last() == Some(&b'\n');
        let at_end = !ended && (line.len() as u64) < LINE;
        match serde_json::from_slice::<Version<'_>>(&line) {
            Ok(v) if ended || at_end => seen.note(&v.id, v.fetched_at),
            Err(_) if ended && line.trim_ascii().is_empty() => {}
            Err(_) if at_end => {
                info!(file = %path.display(), bytes = line.len(), "cut a last line that was never finished");
                break false;
            }
            _ => {
                return Err(OpenError(format!(
                    "{} was not written by tidemill (line {number} is no document); choose another file, or start afresh if it may be overwritten",
                    path.display()
                )));
            }
        }
        length += line.len() as u64;
        if at_end {
            break true;
        }
    };
    if unended {
        file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(b"\n")).map_err(fail)?;
        length += 1;
    }
    Ok(length)
}

/// A new file's name is durable only when its folder is.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
