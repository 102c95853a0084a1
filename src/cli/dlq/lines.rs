//! Dead letters as JSON lines, as `tail --json` prints records, and back byte for byte.

use std::io::{BufWriter, Write, stdout};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cli::decoded::Decoded;
use crate::cli::produce::input::Input;
use crate::cli::{Exit, lines};
use crate::dlq::{self, Filter};
use crate::topology::{self, Names, STAGES};
use crate::transport::{Outgoing, Transport};

/// Records and bytes in one append.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 4 << 20;

/// Prints the letters that a filter lets through.
pub async fn export(transport: &dyn Transport, names: &Names, filter: &Filter) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    let mut failed = None;
    dlq::each(transport, names, filter, |letter| {
        let line = lines::write(&letter.record, &Decoded::of(&letter.record.value)).map_err(std::io::Error::from);
        match line.and_then(|line| writeln!(out, "{line}")) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failed = Some(e);
                ControlFlow::Break(())
            }
        }
    })
    .await?;
    match failed.map_or_else(|| out.flush(), Err) {
        // Who reads has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("the letters cannot be written"),
    }
}

/// Where a letter rested.
#[derive(Deserialize)]
struct Place {
    topic: String,
    partition: i32,
}

/// Appends exported letters to the topics and partitions they are from. They are letters of their own from then on, not
/// put back yet.
pub async fn import(transport: &dyn Transport, names: &Names, file: Option<&Path>) -> Result<Exit> {
    let mut input = Input::open(file)?;
    let (mut chunk, mut bytes, mut done) = (vec![], 0, 0);
    while let Some(lines) = input.next().await.context("cannot read on")? {
        for line in lines {
            let text = line.text.as_deref().unwrap_or_default();
            if line.text.is_some() && text.trim_ascii().is_empty() {
                continue;
            }
            let record = match letter(names, text) {
                Ok(record) => record,
                Err(why) => {
                    transport.append(chunk).await?;
                    let n = line.number;
                    anyhow::bail!(
                        "line {n}: {why}; what is before it was imported, so mend it and import from there on"
                    );
                }
            };
            bytes += record.size();
            done += 1;
            chunk.push(record);
            if chunk.len() >= CHUNK || bytes >= CHUNK_BYTES {
                transport.append(std::mem::take(&mut chunk)).await?;
                bytes = 0;
            }
        }
    }
    transport.append(chunk).await?;
    eprintln!("{done} dead letters imported");
    Ok(Exit::Done)
}

fn letter(names: &Names, line: &[u8]) -> Result<Outgoing, String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8, as JSON is".to_owned())?;
    let record = lines::read(text)?;
    let place: Place = serde_json::from_str(text)
        .map_err(|e| format!("it does not say where it rested, topic and partition ({e})"))?;
    // The prefix may be another's.
    let is = |name: &str| place.topic == name || place.topic.ends_with(&format!(".{name}"));
    let topic = match STAGES.iter().find(|d| is(&d.dlq())) {
        Some(stage) => names.full(&stage.dlq()),
        None if topology::topics().iter().any(|t| is(&t.name)) => {
            return Err(format!("{} is no dead-letter topic, such as fetch.dlq", place.topic));
        }
        // Somebody else's.
        None => place.topic,
    };
    Ok(Outgoing {
        tombstone: record.tombstone,
        topic: topic.into(),
        partition: Some(place.partition),
        key: record.key.flatten(),
        value: record.value,
        headers: record.headers,
    })
}
