//! One pass over the markup that notes every statement a page makes of itself.

use std::collections::HashSet;

use url::Url;

use crate::extract::elements;
use crate::extract::scan::{Scanner, Tag, Token};

/// Links kept of one page.
pub const MAX_LINKS: usize = 2_000;
/// Characters kept of a link's text.
const MAX_LINK_TEXT: usize = 200;
/// Bytes kept of any other text.
const MAX_TEXT: usize = 1_000;
/// Bytes of JSON-LD read, all blocks together.
const MAX_JSON_LD: usize = 1 << 20;
/// Statements kept of one sort.
const MAX_STATEMENTS: usize = 200;

/// A link to another document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Absolute http or https address without a fragment.
    pub url: String,
    /// The words it stands on, at most 200 characters.
    pub text: String,
    /// `rel` asks not to vouch for it.
    pub nofollow: bool,
}

/// What a page says of itself, in document order, entities decoded, not yet judged.
#[derive(Debug, Default)]
pub struct Statements {
    /// `lang` of the root element.
    pub language: Option<String>,
    /// `href` of the first `base`.
    pub base: Option<String>,
    /// `href` of `link rel=canonical`.
    pub canonical: Option<String>,
    /// The `title` element.
    pub title: Option<String>,
    /// First-level headings.
    pub headings: Vec<String>,
    /// `meta`: name, property, itemprop or http-equiv in lower case, and content.
    pub metas: Vec<(String, String)>,
    /// Bodies of JSON-LD scripts.
    pub json_ld: Vec<String>,
    /// Text of elements marked as author (`rel`, `itemprop`), then of elements whose class says so.
    pub marked_authors: Vec<String>,
    /// Text of elements whose class speaks of a byline or author.
    pub bylines: Vec<String>,
    /// Text of links to a page of an author's, such as `/author/ana-sa`.
    pub author_links: Vec<String>,
    /// Text of elements whose class speaks of a member's name, as forums have them.
    pub users: Vec<String>,
    /// `datetime`, `content` or text of elements marked as publication date.
    pub marked_dates: Vec<String>,
    /// `datetime` or text of other `time` elements and elements whose class speaks of a date.
    pub dates: Vec<String>,
    /// `href`, text and nofollow of links.
    pub links: Vec<(String, String, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Title,
    Heading,
    MarkedAuthor,
    Byline,
    User,
    MarkedDate,
    Date,
    Link,
}

/// An element whose text is being noted.
struct Capture<'a> {
    sort: Sort,
    name: &'a str,
    nested: usize,
    text: String,
    /// Of a link: `href`, nofollow, and whether its class speaks of a member's name.
    link: Option<(String, bool, bool)>,
}

impl Statements {
    /// Reads `html` once. Time and memory are linear in its length.
    pub fn collect(html: &str) -> Self {
        let mut said = Self::default();
        let mut captures: Vec<Capture> = Vec::new();
        let mut json_ld = false;
        let mut json_left = MAX_JSON_LD;
        for (token, _) in Scanner::new(html) {
            match token {
                Token::Start(tag) => {
                    json_ld = false;
                    for capture in &mut captures {
                        capture.nested += usize::from(capture.name.eq_ignore_ascii_case(tag.name));
                        part(&mut capture.text, tag.name);
                    }
                    if tag.is("a")
                        && let Some(open) = captures.iter().position(|capture| capture.sort == Sort::Link)
                    {
                        said.note(captures.remove(open));
                    }
                    if tag.is("script") {
                        json_ld = tag
                            .get("type")
                            .is_some_and(|kind| kind.trim().to_ascii_lowercase().starts_with("application/ld+json"));
                    } else if let Some(capture) = said.statement(&tag)
                        && !captures.iter().any(|open| open.sort == capture.sort)
                    {
                        captures.push(capture);
                    }
                }
                Token::End(name) => {
                    let mut at = 0;
                    while let Some(capture) = captures.get_mut(at) {
                        if !capture.name.eq_ignore_ascii_case(name) {
                            part(&mut capture.text, name);
                            at += 1;
                        } else if capture.nested > 0 {
                            capture.nested -= 1;
                            at += 1;
                        } else {
                            let done = captures.remove(at);
                            said.note(done);
                        }
                    }
                }
                Token::Text { text, raw: true } if json_ld => {
                    if text.len() <= json_left && said.json_ld.len() < MAX_STATEMENTS {
                        json_left -= text.len();
                        said.json_ld.push(text.to_owned());
                    }
                }
                Token::Text { text, raw } => {
                    for capture in &mut captures {
                        if !raw || capture.sort == Sort::Title {
                            push(&mut capture.text, text);
                        }
                    }
                }
                Token::Other => {}
            }
        }
        for capture in captures {
            said.note(capture);
        }
        said
    }

    /// The first non-empty content of the first of `names` (lower case) that the page has.
    pub fn meta(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.metas_named(name).next().map(str::to_owned))
    }

    /// All non-empty contents of `name` (lower case).
    pub fn metas_named(&self, name: &str) -> impl Iterator<Item = &str> {
        self.metas.iter().filter(move |(key, _)| key == name).map(|(_, content)| content.as_str())
    }

    /// Notes what the tag itself says; returns a capture when its text is wanted too.
    fn statement<'a>(&mut self, tag: &Tag<'a>) -> Option<Capture<'a>> {
        let capture = |sort| Some(Capture { sort, name: tag.name, nested: 0, text: String::new(), link: None });
        match tag.name.to_ascii_lowercase().as_str() {
            "html" => {
                if self.language.is_none() {
                    self.language = value(tag, "lang").or_else(|| value(tag, "xml:lang"));
                }
                return None;
            }
            "base" if self.base.is_none() => self.base = value(tag, "href"),
            "link" => {
                if self.canonical.is_none() && has_word(tag.get("rel"), "canonical") {
                    self.canonical = value(tag, "href");
                }
                return None;
            }
            "meta" => {
                self.meta_tag(tag);
                return None;
            }
            "title" if self.title.is_none() => return capture(Sort::Title),
            "h1" if self.headings.len() < MAX_STATEMENTS => return capture(Sort::Heading),
            "a" if self.links.len() < 2 * MAX_LINKS => {
                let author = has_word(tag.get("rel"), "author") || has_word(tag.get("itemprop"), "author");
                if !author && let Some(href) = value(tag, "href") {
                    let mut link = capture(Sort::Link)?;
                    link.link = Some((href, has_word(tag.get("rel"), "nofollow"), speaks_of(tag, &USER)));
                    return Some(link);
                }
                if let Some(href) = value(tag, "href") {
                    self.links.push((href, String::new(), has_word(tag.get("rel"), "nofollow")));
                }
                return if author { capture(Sort::MarkedAuthor) } else { None };
            }
            _ => {}
        }
        if let Some(item) = tag.get("itemprop") {
            if has_word(Some(item), "author") {
                return capture(Sort::MarkedAuthor);
            }
            if has_word(Some(item), "datepublished") {
                return self.date(tag, Sort::MarkedDate);
            }
        }
        if tag.is("time") {
            let sort = if tag.get("pubdate").is_some() { Sort::MarkedDate } else { Sort::Date };
            return self.date(tag, sort);
        }
        if self.bylines.len() < MAX_STATEMENTS && speaks_of(tag, &["byline", "author"]) {
            return capture(Sort::Byline);
        }
        if self.users.len() < MAX_STATEMENTS && speaks_of(tag, &USER) {
            return capture(Sort::User);
        }
        if self.dates.len() < MAX_STATEMENTS && speaks_of(tag, &["date", "published", "pubdate", "timestamp"]) {
            return capture(Sort::Date);
        }
        None
    }

    /// A date in an attribute is noted at once; otherwise the element's text is wanted.
    fn date<'a>(&mut self, tag: &Tag<'a>, sort: Sort) -> Option<Capture<'a>> {
        let list = if sort == Sort::MarkedDate { &mut self.marked_dates } else { &mut self.dates };
        if list.len() >= MAX_STATEMENTS {
            return None;
        }
        match value(tag, "datetime").or_else(|| value(tag, "content")) {
            Some(date) => {
                list.push(date);
                None
            }
            None => Some(Capture { sort, name: tag.name, nested: 0, text: String::new(), link: None }),
        }
    }

    fn meta_tag(&mut self, tag: &Tag) {
        let Some(content) = value(tag, "content") else { return };
        for key in ["property", "name", "itemprop", "http-equiv"] {
            if let Some(name) = value(tag, key)
                && self.metas.len() < MAX_STATEMENTS
            {
                self.metas.push((name.to_ascii_lowercase(), content.clone()));
            }
        }
    }

    fn note(&mut self, capture: Capture) {
        let text = tidy(&capture.text);
        let list = match capture.sort {
            Sort::Title => {
                self.title = Some(text).filter(|text| !text.is_empty());
                return;
            }
            Sort::Link => {
                let text: String = text.chars().take(MAX_LINK_TEXT).collect();
                if let Some((href, nofollow, user)) = capture.link {
                    let path = href.to_ascii_lowercase();
                    let author = ["/author/", "/authors/"].iter().any(|part| path.contains(part));
                    for (is, list) in [(author, &mut self.author_links), (user, &mut self.users)] {
                        if is && !text.is_empty() && list.len() < MAX_STATEMENTS {
                            list.push(text.clone());
                        }
                    }
                    self.links.push((href, text.trim_end().to_owned(), nofollow));
                }
                return;
            }
            Sort::Heading => &mut self.headings,
            Sort::MarkedAuthor => &mut self.marked_authors,
            Sort::Byline => &mut self.bylines,
            Sort::User => &mut self.users,
            Sort::MarkedDate => &mut self.marked_dates,
            Sort::Date => &mut self.dates,
        };
        if !text.is_empty() && list.len() < MAX_STATEMENTS {
            list.push(text);
        }
    }
}

/// Parts of class names that forums give to a member's name.
const USER: [&str; 5] = ["username", "poster", "nickname", "postauthor", "creator"];

/// Whether one of the words, between white space, hyphens and underscores, is in the class.
fn speaks_of(tag: &Tag, words: &[&str]) -> bool {
    tag.get("class").is_some_and(|class| {
        class.split_ascii_whitespace().take(32).any(|word| {
            let word = word.to_ascii_lowercase();
            words.iter().any(|wanted| word.split(['-', '_']).any(|part| part == *wanted))
        })
    })
}

/// Makes `links` absolute and unique; http and https only, without fragments, at most [`MAX_LINKS`].
pub fn resolve(links: Vec<(String, String, bool)>, base: Option<&Url>) -> Vec<Link> {
    let mut seen = HashSet::new();
    let mut kept: Vec<Link> = Vec::new();
    for (href, text, nofollow) in links {
        if kept.len() == MAX_LINKS {
            break;
        }
        if let Some(url) = absolute(base, &href)
            && seen.insert(url.clone())
        {
            kept.push(Link { url, text, nofollow });
        }
    }
    kept
}

/// `href` against `base`: http and https only, fragment cut.
pub fn absolute(base: Option<&Url>, href: &str) -> Option<String> {
    // A longer address is an attack or a data URL; resolving each would be quadratic.
    if href.len() > 8_192 || href.starts_with('#') {
        return None;
    }
    let mut url = match base {
        Some(base) => base.join(href).ok()?,
        None => Url::parse(href).ok()?,
    };
    url.set_fragment(None);
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| url.into())
}

/// Entities decoded, white space collapsed, ends trimmed, marks of where a word may break taken out.
pub fn tidy(text: &str) -> String {
    let mut decoded = html_escape::decode_html_entities(text);
    if decoded.contains(['\u{ad}', '\u{200b}']) {
        decoded = decoded.replace(['\u{ad}', '\u{200b}'], "").into();
    }
    let mut tidy = String::with_capacity(decoded.len());
    for word in decoded.split_whitespace() {
        if !tidy.is_empty() {
            tidy.push(' ');
        }
        tidy.push_str(word);
    }
    tidy
}

/// The tidied value of an attribute; None when empty or absent.
fn value(tag: &Tag, name: &str) -> Option<String> {
    let raw = tag.get(name)?;
    let raw = &raw[..raw.floor_char_boundary(16 * MAX_TEXT)];
    Some(tidy(raw)).filter(|value| !value.is_empty())
}

fn has_word(list: Option<&str>, word: &str) -> bool {
    list.is_some_and(|list| list.split_ascii_whitespace().take(32).any(|one| one.eq_ignore_ascii_case(word)))
}

/// Appends up to [`MAX_TEXT`] bytes.
fn push(text: &mut String, more: &str) {
    let room = MAX_TEXT.saturating_sub(text.len());
    text.push_str(&more[..more.floor_char_boundary(room)]);
}

/// Words in neighbouring blocks do not run together; words of which a letter is set in bold stay whole.
fn part(text: &mut String, tag: &str) {
    if elements::Tag::of(tag).flags() & elements::SPECIAL != 0 && !text.ends_with(' ') {
        push(text, " ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_what_a_page_says() {
        let said = Statements::collect(
            "<title>A &amp; B</title><meta property='og:title' content='C'><h1>D<br>d</h1>\
             <span class='post-author'>By <a href=/e>E F</a></span><time datetime=2020-01-02>x</time>\
             <div itemprop=datePublished>3 May 2021</div><script type=application/ld+json>{}</script>",
        );
        assert_eq!(said.title.as_deref(), Some("A & B"));
        assert_eq!(said.meta(&["none", "og:title"]).as_deref(), Some("C"));
        assert_eq!(said.headings, ["D d"]);
        assert_eq!(said.bylines, ["By E F"]);
        assert_eq!(said.dates, ["2020-01-02"]);
        assert_eq!(said.marked_dates, ["3 May 2021"]);
        assert_eq!(said.json_ld, ["{}"]);
        assert_eq!(said.links, [("/e".to_owned(), "E F".to_owned(), false)]);
    }

    #[test]
    fn long_and_unclosed_text_is_bounded() {
        let said = Statements::collect(&format!("<h1>{}", "é".repeat(100_000)));
        assert!(said.headings[0].len() <= MAX_TEXT);
        let many: String =
            (0..5_000).map(|i| format!("<a href=http://a.example/{i}>{}</a>", "x".repeat(300))).collect();
        let links = resolve(Statements::collect(&many).links, None);
        assert_eq!(links.len(), MAX_LINKS);
        assert_eq!(links[0].text.len(), MAX_LINK_TEXT);
    }
}
