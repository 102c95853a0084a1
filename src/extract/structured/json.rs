//! JSON as pages write it: what is not JSON by a little is read all the same.
//!
//! Read besides JSON itself: comments, comment and CDATA marks around it, trailing and missing commas, several values in a
//! row, line breaks and control characters in strings, quotes in strings that nobody escaped, single quotes, words
//! without quotes, unknown escapes, quotes written as `&quot;`, an end that is missing.

use serde_json::{Map, Value};

/// Levels of nesting; what is deeper ends the reading.
const MAX_LEVELS: usize = 64;
/// Values of one text.
const MAX_VALUES: usize = 50_000;

/// The objects and arrays of `text`, in order. Time and memory are linear in its length.
pub fn parse(text: &str) -> Vec<Value> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return if value.is_object() || value.is_array() { vec![value] } else { Vec::new() };
    }
    if !text.contains('"') && ["&quot;", "&#34;", "&#x22;"].iter().any(|quote| text.contains(quote)) {
        return Reader::new(&html_escape::decode_html_entities(text)).all();
    }
    Reader::new(text).all()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, values: 0 }
    }

    fn all(mut self) -> Vec<Value> {
        let mut found = Vec::new();
        loop {
            self.skip();
            match self.peek() {
                Some(b'{' | b'[') => found.extend(self.value(0)),
                // Something of a script around it.
                Some(_) => {
                    self.at += memchr::memchr3(b'{', b'[', b'/', &self.bytes()[1..]).map_or(self.rest(), |i| i + 1)
                }
                None => return found,
            }
        }
    }

    fn value(&mut self, level: usize) -> Option<Value> {
        self.skip();
        self.values += 1;
        if level > MAX_LEVELS || self.values > MAX_VALUES {
            self.at = self.text.len();
        }
        match self.peek()? {
            b'{' => {
                self.at += 1;
                Some(Value::Object(self.object(level)))
            }
            b'[' => {
                self.at += 1;
                Some(Value::Array(self.array(level)))
            }
            b'"' | b'\'' => Some(Value::String(self.string(false))),
            _ => self.word().map(|word| match word {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" | "undefined" | "NaN" => Value::Null,
                word => serde_json::from_str::<serde_json::Number>(word)
                    .map_or_else(|_| Value::String(word.to_owned()), Value::Number),
            }),
        }
    }

    fn object(&mut self, level: usize) -> Map<String, Value> {
        let mut fields = Map::new();
        loop {
            self.skip();
            let key = match self.peek() {
                None => return fields,
                Some(b'}') => {
                    self.at += 1;
                    return fields;
                }
                // The end of what this is in: its own is missing.
                Some(b']') if level > 0 => return fields,
                Some(b'"' | b'\'') => self.string(true),
                Some(_) => match self.word() {
                    Some(word) => word.to_owned(),
                    None => {
                        self.at += 1;
                        continue;
                    }
                },
            };
            self.skip();
            if self.peek() != Some(b':') {
                continue;
            }
            self.at += 1;
            self.skip_with(&[]);
            if !matches!(self.peek(), Some(b',' | b'}' | b']'))
                && let Some(value) = self.value(level + 1)
            {
                fields.insert(key, value);
            }
        }
    }

    fn array(&mut self, level: usize) -> Vec<Value> {
        let mut items = Vec::new();
        loop {
            self.skip();
            match self.peek() {
                None => return items,
                Some(b']') => {
                    self.at += 1;
                    return items;
                }
                Some(b'}') if level > 0 => return items,
                Some(b',' | b':' | b'}') => self.at += 1,
                Some(_) => match self.value(level + 1) {
                    Some(item) => items.push(item),
                    None => self.at = (self.at + 1).min(self.text.len()),
                },
            }
        }
    }

    /// What stands between the quotes. A quote that nothing follows which could stand after a string is part of it.
    fn string(&mut self, key: bool) -> String {
        let quote = self.bytes()[0];
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(found) = memchr::memchr2(quote, b'\\', self.bytes()) else {
                out.push_str(&self.text[self.at..]);
                self.at = self.text.len();
                return out;
            };
            out.push_str(&self.text[self.at..self.at + found]);
            self.at += found + 1;
            if self.text.as_bytes()[self.at - 1] == b'\\' {
                self.escape(&mut out);
            } else if self.ends_string(key) {
                return out;
            } else {
                out.push(char::from(quote));
            }
        }
    }

    fn escape(&mut self, out: &mut String) {
        let Some(c) = self.text[self.at..].chars().next() else { return };
        self.at += c.len_utf8();
        match c {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => match self.unit() {
                Some(high @ 0xd800..0xdc00) => {
                    let before = self.at;
                    let escaped = self.text[self.at..].starts_with("\\u");
                    self.at += if escaped { 2 } else { 0 };
                    match self.unit().filter(|low| escaped && (0xdc00..0xe000).contains(low)) {
                        Some(low) => {
                            out.extend(char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)));
                        }
                        None => {
                            self.at = before;
                            out.push('\u{fffd}');
                        }
                    }
                }
                Some(unit) => out.push(char::from_u32(unit).unwrap_or('\u{fffd}')),
                None => out.push('u'),
            },
            other => out.push(other),
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let unit = digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())??;
        self.at += 4;
        Some(unit)
    }

    /// Whether what follows a quote can follow a string.
    fn ends_string(&self, key: bool) -> bool {
        let rest = self.text[self.at..].trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
        let line_ended = self.text[self.at..self.text.len() - rest.len()].contains('\n');
        match rest.as_bytes().first() {
            None | Some(b'}' | b']') => true,
            Some(b':') => key,
            Some(b',') => {
                let next = rest[1..].trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
                let words = ["true", "false", "null", "//", "/*"];
                next.is_empty()
                    || next.starts_with(|c: char| {
                        c.is_ascii_digit() || matches!(c, '"' | '\'' | '{' | '[' | '}' | ']' | '-' | ',')
                    })
                    || words.iter().any(|word| next.starts_with(word))
                    || is_name(next)
            }
            // A comma is missing, or a comment follows.
            Some(b'"') => line_ended,
            Some(b'/') => rest.starts_with("//") || rest.starts_with("/*"),
            Some(_) => false,
        }
    }

    /// A word without quotes: a number, a constant, a name.
    fn word(&mut self) -> Option<&'a str> {
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ':' | '{' | '}' | '[' | ']' | '"');
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += word.len();
        (!word.is_empty()).then_some(word)
    }

    /// White space, comments, marks of comments and CDATA, and commas and semicolons, which nothing depends on here.
    fn skip(&mut self) {
        self.skip_with(&[',', ';']);
    }

    fn skip_with(&mut self, nothing: &[char]) {
        const MARKS: [&str; 4] = ["<!--", "-->", "<![CDATA[", "]]>"];
        loop {
            let rest = &self.text[self.at..];
            let tidy = rest.trim_start_matches(|c: char| c.is_whitespace() || c.is_control() || nothing.contains(&c));
            self.at += rest.len() - tidy.len();
            let line = tidy.strip_prefix("//").map(|line| line.trim_start_matches([' ', '\t']));
            let marked = MARKS.iter().find_map(|mark| line.unwrap_or(tidy).strip_prefix(mark));
            let rest = match (marked, line) {
                (Some(rest), _) => rest,
                (None, Some(line)) => line.find(['\n', '\r']).map_or("", |end| &line[end..]),
                (None, None) => match tidy.strip_prefix("/*") {
                    Some(comment) => comment.find("*/").map_or("", |end| &comment[end + 2..]),
                    None => return,
                },
            };
            self.at = self.text.len() - rest.len();
        }
    }

    fn bytes(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().first().copied()
    }

    fn rest(&self) -> usize {
        self.text.len() - self.at
    }
}

/// Does `text` begin with a key without quotes?
fn is_name(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '@'));
    rest.len() < text.len() && text.len() - rest.len() <= 40 && rest.trim_ascii_start().starts_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        let mut all = parse(text);
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn what_pages_get_wrong() {
        let expected = json!({"a": "b", "c": [1, 2]});
        for text in [
            r#"{"a": "b", "c": [1, 2]}"#,
            r#"{"a": "b", "c": [1, 2,],}"#,
            "{\"a\": \"b\"\n\"c\": [1 2]}",
            "{\"a\": \"b\" // why\n, /* { */ \"c\": [1, 2]};",
            r#"<!-- {"a": "b", "c": [1, 2]} -->"#,
            "//<![CDATA[\n{\"a\": \"b\", \"c\": [1, 2]}\n//]]>",
            "// <![CDATA[ {\"a\": \"b\", \"c\": [1, 2]} ]]>",
            "{&quot;a&quot;: &quot;b&quot;, &quot;c&quot;: [1, 2]}",
            "{'a': 'b', c: [1, 2]}",
            "{\"a\": \"b\",, \"d\": , \"c\": [1, 2",
            "var data = {\"a\": \"b\", \"c\": [1, 2]};",
            "\u{feff}{\"a\":\"b\",\u{1}\"c\":[1,2]}",
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
    }

    #[test]
    fn strings_as_they_were_meant() {
        assert_eq!(one("{\"a\": \"two\nlines\tand\u{1}\"}"), json!({"a": "two\nlines\tand\u{1}"}));
        assert_eq!(
            one(r#"{"a": "he said "yes", and "no" to it", "b": 1,}"#),
            json!({"a": "he said \"yes\", and \"no\" to it", "b": 1})
        );
        assert_eq!(one(r#"{"a": "\u00e9\ud83d\ude00\ud83d \x \'",}"#), json!({"a": "é😀\u{fffd} x '"}));
        assert_eq!(one("{\"a\": \"b\"\n\"c\": \"d\"}"), json!({"a": "b", "c": "d"}));
    }

    #[test]
    fn several_in_a_row() {
        assert_eq!(parse(r#"{"a":1}{"b":2}, [3]"#), [json!({"a": 1}), json!({"b": 2}), json!([3])]);
        assert_eq!(parse("\"text\""), Vec::<Value>::new());
        assert_eq!(parse("nothing here"), Vec::<Value>::new());
    }

    #[test]
    fn nesting_and_numbers_are_bounded() {
        let deep = |value: &Value| {
            let (mut value, mut levels) = (value, 0);
            while let Some(inner) = value.get(0) {
                (value, levels) = (inner, levels + 1);
            }
            levels
        };
        let found = parse(&"[".repeat(100_000));
        assert!(found.len() == 1 && deep(&found[0]) <= MAX_LEVELS);
        let many = parse(&format!("[{}", "1,".repeat(200_000)));
        assert!(many[0].as_array().is_some_and(|all| all.len() <= MAX_VALUES));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(Value::from),
            "[ -~é\\n\\\\\"]{0,8}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::btree_map("[a-z@:\"]{1,4}", inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What is right is read as it is, by the reader of what is wrong too.
        #[test]
        fn json_is_read_as_json(value in prop::collection::vec(values(), 1..4)) {
            let value = Value::Array(value);
            prop_assert_eq!(Reader::new(&value.to_string()).all(), std::slice::from_ref(&value).to_vec());
            prop_assert_eq!(parse(&serde_json::to_string_pretty(&value).unwrap_or_default()), [value]);
        }

        #[test]
        fn anything_ends(text in "[\\[\\]{}\"',:/*<!>\\-\\\\u0-9a-e\\n &;é]{0,80}") {
            for value in parse(&text) {
                prop_assert!(value.is_object() || value.is_array());
            }
        }
    }
}
