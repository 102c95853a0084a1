//! A line as the record it means.

use std::sync::Arc;

use bytes::Bytes;

use crate::cli::args::Produce as Args;
use crate::cli::lines;
use crate::record::{Headers, UrlTask, headers};
use crate::topology::{self, Topic};
use crate::transport::Outgoing;
use crate::web::url::{host_key, normalise};

/// How lines are read.
pub struct Parser {
    /// Full name.
    topic: Arc<str>,
    partition: Option<i32>,
    key: Option<Bytes>,
    separator: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    json: bool,
    /// Its records are URL tasks, and their keys hosts.
    lane: bool,
    /// `max.message.bytes`
    max: usize,
}

impl Parser {
    /// For a topic, under its full name.
    pub fn new(args: &Args, topic: &Topic, full: String) -> Parser {
        Parser {
            topic: full.into(),
            partition: args.partition,
            key: args.key.clone().map(Bytes::from),
            separator: args.key_separator.clone().map(String::into_bytes),
            headers: args.headers.clone(),
            json: args.json,
            lane: [topology::URLS_HIGH, topology::URLS, topology::URLS_BULK].contains(&topic.name.as_str()),
            max: topic.max_message_bytes as usize,
        }
    }

    /// The record of a line, None for an empty one and for a comment among URLs, or what is wrong with it.
    pub fn record(&self, line: &[u8]) -> Result<Option<Outgoing>, String> {
        if line.is_empty() || (self.json || self.lane) && line.trim_ascii().is_empty() {
            return Ok(None);
        }
        // As in the files that `run` and `submit` read.
        if self.lane && !self.json && line.starts_with(b"#") {
            return Ok(None);
        }
        let (given, value, tombstone, mut headers) = if self.json {
            let text = std::str::from_utf8(line).map_err(|_| "not UTF-8, as JSON is".to_owned())?;
            let given = lines::read(text)?;
            (given.key, given.value, given.tombstone, given.headers)
        } else {
            let (key, value) = self.split(line)?;
            (key.map(|k| Some(Bytes::copy_from_slice(k))), Bytes::copy_from_slice(value), false, Headers::default())
        };
        let key = match (&self.key, given) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(key)) => key,
            (None, None) if self.lane => Some(host(&value)?),
            (None, None) => None,
        };
        for (name, value) in &self.headers {
            headers.0.push((headers::name(name), Bytes::from(value.clone())));
        }
        let record =
            Outgoing { tombstone, topic: Arc::clone(&self.topic), partition: self.partition, key, value, headers };
        match record.size() {
            size if size > self.max => {
                Err(format!("it is a record of {size} bytes, and {} takes up to {}", self.topic, self.max))
            }
            _ => Ok(Some(record)),
        }
    }

    fn split<'a>(&self, line: &'a [u8]) -> Result<(Option<&'a [u8]>, &'a [u8]), String> {
        let Some(separator) = &self.separator else { return Ok((None, line)) };
        let at = memchr::memmem::find(line, separator)
            .ok_or_else(|| format!("no {:?} between a key and a value", String::from_utf8_lossy(separator)))?;
        Ok((Some(&line[..at]), &line[at + separator.len()..]))
    }
}

/// The key of a URL task: the host that will be asked, with its port, so that one member owns it.
fn host(value: &[u8]) -> Result<Bytes, String> {
    let task = UrlTask::decode(value).map_err(|e| e.to_string())?;
    let url = normalise(&task.url).map_err(|e| e.to_string())?;
    Ok(Bytes::from(host_key(&url)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::codec;

    fn parser(topic: &str, set: impl FnOnce(&mut Args)) -> Parser {
        let mut args = Args {
            topic: topic.into(),
            file: None,
            key_separator: None,
            key: None,
            headers: vec![],
            partition: None,
            json: false,
            skip_bad: false,
        };
        set(&mut args);
        let topic = topology::topics().into_iter().find(|t| t.name == topic).unwrap();
        let full = format!("t.{}", topic.name);
        Parser::new(&args, &topic, full)
    }

    fn key(p: &Parser, line: impl AsRef<[u8]>) -> Option<String> {
        let key = p.record(line.as_ref()).unwrap().unwrap().key;
        key.map(|k| String::from_utf8(k.to_vec()).unwrap())
    }

    #[test]
    fn a_url_task_gets_its_host_as_key_unless_one_is_given() {
        let lane = parser("urls.bulk", |_| {});
        let some = |s: &str| Some(s.to_owned());
        for (line, host) in [
            ("HTTP://Example.ORG:80/a", "example.org"),
            ("  example.org:8080/a ", "example.org:8080"),
            (r#"{"url": "https://example.org/", "attrs": {"k": "v"}}"#, "example.org"),
        ] {
            assert_eq!(key(&lane, line), some(host), "{line}");
            assert_eq!(lane.record(line.as_bytes()).unwrap().unwrap().value, line.as_bytes(), "it stays as it is");
        }
        assert_eq!((lane.record(b"  "), lane.record(b"# http://x/")), (Ok(None), Ok(None)));
        for (line, says) in [("mailto:a@b", "mailto"), ("{\"ulr\": 1}", "ulr"), ("http://", "host")] {
            let said = lane.record(line.as_bytes()).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        assert_eq!(key(&parser("urls", |a| a.key = some("k")), "no url"), some("k"));
        assert_eq!(key(&parser("urls", |a| a.key_separator = some("\t")), "k\tno\turl"), some("k"));
        let json = parser("urls", |a| a.json = true);
        let avro = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            codec::encode(&UrlTask::new("http://x/"), &codec::Ids::default()).unwrap(),
        );
        assert_eq!(key(&json, format!(r#"{{"value_base64":"{avro}"}}"#)), some("x"));
        assert_eq!(key(&json, format!(r#"{{"key":null,"value_base64":"{avro}"}}"#)), None, "said to have none");
        assert_eq!(key(&parser("pages", |_| {}), "http://x/"), None);
    }

    #[test]
    fn keys_headers_and_sizes() {
        let p = parser("jobs", |a| {
            a.key_separator = Some("::".into());
            a.headers = vec![("a".into(), "1".into()), ("a".into(), "2".into())];
            a.partition = Some(3);
        });
        let r = p.record(b"k::v::w").unwrap().unwrap();
        assert_eq!((r.partition, &r.key.unwrap()[..], &r.value[..]), (Some(3), &b"k"[..], &b"v::w"[..]));
        assert_eq!(r.headers.0.len(), 2);
        assert!(p.record(b"alone").unwrap_err().contains("\"::\""));
        let said = parser("jobs", |_| {}).record(&vec![b'x'; (1 << 20) + 1]).unwrap_err();
        assert!(said.contains("up to 1048576"), "{said}");
    }
}
