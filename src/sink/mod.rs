//! Where documents end up: an index that can be searched, a file, or both.
//!
//! The contract, which `tests/contract_sink.rs` holds every sink to:
//!
//! - A document's id is its own (the fingerprint of its final URL), so putting it again makes no second document.
//! - Its version is `fetched_at`. An older version never overwrites a newer one ([`Written::Stale`]); an equal version
//!   overwrites, so that a repeat after a crash is harmless.
//! - A document that is [`gone`](Enriched::gone) is a tombstone: it takes the place of the document under the same rule, is
//!   never found, and stays until [`Sink::sweep`], so that an older version that comes late brings nothing back.
//! - `put` returns only when the document has survived a loss of power, and each document has its own outcome, however
//!   many are written together.

pub mod fanout;
pub mod jsonl;
pub mod opensearch;
pub mod query;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::batch::Weigh;
use crate::record::Enriched;

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Written {
    /// It is new here.
    Created,
    /// An older or equal version was here.
    Updated,
    /// A newer version is here, and stays. Not an error: the record is done.
    Stale,
}

/// Why a document was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// This document, for good.
    #[error("{0}")]
    Rejected(String),
    /// Nothing to do with the document: try again.
    #[error("{0}")]
    Unavailable(String),
    /// The sink asks for time.
    #[error("busy; try again in {} s", after.as_secs_f32())]
    Busy {
        /// How long to wait.
        after: Duration,
    },
}

/// Something that takes documents.
#[async_trait]
pub trait Sink: Send + Sync {
    /// `sqlite`, `jsonl`, …
    fn name(&self) -> &'static str;

    /// Writes one document; returns when it is durable.
    async fn put(&self, document: Arc<Enriched>) -> Result<Written, SinkError>;

    /// Forgets tombstones older than this (Unix ms); returns how many. Nothing to do for a sink that forgets nothing.
    async fn sweep(&self, _before: i64) -> Result<u64, SinkError> {
        Ok(0)
    }

    /// Returns when everything put so far can be found. Nothing to do where `put` already sees to it.
    async fn flush(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The words, as [`query`] reads them.
    pub text: String,
    /// Only this host and those below it, whatever sites the text names.
    pub site: Option<String>,
    /// Only this language, as documents name it (`en`), whatever languages the text names.
    pub language: Option<String>,
    /// Hits wanted, at most [`Query::LARGEST`].
    pub limit: usize,
    /// Hits to skip.
    pub offset: usize,
    /// Values wanted of each facet; 0 for no facets.
    pub facets: usize,
    /// Put around the words found in a snippet. Snippets are plain text: for HTML, choose marks that no text has, escape
    /// the snippet, and then put tags in the marks' place.
    pub marks: (String, String),
}

impl Query {
    /// The largest limit.
    pub const LARGEST: usize = 1_000;
    /// Most values of a facet.
    pub const FACETS: usize = 100;

    /// The first ten hits for these words.
    pub fn new(text: impl Into<String>) -> Query {
        Query {
            text: text.into(),
            site: None,
            language: None,
            limit: 10,
            offset: 0,
            facets: 0,
            marks: ("**".to_owned(), "**".to_owned()),
        }
    }
}

/// A document found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// Document id.
    pub id: String,
    /// The URL that answered.
    pub url: String,
    /// Title.
    pub title: Option<String>,
    /// Author or authors.
    pub author: Option<String>,
    /// Host of the URL.
    pub host: String,
    /// Language.
    pub language: Option<String>,
    /// Date published, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// A piece of the text around the words found, marked; one line.
    pub snippet: String,
    /// Higher is better; comparable within one answer only.
    pub score: f64,
    /// Unix ms.
    pub fetched_at: i64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hits {
    /// Documents that match, on all pages together.
    pub total: u64,
    /// This page, best first.
    pub hits: Vec<Hit>,
    /// What all of them are, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facets: Option<Facets>,
    /// Time it took, ms.
    pub took_ms: f64,
}

/// How many of the documents that match have which value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facets {
    /// Hosts, those of most documents first.
    pub host: Vec<Bucket>,
    /// Languages, likewise; documents without one are not counted.
    pub language: Vec<Bucket>,
    /// Years of publication, the newest first; documents without one are not counted.
    pub date: Vec<Bucket>,
}

/// A value, and how many documents have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bucket {
    pub value: String,
    pub count: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// No word in the query.
    #[error("nothing to look for: give at least one word, or a site:host, lang:xx or date:yyyy to list")]
    Empty,
    /// The index cannot be read.
    #[error("{0}")]
    Unavailable(String),
}

/// Documents by where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// This URL, in its normal form: asked for, or answered.
    Url(String),
    /// A host and those below it.
    Host(String),
}

/// A document that was selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Selected {
    /// Document id.
    pub id: String,
    /// The URL that answered.
    pub url: String,
    /// Its host.
    pub host: String,
}

/// Something that finds documents.
#[async_trait]
pub trait Search: Send + Sync {
    /// Finds documents.
    async fn search(&self, query: &Query) -> Result<Hits, SearchError>;

    /// How many documents a selection has, and some of them, `limit` at most.
    async fn select(&self, which: &Selection, limit: usize) -> Result<(u64, Vec<Selected>), SearchError>;
}

/// Takes documents and finds them again.
pub trait SearchIndex: Sink + Search {}
impl<I: Sink + Search> SearchIndex for I {}

impl Weigh for Arc<Enriched> {
    fn weight(&self) -> usize {
        let links: usize = self.links.iter().map(|l| l.url.len() + l.text.len() + 32).sum();
        self.text.len() + links + 1024
    }
}

/// Documents must have an id: it is what keeps a repeat from becoming a second document.
fn check(document: &Enriched) -> Result<(), SinkError> {
    if document.id.is_empty() {
        return Err(SinkError::Rejected(format!("the document of {} has no id", document.url)));
    }
    Ok(())
}
