//! Any text is a URL or none: what is normalised stays as it is when it is normalised again, and names nobody's password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::web::url::{fingerprint, normalise, redact};

fuzz_target!(|text: &str| {
    let _ = redact(text);
    if let Ok(url) = normalise(text) {
        assert!(url.password().is_none() && url.username().is_empty() && url.fragment().is_none(), "{url}");
        let again = normalise(url.as_str()).expect("it was one");
        assert_eq!(again, url);
        assert_eq!(fingerprint(&again), fingerprint(&url));
    }
});
