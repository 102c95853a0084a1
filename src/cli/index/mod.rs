//! `index`: what the index on OpenSearch should be, and the way there; what is taken out of any.

mod delete;
mod reindex;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::args::Index as Args;
use crate::cli::{Exit, UsageError, format, topics};
use crate::config::Config;
use crate::sink::opensearch::client::Client;
use crate::sink::opensearch::index::{self, Action, Plan, Refusal};
use crate::sink::opensearch::schema::Schema;

/// Runs one of them.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    if let Args::Delete(what) = args {
        return delete::run(what, config).await;
    }
    if !config.opensearch.is_set() {
        let why = "the embedded index is always as it should be; name an OpenSearch cluster with --opensearch or opensearch.url";
        return Err(UsageError(why.into()).into());
    }
    let client = Client::new(&config.opensearch).map_err(UsageError)?;
    let schema = Schema::of(&config.opensearch, &config.prefix).map_err(UsageError)?;
    if let Args::Reindex { yes, delete_old, force, json } = args {
        return reindex::run(&client, &schema, &reindex::Wish { yes, delete_old, force, json }).await;
    }
    let plan = index::plan(&schema, &index::look(&client, &schema).await?);
    let (apply, yes, json) = match args {
        Args::Plan { json } => (false, false, json),
        Args::Apply { yes, json } => (true, yes, json),
        Args::Reindex { .. } | Args::Delete(_) => return Ok(Exit::Usage),
    };
    // What is refused is left as it is, and somebody should know.
    let exit = if plan.refused.is_empty() { Exit::Done } else { Exit::Failed };
    if !json {
        show(&schema, &plan);
    } else if !apply {
        format::print_json(&as_json(&plan))?;
    }
    if !apply {
        return Ok(exit);
    }
    if !plan.actions.is_empty() && !yes && !topics::agreed().await? {
        eprintln!("nothing was changed");
        return Ok(Exit::Failed);
    }
    for action in &plan.actions {
        eprintln!("{} {} …", verb(action), action.name());
        index::apply(&client, action).await?;
    }
    // The cluster itself says what is done.
    let left = index::plan(&schema, &index::look(&client, &schema).await?);
    if json {
        let mut v = as_json(&plan);
        v["left"] = left.actions.iter().map(action_json).collect();
        format::print_json(&v)?;
    }
    anyhow::ensure!(
        left.actions.is_empty(),
        "the cluster confirmed the changes and does not show all of them; look again with `tidemill index plan`"
    );
    if !json && !plan.actions.is_empty() {
        println!("done: the cluster shows all {} changes", plan.actions.len());
    }
    Ok(exit)
}

fn show(schema: &Schema, plan: &Plan) {
    if plan.actions.is_empty() && plan.refused.is_empty() {
        println!("nothing to do: {} is as it should be", schema.alias);
        return;
    }
    if !plan.actions.is_empty() {
        let mut t = format::table(&["", "name", "what"]);
        for a in &plan.actions {
            t.add_row([verb(a), a.name(), &what(a)]);
        }
        format::print_table(&t);
        println!();
    }
    for Refusal { name, why, instead } in &plan.refused {
        println!("refused: {name}: {why}. Instead: {instead}");
    }
    println!("{} to do, {} refused", plan.actions.len(), plan.refused.len());
}

fn verb(a: &Action) -> &'static str {
    match a {
        Action::PutTemplate { new: true, .. } | Action::CreateIndex { .. } => "create",
        Action::PutTemplate { new: false, .. } => "change",
        Action::AddAlias { .. } | Action::AddFields { .. } => "extend",
    }
}

fn what(a: &Action) -> String {
    match a {
        Action::PutTemplate { new: true, .. } => "template of new indices: fields, analyzers".into(),
        Action::PutTemplate { new: false, .. } => {
            "template: fields and analyzers as they should be; what others have set stays".into()
        }
        Action::CreateIndex { body, .. } => {
            let shards = body["settings"]["index"]["number_of_shards"].as_str().unwrap_or("1");
            format!("index of {shards} shards, with its alias")
        }
        Action::AddAlias { alias, .. } => format!("alias {alias}"),
        Action::AddFields { fields, .. } => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!("fields {}; documents are found by them when they are indexed again", names.join(", "))
        }
    }
}

fn as_json(plan: &Plan) -> Value {
    let refused: Vec<_> =
        plan.refused.iter().map(|r| json!({"name": r.name, "why": r.why, "instead": r.instead})).collect();
    json!({"actions": plan.actions.iter().map(action_json).collect::<Vec<_>>(), "refused": refused})
}

fn action_json(a: &Action) -> Value {
    let body = match a {
        Action::PutTemplate { body, .. } | Action::CreateIndex { body, .. } => body.clone(),
        Action::AddAlias { alias, .. } => json!({"alias": alias}),
        Action::AddFields { fields, .. } => json!({"properties": fields}),
    };
    json!({"action": verb(a), "name": a.name(), "what": what(a), "body": body})
}
