//! One path pattern of robots.txt (RFC 9309, sections 2.2.2 and 2.2.3).

use std::fmt::Write as _;

use crate::web::url::{is_unreserved, unescape};

/// A rule's path: octets in their compared form, `*` for any run of octets, and an optional `$`
/// for the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Compared form, with `*` only as a wildcard and without the final `$`. ASCII.
    text: String,
    anchored: bool,
}

impl Pattern {
    pub(super) fn new(value: &[u8]) -> Self {
        let (value, anchored) = match value.strip_suffix(b"$") {
            Some(value) => (value, true),
            None => (value, false),
        };
        Self { text: compared_form(value, true), anchored }
    }

    /// Octets: the longer of two matching patterns is the more specific one.
    pub(super) fn len(&self) -> usize {
        self.text.len() + usize::from(self.anchored)
    }

    /// Whether the pattern covers `path`, which [`path_form`] made.
    ///
    /// Taking each piece between stars at its leftmost place is enough, since a star may take any
    /// length. `str::find` is linear, hence so is this: no wildcard can make it explode.
    pub(super) fn matches(&self, path: &str) -> bool {
        let Some((head, tail)) = self.text.split_once('*') else {
            return match self.anchored {
                true => path == self.text,
                false => path.starts_with(&self.text),
            };
        };
        let Some(mut rest) = path.strip_prefix(head) else {
            return false;
        };
        let mut pieces = tail.split('*');
        let last = if self.anchored { pieces.next_back() } else { None };
        for piece in pieces {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        last.is_none_or(|last| rest.ends_with(last))
    }
}

/// A request's path and query as patterns are compared with it: from the first `/`, without its
/// fragment.
pub(super) fn path_form(path_and_query: &str) -> String {
    let path = path_and_query.split('#').next().unwrap_or_default();
    let form = compared_form(path.as_bytes(), false);
    match form.starts_with('/') {
        true => form,
        false => format!("/{form}"),
    }
}

/// One spelling for octets that mean the same: escapes of unreserved characters decoded, all other
/// escapes in upper case, octets that a URL cannot hold escaped. Escaped reserved characters stay
/// escaped, for `%2F` is not `/`; but in a query, where they separate nothing, `:`, `/`, `?` and `@`
/// are the same either way (the RFC's own example is a URL in a query). `$`, and `*` outside patterns, are escaped as the RFC advises, so
/// that `%2A` in a pattern is a star in the path.
fn compared_form(octets: &[u8], is_pattern: bool) -> String {
    let mut out = String::with_capacity(octets.len());
    let (mut at, mut in_query) = (0, false);
    while let Some(&octet) = octets.get(at) {
        let (octet, escaped) = match unescape(&octets[at..]) {
            Some(octet) => (octet, true),
            None => (octet, false),
        };
        at += if escaped { 3 } else { 1 };
        let plain = match octet {
            _ if is_unreserved(octet) => true,
            b':' | b'/' | b'?' | b'@' if escaped && in_query => true,
            _ if escaped => false,
            b'*' => is_pattern,
            b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@' | b'!' | b'&' | b'\'' | b'(' | b')' | b'+' | b',' | b';'
            | b'=' => true,
            // No escape begins here; as a literal it is compared with a literal.
            b'%' => true,
            _ => false,
        };
        in_query |= octet == b'?' && !escaped;
        if plain {
            out.push(char::from(octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern.as_bytes()).matches(&path_form(path))
    }

    #[test]
    fn wildcards_and_ends() {
        for (pattern, path, expected) in [
            ("/", "/anything", true),
            ("/fish", "/fishheads?x", true),
            ("/fish", "/Fish", false),
            ("/fish*", "/fish", true),
            ("/fish/", "/fish", false),
            ("*.php", "/a/b.php5", true),
            ("/*.php$", "/a.php?x", false),
            ("/*.php$", "/a.php.php", true),
            ("/a*b*c$", "/a-b-b-c", true),
            ("/a*bc*c$", "/abc", false),
            ("/a$", "/a", true),
            ("/a$", "/ab", false),
            ("/a$b", "/a$b", true),
            ("/$", "/", true),
            ("$", "/", false),
            ("*$", "/x", true),
            ("/*/*/x", "/a/b/x", true),
            ("fish", "/fish", false),
            ("/?", "/?a=b", true),
        ] {
            assert_eq!(covers(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn octets_compare_in_one_spelling() {
        for (pattern, path, expected) in [
            ("/ツ", "/%E3%83%84", true),
            ("/%e3%83%84", "/ツ", true),
            ("/%62%61z", "/baz", true),
            ("/baz", "/b%61z", true),
            ("/a%2fb", "/a%2Fb", true),
            ("/a%2fb", "/a/b", false),
            ("/a/b", "/a%2Fb", false),
            ("/a b", "/a%20b", true),
            ("/%7Ejoe", "/~joe", true),
            ("/a%2A", "/a*", true),
            ("/a%2A", "/ab", false),
            ("/a%24", "/a$", true),
            ("/100%", "/100%", true),
            ("/a?u=https://b.example", "/a?u=https%3A%2F%2Fb.example", true),
            ("/a?u=https%3a%2f%2fb.example", "/a?u=https://b.example", true),
            ("/a%3Fu", "/a?u", false),
        ] {
            assert_eq!(covers(pattern, path), expected, "{pattern} on {path}");
        }
        assert!(Pattern::new(b"/\xe9").matches(&path_form("/%E9")), "not UTF-8");
    }

    #[test]
    fn the_fragment_and_a_missing_slash() {
        assert!(covers("/$", ""));
        assert!(covers("/?q", "?q"));
        assert!(covers("/a$", "/a#b"));
    }

    #[test]
    fn many_stars_take_linear_time() {
        let pattern = "/".to_owned() + &"*a".repeat(8_000) + "b$";
        let path = "/".to_owned() + &"a".repeat(8_000);
        let started = std::time::Instant::now();
        assert!(!covers(&pattern, &path));
        assert!(started.elapsed().as_secs() < 2);
    }

    /// Every way to place every star, as the RFC defines it.
    fn naive(pattern: &[u8], path: &[u8], anchored: bool) -> bool {
        match pattern.split_first() {
            None => !anchored || path.is_empty(),
            Some((b'*', rest)) => (0..=path.len()).any(|at| naive(rest, &path[at..], anchored)),
            Some((first, rest)) => path.first() == Some(first) && naive(rest, &path[1..], anchored),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn equals_the_naive_matcher(pattern in "/[ab*]{0,7}", path in "/[ab]{0,9}", anchored: bool) {
            let written = if anchored { format!("{pattern}$") } else { pattern.clone() };
            prop_assert_eq!(
                covers(&written, &path),
                naive(pattern.as_bytes(), path.as_bytes(), anchored)
            );
        }

        #[test]
        fn a_path_as_a_pattern_covers_itself(path in "/[ -)+-~é]{0,20}") {
            // A final `$` would be an anchor; nothing else differs between path and pattern here.
            let path = path.split('#').next().unwrap_or_default().trim_end_matches('$');
            prop_assert!(covers(path, path));
            let anchored = format!("{path}$");
            prop_assert!(covers(&anchored, path));
        }

        #[test]
        fn one_form_is_stable(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            // Stray percent signs aside, which may become escapes.
            let octets: Vec<u8> = octets.into_iter().filter(|o| *o != b'%').collect();
            let form = compared_form(&octets, true);
            prop_assert!(form.is_ascii());
            prop_assert_eq!(compared_form(form.as_bytes(), true), form);
        }
    }
}
