//! `search`: asks the index.

use anyhow::Result;

use super::args::Search as Args;
use super::{Exit, UsageError, format};
use crate::config::Config;
use crate::pipeline::open_index;
use crate::sink::{Bucket, Facets, Hits, Query};

/// Characters of the longest bar.
const BAR: u64 = 30;

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
        facets: args.facets,
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
        let more: String = [&h.date, &h.author].into_iter().flatten().map(|part| format!("  {part}")).collect();
        println!("     {}  [{language}]{more}", h.url);
        println!("     {}\n", h.snippet.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if let Some(Facets { host, language, date }) = &hits.facets {
        for (name, buckets) in [("host", host), ("language", language), ("year", date)] {
            facet(name, buckets);
        }
    }
    println!("{} of {} documents, {}", hits.hits.len(), hits.total, format::millis(hits.took_ms));
}

/// A table with a bar for each value.
fn facet(name: &str, buckets: &[Bucket]) {
    if buckets.is_empty() {
        return;
    }
    let most = buckets.iter().map(|b| b.count).max().unwrap_or(1).max(1);
    let mut t = format::table(&[name, "documents", ""]);
    for Bucket { value, count } in buckets {
        let bar = "█".repeat(usize::try_from(count * BAR / most).unwrap_or(0).max(1));
        t.add_row([value.clone(), count.to_string(), bar]);
    }
    format::print_table(&t);
    println!();
}
