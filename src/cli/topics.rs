//! `topics`: what there is, what should be, and the way there.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{TopicFlags, Topics as Args};
use super::{Exit, UsageError, format};
use crate::config::Config;
use crate::pipeline::connect;
use crate::topics::{self, Action, Applied, Change, Found, Plan, Refusal, Wish};
use crate::topology::{self, CLEANUP_POLICY, MAX_MESSAGE_BYTES, Names, RETENTION_MS};

/// Runs one of the three.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let (transport, names) = connect(&config).await?;
    let found = topics::look(&*transport, &names).await?;
    let (flags, apply, yes, json) = match args {
        Args::Ls { json } => {
            ls(&names, &found, json)?;
            return Ok(Exit::Done);
        }
        Args::Plan { wish, json } => (wish, false, false, json),
        Args::Apply { wish, yes, json } => (wish, true, yes, json),
    };
    let wish = wish(&flags, &config);
    let plan = topics::plan(&names, &wish, &found);
    // What is refused is left as it is, and somebody should know.
    let exit = if plan.refused.is_empty() { Exit::Done } else { Exit::Failed };
    if !json {
        show(&plan);
    } else if !apply {
        format::print_json(&as_json(&plan))?;
    }
    if !apply {
        return Ok(exit);
    }
    let actions = plan.actions.clone();
    if !actions.is_empty() && !yes && !agreed().await? {
        eprintln!("nothing was changed");
        return Ok(Exit::Failed);
    }
    let applied = if actions.is_empty() {
        Applied::default()
    } else {
        topics::apply(&*transport, &names, &wish, actions, |step| eprintln!("{} …", step_name(step))).await
    };
    if json {
        let mut v = as_json(&plan);
        v["done"] = applied.done.iter().map(action_json).collect();
        v["left"] = applied.left.iter().map(action_json).collect();
        v["error"] = json!(applied.error.as_ref().map(ToString::to_string));
        format::print_json(&v)?;
    }
    ended(applied, exit, json)
}

fn wish(flags: &TopicFlags, config: &Config) -> Wish {
    Wish {
        partitions: flags.partitions,
        replication: Some(config.kafka.replication).filter(|r| *r > 0),
        allow_shorter_retention: flags.allow_shorter_retention,
    }
}

/// What came of it: what is done and what is not.
fn ended(applied: Applied, exit: Exit, json: bool) -> Result<Exit> {
    let Applied { done, left, error } = applied;
    let Some(error) = error else {
        if !json && !done.is_empty() {
            println!("done: the log shows all {} changes", done.len());
        }
        return Ok(exit);
    };
    for (what, actions) in [("done", &done), ("not done", &left)] {
        if !json && !actions.is_empty() {
            let all: Vec<String> = actions.iter().map(|a| format!("{} {}", verb(a), a.topic())).collect();
            println!("{what}: {}", all.join(", "));
        }
    }
    let (n, of) = (left.len(), left.len() + done.len());
    Err(anyhow::Error::from(error).context(format!("{n} of {of} changes are not done; apply again to go on")))
}

/// Asks on the terminal.
pub async fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(UsageError("there is no terminal to ask on: --yes applies without asking".into()).into());
    }
    let answer = tokio::task::spawn_blocking(|| {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"apply? [y/N] "));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    Ok(matches!(answer.await??.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn ls(names: &Names, found: &Found, json: bool) -> Result<()> {
    let table = topology::topics();
    if json {
        let all: Vec<Value> = table
            .iter()
            .map(|t| {
                let name = names.full(&t.name);
                let state = found.topics.get(&name);
                json!({
                    "topic": name, "carries": t.carries, "exists": state.is_some(),
                    "partitions": state.map(|s| s.partitions), "replication": state.and_then(|s| s.replication),
                    "settings": state.map(|s| &s.settings), "inherited": state.map(|s| &s.inherited),
                })
            })
            .collect();
        return format::print_json(&all);
    }
    let mut t = format::table(&["topic", "partitions", "replicas", "cleanup", "keeps", "records up to", "carries"]);
    for topic in &table {
        let name = names.full(&topic.name);
        let Some(state) = found.topics.get(&name) else {
            t.add_row([&*name, "missing", "", "", "", "", &topic.carries]);
            continue;
        };
        let value = |setting| state.get(setting).map_or_else(|| "?".to_owned(), |v| said(setting, v));
        t.add_row(vec![
            name,
            state.partitions.to_string(),
            state.replication.map_or(String::new(), |r| r.to_string()),
            value(CLEANUP_POLICY),
            value(RETENTION_MS),
            value(MAX_MESSAGE_BYTES),
            topic.carries.clone(),
        ]);
    }
    format::print_table(&t);
    Ok(())
}

fn show(plan: &Plan) {
    if plan.actions.is_empty() && plan.refused.is_empty() {
        println!("nothing to do: all {} topics are as they should be", topology::topics().len());
    }
    if !plan.actions.is_empty() {
        let mut t = format::table(&["", "topic", "what"]);
        for a in &plan.actions {
            t.add_row([verb(a), a.topic(), &what(a)]);
        }
        format::print_table(&t);
        println!();
    }
    for Refusal { topics, why, instead } in &plan.refused {
        println!("refused: {}: {why}. Instead: {instead}", topics.join(", "));
    }
    for w in &plan.warnings {
        println!("note: {w}");
    }
    let count = |v: &str| plan.actions.iter().filter(|a| verb(a) == v).count();
    if !plan.actions.is_empty() || !plan.refused.is_empty() {
        println!(
            "{} to create, {} to grow, {} to configure, {} refused",
            count("create"),
            count("grow"),
            count("configure"),
            plan.refused.len()
        );
    }
}

fn verb(a: &Action) -> &'static str {
    match a {
        Action::Create { .. } => "create",
        Action::Grow { .. } => "grow",
        Action::Configure { .. } => "configure",
    }
}

fn what(a: &Action) -> String {
    match a {
        Action::Create { topic } => {
            let settings: Vec<String> = topic.settings().map(|(k, v)| format!("{k}={}", said(k, &v))).into();
            format!("{} partitions, {}", topic.partitions, settings.join(", "))
        }
        Action::Grow { from, to, .. } => format!("{from} → {to} partitions"),
        Action::Configure { changes, .. } => {
            let one = |c: &Change| {
                let from = c.from.as_deref().map_or_else(|| "?".to_owned(), |v| said(c.setting, v));
                format!("{}: {from} → {}", c.setting, said(c.setting, &c.to))
            };
            changes.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

fn step_name(step: &[Action]) -> String {
    match step {
        [one] => format!("{} {}", verb(one), one.topic()),
        [Action::Grow { stage, to, .. }, ..] => format!("grow the {} topics of {stage} to {to} partitions", step.len()),
        [first, ..] => format!("{} {} topics", verb(first), step.len()),
        [] => String::new(),
    }
}

const MIB: u64 = 1 << 20;

/// A setting's value as a person says it; never so that two of them look alike.
fn said(setting: &str, value: &str) -> String {
    let Ok(n) = value.parse::<i64>() else { return value.to_owned() };
    match (setting, u64::try_from(n)) {
        (RETENTION_MS, Err(_)) => "for ever".into(),
        (RETENTION_MS, Ok(ms)) if ms >= 86_400_000 && ms % 86_400_000 == 0 => format!("{} d", ms / 86_400_000),
        (RETENTION_MS, Ok(ms)) => format::duration(Duration::from_millis(ms)),
        (MAX_MESSAGE_BYTES, Ok(bytes)) if bytes % MIB == 0 => format!("{} MiB", bytes / MIB),
        (MAX_MESSAGE_BYTES, Ok(bytes)) => format!("{bytes} B"),
        _ => value.to_owned(),
    }
}

fn as_json(plan: &Plan) -> Value {
    let refused: Vec<_> =
        plan.refused.iter().map(|r| json!({"topics": r.topics, "why": r.why, "instead": r.instead})).collect();
    json!({
        "actions": plan.actions.iter().map(action_json).collect::<Vec<_>>(),
        "refused": refused, "warnings": plan.warnings,
    })
}

fn action_json(a: &Action) -> Value {
    let mut v = json!({"action": verb(a), "topic": a.topic()});
    match a {
        Action::Create { topic } => {
            v["partitions"] = json!(topic.partitions);
            v["settings"] = topic.settings().into_iter().map(|(k, v)| (k.to_owned(), Value::from(v))).collect();
        }
        Action::Grow { stage, from, to, .. } => {
            v["stage"] = json!(stage);
            v["from"] = json!(from);
            v["to"] = json!(to);
        }
        Action::Configure { changes, .. } => {
            let one = |c: &Change| json!({"setting": c.setting, "from": c.from, "to": c.to});
            v["changes"] = changes.iter().map(one).collect();
        }
    }
    v
}
