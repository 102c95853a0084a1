//! Pages for benchmarks, served over HTTP on loopback by a process of its own, whose CPU does not count.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use flate2::read::GzDecoder;
use tidemill::config::Config;
use tidemill::demo::{Options, Site};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;

/// Virtual hosts of pages that are not the demo web's.
const HOSTS: usize = 64;

/// Serves if this process is to, and never returns then.
pub async fn serve_if_asked() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [word, what, count] = &args[..]
        && word == "serve"
    {
        serve(what, count.parse().unwrap()).await;
        std::process::exit(0);
    }
}

/// A process that serves, and ends with this value.
pub struct Server {
    pub urls: Vec<String>,
    _child: Child,
}

impl Server {
    /// `-`: `count` pages of the demo web; a number: `count` generated articles of so many KiB; else a folder of
    /// `*.html.gz`, each page `count` times under its own URL.
    pub async fn start(what: &str, count: usize) -> Server {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["serve", what, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut urls = vec![];
        while let Some(line) = lines.next_line().await.unwrap().filter(|l| !l.is_empty()) {
            urls.push(line);
        }
        Server { urls, _child: child }
    }
}

/// Lets the pages be fetched at full speed.
pub fn reach(config: &mut Config) {
    config.fetch.delay = Duration::ZERO;
    config.fetch.allow_addresses.push("127.0.0.0/8".parse().unwrap());
    config.fetch.resolve.insert("*.demo.test".into(), "127.0.0.1".parse().unwrap());
}

async fn serve(what: &str, count: usize) {
    let urls = if what == "-" {
        // It lasts as long as the process.
        Box::leak(Box::new(Site::start(Options::default()).unwrap())).many(count, HOSTS)
    } else if let Ok(kib) = what.parse::<usize>() {
        let port = listen(move |path| path.parse().ok().map(|i| article(i, kib << 10))).await;
        (0..count).map(|i| format!("http://h{}.demo.test:{port}/{i}", i % HOSTS)).collect()
    } else {
        let mut pages: Vec<PathBuf> = std::fs::read_dir(what).unwrap().map(|e| e.unwrap().path()).collect();
        pages.sort();
        let open = |p: &PathBuf| {
            let mut page = vec![];
            GzDecoder::new(std::fs::File::open(p).unwrap()).read_to_end(&mut page).unwrap();
            page
        };
        let pages: Arc<Vec<Vec<u8>>> = Arc::new(pages.iter().map(open).collect());
        let n = pages.len();
        // Each URL has bytes of its own, or it would be a duplicate.
        let page = move |path: &str| {
            let (k, i) = path.split_once('/')?;
            let mut page = pages.get(i.parse::<usize>().ok()?)?.clone();
            page.extend_from_slice(format!("<!-- {k} -->").as_bytes());
            Some(page)
        };
        let port = listen(page).await;
        let url = |k, i| format!("http://h{}.demo.test:{port}/{k}/{i}", i % HOSTS);
        (0..count).flat_map(|k| (0..n).map(move |i| url(k, i))).collect()
    };
    for url in &urls {
        println!("{url}");
    }
    println!();
    // Until the parent ends.
    let _end = tokio::io::stdin().read(&mut [0]).await;
}

/// Serves what there is for a path; returns the port.
async fn listen(page: impl Fn(&str) -> Option<Vec<u8>> + Clone + Send + Sync + 'static) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = move |uri: Uri| {
        let page = page(uri.path().trim_start_matches('/'));
        async move {
            match page {
                Some(body) => ([("content-type", "text/html")], body).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    port
}

/// A page of about so many bytes whose text is its own.
fn article(i: usize, bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "water", "river", "the", "a", "mill", "turns", "when", "tide", "comes", "back", "over", "stone", "and",
        "grain", "of", "many", "fields", "is", "ground", "to", "flour", "before", "night", "falls",
    ];
    let mut x = i as u64 + 0x9e37_79b9_7f4a_7c15;
    let mut page = format!("<!doctype html><html lang=en><title>Page {i}</title><body><article><h1>Page {i}</h1>");
    while page.len() < bytes {
        page.push_str("<p>");
        for _ in 0..60 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let _infallible = write!(page, "{} ", WORDS[(x % 24) as usize]);
        }
        let _infallible = write!(page, "{x:x}.</p>");
    }
    page.push_str("</article></body></html>");
    page.into_bytes()
}

/// User and system seconds of this process.
pub fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
