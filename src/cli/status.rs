//! `status`: jobs, lag of each stage, dead letters.

use anyhow::Result;
use serde_json::json;

use super::args::Status as Args;
use super::report::{dead, indexed, summary};
use super::{Exit, format};
use crate::config::Config;
use crate::dlq;
use crate::jobs::{self, Tracker};
use crate::pipeline::open_log;
use crate::record::{OutcomeKind, time};
use crate::topology::{Names, STAGES, STATUS};
use crate::transport::Transport;
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
    let lags = lags(&*transport, &names).await?;
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
            indexed(&p).to_string(),
            p.count(OutcomeKind::Dropped).to_string(),
            dead(&p).to_string(),
            format::cut(&j.source, 40),
        ]);
    }
    format::print_table(&t);
    println!();
    let mut t = format::table(&["stage", "topic", "waiting"]);
    for (stage, topic, lag) in lags.iter().filter(|(_, _, lag)| *lag > 0) {
        t.add_row(vec![stage.clone(), topic.clone(), lag.to_string()]);
    }
    if t.row_count() == 0 {
        println!("no stage has anything waiting")
    } else {
        format::print_table(&t)
    }
    println!("\n{letters} dead letters not replayed");
    Ok(Exit::Done)
}

/// Records each stage has yet to finish, by input topic: stage, topic, count.
async fn lags(transport: &dyn Transport, names: &Names) -> Result<Vec<(String, String, i64)>> {
    let mut all = vec![];
    for def in &STAGES {
        for (topic, _) in def.subscribed() {
            let full = names.full(&topic);
            let done = transport.progress(&names.full(def.name.as_str()), &full).await?;
            let mut lag = 0;
            for b in transport.bounds(&full).await? {
                let committed = done.iter().find(|(p, _, _)| *p == b.partition);
                lag += match committed {
                    Some((_, base, map)) => b.end - base - done_beyond(*base, map),
                    None => b.end - b.start,
                };
            }
            all.push((def.name.to_string(), topic, lag));
        }
    }
    Ok(all)
}

/// Offsets past base that are complete.
fn done_beyond(base: i64, map: &str) -> i64 {
    crate::engine::offset_map::decode(base, map)
        .map_or(0, |m| m.high - base + 1 - i64::try_from(m.incomplete.len()).unwrap_or(0))
}
