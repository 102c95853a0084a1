//! Any string is a page: it is read without a panic, in bounds, and its tree, text and Markdown hold together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::extract::tree::Tree;
use tidemill::extract::{Limits, extract};

fuzz_target!(|html: &str| {
    let limits = Limits { max_depth: 16, max_tags: 2_000, ..Limits::default() };
    let tree = Tree::parse(html, &limits);
    for id in tree.all() {
        let parent = tree.parent(id);
        assert!(parent < id && tree.end(id) > id && tree.end(id) <= tree.end(parent));
        let _ = (tree.name(id), tree.raw_text(id), tree.attributes(id).count());
    }
    if let Ok(page) = extract(html, Some("https://a.example/b"), &limits) {
        assert!(!page.text.is_empty() && (0.0..=1.0).contains(&page.text_confidence()));
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
        assert!(letters(&page.text) == 0 || letters(&page.markdown) > 0, "{page:?}");
    }
});
