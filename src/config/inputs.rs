//! Places besides the web that inputs may lie in.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// What inputs may lie under: `file:///data/` or a path, `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// An absolute path.
    Folder(PathBuf),
    /// Prefix: whole steps of a key, without a slash at either end; empty for all of the bucket.
    Bucket { bucket: String, prefix: String },
}

impl Input {
    fn of(text: &str) -> Option<Input> {
        if text.starts_with('/') {
            return Some(Input::Folder(text.into()));
        }
        let url =
            Url::parse(text).ok().filter(|u| u.username().is_empty() && u.port().is_none() && u.query().is_none())?;
        match url.scheme() {
            "file" => url.to_file_path().ok().map(Input::Folder),
            "s3" => Some(Input::Bucket {
                bucket: url.host_str()?.to_owned(),
                prefix: url.path().trim_matches('/').to_owned(),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Folder(folder) => write!(f, "{}", folder.display()),
            Input::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl Serialize for Input {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Input, D::Error> {
        let text = String::deserialize(deserializer)?;
        let why = format!("{text:?} is no place for inputs: write /an/absolute/folder or s3://BUCKET/PREFIX");
        Input::of(&text).ok_or_else(|| serde::de::Error::custom(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_absolute_folder_or_a_bucket() {
        let folder = Some(Input::Folder("/data/in".into()));
        assert_eq!((Input::of("/data/in"), Input::of("file:///data/in")), (folder.clone(), folder));
        let bucket = |prefix: &str| Some(Input::Bucket { bucket: "tide".into(), prefix: prefix.into() });
        assert_eq!((Input::of("s3://tide"), Input::of("s3://tide/a/b/")), (bucket(""), bucket("a/b")));
        for bad in ["", "data", "./data", "file://host/data", "s3:///a", "https://tide/", "s3://key:secret@tide/"] {
            assert_eq!(Input::of(bad), None, "{bad}");
        }
    }
}
