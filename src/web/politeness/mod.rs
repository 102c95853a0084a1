//! Politeness: how often one host is asked.
//!
//! A clock-driven piece without a clock: time comes in as unix milliseconds, so that a promised slot
//! can travel in a record's header, through other processes and a crash, and tests need not sleep.
//!
//! ```text
//! admit ──► Go     start now
//!       ──► Wait   start in a moment; the record stays in memory
//!       ──► Queue  start when a request of the host has ended; the record stays in memory, for a moment at most
//!       ──► Park   come back at `until`: the slot is this record's own
//! ```
//! The slot is what keeps 10,000 records of one host from moving over and over: each is told its own
//! time, comes back then and goes, having parked once. A record that finds its slot spoiled (it came
//! late and others went first, the host was penalised or is full) is promised a new one behind all
//! others; none of them moves for its sake.

mod host;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use host::{Decision, Host, Load};

/// How hosts are treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolitenessConfig {
    /// Least time between two starts on one host, unless it asks for more.
    pub delay: Duration,
    /// Starts allowed at once after a quiet time; 1 keeps every two `delay` apart.
    pub burst: u32,
    /// Bound of what a host (by Crawl-delay, or by answering 429) can make the delay.
    pub max_delay: Duration,
    /// Requests running at once on one host; 0 for no limit.
    pub concurrency_per_host: usize,
    /// Longest wait in memory; what would wait longer parks. Make it as long as records are late
    /// when they come back from a park, or late ones lose their turn.
    pub hold: Duration,
    /// Records of one host waiting in memory at once.
    pub held_per_host: usize,
    /// Hosts remembered. Idle ones are forgotten first, then those due soonest.
    pub max_hosts: usize,
}

impl Default for PolitenessConfig {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(1),
            burst: 1,
            max_delay: Duration::from_secs(60),
            concurrency_per_host: 0,
            hold: Duration::from_secs(1),
            held_per_host: 4,
            max_hosts: 100_000,
        }
    }
}

/// What a host has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// As [`PolitenessConfig::delay`].
    pub delay: Duration,
    /// As [`PolitenessConfig::concurrency_per_host`].
    pub concurrency: usize,
}

/// The same in milliseconds.
#[derive(Debug, Clone)]
struct Limits {
    delay: u64,
    burst: u32,
    max_delay: u64,
    concurrency: usize,
    hold: u64,
    held: usize,
    hosts: usize,
}

/// The answer to a record that wants to be fetched.
#[derive(Debug)]
#[must_use]
pub enum Admission {
    /// Start the request now; drop the permit when it has ended.
    Go(Permit),
    /// Keep the record in memory for this long, then call [`Held::start`].
    Wait(Duration, Held),
    /// Keep the record in memory until [`Queued::place`] is done, for [`Queued::longest`] at most, then call
    /// [`Queued::admit`].
    Queue(Queued),
    /// Come back at `until` and hand it in as `reserved`.
    Park {
        /// The reserved slot, in unix milliseconds.
        until: u64,
    },
}

/// The right to have one request running. Dropping it says that the request has ended.
#[derive(Debug)]
pub struct Permit {
    _running: Running,
}

/// A request that runs, or is about to.
#[derive(Debug)]
struct Running {
    _one: Count,
    /// One of the host's places, if these are limited.
    _place: Option<OwnedSemaphorePermit>,
}

/// A record that waits for one of its host's places. Those of a host get them in their order.
#[derive(Debug)]
pub struct Queued {
    politeness: Politeness,
    host: Box<str>,
    slot: u64,
    places: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
    waiting: Count,
}

impl Queued {
    /// How long it is worth to wait.
    pub fn longest(&self) -> Duration {
        Duration::from_millis(self.politeness.shared.limits.hold)
    }

    /// Waits for a place. May be given up.
    pub async fn place(&mut self) {
        // Nobody closes it.
        self.place = Arc::clone(&self.places).acquire_owned().await.ok();
    }

    /// Decides anew, with the place or, if that was given up, without.
    pub fn admit(self, now: u64) -> Admission {
        let Queued { politeness, host, slot, place, waiting, .. } = self;
        drop(waiting);
        if let Some(place) = place {
            // Who had to wait for a place is not to wait for a pace that was guessed.
            return politeness.decide(&host, now, Some(slot.min(now)), Some(place));
        }
        let until = politeness.hosts().get_mut(&host).map_or(slot, |e| e.host.full(now, slot, &e.limits));
        Admission::Park { until }
    }
}

/// A permit whose time is about to come. Dropping it gives the place back, though not its time.
#[derive(Debug)]
pub struct Held {
    running: Running,
    _waiting: Count,
    politeness: Politeness,
    host: Box<str>,
    /// When the request is to start.
    at: u64,
}

impl Held {
    /// The wait is over.
    ///
    /// # Errors
    /// The host was penalised meanwhile: park until the returned time (unix milliseconds), which is
    /// reserved.
    pub fn start(self, now: u64) -> Result<Permit, u64> {
        if let Some(Entry { host, limits, .. }) = self.politeness.hosts().get_mut(&self.host) {
            if host.penalty_until() > now {
                return Err(host.promise(host.penalty_until(), limits));
            }
            if now > self.at {
                host.started_late(now, limits);
            }
        }
        Ok(Permit { _running: self.running })
    }
}

/// Pacing of all hosts. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct Politeness {
    shared: Arc<Shared>,
}

/// A host's limits of its own, if it has any.
type Own = dyn Fn(&str) -> Option<HostLimits> + Send + Sync;

struct Shared {
    /// Of hosts without limits of their own.
    limits: Arc<Limits>,
    own: Box<Own>,
    hosts: Mutex<HashMap<Box<str>, Entry>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Entry {
    host: Host,
    limits: Arc<Limits>,
    running: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    /// How many more requests may run, if that is limited.
    places: Option<Arc<Semaphore>>,
}

impl Politeness {
    /// Knows no host yet. A `max_delay` below `delay` counts as `delay`.
    pub fn new(config: PolitenessConfig) -> Self {
        Self::with_own(config, |_| None)
    }

    /// The same, where hosts may have limits of their own.
    pub fn with_own(
        config: PolitenessConfig,
        own: impl Fn(&str) -> Option<HostLimits> + Send + Sync + 'static,
    ) -> Self {
        let limits = Limits {
            delay: millis(config.delay),
            burst: config.burst,
            max_delay: millis(config.max_delay.max(config.delay)),
            concurrency: config.concurrency_per_host,
            hold: millis(config.hold),
            held: config.held_per_host,
            hosts: config.max_hosts.max(1),
        };
        let (limits, own, hosts) = (Arc::new(limits), Box::new(own), Mutex::default());
        Self { shared: Arc::new(Shared { limits, own, hosts }) }
    }

    /// Decides for a record of `host` (a [`crate::web::url::host_key`]) at `now`. `reserved` is the
    /// `until` of the [`Admission::Park`] that this record got before, if any.
    ///
    /// Starts of one host are never closer than its delay (with `burst` 1), however late records
    /// come back. What a process before this one started is not known here.
    pub fn admit(&self, host: &str, now: u64, reserved: Option<u64>) -> Admission {
        self.decide(host, now, reserved, None)
    }

    fn decide(&self, host: &str, now: u64, reserved: Option<u64>, place: Option<OwnedSemaphorePermit>) -> Admission {
        let mut hosts = self.hosts();
        let entry = self.shared.entry(&mut hosts, host, now);
        let limits = Arc::clone(&entry.limits);
        let queued = place.is_some();
        let place = place.or_else(|| Arc::clone(entry.places.as_ref()?).try_acquire_owned().ok());
        let load = Load {
            full: entry.places.is_some() && place.is_none(),
            may_hold: entry.waiting.load(Ordering::Relaxed) < limits.held,
            queued,
        };
        match entry.host.decide(now, reserved, &load, &limits) {
            Decision::Park(until) => Admission::Park { until },
            Decision::Queue(slot) => match &entry.places {
                // Without limited places none is ever missing.
                None => Admission::Park { until: slot },
                Some(places) => Admission::Queue(Queued {
                    politeness: self.clone(),
                    host: host.into(),
                    slot,
                    places: Arc::clone(places),
                    place: None,
                    waiting: Count::one_more(&entry.waiting),
                }),
            },
            Decision::Start(at) if at == now => {
                Admission::Go(Permit { _running: Running { _one: Count::one_more(&entry.running), _place: place } })
            }
            Decision::Start(at) => {
                let held = Held {
                    running: Running { _one: Count::one_more(&entry.running), _place: place },
                    _waiting: Count::one_more(&entry.waiting),
                    politeness: self.clone(),
                    host: host.into(),
                    at,
                };
                Admission::Wait(Duration::from_millis(at - now), held)
            }
        }
    }

    /// Parks a record although its turn may have come: nothing of this host is to start before `not_before`. The slot
    /// that is promised to it, unless the one it has is late enough.
    pub fn park(&self, host: &str, now: u64, reserved: Option<u64>, not_before: u64) -> u64 {
        let mut hosts = self.hosts();
        let Entry { host, limits, .. } = self.shared.entry(&mut hosts, host, now);
        host.park(reserved, not_before, limits)
    }

    /// Parks this record alone, until `not_before` at least: others may start meanwhile. Its slot, as for
    /// [`Politeness::park`].
    pub fn postpone(&self, host: &str, now: u64, reserved: Option<u64>, not_before: u64) -> u64 {
        let mut hosts = self.hosts();
        let Entry { host, limits, .. } = self.shared.entry(&mut hosts, host, now);
        host.postpone(reserved, not_before, limits)
    }

    /// The host answered 429 or 503. Nothing starts before `until` (unix milliseconds, from
    /// Retry-After; bound it), or for one interval. The interval doubles, up to `max_delay`, and
    /// eases back with each later start. Records whose slot falls into the penalty are promised
    /// another behind the rest; later slots stand.
    pub fn penalise(&self, host: &str, now: u64, until: Option<u64>) {
        let mut hosts = self.hosts();
        let Entry { host, limits, .. } = self.shared.entry(&mut hosts, host, now);
        host.penalise(now, until, limits);
    }

    /// The host took so long for an answer. One that is slow is asked no more often than it answers.
    pub fn answered(&self, host: &str, now: u64, took: Duration) {
        let mut hosts = self.hosts();
        let Entry { host, limits, .. } = self.shared.entry(&mut hosts, host, now);
        host.answered(millis(took), limits);
    }

    /// Least time between two starts on this host, as things stand.
    pub fn interval(&self, host: &str) -> Duration {
        let known = self.hosts().get(host).map(|entry| entry.host.interval(&entry.limits));
        Duration::from_millis(known.unwrap_or_else(|| self.shared.limits(host).delay))
    }

    /// Sets the delay that a host's robots.txt asks for (Crawl-delay), between the configured
    /// `delay` and `max_delay`. A host that is forgotten as idle loses it: set it again with each
    /// record, it costs a look-up.
    pub fn set_delay(&self, host: &str, now: u64, delay: Duration) {
        let mut hosts = self.hosts();
        let Entry { host, limits, .. } = self.shared.entry(&mut hosts, host, now);
        host.set_delay(millis(delay), limits);
    }

    /// Hosts remembered at the moment, for a gauge.
    pub fn known_hosts(&self) -> usize {
        self.hosts().len()
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Box<str>, Entry>> {
        // Each change under this lock is complete when the next can fail, so a poisoned map is
        // still a right one.
        let hosts = self.shared.hosts.lock();
        hosts.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn entry<'a>(&self, hosts: &'a mut HashMap<Box<str>, Entry>, host: &str, now: u64) -> &'a mut Entry {
        if !hosts.contains_key(host) && hosts.len() >= self.limits.hosts {
            forget(hosts, now, &self.limits);
        }
        hosts.entry(host.into()).or_insert_with(|| {
            let limits = self.limits(host);
            let places = (limits.concurrency > 0).then(|| Arc::new(Semaphore::new(limits.concurrency)));
            Entry { host: Host::new(&limits), limits, running: Arc::default(), waiting: Arc::default(), places }
        })
    }

    fn limits(&self, host: &str) -> Arc<Limits> {
        match (self.own)(host) {
            None => Arc::clone(&self.limits),
            Some(own) => {
                let delay = millis(own.delay);
                let max_delay = self.limits.max_delay.max(delay);
                Arc::new(Limits { delay, max_delay, concurrency: own.concurrency, ..(*self.limits).clone() })
            }
        }
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Forgets idle hosts, and if these are few, those whose promises end soonest: an eighth goes at
/// once, so that a full map is not walked for every new host. Hosts with a request running stay;
/// the engine bounds how many these are.
fn forget(hosts: &mut HashMap<Box<str>, Entry>, now: u64, limits: &Limits) {
    let in_use = |count: &AtomicUsize| count.load(Ordering::Relaxed) > 0;
    let running = |entry: &Entry| in_use(&entry.running) || in_use(&entry.waiting);
    hosts.retain(|_, entry| running(entry) || entry.host.busy_until() > now);
    let keep = limits.hosts - limits.hosts.div_ceil(8);
    if hosts.len() <= keep {
        return;
    }
    let excess = hosts.len() - keep;
    let quiet = hosts.values().filter(|entry| !running(entry));
    let mut ends: Vec<u64> = quiet.map(|entry| entry.host.busy_until()).collect();
    if ends.is_empty() {
        return;
    }
    let last = (excess - 1).min(ends.len() - 1);
    let (_, bound, _) = ends.select_nth_unstable(last);
    let bound = *bound;
    hosts.retain(|_, entry| running(entry) || entry.host.busy_until() > bound);
}

/// One in a counter for as long as it lives.
#[derive(Debug)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn one_more(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
