//! From bytes to text: which encoding a document is in, in the order of the HTML standard (section
//! 13.2.3): byte order mark, Content-Type, the document's own word, then its bytes.

mod prescan;

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

use prescan::{charset_in, prescan};

/// Bytes in which the standard looks for a `meta` element.
const PRESCAN_BYTES: usize = 1024;

/// Bytes looked at when it finds none: many a page puts scripts first.
const LENIENT_PRESCAN_BYTES: usize = 4096;

/// Bytes that the detector judges by; it reads slower than all the rest together.
const DETECT_BYTES: usize = 256 * 1024;

/// The encoding that a text was read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset {
    /// Name in the WHATWG Encoding standard, such as `UTF-8` or `windows-1252`.
    pub name: &'static str,
    /// How it was found out.
    pub source: Source,
}

/// What told the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Byte order mark.
    Bom,
    /// Content-Type of the answer.
    Header,
    /// A `meta` element or an XML declaration.
    Meta,
    /// The bytes themselves.
    Detected,
    /// Nothing needed to: the text is ASCII, read as UTF-8.
    Default,
}

/// Decodes `bytes`, which came with `content_type` (such as `text/html; charset=utf-8`). Labels
/// that nobody knows count as absent; malformed sequences become U+FFFD; a byte order mark is not
/// part of the text.
pub fn decode(bytes: &[u8], content_type: Option<&str>) -> (String, Charset) {
    let (encoding, source) = choose(bytes, content_type);
    let text = match encoding.decode_with_bom_removal(bytes).0 {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    };
    let name = encoding.name();
    (text, Charset { name, source })
}

fn choose(bytes: &[u8], content_type: Option<&str>) -> (&'static Encoding, Source) {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return (encoding, Source::Bom);
    }
    let meta = || {
        let head = |len: usize| &bytes[..bytes.len().min(len)];
        prescan(head(PRESCAN_BYTES)).or_else(|| prescan(head(LENIENT_PRESCAN_BYTES)))
    };
    let header =
        content_type.and_then(|value| charset_in(value.as_bytes())).and_then(Encoding::for_label_no_replacement);
    if let Some(header) = header {
        // A server that labels everything with its default, in front of a page that knows better.
        // The bytes decide: text in a single-byte encoding is hardly ever valid UTF-8 by chance
        // once it leaves ASCII, so with the page's own word there are two witnesses against one.
        if header.is_single_byte() && !bytes.is_ascii() && is_utf8(bytes) && meta() == Some(UTF_8) {
            return (UTF_8, Source::Meta);
        }
        return (header, Source::Header);
    }
    match meta() {
        Some(encoding) => (encoding, Source::Meta),
        None => detect(bytes),
    }
}

fn detect(bytes: &[u8]) -> (&'static Encoding, Source) {
    // ISO-2022-JP is ASCII but for its escapes.
    if bytes.is_ascii() && !bytes.contains(&0x1b) {
        return (UTF_8, Source::Default);
    }
    if !bytes.is_ascii() && is_utf8(bytes) {
        return (UTF_8, Source::Detected);
    }
    // Start where the text leaves ASCII, or a long script would be all that is judged.
    let foreign = |b: &u8| !b.is_ascii() || *b == 0x1b;
    let first = bytes.iter().position(foreign).unwrap_or(0);
    let sample = &bytes[first.saturating_sub(PRESCAN_BYTES)..];
    let whole = sample.len() <= DETECT_BYTES;
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(&sample[..sample.len().min(DETECT_BYTES)], whole);
    match detector.guess(None, Utf8Detection::Allow) {
        encoding if encoding == UTF_8 && bytes.is_ascii() => (UTF_8, Source::Default),
        encoding => (encoding, Source::Detected),
    }
}

/// Valid UTF-8, or cut off inside its last character as a body at its size limit is.
fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::{EUC_KR, GBK, ISO_2022_JP, SHIFT_JIS, WINDOWS_1251, WINDOWS_1252};
    use proptest::prelude::*;

    const RUSSIAN: &str = "Съешь же ещё этих мягких французских булок, да выпей чаю.";
    const JAPANESE: &str = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。";
    const KOREAN: &str = "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.";
    const CHINESE: &str = "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。";

    fn bytes(encoding: &'static Encoding, text: &str) -> Vec<u8> {
        encoding.encode(text).0.into_owned()
    }

    fn source(bytes: &[u8], content_type: Option<&str>) -> (&'static str, Source) {
        let charset = decode(bytes, content_type).1;
        (charset.name, charset.source)
    }

    #[test]
    fn a_mark_wins_over_everything_and_is_not_text() {
        let (text, charset) = decode(b"\xef\xbb\xbf<meta charset=gbk>\xc3\xa9", Some("text/html; charset=koi8-r"));
        assert_eq!(text, "<meta charset=gbk>é");
        assert_eq!((charset.name, charset.source), ("UTF-8", Source::Bom));
        assert_eq!(decode(b"\xff\xfeh\0i\0", None).0, "hi");
        assert_eq!(decode(b"\xfe\xff\0h\0i", None).0, "hi");
    }

    #[test]
    fn the_header_comes_next() {
        let body = bytes(WINDOWS_1251, RUSSIAN);
        let (text, charset) = decode(&body, Some("text/html; charset=cp1251"));
        assert_eq!(text, RUSSIAN);
        assert_eq!((charset.name, charset.source), ("windows-1251", Source::Header));
        let (name, from) = source(b"<meta charset=gbk>", Some("text/html; charset=latin1"));
        assert_eq!((name, from), ("windows-1252", Source::Header));
    }

    #[test]
    fn unknown_labels_count_as_absent() {
        let body = b"<meta charset=utf-8>";
        assert_eq!(source(body, Some("text/html; charset=wat")), ("UTF-8", Source::Meta));
        assert_eq!(source(body, Some("text/html; charset=hz-gb-2312")), ("UTF-8", Source::Meta));
    }

    #[test]
    fn two_witnesses_outvote_a_header() {
        let latin = Some("text/html; charset=iso-8859-1");
        let page = "<meta charset=utf-8>naïve";
        assert_eq!(decode(page.as_bytes(), latin).0, page);
        assert_eq!(source(page.as_bytes(), latin), ("UTF-8", Source::Meta));
        // Without the page's word, with a page that is not UTF-8, or in ASCII, the header stands.
        assert_eq!(source("naïve".as_bytes(), latin).1, Source::Header);
        assert_eq!(source(b"<meta charset=utf-8>na\xefve", latin).1, Source::Header);
        assert_eq!(source(b"<meta charset=utf-8>naive", latin).1, Source::Header);
        let multi = Some("text/html; charset=gbk");
        assert_eq!(source(page.as_bytes(), multi), ("GBK", Source::Header));
    }

    #[test]
    fn meta_is_found_late_too() {
        let meta = "<meta charset=windows-1251>";
        for padding in [0, 1_100, 3_900] {
            let page = format!("<script>{}</script>{meta}{RUSSIAN}", " ".repeat(padding));
            let (text, charset) = decode(&bytes(WINDOWS_1251, &page), None);
            assert_eq!(text, page);
            assert_eq!(charset.source, Source::Meta);
        }
    }

    #[test]
    fn bytes_tell_when_nobody_does() {
        for (encoding, text, name) in [
            (WINDOWS_1251, RUSSIAN, "windows-1251"),
            (WINDOWS_1252, "Où est passé l'été ? À côté de la forêt.", "windows-1252"),
            (SHIFT_JIS, JAPANESE, "Shift_JIS"),
            (ISO_2022_JP, JAPANESE, "ISO-2022-JP"),
            (EUC_KR, KOREAN, "EUC-KR"),
            (GBK, CHINESE, "GBK"),
            (UTF_8, JAPANESE, "UTF-8"),
        ] {
            let (decoded, charset) = decode(&bytes(encoding, text), Some("text/html"));
            assert_eq!((charset.name, charset.source), (name, Source::Detected));
            assert_eq!(decoded, text);
        }
        assert_eq!(source(b"plain", None), ("UTF-8", Source::Default));
        assert_eq!(source(b"", None), ("UTF-8", Source::Default));
    }

    #[test]
    fn detection_looks_where_the_text_is() {
        let mut body = vec![b' '; DETECT_BYTES * 2];
        body.extend(bytes(WINDOWS_1251, &RUSSIAN.repeat(20)));
        assert_eq!(source(&body, None), ("windows-1251", Source::Detected));
    }

    #[test]
    fn a_cut_character_does_not_change_the_encoding() {
        let cut = &JAPANESE.as_bytes()[..JAPANESE.len() - 1];
        assert_eq!(source(cut, None), ("UTF-8", Source::Detected));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_text(body in proptest::collection::vec(any::<u8>(), 0..300), header in proptest::option::of("text/html; ?charset=[a-z0-9-]{0,8}")) {
            decode(&body, header.as_deref());
        }

        #[test]
        fn utf8_is_read_as_utf8(text in "\\PC{1,80}") {
            prop_assert_eq!(decode(text.as_bytes(), Some("text/plain; charset=UTF-8")).0, text.trim_start_matches('\u{feff}'));
        }
    }
}
