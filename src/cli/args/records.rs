//! Commands about records on topics.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json_path::JsonPath;

use super::values::{TopicParser, duration, header, json_path, moment, rate, separator, since, stage};
use crate::topology::StageName;

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
