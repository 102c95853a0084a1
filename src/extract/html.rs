//! From an HTML page to its main text, metadata, links, tables and structured data: one [`Tree`], which the finder of the
//! main text ([`super::content`]) and the readers of the rest walk.
//!
//! Time and memory are linear in the page and bounded by [`Limits`]; nothing recurses.

use std::collections::BTreeMap;

use thiserror::Error;
use url::Url;

use super::content::{self, Content, PageKind};
use super::limits::Limits;
use super::links;
use super::metadata::jsonld::Subject;
use super::metadata::said::Statements;
use super::metadata::{self, Metadata, more};
use super::structured::Structured;
use super::tables;
use super::tree::{Tree, decode, tags};
use crate::record::{Alternate, Confidence, Link, Table};

/// What a page says, without the page around it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extracted {
    /// The main text without markup: paragraphs parted by an empty line, entries of lists by a line break.
    pub text: String,
    /// The same with its headings, lists, tables, code, links and emphasis, as Markdown.
    pub markdown: String,
    /// What kind of page it is; none of plain text.
    pub kind: Option<PageKind>,
    /// What the page says of itself.
    pub metadata: Metadata,
    /// Where it leads.
    pub links: Vec<Link>,
    /// The page in other languages and forms.
    pub alternates: Vec<Alternate>,
    /// Tables of data.
    pub tables: Vec<Table>,
    /// What it says to machines, as found.
    pub structured: Structured,
    /// How sure the text and the fields of `metadata` are, by their names.
    pub confidence: BTreeMap<&'static str, Confidence>,
}

impl Extracted {
    /// The F1 of words that is to be expected of the main text, 0 to 1.
    pub fn text_confidence(&self) -> f64 {
        self.confidence.get("text").map_or(0.0, |confidence| confidence.score)
    }

    /// Adds what the answer's `X-Robots-Tag` headers ask of robots.
    pub fn ask_robots<'h>(&mut self, headers: impl Iterator<Item = &'h str>) {
        let mut asked = std::mem::take(&mut self.metadata.robots);
        asked.extend(headers.filter(|header| more::is_for_all(header)).map(str::to_owned));
        self.metadata.robots = more::robots(asked.iter().map(String::as_str));
        if self.metadata.is_nofollow() {
            self.links.iter_mut().for_each(|link| link.nofollow = true);
        }
    }
}

/// Why there is no text.
#[derive(Debug, Clone, Error, PartialEq)]
pub enum ExtractError {
    /// The page was read and has no visible text: scripts only, a redirect, an empty body. Its metadata and links
    /// are still worth having.
    #[error("the page has no text")]
    Empty(Box<Extracted>),
}

/// Main text and metadata of `html`, which came from `url` (used to resolve links; without it only absolute ones
/// count). Malformed markup is never an error: HTML defines a reading of every string.
///
/// # Errors
/// [`ExtractError::Empty`] when there is no text at all.
pub fn extract(html: &str, url: Option<&str>, limits: &Limits) -> Result<Extracted, ExtractError> {
    let tree = Tree::parse(html, limits);
    let address = url.and_then(|url| Url::parse(url).ok());
    let base = base(&tree, address.as_ref());
    let Content { text, markdown, kind, confidence, parts } =
        content::find(&tree, url, &|href| links::absolute(base.as_ref(), href));
    let mut said = Statements::collect(&tree);
    let structured = Structured::read(&tree, &said, base.as_ref());
    let subject = Subject::read(&structured.json_ld);
    let metadata = metadata::read(&said, &subject, address.as_ref(), base.as_ref(), Some(kind));
    let mut sure = metadata::votes::count(&metadata, &said, &subject, address.as_ref(), base.as_ref());
    let parts = parts.iter().map(|(name, part)| ((*name).to_owned(), f64::from(*part))).collect();
    sure.insert("text", Confidence { score: f64::from(confidence), parts });
    let page = Extracted {
        text,
        markdown,
        kind: Some(kind),
        confidence: sure,
        links: links::resolve(std::mem::take(&mut said.links), base.as_ref(), metadata.is_nofollow()),
        alternates: links::alternates(std::mem::take(&mut said.alternates), base.as_ref()),
        tables: if said.has_tables { tables::read(&tree) } else { Vec::new() },
        metadata,
        structured,
    };
    if page.text.is_empty() { Err(ExtractError::Empty(Box::new(page))) } else { Ok(page) }
}

/// What relative addresses are relative to: the first `base`, else the page's own address.
fn base(tree: &Tree, address: Option<&Url>) -> Option<Url> {
    let href = tree.all().filter(|id| tree.tag(*id) == tags::BASE).find_map(|id| tree.attribute(id, "href"));
    let base = href.map(decode).and_then(|href| match address {
        Some(address) => address.join(href.trim()).ok(),
        None => Url::parse(href.trim()).ok(),
    });
    base.or_else(|| address.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_article() {
        let paragraph =
            "<p>Rain fell on the hills for the third day, and the river rose above its banks.</p>".repeat(5);
        let html = format!(
            "<html lang=en><title>Rain | Site</title><body><nav><a href=/a>Home</a><a href=/b>News</a></nav>\
             <article><h1>Rain</h1>{paragraph}</article><footer>All rights reserved</footer>"
        );
        let page = extract(&html, Some("https://a.example/x"), &Limits::default());
        let Ok(page) = page else { panic!("{page:?}") };
        assert!(page.text.contains("the river rose"));
        assert!(!page.text.contains("All rights"));
        assert_eq!(page.metadata.title.as_deref(), Some("Rain"));
        assert_eq!(page.metadata.language.as_deref(), Some("en"));
        assert_eq!(page.links.len(), 2);
    }

    #[test]
    fn an_empty_page_keeps_its_links_and_title() {
        let html = "<title>T</title><body><script>let x = '<p>no</p>'</script><a href=/next></a>";
        let Err(ExtractError::Empty(page)) = extract(html, Some("https://a.example/"), &Limits::default()) else {
            panic!("should be empty")
        };
        assert_eq!(page.metadata.title.as_deref(), Some("T"));
        assert_eq!(page.links[0].url, "https://a.example/next");
        assert!(matches!(extract("", None, &Limits::default()), Err(ExtractError::Empty(_))));
    }

    #[test]
    fn headers_ask_robots_too() {
        let html = "<meta name=robots content=noindex><a href=/x>x</a>";
        let Ok(mut page) = extract(html, Some("https://a.example/"), &Limits::default()) else { panic!("has text") };
        page.ask_robots(["max-snippet:-1", "otherbot: none"].into_iter());
        assert_eq!(
            (page.metadata.robots.clone(), page.links[0].nofollow),
            (vec!["noindex".into(), "max-snippet:-1".into()], false)
        );
        page.ask_robots(["noarchive, nofollow"].into_iter());
        assert!(page.links[0].nofollow && page.metadata.robots.len() == 4);
    }

    #[test]
    fn a_few_words_are_text() {
        let page = extract("<p>Hello &amp; bye", None, &Limits::default());
        assert_eq!(page.map(|page| page.text).as_deref(), Ok("Hello & bye"));
    }
}
