//! Who wrote the page.

use super::collect::{Statements, tidy};
use super::jsonld::Subject;
use crate::extract::content::PageKind;

const METAS: [&str; 8] = [
    "author",
    "article:author",
    "dc.creator",
    "dcterms.creator",
    "citation_author",
    "parsely-author",
    "sailthru.author",
    "byl",
];

/// JSON-LD, then `meta`, then marked elements, then a byline or a link to an author's page; names separated by ", ". On a
/// forum, who wrote the first post.
pub fn decide(said: &Statements, subject: &Subject, kind: Option<PageKind>) -> Option<String> {
    let all = |names: &mut dyn Iterator<Item = &str>| {
        let mut kept: Vec<String> = Vec::new();
        for name in names.filter_map(clean).take(20) {
            if !kept.contains(&name) {
                kept.push(name);
            }
        }
        (!kept.is_empty()).then(|| kept.join(", "))
    };
    if kind == Some(PageKind::Forum) {
        let first = said.marked_authors.iter().chain(&said.users).chain(&said.bylines);
        return all(&mut subject.authors.iter().map(String::as_str).take(1))
            .or_else(|| first.filter_map(|text| clean(member(text))).next())
            .or_else(|| METAS.iter().find_map(|name| all(&mut said.metas_named(name))));
    }
    all(&mut subject.authors.iter().map(String::as_str))
        .or_else(|| METAS.iter().find_map(|name| all(&mut said.metas_named(name))))
        .or_else(|| labelled(said).and_then(clean))
        .or_else(|| {
            // A page of products or of many things shows who wrote a review, or an item of its list.
            if !matches!(kind, None | Some(PageKind::Article | PageKind::Documentation)) {
                return None;
            }
            all(&mut said.marked_authors.iter().map(String::as_str).take(3))
                .or_else(|| said.bylines.iter().take(3).find_map(|line| clean(line)))
                .or_else(|| said.author_links.iter().take(3).find_map(|name| clean(name)))
        })
}

/// The pair `twitter:label1`, `twitter:data1` (or 2), which says "Written by" and the name.
fn labelled(said: &Statements) -> Option<&str> {
    ["1", "2"].iter().find_map(|number| {
        let label = said.metas_named(&format!("twitter:label{number}")).next()?;
        let author = ["written by", "author"].iter().any(|word| label.trim_end_matches(':').eq_ignore_ascii_case(word));
        author.then(|| said.metas_named(&format!("twitter:data{number}")).next()).flatten()
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

    fn decide(html: &str) -> Option<String> {
        let said = Statements::collect(html);
        super::decide(&said, &Subject::read(&said.json_ld), None)
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
        let said = Statements::collect(html);
        let of = |kind| super::decide(&said, &Subject::default(), Some(kind));
        assert_eq!(of(PageKind::Forum).as_deref(), Some("ana_sa"));
        assert_eq!(of(PageKind::Article), None);
        let review = Statements::collect("<div itemprop=review><b itemprop=author>Somebody</b>");
        assert_eq!(super::decide(&review, &Subject::default(), Some(PageKind::Product)), None);
        let link = Statements::collect("<a href='/en/author/ana-sa'>Ana Sá</a>");
        assert_eq!(super::decide(&link, &Subject::default(), Some(PageKind::Article)).as_deref(), Some("Ana Sá"));
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
