//! The dead-letter envelope: the original key, value and headers byte for byte, plus failure headers in Kafka Connect's
//! names (`__connect.errors.*`, KIP-298), so that tools which know those can read ours.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::failure::FailureClass;
use super::headers::{self, Headers};

const PREFIX: &str = "__connect.errors.";
/// Topic the record was read from.
pub const TOPIC: &str = "__connect.errors.topic";
/// Partition, decimal.
pub const PARTITION: &str = "__connect.errors.partition";
/// Offset, decimal.
pub const OFFSET: &str = "__connect.errors.offset";
/// Stage that failed.
pub const STAGE: &str = "__connect.errors.stage";
/// Failure class, for tools that show Connect's name.
pub const EXCEPTION_CLASS: &str = "__connect.errors.exception.class.name";
/// One sentence.
pub const EXCEPTION_MESSAGE: &str = "__connect.errors.exception.message";
/// Failure class.
pub const CLASS: &str = "tidemill.failure.class";
/// Same cause, same fingerprint.
pub const FINGERPRINT: &str = "tidemill.failure.fingerprint";
/// When it was given up, Unix ms.
pub const AT: &str = "tidemill.failure.at";
/// Attempts made.
pub const ATTEMPTS: &str = "tidemill.failure.attempts";
/// Stage that failed, without Connect's prefix.
pub const FAILED_STAGE: &str = "tidemill.failure.stage";

/// Longest message kept in a header, in characters.
const MESSAGE_LIMIT: usize = 2_000;

/// Where and why a record failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stage that failed.
    pub stage: String,
    /// Full topic name, partition and offset the record was read from.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Class and one sentence.
    pub class: FailureClass,
    pub message: String,
    /// Attempts made.
    pub attempts: u32,
    /// Unix ms.
    pub at: i64,
}

impl Failure {
    /// Headers of the letter: the original ones with old failure headers replaced, never piled up.
    pub fn headers(&self, original: &Headers) -> Headers {
        let mut out = strip(original);
        let message: String = self.message.chars().take(MESSAGE_LIMIT).collect();
        let fields = [
            (TOPIC, self.topic.clone()),
            (PARTITION, self.partition.to_string()),
            (OFFSET, self.offset.to_string()),
            (STAGE, self.stage.clone()),
            (EXCEPTION_CLASS, self.class.to_string()),
            (EXCEPTION_MESSAGE, message),
            (CLASS, self.class.to_string()),
            (FINGERPRINT, fingerprint(&self.stage, self.class, &self.message)),
            (AT, self.at.to_string()),
            (ATTEMPTS, self.attempts.to_string()),
            (FAILED_STAGE, self.stage.clone()),
        ];
        out.0.extend(fields.map(|(n, v)| (n.into(), Bytes::from(v))));
        out
    }

    /// Reads a letter's failure; None when the headers are not there.
    pub fn read(h: &Headers) -> Option<Failure> {
        Some(Failure {
            stage: h.str(STAGE)?.to_owned(),
            topic: h.str(TOPIC)?.to_owned(),
            partition: i32::try_from(h.int(PARTITION)?).ok()?,
            offset: h.int(OFFSET)?,
            class: h.str(CLASS)?.parse().ok()?,
            message: h.str(EXCEPTION_MESSAGE).unwrap_or_default().to_owned(),
            attempts: h.int(ATTEMPTS).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            at: h.int(AT).unwrap_or(0),
        })
    }
}

/// The headers without any failure header: what a replay sends, with the attempts back to none.
pub fn strip(h: &Headers) -> Headers {
    Headers(
        h.0.iter().filter(|(n, _)| !n.starts_with(PREFIX) && !n.starts_with("tidemill.failure.")).cloned().collect(),
    )
}

/// Headers for a replayed letter.
pub fn replay_headers(h: &Headers, run: &str) -> Headers {
    let mut out = strip(h);
    for name in [headers::ATTEMPT, headers::NOT_BEFORE, headers::SLOT] {
        out.remove(name);
    }
    out.set(headers::REPLAY, run.to_owned());
    out
}

/// Names a cause: stage, class and the message with its particulars (URLs, numbers, ids, quoted text) taken out.
/// 16 hex digits.
pub fn fingerprint(stage: &str, class: FailureClass, message: &str) -> String {
    let shape: Vec<&str> = message
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '(' | ')' | ',' | ';'))
        .filter(|w| !w.is_empty() && !w.contains("://") && !w.chars().any(|c| c.is_ascii_digit()) && !w.contains('/'))
        .filter(|w| !w.trim_end_matches(['.', ':']).contains('.'))
        .collect();
    let digest = Sha256::digest(format!("{stage}\n{class}\n{}", shape.join(" ")));
    hex::encode(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure {
            stage: "fetch".into(),
            topic: "tidemill.urls".into(),
            partition: 2,
            offset: 40,
            class: FailureClass::Http5xx,
            message: "http://a.example/1 answered 503".into(),
            attempts: 4,
            at: 1000,
        }
    }

    #[test]
    fn a_letter_reads_back_and_its_headers_never_pile_up() {
        let original = Headers(vec![("x".into(), Bytes::from_static(b"\xff\x00")), ("x".into(), "2".into())]);
        let once = failure().headers(&original);
        assert_eq!(Failure::read(&once), Some(failure()));
        let twice = Failure { attempts: 5, ..failure() }.headers(&once);
        assert_eq!(twice.0.len(), once.0.len());
        assert_eq!(Failure::read(&twice).map(|f| f.attempts), Some(5));
        assert_eq!(strip(&twice), original);
    }

    #[test]
    fn the_same_cause_has_the_same_fingerprint() {
        let f = |m: &str| fingerprint("fetch", FailureClass::Http5xx, m);
        assert_eq!(f("http://a.example/1 answered 503"), f("http://b.example/2/x answered 502"));
        assert_eq!(f("document 17 has no field \"a9\""), f("document 4 has no field \"b33\""));
        assert_ne!(f("answered"), f("timed out"));
        assert_ne!(f("answered"), fingerprint("index", FailureClass::Http5xx, "answered"));
    }
}
