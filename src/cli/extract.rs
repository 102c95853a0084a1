//! `extract`: pages on disk, no network, no log.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::sync::Semaphore;

use super::Exit;
use super::args::Extract as Args;
use crate::config::Config;
use crate::extract::content::PageKind;
use crate::extract::{ExtractError, Limits, html};
use crate::web::charset;

const NO_TEXT: &str = "the page has no text";

/// One input line.
#[derive(Deserialize)]
struct Line {
    id: String,
    #[serde(default)]
    url: Option<String>,
    file: PathBuf,
}

/// Reads lines, answers lines, in their order.
pub async fn run(args: Args, config: Config) -> Result<Exit> {
    let threads = config.extract.threads();
    let pool = Arc::new(crate::extract::pool(threads)?);
    let limits = Limits { max_bytes: config.extract.max_bytes(), ..Limits::default() };
    let root = args.root.unwrap_or_default();
    let waiting = Arc::new(Semaphore::new(threads * 2));
    let (tasks, mut ordered) = tokio::sync::mpsc::channel(threads * 4);
    let reader = tokio::spawn(async move {
        let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
        let mut number = 0;
        while let Some(line) = lines.next_line().await.context("cannot read stdin")? {
            number += 1;
            if line.trim().is_empty() {
                continue;
            }
            let said = |e: &dyn std::fmt::Display| {
                anyhow::anyhow!("line {number}: {e}; each line is {{\"id\", \"url\", \"file\"}}")
            };
            let page: Line = serde_json::from_str(&line).map_err(|e| said(&e))?;
            let permit = Arc::clone(&waiting).acquire_owned().await?;
            let (pool, deadline, file) = (Arc::clone(&pool), config.extract.deadline, root.join(&page.file));
            let work = tokio::spawn(async move {
                let url = page.url.clone();
                let found = pool.run(deadline, move || one(&file, url.as_deref(), &limits)).await;
                drop(permit);
                let (out, error) = match found {
                    // No text, and yet a title and an author.
                    Ok(Ok(found)) if found.0.text.is_empty() => (Some(found), Some(NO_TEXT.to_owned())),
                    Ok(Ok(found)) => (Some(found), None),
                    Ok(Err(e)) => (None, Some(format!("{e:#}"))),
                    Err(e) => (None, Some(e.to_string())),
                };
                let (found, language) = out.unwrap_or_default();
                let mut answer = answer(page.id, found, language);
                if let Some(e) = error {
                    answer["error"] = json!(e);
                }
                answer
            });
            if tasks.send(work).await.is_err() {
                break;
            }
        }
        Ok::<(), anyhow::Error>(())
    });
    let mut out = std::io::BufWriter::new(std::io::stdout());
    while let Some(task) = ordered.recv().await {
        writeln!(out, "{}", task.await?)?;
    }
    reader.await??;
    out.flush()?;
    Ok(Exit::Done)
}

/// The line of a page; it has all fields whatever was found.
fn answer(id: String, found: html::Extracted, language: Option<String>) -> serde_json::Value {
    let confidence = found.text_confidence() as f32;
    let said = found.metadata;
    json!({
        "id": id, "text": found.text, "markdown": found.markdown, "kind": found.kind.map(PageKind::name),
        "confidence": confidence, "title": said.title, "author": said.author(), "authors": said.authors,
        "date": said.date, "modified": said.modified, "language": language, "site_name": said.site_name,
        "description": said.description, "canonical": said.canonical, "image": said.image, "tags": said.tags,
        "license": said.license, "robots": said.robots, "links": found.links, "alternates": found.alternates,
        "tables": found.tables, "structured": found.structured.into_json(),
        "confidences": found.confidence,
        "sources": said.sources.iter().map(|(field, source)| (*field, source.name())).collect::<BTreeMap<_, _>>(),
    })
}

fn one(file: &Path, url: Option<&str>, limits: &Limits) -> Result<(html::Extracted, Option<String>)> {
    let raw = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let bytes = if raw.starts_with(&[0x1f, 0x8b]) {
        let mut out = vec![];
        let most = u64::try_from(limits.max_bytes).unwrap_or(u64::MAX);
        let gz = flate2::read::MultiGzDecoder::new(&raw[..]);
        gz.take(most).read_to_end(&mut out).with_context(|| format!("{} is not valid gzip", file.display()))?;
        out
    } else {
        raw
    };
    let (text, _) = charset::decode(&bytes, None);
    let found = html::extract(&text, url, limits).unwrap_or_else(|ExtractError::Empty(page)| *page);
    let language = crate::enrich::language(&found.text, found.metadata.language.as_deref()).map(|l| l.code);
    Ok((found, language))
}
