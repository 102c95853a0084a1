//! WARC files of what is fetched.

use std::path::PathBuf;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize};

/// Largest file that may be asked for: readers seek in it, and whoever moves it moves it as a whole.
const LARGEST: u64 = 1 << 40;

/// WARC files (ISO 28500:2017) of requests and answers, beside the pages. None unless `folder` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Warc {
    /// Where they are written; several processes may share it.
    pub folder: Option<PathBuf>,
    /// What their names begin with: letters, digits, `_` and `.`.
    #[serde(deserialize_with = "prefix")]
    pub prefix: String,
    /// A file that has reached this is closed, and another begun.
    #[serde(deserialize_with = "max_bytes")]
    pub max_bytes: ByteSize,
    /// Each record is a gzip member of its own; else it is written as it is.
    pub gzip: bool,
    /// sha1, which indices of archives go by, or sha256.
    pub digest: Digest,
    /// Who runs the crawl, with a way to reach them; written into each file.
    pub operator: String,
}

/// The hash of payloads and blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    Sha1,
    Sha256,
}

impl Default for Warc {
    fn default() -> Self {
        Warc {
            folder: None,
            prefix: "tidemill".into(),
            max_bytes: ByteSize::gib(1),
            gzip: true,
            digest: Digest::Sha1,
            operator: String::new(),
        }
    }
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(good) {
        return Err(serde::de::Error::custom("not a prefix of file names: letters, digits, _ and ."));
    }
    Ok(text)
}

fn max_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let bytes = ByteSize::deserialize(deserializer)?;
    if bytes.as_u64() == 0 || bytes.as_u64() > LARGEST {
        return Err(serde::de::Error::custom("not a size of a file: more than nothing, at most 1 TiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_would_be_no_file_is_refused() {
        let read = |text: &str| toml::from_str::<Config>(&format!("[warc]\n{text}")).map_err(|e| e.to_string());
        let config = read("folder = \"w\"\nprefix = \"crawl_1.a\"\nmax_bytes = \"5 GB\"\ndigest = \"sha256\"").unwrap();
        assert_eq!((config.warc.max_bytes.as_u64(), config.warc.gzip), (5_000_000_000, true));
        for bad in ["prefix = \"a/b\"", "prefix = \"\"", "prefix = \".a\"", "max_bytes = 0", "digest = \"md5\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
