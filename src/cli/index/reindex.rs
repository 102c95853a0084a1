//! `index reindex`: a new index in the place of the old one.

use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::json;

use crate::cli::{Exit, format, topics};
use crate::sink::opensearch::client::Client;
use crate::sink::opensearch::reindex::{self, Step};
use crate::sink::opensearch::schema::Schema;

/// What was typed.
pub struct Wish {
    pub yes: bool,
    pub delete_old: bool,
    pub force: bool,
    pub json: bool,
}

/// Copies, moves the alias, and says what was done. Cut short, the same command goes on.
pub async fn run(client: &Client, schema: &Schema, wish: &Wish) -> Result<Exit> {
    let Wish { yes, delete_old, force, json } = *wish;
    let way = reindex::way(client, schema).await?;
    if way.needless && !force {
        match json {
            true => format::print_json(&json!({"from": way.from, "to": way.from, "copied": 0}))?,
            false => println!(
                "nothing to do: {} has the fields and shards it should have (--force copies it anyway)",
                way.from
            ),
        }
        return Ok(Exit::Done);
    }
    eprintln!("{} → {}{}", way.from, way.to, if way.begun { ", begun earlier" } else { "" });
    if !yes && !topics::agreed().await? {
        eprintln!("nothing was changed");
        return Ok(Exit::Failed);
    }
    let bar = format::bar(0);
    let copied = reindex::run(client, schema, &way, |step| show(&bar, step)).await?;
    bar.finish_and_clear();
    if delete_old {
        reindex::delete(client, &way.from).await?;
    }
    let kept = if delete_old { "deleted" } else { "kept, read-only, outside of the alias" };
    match json {
        true => format::print_json(&json!({"from": way.from, "to": way.to, "copied": copied, "old": kept}))?,
        false => {
            println!("{copied} documents copied; {} is behind {} now; {} is {kept}", way.to, schema.alias, way.from)
        }
    }
    Ok(Exit::Done)
}

fn show(bar: &ProgressBar, step: Step) {
    match step {
        Step::Copying { done, total } => {
            bar.set_length(total);
            bar.set_position(done);
        }
        Step::CatchingUp => bar.set_message("what was written meanwhile"),
        Step::Moving => bar.set_message("moving the alias"),
    }
}
