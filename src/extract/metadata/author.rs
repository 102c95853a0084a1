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

/// JSON-LD, then `meta`, then what the extractor `found` in the page, then marked elements, then a byline, then the
/// first link to somebody's page; names separated by ", ".
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
        .or_else(|| labelled(said).and_then(clean))
        .or_else(|| found.and_then(clean))
        .or_else(|| all(&mut said.marked_authors.iter().map(String::as_str).take(3)))
        .or_else(|| said.bylines.iter().take(3).find_map(|line| clean(line)))
        .or_else(|| said.people.iter().take(3).find_map(|line| clean(line)))
}

/// The pair `twitter:label1`, `twitter:data1` (or 2), which says "Written by" and the name.
fn labelled(said: &Statements) -> Option<&str> {
    ["1", "2"].iter().find_map(|number| {
        let label = said.metas_named(&format!("twitter:label{number}")).next()?;
        let author = ["written by", "author"].iter().any(|word| label.trim_end_matches(':').eq_ignore_ascii_case(word));
        author.then(|| said.metas_named(&format!("twitter:data{number}")).next()).flatten()
    })
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
    fn an_answer_has_an_author_of_its_own() {
        let asked =
            "<div itemprop=author itemscope><a href=/u>asker</a> 19 badges<span itemprop=name>asker</span></div>";
        let answer = "a reply of some length that is surely longer than what parts two names of a byline";
        let thread = format!("{asked}<p>{answer}</p><div itemprop=author><b itemprop=name>other</b></div>");
        assert_eq!(decide(&thread).as_deref(), Some("asker"));
        let two = "By <a rel=author href=/a>A B</a> and <a rel=author href=/c>C D</a>";
        assert_eq!(decide(two).as_deref(), Some("A B, C D"));
    }

    #[test]
    fn labels_and_links_to_an_author() {
        let labelled = "<meta name=twitter:label1 content='Written by'><meta name=twitter:data1 content='A B'>";
        assert_eq!(decide(labelled).as_deref(), Some("A B"));
        assert_eq!(decide("<a href=/authors/>All</a><a href='/authors/a-b'>A B</a>").as_deref(), Some("A B"));
        assert_eq!(decide("<a href=/m/1 class='username x'>ab_1</a>").as_deref(), Some("ab_1"));
    }

    #[test]
    fn bylines_are_cleaned() {
        assert_eq!(decide("<p class=byline>By A B | 3 May 2020").as_deref(), Some("A B"));
        assert_eq!(decide("<a rel=author href=/x>A B</a>").as_deref(), Some("A B"));
        assert_eq!(decide("<meta property=article:author content='https://social.example/ab'>"), None);
        assert_eq!(decide("<p class=author>one two three four five six seven eight nine"), None);
    }
}
