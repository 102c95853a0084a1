//! The enrich stage: language, counts, and whether another document has the very same body.
//!
//! Only the same bytes make a duplicate. The same text in other bytes may be a mirror, but it may also be all that the
//! extractor found on a hundred different pages (a cookie banner); dropping those would lose documents. `text_hash` is in
//! the document, for whoever wants to group by it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::engine::{Ctx, Outcome, Stage};
use crate::record::codec::{self, CodecError};
use crate::record::{Document, DropReason, Enriched, FailureClass, Record};
use crate::store::{Claimed, Store, StoreError};
use crate::topology::StageName;

/// Namespace of body hashes in the store.
const BODIES: &str = "body";

/// The stage.
pub struct Enrich {
    /// Which document holds which body.
    pub store: Arc<dyn Store>,
    /// How long a body counts as held.
    pub keep: Duration,
}

/// Who holds a body. The store may outlive the transaction, so the entry names its task: a task's own entry, and an
/// entry of the same document, never make it a duplicate.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    id: String,
    url: String,
    task: String,
}

#[async_trait]
impl Stage for Enrich {
    type Task = Document;

    fn name(&self) -> StageName {
        StageName::Enrich
    }

    fn decode(&self, value: &[u8]) -> Result<Document, CodecError> {
        codec::decode(value)
    }

    fn url<'a>(&self, document: &'a Document) -> &'a str {
        &document.url
    }

    async fn handle(&self, d: Document, ctx: &Ctx) -> Outcome {
        let host =
            url::Url::parse(&d.final_url).ok().map(|u| crate::record::url_task::host_key(&u)).unwrap_or_default();
        if d.gone {
            let tombstone =
                Enriched { url: d.url, attrs: d.attrs, ..Enriched::tombstone(d.id, d.final_url, host, d.fetched_at) };
            return Outcome::Emit(vec![Record::Enriched(Box::new(tombstone))]);
        }
        let me = Holder { id: d.id.clone(), url: d.final_url.clone(), task: ctx.meta.task.clone() };
        match self.holder(&d.body_hash, &me).await {
            Ok(Some(other)) if other.id != me.id && other.task != me.task => {
                return Outcome::dropped(DropReason::DuplicateContent, format!("the same bytes as {}", other.url));
            }
            Ok(_) => {}
            Err(outcome) => return outcome,
        }
        let language = super::language(&d.text, d.declared_language.as_deref());
        let counts = super::counts(&d.text);
        Outcome::Emit(vec![Record::Enriched(Box::new(Enriched {
            id: d.id,
            url: d.url,
            final_url: d.final_url,
            host,
            canonical: d.canonical,
            fetched_at: d.fetched_at,
            title: d.title,
            author: d.author,
            date: d.date,
            site_name: d.site_name,
            description: d.description,
            language_confidence: language.as_ref().map_or(0.0, |l| l.confidence),
            language: language.map(|l| l.code),
            text_hash: super::text_hash(&d.text).hex(),
            words: i64::try_from(counts.words).unwrap_or(i64::MAX),
            chars: i64::try_from(counts.chars).unwrap_or(i64::MAX),
            text: d.text,
            markdown: d.markdown,
            page_kind: d.page_kind,
            text_confidence: d.text_confidence,
            links: d.links,
            authors: d.authors,
            modified: d.modified,
            image: d.image,
            tags: d.tags,
            license: d.license,
            sources: d.sources,
            confidence: d.confidence,
            robots: d.robots,
            alternates: d.alternates,
            structured: d.structured,
            tables: d.tables,
            vector: d.vector,
            attrs: d.attrs,
            gone: false,
        }))])
    }
}

impl Enrich {
    /// Claims the body; the other holder, if there is one.
    async fn holder(&self, hash: &str, me: &Holder) -> Result<Option<Holder>, Outcome> {
        let mine = serde_json::to_vec(me).map_err(|e| Outcome::fail(FailureClass::Schema, e.to_string()))?;
        match self.store.claim(BODIES, hash, mine.into(), self.keep).await {
            Ok(Claimed::Mine) => Ok(None),
            // An entry that cannot be read makes nobody a duplicate.
            Ok(Claimed::Theirs(entry)) => Ok(serde_json::from_slice(&entry).ok()),
            Err(StoreError::Unavailable(why)) => Err(Outcome::unavailable(why)),
            Err(e) => Err(Outcome::fail(FailureClass::Storage, e.to_string())),
        }
    }
}
