//! A replay of dead letters by the real binary, on a real Kafka and on the embedded log, is killed at each of its steps, one after the other, and
//! started again: each letter is put back once, with its marker and its status event.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tidemill::config::Kafka as Config;
use tidemill::record::headers::{REPLAY, REPLAYS};
use tidemill::record::{Headers, OutcomeKind, StatusEvent, codec};
use tidemill::topology::{self, Names, Topic};
use tidemill::transport::kafka::Kafka as Log;
use tidemill::transport::sqlite::Sqlite;
use tidemill::transport::tail::{From, Tail};
use tidemill::transport::{Incoming, Outgoing, Transport};

use crate::services::{Kafka, unique};
use crate::whole::{Ended, LIMIT, Running, Tidemill, clean};

const LETTERS: usize = 1_500;

struct Letters {
    folder: tempfile::TempDir,
    /// Of the group on Kafka; None: the embedded log.
    protocol: Option<&'static str>,
    names: Names,
    runtime: tokio::runtime::Runtime,
    log: Arc<dyn Transport>,
}

impl Letters {
    fn new(protocol: Option<&'static str>) -> Letters {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let log: Arc<dyn Transport> = match protocol {
            Some(_) => {
                let config = Config { brokers: Kafka::shared().to_owned(), ..Config::default() };
                Arc::new(Log::open(&config, folder.path()).unwrap())
            }
            None => {
                let data = Tidemill::new(folder.path()).data();
                std::fs::create_dir_all(&data).unwrap();
                Arc::new(Sqlite::open(&data.join("log.db")).unwrap())
            }
        };
        let names = Names::new(format!("{}.", unique("replay")));
        let topics: Vec<_> =
            topology::topics().into_iter().map(|t| Topic { name: names.full(&t.name), partitions: 3, ..t }).collect();
        let letter = |n: usize| Outgoing {
            tombstone: false,
            topic: names.full("fetch.dlq").into(),
            partition: Some(i32::try_from(n % 3).unwrap()),
            key: Some(format!("k{n}").into()),
            value: format!("http://{n}.example/").into(),
            headers: Headers::default(),
        };
        runtime.block_on(async {
            log.create_topics(&topics).await.unwrap();
            log.append((0..LETTERS).map(letter).collect()).await.unwrap();
        });
        Letters { folder, protocol, names, runtime, log }
    }

    fn replay(&self, flags: &[&str], failpoints: &str) -> Ended {
        self.dlq(&[&["replay", "--all"], flags].concat(), failpoints)
    }

    fn dlq(&self, args: &[&str], failpoints: &str) -> Ended {
        let tidemill = Tidemill::new(self.folder.path());
        let mut c = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        clean(&mut c).current_dir(&tidemill.dir).arg("--data").arg(tidemill.data());
        if let Some(protocol) = self.protocol {
            c.args(["--brokers", Kafka::shared()]);
            c.env("TIDEMILL_KAFKA__GROUP_PROTOCOL", protocol).env("TIDEMILL_KAFKA__SESSION_TIMEOUT", "3s");
        }
        c.args(["--log", "warn", "dlq"]).args(args).arg("--json");
        c.env("TIDEMILL_PREFIX", self.names.full("")).env("TIDEMILL_KAFKA__MEMBER", "m");
        if !failpoints.is_empty() {
            c.env("FAILPOINTS", failpoints);
        }
        Running::start(&mut c).ended(LIMIT)
    }

    fn read(&self, topic: &str) -> Vec<Incoming> {
        self.runtime.block_on(async {
            let mut tail = Tail::new(&*self.log, &self.names.full(topic), From::Start).await.unwrap();
            let mut all = vec![];
            while let Some(batch) = tail.poll(&*self.log).await.unwrap() {
                all.extend(batch);
            }
            all
        })
    }

    /// What was put back, by key; and it is all of it once, with a marker and an event each.
    fn is_exact(&self) -> BTreeMap<String, Incoming> {
        // A broker answers a commit a moment before readers see it.
        let seen = crate::whole::eventually(Duration::from_secs(30), || self.read("fetch.retry.1").len() >= LETTERS);
        let back = self.read("fetch.retry.1");
        assert!(seen, "{} of {LETTERS} letters were put back", back.len());
        let text = |r: &Incoming| String::from_utf8(r.key.as_ref().unwrap().to_vec()).unwrap();
        let by_key: BTreeMap<_, _> = back.iter().map(|r| (text(r), r.clone())).collect();
        assert_eq!((back.len(), by_key.len()), (LETTERS, LETTERS), "each once");
        let markers = self.read(topology::REPLAYS);
        let ids: std::collections::BTreeSet<_> = markers.iter().map(|m| m.key.clone()).collect();
        assert_eq!((markers.len(), ids.len()), (LETTERS, LETTERS), "a marker each");
        let events: Vec<StatusEvent> =
            self.read(topology::STATUS).iter().map(|r| codec::decode(&r.value).unwrap()).collect();
        assert_eq!(events.iter().filter(|e| e.outcome == OutcomeKind::Replayed).count(), LETTERS, "an event each");
        by_key
    }
}

fn is_killed_at(protocol: Option<&'static str>, points: &[(&str, usize)]) {
    let letters = Letters::new(protocol);
    for (point, n) in points {
        // In small steps, so that all deaths find letters to put back.
        let ended = letters.replay(&["--rate", "30"], &format!("{point}={}*off->panic", n - 1));
        assert_eq!(ended.code, None, "{point} was not reached {n} times: {} {}", ended.stdout, ended.stderr);
        let (back, markers) = (letters.read("fetch.retry.1").len(), letters.read(topology::REPLAYS).len());
        println!("{point} {n}: {back} are back, {markers} markers");
        assert!(back < LETTERS, "nothing is left to be put to the test");
    }
    let report = letters.replay(&[], "").expect(0).json();
    let earlier = report["already"].as_u64().unwrap();
    assert_eq!(earlier + report["replayed"].as_u64().unwrap(), LETTERS as u64, "{report}");
    assert!(earlier > 0, "no killed run had committed anything: {report}");
    let run = report["run"].as_str().unwrap();
    let back = letters.is_exact();
    let of_run = back.values().filter(|r| r.headers.str(REPLAY) == Some(run)).count();
    assert_eq!(Some(of_run as u64), report["replayed"].as_u64());
    assert!(back.values().all(|r| r.headers.int(REPLAYS) == Some(1)));
    let nothing = letters.replay(&[], "").expect(0).json();
    assert_eq!((&nothing["replayed"], &nothing["already"]), (&0.into(), &LETTERS.into()));
}

const OWN_STEPS: [(&str, usize); 5] = [
    ("dlq.replay.locked", 1),
    ("dlq.replay.before", 1),
    ("dlq.replay.before", 2),
    ("dlq.replay.after", 1),
    ("dlq.replay.after", 2),
];

#[test]
fn a_replay_killed_at_each_of_its_own_steps_puts_each_letter_back_once() {
    is_killed_at(Some("classic"), &OWN_STEPS);
}

#[test]
fn a_replay_on_the_embedded_log_killed_at_each_of_its_steps_puts_each_letter_back_once() {
    is_killed_at(None, &OWN_STEPS);
}

/// What was marked stays marked, and the next purge does the rest.
#[test]
fn a_purge_killed_at_each_of_its_steps_goes_on() {
    let letters = Letters::new(None);
    let purge = |failpoints: &str| letters.dlq(&["purge", "--all", "--yes"], failpoints);
    for (point, marked) in [("dlq.replay.before", 0), ("dlq.replay.after", 500), ("dlq.replay.before", 500)] {
        let ended = purge(&format!("{point}=panic"));
        assert_eq!(ended.code, None, "{ended:?}");
        assert_eq!(letters.read(topology::REPLAYS).len(), marked, "{point}");
    }
    let done = purge("").expect(0).json();
    assert_eq!((&done["letters"]["fetch.dlq"], &done["freed"]), (&1_000.into(), &LETTERS.into()), "{done}");
    assert_eq!(letters.read("fetch.dlq").len(), 0);
    assert_eq!(letters.replay(&[], "").expect(0).json()["matched"], 0);
}

#[test]
fn a_replay_killed_at_each_step_of_a_transaction_puts_each_letter_back_once() {
    is_killed_at(
        Some("classic"),
        &[
            ("kafka.init.after", 1),
            ("kafka.sent.Produce", 2),
            ("kafka.sent.AddPartitionsToTxn", 2),
            ("kafka.sent.AddOffsetsToTxn", 1),
            ("kafka.offsets.before", 2),
            ("kafka.sent.TxnOffsetCommit", 2),
            ("kafka.offsets.after", 2),
            ("kafka.commit.before", 2),
            ("kafka.sent.EndTxn", 2),
            ("kafka.commit.after", 2),
        ],
    );
    is_killed_at(Some("consumer"), &[("kafka.offsets.after", 2), ("kafka.sent.EndTxn", 1)]);
}

/// A step whose outcome nobody can tell is looked up, and made again only if it was not written.
#[test]
fn a_replay_that_is_not_told_what_became_of_a_step_looks_it_up() {
    let letters = Letters::new(Some("classic"));
    let points = "kafka.commit.after=1*off->1*return(fatal)->off;kafka.commit.before=2*off->1*return(fatal)->off";
    let ended = letters.replay(&[], points).expect(0);
    assert_eq!(ended.stderr.matches("a step of the run is made again").count(), 2, "{}", ended.stderr);
    let report = ended.json();
    assert_eq!((&report["replayed"], &report["already"]), (&LETTERS.into(), &0.into()), "{report}");
    letters.is_exact();
}
