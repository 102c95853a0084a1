//! `dlq`: what rests in the dead letters, by its causes and one by one, and putting it back.

pub mod args;
mod lines;
mod purge;
mod replay;
mod show;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use regex::Regex;
use serde_json::json;

use super::decoded::visible;
use super::topics::agreed;
use super::{Exit, UsageError, explain, format};
use crate::config::Config;
use crate::dlq::{self, By, Filter, LetterId, Stats, Walk};
use crate::jobs;
use crate::pipeline::{look_at_log, open_log};
use crate::record::{now_ms, time};
use args::{Dlq as Args, LetterFlags};

/// Between two drawings of a bar.
const LOOK: Duration = Duration::from_millis(200);

/// Runs one of them.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (transport, names) = match &args {
        // Where letters are put, there must be topics.
        Args::Import { .. } => open_log(&config).await?,
        _ => look_at_log(&config).await?,
    };
    let walk = Arc::new(Walk::default());
    let filter = |which| filter(which).map(|f| Filter { walk: Some(Arc::clone(&walk)), ..f });
    match args {
        Args::Stats { which, by, limit, all, json } => {
            let filter = Filter { not_replayed: !all, ..filter(which)? };
            let stats = drawn(&walk, dlq::stats(&*transport, &names, &filter, &by)).await?;
            if json { format::print_json(&stats_json(&stats))? } else { print_stats(&stats, &by, limit) }
        }
        Args::Ls { which, limit, all, json } => {
            let filter = Filter { not_replayed: !all, ..filter(which)? };
            let listing = drawn(&walk, dlq::list(&*transport, &names, &filter, limit)).await?;
            let letters = listing.letters;
            if json {
                format::print_json(&letters.iter().map(|l| show::as_json(l, false)).collect::<Vec<_>>())?;
                return Ok(Exit::Done);
            }
            let mut t = format::table(&["id", "class", "attempts", "at", "cause", "url", "message"]);
            for l in &letters {
                let f = l.failure.as_ref();
                t.add_row(vec![
                    l.id.to_string(),
                    f.map_or("?".into(), |f| f.short_class().to_owned()),
                    f.filter(|f| f.attempts > 0).map_or(String::new(), |f| f.attempts.to_string()),
                    time(l.at()),
                    l.fingerprint().unwrap_or_default(),
                    format::cut(&l.url().unwrap_or_default(), 60),
                    format::cut(&visible(f.map_or("", |f| &f.message)), 80),
                ]);
            }
            format::print_table(&t);
            println!("\n{} of {} dead letters", letters.len(), listing.matched);
        }
        Args::Show { id, json } => {
            let id: LetterId = id.parse().map_err(UsageError)?;
            let Some(letter) = dlq::show(&*transport, &names, &id).await? else {
                anyhow::bail!("there is no letter {id}; `tidemill dlq ls` shows those there are");
            };
            let meta = letter.meta();
            let history = jobs::history(&*transport, &names, &meta.task, meta.first_seen).await?;
            if json {
                let mut shown = show::as_json(&letter, true);
                shown["history"] = serde_json::to_value(&history)?;
                format::print_json(&shown)?;
                return Ok(Exit::Done);
            }
            show::print(&letter);
            println!("history");
            if history.is_empty() {
                println!("  none: events of task {} are older than the log keeps, or were never written", meta.task);
            }
            explain::print(&history);
        }
        Args::Replay { which, how, json } => {
            let filter = filter(which)?;
            if filter.is_everything() && !how.all {
                let fix =
                    "say which letters (ids, --topic, --stage, --class, --host, --fingerprint, --since, …), or --all";
                return Err(UsageError(fix.into()).into());
            }
            let order = replay::order(&how);
            if order.edit.is_some() && !json {
                replay::show_edit(&*transport, &names, &filter, &order).await?;
                if !order.dry_run && !how.yes && !agreed().await? {
                    eprintln!("nothing was replayed");
                    return Ok(Exit::Failed);
                }
            }
            let report = drawn(&walk, dlq::replay(&*transport, &names, &filter, &order)).await?;
            if json {
                format::print_json(&replay::as_json(&report, &order))?
            } else {
                replay::print(&report, &order)
            }
            return Ok(if report.stopped { Exit::Failed } else { Exit::Done });
        }
        Args::Purge { which, all, replayed, yes, dry_run: _, json } => {
            let filter = Filter { replayed, ..filter(which)? };
            return purge::run(&*transport, &names, (filter, &walk), all, yes, json).await;
        }
        Args::Export { which, all } => {
            let filter = Filter { not_replayed: !all, ..filter(which)? };
            lines::export(&*transport, &names, &filter).await?;
        }
        Args::Import { file } => return lines::import(&*transport, &names, file.as_deref()).await,
        Args::Runs { limit, json } => {
            let runs = dlq::runs(&*transport, &names, limit).await?;
            if json { format::print_json(&replay::runs_json(&runs))? } else { replay::print_runs(&runs) }
        }
    }
    Ok(Exit::Done)
}

/// Does it under a bar that shows how far the walk through the letters is.
async fn drawn<T>(walk: &Walk, work: impl Future<Output = T>) -> T {
    let bar = format::bar(0);
    bar.set_message("letters looked at,");
    let mut look = tokio::time::interval(LOOK);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = look.tick() => {
                bar.set_length(walk.total.load(Ordering::Relaxed));
                bar.set_position(walk.seen.load(Ordering::Relaxed));
            }
        }
    }
}

fn filter(which: LetterFlags) -> Result<Filter> {
    let ids = which.ids.iter().map(|id| id.parse()).collect::<Result<_, String>>().map_err(UsageError)?;
    // What is no expression, such as "[", is looked for as it is.
    let grep = which.grep.as_deref().map(|p| Regex::new(p).or_else(|_| Regex::new(&regex::escape(p)))).transpose()?;
    let LetterFlags { topics, stage, class, host, fingerprint, since, until, attempts, headers, path, .. } = which;
    let attempts = attempts.map_or((None, None), |a| (a.fewest, a.most));
    Ok(Filter {
        topics,
        stage,
        class,
        host,
        fingerprint,
        ids,
        since,
        until,
        attempts,
        headers,
        grep,
        path,
        not_replayed: false,
        replayed: false,
        walk: None,
    })
}

fn print_stats(stats: &Stats, by: &[By], limit: usize) {
    let mut headings = vec!["letters", "replayed"];
    headings.extend(by.iter().map(|b| b.as_str()));
    headings.extend(["first", "last", "oldest", "sample", "message"]);
    let mut t = format::table(&headings);
    let now = now_ms();
    for g in stats.groups.iter().take(limit) {
        let mut row = vec![g.letters.to_string(), g.replayed.to_string()];
        row.extend(by.iter().map(|b| {
            let value = match b {
                By::Stage => g.key.stage.map(|s| s.to_string()),
                By::Class => g.key.class.as_deref().map(str::to_owned),
                By::Host => g.key.host.clone(),
                By::Fingerprint => g.key.fingerprint.clone(),
            };
            value.unwrap_or_else(|| "?".into())
        }));
        row.extend([
            time(g.first),
            time(g.last),
            format::millis((now - g.first).max(0) as f64),
            g.sample.to_string(),
            format::cut(&g.message, 80),
        ]);
        t.add_row(row);
    }
    format::print_table(&t);
    println!("\n{} dead letters, {} groups", stats.letters, stats.groups.len());
    if stats.groups.len() > limit {
        println!("{} smaller groups are not shown; -n shows more", stats.groups.len() - limit);
    }
    if stats.others > 0 {
        println!(
            "{} letters are of other groups than the first {}: filter, or group by less",
            stats.others,
            dlq::GROUPS
        );
    }
}

fn stats_json(stats: &Stats) -> serde_json::Value {
    let now = now_ms();
    let groups: Vec<_> = stats
        .groups
        .iter()
        .map(|g| {
            json!({
                "letters": g.letters, "replayed": g.replayed, "stage": g.key.stage, "class": g.key.class,
                "host": g.key.host, "fingerprint": g.key.fingerprint, "first": g.first, "last": g.last,
                "age_s": (now - g.first).max(0) / 1_000, "sample": g.sample.to_string(), "message": g.message,
            })
        })
        .collect();
    json!({"letters": stats.letters, "others": stats.others, "groups": groups})
}
