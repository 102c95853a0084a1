//! A window's progress as a short string: Kafka keeps at most 4,096 characters of metadata with a committed offset.
//!
//! Shape before base64 (URL-safe, no padding): one byte form, varint span, then form `0x11`: varint count and a varint
//! gap for each incomplete offset; or form `0x12`: a bit an offset, set when complete; then CRC-32 (IEEE, big-endian) of
//! base and all before. Whichever form is shorter is taken. A map for another base does not verify.
//!
//! With at most [`MAX_INCOMPLETE`] offsets in a span of at most [`MAX_SPAN`] the string stays under [`MAX_CHARS`] (a
//! property test holds this). A map that cannot be read means that nothing beyond base is done: repeats, never loss.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// Kafka's `offset.metadata.max.bytes` default, which counts characters.
pub const MAX_CHARS: usize = 4096;
/// Incomplete offsets a partition may have.
pub const MAX_INCOMPLETE: usize = 1024;
/// Offsets from base to the highest complete one, at most.
pub const MAX_SPAN: i64 = 1 << 22;

const GAPS: u8 = 0x11;
const BITS: u8 = 0x12;

/// What is done beyond base.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Map {
    /// Highest complete offset; `base - 1` when nothing beyond base is done.
    pub high: i64,
    /// Offsets in `base..=high` that are not complete.
    pub incomplete: BTreeSet<i64>,
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take(input: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = input.split_first()?;
        *input = rest;
        n |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn checksum(base: i64, body: &[u8]) -> [u8; 4] {
    let mut h = crc32fast::Hasher::new();
    h.update(&base.to_be_bytes());
    h.update(body);
    h.finalize().to_be_bytes()
}

/// Writes the map of `incomplete` (only those in `base..=high` count); empty when nothing beyond base is done.
pub fn encode(base: i64, high: i64, incomplete: impl IntoIterator<Item = i64>) -> String {
    if high < base {
        return String::new();
    }
    let span = high - base + 1;
    let holes: Vec<i64> = incomplete.into_iter().filter(|o| (base..=high).contains(o)).collect();
    let mut gaps = Vec::with_capacity(holes.len() * 2);
    let mut previous = base - 1;
    for &o in &holes {
        put(&mut gaps, (o - previous - 1) as u64);
        previous = o;
    }
    let bits_len = (span as u64).div_ceil(8) as usize;
    let mut body = Vec::with_capacity(gaps.len().min(bits_len) + 16);
    if gaps.len() <= bits_len {
        body.push(GAPS);
        put(&mut body, span as u64);
        put(&mut body, holes.len() as u64);
        body.extend_from_slice(&gaps);
    } else {
        body.push(BITS);
        put(&mut body, span as u64);
        let start = body.len();
        body.resize(start + bits_len, 0xff);
        for &o in &holes {
            let i = (o - base) as usize;
            body[start + i / 8] &= !(1 << (i % 8));
        }
    }
    let sum = checksum(base, &body);
    body.extend_from_slice(&sum);
    BASE64.encode(body)
}

/// Reads a map written for this base; None when it cannot be trusted.
pub fn decode(base: i64, text: &str) -> Option<Map> {
    if text.is_empty() {
        return Some(Map { high: base - 1, incomplete: BTreeSet::new() });
    }
    if text.len() > MAX_CHARS {
        return None;
    }
    let bytes = BASE64.decode(text).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if checksum(base, body) != sum {
        return None;
    }
    let (form, mut rest) = body.split_first()?;
    let span = i64::try_from(take(&mut rest)?).ok().filter(|s| *s > 0 && *s <= MAX_SPAN)?;
    let high = base.checked_add(span - 1)?;
    let mut incomplete = BTreeSet::new();
    match *form {
        GAPS => {
            let count = take(&mut rest)?;
            let mut previous = base - 1;
            for _ in 0..count {
                previous = previous.checked_add(1)?.checked_add(i64::try_from(take(&mut rest)?).ok()?)?;
                if previous > high {
                    return None;
                }
                incomplete.insert(previous);
            }
        }
        BITS => {
            let bits = rest.get(..(span as usize).div_ceil(8))?;
            incomplete.extend((0..span).filter(|i| bits[*i as usize / 8] >> (i % 8) & 1 == 0).map(|i| base + i));
        }
        _ => return None,
    }
    Some(Map { high, incomplete })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Incomplete offsets as a producer of trouble would place them: any set of up to 1,024 in any span up to the limit,
    /// base among them (base is incomplete by definition).
    fn windows() -> impl Strategy<Value = (i64, i64, BTreeSet<i64>)> {
        (0..i64::MAX / 2, 0u32..=22).prop_flat_map(|(base, log)| {
            let span = 1i64 << log;
            let offsets = prop::collection::btree_set(0..span, 0..=MAX_INCOMPLETE.min(span as usize));
            offsets.prop_map(move |set| (base, base + span - 1, set.into_iter().map(|o| base + o).collect()))
        })
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote_and_always_fits((base, high, incomplete) in windows()) {
            let text = encode(base, high, incomplete.iter().copied());
            prop_assert!(text.len() <= MAX_CHARS, "{} characters", text.len());
            prop_assert_eq!(decode(base, &text), Some(Map { high, incomplete }));
        }

        #[test]
        fn a_map_of_another_base_or_a_damaged_one_is_refused(
            (base, high, incomplete) in windows(), at in any::<prop::sample::Index>(), by in 1u8..64
        ) {
            let text = encode(base, high, incomplete.iter().copied());
            prop_assert_eq!(decode(base + 1, &text), None);
            let mut damaged = text.clone().into_bytes();
            let i = at.index(damaged.len());
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let old = alphabet.iter().position(|c| *c == damaged[i]).unwrap();
            damaged[i] = alphabet[(old + by as usize) % 64];
            // base64 may carry unused bits in its last character; any other change must be noticed.
            let read = decode(base, std::str::from_utf8(&damaged).unwrap());
            prop_assert!(read.is_none() || i == text.len() - 1);
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,64}", base in any::<i64>()) {
            let _ = decode(base, &text);
        }
    }

    /// The longest maps there can be: 1,024 offsets spread so that each gap takes as many bytes as possible. The span
    /// limit is what keeps it under 4,096; four times that span would not fit.
    #[test]
    fn the_worst_case_fits_and_a_larger_span_would_not() {
        let worst = |span: i64| {
            let step = span / MAX_INCOMPLETE as i64;
            let holes = (0..MAX_INCOMPLETE as i64).map(|i| i * step);
            encode(0, span - 1, holes).len()
        };
        assert!(worst(MAX_SPAN) <= MAX_CHARS, "{}", worst(MAX_SPAN));
        assert!(worst(MAX_SPAN * 8) > MAX_CHARS);
        // Mixed gap lengths are never longer than the sum of their varints: the mean gap bounds it.
        let mut longest = 0;
        for long in 0..=MAX_INCOMPLETE as i64 {
            let total = MAX_SPAN - (MAX_INCOMPLETE as i64 - long);
            if long > 0 && total / long > 0 {
                let step = total / long;
                let holes = (0..long).map(|i| i * step).chain(MAX_SPAN - (MAX_INCOMPLETE as i64 - long)..MAX_SPAN - 1);
                longest = longest.max(encode(0, MAX_SPAN - 1, holes).len());
            }
        }
        assert!(longest <= MAX_CHARS, "{longest}");
    }
}
