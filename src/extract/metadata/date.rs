//! When the page was published.

use jiff::civil::Date;
use url::Url;

use super::jsonld::Subject;
use super::said::Statements;
use super::source::{Found, Source};
use crate::extract::content::PageKind;

const PUBLISHED: [&str; 18] = [
    "article:published_time",
    "datepublished",
    "og:published_time",
    "og:article:published_time",
    "parsely-pub-date",
    "sailthru.date",
    "dc.date.issued",
    "dcterms.created",
    "dcterms.date",
    "dc.date",
    "citation_publication_date",
    "citation_date",
    "publish-date",
    "publish_date",
    "pubdate",
    "published",
    "release_date",
    "date",
];
const MODIFIED: [&str; 4] = ["article:modified_time", "og:updated_time", "datemodified", "last-modified"];

/// The date of publication as `YYYY-MM-DD`: JSON-LD, `meta`, marked elements, the address; on articles and forums also what
/// is shown. What other kinds of pages show is the date of something else (a review, an item of a list, the last change), and
/// the date of the last change is none of publication.
pub fn decide(
    said: &Statements,
    subject: &Subject,
    url: Option<&Url>,
    kind: Option<PageKind>,
) -> Option<Found<String>> {
    let shown = |list: &[String]| {
        let date = list.iter().take(5).find_map(|text| parse(text))?;
        Some(Found::new(date, Source::Page))
    };
    let created = || marked(&said.created);
    let forum = kind == Some(PageKind::Forum);
    let date = json_ld(subject.published.as_deref())
        .or_else(|| metas(said, &PUBLISHED))
        .or_else(|| if forum { created() } else { None })
        .or_else(|| marked(&said.marked_dates))
        .or_else(created)
        .or_else(|| Some(Found::new(in_path(url?)?, Source::Url)))
        .or_else(|| {
            let tells = forum || matches!(kind, None | Some(PageKind::Article));
            tells.then(|| shown(&said.dates).or_else(|| shown(&said.bylines)).or_else(|| alone(&said.bare)))?
        })?;
    Some(date.map(|date| date.to_string()))
}

/// The first text that is a date, with a few words before it at most.
fn alone(texts: &[String]) -> Option<Found<Date>> {
    let few = texts.iter().filter(|text| text.split_whitespace().count() <= 6);
    few.filter_map(|text| parse(text)).next().map(|date| Found::new(date, Source::Page))
}

/// The date of the last change as `YYYY-MM-DD`: JSON-LD, `meta`, marked elements.
pub fn modified(said: &Statements, subject: &Subject) -> Option<Found<String>> {
    let date = json_ld(subject.modified.as_deref())
        .or_else(|| metas(said, &MODIFIED))
        .or_else(|| marked(&said.changed))
        .or_else(|| metas(said, &["dcterms.modified", "dc.date.modified"]))?;
    Some(date.map(|date| date.to_string()))
}

/// The dates of publication that the places of a page name, each place on its own: JSON-LD, `meta`, marked elements, the
/// address, what is shown.
pub(super) fn said_published(said: &Statements, subject: &Subject, url: Option<&Url>) -> [Vec<String>; 5] {
    let texts = |list: &[Found<String>]| list.iter().filter_map(|found| parse(&found.value)).collect::<Vec<_>>();
    let shown = said.dates.iter().chain(&said.bylines).chain(&said.bare).take(10);
    let shown = shown.filter_map(|text| parse(text)).collect();
    let address = url.and_then(in_path).into_iter().collect();
    let told = subject.published.as_deref().and_then(parse).into_iter().collect();
    [told, in_metas(said, &PUBLISHED), [texts(&said.marked_dates), texts(&said.created)].concat(), address, shown]
        .map(written)
}

/// The same of the last change: JSON-LD, `meta`, marked elements.
pub(super) fn said_modified(said: &Statements, subject: &Subject) -> [Vec<String>; 3] {
    let marked = said.changed.iter().filter_map(|found| parse(&found.value)).collect();
    [subject.modified.as_deref().and_then(parse).into_iter().collect(), in_metas(said, &MODIFIED), marked].map(written)
}

fn in_metas(said: &Statements, names: &[&str]) -> Vec<Date> {
    names.iter().flat_map(|name| said.metas_named(name)).filter_map(|found| parse(found.value)).collect()
}

fn written(dates: Vec<Date>) -> Vec<String> {
    dates.iter().map(Date::to_string).collect()
}

fn json_ld(date: Option<&str>) -> Option<Found<Date>> {
    Some(Found::new(parse(date?)?, Source::JsonLd))
}

fn metas(said: &Statements, names: &[&str]) -> Option<Found<Date>> {
    names
        .iter()
        .find_map(|name| said.metas_named(name).find_map(|found| Some(Found::new(parse(found.value)?, found.source))))
}

fn marked(list: &[Found<String>]) -> Option<Found<Date>> {
    list.iter().take(5).find_map(|found| Some(Found::new(parse(&found.value)?, found.source)))
}

/// The first date in `text`: year first (ISO 8601, also with slashes or without marks), or an English month by name.
/// Day and month as two numbers are read only where one of them cannot be the month.
pub fn parse(text: &str) -> Option<Date> {
    let text = &text[..text.floor_char_boundary(200)];
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    // An ISO time glues a "T" to the day: "2020-01-02T03:04".
    let number = |word: &str| {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let suffix = word[digits..].to_ascii_lowercase();
        let day = suffix.is_empty() || suffix.starts_with('t') || matches!(suffix.as_str(), "st" | "nd" | "rd");
        (day && (1..=4).contains(&digits)).then(|| word[..digits].parse::<i16>().ok()).flatten()
    };
    let small = |word: &str| number(word).and_then(|n| i8::try_from(n).ok());
    let whole = |word: &str| (word.len() == 4).then(|| number(word)).flatten();
    for window in words.windows(3) {
        let [a, b, c] = [window[0], window[1], window[2]];
        let found = whole(a)
            .and_then(|year| date(year, small(b)?, small(c)?))
            .or_else(|| month(a).and_then(|month| date(whole(c)?, month, small(b)?)))
            .or_else(|| month(b).and_then(|month| date(whole(c)?, month, small(a)?)))
            .or_else(|| unmistakable(whole(c)?, small(a)?, small(b)?));
        if found.is_some() {
            return found;
        }
    }
    // "20200102", alone or before a time.
    let first = words.first()?;
    let compact = first.len() == 8 || first.as_bytes().get(8) == Some(&b'T');
    let part = |from: usize, to: usize| first.get(from..to)?.parse::<i16>().ok();
    let narrow = |n: i16| i8::try_from(n).ok();
    compact.then(|| date(part(0, 4)?, narrow(part(4, 6)?)?, narrow(part(6, 8)?)?)).flatten()
}

/// Day and month in either order, if only one of them can be the month.
fn unmistakable(year: i16, a: i8, b: i8) -> Option<Date> {
    match (a > 12, b > 12) {
        (true, false) => date(year, b, a),
        (false, true) => date(year, a, b),
        _ => None,
    }
}

/// `/2020/01/02/` or `/2020-01-02-` in the address.
fn in_path(url: &Url) -> Option<Date> {
    let parts: Vec<&str> = url.path().split(['/', '-', '_', '.', '+']).collect();
    parts.windows(3).find_map(|window| {
        let [year, month, day] = [window[0], window[1], window[2]];
        if year.len() != 4 || month.len() != 2 || day.len() != 2 {
            return None;
        }
        date(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
    })
}

/// The web has no older pages, and a far future is a mistake.
fn date(year: i16, month: i8, day: i8) -> Option<Date> {
    (1990..=2100).contains(&year).then(|| Date::new(year, month, day).ok()).flatten()
}

fn month(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let word = word.to_ascii_lowercase();
    let same =
        |month: &&str| word.len() >= 3 && (month.starts_with(&word) || word == "sept" && **month == *"september");
    MONTHS.iter().position(same).and_then(|at| i8::try_from(at + 1).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use crate::extract::tree::Tree;
    use proptest::prelude::*;

    fn iso(text: &str) -> Option<String> {
        parse(text).map(|date| date.to_string())
    }

    #[test]
    fn reads_common_forms() {
        for text in [
            "2020-01-02",
            "2020-01-02T03:04:05+01:00",
            "2020/1/2",
            "20200102",
            "Thu, 02 Jan 2020 10:00:00 GMT",
            "January 2, 2020",
            "Jan. 2nd, 2020 at 5pm",
            "Published 2 January 2020",
            "By A B on January 2, 2020",
            "2nd January 2020, 16:26",
        ] {
            assert_eq!(iso(text).as_deref(), Some("2020-01-02"), "{text}");
        }
        assert_eq!(iso("Posted on the 15/12/2025 at 19:00").as_deref(), Some("2025-12-15"));
        assert_eq!(iso("12/31/2025").as_deref(), Some("2025-12-31"));
        for text in ["", "02/01/2020", "13/13/2020", "yesterday", "2020-13-01", "1850-01-01", "may 2020", "é 2 x"] {
            assert_eq!(iso(text), None, "{text}");
        }
    }

    fn of(html: &str, kind: PageKind) -> Option<(String, Source)> {
        let tree = Tree::parse(html, &Limits::default());
        let said = Statements::collect(&tree);
        decide(&said, &Subject::default(), None, Some(kind)).map(|found| (found.value, found.source))
    }

    #[test]
    fn what_is_shown_is_the_date_of_some_pages() {
        let html = "<h1>Rain</h1><time datetime=2020-01-02>x</time>";
        let shown = Some(("2020-01-02".to_owned(), Source::Page));
        assert_eq!(of(html, PageKind::Article), shown);
        assert_eq!(of(html, PageKind::Forum), shown);
        assert_eq!(of(html, PageKind::Product), None, "a review's, perhaps");
        assert_eq!(of("<meta property=article:modified_time content=2020-01-02>", PageKind::Article), None);
    }

    #[test]
    fn a_date_alone_after_the_heading() {
        let date = |html: &str| of(html, PageKind::Article).map(|found| found.0);
        assert_eq!(
            date("<p>1 May 2019</p><h1>Rain</h1><p>Published on <i>2 January 2020</i>").as_deref(),
            Some("2020-01-02")
        );
        assert_eq!(date("<h1>Rain</h1><p>It fell on 2 January 2020 and later, on all the hills."), None);
        assert_eq!(date(&format!("<h1>Rain</h1>{}<p>2 January 2020", "<p>words".repeat(50))), None);
    }

    #[test]
    fn a_question_was_asked_when_it_was_created() {
        let html = "<i itemprop=datePublished>2021-05-06</i><time itemprop=dateCreated datetime=2020-01-02>x</time>";
        assert_eq!(of(html, PageKind::Forum), Some(("2020-01-02".to_owned(), Source::Microdata)));
        assert_eq!(of(html, PageKind::Article), Some(("2021-05-06".to_owned(), Source::Microdata)));
    }

    #[test]
    fn the_address_may_tell() {
        let at = |url: &str| Url::parse(url).ok().and_then(|url| in_path(&url)).map(|date| date.to_string());
        assert_eq!(at("https://a.example/2020/01/02/rain.html").as_deref(), Some("2020-01-02"));
        assert_eq!(at("https://a.example/rain-2020-01-02-x").as_deref(), Some("2020-01-02"));
        assert_eq!(at("https://a.example/2020-01-02+rain").as_deref(), Some("2020-01-02"));
        assert_eq!(at("https://a.example/2020/rain/01"), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_always_iso(text in "\\PC{0,60}|[0-9/T:é -]{0,30}") {
            if let Some(found) = iso(&text) {
                prop_assert_eq!(found.len(), 10);
            }
        }
    }
}
