//! `reprocess`: kept pages or documents through a stage once more, without a refetch.

use anyhow::Result;
use serde_json::json;

use super::args::Reprocess as Args;
use super::filter::Filter;
use super::{Exit, UsageError, format};
use crate::config::Config;
use crate::jobs::{self, Again};
use crate::pipeline::open_log;
use crate::topology::{self, StageName};

/// Sends them.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    if args.from == StageName::Fetch {
        let fix = "fetch asks hosts again, whatever is kept: `tidemill submit --force` does that";
        return Err(UsageError(fix.into()).into());
    }
    let filter = Filter::of(&args.which)?;
    if args.which.is_everything() && args.since.is_none() && args.until.is_none() && !args.all {
        let fix = "say which records (--host, --url, --job, --since, --grep, …), or --all";
        return Err(UsageError(fix.into()).into());
    }
    let (transport, names) = open_log(&config).await?;
    let id = args.name.clone().unwrap_or_else(jobs::new_id);
    let again = Again {
        id: id.clone(),
        stage: args.from,
        source: format!("reprocess --from {}{}", args.from, args.which.spelled()),
        since: args.since,
        until: args.until,
        rate: args.rate,
    };
    let choose = |r: &crate::transport::Incoming| filter.lets_through(r);
    let topic = topology::stage(args.from).retry(0);
    if args.dry_run {
        let count = jobs::count(&*transport, &names, &again, &choose).await?;
        if args.json {
            format::print_json(&json!({"dry_run": true, "records": count, "to": topic}))?;
        } else {
            println!("{count} records would be sent to {topic}");
        }
        return Ok(Exit::Done);
    }
    let mut kept = 0;
    for input in topology::stage(args.from).inputs {
        kept += transport.bounds(&names.full(input.topic)).await?.iter().map(|b| b.end - b.start).sum::<i64>();
    }
    let bar = format::bar(u64::try_from(kept).unwrap_or(0));
    bar.set_message("records looked at,");
    if !args.json {
        eprintln!("job {id}; cut short, it goes on with the same command and --as {id}");
    }
    let sent = jobs::reprocess(&*transport, &names, &again, &choose, &|n| bar.inc(n)).await;
    bar.finish_and_clear();
    let sent = sent?;
    if args.json {
        format::print_json(&json!({
            "job": id, "dry_run": false, "records": sent.total, "before": sent.before, "to": topic,
        }))?;
    } else {
        println!("job {id}: {} records sent to {topic}; `tidemill status` shows how they fare", sent.total);
    }
    Ok(Exit::Done)
}
