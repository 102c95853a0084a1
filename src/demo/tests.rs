//! The demo web seen by a plain TCP client.

mod faults;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// What a client saw of one response.
struct Seen {
    /// Status line and headers, or nothing.
    head: String,
    body: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    /// The server closed the connection.
    Closed,
    Reset,
    /// Nothing came for as long as the test waits.
    Silent,
    /// The client had enough.
    Enough,
}

impl Seen {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn length(&self) -> Option<usize> {
        self.header("content-length").map(|length| length.parse().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads until the server ends it, one second of silence, or `limit` bytes.
async fn get_up_to(site: &Site, url: &str, limit: usize) -> Seen {
    let (host, path) = url.strip_prefix("http://").unwrap_or(url).split_once('/').unwrap();
    let host = host.split(':').next().unwrap();
    let address = site.resolve(host).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let end = loop {
        if bytes.len() >= limit {
            break End::Enough;
        }
        bytes.reserve(64 * 1024);
        match timeout(Duration::from_secs(1), stream.read_buf(&mut bytes)).await {
            Err(_) => break End::Silent,
            Ok(Ok(0)) => break End::Closed,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break End::Reset;
            }
        }
    };
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
    let body = bytes.split_off(split);
    Seen { head: String::from_utf8(bytes).unwrap(), body, end }
}

async fn get(site: &Site, url: &str) -> Seen {
    get_up_to(site, url, usize::MAX).await
}

fn site() -> Site {
    Site::start(Options { slow: Duration::from_millis(200), ..Options::default() }).unwrap()
}

#[tokio::test]
async fn every_plain_page_is_good_and_different() {
    let site = site();
    let targets = site.urls();
    let plain = targets.iter().filter(|t| matches!(t.note, "page" | "listing"));
    let (mut bodies, mut hosts) = (HashSet::new(), HashSet::new());
    for target in plain {
        let seen = get(&site, &target.url).await;
        assert_eq!((seen.status(), seen.end == End::Closed), (200, true), "{}", target.url);
        assert_eq!(seen.length(), Some(seen.body.len()));
        let text = seen.text();
        for part in ["<html lang=", "<title>", "<h1>", "cookie", "<footer", "rel=\"canonical\""] {
            assert!(text.contains(part), "{part} is missing in {}", target.url);
        }
        let canonical = format!("rel=\"canonical\" href=\"{}\"", target.url);
        assert!(text.contains(&canonical), "{canonical}");
        assert!(bodies.insert(text.split("<main>").nth(1).unwrap().to_owned()), "{}", target.url);
        hosts.insert(target.url.split(':').nth(1).unwrap().to_owned());
    }
    assert!(bodies.len() >= 220 && hosts.len() >= 20, "{} on {}", bodies.len(), hosts.len());
}

#[tokio::test]
async fn robots_files_differ() {
    let site = site();
    for (host, status, text) in [
        ("news", 200, "Disallow:\n"),
        ("strict", 200, "Disallow: /private/\n"),
        ("patient", 200, "Crawl-delay: 1\n"),
        ("open", 404, ""),
        ("norobots", 500, ""),
        ("load-7", 200, "Disallow:\n"),
    ] {
        let seen = get(&site, &format!("{host}.demo.test/robots.txt")).await;
        assert!(seen.status() == status && seen.text().contains(text), "{host}");
    }
    assert_eq!(site.timeline("news.demo.test").len(), 0);
    assert_eq!(site.hits("/robots.txt"), 6);
}

#[tokio::test]
async fn what_is_not_there_is_refused() {
    let site = site();
    assert_eq!(site.resolve("nowhere.demo.test"), None);
    assert_eq!(site.resolve("load-256.demo.test"), None);
    assert_eq!(site.resolve("News.Demo.Test"), Some(site.address()));
    let closed = site.urls().into_iter().find(|t| t.note == "a port where nobody listens").unwrap();
    let port: u16 = closed.url.split([':', '/']).nth(4).unwrap().parse().unwrap();
    let error = TcpStream::connect(("127.0.0.1", port)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // The start of a TLS hello gets plain text.
    let mut stream = TcpStream::connect(site.address()).await.unwrap();
    stream.write_all(&[0x16, 3, 1, 0, 5]).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[tokio::test]
async fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let site = site();
    let mut stream = TcpStream::connect(site.address()).await.unwrap();
    let head = |path| format!("HEAD {path} HTTP/1.1\r\nHost: news.demo.test:80\r\n\r\n");
    let both = [head("/article/1"), head("/nothing")].concat();
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut text = String::new();
    while text.matches("\r\n\r\n").count() < 2 {
        let mut buffer = [0; 1024];
        let n = stream.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    assert!(text.find("200 OK").unwrap() < text.find("404 Not Found").unwrap());
    assert!(!text.contains("<html"), "a HEAD has no body");
    assert_eq!(site.hits("/article/1"), 1);
    assert_eq!(site.timeline("news.demo.test").len(), 2);
}

#[tokio::test]
async fn dropping_the_site_ends_its_connections() {
    let site = site();
    let address = site.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /silent HTTP/1.1\r\nHost: silent.demo.test\r\n\r\n").await.unwrap();
    while site.hits("http://silent.demo.test/silent") == 0 {
        tokio::task::yield_now().await;
    }
    drop(site);
    let ended = timeout(Duration::from_secs(1), stream.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn load_pages_are_many_different_and_cheap() {
    let site = site();
    let urls = site.many(20_000, 40);
    assert_eq!(urls.iter().collect::<HashSet<_>>().len(), 20_000);
    assert_eq!(site.many(3, 0)[2], format!("http://load-0.demo.test:{}/gen/2", site.address().port()));
    let one = get(&site, &urls[41]).await;
    let other = get(&site, &urls[81]).await;
    assert!(one.status() == 200 && one.text().contains("<h1>"));
    assert!(one.text().split("<main>").nth(1) != other.text().split("<main>").nth(1));
    let host = hosts::find("load-1.demo.test").unwrap();
    let make = |n: u64| {
        let path = format!("/gen/{n}");
        let place = pages::Place { host, name: "load-1.demo.test", port: 1, path: &path };
        pages::generated(place, n, 300)
    };
    make(0);
    let (start, mut bodies) = (Instant::now(), HashSet::new());
    let pages = (0..2_000).map(make).collect::<Vec<_>>();
    let each = start.elapsed() / 2_000;
    for page in &pages {
        // Without the serial sentence they differ as well.
        bodies.insert(page.split_once("</h1>").unwrap().1.split_once(". ").unwrap().1.to_owned());
    }
    assert_eq!(bodies.len(), 2_000);
    // A few microseconds when measured, unoptimised; the machine may be busy.
    assert!(each < Duration::from_micros(50), "{each:?} a page");
}
