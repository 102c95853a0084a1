//! Who wrote the page.

use super::collect::{Statements, tidy};
use super::jsonld::Subject;

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

/// JSON-LD, then `meta`, then what the extractor `found` in the page, then marked elements, then a byline; names
/// separated by ", ".
pub fn decide(said: &Statements, subject: &Subject, found: Option<&str>) -> Option<String> {
    let all = |names: &mut dyn Iterator<Item = &str>| {
        let mut kept: Vec<String> = Vec::new();
        for name in names.filter_map(clean).take(20) {
            if !kept.contains(&name) {
                kept.push(name);
            }
        }
        (!kept.is_empty()).then(|| kept.join(", "))
    };
    all(&mut subject.authors.iter().map(String::as_str))
        .or_else(|| METAS.iter().find_map(|name| all(&mut said.metas_named(name))))
        .or_else(|| found.and_then(clean))
        .or_else(|| all(&mut said.marked_authors.iter().map(String::as_str).take(3)))
        .or_else(|| said.bylines.iter().take(3).find_map(|line| clean(line)))
}

/// A name without "By" and what follows it in a byline; None for an address, a handle or a sentence.
fn clean(line: &str) -> Option<String> {
    let mut name = tidy(line);
    for prefix in ["written by: ", "written by ", "posted by ", "text by ", "by: ", "by ", "author: "] {
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
    fn bylines_are_cleaned() {
        assert_eq!(decide("<p class=byline>By A B | 3 May 2020").as_deref(), Some("A B"));
        assert_eq!(decide("<a rel=author href=/x>A B</a>").as_deref(), Some("A B"));
        assert_eq!(decide("<meta property=article:author content='https://social.example/ab'>"), None);
        assert_eq!(decide("<p class=author>one two three four five six seven eight nine"), None);
    }
}
