//! The input record: a URL to work on. Field names follow Scrapy Cluster's where they fit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::codec::{self, CodecError};
use super::page::Hop;
use super::schemas::schema;

/// One URL to fetch. `url` is all that is needed; everything else has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct UrlTask {
    /// Absolute http or https URL; file or s3 for inputs that are allowed.
    pub url: String,
    /// Who asked (free text), carried along.
    #[serde(default)]
    pub appid: Option<String>,
    /// Crawl this URL belongs to (free text), carried along.
    #[serde(default)]
    pub crawlid: Option<String>,
    /// Links to follow from here: 0 means none. Carried along; link following comes with its own stage setting.
    #[serde(default)]
    pub maxdepth: i32,
    /// Unix ms after which the URL is not worth fetching.
    #[serde(default)]
    pub expires: Option<i64>,
    /// Free key-value pairs, carried to the document.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
    /// Redirects already followed to get here, oldest first.
    #[serde(default)]
    pub hops: Vec<Hop>,
    /// Fetches it even if what the HTTP cache has of it is fresh.
    #[serde(default)]
    pub force: bool,
}

impl UrlTask {
    /// A task for one URL.
    pub fn new(url: impl Into<String>) -> UrlTask {
        UrlTask { url: url.into(), ..UrlTask::default() }
    }

    /// The key of the record: host and port of the URL, lower case; the text itself when it is no URL (it will end as
    /// a dead letter, and must sit on some partition until then).
    pub fn host_key(&self) -> String {
        match url::Url::parse(&self.url) {
            Ok(u) => host_key(&u),
            Err(_) => self.url.chars().take(64).collect(),
        }
    }

    /// Reads what a producer put on `urls`: Avro, a JSON object, or a bare URL as text.
    pub fn decode(value: &[u8]) -> Result<UrlTask, CodecError> {
        if codec::is_avro(value) {
            return codec::decode(value);
        }
        let text = std::str::from_utf8(value).map_err(|_| {
            CodecError::Malformed("neither Avro nor text: send Avro, a JSON object with \"url\", or a bare URL".into())
        })?;
        let text = text.trim();
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|e| {
                CodecError::Malformed(format!(
                    "not a URL task: {e}; send {{\"url\": \"https://…\"}} with the fields of schemas/url_task.avsc"
                ))
            });
        }
        if text.is_empty() {
            return Err(CodecError::Malformed("an empty value: send a URL".into()));
        }
        Ok(UrlTask::new(text))
    }
}

/// Host and non-default port, lower case: what politeness counts as one host. Files have the scheme in its place.
pub fn host_key(url: &url::Url) -> String {
    if url.scheme() == "file" {
        return url.scheme().to_owned();
    }
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

schema!(UrlTask, "url_task");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_avro_json_and_bare_urls() {
        let mut task = UrlTask::new("https://example.org/a");
        task.attrs.insert("k".into(), "v".into());
        let avro = codec::encode(&task, &codec::Ids::default()).unwrap();
        assert_eq!(UrlTask::decode(&avro).unwrap(), task);
        assert_eq!(UrlTask::decode(br#" {"url":"https://example.org/a","attrs":{"k":"v"}}"#).unwrap(), task);
        assert_eq!(UrlTask::decode(b"https://example.org/b\n").unwrap(), UrlTask::new("https://example.org/b"));
    }

    #[test]
    fn says_what_is_wrong_with_other_things() {
        for (bad, says) in [
            (&b""[..], "empty"),
            (b"\xff\xfe\x00", "neither Avro nor text"),
            (b"\x00\x00\x01\x86\xa0\x02x", "schema id 100000 of a schema registry"),
            (br#"{"link":"x"}"#, "unknown field `link`"),
            (br#"{"url":"#, "EOF"),
        ] {
            let e = UrlTask::decode(bad).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }

    #[test]
    fn the_key_is_the_host_with_its_port() {
        assert_eq!(UrlTask::new("https://Example.ORG./a").host_key(), "example.org");
        assert_eq!(UrlTask::new("http://example.org:8080/a").host_key(), "example.org:8080");
        assert_eq!(UrlTask::new("http://example.org:80/a").host_key(), "example.org");
        assert_eq!(UrlTask::new("file:///data/a").host_key(), "file");
        assert_eq!(UrlTask::new("s3://tide/a").host_key(), "tide");
    }
}
