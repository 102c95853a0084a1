//! A tokenizer for markup as it comes: one pass, no tree, no allocation.
//!
//! It follows the states of the HTML standard's tokenizer (13.2.5) as far as finding the borders of tags,
//! comments and raw text needs; it never backs up over what it has read, so its time is linear whatever the input.
//! The tree ([`super::tree`]) and the metadata readers share it.

use memchr::{memchr, memmem};

/// One piece of a document; all slices borrow from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// A start tag.
    Start(Tag<'a>),
    /// An end tag: its name as written.
    End(&'a str),
    /// Character data, entities not decoded. `raw` is true inside script, style and the like, where markup means nothing.
    Text { text: &'a str, raw: bool },
    /// A comment, doctype, processing instruction or bogus comment.
    Other,
}

/// A start tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The name as written; compare without case.
    pub name: &'a str,
    /// Everything between the name and the closing `>`.
    pub attributes: &'a str,
    /// Ends in `/>`.
    pub self_closing: bool,
}

impl<'a> Tag<'a> {
    /// Is this the tag `name` (lower case)?
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The attributes in order, names as written, values without quotes and not decoded.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.attributes)
    }

    /// The raw value of the first attribute `name` (lower case), of the first `MANY` attributes.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes().get(name)
    }
}

/// No honest tag has more attributes; the readers look no further.
pub const MANY: usize = 256;

/// Iterator over (name, raw value); see [`Tag::attributes`].
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a str,
}

impl<'a> Attributes<'a> {
    /// Those of `text`, what stands between a tag's name and its `>`.
    pub fn of(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The raw value of the first attribute `name` (lower case), of the first `MANY` attributes.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.clone().take(MANY).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.trim_start_matches(|c: char| is_space(c) || c == '/');
        if rest.is_empty() {
            self.rest = rest;
            return None;
        }
        // A name may start with '=' (a parse error in the standard, yet a name).
        let bytes = rest.as_bytes();
        let end = 1 + bytes[1..]
            .iter()
            .position(|b| is_space_byte(*b) || matches!(b, b'/' | b'='))
            .unwrap_or(bytes.len() - 1);
        let end = ceil_boundary(rest, end);
        let (name, after) = rest.split_at(end);
        let Some(value) = after.trim_start_matches(is_space).strip_prefix('=') else {
            self.rest = after;
            return Some((name, ""));
        };
        let value = value.trim_start_matches(is_space);
        for quote in ['"', '\''] {
            if let Some(inner) = value.strip_prefix(quote) {
                let (inner, after) = inner.split_once(quote).unwrap_or((inner, ""));
                self.rest = after;
                return Some((name, inner));
            }
        }
        let (value, after) = value.split_at(value.find(is_space).unwrap_or(value.len()));
        self.rest = after;
        Some((name, value))
    }
}

/// Iterator over the tokens of a document, each with the byte range it spans.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    html: &'a str,
    at: usize,
    /// The raw-text element whose content comes next.
    raw: Option<&'a str>,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `html`.
    pub fn new(html: &'a str) -> Self {
        Self { html, at: 0, raw: None }
    }

    fn text_until(&mut self, end: usize, raw: bool) -> (Token<'a>, std::ops::Range<usize>) {
        let range = self.at..end;
        self.at = end;
        (Token::Text { text: &self.html[range.clone()], raw }, range)
    }

    fn other_until(&mut self, end: usize) -> (Token<'a>, std::ops::Range<usize>) {
        let range = self.at..end;
        self.at = end;
        (Token::Other, range)
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = (Token<'a>, std::ops::Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.html.as_bytes();
        if let Some(name) = self.raw.take() {
            let end = raw_text_end(bytes, self.at, name);
            if end > self.at {
                return Some(self.text_until(end, true));
            }
        }
        if self.at >= bytes.len() {
            return None;
        }
        let from = self.at;
        if bytes[from] != b'<' || !opens_markup(bytes.get(from + 1)) {
            // A '<' that opens nothing is text, together with what follows it.
            let mut next = from + 1;
            while let Some(found) = memchr(b'<', &bytes[next.min(bytes.len())..]) {
                next += found;
                if opens_markup(bytes.get(next + 1)) {
                    return Some(self.text_until(next, false));
                }
                next += 1;
            }
            return Some(self.text_until(bytes.len(), false));
        }
        let after = |what: Option<usize>, start: usize, len: usize| what.map_or(bytes.len(), |i| start + i + len);
        match bytes[from + 1] {
            b'!' if bytes[from..].starts_with(b"<!--") => {
                let body = from + 4;
                // "<!-->" and "<!--->" are whole comments.
                let end = if bytes[body..].starts_with(b">") {
                    body + 1
                } else if bytes[body..].starts_with(b"->") {
                    body + 2
                } else {
                    let closed = memmem::find(&bytes[body..], b"-->");
                    after(closed, body, 3)
                };
                Some(self.other_until(end))
            }
            b'!' | b'?' => Some(self.other_until(after(memchr(b'>', &bytes[from..]), from, 1))),
            b'/' if !bytes.get(from + 2).is_some_and(u8::is_ascii_alphabetic) => {
                Some(self.other_until(after(memchr(b'>', &bytes[from..]), from, 1)))
            }
            slash => {
                let start = if slash == b'/' { from + 2 } else { from + 1 };
                let name_end = bytes[start..]
                    .iter()
                    .position(|b| is_space_byte(*b) || matches!(b, b'/' | b'>'))
                    .map_or(bytes.len(), |i| start + i);
                let Some(close) = tag_end(bytes, name_end) else {
                    // The document ends inside the tag: the standard drops it.
                    return Some(self.other_until(bytes.len()));
                };
                let name = &self.html[start..name_end];
                let range = from..close + 1;
                self.at = close + 1;
                if slash == b'/' {
                    return Some((Token::End(name), range));
                }
                let attributes = &self.html[name_end..close];
                if is_raw_text(name) {
                    self.raw = Some(name);
                }
                let self_closing = attributes.ends_with('/');
                Some((Token::Start(Tag { name, attributes, self_closing }), range))
            }
        }
    }
}

/// Is the content of this element raw text (or escapable raw text), so that tags inside it are none?
pub fn is_raw_text(name: &str) -> bool {
    const RAW: [&str; 8] = ["script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"];
    RAW.iter().any(|raw| name.eq_ignore_ascii_case(raw))
}

fn opens_markup(next: Option<&u8>) -> bool {
    next.is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'!' | b'/' | b'?'))
}

/// Where the tag's `>` is, quotes respected only where a value starts (as the standard does).
fn tag_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    // True between '=' and the value.
    let mut expects_value = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'>' => return Some(at),
            b'"' | b'\'' if expects_value => {
                at += 1 + memchr(byte, &bytes[at + 1..])?;
                expects_value = false;
            }
            b'=' => expects_value = !expects_value,
            _ if is_space_byte(byte) => {}
            _ => expects_value = false,
        }
        at += 1;
    }
    None
}

/// Where the raw text of the element `name` ends: at its end tag, or with the document.
fn raw_text_end(bytes: &[u8], mut at: usize, name: &str) -> usize {
    while let Some(found) = memmem::find(&bytes[at..], b"</") {
        let start = at + found + 2;
        let end = start + name.len();
        let same = bytes.get(start..end).is_some_and(|b| b.eq_ignore_ascii_case(name.as_bytes()));
        if same && bytes.get(end).is_none_or(|b| is_space_byte(*b) || matches!(b, b'/' | b'>')) {
            return start - 2;
        }
        at = start;
    }
    bytes.len()
}

fn is_space(c: char) -> bool {
    c.is_ascii() && is_space_byte(c as u8)
}

fn is_space_byte(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

fn ceil_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brief(html: &str) -> Vec<String> {
        Scanner::new(html)
            .map(|(token, _)| match token {
                Token::Start(tag) => format!("<{}|{}>", tag.name, tag.attributes.trim()),
                Token::End(name) => format!("</{name}>"),
                Token::Text { text, raw } => format!("{}{text}", if raw { "raw:" } else { "" }),
                Token::Other => "!".to_owned(),
            })
            .collect()
    }

    #[test]
    fn splits_a_page() {
        assert_eq!(
            brief("<!doctype html><p class='a>b'>x < y</p><!-- <i> --><br/>"),
            ["!", "<p|class='a>b'>", "x < y", "</p>", "!", "<br|/>"]
        );
    }

    #[test]
    fn raw_text_ends_only_at_its_own_end_tag() {
        assert_eq!(
            brief("<script>if (a</b) '</scripty>'</SCRIPT >x"),
            ["<script|>", "raw:if (a</b) '</scripty>'", "</SCRIPT>", "x"]
        );
        assert_eq!(brief("<style>a"), ["<style|>", "raw:a"]);
    }

    #[test]
    fn ends_inside_a_tag_or_comment() {
        assert_eq!(brief("a<b c='"), ["a", "!"]);
        assert_eq!(brief("<!-- x"), ["!"]);
        assert_eq!(brief("<!-->x"), ["!", "x"]);
        assert_eq!(brief("a<"), ["a<"]);
    }

    #[test]
    fn reads_attributes() {
        let Some((Token::Start(tag), _)) = Scanner::new("<a HREF = x/y checked q=\"1 2\"z='3' /é=4>").next() else {
            unreachable!("the input starts with a tag")
        };
        let all: Vec<_> = tag.attributes().collect();
        assert_eq!(all, [("HREF", "x/y"), ("checked", ""), ("q", "1 2"), ("z", "3"), ("é", "4")]);
        assert_eq!(tag.get("href"), Some("x/y"));
    }

    proptest! {
        #[test]
        fn tokens_tile_the_input(html in "[<>/!a-c =\"'é\\-\n]{0,80}|(<script>|</script>|<a href=|<!--|-->|\"|x|>){0,20}") {
            let mut at = 0;
            for (token, range) in Scanner::new(&html) {
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > at);
                at = range.end;
                if let Token::Start(tag) = token {
                    prop_assert!(tag.attributes().count() <= tag.attributes.len());
                }
            }
            prop_assert_eq!(at, html.len());
        }
    }
}
