//! Where a letter goes when it is put back, and what it is by then.
//!
//! | letter of | goes to | as |
//! |---|---|---|
//! | a stage | its first retry topic, same partition | it came |
//! | a stage, `--to` an earlier one | that one's first retry topic | the record that stage had read, which the log still keeps; for fetch a new task for its URL |
//! | another's topic | the topic it says it was read from, same partition if there is one | it came |
//! | another's topic, without key and value | the same | the record it was read as, if that is still there |
//! | any, `--to` a topic | there, by its key | it came |
//!
//! Failure headers are gone, whoever wrote them; all else stays. An edit comes last.

use std::collections::HashMap;

use super::kept::Kept;
use super::scan::Scan;
use super::{Cause, Edit, Filter, Letter, cause};
use crate::record::url_task::UrlTask;
use crate::record::{codec, headers, letter};
use crate::topology::{self, Names, StageName};
use crate::transport::{Incoming, Outgoing, Result, TopicPartition, Transport, TransportError};

/// Where letters are put back to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum To {
    /// Where they came from.
    #[default]
    Origin,
    /// This stage, if it is the one that gave them up or one before it.
    Stage(StageName),
    /// This topic (full name).
    Topic(String),
}

impl std::str::FromStr for To {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<To, String> {
        match text.parse() {
            Ok(stage) => Ok(To::Stage(stage)),
            Err(_) if text.is_empty() => Err("--to names a stage or a topic".to_owned()),
            Err(_) => Ok(To::Topic(text.to_owned())),
        }
    }
}

/// A letter on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Back {
    /// What is written.
    pub record: Outgoing,
    /// The stage that reads it, if one of ours does.
    pub stage: Option<StageName>,
}

/// Says where each letter goes.
pub struct Ways<'a> {
    transport: &'a dyn Transport,
    names: &'a Names,
    to: &'a To,
    edit: Option<&'a Edit>,
    kept: Option<Kept>,
    /// Partitions of the topics that letters of others go to; None: there is no such topic.
    partitions: HashMap<String, Option<u32>>,
}

impl<'a> Ways<'a> {
    /// For letters that a filter lets through. With an earlier stage these and what it has read are looked through first.
    pub async fn new(
        transport: &'a dyn Transport,
        names: &'a Names,
        filter: &Filter,
        to: &'a To,
        edit: Option<&'a Edit>,
    ) -> Result<Ways<'a>> {
        let mut kept = None;
        if let To::Stage(stage) = to
            && *stage != StageName::Fetch
        {
            let mut wanted = Kept::new(*stage);
            let mut scan = Scan::start(transport, names, filter).await?;
            while let Some(batch) = scan.next().await? {
                batch.iter().filter(|l| l.stage.is_some_and(|s| s > *stage)).for_each(|l| wanted.want(l));
            }
            wanted.look(transport, names).await?;
            kept = Some(wanted);
        }
        Ok(Ways { transport, names, to, edit, kept, partitions: HashMap::new() })
    }

    /// The record a letter becomes; or why it stays where it is, the same words for all that stay for the same cause.
    pub async fn of(&mut self, letter: &Letter, run: &str) -> Result<std::result::Result<Back, String>> {
        let back = match (self.to, letter.stage) {
            (To::Topic(topic), _) => self.elsewhere(letter, topic.clone(), None).await?,
            (To::Stage(to), Some(stage)) if *to != stage => self.upstream(letter, stage, *to).await?,
            (To::Stage(to), None) => Err(format!("they are no records of ours, so {to} cannot read them")),
            (_, Some(stage)) => Ok(self.back(&letter.record, stage)),
            (To::Origin, None) => match &letter.failure {
                Some(f) => self.elsewhere(letter, f.topic.clone(), f.partition).await?,
                None => Err("they do not say where they came from: name a topic with --to".to_owned()),
            },
        };
        Ok(back.and_then(|mut back| {
            let headers = &mut back.record.headers;
            headers.set(headers::REPLAY, run.to_owned());
            headers.set(headers::REPLAYS, (letter.deaths() + 1).to_string());
            if let Some(edit) = self.edit {
                edit.apply(&mut back.record, self.names.ids())?;
            }
            Ok(back)
        }))
    }

    /// A record on its way to a stage.
    fn back(&self, record: &Incoming, stage: StageName) -> Back {
        let record = Outgoing {
            tombstone: record.tombstone,
            topic: self.names.full(&topology::stage(stage).retry(0)).into(),
            // The same partition, so that the same member owns its host.
            partition: Some(record.at.partition),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: letter::replay_headers(&record.headers),
        };
        Back { record, stage: Some(stage) }
    }

    async fn upstream(
        &self,
        letter: &Letter,
        from: StageName,
        to: StageName,
    ) -> Result<std::result::Result<Back, String>> {
        if to > from {
            return Ok(Err(format!("they died in {from}, so {to} has nothing of them to read")));
        }
        if to == StageName::Fetch {
            let Some(task) = task(letter) else {
                return Ok(Err("nothing tells their URL, so they cannot be fetched".to_owned()));
            };
            let key = task.host_key();
            let value = codec::encode(&task, self.names.ids())
                .map_err(|e| TransportError::Fatal(format!("letter {}: {e}", letter.id)))?;
            let mut back = self.back(&letter.record, to);
            (back.record.key, back.record.value, back.record.partition) = (Some(key.into()), value, None);
            return Ok(Ok(back));
        }
        let record = match &self.kept {
            Some(kept) => kept.get(self.transport, self.names, letter).await?,
            None => None,
        };
        Ok(record.map(|r| self.back(&r, to)).ok_or_else(|| {
            format!("the log no longer has what {to} read of them; --to fetch asks their hosts once more")
        }))
    }

    async fn elsewhere(
        &mut self,
        letter: &Letter,
        topic: String,
        partition: Option<i32>,
    ) -> Result<std::result::Result<Back, String>> {
        if !self.partitions.contains_key(&topic) {
            let there = match self.transport.bounds(&topic).await {
                Err(TransportError::NoTopic(_)) => None,
                bounds => Some(u32::try_from(bounds?.len()).unwrap_or(u32::MAX)),
            };
            self.partitions.insert(topic.clone(), there);
        }
        let Some(partitions) = self.partitions.get(&topic).copied().flatten() else {
            return Ok(Err(format!("there is no topic {topic} (any more): name another with --to")));
        };
        let whole;
        let r = match letter.failure.as_ref().filter(|_| letter.record.tombstone && letter.record.key.is_none()) {
            None => &letter.record,
            Some(f) => match self.origin(f).await? {
                Some(found) => {
                    whole = found;
                    &whole
                }
                None => {
                    return Ok(Err(format!(
                        "{} kept neither their keys nor their values, and they are gone from where it read them",
                        f.writer.name()
                    )));
                }
            },
        };
        let is_there = |p: &i32| u32::try_from(*p).is_ok_and(|p| p < partitions);
        let record = Outgoing {
            tombstone: r.tombstone,
            partition: partition.filter(is_there),
            key: r.key.clone(),
            value: r.value.clone(),
            headers: cause::strip(&letter::replay_headers(&r.headers)),
            topic: topic.into(),
        };
        Ok(Ok(Back { record, stage: None }))
    }

    /// The record that a letter is of, where it was read. Kafka Streams puts a letter without key and value where it could
    /// not send what it had made.
    async fn origin(&self, f: &Cause) -> Result<Option<Incoming>> {
        let (Some(partition), Some(offset)) = (f.partition, f.offset) else { return Ok(None) };
        let at = TopicPartition::new(f.topic.as_str(), partition);
        let found = match self.transport.read(&at, offset, 1, usize::MAX).await {
            Err(TransportError::NoTopic(_)) => vec![],
            found => found?,
        };
        Ok(found.into_iter().next().filter(|r| r.offset == offset))
    }
}

/// A task that fetches a letter's page anew, however fresh it is.
fn task(letter: &Letter) -> Option<UrlTask> {
    let value = letter.value().unwrap_or_default();
    let said = |field: &str| value.get(field).and_then(|v| v.as_str()).map(str::to_owned);
    let url = said("url").or_else(|| letter.url())?;
    let attrs = value.get("attrs").and_then(|a| serde_json::from_value(a.clone()).ok()).unwrap_or_default();
    Some(UrlTask { attrs, force: true, ..UrlTask::new(url) })
}
