//! Searching: a query becomes one request in OpenSearch's query DSL. Nothing that is typed is syntax there.
//!
//! A word is looked for as it is written (without case and accents) in title, description and text, and in its other forms
//! in the field of each language. A phrase, a beginning (`word*`), what must not be there and what is asked of one field are
//! taken as written.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::client::{Client, Method};
use super::schema;
use crate::sink::query::{self, Days, Field, Filters, Parsed, Term};
use crate::sink::{Bucket, Facets, Hit, Hits, Query, SearchError};

/// How much a word counts by where it is.
const FIELDS: [&str; 3] = ["title^8", "description^2", "text"];
/// And in one of its other forms.
const STEMMED: &str = "^0.5";
/// Words of a query that are looked for in their other forms too: each field of each word is a clause, and a server takes
/// 1,024 (`indices.query.bool.max_clause_count`).
const FORMS: usize = 32;
/// Words that a phrase's unfinished last one is tried as.
const EXPANSIONS: u32 = 200;
/// Characters of a snippet.
const SNIPPET: u32 = 200;
/// Characters of a text in which the words of a snippet are looked for.
const ANALYZED: u32 = 500_000;
/// Hits that can be turned to (`index.max_result_window`).
const WINDOW: usize = 10_000;

/// Runs a query over what is behind the alias. Hits beyond the first 10,000 are counted and not shown.
pub async fn run(client: &Client, alias: &str, query: &Query) -> Result<Hits, SearchError> {
    let started = Instant::now();
    let parsed = query::read(query).ok_or(SearchError::Empty)?;
    let body = request(&parsed, query);
    let unavailable = |why: String| SearchError::Unavailable(why);
    let answer = client.json(Method::Post, &format!("/{alias}/_search"), Some(&body)).await;
    let answer = answer.map_err(|e| unavailable(e.to_string()))?;
    if !answer.is_success() {
        return Err(unavailable(match answer.status {
            404 => format!("there is no index {alias}; run something first, or make it with `tidemill index apply`"),
            _ => answer.said("the search"),
        }));
    }
    let found: Found = serde_json::from_slice(&answer.body)
        .map_err(|e| unavailable(format!("OpenSearch's answer to a search is none: {e}")))?;
    let listed = parsed.all.is_empty();
    let hits = found.hits.hits.into_iter().map(|hit| hit.read(listed)).collect();
    let facets = found.aggregations.map(FoundFacets::read);
    Ok(Hits { total: found.hits.total.value, hits, facets, took_ms: started.elapsed().as_secs_f64() * 1000.0 })
}

#[derive(Deserialize)]
struct Found {
    hits: FoundHits,
    aggregations: Option<FoundFacets>,
}

#[derive(Deserialize)]
struct FoundFacets {
    host: FoundFacet,
    language: FoundFacet,
    date: FoundFacet,
}

#[derive(Deserialize)]
struct FoundFacet {
    buckets: Vec<FoundBucket>,
}

#[derive(Deserialize)]
struct FoundBucket {
    /// The value; of dates a number, and as text in the other.
    key: Json,
    key_as_string: Option<String>,
    doc_count: u64,
}

impl FoundFacets {
    fn read(self) -> Facets {
        let bucket = |b: FoundBucket| {
            let key = || b.key.as_str().map(str::to_owned);
            Some(Bucket { value: b.key_as_string.or_else(key)?, count: b.doc_count })
        };
        let buckets = |facet: FoundFacet| facet.buckets.into_iter().filter_map(bucket).collect();
        Facets { host: buckets(self.host), language: buckets(self.language), date: buckets(self.date) }
    }
}

#[derive(Deserialize)]
struct FoundHits {
    total: Total,
    hits: Vec<FoundHit>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct FoundHit {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_score")]
    score: Option<f64>,
    #[serde(rename = "_source", default)]
    source: Source,
    #[serde(default)]
    highlight: Highlight,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Source {
    final_url: String,
    host: String,
    title: Option<String>,
    author: Option<String>,
    language: Option<String>,
    date: Option<String>,
    fetched_at: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Highlight {
    text: Vec<String>,
}

impl FoundHit {
    fn read(self, listed: bool) -> Hit {
        let Source { final_url, host, title, author, language, date, fetched_at } = self.source;
        let snippet = self.highlight.text.first().map(String::as_str).unwrap_or_default();
        Hit {
            id: self.id,
            url: final_url,
            title,
            author,
            host,
            language,
            date,
            snippet: snippet.split_whitespace().collect::<Vec<_>>().join(" "),
            score: if listed { 0.0 } else { self.score.unwrap_or_default() },
            fetched_at,
        }
    }
}

/// The request.
fn request(parsed: &Parsed, query: &Query) -> Json {
    let mut filters: Vec<Json> = conditions(&parsed.only).into_iter().map(any).collect();
    if parsed.span != Days::default() {
        filters.push(within(&parsed.span));
    }
    let mut without: Vec<Json> = parsed.none.iter().map(as_written).collect();
    without.extend(conditions(&parsed.not).into_iter().flatten());
    without.push(schema::gone());
    let languages = &parsed.only.languages;
    let words = parsed.all.iter().flatten().count();
    let forms: Vec<String> = schema::languages()
        .filter(|code| words <= FORMS && (languages.is_empty() || languages.iter().any(|l| l == code)))
        .map(|code| format!("stemmed.{code}{STEMMED}"))
        .collect();
    let group = |terms: &Vec<Term>| any(terms.iter().map(|t| wanted(t, &forms)).collect());
    let plain = parsed.all.iter().flatten().filter(|t| t.field == Field::Words);
    let shown: Vec<Json> = plain.map(|t| in_fields(t, &["text"])).collect();
    let from = query.offset.min(WINDOW);
    let sort = if parsed.all.is_empty() { json!({"fetched_at": "desc"}) } else { json!({"_score": "desc"}) };
    let mut highlight = json!({
        "pre_tags": [query.marks.0], "post_tags": [query.marks.1],
        "max_analyzer_offset": ANALYZED,
        "fields": {"text": {"type": "unified", "number_of_fragments": 1, "fragment_size": SNIPPET, "no_match_size": SNIPPET}},
    });
    if !shown.is_empty() {
        highlight["highlight_query"] = any(shown);
    }
    let mut request = json!({
        "query": {"bool": {
            "must": parsed.all.iter().map(group).collect::<Vec<_>>(),
            "must_not": without,
            "filter": filters,
        }},
        "from": from,
        "size": query.limit.min(Query::LARGEST).min(WINDOW - from),
        "sort": [sort, {"id": "asc"}],
        "track_scores": true,
        "track_total_hits": true,
        "_source": ["final_url", "host", "title", "author", "language", "date", "fetched_at"],
        "highlight": highlight,
    });
    if query.facets > 0 {
        request["aggs"] = facets(query.facets.min(Query::FACETS));
    }
    request
}

/// Those of most documents first, of equally many in order; years from the newest.
fn facets(size: usize) -> Json {
    let most =
        |field: &str| json!({"terms": {"field": field, "size": size, "order": [{"_count": "desc"}, {"_key": "asc"}]}});
    json!({
        "host": most("host"),
        "language": most("language"),
        "date": {
            "date_histogram": {"field": "date", "calendar_interval": "year", "format": "yyyy", "min_doc_count": 1, "order": {"_key": "desc"}},
            "aggs": {"newest": {"bucket_sort": {"size": size}}},
        },
    })
}

/// Of each kind, any.
fn conditions(filters: &Filters) -> Vec<Vec<Json>> {
    let Filters { sites, languages, dates } = filters;
    let among = |field: &str, values: &[String]| match values {
        [] => vec![],
        values => vec![json!({"terms": {field: values}})],
    };
    let all = [among("domains", sites), among("language", languages), dates.iter().map(within).collect()];
    all.into_iter().filter(|any| !any.is_empty()).collect()
}

fn within(days: &Days) -> Json {
    let ends = [("gte", days.from), ("lt", days.until)];
    let ends: serde_json::Map<String, Json> =
        ends.into_iter().filter_map(|(name, day)| Some((name.to_owned(), day?.to_string().into()))).collect();
    json!({"range": {"date": ends}})
}

fn any(mut queries: Vec<Json>) -> Json {
    match queries.len() {
        1 => queries.remove(0),
        _ => json!({"bool": {"should": queries, "minimum_should_match": 1}}),
    }
}

/// A term that is looked for: as written, and a word in its other forms.
fn wanted(term: &Term, forms: &[String]) -> Json {
    let written = as_written(term);
    if term.field != Field::Words || term.prefix || forms.is_empty() || !is_word(term) {
        return written;
    }
    let other = json!({"multi_match": {"query": term.text, "type": "best_fields", "fields": forms}});
    json!({"dis_max": {"queries": [written, other]}})
}

fn as_written(term: &Term) -> Json {
    match term.field {
        Field::Words => in_fields(term, &FIELDS),
        Field::Title => in_fields(term, &["title"]),
        Field::Author => in_fields(term, &["author"]),
        Field::Url => in_fields(term, &["final_url.words"]),
    }
}

fn in_fields(term: &Term, fields: &[&str]) -> Json {
    let mut found = json!({"query": term.text, "fields": fields});
    found["type"] = match (term.prefix, is_word(term)) {
        (false, _) => "phrase",
        // All words that begin so, however many.
        (true, true) => "bool_prefix",
        (true, false) => {
            found["max_expansions"] = EXPANSIONS.into();
            "phrase_prefix"
        }
    }
    .into();
    json!({"multi_match": found})
}

/// Whether it is one word to the server too.
fn is_word(term: &Term) -> bool {
    term.text.chars().count() < 256 && term.text.chars().all(char::is_alphanumeric)
}
