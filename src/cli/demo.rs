//! `demo`: the built-in web, crawled, every URL's fate against what is expected, and a search.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::args::Demo as Args;
use super::run::{Options, finish};
use super::{Exit, format, search};
use crate::config::Config;
use crate::demo::{Expectation, Site};
use crate::pipeline::{open_index, open_log};
use crate::record::{OutcomeKind, StatusEvent, codec};
use crate::sink::Query;
use crate::topology::{Ladder, STATUS, StageName};
use crate::transport::tail::{From, Tail};

/// What is searched for at the end.
const QUERY: &str = "market OR mercado OR Markt";

/// Settings that make the faults show within the minute, and let the loopback address in.
pub fn settings(mut config: Config, site: &Site) -> Config {
    let address = site.address().ip();
    config.fetch.allow_addresses.push(address.into());
    config.fetch.resolve.extend(site.names().into_iter().map(|n| (n, address)));
    config.fetch.delay = Duration::from_millis(20);
    config.fetch.connect_timeout = Duration::from_secs(2);
    config.fetch.read_timeout = Duration::from_secs(3);
    config.fetch.timeout = Duration::from_secs(5);
    // Each of its hosts has the faults of many: none is to be left alone for them.
    (config.fetch.breaker.failures, config.fetch.breaker.timeouts) = (0, 0);
    config
}

/// How a URL ended, from its last event.
fn fate(e: Option<&StatusEvent>) -> String {
    let Some(e) = e else { return "no outcome".into() };
    let class = e.class.as_deref().unwrap_or("");
    match e.outcome {
        OutcomeKind::Done => "indexed".into(),
        OutcomeKind::Dropped => format!("dropped {class}"),
        OutcomeKind::DeadLettered => format!("dead {class}"),
        o => o.as_str().into(),
    }
}

/// Whether a fate is one that was expected.
fn meets(expect: &Expectation, fate: &str) -> bool {
    match expect {
        Expectation::Indexed => fate == "indexed",
        Expectation::Duplicate { reason, .. } => fate == "indexed" || fate == format!("dropped {reason}"),
        Expectation::Dropped(reason) => fate == format!("dropped {reason}"),
        Expectation::Dead(class) => fate == format!("dead {class}"),
        Expectation::DeadOneOf(classes) => classes.iter().any(|c| fate == format!("dead {c}")),
    }
}

/// Crawls the demo web and shows what became of every URL.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let site = Site::start(crate::demo::Options::default())?;
    let scratch = tempfile::tempdir()?;
    let mut config = settings(config, &site);
    config.data = args.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    let targets = site.urls();
    eprintln!("{} URLs of a small web on {}, with the faults of real life", targets.len(), site.address());
    let urls = targets.iter().map(|t| t.url.clone()).collect();
    let options = Options {
        stages: StageName::ALL.to_vec(),
        ladder: Ladder::Quick,
        output: None,
        fresh: true,
        force: true,
        quiet: true,
        listen: None,
    };
    let ran = finish(config.clone(), "demo".into(), urls, options).await?;

    // The n-th URL is the task <job>-<n>.
    let (transport, names) = open_log(&config).await?;
    let mut last: HashMap<String, StatusEvent> = HashMap::new();
    let mut tail = Tail::new(&*transport, &names.full(STATUS), From::Start).await?;
    while let Some(batch) = tail.poll(&*transport).await? {
        let events = batch.iter().filter_map(|r| codec::decode::<StatusEvent>(&r.value).ok());
        last.extend(events.filter(|e| e.outcome.is_final()).map(|e| (e.task.clone(), e)));
    }
    let fates: Vec<String> = (1..=targets.len()).map(|n| fate(last.get(&format!("{}-{n}", ran.report.job)))).collect();
    let unexpected = targets.iter().zip(&fates).filter(|(t, f)| !meets(&t.expect, f)).count();

    if args.json {
        let rows: Vec<_> = targets
            .iter()
            .zip(&fates)
            .map(|(t, f)| json!({"url": t.url, "note": t.note, "fate": f, "as_expected": meets(&t.expect, f)}))
            .collect();
        format::print_json(&json!({"urls": rows, "report": ran.report, "unexpected": unexpected}))?;
    } else {
        let mut t = format::table(&["fate", "what the page is", "url"]);
        for (target, fate) in targets.iter().zip(&fates) {
            let mark = if meets(&target.expect, fate) { "" } else { "  (unexpected)" };
            t.add_row(vec![format!("{fate}{mark}"), target.note.to_owned(), target.url.clone()]);
        }
        format::print_table(&t);
        println!();
        ran.report.print();
        println!("\nsearch {QUERY:?}:\n");
        let query = Query { limit: 3, marks: ("[".into(), "]".into()), ..Query::new(QUERY) };
        search::print(&open_index(&config)?.search(&query).await?);
        println!();
        match (&args.keep, unexpected) {
            (Some(dir), 0) => println!("every URL ended as expected; look around with --data {}", dir.display()),
            (None, 0) => println!("every URL ended as expected; --keep DIR keeps the data to look around in"),
            (_, n) => println!("{n} URLs did not end as expected"),
        }
    }
    Ok(if unexpected == 0 && !ran.interrupted { Exit::Done } else { Exit::Failed })
}
