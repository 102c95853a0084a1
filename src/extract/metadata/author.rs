//! Who wrote the page.

use super::jsonld::Subject;
use super::marks::tidy;
use super::said::Statements;
use super::source::{Found, Source};
use crate::extract::content::PageKind;

pub(super) const METAS: [&str; 8] = [
    "author",
    "article:author",
    "dc.creator",
    "dcterms.creator",
    "citation_author",
    "parsely-author",
    "sailthru.author",
    "byl",
];

/// JSON-LD, then `meta`, then marked elements, then a byline or a link to an author's page. On a forum, who wrote the
/// first post. Never an empty list.
pub fn decide(said: &Statements, subject: &Subject, kind: Option<PageKind>) -> Option<Found<Vec<String>>> {
    if kind == Some(PageKind::Forum) {
        return all(json_ld(subject).take(1)).or_else(|| first_member(said)).or_else(|| metas(said));
    }
    let named = all(json_ld(subject)).or_else(|| metas(said));
    let named = named.or_else(|| Some(Found::new(vec![labelled(said).and_then(clean)?], Source::OpenGraph)));
    // A page of products or of many things shows who wrote a review, or an item of its list.
    if named.is_some() || !matches!(kind, None | Some(PageKind::Article | PageKind::Documentation)) {
        return named;
    }
    let first = |list: &[String]| list.iter().take(3).find_map(|line| clean(line));
    all(marked(said).take(3)).or_else(|| {
        let shown = first(&said.bylines).or_else(|| first(&said.author_links))?;
        Some(Found::new(vec![shown], Source::Page))
    })
}

fn json_ld(subject: &Subject) -> impl Iterator<Item = Found<&str>> {
    subject.authors.iter().map(|name| Found::new(name.as_str(), Source::JsonLd))
}

fn marked<'s>(said: &'s Statements) -> impl Iterator<Item = Found<&'s str>> {
    said.marked_authors.iter().map(|found| Found::new(found.value.as_str(), found.source))
}

fn metas(said: &Statements) -> Option<Found<Vec<String>>> {
    METAS.iter().find_map(|name| all(said.metas_named(name)))
}

fn first_member(said: &Statements) -> Option<Found<Vec<String>>> {
    let shown = said.users.iter().chain(&said.bylines).map(|text| Found::new(text.as_str(), Source::Page));
    marked(said).chain(shown).find_map(|found| Some(Found::new(vec![clean(member(found.value))?], found.source)))
}

/// The names that are names, each once; from the first one's source.
fn all<'s>(names: impl Iterator<Item = Found<&'s str>>) -> Option<Found<Vec<String>>> {
    let mut kept: Option<Found<Vec<String>>> = None;
    for found in names.filter_map(|found| Some(Found::new(clean(found.value)?, found.source))).take(20) {
        let list = &mut kept.get_or_insert_with(|| Found::new(Vec::new(), found.source)).value;
        if !list.contains(&found.value) {
            list.push(found.value);
        }
    }
    kept
}

/// The pair `twitter:label1`, `twitter:data1` (or 2), which says "Written by" and the name.
fn labelled<'s>(said: &'s Statements) -> Option<&'s str> {
    ["1", "2"].iter().find_map(|number| {
        let label = said.metas_named(&format!("twitter:label{number}")).next()?.value;
        let author = ["written by", "author"].iter().any(|word| label.trim_end_matches(':').eq_ignore_ascii_case(word));
        author.then(|| said.metas_named(&format!("twitter:data{number}")).next()).flatten().map(|found| found.value)
    })
}

/// A member's name without what stands behind it: the letter of a picture, points, badges.
fn member(text: &str) -> &str {
    let mut words = text.split_inclusive(' ');
    let first = words.next().unwrap_or_default();
    let more = words.take_while(|word| {
        let word = word.trim();
        word.chars().count() > 1 && !word.starts_with(|c: char| c.is_ascii_digit())
    });
    text[..first.len() + more.map(str::len).sum::<usize>()].trim()
}

/// A name without "By" and what follows it in a byline; None for an address, a handle or a sentence.
fn clean(line: &str) -> Option<String> {
    let mut name = tidy(line);
    for prefix in [
        "authored by: ",
        "authored by ",
        "written by: ",
        "written by ",
        "posted by ",
        "text by ",
        "by: ",
        "by ",
        "author: ",
    ] {
        if name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            name = name[prefix.len()..].trim().to_owned();
        }
    }
    for end in [" | ", " • ", " · ", " on ", " — ", " – ", " - "] {
        if let Some((first, _)) = name.split_once(end) {
            name = first.trim().to_owned();
        }
    }
    let name = name.trim_matches(|c: char| c == ',' || c == ':' || c.is_whitespace());
    let sentence = name.split_whitespace().count() > 8 || name.len() > 100;
    let address = name.contains("://") || name.starts_with('@') || name.contains('{') || name.starts_with("www.");
    let word = name.chars().any(char::is_alphabetic) && super::date::parse(name).is_none();
    (word && !sentence && !address).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use crate::extract::tree::Tree;

    fn of(html: &str, kind: Option<PageKind>) -> Option<Found<String>> {
        let tree = Tree::parse(html, &Limits::default());
        let said = Statements::collect(&tree);
        super::decide(&said, &Subject::default(), kind).map(|found| found.map(|names| names.join(", ")))
    }

    fn decide(html: &str) -> Option<String> {
        of(html, None).map(|found| found.value)
    }

    #[test]
    fn metadata_comes_before_bylines() {
        let html =
            "<div class=byline>By Someone Else</div><meta name=author content='A B'><meta name=author content='C D'>";
        assert_eq!(decide(html).as_deref(), Some("A B, C D"));
    }

    #[test]
    fn a_forum_is_written_by_whom_wrote_first() {
        let html = "<a class=username href=/u/1>ana_sa 1,204 12 badges</a><p>x<span class=user-username>Someone</span>";
        assert_eq!(of(html, Some(PageKind::Forum)), Some(Found::new("ana_sa".into(), Source::Page)));
        assert_eq!(of(html, Some(PageKind::Article)), None);
        let review = "<div itemprop=review><b itemprop=author>Somebody</b>";
        assert_eq!(of(review, Some(PageKind::Product)), None);
        assert_eq!(of(review, None), Some(Found::new("Somebody".into(), Source::Microdata)));
        let link = "<a href='/en/author/ana-sa'>Ana Sá</a>";
        assert_eq!(of(link, Some(PageKind::Article)), Some(Found::new("Ana Sá".into(), Source::Page)));
    }

    #[test]
    fn a_pair_of_label_and_name() {
        let labelled = "<meta name=twitter:label1 content='Written by'><meta name=twitter:data1 content='A B'>";
        assert_eq!(decide(labelled).as_deref(), Some("A B"));
        assert_eq!(decide(&labelled.replace("Written by", "Price")), None);
    }

    #[test]
    fn bylines_are_cleaned() {
        assert_eq!(decide("<p class=byline>By A B | 3 May 2020").as_deref(), Some("A B"));
        assert_eq!(decide("<a rel=author href=/x>A B</a>").as_deref(), Some("A B"));
        assert_eq!(decide("<meta property=article:author content='https://social.example/ab'>"), None);
        assert_eq!(decide("<p class=author>one two three four five six seven eight nine"), None);
    }
}
