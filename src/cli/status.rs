//! `status`: jobs, lag of each stage, dead letters.

use anyhow::Result;
use serde_json::json;

use super::args::Status as Args;
use super::report::summary;
use super::{Exit, format};
use crate::config::Config;
use crate::dlq;
use crate::jobs::{self, Tracker};
use crate::monitor::lag;
use crate::pipeline::open_log;
use crate::record::{OutcomeKind, time};
use crate::topology::{STAGES, STATUS};
use crate::transport::tail::{From, Tail};

/// Prints how things stand.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (transport, names) = open_log(&config).await?;
    let mut tracker = Tracker::all();
    let mut tail = Tail::new(&*transport, &names.full(STATUS), From::Start).await?;
    while let Some(batch) = tail.poll(&*transport).await? {
        tracker.read(&batch);
    }
    let jobs = jobs::list(&*transport, &names).await?;
    let mut lags = vec![];
    for def in &STAGES {
        let topics = lag::of_stage(&*transport, &names, def).await?;
        lags.extend(topics.into_iter().map(|t| (def.name, t.topic, t.lag)));
    }
    let waiting = dlq::Filter { not_replayed: true, ..dlq::Filter::default() };
    let letters = dlq::list(&*transport, &names, &waiting, 0).await?.matched;
    let progress = |j: &jobs::Job| tracker.get(&j.id).cloned().unwrap_or_default();
    if args.json {
        let jobs: Vec<_> = jobs.iter().map(|j| json!({"job": j, "progress": summary(&progress(j))})).collect();
        let lags: Vec<_> =
            lags.iter().map(|(stage, topic, lag)| json!({"stage": stage, "topic": topic, "lag": lag})).collect();
        format::print_json(&json!({"jobs": jobs, "lag": lags, "dead_letters": letters}))?;
        return Ok(Exit::Done);
    }
    let mut t = format::table(&["job", "created", "URLs", "finished", "indexed", "dropped", "dead", "source"]);
    for j in &jobs {
        let p = progress(j);
        t.add_row(vec![
            j.id.clone(),
            time(j.created),
            j.submitted.unwrap_or(j.appended).to_string(),
            p.finished.to_string(),
            p.indexed().to_string(),
            p.count(OutcomeKind::Dropped).to_string(),
            p.dead_letters().to_string(),
            format::cut(&j.source, 40),
        ]);
    }
    format::print_table(&t);
    println!();
    let mut t = format::table(&["stage", "topic", "waiting"]);
    for (stage, topic, lag) in lags.iter().filter(|(_, _, lag)| *lag > 0) {
        t.add_row(vec![stage.to_string(), topic.clone(), lag.to_string()]);
    }
    if t.row_count() == 0 {
        println!("no stage has anything waiting")
    } else {
        format::print_table(&t)
    }
    println!("\n{letters} dead letters not replayed");
    Ok(Exit::Done)
}
