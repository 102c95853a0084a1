//! The command line as typed. What it means is decided in the command's own file.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use serde_json_path::JsonPath;

use crate::telemetry::logs::Format;
use crate::topology::{self, Ladder, StageName};

/// URLs in, searchable documents out.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about, arg_required_else_help = true, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidemill demo                                   a small web with real-life faults, crawled and searched in a minute
  tidemill run urls.txt                           fetch, extract, enrich and index a file of URLs, then end
  tidemill run urls.txt -o docs.jsonl --delay 2s  the same, with a JSON line a document, one request a host every 2 s
  tidemill search 'maré OR \"high tide\" -moon'     search what was indexed
  tidemill explain https://example.org/           what became of a URL, step by step
  tidemill dlq ls --class timeout                 what failed, and why
  tidemill dlq replay --class timeout             give it another try
  tidemill top                                    how things stand, live
  tidemill tail status -f                         records of a topic, decoded, as they come

Exit codes: 0 done, 1 failed, 2 usage, 3 finished with dead letters.";

/// Flags every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file [default: tidemill.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "TIDEMILL_CONFIG", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Named pipeline of the configuration file, [pipelines.NAME], to work for [default: none]
    #[arg(long, global = true, value_name = "NAME", env = "TIDEMILL_PIPELINE", help_heading = "Global options")]
    pub pipeline: Option<String>,
    /// Folder of the log, store, index and blobs [default: tidemill-data]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub data: Option<PathBuf>,
    /// Kafka cluster to work on instead of the embedded log: host:port, several separated by commas
    #[arg(long, global = true, value_name = "HOST:PORT", help_heading = "Global options")]
    pub brokers: Option<String>,
    /// OpenSearch cluster to index into and search instead of the embedded index: URLs, separated by commas
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub opensearch: Option<String>,
    /// What is logged: error, warn, info, debug, or directives like tidemill=debug
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Global options")]
    pub log: Option<String>,
    /// How logs look on stderr
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Global options")]
    pub log_format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

impl From<LogFormat> for Format {
    fn from(f: LogFormat) -> Format {
        match f {
            LogFormat::Json => Format::Json,
            LogFormat::Text => Format::Text,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the pipeline: over a file of URLs until it is done, or for ever
    Run(Run),
    /// Crawl a small built-in web with the faults of real life
    Demo(Demo),
    /// Put URLs on the log for a running pipeline
    Submit(Submit),
    /// Send kept pages or documents through a stage once more, without a refetch
    Reprocess(Reprocess),
    /// Take one URL through all stages in memory and show each one's result
    Try(Try),
    /// Search the index
    Search(Search),
    /// What became of a URL, step by step
    Explain(Explain),
    /// Jobs, lag of each stage, dead letters
    Status(Status),
    /// Stages, partitions, failures and jobs, live
    Top(Top),
    /// The records of a topic, decoded: the newest, since a time, or as they come
    Tail(Tail),
    /// Put records on a topic: a line each, from a file or stdin
    Produce(Produce),
    /// Copy a topic to another, exactly once
    Relay(Relay),
    /// The HTTP cache: what is in it, and removing from it
    #[command(subcommand, after_help = CACHE)]
    Cache(Cache),
    /// Large bodies: how many there are, and moving old ones to the archive
    #[command(subcommand, after_help = super::blobs::EXAMPLES)]
    Blobs(super::blobs::Blobs),
    /// Dead letters: by cause and one by one, and back to work
    #[command(subcommand, after_help = super::dlq::args::EXAMPLES)]
    Dlq(super::dlq::args::Dlq),
    /// Topics: what there is, what should be, and the way there
    #[command(subcommand, after_help = TOPICS)]
    Topics(Topics),
    /// The index on OpenSearch: what should be, and the way there
    #[command(subcommand, after_help = INDEX)]
    Index(Index),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Extract pages offline: JSON lines {"id","url","file"} on stdin, JSON lines out
    Extract(Extract),
    /// What robots.txt says of URLs, and which line says so
    Robots(Robots),
    /// Print a completion script
    Completions(Completions),
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidemill robots --agent FooBot https://example.org/private/page       fetches https://example.org/robots.txt
  tidemill robots --file robots.txt --agent FooBot https://example.org/a https://example.org/b?c=d

The first line is `allowed` or `disallowed`, the next says why; of several URLs each has one line. Exit code 0 whatever the
verdict; 1 if robots.txt could not be read, which forbids everything for now (RFC 9309, section 2.3.1.4).")]
pub struct Robots {
    /// URLs to ask about
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<String>,
    /// A robots.txt ('-' for stdin) instead of the one of each URL's host
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Product token of the crawler; what follows it in a User-Agent does not matter [default: that of fetch.user_agent]
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    #[command(flatten)]
    pub reach: ReachFlags,
    /// A JSON object a URL
    #[arg(long)]
    pub json: bool,
}

/// What may be reached, and where.
#[derive(Debug, Clone, Args)]
pub struct ReachFlags {
    /// Fetch from this private or special network too (repeatable)
    #[arg(long = "allow-address", value_name = "CIDR", value_parser = network)]
    pub allow_addresses: Vec<IpNet>,
    /// Address of a host name instead of DNS: HOST=IP, *.HOST=IP for all below it (repeatable)
    #[arg(long, value_name = "HOST=IP", value_parser = host_address)]
    pub resolve: Vec<(String, IpAddr)>,
}

/// How pages are fetched.
#[derive(Debug, Clone, Args)]
pub struct FetchFlags {
    /// Shortest time between two requests to one host, such as 500ms or 2s; 0s for none [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub delay: Option<Duration>,
    #[command(flatten)]
    pub reach: ReachFlags,
    /// User-Agent; its first word is what robots.txt is asked for
    #[arg(long, value_name = "TEXT")]
    pub user_agent: Option<String>,
    /// Do not ask robots.txt (for your own sites)
    #[arg(long)]
    pub no_robots: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidemill run urls.txt                    until every URL has its outcome; run it again after a crash and it goes on
  tidemill run urls.txt -o docs.jsonl
  tidemill run                             stay up and work on what is submitted
  tidemill run --stages fetch,extract      only these stages, here; others may run elsewhere on the same folder")]
pub struct Run {
    /// File with one URL a line ('-' for stdin, '#' starts a comment); without it the pipeline stays up
    pub urls: Option<PathBuf>,
    /// Stages to run here
    #[arg(long, value_name = "STAGES", value_delimiter = ',', value_parser = stage)]
    pub stages: Vec<StageName>,
    /// Write a JSON line a document to this file too
    #[arg(short, long, value_name = "FILE.jsonl")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub fetch: FetchFlags,
    /// Delays between attempts: quick (2, 4, 8 s), standard (10 s to 1 h), patient (1 to 8 m) [default: quick with a
    /// file, else standard]
    #[arg(long, value_parser = ladder)]
    pub ladder: Option<Ladder>,
    /// Answer /metrics, /health and /ready here [default: 127.0.0.1:9464 without a file, else nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Fetch URLs anew that were fetched before and are still fresh
    #[arg(long)]
    pub force: bool,
    /// Start a new job even if this file's last one was cut short
    #[arg(long)]
    pub fresh: bool,
    /// No line for each URL, only progress and the report
    #[arg(short, long)]
    pub quiet: bool,
    /// The report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Keep the data folder of the demo here [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// The table of URLs and the report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum, Default)]
pub enum Lane {
    High,
    #[default]
    Normal,
    Bulk,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidemill submit https://example.org/
  tidemill submit --file urls.txt --lane bulk")]
pub struct Submit {
    /// URLs
    pub urls: Vec<String>,
    /// File with one URL a line; '-' for stdin
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Which lane: high, normal and bulk are admitted 8:4:1
    #[arg(long, value_enum, default_value_t)]
    pub lane: Lane,
    /// Fetch URLs anew that were fetched before and are still fresh
    #[arg(long)]
    pub force: bool,
    /// The job as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Try {
    /// URL
    pub url: String,
    #[command(flatten)]
    pub fetch: FetchFlags,
    /// Each stage's result as JSON
    #[arg(long)]
    pub json: bool,
}

const SEARCH: &str = "\
Query language:
  two words, \"a phrase\", begin*           all of them, in title, description or text; accents and case do not matter
  red OR green                             one of them
  title:tide, author:\"Ana Sá\", url:news    in one field
  site:example.org, lang:pt                a host and those below it; a language
  date:2024, date:2023..2024-05            published then; after:2024-05 and before:2025 likewise
  -word, -title:tide, -site:example.org    without it

Examples:
  tidemill search 'maré OR \"high tide\" -moon lang:pt'
  tidemill search site:example.org after:2026 --facets       what a site published this year, and of what kind it is
  tidemill search tide -n 100 --json | jq -r '.hits[].url'";

#[derive(Debug, Clone, Args)]
#[command(after_help = SEARCH)]
pub struct Search {
    /// Query
    #[arg(required = true)]
    pub query: Vec<String>,
    /// Only this host
    #[arg(long)]
    pub site: Option<String>,
    /// Only this language (ISO 639-1)
    #[arg(long)]
    pub lang: Option<String>,
    /// Hits to show
    #[arg(short = 'n', long, default_value_t = 10)]
    pub limit: usize,
    /// Hits to skip
    #[arg(long, default_value_t = 0)]
    pub offset: usize,
    /// Count what matches by host, language and year of publication too: so many values of each
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10", default_value_t = 0, hide_default_value = true)]
    pub facets: usize,
    /// Hits as JSON
    #[arg(long)]
    pub json: bool,
}

const CACHE: &str = "\
Examples:
  tidemill cache stats                          entries by host
  tidemill cache get https://example.org/       when it was fetched, until when it is fresh
  tidemill cache delete https://example.org/    the next task for it fetches it
  tidemill cache clear --domain example.org     the same for the host and all below it";

/// The HTTP cache.
#[derive(Debug, Clone, Subcommand)]
pub enum Cache {
    /// Entries by host
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What is known of a URL
    Get {
        /// URL
        url: String,
        /// The body alone, as it was decoded
        #[arg(long, conflicts_with = "json")]
        body: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a URL
    Delete {
        /// URL
        url: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a domain: the host and all below it
    Clear {
        /// Host name
        #[arg(long, value_name = "DOMAIN", required_unless_present = "all")]
        domain: Option<String>,
        /// Everything
        #[arg(long, conflicts_with = "domain")]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// URL
    pub url: String,
    /// Events as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Status {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Keys: arrows, j and k select a stage or scroll, Tab goes to the next pane, p pauses, ? explains, q and Esc quit.

Examples:
  tidemill top                         beside `tidemill run`, on the same folder or cluster
  tidemill top --once                  one look, as plain tables; so it is when stdout is no terminal
  tidemill top --json | jq '.stages[] | {stage, lag, dead_letters}'")]
pub struct Top {
    /// Time between two looks
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub every: Duration,
    /// Print one look and end (two, a time apart, for the rates)
    #[arg(long)]
    pub once: bool,
    /// The same as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Where a tail starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// At what the log still has.
    Start,
    /// At what comes from now on.
    End,
    /// Unix ms.
    Time(i64),
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidemill tail status -f                             what becomes of each URL, as it happens
  tidemill tail fetch.dlq -n 50 --grep timeout        the newest 50 letters that say timeout
  tidemill tail enriched --from '10m ago' --json      a JSON line a record, with everything
  tidemill tail status --from start --json | jq .value.class    for other programs")]
pub struct Tail {
    /// Topic, with the prefix or without
    #[arg(value_parser = TopicParser)]
    pub topic: String,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// So many: the newest that the filters let through [default: 10]; with --from, the first from there
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,
    /// Where to start: start, end, a time such as '10m ago' or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub from: Option<Since>,
    /// Only this partition
    #[arg(long, value_name = "NUMBER")]
    pub partition: Option<i32>,
    #[command(flatten)]
    pub which: RecordFlags,
    /// A JSON object a line, with everything
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidemill reprocess --from extract --host example.org --dry-run   how many kept pages of a host there are
  tidemill reprocess --from extract --host example.org             extract them once more: new rules, no refetch
  tidemill reprocess --from enrich --since '6h ago' --rate 100     documents of the last six hours, 100 a second
  tidemill reprocess --from index --all                            all that is kept into the index once more
  tidemill status                                                  how the job fares

The index takes the newer result of the same fetch; what was fetched later stays. Records are kept as long as their topics
keep them: pages for a day, documents for three, enriched ones for seven.")]
pub struct Reprocess {
    /// The stage that works on them again, and those after it: extract, enrich or index
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    pub from: StageName,
    #[command(flatten)]
    pub which: RecordFlags,
    /// Only those written then or later: '2h ago' or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<i64>,
    /// Only those written before
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<i64>,
    /// All that is kept
    #[arg(long)]
    pub all: bool,
    /// Say how many would be sent, and send none
    #[arg(long)]
    pub dry_run: bool,
    /// Records a second, at most
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    pub rate: Option<f64>,
    /// Name of the job; under that of one that was cut short, it goes on [default: a new one]
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    #[arg(long)]
    pub json: bool,
}

/// Which records.
#[derive(Debug, Clone, Default, Args)]
pub struct RecordFlags {
    /// Only records with this key
    #[arg(long)]
    pub key: Option<String>,
    /// Only records of this job
    #[arg(long)]
    pub job: Option<String>,
    /// Only records of this task
    #[arg(long)]
    pub task: Option<String>,
    /// Only records whose URL has this in it
    #[arg(long, value_name = "TEXT")]
    pub url: Option<String>,
    /// Only records of this host
    #[arg(long)]
    pub host: Option<String>,
    /// Only records whose decoded value has something there: a JSONPath such as '$.attrs.source'
    #[arg(long, value_name = "JSONPATH", value_parser = json_path)]
    pub path: Option<JsonPath>,
    /// Only records with this header (repeatable)
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Only records whose decoded value has this in it: a text or a regular expression
    #[arg(long, value_name = "PATTERN")]
    pub grep: Option<String>,
}

impl RecordFlags {
    /// Whether every record is meant.
    pub fn is_everything(&self) -> bool {
        self.spelled().is_empty()
    }

    /// As flags.
    pub fn spelled(&self) -> String {
        let RecordFlags { key, job, task, url, host, path, headers, grep } = self;
        let mut all: Vec<(&str, String)> = vec![];
        let path = path.as_ref().map(ToString::to_string);
        for (name, value) in
            [("key", key), ("job", job), ("task", task), ("url", url), ("host", host), ("path", &path), ("grep", grep)]
        {
            all.extend(value.iter().map(|v| (name, v.clone())));
        }
        all.extend(headers.iter().map(|(n, v)| ("header", format!("{n}={v}"))));
        all.into_iter().map(|(name, value)| format!(" --{name} {value}")).collect()
    }
}

/// What becomes of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rekey {
    Keep,
    None,
    Host,
    Header(String),
    Field(String),
}

fn rekey(text: &str) -> Result<Rekey, String> {
    match text.split_once(':') {
        None if text == "keep" => Ok(Rekey::Keep),
        None if text == "none" => Ok(Rekey::None),
        None if text == "host" => Ok(Rekey::Host),
        Some(("header", name)) => Ok(Rekey::Header(name.to_owned())),
        Some(("field", name)) => Ok(Rekey::Field(name.to_owned())),
        _ => Err(format!("{text:?} is no key; write keep, none, host, header:NAME or field:NAME")),
    }
}

/// A share of records and what they take longer: `1%:500ms`.
fn slow(text: &str) -> Result<(f64, Duration), String> {
    let bad = || format!("{text:?} is not like 1%:500ms");
    let (share, time) = text.split_once(':').ok_or_else(bad)?;
    let share: f64 = share.trim_end_matches('%').parse().map_err(|_| bad())?;
    if !(0.0..=100.0).contains(&share) {
        return Err(bad());
    }
    Ok((share / 100.0, duration(time)?))
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Each record is copied exactly once, whatever is killed in between: the copy and the place it was read from commit
together. Run it again, or several of it, with the same --group, and it goes on.

Examples:
  tidemill relay --from enriched --to team-b.documents --url example.org
  tidemill relay --from raw-urls --to urls --rekey host         any client's keyless URLs, under their hosts
  tidemill relay --from fetch.dlq --to incident-42 --grep tls --until-end")]
pub struct Relay {
    /// Topic to read: one of ours with or without the prefix, else the full name
    #[arg(long, value_name = "TOPIC")]
    pub from: String,
    /// Topic to write
    #[arg(long, value_name = "TOPIC")]
    pub to: String,
    /// Consumer group, which remembers how far it is [default: relay.FROM.TO under the prefix]
    #[arg(long)]
    pub group: Option<String>,
    /// Key of the copies: keep, none, host (of the URL), header:NAME, field:NAME (of the decoded value)
    #[arg(long, value_name = "KEY", value_parser = rekey, default_value = "keep")]
    pub rekey: Rekey,
    #[command(flatten)]
    pub which: RecordFlags,
    /// End when all that was there at the start is copied
    #[arg(long)]
    pub until_end: bool,
    /// A status event for each record too, as stages write them
    #[arg(long)]
    pub status: bool,
    /// For tests: each record takes so long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0ms", hide_default_value = true)]
    pub work: Duration,
    /// For tests: a share of the records takes so much longer, such as 1%:500ms
    #[arg(long, value_name = "SHARE:TIME", value_parser = slow)]
    pub slow: Option<(f64, Duration)>,
    /// Records in progress at once
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub in_flight: usize,
    /// Answer /metrics, /health and /ready here
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Without --json a line is a value. On urls, urls.high and urls.bulk it is a URL or a JSON task, its key is its host, and
'#' starts a comment. Empty lines are passed over.

With --json a line is an object as `tail --json` prints it:
  key           text, or null for none; without it, none, or the host
  key_base64    instead, for a key that is no text
  value         text; or an object or array, written as it stands
  value_base64  instead, for what value does not give back byte for byte: delete it when you change value
  headers       {\"name\": \"value\"}; [[\"name\", \"value\"]] when a name comes twice; {\"base64\": …} for no text
  topic, partition, offset and timestamp are passed over

Examples:
  tidemill produce urls.bulk urls.txt
  echo '{\"url\": \"https://example.org/\", \"attrs\": {\"k\": \"v\"}}' | tidemill produce urls
  tidemill tail urls --from start --json | tidemill produce urls.bulk --json     a copy, byte for byte")]
pub struct Produce {
    /// Topic, with the prefix or without
    #[arg(value_parser = TopicParser)]
    pub topic: String,
    /// File of lines; '-' or nothing for stdin
    pub file: Option<PathBuf>,
    /// What stands between a key and its value in a line, such as '\t'
    #[arg(long, value_name = "TEXT", value_parser = separator, conflicts_with_all = ["key", "json"])]
    pub key_separator: Option<String>,
    /// Key of every record
    #[arg(long)]
    pub key: Option<String>,
    /// Header of every record (repeatable)
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// All to this partition [default: by key, as Kafka's Java client does]
    #[arg(long, value_name = "NUMBER")]
    pub partition: Option<i32>,
    /// Lines are JSON objects with key, value and headers
    #[arg(long)]
    pub json: bool,
    /// Leave out lines that cannot be records, instead of stopping at the first
    #[arg(long)]
    pub skip_bad: bool,
}

const TOPICS: &str = "\
Examples:
  tidemill topics ls                        partitions, replicas and settings as they are
  tidemill topics plan                      what differs from what should be; 1 if something of it is refused
  tidemill topics apply --yes               create, grow and set without asking; does nothing the second time
  tidemill topics plan --partitions 24      what it takes to spread each stage over more members";

/// What topics should be.
#[derive(Debug, Clone, Args, Default)]
pub struct TopicFlags {
    /// Partitions of what each stage reads and of its dead letters, and of topics that are made; they can only grow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub partitions: Option<u32>,
    /// Shorten retention where it is longer than it should be; the records beyond are deleted
    #[arg(long)]
    pub allow_shorter_retention: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Topics {
    /// List them as they are
    Ls {
        #[arg(long)]
        json: bool,
    },
    /// Say what would be created, grown and set, and what is refused; do nothing
    Plan {
        #[command(flatten)]
        wish: TopicFlags,
        #[arg(long)]
        json: bool,
    },
    /// Do what the plan says, and look whether it is done
    Apply {
        #[command(flatten)]
        wish: TopicFlags,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// What is done, refused and left as JSON; needs --yes
        #[arg(long, requires = "yes")]
        json: bool,
    },
}

const INDEX: &str = "\
Examples:
  tidemill index plan --opensearch http://localhost:9200     what is missing or differs; 1 if something of it is refused
  tidemill index apply --yes                                 create and extend without asking; does nothing the second time
  tidemill index reindex                                     into a new index, while work goes on; then the alias moves
  tidemill index delete https://example.org/page             take a page out, and keep older versions of it out
  tidemill index delete --host example.org --dry-run         how many documents a host has, and some of them";

#[derive(Debug, Clone, Subcommand)]
pub enum Index {
    /// Say what would be created and extended, and what is refused; do nothing
    Plan {
        #[arg(long)]
        json: bool,
    },
    /// Do what the plan says, and look whether it is done
    Apply {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// What is done, refused and left as JSON; needs --yes
        #[arg(long, requires = "yes")]
        json: bool,
    },
    /// Copy an OpenSearch index into a new one, as the template says today, and move the alias to it; work goes on meanwhile
    Reindex {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Delete the old index at the end
        #[arg(long)]
        delete_old: bool,
        /// Also when the index is as the template says already
        #[arg(long)]
        force: bool,
        #[arg(long, requires = "yes")]
        json: bool,
    },
    /// Take pages out of the index, and keep what is older than now of them out
    Delete(IndexDelete),
}

/// What is taken out of the index.
#[derive(Debug, Clone, Args)]
pub struct IndexDelete {
    /// Pages, by the URL that was asked for or that answered
    #[arg(value_name = "URL", required_unless_present = "host")]
    pub urls: Vec<String>,
    /// All pages of a host and of those below it (repeatable)
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Say what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is valid, with all its pipelines
    Check,
    /// Print what is in force, as TOML
    Show {
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Extract {
    /// Folder that relative file names start from [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// Shell
    pub shell: clap_complete::Shell,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string());
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| format!("{text:?} is no time; write 500ms, 2s or 1m"))
}

/// A time, or a length of time before now.
pub(super) fn since(text: &str) -> Result<Since, String> {
    match text {
        "start" => return Ok(Since::Start),
        "end" => return Ok(Since::End),
        _ => {}
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Since::Time(time.as_millisecond()));
    }
    // "10m" and "10m ago" mean the same: a start lies behind.
    let ago = text.parse::<jiff::SignedDuration>().ok().map(jiff::SignedDuration::abs);
    let time = ago.and_then(|ago| jiff::Timestamp::now().checked_sub(ago).ok());
    time.map(|t| Since::Time(t.as_millisecond()))
        .ok_or_else(|| format!("{text:?} is no time; write start, end, '10m ago' or 2026-01-31T12:00:00Z"))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A time, or a length of time before now, as Unix ms.
pub(super) fn moment(text: &str) -> Result<i64, String> {
    match since(text) {
        Ok(Since::Time(time)) => Ok(time),
        _ => Err(format!("{text:?} is no time; write '10m ago' or 2026-01-31T12:00:00Z")),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.001 => Ok(n),
        _ => Err(format!("{text:?} is no rate; write records a second, such as 50 or 0.5")),
    }
}

pub(super) fn json_path(text: &str) -> Result<JsonPath, String> {
    JsonPath::parse(text).map_err(|e| format!("{text:?} is no JSONPath (RFC 9535), such as '$.attrs.source': {e}"))
}

fn separator(text: &str) -> Result<String, String> {
    match text {
        "" => Err("an empty separator separates nothing; write '\\t' or ':'".into()),
        "\\t" | "TAB" => Ok("\t".into()),
        other => Ok(other.into()),
    }
}

/// A topic's name: any text here, because the prefix is configured; the names without it for help and completion.
#[derive(Debug, Clone, Copy)]
struct TopicParser;

impl TypedValueParser for TopicParser {
    type Value = String;

    fn parse_ref(&self, cmd: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(cmd, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(topology::topics().into_iter().map(|t| PossibleValue::new(t.name))))
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is no network; write 10.0.0.0/8, 127.0.0.1 or fd00::/8"))
}

fn host_address(text: &str) -> Result<(String, IpAddr), String> {
    let say = || format!("{text:?} is not HOST=IP, such as shop.test=127.0.0.1");
    let (host, address) = text.split_once('=').ok_or_else(say)?;
    Ok((host.to_owned(), address.parse().map_err(|_| say())?))
}

pub(super) fn stage(text: &str) -> Result<StageName, String> {
    text.parse()
}

fn ladder(text: &str) -> Result<Ladder, String> {
    [Ladder::Quick, Ladder::Standard, Ladder::Patient]
        .into_iter()
        .find(|l| l.as_str() == text)
        .ok_or_else(|| format!("{text:?} is no ladder; write quick, standard or patient"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_read_generously_and_refused_with_the_fix() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("soon").unwrap_err().contains("500ms"));
        assert_eq!(network("127.0.0.1").unwrap().prefix_len(), 32);
        assert!(host_address("a").unwrap_err().contains("HOST=IP"));
        assert_eq!(since("start"), Ok(Since::Start));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::Time(1_000)));
        assert_eq!(since("1970-01-01T01:00:01+01:00"), Ok(Since::Time(1_000)));
        for ago in ["10m ago", "10m", "10 minutes ago", "PT10M"] {
            let Ok(Since::Time(ms)) = since(ago) else { panic!("{ago}") };
            assert!((599_000..660_000).contains(&(crate::record::now_ms() - ms)), "{ago}");
        }
        for wrong in ["yesterday", "", "12:00", "999999999y"] {
            assert!(since(wrong).unwrap_err().contains("10m ago"), "{wrong}");
        }
        assert!(header("a").unwrap_err().contains("NAME=VALUE"));
        assert_eq!((separator("\\t"), separator("::")), (Ok("\t".into()), Ok("::".into())));
        assert!(separator("").is_err());
        assert_eq!(header("a=b=c"), Ok(("a".into(), "b=c".into())));
    }
}
