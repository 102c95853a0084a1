//! Writing a batch of documents in one transaction, each with its own outcome.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, named_params};
use tracing::error;

use crate::record::Enriched;
use crate::sink::{SinkError, Written};
use crate::sqlite::{self, SqliteError};

type Outcome = Result<Written, SinkError>;

/// Writes all documents; returns when they are durable. What fails together is tried again one by one, so that a
/// document SQLite refuses takes no other with it. (Savepoints would do the same, but each one makes FTS5 write out what
/// it has gathered.)
pub fn all(connection: &mut Connection, path: &Path, documents: &[Arc<Enriched>]) -> Vec<Outcome> {
    let together = sqlite::transaction(connection, |tx| documents.iter().map(|d| Ok(Ok(put(tx, d)?))).collect());
    let e = match together {
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

fn refusal(why: &SqliteError) -> SinkError {
    match why {
        SqliteError::TooBig(why) => SinkError::Rejected(why.clone()),
        // A damaged or unreadable file is not the document's fault: a person mends it, and the document goes in.
        SqliteError::Unavailable(why) | SqliteError::Fatal(why) => SinkError::Unavailable(why.clone()),
    }
}

fn put(tx: &Transaction<'_>, d: &Enriched) -> rusqlite::Result<Written> {
    let held: Option<i64> = tx
        .prepare_cached("SELECT fetched_at FROM documents WHERE id = ?")?
        .query_row([&d.id], |r| r.get(0))
        .optional()?;
    let written = match held {
        Some(version) if version > d.fetched_at => return Ok(Written::Stale),
        Some(_) => Written::Updated,
        None => Written::Created,
    };
    let sql = if written == Written::Created { INSERT } else { UPDATE };
    tx.prepare_cached(sql)?.execute(named_params! {
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
        ":final_url": d.final_url,
        ":canonical": d.canonical,
        ":author": d.author,
        ":site_name": d.site_name,
        ":title": d.title.as_deref().map(without_nul),
        ":attrs": serde_json::to_string(&d.attrs).unwrap_or_default(),
        ":description": d.description.as_deref().map(without_nul),
        ":text": without_nul(&d.text),
    })?;
    Ok(written)
}

/// SQLite keeps NUL in text, but most tools that read the file stop there.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', " ").into() } else { text.into() }
}

const INSERT: &str = "
INSERT INTO documents(id, fetched_at, host, language, date, words, chars, text_hash, language_confidence, url, final_url,
  canonical, author, site_name, title, attrs, description, text)
VALUES (:id, :fetched_at, :host, :language, :date, :words, :chars, :text_hash, :language_confidence, :url, :final_url,
  :canonical, :author, :site_name, :title, :attrs, :description, :text)";

const UPDATE: &str = "
UPDATE documents SET fetched_at = :fetched_at, host = :host, language = :language, date = :date, words = :words,
  chars = :chars, text_hash = :text_hash, language_confidence = :language_confidence, url = :url, final_url = :final_url,
  canonical = :canonical, author = :author, site_name = :site_name, title = :title, attrs = :attrs,
  description = :description, text = :text
WHERE id = :id";
