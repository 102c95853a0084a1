//! The files of one process: `<prefix>-<begun>-<number>-<host>-<pid>.warc.gz`, with `.open` behind it while it is written.
//!
//! Who writes a file holds a lock on it, which the kernel frees when the process dies. What then is left with `.open` and
//! without a lock is cut behind its last whole record and gets its name when the next process begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::block::Format;
use super::member::Member;
use super::{WarcError, record, scan};
use crate::config;
use crate::file_lock::FileLock;
use crate::record::now_ms;

const OPEN: &str = "open";

/// The file that is written, and where the next will be.
pub struct Files {
    config: config::Warc,
    format: Format,
    /// What each file says of the crawl, name and value.
    about: Vec<(String, String)>,
    host: String,
    number: u32,
    current: Option<Current>,
}

struct Current {
    file: FileLock,
    /// With `.open`.
    path: PathBuf,
    length: u64,
}

impl Files {
    /// In a folder that is there; nothing is written yet.
    pub fn new(config: &config::Warc, format: &Format, about: Vec<(String, String)>) -> Files {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
        let host = if host.is_empty() { "localhost".into() } else { host };
        Files { config: config.clone(), format: format.clone(), about, host, number: 0, current: None }
    }

    /// Writes groups of records, each group into one file, and makes them durable. On an error those are not there that a
    /// file was not ended behind.
    pub fn write<'a>(&mut self, groups: impl Iterator<Item = &'a [Member]>) -> Result<(), WarcError> {
        let done = self.append(groups);
        if let Err(e) = &done {
            self.give_up(e);
        }
        done.map_err(|e| self.format.failed(&e))
    }

    fn append<'a>(&mut self, groups: impl Iterator<Item = &'a [Member]>) -> io::Result<()> {
        let mut written = 0;
        for members in groups {
            let is_full = |c: &Current| c.length + written >= self.config.max_bytes.as_u64();
            if self.current.as_ref().is_some_and(is_full) {
                self.close()?;
                written = 0;
            }
            let current = match &mut self.current {
                Some(current) => current,
                None => {
                    let begun = self.begin()?;
                    self.current.insert(begun)
                }
            };
            for member in members {
                written += copy(member, &current.file)?;
            }
        }
        if let Some(current) = &mut self.current {
            current.file.sync_data()?;
            current.length += written;
        }
        Ok(())
    }

    /// After an error: what was half written goes, or the file is left to be mended as after a crash.
    fn give_up(&mut self, why: &io::Error) {
        let Some(mut current) = self.current.take() else { return };
        let cut = current.file.set_len(current.length).and_then(|()| current.file.seek(SeekFrom::End(0)));
        match cut {
            Ok(_) => self.current = Some(current),
            Err(e) => tracing::warn!(file = %current.path.display(), %why, error = %e, "a WARC file was left as it is"),
        }
    }

    /// Ends the file that is written, if there is one.
    pub fn close(&mut self) -> io::Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        current.file.sync_all()?;
        fs::rename(&current.path, current.path.with_extension(""))?;
        sync(&self.format.dir)
    }

    /// A file of its own, locked, that begins with its warcinfo.
    fn begin(&mut self) -> io::Result<Current> {
        loop {
            let name = self.next_name();
            let path = self.format.dir.join(format!("{name}.{OPEN}"));
            let file = match OpenOptions::new().create_new(true).read(true).write(true).open(&path) {
                Ok(file) => file,
                // Of a process of this number on a host of this name, in this millisecond.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            };
            let file = FileLock::wait(file)?;
            // Somebody who mends files may have found it before it was locked, and taken it for one that was left.
            if !path.exists() {
                continue;
            }
            let info = record::warcinfo(&self.config, &self.format, &self.about, &name);
            let length = copy(&info.map_err(io::Error::other)?, &file)?;
            sync(&self.format.dir)?;
            return Ok(Current { file, path, length });
        }
    }

    fn next_name(&mut self) -> String {
        self.number += 1;
        let begun: String = crate::record::time(now_ms()).chars().filter(char::is_ascii_digit).collect();
        let (prefix, host, pid) = (&self.config.prefix, &self.host, std::process::id());
        let suffix = if self.config.gzip { "warc.gz" } else { "warc" };
        format!("{prefix}-{begun}-{:05}-{host}-{pid}.{suffix}", self.number)
    }

    /// Gives the files their names that processes have left which died.
    pub fn mend(&self) -> io::Result<()> {
        for left in fs::read_dir(&self.format.dir)? {
            let path = left?.path();
            let ours = |p: &Path| {
                let name = p.file_name()?.to_str()?.strip_suffix(&format!(".{OPEN}"))?;
                Some(name.ends_with(".warc") || name.ends_with(".warc.gz"))
            };
            if ours(&path) == Some(true)
                && let Err(e) = self.mend_one(&path)
            {
                tracing::warn!(file = %path.display(), error = %e, "a WARC file that was left open could not be mended");
            }
        }
        Ok(())
    }

    fn mend_one(&self, path: &Path) -> io::Result<()> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        // If not, it is being written, or was ended a moment ago.
        let Some(file) = FileLock::take(file).ok().filter(|_| path.exists()) else { return Ok(()) };
        let named = path.with_extension("");
        let whole = scan::whole_until(&*file, named.extension().is_some_and(|e| e == "gz"))?;
        let torn = file.metadata()?.len() - whole;
        if whole == 0 {
            return fs::remove_file(path);
        }
        if torn > 0 {
            file.set_len(whole)?;
        }
        file.sync_all()?;
        fs::rename(path, &named)?;
        tracing::info!(file = %named.display(), torn, "a WARC file that a process had left was ended");
        sync(&self.format.dir)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            tracing::warn!(error = %e, "a WARC file could not be ended; the next process does it");
        }
    }
}

/// Bytes written.
fn copy(member: &Member, mut to: &File) -> io::Result<u64> {
    to.write_all(&member.front)?;
    let mut length = (member.front.len() + member.back.len()) as u64;
    if let Some(mut from) = member.file.as_ref() {
        from.rewind()?;
        length += io::copy(&mut from, &mut to)?;
    }
    to.write_all(&member.back)?;
    Ok(length)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
