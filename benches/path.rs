//! The whole path over real pages: CPU a page by part (fetch, extraction, the rest) and peak memory.
//!
//! `cargo bench --bench path -- FOLDER [TIMES]`: FOLDER holds `*.html.gz`; each page is served TIMES times (1) under its
//! own URL. Without a folder, pages of the demo web are used. "The rest" is everything that is neither the request nor the
//! extraction: records, log, leases, enrich, index.

mod pages;

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use pages::{Server, cpu};
use tidemill::config::Config;
use tidemill::engine::{Ctx, Outcome, Stage};
use tidemill::jobs::{Lane, NewJob, Tracker, submit};
use tidemill::pipeline::Pipeline;
use tidemill::record::{Headers, Meta, Record, UrlTask, now_ms};
use tidemill::topology::{Ladder, STATUS, StageName};
use tidemill::transport::tail::{From, Tail};
use tokio_util::sync::CancellationToken;

/// Peak resident memory, MiB.
fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) / 1024
}

async fn run(config: Config, urls: &[String]) -> (f64, f64, u64) {
    let pipeline = Arc::new(Pipeline::open(config).await.unwrap());
    let stop = CancellationToken::new();
    let (started, cpu0) = (Instant::now(), cpu());
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run(&StageName::ALL, Ladder::Quick, stop).await }
    });
    let (transport, names) = (Arc::clone(&pipeline.transport), pipeline.names.clone());
    let new = NewJob { id: "bench".into(), source: "bench".into(), lane: Lane::Normal };
    submit(&*transport, &names, &new, urls.iter().map(|u| UrlTask::new(u.as_str()))).await.unwrap();
    let mut tracker = Tracker::of("bench");
    let mut tail = Tail::new(&*transport, &names.full(STATUS), From::Start).await.unwrap();
    while tracker.get("bench").map_or(0, |p| p.finished) < urls.len() as u64 {
        tracker.read(&tail.next(&*transport).await.unwrap());
    }
    let (wall, used) = (started.elapsed().as_secs_f64(), cpu() - cpu0);
    stop.cancel();
    running.await.unwrap().unwrap();
    let p = tracker.take("bench").unwrap();
    let indexed = p.by_outcome.iter().filter(|(s, _)| s.stage == "index").map(|(_, n)| n).sum();
    (wall, used, indexed)
}

#[tokio::main]
async fn main() {
    pages::serve_if_asked().await;
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let what = args.first().map_or("-", String::as_str);
    let times: usize = args.get(1).and_then(|t| t.parse().ok()).unwrap_or(1);
    let server = Server::start(what, if what == "-" { 2_000 * times } else { times }).await;
    let urls = &server.urls;
    let n = urls.len() as f64;

    let dir = tempfile::tempdir_in(".").unwrap();
    let mut config = Config { data: dir.path().join("parts"), ..Config::default() };
    pages::reach(&mut config);

    // The request alone, then the extraction alone, over the same pages.
    let parts = Pipeline::open(config.clone()).await.unwrap();
    let (fetch, extract) = (parts.fetch(Ladder::Quick).unwrap(), parts.extract().unwrap());
    let ctx = Ctx::unplaced(Meta::read(&Headers::default(), "bench", 0, 0, now_ms()));
    let (mut fetch_cpu, mut extract_cpu) = (0.0, 0.0);
    for chunk in urls.chunks(256) {
        let c = cpu();
        let outcomes: Vec<Outcome> = futures::stream::iter(chunk)
            .map(|u| fetch.handle(UrlTask::new(u.as_str()), &ctx))
            .buffer_unordered(64)
            .collect()
            .await;
        fetch_cpu += cpu() - c;
        let pages: Vec<_> = outcomes
            .into_iter()
            .filter_map(|o| match o {
                Outcome::Emit(mut r) => r.pop(),
                _ => None,
            })
            .filter_map(|r| if let Record::Page(p) = r { Some(*p) } else { None })
            .collect();
        let c = cpu();
        let _documents: Vec<Outcome> =
            futures::stream::iter(pages).map(|p| extract.handle(p, &ctx)).buffer_unordered(8).collect().await;
        extract_cpu += cpu() - c;
    }
    drop((fetch, extract, parts));
    println!("peak memory of the parts {} MiB", peak());

    config.data = dir.path().join("whole");
    let (wall, used, indexed) = run(config, urls).await;
    let ms = |s: f64| s * 1e3 / n;
    println!(
        "{n} pages, {indexed} indexed, {:.0} pages/s; CPU a page {:.2} ms: fetch {:.2}, extraction {:.2}, the rest {:.2}",
        n / wall,
        ms(used),
        ms(fetch_cpu),
        ms(extract_cpu),
        ms(used - fetch_cpu - extract_cpu)
    );
    println!("peak memory {} MiB", peak());
}
