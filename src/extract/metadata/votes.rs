//! How sure the fields are: how many places of the page say the same, and how many something else.

use std::collections::BTreeMap;

use url::Url;

use super::Metadata;
use super::author;
use super::date;
use super::jsonld::Subject;
use super::said::Statements;
use super::source::Source;
use super::title;
use super::{DESCRIPTIONS, LANGUAGES, SITE_NAMES, more, primary};
use crate::extract::links;
use crate::record::Confidence;

/// What the places of a page say of a value that was decided for. A place is JSON-LD, `meta`, marked elements, what is shown,
/// the address: several statements of one place are one vote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Votes {
    agree: u32,
    differ: u32,
}

impl Votes {
    /// A place's vote: whether one of its statements is the value; no vote without a statement.
    fn place(&mut self, statements: impl Iterator<Item = bool>) {
        let mut said = statements.peekable();
        if said.peek().is_some() {
            if said.any(|same| same) { self.agree += 1 } else { self.differ += 1 }
        }
    }
}

/// A field whose rates were measured: by whether it comes from what machines are told or from what is shown, and there of
/// pages on which several places agree and none differs, several agree and some differ, only one says it, one says it
/// and others differ.
#[derive(Debug, Clone, Copy)]
struct Rates {
    told: [f64; 4],
    shown: [f64; 4],
}

// (right + 1) / (all + 2) of the pages of wcxb's seen part whose title, author or date people wrote down; where there were
// fewer than ten such pages, with those of the other row. `docs/extraction.md` has the counts.
const TITLE: Rates = Rates { told: [0.85, 0.36, 0.88, 0.43], shown: [0.93, 0.77, 0.88, 0.53] };
const AUTHORS: Rates = Rates { told: [0.94, 0.80, 0.87, 0.58], shown: [0.94, 0.80, 0.58, 0.58] };
const DATE: Rates = Rates { told: [0.99, 0.65, 0.87, 0.47], shown: [0.99, 0.65, 0.95, 0.47] };

// Of fields that nobody wrote down for these pages: the three above counted together.
const OTHER: Rates = Rates { told: [0.96, 0.48, 0.88, 0.47], shown: [0.94, 0.77, 0.84, 0.54] };

/// Confidence in the fields that `found` has.
pub fn count(
    found: &Metadata,
    said: &Statements,
    subject: &Subject,
    url: Option<&Url>,
    base: Option<&Url>,
) -> BTreeMap<&'static str, Confidence> {
    let mut all = BTreeMap::new();
    let mut note = |field, votes: Votes, rates: &Rates| {
        if let Some(source) = found.sources.get(field) {
            all.insert(field, confidence(votes, *source, rates));
        }
    };
    if let Some(title) = &found.title {
        note("title", of_title(title, found.site_name.as_deref(), said, subject, url), &TITLE);
    }
    if let Some(author) = found.authors.first() {
        note("authors", of_author(author, said, subject), &AUTHORS);
    }
    if let Some(date) = &found.date {
        note("date", of_date(date, said, subject, url), &DATE);
    }
    if let Some(date) = &found.modified {
        let mut votes = Votes::default();
        date::said_modified(said, subject).into_iter().for_each(|place| votes.place(place.iter().map(|d| d == date)));
        note("modified", votes, &DATE);
    }
    if let Some(name) = &found.site_name {
        note("site_name", of_site(name, said, subject), &OTHER);
    }
    if let Some(description) = &found.description {
        let wanted = title::fold(description);
        let same = |text: &str| title::fold(text) == wanted;
        let mut votes = Votes::default();
        votes.place(metas(said, &DESCRIPTIONS).map(same));
        votes.place(subject.description.iter().map(|text| same(text)));
        note("description", votes, &OTHER);
    }
    if let Some(canonical) = &found.canonical {
        let same = |address: &str| links::absolute(base, address).as_ref() == Some(canonical);
        let mut votes = Votes::default();
        votes.place(said.canonical.iter().map(|address| same(address)));
        votes.place(metas(said, &["og:url"]).map(same));
        votes.place(url.into_iter().map(|url| same(url.as_str())));
        note("canonical", votes, &OTHER);
    }
    if let Some(language) = &found.language {
        let same = |tag: &str| primary(tag).as_ref() == Some(language);
        let mut votes = Votes::default();
        votes.place(said.language.iter().map(|tag| same(tag)));
        votes.place(metas(said, &LANGUAGES).map(same));
        votes.place(subject.language.iter().map(|tag| same(tag)));
        note("language", votes, &OTHER);
    }
    if let Some(image) = &found.image {
        let same = |address: &str| links::absolute(base, address).as_ref() == Some(image);
        let mut votes = Votes::default();
        votes.place(metas(said, &more::SHARED_IMAGES).map(same));
        votes.place(subject.image.iter().map(|address| same(address)));
        votes.place(said.images.iter().map(|found| same(&found.value)));
        note("image", votes, &OTHER);
    }
    if !found.tags.is_empty() {
        note("tags", of_tags(&found.tags, said, subject), &OTHER);
    }
    if let Some(license) = &found.license {
        let same = |text: &str| text == license || links::absolute(base, text).as_ref() == Some(license);
        let mut votes = Votes::default();
        votes.place(subject.license.iter().map(|text| same(text)));
        votes.place(said.licenses.iter().map(|found| same(&found.value)));
        votes.place(metas(said, &more::LICENSES).map(same));
        note("license", votes, &OTHER);
    }
    all
}

/// What `meta` of these names say.
fn metas<'s>(said: &'s Statements, names: &'s [&str]) -> impl Iterator<Item = &'s str> {
    names.iter().flat_map(|name| said.metas_named(name)).map(|found| found.value)
}

fn of_site(name: &str, said: &Statements, subject: &Subject) -> Votes {
    let wanted = title::fold(name);
    let same = |text: &str| title::fold(text) == wanted;
    let mut votes = Votes::default();
    votes.place(metas(said, &SITE_NAMES).map(same));
    votes.place(subject.site.iter().map(|text| same(text)));
    // A title that ends otherwise need not have the name in it.
    votes.place(said.title.iter().filter(|text| title::fold(text).ends_with(&wanted)).map(|_| true));
    votes
}

/// A place agrees that has one of the tags.
fn of_tags(tags: &[String], said: &Statements, subject: &Subject) -> Votes {
    let mut votes = Votes::default();
    let mut place = |values: Vec<&str>| {
        let all = more::split(&values);
        let shared = || all.iter().any(|tag| tags.iter().any(|one| one.eq_ignore_ascii_case(tag)));
        votes.place((!all.is_empty()).then(shared).into_iter());
    };
    place(subject.keywords.iter().map(String::as_str).collect());
    place(said.tags.iter().map(String::as_str).collect());
    place(metas(said, &["article:tag", "dc.subject"]).chain(metas(said, &more::KEYWORDS)).collect());
    votes
}

fn confidence(votes: Votes, source: Source, rates: &Rates) -> Confidence {
    let row = if matches!(source, Source::Page | Source::Url) { &rates.shown } else { &rates.told };
    let column = match (votes.agree > 1, votes.differ > 0) {
        (true, false) => 0,
        (true, true) => 1,
        (false, false) => 2,
        (false, true) => 3,
    };
    let parts = [("agree", f64::from(votes.agree)), ("differ", f64::from(votes.differ))];
    Confidence { score: row[column], parts: parts.map(|(name, value)| (name.to_owned(), value)).into() }
}

fn of_title(title: &str, site: Option<&str>, said: &Statements, subject: &Subject, url: Option<&Url>) -> Votes {
    let wanted = title::fold(title);
    let same = |text: &str| title::fold(&title::without_site(text, site, url)) == wanted;
    let shared = ["og:title", "twitter:title", "dc.title"].iter().flat_map(|name| said.metas_named(name));
    let mut votes = Votes::default();
    votes.place(shared.map(|found| same(found.value)));
    votes.place(said.title.iter().map(|text| same(text)));
    votes.place(subject.title.iter().map(|text| same(text)));
    votes.place(said.headings.iter().map(|text| same(text)));
    votes
}

fn of_author(author: &str, said: &Statements, subject: &Subject) -> Votes {
    let wanted = title::fold(author);
    let same = |text: &str| title::fold(text).contains(&wanted);
    let mut votes = Votes::default();
    votes.place(subject.authors.iter().map(|name| same(name)));
    votes.place(author::METAS.iter().flat_map(|name| said.metas_named(name)).map(|found| same(found.value)));
    votes.place(said.marked_authors.iter().map(|found| same(&found.value)));
    votes.place(said.bylines.iter().chain(&said.author_links).take(50).map(|text| same(text)));
    votes
}

fn of_date(date: &str, said: &Statements, subject: &Subject, url: Option<&Url>) -> Votes {
    let mut votes = Votes::default();
    date::said_published(said, subject, url).into_iter().for_each(|place| votes.place(place.iter().map(|d| d == date)));
    votes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::{ExtractError, Limits, extract};

    fn of(html: &str) -> BTreeMap<&'static str, Confidence> {
        extract(html, Some("https://a.example/2020/01/02/x"), &Limits::default())
            .unwrap_or_else(|ExtractError::Empty(page)| *page)
            .confidence
    }

    fn votes(html: &str, field: &str) -> (f64, f64) {
        let all = of(html);
        all.get(field).map_or((0.0, 0.0), |one| (one.parts["agree"], one.parts["differ"]))
    }

    #[test]
    fn places_vote_and_not_statements() {
        let html = "<title>Rain fell | A</title><meta property=og:title content='Rain fell'><meta name=twitter:title content=Sun>\
            <h1>Rain fell</h1><script type=application/ld+json>{\"@type\":\"Article\",\"headline\":\"Snow\",\
            \"datePublished\":\"2020-01-02\",\"dateModified\":\"2021-01-02\",\"author\":\"Ana Sá\"}</script>\
            <meta property=article:modified_time content=2022-01-01><p class=byline>By Ana Sá</p><time datetime=2019-01-01>t</time>";
        assert_eq!(votes(html, "title"), (3.0, 1.0));
        assert_eq!(votes(html, "authors"), (2.0, 0.0));
        assert_eq!(votes(html, "date"), (2.0, 1.0));
        assert_eq!(votes(html, "modified"), (1.0, 1.0));
        assert!(of("<p>nothing").keys().eq(&["date", "text"]));
    }

    #[test]
    fn every_field_is_voted_on() {
        let html = "<html lang=en><title>Rain fell | Hill News</title><link rel=canonical href=/2020/01/02/x>\
            <meta property=og:site_name content='Hill News'><meta name=description content='It rained.'>\
            <meta property=og:locale content=en_GB><meta property=og:image content=/a.png><meta name=keywords content='Rain, hills'>\
            <link rel=license href=https://l.example/by><p>Rain fell.\
            <script type=application/ld+json>{\"@type\":\"Article\",\"publisher\":{\"name\":\"Other\"},\"description\":\"It rained.\",\
            \"inLanguage\":\"de\",\"image\":\"b.png\",\"keywords\":\"rain\",\"license\":\"https://l.example/by\"}</script>";
        for (field, wanted) in [
            ("site_name", (2.0, 1.0)),
            ("description", (2.0, 0.0)),
            ("canonical", (2.0, 0.0)),
            ("language", (2.0, 1.0)),
            ("image", (1.0, 1.0)),
            ("tags", (2.0, 0.0)),
            ("license", (2.0, 0.0)),
        ] {
            assert_eq!(votes(html, field), wanted, "{field}");
        }
    }

    #[test]
    fn agreement_is_worth_more() {
        for rates in [TITLE, AUTHORS, DATE, OTHER] {
            for row in [rates.told, rates.shown] {
                assert!(row[0] > row[3] && row.iter().all(|rate| (0.0..=1.0).contains(rate)));
            }
        }
    }
}
