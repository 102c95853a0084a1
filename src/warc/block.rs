//! The block of a record: what was sent or what came, head and body, on its way in.

use std::fs::File;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::member::{self, Member, Packer};
use super::{Result, WarcError};
use crate::config::Digest;

/// A larger body goes into a file.
const IN_MEMORY: usize = 256 << 10;

/// How records are written, and where bodies wait that are too large for memory.
#[derive(Debug, Clone)]
pub struct Format {
    pub gzip: bool,
    pub digest: Digest,
    /// The folder of the files: what is moved there later may lie on the same disk.
    pub dir: Arc<Path>,
}

/// A hash on its way.
#[derive(Clone)]
enum Hash {
    Sha1(Sha1),
    Sha256(Sha256),
}

/// What has come so far. Dropped, it is gone.
pub struct Block {
    format: Format,
    head: Vec<u8>,
    payload: Hash,
    all: Hash,
    /// Bytes of the payload.
    length: u64,
    small: Vec<u8>,
    large: Option<Packer<File>>,
}

/// What a record says of its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Of the body: `sha1:` and base 32, or `sha256:` and hex digits.
    pub payload: String,
    /// Of head and body.
    pub block: String,
    /// Of the body, bytes.
    pub payload_length: u64,
    /// Of head and body, bytes.
    pub length: u64,
}

impl Hash {
    fn new(digest: Digest) -> Hash {
        match digest {
            Digest::Sha1 => Hash::Sha1(Sha1::new()),
            Digest::Sha256 => Hash::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hash::Sha1(hash) => hash.update(bytes),
            Hash::Sha256(hash) => hash.update(bytes),
        }
    }

    /// As archives write it: SHA-1 in base 32 since the first of them, the others in hex digits.
    fn label(self) -> String {
        match self {
            Hash::Sha1(hash) => format!("sha1:{}", data_encoding::BASE32.encode(&hash.finalize())),
            Hash::Sha256(hash) => format!("sha256:{}", hex::encode(hash.finalize())),
        }
    }
}

impl Block {
    /// A block that begins with this head, the empty line after it included.
    pub fn new(format: &Format, head: Vec<u8>) -> Block {
        let payload = Hash::new(format.digest);
        let mut all = payload.clone();
        all.update(&head);
        Block { format: format.clone(), head, payload, all, length: 0, small: vec![], large: None }
    }

    /// The next bytes of the body. Blocks on the disk once they are many.
    ///
    /// # Errors
    /// The disk is full, and the like.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.payload.update(bytes);
        self.all.update(bytes);
        self.length += bytes.len() as u64;
        if self.large.is_none() && self.small.len() + bytes.len() <= IN_MEMORY {
            self.small.extend_from_slice(bytes);
            return Ok(());
        }
        self.spool(bytes).map_err(|e| self.format.failed(&e))
    }

    fn spool(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let packer = match &mut self.large {
            Some(packer) => packer,
            None => {
                let mut packer = Packer::new(self.format.gzip, tempfile::tempfile_in(&self.format.dir)?);
                packer.write(&mem::take(&mut self.small))?;
                self.large.insert(packer)
            }
        };
        packer.write(bytes)
    }

    /// Its hashes and lengths.
    pub fn sums(&self) -> Sums {
        Sums {
            payload: self.payload.clone().label(),
            block: self.all.clone().label(),
            payload_length: self.length,
            length: self.head.len() as u64 + self.length,
        }
    }

    /// Its head, as a block of its own.
    pub(super) fn head_alone(self) -> Block {
        Block::new(&self.format, self.head)
    }

    /// The record: its own header, the empty line after it included, and this block. Blocks on the disk.
    pub(super) fn member(self, header: &[u8]) -> Result<Member> {
        let format = self.format;
        let done = match self.large {
            None => member::whole(format.gzip, &[header, &self.head, &self.small]),
            Some(large) => member::spooled(&[header, &self.head], large),
        };
        done.map_err(|e| format.failed(&e))
    }
}

impl Format {
    /// What went wrong in the folder, with the fix.
    pub(super) fn failed(&self, e: &std::io::Error) -> WarcError {
        use std::io::ErrorKind as K;
        let dir = self.dir.display();
        WarcError(match e.kind() {
            K::StorageFull | K::QuotaExceeded => format!(
                "the disk that holds the WARC files in {dir} is full: free some space, and the work goes on by itself"
            ),
            K::PermissionDenied | K::ReadOnlyFilesystem | K::NotFound => {
                format!("WARC files cannot be written into {dir} ({e}); check that folder and its permissions")
            }
            _ => format!("WARC files cannot be written into {dir} ({e})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard_s_readers() {
        let dir = tempfile::tempdir().unwrap();
        let sums = |digest| {
            let mut block = Block::new(&Format { gzip: true, digest, dir: dir.path().into() }, b"ab".to_vec());
            block.write(b"").unwrap();
            block.write(b"abc").unwrap();
            block.sums()
        };
        // As by `printf abc | openssl sha1 -binary | base32`, and sha256sum.
        let sha1 = sums(Digest::Sha1);
        assert_eq!(sha1.payload, "sha1:VGMT4NSHA2AWVOR6EVYXQUGCNSONBWE5");
        assert_eq!((sha1.payload_length, sha1.length), (3, 5));
        let sha256 = sums(Digest::Sha256).payload;
        assert_eq!(sha256, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_ne!(sha1.block, sha1.payload);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_in_words() {
        let format = Format { gzip: true, digest: Digest::Sha1, dir: Path::new("/nowhere/at/all").into() };
        let mut block = Block::new(&format, vec![]);
        block.write(&[0; IN_MEMORY]).unwrap();
        let e = block.write(&[0; IN_MEMORY]).unwrap_err().to_string();
        assert!(e.contains("/nowhere/at/all") && e.contains("check"), "{e}");
    }
}
