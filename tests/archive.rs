//! Bodies that nobody has used for long move to a real S3, and are found there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use services::S3;
use tidemill::blob::folder::Folder;
use tidemill::blob::tiered::{Tally, Tiered};
use tidemill::blob::{Blobs, s3};
use tidemill::config::{Compression, Config};
use whole::server::{Reply, Server};
use whole::{Running, Tidemill, eventually};

const PAGES: usize = 6;

/// Large pages that say of themselves that they have not changed.
fn site() -> Server {
    Server::start(|path, nth| {
        let Reply(_, mut headers, body) = Reply::page(&format!("sluice of {path}"));
        headers.extend([("ETag", "\"v1\"".to_owned()), ("Cache-Control", "no-cache".to_owned())]);
        let body = body.replace("</main>", &format!("<p>{}</p></main>", format!("{path} ").repeat(120_000)));
        if nth > 1 { Reply(304, headers, String::new()) } else { Reply(200, headers, body) }
    })
}

struct Bench {
    s3: S3,
    site: Server,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { s3: S3::start(), site: site(), dir: tempfile::tempdir().unwrap() };
        let urls: Vec<_> = (0..PAGES).map(|i| bench.site.url(&format!("/{i}"))).collect();
        std::fs::write(bench.dir.path().join("urls.txt"), urls.join("\n")).unwrap();
        bench
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Tidemill::new(self.dir.path()).command(args);
        c.envs([
            ("TIDEMILL_BLOB__ARCHIVE__S3", "s3://tidemill/old"),
            ("TIDEMILL_S3__ENDPOINT", self.s3.url()),
            ("AWS_ACCESS_KEY_ID", S3::KEY),
            ("AWS_SECRET_ACCESS_KEY", S3::KEY),
        ]);
        c
    }

    fn json(&self, args: &[&str]) -> Value {
        Running::start(&mut self.command(args)).ended(whole::LIMIT).expect(0).json()
    }

    fn crawl(&self) -> Value {
        self.json(&["run", "urls.txt", "--delay", "0", "--allow-address", "127.0.0.1", "--json"])
    }

    /// Blobs in the folder and in the archive.
    fn places(&self) -> [Value; 2] {
        let stats = self.json(&["blobs", "stats", "--json"]);
        [0, 1].map(|i| stats[i]["blobs"].clone())
    }
}

#[test]
fn what_is_old_moves_and_a_page_that_has_not_changed_is_read_from_there() {
    let bench = Bench::new();
    assert_eq!(bench.crawl()["indexed"], PAGES);
    assert_eq!(bench.places(), [PAGES, 0]);
    let old = bench.json(&["blobs", "archive", "--dry-run", "--json"]);
    assert_eq!(old["blobs"], 0, "nothing is a day old");
    let all = ["blobs", "archive", "--older-than", "0s", "--json"];
    let old = bench.json(&[&all[..], &["--dry-run"]].concat());
    assert_eq!(old["blobs"], PAGES);

    // Killed between the copy and the deletion of one: all are found all the same, and the next one goes on.
    let mut c = bench.command(&all);
    let mut running = Running::start(c.env("FAILPOINTS", "blob.archived=2*off->panic"));
    assert!(eventually(Duration::from_secs(60), || running.poll().is_some()), "it was killed");
    let [first, archive] = bench.places();
    let (first, archive) = (first.as_u64().unwrap(), archive.as_u64().unwrap());
    assert!(first > 0 && archive > 0 && first + archive > PAGES as u64, "{first} and {archive}");
    let moved = bench.json(&all);
    assert_eq!((&moved["moved"], &moved["damaged"]), (&first.into(), &0.into()));
    assert_eq!(bench.places(), [0, PAGES]);

    // Each is a 304 now, whose page names the blob that is in the archive; what reads it finds it.
    let again = bench.crawl();
    assert_eq!(again["indexed"], PAGES, "{again}");
    let read = bench.json(&["cache", "get", &bench.site.url("/0"), "--json"]);
    assert!(read["body"].as_str().unwrap().starts_with("sha256/"), "{read}");
    let body =
        Running::start(&mut bench.command(&["cache", "get", &bench.site.url("/0"), "--body"])).ended(whole::LIMIT);
    assert!(body.expect(0).stdout.contains("sluice of /0"));
    assert_eq!(bench.places(), [0, PAGES], "a 304 moves nothing back");
}

#[test]
fn a_place_cannot_be_its_own_archive() {
    let bench = Bench::new();
    let mut c = bench.command(&["blobs", "stats"]);
    let ended = Running::start(c.env("TIDEMILL_BLOB__S3", "s3://tidemill/old/")).ended(whole::LIMIT).expect(1);
    assert!(ended.stderr.contains("blob.archive.s3"), "{}", ended.stderr);
    std::fs::create_dir_all(bench.dir.path().join("data/blobs")).unwrap();
    let mut c = bench.command(&["blobs", "archive"]);
    let ended = Running::start(c.env("TIDEMILL_BLOB__ARCHIVE__S3", "")).ended(whole::LIMIT).expect(2);
    assert!(ended.stderr.contains("there is no archive"), "{}", ended.stderr);
}

async fn tiers(s3: &S3, dir: &Path) -> Tiered {
    let key = S3::KEY;
    let how = format!("endpoint = \"{}\"\naccess_key_id = \"{key}\"\nsecret_access_key = \"{key}\"", s3.url());
    let c = Config {
        blob: toml::from_str("s3 = \"s3://tidemill/cold\"").unwrap(),
        s3: toml::from_str(&how).unwrap(),
        ..Config::default()
    };
    let first = Folder::open(&dir.join("blobs"), Compression::Gzip).unwrap();
    let archive = s3::S3::open(&c.blob, &c.s3, &dir.join("blobs/tmp")).await.unwrap();
    Tiered::new(Arc::new(first), Arc::new(archive))
}

/// While two processes move whatever there is, what was put is found by whoever reads, renews or puts it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_a_blob_that_moves() {
    let (s3, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let place = Arc::new(tiers(&s3, dir.path()).await);
    let (done, stop) = tokio::sync::watch::channel(false);
    let movers: Vec<_> = (0..2)
        .map(|_| {
            let (place, stop) = (Arc::clone(&place), stop.clone());
            tokio::spawn(async move {
                let mut moved = 0;
                while !*stop.borrow() {
                    moved += place.move_old(Duration::ZERO, None, |_| {}).await.unwrap().blobs;
                }
                moved
            })
        })
        .collect();
    let bodies: Vec<Bytes> = (0..60u32).map(|i| Bytes::from(i.to_le_bytes().repeat(80_000))).collect();
    // New ones each time: what was moved once is in the archive for good.
    for some in bodies.chunks(6) {
        for body in some {
            place.put(body.clone()).await.unwrap();
        }
        for round in 0..3 {
            for body in some {
                let key = tidemill::blob::key(body);
                assert_eq!(place.get(&key).await.as_ref(), Ok(body), "round {round}");
                place.renew(&key).await.unwrap();
            }
        }
        place.put(some[0].clone()).await.unwrap();
    }
    done.send(true).unwrap();
    let mut moved = 0;
    for mover in movers {
        moved += mover.await.unwrap();
    }
    assert!(moved >= bodies.len() as u64, "{moved}: they did not move while they were used");
    place.move_old(Duration::ZERO, None, |_| {}).await.unwrap();
    assert_eq!(Tiered::tally(place.first(), Duration::ZERO).await.unwrap().blobs, 0);
    for body in &bodies {
        assert_eq!(place.get(&tidemill::blob::key(body)).await.as_ref(), Ok(body));
    }
}

#[tokio::test]
async fn what_is_damaged_stays_and_what_cannot_be_reached_loses_nothing() {
    let (s3, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let place = tiers(&s3, dir.path()).await;
    let key = place.put(Bytes::from(vec![1; 300_000])).await.unwrap();
    let good = place.put(Bytes::from(vec![2; 300_000])).await.unwrap();
    let file = |key: &str| dir.path().join(format!("blobs/sha256/{}/{}.gz", &key[7..9], &key[7..]));
    let bytes = std::fs::read(file(&good)).unwrap();
    std::fs::copy(file(&good), file(&key)).unwrap();
    s3.kill();
    assert!(place.move_old(Duration::ZERO, None, |_| {}).await.is_err());
    assert!(file(&good).exists());
    s3.restart();
    let moved = place.move_old(Duration::ZERO, None, |_| {}).await.unwrap();
    assert_eq!(moved, Tally { blobs: 1, bytes: bytes.len() as u64, damaged: 1 });
    assert!(file(&key).exists() && !file(&good).exists());
    // Young again: it is not what was not used for long.
    let young = place.put(Bytes::from_static(b"young")).await.unwrap();
    place.move_old(Duration::from_secs(3600), None, |_| {}).await.unwrap();
    assert!(file(&young).exists());
}
