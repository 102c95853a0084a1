//! Puts dead letters back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::record::codec::{self, CodecError};
use crate::record::{Headers, OutcomeKind, StatusEvent, letter, now_ms};
use crate::topology::{self, Names};
use crate::transport::{Outgoing, Transport, TransportError};

use super::scan::Scan;
use super::{Filter, Letter, Replay};

/// Bytes after which an append takes no further letter.
const CHUNK_BYTES: usize = 4 << 20;
/// Letters in one append.
const CHUNK: usize = 500;

/// What a replay did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Letters that the filter let through.
    pub matched: u64,
    /// Of these, already put back by an earlier run and left alone.
    pub already: u64,
    /// Put back; with `dry_run`, those that would be.
    pub replayed: u64,
    /// Where to (names without prefix), and how many.
    pub to: BTreeMap<String, u64>,
}

/// Puts the letters that a filter lets through back to their stage's first retry topic, each once: those that have been
/// put back before are left alone. They keep key, value, partition and headers; failure headers and attempts are gone.
/// One replay of the same letters at a time: two at once may both put a letter back.
pub async fn replay(
    transport: &dyn Transport,
    names: &Names,
    filter: &Filter,
    run: &str,
    dry_run: bool,
) -> Result<Report, TransportError> {
    let mut report = Report::default();
    let mut scan = Scan::start(transport, names, filter).await?;
    let markers: Arc<str> = names.full(topology::REPLAYS).into();
    while let Some(batch) = scan.next().await? {
        let (mut records, mut bytes) = (vec![], 0);
        for letter in batch {
            report.matched += 1;
            if letter.replayed.is_some() {
                report.already += 1;
                continue;
            }
            report.replayed += 1;
            *report.to.entry(topology::stage(letter.stage).retry(0)).or_default() += 1;
            if dry_run {
                continue;
            }
            let written = put_back(&letter, names, &markers, run);
            let written = written.map_err(|e| TransportError::Fatal(format!("letter {}: {e}", letter.id)))?;
            bytes += written.iter().map(Outgoing::size).sum::<usize>();
            records.extend(written);
            if bytes >= CHUNK_BYTES || records.len() >= 3 * CHUNK {
                transport.append(std::mem::take(&mut records)).await?;
                bytes = 0;
            }
        }
        if !records.is_empty() {
            transport.append(records).await?;
        }
    }
    Ok(report)
}

/// The record, its marker, and the status event that says so: for one append.
fn put_back(letter: &Letter, names: &Names, markers: &Arc<str>, run: &str) -> Result<[Outgoing; 3], CodecError> {
    let back = Outgoing {
        topic: names.full(&topology::stage(letter.stage).retry(0)).into(),
        // The same partition, so that the same member owns its host.
        partition: Some(letter.record.at.partition),
        key: letter.record.key.clone(),
        value: letter.record.value.clone(),
        headers: letter::replay_headers(&letter.record.headers, run),
    };
    let meta = letter.meta();
    let replay = Replay { run: run.to_owned(), at: now_ms() };
    let marker = Outgoing {
        topic: Arc::clone(markers),
        partition: None,
        key: Some(Bytes::from(letter.id.to_string())),
        // A struct of plain fields always has a JSON form.
        value: serde_json::to_vec(&replay).unwrap_or_default().into(),
        headers: Headers::default(),
    };
    let event = StatusEvent {
        url: letter.url().unwrap_or_default(),
        stage: letter.stage.to_string(),
        outcome: OutcomeKind::Replayed,
        class: letter.failure.as_ref().map(|f| f.class.to_string()),
        message: Some(format!("replay {run}")),
        attempt: 0,
        at: replay.at,
        took_ms: 0.0,
        waited_ms: 0.0,
        emitted: 0,
        until: None,
        trace: meta.trace.trace_hex(),
        task: meta.task,
        job: meta.job,
    };
    let event = Outgoing {
        topic: names.full(topology::STATUS).into(),
        partition: None,
        key: Some(Bytes::from(event.task.clone())),
        value: codec::encode(&event, names.ids())?,
        headers: Headers::default(),
    };
    Ok([back, marker, event])
}
