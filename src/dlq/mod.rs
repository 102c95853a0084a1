//! Dead letters: list, show, replay. Over the transport alone, so it works on any log.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::jobs::Tail;
use crate::record::letter::{self, Failure};
use crate::record::{FailureClass, Meta, OutcomeKind, StatusEvent, codec, headers, now_ms};
use crate::topology::{Names, REPLAYS, STAGES, STATUS, StageDef, StageName};
use crate::transport::{Incoming, Outgoing, Result, TopicPartition, Transport, TransportError};

/// Letters replayed in one append.
const CHUNK: usize = 200;

/// A dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// `topic/partition/offset`, topic without prefix.
    pub id: String,
    /// Stage whose topic it rests in.
    pub stage: StageName,
    /// The record as it rests.
    pub record: Incoming,
    /// Why; None when its headers do not say (somebody else's record).
    pub failure: Option<Failure>,
    /// It was replayed.
    pub replayed: bool,
}

impl Letter {
    /// URL, from the header.
    pub fn url(&self) -> &str {
        self.record.headers.str(headers::URL).unwrap_or_default()
    }

    /// Host and port of the URL; empty if there is none.
    pub fn host(&self) -> String {
        url::Url::parse(self.url()).map(|u| crate::record::url_task::host_key(&u)).unwrap_or_default()
    }

    /// Fingerprint of the cause.
    pub fn fingerprint(&self) -> &str {
        self.record.headers.str(letter::FINGERPRINT).unwrap_or_default()
    }
}

/// Which letters. Empty fields let all through.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub ids: Vec<String>,
    pub stage: Option<StageName>,
    pub class: Option<FailureClass>,
    pub host: Option<String>,
    pub fingerprint: Option<String>,
    /// Replayed ones too.
    pub replayed: bool,
}

impl Filter {
    fn takes(&self, l: &Letter) -> bool {
        (self.ids.is_empty() || self.ids.contains(&l.id))
            && self.class.is_none_or(|c| l.failure.as_ref().is_some_and(|f| f.class == c))
            && self.host.as_ref().is_none_or(|h| l.host() == *h)
            && self.fingerprint.as_ref().is_none_or(|f| l.fingerprint() == f)
            && (self.replayed || !l.replayed)
    }

    fn stages(&self) -> impl Iterator<Item = &'static StageDef> {
        let only = self.stage;
        STAGES.iter().filter(move |d| only.is_none_or(|s| s == d.name))
    }
}

/// Calls `f` with each letter that the filter takes, by stage and partition, oldest first.
pub async fn each(transport: &dyn Transport, names: &Names, filter: &Filter, mut f: impl FnMut(Letter)) -> Result<()> {
    let replayed = replayed(transport, names).await?;
    for def in filter.stages() {
        let mut tail = Tail::from_start(transport, &names.full(&def.dlq())).await?;
        loop {
            let records = tail.poll(transport).await?;
            if records.is_empty() {
                break;
            }
            for record in records {
                let id = format!("{}/{}/{}", def.dlq(), record.at.partition, record.offset);
                let failure = Failure::read(&record.headers);
                let replayed = replayed.contains(&id);
                let letter = Letter { id, stage: def.name, record, failure, replayed };
                if filter.takes(&letter) {
                    f(letter);
                }
            }
        }
    }
    Ok(())
}

/// The letters the filter takes, at most `limit`.
pub async fn list(transport: &dyn Transport, names: &Names, filter: &Filter, limit: usize) -> Result<Vec<Letter>> {
    let mut all = vec![];
    each(transport, names, filter, |l| {
        if all.len() < limit {
            all.push(l);
        }
    })
    .await?;
    Ok(all)
}

/// One letter by its id.
pub async fn show(transport: &dyn Transport, names: &Names, id: &str) -> Result<Option<Letter>> {
    let mut parts = id.rsplitn(3, '/');
    let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
    let parsed = offset.and_then(|o| o.parse::<i64>().ok()).zip(partition.and_then(|p| p.parse::<i32>().ok()));
    let (Some((offset, partition)), Some(topic)) = (parsed, topic) else {
        return Err(TransportError::Fatal(format!("{id:?} is no letter's id; `tidemill dlq ls` shows them")));
    };
    let Some(def) = STAGES.iter().find(|d| d.dlq() == topic) else {
        return Err(TransportError::Fatal(format!("{topic:?} is no dead-letter topic; `tidemill dlq ls` shows ids")));
    };
    let at = TopicPartition::new(names.full(topic), partition);
    let found = transport.read(&at, offset, 1, usize::MAX).await?.into_iter().find(|r| r.offset == offset);
    let replayed = replayed(transport, names).await?.contains(id);
    Ok(found.map(|record| {
        let failure = Failure::read(&record.headers);
        Letter { id: id.to_owned(), stage: def.name, record, failure, replayed }
    }))
}

/// Ids of letters that were replayed.
async fn replayed(transport: &dyn Transport, names: &Names) -> Result<HashSet<String>> {
    let mut ids = HashSet::new();
    let mut tail = Tail::from_start(transport, &names.full(REPLAYS)).await?;
    loop {
        let records = tail.poll(transport).await?;
        if records.is_empty() {
            return Ok(ids);
        }
        ids.extend(records.iter().filter_map(|r| r.key.as_ref()).map(|k| String::from_utf8_lossy(k).into_owned()));
    }
}

/// What a replay did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Id of this run, carried by the replayed records in `tidemill.replay`.
    pub run: String,
    /// Letters put back.
    pub replayed: u64,
    /// By topic they went to.
    pub to: BTreeMap<String, u64>,
    /// Nothing was written.
    pub dry_run: bool,
}

/// Puts letters back: each goes to its stage's first retry topic, which is admitted at a low weight, with the attempts
/// back to none. The record, its marker and a status event are one append, so a replay that was cut short can be started again and puts
/// nothing back twice.
pub async fn replay(transport: &dyn Transport, names: &Names, filter: &Filter, dry_run: bool) -> Result<Report> {
    let run = uuid::Uuid::now_v7().simple().to_string();
    let mut report = Report { run, replayed: 0, to: BTreeMap::new(), dry_run };
    let mut waiting: Vec<(String, Outgoing, Outgoing)> = vec![];
    let mut broken = None;
    let filter = Filter { replayed: false, ..filter.clone() };
    each(transport, names, &filter, |l| {
        let topic = crate::topology::stage(l.stage).retry(0);
        let out = Outgoing {
            topic: names.full(&topic).into(),
            partition: Some(l.record.at.partition),
            key: l.record.key.clone(),
            value: l.record.value.clone(),
            headers: letter::replay_headers(&l.record.headers, &report.run),
        };
        report.replayed += 1;
        *report.to.entry(topic).or_default() += 1;
        if !dry_run {
            match event(names, &l, &report.run) {
                Ok(event) => waiting.push((l.id, out, event)),
                Err(e) => broken = Some(e),
            }
        }
    })
    .await?;
    if let Some(e) = broken {
        return Err(TransportError::Fatal(e.to_string()));
    }
    for chunk in waiting.chunks(CHUNK) {
        let mut batch = Vec::with_capacity(chunk.len() * 3);
        for (id, out, event) in chunk {
            let marker = serde_json::json!({"run": report.run, "at": now_ms()});
            batch.push(out.clone());
            batch.push(event.clone());
            batch.push(Outgoing {
                topic: names.full(REPLAYS).into(),
                partition: None,
                key: Some(id.clone().into()),
                value: marker.to_string().into(),
                headers: headers::Headers::default(),
            });
        }
        transport.append(batch).await?;
    }
    Ok(report)
}

/// The status event of a replay: the record's way goes on.
fn event(names: &Names, l: &Letter, run: &str) -> std::result::Result<Outgoing, codec::CodecError> {
    let at = &l.record.at;
    let meta = Meta::read(&l.record.headers, &at.topic, at.partition, l.record.offset, l.record.timestamp);
    let event = StatusEvent {
        url: l.url().to_owned(),
        stage: l.stage.to_string(),
        outcome: OutcomeKind::Replayed,
        class: l.failure.as_ref().map(|f| f.class.to_string()),
        message: Some(format!("replay {run}")),
        attempt: 0,
        at: now_ms(),
        took_ms: 0.0,
        waited_ms: 0.0,
        emitted: 0,
        until: None,
        trace: meta.trace.trace_hex(),
        task: meta.task,
        job: meta.job,
    };
    Ok(Outgoing {
        topic: names.full(STATUS).into(),
        partition: None,
        key: Some(event.task.clone().into()),
        value: codec::encode(&event)?,
        headers: headers::Headers::default(),
    })
}
