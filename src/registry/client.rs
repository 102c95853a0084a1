//! The few calls of the Confluent Schema Registry REST API that are needed (API reference, version 7; Apicurio answers
//! them too). One call, one answer: what it means is for the caller to say.

use std::error::Error;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use url::Url;

use crate::config;
use crate::record::writers;

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Longest answer that is read: a schema's text, escaped, and what is around it.
const ANSWER: usize = 2 * writers::TEXT;
/// Longest message of the registry that is repeated.
const MESSAGE: usize = 300;

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection, no answer in time, or an answer that says "not now". May pass.
    Away(String),
    /// The registry said no: HTTP status, its own error code (404xx, 422xx), its message.
    Said(u16, Option<u64>, String),
}

/// A schema as `GET /schemas/ids/{id}` shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    pub schema: String,
    /// Left out for Avro.
    pub schema_type: Option<String>,
}

/// A version of a subject.
#[derive(Debug, Deserialize)]
pub struct Version {
    pub id: u32,
    pub schema: String,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Complaint {
    error_code: u64,
    message: Option<String>,
}

/// A client of one registry.
pub struct Client {
    http: reqwest::Client,
    root: Url,
    /// User and password.
    auth: Option<(String, String)>,
    timeout: Duration,
}

impl Client {
    /// A client for the registry that is configured.
    pub fn new(config: &config::Registry) -> Result<Client, String> {
        // Another part of the process may have installed a provider; any will do.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("Tidemill/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.timeout)
            .no_proxy()
            .build()
            .map_err(|e| e.to_string())?;
        let auth = config.basic_auth.reveal();
        let (user, password) = auth.split_once(':').unwrap_or((auth, ""));
        Ok(Client {
            http,
            root: Url::parse(&config.url).map_err(|e| e.to_string())?,
            auth: (!auth.is_empty()).then(|| (user.to_owned(), password.to_owned())),
            timeout: config.timeout,
        })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        self.root.as_str().trim_end_matches('/')
    }

    /// `POST /subjects/{subject}/versions`: the id of a schema, registered under the subject if it was not.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, Failure> {
        let id: Id = self.call(&["subjects", subject, "versions"], Some(json!({"schema": schema}))).await?;
        Ok(id.id)
    }

    /// `POST /subjects/{subject}`: the id of a schema that is registered under the subject.
    pub async fn look_up(&self, subject: &str, schema: &str) -> Result<u32, Failure> {
        let id: Id = self.call(&["subjects", subject], Some(json!({"schema": schema}))).await?;
        Ok(id.id)
    }

    /// `GET /schemas/ids/{id}`.
    pub async fn schema(&self, id: u32) -> Result<Stored, Failure> {
        self.call(&["schemas", "ids", &id.to_string()], None).await
    }

    /// `GET /subjects/{subject}/versions`: their numbers.
    pub async fn versions(&self, subject: &str) -> Result<Vec<u32>, Failure> {
        self.call(&["subjects", subject, "versions"], None).await
    }

    /// `GET /subjects/{subject}/versions/{version}`.
    pub async fn version(&self, subject: &str, version: u32) -> Result<Version, Failure> {
        self.call(&["subjects", subject, "versions", &version.to_string()], None).await
    }

    async fn call<T: DeserializeOwned>(&self, path: &[&str], body: Option<Json>) -> Result<T, Failure> {
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = match body {
            Some(body) => self.http.post(url).header(CONTENT_TYPE, MEDIA_TYPE).body(body.to_string()),
            None => self.http.get(url),
        };
        request = request.header(ACCEPT, format!("{MEDIA_TYPE}, application/json"));
        if let Some((user, password)) = &self.auth {
            request = request.basic_auth(user, Some(password));
        }
        let mut response = request.send().await.map_err(|e| self.away(&e))?;
        let status = response.status();
        let mut answer = vec![];
        while let Some(chunk) = response.chunk().await.map_err(|e| self.away(&e))? {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER {
                return Err(Failure::Said(status.as_u16(), None, format!("an answer of more than {ANSWER} bytes")));
            }
        }
        if status.is_success() {
            return serde_json::from_slice(&answer)
                .map_err(|_| Failure::Said(status.as_u16(), None, "no answer of a schema registry".into()));
        }
        let complaint: Option<Complaint> = serde_json::from_slice(&answer).ok();
        let code = complaint.as_ref().map(|c| c.error_code);
        let message = complaint.and_then(|c| c.message).unwrap_or_default();
        let message: String = message.trim().chars().take(MESSAGE).collect();
        if status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) {
            return Err(Failure::Away(format!("it answers {status} {message}").trim_end().to_owned()));
        }
        Err(Failure::Said(status.as_u16(), code, message))
    }

    fn away(&self, e: &reqwest::Error) -> Failure {
        if e.is_timeout() {
            return Failure::Away(format!("no answer within {} s", self.timeout.as_secs_f64()));
        }
        // The innermost cause is the one that says something: "Connection refused".
        let mut cause: &dyn Error = e;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Failure::Away(cause.to_string())
    }
}
