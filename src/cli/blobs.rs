//! `blobs`: the large bodies beside the records, and their archive.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Subcommand;
use serde_json::json;

use super::args::duration;
use super::{Exit, UsageError, format};
use crate::blob::tiered::{Tally, Tiered};
use crate::config::Config;
use crate::pipeline;

pub const EXAMPLES: &str = "\
Examples:
  tidemill blobs stats                         how many there are, and their size
  tidemill blobs archive --dry-run             what would move to blob.archive.s3
  tidemill blobs archive --older-than 0s       moves all there are; cut short, the same command goes on";

/// Large bodies.
#[derive(Debug, Clone, Subcommand)]
pub enum Blobs {
    /// Blobs by place: number and size
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Move to the archive what was not used for long; `run` does so by itself
    Archive {
        /// What was not put or renewed for so long [default: blob.archive.after]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        older_than: Option<Duration>,
        /// Only count
        #[arg(long)]
        dry_run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
pub async fn run(args: Blobs, config: Config) -> Result<Exit> {
    if config.blob.s3.is_empty() && !config.blob_dir().exists() {
        let folder = config.data.display();
        let why = format!("there are no blobs in {folder}: run something first, or name the right folder with --data");
        return Err(UsageError(why).into());
    }
    let tiers = pipeline::open_tiers(&config).await?;
    match (args, tiers) {
        (Blobs::Stats { json }, Some(tiers)) => {
            stats(&[(tiers.first(), "first"), (tiers.archive(), "archive")], json).await
        }
        (Blobs::Stats { json }, None) => stats(&[(&pipeline::open_blobs(&config).await?, "first")], json).await,
        (Blobs::Archive { .. }, None) => {
            let why = "there is no archive: name a place in blob.archive.s3, as s3://BUCKET/PREFIX";
            Err(UsageError(why.into()).into())
        }
        (Blobs::Archive { older_than, dry_run, json }, Some(tiers)) => {
            archive(&tiers, older_than.unwrap_or(config.blob.archive.after), dry_run, json).await
        }
    }
}

async fn stats(places: &[(&Arc<dyn crate::blob::Blobs>, &str)], json: bool) -> Result<Exit> {
    let mut rows = vec![];
    for (place, role) in places {
        rows.push((*role, place.name(), Tiered::tally(place, Duration::ZERO).await?));
    }
    if json {
        let row = |(role, kind, t): &(&str, &str, Tally)| json!({"place": role, "kind": kind, "blobs": t.blobs, "bytes": t.bytes});
        format::print_json(&rows.iter().map(row).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let mut t = format::table(&["place", "kind", "blobs", "size"]);
    for (role, kind, tally) in rows {
        t.add_row([role, kind, &format::count(tally.blobs as i64), &ByteSize(tally.bytes).to_string()]);
    }
    format::print_table(&t);
    Ok(Exit::Done)
}

async fn archive(tiers: &Tiered, older_than: Duration, dry_run: bool, json: bool) -> Result<Exit> {
    let old = Tiered::tally(tiers.first(), older_than).await?;
    if dry_run {
        match json {
            true => format::print_json(&json!({"blobs": old.blobs, "bytes": old.bytes}))?,
            false => println!("{} blobs of {} would move to the archive", old.blobs, ByteSize(old.bytes)),
        }
        return Ok(Exit::Done);
    }
    let bar = format::bar(old.blobs);
    let moved = tiers.move_old(older_than, None, |_| bar.inc(1)).await;
    bar.finish_and_clear();
    let moved = moved?;
    match json {
        true => {
            format::print_json(&json!({"moved": moved.blobs, "bytes": moved.bytes, "damaged": moved.damaged}))?;
        }
        false => println!("{} blobs of {} moved to the archive", moved.blobs, ByteSize(moved.bytes)),
    }
    if moved.damaged > 0 {
        eprintln!("{} blobs are damaged and stay where they are; see the log (--log warn)", moved.damaged);
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}
