//! `cache`: what the HTTP cache has, and removing from it.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;
use url::Url;

use super::args::Cache as Args;
use super::{Exit, UsageError, format};
use crate::config::Config;
use crate::fetch::cache::{Cache, Entry};
use crate::pipeline;
use crate::record::time;
use crate::web::url::normalise;

/// Hosts that the table of `stats` shows.
const SHOWN: usize = 50;

/// Runs one of them.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    if config.store.redis.is_empty() && !config.store_file().exists() {
        let folder = config.data.display();
        let why = format!("there is no cache in {folder}: run something first, or name the right folder with --data");
        return Err(UsageError(why).into());
    }
    let blobs = pipeline::open_blobs(&config).await?;
    let store = pipeline::open_store(&config).await?;
    let cache = Cache::new(&config.fetch, store, Arc::clone(&blobs));
    match args {
        Args::Stats { json } => stats(&cache, json).await,
        Args::Get { url, body, json } => {
            let url = parse(&url)?;
            let Some(entry) = cache.get(&url).await? else {
                eprintln!("{url} is not in the cache");
                return Ok(Exit::Failed);
            };
            match body {
                true => print_body(&cache, &entry).await,
                false => show(&entry, &config, json),
            }
        }
        Args::Delete { url, json } => {
            let url = parse(&url)?;
            let was = cache.get(&url).await?.is_some();
            cache.forget(&url).await?;
            removed(u64::from(was), json)
        }
        Args::Clear { domain, all: _, json } => removed(cache.clear(domain.as_deref()).await?, json),
    }
}

fn parse(url: &str) -> Result<Url> {
    Ok(normalise(url).map_err(|e| UsageError(e.to_string()))?)
}

async fn stats(cache: &Cache, json: bool) -> Result<Exit> {
    let hosts = cache.by_host().await?;
    let entries: u64 = hosts.iter().map(|(_, n)| n).sum();
    if json {
        let list: Vec<_> = hosts.iter().map(|(host, n)| json!({"host": host, "entries": n})).collect();
        format::print_json(&json!({"entries": entries, "hosts": list}))?;
        return Ok(Exit::Done);
    }
    if !hosts.is_empty() {
        let mut t = format::table(&["host", "entries"]);
        for (host, n) in hosts.iter().take(SHOWN) {
            t.add_row([host.clone(), format::count(*n)]);
        }
        format::print_table(&t);
        println!();
    }
    println!("{entries} entries of {} hosts", hosts.len());
    Ok(Exit::Done)
}

fn show(entry: &Entry, config: &Config, json: bool) -> Result<Exit> {
    let left = entry.fresh_for(config.fetch.cache.longest);
    let place = entry.blob.as_deref().or(entry.inline.then_some("in the entry"));
    if json {
        let headers: Vec<_> = entry.headers.iter().map(|(n, v)| json!({"name": n, "value": v})).collect();
        format::print_json(&json!({
            "url": entry.url, "fetched_at": entry.fetched_at, "fresh_for_s": left.as_secs(), "task": entry.task,
            "content_type": entry.content_type, "length": entry.length, "body": place, "headers": headers,
        }))?;
        return Ok(Exit::Done);
    }
    let fresh = match left.as_secs() {
        0 => "no: asked for its changes next time".to_owned(),
        _ => format!("for {} more", format::duration(left)),
    };
    let mut t = format::table(&["", ""]);
    t.add_row(["url", &entry.url]);
    t.add_row(["fetched", &time(entry.fetched_at)]);
    t.add_row(["fresh", &fresh]);
    t.add_row(["by task", &entry.task]);
    t.add_row(["type", &entry.content_type]);
    t.add_row(["length", &format::count(entry.length)]);
    t.add_row(["body", place.unwrap_or("not kept: the answer has neither ETag nor Last-Modified")]);
    for name in ["etag", "last-modified", "cache-control", "expires", "vary"] {
        for (_, value) in entry.headers.iter().filter(|(n, _)| n == name) {
            t.add_row([name, &format::cut(value, 80)]);
        }
    }
    format::print_table(&t);
    Ok(Exit::Done)
}

async fn print_body(cache: &Cache, entry: &Entry) -> Result<Exit> {
    let bytes = cache.bytes(entry).await?;
    let bytes = bytes.context("the cache has no body of this URL: its answer had neither ETag nor Last-Modified")?;
    // A reader that went away is no failure.
    drop(std::io::stdout().write_all(&bytes));
    Ok(Exit::Done)
}

fn removed(n: u64, json: bool) -> Result<Exit> {
    match json {
        true => format::print_json(&json!({"removed": n}))?,
        false => println!("{n} entries removed"),
    }
    Ok(Exit::Done)
}
