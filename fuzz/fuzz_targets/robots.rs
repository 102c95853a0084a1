//! Any bytes are a robots.txt: read without a panic, a verdict names a line that is there, and agrees with what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::web::robots::{Robots, path_of};

fuzz_target!(|input: (&[u8], &str, &str)| {
    let (body, agent, url) = input;
    let robots = Robots::parse(body);
    let path = path_of(url);
    for agent in [agent, "Tidemill", "*"] {
        let verdict = robots.check(agent, &path);
        match &verdict.rule {
            Some(rule) => assert!(rule.line >= 1 && rule.line <= body.len() + 1),
            None => assert!(verdict.allowed, "nothing forbids it"),
        }
        assert!(robots.crawl_delay(agent).is_none_or(|d| d.is_finite() && d >= 0.0));
        let _ = robots.scope(agent);
    }
    assert!(robots.check(agent, "/robots.txt").allowed);
    let _ = robots.sitemaps();
});
