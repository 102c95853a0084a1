//! Which records are meant: all that is set must hold.

use regex::Regex;
use serde_json_path::JsonPath;

use super::args::RecordFlags;
use super::decoded::Decoded;
use crate::record::Meta;
use crate::record::headers::{JOB, TASK, URL};
use crate::record::url_task::host_key;
use crate::transport::Incoming;

/// What a record must have.
#[derive(Debug, Default)]
pub struct Filter {
    key: Option<String>,
    job: Option<String>,
    task: Option<String>,
    url: Option<String>,
    host: Option<String>,
    path: Option<JsonPath>,
    headers: Vec<(String, String)>,
    grep: Option<Regex>,
}

impl Filter {
    /// From the flags.
    pub fn of(args: &RecordFlags) -> Result<Filter, regex::Error> {
        // What is no expression, such as "[", is looked for as it is.
        let grep =
            args.grep.as_deref().map(|p| Regex::new(p).or_else(|_| Regex::new(&regex::escape(p)))).transpose()?;
        Ok(Filter {
            key: args.key.clone(),
            job: args.job.clone(),
            task: args.task.clone(),
            url: args.url.clone(),
            host: args.host.clone(),
            path: args.path.clone(),
            headers: args.headers.clone(),
            grep,
        })
    }

    /// Whether a record is meant.
    pub fn lets_through(&self, r: &Incoming) -> bool {
        let key = || r.key.as_deref();
        let has =
            |(name, value): &(String, String)| r.headers.0.iter().any(|(n, v)| n == name && v == value.as_bytes());
        if self.key.as_ref().is_some_and(|k| key() != Some(k.as_bytes())) || !self.headers.iter().all(has) {
            return false;
        }
        let Filter { key: _, job, task, url, host, path, headers: _, grep } = self;
        if [job, task, url, host].iter().all(|f| f.is_none()) && path.is_none() && grep.is_none() {
            return true;
        }
        let value = Decoded::of(&r.value);
        let job = |job: &String| {
            r.headers.str(JOB) == Some(job) || value.field("job") == Some(job) || value.field("id") == Some(job)
        };
        self.job.as_ref().is_none_or(job)
            && self.task.as_ref().is_none_or(|t| is_task(r, &value, t))
            && self.url.as_ref().is_none_or(|u| has_url(r, &value, u))
            && self.host.as_ref().is_none_or(|h| has_host(r, &value, h))
            && self.path.as_ref().is_none_or(|p| value.json().is_some_and(|v| !p.query(v).is_empty()))
            && self.grep.as_ref().is_none_or(|g| g.is_match(&value.text()))
    }
}

/// A task's id is in a header, in a status event, or made of the place of a record that has neither.
fn is_task(r: &Incoming, value: &Decoded<'_>, task: &str) -> bool {
    match (r.headers.str(TASK), value.field("task")) {
        (None, None) => Meta::read(&r.headers, &r.at.topic, r.at.partition, r.offset, r.timestamp).task == task,
        (header, field) => header == Some(task) || field == Some(task),
    }
}

/// With a port that is not the default.
fn has_host(r: &Incoming, value: &Decoded<'_>, host: &str) -> bool {
    let text = match value {
        Decoded::Text(text) => Some(*text),
        _ => None,
    };
    let fields = ["final_url", "url"].into_iter().find_map(|f| value.field(f));
    let url = fields.or(r.headers.str(URL)).or(text).and_then(|u| url::Url::parse(u).ok());
    url.is_some_and(|u| host_key(&u).eq_ignore_ascii_case(host))
}

fn has_url(r: &Incoming, value: &Decoded<'_>, part: &str) -> bool {
    let fields = ["url", "final_url", "canonical"].into_iter().filter_map(|f| value.field(f));
    let text = match value {
        Decoded::Text(text) => Some(*text),
        _ => None,
    };
    r.headers.str(URL).into_iter().chain(fields).chain(text).any(|u| u.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Headers, UrlTask, codec};
    use crate::transport::TopicPartition;

    #[test]
    fn all_that_is_set_must_hold() {
        let headers = Headers(vec![(JOB.into(), "j".into()), ("x".into(), "1".into()), ("x".into(), "2".into())]);
        let task = Incoming {
            tombstone: false,
            at: TopicPartition::new("t.urls", 1),
            offset: 7,
            timestamp: 0,
            key: Some("a.test".into()),
            value: codec::encode(&UrlTask::new("http://a.test/one"), &codec::Ids::default()).unwrap(),
            headers,
        };
        let bare = Incoming {
            tombstone: false,
            key: None,
            value: "http://b.test/[two".into(),
            headers: Headers::default(),
            ..task.clone()
        };
        let some = |s: &str| Some(s.to_owned());
        for (filter, of_task, of_bare) in [
            (Filter::default(), true, true),
            (Filter { key: some("a.test"), ..Filter::default() }, true, false),
            (Filter { job: some("j"), ..Filter::default() }, true, false),
            (Filter { task: some("t.urls-1-7"), ..Filter::default() }, true, true),
            (Filter { task: some("j"), ..Filter::default() }, false, false),
            (Filter { url: some("a.test/o"), ..Filter::default() }, true, false),
            (Filter { url: some("b.test"), ..Filter::default() }, false, true),
            (Filter { host: some("A.test"), ..Filter::default() }, true, false),
            (Filter { host: some("b.test"), ..Filter::default() }, false, true),
            (Filter { path: JsonPath::parse("$.url").ok(), ..Filter::default() }, true, false),
            (Filter { path: JsonPath::parse("$.nothing").ok(), ..Filter::default() }, false, false),
            (Filter { headers: vec![("x".into(), "1".into())], ..Filter::default() }, true, false),
            (Filter { headers: vec![("x".into(), "3".into())], ..Filter::default() }, false, false),
            (Filter { grep: Some(Regex::new("one|two").unwrap()), ..Filter::default() }, true, true),
            (Filter { grep: Some(Regex::new("one").unwrap()), key: some("b"), ..Filter::default() }, false, false),
        ] {
            assert_eq!((filter.lets_through(&task), filter.lets_through(&bare)), (of_task, of_bare), "{filter:?}");
        }
    }
}
