//! The command line as typed. What it means is decided in the command's own file.

mod kept;
mod records;
mod urls;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use kept::*;
use kept::{CACHE, INDEX, TOPICS};
pub use records::*;
pub use urls::*;
pub(in crate::cli) use values::{duration, json_path, moment, rate, stage};

use crate::telemetry::logs::Format;

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
    #[command(subcommand, after_help = crate::cli::dlq::args::EXAMPLES)]
    Dlq(crate::cli::dlq::args::Dlq),
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
pub struct Completions {
    /// Shell
    pub shell: clap_complete::Shell,
}
