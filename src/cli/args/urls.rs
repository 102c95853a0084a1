//! Commands about URLs and pages: what is fetched, how, and what became of it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::values::{duration, host_address, ladder, network, stage};
use crate::topology::{Ladder, StageName};

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

#[derive(Debug, Clone, Args)]
pub struct Extract {
    /// Folder that relative file names start from [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}
