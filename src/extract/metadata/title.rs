//! Which of a page's titles is the title.

use url::Url;

use super::jsonld::Subject;
use super::said::Statements;
use super::source::{Found, Source};
use crate::extract::content::PageKind;

/// What parts a title from the name of the site, by custom.
const SEPARATORS: [&str; 11] = [" | ", " - ", " – ", " — ", " · ", " • ", " :: ", " » ", " « ", " : ", " / "];

/// Words of a title that is whole.
const WHOLE: usize = 2;

/// The heading that the page's titles confirm, in their spelling; where none is confirmed, the only heading of an article;
/// else the article's headline, `og:title`, the `title` element (without the site's name and what stands behind a bar), and any
/// heading at last.
pub fn decide(
    said: &Statements,
    subject: &Subject,
    site: Option<&str>,
    url: Option<&Url>,
    kind: Option<PageKind>,
) -> Option<Found<String>> {
    let shared = said.meta(&["og:title", "twitter:title", "dc.title"]);
    let shared_as = shared.as_ref().map_or(Source::OpenGraph, |found| found.source);
    let shared = shared.as_ref().map(|found| found.value.as_str());
    let titles: Vec<&str> = [shared, said.title.as_deref(), subject.title.as_deref()].into_iter().flatten().collect();
    let bare: Vec<String> = titles.iter().map(|title| without_site(title, site, url)).collect();
    let headings: Vec<&str> =
        said.headings.iter().map(|h| h.trim_end_matches(is_mark)).filter(|h| !is_site(h, site, url)).collect();
    let confirmed = |heading: &&&str| {
        let heading = fold(heading);
        heading.len() > 2 && titles.iter().any(|title| fold(title).contains(&heading))
    };
    if let Some(heading) = headings.iter().find(confirmed) {
        let folded = fold(heading);
        let same = bare.iter().find(|title| fold(title) == folded);
        let title = same.cloned().unwrap_or_else(|| (*heading).to_owned());
        return Some(Found::new(title, Source::Page));
    }
    let mut different = headings;
    different.dedup();
    // On other kinds of pages the only heading is a slogan more often than the title.
    if let [only] = different[..]
        && kind == Some(PageKind::Article)
        && words(only) > WHOLE
    {
        return Some(Found::new(only.to_owned(), Source::Page));
    }
    let own = subject.title.as_deref().filter(|title| !is_site(title, site, url));
    let own = own.map(|title| Found::new(title, Source::JsonLd));
    own.or(shared.map(|title| Found::new(title, shared_as)))
        .or(said.title.as_deref().map(|title| Found::new(title, Source::Page)))
        .map(|found| found.map(|title| without_site(title, site, url)))
        .or_else(|| Some(Found::new(said.headings.first()?.clone(), Source::Page)))
}

/// What links to a heading are made of, and whatever stands between.
fn is_mark(c: char) -> bool {
    matches!(c, '¶' | '#' | '§' | '🔗' | '\u{f0c1}') || c.is_whitespace()
}

fn words(text: &str) -> usize {
    text.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric)).count()
}

/// `title` without a first or last part that names the site.
pub(super) fn without_site(title: &str, site: Option<&str>, url: Option<&Url>) -> String {
    for separator in SEPARATORS {
        if let Some((rest, last)) = title.rsplit_once(separator)
            && is_site(last, site, url)
        {
            return rest.trim().to_owned();
        }
        if let Some((first, rest)) = title.split_once(separator)
            && is_site(first, site, url)
        {
            return rest.trim().to_owned();
        }
    }
    // A bar parts what a page is about from what else its owner has to say.
    match title.split_once(" | ") {
        Some((first, _)) if words(first) >= WHOLE => first.trim().to_owned(),
        _ => title.to_owned(),
    }
}

/// Is `name` the site's name or a label of its host?
fn is_site(name: &str, site: Option<&str>, url: Option<&Url>) -> bool {
    let name = fold(name);
    if name.is_empty() {
        return false;
    }
    if site.is_some_and(|site| fold(site) == name) {
        return true;
    }
    let Some(host) = url.and_then(Url::host_str) else { return false };
    let host = host.strip_prefix("www.").unwrap_or(host);
    let host_says = |label: &str| {
        let label = fold(label);
        // "Newegg.com" and "Newegg Business" for newegg.example, "BHF" for bhf.example.
        label.len() > 2 && label == name
            || label.len() > 3 && name.len() > 3 && (name.starts_with(&label) || label.starts_with(&name))
    };
    fold(host) == name || host.split('.').rev().skip(1).any(host_says)
}

/// Letters and digits only, lower case.
pub(super) fn fold(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use crate::extract::tree::Tree;

    fn decide(html: &str) -> Option<String> {
        let tree = Tree::parse(html, &Limits::default());
        let said = Statements::collect(&tree);
        let url = Url::parse("https://www.the-times.example/x").ok();
        let site = said.meta(&["og:site_name"]).map(|found| found.value);
        super::decide(&said, &Subject::default(), site.as_deref(), url.as_ref(), None).map(|found| found.value)
    }

    #[test]
    fn a_heading_that_the_title_confirms() {
        let title = decide("<title>The Times - Rain falls | News</title><h1>The Times</h1><h1>Rain  falls</h1>");
        assert_eq!(title.as_deref(), Some("Rain falls"));
    }

    #[test]
    fn the_site_name_is_cut() {
        assert_eq!(decide("<title>Rain - or not - The Times</title>").as_deref(), Some("Rain - or not"));
        let named = "<meta property=og:site_name content='My Blog'><title>My blog » Rain</title>";
        assert_eq!(decide(named).as_deref(), Some("Rain"));
        assert_eq!(decide("<title>Rain - Sun</title>").as_deref(), Some("Rain - Sun"));
    }

    #[test]
    fn the_spelling_of_the_title_and_no_mark_of_a_link() {
        let title = decide("<title>Question - Which card? | The Times</title><h1><i>Question</i> Which card?</h1>");
        assert_eq!(title.as_deref(), Some("Question - Which card?"));
        let marked = "<title>Assistance is — Docs</title><h1>Assis&shy;tance is<a href=#a>¶</a></h1>";
        assert_eq!(decide(marked).as_deref(), Some("Assistance is"));
        assert_eq!(decide("<title>Rain and sun | All you need</title>").as_deref(), Some("Rain and sun"));
    }

    #[test]
    fn the_only_heading_of_an_article() {
        let html = "<title>Rain fell on Monday</title><h1>Three days of rain</h1>";
        let tree = Tree::parse(html, &Limits::default());
        let said = Statements::collect(&tree);
        let of = |kind| super::decide(&said, &Subject::default(), None, None, Some(kind)).map(|found| found.value);
        assert_eq!(of(PageKind::Article).as_deref(), Some("Three days of rain"));
        assert_eq!(of(PageKind::Service).as_deref(), Some("Rain fell on Monday"));
    }

    #[test]
    fn a_heading_when_there_is_nothing_else() {
        assert_eq!(decide("<h1>Only</h1>").as_deref(), Some("Only"));
        assert_eq!(decide("<p>none"), None);
    }
}
