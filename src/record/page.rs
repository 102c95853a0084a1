//! What fetch hands on: the answer of a server, body decoded from its content coding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schemas::schema;

/// One redirect that was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The URL that answered with the redirect.
    pub url: String,
    /// Its status, 301 to 308.
    pub status: i32,
}

/// One response header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpHeader {
    /// Lower case.
    pub name: String,
    /// Bytes that are not UTF-8 are replaced.
    pub value: String,
}

/// A body, in the record or beside it. Exactly one of the two is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The bytes, up to `blob.threshold`.
    #[serde(with = "serde_bytes")]
    pub inline: Option<Vec<u8>>,
    /// Key in the blob store, for larger ones: `sha256/<hex>`.
    pub blob: Option<String>,
    /// Length in bytes.
    pub length: i64,
}

/// A fetched page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Document id: fingerprint of the final URL.
    pub id: String,
    /// The URL that was asked for, normalised.
    pub url: String,
    /// The URL that answered, after redirects.
    pub final_url: String,
    /// When the answer came, Unix ms; the document's version.
    pub fetched_at: i64,
    /// HTTP status.
    pub status: i32,
    /// Response headers, in order.
    pub headers: Vec<HttpHeader>,
    /// Media type without parameters, lower case; empty when the server sent none.
    pub content_type: String,
    /// The body, content coding removed.
    pub body: Body,
    /// Redirects, oldest first.
    pub hops: Vec<Hop>,
    /// From the URL task.
    pub attrs: BTreeMap<String, String>,
}

impl Page {
    /// The server said that it is no more (410, RFC 9110 section 15.5.11).
    pub fn is_gone(&self) -> bool {
        self.status == 410
    }
}

schema!(Page, "page");
