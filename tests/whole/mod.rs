//! What the tests of the whole share: the real binary under a time limit, a log that is read back, a small web server
//! that a test can change its mind about, and a generator that a printed seed repeats.

// Each test file is a crate of its own and uses some of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "these helpers wait on processes, in threads of their own")]

pub mod ledger;
pub mod server;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidemill::record::codec;
use tidemill::record::schemas::Schema;
use tidemill::topology::Names;
use tidemill::transport::tail::{From, Tail};
use tidemill::transport::{Incoming, Transport};

/// Longest time of a command that should end by itself.
pub const LIMIT: Duration = Duration::from_secs(240);

/// A command line of the binary, in a data folder of its own, deaf to the environment's settings.
pub struct Tidemill {
    pub dir: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// None: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Tidemill {
    pub fn new(dir: impl Into<PathBuf>) -> Tidemill {
        Tidemill { dir: dir.into() }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The command, to be started in `dir`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        clean(&mut c).current_dir(&self.dir).arg("--data").arg(self.data()).args(args);
        c
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, b"")
    }

    /// Runs it to its end with this on stdin.
    pub fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ended {
        let mut running = Running::start(self.command(args).stdin(Stdio::piped()));
        // A command that does not read it closes the pipe.
        let _closed = running.child.stdin.take().unwrap().write_all(stdin);
        running.ended(LIMIT)
    }

    /// Runs it and takes its stdout as one JSON value.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let ended = self.run(args);
        ended.json()
    }

    /// Starts it.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }
}

/// Takes this process's settings of tidemill out of a command's environment.
pub fn clean(c: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEMILL_")) {
        c.env_remove(name);
    }
    c
}

impl Ended {
    /// All of stdout is one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is not JSON ({e}): {self:?}"))
    }

    /// It ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// A process; killed when dropped.
pub struct Running {
    pub child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts"))
    }

    fn of(mut child: Child) -> Running {
        // Read while it runs: a full pipe would stop it.
        fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
            std::thread::spawn(move || {
                let mut all = vec![];
                let _cut = from.read_to_end(&mut all);
                all
            })
        }
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        Running { child, stdout, stderr }
    }

    /// Starts it with its stdout, its stderr or both closed at the reader's end.
    pub fn unread(command: &mut Command, which: &str) -> Running {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let end = |mine: bool| if mine { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::piped() };
        let (out, err) = (end(which != "stderr"), end(which != "stdout"));
        Running::of(command.stdout(out).stderr(err).spawn().expect("the binary starts"))
    }

    /// Its status, if it has ended.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal by its name: TERM, INT, KILL.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill is there").success() || name == "KILL");
    }

    /// Waits for its end, at most so long.
    #[track_caller]
    pub fn ended(mut self, limit: Duration) -> Ended {
        let until = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.poll() {
                break Some(status);
            }
            if Instant::now() > until {
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if status.is_none() {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
        }
        let text = |t: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8_lossy(&t.map(|t| t.join().unwrap()).unwrap_or_default()).into_owned()
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let Some(status) = status else {
            panic!("not done within {limit:?}\nstdout: {stdout}\nstderr: {stderr}");
        };
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Runs any command to its end with this on stdin; its stdout.
#[track_caller]
pub fn output(command: &mut Command, stdin: &str) -> String {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    // A command that does not read it closes the pipe.
    let _closed = running.child.stdin.take().unwrap().write_all(stdin.as_bytes());
    running.ended(LIMIT).expect(0).stdout
}

/// Waits until `f` says so; false when it did not in time.
pub fn eventually(limit: Duration, mut f: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if f() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All records of a topic (name without prefix).
pub async fn records(transport: &dyn Transport, names: &Names, topic: &str) -> Vec<Incoming> {
    let mut tail = Tail::new(transport, &names.full(topic), From::Start).await.unwrap();
    let mut all = vec![];
    while let Some(some) = tail.poll(transport).await.unwrap() {
        all.extend(some);
    }
    all
}

/// All records of a topic, decoded.
pub async fn decoded<T: Schema>(transport: &dyn Transport, names: &Names, topic: &str) -> Vec<T> {
    let all = records(transport, names, topic).await;
    all.iter().map(|r| codec::decode(&r.value).unwrap()).collect()
}

/// A log in a data folder, read with the library.
pub fn log<T>(data: &Path, f: impl AsyncFnOnce(&dyn Transport, &Names) -> T) -> T {
    let config = tidemill::config::Config { data: data.to_owned(), ..Default::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (transport, names) = tidemill::pipeline::open_log(&config).await.unwrap();
        f(&*transport, &names).await
    })
}

/// How often each value comes.
pub fn count<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for v in values {
        *counts.entry(v).or_default() += 1;
    }
    counts
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high` - 1.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }
}
