//! What can be set: a TOML file, then the table of the pipeline that is picked, then `TIDEMILL_*` in the environment, then
//! flags. Plain data; unknown keys are errors.
//!
//! `TIDEMILL_FETCH__DELAY=2s` sets `fetch.delay`: two underscores stand for the dot. `tidemill config show` prints what
//! is in force.

mod hosts;
mod inputs;
mod kafka;
mod load;
mod opensearch;
mod secret;
mod stores;
mod warc;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use crate::telemetry::logs::Format;
use crate::topology::{Ladder, StageName};

pub use hosts::{BreakerRule, Conduct, HostBreaker, HostRule};
pub use inputs::Input;
pub use kafka::{GroupProtocol, Kafka, Settings};
pub use load::{ConfigError, Flags, Loaded, load};
pub use opensearch::OpenSearch;
pub use secret::{Secret, SecretUrl};
pub use stores::{Archive, Blob, Breaker, Compression, S3, Store};
pub use warc::{Digest, Warc};

/// Everything. The default is what runs without a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the embedded log, store, index and blobs.
    pub data: PathBuf,
    /// Prefix of all topic and group names.
    pub prefix: String,
    /// Where /metrics, /health and /ready answer; empty for nowhere.
    pub listen: Option<SocketAddr>,
    pub log: Log,
    pub kafka: Kafka,
    pub opensearch: OpenSearch,
    pub engine: Engine,
    pub fetch: Fetch,
    pub warc: Warc,
    pub extract: Extract,
    pub blob: Blob,
    pub store: Store,
    pub index: Index,
    pub s3: S3,
    pub registry: Registry,
}

/// Logs, on stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `info`, or directives such as `tidemill=debug,warn`.
    pub filter: String,
    /// auto (JSON unless stderr is a terminal), json, text.
    pub format: Format,
}

/// How records are worked off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// quick (2, 4, 8 s), standard (10 s, 1 m, 10 m, 1 h) or patient (1, 2, 4, 8 m).
    pub ladder: Ladder,
    /// Records a stage admits before they are committed, by stage; a stage that is not named keeps its default.
    #[serde(deserialize_with = "in_flight")]
    pub in_flight: BTreeMap<StageName, usize>,
    /// Bytes of these records a stage may hold.
    pub in_flight_bytes: ByteSize,
    /// Longest time of a record in a handler.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub deadline: Duration,
    /// Shortest time between two commits of a stage; not set: 20 ms on the embedded log, 100 ms on Kafka.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub commit_interval: Option<Duration>,
    /// How long a stop waits for what is running.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub grace: Duration,
    /// Time between two looks at what waits, for the metrics; 100 ms at least.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub lag_interval: Duration,
}

/// Fetching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fetch {
    /// Product token and contact, sent as User-Agent; its first word is what robots.txt is asked for.
    pub user_agent: String,
    /// Shortest time between two requests to one host; 0 for none.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub delay: Duration,
    /// Longest Crawl-delay or backing off that is respected as it is; a longer one counts as this.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_delay: Duration,
    /// Requests to one host at once; 0 for no limit.
    pub concurrency_per_host: usize,
    /// Whether robots.txt is asked.
    pub robots: bool,
    /// When a host that keeps failing is left alone.
    pub breaker: HostBreaker,
    /// What holds for single hosts: `[fetch.hosts."example.org"]`, or `"*.example.org"` for all below a name, with
    /// `delay`, `concurrency`, `robots`, `ttl` (as `cache.ttl`), `breaker.failures`, `breaker.timeouts`, `breaker.reset`.
    #[serde(deserialize_with = "hosts::hosts")]
    pub hosts: BTreeMap<String, HostRule>,
    /// What need not be fetched again.
    pub cache: HttpCache,
    /// Time to connect.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub connect_timeout: Duration,
    /// Longest silence: to the first byte and between bytes.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub read_timeout: Duration,
    /// Least bytes of body a second, once a body takes longer than `read_timeout`; 0: any pace will do until `timeout`.
    pub min_rate: ByteSize,
    /// Time of a request in all.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// Longest Retry-After that is waited for; a longer one fails the attempt as a dead letter.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_retry_after: Duration,
    /// Body as received.
    pub max_body_bytes: ByteSize,
    /// Body without content coding, whether it had one or not.
    pub max_decoded_bytes: ByteSize,
    /// Most times its size that a body may decode to, from 1 MiB on.
    pub max_ratio: u32,
    /// Headers of an answer, names and values; over HTTP/1.1 the client itself takes no more than 400 KB and 100 of them.
    pub max_header_bytes: ByteSize,
    /// Redirects followed for one URL.
    pub max_redirects: usize,
    /// Schemes that may be fetched: http, https or both.
    #[serde(deserialize_with = "schemes")]
    pub schemes: Vec<Scheme>,
    /// Ports that may be fetched; empty for all but those of other protocols, which are never.
    pub ports: Vec<u16>,
    /// PEM file of certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Private and special addresses that may be fetched, as CIDR.
    pub allow_addresses: Vec<IpNet>,
    /// Folders (`/data/in`) and S3 places (`s3://bucket/prefix`) whose `file://` and `s3://` URLs may be read; none unless
    /// named here.
    pub allow_inputs: Vec<Input>,
    /// Addresses of host names, instead of DNS: `"shop.test" = "127.0.0.1"`, or `"*.demo.test"` for all below a name.
    pub resolve: BTreeMap<String, IpAddr>,
}

/// A scheme of the web.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

fn schemes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Scheme>, D::Error> {
    let schemes = Vec::deserialize(deserializer)?;
    if schemes.is_empty() {
        return Err(serde::de::Error::custom("without a scheme nothing can be fetched: name http, https or both"));
    }
    Ok(schemes)
}

/// The HTTP cache (RFC 9111), in the store and the blobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpCache {
    /// Off: everything is fetched, and nothing is remembered.
    pub enabled: bool,
    /// How long an answer is fresh that says nothing of it.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub ttl: Duration,
    /// Longest that an answer is believed to be fresh, whatever it says.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub longest: Duration,
    /// How long an answer is kept, to ask for its changes only.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub keep: Duration,
}

/// Extraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extract {
    /// Threads that parse; 0 for one a core.
    pub threads: usize,
    /// Longest time for one document.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub deadline: Duration,
    /// Documents are cut off here before they are parsed.
    pub max_bytes: ByteSize,
}

/// The index, whichever it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Index {
    /// How long the tombstone of a page that is gone keeps older versions out; longer than anything of it may still be on
    /// its way: retries, retained topics, replays of dead letters.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub keep_tombstones: Duration,
}

/// The schema registry that gives the topics' values their ids (Confluent wire format).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Root of its Confluent API; empty for none: then values are in Avro single-object encoding. Apicurio's is
    /// `http://HOST:8080/apis/ccompat/v7`.
    #[serde(deserialize_with = "http_url")]
    pub url: String,
    /// `user:password`; empty for none.
    pub basic_auth: Secret,
    /// Longest time of one request.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// How long a start waits for a registry that is away.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub wait: Duration,
    /// Registers the schemas at start; else they must be there.
    pub auto_register: bool,
}

/// An http or https URL that holds no secret, or nothing.
fn http_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let good = text.is_empty()
        || url::Url::parse(&text).is_ok_and(|u| {
            matches!(u.scheme(), "http" | "https") && u.has_host() && u.username().is_empty() && u.password().is_none()
        });
    if good {
        return Ok(text);
    }
    Err(serde::de::Error::custom("not an http or https URL (user and password go into basic_auth)"))
}

fn in_flight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<StageName, usize>, D::Error> {
    let mut all = Engine::default().in_flight;
    all.extend(BTreeMap::<StageName, usize>::deserialize(deserializer)?);
    Ok(all)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data: PathBuf::from("tidemill-data"),
            prefix: "tidemill.".into(),
            listen: None,
            log: Log::default(),
            kafka: Kafka::default(),
            opensearch: OpenSearch::default(),
            engine: Engine::default(),
            fetch: Fetch::default(),
            warc: Warc::default(),
            extract: Extract::default(),
            blob: Blob::default(),
            store: Store::default(),
            index: Index::default(),
            s3: S3::default(),
            registry: Registry::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".into(), format: Format::Auto }
    }
}

impl Default for Engine {
    fn default() -> Self {
        use StageName as S;
        Engine {
            ladder: Ladder::Standard,
            in_flight: [(S::Fetch, 256), (S::Extract, 32), (S::Enrich, 64), (S::Index, 256)].into(),
            in_flight_bytes: ByteSize::mib(32),
            deadline: secs(120),
            commit_interval: None,
            grace: secs(20),
            lag_interval: secs(5),
        }
    }
}

impl Default for Fetch {
    fn default() -> Self {
        Fetch {
            user_agent: concat!("Tidemill/", env!("CARGO_PKG_VERSION")).into(),
            delay: secs(1),
            max_delay: secs(60),
            concurrency_per_host: 0,
            robots: true,
            breaker: HostBreaker::default(),
            hosts: BTreeMap::new(),
            cache: HttpCache::default(),
            connect_timeout: secs(10),
            read_timeout: secs(20),
            min_rate: ByteSize::b(256),
            timeout: secs(60),
            max_retry_after: secs(3600),
            max_body_bytes: ByteSize::mib(16),
            max_decoded_bytes: ByteSize::mib(32),
            max_ratio: 200,
            max_header_bytes: ByteSize::kib(256),
            max_redirects: 10,
            schemes: vec![Scheme::Http, Scheme::Https],
            ports: vec![],
            ca_file: None,
            allow_addresses: vec![],
            allow_inputs: vec![],
            resolve: BTreeMap::new(),
        }
    }
}

impl Default for HttpCache {
    fn default() -> Self {
        HttpCache { enabled: true, ttl: secs(3600), longest: secs(7 * 86_400), keep: secs(7 * 86_400) }
    }
}

impl Default for Extract {
    fn default() -> Self {
        Extract { threads: 0, deadline: secs(20), max_bytes: ByteSize::mib(10) }
    }
}

impl Default for Index {
    fn default() -> Self {
        Index { keep_tombstones: secs(40 * 86_400) }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            url: String::new(),
            basic_auth: Secret::default(),
            timeout: secs(5),
            wait: secs(30),
            auto_register: true,
        }
    }
}

impl Extract {
    /// Threads that parse.
    pub fn threads(&self) -> usize {
        if self.threads > 0 { self.threads } else { std::thread::available_parallelism().map_or(2, usize::from) }
    }

    /// Longest document, in bytes.
    pub fn max_bytes(&self) -> usize {
        usize::try_from(self.max_bytes.as_u64()).unwrap_or(usize::MAX)
    }
}

impl Config {
    /// Records a stage admits.
    pub fn in_flight(&self, stage: StageName) -> usize {
        self.engine.in_flight.get(&stage).copied().unwrap_or(64).max(1)
    }

    /// Longest time of a record in a stage's handler. Where documents go to OpenSearch, the longest it may take to say that
    /// it cannot now is longer than any other stage's work.
    pub fn deadline(&self, stage: StageName) -> Duration {
        let usual = self.engine.deadline;
        let index = self.opensearch.timeout + self.opensearch.patience + secs(10);
        if stage == StageName::Index && self.opensearch.is_set() { usual.max(index) } else { usual }
    }

    /// Shortest time between two commits of a stage. A transaction on Kafka costs several round trips and a marker in
    /// each partition it wrote to; on the embedded log it is one write.
    pub fn commit_interval(&self) -> Duration {
        let usual = if self.kafka.brokers.is_empty() { 20 } else { 100 };
        self.engine.commit_interval.unwrap_or(Duration::from_millis(usual))
    }

    /// Time between two looks at what waits.
    pub fn lag_interval(&self) -> Duration {
        self.engine.lag_interval.max(Duration::from_millis(100))
    }

    /// The log's file.
    pub fn log_file(&self) -> PathBuf {
        self.data.join("log.db")
    }

    /// The store's file.
    pub fn store_file(&self) -> PathBuf {
        self.data.join("store.db")
    }

    /// The index's file.
    pub fn index_file(&self) -> PathBuf {
        self.data.join("index.db")
    }

    /// The folder of the schema registry's ids.
    pub fn schema_dir(&self) -> PathBuf {
        self.data.join("schemas")
    }

    /// The folder of blobs, and of those on their way to S3.
    pub fn blob_dir(&self) -> PathBuf {
        self.data.join("blobs")
    }
}
