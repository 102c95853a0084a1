//! A record as a line of JSON, and back byte for byte: what `tail --json` prints and `produce --json` reads.
//!
//! ```text
//! {"topic":"tidemill.urls","partition":3,"offset":17,"timestamp":1767225600000,"key":"example.org",
//!  "headers":{"tidemill.job":"j1"},"schema":"url_task","value":{"url":"https://example.org/",…},"value_base64":"wwE…"}
//! ```
//!
//! | field | is | read back |
//! |---|---|---|
//! | `key` | text, or null | as it is; without it, a URL lane's record gets its host |
//! | `key_base64` | only there when the key is no text | instead of `key` |
//! | `headers` | an object in the headers' order; when a name comes twice, a list of `[name, value]`; a value that is no text is `{"base64":"…"}` | both |
//! | `value` | a JSON object or array as it was written, or a text; a record of ours decoded; null when it is neither, or null | an object or array as its text, a text as it is, null as null (a tombstone) |
//! | `value_base64` | only there when `value` does not give the bytes back: Avro, no text, JSON over several lines | instead of `value` |
//! | `schema` | which record of ours `value` shows | says that `value` alone is not enough |
//! | `topic`, `partition`, `offset`, `timestamp` | where and when it was | passed over |

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::decoded::Decoded;
use crate::record::{Headers, headers};
use crate::transport::Incoming;

/// A record of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// None: the line says nothing of a key; Some(None): it says that there is none.
    pub key: Option<Option<Bytes>>,
    pub value: Bytes,
    /// The value is null.
    pub tombstone: bool,
    pub headers: Headers,
}

#[derive(Serialize)]
struct Out<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    headers: OutHeaders<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'static str>,
    value: OutValue<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutValue<'a> {
    Raw(&'a RawValue),
    Json(&'a serde_json::Value),
    Text(&'a str),
    Nothing,
}

/// Writes a record; `value` is its value, decoded.
pub fn write(r: &Incoming, value: &Decoded<'_>) -> serde_json::Result<String> {
    let mut schema = None;
    let mut exact = true;
    let value = match value {
        _ if r.tombstone => OutValue::Nothing,
        Decoded::Avro(name, fields) => {
            (schema, exact) = (Some(*name), false);
            OutValue::Json(fields)
        }
        Decoded::Json(text, json) => match serde_json::from_str::<&RawValue>(text) {
            // What stands in the line as it was written is read back as it was written.
            Ok(raw) if raw.get() == *text && !text.contains(['\n', '\r']) => OutValue::Raw(raw),
            _ => {
                exact = false;
                OutValue::Json(json)
            }
        },
        Decoded::Text(text) => OutValue::Text(text),
        Decoded::Bytes(_) => {
            exact = false;
            OutValue::Nothing
        }
    };
    let key = r.key.as_deref().map(std::str::from_utf8);
    serde_json::to_string(&Out {
        topic: &r.at.topic,
        partition: r.at.partition,
        offset: r.offset,
        timestamp: r.timestamp,
        key: key.and_then(Result::ok),
        key_base64: key.filter(Result::is_err).and(r.key.as_ref()).map(|k| BASE64.encode(k)),
        headers: OutHeaders(&r.headers),
        schema,
        value,
        value_base64: (!exact).then(|| BASE64.encode(&r.value)),
    })
}

struct OutHeaders<'a>(&'a Headers);

impl<'x> Serialize for OutHeaders<'x> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Value<'a> {
            Text(&'a str),
            Bytes { base64: String },
        }
        let value = |bytes: &'x Bytes| match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text),
            Err(_) => Value::Bytes { base64: BASE64.encode(bytes) },
        };
        let list = &self.0.0;
        let names: BTreeSet<&str> = list.iter().map(|(n, _)| &**n).collect();
        if names.len() == list.len() {
            let mut map = s.serialize_map(Some(list.len()))?;
            list.iter().try_for_each(|(n, v)| map.serialize_entry(n, &value(v)))?;
            map.end()
        } else {
            let mut seq = s.serialize_seq(Some(list.len()))?;
            list.iter().try_for_each(|(n, v)| seq.serialize_element(&(n, value(v))))?;
            seq.end()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    #[serde(default, deserialize_with = "given")]
    key: Option<Option<String>>,
    key_base64: Option<String>,
    #[serde(default)]
    headers: InHeaders,
    schema: Option<String>,
    #[serde(default, deserialize_with = "given")]
    value: Option<Box<RawValue>>,
    value_base64: Option<String>,
    #[serde(rename = "topic")]
    _topic: Option<IgnoredAny>,
    #[serde(rename = "partition")]
    _partition: Option<IgnoredAny>,
    #[serde(rename = "offset")]
    _offset: Option<IgnoredAny>,
    #[serde(rename = "timestamp")]
    _timestamp: Option<IgnoredAny>,
}

/// Tells null from nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// Reads a line; the error says what is wrong with it and how it should be.
pub fn read(line: &str) -> Result<Given, String> {
    let line: In = serde_json::from_str(line).map_err(|e| {
        let cause = e.to_string();
        // All of it is one line.
        let cause = cause.rsplit_once(" at line ").map_or(cause.as_str(), |(cause, _)| cause);
        format!(
            "not a record as `tail --json` prints it ({cause}): write {{\"key\": …, \"value\": …, \"headers\": {{…}}}}"
        )
    })?;
    let bytes = |name: &str, text: &str| {
        BASE64
            .decode(text)
            .map(Bytes::from)
            .map_err(|e| format!("{name} is not base64 ({e}): leave it out, or mend it"))
    };
    let key = match (&line.key_base64, line.key) {
        (Some(text), _) => Some(Some(bytes("key_base64", text)?)),
        (None, key) => key.map(|k| k.map(Bytes::from)),
    };
    let tombstone = line.value_base64.is_none() && line.value.as_ref().is_some_and(|raw| raw.get() == "null");
    let value = match (&line.value_base64, &line.value, &line.schema) {
        (Some(text), _, _) => bytes("value_base64", text)?,
        (None, Some(_), Some(schema)) => {
            return Err(format!(
                "value shows a {schema} record, which is not written from JSON: keep value_base64, or leave out schema to write the JSON itself"
            ));
        }
        (None, Some(raw), None) => match raw.get() {
            "null" => Bytes::new(),
            text if text.starts_with('"') => {
                let text: String = serde_json::from_str(text).map_err(|e| format!("value is not a text: {e}"))?;
                text.into()
            }
            text => Bytes::copy_from_slice(text.as_bytes()),
        },
        (None, None, _) => return Err("it has no value: add \"value\" or \"value_base64\"".into()),
    };
    Ok(Given { key, value, tombstone, headers: line.headers.0 })
}

#[derive(Default)]
struct InHeaders(Headers);

impl<'de> Deserialize<'de> for InHeaders {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<InHeaders, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = InHeaders;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers as an object or a list of [name, value]")
            }
            fn visit_unit<E: de::Error>(self) -> Result<InHeaders, E> {
                Ok(InHeaders::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InHeaders, A::Error> {
                let mut list = vec![];
                while let Some((name, InHeader(value))) = map.next_entry::<Cow<'_, str>, _>()? {
                    list.push((headers::name(&name), value));
                }
                Ok(InHeaders(Headers(list)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<InHeaders, A::Error> {
                let mut list = vec![];
                while let Some((name, InHeader(value))) = seq.next_element::<(Cow<'_, str>, _)>()? {
                    list.push((headers::name(&name), value));
                }
                Ok(InHeaders(Headers(list)))
            }
        }
        d.deserialize_any(Pairs)
    }
}

struct InHeader(Bytes);

impl<'de> Deserialize<'de> for InHeader {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<InHeader, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = InHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header's value as a text or {\"base64\": …}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<InHeader, E> {
                Ok(InHeader(Bytes::copy_from_slice(text.as_bytes())))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InHeader, A::Error> {
                let entry: Option<(String, String)> = map.next_entry()?;
                let (_, text) = entry
                    .filter(|(name, _)| name == "base64")
                    .ok_or_else(|| de::Error::custom("a header's value is a text or {\"base64\": …}"))?;
                BASE64.decode(text).map(|b| InHeader(b.into())).map_err(de::Error::custom)
            }
        }
        d.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{UrlTask, codec};
    use crate::transport::TopicPartition;
    use proptest::prelude::*;

    fn incoming(key: Option<Bytes>, value: impl Into<Bytes>, headers: Headers) -> Incoming {
        Incoming {
            tombstone: false,
            at: TopicPartition::new("t.urls", 3),
            offset: 17,
            timestamp: 5,
            key,
            value: value.into(),
            headers,
        }
    }

    #[track_caller]
    fn copies(r: &Incoming) -> String {
        let line = write(r, &Decoded::of(&r.value)).unwrap();
        assert!(!line.contains('\n'), "{line}");
        let back = read(&line).unwrap();
        assert_eq!((back.key, &back.value, &back.headers), (Some(r.key.clone()), &r.value, &r.headers), "{line}");
        line
    }

    /// Bytes of every kind: any, text, JSON with odd blanks.
    fn values() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            ".{0,40}".prop_map(String::into_bytes),
            "[ \n]{0,2}[\\[{][ \n]{0,2}(\"a\"[ \n]?:[ \n]?(1e2|\"\\\\u00e9\"|\\{\\}))?[ \n]{0,2}[\\]}][ \n]{0,2}"
                .prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn any_record_is_copied_byte_for_byte(
            key in prop::option::of(values()),
            value in values(),
            headers in prop::collection::vec(("[ab]{0,2}", values()), 0..5),
        ) {
            let headers = Headers(headers.into_iter().map(|(n, v)| (n.into(), Bytes::from(v))).collect());
            copies(&incoming(key.map(Bytes::from), value, headers));
        }

        #[test]
        fn any_line_is_an_answer(line in "\\PC{0,60}") {
            let _ = read(&line);
        }
    }

    #[test]
    fn a_line_says_what_a_person_would_look_for() {
        let headers = Headers(vec![("b".into(), "1".into()), ("a".into(), Bytes::from_static(b"\xff"))]);
        let line = copies(&incoming(
            Some("x".into()),
            codec::encode(&UrlTask::new("http://x/"), &codec::Ids::default()).unwrap(),
            headers.clone(),
        ));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["schema"], &json["value"]["url"]), (&"url_task".into(), &"http://x/".into()));
        assert_eq!((&json["topic"], &json["offset"]), (&"t.urls".into(), &17.into()));
        assert!(line.contains(r#""headers":{"b":"1","a":{"base64":"/w=="}}"#), "{line}");
        let text = copies(&incoming(None, "{\"url\" :\"http://x/\"}", Headers::default()));
        assert!(text.ends_with(r#""key":null,"headers":{},"value":{"url" :"http://x/"}}"#), "{text}");
        let twice = Headers(vec![headers.0[0].clone(), headers.0[0].clone()]);
        let line = copies(&incoming(None, "17", twice));
        assert!(line.contains(r#""headers":[["b","1"],["b","1"]],"value":"17"}"#), "{line}");
    }

    #[test]
    fn what_is_typed_by_hand_is_taken_and_mistakes_are_named() {
        let by_hand = read(r#"{"value": {"url": "http://x/"}}"#).unwrap();
        assert_eq!((by_hand.key, by_hand.value), (None, Bytes::from(r#"{"url": "http://x/"}"#)));
        assert_eq!(read(r#"{"value": null, "key": null}"#).unwrap().key, Some(None));
        for (bad, says) in [
            ("http://x/", "tail --json"),
            ("{}", "no value"),
            (r#"{"valeu": "x"}"#, "valeu"),
            (r#"{"value": "x", "headers": {"a": 5}}"#, "text or {\"base64\""),
            (r#"{"value": "x", "headers": {"a": {"hex": "00"}}}"#, "base64"),
            (r#"{"value_base64": "?"}"#, "value_base64 is not base64"),
            (r#"{"value": {"url": "x"}, "schema": "url_task"}"#, "keep value_base64"),
            (r#"{"value": "x", "key": 5}"#, "a string"),
        ] {
            let said = read(bad).unwrap_err();
            assert!(said.contains(says), "{bad}: {said}");
        }
    }
}
