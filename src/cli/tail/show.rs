//! A record as one line for people.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

use crate::cli::decoded::{Decoded, visible};
use crate::cli::format;
use crate::cli::report::outcome_name;
use crate::record::headers::{self, ATTEMPT, TRACEPARENT, URL};
use crate::record::letter::Failure;
use crate::record::{StatusEvent, codec, time};
use crate::transport::Incoming;

/// Longest key, and longest value of a header.
const KEY: usize = 40;
const HEADER: usize = 60;

/// `time  partition/offset  key  value  headers`; a status event as its own line.
pub fn line(r: &Incoming, value: &Decoded<'_>) -> String {
    if let Decoded::Avro("status_event", _) = value
        && let Ok(event) = codec::decode(&r.value)
    {
        return status(&event);
    }
    let key = r.key.as_deref().map_or("-".into(), |k| match std::str::from_utf8(k) {
        Ok(text) => visible(&format::cut(text, KEY)),
        Err(_) => format::cut(&hex::encode(k), KEY),
    });
    let place = format!("{}/{}", r.at.partition, r.offset);
    let mut line = format!("{}  {place:<9} {key:<20} ", time(r.timestamp));
    let failure = Failure::read(&r.headers);
    if let Some(f) = &failure {
        push(&mut line, format_args!(" {}: {} |", f.class, visible(&f.message)));
    }
    push(&mut line, format_args!(" {}", value.line()));
    for (name, value) in &r.headers.0 {
        // Said above, or of no use to eyes.
        let said = name == URL || name == TRACEPARENT || (name == ATTEMPT && &value[..] == b"0");
        let letter = failure.is_some() && (name.starts_with("__connect.") || name.starts_with("tidemill.failure."));
        if said || letter {
            continue;
        }
        let short = name.strip_prefix("tidemill.").unwrap_or(name);
        let shown = String::from_utf8_lossy(value);
        let shown = match name.as_ref() {
            headers::FIRST_SEEN | headers::NOT_BEFORE | headers::SLOT | headers::EXPIRES => {
                shown.parse().map_or(shown.into_owned(), time)
            }
            _ => visible(&format::cut(&shown, HEADER)),
        };
        push(&mut line, format_args!("  {}={shown}", visible(short)));
    }
    line
}

/// `time  stage  outcome  class  url  message`
pub fn status(e: &StatusEvent) -> String {
    let what = outcome_name(e.outcome, &e.stage);
    let class = e.class.as_deref().unwrap_or("");
    let (stage, class, url) = (visible(&e.stage), visible(class), visible(&e.url));
    let mut line = format!("{}  {stage:<8} {what:<13} {class:<18} {url}", time(e.at));
    if let Some(message) = &e.message {
        push(&mut line, format_args!("  {}", visible(message)));
    }
    if let Some(until) = e.until {
        push(&mut line, format_args!("; again at {}", time(until)));
    }
    line
}

/// Writing to a string does not fail.
fn push(line: &mut String, what: std::fmt::Arguments<'_>) {
    let _infallible = line.write_fmt(what);
}

/// At most `width` columns of a terminal.
pub fn fit(line: &str, width: usize) -> String {
    let columns = |c: char| c.width().unwrap_or(0);
    if line.chars().map(columns).sum::<usize>() <= width {
        return line.to_owned();
    }
    let mut used = 1;
    let kept = line.chars().take_while(|c| {
        used += columns(*c);
        used <= width
    });
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FailureClass, Headers, OutcomeKind, UrlTask};
    use crate::transport::TopicPartition;

    #[test]
    fn a_letter_says_its_failure_before_the_record() {
        let failure = Failure {
            stage: "fetch".into(),
            topic: "t.urls".into(),
            partition: 0,
            offset: 1,
            class: FailureClass::Timeout,
            message: "no\x1b answer".into(),
            attempts: 4,
            at: 5,
        };
        let original = Headers(vec![("tidemill.job".into(), "j".into()), (TRACEPARENT.into(), "00".into())]);
        let r = Incoming {
            tombstone: false,
            at: TopicPartition::new("t.fetch.dlq", 3),
            offset: 17,
            timestamp: 0,
            key: Some("x".into()),
            value: codec::encode(&UrlTask::new("http://x/"), &codec::Ids::default()).unwrap(),
            headers: failure.headers(&original),
        };
        let said = line(&r, &Decoded::of(&r.value));
        let place = "1970-01-01T00:00:00.000Z  3/17      x";
        assert!(said.starts_with(place), "{said}");
        assert!(said.ends_with("timeout: no  answer | url=http://x/ force=false maxdepth=0  job=j"), "{said}");
    }

    #[test]
    fn a_status_event_is_one_line() {
        let e = StatusEvent {
            task: "t".into(),
            job: None,
            url: "http://x/".into(),
            stage: "index".into(),
            outcome: OutcomeKind::Retried,
            class: Some("upstream-5xx".into()),
            message: Some("answered 503".into()),
            attempt: 1,
            at: 0,
            took_ms: 0.0,
            waited_ms: 0.0,
            emitted: 0,
            until: Some(2_000),
            trace: String::new(),
        };
        let said = status(&e);
        assert_eq!(
            said.split_whitespace().collect::<Vec<_>>().join(" "),
            "1970-01-01T00:00:00.000Z index retried upstream-5xx http://x/ answered 503; again at 1970-01-01T00:00:02.000Z"
        );
    }

    #[test]
    fn a_line_fits_whatever_its_letters() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("x", 0), "…");
    }
}
