//! What a page says of itself: title, author, date, site, language, address, links.
//!
//! [`collect`] reads the raw statements in one pass over the markup, without a tree; one file a field decides which
//! statement to believe. JSON-LD of an article is believed first: it is written for machines and names its subject.

pub mod author;
pub mod collect;
pub mod date;
pub mod jsonld;
pub mod title;

use url::Url;

use collect::{Link, Statements};
use jsonld::Subject;

use crate::extract::content::PageKind;

/// What was decided from a page's [`Statements`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The title without the name of the site.
    pub title: Option<String>,
    /// Names, separated by ", ".
    pub author: Option<String>,
    /// When it was published, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// The site's name.
    pub site_name: Option<String>,
    /// The page's own summary.
    pub description: Option<String>,
    /// Absolute address that the page gives as its own.
    pub canonical: Option<String>,
    /// Declared language, primary tag, lower case.
    pub language: Option<String>,
    /// Links to http and https addresses.
    pub links: Vec<Link>,
}

/// Reads the metadata of `html`, whose address is `url`, and which is such a page.
pub fn read(html: &str, url: Option<&Url>, kind: Option<PageKind>) -> Metadata {
    let mut said = Statements::collect(html);
    let subject = Subject::read(&said.json_ld);
    let base = said.base.as_deref().and_then(|base| match url {
        Some(url) => url.join(base).ok(),
        None => Url::parse(base).ok(),
    });
    let base = base.or_else(|| url.cloned());
    let site_name = said.meta(&["og:site_name", "application-name"]).or_else(|| subject.site.clone());
    Metadata {
        title: title::decide(&said, &subject, site_name.as_deref(), url, kind),
        author: author::decide(&said, &subject, kind),
        date: date::decide(&said, &subject, url),
        description: said
            .meta(&["description", "og:description", "twitter:description", "dc.description"])
            .or_else(|| subject.description.clone()),
        canonical: said
            .canonical
            .clone()
            .or_else(|| said.meta(&["og:url"]))
            .and_then(|address| collect::absolute(base.as_ref(), &address)),
        language: said
            .language
            .clone()
            .or_else(|| said.meta(&["content-language", "language", "dc.language", "og:locale"]))
            .or_else(|| subject.language.clone())
            .and_then(|tag| primary(&tag)),
        links: collect::resolve(std::mem::take(&mut said.links), base.as_ref()),
        site_name,
    }
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
        let url = Url::parse("https://a.example/x/y.html").ok();
        let read = read(
            "<html lang=de-AT><base href='/docs/'><link rel='canonical' href='self'><a href='z#top' rel='ugc nofollow'> \
             Z  <b>z</b></a><a href=z>again</a><a href='mailto:x@y'>m</a><a href='//b.example/?a=1&amp;b=2'>q",
            url.as_ref(),
            None,
        );
        assert_eq!(read.canonical.as_deref(), Some("https://a.example/docs/self"));
        assert_eq!(read.language.as_deref(), Some("de"));
        let links: Vec<_> = read.links.iter().map(|l| (l.url.as_str(), l.text.as_str(), l.nofollow)).collect();
        assert_eq!(links, [("https://a.example/docs/z", "Z z", true), ("https://b.example/?a=1&b=2", "q", false)]);
    }

    #[test]
    fn without_an_address_only_absolute_links_count() {
        let read = read("<a href=/x>x</a><a href=http://c.example>c</a>", None, None);
        assert_eq!(read.links.len(), 1);
        assert_eq!(read.links[0].url, "http://c.example/");
    }
}
