//! One process of the real binary: started under a member name, its log in a file, killed, suspended, started again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::whole::{clean, eventually};

/// Sessions and transactions of a test are short; the broker's share is in `tests/services/kafka`.
pub const SETTINGS: [(&str, &str); 2] =
    [("TIDEMILL_KAFKA__SESSION_TIMEOUT", "3s"), ("TIDEMILL_KAFKA__TRANSACTION_TIMEOUT", "10s")];
/// Longest a member takes to end in order: its grace time, its last commit, leaving the group.
const END: Duration = Duration::from_secs(60);

/// How a process is started.
#[derive(Clone)]
pub struct Recipe {
    pub name: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub data: PathBuf,
    pub log: PathBuf,
}

impl Recipe {
    /// The binary's command line, deaf to the environment's settings.
    pub fn command(&self) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        clean(&mut c).envs(SETTINGS).envs(self.env.iter().map(|(k, v)| (k, v))).args(&self.args);
        c.env("TIDEMILL_KAFKA__MEMBER", &self.name).arg("--data").arg(&self.data);
        c.args(["--log", "warn,tidemill=info,tidemill::transport::kafka=debug", "--log-format", "json"]);
        c
    }

    /// Starts it; what it says is added to its log.
    pub fn start(&self) -> Member {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let from = log.metadata().unwrap().len();
        let child = self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Member { recipe: self.clone(), child, from }
    }
}

/// A process; killed when dropped.
pub struct Member {
    pub recipe: Recipe,
    pub child: Child,
    /// Where its share of the log begins.
    from: u64,
}

impl Member {
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// SIGTERM once it is at work (one that only just starts may not listen yet), and its end in order.
    #[track_caller]
    pub fn end(&mut self) {
        let at_work = eventually(END, || !self.holds().is_empty());
        assert!(at_work, "{} has no partitions; its log is {}", self.recipe.name, self.log().display());
        self.signal("TERM");
        let mut status = None;
        let ended = eventually(END, || {
            status = self.exited();
            status.is_some()
        });
        assert!(
            ended,
            "{} did not end within {END:?} of SIGTERM; its log is {}",
            self.recipe.name,
            self.log().display()
        );
        let status = status.unwrap();
        let log = self.log().display();
        assert_eq!(status.code(), Some(0), "{} did not end in order ({status}); its log is {log}", self.recipe.name);
    }

    pub fn log(&self) -> &Path {
        &self.recipe.log
    }

    /// Its own lines of the log that are JSON.
    pub fn lines(&self) -> Vec<Value> {
        lines(self.log(), self.from)
    }

    /// The last line it said, be it no JSON.
    pub fn last_words(&self) -> String {
        let text = text(self.log(), self.from);
        let said = text.lines().rev().find(|l| !l.contains("\"level\":\"DEBUG\"") && !l.contains("\"level\":\"INFO\""));
        said.unwrap_or_default().to_owned()
    }

    /// The partitions it holds, as far as its log says.
    pub fn holds(&self) -> BTreeSet<String> {
        let mut held = BTreeSet::new();
        for line in self.lines() {
            let named = line["partitions"].as_str().unwrap_or_default().split_whitespace().map(str::to_owned);
            match line["message"].as_str() {
                Some("the group assigns") => held.extend(named),
                Some("the group revokes") => held.retain(|p| !named.clone().any(|n| n == *p)),
                _ => {}
            }
        }
        held
    }

    /// Where its transactions stand: the further one of the two producers' last words on it.
    pub fn phase(&self) -> &'static str {
        let mut last: BTreeMap<u64, String> = BTreeMap::new();
        for line in self.lines() {
            if let (Some(producer), Some(phase)) = (line["producer"].as_u64(), line["phase"].as_str()) {
                last.insert(producer, phase.to_owned());
            }
        }
        let furthest = ["commit", "offsets", "produced"].into_iter().find(|p| last.values().any(|l| l == p));
        furthest.unwrap_or(if last.is_empty() { "before its first" } else { "between two" })
    }

    /// Until it is about to end a transaction, or for so long.
    pub fn until_commit(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut from = std::fs::metadata(self.log()).unwrap().len();
        while Instant::now() < until {
            let new = text(self.log(), from);
            if new.contains("\"phase\":\"commit\"") {
                return;
            }
            // The last line may be half there.
            from += new.rfind('\n').map_or(0, |i| i + 1) as u64;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All of a log's lines that are JSON.
pub fn lines(log: &Path, from: u64) -> Vec<Value> {
    text(log, from).lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

fn text(log: &Path, from: u64) -> String {
    let mut all = vec![];
    let mut file = File::open(log).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.read_to_end(&mut all).unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// The partitions of `__consumer_offsets` that a process says a transaction hangs on.
pub fn hanging_offsets(members: &[Member]) -> BTreeSet<i32> {
    let named = |text: &str| text.split("__consumer_offsets --partition ").nth(1)?.split('`').next()?.parse().ok();
    let said = members.iter().flat_map(|m| lines(m.log(), 0));
    said.filter_map(|l| named(l["message"].as_str()?)).collect()
}
