//! `dlq`: list, show and replay dead letters.

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{Dlq as Args, LetterFlags};
use super::{Exit, UsageError, explain, format};
use crate::config::Config;
use crate::dlq::{self, Filter, Letter, LetterId};
use crate::jobs;
use crate::pipeline::open_log;
use crate::record::{Headers, time};
use crate::transport::sqlite::headers_to_json;

/// Runs one of the three.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (transport, names) = open_log(&config).await?;
    match args {
        Args::Ls { which, limit, all, json } => {
            let filter = Filter { not_replayed: !all, ..filter(which)? };
            let listing = dlq::list(&*transport, &names, &filter, limit).await?;
            let letters = listing.letters;
            if json {
                format::print_json(&letters.iter().map(|l| as_json(l, false)).collect::<Vec<_>>())?;
                return Ok(Exit::Done);
            }
            let mut t = format::table(&["id", "class", "attempts", "at", "cause", "url", "message"]);
            for l in &letters {
                let f = l.failure.as_ref();
                t.add_row(vec![
                    l.id.to_string(),
                    f.map_or("?".into(), |f| f.class.to_string()),
                    f.map_or(String::new(), |f| f.attempts.to_string()),
                    f.map_or(String::new(), |f| time(f.at)),
                    l.fingerprint().unwrap_or_default().to_owned(),
                    format::cut(&l.url().unwrap_or_default(), 60),
                    format::cut(f.map_or("", |f| &f.message), 80),
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
            if json {
                format::print_json(&as_json(&letter, true))?;
                return Ok(Exit::Done);
            }
            show(&letter);
            let history = jobs::explain(&*transport, &names, &letter.url().unwrap_or_default()).await?;
            println!("history");
            explain::print(&history);
        }
        Args::Replay { which, all, dry_run, json } => {
            let filter = filter(which)?;
            if filter == Filter::default() && !all {
                let fix = "say which letters (ids, --stage, --class, --host, --fingerprint), or --all";
                return Err(UsageError(fix.into()).into());
            }
            let run = uuid::Uuid::now_v7().simple().to_string();
            let report = dlq::replay(&*transport, &names, &filter, &run, dry_run).await?;
            if json {
                format::print_json(&json!({
                    "run": run, "dry_run": dry_run, "matched": report.matched, "already": report.already,
                    "replayed": report.replayed, "to": report.to,
                }))?;
                return Ok(Exit::Done);
            }
            for (topic, count) in &report.to {
                println!("{count:>8}  {topic}");
            }
            let done = if dry_run { "would be replayed".to_owned() } else { format!("replayed, run {run}") };
            println!("{} dead letters {done}; {} had been replayed before", report.replayed, report.already);
        }
    }
    Ok(Exit::Done)
}

fn filter(which: LetterFlags) -> Result<Filter> {
    let ids = which.ids.iter().map(|id| id.parse()).collect::<Result<_, String>>().map_err(UsageError)?;
    let LetterFlags { stage, class, host, fingerprint, .. } = which;
    Ok(Filter { ids, stage, class, host, fingerprint, ..Filter::default() })
}

fn show(l: &Letter) {
    println!("letter    {}{}", l.id, if l.replayed.is_some() { "  (replayed)" } else { "" });
    if let Some(f) = &l.failure {
        println!("failure   {}: {}", f.class, f.message);
        println!("attempts  {}, given up by {} at {}", f.attempts, f.stage, time(f.at));
        println!("from      {}/{}/{}", f.topic, f.partition, f.offset);
    }
    println!("key       {}", l.record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default());
    println!("value     {} bytes", l.record.value.len());
    println!("headers");
    for (name, value) in &l.record.headers.0 {
        println!("  {name}: {}", String::from_utf8_lossy(value));
    }
}

fn as_json(l: &Letter, whole: bool) -> Value {
    let f = l.failure.as_ref();
    let mut v = json!({
        "id": l.id.to_string(), "stage": l.stage, "url": l.url(), "fingerprint": l.fingerprint(),
        "replayed": l.replayed.is_some(), "replay": l.replayed.as_ref().map(|r| &r.run),
        "class": f.map(|f| f.class.as_str()), "message": f.map(|f| &f.message), "attempts": f.map(|f| f.attempts), "at": f.map(|f| f.at),
    });
    if whole {
        let headers: &Headers = &l.record.headers;
        v["key_hex"] = json!(l.record.key.as_deref().map(hex::encode));
        v["value_hex"] = json!(hex::encode(&l.record.value));
        v["headers"] = serde_json::from_str(&headers_to_json(headers)).unwrap_or_default();
    }
    v
}
