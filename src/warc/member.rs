//! The bytes of one record: a gzip member (RFC 1952) of its own, or the record as it is.
//!
//! What comes first in a record (its headers, with the length and the hashes of the rest) is known last. Deflated data may
//! be put together from parts that know nothing of each other, if the first ends on a byte without being the last: so the
//! body is deflated as it comes, and its headers, deflated apart, are put before it; the checksums are joined.

use std::fs::File;
use std::io::{self, Write};

use flate2::{Compress, Compression, FlushCompress, Status};

/// Magic, deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// What ends a record.
const END: &[u8] = b"\r\n\r\n";
/// Output of the deflater is taken in steps of so many bytes.
const STEP: usize = 16 << 10;

/// A record, ready to be written: three parts, one after the other.
#[derive(Debug)]
pub struct Member {
    /// First.
    pub front: Vec<u8>,
    /// Then, from its beginning: most of a large record.
    pub file: Option<File>,
    /// Last.
    pub back: Vec<u8>,
}

/// Bytes on their way into a member.
pub enum Packer<W: Write> {
    Plain(W),
    Gzip(Box<Deflater<W>>),
}

/// Deflates into a writer and sums up what it was given.
pub struct Deflater<W: Write> {
    deflate: Compress,
    step: Vec<u8>,
    crc: crc32fast::Hasher,
    out: W,
}

/// What a gzip member ends with.
struct Sums {
    crc: crc32fast::Hasher,
    length: u64,
}

impl<W: Write> Packer<W> {
    /// Into a writer.
    pub fn new(gzip: bool, out: W) -> Packer<W> {
        if !gzip {
            return Packer::Plain(out);
        }
        let deflate = Compress::new(Compression::default(), false);
        Packer::Gzip(Box::new(Deflater { deflate, step: vec![0; STEP], crc: crc32fast::Hasher::new(), out }))
    }

    /// The next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Packer::Plain(out) => out.write_all(bytes),
            Packer::Gzip(deflater) => deflater.push(bytes, FlushCompress::None),
        }
    }

    /// All came: the writer, and the sums of what was packed. `flush`: whether more follows from elsewhere.
    fn end(self, flush: FlushCompress) -> io::Result<(W, Option<Sums>)> {
        match self {
            Packer::Plain(out) => Ok((out, None)),
            Packer::Gzip(mut deflater) => {
                deflater.push(&[], flush)?;
                Ok((deflater.out, Some(Sums { crc: deflater.crc, length: deflater.deflate.total_in() })))
            }
        }
    }
}

impl<W: Write> Deflater<W> {
    fn push(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        self.crc.update(bytes);
        loop {
            let (before_in, before_out) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.compress(bytes, &mut self.step, flush).map_err(io::Error::other)?;
            let taken = usize::try_from(self.deflate.total_in() - before_in).map_err(io::Error::other)?;
            let made = usize::try_from(self.deflate.total_out() - before_out).map_err(io::Error::other)?;
            bytes = &bytes[taken..];
            self.out.write_all(&self.step[..made])?;
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                // A step that was not filled: there is nothing left to take or to flush.
                _ => bytes.is_empty() && made < self.step.len(),
            };
            if done {
                return Ok(());
            }
        }
    }
}

/// A record whose bytes are all in memory.
pub fn whole(gzip: bool, parts: &[&[u8]]) -> io::Result<Member> {
    let mut packer = Packer::new(gzip, if gzip { HEADER.to_vec() } else { vec![] });
    for part in parts {
        packer.write(part)?;
    }
    packer.write(END)?;
    let (mut front, sums) = packer.end(FlushCompress::Finish)?;
    front.extend(sums.map(Sums::trailer).into_iter().flatten());
    Ok(Member { front, file: None, back: vec![] })
}

/// A record whose rest has been packed into a file already.
pub fn spooled(parts: &[&[u8]], mut rest: Packer<File>) -> io::Result<Member> {
    let gzip = matches!(rest, Packer::Gzip(_));
    rest.write(END)?;
    let (file, rest) = rest.end(FlushCompress::Finish)?;
    let mut packer = Packer::new(gzip, if gzip { HEADER.to_vec() } else { vec![] });
    for part in parts {
        packer.write(part)?;
    }
    let (front, first) = packer.end(FlushCompress::Sync)?;
    let back = match (first, rest) {
        (Some(first), Some(rest)) => first.and(&rest).trailer().to_vec(),
        _ => vec![],
    };
    Ok(Member { front, file: Some(file), back })
}

impl Sums {
    /// Of what both have summed up, one after the other.
    fn and(mut self, next: &Sums) -> Sums {
        self.crc.combine(&next.crc);
        Sums { crc: self.crc, length: self.length + next.length }
    }

    /// What ends a gzip member.
    fn trailer(self) -> [u8; 8] {
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&self.crc.finalize().to_le_bytes());
        // Modulo 2^32, as the format has it.
        trailer[4..].copy_from_slice(&(self.length as u32).to_le_bytes());
        trailer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    fn bytes(member: Member) -> Vec<u8> {
        let mut all = member.front;
        if let Some(mut file) = member.file {
            file.rewind().unwrap();
            file.read_to_end(&mut all).unwrap();
        }
        all.extend(member.back);
        all
    }

    fn packed(gzip: bool, parts: &[&[u8]], rest: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new(gzip, tempfile::tempfile().unwrap());
        rest.chunks(7_000).for_each(|some| packer.write(some).unwrap());
        bytes(spooled(parts, packer).unwrap())
    }

    fn unpacked(member: &[u8]) -> Vec<u8> {
        let mut all = vec![];
        GzDecoder::new(member).read_to_end(&mut all).unwrap();
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_member_is_what_was_put_in_however_it_was_put(
            first in proptest::collection::vec(any::<u8>(), 0..3_000),
            rest in proptest::collection::vec(0..4u8, 0..60_000),
        ) {
            let all = [&first[..], &rest, END].concat();
            let parts: [&[u8]; 2] = [&first, &rest];
            prop_assert_eq!(&unpacked(&bytes(whole(true, &parts).unwrap())), &all);
            prop_assert_eq!(&unpacked(&packed(true, &[&first], &rest)), &all);
            prop_assert_eq!(&bytes(whole(false, &parts).unwrap()), &all);
            prop_assert_eq!(&packed(false, &[&first], &rest), &all);
        }
    }
}
