//! WARC files of what is fetched, read back and checked by another program.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;

use super::servers::{Server, answer, page};
use super::services::warcio;
use super::tls::TlsServer;
use super::whole::{self, Running, Tidemill, decoded, eventually, log, output};
use tidemill::record::Page;
use tidemill::topology::PAGES;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A page whose bytes do not shrink much.
fn large() -> String {
    let words: String = (0..90_000u32).map(|i| format!("{:x} ", i.wrapping_mul(2_654_435_761))).collect();
    page(&words)
}

fn site() -> Server {
    Server::start(
        true,
        Box::new(|stream, head| {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let unchanged = head.to_lowercase().contains("if-none-match");
            let tagged = "Cache-Control: no-cache\r\nETag: \"v1\"\r\n";
            stream.write_all(&match path.as_str() {
                "/robots.txt" => answer(200, "", b"User-agent: *\nDisallow: /private"),
                "/plain" | "/same" => answer(200, "X-Odd: caf\u{e9}\r\n", page("weir").as_bytes()),
                "/gzip" => {
                    let body = gzip(page("sluice").as_bytes());
                    let (one, two) = body.split_at(100);
                    let head = "HTTP/1.1 200 Very Fine\r\nConnection: close\r\nContent-Type: text/html\r\n\
                        Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n";
                    let middle = format!("\r\n{:x}\r\n", two.len());
                    [head.as_bytes(), one, middle.as_bytes(), two, b"\r\n0\r\n\r\n"].concat()
                }
                "/large" => answer(200, "Content-Encoding: gzip\r\n", &gzip(large().as_bytes())),
                "/etag" if unchanged => b"HTTP/1.1 304 X\r\nConnection: close\r\nETag: \"v1\"\r\n\r\n".to_vec(),
                "/etag" => answer(200, tagged, page("tagged gauge").as_bytes()),
                "/moved" => answer(302, "Location: /plain\r\n", b"<a href=/plain>there</a>"),
                _ => answer(404, "", b"nothing here"),
            })
        }),
    )
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.to_str().unwrap().ends_with(ending));
    found.sort();
    found
}

/// What the other program finds in a file, a record each. It has checked every hash before.
fn records(file: &Path) -> Vec<serde_json::Value> {
    let file = file.to_str().unwrap();
    output(&mut warcio(&["check", file]), "");
    let fields = [
        "offset",
        "warc-type",
        "warc-target-uri",
        "http:status",
        "warc-profile",
        "warc-refers-to-target-uri",
        "warc-truncated",
        "warc-ip-address",
        "warc-concurrent-to",
        "warc-record-id",
        "warc-payload-digest",
        "http:content-encoding",
        "http:transfer-encoding",
        "http:x-crawler-transfer-encoding",
        "warc-protocol",
        "warc-filename",
    ];
    let lines = output(&mut warcio(&["index", "-f", &fields.join(","), file]), "");
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(records: &'a [serde_json::Value], kind: &str, url: &str) -> Vec<&'a serde_json::Value> {
    records.iter().filter(|r| r["warc-type"] == kind && r["warc-target-uri"] == url).collect()
}

fn payload(file: &Path, record: &serde_json::Value) -> String {
    output(&mut warcio(&["extract", "--payload", file.to_str().unwrap(), record["offset"].as_str().unwrap()]), "")
}

const RUN: [&str; 6] = ["run", "urls.txt", "--delay", "0", "--allow-address", "127.0.0.1"];

#[test]
fn what_was_fetched_is_read_back_by_another_program() {
    let site = site();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("archive");
    let t = Tidemill::new(dir.path());
    let url = |path: &str| format!("http://{}{path}", site.address);
    let list = ["/plain", "/gzip", "/large", "/etag", "/moved", "/missing", "/private"].map(url);
    let run = |urls: &[String], more: &[(&str, &str)]| {
        std::fs::write(dir.path().join("urls.txt"), urls.join("\n")).unwrap();
        let mut c = t.command(&RUN);
        c.env("TIDEMILL_WARC__FOLDER", &folder).envs(more.iter().copied());
        Running::start(&mut c).ended(whole::LIMIT)
    };
    run(&list, &[("TIDEMILL_WARC__OPERATOR", "Ann <ann@example.org>")]).expect(3);
    assert_eq!(files(&folder, ".open").len(), 0);
    let file = files(&folder, ".warc.gz").remove(0);
    let first = records(&file);

    let name = file.file_name().unwrap().to_str().unwrap();
    assert_eq!((&first[0]["warc-type"], first[0]["warc-filename"].as_str()), (&"warcinfo".into(), Some(name)));
    let info = payload(&file, &first[0]);
    assert!(info.contains("operator: Ann <ann@example.org>") && info.contains("robots: obey"), "{info}");
    for (path, status, body) in [
        ("/robots.txt", "200", "User-agent: *\nDisallow: /private".to_owned()),
        ("/plain", "200", page("weir")),
        ("/gzip", "200", page("sluice")),
        ("/large", "200", large()),
        ("/etag", "200", page("tagged gauge")),
        ("/moved", "302", String::new()),
        ("/missing", "404", String::new()),
    ] {
        let [response] = of(&first, "response", &url(path))[..] else { panic!("{path}: {first:#?}") };
        assert_eq!(response["http:status"], status, "{path}");
        assert_eq!(response["warc-ip-address"], "127.0.0.1");
        assert!(payload(&file, response) == body, "{path}");
        assert_eq!(response["warc-truncated"].is_string(), body.is_empty(), "{path}");
        let [request] = of(&first, "request", &url(path))[..] else { panic!("{path}: {first:#?}") };
        assert_eq!(request["warc-concurrent-to"], response["warc-record-id"]);
    }
    let [zipped] = of(&first, "response", &url("/gzip"))[..] else { panic!("{first:#?}") };
    let codings = ["http:content-encoding", "http:transfer-encoding", "http:x-crawler-transfer-encoding"];
    assert_eq!(codings.map(|c| zipped[c].as_str()), [Some("gzip"), None, Some("chunked")]);
    let whole = output(&mut warcio(&["extract", file.to_str().unwrap(), zipped["offset"].as_str().unwrap()]), "");
    assert!(whole.contains("HTTP/1.1 200 Very Fine\r\n"), "{whole}");
    assert_eq!(of(&first, "response", &url("/private")).len(), 0, "nobody asked for it");

    // Once more: a 304, and what is the same under another name.
    run(&[url("/etag"), url("/same")], &[("TIDEMILL_WARC__DIGEST", "sha1")]).expect(0);
    let second = records(&files(&folder, ".warc.gz")[1]);
    for (path, status, profile, of_path) in
        [("/etag", "304", "server-not-modified", "/etag"), ("/same", "200", "identical-payload-digest", "/plain")]
    {
        let [revisit] = of(&second, "revisit", &url(path))[..] else { panic!("{path}: {second:#?}") };
        assert_eq!(revisit["http:status"], status);
        assert!(revisit["warc-profile"].as_str().unwrap().ends_with(profile), "{revisit}");
        assert_eq!(revisit["warc-refers-to-target-uri"], url(of_path));
        let [response] = of(&first, "response", &url(of_path))[..] else { panic!("{of_path}") };
        assert_eq!(revisit["warc-payload-digest"], response["warc-payload-digest"]);
    }

    // Uncompressed, by another hash: nothing is known of these payloads by it.
    run(&[url("/same")], &[("TIDEMILL_WARC__GZIP", "false"), ("TIDEMILL_WARC__DIGEST", "sha256")]).expect(0);
    let plain = files(&folder, ".warc");
    // It was fresh, so nothing was asked and no file begun.
    assert_eq!(plain.len(), 0);
    let mut c = t.command(&RUN);
    c.arg("--force").envs([("TIDEMILL_WARC__GZIP", "false"), ("TIDEMILL_WARC__DIGEST", "sha256")]);
    Running::start(c.env("TIDEMILL_WARC__FOLDER", &folder)).ended(whole::LIMIT).expect(0);
    let plain = files(&folder, ".warc").remove(0);
    let third = records(&plain);
    let [response] = of(&third, "response", &url("/same"))[..] else { panic!("{third:#?}") };
    assert!(response["warc-payload-digest"].as_str().unwrap().starts_with("sha256:"), "{response}");
}

/// An exchange over HTTP/2 reads as one of HTTP/1.1, and says what it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_written_as_http_1_1_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, folder) = (dir.path().join("ca.pem"), dir.path().join("archive"));
    let answer = |path: &str| {
        let status = if path == "/robots.txt" { 404 } else { 200 };
        let head = Response::builder().header("content-type", "text/html").status(status);
        head.body(Full::new(Bytes::from(page("weir")))).unwrap()
    };
    let server = TlsServer::start("127.0.0.1:0", &ca, &["h2"], answer).await;
    let url = format!("https://tls.test:{}/page", server.address.port());
    std::fs::write(dir.path().join("urls.txt"), &url).unwrap();
    let mut c = Tidemill::new(dir.path()).command(&RUN);
    c.args(["--resolve", "tls.test=127.0.0.1"])
        .env("TIDEMILL_WARC__FOLDER", &folder)
        .env("TIDEMILL_FETCH__CA_FILE", &ca);
    tokio::task::spawn_blocking(move || Running::start(&mut c).ended(whole::LIMIT).expect(0)).await.unwrap();
    let file = files(&folder, ".warc.gz").remove(0);
    let records = records(&file);
    let [response] = of(&records, "response", &url)[..] else { panic!("{records:#?}") };
    assert_eq!((&response["warc-protocol"], &response["http:status"]), (&"h2".into(), &"200".into()));
    assert_eq!(payload(&file, response), page("weir"));
    let [request] = of(&records, "request", &url)[..] else { panic!("{records:#?}") };
    let text = output(&mut warcio(&["extract", file.to_str().unwrap(), request["offset"].as_str().unwrap()]), "");
    assert!(text.contains("GET /page HTTP/1.1\r\n") && text.to_lowercase().contains("\r\nhost: tls.test:"), "{text}");
}

/// A page that the cache has and no WARC file yet is fetched whole.
#[test]
fn a_page_from_before_is_not_only_asked_for_its_changes() {
    let site = site();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("archive");
    let t = Tidemill::new(dir.path());
    let url = format!("http://{}/etag", site.address);
    std::fs::write(dir.path().join("urls.txt"), &url).unwrap();
    t.run(&RUN).expect(0);
    Running::start(t.command(&RUN).env("TIDEMILL_WARC__FOLDER", &folder)).ended(whole::LIMIT).expect(0);
    let records = records(&files(&folder, ".warc.gz")[0]);
    assert_eq!(of(&records, "response", &url)[0]["http:status"], "200", "{records:#?}");
}

/// Killed after a record was written and before its page was committed: the file is mended, and all that is committed is
/// in the files.
#[test]
fn what_is_committed_is_in_the_files_wherever_it_was_killed() {
    let site = site();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("archive");
    let t = Tidemill::new(dir.path());
    let urls = ["/plain", "/gzip", "/large", "/etag"].map(|path| format!("http://{}{path}", site.address));
    std::fs::write(dir.path().join("urls.txt"), urls.join("\n")).unwrap();
    let command = || {
        let mut c = t.command(&RUN);
        c.env("TIDEMILL_WARC__FOLDER", &folder);
        c
    };
    for nth in [0, 2] {
        let mut running = Running::start(command().env("FAILPOINTS", format!("fetch.archived={nth}*off->panic")));
        assert!(eventually(Duration::from_secs(60), || running.poll().is_some()), "it was killed");
    }
    let [left] = &files(&folder, ".open")[..] else { panic!("one file is left, the other was mended") };
    // What a process has begun to write when it dies: the head of a record, and no more.
    let torn = std::fs::read(left).unwrap()[..150].to_vec();
    std::fs::OpenOptions::new().append(true).open(left).unwrap().write_all(&torn).unwrap();
    Running::start(&mut command()).ended(whole::LIMIT).expect(0);
    assert_eq!(files(&folder, ".open").len(), 0);
    let mut archived = BTreeSet::new();
    for file in files(&folder, ".warc.gz") {
        let with_payload = |r: &serde_json::Value| matches!(r["warc-type"].as_str(), Some("response" | "revisit"));
        archived.extend(records(&file).iter().filter(|r| with_payload(r)).map(|r| r["warc-target-uri"].to_string()));
    }
    let pages: Vec<Page> = log(&t.data(), async |transport, names| decoded(transport, names, PAGES).await);
    assert_eq!(pages.len(), 4);
    assert!(pages.iter().all(|p| archived.contains(&format!("{:?}", p.final_url))), "{archived:#?}");
}
