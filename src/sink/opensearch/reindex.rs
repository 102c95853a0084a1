//! A new index in the place of the old one, while documents go on being written. For what cannot be changed in place: the
//! type or analyzer of a field, the number of shards.
//!
//! ```text
//! make the new one ─► note how far the old one is written (sequence numbers), refresh, copy all
//!                  ─► copy what was written meanwhile, until that is little
//!                  ─► block writes to the old one, refresh, copy the rest ─► move the alias
//! ```
//!
//! - Ids and versions are copied (`external_gte`), tombstones too: nothing older than what is there comes in, before or
//!   after.
//! - A note is taken before the refresh, and the refresh before the copy: so what the copy did not see is behind the note.
//! - While writes are blocked (seconds), the sender is refused and sends again ([`super::bulk`]), to the new index.
//! - Cut short, it is run again: what is copied already is copied over, a task that still runs on the server is ended
//!   first, and a new index that was begun with other fields or shards than are wanted now is made anew. The old index is
//!   blocked only when all but the rest is copied. Cut short just after the alias moved, nothing is left to do.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::client::{Client, Method};
use super::index::{self, IndexError, accepted, get};
use super::schema::Schema;

/// Pause between two looks at a task.
const LOOK: Duration = Duration::from_millis(200);
/// So few documents are little: they are copied while writes are blocked.
const LITTLE: u64 = 1_000;
/// Rounds of catching up, at most: a stage that writes faster than the server copies is blocked in the end.
const ROUNDS: usize = 10;

/// From where to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub from: String,
    pub to: String,
    /// The new one is there already: an earlier try was cut short.
    pub begun: bool,
    /// The old one is as the schema says, fields and shards: there is no need.
    pub needless: bool,
}

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Copying { done: u64, total: u64 },
    CatchingUp,
    Moving,
}

type Result<T> = std::result::Result<T, IndexError>;

/// What would be done.
pub async fn way(client: &Client, schema: &Schema) -> Result<Way> {
    let alias = &schema.alias;
    let found = index::look(client, schema).await?;
    let behind = |(_, index): &(&String, &Json)| !index["aliases"][alias].is_null();
    let behind: Vec<&String> = found.indices.iter().filter(behind).map(|(name, _)| name).collect();
    let [from] = behind[..] else {
        return Err(IndexError::Refused(match behind.len() {
            0 => format!("there is no index behind {alias}; `tidemill index apply` makes one"),
            n => format!(
                "there are {n} indices behind {alias}; leave one, and move the documents of the others by _reindex"
            ),
        }));
    };
    let number = from.rsplit('-').next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(1);
    let to = format!("{alias}-{:06}", number + 1);
    let begun = get(client, &format!("/{to}")).await?.is_some();
    Ok(Way { from: from.clone(), to, begun, needless: index::as_wanted(schema, from, &found.indices[from]) })
}

/// Does it; returns how many documents were copied.
pub async fn run(client: &Client, schema: &Schema, way: &Way, mut tell: impl FnMut(Step)) -> Result<u64> {
    end_earlier(client, way).await?;
    let target = get(client, &format!("/{}", way.to)).await?;
    let fits = target.as_ref().map(|found| index::as_wanted(schema, &way.to, &found[&way.to]));
    if fits == Some(false) {
        delete(client, &way.to).await?;
    }
    if fits != Some(true) {
        let mut body = schema.first_index();
        // The alias comes at the end.
        body["aliases"] = json!({});
        post(client, Method::Put, &format!("/{}", way.to), &body, "the new index").await?;
    }
    let mut note = written(client, &way.from).await?;
    refresh(client, &way.from).await?;
    let mut copied = copy(client, way, None, &mut tell).await?;
    tell(Step::CatchingUp);
    for _ in 0..ROUNDS {
        let since = std::mem::replace(&mut note, written(client, &way.from).await?);
        refresh(client, &way.from).await?;
        let more = copy(client, way, Some(since), &mut |_| {}).await?;
        copied += more;
        if more <= LITTLE {
            break;
        }
    }
    tell(Step::Moving);
    let moved = finish(client, schema, way, note).await;
    if moved.is_err() {
        // Writing goes on where it was.
        let _blocked = block(client, &way.from, false).await;
    }
    Ok(copied + moved?)
}

/// The rest, and the alias.
async fn finish(client: &Client, schema: &Schema, way: &Way, note: i64) -> Result<u64> {
    block(client, &way.from, true).await?;
    refresh(client, &way.from).await?;
    let rest = copy(client, way, Some(note), &mut |_| {}).await?;
    refresh(client, &way.to).await?;
    let actions = json!({"actions": [
        {"add": {"index": way.to, "alias": schema.alias, "is_write_index": true}},
        {"remove": {"index": way.from, "alias": schema.alias}},
    ]});
    post(client, Method::Post, "/_aliases", &actions, "to move the alias").await?;
    Ok(rest)
}

/// Deletes an index that nobody needs any more.
pub async fn delete(client: &Client, name: &str) -> Result<()> {
    let answer = client.json(Method::Delete, &format!("/{name}"), None).await?;
    accepted(&answer, &format!("to delete {name}"))
}

async fn post(client: &Client, method: Method, path: &str, body: &Json, what: &str) -> Result<Json> {
    let answer = client.json(method, path, Some(body)).await?;
    accepted(&answer, what)?;
    Ok(answer.json())
}

async fn refresh(client: &Client, name: &str) -> Result<()> {
    let answer = client.json(Method::Post, &format!("/{name}/_refresh"), None).await?;
    accepted(&answer, "to refresh")
}

async fn block(client: &Client, name: &str, on: bool) -> Result<()> {
    if on {
        // Unlike the setting, this returns when writes that were on their way have finished.
        let answer = client.json(Method::Put, &format!("/{name}/_block/write"), None).await?;
        return accepted(&answer, "to block writes");
    }
    let body = json!({"index": {"blocks": {"write": false}}});
    post(client, Method::Put, &format!("/{name}/_settings"), &body, "to allow writes").await.map(drop)
}

/// Up to which sequence number all shards have everything (their local checkpoint): the least of them, so that what is behind it in some
/// shard is copied once more and nothing is missed.
async fn written(client: &Client, name: &str) -> Result<i64> {
    let answer = client.json(Method::Get, &format!("/{name}/_stats?level=shards"), None).await?;
    accepted(&answer, "to show how far it is written")?;
    let stats = answer.json();
    let copies = stats["indices"][name]["shards"].as_object().into_iter().flat_map(|shards| shards.values());
    let primary = |copies: &Json| {
        let copies = copies.as_array()?;
        let primary = copies.iter().find(|c| c["routing"]["primary"] == true)?;
        primary["seq_no"]["local_checkpoint"].as_i64()
    };
    Ok(copies.map(|c| primary(c).unwrap_or(-1)).min().unwrap_or(-1))
}

/// Copies what was written after a note, or all; returns how many documents that were.
async fn copy(client: &Client, way: &Way, since: Option<i64>, tell: &mut impl FnMut(Step)) -> Result<u64> {
    let mut source = json!({"index": way.from, "size": 500});
    if let Some(note) = since {
        source["query"] = json!({"range": {"_seq_no": {"gt": note}}});
    }
    let body = json!({
        "conflicts": "proceed",
        "source": source,
        "dest": {"index": way.to, "version_type": "external_gte"},
        "script": {"lang": "painless", "source": STEMMED},
    });
    let path = "/_reindex?wait_for_completion=false";
    let started = post(client, Method::Post, path, &body, "to copy the index").await?;
    let task = started["task"].as_str().unwrap_or_default().to_owned();
    loop {
        let answer = client.json(Method::Get, &format!("/_tasks/{task}"), None).await?;
        accepted(&answer, "to show how the copy goes")?;
        let seen = answer.json();
        let of = |name: &str| seen["task"]["status"][name].as_u64().unwrap_or(0);
        let done = of("created") + of("updated") + of("version_conflicts");
        tell(Step::Copying { done, total: of("total") });
        if seen["completed"] == true {
            let failures = &seen["response"]["failures"];
            // One that somebody has cancelled ends without a failure.
            let cancelled = !seen["response"]["canceled"].is_null() || !seen["task"]["status"]["canceled"].is_null();
            let whole = !cancelled && seen["error"].is_null() && failures.as_array().is_none_or(Vec::is_empty);
            let cut = json!("it was cancelled");
            let why = match (cancelled, seen["error"].is_null()) {
                (true, _) => &cut,
                (_, true) => &failures[0],
                _ => &seen["error"],
            };
            return match whole {
                true => Ok(of("created") + of("updated")),
                false => Err(IndexError::Refused(format!("the copy broke off: {why}; run it again, and it goes on"))),
            };
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A copy that an earlier try left running on the server.
async fn end_earlier(client: &Client, way: &Way) -> Result<()> {
    let answer = client.json(Method::Get, "/_tasks?actions=*reindex&detailed&group_by=none", None).await?;
    accepted(&answer, "to show its tasks")?;
    let tasks = answer.json();
    let ours = |t: &&Json| t["description"].as_str().is_some_and(|d| d.contains(&format!("[{}]", way.to)));
    for task in tasks["tasks"].as_array().into_iter().flatten().filter(ours) {
        let id = format!("{}:{}", task["node"].as_str().unwrap_or_default(), task["id"]);
        let path = format!("/_tasks/{id}/_cancel?wait_for_completion=true");
        let ended = client.json(Method::Post, &path, None).await?;
        accepted(&ended, "to end an earlier copy")?;
    }
    Ok(())
}

/// What is found by and not kept is made again.
const STEMMED: &str = "if (ctx._source.language != null) { ctx._source.stemmed = \
    [ctx._source.language.toLowerCase(): [ctx._source.title, ctx._source.description, ctx._source.text]] }";
