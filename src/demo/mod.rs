//! The demo web: a small internet inside the process, for the `demo` command and for tests.
//!
//! It is served on loopback by a hand-written server that can misbehave, under some 40 virtual
//! hosts `*.demo.test`, in seven languages: articles, forum threads, products, documentation and
//! listings, all made from word lists and the same on every run. Every URL that
//! [`Site::urls`] lists comes with what should become of it, so a crawl of the demo web can be
//! checked from end to end. The names do not resolve; a crawler maps them with [`Site::resolve`].
//!
//! | Fault | URL | Expected |
//! |---|---|---|
//! | three redirects (301, 302, 308), one (307) | `redirects/chain`, `/temporary` | indexed |
//! | redirect to another host | `redirects/elsewhere` | indexed |
//! | twelve redirects | `redirects/countdown?left=12` | dead: redirect-limit |
//! | redirects in a circle | `redirects/loop` | dead: redirect-loop |
//! | redirect to a metadata or private address | `redirects/metadata`, `/private` | dead: blocked-address |
//! | 404, 403 | `errors/missing`, `/forbidden` | dead: http-4xx |
//! | 410 | `errors/gone` | dropped: gone |
//! | 500 once | `errors/flaky` | indexed |
//! | 503 always | `errors/down` | dead: http-5xx |
//! | 204, 200 without a body | `errors/no-content`, `/empty` | dropped: empty |
//! | 429 once, `Retry-After` in seconds or as a date | `busy/seconds`, `/date` | indexed |
//! | 429 always | `overrun/always` | dead: http-429 |
//! | 1.5 s to the first byte | `slow/slow` | indexed |
//! | half a body, then silence; no answer at all | `stalled/stalled`, `silent/silent` | dead: timeout |
//! | body shorter than promised; chunked body cut off | `broken/truncated`, `/chunk-cut` | dead: truncated |
//! | reset after the request | `broken/reset` | dead: connect |
//! | damaged gzip | `broken/gzip` | dead: decode |
//! | 40 MiB, chunked or announced | `huge/oversized`, `/declared` | dead: too-large |
//! | gzip that opens to 600 MiB | `huge/bomb` | dead: bomb |
//! | stream without end | `endless/endless` | dead: too-large or timeout |
//! | false charset header; charset in meta only; UTF-16 | `charset/…` | indexed |
//! | gzip, deflate, brotli, zstd | `encoded/…` | indexed |
//! | PDF, PNG, JSON | `files/…` | dropped: unsupported-type |
//! | 200 KB of headers | `strange/headers` | dead: too-large |
//! | deep nesting, floods of attributes and entities, no title | `strange/…` | indexed |
//! | disallowed by robots.txt | `strict/private/…` | dropped: robots |
//! | robots.txt answers 500 | `norobots/…` | dead: robots-unreachable |
//! | robots.txt answers 404; has a `Crawl-delay` | `open/…`, `patient/…` | indexed |
//! | same bytes on two hosts | `news`, `mirror`, `copy` | one indexed, the others dropped: duplicate-content |
//! | same article, other page around it | `news/wire`, `copy/wire` | both indexed |
//! | one sentence changed | `mirror/near/1`, `copy/near/2` | indexed, both |
//! | one URL in two spellings | `news/spelled` | one indexed, one dropped: duplicate-url |
//! | name that does not resolve | `nowhere` | dead: dns |
//! | port where nobody listens | `errors`, another port | dead: connect |
//! | `https` where plain HTTP is spoken | `errors/tls` | dead: tls |
//! | port that cannot be | `news:99999` | dead: invalid-url |

mod answers;
mod bodies;
mod faults;
mod hosts;
mod pages;
#[cfg(test)]
mod tests;
mod text;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use hosts::{HOSTS, Host, Kind, LOAD_HOSTS, Robots};
pub use text::Lang;

/// How a [`Site`] is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// What the slow page waits before its first byte.
    pub slow: Duration,
    /// Bytes a second of the endless stream.
    pub endless_rate: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { port: 0, slow: Duration::from_millis(1_500), endless_rate: 1024 * 1024 }
    }
}

/// What should become of a URL in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It is in the index.
    Indexed,
    /// Of all URLs with this group, whichever comes first is indexed and the others are dropped
    /// for this reason.
    Duplicate { group: &'static str, reason: &'static str },
    /// Dropped, for this reason.
    Dropped(&'static str),
    /// Dead-lettered, with this failure class, after whatever retries the class gets.
    Dead(&'static str),
    /// Dead-lettered, with one of these failure classes: the crawler's limits decide which.
    DeadOneOf(&'static [&'static str]),
}

/// A URL of the demo web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub url: String,
    pub expect: Expectation,
    /// What is special about it, in a few words; `page` or `listing` for a plain one.
    pub note: &'static str,
}

/// The demo web, served until dropped.
pub struct Site {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    server: AbortHandle,
    /// Bound but not listening: connections to it are refused, and nobody else can take the port.
    closed: TcpSocket,
}

/// The requests so far, by host.
type Log = HashMap<String, HostLog>;

#[derive(Default)]
struct HostLog {
    /// Requests by path, without the query.
    hits: HashMap<String, usize>,
    /// When they came, those for robots.txt left out.
    arrivals: Vec<Instant>,
}

impl Site {
    /// Starts serving on 127.0.0.1, on the tokio runtime this is called in.
    ///
    /// # Errors
    /// When the port is taken, or outside a runtime.
    pub fn start(options: Options) -> io::Result<Site> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let closed = TcpSocket::new_v4()?;
        closed.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let (address, log) = (listener.local_addr()?, Arc::new(Mutex::new(Log::new())));
        let noted = Arc::clone(&log);
        let answer = move |request: &wire::Request| {
            let hit = note(&noted, request);
            answers::answer(&options, address.port(), request, hit)
        };
        let server = runtime.spawn(wire::serve(listener, Arc::new(answer))).abort_handle();
        Ok(Site { address, log, server, closed })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a host name of the demo web; `None` for any other name, such as
    /// `nowhere.demo.test`.
    pub fn resolve(&self, host: &str) -> Option<SocketAddr> {
        hosts::find(&host.to_ascii_lowercase()).map(|_| self.address)
    }

    /// Every name that resolves: those of [`HOSTS`] and of the load tests.
    pub fn names(&self) -> Vec<String> {
        let listed = HOSTS.iter().map(|host| host.name.to_owned());
        listed.chain((0..LOAD_HOSTS).map(hosts::load_host)).collect()
    }

    /// Every URL worth crawling, with what should become of it: the good pages, then the faults.
    pub fn urls(&self) -> Vec<Target> {
        let port = self.address.port();
        let mut targets = Vec::new();
        for host in HOSTS.iter().filter(|host| host.pages > 0) {
            let expect = match host.robots {
                Robots::Broken => Expectation::Dead("robots-unreachable"),
                Robots::Text(_) | Robots::Missing => Expectation::Indexed,
            };
            let base = format!("http://{}:{port}/", host.name);
            let pages = (1..=host.pages).map(|n| (format!("{base}{}/{n}", host.kind.slug()), "page"));
            let all = std::iter::once((base.clone(), "listing")).chain(pages);
            targets.extend(all.map(|(url, note)| Target { url, expect, note }));
        }
        for fault in faults::FAULTS {
            let url = format!("http://{}:{port}{}", fault.host, fault.path);
            targets.extend(fault.expect.map(|expect| Target { url, expect, note: fault.note }));
        }
        targets.extend(self.unservable());
        targets
    }

    /// The URLs whose fault lies before any request.
    fn unservable(&self) -> Vec<Target> {
        let port = self.address.port();
        let closed = self.closed.local_addr().map_or(1, |address| address.port());
        let dead = |url, class, note| Target { url, expect: Expectation::Dead(class), note };
        vec![
            Target {
                url: format!("HTTP://News.Demo.Test:{port}/wire/../spelled#top"),
                expect: Expectation::Duplicate { group: "spelled", reason: "duplicate-url" },
                note: "a URL listed in two spellings",
            },
            dead(format!("http://nowhere.demo.test:{port}/"), "dns", "a name that does not resolve"),
            dead(format!("http://errors.demo.test:{closed}/"), "connect", "a port where nobody listens"),
            dead(format!("https://errors.demo.test:{port}/tls"), "tls", "https where plain HTTP is spoken"),
            dead("http://news.demo.test:99999/".to_owned(), "invalid-url", "a port that cannot be"),
        ]
    }

    /// `n` URLs of small generated pages, all different, over this many hosts in turn (from 1 to
    /// [`LOAD_HOSTS`]). Other pages of the family: `/gen/<n>?words=<w>` on any host.
    pub fn many(&self, n: usize, hosts: usize) -> Vec<String> {
        let (port, hosts) = (self.address.port(), hosts.clamp(1, LOAD_HOSTS));
        (0..n).map(|n| format!("http://{}:{port}/gen/{n}", hosts::load_host(n % hosts))).collect()
    }

    /// How often a URL was requested (its query does not count), or a path on any host.
    pub fn hits(&self, path_or_url: &str) -> usize {
        let log = lock(&self.log);
        let Some((_, rest)) = path_or_url.split_once("://") else {
            return log.values().filter_map(|host| host.hits.get(bare(path_or_url))).sum();
        };
        let (authority, _) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
        let path = match bare(&rest[authority.len()..]) {
            "" => "/",
            path => path,
        };
        let host = authority.split(':').next().unwrap_or_default().to_ascii_lowercase();
        log.get(&host).and_then(|host| host.hits.get(path)).copied().unwrap_or(0)
    }

    /// When requests for a host arrived, in order; those for robots.txt are left out.
    pub fn timeline(&self, host: &str) -> Vec<Instant> {
        lock(&self.log).get(host).map(|host| host.arrivals.clone()).unwrap_or_default()
    }

    /// Forgets all requests: counts start again, and what fails once fails once more.
    pub fn resets(&self) {
        lock(&self.log).clear();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Counts a request and tells how many there were for its host and path.
fn note(log: &Mutex<Log>, request: &wire::Request) -> usize {
    let mut log = lock(log);
    let host = log.entry(request.host.clone()).or_default();
    if request.path != "/robots.txt" {
        host.arrivals.push(Instant::now());
    }
    let hits = host.hits.entry(request.path.clone()).or_default();
    *hits += 1;
    *hits
}

/// The log is whole after each change, so a panic elsewhere does not spoil it.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path without query and fragment.
fn bare(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}
