//! The query language, whatever the index: any text is a query, and none is a syntax error.
//!
//! | typed | means |
//! |---|---|
//! | `two words` | both, anywhere |
//! | `"two words"` | one after the other |
//! | `-word`, `-"two words"` | not this |
//! | `word*` | words that begin so |
//! | `red OR green door` | one of the two, and `door` (OR binds its neighbours) |
//! | `site:example.org` | that host and those below it; several: any of them |
//! | `lang:pt` | that language; several: any of them |
//!
//! `AND` is what happens anyway and is passed over. Anything else is a word, punctuation and all.

/// Characters of a query that are read.
const CHARS: usize = 2_000;
/// Words and phrases of a query that are read, so that no query costs without bounds.
const TERMS: usize = 64;

/// A word or a phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Free of quotes and control characters; has a letter or a digit.
    pub text: String,
    /// The last word only begins so.
    pub prefix: bool,
}

/// A query, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Of each group, one must be there.
    pub all: Vec<Vec<Term>>,
    /// None of these may be there.
    pub none: Vec<Term>,
    /// Hosts, lower case, as URLs spell them.
    pub sites: Vec<String>,
    /// Languages, lower case.
    pub languages: Vec<String>,
}

impl Parsed {
    /// Whether there is nothing to look for. Saying only what not to find is nothing.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.sites.is_empty() && self.languages.is_empty()
    }
}

/// Reads a query.
pub fn parse(text: &str) -> Parsed {
    let chars: Vec<char> = text.chars().take(CHARS).map(plain).collect();
    let mut parsed = Parsed::default();
    let (mut at, mut terms, mut or) = (0, 0, false);
    while at < chars.len() && terms < TERMS {
        if chars[at] == ' ' {
            at += 1;
            continue;
        }
        let negated = chars[at] == '-';
        at += usize::from(negated);
        let quoted = chars.get(at) == Some(&'"');
        at += usize::from(quoted);
        let end = chars[at..].iter().position(|c| if quoted { *c == '"' } else { matches!(c, ' ' | '"') });
        let end = end.map_or(chars.len(), |n| at + n);
        let mut text: String = chars[at..end].iter().collect();
        at = end + usize::from(quoted);
        let mut prefix = false;
        if quoted {
            while chars.get(at) == Some(&'*') {
                prefix = true;
                at += 1;
            }
        } else if text == "OR" && !negated {
            or = true;
            continue;
        } else if text == "AND" && !negated {
            continue;
        } else if !negated && filter(&text, &mut parsed) {
            terms += 1;
            or = false;
            continue;
        } else {
            let word = text.trim_end_matches('*').len();
            prefix = word < text.len();
            text.truncate(word);
        }
        if text.chars().any(char::is_alphanumeric) {
            terms += 1;
            let term = Term { text, prefix };
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

/// Takes `site:` and `lang:`.
fn filter(word: &str, parsed: &mut Parsed) -> bool {
    let Some((name, value)) = word.split_once(':') else { return false };
    if !value.chars().any(char::is_alphanumeric) {
        return false;
    }
    if name.eq_ignore_ascii_case("site") {
        parsed.sites.push(host(value));
    } else if name.eq_ignore_ascii_case("lang") {
        parsed.languages.push(value.to_lowercase());
    } else {
        return false;
    }
    true
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

    /// `all` as text: groups joined by `&`, terms by `|`.
    fn shown(text: &str) -> String {
        let p = parse(text);
        let term = |t: &Term| format!("[{}]{}", t.text, if t.prefix { "*" } else { "" });
        let groups: Vec<String> = p.all.iter().map(|g| g.iter().map(term).collect::<Vec<_>>().join("|")).collect();
        let none: String = p.none.iter().map(|t| format!(" -{}", term(t))).collect();
        let sites: String = p.sites.iter().map(|s| format!(" site={s}")).collect();
        let languages: String = p.languages.iter().map(|s| format!(" lang={s}")).collect();
        format!("{}{none}{sites}{languages}", groups.join("&"))
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
            ("site: lang:- title:x NEAR(a,b) ^c", "[site:]&[lang:-]&[title:x]&[NEAR(a,b)]&[^c]"),
            ("a\"b c\"d", "[a]&[b c]&[d]"),
            ("e-mail C++ a\0b", "[e-mail]&[C++]&[a]&[b]"),
            ("-site:x", " -[site:x]"),
        ] {
            assert_eq!(shown(typed), expect, "{typed}");
        }
        assert!(parse("-only -not").is_empty());
    }

    #[test]
    fn long_queries_are_cut() {
        assert_eq!(parse(&"a ".repeat(5_000)).all.len(), TERMS);
        assert_eq!(parse(&"a".repeat(5_000)).all[0][0].text.len(), CHARS);
    }
}
