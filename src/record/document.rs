//! What extract and enrich hand on, and what the index holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schemas::schema;

/// A link of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Absolute, fragment removed.
    pub url: String,
    /// Anchor text.
    pub text: String,
    /// rel=nofollow.
    pub nofollow: bool,
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
