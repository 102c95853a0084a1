//! A dead letter as it is read, and its id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value as Json;

use super::Cause;
use crate::record::letter::fingerprint;
use crate::record::url_task::{UrlTask, host_key};
use crate::record::{Meta, codec, headers};
use crate::topology::{Names, STAGES, StageName};
use crate::transport::Incoming;

/// Where a letter rests: `topic/partition/offset`, a topic of ours without prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LetterId {
    /// `fetch.dlq`, or another's full name.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl LetterId {
    /// The topic's full name: ours have a prefix, those of others have theirs already.
    pub fn full_topic(&self, names: &Names) -> String {
        if STAGES.iter().any(|d| d.dlq() == self.topic) { names.full(&self.topic) } else { self.topic.clone() }
    }
}

impl FromStr for LetterId {
    type Err = String;
    fn from_str(s: &str) -> Result<LetterId, String> {
        let wrong = || format!("{s:?} is no letter: ids look like fetch.dlq/3/17");
        let mut parts = s.rsplitn(3, '/');
        let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
        let (Some(offset), Some(partition), Some(topic)) = (offset, partition, topic) else { return Err(wrong()) };
        let (Ok(offset), Ok(partition)) = (offset.parse(), partition.parse()) else { return Err(wrong()) };
        Ok(LetterId { topic: topic.to_owned(), partition, offset })
    }
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where it rests.
    pub id: LetterId,
    /// The stage whose dead letter it is; None in topics that are not ours.
    pub stage: Option<StageName>,
    /// Key, value and headers as they came, and the failure's headers.
    pub record: Incoming,
    /// Where and why it failed; None for a record that somebody else put there.
    pub failure: Option<Cause>,
    /// Run and time (Unix ms), once it was put back.
    pub replayed: Option<(Arc<str>, i64)>,
}

impl Letter {
    /// Reads a record of a stage's dead-letter topic, or of somebody else's.
    pub fn read(stage: Option<StageName>, names: &Names, record: Incoming) -> Letter {
        let id = LetterId {
            topic: if stage.is_some() { names.bare(&record.at.topic) } else { &record.at.topic }.to_owned(),
            partition: record.at.partition,
            offset: record.offset,
        };
        Letter { id, stage, failure: Cause::read(&record.headers), replayed: None, record }
    }

    /// When it was given up, Unix ms; when it was written, if it does not say.
    pub fn at(&self) -> i64 {
        self.failure.as_ref().map(|f| f.at).filter(|at| *at > 0).unwrap_or(self.record.timestamp)
    }

    /// Its URL: the header's, else that of a value which is a URL task.
    pub fn url(&self) -> Option<String> {
        let header = self.record.headers.str(headers::URL).map(str::to_owned);
        header.or_else(|| match self.stage {
            Some(StageName::Fetch) => UrlTask::decode(&self.record.value).ok().map(|t| t.url),
            _ => None,
        })
    }

    /// Host of its URL, as in keys: with a port that is not the default.
    pub fn host(&self) -> Option<String> {
        self.url().and_then(|u| url::Url::parse(&u).ok()).map(|u| host_key(&u))
    }

    /// Names its cause. Not the header's: letters of earlier versions are to be in the same group.
    pub fn fingerprint(&self) -> Option<String> {
        self.failure.as_ref().map(|f| fingerprint(&f.stage, &f.class, &f.message))
    }

    /// Its value, if that is a record of ours or JSON.
    pub fn value(&self) -> Option<Json> {
        let ours = codec::to_json(&self.record.value).map(|(_, fields)| fields);
        ours.or_else(|| serde_json::from_slice(&self.record.value).ok())
    }

    /// How often it has died after a replay.
    pub fn deaths(&self) -> u32 {
        self.record.headers.int(headers::REPLAYS).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    }

    /// The task it belongs to.
    pub fn meta(&self) -> Meta {
        let r = &self.record;
        Meta::read(&r.headers, &r.at.topic, r.at.partition, r.offset, r.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_others_are_refused() {
        let id = LetterId { topic: "fetch.dlq".into(), partition: 3, offset: 17 };
        assert_eq!(id.to_string(), "fetch.dlq/3/17");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "fetch.dlq", "fetch.dlq/3", "fetch.dlq/x/1", "fetch.dlq/1/", "3/17"] {
            assert!(bad.parse::<LetterId>().is_err_and(|e| e.contains("fetch.dlq/3/17")), "{bad}");
        }
    }
}
