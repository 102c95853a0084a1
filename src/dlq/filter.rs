//! Which letters are meant.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use regex::Regex;
use serde_json_path::JsonPath;

use crate::topology::StageName;

use super::{Letter, LetterId};

/// How far a walk through the letters is: records there are, and those that were looked at.
#[derive(Debug, Default)]
pub struct Walk {
    pub total: AtomicU64,
    pub seen: AtomicU64,
}

/// All that is set must hold; nothing set means every letter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this stage.
    pub stage: Option<StageName>,
    /// In these topics (full names), whoever wrote them; empty: in the stages' dead-letter topics.
    pub topics: Vec<String>,
    /// Of this failure class, or of this exception, with its package or without.
    pub class: Option<String>,
    /// Of this host, with its port if that is not the default.
    pub host: Option<String>,
    /// Of this cause.
    pub fingerprint: Option<String>,
    /// One of these; empty: any.
    pub ids: Vec<LetterId>,
    /// Written to the dead letters at this time (Unix ms) or later.
    pub since: Option<i64>,
    /// Written to the dead letters before this time (Unix ms).
    pub until: Option<i64>,
    /// Given up after at least, and at most, so many attempts.
    pub attempts: (Option<u32>, Option<u32>),
    /// With these headers; with any value, if none is given.
    pub headers: Vec<(String, Option<String>)>,
    /// With this in the failure's message or in the decoded value.
    pub grep: Option<Regex>,
    /// Whose decoded value has something at this path (RFC 9535).
    pub path: Option<JsonPath>,
    /// Not put back yet.
    pub not_replayed: bool,
    /// Put back already.
    pub replayed: bool,
    /// Told how far each walk through the letters is; says nothing of which are meant.
    pub walk: Option<Arc<Walk>>,
}

impl Filter {
    /// Whether every letter is meant, put back or not.
    pub fn is_everything(&self) -> bool {
        let Filter {
            stage,
            topics,
            class,
            host,
            fingerprint,
            ids,
            since,
            until,
            attempts,
            headers,
            grep,
            path,
            not_replayed: _,
            replayed: _,
            walk: _,
        } = self;
        stage.is_none()
            && topics.is_empty()
            && class.is_none()
            && host.is_none()
            && fingerprint.is_none()
            && ids.is_empty()
            && since.is_none()
            && until.is_none()
            && *attempts == (None, None)
            && headers.is_empty()
            && grep.is_none()
            && path.is_none()
    }

    /// Whether a letter is meant. One without failure headers has no class, no attempts and no fingerprint. What is cheap
    /// to tell is asked first; the value is decoded last.
    pub fn lets_through(&self, letter: &Letter) -> bool {
        let failure = letter.failure.as_ref();
        let (fewest, most) = self.attempts;
        self.stage.is_none_or(|s| letter.stage == Some(s))
            && (!self.not_replayed || letter.replayed.is_none())
            && (!self.replayed || letter.replayed.is_some())
            && (self.ids.is_empty() || self.ids.contains(&letter.id))
            && self.since.is_none_or(|since| letter.record.timestamp >= since)
            && self.until.is_none_or(|until| letter.record.timestamp < until)
            && self.class.as_ref().is_none_or(|c| failure.is_some_and(|f| f.class == *c || f.short_class() == c))
            && fewest.is_none_or(|n| failure.is_some_and(|f| f.attempts >= n))
            && most.is_none_or(|n| failure.is_some_and(|f| f.attempts <= n))
            && self.headers.iter().all(|(name, value)| has_header(letter, name, value.as_deref()))
            && self.host.as_ref().is_none_or(|h| letter.host().is_some_and(|host| host.eq_ignore_ascii_case(h)))
            && self.fingerprint.as_ref().is_none_or(|f| letter.fingerprint().as_ref() == Some(f))
            && self.has_content(letter)
    }

    fn has_content(&self, letter: &Letter) -> bool {
        if self.grep.is_none() && self.path.is_none() {
            return true;
        }
        let value = letter.value();
        let says = |g: &Regex| {
            letter.failure.as_ref().is_some_and(|f| g.is_match(&f.message))
                || match &value {
                    Some(json) => g.is_match(&json.to_string()),
                    None => g.is_match(&String::from_utf8_lossy(&letter.record.value)),
                }
        };
        self.path.as_ref().is_none_or(|p| value.as_ref().is_some_and(|v| !p.query(v).is_empty()))
            && self.grep.as_ref().is_none_or(says)
    }
}

fn has_header(letter: &Letter, name: &str, value: Option<&str>) -> bool {
    letter.record.headers.0.iter().any(|(n, v)| n == name && value.is_none_or(|wanted| v == wanted.as_bytes()))
}
