//! When the page was published.

use jiff::civil::Date;
use url::Url;

use super::jsonld::Subject;
use super::said::Statements;
use super::source::{Found, Source};

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

/// The date of publication as `YYYY-MM-DD`: JSON-LD, `meta`, marked elements, the address, any date shown near the
/// top, and last the date of the last change.
pub fn decide(said: &Statements, subject: &Subject, url: Option<&Url>) -> Option<Found<String>> {
    let shown = |list: &[String]| {
        let date = list.iter().take(5).find_map(|text| parse(text))?;
        Some(Found::new(date, Source::Page))
    };
    let date = json_ld(subject.published.as_deref())
        .or_else(|| metas(said, &PUBLISHED))
        .or_else(|| marked(&said.marked_dates))
        .or_else(|| Some(Found::new(in_path(url?)?, Source::Url)))
        .or_else(|| shown(&said.dates))
        .or_else(|| shown(&said.bylines))
        .or_else(|| metas(said, &MODIFIED))
        .or_else(|| json_ld(subject.modified.as_deref()))?;
    Some(date.map(|date| date.to_string()))
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
    let texts = |list: &[Found<String>]| list.iter().filter_map(|found| parse(&found.value)).collect();
    let shown = said.dates.iter().chain(&said.bylines).take(10).filter_map(|text| parse(text)).collect();
    let address = url.and_then(in_path).into_iter().collect();
    let told = subject.published.as_deref().and_then(parse).into_iter().collect();
    [told, in_metas(said, &PUBLISHED), texts(&said.marked_dates), address, shown].map(written)
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
/// Day and month as two numbers are not read, for nobody can tell which is which.
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
            .or_else(|| month(b).and_then(|month| date(whole(c)?, month, small(a)?)));
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

/// `/2020/01/02/` or `/2020-01-02-` in the address.
fn in_path(url: &Url) -> Option<Date> {
    let parts: Vec<&str> = url.path().split(['/', '-', '_', '.']).collect();
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
        ] {
            assert_eq!(iso(text).as_deref(), Some("2020-01-02"), "{text}");
        }
        for text in ["", "02/01/2020", "yesterday", "2020-13-01", "1850-01-01", "may 2020", "é 2 x"] {
            assert_eq!(iso(text), None, "{text}");
        }
    }

    #[test]
    fn the_address_may_tell() {
        let at = |url: &str| Url::parse(url).ok().and_then(|url| in_path(&url)).map(|date| date.to_string());
        assert_eq!(at("https://a.example/2020/01/02/rain.html").as_deref(), Some("2020-01-02"));
        assert_eq!(at("https://a.example/rain-2020-01-02-x").as_deref(), Some("2020-01-02"));
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
