//! The lines of robots.txt (RFC 9309, section 2.2), read as generously as sites write them.

use std::borrow::Cow;

use super::pattern::Pattern;
use super::{MAX_BYTES, MAX_CRAWL_DELAY, MAX_LINE_BYTES};

/// Rules between one run of `User-agent` lines and the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    /// Product tokens in lower case; `*` for everyone.
    pub(super) agents: Vec<String>,
    pub(super) rules: Vec<PathRule>,
    /// Seconds.
    pub(super) crawl_delay: Option<f64>,
}

#[derive(Debug, Clone)]
pub(super) struct PathRule {
    pub(super) allow: bool,
    pub(super) pattern: Pattern,
    /// From 1.
    pub(super) line: usize,
    /// The value as written.
    pub(super) value: String,
}

#[derive(Clone, Copy)]
enum Key {
    UserAgent,
    Allow,
    Disallow,
    CrawlDelay,
    Sitemap,
}

/// Groups in the order of the file, and sitemap URLs.
pub(super) fn parse(body: &[u8]) -> (Vec<Group>, Vec<String>) {
    let mut groups: Vec<Group> = Vec::new();
    let mut sitemaps = Vec::new();
    // True until the current group has a rule: further User-agent lines join it. Only Allow and
    // Disallow end the run; other lines must not interfere (section 2.2.4).
    let mut naming = false;
    for (index, line) in lines(within_limit(body)).enumerate() {
        let Some((key, value)) = key_and_value(line) else {
            continue;
        };
        match key {
            Key::UserAgent => {
                if !naming {
                    groups.push(Group::default());
                    naming = true;
                }
                if let (Some(group), Some(agent)) = (groups.last_mut(), agent_token(value)) {
                    group.agents.push(agent);
                }
            }
            Key::Allow | Key::Disallow => {
                // Rules before any User-agent line belong to nobody.
                let Some(group) = groups.last_mut() else {
                    continue;
                };
                naming = false;
                // An empty path matches nothing.
                if value.is_empty() {
                    continue;
                }
                let allow = matches!(key, Key::Allow);
                let mut rule = |pattern: Pattern| {
                    let value = text(value).into_owned();
                    group.rules.push(PathRule { allow, pattern, line: index + 1, value });
                };
                rule(Pattern::new(value));
                // The page that stands for its folder: who may read it may ask for the folder (as the reference parser has it).
                if allow
                    && let Some(slash) = value.iter().rposition(|b| *b == b'/')
                    && value[slash..].starts_with(b"/index.htm")
                {
                    rule(Pattern::new(&[&value[..=slash], b"$"].concat()));
                }
            }
            Key::CrawlDelay => {
                if let (Some(group), Some(seconds)) = (groups.last_mut(), seconds(value)) {
                    group.crawl_delay = Some(group.crawl_delay.unwrap_or(0.0).max(seconds));
                }
            }
            Key::Sitemap if value.is_empty() => {}
            Key::Sitemap => sitemaps.push(text(value).into_owned()),
        }
    }
    (groups, sitemaps)
}

/// The first [`MAX_BYTES`] without a line cut in half (half a path would say something else), and
/// without a byte order mark.
fn within_limit(body: &[u8]) -> &[u8] {
    // Half a mark is skipped too, as the reference parser does.
    let mark = body.iter().zip(b"\xef\xbb\xbf").take_while(|(a, b)| a == b).count();
    let body = &body[mark..];
    if body.len() <= MAX_BYTES {
        return body;
    }
    let head = &body[..MAX_BYTES];
    let ends = matches!(body[MAX_BYTES], b'\r' | b'\n');
    match head.iter().rposition(|b| matches!(b, b'\r' | b'\n')) {
        Some(end) if !ends => &head[..end],
        _ => head,
    }
}

/// Lines that end in CR, LF or both.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let now = rest?;
        let Some(end) = now.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
            rest = None;
            return Some(now);
        };
        let ending = if now[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&now[end + ending..]);
        Some(&now[..end])
    })
}

fn key_and_value(line: &[u8]) -> Option<(Key, &[u8])> {
    let line = &line[..line.len().min(MAX_LINE_BYTES)];
    // Some files are padded with NULs; what follows one is no text.
    let line = line.split(|b| matches!(b, b'#' | 0)).next().unwrap_or_default();
    let line = line.trim_ascii();
    if let Some(colon) = line.iter().position(|b| *b == b':') {
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        // In "Disallow /a:b" the colon is the path's.
        let colon_of_path = name.windows(2).any(|two| two[0].is_ascii_whitespace() && matches!(two[1], b'/' | b'*'));
        if !colon_of_path {
            return Some((key(name)?, value));
        }
    }
    // The colon is missing: one word names the key ("user agent" two), one word is the value.
    // More words are prose, such as an HTML page sent in place of robots.txt.
    let value_at = line.iter().rposition(u8::is_ascii_whitespace)? + 1;
    let name = line[..value_at].trim_ascii();
    let two_words = [&b"user agent"[..], b"crawl delay", b"site map"];
    let known =
        !name.contains(&b' ') && !name.contains(&b'\t') || two_words.iter().any(|w| name.eq_ignore_ascii_case(w));
    Some((key(name).filter(|_| known)?, &line[value_at..]))
}

/// How sites spell the keys. What follows the spelling is ignored, as in the reference parser: `Disallowed:` is one too.
const SPELLINGS: &[(Key, &[&str])] = &[
    (
        Key::UserAgent,
        &["user-agent", "useragent", "user agent", "user_agent", "user-agant", "user-agnet", "usera-gent"],
    ),
    (Key::Allow, &["allow", "alow"]),
    (Key::Disallow, &["disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw", "dis-allow", "disllow"]),
    (Key::CrawlDelay, &["crawl-delay", "crawldelay", "crawl delay", "crawl_delay", "craw-delay"]),
    (Key::Sitemap, &["sitemap", "site-map", "site map"]),
];

fn key(name: &[u8]) -> Option<Key> {
    let begins =
        |spelling: &&str| name.get(..spelling.len()).is_some_and(|n| n.eq_ignore_ascii_case(spelling.as_bytes()));
    SPELLINGS.iter().find(|(_, spellings)| spellings.iter().any(begins)).map(|(key, _)| *key)
}

/// The product token that a User-agent value names, in lower case: `Bot/2.0 (x)` names `bot`.
fn agent_token(value: &[u8]) -> Option<String> {
    match value {
        [b'*'] => Some("*".to_owned()),
        [b'*', after, ..] if after.is_ascii_whitespace() => Some("*".to_owned()),
        _ => product_token(&text(value)).map(str::to_ascii_lowercase),
    }
}

/// The product token of a crawler's own name, in lower case: that of `FooBot/1.0 (+https://…)` is `foobot`. Two bare words
/// are no product token, so only what holds for everyone holds for them.
pub(super) fn own_token(name: &str) -> Option<&str> {
    let name = name.trim();
    let token = product_token(name)?;
    let rest = &name[token.len()..];
    let second_word = rest.starts_with(char::is_whitespace) && !rest.trim_start().starts_with('(');
    (!second_word).then_some(token)
}

/// The leading letters, `-` and `_` of `agent` (RFC 9309, section 2.2.1).
pub(super) fn product_token(agent: &str) -> Option<&str> {
    let token = agent.trim_start();
    let end = token.find(|c: char| !(c.is_ascii_alphabetic() || matches!(c, '-' | '_'))).unwrap_or(token.len());
    (end > 0).then(|| &token[..end])
}

/// Leading number of a Crawl-delay, which sites write as `10`, `0.5` or `10s`.
fn seconds(value: &[u8]) -> Option<f64> {
    let end = value.iter().position(|b| !(b.is_ascii_digit() || *b == b'.')).unwrap_or(value.len());
    let seconds: f64 = text(&value[..end]).parse().ok()?;
    Some(seconds.min(MAX_CRAWL_DELAY))
}

fn text(value: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(value)
}
