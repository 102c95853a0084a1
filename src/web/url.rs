//! What counts as the same URL: one spelling for each, a fingerprint of it, and the host it is
//! paced by.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use url::Url;

pub use crate::record::url_task::host_key;

/// Longest URL taken, in bytes, before and after normalisation. RFC 9110 section 4.1 asks for 8,000
/// to be supported; servers commonly refuse more.
pub const MAX_URL_BYTES: usize = 8 * 1024;

/// Times that a file URL may be read anew until it stays as it is; twice is the most that was seen.
const SETTLED: usize = 8;

/// Longest piece of input an error repeats.
const SHOWN_CHARS: usize = 80;

/// Why a text is not a URL that can be fetched. Each message is one sentence with the fix; none
/// repeats a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Nothing but white space.
    #[error("the URL is empty: write one such as https://example.com/page")]
    Empty,
    /// Over [`MAX_URL_BYTES`]; its bytes.
    #[error("the URL has {0} bytes: use one of at most {MAX_URL_BYTES}")]
    TooLong(usize),
    /// None that is fetched; the scheme in lower case.
    #[error("scheme \"{0}\" cannot be fetched: use http or https")]
    Scheme(String),
    /// A path, a word, or a scheme alone; the input, shortened.
    #[error("\"{0}\" has no host: write the whole URL, such as https://example.com/page")]
    NoHost(String),
    /// Whatever else the URL standard refuses.
    #[error("\"{shown}\" is not a URL ({cause}): check its host and port")]
    Invalid {
        /// The input, shortened and without credentials.
        shown: String,
        /// What is wrong with it.
        cause: url::ParseError,
    },
}

/// Schemes that are written without `//`, so that `tel:123` is not taken for host `tel`, port 123.
const OPAQUE_SCHEMES: [&str; 12] =
    ["about", "blob", "callto", "cid", "data", "geo", "javascript", "mailto", "sip", "sms", "tel", "urn"];

/// The one spelling of a URL that this pipeline fetches, stores and compares.
///
/// Surrounding white space goes; a bare `example.com/a` or `//example.com/a` gets `http:`. Scheme
/// and host become lower case (IDNA for names), the default port, dot segments, the fragment and
/// credentials are removed. In path and query, percent escapes become upper case and those of
/// unreserved characters are decoded (RFC 3986, section 6.2.2). The query is kept as it is, in its
/// order: what a parameter means is the site's business. Normalising twice changes nothing.
///
/// Credentials are dropped, not refused, since a URL travels through topics and logs that many can
/// read.
pub fn normalise(text: &str) -> Result<Url, UrlError> {
    let mut url = normalise_once(text)?;
    // Where a path looks like a Windows drive, file URLs are written in a way that is read otherwise: `file://a//a:/b` has
    // a host when it is first read and none from then on. What it is read as in the end is what it means.
    for _ in 0..SETTLED {
        let again = match url.scheme() {
            "file" => normalise_once(url.as_str())?,
            _ => return Ok(url),
        };
        if again == url {
            return Ok(url);
        }
        url = again;
    }
    Err(UrlError::NoHost(shown(text)))
}

fn normalise_once(text: &str) -> Result<Url, UrlError> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}');
    if text.is_empty() {
        return Err(UrlError::Empty);
    }
    if text.len() > MAX_URL_BYTES {
        return Err(UrlError::TooLong(text.len()));
    }
    let parsed = Url::parse(&with_scheme(text)?);
    let parsed = parsed.and_then(|url| match url.scheme() {
        "s3" if !url.has_host() => Err(url::ParseError::EmptyHost),
        _ => Ok(url),
    });
    let mut url = parsed.map_err(|cause| match cause {
        url::ParseError::EmptyHost => UrlError::NoHost(shown(text)),
        cause => UrlError::Invalid { shown: shown(text), cause },
    })?;
    url.set_fragment(None);
    if !url.username().is_empty() || url.password().is_some() {
        // These setters fail only for URLs without a host, which http and https always have.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        tracing::debug!(url = %url, "credentials removed from a URL");
    }
    if url.as_str().contains('%') {
        let path = normalise_escapes(url.path());
        if path != url.path() {
            url.set_path(&path);
        }
        if let Some(query) = url.query().map(normalise_escapes) {
            url.set_query(Some(&query));
        }
    }
    match url.as_str().len() {
        len if len > MAX_URL_BYTES => Err(UrlError::TooLong(len)),
        _ => Ok(url),
    }
}

/// `text` as an absolute URL of http(s), or of an input that lies in a folder or a bucket; or why it cannot be one.
fn with_scheme(text: &str) -> Result<Cow<'_, str>, UrlError> {
    if text.starts_with("//") {
        return Ok(format!("http:{text}").into());
    }
    let Some((scheme, rest)) = split_scheme(text) else {
        return bare(text);
    };
    if ["http", "https", "file", "s3"].iter().any(|taken| scheme.eq_ignore_ascii_case(taken)) {
        return Ok(text.into());
    }
    let lower = scheme.to_ascii_lowercase();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let port_follows = digits > 0 && matches!(rest.as_bytes().get(digits), None | Some(b'/' | b'?' | b'#'));
    // `user:secret@host/` lacks a scheme as well.
    let credentials = authority(rest).contains('@');
    if (port_follows || credentials) && !OPAQUE_SCHEMES.contains(&lower.as_str()) {
        return bare(text);
    }
    Err(UrlError::Scheme(lower.chars().take(SHOWN_CHARS).collect()))
}

/// A host and path without a scheme. One word alone is more likely a slip than a host.
fn bare(text: &str) -> Result<Cow<'_, str>, UrlError> {
    let host = authority(text);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let name = host.split(':').next().unwrap_or_default();
    let looks_like_host = host.starts_with('[')
        || name.eq_ignore_ascii_case("localhost")
        || name.trim_matches('.').contains('.')
        || (!name.is_empty() && host.len() > name.len());
    if looks_like_host { Ok(format!("http://{text}").into()) } else { Err(UrlError::NoHost(shown(text))) }
}

/// `scheme` and what follows its colon, where `text` begins with one (RFC 3986, section 3.1).
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    valid.then_some((scheme, rest))
}

/// Everything before the path, query or fragment. Browsers take `\` for `/` here.
fn authority(text: &str) -> &str {
    text.split(['/', '\\', '?', '#']).next().unwrap_or_default()
}

fn shown(text: &str) -> String {
    redact(text).chars().take(SHOWN_CHARS).collect()
}

/// Upper-case escapes, with those of unreserved characters decoded, once.
fn normalise_escapes(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    // Where in `out` the last `%` stands that begins no escape: a decoded digit right after it
    // would make it one ("%%34" + "1"), and a second pass would read something else.
    let mut stray = None;
    let mut at = 0;
    while let Some(found) = text[at..].find('%') {
        at += found;
        out.push_str(&text[copied..at]);
        match unescape(&bytes[at..]) {
            Some(byte) => {
                let completes_stray = stray.is_some_and(|s| out.len() - s <= 2);
                if is_unreserved(byte) && !completes_stray {
                    out.push(char::from(byte));
                } else {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "%{byte:02X}");
                }
                at += 3;
            }
            None => {
                stray = Some(out.len());
                out.push('%');
                at += 1;
            }
        }
        copied = at;
    }
    out.push_str(&text[copied..]);
    out
}

/// The byte that a percent escape at the start of `bytes` stands for.
pub(crate) fn unescape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    // Two hexadecimal digits always fit a byte.
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

/// Characters whose escapes mean the same as themselves (RFC 3986, section 2.3).
pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// 128 bits of SHA-256 over the URL as 32 lower-case hexadecimal digits: the same for ever, on every
/// machine. Hand it what [`normalise`] returned, so that one page has one fingerprint.
pub fn fingerprint(url: &Url) -> String {
    hex::encode(&Sha256::digest(url.as_str())[..16])
}

/// `text`, a URL or a message with URLs in it, without user names and passwords: for logs.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // A URL typed without `//` may carry a password as well; where the text begins with an
    // authority, treat it as one.
    if let Some((scheme, after)) = split_scheme(text)
        && ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str())
        && !after.starts_with("//")
    {
        let slashes = after.len() - after.trim_start_matches(['/', '\\']).len();
        let head = scheme.len() + 1 + slashes;
        out.push_str(&text[..head]);
        rest = without_userinfo(&text[head..]);
    } else if !text.starts_with('/') {
        rest = without_userinfo(text);
    }
    while let Some(at) = rest.find("//") {
        let head = at + 2;
        out.push_str(&rest[..head]);
        rest = without_userinfo(&rest[head..]);
    }
    out.push_str(rest);
    out
}

fn without_userinfo(text: &str) -> &str {
    let end = text
        .find(|c: char| matches!(c, '/' | '\\' | '?' | '#' | '"' | '<' | '>') || c.is_whitespace())
        .unwrap_or(text.len());
    match text[..end].rfind('@') {
        Some(at) => &text[at + 1..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn norm(text: &str) -> String {
        normalise(text).unwrap().into()
    }

    #[test]
    fn one_spelling() {
        for (typed, meant) in [
            (" http://Example.COM ", "http://example.com/"),
            ("\u{feff}http://example.com/a\r\n", "http://example.com/a"),
            ("example.com/a", "http://example.com/a"),
            ("example.com:8080/a", "http://example.com:8080/a"),
            ("example.com:80", "http://example.com/"),
            ("localhost:8080", "http://localhost:8080/"),
            ("intranet:8080/x", "http://intranet:8080/x"),
            ("//example.com/a", "http://example.com/a"),
            ("192.0.2.7/x", "http://192.0.2.7/x"),
            ("[2001:db8::1]:81/x", "http://[2001:db8::1]:81/x"),
            ("HTTPS://example.com:443/", "https://example.com/"),
            ("http:/example.com/x", "http://example.com/x"),
            ("http://example.com/a/./b/../c", "http://example.com/a/c"),
            ("http://example.com/a/%2e%2E/c", "http://example.com/c"),
            ("http://example.com/a#top", "http://example.com/a"),
            ("http://example.com/?b=2&a=1", "http://example.com/?b=2&a=1"),
            ("http://example.com/?", "http://example.com/?"),
            ("http://example.com/%7euser%2f%c3%a9", "http://example.com/~user%2F%C3%A9"),
            ("http://example.com/é?q=ü", "http://example.com/%C3%A9?q=%C3%BC"),
            ("http://example.com/?q=%41%26", "http://example.com/?q=A%26"),
            ("http://bücher.example/", "http://xn--bcher-kva.example/"),
            ("http://u:p@example.com/", "http://example.com/"),
            ("u:p@example.com/", "http://example.com/"),
            ("http://example.com/100%", "http://example.com/100%"),
            ("http://example.com/%%341", "http://example.com/%%341"),
        ] {
            assert_eq!(norm(typed), meant, "{typed}");
        }
    }

    /// Found by mutation: read once it has a host, read twice none.
    #[test]
    fn a_file_url_that_looks_like_a_drive_is_written_as_it_is_read() {
        let settled = norm("file://a//a://a//a/b/b");
        assert_eq!(norm(&settled), settled);
        assert_eq!(Url::parse(&settled).unwrap().as_str(), settled);
        assert_eq!(norm("file://elsewhere/etc/passwd"), "file://elsewhere/etc/passwd");
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (typed, says) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("ftp://example.com/", "\"ftp\" cannot be fetched"),
            ("mailto:a@example.com", "\"mailto\" cannot be fetched"),
            ("javascript:alert(1)", "\"javascript\" cannot be fetched"),
            ("tel:12345", "\"tel\" cannot be fetched"),
            ("data:text/html,x", "\"data\" cannot be fetched"),
            ("hello", "\"hello\" has no host"),
            ("/path", "\"/path\" has no host"),
            ("http://", "\"http://\" has no host"),
            ("http://exa mple.com/", "check its host"),
            ("http://example.com:99999/", "check its host"),
        ] {
            let message = normalise(typed).unwrap_err().to_string();
            assert!(message.contains(says), "{typed}: {message}");
        }
        let message = normalise("http://u:secret@exa mple.com/").unwrap_err().to_string();
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn length_is_bounded_before_and_after() {
        let path = "a".repeat(MAX_URL_BYTES);
        assert!(matches!(normalise(&format!("http://example.com/{path}")), Err(UrlError::TooLong(_))));
        // 3,000 two-byte letters fit, their 18,000 bytes of escapes do not.
        let grows = format!("http://example.com/{}", "é".repeat(3000));
        assert!(matches!(normalise(&grows), Err(UrlError::TooLong(_))));
    }

    #[test]
    fn fingerprint_is_the_head_of_sha256() {
        let url = normalise("HTTP://EXAMPLE.com:80/").unwrap();
        // printf 'http://example.com/' | sha256sum
        assert_eq!(fingerprint(&url), "2a1b402420ef46577471cdc7409b0fa2");
        assert_ne!(fingerprint(&url), fingerprint(&normalise("https://example.com/").unwrap()));
    }

    #[test]
    fn host_keys() {
        for (url, key) in [
            ("http://Example.com./a", "example.com"),
            ("https://example.com:443/", "example.com"),
            ("https://example.com:80/", "example.com:80"),
            ("http://[2001:DB8::1]:8080/", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(host_key(&Url::parse(url).unwrap()), key);
        }
    }

    #[test]
    fn redaction() {
        for (text, safe) in [
            ("http://u:p@example.com/x@y", "http://example.com/x@y"),
            ("http://u:p@p@example.com/", "http://example.com/"),
            ("http:/u:p@example.com/", "http:/example.com/"),
            ("http:u:p@example.com/", "http:example.com/"),
            ("u:p@example.com/a", "example.com/a"),
            ("//u:p@example.com/a", "//example.com/a"),
            ("http:\\\\u:p@example.com", "http:\\\\example.com"),
            ("http://example.com/@name", "http://example.com/@name"),
            ("proxy http://u:p@h:1 failed for http://a:b@c/", "proxy http://h:1 failed for http://c/"),
            ("http://a/?next=https://u:p@b/", "http://a/?next=https://b/"),
        ] {
            assert_eq!(redact(text), safe);
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "(https?://)?([a-zA-Z.]{1,9}@)?[a-zA-Z.]{1,12}(:[0-9]{1,4})?/[ -~é]{0,40}") {
            if let Ok(once) = normalise(&text) {
                prop_assert_eq!(normalise(once.as_str()), Ok(once));
            }
        }

        #[test]
        fn file_urls_are_what_they_are_read_as_again(rest in "(//)?[aC:/|.%5c\\\\]{0,14}(a//a://a)?[aC:/|.?]{0,6}") {
            if let Ok(once) = normalise(&format!("file:{rest}")) {
                prop_assert_eq!(normalise(once.as_str()), Ok(once));
            }
        }

        #[test]
        fn escapes_settle_in_one_pass(text in "[%0-9a-fA-F~/]{0,24}") {
            let once = normalise_escapes(&text);
            prop_assert_eq!(normalise_escapes(&once), once);
        }

        #[test]
        fn anything_is_an_answer(text in "\\PC{0,60}") {
            if let Ok(url) = normalise(&text) {
                prop_assert!(matches!(url.scheme(), "http" | "https"));
                prop_assert!(url.has_host() && url.password().is_none() && url.username().is_empty());
            }
            redact(&text);
        }
    }
}
