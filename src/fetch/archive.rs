//! What is fetched, as records of WARC files, if that is wanted.
//!
//! An answer whose payload has been written before, and a 304, become revisits of the record that has it. Which record that
//! is, is remembered in the store and in the cache's entries: a memory that may be lost, and then the payload is written
//! once more.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::store::Store;
use crate::warc::block::Format;
use crate::warc::record::{Exchange, Kind, Written};
use crate::warc::writer::Writer;
use crate::warc::{Result, WarcError};

/// Namespace of payloads that were written, by their hash, in the store.
const NAMESPACE: &str = "warc";

/// The files, and what is in them.
pub struct Archive {
    writer: Writer,
    store: Arc<dyn Store>,
    keep: Duration,
}

impl Archive {
    /// Into this folder.
    pub fn open(config: &Config, folder: &Path, store: Arc<dyn Store>) -> Result<Archive> {
        let robots = if config.fetch.robots { "obey" } else { "ignore" };
        let about = [("http-header-user-agent", config.fetch.user_agent.as_str()), ("robots", robots)];
        let about = about.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let writer = Writer::open(&config.warc, folder, about.into())?;
        Ok(Archive { writer, store, keep: config.store.keep })
    }

    /// How an answer is to be taken down.
    pub fn format(&self) -> &Format {
        self.writer.format()
    }

    /// Writes an exchange and says which record has its payload. `of`: the record of the page that a 304 is about.
    pub async fn keep(&self, exchange: Exchange, of: Option<Written>) -> Result<Written> {
        if let Some(of) = of {
            self.writer.write(exchange, Kind::NotModified(Box::new(of.clone()))).await?;
            return Ok(of);
        }
        let sums = exchange.answer.sums();
        // Of a part nobody can tell what it is part of; and to nothing there is nothing to save.
        if exchange.truncated.is_some() || sums.payload_length == 0 {
            return self.writer.write(exchange, Kind::Response).await;
        }
        // The same hash for another length would be a forgery.
        let key = format!("{}/{}", sums.payload, sums.payload_length);
        let known = self.store.get(NAMESPACE, &key).await.map_err(|e| WarcError(e.to_string()))?;
        if let Some(known) = known.and_then(|k| serde_json::from_slice::<Written>(&k).ok()) {
            self.writer.write(exchange, Kind::SamePayload(Box::new(known.clone()))).await?;
            return Ok(known);
        }
        let written = self.writer.write(exchange, Kind::Response).await?;
        let value = serde_json::to_vec(&written).map_err(|e| WarcError(e.to_string()))?;
        if let Err(e) = self.store.put(NAMESPACE, &key, value.into(), self.keep).await {
            tracing::debug!(error = %e, "what was archived is not remembered");
        }
        Ok(written)
    }
}
