//! Documents by where they come from, and tombstones by their age.

use serde_json::{Value as Json, json};

use super::client::{Answer, Client, Method};
use super::schema;
use crate::sink::{SearchError, Selected, Selection, SinkError, query};

/// How many there are, and `limit` of them.
pub async fn run(
    client: &Client,
    alias: &str,
    which: &Selection,
    limit: usize,
) -> Result<(u64, Vec<Selected>), SearchError> {
    let condition = match which {
        Selection::Url(url) => json!({"bool": {"should": [{"term": {"url": url}}, {"term": {"final_url": url}}]}}),
        Selection::Host(host) => json!({"term": {"domains": query::host(host)}}),
    };
    let body = json!({
        "query": {"bool": {"filter": [condition], "must_not": [schema::gone()]}},
        "size": limit.min(10_000),
        "sort": [{"id": "asc"}],
        "track_total_hits": true,
        "_source": ["final_url", "host"],
    });
    let answer = client.json(Method::Post, &format!("/{alias}/_search"), Some(&body)).await;
    let answer = answer.map_err(|e| SearchError::Unavailable(e.to_string()))?;
    match answer.status {
        // Nothing was ever put.
        404 => return Ok((0, vec![])),
        _ if !answer.is_success() => return Err(SearchError::Unavailable(answer.said("the search"))),
        _ => {}
    }
    let found = answer.json();
    let text = |v: &Json| v.as_str().unwrap_or_default().to_owned();
    let selected = |hit: &Json| Selected {
        id: text(&hit["_id"]),
        url: text(&hit["_source"]["final_url"]),
        host: text(&hit["_source"]["host"]),
    };
    let hits = found["hits"]["hits"].as_array().map(|hits| hits.iter().map(selected).collect());
    Ok((found["hits"]["total"]["value"].as_u64().unwrap_or(0), hits.unwrap_or_default()))
}

/// Removes tombstones older than this (Unix ms); one that is written anew meanwhile stays.
pub async fn sweep(client: &Client, alias: &str, before: i64) -> Result<u64, SinkError> {
    let query = json!({"query": {"bool": {"filter": [schema::gone(), {"range": {"fetched_at": {"lt": before}}}]}}});
    let path = format!("/{alias}/_delete_by_query?conflicts=proceed");
    let unavailable = SinkError::Unavailable;
    let answer: Answer =
        client.json(Method::Post, &path, Some(&query)).await.map_err(|e| unavailable(e.to_string()))?;
    match answer.status {
        404 => Ok(0),
        _ if answer.is_success() => Ok(answer.json()["deleted"].as_u64().unwrap_or(0)),
        _ => Err(unavailable(answer.said("to sweep tombstones"))),
    }
}
