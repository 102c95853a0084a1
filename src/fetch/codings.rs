//! Content codings: from the bytes received to the bytes meant (RFC 9110, section 8.4), piece by piece.
//!
//! A few kilobytes can decode to gigabytes, so output is produced in steps, checked against its limits at each, and handed
//! on: nothing is held but a step and the decoders' windows. Decoders whose own memory the sender chooses (the windows of
//! zstd and brotli) are held to what the web uses.

use std::mem;

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, InBuffer, Operation, OutBuffer};

/// The ratio is not judged below this much output: small repetitive pages compress very well.
const RATIO_FREE_BYTES: usize = 1024 * 1024;

/// Codings of one body. More than one is rare; a long list is an attack.
const MAX_CODINGS: usize = 4;

/// Members of one gzip body. Files written in blocks of 64 KiB stay below for 256 MiB; each member
/// costs a new decoder, however little it holds.
const MAX_MEMBERS: usize = 4_096;

/// Bytes decoded between two looks at the limits.
const STEP: usize = 32 * 1024;

/// Input of a deflate body that is kept until its first output says which kind it is.
const KEPT: usize = 64 * 1024;

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

/// Undoes the codings of one body, as its bytes come.
pub struct Decoder {
    /// In the order they are undone; empty for identity.
    chain: Vec<Link>,
    meter: Meter,
}

/// What the output is held to.
struct Meter {
    max_bytes: usize,
    max_ratio: u32,
    received: usize,
}

/// One coding.
struct Link {
    coding: Coding,
    state: State,
    /// Bytes put in, and made.
    fed: usize,
    made: usize,
    /// Reused between steps.
    step: Box<[u8]>,
}

enum State {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Box<BrotliState<HeapAlloc<u8>, HeapAlloc<u32>, HeapAlloc<HuffmanCode>>>),
    /// And whether a frame has begun that has not ended.
    Zstd(Box<zstd::stream::raw::Decoder<'static>>, bool),
    /// The coding's own end was seen; what follows is ignored.
    Ended,
}

/// Members one after the other (RFC 1952, section 2.2). Bytes after the last that begin no further member, which some
/// servers pad with, are ignored.
struct Gzip {
    /// None between members.
    member: Option<Decompress>,
    members: usize,
    /// The first byte after a member, if the second has not come yet.
    first: Option<u8>,
}

/// The header says zlib (RFC 1950) or, where servers took the coding's name at its word, there is none. Raw data that
/// looks like a header by chance fails as zlib before it yields a byte.
struct Deflate {
    /// None until two bytes are there.
    decoder: Option<Decompress>,
    /// Everything so far, while it may have to be read again as raw data.
    kept: Option<Vec<u8>>,
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

    fn corrupt(self) -> CodingError {
        CodingError::Corrupt { coding: self.name() }
    }

    fn state(self) -> Result<State, CodingError> {
        Ok(match self {
            Self::Gzip => State::Gzip(Gzip { member: None, members: 0, first: None }),
            Self::Deflate => State::Deflate(Deflate { decoder: None, kept: Some(vec![]) }),
            // Strict: no "large window", an extension that is no content coding and lets the sender ask for a gigabyte.
            Self::Brotli => State::Brotli(Box::new(BrotliState::new_strict(
                HeapAlloc::<u8>::new(0),
                HeapAlloc::<u32>::new(0),
                HeapAlloc::<HuffmanCode>::new(HuffmanCode::default()),
            ))),
            Self::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(|_| self.corrupt())?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(|_| self.corrupt())?;
                State::Zstd(Box::new(decoder), false)
            }
        })
    }
}

impl Decoder {
    /// For `content_encoding`, the value of a Content-Encoding header: codings in the order they were applied, so
    /// `deflate, gzip` is un-gzipped first. Takes gzip, x-gzip, deflate (with or without its zlib header, as servers send
    /// both), br, zstd and identity; an empty value is identity.
    ///
    /// `max_bytes` bounds the result and each step towards it. Output of over a mebibyte may have `max_ratio` times the
    /// bytes received until then: deflate itself reaches about 1,000, pages about 30.
    ///
    /// # Errors
    /// [`CodingError::Unsupported`].
    pub fn new(content_encoding: &str, max_bytes: usize, max_ratio: u32) -> Result<Decoder, CodingError> {
        let link = |coding: Coding| {
            let state = coding.state()?;
            Ok(Link { coding, state, fed: 0, made: 0, step: vec![0; STEP].into_boxed_slice() })
        };
        let chain = parse(content_encoding)?.into_iter().rev().map(link).collect::<Result<_, CodingError>>()?;
        Ok(Decoder { chain, meter: Meter { max_bytes, max_ratio, received: 0 } })
    }

    /// Bytes put in.
    pub fn received(&self) -> usize {
        self.meter.received
    }

    /// The next bytes received; `sink` is given what they decode to, in steps.
    ///
    /// # Errors
    /// What is wrong with the body, or the sink's own. Then nothing more may be put in.
    pub fn push<E: From<CodingError>>(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.meter.received = self.meter.received.saturating_add(bytes.len());
        if self.meter.received > self.meter.max_bytes {
            return Err(CodingError::TooLarge { limit: self.meter.max_bytes }.into());
        }
        feed(&mut self.chain, bytes, &self.meter, &mut sink)
    }

    /// All bytes are in. An empty body (of a HEAD or 304) is whole.
    ///
    /// # Errors
    /// [`CodingError::Truncated`].
    pub fn finish(&self) -> Result<(), CodingError> {
        match self.chain.iter().find(|link| link.fed > 0 && !link.is_whole()) {
            Some(link) => Err(CodingError::Truncated { coding: link.coding.name() }),
            None => Ok(()),
        }
    }
}

/// Puts bytes through the codings of `chain`, one into the next, and the last into the sink.
fn feed<E: From<CodingError>>(
    chain: &mut [Link],
    bytes: &[u8],
    meter: &Meter,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    match chain.split_first_mut() {
        None if bytes.is_empty() => Ok(()),
        None => sink(bytes),
        Some((first, rest)) => first.decode(bytes, meter, &mut |made| feed(rest, made, meter, sink)),
    }
}

impl Meter {
    /// Whether a link may have made so many bytes.
    fn check(&self, made: usize) -> Result<(), CodingError> {
        if made > self.max_bytes {
            return Err(CodingError::TooLarge { limit: self.max_bytes });
        }
        if made > RATIO_FREE_BYTES.max(self.received.saturating_mul(self.max_ratio as usize)) {
            return Err(self.bomb());
        }
        Ok(())
    }

    fn bomb(&self) -> CodingError {
        CodingError::Bomb { ratio: self.max_ratio }
    }
}

/// Where a link's output goes.
type Next<'a, E> = &'a mut dyn FnMut(&[u8]) -> Result<(), E>;

impl Link {
    fn is_whole(&self) -> bool {
        match &self.state {
            State::Gzip(gzip) => gzip.member.is_none() && gzip.members > 0,
            State::Zstd(_, within) => !within,
            State::Ended => true,
            State::Deflate(_) | State::Brotli(_) => false,
        }
    }

    fn decode<E: From<CodingError>>(&mut self, bytes: &[u8], meter: &Meter, next: Next<'_, E>) -> Result<(), E> {
        self.fed = self.fed.saturating_add(bytes.len());
        // Taken out, so that the rest of the link can be lent along with it.
        let mut state = mem::replace(&mut self.state, State::Ended);
        let ended = match &mut state {
            State::Gzip(gzip) => self.gzip(gzip, bytes, meter, next)?,
            State::Deflate(deflate) => self.deflate(deflate, bytes, meter, next)?,
            State::Brotli(brotli) => self.brotli(brotli, bytes, meter, next)?,
            State::Zstd(zstd, within) => self.zstd(zstd, within, bytes, meter, next)?,
            State::Ended => true,
        };
        if !ended {
            self.state = state;
        }
        Ok(())
    }

    /// Hands on the first `len` bytes of the step.
    fn hand_on<E: From<CodingError>>(&mut self, len: usize, meter: &Meter, next: Next<'_, E>) -> Result<(), E> {
        self.made += len;
        meter.check(self.made)?;
        if len > 0 { next(&self.step[..len]) } else { Ok(()) }
    }

    /// True at the end of all members.
    fn gzip<E: From<CodingError>>(
        &mut self,
        gzip: &mut Gzip,
        mut bytes: &[u8],
        meter: &Meter,
        next: Next<'_, E>,
    ) -> Result<bool, E> {
        loop {
            let member = match &mut gzip.member {
                Some(member) => member,
                None if gzip.members == 0 => {
                    gzip.members = 1;
                    gzip.member.insert(Decompress::new_gzip(15))
                }
                None => match (gzip.first, bytes) {
                    (_, []) => return Ok(false),
                    (None, [first, rest @ ..]) => {
                        (gzip.first, bytes) = (Some(*first), rest);
                        continue;
                    }
                    (Some(0x1f), [0x8b, ..]) => {
                        gzip.first = None;
                        gzip.members += 1;
                        if gzip.members > MAX_MEMBERS {
                            return Err(meter.bomb().into());
                        }
                        let member = gzip.member.insert(Decompress::new_gzip(15));
                        // A byte of a header yields nothing.
                        self.inflate(member, &[0x1f], meter, next)?;
                        member
                    }
                    _ => return Ok(true),
                },
            };
            match self.inflate(member, bytes, meter, next)? {
                Some(rest) => (gzip.member, bytes) = (None, rest),
                None => return Ok(false),
            }
        }
    }

    fn deflate<E: From<CodingError>>(
        &mut self,
        deflate: &mut Deflate,
        bytes: &[u8],
        meter: &Meter,
        next: Next<'_, E>,
    ) -> Result<bool, E> {
        let Some(kept) = &mut deflate.kept else {
            let Some(decoder) = &mut deflate.decoder else { return Ok(true) };
            return Ok(self.inflate(decoder, bytes, meter, next)?.is_some());
        };
        kept.extend_from_slice(bytes);
        let [cmf, flags, ..] = kept[..] else { return Ok(false) };
        let zlib = cmf & 0x0f == 8 && cmf >> 4 <= 7 && u16::from_be_bytes([cmf, flags]) % 31 == 0;
        if zlib {
            let full = kept.len() > KEPT;
            let as_zlib = match &mut deflate.decoder {
                Some(decoder) => self.inflate(decoder, bytes, meter, next),
                // The first time it is all there is.
                none => self.inflate(none.insert(Decompress::new(true)), kept, meter, next),
            };
            // An error of the sink comes after output, one before any is of the coding.
            if as_zlib.is_ok() || self.made > 0 || full {
                let ended = as_zlib?.is_some();
                if self.made > 0 || full {
                    deflate.kept = None;
                }
                return Ok(ended);
            }
        }
        let all = deflate.kept.take().unwrap_or_default();
        let decoder = deflate.decoder.insert(Decompress::new(false));
        Ok(self.inflate(decoder, &all, meter, next)?.is_some())
    }

    /// Decodes one stream; at its end, what follows it.
    fn inflate<'b, E: From<CodingError>>(
        &mut self,
        decoder: &mut Decompress,
        mut bytes: &'b [u8],
        meter: &Meter,
        next: Next<'_, E>,
    ) -> Result<Option<&'b [u8]>, E> {
        loop {
            let (read, written) = (decoder.total_in(), decoder.total_out());
            let status =
                decoder.decompress(bytes, &mut self.step, FlushDecompress::None).map_err(|_| self.coding.corrupt())?;
            // Neither exceeds the slice it counts.
            let read = (decoder.total_in() - read) as usize;
            let written = (decoder.total_out() - written) as usize;
            bytes = &bytes[read..];
            self.hand_on(written, meter, next)?;
            if status == Status::StreamEnd {
                return Ok(Some(bytes));
            }
            if read == 0 && written == 0 {
                return if bytes.is_empty() { Ok(None) } else { Err(self.coding.corrupt().into()) };
            }
        }
    }

    fn brotli<E: From<CodingError>>(
        &mut self,
        state: &mut BrotliState<HeapAlloc<u8>, HeapAlloc<u32>, HeapAlloc<HuffmanCode>>,
        bytes: &[u8],
        meter: &Meter,
        next: Next<'_, E>,
    ) -> Result<bool, E> {
        let (mut available_in, mut read, mut total) = (bytes.len(), 0, 0);
        loop {
            let (mut available_out, mut written) = (STEP, 0);
            let result = BrotliDecompressStream(
                &mut available_in,
                &mut read,
                bytes,
                &mut available_out,
                &mut written,
                &mut self.step,
                &mut total,
                state,
            );
            self.hand_on(written, meter, next)?;
            match result {
                BrotliResult::ResultSuccess => return Ok(true),
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => return Ok(false),
                BrotliResult::ResultFailure => return Err(self.coding.corrupt().into()),
            }
        }
    }

    /// All frames (RFC 8878, section 3.1): there may always be another.
    fn zstd<E: From<CodingError>>(
        &mut self,
        decoder: &mut zstd::stream::raw::Decoder<'static>,
        within: &mut bool,
        mut bytes: &[u8],
        meter: &Meter,
        next: Next<'_, E>,
    ) -> Result<bool, E> {
        loop {
            let mut input = InBuffer::around(bytes);
            let mut output = OutBuffer::around(&mut self.step[..]);
            let hint = decoder.run(&mut input, &mut output).map_err(|_| self.coding.corrupt())?;
            let (read, written) = (input.pos(), output.pos());
            bytes = &bytes[read..];
            // Nothing in and nothing out after a frame's end is no beginning of another.
            if read > 0 || written > 0 {
                *within = hint != 0;
            }
            self.hand_on(written, meter, next)?;
            if bytes.is_empty() && written < STEP {
                return Ok(false);
            }
            if read == 0 && written == 0 {
                return Err(self.coding.corrupt().into());
            }
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
    const RATIO: u32 = 200;

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

    /// In pieces of so many bytes.
    fn decode(body: &[u8], coding: &str, max: usize, ratio: u32, piece: usize) -> Result<Vec<u8>, CodingError> {
        let mut decoder = Decoder::new(coding, max, ratio)?;
        let mut all = vec![];
        for some in body.chunks(piece) {
            decoder.push(some, |made| {
                all.extend_from_slice(made);
                Ok::<_, CodingError>(())
            })?;
        }
        decoder.finish().map(|()| all)
    }

    fn run(body: &[u8], coding: &str) -> Result<Vec<u8>, CodingError> {
        decode(body, coding, LIMIT, RATIO, usize::MAX)
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
            let bomb = encode(coding, &zeros);
            for piece in [100, usize::MAX] {
                let result = decode(&bomb, coding, LIMIT, 200, piece);
                assert_eq!(result, Err(CodingError::Bomb { ratio: 200 }), "{coding}");
                let result = decode(&bomb, coding, 1000, 200, piece);
                assert_eq!(result, Err(CodingError::TooLarge { limit: 1000 }), "{coding}");
                let whole = decode(&bomb, coding, LIMIT, u32::MAX, piece).unwrap();
                assert_eq!(whole.len(), zeros.len());
            }
        }
        assert_eq!(decode(b"12345", "", 4, 200, 1), Err(CodingError::TooLarge { limit: 4 }));
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
            let named = if coding == "raw" { "deflate" } else { &coding };
            let _ = (run(&body, named), decode(&body, named, LIMIT, RATIO, 7));
        }

        /// How a body was cut into pieces on its way makes no difference.
        #[test]
        fn pieces_make_no_difference(coding in "gzip|deflate|raw|br|zstd", outer in "gzip|br|zstd|identity", piece in 1usize..50, cut in 0usize..3) {
            let mut body = encode(&outer, &encode(&coding, &text()[..2_000].repeat(2)));
            body.truncate(body.len() - cut);
            let named = format!("{}, {outer}", if coding == "raw" { "deflate" } else { &coding });
            prop_assert_eq!(decode(&body, &named, LIMIT, RATIO, piece), run(&body, &named));
        }

        #[test]
        fn round_trip(coding in "gzip|deflate|br|zstd", data in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            prop_assert_eq!(run(&encode(&coding, &data), &coding), Ok(data));
        }
    }
}
