//! `index delete`: takes pages out, by URL or by host.

use std::sync::Arc;

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::json;

use crate::cli::args::IndexDelete as Args;
use crate::cli::{Exit, UsageError, format, topics};
use crate::config::Config;
use crate::pipeline::open_index;
use crate::record::url_task::host_key;
use crate::record::{Enriched, now_ms};
use crate::sink::{SearchIndex, Selected, Selection, Written};
use crate::web::url::{fingerprint, normalise};

/// Documents taken out at a time.
const CHUNK: usize = 500;
/// Documents shown of those that would go.
const SHOWN: usize = 10;

/// Puts a tombstone in the place of each document, as of now: what was fetched before does not come back.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let mut wanted = vec![];
    let mut named = vec![];
    for text in &args.urls {
        let url = normalise(text).map_err(|e| UsageError(format!("{text}: {e}")))?;
        named.push(Selected { id: fingerprint(&url), host: host_key(&url), url: url.to_string() });
        wanted.push(Selection::Url(url.into()));
    }
    wanted.extend(args.host.iter().map(|h| Selection::Host(h.clone())));
    let index = open_index(&config)?;
    let (mut total, mut some) = (0, vec![]);
    for which in &wanted {
        let (count, found) = index.select(which, SHOWN).await?;
        total += count;
        some.extend(found);
    }
    if !args.json {
        show(total, &some);
    }
    if args.dry_run {
        if args.json {
            format::print_json(&json!({"matched": total, "some": some}))?;
        }
        return Ok(Exit::Done);
    }
    if !args.yes && !topics::agreed().await? {
        eprintln!("nothing was changed");
        return Ok(Exit::Failed);
    }
    let bar = format::bar(total);
    let (mut deleted, mut newer) = (0, 0);
    for which in &wanted {
        let (gone, left) = empty(&*index, which, |n| bar.inc(n)).await?;
        deleted += gone;
        newer += left;
    }
    // A page that is not there (yet) gets a tombstone too: an older version of it may be on its way.
    bury(&*index, named).await?;
    index.flush().await?;
    bar.finish_and_clear();
    if args.json {
        format::print_json(&json!({"deleted": deleted, "newer": newer}))?;
        return Ok(Exit::Done);
    }
    println!("{deleted} documents are taken out");
    if newer > 0 {
        println!("{newer} stay: they were fetched after this began; run it again to take them out too");
    }
    Ok(Exit::Done)
}

/// Takes out all that a selection has; how many those were, and how many stay because they are newer.
async fn empty(index: &dyn SearchIndex, which: &Selection, mut tell: impl FnMut(u64)) -> Result<(u64, u64)> {
    let mut deleted = 0;
    let mut before = u64::MAX;
    loop {
        index.flush().await?;
        let (left, found) = index.select(which, CHUNK).await?;
        // What is there after it was taken out is newer, or the index does not know tombstones; either way it does no good
        // to go on.
        if found.is_empty() || left >= before {
            return Ok((deleted, left));
        }
        before = left;
        let gone = bury(index, found).await?;
        deleted += gone;
        tell(gone);
    }
}

/// How many of them were there, and are no newer than this.
async fn bury(index: &dyn SearchIndex, documents: Vec<Selected>) -> Result<u64> {
    let now = now_ms();
    let tombstone = |d: Selected| index.put(Arc::new(Enriched::tombstone(d.id, d.url, d.host, now)));
    let written = try_join_all(documents.into_iter().map(tombstone)).await?;
    Ok(written.iter().filter(|w| **w == Written::Updated).count() as u64)
}

fn show(total: u64, some: &[Selected]) {
    if total == 0 {
        println!("the index has none of these");
        return;
    }
    let mut t = format::table(&["host", "url"]);
    for d in some.iter().take(SHOWN) {
        t.add_row([&d.host, &d.url]);
    }
    format::print_table(&t);
    println!("{total} documents{}", if total > SHOWN as u64 { ", some of them above" } else { "" });
}
