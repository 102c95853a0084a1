//! `try`: one URL through all stages in memory; nothing is written to the log or the index.

use std::collections::VecDeque;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::Try;
use super::{Exit, format};
use crate::config::Config;
use crate::engine::{Ctx, Outcome, Stage};
use crate::pipeline::Pipeline;
use crate::record::{Headers, Meta, Record, UrlTask, now_ms};
use crate::topology::Ladder;

/// Steps at most: redirects and stages.
const STEPS: usize = 32;

/// Shows what each stage says.
pub async fn run(args: Try, mut config: Config) -> Result<Exit> {
    args.fetch.apply(&mut config);
    let scratch = tempfile::tempdir()?;
    config.data = scratch.path().to_owned();
    // Nothing is encoded, so there is nothing to register; and what is seen here nobody is to remember.
    config.registry = crate::config::Registry::default();
    config.store.redis = crate::config::SecretUrl::default();
    config.blob.s3.clear();
    config.warc.folder = None;
    let pipeline = Pipeline::open(config).await?;
    let (fetch, extract, enrich) = (pipeline.fetch(Ladder::default())?, pipeline.extract()?, pipeline.enrich());
    let meta = Meta::read(&Headers::default(), "try", 0, 0, now_ms());
    let ctx = Ctx::unplaced(meta);
    let mut queue = VecDeque::from([Record::UrlTask(Box::new(UrlTask::new(args.url)))]);
    let mut steps = vec![];
    let mut good = false;
    for _ in 0..STEPS {
        let Some(record) = queue.pop_front() else { break };
        let started = std::time::Instant::now();
        let (stage, outcome) = match record {
            Record::UrlTask(t) => ("fetch", fetch.handle(*t, &ctx).await),
            Record::Page(p) => ("extract", extract.handle(*p, &ctx).await),
            Record::Document(d) => ("enrich", enrich.handle(*d, &ctx).await),
            Record::Enriched(e) => {
                good = true;
                steps.push(("document", json!(*e)));
                continue;
            }
        };
        let ms = started.elapsed().as_secs_f64() * 1e3;
        let (said, next) = said(outcome);
        if args.json {
            steps.push((stage, json!({"ms": ms, "outcome": said})));
        } else {
            println!("{stage:<8} {:>9}  {}", format::millis(ms), line(&said));
        }
        queue.extend(next);
    }
    if args.json {
        let list: Vec<Value> = steps.into_iter().map(|(stage, v)| json!({"stage": stage, "result": v})).collect();
        format::print_json(&list)?;
    } else if let Some((_, document)) = steps.pop() {
        println!();
        for field in ["title", "author", "date", "language", "words", "canonical", "text_hash"] {
            if let Some(v) = document.get(field).filter(|v| !v.is_null()) {
                println!("{field:<10} {}", v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            }
        }
        println!("links      {}", document["links"].as_array().map_or(0, Vec::len));
        println!("\n{}", document["text"].as_str().unwrap_or_default());
    }
    Ok(if good { Exit::Done } else { Exit::Failed })
}

/// An outcome as JSON, and the records it hands on.
fn said(outcome: Outcome) -> (Value, Vec<Record>) {
    match outcome {
        Outcome::Emit(records) => {
            let shown: Vec<Value> = records
                .iter()
                .map(|r| match r {
                    Record::UrlTask(t) => json!({"redirect": t.url}),
                    Record::Page(p) => json!({
                        "page": p.final_url, "status": p.status, "content_type": p.content_type, "bytes": p.body.length, "headers": p.headers,
                    }),
                    Record::Document(d) => {
                        json!({"title": d.title, "author": d.author, "date": d.date, "chars": d.text.chars().count(), "links": d.links.len()})
                    }
                    Record::Enriched(e) => json!({"language": e.language, "words": e.words, "text_hash": e.text_hash}),
                })
                .collect();
            (json!({"emit": shown}), records)
        }
        Outcome::Done => (json!("done"), vec![]),
        Outcome::Move { .. } => (json!("moved"), vec![]),
        Outcome::Drop { reason, message } => (json!({"drop": reason.as_str(), "message": message}), vec![]),
        Outcome::Retry { class, message, .. } => (json!({"retry": class.as_str(), "message": message}), vec![]),
        Outcome::Park { until, message, .. } => {
            (json!({"park": crate::record::time(until), "message": message}), vec![])
        }
        Outcome::DeadLetter { class, message } => (json!({"dead-letter": class.as_str(), "message": message}), vec![]),
    }
}

/// One line of an outcome, without the response headers.
fn line(said: &Value) -> String {
    let mut said = said.clone();
    if let Some(first) = said.pointer_mut("/emit/0").and_then(Value::as_object_mut) {
        first.remove("headers");
        return Value::Object(first.clone()).to_string();
    }
    match said {
        Value::String(s) => s,
        v => v.to_string(),
    }
}
