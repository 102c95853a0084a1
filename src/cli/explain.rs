//! `explain`: what became of a URL.

use anyhow::Result;

use super::args::Explain as Args;
use super::report::outcome_name;
use super::{Exit, format};
use crate::config::Config;
use crate::jobs;
use crate::pipeline::open_log;
use crate::record::{StatusEvent, time};

/// Prints every step of every task that touched the URL.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (transport, names) = open_log(&config).await?;
    let events = jobs::explain(&*transport, &names, &args.url).await?;
    if args.json {
        format::print_json(&events)?;
    } else if events.is_empty() {
        println!("nothing is known of {}; it was not submitted, or its events are older than the log keeps", args.url);
    } else {
        print(&events);
    }
    Ok(if events.is_empty() { Exit::Failed } else { Exit::Done })
}

/// Steps for people, a block a task.
pub fn print(events: &[StatusEvent]) {
    let mut events: Vec<&StatusEvent> = events.iter().collect();
    events.sort_by(|a, b| (&a.task, a.at).cmp(&(&b.task, b.at)));
    let mut task = "";
    for e in events {
        if e.task != task {
            task = &e.task;
            println!("task {task}{}", e.job.as_ref().map(|j| format!("  job {j}")).unwrap_or_default());
        }
        let what = outcome_name(e.outcome, &e.stage);
        let mut line = format!("  {}  {:<8} {what:<13}", time(e.at), e.stage);
        if let Some(class) = &e.class {
            line.push_str(&format!(" {class}"));
        }
        if let Some(message) = &e.message {
            line.push_str(&format!(": {message}"));
        }
        if let Some(until) = e.until {
            line.push_str(&format!(", again at {}", time(until)));
        }
        println!(
            "{line}  (attempt {}, {}, waited {})  {}",
            e.attempt,
            format::millis(e.took_ms),
            format::millis(e.waited_ms),
            e.url
        );
    }
}
