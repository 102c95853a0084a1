//! What a document says of its own encoding, read before it can be decoded: the "prescan a byte
//! stream" algorithm of the HTML standard (section 13.2.3.2), and the XML declaration.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// The encoding that a `meta` element in `head` names, else the one of an XML declaration at its
/// start. As the standard has it, UTF-16 in a document that could be read so far must be UTF-8.
pub(super) fn prescan(head: &[u8]) -> Option<&'static Encoding> {
    let mut rest = head;
    while let Some(at) = rest.iter().position(|b| *b == b'<') {
        rest = &rest[at..];
        if rest.starts_with(b"<!--") {
            // From the second dash on: `<!-->` is a whole comment.
            match rest[2..].windows(3).position(|w| w == b"-->") {
                Some(end) => rest = &rest[2 + end + 3..],
                None => break,
            }
        } else if is_meta(rest) {
            let mut attributes = Attributes { rest: &rest[5..] };
            if let Some(encoding) = meta_encoding(&mut attributes) {
                return Some(encoding);
            }
            rest = attributes.rest;
        } else if rest.get(1).is_some_and(u8::is_ascii_alphabetic)
            || (rest.get(1) == Some(&b'/') && rest.get(2).is_some_and(u8::is_ascii_alphabetic))
        {
            let name = |b: &u8| !(b.is_ascii_whitespace() || *b == b'>');
            let end = rest.iter().position(|b| !name(b)).unwrap_or(rest.len());
            // Quoted values may hold `<meta`; walking over attributes skips them.
            let mut attributes = Attributes { rest: &rest[end..] };
            attributes.by_ref().for_each(drop);
            rest = attributes.rest;
        } else if matches!(rest.get(1), Some(b'!' | b'/' | b'?')) {
            let end = rest.iter().position(|b| *b == b'>').unwrap_or(rest.len());
            rest = &rest[end..];
        } else {
            rest = &rest[1..];
        }
    }
    xml_declaration(head)
}

fn is_meta(tag: &[u8]) -> bool {
    tag.get(1..5).is_some_and(|name| name.eq_ignore_ascii_case(b"meta"))
        && tag.get(5).is_some_and(|b| b.is_ascii_whitespace() || *b == b'/')
}

fn meta_encoding(attributes: &mut Attributes) -> Option<&'static Encoding> {
    let (mut http_equiv, mut charset, mut content) = (false, None, None);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for (name, value) in attributes {
        // The first of equal attributes counts. A meta with more than these three is never the one
        // looked for, so the list stays short.
        if !matches!(name.as_slice(), b"http-equiv" | b"content" | b"charset") || seen.contains(&name) {
            continue;
        }
        match name.as_slice() {
            b"http-equiv" => http_equiv = value == b"content-type",
            b"charset" => charset = Some(label(&value)),
            _ => content = charset_in(&value).map(label),
        }
        seen.push(name);
    }
    // `content` counts only beside http-equiv; `charset` wins over it.
    charset.or(content.filter(|_| http_equiv)).flatten()
}

/// The encoding of a label found in a document.
fn label(label: &[u8]) -> Option<&'static Encoding> {
    match Encoding::for_label_no_replacement(label)? {
        encoding if encoding.name().starts_with("UTF-16") => Some(UTF_8),
        encoding if encoding.name() == "x-user-defined" => Some(WINDOWS_1252),
        encoding => Some(encoding),
    }
}

/// The value of `charset=` in a Content-Type ("extracting a character encoding from a meta
/// element", section 2.4.3 of the HTML standard).
pub(super) fn charset_in(content: &[u8]) -> Option<&[u8]> {
    let mut rest = content;
    loop {
        let at = rest.windows(7).position(|w| w.eq_ignore_ascii_case(b"charset"))?;
        rest = rest[at + 7..].trim_ascii_start();
        if let Some(value) = rest.strip_prefix(b"=") {
            let value = value.trim_ascii_start();
            return match value.first()? {
                quote @ (b'"' | b'\'') => {
                    let value = &value[1..];
                    value.iter().position(|b| b == quote).map(|end| &value[..end])
                }
                _ => value.split(|b| b.is_ascii_whitespace() || matches!(b, b';' | b',')).next(),
            };
        }
    }
}

/// `encoding="…"` of `<?xml … ?>` at the very start.
fn xml_declaration(head: &[u8]) -> Option<&'static Encoding> {
    if !head.starts_with(b"<?xml") {
        return None;
    }
    let declaration = &head[..head.iter().position(|b| *b == b'>')?];
    let at = declaration.windows(8).position(|w| w == b"encoding")?;
    let value = declaration[at + 8..].trim_ascii_start();
    let value = value.strip_prefix(b"=")?.trim_ascii_start();
    let (quote, value) = value.split_first()?;
    let end = value.iter().position(|b| b == quote)?;
    label(value[..end].trim_ascii()).filter(|_| matches!(quote, b'"' | b'\''))
}

/// Attributes of a tag, names and values in lower case; ends behind the tag's `>` ("get an
/// attribute", section 13.2.3.2).
struct Attributes<'a> {
    rest: &'a [u8],
}

impl Attributes<'_> {
    /// Takes bytes while `wanted`, in lower case.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> Vec<u8> {
        let end = self.rest.iter().position(|b| !wanted(*b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_ascii_lowercase()
    }

    fn skip_white_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

impl Iterator for Attributes<'_> {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        while let [b'/' | b'\t' | b'\n' | b'\x0c' | b'\r' | b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let (first, _) = self.rest.split_first()?;
        if *first == b'>' {
            self.rest = &self.rest[1..];
            return None;
        }
        let ends_name = |b: u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'>' | b'=');
        let mut name = Vec::new();
        if *first == b'=' {
            // A name may begin with, but not contain, an equals sign.
            name.push(b'=');
            self.rest = &self.rest[1..];
        }
        name.extend(self.take_while(|b| !ends_name(b)));
        self.skip_white_space();
        let Some(value) = self.rest.strip_prefix(b"=") else {
            return Some((name, Vec::new()));
        };
        self.rest = value;
        self.skip_white_space();
        let value = match self.rest.split_first() {
            Some((quote @ (b'"' | b'\''), rest)) => {
                self.rest = rest;
                let value = self.take_while(|b| b != *quote);
                self.rest = self.rest.get(1..).unwrap_or_default();
                value
            }
            _ => self.take_while(|b| !(b.is_ascii_whitespace() || b == b'>')),
        };
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(head: &str) -> Option<&'static str> {
        prescan(head.as_bytes()).map(Encoding::name)
    }

    #[test]
    fn finds_what_the_standard_finds() {
        for (head, expected) in [
            ("<meta charset=utf-8>", Some("UTF-8")),
            ("<META CHARSET = 'Shift_JIS' />", Some("Shift_JIS")),
            ("<meta/charset=\"latin1\">", Some("windows-1252")),
            ("<meta http-equiv=Content-Type content='text/html; charset=koi8-r'>", Some("KOI8-R")),
            ("<meta content=\"text/html;charset = 'gbk'\" http-equiv=\"content-type\">", Some("GBK")),
            ("<meta content='text/html; charset=koi8-r'>", None),
            ("<meta charset=utf-16le>", Some("UTF-8")),
            ("<meta charset=x-user-defined>", Some("windows-1252")),
            ("<meta charset=nonsense><meta charset=big5>", Some("Big5")),
            ("<meta charset=big5 charset=gbk>", Some("Big5")),
            ("<!-- <meta charset=gbk> --><meta charset=big5>", Some("Big5")),
            ("<!--><meta charset=big5>", Some("Big5")),
            ("<p title='<meta charset=gbk>'><meta charset=big5>", Some("Big5")),
            ("</p title='<meta charset=gbk>'><meta charset=big5>", Some("Big5")),
            ("<!doctype html><?x?><meta charset=big5>", Some("Big5")),
            ("<metadata charset=gbk>", None),
            ("< meta charset=gbk>", None),
            ("<?xml version='1.0' encoding='windows-1251'?><rss>", Some("windows-1251")),
            ("<?xml version='1.0' encoding='gbk'?><meta charset=big5>", Some("Big5")),
            (" <?xml version='1.0' encoding='windows-1251'?>", None),
            ("<meta charset=\"utf-8", Some("UTF-8")),
            ("", None),
        ] {
            assert_eq!(name(head), expected, "{head}");
        }
    }

    #[test]
    fn content_type_parameter() {
        for (content, expected) in [
            ("text/html; charset=utf-8", Some("utf-8")),
            ("text/html;CHARSET=\"utf-8\"", Some("utf-8")),
            ("text/html; charset=utf-8, text/plain", Some("utf-8")),
            ("text/html; charsets; charset = 'x'", Some("x")),
            ("text/html; charset=\"open", None),
            ("text/html; charset=", None),
            ("text/html", None),
        ] {
            assert_eq!(charset_in(content.as_bytes()), expected.map(str::as_bytes), "{content}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(head in "(<|>|!|-|/|\\?|meta |charset|=|'|\"|xml|encoding|http-equiv|content|x| ){0,24}") {
            prescan(head.as_bytes());
            charset_in(head.as_bytes());
        }
    }
}
