//! One dead letter, for people and for programs.

use serde_json::{Value, json};

use crate::cli::decoded::{Decoded, visible};
use crate::dlq::Letter;
use crate::record::{Headers, time};
use crate::transport::sqlite::headers_to_json;

/// Everything but its history.
pub fn print(l: &Letter) {
    println!("letter    {}", l.id);
    if let Some((run, at)) = &l.replayed {
        println!("replayed  at {} by run {run}", time(*at));
    }
    if let Some(f) = &l.failure {
        println!("failure   {}: {}", f.class, visible(&f.message));
        println!("cause     {}", l.fingerprint().unwrap_or_default());
        let by = if f.stage.is_empty() { f.writer.name() } else { &f.stage };
        let attempts = if f.attempts > 0 { f.attempts.to_string() } else { "?".into() };
        println!("attempts  {attempts}, given up by {by} at {}", time(l.at()));
        println!("from      {}/{}/{}", f.topic, number(f.partition), number(f.offset));
    }
    println!("key       {}", visible(&l.record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default()));
    println!("headers");
    for (name, value) in &l.record.headers.0 {
        println!("  {name}: {}", visible(&String::from_utf8_lossy(value)));
    }
    let value = Decoded::of(&l.record.value);
    let schema = if let Decoded::Avro(schema, _) = &value { format!(", {schema}") } else { String::new() };
    println!("value     {} bytes{schema}", l.record.value.len());
    match &value {
        Decoded::Avro(_, fields) | Decoded::Json(_, fields) => {
            for line in format!("{fields:#}").lines() {
                println!("  {}", visible(line));
            }
        }
        other => println!("  {}", other.line()),
    }
}

/// `?` when it is not known.
fn number(n: Option<impl ToString>) -> String {
    n.map_or_else(|| "?".into(), |n| n.to_string())
}

/// As JSON; `whole` with key, value (decoded, and its bytes) and headers.
pub fn as_json(l: &Letter, whole: bool) -> Value {
    let f = l.failure.as_ref();
    let mut v = json!({
        "id": l.id.to_string(), "stage": l.stage, "url": l.url(), "fingerprint": l.fingerprint(),
        "replayed": l.replayed.is_some(), "replay": l.replayed.as_ref().map(|(run, _)| run.to_string()),
        "writer": f.map(|f| f.writer.name()), "class": f.map(|f| &f.class), "message": f.map(|f| &f.message),
        "attempts": f.map(|f| f.attempts), "at": l.at(), "topic": f.map(|f| &f.topic),
        "partition": f.and_then(|f| f.partition), "offset": f.and_then(|f| f.offset),
    });
    if whole {
        let headers: &Headers = &l.record.headers;
        v["key_hex"] = json!(l.record.key.as_deref().map(hex::encode));
        v["value_hex"] = json!(hex::encode(&l.record.value));
        v["value"] = json!(l.value());
        v["headers"] = serde_json::from_str(&headers_to_json(headers)).unwrap_or_default();
    }
    v
}
