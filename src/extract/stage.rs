//! The extract stage: a page in, its main text and metadata out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::html::{self, ExtractError, Extracted};
use super::limits::Limits;
use super::plain;
use super::pool::{Pool, PoolError};
use super::sniff::{self, Kind};
use crate::blob::{BlobError, Blobs};
use crate::engine::{Ctx, Outcome, Stage};
use crate::record::codec::{self, CodecError};
use crate::record::{Document, DropReason, FailureClass, Page, Record};
use crate::topology::StageName;
use crate::web::charset;

/// The stage. CPU-bound work runs on its own big-stack threads.
pub struct Extract {
    /// Where large bodies are.
    pub blobs: Arc<dyn Blobs>,
    /// Threads that parse.
    pub pool: Pool,
    /// Bounds of a document.
    pub limits: Limits,
    /// Longest time for one document.
    pub deadline: Duration,
    /// Turns of large bodies: how many are in memory at once.
    pub large: Semaphore,
}

/// Bytes that tell what a body is.
const SNIFFED: usize = 4 << 10;

#[async_trait]
impl Stage for Extract {
    type Task = Page;

    fn name(&self) -> StageName {
        StageName::Extract
    }

    fn decode(&self, value: &[u8]) -> Result<Page, CodecError> {
        codec::decode(value)
    }

    fn url<'a>(&self, page: &'a Page) -> &'a str {
        &page.url
    }

    async fn handle(&self, mut page: Page, _ctx: &Ctx) -> Outcome {
        if page.is_gone() {
            return Outcome::Emit(vec![Record::Document(Box::new(gone(page)))]);
        }
        let content_type = page.headers.iter().find(|h| h.name == "content-type").map(|h| h.value.clone());
        let judge = |body: &[u8]| match sniff::sniff(content_type.as_deref(), body) {
            _ if body.is_empty() => Err(Outcome::dropped(DropReason::Empty, "the body is empty")),
            kind @ (Kind::Html | Kind::Xhtml | Kind::PlainText) => Ok(kind),
            kind => Err(Outcome::dropped(DropReason::UnsupportedType, format!("{} is not read yet", kind.name()))),
        };
        let (body, kind, known, _turn) = match self.body(&mut page, judge).await {
            Ok(found) => found,
            Err(outcome) => return outcome,
        };
        let (limits, url) = (self.limits, page.final_url.clone());
        let work = move || {
            let (text, _) = charset::decode(&body, content_type.as_deref());
            let found = match kind {
                Kind::PlainText => plain::extract(&text, &limits),
                _ => html::extract(&text, Some(&url), &limits),
            };
            found.map(|found| (found, known.unwrap_or_else(|| hex::encode(Sha256::digest(&body)))))
        };
        match self.pool.run(self.deadline, work).await {
            Ok(Ok((found, hash))) => Outcome::Emit(vec![Record::Document(Box::new(document(page, found, hash)))]),
            Ok(Err(ExtractError::Empty(_))) => Outcome::dropped(DropReason::Empty, "no text in it"),
            Err(e @ PoolError::Panic(_)) => Outcome::fail(FailureClass::Parse, format!("the parser {e}")),
            // Perhaps not this page's fault: others may have kept the threads busy. It is tried again, on its ladder.
            Err(e) => Outcome::fail(FailureClass::Deadline, format!("parsing: {e}")),
        }
    }
}

impl Extract {
    /// The body, from the record or from its blob, and what it is; of a blob its hash, which is its name, and its turn.
    async fn body(
        &self,
        page: &mut Page,
        judge: impl Fn(&[u8]) -> Result<Kind, Outcome>,
    ) -> Result<(Bytes, Kind, Option<String>, Option<SemaphorePermit<'_>>), Outcome> {
        if let Some(inline) = page.body.inline.take() {
            let kind = judge(&inline)?;
            return Ok((inline.into(), kind, None, None));
        }
        let Some(key) = &page.body.blob else {
            return Err(Outcome::fail(FailureClass::Schema, "the page has neither a body nor a reference to one"));
        };
        let read = async |limit| {
            self.blobs.get_start(key, limit).await.map_err(|e| match e {
                BlobError::NotFound(_) => Outcome::fail(FailureClass::BlobMissing, e.to_string()),
                BlobError::Unavailable(why) => Outcome::unavailable(why),
                e => Outcome::fail(FailureClass::Storage, e.to_string()),
            })
        };
        // What is not for us is not read; and of what is, no more than it takes to keep the threads busy.
        let kind = judge(&read(SNIFFED).await?)?;
        let turn = self.large.acquire().await.ok();
        let hash = key.strip_prefix("sha256/").map(str::to_owned);
        Ok((read(self.limits.max_bytes).await?, kind, hash, turn))
    }
}

/// Of a page that is no more.
fn gone(page: Page) -> Document {
    Document {
        id: page.id,
        url: page.url,
        final_url: page.final_url,
        fetched_at: page.fetched_at,
        attrs: page.attrs,
        gone: true,
        ..Document::default()
    }
}

fn document(page: Page, mut found: Extracted, body_hash: String) -> Document {
    let asked = page.headers.iter().filter(|header| header.name == "x-robots-tag").map(|header| header.value.as_str());
    found.ask_robots(asked);
    let text_confidence = found.text_confidence();
    let Extracted { text, markdown, kind, confidence, metadata, links, alternates, tables, structured } = found;
    let author = metadata.author();
    Document {
        id: page.id,
        url: page.url,
        final_url: page.final_url,
        canonical: metadata.canonical,
        fetched_at: page.fetched_at,
        body_hash,
        title: metadata.title,
        author,
        date: metadata.date,
        site_name: metadata.site_name,
        description: metadata.description,
        declared_language: metadata.language,
        text,
        markdown,
        page_kind: kind.map(|kind| kind.name().to_owned()),
        text_confidence,
        links,
        authors: metadata.authors,
        modified: metadata.modified,
        image: metadata.image,
        tags: metadata.tags,
        license: metadata.license,
        sources: metadata
            .sources
            .iter()
            .map(|(field, source)| ((*field).to_owned(), source.name().to_owned()))
            .collect(),
        confidence: confidence.into_iter().map(|(field, sure)| (field.to_owned(), sure)).collect(),
        robots: metadata.robots,
        alternates,
        structured: structured.into_text(),
        tables,
        vector: None,
        attrs: page.attrs,
        gone: false,
    }
}
