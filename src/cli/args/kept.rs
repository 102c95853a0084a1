//! Commands about what is kept: index, cache, topics, configuration.

use clap::{Args, Subcommand};

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

pub(super) const CACHE: &str = "\
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

pub(super) const TOPICS: &str = "\
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

pub(super) const INDEX: &str = "\
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
