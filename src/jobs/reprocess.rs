//! Sends what the log keeps of a stage's input through that stage once more, each record exactly once: a job like any other,
//! whose records are pages or documents instead of URLs.

use std::time::Duration;

use bytes::Bytes;

use super::submit::append;
use super::{Job, JobError, Lane, Reached, Submitted, get};
use crate::record::{headers, letter, now_ms};
use crate::topology::{self, Names, StageName};
use crate::transport::tail::Range;
use crate::transport::{Incoming, Outgoing, TopicPartition, Transport};

/// Records, and bytes, after which an append takes no further record.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 4 << 20;

/// What is to be done again.
#[derive(Debug, Clone)]
pub struct Again {
    /// The job's name; a job that was cut short goes on under it.
    pub id: String,
    /// The stage: extract, enrich or index.
    pub stage: StageName,
    /// Which records, for people: under the same name they are to be the same.
    pub source: String,
    /// Written then or later, and before, Unix ms.
    pub since: Option<i64>,
    pub until: Option<i64>,
    /// Records a second, at most.
    pub rate: Option<f64>,
}

/// Which of a stage's kept records are meant.
pub type Choose<'a> = &'a (dyn Fn(&Incoming) -> bool + Send + Sync);

/// How many records would be sent.
pub async fn count(
    transport: &dyn Transport,
    names: &Names,
    again: &Again,
    choose: Choose<'_>,
) -> Result<u64, JobError> {
    let mut count = 0;
    for (at, from, end) in ranges(transport, names, again, None).await? {
        let mut range = Range::new(at, from, end);
        while let Some(batch) = range.next(transport).await? {
            count += batch.iter().filter(|r| choose(r)).count() as u64;
        }
    }
    Ok(count)
}

/// Puts the kept records that are chosen on the stage's first retry topic, which is admitted at the lowest weight, on the
/// partition they have; with them, in the same transaction, how far it got. They keep key, value and headers, and get the
/// job. A document keeps the time of its fetch as its version: what comes of it takes the place of what came of the same
/// fetch before, and of nothing newer. Cut short anywhere, the same call goes on where it stood. One at a time under one
/// name. `seen` is told how many records were looked at.
pub async fn reprocess(
    transport: &dyn Transport,
    names: &Names,
    again: &Again,
    choose: Choose<'_>,
    seen: &(dyn Fn(u64) + Send + Sync),
) -> Result<Submitted, JobError> {
    // An append that a former life was killed in must be seen, or not be there, before the count is read.
    append(transport, vec![]).await?;
    let found = get(transport, names, &again.id).await?;
    if let Some(job) = found.as_ref().filter(|j| j.source != again.source) {
        return Err(JobError::Exists { id: job.id.clone(), source_name: job.source.clone() });
    }
    if let Some(total) = found.as_ref().and_then(|j| j.submitted) {
        return Ok(Submitted { before: total, total });
    }
    let mut job = found.unwrap_or_else(|| Job {
        id: again.id.clone(),
        created: now_ms(),
        source: again.source.clone(),
        lane: Lane::Normal,
        appended: 0,
        submitted: None,
        ended: false,
        reached: None,
    });
    let before = job.appended;
    let jobs: std::sync::Arc<str> = names.full(topology::JOBS).into();
    let reached = job.reached.unwrap_or(Reached { partition: -1, offset: 0 });
    for (at, from, end) in ranges(transport, names, again, Some(job.created)).await? {
        let from = match at.partition {
            p if p < reached.partition => continue,
            p if p == reached.partition => from.max(reached.offset),
            _ => from,
        };
        let mut range = Range::new(at.clone(), from, end);
        while let Some(batch) = range.next(transport).await? {
            let mut batch = batch.into_iter().peekable();
            while batch.peek().is_some() {
                let (mut records, mut bytes, mut looked) = (vec![], 0, 0);
                while records.len() < most(again) && bytes < CHUNK_BYTES {
                    let Some(record) = batch.next() else { break };
                    looked += 1;
                    job.reached = Some(Reached { partition: at.partition, offset: record.offset + 1 });
                    if choose(&record) {
                        bytes += record.size();
                        records.push(back(record, names, again));
                    }
                }
                let sent = records.len();
                if sent > 0 {
                    job.appended += sent as u64;
                    records.push(job.record(std::sync::Arc::clone(&jobs)));
                    append(transport, records).await?;
                }
                seen(looked);
                if let Some(rate) = again.rate.filter(|r| *r > 0.0) {
                    tokio::time::sleep(Duration::from_secs_f64(sent as f64 / rate)).await;
                }
            }
        }
    }
    job.submitted = Some(job.appended);
    append(transport, vec![job.record(jobs)]).await?;
    Ok(Submitted { before, total: job.appended })
}

/// Records of one append: with a rate, about a second's.
fn most(again: &Again) -> usize {
    again.rate.map_or(CHUNK, |r| (r.ceil().max(1.0) as usize).min(CHUNK))
}

/// Where the records are, partition by partition; none written after `begun`, so that a job that goes on later does not
/// grow.
async fn ranges(
    transport: &dyn Transport,
    names: &Names,
    again: &Again,
    begun: Option<i64>,
) -> Result<Vec<(TopicPartition, i64, i64)>, JobError> {
    let mut found = vec![];
    let until = [again.until, begun.map(|b| b + 1)].into_iter().flatten().min();
    for input in topology::stage(again.stage).inputs {
        let topic = names.full(input.topic);
        let mut bounds = transport.bounds(&topic).await?;
        bounds.sort_by_key(|b| b.partition);
        let at = async |time: Option<i64>| match time {
            Some(time) => transport.offsets_at(&topic, time).await,
            None => Ok(vec![]),
        };
        let (from, end) = (at(again.since).await?, at(until).await?);
        let of = |list: &[(i32, i64)], p: i32| list.iter().find(|(n, _)| *n == p).map(|(_, offset)| *offset);
        for b in bounds {
            let first = of(&from, b.partition).unwrap_or(b.start).max(b.start);
            let last = of(&end, b.partition).unwrap_or(b.end).min(b.end);
            if first < last {
                found.push((TopicPartition::new(topic.as_str(), b.partition), first, last));
            }
        }
    }
    Ok(found)
}

fn back(record: Incoming, names: &Names, again: &Again) -> Outgoing {
    let mut headers = letter::replay_headers(&record.headers);
    headers.set(headers::JOB, Bytes::from(again.id.clone()));
    Outgoing {
        topic: names.full(&topology::stage(again.stage).retry(0)).into(),
        partition: Some(record.at.partition),
        key: record.key,
        value: record.value,
        tombstone: record.tombstone,
        headers,
    }
}
