//! `GET /search`: the index, as JSON.
//!
//! | parameter | |
//! |---|---|
//! | `q` | the query, in the language of [`crate::sink::query`] |
//! | `site`, `lang` | only these, whatever `q` says |
//! | `limit`, `offset` | hits wanted (10, at most 1,000), hits to skip |
//! | `facets` | values wanted of each facet; none unless asked for |
//! | `pre_tag`, `post_tag` | put around the words found in a snippet (`**`). Snippets are plain text: escape them for HTML |
//!
//! 200 with [`Hits`](crate::sink::Hits); 400 where the parameters ask for nothing, 503 while the index is away, both with
//! `{"error": "…"}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::sink::{Query, Search, SearchError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default)]
    q: String,
    site: Option<String>,
    lang: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
    facets: Option<usize>,
    pre_tag: Option<String>,
    post_tag: Option<String>,
}

impl From<Wanted> for Query {
    fn from(w: Wanted) -> Query {
        let all = Query::new(w.q);
        Query {
            site: w.site,
            language: w.lang,
            limit: w.limit.unwrap_or(all.limit),
            offset: w.offset.unwrap_or(all.offset),
            facets: w.facets.unwrap_or(all.facets),
            marks: (w.pre_tag.unwrap_or(all.marks.0), w.post_tag.unwrap_or(all.marks.1)),
            text: all.text,
        }
    }
}

/// Searches.
pub async fn get(State(index): State<Arc<dyn Search>>, wanted: Result<Parameters<Wanted>, QueryRejection>) -> Response {
    let no = |status: StatusCode, why: String| (status, Json(json!({"error": why}))).into_response();
    let wanted = match wanted {
        Ok(Parameters(wanted)) => wanted,
        Err(e) => return no(StatusCode::BAD_REQUEST, e.body_text()),
    };
    match index.search(&wanted.into()).await {
        Ok(hits) => Json(hits).into_response(),
        Err(e @ SearchError::Empty) => no(StatusCode::BAD_REQUEST, e.to_string()),
        Err(e @ SearchError::Unavailable(_)) => no(StatusCode::SERVICE_UNAVAILABLE, e.to_string()),
    }
}
