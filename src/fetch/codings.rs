//! Content codings: from the bytes received to the bytes meant (RFC 9110, section 8.4).
//!
//! A few kilobytes can decode to gigabytes, so output is produced in steps and checked against its
//! limits at each: memory never exceeds the limit by more than one step, whatever the input. Decoders
//! whose own memory the sender chooses (the windows of zstd and brotli) are held to what the web uses.

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::Read;

/// Default of `max_ratio`: deflate itself reaches about 1,000, pages about 30.
pub const DEFAULT_MAX_RATIO: u32 = 200;

/// The ratio is not judged below this much output: small repetitive pages compress very well.
const RATIO_FREE_BYTES: usize = 1024 * 1024;

/// Codings of one body. More than one is rare; a long list is an attack.
const MAX_CODINGS: usize = 4;

/// Members of one gzip body. Files written in blocks of 64 KiB stay below for 256 MiB; each member
/// costs a new decoder, however little it holds.
const MAX_MEMBERS: usize = 4_096;

/// Bytes decoded between two looks at the limits.
const STEP: usize = 32 * 1024;

/// Base-2 logarithm of the largest zstd window: 8 MiB (RFC 9659, section 3).
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why a body cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// More output than `max_bytes`.
    #[error("the decoded body has more than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// More output for its size than honest content has.
    #[error("the body decodes to over {ratio} times its size: a decompression bomb")]
    Bomb {
        /// Decoded bytes allowed for each received.
        ratio: u32,
    },
    /// Not what the header says, or damaged on the way.
    #[error("the body is not valid {coding}")]
    Corrupt {
        /// As in Content-Encoding.
        coding: &'static str,
    },
    /// A coding (in lower case) that is unknown, or too many of them.
    #[error("content coding \"{0}\" is not supported")]
    Unsupported(String),
    /// Valid so far: fetching it again may help.
    #[error("the {coding} body stops before its end")]
    Truncated {
        /// As in Content-Encoding.
        coding: &'static str,
    },
}

/// Undoes `content_encoding`, the value of a Content-Encoding header: codings in the order they
/// were applied, so `deflate, gzip` is un-gzipped first. Takes gzip, x-gzip, deflate (with or
/// without its zlib header, as servers send both), br, zstd and identity; an empty value is
/// identity, and an empty body (of a HEAD or 304) decodes to itself.
///
/// `max_bytes` bounds the result and each step towards it. Output of over a mebibyte may have
/// `max_ratio` times the bytes of `body`, see [`DEFAULT_MAX_RATIO`].
///
/// # Errors
/// All of [`CodingError`]; nothing partial is returned.
pub fn decode(body: Bytes, content_encoding: &str, max_bytes: usize, max_ratio: u32) -> Result<Bytes, CodingError> {
    let codings = parse(content_encoding)?;
    let limits = Limits {
        max_bytes,
        max_ratio,
        bomb_bytes: RATIO_FREE_BYTES.max(body.len().saturating_mul(max_ratio as usize)),
    };
    if body.len() > max_bytes {
        return Err(limits.too_large());
    }
    let mut body = body;
    for coding in codings.into_iter().rev() {
        if !body.is_empty() {
            body = coding.decode(&body, &limits)?;
        }
    }
    Ok(body)
}

#[derive(Debug, Clone, Copy)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

fn parse(content_encoding: &str) -> Result<Vec<Coding>, CodingError> {
    let mut codings = Vec::new();
    for name in content_encoding.split(',') {
        let name = name.trim().to_ascii_lowercase();
        codings.push(match name.as_str() {
            "" | "identity" => continue,
            "gzip" | "x-gzip" => Coding::Gzip,
            "deflate" => Coding::Deflate,
            "br" => Coding::Brotli,
            "zstd" => Coding::Zstd,
            _ => return Err(CodingError::Unsupported(name.chars().take(40).collect())),
        });
        if codings.len() > MAX_CODINGS {
            return Err(CodingError::Unsupported(format!("over {MAX_CODINGS} codings")));
        }
    }
    Ok(codings)
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn decode(self, body: &[u8], limits: &Limits) -> Result<Bytes, CodingError> {
        let mut out = Output::new(body.len(), limits);
        match self {
            Self::Gzip => gzip(body, &mut out)?,
            Self::Deflate => deflate(body, &mut out)?,
            Self::Brotli => brotli(body, &mut out)?,
            Self::Zstd => zstd(body, &mut out)?,
        }
        Ok(out.finish())
    }

    fn corrupt(self) -> CodingError {
        CodingError::Corrupt { coding: self.name() }
    }

    fn truncated(self) -> CodingError {
        CodingError::Truncated { coding: self.name() }
    }
}

struct Limits {
    max_bytes: usize,
    max_ratio: u32,
    bomb_bytes: usize,
}

impl Limits {
    fn too_large(&self) -> CodingError {
        CodingError::TooLarge { limit: self.max_bytes }
    }
}

/// Decoded bytes so far, and the space for the next step.
struct Output<'a> {
    bytes: Vec<u8>,
    limits: &'a Limits,
    /// Reused between steps.
    step: Box<[u8]>,
}

impl<'a> Output<'a> {
    fn new(body_len: usize, limits: &'a Limits) -> Self {
        // Pages shrink to about a quarter. A guess for a large body is kept small: it may be a lie.
        let guess = body_len.saturating_mul(4).min(4 * 1024 * 1024);
        Self { bytes: Vec::with_capacity(guess.min(limits.max_bytes)), limits, step: vec![0; STEP].into_boxed_slice() }
    }

    /// Takes the first `len` bytes of `step`.
    fn push(&mut self, len: usize) -> Result<(), CodingError> {
        let total = self.bytes.len() + len;
        if total > self.limits.max_bytes {
            return Err(self.limits.too_large());
        }
        if total > self.limits.bomb_bytes {
            return Err(CodingError::Bomb { ratio: self.limits.max_ratio });
        }
        self.bytes.extend_from_slice(&self.step[..len]);
        Ok(())
    }

    /// The result, without much unused space: it may live long in memory.
    fn finish(mut self) -> Bytes {
        if self.bytes.capacity() > self.bytes.len() * 2 + STEP {
            self.bytes.shrink_to_fit();
        }
        Bytes::from(self.bytes)
    }
}

/// All members (RFC 1952, section 2.2). Bytes after the last that begin no further member, which
/// some servers pad with, are ignored.
fn gzip(mut body: &[u8], out: &mut Output) -> Result<(), CodingError> {
    for _ in 0..MAX_MEMBERS {
        body = inflate(Decompress::new_gzip(15), body, Coding::Gzip, out)?;
        if !body.starts_with(&[0x1f, 0x8b]) {
            return Ok(());
        }
    }
    Err(CodingError::Bomb { ratio: out.limits.max_ratio })
}

/// The header says zlib (RFC 1950) or, where servers took the coding's name at its word, there is
/// none. Raw data that looks like a header by chance fails as zlib before it yields a byte.
fn deflate(body: &[u8], out: &mut Output) -> Result<(), CodingError> {
    let looks_zlib = matches!(body, [cmf, flags, ..]
        if cmf & 0x0f == 8 && cmf >> 4 <= 7 && u16::from_be_bytes([*cmf, *flags]) % 31 == 0);
    if looks_zlib {
        match inflate(Decompress::new(true), body, Coding::Deflate, out) {
            Err(CodingError::Corrupt { .. }) if out.bytes.is_empty() => {}
            result => return result.map(drop),
        }
    }
    inflate(Decompress::new(false), body, Coding::Deflate, out).map(drop)
}

/// Decodes one stream and returns what follows it.
fn inflate<'b>(
    mut decoder: Decompress,
    mut body: &'b [u8],
    coding: Coding,
    out: &mut Output,
) -> Result<&'b [u8], CodingError> {
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(body, &mut out.step, FlushDecompress::None).map_err(|_| coding.corrupt())?;
        // Neither exceeds the slice it counts.
        let read = (decoder.total_in() - read) as usize;
        let written = (decoder.total_out() - written) as usize;
        body = &body[read..];
        out.push(written)?;
        if status == Status::StreamEnd {
            return Ok(body);
        }
        if read == 0 && written == 0 {
            return Err(if body.is_empty() { coding.truncated() } else { coding.corrupt() });
        }
    }
}

fn brotli(body: &[u8], out: &mut Output) -> Result<(), CodingError> {
    // Strict: no "large window", an extension that is no content coding and lets the sender ask
    // for a gigabyte.
    let mut state = BrotliState::new_strict(
        HeapAlloc::<u8>::new(0),
        HeapAlloc::<u32>::new(0),
        HeapAlloc::<HuffmanCode>::new(HuffmanCode::default()),
    );
    let (mut available_in, mut read, mut total) = (body.len(), 0, 0);
    loop {
        let (mut available_out, mut written) = (STEP, 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut read,
            body,
            &mut available_out,
            &mut written,
            &mut out.step,
            &mut total,
            &mut state,
        );
        out.push(written)?;
        match result {
            BrotliResult::ResultSuccess => return Ok(()),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Err(Coding::Brotli.truncated()),
            BrotliResult::ResultFailure => return Err(Coding::Brotli.corrupt()),
        }
    }
}

/// All frames (RFC 8878, section 3.1).
fn zstd(body: &[u8], out: &mut Output) -> Result<(), CodingError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Coding::Zstd.truncated(),
        _ => Coding::Zstd.corrupt(),
    };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(failed)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
    loop {
        match decoder.read(&mut out.step).map_err(failed)? {
            0 => return Ok(()),
            len => out.push(len)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    const LIMIT: usize = 16 * 1024 * 1024;

    fn encode(coding: &str, data: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        macro_rules! flate {
            ($encoder:ident) => {{
                let mut encoder = $encoder::new(Vec::new(), level);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }};
        }
        match coding {
            "gzip" => flate!(GzEncoder),
            "deflate" => flate!(ZlibEncoder),
            "raw" => flate!(DeflateEncoder),
            "br" => {
                let mut out = Vec::new();
                let params = brotli::enc::BrotliEncoderParams { quality: 3, ..Default::default() };
                brotli::BrotliCompress(&mut &data[..], &mut out, &params).unwrap();
                out
            }
            "zstd" => zstd::encode_all(data, 3).unwrap(),
            _ => data.to_vec(),
        }
    }

    fn run(body: &[u8], coding: &str) -> Result<Vec<u8>, CodingError> {
        let body = Bytes::copy_from_slice(body);
        decode(body, coding, LIMIT, DEFAULT_MAX_RATIO).map(|bytes| bytes.to_vec())
    }

    fn text() -> Vec<u8> {
        (0..20_000).flat_map(|i: u32| format!("line {i}\n").into_bytes()).collect()
    }

    #[test]
    fn every_coding_comes_back() {
        let text = text();
        for (encoded, named) in [
            ("gzip", "gzip"),
            ("gzip", "X-GZIP"),
            ("deflate", "deflate"),
            ("raw", "deflate"),
            ("br", "br"),
            ("zstd", " ZSTD "),
            ("identity", "identity"),
            ("identity", ""),
        ] {
            assert_eq!(run(&encode(encoded, &text), named), Ok(text.clone()), "{encoded}");
            assert_eq!(run(b"", named), Ok(vec![]), "{named}");
        }
    }

    #[test]
    fn stacked_codings_are_undone_from_the_last() {
        let twice = encode("br", &encode("gzip", b"hello"));
        assert_eq!(run(&twice, "gzip, br"), Ok(b"hello".to_vec()));
        assert!(run(&twice, "br, gzip").is_err());
    }

    #[test]
    fn members_and_frames_are_joined_and_padding_ignored() {
        let mut members = encode("gzip", b"one ");
        members.extend(encode("gzip", b"two"));
        assert_eq!(run(&members, "gzip"), Ok(b"one two".to_vec()));
        members.extend(b"\0\0padding");
        assert_eq!(run(&members, "gzip"), Ok(b"one two".to_vec()));
        let mut frames = encode("zstd", b"one ");
        frames.extend(encode("zstd", b"two"));
        assert_eq!(run(&frames, "zstd"), Ok(b"one two".to_vec()));
    }

    #[test]
    fn truncated_and_corrupt_are_told_apart() {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let whole = encode(coding, &text());
            for cut in [whole.len() / 2, whole.len() - 1, 1] {
                let result = run(&whole[..cut], coding);
                assert!(
                    matches!(result, Err(CodingError::Truncated { .. })),
                    "{coding} cut at {cut}: {:?}",
                    result.err()
                );
            }
            let result = run(b"<html>this is plain text</html>", coding);
            assert!(result.is_err(), "{coding}: {result:?}");
        }
        let mut gzip = encode("gzip", b"hello");
        let crc = gzip.len() - 8;
        gzip[crc] ^= 1;
        assert_eq!(run(&gzip, "gzip"), Err(CodingError::Corrupt { coding: "gzip" }));
        assert_eq!(run(b"plain", "gzip"), Err(CodingError::Corrupt { coding: "gzip" }));
    }

    #[test]
    fn unsupported_codings() {
        for coding in ["compress", "dcb", "gzip, what", "gzip,gzip,gzip,gzip,gzip"] {
            let result = run(b"x", coding);
            assert!(matches!(result, Err(CodingError::Unsupported(_))), "{coding}: {result:?}");
        }
    }

    #[test]
    fn limits_hold_while_decoding() {
        let zeros = vec![0; 8 * 1024 * 1024];
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let bomb = Bytes::from(encode(coding, &zeros));
            let result = decode(bomb.clone(), coding, LIMIT, 200);
            assert_eq!(result, Err(CodingError::Bomb { ratio: 200 }), "{coding}");
            let result = decode(bomb.clone(), coding, 1000, 200);
            assert!(bomb.len() > 1000 || result == Err(CodingError::TooLarge { limit: 1000 }), "{coding}");
            let whole = decode(bomb, coding, LIMIT, u32::MAX).unwrap();
            assert_eq!(whole.len(), zeros.len());
        }
        assert_eq!(decode(Bytes::from_static(b"12345"), "", 4, 200), Err(CodingError::TooLarge { limit: 4 }));
        let small = encode("gzip", &vec![0; 1024 * 1024]);
        assert!(small.len() < 1024 * 1024 / 200 && run(&small, "gzip").is_ok());
    }

    #[test]
    fn a_bomb_in_a_bomb_is_measured_by_what_was_received() {
        let inner = encode("gzip", &vec![0; 32 * 1024 * 1024]);
        let result = run(&encode("br", &inner), "gzip, br");
        assert_eq!(result, Err(CodingError::Bomb { ratio: 200 }));
    }

    #[test]
    fn endless_empty_members_end() {
        let empty = encode("gzip", b"");
        let body = empty.repeat(MAX_MEMBERS + 1);
        assert_eq!(run(&body, "gzip"), Err(CodingError::Bomb { ratio: 200 }));
    }

    #[test]
    fn windows_are_bounded() {
        // A frame header that asks for a window of 128 MiB, then one raw block.
        let mut huge = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (27 - 10) << 3];
        huge.extend([0x29, 0, 0, b'h', b'e', b'l', b'l', b'o']);
        assert_eq!(run(&huge, "zstd"), Err(CodingError::Corrupt { coding: "zstd" }));
        huge[5] = (23 - 10) << 3;
        assert_eq!(run(&huge, "zstd"), Ok(b"hello".to_vec()));
        // Brotli's large-window marker.
        assert_eq!(run(&[0x11, 0x1e, 0, 0, 0], "br"), Err(CodingError::Corrupt { coding: "br" }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200), coding in "(gzip|deflate|br|zstd)(, ?(gzip|br))?") {
            let _ = run(&body, &coding);
        }

        #[test]
        fn damaged_bodies_are_an_answer(coding in "gzip|deflate|raw|br|zstd", at in 0usize..10_000, xor in 1u8..) {
            let mut body = encode(&coding, &text()[..5_000]);
            let at = at % body.len();
            body[at] ^= xor;
            let _ = run(&body, if coding == "raw" { "deflate" } else { &coding });
        }

        #[test]
        fn round_trip(coding in "gzip|deflate|br|zstd", data in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            prop_assert_eq!(run(&encode(&coding, &data), &coding), Ok(data));
        }
    }
}
