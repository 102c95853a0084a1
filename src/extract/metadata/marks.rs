//! The attributes that say what an element is, read in one pass, and the reading of their values.

use super::source::Source;
use crate::extract::scan::{Attributes, MANY};

/// Bytes kept of an attribute's value.
const MAX_VALUE: usize = 16_000;

/// The raw values of an element's attributes that speak of the page; of two of a name the first.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each is the attribute of its name")]
pub struct Marks<'a> {
    pub class: Option<&'a str>,
    pub rel: Option<&'a str>,
    pub href: Option<&'a str>,
    pub hreflang: Option<&'a str>,
    pub src: Option<&'a str>,
    pub name: Option<&'a str>,
    pub content: Option<&'a str>,
    pub datetime: Option<&'a str>,
    pub itemprop: Option<&'a str>,
    pub property: Option<&'a str>,
    pub http_equiv: Option<&'a str>,
    /// `type`.
    pub kind: Option<&'a str>,
    pub pubdate: bool,
    /// `itemscope`.
    pub is_item: bool,
    /// `typeof` or `vocab`.
    pub is_typed: bool,
}

impl<'a> Marks<'a> {
    /// Those among `attributes`.
    pub fn of(attributes: Attributes<'a>) -> Self {
        let mut marks = Self::default();
        for (name, value) in attributes.take(MANY) {
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            let slot = match name.len() {
                3 if is("rel") => &mut marks.rel,
                3 if is("src") => &mut marks.src,
                4 if is("href") => &mut marks.href,
                4 if is("name") => &mut marks.name,
                4 if is("type") => &mut marks.kind,
                5 if is("class") => &mut marks.class,
                5 if is("vocab") => {
                    marks.is_typed = true;
                    continue;
                }
                6 if is("typeof") => {
                    marks.is_typed = true;
                    continue;
                }
                7 if is("content") => &mut marks.content,
                7 if is("pubdate") => {
                    marks.pubdate = true;
                    continue;
                }
                8 if is("datetime") => &mut marks.datetime,
                8 if is("hreflang") => &mut marks.hreflang,
                8 if is("itemprop") => &mut marks.itemprop,
                8 if is("property") => &mut marks.property,
                9 if is("itemscope") => {
                    marks.is_item = true;
                    continue;
                }
                10 if is("http-equiv") => &mut marks.http_equiv,
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        marks
    }

    /// Whether it is the property `name` (lower case) of something, and by which syntax.
    pub fn is_property(&self, name: &str) -> Option<Source> {
        if has_word(self.itemprop, name) {
            return Some(Source::Microdata);
        }
        // As a term of a vocabulary, with a prefix, or as a whole address.
        let is = |word: &str| word.rsplit([':', '/', '#']).next().is_some_and(|last| last.eq_ignore_ascii_case(name));
        let property = self.property?;
        property.split_ascii_whitespace().take(32).any(is).then_some(Source::Rdfa)
    }
}

/// Is `word` (lower case) in `list`, which white space parts?
pub fn has_word(list: Option<&str>, word: &str) -> bool {
    list.is_some_and(|list| list.split_ascii_whitespace().take(32).any(|one| one.eq_ignore_ascii_case(word)))
}

/// Whether one of the words, between white space, hyphens and underscores, is in the class.
pub fn speaks_of(class: &str, words: &[&str]) -> bool {
    class
        .split_ascii_whitespace()
        .take(32)
        .any(|word| word.split(['-', '_']).any(|part| words.iter().any(|wanted| wanted.eq_ignore_ascii_case(part))))
}

/// The tidied value of an attribute; None when empty or absent.
pub fn value_of(raw: Option<&str>) -> Option<String> {
    let raw = raw?;
    let raw = &raw[..raw.floor_char_boundary(MAX_VALUE)];
    Some(tidy(raw)).filter(|value| !value.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_by_either_syntax() {
        let of = |text| Marks::of(Attributes::of(text)).is_property("author");
        assert_eq!(of(" itemprop='name Author'"), Some(Source::Microdata));
        assert_eq!(of(" property=schema:author"), Some(Source::Rdfa));
        assert_eq!(of(" property='https://schema.org/author'"), Some(Source::Rdfa));
        assert_eq!(of(" property=authority class=author"), None);
    }

    #[test]
    fn the_first_of_a_name_counts() {
        let marks = Marks::of(Attributes::of(" CLASS=a class=b itemscope"));
        assert_eq!((marks.class, marks.is_item, marks.is_typed), (Some("a"), true, false));
    }

    #[test]
    fn words_of_a_class() {
        assert!(speaks_of("x post-Date", &["date"]) && speaks_of("x_date", &["date"]));
        assert!(!speaks_of("update", &["date"]));
    }
}
