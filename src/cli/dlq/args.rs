//! What `dlq` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json_path::JsonPath;

use crate::cli::args::{duration, json_path, moment, rate, stage};
use crate::dlq::{By, Edit, PARK_AFTER, To};
use crate::record::FailureClass;
use crate::topology::StageName;

/// Which dead letters.
#[derive(Debug, Clone, Args, Default)]
pub struct LetterFlags {
    /// Ids, as `dlq ls` shows them
    pub ids: Vec<String>,
    /// Of this topic instead, whoever writes its letters: Spring Kafka, Kafka Connect, Kafka Streams, anyone (repeatable)
    #[arg(long = "topic", value_name = "TOPIC", conflicts_with = "stage")]
    pub topics: Vec<String>,
    /// Only this stage's
    #[arg(long, value_parser = stage)]
    pub stage: Option<StageName>,
    /// Only this failure class, or this exception: IllegalStateException
    #[arg(long, value_parser = class)]
    pub class: Option<String>,
    /// Only this host
    #[arg(long)]
    pub host: Option<String>,
    /// Only this cause, as `dlq stats` shows it
    #[arg(long)]
    pub fingerprint: Option<String>,
    /// Only those written then or later: '2h ago' or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<i64>,
    /// Only those written before
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<i64>,
    /// Only those given up after so many attempts: 3, 2.. or 2..4
    #[arg(long, value_name = "NUMBERS", value_parser = attempts)]
    pub attempts: Option<Attempts>,
    /// Only those with this header, whatever it says or with this value (repeatable)
    #[arg(long = "header", value_name = "NAME[=VALUE]", value_parser = letter_header)]
    pub headers: Vec<(String, Option<String>)>,
    /// Only those whose message or decoded value has this in it: a text or a regular expression
    #[arg(long, value_name = "PATTERN")]
    pub grep: Option<String>,
    /// Only those whose decoded value has something there: a JSONPath such as '$.attrs.source' or '$[?@.status>=500]'
    #[arg(long, value_name = "JSONPATH", value_parser = json_path)]
    pub path: Option<JsonPath>,
}

/// How many attempts, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    pub fewest: Option<u32>,
    pub most: Option<u32>,
}

/// Of `dlq`.
pub const EXAMPLES: &str = "\
Examples:
  tidemill dlq stats                              what fails, the most frequent cause first
  tidemill dlq stats --by host --since '2h ago'   by host, of the last two hours
  tidemill dlq ls --fingerprint 6c1f0b8a52e7d934  letters of one cause
  tidemill dlq ls --path '$.attrs.source' -n 5    whose record has that field
  tidemill dlq show fetch.dlq/3/17                one letter, its failure, its way through the stages
  tidemill dlq replay --class timeout --dry-run   how many would be put back, and where to
  tidemill dlq replay --class timeout --sample 20 the rest only if 18 of 20 succeed
  tidemill dlq replay --class parse --to extract  the page once more, from the bytes that are kept
  tidemill dlq replay fetch.dlq/3/17 --edit '{\"value\":{\"maxdepth\":1}}'    changed on the way
  tidemill dlq runs                               what became of them
  tidemill dlq stats --topic orders-dlt           what Spring Kafka, Kafka Connect or Kafka Streams gave up
  tidemill dlq purge --class unsupported-type     how many would be thrown away; with --yes they are
  tidemill dlq export --class tls > tls.jsonl     keep them for longer than the log does; `dlq import` puts them back there";

#[derive(Debug, Clone, Subcommand)]
pub enum Dlq {
    /// Count dead letters by what they have in common
    Stats {
        #[command(flatten)]
        which: LetterFlags,
        /// In common: any of stage, class, host, fingerprint
        #[arg(long, value_delimiter = ',', default_value = "stage,class,fingerprint")]
        by: Vec<By>,
        /// Groups to show, the largest first
        #[arg(short = 'n', long, default_value_t = 50)]
        limit: usize,
        /// Replayed ones too
        #[arg(long)]
        all: bool,
        #[arg(long)]
        json: bool,
    },
    /// List dead letters
    Ls {
        #[command(flatten)]
        which: LetterFlags,
        /// Letters to show
        #[arg(short = 'n', long, default_value_t = 50)]
        limit: usize,
        /// Replayed ones too
        #[arg(long)]
        all: bool,
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter: the record as it was, its failure, its history
    Show {
        /// Id, as `dlq ls` shows it
        id: String,
        #[arg(long)]
        json: bool,
    },
    /// Put dead letters back to the stage that gave them up
    Replay {
        #[command(flatten)]
        which: LetterFlags,
        #[command(flatten)]
        how: ReplayFlags,
        #[arg(long)]
        json: bool,
    },
    /// Print dead letters as JSON lines, every byte of them; they stay where they are
    Export {
        #[command(flatten)]
        which: LetterFlags,
        /// Replayed ones too
        #[arg(long)]
        all: bool,
    },
    /// Put exported letters into the dead letters, on the partition they came from
    Import {
        /// File of JSON lines [default: stdin]
        file: Option<PathBuf>,
    },
    /// Throw dead letters away; without --yes it says which, and does nothing
    Purge {
        #[command(flatten)]
        which: LetterFlags,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Only those that were put back
        #[arg(long)]
        replayed: bool,
        /// Do it
        #[arg(short, long, conflicts_with = "dry_run")]
        yes: bool,
        /// Say what would be thrown away, and do nothing; that is what happens without --yes
        #[arg(long)]
        dry_run: bool,
        #[arg(long)]
        json: bool,
    },
    /// What became of what was put back, run by run
    Runs {
        /// Runs to show, the newest first
        #[arg(short = 'n', long, default_value_t = 10)]
        limit: usize,
        #[arg(long)]
        json: bool,
    },
}

/// How letters are put back.
#[derive(Debug, Clone, Args)]
pub struct ReplayFlags {
    /// All of them
    #[arg(long)]
    pub all: bool,
    /// Say what would be replayed, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Letters a second, at most
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    pub rate: Option<f64>,
    /// First so many, and the rest only if enough of them succeed
    #[arg(long, value_name = "LETTERS", conflicts_with = "dry_run", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Percent of the sample that must succeed
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub threshold: u8,
    /// Longest wait for what becomes of the sample
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub sample_wait: Duration,
    /// Leave letters alone that died so often after a replay
    #[arg(long, value_name = "DEATHS", default_value_t = PARK_AFTER)]
    pub park_after: u32,
    /// These too
    #[arg(long)]
    pub force: bool,
    /// Where to, instead of where they came from: an earlier stage, which gets what the log still keeps of what it had
    /// read (fetch: the URL), or any topic by its full name
    #[arg(long, value_name = "STAGE|TOPIC")]
    pub to: Option<To>,
    /// Change them on the way: JSON, or @FILE of it. {"value": …, "headers": …, "key": …}, value a merge patch (RFC 7396) or
    /// a JSON Patch (RFC 6902) of the decoded value; what becomes of the first is shown
    #[arg(long, value_name = "JSON|@FILE", value_parser = edit)]
    pub edit: Option<Edit>,
    /// Do not ask whether the edit is right
    #[arg(short, long)]
    pub yes: bool,
}

fn attempts(text: &str) -> Result<Attempts, String> {
    let wrong = || format!("{text:?} is no number of attempts; write 3, 2.. or 2..4");
    let number = |t: &str| if t.is_empty() { Ok(None) } else { t.parse().map(Some).map_err(|_| wrong()) };
    match text.split_once("..") {
        Some((fewest, most)) => Ok(Attempts { fewest: number(fewest)?, most: number(most)? }),
        None => text.parse().map(|n| Attempts { fewest: Some(n), most: Some(n) }).map_err(|_| wrong()),
    }
}

fn letter_header(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((text.to_owned(), None)),
    }
}

fn class(text: &str) -> Result<String, String> {
    let is_exception = |t: &str| t.contains('.') || t.starts_with(|c: char| c.is_uppercase());
    if text.parse::<FailureClass>().is_ok() || is_exception(text) {
        return Ok(text.to_owned());
    }
    let all: Vec<&str> = FailureClass::ALL.iter().map(|c| c.as_str()).collect();
    Err(format!(
        "no failure class is called {text:?}; classes are {}, and exceptions go by names such as IllegalStateException",
        all.join(", ")
    ))
}

fn edit(text: &str) -> Result<Edit, String> {
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|e| format!("cannot read {file}: {e}"))?.parse(),
        None => text.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_exceptions_are_told_from_slips() {
        assert!(class("tiemout").unwrap_err().contains("timeout"));
        for fine in ["timeout", "IllegalStateException", "java.lang.IllegalStateException"] {
            assert_eq!(class(fine).as_deref(), Ok(fine));
        }
        assert!(edit("@/nowhere").unwrap_err().contains("cannot read /nowhere"));
    }
}
