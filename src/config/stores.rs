//! The stores: memory of what was seen, and bodies beside the records; embedded, or services that many processes share.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize};

use super::secret::{Secret, SecretUrl};

/// Memory of what was seen: a Redis when `redis` is set, else a file in the data folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// How long a URL counts as taken in its job, and a body as held by its document.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub keep: Duration,
    /// `redis://user:password@host:6379/0`, with TLS `rediss://…`; empty for the embedded store.
    #[serde(deserialize_with = "redis")]
    pub redis: SecretUrl,
    /// Longest time of a request to Redis, and of connecting to it.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// When Redis is left alone.
    pub breaker: Breaker,
}

/// Bodies beside the records: objects in an S3 bucket when `s3` is set, else files in the data folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Blob {
    /// A larger body travels as a reference.
    pub threshold: ByteSize,
    /// Blobs not used for so long are swept, unless there is an archive; longer than the `pages` topic keeps its records.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub keep: Duration,
    /// zstd or gzip, for what is written; both are always read.
    pub compression: Compression,
    /// `s3://bucket/prefix`; empty for the folder. How to reach it is said in `s3`.
    #[serde(deserialize_with = "s3_url")]
    pub s3: String,
    /// Longest time of a request to S3.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// When S3 is left alone.
    pub breaker: Breaker,
    /// Where bodies move to that nobody has used for long.
    pub archive: Archive,
}

/// A second place for bodies, in S3; with it, none are swept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// `s3://bucket/prefix`, another than `blob.s3`; empty for none.
    #[serde(deserialize_with = "s3_url")]
    pub s3: String,
    /// What was not put or renewed for so long moves.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub after: Duration,
}

/// How to reach S3. What is not set is taken from the environment as other S3 clients do: AWS_ENDPOINT_URL, AWS_REGION,
/// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; then from the machine's role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// `http://minio:9000`; empty for AWS.
    pub endpoint: String,
    /// Empty: from the environment, else us-east-1.
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: Secret,
}

/// When a service is left alone for a while, and what needs it waits at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// After so many failures in a row; 0: never.
    pub failures: u32,
    /// For so long; then one request at a time tries it.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reset: Duration,
}

/// How blobs are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    Zstd,
    Gzip,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            keep: Duration::from_secs(30 * 86_400),
            redis: SecretUrl::default(),
            timeout: Duration::from_secs(2),
            breaker: Breaker::default(),
        }
    }
}

impl Default for Blob {
    fn default() -> Self {
        Blob {
            threshold: ByteSize::kib(256),
            keep: Duration::from_secs(8 * 86_400),
            compression: Compression::Zstd,
            s3: String::new(),
            timeout: Duration::from_secs(30),
            breaker: Breaker::default(),
            archive: Archive::default(),
        }
    }
}

impl Default for Archive {
    fn default() -> Self {
        Archive { s3: String::new(), after: Duration::from_secs(86_400) }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { failures: 5, reset: Duration::from_secs(5) }
    }
}

fn redis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretUrl, D::Error> {
    SecretUrl::of(String::deserialize(deserializer)?, &["redis", "rediss"]).map_err(serde::de::Error::custom)
}

fn s3_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let good = url::Url::parse(&text).is_ok_and(|u| {
        u.scheme() == "s3" && u.has_host() && u.port().is_none() && u.username().is_empty() && u.query().is_none()
    });
    if good || text.is_empty() {
        return Ok(text);
    }
    Err(serde::de::Error::custom("not s3://BUCKET or s3://BUCKET/PREFIX (endpoint and credentials go into [s3])"))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_line_each_chooses_redis_and_s3_and_their_secrets_are_not_shown() {
        let text = "[store]\nredis = \"rediss://ann:hush@r:6380/2\"\n[blob]\ns3 = \"s3://tide/blobs/a\"\n\
            compression = \"gzip\"\n[s3]\nsecret_access_key = \"hush\"";
        let c = read(text).unwrap();
        assert_eq!(c.store.redis.reveal(), "rediss://ann:hush@r:6380/2");
        for shown in [toml::to_string(&c).unwrap(), format!("{c:?}")] {
            assert!(shown.contains("rediss://ann:***@r:6380/2") && !shown.contains("hush"), "{shown}");
            assert!(shown.contains("s3://tide/blobs/a"));
        }
    }

    #[test]
    fn what_is_no_redis_or_bucket_is_refused_without_its_password() {
        for bad in ["r:6379", "http://ann:hush@r/", "redis://", "redis://ann:***@r/"] {
            let e = read(&format!("[store]\nredis = \"{bad}\"")).unwrap_err();
            let why = e.lines().last().unwrap();
            assert!((why.contains("redis://") || why.contains("password itself")) && !why.contains("hush"), "{e}");
        }
        for bad in ["tide/blobs", "s3://", "https://b/p", "s3://key:secret@b/p"] {
            assert!(read(&format!("[blob]\ns3 = \"{bad}\"")).unwrap_err().contains("s3://BUCKET"), "{bad}");
        }
    }
}
