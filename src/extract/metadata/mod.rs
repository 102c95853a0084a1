//! What a page says of itself: title, authors, dates, site, language, address, picture, tags, licence.
//!
//! [`collect`] notes the raw statements in one pass over the tree; one file a field decides which statement to believe.
//! JSON-LD of an article is believed first: it is written for machines and names its subject. Where a value was found is
//! told with it ([`source`]).

pub mod author;
pub mod collect;
pub mod date;
pub mod jsonld;
pub mod marks;
pub mod more;
pub mod said;
pub mod source;
pub mod title;
pub mod votes;

use std::collections::BTreeMap;

use url::Url;

use jsonld::Subject;
use said::Statements;
use source::{Found, Source};

use crate::extract::content::PageKind;
use crate::extract::links;

/// What was decided from a page's [`Statements`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The title without the name of the site.
    pub title: Option<String>,
    /// Who wrote it, a name each.
    pub authors: Vec<String>,
    /// When it was published, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// When it was changed last, `YYYY-MM-DD`.
    pub modified: Option<String>,
    /// The site's name.
    pub site_name: Option<String>,
    /// The page's own summary.
    pub description: Option<String>,
    /// Absolute address that the page gives as its own.
    pub canonical: Option<String>,
    /// Declared language, primary tag, lower case.
    pub language: Option<String>,
    /// Absolute address of the picture that stands for the page.
    pub image: Option<String>,
    /// Keywords.
    pub tags: Vec<String>,
    /// Licence of the content: an absolute address, or its name.
    pub license: Option<String>,
    /// What it asks of robots, lower case.
    pub robots: Vec<String>,
    /// Where the fields above were found, by their names.
    pub sources: BTreeMap<&'static str, Source>,
}

impl Metadata {
    /// The authors, separated by ", ".
    pub fn author(&self) -> Option<String> {
        (!self.authors.is_empty()).then(|| self.authors.join(", "))
    }

    /// Whether the page vouches for none of its links.
    pub fn is_nofollow(&self) -> bool {
        self.robots.iter().any(|word| word == "nofollow" || word == "none")
    }
}

/// `meta` of the site's name.
const SITE_NAMES: [&str; 2] = ["og:site_name", "application-name"];
/// `meta` of the summary.
const DESCRIPTIONS: [&str; 4] = ["description", "og:description", "twitter:description", "dc.description"];
/// `meta` of the language.
const LANGUAGES: [&str; 4] = ["content-language", "language", "dc.language", "og:locale"];

/// Decides between what was said on a page of this kind, whose address is `url`; addresses are relative to `base`.
pub fn read(
    said: &Statements,
    subject: &Subject,
    url: Option<&Url>,
    base: Option<&Url>,
    kind: Option<PageKind>,
) -> Metadata {
    let of_subject = |text: &Option<String>| text.clone().map(|text| Found::new(text, Source::JsonLd));
    let mut sources = BTreeMap::new();
    let site_name = said.meta(&SITE_NAMES).or_else(|| of_subject(&subject.site));
    let site_name = kept(&mut sources, "site_name", site_name);
    let title = title::decide(said, subject, site_name.as_deref(), url, kind);
    let description = said.meta(&DESCRIPTIONS).or_else(|| of_subject(&subject.description));
    let canonical = said.canonical.clone().map(|address| Found::new(address, Source::Meta));
    let canonical = canonical.or_else(|| said.meta(&["og:url"]));
    let declared = said.language.clone().map(|tag| Found::new(tag, Source::Page));
    let language = declared.or_else(|| said.meta(&LANGUAGES)).or_else(|| of_subject(&subject.language));
    Metadata {
        title: kept(&mut sources, "title", title),
        authors: kept(&mut sources, "authors", author::decide(said, subject, kind)).unwrap_or_default(),
        date: kept(&mut sources, "date", date::decide(said, subject, url, kind)),
        modified: kept(&mut sources, "modified", date::modified(said, subject)),
        description: kept(&mut sources, "description", description),
        canonical: kept(
            &mut sources,
            "canonical",
            canonical.and_then(|f| Some(Found::new(links::absolute(base, &f.value)?, f.source))),
        ),
        language: kept(&mut sources, "language", language.and_then(|f| Some(Found::new(primary(&f.value)?, f.source)))),
        image: kept(&mut sources, "image", more::image(said, subject, base)),
        tags: kept(&mut sources, "tags", more::tags(said, subject)).unwrap_or_default(),
        license: kept(&mut sources, "license", more::license(said, subject, base)),
        robots: more::robots(said.metas_named("robots").map(|found| found.value)),
        site_name,
        sources,
    }
}

/// The value, its source noted.
fn kept<T>(sources: &mut BTreeMap<&'static str, Source>, field: &'static str, found: Option<Found<T>>) -> Option<T> {
    let found = found?;
    sources.insert(field, found.source);
    Some(found.value)
}

/// The primary subtag of a BCP 47 tag (RFC 5646) or a locale such as `en_GB`, lower case; of a list the first.
fn primary(tag: &str) -> Option<String> {
    let first = tag.trim().split(['-', '_', ',', ';', ' ', '.']).next()?;
    let plausible = (2..=3).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_alphabetic());
    plausible.then(|| first.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_language_tags() {
        assert_eq!(primary("en-GB").as_deref(), Some("en"));
        assert_eq!(primary("pt_BR.UTF-8").as_deref(), Some("pt"));
        assert_eq!(primary("DE, en").as_deref(), Some("de"));
        assert_eq!(primary("x-klingon"), None);
        assert_eq!(primary("{{lang}}"), None);
    }

    #[test]
    fn base_and_canonical_resolve() {
        let found = of(
            "<html lang=de-AT><base href='/docs/'><link rel='canonical' href='self'><meta name=robots content='NoIndex, none'>\
             <a rel=author href=/ana>Ana</a>",
            "https://a.example/x/y.html",
        );
        assert_eq!(found.metadata.canonical.as_deref(), Some("https://a.example/docs/self"));
        assert_eq!(found.metadata.language.as_deref(), Some("de"));
        assert_eq!(found.metadata.robots, ["noindex", "none"]);
        let sources: Vec<_> = found.metadata.sources.iter().map(|(field, source)| (*field, source.name())).collect();
        assert_eq!(sources, [("authors", "page"), ("canonical", "meta"), ("language", "page")]);
        assert_eq!((found.links[0].text.as_str(), found.links[0].nofollow), ("Ana", true));
    }

    fn of(html: &str, url: &str) -> crate::extract::Extracted {
        crate::extract::extract(html, Some(url), &crate::extract::Limits::default())
            .unwrap_or_else(|crate::extract::ExtractError::Empty(page)| *page)
    }

    #[test]
    fn links_resolve() {
        let found = of(
            "<base href='/docs/'><a href='z#top' rel='ugc nofollow'> Z  <b>z</b></a><a href='mailto:x@y'>m</a>\
             <a href='//b.example/?a=1&amp;b=2'>q",
            "https://a.example/x/y.html",
        );
        let links: Vec<_> = found.links.iter().map(|l| (l.url.as_str(), l.text.as_str(), l.nofollow)).collect();
        assert_eq!(links, [("https://a.example/docs/z", "Z z", true), ("https://b.example/?a=1&b=2", "q", false)]);
    }
}
