//! Searching: a query becomes one FTS5 expression in which every word is quoted, and conditions on `documents`.

use std::collections::HashMap;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Transaction, params_from_iter};

use crate::sink::query::{self, Parsed, Term};
use crate::sink::{Hit, Hits, Query, SearchError};
use crate::sqlite::Readers;

/// Words in a snippet (FTS5 allows 64).
const SNIPPET: i64 = 32;
/// Characters of a snippet when nothing was looked for in the text.
const OPENING: usize = 200;

/// Runs a query.
pub async fn run(readers: &Readers, query: &Query) -> Result<Hits, SearchError> {
    let started = Instant::now();
    let mut parsed = query::parse(&query.text);
    let plan = Plan::new(&mut parsed, query).ok_or(SearchError::Empty)?;
    let found = readers.query(move |tx| plan.run(tx)).await;
    let (total, hits) = found.map_err(|e| SearchError::Unavailable(e.to_string()))?;
    Ok(Hits { total, hits, took_ms: started.elapsed().as_secs_f64() * 1000.0 })
}

/// What to ask SQLite.
struct Plan {
    /// FTS5 expression; None lists documents, newest first.
    words: Option<String>,
    /// Whether `words` has a prefix in it.
    prefix: bool,
    /// FTS5 expression of what a listing leaves out.
    without: Option<String>,
    /// Languages, and hosts, each empty for any.
    languages: Vec<String>,
    hosts: Vec<String>,
    limit: i64,
    offset: i64,
    marks: (String, String),
}

impl Plan {
    fn new(parsed: &mut Parsed, query: &Query) -> Option<Plan> {
        if parsed.is_empty() && query.site.is_none() && query.language.is_none() {
            return None;
        }
        // What the caller fixes stands in place of what is typed.
        let narrow =
            |fixed: Option<String>, typed: &mut Vec<String>| fixed.map_or_else(|| std::mem::take(typed), |f| vec![f]);
        let all = parsed.all.iter().map(|group| any_of(group)).collect::<Vec<_>>().join(" AND ");
        let none = any_of(&parsed.none);
        let (words, without) = match (parsed.all.is_empty(), parsed.none.is_empty()) {
            (false, true) => (Some(all), None),
            (false, false) => (Some(format!("({all}) NOT {none}")), None),
            (true, true) => (None, None),
            (true, false) => (None, Some(none)),
        };
        Some(Plan {
            words,
            prefix: parsed.all.iter().flatten().chain(&parsed.none).any(|t| t.prefix),
            without,
            languages: narrow(query.language.as_ref().map(|l| l.to_lowercase()), &mut parsed.languages),
            hosts: narrow(query.site.as_deref().map(query::host), &mut parsed.sites),
            limit: query.limit.min(Query::LARGEST) as i64,
            offset: i64::try_from(query.offset).unwrap_or(i64::MAX),
            marks: query.marks.clone(),
        })
    }

    fn run(&self, tx: &Transaction<'_>) -> rusqlite::Result<(u64, Vec<Hit>)> {
        let (source, values) = self.source();
        let total: i64 = tx
            .prepare_cached(&format!("SELECT count(*) {source}"))?
            .query_row(params_from_iter(&values), |r| r.get(0))?;
        let (score, order) = match self.words {
            Some(_) => ("-search.rank", "search.rank, search.rowid"),
            None => ("0.0", "d.fetched_at DESC, d.n"),
        };
        let n = if self.words.is_some() { "search.rowid" } else { "d.n" };
        let page = format!("SELECT {n}, {score} {source} ORDER BY {order} LIMIT ? OFFSET ?");
        let mut values = values;
        values.extend([Value::from(self.limit), Value::from(self.offset)]);
        let rows = tx
            .prepare_cached(&page)?
            .query_map(params_from_iter(&values), |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(i64, f64)>>>()?;
        Ok((total as u64, self.hits(tx, &rows)?))
    }

    /// `FROM` and `WHERE` with their values.
    fn source(&self) -> (String, Vec<Value>) {
        let mut values = vec![];
        let mut conditions = vec![];
        let filtered = !self.languages.is_empty() || !self.hosts.is_empty();
        let tables = match &self.words {
            Some(words) => {
                conditions.push("search MATCH ?".to_owned());
                values.push(Value::from(words.clone()));
                // CROSS JOIN keeps the order: the words first.
                if filtered { "search CROSS JOIN documents d ON d.n = search.rowid" } else { "search" }
            }
            None => "documents d",
        };
        if let Some(without) = &self.without {
            conditions.push("d.n NOT IN (SELECT rowid FROM search WHERE search MATCH ?)".to_owned());
            values.push(Value::from(without.clone()));
        }
        let mut any = |condition: &str, wanted: &[String]| {
            if !wanted.is_empty() {
                conditions.push(format!("({})", vec![condition; wanted.len()].join(" OR ")));
                let times = condition.matches('?').count();
                values.extend(wanted.iter().flat_map(|w| std::iter::repeat_n(Value::from(w.clone()), times)));
            }
        };
        any("lower(d.language) = ?", &self.languages);
        any("d.host = ? OR substr(d.host, -length(?) - 1) = '.' || ?", &self.hosts);
        (format!("FROM {tables} WHERE {}", conditions.join(" AND ")), values)
    }

    /// The hits of a page (row, score). Snippets are made here and not before: each one reads a document's whole text.
    fn hits(&self, tx: &Transaction<'_>, page: &[(i64, f64)]) -> rusqlite::Result<Vec<Hit>> {
        const COLUMNS: &str = "d.n, d.id, d.final_url, d.title, d.host, d.language, d.date, d.fetched_at";
        let rows = page.iter().map(|(n, _)| n.to_string()).collect::<Vec<_>>().join(", ");
        let (sql, values) = match &self.words {
            Some(words) => {
                // FTS5 can go to a row directly, but gathers all words of a prefix anew for each one; the plus sign has
                // it go through the matches once instead.
                let plus = if self.prefix { "+" } else { "" };
                let sql = format!(
                    "SELECT {COLUMNS}, snippet(search, 2, ?, ?, '…', {SNIPPET})
                     FROM search CROSS JOIN documents d ON d.n = search.rowid
                     WHERE search MATCH ? AND {plus}search.rowid IN ({rows})"
                );
                (sql, vec![&self.marks.0, &self.marks.1, words])
            }
            None => {
                let opening = format!("substr(d.text, 1, {OPENING})");
                (format!("SELECT {COLUMNS}, {opening} FROM documents d WHERE d.n IN ({rows})"), vec![])
            }
        };
        let mut found = tx
            .prepare(&sql)?
            .query_map(params_from_iter(values), |r| {
                let hit = Hit {
                    id: r.get(1)?,
                    url: r.get(2)?,
                    title: r.get(3)?,
                    host: r.get(4)?,
                    language: r.get(5)?,
                    date: r.get(6)?,
                    fetched_at: r.get(7)?,
                    snippet: one_line(r.get_ref(8)?.as_str().unwrap_or_default()),
                    score: 0.0,
                };
                Ok((r.get(0)?, hit))
            })?
            .collect::<rusqlite::Result<HashMap<i64, Hit>>>()?;
        Ok(page.iter().filter_map(|(n, score)| Some(Hit { score: *score, ..found.remove(n)? })).collect())
    }
}

/// `("a" OR "b" *)`. Quotes cannot be in a term, so nothing in it is syntax.
fn any_of(terms: &[Term]) -> String {
    let terms: Vec<String> =
        terms.iter().map(|t| format!("\"{}\"{}", t.text, if t.prefix { " *" } else { "" })).collect();
    format!("({})", terms.join(" OR "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
