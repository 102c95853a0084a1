//! Servers that misbehave, all at once in one run: what becomes of each URL, and the counters.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use tidemill::record::{StatusEvent, codec};
use tidemill::topology::STATUS;

use super::servers::{Conduct, Server, answer, drip, page, silence};
use super::whole::{Tidemill, log, records};

const SETTINGS: &str = "
[fetch]
delay = '0s'
connect_timeout = '2s'
read_timeout = '1s'
timeout = '3s'
min_rate = '1KiB'
max_body_bytes = '64KiB'
max_decoded_bytes = '2MiB'
allow_addresses = ['127.0.0.1/32']
# Each host has one URL, whose fate is its own.
breaker = { failures = 0, timeouts = 0 }
[engine]
in_flight = { fetch = 128 }
";

/// A behaviour: its name, what becomes of the URL (`indexed`, or the outcome and its class), and what the server does.
struct Case {
    name: &'static str,
    fate: &'static str,
    scheme: &'static str,
    robots: bool,
    conduct: Box<Conduct>,
}

fn does(
    name: &'static str,
    fate: &'static str,
    conduct: impl Fn(&mut TcpStream, &str) -> std::io::Result<()> + Send + Sync + 'static,
) -> Case {
    Case { name, fate, scheme: "http", robots: false, conduct: Box::new(conduct) }
}

/// Sends these bytes and closes.
fn sends(name: &'static str, fate: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    let bytes = bytes.into();
    does(name, fate, move |s, _| s.write_all(&bytes))
}

/// A page under this head, whose lines are separated by `|`; then the connection is closed.
fn headed(name: &'static str, fate: &'static str, head: &str) -> Case {
    sends(name, fate, [head.replace('|', "\r\n").as_bytes(), b"\r\n\r\n", page(name).as_bytes()].concat())
}

fn coded(name: &'static str, fate: &'static str, coding: &str, body: &[u8]) -> Case {
    sends(name, fate, answer(200, &format!("Content-Encoding: {coding}\r\n"), body))
}

fn redirects(name: &'static str, fate: &'static str, to: &str) -> Case {
    sends(name, fate, answer(302, &format!("Location: {to}\r\n"), b""))
}

fn status(name: &'static str, fate: &'static str, code: u16, headers: &str) -> Case {
    sends(name, fate, answer(code, headers, page(name).as_bytes()))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = GzEncoder::new(vec![], Compression::default());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut e = DeflateEncoder::new(vec![], Compression::default());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn framing() -> Vec<Case> {
    let whole = answer(200, "", page("one byte at a time").as_bytes());
    let chunked = "HTTP/1.1 200 X\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        headed("closes at the end, HTTP/1.0", "indexed", "HTTP/1.0 200 X|Content-Type: text/html"),
        headed("less than announced", "dead truncated", "HTTP/1.1 200 X|Content-Type: text/html|Content-Length: 50000"),
        headed("more than announced", "indexed", "HTTP/1.1 200 X|Content-Type: text/html|Content-Length: 500"),
        headed("two lengths", "dead protocol", "HTTP/1.1 200 X|Content-Length: 5|Content-Length: 6"),
        headed("a length that is no number", "dead protocol", "HTTP/1.1 200 X|Content-Length: many"),
        headed("a negative length", "dead protocol", "HTTP/1.1 200 X|Content-Length: -1"),
        sends("a chunk of no size", "dead truncated", format!("{chunked}xyz\r\nhello\r\n0\r\n\r\n")),
        sends("a chunk cut off", "dead truncated", format!("{chunked}ff\r\nhello")),
        sends("no last chunk", "dead truncated", format!("{chunked}5\r\nhello\r\n")),
        sends("a chunk larger than numbers", "dead truncated", format!("{chunked}{}\r\nhello\r\n", "f".repeat(20))),
        does("one byte at a time", "indexed", move |s, _| drip(s, &whole, 8, Duration::from_millis(2))),
        sends(
            "garbage behind the answer",
            "indexed",
            [answer(200, "", page("garbage").as_bytes()), vec![b'x'; 99]].concat(),
        ),
        sends("100 Continue, often", "indexed", {
            [b"HTTP/1.1 100 Continue\r\n\r\n".repeat(5), answer(200, "", page("continued").as_bytes())].concat()
        }),
    ]
}

fn heads() -> Vec<Case> {
    vec![
        sends("no HTTP at all", "dead protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        sends("HTTP/0.9", "dead protocol", page("bare")),
        headed("HTTP/9.9", "dead protocol", "HTTP/9.9 200 X|Content-Type: text/html"),
        headed("status 999", "dead protocol", "HTTP/1.1 999 X|Content-Type: text/html"),
        headed("status 0", "dead protocol", "HTTP/1.1 000 X|Content-Type: text/html"),
        headed("a status in words", "dead protocol", "HTTP/1.1 OK|Content-Type: text/html"),
        headed("NUL in a header", "dead protocol", "HTTP/1.1 200 X|Server: a\0b"),
        headed("a header without name", "dead protocol", "HTTP/1.1 200 X|: x"),
        headed("a hundred and more headers", "dead too-large", &format!("HTTP/1.1 200 X{}", "|X-A: b".repeat(150))),
        headed("a header of a mebibyte", "dead too-large", &format!("HTTP/1.1 200 X|X-A: {}", "b".repeat(1 << 20))),
        does("headers without end", "dead too-large", |s, _| {
            s.write_all(b"HTTP/1.1 200 X\r\nX-A: ")?;
            loop {
                s.write_all(&[b'b'; 8192])?;
            }
        }),
        does("headers drip by drip", "dead timeout", |s, _| {
            s.write_all(b"HTTP/1.1 200 X\r\nX-A: ")?;
            drip(s, &[b'b'; 64], 1, Duration::from_millis(300))
        }),
        does("silence", "dead timeout", |s, _| silence(s)),
        does("closes without a word", "dead connect", |_, _| Ok(())),
        Case {
            scheme: "https",
            ..does("TLS expected, plain text given", "dead tls", |s, _| s.write_all(b"HTTP/1.1 400 X\r\n\r\n"))
        },
        Case { scheme: "https", ..does("TLS expected, silence", "dead robots-unreachable", |s, _| silence(s)) },
    ]
}

fn bodies() -> Vec<Case> {
    let text = page("a coded page");
    let zipped = gzip(text.as_bytes());
    let chunk = [b"2000\r\n".as_slice(), &[b'x'; 0x2000], b"\r\n"].concat();
    let html = "HTTP/1.1 200 X\r\nContent-Type: text/html\r\n";
    vec![
        does("a body that stalls", "dead timeout", move |s, _| {
            s.write_all(format!("{html}Content-Length: 500\r\n\r\n<p>x").as_bytes()).and_then(|()| silence(s))
        }),
        does("a body drip by drip", "dead timeout", move |s, _| {
            s.write_all(format!("{html}Content-Length: 500\r\n\r\n").as_bytes())?;
            drip(s, &[b'x'; 500], 1, Duration::from_millis(50))
        }),
        // No piece is late, and the pace would do.
        does("a body that goes on and on", "dead timeout", move |s, _| {
            s.write_all(format!("{html}\r\n").as_bytes())?;
            drip(s, &[b'x'; 60 << 10], 2 << 10, Duration::from_millis(300))
        }),
        headed(
            "too large, and says so",
            "dead too-large",
            "HTTP/1.1 200 X|Content-Type: text/html|Content-Length: 99999999999",
        ),
        does("a body without end", "dead too-large", move |s, _| {
            s.write_all(format!("{html}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            loop {
                s.write_all(&chunk)?;
            }
        }),
        coded("gzip bomb", "dead bomb", "gzip", &gzip(&vec![0; 16 << 20])),
        coded("gzip of gzip bomb", "dead bomb", "gzip, gzip", &gzip(&gzip(&vec![0; 64 << 20]))),
        coded("gzip that is none", "dead decode", "gzip", text.as_bytes()),
        coded("gzip cut off", "dead truncated", "gzip", &zipped[..zipped.len() / 2]),
        coded(
            "gzip with padding behind",
            "indexed",
            "gzip",
            &[&gzip(page("padded").as_bytes())[..], &[0; 64]].concat(),
        ),
        coded("deflate without its header", "indexed", "deflate", &raw_deflate(page("raw deflate").as_bytes())),
        coded("zstd that is none", "dead decode", "zstd", text.as_bytes()),
        coded("a coding nobody knows", "dead decode", "compress", text.as_bytes()),
        coded("five codings", "dead decode", "gzip, gzip, gzip, gzip, gzip", &zipped),
        headed("an image", "dropped unsupported-type", "HTTP/1.1 200 X|Content-Type: image/png"),
    ]
}

fn statuses() -> Vec<Case> {
    vec![
        redirects("redirects to itself", "dead redirect-loop", "/page"),
        does("redirects for ever", "dead redirect-limit", |s, head| {
            let path = head.split(' ').nth(1).unwrap_or_default();
            s.write_all(&answer(301, &format!("Location: {path}x\r\n"), b""))
        }),
        status("redirects nowhere", "dead protocol", 302, ""),
        redirects("redirects to a file", "dead blocked-address", "file:///etc/passwd"),
        redirects("redirects to a script", "dead invalid-url", "javascript:alert(1)"),
        redirects("redirects to no port", "dead invalid-url", "http://127.0.0.1:70000/"),
        redirects(
            "redirects to the metadata service",
            "dead blocked-address",
            "http://169.254.169.254/latest/meta-data/",
        ),
        redirects("redirects to an address in another dress", "dead blocked-address", "http://[::ffff:10.0.0.1]/"),
        redirects("redirects to NAT64", "dead blocked-address", "http://[64:ff9b::a00:1]/"),
        redirects("redirects to another protocol's port", "dead blocked-address", "http://127.0.0.1:22/"),
        status("304, unasked", "dead protocol", 304, ""),
        status("404", "dead http-4xx", 404, ""),
        status("451", "dead http-4xx", 451, ""),
        status("410", "dropped gone", 410, ""),
        status("500", "dead http-5xx", 500, ""),
        status("429 for a year", "dead http-429", 429, "Retry-After: 31536000\r\n"),
        status("503 for a year", "dead http-429", 503, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n"),
        Case { robots: true, ..status("robots.txt answers 500", "dead robots-unreachable", 500, "") },
        Case { robots: true, ..does("robots.txt is silent", "dead robots-unreachable", |s, _| silence(s)) },
        Case {
            robots: true,
            ..sends("robots.txt says no", "dropped robots", answer(200, "", b"User-agent: *\nDisallow: /"))
        },
        Case {
            robots: true,
            ..sends("robots.txt says no, and goes on for 1 MiB", "dropped robots", {
                answer(
                    200,
                    "",
                    format!("User-agent: *\nDisallow: /page\n{}", "# and so on\n".repeat(90_000)).as_bytes(),
                )
            })
        },
    ]
}

#[test]
fn each_becomes_what_it_should() {
    let cases: Vec<Case> = [framing(), heads(), bodies(), statuses()].into_iter().flatten().collect();
    assert!(cases.len() >= 40, "{} behaviours", cases.len());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tidemill.toml"), SETTINGS).unwrap();
    let (mut urls, mut expected, mut servers) = (vec![], vec![], vec![]);
    for case in cases {
        let server = Server::start(case.robots, case.conduct);
        urls.push(server.url().replacen("http", case.scheme, 1));
        expected.push((case.name, case.fate));
        servers.push(server);
    }
    std::fs::write(dir.path().join("urls.txt"), urls.join("\n")).unwrap();
    let t = Tidemill::new(dir.path());
    let report = t.run(&["run", "urls.txt", "--json"]).expect(3).json();

    // The n-th URL is the task <job>-<n>; its last event is its fate.
    let job = report["job"].as_str().unwrap().to_owned();
    let events: Vec<StatusEvent> = log(&t.data(), async |transport, names| {
        records(transport, names, STATUS).await.iter().map(|r| codec::decode(&r.value).unwrap()).collect()
    });
    let mut fates = BTreeMap::new();
    for e in events.iter().filter(|e| e.job.as_ref() == Some(&job)) {
        let class = e.class.as_deref().unwrap_or_default();
        let fate = match e.outcome.as_str() {
            "done" => "indexed".to_owned(),
            "dead_lettered" => format!("dead {class}"),
            other => format!("{other} {class}"),
        };
        fates.insert(e.task.clone(), (fate, e.message.clone()));
    }
    let mut wrong = vec![];
    for (n, (name, fate)) in expected.iter().enumerate() {
        let found = fates.get(&format!("{job}-{}", n + 1));
        if found.is_none_or(|(f, _)| f != fate) {
            wrong.push(format!("{name}: {fate} expected, not {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // The counters say the same.
    let total = |kind: &str| expected.iter().filter(|(_, fate)| fate.starts_with(kind)).count() as u64;
    for (field, kind) in [("indexed", "indexed"), ("dropped", "dropped"), ("dead_letters", "dead")] {
        assert_eq!(report[field].as_u64(), Some(total(kind)), "{field}: {report}");
    }
    assert_eq!(report["finished"].as_u64(), Some(expected.len() as u64));
    let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, fate) in &expected {
        if let Some(class) = fate.strip_prefix("dead ") {
            *classes.entry(class).or_default() += 1;
        }
    }
    for (class, n) in classes {
        let all = report["outcomes"].as_array().unwrap().iter();
        let counted = all
            .filter(|o| o["class"] == class && o["outcome"] == "dead_lettered")
            .map(|o| o["count"].as_u64().unwrap());
        assert_eq!(counted.sum::<u64>(), n, "{class}: {report}");
    }
}
