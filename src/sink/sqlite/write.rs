//! Writing a batch of documents in one transaction, each with its own outcome.
//!
//! FTS5 gathers words in memory and writes them out when 16 MB have come together, at the end of the transaction, when a
//! row number goes down, and at each savepoint. The last two would make a piece of index of every single document and
//! double the cost of an insert. So rows are written in ascending order, and nothing here makes SQLite open a savepoint:
//! no trigger fires, no `INSERT … SELECT`, and a failed batch is repeated one by one.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, named_params, params};
use tracing::error;

use crate::record::Enriched;
use crate::sink::{SinkError, Written};
use crate::sqlite::{self, SqliteError};

type Outcome = Result<Written, SinkError>;

/// Writes all documents; returns when they are durable. What fails together is tried again one by one, so that a
/// document SQLite refuses takes no other with it.
pub fn all(connection: &mut Connection, path: &Path, documents: &[Arc<Enriched>]) -> Vec<Outcome> {
    let e = match sqlite::transaction(connection, |tx| together(tx, documents)) {
        Ok(outcomes) => return outcomes,
        Err(e) => e,
    };
    let why = sqlite::explain(&e, path);
    error!(error = %why, documents = documents.len(), "transaction rolled back");
    match (&why, documents) {
        (SqliteError::Unavailable(_), _) | (_, [_]) => documents.iter().map(|_| Err(refusal(&why))).collect(),
        _ => documents.chunks(1).flat_map(|one| all(connection, path, one)).collect(),
    }
}

/// In the order of their rows, new ones last; those of one id in the order they came.
fn together(tx: &Transaction<'_>, documents: &[Arc<Enriched>]) -> rusqlite::Result<Vec<Outcome>> {
    let mut order = Vec::with_capacity(documents.len());
    for (at, d) in documents.iter().enumerate() {
        let n: Option<i64> =
            tx.prepare_cached("SELECT n FROM documents WHERE id = ?")?.query_row([&d.id], |r| r.get(0)).optional()?;
        order.push((n.unwrap_or(i64::MAX), at));
    }
    order.sort_unstable();
    let mut outcomes = vec![Ok(Written::Stale); documents.len()];
    for (_, at) in order {
        outcomes[at] = Ok(put(tx, &documents[at])?);
    }
    Ok(outcomes)
}

fn refusal(why: &SqliteError) -> SinkError {
    match why {
        SqliteError::TooBig(why) => SinkError::Rejected(why.clone()),
        // A damaged or unreadable file is not the document's fault: a person mends it, and the document goes in.
        SqliteError::Unavailable(why) | SqliteError::Fatal(why) => SinkError::Unavailable(why.clone()),
    }
}

/// The columns that `search` is over.
#[derive(PartialEq)]
struct Words<'a> {
    title: Option<Cow<'a, str>>,
    description: Option<Cow<'a, str>>,
    text: Cow<'a, str>,
    author: Option<Cow<'a, str>>,
    final_url: Cow<'a, str>,
}

fn put(tx: &Transaction<'_>, d: &Enriched) -> rusqlite::Result<Written> {
    let buried: Option<i64> = tx
        .prepare_cached("SELECT fetched_at FROM tombstones WHERE id = ?")?
        .query_row([&d.id], |r| r.get(0))
        .optional()?;
    if buried.is_some_and(|at| at > d.fetched_at) {
        return Ok(Written::Stale);
    }
    let written = if d.gone { bury(tx, d)? } else { write_document(tx, d)? };
    if buried.is_some() && !d.gone {
        tx.prepare_cached("DELETE FROM tombstones WHERE id = ?")?.execute([&d.id])?;
    }
    Ok(if buried.is_some() { written.max(Written::Updated) } else { written })
}

/// A tombstone in the document's place, unless that is newer.
fn bury(tx: &Transaction<'_>, d: &Enriched) -> rusqlite::Result<Written> {
    let held = held(tx, &d.id)?;
    if held.is_some_and(|(_, version)| version > d.fetched_at) {
        return Ok(Written::Stale);
    }
    if let Some((n, _)) = held {
        // The trigger makes its words found no more.
        tx.prepare_cached("DELETE FROM documents WHERE n = ?")?.execute([n])?;
    }
    tx.prepare_cached("INSERT OR REPLACE INTO tombstones(id, fetched_at, url, host) VALUES (?, ?, ?, ?)")?
        .execute(params![d.id, d.fetched_at, d.final_url, d.host])?;
    Ok(if held.is_some() { Written::Updated } else { Written::Created })
}

/// Row and version of a document.
fn held(tx: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<(i64, i64)>> {
    tx.prepare_cached("SELECT n, fetched_at FROM documents WHERE id = ?")?
        .query_row([id], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()
}

fn write_document(tx: &Transaction<'_>, d: &Enriched) -> rusqlite::Result<Written> {
    let words = Words {
        title: d.title.as_deref().map(without_nul),
        description: d.description.as_deref().map(without_nul),
        text: without_nul(&d.text),
        author: d.author.as_deref().map(without_nul),
        final_url: without_nul(&d.final_url),
    };
    let Some((n, version)) = held(tx, &d.id)? else {
        write(tx, INSERT, None, d, &words)?;
        find(tx, tx.last_insert_rowid(), &words)?;
        return Ok(Written::Created);
    };
    if version > d.fetched_at {
        return Ok(Written::Stale);
    }
    const HELD: &str = "SELECT title, description, text, author, final_url FROM documents WHERE n = ?";
    let old = tx.prepare_cached(HELD)?.query_row([n], |r| {
        let column = |at| r.get::<_, Option<String>>(at).map(|t| t.map(Cow::Owned));
        let full = |at| r.get::<_, String>(at).map(Cow::Owned);
        Ok(Words {
            title: column(0)?,
            description: column(1)?,
            text: full(2)?,
            author: column(3)?,
            final_url: full(4)?,
        })
    })?;
    // FTS5 must be told what it is to forget, word for word.
    if old != words {
        forget(tx, n, &old)?;
    }
    write(tx, UPDATE, Some(n), d, &words)?;
    if old != words {
        find(tx, n, &words)?;
    }
    Ok(Written::Updated)
}

/// Makes a document's words found.
fn find(tx: &Transaction<'_>, n: i64, words: &Words<'_>) -> rusqlite::Result<()> {
    const FIND: &str =
        "INSERT INTO search(rowid, title, description, text, author, final_url) VALUES (?, ?, ?, ?, ?, ?)";
    tell(tx, FIND, n, words)
}

/// And found no more.
fn forget(tx: &Transaction<'_>, n: i64, words: &Words<'_>) -> rusqlite::Result<()> {
    const FORGET: &str = "INSERT INTO search(search, rowid, title, description, text, author, final_url)
        VALUES ('delete', ?, ?, ?, ?, ?, ?)";
    tell(tx, FORGET, n, words)
}

fn tell(tx: &Transaction<'_>, sql: &str, n: i64, words: &Words<'_>) -> rusqlite::Result<()> {
    let Words { title, description, text, author, final_url } = words;
    tx.prepare_cached(sql)?.execute(params![n, title, description, text, author, final_url])?;
    Ok(())
}

fn write(tx: &Transaction<'_>, sql: &str, n: Option<i64>, d: &Enriched, words: &Words<'_>) -> rusqlite::Result<()> {
    tx.prepare_cached(sql)?.execute(named_params! {
        ":n": n,
        ":id": d.id,
        ":fetched_at": d.fetched_at,
        ":host": d.host,
        ":language": d.language,
        ":date": d.date,
        ":words": d.words,
        ":chars": d.chars,
        ":text_hash": d.text_hash,
        // SQLite takes NaN for NULL.
        ":language_confidence": if d.language_confidence.is_nan() { 0.0 } else { d.language_confidence },
        ":url": d.url,
        ":final_url": words.final_url,
        ":canonical": d.canonical,
        ":author": words.author,
        ":site_name": d.site_name,
        ":title": words.title,
        ":attrs": json(&d.attrs),
        ":authors": json(&d.authors),
        ":modified": d.modified,
        ":image": d.image,
        ":tags": json(&d.tags),
        ":license": d.license,
        ":page_kind": d.page_kind,
        ":description": words.description,
        ":text": words.text,
    })?;
    Ok(())
}

/// For a column of JSON text. Lists and maps of strings always have some.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// SQLite keeps NUL in text, but most tools that read the file stop there.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', " ").into() } else { text.into() }
}

const INSERT: &str = "
INSERT INTO documents(n, id, fetched_at, host, language, date, words, chars, text_hash, language_confidence, url, final_url,
  canonical, author, site_name, title, attrs, authors, modified, image, tags, license, page_kind, description, text)
VALUES (:n, :id, :fetched_at, :host, :language, :date, :words, :chars, :text_hash, :language_confidence, :url, :final_url,
  :canonical, :author, :site_name, :title, :attrs, :authors, :modified, :image, :tags, :license, :page_kind, :description,
  :text)";

const UPDATE: &str = "
UPDATE documents SET fetched_at = :fetched_at, host = :host, language = :language, date = :date, words = :words,
  chars = :chars, text_hash = :text_hash, language_confidence = :language_confidence, url = :url, final_url = :final_url,
  canonical = :canonical, author = :author, site_name = :site_name, title = :title, attrs = :attrs, authors = :authors,
  modified = :modified, image = :image, tags = :tags, license = :license, page_kind = :page_kind, description = :description, text = :text
WHERE n = :n AND id = :id";
