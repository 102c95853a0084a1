//! A file read record by record: how far it is whole.

use std::io::{self, BufRead, BufReader, ErrorKind as K, Read};

use flate2::bufread::GzDecoder;

/// A longer header is none of ours.
const LONGEST_HEADER: u64 = 1 << 20;

/// Counts what is taken out of it.
struct Counted<R> {
    inner: R,
    taken: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.taken += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

/// Bytes from the beginning that are whole records.
///
/// # Errors
/// The file cannot be read.
pub fn whole_until(file: impl Read, gzip: bool) -> io::Result<u64> {
    let mut from = Counted { inner: BufReader::with_capacity(1 << 16, file), taken: 0 };
    let mut whole = 0;
    while !from.fill_buf()?.is_empty() {
        let done = if gzip {
            let mut member = BufReader::new(GzDecoder::new(&mut from));
            // At its end is its checksum.
            record(&mut member).and_then(|good| Ok(good && member.fill_buf()?.is_empty()))
        } else {
            record(&mut from)
        };
        match done {
            Ok(true) => whole = from.taken,
            Ok(false) => break,
            Err(e) if matches!(e.kind(), K::UnexpectedEof | K::InvalidInput | K::InvalidData) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(whole)
}

/// Reads one record; whether it is whole.
fn record(from: &mut impl BufRead) -> io::Result<bool> {
    let mut length = None;
    let mut header = from.by_ref().take(LONGEST_HEADER);
    let mut line = vec![];
    loop {
        line.clear();
        if header.read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        let text = String::from_utf8_lossy(&line);
        match text.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse::<u64>().ok()
            }
            None if text.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let Some(length) = length else { return Ok(false) };
    let skipped = io::copy(&mut from.by_ref().take(length), &mut io::sink())?;
    let mut end = [0; 4];
    from.read_exact(&mut end)?;
    Ok(skipped == length && &end == b"\r\n\r\n")
}
