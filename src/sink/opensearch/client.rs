//! Requests to a cluster: one of its nodes after the other, without those that do not answer.
//!
//! One call, one answer: what a status means is for the caller to say.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_types::region::Region;
use bytes::Bytes;
use opensearch::auth::Credentials;
use opensearch::http::headers::{CONTENT_TYPE, HeaderMap, HeaderValue};
use opensearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use serde_json::Value as Json;

pub use opensearch::http::Method;

use crate::config;
use crate::upstream::aws;
use crate::upstream::breaker::Ended;
use crate::upstream::pool::Pool;

/// Longest time for a node to say that it is there.
const CHECK: Duration = Duration::from_secs(10);
/// Longest reason of the server that is repeated, in characters.
const REASON: usize = 500;

/// No answer: no connection, or none in time. May pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("OpenSearch at {node} cannot be reached: {why}")]
pub struct Away {
    node: String,
    why: String,
    /// It was reached, and then said nothing, or broke off: what was sent may have been too much, and may have been done.
    pub reached: bool,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, as it came.
    pub body: Bytes,
    /// How long the node took, without the wait for its turn.
    pub took: Duration,
}

impl Answer {
    /// Whether it is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body; null if it is not JSON.
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What it complains of: type and reason of its error.
    pub fn complaint(&self) -> Complaint {
        Complaint::of(&self.json()["error"])
    }

    /// The same as a sentence, for a person.
    pub fn said(&self, what: &str) -> String {
        format!("OpenSearch refuses {what}: HTTP {} {}", self.status, self.complaint().text).trim_end().to_owned()
    }
}

/// An error of the server's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Complaint {
    /// Such as `mapper_parsing_exception`; empty if it has none.
    pub kind: String,
    /// Type, reason and innermost cause, in one line.
    pub text: String,
}

impl Complaint {
    /// Of an `error` object, or of the text that some answers have in its place.
    pub fn of(error: &Json) -> Complaint {
        if let Some(text) = error.as_str() {
            return Complaint { kind: String::new(), text: short(text) };
        }
        let part = |v: &Json, name: &str| v[name].as_str().unwrap_or_default().to_owned();
        let kind = part(error, "type");
        let mut text = [kind.clone(), part(error, "reason")].join(": ");
        let mut cause = &error["caused_by"];
        while cause["caused_by"].is_object() {
            cause = &cause["caused_by"];
        }
        if cause.is_object() {
            text = format!("{text} ({}: {})", part(cause, "type"), part(cause, "reason"));
        }
        Complaint { kind, text: short(text.trim_matches([':', ' '])) }
    }
}

fn short(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(REASON).collect()
}

/// A client of one cluster.
pub struct Client {
    nodes: Arc<Pool<Transport>>,
    timeout: Duration,
}

impl Client {
    /// A client for the cluster that is configured. Asks nothing; within a runtime, several nodes are asked every
    /// `health_interval` whether they are there.
    pub fn new(config: &config::OpenSearch) -> Result<Client, String> {
        // Another part of the process may have installed a provider; any will do.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let auth = credentials(config)?;
        let node = |(url, weight): (url::Url, u32)| {
            let shown = url.as_str().trim_end_matches('/').to_owned();
            let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url)).disable_proxy();
            if let Some(auth) = &auth {
                builder = builder.auth(auth.clone()).service_name(&config.aws_service);
            }
            let transport = builder.build().map_err(|e| format!("no client for OpenSearch at {shown}: {e}"))?;
            Ok((shown, weight, transport))
        };
        let (urls, weights) = (config.nodes(), &config.weights);
        if urls.is_empty() {
            return Err("no URL of OpenSearch is configured; set opensearch.url or --opensearch".into());
        }
        if !weights.is_empty() && (weights.len() != urls.len() || weights.contains(&0)) {
            let (given, nodes) = (weights.len(), urls.len());
            return Err(format!(
                "opensearch.weights has {given} numbers for {nodes} nodes; give each node one, 1 or more, or leave it out"
            ));
        }
        let weights = weights.iter().copied().chain(std::iter::repeat(1));
        let nodes = urls.into_iter().zip(weights).map(node).collect::<Result<Vec<_>, String>>()?;
        let nodes = Arc::new(Pool::new("opensearch", config.max_requests_per_second, nodes));
        if nodes.len() > 1 && tokio::runtime::Handle::try_current().is_ok() {
            let timeout = CHECK.min(config.timeout);
            nodes.keep_checking(config.health_interval, move |node: &Transport| answers(node.clone(), timeout));
        }
        Ok(Client { nodes, timeout: config.timeout })
    }

    /// A request with a JSON body, or none. `path` with its query string, escaped.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Answer, Away> {
        self.send(method, path, "application/json", body.map(|b| Bytes::from(b.to_string()))).await
    }

    /// `POST` of lines of JSON.
    pub async fn lines(&self, path: &str, lines: Bytes) -> Result<Answer, Away> {
        self.send(Method::Post, path, "application/x-ndjson", Some(lines)).await
    }

    /// A node that could not be reached has been sent nothing, so the next one is.
    async fn send(&self, method: Method, path: &str, kind: &'static str, body: Option<Bytes>) -> Result<Answer, Away> {
        let mut tried = vec![];
        loop {
            let Some(node) = self.nodes.turn(&tried).await else {
                return Err(Away {
                    node: "any of its nodes".into(),
                    why: "none can be reached".into(),
                    reached: false,
                });
            };
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            let began = Instant::now();
            let sent = node.value().send(method, path, headers, None::<&()>, body.clone(), Some(self.timeout)).await;
            let answer = match sent {
                Ok(response) => {
                    let status = response.status_code().as_u16();
                    response.bytes().await.map(|body| Answer { status, body, took: began.elapsed() })
                }
                Err(e) => Err(e),
            };
            let e = match answer {
                Ok(answer) => {
                    node.ended(if answer.status >= 500 { Ended::Failed } else { Ended::Well });
                    return Ok(answer);
                }
                Err(e) => e,
            };
            let why =
                if e.is_timeout() { format!("no answer within {} s", self.timeout.as_secs_f64()) } else { deepest(&e) };
            let away = Away { node: node.name().to_owned(), why, reached: !is_connect(&e) };
            tried.push(node.at());
            node.ended(Ended::Unanswered);
            if away.reached || tried.len() == self.nodes.len() {
                return Err(away);
            }
        }
    }
}

/// Whether a node is there, whatever it says.
async fn answers(node: Transport, timeout: Duration) -> bool {
    let answer = node.send(Method::Head, "/", HeaderMap::new(), None::<&()>, None::<Bytes>, Some(timeout)).await;
    answer.is_ok_and(|answer| answer.status_code().as_u16() < 500)
}

/// How requests say who sends them.
fn credentials(config: &config::OpenSearch) -> Result<Option<Credentials>, String> {
    let basic = config.basic_auth.reveal();
    match (basic.is_empty(), config.aws_region.is_empty()) {
        (true, true) => Ok(None),
        (false, true) => {
            let (user, password) = basic.split_once(':').unwrap_or((basic, ""));
            Ok(Some(Credentials::Basic(user.to_owned(), password.to_owned())))
        }
        (true, false) => {
            let provider = aws::credentials(&config.aws_region)?;
            Ok(Some(Credentials::AwsSigV4(provider, Region::new(config.aws_region.clone()))))
        }
        (false, false) => Err(
            "opensearch.basic_auth and opensearch.aws_region are both set; a request has one signature, so remove one"
                .into(),
        ),
    }
}

fn is_connect(e: &opensearch::Error) -> bool {
    e.source().and_then(|inner| inner.downcast_ref::<reqwest::Error>()).is_some_and(reqwest::Error::is_connect)
}

/// The innermost cause is the one that says something: "Connection refused".
fn deepest(e: &dyn Error) -> String {
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_wait_for_a_turn_is_not_the_nodes_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let node = axum::Router::new().fallback(|| std::future::ready("{}"));
        tokio::spawn(async move { axum::serve(listener, node).await });
        let config = config::OpenSearch { url, max_requests_per_second: 1, ..Default::default() };
        let (client, began, mut took) = (Client::new(&config).unwrap(), Instant::now(), Duration::ZERO);
        for _ in 0..3 {
            took += client.json(Method::Get, "/", None).await.unwrap().took;
        }
        let all = began.elapsed();
        assert!(all >= Duration::from_millis(1_900) && took < all / 2, "{took:?} of {all:?}");
    }
}
