//! Things with properties, as microdata and RDFa both describe them, and their JSON (the form that the HTML standard gives
//! microdata, 5.4): `{"type": […], "id": …, "properties": {name: [values]}}`.

use serde_json::{Map, Value};
use url::Url;

use crate::extract::links;
use crate::extract::metadata::marks::value_of;
use crate::extract::tree::{Id, Tree, decode, tags};

/// Things of one page.
pub const MAX_ITEMS: usize = 2_000;
/// Properties of all things together.
pub const MAX_PROPERTIES: usize = 10_000;
/// Levels of things in things.
const MAX_LEVELS: usize = 16;
/// Values written, of all things together: a thing that several refer to is written for each.
const MAX_WRITTEN: usize = 20_000;
/// Words of one attribute: types, names, references.
pub const MAX_WORDS: usize = 32;
/// Bytes of one value, and of all values of a page.
const MAX_TEXT: (usize, usize) = (4_000, 1 << 20);

/// The value of a property.
#[derive(Debug, Clone, PartialEq)]
pub enum Worth {
    /// Words or an address.
    Text(String),
    /// The thing of this number.
    Item(usize),
}

/// A thing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    /// Its types.
    pub types: Vec<String>,
    /// Its address.
    pub id: Option<String>,
    /// Its properties, each value with its name, in order.
    pub properties: Vec<(String, Worth)>,
}

/// All things of a page, and which of them belong to no other.
#[derive(Debug, Default)]
pub struct Items {
    /// Each thing.
    pub items: Vec<Item>,
    /// Those of no other.
    pub roots: Vec<usize>,
}

impl Items {
    /// The roots as JSON.
    pub fn json(&self) -> Vec<Value> {
        let mut left = MAX_WRITTEN;
        let mut above = Vec::new();
        self.roots.iter().filter_map(|root| self.one(*root, &mut above, &mut left)).collect()
    }

    /// None of a thing that is in itself, and past the bounds.
    fn one(&self, at: usize, above: &mut Vec<usize>, left: &mut usize) -> Option<Value> {
        if *left == 0 || above.len() >= MAX_LEVELS || above.contains(&at) {
            return None;
        }
        *left -= 1;
        above.push(at);
        let item = &self.items[at];
        let mut properties = Map::new();
        for (name, worth) in &item.properties {
            let value = match worth {
                Worth::Text(text) => (*left > 0).then(|| {
                    *left -= 1;
                    Value::String(text.clone())
                }),
                Worth::Item(inner) => self.one(*inner, above, left),
            };
            if let Some(value) = value
                && let Value::Array(values) = properties.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()))
            {
                values.push(value);
            }
        }
        above.pop();
        let mut json = Map::new();
        if !item.types.is_empty() {
            json.insert("type".into(), item.types.iter().map(String::as_str).collect());
        }
        if let Some(id) = &item.id {
            json.insert("id".into(), id.as_str().into());
        }
        json.insert("properties".into(), Value::Object(properties));
        Some(Value::Object(json))
    }
}

/// Reads the values of properties, as many bytes as a page may have.
pub struct Values<'t, 'a> {
    tree: &'t Tree<'a>,
    base: Option<&'t Url>,
    left: usize,
}

impl<'t, 'a> Values<'t, 'a> {
    /// Of the properties in `tree`, whose addresses are relative to `base`.
    pub fn new(tree: &'t Tree<'a>, base: Option<&'t Url>) -> Self {
        Self { tree, base, left: MAX_TEXT.1 }
    }

    /// The value of the element `id` by the rules of the HTML standard (5.2.4): an address, a machine's form, or its text.
    pub fn of(&mut self, id: Id) -> String {
        let name = self.tree.tag(id).name();
        let value = match name {
            "meta" => self.attribute(id, "content").unwrap_or_default(),
            "audio" | "embed" | "iframe" | "img" | "source" | "track" | "video" => self.address(id, "src"),
            "a" | "area" | "link" => self.address(id, "href"),
            "object" => self.address(id, "data"),
            "data" | "meter" => self.attribute(id, "value").unwrap_or_default(),
            "time" => self.attribute(id, "datetime").unwrap_or_else(|| self.text(id)),
            _ => self.text(id),
        };
        self.bounded(value)
    }

    /// An attribute's value, tidied.
    pub fn attribute(&self, id: Id, name: &str) -> Option<String> {
        let raw = self.tree.attribute(id, name)?;
        Some(value_of(Some(raw)).unwrap_or_default())
    }

    /// The absolute address in an attribute; empty if there is none or it cannot be resolved.
    pub fn address(&self, id: Id, name: &str) -> String {
        let Some(raw) = self.tree.attribute(id, name) else { return String::new() };
        self.resolve(decode(&raw[..raw.floor_char_boundary(MAX_TEXT.0)]).trim())
    }

    /// `address` against the base; empty if it cannot be resolved.
    pub fn resolve(&self, address: &str) -> String {
        // A fragment names a thing of the page here.
        let url = match self.base {
            Some(base) => base.join(address).ok(),
            None => Url::parse(address).ok(),
        };
        url.map(String::from).filter(|url| url.len() <= MAX_TEXT.0).unwrap_or_default()
    }

    /// The words inside, and in a `script` or the like what stands there.
    pub fn text(&self, id: Id) -> String {
        if self.left == 0 {
            return String::new();
        }
        let most = MAX_TEXT.0.min(self.left);
        match self.tree.tag(id) {
            tags::SCRIPT | tags::STYLE if self.tree.end(id) > id + 1 => {
                let raw = self.tree.raw_text(id + 1);
                raw[..raw.floor_char_boundary(most)].trim().to_owned()
            }
            _ => self.tree.text_of(id, most),
        }
    }

    /// `value` as far as there is room for it.
    pub fn bounded(&mut self, mut value: String) -> String {
        value.truncate(value.floor_char_boundary(MAX_TEXT.0.min(self.left)));
        self.left -= value.len();
        value
    }
}

/// The words of an attribute, decoded.
pub fn words(raw: Option<&str>) -> Vec<String> {
    let Some(raw) = raw else { return Vec::new() };
    let raw = &raw[..raw.floor_char_boundary(MAX_TEXT.0)];
    let mut words: Vec<String> = Vec::new();
    for word in decode(raw).split_ascii_whitespace().take(MAX_WORDS) {
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    words
}

/// Is it an address that a crawler may follow?
pub fn is_web(address: &str) -> bool {
    links::absolute(None, address).is_some()
}
