//! A record's value as a person may read it.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::record::codec;

/// What a value turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<'a> {
    /// A record of ours: the name of its schema, its fields.
    Avro(&'static str, Json),
    /// A JSON object or array, as it was written.
    Json(&'a str, Json),
    /// Any other text.
    Text(&'a str),
    /// Neither: also Avro of a schema that this version does not know.
    Bytes(&'a [u8]),
}

/// Longest text of a field in a line.
const FIELD: usize = 100;
/// Bytes shown of a value that is no text.
const HEX: usize = 64;
/// Fields that say most, shown first; the others follow by name.
const FIRST: [&str; 8] = ["url", "status", "content_type", "title", "language", "words", "date", "author"];

impl<'a> Decoded<'a> {
    /// Looks what a value is.
    pub fn of(value: &'a [u8]) -> Decoded<'a> {
        if let Some((schema, fields)) = codec::to_json(value) {
            return Decoded::Avro(schema, fields);
        }
        let Ok(text) = std::str::from_utf8(value) else { return Decoded::Bytes(value) };
        match serde_json::from_str(text) {
            Ok(json @ (Json::Object(_) | Json::Array(_))) => Decoded::Json(text, json),
            _ => Decoded::Text(text),
        }
    }

    /// All of it as text, to be searched.
    pub fn text(&self) -> String {
        match self {
            Decoded::Avro(_, fields) => fields.to_string(),
            Decoded::Json(text, _) | Decoded::Text(text) => (*text).to_owned(),
            Decoded::Bytes(bytes) => hex::encode(bytes),
        }
    }

    /// The fields of a record, or the JSON.
    pub fn json(&self) -> Option<&Json> {
        match self {
            Decoded::Avro(_, json) | Decoded::Json(_, json) => Some(json),
            _ => None,
        }
    }

    /// A field of a record or of a JSON object, if it is a text.
    pub fn field(&self, name: &str) -> Option<&str> {
        match self {
            Decoded::Avro(_, fields) | Decoded::Json(_, fields) => fields.get(name)?.as_str(),
            _ => None,
        }
    }

    /// In one line, long fields shortened: `name=value` for a record of ours, the rest as it is.
    pub fn line(&self) -> String {
        match self {
            Decoded::Avro(_, fields) => {
                let mut out = String::new();
                push_fields(&mut out, fields);
                out
            }
            Decoded::Json(text, _) | Decoded::Text(text) => visible(text),
            Decoded::Bytes(bytes) => {
                let shown = hex::encode(&bytes[..bytes.len().min(HEX)]);
                let more = bytes.len().saturating_sub(HEX);
                let more = if more > 0 { format!("… and {more} bytes") } else { String::new() };
                let avro = if codec::is_avro(bytes) { "Avro of an unknown schema: " } else { "" };
                format!("{avro}{shown}{more}")
            }
        }
    }
}

fn push_fields(out: &mut String, fields: &Json) {
    let Json::Object(map) = fields else { return };
    let first = FIRST.iter().filter_map(|f| map.get_key_value(*f));
    let rest = map.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    let mut gap = "";
    for (name, value) in first.chain(rest) {
        let shown = match value {
            Json::Null => continue,
            Json::String(s) if s.is_empty() => continue,
            Json::String(s) => quoted(s),
            Json::Array(list) if list.is_empty() => continue,
            Json::Array(list) => format!("[{}]", list.len()),
            Json::Object(map) if map.is_empty() => continue,
            Json::Object(map) => match map.get("length").and_then(Json::as_u64) {
                // A page's body.
                Some(length) => bytesize::ByteSize(length).to_string().replace(' ', ""),
                None => {
                    let mut inner = String::new();
                    push_fields(&mut inner, value);
                    format!("{{{inner}}}")
                }
            },
            other => other.to_string(),
        };
        // Writing to a string does not fail.
        let _infallible = write!(out, "{gap}{name}={shown}");
        gap = " ";
    }
}

fn quoted(text: &str) -> String {
    let shown = visible(&super::format::cut(text, FIELD));
    if shown.contains([' ', '"', '=']) && !shown.contains("://") { format!("{shown:?}") } else { shown }
}

/// Text for a terminal: pages are written by strangers, so what would steer the terminal or turn the line around is a
/// blank.
pub fn visible(text: &str) -> String {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::UrlTask;

    #[test]
    fn each_kind_of_value_has_its_line() {
        let mut task = UrlTask::new("http://x/a b");
        task.attrs.insert("k".into(), "two words".into());
        let avro = codec::encode(&task, &codec::Ids::default()).unwrap();
        assert_eq!(Decoded::of(&avro).line(), "url=http://x/a b attrs={k=\"two words\"} force=false maxdepth=0");
        assert_eq!(Decoded::of(b"{\"a\": 1}").line(), "{\"a\": 1}");
        assert_eq!(Decoded::of(b"17").line(), "17");
        assert_eq!(Decoded::of(b"\xff\x01").line(), "ff01");
        assert_eq!(Decoded::of(b"\xc3\x01zzzzzzzzz").line(), "Avro of an unknown schema: c3017a7a7a7a7a7a7a7a7a");
        assert!(Decoded::of(&[0xff; 100]).line().ends_with("… and 36 bytes"));
    }

    #[test]
    fn a_stranger_does_not_steer_the_terminal() {
        assert_eq!(Decoded::of("\x1b[2Jx\u{202e}y\r\n\u{9b}z".as_bytes()).line(), " [2Jx y   z");
    }
}
