//! What a body is, from its declared type and its first bytes.
//!
//! The essentials of the WHATWG MIME Sniffing standard: a declared type is believed unless it is missing, says
//! nothing (`application/octet-stream`, `unknown/unknown`, `*/*`, `text/plain` of binary bytes), or a magic number
//! contradicts it. Unlike a browser, this never runs what it reads, so a magic number may win over a declared type.

/// What to do with a body depends on which of these it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// HTML.
    Html,
    /// XHTML: extracted as HTML.
    Xhtml,
    /// Any other XML, feeds and sitemaps among them.
    Xml,
    /// Text as it is.
    PlainText,
    /// PDF.
    Pdf,
    /// A picture.
    Image,
    /// JSON.
    Json,
    /// A document, sheet or presentation of an office program, RTF and EPUB included.
    Office,
    /// Compressed or packed files.
    Archive,
    /// Sound, film, fonts.
    Media,
    /// Nothing known, binary.
    Other,
}

impl Kind {
    /// The name for records, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Xhtml => "xhtml",
            Self::Xml => "xml",
            Self::PlainText => "plain-text",
            Self::Pdf => "pdf",
            Self::Image => "image",
            Self::Json => "json",
            Self::Office => "office",
            Self::Archive => "archive",
            Self::Media => "media",
            Self::Other => "other",
        }
    }
}

/// How many bytes of a body are looked at (the standard's "resource header").
pub const HEADER_BYTES: usize = 1_445;

/// The kind of a body from its `Content-Type` value and its first bytes (any number; [`HEADER_BYTES`] are enough).
pub fn sniff(content_type: Option<&str>, body: &[u8]) -> Kind {
    let head = &body[..body.len().min(HEADER_BYTES)];
    let essence =
        content_type.and_then(|value| value.split([';', ',']).next()).unwrap_or("").trim().to_ascii_lowercase();
    let declared = declared(&essence);
    let magic = magic(head);
    match (declared, magic) {
        // Office files are archives by their bytes; only the declared type (or the file list) tells.
        (Some(Kind::Office), Some(Kind::Archive)) => Kind::Office,
        // SVG is XML and HTML may open with "<?xml"; for these the declared type knows better.
        (Some(kind), Some(Kind::Html | Kind::Xml | Kind::Xhtml)) if kind != Kind::PlainText => kind,
        // Markdown and source code may start with a tag.
        (Some(Kind::PlainText), Some(Kind::Html | Kind::Xml | Kind::Xhtml)) => Kind::PlainText,
        (_, Some(kind)) => kind,
        (Some(Kind::PlainText), None) if is_binary(head) => Kind::Other,
        (Some(kind), None) => kind,
        (None, None) if is_binary(head) || (!essence.is_empty() && !is_unknown(&essence)) => Kind::Other,
        (None, None) if looks_like_json(head) => Kind::Json,
        (None, None) => Kind::PlainText,
    }
}

fn is_unknown(essence: &str) -> bool {
    let vague = ["application/octet-stream", "binary/octet-stream", "unknown/unknown", "application/unknown", "*/*"];
    vague.contains(&essence) || !essence.contains('/')
}

/// None when the type says nothing.
fn declared(essence: &str) -> Option<Kind> {
    if is_unknown(essence) {
        return None;
    }
    let (top, sub) = essence.split_once('/')?;
    let office =
        ["msword", "rtf", "epub+zip", "vnd.ms-", "vnd.openxmlformats-officedocument", "vnd.oasis.opendocument"];
    let packed = [
        "zip",
        "gzip",
        "x-gzip",
        "x-tar",
        "x-7z-compressed",
        "x-rar",
        "vnd.rar",
        "x-bzip",
        "zstd",
        "x-xz",
        "java-archive",
    ];
    Some(match (top, sub) {
        (_, "html") => Kind::Html,
        (_, "xhtml+xml") => Kind::Xhtml,
        (_, "pdf" | "x-pdf") => Kind::Pdf,
        (_, "json") => Kind::Json,
        ("image", _) => Kind::Image,
        ("audio" | "video" | "font", _) => Kind::Media,
        (_, sub) if office.iter().any(|known| sub.starts_with(known)) => Kind::Office,
        (_, sub) if sub == "xml" || sub.ends_with("+xml") => Kind::Xml,
        (_, sub) if sub.ends_with("+json") || sub == "x-ndjson" || sub == "ld+json" => Kind::Json,
        ("application", sub) if packed.iter().any(|known| sub.starts_with(known)) => Kind::Archive,
        ("text", _) => Kind::PlainText,
        _ => return None,
    })
}

/// What the first bytes cannot but be.
fn magic(head: &[u8]) -> Option<Kind> {
    const STARTS: &[(&[u8], Kind)] = &[
        (b"%PDF-", Kind::Pdf),
        (b"\x89PNG\r\n\x1a\n", Kind::Image),
        (b"\xff\xd8\xff", Kind::Image),
        (b"GIF87a", Kind::Image),
        (b"GIF89a", Kind::Image),
        (b"II*\0", Kind::Image),
        (b"MM\0*", Kind::Image),
        (b"\0\0\x01\0", Kind::Image),
        (b"{\\rtf", Kind::Office),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind::Office),
        (b"\x1f\x8b\x08", Kind::Archive),
        (b"Rar!\x1a\x07", Kind::Archive),
        (b"7z\xbc\xaf\x27\x1c", Kind::Archive),
        (b"BZh", Kind::Archive),
        (b"\xfd7zXZ\0", Kind::Archive),
        (b"\x28\xb5\x2f\xfd", Kind::Archive),
        (b"OggS\0", Kind::Media),
        (b"ID3", Kind::Media),
        (b"fLaC", Kind::Media),
        (b"\x1a\x45\xdf\xa3", Kind::Media),
        (b"MThd\0\0\0\x06", Kind::Media),
        (b"wOFF", Kind::Media),
        (b"wOF2", Kind::Media),
    ];
    if let Some((_, kind)) = STARTS.iter().find(|(start, _)| head.starts_with(start)) {
        return Some(*kind);
    }
    if head.starts_with(b"PK\x03\x04") {
        return Some(if is_office_zip(head) { Kind::Office } else { Kind::Archive });
    }
    match (head.get(..4), head.get(4..12)) {
        (Some(b"RIFF"), Some(form)) if form.ends_with(b"WEBP") => return Some(Kind::Image),
        (Some(b"RIFF"), Some(_)) => return Some(Kind::Media),
        (_, Some(form)) if form.starts_with(b"ftypavif") || form.starts_with(b"ftypheic") => return Some(Kind::Image),
        (_, Some(form)) if form.starts_with(b"ftyp") => return Some(Kind::Media),
        _ => {}
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(Kind::Archive);
    }
    markup(head)
}

fn is_office_zip(head: &[u8]) -> bool {
    let marks: [&[u8]; 6] = [
        b"[Content_Types].xml",
        b"word/",
        b"xl/",
        b"ppt/",
        b"mimetypeapplication/vnd.oasis",
        b"mimetypeapplication/epub",
    ];
    marks.iter().any(|mark| memchr::memmem::find(head, mark).is_some())
}

fn markup(head: &[u8]) -> Option<Kind> {
    // The standard's list of tags, each followed by a space or '>'.
    const TAGS: [&str; 17] = [
        "!doctype html",
        "html",
        "head",
        "script",
        "iframe",
        "h1",
        "div",
        "font",
        "table",
        "a",
        "style",
        "title",
        "b",
        "body",
        "br",
        "p",
        "meta",
    ];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if text.starts_with(b"<!--") {
        return Some(Kind::Html);
    }
    if text.starts_with(b"<?xml") {
        let xhtml = memchr::memmem::find(text, b"<html").is_some();
        return Some(if xhtml { Kind::Xhtml } else { Kind::Xml });
    }
    let rest = text.strip_prefix(b"<")?;
    let known = TAGS.iter().any(|tag| {
        rest.get(..tag.len()).is_some_and(|name| name.eq_ignore_ascii_case(tag.as_bytes()))
            && rest.get(tag.len()).is_none_or(|next| next.is_ascii_whitespace() || *next == b'>')
    });
    known.then_some(Kind::Html)
}

/// A byte that no text in any encoding of the web holds (the standard's "binary data byte"); UTF-16 has a mark.
fn is_binary(head: &[u8]) -> bool {
    let marked = head.starts_with(b"\xfe\xff") || head.starts_with(b"\xff\xfe");
    !marked && head.iter().any(|b| matches!(b, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f))
}

fn looks_like_json(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    match text.first() {
        Some(b'{') => matches!(text[1..].trim_ascii_start().first(), Some(b'"' | b'}')),
        Some(b'[') => matches!(text[1..].trim_ascii_start().first(), Some(b'"' | b'{' | b'[' | b']' | b'0'..=b'9')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn types_and_bytes() {
        let cases: [(Option<&str>, &[u8], Kind); 24] = [
            (Some("text/html; charset=utf-8"), b"anything", Kind::Html),
            (Some("TEXT/HTML"), b"%PDF-1.7", Kind::Pdf),
            (Some("text/html"), b"<?xml version='1.0'?><html>", Kind::Html),
            (Some("application/xhtml+xml"), b"<?xml ?><html>", Kind::Xhtml),
            (Some("application/rss+xml"), b"<?xml ?><rss>", Kind::Xml),
            (Some("image/svg+xml"), b"<?xml ?><svg>", Kind::Image),
            (None, b"  <!DOCTYPE HTML><p>", Kind::Html),
            (None, b"\xef\xbb\xbf<p>x", Kind::Html),
            (None, b"<pre>", Kind::PlainText),
            (None, b"<?xml version='1.0'?><urlset>", Kind::Xml),
            (None, b"hello", Kind::PlainText),
            (None, b"", Kind::PlainText),
            (None, b"he\0llo", Kind::Other),
            (Some("text/plain"), b"he\0llo", Kind::Other),
            (Some("text/plain"), b"<html>shown", Kind::PlainText),
            (Some("text/plain"), b"\xff\xfeh\0i\0", Kind::PlainText),
            (Some("application/octet-stream"), b"\x89PNG\r\n\x1a\n", Kind::Image),
            (Some("application/json"), b"{}", Kind::Json),
            (None, b" {\"a\":1}", Kind::Json),
            (None, b"PK\x03\x04......[Content_Types].xml", Kind::Office),
            (Some("application/vnd.oasis.opendocument.text"), b"PK\x03\x04zz", Kind::Office),
            (Some("application/zip"), b"PK\x03\x04zz", Kind::Archive),
            (Some("video/mp4"), b"\0\0\0\x18ftypmp42", Kind::Media),
            (Some("application/x-thing"), b"text", Kind::Other),
        ];
        for (declared, body, kind) in cases {
            assert_eq!(sniff(declared, body), kind, "{declared:?} {:?}", String::from_utf8_lossy(body));
        }
    }

    proptest! {
        #[test]
        fn never_panics(declared in proptest::option::of("\\PC{0,30}"), body: Vec<u8>) {
            let _ = sniff(declared.as_deref(), &body);
        }
    }
}
