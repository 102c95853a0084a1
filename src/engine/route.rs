//! An outcome as records: where they go and which headers they get. Pure: time comes in, nothing is written here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::schedule::{ms, tier_for};
use super::stage::Outcome;
use crate::record::codec::CodecError;
use crate::record::headers::{self, Meta};
use crate::record::letter::Failure;
use crate::record::{FailureClass, Kind, OutcomeKind, StatusEvent, codec};
use crate::topology::{self, Names, StageDef};
use crate::transport::{Incoming, Outgoing};

/// Class of the status event of a record that goes to another partition.
pub const MOVED: &str = "moved";

/// What the engine needs to know to route a stage's outcomes.
#[derive(Debug, Clone)]
pub struct Router {
    /// The stage's row.
    pub def: &'static StageDef,
    /// Prefix, and the framing that is written.
    pub names: Names,
    /// Delay before each further attempt; their end is the dead letter (see [`topology::Ladder::delays`]).
    pub delays: &'static [Duration],
    /// How long a record waits in each retry topic, shortest first, at most [`topology::TIERS`] (see
    /// [`topology::Ladder::tiers`]).
    pub tiers: Vec<Duration>,
    /// Full name of the topic of each kind it emits, and of the status topic: asked for with every record.
    outputs: Vec<(Kind, Arc<str>)>,
    status: Arc<str>,
    /// Largest record of each topic it emits to, in bytes.
    largest: Vec<(Arc<str>, usize)>,
}

/// A handled record: what is written in the transaction that completes it.
#[derive(Debug, PartialEq)]
pub struct Routed {
    /// Next records, retry, dead letter; the status event last.
    pub outputs: Vec<Outgoing>,
    /// The same event, for counters and logs.
    pub status: StatusEvent,
}

/// Times of one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Unix ms, when the outcome was known.
    pub now: i64,
    /// In the handler.
    pub took: Duration,
    /// From the record's writing to its handling.
    pub waited: Duration,
}

impl Router {
    /// A router for a stage, with a retry topic for each delay.
    pub fn new(def: &'static StageDef, names: Names, delays: &'static [Duration]) -> Router {
        let outputs = def.outputs.iter().map(|(kind, topic)| (*kind, names.full(topic).into())).collect();
        let status = names.full(topology::STATUS).into();
        let emits = |name: &str| def.outputs.iter().any(|(_, topic)| *topic == name);
        let all = topology::topics().into_iter().filter(|t| emits(&t.name));
        let largest = all.map(|t| (names.full(&t.name).into(), t.max_message_bytes as usize)).collect();
        Router { def, names, delays, tiers: delays.to_vec(), outputs, status, largest }
    }

    /// The same, whose retry topics hold records for so long.
    pub fn with_tiers(self, tiers: impl Into<Vec<Duration>>) -> Router {
        Router { tiers: tiers.into(), ..self }
    }

    /// A record whose due time has not come although its tier's delay is over: moved on without a word to the stage.
    pub fn repark(&self, record: &Incoming, meta: &Meta, now: i64) -> Outgoing {
        self.to_tier(record, meta.not_before, now, meta.attempt, meta.slot)
    }

    /// Turns an outcome into records. Encoding can fail (a record over its schema): that is a dead letter of class
    /// `schema`.
    pub fn route(&self, record: &Incoming, meta: &Meta, url: &str, outcome: Outcome, timing: Timing) -> Routed {
        let routed = self.try_route(record, meta, url, outcome, timing);
        match routed.map_err(|e| (FailureClass::Schema, e.to_string())).and_then(|r| self.fits(r)) {
            Ok(routed) => routed,
            Err((class, e)) => {
                let letter = Outcome::DeadLetter { class, message: e.clone() };
                // A letter holds the original bytes and a status event of plain strings: neither can fail to encode.
                self.try_route(record, meta, url, letter, timing).unwrap_or_else(|_| Routed {
                    outputs: vec![self.letter(record, meta, class, &e, timing.now)],
                    status: self.event(meta, url, OutcomeKind::DeadLettered, timing),
                })
            }
        }
    }

    /// A record that its topic does not take would have its whole transaction refused, again and again.
    fn fits(&self, routed: Routed) -> Result<Routed, (FailureClass, String)> {
        let limit = |o: &Outgoing| self.largest.iter().find(|(topic, _)| *topic == o.topic).map(|(_, limit)| *limit);
        match routed.outputs.iter().find(|o| limit(o).is_some_and(|limit| o.size() > limit)) {
            None => Ok(routed),
            Some(o) => {
                let (size, most) = (o.size(), limit(o).unwrap_or_default());
                let what = format!("its record for {} has {size} bytes, more than the {most} the topic takes", o.topic);
                Err((FailureClass::TooLarge, what))
            }
        }
    }

    fn try_route(
        &self,
        record: &Incoming,
        meta: &Meta,
        url: &str,
        outcome: Outcome,
        timing: Timing,
    ) -> Result<Routed, CodecError> {
        let now = timing.now;
        let mut status = self.event(meta, url, OutcomeKind::Done, timing);
        let mut outputs = Vec::with_capacity(2);
        match outcome {
            Outcome::Done => {}
            Outcome::Emit(records) => {
                status.outcome = OutcomeKind::Emitted;
                status.emitted = i32::try_from(records.len()).unwrap_or(i32::MAX);
                for r in records {
                    let topic = self.outputs.iter().find(|(kind, _)| *kind == r.kind()).ok_or_else(|| {
                        CodecError::Malformed(format!("{} may not emit a {:?}", self.def.name, r.kind()))
                    })?;
                    outputs.push(Outgoing {
                        tombstone: false,
                        topic: Arc::clone(&topic.1),
                        partition: None,
                        key: Some(r.key()),
                        value: r.encode(self.names.ids())?,
                        headers: meta.child_headers(r.url()),
                    });
                }
            }
            Outcome::Drop { reason, message } => {
                status.outcome = OutcomeKind::Dropped;
                status.class = Some(reason.to_string());
                status.message = Some(message);
            }
            Outcome::Park { until, message, reserved } => {
                status.outcome = OutcomeKind::Parked;
                status.attempt = i32::try_from(meta.attempt).unwrap_or(i32::MAX);
                status.message = Some(message);
                status.until = Some(until);
                outputs.push(self.to_tier(record, until, now, meta.attempt, reserved.then_some(until)));
            }
            Outcome::Move { key } => {
                status.outcome = OutcomeKind::Parked;
                status.attempt = i32::try_from(meta.attempt).unwrap_or(i32::MAX);
                status.class = Some(MOVED.to_owned());
                status.message =
                    Some(format!("its key is {}: it goes to the owner of that", String::from_utf8_lossy(&key)));
                status.until = Some(now);
                let mut out = self.same(record, self.names.bare(&record.at.topic));
                out.partition = None;
                out.key = Some(key);
                out.headers.set(headers::MOVED, "1");
                self.identify(record, &mut out);
                outputs.push(out);
            }
            Outcome::Retry { class, message, after } => {
                status.class = Some(class.to_string());
                match self.delays.get(meta.attempt as usize) {
                    Some(delay) => {
                        let until = now.saturating_add(ms(after.map_or(*delay, |a| a.max(*delay))));
                        status.outcome = OutcomeKind::Retried;
                        status.until = Some(until);
                        outputs.push(self.to_tier(record, until, now, meta.attempt + 1, None));
                    }
                    None => {
                        status.outcome = OutcomeKind::DeadLettered;
                        outputs.push(self.letter(record, meta, class, &message, now));
                    }
                }
                status.message = Some(message);
            }
            Outcome::DeadLetter { class, message } => {
                status.outcome = OutcomeKind::DeadLettered;
                status.class = Some(class.to_string());
                outputs.push(self.letter(record, meta, class, &message, now));
                status.message = Some(message);
            }
        }
        outputs.push(Outgoing {
            tombstone: false,
            topic: Arc::clone(&self.status),
            partition: None,
            key: Some(Bytes::from(status.task.clone())),
            value: codec::encode(&status, self.names.ids())?,
            headers: headers::Headers::default(),
        });
        Ok(Routed { outputs, status })
    }

    /// The record as it came, on the longest tier that does not overshoot `until`. It keeps its key, so the same member
    /// owns it.
    fn to_tier(&self, record: &Incoming, until: i64, now: i64, attempt: u32, slot: Option<i64>) -> Outgoing {
        let remaining = Duration::from_millis(u64::try_from(until - now).unwrap_or(0));
        let tier = tier_for(&self.tiers, remaining);
        let mut out = self.same(record, &self.def.retry(tier));
        out.headers.set(headers::ATTEMPT, attempt.to_string());
        out.headers.set(headers::NOT_BEFORE, until.to_string());
        match slot {
            Some(slot) => out.headers.set(headers::SLOT, slot.to_string()),
            None => out.headers.remove(headers::SLOT),
        }
        self.identify(record, &mut out);
        out
    }

    fn letter(&self, record: &Incoming, meta: &Meta, class: FailureClass, message: &str, now: i64) -> Outgoing {
        let mut out = self.same(record, &self.def.dlq());
        let failure = Failure {
            stage: self.def.name.to_string(),
            topic: record.at.topic.to_string(),
            partition: record.at.partition,
            offset: record.offset,
            class,
            message: message.to_owned(),
            attempts: meta.attempt + 1,
            at: now,
        };
        self.identify(record, &mut out);
        out.headers = failure.headers(&out.headers);
        out
    }

    /// A bare input record's id is its position; once it moves, it must carry it.
    fn identify(&self, record: &Incoming, out: &mut Outgoing) {
        let meta = Meta::read(&record.headers, &record.at.topic, record.at.partition, record.offset, record.timestamp);
        for (name, value) in [
            (headers::TASK, meta.task),
            (headers::FIRST_SEEN, meta.first_seen.to_string()),
            (headers::TRACEPARENT, meta.trace.to_string()),
        ] {
            if out.headers.get(name).is_none() {
                out.headers.set(name, value);
            }
        }
    }

    fn same(&self, record: &Incoming, topic: &str) -> Outgoing {
        Outgoing {
            tombstone: record.tombstone,
            topic: self.names.full(topic).into(),
            partition: Some(record.at.partition),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        }
    }

    fn event(&self, meta: &Meta, url: &str, outcome: OutcomeKind, timing: Timing) -> StatusEvent {
        StatusEvent {
            task: meta.task.clone(),
            job: meta.job.clone(),
            url: url.to_owned(),
            stage: self.def.name.to_string(),
            outcome,
            class: None,
            message: None,
            attempt: i32::try_from(meta.attempt + 1).unwrap_or(i32::MAX),
            at: timing.now,
            took_ms: timing.took.as_secs_f64() * 1e3,
            waited_ms: timing.waited.as_secs_f64() * 1e3,
            emitted: 0,
            until: None,
            trace: meta.trace.trace_hex(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{DropReason, Headers, Record, UrlTask};
    use crate::topology::{Ladder, StageName, stage};
    use crate::transport::TopicPartition;
    use proptest::prelude::*;

    const NOW: i64 = 1_000_000;

    fn router(ladder: Ladder) -> Router {
        Router::new(stage(StageName::Fetch), Names::new("t."), ladder.delays()).with_tiers(ladder.tiers())
    }

    fn record(attempt: u32) -> Incoming {
        let mut headers = Headers(vec![("mine".into(), Bytes::from_static(b"\xff"))]);
        headers.set(headers::ATTEMPT, attempt.to_string());
        Incoming {
            tombstone: false,
            at: TopicPartition::new("t.urls", 7),
            offset: 3,
            timestamp: 900_000,
            key: Some("k".into()),
            value: "not a url".into(),
            headers,
        }
    }

    fn route(r: &Router, rec: &Incoming, outcome: Outcome) -> Routed {
        let meta = Meta::read(&rec.headers, &rec.at.topic, rec.at.partition, rec.offset, rec.timestamp);
        let timing = Timing { now: NOW, took: Duration::from_millis(2), waited: Duration::from_millis(1) };
        r.route(rec, &meta, "http://x/", outcome, timing)
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Done),
            Just(Outcome::Emit(vec![Record::UrlTask(Box::new(UrlTask::new("http://x/")))])),
            Just(Outcome::dropped(DropReason::Robots, "no")),
            (0i64..10_000_000, any::<bool>()).prop_map(|(u, reserved)| Outcome::Park {
                until: NOW + u,
                message: "busy".into(),
                reserved
            }),
            prop::option::of(0u64..10_000).prop_map(|s| Outcome::Retry {
                class: FailureClass::Timeout,
                message: "slow".into(),
                after: s.map(Duration::from_secs)
            }),
            Just(Outcome::DeadLetter { class: FailureClass::Parse, message: "bad".into() }),
            Just(Outcome::Move { key: "x".into() }),
        ]
    }

    proptest! {
        /// Whatever a stage says: one status event, and the record itself goes on, waits, rests or ends, never two of
        /// these; where it goes on as it is, its bytes, key and partition are what they were.
        #[test]
        fn a_record_ends_as_exactly_one_thing(outcome in outcomes(), attempt in 0u32..6) {
            let rec = record(attempt);
            let routed = route(&router(Ladder::Quick), &rec, outcome.clone());
            let (status, rest) = routed.outputs.split_last().unwrap();
            prop_assert_eq!(&*status.topic, "t.status");
            prop_assert_eq!(&codec::decode::<StatusEvent>(&status.value).unwrap(), &routed.status);
            if let Outcome::Move { key } = &outcome {
                // Back to its topic, under its key, with its name; where the key belongs is for the transport to say.
                prop_assert_eq!((rest.len(), &*rest[0].topic, rest[0].partition), (1, "t.urls", None));
                prop_assert_eq!((&rest[0].key, &rest[0].value), (&Some(key.clone()), &rec.value));
                prop_assert_eq!(rest[0].headers.str(headers::TASK), Some("t.urls-7-3"));
                prop_assert_eq!(rest[0].headers.get(headers::ATTEMPT), rec.headers.get(headers::ATTEMPT));
                prop_assert_eq!(routed.status.outcome, OutcomeKind::Parked);
                return Ok(());
            }
            let moved: Vec<_> = rest.iter().filter(|o| o.topic.contains(".retry.") || o.topic.ends_with(".dlq")).collect();
            for m in &moved {
                prop_assert_eq!((&m.key, &m.value, m.partition), (&rec.key, &rec.value, Some(7)));
                prop_assert_eq!(m.headers.get("mine"), rec.headers.get("mine"));
                prop_assert_eq!(m.headers.str(headers::TASK), Some("t.urls-7-3"));
            }
            let expect = match (&outcome, attempt) {
                (Outcome::Retry { .. }, 3..) => OutcomeKind::DeadLettered,
                (Outcome::Retry { .. }, _) => OutcomeKind::Retried,
                (Outcome::Park { .. } | Outcome::Move { .. }, _) => OutcomeKind::Parked,
                (Outcome::DeadLetter { .. }, _) => OutcomeKind::DeadLettered,
                (Outcome::Drop { .. }, _) => OutcomeKind::Dropped,
                (Outcome::Emit(_), _) => OutcomeKind::Emitted,
                (Outcome::Done, _) => OutcomeKind::Done,
            };
            prop_assert_eq!(routed.status.outcome, expect);
            let waits = matches!(expect, OutcomeKind::Retried | OutcomeKind::Parked);
            prop_assert_eq!(moved.len(), usize::from(waits || expect == OutcomeKind::DeadLettered));
            if waits {
                prop_assert_eq!(moved[0].headers.int(headers::NOT_BEFORE), routed.status.until);
                let counted = attempt + u32::from(expect == OutcomeKind::Retried);
                prop_assert_eq!(moved[0].headers.int(headers::ATTEMPT), Some(i64::from(counted)));
            }
        }
    }

    #[test]
    fn retries_climb_the_ladder_and_respect_a_longer_wait() {
        let r = router(Ladder::Standard);
        let retry = |attempt, after| {
            let o = Outcome::Retry { class: FailureClass::Http5xx, message: "503".into(), after };
            let routed = route(&r, &record(attempt), o);
            (routed.outputs[0].topic.to_string(), routed.status.until)
        };
        assert_eq!(retry(0, None), ("t.fetch.retry.1".into(), Some(NOW + 10_000)));
        assert_eq!(retry(1, None), ("t.fetch.retry.2".into(), Some(NOW + 60_000)));
        assert_eq!(retry(0, Some(Duration::from_secs(700))), ("t.fetch.retry.3".into(), Some(NOW + 700_000)));
        assert_eq!(retry(4, None).0, "t.fetch.dlq");
    }

    #[test]
    fn a_record_larger_than_its_topic_takes_is_a_dead_letter() {
        let r = router(Ladder::Quick);
        let mut task = UrlTask::new("http://x/");
        task.attrs.insert("k".into(), "v".repeat(1 << 20));
        let routed = route(&r, &record(0), Outcome::Emit(vec![Record::UrlTask(Box::new(task))]));
        assert_eq!(routed.outputs[0].headers.str(crate::record::letter::CLASS), Some("too-large"));
        assert!(routed.status.message.as_deref().is_some_and(|m| m.contains("t.urls")), "{:?}", routed.status);
    }

    #[test]
    fn what_a_stage_may_not_emit_is_a_dead_letter_of_class_schema() {
        let r = Router::new(stage(StageName::Index), Names::new("t."), Ladder::Quick.delays());
        let routed = route(&r, &record(0), Outcome::Emit(vec![Record::UrlTask(Box::new(UrlTask::new("http://x/")))]));
        assert_eq!(routed.outputs[0].headers.str(crate::record::letter::CLASS), Some("schema"));
        assert_eq!(routed.status.outcome, OutcomeKind::DeadLettered);
    }
}
