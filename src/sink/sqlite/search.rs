//! Searching: a query becomes one FTS5 expression in which every word is quoted, and conditions on `documents`.

use std::collections::HashMap;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Row, Transaction, params_from_iter};

use crate::sink::query::{self, Days, Field, Filters, Parsed, Term};
use crate::sink::{Bucket, Facets, Hit, Hits, Query, SearchError};
use crate::sqlite::Readers;

/// Words in a snippet (FTS5 allows 64).
const SNIPPET: i64 = 32;
/// Characters of a snippet when nothing was looked for in the text.
const OPENING: usize = 200;

/// Columns of `search` that a plain word is looked for in.
const WORDS: &str = "{title description text}";

/// Runs a query.
pub async fn run(readers: &Readers, query: &Query) -> Result<Hits, SearchError> {
    let started = Instant::now();
    let plan = Plan::new(&query::read(query).ok_or(SearchError::Empty)?, query);
    let found = readers.query(move |tx| plan.run(tx)).await;
    let (total, hits, facets) = found.map_err(|e| SearchError::Unavailable(e.to_string()))?;
    Ok(Hits { total, hits, facets, took_ms: started.elapsed().as_secs_f64() * 1000.0 })
}

/// What to ask SQLite.
struct Plan {
    /// FTS5 expression; None lists documents, newest first.
    words: Option<String>,
    /// Whether `words` has a prefix in it.
    prefix: bool,
    /// FTS5 expression of what a listing leaves out.
    without: Option<String>,
    conditions: Conditions,
    limit: i64,
    offset: i64,
    facets: i64,
    marks: (String, String),
}

impl Plan {
    fn new(parsed: &Parsed, query: &Query) -> Plan {
        let all = parsed.all.iter().map(|group| any_of(group)).collect::<Vec<_>>().join(" AND ");
        let none = any_of(&parsed.none);
        let (words, without) = match (parsed.all.is_empty(), parsed.none.is_empty()) {
            (false, true) => (Some(all), None),
            (false, false) => (Some(format!("({all}) NOT {none}")), None),
            (true, true) => (None, None),
            (true, false) => (None, Some(none)),
        };
        Plan {
            words,
            prefix: parsed.all.iter().flatten().chain(&parsed.none).any(|t| t.prefix),
            without,
            conditions: Conditions::of(parsed),
            limit: query.limit.min(Query::LARGEST) as i64,
            offset: i64::try_from(query.offset).unwrap_or(i64::MAX),
            facets: query.facets.min(Query::FACETS) as i64,
            marks: query.marks.clone(),
        }
    }

    fn run(&self, tx: &Transaction<'_>) -> rusqlite::Result<(u64, Vec<Hit>, Option<Facets>)> {
        let (source, values) = self.source(false);
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
        let facets = if self.facets > 0 { Some(self.facets(tx)?) } else { None };
        Ok((total as u64, self.hits(tx, &rows)?, facets))
    }

    /// `FROM` and `WHERE` with their values; `with_columns` if those of `documents` are needed besides the conditions.
    fn source(&self, with_columns: bool) -> (String, Vec<Value>) {
        let mut all = Conditions::default();
        let tables = match &self.words {
            Some(words) => {
                all.push("search MATCH ?", [words.clone()]);
                // CROSS JOIN keeps the order: the words first.
                match with_columns || !self.conditions.sql.is_empty() {
                    true => "search CROSS JOIN documents d ON d.n = search.rowid",
                    false => "search",
                }
            }
            None => "documents d",
        };
        if let Some(without) = &self.without {
            all.push("d.n NOT IN (SELECT rowid FROM search WHERE search MATCH ?)", [without.clone()]);
        }
        all.sql.extend_from_slice(&self.conditions.sql);
        all.values.extend_from_slice(&self.conditions.values);
        (format!("FROM {tables} WHERE {}", all.sql.join(" AND ")), all.values)
    }

    fn facets(&self, tx: &Transaction<'_>) -> rusqlite::Result<Facets> {
        let (source, values) = self.source(true);
        let facet = |value: &str, order: &str| {
            let sql = format!(
                "SELECT {value} AS value, count(*) AS count {source} AND value IS NOT NULL
                 GROUP BY value ORDER BY {order} LIMIT {}",
                self.facets
            );
            let bucket = |r: &Row<'_>| Ok(Bucket { value: r.get(0)?, count: r.get::<_, i64>(1)? as u64 });
            tx.prepare(&sql)?.query_map(params_from_iter(&values), bucket)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        Ok(Facets {
            host: facet("lower(d.host)", "count DESC, value")?,
            language: facet("lower(d.language)", "count DESC, value")?,
            date: facet("substr(d.date, 1, 4)", "value DESC")?,
        })
    }

    /// The hits of a page (row, score). Snippets are made here and not before: each one reads a document's whole text.
    fn hits(&self, tx: &Transaction<'_>, page: &[(i64, f64)]) -> rusqlite::Result<Vec<Hit>> {
        const COLUMNS: &str = "d.n, d.id, d.final_url, d.title, d.author, d.host, d.language, d.date, d.fetched_at";
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
                    author: r.get(4)?,
                    host: r.get(5)?,
                    language: r.get(6)?,
                    date: r.get(7)?,
                    fetched_at: r.get(8)?,
                    snippet: one_line(r.get_ref(9)?.as_str().unwrap_or_default()),
                    score: 0.0,
                };
                Ok((r.get(0)?, hit))
            })?
            .collect::<rusqlite::Result<HashMap<i64, Hit>>>()?;
        Ok(page.iter().filter_map(|(n, score)| Some(Hit { score: *score, ..found.remove(n)? })).collect())
    }
}

/// `WHERE`, its parts joined by `AND`.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn of(parsed: &Parsed) -> Conditions {
        const SITE: &str = "d.host = ? OR substr(d.host, -length(?) - 1) = '.' || ?";
        const LANGUAGE: &str = "lower(d.language) = ?";
        let mut all = Conditions::default();
        for (filters, wanted) in [(&parsed.only, true), (&parsed.not, false)] {
            let Filters { sites, languages, dates } = filters;
            all.any(sites.iter().map(|s| (SITE.into(), vec![s.clone(), s.clone(), s.clone()])).collect(), wanted);
            all.any(languages.iter().map(|l| (LANGUAGE.into(), vec![l.clone()])).collect(), wanted);
            all.any(dates.iter().map(within).collect(), wanted);
        }
        if parsed.span != Days::default() {
            all.any(vec![within(&parsed.span)], true);
        }
        all
    }

    fn push<const N: usize>(&mut self, sql: &str, values: [String; N]) {
        self.sql.push(sql.to_owned());
        self.values.extend(values.map(Value::from));
    }

    /// One of these holds; or none does, also where nothing is known.
    fn any(&mut self, conditions: Vec<(String, Vec<String>)>, wanted: bool) {
        if conditions.is_empty() {
            return;
        }
        let (sql, values): (Vec<_>, Vec<_>) = conditions.into_iter().unzip();
        let not = if wanted { "" } else { " IS NOT TRUE" };
        self.sql.push(format!("(({}){not})", sql.join(" OR ")));
        self.values.extend(values.into_iter().flatten().map(Value::from));
    }
}

/// Dates are text, `YYYY-MM-DD`, which is in order.
fn within(days: &Days) -> (String, Vec<String>) {
    let ends = [("d.date >= ?", days.from), ("d.date < ?", days.until)];
    let (sql, values): (Vec<_>, Vec<_>) = ends.into_iter().filter_map(|(sql, d)| Some((sql, d?.to_string()))).unzip();
    (format!("({})", sql.join(" AND ")), values)
}

/// `({title} : "a" OR {title} : "b" *)`. Quotes cannot be in a term, so nothing in it is syntax.
fn any_of(terms: &[Term]) -> String {
    let one = |t: &Term| {
        let column = match t.field {
            Field::Words => WORDS,
            Field::Title => "title",
            Field::Author => "author",
            Field::Url => "final_url",
        };
        format!("{column} : \"{}\"{}", t.text, if t.prefix { " *" } else { "" })
    };
    format!("({})", terms.iter().map(one).collect::<Vec<_>>().join(" OR "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
