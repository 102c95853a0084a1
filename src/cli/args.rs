//! The command line as typed. What it means is decided in the command's own file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::record::FailureClass;
use crate::telemetry::logs::Format;
use crate::topology::{Ladder, StageName};

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

Exit codes: 0 done, 1 failed, 2 usage, 3 finished with dead letters.";

/// Flags every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file [default: tidemill.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "TIDEMILL_CONFIG", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Folder of the log, store, index and blobs [default: tidemill-data]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub data: Option<PathBuf>,
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
    /// Take one URL through all stages in memory and show each one's result
    Try(Try),
    /// Search the index
    Search(Search),
    /// What became of a URL, step by step
    Explain(Explain),
    /// Jobs, lag of each stage, dead letters
    Status(Status),
    /// Dead letters: list, show, replay
    #[command(subcommand)]
    Dlq(Dlq),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Extract pages offline: JSON lines {"id","url","file"} on stdin, JSON lines out
    Extract(Extract),
    /// Print a completion script
    Completions(Completions),
}

/// How pages are fetched.
#[derive(Debug, Clone, Args)]
pub struct FetchFlags {
    /// Shortest time between two requests to one host, such as 500ms or 2s; 0s for none [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub delay: Option<Duration>,
    /// Fetch from this private or special network too (repeatable)
    #[arg(long = "allow-address", value_name = "CIDR", value_parser = network)]
    pub allow_addresses: Vec<IpNet>,
    /// Address of a host name instead of DNS: HOST=IP, *.HOST=IP for all below it (repeatable)
    #[arg(long, value_name = "HOST=IP", value_parser = host_address)]
    pub resolve: Vec<(String, IpAddr)>,
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

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Query language: words are ANDed; \"a phrase\"; -without; begin*; a OR b; site:example.org; lang:pt. Accents do not
matter.")]
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
    /// Hits as JSON
    #[arg(long)]
    pub json: bool,
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

/// Which dead letters.
#[derive(Debug, Clone, Args, Default)]
pub struct LetterFlags {
    /// Ids, as `dlq ls` shows them
    pub ids: Vec<String>,
    /// Only this stage's
    #[arg(long, value_parser = stage)]
    pub stage: Option<StageName>,
    /// Only this failure class
    #[arg(long, value_parser = class)]
    pub class: Option<FailureClass>,
    /// Only this host
    #[arg(long)]
    pub host: Option<String>,
    /// Only this cause
    #[arg(long)]
    pub fingerprint: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Dlq {
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
        /// All of them
        #[arg(long)]
        all: bool,
        /// Say what would be replayed, and do nothing
        #[arg(long)]
        dry_run: bool,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is valid
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

fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string());
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| format!("{text:?} is no time; write 500ms, 2s or 1m"))
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

fn stage(text: &str) -> Result<StageName, String> {
    text.parse()
}

fn class(text: &str) -> Result<FailureClass, String> {
    text.parse().map_err(|_| {
        let all: Vec<&str> = FailureClass::ALL.iter().map(|c| c.as_str()).collect();
        format!("no failure class is called {text:?}; classes are {}", all.join(", "))
    })
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
        assert!(class("tiemout").unwrap_err().contains("timeout"));
    }
}
