//! Two stages, three processes each, and what is done to them:
//!
//! ```text
//! feed ─► A ─► relay ×3 ─► B ─► relay ×3 ─► C ─► watch        status: one event a record and stage
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::flow::{Feed, Watch};
use crate::judge::{HANGS, Ledger, STUCK, repair};
use crate::member::{Member, Recipe, hanging_offsets};
use crate::services::{Kafka, TOPICS, java, unique};
use crate::whole::{LIMIT, Random, Running, eventually};

const STAGES: [&str; 2] = ["ab", "bc"];
const MEMBERS: usize = 3;
const PARTITIONS: i32 = 12;
/// Longest from the last fault, or repair, to the last record.
const DRAIN: Duration = Duration::from_secs(240);

/// Something bad that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again at once under the same name.
    Kill,
    /// SIGKILL, and started again some seconds later: the others may have taken over.
    KillAndWait,
    /// SIGSTOP until the session, sometimes the transaction too, is over; then SIGCONT.
    Stop,
    /// The same, and another process under the same name meanwhile.
    StopWithTwin,
    /// SIGKILL of a broker, and started again after a moment.
    Broker(u32),
    /// A, B and C get more partitions.
    Grow(i32),
    /// SIGTERM and a new start of each process in turn.
    Roll,
}

/// What is done.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub protocol: &'static str,
    pub records: u64,
    /// How long the input takes; the faults are spread over it.
    pub over: Duration,
    pub faults: Vec<Fault>,
    /// Failpoints of the processes.
    pub failpoints: &'static str,
    /// What the copies are told.
    pub work: [&'static str; 4],
}

/// What it came to.
pub struct Outcome {
    /// Scenario and group protocol.
    pub name: String,
    pub faults: String,
    pub records: u64,
    pub missing: u64,
    pub twice: u64,
    /// Records that were written again after a transaction that was aborted: a `read_uncommitted` consumer sees both.
    pub hidden: u64,
    pub took: Duration,
    pub recovered: Vec<Duration>,
    /// Transactions at each SIGKILL of a process, and of the busiest process at that of a broker.
    pub phases: BTreeMap<String, usize>,
    /// Partitions on which a transaction hung.
    pub repaired: usize,
    /// What is wrong, a sentence each.
    pub wrong: Vec<String>,
}

struct Chain<'a> {
    kafka: &'a Kafka,
    prefix: String,
    partitions: i32,
    members: Vec<Member>,
    watch: Watch,
    feed: Feed,
    phases: BTreeMap<String, usize>,
    wrong: Vec<String>,
    random: &'a mut Random,
}

/// Runs a scenario on a cluster. Logs go to `dir`.
pub fn run(kafka: &Kafka, scenario: &Scenario, random: &mut Random, dir: &Path) -> Outcome {
    let started = Instant::now();
    let prefix = format!("{}.", unique("crash"));
    let bootstrap = kafka.bootstrap();
    create(kafka, &prefix);
    let watched = [topic(&prefix, "B"), topic(&prefix, "C")];
    let watch = Watch::start(bootstrap, &watched, PARTITIONS);
    let members = STAGES.iter().flat_map(|stage| (0..MEMBERS).map(move |i| (stage, i)));
    let mut members: Vec<Member> =
        members.map(|(stage, i)| recipe(kafka, scenario, &prefix, stage, i, dir).start()).collect();
    let joined = eventually(LIMIT, || {
        for m in &mut members {
            assert!(m.exited().is_none(), "{} ended: {}", m.recipe.name, m.last_words());
        }
        members.iter().all(|m| !m.holds().is_empty())
    });
    assert!(joined, "{}: not every process got partitions", scenario.name);
    let feed = Feed::start(bootstrap, &topic(&prefix, "A"), scenario.records, scenario.over);
    let (phases, wrong) = (BTreeMap::new(), vec![]);
    let mut chain = Chain { kafka, prefix, partitions: PARTITIONS, members, watch, feed, phases, wrong, random };
    let gap = scenario.over / (scenario.faults.len() as u32 + 1);
    for fault in &scenario.faults {
        let share = chain.random.within(500, 1500) as f64 / 1000.0;
        chain.nap(gap.mul_f64(share));
        chain.commit(*fault);
    }
    let repaired = chain.drain(scenario.records);
    for member in &mut chain.members {
        member.end();
    }
    let mut outcome = chain.judge(scenario);
    outcome.repaired = repaired;
    outcome.took = started.elapsed();
    outcome
}

fn topic(prefix: &str, name: &str) -> String {
    format!("{prefix}{name}")
}

fn group(prefix: &str, stage: &str) -> String {
    format!("{prefix}{stage}")
}

fn create(kafka: &Kafka, prefix: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
    let names: Vec<(String, i32)> = [("A", PARTITIONS), ("B", PARTITIONS), ("C", PARTITIONS), ("status", 4)]
        .map(|(name, partitions)| (topic(prefix, name), partitions))
        .into();
    // As many replicas as the cluster's own default: three where there are three.
    let topics: Vec<_> = names.iter().map(|(name, n)| NewTopic::new(name, *n, TopicReplication::Fixed(-1))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for created in runtime.block_on(admin.create_topics(&topics, &AdminOptions::new())).unwrap() {
        created.unwrap();
    }
    // A broker knows of a topic a moment before it leads its partitions.
    let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
    let led = |name: &str, p| reader.fetch_watermarks(name, p, Duration::from_secs(5)).is_ok();
    let all = || names.iter().all(|(name, n)| (0..*n).all(|p| led(name, p)));
    assert!(eventually(Duration::from_secs(120), all), "the topics are not to be read");
}

fn recipe(kafka: &Kafka, scenario: &Scenario, prefix: &str, stage: &str, i: usize, dir: &Path) -> Recipe {
    let (from, to) = if stage == STAGES[0] { ("A", "B") } else { ("B", "C") };
    let (from, to, group) = (topic(prefix, from), topic(prefix, to), group(prefix, stage));
    let name = format!("{stage}-{i}");
    let env = [
        ("TIDEMILL_KAFKA__BROKERS", kafka.bootstrap()),
        ("TIDEMILL_KAFKA__GROUP_PROTOCOL", scenario.protocol),
        ("TIDEMILL_PREFIX", prefix),
    ];
    let failpoints = Some(("FAILPOINTS", scenario.failpoints)).filter(|(_, points)| !points.is_empty());
    let args = ["relay", "--from", &from, "--to", &to, "--group", &group, "--status"];
    Recipe {
        args: args.iter().chain(&scenario.work).map(|a| (*a).to_owned()).collect(),
        env: env.into_iter().chain(failpoints).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        data: dir.join("data"),
        log: dir.join(format!("{}-{}-{name}.log", scenario.name, scenario.protocol)),
        name,
    }
}

impl Chain<'_> {
    /// A process that ended by itself is wrong, and started again as a supervisor would.
    fn supervise(&mut self) {
        for member in &mut self.members {
            if let Some(status) = member.exited() {
                self.wrong.push(format!("{} ended by itself ({status}): {}", member.recipe.name, member.last_words()));
                std::thread::sleep(Duration::from_millis(500));
                *member = member.recipe.start();
            }
        }
    }

    fn nap(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.supervise();
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    fn commit(&mut self, fault: Fault) {
        let i = self.random.within(0, self.members.len() as u64) as usize;
        match fault {
            Fault::Kill | Fault::KillAndWait => self.kill(i, fault == Fault::KillAndWait),
            Fault::Stop => {
                self.members[i].signal("STOP");
                let time = self.random.within(4_000, 13_000);
                self.nap(Duration::from_millis(time));
                self.members[i].signal("CONT");
            }
            Fault::StopWithTwin => self.twin(i),
            Fault::Broker(node) => self.broker(node),
            Fault::Grow(partitions) => self.grow(partitions),
            Fault::Roll => {
                for i in 0..self.members.len() {
                    self.members[i].end();
                    self.members[i] = self.members[i].recipe.start();
                    self.nap(Duration::from_millis(1_500));
                }
            }
        }
    }

    fn kill(&mut self, i: usize, wait: bool) {
        let member = &mut self.members[i];
        let out = topic(&self.prefix, if i < MEMBERS { "B" } else { "C" });
        // A copy keeps its key and so its partition number.
        let held = member.holds().iter().filter_map(|p| p.rsplit('/').next()?.parse().ok()).collect();
        if self.random.within(0, 2) == 0 {
            // A random instant seldom meets the short time between EndTxn and its answer.
            member.until_commit(Duration::from_secs(2));
            std::thread::sleep(Duration::from_micros(self.random.within(0, 20_000)));
        }
        member.kill();
        // While records come, and each partition has an equal of its own in the next topic.
        if !self.feed.done() && self.partitions == PARTITIONS {
            self.watch.killed(&out, held);
        }
        *self.phases.entry(member.phase().to_owned()).or_default() += 1;
        if wait {
            let recipe = member.recipe.clone();
            let gone = self.members.remove(i);
            drop(gone);
            let time = self.random.within(1_000, 6_000);
            self.nap(Duration::from_millis(time));
            self.members.insert(i, recipe.start());
        } else {
            *member = member.recipe.start();
        }
    }

    fn twin(&mut self, i: usize) {
        self.members[i].signal("STOP");
        let recipe = self.members[i].recipe.clone();
        // A log of its own, so that the two are told apart.
        let log = recipe.log.with_extension("twin.log");
        let twin = Recipe { log, ..recipe }.start();
        let mut first = std::mem::replace(&mut self.members[i], twin);
        let time = self.random.within(4_000, 13_000);
        self.nap(Duration::from_millis(time));
        first.signal("CONT");
        // It notices that it is fenced off, or goes on trying; either way it must do no harm.
        self.nap(Duration::from_secs(5));
        let how = match first.exited() {
            Some(status) => format!("ended ({status})"),
            None => "was still there after 5 s".to_owned(),
        };
        *self.phases.entry(format!("twin's first {how}")).or_default() += 1;
    }

    fn broker(&mut self, node: u32) {
        self.kafka.kill(node);
        for member in &self.members {
            *self.phases.entry(format!("broker: {}", member.phase())).or_default() += 1;
        }
        let time = self.random.within(500, 3_000);
        self.nap(Duration::from_millis(time));
        self.kafka.restart(node);
        if self.kafka.bootstrap().contains(',') {
            // The next one may only go when this one has all that it missed.
            let in_sync = || {
                let under =
                    ["--bootstrap-server", self.kafka.bootstrap(), "--describe", "--under-replicated-partitions"];
                Running::start(&mut java(TOPICS, &under)).ended(LIMIT).expect(0).stdout.trim().is_empty()
            };
            assert!(eventually(Duration::from_secs(120), in_sync), "node {node} does not catch up");
        }
    }

    fn grow(&mut self, partitions: i32) {
        for name in ["C", "B", "A"] {
            let (name, n) = (topic(&self.prefix, name), partitions.to_string());
            let args = ["--bootstrap-server", self.kafka.bootstrap(), "--alter", "--topic", &name, "--partitions", &n];
            Running::start(&mut java(TOPICS, &args)).ended(LIMIT).expect(0);
        }
        self.partitions = partitions;
        self.watch.grow(partitions);
    }

    /// Until all of the input is through; a transaction that hangs meanwhile is repaired. How many partitions had one.
    fn drain(&mut self, n: u64) -> usize {
        let (mut until, mut repaired) = (Instant::now() + DRAIN, 0);
        let mut tried: Option<Instant> = None;
        loop {
            let seen = [self.watch.seen(0), self.watch.seen(1)];
            if self.feed.done() && seen.iter().all(|(keys, _)| *keys as u64 >= n) {
                self.feed.join();
                return repaired;
            }
            if Instant::now() > until {
                self.wrong
                    .push(format!("not through in {DRAIN:?}: {seen:?} of {n} came (keys, records of B and of C)"));
                return repaired;
            }
            self.nap(Duration::from_millis(200));
            if self.watch.idle() > STUCK && tried.is_none_or(|t| t.elapsed() > STUCK) {
                tried = Some(Instant::now());
                let topics: Vec<(String, i32)> = [("B", self.partitions), ("C", self.partitions), ("status", 4)]
                    .map(|(name, n)| (topic(&self.prefix, name), n))
                    .into();
                println!("    stuck at {seen:?} of {n}; looking for a transaction that hangs");
                let offsets = hanging_offsets(&self.members);
                let ended = repair(self.kafka.bootstrap(), &topics, &offsets, HANGS);
                if ended > 0 {
                    (until, repaired) = (Instant::now() + DRAIN, repaired + ended);
                    if offsets.is_empty() {
                        self.wrong.push("a transaction hung and no process said so".into());
                    }
                }
            }
        }
    }

    fn judge(mut self, scenario: &Scenario) -> Outcome {
        let (bootstrap, n) = (self.kafka.bootstrap(), scenario.records);
        let should = ["key", "k%d", &n.to_string()].map(str::to_owned);
        let should: Vec<&str> = should.iter().map(String::as_str).collect();
        let (mut missing, mut twice, mut hidden) = (0, 0, 0);
        let input = Ledger::committed(bootstrap, &topic(&self.prefix, "A"), &should);
        assert_eq!((input.get("records"), input.get("missing")), (n, 0), "the input itself: {input}");
        for name in ["B", "C"] {
            let name = topic(&self.prefix, name);
            let ledger = Ledger::committed(bootstrap, &name, &should);
            missing += ledger.get("missing");
            twice += ledger.more_than_once();
            if (ledger.get("records"), ledger.get("missing"), ledger.get("foreign"), ledger.get("unreadable"))
                != (n, 0, 0, 0)
            {
                self.wrong.push(ledger.to_string());
            }
            let all = Ledger::take(bootstrap, &name, "read_uncommitted", &[]).more_than_once();
            hidden += all - ledger.more_than_once();
        }
        // An event a record and stage; a task has the same key in both.
        let status = Ledger::committed(bootstrap, &topic(&self.prefix, "status"), &[]);
        let counts = ["records", "distinct", "repeated", "most", "unreadable"].map(|what| status.get(what));
        if counts != [2 * n, n, n, 2, 0] {
            self.wrong.push(status.to_string());
        }
        Outcome {
            name: format!("{}, {}", scenario.name, scenario.protocol),
            faults: described(&scenario.faults),
            records: n,
            missing,
            twice,
            hidden,
            took: Duration::ZERO,
            recovered: self.watch.recovered(),
            phases: self.phases,
            repaired: 0,
            wrong: self.wrong,
        }
    }
}

fn described(faults: &[Fault]) -> String {
    let mut counts: Vec<(String, usize)> = vec![];
    for fault in faults {
        let what = match fault {
            Fault::Kill => "kill",
            Fault::KillAndWait => "kill, later back",
            Fault::Stop => "stop",
            Fault::StopWithTwin => "stop+twin",
            Fault::Broker(_) => "broker kill",
            Fault::Grow(_) => "growth",
            Fault::Roll => "rolling restart",
        };
        match counts.iter_mut().find(|(w, _)| w == what) {
            Some((_, n)) => *n += 1,
            None => counts.push((what.to_owned(), 1)),
        }
    }
    counts.iter().map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
}

/// A table of outcomes.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut t = format!(
        "\n{:<22} {:<48} {:>8} {:>8} {:>6} {:>8} {:>5} {:>6}  {}\n",
        "scenario", "faults", "records", "missing", "twice", "hidden", "hung", "s", "recovery p50 / max"
    );
    for o in outcomes {
        let recovery = match (o.recovered.get(o.recovered.len() / 2), o.recovered.last()) {
            (Some(p50), Some(max)) => {
                format!("{:.1} / {:.1} s ({})", p50.as_secs_f64(), max.as_secs_f64(), o.recovered.len())
            }
            _ => "-".to_owned(),
        };
        let _fits = writeln!(
            t,
            "{:<22} {:<48} {:>8} {:>8} {:>6} {:>8} {:>5} {:>6.0}  {recovery}",
            o.name,
            o.faults,
            o.records,
            o.missing,
            o.twice,
            o.hidden,
            o.repaired,
            o.took.as_secs_f64()
        );
    }
    t.push_str("\ntransactions at each kill\n");
    for o in outcomes.iter().filter(|o| !o.phases.is_empty()) {
        let phases: Vec<String> = o.phases.iter().map(|(phase, n)| format!("{n} {phase}")).collect();
        let _fits = writeln!(t, "{:<22} {}", o.name, phases.join(", "));
    }
    t
}
