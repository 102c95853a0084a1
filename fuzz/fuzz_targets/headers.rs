//! Retry-After and Content-Encoding: any value is one, or none; a wait is never longer than asked for.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use tidemill::fetch::codings::Decoder;
use tidemill::fetch::retry_after;

fuzz_target!(|input: (&str, u32)| {
    let (value, at) = input;
    let most = Duration::from_secs(7 * 86_400);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(at));
    assert!(retry_after::parse(value, now, most).is_none_or(|wait| wait <= most));
    let _ = Decoder::new(value, 1_000, 200);
});
