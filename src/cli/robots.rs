//! `robots`: what a robots.txt says of URLs, and which line says so.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;

use super::args::Robots as Args;
use super::{Exit, UsageError};
use crate::config::Config;
use crate::fetch::http::Client;
use crate::fetch::robots::Origins;
use crate::web::robots::{Robots, RobotsAnswer, path_of};
use crate::web::url::normalise;

/// What is said of one URL.
#[derive(Serialize)]
struct Said {
    url: String,
    agent: String,
    verdict: &'static str,
    /// Line number, from 1, of the rule that decided.
    line: Option<usize>,
    /// In one line: the rule, or why there is none.
    why: String,
    /// Seconds.
    crawl_delay: Option<f64>,
    sitemaps: Vec<String>,
}

/// Prints a verdict a URL.
pub async fn run(args: Args, mut config: Config) -> Result<Exit> {
    args.reach.apply(&mut config);
    let agent = args.agent.unwrap_or_else(|| config.fetch.user_agent.clone());
    let mut exit = Exit::Done;
    let mut all = vec![];
    match &args.file {
        Some(file) => {
            let robots = Robots::parse(&read(file)?);
            all.extend(args.urls.into_iter().map(|url| of_rules(&robots, url, &agent)));
        }
        None => {
            let origins = Origins::new(Arc::new(Client::new(&config.fetch)?));
            for text in args.urls {
                let url = normalise(&text).map_err(|e| UsageError(e.to_string()))?;
                let say = |verdict, why| Said {
                    url: text.clone(),
                    agent: agent.clone(),
                    verdict,
                    line: None,
                    why,
                    crawl_delay: None,
                    sitemaps: vec![],
                };
                all.push(match origins.answer(&url).await.0.as_deref() {
                    Ok(RobotsAnswer::Rules(robots)) => of_rules(robots, text, &agent),
                    Ok(RobotsAnswer::AllowAll) => say("allowed", "there is no robots.txt".into()),
                    Ok(RobotsAnswer::Unreachable) => say("disallowed", "robots.txt cannot be read".into()),
                    Err(e) => {
                        exit = Exit::Failed;
                        say("disallowed", format!("{}: nothing may be fetched until it can be read", e.message))
                    }
                });
            }
        }
    }
    let one = all.len() == 1;
    for said in all {
        if args.json {
            println!("{}", serde_json::to_string(&said)?);
        } else if one {
            println!("{}\n{}", said.verdict, said.why);
        } else {
            println!("{:<10}  {}  {}", said.verdict, said.url, said.why);
        }
    }
    Ok(exit)
}

fn of_rules(robots: &Robots, url: String, agent: &str) -> Said {
    let verdict = robots.check(agent, &path_of(&url));
    let why = match &verdict.rule {
        Some(rule) => format!("line {}: {}", rule.line, rule.text),
        None => format!("no line forbids it: {}", robots.scope(agent)),
    };
    Said {
        url,
        agent: agent.to_owned(),
        verdict: if verdict.allowed { "allowed" } else { "disallowed" },
        line: verdict.rule.map(|rule| rule.line),
        why,
        crawl_delay: robots.crawl_delay(agent),
        sitemaps: robots.sitemaps().to_vec(),
    }
}

fn read(file: &std::path::Path) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_end(&mut bytes).context("cannot read robots.txt from stdin")?,
        false => std::fs::File::open(file)
            .and_then(|mut f| f.read_to_end(&mut bytes))
            .with_context(|| format!("cannot read {}: name a robots.txt, or '-' for stdin", file.display()))?,
    };
    Ok(bytes)
}
