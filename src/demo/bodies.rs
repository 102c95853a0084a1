//! Bodies that are not plain pages: compressed, in other character sets, files, floods and bombs.

use std::io::{self, Write};
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use flate2::{Compress, Compression, FlushCompress};

use super::faults::Coding;
use super::wire::Piece;

/// The body in this `Content-Encoding`, and its name.
pub(super) fn encode(coding: Coding, body: &str) -> io::Result<(&'static str, Vec<u8>)> {
    let body = body.as_bytes();
    Ok(match coding {
        Coding::Gzip => {
            let mut out = GzEncoder::new(Vec::new(), Compression::fast());
            out.write_all(body)?;
            ("gzip", out.finish()?)
        }
        Coding::Deflate => {
            let mut out = ZlibEncoder::new(Vec::new(), Compression::fast());
            out.write_all(body)?;
            ("deflate", out.finish()?)
        }
        Coding::Brotli => {
            let mut out = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 18);
            out.write_all(body)?;
            out.flush()?;
            ("br", out.into_inner())
        }
        Coding::Zstd => ("zstd", zstd::encode_all(body, 1)?),
    })
}

/// A gzip stream of the body with damage in the middle.
pub(super) fn broken_gzip(body: &str) -> io::Result<Vec<u8>> {
    let (_, mut gzip) = encode(Coding::Gzip, body)?;
    let middle = gzip.len() / 2;
    for byte in gzip.iter_mut().skip(middle).take(16) {
        *byte ^= 0xff;
    }
    Ok(gzip)
}

/// The text in a character set of the Encoding standard; what it lacks becomes a character
/// reference.
pub(super) fn in_charset(label: &str, text: &str) -> Vec<u8> {
    match encoding_rs::Encoding::for_label(label.as_bytes()) {
        Some(encoding) => encoding.encode(text).0.into_owned(),
        None => text.as_bytes().to_vec(),
    }
}

/// UTF-16, little endian, with its byte order mark.
pub(super) fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// How much the bomb's repeated block opens to, in bytes.
const BLOCK: usize = 1024 * 1024;
/// How often it is repeated: 600 MiB in all.
const BLOCKS: u64 = 600;

/// A gzip bomb: one compressed mebibyte of zeros, sent over and over. A block that ends in a full
/// flush needs nothing of what came before it, so its copies join into one valid stream, and their
/// checksums combine; nothing of the whole is ever held.
pub(super) fn bomb() -> io::Result<Vec<Piece>> {
    /// The block, compressed, and the end of the stream.
    static PARTS: LazyLock<io::Result<(Bytes, Bytes)>> = LazyLock::new(|| {
        let zeros = vec![0; BLOCK];
        let mut block = Vec::with_capacity(16 * 1024);
        Compress::new(Compression::best(), false).compress_vec(&zeros, &mut block, FlushCompress::Full)?;
        let mut end = DeflateEncoder::new(Vec::new(), Compression::fast()).finish()?;
        let mut one = crc32fast::Hasher::new();
        one.update(&zeros);
        let mut all = crc32fast::Hasher::new();
        (0..BLOCKS).for_each(|_| all.combine(&one));
        end.extend(all.finalize().to_le_bytes());
        end.extend(((BLOCK as u64 * BLOCKS) as u32).to_le_bytes());
        Ok((block.into(), end.into()))
    });
    let (block, end) = PARTS.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    // RFC 1952, section 2.3: magic, deflate, no flags, no time, no extra, unknown system.
    let start = Bytes::from_static(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    Ok(vec![piece(start, 1), piece(block.clone(), BLOCKS), piece(end.clone(), 1)])
}

pub(super) fn piece(bytes: impl Into<Bytes>, times: u64) -> Piece {
    Piece { bytes: bytes.into(), times }
}

/// The page with something put before the end of its body, repeated.
pub(super) fn with_flood(page: &str, flood: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let (before, after) = page.split_at(page.find("</body>").unwrap_or(page.len()));
    let mut pieces = vec![piece(before.to_owned(), 1)];
    pieces.extend(flood);
    pieces.push(piece(after.to_owned(), 1));
    pieces
}

/// 200,000 elements, each inside the one before.
pub(super) fn deep() -> [Piece; 2] {
    [piece("<div>".repeat(1_000), 200), piece("</div>".repeat(1_000), 200)]
}

/// One element with 100,000 attributes, no two of the same name.
pub(super) fn attributes() -> [Piece; 1] {
    let list = (0..100_000).map(|n| format!(" a{n}=\"\"")).collect::<String>();
    [piece(format!("<div{list}></div>"), 1)]
}

/// 200,000 character references: named, numbered, unknown and unfinished.
pub(super) fn entities() -> [Piece; 3] {
    let flood = "&nbsp;&lt;&#x263A;&#169;&unknown;&notit;&#xFFFFFFFF;&amp".repeat(250);
    [piece("<aside>", 1), piece(flood, 100), piece("</aside>", 1)]
}

/// A page of one line, with a right cross-reference table (ISO 32000-1, section 7.5).
pub(super) fn pdf() -> Vec<u8> {
    let line = "BT /F1 18 Tf 72 720 Td (The tidal mill, measured again.) Tj ET";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{line}\nendstream", line.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut out = String::from("%PDF-1.4\n");
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (n, object) in objects.iter().enumerate() {
        table += &format!("{:010} 00000 n \n", out.len());
        out += &format!("{} 0 obj\n{object}\nendobj\n", n + 1);
    }
    let (start, size) = (out.len(), objects.len() + 1);
    out += &table;
    out += &format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n");
    out.into_bytes()
}

/// One grey pixel (PNG specification, section 5).
pub(super) fn png() -> io::Result<Vec<u8>> {
    let mut pixel = ZlibEncoder::new(Vec::new(), Compression::fast());
    pixel.write_all(&[0, 128])?;
    let pixel = pixel.finish()?;
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0];
    for (name, data) in [(b"IHDR", &header[..]), (b"IDAT", &pixel), (b"IEND", &[])] {
        out.extend((data.len() as u32).to_be_bytes());
        let named = [&name[..], data].concat();
        out.extend(&named);
        out.extend(crc32fast::hash(&named).to_be_bytes());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_bomb_is_small_valid_and_large() {
        let pieces = bomb().unwrap();
        let bytes = pieces.iter().flat_map(|p| p.bytes.repeat(p.times as usize)).collect::<Vec<_>>();
        assert!(bytes.len() < 1024 * 1024, "{}", bytes.len());
        // The decoder checks the sum and the size at the end.
        let mut decoder = flate2::read::GzDecoder::new(&bytes[..]);
        let (mut total, mut buffer) = (0, vec![0; 256 * 1024]);
        loop {
            match decoder.read(&mut buffer).unwrap() {
                0 => break,
                n => total += n,
            }
        }
        assert_eq!(total, 600 * 1024 * 1024);
    }

    #[test]
    fn the_pdf_finds_its_objects() {
        let pdf = pdf();
        let text = std::str::from_utf8(&pdf).unwrap();
        let start: usize = text.split("startxref\n").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert!(text[start..].starts_with("xref\n0 6\n"));
        for (n, entry) in text[start..].lines().skip(3).take(5).enumerate() {
            let offset: usize = entry[..10].parse().unwrap();
            assert!(text[offset..].starts_with(&format!("{} 0 obj", n + 1)));
        }
    }

    #[test]
    fn utf_16_starts_with_its_mark() {
        assert_eq!(utf16("é"), [0xff, 0xfe, 0xe9, 0]);
    }
}
