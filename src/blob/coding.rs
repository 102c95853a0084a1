//! How blobs are compressed: zstd or gzip, both read by everyday tools.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::config::Compression;

/// A body is written once and read about once; a higher level costs more than it saves.
const LEVEL: i32 = 1;
/// Base-2 logarithm of what the encoder looks back on: many bodies come in at once, and each has an encoder.
const WINDOW_LOG: u32 = 17;
/// Memory reserved on the word of a frame's header; a larger blob grows as it is read.
const RESERVE: u64 = 16 << 20;

/// The codings a blob may have, the one that is written first.
pub fn order(written: Compression) -> [Compression; 2] {
    match written {
        Compression::Zstd => [Compression::Zstd, Compression::Gzip],
        Compression::Gzip => [Compression::Gzip, Compression::Zstd],
    }
}

/// What a name ends with.
pub fn suffix(coding: Compression) -> &'static str {
    match coding {
        Compression::Zstd => "zst",
        Compression::Gzip => "gz",
    }
}

/// Compresses what is written to it.
pub enum Encoder<W: Write> {
    Zstd(zstd::stream::Encoder<'static, W>),
    Gzip(GzEncoder<W>),
}

impl<W: Write> Encoder<W> {
    /// Into a writer.
    pub fn new(coding: Compression, into: W) -> io::Result<Encoder<W>> {
        Ok(match coding {
            Compression::Zstd => {
                let mut encoder = zstd::stream::Encoder::new(into, LEVEL)?;
                encoder.window_log(WINDOW_LOG)?;
                Encoder::Zstd(encoder)
            }
            Compression::Gzip => Encoder::Gzip(GzEncoder::new(into, flate2::Compression::fast())),
        })
    }

    /// Ends it and gives the writer back.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Zstd(encoder) => encoder.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => encoder.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
        }
    }
}

/// Reads a blob back, piece by piece.
pub fn reader(coding: Compression, from: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    Ok(match coding {
        Compression::Zstd => Box::new(zstd::stream::Decoder::new(from)?),
        Compression::Gzip => Box::new(MultiGzDecoder::new(io::BufReader::new(from))),
    })
}

/// Reads a blob back, with what it may cost bounded: its first bytes, at most so many, and whether that is all.
pub fn decompress(coding: Compression, mut from: impl Read, limit: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = vec![];
    let most = (limit as u64).saturating_add(1);
    match coding {
        Compression::Zstd => {
            let mut header = vec![];
            // 18 bytes: the longest header of a frame (RFC 8878, 3.1.1).
            (&mut from).take(18).read_to_end(&mut header)?;
            let announced = zstd::zstd_safe::get_frame_content_size(&header).ok().flatten().unwrap_or(0);
            bytes.reserve(announced.min(RESERVE).min(most) as usize);
            let decoder = zstd::stream::Decoder::new(header.as_slice().chain(from))?;
            decoder.take(most).read_to_end(&mut bytes)?;
        }
        Compression::Gzip => {
            MultiGzDecoder::new(from).take(most).read_to_end(&mut bytes)?;
        }
    }
    let all = bytes.len() <= limit;
    bytes.truncate(limit);
    Ok((bytes, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            for coding in order(Compression::Zstd) {
                let mut encoder = Encoder::new(coding, vec![]).unwrap();
                encoder.write_all(&bytes).unwrap();
                let compressed = encoder.finish().unwrap();
                prop_assert_eq!(decompress(coding, &compressed[..], 5_000).unwrap(), (bytes.clone(), true));
                if let Some(less) = bytes.len().checked_sub(1) {
                    prop_assert_eq!(decompress(coding, &compressed[..], less).unwrap(), (bytes[..less].to_vec(), false));
                    prop_assert!(decompress(coding, &compressed[..compressed.len() - 1], 5_000).is_err());
                }
            }
        }
    }
}
