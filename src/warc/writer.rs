//! Records into files, from many tasks at once: what waits is written together and synced once.

use std::path::Path;

use super::block::Format;
use super::files::Files;
use super::member::Member;
use super::record::{Exchange, Kind, Written};
use super::{Result, WarcError};
use crate::batch::{Batcher, Limits, Weigh, on_thread};
use crate::config;
use crate::upstream::calls::{Calls, Verdict};

/// A batch: records that are synced together.
const BATCH: Limits = Limits { items: 256, bytes: 8 << 20 };

/// The records of one exchange; they are written one behind the other.
struct Records(Vec<Member>);

impl Weigh for Records {
    fn weight(&self) -> usize {
        self.0.iter().map(|m| m.front.len() + m.back.len()).sum()
    }
}

impl Verdict for WarcError {
    fn is_unavailable(&self) -> bool {
        true
    }

    fn refused(why: String) -> WarcError {
        WarcError(why)
    }
}

/// Writes WARC files; the last is ended when this is dropped.
pub struct Writer {
    format: Format,
    records: Batcher<Records, Result<()>>,
    calls: Calls,
}

impl Writer {
    /// Into a folder, which is made. `about`: what each file says of the crawl, by the names of the standard's fields.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn open(config: &config::Warc, folder: &Path, about: Vec<(String, String)>) -> Result<Writer> {
        let format = Format { gzip: config.gzip, digest: config.digest, dir: folder.into() };
        let tried = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
        tried.map_err(|e| format.failed(&e))?;
        let mut files = Files::new(config, &format, about);
        let mut mended = false;
        let write = move |records: &[Records]| {
            if !std::mem::replace(&mut mended, true)
                && let Err(e) = files.mend()
            {
                tracing::warn!(error = %e, "WARC files that were left open could not be looked for");
            }
            vec![files.write(records.iter().map(|r| &r.0[..])); records.len()]
        };
        let records = on_thread("warc", BATCH, write).map_err(|e| format.failed(&e))?;
        Ok(Writer { format, records, calls: Calls::embedded("warc") })
    }

    /// How a block is to be made.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Writes an answer and its request. They are on the disk when it returns.
    pub async fn write(&self, exchange: Exchange, kind: Kind) -> Result<Written> {
        let format = self.format.clone();
        let stopped = || WarcError("the writer of WARC files has stopped; see the log, and start again".into());
        self.calls
            .call("write", async {
                let packed = tokio::task::spawn_blocking(move || exchange.members(&kind, &format)).await;
                let (members, written) = packed.map_err(|_| stopped())??;
                self.records.call(Records(members)).await.map_err(|_| stopped())??;
                Ok(written)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warc::block::Block;
    use crate::warc::scan;
    use flate2::read::MultiGzDecoder;
    use http::Version;
    use std::fs::{self, File};
    use std::io::Read;
    use std::path::PathBuf;
    use url::Url;

    fn writer(dir: &Path, max_bytes: u64, gzip: bool) -> Writer {
        let max_bytes = bytesize::ByteSize(max_bytes);
        let config = config::Warc { max_bytes, gzip, ..config::Warc::default() };
        Writer::open(&config, dir, vec![("robots".into(), "obey".into())]).unwrap()
    }

    async fn write(writer: &Writer, body: &[u8], kind: Kind) -> Result<Written> {
        let mut answer = Block::new(writer.format(), b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
        body.chunks(30_000).for_each(|some| answer.write(some).unwrap());
        let exchange = Exchange {
            url: Url::parse("http://a.example/").unwrap(),
            at: 0,
            ip: None,
            version: Version::HTTP_11,
            request: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            answer,
            truncated: None,
        };
        writer.write(exchange, kind).await
    }

    fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
        let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        found.retain(|p| p.to_str().unwrap().ends_with(ending));
        found.sort();
        found
    }

    fn text(file: &Path) -> String {
        let mut all = vec![];
        MultiGzDecoder::new(File::open(file).unwrap()).read_to_end(&mut all).unwrap();
        String::from_utf8_lossy(&all).into_owned()
    }

    #[tokio::test]
    async fn files_are_ended_when_they_are_full_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (writer(dir.path(), 1_500, true), writer(dir.path(), 1_500, true));
        for i in 0..5 {
            for writer in [&one, &two] {
                write(writer, format!("body {i}").as_bytes(), Kind::Response).await.unwrap();
            }
        }
        assert_eq!(files(dir.path(), ".open").len(), 2, "each has one of its own");
        drop((one, two));
        assert_eq!(files(dir.path(), ".open").len(), 0);
        let all = files(dir.path(), ".warc.gz");
        assert!(all.len() > 2, "{all:?}");
        let texts: String = all.iter().map(|f| text(f)).collect();
        assert_eq!(texts.matches("WARC-Type: response").count(), 10);
        assert_eq!(texts.matches("WARC-Type: warcinfo").count(), all.len());
        assert!(texts.contains("robots: obey\r\n"));
    }

    /// A process that died has left a file that is torn anywhere.
    #[tokio::test]
    async fn a_file_that_was_left_is_cut_behind_its_last_whole_record() {
        for gzip in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let first = writer(dir.path(), 1 << 30, gzip);
            write(&first, &vec![7; 600_000], Kind::Response).await.unwrap();
            let open = files(dir.path(), ".open").remove(0);
            let whole = fs::read(&open).unwrap();
            assert_eq!(scan::whole_until(&whole[..], gzip).unwrap(), whole.len() as u64);
            write(&first, b"more", Kind::Response).await.unwrap();
            drop(first);
            let done = files(dir.path(), if gzip { ".warc.gz" } else { ".warc" }).remove(0);
            let all = fs::read(&done).unwrap();
            // Behind the first exchange come two records; from the second on, cuts within it leave the first.
            let response =
                (whole.len() + 1..all.len()).find(|n| scan::whole_until(&all[..*n], gzip).unwrap() == *n as u64);
            let response = response.unwrap();
            for torn in [whole.len() + 1, response - 1, response, response + 1, all.len() - 1] {
                fs::remove_dir_all(dir.path()).unwrap();
                fs::create_dir(dir.path()).unwrap();
                fs::write(&open, &all[..torn]).unwrap();
                let next = writer(dir.path(), 1 << 30, gzip);
                assert!(open.exists(), "nothing is done before there is something to write");
                write(&next, b"next", Kind::Response).await.unwrap();
                assert!(!open.exists());
                let expect = if torn < response { whole.len() } else { response };
                assert_eq!(fs::read(&done).unwrap(), &all[..expect], "cut at {torn}, {gzip}");
            }
        }
    }

    #[tokio::test]
    async fn what_another_process_writes_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = writer(dir.path(), 1 << 30, true);
        write(&first, b"one", Kind::Response).await.unwrap();
        let open = files(dir.path(), ".open");
        let second = writer(dir.path(), 1 << 30, true);
        write(&second, b"two", Kind::Response).await.unwrap();
        assert!(open[0].exists());
        write(&first, b"three", Kind::Response).await.unwrap();
        drop((first, second));
        let texts: String = files(dir.path(), ".warc.gz").iter().map(|f| text(f)).collect();
        assert!(["one", "two", "three"].iter().all(|b| texts.contains(&format!("\r\n\r\n{b}\r\n\r\n"))), "{texts}");
    }

    #[tokio::test]
    async fn a_revisit_has_the_head_and_names_what_it_stands_for() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(dir.path(), 1 << 30, true);
        let first = write(&writer, b"same body", Kind::Response).await.unwrap();
        let again = write(&writer, b"same body", Kind::SamePayload(first.clone().into())).await.unwrap();
        write(&writer, b"", Kind::NotModified(first.clone().into())).await.unwrap();
        assert_eq!(first.payload, again.payload);
        drop(writer);
        let text = text(&files(dir.path(), ".warc.gz")[0]);
        assert_eq!((text.matches("same body").count(), text.matches("WARC-Type: revisit").count()), (1, 2));
        assert_eq!(text.matches(&format!("WARC-Refers-To: <{}>", first.id)).count(), 2);
        assert_eq!(text.matches("WARC-Refers-To-Date: 1970-01-01T00:00:00Z").count(), 2);
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_fails_the_write_and_a_new_one_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("w");
        let writer = writer(&folder, 1, true);
        write(&writer, b"one", Kind::Response).await.unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let e = write(&writer, b"two", Kind::Response).await.unwrap_err();
        assert!(e.0.contains(folder.to_str().unwrap()), "{e}");
        fs::create_dir(&folder).unwrap();
        write(&writer, b"three", Kind::Response).await.unwrap();
        drop(writer);
        assert_eq!(files(&folder, ".warc.gz").len(), 1);
        assert!(Writer::open(&config::Warc::default(), Path::new("/proc/nowhere"), vec![]).is_err());
    }
}
