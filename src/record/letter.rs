//! The dead-letter envelope: the original key, value and headers byte for byte, plus failure headers in Kafka Connect's
//! names (`__connect.errors.*`, KIP-298), so that tools which know those can read ours.

use std::borrow::Cow;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::failure::FailureClass;
use super::headers::{self, Headers};

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

/// All of these.
pub const OURS: [&str; 11] = [
    TOPIC,
    PARTITION,
    OFFSET,
    STAGE,
    EXCEPTION_CLASS,
    EXCEPTION_MESSAGE,
    CLASS,
    FINGERPRINT,
    AT,
    ATTEMPTS,
    FAILED_STAGE,
];

/// Those that a failure is read from.
const READ: [&str; 8] = [STAGE, TOPIC, PARTITION, OFFSET, CLASS, EXCEPTION_MESSAGE, ATTEMPTS, AT];

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
            (FINGERPRINT, fingerprint(&self.stage, self.class.as_str(), &self.message)),
            (AT, self.at.to_string()),
            (ATTEMPTS, self.attempts.to_string()),
            (FAILED_STAGE, self.stage.clone()),
        ];
        out.0.extend(fields.map(|(n, v)| (n.into(), Bytes::from(v))));
        out
    }

    /// Reads a letter's failure; None when the headers are not there.
    pub fn read(h: &Headers) -> Option<Failure> {
        // In one pass, for there are millions: the last of a name counts.
        let mut found: [Option<&str>; READ.len()] = [None; READ.len()];
        for (name, value) in &h.0 {
            if let Some(i) = READ.iter().position(|n| n == name) {
                found[i] = std::str::from_utf8(value).ok();
            }
        }
        let [stage, topic, partition, offset, class, message, attempts, at] = found;
        Some(Failure {
            stage: stage?.to_owned(),
            topic: topic?.to_owned(),
            partition: partition?.parse().ok()?,
            offset: offset?.parse().ok()?,
            class: class?.parse().ok()?,
            message: message.unwrap_or_default().to_owned(),
            attempts: attempts.and_then(|n| n.parse().ok()).unwrap_or(0),
            at: at.and_then(|n| n.parse().ok()).unwrap_or(0),
        })
    }
}

/// The headers without those of [`Failure::headers`]. What others wrote stays, also under Connect's names: ours come
/// last, and only these go.
pub fn strip(h: &Headers) -> Headers {
    let mut out = h.clone();
    if h.get(CLASS).is_none() {
        return out;
    }
    for name in OURS {
        if let Some(i) = out.0.iter().rposition(|(n, _)| n == name) {
            out.0.remove(i);
        }
    }
    out
}

/// Headers for a letter that is put back: as those of a record that was not tried yet.
pub fn replay_headers(h: &Headers) -> Headers {
    let mut out = strip(h);
    for name in [headers::ATTEMPT, headers::NOT_BEFORE, headers::SLOT] {
        out.remove(name);
    }
    out
}

/// Names a cause: stage, class and the message with its particulars taken out ([`shape`]). 16 hex digits.
pub fn fingerprint(stage: &str, class: &str, message: &str) -> String {
    let digest = Sha256::digest(format!("{stage}\n{class}\n{}", shape(message)));
    hex::encode(&digest[..8])
}

/// What a message says whatever it is about: without quoted text, URLs, hosts, paths, addresses, numbers and ids, in lower
/// case.
pub fn shape(message: &str) -> String {
    // As much as a letter keeps of it, so that both have the same shape.
    let message = match message.len() > MESSAGE_LIMIT {
        true => message.char_indices().nth(MESSAGE_LIMIT).map_or(message, |(i, _)| &message[..i]),
        false => message,
    };
    // Most messages are ASCII without quotes, which a look at the bytes tells.
    let quoted = message.bytes().any(|b| matches!(b, b'"' | b'\'' | b'`' | 0x80..)) && message.contains(is_quote);
    let unquoted = if quoted { Cow::Owned(without_quotes(message)) } else { Cow::Borrowed(message) };
    let apart = |c: char| match APART.get(c as usize) {
        Some(apart) => *apart,
        None => c.is_whitespace() || is_quote(c) || matches!(c, '”' | '»'),
    };
    let mut shape = String::with_capacity(message.len());
    for word in unquoted.split(apart).map(|w| w.trim_matches(['.', ':', '!', '?', '-', '…'])) {
        if word.is_empty() || is_particular(word) {
            continue;
        }
        if !shape.is_empty() {
            shape.push(' ');
        }
        match word.is_ascii() {
            true => shape.extend(word.chars().map(|c| c.to_ascii_lowercase())),
            false => shape.push_str(&word.to_lowercase()),
        }
    }
    shape
}

/// ASCII characters that words of a message stand between. A table, because there is no guessing which comes next.
const APART: [bool; 128] = {
    let (mut table, apart) = ([false; 128], b" \t\n\x0b\x0c\r\"'`()[]{}<>,;=|");
    let mut i = 0;
    while i < apart.len() {
        table[apart[i] as usize] = true;
        i += 1;
    }
    table
};

/// Opens a quotation.
fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '“' | '‘' | '«')
}

/// Leaves out what stands in quotation marks. A mark opens where a word begins and closes where it ends, so an apostrophe
/// is none; one that nothing closes is left.
fn without_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut before) = (text, ' ');
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let closing = match c {
            '"' | '\'' | '`' => Some(c),
            '“' => Some('”'),
            '‘' => Some('’'),
            '«' => Some('»'),
            _ => None,
        };
        let close = closing.filter(|_| !before.is_alphanumeric()).and_then(|q| {
            let ends = |(i, _): &(usize, &str)| !after[i + q.len_utf8()..].starts_with(char::is_alphanumeric);
            after.match_indices(q).find(ends).map(|(i, _)| i + q.len_utf8())
        });
        let skipped = close.map_or(after, |end| &after[end..]);
        out.push(if close.is_some() { ' ' } else { c });
        (rest, before) = (skipped, c);
    }
    out
}

/// Whether a word is about this record and no other: a URL, path, host, address, number or id.
fn is_particular(word: &str) -> bool {
    let ascii = word.is_ascii();
    if word.bytes().any(|b| matches!(b, b'0'..=b'9' | b'/' | b'\\' | b'@')) || !ascii && word.contains(char::is_numeric)
    {
        return true;
    }
    if let Some((_, last)) = word.rsplit_once('.') {
        // A host or a file; but what went wrong may be called by its full name.
        return !(last.ends_with("Exception") || last.ends_with("Error"));
    }
    if word.len() < 8 {
        // Too short for any of these.
        return false;
    }
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    if letters >= 8 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return true;
    }
    // Of random letters: case that changes all the time, or nothing to pronounce.
    let pairs = || word.chars().zip(word.chars().skip(1));
    let humps = pairs().filter(|(a, b)| a.is_lowercase() && b.is_uppercase()).count();
    let mut run = 0;
    let consonants = word.chars().map(|c| {
        run = if c.is_ascii_lowercase() && !matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y') { run + 1 } else { 0 };
        run
    });
    letters >= 8 && (humps >= 3 && humps * 5 >= letters || consonants.max().unwrap_or(0) >= 7)
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
        // A record that was somebody else's dead letter before it came to us.
        let original = Headers(vec![
            ("x".into(), Bytes::from_static(b"\xff\x00")),
            (TOPIC.into(), "orders".into()),
            ("x".into(), "2".into()),
            ("__connect.errors.exception.stacktrace".into(), "at Sink.put".into()),
        ]);
        assert_eq!(strip(&original), original);
        let once = failure().headers(&original);
        assert_eq!(Failure::read(&once), Some(failure()));
        let twice = Failure { attempts: 5, ..failure() }.headers(&once);
        assert_eq!(twice.0.len(), once.0.len());
        assert_eq!(Failure::read(&twice).map(|f| f.attempts), Some(5));
        assert_eq!(strip(&twice), original);
    }

    #[test]
    fn the_same_cause_has_the_same_fingerprint() {
        let f = |m: &str| fingerprint("fetch", "http-5xx", m);
        for same in [
            &["http://a.example/1 answered 503", "http://b.example/2/x answered 502"][..],
            &["document 17 has no field \"a9\"", "document 4 has no field \"b33\""],
            &["no field \"title\"", "no field \"author\"", "No field `two words`", "no field 'it''s'", "no field “x”"],
            &["blob deadbeef is gone", "blob cafebabe is gone", "blob 01ab is gone"],
            &["task abcdefab-cdef-abcd-efab-cdefabcdefab is late", "task 0190f3a2-7c1e-7cc0-98b2-5a3c1f0e9d11 is late"],
            &["token aBcDeFgHiJkL expired", "token xkqzvbnmtr expired", "token Zk93 expired"],
            &["cannot read C:\\tmp\\x", "cannot read /var/tmp/y"],
            &["a.example does not resolve", "www.b.example. does not resolve", "someone@c.example does not resolve"],
            &["missing field `title` at line 1 column 3", "missing field `url` at line 20 column 17"],
            &["the host's answer ended early", "the host's answer ended early."],
        ] {
            for m in same {
                assert_eq!(f(m), f(same[0]), "{m:?} is {:?}, {:?} is {:?}", shape(m), same[0], shape(same[0]));
            }
        }
        let different = [
            "answered",
            "timed out",
            "no field \"a\"",
            "no value \"a\"",
            "the host's name does not resolve",
            "the certificate does not match",
            "java.lang.NullPointerException",
            "java.lang.IllegalStateException",
            "org.apache.kafka.common.errors.SerializationException: no bytes",
            "HttpRequestTooLong",
            "NullPointerException",
            "connection reset",
            "connection refused",
        ];
        let ids: std::collections::BTreeSet<_> = different.iter().map(|m| f(m)).collect();
        assert_eq!(ids.len(), different.len());
        assert_ne!(f("answered"), fingerprint("index", "http-5xx", "answered"));
        assert_ne!(f("answered"), fingerprint("fetch", "http-4xx", "answered"));
        let long = format!("{} 17", "word ".repeat(1_000));
        assert_eq!(f(&long), f(&long.chars().take(MESSAGE_LIMIT).collect::<String>()));
    }
}
