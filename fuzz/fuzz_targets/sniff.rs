//! Any bytes under any Content-Type are of some kind, and always of the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::extract::sniff::sniff;

fuzz_target!(|input: (Option<&str>, &[u8])| {
    let (content_type, body) = input;
    let kind = sniff(content_type, body);
    assert!(!kind.name().is_empty());
    assert_eq!(sniff(content_type, body).name(), kind.name());
});
