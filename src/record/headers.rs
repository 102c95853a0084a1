//! Record headers: the raw list, and the names Tidemill reads.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;

use super::letter;
use super::trace::TraceParent;

/// Id of the input record; every descendant carries it.
pub const TASK: &str = "tidemill.task";
/// Id of the job the record belongs to.
pub const JOB: &str = "tidemill.job";
/// How many attempts this stage has made so far (0 on the first).
pub const ATTEMPT: &str = "tidemill.attempt";
/// When the input record was first seen (Unix ms, decimal).
pub const FIRST_SEEN: &str = "tidemill.first-seen";
/// The record must not be handled before this time (Unix ms, decimal).
pub const NOT_BEFORE: &str = "tidemill.not-before";
/// The politeness slot a parked record has reserved (Unix ms, decimal).
pub const SLOT: &str = "tidemill.slot";
/// URL of the record, so that retries and letters can be read without decoding the value.
pub const URL: &str = "tidemill.url";
/// Id of the replay run that put a dead letter back.
pub const REPLAY: &str = "tidemill.replay";
/// How often the record was put back (decimal).
pub const REPLAYS: &str = "tidemill.replays";
/// W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// Unix ms after which the record is not worth handling.
pub const EXPIRES: &str = "tidemill.expires";

/// The record was moved to the partition that owns its key (`1`).
pub const MOVED: &str = "tidemill.moved";

/// Our own names: most headers have one, and need not allocate it. Letters have others besides.
const OURS: [&str; 12] =
    [TASK, JOB, ATTEMPT, FIRST_SEEN, NOT_BEFORE, SLOT, URL, REPLAY, REPLAYS, TRACEPARENT, EXPIRES, MOVED];

/// All of these by their length: each header of each record is looked up.
static KNOWN: LazyLock<Vec<Vec<&str>>> = LazyLock::new(|| {
    let mut by_length = vec![];
    for name in OURS.into_iter().chain(letter::OURS) {
        by_length.resize(by_length.len().max(name.len() + 1), vec![]);
        by_length[name.len()].push(name);
    }
    by_length
});

/// A header's name; ours are not copied.
pub fn name(text: &str) -> Cow<'static, str> {
    match KNOWN.get(text.len()).and_then(|same| same.iter().find(|k| **k == text)) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(text.to_owned()),
    }
}

/// An ordered list of header names and values, duplicates allowed, as Kafka has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(Cow<'static, str>, Bytes)>);

impl Headers {
    /// The last value of that name (Kafka's `lastHeader`).
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The last value as UTF-8.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// The last value as a decimal number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.str(name)?.parse().ok()
    }

    /// Replaces all values of that name by one.
    pub fn set(&mut self, name: &str, value: impl Into<Bytes>) {
        self.remove(name);
        self.0.push((self::name(name), value.into()));
    }

    /// Removes all values of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    /// Rough size in memory and on the wire, in bytes.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(n, v)| n.len() + v.len() + 8).sum()
    }
}

/// What the engine knows of a record from its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Id of the input record.
    pub task: String,
    /// Job, if it came with one.
    pub job: Option<String>,
    /// Attempts already made at this stage.
    pub attempt: u32,
    /// Unix ms.
    pub first_seen: i64,
    /// Unix ms; 0 when it may be handled at once.
    pub not_before: i64,
    /// Unix ms of the reserved politeness slot.
    pub slot: Option<i64>,
    /// Unix ms after which it is not worth handling.
    pub expires: Option<i64>,
    /// It was moved to where its key belongs.
    pub moved: bool,
    /// Trace this record belongs to.
    pub trace: TraceParent,
}

impl Meta {
    /// Reads the headers. An input record without them gets an id made of its position, so that handling it again after
    /// a crash gives the same id, and a trace derived from that.
    pub fn read(headers: &Headers, topic: &str, partition: i32, offset: i64, timestamp: i64) -> Meta {
        let task = match headers.str(TASK) {
            Some(t) => t.to_owned(),
            None => format!("{topic}-{partition}-{offset}"),
        };
        let trace =
            headers.str(TRACEPARENT).and_then(TraceParent::parse).unwrap_or_else(|| TraceParent::derived(&task));
        Meta {
            job: headers.str(JOB).map(str::to_owned),
            attempt: headers.int(ATTEMPT).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            first_seen: headers.int(FIRST_SEEN).unwrap_or(timestamp),
            not_before: headers.int(NOT_BEFORE).unwrap_or(0),
            slot: headers.int(SLOT),
            expires: headers.int(EXPIRES),
            moved: headers.get(MOVED).is_some(),
            task,
            trace,
        }
    }

    /// Headers of a record handed to the next stage: same task, job, first-seen; a new span; attempt back to none.
    pub fn child_headers(&self, url: &str) -> Headers {
        let mut list = Vec::with_capacity(6);
        list.push((TASK.into(), Bytes::from(self.task.clone())));
        if let Some(job) = &self.job {
            list.push((JOB.into(), Bytes::from(job.clone())));
        }
        list.push((FIRST_SEEN.into(), Bytes::from(self.first_seen.to_string())));
        list.push((TRACEPARENT.into(), Bytes::from(self.trace.child().to_string())));
        list.push((URL.into(), Bytes::from(url.to_owned())));
        if let Some(expires) = self.expires {
            list.push((EXPIRES.into(), Bytes::from(expires.to_string())));
        }
        Headers(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_header_of_a_name_counts() {
        let mut h = Headers(vec![("a".into(), "1".into()), ("b".into(), "2".into()), ("a".into(), "3".into())]);
        assert_eq!(h.str("a"), Some("3"));
        h.set("a", "4");
        assert_eq!(h.0.len(), 2);
        assert_eq!(h.int("a"), Some(4));
    }

    #[test]
    fn a_bare_record_gets_the_same_task_and_trace_each_time() {
        let a = Meta::read(&Headers::default(), "urls", 3, 17, 1000);
        let b = Meta::read(&Headers::default(), "urls", 3, 17, 1000);
        assert_eq!(a, b);
        assert_eq!(a.task, "urls-3-17");
        let next = Meta::read(&a.child_headers("http://x/"), "pages", 0, 0, 5);
        assert_eq!(next.task, a.task);
        assert_eq!(next.first_seen, 1000);
        assert_eq!(next.trace.trace_id, a.trace.trace_id);
        assert_ne!(next.trace.span_id, a.trace.span_id);
    }
}
