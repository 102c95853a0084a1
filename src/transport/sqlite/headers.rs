//! Headers as a column that people can read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::record::{Headers, headers};

/// Headers as people read them: `[["name","value"], …]`; a value that is not UTF-8 is `{"hex":"…"}`.
pub fn headers_to_json(h: &Headers) -> String {
    let mut out = String::with_capacity(2 + h.size() * 2);
    out.push('[');
    for (i, (name, value)) in h.0.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('[');
        push_string(&mut out, name);
        out.push(',');
        match std::str::from_utf8(value) {
            Ok(text) => push_string(&mut out, text),
            Err(_) => {
                out.push_str("{\"hex\":\"");
                out.push_str(&hex::encode(value));
                out.push_str("\"}");
            }
        }
        out.push(']');
    }
    out.push(']');
    out
}

fn push_string(out: &mut String, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// Reads what [`headers_to_json`] wrote. Values are slices of the text where they stand in it as they are.
pub fn headers_from_json(text: &Bytes) -> serde_json::Result<Headers> {
    #[derive(serde::Deserialize)]
    struct Pair<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Value<'a>);
    enum Value<'a> {
        Slice(&'a str),
        Owned(Vec<u8>),
    }
    impl<'de: 'a, 'a> de::Deserialize<'de> for Value<'a> {
        fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Value<'a>, D::Error> {
            struct V;
            impl<'de> Visitor<'de> for V {
                type Value = Value<'de>;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a string or {\"hex\": …}")
                }
                fn visit_borrowed_str<E: de::Error>(self, s: &'de str) -> std::result::Result<Value<'de>, E> {
                    Ok(Value::Slice(s))
                }
                fn visit_str<E: de::Error>(self, s: &str) -> std::result::Result<Value<'de>, E> {
                    Ok(Value::Owned(s.as_bytes().to_vec()))
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value<'de>, A::Error> {
                    let entry: Option<(String, String)> = map.next_entry()?;
                    let text = entry.map(|(_, v)| v).unwrap_or_default();
                    hex::decode(text).map(Value::Owned).map_err(de::Error::custom)
                }
            }
            d.deserialize_any(V)
        }
    }
    let list: Vec<Pair<'_>> = serde_json::from_slice(text)?;
    let header = |Pair(name, value): Pair<'_>| {
        let value = match value {
            Value::Slice(s) => text.slice_ref(s.as_bytes()),
            Value::Owned(v) => Bytes::from(v),
        };
        (headers::name(&name), value)
    };
    Ok(Headers(list.into_iter().map(header).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_read_back_byte_for_byte(list in prop::collection::vec((".{0,8}", prop::collection::vec(any::<u8>(), 0..12)), 0..6)) {
            let headers = Headers(list.into_iter().map(|(n, v)| (n.into(), Bytes::from(v))).collect());
            prop_assert_eq!(headers_from_json(&Bytes::from(headers_to_json(&headers))).unwrap(), headers);
        }
    }
}
