//! Any bytes are a text in some encoding, whatever they and their header say of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::web::charset::{Source, decode};

fuzz_target!(|input: (Option<&str>, &[u8])| {
    let (content_type, bytes) = input;
    let (text, charset) = decode(bytes, content_type);
    // An encoding's longest text for a byte, and what stays undecided at the end.
    assert!(text.len() <= bytes.len() * 6 + 6);
    if charset.source == Source::Default {
        assert!(bytes.is_ascii() && text.as_bytes() == bytes);
    }
});
