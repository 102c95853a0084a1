//! Run after run over the same URLs: what is fresh is left alone, what is stale is asked for its changes.

use std::io::Write;

use tidemill::record::{Page, now_ms};
use tidemill::topology::PAGES;

use super::servers::{Server, answer, page};
use super::whole::{Tidemill, decoded, log};

/// `/fresh` says nothing of its freshness; `/etag` is to be asked each time and has not changed.
fn site() -> Server {
    Server::start(
        false,
        Box::new(|stream, head| {
            let unchanged = head.to_lowercase().contains("if-none-match: \"v1\"");
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let always = "Cache-Control: no-cache\r\nETag: \"v1\"\r\n";
            stream.write_all(&match (path.as_str(), unchanged) {
                ("/etag", true) => b"HTTP/1.1 304 X\r\nConnection: close\r\nETag: \"v1\"\r\n\r\n".to_vec(),
                ("/etag", false) => answer(200, always, page("tagged gauge").as_bytes()),
                ("/large", true) => b"HTTP/1.1 304 X\r\nConnection: close\r\n\r\n".to_vec(),
                ("/large", false) => answer(200, always, page("large gauge").repeat(400).as_bytes()),
                _ => answer(200, "", page("fresh gauge").as_bytes()),
            })
        }),
    )
}

fn dropped(report: &serde_json::Value, class: &str) -> u64 {
    let all = report["outcomes"].as_array().unwrap();
    all.iter().filter(|o| o["class"] == class).map(|o| o["count"].as_u64().unwrap()).sum()
}

#[test]
fn a_second_run_fetches_only_what_may_have_changed() {
    let site = site();
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let url = |path: &str| format!("http://{}{path}", site.address);
    std::fs::write(dir.path().join("urls.txt"), ["/fresh", "/etag", "/large"].map(url).join("\n")).unwrap();
    let run = |more: &[&str]| {
        let fixed = ["run", "urls.txt", "--delay", "0", "--allow-address", "127.0.0.1"];
        t.run(&[&fixed[..], more].concat()).expect(0)
    };
    let asked = |path: &str| site.requests.lock().unwrap().iter().filter(|r| r.contains(path)).count();

    assert_eq!(dropped(&run(&["--json"]).json(), "fresh"), 0);
    let second = run(&[]);
    assert!(second.stdout.contains("1 of them were not fetched") && second.stdout.contains("--force"), "{second:?}");
    assert_eq!((asked("/fresh "), asked("/etag "), asked("/large ")), (1, 2, 2));
    // The 304s came out as whole pages.
    let pages: Vec<Page> = log(&t.data(), async |transport, names| decoded(transport, names, PAGES).await);
    for (path, large) in [("/etag", false), ("/large", true)] {
        let both: Vec<&Page> = pages.iter().filter(|p| p.final_url.ends_with(path)).collect();
        let [first, again] = both[..] else { panic!("{path}: {} pages", both.len()) };
        assert_eq!((again.status, &again.body, again.body.blob.is_some()), (200, &first.body, large));
        assert!(again.fetched_at > first.fetched_at && again.content_type == "text/html");
    }
    assert_eq!(dropped(&run(&["--force", "--json"]).json(), "fresh"), 0);
    assert_eq!((asked("/fresh "), asked("/etag ")), (2, 3));
    assert!(!site.requests.lock().unwrap().last().unwrap().to_lowercase().contains("if-none-match"));

    // What the command says, and what removing does.
    assert_eq!(t.json(&["cache", "stats", "--json"])["entries"], 3);
    let entry = t.json(&["cache", "get", &url("/fresh"), "--json"]);
    assert!((3_000..=3_600).contains(&entry["fresh_for_s"].as_u64().unwrap()), "{entry}");
    assert_eq!(t.run(&["cache", "get", &url("/etag"), "--body"]).expect(0).stdout, page("tagged gauge"));
    assert_eq!(t.json(&["cache", "delete", &url("/fresh"), "--json"])["removed"], 1);
    t.run(&["cache", "get", &url("/fresh")]).expect(1);
    run(&[]);
    assert_eq!(asked("/fresh "), 3);
    assert_eq!(t.json(&["cache", "clear", "--domain", "127.0.0.1", "--json"])["removed"], 3);
    t.run(&["cache", "clear"]).expect(2);
}

/// Killed after the entry was written and before the record was committed: the page comes all the same.
#[test]
fn an_entry_that_outlived_a_crash_does_not_lose_its_page() {
    let site = site();
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    std::fs::write(dir.path().join("urls.txt"), format!("http://{0}/fresh\nhttp://{0}/etag", site.address)).unwrap();
    let fixed = ["run", "urls.txt", "--delay", "0", "--allow-address", "127.0.0.1", "--json"];
    let mut command = t.command(&fixed);
    command.env("FAILPOINTS", "fetch.cached=panic");
    let mut running = super::whole::Running::start(&mut command);
    assert!(super::whole::eventually(std::time::Duration::from_secs(60), || running.poll().is_some()), "it was killed");
    let kept = t.json(&["cache", "stats", "--json"])["entries"].as_u64().unwrap();
    assert!(kept > 0, "nothing was kept before the end");
    let before = now_ms();
    let report = t.run(&fixed).expect(0).json();
    assert_eq!((dropped(&report, "fresh"), report["indexed"].as_u64()), (0, Some(2)), "{report}");
    let pages: Vec<Page> = log(&t.data(), async |transport, names| decoded(transport, names, PAGES).await);
    assert_eq!(pages.len(), 2);
    assert!(pages.iter().all(|p| p.fetched_at >= before));
}
