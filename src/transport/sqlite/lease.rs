//! Who owns which partition: leases with an epoch, shared fairly among the members that are alive.
//!
//! A member is alive while its heartbeat is fresh and its process holds the lock on its lock file. A killed process lets
//! go of the lock at once, so its work is taken over without waiting; a stopped one (SIGSTOP, a suspended laptop) keeps
//! the lock and loses its leases after [`TTL`]. Taking a lease raises its epoch, which fences whatever the former owner
//! may still try to commit.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, params};
use tracing::warn;

use super::writer::Writer;
use super::{Wake, schema};
use crate::file_lock::FileLock;
use crate::record::now_ms;
use crate::transport::{Result, TransportError};

/// Time after which a member that gives no sign is taken for dead.
pub const TTL: Duration = Duration::from_secs(15);
/// Time between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How often commits of other processes are looked for.
const WATCH: Duration = Duration::from_millis(50);

/// This process among those that share the file: a lock file, and a thread that gives signs of life.
pub struct Process {
    /// Held locked as long as the process lives.
    _lock: FileLock,
    lock_path: PathBuf,
    members: Arc<Mutex<HashSet<Arc<str>>>>,
}

impl Process {
    /// Locks a file of its own beside the log and starts the watch thread.
    pub fn start(path: &Path, writer: Writer, wake: Arc<Wake>) -> Result<Process> {
        let lock_path = path.with_extension(format!("{}.lock", uuid::Uuid::now_v7().simple()));
        let fail = |e: std::io::Error| {
            TransportError::Fatal(format!("cannot lock {}: {e}; check the folder's permissions", lock_path.display()))
        };
        let lock = File::create(&lock_path).and_then(FileLock::wait).map_err(fail)?;
        let members = Arc::new(Mutex::new(HashSet::new()));
        let watched = Arc::downgrade(&members);
        let reader = schema::open_reader(path)?;
        std::thread::Builder::new()
            .name("log-watch".into())
            .spawn(move || watch(&reader, &watched, &writer, &wake))
            .map_err(|e| TransportError::Fatal(format!("cannot start the log's watch thread: {e}")))?;
        Ok(Process { _lock: lock, lock_path, members })
    }

    /// Name of the lock file beside the log, as `members.lock_file` has it: processes may have come to the folder by
    /// different paths.
    pub fn lock_file(&self) -> String {
        self.lock_path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Gives signs of life for a member from now on.
    pub fn add(&self, member: &Arc<str>) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(member));
    }

    /// And no longer.
    pub fn remove(&self, member: &str) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).remove(member);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_file(&self.lock_path);
    }
}

fn watch(reader: &Connection, members: &Weak<Mutex<HashSet<Arc<str>>>>, writer: &Writer, wake: &Wake) {
    let mut version = 0i64;
    let mut beat = Instant::now();
    while let Some(members) = members.upgrade() {
        if let Ok(now) = reader.pragma_query_value(None, "data_version", |r| r.get(0))
            && now != version
        {
            version = now;
            wake.bump();
        }
        if beat.elapsed() >= HEARTBEAT {
            beat = Instant::now();
            let names: Vec<Arc<str>> = members.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
            if !names.is_empty() {
                let beaten = writer.call_blocking(move |tx| {
                    for m in &names {
                        tx.prepare_cached("UPDATE members SET heartbeat = ? WHERE member = ?")?
                            .execute(params![now_ms(), &**m])?;
                    }
                    Ok(())
                });
                if let Err(e) = beaten {
                    warn!(error = %e, "no sign of life could be written");
                }
            }
        }
        drop(members);
        #[allow(clippy::disallowed_methods, reason = "a thread of its own")]
        std::thread::sleep(WATCH);
    }
}

/// What a member must do to have its fair share.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Partitions held under another epoch or by somebody else: lost.
    pub lost: Vec<i32>,
    /// Held beyond the fair share: to be given up.
    pub surplus: Vec<i32>,
    /// Free, or held by the dead: to be taken.
    pub free: Vec<i32>,
}

/// One row of `leases`.
struct Lease {
    partition: i32,
    member: Option<String>,
    epoch: i64,
}

/// Compares what `member` believes to hold (partition, epoch) with the tables. Read-only.
pub fn plan(c: &Connection, group: &str, member: &str, partitions: i32, held: &[(i32, i64)]) -> rusqlite::Result<Plan> {
    let alive = alive(c, group)?;
    let leases = c
        .prepare_cached("SELECT partition, member, epoch FROM leases WHERE group_name = ?")?
        .query_map([group], |r| Ok(Lease { partition: r.get(0)?, member: r.get(1)?, epoch: r.get(2)? }))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mine = |l: &&Lease| l.member.as_deref() == Some(member);
    let mut plan = Plan::default();
    for (partition, epoch) in held {
        if !leases.iter().filter(mine).any(|l| l.partition == *partition && l.epoch == *epoch) {
            plan.lost.push(*partition);
        }
    }
    let Some(rank) = alive.iter().position(|m| m == member) else {
        return Ok(plan);
    };
    let (count, rank) = (alive.len() as i32, rank as i32);
    let share = partitions / count + i32::from(rank < partitions % count);
    let kept: Vec<i32> = held.iter().map(|(p, _)| *p).filter(|p| !plan.lost.contains(p)).collect();
    if kept.len() as i32 > share {
        plan.surplus = kept[share as usize..].to_vec();
    } else {
        let taken: HashSet<i32> = leases
            .iter()
            .filter(|l| l.member.as_ref().is_some_and(|m| alive.contains(m)))
            .filter(|l| l.member.as_deref() != Some(member) || kept.contains(&l.partition))
            .map(|l| l.partition)
            .collect();
        let wanted = share as usize - kept.len();
        plan.free = (0..partitions).filter(|p| !taken.contains(p)).take(wanted).collect();
    }
    Ok(plan)
}

/// Members of the group that are alive, in order of their names.
fn alive(c: &Connection, group: &str) -> rusqlite::Result<Vec<String>> {
    let fresh = now_ms() - i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
    let rows = c
        .prepare_cached(
            "SELECT member, lock_file FROM members WHERE group_name = ? AND heartbeat >= ? ORDER BY member",
        )?
        .query_map(params![group, fresh], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    Ok(rows.into_iter().filter(|(_, lock)| held(&beside(c, lock))).map(|(m, _)| m).collect())
}

/// Path of a lock file: beside the log, whose full path SQLite knows.
fn beside(c: &Connection, lock: &str) -> PathBuf {
    Path::new(c.path().unwrap_or_default()).with_file_name(lock)
}

/// Whether some process holds the lock.
fn held(lock: &Path) -> bool {
    match File::open(lock) {
        Ok(f) => f.try_lock_shared().is_err(),
        Err(_) => false,
    }
}

/// Takes leases that are still free, each under a new epoch. Runs in the writer, so nobody else takes them meanwhile.
pub fn take(tx: &Transaction<'_>, group: &str, member: &str, wanted: &[i32]) -> rusqlite::Result<Vec<(i32, i64)>> {
    let alive = alive(tx, group)?;
    let mut taken = vec![];
    for &partition in wanted {
        let owner: Option<Option<String>> = {
            use rusqlite::OptionalExtension;
            tx.prepare_cached("SELECT member FROM leases WHERE group_name = ? AND partition = ?")?
                .query_row(params![group, partition], |r| r.get(0))
                .optional()?
        };
        if owner.flatten().is_some_and(|o| o != member && alive.contains(&o)) {
            continue;
        }
        let epoch: i64 = tx
            .prepare_cached(
                "INSERT INTO leases(group_name, partition, member, epoch) VALUES (?, ?, ?, 1)
                 ON CONFLICT DO UPDATE SET member = excluded.member, epoch = epoch + 1 RETURNING epoch",
            )?
            .query_row(params![group, partition, member], |r| r.get(0))?;
        taken.push((partition, epoch));
    }
    Ok(taken)
}

/// Gives leases (partition, epoch) back; one that has another epoch by now is another lease.
pub fn release(tx: &Transaction<'_>, group: &str, member: &str, leases: &[(i32, i64)]) -> rusqlite::Result<()> {
    for (partition, epoch) in leases {
        tx.prepare_cached(
            "UPDATE leases SET member = NULL WHERE group_name = ? AND partition = ? AND member = ? AND epoch = ?",
        )?
        .execute(params![group, partition, member, epoch])?;
    }
    Ok(())
}

/// Enters a member, and clears away members whose process is gone.
pub fn enter(tx: &Transaction<'_>, group: &str, member: &str, lock_file: &str) -> rusqlite::Result<()> {
    let rows = tx
        .prepare_cached("SELECT member, lock_file FROM members")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    for (dead, lock) in rows {
        let lock = beside(tx, &lock);
        if !held(&lock) {
            tx.execute("DELETE FROM members WHERE member = ?", [dead])?;
            let _already_gone = std::fs::remove_file(lock);
        }
    }
    tx.execute(
        "INSERT OR REPLACE INTO members(member, group_name, lock_file, heartbeat) VALUES (?, ?, ?, ?)",
        params![member, group, lock_file, now_ms()],
    )?;
    Ok(())
}

/// Takes a member out of its group.
pub fn leave(tx: &Transaction<'_>, group: &str, member: &str) -> rusqlite::Result<()> {
    tx.execute("UPDATE leases SET member = NULL WHERE group_name = ? AND member = ?", [group, member])?;
    tx.execute("DELETE FROM members WHERE member = ?", [member])?;
    Ok(())
}
