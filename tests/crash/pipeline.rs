//! The whole pipeline on Kafka: three processes that run all stages, killed in turn; in the long form
//! the broker among them.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tidemill::demo::{Options, Site};

use crate::judge::{HANGS, Ledger, STUCK, repair};
use crate::member::{Member, Recipe, SETTINGS, hanging_offsets};
use crate::services::Kafka;
use crate::whole::{Random, Tidemill, clean, eventually};
use crate::{Folder, alone, seed};

const PROCESSES: usize = 3;
/// Hosts the URLs are spread over.
const HOSTS: usize = 40;

struct Bench {
    kafka: Kafka,
    dir: Folder,
    _site: Site,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(n: usize) -> Bench {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let site = {
            let _inside = runtime.enter();
            Site::start(Options::default()).unwrap()
        };
        let dir = Folder::new();
        std::fs::write(dir.path().join("urls.txt"), site.many(n, HOSTS).join("\n")).unwrap();
        Bench { kafka: Kafka::start(1, &[]), dir, _site: site, _runtime: runtime }
    }

    fn process(&self, i: usize) -> Recipe {
        let args = "run --delay 0 --allow-address 127.0.0.1 --resolve *.demo.test=127.0.0.1 --listen 127.0.0.1:0";
        Recipe {
            name: format!("worker-{i}"),
            args: args.split(' ').map(str::to_owned).collect(),
            env: vec![("TIDEMILL_KAFKA__BROKERS".into(), self.kafka.bootstrap().into())],
            data: self.dir.path().join("data"),
            log: self.dir.path().join(format!("worker-{i}.log")),
        }
    }

    /// A command that ends, its answer in JSON; else what it says is wrong.
    fn ask(&self, args: &[&str]) -> Result<serde_json::Value, String> {
        let mut c = Tidemill::new(self.dir.path()).command(&[&["--brokers", self.kafka.bootstrap()], args].concat());
        let done = clean(&mut c).envs(SETTINGS).output().unwrap();
        serde_json::from_slice(&done.stdout).map_err(|_| String::from_utf8_lossy(&done.stderr).into_owned())
    }

    /// URLs that are indexed, as the index itself has them.
    fn indexed(&self) -> usize {
        let found = rusqlite::Connection::open(self.dir.path().join("data/index.db"))
            .and_then(|c| c.query_row("SELECT count(*) FROM documents", [], |r| r.get::<_, i64>(0)));
        usize::try_from(found.unwrap_or(0)).unwrap()
    }
}

/// The topics there are, and how many partitions each has.
fn topics(bootstrap: &str) -> Vec<(String, i32)> {
    let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let all = reader.fetch_metadata(None, Duration::from_secs(10)).unwrap();
    let ours = all.topics().iter().filter(|t| t.name().starts_with("tidemill."));
    ours.map(|t| (t.name().to_owned(), i32::try_from(t.partitions().len()).unwrap())).collect()
}

#[test]
fn pipeline_finishes_each_url_once_whatever_is_killed() {
    let _alone = alone();
    let mut random = Random(seed());
    let long = std::env::var("TIDEMILL_CRASH").is_ok();
    let (n, kills) = match long {
        true => (4_000, 12),
        false => (1_000, 4),
    };
    let bench = Bench::new(n);
    let mut workers: Vec<Member> = (0..PROCESSES).map(|i| bench.process(i).start()).collect();
    let job = bench.ask(&["submit", "--file", "urls.txt", "--json"]).expect("the job is submitted");
    assert_eq!(job["submitted"], n, "{job}");
    let mut wrong = vec![];
    let mut supervise = |workers: &mut Vec<Member>| {
        for w in workers.iter_mut() {
            if let Some(status) = w.exited() {
                wrong.push(format!("{} ended by itself ({status}): {}", w.recipe.name, w.last_words()));
                *w = w.recipe.start();
            }
        }
    };
    for kill in 0..kills {
        let target = n * kill / (kills + 1);
        eventually(Duration::from_secs(120), || {
            supervise(&mut workers);
            bench.indexed() > target
        });
        std::thread::sleep(Duration::from_millis(random.within(0, 400)));
        if long && kill == kills / 2 {
            bench.kafka.kill(1);
            std::thread::sleep(Duration::from_millis(random.within(500, 2_000)));
            bench.kafka.restart(1);
        }
        let w = &mut workers[random.within(0, PROCESSES as u64) as usize];
        w.kill();
        println!("killed {} at {} of {n}; its transactions: {}", w.recipe.name, bench.indexed(), w.phase());
        *w = w.recipe.start();
    }
    let counts = |job: &serde_json::Value| {
        let p = &job["jobs"][0]["progress"];
        (p["finished"].as_u64().unwrap_or(0), p["indexed"].as_u64().unwrap_or(0))
    };
    let mut last = serde_json::Value::Null;
    let mut moved = (0, Instant::now());
    let finished = eventually(Duration::from_secs(360), || {
        supervise(&mut workers);
        std::thread::sleep(Duration::from_millis(500));
        last = bench.ask(&["status", "--json"]).unwrap_or_default();
        let so_far = counts(&last).0;
        if so_far > moved.0 {
            moved = (so_far, Instant::now());
        } else if long && moved.1.elapsed() > STUCK {
            println!("stuck at {so_far} of {n}; looking for a transaction that hangs since the broker was killed");
            repair(bench.kafka.bootstrap(), &topics(bench.kafka.bootstrap()), &hanging_offsets(&workers), HANGS);
            moved.1 = Instant::now();
        }
        so_far >= n as u64
    });
    for w in &mut workers {
        w.end();
    }
    let bootstrap = bench.kafka.bootstrap();
    let enriched = Ledger::committed(bootstrap, "tidemill.enriched", &["header:tidemill.task"]);
    println!("enriched: {enriched}\nindexed: {}\nstatus: {last}", bench.indexed());
    assert!(wrong.is_empty() && finished, "finished: {finished}\n{}", wrong.join("\n"));
    assert_eq!(counts(&last), (n as u64, n as u64), "{last}");
    assert_eq!(last["dead_letters"], 0);
    let found = ["records", "distinct", "without", "repeated", "unreadable"].map(|what| enriched.get(what));
    assert_eq!(found, [n as u64, n as u64, 0, 0, 0], "{enriched}");
    assert_eq!(bench.indexed(), n);
}
