//! `Retry-After`: how long a server asks to be left alone (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

/// The wait that a `Retry-After` value asks for, at most `max`.
///
/// Takes delay-seconds (fractions, which some APIs send, round up) or an HTTP-date in any of its
/// three forms, measured from `now`; a date in the past is a wait of zero. `None` when the value is
/// neither, so that the caller falls back to its own backoff.
pub fn parse(value: &str, now: SystemTime, max: Duration) -> Option<Duration> {
    let value = value.trim();
    let wait = match delay_seconds(value) {
        Some(seconds) => Duration::from_secs(seconds),
        None => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(max))
}

/// Whole seconds, rounded up; a number too large for `u64` is as good as for ever.
fn delay_seconds(value: &str) -> Option<u64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let up = fraction.bytes().any(|b| b != b'0') as u64;
    Some(whole.parse().unwrap_or(u64::MAX).saturating_add(up))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// 1994-11-06 08:49:07 UTC: half a minute before the dates in RFC 9110.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30)
    }

    fn seconds(value: &str) -> Option<u64> {
        parse(value, now(), HOUR).map(|d| d.as_secs())
    }

    #[test]
    fn takes_seconds() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("1.5"), Some(2));
        assert_eq!(seconds("2.0"), Some(2));
    }

    #[test]
    fn takes_the_three_date_forms() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:49:37 GMT"), Some(30));
        assert_eq!(seconds("Sun Nov  6 08:49:37 1994"), Some(30));
    }

    #[test]
    fn a_past_date_is_now_and_a_far_one_is_bounded() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(seconds("Fri, 31 Dec 2100 00:00:00 GMT"), Some(3600));
        assert_eq!(seconds("99999999999999999999999999"), Some(3600));
    }

    #[test]
    fn anything_else_is_none() {
        for value in ["", "soon", "-1", "+5", "1e3", ".", ".5", "10s", "Sun, 06 Nov"] {
            assert_eq!(seconds(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_nor_exceeds_the_bound(value in "\\PC*", max in 0u64..10_000) {
            let max = Duration::from_secs(max);
            prop_assert!(parse(&value, now(), max).is_none_or(|d| d <= max));
        }
    }
}
