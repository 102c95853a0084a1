//! The HTTP cache (RFC 9111): what was fetched and is still fresh is not fetched again; what is stale is asked for its
//! changes only.
//!
//! An entry is written before its page's record is committed, so it may outlive a crash that the record does not. It names
//! its task: to that task it is never fresh, so the page is asked for again and comes, at worst from the cache by a 304.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy};
use serde::{Deserialize, Serialize};
use url::Url;
use zstd::bulk::Compressor;

use super::http::Answer;
use crate::blob::{BlobError, Blobs};
use crate::config;
use crate::record::url_task::host_key;
use crate::record::{Body, HttpHeader};
use crate::store::{Result, Store, StoreError};
use crate::warc::record::Written;
use crate::web::url::fingerprint;

/// Namespace of the entries in the store.
const NAMESPACE: &str = "http";
/// zstd level of bodies in entries.
const LEVEL: i32 = 1;
/// A larger Age is no age: 10 years, s.
const OLDEST: u64 = 10 * 365 * 86_400;
/// Ours is a cache of one user: what is private to us may be kept. Where an answer says nothing, `ttl` decides, not a guess.
const OPTIONS: CacheOptions = CacheOptions {
    shared: false,
    cache_heuristic: 0.0,
    immutable_min_time_to_live: Duration::from_secs(24 * 3600),
    ignore_cargo_cult: false,
};

/// What is kept of an answer. In the store: length of the JSON (4 bytes, little-endian), the JSON, the body (zstd) if
/// `inline`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The URL, normalised.
    pub url: String,
    /// The task that wrote it.
    pub task: String,
    /// When the answer came, Unix ms; by a 304 anew.
    pub fetched_at: i64,
    /// Headers as they came, `(name, value)`.
    pub headers: Vec<(String, String)>,
    /// Media type without parameters.
    pub content_type: String,
    /// Length of the body, bytes.
    pub length: i64,
    /// Key of the body, if it is in a blob.
    pub blob: Option<String>,
    /// The body is in the entry. Without a validator (ETag, Last-Modified) no body is kept: no 304 will ask for it.
    pub inline: bool,
    /// The record of the body, if it was archived.
    #[serde(default)]
    pub archived: Option<Written>,
    policy: CachePolicy,
    #[serde(skip)]
    body: Bytes,
}

/// What the cache knows of a URL.
#[derive(Debug)]
pub enum Known {
    /// Nothing that is of use.
    Nothing,
    /// Fetched by another task, and fresh for so long.
    Fresh(Box<Entry>, Duration),
    /// To be asked for its changes with these headers.
    Stale(Box<Entry>, HeaderMap),
}

/// The cache.
pub struct Cache {
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    config: config::Fetch,
}

thread_local! {
    /// To make one costs more than to compress a page with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// A body, compressed.
fn packed(body: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(LEVEL).ok()?),
        };
        compressor.compress(body).ok()
    })
}

impl Entry {
    fn write(&self) -> Option<Bytes> {
        let head = serde_json::to_vec(self).ok()?;
        let mut out = u32::try_from(head.len()).ok()?.to_le_bytes().to_vec();
        out.extend(head);
        if self.inline {
            out.extend(packed(&self.body)?);
        }
        Some(out.into())
    }

    /// None: nothing that this version wrote.
    fn read(value: &Bytes) -> Option<Entry> {
        let (length, rest) = value.split_at_checked(4)?;
        let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
        let (head, body) = rest.split_at_checked(length)?;
        let mut entry: Entry = serde_json::from_slice(head).ok()?;
        if entry.inline {
            let mut bytes = vec![];
            let limit = u64::try_from(entry.length).ok()?;
            let decoder = zstd::stream::read::Decoder::with_buffer(body).ok()?;
            std::io::Read::read_to_end(&mut std::io::Read::take(decoder, limit + 1), &mut bytes).ok()?;
            (bytes.len() as u64 == limit).then_some(())?;
            entry.body = bytes.into();
        }
        Some(entry)
    }

    /// How long it is fresh from now on; `longest` is the longest that is believed.
    pub fn fresh_for(&self, longest: Duration) -> Duration {
        let now = SystemTime::now();
        let left = longest.saturating_sub(self.policy.age(now));
        self.policy.time_to_live(now).min(left)
    }

    /// Headers as records have them.
    pub fn http_headers(&self) -> Vec<HttpHeader> {
        self.headers.iter().map(|(n, v)| HttpHeader { name: n.clone(), value: v.clone() }).collect()
    }
}

/// Key of a URL: its host's labels from the last, so that all below a domain begin alike; then the port, `)`, the
/// fingerprint.
fn key(url: &Url) -> String {
    format!("{}){}", domain_key(&host_key(url)), fingerprint(url))
}

fn domain_key(host: &str) -> String {
    if host.starts_with('[') {
        return host.to_owned();
    }
    let (name, port) = host.split_once(':').map_or((host, String::new()), |(name, port)| (name, format!(":{port}")));
    // Only names have a domain above them.
    if name.parse::<std::net::Ipv4Addr>().is_ok() { host.to_owned() } else { format!("{}{port}", reversed(name)) }
}

fn reversed(host: &str) -> String {
    host.split('.').rev().collect::<Vec<_>>().join(",")
}

/// Headers of an answer as the cache sees them. Where it says nothing of its freshness, `ttl` does.
fn judged(headers: &[HttpHeader], ttl: Duration) -> HeaderMap {
    let mut map = HeaderMap::new();
    for h in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(&h.name), HeaderValue::try_from(&h.value)) {
            map.append(name, value);
        }
    }
    let says = |m: &HeaderMap| {
        let directives = m.get_all(CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok());
        let names = directives.flat_map(|v| v.split(',')).map(|d| d.split('=').next().unwrap_or_default().trim());
        let mut names = names.map(str::to_ascii_lowercase);
        m.contains_key(EXPIRES)
            || m.contains_key(PRAGMA)
            || names.any(|n| matches!(n.as_str(), "max-age" | "no-cache" | "no-store" | "immutable"))
    };
    if !says(&map)
        && let Ok(value) = HeaderValue::try_from(format!("max-age={}", ttl.as_secs()))
    {
        map.append(CACHE_CONTROL, value);
    }
    // Times are added to it, and that must not overflow.
    let age = map.get(AGE).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if age.is_none_or(|a| a > OLDEST) {
        map.remove(AGE);
    }
    map
}

/// The request as the cache sees it. None: the URL is too long for it.
fn request(url: &Url, sent: &HeaderMap) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.uri_mut() = url.as_str().parse::<Uri>().ok()?;
    *request.headers_mut() = sent.clone();
    Some(request)
}

fn response(status: StatusCode, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl Cache {
    /// A cache in these.
    pub fn new(config: &config::Fetch, store: Arc<dyn Store>, blobs: Arc<dyn Blobs>) -> Cache {
        Cache { store, blobs, config: config.clone() }
    }

    /// What is known of a URL, for a task that would send these headers.
    pub async fn look(&self, url: &Url, task: &str, sent: &HeaderMap) -> Result<Known> {
        if !self.config.cache.enabled {
            return Ok(Known::Nothing);
        }
        let (Some(entry), Some(request)) = (self.get(url).await?, request(url, sent)) else {
            return Ok(Known::Nothing);
        };
        match entry.policy.before_request(&request, SystemTime::now()) {
            BeforeRequest::Fresh(_) if entry.task != task => {
                let left = entry.fresh_for(self.config.cache.longest);
                if !left.is_zero() {
                    return Ok(Known::Fresh(Box::new(entry), left));
                }
            }
            BeforeRequest::Stale { matches: false, .. } => return Ok(Known::Nothing),
            _ => {}
        }
        if !entry.inline && entry.blob.is_none() {
            if entry.task == task {
                // Its record was never committed. Should it fail now, nobody else may find the page fresh.
                self.forget(url).await?;
            }
            return Ok(Known::Nothing);
        }
        let mut conditions = HeaderMap::new();
        let validators = judged(&entry.http_headers(), Duration::ZERO);
        for (from, to) in [(ETAG, http::header::IF_NONE_MATCH), (LAST_MODIFIED, http::header::IF_MODIFIED_SINCE)] {
            if let Some(value) = validators.get(from) {
                conditions.insert(to, value.clone());
            }
        }
        Ok(Known::Stale(Box::new(entry), conditions))
    }

    /// Keeps an answer, if it may be kept.
    pub async fn keep(&self, url: &Url, task: &str, sent: &HeaderMap, answer: &Answer, body: &Body) -> Result<()> {
        if !self.config.cache.enabled || answer.status != 200 {
            return Ok(());
        }
        let Some(request) = request(url, sent) else { return Ok(()) };
        let headers = judged(&answer.headers, self.config.conduct(&host_key(url)).ttl);
        let validated = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
        let policy = CachePolicy::new_options(&request, &response(StatusCode::OK, headers), SystemTime::now(), OPTIONS);
        let fresh = !policy.time_to_live(SystemTime::now()).is_zero();
        if !policy.is_storable() || !(fresh || validated) {
            // What was kept before is no longer what the site says.
            return self.forget(url).await;
        }
        let inline = body.inline.as_ref().filter(|_| validated);
        self.put(
            url,
            &Entry {
                url: url.to_string(),
                task: task.to_owned(),
                fetched_at: answer.at,
                headers: answer.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect(),
                content_type: answer.content_type.clone(),
                length: body.length,
                blob: body.blob.clone().filter(|_| validated),
                inline: inline.is_some(),
                archived: answer.archived.clone(),
                policy,
                body: inline.map(|b| Bytes::copy_from_slice(b)).unwrap_or_default(),
            },
        )
        .await
    }

    /// A 304 came: the entry, its headers and freshness renewed, and its body. None: it speaks of another version, or the
    /// body is gone; the entry is removed.
    pub async fn unchanged(
        &self,
        url: &Url,
        task: &str,
        sent: &HeaderMap,
        mut entry: Entry,
        answer: &Answer,
    ) -> Result<Option<(Entry, Body)>> {
        let headers = self.renewed(url, sent, &mut entry, answer);
        let body = match headers {
            Some(()) => self.body(&entry).await?,
            None => None,
        };
        let Some(body) = body else {
            self.forget(url).await?;
            return Ok(None);
        };
        (entry.task, entry.fetched_at) = (task.to_owned(), answer.at);
        self.put(url, &entry).await?;
        Ok(Some((entry, body)))
    }

    fn renewed(&self, url: &Url, sent: &HeaderMap, entry: &mut Entry, answer: &Answer) -> Option<()> {
        let mut headers = judged(&answer.headers, self.config.conduct(&host_key(url)).ttl);
        let old = judged(&entry.http_headers(), Duration::ZERO);
        // A 304 should repeat its validators, and many do not; we asked for one version only.
        if !headers.contains_key(ETAG) && !headers.contains_key(LAST_MODIFIED) {
            for name in [ETAG, LAST_MODIFIED] {
                if let Some(value) = old.get(&name) {
                    headers.insert(name, value.clone());
                }
            }
        } else if !headers.contains_key(ETAG) && !old.contains_key(LAST_MODIFIED) {
            return None;
        }
        let answered = response(StatusCode::NOT_MODIFIED, headers);
        match entry.policy.after_response(&request(url, sent)?, &answered, SystemTime::now()) {
            AfterResponse::NotModified(policy, _) => entry.policy = policy,
            AfterResponse::Modified(..) => return None,
        }
        for new in answer.headers.iter().filter(|h| h.name != "content-length" && h.name != "content-encoding") {
            for (_, value) in entry.headers.iter_mut().filter(|(name, _)| *name == new.name) {
                value.clone_from(&new.value);
            }
        }
        Some(())
    }

    /// The body of an entry; a blob becomes young again by it, so that the record that names it finds it. None: gone.
    pub async fn body(&self, entry: &Entry) -> Result<Option<Body>> {
        let length = entry.length;
        let Some(key) = &entry.blob else {
            let inline = entry.inline.then(|| entry.body.to_vec());
            return Ok(inline.map(|b| Body { inline: Some(b), blob: None, length }));
        };
        match self.blobs.renew(key).await {
            Ok(()) => Ok(Some(Body { inline: None, blob: Some(key.clone()), length })),
            Err(BlobError::Unavailable(why)) => Err(StoreError::Unavailable(why)),
            Err(_) => Ok(None),
        }
    }

    /// The bytes of an entry's body. None: it is not kept, or gone.
    pub async fn bytes(&self, entry: &Entry) -> Result<Option<Bytes>> {
        match &entry.blob {
            None => Ok(entry.inline.then(|| entry.body.clone())),
            Some(key) => match self.blobs.get(key).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(BlobError::Unavailable(why)) => Err(StoreError::Unavailable(why)),
                Err(_) => Ok(None),
            },
        }
    }

    /// The entry of a URL, fresh or not.
    pub async fn get(&self, url: &Url) -> Result<Option<Entry>> {
        let value = self.store.get(NAMESPACE, &key(url)).await?;
        // Two URLs of one fingerprint are one document; what cannot be read is as good as absent.
        Ok(value.as_ref().and_then(Entry::read))
    }

    async fn put(&self, url: &Url, entry: &Entry) -> Result<()> {
        let Some(value) = entry.write() else { return Ok(()) };
        match self.store.put(NAMESPACE, &key(url), value, self.config.cache.keep).await {
            // A smaller memory, not a failure.
            Err(StoreError::TooLarge(why)) => {
                tracing::debug!(url = entry.url, why, "not cached");
                Ok(())
            }
            done => done,
        }
    }

    /// Removes the entry of a URL.
    pub async fn forget(&self, url: &Url) -> Result<()> {
        self.store.delete(NAMESPACE, &key(url)).await
    }

    /// Removes all entries of a host and of all below it, or (None) all there are; returns how many.
    pub async fn clear(&self, domain: Option<&str>) -> Result<u64> {
        let Some(domain) = domain else { return self.store.delete_prefix(NAMESPACE, "").await };
        let host = domain_key(&domain.to_ascii_lowercase());
        let mut removed = 0;
        for after in [")", ",", ":"] {
            removed += self.store.delete_prefix(NAMESPACE, &format!("{host}{after}")).await?;
        }
        Ok(removed)
    }

    /// Entries by host, those with the most first.
    pub async fn by_host(&self) -> Result<Vec<(String, u64)>> {
        let mut hosts = std::collections::BTreeMap::<String, u64>::new();
        for key in self.store.keys(NAMESPACE).await? {
            let host = key.rsplit_once(')').map_or(key.as_str(), |(host, _)| host);
            let host = match host.split_once(':') {
                _ if !host.contains(',') => host.to_owned(),
                Some((name, port)) => format!("{}:{port}", unreversed(name)),
                None => unreversed(host),
            };
            *hosts.entry(host).or_default() += 1;
        }
        let mut hosts: Vec<_> = hosts.into_iter().collect();
        hosts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        Ok(hosts)
    }
}

fn unreversed(host: &str) -> String {
    host.split(',').rev().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::now_ms;

    fn headers(list: &[(&str, &str)]) -> Vec<HttpHeader> {
        list.iter().map(|(n, v)| HttpHeader { name: (*n).into(), value: (*v).into() }).collect()
    }

    fn answer(status: u16, list: &[(&str, &str)]) -> Answer {
        Answer {
            status,
            at: now_ms(),
            headers: headers(list),
            content_type: "text/html".into(),
            location: None,
            retry_after: None,
            body: crate::fetch::body::Received::Small(vec![]),
            skipped: false,
            exchange: None,
            archived: None,
        }
    }

    struct Bench {
        _dir: tempfile::TempDir,
        cache: Cache,
        url: Url,
        sent: HeaderMap,
    }

    fn bench(toml: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::sqlite::SqliteStore::open(&dir.path().join("store.db")).unwrap();
        let blobs = crate::blob::folder::Folder::open(dir.path(), config::Compression::Zstd).unwrap();
        let cache = Cache::new(&toml::from_str(toml).unwrap(), Arc::new(store), Arc::new(blobs));
        let sent = HeaderMap::from_iter([(http::header::USER_AGENT, HeaderValue::from_static("a"))]);
        Bench { _dir: dir, cache, url: Url::parse("http://www.example.org/x").unwrap(), sent }
    }

    impl Bench {
        async fn keep(&self, list: &[(&str, &str)]) {
            let body = Body { inline: Some(b"body".repeat(100)), blob: None, length: 400 };
            self.cache.keep(&self.url, "t1", &self.sent, &answer(200, list), &body).await.unwrap();
        }

        /// Seconds it is fresh to another task, or the conditions it is asked with.
        async fn look(&self, task: &str) -> String {
            match self.cache.look(&self.url, task, &self.sent).await.unwrap() {
                Known::Nothing => "nothing".into(),
                Known::Fresh(_, left) => format!("{}", left.as_secs_f64().round()),
                Known::Stale(_, conditions) => {
                    let named = |(n, v): (&HeaderName, &HeaderValue)| format!("{n}: {}", v.to_str().unwrap());
                    conditions.iter().map(named).collect::<Vec<_>>().join("; ")
                }
            }
        }
    }

    #[tokio::test]
    async fn what_an_answer_says_of_its_freshness() {
        let b = bench("cache.longest = '48h'\n[hosts.'*.example.org']\nttl = '10m'");
        let long = format!("{}", 2 * 86_400);
        let date = "Thu, 01 Jan 2026 00:00:00 GMT";
        for (list, known) in [
            // It says nothing: the host's own time.
            (&[][..], "600"),
            (&[("cache-control", "public")], "600"),
            (&[("cache-control", "private, max-age=90")], "90"),
            (&[("cache-control", "max-age=90"), ("age", "30")], "60"),
            (&[("cache-control", "max-age=99999999")], long.as_str()),
            (&[("cache-control", "max-age=90"), ("age", "18446744073709551615")], "90"),
            (&[("cache-control", "max-age=99999999999999999999")], "nothing"),
            (&[("last-modified", date)], "600"),
            (&[("expires", "0")], "nothing"),
            (&[("expires", "Thu, 01 Jan 2026 00:01:30 GMT"), ("date", date)], "90"),
            // Asked for its changes each time.
            (&[("cache-control", "no-cache"), ("etag", "\"1\"")], "if-none-match: \"1\""),
            (&[("cache-control", "max-age=0"), ("last-modified", date)], &format!("if-modified-since: {date}")),
            (&[("pragma", "no-cache"), ("etag", "W/\"1\"")], "if-none-match: W/\"1\""),
            // Never kept.
            (&[("cache-control", "no-store"), ("etag", "\"1\"")], "nothing"),
            (&[("cache-control", "no-cache")], "nothing"),
            (&[("vary", "*")], "nothing"),
            (&[("vary", "accept-language"), ("cache-control", "max-age=90")], "90"),
        ] {
            b.keep(&[("cache-control", "max-age=5")]).await;
            b.keep(list).await;
            assert_eq!(b.look("t2").await, known, "{list:?}");
        }
    }

    #[tokio::test]
    async fn another_variant_is_another_answer() {
        let mut b = bench("");
        b.keep(&[("vary", "user-agent"), ("etag", "\"1\"")]).await;
        assert_eq!(b.look("t2").await, "3600");
        b.sent.insert(http::header::USER_AGENT, HeaderValue::from_static("b"));
        assert_eq!(b.look("t2").await, "nothing");
    }

    #[tokio::test]
    async fn a_task_does_not_find_its_own_entry_fresh() {
        let b = bench("");
        b.keep(&[]).await;
        assert_eq!(b.look("t2").await, "3600");
        assert_eq!(b.look("t1").await, "nothing");
        b.keep(&[("etag", "\"1\"")]).await;
        assert_eq!(b.look("t1").await, "if-none-match: \"1\"");
    }

    #[tokio::test]
    async fn a_304_renews_what_it_speaks_of() {
        let b = bench("");
        for (first, second, same) in [
            (&[("etag", "\"1\"")][..], &[("etag", "\"1\""), ("cache-control", "max-age=7")][..], true),
            (&[("etag", "W/\"1\"")], &[("etag", "W/\"1\"")], true),
            (&[("etag", "\"1\"")], &[], true),
            (&[("etag", "\"1\"")], &[("etag", "\"2\"")], false),
            (&[("etag", "\"1\"")], &[("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")], false),
            (&[("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")], &[], true),
        ] {
            b.keep(first).await;
            let entry = b.cache.get(&b.url).await.unwrap().unwrap();
            let found = b.cache.unchanged(&b.url, "t2", &b.sent, entry, &answer(304, second)).await.unwrap();
            assert_eq!(found.is_some(), same, "{first:?} {second:?}");
            if let Some((entry, body)) = found {
                assert_eq!((entry.task.as_str(), body.inline), ("t2", Some(b"body".repeat(100))));
            }
            assert_eq!(b.cache.get(&b.url).await.unwrap().is_some(), same);
        }
    }

    #[tokio::test]
    async fn entries_are_counted_and_cleared_by_domain() {
        let b = bench("");
        let body = Body { inline: Some(vec![]), blob: None, length: 0 };
        let urls = [
            "http://example.org/",
            "http://a.example.org/1",
            "http://a.example.org/2",
            "http://example.org:81/",
            "http://notexample.org/",
            "http://10.0.0.1:8080/",
            "http://[::1]:81/",
        ];
        for url in urls {
            let url = Url::parse(url).unwrap();
            b.cache.keep(&url, "t", &b.sent, &answer(200, &[]), &body).await.unwrap();
        }
        let hosts = b.cache.by_host().await.unwrap();
        assert_eq!(hosts[0], ("a.example.org".into(), 2));
        for host in ["example.org", "example.org:81", "10.0.0.1:8080", "[::1]:81"] {
            assert!(hosts.contains(&(host.into(), 1)), "{host}: {hosts:?}");
        }
        assert_eq!(b.cache.clear(Some("Example.org")).await, Ok(4));
        assert_eq!(b.cache.clear(Some("10.0.0.1")).await, Ok(1));
        assert_eq!(b.cache.clear(None).await, Ok(2));
    }
}
