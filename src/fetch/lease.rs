//! Who may start requests to a host: a lease a host in the store, so that a member that takes it over (a rebalance, a crash)
//! starts no earlier than the delay after the last request of the one before it.
//!
//! A member takes the lease for [`AHEAD`] and the host's delay, and starts requests within the first part of that only. So
//! a host that is asked many times a second costs a write in some seconds. A host without a delay needs no lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::store::{Claimed, Store, StoreError};

/// How long after it was taken requests may start.
const AHEAD: u64 = 5_000;
/// A lease that is about to be used must be good for so long: a record waits in memory for a moment, twice at most.
const NEEDED: u64 = 2_500;
/// Another member's lease is asked for again after this, or after the delay if that is shorter.
const AGAIN: u64 = 1_000;
/// Hosts remembered.
const HOSTS: usize = 100_000;

/// Why a host may not be visited.
#[derive(Debug)]
pub enum Denied {
    /// Another member has it; ask again at this time, Unix ms.
    Until(u64),
    Store(StoreError),
}

#[derive(Debug, Clone, Copy)]
enum Known {
    /// Ours: requests may start until then.
    Ours(u64),
    /// Another's; not to be asked for before.
    Theirs(u64),
}

/// The leases of this process.
pub struct Leases {
    store: Arc<dyn Store>,
    namespace: String,
    /// This process, as no other was or will be.
    owner: Bytes,
    hosts: Mutex<HashMap<String, Known>>,
}

impl Leases {
    /// None taken. Members of one pipeline, told by its prefix, keep away from each other.
    pub fn new(store: Arc<dyn Store>, prefix: &str) -> Leases {
        let owner = Bytes::from(uuid::Uuid::now_v7().to_string());
        Leases { store, namespace: format!("pace:{prefix}"), owner, hosts: Mutex::default() }
    }

    /// Makes sure that requests to a host may start at `now` (Unix ms) and for a moment after.
    pub async fn take(&self, host: &str, delay: Duration, now: u64) -> Result<(), Denied> {
        if delay.is_zero() {
            return Ok(());
        }
        match self.hosts().get(host) {
            Some(Known::Ours(until)) if now.saturating_add(NEEDED) <= *until => return Ok(()),
            Some(Known::Theirs(until)) if now < *until => return Err(Denied::Until(*until)),
            _ => {}
        }
        let lasts = Duration::from_millis(AHEAD) + delay;
        let claimed = match unshared() {
            true => Claimed::Mine,
            false => self.store.claim(&self.namespace, host, self.owner.clone(), lasts).await.map_err(Denied::Store)?,
        };
        let known = match claimed {
            // From before it was asked for, so never longer than it was given.
            Claimed::Mine => Known::Ours(now.saturating_add(AHEAD)),
            Claimed::Theirs(_) => {
                let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                Known::Theirs(now.saturating_add(delay.clamp(1, AGAIN)))
            }
        };
        let mut hosts = self.hosts();
        if hosts.len() >= HOSTS {
            hosts.retain(|_, known| matches!(known, Known::Ours(until) | Known::Theirs(until) if *until > now));
        }
        hosts.insert(host.to_owned(), known);
        match known {
            Known::Ours(_) => Ok(()),
            Known::Theirs(until) => Err(Denied::Until(until)),
        }
    }

    /// Whether a request may start at this very time.
    pub fn holds(&self, host: &str, delay: Duration, now: u64) -> bool {
        delay.is_zero() || matches!(self.hosts().get(host), Some(Known::Ours(until)) if now <= *until)
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // An entry is written whole.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a test shows what comes of it without the store.
fn unshared() -> bool {
    fail::fail_point!("fetch.lease", |_| true);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::now_ms;
    use crate::store::sqlite::SqliteStore;

    const HOST: &str = "example.org";
    const DELAY: Duration = Duration::from_millis(300);

    fn now() -> u64 {
        u64::try_from(now_ms()).unwrap()
    }

    #[tokio::test]
    async fn a_successor_waits_until_the_last_request_is_the_delay_ago() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&dir.path().join("s.db")).unwrap());
        let (first, second) = (Leases::new(Arc::clone(&store), "p."), Leases::new(Arc::clone(&store), "p."));
        let other = Leases::new(Arc::clone(&store), "other.");
        let taken = now();
        first.take(HOST, DELAY, taken).await.unwrap();
        other.take(HOST, DELAY, taken).await.unwrap();
        assert!(first.holds(HOST, DELAY, taken + AHEAD) && !first.holds(HOST, DELAY, taken + AHEAD + 1));
        assert!(!second.holds(HOST, DELAY, taken));
        assert!(second.take(HOST, Duration::ZERO, taken).await.is_ok() && second.holds(HOST, Duration::ZERO, taken));
        // Many a second, and none is written while it is good.
        store.delete("pace:p.", HOST).await.unwrap();
        first.take(HOST, DELAY, taken + AHEAD - NEEDED).await.unwrap();
        assert_eq!(store.get("pace:p.", HOST).await.unwrap(), None);
        first.take(HOST, DELAY, now() + AHEAD).await.unwrap();
        // The successor asks, is denied, and does not ask again at once.
        let denied = second.take(HOST, DELAY, now()).await;
        let Err(Denied::Until(until)) = denied else { panic!("{denied:?}") };
        store.delete("pace:p.", HOST).await.unwrap();
        assert!(matches!(second.take(HOST, DELAY, until - 1).await, Err(Denied::Until(u)) if u == until));
        assert!(second.take(HOST, DELAY, until).await.is_ok());
    }
}
