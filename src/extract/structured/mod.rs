//! What a page says to machines, as found: JSON-LD, microdata, RDFa Lite and OpenGraph, all from the one tree.
//!
//! | | what is read | bounds |
//! |---|---|---|
//! | [`json`] | JSON-LD, broken too | 1 MiB and 200 blocks a page, 64 levels (128 where it is right), 50,000 values a block |
//! | [`microdata`] | things, `itemref` | 2,000 things, 10,000 properties, 16 levels, 4,000 bytes a value, 1 MiB of values |
//! | [`rdfa`] | RDFa Lite | the same |
//! | [`opengraph`] | `og:` and its kin | 200 `meta` a page |

pub mod items;
pub mod json;
pub mod microdata;
pub mod opengraph;
pub mod rdfa;

use serde_json::{Map, Value};
use url::Url;

use super::metadata::said::Statements;
use super::tree::Tree;

/// Bytes of the JSON text that goes into the record.
pub const MAX_TEXT: usize = 128 << 10;
/// Bytes kept of a string in it: the main text is in the record already.
const MAX_STRING: usize = 4_000;

/// The structured data of a page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Structured {
    /// Objects and arrays of JSON-LD blocks, in order.
    pub json_ld: Vec<Value>,
    /// Things of microdata that belong to no other.
    pub microdata: Vec<Value>,
    /// The same of RDFa Lite.
    pub rdfa: Vec<Value>,
    /// OpenGraph's properties, without `og:`.
    pub opengraph: Map<String, Value>,
}

impl Structured {
    /// All of `tree`, of which `said` was noted.
    pub fn read(tree: &Tree, said: &Statements, base: Option<&Url>) -> Self {
        Self {
            json_ld: said.json_ld.iter().flat_map(|block| json::parse(block)).collect(),
            microdata: if said.has_items { microdata::read(tree, base).json() } else { Vec::new() },
            rdfa: if said.has_rdfa { rdfa::read(tree, base).json() } else { Vec::new() },
            opengraph: opengraph::read(&said.metas),
        }
    }

    /// As one JSON text of at most [`MAX_TEXT`] bytes; None if there is nothing. Strings are cut; a thing for which there is no
    /// room is left out, and `truncated` then says so.
    pub fn into_text(self) -> Option<String> {
        let mut out = String::new();
        let mut truncated = false;
        let mut room = MAX_TEXT - 100;
        let mut graph = Value::Object(self.opengraph);
        if graph.as_object().is_some_and(|graph| !graph.is_empty()) {
            clip(&mut graph);
            member(&mut out, "opengraph", &graph.to_string(), &mut room, &mut truncated);
        }
        for (name, things) in [("json_ld", self.json_ld), ("microdata", self.microdata), ("rdfa", self.rdfa)] {
            let mut list = String::new();
            for mut thing in things {
                clip(&mut thing);
                let text = thing.to_string();
                if list.len() + text.len() + 1 > room {
                    truncated = true;
                    continue;
                }
                list.push_str(if list.is_empty() { "" } else { "," });
                list.push_str(&text);
            }
            if !list.is_empty() {
                member(&mut out, name, &format!("[{list}]"), &mut room, &mut truncated);
            }
        }
        if truncated {
            out.push_str(if out.is_empty() { "\"truncated\":true" } else { ",\"truncated\":true" });
        }
        (!out.is_empty()).then(|| format!("{{{out}}}"))
    }

    /// The same as an object; null if there is nothing.
    pub fn into_json(self) -> Value {
        self.into_text().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}

fn member(out: &mut String, name: &str, value: &str, room: &mut usize, truncated: &mut bool) {
    if value.len() > *room {
        *truncated = true;
        return;
    }
    *room -= value.len();
    out.push_str(if out.is_empty() { "\"" } else { ",\"" });
    out.push_str(name);
    out.push_str("\":");
    out.push_str(value);
}

/// Cuts long strings. As deep as the readers go, which is bounded.
fn clip(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > MAX_STRING => {
            text.truncate(text.floor_char_boundary(MAX_STRING));
            text.push('…');
        }
        Value::Array(items) => items.iter_mut().for_each(clip),
        Value::Object(fields) => fields.values_mut().for_each(clip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use serde_json::json;

    fn text(html: &str) -> Option<Value> {
        let tree = Tree::parse(html, &Limits::default());
        let text = Structured::read(&tree, &Statements::collect(&tree), None).into_text()?;
        assert!(text.len() <= MAX_TEXT, "{}", text.len());
        serde_json::from_str(&text).ok()
    }

    #[test]
    fn all_kinds_in_one() {
        let html = "<meta property=og:title content=T><script type='application/ld+json'>{\"a\":1,}</script>\
            <div itemscope><i itemprop=b>2</i></div><div vocab=http://schema.org/ typeof=C><i property=d>3</i></div>";
        let expected = json!({
            "opengraph": {"title": "T"}, "json_ld": [{"a": 1}], "microdata": [{"properties": {"b": ["2"]}}],
            "rdfa": [{"type": ["http://schema.org/C"], "properties": {"d": ["3"]}}],
        });
        assert_eq!(text(html), Some(expected));
        assert_eq!(text("<p>nothing"), None);
    }

    #[test]
    fn what_has_no_room_is_left_out() {
        let long = |n: usize| format!("<script type=application/ld+json>[{}1]</script>", "\"xxxxxxxx\",".repeat(n));
        let found = text(&format!("{}{}{}", long(5), long(20_000), long(6)));
        let Some(found) = found else { panic!("no JSON") };
        assert_eq!((found["json_ld"].as_array().map(Vec::len), &found["truncated"]), (Some(2), &json!(true)));
        let article =
            format!("<script type=application/ld+json>{{\"articleBody\":\"{}\"}}</script>", "é".repeat(9_000));
        let body = text(&article).map(|found| found["json_ld"][0]["articleBody"].as_str().map_or(0, str::len));
        assert_eq!(body, Some(MAX_STRING + '…'.len_utf8()));
    }
}
