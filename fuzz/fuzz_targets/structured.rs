//! Microdata, RDFa and OpenGraph of any page: bounded, and JSON text that can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::extract::Limits;
use tidemill::extract::metadata::said::Statements;
use tidemill::extract::structured::{MAX_TEXT, Structured, microdata, rdfa};
use tidemill::extract::tree::Tree;

fuzz_target!(|html: &str| {
    let limits = Limits { max_depth: 16, max_tags: 2_000, ..Limits::default() };
    let tree = Tree::parse(html, &limits);
    // Whatever the page says it has.
    for items in [microdata::read(&tree, None), rdfa::read(&tree, None)] {
        assert!(items.roots.iter().all(|root| *root < items.items.len()));
        let _ = items.json();
    }
    let said = Statements::collect(&tree);
    if let Some(text) = Structured::read(&tree, &said, None).into_text() {
        assert!(text.len() <= MAX_TEXT);
        let read: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert!(read.is_object());
    }
});
