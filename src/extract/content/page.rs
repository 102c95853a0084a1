//! What the page as a whole says: of itself in the head, in its address, in its JSON-LD.

use std::collections::HashSet;

use memchr::memmem;

use super::lexicon;
use crate::extract::tree::{Id, Tree, decode, tags};

/// Bytes of JSON-LD looked at.
const MAX_JSON: usize = 2 << 20;

/// Kinds of things in JSON-LD and microdata, by what they are said to be.
const THINGS: [&str; 14] = [
    "Article\"",
    "Posting\"",
    "Product\"",
    "QAPage\"",
    "DiscussionForumPosting\"",
    "FAQPage\"",
    "Recipe\"",
    "ItemList\"",
    "CollectionPage\"",
    "Service\"",
    "BreadcrumbList\"",
    "Review\"",
    "Comment\"",
    "Offer\"",
];

/// Words of addresses that tell the kind of page.
const ADDRESSES: [&str; 8] = [
    "forum forums thread threads topic t viewtopic showthread discussion discuss community question questions comments",
    "product products p item itm dp pd shop store sku app",
    "docs doc documentation reference manual api guide guides wiki tutorial howto help learn",
    "blog news article articles story stories post posts magazine press opinion",
    "category categories collection collections c tag tags list lists best top catalog browse search all b",
    "service services solutions pricing about features platform industries company products-services contact",
    "index home default",
    "recipe recipes review reviews",
];

/// What was found.
#[derive(Debug, Default)]
pub struct Page {
    /// A bit for each of [`THINGS`].
    pub things: u32,
    /// A bit for each of [`ADDRESSES`].
    pub address: u32,
    /// Parts of the address's path.
    pub path_parts: u32,
    /// Hyphens in its last part.
    pub hyphens: u32,
    /// Digits in it.
    pub path_digits: u32,
    /// `og:type`: 1 article, 2 product, 3 website, 4 any other.
    pub og_type: u8,
    /// What the name of `body` speaks of.
    pub body_name: u64,
    /// What `meta name=generator` speaks of: 1 a shop, 2 a forum, 3 documentation, 4 a blog.
    pub generator: u8,
    /// Has it a publication date in its head?
    pub dated: bool,
    /// Word hashes of its titles (`title`, `og:title`).
    pub title: HashSet<u32>,
    /// Word hashes of its descriptions.
    pub description: HashSet<u32>,
    /// Hashes of three words in a row of the `articleBody` in JSON-LD.
    pub article_body: HashSet<u32>,
    /// That `articleBody` itself.
    pub article_text: String,
}

impl Page {
    /// Reads `tree`, which came from `url`.
    pub fn of(tree: &Tree, url: Option<&str>) -> Self {
        let mut page = Self::default();
        let mut left = MAX_JSON;
        for id in tree.all() {
            match tree.tag(id) {
                tags::META => page.meta(tree, id),
                tags::TITLE if page.title.is_empty() => page.title.extend(hashes(&tree.text_of(id, 1_000))),
                tags::BODY => {
                    let names = ["class", "id"].into_iter().filter_map(|key| tree.attribute(id, key));
                    page.body_name = names.map(lexicon::of_name).fold(0, |all, one| all | one);
                }
                tags::SCRIPT if tree.end(id) > id + 1 => {
                    let data = tree.attribute(id, "type").is_some_and(|kind| kind.contains("ld+json"));
                    let json = tree.raw_text(id + 1);
                    if data && json.len() <= left {
                        left -= json.len();
                        page.json(json);
                    }
                }
                _ => {}
            }
        }
        page.read_address(url.unwrap_or(""));
        page
    }

    fn meta(&mut self, tree: &Tree, id: Id) {
        let attributes = tree.attributes(id);
        let Some(content) = attributes.get("content") else { return };
        let Some(name) = attributes.get("property").or_else(|| attributes.get("name")) else { return };
        let content = &content[..content.floor_char_boundary(2_000)];
        match name.to_ascii_lowercase().as_str() {
            "og:title" | "twitter:title" => self.title.extend(hashes(&decode(content))),
            "description" | "og:description" | "twitter:description" => {
                self.description.extend(hashes(&decode(content)));
            }
            "og:type" => {
                self.og_type = match content.trim() {
                    kind if kind.starts_with("article") => 1,
                    kind if kind.contains("product") => 2,
                    "website" => 3,
                    _ => 4,
                }
            }
            "article:published_time" | "date" | "pubdate" => self.dated = true,
            "generator" => {
                let kind = content.to_ascii_lowercase();
                let any = |names: &[&str]| names.iter().any(|name| kind.contains(name));
                self.generator = match () {
                    () if any(&["shop", "commerce", "magento"]) => 1,
                    () if any(&["discourse", "phpbb", "vbulletin", "xenforo", "flarum", "smf"]) => 2,
                    () if any(&[
                        "sphinx",
                        "docusaurus",
                        "mkdocs",
                        "vuepress",
                        "vitepress",
                        "docutils",
                        "mediawiki",
                    ]) =>
                    {
                        3
                    }
                    () if any(&["wordpress", "ghost", "blogger", "jekyll", "hugo", "drupal"]) => 4,
                    () => 5,
                };
            }
            _ => {}
        }
    }

    fn json(&mut self, json: &str) {
        for (bit, thing) in THINGS.iter().enumerate() {
            if memmem::find(json.as_bytes(), thing.as_bytes()).is_some() {
                self.things |= 1 << bit;
            }
        }
        if let Some(text) = string_after(json, "\"articleBody\"")
            && text.len() > self.article_text.len()
        {
            // Some put markup into it.
            let text = if text.contains("</") { strip(&text) } else { text };
            let words: Vec<u32> = hashes(&text).collect();
            self.article_body = threes(&words).collect();
            self.article_text = text;
        }
    }

    fn read_address(&mut self, url: &str) {
        let path = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (host, path) = path.split_once('/').unwrap_or((path, ""));
        let path = path.split(['?', '#']).next().unwrap_or("");
        let parts = path.split('/').filter(|part| !part.is_empty());
        for part in parts.clone().chain(host.split('.')).take(32) {
            for word in part.split(['.', '_']).chain([part]) {
                for (bit, words) in ADDRESSES.iter().enumerate() {
                    if words.split(' ').any(|known| known.eq_ignore_ascii_case(word)) {
                        self.address |= 1 << bit;
                    }
                }
            }
        }
        self.path_parts = parts.clone().count() as u32;
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
        self.hyphens = last.bytes().filter(|b| *b == b'-').count() as u32;
        self.path_digits = path.bytes().filter(u8::is_ascii_digit).count() as u32;
    }
}

/// The JSON string that is the first value of `key` (with its quotes).
fn string_after(json: &str, key: &str) -> Option<String> {
    let at = memmem::find(json.as_bytes(), key.as_bytes())? + key.len();
    let value = json[at..].trim_start().strip_prefix(':')?.trim_start();
    if !value.starts_with('"') {
        return None;
    }
    let mut end = 1;
    let bytes = value.as_bytes();
    while *bytes.get(end)? != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    let literal = value.get(..=end)?;
    // Line breaks inside strings are not JSON, and are met.
    serde_json::from_str(literal)
        .or_else(|_| serde_json::from_str(&literal.replace(|c: char| c.is_control(), " ")))
        .ok()
        .map(|text: String| decode(&text).into_owned())
}

fn strip(markup: &str) -> String {
    Tree::parse(markup, &crate::extract::Limits::default()).text_of(0, markup.len())
}

/// The hashes of the words of `text`, as [`super::blocks`] makes them.
pub fn hashes(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).map(|word| {
        word.chars().fold(lexicon::START, |hash, c| {
            lexicon::step(
                hash,
                if c.is_ascii() { c.to_ascii_lowercase() } else { c.to_lowercase().next().unwrap_or(c) } as u32,
            )
        })
    })
}

/// The hashes of three words in a row; of fewer words one hash of them all.
pub fn threes(words: &[u32]) -> impl Iterator<Item = u32> + '_ {
    words
        .windows(3.min(words.len().max(1)))
        .map(|three| three.iter().fold(lexicon::START, |hash, word| lexicon::step(hash.rotate_left(5), *word)))
}
