//! Records: their headers (ISO 28500:2017, section 5), and HTTP messages as their blocks have them.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use serde::{Deserialize, Serialize};
use url::{Position, Url};

use super::Result;
use super::block::{Block, Format, Sums};
use super::member::Member;
use crate::config;

const HTTP_REQUEST: &str = "application/http; msgtype=request";
const HTTP_RESPONSE: &str = "application/http; msgtype=response";
/// A payload that another record has.
const SAME_PAYLOAD: &str = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest";
/// A 304.
const NOT_MODIFIED: &str = "http://netpreserve.org/warc/1.1/revisit/server-not-modified";
/// What the header is called that cannot be kept: it speaks of bytes as they were on their way.
const AS_IT_CAME: &str = "X-Crawler-";

/// An answer that is in a WARC file, for those that come later and bring the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Of its record: `urn:uuid:…`.
    pub id: String,
    /// The URL it answered.
    pub url: String,
    /// WARC-Date.
    pub date: String,
    /// WARC-Payload-Digest.
    pub payload: String,
}

/// A request with its answer.
pub struct Exchange {
    pub url: Url,
    /// When the answer began, Unix ms.
    pub at: i64,
    /// Of the server.
    pub ip: Option<IpAddr>,
    pub version: Version,
    /// Request line and headers.
    pub request: Vec<u8>,
    /// The answer.
    pub answer: Block,
    /// Why the body is not all there: `length`, `unspecified`.
    pub truncated: Option<&'static str>,
}

/// What the answer is beside others.
pub enum Kind {
    /// The first of its kind.
    Response,
    /// The payload is that of another; only the head is written.
    SamePayload(Box<Written>),
    /// A 304 to a request for changes of another.
    NotModified(Box<Written>),
}

/// The lines of a record's header.
struct Header(String);

impl Header {
    fn new(kind: &str, id: &str, date: &str) -> Header {
        let mut header = Header("WARC/1.1\r\n".into());
        header.add("WARC-Type", kind);
        header.add("WARC-Record-ID", &format!("<{id}>"));
        header.add("WARC-Date", date);
        header
    }

    /// No value of ours has a line break: URLs are escaped, the rest is made here or checked.
    fn add(&mut self, name: &str, value: &str) {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        self.0.push_str(&format!("{name}: {value}\r\n"));
    }

    fn ended(mut self, content_type: &str, sums: &Sums) -> Vec<u8> {
        self.add("WARC-Block-Digest", &sums.block);
        self.add("Content-Type", content_type);
        self.add("Content-Length", &sums.length.to_string());
        self.0.push_str("\r\n");
        self.0.into_bytes()
    }
}

impl Exchange {
    /// The answer's record, then the request's. Blocks: it compresses.
    pub(super) fn members(self, kind: &Kind, format: &Format) -> Result<(Vec<Member>, Written)> {
        let written = Written {
            id: new_id(),
            url: self.url.to_string(),
            date: date(self.at),
            payload: self.answer.sums().payload,
        };
        let about = |kind: &str, id: &str| {
            let mut header = Header::new(kind, id, &written.date);
            header.add("WARC-Target-URI", &written.url);
            if let Some(ip) = self.ip {
                header.add("WARC-IP-Address", &ip.to_string());
            }
            header
        };
        let mut header = about(if matches!(kind, Kind::Response) { "response" } else { "revisit" }, &written.id);
        if self.version == Version::HTTP_2 {
            header.add("WARC-Protocol", "h2");
        }
        let answer = match kind {
            Kind::Response => {
                header.add("WARC-Payload-Digest", &written.payload);
                if let Some(why) = self.truncated {
                    header.add("WARC-Truncated", why);
                }
                self.answer
            }
            Kind::SamePayload(of) => {
                refer(&mut header, SAME_PAYLOAD, of);
                // The head is all that is kept.
                header.add("WARC-Truncated", "length");
                self.answer.head_alone()
            }
            Kind::NotModified(of) => {
                refer(&mut header, NOT_MODIFIED, of);
                self.answer.head_alone()
            }
        };
        let sums = answer.sums();
        let answer = answer.member(&header.ended(HTTP_RESPONSE, &sums))?;
        let mut header = about("request", &new_id());
        header.add("WARC-Concurrent-To", &format!("<{}>", written.id));
        let request = Block::new(format, self.request);
        let sums = request.sums();
        let request = request.member(&header.ended(HTTP_REQUEST, &sums))?;
        Ok((vec![answer, request], written))
    }
}

/// What a revisit says of the answer it stands for.
fn refer(header: &mut Header, profile: &str, of: &Written) {
    header.add("WARC-Profile", profile);
    header.add("WARC-Payload-Digest", &of.payload);
    header.add("WARC-Refers-To", &format!("<{}>", of.id));
    header.add("WARC-Refers-To-Target-URI", &of.url);
    header.add("WARC-Refers-To-Date", &of.date);
}

/// The record that a file begins with.
pub(super) fn warcinfo(
    config: &config::Warc,
    format: &Format,
    about: &[(String, String)],
    name: &str,
) -> Result<Member> {
    let mut body = String::new();
    let mut field = |name: &str, value: &str| {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        body.push_str(&format!("{name}: {value}\r\n"));
    };
    field("software", concat!("Tidemill/", env!("CARGO_PKG_VERSION")));
    field("format", "WARC File Format 1.1");
    field("conformsTo", "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/");
    field("isPartOf", &config.prefix);
    if !config.operator.is_empty() {
        field("operator", &config.operator);
    }
    for (name, value) in about {
        field(name, value);
    }
    let mut header = Header::new("warcinfo", &new_id(), &date(crate::record::now_ms()));
    header.add("WARC-Filename", name);
    let block = Block::new(format, body.into_bytes());
    let sums = block.sums();
    block.member(&header.ended("application/warc-fields", &sums))
}

/// Request line and headers of an HTTP/1.1 request; one over HTTP/2 is written as that.
pub fn request_head(method: &Method, url: &Url, headers: &HeaderMap) -> Vec<u8> {
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        line(&mut head, name.as_str(), value.as_bytes());
    }
    line(&mut head, "host", url[Position::BeforeHost..Position::AfterPort].as_bytes());
    head.extend(b"\r\n");
    head
}

/// Status line and headers of an answer, as far as the client has them: names in lower case, values byte for byte. The
/// body is written without its transfer coding, and if `bare` not at all: what then would mislead a reader has another
/// name.
pub fn response_head(version: Version, status: StatusCode, reason: &[u8], headers: &HeaderMap, bare: bool) -> Vec<u8> {
    let version = if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut head = format!("{version} {} ", status.as_str()).into_bytes();
    head.extend_from_slice(reason);
    head.extend(b"\r\n");
    for (name, value) in headers {
        let misleads = name == http::header::TRANSFER_ENCODING || bare && name == http::header::CONTENT_LENGTH;
        if misleads {
            line(&mut head, &renamed(name), value.as_bytes());
        } else {
            line(&mut head, name.as_str(), value.as_bytes());
        }
    }
    head.extend(b"\r\n");
    head
}

/// `transfer-encoding` becomes `X-Crawler-transfer-encoding`.
fn renamed(name: &HeaderName) -> String {
    format!("{AS_IT_CAME}{name}")
}

fn line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

fn new_id() -> String {
    uuid::Uuid::now_v7().urn().to_string()
}

/// WARC-Date: whole seconds, which all readers take.
fn date(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms}"), |t| format!("{t:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn heads_are_as_on_the_wire_but_for_what_is_undone() {
        let mut headers = HeaderMap::new();
        headers.append("transfer-encoding", HeaderValue::from_static("chunked"));
        headers.append("content-encoding", HeaderValue::from_static("br"));
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_bytes(b"b=\xe9").unwrap());
        headers.append("content-length", HeaderValue::from_static("7"));
        let ok = StatusCode::OK;
        assert_eq!(
            response_head(Version::HTTP_2, ok, b"OK", &headers, false),
            b"HTTP/1.1 200 OK\r\nX-Crawler-transfer-encoding: chunked\r\ncontent-encoding: br\r\nset-cookie: a=1\r\n\
              set-cookie: b=\xe9\r\ncontent-length: 7\r\n\r\n"
        );
        let bare = response_head(Version::HTTP_10, ok, b"Fine, \xe9", &headers, true);
        assert!(
            bare.starts_with(b"HTTP/1.0 200 Fine, \xe9\r\n")
                && bare.ends_with(b"\r\nX-Crawler-content-length: 7\r\n\r\n")
        );
        let url = Url::parse("https://a.example:8443/x/y?z=%20&q").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let head = request_head(&Method::GET, &url, &headers);
        assert_eq!(head, b"GET /x/y?z=%20&q HTTP/1.1\r\naccept: */*\r\nhost: a.example:8443\r\n\r\n");
    }

    #[test]
    fn no_value_breaks_out_of_its_line() {
        let mut header = Header::new("response", "urn:x", &date(1_700_000_000_999));
        header.add("WARC-Target-URI", "http://a/\r\nWARC-Type: evil");
        assert!(
            header.0.ends_with("WARC-Date: 2023-11-14T22:13:20Z\r\nWARC-Target-URI: http://a/WARC-Type: evil\r\n"),
            "{}",
            header.0
        );
    }
}
