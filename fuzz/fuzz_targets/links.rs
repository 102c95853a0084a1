//! Links, alternates and metadata of any page: absolute addresses, each once, within bounds.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use tidemill::extract::{ExtractError, Limits, extract};

fuzz_target!(|html: &str| {
    let limits = Limits { max_depth: 16, max_tags: 2_000, ..Limits::default() };
    let page = extract(html, Some("https://a.example/b"), &limits).unwrap_or_else(|ExtractError::Empty(page)| *page);
    let web = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    let mut seen = HashSet::new();
    for link in &page.links {
        assert!(web(&link.url) && !link.url.contains('#') && seen.insert(&link.url), "{link:?}");
        assert!(!page.metadata.is_nofollow() || link.nofollow);
    }
    assert!(page.alternates.iter().all(|other| web(&other.url)));
    for date in [&page.metadata.date, &page.metadata.modified].into_iter().flatten() {
        assert_eq!(date.len(), 10);
    }
    assert!(page.metadata.authors.iter().all(|author| !author.trim().is_empty()));
});
