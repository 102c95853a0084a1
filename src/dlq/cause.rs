//! Why a letter is one, whoever wrote it: Tidemill, or one of those who write dead letters under headers of their own.
//!
//! | writer | headers | numbers |
//! |---|---|---|
//! | Tidemill | `tidemill.failure.*`, `__connect.errors.*` | decimal |
//! | Spring Kafka, `DeadLetterPublishingRecoverer` | `kafka_dlt-*`; with retry topics also `retry_topic-*` | big-endian, 4 or 8 bytes |
//! | Kafka Connect (KIP-298) | `__connect.errors.*` | decimal |
//! | Kafka Streams (KIP-1034) | `__streams.errors.*` | decimal |

use std::borrow::Cow;

use crate::record::Headers;
use crate::record::letter::Failure;

/// Who wrote a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    Tidemill,
    Spring,
    Connect,
    Streams,
}

/// Where and why a record failed, as far as its letter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub writer: Writer,
    /// Where it failed: our stage, Connect's stage, Spring's consumer group; empty when it is not said.
    pub stage: String,
    /// Full name of the topic it was read from.
    pub topic: String,
    /// Its partition and offset there.
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    /// Failure class of ours; else the name of an exception, of the innermost that is told.
    pub class: Cow<'static, str>,
    /// What it says; empty when it says nothing.
    pub message: String,
    /// Attempts made; 0 when it is not said.
    pub attempts: u32,
    /// When it was given up, Unix ms; 0 when it is not said.
    pub at: i64,
}

/// Headers that begin so are a writer's own, and go when a letter is put back.
const PREFIXES: [(&str, Writer); 5] = [
    ("kafka_dlt-", Writer::Spring),
    ("retry_topic-", Writer::Spring),
    ("springDeserializerException", Writer::Spring),
    ("__connect.errors.", Writer::Connect),
    ("__streams.errors.", Writer::Streams),
];

impl Writer {
    /// For people: `Spring Kafka`, …
    pub fn name(self) -> &'static str {
        match self {
            Writer::Tidemill => "Tidemill",
            Writer::Spring => "Spring Kafka",
            Writer::Connect => "Kafka Connect",
            Writer::Streams => "Kafka Streams",
        }
    }
}

impl Cause {
    /// Reads a letter's headers; None when nobody's are there, or they do not say which topic the record is from. Ours
    /// come first: a letter of ours may once have been somebody else's, and then has both.
    pub fn read(h: &Headers) -> Option<Cause> {
        Failure::read(h).map(Cause::from).or_else(|| spring(h)).or_else(|| connect(h)).or_else(|| streams(h))
    }

    /// Its class, of an exception without the package: `IllegalStateException`.
    pub fn short_class(&self) -> &str {
        self.class.rsplit(['.', '$']).next().unwrap_or(&self.class)
    }
}

impl From<Failure> for Cause {
    fn from(f: Failure) -> Cause {
        Cause {
            writer: Writer::Tidemill,
            stage: f.stage,
            topic: f.topic,
            partition: Some(f.partition),
            offset: Some(f.offset),
            class: f.class.as_str().into(),
            message: f.message,
            attempts: f.attempts,
            at: f.at,
        }
    }
}

/// The headers without what those other than us write into a letter.
pub fn strip(h: &Headers) -> Headers {
    Headers(h.0.iter().filter(|(n, _)| !PREFIXES.iter().any(|(p, _)| n.starts_with(p))).cloned().collect())
}

/// Spring says where a record came from once more each time it dies: the first says where it is from. Of exceptions of one
/// kind only the last one's headers are there, but those of a key may be left from an earlier death.
fn spring(h: &Headers) -> Option<Cause> {
    let first = |name: &str| h.0.iter().find(|(n, _)| n == name).map(|(_, v)| &v[..]);
    let topic = first("kafka_dlt-original-topic")?;
    let last = |name: &str| h.0.iter().rposition(|(n, _)| n == name);
    let of_key = last("kafka_dlt-key-exception-fqcn") > last("kafka_dlt-exception-fqcn");
    let kind = if of_key { "kafka_dlt-key-exception-" } else { "kafka_dlt-exception-" };
    let said = |name: &str| h.str(&format!("{kind}{name}"));
    let message = said("message").unwrap_or_default();
    let trace = said("stacktrace");
    // The outer one is always the listener's.
    let class = if of_key { said("fqcn") } else { said("cause-fqcn").or(said("fqcn")) };
    Some(Cause {
        writer: Writer::Spring,
        stage: h.str("kafka_dlt-original-consumer-group").unwrap_or_default().to_owned(),
        topic: String::from_utf8_lossy(topic).into_owned(),
        partition: first("kafka_dlt-original-partition").and_then(big_endian).and_then(|n| i32::try_from(n).ok()),
        offset: first("kafka_dlt-original-offset").and_then(big_endian),
        message: message_of(message.strip_prefix("Listener failed; ").unwrap_or(message), class, trace),
        class: class.unwrap_or_default().to_owned().into(),
        attempts: ["retry_topic-attempts", "kafka_deliveryAttempt"]
            .iter()
            .find_map(|n| h.get(n).and_then(|v| big_endian(v)))
            .and_then(|n| n.try_into().ok())
            .unwrap_or(0),
        at: 0,
    })
}

/// Of several times that a record died, the last counts.
fn connect(h: &Headers) -> Option<Cause> {
    let prefix = "__connect.errors.";
    let stage = h.str("__connect.errors.stage").unwrap_or_default().to_owned();
    let names = ["exception.class.name", "exception.message", "exception.stacktrace"];
    Some(Cause { writer: Writer::Connect, stage, ..decimal(h, prefix, names)? })
}

/// The same.
fn streams(h: &Headers) -> Option<Cause> {
    let cause = decimal(h, "__streams.errors.", ["exception", "message", "stacktrace"])?;
    Some(Cause { writer: Writer::Streams, ..cause })
}

fn decimal(h: &Headers, prefix: &str, [class, message, trace]: [&str; 3]) -> Option<Cause> {
    let said = |name: &str| h.str(&format!("{prefix}{name}"));
    Some(Cause {
        writer: Writer::Connect,
        stage: String::new(),
        topic: said("topic")?.to_owned(),
        partition: said("partition").and_then(|n| n.parse().ok()),
        offset: said("offset").and_then(|n| n.parse().ok()),
        message: message_of(said(message).unwrap_or_default(), said(class), said(trace)),
        class: said(class).unwrap_or_default().to_owned().into(),
        attempts: 0,
        at: 0,
    })
}

/// What an exception says, and the innermost one where its trace has another: of what cannot be deserialised, only that
/// says why.
fn message_of(message: &str, class: Option<&str>, trace: Option<&str>) -> String {
    let root = trace.and_then(|t| t.lines().rev().find_map(|l| l.strip_prefix("Caused by: ")));
    let message = message.trim();
    match root.filter(|root| root.split(':').next() != class && !message.contains(root)) {
        None => message.to_owned(),
        Some(root) if message.is_empty() => format!("caused by {root}"),
        Some(root) => format!("{message} (caused by {root})"),
    }
}

/// A Java `int` or `long` as `ByteBuffer` writes it.
fn big_endian(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        4 => bytes.try_into().ok().map(|b| i64::from(i32::from_be_bytes(b))),
        8 => bytes.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    }
}
