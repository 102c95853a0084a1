//! The OpenSearch side: which cluster, and how documents go there.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::secret::Secret;

/// The index is an OpenSearch cluster when `url` is set, else the embedded one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenSearch {
    /// URL of a node, several separated by commas; empty for the embedded index.
    #[serde(deserialize_with = "urls")]
    pub url: String,
    /// How often each of several nodes has its turn, in the order of their URLs; empty: all alike.
    pub weights: Vec<u32>,
    /// Most requests a second to a node of weight 1; 0: as many as there are. What is over it waits.
    pub max_requests_per_second: u32,
    /// `user:password`; empty for none.
    pub basic_auth: Secret,
    /// Region of an Amazon OpenSearch domain: requests are signed (SigV4), with credentials from AWS_* in the environment or
    /// the machine's role. Empty for a cluster that wants no signature.
    pub aws_region: String,
    /// What requests are signed for: `es` for a domain, `aoss` for a Serverless collection.
    pub aws_service: String,
    /// Longest time of one request.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// How often each of several nodes is asked whether it is there. One that is not is passed over.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub health_interval: Duration,
    /// How long documents that the cluster has no room for are sent again, before they wait in the retry topics.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub patience: Duration,
    /// Documents of a bulk request at first. It grows while answers come quickly, and shrinks when the cluster is busy.
    pub batch: usize,
    /// Most documents of a bulk request.
    pub max_batch: usize,
    /// Bytes after which a bulk request takes no further document.
    pub max_batch_bytes: ByteSize,
    /// How long a bulk request waits for more documents while others are on their way.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub linger: Duration,
    /// Bulk requests on their way at once.
    pub requests: usize,
    /// Bytes of documents that wait or are on their way; further ones wait in the topic.
    pub buffer: ByteSize,
    /// Shards of an index that is made.
    pub shards: u16,
    /// Numbers in a document's `vector`, which is indexed for nearest-neighbour search then (the k-NN plugin, Lucene engine);
    /// 0: it is not sent.
    pub vector_dimension: u16,
    /// How vectors are compared: `cosinesimil`, `l2` or `innerproduct`.
    pub vector_space: String,
}

impl Default for OpenSearch {
    fn default() -> Self {
        OpenSearch {
            url: String::new(),
            weights: vec![],
            max_requests_per_second: 0,
            basic_auth: Secret::default(),
            aws_region: String::new(),
            aws_service: "es".into(),
            timeout: Duration::from_secs(120),
            health_interval: Duration::from_secs(30),
            patience: Duration::from_secs(30),
            batch: 100,
            max_batch: 5_000,
            max_batch_bytes: ByteSize::mib(8),
            linger: Duration::from_millis(20),
            requests: 4,
            buffer: ByteSize::mib(64),
            shards: 1,
            vector_dimension: 0,
            vector_space: "cosinesimil".into(),
        }
    }
}

impl OpenSearch {
    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }

    /// URLs of its nodes.
    pub fn nodes(&self) -> Vec<Url> {
        nodes(&self.url).unwrap_or_default()
    }
}

/// Reads URLs of nodes, separated by commas.
pub(super) fn nodes(text: &str) -> Result<Vec<Url>, String> {
    let one = |text: &str| {
        Url::parse(text.trim())
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
            .filter(|u| u.username().is_empty() && u.password().is_none() && u.query().is_none())
            .ok_or_else(|| {
                format!("{text:?} is not an http or https URL (user and password go into opensearch.basic_auth)")
            })
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    nodes(&text).map_err(serde::de::Error::custom)?;
    Ok(text)
}
