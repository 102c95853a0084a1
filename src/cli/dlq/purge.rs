//! Throwing letters away.

use anyhow::Result;
use serde_json::json;

use crate::cli::{Exit, UsageError, format};
use crate::dlq::{self, Filter, Walk};
use crate::topology::Names;
use crate::transport::Transport;

/// Does it, or says what it would do.
pub async fn run(
    transport: &dyn Transport,
    names: &Names,
    (filter, walk): (Filter, &Walk),
    all: bool,
    yes: bool,
    as_json: bool,
) -> Result<Exit> {
    if filter.is_everything() && !filter.replayed && !all {
        let fix = "say which letters (ids, --topic, --stage, --class, --until, --replayed, …), or --all";
        return Err(UsageError(fix.into()).into());
    }
    let run = uuid::Uuid::now_v7().simple().to_string();
    let purged = super::drawn(walk, dlq::purge(transport, names, &filter, &run, !yes)).await?;
    if as_json {
        format::print_json(&json!({
            "run": run, "dry_run": !yes, "letters": purged.letters, "replayed": purged.replayed, "freed": purged.freed,
            "refused": purged.refused,
        }))?;
        return Ok(Exit::Done);
    }
    for (topic, count) in &purged.letters {
        println!("{count:>8}  {topic}");
    }
    let (total, back) = (purged.total(), purged.replayed);
    if !yes {
        println!("{total} dead letters would be thrown away, {back} of them had been replayed; --yes does it");
        return Ok(Exit::Done);
    }
    println!("{total} dead letters thrown away, {back} of them had been replayed");
    println!("{} letters, of this purge or earlier ones, are deleted from the log; others go by age", purged.freed);
    if let Some(why) = &purged.refused {
        println!("the log keeps their bytes: {why}");
    }
    Ok(Exit::Done)
}
