//! A response's body on its way in: held to its limits, decoded piece by piece, and once it is large, written into a
//! blob's draft instead of memory.

use std::mem;
use std::sync::LazyLock;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::codings::{CodingError, Decoder};
use super::http::FetchError;
use crate::blob::BlobError;
use crate::blob::draft::{Draft, Drafts};
use crate::config;
use crate::record::FailureClass;
use crate::warc::WarcError;
use crate::warc::block::Block;

/// Bytes received that are worked on together.
const BATCH: usize = 64 << 10;
/// Until so many bytes came the work is done on the spot, then on a thread where it holds up no task.
const HERE: u64 = 256 << 10;
/// Room made for a body on the word of its header. One that says so and does not come costs no more than this.
const MOST_ROOM: usize = 64 << 10;
/// Large bodies that are decoded and written at the same moment. More threads than this get no more done, and each has its
/// stack and its part of the allocator's memory.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(4 * std::thread::available_parallelism().map_or(2, usize::from)));
/// A body that is over the limit at more than so many times its size is called a bomb, not large.
const HONEST_RATIO: u64 = 40;

/// Where bodies go that are too large for memory.
#[derive(Clone)]
pub struct Overflow {
    pub drafts: Drafts,
    /// Most bytes of a body, decoded, that stay in memory.
    pub threshold: usize,
}

/// A body without its content coding.
pub enum Received {
    Small(Vec<u8>),
    Large(Box<Draft>),
}

impl Received {
    /// Bytes.
    pub fn length(&self) -> u64 {
        match self {
            Received::Small(bytes) => bytes.len() as u64,
            Received::Large(draft) => draft.length(),
        }
    }

    /// The bytes, unless they are in a draft.
    pub fn in_memory(&self) -> &[u8] {
        match self {
            Received::Small(bytes) => bytes,
            Received::Large(_) => &[],
        }
    }
}

/// A body that is coming in.
pub struct Receiver {
    decoder: Decoder,
    limit: bytesize::ByteSize,
    max_decoded: u64,
    /// Bytes that came.
    received: u64,
    /// Those of them that are not decoded yet.
    batch: Vec<Bytes>,
    waiting: usize,
    decoded: Decoded,
    /// Takes the bytes down as they come.
    block: Option<Box<Block>>,
}

/// What a body decoded to until now.
struct Decoded {
    small: Vec<u8>,
    /// Bytes after which the rest is left.
    cut_at: Option<usize>,
    /// Boxed, as the block: a receiver is moved with every piece.
    large: Option<Box<Draft>>,
    overflow: Option<Overflow>,
}

/// What went wrong: with the body, or with the place it goes to.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Coding(#[from] CodingError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Warc(#[from] WarcError),
    /// No failure: what is wanted is there.
    #[error("the rest is not wanted")]
    Enough,
}

impl Receiver {
    /// Of a body with this Content-Encoding. Without an overflow all of it stays in memory.
    pub fn new(coding: &str, config: &config::Fetch, overflow: Option<Overflow>) -> Result<Receiver, FetchError> {
        let max_decoded = config.max_decoded_bytes.as_u64();
        let most = usize::try_from(max_decoded).unwrap_or(usize::MAX);
        let decoder = Decoder::new(coding, most, config.max_ratio);
        Ok(Receiver {
            decoder: decoder.map_err(|e| FetchError::new(FailureClass::Decode, e.to_string()))?,
            limit: config.max_body_bytes,
            max_decoded,
            received: 0,
            batch: vec![],
            waiting: 0,
            decoded: Decoded { small: vec![], cut_at: None, large: None, overflow },
            block: None,
        })
    }

    /// Takes the bytes down too, as they come.
    pub fn into_block(self, block: Option<Block>) -> Receiver {
        Receiver { block: block.map(Box::new), ..self }
    }

    /// Of a body of which the first bytes are enough, decoded and in memory; no limit refuses what comes after them.
    pub fn start_of(coding: &str, config: &config::Fetch, bytes: usize) -> Result<Receiver, FetchError> {
        let limitless = config::Fetch {
            max_body_bytes: bytesize::ByteSize(u64::MAX),
            max_decoded_bytes: bytesize::ByteSize(u64::MAX),
            ..config.clone()
        };
        let mut receiver = Receiver::new(coding, &limitless, None)?;
        receiver.decoded.cut_at = Some(bytes);
        Ok(receiver)
    }

    /// Whether nothing more is wanted.
    pub fn has_enough(&self) -> bool {
        self.decoded.cut_at.is_some_and(|bytes| self.decoded.small.len() >= bytes)
    }

    /// Refuses a length that was announced, or makes room for it.
    pub fn announced(&mut self, length: u64) -> Result<(), FetchError> {
        if length > self.limit.as_u64() {
            return Err(self.too_large(format!("{length} bytes")));
        }
        let most = self.decoded.overflow.as_ref().map_or(0, |o| o.threshold).min(MOST_ROOM);
        self.decoded.small.reserve_exact(usize::try_from(length).unwrap_or(usize::MAX).min(most));
        Ok(())
    }

    /// The next bytes.
    pub async fn take(mut self, bytes: Bytes) -> Result<Receiver, FetchError> {
        self.received += bytes.len() as u64;
        if self.received > self.limit.as_u64() {
            return Err(self.too_large(format!("over {} bytes", self.limit.as_u64())));
        }
        self.waiting += bytes.len();
        self.batch.push(bytes);
        if self.waiting < BATCH { Ok(self) } else { self.work_off().await }
    }

    /// All came.
    pub async fn finish(self) -> Result<Received, FetchError> {
        self.end().await.map(|(received, _)| received)
    }

    /// All came: decoded, and as it came if that was wanted.
    pub async fn end(self) -> Result<(Received, Option<Block>), FetchError> {
        let all = self.work_off().await?;
        if !all.has_enough() {
            all.decoder.finish().map_err(|e| all.failed(e.into()))?;
        }
        let received = match all.decoded.large {
            Some(draft) => Received::Large(draft),
            None => Received::Small(all.decoded.small),
        };
        Ok((received, all.block.map(|block| *block)))
    }

    fn too_large(&self, size: String) -> FetchError {
        let message = format!("the body has {size}, more than fetch.max_body_bytes ({})", self.limit);
        FetchError::new(FailureClass::TooLarge, message)
    }

    async fn work_off(mut self) -> Result<Receiver, FetchError> {
        self.waiting = 0;
        let here = self.received <= HERE;
        let work = move || {
            for bytes in mem::take(&mut self.batch) {
                if let Some(block) = &mut self.block {
                    block.write(&bytes).map_err(|e| self.failed(e.into()))?;
                }
                let decoded = &mut self.decoded;
                match self.decoder.push(&bytes, |some| decoded.write(some)) {
                    Ok(()) => {}
                    Err(Trouble::Enough) => break,
                    Err(e) => return Err(self.failed(e)),
                }
            }
            Ok(self)
        };
        if here {
            return work();
        }
        // Closed by nobody.
        let _turn = TURNS.acquire().await;
        let worked = tokio::task::spawn_blocking(work).await;
        worked.map_err(|e| FetchError::new(FailureClass::Panic, format!("decoding the body was cut short: {e}")))?
    }

    fn failed(&self, e: Trouble) -> FetchError {
        use FailureClass as F;
        let class = match &e {
            Trouble::Coding(CodingError::TooLarge { .. }) => {
                let honest = self.received.saturating_mul(HONEST_RATIO) >= self.max_decoded;
                if honest { F::TooLarge } else { F::Bomb }
            }
            Trouble::Coding(CodingError::Bomb { .. }) => F::Bomb,
            Trouble::Coding(CodingError::Truncated { .. }) => F::Truncated,
            Trouble::Coding(CodingError::Corrupt { .. } | CodingError::Unsupported(_)) => F::Decode,
            Trouble::Blob(BlobError::TooLarge(_)) => F::TooLarge,
            Trouble::Blob(_) | Trouble::Warc(_) => F::Storage,
            // Never an answer: see `work_off`.
            Trouble::Enough => F::Truncated,
        };
        FetchError::new(class, e.to_string())
    }
}

impl Decoded {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        if let Some(most) = self.cut_at {
            let room = most.saturating_sub(self.small.len());
            self.small.extend_from_slice(&bytes[..bytes.len().min(room)]);
            return if bytes.len() >= room { Err(Trouble::Enough) } else { Ok(()) };
        }
        let Some(overflow) = &self.overflow else {
            self.small.extend_from_slice(bytes);
            return Ok(());
        };
        let draft = match &mut self.large {
            Some(draft) => draft,
            None if self.small.len() + bytes.len() <= overflow.threshold => {
                self.small.extend_from_slice(bytes);
                return Ok(());
            }
            None => {
                let mut draft = overflow.drafts.begin()?;
                draft.write(&mem::take(&mut self.small))?;
                self.large.insert(Box::new(draft))
            }
        };
        Ok(draft.write(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blobs;
    use crate::blob::folder::Folder;
    use crate::config::Compression;

    fn config(body: u64, decoded: u64) -> config::Fetch {
        let size = bytesize::ByteSize;
        config::Fetch { max_body_bytes: size(body), max_decoded_bytes: size(decoded), ..config::Fetch::default() }
    }

    /// Bytes that no compression shrinks.
    fn noise(length: usize) -> Vec<u8> {
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        };
        (0..length).map(|_| next()).collect()
    }

    async fn receive(
        body: &[u8],
        coding: &str,
        config: &config::Fetch,
        overflow: Option<Overflow>,
    ) -> Result<Received, FetchError> {
        let mut receiver = Receiver::new(coding, config, overflow)?;
        for piece in body.chunks(10_000) {
            receiver = receiver.take(Bytes::copy_from_slice(piece)).await?;
        }
        receiver.finish().await
    }

    #[tokio::test]
    async fn a_small_body_stays_in_memory_and_a_large_one_becomes_a_blob() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("blobs"), Compression::Zstd).unwrap();
        let overflow = || Some(Overflow { drafts: folder.drafts().clone(), threshold: 100_000 });
        let config = config(10 << 20, 10 << 20);
        for length in [0, 99_999, 100_000, 100_001, 3 << 20] {
            let body = noise(length);
            let encoded = zstd::encode_all(&body[..], 1).unwrap();
            for (sent, coding) in [(&body, ""), (&encoded, "zstd")] {
                let received = receive(sent, coding, &config, overflow()).await.unwrap();
                assert_eq!(received.length(), length as u64);
                match received {
                    Received::Small(bytes) => assert!(length <= 100_000 && bytes == body),
                    Received::Large(draft) => {
                        let key = folder.keep(*draft).await.unwrap();
                        assert!(length > 100_000 && key == crate::blob::key(&body));
                        assert_eq!(folder.get(&key).await.unwrap(), body);
                    }
                }
                let Ok(Received::Small(bytes)) = receive(sent, coding, &config, None).await else { panic!("large") };
                assert_eq!(bytes, body);
            }
        }
    }

    #[tokio::test]
    async fn the_start_of_a_body_is_had_whatever_comes_after_it() {
        let noise = noise(700_000);
        let whole = zstd::encode_all(&noise[..], 1).unwrap();
        let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
        for (sent, coding, start) in [
            (&noise[..], "", &noise[..1_000]),
            (&noise[..1_000], "", &noise[..1_000]),
            (&noise[..999], "", &noise[..999]),
            (&whole, "zstd", &noise[..1_000]),
            (&whole[..whole.len() / 2], "zstd", &noise[..1_000]),
            (&bomb, "zstd", &[0; 1_000]),
        ] {
            let mut receiver = Receiver::start_of(coding, &config(100, 100), 1_000).unwrap();
            for piece in sent.chunks(10_000) {
                if !receiver.has_enough() {
                    receiver = receiver.take(Bytes::copy_from_slice(piece)).await.unwrap();
                }
            }
            let Ok(Received::Small(bytes)) = receiver.finish().await else { panic!("large, or none") };
            assert_eq!(bytes, start);
        }
    }

    #[tokio::test]
    async fn limits_hold_on_the_way_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let overflow = || Some(Overflow { drafts: Drafts::new(dir.path(), Compression::Gzip), threshold: 1_000 });
        let noise = noise(3_000_000);
        let zeros = zstd::encode_all(&vec![0; 20 << 20][..], 1).unwrap();
        let honest = zstd::encode_all(&noise[..], 1).unwrap();
        use FailureClass as F;
        for (sent, coding, config, class) in [
            (&noise[..], "", config(2_000_000, 8_000_000), F::TooLarge),
            (&noise[..], "", config(8_000_000, 2_000_000), F::TooLarge),
            (&honest[..], "zstd", config(8_000_000, 2_000_000), F::TooLarge),
            (&zeros[..], "zstd", config(8_000_000, 100_000_000), F::Bomb),
            (&zeros[..], "zstd", config(8_000_000, 500_000), F::Bomb),
            (&honest[..honest.len() - 1], "zstd", config(8_000_000, 8_000_000), F::Truncated),
            (&noise[..], "zstd", config(8_000_000, 8_000_000), F::Decode),
        ] {
            let e = receive(sent, coding, &config, overflow()).await.err();
            assert_eq!(e.as_ref().map(|e| e.class), Some(class), "{e:?}");
        }
        let e = Receiver::new("", &config(1_000, 1_000), None).unwrap().announced(1_001).unwrap_err();
        assert_eq!(e.class, F::TooLarge);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = Overflow { drafts: Drafts::new(&dir.path().join("nowhere"), Compression::Gzip), threshold: 0 };
        let e = receive(b"x", "", &config(10, 10), Some(nowhere)).await.err().unwrap();
        assert!(e.class == F::Storage && e.message.contains("nowhere"), "{e}");
    }
}
