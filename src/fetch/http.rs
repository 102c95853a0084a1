//! One HTTP request: guarded and bounded; and every way it can fail as a failure class.

use std::error::Error;
use std::future::poll_fn;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue,
    LOCATION, RETRY_AFTER, USER_AGENT,
};
use tokio::time::Sleep;
use url::Url;

use super::body::{Overflow, Received, Receiver};
use super::retry_after;
use crate::config;
use crate::record::url_task::host_key;
use crate::record::{FailureClass, HttpHeader, now_ms};
use crate::telemetry::domains::Request;
use crate::warc::block::{Block, Format};
use crate::warc::record::{Exchange, Written, request_head, response_head};
use crate::web::guard::{Blocked, Guard, GuardError};
use crate::web::resolver::{DnsError, GuardedResolver, find_cause};

/// Longest Retry-After that is told apart from "for ever".
const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Longest time-out there is: what is set to more than that is not to end at all, and a clock cannot count as far.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// What kind of failure.
    pub class: FailureClass,
    /// One sentence.
    pub message: String,
}

impl FetchError {
    pub(super) fn new(class: FailureClass, message: impl Into<String>) -> FetchError {
        FetchError { class, message: message.into() }
    }
}

/// What a server answered.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// When, Unix ms.
    pub at: i64,
    /// Response headers.
    pub headers: Vec<HttpHeader>,
    /// Media type without parameters, lower case.
    pub content_type: String,
    /// `Location`.
    pub location: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Body without content coding; empty unless the status is 2xx.
    pub body: Received,
    /// The body was not read, because its type is none that is used.
    pub skipped: bool,
    /// The request and the answer as they were sent, if they are to be archived.
    pub exchange: Option<Exchange>,
    /// The record of its payload, once it is archived.
    pub archived: Option<Written>,
}

impl Answer {
    /// What a server would have answered that had an input which is none of the web's.
    pub(super) fn of_input(headers: Vec<HttpHeader>, body: Received) -> Answer {
        let kind = headers.iter().find(|h| h.name == "content-type").map_or(String::new(), |h| media_type(&h.value));
        Answer {
            status: 200,
            at: now_ms(),
            headers,
            content_type: kind,
            location: None,
            retry_after: None,
            body,
            skipped: false,
            exchange: None,
            archived: None,
        }
    }
}

/// Of a Content-Type: without parameters, lower case.
fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The HTTP client.
pub struct Client {
    http: reqwest::Client,
    /// Headers of every request.
    sent: HeaderMap,
    guard: Guard,
    config: config::Fetch,
    /// How answers are taken down, if they are.
    recording: Option<Format>,
}

impl Client {
    /// Builds the client; redirects are not followed and content codings are left to us.
    pub fn new(config: &config::Fetch) -> Result<Client, FetchError> {
        // Another part of the process may have installed a provider; any will do.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let schemes = config.schemes.iter().map(|s| s.as_str()).collect();
        let guard = Guard::new(config.allow_addresses.clone()).limited_to(schemes, config.ports.clone());
        let overrides = config.resolve.iter().map(|(host, address)| (host.clone(), *address));
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("text/html,application/xhtml+xml;q=0.9,text/plain;q=0.8,*/*;q=0.5"),
        );
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("en;q=0.5,*;q=0.4"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br, zstd, deflate"));
        let agent = HeaderValue::try_from(&config.user_agent)
            .map_err(|e| FetchError::new(FailureClass::Protocol, format!("fetch.user_agent cannot be sent: {e}")))?;
        headers.insert(USER_AGENT, agent);
        let authorities = match &config.ca_file {
            Some(file) => authorities(file).map_err(|why| FetchError::new(FailureClass::Tls, why))?,
            None => vec![],
        };
        let max_header_bytes = u32::try_from(config.max_header_bytes.as_u64()).unwrap_or(u32::MAX);
        // Less would be 16 KiB. What is over the limit by less than this is told as such, and not as a broken stream.
        let max_header_list = max_header_bytes.saturating_add(1 << 20);
        let http = reqwest::Client::builder()
            .tls_certs_merge(authorities)
            .http2_max_header_list_size(max_header_list)
            .default_headers(headers.clone())
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(std::sync::Arc::new(GuardedResolver::new(guard.clone(), overrides)))
            // The other time-outs are `Patience`: one timer a request instead of one for each of them, and one a piece.
            .connect_timeout(config.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(16)
            // Another crate's wish for gzip reaches every client of the process; here it would undo the limits on bombs.
            .no_gzip()
            .no_proxy()
            .build()
            .map_err(|e| FetchError::new(FailureClass::Tls, format!("the HTTP client cannot be built: {e}")))?;
        Ok(Client { http, sent: headers, guard, config: config.clone(), recording: None })
    }

    /// One whose answers come with their [`Exchange`].
    pub fn recording(self, how: Option<Format>) -> Client {
        Client { recording: how, ..self }
    }

    /// Whether a URL may be fetched as far as its text tells.
    pub fn check(&self, url: &Url) -> Result<(), FetchError> {
        self.guard.check_url(url).map_err(|e| {
            let class = match e {
                GuardError::Scheme(_) | GuardError::NoHost => FailureClass::InvalidUrl,
                GuardError::Blocked(_)
                | GuardError::Port(_)
                | GuardError::SchemeNotAllowed(_)
                | GuardError::PortNotAllowed(_) => FailureClass::BlockedAddress,
            };
            FetchError::new(class, e.to_string())
        })
    }

    /// Headers of every request.
    pub fn sent(&self) -> &HeaderMap {
        &self.sent
    }

    /// One GET that reads a body's first bytes, decoded, and leaves the rest.
    pub async fn get_start(&self, url: &Url, bytes: usize) -> Result<Answer, FetchError> {
        self.check(url)?;
        let receive = |coding: &str| Receiver::start_of(coding, &self.config, bytes);
        self.counted(url, &host_key(url), HeaderMap::new(), receive).await
    }

    /// One GET under conditions (`If-None-Match` and the like) of a URL that was [checked](Client::check), from this host.
    /// The body is read and decoded only for a 2xx of a type that is used.
    pub(super) async fn get_if(
        &self,
        url: &Url,
        host: &str,
        conditions: HeaderMap,
        overflow: &Overflow,
    ) -> Result<Answer, FetchError> {
        let receive = |coding: &str| Receiver::new(coding, &self.config, Some(overflow.clone()));
        self.counted(url, host, conditions, receive).await
    }

    async fn counted(
        &self,
        url: &Url,
        host: &str,
        conditions: HeaderMap,
        receive: impl FnOnce(&str) -> Result<Receiver, FetchError>,
    ) -> Result<Answer, FetchError> {
        let counted = Request::start(host, "GET");
        let answer = self.request(url, conditions, receive).await;
        match &answer {
            Ok(answer) => counted.ended(StatusCode::from_u16(answer.status).as_ref().map_or("", StatusCode::as_str)),
            Err(e) => counted.ended(e.class.as_str()),
        }
        answer
    }

    async fn request(
        &self,
        url: &Url,
        conditions: HeaderMap,
        receive: impl FnOnce(&str) -> Result<Receiver, FetchError>,
    ) -> Result<Answer, FetchError> {
        let request = self.http.get(url.clone()).headers(conditions.clone());
        let (now, for_a_piece) = (Instant::now(), self.config.read_timeout.min(FOREVER));
        let deadline = now + self.config.timeout.min(FOREVER);
        let timer = pin!(tokio::time::sleep_until(deadline.min(now + for_a_piece).into()));
        let mut patience = Patience { timer, deadline, for_a_piece };
        let response = patience.wait(Phase::Head, request.send()).await?.map_err(|e| classify(&e, Phase::Head))?;
        let mut answer = self.head(&response)?;
        let unread = !(200..300).contains(&answer.status) || answer.skipped;
        let block = self.recording.as_ref().map(|format| {
            let (version, status, reason) = (response.version(), response.status(), reason(&response));
            Block::new(format, response_head(version, status, reason, response.headers(), unread))
        });
        let (at, ip, version) = (answer.at, response.remote_addr().map(|a| a.ip()), response.version());
        let exchange = |answer: Block, truncated| {
            let mut sent = conditions;
            for (name, value) in &self.sent {
                sent.entry(name).or_insert_with(|| value.clone());
            }
            let request = request_head(&Method::GET, url, &sent);
            Exchange { url: url.clone(), at, ip, version, request, answer, truncated }
        };
        if unread {
            let truncated = has_body(&response).then_some("unspecified");
            answer.exchange = block.map(|block| exchange(block, truncated));
            return Ok(answer);
        }
        let header = |name| response.headers().get(name).map(|v| String::from_utf8_lossy(v.as_bytes()));
        let mut receiver = receive(&header(CONTENT_ENCODING).unwrap_or_default())?.into_block(block);
        if let Some(length) = header(CONTENT_LENGTH).and_then(|l| l.parse().ok()) {
            receiver.announced(length)?;
        }
        let receiver = self.body(response, receiver, patience).await?;
        let truncated = receiver.has_enough().then_some("length");
        let (body, block) = receiver.end().await?;
        answer.body = body;
        answer.exchange = block.map(|block| exchange(block, truncated));
        Ok(answer)
    }

    /// What the status and the headers say.
    fn head(&self, response: &reqwest::Response) -> Result<Answer, FetchError> {
        let at = now_ms();
        let header_bytes: usize = response.headers().iter().map(|(n, v)| n.as_str().len() + v.len()).sum();
        if header_bytes as u64 > self.config.max_header_bytes.as_u64() {
            let limit = self.config.max_header_bytes;
            let message = format!("the headers have {header_bytes} bytes, more than fetch.max_header_bytes ({limit})");
            return Err(FetchError::new(FailureClass::TooLarge, message));
        }
        let status = response.status().as_u16();
        let text = |v: &HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let header = |name| response.headers().get(name).map(text);
        let content_type = media_type(&header(CONTENT_TYPE).unwrap_or_default());
        let headers = response.headers().iter();
        Ok(Answer {
            status,
            at,
            location: header(LOCATION),
            retry_after: header(RETRY_AFTER).and_then(|v| retry_after::parse(&v, SystemTime::now(), RETRY_AFTER_MAX)),
            headers: headers.map(|(n, v)| HttpHeader { name: n.as_str().to_owned(), value: text(v) }).collect(),
            body: Received::Small(vec![]),
            skipped: (200..300).contains(&status) && is_media(&content_type),
            content_type,
            exchange: None,
            archived: None,
        })
    }

    /// Reads the body, or as much of it as is wanted.
    async fn body(
        &self,
        mut response: reqwest::Response,
        mut receiver: Receiver,
        mut patience: Patience<'_>,
    ) -> Result<Receiver, FetchError> {
        let (started, mut received) = (Instant::now(), 0);
        loop {
            let chunk = patience.wait(Phase::Body, response.chunk()).await?;
            let Some(bytes) = chunk.map_err(|e| classify(&e, Phase::Body))? else { break };
            received += bytes.len();
            let spent = started.elapsed();
            let least = self.config.min_rate.as_u64() as f64 * spent.as_secs_f64();
            if spent > self.config.read_timeout && (received as f64) < least {
                let message = format!("{received} bytes of body in {spent:.0?}, less than fetch.min_rate");
                return Err(FetchError::new(FailureClass::Timeout, message));
            }
            receiver = receiver.take(bytes).await?;
            if receiver.has_enough() {
                break;
            }
        }
        Ok(receiver)
    }
}

/// What follows the status: as the server wrote it, or as the standard has it.
fn reason(response: &reqwest::Response) -> &[u8] {
    let own = response.extensions().get::<hyper::ext::ReasonPhrase>().map(|r| r.as_bytes());
    own.unwrap_or_else(|| response.status().canonical_reason().unwrap_or_default().as_bytes())
}

/// Whether an answer that is not read may have a body.
fn has_body(response: &reqwest::Response) -> bool {
    let empty = response.headers().get(CONTENT_LENGTH).is_some_and(|l| l.as_bytes() == b"0");
    !empty && !matches!(response.status().as_u16(), 204 | 304)
}

/// The certificates of a PEM file.
fn authorities(file: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let failed = |why: String| format!("fetch.ca_file {}: {why}", file.display());
    let pem = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| failed(deepest(&e)))?;
    if certificates.is_empty() {
        return Err(failed("there is no certificate in it; it should be PEM".into()));
    }
    Ok(certificates)
}

/// Types no stage reads and that are often large: their bodies are not even asked for.
fn is_media(content_type: &str) -> bool {
    let kind = content_type.split('/').next().unwrap_or_default();
    matches!(kind, "image" | "video" | "audio" | "font") && content_type != "image/svg+xml"
}

/// How long a request is waited for: until its deadline, and no longer than so long for its next piece. It has one timer, which
/// is set anew only when it runs out: most requests end before.
struct Patience<'a> {
    timer: Pin<&'a mut Sleep>,
    deadline: Instant,
    for_a_piece: Duration,
}

impl Patience<'_> {
    /// Waits for the next piece; in time, or a failure.
    async fn wait<T>(&mut self, phase: Phase, piece: impl Future<Output = T>) -> Result<T, FetchError> {
        let until = self.deadline.min(Instant::now() + self.for_a_piece);
        let mut piece = pin!(piece);
        poll_fn(|cx| {
            if let Poll::Ready(came) = piece.as_mut().poll(cx) {
                return Poll::Ready(Ok(came));
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                if Instant::now() >= until {
                    return Poll::Ready(Err(late(phase)));
                }
                // It was set for an earlier piece.
                self.timer.as_mut().reset(until.into());
            }
            Poll::Pending
        })
        .await
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
}

/// The failure class of a client error. By type where the library has types; never by message text.
fn classify(e: &reqwest::Error, phase: Phase) -> FetchError {
    let (class, message) = if let Some(blocked) = find_cause::<Blocked>(e) {
        (FailureClass::BlockedAddress, blocked.to_string())
    } else if let Some(dns) = find_cause::<DnsError>(e) {
        (FailureClass::Dns, dns.to_string())
    } else if find_cause::<rustls::Error>(e).is_some() {
        (FailureClass::Tls, deepest(e))
    } else if e.is_timeout() {
        (FailureClass::Timeout, "no connection in time".to_owned())
    } else if e.is_connect() {
        (FailureClass::Connect, deepest(e))
    } else if let Some(hyper) = find_cause::<hyper::Error>(e) {
        match (phase, hyper) {
            (_, h) if h.is_parse_too_large() => (FailureClass::TooLarge, "the headers are over the limit".to_owned()),
            (_, h) if h.is_parse() => (FailureClass::Protocol, deepest(e)),
            (Phase::Body, _) => (FailureClass::Truncated, "the body ended before its announced end".to_owned()),
            (Phase::Head, _) => {
                (FailureClass::Connect, format!("the connection broke before an answer: {}", deepest(e)))
            }
        }
    } else if phase == Phase::Body {
        (FailureClass::Truncated, deepest(e))
    } else {
        (FailureClass::Protocol, deepest(e))
    };
    FetchError { class, message }
}

/// The next piece did not come in time.
fn late(phase: Phase) -> FetchError {
    let what = match phase {
        Phase::Head => "no answer in time",
        Phase::Body => "the body stalled",
    };
    FetchError::new(FailureClass::Timeout, what)
}

/// The innermost error's own words, without the URL.
fn deepest(e: &dyn Error) -> String {
    let mut at = e;
    while let Some(next) = at.source() {
        at = next;
    }
    at.to_string()
}
