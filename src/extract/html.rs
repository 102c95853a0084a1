//! From an HTML page to its main text and metadata.
//!
//! The main text is found by the crate `rs-trafilatura`, on markup that [`super::tame`] has brought within bounds;
//! the metadata by our own readers. It may take seconds on the worst input, so run it in a [`super::pool::Pool`].

use thiserror::Error;
use url::Url;

use super::limits::Limits;
pub use super::metadata::collect::Link;
use super::metadata::{self, Metadata};
use super::scan::{Scanner, Token};
use super::tame::tame;

/// What a page says, without the page around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// The main text: paragraphs parted by line breaks, no markup.
    pub text: String,
    /// What the page says of itself.
    pub metadata: Metadata,
}

/// Why there is no text.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
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
    let html = tame(html, limits);
    let visible = has_visible_text(&html);
    let (mut text, mut author) = (String::new(), None);
    let options = rs_trafilatura::Options {
        url: url.map(str::to_owned),
        max_extracted_len: limits.max_bytes,
        ..rs_trafilatura::Options::default()
    };
    if visible {
        match rs_trafilatura::extract_with_options(&html, &options) {
            Ok(found) => (text, author) = (found.content_text, found.metadata.author),
            Err(error) => tracing::debug!(%error, "main text not found, taking all visible text"),
        }
        text.truncate(text.trim_end().len());
        if text.trim().is_empty() {
            text = visible_text(&html);
        }
    }
    let address = url.and_then(|url| Url::parse(url).ok());
    let metadata = metadata::read(&html, address.as_ref(), author.as_deref());
    let page = Extracted { text, metadata };
    if page.text.is_empty() { Err(ExtractError::Empty(Box::new(page))) } else { Ok(page) }
}

/// Is there a word outside scripts, styles and the title? Where there is none the extractor would answer the title.
fn has_visible_text(html: &str) -> bool {
    Scanner::new(html).any(|(token, _)| match token {
        Token::Text { text, raw: false } => !metadata::collect::tidy(&text[..text.floor_char_boundary(200)]).is_empty(),
        _ => false,
    })
}

/// All text that a reader would see, for pages on which no main part stands out.
fn visible_text(html: &str) -> String {
    let mut text = String::new();
    for (token, _) in Scanner::new(html) {
        match token {
            Token::Text { text: words, raw: false } => text.push_str(words),
            Token::Start(_) | Token::End(_) if !text.ends_with(' ') => text.push(' '),
            _ => {}
        }
    }
    metadata::collect::tidy(&text)
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
        assert_eq!(page.metadata.links.len(), 2);
    }

    #[test]
    fn an_empty_page_keeps_its_links_and_title() {
        let html = "<title>T</title><body><script>let x = '<p>no</p>'</script><a href=/next></a>";
        let Err(ExtractError::Empty(page)) = extract(html, Some("https://a.example/"), &Limits::default()) else {
            panic!("should be empty")
        };
        assert_eq!(page.metadata.title.as_deref(), Some("T"));
        assert_eq!(page.metadata.links[0].url, "https://a.example/next");
        assert!(matches!(extract("", None, &Limits::default()), Err(ExtractError::Empty(_))));
    }

    #[test]
    fn a_few_words_are_text() {
        let page = extract("<p>Hello &amp; bye", None, &Limits::default());
        assert_eq!(page.map(|page| page.text).as_deref(), Ok("Hello & bye"));
    }
}
