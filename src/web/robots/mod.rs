//! robots.txt: what a site lets a crawler read (RFC 9309).
//!
//! The file is parsed once into groups; a check merges the groups that name the agent (else those
//! for `*`) and lets the most specific rule decide. Beyond the RFC, as sites write them: a missing
//! colon, common misspellings, `Crawl-delay` and `Sitemap`. Where the RFC leaves it open, this does as Google's parser,
//! which is the reference (RFC 9309 came from it); where it is silent and that one is literal, percent escapes are the
//! RFC's: `%62` is `b`.

mod parse;
mod pattern;

use parse::{Group, PathRule, own_token, parse};
use pattern::path_form;

use super::url::normalise;

/// Bytes of a robots.txt that are read; the RFC asks for at least 500 KiB (section 2.5).
pub const MAX_BYTES: usize = 500 * 1024;

/// Bytes of one line that are read, as many as the reference parser does; what follows in that line is ignored.
pub const MAX_LINE_BYTES: usize = 8 * 2083 - 1;

/// Longest `Crawl-delay` reported, in seconds: a day.
pub const MAX_CRAWL_DELAY: f64 = 86_400.0;

/// A parsed robots.txt.
#[derive(Debug, Clone, Default)]
pub struct Robots {
    groups: Vec<Group>,
    sitemaps: Vec<String>,
}

/// What robots.txt says of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be fetched.
    pub allowed: bool,
    /// The rule that decided; `None` when none covers the path, which allows it.
    pub rule: Option<Rule>,
}

/// A line of robots.txt, to explain a verdict with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Line number, from 1.
    pub line: usize,
    /// The rule, such as `Disallow: /private`, in the standard's spelling of the key.
    pub text: String,
}

impl Robots {
    /// Reads at most [`MAX_BYTES`] of a robots.txt. Whatever the bytes are, this succeeds: lines
    /// without meaning are skipped (section 2.2).
    pub fn parse(body: &[u8]) -> Self {
        let (groups, sitemaps) = parse(body);
        Self { groups, sitemaps }
    }

    /// Whether `agent` (a product token such as `Tidemill`, or a whole User-Agent header) may fetch
    /// `path_and_query` (such as `/a?b=c`). The longest matching pattern decides, `Allow` where
    /// both are equally long (section 2.2.2). `/robots.txt` itself is always allowed.
    pub fn check(&self, agent: &str, path_and_query: &str) -> Verdict {
        let path = path_form(path_and_query);
        let mut best: Option<&PathRule> = None;
        if path != "/robots.txt" {
            for rule in self.groups_of(agent).flat_map(|group| &group.rules) {
                let rank = |rule: &PathRule| (rule.pattern.len(), rule.allow);
                if best.is_none_or(|best| rank(rule) > rank(best)) && rule.pattern.matches(&path) {
                    best = Some(rule);
                }
            }
        }
        Verdict {
            allowed: best.is_none_or(|rule| rule.allow),
            rule: best.map(|rule| Rule {
                line: rule.line,
                text: format!("{}: {}", if rule.allow { "Allow" } else { "Disallow" }, rule.value),
            }),
        }
    }

    /// Seconds between requests that the site asks of `agent`: the longest of its groups, from 0 to
    /// [`MAX_CRAWL_DELAY`]. Not part of the RFC, yet common.
    pub fn crawl_delay(&self, agent: &str) -> Option<f64> {
        self.groups_of(agent).filter_map(|group| group.crawl_delay).reduce(f64::max)
    }

    /// Values of `Sitemap` lines in their order, as written: usually absolute URLs.
    pub fn sitemaps(&self) -> &[String] {
        &self.sitemaps
    }

    /// Which of its groups hold for `agent`, in words.
    pub fn scope(&self, agent: &str) -> String {
        match self.token(agent) {
            Some(token) => format!("no rule for {token} covers it"),
            None if self.groups_of(agent).next().is_some() => "no rule for * covers it".to_owned(),
            None => "no rule is for this agent or for *".to_owned(),
        }
    }

    /// All groups that name the agent, together one group; those for `*` when none does.
    fn groups_of(&self, agent: &str) -> impl Iterator<Item = &Group> {
        let token = self.token(agent).unwrap_or("*");
        self.groups.iter().filter(move |group| group.agents.iter().any(|agent| agent == token))
    }

    /// The agent's product token in lower case, if a group names it.
    fn token(&self, agent: &str) -> Option<&str> {
        let token = own_token(agent)?;
        let named = self.groups.iter().flat_map(|group| &group.agents);
        named.map(String::as_str).find(|agent| agent.eq_ignore_ascii_case(token))
    }
}

/// Path and query of a URL in any shape, for [`Robots::check`]: of one that is fetched, as it is fetched; of any other text,
/// what follows the host, or the text itself where there is none.
pub fn path_of(url: &str) -> String {
    if let Ok(url) = normalise(url) {
        return url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    }
    let url = url.split('#').next().unwrap_or_default();
    let after_host = match (url.strip_prefix("//"), url.find("://"), url.find(['/', '?', ';'])) {
        (Some(rest), ..) => rest,
        // A scheme, unless a path or query began before.
        (None, Some(scheme), Some(path)) if scheme < path => &url[scheme + 3..],
        _ => url,
    };
    let path = after_host.find(['/', '?', ';']).map_or("", |at| &after_host[at..]);
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// What the answer to a request for robots.txt means for the site (RFC 9309, section 2.3.1).
#[derive(Debug, Clone)]
pub enum RobotsAnswer {
    /// These rules hold.
    Rules(Robots),
    /// There is no robots.txt: nothing is forbidden.
    AllowAll,
    /// The server cannot say for now: nothing may be fetched until it can.
    Unreachable,
}

/// Judges the final answer to a request for robots.txt, redirects already followed.
///
/// 2xx gives rules; 4xx, and 3xx for a chain of redirects too long to follow, mean that there is
/// none; 5xx and everything else mean unreachable. 429 is the exception among 4xx: the server has
/// one but is busy, and reading that as leave to fetch more would be rude.
pub fn from_status(status: u16, body: &[u8]) -> RobotsAnswer {
    match status {
        200..=299 => RobotsAnswer::Rules(Robots::parse(body)),
        429 => RobotsAnswer::Unreachable,
        300..=499 => RobotsAnswer::AllowAll,
        _ => RobotsAnswer::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(body: &str, agent: &str, path: &str) -> bool {
        Robots::parse(body.as_bytes()).check(agent, path).allowed
    }

    #[test]
    fn longest_rule_wins_and_allow_wins_ties() {
        let body = "User-agent: *\nDisallow: /a\nAllow: /a/b\nDisallow: /a/b/c\nDisallow: /t\nAllow: /t";
        for (path, expected) in [("/", true), ("/a", false), ("/a/b", true), ("/a/b/c/d", false), ("/t", true)] {
            assert_eq!(allowed(body, "Tidemill", path), expected, "{path}");
        }
    }

    #[test]
    fn verdict_names_its_rule() {
        let robots = Robots::parse(b"# x\r\nuser-agent: *\r\n\r\nDISALLOW : /p # private\r\n");
        let rule = Rule { line: 4, text: "Disallow: /p".to_owned() };
        let verdict = robots.check("Tidemill", "/p/1");
        assert_eq!((verdict.allowed, verdict.rule), (false, Some(rule)));
        let verdict = robots.check("Tidemill", "/q");
        assert_eq!((verdict.allowed, verdict.rule), (true, None));
    }

    #[test]
    fn groups_of_one_agent_merge_and_star_is_the_fallback() {
        let body = "User-agent: a\nUser-agent: b\nDisallow: /1\n\nUser-agent: *\nDisallow: /2\n\
                    User-agent: B/2.0 (x)\nDisallow: /3\nUser-agent: c\n";
        for (agent, path, expected) in [
            ("a", "/1", false),
            ("a", "/2", true),
            ("B", "/1", false),
            ("b/7.1", "/3", false),
            ("b", "/2", true),
            ("bb", "/1", true),
            ("bb", "/2", false),
            ("b-c", "/1", true),
            ("c", "/2", true),
            ("", "/2", false),
            ("9", "/2", false),
        ] {
            assert_eq!(allowed(body, agent, path), expected, "{agent} {path}");
        }
    }

    #[test]
    fn other_lines_do_not_end_a_run_of_agents() {
        let body =
            "User-agent: a\nSitemap: https://example.com/s.xml\nX: y\nCrawl-delay: 3\n\nUser-agent: b\nDisallow: /";
        assert!(!allowed(body, "a", "/x"));
        assert!(!allowed(body, "b", "/x"));
        assert!(allowed(body, "c", "/x"));
    }

    #[test]
    fn rules_before_any_agent_belong_to_nobody() {
        assert!(allowed("Disallow: /\nUser-agent: *\nDisallow: /x", "a", "/y"));
    }

    #[test]
    fn empty_disallow_allows_and_robots_itself_is_allowed() {
        assert!(allowed("User-agent: *\nDisallow:", "a", "/x"));
        assert!(allowed("User-agent: *\nDisallow: /", "a", "/robots.txt"));
        assert!(!allowed("User-agent: *\nDisallow: /", "a", "/robots.txt.bak"));
        assert!(allowed("", "a", "/x"));
    }

    #[test]
    fn sloppy_files_are_understood() {
        for body in [
            "\u{feff}User-agent: *\nDisallow: /x",
            "User-agent: *\rDisallow: /x",
            "user agent: *\ndissallow: /x",
            "User-agent *\nDisallow /x",
            "USERAGENT:*\nDISALOW:/x",
            "user agent *\nDisallow\t/x\n",
            "User-agent: * bots\nDisallow: /x",
            "<html>\nUser-agent: *\nDisallow: /x",
        ] {
            assert!(!allowed(body, "a", "/x"), "{body:?}");
            assert!(allowed(body, "a", "/y"), "{body:?}");
        }
        assert!(!allowed("User-agent: *\nDisallow /a:b", "a", "/a:b"));
        assert!(allowed("User-agent: *\nplease disallow /x", "a", "/x"));
    }

    #[test]
    fn keys_begin_as_they_are_spelt_and_prose_is_none() {
        for (line, forbids) in [
            ("Disallowed: /x", true),
            ("Disallow-all: /x", true),
            ("disallow /x extra", false),
            ("user-agent that disallow: /x", false),
            ("Disallow: /x\0\0\0", true),
            ("Disallow: /\0x", true),
            ("\0Disallow: /x", false),
            ("Crawl-delay: 1 Disallow: /x", false),
            (": /x", false),
            ("Disallow", false),
            ("Disallow:/x # why", true),
            ("   Disallow :   /x   ", true),
        ] {
            let body = format!("User-agent: a\n{line}\n");
            assert_eq!(!allowed(&body, "a", "/x"), forbids, "{line:?}");
        }
        for (mark, read) in [(&b"\xef\xbb\xbf"[..], true), (b"\xef\xbb", true), (b"\xef\x11\xbf", false)] {
            let body = [mark, b"User-agent: a\nDisallow: /x"].concat();
            assert_eq!(!Robots::parse(&body).check("a", "/x").allowed, read, "{mark:?}");
        }
    }

    #[test]
    fn who_may_read_the_index_page_may_ask_for_its_folder() {
        let body = "User-agent: *\nDisallow: /\nAllow: /a/index.html\nAllow: /b/indexes.html\nDisallow: /c/index.htm\n";
        for (path, expected) in
            [("/a/index.html", true), ("/a/", true), ("/a/x", false), ("/a", false), ("/b/", false), ("/c/", false)]
        {
            assert_eq!(allowed(body, "a", path), expected, "{path}");
        }
    }

    #[test]
    fn own_names_come_in_several_shapes() {
        let body =
            "User-agent: Foo-Bot_x/3\nDisallow: /f\nUser-agent: *\nDisallow: /all\nUser-agent:\nDisallow: /none\n";
        for (agent, path, expected) in [
            ("foo-bot_x", "/f", false),
            ("FOO-BOT_X/1.0", "/f", false),
            ("Foo-Bot_X (+https://foo.example)", "/f", false),
            ("foo-bot_x", "/all", true),
            ("foo-bot", "/f", true),
            ("foo-bot", "/all", false),
            ("Foo-Bot_x two", "/f", true),
            ("Foo-Bot_x two", "/all", false),
            ("*", "/all", false),
            ("", "/all", false),
            ("", "/none", true),
        ] {
            assert_eq!(allowed(body, agent, path), expected, "{agent} {path}");
        }
    }

    #[test]
    fn the_path_of_any_text() {
        for (url, path) in [
            ("http://e.example", "/"),
            ("http://e.example/a?b#c", "/a?b"),
            ("http://e.example?b=/c", "/?b=/c"),
            ("e.example/a", "/a"),
            ("//e.example/a", "/a"),
            ("/a/b?c", "/a/b?c"),
            ("", "/"),
            ("hello", "/"),
            ("http://e.example/a/../b", "/b"),
            ("http://e.example/ツ", "/%E3%83%84"),
            ("/a?u=http://x/y", "/a?u=http://x/y"),
            ("gopher://e.example/a", "/a"),
            ("http://e.example#a/b", "/"),
        ] {
            assert_eq!(path_of(url), path, "{url}");
        }
        let long = "a".repeat(20_000);
        assert_eq!(path_of(&format!("http://e.example/{long}")).len(), 20_001);
    }

    #[test]
    fn too_long_files_lose_the_cut_line_only() {
        let mut body = b"User-agent: *\nDisallow: /kept\n".to_vec();
        body.resize(MAX_BYTES - 12, b'#');
        body.extend_from_slice(b"\nDisallow: /cut-off\nDisallow: /late\n");
        let robots = Robots::parse(&body);
        assert!(!robots.check("a", "/kept").allowed);
        assert!(robots.check("a", "/cut-off").allowed && robots.check("a", "/other").allowed);
        assert!(robots.check("a", "/late").allowed);
    }

    #[test]
    fn long_lines_lose_their_tail() {
        let path = "/".to_owned() + &"a".repeat(MAX_LINE_BYTES);
        let robots = Robots::parse(format!("User-agent: *\nDisallow: {path}\nDisallow: /b").as_bytes());
        assert!(!robots.check("a", &path[..MAX_LINE_BYTES - 10]).allowed);
        assert!(!robots.check("a", "/b").allowed);
    }

    #[test]
    fn crawl_delays_and_sitemaps() {
        let robots = Robots::parse(
            b"Sitemap: https://e.example/1.xml\nUser-agent: a\nCrawl-delay: 2.5\nUser-agent: *\n\
              Disallow: /x\nUser-agent: b\nCrawl-delay: 10s\nDisallow:\nUser-agent: c\nAllow: /\n\
              Crawl-delay: -1\nUser-agent: d\nDisallow: /\nCrawl-delay: 1e9\nCrawl-delay: 99999999\nsitemap:/2.xml\n",
        );
        assert_eq!(robots.crawl_delay("a"), Some(2.5));
        assert_eq!(robots.crawl_delay("b"), Some(10.0));
        assert_eq!(robots.crawl_delay("c"), None);
        assert_eq!(robots.crawl_delay("d"), Some(MAX_CRAWL_DELAY));
        assert_eq!(robots.crawl_delay("z"), Some(2.5), "the group of a and * is one");
        assert_eq!(robots.sitemaps(), ["https://e.example/1.xml", "/2.xml"]);
    }

    #[test]
    fn status_decides() {
        let verdict = |status| match from_status(status, b"User-agent: *\nDisallow: /") {
            RobotsAnswer::Rules(robots) => robots.check("a", "/").allowed.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(verdict(200), "false");
        for (status, expected) in [
            (301, "AllowAll"),
            (401, "AllowAll"),
            (404, "AllowAll"),
            (429, "Unreachable"),
            (500, "Unreachable"),
            (503, "Unreachable"),
            (999, "Unreachable"),
        ] {
            assert_eq!(verdict(status), expected, "{status}");
        }
    }

    #[test]
    fn a_hostile_file_is_checked_in_time() {
        let mut body = "User-agent: *\n".to_owned();
        while body.len() < MAX_BYTES {
            body.push_str("Disallow: /*a*a*a*a*a*a*a*a*a*a*b$\n");
        }
        let robots = Robots::parse(body.as_bytes());
        let started = std::time::Instant::now();
        assert!(robots.check("x", &("/".to_owned() + &"a".repeat(8_000))).allowed);
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..300), path in "\\PC{0,20}") {
            let robots = Robots::parse(&body);
            robots.check("Tidemill", &path);
            robots.crawl_delay(&path);
        }

        #[test]
        fn line_ends_are_all_the_same(parts in proptest::collection::vec("(user-agent|allow|disallow|x)(: | )[*/a$%# -]{0,8}", 0..12), path in "/[a/]{0,6}") {
            let verdict = |end| Robots::parse(parts.join(end).as_bytes()).check("a", &path);
            prop_assert_eq!(verdict("\n"), verdict("\r\n"));
            prop_assert_eq!(verdict("\n"), verdict("\r"));
        }

        /// The verdict is that of a maximum over every rule, whatever their order.
        #[test]
        fn order_of_rules_does_not_matter(rules in proptest::collection::vec((any::<bool>(), "/[ab*]{0,4}"), 0..8), path in "/[ab]{0,5}") {
            let file = |rules: &[(bool, String)]| {
                let mut text = "User-agent: *\n".to_owned();
                for (allow, pattern) in rules {
                    text += &format!("{}: {pattern}\n", if *allow { "Allow" } else { "Disallow" });
                }
                text
            };
            let backwards: Vec<_> = rules.iter().rev().cloned().collect();
            prop_assert_eq!(allowed(&file(&rules), "a", &path), allowed(&file(&backwards), "a", &path));
        }
    }
}
