//! Inputs that lie in a folder or in a bucket: read like pages where that is allowed, and nothing else of the machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use services::S3;
use tidemill::record::StatusEvent;
use tidemill::topology::STATUS;
use whole::server::{Reply, Server};
use whole::{Running, Tidemill, decoded, log};

/// Runs it over these URLs; how each ended: `index/done`, or a class with its message.
fn ends(t: &Tidemill, urls: &[String], env: &[(&str, &str)]) -> BTreeMap<String, String> {
    std::fs::write(t.dir.join("urls.txt"), urls.join("\n")).unwrap();
    let mut c = t.command(&["run", "urls.txt", "--fresh", "--delay", "0", "--allow-address", "127.0.0.1", "--json"]);
    let _any = Running::start(c.envs(env.iter().copied())).ended(whole::LIMIT);
    let events: Vec<StatusEvent> = log(&t.data(), async |transport, names| decoded(transport, names, STATUS).await);
    let how = |e: &StatusEvent| match &e.class {
        Some(class) => format!("{class}: {}", e.message.as_deref().unwrap_or_default()),
        None => format!("{}/{}", e.stage, e.outcome.as_str()),
    };
    events.iter().filter(|e| e.outcome.is_final()).map(|e| (e.url.clone(), how(e))).collect()
}

fn page(title: &str) -> String {
    Reply::page(title).2
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn files_are_read_where_that_is_allowed_and_nothing_leads_out_of_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = |rest: &str| dir.path().join(rest);
    write(&at("in/a page.html"), page("mill"));
    write(&at("in/deep/er/zipped.html.gz"), gzip(&page("weir")));
    // Of the size of a blob.
    write(&at("in/large.html"), page(&"sluice ".repeat(100_000)));
    write(&at("in.secret/x.html"), page("secret beside the folder"));
    // One for each spelling of the way to it: they are one URL, and the second of them would be a duplicate.
    for name in ["secret.html", "secret2.html", "secret3.html"] {
        write(&at(name), page(name));
    }
    symlink(at("secret.html"), at("in/out.html")).unwrap();
    symlink(dir.path(), at("in/up")).unwrap();
    symlink("a page.html", at("in/same.html")).unwrap();
    assert!(Command::new("mkfifo").arg(at("in/pipe")).status().unwrap().success());
    let redirects = {
        let secret = format!("file://{}", at("in/a%20page.html").display());
        Server::start(move |_, _| Reply(302, vec![("Location", secret.clone())], String::new()))
    };

    let url = |rest: &str| format!("file://{}/{rest}", dir.path().display());
    let good = ["in/a%20page.html", "in/deep/er/zipped.html.gz", "in/large.html"].map(url);
    let outside = [
        ("in/out.html", "http-4xx"),
        ("in/up/secret.html", "http-4xx"),
        ("in/..%2Fsecret.html", "http-4xx"),
        ("in/%2e%2e/secret2.html", "blocked-address"),
        ("in/../secret3.html", "blocked-address"),
        ("in.secret/x.html", "blocked-address"),
        ("secret.html", "blocked-address"),
        ("in/pipe", "http-4xx"),
        ("in/deep", "http-4xx"),
        ("in/missing.html", "http-4xx"),
    ];
    let mut urls = good.to_vec();
    urls.extend(outside.iter().map(|(rest, _)| url(rest)));
    urls.extend(["file://elsewhere/etc/passwd".into(), redirects.url("/inside")]);

    let allowed = format!("[{:?}]", at("in"));
    let t = Tidemill::new(at("a"));
    std::fs::create_dir(&t.dir).unwrap();
    let ends_of = ends(&t, &urls, &[("TIDEMILL_FETCH__ALLOW_INPUTS", &allowed)]);
    for url in &good {
        assert_eq!(ends_of[url], "index/done", "{ends_of:#?}");
    }
    for (rest, class) in outside {
        let spelled = tidemill::web::url::normalise(&url(rest)).unwrap().to_string();
        assert!(ends_of[&spelled].starts_with(&format!("{class}: ")), "{rest}: {ends_of:#?}");
    }
    assert!(ends_of["file://elsewhere/etc/passwd"].starts_with("blocked-address: "), "{ends_of:#?}");
    assert!(ends_of[&redirects.url("/inside")].contains("a page redirects to file://"), "{ends_of:#?}");
    let found = t.json(&["search", "weir", "--json"]).to_string();
    assert!(found.contains("zipped.html.gz"), "{found}");
    assert!(!t.json(&["search", "secret", "--json"]).to_string().contains("secret.html"));

    // Nothing is unless it is said.
    let t = Tidemill::new(at("b"));
    std::fs::create_dir(&t.dir).unwrap();
    let ends_of = ends(&t, &good, &[]);
    for url in &good {
        assert!(
            ends_of[url].starts_with("blocked-address: ") && ends_of[url].contains("fetch.allow_inputs"),
            "{ends_of:#?}"
        );
    }
    // Within the folder a symlink is as good as what it points to.
    let t = Tidemill::new(at("c"));
    std::fs::create_dir(&t.dir).unwrap();
    let same = url("in/same.html");
    let ends_of = ends(&t, std::slice::from_ref(&same), &[("TIDEMILL_FETCH__ALLOW_INPUTS", &allowed)]);
    assert_eq!(ends_of[&same], "index/done");
}

#[test]
fn objects_are_read_where_that_is_allowed() {
    let s3 = S3::start();
    write(&s3.folder().join("in/a page.html"), page("mill"));
    write(&s3.folder().join("in/b.html.gz"), gzip(&page("weir")));
    write(&s3.folder().join("inside.html"), page("secret"));
    let dir = tempfile::tempdir().unwrap();
    let t = Tidemill::new(dir.path());
    let url = |rest: &str| format!("s3://tidemill/{rest}");
    let urls = ["in/a%20page.html", "in/b.html.gz", "inside.html", "in/..%2Finside.html", "in/missing.html"].map(url);
    let env = [
        ("TIDEMILL_FETCH__ALLOW_INPUTS", r#"["s3://tidemill/in"]"#),
        ("TIDEMILL_S3__ENDPOINT", s3.url()),
        ("AWS_ACCESS_KEY_ID", S3::KEY),
        ("AWS_SECRET_ACCESS_KEY", S3::KEY),
    ];
    let all = [&urls[..], &["s3://other/in/a.html".into()]].concat();
    let ends_of = ends(&t, &all, &env);
    let class = |i: usize| ends_of[&all[i]].split(':').next().unwrap();
    assert_eq!([class(0), class(1)], ["index/done"; 2], "{ends_of:#?}");
    assert_eq!([class(2), class(3), class(5)], ["blocked-address"; 3], "{ends_of:#?}");
    assert_eq!(class(4), "http-4xx", "{ends_of:#?}");
}
