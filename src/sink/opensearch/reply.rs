//! What an answer to a bulk request says of each of its documents. Pure.
//!
//! | answer | the documents |
//! |---|---|
//! | 200 and an outcome for each | each its own, below |
//! | 413; 400 with an error of OpenSearch's | are sent again in two halves; one alone is refused |
//! | 429, circuit breaker | wait, and are sent again in two halves: busy |
//! | any other status; outcomes in another number; no JSON | wait: unavailable |
//!
//! | outcome | the document |
//! |---|---|
//! | 2xx | is written |
//! | 409, version conflict | is done: a newer version is there |
//! | 429, circuit breaker | waits: busy |
//! | 5xx, 401, 403, 404, 408; a block, a closed or missing index | waits: unavailable |
//! | any other | is refused, with the error's type and reason |

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value as Json;

use super::client::{Answer, Complaint};
use crate::sink::Written;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// One outcome a document, in order.
    Each(Vec<Outcome>),
    /// Too much at once, or one document that spoils the others.
    Divide { large: bool, why: String },
    /// Nothing was taken.
    Nothing(Later),
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done(Written),
    Refused(String),
    Later(Later),
}

/// Why a document waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    /// The cluster asks for time; else something is out of order.
    pub busy: bool,
    /// The index is not there.
    pub missing: bool,
    pub why: String,
}

impl Verdict {
    /// In metrics.
    pub fn name(&self, busy: bool) -> &'static str {
        match self {
            _ if busy => "busy",
            Verdict::Each(_) => "answered",
            Verdict::Divide { .. } => "divided",
            Verdict::Nothing(_) => "unavailable",
        }
    }
}

impl Outcome {
    /// In metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Done(Written::Created) => "created",
            Outcome::Done(Written::Updated) => "updated",
            Outcome::Done(Written::Stale) => "stale",
            Outcome::Refused(_) => "rejected",
            Outcome::Later(_) => "again",
        }
    }
}

impl Later {
    /// Something is out of order.
    pub fn unavailable(why: impl Into<String>) -> Later {
        Later { busy: false, missing: false, why: why.into() }
    }
}

/// Errors that are never the document's, whatever status they come with.
const NOT_THE_DOCUMENT: [&str; 4] =
    ["cluster_block_exception", "index_closed_exception", "index_not_found_exception", "unavailable_shards_exception"];
const BREAKER: &str = "circuit_breaking_exception";

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    index: Told<'a>,
}

#[derive(Deserialize)]
struct Told<'a> {
    status: u16,
    #[serde(borrow)]
    result: Option<Cow<'a, str>>,
    #[serde(default)]
    error: Json,
}

/// Reads the answer to a request of so many documents.
pub fn judge(answer: &Answer, documents: usize) -> Verdict {
    if answer.is_success() {
        return match serde_json::from_slice::<Reply<'_>>(&answer.body) {
            Ok(reply) if reply.items.len() == documents => {
                Verdict::Each(reply.items.iter().map(|item| outcome(&item.index)).collect())
            }
            Ok(reply) => Verdict::Nothing(Later::unavailable(format!(
                "OpenSearch answered {documents} documents with {} outcomes",
                reply.items.len()
            ))),
            Err(e) => {
                Verdict::Nothing(Later::unavailable(format!("OpenSearch's answer to a bulk request is none: {e}")))
            }
        };
    }
    let complaint = answer.complaint();
    let why = format!("OpenSearch: HTTP {} {}", answer.status, complaint.text).trim_end().to_owned();
    match answer.status {
        413 => Verdict::Divide { large: true, why },
        // Without a type it may be anybody's on the way, and says nothing of the documents.
        400 if !complaint.kind.is_empty() && !NOT_THE_DOCUMENT.contains(&complaint.kind.as_str()) => {
            Verdict::Divide { large: false, why: complaint.text }
        }
        status => Verdict::Nothing(later(status, &complaint, why)),
    }
}

fn later(status: u16, complaint: &Complaint, why: String) -> Later {
    let blocked = complaint.kind == NOT_THE_DOCUMENT[0];
    Later {
        busy: (status == 429 || complaint.kind == BREAKER) && !blocked,
        missing: complaint.kind == "index_not_found_exception",
        why,
    }
}

fn outcome(told: &Told<'_>) -> Outcome {
    if (200..300).contains(&told.status) {
        let created = told.result.as_deref() == Some("created");
        return Outcome::Done(if created { Written::Created } else { Written::Updated });
    }
    let complaint = Complaint::of(&told.error);
    if told.status == 409 && complaint.kind == "version_conflict_engine_exception" {
        return Outcome::Done(Written::Stale);
    }
    let kind = complaint.kind.as_str();
    let passing = matches!(told.status, 401 | 403 | 404 | 408 | 409 | 429 | 500..) || told.status < 400;
    if passing || kind == BREAKER || NOT_THE_DOCUMENT.contains(&kind) {
        let why = format!("OpenSearch: {} {}", told.status, complaint.text);
        return Outcome::Later(later(told.status, &complaint, why));
    }
    Outcome::Refused(complaint.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn answer(status: u16, body: &Json) -> Answer {
        Answer { status, body: body.to_string().into(), took: Duration::ZERO }
    }

    fn told(status: u16, error: Json) -> Json {
        json!({"index": {"_id": "a", "status": status, "error": error}})
    }

    /// Statuses and errors as OpenSearch 3.6 gives them.
    #[test]
    fn each_document_has_its_own_outcome() {
        let items = [
            json!({"index": {"status": 201, "result": "created"}}),
            json!({"index": {"status": 200, "result": "updated"}}),
            told(409, json!({"type": "version_conflict_engine_exception", "reason": "[a]: version conflict"})),
            told(429, json!({"type": "rejected_execution_exception", "reason": "rejected execution of …"})),
            told(429, json!({"type": "cluster_block_exception", "reason": "index blocked by: [flood-stage]"})),
            told(403, json!({"type": "cluster_block_exception", "reason": "index blocked by: [write]"})),
            told(400, json!({"type": "index_closed_exception", "reason": "closed"})),
            told(404, json!({"type": "index_not_found_exception", "reason": "no such index"})),
            told(503, json!({"type": "unavailable_shards_exception", "reason": "primary shard is not active"})),
            told(
                400,
                json!({"type": "mapper_parsing_exception", "reason": "failed to parse field [date]",
                    "caused_by": {"type": "x", "reason": "y", "caused_by": {"type": "date_time_parse_exception", "reason": "z"}}}),
            ),
            told(418, Json::Null),
        ];
        let body = json!({"took": 1, "errors": false, "items": items});
        let Verdict::Each(outcomes) = judge(&answer(200, &body), items.len()) else { panic!() };
        let shown: Vec<String> = outcomes
            .iter()
            .map(|o| match o {
                Outcome::Done(written) => format!("{written:?}"),
                Outcome::Refused(why) => format!("no: {why}"),
                Outcome::Later(l) => {
                    format!("later{}{}", if l.busy { " busy" } else { "" }, if l.missing { " missing" } else { "" })
                }
            })
            .collect();
        let expect = [
            "Created",
            "Updated",
            "Stale",
            "later busy",
            "later",
            "later",
            "later",
            "later missing",
            "later",
            "no: mapper_parsing_exception: failed to parse field [date] (date_time_parse_exception: z)",
            "no: ",
        ];
        assert_eq!(shown, expect);
    }

    #[test]
    fn an_answer_that_is_none_takes_nothing() {
        let one = json!({"index": {"status": 201, "result": "created"}});
        for (status, body) in [
            (200, json!({"items": [one, one]})),
            (200, json!({"items": []})),
            (200, json!({"took": 3})),
            (200, json!("ok")),
            (200, json!({"items": [{"create": {"status": 201}}, one, one]})),
            (502, json!("<html>")),
            (400, json!("a proxy's")),
            (401, Json::Null),
            (503, json!({"error": {"type": "cluster_block_exception", "reason": "no master"}})),
        ] {
            let verdict = judge(&answer(status, &body), 3);
            assert!(
                matches!(&verdict, Verdict::Nothing(l) if !l.busy && !l.why.is_empty()),
                "{status} {body}: {verdict:?}"
            );
        }
        let cut = Answer { body: "{\"items\":[{\"index\":{\"status\":2".into(), ..answer(200, &json!({})) };
        assert!(matches!(judge(&cut, 1), Verdict::Nothing(_)));
    }

    #[test]
    fn a_whole_request_may_be_too_much_or_too_large() {
        for kind in ["rejected_execution_exception", BREAKER] {
            let body = json!({"error": {"type": kind, "reason": "r"}, "status": 429});
            assert!(matches!(judge(&answer(429, &body), 3), Verdict::Nothing(l) if l.busy));
        }
        assert!(matches!(judge(&answer(413, &Json::Null), 3), Verdict::Divide { large: true, .. }));
        let body = json!({"error": {"type": "action_request_validation_exception", "reason": "id is too long"}});
        let Verdict::Divide { large: false, why } = judge(&answer(400, &body), 3) else { panic!() };
        assert_eq!(why, "action_request_validation_exception: id is too long");
    }
}
