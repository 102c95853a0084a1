//! One host with a crowd of URLs beside many small ones: whether the small ones finish as if they were alone, and how often
//! a record of the crowd moves. Time is compressed by a short delay.
//!
//! `cargo bench --bench polite -- [CROWD] [SMALL_HOSTS] [DELAY_MS]`

mod pages;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill::config::Config;
use tidemill::jobs::{Lane, NewJob, submit};
use tidemill::pipeline::Pipeline;
use tidemill::record::{OutcomeKind, StatusEvent, UrlTask, codec};
use tidemill::topology::{Ladder, STAGES, STATUS, StageName, TIERS};
use tidemill::transport::tail::{From, Tail};
use tokio_util::sync::CancellationToken;

/// URLs of each small host.
const SMALL: usize = 10;

struct Course {
    /// Until the last record of the small hosts, and of all, was fetched.
    small: Duration,
    all: Duration,
    /// Parks by the stage, and moves through retry topics, of all records.
    parks: usize,
    moves: i64,
}

async fn crawl(config: Config, crowd: &[String], small: &[String]) -> Course {
    let pipeline = Arc::new(Pipeline::open(config).await.unwrap());
    let stop = CancellationToken::new();
    let (transport, names) = (Arc::clone(&pipeline.transport), pipeline.names.clone());
    // The crowd is there first: the small ones come behind it.
    let new = NewJob { id: "bench".into(), source: "bench".into(), lane: Lane::Normal };
    let tasks = crowd.iter().chain(small).map(|u| UrlTask::new(u.as_str()));
    submit(&*transport, &names, &new, tasks).await.unwrap();
    let started = Instant::now();
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run(&[StageName::Fetch], Ladder::Quick, stop).await }
    });
    let mut tail = Tail::new(&*transport, &names.full(STATUS), From::Start).await.unwrap();
    let (mut parks, mut fetched, mut done) = (0, 0, HashMap::new());
    while fetched < crowd.len() + small.len() {
        for record in tail.next(&*transport).await.unwrap() {
            let event: StatusEvent = codec::decode(&record.value).unwrap();
            match event.outcome {
                OutcomeKind::Parked => parks += 1,
                OutcomeKind::Emitted => {
                    fetched += 1;
                    let of_crowd = event.url.contains("//crowd.");
                    done.insert(of_crowd, started.elapsed());
                }
                other => panic!("{other:?}: {:?}", event.message),
            }
        }
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    let mut moves = 0;
    for tier in 0..TIERS {
        for b in transport.bounds(&names.full(&STAGES[0].retry(tier))).await.unwrap() {
            moves += b.end;
        }
    }
    let small = done.get(&false).copied().unwrap_or_default();
    Course { small, all: started.elapsed(), parks, moves }
}

#[tokio::main]
async fn main() {
    pages::serve_if_asked().await;
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let arg = |n: usize, or: usize| args.get(n).copied().unwrap_or(or);
    let (crowd, hosts, delay) = (arg(0, 10_000), arg(1, 100), arg(2, 10));
    let server = pages::Server::start("1", 1).await;
    let page = url::Url::parse(&server.urls[0]).unwrap();
    let at = |host: &str, n: usize| {
        let mut url = page.clone();
        url.set_host(Some(host)).unwrap();
        url.set_query(Some(&format!("n={n}")));
        url.to_string()
    };
    let crowd: Vec<String> = (0..crowd).map(|n| at("crowd.test", n)).collect();
    let small: Vec<String> = (0..hosts * SMALL).map(|n| at(&format!("small-{}.test", n % hosts), n / hosts)).collect();
    let dir = tempfile::tempdir_in(".").unwrap();
    let mut config = Config::default();
    pages::reach(&mut config);
    config.fetch.resolve.insert("*.test".into(), "127.0.0.1".parse().unwrap());
    config.fetch.robots = false;
    config.fetch.delay = Duration::from_millis(delay as u64);
    println!(
        "{} URLs of one host, {hosts} hosts of {SMALL} URLs, {delay} ms between two requests to a host",
        crowd.len()
    );
    for (name, crowd) in [("small ones alone", &crowd[..0]), ("beside the crowd", &crowd[..])] {
        let c = crawl(Config { data: dir.path().join(name), ..config.clone() }, crowd, &small).await;
        let n = (crowd.len() + small.len()) as f64;
        println!(
            "{name}: the small ones done after {:.1} s, all after {:.1} s; {:.2} parks and {:.2} moves a record",
            c.small.as_secs_f64(),
            c.all.as_secs_f64(),
            c.parks as f64 / n,
            c.moves as f64 / n,
        );
    }
}
