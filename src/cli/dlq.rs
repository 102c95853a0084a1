//! `dlq`: list, show and replay dead letters.

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{Dlq as Args, LetterFlags};
use super::{Exit, UsageError, explain, format};
use crate::config::Config;
use crate::dlq::{self, Filter, Letter};
use crate::jobs;
use crate::pipeline::open_log;
use crate::record::{Headers, time};
use crate::transport::sqlite::headers_to_json;

/// Runs one of the three.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (transport, names) = open_log(&config).await?;
    match args {
        Args::Ls { which, limit, all, json } => {
            let filter = Filter { replayed: all, ..filter(which) };
            let letters = dlq::list(&*transport, &names, &filter, limit).await?;
            if json {
                format::print_json(&letters.iter().map(|l| as_json(l, false)).collect::<Vec<_>>())?;
                return Ok(Exit::Done);
            }
            let mut t = format::table(&["id", "class", "attempts", "at", "cause", "url", "message"]);
            for l in &letters {
                let f = l.failure.as_ref();
                t.add_row(vec![
                    l.id.clone(),
                    f.map_or("?".into(), |f| f.class.to_string()),
                    f.map_or(String::new(), |f| f.attempts.to_string()),
                    f.map_or(String::new(), |f| time(f.at)),
                    l.fingerprint().to_owned(),
                    format::cut(l.url(), 60),
                    format::cut(f.map_or("", |f| &f.message), 80),
                ]);
            }
            format::print_table(&t);
            println!("\n{} dead letters{}", letters.len(), if letters.len() == limit { " (more with -n)" } else { "" });
        }
        Args::Show { id, json } => {
            let Some(letter) = dlq::show(&*transport, &names, &id).await? else {
                anyhow::bail!("there is no letter {id}; `tidemill dlq ls` shows those there are");
            };
            if json {
                format::print_json(&as_json(&letter, true))?;
                return Ok(Exit::Done);
            }
            show(&letter);
            let history = jobs::explain(&*transport, &names, letter.url()).await?;
            println!("history");
            explain::print(&history);
        }
        Args::Replay { which, all, dry_run, json } => {
            let filter = filter(which);
            let any = !filter.ids.is_empty()
                || filter.stage.is_some()
                || filter.class.is_some()
                || filter.host.is_some()
                || filter.fingerprint.is_some();
            if !any && !all {
                return Err(UsageError(
                    "say which letters (ids, --stage, --class, --host, --fingerprint), or --all".into(),
                )
                .into());
            }
            let report = dlq::replay(&*transport, &names, &filter, dry_run).await?;
            if json {
                format::print_json(&report)?;
                return Ok(Exit::Done);
            }
            for (topic, count) in &report.to {
                println!("{count:>8}  {topic}");
            }
            let done = if report.dry_run { "would be replayed" } else { "replayed" };
            println!("{} dead letters {done}, run {}", report.replayed, report.run);
        }
    }
    Ok(Exit::Done)
}

fn filter(which: LetterFlags) -> Filter {
    Filter {
        ids: which.ids,
        stage: which.stage,
        class: which.class,
        host: which.host,
        fingerprint: which.fingerprint,
        replayed: false,
    }
}

fn show(l: &Letter) {
    println!("letter    {}{}", l.id, if l.replayed { "  (replayed)" } else { "" });
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
        "id": l.id, "stage": l.stage, "url": l.url(), "fingerprint": l.fingerprint(), "replayed": l.replayed,
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
