//! Lines of a file or of stdin, read in a thread of their own and handed over in batches: as many as are there already,
//! so that a producer that writes a line now and then does not wait for the next.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use tokio::sync::mpsc;

/// Longest line: a record of the largest topic as `tail --json` prints it, with room to spare.
const MAX_LINE: usize = 64 << 20;
/// Lines and bytes after which a batch is handed over.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// A line and what it counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: u64,
    /// Without its end (LF or CRLF) and without the mark that some editors put before the first; None: it is too long
    /// to be read.
    pub text: Option<Vec<u8>>,
    /// Bytes it took of the input.
    pub took: u64,
}

/// A source of lines.
pub struct Input {
    /// Its size in bytes, if it is a file.
    pub size: Option<u64>,
    batches: mpsc::Receiver<io::Result<Vec<Line>>>,
}

impl Input {
    /// Opens a file; None or `-` is stdin.
    pub fn open(file: Option<&Path>) -> Result<Input> {
        let (size, from): (_, Box<dyn Read + Send>) = match file.filter(|f| *f != Path::new("-")) {
            None => (None, Box::new(io::stdin())),
            Some(path) => {
                let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
                let known = file.metadata().ok().filter(std::fs::Metadata::is_file);
                (known.map(|m| m.len()), Box::new(file))
            }
        };
        let (to, batches) = mpsc::channel(2);
        std::thread::Builder::new()
            .name("lines".into())
            .spawn(move || hand_over(BufReader::with_capacity(1 << 18, from), &to))?;
        Ok(Input { size, batches })
    }

    /// The next lines; None at the end.
    pub async fn next(&mut self) -> io::Result<Option<Vec<Line>>> {
        self.batches.recv().await.transpose()
    }
}

fn hand_over(mut from: BufReader<Box<dyn Read + Send>>, to: &mpsc::Sender<io::Result<Vec<Line>>>) {
    let (mut number, mut batch, mut bytes) = (0, vec![], 0);
    loop {
        number += 1;
        let read = line(&mut from, number);
        let more = match read {
            Ok(Some(line)) => {
                bytes += line.text.as_ref().map_or(0, Vec::len);
                batch.push(line);
                from.buffer().contains(&b'\n') && batch.len() < BATCH && bytes < BATCH_BYTES
            }
            Ok(None) => {
                // Nobody listens any more: nothing is lost.
                let _gone = if batch.is_empty() { Ok(()) } else { to.blocking_send(Ok(batch)) };
                return;
            }
            Err(e) => {
                let _gone = to.blocking_send(Ok(std::mem::take(&mut batch))).and_then(|()| to.blocking_send(Err(e)));
                return;
            }
        };
        if !more {
            bytes = 0;
            if to.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
                return;
            }
        }
    }
}

/// The next line; None at the end. One that is too long is passed over without being held.
fn line(from: &mut impl BufRead, number: u64) -> io::Result<Option<Line>> {
    let mut text = vec![];
    let mut took = from.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut text)? as u64;
    if took == 0 {
        return Ok(None);
    }
    if text.len() > MAX_LINE && !text.ends_with(b"\n") {
        took += skip_line(from)?;
        return Ok(Some(Line { number, text: None, took }));
    }
    if text.ends_with(b"\n") {
        text.pop();
        if text.ends_with(b"\r") {
            text.pop();
        }
    }
    if number == 1 && text.starts_with("\u{feff}".as_bytes()) {
        text.drain(..3);
    }
    Ok(Some(Line { number, text: Some(text), took }))
}

fn skip_line(from: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let there = from.fill_buf()?;
        let end = there.iter().position(|b| *b == b'\n');
        let (n, done) = (end.map_or(there.len(), |i| i + 1), end.is_some() || there.is_empty());
        from.consume(n);
        skipped += n as u64;
        if done {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut text: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut lines = vec![];
        while let Some(l) = line(&mut text, 1).unwrap() {
            lines.push(l.text);
        }
        lines
    }

    #[test]
    fn lines_end_in_either_way_and_one_too_long_is_passed_over() {
        let some = |s: &str| Some(s.as_bytes().to_vec());
        assert_eq!(all(b"\xef\xbb\xbfa\r\n\nb\rc\nlast"), [some("a"), some(""), some("b\rc"), some("last")]);
        assert_eq!(all(b""), [] as [Option<Vec<u8>>; 0]);
        let mut long = vec![b'x'; MAX_LINE + 5];
        long.extend_from_slice(b"\nafter");
        assert_eq!(all(&long), [None, some("after")]);
        let mut longest = vec![b'x'; MAX_LINE];
        longest.push(b'\n');
        assert_eq!(all(&longest)[0].as_ref().unwrap().len(), MAX_LINE);
    }
}
