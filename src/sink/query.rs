//! The query language, whatever the index: any text is a query, and none is a syntax error.
//!
//! | typed | means |
//! |---|---|
//! | `two words` | both, anywhere in title, description and text |
//! | `"two words"` | one after the other |
//! | `-word`, `-"two words"` | not this |
//! | `word*` | words that begin so |
//! | `red OR green door` | one of the two, and `door` (OR binds its neighbours, words and phrases) |
//! | `title:word`, `title:"two words"` | in the title; `author:` and `url:` likewise. A URL's words are what is between its punctuation |
//! | `site:example.org` | that host and those below it; several: any of them |
//! | `lang:pt` | that language; several: any of them |
//! | `date:2024`, `date:2024-05`, `date:2024-05-17` | published then; several: any of them |
//! | `date:2023..2024-05`, `date:2024..` | from the first day of the one to the last of the other |
//! | `after:2024-05`, `before:2024-05` | from its first day on; before its first day |
//!
//! A minus stands before any of these. `AND` is what happens anyway and is passed over. Anything else is a word,
//! punctuation and all; so is `site:` without a host, or `date:` without a date.

use jiff::ToSpan;
use jiff::civil::Date;

/// Characters of a query that are read.
const CHARS: usize = 2_000;
/// Words, phrases and filters of a query that are read, so that no query costs without bounds.
const TERMS: usize = 64;

/// Where a word is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Field {
    /// Title, description and text.
    #[default]
    Words,
    Title,
    Author,
    /// The URL that answered.
    Url,
}

/// A word or a phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub field: Field,
    /// Free of quotes and control characters; has a letter or a digit.
    pub text: String,
    /// The last word only begins so.
    pub prefix: bool,
}

/// Days, the first and the one after the last; None: without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Days {
    pub from: Option<Date>,
    pub until: Option<Date>,
}

/// Conditions on what a document is, each empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Hosts, lower case, as URLs spell them.
    pub sites: Vec<String>,
    /// Languages, lower case.
    pub languages: Vec<String>,
    /// When it was published.
    pub dates: Vec<Days>,
}

/// A query, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Of each group, one must be there.
    pub all: Vec<Vec<Term>>,
    /// None of these may be there.
    pub none: Vec<Term>,
    /// Of each kind, one must hold.
    pub only: Filters,
    /// None of these may hold.
    pub not: Filters,
    /// What `after:` and `before:` leave.
    pub span: Days,
}

impl Parsed {
    /// Whether there is nothing to look for. Saying only what not to find is nothing.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.only == Filters::default() && self.span == Days::default()
    }
}

/// Reads what is asked for; None if that is nothing. What the caller fixes stands in place of what is typed.
pub fn read(query: &super::Query) -> Option<Parsed> {
    let mut parsed = parse(&query.text);
    if let Some(language) = &query.language {
        parsed.only.languages = vec![language.to_lowercase()];
    }
    if let Some(site) = &query.site {
        parsed.only.sites = vec![host(site)];
    }
    (!parsed.is_empty()).then_some(parsed)
}

/// Reads a text.
fn parse(text: &str) -> Parsed {
    let chars: Vec<char> = text.chars().take(CHARS).map(plain).collect();
    let mut parsed = Parsed::default();
    let (mut at, mut terms, mut or) = (0, 0, false);
    while at < chars.len() && terms < TERMS {
        if chars[at] == ' ' {
            at += 1;
            continue;
        }
        let piece = Piece::read(&chars, &mut at);
        if piece.is("OR") {
            or = true;
            continue;
        }
        if piece.is("AND") {
            continue;
        }
        let negated = piece.negated;
        if piece.filter().is_some_and(|(name, value)| filter(&name, value, negated, &mut parsed)) {
            terms += 1;
            or = false;
            continue;
        }
        let term = piece.term();
        if term.text.chars().any(char::is_alphanumeric) {
            terms += 1;
            match parsed.all.last_mut() {
                _ if negated => parsed.none.push(term),
                Some(group) if or => group.push(term),
                _ => parsed.all.push(vec![term]),
            }
            or = false;
        }
    }
    parsed
}

/// Control characters and other spaces as spaces, typographic quotes as quotes.
fn plain(c: char) -> char {
    match c {
        '“' | '”' | '„' => '"',
        c if c.is_whitespace() || c.is_control() => ' ',
        c => c,
    }
}

/// What stands between two spaces, or up to the end of its quotes: `-name:"value"*`.
struct Piece {
    negated: bool,
    /// What stands before the first colon, if quotes or anything else follow it.
    name: Option<String>,
    value: String,
    quoted: bool,
    stars: bool,
}

impl Piece {
    /// Reads one that begins at `at`, where no space is.
    fn read(chars: &[char], at: &mut usize) -> Piece {
        let negated = chars[*at] == '-';
        *at += usize::from(negated);
        let rest = &chars[*at..];
        let end = rest.iter().position(|c| matches!(c, ' ' | '"')).unwrap_or(rest.len());
        let colon = rest[..end].iter().position(|c| *c == ':').filter(|n| *n > 0);
        let name = colon.filter(|n| n + 1 < end || rest.get(end) == Some(&'"')).map(|n| rest[..n].iter().collect());
        *at += if name.is_some() { colon.map_or(0, |n| n + 1) } else { 0 };
        let quoted = chars.get(*at) == Some(&'"');
        *at += usize::from(quoted);
        let rest = &chars[(*at).min(chars.len())..];
        let end = rest.iter().position(|c| if quoted { *c == '"' } else { matches!(c, ' ' | '"') });
        let mut value: String = rest[..end.unwrap_or(rest.len())].iter().collect();
        *at += end.map_or(rest.len(), |n| n + usize::from(quoted));
        let mut stars = false;
        if quoted {
            while chars.get(*at) == Some(&'*') {
                stars = true;
                *at += 1;
            }
        } else {
            let word = value.trim_end_matches('*').len();
            stars = word < value.len();
            value.truncate(word);
        }
        Piece { negated, name, value, quoted, stars }
    }

    /// Whether it is this word and nothing else.
    fn is(&self, word: &str) -> bool {
        self.value == word && self.name.is_none() && !(self.negated || self.quoted || self.stars)
    }

    /// Name, in lower case, and value.
    fn filter(&self) -> Option<(String, &str)> {
        Some((self.name.as_ref()?.to_ascii_lowercase(), &self.value))
    }

    /// As something to look for.
    fn term(self) -> Term {
        let Piece { name, value, stars: prefix, .. } = self;
        let field = match name.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None => return Term { field: Field::Words, text: value, prefix },
            Some("title") => Field::Title,
            Some("author") => Field::Author,
            Some("url") => Field::Url,
            Some(_) => Field::Words,
        };
        // No field, or nothing to look for in it: the name is a word like others.
        if field == Field::Words || !value.chars().any(char::is_alphanumeric) {
            let text = format!("{}:{value}", name.unwrap_or_default());
            return Term { field: Field::Words, text, prefix };
        }
        Term { field, text: value, prefix }
    }
}

/// Takes a filter; false if it is none.
fn filter(name: &str, value: &str, negated: bool, parsed: &mut Parsed) -> bool {
    let filters = if negated { &mut parsed.not } else { &mut parsed.only };
    let named = value.chars().any(char::is_alphanumeric);
    let first = || Days::read(value).and_then(|days| days.from).filter(|_| !value.contains(".."));
    match name {
        "site" if named => filters.sites.push(host(value)),
        "lang" if named => filters.languages.push(value.to_lowercase()),
        "date" => match Days::read(value) {
            Some(days) => filters.dates.push(days),
            None => return false,
        },
        "after" | "before" => {
            let Some(day) = first() else { return false };
            let days = match name {
                "after" => Days { from: Some(day), until: None },
                _ => Days { from: None, until: Some(day) },
            };
            if negated {
                filters.dates.push(days);
            } else {
                parsed.span.from = parsed.span.from.max(days.from);
                parsed.span.until = [parsed.span.until, days.until].into_iter().flatten().min();
            }
        }
        _ => return false,
    }
    true
}

impl Days {
    /// `2024`, `2024-05`, `2024-05-17`, or two of them with `..` between, of which one may be left out.
    fn read(text: &str) -> Option<Days> {
        let Some((first, last)) = text.split_once("..") else {
            return Days::of(text);
        };
        let end = |text: &str| if text.is_empty() { Some(Days::default()) } else { Days::of(text) };
        let days = Days { from: end(first)?.from, until: end(last)?.until };
        (days != Days::default()).then_some(days)
    }

    /// A year, a month or a day.
    fn of(text: &str) -> Option<Days> {
        let parts: Vec<&str> = text.split('-').collect();
        if !parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_digit())) {
            return None;
        }
        let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
        let number = |at: usize| parts.get(at).map_or(Some(1), |p| p.parse::<i8>().ok());
        let span = match lengths[..] {
            [4] => 1.year(),
            [4, 2] => 1.month(),
            [4, 2, 2] => 1.day(),
            _ => return None,
        };
        let year = parts[0].parse().ok()?;
        let from = Date::new(year, number(1)?, number(2)?).ok()?;
        // After the last day there is.
        Some(Days { from: Some(from), until: from.checked_add(span).ok() })
    }
}

/// The host of what somebody typed: lower case, Punycode, without scheme and path.
pub fn host(typed: &str) -> String {
    let typed = typed.split_once("://").map_or(typed, |(_, rest)| rest);
    let authority = typed.split(['/', '?', '#']).next().unwrap_or_default().trim_matches('.');
    match url::Host::parse(authority) {
        Ok(host) => host.to_string(),
        Err(_) => authority.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(d: &Days) -> String {
        let day = |d: Option<Date>| d.map_or(String::new(), |d| d.to_string());
        format!("{}..{}", day(d.from), day(d.until))
    }

    fn filters(sign: &str, f: &Filters) -> String {
        let one = |name: &str, values: Vec<String>| -> String {
            values.into_iter().map(|v| format!(" {sign}{name}={v}")).collect()
        };
        let dates = f.dates.iter().map(days).collect();
        one("site", f.sites.clone()) + &one("lang", f.languages.clone()) + &one("date", dates)
    }

    /// `all` as text: groups joined by `&`, terms by `|`.
    fn shown(text: &str) -> String {
        let p = parse(text);
        let term = |t: &Term| {
            let field = if t.field == Field::Words { String::new() } else { format!("{:?}:", t.field) };
            format!("{field}[{}]{}", t.text, if t.prefix { "*" } else { "" })
        };
        let groups: Vec<String> = p.all.iter().map(|g| g.iter().map(term).collect::<Vec<_>>().join("|")).collect();
        let none: String = p.none.iter().map(|t| format!(" -{}", term(t))).collect();
        let span = if p.span == Days::default() { String::new() } else { format!(" span={}", days(&p.span)) };
        format!("{}{none}{}{}{span}", groups.join("&"), filters("", &p.only), filters("-", &p.not))
    }

    #[test]
    fn reads_the_language_of_the_table() {
        for (typed, expect) in [
            ("two words", "[two]&[words]"),
            ("\"two words\" more", "[two words]&[more]"),
            ("“two words”*", "[two words]*"),
            ("a -b -\"c d\"", "[a] -[b] -[c d]"),
            ("wor* x", "[wor]*&[x]"),
            ("red OR green OR \"sky blue\" door", "[red]|[green]|[sky blue]&[door]"),
            ("a AND b or c", "[a]&[b]&[or]&[c]"),
            ("x site:Example.ORG. lang:PT", "[x] site=example.org lang=pt"),
            ("site:https://bücher.de/x site:b", " site=xn--bcher-kva.de site=b"),
            ("-site:x -lang:EN a", "[a] -site=x -lang=en"),
            ("site:\"x y\"", " site=x y"),
            ("Title:x title:\"a b\"* author:ana*", "Title:[x]&Title:[a b]*&Author:[ana]*"),
            ("-url:print a OR title:b", "[a]|Title:[b] -Url:[print]"),
            ("url:https://a.de/x?y=1", "Url:[https://a.de/x?y=1]"),
            ("date:2024", " date=2024-01-01..2025-01-01"),
            ("date:2024-12 date:2023-02-28", " date=2024-12-01..2025-01-01 date=2023-02-28..2023-03-01"),
            ("date:2023..2024-05 -date:2024-05-17", " date=2023-01-01..2024-06-01 -date=2024-05-17..2024-05-18"),
            ("date:2024.. -date:..2023", " date=2024-01-01.. -date=..2024-01-01"),
            ("date:9999", " date=9999-01-01.."),
            ("after:2024-05 before:2025", " span=2024-05-01..2025-01-01"),
            ("after:2024 after:2023 before:2026 before:2025-06-07", " span=2024-01-01..2025-06-07"),
            ("a -after:2024", "[a] -date=2024-01-01.."),
        ] {
            assert_eq!(shown(typed), expect, "{typed}");
        }
    }

    #[test]
    fn anything_else_is_a_word_or_nothing() {
        for (typed, expect) in [
            ("", ""),
            (" \t\0 ", ""),
            ("!!! \"\" -- * \"*\" -\"", ""),
            ("OR a OR", "[a]"),
            ("a OR -b OR c", "[a]|[c] -[b]"),
            ("\"never closed", "[never closed]"),
            ("title:\"never closed", "Title:[never closed]"),
            ("site: lang:- title:* NEAR(a,b) ^c", "[site:]&[lang:-]&[title:]*&[NEAR(a,b)]&[^c]"),
            ("a:b x: :y 12:30", "[a:b]&[x:]&[:y]&[12:30]"),
            ("a\"b c\"d", "[a]&[b c]&[d]"),
            ("e-mail C++ a\0b", "[e-mail]&[C++]&[a]&[b]"),
            (
                "date:soon date:2024-13 date:24 date:.. date:2024-02-30",
                "[date:soon]&[date:2024-13]&[date:24]&[date:..]&[date:2024-02-30]",
            ),
            ("after:2024..2025 before:", "[after:2024..2025]&[before:]"),
            ("date:-999 date:+024", "[date:-999]&[date:+024]"),
        ] {
            assert_eq!(shown(typed), expect, "{typed}");
        }
        assert!(parse("-only -not -site:x -date:2024").is_empty());
    }

    #[test]
    fn long_queries_are_cut() {
        assert_eq!(parse(&"a ".repeat(5_000)).all.len(), TERMS);
        assert_eq!(parse(&"a".repeat(5_000)).all[0][0].text.len(), CHARS);
    }
}
