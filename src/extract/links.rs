//! Where a page leads: its links, and the page itself in other languages and forms.

use std::collections::HashSet;

use url::Url;

use super::metadata::marks::{Marks, has_word, value_of};
use crate::record::{Alternate, Link};

/// Links kept of one page.
pub const MAX_LINKS: usize = 2_000;
/// Words of `rel` kept of one link, and bytes of each.
const MAX_REL: (usize, usize) = (8, 40);
/// Bytes kept of a language or a media type.
const MAX_NAME: usize = 100;

/// A link as it stands in the page.
#[derive(Debug, Clone, Default)]
pub struct Anchor<'a> {
    /// Decoded and tidied, not resolved.
    pub href: String,
    /// The words it stands on.
    pub text: String,
    /// Raw.
    pub rel: Option<&'a str>,
    /// Raw.
    pub hreflang: Option<&'a str>,
}

impl<'a> Anchor<'a> {
    /// Of an `a` or `area` with these marks, still without its text; None without an address.
    pub fn of(marks: &Marks<'a>) -> Option<Self> {
        let href = value_of(marks.href)?;
        Some(Self { href, text: String::new(), rel: marks.rel, hreflang: marks.hreflang })
    }
}

/// A `link rel=alternate`.
#[derive(Debug)]
pub struct Other<'a> {
    /// Decoded and tidied, not resolved.
    pub href: String,
    /// Raw.
    pub hreflang: Option<&'a str>,
    /// Raw.
    pub media_type: Option<&'a str>,
}

/// Makes `links` absolute and unique; http and https only, without fragments, at most [`MAX_LINKS`]. With `nofollow`, the
/// page vouches for none of them. Of several links to one address the first counts, and the first words there are; a
/// single link that is vouched for is enough.
pub fn resolve(links: Vec<Anchor>, base: Option<&Url>, nofollow: bool) -> Vec<Link> {
    let mut places: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    let mut kept: Vec<Link> = Vec::new();
    for anchor in links {
        let Some(url) = absolute(base, &anchor.href) else { continue };
        let link = Link {
            nofollow: nofollow || ["nofollow", "ugc", "sponsored"].iter().any(|word| has_word(anchor.rel, word)),
            rel: rel(anchor.rel),
            hreflang: name(anchor.hreflang),
            text: anchor.text,
            url,
        };
        match places.get(&link.url) {
            Some(at) => again(&mut kept[*at], link),
            None if kept.len() < MAX_LINKS => {
                places.insert(link.url.clone(), kept.len());
                kept.push(link);
            }
            None => {}
        }
    }
    kept
}

/// A further link to the same address.
fn again(known: &mut Link, link: Link) {
    if known.text.is_empty() {
        known.text = link.text;
    }
    known.hreflang = known.hreflang.take().or(link.hreflang);
    if known.nofollow && !link.nofollow {
        (known.nofollow, known.rel) = (false, link.rel);
    }
}

/// The words of a `rel`, lower case, each once.
fn rel(raw: Option<&str>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in raw.unwrap_or_default().split_ascii_whitespace().filter(|word| word.len() <= MAX_REL.1) {
        let word = word.to_ascii_lowercase();
        if words.len() < MAX_REL.0 && !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

fn name(raw: Option<&str>) -> Option<String> {
    value_of(raw).filter(|name| name.len() <= MAX_NAME)
}

/// Makes `others` absolute; each once.
pub fn alternates(others: Vec<Other>, base: Option<&Url>) -> Vec<Alternate> {
    let mut seen = HashSet::new();
    let one = |other: Other| {
        let url = absolute(base, &other.href)?;
        Some(Alternate { url, hreflang: name(other.hreflang), media_type: name(other.media_type) })
    };
    others.into_iter().filter_map(one).filter(|one| seen.insert((one.url.clone(), one.hreflang.clone()))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use crate::extract::metadata::said::Statements;
    use crate::extract::tree::Tree;

    fn links(html: &str, nofollow: bool) -> Vec<Link> {
        let tree = Tree::parse(html, &Limits::default());
        let base = Url::parse("https://a.example/x/").ok();
        resolve(Statements::collect(&tree).links, base.as_ref(), nofollow)
    }

    #[test]
    fn rel_language_and_words() {
        let found = links("<a href=b rel='UGC noopener ugc' hreflang=pt-BR> B <i>b</i></a><area href=/c alt=C>", false);
        let expected = Link {
            url: "https://a.example/x/b".into(),
            text: "B b".into(),
            nofollow: true,
            rel: vec!["ugc".into(), "noopener".into()],
            hreflang: Some("pt-BR".into()),
        };
        assert_eq!(found[0], expected);
        assert_eq!(found[1], Link { url: "https://a.example/c".into(), text: "C".into(), ..Link::default() });
    }

    #[test]
    fn of_several_links_to_an_address_the_best_of_each() {
        let found = links("<a href=b#1 rel=nofollow><img></a><a href=b#2 rel=next>B</a><a href=b>again</a>", false);
        assert_eq!((found.len(), found[0].text.as_str(), found[0].nofollow), (1, "B", false));
        assert_eq!(found[0].rel, ["next"]);
        assert!(links("<a href=b>B", true)[0].nofollow, "the page asks for it");
    }

    #[test]
    fn only_the_web_is_linked_to() {
        assert!(
            links("<a href=mailto:a@b>m</a><a href='javascript:x()'>j</a><a href=#top>t</a><a>none</a>", false)
                .is_empty()
        );
    }

    #[test]
    fn the_page_in_other_languages() {
        let html = "<link rel=alternate hreflang=de href=/de><link rel=alternate hreflang=de href=/de#x>\
                    <link rel=alternate type=application/rss+xml href=feed><link rel='alternate stylesheet' href=s.css>";
        let tree = Tree::parse(html, &Limits::default());
        let base = Url::parse("https://a.example/x/").ok();
        let found = alternates(Statements::collect(&tree).alternates, base.as_ref());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].url.as_str(), found[0].hreflang.as_deref()), ("https://a.example/de", Some("de")));
        assert_eq!(found[1].media_type.as_deref(), Some("application/rss+xml"));
    }
}
