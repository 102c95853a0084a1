//! Inputs that lie in a folder or in a bucket: `file:///data/a.html`, `s3://bucket/in/a.html`. None is allowed unless
//! `fetch.allow_inputs` names what it lies under.
//!
//! A file is opened from the folder that is allowed, never by its own path, and no step of the way may lead out of it: not
//! `..` in any spelling, and no symlink. What ends with `.gz` or `.zst`, or says so as a Content-Encoding, is decoded.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use futures::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::{Attribute, Error, ObjectStoreExt};
use url::Url;

use super::body::{Overflow, Receiver};
use super::http::{Answer, FetchError};
use crate::config::{self, Config, Input};
use crate::record::{FailureClass, HttpHeader};
use crate::upstream;

/// Bytes read from a file at once.
const PIECE: usize = 64 << 10;

/// What may be read.
pub struct Inputs {
    folders: Vec<PathBuf>,
    /// Bucket, its client, what keys there begin with.
    buckets: Vec<(String, Arc<AmazonS3>, String)>,
    config: config::Fetch,
}

/// Whether a URL is of this kind.
pub fn is_input(url: &Url) -> bool {
    matches!(url.scheme(), "file" | "s3")
}

impl Inputs {
    /// Those that are configured; nothing is opened or asked yet.
    pub fn new(config: &Config) -> Result<Inputs, FetchError> {
        let (mut folders, mut buckets, mut clients) = (vec![], vec![], BTreeMap::new());
        for input in &config.fetch.allow_inputs {
            match input {
                Input::Folder(folder) => folders.push(folder.clone()),
                Input::Bucket { bucket, prefix } => {
                    let client = match clients.get(bucket) {
                        Some(client) => Arc::clone(client),
                        None => {
                            let client = upstream::s3::client(&config.s3, bucket, config.fetch.timeout);
                            let client = Arc::new(client.map_err(|e| FetchError::new(FailureClass::Tls, e))?);
                            clients.insert(bucket.clone(), Arc::clone(&client));
                            client
                        }
                    };
                    buckets.push((bucket.clone(), client, prefix.clone()));
                }
            }
        }
        Ok(Inputs { folders, buckets, config: config.fetch.clone() })
    }

    /// Reads an input as the answer to a GET would be.
    pub async fn get(&self, url: &Url, overflow: &Overflow) -> Result<Answer, FetchError> {
        match url.scheme() {
            "file" => self.file(url, overflow).await,
            _ => self.object(url, overflow).await,
        }
    }

    async fn file(&self, url: &Url, overflow: &Overflow) -> Result<Answer, FetchError> {
        let path = url.to_file_path().map_err(|()| refused(url))?;
        let within = |folder: &PathBuf| Some((folder.clone(), path.strip_prefix(folder).ok()?.to_owned()));
        let (folder, rest) = self.folders.iter().find_map(within).ok_or_else(|| refused(url))?;
        let shown = url.to_string();
        let (mut file, modified) = blocking(move || open(&folder, &rest, &shown)).await?;
        let headers = modified.map(last_modified).into_iter().collect();
        let mut receiver = Receiver::new(by_name(url.path()), &self.config, Some(overflow.clone()))?;
        loop {
            let (back, piece) = blocking(move || {
                let mut piece = BytesMut::zeroed(PIECE);
                let length = file.read(&mut piece).map_err(|e| unreadable(&e))?;
                piece.truncate(length);
                Ok((file, piece.freeze()))
            })
            .await?;
            if piece.is_empty() {
                break;
            }
            file = back;
            receiver = receiver.take(piece).await?;
        }
        Ok(Answer::of_input(headers, receiver.finish().await?))
    }

    async fn object(&self, url: &Url, overflow: &Overflow) -> Result<Answer, FetchError> {
        let key = object_store::path::Path::from_url_path(url.path()).map_err(|_| refused(url))?;
        let bucket = url.host_str().unwrap_or_default();
        let allowed = self.buckets.iter().find(|(b, _, prefix)| b == bucket && under(key.as_ref(), prefix));
        let (_, client, _) = allowed.ok_or_else(|| refused(url))?;
        let found = client.get(&key).await.map_err(|e| failed(url, &e))?;
        let modified = u64::try_from(found.meta.last_modified.timestamp_millis()).ok();
        let modified = modified.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
        let kind = found.attributes.get(&Attribute::ContentType).map(|kind| header("content-type", kind.to_string()));
        let headers = kind.into_iter().chain(modified.map(last_modified)).collect();
        let said = found.attributes.get(&Attribute::ContentEncoding).map(|c| c.to_string());
        let coding = said.unwrap_or_else(|| by_name(url.path()).to_owned());
        let mut receiver = Receiver::new(&coding, &self.config, Some(overflow.clone()))?;
        receiver.announced(found.meta.size)?;
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(|e| failed(url, &e))? {
            receiver = receiver.take(piece).await?;
        }
        Ok(Answer::of_input(headers, receiver.finish().await?))
    }
}

/// Opens a regular file below a folder, and says when it was changed.
fn open(folder: &Path, rest: &Path, shown: &str) -> Result<(cap_std::fs::File, Option<SystemTime>), FetchError> {
    let cannot = |e: io::Error| match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => absent(format!("there is no {shown}")),
        // The way leads out of the folder.
        ErrorKind::PermissionDenied => {
            absent(format!("{shown} may not be read: it leads out of its folder, or is not ours"))
        }
        _ => FetchError::new(FailureClass::Storage, format!("{shown} cannot be read ({e})")),
    };
    let dir = Dir::open_ambient_dir(folder, ambient_authority()).map_err(cannot)?;
    // Before it is opened: a pipe would wait for somebody to write to it.
    let found = dir.metadata(rest).map_err(cannot)?;
    if !found.is_file() {
        return Err(absent(format!("{shown} is no regular file")));
    }
    let file = dir.open(rest).map_err(cannot)?;
    Ok((file, found.modified().ok().map(cap_std::time::SystemTime::into_std)))
}

/// The coding that a name tells of.
fn by_name(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "gz")) => "gzip",
        Some((_, "zst")) => "zstd",
        _ => "",
    }
}

/// Whether a key is the prefix, or lies under it.
fn under(key: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    key.strip_prefix(prefix).is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

fn refused(url: &Url) -> FetchError {
    let message =
        format!("{url} is not allowed: name the folder or bucket it lies in in fetch.allow_inputs if it is meant");
    FetchError::new(FailureClass::BlockedAddress, message)
}

fn absent(message: String) -> FetchError {
    FetchError::new(FailureClass::Http4xx, message)
}

fn failed(url: &Url, e: &Error) -> FetchError {
    match e {
        Error::NotFound { .. } => absent(format!("there is no {url}")),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            absent(format!("{url} may not be read ({e}); check the credentials in [s3] or AWS_*"))
        }
        _ => FetchError::new(FailureClass::Connect, format!("{url} cannot be read now ({e})")),
    }
}

fn unreadable(e: &io::Error) -> FetchError {
    FetchError::new(FailureClass::Storage, format!("the file cannot be read ({e})"))
}

fn last_modified(at: SystemTime) -> HttpHeader {
    header("last-modified", httpdate::fmt_http_date(at))
}

fn header(name: &str, value: String) -> HttpHeader {
    HttpHeader { name: name.to_owned(), value }
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let done = tokio::task::spawn_blocking(f).await;
    done.map_err(|e| FetchError::new(FailureClass::Panic, format!("reading a file was cut short: {e}")))?
}
