//! What travels: the records on the topics, their headers, failure classes and codecs.
//!
//! | record | topic | made by | read by |
//! |---|---|---|---|
//! | [`UrlTask`] | `urls.high`, `urls`, `urls.bulk` | people, producers, redirects | fetch |
//! | [`Page`] | `pages` | fetch | extract |
//! | [`Document`] | `documents` | extract | enrich |
//! | [`Enriched`] | `enriched` | enrich | index, and anyone |
//! | [`StatusEvent`] | `status` | the engine, with every outcome | jobs, explain, progress |
//!
//! Values are Avro ([`codec`], [`writers`]); the contract is `schemas/*.avsc`. All times are Unix milliseconds.

pub mod codec;
pub mod document;
pub mod failure;
pub mod headers;
pub mod letter;
pub mod page;
pub mod schemas;
pub mod status;
pub mod trace;
pub mod url_task;
pub mod writers;

pub use document::{Alternate, Confidence, Document, Enriched, Link, Table};
pub use failure::{DropReason, FailureClass};
pub use headers::{Headers, Meta};
pub use page::{Body, Hop, HttpHeader, Page};
pub use status::{OutcomeKind, StatusEvent};
pub use url_task::UrlTask;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

/// Milliseconds since the Unix epoch, now.
pub fn now_ms() -> i64 {
    // Several times a record: the clock alone, without a calendar.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Which record a topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    UrlTask,
    Page,
    Document,
    Enriched,
}

impl Kind {
    /// Name of its schema, without `.avsc`.
    pub fn schema(self) -> &'static str {
        use schemas::Schema;
        match self {
            Kind::UrlTask => UrlTask::NAME,
            Kind::Page => Page::NAME,
            Kind::Document => Document::NAME,
            Kind::Enriched => Enriched::NAME,
        }
    }
}

/// A record a stage hands on; the topology knows the topic of each kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    UrlTask(Box<UrlTask>),
    Page(Box<Page>),
    Document(Box<Document>),
    Enriched(Box<Enriched>),
}

impl Record {
    /// The kind, which decides the topic.
    pub fn kind(&self) -> Kind {
        match self {
            Record::UrlTask(_) => Kind::UrlTask,
            Record::Page(_) => Kind::Page,
            Record::Document(_) => Kind::Document,
            Record::Enriched(_) => Kind::Enriched,
        }
    }

    /// The record's key: the host for a URL task (one member owns a host), else the document id (so that the CPU work
    /// of one large site spreads over the partitions).
    pub fn key(&self) -> Bytes {
        match self {
            Record::UrlTask(t) => Bytes::from(t.host_key()),
            Record::Page(p) => Bytes::from(p.id.clone()),
            Record::Document(d) => Bytes::from(d.id.clone()),
            Record::Enriched(e) => Bytes::from(e.id.clone()),
        }
    }

    /// The URL that status events name.
    pub fn url(&self) -> &str {
        match self {
            Record::UrlTask(t) => &t.url,
            Record::Page(p) => &p.url,
            Record::Document(d) => &d.url,
            Record::Enriched(e) => &e.url,
        }
    }

    /// The Avro value.
    pub fn encode(&self, ids: &codec::Ids) -> Result<Bytes, codec::CodecError> {
        match self {
            Record::UrlTask(t) => codec::encode(&**t, ids),
            Record::Page(p) => codec::encode(&**p, ids),
            Record::Document(d) => codec::encode(&**d, ids),
            Record::Enriched(e) => codec::encode(&**e, ids),
        }
    }
}

/// A Unix time in ms as RFC 3339, for people.
pub fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |t| format!("{t:.3}"))
}
