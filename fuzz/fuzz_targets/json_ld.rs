//! Any text may stand in a JSON-LD block: what is read of it is bounded, and what is right is read as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::extract::structured::json;

fuzz_target!(|text: &str| {
    let found = json::parse(text);
    assert!(found.iter().all(|value| value.is_object() || value.is_array()));
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(text.trim())
        && (value.is_object() || value.is_array())
    {
        assert_eq!(found, [value]);
    }
    for value in &found {
        // Not equal: serde_json does not read every float as it writes it.
        let again = json::parse(&value.to_string());
        assert!(again.len() == 1 && again[0].is_object() == value.is_object());
    }
});
