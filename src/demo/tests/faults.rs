//! Every fault, as it goes over the wire.

use std::collections::HashSet;
use std::io::Read;
use std::time::{Duration, Instant};

use super::super::{bare, faults};
use super::{End, Seen, Site, get, get_up_to, site};

/// The body of a chunked response and whether its last chunk came.
fn unchunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        body.extend(&bytes[line + 2..line + 2 + size]);
        bytes = &bytes[line + 2 + size + 2..];
    }
    (body, false)
}

#[tokio::test]
async fn every_listed_fault_is_served_and_listed_once() {
    let site = site();
    let targets = site.urls();
    let urls = targets.iter().map(|target| &target.url).collect::<HashSet<_>>();
    assert_eq!(urls.len(), targets.len());
    for fault in faults::FAULTS {
        assert!(site.resolve(fault.host).is_some(), "{}", fault.host);
        let path = bare(fault.path);
        assert!(std::ptr::eq(faults::find(fault.host, path).unwrap(), fault), "{path}");
    }
    let statuses = [
        ("errors.demo.test/missing", 404),
        ("errors.demo.test/gone", 410),
        ("errors.demo.test/forbidden", 403),
        ("errors.demo.test/down", 503),
        ("errors.demo.test/no-content", 204),
        ("overrun.demo.test/always", 429),
        ("news.demo.test/article/11", 404),
        ("news.demo.test/article/0", 404),
    ];
    for (url, status) in statuses {
        assert_eq!(get(&site, url).await.status(), status, "{url}");
    }
    let empty = get(&site, "errors.demo.test/empty").await;
    assert_eq!((empty.status(), empty.length(), empty.body.len()), (200, Some(0), 0));
}

/// Follows redirects inside the demo web: how many there were, and the last response.
async fn follow(site: &Site, url: &str) -> (usize, Seen) {
    let mut url = url.to_owned();
    for hops in 0..20 {
        let seen = get(site, &url).await;
        let Some(location) = seen.header("location") else {
            return (hops, seen);
        };
        if location.starts_with('/') {
            url = format!("{}{location}", url.split('/').next().unwrap());
        } else {
            let rest = location.strip_prefix("http://").unwrap();
            if !rest.contains("demo.test") {
                return (hops, seen);
            }
            let (host, path) = rest.split_once('/').unwrap();
            url = format!("{}/{path}", host.split(':').next().unwrap());
        }
    }
    (20, get(site, &url).await)
}

#[tokio::test]
async fn redirects_lead_where_they_should() {
    let site = site();
    for (path, hops) in [("chain", 3), ("temporary", 1), ("countdown?left=12", 12), ("elsewhere", 1)] {
        let (followed, seen) = follow(&site, &format!("redirects.demo.test/{path}")).await;
        assert_eq!((followed, seen.status()), (hops, 200), "{path}");
        assert!(seen.text().contains("<article>"));
    }
    assert_eq!(site.hits("http://news.demo.test/moved-here"), 1);
    assert_eq!(follow(&site, "redirects.demo.test/loop").await.0, 20);
    let (_, seen) = follow(&site, "redirects.demo.test/metadata").await;
    assert_eq!(seen.header("location"), Some("http://169.254.169.254/latest/meta-data/"));
    let (_, seen) = follow(&site, "redirects.demo.test/private").await;
    assert_eq!(seen.header("location"), Some("http://10.0.0.1/"));
    let statuses = [("chain", 301), ("chain/2", 302), ("chain/3", 308), ("temporary", 307)];
    for (path, status) in statuses {
        assert_eq!(get(&site, &format!("redirects.demo.test/{path}")).await.status(), status);
    }
}

#[tokio::test]
async fn once_is_once_until_reset() {
    let site = site();
    for (url, first) in [("errors.demo.test/flaky", 500), ("busy.demo.test/seconds", 429), ("busy.demo.test/date", 429)]
    {
        for _ in 0..2 {
            let seen = get(&site, url).await;
            assert_eq!(seen.status(), first, "{url}");
            match seen.header("retry-after") {
                None => assert!(url.ends_with("flaky")),
                Some(date) if url.ends_with("date") => {
                    let due = jiff::fmt::rfc2822::parse(&date.replace("GMT", "+0000")).unwrap();
                    let wait = due.timestamp().as_second() - jiff::Timestamp::now().as_second();
                    assert!(date.ends_with("GMT") && (1..=2).contains(&wait), "{date}");
                }
                Some(seconds) => assert_eq!(seconds, "1"),
            }
            assert_eq!(get(&site, url).await.status(), 200);
            assert_eq!(get(&site, url).await.status(), 200);
            assert_eq!(site.hits(&format!("http://{url}")), 3);
            site.resets();
            assert_eq!(site.hits(&format!("http://{url}")), 0);
        }
    }
}

#[tokio::test]
async fn slow_and_delayed_pages_come_in_the_end() {
    let site = site();
    for url in ["slow.demo.test/slow", "loja.demo.test/product/1?delay_ms=200", "news.demo.test/spelled?delay_ms=200"] {
        let start = Instant::now();
        assert_eq!(get(&site, url).await.status(), 200);
        assert!(start.elapsed() >= Duration::from_millis(200), "{url}");
    }
}

#[tokio::test]
async fn broken_connections_break_as_told() {
    let site = site();
    let seen = get(&site, "stalled.demo.test/stalled").await;
    assert_eq!((seen.status(), seen.end), (200, End::Silent));
    assert!(seen.body.len() > 1_000);
    let seen = get(&site, "silent.demo.test/silent").await;
    assert_eq!((seen.head.len(), seen.body.len(), seen.end), (0, 0, End::Silent));
    let seen = get(&site, "broken.demo.test/truncated").await;
    assert_eq!(seen.length().unwrap() / 2, seen.body.len());
    assert_eq!(seen.end, End::Closed);
    let seen = get(&site, "broken.demo.test/chunk-cut").await;
    assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
    let (body, whole) = unchunked(&seen.body);
    assert!(!whole && body.len() > 1_000 && seen.end == End::Closed);
    let seen = get(&site, "broken.demo.test/reset").await;
    assert_eq!((seen.head.len(), seen.end), (0, End::Reset));
}

#[tokio::test]
async fn large_bodies_are_large() {
    let site = site();
    let size = 40 * 1024 * 1024;
    let seen = get(&site, "huge.demo.test/declared").await;
    assert_eq!((seen.length(), seen.body.len()), (Some(size), size));
    let seen = get(&site, "huge.demo.test/oversized").await;
    let (body, whole) = unchunked(&seen.body);
    assert!(whole && body.len() == size);
    let start = Instant::now();
    let seen = get_up_to(&site, "endless.demo.test/endless", 400_000).await;
    assert_eq!(seen.end, End::Enough);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(250), "1 MiB/s, but 400 kB in {took:?}");
    let seen = get(&site, "huge.demo.test/bomb").await;
    assert_eq!(seen.header("content-encoding"), Some("gzip"));
    assert!(seen.body.len() < 1024 * 1024 && seen.length() == Some(seen.body.len()));
    let mut decoder = flate2::read::GzDecoder::new(&seen.body[..]).take(50_000_000);
    assert_eq!(std::io::copy(&mut decoder, &mut std::io::sink()).unwrap(), 50_000_000);
}

#[tokio::test]
async fn encodings_open_to_good_pages() {
    let site = site();
    for (name, label) in [("gzip", "gzip"), ("deflate", "deflate"), ("brotli", "br"), ("zstd", "zstd")] {
        let seen = get(&site, &format!("encoded.demo.test/{name}")).await;
        assert_eq!(seen.header("content-encoding"), Some(label));
        let (mut text, body) = (String::new(), &seen.body[..]);
        let read = match name {
            "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
            "deflate" => flate2::read::ZlibDecoder::new(body).read_to_string(&mut text),
            "brotli" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
            _ => zstd::Decoder::new(body).unwrap().read_to_string(&mut text),
        };
        assert!(read.is_ok() && text.ends_with("</html>\n"), "{name}");
    }
    let seen = get(&site, "broken.demo.test/gzip").await;
    let mut out = Vec::new();
    assert!(flate2::read::GzDecoder::new(&seen.body[..]).read_to_end(&mut out).is_err());
}

#[tokio::test]
async fn charsets_are_told_as_described() {
    let site = site();
    let seen = get(&site, "charset.demo.test/false-header").await;
    assert_eq!(seen.header("content-type"), Some("text/html; charset=iso-8859-1"));
    assert!(!seen.text().is_ascii());
    for (path, label) in [("windows-1252", "windows-1252"), ("shift-jis", "shift_jis")] {
        let seen = get(&site, &format!("charset.demo.test/{path}")).await;
        assert_eq!(seen.header("content-type"), Some("text/html"));
        assert!(std::str::from_utf8(&seen.body).is_err());
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
        let (text, _, errors) = encoding.decode(&seen.body);
        let meta = text.find(&format!("<meta charset=\"{label}\">"));
        assert!(!errors && meta.is_some_and(|at| at < 1024) && !text.contains("&#"), "{path}");
    }
    let seen = get(&site, "charset.demo.test/utf-16").await;
    assert_eq!(seen.body[..2], [0xff, 0xfe]);
    assert!(encoding_rs::UTF_16LE.decode(&seen.body).0.contains("</html>"));
}

#[tokio::test]
async fn files_have_their_types() {
    let site = site();
    for (name, kind, magic) in [
        ("report.pdf", "application/pdf", &b"%PDF-1.4"[..]),
        ("pixel.png", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("data.json", "application/json", b"{"),
    ] {
        let seen = get(&site, &format!("files.demo.test/{name}")).await;
        assert_eq!(seen.header("content-type"), Some(kind));
        assert!(seen.body.starts_with(magic));
    }
}

#[tokio::test]
async fn floods_come_with_an_article() {
    let site = site();
    for (path, mark, times) in
        [("deep", "<div>", 200_000), ("attributes", "=\"\"", 100_000), ("entities", "&", 200_000)]
    {
        let seen = get(&site, &format!("strange.demo.test/{path}")).await;
        assert_eq!(seen.length(), Some(seen.body.len()));
        let text = seen.text();
        assert!(text.matches(mark).count() >= times, "{path}");
        assert!(text.contains("<article>"), "{path}");
    }
    let seen = get(&site, "strange.demo.test/headers").await;
    assert!(seen.head.len() > 64 * 1024 && seen.head.lines().count() > 2_000);
    let seen = get(&site, "strange.demo.test/untitled").await;
    assert!(!seen.text().contains("<title") && !seen.text().contains("<h1"));
    assert!(seen.text().contains("<article>"));
}

fn article(seen: &Seen) -> &str {
    let text = seen.text();
    &text[text.find("<article>").unwrap()..text.find("</article>").unwrap()]
}

#[tokio::test]
async fn twins_are_the_same_and_neighbours_nearly() {
    let site = site();
    let [a, b] = [get(&site, "news.demo.test/wire/1").await, get(&site, "copy.demo.test/wire/1").await];
    assert!(a.body != b.body && article(&a) == article(&b));
    let [a, b] = [get(&site, "mirror.demo.test/same").await, get(&site, "copy.demo.test/same").await];
    assert_eq!(a.body, b.body);
    let [a, b] = [get(&site, "mirror.demo.test/near/1").await, get(&site, "copy.demo.test/near/2").await];
    let lines = article(&a).lines().zip(article(&b).lines());
    assert_eq!(lines.filter(|(a, b)| a != b).count(), 1);
}
