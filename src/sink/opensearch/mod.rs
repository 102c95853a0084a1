//! The index on an OpenSearch cluster.
//!
//! ```text
//! put ─► encode ─► bulk: adaptive batches, several on their way, an outcome a document ─► <prefix>documents (alias)
//! search ─► query language ─► query DSL ─► hits with snippets
//! ```
//!
//! A document's `_id` is its own, its version is `fetched_at` (`external_gte`), so a repeat is harmless and an older
//! version never overwrites a newer one. `put` returns after the bulk answer, when the server's translog is on disk (its
//! default, `index.translog.durability: request`). Links are not kept.
//!
//! | file | idea |
//! |---|---|
//! | `client` | requests to one of the nodes |
//! | `schema` | template, index and alias as they should be |
//! | `index` | against those that are there: look, plan (pure), apply |
//! | `reindex` | a new index in the place of the old one, while work goes on |
//! | `body` | a document as two lines of a request |
//! | `pace` | how large requests are (pure) |
//! | `reply` | what an answer says of each document (pure) |
//! | `bulk` | gather, send, send again |
//! | `search` | a query as OpenSearch reads it |
//! | `select` | documents by where they come from; old tombstones |

pub mod body;
mod bulk;
pub mod client;
pub mod index;
mod pace;
pub mod reindex;
mod reply;
pub mod schema;
mod search;
mod select;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::body::Entry;
use self::bulk::{Answer, Bulk};
use self::client::{Client, Method};
use self::schema::Schema;
use super::{Hits, Query, Search, SearchError, Selected, Selection, Sink, SinkError, Written, check};
use crate::batch::{self, Batcher, Limits};
use crate::config;
use crate::record::Enriched;

/// Unit in which waiting documents are counted.
const KIB: usize = 1024;

/// The index on a cluster. Opening it asks nothing of the cluster: template, index and alias are made when the first
/// document comes, if they are not there.
pub struct OpenSearchIndex {
    client: Arc<Client>,
    schema: Schema,
    writer: Batcher<Entry, Answer>,
    /// KiB that may still wait.
    room: Arc<Semaphore>,
    rooms: usize,
}

impl OpenSearchIndex {
    /// The index of a prefix. To be called within a runtime, which the sender's task lives in.
    pub fn open(config: &config::OpenSearch, prefix: &str) -> Result<OpenSearchIndex, String> {
        let client = Arc::new(Client::new(config)?);
        let schema = Schema::of(config, prefix)?;
        let bytes = |size: bytesize::ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        let most = Limits { items: config.max_batch.max(1), bytes: bytes(config.max_batch_bytes) };
        let (writer, inbox) = batch::channel(most);
        let bulk = Bulk::new(Arc::clone(&client), schema.clone(), config.batch, most, config.patience);
        tokio::spawn(Arc::new(bulk).run(inbox, config.requests, config.linger));
        let rooms = (bytes(config.buffer) / KIB).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Ok(OpenSearchIndex { client, schema, writer, room: Arc::new(Semaphore::new(rooms)), rooms })
    }
}

#[async_trait]
impl Sink for OpenSearchIndex {
    fn name(&self) -> &'static str {
        "opensearch"
    }

    /// Waits for its place before it takes memory.
    async fn put(&self, document: Arc<Enriched>) -> Result<Written, SinkError> {
        check(&document)?;
        let closed = || SinkError::Unavailable("the sender to OpenSearch is closed".into());
        // Words are sent twice, as they are and to be stemmed.
        let wanted = (2 * document.text.len() / KIB + 1).min(self.rooms);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.room).acquire_many_owned(wanted).await.map_err(|_| closed())?;
        let mut entry = body::encode(&document, self.schema.has_vector()).map_err(SinkError::Rejected)?;
        entry.place = Some(place);
        drop(document);
        self.writer.call(entry).await.unwrap_or_else(|_| Err(closed()))
    }

    /// Nothing is asked to be written twice: a tombstone that is written anew meanwhile has another version, and stays.
    async fn sweep(&self, before: i64) -> Result<u64, SinkError> {
        select::sweep(&self.client, &self.schema.alias, before).await
    }

    async fn flush(&self) -> Result<(), SinkError> {
        let path = format!("/{}/_refresh", self.schema.alias);
        let answer = self.client.json(Method::Post, &path, None).await;
        match answer.map_err(|e| SinkError::Unavailable(e.to_string()))? {
            // Nothing was ever put.
            a if a.is_success() || a.status == 404 => Ok(()),
            a => Err(SinkError::Unavailable(a.said("to refresh the index"))),
        }
    }
}

#[async_trait]
impl Search for OpenSearchIndex {
    async fn search(&self, query: &Query) -> Result<Hits, SearchError> {
        search::run(&self.client, &self.schema.alias, query).await
    }

    async fn select(&self, which: &Selection, limit: usize) -> Result<(u64, Vec<Selected>), SearchError> {
        select::run(&self.client, &self.schema.alias, which, limit).await
    }
}
