//! The server: HTTP/1.1 by hand on TCP (RFC 9112), because it must be able to misbehave. What to
//! answer is decided elsewhere; here it is only put on the wire, as honestly or dishonestly as the
//! [`Reply`] says.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections served at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 2_048;
/// A larger request head is refused.
const HEAD: usize = 64 * 1024;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(60);

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub method: String,
    /// Lower case, without the port.
    pub host: String,
    /// As sent, without the query.
    pub path: String,
    /// Without its question mark; empty when there is none.
    pub query: String,
    /// The client wants the connection closed afterwards.
    pub close: bool,
}

/// What becomes of a request.
pub(super) enum Answer {
    Reply(Reply),
    /// Not a byte, until the client leaves.
    Silence,
    /// The connection is reset at once.
    Reset,
}

/// A response, kept as pieces that repeat so that a large one is never held.
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(Cow<'static, str>, String)>,
    pub pieces: Vec<Piece>,
    pub framing: Framing,
    pub ending: Ending,
    /// Waited before the first byte.
    pub delay: Duration,
    /// Bytes of body a second; `None` is as fast as it goes.
    pub rate: Option<u64>,
}

/// Some bytes of a body, sent this many times in a row.
pub(super) struct Piece {
    pub bytes: Bytes,
    pub times: u64,
}

/// How the length of the body is told.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Framing {
    /// `Content-Length`, true.
    Length,
    /// `Content-Length` of this many bytes, true or not.
    Claimed(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What happens after the last piece.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Ending {
    /// The body is finished and the connection is kept.
    Whole,
    /// The connection is closed as it stands; a chunked body lacks its end.
    Cut,
    /// Nothing more comes, until the client leaves.
    Silence,
}

impl Reply {
    /// A whole and honest response.
    pub(super) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Reply {
        let reply = Reply {
            status,
            headers: Vec::new(),
            pieces: vec![Piece { bytes: body.into(), times: 1 }],
            framing: Framing::Length,
            ending: Ending::Whole,
            delay: Duration::ZERO,
            rate: None,
        };
        if content_type.is_empty() { reply } else { reply.header("Content-Type", content_type) }
    }

    pub(super) fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Bytes of body in all.
    fn length(&self) -> u64 {
        let lengths = self.pieces.iter().map(|p| (p.bytes.len() as u64).saturating_mul(p.times));
        lengths.fold(0, u64::saturating_add)
    }

    fn head(&self, request: &Request) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = match self.framing {
            _ if self.status == 204 => Ok(()),
            Framing::Length => write!(head, "Content-Length: {}\r\n", self.length()),
            Framing::Claimed(length) => write!(head, "Content-Length: {length}\r\n"),
            Framing::Chunked => write!(head, "Transfer-Encoding: chunked\r\n"),
        };
        let keep = if request.close { "close" } else { "keep-alive" };
        let _ = write!(head, "Connection: {keep}\r\n\r\n");
        head
    }
}

/// Accepts connections for ever. Dropping this future ends every connection.
pub(super) async fn serve<F>(listener: TcpListener, answer: Arc<F>)
where
    F: Fn(&Request) -> Answer + Send + Sync + 'static,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // A permit is taken before accepting, so what cannot be served waits outside.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = Arc::clone(&answer);
                connections.spawn(async move {
                    if let Err(error) = converse(stream, &*answer).await {
                        tracing::trace!(%error, "demo client left");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly; accepting again at once would spin.
                tracing::debug!(%error, "demo site could not accept");
                sleep(Duration::from_millis(20)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until it is closed.
async fn converse<F>(mut stream: TcpStream, answer: &F) -> io::Result<()>
where
    F: Fn(&Request) -> Answer,
{
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let request = match read_request(&mut stream, &mut buffer).await? {
            Read::Request(request) => request,
            Read::Closed => return Ok(()),
            Read::Malformed => {
                let refusal = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
                return stream.write_all(refusal.as_bytes()).await;
            }
        };
        match answer(&request) {
            Answer::Silence => return wait_for_close(&mut stream).await,
            Answer::Reset => return stream.set_zero_linger(),
            Answer::Reply(reply) => {
                sleep(reply.delay).await;
                send(&mut stream, &request, &reply).await?;
                match reply.ending {
                    Ending::Whole if !request.close => {}
                    Ending::Whole | Ending::Cut => return stream.shutdown().await,
                    Ending::Silence => return wait_for_close(&mut stream).await,
                }
            }
        }
    }
}

async fn send(stream: &mut TcpStream, request: &Request, reply: &Reply) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(16 * 1024, stream);
    out.write_all(reply.head(request).as_bytes()).await?;
    let chunked = reply.framing == Framing::Chunked;
    if request.method != "HEAD" && reply.status != 204 {
        for piece in reply.pieces.iter().filter(|piece| !piece.bytes.is_empty()) {
            for _ in 0..piece.times {
                if chunked {
                    out.write_all(format!("{:x}\r\n", piece.bytes.len()).as_bytes()).await?;
                }
                out.write_all(&piece.bytes).await?;
                if chunked {
                    out.write_all(b"\r\n").await?;
                }
                if let Some(rate) = reply.rate {
                    out.flush().await?;
                    sleep(Duration::from_secs_f64(piece.bytes.len() as f64 / rate.max(1) as f64)).await;
                }
            }
        }
        if chunked && reply.ending == Ending::Whole {
            out.write_all(b"0\r\n\r\n").await?;
        }
    }
    out.flush().await
}

async fn wait_for_close(stream: &mut TcpStream) -> io::Result<()> {
    let mut ignored = [0; 256];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

enum Read {
    Request(Request),
    Closed,
    Malformed,
}

/// Reads one request head; what was read beyond it stays in the buffer.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Read> {
    let mut searched = 0;
    loop {
        let end = buffer[searched..].windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end.map(|end| searched + end) {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            return Ok(parse(&head).map_or(Read::Malformed, Read::Request));
        }
        // A first byte that opens no method is a TLS hello: the plain answer fails the handshake.
        if buffer.len() > HEAD || buffer.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return Ok(Read::Malformed);
        }
        searched = buffer.len().saturating_sub(3);
        match timeout(IDLE, stream.read_buf(buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) | Err(_) => return Ok(Read::Closed),
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// Parses a request head; `None` when it is not one of HTTP/1 with a host.
fn parse(head: &str) -> Option<Request> {
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target, version) = (first.next()?, first.next()?, first.next()?);
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    let (mut host, mut close) = (None, version == "HTTP/1.0");
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name {
            _ if name.eq_ignore_ascii_case("host") => host = Some(value),
            _ if name.eq_ignore_ascii_case("connection") => {
                close = value.eq_ignore_ascii_case("close");
            }
            // Bodies are not read, so nothing after one can be found.
            _ if name.eq_ignore_ascii_case("content-length") => close = true,
            _ if name.eq_ignore_ascii_case("transfer-encoding") => close = true,
            _ => {}
        }
    }
    // RFC 9112, section 3.2.2: a whole URL in place of the path outranks the Host header.
    let target = match target.strip_prefix("http://") {
        Some(rest) => {
            let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
            host = Some(authority);
            rest.get(authority.len()..).filter(|path| !path.is_empty()).unwrap_or("/")
        }
        None => target,
    };
    let host = host?.split(':').next()?.to_ascii_lowercase();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let owned = str::to_owned;
    Some(Request { method: owned(method), host, path: owned(path), query: owned(query), close })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_heads_are_parsed() {
        let head = "GET /a/b?c=d HTTP/1.1\r\nhOST: News.Demo.Test:81\r\nConnection: Close";
        let request = parse(head).unwrap();
        assert_eq!((request.host.as_str(), request.path.as_str()), ("news.demo.test", "/a/b"));
        assert_eq!((request.query.as_str(), request.close), ("c=d", true));
        let request = parse("GET http://x.test:8/y HTTP/1.1\r\nHost: proxy").unwrap();
        assert_eq!((request.host.as_str(), request.path.as_str()), ("x.test", "/y"));
        assert!(!request.close);
        for bad in ["", "GET /", "GET / HTTP/1.1", "GET / HTTP/2\r\nHost: a"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
