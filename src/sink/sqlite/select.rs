//! Documents by where they come from.

use rusqlite::params;

use crate::sink::{SearchError, Selected, Selection, query};
use crate::sqlite::Readers;

/// How many there are, and `limit` of them.
pub async fn run(readers: &Readers, which: &Selection, limit: usize) -> Result<(u64, Vec<Selected>), SearchError> {
    let (condition, value) = match which {
        Selection::Url(url) => ("url = ?1 OR final_url = ?1", url.clone()),
        Selection::Host(host) => ("host = ?1 OR substr(host, -length(?1) - 1) = '.' || ?1", query::host(host)),
    };
    let found = readers.query(move |tx| {
        let count = format!("SELECT count(*) FROM documents WHERE {condition}");
        let total: i64 = tx.prepare_cached(&count)?.query_row(params![value], |r| r.get(0))?;
        let page = format!("SELECT id, final_url, host FROM documents WHERE {condition} ORDER BY n LIMIT ?2");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx
            .prepare_cached(&page)?
            .query_map(params![value, limit], |r| Ok(Selected { id: r.get(0)?, url: r.get(1)?, host: r.get(2)? }))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok((total as u64, rows))
    });
    found.await.map_err(|e| SearchError::Unavailable(e.to_string()))
}
