//! `search`: asks the index.

use anyhow::Result;

use super::args::Search as Args;
use super::{Exit, UsageError, format};
use crate::config::Config;
use crate::pipeline::open_index;
use crate::sink::{Hits, Query};

/// Prints hits with highlighted snippets.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    if !config.opensearch.is_set() && !config.index_file().exists() {
        let there = config.index_file();
        return Err(UsageError(format!(
            "there is no index at {}; run something first, or name its folder with --data",
            there.display()
        ))
        .into());
    }
    let bold = !args.json && std::io::IsTerminal::is_terminal(&std::io::stdout());
    let (open, close) = if bold { ("\x1b[1m", "\x1b[0m") } else { ("[", "]") };
    let query = Query {
        site: args.site,
        language: args.lang,
        limit: args.limit,
        offset: args.offset,
        marks: (open.into(), close.into()),
        ..Query::new(args.query.join(" "))
    };
    let hits = open_index(&config)?.search(&query).await?;
    if args.json {
        format::print_json(&hits)?;
    } else {
        print(&hits);
    }
    Ok(Exit::Done)
}

/// Hits for people.
pub fn print(hits: &Hits) {
    for (i, h) in hits.hits.iter().enumerate() {
        let language = h.language.as_deref().unwrap_or("?");
        println!("{:>3}. {}", i + 1, h.title.as_deref().unwrap_or("(no title)"));
        println!("     {}  [{language}]{}", h.url, h.date.as_deref().map(|d| format!("  {d}")).unwrap_or_default());
        println!("     {}\n", h.snippet.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    println!("{} of {} documents, {}", hits.hits.len(), hits.total, format::millis(hits.took_ms));
}
