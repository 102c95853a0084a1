//! Redis and S3 are killed and come back while the real binary is at work: it waits, goes on by itself, loses nothing and
//! does nothing twice. Redis forgets everything when it is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

#[path = "services/mod.rs"]
mod services;
mod whole;

use std::time::Duration;

use services::{Redis, S3};
use whole::Running;
use whole::ledger::{Bench, counters_are_exact};

const URLS: usize = 900;

#[test]
fn a_lost_redis_and_a_lost_s3_slow_a_run_and_corrupt_nothing() {
    let (redis, s3) = (Redis::start(""), S3::start());
    let bench = Bench::new(URLS);
    let mut command = bench.command();
    command.args(["--log", "tidemill=warn,tidemill::upstream=info"]);
    command.envs([
        ("TIDEMILL_STORE__REDIS", redis.url()),
        ("TIDEMILL_STORE__BREAKER__RESET", "500ms"),
        ("TIDEMILL_BLOB__BREAKER__RESET", "500ms"),
        // Every body becomes a blob.
        ("TIDEMILL_BLOB__THRESHOLD", "1 B"),
        ("TIDEMILL_BLOB__S3", "s3://tidemill/blobs"),
        ("TIDEMILL_S3__ENDPOINT", s3.url()),
        ("AWS_ACCESS_KEY_ID", S3::KEY),
        ("AWS_SECRET_ACCESS_KEY", S3::KEY),
    ]);
    let mut running = Running::start(&mut command);
    bench.until_indexed(50, &mut running);
    redis.kill();
    let stuck = bench.until_stuck(&mut running, Duration::from_secs(3));
    assert!(stuck < URLS, "Redis was not missed");
    redis.restart();
    bench.until_indexed(stuck + 100, &mut running);
    s3.kill();
    let stuck = bench.until_stuck(&mut running, Duration::from_secs(3));
    assert!(stuck < URLS, "S3 was not missed");
    s3.restart();
    bench.until_indexed(stuck + 1, &mut running);
    // It answers nobody, and takes connections as before.
    redis.pause();
    let stuck = bench.until_stuck(&mut running, Duration::from_secs(4));
    assert!(stuck < URLS, "Redis was not missed the second time");
    redis.resume();
    let ended = running.ended(Duration::from_secs(120)).expect(0);
    let faults = bench.ledger().faults(&bench.urls);
    assert!(faults.is_empty(), "{faults:#?}\n{}", ended.stderr);
    counters_are_exact(&bench, &ended);
    for service in ["store.redis", "blob.s3"] {
        let said = |what: &str| ended.stderr.lines().any(|l| l.contains(service) && l.contains(what));
        assert!(said("left alone") && said("back"), "{service}: {}", ended.stderr);
    }
    let objects = walk(&s3.folder().join("blobs/sha256"));
    assert!(objects > URLS / 2 && !bench.tidemill.data().join("store.db").exists(), "{objects} objects");
}

fn walk(dir: &std::path::Path) -> usize {
    std::fs::read_dir(dir).unwrap().flatten().map(|e| if e.path().is_dir() { walk(&e.path()) } else { 1 }).sum()
}
