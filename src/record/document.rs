//! What extract and enrich hand on, and what the index holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schemas::schema;

/// A link of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Link {
    /// Absolute, fragment removed.
    pub url: String,
    /// Anchor text.
    pub text: String,
    /// The link or the whole page asks not to vouch for it: nofollow, ugc or sponsored.
    pub nofollow: bool,
    /// Its `rel`, lower case.
    #[serde(default)]
    pub rel: Vec<String>,
    /// Language of what it leads to, as declared.
    #[serde(default)]
    pub hreflang: Option<String>,
}

/// The same page in another language or form (`link rel=alternate`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Alternate {
    /// Absolute, fragment removed.
    pub url: String,
    /// Its language as declared, or `x-default`.
    #[serde(default)]
    pub hreflang: Option<String>,
    /// Its media type, such as `application/rss+xml`.
    #[serde(default)]
    pub media_type: Option<String>,
}

/// A table of data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Table {
    /// Its caption.
    #[serde(default)]
    pub caption: Option<String>,
    /// How many of the first rows are headers.
    #[serde(default)]
    pub header_rows: i32,
    /// Text of the cells, all rows of one length; a cell over several rows or columns stands in each.
    pub rows: Vec<Vec<String>>,
    /// There was more of it.
    #[serde(default)]
    pub truncated: bool,
}

/// How sure a field is, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Confidence {
    /// How likely the field is right, 0 to 1; of the text its expected F1 of words.
    pub score: f64,
    /// What the score was made from, by name (`docs/extraction.md` tells what each means).
    #[serde(default)]
    pub parts: BTreeMap<String, f64>,
}

/// Text and metadata of a page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Document {
    /// Fingerprint of the final URL.
    pub id: String,
    /// The URL that was asked for.
    pub url: String,
    /// The URL that answered.
    pub final_url: String,
    /// The URL the page names as its own.
    pub canonical: Option<String>,
    /// Unix ms; the version in the index.
    pub fetched_at: i64,
    /// SHA-256 of the body the text was taken from, hex.
    pub body_hash: String,
    /// Title.
    pub title: Option<String>,
    /// Author or authors, comma separated.
    pub author: Option<String>,
    /// Date published, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// Name of the site.
    pub site_name: Option<String>,
    /// Description the page gives of itself.
    pub description: Option<String>,
    /// Language the page declares.
    pub declared_language: Option<String>,
    /// Main text.
    pub text: String,
    /// The same with its structure, as Markdown; empty for plain text.
    #[serde(default)]
    pub markdown: String,
    /// What kind of page it is: `article`, `forum`, …
    #[serde(default)]
    pub page_kind: Option<String>,
    /// The F1 of words that is to be expected of the text, 0 to 1.
    #[serde(default)]
    pub text_confidence: f64,
    /// Links.
    pub links: Vec<Link>,
    /// The authors, a name each.
    #[serde(default)]
    pub authors: Vec<String>,
    /// Date of the last change, `YYYY-MM-DD`.
    #[serde(default)]
    pub modified: Option<String>,
    /// Absolute URL of the picture that stands for the page.
    #[serde(default)]
    pub image: Option<String>,
    /// Keywords the page gives itself.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Licence of the content: an absolute URL, or its name as written.
    #[serde(default)]
    pub license: Option<String>,
    /// Where a field was found, by its name: `json-ld`, `opengraph`, `microdata`, `rdfa`, `dublin-core`, `meta`, `page` or
    /// `url`.
    #[serde(default)]
    pub sources: BTreeMap<String, String>,
    /// Confidence in a field, by its name.
    #[serde(default)]
    pub confidence: BTreeMap<String, Confidence>,
    /// What the page asks of robots, lower case: `noindex`, `nofollow`, …
    #[serde(default)]
    pub robots: Vec<String>,
    /// The page in other languages and forms.
    #[serde(default)]
    pub alternates: Vec<Alternate>,
    /// JSON text of the structured data as found: an object with `json_ld`, `microdata`, `rdfa` (arrays) and `opengraph` (an
    /// object), of these what there is.
    #[serde(default)]
    pub structured: Option<String>,
    /// Tables of data.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// Embedding of the text.
    #[serde(default)]
    pub vector: Option<Vec<f32>>,
    /// From the URL task.
    pub attrs: BTreeMap<String, String>,
    /// The page is no more (it answered 410): there is no text, and what an index has of it goes.
    #[serde(default)]
    pub gone: bool,
}

/// A document as it is indexed: the document's fields and what enrich found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Enriched {
    /// Fingerprint of the final URL.
    pub id: String,
    /// The URL that was asked for.
    pub url: String,
    /// The URL that answered.
    pub final_url: String,
    /// Host of the final URL.
    pub host: String,
    /// The URL the page names as its own.
    pub canonical: Option<String>,
    /// Unix ms; the version in the index.
    pub fetched_at: i64,
    /// Title.
    pub title: Option<String>,
    /// Author or authors, comma separated.
    pub author: Option<String>,
    /// Date published, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// Name of the site.
    pub site_name: Option<String>,
    /// Description the page gives of itself.
    pub description: Option<String>,
    /// Language of the text, ISO 639-1 where there is such a code.
    pub language: Option<String>,
    /// How sure the language is, 0 to 1.
    pub language_confidence: f64,
    /// SHA-256 of the normalised text, hex.
    pub text_hash: String,
    /// Words of the text.
    pub words: i64,
    /// Characters of the text.
    pub chars: i64,
    /// Main text.
    pub text: String,
    /// The same with its structure, as Markdown; empty for plain text.
    #[serde(default)]
    pub markdown: String,
    /// What kind of page it is: `article`, `forum`, …
    #[serde(default)]
    pub page_kind: Option<String>,
    /// The F1 of words that is to be expected of the text, 0 to 1.
    #[serde(default)]
    pub text_confidence: f64,
    /// Links.
    pub links: Vec<Link>,
    /// The authors, a name each.
    #[serde(default)]
    pub authors: Vec<String>,
    /// Date of the last change, `YYYY-MM-DD`.
    #[serde(default)]
    pub modified: Option<String>,
    /// Absolute URL of the picture that stands for the page.
    #[serde(default)]
    pub image: Option<String>,
    /// Keywords the page gives itself.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Licence of the content: an absolute URL, or its name as written.
    #[serde(default)]
    pub license: Option<String>,
    /// Where a field was found, by its name: `json-ld`, `opengraph`, `microdata`, `rdfa`, `dublin-core`, `meta`, `page` or
    /// `url`.
    #[serde(default)]
    pub sources: BTreeMap<String, String>,
    /// Confidence in a field, by its name.
    #[serde(default)]
    pub confidence: BTreeMap<String, Confidence>,
    /// What the page asks of robots, lower case: `noindex`, `nofollow`, …
    #[serde(default)]
    pub robots: Vec<String>,
    /// The page in other languages and forms.
    #[serde(default)]
    pub alternates: Vec<Alternate>,
    /// JSON text of the structured data as found: an object with `json_ld`, `microdata`, `rdfa` (arrays) and `opengraph` (an
    /// object), of these what there is.
    #[serde(default)]
    pub structured: Option<String>,
    /// Tables of data.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// Embedding of the text.
    #[serde(default)]
    pub vector: Option<Vec<f32>>,
    /// From the URL task.
    pub attrs: BTreeMap<String, String>,
    /// The page is no more, or was taken down: a tombstone, which a sink keeps in the document's place.
    #[serde(default)]
    pub gone: bool,
}

impl Enriched {
    /// That the document of this id is no more, as of `at` (Unix ms).
    pub fn tombstone(id: String, url: String, host: String, at: i64) -> Enriched {
        Enriched { id, final_url: url.clone(), url, host, fetched_at: at, gone: true, ..Enriched::default() }
    }
}

schema!(Document, "document");

schema!(Enriched, "enriched");
